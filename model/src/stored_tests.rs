//! A batch goes in as `AppendInput` parts and comes back as the same records, whatever its contents.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::record::{BatchBuilder, InvalidBatch, Span};

#[derive(Debug, Clone)]
struct Plain {
    timestamp: u64,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

fn batch_of(records: &[Plain]) -> Result<Batch, InvalidBatch> {
    let mut raw = Vec::new();
    let mut spans = Vec::new();
    for record in records {
        let headers_start = raw.len();
        for (name, value) in &record.headers {
            raw.push(0x12);
            varint::push(&mut raw, (field_bytes(name.len()) + field_bytes(value.len())) as u64);
            for (tag, bytes) in [(NAME, name), (VALUE, value)] {
                if !bytes.is_empty() {
                    raw.push(tag);
                    varint::push(&mut raw, bytes.len() as u64);
                    raw.extend_from_slice(bytes);
                }
            }
        }
        let body_start = raw.len();
        raw.extend_from_slice(&record.body);
        spans.push((
            Some(record.timestamp),
            Span::new(headers_start, body_start - headers_start).expect("small"),
            Span::new(body_start, record.body.len()).expect("small"),
        ));
    }
    let mut builder = BatchBuilder::new(Bytes::from(raw));
    for (timestamp, headers, body) in spans {
        builder.push(timestamp, headers, body)?;
    }
    builder.finish()
}

fn stored(batch: &Batch, first_seq_num: u64) -> Vec<u8> {
    let mut timestamps = [0; BATCH_RECORDS_MAX];
    for (slot, record) in timestamps.iter_mut().zip(batch.records()) {
        *slot = record.timestamp.unwrap_or(0);
    }
    let mut out = vec![0; batch.stored_bytes_max()];
    let taken = put_batch(&mut out, batch, first_seq_num, &timestamps);
    out.truncate(taken);
    out
}

fn plain() -> impl Strategy<Value = Plain> {
    let header = (prop::collection::vec(any::<u8>(), 1..20), prop::collection::vec(any::<u8>(), 0..200));
    (any::<u64>(), prop::collection::vec(header, 0..4), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|(timestamp, headers, body)| Plain { timestamp, headers, body })
}

proptest! {
    #[test]
    fn what_is_stored_reads_back(records in prop::collection::vec(plain(), 1..20), first in 0..u64::MAX - 100) {
        let batch = batch_of(&records).expect("within limits");
        let run = stored(&batch, first);
        let back: Vec<_> = StoredRecords::new(&run).map(|r| r.expect("valid")).collect();
        prop_assert_eq!(back.len(), records.len());
        prop_assert_eq!(back.iter().map(|r| r.metered_bytes).sum::<u64>(), u64::from(batch.metered_bytes()));
        prop_assert_eq!(back.iter().map(|r| r.stored_bytes).sum::<usize>(), run.len());
        for ((record, seq_num), plain) in back.iter().zip(first..).zip(&records) {
            prop_assert_eq!(record.position, Position { seq_num, timestamp: plain.timestamp });
            prop_assert_eq!(record.body, &plain.body[..]);
            let headers: Vec<_> = record.headers().map(|(n, v)| (n.to_vec(), v.to_vec())).collect();
            prop_assert_eq!(&headers, &plain.headers);
        }
    }

    #[test]
    fn damaged_runs_never_panic(mut run in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = StoredRecords::new(&run).count();
        if let Some(first) = run.first_mut() { *first = RECORD }
        let _ = StoredRecords::new(&run).count();
    }
}

fn one(headers: &[(&str, &str)], body: &[u8]) -> Result<Batch, InvalidBatch> {
    let headers = headers.iter().map(|(n, v)| (n.as_bytes().to_vec(), v.as_bytes().to_vec())).collect();
    batch_of(&[Plain { timestamp: 1, headers, body: body.to_vec() }])
}

#[test]
fn commands_are_what_the_spec_says() {
    let fence = one(&[("", "fence")], b"me").expect("valid");
    assert!(matches!(fence.records()[0].command(fence.bytes()), Some(Command::Fence(t)) if t.as_str() == "me"));
    let trim = one(&[("", "trim")], &7u64.to_be_bytes()).expect("valid");
    assert_eq!(trim.records()[0].command(trim.bytes()), Some(Command::Trim(7)));
    assert_eq!(trim.metered_bytes(), 22, "s2-wire.md 4.1");
    let run = stored(&trim, 0);
    let record = StoredRecords::new(&run).next().expect("one").expect("valid");
    assert_eq!(record.command(), Some(Command::Trim(7)));

    let text = |r: Result<Batch, InvalidBatch>| r.expect_err("refused").0;
    assert_eq!(text(one(&[("", "what")], b"")), "unknown command");
    assert_eq!(text(one(&[("", "fence"), ("a", "b")], b"")), "invalid header: empty name");
    assert!(text(one(&[("", "trim")], b"1234567")).contains("was 7 bytes, must be 8"));
    assert!(text(one(&[("", "fence")], &[b'x'; 37])).contains("must not exceed 36 bytes"));
    assert!(text(one(&[("", "fence")], &[0xff])).contains("UTF-8"));
}

#[test]
fn limits_hold_at_their_edges() {
    let body = |len: usize| Plain { timestamp: 0, headers: vec![], body: vec![0; len] };
    assert!(batch_of(&[body((1 << 20) - 8)]).is_ok());
    assert!(batch_of(&[body((1 << 20) - 7)]).is_err());
    assert!(batch_of(&vec![body(0); 1000]).is_ok());
    assert!(batch_of(&vec![body(0); 1001]).is_err());
    assert!(batch_of(&[body(1 << 19), body((1 << 19) - 16)]).is_ok());
    assert!(batch_of(&[body(1 << 19), body((1 << 19) - 15)]).is_err());
    assert!(batch_of(&[]).is_err());
    let tiny = Plain { timestamp: 0, headers: vec![(vec![b'x'], vec![]); 349_000], body: vec![] };
    assert!(batch_of(&[tiny]).is_ok());
}

#[test]
fn a_tail_field_is_what_lite_sends() {
    assert_eq!(tail_field(Position { seq_num: 1, timestamp: 0 }), [0x12, 2, 8, 1]);
    assert_eq!(tail_field(Position::ZERO), [0x12, 0]);
}
