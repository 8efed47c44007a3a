//! Changes of configurations in JSON (s2-wire.md 1.8): null told apart from silence.

use model::TimestampingMode;
use model::config::{BasinReconfiguration, Cipher, Patch, StreamReconfiguration};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};

use super::config::{CipherJson, ModeJson, OutOfRange, RetentionJson, checked_storage_class};
use super::object::Object;
use crate::schema;
use crate::status::ApiError;

/// Decodes PATCH `/basins/{basin}`.
///
/// # Errors
/// 400 `bad_json`, or 422 `invalid` when a value is out of range.
pub fn parse_basin_reconfiguration(body: &[u8]) -> Result<BasinReconfiguration, ApiError> {
    let Object(change) = serde_json::from_slice::<Object<BasinPatchJson>>(body).map_err(super::bad_json)?;
    Ok(BasinReconfiguration {
        default_stream_config: try_map(change.default_stream_config.0, |Object(change)| change.checked())?,
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
    let Object(change) = serde_json::from_slice::<Object<StreamPatchJson>>(body).map_err(super::bad_json)?;
    Ok(change.checked()?)
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

/// Changes to the configuration of a basin: a key that is absent is left as it is, null goes back to nothing set.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "BasinReconfiguration")]
#[serde(default)]
pub(super) struct BasinPatchJson {
    #[schemars(with = "Option<StreamPatchJson>")]
    default_stream_config: Field<Object<StreamPatchJson>>,
    #[schemars(with = "Option<CipherJson>")]
    stream_cipher: Field<CipherJson>,
    /// Null changes nothing.
    create_stream_on_append: Option<bool>,
    /// Null changes nothing.
    create_stream_on_read: Option<bool>,
}

/// Changes to the configuration of a stream: a key that is absent is left as it is, null goes back to the basin's default.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "StreamReconfiguration")]
#[serde(default)]
pub(super) struct StreamPatchJson {
    #[schemars(schema_with = "schema::storage_class_field", default)]
    storage_class: Field<String>,
    #[schemars(with = "Option<RetentionJson>")]
    retention_policy: Field<RetentionJson>,
    #[schemars(with = "Option<TimestampingPatchJson>")]
    timestamping: Field<Object<TimestampingPatchJson>>,
    #[schemars(with = "Option<DeleteOnEmptyPatchJson>")]
    delete_on_empty: Field<Object<DeleteOnEmptyPatchJson>>,
}

impl StreamPatchJson {
    fn checked(self) -> Result<StreamReconfiguration, OutOfRange> {
        let (mode, uncapped) = match self.timestamping.0 {
            Patch::Keep => (Patch::Keep, Patch::Keep),
            Patch::Clear => (Patch::Clear, Patch::Clear),
            Patch::Set(Object(inner)) => (inner.mode.0, inner.uncapped.0),
        };
        Ok(StreamReconfiguration {
            storage_class: try_map(self.storage_class.0, checked_storage_class)?,
            retention: try_map(self.retention_policy.0, RetentionJson::checked)?,
            timestamping_mode: map(mode, TimestampingMode::from),
            timestamping_uncapped: uncapped,
            delete_on_empty_min_age_secs: match self.delete_on_empty.0 {
                Patch::Keep => Patch::Keep,
                Patch::Clear => Patch::Clear,
                Patch::Set(Object(inner)) => inner.min_age_secs.0,
            },
        })
    }
}

/// Changes to where timestamps come from.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "TimestampingReconfiguration")]
#[serde(default)]
struct TimestampingPatchJson {
    #[schemars(with = "Option<ModeJson>")]
    mode: Field<ModeJson>,
    #[schemars(with = "Option<bool>")]
    uncapped: Field<bool>,
}

/// A change to when a stream without records is deleted.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "DeleteOnEmptyReconfiguration")]
#[serde(default)]
struct DeleteOnEmptyPatchJson {
    #[schemars(with = "Option<u64>")]
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
