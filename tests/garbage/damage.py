"""Damage on the disk: what was durable and is damaged makes the server refuse to start and name the file; what was not yet
durable is cut off; whatever it does, it never serves wrong records, crashes or hangs.
"""

import os
import pathlib
import random
import re
import shutil
import subprocess
import sys
import time

import raw_http
from millrace_process import START_SECONDS_MAX, Millrace, binary

SECTOR_BYTES = 4096
RANDOM_FLIPS = 12
# Small segments, so that sixty MiB fill several; one shard, so that its log holds everything.
ARGUMENTS = ["--shards", "1", "--segment-bytes", "16MiB", "--cache-bytes-max", "16MiB"]
# Only the last extents, which no later one vouches for, may be taken for torn: a few appends of four records at most.
MISSING_RECORDS_MAX = 40


class Failure(Exception):
    """A promise of the server is broken."""


def checks(folder, options):
    """`(name, check)` pairs; the first writes the data that the others copy and damage."""
    original = Original(folder / "original", options.driver)
    yield "data is written and the server stops", original.write
    if not original.records:
        return
    yield "a second server on the same directory refuses to start", original.second_server
    yield "an undamaged copy starts with every record", lambda: Damaged(original, "whole").expect_all()
    if original.can_inspect():
        yield "`millrace inspect` lists the extents", original.inspect
    rng = random.Random(f"{options.seed} damage")
    for part in (0.2, 0.5, 0.8):
        yield f"a flipped byte {part:.0%} into the log is refused", lambda part=part: Damaged(original, "flip").flip_in_log(part)
    yield "a damaged log starts with --accept-data-loss, up to the damage", lambda: Damaged(original, "accept").accept_loss()
    yield "a torn last extent is cut off", lambda: Damaged(original, "torn").tear_last_sector()
    yield "a segment file cut short is refused, or read up to there", lambda: Damaged(original, "short").cut_last_segment()
    yield "a missing segment in the middle is refused", lambda: Damaged(original, "missing").remove_middle_segment()
    for number in range(RANDOM_FLIPS * options.times):
        name = f"random damage {number} never serves wrong records"
        yield name, lambda seed=rng.getrandbits(64): Damaged(original, "random").random_flip(random.Random(seed))


class Unreadable(Exception):
    """The server says, with a 5xx, that it cannot read what it holds. That is honest."""

    def __init__(self, bodies):
        super().__init__(f"unreadable from record {len(bodies)} on")
        self.bodies = bodies


class Original:
    """A data directory with some sixty MiB in two streams, written in many commits."""

    def __init__(self, data, driver):
        self.data = data
        self.driver = driver
        self.basin_name = "damage-basin"
        self.records = {}

    def write(self):
        rng = random.Random("data")
        server = Millrace(self.data, self.driver, ARGUMENTS).start()
        try:
            basin = raw_http.Account(server.target).create_basin(name=self.basin_name)
            for name in ("one", "two"):
                basin.create_stream(name=name)
            records = {"one": [], "two": []}
            for i in range(600):
                name = rng.choice(["one", "two"])
                bodies = [f"{name} {i} {n} " + "d" * rng.randint(0, 80_000) for n in range(rng.randint(1, 4))]
                answer = basin.stream(name).append(*bodies)
                if answer.status != 200:
                    raise Failure(f"{answer}")
                records[name] += [body.encode() for body in bodies]
        finally:
            # Killed, not stopped: a clean stop may leave a checkpoint, and recovery from the log is what is tested here.
            server.kill()
        self.records = records
        return f"{sum(path.stat().st_blocks * 512 for path in self.segments()) >> 20} MiB on disk in {len(self.segments())} segments"

    def segments(self):
        return log_segments(self.data)

    def second_server(self):
        with Millrace(self.copy("locked"), self.driver, ARGUMENTS) as first:
            second = Millrace(first.data, self.driver, ARGUMENTS)
            second.log_path = first.data.with_name("second.log")
            second.spawn()
            expect_refusal(second, first.data.name)
            if not first.healthy():
                raise Failure("the first server is disturbed")

    def run_inspect(self):
        command = [binary(), "inspect", "--extents", "--streams", str(self.copy("inspect"))]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, errors="replace")

    def can_inspect(self):
        able = "has no reader of data directories yet" not in self.run_inspect().stderr
        if not able:
            print("skip   `millrace inspect`: this version says it cannot")
        return able

    def inspect(self):
        done = self.run_inspect()
        if done.returncode != 0:
            raise Failure(f"exit status {done.returncode}: {done.stderr[-500:]}")
        lines = done.stdout.splitlines()
        if not any(".seg" in line or "extent" in line for line in lines):
            raise Failure(f"no extent in {len(lines)} lines: {done.stdout[:500]}")
        return f"{len(lines)} lines"

    def copy(self, name):
        target = self.data.with_name(name)
        shutil.rmtree(target, ignore_errors=True)
        # Segments are mostly untouched zeros: keep them as holes.
        subprocess.run(["cp", "-r", "--sparse=always", str(self.data), str(target)], check=True)
        target.with_name(target.name + ".log").unlink(missing_ok=True)
        return target


class Damaged:
    """A copy of the original that one check damages."""

    def __init__(self, original, name):
        self.original = original
        self.data = original.copy(name)
        self.server = Millrace(self.data, original.driver, ARGUMENTS)

    # ------------------------------------------------------------ damage

    def flip_in_log(self, part):
        """A byte that was certainly durable: in the middle of what was written, and of an extent that others follow."""
        path, end = last_written(log_segments(self.data))
        at = nonzero_byte(path, int(end * part))
        flip(path, at)
        self.server.spawn()
        expect_refusal(self.server, path.name)
        return f"{path.name} at {at} of {end}"

    def accept_loss(self):
        """After a refusal: the way out that the message names. What comes before the damage is there, now and from then on."""
        self.flip_in_log(0.5)
        with Millrace(self.data, self.original.driver, [*ARGUMENTS, "--accept-data-loss"]) as server:
            said = self.check_prefix(server, missing_max=sys.maxsize)
            kept = [read(server, self.original.basin_name, name) for name in ("one", "two")]
        if not any(kept):
            raise Failure("nothing at all is left")
        with self.server as server:
            if [read(server, self.original.basin_name, name) for name in ("one", "two")] != kept:
                raise Failure("the next start finds something else")
        return said

    def tear_last_sector(self):
        path, end = last_written(log_segments(self.data))
        with open(path, "r+b") as file:
            file.seek(end - SECTOR_BYTES)
            file.write(os.urandom(SECTOR_BYTES // 2) + bytes(SECTOR_BYTES // 2))
        with self.server as server:
            return self.check_prefix(server)

    def cut_last_segment(self):
        path, end = last_written(log_segments(self.data))
        with open(path, "r+b") as file:
            file.truncate(end - SECTOR_BYTES)
        self.server.spawn()
        return self.expect_refusal_or_correct()

    def remove_middle_segment(self):
        written = [path for path in log_segments(self.data) if last_nonzero(path) > SECTOR_BYTES]
        if len(written) < 3:
            raise Failure(f"the log has only {len(written)} written segments: write more")
        victim = written[len(written) // 2]
        victim.unlink()
        self.server.spawn()
        return self.expect_refusal_or_correct(missing_max=0)

    def random_flip(self, rng):
        """Up to eight bytes anywhere in the files, where there is anything."""
        files = [path for path in sorted(self.data.rglob("*")) if path.is_file() and last_nonzero(path) > 0]
        path = rng.choice(files)
        offsets = [nonzero_byte(path, rng.randrange(last_nonzero(path))) for _ in range(rng.choice([1, 1, 8]))]
        for at in offsets:
            flip(path, at, rng.randint(1, 255))
        self.server.spawn()
        return f"{path.relative_to(self.data)} at {offsets[0]}: {self.expect_refusal_or_correct()}"

    # ------------------------------------------------------------ what must hold

    def expect_all(self):
        with self.server as server:
            for name, bodies in self.original.records.items():
                if read(server, self.original.basin_name, name) != bodies:
                    raise Failure(f"stream {name} differs")

    def check_prefix(self, server, missing_max=MISSING_RECORDS_MAX):
        """Each stream holds what it held, less a few records at the end, and takes new ones."""
        missing = 0
        for name in ("one", "two"):
            wanted = self.original.records[name]
            try:
                got = read(server, self.original.basin_name, name)
            except Unreadable as unreadable:
                if unreadable.bodies != wanted[: len(unreadable.bodies)]:
                    raise Failure(f"stream {name}: wrong records before the damage") from unreadable
                return f"starts, {name} is {unreadable}"
            if got != wanted[: len(got)]:
                raise Failure(f"stream {name}: record {next(i for i, (a, b) in enumerate(zip(got, wanted)) if a != b)} is wrong")
            missing += len(wanted) - len(got)
            answer = raw_http.Basin(server.target, self.original.basin_name).stream(name).append("after", match_seq_num=len(got))
            if answer.status != 200:
                raise Failure(f"stream {name} takes nothing new: {answer}")
        if missing > missing_max:
            raise Failure(f"it starts, and {missing} acknowledged records are gone without a word")
        return f"starts, {missing} records cut off"

    def expect_refusal_or_correct(self, missing_max=MISSING_RECORDS_MAX):
        """Refuses to start with a message, or starts and serves what was written, and nothing is missing but the last extents."""
        deadline = time.monotonic() + START_SECONDS_MAX
        try:
            while time.monotonic() < deadline:
                if not self.server.alive():
                    return "refused: " + expect_refusal(self.server, None)
                if self.server.healthy():
                    return self.check_prefix(self.server, missing_max)
                time.sleep(0.02)
            raise Failure(f"neither starts nor refuses: {self.server.log_end()}")
        finally:
            self.server.kill()


def expect_refusal(server, named):
    """Ends by itself with an error status, no panic, and a message that names `named`. Returns the message's last line."""
    try:
        status = server.process.wait(START_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        healthy = server.healthy()
        server.kill()
        raise Failure(f"it {'serves' if healthy else 'hangs'} instead of refusing: {server.log_end()}") from None
    said = re.sub(r"\x1b\[[0-9;]*m", "", server.log_end())
    if status <= 0:
        raise Failure(f"exit status {status} instead of an error: {said}")
    if "panicked" in said:
        raise Failure(f"a panic instead of a message: {said}")
    if named is not None and named not in said:
        raise Failure(f"exit status {status}, but the message does not name {named}: {said}")
    return said.strip().splitlines()[-1][:200] if said.strip() else ""


def read(server, basin_name, stream_name):
    stream = raw_http.Basin(server.target, basin_name).stream(stream_name)
    answer = stream.send("GET", "/records/tail")
    if answer.status == 404:
        return []
    tail = answer.json()["tail"]["seq_num"]
    if tail == 0:
        return []
    with raw_http.Session.read(stream, seq_num=0, count=tail) as session:
        bodies = []
        if session.read_head() >= 500:
            raise Unreadable(bodies)
        if session.status != 200:
            raise Failure(f"stream {stream_name} cannot be read: {session.status}")
        for flag, payload in raw_http.frames(session.read_rest()):
            if flag & raw_http.TERMINAL:
                if raw_http.terminal(payload)[0] >= 500:
                    raise Unreadable(bodies)
                raise Failure(f"stream {stream_name} cannot be read: {raw_http.terminal(payload)}")
            bodies += [record["body"] for record in raw_http.read_batch(payload)["records"]]
    if len(bodies) != tail:
        raise Failure(f"stream {stream_name}: {len(bodies)} records below tail {tail}")
    return bodies


# ---------------------------------------------------------------- files


def log_segments(data):
    return sorted(pathlib.Path(data).glob("log/**/*.seg"))


def last_nonzero(path):
    """Where the written part of a zero-filled file ends, rounded up to whole sectors."""
    end = 0
    with open(path, "rb") as file:
        at = 0
        while block := file.read(1 << 20):
            stripped = len(block.rstrip(b"\0"))
            if stripped:
                end = at + stripped
            at += len(block)
    return -(-end // SECTOR_BYTES) * SECTOR_BYTES if path.suffix == ".seg" else end


def last_written(segments):
    """The last segment with anything in it, and where that ends."""
    written = [(path, last_nonzero(path)) for path in segments]
    return [(path, end) for path, end in written if end > SECTOR_BYTES][-1]


def nonzero_byte(path, start):
    """The first byte at or after `start` that is not zero, so that the flip hits content and not padding; past the end, from 0."""
    for at in (start, 0):
        with open(path, "rb") as file:
            file.seek(at)
            while block := file.read(1 << 16):
                stripped = block.lstrip(b"\0")
                if stripped:
                    return at + len(block) - len(stripped)
                at += len(block)
    raise Failure(f"{path} holds nothing")


def flip(path, at, mask=0xFF):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ mask]))
