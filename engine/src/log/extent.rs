//! Extents: one group commit, one write. A header, frames, zeros up to the next 4 KiB (docs/format.md).
//!
//! ```text
//!  0 magic "MXT1" | 4 header_crc u32 (over bytes 8..64) | 8 epoch u32 | 12 flags u32
//! 16 lsn u64 | 24 prev_lsn u64 | 32 durable_lsn u64
//! 40 frames_bytes u32 | 44 frames_count u32 | 48 frames_crc u32 | 52 prev_header_crc u32 | 56 written_ms u64
//! ```
//! `frames_crc` runs over the frames' headers, each of which covers its payload. `prev_lsn` and `prev_header_crc` chain
//! the extents, so that a stale one is never taken for a continuation. `durable_lsn` says which earlier extents were
//! durable when this one was built: a bad extent below it is corrupt, one at or above it may be torn.

use std::sync::Arc;

use bytes::Bytes;

use crate::log::buffer::{AlignedBuf, BufferPool};
use crate::log::frame::{EXTENT_MAGIC_FIRST, FRAME_HEADER_BYTES, FrameHeader, NotAFrame};
use crate::log::{Lsn, round_up};
use crate::mutation::Mutation;

/// The header of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExtentHeader {
    /// Counts the starts of the shard; grows with each.
    pub epoch: u32,
    /// Where the extent is.
    pub lsn: Lsn,
    /// Where the extent before it is; 0 for the first ever.
    pub prev_lsn: Lsn,
    /// Everything before this place was durable when the extent was built.
    pub durable_lsn: Lsn,
    /// Bytes of all frames.
    pub frames_bytes: u32,
    /// How many frames.
    pub frames_count: u32,
    /// CRC-32C over the frames' headers in order.
    pub frames_crc: u32,
    /// `header_crc` of the extent before; 0 for the first ever.
    pub prev_header_crc: u32,
    /// When it was built, in milliseconds since the Unix epoch.
    pub written_ms: u64,
}

impl ExtentHeader {
    /// Bytes the extent takes in the log.
    #[must_use]
    pub const fn extent_bytes(&self) -> usize {
        round_up(EXTENT_HEADER_BYTES + self.frames_bytes as usize)
    }

    /// The first place behind the extent.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        Lsn(self.lsn.0 + self.extent_bytes() as u64)
    }

    /// Its bytes, and the CRC in them that the next extent repeats.
    #[must_use]
    pub fn encode(&self) -> ([u8; EXTENT_HEADER_BYTES], u32) {
        let mut out = [0; EXTENT_HEADER_BYTES];
        out[..4].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&self.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.prev_lsn.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.durable_lsn.0.to_le_bytes());
        out[40..44].copy_from_slice(&self.frames_bytes.to_le_bytes());
        out[44..48].copy_from_slice(&self.frames_count.to_le_bytes());
        out[48..52].copy_from_slice(&self.frames_crc.to_le_bytes());
        out[52..56].copy_from_slice(&self.prev_header_crc.to_le_bytes());
        out[56..64].copy_from_slice(&self.written_ms.to_le_bytes());
        let crc = crc32c::crc32c(&out[8..]);
        out[4..8].copy_from_slice(&crc.to_le_bytes());
        (out, crc)
    }

    /// Reads the header at the start of `bytes`, with its CRC; `None` when there is no intact header.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<(Self, u32)> {
        let bytes = bytes.first_chunk::<EXTENT_HEADER_BYTES>()?;
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let crc = u32_at(4);
        if bytes[..4] != *MAGIC || crc32c::crc32c(&bytes[8..]) != crc {
            return None;
        }
        let header = Self {
            epoch: u32_at(8),
            lsn: Lsn(u64_at(16)),
            prev_lsn: Lsn(u64_at(24)),
            durable_lsn: Lsn(u64_at(32)),
            frames_bytes: u32_at(40),
            frames_count: u32_at(44),
            frames_crc: u32_at(48),
            prev_header_crc: u32_at(52),
            written_ms: u64_at(56),
        };
        Some((header, crc))
    }
}

/// What is wrong with an extent's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadExtent {
    /// It is longer than what is left of the segment.
    CutOff,
    /// A frame's header or payload does not match its CRC, or the frames are not the header's.
    Frames,
}

/// A frame whose every byte was proved: its header, its payload, and where in the extent it is.
pub type ProvedFrame<'a> = (FrameHeader, &'a [u8], usize);

/// Proves an extent's frames against `header` and hands out each with its payload and its offset in the extent.
///
/// # Errors
/// When any byte of a frame is not what was written.
pub fn prove_frames<'a>(header: &ExtentHeader, extent: &'a [u8]) -> Result<Vec<ProvedFrame<'a>>, BadExtent> {
    let end = EXTENT_HEADER_BYTES + header.frames_bytes as usize;
    let bytes = extent.get(..end).ok_or(BadExtent::CutOff)?;
    let mut frames = Vec::new();
    let mut at = EXTENT_HEADER_BYTES;
    let mut crc = 0;
    while at < end {
        let frame = FrameHeader::decode(&bytes[at..]).map_err(|_: NotAFrame| BadExtent::Frames)?;
        let payload = bytes.get(at + FRAME_HEADER_BYTES..at + frame.frame_bytes()).ok_or(BadExtent::Frames)?;
        if crc32c::crc32c(payload) != frame.payload_crc && !Mutation::PayloadCrcSkipped.is_on() {
            return Err(BadExtent::Frames);
        }
        crc = crc32c::crc32c_append(crc, &bytes[at..at + FRAME_HEADER_BYTES]);
        frames.push((frame, payload, at));
        at += frame.frame_bytes();
    }
    if crc != header.frames_crc || frames.len() != header.frames_count as usize {
        return Err(BadExtent::Frames);
    }
    Ok(frames)
}

/// The extent that is being filled. Memory only.
#[derive(Debug)]
pub struct OpenExtent {
    buf: AlignedBuf,
    /// Bytes used, the header's room included.
    len: usize,
    frames_count: u32,
    frames_crc: u32,
}

/// A frame that was put into the open extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PutFrame {
    /// Where in the extent its header is.
    pub offset: u32,
    /// The header as written, with payload length and CRC.
    pub header: FrameHeader,
    /// The header's bytes, for a descriptor's CRC.
    pub encoded: [u8; FRAME_HEADER_BYTES],
}

impl OpenExtent {
    /// An extent without frames in a buffer of the pool.
    #[must_use]
    pub fn new(pool: &Arc<BufferPool>) -> Self {
        Self { buf: pool.take(), len: EXTENT_HEADER_BYTES, frames_count: 0, frames_crc: 0 }
    }

    /// Whether it has no frame.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames_count == 0
    }

    /// Bytes used.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether a frame with this payload fits.
    #[must_use]
    pub const fn has_room_for(&self, payload_bytes_max: usize) -> bool {
        self.len + FRAME_HEADER_BYTES + payload_bytes_max <= self.buf.capacity()
    }

    /// Adds a frame; `write` puts at most `payload_bytes_max` bytes into what it is given and says how many.
    ///
    /// # Panics
    /// When there is no room: see [`OpenExtent::has_room_for`].
    pub fn put(
        &mut self,
        mut header: FrameHeader,
        payload_bytes_max: usize,
        write: impl FnOnce(&mut [u8]) -> usize,
    ) -> PutFrame {
        assert!(self.has_room_for(payload_bytes_max), "the caller closes a full extent first");
        let offset = self.len;
        let start = offset + FRAME_HEADER_BYTES;
        let room = &mut self.buf.as_mut_slice()[start..start + payload_bytes_max];
        let written = write(room);
        header.payload_bytes = u32::try_from(written).expect("an extent is a few MiB");
        header.payload_crc = crc32c::crc32c(&room[..written]);
        let encoded = header.encode();
        self.buf.as_mut_slice()[offset..start].copy_from_slice(&encoded);
        self.len = start + written;
        self.frames_count += 1;
        self.frames_crc = crc32c::crc32c_append(self.frames_crc, &encoded);
        PutFrame { offset: u32::try_from(offset).expect("an extent is a few MiB"), header, encoded }
    }

    /// Adds a frame with these bytes.
    pub fn put_bytes(&mut self, header: FrameHeader, payload: &[u8]) -> PutFrame {
        self.put(header, payload.len(), |room| {
            room.copy_from_slice(payload);
            payload.len()
        })
    }

    /// Bytes the extent would take in the log as it stands.
    #[must_use]
    pub const fn extent_bytes(&self) -> usize {
        round_up(self.len)
    }

    /// Writes the header and hands out the whole extent, and the header's CRC for the next one.
    #[must_use]
    pub fn seal(mut self, mut header: ExtentHeader) -> (Bytes, u32) {
        header.frames_bytes = u32::try_from(self.len - EXTENT_HEADER_BYTES).expect("an extent is a few MiB");
        header.frames_count = self.frames_count;
        header.frames_crc = self.frames_crc;
        let (encoded, crc) = header.encode();
        let end = round_up(self.len);
        let bytes = self.buf.as_mut_slice();
        bytes[..EXTENT_HEADER_BYTES].copy_from_slice(&encoded);
        bytes[self.len..end].fill(0);
        // A small extent must not keep a large buffer from the pool for as long as readers may want it.
        if end <= COPY_BYTES_MAX {
            return (Bytes::from_owner(AlignedBuf::copy_of(&self.buf.as_slice()[..end])), crc);
        }
        (Bytes::from_owner(self.buf).slice(..end), crc)
    }
}

/// Bytes of an extent's header.
pub const EXTENT_HEADER_BYTES: usize = 64;
const MAGIC: &[u8; 4] = b"MXT1";
const _: () = assert!(MAGIC[0] == EXTENT_MAGIC_FIRST);
/// Up to this size a sealed extent is copied into memory of its own size.
pub(crate) const COPY_BYTES_MAX: usize = 256 << 10;
