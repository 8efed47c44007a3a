#!/usr/bin/env python3
"""Kills the server while clients append, starts it again, and checks what must hold; round after round, on one data directory.

After every restart, for every stream:
  every acknowledged batch is there, whole, in order, once, at the numbers and times of its ack;
  every record a follower saw is there;
  a batch without an answer is there whole or not at all, and what was absent once stays absent;
  a batch refused with a definite error is absent;
  seq_nums are dense, times never fall, the tail is where the records end;
  the fencing token is that of the last fence record, and nothing below an acknowledged trim is readable;
  streams that were created exist.
One round in six ends with SIGTERM instead: exit status 0, and the same checks.

`kill -9` keeps the page cache, so this proves recovery and ordering, not that the device was synced.

  tests/crash/crash.py --driver threads --rounds 12 --seed 1          what CI runs
  tests/crash/crash.py --driver glommio --rounds 500 --seed $RANDOM   a night's worth

The seed fixes sizes, kinds and pauses; the interleaving of threads stays the machine's own.
"""

import argparse
import http.client
import pathlib
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import ledger  # noqa: E402
import raw_http  # noqa: E402
import writers  # noqa: E402
from millrace_process import Millrace  # noqa: E402

# Small segments and a small cache: the log wraps into new files, and reads come from the disk.
ARGUMENTS = ["--shards", "2", "--segment-bytes", "16MiB", "--cache-bytes-max", "16MiB"]

STREAMS = ["shared-a", "shared-b", "session", "match", "fenced"]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--trim-seconds-max", type=float, default=10, help="how long trimmed records may stay readable; 0: for ever")
    parser.add_argument("--keep", action="store_true", help="keep the data directory of a run that passed")
    options = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-crash-"))
    run = Run(Millrace(folder / "data", options.driver, ARGUMENTS), random.Random(options.seed), options.trim_seconds_max)
    passed = failed = 0
    try:
        for number in range(options.rounds):
            try:
                print(f"round {number}: {run.round(number)}", flush=True)
                passed += 1
            except (ledger.Violation, RuntimeError, OSError) as problem:
                failed += 1
                print(f"round {number} of seed {options.seed}: {type(problem).__name__}: {problem}", flush=True)
                print(f"data: {folder}\nserver log ends:\n{run.server.log_end()}", flush=True)
                break
    finally:
        if run.server.process is not None:
            run.server.kill()
        if not failed and not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{run.starts} starts, {run.acked} batches acknowledged, {run.verified} records verified")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


class Run:
    def __init__(self, server, rng, trim_seconds_max):
        self.server = server
        self.rng = rng
        self.trim_seconds_max = trim_seconds_max
        self.ledgers = {name: ledger.Ledger(name) for name in STREAMS}
        self.basin_name = raw_http.unique("crash")
        self.extra_streams = set()
        self.starts = self.acked = self.verified = 0

    def round(self, number):
        """One life of the server: start, append, end, start again, verify. Returns a line about it."""
        rng = self.rng
        interrupted = number > 0 and rng.random() < 0.2
        if interrupted:
            self.die_while_starting()
        self.server.start()
        basin = raw_http.Basin(self.server.target, self.basin_name)
        if number == 0:
            self.create(basin)

        stop = threading.Event()
        crew = self.crew(basin, number, stop)
        for worker in crew:
            worker.start()
        time.sleep(rng.choice([0.02, 0.1, 0.3, 0.6, 1.0, 1.5]) * (0.5 + rng.random()))
        gently = number % 6 == 5
        if gently:
            status = self.server.terminate()
            if status != 0:
                raise ledger.Violation(f"exit status {status} after SIGTERM")
        else:
            self.server.kill()
        stop.set()
        for worker in crew:
            worker.join(30)
            if worker.is_alive():
                raise RuntimeError(f"{worker.name} hangs though the server is gone")
            if worker.problem:
                raise worker.problem

        started = time.monotonic()
        self.server.start()
        restart_seconds = time.monotonic() - started
        basin = raw_http.Basin(self.server.target, self.basin_name)
        records = self.verify(basin)
        self.server.kill() if rng.random() < 0.5 else self.server.terminate()
        acked = sum(worker.acked for worker in crew)
        self.starts += 2 + interrupted
        self.acked += acked
        self.verified += records
        return (
            f"{'SIGTERM' if gently else 'kill -9'}{' after a death at start' if interrupted else ''}, {acked} batches acked, "
            f"{records} records verified, up again in {restart_seconds:.2f} s"
        )

    def die_while_starting(self):
        """A recovery that is itself cut short must leave nothing worse behind."""
        self.server.spawn()
        time.sleep(self.rng.random() * 0.3)
        self.server.kill()

    def create(self, basin):
        answer = basin.send("POST", "/basins", {"basin": self.basin_name})
        if answer.status != 201:
            raise RuntimeError(f"cannot create a basin: {answer}")
        for name in STREAMS:
            basin.create_stream(name=name)

    def crew(self, basin, number, stop):
        def seed():
            return random.Random(self.rng.getrandbits(64))

        shared = [self.ledgers["shared-a"], self.ledgers["shared-b"]]
        crew = [writers.Unary(basin, shared, f"u{i}-{number}", seed(), stop) for i in range(3)]
        crew += [writers.Session(basin, [self.ledgers["session"], *shared], f"s{i}-{number}", seed(), stop) for i in range(2)]
        crew += [writers.Match(basin, [self.ledgers["match"]], f"m-{number}", seed(), stop)]
        crew += [writers.Fence(basin, [self.ledgers["fenced"]], f"f-{number}", seed(), stop)]
        # The writer that counts its numbers trims by itself: a record of another would disturb it.
        trimmed = [book for book in self.ledgers.values() if book.name != "match"]
        crew += [writers.Trim(basin, trimmed, f"t-{number}", seed(), stop)]
        crew += [writers.Follow(basin, [book], f"r-{number}", seed(), stop) for book in (self.ledgers["session"], shared[0])]
        crew += [writers.Create(basin, self.extra_streams, f"extra-{number}", seed(), stop)]
        return crew

    def verify(self, basin):
        count = 0
        for book in self.ledgers.values():
            stream = basin.stream(book.name)
            tail = stream.tail()
            records = read_everything(stream, tail)
            deadline = time.monotonic() + self.trim_seconds_max
            while records and records[0]["seq_num"] < book.trim_acked and time.monotonic() < deadline:
                time.sleep(0.1)
                records = read_everything(stream, tail)
            book.verify(records, tail, trims_are_done=self.trim_seconds_max > 0)
            # A token that nobody holds: the answer names the one in force, and nothing is appended.
            answer = stream.append("never", fencing_token="nobody holds this")
            if answer.status != 412 or answer.json() != {"fencing_token_mismatch": book.fencing_token}:
                raise ledger.Violation(f"{book.name}: fencing token should be {book.fencing_token!r}: {answer}")
            count += len(records)
        listed = set()
        while True:
            page = basin.send("GET", f"/streams?start_after={max(listed, default='')}").json()
            listed |= {info["name"] for info in page["streams"]}
            if not page["has_more"]:
                break
        missing = (self.extra_streams | set(STREAMS)) - listed
        if missing:
            raise ledger.Violation(f"created streams are gone: {sorted(missing)}")
        return count


def read_everything(stream, tail):
    """All readable records below `tail`, in one session."""
    records = []
    if tail["seq_num"] == 0:
        return records
    with raw_http.Session.read(stream, seq_num=0, count=tail["seq_num"]) as session:
        if session.read_head() != 200:
            raise ledger.Violation(f"{stream.name}: cannot be read from 0: {session.status}")
        while True:
            try:
                got = session.read_frame()
            except (EOFError, http.client.HTTPException) as problem:
                raise ledger.Violation(f"{stream.name}: the read broke off: {problem}") from problem
            if got is None:
                return records
            flag, payload = got
            if flag & raw_http.TERMINAL:
                raise ledger.Violation(f"{stream.name}: the read failed: {raw_http.terminal(payload)}")
            records += raw_http.read_batch(payload)["records"]


if __name__ == "__main__":
    sys.exit(main())
