"""The document at `/openapi.json` and the server say the same: every operation is called, its answers are validated, and the
bodies that the document permits are the ones that the server takes."""

import json
import time

import openapi_spec_validator
import pytest

import openapi
import raw_http
from raw_http import append_input, frame

pytestmark = pytest.mark.ours


@pytest.fixture(scope="module")
def document(target):
    return openapi.Document(target)


@pytest.fixture
def witness(document, monkeypatch):
    # The suite's own witness may stand there already; this one keeps its own account.
    witness = openapi.Witness(document, raw_http.request)
    monkeypatch.setattr(raw_http, "request", witness)
    return witness


def test_the_document_is_valid(document):
    openapi_spec_validator.validate(document.value)
    assert document.value["openapi"].startswith("3.1.")
    assert document.value["servers"][0]["url"] == "/"


def test_the_document_is_compressed_for_those_who_ask(target, document):
    answer = raw_http.request(target, "GET", "/openapi.json", {"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip" and json.loads(openapi.plain(answer)) == document.value
    assert "etag" not in answer.headers


# ---------------------------------------------------------------- every operation, really called


def call_the_server_itself(account):
    for path in ("/health", "/ping", "/metrics", "/openapi.json"):
        assert raw_http.request(account.target, "GET", path).status == 200


def call_basins(account):
    name = raw_http.unique("basin")
    account.send("POST", "/basins", {"basin": name})
    account.send("GET", f"/basins?prefix={name}&limit=1")
    account.send("GET", "/basins/" + name)
    account.send("PUT", "/basins/" + name, {"config": {"create_stream_on_read": True}})
    account.send("PUT", "/basins/" + raw_http.unique("basin"))
    account.send("PATCH", "/basins/" + name, {"default_stream_config": {"retention_policy": {"infinite": {}}}, "stream_cipher": "aegis-256"})
    account.send("GET", "/basins/" + name)
    account.send("DELETE", "/basins/" + name)
    account.send("GET", f"/basins?prefix={name}")


def call_streams(account):
    basin = account.create_basin()
    stream = basin.create_stream()
    basin.send("GET", f"/streams?prefix={stream.name}")
    basin.send("PUT", "/streams/" + raw_http.unique("stream"))
    for config in ({"timestamping": {"mode": "arrival"}, "delete_on_empty": {"min_age_secs": 9}}, {"storage_class": "native"}):
        stream.send("PUT", "", config)
        stream.send("GET")
        stream.send("PATCH", "", {"timestamping": {"uncapped": True}})
    stream.send("DELETE")
    basin.send("GET", f"/streams?prefix={stream.name}")


def call_records(account):
    stream = account.create_basin().create_stream()
    stream.append("a", "b")
    stream.append_records([{"headers": [["name", "value"]]}])
    stream.append("x", match_seq_num=9)
    stream.append("x", fencing_token="nobody's")
    stream.read(seq_num=9)
    stream.read(seq_num=0)
    stream.read(seq_num=3, wait=1)
    stream.read({"accept": "application/protobuf"}, seq_num=0)
    stream.read({"accept": "text/event-stream"}, seq_num=0, count=2)
    stream.read({"content-type": "s2s/proto"}, seq_num=0, count=2)
    proto = {"content-type": "application/protobuf", "accept": "application/protobuf"}
    stream.send("POST", "/records", None, proto, append_input([b"c"]))
    stream.send("POST", "/records", None, {"content-type": "s2s/proto"}, frame(append_input([b"d"])))
    stream.send("GET", "/records/tail")
    path = f"/{stream.basin.name}/{raw_http.segment(stream.name)}"
    account.send("POST", path, {"records": [{"body": "aGk="}]})
    account.send("POST", path, {"records": [{"body": "aGk="}], "latest_seq_num": 99})


def call_leases(account):
    stream = account.create_basin().create_stream()
    stream.send("GET", "/lease")
    token = stream.send("POST", "/lease", {"holder": "one", "duration_ms": 60_000}).json()["token"]
    stream.send("GET", "/lease")
    assert stream.send("POST", "/lease", {"holder": "two", "duration_ms": 1000}).status == 409
    stream.send("PUT", "/lease", {"token": token})
    stream.send("DELETE", "/lease?token=" + token)
    assert stream.send("PUT", "/lease", {"token": token}).status == 409
    assert stream.send("DELETE", "/lease?token=" + token).status == 409


def call_access_tokens(account):
    token = raw_http.unique("token")
    scope = {"basins": {"exact": "some-basin"}, "streams": {"prefix": "a"}, "op_groups": {"stream": {"read": True}}, "ops": ["trim"]}
    account.send("POST", "/access-tokens", {"id": token, "scope": scope, "expires_at": "2126-01-31T12:00:00.5Z"})
    assert account.send("GET", f"/access-tokens?prefix={token}").json()["access_tokens"]
    account.send("DELETE", "/access-tokens/" + token)


def call_metrics(account):
    basin = account.create_basin()
    now = int(time.time())
    for path, sets in [
        ("", ["active-basins", "account-ops", "estimated-billable-usage"]),
        ("/" + basin.name, ["append-ops", "append-throughput", "read-ops", "read-throughput", "basin-ops", "storage"]),
        (f"/{basin.name}/stream", ["storage"]),
    ]:
        for name in sets:
            account.send("GET", f"/metrics{path}?set={name}&start={now - 7200}&end={now}")


def call_locations(account):
    account.send("GET", "/locations")
    name = account.send("GET", "/locations/default").json()["name"]
    account.send("PUT", "/locations/default", name)


CALLS = [
    call_the_server_itself, call_basins, call_streams, call_records, call_leases, call_access_tokens, call_metrics, call_locations,
]  # fmt: skip

# Answers that are no success and yet each operation's own.
OWN_ANSWERS = (409, 412, 416)


def test_every_operation_is_called_and_answers_as_described(account, document, witness):
    for calls in CALLS:
        calls(account)
    expected = set()
    for (method, template), operation in document.operations().items():
        for status, answer in operation["responses"].items():
            media_types = answer.get("content", {None: None})
            if status.startswith("2") or (template.endswith("/lease") and method != "GET" and status == "409") or status in ("412", "416"):
                expected |= {(method, template, int(status), media_type) for media_type in media_types}
    missing = expected - witness.seen
    assert not missing
    assert {(method, template) for method, template, *_ in filter(None, witness.seen)} == set(document.operations())


def test_the_witness_notices_a_key_too_much_and_a_key_too_few(document, stream):
    answer = stream.send("GET", "/records/tail")
    path = f"/v1{stream.path}/records/tail"
    assert document.check("GET", path, answer)
    for body in [{"tail": {"seq_num": 0}}, {"tail": {"seq_num": 0, "timestamp": 0, "more": 1}}, {}, {"tail": {"seq_num": -1, "timestamp": 0}}]:
        with pytest.raises(AssertionError):
            document.check("GET", path, raw_http.Answer(200, answer.headers, json.dumps(body).encode()))
    with pytest.raises(AssertionError, match="has no 201"):
        document.check("GET", path, raw_http.Answer(201, answer.headers, answer.body))
    with pytest.raises(AssertionError, match="has no header x-new"):
        document.check("GET", path, raw_http.Answer(200, {**answer.headers, "x-new": "1"}, answer.body))
    with pytest.raises(AssertionError):
        body = b'{"code":"bad_json","message":"a code that this operation never has"}'
        document.check("GET", path, raw_http.Answer(400, {"content-type": "application/json"}, body))


# ---------------------------------------------------------------- bodies: permitted and taken, or neither


CONFIGS = [
    None, {}, {"storage_class": "native"}, {"storage_class": None}, {"storage_class": "x" * 65}, {"storage_class": 5},
    {"retention_policy": {"age": 1}}, {"retention_policy": {"age": 0}}, {"retention_policy": {"age": -1}},
    {"retention_policy": {"infinite": {}}}, {"retention_policy": {"infinite": []}}, {"retention_policy": {}}, {"retention_policy": {"age": 1, "infinite": {}}},
    {"retention_policy": "for-ever"}, {"timestamping": {"mode": "arrival", "uncapped": True}}, {"timestamping": {"mode": "sundial"}},
    {"timestamping": {"mode": None}}, {"timestamping": {"uncapped": 1}}, {"timestamping": []}, {"delete_on_empty": [60]}, {"delete_on_empty": {"min_age_secs": 60}},
    {"delete_on_empty": {"min_age_secs": "60"}}, {"delete_on_empty": {}}, {"delete_on_empty": None}, {"unknown": 1}, [], "text", 7,
]  # fmt: skip
BASIN_CONFIGS = [
    {"default_stream_config": config} for config in CONFIGS
] + [
    None, {"create_stream_on_append": True}, {"create_stream_on_append": 1}, {"create_stream_on_read": "yes"},
    {"stream_cipher": "aegis-256"}, {"stream_cipher": "aes-256-gcm"}, {"stream_cipher": "rot13"}, {"stream_cipher": None}, [],
]  # fmt: skip
SCOPES = [
    {"ops": ["read"]}, {"ops": ["fly"]}, {"ops": "read"}, {"ops": ["read"], "basins": {"exact": "my-basin"}}, {"ops": ["read"], "basins": {}},
    {"ops": ["read"], "streams": {"prefix": ""}}, {"ops": ["read"], "streams": {"prefix": "a", "exact": "a"}},
    {"op_groups": {"account": {"read": True}}}, {"op_groups": {"stream": None, "basin": {"read": True, "write": None}}},
    {"op_groups": {"account": {"read": "yes"}}}, {"op_groups": [], "ops": ["read"]}, None, [],
]  # fmt: skip
RECORDS = [
    {}, {"body": "x"}, {"body": None}, {"body": 5}, {"timestamp": 0}, {"timestamp": None}, {"timestamp": -1}, {"timestamp": 1.5},
    {"timestamp": 2**64 - 1}, {"timestamp": 2**64}, {"headers": []}, {"headers": [["a", "b"]]}, {"headers": [["a"]]},
    {"headers": [["a", "b", "c"]]}, {"headers": [["a", 1]]}, {"headers": {}}, {"unknown": 1}, [], 7,
]  # fmt: skip


def basin_bodies():
    for name in (None, 5, "Short", "a" * 7, "a" * 49, "-not-a-name", "not-a-name-"):
        yield {"basin": name}
    yield from ({}, [], None, "text")
    for config in BASIN_CONFIGS:
        yield {"basin": raw_http.unique("basin"), "config": config}
    for location in (None, "", "a b", 5):
        yield {"basin": raw_http.unique("basin"), "location": location}


def stream_bodies():
    for name in (None, 5, "", ".", "..", "a\0b", "x" * 513):
        yield {"stream": name}
    yield from ({}, [], None)
    for config in CONFIGS:
        yield {"stream": raw_http.unique("stream"), "config": config}


def token_bodies():
    for token_id in (None, 5, "", ".", "a\0b", "x" * 97):
        yield {"id": token_id, "scope": {"ops": ["read"]}}
    for scope in SCOPES:
        yield {"id": raw_http.unique("token"), "scope": scope}
    for more in ({"expires_at": None}, {"expires_at": "2126-01-31T12:00:00Z"}, {"expires_at": "tomorrow"}, {"expires_at": 5},
                 {"auto_prefix_streams": False}, {"auto_prefix_streams": None}, {"auto_prefix_streams": "no"}, {"unknown": 1}):  # fmt: skip
        yield {"id": raw_http.unique("token"), "scope": {"ops": ["read"]}, **more}
    yield from ({"id": raw_http.unique("token")}, {}, [])


def append_bodies():
    for record in RECORDS:
        yield {"records": [record]}
    yield from ({"records": []}, {"records": [{}] * 1000}, {"records": [{}] * 1001}, {"records": {}}, {}, [], {"records": [{}], "x": 1})
    for more in ({"match_seq_num": None}, {"match_seq_num": "0"}, {"match_seq_num": -1}, {"fencing_token": None}, {"fencing_token": ""},
                 {"fencing_token": "x" * 37}, {"fencing_token": 5}):  # fmt: skip
        yield {"records": [{}], **more}


def first_form_bodies():
    """Records whose texts are base64: to JSON Schema any string would do."""
    for record in RECORDS:
        if isinstance(record, dict) and record.get("body") == "x":
            record = {"body": "eA=="}
        if isinstance(record, dict) and record.get("headers") == [["a", "b"]]:
            record = {"headers": [["YQ==", "Yg=="], {"name": "YQ==", "value": "Yg=="}, {"name": "YQ=="}]}
        yield {"records": [record]}
    yield from ({"records": []}, {"records": [{"headers": [{"name": 7}]}]}, {"records": [{}], "latest_seq_num": None})
    yield from ({"records": [{}], "latest_seq_num": -1}, {"records": [{}], "latest_seq_num": "1"})


def acquire_bodies():
    for body in ({}, {"holder": ""}, {"holder": "x" * 65}, {"holder": 5}, {"duration_ms": 999}, {"duration_ms": 3_600_001}, {"duration_ms": "1000"},
                 {"duration_ms": 3_600_000}, {"wait_ms": None}, {"wait_ms": 60_001}, {"wait_ms": -1}, {"wait_ms": 0}, {"unknown": 1}):  # fmt: skip
        yield {"holder": "one", "duration_ms": 1000, **body}
    yield from ({"holder": "one"}, {"duration_ms": 1000}, [], None)


def renew_bodies(token):
    for body in ({}, {"token": ""}, {"token": "x" * 37}, {"token": None}, {"duration_ms": 1000}, {"duration_ms": None}, {"duration_ms": 1}, {"unknown": 1}):
        yield {"token": token, **body}
    yield from ({}, [], None)


def patches(configs):
    """What a PATCH takes: null and nothing do not stand for a body."""
    return [config for config in configs if config is not None] + [None]


def tables(account):
    """`(method, path, bodies, headers)`; a callable path is made anew for each body."""
    basin = account.create_basin()
    basin_header = {"s2-basin": basin.name}
    stream = basin.create_stream({"timestamping": {"uncapped": True}})
    fresh_stream = lambda: basin.create_stream().path
    yield "POST", "/basins", list(basin_bodies()), {}
    yield "PUT", lambda: "/basins/" + raw_http.unique("basin"), [None, {}, [], 7] + [{"config": c} for c in BASIN_CONFIGS], {}
    yield "PATCH", "/basins/" + basin.name, patches(BASIN_CONFIGS), {}
    yield "POST", "/streams", list(stream_bodies()), basin_header
    yield "PUT", lambda: "/streams/" + raw_http.unique("stream"), CONFIGS, basin_header
    yield "PATCH", stream.path, patches(CONFIGS), basin_header
    stream.send("PUT", "", {"timestamping": {"uncapped": True}})
    yield "POST", stream.path + "/records", list(append_bodies()), basin_header
    yield "POST", f"/{basin.name}/{stream.name}", list(first_form_bodies()), {}
    yield "POST", "/access-tokens", list(token_bodies()), {}
    yield "POST", lambda: fresh_stream() + "/lease", list(acquire_bodies()), basin_header
    leased = basin.create_stream()
    token = leased.send("POST", "/lease", {"holder": "one", "duration_ms": 600_000}).json()["token"]
    yield "PUT", leased.path + "/lease", list(renew_bodies(token)), basin_header
    yield "PUT", "/locations/default", ["", "a b", 5, None, {}, account.send("GET", "/locations/default").json()["name"]], {}


def test_the_server_takes_the_bodies_that_the_document_permits_and_no_others(account, document):
    disagreements, tried = [], set()
    for method, path, bodies, headers in tables(account):
        verdicts = set()
        for body in bodies:
            here = path() if callable(path) else path
            template = document.template("/v1" + here)
            permitted = document.permits(method, template, body)
            sent = {"content-type": "application/json", **headers}
            answer = account.send(method, here, None, sent, json.dumps(body).encode())
            assert answer.status in (200, 201, 400, 422), answer
            verdicts.add(permitted)
            if permitted != (answer.status < 300):
                disagreements.append(f"{method} {template} {json.dumps(body)[:200]}: permitted {permitted}, but {answer}")
        assert verdicts == {True, False}, f"{method} {template}: the table has only one kind"
        tried.add((method, template))
    assert not disagreements, "\n".join(disagreements)
    with_json = {key for key, op in document.operations().items() if "application/json" in op.get("requestBody", {}).get("content", {})}
    assert tried == with_json
