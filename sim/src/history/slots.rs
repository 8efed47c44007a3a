//! The stream as all clients together saw it: for each sequence number its record, and whose it is.

use super::bodies::Bodies;
use super::violation::{Rule, Violation};
use super::{Append, BodyHash, Call, Op, OpId, Outcome, ReadAnswer, Refusal, Seen, StreamHistory};

/// What is known of one sequence number.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    /// Known when somebody owns it or saw it.
    body: u64,
    /// Known when somebody saw it.
    timestamp: u64,
    /// The append whose record it is.
    owner: Option<OpId>,
    /// The first read that returned it.
    seen_by: Option<OpId>,
}

/// All that is known of the stream's contents and of the place of each append.
#[derive(Debug)]
pub(super) struct Slots<'a> {
    history: &'a StreamHistory,
    bodies: Bodies,
    /// One for each record that may exist: a stream cannot be longer than all that was sent.
    slots: Vec<Slot>,
    /// For each operation, the sequence number of its first record, once known.
    starts: Vec<Option<u64>>,
    /// The first time that something was beyond all slots. That proves a lie but hardly explains it: a doubled record, say,
    /// shows here only when the stream ends. So it is told when nothing else was found.
    beyond: Option<Box<Violation>>,
}

type Checked<T = ()> = Result<T, Box<Violation>>;

impl<'a> Slots<'a> {
    /// Puts the acknowledged appends where they were acknowledged, then those without an answer where they were seen.
    pub(super) fn of(history: &'a StreamHistory) -> Checked<Self> {
        let sent: usize = history.ops().iter().filter_map(Op::append_that_may_be).map(|a| a.bodies.len()).sum();
        let mut slots = Self {
            history,
            bodies: Bodies::of(history),
            slots: vec![Slot::default(); sent],
            starts: vec![None; history.ops().len()],
            beyond: None,
        };
        for op in history.ops() {
            if let (Call::Append(append), Some(ack)) = (op.call(), op.ack()) {
                if ack.end.checked_sub(ack.start) != Some(append.len()) || ack.tail.is_some_and(|tail| tail < ack.end) {
                    let sentence = format!("the ack does not fit a batch of {}", append.len());
                    return Err(Violation::new(Rule::AckFits, sentence, [op]));
                }
                slots.place(op, append, ack.start, op)?;
            }
        }
        for op in history.ops() {
            if let Some(Outcome::Read(answer)) = op.outcome() {
                for record in &answer.records {
                    slots.see(op, *record)?;
                }
            }
        }
        slots.timestamps_rise()?;
        match slots.beyond.take() {
            Some(violation) => Err(violation),
            None => Ok(slots),
        }
    }

    /// Number of records that may exist at most.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whose record has this number, as far as known.
    pub(super) fn owner(&self, seq_num: u64) -> Option<OpId> {
        self.slots.get(usize::try_from(seq_num).ok()?)?.owner
    }

    /// Where an append begins, as far as known.
    pub(super) fn start(&self, op: OpId) -> Option<u64> {
        self.starts[op.index()]
    }

    /// Whether an append of unknown place can be in the stream at all: one that demands a tail can be in one place only.
    pub(super) fn has_room(&self, append: &Append) -> bool {
        let Some(start) = append.match_seq_num else { return true };
        let Some(end) = start.checked_add(append.len()).filter(|end| *end <= self.slots.len() as u64) else {
            return false;
        };
        self.slots[index(start)..index(end)]
            .iter()
            .zip(&append.bodies)
            .all(|(slot, body)| slot.owner.is_none() && (slot.seen_by.is_none() || slot.body == body.0))
    }

    /// The append that spans `boundary`, with records on both sides of it.
    pub(super) fn spans(&self, boundary: u64) -> Option<OpId> {
        let before = self.owner(boundary.checked_sub(1)?)?;
        (self.owner(boundary) == Some(before)).then_some(before)
    }

    /// Puts `op` at `start`, as `witness` says.
    fn place(&mut self, op: &Op, append: &Append, start: u64, witness: &Op) -> Checked {
        if start.checked_add(append.len()).is_none_or(|end| end > self.slots.len() as u64) {
            let sentence = format!(
                "a batch of {} begins at {start}, but all appends together sent {} records",
                append.len(),
                self.slots.len()
            );
            self.beyond.get_or_insert_with(|| Violation::new(Rule::TailNotAbove, sentence, [op, witness]));
            return Ok(());
        }
        if append.match_seq_num.is_some_and(|demanded| demanded != start) {
            let sentence = format!("an append that demanded another tail begins at {start}");
            return Err(Violation::new(Rule::MatchSeqNumHolds, sentence, [op, witness]));
        }
        self.starts[op.id.index()] = Some(start);
        for (body, seq_num) in append.bodies.iter().zip(start..) {
            let slot = &mut self.slots[index(seq_num)];
            if let Some(other) = slot.owner {
                let rule = if op.id == witness.id { Rule::Disjoint } else { Rule::SameContent };
                let sentence = format!("sequence number {seq_num} belongs to two appends");
                return Err(Violation::new(rule, sentence, [self.history.op(other), op, witness]));
            }
            if let Some(reader) = slot.seen_by
                && slot.body != body.0
            {
                let seen = BodyHash(slot.body);
                let sentence = format!("sequence number {seq_num} is in a batch as {body}, and was read as {seen}");
                return Err(Violation::new(Rule::Atomic, sentence, [self.history.op(reader), op, witness]));
            }
            slot.body = body.0;
            slot.owner = Some(op.id);
        }
        Ok(())
    }

    fn see(&mut self, reader: &Op, record: Seen) -> Checked {
        let Seen { seq_num, timestamp, body } = record;
        if seq_num >= self.slots.len() as u64 {
            let sentence = format!("record {seq_num} is beyond all that was ever sent: {} records", self.slots.len());
            self.beyond.get_or_insert_with(|| Violation::new(Rule::NoPhantom, sentence, [reader]));
            return Ok(());
        }
        let slot = self.slots[index(seq_num)];
        if slot.owner.is_none() || slot.body != body.0 {
            self.find_owner(reader, record)?;
        }
        let slot = &mut self.slots[index(seq_num)];
        match (slot.seen_by, slot.owner) {
            (Some(other), _) if (slot.body, slot.timestamp) != (body.0, timestamp) => {
                let before = format!("{} with timestamp {}", BodyHash(slot.body), slot.timestamp);
                let sentence =
                    format!("record {seq_num} was read as {before}, and as {body} with timestamp {timestamp}");
                Err(Violation::new(Rule::SameContent, sentence, [self.history.op(other), reader]))
            }
            (None, Some(owner)) if slot.body != body.0 => {
                let sentence = format!("record {seq_num} was appended as {}, and read as {body}", BodyHash(slot.body));
                Err(Violation::new(Rule::SameContent, sentence, [self.history.op(owner), reader]))
            }
            (Some(_), _) => Ok(()),
            (None, _) => {
                *slot = Slot { body: body.0, timestamp, owner: slot.owner, seen_by: Some(reader.id) };
                Ok(())
            }
        }
    }

    /// Looks for who sent a record, and puts that append where the record was seen. A body that several sent names none
    /// of them; but it must not be that all of them were refused.
    fn find_owner(&mut self, reader: &Op, record: Seen) -> Checked {
        let Seen { seq_num, body, .. } = record;
        let finished = reader.finished.as_ref().map_or(u64::MAX, |(at, _)| *at);
        let history = self.history;
        match self.bodies.senders(body) {
            [] => {
                let sentence = format!("record {seq_num} was read as {body}, which nobody sent");
                Err(Violation::new(Rule::NoPhantom, sentence, [reader]))
            }
            &[sent] => {
                let sender = history.op(sent.op);
                let Some(append) = sender.append_that_may_be() else {
                    let sentence = format!("record {seq_num} was read as {body}, which was refused");
                    return Err(Violation::new(Rule::RefusedIsAbsent, sentence, [sender, reader]));
                };
                if sender.started > finished {
                    let sentence = format!("record {seq_num} was read as {body}, which was sent only later");
                    return Err(Violation::new(Rule::NoPhantom, sentence, [sender, reader]));
                }
                let start = seq_num.checked_sub(u64::from(sent.place));
                match (self.starts[sent.op.index()], start) {
                    (_, None) => {
                        let sentence = format!("record {} of a batch was read as {seq_num}", sent.place);
                        Err(Violation::new(Rule::Atomic, sentence, [sender, reader]))
                    }
                    (None, Some(start)) => self.place(sender, append, start, reader),
                    (Some(known), Some(start)) if known == start => Ok(()),
                    (Some(known), Some(_)) => Err(self.second_place(sender, known, sent.place, reader, seq_num)),
                }
            }
            several => {
                let senders = several.iter().map(|sent| history.op(sent.op));
                if senders.clone().any(|op| op.append_that_may_be().is_some() && op.started < finished) {
                    return Ok(());
                }
                let sentence = format!("record {seq_num} was read as {body}, which was refused or sent only later");
                Err(Violation::new(Rule::RefusedIsAbsent, sentence, senders.chain([reader])))
            }
        }
    }

    /// A record was read at `seq_num` though its batch begins at `known`.
    fn second_place(&self, sender: &Op, known: u64, place: u32, reader: &Op, seq_num: u64) -> Box<Violation> {
        let first = known + u64::from(place);
        let other = self.slots[index(first)].seen_by.unwrap_or(sender.id);
        let sentence = format!("one record is number {first} and number {seq_num}");
        Violation::new(Rule::NotDoubled, sentence, [sender, self.history.op(other), reader])
    }

    fn timestamps_rise(&self) -> Checked {
        let seen = self.slots.iter().zip(0_u64..).filter_map(|(slot, seq_num)| {
            let reader = slot.seen_by?;
            Some((seq_num, slot.timestamp, reader))
        });
        let mut before: Option<(u64, u64, OpId)> = None;
        for (seq_num, timestamp, reader) in seen {
            if let Some((earlier, higher, other)) = before
                && higher > timestamp
            {
                let sentence = format!("record {earlier} has timestamp {higher}, and record {seq_num} has {timestamp}");
                let readers = [self.history.op(other), self.history.op(reader)];
                return Err(Violation::new(Rule::TimestampsRise, sentence, readers));
            }
            before = Some((seq_num, timestamp, reader));
        }
        Ok(())
    }
}

/// What an operation says about the tail: the stream was exactly this long at one moment of it, or at least so long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    Exactly(u64),
    AtLeast(u64),
}

/// What an operation says about the stream's length.
pub(super) fn lengths(outcome: &Outcome) -> impl Iterator<Item = Length> {
    let (first, second) = match outcome {
        Outcome::Appended(ack) => (Some(Length::Exactly(ack.end)), ack.tail.map(Length::Exactly)),
        Outcome::Refused(Refusal::SeqNumMismatch { actual }) => (Some(Length::Exactly(*actual)), None),
        Outcome::Read(ReadAnswer { records, tail }) => {
            let end = records.last().map(|record| Length::AtLeast(record.seq_num + 1));
            (end, tail.map(Length::Exactly))
        }
        Outcome::Tail(tail) => (Some(Length::Exactly(*tail)), None),
        Outcome::Refused(Refusal::FencingTokenMismatch { .. } | Refusal::Other(_))
        | Outcome::Unknown
        | Outcome::Failed => (None, None),
    };
    first.into_iter().chain(second)
}

fn index(seq_num: u64) -> usize {
    usize::try_from(seq_num).expect("checked against the number of slots")
}
