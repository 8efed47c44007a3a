//! The shard: `step` takes what happened and says what to do.

use model::ShardId;
use model::placement::Placement;

use crate::event::{Effects, Event, Now};
use crate::log::{Lsn, SegmentNo};

/// What a shard is made of and may use. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard this is.
    pub shard: ShardId,
    /// How slots are spread over groups and shards.
    pub placement: Placement,
    /// Identifies the data directory; every segment and checkpoint carries it.
    pub directory_id: u128,
    /// Size of a segment file. Fixed when the data directory is made.
    pub segment_bytes: u64,
    /// Segments that may exist at once; when all hold live data, appends get "log full".
    pub segments_max: u64,
    /// Soft size of an extent: once reached it takes no further batch.
    pub extent_bytes_max: usize,
    /// Extents that may be on their way to the device.
    pub in_flight_max: usize,
    /// Recent extents kept in memory for readers.
    pub cache_bytes_max: usize,
    /// Memory for the index of the log.
    pub index_bytes_max: usize,
    /// Batches admitted and not yet durable.
    pub pending_bytes_max: usize,
    /// Waiting readers.
    pub readers_max: usize,
    /// Log written between two checkpoints.
    pub checkpoint_log_bytes: u64,
}

/// The bytes of a shard's log as they are found at start.
pub trait LogImage {
    /// The segment files that exist, in any order.
    fn segments(&self) -> Vec<SegmentNo>;
    /// All bytes of one of them.
    fn bytes(&self, segment: SegmentNo) -> &[u8];
    /// The checkpoint in force.
    fn checkpoint(&self) -> Option<&[u8]>;
}

/// What recovery found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Log bytes that were replayed behind the checkpoint.
    pub replayed_bytes: u64,
    /// Extents in them.
    pub extents_count: u64,
    /// Extents at the end that were never durable and were cut off.
    pub torn_count: u64,
    /// Streams that exist.
    pub streams_count: u64,
    /// Where the log goes on.
    pub end: Lsn,
}

/// Why a shard cannot start on what it found. Names the file, the extent, the streams and the way out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecoveryError(pub String);

impl std::fmt::Display for RecoveryError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for RecoveryError {}

/// Counters and gauges of one shard, for `/metrics`. A plain copy; the driver publishes it now and then.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardStats {
    /// Streams that exist.
    pub streams_count: u64,
    /// Readers that wait for records.
    pub readers_count: u64,
    /// Batches acknowledged.
    pub appends_total: u64,
    /// Records acknowledged.
    pub records_total: u64,
    /// Metered bytes acknowledged.
    pub append_metered_bytes_total: u64,
    /// Metered bytes handed to readers.
    pub read_metered_bytes_total: u64,
    /// Extents made durable.
    pub extents_total: u64,
    /// Bytes of them.
    pub extent_bytes_total: u64,
    /// Reads that went to the device.
    pub log_reads_total: u64,
    /// Bytes of recent extents in memory.
    pub cache_bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Bytes admitted and not yet durable.
    pub pending_bytes: u64,
    /// Segments that exist.
    pub segments_count: u64,
    /// Segments that hold nothing anybody needs.
    pub segments_free_count: u64,
    /// Requests turned away because something was full.
    pub rejected_full_total: u64,
    /// Checkpoints made.
    pub checkpoints_total: u64,
}

/// One shard.
#[derive(Debug)]
pub struct Shard {}

impl Shard {
    /// Builds the shard from what its log and checkpoint say. A new log is an image without segments.
    ///
    /// # Errors
    /// When something that was durable is damaged.
    pub fn recover(_config: ShardConfig, _image: &dyn LogImage) -> Result<(Self, Recovered), RecoveryError> {
        unimplemented!()
    }

    /// Asks for what the shard needs to begin: elections, a first segment, basins to show. Called once, before any event.
    pub fn start(&mut self, _now: Now, _effects: &mut Effects) {
        unimplemented!()
    }

    /// Takes one event and says what to do about it.
    pub fn step(&mut self, _now: Now, _event: Event, _effects: &mut Effects) {
        unimplemented!()
    }

    /// Whether everything that was accepted is durable and answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        unimplemented!()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        unimplemented!()
    }
}
