//! Looks into a log without changing it: segments, extents, frames, checksums, and what recovery would make of it.

use model::ShardId;

use crate::log::extent::{ExtentHeader, prove_frames};
use crate::log::recovery::is_segment_of;
use crate::log::{BLOCK_BYTES, Geometry, Lsn, SegmentNo};
use crate::shard::{LogImage, Recovered, RecoveryError, Shard, ShardConfig, segment_header};
use crate::stream::state::Life;

/// One extent as it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentReport {
    /// Its header, which is intact.
    pub header: ExtentHeader,
    /// Where in its segment's file it is.
    pub offset: u64,
    /// Whether every frame in it is intact.
    pub is_whole: bool,
}

/// One segment as it is on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentReport {
    /// Which.
    pub segment: SegmentNo,
    /// Whether its header is intact and of this log.
    pub is_ours: bool,
    /// The extents of its present life, in order.
    pub extents: Vec<ExtentReport>,
}

/// One stream as recovery would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamReport {
    /// Number of its basin's incarnation.
    pub basin_id: u64,
    /// Its name.
    pub name: String,
    /// The first number that can be read.
    pub trim_point: u64,
    /// The number behind the last record.
    pub tail: u64,
    /// Whether it is being deleted.
    pub is_deleting: bool,
}

/// One basin as recovery would find it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BasinReport {
    /// Number of its incarnation.
    pub id: u64,
    /// Its name.
    pub name: String,
}

/// What a shard's log holds.
#[derive(Debug, Clone)]
pub struct ShardReport {
    /// Whose log it is.
    pub shard: ShardId,
    /// Bytes of the checkpoint, if there is one.
    pub checkpoint_bytes: Option<usize>,
    /// In order.
    pub segments: Vec<SegmentReport>,
    /// What a start would find, or why it would be refused.
    pub recovery: Result<Recovered, RecoveryError>,
    /// Basins, on shard 0.
    pub basins: Vec<BasinReport>,
    /// By group, in order of their places.
    pub streams: Vec<StreamReport>,
}

/// Looks into the log of one shard.
#[must_use]
pub fn inspect(config: &ShardConfig, image: &dyn LogImage) -> ShardReport {
    let mut segments: Vec<SegmentNo> = image.segments();
    segments.sort_unstable();
    let segments = segments.into_iter().map(|segment| inspect_segment(config, image, segment)).collect();
    let mut report = ShardReport {
        shard: config.shard,
        checkpoint_bytes: image.checkpoint().map(<[u8]>::len),
        segments,
        recovery: Ok(Recovered::default()),
        basins: Vec::new(),
        streams: Vec::new(),
    };
    match Shard::recover(config.clone(), image) {
        Err(refusal) => report.recovery = Err(refusal),
        Ok((shard, recovered)) => {
            report.recovery = Ok(recovered);
            let basins = shard.state.metadata.iter();
            report.basins = basins.map(|b| BasinReport { id: b.info.id.0, name: b.info.name.to_string() }).collect();
            for group in &shard.state.groups {
                report.streams.extend(group.catalog.from_place(0).map(|(_, stream)| StreamReport {
                    basin_id: stream.basin.0,
                    name: stream.name.to_string(),
                    trim_point: stream.trim_point,
                    tail: stream.tail.seq_num,
                    is_deleting: stream.life == Life::Deleting,
                }));
            }
        }
    }
    report
}

fn inspect_segment(config: &ShardConfig, image: &dyn LogImage, segment: SegmentNo) -> SegmentReport {
    let geometry = Geometry { segment_bytes: config.segment_bytes };
    let is_ours = is_segment_of(image, segment, &segment_header(config));
    let bytes = image.bytes(segment);
    let mut extents = Vec::new();
    if !geometry.holds(segment) {
        return SegmentReport { segment, is_ours, extents };
    }
    let mut at = BLOCK_BYTES;
    while let Some(rest) = bytes.get(at..).filter(|r| !r.is_empty()) {
        let place = Lsn(geometry.start(segment).0 - BLOCK_BYTES as u64 + at as u64);
        let header = ExtentHeader::decode(rest).map(|(header, _)| header).filter(|header| header.lsn == place);
        // Behind a damaged header the next extent begins at some block; an earlier life's extents name other places.
        let Some(header) = header else {
            at += BLOCK_BYTES;
            continue;
        };
        let is_whole = prove_frames(&header, rest).is_ok();
        extents.push(ExtentReport { header, offset: at as u64, is_whole });
        at += if is_whole { header.extent_bytes() } else { BLOCK_BYTES };
    }
    SegmentReport { segment, is_ours, extents }
}
