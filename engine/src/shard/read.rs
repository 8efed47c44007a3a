//! Reads: where to begin, from memory or from the device, cut to the limits, answered or left to wait (s2-wire.md 4.5-4.6).

use bytes::Bytes;
use model::{Failure, GroupId, Position, Rejected, StreamId, Unavailable};

use crate::event::{
    Effect, Effects, Follow, LogReadId, Now, Read, ReadLimits, ReadReply, ReadStart, Reply, ReplyTo, StreamSpec, Target,
};
use crate::log::{BLOCK_BYTES, Lsn};
use crate::mutation::Mutation;
use crate::read::collect::{Collector, Flow};
use crate::read::waiters::Waiter;
use crate::read::walk::{Step, Walk};
use crate::shard::Shard;
use crate::shard::append::{Place, Refusal, deleting, not_found};
use crate::stream::index::IndexEntry;
use crate::stream::state::{Life, Stream};

/// A read on its way through the log.
#[derive(Debug, Clone)]
pub(crate) struct PendingRead {
    to: ReplyTo,
    target: Target,
    /// The first number wanted.
    next: u64,
    /// The timestamp that the first record must reach.
    seek: Option<u64>,
    limits: ReadLimits,
    may_follow: bool,
    /// The piece of the log that was asked for, and from where in it to look.
    piece: (Lsn, Lsn),
    /// Bytes that the piece must have so that it holds a frame.
    at_least: usize,
    /// Nobody waits for the answer any more.
    is_cancelled: bool,
}

/// A piece of the log to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    base: Lsn,
    from: Lsn,
    bytes: u32,
}

impl Shard {
    pub(crate) fn check_tail(
        &mut self,
        now: Now,
        to: ReplyTo,
        target: &Target,
        create: Option<StreamSpec>,
        effects: &mut Effects,
    ) {
        match self.resolve_to_read(now, target, create) {
            Err(refusal) => self.fail(to, refusal, effects),
            Ok(place) => {
                let stream = self.stream(place);
                let reply = Reply::Tail(if Mutation::TailUncommitted.is_on() { stream.next } else { stream.tail });
                // A stream that is just being created is empty, but may only be seen once it is durable.
                let ticket = if stream.is_visible() { 0 } else { stream.touched };
                self.reply_after(ticket, to, reply, effects);
            }
        }
    }

    /// The stream to read, created if it is missing and may be.
    fn resolve_to_read(&mut self, now: Now, target: &Target, create: Option<StreamSpec>) -> Result<Place, Refusal> {
        match self.find(target)? {
            Some(place) => match self.stream(place).life {
                Life::Creating | Life::Active | Life::DeletingSoon => Ok(place),
                Life::DeletingUnseen => Err((deleting(target), self.stream(place).touched)),
                Life::Deleting => Err((deleting(target), 0)),
            },
            None => match create {
                Some(spec) => self.stage_create(now, target, spec, None, None),
                None => Err((not_found(target), 0)),
            },
        }
    }

    pub(crate) fn read(&mut self, now: Now, to: ReplyTo, read: Read, effects: &mut Effects) {
        let Read { target, create, start, clamp, may_follow, limits } = read;
        let (group, id) = match self.resolve_to_read(now, &target, create) {
            Ok(place) => place,
            Err(refusal) => return self.fail(to, refusal, effects),
        };
        let stream = self.stream((group, id));
        let tail = stream.tail;
        let ticket = if stream.is_visible() { 0 } else { stream.touched };
        if limits.count == Some(0) || limits.bytes == Some(0) {
            let nothing = ReadReply { done: true, ..nothing_of(stream) };
            return self.reply_after(ticket, to, Reply::Read(nothing), effects);
        }
        let (next, seek) = match begin(start, tail, clamp) {
            Ok(begin) => begin,
            Err(rejected) => return self.fail(to, (rejected.into(), ticket), effects),
        };
        if next >= tail.seq_num {
            return self.reply_after(ticket, to, at_tail(stream, may_follow), effects);
        }
        let target = Target { incarnation: Some(id), ..target };
        let piece = (Lsn(0), Lsn(0));
        let read = PendingRead { to, target, next, seek, limits, may_follow, piece, at_least: 0, is_cancelled: false };
        self.drive(read, None, effects);
    }

    pub(crate) fn follow(&mut self, to: ReplyTo, follow: Follow, effects: &mut Effects) {
        let Follow { target, from_seq_num, limits } = &follow;
        let place = match self.find(target) {
            Ok(Some(place)) => place,
            Ok(None) => return self.fail(to, (not_found(target), 0), effects),
            Err(refusal) => return self.fail(to, refusal, effects),
        };
        let stream = self.stream(place);
        if stream.life == Life::Deleting {
            return self.fail(to, (deleting(target), 0), effects);
        }
        if *from_seq_num < stream.tail.seq_num {
            let read = PendingRead {
                to,
                target: target.clone(),
                next: *from_seq_num,
                seek: None,
                limits: *limits,
                may_follow: true,
                piece: (Lsn(0), Lsn(0)),
                at_least: 0,
                is_cancelled: false,
            };
            return self.drive(read, None, effects);
        }
        if self.waiters.len() >= self.config.readers_max && !Mutation::ReadersUnbounded.is_on() {
            self.stats.rejected_full_total += 1;
            return effects.reply(to, Reply::Failed(Unavailable::Busy { retry_after_ms: BUSY_RETRY_MS }.into()));
        }
        self.waiters.add((target.group, place.1), Waiter { to, follow });
    }

    /// A follow is not to be answered any more: whether it waits, or was woken and its records are being fetched.
    pub(crate) fn cancel_follow(&mut self, to: ReplyTo) {
        if !Mutation::FollowNotCancelled.is_on() {
            self.waiters.cancel(to);
        }
        for read in self.reads.values_mut().filter(|read| read.to == to) {
            read.is_cancelled = true;
        }
    }

    /// Serves the readers that wait on a stream that got records.
    pub(crate) fn wake(&mut self, stream: (GroupId, StreamId), effects: &mut Effects) {
        let woken_max = if Mutation::FollowerNotWoken.is_on() { 1 } else { usize::MAX };
        for Waiter { to, follow } in self.waiters.take(stream).into_iter().take(woken_max) {
            self.follow(to, follow, effects);
        }
    }

    /// Tells the readers that wait on a stream that it is being deleted.
    pub(crate) fn close_readers(&mut self, stream: (GroupId, StreamId), effects: &mut Effects) {
        for Waiter { to, follow } in self.waiters.take(stream) {
            effects.reply(to, Reply::Failed(deleting(&follow.target)));
        }
    }

    /// A piece of the log has come.
    pub(crate) fn log_read(&mut self, id: LogReadId, result: Result<Bytes, String>, effects: &mut Effects) {
        let read = self.reads.remove(&id).expect("only reads that were asked for end");
        if read.is_cancelled && !Mutation::CancelledFetchAnswered.is_on() {
            return;
        }
        match result {
            Ok(bytes) => self.drive(read, Some(bytes), effects),
            Err(reason) => effects.reply(read.to, Reply::Failed(Failure::Corrupt(reason))),
        }
    }

    /// Takes a read as far as it goes: to its answer, or to the next piece of the log.
    fn drive(&mut self, mut read: PendingRead, mut bytes: Option<Bytes>, effects: &mut Effects) {
        loop {
            let found = self.find(&read.target);
            let place = match found {
                Ok(Some(place)) => place,
                Ok(None) => return self.fail(read.to, (not_found(&read.target), 0), effects),
                Err(refusal) => return self.fail(read.to, refusal, effects),
            };
            let stream = self.stream(place);
            if stream.life == Life::Deleting {
                return self.fail(read.to, (deleting(&read.target), 0), effects);
            }
            let collected = match bytes.take() {
                Some(bytes) => {
                    let whose = (read.target.group, place.1);
                    let mut walk = Walk::new(bytes, read.piece.0, read.piece.1, true, whose);
                    let mut collector = collector_of(&read, stream);
                    let ended = gather(&mut walk, &mut collector);
                    let from = read.piece.1;
                    self.conclude(&mut read, stream, collector, (from, ended))
                }
                None => self.look_up(&mut read, stream),
            };
            match collected {
                Progress::Answer(reply) => {
                    if let Reply::Read(reply) = &reply {
                        self.stats.read_metered_bytes_total +=
                            reply.batches.iter().map(|b| b.metered_bytes).sum::<u64>();
                    }
                    return effects.reply(read.to, reply);
                }
                Progress::Again => {}
                Progress::Fetch(piece) => return self.fetch(read, piece, effects),
            }
        }
    }

    fn fetch(&mut self, mut read: PendingRead, piece: Piece, effects: &mut Effects) {
        self.last_read += 1;
        let id = LogReadId(self.last_read);
        read.piece = (piece.base, piece.from);
        self.reads.insert(id, read);
        self.stats.log_reads_total += 1;
        let (segment, offset) = (self.geometry.segment(piece.base), self.geometry.offset(piece.base));
        effects.push(Effect::ReadLog { id, segment, offset, len: piece.bytes });
    }

    /// Reads what is in memory, or says which piece of the log is needed.
    fn look_up(&self, read: &mut PendingRead, stream: &Stream) -> Progress {
        read.next = if Mutation::TrimmedServed.is_on() { read.next } else { read.next.max(stream.trim_point) };
        let entries = stream.index.entries();
        let at = match read.seek {
            Some(timestamp) => {
                stream.index.entry_of_timestamp(timestamp).max(stream.index.entry_of(read.next).unwrap_or(0))
            }
            None => stream.index.entry_of(read.next).unwrap_or(0),
        };
        let Some(entry) = entries.get(at).filter(|_| read.next < stream.tail.seq_num) else {
            return Progress::Answer(at_tail(stream, read.may_follow));
        };
        // Numbers are dense: below the entry nothing is missing but what the timestamp rules out.
        read.next = read.next.max(entry.first_seq_num);
        let from = read.piece.1.max(entry.lsn);
        if from >= entry.end() {
            return self.damaged(read, stream, from);
        }
        if !self.cache.covers(from) {
            return Progress::Fetch(self.piece(&entries[at..], from, read));
        }
        let mut collector = collector_of(read, stream);
        let mut ended = Ended::Here(from);
        for (lsn, extent) in self.cache.from(from) {
            let begin = from.max(*lsn);
            let mut walk = Walk::new(extent.clone(), *lsn, begin, false, (read.target.group, stream.id));
            ended = gather(&mut walk, &mut collector);
            if !matches!(ended, Ended::Here(_)) {
                break;
            }
        }
        self.conclude(read, stream, collector, (from, ended))
    }

    /// The piece of the log that serves a read best: whole spans of entries, as far as they lie close together.
    fn piece(&self, entries: &[IndexEntry], from: Lsn, read: &PendingRead) -> Piece {
        let few = read.limits.batches == 1 && read.limits.count.is_some_and(|c| c <= FEW_RECORDS);
        let bytes_max =
            if few { FEW_BYTES } else { PIECE_BYTES.min(read.limits.batches.max(1) as u64 * BATCH_PIECE_BYTES) };
        let segment = self.geometry.segment(from);
        let mut end = entries[0].end().max(from.plus(1));
        for entry in &entries[1..] {
            let near = entry.lsn.0 <= end.0 + GAP_BYTES && entry.end().0 <= from.0 + bytes_max;
            if !near || self.geometry.segment(entry.lsn) != segment {
                break;
            }
            end = entry.end();
        }
        let end = Lsn(end.0.min(from.0 + bytes_max)).max(from.plus(read.at_least as u64));
        let base = Lsn(from.0 - from.0 % BLOCK_BYTES as u64);
        let bytes = (end.0 - base.0).next_multiple_of(BLOCK_BYTES as u64).min(self.geometry.end(segment).0 - base.0);
        Piece { base, from, bytes: u32::try_from(bytes).expect("a piece is a few MiB") }
    }

    /// Decides what the gathered records mean, which were looked for from a place on.
    fn conclude(
        &self,
        read: &mut PendingRead,
        stream: &Stream,
        collector: Collector,
        (from, ended): (Lsn, Ended),
    ) -> Progress {
        let collected = collector.finish();
        let has_answer = collected.done || !collected.batches.is_empty();
        let at_tail_now = collected.next_seq_num >= stream.tail.seq_num;
        if !has_answer && at_tail_now {
            return Progress::Answer(at_tail(stream, read.may_follow));
        }
        if has_answer {
            return Progress::Answer(Reply::Read(ReadReply {
                stream: stream.id,
                cipher: stream.cipher,
                batches: collected.batches,
                next_seq_num: collected.next_seq_num,
                tail: stream.tail,
                done: collected.done,
            }));
        }
        read.next = collected.next_seq_num;
        read.seek = read.seek.filter(|_| collected.seeking);
        read.at_least = 0;
        match ended {
            // A frame lies within a segment, and a longer piece holds it: the next look gets further.
            Ended::CutOff(lsn, bytes) if lsn.plus(bytes as u64) <= self.geometry.end(self.geometry.segment(lsn)) => {
                (read.piece.1, read.at_least) = (lsn, bytes);
            }
            Ended::CutOff(lsn, _) => return self.damaged(read, stream, lsn),
            Ended::Here(lsn) if lsn > from => read.piece.1 = lsn,
            // Neither a frame nor an extent begins where the index says that one does: another look would see the same.
            Ended::Here(lsn) => return self.damaged(read, stream, lsn),
            Ended::Damaged(lsn) => return self.damaged(read, stream, lsn),
            Ended::Full => unreachable!("a collector is full only of an answer"),
        }
        Progress::Again
    }

    /// The log at `lsn` does not hold what the index says.
    fn damaged(&self, read: &mut PendingRead, stream: &Stream, lsn: Lsn) -> Progress {
        // What was trimmed meanwhile may be recycled meanwhile: that is no damage.
        if stream.trim_point > read.next {
            read.piece = (Lsn(0), Lsn(0));
            return Progress::Again;
        }
        let (segment, offset) = (self.geometry.segment(lsn), self.geometry.offset(lsn));
        let what = format!(
            "shard {} segment {:016x}.seg offset {offset}: records of stream `{}` in basin `{}` from {} on are damaged",
            self.config.shard.0, segment.0, read.target.stream, read.target.basin, read.next
        );
        Progress::Answer(Reply::Failed(Failure::Corrupt(what)))
    }
}

enum Progress {
    Answer(Reply),
    Again,
    Fetch(Piece),
}

/// Why a walk stopped.
enum Ended {
    /// All of the piece was seen; the log goes on here.
    Here(Lsn),
    CutOff(Lsn, usize),
    Damaged(Lsn),
    /// The collector wanted no more.
    Full,
}

fn collector_of(read: &PendingRead, stream: &Stream) -> Collector {
    let tail = if Mutation::ReadUncommitted.is_on() { stream.next } else { stream.tail };
    let trim_point = if Mutation::TrimmedServed.is_on() { 0 } else { stream.trim_point };
    Collector::new(read.next.max(trim_point), read.seek, tail.seq_num, read.limits)
}

fn gather(walk: &mut Walk, collector: &mut Collector) -> Ended {
    loop {
        match walk.step() {
            Step::Frame(frame, payload) => match collector.offer(&frame, &payload) {
                Ok(Flow::More) => {}
                Ok(Flow::Full) => return Ended::Full,
                Err(_) => return Ended::Damaged(walk.place()),
            },
            Step::CutOff(lsn, bytes) => return Ended::CutOff(lsn, bytes),
            Step::End(lsn) => return Ended::Here(lsn),
            Step::Damaged(lsn) => return Ended::Damaged(lsn),
        }
    }
}

/// Where a read begins: a number, and a timestamp to look for (s2-wire.md 4.5).
fn begin(start: ReadStart, tail: Position, clamp: bool) -> Result<(u64, Option<u64>), Rejected> {
    match start {
        ReadStart::SeqNum(seq_num) if seq_num > tail.seq_num && !clamp => Err(Rejected::Unwritten(tail)),
        ReadStart::SeqNum(seq_num) => Ok((seq_num.min(tail.seq_num), None)),
        ReadStart::Timestamp(timestamp) if timestamp > tail.timestamp => {
            if clamp {
                Ok((tail.seq_num, None))
            } else {
                Err(Rejected::Unwritten(tail))
            }
        }
        ReadStart::Timestamp(timestamp) => Ok((0, Some(timestamp))),
        ReadStart::TailOffset(offset) => Ok((tail.seq_num.saturating_sub(offset), None)),
    }
}

/// The answer at the tail: nothing yet, or 416 to those who will not wait.
fn at_tail(stream: &Stream, may_follow: bool) -> Reply {
    if may_follow { Reply::Read(nothing_of(stream)) } else { Reply::Failed(Rejected::Unwritten(stream.tail).into()) }
}

const fn nothing_of(stream: &Stream) -> ReadReply {
    let Stream { id, cipher, tail, .. } = *stream;
    ReadReply { stream: id, cipher, batches: Vec::new(), next_seq_num: tail.seq_num, tail, done: false }
}

/// Most bytes read at once.
const PIECE_BYTES: u64 = 4 << 20;
/// Bytes of the log that a batch of 1 MiB takes, with its frames' headers.
const BATCH_PIECE_BYTES: u64 = 5 << 18;
/// Reads of so few records take small pieces.
const FEW_RECORDS: u64 = 32;
const FEW_BYTES: u64 = 128 << 10;
/// Spans closer together than this are read as one: a device spends about as long on a request of its own.
const GAP_BYTES: u64 = 64 << 10;
/// What a reader that was turned away is told to wait.
const BUSY_RETRY_MS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_begin_where_the_spec_says() {
        let tail = Position { seq_num: 10, timestamp: 500 };
        let unwritten = || Err(Rejected::Unwritten(tail));
        let check = |start, clamp, expected| assert_eq!(begin(start, tail, clamp), expected, "{start:?} {clamp}");
        check(ReadStart::SeqNum(11), false, unwritten());
        check(ReadStart::SeqNum(11), true, Ok((10, None)));
        check(ReadStart::SeqNum(10), false, Ok((10, None)));
        check(ReadStart::Timestamp(501), false, unwritten());
        check(ReadStart::Timestamp(501), true, Ok((10, None)));
        check(ReadStart::Timestamp(500), false, Ok((0, Some(500))));
        check(ReadStart::TailOffset(3), false, Ok((7, None)));
        check(ReadStart::TailOffset(99), false, Ok((0, None)));
        check(ReadStart::TailOffset(0), false, Ok((10, None)));
    }
}
