"""The garbage itself. Each attack takes a seeded generator and a stream to aim at; its first line is its name in the report.

An attack raises when an answer is wrong: garbage is the client's fault, so no answer to it may be a 500.
"""

import gzip
import json
import socket

import h2_by_hand
import raw_http
from raw_http import GZIP, ZSTD, Session, append_input, frame

ALL = []


def attack(function):
    ALL.append(function)
    return function


def throw(target, data, answer_bytes_max=1 << 20, timeout=5):
    """Sends `data` on a connection of its own and returns what comes back until the server closes or says nothing for `timeout`."""
    received = b""
    with socket.create_connection(raw_http.host_and_port(target), timeout=timeout) as client:
        try:
            client.sendall(data)
            while len(received) < answer_bytes_max and (part := client.recv(65536)):
                received += part
        except OSError:
            pass
    return received


def expect_no_500(received):
    status = received[:12]
    assert not status.startswith(b"HTTP/1.1 500"), f"garbage was answered with 500: {received[:500]!r}"


def mutate(rng, data):
    """A few bytes flipped, dropped, doubled, or a slice repeated."""
    data = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 5, 20])):
        at = rng.randrange(len(data)) if data else 0
        kind = rng.randrange(5)
        if kind == 0 and data:
            data[at] = rng.randrange(256)
        elif kind == 1 and data:
            del data[at : at + rng.randint(1, 8)]
        elif kind == 2:
            data[at:at] = rng.randbytes(rng.randint(1, 8))
        elif kind == 3:
            data[at:at] = data[at : at + rng.randint(1, 64)]
        elif data:
            data[at] ^= 1 << rng.randrange(8)
    return bytes(data)


def head(stream, method="POST", content_type="application/json", length=None, more=""):
    length = "" if length is None else f"content-length: {length}\r\n"
    return (
        f"{method} /v1{stream.path}/records HTTP/1.1\r\nhost: x\r\ns2-basin: {stream.basin.name}\r\n"
        f"content-type: {content_type}\r\n{length}{more}\r\n"
    ).encode()


def post(stream, content_type, body, more=""):
    received = throw(stream.target, head(stream, "POST", content_type, len(body), "connection: close\r\n" + more) + body)
    expect_no_500(received)
    return received


# ---------------------------------------------------------------- HTTP/1.1


@attack
def random_bytes(rng, stream):
    """random bytes"""
    for size in [1, 2, 16, 100, 1000, 10_000, 100_000] * 4:
        expect_no_500(throw(stream.target, rng.randbytes(size), timeout=0.2))


@attack
def broken_requests(rng, stream):
    """mutated HTTP/1.1 requests"""
    body = b'{"records":[{"body":"x"}]}'
    whole = head(stream, length=len(body), more="connection: close\r\n") + body
    for _ in range(150):
        expect_no_500(throw(stream.target, mutate(rng, whole), timeout=0.2))


@attack
def huge_heads(rng, stream):
    """endless request lines and headers"""
    for data in [
        b"GET /" + b"a" * 4_000_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: x\r\n" % i for i in range(100_000)) + b"\r\n",
        b"GET / HTTP/1.1\r\nh: " + b"x" * 4_000_000 + b"\r\n\r\n",
        b"\r\n" * 500_000,
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 1_000_000,
        b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
        b"POST / HTTP/1.1\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
        b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\ncontent-length: 18446744073709551616\r\n\r\n",
    ]:
        expect_no_500(throw(stream.target, data, timeout=1))


@attack
def bad_queries(rng, stream):
    """bad paths and queries"""
    names = ["seq_num", "timestamp", "tail_offset", "count", "bytes", "until", "wait", "clamp", "limit", "prefix", "start_after"]
    values = ["", "-1", "1e9", "0x10", "18446744073709551615", "18446744073709551616", "NaN", "%00", "%ff%fe", "true", "💥", "%", "a" * 3000]
    for _ in range(200):
        query = "&".join(f"{rng.choice(names)}={rng.choice(values)}" for _ in range(rng.randint(1, 4))).replace("💥", "%F0%9F%92%A5")
        below = rng.choice(["/records?", "/records/tail?", "?"])
        more = f"GET /v1{stream.path}{below}{query} HTTP/1.1\r\nhost: x\r\ns2-basin: {stream.basin.name}\r\n"
        expect_no_500(throw(stream.target, (more + "connection: close\r\n\r\n").encode(), timeout=2))
    for path in ["/v1/streams/%", "/v1/streams/%zz/records", "/v1/streams/%00", "/v1/streams/%ff", "//", "/v1//streams", "/v1/streams/" + "%2F" * 600]:
        expect_no_500(throw(stream.target, f"GET {path} HTTP/1.1\r\nhost: x\r\ns2-basin: {stream.basin.name}\r\nconnection: close\r\n\r\n".encode()))


# ---------------------------------------------------------------- bodies


@attack
def bad_json(rng, stream):
    """bad JSON, nested a hundred thousand deep and mutated"""
    for body in [b"[" * 100_000, b'{"a":' * 100_000, b'{"records":' + b"[" * 100_000 + b"]" * 100_000 + b"}"]:
        post(stream, "application/json", body)
    for text in ['{"records":[{"body":"\\ud800"}]}', '{"records":[{"timestamp":1e400}]}', '{"records":' + "9" * 100_000 + "}", '{"a":"' + "x" * 1_000_000]:
        post(stream, "application/json", text.encode())
    good = json.dumps({"records": [{"body": "x", "headers": [["a", "b"]], "timestamp": 5}], "match_seq_num": 3, "fencing_token": "t"}).encode()
    for _ in range(150):
        post(stream, "application/json", mutate(rng, good), rng.choice(["", "s2-format: base64\r\n", "s2-stream-config: {{{\r\n"]))


@attack
def bad_proto(rng, stream):
    """bad and mutated protobuf"""
    good = append_input([b"a", b"b" * 100], match_seq_num=1 << 40, fencing_token="t")
    for _ in range(150):
        post(stream, "application/protobuf", rng.choice([mutate(rng, good), rng.randbytes(rng.randint(0, 300))]))
    for body in [b"\x0a" + b"\xff" * 9 + b"\x01", b"\x0a\x80\x80\x80\x80\x10", b"\x0a\x00" * 100_000, b"\x0b" * 100_000]:
        post(stream, "application/protobuf", body)


@attack
def bombs(rng, stream):
    """compressed bombs and broken compression"""
    bomb = gzip.compress(b"\0" * (256 << 20), 1)
    post(stream, "application/json", bomb, "content-encoding: gzip\r\n")
    post(stream, "application/protobuf", bomb, "content-encoding: gzip\r\n")
    for coding in ["gzip", "zstd", "br", "deflate", "nonsense", "gzip, gzip, gzip"]:
        post(stream, "application/json", rng.randbytes(1000), f"content-encoding: {coding}\r\n")


# ---------------------------------------------------------------- s2s


@attack
def bad_frames(rng, stream):
    """s2s frames: random, truncated, of huge length, bombs, mutated"""
    good = frame(append_input([b"x" * 50]))
    bodies = [b"\xff" * 4, b"\x00\x00\x00", b"\x1f\xff\xff\x00" + b"x" * 1000, b"\x20\x00\x00\x00", frame(gzip.compress(b"\0" * (64 << 20)), GZIP)]
    bodies += [frame(b"", 0x80), frame(b"x", 0x60), frame(rng.randbytes(500), ZSTD), b"\x00\x00\x01\x00" * 50_000, good[:-1], good[:2]]
    for _ in range(100):
        bodies.append(mutate(rng, good * rng.randint(1, 4)) if rng.random() < 0.7 else rng.randbytes(rng.randint(1, 2000)))
    for body in bodies:
        try:
            with Session.append(stream, timeout=5) as session:
                session.send_chunk(body)
                session.finish_body()
                assert session.read_head() == 200
                for flag, payload in raw_http.frames(session.read_rest()):
                    assert not flag & 0x80 or raw_http.terminal(payload)[0] < 500, raw_http.terminal(payload)
        except OSError:
            pass


@attack
def abandoned_sessions(rng, stream):
    """sessions opened by the hundred and dropped in the middle of a frame"""
    sessions = []
    for i in range(200):
        session = Session.append(stream) if i % 2 else Session.read(stream, seq_num=0, wait=60)
        if i % 2:
            session.send_chunk(frame(append_input([b"y" * 10_000]))[: rng.randint(1, 9000)])
        sessions.append(session)
    for session in sessions:
        session.socket.close()


@attack
def readers_that_do_not_read(rng, stream):
    """followers that never read what they asked for"""
    for _ in range(4):
        assert stream.append("z" * 1_000_000).status == 200
    readers = [Session.read(stream, seq_num=0) for _ in range(50)]
    for _ in range(4):
        assert stream.append("z" * 1_000_000).status == 200
    for reader in readers:
        reader.socket.close()


@attack
def many_connections(rng, stream):
    """five hundred connections that say nothing"""
    address = raw_http.host_and_port(stream.target)
    clients = [socket.create_connection(address, timeout=5) for _ in range(500)]
    assert raw_http.request(stream.target, "GET", "/health").status == 200
    for client in clients:
        client.close()


# ---------------------------------------------------------------- HTTP/2


@attack
def random_h2(rng, stream):
    """HTTP/2: random frames after a good preface"""
    for _ in range(100):
        data = h2_by_hand.PREFACE + h2_by_hand.frame(h2_by_hand.SETTINGS, 0, 0)
        for _ in range(rng.randint(1, 20)):
            payload = rng.randbytes(rng.choice([0, 4, 5, 8, 100, 5000]))
            data += h2_by_hand.frame(rng.randrange(12), rng.randrange(256), rng.choice([0, 1, 2, 3, 5, 1 << 30]), payload)
        throw(stream.target, data, timeout=0.1)
        throw(stream.target, h2_by_hand.PREFACE[: rng.randint(1, 24)] + rng.randbytes(rng.randint(0, 200)), timeout=0.1)


@attack
def h2_floods(rng, stream):
    """HTTP/2: rapid resets, pings, settings, empty data, headers without end"""
    hello = h2_by_hand.PREFACE + h2_by_hand.frame(h2_by_hand.SETTINGS, 0, 0)
    request = b"\x82\x86" + h2_by_hand.literal(b":path", b"/health") + h2_by_hand.literal(b":authority", b"x")
    resets = b"".join(
        h2_by_hand.frame(h2_by_hand.HEADERS, 5, i, request) + h2_by_hand.frame(h2_by_hand.RST_STREAM, 0, i, b"\0\0\0\x08") for i in range(1, 40_001, 2)
    )
    floods = [
        resets,
        h2_by_hand.frame(h2_by_hand.PING, 0, 0, b"12345678") * 50_000,
        h2_by_hand.frame(h2_by_hand.SETTINGS, 0, 0, b"\x00\x03\x00\x00\x00\x64") * 20_000,
        h2_by_hand.frame(h2_by_hand.HEADERS, 4, 1, request) + h2_by_hand.frame(h2_by_hand.DATA, 0, 1) * 50_000,
        h2_by_hand.frame(h2_by_hand.HEADERS, 0, 1, request) + h2_by_hand.frame(9, 0, 1, h2_by_hand.literal(b"x", b"y") * 1000) * 2000,
        h2_by_hand.frame(h2_by_hand.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff") * 3,
        b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 100_000,
    ]
    for flood in floods:
        throw(stream.target, hello + flood, answer_bytes_max=1 << 22, timeout=1)
