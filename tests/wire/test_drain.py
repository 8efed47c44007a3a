"""A server that is drained and started again under load, by clients that never try anything twice.

Each request must end in exactly one way that its client can tell: done, `server_draining`, or no connection at all. What
was acknowledged is in the stream once and in its place; everything else is not. A reset, an answer cut off, or a session
that ends without saying why is a violation.
"""

import json
import os
import signal
import socket
import subprocess
import threading
import time

import hpack
import pytest

import h2_by_hand
import millrace_process
import raw_http
from raw_http import Session, append_input

pytestmark = pytest.mark.ours

RECONNECT = 0x10
WINDOW_MAX = 8


class Gone(Exception):
    """Nothing happened, and the server said so: `server_draining`, or nobody listens."""


def said_no(status, body):
    if status == 503 and json.loads(body)["code"] == "server_draining":
        raise Gone
    raise AssertionError(f"an answer of neither kind: {status} {body!r}")


def connected(make):
    """A connection made by `make`, unless nobody listens."""
    try:
        return make()
    except ConnectionRefusedError:
        raise Gone from None


# ---------------------------------------------------------------- those who append


class Appender(threading.Thread):
    """Appends to a stream of its own until it is told to stop, and keeps what it was told."""

    def __init__(self, stream):
        super().__init__(name=f"{type(self).__name__}-{stream.name}", daemon=True)
        self.stream, self.acked, self.gone, self.tried = stream, [], 0, 0
        self.enough, self.violation = threading.Event(), None

    def run(self):
        try:
            while not self.enough.is_set():
                try:
                    self.turn()
                except Gone:
                    self.gone += 1
                    self.leave()
                    # Not a wait for anything: a client that is turned away does not spin.
                    time.sleep(0.005)
            self.leave()
        except BaseException as error:  # noqa: BLE001: whatever it is, it is what the test is about
            self.violation = f"{self.name} after {len(self.acked)} acks: {error!r}"

    def body(self):
        self.tried += 1
        return f"{self.name}/{self.tried}"

    def leave(self):
        """Gives the connection up."""


class UnaryAppender(Appender):
    """HTTP/1.1, one connection for as long as the server keeps it."""

    connection = None

    def turn(self):
        if self.connection is None:
            host, port = raw_http.host_and_port(self.stream.target)
            self.connection = raw_http.http.client.HTTPConnection(host, port, timeout=30)
            connected(self.connection.connect)
        body = self.body()
        path = "/v1" + self.stream.path + "/records"
        headers = {"s2-basin": self.stream.basin.name, "content-type": "application/json"}
        self.connection.auto_open = False
        self.connection.request("POST", path, json.dumps({"records": [{"body": body}]}), headers)
        response = self.connection.getresponse()
        text, closes = response.read(), response.will_close
        if response.status != 200:
            said_no(response.status, text)
        self.acked.append(body)
        if closes:
            self.leave()

    def leave(self):
        if self.connection is not None:
            self.connection.close()
        self.connection = None


class H2Appender(Appender):
    """HTTP/2 with prior knowledge, frames by hand: leaves after a GOAWAY, and has every answer before that."""

    connection = None

    def turn(self):
        if self.connection is None:
            self.connection = connected(lambda: h2_by_hand.Connection(self.stream.target, timeout=30))
            self.stream_id, self.told_to_go = 1, False
            self.encoder, self.decoder = hpack.Encoder(), hpack.Decoder()
        body = self.body()
        head = [
            (":method", "POST"), (":scheme", "http"), (":authority", "localhost"),
            (":path", "/v1" + self.stream.path + "/records"),
            ("s2-basin", self.stream.basin.name), ("content-type", "application/json"),
        ]
        frame = h2_by_hand.frame
        data = json.dumps({"records": [{"body": body}]}).encode()
        self.connection.send(
            frame(h2_by_hand.HEADERS, 0x4, self.stream_id, self.encoder.encode(head))
            + frame(h2_by_hand.DATA, 0x1, self.stream_id, data)
        )
        status, text = self.answer()
        self.stream_id += 2
        if self.told_to_go:
            self.leave()
        if status != 200:
            said_no(status, text)
        self.acked.append(body)

    def answer(self):
        status, text = None, b""
        while True:
            kind, flags, for_stream, payload = self.connection.read_frame()
            if kind == h2_by_hand.SETTINGS and not flags & 1:
                self.connection.send(h2_by_hand.frame(h2_by_hand.SETTINGS, 1, 0))
            elif kind == h2_by_hand.PING and not flags & 1:
                self.connection.send(h2_by_hand.frame(h2_by_hand.PING, 1, 0, payload))
            elif kind == h2_by_hand.GOAWAY:
                self.told_to_go = True
                last, code = int.from_bytes(payload[:4], "big"), int.from_bytes(payload[4:8], "big")
                assert code == 0 and last >= self.stream_id, f"GOAWAY {code} at {last} before the answer on {self.stream_id}"
            elif kind == h2_by_hand.HEADERS:
                status = int(dict(self.decoder.decode(payload))[":status"])
            elif kind == h2_by_hand.DATA:
                text += payload
                update = len(payload).to_bytes(4, "big")
                if payload:
                    self.connection.send(h2_by_hand.frame(h2_by_hand.WINDOW_UPDATE, 0, 0, update))
            else:
                assert kind != h2_by_hand.RST_STREAM, "the request was reset"
            if for_stream == self.stream_id and kind in (h2_by_hand.HEADERS, h2_by_hand.DATA) and flags & 1:
                return status, text

    def leave(self):
        if self.connection is not None:
            self.connection.socket.close()
        self.connection = None


class SessionAppender(Appender):
    """An s2s session with several inputs under way. `heeds` is whether it knows the advice to reconnect."""

    def __init__(self, stream, heeds):
        super().__init__(stream)
        self.heeds = heeds

    def turn(self):
        with connected(lambda: Session.append(self.stream)) as session:
            if session.read_head() != 200:
                said_no(session.status, session.received_body())
            waiting, advised, over = [], False, False
            while True:
                while not over and not advised and len(waiting) < WINDOW_MAX:
                    if self.enough.is_set():
                        over = True
                        break
                    body = self.body()
                    session.send_frame(append_input([body.encode()]))
                    waiting.append(body)
                if (over or advised) and not waiting:
                    session.finish_body()
                    assert session.read_frame() is None, "a frame after the last ack"
                    return
                got = session.read_frame()
                assert got is not None, f"the session ended without a word, {len(waiting)} inputs under way"
                flag, payload = got
                if flag & raw_http.TERMINAL:
                    status, answer = raw_http.terminal(payload)
                    said_no(status, json.dumps(answer))
                self.acked.append(waiting.pop(0))
                advised = advised or (self.heeds and bool(flag & RECONNECT))


# ---------------------------------------------------------------- those who read


class Reader(Appender):
    """Follows a stream from where it was. `acked` are the bodies it has seen."""

    def see(self, records):
        for record in records:
            assert record["seq_num"] == len(self.acked), f"record {record['seq_num']} after {len(self.acked)} others"
            body = record.get("body", "")
            self.acked.append(body if isinstance(body, str) else body.decode())


class SessionReader(Reader):
    """An s2s session. `heeds` is whether it knows the advice to reconnect."""

    def __init__(self, stream, heeds):
        super().__init__(stream)
        self.heeds = heeds

    def turn(self):
        with connected(lambda: Session.read(self.stream, seq_num=len(self.acked), clamp="true")) as session:
            if session.read_head() != 200:
                said_no(session.status, session.received_body())
            while not self.enough.is_set():
                got = session.read_frame()
                assert got is not None, "the session ended without a word"
                flag, payload = got
                if flag & raw_http.TERMINAL:
                    status, answer = raw_http.terminal(payload)
                    said_no(status, json.dumps(answer))
                self.see(raw_http.read_batch(payload)["records"])
                if self.heeds and flag & RECONNECT:
                    return


class EventReader(Reader):
    def turn(self):
        path = f"/v1{self.stream.path}/records?seq_num={len(self.acked)}&clamp=true"
        with connected(lambda: raw_http.Conversation(self.stream.target)) as events:
            events.send_head("GET", path, {"s2-basin": self.stream.basin.name, "accept": "text/event-stream"})
            if events.read_head() != 200:
                said_no(events.status, events.received_body())
            text = b""
            while not self.enough.is_set():
                chunk = events.read_chunk()
                assert chunk is not None, "the events ended without a word"
                text += chunk
                while b"\n\n" in text:
                    event, text = text.split(b"\n\n", 1)
                    fields = dict(line.split(": ", 1) for line in event.decode().splitlines() if ": " in line)
                    kind, data = fields.get("event"), fields.get("data", "")
                    if kind == "error":
                        said_no(503, data)
                    if kind == "batch":
                        self.see(json.loads(data)["records"])


# ---------------------------------------------------------------- the server


@pytest.fixture
def server(tmp_path):
    with millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto"), ["--fronts", "2"]) as server:
        yield server


def start_again(server):
    server.spawn()
    deadline = time.monotonic() + millrace_process.START_SECONDS_MAX
    while not server.healthy():
        assert server.alive() and time.monotonic() < deadline, server.log_end()
        time.sleep(0.02)


def all_bodies(stream):
    bodies = []
    while (answer := stream.read(seq_num=len(bodies), count=1000)).status == 200:
        bodies += [record.get("body", "") for record in answer.json()["records"]]
    assert answer.status == 416, answer
    return bodies


def until(what, seconds_max=30):
    deadline = time.monotonic() + seconds_max
    while not what():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def until_all_append(appenders):
    """Each of them is acknowledged a few times more."""
    acked = {worker: len(worker.acked) for worker in appenders}
    until(lambda: all(len(worker.acked) > acked[worker] + 5 or worker.violation for worker in appenders))


def test_a_restart_under_load_loses_nothing_and_says_what_it_refuses(server):
    basin = raw_http.Account(server.target).create_basin()
    appenders = [
        *(UnaryAppender(basin.create_stream()) for _ in range(3)),
        *(H2Appender(basin.create_stream()) for _ in range(3)),
        *(SessionAppender(basin.create_stream(), heeds) for heeds in (True, True, False)),
    ]
    read = appenders[6].stream
    readers = [SessionReader(read, True), SessionReader(read, False), EventReader(read), EventReader(appenders[0].stream)]
    workers = appenders + readers
    for worker in workers:
        worker.start()
    try:
        for _ in range(2):
            until_all_append(appenders)
            assert server.terminate() == 0, server.log_end()
            start_again(server)
        until_all_append(appenders)
        for worker in appenders:
            worker.enough.set()
        for worker in appenders:
            worker.join(30)
        until(lambda: all(len(r.acked) == r.stream.tail()["seq_num"] or r.violation for r in readers))
    finally:
        for worker in workers:
            worker.enough.set()
    assert [worker.violation for worker in workers if worker.violation] == [], server.log_end()
    for worker in workers:
        assert all_bodies(worker.stream) == worker.acked, worker.name
        assert worker.gone > 0 or getattr(worker, "heeds", False), f"{worker.name} was never turned away"


# ---------------------------------------------------------------- single promises


def draining(server):
    """The server has been told to stop, and a session keeps it from stopping for a while. Returns that session."""
    stream = raw_http.Account(server.target).create_basin().create_stream()
    session = Session.append(stream)
    assert session.read_head() == 200
    server.process.send_signal(signal.SIGTERM)
    until(lambda: raw_http.request(server.target, "GET", "/health").status == 503)
    return stream, session


def test_a_drain_lets_an_append_session_finish_and_advises_it_to_reconnect(server):
    stream, session = draining(server)
    with session:
        session.send_frame(append_input([b"late"]))
        flag, payload = session.read_frame()
        assert flag == RECONNECT and raw_http.append_ack(payload)["end"]["seq_num"] == 1
        answer = stream.append("refused")
        assert (answer.status, answer.code, answer.headers["connection"]) == (503, "server_draining", "close")
        session.finish_body()
        assert session.read_frame() is None
    assert server.process.wait(10) == 0


def test_an_upload_that_does_not_end_and_a_read_that_waits_are_told(server):
    basin = raw_http.Account(server.target).create_basin()
    stream = basin.create_stream()
    with raw_http.Conversation(server.target) as upload, raw_http.Conversation(server.target) as waiting:
        head = {"s2-basin": basin.name, "content-type": "application/json", "content-length": "100"}
        upload.send_head("POST", "/v1" + stream.path + "/records", head)
        waiting.send_head("GET", "/v1" + stream.path + "/records?seq_num=0&wait=60", {"s2-basin": basin.name})
        until(lambda: b"millrace_requests_open 3" in raw_http.request(server.target, "GET", "/metrics").body)
        server.process.send_signal(signal.SIGTERM)
        for told in (waiting, upload):
            assert told.read_head() == 503 and b"server_draining" in told.received_body()
    assert server.process.wait(10) == 0


def test_a_request_that_crosses_with_the_end_of_its_connection_is_answered(server):
    """The connection is idle when the server stops; its client does not look before it sends."""
    with raw_http.Conversation(server.target) as kept:
        kept.send_head("GET", "/v1/basins", {})
        assert kept.read_head() == 200
        kept.received_body()
        assert server.terminate() == 0
        try:
            kept.send_head("POST", "/v1/basins", {"content-type": "application/json", "content-length": "0"})
        except OSError:
            pass
        assert kept.read_head() == 503 and json.loads(kept.received_body())["code"] == "server_draining"


def test_who_was_connected_when_the_port_closed_is_answered(server):
    stream, session = draining(server)
    with session, socket.create_connection(raw_http.host_and_port(server.target), timeout=10) as early:
        session.finish_body()
        assert session.read_frame() is None
        early.sendall(b"GET /v1/basins HTTP/1.1\r\nhost: x\r\n\r\n")
        assert early.recv(4096).startswith(b"HTTP/1.1 503")
    assert server.process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(raw_http.host_and_port(server.target), timeout=10)


class Newcomer(threading.Thread):
    """Comes with a new connection for each request, as fast as it can, until nobody listens."""

    def __init__(self, target):
        super().__init__(daemon=True)
        self.target, self.outcomes, self.violation = target, [], None

    def run(self):
        try:
            while not self.outcomes or self.outcomes[-1] != "refused":
                try:
                    status = raw_http.request(self.target, "GET", "/v1/basins").status
                    assert status in (200, 503), status
                    self.outcomes.append(status)
                except ConnectionRefusedError:
                    self.outcomes.append("refused")
        except BaseException as error:  # noqa: BLE001: whatever it is, it is what the test is about
            self.violation = repr(error)


def test_newcomers_are_served_or_told_or_refused_and_never_reset(server):
    newcomers = [Newcomer(server.target) for _ in range(8)]
    for newcomer in newcomers:
        newcomer.start()
    until(lambda: all(newcomer.outcomes for newcomer in newcomers))
    assert server.terminate() == 0
    for newcomer in newcomers:
        newcomer.join(10)
    assert [newcomer.violation for newcomer in newcomers if newcomer.violation] == []
    for newcomer in newcomers:
        order = [outcome for i, outcome in enumerate(newcomer.outcomes) if i == 0 or outcome != newcomer.outcomes[i - 1]]
        assert order == [200, 503, "refused"], order


# ---------------------------------------------------------------- commands


def run(*arguments, **options):
    return subprocess.run([millrace_process.binary(), *map(str, arguments)], capture_output=True, text=True, timeout=60, **options)


def test_the_command_drains_and_waits(server):
    drained = run("drain", "--data", server.data)
    assert (drained.returncode, server.process.wait(5)) == (0, 0), drained
    assert f"asked process {server.pid} to drain" in drained.stdout and "ended cleanly" in drained.stdout
    again = run("drain", "--data", server.data)
    assert again.returncode == 3 and "no server uses" in again.stderr


def test_the_command_tells_a_bad_end_and_a_wrong_place(server, tmp_path):
    _, session = draining(server)
    with session:
        late = run("drain", "--data", server.data, "--wait", "0")
        # The second SIGTERM ends it at once.
        assert server.process.wait(5) == 1, late
    assert run("drain", "--data", server.data).returncode == 3
    nothing = run("drain", "--data", tmp_path / "nothing")
    assert nothing.returncode == 2 and "no data directory" in nothing.stderr


def test_a_directory_in_use_is_told_from_a_bad_one(server, tmp_path):
    assert run("inspect", server.data).returncode == 75
    assert run("inspect", tmp_path / "nothing").returncode == 2


@pytest.mark.parametrize("arguments", [["sim", "--seeds", "1..3", "--minutes", "1"], ["inspect"]], ids=["sim", "inspect"])
def test_a_closed_pipe_ends_a_command_without_a_word(server, arguments):
    if arguments == ["inspect"]:
        server.terminate()
        arguments = ["inspect", str(server.data), "--extents"]
    read_end, write_end = os.pipe()
    os.close(read_end)
    with os.fdopen(write_end, "wb") as closed:
        ended = subprocess.run([millrace_process.binary(), *arguments], stdout=closed, stderr=subprocess.PIPE, timeout=60)
    assert (ended.returncode, ended.stderr) == (141, b""), ended
