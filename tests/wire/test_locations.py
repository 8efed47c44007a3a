"""Locations: a single node is one, by the name that its settings give it."""

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours
LOCAL = {"name": "local", "is_private": True, "storage_classes": ["native"], "default_storage_class": "native"}


def test_there_is_one_and_it_is_the_default(account):
    assert account.send("GET", "/locations").json() == [LOCAL]
    for method, value in [("GET", None), ("PUT", "local")]:
        answer = account.send(method, "/locations/default", value)
        assert (answer.status, answer.json()) == (200, LOCAL), answer


@pytest.mark.parametrize("value,status,code", [("aws:us-east-1", 422, "invalid"), ("", 400, "bad_json"), (7, 400, "bad_json")])
def test_no_other_can_be_the_default(account, value, status, code):
    answer = account.send("PUT", "/locations/default", value)
    assert (answer.status, answer.code) == (status, code), answer


def test_basins_are_where_they_are_asked_for_or_nowhere(account):
    for location, status in [(None, 201), ("local", 201), ("aws:us-east-1", 422), ("no good", 400)]:
        name = raw_http.unique("basin")
        answer = account.send("POST", "/basins", {"basin": name, "location": location})
        assert answer.status == status, answer
        if status == 201:
            assert answer.json()["location"] == "local"
            assert account.send("PUT", f"/basins/{name}", {"location": "local"}).status == 200
            answer = account.send("PUT", f"/basins/{name}", {"location": "elsewhere"})
            assert (answer.status, answer.code) == (422, "invalid"), answer
            assert "`local`" in answer.json()["message"]


def test_the_name_is_a_setting(tmp_path):
    with millrace_process.Millrace(tmp_path / "data", arguments=["--location", "rack:7"]) as server:
        account = raw_http.Account(server.target)
        assert [location["name"] for location in account.send("GET", "/locations").json()] == ["rack:7"]
        assert account.send("POST", "/basins", {"basin": "some-basin"}).json()["location"] == "rack:7"
    server = millrace_process.Millrace(tmp_path / "other", arguments=["--location", "rack 7"])
    server.spawn()
    assert server.process.wait(20) == 2 and "location is `rack 7`" in server.log_end()
