//! What a batch means, whatever bytes it came in; and that this survives being encoded, stored and read.

use api::proto::{AppendRecord, encode_append_input};
use api::sse::EventId;
use api::{AppendConditions, Format, json, proto, sse};
use model::limits::BATCH_RECORDS_MAX;
use model::stored::{StoredRecords, put_batch, tail_field};
use model::{Batch, Position};

/// Encodes a decoded input again and decodes that: nothing of its meaning may change.
pub(crate) fn check_input(batch: &Batch, conditions: &AppendConditions) {
    let bytes = batch.bytes();
    let headers: Vec<Vec<_>> = batch.records().iter().map(|r| r.headers(bytes).collect()).collect();
    let records: Vec<AppendRecord<'_>> = batch
        .records()
        .iter()
        .zip(&headers)
        .map(|(record, headers)| AppendRecord { timestamp: record.timestamp, headers, body: record.body(bytes) })
        .collect();
    let encoded = encode_append_input(&records, conditions);
    let (again, conditions_again) = proto::append_input(encoded.into()).expect("what was accepted is accepted again");
    assert_eq!(conditions_again, *conditions);
    assert_eq!(again.records().len(), batch.records().len());
    for (left, right) in batch.records().iter().zip(again.records()) {
        assert_eq!(left.timestamp, right.timestamp);
        assert!(left.headers(bytes).eq(right.headers(again.bytes())));
        assert_eq!(left.body(bytes), right.body(again.bytes()));
        assert_eq!(left.command(bytes), right.command(again.bytes()));
        assert_eq!(left.is_command, left.command(bytes).is_some(), "an accepted command does something");
    }
    assert_eq!(batch.metered_bytes(), again.metered_bytes());
    assert_eq!(batch.stored_bytes_max(), again.stored_bytes_max());
    assert_eq!(batch.has_commands(), again.has_commands());
    check_stored(batch, conditions.match_seq_num.unwrap_or(0));
}

/// Stores the batch and reads it back, in every form that a reader may ask for.
fn check_stored(batch: &Batch, first_seq_num: u64) {
    // A number that would overflow is refused before anything is stored.
    let first_seq_num = first_seq_num.min(u64::MAX - BATCH_RECORDS_MAX as u64);
    let mut timestamps = [0; BATCH_RECORDS_MAX];
    for (timestamp, record) in timestamps.iter_mut().zip(batch.records()) {
        *timestamp = record.timestamp.unwrap_or(7);
    }
    let mut run = vec![0xee; batch.stored_bytes_max()];
    let run_bytes = put_batch(&mut run, batch, first_seq_num, &timestamps);
    run.truncate(run_bytes);
    let mut metered_bytes = 0;
    let mut stored = StoredRecords::new(&run);
    for ((record, seq_num), timestamp) in batch.records().iter().zip(first_seq_num..).zip(timestamps) {
        let read = stored.next().expect("as many as were stored").expect("intact");
        assert_eq!(read.position, Position { seq_num, timestamp });
        assert!(read.headers().eq(record.headers(batch.bytes())));
        assert_eq!(read.body, record.body(batch.bytes()));
        assert_eq!(read.command(), record.command(batch.bytes()));
        metered_bytes += read.metered_bytes;
    }
    assert!(stored.next().is_none(), "no more than were stored");
    assert_eq!(metered_bytes, u64::from(batch.metered_bytes()));

    let tail = Position { seq_num: first_seq_num + batch.records().len() as u64, timestamp: timestamps[0] };
    for format in [Format::Raw, Format::Base64] {
        let text = json::read_batch(&[&run], Some(tail), format).expect("intact");
        serde_json::from_slice::<serde_json::Value>(&text).expect("what we write is JSON");
        let mut delivered = EventId::default();
        sse::batch(&[&run], Some(tail), format, &mut delivered).expect("intact");
        assert_eq!((delivered.count, delivered.bytes), (batch.records().len() as u64, metered_bytes));
    }
    run.extend_from_slice(&tail_field(tail));
    let answer = proto::decode_read_batch(&run).expect("intact");
    assert_eq!((answer.records.count(), answer.tail), (batch.records().len(), Some(tail)));
}
