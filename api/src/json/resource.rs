//! Basins and streams in JSON, one by one and in lists.

use std::sync::Arc;

use model::config::Cipher;
use model::{BasinName, StreamName};

/// A basin as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasinInfo {
    /// Its name.
    pub name: BasinName,
    /// Where it is, if that was said.
    pub location: Option<Arc<str>>,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When its deletion began; then its state is "deleting".
    pub deleted_at_ms: Option<u64>,
}

/// A stream as clients see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamInfo {
    /// Its name.
    pub name: StreamName,
    /// When it was created, in milliseconds since the Unix epoch.
    pub created_at_ms: u64,
    /// When its deletion began.
    pub deleted_at_ms: Option<u64>,
    /// Its cipher.
    pub cipher: Option<Cipher>,
}

/// `BasinInfo`.
#[must_use]
pub fn basin_info(basin: &BasinInfo) -> String {
    todo!("{basin:?}")
}

/// `StreamInfo`.
#[must_use]
pub fn stream_info(stream: &StreamInfo) -> String {
    todo!("{stream:?}")
}

/// `{"basins":[…],"has_more":…}`
#[must_use]
pub fn basin_list(basins: &[BasinInfo], has_more: bool) -> String {
    todo!("{basins:?} {has_more}")
}

/// `{"streams":[…],"has_more":…}`
#[must_use]
pub fn stream_list(streams: &[StreamInfo], has_more: bool) -> String {
    todo!("{streams:?} {has_more}")
}
