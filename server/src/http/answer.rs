//! Answers as hyper takes them. Few headers: most requests are small.

use api::ApiError;
use api::compression::Compressor;
use api::negotiate;
use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};

use super::payload::{Kind, Payload};

/// An answer.
pub(crate) type Answer = Response<Payload>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");
/// What browsers may read beside the simple headers.
const EXPOSED: HeaderValue = HeaderValue::from_static("s2-provision-result, retry-after-ms, content-encoding");
/// How long browsers may remember a preflight, in seconds.
const PREFLIGHT_SECS: HeaderValue = HeaderValue::from_static("3600");

/// `status` with a body.
#[must_use]
pub(crate) fn full(status: StatusCode, content_type: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Payload::new(Kind::Full(body.into())));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// `status` with a JSON body.
#[must_use]
pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    full(status, "application/json", body)
}

/// `status` with no body; `content-length: 0` where the status allows one.
#[must_use]
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Payload::new(Kind::Empty));
    *answer.status_mut() = status;
    answer
}

/// 200 and a body that goes on.
#[must_use]
pub(crate) fn streaming(content_type: &'static str, kind: Kind) -> Answer {
    let mut answer = Response::new(Payload::new(kind));
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, no-transform"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    answer
}

/// An error, always in JSON.
#[must_use]
pub(crate) fn error(error: &ApiError) -> Answer {
    let mut answer = Response::new(Payload::new(Kind::Full(error.body_json().into())));
    *answer.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    answer.headers_mut().insert(CONTENT_TYPE, JSON);
    if let Some(ms) = error.retry_after_ms {
        answer.headers_mut().insert(RETRY_AFTER_MS, ms.into());
    }
    answer
}

/// 404 for a path that is none of ours.
#[must_use]
pub(crate) fn no_such_route() -> Answer {
    json(StatusCode::NOT_FOUND, r#"{"code":"not_found","message":"no such route"}"#)
}

/// 405, with what is allowed.
#[must_use]
pub(crate) fn method_not_allowed(allow: &'static str) -> Answer {
    let body = format!(r#"{{"code":"method_not_allowed","message":"this route answers {allow}"}}"#);
    let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, body);
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
    answer
}

/// A header's value as text; what is not ASCII counts as absent.
#[must_use]
pub(crate) fn header(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Compresses a large whole body as the client likes it.
#[must_use]
pub(crate) fn compressed(mut answer: Answer, accept_encoding: Option<&str>) -> Answer {
    let Kind::Full(body) = answer.body().kind() else { return answer };
    let compression = negotiate::unary_compression(accept_encoding, body.len());
    let Some(coding) = compression.as_str() else { return answer };
    let Some(small) = Compressor::new(compression).compress(&[body]) else { return answer };
    answer = answer.map(|payload| payload.with(Kind::Full(small.into())));
    answer.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static(coding));
    answer.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    answer
}

/// Lets a page of `origin` read the answer.
pub(crate) fn allow_origin(answer: &mut Answer, origin: HeaderValue) {
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    headers.append(VARY, HeaderValue::from_static("origin"));
}

/// Answers a preflight: whatever is asked for is allowed. `None` when `request` is none.
#[must_use]
pub(crate) fn preflight(request: &HeaderMap) -> Option<Answer> {
    let method = request.get(ACCESS_CONTROL_REQUEST_METHOD)?;
    let mut answer = empty(StatusCode::OK);
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, method.clone());
    if let Some(wanted) = request.get(ACCESS_CONTROL_REQUEST_HEADERS) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, PREFLIGHT_SECS);
    Some(answer)
}
