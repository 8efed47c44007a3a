//! Configurations in JSON (s2-wire.md 1.7): what is set, written and read.

use std::fmt;
use std::sync::Arc;

use model::config::Cipher;
use model::{BasinConfig, ResolvedStreamConfig, RetentionPolicy, StreamConfig, TimestampingMode};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::object::Object;
use super::resource::cipher_name;
use super::text::Json;
use crate::schema::{self, boolean, nullable, object, one_of, text};
use crate::status::{ApiError, Code};

/// Decodes the `s2-stream-config` header.
///
/// # Errors
/// 400 `bad_header`, whatever is wrong with it.
pub fn stream_config_header(header: &str) -> Result<StreamConfig, ApiError> {
    let bad_header =
        |why: &dyn fmt::Display| ApiError::new(Code::BadHeader, format!("Invalid header `s2-stream-config`: {why}"));
    let Object(config): Object<StreamConfigJson> =
        serde_json::from_str(header).map_err(|error| bad_header(&format_args!("invalid JSON: {error}")))?;
    config.checked().map_err(|out_of_range| bad_header(&out_of_range.0))
}

/// `StreamConfig`; what is not set is null.
#[must_use]
pub fn stream_config(config: &StreamConfig) -> String {
    let mut json = Json::new();
    put_stream_config(&mut json, config);
    json.into_string()
}

/// `StreamConfig` with everything set.
#[must_use]
pub fn resolved_stream_config(config: &ResolvedStreamConfig) -> String {
    stream_config(&config.to_config())
}

/// `BasinConfig`.
#[must_use]
pub fn basin_config(config: &BasinConfig) -> String {
    let mut json = Json::new();
    json.raw(r#"{"default_stream_config":"#);
    match &config.default_stream_config {
        Some(config) => put_stream_config(&mut json, config),
        None => {
            json.raw("null");
        }
    }
    json.raw(r#","stream_cipher":"#).optional(config.stream_cipher.map(cipher_name));
    json.raw(r#","create_stream_on_append":"#).boolean(config.create_stream_on_append);
    json.raw(r#","create_stream_on_read":"#).boolean(config.create_stream_on_read).raw("}");
    json.into_string()
}

/// A value that JSON can say but a configuration cannot hold; the text is what the client sees.
#[derive(Debug)]
pub(super) struct OutOfRange(pub(super) &'static str);

impl From<OutOfRange> for ApiError {
    fn from(out_of_range: OutOfRange) -> Self {
        Self::new(Code::Invalid, out_of_range.0)
    }
}

/// How a stream keeps its records. What is null or absent is not set: then the basin's default counts, else the server's.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "StreamConfigInput")]
#[serde(default)]
pub(super) struct StreamConfigJson {
    #[schemars(schema_with = "schema::storage_class_field", default)]
    storage_class: Option<String>,
    /// Default: an age of 604800 seconds, a week.
    retention_policy: Option<RetentionJson>,
    timestamping: Option<Object<TimestampingJson>>,
    delete_on_empty: Option<Object<DeleteOnEmptyJson>>,
}

impl StreamConfigJson {
    pub(super) fn checked(self) -> Result<StreamConfig, OutOfRange> {
        let Object(timestamping) = self.timestamping.unwrap_or_default();
        Ok(StreamConfig {
            storage_class: self.storage_class.map(checked_storage_class).transpose()?,
            retention: self.retention_policy.map(RetentionJson::checked).transpose()?,
            timestamping_mode: timestamping.mode.map(TimestampingMode::from),
            timestamping_uncapped: timestamping.uncapped,
            delete_on_empty_min_age_secs: self.delete_on_empty.map(|Object(wanted)| wanted.min_age_secs),
        })
    }
}

/// What streams of a basin get when they are created.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "BasinConfigInput")]
#[serde(default)]
pub(super) struct BasinConfigJson {
    /// What counts for a stream where its own configuration says nothing, when it is created.
    default_stream_config: Option<Object<StreamConfigJson>>,
    /// The cipher that streams get when they are created; null or absent: none.
    stream_cipher: Option<CipherJson>,
    /// Whether an append to a stream that is missing creates it.
    create_stream_on_append: bool,
    /// Whether a read or a check of the tail of a stream that is missing creates it.
    create_stream_on_read: bool,
}

impl BasinConfigJson {
    pub(super) fn checked(self) -> Result<BasinConfig, OutOfRange> {
        Ok(BasinConfig {
            default_stream_config: self.default_stream_config.map(|Object(config)| config.checked()).transpose()?,
            stream_cipher: self.stream_cipher.map(Cipher::from),
            create_stream_on_append: self.create_stream_on_append,
            create_stream_on_read: self.create_stream_on_read,
        })
    }
}

/// How long records are kept.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "RetentionPolicy")]
#[serde(rename_all = "lowercase")]
pub(super) enum RetentionJson {
    /// For so many seconds; at least 1.
    Age(#[schemars(range(min = 1))] u64),
    /// Until they are trimmed.
    Infinite(Object<InfiniteJson>),
}

/// An object without keys.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "InfiniteRetention")]
pub(super) struct InfiniteJson {}

impl RetentionJson {
    pub(super) const fn checked(self) -> Result<RetentionPolicy, OutOfRange> {
        match self {
            Self::Age(0) => Err(OutOfRange("age must be greater than 0 seconds")),
            Self::Age(secs) => Ok(RetentionPolicy::AgeSecs(secs)),
            Self::Infinite(Object(InfiniteJson {})) => Ok(RetentionPolicy::Infinite),
        }
    }
}

/// Where the timestamps of records come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "TimestampingInput")]
#[serde(default)]
struct TimestampingJson {
    /// Default: `client-prefer`.
    mode: Option<ModeJson>,
    /// Whether a client's timestamp may lie in the future; otherwise it is cut to the time of arrival. Default: false.
    uncapped: Option<bool>,
}

/// `client-prefer`: the client's, or else the time of arrival. `client-require`: the client's; a record without one is
/// refused. `arrival`: the time of arrival. All in milliseconds since the Unix epoch.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "TimestampingMode")]
#[serde(rename_all = "kebab-case")]
pub(super) enum ModeJson {
    ClientPrefer,
    ClientRequire,
    Arrival,
}

impl From<ModeJson> for TimestampingMode {
    fn from(mode: ModeJson) -> Self {
        match mode {
            ModeJson::ClientPrefer => Self::ClientPrefer,
            ModeJson::ClientRequire => Self::ClientRequire,
            ModeJson::Arrival => Self::Arrival,
        }
    }
}

/// When a stream without records is deleted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "DeleteOnEmptyInput")]
#[serde(default)]
struct DeleteOnEmptyJson {
    /// So many seconds after its last append, or its creation. 0: never.
    min_age_secs: u64,
}

/// How records are sealed with a client's key.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(rename = "Cipher")]
pub(super) enum CipherJson {
    #[serde(rename = "aegis-256")]
    Aegis256,
    #[serde(rename = "aes-256-gcm")]
    Aes256Gcm,
}

impl From<CipherJson> for Cipher {
    fn from(cipher: CipherJson) -> Self {
        match cipher {
            CipherJson::Aegis256 => Self::Aegis256,
            CipherJson::Aes256Gcm => Self::Aes256Gcm,
        }
    }
}

pub(super) fn checked_storage_class(class: String) -> Result<Arc<str>, OutOfRange> {
    if class.len() > STORAGE_CLASS_BYTES_MAX {
        return Err(OutOfRange("storage class must not exceed 64 bytes in length"));
    }
    Ok(class.into())
}

fn put_stream_config(json: &mut Json, config: &StreamConfig) {
    json.raw(r#"{"storage_class":"#).optional(config.storage_class.as_deref());
    json.raw(r#","retention_policy":"#);
    match config.retention {
        None => json.raw("null"),
        Some(RetentionPolicy::Infinite) => json.raw(r#"{"infinite":{}}"#),
        Some(RetentionPolicy::AgeSecs(secs)) => json.raw(r#"{"age":"#).number(secs).raw("}"),
    };
    json.raw(r#","timestamping":"#);
    if config.timestamping_mode.is_none() && config.timestamping_uncapped.is_none() {
        json.raw("null");
    } else {
        json.raw(r#"{"mode":"#).optional(config.timestamping_mode.map(mode_name)).raw(r#","uncapped":"#);
        match config.timestamping_uncapped {
            None => json.raw("null}"),
            Some(uncapped) => json.boolean(uncapped).raw("}"),
        };
    }
    json.raw(r#","delete_on_empty":"#);
    match config.delete_on_empty_min_age_secs {
        None => json.raw("null}"),
        Some(secs) => json.raw(r#"{"min_age_secs":"#).number(secs).raw("}}"),
    };
}

/// The schemas of what is shown: every key, whether or not it is set.
pub(super) fn answer_schemas() -> [(&'static str, Value); 2] {
    let retention = schema::reference("RetentionPolicy");
    let timestamping = object(
        "Where the timestamps of records come from; null when nothing of it is set.",
        [
            ("mode", nullable(schema::reference("TimestampingMode"))),
            ("uncapped", nullable(boolean("Whether a client's timestamp may lie in the future."))),
        ],
    );
    let min_age = schema::u64("So many seconds after its last append, or its creation. 0: never.");
    let stream = object(
        "The configuration of a stream, resolved: what was set, then the basin's default, then the server's.",
        [
            ("storage_class", nullable(text("As it was set; null when it was not."))),
            ("retention_policy", nullable(retention)),
            ("timestamping", nullable(timestamping)),
            (
                "delete_on_empty",
                nullable(object("When a stream without records is deleted.", [("min_age_secs", min_age)])),
            ),
        ],
    );
    let cipher =
        one_of("The cipher that new streams get; null: none.", [Cipher::Aegis256, Cipher::Aes256Gcm].map(cipher_name));
    let basin = object(
        "The configuration of a basin.",
        [
            ("default_stream_config", nullable(schema::reference("StreamConfig"))),
            ("stream_cipher", nullable(cipher)),
            ("create_stream_on_append", boolean("Whether an append to a stream that is missing creates it.")),
            ("create_stream_on_read", boolean("Whether a read of a stream that is missing creates it.")),
        ],
    );
    [("StreamConfig", stream), ("BasinConfig", basin)]
}

const fn mode_name(mode: TimestampingMode) -> &'static str {
    match mode {
        TimestampingMode::ClientPrefer => "client-prefer",
        TimestampingMode::ClientRequire => "client-require",
        TimestampingMode::Arrival => "arrival",
    }
}

/// The API sets no bound; every configuration is kept in memory, so we do. Longer ones are a 422 `invalid`.
pub(crate) const STORAGE_CLASS_BYTES_MAX: usize = 64;

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
