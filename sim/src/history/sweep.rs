//! The sweep over time: what was known when an operation began, what can have been written when it ended, and that what
//! it was told lies between.

use super::fences::Fences;
use super::slots::{Length, Slots, lengths};
use super::violation::{Rule, Violation};
use super::{Append, Call, Op, OpId, Outcome, ReadAnswer, Refusal, StreamHistory};

/// The state of the sweep: everything that is known at one time.
#[derive(Debug)]
pub(super) struct Sweep<'a> {
    history: &'a StreamHistory,
    slots: &'a Slots<'a>,
    fences: &'a Fences<'a>,
    /// For each length of the stream, what it takes for the stream to be so long.
    prefixes: Vec<Prefix>,
    /// The stream is at least so long.
    floor: Floor,
    /// For each operation, the floor when it began.
    lows: Vec<Floor>,
    /// Records of appends that were started and whose place is not known.
    unplaced_records: u64,
    /// Bit n: some of these appends together have exactly n records. Numbers above the last bit are possible for all we know.
    unplaced_sums: u128,
    /// No trim that was started asks for more.
    trim_point_max: u64,
}

/// What is known about the first records of a stream.
#[derive(Debug, Clone, Copy, Default)]
struct Prefix {
    /// How many of them have no known owner.
    unknown: u64,
    /// The owner that was started last.
    last_started: Option<OpId>,
}

/// A length that the stream has reached, and who was told.
#[derive(Debug, Clone, Copy, Default)]
struct Floor {
    length: u64,
    told: Option<OpId>,
}

type Checked = Result<(), Box<Violation>>;

impl<'a> Sweep<'a> {
    pub(super) fn new(history: &'a StreamHistory, slots: &'a Slots<'a>, fences: &'a Fences<'a>) -> Self {
        let mut prefixes = Vec::with_capacity(slots.len() + 1);
        let mut prefix = Prefix::default();
        prefixes.push(prefix);
        for seq_num in 0..slots.len() as u64 {
            match slots.owner(seq_num) {
                // Operations are numbered by their start.
                Some(owner) => prefix.last_started = prefix.last_started.max(Some(owner)),
                None => prefix.unknown += 1,
            }
            prefixes.push(prefix);
        }
        Self {
            history,
            slots,
            fences,
            prefixes,
            floor: Floor::default(),
            lows: vec![Floor::default(); history.ops().len()],
            unplaced_records: 0,
            unplaced_sums: 1,
            trim_point_max: 0,
        }
    }

    /// How many records from `start` to before `end` have no known owner. Both must be within the stream.
    pub(super) fn unknown(&self, start: u64, end: u64) -> u64 {
        let at = |length: u64| self.prefix(length).map_or(0, |prefix| prefix.unknown);
        at(end) - at(start)
    }

    fn prefix(&self, length: u64) -> Option<Prefix> {
        self.prefixes.get(usize::try_from(length).ok()?).copied()
    }

    /// Goes through all starts and finishes; returns the length of the stream as known at the end.
    pub(super) fn run(mut self) -> Result<u64, Box<Violation>> {
        let history = self.history;
        let mut times: Vec<Option<(OpId, bool)>> = vec![None; usize::try_from(history.now).expect("fits memory")];
        for op in history.ops() {
            times[usize::try_from(op.started).expect("below the above")] = Some((op.id, true));
            if let Some((at, _)) = &op.finished {
                times[usize::try_from(*at).expect("below the above")] = Some((op.id, false));
            }
        }
        for (id, is_start) in times.into_iter().flatten() {
            let op = history.op(id);
            match &op.finished {
                _ if is_start => self.start(op),
                Some((_, outcome)) => self.finish(op, outcome)?,
                None => unreachable!("only what finished has a time for it"),
            }
        }
        Ok(self.floor.length)
    }

    fn start(&mut self, op: &Op) {
        self.lows[op.id.index()] = self.floor;
        let Some(append) = op.append_that_may_be() else { return };
        let start = self.slots.start(op.id);
        if let Some(seq_num) = append.trims_to {
            // A trim keeps at least what comes behind its own record.
            let end = start.map_or(u64::MAX, |start| start + append.len());
            self.trim_point_max = self.trim_point_max.max(seq_num.min(end));
        }
        match start {
            None if self.slots.has_room(append) => {
                self.unplaced_records += append.len();
                let shift = u32::try_from(append.len()).unwrap_or(u32::MAX);
                self.unplaced_sums |= self.unplaced_sums.checked_shl(shift).unwrap_or(0);
            }
            None => {}
            // `can_be_so_long` refuses a length of the stream for which something was needed that had not been started.
            Some(start) => assert!(start >= self.floor.length, "a known length has room for nothing later below it"),
        }
    }

    fn finish(&mut self, op: &'a Op, outcome: &'a Outcome) -> Checked {
        match (&op.call, outcome) {
            (Call::Append(append), Outcome::Refused(refusal)) => self.refused(op, append, refusal)?,
            (Call::Read { from }, Outcome::Read(answer)) => self.answered(op, *from, answer)?,
            (Call::Append(_), Outcome::Appended(_) | Outcome::Unknown)
            | (Call::CheckTail, Outcome::Tail(_) | Outcome::Failed)
            | (Call::Read { .. }, Outcome::Failed) => {}
            (call, outcome) => unreachable!("{call} does not end as {outcome}"),
        }
        for length in lengths(outcome) {
            self.told(op, length)?;
        }
        Ok(())
    }

    /// Holds what `op` was told of the length against what was known before and what was possible after.
    fn told(&mut self, op: &'a Op, length: Length) -> Checked {
        let is_refusal = matches!(op.outcome(), Some(Outcome::Refused(_)));
        let rule = |rule| if is_refusal { Rule::RefusalIsTrue } else { rule };
        let low = self.lows[op.id.index()];
        let reached = match length {
            Length::AtLeast(length) => {
                self.can_be_so_long(op, length, rule(Rule::NoPhantom))?;
                // A batch of which one record is there is there as a whole.
                self.slots.spans(length).and_then(|id| self.end(id)).unwrap_or(length)
            }
            Length::Exactly(length) if length < low.length => {
                let sentence = format!("a tail of {length} was told, though {} was known before", low.length);
                return Err(self.against_floor(rule(Rule::TailNotBelow), sentence, low, op));
            }
            Length::Exactly(length) => {
                self.can_be_so_long(op, length, rule(Rule::TailNotAbove))?;
                if let Some(batch) = self.slots.spans(length) {
                    let sentence = format!("a tail of {length} is in the middle of a batch");
                    return Err(Violation::new(Rule::Atomic, sentence, [self.history.op(batch), op]));
                }
                self.holes_can_be_filled(op, length, rule(Rule::TailNotAbove))?;
                length
            }
        };
        if reached > self.floor.length {
            self.floor = Floor { length: reached, told: Some(op.id) };
        }
        Ok(())
    }

    /// Whether all that it takes for the stream to be so long had been started when `op` ended.
    fn can_be_so_long(&self, op: &Op, length: u64, rule: Rule) -> Checked {
        let Some(prefix) = self.prefix(length) else {
            let sent = self.slots.len();
            let sentence = format!("a tail of {length} or more was told, but all appends together sent {sent} records");
            return Err(Violation::new(rule, sentence, [op]));
        };
        if let Some(later) = prefix.last_started.map(|id| self.history.op(id))
            && later.started > op.ended()
        {
            let rule = if op.ack().is_some() { Rule::RealTimeOrder } else { rule };
            let sentence = format!("a tail of {length} or more was told before an append below it was sent");
            return Err(Violation::new(rule, sentence, [op, later]));
        }
        if prefix.unknown > self.unplaced_records {
            let sentence = format!(
                "a tail of {length} or more was told, but of the records below it {} have no append that can have sent them: \
                 {} records were under way",
                prefix.unknown, self.unplaced_records
            );
            return Err(Violation::new(rule, sentence, [op]));
        }
        Ok(())
    }

    /// Whether whole batches add up to the records below an exact length that have no known owner.
    fn holes_can_be_filled(&self, op: &Op, length: u64, rule: Rule) -> Checked {
        let unknown = self.prefix(length).map_or(0, |prefix| prefix.unknown);
        let is_sum =
            self.unplaced_sums.checked_shr(u32::try_from(unknown).unwrap_or(u32::MAX)).is_none_or(|sums| sums & 1 == 1);
        if is_sum {
            return Ok(());
        }
        let sentence = format!(
            "a tail of {length} was told, but of the records below it {unknown} have no append that can have sent them: the \
             batches that were under way do not add up to that"
        );
        Err(Violation::new(rule, sentence, [op]))
    }

    /// A read may skip only what can have been trimmed when it ended.
    fn answered(&self, op: &Op, from: u64, answer: &ReadAnswer) -> Checked {
        let mut next = from;
        for record in &answer.records {
            let seq_num = record.seq_num;
            if seq_num < next || (seq_num > next && seq_num > self.trim_point_max) {
                let sentence = format!("a read returned record {seq_num} where {next} was due");
                return Err(Violation::new(Rule::ReadWithoutGaps, sentence, [op]));
            }
            next = seq_num + 1;
        }
        match answer.tail {
            Some(tail) if !answer.records.is_empty() && tail < next => {
                let sentence = format!("a read returned record {} and a tail of {tail}", next - 1);
                Err(Violation::new(Rule::TailNotBelow, sentence, [op]))
            }
            Some(tail) if answer.records.is_empty() && from < tail && tail > self.trim_point_max => {
                let sentence = format!("a read from {from} returned nothing and a tail of {tail}");
                Err(Violation::new(Rule::ReadWithoutGaps, sentence, [op]))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&mut self, op: &'a Op, append: &Append, refusal: &Refusal) -> Checked {
        match refusal {
            Refusal::Other(_) => Ok(()),
            Refusal::SeqNumMismatch { actual } => match append.match_seq_num {
                Some(demanded) if demanded != *actual => Ok(()),
                Some(_) | None => {
                    let sentence = format!("refused because the tail is {actual}, which the append did not object to");
                    Err(Violation::new(Rule::RefusalIsTrue, sentence, [op]))
                }
            },
            Refusal::FencingTokenMismatch { actual } => match append.fencing_token.as_ref() {
                Some(demanded) if demanded != actual => self.token_was_in_force(op, actual),
                Some(_) | None => {
                    let sentence =
                        format!("refused because the token is {actual:?}, which the append did not object to");
                    Err(Violation::new(Rule::RefusalIsTrue, sentence, [op]))
                }
            },
        }
    }

    /// `op` was told that `token` is in force: so it was, at a length that the stream had during `op`.
    fn token_was_in_force(&mut self, op: &'a Op, token: &str) -> Checked {
        if self.fences.may_be_set(token, op.ended()) {
            return Ok(());
        }
        let low = self.lows[op.id.index()];
        let started = |id: OpId| self.history.op(id).started;
        let possible = self.prefixes.partition_point(|p| p.last_started.is_none_or(|id| started(id) < op.ended()));
        // The prefix of no records is always possible.
        let high = possible as u64 - 1;
        let Some(length) = self.fences.first_in_force(token, low.length, high) else {
            let known = self.fences.at(low.length).set_by.map(|fence| self.history.op(fence));
            let told = low.told.map(|told| self.history.op(told));
            let sentence = format!("refused because the token is {token:?}, which was in force at no moment of it");
            return Err(Violation::new(Rule::RefusalIsTrue, sentence, known.into_iter().chain(told).chain([op])));
        };
        // The refusal waits until the token's command is durable.
        if length > self.floor.length {
            self.floor = Floor { length, told: Some(op.id) };
        }
        Ok(())
    }

    fn end(&self, append: OpId) -> Option<u64> {
        let start = self.slots.start(append)?;
        Some(start + self.history.op(append).append_that_may_be()?.len())
    }

    fn against_floor(&self, rule: Rule, sentence: String, floor: Floor, op: &Op) -> Box<Violation> {
        let told = floor.told.map(|told| self.history.op(told));
        Violation::new(rule, sentence, told.into_iter().chain([op]))
    }
}
