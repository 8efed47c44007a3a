"""Basins and streams: names, create, ensure, reconfigure, delete, list, auto-create."""

import time
import urllib.parse

import pytest

import raw_http

# ---------------------------------------------------------------- create


def test_the_same_request_token_and_config_is_a_noop_and_anything_else_a_conflict(account):
    name = raw_http.unique("basin")
    token = {"s2-request-token": "token-1"}
    value = {"basin": name, "config": {"create_stream_on_append": True}}
    first = account.send("POST", "/basins", value, token)
    assert (first.status, first.headers["s2-provision-result"]) == (201, "created")
    again = account.send("POST", "/basins", value, token)
    assert again.status in (200, 201) and again.headers["s2-provision-result"] == "noop"
    assert again.json()["created_at"] == first.json()["created_at"]
    for other in [
        account.send("POST", "/basins", value),
        account.send("POST", "/basins", value, {"s2-request-token": "token-2"}),
        account.send("POST", "/basins", {"basin": name}, token),
    ]:
        assert (other.status, other.code) == (409, "resource_already_exists"), other
        assert f"basin `{name}` already exists" in other.json()["message"]


def test_a_stream_is_created_once(basin):
    name = raw_http.unique("stream")
    value, token = {"stream": name}, {"s2-request-token": "t"}
    first = basin.send("POST", "/streams", value, token)
    assert first.status == 201 and first.json()["cipher"] is None
    again = basin.send("POST", "/streams", value, token)
    assert again.status in (200, 201) and again.headers["s2-provision-result"] == "noop"
    answer = basin.send("POST", "/streams", value)
    assert (answer.status, answer.code) == (409, "resource_already_exists")


def test_a_request_token_has_36_bytes_at_most(account):
    value = {"basin": raw_http.unique("basin")}
    answer = account.send("POST", "/basins", value, {"s2-request-token": "x" * 37})
    assert (answer.status, answer.code) == (400, "bad_header")
    assert account.send("POST", "/basins", value, {"s2-request-token": "x" * 36}).status == 201


@pytest.mark.parametrize("name", ["short", "x" * 49, "-starts-with-dash", "ends-with-dash-", "UPPERCASE-NAME", "under_score_s"])
def test_a_bad_basin_name_is_refused_where_it_stands(account, name):
    answer = account.send("POST", "/basins", {"basin": name})
    assert (answer.status, answer.code) == (400, "bad_json"), answer
    answer = account.send("GET", "/basins/" + name)
    assert (answer.status, answer.code) == (400, "bad_path"), answer
    answer = account.send("GET", "/streams", headers={"s2-basin": name})
    assert (answer.status, answer.code) == (400, "bad_header"), answer


@pytest.mark.parametrize("name", [".", "..", "", "x" * 513, "é" * 257, "nul\0byte"])
def test_a_bad_stream_name_is_refused(basin, name):
    answer = basin.send("POST", "/streams", {"stream": name})
    assert (answer.status, answer.code) == (400, "bad_json"), answer


@pytest.mark.parametrize("name", ["a/b/c", "with space", "ünï/cödé", "x" * 512, "per%cent", "q?u#e&r=y", "tab\tand\nline", "..."])
def test_any_other_stream_name_works_as_one_path_segment(basin, name):
    stream = basin.create_stream(name=name)
    assert stream.append("x").status == 200
    assert stream.read(seq_num=0).json()["records"][0]["body"] == "x"
    answer = basin.send("GET", "/streams?" + urllib.parse.urlencode({"prefix": name}))
    assert name in [info["name"] for info in answer.json()["streams"]]
    assert stream.send("DELETE").status == 202


# ---------------------------------------------------------------- config


def test_defaults_come_from_the_basin_at_creation_only(account):
    basin = account.create_basin({"default_stream_config": {"retention_policy": {"age": 77}}})
    before = basin.create_stream()
    answer = account.send("PATCH", "/basins/" + basin.name, {"default_stream_config": {"retention_policy": {"infinite": {}}}})
    assert answer.status == 200
    assert answer.json()["default_stream_config"]["retention_policy"] == {"infinite": {}}
    after = basin.create_stream()
    assert before.send("GET").json()["retention_policy"] == {"age": 77}
    assert after.send("GET").json()["retention_policy"] == {"infinite": {}}
    cleared = before.send("PATCH", "", {"retention_policy": None}).json()
    assert cleared["retention_policy"] == {"infinite": {}}, "null falls back to the basin's present default"


def test_basin_config_is_whole_after_patch(account):
    basin = account.create_basin({"create_stream_on_append": True})
    config = account.send("PATCH", "/basins/" + basin.name, {"create_stream_on_read": True}).json()
    assert config["create_stream_on_append"] is True and config["create_stream_on_read"] is True
    assert account.send("GET", "/basins/" + basin.name).json() == config


def test_put_without_a_body_an_empty_body_and_an_empty_object_mean_defaults(account, basin):
    json_type = {"content-type": "application/json"}
    for body, headers in [(None, {}), (b"", json_type), (b"{}", json_type)]:
        assert basin.send("PUT", "/streams/" + raw_http.unique("s"), body=body, headers=headers).status == 201
        assert account.send("PUT", "/basins/" + raw_http.unique("basin"), body=body, headers=headers).status == 201


def test_zero_retention_is_422(basin, stream):
    for answer in [
        basin.send("POST", "/streams", {"stream": raw_http.unique("s"), "config": {"retention_policy": {"age": 0}}}),
        stream.send("PATCH", "", {"retention_policy": {"age": 0}}),
        stream.send("PUT", "", {"retention_policy": {"age": 0}}),
    ]:
        assert (answer.status, answer.code) == (422, "invalid"), answer
        assert "age must be greater than 0 seconds" in answer.json()["message"]


def test_delete_on_empty_and_timestamping_round_trip(basin):
    config = {"delete_on_empty": {"min_age_secs": 3600}, "timestamping": {"mode": "client-require", "uncapped": True}}
    got = basin.create_stream(config).send("GET").json()
    assert got["delete_on_empty"] == config["delete_on_empty"] and got["timestamping"] == config["timestamping"]


# ---------------------------------------------------------------- list


def test_pages_are_in_byte_order_and_has_more_is_exact(account):
    basin = account.create_basin()
    names = ["B", "a/1", "a/10", "a/2", "b", "é"]
    for name in reversed(names):
        basin.create_stream(name=name)

    def page(**query):
        answer = basin.send("GET", "/streams?" + urllib.parse.urlencode(query))
        assert answer.status == 200, answer
        return [info["name"] for info in answer.json()["streams"]], answer.json()["has_more"]

    assert page() == (names, False)
    assert page(limit=6) == (names, False)
    assert page(limit=2) == (["B", "a/1"], True)
    assert page(limit=2, start_after="a/1") == (["a/10", "a/2"], True)
    assert page(prefix="a/", limit=3) == (["a/1", "a/10", "a/2"], False)
    assert page(prefix="a/", start_after="A") == (["a/1", "a/10", "a/2"], False), "before the prefix: from its start"
    assert page(prefix="a/", start_after="b") == ([], False)
    assert page(prefix="zzz") == ([], False)


@pytest.mark.parametrize("limit", ["-1", "x", "1.5", ""])
def test_a_limit_that_is_no_number_is_bad_query(account, basin, limit):
    for answer in [basin.send("GET", "/streams?limit=" + limit), account.send("GET", "/basins?limit=" + limit)]:
        assert (answer.status, answer.code) == (400, "bad_query"), answer


def test_listing_a_basin_that_does_not_exist_is_404(account):
    name = raw_http.unique("basin")
    answer = raw_http.Basin(account.target, name).send("GET", "/streams")
    assert (answer.status, answer.code) == (404, "basin_not_found")
    assert f"basin `{name}` not found" in answer.json()["message"]


# ---------------------------------------------------------------- delete


def test_a_deleted_stream_made_again_starts_from_zero(account):
    basin = account.create_basin({"create_stream_on_append": True})
    stream = basin.stream("again")
    stream.append("old", "older")
    stream.fence("old-holder")
    assert stream.send("DELETE").status == 202
    deadline = time.monotonic() + 70
    while (answer := basin.send("POST", "/streams", {"stream": "again"})).status != 201:
        assert (answer.status, answer.code) == (409, "stream_deletion_pending") or answer.code == "resource_already_exists", answer
        assert time.monotonic() < deadline, "the name stays taken"
        time.sleep(0.2)
    assert stream.tail() == {"seq_num": 0, "timestamp": 0}
    answer = stream.append("new", fencing_token="")
    assert answer.status == 200 and answer.json()["start"]["seq_num"] == 0


def test_a_basin_with_streams_can_be_deleted(account):
    basin = account.create_basin()
    stream = basin.create_stream()
    stream.append("x")
    assert account.send("DELETE", "/basins/" + basin.name).status == 202
    deadline = time.monotonic() + 10
    while (answer := basin.send("POST", "/streams", {"stream": "late"})).status == 201 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (answer.status, answer.code) in [(409, "basin_deletion_pending"), (404, "basin_not_found")], answer


def test_deleting_what_is_not_there_is_404(account, basin):
    answer = basin.send("DELETE", "/streams/nothing-here")
    assert (answer.status, answer.code) == (404, "stream_not_found")
    answer = account.send("DELETE", "/basins/" + raw_http.unique("basin"))
    assert (answer.status, answer.code) == (404, "basin_not_found")


# ---------------------------------------------------------------- auto-create


def test_streams_are_created_on_append_and_on_read_only_where_allowed(account):
    neither, on_append = account.create_basin(), account.create_basin({"create_stream_on_append": True})
    on_read = account.create_basin({"create_stream_on_read": True})
    assert neither.stream("s").append("x").code == "stream_not_found"
    assert neither.stream("s").read(seq_num=0).code == "stream_not_found"
    assert on_append.stream("s").read(seq_num=0).code == "stream_not_found"
    assert on_append.stream("s").append("x").status == 200
    assert on_read.stream("s").append("x").code == "stream_not_found"
    assert on_read.stream("s").tail() == {"seq_num": 0, "timestamp": 0}
    assert on_read.stream("t").read(seq_num=0).status == 416


def test_an_invalid_read_creates_nothing(account):
    basin = account.create_basin({"create_stream_on_read": True})
    assert basin.stream("s").read(seq_num=0, tail_offset=1).status == 422
    assert basin.send("GET", "/streams").json()["streams"] == []
