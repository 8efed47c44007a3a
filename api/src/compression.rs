//! zstd and gzip, bounded: what comes out is never larger than the caller allows (s2-wire.md 1.11, 2.4).

use crate::status::ApiError;

/// How a body or a frame is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One zstd frame.
    Zstd,
    /// One gzip member.
    Gzip,
}

impl Compression {
    /// The word in `content-encoding`, if there is one.
    #[must_use]
    pub const fn as_str(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Zstd => Some("zstd"),
            Self::Gzip => Some("gzip"),
        }
    }
}

/// Compresses payloads with one algorithm, keeping its context from one to the next.
pub struct Compressor {}

impl Compressor {
    /// For one session, or for one body.
    #[must_use]
    pub fn new(compression: Compression) -> Self {
        todo!("{compression:?}")
    }

    /// The compressed form of `parts`, one behind the other; `None` when they should go as they are: no algorithm,
    /// fewer than [`COMPRESSED_BYTES_MIN`] bytes, or nothing gained.
    pub fn compress(&mut self, parts: &[&[u8]]) -> Option<Vec<u8>> {
        todo!("{parts:?}")
    }
}

/// Undoes compressions, keeping its contexts from one to the next.
#[derive(Default)]
pub struct Decompressor {}

impl Decompressor {
    /// The plain form of `bytes`.
    ///
    /// # Errors
    /// When they are damaged or more than `bytes_max` would come out: a text for the client.
    pub fn decompress(&mut self, compression: Compression, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, &'static str> {
        todo!("{compression:?} {bytes:?} {bytes_max}")
    }
}

/// Payloads smaller than this are never compressed.
pub const COMPRESSED_BYTES_MIN: usize = 1024;
const _: Option<ApiError> = None;
