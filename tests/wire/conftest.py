"""What the wire tests share: every answer that they get from Millrace has to be one that its own OpenAPI document describes;
and one body that takes two minutes, while the other tests run."""

import http.client
import inspect
import os
import socket
import threading

import pytest

import openapi
import raw_http

# The longest that a server waits for a body is 120 s, and no byte for 30 s ends a connection before that.
DRIP_SECONDS = 5
DRIPS_MAX = 60


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Tests that wait for the slow body come last: by then it is over."""
    items.sort(key=waits_for_the_slow_body)


def waits_for_the_slow_body(item):
    return "slow_body" in inspect.signature(item.function).parameters


@pytest.fixture(scope="session", autouse=True)
def every_answer_is_described(request):
    if os.environ.get("S2_TARGET_KIND") == "peer":
        yield None
        return
    document = openapi.Document(request.getfixturevalue("target"))
    plain, raw_http.request = raw_http.request, openapi.Witness(document, raw_http.request)
    yield document
    raw_http.request = plain


@pytest.fixture(scope="session", autouse=True)
def slow_body(request):
    """A body that comes drop by drop for longer than a server waits: a function that gives the answer. It begins with the run,
    if some test waits for it."""
    waiting = filter(waits_for_the_slow_body, request.session.items)
    if all(item.get_closest_marker("skip") for item in waiting):
        yield None
        return
    drip = Drip(request.getfixturevalue("target"))
    yield drip.answer
    drip.is_over.set()
    drip.thread.join()


class Drip:
    def __init__(self, target):
        self.is_over = threading.Event()
        self.connection = socket.create_connection(raw_http.host_and_port(target), timeout=150)
        head = "POST /v1/basins HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 1000\r\n\r\n{"
        self.connection.sendall(head.encode())
        self.thread = threading.Thread(target=self._drip)
        self.thread.start()

    def _drip(self):
        for _ in range(DRIPS_MAX):
            if self.is_over.wait(DRIP_SECONDS):
                return
            try:
                self.connection.sendall(b" ")
            except OSError:
                return

    def answer(self):
        response = http.client.HTTPResponse(self.connection)
        response.begin()
        self.is_over.set()
        return raw_http.Answer(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
