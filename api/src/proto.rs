//! The messages of `s2.v1`, by hand (s2-wire.md 2.8): an input's records stay where they arrived.
//!
//! Decoding accepts what protobuf accepts: fields in any order, unknown fields, the last of a repeated scalar. Only
//! a record whose headers do not stand in one run costs a copy of the input.

use bytes::Bytes;
use model::record::Span;
use model::stored::{StoredRecords, parse_header};
use model::varint::{self, Fields, Malformed, Value};
use model::{Batch, BatchBuilder, FencingToken, InvalidBatch, Position};

use crate::status::{ApiError, Code};
use crate::{AppendAck, AppendConditions};

/// Decodes an `AppendInput`; the batch's spans point into `input`.
///
/// # Errors
/// 400 `bad_proto` when it is not one; 422 `invalid` when it breaks a limit.
pub fn append_input(input: Bytes) -> Result<(Batch, AppendConditions), ApiError> {
    match decode_in_place(&input)? {
        Decoded::Input(batch, conditions) => Ok((batch, conditions)),
        Decoded::Scattered => match decode_in_place(&Bytes::from(gathered(&input)?))? {
            Decoded::Input(batch, conditions) => Ok((batch, conditions)),
            Decoded::Scattered => unreachable!("headers were just put in one run"),
        },
    }
}

/// Encodes an `AppendAck`, with all three positions always.
#[must_use]
pub fn append_ack(ack: &AppendAck) -> Vec<u8> {
    let mut out = Vec::with_capacity(3 * (2 + 2 * 11));
    for (tag, position) in [(START, ack.start), (END, ack.end), (TAIL, ack.tail)] {
        let number_bytes = |value: u64| if value == 0 { 0 } else { 1 + varint::len(value) };
        out.push(tag);
        varint::push(&mut out, (number_bytes(position.seq_num) + number_bytes(position.timestamp)) as u64);
        for (tag, value) in [(SEQ_NUM, position.seq_num), (TIMESTAMP, position.timestamp)] {
            if value != 0 {
                out.push(tag);
                varint::push(&mut out, value);
            }
        }
    }
    out
}

/// Decodes an `AppendAck`.
///
/// # Errors
/// 400 `bad_proto`.
pub fn decode_append_ack(bytes: &[u8]) -> Result<AppendAck, ApiError> {
    let mut ack = AppendAck::default();
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Bytes(position, _)) => merge_position(&mut ack.start, position)?,
            (2, Value::Bytes(position, _)) => merge_position(&mut ack.end, position)?,
            (3, Value::Bytes(position, _)) => merge_position(&mut ack.tail, position)?,
            (1..=3, _) => return Err(Malformed.into()),
            _ => {}
        }
    }
    Ok(ack)
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
    let mut fields = Fields::new(bytes);
    let mut run_bytes = 0;
    let mut tail = None;
    while let Some(field) = fields.next() {
        match field? {
            (1, Value::Bytes(..)) if tail.is_none() => run_bytes = fields.offset(),
            (2, Value::Bytes(position, _)) => merge_position(tail.get_or_insert_default(), position)?,
            _ => return Err(Malformed.into()),
        }
    }
    Ok(ReadBatch { records: StoredRecords::new(&bytes[..run_bytes]), tail })
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
    let mut out = Vec::new();
    for record in records {
        let headers_bytes: usize =
            record.headers.iter().map(|(name, value)| model::stored::header_bytes(name.len(), value.len())).sum();
        let timestamp_bytes = record.timestamp.map_or(0, |t| 1 + varint::len(t));
        out.push(RECORD);
        varint::push(&mut out, (timestamp_bytes + headers_bytes + field_bytes(record.body.len())) as u64);
        if let Some(timestamp) = record.timestamp {
            out.push(RECORD_TIMESTAMP);
            varint::push(&mut out, timestamp);
        }
        for (name, value) in record.headers {
            push_header(&mut out, name, value);
        }
        push_bytes(&mut out, RECORD_BODY, record.body);
    }
    if let Some(match_seq_num) = conditions.match_seq_num {
        out.push(MATCH_SEQ_NUM);
        varint::push(&mut out, match_seq_num);
    }
    if let Some(token) = &conditions.fencing_token {
        // Explicit presence: the empty token is a condition too.
        out.push(FENCING_TOKEN);
        varint::push(&mut out, token.as_str().len() as u64);
        out.extend_from_slice(token.as_str().as_bytes());
    }
    out
}

impl From<Malformed> for ApiError {
    fn from(_: Malformed) -> Self {
        bad_proto("the message is cut off or a field has the wrong type")
    }
}

/// Appends a header as a field of `AppendRecord`.
pub(crate) fn push_header(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.push(RECORD_HEADER);
    varint::push(out, (field_bytes(name.len()) + field_bytes(value.len())) as u64);
    push_bytes(out, HEADER_NAME, name);
    push_bytes(out, HEADER_VALUE, value);
}

enum Decoded {
    Input(Batch, AppendConditions),
    /// The headers of some record do not stand in one run.
    Scattered,
}

/// Decodes without moving a byte. What is not protobuf is reported before what breaks a limit, wherever each stands,
/// as if decoding came first.
fn decode_in_place(input: &Bytes) -> Result<Decoded, ApiError> {
    let mut builder = BatchBuilder::new(input.clone());
    let mut match_seq_num = None;
    let mut fencing_token = None;
    let mut invalid = None;
    for field in Fields::new(input) {
        match field? {
            (1, Value::Bytes(record, start)) => {
                let Some(record) = Located::find(record, start)? else { return Ok(Decoded::Scattered) };
                if invalid.is_none() {
                    invalid = record.push_to(&mut builder).err();
                }
                if invalid.is_some() {
                    record.check_headers(input)?;
                }
            }
            (2, Value::Varint(seq_num)) => match_seq_num = Some(seq_num),
            (3, Value::Bytes(token, _)) => fencing_token = Some(utf8(token)?),
            (1..=3, _) => return Err(Malformed.into()),
            _ => {}
        }
    }
    let fencing_token = fencing_token.map(FencingToken::try_from).transpose();
    match (invalid, fencing_token) {
        (Some(invalid), _) => Err(invalid.into()),
        (None, Err(too_long)) => Err(ApiError::new(Code::Invalid, too_long.to_string())),
        (None, Ok(fencing_token)) => {
            Ok(Decoded::Input(builder.finish()?, AppendConditions { match_seq_num, fencing_token }))
        }
    }
}

/// Where the parts of one record are, as offsets into the whole input.
#[derive(Debug, Clone, Copy, Default)]
struct Located {
    timestamp: Option<u64>,
    headers: Span,
    body: Span,
}

impl Located {
    /// Finds the parts of `record`, which begins at `base`; `None` when its headers do not stand in one run.
    fn find(record: &[u8], base: usize) -> Result<Option<Self>, ApiError> {
        let mut located = Self::default();
        let mut headers: Option<(usize, usize)> = None;
        let mut fields = Fields::new(record);
        loop {
            let start = fields.offset();
            let Some(field) = fields.next() else { break };
            match field? {
                (1, Value::Varint(timestamp)) => located.timestamp = Some(timestamp),
                (2, Value::Bytes(..)) => match &mut headers {
                    None => headers = Some((start, fields.offset())),
                    Some((_, end)) if *end == start => *end = fields.offset(),
                    Some(_) => return Ok(None),
                },
                (3, Value::Bytes(body, start)) => located.body = span(base + start, body.len())?,
                (1..=3, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        if let Some((start, end)) = headers {
            located.headers = span(base + start, end - start)?;
        }
        Ok(Some(located))
    }

    fn push_to(&self, builder: &mut BatchBuilder) -> Result<(), InvalidBatch> {
        builder.push(self.timestamp, self.headers, self.body)
    }

    /// Whether the headers decode at all; a batch builder's refusal does not tell that from a broken limit.
    fn check_headers(&self, input: &[u8]) -> Result<(), ApiError> {
        for field in Fields::new(self.headers.of(input)) {
            match field? {
                (2, Value::Bytes(header, _)) if parse_header(header).is_some() => {}
                _ => return Err(Malformed.into()),
            }
        }
        Ok(())
    }
}

/// The same input with the headers of each record in one run; unknown fields are left out.
fn gathered(input: &[u8]) -> Result<Vec<u8>, ApiError> {
    let mut out = Vec::with_capacity(input.len());
    let mut fields = Fields::new(input);
    loop {
        let start = fields.offset();
        let Some(field) = fields.next() else { break };
        match field? {
            (1, Value::Bytes(record, _)) => gather_record(record, &mut out)?,
            _ => out.extend_from_slice(&input[start..fields.offset()]),
        }
    }
    Ok(out)
}

fn gather_record(record: &[u8], out: &mut Vec<u8>) -> Result<(), Malformed> {
    let mut kept_bytes = 0;
    for number in [1, 2, 3] {
        for_fields(record, number, |field| kept_bytes += field.len())?;
    }
    out.push(RECORD);
    varint::push(out, kept_bytes as u64);
    for number in [1, 2, 3] {
        for_fields(record, number, |field| out.extend_from_slice(field))?;
    }
    Ok(())
}

/// Calls `each` with every field of this number, tag and all.
fn for_fields(message: &[u8], number: u32, mut each: impl FnMut(&[u8])) -> Result<(), Malformed> {
    let mut fields = Fields::new(message);
    loop {
        let start = fields.offset();
        let Some(field) = fields.next() else { return Ok(()) };
        if field?.0 == number {
            each(&message[start..fields.offset()]);
        }
    }
}

fn merge_position(position: &mut Position, bytes: &[u8]) -> Result<(), ApiError> {
    for field in Fields::new(bytes) {
        match field? {
            (1, Value::Varint(seq_num)) => position.seq_num = seq_num,
            (2, Value::Varint(timestamp)) => position.timestamp = timestamp,
            (1 | 2, _) => return Err(Malformed.into()),
            _ => {}
        }
    }
    Ok(())
}

fn span(start: usize, len: usize) -> Result<Span, ApiError> {
    Span::new(start, len).ok_or_else(|| ApiError::new(Code::Invalid, "record batch must not exceed 4 GiB"))
}

fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes)
        .map_err(|_| bad_proto("AppendInput.fencing_token: invalid string value: data is not UTF-8 encoded"))
}

fn bad_proto(why: &str) -> ApiError {
    ApiError::new(Code::BadProto, format!("failed to decode Protobuf message: {why}"))
}

/// Bytes of a bytes field, which is left out when empty.
const fn field_bytes(len: usize) -> usize {
    if len == 0 { 0 } else { 1 + varint::len(len as u64) + len }
}

fn push_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.push(tag);
        varint::push(out, bytes.len() as u64);
        out.extend_from_slice(bytes);
    }
}

// Tags: field number << 3 | wire type.
const RECORD: u8 = 0x0a;
const MATCH_SEQ_NUM: u8 = 0x10;
const FENCING_TOKEN: u8 = 0x1a;
const RECORD_TIMESTAMP: u8 = 0x08;
const RECORD_HEADER: u8 = 0x12;
const RECORD_BODY: u8 = 0x1a;
const HEADER_NAME: u8 = 0x0a;
const HEADER_VALUE: u8 = 0x12;
const START: u8 = 0x0a;
const END: u8 = 0x12;
const TAIL: u8 = 0x1a;
const SEQ_NUM: u8 = 0x08;
const TIMESTAMP: u8 = 0x10;

#[cfg(test)]
#[path = "proto_tests.rs"]
mod tests;
