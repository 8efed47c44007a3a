"""Unary reads: where they start, where they stop, how long they wait, and which wishes are refused."""

import threading
import time

import pytest


@pytest.fixture
def timed(stream):
    """Six records with times 10, 20, … 60."""
    stream.append_records([{"body": f"r{i}", "timestamp": 10 * (i + 1)} for i in range(6)])
    return stream


def numbers(answer):
    assert answer.status == 200, answer
    return [record["seq_num"] for record in answer.json()["records"]]


@pytest.mark.parametrize(
    "query,expected",
    [
        ({"seq_num": 0}, [0, 1, 2, 3, 4, 5]),
        ({"seq_num": 4}, [4, 5]),
        ({"seq_num": 1, "count": 2}, [1, 2]),
        ({"seq_num": 0, "bytes": 25}, [0, 1]),
        ({"seq_num": 0, "bytes": 20}, [0, 1]),
        ({"seq_num": 0, "until": 40}, [0, 1, 2]),
        ({"timestamp": 0}, [0, 1, 2, 3, 4, 5]),
        ({"timestamp": 35}, [3, 4, 5]),
        ({"timestamp": 40, "until": 50}, [3]),
        ({"timestamp": 60}, [5]),
        ({"tail_offset": 2}, [4, 5]),
        ({"tail_offset": 99}, [0, 1, 2, 3, 4, 5]),
        ({"seq_num": 0, "clamp": "true", "count": 1}, [0]),
        ({"seq_num": 0, "count": 1, "colour": "blue"}, [0]),
    ],
)
def test_start_and_limits(timed, query, expected):
    assert numbers(timed.read(**query)) == expected


@pytest.mark.parametrize(
    "query",
    [{"seq_num": 6}, {"seq_num": 7}, {"tail_offset": 0}, {}, {"timestamp": 61}, {"seq_num": 99, "clamp": "true"}, {"timestamp": 99, "clamp": "true"}],
)
def test_at_and_beyond_the_tail_is_416(timed, query):
    answer = timed.read(**query)
    assert answer.status == 416
    assert answer.json() == {"tail": {"seq_num": 6, "timestamp": 60}}


def test_beyond_the_tail_is_416_even_with_wait(timed):
    assert timed.read(seq_num=7, wait=1).status == 416


@pytest.mark.parametrize("query", [{"seq_num": 99, "clamp": "true", "wait": 1}, {"tail_offset": 0, "wait": 1}, {"wait": 1}])
def test_waiting_at_the_tail_ends_empty(timed, query):
    started = time.monotonic()
    assert numbers(timed.read(**query)) == []
    assert 0.8 < time.monotonic() - started < 4


def test_a_waiting_read_returns_with_the_first_new_batch(timed):
    timer = threading.Timer(0.5, lambda: timed.append("late"))
    timer.start()
    started = time.monotonic()
    answer = timed.read(seq_num=6, wait=20)
    assert numbers(answer) == [6] and time.monotonic() - started < 10
    timer.join()


def test_a_read_that_has_records_does_not_wait(timed):
    started = time.monotonic()
    assert numbers(timed.read(seq_num=0, wait=30)) == [0, 1, 2, 3, 4, 5]
    assert time.monotonic() - started < 5


def test_an_answer_has_1000_records_at_most(stream):
    stream.append(*["x"] * 1000)
    stream.append("y")
    assert len(numbers(stream.read(seq_num=0, count=2000))) == 1000
    assert numbers(stream.read(seq_num=1000, count=2000)) == [1000]


def test_an_answer_has_one_mebibyte_at_most(stream):
    for _ in range(3):
        stream.append("x" * 600_000)
    assert len(numbers(stream.read(seq_num=0, bytes=1 << 30))) == 1


@pytest.mark.parametrize("query", [{"seq_num": 0, "timestamp": 1}, {"seq_num": 0, "tail_offset": 1}, {"timestamp": 0, "tail_offset": 1}])
def test_two_starts_are_422(timed, query):
    answer = timed.read(**query)
    assert (answer.status, answer.code) == (422, "invalid")
    assert "only one of seq_num, timestamp, or tail_offset can be provided" in answer.json()["message"]


def test_an_end_before_the_start_is_422(timed):
    answer = timed.read(timestamp=50, until=50)
    assert (answer.status, answer.code) == (422, "invalid")
    assert "exceeds or equal to" in answer.json()["message"]


@pytest.mark.parametrize("query", ["seq_num=x", "seq_num=-1", "seq_num=18446744073709551616", "count=1.5", "wait=-1", "clamp=perhaps", "until="])
def test_a_malformed_value_is_bad_query(timed, query):
    answer = timed.send("GET", "/records?" + query)
    assert (answer.status, answer.code) == (400, "bad_query"), answer


def test_the_tail_of_a_new_stream_is_zero(stream):
    assert stream.tail() == {"seq_num": 0, "timestamp": 0}


def test_a_read_after_an_ack_sees_it(stream):
    for i in range(200):
        stream.append(str(i))
        assert stream.tail()["seq_num"] == i + 1
        assert numbers(stream.read(tail_offset=1)) == [i]
