//! Calls that end with a status other than OK, and how a status is sent.

use api::ApiError;
use api::grpc::status::{Status, StatusCode};
use http::{HeaderMap, HeaderName, HeaderValue};
use model::Failure;

use super::begun;
use crate::http::answer::Answer;
use crate::http::payload::Kind;

/// Why a call is refused.
#[derive(Debug)]
pub(crate) struct Refused {
    /// What the client is told.
    pub(crate) status: Status,
    /// What REST would say, for the metrics.
    pub(crate) http_status: u16,
}

impl From<ApiError> for Refused {
    fn from(error: ApiError) -> Self {
        Self { status: Status::from(&error), http_status: error.status() }
    }
}

impl From<Failure> for Refused {
    fn from(failure: Failure) -> Self {
        ApiError::from(failure).into()
    }
}

impl Refused {
    /// The time that the client gave is over.
    #[must_use]
    pub(crate) fn too_late(may_have_happened: bool) -> Self {
        let message = if may_have_happened {
            "the deadline has passed: what was asked for may or may not have happened"
        } else {
            "the deadline has passed"
        };
        Self { status: Status::new(StatusCode::DeadlineExceeded, "request_timeout", message), http_status: 408 }
    }

    /// There is no such method.
    #[must_use]
    pub(crate) fn no_such_method(path: &str) -> Self {
        let path: String = path.chars().take(200).collect();
        let status = Status::new(StatusCode::Unimplemented, "not_implemented", format!("no such method: {path}"));
        Self { status, http_status: 404 }
    }

    /// An answer that has nothing but the status.
    #[must_use]
    pub(crate) fn answer(&self) -> Answer {
        let mut answer = begun(Kind::Empty);
        put(&self.status, answer.headers_mut());
        answer
    }
}

/// The trailers of a call that ends so.
#[must_use]
pub(crate) fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(4);
    put(status, &mut trailers);
    trailers
}

fn put(status: &Status, headers: &mut HeaderMap) {
    headers.insert(GRPC_STATUS, HeaderValue::from(status.code as u16));
    if status.code == StatusCode::Ok {
        return;
    }
    let text = |text: String| HeaderValue::try_from(text).expect("percent-encoded or base64");
    headers.insert(GRPC_MESSAGE, text(status.message_header()));
    if let Some(details) = status.details_header() {
        headers.insert(GRPC_STATUS_DETAILS, text(details));
    }
    if let Some(ms) = status.retry_after_ms {
        headers.insert(RETRY_AFTER_MS, ms.into());
    }
}

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_STATUS_DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

#[cfg(test)]
mod tests {
    use api::Code;

    use super::*;

    #[test]
    fn a_status_is_in_the_trailers() {
        assert_eq!(trailers(&Status::OK).len(), 1);
        let error = ApiError { retry_after_ms: Some(7), ..ApiError::new(Code::RateLimited, "later\u{1F4A4}") };
        let refused = Refused::from(error);
        assert_eq!(refused.http_status, 429);
        let trailers = trailers(&refused.status);
        assert_eq!(trailers["grpc-status"], "8");
        assert_eq!(trailers["grpc-message"], "later%F0%9F%92%A4");
        assert_eq!(trailers["retry-after-ms"], "7");
        assert!(trailers.contains_key("grpc-status-details-bin"));
    }
}
