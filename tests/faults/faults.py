#!/usr/bin/env python3
"""Makes the device of a running server fail, fall short, fill up or crawl, and checks what docs/durability.md promises.

Needs a binary with the feature `faults` (engine/src/driver/faults.rs), named by MILLRACE_FAULTS_BIN:

  cargo build -p millrace-server --features faults && cp target/debug/millrace target/debug/millrace-faults
  tests/faults/faults.py --driver threads --seed 1             what CI runs
  tests/faults/faults.py --driver inline --seed 7 --times 20   twenty times as many deaths and torn ends

The seed fixes when a fault strikes and what clients send; the interleaving of threads stays the machine's own.
"""

import argparse
import pathlib
import random
import re
import subprocess
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "crash")]

import crash  # noqa: E402
import full  # noqa: E402
import raw_http  # noqa: E402
import torn  # noqa: E402
from lives import BINARY, EXIT_DAMAGED, EXIT_DEVICE, EXIT_SETTINGS, expect, server, until  # noqa: E402
from millrace_process import binary  # noqa: E402

# A fault of the log's device, and what the last line must say of it.
DEATHS = [
    ("write:eio", "write .* Input/output error"),
    ("sync:eio", "sync .* Input/output error"),
    ("write:short", "write .* only [0-9]+ of [0-9]+ bytes"),
    ("write:enospc", "write .* No space left on device"),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=1)
    parser.add_argument("--only", default="", help="checks whose name has this in it")
    options = parser.parse_args()
    passed = failed = 0
    with tempfile.TemporaryDirectory(prefix="millrace-faults-") as folder:
        for number, (name, check) in enumerate(checks(options)):
            if options.only not in name:
                continue
            started = time.monotonic()
            place = pathlib.Path(folder) / str(number)
            place.mkdir()
            try:
                note = check(place) or ""
                passed += 1
                print(f"ok     {name} ({time.monotonic() - started:.1f} s) {note}", flush=True)
            except Exception as problem:
                failed += 1
                print(f"FAILED {name}: {type(problem).__name__}: {problem}", flush=True)
                for log in place.glob("*.log"):
                    print(f"{log} ends:\n{log.read_text(errors='replace')[-3000:]}", flush=True)
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


def checks(options):
    driver = options.driver
    rng = random.Random(options.seed)
    yield "a default build makes no faults", lambda place: no_faults_by_default()
    yield "a plan that is not known is refused", lambda place: wrong_plan(place, driver)
    for _ in range(options.times):
        for plan, said in DEATHS:
            at = rng.randint(20, 300)
            seed = rng.getrandbits(32)
            yield (
                f"{plan} at {at} ends the process, and nothing acknowledged is lost",
                lambda place, plan=f"{plan}:at={at}", said=said, seed=seed: die(place, driver, plan, said, seed),
            )
    yield "a log that cannot be read costs those who read it", lambda place: unreadable(place, driver)
    yield "a sector that is lost refuses the start by name", lambda place: unreadable_at_start(place, driver)
    yield "a slow device makes it slow", lambda place: slow(place, driver, "sync:slow=20,write:slow=1500:at=40,read:slow=50")
    yield "a full file system stops appends until there is room", lambda place: full.file_system(place, driver)
    for plan in ("checkpoint:enospc", "rename:eio"):
        yield f"{plan} of checkpoints stops appends until it works", lambda place, plan=plan: full.checkpoint(place, driver, plan)
    yield "a segment that fails now and then is made again", lambda place: full.now_and_then(place, driver)
    for number in range(options.times):
        seed = rng.getrandbits(32)
        yield f"torn ends {number} keep all that was acknowledged", lambda place, seed=seed: torn.ends(place, driver, seed)


def no_faults_by_default():
    expect(b"MILLRACE_FAULTS" in pathlib.Path(BINARY).read_bytes(), f"{BINARY} was built without the feature")
    default = pathlib.Path(binary())
    if not default.exists():
        return f"{default} is not there to be looked at"
    expect(b"MILLRACE_FAULTS" not in default.read_bytes(), f"{default} was built with the feature")


def wrong_plan(place, driver):
    one = server(place, driver, "write:oops")
    one.spawn()
    expect(one.process.wait(30) == EXIT_SETTINGS, f"exit status {one.process.returncode}")
    expect("`oops` of `write:oops` is not known" in one.log_end(), one.log_end())


def die(place, driver, plan, said, seed):
    """Clients of all kinds append until the fault ends the process; then it starts without faults, and is asked for everything."""
    one = server(place, driver, plan)
    run = crash.Run(one, random.Random(seed), 10)
    one.start()
    basin = raw_http.Basin(one.target, run.basin_name)
    run.create(basin)
    stop = threading.Event()
    crew = run.crew(basin, 0, stop)
    for worker in crew:
        worker.start()
    until(60, lambda: not one.alive(), "the fault does not end the process")
    stop.set()
    for worker in crew:
        worker.join(30)
        expect(not worker.is_alive(), f"{worker.name} hangs though the server is gone")
        if worker.problem:
            raise worker.problem
    expect(one.process.returncode == EXIT_DEVICE, f"exit status {one.process.returncode}")
    told = [line for line in one.log_end().splitlines() if line.startswith("millrace: the log cannot be written")]
    expect(len(told) == 1 and re.search(said, told[0]) and ".seg" in told[0], f"the reason is told as {told}")
    expect("panicked" not in one.log_end(), one.log_end())
    one.environment["MILLRACE_FAULTS"] = ""
    one.start()
    records = run.verify(raw_http.Basin(one.target, run.basin_name))
    expect(one.terminate() == 0, "it does not stop")
    return f"{sum(worker.acked for worker in crew)} batches acked, {records} records there"


def unreadable(place, driver):
    """Reads that meet the fault are told so, in time; appends, the tail and reads from memory go on; then all is there."""
    bad = place / "bad"
    with server(place, driver, f"read:eio:while={bad}", ["--cache-bytes-max", "16MiB"]) as one:
        basin = raw_http.Account(one.target).create_basin()
        stream = basin.create_stream(name="old")
        bodies = [f"{number} " + "r" * 60_000 for number in range(700)]
        for at in range(0, len(bodies), 10):
            expect(stream.append(*bodies[at : at + 10]).status == 200, "an append fails")
        bad.touch()
        answer = stream.read(seq_num=0, count=10)
        expect(answer.status == 500 and answer.code == "storage", f"a read of what cannot be read: {answer}")
        with raw_http.Session.read(stream, seq_num=0, count=700) as session:
            status = session.read_head()
            if status == 200:
                status, _ = session.read_terminal()
            expect(status == 500, f"a session is answered {status}")
        expect(stream.append("new").status == 200, "an append is disturbed")
        expect(stream.read(tail_offset=1).json()["records"][0]["body"] == "new", "the tail is disturbed")
        said = [line for line in one.log_end().splitlines() if "read " in line and "Input/output error" in line]
        expect(said and ".seg" in said[0], f"nobody who keeps the server is told: {one.log_end()}")
        bad.unlink()
        got = []
        while len(got) < len(bodies):
            got += [record["body"] for record in stream.read(seq_num=len(got), count=1000).json()["records"]]
        expect(got[: len(bodies)] == bodies, "wrong records")
        expect(one.terminate() == 0, "it does not stop")
    return answer.json()["message"]


def unreadable_at_start(place, driver):
    one = server(place, driver, "")
    with one:
        stream = raw_http.Account(one.target).create_basin().create_stream(name="s")
        expect(stream.append("kept").status == 200, "an append fails")
    one.environment["MILLRACE_FAULTS"] = "image:eio:after=3"
    one.spawn()
    expect(one.process.wait(30) == EXIT_DAMAGED, f"exit status {one.process.returncode}: {one.log_end()}")
    told = one.log_end().splitlines()[-1]
    expect(re.search(r"does not give back .*\.seg at offset \d+: Input/output error", told), told)
    inspected = subprocess.run([BINARY, "inspect", str(one.data)], capture_output=True, text=True, timeout=60)
    expect(inspected.returncode == 0, f"a plan does not concern inspect: {inspected}")
    one.environment["MILLRACE_FAULTS"] = ""
    with one:
        stream.basin.target = stream.target = one.target
        expect(stream.read(seq_num=0).json()["records"][0]["body"] == "kept", "it is not there")
    return told[told.index("log/") :][:60]


def slow(place, driver, plan):
    """Everything is answered, with success, and the stop is clean."""
    one = server(place, driver, plan)
    with one:
        basin = raw_http.Account(one.target).create_basin()
        problems, counts, slowest = [], [0] * 8, [0.0] * 8
        over = threading.Event()

        def work(number):
            stream = basin.stream(f"s{number % 4}")
            while not over.is_set():
                started = time.monotonic()
                answer = stream.append(f"{number} {counts[number]}")
                slowest[number] = max(slowest[number], time.monotonic() - started)
                if answer.status != 200:
                    problems.append(answer)
                    return
                counts[number] += 1

        for number in range(4):
            basin.create_stream(name=f"s{number}")
        threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(5)
        over.set()
        for thread in threads:
            thread.join(30)
        expect(not any(thread.is_alive() for thread in threads), "an append hangs")
        expect(not problems, f"an append is refused: {problems}")
        expect(max(slowest) >= 1.4, "the fault did not strike")
        expect(min(counts) > 20, f"too slow: {counts}")
        started = time.monotonic()
        expect(one.terminate() == 0, "it does not stop")
        expect(time.monotonic() - started < 15, "the stop takes too long")
    with server(place, driver, "") as again:
        basin.target = again.target
        tails = [raw_http.Basin(again.target, basin.name).stream(f"s{number}").tail()["seq_num"] for number in range(4)]
        expect(sum(tails) == sum(counts), f"{sum(counts)} acknowledged, {sum(tails)} there")
    return f"{sum(counts)} appends, the slowest {max(slowest):.1f} s"


if __name__ == "__main__":
    sys.exit(main())
