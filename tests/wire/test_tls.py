"""TLS on the server's port: both protocols, reload, client certificates, and what comes without TLS."""

import http.client
import os
import pathlib
import signal
import socket
import ssl
import subprocess
import time

import pytest

import millrace_process

# What runs the shards makes no difference here: once is enough.
pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(os.environ.get("MILLRACE_DRIVER") in ("glommio", "threads"), reason="the same with every driver"),
]


def make_certificate(folder, name, signer=None):
    """`(certificate, key)` for 127.0.0.1, signed by itself or by `signer`."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", f"/CN={name}", "-keyout", key, "-out", cert]
    if signer:
        command += ["-CA", signer[0], "-CAkey", signer[1], "-addext", "basicConstraints=critical,CA:FALSE"]
        command += ["-addext", "extendedKeyUsage=serverAuth,clientAuth"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"]
    subprocess.run(command, check=True, capture_output=True)
    return cert, key


class Tls(millrace_process.Millrace):
    """A server that is looked at through TLS, with what its client trusts and shows."""

    def __init__(self, data, arguments, trust=None, shows=None):
        super().__init__(data, arguments=arguments)
        self.trust, self.shows = trust, shows

    def context(self, alpn=None):
        context = ssl.create_default_context(cafile=self.trust or self.data / "tls-self.crt")
        if self.shows:
            context.load_cert_chain(*self.shows)
        if alpn:
            context.set_alpn_protocols(alpn)
        return context

    def request(self, method, path, body=None, headers=None):
        connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=self.context())
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def healthy(self):
        try:
            return self.request("GET", "/health")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def certificate(self):
        """What the server shows now."""
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=10)
        with self.context().wrap_socket(raw, server_hostname="127.0.0.1") as stream:
            return stream.getpeercert(binary_form=True)


@pytest.fixture
def own(tmp_path):
    with Tls(tmp_path / "data", ["--tls-self"]) as server:
        yield server


def test_tls_self_serves_and_keeps_its_certificate(own):
    headers = {"content-type": "application/json"}
    assert own.request("POST", "/v1/basins", b'{"basin":"over-tls-1"}', headers)[0] == 201
    before = own.certificate()
    assert f"https://127.0.0.1:{own.port}" in own.log_end() and "tls-self.crt" in own.log_end()
    assert (own.data / "tls-self.key").stat().st_mode & 0o077 == 0
    own.terminate()
    own.start()
    assert own.certificate() == before


@pytest.mark.parametrize("offered,chosen", [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (None, None)])
def test_alpn_chooses_the_protocol(own, offered, chosen):
    raw = socket.create_connection(("127.0.0.1", own.port), timeout=10)
    with own.context(offered).wrap_socket(raw, server_hostname="127.0.0.1") as stream:
        assert stream.selected_alpn_protocol() == chosen


def curl(server, *arguments):
    command = ["curl", "-sS", "--max-time", "20", "--cacert", str(server.data / "tls-self.crt"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_curl_speaks_both_protocols_and_sends_a_file(own, tmp_path):
    base = f"https://127.0.0.1:{own.port}/v1"
    json_type = ["-H", "content-type: application/json"]
    config = '{"basin":"over-tls-2","config":{"create_stream_on_append":true}}'
    curl(own, *json_type, "-d", config, f"{base}/basins")
    body = tmp_path / "body.json"
    body.write_text('{"records":[{"body":"' + "x" * 700_000 + '"}]}')
    for protocol, version in [("--http1.1", "1.1"), ("--http2", "2")]:
        to_stream = [*json_type, "-H", "s2-basin: over-tls-2", f"{base}/streams/s/records"]
        out = curl(own, protocol, "-w", " %{http_version} %{http_code}", "-d", f"@{body}", *to_stream)
        assert out.endswith(f" {version} 200"), out
    read = curl(own, "-H", "s2-basin: over-tls-2", f"{base}/streams/s/records?seq_num=0&count=1")
    assert read.count("x") >= 700_000


def test_a_request_that_crosses_with_the_end_of_the_server_is_answered(own):
    kept = http.client.HTTPSConnection("127.0.0.1", own.port, timeout=10, context=own.context())
    kept.request("GET", "/v1/basins")
    assert kept.getresponse().read().startswith(b'{"basins"')
    assert own.terminate() == 0
    kept.auto_open = False
    kept.request("GET", "/v1/basins")
    answer = kept.getresponse()
    assert answer.status == 503 and b"server_draining" in answer.read()


def test_plain_http_is_told_what_to_do(own):
    connection = http.client.HTTPConnection("127.0.0.1", own.port, timeout=10)
    connection.request("GET", "/health")
    answer = connection.getresponse()
    assert answer.status == 400 and b"https" in answer.read()


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\xff\xff" + b"\0" * 5000, b"\0" * 64, b"\x80\x2e\x01\x00\x02", os.urandom(3000)])
def test_garbage_ends_its_own_connection(own, sent):
    with socket.create_connection(("127.0.0.1", own.port), timeout=20) as stream:
        stream.sendall(sent)
        try:
            while stream.recv(4096):
                pass
        except ConnectionResetError:
            pass
    assert own.healthy() and "panicked" not in own.log_end(100_000)


def test_a_handshake_that_does_not_go_on_is_cut(own):
    with socket.create_connection(("127.0.0.1", own.port), timeout=25) as stream:
        began = time.monotonic()
        stream.sendall(b"\x16\x03\x01")
        assert stream.recv(1) == b""
        assert 5 < time.monotonic() - began < 20
    assert own.healthy()


def eventually(ask, expected):
    deadline = time.monotonic() + 15
    while ask() != expected and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ask() == expected


def test_new_certificates_are_taken_up_and_bad_ones_are_not(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority = make_certificate(folder, "authority")
    first, second = (make_certificate(folder, name, authority) for name in ["first", "second"])
    used = folder / "used.crt", folder / "used.key"

    def use(pair):
        for source, place in zip(pair, used):
            place.write_bytes(pathlib.Path(source).read_bytes())

    def der(pair):
        return ssl.PEM_cert_to_DER_cert(pathlib.Path(pair[0]).read_text())

    use(first)
    arguments = ["--tls-cert", str(used[0]), "--tls-key", str(used[1])]
    with Tls(tmp_path / "data", arguments, trust=authority[0]) as server:
        assert server.certificate() == der(first)
        use(second)
        eventually(server.certificate, der(second))
        used[0].write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 10
        while "stay in force" not in server.log_end() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert "stay in force" in server.log_end() and str(used[0]) in server.log_end()
        assert server.certificate() == der(second)
        use(first)
        eventually(server.certificate, der(first))


def test_clients_must_show_a_certificate_when_an_authority_for_them_is_named(tmp_path):
    folder = tmp_path / "certificates"
    folder.mkdir()
    authority, stranger = make_certificate(folder, "authority"), make_certificate(folder, "stranger")
    served, client = (make_certificate(folder, name, authority) for name in ["server", "client"])
    arguments = ["--tls-cert", str(served[0]), "--tls-key", str(served[1]), "--tls-client-ca", str(authority[0])]
    with Tls(tmp_path / "data", arguments, trust=authority[0], shows=client) as server:
        assert server.request("GET", "/health")[0] == 200
        for shows in [None, stranger]:
            server.shows = shows
            with pytest.raises((ssl.SSLError, ConnectionError)):
                server.request("GET", "/health")
        server.shows = client
        assert server.healthy()


REFUSED = [
    (["--tls-cert", "a.crt"], "belong together"),
    (["--tls-key", "a.key"], "belong together"),
    (["--tls-cert", "none.crt", "--tls-key", "none.key"], "none.crt"),
    (["--tls-client-ca", "a.crt"], "needs TLS"),
    (["--tls-self", "--tls-cert", "a", "--tls-key", "b"], "tls-self"),
]


@pytest.mark.parametrize("arguments,text", REFUSED)
def test_settings_that_make_no_sense_say_so(tmp_path, arguments, text):
    server = millrace_process.Millrace(tmp_path / "data", arguments=arguments)
    server.spawn()
    assert server.process.wait(20) == 2
    assert text in server.log_end()
