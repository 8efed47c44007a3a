"""Every error code of the API, provoked through a server: its status, its code, its body. What no request can provoke is named
with the reason. Both together are all codes that the server's own document has, so a new code fails here until it has its row.
"""

import base64
import concurrent.futures
import http.client
import json
import os
import pathlib
import socket
import time

import pytest

import millrace_process
import raw_http
from raw_http import Session

pytestmark = pytest.mark.ours

# The pairs are fixed: clients trust a code only beside its own status.
STATUSES = {
    "access_token_not_found": 404, "authn": 401, "bad_frame": 400, "bad_header": 400, "bad_json": 400, "bad_path": 400,
    "bad_proto": 400, "bad_query": 400, "basin_deletion_pending": 409, "basin_not_found": 404, "client_hangup": 499,
    "decryption_failed": 400, "hot_server": 502, "invalid": 422, "not_implemented": 501, "other": 500, "permission_denied": 403,
    "quota_exhausted": 403, "rate_limited": 429, "request_timeout": 408, "resource_already_exists": 409, "server_draining": 503,
    "storage": 500, "stream_deletion_pending": 409, "stream_not_found": 404, "transaction_conflict": 409, "unavailable": 503,
    "upstream_timeout": 504,
}  # fmt: skip

NOT_PROVOKED = {
    "other": "sent when the system gives no random bytes, or the meters' thread has ended: nothing that a client can cause",
    "not_implemented": "never sent: everything of the API is there",
    "transaction_conflict": "sent when a stream was deleted and created with another cipher between each of several tries of one "
    "append: a race that no test can win at will",
    "unavailable": "never sent: nothing that a single node needs is somewhere else",
    "upstream_timeout": "never sent: there is nothing behind this server that it waits for",
}

ROOT = "the-root-token-of-these-tests"
KEY = base64.b64encode(b"k" * 32).decode()
OTHER_KEY = base64.b64encode(b"o" * 32).decode()
JSON = {"content-type": "application/json"}


def access_token_not_found(account):
    return account.send("DELETE", "/access-tokens/" + raw_http.unique("nobody"))


def bad_header(account):
    return account.send("GET", "/streams")


def bad_json(account):
    return account.send("POST", "/basins", None, JSON, b"{")


def bad_path(account):
    return account.send("GET", "/basins/Not-A-Name")


def bad_proto(account):
    stream = account.create_basin().create_stream()
    return stream.send("POST", "/records", None, {"content-type": "application/protobuf"}, b"\xff")


def bad_query(account):
    return account.send("GET", "/basins?limit=-1")


def bad_frame(account):
    """The status of a session's last frame and its body stand for an answer."""
    stream = account.create_basin().create_stream()
    answer = stream.send("POST", "/records", None, {"content-type": "s2s/proto"}, b"\x00\x00\x00")
    if answer.status == 200:
        [(flag, payload)] = raw_http.frames(answer.body)
        assert flag & raw_http.TERMINAL, answer
        status, body = raw_http.terminal(payload)
        return raw_http.Answer(status, {"content-type": "application/json"}, json.dumps(body).encode())
    return answer


def basin_deletion_pending(account):
    # A basin with many streams is not gone at once.
    basin = account.create_basin({"create_stream_on_append": True})
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert all(a.status == 200 for a in pool.map(lambda n: basin.stream(f"s{n}").append("x"), range(200)))
    assert account.send("DELETE", "/basins/" + basin.name).status == 202
    return account.send("POST", "/basins", {"basin": basin.name})


def basin_not_found(account):
    return account.send("GET", "/basins/" + raw_http.unique("basin"))


def decryption_failed(account):
    stream = account.create_basin({"stream_cipher": "aegis-256"}).create_stream()
    assert stream.append("x", headers={"s2-encryption-key": KEY}).status == 200
    return stream.read({"s2-encryption-key": OTHER_KEY}, seq_num=0)


def invalid(account):
    return account.create_basin().create_stream().append()


def resource_already_exists(account):
    return account.send("POST", "/basins", {"basin": account.create_basin().name})


def stream_deletion_pending(account):
    stream = account.create_basin().create_stream()
    assert stream.send("DELETE").status == 202
    return stream.append("late")


def stream_not_found(account):
    return account.create_basin().stream("none").read(seq_num=0)


def client_hangup(account):
    """A client that closes its half of the connection in the middle of a body still gets to hear of it."""
    host, port = raw_http.host_and_port(account.target)
    with socket.create_connection((host, port), timeout=20) as connection:
        connection.sendall(b"POST /v1/basins HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{")
        connection.shutdown(socket.SHUT_WR)
        return answer_on(connection)


PROVOKED_ANYWHERE = [
    access_token_not_found, bad_header, bad_json, bad_path, bad_proto, bad_query, bad_frame, basin_deletion_pending, basin_not_found,
    client_hangup, decryption_failed, invalid, resource_already_exists, stream_deletion_pending, stream_not_found,
]  # fmt: skip


def check(code, answer):
    assert (answer.status, answer.code) == (STATUSES[code], code), answer
    assert answer.headers["content-type"] == "application/json"
    assert set(answer.json()) == {"code", "message"} and len(answer.json()["message"]) > 5, answer


def answer_on(connection):
    response = http.client.HTTPResponse(connection)
    response.begin()
    return raw_http.Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


@pytest.mark.parametrize("provoke", PROVOKED_ANYWHERE, ids=lambda provoke: provoke.__name__)
def test_a_request_provokes(account, provoke):
    check(provoke.__name__, provoke(account))


# ---------------------------------------------------------------- codes that need a server of their own


@pytest.fixture
def start(tmp_path):
    """Starts servers with these settings; they end with the test."""
    started = []

    def start(*arguments, **environment):
        server = millrace_process.Millrace(tmp_path / f"data{len(started)}", os.environ.get("MILLRACE_DRIVER", "auto"), arguments)
        server.environment = environment
        started.append(server)
        return server.start()

    yield start
    for server in started:
        server.kill()


def test_tokens_provoke_authn_and_permission_denied(start):
    account = raw_http.Account(start(MILLRACE_ROOT_TOKEN=ROOT).target)
    check("authn", account.send("GET", "/basins"))
    scope = {"basins": {"prefix": ""}, "ops": ["list-basins"]}
    root = {"authorization": f"Bearer {ROOT}"}
    issued = account.send("POST", "/access-tokens", {"id": "reader", "scope": scope}, root)
    reader = {"authorization": f"Bearer {issued.json()['access_token']}"}
    assert account.send("GET", "/basins", None, reader).status == 200
    check("permission_denied", account.send("POST", "/basins", {"basin": "some-basin"}, reader))
    assert raw_http.request(account.target, "GET", "/openapi.json").status == 200, "the document needs no token"


TOKENS_MAX = 10_000


def test_one_token_too_many_provokes_quota_exhausted(start):
    server = start()
    scope = {"ops": ["list-basins"]}

    def issue(numbers):
        host, port = raw_http.host_and_port(server.target)
        connection = http.client.HTTPConnection(host, port, timeout=30)
        for number in numbers:
            body = json.dumps({"id": f"token-{number}", "scope": scope})
            answer = raw_http.request_on(connection, "POST", "/v1/access-tokens", JSON, body)
            assert answer.status == 201, answer
        connection.close()

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        list(pool.map(issue, (range(part, TOKENS_MAX, 16) for part in range(16))))
    answer = raw_http.Account(server.target).send("POST", "/access-tokens", {"id": "one-more", "scope": scope})
    check("quota_exhausted", answer)


def test_one_session_too_many_provokes_rate_limited(start):
    server = start("--sessions-max", "1", "--fronts", "1")
    stream = raw_http.Account(server.target).create_basin().create_stream()
    with Session.read(stream) as session:
        assert session.read_head() == 200
        answer = stream.read({"content-type": "s2s/proto"}, seq_num=0)
    check("rate_limited", answer)
    assert int(answer.headers["retry-after-ms"]) > 0


SMALL = ["--shards", "1", "--segment-bytes", "16MiB", "--log-bytes-max", "80MiB", "--cache-bytes-max", "16MiB"]


def test_a_full_log_provokes_hot_server_and_a_damaged_one_storage(start):
    server = start(*SMALL)
    stream = raw_http.Account(server.target).create_basin().create_stream()
    answer = stream.append("x" * 1_000_000)
    for _ in range(200):
        if answer.status != 200:
            break
        answer = stream.append("x" * 1_000_000)
    check("hot_server", answer)
    assert stream.read(seq_num=0, count=1).status == 200, "reads go on"
    first = sorted(pathlib.Path(server.data).rglob("*.seg"))[0]
    with open(first, "r+b") as segment:
        segment.seek(64 << 10)
        segment.write(os.urandom(8 << 20))
        os.fsync(segment.fileno())
    check("storage", stream.read(seq_num=2, count=1))


def test_a_server_that_stops_answers_server_draining(start):
    # Each front begins by itself: with one, whoever has heard of it hears it again.
    server = start("--fronts", "1")
    account = raw_http.Account(server.target)
    stream = account.create_basin().create_stream()
    # An open session keeps the server from going at once.
    with Session.append(stream) as session:
        assert session.read_head() == 200
        server.begin_to_drain()
        check("server_draining", account.send("GET", "/basins"))
        assert raw_http.request(server.target, "GET", "/openapi.json").status == 200, "the document is still there"
        session.finish_body()
        session.read_rest()
    assert server.process.wait(millrace_process.STOP_SECONDS_MAX) == 0


# ---------------------------------------------------------------- the slow one


def test_a_body_that_takes_two_minutes_provokes_request_timeout(slow_body):
    """It began with the run, and this test is its last."""
    check("request_timeout", slow_body())


# ---------------------------------------------------------------- together they are all


PROVOKED_APART = {
    "authn", "permission_denied", "quota_exhausted", "rate_limited", "hot_server", "storage", "server_draining", "request_timeout",
}  # fmt: skip


def test_every_code_of_the_document_is_provoked_or_named(every_answer_is_described):
    provoked = {provoke.__name__ for provoke in PROVOKED_ANYWHERE} | PROVOKED_APART
    assert not provoked & set(NOT_PROVOKED)
    assert provoked | set(NOT_PROVOKED) == set(every_answer_is_described.codes()) == set(STATUSES)
    about = every_answer_is_described.value["components"]["schemas"]["Error"]["description"]
    for code, status in STATUSES.items():
        assert f"- `{code}` ({status}): " in about, code
