"""`--init-file`: what a start makes of S2's resource spec, and what it refuses."""

import json
import os
import time

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours

SPEC = {
    "basins": [
        {
            "name": "init-first",
            "config": {
                "create_stream_on_append": True,
                "default_stream_config": {"storage_class": "express", "retention_policy": "1day"},
            },
            "streams": [
                {"name": "kept", "config": {"retention_policy": "infinite", "delete_on_empty": {"min_age": "2h 30m"}}},
                {"name": "plain/one"},
            ],
        },
        {"name": "init-second"},
    ]
}


@pytest.fixture
def server(tmp_path):
    server = millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto"))
    server.spec = tmp_path / "resources.json"
    server.arguments = ["--init-file", str(server.spec), "--segment-bytes", "16MiB"]
    yield server
    if server.process is not None:
        server.kill()


def start(server, spec):
    """Starts with this file; returns what the banner says of it."""
    server.spec.write_text(json.dumps(spec))
    begun = len(server.log_end(1 << 20))
    server.start()
    deadline = time.monotonic() + 10
    while not (lines := [line for line in server.log_end(1 << 20)[begun:].splitlines() if line.startswith("init file ")]):
        assert time.monotonic() < deadline, server.log_end()
        time.sleep(0.02)
    return lines[0].split(": ", 1)[1]


def get(server, path, basin=None):
    answer = raw_http.request(server.target, "GET", "/v1" + path, {"s2-basin": basin} if basin else {})
    assert answer.status == 200, answer
    return answer.json()


def test_a_start_makes_what_the_file_names_and_the_next_one_changes_nothing(server):
    assert start(server, SPEC) == "4 made, 0 changed, 0 as they were"
    assert get(server, "/basins/init-first") == {
        "default_stream_config": {
            "storage_class": "express", "retention_policy": {"age": 86400}, "timestamping": None, "delete_on_empty": None,
        },
        "stream_cipher": None, "create_stream_on_append": True, "create_stream_on_read": False,
    }
    kept = get(server, "/streams/kept", "init-first")
    assert (kept["retention_policy"], kept["delete_on_empty"]) == ({"infinite": {}}, {"min_age_secs": 9000})
    # What the file leaves open is the basin's.
    plain = get(server, "/streams/plain%2Fone", "init-first")
    assert (plain["retention_policy"], plain["storage_class"]) == ({"age": 86400}, "express")
    basins = get(server, "/basins")
    assert server.terminate() == 0
    assert start(server, SPEC) == "0 made, 0 changed, 4 as they were"
    assert get(server, "/basins") == basins


def test_a_start_configures_what_is_there_and_leaves_the_rest_alone(server):
    start(server, SPEC)
    first = raw_http.Account(server.target)
    other = first.create_basin(name="made-by-hand")
    stream = raw_http.Basin(server.target, "init-first").stream("kept")
    stream.append("a", "b")
    server.terminate()
    changed = json.loads(json.dumps(SPEC))
    changed["basins"][0]["streams"][0]["config"] = {"retention_policy": "3days"}
    assert start(server, changed) == "0 made, 1 changed, 3 as they were"
    assert get(server, "/streams/kept", "init-first")["retention_policy"] == {"age": 3 * 86400}
    assert get(server, "/streams/kept", "init-first")["delete_on_empty"] == {"min_age_secs": 0}
    assert get(server, "/basins/" + other.name)["create_stream_on_append"] is False
    assert raw_http.Basin(server.target, "init-first").stream("kept").tail()["seq_num"] == 2


def test_what_is_being_deleted_is_made_anew_once_it_is_gone(server):
    start(server, SPEC)
    basin = raw_http.Basin(server.target, "init-first")
    basin.stream("kept").append("a")
    assert basin.stream("kept").send("DELETE").status == 202
    assert raw_http.Account(server.target).send("DELETE", "/basins/init-second").status == 202
    server.kill()
    assert start(server, SPEC).startswith("2 made, ")
    assert raw_http.Basin(server.target, "init-first").stream("kept").tail()["seq_num"] == 0


BAD_FILES = [
    ("no JSON", '{"basins": [', ["EOF"]),
    ("bad name", '{"basins":[{"name":"fine-name"},{"name":"X"}]}', ["basins[1].name", "between 8 and 48"]),
    (
        "bad age",
        '{"basins":[{"name":"fine-name","streams":[{"name":"s","config":{"retention_policy":"soon"}}]}]}',
        ["basins[0].streams[0].config.retention_policy", "7days"],
    ),
    ("unknown key", '{"basins":[{"name":"fine-name","location":"here"}]}', ["basins[0].location", "unknown field"]),
    ("twice", '{"basins":[{"name":"fine-name"},{"name":"fine-name"}]}', ["basins[1].name", "twice"]),
    ("missing", None, ["cannot read the init file", "No such file"]),
]


def refused(server, seconds_max=20):
    """The exit status and the last line of a start that ends by itself."""
    server.spawn()
    status = server.process.wait(seconds_max)
    return status, server.log_end().strip().splitlines()[-1]


@pytest.mark.parametrize("what,text,said", BAD_FILES, ids=[row[0] for row in BAD_FILES])
def test_a_bad_file_refuses_the_start_before_anything_is_touched(server, what, text, said):
    if text is not None:
        server.spec.write_text(text)
    status, why = refused(server)
    assert status == 2
    for part in [str(server.spec), *said]:
        assert part in why, why
    assert not server.data.exists()


def test_what_cannot_be_made_refuses_the_start(server):
    """A full log takes no new stream. All that was there is still there after it, and served without the file."""
    server.arguments += ["--log-bytes-max", "64MiB", "--shards", "1"]
    start(server, SPEC)
    stream = raw_http.Basin(server.target, "init-first").stream("kept")
    records = 0
    while (answer := stream.append(*["x" * 100_000] * 10)).status == 200:
        records = answer.json()["tail"]["seq_num"]
    assert (answer.status, answer.code) == (502, "hot_server")
    server.terminate()
    more = json.loads(json.dumps(SPEC))
    more["basins"][1]["streams"] = [{"name": f"new-{i}"} for i in range(200)]
    server.spec.write_text(json.dumps(more))
    begun = time.monotonic()
    status, why = refused(server)
    took = time.monotonic() - begun
    assert status == 73, why
    assert "cannot make stream `new-" in why and "`init-second`" in why and "the log is full" in why, why
    assert took < 15, took
    server.arguments = server.arguments[2:]
    server.start()
    assert raw_http.Basin(server.target, "init-first").stream("kept").tail()["seq_num"] == records
