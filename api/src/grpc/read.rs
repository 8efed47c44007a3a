//! Reads: what is asked, and records on their way out.
//!
//! A `SequencedRecord` here has the fields of the stored one (`model::stored`), each with a number of the same length. So a
//! batch is a copy of what is stored, in which tags are exchanged.

use bytes::Bytes;
use model::varint::{self, Fields, Malformed, Value};
use model::{Position, StreamName, stored};

use super::frame::Outgoing;
use super::{stream_name, v1alpha};
use crate::query::{ReadQuery, ReadStart};
use crate::status::ApiError;

/// What a `ReadRequest` asks for.
///
/// # Errors
/// 422 `invalid`.
pub fn read_request(request: &v1alpha::ReadRequest) -> Result<(StreamName, ReadQuery), ApiError> {
    use v1alpha::read_request::Start;
    let start = match request.start {
        None => ReadStart::SeqNum(0),
        Some(Start::SeqNum(seq_num)) => ReadStart::SeqNum(seq_num),
        Some(Start::Timestamp(timestamp)) => ReadStart::Timestamp(timestamp),
        Some(Start::TailOffset(offset)) => ReadStart::TailOffset(offset),
    };
    let v1alpha::ReadLimit { count, bytes } = request.limit.unwrap_or_default();
    let query = ReadQuery { start, clamp: request.clamp, count, bytes, until: request.until, wait_secs: None };
    Ok((stream_name(&request.stream)?, query.checked()?))
}

/// What a `ReadSessionRequest` asks for; heartbeats apart.
///
/// # Errors
/// 422 `invalid`.
pub fn read_session_request(request: &v1alpha::ReadSessionRequest) -> Result<(StreamName, ReadQuery), ApiError> {
    use v1alpha::read_request::Start;
    use v1alpha::read_session_request as session;
    let v1alpha::ReadSessionRequest { stream, limit, heartbeats: _, until, clamp, start } = request;
    let start = start.map(|start| match start {
        session::Start::SeqNum(seq_num) => Start::SeqNum(seq_num),
        session::Start::Timestamp(timestamp) => Start::Timestamp(timestamp),
        session::Start::TailOffset(offset) => Start::TailOffset(offset),
    });
    let (stream, limit, until, clamp) = (stream.clone(), *limit, *until, *clamp);
    read_request(&v1alpha::ReadRequest { stream, limit, until, clamp, start })
}

/// A `ReadResponse` or `ReadSessionResponse` with the records of `runs`.
///
/// # Errors
/// When a run is damaged.
pub fn batch_response(runs: &[Bytes]) -> Result<Outgoing, Malformed> {
    let batch_bytes: usize = runs.iter().map(Bytes::len).sum();
    let output_bytes = 1 + varint::len(batch_bytes as u64) + batch_bytes;
    let mut outgoing = Outgoing::with_capacity(1 + varint::len(output_bytes as u64) + output_bytes);
    let out = outgoing.message();
    for (tag, len) in [(OUTPUT, output_bytes), (BATCH, batch_bytes)] {
        out.push(tag);
        varint::push(out, len as u64);
    }
    for run in runs {
        let start = out.len();
        out.extend_from_slice(run);
        retag(&mut out[start..])?;
    }
    Ok(outgoing)
}

/// A `ReadResponse` or `ReadSessionResponse` that says where the tail is.
#[must_use]
pub fn tail_response(tail: Position) -> Outgoing {
    let mut outgoing = Outgoing::with_capacity(16);
    let out = outgoing.message();
    out.push(OUTPUT);
    varint::push(out, 1 + varint::len(tail.seq_num) as u64);
    out.push(NEXT_SEQ_NUM);
    varint::push(out, tail.seq_num);
    outgoing
}

/// A `ReadSessionResponse` that only says that the session is alive.
#[must_use]
pub fn heartbeat_response() -> Outgoing {
    Outgoing::with_capacity(0)
}

/// Exchanges the tags of the fields of each stored record in `run`.
fn retag(run: &mut [u8]) -> Result<(), Malformed> {
    let mut at = 0;
    while at < run.len() {
        if run[at] != RECORD {
            return Err(Malformed);
        }
        let (len, start) = varint::get(run, at + 1).ok_or(Malformed)?;
        let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).ok_or(Malformed)?;
        retag_record(run.get_mut(start..end).ok_or(Malformed)?)?;
        at = end;
    }
    Ok(())
}

fn retag_record(record: &mut [u8]) -> Result<(), Malformed> {
    let mut at = 0;
    while at < record.len() {
        let mut fields = Fields::new(&record[at..]);
        let (stored, tag) = match fields.next().ok_or(Malformed)?? {
            (1, Value::Varint(_)) => (stored::SEQ_NUM, SEQ_NUM),
            (2, Value::Varint(_)) => (stored::TIMESTAMP, TIMESTAMP),
            (3, Value::Bytes(..)) => (stored::HEADER, HEADER),
            (4, Value::Bytes(..)) => (stored::BODY, BODY),
            // A sealed record was opened before, and we store nothing else.
            _ => return Err(Malformed),
        };
        let next = at + fields.offset();
        // A tag in more bytes than it takes is none that we have stored.
        if record[at] != stored {
            return Err(Malformed);
        }
        record[at] = tag;
        at = next;
    }
    Ok(())
}

// Tags: field number << 3 | wire type.
const OUTPUT: u8 = 0x0a;
const BATCH: u8 = 0x0a;
const NEXT_SEQ_NUM: u8 = 0x18;
/// Of both packages.
const RECORD: u8 = 0x0a;
const SEQ_NUM: u8 = 0x08;
const HEADER: u8 = 0x12;
const BODY: u8 = 0x1a;
const TIMESTAMP: u8 = 0x20;

#[cfg(test)]
mod tests {
    use model::limits::BATCH_RECORDS_MAX;
    use proptest::prelude::*;
    use prost::Message as _;

    use super::super::frame::HEAD_BYTES;
    use super::*;
    use crate::compression::Compressor;
    use crate::proto::{self, AppendRecord};
    use crate::{AppendConditions, Compression};
    use v1alpha::read_output::Output;

    fn decoded(outgoing: Outgoing) -> v1alpha::ReadSessionResponse {
        let framed = outgoing.framed(&mut Compressor::new(Compression::None));
        v1alpha::ReadSessionResponse::decode(&framed[HEAD_BYTES..]).expect("well formed")
    }

    fn stored_run(records: &[AppendRecord<'_>]) -> Bytes {
        let input = proto::encode_append_input(records, &AppendConditions::default());
        let (batch, _) = proto::append_input(input.into()).expect("valid");
        let mut run = vec![0; batch.stored_bytes_max()];
        let mut timestamps = [0; BATCH_RECORDS_MAX];
        for (timestamp, record) in timestamps.iter_mut().zip(records) {
            *timestamp = record.timestamp.unwrap_or(0);
        }
        let len = stored::put_batch(&mut run, &batch, 127, &timestamps);
        run.truncate(len);
        run.into()
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_was_stored(
            bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..300), any::<u64>(), 0..3usize), 1..30),
        ) {
            let headers: [(&[u8], &[u8]); 2] = [(b"name", b""), (b"n", b"value")];
            let records: Vec<_> = bodies
                .iter()
                .map(|(body, timestamp, count)| AppendRecord { timestamp: Some(*timestamp), headers: &headers[..*count], body })
                .collect();
            let response = decoded(batch_response(&[stored_run(&records), stored_run(&records)]).expect("sound"));
            let Some(Output::Batch(batch)) = response.output.and_then(|o| o.output) else { panic!("a batch") };
            prop_assert_eq!(batch.records.len(), 2 * records.len());
            for (read, (sent, at)) in batch.records.iter().zip(records.iter().zip(127..)) {
                prop_assert_eq!((read.seq_num, Some(read.timestamp), &read.body[..]), (at, sent.timestamp, sent.body));
                let headers: Vec<(&[u8], &[u8])> = read.headers.iter().map(|h| (&h.name[..], &h.value[..])).collect();
                prop_assert_eq!(&headers[..], sent.headers);
            }
        }

        #[test]
        fn damage_never_panics(body in prop::collection::vec(any::<u8>(), 1..50), at in any::<prop::sample::Index>(), bits in any::<u8>()) {
            let mut run = stored_run(&[AppendRecord { body: &body, ..AppendRecord::default() }]).to_vec();
            let at = at.index(run.len());
            run[at] ^= bits;
            let _ = batch_response(&[run.into()]);
        }
    }

    #[test]
    fn a_tail_a_heartbeat_and_an_empty_batch() {
        let tail = decoded(tail_response(Position { seq_num: 300, timestamp: 9 }));
        assert_eq!(tail.output.and_then(|o| o.output), Some(Output::NextSeqNum(300)));
        assert_eq!(decoded(heartbeat_response()).output, None);
        let empty = decoded(batch_response(&[]).expect("sound"));
        assert_eq!(empty.output.and_then(|o| o.output), Some(Output::Batch(v1alpha::SequencedRecordBatch::default())));
    }

    #[test]
    fn a_read_without_a_start_begins_at_0() {
        let request = v1alpha::ReadRequest { stream: "s".into(), ..Default::default() };
        assert_eq!(read_request(&request).expect("valid").1.start, ReadStart::SeqNum(0));
        let start = Some(v1alpha::read_session_request::Start::Timestamp(5));
        let request = v1alpha::ReadSessionRequest { stream: "s".into(), start, until: Some(5), ..Default::default() };
        assert!(read_session_request(&request).is_err(), "until must lie behind");
    }
}
