//! Errors as clients see them: code, HTTP status and body (s2-wire.md 1.9).
//!
//! The pairs of code and status are fixed: clients trust a code only beside its own status.

use model::{Failure, FencingToken, Position, Rejected, Unavailable};

use crate::json::text::Json;

/// Every error code of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// 404
    AccessTokenNotFound,
    /// 401
    Authn,
    /// 400
    BadFrame,
    /// 400
    BadHeader,
    /// 400
    BadJson,
    /// 400
    BadPath,
    /// 400
    BadProto,
    /// 400
    BadQuery,
    /// 409
    BasinDeletionPending,
    /// 404
    BasinNotFound,
    /// 499
    ClientHangup,
    /// 400
    DecryptionFailed,
    /// 502; promises that nothing happened.
    HotServer,
    /// 422
    Invalid,
    /// 501
    NotImplemented,
    /// 500; promises nothing.
    Other,
    /// 403
    PermissionDenied,
    /// 403
    QuotaExhausted,
    /// 429; promises that nothing happened.
    RateLimited,
    /// 408; promises nothing.
    RequestTimeout,
    /// 409
    ResourceAlreadyExists,
    /// 503; promises that nothing happened.
    ServerDraining,
    /// 500; promises nothing.
    Storage,
    /// 409
    StreamDeletionPending,
    /// 404
    StreamNotFound,
    /// 409; promises that nothing happened.
    TransactionConflict,
    /// 503; promises nothing.
    Unavailable,
    /// 504; promises nothing.
    UpstreamTimeout,
}

impl Code {
    /// The code as it stands in a body, with its HTTP status.
    const fn row(self) -> (&'static str, u16) {
        match self {
            Self::AccessTokenNotFound => ("access_token_not_found", 404),
            Self::Authn => ("authn", 401),
            Self::BadFrame => ("bad_frame", 400),
            Self::BadHeader => ("bad_header", 400),
            Self::BadJson => ("bad_json", 400),
            Self::BadPath => ("bad_path", 400),
            Self::BadProto => ("bad_proto", 400),
            Self::BadQuery => ("bad_query", 400),
            Self::BasinDeletionPending => ("basin_deletion_pending", 409),
            Self::BasinNotFound => ("basin_not_found", 404),
            Self::ClientHangup => ("client_hangup", 499),
            Self::DecryptionFailed => ("decryption_failed", 400),
            Self::HotServer => ("hot_server", 502),
            Self::Invalid => ("invalid", 422),
            Self::NotImplemented => ("not_implemented", 501),
            Self::Other => ("other", 500),
            Self::PermissionDenied => ("permission_denied", 403),
            Self::QuotaExhausted => ("quota_exhausted", 403),
            Self::RateLimited => ("rate_limited", 429),
            Self::RequestTimeout => ("request_timeout", 408),
            Self::ResourceAlreadyExists => ("resource_already_exists", 409),
            Self::ServerDraining => ("server_draining", 503),
            Self::Storage => ("storage", 500),
            Self::StreamDeletionPending => ("stream_deletion_pending", 409),
            Self::StreamNotFound => ("stream_not_found", 404),
            Self::TransactionConflict => ("transaction_conflict", 409),
            Self::Unavailable => ("unavailable", 503),
            Self::UpstreamTimeout => ("upstream_timeout", 504),
        }
    }

    /// The code as it stands in a body.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        self.row().0
    }

    /// Its HTTP status.
    #[must_use]
    pub const fn status(self) -> u16 {
        self.row().1
    }
}

/// What an error's body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorBody {
    /// `{"code":…,"message":…}`
    Coded(Code, String),
    /// 412 `{"fencing_token_mismatch":…}`, with the token in force.
    FencingTokenMismatch(FencingToken),
    /// 412 `{"seq_num_mismatch":…}`, with the number the next record gets.
    SeqNumMismatch(u64),
    /// 416 `{"tail":…}`
    Unwritten(Position),
}

/// An error answer: the same for unary requests, terminal frames and SSE error events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// What the body says; the status follows from it.
    pub body: ErrorBody,
    /// For the `retry-after-ms` header.
    pub retry_after_ms: Option<u32>,
}

impl ApiError {
    /// An error with a code and a text.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        ErrorBody::Coded(code, message.into()).into()
    }

    /// The HTTP status.
    #[must_use]
    pub const fn status(&self) -> u16 {
        match &self.body {
            ErrorBody::Coded(code, _) => code.status(),
            ErrorBody::FencingTokenMismatch(_) | ErrorBody::SeqNumMismatch(_) => 412,
            ErrorBody::Unwritten(_) => 416,
        }
    }

    /// The code, which 412 and 416 do not have.
    #[must_use]
    pub const fn code(&self) -> Option<Code> {
        match &self.body {
            ErrorBody::Coded(code, _) => Some(*code),
            ErrorBody::FencingTokenMismatch(_) | ErrorBody::SeqNumMismatch(_) | ErrorBody::Unwritten(_) => None,
        }
    }

    /// A word for logs and metrics: the code, or what stands for it at 412 and 416.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match &self.body {
            ErrorBody::Coded(code, _) => code.as_str(),
            ErrorBody::FencingTokenMismatch(_) => "fencing_token_mismatch",
            ErrorBody::SeqNumMismatch(_) => "seq_num_mismatch",
            ErrorBody::Unwritten(_) => "unwritten",
        }
    }

    /// The body, `application/json` whatever the request asked for.
    #[must_use]
    pub fn body_json(&self) -> String {
        let mut json = Json::new();
        match &self.body {
            ErrorBody::Coded(code, message) => {
                json.raw(r#"{"code":""#).raw(code.as_str()).raw(r#"","message":"#).string(message);
            }
            ErrorBody::FencingTokenMismatch(token) => {
                json.raw(r#"{"fencing_token_mismatch":"#).string(token.as_str());
            }
            ErrorBody::SeqNumMismatch(next) => {
                json.raw(r#"{"seq_num_mismatch":"#).number(*next);
            }
            ErrorBody::Unwritten(tail) => {
                json.raw(r#"{"tail":"#).position(*tail);
            }
        }
        json.raw("}");
        json.into_string()
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.status(), self.body_json())
    }
}

impl std::error::Error for ApiError {}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        Self { body, retry_after_ms: None }
    }
}

impl From<model::InvalidBatch> for ApiError {
    fn from(invalid: model::InvalidBatch) -> Self {
        Self::new(Code::Invalid, invalid.0)
    }
}

impl From<Failure> for ApiError {
    fn from(failure: Failure) -> Self {
        let message = failure.to_string();
        match failure {
            Failure::Rejected(rejected) => rejected.into(),
            Failure::Unavailable(unavailable) => unavailable.into(),
            Failure::Corrupt(_) => Self::new(Code::Storage, message),
        }
    }
}

impl From<Rejected> for ApiError {
    fn from(rejected: Rejected) -> Self {
        let message = rejected.to_string();
        let code = match rejected {
            Rejected::BasinNotFound(_) => Code::BasinNotFound,
            Rejected::StreamNotFound(..) => Code::StreamNotFound,
            Rejected::BasinExists(_) | Rejected::StreamExists(..) | Rejected::TokenExists(_) => {
                Code::ResourceAlreadyExists
            }
            Rejected::TokenNotFound(_) => Code::AccessTokenNotFound,
            Rejected::TooManyTokens => Code::QuotaExhausted,
            Rejected::BasinDeleting(_) => Code::BasinDeletionPending,
            Rejected::StreamDeleting(..) => Code::StreamDeletionPending,
            Rejected::FencingTokenMismatch(token) => return ErrorBody::FencingTokenMismatch(token).into(),
            Rejected::SeqNumMismatch(next) => return ErrorBody::SeqNumMismatch(next).into(),
            Rejected::Unwritten(tail) => return ErrorBody::Unwritten(tail).into(),
            Rejected::Invalid(_) => Code::Invalid,
        };
        Self::new(code, message)
    }
}

impl From<Unavailable> for ApiError {
    fn from(unavailable: Unavailable) -> Self {
        let message = unavailable.to_string();
        let (code, retry_after_ms) = match unavailable {
            Unavailable::Busy { retry_after_ms } => (Code::RateLimited, Some(retry_after_ms)),
            Unavailable::LogFull => (Code::HotServer, None),
            Unavailable::Draining => (Code::ServerDraining, None),
            // A poisoned session has already shown its client the failure that poisoned it, so this one is never
            // sent; if it were, the code that promises nothing is the safe one.
            Unavailable::Storage | Unavailable::SessionPoisoned => (Code::Storage, None),
            Unavailable::Conflict => (Code::TransactionConflict, None),
        };
        Self { retry_after_ms, ..Self::new(code, message) }
    }
}

#[cfg(test)]
mod tests {
    use model::{BasinName, Outcome, StreamName};

    use super::*;

    #[test]
    fn every_failure_has_its_code_and_body() {
        let basin = BasinName::try_from("my-basin").expect("valid");
        let stream = StreamName::try_from("a\"b").expect("valid");
        let token = FencingToken::try_from("me").expect("valid");
        let tail = Position { seq_num: 3, timestamp: 9 };
        let rows: [(Failure, u16, &str); 10] = [
            (
                Rejected::BasinNotFound(basin.clone()).into(),
                404,
                r#"{"code":"basin_not_found","message":"basin `my-basin` not found"}"#,
            ),
            (
                Rejected::StreamNotFound(basin.clone(), stream).into(),
                404,
                r#"{"code":"stream_not_found","message":"stream `a\"b` in basin `my-basin` not found"}"#,
            ),
            (
                Rejected::BasinExists(basin.clone()).into(),
                409,
                r#"{"code":"resource_already_exists","message":"basin `my-basin` already exists"}"#,
            ),
            (
                Rejected::BasinDeleting(basin).into(),
                409,
                r#"{"code":"basin_deletion_pending","message":"basin `my-basin` is being deleted"}"#,
            ),
            (Rejected::FencingTokenMismatch(token).into(), 412, r#"{"fencing_token_mismatch":"me"}"#),
            (Rejected::SeqNumMismatch(3).into(), 412, r#"{"seq_num_mismatch":3}"#),
            (Rejected::Unwritten(tail).into(), 416, r#"{"tail":{"seq_num":3,"timestamp":9}}"#),
            (Rejected::Invalid("why".into()).into(), 422, r#"{"code":"invalid","message":"why"}"#),
            (
                Unavailable::Conflict.into(),
                409,
                r#"{"code":"transaction_conflict","message":"transaction conflict occurred"}"#,
            ),
            (
                Unavailable::Draining.into(),
                503,
                r#"{"code":"server_draining","message":"the server is draining, connect again"}"#,
            ),
        ];
        for (failure, status, body) in rows {
            let error = ApiError::from(failure);
            assert_eq!((error.status(), error.body_json().as_str()), (status, body));
        }
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let error = ApiError::from(Unavailable::Busy { retry_after_ms: 20 });
        assert_eq!((error.status(), error.retry_after_ms), (429, Some(20)));
    }

    #[test]
    fn what_may_have_happened_gets_a_code_that_promises_nothing() {
        let all = [Unavailable::LogFull, Unavailable::Draining, Unavailable::Storage, Unavailable::Conflict];
        for unavailable in all {
            let unknown = unavailable.outcome() == Outcome::Unknown;
            assert_eq!(ApiError::from(unavailable).code() == Some(Code::Storage), unknown);
        }
    }
}
