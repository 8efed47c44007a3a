//! Configurations in JSON, and the control-plane requests that carry them.

use std::sync::Arc;

use model::config::{BasinReconfiguration, StreamReconfiguration};
use model::{BasinConfig, BasinName, ResolvedStreamConfig, StreamConfig, StreamName};

use crate::status::ApiError;

/// POST `/basins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateBasin {
    /// Its name.
    pub basin: BasinName,
    /// What was set; the rest is default.
    pub config: BasinConfig,
    /// Where it shall be.
    pub location: Option<Arc<str>>,
}

/// PUT `/basins/{basin}`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EnsureBasin {
    /// What was set; the rest is default.
    pub config: BasinConfig,
    /// Where it shall be.
    pub location: Option<Arc<str>>,
}

/// POST `/streams`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateStream {
    /// Its name.
    pub stream: StreamName,
    /// What was set.
    pub config: StreamConfig,
}

/// Decodes POST `/basins`.
///
/// # Errors
/// 400 `bad_json`, or 422 `invalid` when a value is out of range.
pub fn parse_create_basin(body: &[u8]) -> Result<CreateBasin, ApiError> {
    todo!("{body:?}")
}

/// Decodes PUT `/basins/{basin}`; an empty body and `null` stand for nothing set.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_ensure_basin(body: &[u8]) -> Result<EnsureBasin, ApiError> {
    todo!("{body:?}")
}

/// Decodes POST `/streams`.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_create_stream(body: &[u8]) -> Result<CreateStream, ApiError> {
    todo!("{body:?}")
}

/// Decodes PUT `/streams/{stream}`, a `StreamConfig`; an empty body and `null` stand for nothing set.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_ensure_stream(body: &[u8]) -> Result<StreamConfig, ApiError> {
    todo!("{body:?}")
}

/// Decodes PATCH `/basins/{basin}`.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_basin_reconfiguration(body: &[u8]) -> Result<BasinReconfiguration, ApiError> {
    todo!("{body:?}")
}

/// Decodes PATCH `/streams/{stream}`.
///
/// # Errors
/// As [`parse_create_basin`].
pub fn parse_stream_reconfiguration(body: &[u8]) -> Result<StreamReconfiguration, ApiError> {
    todo!("{body:?}")
}

/// Decodes the `s2-stream-config` header.
///
/// # Errors
/// 400 `bad_header`, whatever is wrong with it.
pub fn stream_config_header(header: &str) -> Result<StreamConfig, ApiError> {
    todo!("{header}")
}

/// `StreamConfig`; what is not set is null.
#[must_use]
pub fn stream_config(config: &StreamConfig) -> String {
    todo!("{config:?}")
}

/// `StreamConfig` with everything set.
#[must_use]
pub fn resolved_stream_config(config: &ResolvedStreamConfig) -> String {
    stream_config(&config.to_config())
}

/// `BasinConfig`.
#[must_use]
pub fn basin_config(config: &BasinConfig) -> String {
    todo!("{config:?}")
}
