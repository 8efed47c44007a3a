"""The call of S2's first public page: `POST /v1/{basin}/{stream}`."""

import base64
import json

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours
# What curl sends with `--data` and nothing else said.
CURL = {"content-type": "application/x-www-form-urlencoded"}


def b64(text):
    return base64.b64encode(text.encode()).decode()


def post(basin, name, value, headers=CURL):
    path = f"/v1/{basin.name}/{raw_http.segment(name)}"
    return raw_http.request(basin.target, "POST", path, headers, json.dumps(value).encode())


@pytest.fixture(scope="module")
def basin(account):
    return account.create_basin({"create_stream_on_append": True})


@pytest.mark.parametrize("headers", [CURL, {}, {"content-type": "text/plain"}, {"content-type": "application/json"}])
def test_the_published_call(basin, headers):
    name = raw_http.unique("a/stream")
    answer = post(basin, name, {"records": [{"body": "aGVsbG8gd29ybGQ="}]}, headers)
    assert (answer.status, answer.json()) == (200, {"seq_nums": [0], "latest_seq_num": 0}), answer
    answer = post(basin, name, {"records": [{"body": b64("b")}, {"body": b64("c")}]}, headers)
    assert answer.json() == {"seq_nums": [1, 2], "latest_seq_num": 2}
    records = basin.stream(name).read(seq_num=0).json()["records"]
    assert [record["body"] for record in records] == ["hello world", "b", "c"]


def test_headers_in_both_forms(basin):
    name = raw_http.unique("stream")
    headers = [[b64("k"), b64("v")], {"name": b64("n"), "value": b64("w")}]
    assert post(basin, name, {"records": [{"body": "", "headers": headers}]}).status == 200
    assert basin.stream(name).read(seq_num=0).json()["records"][0]["headers"] == [["k", "v"], ["n", "w"]]


def test_the_latest_number_is_a_precondition(basin):
    name = raw_http.unique("stream")
    record = {"records": [{"body": b64("x")}]}
    assert post(basin, name, {**record, "match_seq_num": 0}).status == 200
    assert post(basin, name, {**record, "latest_seq_num": 0}).json()["latest_seq_num"] == 1
    answer = post(basin, name, {**record, "latest_seq_num": 0})
    assert (answer.status, answer.json()) == (412, {"seq_num_mismatch": 2})
    assert basin.stream(name).tail()["seq_num"] == 2


def test_the_first_call_of_all_makes_what_it_names(account):
    fresh = raw_http.Basin(account.target, raw_http.unique("first-basin"))
    for i, value in enumerate([{"records": []}, "hello"]):
        assert post(fresh, "greetings", value).status in (400, 422), "what is wrong makes nothing"
        assert fresh.send("GET", "/streams").code == "basin_not_found"
    for seq_num in range(2):
        answer = post(fresh, "greetings", {"records": [{"body": "aGVsbG8="}]})
        assert (answer.status, answer.json()) == (200, {"seq_nums": [seq_num], "latest_seq_num": seq_num}), answer
    assert fresh.send("GET", f"/basins/{fresh.name}").json()["create_stream_on_append"] is True


def test_it_makes_no_basin_where_tokens_are_required(tmp_path):
    root = "the-root-token-of-the-first-form"
    with millrace_process.Millrace(tmp_path / "data", arguments=["--root-token", root]) as server:
        headers = {**CURL, "authorization": f"Bearer {root}"}
        fresh = raw_http.Basin(server.target, "never-made-basin")
        assert post(fresh, "s", {"records": [{"body": ""}]}, headers).code == "basin_not_found"


BAD = [
    ({"records": []}, 422, "invalid"),
    ({"records": [{"body": "not base64"}]}, 422, "invalid"),
    ({"records": [{"body": ""}], "latest_seq_num": "1"}, 400, "bad_json"),
    ({}, 400, "bad_json"),
    ("hello", 400, "bad_json"),
]


@pytest.mark.parametrize("value,status,code", BAD)
def test_what_is_wrong_says_so(basin, value, status, code):
    answer = post(basin, "stream", value)
    assert (answer.status, answer.code) == (status, code), answer


def test_names_and_methods(account, basin):
    record = {"records": [{"body": ""}]}
    assert post(raw_http.Basin(account.target, "BAD-NAME"), "s", record).code == "bad_path"
    answer = raw_http.request(account.target, "GET", f"/v1/{basin.name}/s")
    assert answer.status == 405 and answer.headers["allow"] == "POST"
