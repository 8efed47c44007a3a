//! Where a record is in its stream.

/// A sequence number with the timestamp beside it. As a tail: the number the next record gets, and the
/// timestamp of the last record (s2-wire.md 4.1). An empty stream is at `{0, 0}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position {
    /// Dense 64-bit number, from 0.
    pub seq_num: u64,
    /// Milliseconds since the Unix epoch unless the client chose otherwise.
    pub timestamp: u64,
}

impl Position {
    /// The start of every stream.
    pub const ZERO: Self = Self { seq_num: 0, timestamp: 0 };
}
