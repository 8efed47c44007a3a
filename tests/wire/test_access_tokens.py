"""Access tokens: who is let in, to do what to which names, for how long; and that no secret is anywhere it must not be."""

import datetime
import json
import pathlib
import subprocess
import time
import urllib.parse

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours

ROOT = "the-root-token-of-these-tests"
OPS = {
    "account": {
        "read": ["list-basins", "list-access-tokens", "account-metrics", "list-locations", "get-default-location"],
        "write": ["create-basin", "delete-basin", "reconfigure-basin", "issue-access-token", "revoke-access-token",
                  "set-default-location"],
    },
    "basin": {
        "read": ["get-basin-config", "list-streams", "basin-metrics"],
        "write": ["create-stream", "delete-stream", "reconfigure-stream"],
    },
    "stream": {
        "read": ["get-stream-config", "check-tail", "read", "stream-metrics"],
        "write": ["append", "trim", "fence"],
    },
}
ALL_OPS = [op for group in OPS.values() for ops in group.values() for op in ops]
EVERYTHING = {"basins": {"prefix": ""}, "streams": {"prefix": ""}, "access_tokens": {"prefix": ""}}
ALL_GROUPS = {group: {"read": True, "write": True} for group in OPS}


class As(raw_http.Basin):
    """The basin as the holder of one token sees it."""

    def __init__(self, target, name, secret):
        super().__init__(target, name)
        self.secret = secret

    @property
    def headers(self):
        return {"authorization": f"Bearer {self.secret}"}

    def send(self, method, path, value=None, headers=None, body=None, **options):
        return super().send(method, path, value, {**self.headers, **(headers or {})}, body, **options)


def issue(issuer, token_id=None, **fields):
    scope = {**EVERYTHING, **fields.pop("scope", {})}
    return issuer.send("POST", "/access-tokens", {"id": token_id or raw_http.unique("token"), "scope": scope, **fields})


def holder(issuer, token_id=None, **fields):
    """A new token's holder."""
    answer = issue(issuer, token_id, **fields)
    assert answer.status == 201 and set(answer.json()) == {"access_token"}, answer
    return As(issuer.target, issuer.name, answer.json()["access_token"])


def refused(answer, status, code, text=""):
    assert (answer.status, answer.code) == (status, code), answer
    assert set(answer.json()) == {"code", "message"} and text in answer.json()["message"], answer


def later(seconds):
    return (datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=seconds)).isoformat()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = millrace_process.Millrace(tmp_path_factory.mktemp("tokens") / "data")
    server.environment = {"MILLRACE_ROOT_TOKEN": ROOT}
    with server:
        yield server


@pytest.fixture(scope="module")
def root(server):
    root = As(server.target, raw_http.unique("basin"), ROOT)
    assert root.send("POST", "/basins", {"basin": root.name}).status == 201
    return root


# ---------------------------------------------------------------- who is let in


def test_every_route_wants_a_known_token_and_health_none(server, root):
    for method, path, _, _ in ROUTES:
        for headers in ({}, {"authorization": "Bearer"}, {"authorization": "Bearer no-such-token"},
                        {"authorization": f"Basic {ROOT}"}):
            answer = raw_http.request(server.target, method, "/v1" + path, {"s2-basin": root.name, **headers}, b"")
            refused(answer, 401, "authn")
    for path in ("/health", "/ping", "/metrics"):
        assert raw_http.request(server.target, "GET", path).status == 200


# Method, path, body, the operations of which it needs one. The names are of nothing, so that nothing is changed.
ROUTES = [
    ("GET", "/basins", None, ["list-basins"]),
    ("POST", "/basins", {"basin": "Not-A-Name"}, ["create-basin"]),
    ("GET", "/basins/no-such-basin", None, ["get-basin-config"]),
    ("PATCH", "/basins/no-such-basin", {}, ["reconfigure-basin"]),
    ("DELETE", "/basins/no-such-basin", None, ["delete-basin"]),
    ("GET", "/streams", None, ["list-streams"]),
    ("POST", "/streams", {"stream": ""}, ["create-stream"]),
    ("GET", "/streams/none", None, ["get-stream-config"]),
    ("PATCH", "/streams/none", {}, ["reconfigure-stream"]),
    ("DELETE", "/streams/none", None, ["delete-stream"]),
    ("GET", "/streams/none/records/tail", None, ["check-tail"]),
    ("GET", "/streams/none/records", None, ["read"]),
    ("POST", "/streams/none/records", {"records": []}, ["append", "trim", "fence"]),
    ("GET", "/access-tokens", None, ["list-access-tokens"]),
    ("POST", "/access-tokens", {"id": ""}, ["issue-access-token"]),
    ("DELETE", "/access-tokens/none", None, ["revoke-access-token"]),
    ("GET", "/metrics", None, ["account-metrics"]),
    ("GET", "/metrics/no-such-basin", None, ["basin-metrics"]),
    ("GET", "/metrics/no-such-basin/none", None, ["stream-metrics"]),
    ("GET", "/locations", None, ["list-locations"]),
    ("GET", "/locations/default", None, ["get-default-location"]),
    ("PUT", "/locations/default", "here", ["set-default-location"]),
]


def test_each_route_needs_its_operation_and_no_other(root):
    for op in ALL_OPS:
        ours = holder(root, scope={"ops": [op]})
        for method, path, body, needed in ROUTES:
            answer = ours.send(method, path, body)
            assert (answer.status == 403) == (op not in needed), (op, method, path, answer)
            if op not in needed:
                refused(answer, 403, "permission_denied", f"`{needed[0]}`")


def test_each_group_stands_for_its_operations(root):
    for group, kinds in OPS.items():
        for kind, ops in kinds.items():
            ours = holder(root, scope={"op_groups": {group: {kind: True}}})
            for method, path, body, needed in ROUTES:
                answer = ours.send(method, path, body)
                is_permitted = any(op in ops for op in needed)
                assert (answer.status != 403) == is_permitted, (group, kind, method, path, answer)


def test_an_ensure_needs_to_create_and_to_reconfigure(root):
    name = raw_http.unique("stream")
    for ops, status in [(["create-stream"], 403), (["reconfigure-stream"], 403),
                        (["create-stream", "reconfigure-stream"], 201)]:
        assert holder(root, scope={"ops": ops}).send("PUT", f"/streams/{name}").status == status, ops
    name = raw_http.unique("basin")
    for ops, status in [(["create-basin"], 403), (["create-basin", "reconfigure-basin"], 201)]:
        assert holder(root, scope={"ops": ops}).send("PUT", f"/basins/{name}").status == status, ops


# ---------------------------------------------------------------- scopes


def test_names_out_of_scope_are_denied_whether_they_exist_or_not(root):
    root.create_stream(name="in")
    root.create_stream(name="out")
    ours = holder(root, scope={"basins": {"exact": root.name}, "streams": {"exact": "in"}, "op_groups": ALL_GROUPS})
    assert ours.stream("in").append("x").status == 200
    for name in ("out", "none", "inn"):
        refused(ours.stream(name).append("x"), 403, "permission_denied", "`append`")
        refused(ours.stream(name).read(seq_num=0), 403, "permission_denied")
        refused(ours.stream(name).send("GET", "/records/tail"), 403, "permission_denied")
        refused(ours.stream(name).send("DELETE"), 403, "permission_denied")
        refused(ours.send("POST", "/streams", {"stream": name}), 403, "permission_denied")
    refused(ours.send("GET", "/basins/other-basin"), 403, "permission_denied")
    refused(ours.send("POST", "/basins", {"basin": "other-basin"}), 403, "permission_denied")
    refused(As(root.target, "other-basin", ours.secret).send("GET", "/streams"), 403, "permission_denied")
    for nothing in (None, {"exact": ""}):
        none = holder(root, scope={"streams": nothing, "op_groups": ALL_GROUPS})
        refused(none.stream("in").append("x"), 403, "permission_denied")
        assert none.send("GET", "/streams").json() == {"streams": [], "has_more": False}


def listed(answer, key, name="name"):
    assert answer.status == 200, answer
    return [item[name] for item in answer.json()[key]], answer.json()["has_more"]


def test_listings_show_what_is_in_scope_with_true_pages(root):
    other = raw_http.unique("lists")
    names = [f"{other}-{n}" for n in range(3)]
    for name in names:
        assert root.send("POST", "/basins", {"basin": name}).status == 201
    ours = holder(root, scope={"basins": {"prefix": other}, "ops": ["list-basins"]})
    assert listed(ours.send("GET", "/basins"), "basins") == (names, False)
    assert listed(ours.send("GET", "/basins?limit=2"), "basins") == (names[:2], True)
    assert listed(ours.send("GET", f"/basins?limit=2&start_after={names[0]}"), "basins") == (names[1:], False)
    assert listed(ours.send("GET", "/basins?prefix=zz"), "basins") == ([], False)
    one = holder(root, scope={"basins": {"exact": names[1]}, "ops": ["list-basins"]})
    assert listed(one.send("GET", "/basins?limit=1"), "basins") == ([names[1]], False)
    assert listed(one.send("GET", f"/basins?start_after={names[1]}"), "basins") == ([], False)
    basin = As(root.target, names[0], ROOT)
    for name in ("a", "ab", "abc", "b"):
        basin.create_stream(name=name)
    for streams, query, expected in [
        ({"exact": "ab"}, "", (["ab"], False)),
        ({"exact": "ab"}, "?start_after=ab", ([], False)),
        ({"exact": "zz"}, "", ([], False)),
        ({"prefix": "ab"}, "", (["ab", "abc"], False)),
        ({"prefix": "ab"}, "?prefix=a&limit=1", (["ab"], True)),
        ({"prefix": "ab"}, "?prefix=b", ([], False)),
    ]:
        ours = As(root.target, names[0], holder(root, scope={"streams": streams, "ops": ["list-streams"]}).secret)
        assert listed(ours.send("GET", "/streams" + query), "streams") == expected, (streams, query)


def test_commands_need_their_own_operation_in_unary_appends_and_sessions(root):
    stream = root.create_stream().name
    for ops, may in [(["append"], set()), (["append", "trim"], {"trim"}), (["append", "fence"], {"fence"}),
                     (["append", "trim", "fence"], {"trim", "fence"}), (["trim"], {"trim"})]:
        ours = holder(root, scope={"ops": ops}).stream(stream)
        for name, answer in [("fence", ours.fence("")), ("trim", ours.trim(0))]:
            if name in may:
                assert answer.status == 200, (ops, answer)
            else:
                refused(answer, 403, "permission_denied", f"`{name}`")
        if "append" not in ops:
            refused(ours.append("x"), 403, "permission_denied", "`append`")
    ours = holder(root, scope={"ops": ["append"]}).stream(stream)
    with raw_http.Session.append(ours, ours.basin.headers) as session:
        assert session.read_head() == 200
        session.send_frame(raw_http.append_input([b"fine"]))
        session.read_ack()
        session.send_frame(raw_http.append_input([raw_http.Encoded(raw_http.append_record(b"", [(b"", b"fence")]))]))
        status, body = session.read_terminal()
        assert (status, body["code"]) == (403, "permission_denied")
    before = root.stream(stream).tail()["seq_num"]
    refused(ours.append_records([{"body": "x"}, raw_http.command("fence", "me")]), 403, "permission_denied", "`fence`")
    assert root.stream(stream).tail()["seq_num"] == before, "a batch is denied whole"


def test_a_missing_stream_is_created_by_who_may_append_or_read(root):
    name = raw_http.unique("auto")
    config = {"create_stream_on_append": True, "create_stream_on_read": True}
    basin = root.send("POST", "/basins", {"basin": name, "config": config})
    assert basin.status == 201
    appends = As(root.target, name, holder(root, scope={"ops": ["append"]}).secret)
    assert appends.stream("a").append("x").status == 200
    trims = As(root.target, name, holder(root, scope={"ops": ["trim"]}).secret)
    refused(trims.stream("t").trim(0), 404, "stream_not_found")
    tails = As(root.target, name, holder(root, scope={"ops": ["check-tail"]}).secret)
    assert tails.stream("r").tail()["seq_num"] == 0


# ---------------------------------------------------------------- issue, list, revoke


def test_what_is_issued_is_listed_and_revoked(root):
    token_id = raw_http.unique("app/with slash")
    expires = "2099-01-02T03:04:05Z"
    scope = {"basins": {"exact": root.name}, "streams": {"prefix": "a/"}, "ops": ["read"],
             "op_groups": {"stream": {"write": True}}}
    answer = root.send("POST", "/access-tokens", {
        "id": token_id, "expires_at": expires, "auto_prefix_streams": True, "scope": scope})
    assert answer.status == 201
    ours = As(root.target, root.name, answer.json()["access_token"])
    query = urllib.parse.urlencode({"prefix": token_id})
    page = root.send("GET", "/access-tokens?" + query).json()
    none = {"read": False, "write": False}
    assert page == {"has_more": False, "access_tokens": [{
        "id": token_id, "expires_at": "2099-01-02T03:04:05.000Z", "auto_prefix_streams": True,
        "scope": {"basins": {"exact": root.name}, "streams": {"prefix": "a/"}, "access_tokens": None, "ops": ["read"],
                  "op_groups": {"account": none, "basin": none, "stream": {"read": False, "write": True}}}}]}
    refused(issue(root, token_id, scope={"ops": ["read"]}), 409, "resource_already_exists", token_id)
    refused(issue(root, "root", scope={"ops": ["read"]}), 409, "resource_already_exists")
    assert ours.stream("s").read(seq_num=0).code == "stream_not_found"
    path = "/access-tokens/" + raw_http.segment(token_id)
    answer = root.send("DELETE", path)
    assert (answer.status, answer.body) == (204, b"")
    refused(root.send("DELETE", path), 404, "access_token_not_found", token_id)
    refused(ours.stream("s").read(seq_num=0), 401, "authn")
    again = holder(root, token_id, scope={"ops": ["read"]})
    assert again.secret != ours.secret
    refused(ours.stream("s").read(seq_num=0), 401, "authn")
    refused(root.send("DELETE", "/access-tokens/" + "x" * 97), 400, "bad_path")


def test_a_listing_of_tokens_pages_and_shows_those_in_scope(root):
    prefix = raw_http.unique("list")
    for n in range(4):
        holder(root, f"{prefix}-{n}", scope={"ops": ["read"]})
    ids = [f"{prefix}-{n}" for n in range(4)]
    show = lambda who, query: listed(who.send("GET", f"/access-tokens?prefix={prefix}{query}"), "access_tokens", "id")
    assert show(root, "&limit=3") == (ids[:3], True)
    assert show(root, f"&start_after={ids[2]}") == (ids[3:], False)
    ours = holder(root, scope={"access_tokens": {"exact": ids[1]}, "op_groups": {"account": {"read": True, "write": True}}})
    assert show(ours, "") == ([ids[1]], False)
    refused(ours.send("DELETE", f"/access-tokens/{ids[0]}"), 403, "permission_denied")
    assert ours.send("DELETE", f"/access-tokens/{ids[1]}").status == 204


def test_nobody_gives_more_than_they_have(root):
    scope = {"basins": {"exact": root.name}, "streams": {"prefix": "a/"}, "access_tokens": {"prefix": "mine-"},
             "ops": ["issue-access-token", "read"]}
    ours = holder(root, scope=scope, expires_at=later(600))
    fine = {**scope, "ops": ["read"]}
    name = lambda: raw_http.unique("mine-")
    assert issue(ours, name(), scope=fine).status == 201
    for more in [{"ops": ["append"]}, {"op_groups": {"stream": {"read": True}}}, {"basins": {"prefix": root.name}},
                 {"streams": {"prefix": ""}}, {"streams": {"exact": "b"}}, {"access_tokens": {"prefix": ""}}]:
        refused(issue(ours, name(), scope={**fine, **more}), 403, "permission_denied")
    refused(issue(ours, raw_http.unique("other"), scope=fine), 403, "permission_denied")
    refused(issue(ours, name(), scope=fine, expires_at=later(3600)), 403, "permission_denied", "expir")
    inherits = name()
    holder(ours, inherits, scope=fine)
    infos = root.send("GET", "/access-tokens?prefix=" + inherits).json()["access_tokens"]
    assert infos[0]["expires_at"] is not None, "it lives no longer than its issuer"


def test_what_makes_no_sense_is_422_and_what_is_malformed_400(root):
    refused(issue(root), 422, "invalid", "Access token permissions cannot be empty")
    for streams in (None, {"exact": "a"}):
        answer = issue(root, scope={"streams": streams, "ops": ["read"]}, auto_prefix_streams=True)
        refused(answer, 422, "invalid", "Auto prefixing is only allowed for streams with prefix matching")
    refused(issue(root, scope={"ops": ["read"]}, expires_at="2020-01-01T00:00:00Z"), 422, "invalid", "future")
    refused(issue(root, "..", scope={"ops": ["read"]}), 400, "bad_json")
    refused(issue(root, scope={"ops": ["fly"]}), 400, "bad_json", "fly")
    refused(issue(root, scope={"ops": ["read"]}, expires_at="soon"), 400, "bad_json")


# ---------------------------------------------------------------- automatic prefixes


def test_a_prefix_is_added_on_the_way_in_and_taken_off_on_the_way_out(root):
    ours = holder(root, scope={"streams": {"prefix": "app/"}, "op_groups": ALL_GROUPS}, auto_prefix_streams=True)
    root.create_stream(name="app/")
    assert ours.send("POST", "/streams", {"stream": "a"}).json()["name"] == "a"
    assert ours.send("PUT", "/streams/b").json()["name"] == "b"
    assert ours.stream("a").append("x", "y").status == 200
    assert [r["body"] for r in ours.stream("a").read(seq_num=0).json()["records"]] == ["x", "y"]
    assert ours.stream("a").tail()["seq_num"] == root.stream("app/a").tail()["seq_num"] == 2
    assert listed(ours.send("GET", "/streams"), "streams") == (["a", "b"], False)
    assert listed(ours.send("GET", "/streams?limit=1"), "streams") == (["a"], True)
    assert listed(ours.send("GET", "/streams?start_after=a"), "streams") == (["b"], False)
    assert listed(ours.send("GET", "/streams?prefix=b"), "streams") == (["b"], False)
    assert "app/a" in listed(root.send("GET", "/streams?prefix=app/"), "streams")[0]
    for name in ("none", "app/none"):
        answer = ours.stream(name).read(seq_num=0)
        refused(answer, 404, "stream_not_found", f"stream `{name}` in basin")
    refused(ours.send("POST", "/streams", {"stream": "a"}), 409, "resource_already_exists", "stream `a` in")
    refused(ours.send("POST", "/streams", {"stream": "x" * 509}), 400, "bad_json", "512")
    refused(ours.stream("x" * 509).append("x"), 400, "bad_path", "512")
    with raw_http.Session.append(ours.stream("a"), ours.headers) as session:
        assert session.read_head() == 200
        session.send_frame(raw_http.append_input([b"z"]))
        assert session.read_ack()
        session.finish_body()
    with raw_http.Session.read(ours.stream("a"), ours.headers, seq_num=2, count=1) as session:
        assert session.read_head() == 200
        assert b"z" in session.read_frame()[1]
    assert ours.stream("b").send("DELETE").status == 202
    assert root.stream("app/a").tail()["seq_num"] == 3


# ---------------------------------------------------------------- the end of a token


def open_sessions(stream, headers):
    append = raw_http.Session.append(stream, headers)
    assert append.read_head() == 200
    read = raw_http.Session.read(stream, headers, seq_num=0)
    assert read.read_head() == 200
    sse = raw_http.Session(stream.target)
    sse.send_head("GET", "/v1" + stream.path + "/records?seq_num=0",
                  {"s2-basin": stream.basin.name, "accept": "text/event-stream", **headers})
    assert sse.read_head() == 200
    return append, read, sse


def end_of_read(session):
    while True:
        flag, payload = session.read_frame()
        if flag & 0x80:
            assert session.read_frame() is None
            return raw_http.terminal(payload)


def assert_ended(append, read, sse):
    for status, body in (append.read_terminal(), end_of_read(read)):
        assert (status, body["code"]) == (401, "authn")
    rest = sse.read_rest().decode()
    assert "event: error" in rest and '"code":"authn"' in rest, rest


def test_a_revocation_ends_open_sessions_at_once(root):
    stream = root.create_stream().name
    token_id = raw_http.unique("revoked")
    ours = holder(root, token_id, scope={"op_groups": ALL_GROUPS})
    other = holder(root, scope={"op_groups": ALL_GROUPS})
    append, read, sse = open_sessions(ours.stream(stream), ours.headers)
    stays, *others = open_sessions(other.stream(stream), other.headers)
    append.send_frame(raw_http.append_input([b"before"]))
    append.read_ack()
    began = time.monotonic()
    assert root.send("DELETE", f"/access-tokens/{token_id}").status == 204
    assert_ended(append, read, sse)
    assert time.monotonic() - began < 2
    stays.send_frame(raw_http.append_input([b"after"]))
    stays.read_ack()
    for session in (append, read, sse, stays, *others):
        session.socket.close()


def test_an_expiry_ends_requests_and_sessions(root):
    stream = root.create_stream().name
    token_id = raw_http.unique("expires")
    ours = holder(root, token_id, scope={"op_groups": ALL_GROUPS}, expires_at=later(2))
    append, read, sse = open_sessions(ours.stream(stream), ours.headers)
    assert ours.send("GET", "/streams").status == 200
    assert_ended(append, read, sse)
    refused(ours.send("GET", "/streams"), 401, "authn", "expired")
    for session in (append, read, sse):
        session.socket.close()
    assert issue(root, token_id, scope={"ops": ["read"]}).status == 201, "an expired token is in nobody's way"


# ---------------------------------------------------------------- starts


def run(data, *arguments, **environment):
    server = millrace_process.Millrace(data, arguments=arguments)
    server.environment = environment
    return server


def printed_token(server):
    """The secrets of all banners so far; a banner may come a moment after `/health` answers."""
    deadline = time.monotonic() + 10
    starts = server.starts = getattr(server, "starts", 0) + 1
    while time.monotonic() < deadline:
        lines = [line for line in server.log_end(100_000).splitlines() if line.startswith("export S2_ACCESS_TOKEN=")]
        if len(lines) >= starts:
            return [line.split("=", 1)[1] for line in lines if "=mr_" in line]
        time.sleep(0.02)
    raise AssertionError(server.log_end())


def test_the_first_start_makes_a_root_token_once_and_restarts_keep_tokens(tmp_path):
    server = run(tmp_path / "data", "--auth", "required")
    with server:
        (secret,) = printed_token(server)
        root = As(server.target, "a-basin-of-root", secret)
        assert root.send("POST", "/basins", {"basin": root.name}).status == 201
        ours = holder(root, "kept", scope={"op_groups": ALL_GROUPS})
        gone = holder(root, "gone", scope={"op_groups": ALL_GROUPS})
        assert root.send("DELETE", "/access-tokens/gone").status == 204
        for stop in (server.terminate, server.kill):
            stop()
            server.start()
            assert printed_token(server) == [secret], "it is shown once"
            who = lambda holder: As(server.target, root.name, holder.secret).send("GET", "/streams")
            assert who(root).status == who(ours).status == 200
            refused(who(gone), 401, "authn")
        assert listed(As(server.target, root.name, secret).send("GET", "/access-tokens"), "access_tokens", "id")[0] == ["kept", "root"]
        server.kill()
        # Nothing on the disk or in the log gives a secret away.
        files = [path for path in tmp_path.rglob("*") if path.is_file()]
        assert len(files) > 2
        for path in files:
            data = path.read_bytes()
            for secret_text in (secret, ours.secret, gone.secret):
                if path == server.log_path and secret_text == secret:
                    assert data.count(secret_text.encode()) == 1, "only where it is shown"
                else:
                    assert secret_text.encode() not in data, path
        inspected = subprocess.run([millrace_process.binary(), "inspect", str(server.data)], capture_output=True, timeout=60)
        assert inspected.returncode == 0
        assert secret.encode() not in inspected.stdout + inspected.stderr


def test_a_loopback_server_is_open_and_stays_so_when_tokens_are_issued(tmp_path):
    with run(tmp_path / "data") as server:
        anyone = raw_http.Basin(server.target, "an-open-basin")
        assert anyone.send("POST", "/basins", {"basin": anyone.name}).status == 201
        assert raw_http.request(server.target, "GET", "/v1/basins").status == 200
        ours = holder(As(server.target, anyone.name, "any"), "limited", scope={"ops": ["list-streams"]})
        assert ours.send("GET", "/streams").status == 200
        refused(ours.send("GET", "/basins"), 403, "permission_denied")
        assert anyone.send("GET", "/basins").status == 200, "nobody has locked himself out"
        assert anyone.send("DELETE", "/access-tokens/limited").status == 204
        refused(ours.send("GET", "/streams"), 401, "authn")
        assert printed_token(server) == []


def test_settings_that_would_be_unsafe_are_refused_and_secrets_not_printed(tmp_path):
    def serve(*arguments, **environment):
        server = run(tmp_path / "data", **environment)
        return subprocess.run([millrace_process.binary(), "serve", "--data", str(server.data), *arguments],
                              capture_output=True, text=True, timeout=30, env={**__import__("os").environ, **environment})

    open_to_all = serve("--listen", "0.0.0.0:0")
    assert open_to_all.returncode == 2 and "--insecure" in open_to_all.stderr
    for arguments in (["--print-config"], ["--help"], ["--print-config", "--auth", "required"]):
        shown = serve(*arguments, MILLRACE_ROOT_TOKEN=ROOT)
        assert shown.returncode == 0 and ROOT not in shown.stdout + shown.stderr
    file = tmp_path / "millrace.toml"
    file.write_text('root-token = "too short"\n')
    bad = serve("--config", str(file))
    assert bad.returncode == 2 and "16 to 512" in bad.stderr and "too short" not in bad.stderr


def test_no_secret_is_in_the_log_or_the_metrics(tmp_path):
    server = run(tmp_path / "data", "--log", "trace", MILLRACE_ROOT_TOKEN=ROOT)
    with server:
        root = As(server.target, "a-basin-of-root", ROOT)
        assert root.send("POST", "/basins", {"basin": root.name}).status == 201
        ours = holder(root, scope={"ops": ["list-streams"]})
        ours.send("GET", "/streams")
        ours.send("GET", "/basins")
        wrong = As(server.target, root.name, "mr_" + "x" * 43)
        refused(wrong.send("GET", "/streams"), 401, "authn")
        metrics = raw_http.request(server.target, "GET", "/metrics").body.decode()
        log = server.log_path.read_text()
        assert "answered" in log
        for secret in (ROOT, ours.secret, wrong.secret):
            assert secret not in metrics and secret not in log
