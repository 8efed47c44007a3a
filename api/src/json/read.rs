//! Answers of the data plane in JSON.

use model::{Failure, Position};

use super::text::Json;
use crate::AppendAck;
use crate::negotiate::Format;

/// `AppendAck`.
#[must_use]
pub fn append_ack(ack: &AppendAck) -> String {
    let mut json = Json::new();
    json.raw(r#"{"start":"#).position(ack.start);
    json.raw(r#","end":"#).position(ack.end);
    json.raw(r#","tail":"#).position(ack.tail).raw("}");
    json.into_string()
}

/// `TailResponse`.
#[must_use]
pub fn tail_response(tail: Position) -> String {
    let mut json = Json::new();
    json.raw(r#"{"tail":"#).position(tail).raw("}");
    json.into_string()
}

/// `ReadBatch` of stored records, which lie in `runs` one behind the other.
///
/// # Errors
/// `Failure::Corrupt` when the runs are not stored records.
pub fn read_batch(runs: &[&[u8]], tail: Option<Position>, format: Format) -> Result<Vec<u8>, Failure> {
    todo!("{runs:?} {tail:?} {format:?}")
}
