//! The messages of `s2.v1`, by hand (s2-wire.md 2.8).

use bytes::Bytes;
use model::stored::StoredRecords;
use model::{Batch, Position};

use crate::status::ApiError;
use crate::{AppendAck, AppendConditions};

/// Decodes an `AppendInput`; the batch's spans point into `input`.
///
/// # Errors
/// 400 `bad_proto` when it is not one; 422 `invalid` when it breaks a limit.
pub fn append_input(input: Bytes) -> Result<(Batch, AppendConditions), ApiError> {
    todo!("{input:?}")
}

/// Encodes an `AppendAck`, with all three positions always.
#[must_use]
pub fn append_ack(ack: &AppendAck) -> Vec<u8> {
    todo!("{ack:?}")
}

/// Decodes an `AppendAck`.
///
/// # Errors
/// 400 `bad_proto`.
pub fn decode_append_ack(bytes: &[u8]) -> Result<AppendAck, ApiError> {
    todo!("{bytes:?}")
}

/// A `ReadBatch`, borrowed from its bytes.
#[derive(Debug, Clone)]
pub struct ReadBatch<'a> {
    /// The records, decoded as they are walked.
    pub records: StoredRecords<'a>,
    /// The stream's tail, if the server said it.
    pub tail: Option<Position>,
}

/// Decodes a `ReadBatch` whose records stand before its tail, as every server writes it.
///
/// # Errors
/// 400 `bad_proto`.
pub fn decode_read_batch(bytes: &[u8]) -> Result<ReadBatch<'_>, ApiError> {
    todo!("{bytes:?}")
}

/// A record to append.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AppendRecord<'a> {
    /// The client's timestamp.
    pub timestamp: Option<u64>,
    /// (name, value), in order.
    pub headers: &'a [(&'a [u8], &'a [u8])],
    /// The body.
    pub body: &'a [u8],
}

/// Encodes an `AppendInput`.
#[must_use]
pub fn encode_append_input(records: &[AppendRecord<'_>], conditions: &AppendConditions) -> Vec<u8> {
    todo!("{records:?} {conditions:?}")
}
