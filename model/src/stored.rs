//! Records as they are stored, which is as they are read: a run of `ReadBatch.records` fields (s2-wire.md 2.8).
//!
//! ```text
//! 0A len  08 seq_num  10 timestamp  (1A len (0A len name) (12 len value))*  (22 len body)
//! ```
//! In place of its headers and body a record may have one field `2A len sealed` (`crate::sealed`): it is then not yet
//! what a reader gets. Zero numbers and empty bytes are left out, as proto3 does. A run of these, followed by a `tail` field or not, is
//! a valid `ReadBatch`; so a read copies nothing and encodes nothing per record.

use crate::limits::BATCH_RECORDS_MAX;
use crate::position::Position;
use crate::record::{Batch, Command, RecordSpan, parse_command};
use crate::sealed;
use crate::varint::{self, Fields, Value};

pub(crate) const RECORD: u8 = 0x0a;
const TAIL: u8 = 0x12;
/// Tag of a record's number.
pub const SEQ_NUM: u8 = 0x08;
/// Tag of its timestamp.
pub const TIMESTAMP: u8 = 0x10;
/// Tag of each header.
pub const HEADER: u8 = 0x1a;
/// Tag of its body.
pub const BODY: u8 = 0x22;
const SEALED: u8 = 0x2a;
pub(crate) const NAME: u8 = 0x0a;
pub(crate) const VALUE: u8 = 0x12;

/// How the payload of a stored frame is encoded. Others (a Kafka record batch as received) may join later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PayloadKind {
    /// This module's encoding.
    Sequenced = 1,
}

impl TryFrom<u8> for PayloadKind {
    type Error = u8;

    fn try_from(byte: u8) -> Result<Self, u8> {
        match byte {
            1 => Ok(Self::Sequenced),
            other => Err(other),
        }
    }
}

/// Bytes of a non-empty bytes field with a one-byte tag; an empty one is left out.
pub(crate) const fn field_bytes(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint::len(len as u64) + len }
}

/// Bytes of a number field; zero is left out.
pub(crate) const fn number_bytes(value: u64) -> usize {
    if value == 0 { 0 } else { 1 + varint::len(value) }
}

/// Bytes that a header takes as a field of its record.
#[must_use]
pub const fn header_bytes(name_bytes: usize, value_bytes: usize) -> usize {
    let inner = field_bytes(name_bytes) + field_bytes(value_bytes);
    1 + varint::len(inner as u64) + inner
}

/// Upper bound of the bytes that a record takes, its own tag and length included.
#[must_use]
pub const fn record_bytes_max(record: &RecordSpan) -> usize {
    // Two numbers of at most 10 bytes, a tag before each, and a length of at most 4 bytes for the record itself.
    1 + 4 + 2 * (1 + 10) + record.headers_stored_bytes() + field_bytes(record.body_bytes())
}

/// (name, value) of an encoded `Header`; unknown fields are passed over.
#[must_use]
pub fn parse_header(header: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut name, mut value): (&[u8], &[u8]) = (&[], &[]);
    for field in Fields::new(header) {
        match field.ok()? {
            (1, Value::Bytes(raw, _)) => name = raw,
            (2, Value::Bytes(raw, _)) => value = raw,
            (1 | 2, _) => return None,
            _ => {}
        }
    }
    Some((name, value))
}

fn put_bytes(out: &mut [u8], mut at: usize, tag: u8, bytes: &[u8]) -> usize {
    if bytes.is_empty() {
        return at;
    }
    out[at] = tag;
    at += 1;
    at += varint::put(&mut out[at..], bytes.len() as u64);
    out[at..at + bytes.len()].copy_from_slice(bytes);
    at + bytes.len()
}

fn put_number(out: &mut [u8], at: usize, tag: u8, value: u64) -> usize {
    if value == 0 {
        return at;
    }
    out[at] = tag;
    at + 1 + varint::put(&mut out[at + 1..], value)
}

/// Writes one record of `bytes` at the start of `out`, numbered and timed by `position`; returns the bytes it took.
///
/// # Panics
/// When `out` is shorter than [`record_bytes_max`].
pub fn put_record(out: &mut [u8], bytes: &[u8], record: &RecordSpan, position: Position) -> usize {
    let inner = number_bytes(position.seq_num)
        + number_bytes(position.timestamp)
        + record.headers_stored_bytes()
        + field_bytes(record.body_bytes());
    out[0] = RECORD;
    let start = 1 + varint::put(&mut out[1..], inner as u64);
    let mut at = put_number(out, start, SEQ_NUM, position.seq_num);
    at = put_number(out, at, TIMESTAMP, position.timestamp);
    if record.headers_stored_bytes() > 0 {
        for (name, value) in record.headers(bytes) {
            out[at] = HEADER;
            let header = field_bytes(name.len()) + field_bytes(value.len());
            at += 1 + varint::put(&mut out[at + 1..], header as u64);
            at = put_bytes(out, at, NAME, name);
            at = put_bytes(out, at, VALUE, value);
        }
    }
    at = put_bytes(out, at, if record.is_sealed { SEALED } else { BODY }, record.body(bytes));
    assert_eq!(at, start + inner, "a record takes the bytes it announces");
    at
}

/// Writes all records of `batch`, numbered densely from `first_seq_num`, with `timestamps` one each.
/// Returns the bytes taken, at most [`Batch::stored_bytes_max`].
pub fn put_batch(out: &mut [u8], batch: &Batch, first_seq_num: u64, timestamps: &[u64; BATCH_RECORDS_MAX]) -> usize {
    let mut at = 0;
    for ((record, seq_num), timestamp) in batch.records().iter().zip(first_seq_num..).zip(timestamps) {
        at += put_record(&mut out[at..], batch.bytes(), record, Position { seq_num, timestamp: *timestamp });
    }
    at
}

/// The encoded `tail` field of a `ReadBatch`, to put behind a run of records.
#[must_use]
pub fn tail_field(tail: Position) -> Vec<u8> {
    let mut out = [0u8; 24];
    let inner = number_bytes(tail.seq_num) + number_bytes(tail.timestamp);
    out[0] = TAIL;
    out[1] = u8::try_from(inner).expect("two numbers take at most 22 bytes");
    let at = put_number(&mut out, 2, SEQ_NUM, tail.seq_num);
    let at = put_number(&mut out, at, TIMESTAMP, tail.timestamp);
    out[..at].to_vec()
}

/// One stored record, borrowed from its run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredRecord<'a> {
    /// Number and timestamp.
    pub position: Position,
    /// The body.
    pub body: &'a [u8],
    /// Metered size in bytes (s2-wire.md 4.1); of a sealed record that of the clear one.
    pub metered_bytes: u64,
    /// The sealed headers and body, if they are sealed; then `body` is empty and there are no headers.
    pub sealed: Option<&'a [u8]>,
    /// The fields of the record, for its headers.
    inner: &'a [u8],
    /// Bytes of the record in the run, its own tag and length included.
    pub stored_bytes: usize,
}

impl<'a> StoredRecord<'a> {
    /// The headers as (name, value), in order.
    pub fn headers(&self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + use<'a> {
        Fields::new(self.inner).filter_map(|field| match field {
            Ok((3, Value::Bytes(header, _))) => parse_header(header),
            Ok(_) | Err(_) => None,
        })
    }

    /// What the record does, if it is a command.
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        let mut headers = self.headers();
        let (name, op) = headers.next()?;
        if !name.is_empty() || headers.next().is_some() {
            return None;
        }
        parse_command(op, self.body).ok()
    }
}

/// Walks a run of stored records; an error means the run is damaged.
#[derive(Debug, Clone)]
pub struct StoredRecords<'a> {
    run: &'a [u8],
    at: usize,
}

impl<'a> StoredRecords<'a> {
    /// Starts at the first record of `run`.
    #[must_use]
    pub const fn new(run: &'a [u8]) -> Self {
        Self { run, at: 0 }
    }

    /// Where in the run the next record begins.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.at
    }

    fn record(&mut self) -> Option<StoredRecord<'a>> {
        if self.run.get(self.at) != Some(&RECORD) {
            return None;
        }
        let (len, start) = varint::get(self.run, self.at + 1)?;
        let end = start.checked_add(usize::try_from(len).ok()?)?;
        let inner = self.run.get(start..end)?;
        let mut record = StoredRecord {
            position: Position::ZERO,
            body: &[],
            metered_bytes: 8,
            sealed: None,
            inner,
            stored_bytes: end - self.at,
        };
        for field in Fields::new(inner) {
            match field.ok()? {
                (1, Value::Varint(seq_num)) => record.position.seq_num = seq_num,
                (2, Value::Varint(timestamp)) => record.position.timestamp = timestamp,
                (3, Value::Bytes(header, _)) => {
                    let (name, value) = parse_header(header)?;
                    record.metered_bytes += 2 + name.len() as u64 + value.len() as u64;
                }
                (4, Value::Bytes(body, _)) => record.body = body,
                (5, Value::Bytes(sealed, _)) => record.sealed = Some(sealed),
                _ => return None,
            }
        }
        if let Some(sealed) = record.sealed {
            let is_alone = record.metered_bytes == 8 && record.body.is_empty();
            record.metered_bytes = sealed::metered_bytes(sealed).filter(|_| is_alone)?.into();
        }
        record.metered_bytes += record.body.len() as u64;
        self.at = end;
        Some(record)
    }
}

impl<'a> Iterator for StoredRecords<'a> {
    type Item = Result<StoredRecord<'a>, varint::Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.run.len() {
            return None;
        }
        let record = self.record();
        if record.is_none() {
            self.at = self.run.len();
        }
        Some(record.ok_or(varint::Malformed))
    }
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
