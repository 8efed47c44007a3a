"""What the crash test knows about one stream: which batches were tried, how each ended, and what must therefore be readable.

A record's body begins with its id, `<batch>.<index>|`; the rest is the id repeated, so that a damaged body shows. A fence's
token is its batch id, and a trim's is `trim-<point>`: points only rise, so that each names one trim.
"""

import threading

class Violation(Exception):
    """A promise of the server is broken."""


class Batch:
    """One append: `sizes` of its records and how it ended."""

    UNKNOWN, ACKED, REFUSED = "unknown", "acked", "refused"

    def __init__(self, batch_id, sizes, command=None):
        self.batch_id = batch_id
        self.sizes = sizes
        # A command batch is one record: ("fence", token) or ("trim", seq_num).
        self.command = command
        self.state = Batch.UNKNOWN
        self.ack = None
        # An earlier restart showed it.
        self.found = False

    def bodies(self):
        return [body(self.batch_id, index, size) for index, size in enumerate(self.sizes)]


def body(batch_id, index, size):
    head = f"{batch_id}.{index}|".encode()
    return (head * (size // len(head) + 1))[: max(size, len(head))]


class Ledger:
    def __init__(self, name):
        self.name = name
        self.lock = threading.Lock()
        # Batches that may be readable. What a restart shows to be absent moves to `absent`; what is trimmed is forgotten.
        self.batches = {}
        self.absent = set()
        # seq_num -> (batch_id, index, timestamp or None): acknowledged, seen by a follower, or found by an earlier restart.
        self.known = {}
        self.tail = 0
        # Trims stay below this, so that nothing of unknown fate is ever trimmed.
        self.verified_tail = 0
        self.trim_acked = 0
        self.trim_tried = 0
        self.last_fence = (-1, "")

    @property
    def fencing_token(self):
        return self.last_fence[1]

    # ------------------------------------------------------------ while clients write

    def begin(self, batch):
        with self.lock:
            assert batch.batch_id not in self.batches, "batch ids are unique"
            self.batches[batch.batch_id] = batch
            if batch.command and batch.command[0] == "trim":
                assert self.trim_tried < batch.command[1] <= self.verified_tail
                self.trim_tried = batch.command[1]

    def acked(self, batch, ack):
        start, end = ack["start"]["seq_num"], ack["end"]["seq_num"]
        if end - start != len(batch.sizes):
            raise Violation(f"{self.name}: {batch.batch_id} has {len(batch.sizes)} records, its ack {start}..{end}")
        with self.lock:
            batch.state, batch.ack = Batch.ACKED, ack
            for index in range(len(batch.sizes)):
                self._know(start + index, batch.batch_id, index, None)
            self.tail = max(self.tail, ack["tail"]["seq_num"])
            if batch.command and batch.command[0] == "trim":
                self.trim_acked = max(self.trim_acked, batch.command[1])

    def refused(self, batch):
        """A definite error: it must never become readable."""
        with self.lock:
            batch.state = Batch.REFUSED

    def seen(self, record):
        """A follower got this record: it is committed."""
        batch_id, index = identify(record)
        with self.lock:
            self._know(record["seq_num"], batch_id, index, record["timestamp"])
            self.tail = max(self.tail, record["seq_num"] + 1)

    def _know(self, seq_num, batch_id, index, timestamp):
        other = self.known.get(seq_num)
        if other is not None:
            if other[:2] != (batch_id, index):
                raise Violation(f"{self.name}: {seq_num} is {other[0]}.{other[1]} and {batch_id}.{index}")
            timestamp = timestamp if timestamp is not None else other[2]
        self.known[seq_num] = (batch_id, index, timestamp)

    # ------------------------------------------------------------ after a restart

    def verify(self, records, tail, trims_are_done=True):
        """Checks `records`, all that is readable, and takes what it finds as known from now on."""
        with self.lock:
            self._check_shape(records, tail, trims_are_done)
            places = {}
            for record in records:
                self._check_record(record, places)
            first = records[0]["seq_num"] if records else tail["seq_num"]
            lost = [seq_num for seq_num in self.known if seq_num >= tail["seq_num"]]
            if lost:
                raise Violation(f"{self.name}: {len(lost)} committed records lost, from {min(lost)} ({self.known[min(lost)]})")
            for batch in self.batches.values():
                self._check_batch(batch, places, first)
            self._adopt(records, tail, places, first)

    def _check_shape(self, records, tail, trims_are_done):
        if tail["seq_num"] < self.tail:
            raise Violation(f"{self.name}: the tail went back from {self.tail} to {tail['seq_num']}")
        first = records[0]["seq_num"] if records else tail["seq_num"]
        numbers = [record["seq_num"] for record in records]
        if numbers != list(range(first, tail["seq_num"])):
            gap = next((n for n, m in zip(numbers, range(first, tail["seq_num"] + 1)) if n != m), "the end")
            raise Violation(f"{self.name}: not dense from {first} to {tail['seq_num']}: breaks at {gap}")
        if first > self.trim_tried or trims_are_done and first < self.trim_acked:
            raise Violation(f"{self.name}: begins at {first}; trims acked to {self.trim_acked}, tried to {self.trim_tried}")
        times = [record["timestamp"] for record in records]
        if any(later < earlier for earlier, later in zip(times, times[1:])):
            raise Violation(f"{self.name}: times fall")
        if times and times[-1] != tail["timestamp"]:
            raise Violation(f"{self.name}: the tail says {tail['timestamp']}, the last record {times[-1]}")

    def _check_record(self, record, places):
        batch_id, index = identify(record)
        batch = self.batches.get(batch_id)
        where = f"{self.name}: {record['seq_num']} ({batch_id}.{index})"
        if batch_id in self.absent:
            raise Violation(f"{where}: was refused, or absent after an earlier restart")
        if batch is None or index not in range(len(batch.sizes)):
            raise Violation(f"{where}: nobody wrote this")
        if batch.state == Batch.REFUSED:
            raise Violation(f"{where}: was refused with a definite error")
        if (batch_id, index) in places:
            raise Violation(f"{where}: is also at {places[batch_id, index]}")
        if batch.command is None and record["body"] != body(batch_id, index, batch.sizes[index]):
            raise Violation(f"{where}: has a damaged body of {len(record['body'])} bytes")
        places[batch_id, index] = record["seq_num"]
        known = self.known.get(record["seq_num"])
        if known and known[:2] != (batch_id, index):
            raise Violation(f"{where}: should be {known[0]}.{known[1]}")
        if known and known[2] is not None and known[2] != record["timestamp"]:
            raise Violation(f"{where}: had time {known[2]}, has {record['timestamp']}")
        if batch.ack and index == 0 and batch.ack["start"]["timestamp"] != record["timestamp"]:
            raise Violation(f"{where}: was acked with time {batch.ack['start']['timestamp']}, has {record['timestamp']}")

    def _check_batch(self, batch, places, first):
        """Whole and in a row, or not there; a batch that a trim cut is judged by what is left of it."""
        found = {i: places[batch.batch_id, i] for i in range(len(batch.sizes)) if (batch.batch_id, i) in places}
        if not found:
            if batch.state == Batch.ACKED and batch.ack["end"]["seq_num"] > first:
                raise Violation(f"{self.name}: acked batch {batch.batch_id} is gone: {batch.ack}")
            return
        starts = {seq_num - index for index, seq_num in found.items()}
        if len(starts) != 1:
            raise Violation(f"{self.name}: batch {batch.batch_id} is torn apart: {found}")
        expected = {i for i in range(len(batch.sizes)) if min(starts) + i >= first}
        if set(found) != expected:
            raise Violation(f"{self.name}: only {len(found)} of {len(expected)} records of batch {batch.batch_id}")

    def _adopt(self, records, tail, places, first):
        """What is there is there for good, what is absent stays absent, what is trimmed is forgotten."""
        for record in records:
            batch_id, index = identify(record)
            self.known[record["seq_num"]] = (batch_id, index, record["timestamp"])
            command = self.batches[batch_id].command
            if command and command[0] == "fence":
                self.last_fence = max(self.last_fence, (record["seq_num"], command[1]))
            if command and command[0] == "trim":
                self.trim_acked = max(self.trim_acked, command[1])
        here = {batch_id for batch_id, _ in places}
        for batch in list(self.batches.values()):
            if batch.batch_id in here:
                continue
            if batch.state != Batch.ACKED and not batch.found:
                self.absent.add(batch.batch_id)
            del self.batches[batch.batch_id]
        for batch_id in here:
            self.batches[batch_id].found = True
        self.known = {seq_num: what for seq_num, what in self.known.items() if seq_num >= first}
        self.tail = self.verified_tail = tail["seq_num"]


def identify(record):
    """`(batch id, index)` of a record read back."""
    if len(record["headers"]) == 1 and record["headers"][0][0] == b"":
        name, argument = record["headers"][0][1], record["body"]
        if name == b"trim":
            return f"trim-{int.from_bytes(argument, 'big')}", 0
        return argument.decode("utf-8", "replace"), 0
    head = record["body"].split(b"|", 1)[0].decode("utf-8", "replace")
    batch_id, _, index = head.rpartition(".")
    return batch_id, int(index) if index.isdigit() else -1
