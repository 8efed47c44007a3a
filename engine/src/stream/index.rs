//! Where a stream's records are in the log: a sparse index, one entry for a window of the log.
//!
//! All frames of the stream between an entry and the next lie within the entry's span, so a read takes one piece of
//! the log and picks its frames out of it. A busy stream has an entry per window; a quiet one an entry per frame.

use smallvec::SmallVec;

use crate::log::{Geometry, Lsn};
use crate::mutation::Mutation;
use crate::stream::op::BatchOp;

/// Frames of one stream that lie close together in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexEntry {
    /// The first record of the first frame.
    pub first_seq_num: u64,
    /// Its timestamp.
    pub first_timestamp: u64,
    /// The first frame.
    pub lsn: Lsn,
    /// Bytes of the log from there to the end of the last frame.
    pub span_bytes: u32,
    /// When the youngest frame arrived, in seconds since the Unix epoch.
    pub last_arrived_s: u32,
    /// Metered bytes of the frames' records. An entry of a checkpoint that did not have it says 0.
    pub metered_bytes: u32,
}

impl IndexEntry {
    /// The first place behind the last frame.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.lsn.plus(self.span_bytes as u64)
    }
}

/// The entries of one stream, in order.
///
/// Invariant: numbers, places and timestamps grow from entry to entry (timestamps may stay).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamIndex(SmallVec<[IndexEntry; 1]>);

impl StreamIndex {
    /// An index with these entries; `None` when they are not in order.
    #[must_use]
    pub fn try_from_entries(entries: impl IntoIterator<Item = IndexEntry>) -> Option<Self> {
        let index = Self(entries.into_iter().collect());
        index.0.is_sorted_by_key(|e| (e.first_seq_num, e.lsn)).then_some(index)
    }

    /// The entries.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.0
    }

    /// Whether the frame would need an entry of its own.
    #[must_use]
    pub fn needs_entry(&self, op: &BatchOp, lsn: Lsn, window_bytes: u32, geometry: Geometry) -> bool {
        let Some(last) = self.0.last() else { return true };
        let near = lsn.0 - last.lsn.0 + u64::from(op.frame_bytes) <= u64::from(window_bytes);
        let same_age = op.arrived_s.saturating_sub(last.last_arrived_s) <= ENTRY_GAP_S_MAX;
        !(near && same_age && geometry.segment(last.lsn) == geometry.segment(lsn))
    }

    /// Adds a frame; true when it got an entry of its own.
    pub fn push(&mut self, op: &BatchOp, lsn: Lsn, window_bytes: u32, geometry: Geometry) -> bool {
        if self.needs_entry(op, lsn, window_bytes, geometry) {
            if Mutation::IndexEntryLost.is_on() && !self.0.is_empty() {
                return false;
            }
            self.0.push(IndexEntry {
                first_seq_num: op.first.seq_num,
                first_timestamp: op.first.timestamp,
                lsn,
                span_bytes: op.frame_bytes,
                last_arrived_s: op.arrived_s,
                metered_bytes: op.metered_bytes,
            });
            return true;
        }
        let last = self.0.last_mut().expect("a frame that needs no entry joins one");
        assert!(lsn >= last.end(), "frames are added in the order of the log");
        let span = lsn.0 - last.lsn.0 + u64::from(op.frame_bytes);
        last.span_bytes = u32::try_from(span).expect("a window is far below 4 GiB");
        // A wall clock that jumps back must not let what came before it expire early.
        let before_s = if Mutation::ClockBackExpires.is_on() { 0 } else { last.last_arrived_s };
        last.last_arrived_s = before_s.max(op.arrived_s);
        last.metered_bytes = last.metered_bytes.saturating_add(op.metered_bytes);
        false
    }

    /// Drops the entries that hold nothing at or above `trim_point`. `tail` is the number behind the last record.
    pub fn trim(&mut self, trim_point: u64, tail: u64) -> Dropped {
        let ends = self.0.iter().skip(1).map(|e| e.first_seq_num).chain([tail]);
        let dead = ends.take_while(|end| *end <= trim_point).count().min(self.0.len());
        let mut dropped = Dropped::default();
        for entry in self.0.drain(..dead) {
            dropped.places.push(entry.lsn);
            dropped.metered_bytes += u64::from(entry.metered_bytes);
        }
        dropped
    }

    /// Metered bytes of all that entries stand for: what is readable, and what shares an entry with it.
    #[must_use]
    pub fn metered_bytes(&self) -> u64 {
        self.0.iter().map(|e| u64::from(e.metered_bytes)).sum()
    }

    /// The first number not older than `cutoff_s` as far as entries can tell; `tail` when all are older.
    #[must_use]
    pub fn first_since(&self, cutoff_s: u32, tail: u64) -> u64 {
        self.0.iter().find(|e| e.last_arrived_s > cutoff_s).map_or(tail, |e| e.first_seq_num)
    }

    /// The position of the entry in which a record with this number would be; `None` when it is before all of them.
    #[must_use]
    pub fn entry_of(&self, seq_num: u64) -> Option<usize> {
        self.0.partition_point(|e| e.first_seq_num <= seq_num).checked_sub(1)
    }

    /// The position of the entry from which to look for the first record with this timestamp or a later one.
    #[must_use]
    pub fn entry_of_timestamp(&self, timestamp: u64) -> usize {
        // Records of the entry before may reach the timestamp as well.
        let back = usize::from(!Mutation::TimestampEntryLate.is_on());
        self.0.partition_point(|e| e.first_timestamp < timestamp).saturating_sub(back)
    }
}

/// Entries that are gone.
#[derive(Debug, Default)]
pub struct Dropped {
    /// Where they pointed.
    pub places: SmallVec<[Lsn; 4]>,
    /// Metered bytes of what they stood for.
    pub metered_bytes: u64,
}

/// Bytes of memory that one entry takes.
pub const ENTRY_BYTES: usize = size_of::<IndexEntry>();
/// Frames further apart than this do not share an entry, so that expiry by entries is precise enough.
const ENTRY_GAP_S_MAX: u32 = 30;

#[cfg(test)]
mod tests {
    use model::{Position, StreamId};

    use super::*;

    const GEOMETRY: Geometry = Geometry { segment_bytes: 1 << 20 };
    const WINDOW: u32 = 10_000;

    fn op(first: u64, count: u64, arrived_s: u32) -> BatchOp {
        BatchOp {
            stream: StreamId(1),
            first: Position { seq_num: first, timestamp: first * 10 },
            end: Position { seq_num: first + count, timestamp: (first + count - 1) * 10 },
            metered_bytes: 100,
            arrived_s,
            offset: 0,
            frame_bytes: 1000,
            commands: vec![],
        }
    }

    fn index() -> StreamIndex {
        let mut index = StreamIndex::default();
        let at = |offset: u64| Lsn((1 << 20) + offset);
        assert!(index.push(&op(0, 5, 100), at(5000), WINDOW, GEOMETRY));
        assert!(!index.push(&op(5, 5, 110), at(9000), WINDOW, GEOMETRY), "near");
        assert!(index.push(&op(10, 5, 110), at(15_000), WINDOW, GEOMETRY), "beyond the window");
        assert!(index.push(&op(15, 5, 200), at(17_000), WINDOW, GEOMETRY), "much later");
        assert!(index.push(&op(20, 5, 200), Lsn((2 << 20) + 4096), WINDOW, GEOMETRY), "another segment");
        index
    }

    #[test]
    fn records_are_found_by_number_and_timestamp() {
        let index = index();
        assert_eq!([0, 9, 10, 14, 19, 20, 99].map(|seq| index.entry_of(seq)), [0, 0, 1, 1, 2, 3, 3].map(Some));
        assert_eq!([0, 1, 90, 100, 101, 200, 999].map(|ts| index.entry_of_timestamp(ts)), [0, 0, 0, 0, 1, 2, 3]);
    }

    #[test]
    fn trimming_drops_only_what_nobody_can_read() {
        let mut index = index();
        assert_eq!(index.metered_bytes(), 500);
        let mut trim = |trim_point| {
            let dropped = index.trim(trim_point, 25);
            (dropped.places.len(), dropped.metered_bytes, index.metered_bytes())
        };
        assert_eq!(trim(9), (0, 0, 500), "record 9 is in the first entry");
        assert_eq!(trim(10), (1, 200, 300));
        assert_eq!(trim(24), (2, 200, 100));
        assert_eq!(trim(25), (1, 100, 0));
        assert!(index.entries().is_empty());
    }

    #[test]
    fn expiry_keeps_entries_that_are_partly_young() {
        let index = index();
        assert_eq!(index.first_since(99, 25), 0);
        assert_eq!(index.first_since(109, 25), 0, "its last frame arrived at 110");
        assert_eq!(index.first_since(110, 25), 15);
        assert_eq!(index.first_since(200, 25), 25);
    }

    #[test]
    fn entries_out_of_order_are_no_index() {
        let index = index();
        let mut entries = index.entries().to_vec();
        assert_eq!(StreamIndex::try_from_entries(entries.clone()), Some(index));
        entries.swap(0, 1);
        assert_eq!(StreamIndex::try_from_entries(entries), None);
    }

    #[test]
    fn an_entry_takes_40_bytes() {
        assert_eq!(ENTRY_BYTES, 40);
    }
}
