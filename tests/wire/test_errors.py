"""The rows of the error table that a client can provoke, each with its status, code and JSON body."""

import pytest

import raw_http

JSON = {"content-type": "application/json"}
PROTO = {"content-type": "application/protobuf"}


def check(answer, status, code):
    assert (answer.status, answer.code) == (status, code), answer
    assert answer.headers["content-type"].startswith("application/json")
    assert isinstance(answer.json()["message"], str) and answer.json()["message"]
    assert set(answer.json()) == {"code", "message"}


def test_missing_basin_header(account, stream):
    answer = account.send("GET", "/streams")
    check(answer, 400, "bad_header")
    assert answer.json()["message"] == "Missing header `s2-basin`"
    for path in [stream.path, stream.path + "/records?seq_num=0", stream.path + "/records/tail"]:
        check(account.send("GET", path), 400, "bad_header")
    check(account.send("POST", stream.path + "/records", {"records": [{}]}), 400, "bad_header")


def test_unknown_basin(account):
    name = raw_http.unique("basin")
    nowhere = raw_http.Basin(account.target, name)
    check(account.send("GET", "/basins/" + name), 404, "basin_not_found")
    check(account.send("PATCH", "/basins/" + name, {}), 404, "basin_not_found")
    check(nowhere.send("POST", "/streams", {"stream": "s"}), 404, "basin_not_found")
    for answer in [nowhere.stream("s").append("x"), nowhere.stream("s").read(seq_num=0)]:
        assert answer.status == 404 and answer.code in ("basin_not_found", "stream_not_found"), answer


def test_unknown_stream(basin):
    stream = basin.stream("no-such-stream")
    for answer in [
        stream.send("GET"),
        stream.send("PATCH", "", {}),
        stream.send("GET", "/records/tail"),
        stream.append("x"),
        stream.read(seq_num=0),
        stream.read({"accept": "text/event-stream"}, seq_num=0),
        stream.read({"content-type": "s2s/proto"}, seq_num=0),
        stream.read({"accept": "application/protobuf"}, seq_num=0),
    ]:
        check(answer, 404, "stream_not_found")
    assert f"stream `no-such-stream` in basin `{basin.name}` not found" in stream.read(seq_num=0).json()["message"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"[]", b"null", b'"x"', b'{"records":1}', b'{"records":[1]}', b'{"records":[{"body":5}]}',
        b'{"records":[{"headers":[["only-name"]]}]}', b'{"records":[{"headers":[["a","b","c"]]}]}', b'{"records":[{"timestamp":-1}]}',
        b'{"records":[{"timestamp":18446744073709551616}]}', b'{"records":[{"body":"\xff"}]}', b'{"records":[]} trailing',
    ],
)  # fmt: skip
def test_bad_json(stream, body):
    check(stream.send("POST", "/records", None, JSON, body), 400, "bad_json")


def test_deeply_nested_json_is_refused_and_survived(account, stream):
    for body in [b"[" * 100_000, b'{"records":' + b"[" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000]:
        answer = stream.send("POST", "/records", None, JSON, body)
        assert answer.status == 400, answer
    assert raw_http.request(account.target, "GET", "/health").status == 200


def test_a_body_without_a_known_content_type_is_bad_json(stream):
    body = b'{"records":[{"body":"x"}]}'
    for headers in [{}, {"content-type": "text/plain"}, {"content-type": "nonsense"}]:
        answer = stream.send("POST", "/records", None, headers, body)
        check(answer, 400, "bad_json")
    assert "Expected request with `Content-Type: application/json`" in answer.json()["message"]
    for content_type in ["application/json; charset=utf-8", "application/vnd.api+json", "APPLICATION/JSON"]:
        answer = stream.send("POST", "/records", None, {"content-type": content_type}, body)
        assert answer.status == 200, (content_type, answer)


@pytest.mark.parametrize("body", [b"\xff", b"\x0a\x05ab", b"\x0a", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f", b"\x07"])
def test_bad_proto(stream, body):
    check(stream.send("POST", "/records", None, PROTO, body), 400, "bad_proto")


def test_bad_base64_is_invalid(stream):
    for body in ["%%%", "YQ", "YQ==="]:
        check(stream.append_records([{"body": body}], {"s2-format": "base64"}), 422, "invalid")


def test_a_header_with_an_empty_name_needs_a_command(stream):
    check(stream.append_records([{"headers": [["", "nothing"]]}]), 422, "invalid")


@pytest.mark.parametrize("value", ["hex", "", "Base64"])
def test_an_unknown_format_is_bad_header(stream, value):
    check(stream.append("x", headers={"s2-format": value}), 400, "bad_header")
    check(stream.read({"s2-format": value}, seq_num=0), 400, "bad_header")


def test_path_names_are_checked(basin):
    check(basin.send("GET", "/streams/" + "x" * 513), 400, "bad_path")


@pytest.mark.parametrize("value", ["none", "1,2", "1,2,3,4", "-1,0,0", "a,b,c"])
def test_a_bad_last_event_id_is_bad_header(stream, value):
    stream.append("x")
    answer = stream.read({"accept": "text/event-stream", "last-event-id": value}, seq_num=0)
    check(answer, 400, "bad_header")


def test_nul_bytes_in_queries_are_refused(basin):
    check(basin.send("GET", "/streams?prefix=a%00b"), 400, "bad_query")
    check(basin.send("GET", "/streams?start_after=a%00b"), 400, "bad_query")


def test_wrong_types_in_control_bodies_are_bad_json(account, stream):
    check(account.send("POST", "/basins", {"config": {}}), 400, "bad_json")
    check(account.send("POST", "/basins", {"basin": 5}), 400, "bad_json")
    check(stream.send("PATCH", "", {"retention_policy": "for-ever"}), 400, "bad_json")
    check(stream.send("PATCH", "", {"timestamping": {"mode": "sundial"}}), 400, "bad_json")
