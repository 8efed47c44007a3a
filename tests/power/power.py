#!/usr/bin/env python3
"""Cuts the power below a real file system, and takes sectors away: what `kill -9` and a disk in memory do not show.

A server runs on ext4 on a loop device over a disk that remembers writes and flushes (disk.py), while clients append and
trim. Then, for places in that log: an image of what had been flushed by then, and of what had not any sectors; it is
mounted, a server starts on it, and every append acknowledged by then must be there. So a sync that is missing, or comes
after its acknowledgement, shows. As a control the disk also forgets the last flushes: that must be noticed.

  tests/power/power.py --driver inline --cuts 12 --seed 1      what CI runs, where root, /dev/fuse and loop devices are
  tests/power/power.py --possible                              whether they are; else why not, and status 1

The seed fixes places and sectors; what is written there stays the machine's own.
"""

import argparse
import pathlib
import random
import sys
import tempfile
import threading
import time

TESTS = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(TESTS), str(TESTS / "crash")]

import crash  # noqa: E402
import disk  # noqa: E402
import raw_http  # noqa: E402
from millrace_process import Millrace  # noqa: E402

DISK_BYTES = 160 << 20
ARGUMENTS = ["--shards", "1", "--segment-bytes", "16MiB", "--log-bytes-max", "80MiB", "--cache-bytes-max", "16MiB"]
# By the size of their records. All are trimmed, so that segments are used again behind checkpoints.
STREAMS = ["small", "mixed", "churn"]
EXIT_DAMAGED = 65
FLUSHES_FORGOTTEN = 10
# Acknowledged batches of a client that its trims leave.
KEPT_COUNT = 20


class Failure(Exception):
    """A promise of the server is broken."""


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--driver", default="auto")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--cuts", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=8, help="how long clients append")
    parser.add_argument("--possible", action="store_true")
    options = parser.parse_args()
    why = disk.is_possible()
    if why or options.possible:
        print(why)
        return 1 if why else 0
    tally = {"passed": 0, "failed": 0}

    def check(name, work, *arguments):
        started = time.monotonic()
        try:
            note = work(*arguments)
            tally["passed"] += 1
            print(f"ok     {name} ({time.monotonic() - started:.1f} s) {note}", flush=True)
        except Exception as problem:
            tally["failed"] += 1
            print(f"FAILED {name}: {type(problem).__name__}: {problem}", flush=True)

    with tempfile.TemporaryDirectory(prefix="millrace-power-") as folder:
        folder = pathlib.Path(folder)
        rng = random.Random(options.seed)
        with disk.Disk(folder / "disk", DISK_BYTES) as live:
            live.format_and_mount()
            history = History(live)
            check("clients append on a disk that remembers", append, live, history, options, rng)
            cut = disk.PowerCut(live)
            check("a sector that is lost refuses the start by name", lose_a_sector, live, history, options.driver)
        places = sorted(rng.randrange(history.ready, len(cut.log)) for _ in range(options.cuts))
        for place in places:
            check(f"the power is cut at {place}", cut_at, folder, cut, place, history, options.driver, rng)
        check("a disk that forgets flushes is noticed", forget, folder, disk.PowerCut(live), history, options.driver, rng)
    print(f"{tally['passed']} passed, {tally['failed']} failed")
    return 1 if tally["failed"] else 0


class History:
    """What clients sent and what was acknowledged, each with the place in the disk's log by which it was."""

    def __init__(self, live):
        self.live = live
        self.ready = 0
        # (stream, batch id) -> bodies
        self.sent = {}
        # (place, stream, first seq_num, bodies)
        self.acked = []
        # stream -> (place when it was sent, point)
        self.trims = {name: [] for name in STREAMS}
        self.problems = []

    def place(self):
        return len(self.live.log)


def append(live, history, options, rng):
    server = Millrace(live.root / "data", options.driver, ARGUMENTS)
    server.log_path = live.folder / "server.log"
    server.start()
    basin = raw_http.Account(server.target).create_basin(name="power-basin")
    for name in STREAMS:
        basin.create_stream(name=name)
    history.ready = history.place()
    stop = threading.Event()
    seeds = [rng.getrandbits(64) for _ in range(6)]
    crew = [
        threading.Thread(target=client, args=(basin, STREAMS[n % 3], n, history, random.Random(seeds[n]), stop), daemon=True)
        for n in range(6)
    ]
    for worker in crew:
        worker.start()
    time.sleep(options.seconds)
    metrics = raw_http.request(server.target, "GET", "/metrics").body.decode()
    checkpoints = next(line.split()[-1] for line in metrics.splitlines() if line.startswith("millrace_shard_checkpoints_total{"))
    server.kill()
    stop.set()
    for worker in crew:
        worker.join(30)
    if history.problems:
        raise Failure(history.problems[0])
    flushes = live.log.count(None)
    return f"{len(history.acked)} batches acked, {len(live.log) - flushes} writes, {flushes} flushes, {checkpoints} checkpoints"


def client(basin, name, number, history, rng, stop):
    stream = basin.stream(name)
    largest = {"small": 100, "mixed": 20_000, "churn": 300_000}[name]
    count, starts = 0, []
    while not stop.is_set():
        count += 1
        bodies = [f"{number}-{count}.{n}|" + "p" * rng.randint(0, largest) for n in range(rng.randint(1, 3))]
        history.sent[name, f"{number}-{count}"] = bodies
        try:
            answer = stream.append(*bodies)
            if answer.status == 200:
                start = answer.json()["start"]["seq_num"]
                history.acked.append((history.place(), name, start, bodies))
                starts.append(start)
                if count % 8 == 0 and count > KEPT_COUNT:
                    history.trims[name].append((history.place(), starts[-KEPT_COUNT]))
                    stream.trim(starts[-KEPT_COUNT])
            elif answer.status != 502:
                history.problems.append(f"an append is answered {answer}")
        except (OSError, EOFError, raw_http.http.client.HTTPException):
            return


def cut_at(folder, cut, place, history, driver, rng, shown=None):
    """`shown`: where the disk's memory ends, when that is before what it promised."""
    image = folder / "image"
    cached = cut.write_image(image, place if shown is None else shown, rng)
    with disk.Mounted(image, folder / "root") as root:
        server = Millrace(root / "data", driver, ARGUMENTS)
        server.log_path = folder / "cut.log"
        server.log_path.unlink(missing_ok=True)
        server.start()
        try:
            basin = raw_http.Basin(server.target, "power-basin")
            found = {name: read(basin.stream(name)) for name in STREAMS}
        finally:
            server.kill()
    count = 0
    for name in STREAMS:
        trimmed = max((point for at, point in history.trims[name] if at <= place), default=0)
        check_sent(name, found[name], history)
        for at, stream, start, bodies in history.acked:
            if stream != name or at > place:
                continue
            count += 1
            for seq_num, body in enumerate(bodies, start):
                if seq_num >= trimmed and found[name].get(seq_num, {}).get("body") != body.encode():
                    raise Failure(f"{name}: {seq_num} was acknowledged at {at} and is not there")
    return f"{cached} writes were in its cache; all of {count} batches acked by then are there"


def read(stream):
    tail = stream.tail()
    return {record["seq_num"]: record for record in crash.read_everything(stream, tail)}


def check_sent(name, found, history):
    """Every record was sent, and its batch is there whole, unless a trim has cut it."""
    first = min(found, default=0)
    batches = {}
    for seq_num, record in found.items():
        if record["headers"]:
            continue  # a trim
        batch, _, index = record["body"].split(b"|")[0].decode("utf-8", "replace").partition(".")
        bodies = history.sent.get((name, batch))
        if bodies is None or bodies[int(index)].encode() != record["body"]:
            raise Failure(f"{name}: {seq_num} is nothing that was sent")
        batches.setdefault(batch, []).append(seq_num - int(index))
    for batch, starts in batches.items():
        size = len(history.sent[name, batch])
        whole = len(set(starts)) == 1 and (len(starts) == size or starts[0] < first)
        if not whole:
            raise Failure(f"{name}: batch {batch} is torn apart: {starts} of {size}")


def lose_a_sector(live, history, driver):
    """A read of a sector that recovery needs fails with EIO, as on a disk that has lost it."""
    _, _, _, bodies = max((entry for entry in history.acked if entry[1] == "mixed"), key=lambda entry: entry[0])
    at = live.memory.find(bodies[-1].encode()[:40])
    live.lost = range(at, at + disk.SECTOR_BYTES)
    server = Millrace(live.root / "data", driver, ARGUMENTS)
    server.log_path = live.folder / "lost.log"
    server.spawn()
    status = server.process.wait(30)
    live.lost = range(0)
    said = server.log_end().strip().splitlines()
    if status != EXIT_DAMAGED or ".seg at offset " not in said[-1] or "Input/output error" not in said[-1]:
        raise Failure(f"exit status {status}: {said[-1:]}")
    with server:
        return said[-1][said[-1].index("log/") :][:70]


def forget(folder, cut, history, driver, rng):
    """The control: the checks above must be able to fail."""
    for _ in range(10):
        place = rng.randrange(max(history.ready, len(cut.log) * 2 // 3), len(cut.log))
        shown = place
        for _ in range(FLUSHES_FORGOTTEN):
            shown = cut.flushed_before(shown - 1)
        cut.done, cut.image = 0, bytearray(DISK_BYTES)
        try:
            cut_at(folder, cut, place, history, driver, rng, shown)
        except (Failure, crash.ledger.Violation) as noticed:
            return f"{noticed}"[:80]
    raise Failure("no record was missed although the disk forgot flushes")


if __name__ == "__main__":
    sys.exit(main())
