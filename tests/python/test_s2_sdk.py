"""S2's own Python SDK (0.13.0) against the server: HTTP/2 with prior knowledge for every request."""

import asyncio
import time

import pytest
from s2_sdk import (
    S2,
    AppendInput,
    BasinConfig,
    CommandRecord,
    Compression,
    Endpoints,
    EnsureStatus,
    FencingTokenMismatchError,
    ReadLimit,
    ReadUnwrittenError,
    Record,
    S2Error,
    S2ServerError,
    SeqNum,
    SeqNumMismatchError,
    StreamConfig,
    TailOffset,
    Timestamp,
    Timestamping,
    TimestampingMode,
)

import raw_http


@pytest.fixture
def connect(request, target):
    """Makes clients, which the conftest closes in the test's own event loop."""
    request.node.clients_open = []

    def make(**options):
        client = S2("ignored", endpoints=Endpoints(account=target, basin=target), **options)
        request.node.clients_open.append(client)
        return client

    return make


@pytest.fixture
def s2(connect):
    return connect()


@pytest.fixture
def sdk_basin(s2, basin):
    return s2.basin(basin.name)


@pytest.fixture
def sdk_stream(sdk_basin, stream):
    return sdk_basin.stream(stream.name)


def batch(*bodies, **conditions):
    return AppendInput(records=[Record(body=body) for body in bodies], **conditions)


async def bodies(stream, **limits):
    found = []
    async with stream.read_session(start=SeqNum(0), **limits) as session:
        async for read in session:
            found += [record.body for record in read.records]
    return found


async def code_of(awaitable):
    with pytest.raises(S2ServerError) as caught:
        await awaitable
    return caught.value.status_code, caught.value.code


# ---------------------------------------------------------------- append and read


async def test_append_and_read_unary(sdk_stream):
    record = Record(body=b"\x00\xff", headers=[(b"k", b"\xfe"), (b"k", b"")], timestamp=7)
    ack = await sdk_stream.append(AppendInput(records=[record, Record(body=b"")]))
    assert (ack.start.seq_num, ack.end.seq_num, ack.start.timestamp) == (0, 2, 7)
    read = await sdk_stream.read(start=SeqNum(0))
    assert (read.records[0].body, read.records[0].headers) == (record.body, record.headers)
    assert (await sdk_stream.check_tail()).seq_num == 2


async def test_a_pipelined_session(sdk_stream):
    async with sdk_stream.append_session() as session:
        tickets = [await session.submit(batch(b"%d" % i, match_seq_num=i)) for i in range(300)]
        acks = [await ticket for ticket in tickets]
    assert [ack.start.seq_num for ack in acks] == list(range(300))
    assert await bodies(sdk_stream, limit=ReadLimit(count=300)) == [b"%d" % i for i in range(300)]


async def test_a_session_of_full_batches(sdk_stream):
    async with sdk_stream.append_session() as session:
        for ticket in [await session.submit(batch(b"x" * ((1 << 20) - 8))) for _ in range(8)]:
            await ticket
    assert [len(body) for body in await bodies(sdk_stream, limit=ReadLimit(count=8))] == [(1 << 20) - 8] * 8


async def test_a_producer(sdk_stream):
    async with sdk_stream.producer() as producer:
        tickets = [await producer.submit(Record(body=b"%d" % i)) for i in range(1500)]
        assert [(await ticket).seq_num for ticket in tickets] == list(range(1500))


async def test_follow_while_another_task_appends(sdk_stream):
    async def append():
        for i in range(50):
            await sdk_stream.append(batch(b"%d" % i))

    async with sdk_stream.read_session(start=SeqNum(0)) as session:
        writer = asyncio.create_task(append())
        seen = []
        async for read in session:
            seen += read.records
            if len(seen) >= 50:
                break
        await writer
        assert [(r.seq_num, r.body) for r in seen] == [(i, b"%d" % i) for i in range(50)]


async def test_a_follower_learns_that_it_has_caught_up(sdk_stream):
    await sdk_stream.append(batch(b"a", b"b"))
    async with sdk_stream.read_session(start=TailOffset(1)) as session:
        read = await anext(session)
        assert read.records[0].body == b"b"
        assert (await asyncio.wait_for(session.caught_up(), 20)).seq_num == 2


async def test_starts_and_limits(sdk_stream):
    await sdk_stream.append(AppendInput(records=[Record(body=b"r%d" % i, timestamp=10 * i + 10) for i in range(5)]))

    async def numbers(**query):
        return [record.seq_num for record in (await sdk_stream.read(**query)).records]

    assert await numbers(start=Timestamp(25)) == [2, 3, 4]
    assert await numbers(start=TailOffset(2)) == [3, 4]
    assert await numbers(start=SeqNum(0), until_timestamp=30) == [0, 1]
    assert await numbers(start=SeqNum(1), limit=ReadLimit(bytes=25)) == [1, 2]
    assert await numbers(start=SeqNum(99), clamp_to_tail=True, wait=1) == []
    with pytest.raises(ReadUnwrittenError) as caught:
        await sdk_stream.read(start=SeqNum(5))
    assert (caught.value.tail.seq_num, caught.value.tail.timestamp) == (5, 50)
    with pytest.raises(ReadUnwrittenError):
        async with sdk_stream.read_session(start=SeqNum(9)) as session:
            await anext(session)


@pytest.mark.parametrize("compression", [Compression.ZSTD, Compression.GZIP])
async def test_compression(connect, basin, stream, compression):
    sdk_stream = connect(compression=compression).basin(basin.name).stream(stream.name)
    body = b"compressible " * 1000
    await sdk_stream.append(batch(body))
    async with sdk_stream.append_session() as session:
        await (await session.submit(batch(body)))
    assert await bodies(sdk_stream, limit=ReadLimit(count=2)) == [body, body]
    assert [record.body for record in (await sdk_stream.read(start=SeqNum(0))).records] == [body, body]


# ---------------------------------------------------------------- conditions


async def test_match_seq_num(sdk_stream):
    await sdk_stream.append(batch(b"a", match_seq_num=0))
    with pytest.raises(SeqNumMismatchError) as caught:
        await sdk_stream.append(batch(b"b", match_seq_num=0))
    assert caught.value.expected_seq_num == 1
    async with sdk_stream.append_session() as session:
        await (await session.submit(batch(b"b", match_seq_num=1)))
        ticket = await session.submit(batch(b"c", match_seq_num=9))
        with pytest.raises(SeqNumMismatchError) as caught:
            await ticket
        assert caught.value.expected_seq_num == 2
        with pytest.raises(S2Error):
            await session.close()


async def test_fence(sdk_stream):
    await sdk_stream.append(AppendInput(records=[CommandRecord.fence("mine")]))
    await sdk_stream.append(batch(b"a", fencing_token="mine"))
    with pytest.raises(FencingTokenMismatchError) as caught:
        await sdk_stream.append(batch(b"b", fencing_token="other"))
    assert caught.value.expected_fencing_token == "mine"


async def test_trim(sdk_stream):
    await sdk_stream.append(batch(b"a", b"b", b"c"))
    await sdk_stream.append(AppendInput(records=[CommandRecord.trim(2)]))
    deadline = time.monotonic() + 30
    while (first := (await sdk_stream.read(start=SeqNum(0))).records[0]).seq_num != 2:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)
    assert first.body == b"c"
    read = await sdk_stream.read(start=SeqNum(0), ignore_command_records=True)
    assert [record.seq_num for record in read.records] == [2]


async def test_timestamp_modes(sdk_basin):
    async def stream_with(**timestamping):
        name = raw_http.unique("timed")
        await sdk_basin.create_stream(name, config=StreamConfig(timestamping=Timestamping(**timestamping)))
        return sdk_basin.stream(name)

    timed = AppendInput(records=[Record(body=b"", timestamp=5)])
    assert (await (await stream_with(mode=TimestampingMode.CLIENT_PREFER)).append(timed)).start.timestamp == 5
    assert (await (await stream_with(mode=TimestampingMode.ARRIVAL)).append(timed)).start.timestamp > 10**12
    require = await stream_with(mode=TimestampingMode.CLIENT_REQUIRE)
    assert await code_of(require.append(batch(b"a"))) == (422, "invalid")
    assert (await require.append(timed)).start.timestamp == 5
    future = AppendInput(records=[Record(body=b"", timestamp=10**15)])
    assert (await (await stream_with(uncapped=True)).append(future)).start.timestamp == 10**15
    assert (await (await stream_with(uncapped=False)).append(future)).start.timestamp < 10**13


# ---------------------------------------------------------------- control plane


async def test_errors_have_their_codes(s2, sdk_basin, basin, sdk_stream):
    assert await code_of(s2.create_basin(basin.name)) == (409, "resource_already_exists")
    assert await code_of(sdk_basin.create_stream(sdk_stream.name)) == (409, "resource_already_exists")
    assert await code_of(s2.get_basin_config(raw_http.unique("nowhere"))) == (404, "basin_not_found")
    missing = sdk_basin.stream("missing")
    for awaitable in [missing.check_tail(), missing.append(batch(b"a")), missing.read(start=SeqNum(0))]:
        assert await code_of(awaitable) == (404, "stream_not_found")
    unknown_command = Record(body=b"", headers=[(b"", b"burn")])
    assert await code_of(sdk_stream.append(AppendInput(records=[unknown_command]))) == (422, "invalid")
    async with missing.append_session() as session:
        ticket = await session.submit(batch(b"a"))
        assert await code_of(ticket) == (404, "stream_not_found")
        with pytest.raises(S2Error):
            await session.close()


async def test_ensure_and_reconfigure(s2, sdk_basin):
    name = raw_http.unique("ensured")
    assert (await sdk_basin.ensure_stream(name)).status == EnsureStatus.CREATED
    assert (await sdk_basin.ensure_stream(name)).status == EnsureStatus.CONFIG_UNCHANGED
    config = StreamConfig(storage_class="native", retention_policy="infinite", delete_on_empty_min_age=600)
    assert (await sdk_basin.ensure_stream(name, config=config)).status == EnsureStatus.CONFIG_UPDATED
    got = await sdk_basin.get_stream_config(name)
    assert (got.storage_class, got.retention_policy, got.delete_on_empty_min_age) == ("native", "infinite", 600)
    got = await sdk_basin.reconfigure_stream(name, config=StreamConfig(retention_policy=99))
    assert (got.storage_class, got.retention_policy) == ("native", 99)
    basin_name = raw_http.unique("ensured")
    assert (await s2.ensure_basin(basin_name)).status == EnsureStatus.CREATED
    got = await s2.reconfigure_basin(basin_name, config=BasinConfig(create_stream_on_read=True))
    assert got.create_stream_on_read and not got.create_stream_on_append
    assert (await s2.get_basin_config(basin_name)).create_stream_on_read


async def test_list_with_prefixes_and_pages(s2):
    name = raw_http.unique("listed")
    await s2.create_basin(name)
    basin = s2.basin(name)
    for i in range(5):
        await basin.create_stream(f"a/{i}")
    await basin.create_stream("b")
    page = await basin.list_streams(prefix="a/", limit=2)
    assert ([info.name for info in page.items], page.has_more) == (["a/0", "a/1"], True)
    page = await basin.list_streams(prefix="a/", start_after="a/3")
    assert ([info.name for info in page.items], page.has_more) == (["a/4"], False)
    assert [info.name async for info in basin.list_all_streams()] == [*(f"a/{i}" for i in range(5)), "b"]
    assert [info.name for info in (await s2.list_basins(prefix=name)).items] == [name]


async def test_auto_create(s2):
    name = raw_http.unique("auto")
    await s2.create_basin(name, config=BasinConfig(create_stream_on_append=True, create_stream_on_read=True))
    basin = s2.basin(name)
    config = StreamConfig(retention_policy=55)
    await basin.stream("by-append").append(AppendInput(records=[Record(body=b"a")], stream_config=config))
    async with basin.stream("by-session").append_session(stream_config=config) as session:
        await (await session.submit(batch(b"a")))
    assert (await basin.stream("by-tail").check_tail()).seq_num == 0
    for stream in ["by-append", "by-session"]:
        assert (await basin.get_stream_config(stream)).retention_policy == 55


async def test_a_deleted_stream_made_again_starts_from_zero(s2):
    name = raw_http.unique("again")
    await s2.create_basin(name)
    basin = s2.basin(name)
    await basin.create_stream("s")
    await basin.stream("s").append(batch(b"old", b"older"))
    await basin.delete_stream("s")
    deadline = time.monotonic() + 70
    while True:
        try:
            await basin.create_stream("s")
            break
        except S2ServerError as error:
            assert error.code in ("stream_deletion_pending", "resource_already_exists")
            assert time.monotonic() < deadline
            await asyncio.sleep(0.2)
    assert (await basin.stream("s").append(batch(b"new"))).start.seq_num == 0
    assert [r.body for r in (await basin.stream("s").read(start=SeqNum(0))).records] == [b"new"]
    await s2.delete_basin(name)
    await s2.delete_basin(raw_http.unique("nowhere"), ignore_not_found=True)


async def test_many_streams_at_once_on_one_client(sdk_basin):
    async def use(i):
        name = raw_http.unique("many")
        await sdk_basin.create_stream(name)
        stream = sdk_basin.stream(name)
        async with stream.append_session() as session:
            for ticket in [await session.submit(batch(b"%d-%d" % (i, n))) for n in range(20)]:
                await ticket
        assert await bodies(stream, limit=ReadLimit(count=20)) == [b"%d-%d" % (i, n) for n in range(20)]

    await asyncio.gather(*(use(i) for i in range(40)))
