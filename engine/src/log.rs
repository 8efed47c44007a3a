//! The shard's log: one sequence of extents in recycled segments, shared by all its groups (docs/format.md).

pub mod buffer;
pub mod codec;
pub mod extent;
pub mod frame;
pub mod recovery;
pub mod segment;
pub mod space;
pub mod writer;

/// A place in the log: segment number times segment size, plus the offset in the segment. Grows for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// This many bytes further on, in the same segment.
    #[must_use]
    pub const fn plus(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

/// Numbers a segment in the order of use; never given twice. Counts from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentNo(pub u64);

/// Size of a segment, which makes places of the log out of segments and offsets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Bytes of a segment file, its header included.
    pub segment_bytes: u64,
}

impl Geometry {
    /// The segment that holds `lsn`.
    #[must_use]
    pub const fn segment(&self, lsn: Lsn) -> SegmentNo {
        SegmentNo(lsn.0 / self.segment_bytes)
    }

    /// Where in its segment `lsn` is, in bytes.
    #[must_use]
    pub const fn offset(&self, lsn: Lsn) -> u64 {
        lsn.0 % self.segment_bytes
    }

    /// The first extent of `segment`, behind its header.
    #[must_use]
    pub const fn start(&self, segment: SegmentNo) -> Lsn {
        Lsn(segment.0 * self.segment_bytes + BLOCK_BYTES as u64)
    }

    /// The first byte behind `segment`.
    #[must_use]
    pub const fn end(&self, segment: SegmentNo) -> Lsn {
        Lsn((segment.0 + 1) * self.segment_bytes)
    }
}

/// Offsets, lengths and addresses of all IO are multiples of this: the physical block of today's devices.
pub const BLOCK_BYTES: usize = 4096;

/// `bytes` rounded up to whole blocks.
#[must_use]
pub const fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}
