"""S2's own Python SDK against a server with limits: it waits as it is told, and gets everything in."""

import asyncio
import time
from datetime import timedelta

import pytest
from s2_sdk import S2, AppendInput, Endpoints, Record, Retry, SeqNum

import millrace_process

pytestmark = pytest.mark.ours


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    limits = ["--fronts", "2", "--stream-limits", "appends-per-second=20, burst-ms=1"]
    with millrace_process.Millrace(tmp_path_factory.mktemp("sdk-limits") / "data", arguments=limits) as server:
        yield server


@pytest.fixture
def client(request, server):
    # Delays of its own that are far too short: what makes it wait long enough is what the server says.
    short = timedelta(milliseconds=1)
    retry = Retry(max_attempts=50, min_base_delay=short, max_base_delay=short)
    client = S2("ignored", endpoints=Endpoints(account=server.target, basin=server.target), retry=retry)
    request.node.clients_open = [client]
    return client


async def a_stream(client, name):
    await client.create_basin(name)
    basin = client.basin(name)
    await basin.create_stream("s")
    return basin.stream("s")


async def bodies(stream):
    batch = await stream.read(start=SeqNum(0))
    return [record.body for record in batch.records]


async def test_single_appends_are_tried_again_as_told(client):
    stream = await a_stream(client, "sdk-limits-single")
    begun = time.monotonic()
    for number in range(10):
        await stream.append(AppendInput(records=[Record(body=b"%d" % number)]))
    assert time.monotonic() - begun >= 9 / 20
    assert await bodies(stream) == [b"%d" % number for number in range(10)]


async def test_many_at_once_all_get_in(client):
    stream = await a_stream(client, "sdk-limits-many")
    begun = time.monotonic()
    appends = [stream.append(AppendInput(records=[Record(body=b"%d" % number)])) for number in range(10)]
    await asyncio.gather(*appends)
    assert time.monotonic() - begun >= 9 / 20
    assert sorted(await bodies(stream)) == [b"%d" % number for number in range(10)]


async def test_a_session_is_slowed_down_and_nothing_is_lost(client):
    stream = await a_stream(client, "sdk-limits-session")
    begun = time.monotonic()
    async with stream.append_session() as session:
        tickets = [await session.submit(AppendInput(records=[Record(body=b"%d" % number)])) for number in range(20)]
        acks = [await ticket for ticket in tickets]
    assert [ack.start.seq_num for ack in acks] == list(range(20))
    assert time.monotonic() - begun >= 19 / 20
    assert await bodies(stream) == [b"%d" % number for number in range(20)]
