//! Configurations and field masks (s2-wire.md 5.2, 5.4).

use std::sync::Arc;

use model::config::{BasinReconfiguration, Patch, StreamReconfiguration};
use model::{BasinConfig, RetentionPolicy, StreamConfig, TimestampingMode};

use super::{invalid, v1alpha};
use crate::status::ApiError;
use v1alpha::stream_config::{DeleteOnEmpty, InfiniteRetention, RetentionPolicy as Retention, Timestamping};

/// What is set for a stream.
///
/// # Errors
/// 422 `invalid` when a value is out of range.
pub fn stream_config(config: Option<&v1alpha::StreamConfig>) -> Result<StreamConfig, ApiError> {
    let Some(config) = config else { return Ok(StreamConfig::default()) };
    Ok(StreamConfig {
        storage_class: storage_class(config.storage_class)?,
        retention: match config.retention_policy {
            None => None,
            Some(Retention::Age(0)) => return Err(invalid("age must be greater than 0 seconds")),
            Some(Retention::Age(secs)) => Some(RetentionPolicy::AgeSecs(secs)),
            Some(Retention::Infinite(InfiniteRetention {})) => Some(RetentionPolicy::Infinite),
        },
        timestamping_mode: match &config.timestamping {
            None => None,
            Some(timestamping) => mode(timestamping.mode)?,
        },
        timestamping_uncapped: config.timestamping.and_then(|timestamping| timestamping.uncapped),
        delete_on_empty_min_age_secs: config.delete_on_empty.map(|delete| delete.min_age_secs),
    })
}

/// What is set for a basin. A cipher cannot be said here.
///
/// # Errors
/// 422 `invalid` when a value is out of range.
pub fn basin_config(config: Option<&v1alpha::BasinConfig>) -> Result<BasinConfig, ApiError> {
    let Some(config) = config else { return Ok(BasinConfig::default()) };
    let default = config.default_stream_config.as_ref();
    Ok(BasinConfig {
        default_stream_config: default.map(|default| stream_config(Some(default))).transpose()?,
        stream_cipher: None,
        create_stream_on_append: config.create_stream_on_append,
        create_stream_on_read: config.create_stream_on_read,
    })
}

/// A change of a stream's configuration: the fields of `config` that `mask` names. One that is not there is reset. Without
/// a mask, those that are there.
///
/// # Errors
/// 422 `invalid` when a value is out of range or a path names nothing.
pub fn stream_change(
    config: Option<&v1alpha::StreamConfig>,
    mask: Option<&[String]>,
) -> Result<StreamReconfiguration, ApiError> {
    let config = stream_config(config)?;
    let Some(paths) = mask.filter(|paths| !paths.is_empty()) else { return Ok(present(config)) };
    let mut change = StreamReconfiguration::default();
    for path in paths {
        mask_stream(&mut change, &config, path, path)?;
    }
    Ok(change)
}

/// The same of a basin's.
///
/// # Errors
/// As [`stream_change`].
pub fn basin_change(
    config: Option<&v1alpha::BasinConfig>,
    mask: Option<&[String]>,
) -> Result<BasinReconfiguration, ApiError> {
    let BasinConfig { default_stream_config, create_stream_on_append, create_stream_on_read, stream_cipher: _ } =
        basin_config(config)?;
    let Some(paths) = mask.filter(|paths| !paths.is_empty()) else {
        return Ok(BasinReconfiguration {
            default_stream_config: default_stream_config.map_or(Patch::Keep, |default| Patch::Set(present(default))),
            create_stream_on_append: create_stream_on_append.then_some(true),
            create_stream_on_read: create_stream_on_read.then_some(true),
            stream_cipher: Patch::Keep,
        });
    };
    let default = default_stream_config.clone().unwrap_or_default();
    let mut change = BasinReconfiguration::default();
    for path in paths {
        match (path.as_str(), path.strip_prefix("default_stream_config.")) {
            ("default_stream_config", _) if default_stream_config.is_none() => {
                change.default_stream_config = Patch::Clear;
            }
            ("default_stream_config", _) => {
                let mut whole = StreamReconfiguration::default();
                for field in ["storage_class", "retention_policy", "timestamping", "delete_on_empty"] {
                    mask_stream(&mut whole, &default, field, path)?;
                }
                change.default_stream_config = Patch::Set(whole);
            }
            ("create_stream_on_append", _) => change.create_stream_on_append = Some(create_stream_on_append),
            ("create_stream_on_read", _) => change.create_stream_on_read = Some(create_stream_on_read),
            (_, Some(field)) => {
                let mut inner = match change.default_stream_config {
                    Patch::Set(inner) => inner,
                    Patch::Keep | Patch::Clear => StreamReconfiguration::default(),
                };
                mask_stream(&mut inner, &default, field, path)?;
                change.default_stream_config = Patch::Set(inner);
            }
            (_, None) => return Err(no_such_path(path)),
        }
    }
    Ok(change)
}

/// A stream's configuration as clients see it.
#[must_use]
pub fn shown_stream_config(config: &StreamConfig) -> v1alpha::StreamConfig {
    let StreamConfig {
        storage_class,
        retention,
        timestamping_mode,
        timestamping_uncapped,
        delete_on_empty_min_age_secs,
    } = config;
    v1alpha::StreamConfig {
        storage_class: match storage_class.as_deref() {
            Some("standard") => v1alpha::StorageClass::Standard,
            Some("express") => v1alpha::StorageClass::Express,
            Some(_) | None => v1alpha::StorageClass::Unspecified,
        }
        .into(),
        retention_policy: retention.map(|retention| match retention {
            RetentionPolicy::AgeSecs(secs) => Retention::Age(secs),
            RetentionPolicy::Infinite => Retention::Infinite(InfiniteRetention {}),
        }),
        // Also when nothing is set: S2's Go client looks into it unseen.
        timestamping: Some(Timestamping {
            mode: shown_mode(*timestamping_mode).into(),
            uncapped: *timestamping_uncapped,
        }),
        delete_on_empty: delete_on_empty_min_age_secs.map(|min_age_secs| DeleteOnEmpty { min_age_secs }),
    }
}

/// A basin's configuration as clients see it.
#[must_use]
pub fn shown_basin_config(config: &BasinConfig) -> v1alpha::BasinConfig {
    v1alpha::BasinConfig {
        default_stream_config: config.default_stream_config.as_ref().map(shown_stream_config),
        create_stream_on_append: config.create_stream_on_append,
        create_stream_on_read: config.create_stream_on_read,
    }
}

/// Takes over the field of `config` that `field` names; `path` is what the client called it.
fn mask_stream(
    change: &mut StreamReconfiguration,
    config: &StreamConfig,
    field: &str,
    path: &str,
) -> Result<(), ApiError> {
    match field {
        "storage_class" => change.storage_class = set_or_clear(config.storage_class.clone()),
        "retention_policy" | "retention_policy.age" | "retention_policy.infinite" | "age" | "infinite" => {
            change.retention = set_or_clear(config.retention);
        }
        "timestamping" => {
            change.timestamping_mode = set_or_clear(config.timestamping_mode);
            change.timestamping_uncapped = set_or_clear(config.timestamping_uncapped);
        }
        "timestamping.mode" => change.timestamping_mode = set_or_clear(config.timestamping_mode),
        "timestamping.uncapped" => change.timestamping_uncapped = set_or_clear(config.timestamping_uncapped),
        "delete_on_empty" | "delete_on_empty.min_age_secs" => {
            change.delete_on_empty_min_age_secs = set_or_clear(config.delete_on_empty_min_age_secs);
        }
        _ => return Err(no_such_path(path)),
    }
    Ok(())
}

fn present(config: StreamConfig) -> StreamReconfiguration {
    fn of<T>(value: Option<T>) -> Patch<T> {
        value.map_or(Patch::Keep, Patch::Set)
    }
    StreamReconfiguration {
        storage_class: of(config.storage_class),
        retention: of(config.retention),
        timestamping_mode: of(config.timestamping_mode),
        timestamping_uncapped: of(config.timestamping_uncapped),
        delete_on_empty_min_age_secs: of(config.delete_on_empty_min_age_secs),
    }
}

fn set_or_clear<T>(value: Option<T>) -> Patch<T> {
    value.map_or(Patch::Clear, Patch::Set)
}

fn no_such_path(path: &str) -> ApiError {
    // A path is the client's own text; one that is long is not shown whole.
    let shown: String = path.chars().take(100).collect();
    invalid(format!("mask: no field `{shown}` can be reconfigured"))
}

fn storage_class(number: i32) -> Result<Option<Arc<str>>, ApiError> {
    match v1alpha::StorageClass::try_from(number) {
        Ok(v1alpha::StorageClass::Unspecified) => Ok(None),
        Ok(v1alpha::StorageClass::Standard) => Ok(Some("standard".into())),
        Ok(v1alpha::StorageClass::Express) => Ok(Some("express".into())),
        Err(_) => Err(invalid(format!("unknown storage class {number}"))),
    }
}

fn mode(number: i32) -> Result<Option<TimestampingMode>, ApiError> {
    match v1alpha::TimestampingMode::try_from(number) {
        Ok(v1alpha::TimestampingMode::Unspecified) => Ok(None),
        Ok(v1alpha::TimestampingMode::ClientPrefer) => Ok(Some(TimestampingMode::ClientPrefer)),
        Ok(v1alpha::TimestampingMode::ClientRequire) => Ok(Some(TimestampingMode::ClientRequire)),
        Ok(v1alpha::TimestampingMode::Arrival) => Ok(Some(TimestampingMode::Arrival)),
        Err(_) => Err(invalid(format!("unknown timestamping mode {number}"))),
    }
}

const fn shown_mode(mode: Option<TimestampingMode>) -> v1alpha::TimestampingMode {
    match mode {
        None => v1alpha::TimestampingMode::Unspecified,
        Some(TimestampingMode::ClientPrefer) => v1alpha::TimestampingMode::ClientPrefer,
        Some(TimestampingMode::ClientRequire) => v1alpha::TimestampingMode::ClientRequire,
        Some(TimestampingMode::Arrival) => v1alpha::TimestampingMode::Arrival,
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
