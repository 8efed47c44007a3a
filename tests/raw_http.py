"""S2 over plain sockets: HTTP/1.1 requests, s2s frames and the four protobuf messages, with nothing but the standard library.

Written from the wire description alone, so that a mistake of ours in the server cannot hide behind the same mistake here.
"""

import base64
import http.client
import json
import socket
import urllib.parse
import uuid

# ---------------------------------------------------------------- HTTP


class Answer:
    """One whole HTTP response."""

    def __init__(self, status, headers, body):
        self.status = status
        self.headers = headers
        self.body = body

    def json(self):
        return json.loads(self.body)

    @property
    def code(self):
        """The `code` of an error body."""
        return self.json()["code"]

    def __repr__(self):
        return f"{self.status} {self.headers} {self.body[:400]!r}"


def host_and_port(target):
    parts = urllib.parse.urlsplit(target)
    return parts.hostname, parts.port


def request(target, method, path, headers=None, body=None, timeout=30):
    """One request on a connection of its own."""
    host, port = host_and_port(target)
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        return request_on(connection, method, path, headers, body)
    finally:
        connection.close()


def request_on(connection, method, path, headers=None, body=None):
    connection.request(method, path, body=body, headers=headers or {})
    response = connection.getresponse()
    return Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())


def segment(name):
    """A stream name as one path segment."""
    return urllib.parse.quote(name, safe="")


def unique(prefix):
    return f"{prefix}-{uuid.uuid4().hex[:16]}"


class Account:
    """The account endpoint of a server."""

    def __init__(self, target):
        self.target = target

    def send(self, method, path, value=None, headers=None, body=None, **options):
        """`value` goes as JSON; `body` goes as it is."""
        headers = {"authorization": "Bearer ignored", **(headers or {})}
        if value is not None:
            body = json.dumps(value).encode()
            headers.setdefault("content-type", "application/json")
        return request(self.target, method, "/v1" + path, headers, body, **options)

    def create_basin(self, config=None, name=None):
        name = name or unique("basin")
        answer = self.send("POST", "/basins", {"basin": name, "config": config or {}})
        assert answer.status == 201, answer
        return Basin(self.target, name)


class Basin(Account):
    """One basin: every request carries its name."""

    def __init__(self, target, name):
        super().__init__(target)
        self.name = name

    def send(self, method, path, value=None, headers=None, body=None, **options):
        return super().send(method, path, value, {"s2-basin": self.name, **(headers or {})}, body, **options)

    def create_stream(self, config=None, name=None):
        name = name or unique("stream")
        answer = self.send("POST", "/streams", {"stream": name, "config": config or {}})
        assert answer.status == 201, answer
        return Stream(self, name)

    def stream(self, name):
        return Stream(self, name)


class Stream:
    """One stream: `path` is its own resource, `/records` below it its data."""

    def __init__(self, basin, name):
        self.basin = basin
        self.target = basin.target
        self.name = name
        self.path = "/streams/" + segment(name)

    def send(self, method, below="", value=None, headers=None, body=None, **options):
        return self.basin.send(method, self.path + below, value, headers, body, **options)

    def append(self, *bodies, headers=None, **conditions):
        """Plain text records as JSON; `conditions` are further fields of the input."""
        value = {"records": [{"body": body} for body in bodies], **conditions}
        return self.send("POST", "/records", value, headers)

    def append_records(self, records, headers=None, **conditions):
        return self.send("POST", "/records", {"records": records, **conditions}, headers)

    def read(self, headers=None, **query):
        return self.send("GET", "/records?" + urllib.parse.urlencode(query), None, headers)

    def tail(self):
        answer = self.send("GET", "/records/tail")
        assert answer.status == 200, answer
        return answer.json()["tail"]

    def fence(self, token):
        return self.append_records([command("fence", token)])

    def trim(self, seq_num):
        body = base64.b64encode(seq_num.to_bytes(8, "big")).decode()
        record = {"headers": [["", base64.b64encode(b"trim").decode()]], "body": body}
        return self.append_records([record], {"s2-format": "base64"})


def command(name, body):
    """A command record: its only header has an empty name."""
    return {"headers": [["", name]], "body": body}


# ---------------------------------------------------------------- a connection held open


class Conversation:
    """One HTTP/1.1 exchange whose two bodies are open at the same time, byte by byte."""

    def __init__(self, target, timeout=30):
        host, port = host_and_port(target)
        self.host = f"{host}:{port}"
        self.socket = socket.create_connection((host, port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        self.status = None
        self.headers = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send_head(self, method, path, headers):
        lines = [f"{method} {path} HTTP/1.1", f"host: {self.host}"] + [f"{k}: {v}" for k, v in headers.items()]
        self.socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send_chunk(self, data):
        self.socket.sendall(b"%x\r\n" % len(data) + data + b"\r\n")

    def finish_body(self):
        self.socket.sendall(b"0\r\n\r\n")

    def read_head(self):
        while b"\r\n\r\n" not in self.received:
            self._receive()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        self.status = int(lines[0].split()[1])
        self.headers = {k.strip().lower(): v.strip() for k, v in (line.split(":", 1) for line in lines[1:])}
        return self.status

    def read_chunk(self):
        """The next chunk of the response body, or `None` at its end."""
        while b"\r\n" not in self.received:
            self._receive()
        line, self.received = self.received.split(b"\r\n", 1)
        size = int(line.split(b";")[0], 16)
        while len(self.received) < size + 2:
            self._receive()
        chunk, self.received = self.received[:size], self.received[size + 2 :]
        return chunk if size else None

    def read_rest(self):
        """All further chunks, joined."""
        chunks = []
        while (chunk := self.read_chunk()) is not None:
            chunks.append(chunk)
        return b"".join(chunks)

    def received_body(self):
        """The whole body of an answer that has a length, or of one in chunks."""
        if "content-length" not in self.headers:
            return self.read_rest()
        length = int(self.headers["content-length"])
        while len(self.received) < length:
            self._receive()
        body, self.received = self.received[:length], self.received[length:]
        return body

    def _receive(self):
        data = self.socket.recv(65536)
        if not data:
            raise EOFError(f"closed with {self.received[:200]!r} unread")
        self.received += data


class Session(Conversation):
    """An s2s session on HTTP/1.1."""

    def __init__(self, target, timeout=30):
        super().__init__(target, timeout)
        self.frames_received = b""

    @classmethod
    def append(cls, stream, headers=None, timeout=30):
        session = cls(stream.target, timeout)
        session.send_head("POST", "/v1" + stream.path + "/records", {
            "s2-basin": stream.basin.name, "content-type": "s2s/proto", "transfer-encoding": "chunked", **(headers or {}),
        })
        return session

    @classmethod
    def read(cls, stream, headers=None, timeout=30, **query):
        session = cls(stream.target, timeout)
        path = "/v1" + stream.path + "/records?" + urllib.parse.urlencode(query)
        session.send_head("GET", path, {"s2-basin": stream.basin.name, "content-type": "s2s/proto", **(headers or {})})
        return session

    def send_frame(self, payload, flag=0):
        self.send_chunk(frame(payload, flag))

    def read_frame(self):
        """`(flag, payload)` of the next frame, or `None` at the end of the body."""
        while True:
            if len(self.frames_received) >= 3:
                length = int.from_bytes(self.frames_received[:3], "big")
                if len(self.frames_received) >= 3 + length:
                    whole, self.frames_received = self.frames_received[: 3 + length], self.frames_received[3 + length :]
                    return whole[3], whole[4:]
            chunk = self.read_chunk()
            if chunk is None:
                assert not self.frames_received, f"body ends inside a frame: {self.frames_received!r}"
                return None
            self.frames_received += chunk

    def read_ack(self):
        flag, payload = self.read_frame()
        assert flag & 0x80 == 0, terminal(payload)
        return append_ack(payload)

    def read_terminal(self):
        """`(status, JSON body)`; the response must end right after it."""
        flag, payload = self.read_frame()
        assert flag & 0x80, payload
        assert self.read_frame() is None, "a frame follows the terminal frame"
        return terminal(payload)


# ---------------------------------------------------------------- s2s frames

TERMINAL = 0x80
ZSTD = 0x20
GZIP = 0x40


def frame(payload, flag=0):
    return (len(payload) + 1).to_bytes(3, "big") + bytes([flag]) + payload


def terminal(payload):
    return int.from_bytes(payload[:2], "big"), json.loads(payload[2:])


def frames(data):
    """All frames of a whole body."""
    found = []
    while data:
        length = int.from_bytes(data[:3], "big")
        assert 1 <= length <= len(data) - 3, f"torn frame: {data[:40]!r}"
        found.append((data[3], data[4 : 3 + length]))
        data = data[3 + length :]
    return found


# ---------------------------------------------------------------- protobuf


def varint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field, value):
    return varint(field << 3) + varint(value)


def block(field, data):
    return varint(field << 3 | 2) + varint(len(data)) + data


def append_record(body=b"", headers=(), timestamp=None):
    out = b"" if timestamp is None else number(1, timestamp)
    for name, value in headers:
        out += block(2, block(1, name) + block(2, value))
    return out + block(3, body)


def append_input(records, match_seq_num=None, fencing_token=None):
    """`records` are bodies, or messages made by `append_record` and wrapped in `Encoded`."""
    out = b""
    for record in records:
        out += block(1, record.data if isinstance(record, Encoded) else append_record(record))
    if match_seq_num is not None:
        out += number(2, match_seq_num)
    if fencing_token is not None:
        out += block(3, fencing_token.encode())
    return out


class Encoded:
    """A protobuf message that is encoded already."""

    def __init__(self, data):
        self.data = data


def message(data):
    """`{field: [value, …]}`; varints as int, blocks as bytes."""
    fields, at = {}, 0

    def read_varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if not byte & 0x80:
                return value
            shift += 7

    while at < len(data):
        key = read_varint()
        if key & 7 == 0:
            value = read_varint()
        elif key & 7 == 2:
            length = read_varint()
            value, at = data[at : at + length], at + length
            assert len(value) == length, "protobuf block is cut short"
        else:
            raise AssertionError(f"unexpected wire type {key & 7}")
        fields.setdefault(key >> 3, []).append(value)
    return fields


def position(data):
    fields = message(data)
    return {"seq_num": fields.get(1, [0])[0], "timestamp": fields.get(2, [0])[0]}


def append_ack(data):
    fields = message(data)
    assert set(fields) == {1, 2, 3}, f"an ack has start, end and tail, always: {fields}"
    return {"start": position(fields[1][0]), "end": position(fields[2][0]), "tail": position(fields[3][0])}


def read_batch(data):
    """`{records: [{seq_num, timestamp, headers, body}], tail}`."""
    fields = message(data)
    records = []
    for item in fields.get(1, []):
        record = message(item)
        headers = [message(header) for header in record.get(3, [])]
        records.append({
            "seq_num": record.get(1, [0])[0],
            "timestamp": record.get(2, [0])[0],
            "headers": [(h.get(1, [b""])[0], h.get(2, [b""])[0]) for h in headers],
            "body": record.get(4, [b""])[0],
        })
    return {"records": records, "tail": position(fields[2][0]) if 2 in fields else None}
