//! Cuts stored frames to a reader's limits and packs them into batches that fit the wire (s2-wire.md 2.6, 4.6).
//! Whole frames pass without a look at their records; only the first and the last may have to be cut.

use bytes::Bytes;
use model::Position;
use model::limits::{BATCH_METERED_BYTES_MAX, BATCH_RECORDS_MAX, FRAME_PAYLOAD_BYTES_MAX};
use model::stored::StoredRecords;

use crate::event::{ReadBatch, ReadLimits};
use crate::log::frame::FrameHeader;
use crate::mutation::Mutation;

/// Whether the collector wants more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flow {
    /// Frames that follow are welcome.
    More,
    /// The answer is as large as it may be, or complete.
    Full,
}

/// A stored payload whose records cannot be told apart, or a frame that is not the next of its stream: the piece of the
/// log that it came in is not the one that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreadable;

/// Gathers the answer to one read.
#[derive(Debug)]
pub struct Collector {
    next: u64,
    seek: Option<u64>,
    tail: u64,
    count_left: u64,
    bytes_left: u64,
    until: u64,
    batches_max: usize,
    batches: Vec<ReadBatch>,
    open: ReadBatch,
    open_stored_bytes: usize,
    small: Vec<u8>,
    done: bool,
}

/// What a collector gathered.
#[derive(Debug, PartialEq, Eq)]
pub struct Collected {
    /// Batches, none empty.
    pub batches: Vec<ReadBatch>,
    /// Where to go on.
    pub next_seq_num: u64,
    /// A limit was reached or `until` was met.
    pub done: bool,
    /// The timestamp that was looked for was not met yet.
    pub seeking: bool,
}

const fn empty_batch() -> ReadBatch {
    ReadBatch { runs: Vec::new(), records_count: 0, metered_bytes: 0, last: Position::ZERO }
}

impl Collector {
    /// Wants records from `next` on, the first of them with `seek` as its timestamp or a later one; none at or above
    /// `tail`. Frames are offered in order, and the first of them holds `next` or ends before it.
    #[must_use]
    pub fn new(next: u64, seek: Option<u64>, tail: u64, limits: ReadLimits) -> Self {
        let count_left = limits.count.unwrap_or(u64::MAX);
        let bytes_left = limits.bytes.unwrap_or(u64::MAX);
        Self {
            next,
            seek,
            tail,
            count_left,
            bytes_left,
            until: limits.until.unwrap_or(u64::MAX),
            batches_max: limits.batches.max(1),
            batches: Vec::new(),
            open: empty_batch(),
            open_stored_bytes: 0,
            small: Vec::new(),
            done: count_left == 0 || bytes_left == 0,
        }
    }

    /// Whether it wants nothing more.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.done || self.batches.len() >= self.batches_max
    }

    /// Offers a frame of the stream.
    ///
    /// # Errors
    /// When its records cannot be told apart, or records between it and the one before are missing.
    pub fn offer(&mut self, frame: &FrameHeader, payload: &Bytes) -> Result<Flow, Unreadable> {
        if self.is_full() || frame.first_seq_num >= self.tail {
            return Ok(Flow::Full);
        }
        if frame.end_seq_num() <= self.next {
            return Ok(Flow::More);
        }
        if frame.first_seq_num > self.next && !Mutation::ReadHoleServed.is_on() {
            return Err(Unreadable);
        }
        let (count, metered) = (u64::from(frame.records_count), u64::from(frame.metered_bytes));
        let whole = self.seek.is_none()
            && frame.first_seq_num >= self.next
            && (count <= self.count_left || Mutation::CountIgnored.is_on())
            && metered <= self.bytes_left
            && (frame.last_timestamp < self.until || self.until == u64::MAX || Mutation::UntilIgnored.is_on())
            && payload.len() <= STORED_BYTES_MAX;
        if !whole {
            return self.offer_records(payload);
        }
        if !self.make_room(count, metered, payload.len()) {
            return Ok(Flow::Full);
        }
        let last = Position { seq_num: frame.end_seq_num() - 1, timestamp: frame.last_timestamp };
        self.take(payload.clone(), count, metered, last);
        Ok(self.flow())
    }

    const fn flow(&self) -> Flow {
        if self.is_full() { Flow::Full } else { Flow::More }
    }

    fn offer_records(&mut self, payload: &Bytes) -> Result<Flow, Unreadable> {
        let mut records = StoredRecords::new(payload);
        loop {
            let start = records.offset();
            let Some(record) = records.next() else { return Ok(self.flow()) };
            let record = record.map_err(|_| Unreadable)?;
            if record.position.seq_num < self.next {
                continue;
            }
            if self.seek.is_some_and(|timestamp| record.position.timestamp < timestamp) {
                self.next = record.position.seq_num + 1;
                continue;
            }
            self.seek = None;
            let met_until = record.position.timestamp >= self.until && self.until != u64::MAX;
            if met_until || record.metered_bytes > self.bytes_left {
                self.done = true;
                return Ok(Flow::Full);
            }
            if !self.make_room(1, record.metered_bytes, record.stored_bytes) {
                return Ok(Flow::Full);
            }
            let run = payload.slice(start..start + record.stored_bytes);
            self.take(run, 1, record.metered_bytes, record.position);
            if self.is_full() {
                return Ok(Flow::Full);
            }
        }
    }

    /// Closes the open batch if this does not fit beside it; false when no further batch may be opened.
    fn make_room(&mut self, count: u64, metered: u64, stored: usize) -> bool {
        let fits = self.open.records_count + count <= BATCH_RECORDS_MAX as u64
            && self.open.metered_bytes + metered <= BATCH_METERED_BYTES_MAX
            && self.open_stored_bytes + stored <= STORED_BYTES_MAX;
        if !fits {
            self.close_batch();
        }
        self.batches.len() < self.batches_max
    }

    fn take(&mut self, run: Bytes, count: u64, metered: u64, last: Position) {
        assert!(last.seq_num >= self.next, "a record is handed out once");
        self.open_stored_bytes += run.len();
        if run.len() < SMALL_RUN_BYTES {
            self.small.extend_from_slice(&run);
        } else {
            self.flush_small();
            self.open.runs.push(run);
        }
        self.open.records_count += count;
        self.open.metered_bytes += metered;
        self.open.last = last;
        self.next = last.seq_num + 1;
        self.count_left -= count;
        self.bytes_left -= metered;
        self.done = self.count_left == 0 || self.bytes_left == 0;
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.open.runs.push(Bytes::from(std::mem::take(&mut self.small)));
        }
    }

    fn close_batch(&mut self) {
        self.flush_small();
        if self.open.records_count > 0 {
            self.batches.push(std::mem::replace(&mut self.open, empty_batch()));
        }
        self.open_stored_bytes = 0;
    }

    /// The answer.
    #[must_use]
    pub fn finish(mut self) -> Collected {
        self.close_batch();
        Collected { batches: self.batches, next_seq_num: self.next, done: self.done, seeking: self.seek.is_some() }
    }
}

/// Shorter runs are copied together: a slice would keep its whole extent in memory, and cost a write of its own.
const SMALL_RUN_BYTES: usize = 4096;
/// Bytes of records in one wire batch; the rest of the frame is for the tail.
const STORED_BYTES_MAX: usize = FRAME_PAYLOAD_BYTES_MAX - 64;

#[cfg(test)]
#[allow(clippy::cast_possible_truncation)]
#[path = "collect_tests.rs"]
mod tests;
