//! Paths of the API and what may be asked of them (s2-wire.md 1.2). Segments stay percent-encoded until a handler
//! decodes its own, so that `%2F` stays inside a stream name.

use std::borrow::Cow;

use api::{ApiError, Code};
use http::Method;
use percent_encoding::percent_decode_str;

/// A path that is served. The segments are percent-encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route<'a> {
    /// `/health`, `/ping`
    Health,
    /// `/metrics`
    Scrape,
    /// `/openapi.json`
    OpenApi,
    /// `/v1/basins`
    Basins,
    /// `/v1/basins/{basin}`
    Basin(&'a str),
    /// `/v1/streams`
    Streams,
    /// `/v1/streams/{stream}`
    Stream(&'a str),
    /// `/v1/streams/{stream}/records`
    Records(&'a str),
    /// `/v1/streams/{stream}/records/tail`
    Tail(&'a str),
    /// `/v1/streams/{stream}/lease`
    Lease(&'a str),
    /// `/v1/access-tokens`
    AccessTokens,
    /// `/v1/access-tokens/{id}`
    AccessToken(&'a str),
    /// `/v1/metrics`, `/v1/metrics/{basin}`, `/v1/metrics/{basin}/{stream}`
    Usage(Option<&'a str>, Option<&'a str>),
    /// `/v1/locations`
    Locations,
    /// `/v1/locations/default`
    DefaultLocation,
    /// `/v1/{basin}/{stream}`: the call of S2's first public page
    FirstForm(&'a str, &'a str),
}

/// The routes as the metrics name them, the one for unknown paths among them. Records are told apart by method and kind.
pub(crate) const ROUTE_NAMES: [&str; 20] = [
    "health",
    "metrics",
    "basins",
    "basin",
    "streams",
    "stream",
    "append",
    "read",
    "tail",
    "access_tokens",
    "access_token",
    "usage",
    "locations",
    "default_location",
    "append_session",
    "read_session",
    "unknown",
    "lease",
    "openapi",
    "grpc_other",
];

/// Row of the metrics for an append session.
pub(crate) const APPEND_SESSION_ROW: usize = 14;
/// Row of the metrics for a read or SSE session.
pub(crate) const READ_SESSION_ROW: usize = 15;
/// Row of the metrics for what gRPC has beside the API: health, reflection, unknown methods.
pub(crate) const GRPC_OTHER_ROW: usize = 19;
/// Row of the metrics for unknown paths.
pub(crate) const UNKNOWN_ROW: usize = 16;

impl<'a> Route<'a> {
    /// The route of a path.
    #[must_use]
    pub(crate) fn parse(path: &'a str) -> Option<Self> {
        match path {
            "/health" | "/ping" => return Some(Self::Health),
            "/metrics" => return Some(Self::Scrape),
            "/openapi.json" => return Some(Self::OpenApi),
            _ => {}
        }
        let mut segments = path.strip_prefix("/v1/")?.split('/');
        let first = segments.next()?;
        let rest = [segments.next(), segments.next(), segments.next(), segments.next()];
        match (first, rest) {
            ("streams", [Some(stream), Some("records"), None, None]) => Some(Self::Records(stream)),
            ("streams", [Some(stream), Some("records"), Some("tail"), None]) => Some(Self::Tail(stream)),
            ("streams", [Some(stream), Some("lease"), None, None]) => Some(Self::Lease(stream)),
            ("streams", [Some(stream), None, None, None]) => Some(Self::Stream(stream)),
            ("streams", [None, None, None, None]) => Some(Self::Streams),
            ("basins", [None, None, None, None]) => Some(Self::Basins),
            ("basins", [Some(basin), None, None, None]) => Some(Self::Basin(basin)),
            ("access-tokens", [None, None, None, None]) => Some(Self::AccessTokens),
            ("access-tokens", [Some(id), None, None, None]) => Some(Self::AccessToken(id)),
            ("metrics", [basin, stream, None, None]) => Some(Self::Usage(basin, stream)),
            ("locations", [None, None, None, None]) => Some(Self::Locations),
            ("locations", [Some("default"), None, None, None]) => Some(Self::DefaultLocation),
            ("basins" | "streams" | "metrics" | "access-tokens" | "locations", _) => None,
            (basin, [Some(stream), None, None, None]) => Some(Self::FirstForm(basin, stream)),
            _ => None,
        }
    }

    /// The methods it answers, as the `allow` header lists them.
    #[must_use]
    pub(crate) const fn allow(&self) -> &'static str {
        match self {
            Self::Health | Self::Scrape | Self::OpenApi => "GET",
            Self::Tail(_) | Self::Usage(..) | Self::Locations => "GET",
            Self::Basins | Self::Streams | Self::Records(_) | Self::AccessTokens => "GET, POST",
            Self::Basin(_) | Self::Stream(_) => "GET, PUT, PATCH, DELETE",
            Self::Lease(_) => "GET, POST, PUT, DELETE",
            Self::AccessToken(_) => "DELETE",
            Self::DefaultLocation => "GET, PUT",
            Self::FirstForm(..) => "POST",
        }
    }

    /// Every route once, with the names of its segments in braces. A new one must name the one behind it.
    pub(crate) fn all() -> impl Iterator<Item = Route<'static>> {
        std::iter::successors(Some(Route::Health), Route::following)
    }

    fn following(&self) -> Option<Route<'static>> {
        Some(match self {
            Self::Health => Route::Scrape,
            Self::Scrape => Route::OpenApi,
            Self::OpenApi => Route::Basins,
            Self::Basins => Route::Basin("{basin}"),
            Self::Basin(_) => Route::Streams,
            Self::Streams => Route::Stream("{stream}"),
            Self::Stream(_) => Route::Records("{stream}"),
            Self::Records(_) => Route::Tail("{stream}"),
            Self::Tail(_) => Route::Lease("{stream}"),
            Self::Lease(_) => Route::AccessTokens,
            Self::AccessTokens => Route::AccessToken("{id}"),
            Self::AccessToken(_) => Route::Usage(None, None),
            Self::Usage(None, _) => Route::Usage(Some("{basin}"), None),
            Self::Usage(Some(_), None) => Route::Usage(Some("{basin}"), Some("{stream}")),
            Self::Usage(Some(_), Some(_)) => Route::Locations,
            Self::Locations => Route::DefaultLocation,
            Self::DefaultLocation => Route::FirstForm("{basin}", "{stream}"),
            Self::FirstForm(..) => return None,
        })
    }

    /// Its row in the metrics.
    #[must_use]
    pub(crate) fn metrics_row(&self, method: &Method) -> usize {
        match self {
            Self::Health => 0,
            Self::Scrape => 1,
            Self::Basins => 2,
            Self::Basin(_) => 3,
            Self::Streams => 4,
            Self::Stream(_) => 5,
            Self::FirstForm(..) => 6,
            Self::Records(_) if method == Method::POST => 6,
            Self::Records(_) => 7,
            Self::Tail(_) => 8,
            Self::AccessTokens => 9,
            Self::AccessToken(_) => 10,
            Self::Usage(..) => 11,
            Self::Locations => 12,
            Self::DefaultLocation => 13,
            Self::Lease(_) => 17,
            Self::OpenApi => 18,
        }
    }
}

/// Decodes one segment, once.
///
/// # Errors
/// 400 `bad_path` unless it is UTF-8.
pub(crate) fn decode_segment(segment: &str) -> Result<Cow<'_, str>, ApiError> {
    percent_decode_str(segment)
        .decode_utf8()
        .map_err(|_| ApiError::new(Code::BadPath, "Invalid path: a segment is not valid UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_find_their_route() {
        let rows = [
            ("/ping", Some(Route::Health)),
            ("/metrics", Some(Route::Scrape)),
            ("/v1/basins", Some(Route::Basins)),
            ("/v1/basins/my-basin", Some(Route::Basin("my-basin"))),
            ("/v1/streams/a%2Fb/records", Some(Route::Records("a%2Fb"))),
            ("/v1/streams/records/records/tail", Some(Route::Tail("records"))),
            ("/v1/metrics", Some(Route::Usage(None, None))),
            ("/v1/metrics/my-basin/s", Some(Route::Usage(Some("my-basin"), Some("s")))),
            ("/v1/locations/default", Some(Route::DefaultLocation)),
            ("/v1/locations/other", None),
            ("/v1/my-basin/a%2Fb", Some(Route::FirstForm("my-basin", "a%2Fb"))),
            ("/v1/my-basin/a/b", None),
            ("/v1/my-basin", None),
            ("/v1/streams/a/records/tail/x", None),
            ("/v1/basins/a/b", None),
            ("/v1", None),
            ("/", None),
            ("", None),
        ];
        for (path, route) in rows {
            assert_eq!(Route::parse(path), route, "{path}");
        }
    }

    #[test]
    fn a_segment_is_decoded_once() {
        assert_eq!(decode_segment("a%252Fb%20c").expect("valid"), "a%2Fb c");
        assert_eq!(decode_segment("%ff").expect_err("not UTF-8").status(), 400);
    }

    #[test]
    fn every_row_has_a_name() {
        assert_eq!(ROUTE_NAMES[UNKNOWN_ROW], "unknown");
        assert_eq!(ROUTE_NAMES[APPEND_SESSION_ROW], "append_session");
        assert_eq!(ROUTE_NAMES[GRPC_OTHER_ROW], "grpc_other");
        assert_eq!(ROUTE_NAMES[Route::OpenApi.metrics_row(&Method::GET)], "openapi");
        assert_eq!(ROUTE_NAMES[Route::DefaultLocation.metrics_row(&Method::GET)], "default_location");
        assert_eq!(ROUTE_NAMES[Route::Records("a").metrics_row(&Method::GET)], "read");
    }
}
