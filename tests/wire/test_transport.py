"""The port itself: health, methods, CORS, connections that misbehave, bodies that are too large, HTTP/2 by hand."""

import socket
import threading
import time

import pytest

import h2_by_hand
import raw_http

# A client that stalls in the middle of a request head, or of a body, is let go after this long at most.
SLOW_CLIENT_SECONDS_MAX = 45


def test_health(target):
    for path in ["/health", "/ping"]:
        answer = raw_http.request(target, "GET", path)
        assert answer.status == 200 and answer.body == b"OK"


def test_metrics_are_prometheus_text(target):
    answer = raw_http.request(target, "GET", "/metrics")
    assert answer.status == 200 and answer.headers["content-type"].startswith("text/plain")


def test_an_unknown_route_is_404_and_a_wrong_method_405(account, target):
    for path in ["/", "/v2/basins", "/v1/nothing", "/v1/streams/a/b/c"]:
        answer = raw_http.request(target, "GET", path, {"s2-basin": "basin-name-x"})
        assert answer.status in (404, 400) if path.startswith("/v1/s") else answer.status in (404, 302, 307), (path, answer)
    answer = account.send("DELETE", "/basins")
    assert answer.status == 405 and "GET" in answer.headers["allow"]
    answer = account.send("POST", "/basins/some-basin-name", {})
    assert answer.status == 405


@pytest.mark.ours
def test_404_and_405_have_json_bodies(account, target):
    """The Rust SDK decodes the body of every failure as JSON."""
    for answer in [raw_http.request(target, "GET", "/v1/nothing"), account.send("DELETE", "/basins")]:
        assert answer.json()["code"] and answer.json()["message"]


def test_head_has_no_body_and_does_not_upset_the_connection(target, basin, stream):
    host, port = raw_http.host_and_port(target)
    connection = raw_http.http.client.HTTPConnection(host, port, timeout=10)
    for path in ["/health", "/v1" + stream.path, "/v1" + stream.path + "/records/tail", "/v1/nothing"]:
        answer = raw_http.request_on(connection, "HEAD", path, {"s2-basin": basin.name})
        assert answer.body == b""
        assert answer.status == (404 if path == "/v1/nothing" else answer.status) and answer.status in (200, 404, 405), (path, answer)
    assert raw_http.request_on(connection, "GET", "/health").status == 200
    connection.close()


def test_many_requests_on_one_connection(basin, stream):
    host, port = raw_http.host_and_port(basin.target)
    connection = raw_http.http.client.HTTPConnection(host, port, timeout=10)
    headers = {"s2-basin": basin.name, "content-type": "application/json"}
    for i in range(100):
        path = "/v1" + stream.path + "/records"
        assert raw_http.request_on(connection, "POST", path, headers, b'{"records":[{"body":"x"}]}').status == 200
        assert raw_http.request_on(connection, "GET", path + "?seq_num=999999", headers).status == 416
    connection.close()


def test_cors_preflight_and_answers(target):
    origin = {"origin": "https://example.com"}
    wish = {"access-control-request-method": "PUT", "access-control-request-headers": "s2-basin,s2-format,content-type"}
    answer = raw_http.request(target, "OPTIONS", "/v1/basins", {**origin, **wish})
    assert answer.status in (200, 204)
    assert answer.headers["access-control-allow-origin"] in ("https://example.com", "*")
    assert "PUT" in answer.headers["access-control-allow-methods"] or answer.headers["access-control-allow-methods"] == "*"
    allowed = answer.headers["access-control-allow-headers"].lower()
    assert allowed == "*" or {"s2-basin", "s2-format", "content-type"} <= {name.strip() for name in allowed.split(",")}
    answer = raw_http.request(target, "GET", "/v1/basins", origin)
    assert answer.headers["access-control-allow-origin"] in ("https://example.com", "*")


@pytest.mark.ours
def test_browsers_may_read_the_provision_result(target):
    answer = raw_http.request(target, "GET", "/v1/basins", {"origin": "https://example.com"})
    exposed = answer.headers["access-control-expose-headers"].lower()
    assert exposed == "*" or "s2-provision-result" in exposed


def test_expect_100_continue(stream):
    with raw_http.Conversation(stream.target) as conversation:
        body = b'{"records":[{"body":"x"}]}'
        conversation.send_head("POST", "/v1" + stream.path + "/records", {
            "s2-basin": stream.basin.name, "content-type": "application/json", "content-length": len(body), "expect": "100-continue",
        })
        assert conversation.read_head() == 100
        conversation.socket.sendall(body)
        assert conversation.read_head() == 200


def test_a_chunked_unary_body(stream):
    with raw_http.Conversation(stream.target) as conversation:
        conversation.send_head("POST", "/v1" + stream.path + "/records", {
            "s2-basin": stream.basin.name, "content-type": "application/json", "transfer-encoding": "chunked",
        })
        conversation.send_chunk(b'{"records":[{"bo')
        conversation.send_chunk(b'dy":"x"}]}')
        conversation.finish_body()
        assert conversation.read_head() == 200


@pytest.mark.ours
def test_an_oversized_body_is_refused_before_it_is_read(stream):
    """The head alone is sent: an answer can only mean that the length was looked at first."""
    for size in [64 << 20, 1 << 40]:
        with raw_http.Conversation(stream.target, timeout=10) as conversation:
            conversation.send_head("POST", "/v1" + stream.path + "/records", {
                "s2-basin": stream.basin.name, "content-type": "application/json", "content-length": size,
            })
            assert conversation.read_head() in (400, 413)


def test_an_endless_chunked_body_is_cut_off(stream):
    """A server may read on for a while, so that the client sees the answer, but not for ever."""
    sent = 0
    with raw_http.Conversation(stream.target, timeout=20) as conversation:
        conversation.send_head("POST", "/v1" + stream.path + "/records", {
            "s2-basin": stream.basin.name, "content-type": "application/json", "transfer-encoding": "chunked",
        })
        try:
            while sent < 256 << 20:
                conversation.send_chunk(b" " * 65536)
                sent += 65536
        except OSError:
            pass
    assert sent < 256 << 20, "the server swallows whatever comes"


# ---------------------------------------------------------------- slow clients

SLOW_CLIENTS = {
    "one byte": b"G",
    "one byte of the h2 preface": b"P",
    "half a request line": b"GET /heal",
    "half a header": b"GET /health HTTP/1.1\r\nhos",
    "half an h2 preface": h2_by_hand.PREFACE[:10],
    "a body of which one byte comes": b"POST /v1/basins HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{",
}


@pytest.fixture(scope="module")
def slow_clients(target):
    """Seconds until the server let go of each slow client, or `None`. All wait at the same time."""
    let_go = {}

    def wait(name, data):
        started = time.monotonic()
        with socket.create_connection(raw_http.host_and_port(target), timeout=SLOW_CLIENT_SECONDS_MAX) as client:
            client.sendall(data)
            try:
                while client.recv(4096):
                    pass
                let_go[name] = time.monotonic() - started
            except ConnectionError:
                let_go[name] = time.monotonic() - started
            except TimeoutError:
                let_go[name] = None

    threads = [threading.Thread(target=wait, args=item) for item in SLOW_CLIENTS.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return let_go


@pytest.mark.ours
@pytest.mark.parametrize("name", SLOW_CLIENTS)
def test_a_client_that_stalls_loses_its_connection(slow_clients, name):
    assert slow_clients[name] is not None, f"still connected after {SLOW_CLIENT_SECONDS_MAX} s"


# ---------------------------------------------------------------- HTTP/2 by hand


def test_h2_answers_pings_and_many_streams(target):
    with h2_by_hand.Connection(target) as connection:
        for i in range(20):
            assert connection.get("/health", 2 * i + 1) == 200
        assert connection.ping()


def test_h2_announces_at_least_100_streams(target):
    """The Rust SDK puts 90 requests on a connection."""
    with h2_by_hand.Connection(target) as connection:
        kind, _, _, payload = connection.read_frame()
        assert kind == h2_by_hand.SETTINGS
        settings = {int.from_bytes(payload[i : i + 2], "big"): int.from_bytes(payload[i + 2 : i + 6], "big") for i in range(0, len(payload), 6)}
        assert settings.get(3, 1 << 30) >= 100


def test_h2_garbage_closes_only_its_own_connection(target):
    with h2_by_hand.Connection(target) as bystander:
        assert bystander.get("/health") == 200
        for garbage in [b"\xff" * 100, h2_by_hand.frame(h2_by_hand.HEADERS, 5, 1, b"\xff" * 30), h2_by_hand.frame(h2_by_hand.DATA, 0, 0, b"x")]:
            with h2_by_hand.Connection(target) as connection:
                connection.send(garbage)
                with pytest.raises((EOFError, ConnectionError)):
                    while True:
                        kind, _, _, _ = connection.read_frame()
        assert bystander.ping()
