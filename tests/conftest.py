"""What the pytest suites share: the server they talk to, and coroutines as tests.

`S2_TARGET=http://host:port` names a running server. Without it a `millrace` is started for the run (`MILLRACE_BIN`,
`MILLRACE_DRIVER`). `S2_TARGET_KIND=peer` says the server is not ours: tests marked `ours` are left out, because they hold
Millrace to promises that the S2 API does not make.
"""

import asyncio
import inspect
import os
import pathlib
import sys
import tempfile

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "crash")]

import millrace_process  # noqa: E402
import raw_http  # noqa: E402

TEST_SECONDS_MAX = 90


def pytest_configure(config):
    config.addinivalue_line("markers", "ours: holds only for Millrace")


def pytest_collection_modifyitems(items):
    if os.environ.get("S2_TARGET_KIND") == "peer":
        skip = pytest.mark.skip(reason="holds only for Millrace")
        for item in items:
            if item.get_closest_marker("ours"):
                item.add_marker(skip)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Runs `async def` tests, each in an event loop and with a time limit of its own."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}

    async def run():
        try:
            await asyncio.wait_for(pyfuncitem.obj(**arguments), TEST_SECONDS_MAX)
        finally:
            for client in getattr(pyfuncitem, "clients_open", []):
                await client.close()

    asyncio.run(run())
    return True


@pytest.fixture(scope="session")
def target():
    named = os.environ.get("S2_TARGET")
    if named:
        yield named.rstrip("/")
        return
    with tempfile.TemporaryDirectory(prefix="millrace-test-") as folder:
        with millrace_process.Millrace(pathlib.Path(folder) / "data", os.environ.get("MILLRACE_DRIVER", "auto")) as server:
            yield server.target


@pytest.fixture(scope="session")
def account(target):
    return raw_http.Account(target)


@pytest.fixture(scope="module")
def basin(account):
    """One basin per file, without auto-creation."""
    return account.create_basin()


@pytest.fixture
def stream(basin):
    """An empty stream of its own for each test. Timestamps are not capped, so that a test may choose them."""
    return basin.create_stream({"timestamping": {"uncapped": True}})
