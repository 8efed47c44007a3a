//! A client that costs little: requests are prepared bytes, answers are looked at only as far as needed to know
//! that they are right.

pub(crate) mod admin;
pub(crate) mod codec;
pub(crate) mod error;
pub(crate) mod grpc;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod pipeline;
pub(crate) mod read;
pub(crate) mod session;
pub(crate) mod socket;
pub(crate) mod unary;

pub use error::ClientError;
pub(crate) use error::Result;
pub use http1::Connection;

/// A stream in a basin, as requests name it. Invariant: both names need no percent-encoding.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) basin: String,
    pub(crate) stream: String,
}

impl Target {
    pub(crate) fn new(basin: &str, stream: impl Into<String>) -> Self {
        let stream = stream.into();
        assert!(stream.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "our own names are plain");
        Self { basin: basin.to_owned(), stream }
    }

    /// Path of the stream's records.
    pub(crate) fn path(&self) -> String {
        format!("/v1/streams/{}/records", self.stream)
    }
}
