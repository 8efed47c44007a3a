//! What a run is like, out of its seed: sizes, load, which faults and how often.
//!
//! Each seed leaves some things out and overdoes others (Groce et al., "Swarm Testing", ISSTA '12): a mean of
//! everything would never fill a log and never keep one busy disk waiting.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::shard::ShardConfig;
use model::ShardId;
use model::config::{Cipher, ResolvedStreamConfig, RetentionPolicy, StreamConfig, TimestampingMode};
use model::placement::Placement;

use crate::coverage::Fault;
use crate::rng::Rng;

/// How a run is set up.
#[derive(Debug, Clone)]
pub(crate) struct Swarm {
    /// Shards of a node, and data groups.
    pub placement: Placement,
    /// See [`ShardConfig`].
    pub segment_bytes: u64,
    /// See [`ShardConfig`].
    pub segments_max: u64,
    /// See [`ShardConfig`].
    pub extent_bytes_max: usize,
    /// See [`ShardConfig`].
    pub in_flight_max: usize,
    /// See [`ShardConfig`].
    pub cache_bytes_max: usize,
    /// See [`ShardConfig`].
    pub index_bytes_max: usize,
    /// See [`ShardConfig`].
    pub readers_max: usize,
    /// See [`ShardConfig`].
    pub checkpoint_log_bytes: u64,
    /// Names of basins in use.
    pub basins_count: usize,
    /// Names of streams in use, per basin.
    pub streams_count: usize,
    /// How much busier the first streams are.
    pub skew: u32,
    /// Clients.
    pub clients_count: usize,
    /// Mean pause of a client between an answer and the next request.
    pub think_us: u64,
    /// Most records of a batch, and most bytes of a record.
    pub records_max: usize,
    /// See `records_max`.
    pub record_bytes_max: usize,
    /// Whether batches come as large as an extent takes, at times.
    pub has_large_batches: bool,
    /// Whether sessions send much at once, at times.
    pub has_bursts: bool,
    /// As many streams as fill several pieces of a checkpoint, on one shard.
    pub has_many_streams: bool,
    /// Whether basins change all the time.
    pub has_busy_basins: bool,
    /// Clients that want leases, beside the others.
    pub holders_count: usize,
    /// What streams are given to seal their records with.
    pub ciphers: Vec<Option<Cipher>>,
    /// Of the streams whose history is kept.
    pub witness_config: Arc<ResolvedStreamConfig>,
    /// Configurations that streams are given.
    pub configs: Vec<Arc<ResolvedStreamConfig>>,
    /// Faults that happen, with their mean interval in microseconds.
    pub faults: BTreeMap<Fault, u64>,
}

impl Swarm {
    /// The run of this seed. `wanted` are the faults to use; each seed uses some of them.
    #[must_use]
    pub(crate) fn new(rng: &mut Rng, wanted: &[Fault]) -> Self {
        let has_many_streams = rng.one_in(10);
        let shards_count = if has_many_streams { 1 } else { rng.pick(&[1, 1, 1, 2, 3]) };
        let groups_count = if has_many_streams { 1 } else { u32::from(shards_count) * rng.pick(&[1, 1, 2, 3]) };
        let has_large_batches = rng.one_in(8);
        let segment_bytes = if has_large_batches { 4 << 20 } else { rng.pick(&[512 << 10, 1 << 20, 1 << 20, 2 << 20]) };
        let extent_bytes_max =
            if has_large_batches { 5 << 19 } else { rng.pick(&[48 << 10, 64 << 10, 128 << 10, 256 << 10]) };
        let log_bytes = rng.pick(&[9 << 20, 12 << 20, 16 << 20, 24 << 20]);
        let records_max = rng.pick(&[1, 3, 20, 100]);
        let is_busy = rng.one_in(10);
        Self {
            placement: Placement { groups_count, shards_count },
            segment_bytes,
            // What is kept free for trims and for extents under way, and a few segments to use.
            segments_max: (log_bytes / segment_bytes).max((7 << 20) / segment_bytes + 5),
            extent_bytes_max,
            in_flight_max: rng.pick(&[1, 2, 3, 4]),
            cache_bytes_max: rng.pick(&[0, 32 << 10, 256 << 10, 1 << 20]),
            index_bytes_max: rng.pick(&[4 << 10, 32 << 10, 1 << 20]),
            readers_max: rng.pick(&[1, 4, 64]),
            checkpoint_log_bytes: rng.pick(&[64 << 10, 256 << 10, 1 << 20, 4 << 20]),
            basins_count: rng.pick(&[1, 1, 2, 3]),
            streams_count: if has_many_streams { 900 } else { rng.pick(&[2, 5, 20, 60]) },
            skew: if has_many_streams { 0 } else { rng.pick(&[0, 1, 4]) },
            clients_count: rng.pick(&[3, 5, 8, 12]),
            think_us: if is_busy || has_many_streams {
                rng.pick(&[5_000, 20_000, 50_000])
            } else {
                rng.pick(&[150_000, 300_000, 600_000, 1_200_000])
            },
            records_max,
            record_bytes_max: rng.pick(&[16, 100, 1_000, 4_000]),
            has_large_batches,
            has_bursts: rng.one_in(3),
            has_many_streams,
            has_busy_basins: rng.one_in(6),
            holders_count: rng.pick(&[0, 2, 3, 5]),
            ciphers: rng.pick(&[&CIPHERS[..1], &CIPHERS[..1], &CIPHERS[..], &CIPHERS[1..]]).to_vec(),
            witness_config: config(None, 0, TimestampingMode::ClientPrefer, false),
            configs: configs(rng),
            faults: faults(rng, wanted),
        }
    }

    /// The settings of one shard.
    #[must_use]
    pub(crate) const fn shard(&self, shard: ShardId) -> ShardConfig {
        ShardConfig {
            shard,
            placement: self.placement,
            directory_id: DIRECTORY_ID,
            segment_bytes: self.segment_bytes,
            segments_max: self.segments_max,
            extent_bytes_max: self.extent_bytes_max,
            in_flight_max: self.in_flight_max,
            cache_bytes_max: self.cache_bytes_max,
            index_bytes_max: self.index_bytes_max,
            readers_max: self.readers_max,
            checkpoint_log_bytes: self.checkpoint_log_bytes,
            accept_data_loss: false,
        }
    }
}

/// Configurations of a run: most streams forget quickly, or the log would be full for ever.
fn configs(rng: &mut Rng) -> Vec<Arc<ResolvedStreamConfig>> {
    let mut configs = vec![config(Some(rng.between(5, 60)), 0, TimestampingMode::ClientPrefer, false)];
    for _ in 0..rng.between(1, 4) {
        let retention = rng.pick(&[None, Some(1), Some(20), Some(20), Some(120), Some(3600)]);
        let min_age = rng.pick(&[0, 0, 1, 5, 60]);
        let mode =
            rng.pick(&[TimestampingMode::ClientPrefer, TimestampingMode::ClientRequire, TimestampingMode::Arrival]);
        configs.push(config(retention, min_age, mode, rng.one_in(3)));
    }
    configs
}

fn config(
    retention_secs: Option<u64>,
    min_age_secs: u64,
    mode: TimestampingMode,
    uncapped: bool,
) -> Arc<ResolvedStreamConfig> {
    let config = StreamConfig {
        storage_class: None,
        retention: Some(retention_secs.map_or(RetentionPolicy::Infinite, RetentionPolicy::AgeSecs)),
        timestamping_mode: Some(mode),
        timestamping_uncapped: Some(uncapped),
        delete_on_empty_min_age_secs: Some(min_age_secs),
    };
    Arc::new(config.resolve(&StreamConfig::default()))
}

fn faults(rng: &mut Rng, wanted: &[Fault]) -> BTreeMap<Fault, u64> {
    let hurry = rng.pick(&[1, 2, 2, 4]);
    let mut faults = BTreeMap::new();
    for fault in wanted {
        if rng.percent(80) {
            faults.insert(*fault, fault.mean_us() / hurry);
        }
    }
    faults
}

/// None, and all there are.
const CIPHERS: [Option<Cipher>; 3] = [None, Some(Cipher::Aegis256), Some(Cipher::Aes256Gcm)];
const DIRECTORY_ID: u128 = 0x6d69_6c6c_7261_6365;
