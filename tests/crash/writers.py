"""The clients of the crash test. Each is a thread that works until the server is gone, and writes in a ledger what it tried and learnt.

An answer below 500 that is no success is definite: the batch must stay absent. Anything else (a 5xx, a broken connection) leaves
its fate open.
"""

import collections
import http.client
import json
import threading

import ledger
import raw_http
from ledger import Batch

DEAD = (OSError, EOFError, http.client.HTTPException)


class Writer(threading.Thread):
    """`work` is called until it raises one of `DEAD`, a violation, or `stop` is set."""

    def __init__(self, basin, books, name, rng, stop):
        super().__init__(name=name, daemon=True)
        self.basin = basin
        self.books = books
        self.rng = rng
        self.stop = stop
        self.count = 0
        self.acked = 0
        self.problem = None

    def run(self):
        try:
            while not self.stop.is_set():
                self.work()
        except DEAD:
            pass
        except Exception as problem:  # carried to the main thread, which ends the run
            self.problem = problem

    def new_batch(self, records_max=20, bytes_max=3000):
        self.count += 1
        count = self.rng.choice([1, 1, 1, self.rng.randint(1, records_max)])
        largest = self.rng.choice([10, 200, bytes_max])
        if self.rng.random() < 0.02:
            count, largest = 1, 700_000
        return Batch(f"{self.name}-{self.count}", [self.rng.randint(0, largest) for _ in range(count)])

    def post(self, connection, book, batch, **conditions):
        """One unary append in protobuf; returns the answer when it was refused."""
        path = "/v1/streams/" + raw_http.segment(book.name) + "/records"
        kind = {"content-type": "application/protobuf", "accept": "application/protobuf"}
        book.begin(batch)
        data = raw_http.append_input(records_of(batch), **conditions)
        answer = raw_http.request_on(connection, "POST", path, {"s2-basin": self.basin.name, **kind}, data)
        if answer.status == 200:
            book.acked(batch, raw_http.append_ack(answer.body))
            self.acked += 1
            return None
        if answer.status < 500:
            book.refused(batch)
        return answer

    def connect(self):
        host, port = raw_http.host_and_port(self.basin.target)
        return http.client.HTTPConnection(host, port, timeout=60)


def records_of(batch):
    if batch.command is None:
        return batch.bodies()
    name, argument = batch.command
    body = argument.encode() if name == "fence" else argument.to_bytes(8, "big")
    return [raw_http.Encoded(raw_http.append_record(body, [(b"", name.encode())]))]


class Unary(Writer):
    """One batch after the other, on streams that others write too."""

    def run(self):
        self.connection = self.connect()
        super().run()

    def work(self):
        refused = self.post(self.connection, self.rng.choice(self.books), self.new_batch())
        if refused and refused.status not in (429, 500, 502, 503, 504):
            raise ledger.Violation(f"{self.name}: an unconditional append was answered {refused}")


class Session(Writer):
    """Pipelined appends on one connection; the first stream is used most."""

    def work(self):
        book = self.books[0] if self.rng.random() < 0.6 else self.rng.choice(self.books)
        unacked = collections.deque()
        with raw_http.Session.append(self.basin.stream(book.name), timeout=60) as session:
            session.read_head()
            for _ in range(self.rng.randint(1, 200)):
                batch = self.new_batch()
                book.begin(batch)
                unacked.append(batch)
                session.send_frame(raw_http.append_input(records_of(batch)))
                while len(unacked) > self.rng.choice([0, 4, 16]):
                    if not self.take_ack(session, book, unacked):
                        return
            session.finish_body()
            while unacked and self.take_ack(session, book, unacked):
                pass

    def take_ack(self, session, book, unacked):
        """False when the session has ended; a definite refusal refuses all that waits."""
        got = session.read_frame()
        if got is None:
            raise EOFError("the session ended early")
        flag, payload = got
        if flag & raw_http.TERMINAL:
            status, body = raw_http.terminal(payload)
            if status < 500 or body.get("code") == "server_draining":
                for batch in unacked:
                    book.refused(batch)
            return False
        book.acked(unacked.popleft(), raw_http.append_ack(payload))
        self.acked += 1
        return True


class Match(Writer):
    """The only writer of its stream, trims included: every batch says which number it must get."""

    def run(self):
        self.connection = self.connect()
        self.next_seq_num = self.books[0].verified_tail
        super().run()

    def work(self):
        book, batch = self.books[0], self.new_batch()
        if self.rng.random() < 0.05:
            wrong = self.next_seq_num + self.rng.choice([1, 5, 1000])
            refused = self.post(self.connection, book, batch, match_seq_num=wrong)
            if refused is None or refused.status == 412 and refused.json() != {"seq_num_mismatch": self.next_seq_num}:
                raise ledger.Violation(f"{self.name}: {wrong} instead of {self.next_seq_num} was answered {refused}")
            if refused.status >= 500:
                raise EOFError
            return
        room = book.verified_tail - book.trim_tried
        if room > 0 and self.rng.random() < 0.05:
            point = book.trim_tried + self.rng.randint(1, room)
            batch = Batch(f"trim-{point}", [0], ("trim", point))
        refused = self.post(self.connection, book, batch, match_seq_num=self.next_seq_num)
        if refused is None:
            if batch.ack["start"]["seq_num"] != self.next_seq_num:
                raise ledger.Violation(f"{self.name}: wanted {self.next_seq_num}, got {batch.ack}")
            self.next_seq_num = batch.ack["end"]["seq_num"]
        elif refused.status >= 500:
            # Its fate is open, so the next number is too: leave the rest of this life to the others.
            raise EOFError
        else:
            raise ledger.Violation(f"{self.name}: {self.next_seq_num} is the next number, answered {refused}")


class Fence(Writer):
    """The only writer of its stream: takes over with a new token now and then, and appends under it."""

    def run(self):
        self.connection = self.connect()
        self.token = self.books[0].fencing_token
        super().run()

    def work(self):
        book = self.books[0]
        if self.rng.random() < 0.15:
            self.count += 1
            batch = Batch(f"{self.name}-{self.count}"[:36], [0], ("fence", f"{self.name}-{self.count}"[:36]))
        else:
            batch = self.new_batch()
        refused = self.post(self.connection, book, batch, fencing_token=self.token)
        if refused is None:
            if batch.command:
                self.token = batch.command[1]
        elif refused.status >= 500:
            raise EOFError
        else:
            raise ledger.Violation(f"{self.name}: {self.token!r} is in force, answered {refused}")


class Trim(Writer):
    """Trims what earlier lives of the server left, now and then."""

    def run(self):
        self.connection = self.connect()
        super().run()

    def work(self):
        book = self.rng.choice(self.books)
        if self.stop.wait(0.05):
            return
        room = book.verified_tail - book.trim_tried
        if room <= 0:
            return
        point = book.trim_tried + self.rng.randint(1, room)
        self.post(self.connection, book, Batch(f"trim-{point}", [0], ("trim", point)))


class Follow(Writer):
    """Reads what is committed, live: it must survive."""

    def work(self):
        book = self.books[0]
        start = max(book.verified_tail, 0)
        with raw_http.Session.read(self.basin.stream(book.name), timeout=60, seq_num=start) as session:
            if session.read_head() != 200:
                raise EOFError
            while (got := session.read_frame()) is not None:
                flag, payload = got
                if flag & raw_http.TERMINAL:
                    raise EOFError
                for record in raw_http.read_batch(payload)["records"]:
                    book.seen(record)


class Create(Writer):
    """Creates streams; `books` is the set of those acknowledged."""

    def work(self):
        self.stop.wait(0.02 + self.rng.random() * 0.3)
        self.count += 1
        name = f"{self.name}-{self.count}"
        answer = self.basin.send("POST", "/streams", {"stream": name})
        if answer.status == 201:
            assert json.loads(answer.body)["name"] == name
            self.books.add(name)
