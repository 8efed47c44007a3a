"""Leases: one holder at a time, over restarts, and an old holder's appends fail."""

import os
import threading
import time

import pytest

import millrace_process
import raw_http

pytestmark = pytest.mark.ours


def acquire(stream, holder, duration_ms=5000, **more):
    return stream.send("POST", "/lease", {"holder": holder, "duration_ms": duration_ms, **more})


def acquired(stream, holder, duration_ms=5000, **more):
    answer = acquire(stream, holder, duration_ms, **more)
    assert answer.status == 200, answer
    return answer.json()


def renew(stream, token, **more):
    return stream.send("PUT", "/lease", {"token": token, **more})


def release(stream, token):
    return stream.send("DELETE", f"/lease?token={token}")


def inspect(stream):
    answer = stream.send("GET", "/lease")
    assert answer.status == 200, answer
    return answer.json()["lease"]


def test_acquire_renew_inspect_release(stream):
    assert inspect(stream) is None
    lease = acquired(stream, "worker-1")
    assert 20 <= len(lease["token"]) <= 36 and lease["holder"] == "worker-1" and lease["generation"] == 1
    assert 0 < lease["expires_in_ms"] <= 5000 and lease["duration_ms"] == 5000
    seen = inspect(stream)
    assert seen["holder"] == "worker-1" and "token" not in seen
    assert stream.append("x", fencing_token=lease["token"]).status == 200
    answer = stream.append("x", fencing_token="stale")
    assert answer.status == 412 and "fencing_token_mismatch" in answer.json()
    answer = acquire(stream, "worker-2")
    assert answer.status == 409 and answer.code == "lease_held"
    body = answer.json()
    assert body["holder"] == "worker-1" and 0 < body["expires_in_ms"] <= 5000 and "token" not in body
    assert lease["token"] not in answer.body.decode()
    renewed = renew(stream, lease["token"], duration_ms=60_000)
    assert renewed.status == 200 and renewed.json()["expires_in_ms"] > 5000 and renewed.json()["generation"] == 1
    assert release(stream, "other").status == 409 and renew(stream, "other").code == "lease_lost"
    assert release(stream, lease["token"]).status == 204
    assert inspect(stream) is None and release(stream, lease["token"]).code == "lease_lost"
    assert stream.append("x", fencing_token=lease["token"]).status == 412
    assert acquired(stream, "worker-2")["generation"] == 2


def test_acquiring_appends_an_ordinary_fence_record(stream):
    stream.append("before")
    lease = acquired(stream, "w")
    records = stream.read(seq_num=0).json()["records"]
    assert records[1]["headers"] == [["", "fence"]] and records[1]["body"] == lease["token"]
    assert stream.tail()["seq_num"] == 2


def test_it_expires_and_is_taken_and_the_old_holder_is_fenced(stream):
    old = acquired(stream, "old", 1000)
    assert acquire(stream, "new").status == 409
    time.sleep(1.1)
    assert inspect(stream) is None
    # Nobody has taken it: the fence still stands.
    assert stream.append("x", fencing_token=old["token"]).status == 200
    new = acquired(stream, "new")
    assert new["generation"] == 2 and new["token"] != old["token"]
    answer = stream.append("x", fencing_token=old["token"])
    assert answer.status == 412 and answer.json() == {"fencing_token_mismatch": new["token"]}
    assert renew(stream, old["token"]).code == "lease_lost" and release(stream, old["token"]).code == "lease_lost"
    assert stream.append("x", fencing_token=new["token"]).status == 200


def test_renewals_keep_it(stream):
    lease = acquired(stream, "w", 1000)
    for _ in range(8):
        time.sleep(0.25)
        assert renew(stream, lease["token"]).status == 200
    assert acquire(stream, "other").status == 409


def test_of_many_at_once_one_gets_it(stream):
    answers = []
    threads = [threading.Thread(target=lambda i=i: answers.append(acquire(stream, f"w{i}"))) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    won = [a.json() for a in answers if a.status == 200]
    assert len(won) == 1 and sorted(a.status for a in answers) == [200] + [409] * 15
    assert {a.json()["holder"] for a in answers} == {won[0]["holder"]}


def test_those_who_wait_hold_it_one_after_the_other(stream):
    held, overlaps, errors = [], [], []
    inside = threading.Semaphore(1)

    def work(i):
        answer = acquire(stream, f"w{i}", 10_000, wait_ms=20_000)
        if answer.status != 200:
            errors.append(answer)
            return
        if not inside.acquire(blocking=False):
            overlaps.append(i)
        lease = answer.json()
        if stream.append(str(i), fencing_token=lease["token"]).status != 200:
            errors.append(i)
        held.append(lease["generation"])
        inside.release()
        if release(stream, lease["token"]).status != 204:
            errors.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and not overlaps and held == [1, 2, 3, 4, 5, 6]


def test_a_wait_ends_with_expiry_or_with_its_time(stream):
    acquired(stream, "first", 1000)
    begun = time.monotonic()
    assert acquired(stream, "second", wait_ms=10_000)["generation"] == 2
    assert 0.7 < time.monotonic() - begun < 4
    begun = time.monotonic()
    assert acquire(stream, "third", wait_ms=300).code == "lease_held"
    assert 0.25 < time.monotonic() - begun < 2


def test_a_fence_by_somebody_else_ends_it(stream):
    lease = acquired(stream, "w", 60_000)
    assert stream.fence("mine").status == 200
    assert inspect(stream) is None and renew(stream, lease["token"]).code == "lease_lost"
    assert stream.append("x", fencing_token=lease["token"]).status == 412
    assert acquired(stream, "other")["generation"] == 2
    assert stream.append("x", fencing_token="mine").status == 412


@pytest.mark.parametrize(
    "method, below, value, status, code",
    [
        ("POST", "", {"holder": "w", "duration_ms": 999}, 422, "invalid"),
        ("POST", "", {"holder": "w", "duration_ms": 3_600_001}, 422, "invalid"),
        ("POST", "", {"holder": "", "duration_ms": 5000}, 422, "invalid"),
        ("POST", "", {"holder": "x" * 65, "duration_ms": 5000}, 422, "invalid"),
        ("POST", "", {"holder": "a\nb", "duration_ms": 5000}, 422, "invalid"),
        ("POST", "", {"holder": "w", "duration_ms": 5000, "wait_ms": 60_001}, 422, "invalid"),
        ("POST", "", {"holder": "w"}, 400, "bad_json"),
        ("POST", "", {"holder": "w", "duration_ms": -1}, 400, "bad_json"),
        ("POST", "", {"holder": "w", "duration_ms": 5000, "until": 1}, 400, "bad_json"),
        ("POST", "", None, 400, "bad_json"),
        ("PUT", "", {"token": ""}, 422, "invalid"),
        ("PUT", "", {"token": "x" * 37}, 422, "invalid"),
        ("PUT", "", {"token": "x", "duration_ms": 1}, 422, "invalid"),
        ("DELETE", "", None, 400, "bad_query"),
        ("DELETE", "?token=", None, 422, "invalid"),
        ("PATCH", "", {}, 405, "method_not_allowed"),
    ],
)
def test_what_is_malformed_is_refused(stream, method, below, value, status, code):
    answer = stream.send(method, "/lease" + below, value)
    assert answer.status == status and answer.code == code, answer
    assert inspect(stream) is None and stream.tail()["seq_num"] == 0


def test_a_missing_stream_is_not_made(account):
    basin = account.create_basin({"create_stream_on_append": True, "create_stream_on_read": True})
    stream = basin.stream("nobody-made-it")
    for answer in [acquire(stream, "w"), renew(stream, "t"), release(stream, "t"), stream.send("GET", "/lease")]:
        assert answer.status == 404 and answer.code == "stream_not_found", answer


def test_a_stream_under_a_cipher_has_one_too(account):
    stream = account.create_basin({"stream_cipher": "aegis-256"}).create_stream()
    lease = acquired(stream, "w")
    assert stream.read({"s2-encryption-key": "A" * 43 + "="}, seq_num=0).json()["records"][0]["body"] == lease["token"]


@pytest.mark.parametrize("how", ["kill", "terminate"])
def test_it_outlives_a_restart_and_runs_anew(tmp_path, how):
    with millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto")) as server:
        basin = raw_http.Account(server.target).create_basin()
        stream, other, free = basin.create_stream(), basin.create_stream(), basin.create_stream()
        lease = acquired(stream, "w", 2000)
        gone = acquired(other, "w", 60_000)
        assert release(other, gone["token"]).status == 204
        time.sleep(1)
        getattr(server, how)()
        server.start()
        stream, other, free = (raw_http.Basin(server.target, basin.name).stream(s.name) for s in (stream, other, free))
        seen = inspect(stream)
        assert seen["holder"] == "w" and seen["generation"] == 1 and 1000 < seen["expires_in_ms"] <= 3000
        assert inspect(other) is None and inspect(free) is None
        assert acquire(stream, "new").status == 409
        assert stream.append("x", fencing_token=lease["token"]).status == 200
        new = acquired(stream, "new", 5000, wait_ms=10_000)
        assert new["generation"] == 2
        assert stream.append("x", fencing_token=lease["token"]).status == 412
        assert acquired(other, "w")["generation"] == 2


def test_whatever_a_kill_interrupts_an_acknowledged_lease_is_there(tmp_path):
    with millrace_process.Millrace(tmp_path / "data", os.environ.get("MILLRACE_DRIVER", "auto")) as server:
        basin = raw_http.Account(server.target).create_basin()
        names = [basin.create_stream().name for _ in range(4)]
        for turn in range(3):
            known = {}
            stop = threading.Event()

            def work(name):
                stream = raw_http.Basin(server.target, basin.name).stream(name)
                while not stop.is_set():
                    try:
                        if name in known:
                            token = known.pop(name)["token"]
                            release(stream, token)
                        answer = acquire(stream, f"turn-{turn}", 60_000)
                        if answer.status == 200:
                            known[name] = answer.json()
                    except (OSError, raw_http.http.client.HTTPException):
                        return

            threads = [threading.Thread(target=work, args=(name,)) for name in names]
            for thread in threads:
                thread.start()
            time.sleep(0.4)
            server.kill()
            stop.set()
            for thread in threads:
                thread.join()
            server.start()
            for name in names:
                stream = raw_http.Basin(server.target, basin.name).stream(name)
                seen = inspect(stream)
                if name in known:
                    assert (seen["holder"], seen["generation"]) == (known[name]["holder"], known[name]["generation"])
                    assert stream.append("x", fencing_token=known[name]["token"]).status == 200
                if seen is not None:
                    # Its token may not be known to anybody: whoever wants to go on sets another.
                    assert stream.fence("reset").status == 200 and inspect(stream) is None
