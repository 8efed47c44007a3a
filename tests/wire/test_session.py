"""s2s sessions byte by byte: frames, compression, terminal frames, atomic order, follow and its ends."""

import gzip
import threading
import time

import pytest

import raw_http
from raw_http import GZIP, TERMINAL, ZSTD, Session, append_input, frame

# How a follow may learn that its stream is being deleted; lite says the last.
DELETED = [(409, "stream_deletion_pending"), (404, "stream_not_found"), (503, "unavailable")]
HEADERS = {"cache-control": "no-cache, no-transform", "content-type": "s2s/proto", "x-accel-buffering": "no"}

# ---------------------------------------------------------------- bytes


def test_the_frames_of_the_description_byte_by_byte(stream):
    assert frame(b"") == b"\x00\x00\x01\x00"
    with Session.append(stream) as session:
        session.send_frame(append_input([b"a", b"b", b"c"]))
        session.send_frame(append_input([b"d"], match_seq_num=7))
        session.finish_body()
        session.read_head()
        data = session.read_rest()
    length = int.from_bytes(data[:3], "big")
    assert data[3] == 0 and data[3 + length :] == b"\x00\x00\x19\x80\x01\x9c" + b'{"seq_num_mismatch":3}'


def test_a_heartbeat_byte_by_byte(basin):
    stream = basin.create_stream()
    stream.append("x")
    with Session.read(stream, seq_num=1) as session:
        session.read_head()
        _, payload = session.read_frame()
        whole = frame(payload)
        assert whole[:8] == b"\x00\x00\x0c\x00\x12\x09\x08\x01" and whole[8] == 0x10 and len(whole) == 15


@pytest.mark.parametrize("open_session", [Session.append, Session.read])
def test_session_headers(stream, open_session):
    with open_session(stream) as session:
        assert session.read_head() == 200
        assert {name: session.headers.get(name) for name in HEADERS} == HEADERS
        assert "content-encoding" not in session.headers


# ---------------------------------------------------------------- append


def test_acks_come_in_order_one_for_each_input(stream):
    with Session.append(stream) as session:
        for i in range(100):
            session.send_frame(append_input([b"%d" % i] * (1 + i % 3)))
        session.finish_body()
        session.read_head()
        start = 0
        for i in range(100):
            ack = session.read_ack()
            assert ack["start"]["seq_num"] == start and ack["end"]["seq_num"] == start + 1 + i % 3
            assert ack["tail"]["seq_num"] >= ack["end"]["seq_num"]
            start = ack["end"]["seq_num"]
        assert session.read_frame() is None
    assert stream.tail()["seq_num"] == start


def test_match_seq_num_counts_inputs_not_yet_durable(stream):
    with Session.append(stream) as session:
        for i in range(50):
            session.send_frame(append_input([b"x"], match_seq_num=i))
        session.finish_body()
        session.read_head()
        assert [session.read_ack()["end"]["seq_num"] for _ in range(50)] == list(range(1, 51))


def test_a_fence_in_the_session_holds_for_the_next_input(stream):
    fence = raw_http.Encoded(raw_http.append_record(b"mine", [(b"", b"fence")]))
    with Session.append(stream) as session:
        session.send_frame(append_input([fence]))
        session.send_frame(append_input([b"a"], fencing_token="mine"))
        session.send_frame(append_input([b"b"], fencing_token="other"))
        session.read_head()
        assert session.read_ack()["end"]["seq_num"] == 1
        assert session.read_ack()["end"]["seq_num"] == 2
        assert session.read_terminal() == (412, {"fencing_token_mismatch": "mine"})


@pytest.mark.parametrize("flag,pack", [(GZIP, gzip.compress), (ZSTD, None)])
def test_compressed_frames_are_read(stream, flag, pack):
    pack = pack or pytest.importorskip("zstandard").compress
    with Session.append(stream) as session:
        session.send_frame(pack(append_input([b"x" * 4000])), flag)
        session.finish_body()
        session.read_head()
        assert session.read_ack()["end"]["seq_num"] == 1
    assert stream.read(seq_num=0).json()["records"][0]["body"] == "x" * 4000


BAD_INPUTS = [
    ("length zero", b"\x00\x00\x00", 400, "bad_frame"),
    ("length above 2 MiB", b"\x20\x00\x01\x00", 400, "bad_frame"),
    ("unknown compression", frame(b"x", 0x60), 400, "bad_frame"),
    ("terminal from a client", frame(b"\x01\x90{}", TERMINAL), 400, "bad_frame"),
    ("corrupt gzip", frame(b"not gzip", GZIP), 400, "bad_frame"),
    ("corrupt zstd", frame(b"not zstd", ZSTD), 400, "bad_frame"),
    ("corrupt protobuf", frame(b"\xff\xff"), 400, "bad_frame"),
    ("a gzip bomb", frame(gzip.compress(b"\0" * 50_000_000), GZIP), 400, "bad_frame"),
    ("no records", frame(b""), 422, "invalid"),
    ("unknown command", frame(append_input([raw_http.Encoded(raw_http.append_record(b"", [(b"", b"burn")]))])), 422, "invalid"),
]


@pytest.mark.parametrize("what,data,status,code", BAD_INPUTS, ids=[row[0] for row in BAD_INPUTS])
def test_a_bad_frame_ends_the_session_after_the_acks_before_it(stream, what, data, status, code):
    with Session.append(stream) as session:
        session.send_frame(append_input([b"good"]))
        session.send_chunk(data)
        session.read_head()
        assert session.read_ack()["end"]["seq_num"] == 1
        got_status, body = session.read_terminal()
        assert (got_status, body["code"]) == (status, code), body
    assert stream.tail()["seq_num"] == 1


def test_a_body_that_ends_inside_a_frame_is_a_bad_frame(stream):
    with Session.append(stream) as session:
        session.send_frame(append_input([b"good"]))
        session.send_chunk(frame(append_input([b"torn"]))[:-2])
        session.finish_body()
        session.read_head()
        session.read_ack()
        status, body = session.read_terminal()
        assert (status, body["code"]) == (400, "bad_frame")
    assert stream.tail()["seq_num"] == 1


def test_a_frame_may_arrive_byte_by_byte(stream):
    with Session.append(stream) as session:
        for byte in frame(append_input([b"slowly"])):
            session.send_chunk(bytes([byte]))
        session.read_head()
        assert session.read_ack()["end"]["seq_num"] == 1


def test_a_session_on_a_missing_stream_is_a_plain_404(basin):
    missing = basin.stream("missing")
    for session in [Session.append(missing), Session.read(missing, seq_num=0)]:
        with session:
            assert session.read_head() == 404
            assert session.headers["content-type"].startswith("application/json")


def test_full_batches_pipelined_reach_the_end(stream):
    """More than any default window: backpressure must stall the writer, never the acks."""
    batch = append_input([b"x" * ((1 << 20) - 8)])
    acked = []

    with Session.append(stream) as session:
        session.read_head()
        reader = threading.Thread(target=lambda: acked.extend(session.read_ack()["end"]["seq_num"] for _ in range(12)))
        reader.start()
        for _ in range(12):
            session.send_frame(batch)
        reader.join(60)
        session.finish_body()
    assert acked == list(range(1, 13))


# ---------------------------------------------------------------- read


def read_all(session):
    session.read_head()
    records = []
    for flag, payload in raw_http.frames(session.read_rest()):
        assert not flag & TERMINAL, raw_http.terminal(payload)
        records += raw_http.read_batch(payload)["records"]
    return records


def test_limits_end_a_session_cleanly(stream):
    stream.append_records([{"body": f"r{i}", "timestamp": i + 1} for i in range(10)])
    for query, expected in [
        ({"seq_num": 2, "count": 3}, [2, 3, 4]),
        ({"seq_num": 0, "bytes": 25}, [0, 1]),
        ({"seq_num": 0, "until": 4}, [0, 1, 2]),
        ({"seq_num": 0, "count": 0}, []),
        ({"seq_num": 8, "count": 100}, [8, 9]),
        ({"seq_num": 8, "wait": 1}, [8, 9]),
    ]:
        with Session.read(stream, **query) as session:
            assert [record["seq_num"] for record in read_all(session)] == expected, query


def test_a_count_above_1000_is_delivered_whole(stream):
    for _ in range(3):
        stream.append(*["x"] * 1000)
    with Session.read(stream, seq_num=0, count=2500) as session:
        assert [record["seq_num"] for record in read_all(session)] == list(range(2500))


def test_a_follower_gets_each_batch_as_it_comes_with_a_tail(stream):
    with Session.read(stream, seq_num=0) as session:
        session.read_head()
        _, payload = session.read_frame()
        assert raw_http.read_batch(payload) == {"records": [], "tail": {"seq_num": 0, "timestamp": 0}}
        for i in range(5):
            stream.append(f"live-{i}")
            while not (batch := raw_http.read_batch(session.read_frame()[1]))["records"]:
                pass
            assert batch["records"][0]["body"] == b"live-%d" % i
            assert batch["tail"]["seq_num"] == i + 1


def test_many_followers_see_the_same(stream):
    sessions = [Session.read(stream, seq_num=0, count=50, wait=30) for _ in range(20)]
    for session in sessions:
        assert session.read_head() == 200
    for i in range(50):
        stream.append(str(i))
    for session in sessions:
        records = [r for _, p in raw_http.frames(session.read_rest()) for r in raw_http.read_batch(p)["records"]]
        assert [record["body"] for record in records] == [b"%d" % i for i in range(50)]
        session.__exit__()


def test_wait_ends_a_follow_after_silence(stream):
    started = time.monotonic()
    with Session.read(stream, seq_num=0, wait=2) as session:
        assert read_all(session) == []
    assert 1.5 < time.monotonic() - started < 8


@pytest.mark.parametrize("accept_encoding,flag", [("gzip", GZIP), ("zstd", ZSTD), ("gzip, zstd", ZSTD), ("br", 0), ("gzip, zstd;q=0", GZIP)])
def test_large_frames_are_compressed_as_asked(stream, accept_encoding, flag):
    stream.append("x" * 4000)
    with Session.read(stream, {"accept-encoding": accept_encoding}, seq_num=0, count=1) as session:
        session.read_head()
        [(got, payload)] = raw_http.frames(session.read_rest())
    assert got == flag
    if flag == GZIP:
        assert raw_http.read_batch(gzip.decompress(payload))["records"][0]["body"] == b"x" * 4000


def test_small_frames_are_never_compressed(stream):
    stream.append("x" * 100)
    with Session.read(stream, {"accept-encoding": "zstd"}, seq_num=0, count=1) as session:
        session.read_head()
        assert [flag for flag, _ in raw_http.frames(session.read_rest())] == [0]


def test_deleting_a_followed_stream_ends_the_follow_with_an_error(stream):
    stream.append("x")
    with Session.read(stream, seq_num=1, timeout=60) as session:
        session.read_head()
        session.read_frame()
        stream.send("DELETE")
        while not (got := session.read_frame())[0] & TERMINAL:
            pass
        status, body = raw_http.terminal(got[1])
        assert (status, body["code"]) in DELETED
