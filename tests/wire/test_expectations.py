"""What the suites of S2's clients expect beyond single answers, one test per theme. docs/testing.md says where the other themes
have their tests."""

import concurrent.futures
import hashlib
import os
import threading
import time

import raw_http
from raw_http import Encoded, Session, append_input, append_record, read_batch

THREADS = 12


def test_concurrent_auto_creation_succeeds_for_one_and_harms_nobody(account):
    """Go: at least one append succeeds, each other one as well, or it is told 409."""
    basin = account.create_basin({"create_stream_on_append": True, "create_stream_on_read": True})
    together = threading.Barrier(THREADS)

    def touch(number):
        stream = basin.stream("made-by-all")
        together.wait()
        return stream.append(f"{number}") if number % 3 else stream.read(seq_num=0)

    with concurrent.futures.ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(touch, range(THREADS)))
    appended = [a for number, a in enumerate(answers) if number % 3]
    assert any(a.status == 200 for a in appended)
    assert all(a.status == 200 or (a.status, a.code) == (409, "transaction_conflict") for a in appended), appended
    assert all(a.status in (200, 416) or a.code == "transaction_conflict" for n, a in enumerate(answers) if n % 3 == 0), answers
    stream = basin.stream("made-by-all")
    assert stream.tail()["seq_num"] == sum(a.status == 200 for a in appended), "it is one stream, with every append that was acked"


def test_a_reader_beside_concurrent_appenders_sees_every_record_once_and_in_order(stream):
    """Python: what is read while others append has no gap and no disorder."""
    writers, each = 6, 40

    def write(writer):
        return [stream.append(f"{writer}:{n}").json()["start"]["seq_num"] for n in range(each)]

    with Session.read(stream, seq_num=0) as session, concurrent.futures.ThreadPoolExecutor(writers) as pool:
        acked = [pool.submit(write, writer) for writer in range(writers)]
        assert session.read_head() == 200
        records = []
        while len(records) < writers * each:
            flag, payload = session.read_frame()
            assert flag & 0x80 == 0
            records += read_batch(payload)["records"]
    assert [r["seq_num"] for r in records] == list(range(writers * each))
    timestamps = [r["timestamp"] for r in records]
    assert timestamps == sorted(timestamps)
    for writer, numbers in enumerate(acked):
        mine = [r for r in records if r["body"].startswith(f"{writer}:".encode())]
        assert [r["body"] for r in mine] == [f"{writer}:{n}".encode() for n in range(each)], "each writer's order is kept"
        assert [r["seq_num"] for r in mine] == numbers.result(), "and is what it was told"


class Chain:
    """Records whose header `hash` binds each to all before it."""

    def __init__(self):
        self.last = b""

    def next(self, body):
        self.last = hashlib.sha256(self.last + body).digest()
        return self.last

    def check(self, records):
        for record in records:
            assert record["headers"] == [(b"hash", self.next(record["body"]))]


def test_a_benched_stream_reads_back_live_and_later_as_it_was_written(basin):
    """The command line's `bench`: create, append in a session, follow, catch up, delete; a chain of hashes proves the data."""
    batches, records = 30, 8
    stream = basin.create_stream()
    written, live = Chain(), Chain()
    with Session.read(stream, seq_num=0, count=batches * records, wait=10) as reader, Session.append(stream) as writer:
        assert reader.read_head() == 200
        for _ in range(batches):
            bodies = [os.urandom(700) for _ in range(records)]
            batch = [Encoded(append_record(body, [(b"hash", written.next(body))])) for body in bodies]
            writer.send_frame(append_input(batch))
        writer.finish_body()
        assert writer.read_head() == 200
        for n in range(batches):
            assert writer.read_ack()["end"]["seq_num"] == (n + 1) * records
        while (got := reader.read_frame()) is not None:
            live.check(read_batch(got[1])["records"])
    later = Chain()
    answer = stream.read({"content-type": "s2s/proto"}, seq_num=0, count=batches * records)
    for _, payload in raw_http.frames(answer.body):
        later.check(read_batch(payload)["records"])
    assert written.last == live.last == later.last
    assert stream.send("DELETE").status == 202


BASINS = 300


def test_hundreds_of_basins_are_deleted_cheaply_and_block_nobody(account):
    """Every suite, at its end: basins with a stream each are deleted by the hundred, while others are served."""
    bystander = account.create_basin().create_stream()

    def make(_):
        basin = account.create_basin({"create_stream_on_append": True})
        assert basin.stream("s").append("x").status == 200
        return basin.name

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        names = list(pool.map(make, range(BASINS)))
        started = time.monotonic()
        deletions = [pool.submit(account.send, "DELETE", "/basins/" + name) for name in names]
        longest = 0.0
        while not all(deletion.done() for deletion in deletions):
            before = time.monotonic()
            assert bystander.append("meanwhile").status == 200
            longest = max(longest, time.monotonic() - before)
    assert all(deletion.result().status == 202 for deletion in deletions)
    took = time.monotonic() - started
    assert took < 30 and longest < 5, f"{BASINS} deletions took {took:.1f} s, an append among them {longest:.1f} s"
    answer = account.send("GET", "/basins/" + names[0])
    assert answer.status in (200, 404), "it is going, or gone"
