//! Configurations in JSON (s2-wire.md 1.7-1.8): what is set, written and read, and changes told apart from silence.

use std::fmt;
use std::sync::Arc;

use model::config::{BasinReconfiguration, Cipher, Patch, StreamReconfiguration};
use model::{BasinConfig, ResolvedStreamConfig, RetentionPolicy, StreamConfig, TimestampingMode};
use serde::{Deserialize, Deserializer};

use super::resource::cipher_name;
use super::text::Json;
use crate::status::{ApiError, Code};

/// Decodes PATCH `/basins/{basin}`.
///
/// # Errors
/// 400 `bad_json`, or 422 `invalid` when a value is out of range.
pub fn parse_basin_reconfiguration(body: &[u8]) -> Result<BasinReconfiguration, ApiError> {
    let change: BasinPatchJson = serde_json::from_slice(body).map_err(super::bad_json)?;
    Ok(BasinReconfiguration {
        default_stream_config: try_map(change.default_stream_config.0, StreamPatchJson::checked)?,
        stream_cipher: map(change.stream_cipher.0, Cipher::from),
        create_stream_on_append: change.create_stream_on_append,
        create_stream_on_read: change.create_stream_on_read,
    })
}

/// Decodes PATCH `/streams/{stream}`.
///
/// # Errors
/// As [`parse_basin_reconfiguration`].
pub fn parse_stream_reconfiguration(body: &[u8]) -> Result<StreamReconfiguration, ApiError> {
    let change: StreamPatchJson = serde_json::from_slice(body).map_err(super::bad_json)?;
    Ok(change.checked()?)
}

/// Decodes the `s2-stream-config` header.
///
/// # Errors
/// 400 `bad_header`, whatever is wrong with it.
pub fn stream_config_header(header: &str) -> Result<StreamConfig, ApiError> {
    let bad_header =
        |why: &dyn fmt::Display| ApiError::new(Code::BadHeader, format!("Invalid header `s2-stream-config`: {why}"));
    let config: StreamConfigJson =
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

/// `StreamConfig` as it stands in JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamConfigJson {
    storage_class: Option<String>,
    retention_policy: Option<RetentionJson>,
    timestamping: Option<TimestampingJson>,
    delete_on_empty: Option<DeleteOnEmptyJson>,
}

impl StreamConfigJson {
    pub(super) fn checked(self) -> Result<StreamConfig, OutOfRange> {
        let timestamping = self.timestamping.unwrap_or_default();
        Ok(StreamConfig {
            storage_class: self.storage_class.map(checked_storage_class).transpose()?,
            retention: self.retention_policy.map(RetentionJson::checked).transpose()?,
            timestamping_mode: timestamping.mode.map(TimestampingMode::from),
            timestamping_uncapped: timestamping.uncapped,
            delete_on_empty_min_age_secs: self.delete_on_empty.map(|d| d.min_age_secs),
        })
    }
}

/// `BasinConfig` as it stands in JSON.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct BasinConfigJson {
    default_stream_config: Option<StreamConfigJson>,
    stream_cipher: Option<CipherJson>,
    create_stream_on_append: bool,
    create_stream_on_read: bool,
}

impl BasinConfigJson {
    pub(super) fn checked(self) -> Result<BasinConfig, OutOfRange> {
        Ok(BasinConfig {
            default_stream_config: self.default_stream_config.map(StreamConfigJson::checked).transpose()?,
            stream_cipher: self.stream_cipher.map(Cipher::from),
            create_stream_on_append: self.create_stream_on_append,
            create_stream_on_read: self.create_stream_on_read,
        })
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RetentionJson {
    Age(u64),
    Infinite {},
}

impl RetentionJson {
    const fn checked(self) -> Result<RetentionPolicy, OutOfRange> {
        match self {
            Self::Age(0) => Err(OutOfRange("age must be greater than 0 seconds")),
            Self::Age(secs) => Ok(RetentionPolicy::AgeSecs(secs)),
            Self::Infinite {} => Ok(RetentionPolicy::Infinite),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TimestampingJson {
    mode: Option<ModeJson>,
    uncapped: Option<bool>,
}

#[derive(Debug, Deserialize)]
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteOnEmptyJson {
    min_age_secs: u64,
}

#[derive(Debug, Deserialize)]
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

/// A field of a PATCH: left at its default when absent, decoded as null or a value when present.
#[derive(Debug)]
struct Field<T>(Patch<T>);

impl<T> Default for Field<T> {
    fn default() -> Self {
        Self(Patch::Keep)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        Ok(Self(Option::deserialize(json)?.map_or(Patch::Clear, Patch::Set)))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct BasinPatchJson {
    default_stream_config: Field<StreamPatchJson>,
    stream_cipher: Field<CipherJson>,
    create_stream_on_append: Option<bool>,
    create_stream_on_read: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StreamPatchJson {
    storage_class: Field<String>,
    retention_policy: Field<RetentionJson>,
    timestamping: Field<TimestampingPatchJson>,
    delete_on_empty: Field<DeleteOnEmptyPatchJson>,
}

impl StreamPatchJson {
    fn checked(self) -> Result<StreamReconfiguration, OutOfRange> {
        let (mode, uncapped) = match self.timestamping.0 {
            Patch::Keep => (Patch::Keep, Patch::Keep),
            Patch::Clear => (Patch::Clear, Patch::Clear),
            Patch::Set(inner) => (inner.mode.0, inner.uncapped.0),
        };
        Ok(StreamReconfiguration {
            storage_class: try_map(self.storage_class.0, checked_storage_class)?,
            retention: try_map(self.retention_policy.0, RetentionJson::checked)?,
            timestamping_mode: map(mode, TimestampingMode::from),
            timestamping_uncapped: uncapped,
            delete_on_empty_min_age_secs: match self.delete_on_empty.0 {
                Patch::Keep => Patch::Keep,
                Patch::Clear => Patch::Clear,
                Patch::Set(inner) => inner.min_age_secs.0,
            },
        })
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct TimestampingPatchJson {
    mode: Field<ModeJson>,
    uncapped: Field<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct DeleteOnEmptyPatchJson {
    min_age_secs: Field<u64>,
}

fn map<T, U>(patch: Patch<T>, to: impl FnOnce(T) -> U) -> Patch<U> {
    match patch {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(value) => Patch::Set(to(value)),
    }
}

fn try_map<T, U>(patch: Patch<T>, to: impl FnOnce(T) -> Result<U, OutOfRange>) -> Result<Patch<U>, OutOfRange> {
    Ok(match patch {
        Patch::Keep => Patch::Keep,
        Patch::Clear => Patch::Clear,
        Patch::Set(value) => Patch::Set(to(value)?),
    })
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

const fn mode_name(mode: TimestampingMode) -> &'static str {
    match mode {
        TimestampingMode::ClientPrefer => "client-prefer",
        TimestampingMode::ClientRequire => "client-require",
        TimestampingMode::Arrival => "arrival",
    }
}

/// The API sets no bound; every configuration is kept in memory, so we do. Longer ones are a 422 `invalid`.
const STORAGE_CLASS_BYTES_MAX: usize = 64;

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
