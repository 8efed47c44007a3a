#!/usr/bin/env python3
"""Runs `millrace verify` against a server that is well, one that is killed meanwhile, and one that lies; prints a line for each.

  a healthy server is consistent: exit status 0, also for the history of a single stream, and the streams are gone afterwards
  a server killed with `kill -9` and started again, three times, is consistent
  a proxy that drops an acknowledged append, doubles one, or tells an old tail, is found out: exit status 1 and a counter-example
  nobody there: exit status 3; settings that make no sense: 2; an interrupt ends a run early and it is checked all the same

  tests/verify/verify.py --driver inline --seconds 4
"""

import argparse
import json
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import liar  # noqa: E402
import millrace_process  # noqa: E402
import raw_http  # noqa: E402
from millrace_process import Millrace  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--seconds", type=int, default=4, help="how long each run lasts")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()

    folder = pathlib.Path(tempfile.mkdtemp(prefix="millrace-verify-"))
    server = Millrace(folder / "data", options.driver, ["--shards", "2", "--segment-bytes", "16MiB"])
    tests = [a_healthy_server_is_consistent, a_killed_server_is_consistent, an_interrupt_still_checks, the_absent_are_told_apart]
    tests += [lambda server, options, folder, lie=lie: a_lie_is_found(server, options, lie) for lie in liar.LIES]
    passed = failed = 0
    try:
        server.start()
        for number, test in enumerate(tests):
            try:
                print(f"ok {number}: {test(server, options, folder)}", flush=True)
                passed += 1
            except (AssertionError, RuntimeError, OSError, subprocess.TimeoutExpired) as problem:
                failed += 1
                print(f"not ok {number}: {getattr(test, '__name__', test)}: {problem}", flush=True)
    finally:
        if server.process is not None:
            server.kill()
        if failed:
            print(f"data: {folder}\nserver log ends:\n{server.log_end()}", flush=True)
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


class Verify:
    """One run of `millrace verify`."""

    def __init__(self, target, seconds, seed, *arguments):
        command = [millrace_process.binary(), "verify", "--endpoint", target, "--duration", f"{seconds}s", "--seed", str(seed)]
        self.process = subprocess.Popen(
            command + [str(a) for a in arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True
        )

    def end(self, status):
        """Waits, and returns what it printed. The exit status must be `status`."""
        try:
            printed, _ = self.process.communicate(timeout=120)
        finally:
            self.process.kill()
        assert self.process.returncode == status, f"exit status {self.process.returncode}, not {status}:\n{printed}"
        return printed


def line(printed, beginning):
    found = [text for text in printed.splitlines() if text.startswith(beginning)]
    assert found, f"no line begins with {beginning!r}:\n{printed}"
    return found[0]


def operations(printed):
    found = [text for text in printed.splitlines() if " operations in " in text]
    assert found, f"no operations:\n{printed}"
    return int(found[0].split()[0]), found[0]


def a_healthy_server_is_consistent(server, options, folder):
    path = folder / "history.jsonl"
    printed = Verify(server.target, options.seconds, options.seed, "--streams", 1, "--history", path).end(0)
    count, summary = operations(printed)
    assert count > 100 and line(printed, "verdict: consistent"), printed
    events = [json.loads(text) for text in path.read_text().splitlines()]
    starts = sum("Start" in event["event"] for event in events)
    assert starts > count / 2 and len(events) == 2 * starts, f"{starts} starts in {len(events)} events of {count} operations"
    basins = raw_http.Account(server.target).send("GET", "/basins?prefix=verify-").json()["basins"]
    left = [basin for basin in basins if not basin.get("deleted_at")]
    assert not left, f"left behind: {left}"
    return summary


def a_killed_server_is_consistent(server, options, _folder):
    run = Verify(server.target, options.seconds * 3, options.seed)
    rng = random.Random(options.seed)
    for _ in range(3):
        time.sleep(options.seconds * (0.3 + 0.4 * rng.random()))
        server.kill()
        time.sleep(rng.random() * 0.5)
        restart(server)
    printed = run.end(0)
    assert line(printed, "verdict: consistent")
    return f"killed 3 times: {operations(printed)[1]}; {[t for t in printed.splitlines() if 'without an answer ' in t and ' of ' in t][-1]}"


def restart(server):
    """Starts the server where it was: clients know no other port."""
    server.spawn()
    deadline = time.monotonic() + millrace_process.START_SECONDS_MAX
    while not server.healthy():
        if not server.alive() or time.monotonic() > deadline:
            raise RuntimeError(f"does not start again:\n{server.log_end()}")
        time.sleep(0.02)


def an_interrupt_still_checks(server, options, _folder):
    run = Verify(server.target, 600, options.seed)
    time.sleep(2)
    run.process.send_signal(signal.SIGINT)
    printed = run.end(0)
    assert line(printed, "verdict: consistent")
    return line(printed, "ended early")


def the_absent_are_told_apart(_server, options, _folder):
    nobody = f"http://127.0.0.1:{millrace_process.free_port()}"
    Verify(nobody, 1, options.seed).end(3)
    Verify("ftp://127.0.0.1", 1, options.seed).end(2)
    Verify(nobody, 1, options.seed, "--clients", 0).end(2)
    return "nobody there: 3; settings: 2"


def a_lie_is_found(server, options, lie):
    # A slow machine may leave no time to lie: then there is more of it.
    for factor in (1, 3, 9):
        with_lies = liar.Liar(server.target, lie)
        try:
            run = Verify(with_lies.target, options.seconds * factor, options.seed, "--streams", 1)
            run.process.wait(120)
        finally:
            with_lies.close()
        if with_lies.times == 0:
            break
    printed = run.end(1)
    verdict = printed[printed.index("verdict: NOT CONSISTENT"):].splitlines()
    assert any(text.startswith("  op ") for text in verdict), f"no counter-example:\n{printed}"
    return f"{lie}: {verdict[1]}"


if __name__ == "__main__":
    sys.exit(main())
