"""Unary appends in JSON and protobuf: acks, conditions, limits, timestamps, commands, fencing, trim."""

import base64
import gzip
import json
import time

import pytest

import raw_http
from raw_http import Encoded, append_input, append_record

PROTO = {"content-type": "application/protobuf"}


def post_proto(stream, data, **headers):
    return stream.send("POST", "/records", None, {**PROTO, **headers}, data)


# ---------------------------------------------------------------- acks and encodings


def test_an_ack_tells_start_end_and_tail(stream):
    stream.append("a")
    before = int(time.time() * 1000) - 60_000
    ack = stream.append("b", "c").json()
    assert ack["start"]["seq_num"] == 1 and ack["end"]["seq_num"] == 3 and ack["tail"]["seq_num"] == 3
    assert before < ack["start"]["timestamp"] <= ack["end"]["timestamp"] <= ack["tail"]["timestamp"] < before + 120_000
    assert stream.tail() == ack["tail"]


@pytest.mark.parametrize("content_type", ["application/protobuf", "application/x-protobuf"])
@pytest.mark.parametrize("accept", ["application/protobuf", "application/x-protobuf"])
def test_protobuf_goes_in_and_out(stream, content_type, accept):
    record = Encoded(append_record(b"\x00\xff", [(b"k", b"\xfe"), (b"k", b"")], timestamp=12345))
    answer = post_proto(stream, append_input([record, b""]), **{"content-type": content_type, "accept": accept})
    assert answer.status == 200 and answer.headers["content-type"] == "application/protobuf", answer
    assert raw_http.append_ack(answer.body)["end"]["seq_num"] == 2
    answer = stream.read({"accept": accept}, seq_num=0)
    assert answer.headers["content-type"] == "application/protobuf"
    first, second = raw_http.read_batch(answer.body)["records"]
    assert first == {"seq_num": 0, "timestamp": 12345, "headers": [(b"k", b"\xfe"), (b"k", b"")], "body": b"\x00\xff"}
    assert second["body"] == b"" and second["seq_num"] == 1


def test_the_answer_follows_accept_and_not_the_request(stream):
    answer = post_proto(stream, append_input([b"x"]))
    assert answer.headers["content-type"].startswith("application/json") and answer.json()["end"]["seq_num"] == 1
    answer = stream.append("y", headers={"accept": "application/protobuf"})
    assert raw_http.append_ack(answer.body)["end"]["seq_num"] == 2


def test_an_all_zero_position_is_still_sent(stream):
    """The three positions of an ack are always present, `seq_num` 0 is not."""
    answer = post_proto(stream, append_input([b"x"]), accept="application/protobuf")
    fields = raw_http.message(answer.body)
    assert set(fields) == {1, 2, 3}
    assert 1 not in raw_http.message(fields[1][0])


def test_base64_carries_any_bytes_and_raw_replaces_what_is_not_text(stream):
    body = bytes(range(256))
    records = [{"body": base64.b64encode(body).decode(), "headers": [[base64.b64encode(b"\xff").decode(), ""]]}]
    for name in ["base64", "json-binsafe"]:
        assert stream.append_records(records, {"s2-format": name}).status == 200
    record = stream.read({"s2-format": "base64"}, seq_num=0).json()["records"][0]
    assert base64.b64decode(record["body"]) == body and record["headers"] == [["/w==", ""]]
    record = stream.read({"s2-format": " raw "}, seq_num=0).json()["records"][0]
    assert record["body"] == body.decode("utf-8", "replace") and record["headers"] == [["\ufffd", ""]]


def test_empty_headers_and_bodies_are_left_out_of_json(stream):
    stream.append_records([{}])
    assert set(stream.read(seq_num=0).json()["records"][0]) == {"seq_num", "timestamp"}


def test_unknown_json_fields_are_ignored(stream):
    assert stream.append_records([{"body": "x", "colour": "blue"}], shape="round").status == 200


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_a_compressed_request_is_read(stream, coding):
    data = json.dumps({"records": [{"body": "x" * 5000}]}).encode()
    if coding == "gzip":
        packed = gzip.compress(data)
    else:
        packed = pytest.importorskip("zstandard").compress(data)
    headers = {"content-type": "application/json", "content-encoding": coding}
    assert stream.send("POST", "/records", None, headers, packed).status == 200
    assert stream.read(seq_num=0).json()["records"][0]["body"] == "x" * 5000


def test_a_large_answer_is_compressed_when_asked(stream):
    stream.append("x" * 5000)
    answer = stream.read({"accept-encoding": "gzip"}, seq_num=0)
    assert answer.headers["content-encoding"] == "gzip"
    assert json.loads(gzip.decompress(answer.body))["records"][0]["body"] == "x" * 5000
    assert "content-encoding" not in stream.read(seq_num=0).headers


# ---------------------------------------------------------------- limits


def test_a_batch_has_1_to_1000_records(stream):
    answer = stream.append()
    assert (answer.status, answer.code) == (422, "invalid") and "must not be empty" in answer.json()["message"]
    answer = stream.append(*["x"] * 1001)
    assert (answer.status, answer.code) == (422, "invalid") and "1000 records" in answer.json()["message"]
    assert stream.append(*["x"] * 1000).json()["end"]["seq_num"] == 1000


def test_a_batch_has_one_mebibyte_of_metered_size_at_most(stream):
    exact = (1 << 20) - 8
    assert post_proto(stream, append_input([b"x" * exact])).status == 200
    answer = post_proto(stream, append_input([b"x" * (exact + 1)]))
    assert (answer.status, answer.code) == (422, "invalid"), answer
    half = (1 << 19) - 8
    assert post_proto(stream, append_input([b"x" * half] * 2)).status == 200
    answer = post_proto(stream, append_input([b"x" * half, b"x" * (half + 1)]))
    assert (answer.status, answer.code) == (422, "invalid"), answer


def test_a_full_batch_fits_in_base64_json(stream):
    body = base64.b64encode(b"\xff" * ((1 << 20) - 8)).decode()
    assert stream.append_records([{"body": body}], {"s2-format": "base64"}).status == 200


# ---------------------------------------------------------------- conditions and commands


def test_match_seq_num_holds_or_changes_nothing(stream):
    assert stream.append("a", match_seq_num=0).status == 200
    answer = stream.append("b", match_seq_num=0)
    assert answer.status == 412 and answer.json() == {"seq_num_mismatch": 1}
    assert stream.append("b", match_seq_num=1).status == 200
    assert stream.tail()["seq_num"] == 2


def test_fencing_is_cooperative(stream):
    answer = stream.append("a", fencing_token="mine")
    assert answer.status == 412 and answer.json() == {"fencing_token_mismatch": ""}
    assert stream.append("a", fencing_token="").status == 200
    assert stream.fence("mine").status == 200
    assert stream.append("b", fencing_token="mine").status == 200
    assert stream.append("c").status == 200, "no token, no check"
    answer = stream.append("d", fencing_token="")
    assert answer.status == 412 and answer.json() == {"fencing_token_mismatch": "mine"}
    assert stream.fence("").status == 200
    assert stream.append("e", fencing_token="").status == 200


def test_the_fencing_token_is_checked_before_the_number(stream):
    stream.fence("mine")
    answer = stream.append("a", fencing_token="other", match_seq_num=99)
    assert answer.json() == {"fencing_token_mismatch": "mine"}


def test_a_command_does_not_affect_the_checks_of_its_own_batch(stream):
    records = [raw_http.command("fence", "mine"), {"body": "x"}]
    assert stream.append_records(records, fencing_token="").status == 200
    assert stream.append("y", fencing_token="mine").status == 200


def test_a_fence_record_is_read_back_as_written(stream):
    stream.fence("mine")
    record = stream.read(seq_num=0).json()["records"][0]
    assert record["headers"] == [["", "fence"]] and record["body"] == "mine" and record["seq_num"] == 0


def test_trim_hides_what_is_below_and_moves_no_tail(stream):
    stream.append("a", "b", "c", "d")
    assert stream.trim(3).status == 200
    assert stream.tail()["seq_num"] == 5
    deadline = time.monotonic() + 30
    while (records := stream.read(seq_num=0).json()["records"])[0]["seq_num"] != 3:
        assert time.monotonic() < deadline, "still there"
        time.sleep(0.1)
    assert [record["seq_num"] for record in records] == [3, 4]
    assert stream.trim(1).status == 200, "below the trim point: nothing to do"
    assert stream.trim(1 << 40).status == 200, "beyond the tail: clamped"
    assert stream.append("e").json()["start"]["seq_num"] == 7


@pytest.mark.parametrize(
    "record,message",
    [
        ({"headers": [["", "burn"]], "body": ""}, "unknown command"),
        ({"headers": [["", "fence"], ["a", "b"]], "body": ""}, "invalid header: empty name"),
        ({"headers": [["", "fence"]], "body": "x" * 37}, "invalid `fence` command"),
        ({"headers": [["", "trim"]], "body": "short"}, "must be 8"),
    ],
)
def test_a_bad_command_is_422(stream, record, message):
    answer = stream.append_records([{"body": "first"}, record])
    assert (answer.status, answer.code) == (422, "invalid"), answer
    assert message in answer.json()["message"]
    assert stream.tail()["seq_num"] == 0, "a batch is atomic"


def test_a_fencing_token_has_36_bytes_at_most(stream):
    answer = stream.append("a", fencing_token="x" * 40)
    assert (answer.status, answer.code) == (400, "bad_json")
    assert "fencing token must not exceed 36 bytes in length" in answer.json()["message"]
    answer = post_proto(stream, append_input([b"a"], fencing_token="x" * 40))
    assert (answer.status, answer.code) == (422, "invalid")


# ---------------------------------------------------------------- timestamps


def timestamps(stream):
    return [record["timestamp"] for record in stream.read(seq_num=0).json()["records"]]


def test_client_prefer_takes_the_clients_time_and_never_goes_back(basin):
    stream = basin.create_stream()
    stream.append_records([{"timestamp": 1000}, {"timestamp": 500}, {"timestamp": 2000}])
    stream.append_records([{"timestamp": 10}])
    assert timestamps(stream) == [1000, 1000, 2000, 2000]


def test_a_future_time_is_capped_unless_uncapped(basin):
    future = int(time.time() * 1000) + 10_000_000
    capped, uncapped = basin.create_stream(), basin.create_stream({"timestamping": {"uncapped": True}})
    for stream in (capped, uncapped):
        stream.append_records([{"timestamp": future}])
    assert timestamps(capped)[0] < future - 5_000_000
    assert timestamps(uncapped) == [future]
    uncapped.append("now")
    assert timestamps(uncapped)[1] == future, "later records share the last time"


def test_client_require_refuses_a_batch_with_one_missing_time(basin):
    stream = basin.create_stream({"timestamping": {"mode": "client-require"}})
    answer = stream.append_records([{"timestamp": 5}, {}])
    assert (answer.status, answer.code) == (422, "invalid")
    assert "record timestamp was required but was missing" in answer.json()["message"]
    assert stream.append_records([{"timestamp": 5}]).status == 200


def test_arrival_ignores_the_clients_time(basin):
    stream = basin.create_stream({"timestamping": {"mode": "arrival"}})
    stream.append_records([{"timestamp": 5}])
    assert timestamps(stream)[0] > 1_000_000_000_000
