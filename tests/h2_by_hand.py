"""HTTP/2 with prior knowledge, spelled out in bytes: enough to send one small request and to be rude on purpose."""

import socket

import raw_http

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8


def frame(kind, flags, stream_id, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream_id.to_bytes(4, "big") + payload


def literal(name, value):
    """A header that is in no table: literal without indexing, no Huffman code."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


class Connection:
    def __init__(self, target, timeout=10):
        self.socket = socket.create_connection(raw_http.host_and_port(target), timeout=timeout)
        self.received = b""
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        self.socket.sendall(data)

    def read_frame(self):
        while len(self.received) < 9 or len(self.received) < 9 + int.from_bytes(self.received[:3], "big"):
            data = self.socket.recv(65536)
            if not data:
                raise EOFError
            self.received += data
        length = int.from_bytes(self.received[:3], "big")
        kind, flags = self.received[3], self.received[4]
        stream_id = int.from_bytes(self.received[5:9], "big")
        payload, self.received = self.received[9 : 9 + length], self.received[9 + length :]
        return kind, flags, stream_id, payload

    def get(self, path, stream_id=1):
        """The status of a GET, or 0 when the answer does not begin with an indexed `:status`."""
        block = b"\x82\x86" + literal(b":path", path.encode()) + literal(b":authority", b"localhost")
        self.send(frame(HEADERS, 0x5, stream_id, block))
        while True:
            kind, flags, for_stream, payload = self.read_frame()
            if kind == SETTINGS and not flags & 1:
                self.send(frame(SETTINGS, 1, 0))
            if kind == HEADERS and for_stream == stream_id:
                indexed = {0x88: 200, 0x89: 204, 0x8B: 304, 0x8C: 400, 0x8D: 404, 0x8E: 500}
                # A change of table size (001xxxxx) may come first.
                while payload and payload[0] >> 5 == 1:
                    payload = payload[1:]
                return indexed.get(payload[0], 0)

    def ping(self):
        """True once the server answers a PING."""
        self.send(frame(PING, 0, 0, b"millrace"))
        while True:
            kind, flags, _, payload = self.read_frame()
            if kind == PING and flags & 1:
                return payload == b"millrace"
