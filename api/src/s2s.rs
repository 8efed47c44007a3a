//! Frames of streaming sessions (s2-wire.md 2.2-2.5).

use bytes::Bytes;

use crate::compression::Compression;
use crate::status::ApiError;

/// A frame as received, decompressed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// A message.
    Regular {
        /// Its protobuf bytes.
        payload: Bytes,
        /// The server is about to go away (flag R).
        reconnect_advised: bool,
    },
    /// The error that ends a session; only servers send it. A server answers it with [`unexpected_terminal`].
    Terminal {
        /// HTTP status.
        status: u16,
        /// The JSON error body.
        body: Bytes,
    },
}

/// Cuts a body that arrives in chunks into frames. Holds at most one unfinished frame and one chunk, provided that
/// the caller takes all frames before it pushes the next chunk.
#[derive(Default)]
pub struct FrameDecoder {}

impl FrameDecoder {
    /// At the start of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        todo!("{chunk:?}")
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// 400 `bad_frame`; the body cannot be decoded any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ApiError> {
        todo!()
    }

    /// To be asked at the end of the body.
    ///
    /// # Errors
    /// 400 `bad_frame` when it ends inside a frame.
    pub fn finish(&self) -> Result<(), ApiError> {
        todo!()
    }
}

/// What a server answers to a terminal frame.
#[must_use]
pub fn unexpected_terminal() -> ApiError {
    todo!()
}

/// What stands before a regular frame's payload of `payload_len` bytes (as compressed).
///
/// # Panics
/// When the payload is longer than `FRAME_PAYLOAD_BYTES_MAX`: the limits of records and batches prevent it.
#[must_use]
pub fn frame_header(payload_len: usize, flags: Flags) -> [u8; 4] {
    todo!("{payload_len} {flags:?}")
}

/// Flags of a regular frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// How the payload is compressed.
    pub compression: Compression,
    /// Advises the client to come back on a new connection.
    pub reconnect_advised: bool,
}

/// A whole terminal frame, after which the body ends.
#[must_use]
pub fn terminal(error: &ApiError) -> Bytes {
    todo!("{error}")
}
