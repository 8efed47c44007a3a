//! The S2 wire, and nothing else: bytes and header strings in, `model` values out, and back (s2-wire.md 1-4).
//!
//! Pure: no IO, no clock, no randomness, no async. Whatever bytes come in, the answer is a value or an
//! [`ApiError`], never a panic; whatever is decoded is bounded by the limits in `model::limits`.

pub mod compression;
mod cut;
pub mod grpc;
pub mod json;
pub mod negotiate;
pub mod proto;
pub mod query;
pub mod s2s;
pub mod schema;
pub mod sse;
pub mod status;
pub mod usage;

use model::{FencingToken, Position};

pub use compression::Compression;
pub use negotiate::Format;
pub use status::{ApiError, Code};

/// What must hold for an append to happen (s2-wire.md 4.3).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AppendConditions {
    /// The number the first record must get.
    pub match_seq_num: Option<u64>,
    /// The token that must be in force.
    pub fencing_token: Option<FencingToken>,
}

/// The answer to an append that became durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendAck {
    /// The first record.
    pub start: Position,
    /// The number behind the last record, and the last record's timestamp. Invariant: `start <= end`.
    pub end: Position,
    /// The stream's tail when the answer was made. Invariant: `end <= tail`.
    pub tail: Position,
}
