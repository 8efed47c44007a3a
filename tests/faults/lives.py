"""What the checks share: a server that makes faults, exit statuses, and how to wait."""

import os
import time

from millrace_process import ROOT, Millrace

BINARY = os.environ.get("MILLRACE_FAULTS_BIN") or str(ROOT / "target" / "debug" / "millrace-faults")
# One shard and small segments: the log moves through files within a second.
ARGUMENTS = ["--shards", "1", "--segment-bytes", "16MiB"]
# docs/operations.md, "Exit statuses".
EXIT_SETTINGS, EXIT_DAMAGED, EXIT_DEVICE = 2, 65, 70


class Failure(Exception):
    """A promise of the server is broken."""


def expect(holds, otherwise):
    if not holds:
        raise Failure(otherwise)


def server(place, driver, plan, arguments=()):
    one = Millrace(place / "data", driver, [*ARGUMENTS, *arguments])
    one.binary = BINARY
    one.environment["MILLRACE_FAULTS"] = plan
    return one


def until(seconds_max, is_so, otherwise):
    deadline = time.monotonic() + seconds_max
    while not is_so():
        expect(time.monotonic() < deadline, otherwise)
        time.sleep(0.02)
