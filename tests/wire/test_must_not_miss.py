"""One test, or more, per row of the must-not-miss list of the S2 wire description."""

import json
import os
import pathlib
import re
import socket
import time

import pytest

import h2_by_hand
import millrace_process
import raw_http
from raw_http import Session, append_input
from test_tls import Tls, make_certificate

ROWS = 19


def test_row_01_one_port_speaks_http1_and_h2c_with_prior_knowledge(target):
    assert raw_http.request(target, "GET", "/health").status == 200
    with h2_by_hand.Connection(target) as connection:
        assert connection.get("/health") == 200


def test_row_02_an_append_session_answers_while_its_request_body_is_open(stream):
    with Session.append(stream) as session:
        assert session.read_head() == 200, "headers come before the first frame"
        session.send_frame(append_input([b"one"]))
        assert session.read_ack()["end"]["seq_num"] == 1, "the ack comes before the body ends"
        session.send_frame(append_input([b"two", b"three"]))
        assert session.read_ack()["end"]["seq_num"] == 3
        session.finish_body()
        assert session.read_frame() is None


def test_row_03_the_request_content_type_selects_a_session_even_on_get(stream):
    stream.append("a")
    with Session.read(stream, {"accept": "application/json"}, seq_num=0, count=1) as session:
        assert session.read_head() == 200
        assert session.headers["content-type"] == "s2s/proto"
        flag, payload = session.read_frame()
        assert flag == 0
        assert raw_http.read_batch(payload)["records"][0]["body"] == b"a"
        assert session.read_frame() is None


def test_row_04_condition_and_range_failures_have_no_code(stream):
    stream.append("a", "b")
    answer = stream.append("x", match_seq_num=7)
    assert (answer.status, answer.body) == (412, b'{"seq_num_mismatch":2}')
    stream.fence("holder")
    answer = stream.append("x", fencing_token="other")
    assert (answer.status, answer.body) == (412, b'{"fencing_token_mismatch":"holder"}')
    answer = stream.read(seq_num=9)
    assert answer.status == 416
    assert set(answer.json()) == {"tail"} and answer.json()["tail"]["seq_num"] == 3


def test_row_05_reading_at_the_tail_without_waiting_is_416(stream):
    stream.append("a")
    assert stream.read(seq_num=1).status == 416
    assert stream.read(seq_num=1, clamp="true").status == 416
    answer = stream.read(seq_num=1, wait=1)
    assert answer.status == 200 and answer.json()["records"] == []


def test_row_06_the_exceptions_that_answer_200_empty(stream):
    assert stream.read(timestamp=0).status == 416, "a timestamp that resolves to the tail of an empty stream"
    stream.append_records([{"body": "first", "timestamp": 100}, {"body": "second", "timestamp": 200}])
    for query in [
        {"seq_num": 0, "count": 0},
        {"seq_num": 0, "bytes": 0},
        {"seq_num": 2, "count": 0},
        {"seq_num": 99, "bytes": 0},
        {"seq_num": 0, "bytes": 5},
        {"seq_num": 1, "until": 200},
    ]:
        answer = stream.read(**query)
        assert answer.status == 200 and answer.json()["records"] == [], (query, answer)


def test_row_07_a_heartbeat_has_no_records_and_a_tail_and_comes_at_once(stream):
    stream.append("a")
    with Session.read(stream, seq_num=0) as session:
        assert session.read_head() == 200
        heartbeat = None
        started = time.monotonic()
        while heartbeat is None:
            flag, payload = session.read_frame()
            batch = raw_http.read_batch(payload)
            if not batch["records"]:
                heartbeat = payload
        assert time.monotonic() - started < 3
        assert flag == 0
        assert batch["tail"]["seq_num"] == 1
        assert heartbeat[:4] == b"\x12\x09\x08\x01", "field 2 only: the tail {1, milliseconds}"


def test_row_07_heartbeats_go_on_every_15_seconds_at_most(stream):
    with Session.read(stream, timeout=20) as session:
        session.read_head()
        for _ in range(2):
            started = time.monotonic()
            _, payload = session.read_frame()
            assert raw_http.read_batch(payload)["records"] == []
            assert time.monotonic() - started < 16


def test_row_08_info_has_the_keys_that_clients_insist_on(account, basin, stream):
    info = basin.send("GET", f"/streams?prefix={stream.name}").json()["streams"][0]
    assert info["name"] == stream.name and "deleted_at" in info and info["deleted_at"] is None
    assert info["created_at"][10] == "T"
    info = account.send("GET", f"/basins?prefix={basin.name}").json()["basins"][0]
    assert info["name"] == basin.name and info["created_at"][10] == "T"
    assert info["state"] == "active"


def test_row_09_any_storage_class_is_stored_and_echoed_only_to_who_set_it(basin):
    for storage_class in ["native", "express", "standard", "anything-else"]:
        stream = basin.create_stream({"storage_class": storage_class})
        assert stream.send("GET").json()["storage_class"] == storage_class
    unset = basin.create_stream()
    assert unset.send("GET").json().get("storage_class") in (None, "express", "standard"), "never invent `native`"


def test_row_10_provision_result_is_on_every_create_and_ensure(account, basin):
    name = raw_http.unique("stream")
    path = "/streams/" + name
    assert basin.send("PUT", path).headers["s2-provision-result"] == "created"
    assert basin.send("PUT", path).headers["s2-provision-result"] == "noop"
    answer = basin.send("PUT", path, {"retention_policy": {"age": 60}})
    assert (answer.status, answer.headers["s2-provision-result"]) == (200, "updated")
    answer = basin.send("POST", "/streams", {"stream": raw_http.unique("stream")})
    assert (answer.status, answer.headers["s2-provision-result"]) == (201, "created")
    answer = account.send("PUT", "/basins/" + raw_http.unique("basin"))
    assert (answer.status, answer.headers["s2-provision-result"]) == (201, "created")


def test_row_11_delete_answers_202_with_an_empty_body(account, basin, stream):
    for answer in [stream.send("DELETE"), account.send("DELETE", "/basins/" + account.create_basin().name)]:
        assert (answer.status, answer.body, answer.headers.get("content-length")) == (202, b"", "0")


def test_row_12_a_deleted_name_is_taken_until_purged(stream):
    assert stream.send("DELETE").status == 202
    again = stream.send("DELETE")
    assert again.status == 202 or (again.status, again.code) == (404, "stream_not_found"), again
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        answer = stream.append("late")
        if answer.status != 200:
            break
    assert (answer.status, answer.code) in [(409, "stream_deletion_pending"), (404, "stream_not_found")], answer


def test_row_13_put_replaces_the_config_and_patch_merges_it(stream):
    stream.send("PUT", "", {"retention_policy": {"age": 60}, "timestamping": {"mode": "arrival"}})
    config = stream.send("PATCH", "", {"retention_policy": {"age": 90}}).json()
    assert config["retention_policy"] == {"age": 90} and config["timestamping"]["mode"] == "arrival"
    config = stream.send("PATCH", "", {"timestamping": None}).json()
    assert config["retention_policy"] == {"age": 90}
    assert (config["timestamping"] or {}).get("mode", "client-prefer") == "client-prefer"
    assert stream.send("PUT", "", {"timestamping": {"uncapped": True}}).status == 200
    config = stream.send("GET").json()
    assert config["retention_policy"] == {"age": 604800}, "what PUT does not mention goes to its default"
    assert config["timestamping"]["uncapped"] is True


@pytest.mark.parametrize("limit", [0, 1001, 4_000_000])
def test_row_14_limit_zero_and_above_1000_mean_1000(basin, stream, limit):
    answer = basin.send("GET", f"/streams?limit={limit}")
    assert answer.status == 200 and len(answer.json()["streams"]) <= 1000
    assert any(info["name"] == stream.name for info in basin.send("GET", f"/streams?prefix={stream.name}&limit={limit}").json()["streams"])


def test_row_15_a_failed_condition_comes_after_the_acks_before_it(stream):
    with Session.append(stream) as session:
        session.send_frame(append_input([b"a", b"b", b"c"]))
        session.send_frame(append_input([b"x"], match_seq_num=9))
        session.send_frame(append_input([b"never"]))
        assert session.read_head() == 200
        assert session.read_ack()["end"]["seq_num"] == 3
        assert session.read_terminal() == (412, {"seq_num_mismatch": 3})
    assert stream.tail()["seq_num"] == 3, "what follows a failed input is dropped"


def test_row_16_integers_are_u64_in_json_too(stream):
    big = (1 << 53) + 1
    assert stream.append_records([{"body": "x", "timestamp": big}]).json()["end"]["timestamp"] == big
    assert stream.read(seq_num=0).json()["records"][0]["timestamp"] == big
    assert stream.read(seq_num=(1 << 64) - 1).status == 416


@pytest.mark.ours
def test_row_17_a_client_that_trusts_only_a_root_file_gets_h2_over_tls(tmp_path):
    """What the retired gRPC clients insist on: TLS with a root that they know, ALPN `h2`, and HTTP/2 at once."""
    root = make_certificate(tmp_path, "root")
    cert, key = make_certificate(tmp_path, "server", root)
    with Tls(tmp_path / "data", ["--tls-cert", str(cert), "--tls-key", str(key)], trust=root[0]) as server:
        plain = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        with server.context(["h2"]).wrap_socket(plain, server_hostname="localhost") as stream:
            assert stream.selected_alpn_protocol() == "h2"
            stream.sendall(h2_by_hand.PREFACE + h2_by_hand.frame(h2_by_hand.SETTINGS, 0, 0))
            head = stream.recv(9)
            assert len(head) == 9 and head[3] == h2_by_hand.SETTINGS, "the server's first frame"


def test_row_18_stream_config_header_counts_only_when_the_request_creates_the_stream(account):
    basin = account.create_basin({"create_stream_on_append": True, "create_stream_on_read": True})
    header = {"s2-stream-config": json.dumps({"retention_policy": {"age": 1234}})}
    by_append, by_read = basin.stream("by-append"), basin.stream("by-read")
    assert by_append.append("a", headers=header).status == 200
    assert by_read.read(header, seq_num=0).status == 416
    for stream in (by_append, by_read):
        assert stream.send("GET").json()["retention_policy"] == {"age": 1234}
    assert by_append.append("b", headers={"s2-stream-config": '{"retention_policy":{"age":99}}'}).status == 200
    assert by_append.send("GET").json()["retention_policy"] == {"age": 1234}
    for bad in ["{", '{"retention_policy":{"age":0}}']:
        answer = by_append.append("c", headers={"s2-stream-config": bad})
        assert (answer.status, answer.code) == (400, "bad_header"), answer


def test_row_19_no_frame_advises_a_reconnect_in_normal_service(stream):
    with Session.append(stream) as session:
        for i in range(20):
            session.send_frame(append_input([b"%d" % i]))
        session.finish_body()
        session.read_head()
        assert [flag for flag, _ in raw_http.frames(session.read_rest())] == [0] * 20


@pytest.mark.ours
def test_row_19_a_server_that_stops_advises_a_reconnect_and_says_that_it_drains(tmp_path):
    server = millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto"), ["--fronts", "1"])
    with server:
        stream = raw_http.Account(server.target).create_basin().create_stream()
        with Session.append(stream) as session:
            session.send_frame(append_input([b"before"]))
            assert session.read_head() == 200
            assert session.read_frame()[0] == 0
            server.begin_to_drain()
            answer = raw_http.Account(server.target).send("GET", "/basins")
            assert (answer.status, answer.code) == (503, "server_draining"), answer
            session.send_frame(append_input([b"after"]))
            flag, ack = session.read_frame()
            assert flag == 0x10 and raw_http.append_ack(ack)["end"]["seq_num"] == 2, "still acknowledged, with the advice"
            session.finish_body()
            assert session.read_frame() is None
        assert server.process.wait(millrace_process.STOP_SECONDS_MAX) == 0


def test_every_row_has_a_test():
    names = re.findall(r"^def test_row_(\d\d)_", pathlib.Path(__file__).read_text(), re.MULTILINE)
    assert {int(row) for row in names} == set(range(1, ROWS + 1))
