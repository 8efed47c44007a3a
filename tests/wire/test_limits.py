"""Limits per token, basin and stream: single appends are refused until it is time, sessions are slowed down, and a limit
means the whole server.

Times are compared with the least that a limit permits, never with a most, so a slow machine breaks no test.
"""

import base64
import concurrent.futures
import json
import select
import socket
import subprocess
import time

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours

ROOT = "the-root-token-of-the-limits"
SCOPES = ("token", "basin", "stream")
TRIES_SECONDS_MAX = 60


class Server(millrace_process.Millrace):
    """A server with limits, as the root token sees it or as the holder of another does."""

    def account(self, secret=ROOT):
        return raw_http.Account(self.target), {"authorization": f"Bearer {secret}"}

    def stream(self, basin=None):
        """A new stream, in a new basin unless one is given."""
        account, headers = self.account()
        if basin is None:
            basin = Holder(self.target, raw_http.unique("basin"), ROOT)
            assert account.send("POST", "/basins", {"basin": basin.name}, headers).status == 201
        return basin.create_stream()

    def holder(self, stream):
        """The same stream for the holder of a new token, and the token's id."""
        account, headers = self.account()
        all_ops = {"stream": {"read": True, "write": True}}
        scope = {"basins": {"prefix": ""}, "streams": {"prefix": ""}, "op_groups": all_ops}
        token_id = raw_http.unique("token")
        issued = account.send("POST", "/access-tokens", {"id": token_id, "scope": scope}, headers)
        assert issued.status == 201, issued
        return Holder(self.target, stream.basin.name, issued.json()["access_token"]).stream(stream.name), token_id

    def counted(self, name, scope, kind):
        page = raw_http.request(self.target, "GET", "/metrics", {"authorization": f"Bearer {ROOT}"}).body.decode()
        start = f'millrace_{name}{{scope="{scope}",kind="{kind}"}} '
        return sum(int(line.removeprefix(start)) for line in page.splitlines() if line.startswith(start))


class Holder(raw_http.Basin):
    """A basin as the holder of a token sees it."""

    def __init__(self, target, name, secret):
        super().__init__(target, name)
        self.secret = secret

    def send(self, method, path, value=None, headers=None, body=None, **options):
        headers = {"authorization": f"Bearer {self.secret}", **(headers or {})}
        return super().send(method, path, value, headers, body, **options)


@pytest.fixture
def start(tmp_path):
    """Starts servers with these flags, and stops them."""
    servers = []

    def make(*arguments):
        server = Server(tmp_path / f"data-{len(servers)}", arguments=arguments)
        server.environment = {"MILLRACE_ROOT_TOKEN": ROOT}
        servers.append(server)
        return server.start()

    yield make
    for server in servers:
        server.kill()


def session(stream):
    headers = {"authorization": f"Bearer {stream.basin.secret}"}
    opened = raw_http.Session.append(stream, headers, timeout=TRIES_SECONDS_MAX)
    assert opened.read_head() == 200
    return opened


def refused(answer, scope, text):
    """The time after which it would have been admitted, in seconds."""
    assert (answer.status, answer.code) == (429, "rate_limited"), answer
    assert f"this {scope} " in answer.json()["message"] and text in answer.json()["message"], answer
    return int(answer.headers["retry-after-ms"]) / 1000


def append_as_told(stream, body):
    """Tries until it is admitted, as the server says; returns how often it was refused."""
    deadline = time.monotonic() + TRIES_SECONDS_MAX
    for refusals in range(1000):
        answer = stream.append(body)
        if answer.status == 200:
            return refusals
        assert answer.code == "rate_limited" and time.monotonic() < deadline, answer
        time.sleep(int(answer.headers["retry-after-ms"]) / 1000)
    raise AssertionError("refused a thousand times")


# ---------------------------------------------------------------- single appends


def test_without_limits_nothing_is_refused_and_nothing_counted(start):
    server = start()
    stream = server.stream()
    for _ in range(100):
        assert stream.append("x" * 1000).status == 200
    for scope in SCOPES:
        for kind in ("appends", "bytes", "sessions"):
            assert server.counted("limited_total", scope, kind) == server.counted("limit_waits_total", scope, kind) == 0


@pytest.mark.parametrize("scope", SCOPES)
def test_a_limit_refuses_every_form_of_append_to_its_name_and_to_no_other(start, scope):
    server = start(f"--{scope}-limits", "bytes-per-second=10")
    ours, _ = server.holder(server.stream())
    # The first finds a full bucket and leaves a debt of a hundred seconds.
    assert ours.append("x" * 1000).status == 200
    body = base64.b64encode(b"y").decode()
    first_form = f"/{ours.basin.name}/{ours.name}"
    protobuf = {"content-type": "application/protobuf"}
    for answer in (
        ours.append("y"),
        ours.send("POST", "/records", body=raw_http.append_input([b"y"]), headers=protobuf),
        ours.basin.send("POST", first_form, {"records": [{"body": body}]}),
    ):
        assert 0 < refused(answer, scope, "10 metered bytes") <= 110
    assert ours.tail()["seq_num"] == 1, "what was refused has not happened"
    assert server.counted("limited_total", scope, "bytes") == 3
    others = {
        "token": server.holder(ours)[0],
        "basin": server.stream(),
        "stream": ours.basin.stream(server.stream(Holder(server.target, ours.basin.name, ROOT)).name),
    }
    for name, other in others.items():
        # Each differs from ours by one name, or is somewhere else altogether.
        expected = 200 if name in (scope, "basin") else 429
        assert other.append("z").status == expected, (scope, name)


def test_an_append_that_breaks_the_rules_uses_nothing_up(start):
    stream = start("--stream-limits", "bytes-per-second=10").stream()
    assert stream.append_records([]).status == 422
    assert stream.append("x" * 1000).status == 200
    # One whose condition fails was admitted all the same.
    other = stream.basin.create_stream()
    assert other.append("x" * 1000, match_seq_num=7).status == 412
    refused(other.append("y"), "stream", "metered bytes")


def test_who_comes_again_as_told_is_admitted_and_no_sooner_than_the_rate_permits(start):
    server = start("--stream-limits", "appends-per-second=20, burst-ms=1")
    stream = server.stream()
    begun = time.monotonic()
    for number in range(10):
        assert append_as_told(stream, str(number)) <= 1, "nobody else takes anything"
    assert time.monotonic() - begun >= 9 / 20
    assert stream.tail()["seq_num"] == 10


def test_a_batch_beyond_the_burst_is_admitted_and_its_debt_is_waited_for(start):
    stream = start("--basin-limits", "bytes-per-second=1000, burst-ms=100").stream()
    begun = time.monotonic()
    for _ in range(2):
        append_as_told(stream, "x" * 1000)
    # 1008 metered bytes each, and a burst of 100.
    assert time.monotonic() - begun >= 0.9


def test_all_fronts_share_one_limit(start):
    server = start("--fronts", "2", "--stream-limits", "appends-per-second=50, burst-ms=20")
    stream = server.stream()
    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        # A connection for each try: the kernel spreads them over both fronts.
        list(pool.map(lambda number: append_as_told(stream, str(number)), range(60)))
    # Were each front to count for itself, half of this would do.
    assert time.monotonic() - begun >= 59 / 50
    assert stream.tail()["seq_num"] == 60


# ---------------------------------------------------------------- append sessions


@pytest.mark.parametrize("scope", SCOPES)
def test_a_session_is_slowed_down_and_gets_everything_in(start, scope):
    server = start(f"--{scope}-limits", "appends-per-second=20, burst-ms=1")
    stream, _ = server.holder(server.stream())
    begun = time.monotonic()
    with session(stream) as writer:
        for number in range(12):
            writer.send_frame(raw_http.append_input([b"%d" % number]))
        writer.finish_body()
        starts = [writer.read_ack()["start"]["seq_num"] for _ in range(12)]
        assert writer.read_frame() is None
    assert starts == list(range(12))
    assert time.monotonic() - begun >= 11 / 20
    assert server.counted("limit_waits_total", scope, "appends") > 0
    assert server.counted("limited_total", scope, "appends") == 0


def test_sessions_of_all_fronts_share_one_limit_with_single_appends(start):
    server = start("--fronts", "2", "--basin-limits", "bytes-per-second=10KiB, burst-ms=100")
    stream = server.stream()
    streams = [stream.basin.create_stream() for _ in range(6)]

    def write(stream):
        with session(stream) as writer:
            for _ in range(4):
                writer.send_frame(raw_http.append_input([b"x" * 1016]))
            writer.finish_body()
            return [writer.read_ack()["end"]["seq_num"] for _ in range(4)]

    begun = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        written = [pool.submit(write, stream) for stream in streams]
        append_as_told(stream, "x" * 1016)
        assert [done.result() for done in written] == [[1, 2, 3, 4]] * 6
    # 25 KiB at 10 KiB a second; the burst is one, and the last may have begun with one byte left.
    assert time.monotonic() - begun >= 2.25


def test_a_session_that_waits_ends_with_its_token_and_the_batch_is_not_applied(start):
    server = start("--stream-limits", "bytes-per-second=10")
    stream, token_id = server.holder(server.stream())
    with session(stream) as writer:
        for _ in range(2):
            writer.send_frame(raw_http.append_input([b"x" * 1000]))
        assert writer.read_ack()["end"]["seq_num"] == 1
        account, headers = server.account()
        assert account.send("DELETE", f"/access-tokens/{token_id}", headers=headers).status == 204
        status, error = writer.read_terminal()
    assert (status, error["code"]) == (401, "authn")
    assert Holder(server.target, stream.basin.name, ROOT).stream(stream.name).tail()["seq_num"] == 1


def test_a_session_that_waits_does_not_keep_the_server(start):
    server = start("--stream-limits", "bytes-per-second=10")
    with session(server.stream()) as writer:
        for _ in range(2):
            writer.send_frame(raw_http.append_input([b"x" * 1000]))
        writer.read_ack()
        assert server.terminate() == 0
        status, error = writer.read_terminal()
    assert (status, error["code"]) == (503, "server_draining")


# ---------------------------------------------------------------- open sessions and connections


@pytest.mark.parametrize("scope", SCOPES)
def test_sessions_beyond_the_limit_are_refused_until_one_is_over(start, scope):
    server = start("--fronts", "2", f"--{scope}-limits", "sessions=2")
    stream, _ = server.holder(server.stream())
    headers = {"authorization": f"Bearer {stream.basin.secret}"}

    def opened(kind):
        tried = getattr(raw_http.Session, kind)(stream, headers)
        if kind == "append":
            # A refused session is answered at once, whether its body comes or not.
            tried.finish_body()
        return tried

    first, second = session(stream), raw_http.Session.read(stream, headers, clamp="true")
    assert second.read_head() == 200
    for kind in ("append", "read"):
        with opened(kind) as third:
            assert third.read_head() == 429
            assert third.headers["retry-after-ms"] == "1000"
            error = json.loads(third.read_rest() if "content-length" not in third.headers else rest(third))
        assert error["code"] == "rate_limited" and f"this {scope} may have 2 open sessions" in error["message"]
    assert server.counted("limited_total", scope, "sessions") == 2
    # Single requests are no sessions.
    assert stream.append("x").status == 200 and stream.read(seq_num=0).status == 200
    first.finish_body()
    assert first.read_frame() is None
    first.socket.close()
    deadline = time.monotonic() + TRIES_SECONDS_MAX
    while True:
        with raw_http.Session.read(stream, headers, clamp="true") as again:
            if again.read_head() == 200:
                break
        assert time.monotonic() < deadline, "the place was not given back"
    second.socket.close()


def rest(conversation):
    """A body whose length was told."""
    while len(conversation.received) < int(conversation.headers["content-length"]):
        conversation._receive()
    return conversation.received


def test_a_connection_beyond_the_limit_gets_an_answer(start):
    server = start("--fronts", "1", "--connections-max", "2")
    address = raw_http.host_and_port(server.target)
    sockets = [socket.create_connection(address, timeout=TRIES_SECONDS_MAX) for _ in range(4)]
    try:
        # Nobody has sent anything, so only those that were turned away have something to read.
        ready = select.select(sockets, [], [], TRIES_SECONDS_MAX)[0]
        answer = b"".join(iter(lambda: ready[0].recv(65536), b""))
    finally:
        for each in sockets:
            each.close()
    head, body = answer.split(b"\r\n\r\n", 1)
    assert head.startswith(b"HTTP/1.1 429 ") and b"retry-after-ms: 1000" in head
    assert json.loads(body)["code"] == "rate_limited"


# ---------------------------------------------------------------- settings


@pytest.mark.parametrize("text, why", [
    ("200", "appends-per-second=200"),
    ("appends=200", "there are appends-per-second, bytes-per-second, burst-ms and sessions"),
    ("appends-per-second=lots", "must be a whole number"),
    ("burst-ms=100", "give appends-per-second or bytes-per-second"),
])
def test_limits_that_make_no_sense_are_refused_with_what_to_do(tmp_path, text, why):
    config = tmp_path / "millrace.toml"
    config.write_text(f'stream-limits = "{text}"\n')
    for arguments in (["--stream-limits", text], ["--config", str(config)]):
        ran = subprocess.run(
            [millrace_process.binary(), "serve", "--print-config", *arguments], capture_output=True, text=True, timeout=60
        )
        assert ran.returncode == 2 and why in ran.stderr, ran


def test_the_banner_says_what_is_in_force(start):
    server = start("--token-limits", "sessions=7", "--stream-limits", "burst-ms=50,bytes-per-second=4MiB")
    deadline = time.monotonic() + TRIES_SECONDS_MAX
    # The first requests are answered while the banner is still being printed.
    while "access tokens:" not in (banner := server.log_path.read_text()):
        assert time.monotonic() < deadline, banner
        time.sleep(0.02)
    lines = [line for line in banner.splitlines() if line.startswith("limits of each")]
    assert lines == ["limits of each token: sessions=7", "limits of each stream: bytes-per-second=4MiB, burst-ms=50"]


def test_limits_come_from_the_file_and_are_printed_as_they_are_read(tmp_path):
    config = tmp_path / "millrace.toml"
    config.write_text('basin-limits = "sessions=3,bytes-per-second = 100 MiB"\n')
    command = [millrace_process.binary(), "serve", "--print-config", "--config"]
    printed = subprocess.run([*command, str(config)], capture_output=True, text=True, timeout=60, check=True).stdout
    assert 'basin-limits = "bytes-per-second=100MiB, sessions=3"' in printed
    assert 'stream-limits = ""' in printed
    config.write_text(printed)
    assert subprocess.run([*command, str(config)], capture_output=True, timeout=60).returncode == 0
