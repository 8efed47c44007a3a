#!/usr/bin/env python3
"""Throws garbage at the port, then damages the data directory. The server must stay alive, serve others, keep its memory
bounded, and never guess around damage.

  tests/garbage/garbage.py --driver threads --seed 1             what CI runs
  tests/garbage/garbage.py --driver threads --seed 7 --times 20  twenty times as much garbage
  tests/garbage/garbage.py --only port | tls | disk

Same seed, same bytes (the interleaving with the bystander stays the machine's own).
"""

import argparse
import pathlib
import random
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import attacks  # noqa: E402
import damage  # noqa: E402
import raw_http  # noqa: E402
import tls  # noqa: E402
from millrace_process import Millrace  # noqa: E402

# What the process may hold above what it held before the first attack.
GROWTH_BYTES_MAX = 400 << 20
ARGUMENTS = ["--cache-bytes-max", "64MiB", "--front-bytes-max", "128MiB"]
# Longest that another client may wait for an answer while garbage comes in.
BYSTANDER_SECONDS_MAX = 10


class Failure(Exception):
    """A promise of the server is broken."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", choices=["port", "tls", "disk"])
    options = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="millrace-garbage-") as folder:
        folder = pathlib.Path(folder)
        if options.only not in ("disk", "tls"):
            attack_the_port(folder / "port", options, tally)
        if options.only in (None, "tls"):
            for name, check in tls.checks(folder, options, ARGUMENTS, GROWTH_BYTES_MAX):
                tally.run(name, check)
        if options.only in (None, "disk"):
            for name, check in damage.checks(folder, options):
                tally.run(name, check)
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed else 0


class Tally:
    def __init__(self):
        self.passed = self.failed = 0

    def run(self, name, check):
        started = time.monotonic()
        try:
            note = check() or ""
            self.passed += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s) {note}", flush=True)
        except Exception as problem:
            self.failed += 1
            print(f"FAILED {name}: {type(problem).__name__}: {problem}", flush=True)


def attack_the_port(data, options, tally):
    with Millrace(data, options.driver, ARGUMENTS) as server:
        account = raw_http.Account(server.target)
        basin = account.create_basin()
        bystander = Bystander(basin.create_stream())
        bystander.start()
        before = server.resident_bytes()
        for attack in attacks.ALL:
            rng = random.Random(f"{options.seed} {attack.__name__}")

            def check():
                victim = basin.create_stream()
                for _ in range(options.times):
                    attack(rng, victim)
                return expect_service(server, bystander, before)

            tally.run(attack.__doc__.split("\n")[0], check)
            if not server.alive():
                print(f"the server is gone:\n{server.log_end()}", flush=True)
                return
        bystander.leave()
        tally.run("the bystander's stream is whole", bystander.check_stream)
        tally.run("SIGTERM ends the server cleanly", lambda: expect_equal(server.terminate(), 0))
        if b"panicked" in server.log_path.read_bytes():
            tally.run("no panic in the log", lambda: fail(f"a panic: {server.log_end()}"))


def expect_service(server, bystander, before):
    if not server.alive():
        raise Failure(f"the server ended with {server.process.returncode}")
    started = time.monotonic()
    if raw_http.request(server.target, "GET", "/health", timeout=BYSTANDER_SECONDS_MAX).status != 200:
        raise Failure("/health is not OK")
    bystander.expect_progress()
    grown = server.resident_bytes() - before
    if grown > GROWTH_BYTES_MAX:
        raise Failure(f"holds {grown >> 20} MiB more than before")
    return f"health in {time.monotonic() - started:.2f} s, {server.resident_bytes() >> 20} MiB"


def expect_equal(got, wanted):
    if got != wanted:
        raise Failure(f"{got} instead of {wanted}")


def fail(text):
    raise Failure(text)


class Bystander(threading.Thread):
    """A well-behaved client that appends and reads all the time and keeps what goes wrong."""

    def __init__(self, stream):
        super().__init__(daemon=True)
        self.stream = stream
        self.count = 0
        self.slowest_seconds = 0
        self.problem = None
        self.leaving = threading.Event()

    def run(self):
        while not self.leaving.is_set() and self.problem is None:
            started = time.monotonic()
            try:
                answer = self.stream.append(f"bystander {self.count}", match_seq_num=self.count)
                if answer.status == 200:
                    answer = self.stream.read(tail_offset=1)
                if answer.status != 200:
                    self.problem = answer
                self.count += 1
            except Exception as problem:
                self.problem = problem
            self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - started)
            time.sleep(0.01)

    def expect_progress(self):
        count, deadline = self.count, time.monotonic() + BYSTANDER_SECONDS_MAX
        while self.count < count + 2 and self.problem is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if self.problem is not None:
            raise Failure(f"another client was disturbed: {self.problem!r}")
        if self.count < count + 2 or self.slowest_seconds > BYSTANDER_SECONDS_MAX:
            raise Failure(f"another client waited {self.slowest_seconds:.1f} s")

    def leave(self):
        self.leaving.set()
        self.join(30)

    def check_stream(self):
        with raw_http.Session.read(self.stream, seq_num=0, count=self.count) as session:
            session.read_head()
            records = [r for _, p in raw_http.frames(session.read_rest()) for r in raw_http.read_batch(p)["records"]]
        expect_equal([record["body"] for record in records], [b"bystander %d" % i for i in range(self.count)])
        return f"{self.count} records"


if __name__ == "__main__":
    sys.exit(main())
