//! Query strings of listings and reads (s2-wire.md 1.3, 1.10). Unknown parameters are ignored.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use model::limits::{BATCH_METERED_BYTES_MAX, BATCH_RECORDS_MAX, LIST_ITEMS_MAX, UNARY_WAIT_SECS_MAX};
use model::{InvalidName, NamePrefix};
use serde_json::json;

use crate::schema::{self, Parameter, boolean, text};
use crate::status::{ApiError, Code};

/// Where a read starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadStart {
    /// At this number.
    SeqNum(u64),
    /// At the first record with this timestamp or a later one.
    Timestamp(u64),
    /// This many records before the tail.
    TailOffset(u64),
}

/// A read as asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadQuery {
    /// Where to start; the tail when nothing was said.
    pub start: ReadStart,
    /// Beyond the tail means at the tail.
    pub clamp: bool,
    /// Most records.
    pub count: Option<u64>,
    /// Most metered bytes.
    pub bytes: Option<u64>,
    /// Stop before the first record with this timestamp or a later one. A timestamp start is below it.
    pub until: Option<u64>,
    /// How long to wait for records, in seconds.
    pub wait_secs: Option<u32>,
}

/// A page of a listing as asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListQuery {
    /// Only names that begin so.
    pub prefix: NamePrefix,
    /// Only names behind this one.
    pub start_after: NamePrefix,
    /// Most items: 1 to `LIST_ITEMS_MAX`.
    pub limit: usize,
}

impl ReadQuery {
    /// From the query string, without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query` when a value is malformed or given twice; 422 `invalid` when values contradict each other.
    pub fn parse(query: &str) -> Result<Self, ApiError> {
        let (mut seq_num, mut timestamp, mut tail_offset) = (None, None, None);
        let (mut clamp, mut count, mut bytes, mut until, mut wait_secs) = (None, None, None, None, None);
        for pair in pairs(query) {
            let (name, value) = pair?;
            match &*name {
                "seq_num" => set(&mut seq_num, "seq_num", &value)?,
                "timestamp" => set(&mut timestamp, "timestamp", &value)?,
                "tail_offset" => set(&mut tail_offset, "tail_offset", &value)?,
                "clamp" => set(&mut clamp, "clamp", &value)?,
                "count" => set(&mut count, "count", &value)?,
                "bytes" => set(&mut bytes, "bytes", &value)?,
                "until" => set(&mut until, "until", &value)?,
                "wait" => set(&mut wait_secs, "wait", &value)?,
                _ => {}
            }
        }
        let start = match (seq_num, timestamp, tail_offset) {
            (Some(seq_num), None, None) => ReadStart::SeqNum(seq_num),
            (None, Some(timestamp), None) => ReadStart::Timestamp(timestamp),
            (None, None, tail_offset) => ReadStart::TailOffset(tail_offset.unwrap_or(0)),
            _ => return Err(invalid("only one of seq_num, timestamp, or tail_offset can be provided")),
        };
        Self { start, clamp: clamp.unwrap_or(false), count, bytes, until, wait_secs }.checked()
    }

    /// The same, unless its values contradict each other.
    ///
    /// # Errors
    /// 422 `invalid`.
    pub fn checked(self) -> Result<Self, ApiError> {
        match (self.start, self.until) {
            (ReadStart::Timestamp(timestamp), Some(until)) if timestamp >= until => {
                Err(invalid("start `timestamp` exceeds or equal to `until`"))
            }
            _ => Ok(self),
        }
    }

    /// The parameters that [`ReadQuery::parse`] knows.
    #[must_use]
    pub fn parameters() -> Vec<Parameter> {
        let u64 = || schema::u64("A number.");
        vec![
            Parameter::optional(
                "seq_num",
                "Start at this number. At most one start may be given; without one a read starts at the tail.",
                u64(),
            ),
            Parameter::optional(
                "timestamp",
                "Start at the first record with this timestamp or a later one, in milliseconds since the Unix epoch.",
                u64(),
            ),
            Parameter::optional("tail_offset", "Start so many records before the tail.", u64()),
            Parameter::optional(
                "clamp",
                "Start at the tail where the start lies beyond it. Whether the read may wait there, `wait` says.",
                boolean("Default: false."),
            ),
            Parameter::optional("count", "Most records. A single answer has at most 1000.", u64()),
            Parameter::optional("bytes", "Most metered bytes. A single answer has at most 1048576.", u64()),
            Parameter::optional(
                "until",
                "Stop before the first record with this timestamp or a later one, in milliseconds since the Unix epoch.",
                u64(),
            ),
            Parameter::optional(
                "wait",
                "How long to wait for new records, in seconds; a single answer waits 60 at most. Absent: not at all, but a session without limits follows for ever.",
                schema::u32("Seconds."),
            ),
        ]
    }

    /// The same with the caps of a unary read: 1000 records, 1 MiB, 60 seconds.
    #[must_use]
    pub fn unary(self) -> Self {
        let count_max = BATCH_RECORDS_MAX as u64;
        Self {
            count: Some(self.count.map_or(count_max, |c| c.min(count_max))),
            bytes: Some(self.bytes.map_or(BATCH_METERED_BYTES_MAX, |b| b.min(BATCH_METERED_BYTES_MAX))),
            wait_secs: self.wait_secs.map(|w| w.min(UNARY_WAIT_SECS_MAX)),
            ..self
        }
    }

    /// Whether the read may wait at the tail (s2-wire.md 4.5); for a unary read ask after [`ReadQuery::unary`].
    #[must_use]
    pub fn may_follow(&self) -> bool {
        let is_unbounded = self.count.is_none() && self.bytes.is_none() && self.until.is_none();
        is_unbounded || self.wait_secs.is_some_and(|w| w > 0)
    }

    /// Whether a limit is 0: the answer is empty, whatever the start (s2-wire.md 4.5).
    #[must_use]
    pub fn wants_nothing(&self) -> bool {
        self.count == Some(0) || self.bytes == Some(0)
    }
}

impl ListQuery {
    /// Of basins, from the query string without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn parse_basins(query: &str) -> Result<Self, ApiError> {
        Self::parse(query, NamePrefix::of_basin)
    }

    /// Of streams, from the query string without its `?`.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn parse_streams(query: &str) -> Result<Self, ApiError> {
        Self::parse(query, NamePrefix::of_stream)
    }

    /// Of access tokens.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn parse_tokens(query: &str) -> Result<Self, ApiError> {
        Self::parse(query, NamePrefix::of_token)
    }

    /// The parameters of a listing.
    #[must_use]
    pub fn parameters() -> Vec<Parameter> {
        let limit = json!({ "type": "integer", "minimum": 0, "maximum": u64::MAX, "default": LIST_ITEMS_MAX });
        vec![
            Parameter::optional(
                "prefix",
                "Only names that begin so.",
                text("The beginning of a name. Default: empty."),
            ),
            Parameter::optional(
                "start_after",
                "Only names behind this one, in the order of their bytes.",
                text("Default: empty."),
            ),
            Parameter::optional("limit", "Most items; 0 and anything above 1000 mean 1000.", limit),
        ]
    }

    fn parse(query: &str, prefix_of: impl Fn(&str) -> Result<NamePrefix, InvalidName>) -> Result<Self, ApiError> {
        let (mut prefix, mut start_after, mut limit) = (None::<String>, None::<String>, None::<usize>);
        for pair in pairs(query) {
            let (name, value) = pair?;
            match &*name {
                "prefix" => set(&mut prefix, "prefix", &value)?,
                "start_after" => set(&mut start_after, "start_after", &value)?,
                "limit" => set(&mut limit, "limit", &value)?,
                _ => {}
            }
        }
        Self::new((&prefix.unwrap_or_default(), &start_after.unwrap_or_default()), limit, prefix_of)
    }

    /// A page of names that `prefix_of` accepts; a `limit` out of range means the largest.
    ///
    /// # Errors
    /// 400 `bad_query`.
    pub fn new(
        (prefix, start_after): (&str, &str),
        limit: Option<usize>,
        prefix_of: impl Fn(&str) -> Result<NamePrefix, InvalidName>,
    ) -> Result<Self, ApiError> {
        let name = |key: &str, given: &str| prefix_of(given).map_err(|error| bad_query(&format!("{key}: {error}")));
        let limit = match limit {
            Some(limit @ 1..LIST_ITEMS_MAX) => limit,
            Some(_) | None => LIST_ITEMS_MAX,
        };
        Ok(Self { prefix: name("prefix", prefix)?, start_after: name("start_after", start_after)?, limit })
    }
}

/// Sets a parameter that may be given only once.
pub(crate) fn set<T: FromStr<Err: fmt::Display>>(
    slot: &mut Option<T>,
    name: &str,
    value: &str,
) -> Result<(), ApiError> {
    if slot.is_some() {
        return Err(bad_query(&format!("duplicate field `{name}`")));
    }
    *slot = Some(value.parse().map_err(|error| bad_query(&format!("{name}: {error}")))?);
    Ok(())
}

/// The (name, value) pairs of a query string, decoded.
pub(crate) fn pairs(query: &str) -> impl Iterator<Item = Result<(Cow<'_, str>, Cow<'_, str>), ApiError>> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Ok((decoded(name)?, decoded(value)?))
    })
}

/// Form encoding: `+` is a space, `%xx` a byte.
fn decoded(text: &str) -> Result<Cow<'_, str>, ApiError> {
    let not_utf8 = |_| bad_query("invalid UTF-8");
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        let plain = percent_encoding::percent_decode_str(&spaced).decode_utf8().map_err(not_utf8)?;
        return Ok(Cow::Owned(plain.into_owned()));
    }
    percent_encoding::percent_decode_str(text).decode_utf8().map_err(not_utf8)
}

pub(crate) fn bad_query(why: &str) -> ApiError {
    ApiError::new(Code::BadQuery, format!("Failed to deserialize query string: {why}"))
}

pub(crate) fn invalid(why: &str) -> ApiError {
    ApiError::new(Code::Invalid, why)
}

#[cfg(test)]
#[path = "query_tests.rs"]
mod tests;
