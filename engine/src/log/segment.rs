//! The first block of a segment file: whose it is and which one (docs/format.md).
//!
//! ```text
//! 0 magic "MRSEGMT1" | 8 crc u32 (over bytes 12..64) | 12 version u32 | 16 directory_id u128
//! 32 segment u64 | 40 segment_bytes u64 | 48 shard u16 | 50 zeros up to 4096
//! ```

use bytes::Bytes;
use model::ShardId;

use crate::log::buffer::AlignedBuf;
use crate::log::codec::Reader;
use crate::log::{BLOCK_BYTES, SegmentNo};

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// The data directory it belongs to.
    pub directory_id: u128,
    /// The shard it belongs to.
    pub shard: ShardId,
    /// Which segment it is.
    pub segment: SegmentNo,
    /// Size of the file.
    pub segment_bytes: u64,
}

impl SegmentHeader {
    /// Its block.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut buf = AlignedBuf::zeroed(BLOCK_BYTES);
        let out = buf.as_mut_slice();
        out[..8].copy_from_slice(MAGIC);
        out[12..16].copy_from_slice(&VERSION.to_le_bytes());
        out[16..32].copy_from_slice(&self.directory_id.to_le_bytes());
        out[32..40].copy_from_slice(&self.segment.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[48..50].copy_from_slice(&self.shard.0.to_le_bytes());
        let crc = crc32c::crc32c(&out[12..64]);
        out[8..12].copy_from_slice(&crc.to_le_bytes());
        Bytes::from_owner(buf)
    }

    /// Reads it back; `None` when the block is damaged or of a version we do not know.
    #[must_use]
    pub fn decode(block: &[u8]) -> Option<Self> {
        let head = block.get(..64)?;
        let mut reader = Reader::new(&head[8..]);
        let crc = reader.u32().ok()?;
        if head[..8] != *MAGIC || crc32c::crc32c(&head[12..]) != crc || reader.u32().ok()? != VERSION {
            return None;
        }
        Some(Self {
            directory_id: reader.u128().ok()?,
            segment: SegmentNo(reader.u64().ok()?),
            segment_bytes: reader.u64().ok()?,
            shard: ShardId(reader.u16().ok()?),
        })
    }
}

const MAGIC: &[u8; 8] = b"MRSEGMT1";
const VERSION: u32 = 1;
