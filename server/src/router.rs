//! Which basin a request means, and where its stream lives: name -> slot -> group -> shard.

use std::sync::Arc;

use api::{ApiError, Code};
use engine::driver::BasinDirectory;
use engine::event::{BasinInfo, StreamSpec, Target};
use http::HeaderMap;
use model::placement::Placement;
use model::{BasinName, Rejected, ShardId, StreamConfig, StreamName};

/// Looks up basins and places streams.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    basins: Arc<BasinDirectory>,
    placement: Placement,
}

/// Where basins are created, changed and deleted.
pub(crate) const METADATA_SHARD: ShardId = ShardId(0);

impl Router {
    /// A router over the committed basins.
    #[must_use]
    pub(crate) const fn new(basins: Arc<BasinDirectory>, placement: Placement) -> Self {
        Self { basins, placement }
    }

    /// The committed basins.
    #[must_use]
    pub(crate) fn basins(&self) -> &BasinDirectory {
        &self.basins
    }

    /// All shards.
    pub(crate) fn shards(&self) -> impl Iterator<Item = ShardId> + use<> {
        (0..self.placement.shards_count).map(ShardId)
    }

    /// The basin that a request to a stream route means: the `s2-basin` header, or the first label of the host.
    ///
    /// # Errors
    /// 400 `bad_header`.
    pub(crate) fn basin_name(headers: &HeaderMap, authority: Option<&str>) -> Result<BasinName, ApiError> {
        let name = match headers.get("s2-basin") {
            Some(value) => value.to_str().map_err(|_| bad_basin_header("not ASCII"))?.trim(),
            None => basin_of_host(headers, authority)
                .ok_or_else(|| ApiError::new(Code::BadHeader, "Missing header `s2-basin`"))?,
        };
        BasinName::try_from(name).map_err(|e| bad_basin_header(e.0))
    }

    /// A basin by name.
    ///
    /// # Errors
    /// 404 `basin_not_found`.
    pub(crate) fn basin_named(&self, name: &BasinName) -> Result<Arc<BasinInfo>, ApiError> {
        self.basins.get(name).ok_or_else(|| Rejected::BasinNotFound(name.clone()).into())
    }

    /// Where a stream lives.
    #[must_use]
    pub(crate) fn target(&self, basin: &BasinInfo, stream: StreamName) -> (ShardId, Target) {
        let group = self.placement.group(Placement::slot(&basin.name, &stream));
        let target = Target { group, basin_id: basin.id, basin: basin.name.clone(), stream, incarnation: None };
        (self.placement.shard(group), target)
    }
}

/// How a stream of this basin is created, if nothing more is said than `config`.
#[must_use]
pub(crate) fn stream_spec(basin: &BasinInfo, config: &StreamConfig) -> StreamSpec {
    let config = match &basin.config.default_stream_config {
        Some(defaults) => config.resolve(defaults),
        None => config.resolve(&StreamConfig::default()),
    };
    StreamSpec { config: Arc::new(config), cipher: basin.config.stream_cipher }
}

/// Refuses what may not be done in a basin that is being deleted.
///
/// # Errors
/// 409 `basin_deletion_pending`.
pub(crate) fn not_deleting(basin: &BasinInfo) -> Result<(), ApiError> {
    match basin.deleted_at_ms {
        None => Ok(()),
        Some(_) => Err(Rejected::BasinDeleting(basin.name.clone()).into()),
    }
}

fn bad_basin_header(why: &str) -> ApiError {
    ApiError::new(Code::BadHeader, format!("Invalid header `s2-basin`: {why}"))
}

/// The first DNS label of a host such as `my-basin.streams.example:8080`; nothing for `localhost` and addresses.
fn basin_of_host<'a>(headers: &'a HeaderMap, authority: Option<&'a str>) -> Option<&'a str> {
    let host = match authority {
        Some(authority) => authority,
        None => headers.get(http::header::HOST)?.to_str().ok()?,
    };
    if host.starts_with('[') {
        return None;
    }
    let host = host.split(':').next()?;
    let (first, rest) = host.split_once('.')?;
    let is_address = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    (!is_address && !rest.is_empty()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_host_with_a_domain_names_a_basin() {
        for (host, basin) in [
            ("my-basin.b.example.org", Some("my-basin")),
            ("my-basin.localhost:8080", Some("my-basin")),
            ("localhost:8080", None),
            ("127.0.0.1:8080", None),
            ("[::1]:8080", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(http::header::HOST, host.parse().expect("a header value"));
            assert_eq!(basin_of_host(&headers, None), basin, "{host}");
        }
    }
}
