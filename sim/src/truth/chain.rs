//! The chain of extents on a disk, and the rules of its growth.

use std::collections::VecDeque;

use engine::log::extent::{ExtentHeader, ProvedFrame, prove_frames};
use engine::log::{Geometry, Lsn, SegmentNo};
use engine::shard::LogImage;

use crate::disk::Disk;
use crate::violation::{Rule, Violation, broken};

/// An extent that continues the chain.
pub(super) struct Link<'a> {
    pub(super) header: ExtentHeader,
    pub(super) crc: u32,
    pub(super) frames: Vec<ProvedFrame<'a>>,
}

/// What is remembered of an extent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ExtentTruth {
    /// Where it is.
    pub lsn: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// What it says was durable before it.
    pub durable_lsn: Lsn,
    /// Its frames; none in an idle one.
    pub frames_count: u32,
    /// When it was found on the disk, in simulated time.
    pub found_us: u64,
}

#[derive(Debug)]
pub(super) struct Chain {
    geometry: Geometry,
    end: Lsn,
    prev_lsn: Lsn,
    prev_header_crc: u32,
    epoch: u32,
    extents: VecDeque<ExtentTruth>,
}

impl Chain {
    pub(super) const fn new(geometry: Geometry) -> Self {
        let end = geometry.start(SegmentNo(1));
        Self { geometry, end, prev_lsn: Lsn(0), prev_header_crc: 0, epoch: 0, extents: VecDeque::new() }
    }

    pub(super) const fn end(&self) -> Lsn {
        self.end
    }

    pub(super) const fn epoch(&self) -> u32 {
        self.epoch
    }

    pub(super) const fn geometry(&self) -> Geometry {
        self.geometry
    }

    pub(super) fn extents(&self) -> impl Iterator<Item = &ExtentTruth> {
        self.extents.iter()
    }

    /// The extent that continues the chain on this disk: right behind, or at the start of the next segment.
    pub(super) fn next<'a>(&self, disk: &'a Disk) -> Option<Link<'a>> {
        let last = self.geometry.segment(Lsn(self.end.0 - 1));
        let places = [self.end, self.geometry.start(SegmentNo(last.0 + 1))];
        places.into_iter().find_map(|lsn| self.link(disk, lsn))
    }

    fn link<'a>(&self, disk: &'a Disk, lsn: Lsn) -> Option<Link<'a>> {
        let offset = usize::try_from(self.geometry.offset(lsn)).ok()?;
        let bytes = disk.bytes(self.geometry.segment(lsn)).get(offset..)?;
        let (header, crc) = ExtentHeader::decode(bytes)?;
        let is_next =
            header.lsn == lsn && header.prev_lsn == self.prev_lsn && header.prev_header_crc == self.prev_header_crc;
        if !is_next {
            return None;
        }
        let frames = prove_frames(&header, bytes).ok()?;
        // A second opinion takes nobody's word for what is intact.
        let is_intact = |(frame, payload, offset): &ProvedFrame<'_>| {
            crc32c::crc32c(payload) == frame.payload_crc && bytes[*offset..].starts_with(&frame.encode())
        };
        if !frames.iter().all(is_intact) {
            return None;
        }
        Some(Link { header, crc, frames })
    }

    pub(super) fn take(&mut self, header: &ExtentHeader, crc: u32, extent: ExtentTruth) -> Result<(), Violation> {
        if header.epoch < self.epoch {
            return broken(Rule::Chain, format!("epoch {} behind epoch {}", header.epoch, self.epoch));
        }
        if header.durable_lsn > header.lsn {
            return broken(
                Rule::Chain,
                format!("the extent at {} says {} is durable", header.lsn.0, header.durable_lsn.0),
            );
        }
        self.end = header.end();
        (self.prev_lsn, self.prev_header_crc, self.epoch) = (header.lsn, crc, header.epoch);
        self.extents.push_back(extent);
        if self.extents.len() > EXTENTS_MAX {
            self.extents.pop_front();
        }
        Ok(())
    }
}

/// Extents remembered: more than lie between two checkpoints of any run.
const EXTENTS_MAX: usize = 8192;
