//! Configurations of basins and streams (s2-wire.md 1.7-1.8).
//!
//! A [`StreamConfig`] says only what somebody set; [`StreamConfig::resolve`] fills in the rest once, when the
//! stream is created, so that later changes of the basin do not touch it.

use std::sync::Arc;

/// How long records are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetentionPolicy {
    /// For this many seconds after they were written; never 0.
    AgeSecs(u64),
    /// Until trimmed.
    Infinite,
}

impl RetentionPolicy {
    /// Seven days.
    pub const DEFAULT: Self = Self::AgeSecs(604_800);
}

/// Where a record's timestamp comes from (s2-wire.md 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampingMode {
    /// The client's if given, else the time of arrival.
    ClientPrefer,
    /// The client's; a batch with a record without one is refused.
    ClientRequire,
    /// The time of arrival, whatever the client says.
    Arrival,
}

/// Storage classes as they are metered. Any other name is served as, and counts as, the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MeteredClass {
    /// The default, `native`, and any name that is not one of the others.
    #[default]
    Native,
    /// `express`
    Express,
    /// `standard`
    Standard,
}

impl MeteredClass {
    /// Of a storage class by its name.
    #[must_use]
    pub fn named(name: Option<&str>) -> Self {
        match name {
            Some("express") => Self::Express,
            Some("standard") => Self::Standard,
            Some(_) | None => Self::Native,
        }
    }
}

/// Ciphers of client-key encryption. Fixed when a stream is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `aegis-256`
    Aegis256,
    /// `aes-256-gcm`
    Aes256Gcm,
}

/// What was set for a stream or as a basin's default; `None` is "not set".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamConfig {
    /// Any name is kept and echoed; unset means the location's default, `native`.
    pub storage_class: Option<Arc<str>>,
    /// How long records are kept.
    pub retention: Option<RetentionPolicy>,
    /// Where timestamps come from.
    pub timestamping_mode: Option<TimestampingMode>,
    /// Whether timestamps may lie in the future.
    pub timestamping_uncapped: Option<bool>,
    /// Delete the stream when it is empty and was not written for this long; 0 is never.
    pub delete_on_empty_min_age_secs: Option<u64>,
}

/// A stream's configuration with nothing left open.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResolvedStreamConfig {
    /// As given; `None` is reported as null (s2-wire.md 1.7).
    pub storage_class: Option<Arc<str>>,
    /// Seconds, or `None` for infinite.
    pub retention_age_secs: Option<u64>,
    /// 0 client-prefer, 1 client-require, 2 arrival: see [`ResolvedStreamConfig::timestamping_mode`].
    mode: u8,
    /// Whether timestamps may lie in the future.
    pub timestamping_uncapped: bool,
    /// 0 is never.
    pub delete_on_empty_min_age_secs: u64,
}

impl ResolvedStreamConfig {
    /// Where timestamps come from.
    #[must_use]
    pub const fn timestamping_mode(&self) -> TimestampingMode {
        match self.mode {
            0 => TimestampingMode::ClientPrefer,
            1 => TimestampingMode::ClientRequire,
            _ => TimestampingMode::Arrival,
        }
    }

    /// The same as a configuration in which everything is set.
    #[must_use]
    pub fn to_config(&self) -> StreamConfig {
        StreamConfig {
            storage_class: self.storage_class.clone(),
            retention: Some(self.retention_age_secs.map_or(RetentionPolicy::Infinite, RetentionPolicy::AgeSecs)),
            timestamping_mode: Some(self.timestamping_mode()),
            timestamping_uncapped: Some(self.timestamping_uncapped),
            delete_on_empty_min_age_secs: Some(self.delete_on_empty_min_age_secs),
        }
    }
}

impl Default for ResolvedStreamConfig {
    fn default() -> Self {
        StreamConfig::default().resolve(&StreamConfig::default())
    }
}

impl StreamConfig {
    /// This over `defaults` over the system's defaults.
    #[must_use]
    pub fn resolve(&self, defaults: &Self) -> ResolvedStreamConfig {
        let both = self.over(defaults);
        ResolvedStreamConfig {
            storage_class: both.storage_class,
            retention_age_secs: match both.retention.unwrap_or(RetentionPolicy::DEFAULT) {
                RetentionPolicy::AgeSecs(secs) => Some(secs),
                RetentionPolicy::Infinite => None,
            },
            mode: match both.timestamping_mode.unwrap_or(TimestampingMode::ClientPrefer) {
                TimestampingMode::ClientPrefer => 0,
                TimestampingMode::ClientRequire => 1,
                TimestampingMode::Arrival => 2,
            },
            timestamping_uncapped: both.timestamping_uncapped.unwrap_or(false),
            delete_on_empty_min_age_secs: both.delete_on_empty_min_age_secs.unwrap_or(0),
        }
    }

    /// This, and where it says nothing, `defaults`.
    #[must_use]
    pub fn over(&self, defaults: &Self) -> Self {
        Self {
            storage_class: self.storage_class.clone().or_else(|| defaults.storage_class.clone()),
            retention: self.retention.or(defaults.retention),
            timestamping_mode: self.timestamping_mode.or(defaults.timestamping_mode),
            timestamping_uncapped: self.timestamping_uncapped.or(defaults.timestamping_uncapped),
            delete_on_empty_min_age_secs: self.delete_on_empty_min_age_secs.or(defaults.delete_on_empty_min_age_secs),
        }
    }
}

/// One field of a PATCH: absent keeps, null clears, a value sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Patch<T> {
    /// The field was not mentioned.
    #[default]
    Keep,
    /// The field was `null`.
    Clear,
    /// The field had a value.
    Set(T),
}

impl<T> Patch<T> {
    /// Applies this to a field.
    pub fn apply(self, field: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *field = None,
            Self::Set(value) => *field = Some(value),
        }
    }
}

/// A PATCH of a stream's configuration, or of a basin's default for streams.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamReconfiguration {
    /// See [`StreamConfig::storage_class`].
    pub storage_class: Patch<Arc<str>>,
    /// Replaced whole.
    pub retention: Patch<RetentionPolicy>,
    /// See [`StreamConfig::timestamping_mode`].
    pub timestamping_mode: Patch<TimestampingMode>,
    /// See [`StreamConfig::timestamping_uncapped`].
    pub timestamping_uncapped: Patch<bool>,
    /// See [`StreamConfig::delete_on_empty_min_age_secs`].
    pub delete_on_empty_min_age_secs: Patch<u64>,
}

impl StreamReconfiguration {
    /// Applies this to what was set before.
    pub fn apply(self, config: &mut StreamConfig) {
        self.storage_class.apply(&mut config.storage_class);
        self.retention.apply(&mut config.retention);
        self.timestamping_mode.apply(&mut config.timestamping_mode);
        self.timestamping_uncapped.apply(&mut config.timestamping_uncapped);
        self.delete_on_empty_min_age_secs.apply(&mut config.delete_on_empty_min_age_secs);
    }
}

/// A basin's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasinConfig {
    /// For streams created in it; `None` when nothing was set.
    pub default_stream_config: Option<StreamConfig>,
    /// Copied to streams when they are created.
    pub stream_cipher: Option<Cipher>,
    /// A missing stream is created by an append.
    pub create_stream_on_append: bool,
    /// A missing stream is created by a read or check-tail.
    pub create_stream_on_read: bool,
}

/// A PATCH of a basin's configuration.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BasinReconfiguration {
    /// Merged into the default, or clears it.
    pub default_stream_config: Patch<StreamReconfiguration>,
    /// Only for streams created afterwards.
    pub stream_cipher: Patch<Cipher>,
    /// `None` keeps.
    pub create_stream_on_append: Option<bool>,
    /// `None` keeps.
    pub create_stream_on_read: Option<bool>,
}

impl BasinReconfiguration {
    /// Applies this to what was set before.
    pub fn apply(self, config: &mut BasinConfig) {
        match self.default_stream_config {
            Patch::Keep => {}
            Patch::Clear => config.default_stream_config = None,
            Patch::Set(change) => change.apply(config.default_stream_config.get_or_insert_default()),
        }
        self.stream_cipher.apply(&mut config.stream_cipher);
        config.create_stream_on_append = self.create_stream_on_append.unwrap_or(config.create_stream_on_append);
        config.create_stream_on_read = self.create_stream_on_read.unwrap_or(config.create_stream_on_read);
    }
}
