"""What a power cut may leave, on real files: of the extents that were being written when the process was killed, any
sectors are missing. All that was acknowledged is there; what was not is there whole or not at all. And a sector of what
was durable is missing: the start is refused and names the segment.

Syncs are slow, so that several extents are in flight when the process is killed.
"""

import random
import re
import shutil
import subprocess
import time

import raw_http
from lives import BINARY, EXIT_DAMAGED, expect, server

SECTOR_BYTES = 512
SYNC_MS = 600
TRIALS = 6
BATCHES = 400
EXTENT = re.compile(r"extent at offset (\d+): lsn (\d+), (\d+) bytes, .* durable before (\d+), good")


def ends(place, driver, seed):
    rng = random.Random(seed)
    kept, sent = write(place, driver, rng)
    extents = inspect(place / "data")
    durable = max(extent.durable for extent in extents)
    flying = in_flight(place, extents, durable, len(kept))
    expect(flying, "nothing was in flight")
    most = 0
    for trial in range(TRIALS):
        data = copy(place, f"torn-{trial}")
        for extent in flying:
            missing = rng.choice([0, 0, 0.001, 0.3, 1])
            for sector in range(extent.offset, extent.offset + extent.bytes, SECTOR_BYTES):
                if rng.random() < missing:
                    zero(data / extent.path, sector)
        most = max(most, check(place / f"torn-{trial}", driver, kept, sent))
    refused = [refuse(place, driver, rng, extents, durable, trial) for trial in range(TRIALS)]
    return f"{len(kept)} batches acked, {len(flying)} extents in flight, up to {most} batches kept; then {refused[0]}"


def in_flight(place, extents, durable, acked):
    """The extents that no acknowledged batch is in. Some may be acked although none behind them says yet that they are durable."""
    suspects = [extent for extent in extents if extent.lsn >= durable]
    while suspects:
        data = copy(place, "without")
        for extent in suspects:
            zero(data / extent.path, extent.offset, extent.bytes)
        done = subprocess.run([BINARY, "inspect", "--streams", str(data)], capture_output=True, text=True, timeout=60)
        shutil.rmtree(place / "without")
        if int(re.search(r'"s": records 0\.\.(\d+)', done.stdout)[1]) >= 4 * acked:
            break
        suspects.pop(0)
    return suspects


def write(place, driver, rng):
    """Pipelines appends and kills the server while the last extents are on their way. Returns the bodies acked and sent."""
    with server(place, driver, f"sync:slow={SYNC_MS}") as one:
        stream = raw_http.Account(one.target).create_basin(name="torn-basin").create_stream(name="s")
        sent = [[f"{batch}.{n} ".encode() + b"t" * rng.choice([10, 3000, 40_000]) for n in range(4)] for batch in range(BATCHES)]
        acked = 0
        with raw_http.Session.append(stream, timeout=60) as session:
            session.read_head()
            for bodies in sent[:20]:
                session.send_frame(raw_http.append_input(records(bodies)))
            while acked < 20:
                session.read_ack()
                acked += 1
            for bodies in sent[20:]:
                session.send_frame(raw_http.append_input(records(bodies)))
            # The first extent goes out alone, the others when it is durable.
            first = session.read_ack()
            time.sleep(SYNC_MS / 3000)
            one.kill()
            acked += 1
            try:
                while session.read_frame() is not None:
                    acked += 1
            except (OSError, EOFError, raw_http.http.client.HTTPException, AssertionError):
                pass
        expect(first["start"]["seq_num"] == 80, f"{first}")
    return sent[:acked], sent


def check(place, driver, kept, sent):
    """Starts, with a beginning of what was sent that has all that was acked. Returns how many batches more."""
    with server(place, driver, "") as one:
        stream = raw_http.Basin(one.target, "torn-basin").stream("s")
        tail = stream.tail()["seq_num"]
        expect(tail % 4 == 0, f"a batch is torn apart: {tail} records")
        expect(tail // 4 >= len(kept), f"{len(kept)} batches were acked, {tail // 4} are there")
        bodies = []
        with raw_http.Session.read(stream, seq_num=0, count=tail) as session:
            expect(session.read_head() == 200, f"it cannot be read: {session.status}")
            for flag, payload in raw_http.frames(session.read_rest()):
                expect(not flag & raw_http.TERMINAL, f"the read failed: {payload}")
                bodies += [record["body"] for record in raw_http.read_batch(payload)["records"]]
        expect(bodies == [body for batch in sent[: tail // 4] for body in batch], "wrong records")
        expect(stream.append("after", match_seq_num=tail).status == 200, "it takes nothing new")
        one.kill()
    shutil.rmtree(place)
    return tail // 4 - len(kept)


def refuse(place, driver, rng, extents, durable, trial):
    """A sector of an extent that another one says was durable, with something in it."""
    data = copy(place, f"lost-{trial}")
    extent = rng.choice([extent for extent in extents if extent.lsn + extent.bytes <= durable])
    bytes_of = (data / extent.path).read_bytes()[extent.offset : extent.offset + extent.bytes]
    sectors = [at for at in range(0, extent.bytes, SECTOR_BYTES) if any(bytes_of[at : at + SECTOR_BYTES])]
    zero(data / extent.path, extent.offset + rng.choice(sectors))
    one = server(place / f"lost-{trial}", driver, "")
    one.spawn()
    expect(one.process.wait(30) == EXIT_DAMAGED, f"exit status {one.process.returncode}: {one.log_end()}")
    told = next(line for line in one.log_end().splitlines() if line.startswith("millrace: shard"))
    expect(f"segment {extent.path.name}" in told and "is damaged" in told, told)
    shutil.rmtree(place / f"lost-{trial}")
    return told[:90]


class Extent:
    def __init__(self, path, numbers):
        self.path = path
        self.offset, self.lsn, self.bytes, self.durable = map(int, numbers)


def inspect(data):
    done = subprocess.run([BINARY, "inspect", "--extents", str(data)], capture_output=True, text=True, timeout=60)
    expect(done.returncode == 0, f"{done.stdout[-500:]} {done.stderr[-500:]}")
    extents, path = [], None
    for line in done.stdout.splitlines():
        if name := re.match(r"  ([0-9a-f]{16}\.seg)", line):
            path = next(data.glob(f"log/*/{name[1]}")).relative_to(data)
        elif numbers := EXTENT.search(line):
            extents.append(Extent(path, numbers.groups()))
    return extents


def copy(place, name):
    """A copy of the data directory at `place`, in a folder of its own."""
    (place / name).mkdir()
    subprocess.run(["cp", "-r", "--sparse=always", str(place / "data"), str(place / name / "data")], check=True)
    return place / name / "data"


def zero(path, at, count=SECTOR_BYTES):
    with open(path, "r+b") as file:
        file.seek(at)
        file.write(bytes(count))


def records(bodies):
    return [raw_http.Encoded(raw_http.append_record(body)) for body in bodies]
