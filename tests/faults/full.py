"""No room on the device: appends go on as long as there is some, then are refused in a way that says so, and go on by
themselves when there is room again. Nothing that was acknowledged is lost.
"""

import time

import raw_http
from lives import expect, server

# A second is how often the server tries; a loaded machine takes longer.
RECOVERY_SECONDS_MAX = 15
BODY_BYTES = 250_000


def file_system(place, driver):
    is_full = place / "full"
    is_full.touch()
    # Two segments at start; from then on the device is full.
    plan = f"prepare:enospc:after=2:while={is_full}"
    with server(place, driver, plan) as one:
        log = Log(one)
        log.append_until_full()
        expect(log.count * BODY_BYTES > 24 << 20, f"only {log.count} appends before it was full: two segments were ready")
        warnings = said(one, "No space left on device")
        expect(warnings and ".seg" in warnings[0] and "it is tried again" in warnings[0], one.log_end())
        log.check_others()
        is_full.unlink()
        log.append_after_room()
        time.sleep(2)
        expect(len(said(one, "No space left on device")) < 40, "the log is flooded")
        expect(one.terminate() == 0, "it does not stop")
    log.check_all(server(place, driver, ""))
    return f"full after {log.full_at} appends; {warnings[0].split('WARN')[-1].strip()[-110:]}"


def checkpoint(place, driver, plan):
    """Segments are used again only behind a checkpoint. While none can be written the log fills up."""
    broken = place / "broken"
    broken.touch()
    plan = f"{plan}:while={broken}"
    with server(place, driver, plan, ["--log-bytes-max", "80MiB"]) as one:
        log = Log(one)
        log.append_until_full(trims=True)
        warnings = said(one, "checkpoint")
        expect(warnings and "it is tried again" in warnings[0], one.log_end())
        log.check_others()
        expect(len(said(one, "checkpoint")) < 40, f"the log is flooded with {len(said(one, 'checkpoint'))} lines")
        broken.unlink()
        # The next attempt comes with the next write, and a full log takes no appends: a trim is always taken.
        log.trim()
        log.append_after_room()
        expect(one.terminate() == 0, "it does not stop")
    log.check_all(server(place, driver, ""))
    return f"full after {log.full_at} appends; {warnings[0].split('WARN')[-1].strip()[-110:]}"


def now_and_then(place, driver):
    """Every second attempt at anything of the housekeeper fails. Appends may be refused; what was acknowledged is there."""
    plan = "prepare:eio:p=50:seed=3,checkpoint:eio:p=10:seed=4,rename:eio:p=50:seed=5"
    refused = 0
    with server(place, driver, plan, ["--log-bytes-max", "80MiB"]) as one:
        log = Log(one)
        deadline = time.monotonic() + 120
        while log.count < 500:
            expect(time.monotonic() < deadline, f"{log.count} appends in two minutes")
            if not log.append():
                refused += 1
                time.sleep(0.1)
            if log.count % 20 == 0:
                log.trim()
        expect(one.terminate() == 0, "it does not stop")
    log.check_all(server(place, driver, ""))
    return f"{log.count} appends through an 80 MiB log, {refused} refused on the way"


def said(one, what):
    """Lines of the server's log with this in them."""
    lines = one.log_path.read_text(errors="replace").splitlines()
    return [line for line in lines if "WARN" in line and what in line]


class Log:
    """A stream that takes numbered bodies, one at a time."""

    def __init__(self, one):
        self.one = one
        self.basin = raw_http.Account(one.target).create_basin()
        self.stream = self.basin.create_stream(name="s")
        # The number of the next body; its sequence number may be larger, since trims are records too.
        self.count = 0
        self.kept = {}
        self.trim_point = 0
        self.full_at = 0

    def append(self):
        """True when it was taken, False when the log is full. Anything else is a failure."""
        body = f"{self.count} " + "f" * BODY_BYTES
        answer = self.stream.append(body)
        if answer.status == 502 and answer.code == "hot_server" and "the log is full" in answer.json()["message"]:
            return False
        expect(answer.status == 200, f"append {self.count}: {answer}")
        self.kept[answer.json()["start"]["seq_num"]] = body[:16]
        self.count += 1
        return True

    def trim(self):
        point = max(self.kept, default=0)
        answer = self.stream.trim(point)
        expect(answer.status == 200, f"a trim is refused: {answer}")
        self.trim_point = point
        self.kept = {seq_num: body for seq_num, body in self.kept.items() if seq_num >= point}

    def append_until_full(self, trims=False):
        deadline = time.monotonic() + 120
        while self.append():
            expect(time.monotonic() < deadline and self.count < 4000, f"never full, after {self.count} appends")
            if trims and self.count % 20 == 0:
                self.trim()
        self.full_at = self.count
        for _ in range(5):
            started = time.monotonic()
            self.append()
            expect(time.monotonic() - started < 5, "a refusal takes too long")

    def check_others(self):
        answer = self.stream.read(tail_offset=1, count=1)
        expect(answer.status == 200 and answer.json()["records"], f"a read is disturbed: {answer}")

    def append_after_room(self):
        deadline = time.monotonic() + RECOVERY_SECONDS_MAX
        while not self.append():
            expect(time.monotonic() < deadline, f"still full {RECOVERY_SECONDS_MAX} s after there was room")
            time.sleep(0.1)
        for _ in range(20):
            while not self.append():
                expect(time.monotonic() < deadline, "full again")
                time.sleep(0.1)

    def check_all(self, again):
        with again:
            stream = raw_http.Basin(again.target, self.basin.name).stream("s")
            tail, at, found = stream.tail()["seq_num"], self.trim_point, {}
            while at < tail:
                answer = stream.read(seq_num=at, count=1000)
                expect(answer.status == 200, f"{answer}")
                records = answer.json()["records"]
                expect(records, f"nothing from {at} on, below the tail {tail}")
                found |= {record["seq_num"]: record.get("body", "")[:16] for record in records}
                at = records[-1]["seq_num"] + 1
        lost = [seq_num for seq_num, body in self.kept.items() if found.get(seq_num) != body]
        expect(not lost, f"{len(lost)} acknowledged records lost, from {min(lost, default=0)} on")
