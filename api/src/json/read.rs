//! Answers of the data plane in JSON. A batch is written from the stored bytes, record by record.

use model::stored::{StoredRecord, StoredRecords};
use model::varint::Malformed;
use model::{Failure, Position};
use serde_json::{Value, json};

use super::text::Json;
use crate::AppendAck;
use crate::negotiate::Format;
use crate::schema::{self, list_of, object, text, with_optional};

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
    let mut json = Json::with_capacity(read_batch_bytes(runs));
    put_read_batch(&mut json, runs, tail, format)?;
    Ok(json.into_bytes())
}

/// About how many bytes the JSON of these runs takes: base64 needs a third more, keys some 40 bytes a record.
pub(crate) fn read_batch_bytes(runs: &[&[u8]]) -> usize {
    let stored: usize = runs.iter().map(|r| r.len()).sum();
    stored + stored / 2 + 256
}

/// Writes a `ReadBatch`.
pub(crate) fn put_read_batch(
    json: &mut Json,
    runs: &[&[u8]],
    tail: Option<Position>,
    format: Format,
) -> Result<(), Failure> {
    json.raw(r#"{"records":["#);
    let mut separator = "";
    for record in runs.iter().flat_map(|run| StoredRecords::new(run)) {
        json.raw(separator);
        put_record(json, &record.map_err(damaged)?, format);
        separator = ",";
    }
    json.raw("]");
    if let Some(tail) = tail {
        json.raw(r#","tail":"#).position(tail);
    }
    json.raw("}");
    Ok(())
}

fn put_record(json: &mut Json, record: &StoredRecord<'_>, format: Format) {
    json.raw(r#"{"seq_num":"#).number(record.position.seq_num);
    json.raw(r#","timestamp":"#).number(record.position.timestamp);
    let mut before = r#","headers":[["#;
    for (name, value) in record.headers() {
        json.raw(before).bytes(name, format).raw(",").bytes(value, format);
        before = "],[";
    }
    if before == "],[" {
        json.raw("]]");
    }
    if !record.body.is_empty() {
        json.raw(r#","body":"#).bytes(record.body, format);
    }
    json.raw("}");
}

/// The schemas of what is shown.
pub(super) fn answer_schemas() -> [(&'static str, Value); 5] {
    let position = object(
        "A place in a stream.",
        [
            ("seq_num", schema::u64("A sequence number; the first record of a stream has 0.")),
            ("timestamp", schema::u64("Milliseconds since the Unix epoch.")),
        ],
    );
    let at = |about: &str| json!({ "$ref": "#/components/schemas/StreamPosition", "description": about });
    let ack = object(
        "An append that is durable.",
        [
            ("start", at("The first record of the batch.")),
            ("end", at("The number behind the last record of the batch, and the last record's timestamp.")),
            (
                "tail",
                at(
                    "The number that the next record of the stream gets, and the timestamp of its last. Never before `end`.",
                ),
            ),
        ],
    );
    let tail = (
        "tail",
        at("The number that the next record gets, and the timestamp of the last one; zeros for an empty stream."),
    );
    let pair = json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": { "type": "string" } });
    let record = with_optional(
        object(
            "A record. Names, values and body are text, or base64 where `s2-format` says so.",
            [("seq_num", schema::u64("Its number.")), ("timestamp", schema::u64("Milliseconds since the Unix epoch."))],
        ),
        [
            (
                "headers",
                list_of(
                    "Pairs of name and value; absent when there are none. A command record has one, with an empty name.",
                    pair,
                ),
            ),
            ("body", text("Absent when it is empty.")),
        ],
    );
    let batch = with_optional(
        object(
            "Records in order.",
            [("records", list_of("None when nothing came in time.", schema::reference("SequencedRecord")))],
        ),
        [("tail", at("The tail of the stream, where the records are recent."))],
    );
    [
        ("StreamPosition", position),
        ("AppendAck", ack),
        ("TailResponse", object("The tail of a stream.", [tail])),
        ("SequencedRecord", record),
        ("ReadBatch", batch),
    ]
}

/// What stored records that do not decode mean.
pub(crate) fn damaged(_: Malformed) -> Failure {
    Failure::Corrupt("a run of stored records does not decode".into())
}

#[cfg(test)]
mod tests {
    use model::limits::BATCH_RECORDS_MAX;
    use model::stored;
    use proptest::prelude::*;

    use super::*;

    fn run_of(input: &str) -> Vec<u8> {
        let (batch, _) = crate::json::append_input(input.as_bytes(), Format::Raw).expect("valid");
        let mut timestamps = [0; BATCH_RECORDS_MAX];
        timestamps[1] = 9;
        let mut run = vec![0; batch.stored_bytes_max()];
        let taken = stored::put_batch(&mut run, &batch, 0, &timestamps);
        run.truncate(taken);
        run
    }

    fn read(runs: &[&[u8]], tail: Option<Position>, format: Format) -> String {
        String::from_utf8(read_batch(runs, tail, format).expect("valid")).expect("text")
    }

    #[test]
    fn batches_are_what_clients_expect() {
        let run = run_of(r#"{"records":[{"body":"a\"b"},{"headers":[["n","v"],["m",""]]}]}"#);
        let tail = Position { seq_num: 2, timestamp: 9 };
        assert_eq!(
            read(&[&run], None, Format::Raw),
            r#"{"records":[{"seq_num":0,"timestamp":0,"body":"a\"b"},{"seq_num":1,"timestamp":9,"headers":[["n","v"],["m",""]]}]}"#
        );
        assert_eq!(
            read(&[&run, &[]], Some(tail), Format::Base64),
            r#"{"records":[{"seq_num":0,"timestamp":0,"body":"YSJi"},{"seq_num":1,"timestamp":9,"headers":[["bg==","dg=="],["bQ==",""]]}],"tail":{"seq_num":2,"timestamp":9}}"#
        );
        assert_eq!(read(&[&run, &run], None, Format::Raw).matches("seq_num").count(), 4);
        assert_eq!(read(&[], Some(tail), Format::Raw), r#"{"records":[],"tail":{"seq_num":2,"timestamp":9}}"#);
    }

    #[test]
    fn acks_and_tails_are_what_clients_expect() {
        let at = |seq_num| Position { seq_num, timestamp: u64::MAX };
        let ack = AppendAck { start: Position::ZERO, end: at(1), tail: at(2) };
        assert_eq!(
            append_ack(&ack),
            r#"{"start":{"seq_num":0,"timestamp":0},"end":{"seq_num":1,"timestamp":18446744073709551615},"tail":{"seq_num":2,"timestamp":18446744073709551615}}"#
        );
        assert_eq!(tail_response(Position::ZERO), r#"{"tail":{"seq_num":0,"timestamp":0}}"#);
    }

    proptest! {
        #[test]
        fn damaged_runs_are_reported(mut run in prop::collection::vec(any::<u8>(), 1..100)) {
            run[0] = 0xff;
            prop_assert!(read_batch(&[&run], None, Format::Raw).is_err());
            run[0] = 0x0a;
            let _ = read_batch(&[&run], None, Format::Raw);
        }
    }
}
