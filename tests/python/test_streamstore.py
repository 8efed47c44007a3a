"""S2's Python client of the gRPC generation (PyPI `streamstore` 5.0.1): TLS, and a host name for each basin.

It trusts what gRPC trusts, which the environment can only say before the first connection, and it looks up
`<basin>.b.localhost`: both need this process to itself no less than the server.
"""

import os
import subprocess
import time

import pytest

import millrace_process
import raw_http

pytestmark = [
    pytest.mark.ours,
    pytest.mark.skipif(os.environ.get("MILLRACE_DRIVER") in ("glommio", "threads"), reason="the same with every driver"),
]

streamstore = pytest.importorskip("streamstore")
from streamstore import S2, schemas  # noqa: E402
from streamstore.schemas import AppendInput, BasinConfig, ReadLimit, Record, SeqNum, StreamConfig  # noqa: E402

BASE = "b.localhost"


class Tls(millrace_process.Millrace):
    def healthy(self):
        command = ["curl", "-fsS", "-m", "5", "--cacert", str(self.data.parent / "server.crt"), f"https://localhost:{self.port}/health"]
        return subprocess.run(command, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streamstore")
    certificate, key = folder / "server.crt", folder / "server.key"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate]
    command += ["-addext", f"subjectAltName=DNS:localhost,DNS:{BASE},DNS:*.{BASE}"]
    subprocess.run(command, check=True, capture_output=True)
    os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(certificate)
    with Tls(folder / "data", arguments=["--tls-cert", str(certificate), "--tls-key", str(key)]) as server:
        yield server


@pytest.fixture(params=[False, True], ids=["plain", "gzip"])
def connect(request, server):
    endpoints = schemas.Endpoints(f"localhost:{server.port}", f"{BASE}:{server.port}")
    return lambda: S2("any-token", endpoints=endpoints, enable_compression=request.param)


async def test_basins_and_streams(connect):
    async with connect() as s2:
        name = raw_http.unique("streamstore-")
        defaults = StreamConfig(storage_class=schemas.StorageClass.EXPRESS, retention_policy=60)
        info = await s2.create_basin(name, BasinConfig(defaults, create_stream_on_append=True))
        assert info.name == name and info.state == schemas.BasinState.ACTIVE
        assert [b.name for b in (await s2.list_basins(prefix=name)).items] == [name]
        config = await s2.get_basin_config(name)
        assert config.default_stream_config.retention_policy == 60 and config.create_stream_on_append
        config = await s2.reconfigure_basin(name, BasinConfig(StreamConfig(retention_policy="infinite"), False))
        assert config.default_stream_config.retention_policy == "infinite" and not config.create_stream_on_append
        assert config.default_stream_config.storage_class == schemas.StorageClass.EXPRESS
        basin = s2[name]
        created = await basin.create_stream("a/b", StreamConfig(timestamping=schemas.Timestamping(uncapped=True)))
        assert created.name == "a/b" and created.deleted_at is None
        assert abs(created.created_at.timestamp() - time.time()) < 60
        changed = await basin.reconfigure_stream("a/b", StreamConfig(timestamping=schemas.Timestamping(uncapped=False), delete_on_empty_min_age=7))
        assert changed.timestamping.uncapped is False and changed.delete_on_empty_min_age == 7
        assert (await basin.get_stream_config("a/b")).retention_policy == "infinite"
        assert [s.name for s in (await basin.list_streams()).items] == ["a/b"]
        await basin.delete_stream("a/b")
        await s2.delete_basin(name)
        with pytest.raises(streamstore.S2Error, match="is being deleted"):
            await s2.create_basin(name)


async def test_records(connect):
    async with connect() as s2:
        name = raw_http.unique("streamstore-")
        await s2.create_basin(name)
        await s2[name].create_stream("s")
        stream = s2[name].stream("s")
        output = await stream.append(AppendInput([Record(b"x" * 5000, [(b"n", b"v")], timestamp=5)], match_seq_num=0))
        assert (output.start_seq_num, output.end_seq_num, output.last_timestamp) == (0, 1, 5)
        with pytest.raises(streamstore.S2Error, match="sequence number mismatch"):
            await stream.append(AppendInput([Record(b"x")], match_seq_num=0))

        async def inputs():
            for i in range(50):
                yield AppendInput([Record(f"{i}".encode())])

        acks = [output.start_seq_num async for output in stream.append_session(inputs())]
        assert acks == list(range(1, 51))
        tail = await stream.check_tail()
        assert tail.next_seq_num == 51
        (first, *_) = await stream.read(SeqNum(0))
        assert (first.seq_num, first.headers, first.body, first.timestamp) == (0, [(b"n", b"v")], b"x" * 5000, 5)
        assert await stream.read(SeqNum(99)) == schemas.Tail(51, 0)
        read = []
        async for batch in stream.read_session(SeqNum(1), limit=ReadLimit(count=50)):
            read += batch
        assert [record.body for record in read] == [f"{i}".encode() for i in range(50)]


async def test_access_tokens(connect):
    async with connect() as s2:
        token_id = raw_http.unique("streamstore-")
        everything = schemas.ResourceMatchRule(schemas.ResourceMatchOp.PREFIX, "")
        scope = schemas.AccessTokenScope(basins=everything, streams=everything, ops=[schemas.Operation.APPEND])
        assert await s2.issue_access_token(token_id, scope)
        (info,) = (await s2.list_access_tokens(prefix=token_id)).items
        assert info.id == token_id and info.expires_at == 2**32 - 1 and info.scope.ops == [schemas.Operation.APPEND]
        assert (await s2.revoke_access_token(token_id)).id == token_id
