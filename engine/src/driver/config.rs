//! What a node is started with.

use std::path::PathBuf;

use model::ShardId;
use model::placement::Placement;

use super::report::{MemoryBudget, StartError};
use crate::shard::{EXTENT_BYTES_MIN, SEGMENT_BYTES_MIN, ShardConfig};

/// Which driver to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Driver {
    /// Inline: measured best on few cores (docs/adr/0002); the report says what the log writes with and why.
    #[default]
    Auto,
    /// Every shard on the thread of a front, with an io_uring for the log where that works.
    Inline,
    /// Glommio, or do not start.
    Glommio,
    /// Threads.
    Threads,
}

/// What every shard may use; see [`ShardConfig`] for the fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShardLimits {
    /// Soft size of an extent.
    pub extent_bytes_max: usize,
    /// Extents on their way to the device.
    pub in_flight_max: usize,
    /// Index of the log.
    pub index_bytes_max: usize,
    /// Waiting readers.
    pub readers_max: usize,
    /// Log between two checkpoints.
    pub checkpoint_log_bytes: u64,
}

impl Default for ShardLimits {
    fn default() -> Self {
        Self {
            extent_bytes_max: EXTENT_BYTES_MIN,
            in_flight_max: 4,
            index_bytes_max: 128 << 20,
            readers_max: 16_384,
            checkpoint_log_bytes: 256 << 20,
        }
    }
}

/// What a node is started with.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The data directory; made when it does not exist.
    pub dir: PathBuf,
    /// Which driver.
    pub driver: Driver,
    /// Shards of a new data directory ([`default_shards_count`] when `None`); of an existing one it must be what is
    /// recorded there, or `None`.
    pub shards: Option<u16>,
    /// Fronts that will ask.
    pub fronts: u16,
    /// Data groups per shard of a new data directory.
    pub groups_per_shard: u16,
    /// Segment size of a new data directory; a multiple of 4 KiB.
    pub segment_bytes: u64,
    /// What all logs together may take on the disk; `None` is half of what is free or already theirs at start.
    pub log_bytes_max: Option<u64>,
    /// Memory for recent extents, over all shards.
    pub cache_bytes_max: usize,
    /// What every shard may use.
    pub limits: ShardLimits,
    /// Requests that may be open at one shard, over all fronts; each front gets an equal part.
    pub outstanding_max: usize,
    /// A lone extent of at most this size is written by the shard's own thread when nothing else is going on; 0 is never.
    pub write_here_bytes_max: usize,
    /// Cut a log before damage instead of refusing to start. Loses what was acknowledged.
    pub accept_data_loss: bool,
    /// Pin each shard to a core of its own. Needs a core for every shard and front, else it is ignored with a notice.
    pub pin: bool,
}

impl NodeConfig {
    /// The defaults.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            driver: Driver::Auto,
            shards: None,
            fronts: 1,
            groups_per_shard: 8,
            segment_bytes: 128 << 20,
            log_bytes_max: None,
            cache_bytes_max: 128 << 20,
            limits: ShardLimits::default(),
            outstanding_max: 16_384,
            write_here_bytes_max: 128 << 10,
            accept_data_loss: false,
            pin: false,
        }
    }

    /// Refuses settings that cannot work whatever is on the disk.
    pub(super) fn check(&self) -> Result<(), StartError> {
        let refuse = |reason: &str| Err(StartError::Settings(reason.to_owned()));
        if self.fronts == 0 || self.fronts > FRONTS_MAX {
            return refuse("a node has 1 to 256 fronts");
        }
        if self.shards == Some(0) || self.groups_per_shard == 0 {
            return refuse("a node needs at least one shard, and a shard at least one group");
        }
        if self.shards.is_some_and(|shards| shards > SHARDS_MAX) {
            return refuse("a node has at most 256 shards");
        }
        if self.segment_bytes < SEGMENT_BYTES_MIN || !self.segment_bytes.is_multiple_of(4096) {
            return refuse("the segment size must be a multiple of 4 KiB and at least 16 MiB");
        }
        if self.limits.extent_bytes_max < EXTENT_BYTES_MIN {
            return refuse("an extent must hold at least 2.5 MiB, so that every batch fits");
        }
        if self.limits.in_flight_max == 0 || self.limits.in_flight_max > IN_FLIGHT_MAX {
            return refuse("there must be 1 to 32 extents in flight");
        }
        Ok(())
    }

    /// Requests that one front may have open at one shard.
    pub(super) fn lane_outstanding_max(&self) -> usize {
        (self.outstanding_max / usize::from(self.fronts)).max(LANE_OUTSTANDING_MIN)
    }

    /// What a shard is made with.
    pub(super) fn shard(&self, shard: ShardId, recorded: &Recorded, segments_max: u64) -> ShardConfig {
        ShardConfig {
            shard,
            placement: recorded.placement,
            directory_id: recorded.directory_id,
            segment_bytes: recorded.segment_bytes,
            segments_max,
            extent_bytes_max: self.limits.extent_bytes_max,
            in_flight_max: self.limits.in_flight_max,
            cache_bytes_max: self.cache_bytes_max / usize::from(recorded.placement.shards_count),
            index_bytes_max: self.limits.index_bytes_max,
            readers_max: self.limits.readers_max,
            checkpoint_log_bytes: self.limits.checkpoint_log_bytes,
            accept_data_loss: self.accept_data_loss,
        }
    }

    /// What all shards together may use.
    pub(super) fn memory(&self, shards_count: u16) -> MemoryBudget {
        let lane_bytes = super::mailbox::Lane::bytes(self.lane_outstanding_max());
        let all = |bytes_per_shard: usize| bytes_per_shard as u64 * u64::from(shards_count);
        MemoryBudget {
            cache_bytes: self.cache_bytes_max as u64,
            index_bytes: all(self.limits.index_bytes_max),
            // The open extent and those in flight; sealed ones move on into the cache.
            pending_bytes: all(self.limits.extent_bytes_max * (self.limits.in_flight_max + 2)),
            queue_bytes: all(lane_bytes * usize::from(self.fronts)),
        }
    }
}

/// What is fixed when a data directory is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// Its identity.
    pub directory_id: u128,
    /// How streams are spread.
    pub placement: Placement,
    /// Size of a segment file.
    pub segment_bytes: u64,
}

/// Shards of a new data directory when nobody says: one for every two cores, since fronts need cores as well and a
/// shard's group commit gets better the more streams it carries.
#[must_use]
pub fn default_shards_count() -> u16 {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    u16::try_from(cores / 2).unwrap_or(SHARDS_MAX).clamp(1, SHARDS_MAX)
}

/// Two digits of the shard's directory name, in decimal, are only a custom; this bounds threads and descriptors.
const SHARDS_MAX: u16 = 256;
/// Every burst of a shard looks at each of them.
const FRONTS_MAX: u16 = 256;
/// Extents in flight for which the ring of the log has room.
pub(super) const IN_FLIGHT_MAX: usize = 32;
/// Below this a lane would refuse what a single busy connection asks.
const LANE_OUTSTANDING_MIN: usize = 512;
