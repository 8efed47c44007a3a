//! Could a linearizable stream have answered so? In n log n for n operations and records that were read.
//!
//! Acks and reads tell where appends are. So, other than for a register or a queue, the order of appends is given and
//! nothing has to be searched for: each operation that knows the stream's length belongs between two appends of that order,
//! and a history is good when no operation that ended before another began belongs behind it. That is one sweep over time.
//!
//! It accepts every history of a linearizable stream. It can miss a violation where a history leaves room for doubt:
//! - Appends without an answer whose records nobody read. They may be anywhere that has room. That their sizes add up to all
//!   holes together is checked, for up to 127 records; which of them was in which hole is not searched for, nor whether the
//!   token that one demanded was in force there.
//! - Tokens set by such appends: every operation to which one of them matters is accepted.
//! - A read that ends before the tail without telling one, as a limit makes it do: it proves no absence.
//! - A trim that has no effect, or trimmed records that come back: S2 promises no time for either.
//!
//! A final read of everything, after the last append, closes the first two.

use std::ops::AddAssign;

use super::fences::Fences;
use super::slots::Slots;
use super::sweep::Sweep;
use super::violation::{Rule, Violation};
use super::{Op, Outcome, StreamHistory};

/// What a sound history held.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Operations.
    pub operations: u64,
    /// Length of the stream as far as anybody knows.
    pub records: u64,
    /// Records that reads returned, each as often as it was returned.
    pub records_read: u64,
    /// Appends without an answer that turned out to be in the stream.
    pub unknown_found: u64,
    /// Appends without an answer that nobody saw.
    pub unknown_unseen: u64,
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.records += other.records;
        self.records_read += other.records_read;
        self.unknown_found += other.unknown_found;
        self.unknown_unseen += other.unknown_unseen;
    }
}

/// Checks one incarnation of a stream.
///
/// # Errors
/// The first contradiction that was found.
pub fn check(history: &StreamHistory) -> Result<Summary, Box<Violation>> {
    let slots = Slots::of(history)?;
    let fences = Fences::of(history, &slots);
    let sweep = Sweep::new(history, &slots, &fences);
    tokens_were_in_force(history, &slots, &fences, &sweep)?;
    let records = sweep.run()?;
    let mut summary = Summary { operations: history.ops().len() as u64, records, ..Summary::default() };
    for op in history.ops() {
        if let Some(Outcome::Read(answer)) = op.outcome() {
            summary.records_read += answer.records.len() as u64;
        }
        if op.append_that_may_be().is_some() && op.ack().is_none() {
            match slots.start(op.id) {
                Some(_) => summary.unknown_found += 1,
                None => summary.unknown_unseen += 1,
            }
        }
    }
    Ok(summary)
}

/// Every append in the stream that demanded a token follows a command that set it.
fn tokens_were_in_force(
    history: &StreamHistory,
    slots: &Slots<'_>,
    fences: &Fences<'_>,
    sweep: &Sweep<'_>,
) -> Result<(), Box<Violation>> {
    for op in history.ops() {
        let Some(demanded) = op.append_that_may_be().and_then(|append| append.fencing_token.as_deref()) else {
            continue;
        };
        let Some(start) = slots.start(op.id) else { continue };
        let in_force = fences.at(start);
        let is_hidden = sweep.unknown(in_force.since, start) > 0 && fences.may_be_set(demanded, u64::MAX);
        if in_force.token != demanded && !is_hidden {
            let sentence = format!("an append that demanded another token than {:?} begins at {start}", in_force.token);
            let fence = in_force.set_by.map(|fence| history.op(fence));
            return Err(Violation::new(Rule::FencingHolds, sentence, fence.into_iter().chain([op])));
        }
    }
    Ok(())
}

impl Op {
    /// The last time at which the operation is known to have been under way; for ever without an answer.
    pub(super) fn ended(&self) -> u64 {
        self.finished.as_ref().map_or(u64::MAX, |(at, _)| *at)
    }
}
