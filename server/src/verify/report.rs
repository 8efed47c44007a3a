//! The report of a run, for people.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

use sim::history::{Append, Call, History, Op, Outcome, Refusal, Summary, Violation};

use super::crew::Notes;

/// Operations by kind and outcome, what was seen, and the verdict.
pub(super) fn report(
    history: &History,
    notes: &Notes,
    verdict: &Result<Summary, (String, Box<Violation>)>,
    ran: Duration,
) -> String {
    let mut out = String::new();
    write_report(&mut out, history, notes, verdict, ran).expect("memory");
    out
}

fn write_report(
    out: &mut String,
    history: &History,
    notes: &Notes,
    verdict: &Result<Summary, (String, Box<Violation>)>,
    ran: Duration,
) -> std::fmt::Result {
    let mut kinds: BTreeMap<Kind, [u64; OUTCOMES.len()]> = BTreeMap::new();
    for op in history.streams().flat_map(|(_, stream)| stream.ops()) {
        kinds.entry(Kind::of(op.call())).or_default()[column(op)] += 1;
    }
    write!(out, "{:<22}", "operation")?;
    for name in OUTCOMES {
        write!(out, "{name:>16}")?;
    }
    writeln!(out)?;
    for (kind, counts) in &kinds {
        write!(out, "{:<22}", kind.name())?;
        for count in counts {
            write!(out, "{count:>16}")?;
        }
        writeln!(out)?;
    }
    let operations: u64 = kinds.values().flatten().sum();
    writeln!(
        out,
        "{operations} operations in {:.1} s; longest time without an answer {:.2} s",
        ran.as_secs_f64(),
        notes.outage_max.as_secs_f64()
    )?;
    if let Some(why) = notes.ended_early {
        writeln!(out, "ended early: {why}")?;
    }
    for breach in &notes.breaches {
        writeln!(out, "BROKEN ANSWER: {breach}")?;
    }
    match verdict {
        Ok(summary) => {
            let (found, unseen) = (summary.unknown_found, summary.unknown_unseen);
            let streams = history.streams().count();
            writeln!(
                out,
                "{} records in {streams} streams, {} read; of {} appends without an answer {found} are there",
                summary.records,
                summary.records_read,
                found + unseen
            )?;
            let sound = if notes.breaches.is_empty() { "consistent" } else { "NOT CONSISTENT: broken answers" };
            writeln!(out, "verdict: {sound}")
        }
        Err((stream, violation)) => writeln!(out, "verdict: NOT CONSISTENT: stream {stream}\n{violation}"),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Append,
    AppendMatching,
    AppendFenced,
    Fence,
    Read,
    CheckTail,
}

impl Kind {
    fn of(call: &Call) -> Self {
        match call {
            Call::Append(Append { sets_fencing_token: Some(_), .. }) => Self::Fence,
            Call::Append(Append { fencing_token: Some(_), .. }) => Self::AppendFenced,
            Call::Append(Append { match_seq_num: Some(_), .. }) => Self::AppendMatching,
            Call::Append(_) => Self::Append,
            Call::Read { .. } => Self::Read,
            Call::CheckTail => Self::CheckTail,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Append => "append",
            Self::AppendMatching => "append, match_seq_num",
            Self::AppendFenced => "append, fencing token",
            Self::Fence => "fence command",
            Self::Read => "read",
            Self::CheckTail => "check-tail",
        }
    }
}

const OUTCOMES: [&str; 4] = ["ok", "condition", "refused", "nobody knows"];

/// Where an operation counts in [`OUTCOMES`]. A read without an answer counts with the refused: it did nothing.
fn column(op: &Op) -> usize {
    match op.outcome() {
        Some(Outcome::Appended(_) | Outcome::Read(_) | Outcome::Tail(_)) => 0,
        Some(Outcome::Refused(Refusal::SeqNumMismatch { .. } | Refusal::FencingTokenMismatch { .. })) => 1,
        Some(Outcome::Refused(Refusal::Other(_)) | Outcome::Failed) => 2,
        Some(Outcome::Unknown) | None => 3,
    }
}

#[cfg(test)]
mod tests {
    use sim::history::{Ack, BodyHash};

    use super::*;

    fn history() -> History {
        let mut history = History::default();
        let stream = history.stream("s");
        let op = stream.start(0, Call::Append(Append::of([BodyHash::of(b"a")])));
        stream.finish(op, Outcome::Appended(Ack { start: 0, end: 1, tail: None }));
        stream.start(1, Call::Append(Append::of([BodyHash::of(b"b")])));
        history
    }

    fn notes(breaches: &[&str]) -> Notes {
        let breaches = breaches.iter().map(|breach| (*breach).to_owned()).collect();
        Notes { outage_max: Duration::from_millis(1250), breaches, ended_early: None }
    }

    fn printed(history: &History, notes: &Notes) -> String {
        report(history, notes, &history.check(), Duration::from_secs(2))
    }

    #[test]
    fn a_report_counts_by_kind_and_outcome() {
        let text = printed(&history(), &notes(&[]));
        let row = text.lines().nth(1).expect("a row").split_whitespace().collect::<Vec<_>>();
        assert_eq!(row, ["append", "1", "0", "0", "1"]);
        assert!(text.contains("2 operations in 2.0 s; longest time without an answer 1.25 s"), "{text}");
        assert!(text.contains("1 records in 1 streams, 0 read; of 1 appends without an answer 0 are there"), "{text}");
        assert!(text.ends_with("verdict: consistent\n"), "{text}");
    }

    #[test]
    fn what_is_wrong_ends_the_report() {
        let text = printed(&history(), &notes(&["status 200 without an ack in it"]));
        assert!(text.ends_with("verdict: NOT CONSISTENT: broken answers\n"), "{text}");
        let mut lied = history();
        let op = lied.stream("s").start(2, Call::CheckTail);
        lied.stream("s").finish(op, Outcome::Tail(0));
        let text = printed(&lied, &notes(&[]));
        assert!(text.contains("verdict: NOT CONSISTENT: stream s\ntail-not-below: "), "{text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("  op ")).count(), 2, "{text}");
    }
}
