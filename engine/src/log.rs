//! The shard's log: one sequence of extents in recycled segments, shared by all its groups (docs/format.md).

/// A place in the log: segment number times segment size, plus the offset in the segment. Grows for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

/// Numbers a segment in the order of use; never given twice. Counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNo(pub u64);
