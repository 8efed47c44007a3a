//! Errors as clients see them: code, HTTP status and body (s2-wire.md 1.9).
//!
//! The pairs of code and status are fixed: clients trust a code only beside its own status.

use model::{Failure, FencingToken, Position, Rejected, Unavailable};

use serde_json::{Value, json};

use crate::json::text::Json;
use crate::schema::{self, object};

/// The enum, the list of all codes and what belongs to each, out of one table: code in a body, HTTP status, meaning.
macro_rules! codes {
    ($(#[doc = $about:literal] $name:ident = $text:literal, $status:literal;)+) => {
        /// Every error code of the API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $(#[doc = $about] $name),+
        }

        impl Code {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The code as it stands in a body, with its HTTP status and its meaning.
            const fn row(self) -> (&'static str, u16, &'static str) {
                match self {
                    $(Self::$name => ($text, $status, $about)),+
                }
            }
        }
    };
}

codes! {
    /// there is no access token with this id.
    AccessTokenNotFound = "access_token_not_found", 404;
    /// an access token is missing, unknown, revoked or expired.
    Authn = "authn", 401;
    /// a frame of a session is malformed.
    BadFrame = "bad_frame", 400;
    /// a header is missing or malformed.
    BadHeader = "bad_header", 400;
    /// the body is not the JSON it should be, or is too large, or has another content type.
    BadJson = "bad_json", 400;
    /// a name in the path is malformed.
    BadPath = "bad_path", 400;
    /// the body is not the protobuf message it should be, or is too large.
    BadProto = "bad_proto", 400;
    /// a parameter of the query is missing or malformed.
    BadQuery = "bad_query", 400;
    /// the basin is being deleted.
    BasinDeletionPending = "basin_deletion_pending", 409;
    /// there is no basin of this name.
    BasinNotFound = "basin_not_found", 404;
    /// the client went away before the request was whole.
    ClientHangup = "client_hangup", 499;
    /// a record was sealed with another key.
    DecryptionFailed = "decryption_failed", 400;
    /// the log is full; nothing happened, try again later.
    HotServer = "hot_server", 502;
    /// the request is well formed but breaks a rule; the message says which.
    Invalid = "invalid", 422;
    /// this server does not have it.
    NotImplemented = "not_implemented", 501;
    /// something is wrong with the server; what was asked for may have happened.
    Other = "other", 500;
    /// the access token does not permit it.
    PermissionDenied = "permission_denied", 403;
    /// there are as many as there may be.
    QuotaExhausted = "quota_exhausted", 403;
    /// a bound of the server is reached; nothing happened, `retry-after-ms` says when to try again.
    RateLimited = "rate_limited", 429;
    /// the body took too long; what was asked for may have happened.
    RequestTimeout = "request_timeout", 408;
    /// the name is taken.
    ResourceAlreadyExists = "resource_already_exists", 409;
    /// the server is stopping; nothing happened, connect again.
    ServerDraining = "server_draining", 503;
    /// the log failed or cannot be read; what was asked for may have happened.
    Storage = "storage", 500;
    /// the stream is being deleted.
    StreamDeletionPending = "stream_deletion_pending", 409;
    /// there is no stream of this name in the basin.
    StreamNotFound = "stream_not_found", 404;
    /// something else changed at the same time; nothing happened, try again.
    TransactionConflict = "transaction_conflict", 409;
    /// what is needed cannot be reached; what was asked for may have happened.
    Unavailable = "unavailable", 503;
    /// what is needed did not answer in time; what was asked for may have happened.
    UpstreamTimeout = "upstream_timeout", 504;
}

impl Code {
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

    /// When it is sent, in a sentence that goes on behind a colon.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.row().2.trim()
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

/// The schema of the bodies of 412; that of 416 is a `TailResponse`.
pub(crate) fn answer_schemas() -> [(&'static str, Value); 1] {
    let token = object(
        "The given token is not the one in force.",
        [("fencing_token_mismatch", schema::fencing_token("The token in force; empty when there is none."))],
    );
    let seq_num = object(
        "The stream has another tail.",
        [("seq_num_mismatch", schema::u64("The number that the next record gets."))],
    );
    [("AppendConditionFailed", json!({ "oneOf": [token, seq_num], "description": "Nothing was appended." }))]
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
