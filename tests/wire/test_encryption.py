"""Client-key encryption: what is sealed, what stays clear, and what a missing or wrong key gets."""

import base64
import os
import pathlib
import threading

import pytest
from s2_sdk import S2, AppendInput, Endpoints, ReadLimit, Record, S2Error, SeqNum

import millrace_process
import raw_http
from raw_http import Session, append_input, append_record, Encoded

CIPHERS = ["aegis-256", "aes-256-gcm"]
KEY = base64.b64encode(bytes(range(32))).decode()
OTHER = base64.b64encode(b"\xff" * 32).decode()
SECRET = "the-secret-of-this-test"


def with_key(key=KEY, **headers):
    return {"s2-encryption-key": key, **headers}


@pytest.fixture(params=CIPHERS)
def cipher(request):
    return request.param


@pytest.fixture
def sealed(account, cipher):
    """A basin with a cipher that creates streams, and a stream in it."""
    basin = account.create_basin(
        {"stream_cipher": cipher, "create_stream_on_append": True, "create_stream_on_read": True}
    )
    return basin.create_stream({"timestamping": {"uncapped": True}})


def bodies(answer):
    assert answer.status == 200, answer
    return [record.get("body", "") for record in answer.json()["records"]]


def missing(cipher):
    return {"code": "bad_header", "message": f"missing encryption key for stream cipher '{cipher}'"}


def failed(answer):
    return answer.status == 400 and answer.json() == {
        "code": "decryption_failed",
        "message": "record decryption failed",
    }


def read_proto(stream, key=KEY, **query):
    answer = stream.read(with_key(key, accept="application/protobuf"), **query)
    assert answer.status == 200, answer
    return raw_http.read_batch(answer.body)["records"]


# ---------------------------------------------------------------- unary


def test_the_cipher_is_shown_and_stays_when_the_basin_changes(sealed, cipher):
    basin = sealed.basin
    shown = basin.send("GET", "/streams").json()["streams"]
    assert [s["cipher"] for s in shown] == [cipher]
    sealed.append(SECRET, headers=with_key())
    account = raw_http.Account(basin.target)
    assert account.send("PATCH", f"/basins/{basin.name}", {"stream_cipher": None}).status == 200
    clear = basin.create_stream()
    assert clear.append("open").status == 200 and bodies(clear.read(seq_num=0)) == ["open"]
    assert sealed.append("no key").json() == missing(cipher)
    assert sealed.append("more", headers=with_key()).status == 200
    assert bodies(sealed.read(with_key(), seq_num=0)) == [SECRET, "more"]
    assert account.send("PATCH", f"/basins/{basin.name}", {"stream_cipher": cipher}).status == 200
    assert clear.append("still open", headers=with_key("?")).status == 200
    assert bodies(clear.read(seq_num=0)) == ["open", "still open"]


@pytest.mark.parametrize("wire", ["application/json", "application/protobuf"])
def test_records_come_back_whole(sealed, wire):
    records = [
        Encoded(append_record(b"\x00\xff", [(b"k", b"\xfe"), (b"k", b"")], timestamp=12345)),
        Encoded(append_record(b"", [], timestamp=12345)),
    ]
    answer = sealed.send("POST", "/records", None, with_key(**{"content-type": "application/protobuf"}), append_input(records))
    assert answer.status == 200, answer
    answer = sealed.append_records([{"body": "json", "headers": [["a", "b"]], "timestamp": 12346}], with_key())
    assert answer.status == 200, answer
    if wire == "application/protobuf":
        assert read_proto(sealed, seq_num=0) == [
            {"seq_num": 0, "timestamp": 12345, "headers": [(b"k", b"\xfe"), (b"k", b"")], "body": b"\x00\xff"},
            {"seq_num": 1, "timestamp": 12345, "headers": [], "body": b""},
            {"seq_num": 2, "timestamp": 12346, "headers": [(b"a", b"b")], "body": b"json"},
        ]
    else:
        read = sealed.read(with_key(), seq_num=2).json()["records"]
        assert read == [{"seq_num": 2, "timestamp": 12346, "headers": [["a", "b"]], "body": "json"}]


def test_a_missing_key_is_refused_wherever_records_pass(sealed, cipher):
    sealed.append(SECRET, headers=with_key())
    assert sealed.append("x").json() == missing(cipher)
    for accept in ["application/json", "application/protobuf", "text/event-stream"]:
        answer = sealed.read({"accept": accept}, seq_num=0)
        assert answer.status == 400 and answer.json() == missing(cipher), answer
    for open_session in [Session.append, lambda s: Session.read(s, seq_num=0)]:
        with open_session(sealed) as session:
            assert session.read_head() == 400
    assert sealed.tail()["seq_num"] == 1


@pytest.mark.parametrize("key", ["?", "AAEC", KEY[:-1], KEY + "A", "", "A" * 45])
def test_what_is_no_key_is_a_bad_header(sealed, key):
    sealed.append(SECRET, headers=with_key())
    for answer in [sealed.append("x", headers=with_key(key)), sealed.read(with_key(key), seq_num=0)]:
        assert answer.status == 400 and answer.code == "bad_header", answer
        assert len(key) < 4 or key not in answer.body.decode()
    assert sealed.tail()["seq_num"] == 1


def test_a_wrong_key_may_append_but_reads_only_its_own(sealed):
    sealed.append("first", headers=with_key())
    assert sealed.append("second", headers=with_key(OTHER)).status == 200
    for accept in ["application/json", "application/protobuf"]:
        assert failed(sealed.read(with_key(OTHER, accept=accept), seq_num=0))
    assert bodies(sealed.read(with_key(OTHER), seq_num=1)) == ["second"]
    assert bodies(sealed.read(with_key(), seq_num=0, count=1)) == ["first"]
    assert failed(sealed.read(with_key(), seq_num=0))


def test_commands_stay_clear_and_work(sealed):
    fence = [raw_http.command("fence", "mine"), {"body": SECRET}]
    assert sealed.append_records(fence, with_key()).status == 200
    assert sealed.append("x", headers=with_key(), fencing_token="other").status == 412
    assert sealed.append("y", headers=with_key(), fencing_token="mine").status == 200
    read = sealed.read(with_key(OTHER), seq_num=0, count=1).json()["records"]
    assert read[0]["headers"] == [["", "fence"]] and read[0]["body"] == "mine"


def test_limits_count_clear_bytes(sealed):
    ack = sealed.append(*["x" * 92] * 10, headers=with_key())
    assert ack.status == 200, ack
    assert len(bodies(sealed.read(with_key(), seq_num=0, bytes=350))) == 3
    assert len(bodies(sealed.read(with_key(), seq_num=0, bytes=300))) == 3
    assert len(bodies(sealed.read(with_key(), seq_num=0, bytes=299))) == 2
    assert len(bodies(sealed.read(with_key(), seq_num=4, count=2))) == 2


def test_the_largest_record_and_batch_fit(sealed):
    largest = b"x" * ((1 << 20) - 8)
    proto = {"content-type": "application/protobuf"}
    for records in [[largest], [b"y" * 1040] * 1000]:
        assert sealed.send("POST", "/records", None, with_key(**proto), append_input(records)).status == 200
    assert sealed.send("POST", "/records", None, with_key(**proto), append_input([largest + b"x"])).status == 422
    with Session.append(sealed, with_key()) as session:
        session.send_frame(append_input([largest]))
        session.send_frame(append_input([b"y" * 1040] * 1000))
        session.finish_body()
        session.read_head()
        assert [session.read_ack()["end"]["seq_num"] for _ in range(2)] == [1002, 2002]
    assert read_proto(sealed, seq_num=0)[0]["body"] == largest
    assert len(read_proto(sealed, seq_num=1)) == 1000
    with Session.read(sealed, with_key(), seq_num=0, count=2002) as session:
        assert session.read_head() == 200
        count = 0
        while (got := session.read_frame()) is not None:
            count += len(raw_http.read_batch(got[1])["records"])
        assert count == 2002


# ---------------------------------------------------------------- sessions


def test_a_session_appends_and_reads(sealed):
    with Session.append(sealed, with_key()) as session:
        for i in range(50):
            session.send_frame(append_input([b"%d" % i]))
        session.finish_body()
        assert session.read_head() == 200
        assert [session.read_ack()["end"]["seq_num"] for _ in range(50)] == list(range(1, 51))
    with Session.read(sealed, with_key(), seq_num=0) as session:
        assert session.read_head() == 200
        seen = []
        while len(seen) < 51:
            _, payload = session.read_frame()
            seen += [r["body"] for r in raw_http.read_batch(payload)["records"]]
            if len(seen) == 50:
                assert sealed.append("live", headers=with_key()).status == 200
        assert seen == [b"%d" % i for i in range(50)] + [b"live"]


def test_a_wrong_key_ends_a_session_with_a_terminal_frame(sealed):
    sealed.append("x", headers=with_key())
    with Session.read(sealed, with_key(OTHER), seq_num=0) as session:
        assert session.read_head() == 200
        status, body = session.read_terminal()
        assert status == 400 and body["code"] == "decryption_failed"


def test_sse_reads_and_ends_with_an_error_event(sealed):
    sealed.append(SECRET, headers=with_key())
    answer = sealed.read(with_key(accept="text/event-stream"), seq_num=0, count=1)
    assert answer.status == 200 and SECRET in answer.body.decode()
    answer = sealed.read(with_key(OTHER, accept="text/event-stream"), seq_num=0, count=1)
    assert answer.status == 200
    assert b"event: error" in answer.body and b"decryption_failed" in answer.body


# ---------------------------------------------------------------- creation


def test_streams_that_an_append_or_read_creates_are_sealed(sealed, cipher):
    basin = sealed.basin
    appended = basin.stream(raw_http.unique("made-by-append"))
    assert appended.append(SECRET, headers=with_key()).status == 200
    assert appended.read(seq_num=0).json() == missing(cipher)
    assert bodies(appended.read(with_key(), seq_num=0)) == [SECRET]
    session_made = basin.stream(raw_http.unique("made-by-session"))
    with Session.append(session_made, with_key()) as session:
        session.send_frame(append_input([SECRET.encode()]))
        session.finish_body()
        assert session.read_head() == 200 and session.read_ack()["end"]["seq_num"] == 1
    assert bodies(session_made.read(with_key(), seq_num=0)) == [SECRET]
    read_made = basin.stream(raw_http.unique("made-by-read"))
    assert read_made.read(with_key(), seq_num=0, wait=0).status in (200, 416)
    assert read_made.append("x").json() == missing(cipher)


def test_deletion_creation_and_a_changing_basin_never_mix_records(sealed, cipher):
    """Streams of one name come and go, clear and sealed; each read is whole, or refused for want of a key."""
    basin, account = sealed.basin, raw_http.Account(sealed.basin.target)
    stream = basin.stream(raw_http.unique("racing"))
    stop, wrong, acks = threading.Event(), [], [0]

    def append():
        while not stop.is_set():
            answer = stream.append(SECRET, headers=with_key())
            acks[0] += answer.status == 200
            if answer.status not in (200, 404, 409):
                wrong.append(answer)

    def read():
        while not stop.is_set():
            answer = stream.read(with_key(), seq_num=0)
            if answer.status == 200 and set(bodies(answer)) - {SECRET} or answer.status == 400:
                wrong.append(answer)

    threads = [threading.Thread(target=target) for target in [append, append, read]]
    for thread in threads:
        thread.start()
    try:
        for turn in range(12):
            value = None if turn % 2 == 0 else cipher
            assert account.send("PATCH", f"/basins/{basin.name}", {"stream_cipher": value}).status == 200
            stream.send("DELETE")
            stop.wait(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:3]
    assert acks[0] > 10


# ---------------------------------------------------------------- streams without a cipher


def test_without_a_cipher_the_header_is_ignored_but_for_its_length(stream):
    for key in [KEY, "?", "not base64 at all"]:
        assert stream.append("x", headers=with_key(key)).status == 200
        assert stream.read(with_key(key), seq_num=0).status == 200
    assert stream.append("x", headers=with_key("A" * 45)).code == "bad_header"
    assert stream.read(with_key("A" * 45), seq_num=0).code == "bad_header"


# ---------------------------------------------------------------- what is on the disk and in the log


@pytest.mark.ours
def test_the_disk_and_the_log_hold_no_secret_and_a_restart_changes_nothing(tmp_path, cipher):
    server = millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto"))
    server.environment = {"RUST_LOG": "debug", "MILLRACE_LOG": "debug"}
    with server:
        basin = raw_http.Account(server.target).create_basin({"stream_cipher": cipher})
        stream = basin.create_stream()
        record = {"headers": [["secret-name", "secret-value"]], "body": SECRET}
        assert stream.append_records([record, raw_http.command("fence", "clear-token")], with_key()).status == 200
        assert failed(stream.read(with_key(OTHER), seq_num=0))
        assert stream.append("x", headers=with_key("AAEC")).code == "bad_header"
        server.kill()
        files = [path for path in pathlib.Path(server.data).rglob("*") if path.is_file()]
        stored = b"".join(path.read_bytes() for path in files)
        assert b"clear-token" in stored
        raw_key = base64.b64decode(KEY)
        for secret in [SECRET.encode(), b"secret-name", b"secret-value", KEY.encode(), raw_key]:
            assert secret not in stored
        server.start()
        stream = raw_http.Basin(server.target, basin.name).stream(stream.name)
        assert stream.append("after", headers=with_key(), fencing_token="clear-token").status == 200
        read = stream.read(with_key(), seq_num=0).json()["records"]
        assert read[0]["headers"] == record["headers"] and read[0]["body"] == SECRET and read[2]["body"] == "after"
        assert failed(stream.read(with_key(OTHER), seq_num=0))
        log = server.log_path.read_bytes()
        for secret in [SECRET.encode(), KEY.encode(), OTHER.encode(), b"AAEC"]:
            assert secret not in log


# ---------------------------------------------------------------- the SDK


@pytest.fixture
def connect(request, target):
    request.node.clients_open = []
    client = S2("ignored", endpoints=Endpoints(account=target, basin=target))
    request.node.clients_open.append(client)
    return client


async def test_the_python_sdk_with_a_key(connect, sealed):
    basin = connect.basin(sealed.basin.name)
    stream = basin.stream(sealed.name, encryption_key=bytes(range(32)))
    await stream.append(AppendInput(records=[Record(body=b"one", headers=[(b"a", b"b")])]))
    async with stream.append_session() as session:
        ticket = await session.submit(AppendInput(records=[Record(body=b"two")]))
        assert (await ticket).end.seq_num == 2
    batch = await stream.read(start=SeqNum(0))
    assert [(r.body, r.headers) for r in batch.records] == [(b"one", [(b"a", b"b")]), (b"two", [])]
    seen = []
    async for batch in stream.read_session(start=SeqNum(0), limit=ReadLimit(count=2)):
        seen += [r.body for r in batch.records]
    assert seen == [b"one", b"two"]
    wrong = basin.stream(sealed.name, encryption_key=b"\xff" * 32)
    with pytest.raises(S2Error):
        await wrong.read(start=SeqNum(0))
    with pytest.raises(S2Error):
        await basin.stream(sealed.name).read(start=SeqNum(0))
