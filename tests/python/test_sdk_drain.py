"""S2's own Python SDK while the server under it is drained and started again: with its retries off every failure is one that
says that nothing happened; with its retries on nothing fails."""

import asyncio
import os
import time
from datetime import timedelta

import pytest
from s2_sdk import S2, AppendInput, Endpoints, Record, Retry, SeqNum
from s2_sdk._exceptions import ConnectError
from s2_sdk._retrier import requires_reconnect

import millrace_process
import raw_http

pytestmark = pytest.mark.ours


@pytest.fixture
def server(tmp_path):
    with millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto")) as server:
        yield server


def says_that_nothing_happened(error):
    """`server_draining`, nobody listens, or a connection that was told to go before the request went out."""
    while error is not None:
        if getattr(error, "code", None) == "server_draining" or requires_reconnect(error) or isinstance(error, ConnectError):
            return True
        error = error.__cause__ or error.__context__
    return False


class Load:
    """Tasks that append, each to a stream of its own, until `enough`. `acked` is by stream."""

    def __init__(self, server, basin, retry):
        self.server, self.basin = server, basin
        self.client = S2("any", endpoints=Endpoints(account=server.target, basin=server.target), retry=retry)
        self.enough, self.acked, self.refused, self.tasks = False, {}, 0, []

    def start(self, how, count):
        for _ in range(count):
            stream = self.basin.create_stream()
            self.acked[stream.name] = []
            self.tasks.append(asyncio.create_task(how(self.client.basin(self.basin.name).stream(stream.name))))

    async def unary(self, stream):
        """Each append says where it must be, so that one that is sent twice is done once."""
        acked, tried = self.acked[stream.name], 0
        while not self.enough:
            tried += 1
            try:
                ack = await stream.append(AppendInput(records=[Record(body=b"%d" % tried)], match_seq_num=len(acked)))
            except Exception as error:
                await self.turned_away(error)
            else:
                assert ack.start.seq_num == len(acked)
                acked.append(b"%d" % tried)

    async def session(self, stream):
        acked, tried = self.acked[stream.name], 0
        while not self.enough:
            try:
                async with stream.append_session(max_unacked_batches=8) as session:
                    under_way = []
                    while not self.enough or under_way:
                        while not self.enough and len(under_way) < 8:
                            tried += 1
                            under_way.append((tried, await session.submit(AppendInput(records=[Record(body=b"%d" % tried)]))))
                        number, ticket = under_way.pop(0)
                        assert (await ticket).start.seq_num == len(acked)
                        acked.append(b"%d" % number)
            except Exception as error:
                await self.turned_away(error)

    async def turned_away(self, error):
        assert says_that_nothing_happened(error), repr(error)
        self.refused += 1
        # Not a wait for anything: a client that is turned away does not spin.
        await asyncio.sleep(0.01)

    async def until_all_append(self):
        """Each of them is acknowledged a few times more."""
        before = {name: len(acked) for name, acked in self.acked.items()}
        deadline = time.monotonic() + 40
        while not all(len(acked) > before[name] + 5 for name, acked in self.acked.items()):
            for task in self.tasks:
                if task.done():
                    task.result()
            assert time.monotonic() < deadline, f"{before} {self.acked.keys()}"
            await asyncio.sleep(0.02)

    async def restart_under_load(self):
        """Once: within a minute of the first, the SDK takes no second advice, and a session that is ended while it waits for
        an input can lose that input inside the SDK."""
        await self.until_all_append()
        assert await asyncio.to_thread(self.server.terminate) == 0
        self.server.spawn()
        await self.until_all_append()
        self.enough = True
        await asyncio.gather(*self.tasks)

    def check(self):
        for name, acked in self.acked.items():
            stored = []
            while (answer := self.basin.stream(name).read(seq_num=len(stored), count=1000)).status == 200:
                stored += [record["body"].encode() for record in answer.json()["records"]]
            assert stored == acked, name


async def follow(load, name, seen):
    async for batch in load.client.basin(load.basin.name).stream(name).read_session(start=SeqNum(0), clamp_to_tail=True):
        for record in batch.records:
            assert record.seq_num == len(seen)
            seen.append(record.body)


async def test_with_retries_off_every_failure_says_that_nothing_happened(server):
    load = Load(server, raw_http.Account(server.target).create_basin(), Retry(max_attempts=1))
    try:
        load.start(load.unary, 3)
        load.start(load.session, 3)
        await load.restart_under_load()
    finally:
        load.enough = True
        await load.client.close()
    assert load.refused > 0
    load.check()


async def test_with_retries_on_nothing_fails(server):
    """As many attempts as a restart takes: the default of three is for a server that is back, or another one there, at once."""
    retry = Retry(max_attempts=1000, min_base_delay=timedelta(milliseconds=10), max_base_delay=timedelta(milliseconds=100))
    load = Load(server, raw_http.Account(server.target).create_basin(), retry)
    try:
        load.start(load.unary, 3)
        load.start(load.session, 3)
        name, seen = list(load.acked)[-1], []
        reader = asyncio.create_task(follow(load, name, seen))
        await load.restart_under_load()
        while len(seen) < len(load.acked[name]) and not reader.done():
            await asyncio.sleep(0.02)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    finally:
        load.enough = True
        await load.client.close()
    assert load.refused == 0
    assert seen == load.acked[name]
    load.check()
