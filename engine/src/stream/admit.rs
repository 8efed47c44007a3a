//! Admission: whether a batch may be appended, and which numbers and timestamps it gets (s2-wire.md 4.2-4.4).
//! Judges against the speculative face, changes nothing.

use model::config::{Cipher, TimestampingMode};
use model::limits::BATCH_RECORDS_MAX;
use model::{Batch, Command, FencingToken, Position, Rejected};

use crate::mutation::Mutation;
use crate::stream::state::Stream;

/// The conditions of one append.
#[derive(Debug, Clone, Copy)]
pub struct Conditions<'a> {
    /// The number the first record must get.
    pub match_seq_num: Option<u64>,
    /// The token that must be in force.
    pub fencing_token: Option<&'a FencingToken>,
}

/// What an admitted batch gets. Its timestamps are in the scratch that [`admit`] was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    /// The first record.
    pub first: Position,
    /// The number behind the last record, with the last record's timestamp.
    pub end: Position,
    /// Commands among the records, with their numbers.
    pub commands: Vec<(u64, Command)>,
}

/// Judges `batch` at `now_ms`: the token first, then the number, then timestamps.
///
/// # Errors
/// The rejection; it may be told once the state it was judged against is durable.
pub fn admit(
    stream: &Stream,
    batch: &Batch,
    conditions: Conditions<'_>,
    now_ms: u64,
    timestamps: &mut [u64; BATCH_RECORDS_MAX],
) -> Result<Admitted, Rejected> {
    if let Some(given) = conditions.fencing_token {
        let token = if Mutation::FenceOnceDurable.is_on() { &stream.token } else { &stream.next_token };
        let current = token.as_ref().map_or("", FencingToken::as_str);
        if given.as_str() != current {
            return Err(Rejected::FencingTokenMismatch(stream.next_token.clone().unwrap_or_else(FencingToken::empty)));
        }
    }
    let next = stream.next.seq_num;
    let is = if Mutation::SeqNumAgainstCommitted.is_on() { stream.tail.seq_num } else { next };
    if conditions.match_seq_num.is_some_and(|expected| expected != is) {
        return Err(Rejected::SeqNumMismatch(next));
    }
    let last_timestamp = assign_timestamps(stream, batch, now_ms, timestamps)?;
    let count = batch.records().len() as u64;
    let Some(end) = next.checked_add(count) else {
        return Err(Rejected::Invalid("the stream has no sequence numbers left".into()));
    };
    if stream.cipher == Some(Cipher::Aes256Gcm) && end > GCM_SEQ_NUM_END {
        return Err(Rejected::Invalid("a stream with cipher 'aes-256-gcm' holds at most 2^32 records".into()));
    }
    Ok(Admitted {
        first: Position { seq_num: next, timestamp: timestamps[0] },
        end: Position { seq_num: end, timestamp: last_timestamp },
        commands: commands(batch, next),
    })
}

fn commands(batch: &Batch, first_seq_num: u64) -> Vec<(u64, Command)> {
    if !batch.has_commands() {
        return Vec::new();
    }
    let numbered = (first_seq_num..).zip(batch.records());
    numbered.filter_map(|(seq_num, record)| Some((seq_num, record.command(batch.bytes())?))).collect()
}

/// Fills `timestamps` and returns the last.
fn assign_timestamps(
    stream: &Stream,
    batch: &Batch,
    now_ms: u64,
    timestamps: &mut [u64; BATCH_RECORDS_MAX],
) -> Result<u64, Rejected> {
    let mode = stream.config.timestamping_mode();
    if mode == TimestampingMode::ClientRequire && batch.lacks_a_timestamp() {
        return Err(Rejected::Invalid("record timestamp was required but was missing".into()));
    }
    let cap =
        if stream.config.timestamping_uncapped || Mutation::TimestampsUncapped.is_on() { u64::MAX } else { now_ms };
    let mut last = stream.next.timestamp;
    for (slot, record) in timestamps.iter_mut().zip(batch.records()) {
        let given = match mode {
            TimestampingMode::ClientPrefer | TimestampingMode::ClientRequire => record.timestamp.unwrap_or(now_ms),
            TimestampingMode::Arrival => now_ms,
        };
        last = if Mutation::TimestampsFall.is_on() { given.min(cap) } else { given.min(cap).max(last) };
        *slot = last;
    }
    Ok(last)
}

/// So many random 96-bit nonces may be used with one key; the same bound as the API's (s2-wire.md 4.1).
const GCM_SEQ_NUM_END: u64 = 1 << 32;

#[cfg(test)]
#[path = "admit_tests.rs"]
mod tests;
