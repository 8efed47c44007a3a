//! The call of S2's first public page, `POST /v1/{basin}/{stream}` (s2-wire.md 6.1). All that was published of it is one
//! example; headers and preconditions are what its text promises, in a form that follows the example.

use std::fmt::Write as _;

use model::Batch;
use serde_json::{Value, json};

use super::{append_input, bad_json};
use crate::negotiate::Format;
use crate::schema::{self, list_of, nullable, object, text, with_optional};
use crate::status::{ApiError, Code};
use crate::{AppendAck, AppendConditions};

/// Decodes the body: that of an append in base64, whose headers may also be `{"name": …, "value": …}`, and whose
/// precondition may also be `latest_seq_num`, the last number that was issued.
///
/// # Errors
/// 400 `bad_json` when it is not one; 422 `invalid` when it breaks a limit, is not base64, or has two preconditions.
pub fn first_form_input(body: &[u8]) -> Result<(Batch, AppendConditions), ApiError> {
    let mut input: Value = serde_json::from_slice(body).map_err(bad_json)?;
    if let Some(fields) = input.as_object_mut()
        && let Some(latest) = fields.remove("latest_seq_num").filter(|latest| !latest.is_null())
    {
        if fields.get("match_seq_num").is_some_and(|expected| !expected.is_null()) {
            return Err(ApiError::new(Code::Invalid, "only one of latest_seq_num and match_seq_num can be provided"));
        }
        let next = latest.as_u64().and_then(|latest| latest.checked_add(1));
        let next =
            next.ok_or_else(|| ApiError::new(Code::BadJson, "latest_seq_num must be a number from 0 to 2^64-2"))?;
        fields.insert("match_seq_num".to_owned(), next.into());
    }
    let records = input.get_mut("records").and_then(Value::as_array_mut).into_iter().flatten();
    for header in records.filter_map(|record| record.get_mut("headers")?.as_array_mut()).flatten() {
        if let Some(fields) = header.as_object_mut() {
            let mut part = |name: &str| fields.remove(name).unwrap_or_else(|| Value::from(""));
            *header = Value::from(vec![part("name"), part("value")]);
        }
    }
    let body = serde_json::to_vec(&input).map_err(bad_json)?;
    append_input(&body, Format::Base64)
}

/// The schema of the body: an `AppendInput` with two more ways to say things.
pub(super) fn input_schema() -> Value {
    let mut input = super::append::input_schema();
    let latest =
        schema::u64("The number of the last record that the stream must have; else 412. Not beside `match_seq_num`.");
    let header = &mut input["properties"]["records"]["items"]["properties"]["headers"]["items"];
    let pair = header.take();
    let named = with_optional(
        object("A header.", []),
        [("name", text("In base64. Absent: empty.")), ("value", text("In base64. Absent: empty."))],
    );
    *header = json!({ "anyOf": [pair, named] });
    with_optional(input, [("latest_seq_num", nullable(latest))])
}

/// The schema of the answer.
pub(super) fn ack_schema() -> Value {
    object(
        "An append that is durable.",
        [
            ("seq_nums", list_of("The number of each record, in order.", schema::u64("A sequence number."))),
            ("latest_seq_num", schema::u64("The last of them.")),
        ],
    )
}

/// The answer: the number of each record, and the last of them.
#[must_use]
pub fn first_form_ack(ack: &AppendAck) -> String {
    let mut out = String::from("{\"seq_nums\":[");
    for seq_num in ack.start.seq_num..ack.end.seq_num {
        let _ = write!(out, "{}{seq_num}", if seq_num > ack.start.seq_num { "," } else { "" });
    }
    let _ = write!(out, "],\"latest_seq_num\":{}}}", ack.end.seq_num - 1);
    out
}

#[cfg(test)]
mod tests {
    use model::Position;

    use super::*;

    fn shown(body: &str) -> Result<(usize, Option<u64>), u16> {
        let decoded = first_form_input(body.as_bytes());
        decoded
            .map(|(batch, conditions)| (batch.records().len(), conditions.match_seq_num))
            .map_err(|error| error.status())
    }

    #[test]
    fn the_published_call_and_its_kin_are_appends() {
        for (body, expected) in [
            (r#"{"records":[{"body":"aGVsbG8gd29ybGQ="}]}"#, Ok((1, None))),
            (r#"{"records":[{"body":""},{"headers":[{"name":"aw==","value":"dg=="}]}]}"#, Ok((2, None))),
            (r#"{"records":[{"headers":[["aw==","dg=="],{"name":"aw=="}]}],"latest_seq_num":41}"#, Ok((1, Some(42)))),
            (r#"{"records":[{"body":""}],"match_seq_num":0,"latest_seq_num":null}"#, Ok((1, Some(0)))),
            (r#"{"records":[{"body":""}],"match_seq_num":1,"latest_seq_num":0}"#, Err(422)),
            (r#"{"records":[{"body":""}],"latest_seq_num":-1}"#, Err(400)),
            (r#"{"records":[{"body":""}],"latest_seq_num":18446744073709551615}"#, Err(400)),
            (r#"{"records":[{"body":"no base64"}]}"#, Err(422)),
            (r#"{"records":[{"headers":[{"name":7}]}]}"#, Err(400)),
            (r#"{"records":[]}"#, Err(422)),
            (r#"{"records":7}"#, Err(400)),
            ("[]", Err(400)),
            ("hello", Err(400)),
            ("", Err(400)),
        ] {
            assert_eq!(shown(body), expected, "{body}");
        }
        assert_eq!(shown(&"[".repeat(100_000)), Err(400), "deep nesting is refused, not followed");
    }

    #[test]
    fn the_answer_has_the_number_of_each_record() {
        let at = |seq_num| Position { seq_num, timestamp: 7 };
        let ack = |start, end| first_form_ack(&AppendAck { start: at(start), end: at(end), tail: at(99) });
        assert_eq!(ack(42, 43), r#"{"seq_nums":[42],"latest_seq_num":42}"#);
        assert_eq!(ack(0, 3), r#"{"seq_nums":[0,1,2],"latest_seq_num":2}"#);
    }
}
