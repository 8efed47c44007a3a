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

    /// Whether the places of `segment` have numbers. Names of files may say any number.
    #[must_use]
    pub const fn holds(&self, segment: SegmentNo) -> bool {
        segment.0 < u64::MAX / self.segment_bytes - SEGMENTS_BEHIND
    }

    /// The first extent of `segment`, behind its header. Must be one that the geometry holds, as for all that follow.
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

/// Room for looking a little beyond any segment without a place that overflows.
const SEGMENTS_BEHIND: u64 = 4;

/// `bytes` rounded up to whole blocks.
#[must_use]
pub const fn round_up(bytes: usize) -> usize {
    bytes.div_ceil(BLOCK_BYTES) * BLOCK_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_is_held_when_its_end_and_the_next_have_places() {
        for segment_bytes in [2 * BLOCK_BYTES as u64, 1 << 26, (1 << 26) + BLOCK_BYTES as u64] {
            let geometry = Geometry { segment_bytes };
            assert!(geometry.holds(SegmentNo(1)) && !geometry.holds(SegmentNo(u64::MAX)));
            let last = SegmentNo(u64::MAX / segment_bytes - SEGMENTS_BEHIND - 1);
            assert!(geometry.holds(last) && !geometry.holds(SegmentNo(last.0 + 1)));
            assert_eq!(geometry.segment(geometry.end(SegmentNo(last.0 + 1))), SegmentNo(last.0 + 2));
        }
    }
}
