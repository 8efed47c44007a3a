//! What an append brings, and its answer. The batch's spans point into the message: its bodies are not copied.
//!
//! An `AppendRecord` here differs from the one in `s2.v1` by its field numbers only. A batch wants its headers as fields
//! with `s2.v1`'s number, so where there are headers their tags are rewritten, which costs a copy of the message.

use bytes::{Bytes, BytesMut};
use model::record::Span;
use model::varint::{Fields, Malformed, Value};
use model::{Batch, BatchBuilder, FencingToken};

use super::frame::Outgoing;
use super::{decode, invalid, v1alpha};
use crate::proto::{self, AppendRecord};
use crate::status::{ApiError, Code};
use crate::{AppendAck, AppendConditions};

/// What an `AppendRequest` or `AppendSessionRequest` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendInput {
    /// Empty when it was left out.
    pub stream: String,
    /// The records.
    pub batch: Batch,
    /// What must hold.
    pub conditions: AppendConditions,
}

/// Decodes an `AppendRequest` or `AppendSessionRequest`.
///
/// # Errors
/// 400 `bad_proto` when it is neither; 422 `invalid` when it breaks a limit.
pub fn append_request(message: Bytes) -> Result<AppendInput, ApiError> {
    let Some(located) = Located::find(&message)? else { return regular(message) };
    let Located { stream, records, match_seq_num, fencing_token, header_tags } = located;
    let stream = utf8(stream.of(&message))?.to_owned();
    let fencing_token = match fencing_token {
        None => None,
        Some(token) => Some(token_of(utf8(token.of(&message))?)?),
    };
    let bytes = if header_tags.is_empty() { message } else { retagged(message, &header_tags) };
    let mut builder = BatchBuilder::new(bytes);
    for RecordAt { timestamp, headers, body } in records {
        builder.push(timestamp, headers, body)?;
    }
    let conditions = AppendConditions { match_seq_num, fencing_token };
    Ok(AppendInput { stream, batch: builder.finish()?, conditions })
}

/// An `AppendResponse` or `AppendSessionResponse`.
#[must_use]
pub fn append_response(ack: &AppendAck) -> Outgoing {
    Outgoing::of(&v1alpha::AppendResponse {
        output: Some(v1alpha::AppendOutput {
            start_seq_num: ack.start.seq_num,
            end_seq_num: ack.end.seq_num,
            next_seq_num: ack.tail.seq_num,
            start_timestamp: ack.start.timestamp,
            end_timestamp: ack.end.timestamp,
            last_timestamp: ack.tail.timestamp,
        }),
    })
}

/// Where the parts of a message are.
#[derive(Default)]
struct Located {
    stream: Span,
    records: Vec<RecordAt>,
    match_seq_num: Option<u64>,
    fencing_token: Option<Span>,
    /// Where the tags of headers stand.
    header_tags: Vec<usize>,
}

#[derive(Default)]
struct RecordAt {
    timestamp: Option<u64>,
    headers: Span,
    body: Span,
}

impl Located {
    /// `None` when the message is not as every encoder writes it: more than one input, or headers of a record apart.
    fn find(message: &[u8]) -> Result<Option<Self>, ApiError> {
        let mut located = None;
        for field in Fields::new(message) {
            match field? {
                (1, Value::Bytes(..)) if located.is_some() => return Ok(None),
                (1, Value::Bytes(input, base)) => match Self::find_input(input, base)? {
                    Some(found) => located = Some(found),
                    None => return Ok(None),
                },
                (1, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        located.map(Some).ok_or_else(|| invalid("input is missing"))
    }

    fn find_input(input: &[u8], base: usize) -> Result<Option<Self>, ApiError> {
        let mut located = Self::default();
        for field in Fields::new(input) {
            match field? {
                (1, Value::Bytes(stream, start)) => located.stream = span(base + start, stream.len())?,
                (2, Value::Bytes(record, start)) => {
                    let Some(record) = located.find_record(record, base + start)? else { return Ok(None) };
                    located.records.push(record);
                }
                (3, Value::Varint(seq_num)) => located.match_seq_num = Some(seq_num),
                (4, Value::Bytes(token, start)) => located.fencing_token = Some(span(base + start, token.len())?),
                (1..=4, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        Ok(Some(located))
    }

    fn find_record(&mut self, record: &[u8], base: usize) -> Result<Option<RecordAt>, ApiError> {
        let mut at = RecordAt::default();
        let mut headers: Option<(usize, usize)> = None;
        let mut fields = Fields::new(record);
        loop {
            let start = fields.offset();
            let Some(field) = fields.next() else { break };
            match field? {
                (1, Value::Bytes(..)) => {
                    match &mut headers {
                        None => headers = Some((start, fields.offset())),
                        Some((_, end)) if *end == start => *end = fields.offset(),
                        Some(_) => return Ok(None),
                    }
                    // A tag that takes more bytes than it must is no encoder's.
                    if record[start] != HEADER {
                        return Ok(None);
                    }
                    self.header_tags.push(base + start);
                }
                (2, Value::Bytes(body, start)) => at.body = span(base + start, body.len())?,
                (3, Value::Varint(timestamp)) => at.timestamp = Some(timestamp),
                (1..=3, _) => return Err(Malformed.into()),
                _ => {}
            }
        }
        if let Some((start, end)) = headers {
            at.headers = span(base + start, end - start)?;
        }
        Ok(Some(at))
    }
}

fn retagged(message: Bytes, header_tags: &[usize]) -> Bytes {
    let mut message = message.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
    for at in header_tags {
        message[*at] = V1_HEADER;
    }
    message.freeze()
}

/// Decodes into objects and encodes as `s2.v1`, whatever the order of the fields.
fn regular(message: Bytes) -> Result<AppendInput, ApiError> {
    let input = decode::<v1alpha::AppendRequest>(message)?.input.ok_or_else(|| invalid("input is missing"))?;
    let fencing_token = input.fencing_token.as_deref().map(token_of).transpose()?;
    let conditions = AppendConditions { match_seq_num: input.match_seq_num, fencing_token };
    let headers: Vec<Vec<(&[u8], &[u8])>> =
        input.records.iter().map(|r| r.headers.iter().map(|h| (&*h.name, &*h.value)).collect()).collect();
    let records: Vec<_> = input
        .records
        .iter()
        .zip(&headers)
        .map(|(record, headers)| AppendRecord { timestamp: record.timestamp, headers, body: &record.body })
        .collect();
    let (batch, conditions) = proto::append_input(proto::encode_append_input(&records, &conditions).into())?;
    Ok(AppendInput { stream: input.stream, batch, conditions })
}

fn token_of(token: &str) -> Result<FencingToken, ApiError> {
    FencingToken::try_from(token).map_err(|error| invalid(error.to_string()))
}

fn utf8(bytes: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(bytes)
        .map_err(|_| ApiError::new(Code::BadProto, "failed to decode Protobuf message: a string is not UTF-8"))
}

fn span(start: usize, len: usize) -> Result<Span, ApiError> {
    Span::new(start, len).ok_or_else(|| invalid("record batch must not exceed 4 GiB"))
}

/// Tag of `AppendRecord.headers` here, and in `s2.v1`.
const HEADER: u8 = 0x0a;
const V1_HEADER: u8 = 0x12;

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
