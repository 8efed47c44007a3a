"""Starts and stops the real `millrace` on a free loopback port and a data directory. `MILLRACE_BIN` names the binary."""

import os
import pathlib
import signal
import socket
import subprocess
import time

import raw_http

ROOT = pathlib.Path(__file__).resolve().parent.parent
START_SECONDS_MAX = 30
STOP_SECONDS_MAX = 30


def binary():
    return os.environ.get("MILLRACE_BIN") or str(ROOT / "target" / "debug" / "millrace")


def free_port():
    """A port that was free a moment ago; `Millrace.start` tries again when someone else took it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Millrace:
    """One server process. What it prints goes to `DATA.log`, across restarts."""

    def __init__(self, data, driver="auto", arguments=()):
        self.data = pathlib.Path(data)
        self.driver = driver
        self.arguments = list(arguments)
        # What the process sees beside the environment of this one.
        self.environment = {}
        self.binary = None
        self.log_path = self.data.with_name(self.data.name + ".log")
        self.process = None
        self.port = None

    @property
    def target(self):
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        """Returns once `/health` answers. Raises with the log's end when the process ends first."""
        self.port = free_port()
        self.spawn()
        deadline = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"exited with {self.process.returncode} at start:\n{self.log_end()}")
            if self.healthy():
                return self
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"not healthy after {START_SECONDS_MAX} s:\n{self.log_end()}")

    def spawn(self):
        """Starts the process and does not wait for it."""
        if self.port is None:
            self.port = free_port()
        command = [self.binary or binary(), "serve", "--listen", f"127.0.0.1:{self.port}", "--data", str(self.data)]
        command += ["--driver", self.driver, *self.arguments]
        with open(self.log_path, "ab") as log:
            environment = {**os.environ, **self.environment}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)

    def healthy(self):
        try:
            return raw_http.request(self.target, "GET", "/health", timeout=5).status == 200
        except (OSError, raw_http.http.client.HTTPException):
            return False

    def alive(self):
        return self.process is not None and self.process.poll() is None

    def kill(self):
        """`kill -9`: the process gets no chance to finish anything."""
        if self.alive():
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def terminate(self):
        """SIGTERM; returns the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"still running {STOP_SECONDS_MAX} s after SIGTERM:\n{self.log_end()}") from None

    def begin_to_drain(self):
        """SIGTERM; returns once `/health` says that the server is stopping. Something has to keep it: an open session."""
        self.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS_MAX
        while time.monotonic() < deadline:
            try:
                if raw_http.request(self.target, "GET", "/health", timeout=5).status == 503:
                    return
            except (OSError, raw_http.http.client.HTTPException):
                pass  # Connected just before it began, and closed as idle: come again.
        raise RuntimeError(f"it does not begin to stop:\n{self.log_end()}")

    def resident_bytes(self):
        """What the process holds in memory now."""
        for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def log_end(self, bytes_max=4000):
        try:
            return self.log_path.read_bytes()[-bytes_max:].decode("utf-8", "replace")
        except FileNotFoundError:
            return ""

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        if self.process is not None:
            self.kill()
