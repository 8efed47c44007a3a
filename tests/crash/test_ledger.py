"""The ledger of the crash test finds each kind of breach: a checker that never fails checks nothing."""

import pytest

import ledger
from ledger import Batch, Ledger, Violation


def position(seq_num, timestamp=5):
    return {"seq_num": seq_num, "timestamp": timestamp}


def record(batch_id, index, seq_num, size=20, timestamp=5):
    return {"seq_num": seq_num, "timestamp": timestamp, "headers": [], "body": ledger.body(batch_id, index, size)}


@pytest.fixture
def book():
    """`a` (two records) is acked at 0, the fate of `b` (two records) is open, `c` was refused."""
    book = Ledger("s")
    a, b, c = Batch("a", [20, 20]), Batch("b", [20, 20]), Batch("c", [20])
    for batch in (a, b, c):
        book.begin(batch)
    book.acked(a, {"start": position(0), "end": position(2), "tail": position(2)})
    book.refused(c)
    return book


A = [record("a", 0, 0), record("a", 1, 1)]
B = [record("b", 0, 2), record("b", 1, 3)]


@pytest.mark.parametrize("records", [A, A + B])
def test_an_open_batch_may_be_there_whole_or_not_at_all(book, records):
    book.verify(records, position(len(records)))
    assert book.tail == len(records)


@pytest.mark.parametrize(
    "records",
    [
        [],
        A[:1],
        [A[1], A[0]],
        [record("b", 0, 0), record("b", 1, 1), record("a", 0, 2), record("a", 1, 3)],
        A + [record("a", 0, 2), record("a", 1, 3)],
        A + B[:1],
        A + [record("b", 1, 2), record("b", 0, 3)],
        A + [record("c", 0, 2)],
        A + [record("z", 0, 2)],
        A + [record("b", 0, 3), record("b", 1, 4)],
        [A[0], {**A[1], "body": A[1]["body"][:-1] + b"!"}],
        [record("a", 0, 0, timestamp=6), record("a", 1, 1, timestamp=6)],
        A + [record("b", 0, 2, timestamp=4), record("b", 1, 3, timestamp=4)],
    ],
    ids=[
        "lost", "half lost", "swapped", "renumbered", "doubled", "torn", "turned", "refused", "foreign", "gap", "damaged", "retimed", "times fall",
    ],
)  # fmt: skip
def test_a_breach_is_found(book, records):
    tail = records[-1]["seq_num"] + 1 if records else 0
    with pytest.raises(Violation):
        book.verify(records, position(tail, records[-1]["timestamp"] if records else 0))


def test_what_was_absent_must_stay_absent(book):
    book.verify(A, position(2))
    with pytest.raises(Violation, match="absent after an earlier restart"):
        book.verify(A + B, position(4))


def test_what_was_found_must_stay(book):
    book.verify(A + B, position(4))
    with pytest.raises(Violation):
        book.verify(A, position(2))


def test_what_a_follower_saw_must_stay(book):
    book.seen(B[0])
    with pytest.raises(Violation):
        book.verify(A, position(2))


def test_nothing_vanishes_that_was_not_trimmed(book):
    with pytest.raises(Violation, match="nothing|begins at 1"):
        book.verify(A[1:], position(2))
    book.verify(A, position(2))
    book.begin(Batch("trim-1", [0], ("trim", 1)))
    book.verify(A[1:], position(2))
