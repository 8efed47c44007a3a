"""Idle sessions, for as long as somebody has patience: one client of each kind follows a stream in which nothing happens,
keeps an append session open in which nothing is sent, and must still be there when something does.

Run by scripts/soak. Prints a line for each client; the exit status is 0 when all of them held.
"""

import argparse
import asyncio
import pathlib
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "crash")]

import millrace_process  # noqa: E402
import raw_http  # noqa: E402
from s2_sdk import S2, AppendInput, Endpoints, Record, SeqNum  # noqa: E402

# From the append of a record until every follower has it.
ARRIVES_SECONDS_MAX = 10
# Heartbeats come at most so far apart; clients give up after 20 s.
HEARTBEAT_SECONDS_MAX = 20
BODY = "after the silence"


class Silence:
    """How long nothing came, at most."""

    def __init__(self):
        self.last = time.monotonic()
        self.longest = 0.0

    def broken(self):
        now = time.monotonic()
        self.longest = max(self.longest, now - self.last)
        self.last = now


async def python_follower(target, basin, name, _):
    async with S2("ignored", endpoints=Endpoints(account=target, basin=target)) as s2:
        async with s2.basin(basin).stream(name).read_session(start=SeqNum(1)) as session:
            async for read in session:
                if read.records:
                    return read.records[0].body.decode()


async def python_appender(target, basin, name, quiet_seconds):
    """Appends at both ends of the silence, in one session. It has a stream of its own."""
    async with S2("ignored", endpoints=Endpoints(account=target, basin=target)) as s2:
        async with s2.basin(basin).stream(name).append_session() as session:
            first = await (await session.submit(AppendInput(records=[Record(body=b"first")])))
            await asyncio.sleep(quiet_seconds)
            second = await (await session.submit(AppendInput(records=[Record(body=BODY.encode())])))
            assert second.start.seq_num == first.end.seq_num == 1
            return BODY


def raw_follower(target, basin, name, _):
    stream = raw_http.Basin(target, basin).stream(name)
    silence = Silence()
    with raw_http.Session.read(stream, timeout=HEARTBEAT_SECONDS_MAX, seq_num=1) as session:
        session.read_head()
        while True:
            _, payload = session.read_frame()
            silence.broken()
            if BODY.encode() in payload:
                return f"{BODY}|longest silence {silence.longest:.1f} s"


async def process_follower(*command):
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async for line in process.stdout:
            if BODY.encode() in line:
                return BODY
        raise RuntimeError("the process ended early")
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def curl_follower(target, basin, name, _):
    url = f"{target}/v1/streams/{name}/records?seq_num=1"
    return process_follower("curl", "-sN", "-H", f"s2-basin: {basin}", "-H", "accept: text/event-stream", url)


def node_follower(transport):
    def follow(target, basin, name, _):
        script = HERE.parent / "node" / "follow.mjs"
        return process_follower("node", str(script), target, basin, name, transport)

    return follow


async def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--minutes", type=float, default=30, help="how long nothing happens (30)")
    quiet_seconds = 60 * options.parse_args().minutes
    followers = {
        "python SDK, s2s over HTTP/2": python_follower,
        "TypeScript SDK, s2s over HTTP/2": node_follower("s2s"),
        "TypeScript SDK, server-sent events": node_follower("fetch"),
        "curl, server-sent events over HTTP/1.1": curl_follower,
        "by hand, s2s over HTTP/1.1": lambda *args: asyncio.to_thread(raw_follower, *args),
    }
    with tempfile.TemporaryDirectory(prefix="millrace-soak-") as folder:
        with millrace_process.Millrace(pathlib.Path(folder) / "data") as server:
            basin = raw_http.Account(server.target).create_basin()
            stream, written = basin.create_stream(), basin.create_stream()
            assert stream.append("before").status == 200
            tasks = {
                kind: asyncio.create_task(follower(server.target, basin.name, stream.name, quiet_seconds))
                for kind, follower in followers.items()
            }
            appender = python_appender(server.target, basin.name, written.name, quiet_seconds)
            tasks["python SDK, append session"] = asyncio.create_task(appender)
            await asyncio.wait(tasks.values(), timeout=quiet_seconds, return_when=asyncio.FIRST_EXCEPTION)
            assert stream.append(BODY).status == 200
            await asyncio.wait(tasks.values(), timeout=ARRIVES_SECONDS_MAX)
            failed = 0
            for kind, task in tasks.items():
                if not task.done():
                    task.cancel()
                    result = "did not get the record"
                elif task.exception():
                    result = repr(task.exception())
                else:
                    result = task.result()
                held = result.startswith(BODY)
                failed += not held
                print(f"{kind:42}{'held' if held else 'FAILED'}  {result.removeprefix(BODY).lstrip('|')}")
            print(f"{len(tasks) - failed} passed, {failed} failed, after {quiet_seconds / 60:g} minutes of silence")
            return failed > 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
