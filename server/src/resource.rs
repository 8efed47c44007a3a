//! Basins, streams, access tokens and leases as a caller may see and change them, whatever the request came in: REST and
//! gRPC only say how it looks on the wire.

pub(crate) mod basins;
pub(crate) mod leases;
pub(crate) mod streams;
pub(crate) mod tokens;

use api::{ApiError, Code};
use http::HeaderMap;
use http::HeaderValue;
use model::limits::REQUEST_TOKEN_BYTES_MAX;
use xxhash_rust::xxh3::Xxh3;

use crate::access::Access;
use crate::http::Front;

/// Who asks, and where.
#[derive(Clone, Copy)]
pub(crate) struct Caller<'a> {
    /// The front it came to.
    pub(crate) front: &'a Front,
    /// What it may do.
    pub(crate) access: &'a Access,
}

/// The header or metadata `s2-request-token`.
///
/// # Errors
/// 400 `bad_header`.
pub(crate) fn request_token(headers: &HeaderMap) -> Result<Option<&[u8]>, ApiError> {
    match headers.get("s2-request-token").map(HeaderValue::as_bytes) {
        Some(token) if token.len() > REQUEST_TOKEN_BYTES_MAX => {
            let why = "Invalid header `s2-request-token`: request token must not exceed 36 bytes in length";
            Err(ApiError::new(Code::BadHeader, why))
        }
        token => Ok(token),
    }
}

/// The same token with the same configuration gives the same key. It is stored, so it must never change.
fn request_key(token: &[u8], config: &str) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(token);
    hash.update(&[0]);
    hash.update(config.as_bytes());
    hash.digest()
}
