"""gRPC, package `s2.v1alpha`, by a client that knows nothing but what server reflection says (docs/grpc.md)."""

import base64
import itertools
import os
import queue
import threading
import time

import grpc
import pytest
import zstandard

import millrace_process
import raw_grpc
import raw_http
from grpc_client import Reflected, detail, plain

pytestmark = pytest.mark.ours

Code = grpc.StatusCode
KEY = base64.b64encode(bytes(range(32))).decode()
ROOT = "the-root-token-of-these-grpc-tests"
INFINITE = {"infinite": {}}


@pytest.fixture(scope="module")
def api(target):
    with plain(target) as channel:
        yield Reflected(channel)


@pytest.fixture(scope="module")
def basin_name(api):
    name = raw_http.unique("grpc-basin-")
    api.CreateBasin(basin=name)
    return name


@pytest.fixture
def here(api, basin_name):
    """Calls on streams of the basin."""
    return api.with_metadata(("s2-basin", basin_name))


@pytest.fixture
def stream(here):
    name = raw_http.unique("stream/")
    here.CreateStream(stream=name, config={"timestamping": {"uncapped": True}})
    return name


def records(*bodies, **fields):
    return [{"body": body.encode(), **fields} for body in bodies]


def append(caller, stream, *bodies, **conditions):
    return caller.Append(input={"stream": stream, "records": records(*bodies), **conditions}).output


def bodies(batch):
    return [record.body.decode() for record in batch.records]


def refused(code, call, **fields):
    with pytest.raises(grpc.RpcError) as caught:
        call(**fields)
    assert caught.value.code() == code, caught.value
    return caught.value


def ended(code, answers):
    """Takes what a session still says; it must end so."""
    with pytest.raises(grpc.RpcError) as caught:
        for _ in answers:
            pass
    assert caught.value.code() == code, caught.value
    return caught.value


class Inputs:
    """Inputs of an append session, sent one by one."""

    def __init__(self, api):
        self.api, self.queue = api, queue.Queue()

    def send(self, *bodies, **fields):
        records_ = records(*bodies)
        self.queue.put(self.api.types.AppendSessionRequest(input={"records": records_, **fields}))

    def close(self):
        self.queue.put(None)

    def __iter__(self):
        return self

    def __next__(self):
        sent = self.queue.get()
        if sent is None:
            raise StopIteration
        return sent


# The account.


def test_basins_are_created_listed_configured_and_deleted(api):
    name = raw_http.unique("grpc-life-")
    config = {"default_stream_config": {"storage_class": 2, "age": 60}, "create_stream_on_append": True}
    info = api.CreateBasin(basin=name, config=config, scope=1).info
    assert (info.name, info.state) == (name, 1)
    listed = api.ListBasins(prefix=name, limit=1)
    assert [b.name for b in listed.basins] == [name] and not listed.has_more
    shown = api.GetBasinConfig(basin=name).config
    assert shown.default_stream_config.age == 60 and shown.default_stream_config.storage_class == 2
    assert shown.create_stream_on_append and not shown.create_stream_on_read
    changed = api.ReconfigureBasin(
        basin=name,
        config={"default_stream_config": INFINITE, "create_stream_on_read": True},
        mask={"paths": ["default_stream_config.retention_policy", "default_stream_config.storage_class",
                        "create_stream_on_append", "create_stream_on_read"]},
    ).config
    assert changed.default_stream_config.HasField("infinite") and changed.default_stream_config.storage_class == 0
    assert (changed.create_stream_on_append, changed.create_stream_on_read) == (False, True)
    error = refused(Code.ALREADY_EXISTS, api.CreateBasin, basin=name)
    assert detail(error, api).code == "resource_already_exists"
    api.DeleteBasin(basin=name)
    error = refused(Code.FAILED_PRECONDITION, api.CreateBasin, basin=name)
    assert detail(error, api).code == "basin_deletion_pending"
    assert detail(refused(Code.NOT_FOUND, api.GetBasinConfig, basin="no-such-basin"), api).code == "basin_not_found"
    for bad in [{"basin": "Short"}, {"basin": name, "config": {"default_stream_config": {"age": 0}}}]:
        refused(Code.INVALID_ARGUMENT, api.CreateBasin, **bad)
    error = refused(Code.INVALID_ARGUMENT, api.ReconfigureBasin, basin=name, mask={"paths": ["colour"]})
    assert "colour" in error.details()


def test_a_request_token_creates_once(api):
    name = raw_http.unique("grpc-once-")
    once = api.with_metadata(("s2-request-token", "0" * 32))
    assert once.CreateBasin(basin=name).info == once.CreateBasin(basin=name).info
    refused(Code.ALREADY_EXISTS, once.CreateBasin, basin=name, config={"create_stream_on_read": True})
    streams = api.with_metadata(("s2-request-token", "1" * 32), ("s2-basin", name))
    assert streams.CreateStream(stream="s").info == streams.CreateStream(stream="s").info
    long = api.with_metadata(("s2-request-token", "x" * 37))
    refused(Code.INVALID_ARGUMENT, long.CreateBasin, basin=name)


# Streams of a basin.


def test_streams_are_created_listed_configured_and_deleted(api, here, basin_name):
    name = raw_http.unique("life/")
    info = here.CreateStream(stream=name, config={"storage_class": 1, "age": 60}).info
    assert info.name == name and abs(info.created_at - time.time()) < 60 and not info.HasField("deleted_at")
    assert [s.name for s in here.ListStreams(prefix=name).streams] == [name]
    config = here.GetStreamConfig(stream=name).config
    assert config.age == 60 and config.storage_class == 1 and config.timestamping.mode == 1
    changed = here.ReconfigureStream(
        stream=name,
        config={"timestamping": {"mode": 3, "uncapped": True}, "delete_on_empty": {"min_age_secs": 7}, "age": 5},
        mask={"paths": ["timestamping.mode", "delete_on_empty.min_age_secs", "storage_class"]},
    ).config
    assert changed.timestamping.mode == 3 and not changed.timestamping.uncapped
    assert (changed.delete_on_empty.min_age_secs, changed.age, changed.storage_class) == (7, 60, 0)
    unmasked = here.ReconfigureStream(stream=name, config=INFINITE).config
    assert unmasked.HasField("infinite") and unmasked.timestamping.mode == 3
    error = refused(Code.ALREADY_EXISTS, here.CreateStream, stream=name)
    assert error.details() == f"stream `{name}` in basin `{basin_name}` already exists"
    here.DeleteStream(stream=name)
    error = refused(Code.FAILED_PRECONDITION, here.GetStreamConfig, stream=name)
    assert detail(error, api).code == "stream_deletion_pending"
    error = refused(Code.NOT_FOUND, here.CheckTail, stream="no/such")
    assert detail(error, api).code == "stream_not_found"


def test_the_basin_comes_by_metadata_or_by_host(api, target, basin_name, stream):
    error = refused(Code.INVALID_ARGUMENT, api.ListStreams)
    assert "s2-basin" in error.details() and detail(error, api).code == "bad_header"
    port = target.rsplit(":", 1)[1]
    options = [("grpc.default_authority", f"{basin_name}.b.example.org:{port}")]
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        assert Reflected(channel).CheckTail(stream=stream).next_seq_num == 0


# Records.


def test_what_is_appended_is_read(here, stream):
    sent = [
        {"body": b"first", "timestamp": 100},
        {"body": b"", "headers": [{"name": b"n", "value": b"\xff\x00"}, {"name": b"m"}], "timestamp": 200},
        {"body": bytes(range(256)) * 40, "timestamp": 300},
    ]
    output = here.Append(input={"stream": stream, "records": sent}).output
    assert (output.start_seq_num, output.end_seq_num, output.next_seq_num) == (0, 3, 3)
    assert (output.start_timestamp, output.end_timestamp, output.last_timestamp) == (100, 300, 300)
    tail = here.CheckTail(stream=stream)
    assert (tail.next_seq_num, tail.last_timestamp) == (3, 300)
    batch = here.Read(stream=stream, seq_num=0).output.batch
    assert [(r.seq_num, r.timestamp, r.body) for r in batch.records] == [
        (i, r["timestamp"], r["body"]) for i, r in enumerate(sent)
    ]
    assert [(h.name, h.value) for h in batch.records[1].headers] == [(b"n", b"\xff\x00"), (b"m", b"")]
    answers = list(here.ReadSession(stream=stream, seq_num=1, limit={"count": 10}))
    assert [r.seq_num for a in answers for r in a.output.batch.records] == [1, 2]


def test_starts_and_limits(here, stream):
    for i in range(5):
        here.Append(input={"stream": stream, "records": records(str(i), timestamp=10 * (i + 1))})
    for fields, expected in [
        ({}, "01234"),
        ({"timestamp": 25}, "234"),
        ({"tail_offset": 2}, "34"),
        ({"seq_num": 1, "limit": {"count": 2}}, "12"),
        ({"seq_num": 1, "until": 40}, "12"),
        ({"seq_num": 0, "limit": {"bytes": 9}}, "0"),
        ({"seq_num": 0, "limit": {"bytes": 1}}, ""),
        ({"seq_num": 9, "limit": {"count": 0}}, ""),
    ]:
        output = here.Read(stream=stream, **fields).output
        assert output.WhichOneof("output") == "batch" and "".join(bodies(output.batch)) == expected, fields
    error = refused(Code.INVALID_ARGUMENT, here.Read, stream=stream, timestamp=5, until=5)
    assert "until" in error.details()


@pytest.mark.parametrize("fields", [{"seq_num": 9}, {"seq_num": 1}, {"seq_num": 9, "clamp": True}, {"tail_offset": 0}])
def test_at_the_tail_or_beyond_it_is_told_where_the_tail_is(here, stream, fields):
    append(here, stream, "x")
    output = here.Read(stream=stream, **fields).output
    assert output.WhichOneof("output") == "next_seq_num" and output.next_seq_num == 1
    (answer,) = here.ReadSession(stream=stream, limit={"count": 5}, **fields)
    assert answer.output.next_seq_num == 1


def test_a_session_beyond_the_tail_ends_and_one_at_the_tail_follows(here, stream):
    append(here, stream, "x")
    (answer,) = here.ReadSession(stream=stream, seq_num=7)
    assert answer.output.next_seq_num == 1
    clamped = here.ReadSession(stream=stream, seq_num=7, clamp=True)
    following = here.ReadSession(stream=stream, seq_num=1)
    append(here, stream, "y")
    for session in (clamped, following):
        assert bodies(next(session).output.batch) == ["y"]
        session.cancel()


def test_heartbeats_come_at_once_where_they_are_wanted(here, stream):
    append(here, stream, "x")
    session = here.ReadSession(stream=stream, heartbeats=True)
    assert bodies(next(session).output.batch) == ["x"]
    began = time.monotonic()
    assert not next(session).HasField("output") and time.monotonic() - began < 3
    assert not next(session).HasField("output") and time.monotonic() - began < 15.5
    session.cancel()
    ended(Code.DEADLINE_EXCEEDED, silence(here.within(1).ReadSession(stream=stream, seq_num=1)))


def silence(session):
    for answer in session:
        raise AssertionError(f"nobody asked for {answer}")
    yield


def test_conditions_and_their_details(api, here, stream):
    append(here, stream, "a", match_seq_num=0)
    error = refused(Code.FAILED_PRECONDITION, here.Append, input={"stream": stream, "records": records("b"), "match_seq_num": 0})
    assert detail(error, api).seq_num_mismatch == 1 and detail(error, api).code == "seq_num_mismatch"
    fence = {"headers": [{"value": b"fence"}], "body": b"mine"}
    here.Append(input={"stream": stream, "records": [fence]})
    error = refused(Code.FAILED_PRECONDITION, here.Append, input={"stream": stream, "records": records("b"), "fencing_token": ""})
    assert detail(error, api).fencing_token_mismatch == "mine"
    assert append(here, stream, "b", fencing_token="mine").start_seq_num == 2
    for bad in [{"stream": stream}, {"records": records("x")}, {"stream": stream, "records": records("x"), "fencing_token": "x" * 37}]:
        refused(Code.INVALID_ARGUMENT, here.Append, input=bad)
    refused(Code.INVALID_ARGUMENT, here.Append)


def test_an_append_session_acknowledges_in_order(api, here, stream):
    inputs = Inputs(api)
    acks = here.AppendSession(inputs)
    # The head of the answer comes before any input.
    assert acks.initial_metadata() is not None
    for i in range(20):
        inputs.send(f"a{i}", f"b{i}", **({"stream": stream} if i % 7 == 0 else {}))
    for i in range(20):
        assert next(acks).output.start_seq_num == 2 * i
    inputs.send("late")
    assert next(acks).output.end_seq_num == 41
    inputs.close()
    assert list(acks) == [] and acks.code() == Code.OK


def test_a_failure_ends_an_append_session_behind_earlier_acks(api, here, stream):
    inputs = Inputs(api)
    acks = here.AppendSession(inputs)
    inputs.send("a", stream=stream)
    inputs.send("b", match_seq_num=7)
    inputs.send("c")
    assert next(acks).output.end_seq_num == 1
    error = ended(Code.FAILED_PRECONDITION, acks)
    inputs.close()
    assert detail(error, api).seq_num_mismatch == 1
    assert here.CheckTail(stream=stream).next_seq_num == 1


@pytest.mark.parametrize(
    "code, inputs",
    [
        (Code.NOT_FOUND, [{"stream": "no/such", "records": records("x")}]),
        (Code.INVALID_ARGUMENT, [{"records": records("x")}]),
        (Code.INVALID_ARGUMENT, [{"stream": "STREAM", "records": []}]),
        (Code.INVALID_ARGUMENT, [{"stream": "STREAM", "records": records("x")}, {"stream": "other", "records": records("x")}]),
    ],
)
def test_bad_inputs_end_an_append_session(api, here, stream, code, inputs):
    inputs = [{**i, "stream": stream} if i.get("stream") == "STREAM" else i for i in inputs]
    ended(code, here.AppendSession(iter([api.types.AppendSessionRequest(input=i) for i in inputs])))


def test_an_append_session_without_any_input_is_fine(here):
    assert list(here.AppendSession(iter([]))) == []


def test_a_read_session_reads_a_lot_while_it_is_appended(api, here, stream):
    count = 200
    inputs = Inputs(api)
    acks = here.AppendSession(inputs)
    session = here.ReadSession(stream=stream)
    for i in range(count):
        inputs.send(f"{i:08}" * 500, stream=stream)
    inputs.close()
    read = itertools.islice((r for a in session for r in a.output.batch.records), count)
    assert [r.body[:8].decode() for r in read] == [f"{i:08}" for i in range(count)]
    assert len(list(acks)) == count
    session.cancel()


# What v1alpha cannot say.


@pytest.mark.parametrize("cipher", ["aegis-256", "aes-256-gcm"])
def test_records_are_sealed_with_the_key_in_the_metadata(api, account, cipher):
    basin = account.create_basin({"stream_cipher": cipher})
    stream = basin.create_stream().name
    keyed = api.with_metadata(("s2-basin", basin.name), ("s2-encryption-key", KEY))
    blind = api.with_metadata(("s2-basin", basin.name))
    append(keyed, stream, "sealed")
    ack = next(keyed.AppendSession(iter([api.types.AppendSessionRequest(input={"stream": stream, "records": records("too")})])))
    assert ack.output.end_seq_num == 2
    assert bodies(keyed.Read(stream=stream).output.batch) == ["sealed", "too"]
    answers = list(keyed.ReadSession(stream=stream, limit={"count": 2}))
    assert [b for a in answers for b in bodies(a.output.batch)] == ["sealed", "too"]
    for call, fields in [(blind.Append, {"input": {"stream": stream, "records": records("x")}}), (blind.Read, {"stream": stream})]:
        error = refused(Code.INVALID_ARGUMENT, call, **fields)
        assert "missing encryption key" in error.details()
    other = base64.b64encode(b"\xff" * 32).decode()
    wrong = api.with_metadata(("s2-basin", basin.name), ("s2-encryption-key", other))
    assert detail(refused(Code.INVALID_ARGUMENT, wrong.Read, stream=stream), api).code == "decryption_failed"
    assert detail(ended(Code.INVALID_ARGUMENT, wrong.ReadSession(stream=stream)), api).code == "decryption_failed"


def test_a_stream_that_is_created_by_the_way_takes_the_config_in_the_metadata(api, account):
    basin = account.create_basin({"create_stream_on_append": True, "create_stream_on_read": True})
    with_config = api.with_metadata(("s2-basin", basin.name), ("s2-stream-config", '{"retention_policy":{"age":77}}'))
    append(with_config, "by-append", "x")
    sent = api.types.AppendSessionRequest(input={"stream": "by-session", "records": records("x")})
    assert list(with_config.AppendSession(iter([sent])))
    assert with_config.Read(stream="by-read").output.WhichOneof("output") == "next_seq_num"
    for name in ("by-append", "by-session", "by-read"):
        assert with_config.GetStreamConfig(stream=name).config.age == 77, name
    bad = api.with_metadata(("s2-basin", basin.name), ("s2-stream-config", "{"))
    refused(Code.INVALID_ARGUMENT, bad.Append, input={"stream": "x", "records": records("x")})


def test_leases(api, here, stream):
    assert not here.Inspect(stream=stream).HasField("lease")
    answer = here.Acquire(stream=stream, holder="one", duration_ms=5000)
    assert answer.lease.holder == "one" and 0 < answer.lease.expires_in_ms <= 5000
    append(here, stream, "x", fencing_token=answer.token)
    error = refused(Code.FAILED_PRECONDITION, here.Acquire, stream=stream, holder="two", duration_ms=5000)
    assert detail(error, api).code == "lease_held" and detail(error, api).lease_held.holder == "one"
    assert here.Renew(stream=stream, token=answer.token, duration_ms=60_000).lease.expires_in_ms > 5000
    assert here.Inspect(stream=stream).lease.generation == 1
    error = refused(Code.FAILED_PRECONDITION, here.Renew, stream=stream, token="other")
    assert detail(error, api).code == "lease_lost"
    here.Release(stream=stream, token=answer.token)
    refused(Code.FAILED_PRECONDITION, here.Append, input={"stream": stream, "records": records("x"), "fencing_token": answer.token})
    for bad in [{"holder": "", "duration_ms": 5000}, {"holder": "x", "duration_ms": 1}, {"holder": "x", "duration_ms": 5000, "wait_ms": 60_001}]:
        refused(Code.INVALID_ARGUMENT, here.Acquire, stream=stream, **bad)


# The transport.


@pytest.mark.parametrize("compression", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
def test_messages_may_be_compressed(target, basin_name, compression):
    with plain(target, compression=compression) as channel:
        here = Reflected(channel).with_metadata(("s2-basin", basin_name))
        name = raw_http.unique("compressed/")
        here.CreateStream(stream=name)
        append(here, name, "x" * 100_000)
        sent = here.types.AppendSessionRequest(input={"stream": name, "records": records("y" * 100_000)})
        assert next(here.AppendSession(iter([sent]))).output.end_seq_num == 2
        assert bodies(here.Read(stream=name).output.batch) == ["x" * 100_000, "y" * 100_000]
        session = here.ReadSession(stream=name, limit={"count": 2})
        assert "".join(b for a in session for b in bodies(a.output.batch)) == "x" * 100_000 + "y" * 100_000
        assert dict(session.initial_metadata()).get("grpc-encoding", "gzip") == "gzip"


def test_messages_may_be_compressed_with_zstd(target, api, here, stream):
    metadata = [*here.metadata, ("grpc-encoding", "zstd"), ("grpc-accept-encoding", "identity,zstd")]
    body = b"z" * 50_000
    sent = api.types.AppendRequest(input={"stream": stream, "records": [{"body": body}]}).SerializeToString()
    small = zstandard.compress(sent)
    answer = raw_grpc.call(target, "/s2.v1alpha.StreamService/Append", raw_grpc.framed(small, raw_grpc.COMPRESSED), metadata)
    assert answer.status == 0 and answer.head["grpc-encoding"] == "zstd"
    ((flag, ack),) = raw_grpc.messages(answer.body)
    assert flag == raw_grpc.PLAIN and api.types.AppendResponse.FromString(ack).output.end_seq_num == 1
    sessions = raw_grpc.framed(small, raw_grpc.COMPRESSED) + raw_grpc.framed(sent)
    answer = raw_grpc.call(target, "/s2.v1alpha.StreamService/AppendSession", sessions, metadata)
    acks = [api.types.AppendSessionResponse.FromString(ack) for _, ack in raw_grpc.messages(answer.body)]
    assert answer.status == 0 and [ack.output.end_seq_num for ack in acks] == [2, 3]
    for method, limit in [("Read", {}), ("ReadSession", {"count": 3})]:
        request = api.types.ReadSessionRequest(stream=stream, seq_num=0, limit=limit).SerializeToString()
        answer = raw_grpc.call(target, f"/s2.v1alpha.StreamService/{method}", raw_grpc.framed(request), metadata)
        assert answer.status == 0 and len(answer.body) < 5000, method
        read = []
        for flag, message in raw_grpc.messages(answer.body):
            assert flag == raw_grpc.COMPRESSED
            message = zstandard.ZstdDecompressor().decompressobj().decompress(message)
            read += [r.body for r in api.types.ReadSessionResponse.FromString(message).output.batch.records]
        assert read == [body] * 3


@pytest.mark.parametrize(
    "status, body, headers",
    [
        (3, b"", {}),
        (3, b"\0\0\0\0", {}),
        (3, raw_grpc.framed(b"") * 2, {}),
        (3, raw_grpc.framed(b"", 7), {}),
        (3, raw_grpc.framed(b"x", raw_grpc.COMPRESSED), {}),
        (3, raw_grpc.framed(b"x", raw_grpc.COMPRESSED), {"grpc-encoding": "gzip"}),
        (3, b"\0\xff\xff\xff\xff", {}),
        (12, raw_grpc.framed(b""), {"grpc-encoding": "br"}),
        (3, raw_grpc.framed(b""), {"grpc-timeout": "soon"}),
        (0, raw_grpc.framed(b""), {"grpc-timeout": "99999999H", "content-type": "application/grpc+proto"}),
    ],
)
def test_bad_framing_is_refused_with_a_status(target, status, body, headers):
    answer = raw_grpc.call(target, "/s2.v1alpha.AccountService/ListBasins", body, headers)
    assert (answer.head[":status"], answer.head["content-type"]) == ("200", "application/grpc")
    assert answer.status == status and (status == 0) == (answer.message == "")
    assert status == 0 or answer.body == b""


def test_no_call_goes_over_http_1(target):
    headers = {"content-type": "application/grpc"}
    assert raw_http.request(target, "POST", "/s2.v1alpha.AccountService/ListBasins", headers, raw_grpc.framed(b"")).status == 404


def test_a_deadline_ends_what_takes_longer(api, here, stream):
    held = here.Acquire(stream=stream, holder="one", duration_ms=60_000)
    began = time.monotonic()
    inputs = Inputs(api)
    for session in [here.within(0.5).ReadSession(stream=stream), here.within(0.5).AppendSession(inputs)]:
        ended(Code.DEADLINE_EXCEEDED, session)
    inputs.close()
    waiting = {"stream": stream, "holder": "two", "duration_ms": 5000, "wait_ms": 30_000}
    refused(Code.DEADLINE_EXCEEDED, here.within(0.5).Acquire, **waiting)
    assert time.monotonic() - began < 10
    here.Release(stream=stream, token=held.token)


def test_unknown_methods_and_what_is_no_message(api, here, stream):
    raw = {"request_serializer": bytes, "response_deserializer": bytes}
    for path in ["/s2.v1alpha.StreamService/Fly", "/other.Service/Append"]:
        refused(Code.UNIMPLEMENTED, api.channel.unary_unary(path, **raw), request=b"", timeout=20)
    call = api.channel.unary_unary("/s2.v1alpha.StreamService/Append", **raw)
    with pytest.raises(grpc.RpcError) as caught:
        call(b"\xff\xff", metadata=here.metadata)
    assert caught.value.code() == Code.INVALID_ARGUMENT
    with pytest.raises(grpc.RpcError) as caught:
        call(bytes(3 << 20), metadata=here.metadata)
    assert caught.value.code() == Code.INVALID_ARGUMENT


def test_reflection_tells_the_package(api):
    services = ["AccountService", "BasinService", "LeaseService", "StreamService"]
    assert sorted(s for s in api.services if s.startswith("s2.")) == [f"s2.v1alpha.{s}" for s in services]
    assert len(api.methods) == 22
    from grpc_reflection.v1alpha import reflection_pb2

    newer = api.channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=lambda m: m.SerializeToString(),
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = newer(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
    assert "s2.v1alpha.StreamService" in [s.name for s in answer.list_services_response.service]


def health(channel):
    return Reflected(channel, "grpc.health.v1", ["grpc.health.v1.Health"])


def test_health(api):
    checked = health(api.channel)
    for service in ["", "s2.v1alpha.StreamService", "s2.v1alpha.LeaseService"]:
        assert checked.Check(service=service).status == 1
    refused(Code.NOT_FOUND, checked.Check, service="other")


def test_rest_sees_what_grpc_does(account, api, here, basin_name, stream):
    append(here, stream, "x")
    answer = raw_http.Basin(account.target, basin_name).stream(stream).read(seq_num=0)
    assert [r["body"] for r in answer.json()["records"]] == ["x"]
    page = raw_http.request(account.target, "GET", "/metrics").body.decode()
    assert 'route="append",status="200"' in page and 'route="grpc_other",status="200"' in page


# Servers of their own.

once = pytest.mark.skipif(
    os.environ.get("MILLRACE_DRIVER") in ("glommio", "threads"), reason="the same with every driver"
)


def served(tmp_path, *arguments):
    return millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto"), arguments)


def test_a_drain_is_told_to_those_who_watch_and_to_sessions(tmp_path):
    with served(tmp_path) as server, plain(server.target) as channel:
        api = Reflected(channel)
        api.CreateBasin(basin="drained-basin")
        here = api.with_metadata(("s2-basin", "drained-basin"))
        here.CreateStream(stream="s")
        watched = health(channel).Watch(service="")
        assert next(watched).status == 1
        inputs = Inputs(api)
        acks = here.AppendSession(inputs)
        inputs.send("a", stream="s")
        assert next(acks).output.end_seq_num == 1
        idle, session = here.AppendSession(Inputs(api)), here.ReadSession(stream="s", seq_num=0)
        assert bodies(next(session).output.batch) == ["a"]
        idle.initial_metadata()
        stopping = threading.Thread(target=server.terminate)
        stopping.start()
        assert next(watched).status == 2
        # What is open goes on until it is ended.
        inputs.send("b")
        assert next(acks).output.end_seq_num == 2 and bodies(next(session).output.batch) == ["b"]
        for answers in (acks, session, idle, watched):
            assert detail(ended(Code.UNAVAILABLE, answers), api).code == "server_draining"
        inputs.close()
        stopping.join()


@once
def test_access_tokens(tmp_path):
    with served(tmp_path, "--auth", "required", "--root-token", ROOT) as server, plain(server.target) as channel:
        api = Reflected(channel)
        assert health(channel).Check(service="").status == 1
        root = api.with_metadata(("authorization", f"Bearer {ROOT}"))
        for caller in (api, api.with_metadata(("authorization", "Bearer wrong"))):
            assert detail(refused(Code.UNAUTHENTICATED, caller.ListBasins), api).code == "authn"
        for name in ("first-basin", "second-basin"):
            root.CreateBasin(basin=name)
        in_first = api.with_metadata(("authorization", f"Bearer {ROOT}"), ("s2-basin", "first-basin"))
        for name in ("app/a", "other"):
            in_first.CreateStream(stream=name)
        scope = {
            "basins": {"exact": "first-basin"},
            "streams": {"prefix": "app/"},
            "op_groups": {"stream": {"read": True}},
            "ops": [9, 15],
        }
        info = {"id": "app", "auto_prefix_streams": True, "scope": scope, "expires_at": int(time.time()) + 3600}
        secret = root.IssueAccessToken(info=info).access_token
        (listed,) = root.ListAccessTokens(prefix="app").access_tokens
        assert listed == api.types.AccessTokenInfo(**{**info, "scope": {**scope, "op_groups": {"account": {}, "basin": {}, "stream": {"read": True}}}})
        app = api.with_metadata(("authorization", f"Bearer {secret}"), ("s2-basin", "first-basin"))
        append(app, "a", "x")
        assert bodies(app.Read(stream="a").output.batch) == ["x"]
        assert [s.name for s in app.ListStreams().streams] == ["a"]
        error = refused(Code.NOT_FOUND, app.CheckTail, stream="b")
        assert error.details() == "stream `b` in basin `first-basin` not found"
        trim = {"headers": [{"value": b"trim"}], "body": bytes(8)}
        fence = {"headers": [{"value": b"fence"}], "body": b"me"}
        elsewhere = api.with_metadata(("authorization", f"Bearer {secret}"), ("s2-basin", "second-basin"))
        for call, fields in [
            (app.CreateStream, {"stream": "c"}),
            (app.DeleteStream, {"stream": "a"}),
            (app.Append, {"input": {"stream": "a", "records": [trim]}}),
            (app.Append, {"input": {"stream": "a", "records": [fence]}}),
            (app.Acquire, {"stream": "a", "holder": "me", "duration_ms": 5000}),
            (app.CreateBasin, {"basin": "third-basin"}),
            (app.GetBasinConfig, {"basin": "first-basin"}),
            (app.IssueAccessToken, {"info": {"id": "more"}}),
            (app.ListAccessTokens, {}),
            (elsewhere.CheckTail, {"stream": "a"}),
        ]:
            assert detail(refused(Code.PERMISSION_DENIED, call, **fields), api).code == "permission_denied"
        denied = [api.types.AppendSessionRequest(input={"stream": "a", "records": [fence]})]
        ended(Code.PERMISSION_DENIED, app.AppendSession(iter(denied)))
        for name in ("second-basin", "no-such-basin"):
            # Who may not look there is not told what is there.
            there = api.with_metadata(("authorization", f"Bearer {secret}"), ("s2-basin", name))
            ended(Code.PERMISSION_DENIED, there.AppendSession(iter([])))
        session = app.ReadSession(stream="a", seq_num=1)
        inputs = Inputs(api)
        acks = app.AppendSession(inputs)
        inputs.send("y", stream="a")
        assert next(acks).output.end_seq_num == 2 and bodies(next(session).output.batch) == ["y"]
        assert root.RevokeAccessToken(id="app").info.id == "app"
        for answers in (session, acks):
            assert detail(ended(Code.UNAUTHENTICATED, answers), api).code == "authn"
        inputs.close()
        assert detail(refused(Code.UNAUTHENTICATED, app.CheckTail, stream="a"), api).code == "authn"
        assert detail(refused(Code.NOT_FOUND, root.RevokeAccessToken, id="app"), api).code == "access_token_not_found"


@once
def test_a_full_front_says_when_to_come_back(tmp_path):
    with served(tmp_path, "--fronts", "1", "--sessions-max", "1") as server, plain(server.target) as channel:
        api = Reflected(channel)
        api.CreateBasin(basin="crowded-basin")
        here = api.with_metadata(("s2-basin", "crowded-basin"))
        here.CreateStream(stream="s")
        channel.close()
        with plain(server.target) as first, plain(server.target) as second:
            raw = {"request_serializer": lambda m: m.SerializeToString(), "response_deserializer": bytes}
            path, request = "/s2.v1alpha.StreamService/ReadSession", here.types.ReadSessionRequest(stream="s", seq_num=0, heartbeats=True)
            held = first.unary_stream(path, **raw)(request, metadata=here.metadata)
            assert next(held) == b""
            error = ended(Code.RESOURCE_EXHAUSTED, second.unary_stream(path, **raw)(request, metadata=here.metadata))
            assert int(dict(error.trailing_metadata())["retry-after-ms"]) > 0
            held.cancel()


@once
def test_over_tls(tmp_path):
    from test_tls import Tls

    with Tls(tmp_path / "data", ["--tls-self"]) as server:
        trust = grpc.ssl_channel_credentials((server.data / "tls-self.crt").read_bytes())
        with grpc.secure_channel(f"localhost:{server.port}", trust) as channel:
            api = Reflected(channel)
            api.CreateBasin(basin="basin-over-tls")
            here = api.with_metadata(("s2-basin", "basin-over-tls"))
            here.CreateStream(stream="s")
            append(here, "s", "x")
            session = here.ReadSession(stream="s")
            assert bodies(next(session).output.batch) == ["x"]
            session.cancel()


@once
def test_limits_hold_for_calls_and_sessions(tmp_path):
    limits = "appends-per-second=1, burst-ms=1000, sessions=1"
    with served(tmp_path, "--stream-limits", limits) as server, plain(server.target) as channel:
        api = Reflected(channel)
        api.CreateBasin(basin="limited-basin")
        here = api.with_metadata(("s2-basin", "limited-basin"))
        here.CreateStream(stream="s")
        append(here, "s", "first")
        with pytest.raises(grpc.RpcError) as refused:
            for _ in range(100):
                append(here, "s", "too many")
        assert refused.value.code() == Code.RESOURCE_EXHAUSTED and detail(refused.value, api).code == "rate_limited"
        assert int(dict(refused.value.trailing_metadata())["retry-after-ms"]) > 0
        inputs = Inputs(api)
        acks = here.AppendSession(inputs)
        # A session waits for its turn, and has its place while it is open.
        inputs.send("slowed down", stream="s")
        assert next(acks).output.end_seq_num >= 2
        more = api.types.AppendSessionRequest(input={"stream": "s", "records": records("x")})
        for answers in (here.AppendSession(iter([more])), here.ReadSession(stream="s", seq_num=0)):
            assert detail(ended(Code.RESOURCE_EXHAUSTED, answers), api).code == "rate_limited"
        inputs.close()
        assert list(acks) == []
        assert bodies(next(here.ReadSession(stream="s", seq_num=0)).output.batch)[0] == "first"
