"""Server-sent events: field order, ids, resume, ping, the end, and errors."""

import json
import threading

import raw_http


class Events(raw_http.Conversation):
    @classmethod
    def open(cls, stream, headers=None, timeout=30, **query):
        events = cls(stream.target, timeout)
        path = "/v1" + stream.path + "/records?" + raw_http.urllib.parse.urlencode(query)
        events.send_head("GET", path, {"s2-basin": stream.basin.name, "accept": "text/event-stream", **(headers or {})})
        events.text = ""
        return events

    def read_event(self):
        """The fields of the next event, in order, or `None` at the end."""
        while "\n\n" not in self.text:
            chunk = self.read_chunk()
            if chunk is None:
                assert not self.text
                return None
            self.text += chunk.decode()
        event, self.text = self.text.split("\n\n", 1)
        return [tuple(line.split(":", 1)[i].strip() for i in (0, 1)) for line in event.split("\n")]

    def read_all(self):
        events = []
        while (event := self.read_event()) is not None:
            events.append(event)
        return events


def sizes(events):
    return [(dict(e)["id"], [r["body"] for r in json.loads(dict(e)["data"])["records"]]) for e in events if e[0] == ("event", "batch")]


def test_a_bounded_read_ends_with_done(stream):
    stream.append("a", "bb", "ccc")
    with Events.open(stream, seq_num=0, count=2) as events:
        assert events.read_head() == 200
        assert events.headers["content-type"].startswith("text/event-stream")
        assert events.headers["cache-control"] == "no-cache, no-transform"
        *batches, done = events.read_all()
    assert done == [("data", "[DONE]")]
    assert [name for name, _ in batches[0]] == ["event", "id", "data"]
    assert sizes(batches)[-1][0] == "1,2,19", "last number, records and metered bytes so far"


def test_resume_goes_on_after_the_last_event_and_counts_on(stream):
    stream.append("a", "b", "c", "d", "e")
    query = {"seq_num": 0, "count": 4}
    with Events.open(stream, {"Last-Event-ID": "1,2,18"}, **query) as events:
        events.read_head()
        *batches, done = events.read_all()
    assert [body for _, bodies in sizes(batches) for body in bodies] == ["c", "d"]
    assert sizes(batches)[-1][0] == "3,4,36" and done == [("data", "[DONE]")]


def test_resume_with_nothing_left_is_done_at_once(stream):
    stream.append("a", "b")
    with Events.open(stream, {"Last-Event-ID": "1,2,18"}, seq_num=0, count=2) as events:
        assert events.read_head() == 200
        assert events.read_all() == [[("data", "[DONE]")]]


def test_a_follower_is_pinged_at_once_and_then_fed(stream):
    stream.append("a")
    with Events.open(stream, seq_num=1) as events:
        events.read_head()
        event, data = events.read_event()
        assert event == ("event", "ping")
        ping = json.loads(data[1])
        assert ping["tail"]["seq_num"] == 1 and ping["timestamp"] > 1_000_000_000_000
        timer = threading.Timer(0.2, lambda: stream.append("live"))
        timer.start()
        while (event := events.read_event())[0] != ("event", "batch"):
            pass
        assert dict(event)["id"] == "1,1,12"
        timer.join()


def test_base64_and_raw(stream):
    stream.append("hé")
    for headers, body in [({}, "hé"), ({"s2-format": "base64"}, "aMOp")]:
        with Events.open(stream, headers, seq_num=0, count=1) as events:
            events.read_head()
            assert sizes(events.read_all())[0][1] == [body]


def test_events_are_never_compressed(stream):
    stream.append("x" * 5000)
    with Events.open(stream, {"accept-encoding": "gzip, zstd"}, seq_num=0, count=1) as events:
        events.read_head()
        assert "content-encoding" not in events.headers
        assert sizes(events.read_all())[0][1] == ["x" * 5000]


def test_a_failure_before_the_start_is_an_ordinary_answer(stream):
    answer = stream.read({"accept": "text/event-stream"}, seq_num=5)
    assert answer.status == 416 and answer.json() == {"tail": {"seq_num": 0, "timestamp": 0}}


def test_only_the_first_accepted_type_counts(stream):
    stream.append("a")
    answer = stream.read({"accept": "application/json, text/event-stream"}, seq_num=0)
    assert answer.headers["content-type"].startswith("application/json")
    with Events.open(stream, {"accept": "text/event-stream, application/json"}, seq_num=0, count=1) as events:
        events.read_head()
        assert events.headers["content-type"].startswith("text/event-stream")


def test_deleting_a_followed_stream_ends_with_an_error_event_and_no_done(stream):
    with Events.open(stream, seq_num=0, timeout=60) as events:
        events.read_head()
        events.read_event()
        stream.send("DELETE")
        while (event := events.read_event())[0] in [("event", "ping"), ("event", "batch")]:
            pass  # lite shows the trim that begins a deletion
        assert event[0] == ("event", "error")
        assert json.loads(event[1][1])["code"] in ("stream_deletion_pending", "stream_not_found", "unavailable")
        assert events.read_event() is None
