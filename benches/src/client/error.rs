//! Why a request failed. The text is what the report groups failures by, so it names no request.

use std::fmt;
use std::io;

use api::ApiError;

/// A failed request or session.
#[derive(Debug)]
pub enum ClientError {
    /// The connection broke or was never made.
    Io(io::Error),
    /// The HTTP/2 connection or stream broke.
    Http2(hyper::Error),
    /// An answer other than success.
    Status {
        /// The HTTP status.
        status: u16,
        /// What the answer said, shortened.
        body: String,
    },
    /// An answer that breaks the protocol or its promises.
    Wrong(&'static str),
    /// An answer that is not of the protocol at all.
    Undecodable(ApiError),
    /// The answer ended early.
    Closed,
}

/// Result of a request.
pub(crate) type Result<T> = std::result::Result<T, ClientError>;

impl ClientError {
    /// An answer that is no success.
    pub(crate) fn status(status: u16, body: &[u8]) -> Self {
        let shown = &body[..body.len().min(BODY_BYTES_SHOWN_MAX)];
        Self::Status { status, body: String::from_utf8_lossy(shown).into_owned() }
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(error) => write!(f, "connection: {error}"),
            Self::Http2(error) => match std::error::Error::source(error) {
                Some(source) => write!(f, "http/2: {error}: {source}"),
                None => write!(f, "http/2: {error}"),
            },
            Self::Status { status, body } => write!(f, "status {status}: {body}"),
            Self::Wrong(what) => write!(f, "wrong answer: {what}"),
            Self::Undecodable(error) => write!(f, "undecodable answer: {error}"),
            Self::Closed => f.write_str("the server ended the answer early"),
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<ApiError> for ClientError {
    fn from(error: ApiError) -> Self {
        Self::Undecodable(error)
    }
}

impl From<hyper::Error> for ClientError {
    fn from(error: hyper::Error) -> Self {
        Self::Http2(error)
    }
}

const BODY_BYTES_SHOWN_MAX: usize = 200;
