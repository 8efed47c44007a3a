//! Recovery: walks the extents behind a checkpoint and tells a torn end from damage (docs/format.md, "Recovery").
//!
//! After Alagappan et al., "Protocol-Aware Recovery" (FAST '18): cutting a log at the first bad checksum can drop what
//! was acknowledged. So a bad extent at place x is *torn*, and cut, only if nothing says that x was ever durable; it is
//! *corrupt* if a later extent says `durable_lsn > x`, or the checkpoint does.

use std::fmt;
use std::ops::Range;

use model::{GroupId, StreamId};

use crate::log::extent::{EXTENT_HEADER_BYTES, ExtentHeader, ProvedFrame, prove_frames};
use crate::log::frame::{FrameHeader, FrameKind};
use crate::log::segment::SegmentHeader;
use crate::log::writer::LogEnd;
use crate::log::{BLOCK_BYTES, Geometry, Lsn, SegmentNo};
use crate::mutation::Mutation;

/// The bytes of a shard's log as they are found at start.
pub trait LogImage {
    /// The segment files that exist, in any order.
    fn segments(&self) -> Vec<SegmentNo>;
    /// All bytes of one of them.
    fn bytes(&self, segment: SegmentNo) -> &[u8];
    /// How many bytes it has.
    fn len(&self, segment: SegmentNo) -> u64 {
        self.bytes(segment).len() as u64
    }
    /// Those bytes of `range` that it has: all that recovery looks at it takes from here. An image over files reads only
    /// these, gives less when the disk does, and refuses the start afterwards.
    fn part(&self, segment: SegmentNo, range: Range<u64>) -> &[u8] {
        let bytes = self.bytes(segment);
        let within = |offset: u64| usize::try_from(offset).map_or(bytes.len(), |offset| offset.min(bytes.len()));
        bytes.get(within(range.start)..within(range.end)).unwrap_or(&[])
    }
    /// The checkpoint in force.
    fn checkpoint(&self) -> Option<&[u8]>;
}

/// An extent whose every byte was proved.
#[derive(Debug)]
pub struct ProvedExtent<'a> {
    /// Its header.
    pub header: ExtentHeader,
    /// Its frames.
    pub frames: Vec<ProvedFrame<'a>>,
}

/// Where a scan ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScanEnd {
    /// Where to go on, in a new epoch.
    pub log: LogEnd,
    /// Bytes of the extents that were handed out.
    pub bytes: u64,
    /// Extents that were handed out.
    pub extents_count: u64,
    /// Extents beyond the end that were written in part or out of order, and never acknowledged.
    pub torn_count: u64,
}

/// An extent that was durable and is damaged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// Its segment.
    pub segment: SegmentNo,
    /// Its offset in the segment's file, in bytes.
    pub offset: u64,
    /// Its place.
    pub lsn: Lsn,
    /// How we know that it was durable.
    pub proof: String,
    /// There is no such file, or it is not of this log.
    pub is_missing: bool,
    /// Streams whose frames in it can still be told, with their group.
    pub streams: Vec<(GroupId, StreamId)>,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_missing {
            let Self { segment, lsn, proof, .. } = self;
            return write!(
                f,
                "segment {:016x}.seg is missing or damaged from its start (lsn {}); {proof}",
                segment.0, lsn.0
            );
        }
        write!(
            f,
            "extent at offset {} of segment {:016x}.seg (lsn {}) is damaged; {}",
            self.offset, self.segment.0, self.lsn.0, self.proof
        )
    }
}

/// Walks the extents of `image` from `from`, hands each to `visit`, and finds the end.
/// `durable_lsn` is what the checkpoint knows to be durable.
///
/// # Errors
/// When an extent that was durable is damaged.
pub fn scan<'a>(
    image: &'a dyn LogImage,
    geometry: Geometry,
    from: LogEnd,
    durable_lsn: Lsn,
    mut visit: impl FnMut(ProvedExtent<'a>),
) -> Result<ScanEnd, Damage> {
    let segments = image.segments().into_iter().filter(|segment| geometry.holds(*segment)).collect();
    let scanner = Scanner { image, geometry, segments };
    let mut at = from;
    let mut end = ScanEnd { log: from, bytes: 0, extents_count: 0, torn_count: 0 };
    while let Some((extent, crc)) = scanner.next(&at) {
        at = LogEnd {
            end: extent.header.end(),
            prev_lsn: extent.header.lsn,
            prev_header_crc: crc,
            epoch: extent.header.epoch,
        };
        end.bytes += extent.header.extent_bytes() as u64;
        end.extents_count += 1;
        visit(extent);
    }
    let beyond = scanner.beyond(&at);
    end.torn_count = beyond.torn_count;
    let proof = if let Some(later) = beyond.says_durable {
        Some(format!("the extent at lsn {} was written after this one was durable", later.0))
    } else if at.end < durable_lsn && !Mutation::CheckpointDurableIgnored.is_on() {
        Some("the checkpoint was written after this one was durable".into())
    } else {
        None
    };
    if let Some(proof) = proof.filter(|_| !Mutation::CorruptionCut.is_on()) {
        return Err(scanner.damage(scanner.damaged_place(at.end), proof));
    }
    // The epoch grows past every epoch that may still be found behind the end. Only damage that its CRC did not tell
    // names the largest; the chain of CRCs still tells stale extents then.
    let grows = u32::from(!Mutation::EpochStays.is_on());
    end.log = LogEnd { epoch: at.epoch.max(beyond.epoch_max).saturating_add(grows), ..at };
    Ok(end)
}

struct Scanner<'a> {
    image: &'a dyn LogImage,
    geometry: Geometry,
    segments: Vec<SegmentNo>,
}

/// What lies behind the end of the chain.
#[derive(Default)]
struct Beyond {
    torn_count: u64,
    epoch_max: u32,
    says_durable: Option<Lsn>,
}

impl<'a> Scanner<'a> {
    fn has(&self, segment: SegmentNo) -> bool {
        self.segments.contains(&segment)
    }

    /// The bytes at `lsn`, at most so many and at most to the end of the segment.
    fn at(&self, lsn: Lsn, bytes_max: usize) -> &'a [u8] {
        let segment = self.geometry.segment(lsn);
        if !self.has(segment) {
            return &[];
        }
        let offset = self.geometry.offset(lsn);
        self.image.part(segment, offset..offset.saturating_add(bytes_max as u64))
    }

    /// The extent that continues the chain: right behind, or at the start of the next segment.
    fn next(&self, at: &LogEnd) -> Option<(ProvedExtent<'a>, u32)> {
        self.continuation(at, at.end).or_else(|| self.continuation(at, self.next_segment(at.end)))
    }

    fn next_segment(&self, lsn: Lsn) -> Lsn {
        // A full segment ends where the next begins, so its end already belongs to the next.
        let last = self.geometry.segment(Lsn(lsn.0.saturating_sub(1)));
        self.geometry.start(SegmentNo(last.0 + 1))
    }

    fn continuation(&self, at: &LogEnd, lsn: Lsn) -> Option<(ProvedExtent<'a>, u32)> {
        let (header, crc) = ExtentHeader::decode(self.at(lsn, BLOCK_BYTES))?;
        let chained =
            header.lsn == lsn && header.prev_lsn == at.prev_lsn && header.prev_header_crc == at.prev_header_crc;
        let chained = chained || (header.lsn == lsn && Mutation::ChainNotChecked.is_on());
        if !chained || header.epoch < at.epoch {
            return None;
        }
        let frames = prove_frames(&header, self.at(lsn, header.extent_bytes())).ok()?;
        Some((ProvedExtent { header, frames }, crc))
    }

    /// Looks for extents behind the end: in this segment and the next within the window, and at the start of every later
    /// one, since a segment that is missing may hide what is behind it.
    fn beyond(&self, at: &LogEnd) -> Beyond {
        let mut beyond = Beyond { epoch_max: at.epoch, ..Beyond::default() };
        let next = self.next_segment(at.end);
        let ahead_bytes = if Mutation::LookAheadShort.is_on() { BLOCK_BYTES as u64 } else { LOOK_AHEAD_BYTES };
        let here = at.end.0..next.0.min(at.end.0 + ahead_bytes);
        let there = next.0..self.geometry.end(self.geometry.segment(next)).0.min(next.0 + LOOK_AHEAD_BYTES);
        let later =
            self.segments.iter().map(|s| self.geometry.start(*s)).filter(|start| *start > next).map(|start| start.0);
        for place in here.step_by(BLOCK_BYTES).chain(there.step_by(BLOCK_BYTES)).chain(later) {
            let Some((header, _)) = ExtentHeader::decode(self.at(Lsn(place), BLOCK_BYTES)) else { continue };
            // Extents of an earlier life of the file name another place.
            if header.lsn != Lsn(place) {
                continue;
            }
            beyond.epoch_max = beyond.epoch_max.max(header.epoch);
            beyond.torn_count += 1;
            if header.durable_lsn > at.end && header.epoch >= at.epoch {
                beyond.says_durable.get_or_insert(header.lsn);
            }
        }
        beyond
    }

    /// Where the extent behind `end` must have been: there, unless that place was never written.
    fn damaged_place(&self, end: Lsn) -> Lsn {
        let is_blank = self.at(end, BLOCK_BYTES).iter().all(|byte| *byte == 0);
        if is_blank && self.geometry.offset(end) != 0 && !self.has(self.geometry.segment(self.next_segment(end))) {
            return self.next_segment(end);
        }
        end
    }

    fn damage(&self, lsn: Lsn, proof: String) -> Damage {
        let mut streams = Vec::new();
        let bytes = self.at(lsn, usize::MAX);
        let mut at = EXTENT_HEADER_BYTES;
        while let Some(Ok(frame)) = bytes.get(at..).map(FrameHeader::decode) {
            if frame.kind == FrameKind::Batch && !streams.contains(&(frame.group, frame.stream)) {
                streams.push((frame.group, frame.stream));
            }
            at += frame.frame_bytes();
        }
        let segment = self.geometry.segment(lsn);
        Damage { segment, offset: self.geometry.offset(lsn), lsn, proof, is_missing: !self.has(segment), streams }
    }
}

/// Whether the file begins with the header of this segment of this log.
#[must_use]
pub fn is_segment_of(image: &dyn LogImage, segment: SegmentNo, expected: &SegmentHeader) -> bool {
    let geometry = Geometry { segment_bytes: expected.segment_bytes };
    let header = || SegmentHeader::decode(image.part(segment, 0..BLOCK_BYTES as u64));
    geometry.holds(segment)
        && image.len(segment) == expected.segment_bytes
        && header().is_some_and(|header| header == SegmentHeader { segment, ..*expected })
}

/// How far behind the end extents may lie that were in flight together with the last one, and far beyond: what is found
/// there tells damage from a torn end.
const LOOK_AHEAD_BYTES: u64 = 128 << 20;
