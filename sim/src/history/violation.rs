//! What the checker says when a history cannot be that of a linearizable stream: rule, sentence and the operations that
//! contradict each other.

use std::fmt;

use super::{Append, Call, Op, Outcome, ReadAnswer, Refusal};

/// What a stream promises its clients, rule by rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// An ack covers exactly the records that were sent, and its tail is not below them.
    AckFits,
    /// A sequence number belongs to one append.
    Disjoint,
    /// A sequence number has the same record for everybody and for ever.
    SameContent,
    /// A record was sent by somebody.
    NoPhantom,
    /// A record appears once.
    NotDoubled,
    /// A batch is there whole or not at all.
    Atomic,
    /// An append that was definitely refused leaves no record.
    RefusedIsAbsent,
    /// What started after an ack comes after it in the stream.
    RealTimeOrder,
    /// A tail is not below what was known when it was asked for.
    TailNotBelow,
    /// A tail is not above what can have been written when it was told.
    TailNotAbove,
    /// A read returns every record from its start on, in order, but for those that were trimmed.
    ReadWithoutGaps,
    /// Timestamps do not decrease along the stream.
    TimestampsRise,
    /// A record with `match_seq_num` is where it demanded to be.
    MatchSeqNumHolds,
    /// A record with a fencing token was appended while that token was in force.
    FencingHolds,
    /// A refused condition was really not met, at some moment of the operation.
    RefusalIsTrue,
}

impl Rule {
    /// The rule's name, as reports show it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckFits => "ack-fits",
            Self::Disjoint => "disjoint",
            Self::SameContent => "same-content",
            Self::NoPhantom => "no-phantom",
            Self::NotDoubled => "not-doubled",
            Self::Atomic => "atomic",
            Self::RefusedIsAbsent => "refused-is-absent",
            Self::RealTimeOrder => "real-time-order",
            Self::TailNotBelow => "tail-not-below",
            Self::TailNotAbove => "tail-not-above",
            Self::ReadWithoutGaps => "read-without-gaps",
            Self::TimestampsRise => "timestamps-rise",
            Self::MatchSeqNumHolds => "match-seq-num-holds",
            Self::FencingHolds => "fencing-holds",
            Self::RefusalIsTrue => "refusal-is-true",
        }
    }
}

/// A promise that was broken. Its `Display` is a report for people: rule, sentence, and one line per operation.
#[derive(Debug, Clone)]
pub struct Violation {
    /// The promise.
    pub rule: Rule,
    /// What happened, in words.
    pub sentence: String,
    /// The operations that contradict each other, and no others, by the time of their start.
    pub operations: Vec<String>,
}

impl Violation {
    pub(super) fn new<'a>(rule: Rule, sentence: String, ops: impl IntoIterator<Item = &'a Op>) -> Box<Self> {
        let mut ops: Vec<&Op> = ops.into_iter().collect();
        ops.sort_by_key(|op| op.id);
        ops.dedup_by_key(|op| op.id);
        Box::new(Self { rule, sentence, operations: ops.into_iter().map(Op::to_string).collect() })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.name(), self.sentence)?;
        for operation in &self.operations {
            write!(f, "\n  {operation}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, client, started) = (self.id.0, self.client, self.started);
        match &self.finished {
            Some((at, outcome)) => {
                write!(f, "op {number} of client {client}, [{started}, {at}]: {} -> {outcome}", self.call)
            }
            None => write!(f, "op {number} of client {client}, [{started}, never]: {}", self.call),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(append) => append.fmt(f),
            Self::Read { from } => write!(f, "read from {from}"),
            Self::CheckTail => f.write_str("check-tail"),
        }
    }
}

impl fmt::Display for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "append of {}", self.bodies.len())?;
        for (place, body) in self.bodies.iter().take(BODIES_SHOWN_MAX).enumerate() {
            write!(f, "{}{body}", if place == 0 { " (" } else { " " })?;
        }
        f.write_str(if self.bodies.len() > BODIES_SHOWN_MAX { " ...)" } else { ")" })?;
        if let Some(seq_num) = self.match_seq_num {
            write!(f, ", demands tail {seq_num}")?;
        }
        if let Some(token) = &self.fencing_token {
            write!(f, ", demands token {token:?}")?;
        }
        if let Some(token) = &self.sets_fencing_token {
            write!(f, ", sets token {token:?}")?;
        }
        if let Some(seq_num) = self.trims_to {
            write!(f, ", trims to {seq_num}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Appended(ack) => {
                write!(f, "acknowledged at {}..{}", ack.start, ack.end)?;
                ack.tail.map_or(Ok(()), |tail| write!(f, ", tail {tail}"))
            }
            Self::Refused(Refusal::SeqNumMismatch { actual }) => write!(f, "refused: the tail is {actual}"),
            Self::Refused(Refusal::FencingTokenMismatch { actual }) => write!(f, "refused: the token is {actual:?}"),
            Self::Refused(Refusal::Other(why)) => write!(f, "refused: {why}"),
            Self::Unknown => f.write_str("nobody knows"),
            Self::Read(answer) => answer.fmt(f),
            Self::Tail(tail) => write!(f, "tail {tail}"),
            Self::Failed => f.write_str("failed"),
        }
    }
}

impl fmt::Display for ReadAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.records.first(), self.records.last()) {
            (Some(first), Some(last)) => {
                let (from, to) = (first.seq_num, last.seq_num);
                write!(f, "{} records, {from} {} to {to} {}", self.records.len(), first.body, last.body)?;
            }
            (None, _) | (_, None) => f.write_str("no records")?,
        }
        self.tail.map_or(Ok(()), |tail| write!(f, ", tail {tail}"))
    }
}

const BODIES_SHOWN_MAX: usize = 3;
