"""gRPC calls whose bytes are made here: what no client library would send, and zstd, which Python's does not have."""

import socket
import struct

import h2.config
import h2.connection
import h2.events

import raw_http

PLAIN, COMPRESSED = 0, 1


def framed(message, flag=PLAIN):
    return bytes([flag]) + struct.pack(">I", len(message)) + message


def messages(body):
    """`(flag, message)` of each in a body."""
    while body:
        (length,) = struct.unpack(">I", body[1:5])
        yield body[0], body[5 : 5 + length]
        body = body[5 + length :]


class Answer:
    def __init__(self):
        self.head, self.body, self.trailers = {}, b"", {}

    @property
    def status(self):
        """`grpc-status`, which stands in the head where there is nothing else."""
        return int({**self.head, **self.trailers}["grpc-status"])

    @property
    def message(self):
        return {**self.head, **self.trailers}.get("grpc-message", "")


def call(target, path, body, headers=(), timeout=10):
    """One call on a connection of its own; its body fits the window that every HTTP/2 connection begins with."""
    connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
    answer = Answer()
    with socket.create_connection(raw_http.host_and_port(target), timeout=timeout) as sock:
        connection.initiate_connection()
        head = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "localhost", "te": "trailers",
                "content-type": "application/grpc", **dict(headers)}
        connection.send_headers(1, list(head.items()))
        for at in range(0, len(body), 16384):
            connection.send_data(1, body[at : at + 16384])
        connection.end_stream(1)
        sock.sendall(connection.data_to_send())
        while True:
            received = sock.recv(65536)
            if not received:
                raise EOFError("the connection ended before the answer did")
            for event in connection.receive_data(received):
                if isinstance(event, h2.events.ResponseReceived):
                    answer.head = dict(event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    answer.body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, 1)
                elif isinstance(event, h2.events.TrailersReceived):
                    answer.trailers = dict(event.headers)
                elif isinstance(event, h2.events.StreamReset):
                    raise EOFError(f"the stream was reset: {event.error_code}")
                elif isinstance(event, h2.events.StreamEnded):
                    return answer
            sock.sendall(connection.data_to_send())
