//! Frames of streaming sessions (s2-wire.md 2.2-2.5).
//!
//! ```text
//! length: u24, big endian | flags: T cc R 0000 | payload, length - 1 bytes
//! T terminal: payload is an HTTP status (u16) and a JSON error; cc compression: 00 none, 01 zstd, 10 gzip
//! ```
//! A frame that lies in one chunk of the body is handed on without a copy.

use bytes::Bytes;
use model::Batch;
use model::limits::FRAME_PAYLOAD_BYTES_MAX;

use crate::AppendConditions;
use crate::compression::{Compression, Decompressor};
use crate::cut::Cutter;
use crate::proto;
use crate::status::{ApiError, Code, ErrorBody};

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
pub struct FrameDecoder {
    cutter: Cutter,
    decompressor: Decompressor,
}

impl FrameDecoder {
    /// At the start of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        self.cutter.push(chunk);
    }

    /// The next frame; `None` when more bytes are needed.
    ///
    /// # Errors
    /// 400 `bad_frame`; the body cannot be decoded any further.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ApiError> {
        let Some(frame) = self.cutter.cut(LENGTH_BYTES, frame_bytes)? else { return Ok(None) };
        self.decode(&frame).map(Some)
    }

    /// To be asked at the end of the body.
    ///
    /// # Errors
    /// 400 `bad_frame` when it ends inside a frame.
    pub fn finish(&self) -> Result<(), ApiError> {
        if self.cutter.is_between_frames() { Ok(()) } else { Err(bad_frame("bytes remaining on stream")) }
    }

    fn decode(&mut self, frame: &Bytes) -> Result<Frame, ApiError> {
        assert!(frame.len() > LENGTH_BYTES, "a frame was cut with its flags");
        let flags = frame[LENGTH_BYTES];
        let payload = frame.slice(LENGTH_BYTES + 1..);
        if flags & TERMINAL != 0 {
            let Some(status) = payload.first_chunk() else { return Err(bad_frame("terminal frame without status")) };
            return Ok(Frame::Terminal { status: u16::from_be_bytes(*status), body: payload.slice(2..) });
        }
        let compression = match flags & COMPRESSION {
            0 => Compression::None,
            ZSTD => Compression::Zstd,
            GZIP => Compression::Gzip,
            _ => return Err(bad_frame("unknown compression algorithm")),
        };
        let payload = match compression {
            Compression::None => payload,
            Compression::Zstd | Compression::Gzip => {
                self.decompressor.decompress(compression, &payload, FRAME_PAYLOAD_BYTES_MAX).map_err(bad_frame)?.into()
            }
        };
        Ok(Frame::Regular { payload, reconnect_advised: flags & RECONNECT_ADVISED != 0 })
    }
}

/// What a server answers to a terminal frame.
#[must_use]
pub fn unexpected_terminal() -> ApiError {
    bad_frame("Unexpected terminal frame as input")
}

/// Decodes the payload of an append session's frame.
///
/// # Errors
/// As [`proto::append_input`], but what is not protobuf is a 400 `bad_frame` here.
pub fn append_input(payload: Bytes) -> Result<(Batch, AppendConditions), ApiError> {
    proto::append_input(payload).map_err(|mut error| {
        if let ErrorBody::Coded(code @ Code::BadProto, _) = &mut error.body {
            *code = Code::BadFrame;
        }
        error
    })
}

/// Flags of a regular frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// How the payload is compressed.
    pub compression: Compression,
    /// Advises the client to come back on a new connection.
    pub reconnect_advised: bool,
}

/// What stands before a regular frame's payload of `payload_len` bytes (as compressed).
///
/// # Panics
/// When the payload is longer than `FRAME_PAYLOAD_BYTES_MAX`: the limits of records and batches prevent it.
#[must_use]
pub fn frame_header(payload_len: usize, flags: Flags) -> [u8; 4] {
    let compression = match flags.compression {
        Compression::None => 0,
        Compression::Zstd => ZSTD,
        Compression::Gzip => GZIP,
    };
    let reconnect = if flags.reconnect_advised { RECONNECT_ADVISED } else { 0 };
    header(payload_len, compression | reconnect)
}

/// A whole terminal frame, after which the body ends.
///
/// # Panics
/// When the error's text does not fit a frame: texts are short.
#[must_use]
pub fn terminal(error: &ApiError) -> Bytes {
    let json = error.body_json();
    [&header(2 + json.len(), TERMINAL)[..], &error.status().to_be_bytes(), json.as_bytes()].concat().into()
}

fn header(payload_len: usize, flags: u8) -> [u8; 4] {
    assert!(payload_len <= FRAME_PAYLOAD_BYTES_MAX, "a payload of {payload_len} bytes fits no frame");
    let length = u32::try_from(payload_len + 1).expect("at most 2 MiB");
    let [_, high, middle, low] = length.to_be_bytes();
    [high, middle, low, flags]
}

/// Bytes of the frame at the start of `bytes`, its length field included; `None` when they do not say yet.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, ApiError> {
    let Some([high, middle, low]) = bytes.first_chunk() else { return Ok(None) };
    let length = u32::from_be_bytes([0, *high, *middle, *low]) as usize;
    if length == 0 {
        return Err(bad_frame("empty frame payload"));
    }
    if length > FRAME_PAYLOAD_BYTES_MAX + 1 {
        return Err(bad_frame("frame exceeds 2 MiB"));
    }
    Ok(Some(LENGTH_BYTES + length))
}

fn bad_frame(why: &str) -> ApiError {
    ApiError::new(Code::BadFrame, why)
}

const LENGTH_BYTES: usize = 3;
const TERMINAL: u8 = 0x80;
const COMPRESSION: u8 = 0x60;
const ZSTD: u8 = 0x20;
const GZIP: u8 = 0x40;
const RECONNECT_ADVISED: u8 = 0x10;
const _: () = assert!(FRAME_PAYLOAD_BYTES_MAX + 1 < 1 << 24, "a length fits three bytes");

#[cfg(test)]
#[path = "s2s_tests.rs"]
mod tests;
