//! Errors as gRPC statuses (s2-wire.md 5.4), with one typed detail: an `s2.v1alpha.ErrorDetail`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use prost::Message;

use super::v1alpha;
use crate::status::{ApiError, Code, ErrorBody};
use v1alpha::error_detail::Cause;

/// The status codes that we answer with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is what gRPC calls so")]
pub enum StatusCode {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Unavailable = 14,
    Unauthenticated = 16,
}

/// The end of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// What it says.
    pub code: StatusCode,
    /// For people.
    pub message: String,
    /// For programs.
    pub detail: Option<v1alpha::ErrorDetail>,
    /// For the metadata `retry-after-ms`.
    pub retry_after_ms: Option<u32>,
}

impl Status {
    /// All went well.
    pub const OK: Self = Self { code: StatusCode::Ok, message: String::new(), detail: None, retry_after_ms: None };

    /// A status whose detail has `code` and nothing more.
    #[must_use]
    pub fn new(code: StatusCode, name: &str, message: impl Into<String>) -> Self {
        let detail = v1alpha::ErrorDetail { code: name.to_owned(), cause: None };
        Self { code, message: message.into(), detail: Some(detail), retry_after_ms: None }
    }

    /// The same with a cause.
    #[must_use]
    pub fn because(mut self, cause: Cause) -> Self {
        self.detail.get_or_insert_default().cause = Some(cause);
        self
    }

    /// The message as `grpc-message` has it: other than printable ASCII is percent-encoded.
    #[must_use]
    pub fn message_header(&self) -> String {
        utf8_percent_encode(&self.message, NOT_IN_MESSAGES).to_string()
    }

    /// `grpc-status-details-bin`: a `google.rpc.Status` in base64.
    #[must_use]
    pub fn details_header(&self) -> Option<String> {
        let detail = self.detail.as_ref()?;
        let any = prost_types::Any { type_url: DETAIL_URL.to_owned(), value: detail.encode_to_vec() };
        let status = RpcStatus { code: self.code as i32, message: self.message.clone(), details: vec![any] };
        Some(STANDARD_NO_PAD.encode(status.encode_to_vec()))
    }
}

impl From<&ApiError> for Status {
    fn from(error: &ApiError) -> Self {
        let mut status = match &error.body {
            ErrorBody::Coded(code, message) => Self::new(status_code(*code), code.as_str(), message),
            ErrorBody::FencingTokenMismatch(token) => {
                let message =
                    format!("fencing token mismatch: the token in force is `{token}`", token = token.as_str());
                Self::new(StatusCode::FailedPrecondition, error.label(), message)
                    .because(Cause::FencingTokenMismatch(token.as_str().to_owned()))
            }
            ErrorBody::SeqNumMismatch(next) => {
                let message = format!("sequence number mismatch: the next record gets {next}");
                Self::new(StatusCode::FailedPrecondition, error.label(), message).because(Cause::SeqNumMismatch(*next))
            }
            ErrorBody::Unwritten(tail) => {
                let message = format!("nothing is written there: the tail is {}", tail.seq_num);
                Self::new(StatusCode::OutOfRange, error.label(), message)
            }
        };
        status.retry_after_ms = error.retry_after_ms;
        status
    }
}

/// What clients retry by themselves are `Unavailable`, `DeadlineExceeded`, `Unknown` and `ResourceExhausted`: they stand for
/// what the REST API calls retryable.
const fn status_code(code: Code) -> StatusCode {
    match code {
        Code::AccessTokenNotFound | Code::BasinNotFound | Code::StreamNotFound => StatusCode::NotFound,
        Code::Authn => StatusCode::Unauthenticated,
        Code::BadFrame
        | Code::BadHeader
        | Code::BadJson
        | Code::BadPath
        | Code::BadProto
        | Code::BadQuery
        | Code::DecryptionFailed
        | Code::Invalid => StatusCode::InvalidArgument,
        Code::BasinDeletionPending | Code::StreamDeletionPending | Code::QuotaExhausted => {
            StatusCode::FailedPrecondition
        }
        Code::ClientHangup => StatusCode::Cancelled,
        Code::HotServer | Code::ServerDraining | Code::Unavailable => StatusCode::Unavailable,
        Code::NotImplemented => StatusCode::Unimplemented,
        Code::Other | Code::Storage => StatusCode::Unknown,
        Code::PermissionDenied => StatusCode::PermissionDenied,
        Code::RateLimited => StatusCode::ResourceExhausted,
        Code::RequestTimeout | Code::UpstreamTimeout => StatusCode::DeadlineExceeded,
        Code::ResourceAlreadyExists => StatusCode::AlreadyExists,
        Code::TransactionConflict => StatusCode::Aborted,
    }
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

const DETAIL_URL: &str = "type.googleapis.com/s2.v1alpha.ErrorDetail";
const NOT_IN_MESSAGES: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use model::{FencingToken, Unavailable};

    use super::*;

    #[test]
    fn errors_have_their_status() {
        let token = FencingToken::try_from("me").expect("valid");
        let coded = |code| ApiError::new(code, "why");
        let rows = [
            (coded(Code::StreamNotFound), StatusCode::NotFound),
            (coded(Code::Authn), StatusCode::Unauthenticated),
            (coded(Code::PermissionDenied), StatusCode::PermissionDenied),
            (coded(Code::ResourceAlreadyExists), StatusCode::AlreadyExists),
            (coded(Code::StreamDeletionPending), StatusCode::FailedPrecondition),
            (coded(Code::Invalid), StatusCode::InvalidArgument),
            (coded(Code::ServerDraining), StatusCode::Unavailable),
            (ApiError::from(Unavailable::Busy { retry_after_ms: 5 }), StatusCode::ResourceExhausted),
            (ErrorBody::SeqNumMismatch(3).into(), StatusCode::FailedPrecondition),
            (ErrorBody::FencingTokenMismatch(token).into(), StatusCode::FailedPrecondition),
        ];
        for (error, code) in rows {
            let status = Status::from(&error);
            assert_eq!((status.code, status.retry_after_ms), (code, error.retry_after_ms));
            assert_eq!(status.detail.expect("each has one").code, error.label());
        }
    }

    #[test]
    fn a_detail_is_found_in_its_header() {
        let status = Status::from(&ApiError::from(ErrorBody::SeqNumMismatch(3)));
        let raw = STANDARD_NO_PAD.decode(status.details_header().expect("it has a detail")).expect("base64");
        let rpc = RpcStatus::decode(&raw[..]).expect("a status");
        assert_eq!((rpc.code, rpc.details.len()), (9, 1));
        assert_eq!(rpc.details[0].type_url, DETAIL_URL);
        let detail = v1alpha::ErrorDetail::decode(&rpc.details[0].value[..]).expect("a detail");
        assert_eq!(detail.cause, Some(Cause::SeqNumMismatch(3)));
        assert_eq!(Status::OK.details_header(), None);
    }

    #[test]
    fn messages_are_printable() {
        let status = Status::new(StatusCode::Unknown, "other", "100 % `a`\né");
        assert_eq!(status.message_header(), "100 %25 `a`%0A%C3%A9");
    }
}
