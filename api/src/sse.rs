//! Server-sent events of a read, and how a read resumes (s2-wire.md 3).

use model::{Failure, Position};

use crate::negotiate::Format;
use crate::query::ReadQuery;
use crate::status::ApiError;

/// The `id` of a batch event: how far the read has come, over all resumptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventId {
    /// Number of the last record delivered.
    pub seq_num: u64,
    /// Records delivered.
    pub count: u64,
    /// Metered bytes delivered.
    pub bytes: u64,
}

impl EventId {
    /// From a `Last-Event-ID` header.
    ///
    /// # Errors
    /// 400 `bad_header` unless it is three decimal integers with commas between.
    pub fn parse(header: &str) -> Result<Self, ApiError> {
        todo!("{header}")
    }

    /// The rest of `query`, whose first part was delivered: starts behind the last record, limits reduced.
    #[must_use]
    pub fn resume(&self, query: ReadQuery) -> ReadQuery {
        todo!("{query:?}")
    }
}

/// A batch event. `delivered` is what was delivered before (zero at first, or the `Last-Event-ID`), and is moved on.
///
/// # Errors
/// `Failure::Corrupt` when the runs are not stored records.
pub fn batch(runs: &[&[u8]], tail: Option<Position>, format: Format, delivered: &mut EventId) -> Result<Vec<u8>, Failure> {
    todo!("{runs:?} {tail:?} {format:?} {delivered:?}")
}

/// A ping event, sent where a session sends a heartbeat.
#[must_use]
pub fn ping(now_ms: u64, tail: Position) -> String {
    todo!("{now_ms} {tail:?}")
}

/// An error event; the body ends behind it, without [`DONE`].
#[must_use]
pub fn error(error: &ApiError) -> String {
    todo!("{error}")
}

/// The event that ends a body cleanly.
pub const DONE: &str = "data: [DONE]\n\n";
