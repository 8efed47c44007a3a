//! Failures, told apart by what the caller must do (architecture.md 9).

use std::fmt;

use crate::limits::TOKENS_MAX;
use crate::name::{BasinName, FencingToken, StreamName};
use crate::position::Position;
use crate::token::TokenId;

/// Why a request has no answer of the kind it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The request is wrong or its condition failed: the same again fails again.
    Rejected(Rejected),
    /// Not now; the outcome says whether it may have happened.
    Unavailable(Unavailable),
    /// What we stored is damaged. The text names what, for the log; clients see an unavailable storage.
    Corrupt(String),
}

/// A request that is wrong, or whose condition failed. Each has one code and status (s2-wire.md 1.9).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rejected {
    /// 404 `basin_not_found`.
    BasinNotFound(BasinName),
    /// 404 `stream_not_found`.
    StreamNotFound(BasinName, StreamName),
    /// 409 `resource_already_exists`.
    BasinExists(BasinName),
    /// 409 `resource_already_exists`.
    StreamExists(BasinName, StreamName),
    /// 409 `basin_deletion_pending`.
    BasinDeleting(BasinName),
    /// 409 `stream_deletion_pending`.
    StreamDeleting(BasinName, StreamName),
    /// 404 `access_token_not_found`.
    TokenNotFound(TokenId),
    /// 409 `resource_already_exists`.
    TokenExists(TokenId),
    /// 403 `quota_exhausted`: as many access tokens exist as may.
    TooManyTokens,
    /// 412 with the token in force.
    FencingTokenMismatch(FencingToken),
    /// 412 with the number the next record gets.
    SeqNumMismatch(u64),
    /// 416 with the tail.
    Unwritten(Position),
    /// 422 `invalid`.
    Invalid(String),
}

/// Whether a request that was not answered as asked may have taken effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It certainly did not, and will not: the client may try again blindly.
    NotApplied,
    /// It may have, or may yet.
    Unknown,
}

/// A request that cannot be served now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unavailable {
    /// A bounded queue is full: 429 `rate_limited`, not applied. Try again after about this many milliseconds.
    Busy {
        /// For the `retry-after-ms` header.
        retry_after_ms: u32,
    },
    /// The log has no room: trim, delete, or give it more. 502 `hot_server`, not applied, retryable.
    LogFull,
    /// The server is stopping: 503 `server_draining`, not applied.
    Draining,
    /// The log failed with the request under way: 500 `storage`, outcome unknown.
    Storage,
    /// An earlier input of the same session failed, so this one was dropped: not applied.
    SessionPoisoned,
    /// Two requests raced to create the same name: 409 `transaction_conflict`, not applied.
    Conflict,
}

impl Unavailable {
    /// Whether the request may have taken effect.
    #[must_use]
    pub const fn outcome(&self) -> Outcome {
        match self {
            Self::Busy { .. } | Self::LogFull | Self::Draining | Self::SessionPoisoned | Self::Conflict => {
                Outcome::NotApplied
            }
            Self::Storage => Outcome::Unknown,
        }
    }
}

impl From<Rejected> for Failure {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Unavailable(unavailable) => unavailable.fmt(f),
            Self::Corrupt(_) => f.write_str("stored data is damaged; the server's log names it"),
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BasinNotFound(basin) => write!(f, "basin `{basin}` not found"),
            Self::StreamNotFound(basin, stream) => write!(f, "stream `{stream}` in basin `{basin}` not found"),
            Self::BasinExists(basin) => write!(f, "basin `{basin}` already exists"),
            Self::StreamExists(basin, stream) => write!(f, "stream `{stream}` in basin `{basin}` already exists"),
            Self::BasinDeleting(basin) => write!(f, "basin `{basin}` is being deleted"),
            Self::StreamDeleting(basin, stream) => {
                write!(f, "stream deletion pending: stream `{stream}` in basin `{basin}` is being deleted")
            }
            Self::TokenNotFound(id) => write!(f, "access token `{id}` not found"),
            Self::TokenExists(id) => write!(f, "access token `{id}` already exists"),
            Self::TooManyTokens => {
                write!(f, "there are {TOKENS_MAX} access tokens, as many as may be: revoke some that nobody needs")
            }
            Self::FencingTokenMismatch(token) => write!(f, "fencing token mismatch, the stream's token is `{token}`"),
            Self::SeqNumMismatch(next) => write!(f, "sequence number mismatch, the next record gets {next}"),
            Self::Unwritten(tail) => write!(f, "nothing to read at or beyond the tail, {}", tail.seq_num),
            Self::Invalid(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Busy { .. } => "too many requests in flight, try again shortly",
            Self::LogFull => {
                "the log is full: trim or delete streams, or give the server more log space; reads still work"
            }
            Self::Draining => "the server is draining, connect again",
            Self::Storage => "the log failed while the request was under way, it may or may not have been applied",
            Self::SessionPoisoned => "an earlier input of the session failed",
            Self::Conflict => "transaction conflict occurred",
        })
    }
}
