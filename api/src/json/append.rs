//! `AppendInput` in JSON, decoded straight into the bytes of a batch: no record, header or string of its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use model::limits::BATCH_RECORDS_MAX;
use model::record::Span;
use model::{Batch, BatchBuilder, FencingToken};
use serde::de::{self, Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

use crate::AppendConditions;
use crate::negotiate::Format;
use crate::proto;
use crate::schema::{self, fencing_token, list_of, nullable, object, text, with_optional};
use crate::status::{ApiError, Code};

/// Decodes an `AppendInput`.
///
/// # Errors
/// 400 `bad_json` when it is not one; 422 `invalid` when it breaks a limit or is not base64 although it should be.
pub fn append_input(body: &[u8], format: Format) -> Result<(Batch, AppendConditions), ApiError> {
    let mut sink = Sink {
        format,
        out: Vec::with_capacity(body.len()),
        records: Vec::new(),
        header: Vec::new(),
        is_bad_base64: false,
    };
    let mut json = serde_json::Deserializer::from_slice(body);
    let conditions = json.deserialize_map(InputVisitor(&mut sink)).map_err(super::bad_json)?;
    json.end().map_err(super::bad_json)?;
    if sink.is_bad_base64 {
        return Err(ApiError::new(Code::Invalid, "invalid Base64 encoding"));
    }
    let mut builder = BatchBuilder::new(Bytes::from(sink.out));
    for (timestamp, headers, body) in sink.records {
        builder.push(timestamp, headers, body)?;
    }
    Ok((builder.finish()?, conditions))
}

/// The schema of an `AppendInput`: the keys of [`InputKey`] and [`RecordKey`].
pub(super) fn input_schema() -> Value {
    let pair = json!({ "type": "array", "minItems": 2, "maxItems": 2, "items": { "type": "string" } });
    let record = with_optional(
        object("A record. Names, values and body are text, or base64 where `s2-format` says so.", []),
        [
            (
                "timestamp",
                nullable(schema::u64(
                    "Milliseconds since the Unix epoch. What it counts for, the stream's configuration says.",
                )),
            ),
            (
                "headers",
                list_of(
                    "Pairs of name and value. One with an empty name makes the record a command: `fence` or `trim`.",
                    pair,
                ),
            ),
            ("body", text("Absent: empty.")),
        ],
    );
    let mut records = list_of("The batch: appended as one, or not at all. At most 1 MiB metered.", record);
    records["minItems"] = 1.into();
    records["maxItems"] = BATCH_RECORDS_MAX.into();
    with_optional(
        object("Records to be appended, and what must hold for that.", [("records", records)]),
        [
            ("match_seq_num", nullable(schema::u64("The number that the first record must get; else 412."))),
            ("fencing_token", nullable(fencing_token("The token that must be in force; else 412. At most 36 bytes."))),
        ],
    )
}

/// Where the parts of the records gather while the text is parsed.
struct Sink {
    format: Format,
    /// Of each record, its headers as protobuf fields and its body, in whichever order they came.
    out: Vec<u8>,
    /// At most one more than a batch may have, so that the builder can refuse it.
    records: Vec<(Option<u64>, Span, Span)>,
    /// A header's name and value, which cannot be written before their lengths are known.
    header: Vec<u8>,
    /// Some text was not base64; told only when all the JSON was seen to be in order.
    is_bad_base64: bool,
}

/// The part of `out` from `start` on.
fn span_from<E: de::Error>(out: &[u8], start: usize) -> Result<Span, E> {
    Span::new(start, out.len() - start).ok_or_else(|| E::custom("the body exceeds 4 GiB"))
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum InputKey {
    Records,
    MatchSeqNum,
    FencingToken,
    #[serde(other)]
    Other,
}

struct InputVisitor<'a>(&'a mut Sink);

impl<'de> Visitor<'de> for InputVisitor<'_> {
    type Value = AppendConditions;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct AppendInput")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<AppendConditions, A::Error> {
        let mut has_records = false;
        let mut match_seq_num = None;
        let mut fencing_token = None;
        while let Some(key) = map.next_key()? {
            match key {
                InputKey::Records if has_records => return Err(de::Error::duplicate_field("records")),
                InputKey::Records => {
                    map.next_value_seed(Records(self.0))?;
                    has_records = true;
                }
                InputKey::MatchSeqNum => once(&mut match_seq_num, "match_seq_num", &mut map)?,
                InputKey::FencingToken => once(&mut fencing_token, "fencing_token", &mut map)?,
                InputKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if !has_records {
            return Err(de::Error::missing_field("records"));
        }
        let token: Option<Token> = fencing_token.flatten();
        Ok(AppendConditions { match_seq_num: match_seq_num.flatten(), fencing_token: token.map(|t| t.0) })
    }
}

/// Decodes the value of a key that may stand only once.
fn once<'de, T: Deserialize<'de>, A: MapAccess<'de>>(
    slot: &mut Option<T>,
    key: &'static str,
    map: &mut A,
) -> Result<(), A::Error> {
    if slot.is_some() {
        return Err(de::Error::duplicate_field(key));
    }
    *slot = Some(map.next_value()?);
    Ok(())
}

struct Token(FencingToken);

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        let token = String::deserialize(json)?;
        FencingToken::try_from(token.as_str()).map(Self).map_err(de::Error::custom)
    }
}

/// The array of records.
struct Records<'a>(&'a mut Sink);

impl<'de> DeserializeSeed<'de> for Records<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Records<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        loop {
            let start = self.0.out.len();
            let Some(record) = seq.next_element_seed(Record(self.0))? else { return Ok(()) };
            if self.0.records.len() <= BATCH_RECORDS_MAX {
                self.0.records.push(record);
            } else {
                self.0.out.truncate(start);
            }
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum RecordKey {
    Timestamp,
    Headers,
    Body,
    #[serde(other)]
    Other,
}

struct Record<'a>(&'a mut Sink);

impl<'de> DeserializeSeed<'de> for Record<'_> {
    type Value = (Option<u64>, Span, Span);

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        json.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Record<'_> {
    type Value = (Option<u64>, Span, Span);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("struct AppendRecord")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (mut timestamp, mut headers, mut body) = (None, None, None);
        while let Some(key) = map.next_key()? {
            let start = self.0.out.len();
            match key {
                RecordKey::Timestamp => once(&mut timestamp, "timestamp", &mut map)?,
                RecordKey::Headers if headers.is_some() => return Err(de::Error::duplicate_field("headers")),
                RecordKey::Headers => {
                    map.next_value_seed(Headers(self.0))?;
                    headers = Some(span_from(&self.0.out, start)?);
                }
                RecordKey::Body if body.is_some() => return Err(de::Error::duplicate_field("body")),
                RecordKey::Body => {
                    let Sink { format, out, is_bad_base64, .. } = &mut *self.0;
                    map.next_value_seed(Text { format: *format, out, is_bad_base64 })?;
                    body = Some(span_from(&self.0.out, start)?);
                }
                RecordKey::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok((timestamp.flatten(), headers.unwrap_or_default(), body.unwrap_or_default()))
    }
}

/// The array of a record's headers.
struct Headers<'a>(&'a mut Sink);

impl<'de> DeserializeSeed<'de> for Headers<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Headers<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of headers")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Header(self.0))?.is_some() {}
        Ok(())
    }
}

struct Header<'a>(&'a mut Sink);

impl<'de> DeserializeSeed<'de> for Header<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_tuple(2, self)
    }
}

impl<'de> Visitor<'de> for Header<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Sink { format, out, header, is_bad_base64, .. } = self.0;
        header.clear();
        let name = Text { format: *format, out: header, is_bad_base64 };
        seq.next_element_seed(name)?.ok_or_else(|| de::Error::invalid_length(0, &"a name and a value"))?;
        let name_bytes = header.len();
        let value = Text { format: *format, out: header, is_bad_base64 };
        seq.next_element_seed(value)?.ok_or_else(|| de::Error::invalid_length(1, &"a name and a value"))?;
        let (name, value) = header.split_at(name_bytes);
        proto::push_header(out, name, value);
        Ok(())
    }
}

/// A string whose bytes go to the end of `out`.
struct Text<'a> {
    format: Format,
    out: &'a mut Vec<u8>,
    is_bad_base64: &'a mut bool,
}

impl<'de> DeserializeSeed<'de> for Text<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<(), D::Error> {
        json.deserialize_str(self)
    }
}

impl Visitor<'_> for Text<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        match self.format {
            Format::Raw => self.out.extend_from_slice(text.as_bytes()),
            Format::Base64 => *self.is_bad_base64 |= STANDARD.decode_vec(text, self.out).is_err(),
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "append_tests.rs"]
mod tests;
