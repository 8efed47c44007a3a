"""Garbage at a port that speaks TLS: before, in and behind the handshake. Others must be served all the while."""

import contextlib
import http.client
import random
import socket
import ssl
import time

import attacks
from millrace_process import Millrace

ALL = []


def attack(function):
    ALL.append(function)
    return function


class TlsServer(Millrace):
    """A server with a certificate of its own."""

    def __init__(self, data, driver, arguments):
        super().__init__(data, driver, [*arguments, "--tls-self"])

    def context(self):
        return ssl.create_default_context(cafile=self.data / "tls-self.crt")

    def connect(self):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        return self.context().wrap_socket(raw, server_hostname="127.0.0.1")

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.context())
        with contextlib.closing(connection):
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()

    def healthy(self):
        try:
            return self.request("GET", "/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False


def client_hello(server):
    """The first bytes of a real client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    stream = server.context().wrap_bio(incoming, outgoing, server_hostname="127.0.0.1")
    with contextlib.suppress(ssl.SSLWantReadError):
        stream.do_handshake()
    return outgoing.read()


def throw(server, data, timeout=0.2):
    return attacks.throw(f"http://127.0.0.1:{server.port}", data, timeout=timeout)


@attack
def random_bytes(rng, server):
    """TLS: random bytes instead of a handshake"""
    for size in [1, 2, 5, 16, 100, 1000, 100_000] * 4:
        throw(server, rng.randbytes(size))
    for _ in range(50):
        # Looks like a record of a handshake.
        throw(server, b"\x16\x03" + rng.randbytes(1) + rng.randbytes(2) + rng.randbytes(rng.randint(0, 20_000)))


@attack
def broken_hellos(rng, server):
    """TLS: mutated client hellos"""
    hello = client_hello(server)
    for _ in range(150):
        throw(server, attacks.mutate(rng, hello))
    for cut in range(0, len(hello), 37):
        throw(server, hello[:cut], timeout=0.05)


@attack
def clear_text(rng, server):
    """TLS: clear text and its mutations"""
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    whole = b"GET /v1/basins HTTP/1.1\r\nhost: x\r\nauthorization: Bearer secret\r\n\r\n"
    assert throw(server, whole, timeout=5).startswith(b"HTTP/1.1 400"), "clear text is told that this is https"
    for data in [preface, whole, b"GET /" + b"a" * 1_000_000]:
        for _ in range(30):
            attacks.expect_no_500(throw(server, attacks.mutate(rng, data)))


@attack
def garbage_behind_the_handshake(rng, server):
    """TLS: garbage behind a good handshake, in records and in HTTP"""
    for i in range(60):
        stream = server.connect()
        with contextlib.suppress(OSError):
            if i % 2:
                stream.sendall(rng.randbytes(rng.randint(1, 50_000)))
                stream.settimeout(0.2)
                stream.recv(100)
            else:
                # Below TLS: a record that no key fits.
                socket.socket.sendall(stream, b"\x17\x03\x03\x01\x00" + rng.randbytes(256))
        stream.close()


@attack
def abandoned_handshakes(rng, server):
    """TLS: hundreds of handshakes that are begun and left"""
    hello = client_hello(server)
    sockets = []
    for _ in range(400):
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        raw.sendall(hello[: rng.randint(1, len(hello))])
        sockets.append(raw)
    assert server.healthy(), "others are not served beside them"
    for raw in sockets:
        raw.close()


def checks(folder, options, arguments, growth_bytes_max):
    """`(name, check)` for a server that lives as long as the checks are taken."""
    with TlsServer(folder / "tls", options.driver, arguments) as server:
        for _ in range(20):
            assert server.healthy()
        before = server.resident_bytes()

        def expect_service():
            assert server.alive(), f"the server ended with {server.process.returncode}"
            began = time.monotonic()
            assert server.healthy(), "/health is not OK"
            grown = server.resident_bytes() - before
            assert grown <= growth_bytes_max, f"holds {grown >> 20} MiB more than before"
            return f"health in {time.monotonic() - began:.2f} s, {server.resident_bytes() >> 20} MiB"

        for each in ALL:
            rng = random.Random(f"{options.seed} tls {each.__name__}")

            def check():
                for _ in range(options.times):
                    each(rng, server)
                return expect_service()

            yield each.__doc__.split("\n")[0], check

        def quiet_end():
            status = server.terminate()
            assert status == 0, f"SIGTERM ends it with {status}"
            assert b"panicked" not in server.log_path.read_bytes(), f"a panic: {server.log_end()}"
            assert b"secret" not in server.log_path.read_bytes(), "a token of a request is in the log"

        yield "TLS: the end is clean, the log has no panic and no secret", quiet_end
