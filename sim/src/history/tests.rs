//! Histories by hand: for each rule some that keep it and some that break it.

use super::*;

/// A history in the making; records are called by letters, which are their bodies.
#[derive(Default)]
struct Script(StreamHistory);

fn body(name: char) -> BodyHash {
    BodyHash::of(name.to_string().as_bytes())
}

fn batch(bodies: &str) -> Append {
    Append::of(bodies.chars().map(body))
}

/// What a read of `bodies` from `from` on returns; timestamps are ten times the sequence numbers.
fn records(from: u64, bodies: &str) -> Vec<Seen> {
    let seen = |(seq_num, name)| Seen { seq_num, timestamp: seq_num * 10, body: body(name) };
    (from..).zip(bodies.chars()).map(seen).collect()
}

impl Script {
    fn begin(&mut self, append: Append) -> OpId {
        self.0.start(0, Call::Append(append))
    }

    fn begin_read(&mut self, from: u64) -> OpId {
        self.0.start(1, Call::Read { from })
    }

    fn begin_tail(&mut self) -> OpId {
        self.0.start(2, Call::CheckTail)
    }

    fn ack(&mut self, op: OpId, start: u64) {
        let Call::Append(append) = self.0.op(op).call() else { panic!("only appends are acknowledged") };
        let end = start + append.len();
        self.0.finish(op, Outcome::Appended(Ack { start, end, tail: None }));
    }

    fn refuse(&mut self, op: OpId, refusal: Refusal) {
        self.0.finish(op, Outcome::Refused(refusal));
    }

    fn mismatch(&mut self, op: OpId, actual: u64) {
        self.refuse(op, Refusal::SeqNumMismatch { actual });
    }

    fn fenced(&mut self, op: OpId, actual: &str) {
        self.refuse(op, Refusal::FencingTokenMismatch { actual: actual.to_owned() });
    }

    fn appended(&mut self, bodies: &str, start: u64) {
        let op = self.begin(batch(bodies));
        self.ack(op, start);
    }

    fn lost(&mut self, append: Append) {
        let op = self.begin(append);
        self.0.finish(op, Outcome::Unknown);
    }

    fn answer(&mut self, op: OpId, records: Vec<Seen>, tail: Option<u64>) {
        self.0.finish(op, Outcome::Read(ReadAnswer { records, tail }));
    }

    fn read(&mut self, from: u64, bodies: &str) {
        let op = self.begin_read(from);
        self.answer(op, records(from, bodies), Some(from + bodies.len() as u64));
    }

    fn tail(&mut self, tail: u64) {
        let op = self.begin_tail();
        self.0.finish(op, Outcome::Tail(tail));
    }
}

fn sets(token: &str, name: char) -> Append {
    Append { sets_fencing_token: Some(token.to_owned()), ..batch(&name.to_string()) }
}

fn with_token(token: &str, bodies: &str) -> Append {
    Append { fencing_token: Some(token.to_owned()), ..batch(bodies) }
}

fn at(seq_num: u64, bodies: &str) -> Append {
    Append { match_seq_num: Some(seq_num), ..batch(bodies) }
}

fn verdict(write: impl FnOnce(&mut Script)) -> Result<Summary, Box<Violation>> {
    let mut script = Script::default();
    write(&mut script);
    check(&script.0)
}

fn good(write: impl FnOnce(&mut Script)) -> Summary {
    match verdict(write) {
        Ok(summary) => summary,
        Err(violation) => panic!("a good history was called bad: {violation}"),
    }
}

/// Expects the rule, and exactly so many operations in the counter-example.
fn bad(rule: Rule, operations: usize, write: impl FnOnce(&mut Script)) {
    match verdict(write) {
        Ok(summary) => panic!("a history that breaks {} was called good: {summary:?}", rule.name()),
        Err(violation) => {
            assert_eq!(violation.rule, rule, "{violation}");
            assert_eq!(violation.operations.len(), operations, "{violation}");
        }
    }
}

#[test]
fn an_empty_history_is_good() {
    assert_eq!(good(|_| ()), Summary::default());
    good(|h| {
        h.tail(0);
        h.read(0, "");
    });
}

#[test]
fn appends_reads_and_tails_one_after_another_are_good() {
    let summary = good(|h| {
        h.appended("ab", 0);
        h.tail(2);
        h.appended("c", 2);
        h.read(0, "abc");
        h.read(1, "bc");
        h.read(3, "");
    });
    assert_eq!((summary.operations, summary.records, summary.records_read), (6, 3, 5));
}

#[test]
fn an_ack_covers_what_was_sent() {
    bad(Rule::AckFits, 1, |h| {
        let op = h.begin(batch("ab"));
        h.0.finish(op, Outcome::Appended(Ack { start: 0, end: 1, tail: None }));
    });
    bad(Rule::AckFits, 1, |h| {
        let op = h.begin(batch("ab"));
        h.0.finish(op, Outcome::Appended(Ack { start: 0, end: 2, tail: Some(1) }));
    });
}

#[test]
fn a_sequence_number_is_acknowledged_once() {
    bad(Rule::Disjoint, 2, |h| {
        h.appended("ab", 0);
        h.appended("c", 1);
    });
}

#[test]
fn everybody_reads_the_same() {
    bad(Rule::SameContent, 2, |h| {
        h.appended("a", 0);
        let op = h.begin_read(0);
        h.answer(op, vec![Seen { seq_num: 0, timestamp: 1, body: body('a') }], None);
        h.read(0, "a");
    });
    // b has no answer: one reader saw it where another was acknowledged.
    bad(Rule::SameContent, 3, |h| {
        h.lost(batch("b"));
        h.appended("a", 0);
        h.read(0, "b");
    });
}

#[test]
fn an_acknowledged_record_is_not_another_one_later() {
    bad(Rule::NoPhantom, 1, |h| {
        h.appended("a", 0);
        h.read(0, "x");
    });
    bad(Rule::NoPhantom, 1, |h| h.read(7, "x"));
    bad(Rule::NoPhantom, 2, |h| {
        h.read(0, "a");
        h.lost(batch("a"));
    });
}

#[test]
fn a_record_appears_once() {
    bad(Rule::NotDoubled, 2, |h| {
        h.lost(batch("xx"));
        h.appended("a", 0);
        h.read(0, "aa");
    });
    // Appended twice and acknowledged once: the doubled record explains more than the stream that is too long.
    bad(Rule::NotDoubled, 2, |h| {
        h.appended("a", 1);
        h.appended("b", 2);
        h.read(0, "aab");
    });
    bad(Rule::NotDoubled, 3, |h| {
        h.lost(batch("pq"));
        h.lost(batch("a"));
        h.read(0, "a");
        h.read(1, "a");
    });
}

#[test]
fn a_batch_is_whole_or_absent() {
    bad(Rule::Atomic, 2, |h| {
        let op = h.begin(batch("ab"));
        h.tail(1);
        h.ack(op, 0);
    });
    bad(Rule::Atomic, 2, |h| {
        h.lost(batch("ab"));
        h.read(0, "b");
    });
    bad(Rule::Atomic, 2, |h| {
        h.lost(batch("ab"));
        h.read(0, "a");
    });
    good(|h| {
        h.lost(batch("ab"));
        h.read(0, "");
        h.read(0, "ab");
    });
}

#[test]
fn a_refused_append_leaves_nothing() {
    bad(Rule::RefusedIsAbsent, 2, |h| {
        let op = h.begin(batch("a"));
        h.refuse(op, Refusal::Other("429".to_owned()));
        h.lost(batch("b"));
        h.read(0, "a");
    });
}

#[test]
fn an_unknown_append_may_come_late_or_never() {
    let summary = good(|h| {
        h.lost(batch("a"));
        h.tail(0);
        h.appended("b", 0);
        h.tail(2);
        h.read(0, "ba");
        h.lost(batch("c"));
        h.tail(2);
    });
    assert_eq!((summary.unknown_found, summary.unknown_unseen), (1, 1));
}

#[test]
fn the_stream_keeps_the_order_of_time() {
    bad(Rule::RealTimeOrder, 2, |h| {
        h.lost(batch("x"));
        h.appended("a", 1);
        h.appended("b", 0);
    });
    good(|h| {
        let (a, b) = (h.begin(batch("a")), h.begin(batch("b")));
        h.ack(a, 1);
        h.ack(b, 0);
    });
}

#[test]
fn a_tail_is_not_below_what_was_known() {
    bad(Rule::TailNotBelow, 2, |h| {
        h.appended("a", 0);
        h.tail(0);
    });
    bad(Rule::TailNotBelow, 2, |h| {
        h.appended("a", 0);
        h.read(0, "");
    });
    bad(Rule::TailNotBelow, 1, |h| {
        h.appended("a", 0);
        let op = h.begin_read(0);
        h.answer(op, records(0, "a"), Some(0));
    });
    // Tails in the order of time, though the append itself has no answer.
    bad(Rule::TailNotBelow, 2, |h| {
        h.lost(batch("a"));
        h.tail(1);
        h.tail(0);
    });
    // One record of a batch was seen, so all of it is there.
    bad(Rule::TailNotBelow, 2, |h| {
        h.lost(batch("ab"));
        let op = h.begin_read(0);
        h.answer(op, records(0, "a"), None);
        h.tail(0);
    });
    good(|h| {
        let early = h.begin_tail();
        h.appended("a", 0);
        h.0.finish(early, Outcome::Tail(0));
    });
}

#[test]
fn a_tail_is_not_above_what_can_be_written() {
    bad(Rule::TailNotAbove, 1, |h| {
        h.appended("a", 0);
        h.tail(2);
    });
    bad(Rule::TailNotAbove, 2, |h| {
        h.appended("a", 0);
        h.tail(2);
        h.appended("b", 1);
    });
    bad(Rule::TailNotAbove, 1, |h| {
        h.appended("a", 0);
        h.tail(2);
        h.lost(batch("b"));
    });
    // Somebody knew of a record before a began, so a is not the first.
    bad(Rule::TailNotAbove, 2, |h| {
        h.lost(batch("x"));
        h.tail(1);
        h.appended("a", 0);
    });
    good(|h| {
        let b = h.begin(batch("b"));
        h.tail(1);
        h.ack(b, 0);
    });
    // A hole of one record, but the only batch for it has two, or demands to be elsewhere.
    bad(Rule::TailNotAbove, 1, |h| {
        h.lost(batch("bc"));
        h.appended("a", 0);
        h.tail(2);
    });
    bad(Rule::TailNotAbove, 1, |h| {
        h.lost(at(0, "b"));
        h.appended("a", 0);
        h.tail(2);
    });
    // A hole that nobody can have filled.
    bad(Rule::TailNotAbove, 1, |h| {
        h.appended("a", 1);
        h.lost(batch("b"));
    });
}

#[test]
fn a_read_skips_only_what_was_trimmed() {
    bad(Rule::ReadWithoutGaps, 1, |h| {
        h.appended("abc", 0);
        let op = h.begin_read(0);
        h.answer(op, records(1, "bc"), Some(3));
    });
    bad(Rule::ReadWithoutGaps, 1, |h| {
        h.appended("abc", 0);
        let op = h.begin_read(1);
        h.answer(op, records(0, "abc"), Some(3));
    });
    bad(Rule::ReadWithoutGaps, 1, |h| {
        h.appended("abc", 0);
        let op = h.begin_read(0);
        h.answer(op, vec![], Some(3));
    });
    let trimmed = |h: &mut Script, to| {
        h.appended("abc", 0);
        let op = h.begin(Append { trims_to: Some(to), ..batch("t") });
        h.ack(op, 3);
    };
    good(|h| {
        trimmed(h, 2);
        let op = h.begin_read(0);
        h.answer(op, records(2, "ct"), Some(4));
        h.read(0, "abct");
    });
    bad(Rule::ReadWithoutGaps, 1, |h| {
        trimmed(h, 2);
        let op = h.begin_read(0);
        h.answer(op, records(3, "t"), Some(4));
    });
    // A trim beyond its own record is cut back to it.
    good(|h| {
        trimmed(h, 100);
        h.appended("d", 4);
        let op = h.begin_read(0);
        h.answer(op, records(4, "d"), Some(5));
    });
    bad(Rule::ReadWithoutGaps, 1, |h| {
        trimmed(h, 100);
        h.appended("de", 4);
        let op = h.begin_read(0);
        h.answer(op, records(5, "e"), Some(6));
    });
}

#[test]
fn timestamps_do_not_decrease() {
    bad(Rule::TimestampsRise, 2, |h| {
        h.appended("ab", 0);
        let op = h.begin_read(0);
        h.answer(op, vec![Seen { seq_num: 0, timestamp: 5, body: body('a') }], None);
        let op = h.begin_read(1);
        h.answer(op, vec![Seen { seq_num: 1, timestamp: 4, body: body('b') }], None);
    });
}

#[test]
fn a_demanded_tail_is_the_batchs_place() {
    good(|h| {
        let op = h.begin(at(0, "a"));
        h.ack(op, 0);
    });
    bad(Rule::MatchSeqNumHolds, 1, |h| {
        h.appended("a", 0);
        let op = h.begin(at(0, "b"));
        h.ack(op, 1);
    });
    bad(Rule::MatchSeqNumHolds, 2, |h| {
        h.appended("a", 0);
        h.lost(at(0, "b"));
        h.read(0, "ab");
    });
}

#[test]
fn a_demanded_token_is_in_force() {
    let fence = |h: &mut Script, token, name, start| {
        let op = h.begin(sets(token, name));
        h.ack(op, start);
    };
    good(|h| {
        let op = h.begin(with_token("", "a"));
        h.ack(op, 0);
        fence(h, "one", 'f', 1);
        let op = h.begin(with_token("one", "b"));
        h.ack(op, 2);
        h.appended("c", 3);
    });
    bad(Rule::FencingHolds, 2, |h| {
        fence(h, "one", 'f', 0);
        fence(h, "two", 'g', 1);
        let op = h.begin(with_token("one", "b"));
        h.ack(op, 2);
    });
    bad(Rule::FencingHolds, 1, |h| {
        let op = h.begin(with_token("one", "a"));
        h.ack(op, 0);
    });
    bad(Rule::FencingHolds, 2, |h| {
        fence(h, "one", 'f', 0);
        h.lost(with_token("two", "a"));
        h.read(0, "fa");
    });
    // Whether the second command is in the hole nobody knows: both tokens may be in force.
    good(|h| {
        fence(h, "one", 'f', 0);
        h.lost(sets("two", 'g'));
        let op = h.begin(with_token("two", "b"));
        h.ack(op, 2);
    });
    // Here there is no hole for it.
    bad(Rule::FencingHolds, 2, |h| {
        fence(h, "one", 'f', 0);
        h.lost(sets("two", 'g'));
        let op = h.begin(with_token("two", "b"));
        h.ack(op, 1);
    });
}

#[test]
fn a_refused_tail_was_another_at_some_moment() {
    good(|h| {
        h.appended("a", 0);
        let op = h.begin(at(0, "b"));
        h.mismatch(op, 1);
    });
    good(|h| {
        let op = h.begin(at(0, "b"));
        h.appended("a", 0);
        h.mismatch(op, 1);
    });
    for (demanded, actual) in [(1, 1), (0, 0), (1, 0), (0, 2)] {
        let operations = if (demanded, actual) == (1, 0) { 2 } else { 1 };
        bad(Rule::RefusalIsTrue, operations, |h| {
            h.appended("a", 0);
            let op = h.begin(at(demanded, "bc"));
            h.mismatch(op, actual);
        });
    }
    bad(Rule::RefusalIsTrue, 1, |h| {
        h.appended("a", 0);
        let op = h.begin(batch("b"));
        h.mismatch(op, 1);
    });
    // What a refusal says holds for all who come later.
    bad(Rule::TailNotBelow, 2, |h| {
        h.lost(batch("a"));
        let op = h.begin(at(0, "b"));
        h.mismatch(op, 1);
        h.tail(0);
    });
}

#[test]
fn a_refused_token_was_another_at_some_moment() {
    let fenced_by = |h: &mut Script, token, name, start| {
        let op = h.begin(sets(token, name));
        h.ack(op, start);
    };
    good(|h| {
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "");
        let op = h.begin(with_token("one", "b"));
        fenced_by(h, "two", 'f', 0);
        fenced_by(h, "three", 'g', 1);
        h.fenced(op, "two");
    });
    // A token that was replaced before the append began.
    bad(Rule::RefusalIsTrue, 2, |h| {
        fenced_by(h, "two", 'f', 0);
        fenced_by(h, "three", 'g', 1);
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "two");
    });
    // A token that came only later.
    bad(Rule::RefusalIsTrue, 1, |h| {
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "two");
        fenced_by(h, "two", 'f', 0);
    });
    bad(Rule::RefusalIsTrue, 1, |h| {
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "one");
    });
    // What a refusal says holds for all who come later.
    bad(Rule::TailNotBelow, 2, |h| {
        let fence = h.begin(sets("two", 'f'));
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "two");
        h.tail(0);
        h.ack(fence, 0);
    });
    good(|h| {
        h.lost(sets("two", 'f'));
        let op = h.begin(with_token("one", "a"));
        h.fenced(op, "two");
    });
}

#[test]
fn commands_with_equal_bodies_name_nobody_but_are_no_phantoms() {
    good(|h| {
        h.lost(sets("", 'f'));
        h.lost(sets("", 'f'));
        h.read(0, "f");
        h.read(0, "ff");
    });
    bad(Rule::RefusedIsAbsent, 3, |h| {
        for _ in 0..2 {
            let op = h.begin(sets("", 'f'));
            h.refuse(op, Refusal::Other("429".to_owned()));
        }
        h.lost(batch("a"));
        h.read(0, "f");
    });
}

#[test]
fn a_violation_prints_as_a_report() {
    let violation = verdict(|h| {
        h.appended("ab", 0);
        h.tail(0);
    })
    .expect_err("bad");
    let expected = format!(
        "tail-not-below: a tail of 0 was told, though 2 was known before\n  \
         op 0 of client 0, [0, 1]: append of 2 ({} {}) -> acknowledged at 0..2\n  \
         op 1 of client 2, [2, 3]: check-tail -> tail 0",
        body('a'),
        body('b')
    );
    assert_eq!(violation.to_string(), expected);
}

#[test]
fn the_export_is_what_s2s_checker_reads() {
    let mut h = Script::default();
    let fence = h.begin(Append { match_seq_num: Some(0), ..sets("t", 'f') });
    h.ack(fence, 0);
    h.lost(with_token("t", "ab"));
    h.tail(1);
    h.read(0, "fab");
    h.read(1, "ab");
    let op = h.begin(at(0, "c"));
    h.mismatch(op, 3);
    let mut out = Vec::new();
    write_jsonl(&h.0, &mut out).expect("memory");
    let [f, a, b, c] = ['f', 'a', 'b', 'c'].map(|name| body(name).0);
    let hash = "fab".chars().fold(0, |hash, name| chain(hash, body(name)));
    let expected = format!(
        r#"{{"event":{{"Start":{{"Append":{{"num_records":1,"record_hashes":[{f}],"set_fencing_token":"t","fencing_token":null,"match_seq_num":0}}}}}},"client_id":0,"op_id":0}}
{{"event":{{"Finish":{{"AppendSuccess":{{"tail":1}}}}}},"client_id":0,"op_id":0}}
{{"event":{{"Start":{{"Append":{{"num_records":2,"record_hashes":[{a},{b}],"set_fencing_token":null,"fencing_token":"t","match_seq_num":null}}}}}},"client_id":0,"op_id":1}}
{{"event":{{"Start":"CheckTail"}},"client_id":1,"op_id":2}}
{{"event":{{"Finish":{{"CheckTailSuccess":{{"tail":1}}}}}},"client_id":1,"op_id":2}}
{{"event":{{"Start":"Read"}},"client_id":2,"op_id":3}}
{{"event":{{"Finish":{{"ReadSuccess":{{"tail":3,"stream_hash":{hash}}}}}}},"client_id":2,"op_id":3}}
{{"event":{{"Start":{{"Append":{{"num_records":1,"record_hashes":[{c}],"set_fencing_token":null,"fencing_token":null,"match_seq_num":0}}}}}},"client_id":3,"op_id":5}}
{{"event":{{"Finish":"AppendDefiniteFailure"}},"client_id":3,"op_id":5}}
{{"event":{{"Finish":"AppendIndefiniteFailure"}},"client_id":0,"op_id":1}}
"#
    );
    assert_eq!(String::from_utf8(out).expect("text"), expected);
}

#[test]
fn the_chain_is_that_of_s2() {
    // The vectors that S2 publishes with its checker.
    let mut hash = 0;
    let links = [("foo", 0x4d2b_003e_e417_c3a5), ("bar", 0x132e_5d5d_d793_6edd), ("baz", 0x732e_e99a_bc50_02ff)];
    for (text, expected) in links {
        hash = chain(hash, BodyHash::of(text.as_bytes()));
        assert_eq!(hash, expected, "{text}");
    }
}
