//! The black-box history of streams: what their clients asked and were told, in the order one observer saw it; and
//! [`check`], which says whether a linearizable stream could have answered so.
//!
//! Nothing in here waits, reads a clock or draws a random number. Drivers record, live or simulated; whoever wants a
//! second opinion exports with [`write_jsonl`].

mod bodies;
mod check;
mod fences;
mod jsonl;
mod slots;
mod sweep;
mod violation;

use std::collections::BTreeMap;
use std::fmt;

pub use check::{Summary, check};
pub use jsonl::{chain, write_jsonl};
pub use violation::{Rule, Violation};

/// Histories of streams by the name of their incarnation: a stream that is deleted and made again begins a new one.
#[derive(Debug, Clone, Default)]
pub struct History {
    streams: BTreeMap<String, StreamHistory>,
}

impl History {
    /// The history of one incarnation; empty when nothing was recorded yet.
    pub fn stream(&mut self, incarnation: &str) -> &mut StreamHistory {
        if !self.streams.contains_key(incarnation) {
            self.streams.insert(incarnation.to_owned(), StreamHistory::default());
        }
        self.streams.get_mut(incarnation).expect("made above")
    }

    /// All incarnations by name.
    pub fn streams(&self) -> impl Iterator<Item = (&str, &StreamHistory)> {
        self.streams.iter().map(|(name, stream)| (name.as_str(), stream))
    }

    /// Checks each incarnation by itself: linearizability of the whole is that of its parts.
    ///
    /// # Errors
    /// The first violation of the first incarnation that has one, with the incarnation's name.
    pub fn check(&self) -> Result<Summary, (String, Box<Violation>)> {
        let mut total = Summary::default();
        for (name, stream) in self.streams() {
            total += check(stream).map_err(|violation| (name.to_owned(), violation))?;
        }
        Ok(total)
    }
}

/// What clients did with one incarnation of a stream, from its first record on: it was empty, without a fencing token and
/// untrimmed when the history began, and nobody wrote to it who is not recorded here.
///
/// The recorder promises:
/// - An operation is one attempt. A request that is sent again is another operation.
/// - No two records in the history have the same body. Bodies of commands may repeat (a cleared token, a trim); then a
///   batch that needs to be recognized carries an ordinary record as well.
/// - `start` was called before the request left, `finish` after the answer came.
/// - Records go away by trim commands of recorded appends only, not by age.
#[derive(Debug, Clone, Default)]
pub struct StreamHistory {
    /// By the time of their start.
    ops: Vec<Op>,
    /// Number of starts and finishes so far: the time of the next one.
    now: u64,
}

impl StreamHistory {
    /// Records that `client` begins an operation.
    ///
    /// # Panics
    /// At an append without records, and beyond 2³² - 1 operations.
    pub fn start(&mut self, client: u64, call: Call) -> OpId {
        if let Call::Append(append) = &call {
            assert!(!append.bodies.is_empty(), "a batch has at least one record");
        }
        let id = OpId(u32::try_from(self.ops.len()).expect("fewer than 2^32 operations"));
        self.ops.push(Op { id, client, started: self.now, finished: None, call });
        self.now += 1;
        id
    }

    /// Records what came of an operation. One that is never finished may have had its effect, or have it at any later time.
    ///
    /// # Panics
    /// When the operation has finished already, or is of a kind that has no such outcome.
    pub fn finish(&mut self, op: OpId, outcome: Outcome) {
        let op = &mut self.ops[op.index()];
        assert!(op.finished.is_none(), "an operation finishes once");
        assert!(op.call.may_end_as(&outcome), "{:?} cannot end as {outcome:?}", op.call);
        op.finished = Some((self.now, outcome));
        self.now += 1;
    }

    /// All operations by the time of their start.
    #[must_use]
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// One of them.
    #[must_use]
    pub fn op_of(&self, id: OpId) -> &Op {
        self.op(id)
    }

    fn op(&self, id: OpId) -> &Op {
        &self.ops[id.index()]
    }
}

/// Number of an operation within its stream's history, in the order of starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OpId(u32);

impl OpId {
    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One attempt of one client. Times are positions in the stream's one list of starts and finishes.
#[derive(Debug, Clone)]
pub struct Op {
    id: OpId,
    client: u64,
    started: u64,
    finished: Option<(u64, Outcome)>,
    call: Call,
}

impl Op {
    /// What was asked.
    #[must_use]
    pub const fn call(&self) -> &Call {
        &self.call
    }

    /// What was answered; `None` while, or when for ever, nobody knows.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        self.finished.as_ref().map(|(_, outcome)| outcome)
    }

    /// The append, unless it certainly wrote nothing.
    fn append_that_may_be(&self) -> Option<&Append> {
        match (&self.call, self.outcome()) {
            (Call::Append(_), Some(Outcome::Refused(_))) | (Call::Read { .. } | Call::CheckTail, _) => None,
            (Call::Append(append), _) => Some(append),
        }
    }

    fn ack(&self) -> Option<Ack> {
        match self.outcome() {
            Some(Outcome::Appended(ack)) => Some(*ack),
            Some(Outcome::Refused(_) | Outcome::Unknown | Outcome::Read(_) | Outcome::Tail(_) | Outcome::Failed)
            | None => None,
        }
    }
}

/// What a client asks of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Call {
    /// Append a batch.
    Append(Append),
    /// Read from this sequence number on.
    Read {
        /// The first sequence number that is wanted.
        from: u64,
    },
    /// Ask for the tail.
    CheckTail,
}

impl Call {
    fn may_end_as(&self, outcome: &Outcome) -> bool {
        match outcome {
            Outcome::Appended(_) | Outcome::Refused(_) | Outcome::Unknown => matches!(self, Self::Append(_)),
            Outcome::Read(_) => matches!(self, Self::Read { .. }),
            Outcome::Tail(_) => matches!(self, Self::CheckTail),
            Outcome::Failed => matches!(self, Self::Read { .. } | Self::CheckTail),
        }
    }
}

/// A batch and its conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Append {
    /// One for each record, in order; commands included.
    pub bodies: Vec<BodyHash>,
    /// The tail that the append demands.
    pub match_seq_num: Option<u64>,
    /// The fencing token that the append demands. A stream starts with the empty one.
    pub fencing_token: Option<String>,
    /// The token that is in force once the batch is in: that of its last fence command.
    pub sets_fencing_token: Option<String>,
    /// The highest sequence number that a trim command in the batch asks to keep first.
    pub trims_to: Option<u64>,
}

impl Append {
    /// A batch without conditions and commands.
    #[must_use]
    pub fn of(bodies: impl IntoIterator<Item = BodyHash>) -> Self {
        Self { bodies: bodies.into_iter().collect(), ..Self::default() }
    }

    fn len(&self) -> u64 {
        self.bodies.len() as u64
    }
}

/// What an operation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The append was acknowledged.
    Appended(Ack),
    /// A definite failure: the append wrote nothing and never will.
    Refused(Refusal),
    /// An indefinite failure: the append may have written, or write at any later time, all of its batch or nothing.
    Unknown,
    /// The read got an answer.
    Read(ReadAnswer),
    /// The check-tail got this tail.
    Tail(u64),
    /// A read or check-tail got no answer, or an error. It says nothing about the stream.
    Failed,
}

/// Where an acknowledged batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ack {
    /// Sequence number of its first record.
    pub start: u64,
    /// Sequence number behind its last record.
    pub end: u64,
    /// The stream's tail when the ack was given, when told.
    pub tail: Option<u64>,
}

/// Why an append was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The tail was another than the append demanded.
    SeqNumMismatch {
        /// The tail, as told.
        actual: u64,
    },
    /// The fencing token was another than the append demanded.
    FencingTokenMismatch {
        /// The token in force, as told.
        actual: String,
    },
    /// Anything else; the text is for people.
    Other(String),
}

/// Records, and how far they go. A reader that makes several requests in a row may record them as one read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadAnswer {
    /// In the order they came.
    pub records: Vec<Seen>,
    /// The tail, when told; not the end of the records, which may be that of a limit.
    pub tail: Option<u64>,
}

/// A record as a reader saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Its sequence number.
    pub seq_num: u64,
    /// Its timestamp.
    pub timestamp: u64,
    /// Hash of its body.
    pub body: BodyHash,
}

/// XXH3-64 of a record's body: stands for the body everywhere in a history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BodyHash(pub u64);

impl BodyHash {
    /// Hash of `body`.
    #[must_use]
    pub fn of(body: &[u8]) -> Self {
        Self(xxhash_rust::xxh3::xxh3_64(body))
    }
}

impl fmt::Display for BodyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:016x}", self.0)
    }
}

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
