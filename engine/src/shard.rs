//! The shard: `step` takes what happened and says what to do.
//!
//! ```text
//! append.rs   admit -> stage            control.rs  streams and basins        read.rs    locate -> cut -> reply
//! stage.rs    stage -> seal -> Write    durable.rs  DiskDone -> commit -> apply -> reply, wake
//! lease.rs    who may append
//! timer.rs    expiry, idle extents      checkpoint.rs, recover.rs             state.rs   what operations change
//! ```

mod append;
mod checkpoint;
mod control;
mod durable;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod inspect;
mod lease;
mod read;
mod recover;
mod stage;
mod state;
mod storage;
mod timer;
mod tokens;

#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)]
mod cipher_tests;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)]
mod lease_tests;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::wildcard_enum_match_arm)]
mod rig;
#[cfg(test)]
#[allow(clippy::wildcard_enum_match_arm)]
mod storage_tests;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, clippy::wildcard_enum_match_arm)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use model::limits::BATCH_RECORDS_MAX;
use model::placement::Placement;
use model::{Failure, ShardId};

use crate::event::{Effect, Effects, Event, LeaseRequest, LogReadId, Now, Op, Reply, ReplyTo, Request, SessionId};
pub use crate::log::recovery::LogImage;
use crate::log::segment::SegmentHeader;
use crate::log::space::Space;
use crate::log::writer::LogWriter;
use crate::log::{Geometry, Lsn, SegmentNo};
use crate::mutation::Mutation;
use crate::read::cache::TailCache;
use crate::read::waiters::Waiters;
use crate::shard::checkpoint::Checkpoint;
pub use crate::shard::inspect::{BasinReport, ExtentReport, SegmentReport, ShardReport, StreamReport, inspect};
use crate::shard::read::PendingRead;
use crate::shard::stage::{SealedExtent, Stage};
use crate::shard::state::State;
use crate::shard::timer::{Chore, Timer};

/// What a shard is made of and may use. All sizes in bytes.
#[derive(Debug, Clone)]
pub struct ShardConfig {
    /// Which shard this is.
    pub shard: ShardId,
    /// How slots are spread over groups and shards.
    pub placement: Placement,
    /// Identifies the data directory; every segment and checkpoint carries it.
    pub directory_id: u128,
    /// Size of a segment file, at least [`SEGMENT_BYTES_MIN`]. Fixed when the data directory is made.
    pub segment_bytes: u64,
    /// Segments that may exist at once; when all hold live data, appends get "log full".
    pub segments_max: u64,
    /// Size of an extent; at least [`EXTENT_BYTES_MIN`], so that one batch of any shape fits.
    pub extent_bytes_max: usize,
    /// Extents that may be on their way to the device.
    pub in_flight_max: usize,
    /// Recent extents kept in memory for readers.
    pub cache_bytes_max: usize,
    /// Memory for the index of the log; when it is used up, appends get "log full".
    pub index_bytes_max: usize,
    /// Readers that may wait at once; one more is told that the server is busy.
    pub readers_max: usize,
    /// Log written between two checkpoints.
    pub checkpoint_log_bytes: u64,
    /// Cut the log before a damaged extent instead of refusing to start. Loses what was acknowledged.
    pub accept_data_loss: bool,
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
    /// Damage that was cut off because the settings said so.
    pub lost: Option<String>,
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
    /// Requests that wait for room in the open extent.
    pub deferred_count: u64,
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
pub struct Shard {
    config: ShardConfig,
    geometry: Geometry,
    state: State,
    writer: LogWriter,
    space: Space,
    /// Recovery would begin in this segment.
    replay_from: SegmentNo,
    stage: Stage,
    /// Extents on their way, and those that wait for their groups to commit.
    sealed: VecDeque<SealedExtent>,
    /// Everything staged under this ticket and before is applied.
    applied_ticket: u64,
    /// Answers that wait until the state they were judged against is durable, by ticket.
    held: BTreeMap<u64, Vec<(ReplyTo, Reply)>>,
    /// Requests that wait for room in the open extent, in order. Bounded by what fronts may have outstanding.
    deferred: VecDeque<Request>,
    /// Sessions of which an input failed; each is removed by its front.
    poisoned: BTreeSet<SessionId>,
    cache: TailCache,
    waiters: Waiters,
    reads: BTreeMap<LogReadId, PendingRead>,
    last_read: u64,
    /// Memory of all streams' indices.
    index_bytes: usize,
    checkpoint: Checkpoint,
    chores: VecDeque<Chore>,
    timer: Timer,
    is_draining: bool,
    /// When it started, on the clock of `Now::mono_us`: leases of before run anew from here.
    started_us: u64,
    /// Something was refused for want of room: a checkpoint may free some, though nothing is written that asks for one.
    wants_room: bool,
    stats: ShardStats,
    /// Room for the timestamps of one batch.
    timestamps: Box<[u64; BATCH_RECORDS_MAX]>,
}

impl Shard {
    /// Takes one event and says what to do about it.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::Request(request) => self.request(now, request, effects),
            Event::BurstEnd => self.flush(now, effects),
            Event::ExtentDurable { lsn } => self.extent_durable(now, lsn, effects),
            Event::LogRead { id, result } => self.log_read(id, result, effects),
            Event::SegmentReady { segment } => {
                self.space.prepared(segment);
                self.go_on(now, effects);
            }
            Event::SegmentFailed { segment, reason: _ } => self.space.prepare_failed(segment, now.mono_us),
            Event::CheckpointWritten => self.checkpoint_written(now, effects),
            Event::CheckpointFailed { reason: _ } => self.checkpoint_failed(now),
            Event::Timer => self.timer_fired(now, effects),
            Event::Shard(message) => self.shard_message(now, message, effects),
            Event::Drain => self.is_draining = true,
        }
        if std::mem::take(&mut self.wants_room) {
            self.consider_checkpoint(now, effects);
        }
        self.prepare_segment(now, effects);
        self.arm_timer(now, effects);
    }

    /// Asks for what the shard needs to begin: elections, a first segment, basins to show. Called once, before any event.
    pub fn start(&mut self, now: Now, effects: &mut Effects) {
        self.started_us = now.mono_us;
        for basin in self.state.metadata.iter() {
            effects.push(Effect::Publish(crate::event::BasinChange::Put(basin.info.clone())));
        }
        for token in self.state.tokens.committed() {
            effects.push(Effect::PublishToken(crate::event::TokenChange::Put(token.clone())));
        }
        for group in &mut self.state.groups {
            group.consensus.campaign();
        }
        self.stage.must_seal = true;
        self.flush(now, effects);
        self.prepare_segment(now, effects);
        self.arm_timer(now, effects);
    }

    fn request(&mut self, now: Now, request: Request, effects: &mut Effects) {
        let room_bytes = log_bytes_max(&request.op);
        // The end of a session stays behind its appends.
        let ends = matches!(request.op, Op::EndSession(_)) && !Mutation::SessionEndOvertakes.is_on();
        let keeps_order = room_bytes > 0 || ends;
        let waits = keeps_order && !self.deferred.is_empty() && !Mutation::DeferredOvertaken.is_on();
        if waits || (room_bytes > 0 && !self.make_room(now, room_bytes, effects)) {
            self.deferred.push_back(request);
            return;
        }
        self.serve(now, request, effects);
    }

    fn serve(&mut self, now: Now, request: Request, effects: &mut Effects) {
        let Request { reply_to: to, arrived_us, op } = request;
        match op {
            Op::Append(append) => self.append(now, to, arrived_us, append, effects),
            Op::OpenSession { target, create } => self.open_session(now, to, &target, create, effects),
            Op::EndSession(session) => drop(self.poisoned.remove(&session)),
            Op::CheckTail { target, create } => self.check_tail(now, to, &target, create, effects),
            Op::Read(read) => self.read(now, to, read, effects),
            Op::Follow(follow) => self.follow(to, follow, effects),
            Op::CancelFollow(token) => self.cancel_follow(ReplyTo { front: to.front, token }),
            Op::CreateStream { target, spec, request_key } => {
                self.create_stream(now, to, &target, spec, request_key, effects)
            }
            Op::EnsureStream { target, spec } => self.ensure_stream(now, to, &target, spec, effects),
            Op::ReconfigureStream { target, change, defaults } => {
                self.reconfigure_stream(to, &target, change, &defaults, effects);
            }
            Op::GetStreamConfig { target } => self.get_stream_config(to, &target, effects),
            Op::DeleteStream { target } => self.delete_stream(now, to, &target, effects),
            Op::Lease { target, request } => self.lease(now, to, &target, request, effects),
            Op::ListStreams { basin_id, prefix, start_after, limit } => {
                let lists = self.state.groups.iter().map(|g| g.catalog.list(basin_id, &prefix, &start_after, limit));
                effects.reply(to, control::merge_lists(lists, limit));
            }
            Op::MeterStorage(of) => self.meter_storage(to, of, effects),
            Op::CreateBasin { basin, config, request_key } => {
                self.create_basin(now, to, basin, config, request_key, effects)
            }
            Op::EnsureBasin { basin, config } => self.ensure_basin(now, to, basin, config, effects),
            Op::ReconfigureBasin { basin, change } => self.reconfigure_basin(to, &basin, change, effects),
            Op::DeleteBasin { basin } => self.delete_basin(now, to, &basin, effects),
            Op::IssueToken(token) => self.issue_token(now, to, token, effects),
            Op::RevokeToken(id) => self.revoke_token(to, &id, effects),
        }
    }

    /// Serves what waited for room, as far as there is room now.
    fn go_on(&mut self, now: Now, effects: &mut Effects) {
        self.do_chores(now, effects);
        while let Some(request) = self.deferred.pop_front() {
            if !self.make_room(now, log_bytes_max(&request.op), effects) {
                self.deferred.push_front(request);
                break;
            }
            self.serve(now, request, effects);
        }
        self.flush(now, effects);
    }

    /// Answers once everything staged under `ticket` is applied.
    fn reply_after(&mut self, ticket: u64, to: ReplyTo, reply: Reply, effects: &mut Effects) {
        if ticket <= self.applied_ticket {
            effects.reply(to, reply);
        } else {
            self.held.entry(ticket).or_default().push((to, reply));
        }
    }

    fn fail(&mut self, to: ReplyTo, (failure, ticket): (Failure, u64), effects: &mut Effects) {
        self.reply_after(ticket, to, Reply::Failed(failure), effects);
    }

    fn prepare_segment(&mut self, now: Now, effects: &mut Effects) {
        let Some(prepare) = self.space.prepare(now.mono_us, self.replay_from) else { return };
        let header = SegmentHeader { segment: prepare.segment, ..segment_header(&self.config) };
        effects.push(Effect::PrepareSegment {
            segment: prepare.segment,
            recycled: prepare.recycled,
            header: header.encode(),
        });
    }

    /// Whether everything that was accepted is durable and answered.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.writer.is_idle() && self.deferred.is_empty() && self.sealed.is_empty()
    }

    /// Counters and gauges.
    #[must_use]
    pub fn stats(&self) -> ShardStats {
        let (segments_count, segments_free_count) = self.space.counts(self.replay_from);
        ShardStats {
            streams_count: self.state.streams_count() as u64,
            readers_count: self.waiters.len() as u64,
            cache_bytes: self.cache.bytes() as u64,
            index_bytes: self.index_bytes as u64,
            pending_bytes: self.writer.pending_bytes(),
            deferred_count: self.deferred.len() as u64,
            segments_count,
            segments_free_count,
            ..self.stats
        }
    }
}

/// What all segments of a log have in common.
fn segment_header(config: &ShardConfig) -> SegmentHeader {
    SegmentHeader {
        directory_id: config.directory_id,
        shard: config.shard,
        segment: SegmentNo(0),
        segment_bytes: config.segment_bytes,
    }
}

/// Bytes that a request may put into the open extent; 0 when it needs no log.
const fn log_bytes_max(op: &Op) -> usize {
    match op {
        Op::Append(append) => append.batch.stored_bytes_max() + CONTROL_BYTES_MAX,
        Op::OpenSession { create, .. } | Op::CheckTail { create, .. } => match create {
            Some(_) => CONTROL_BYTES_MAX,
            None => 0,
        },
        Op::Read(read) => match read.create {
            Some(_) => CONTROL_BYTES_MAX,
            None => 0,
        },
        Op::Lease { request, .. } => match request {
            LeaseRequest::Inspect => 0,
            LeaseRequest::Acquire { .. } | LeaseRequest::Renew { .. } | LeaseRequest::Release { .. } => {
                CONTROL_BYTES_MAX
            }
        },
        Op::CreateStream { .. }
        | Op::EnsureStream { .. }
        | Op::ReconfigureStream { .. }
        | Op::DeleteStream { .. }
        | Op::CreateBasin { .. }
        | Op::EnsureBasin { .. }
        | Op::ReconfigureBasin { .. }
        | Op::DeleteBasin { .. }
        | Op::RevokeToken(_) => CONTROL_BYTES_MAX,
        // An expired token may have to give its place.
        Op::IssueToken(_) => 2 * CONTROL_BYTES_MAX,
        Op::EndSession(_)
        | Op::Follow(_)
        | Op::CancelFollow(_)
        | Op::GetStreamConfig { .. }
        | Op::MeterStorage(_)
        | Op::ListStreams { .. } => 0,
    }
}

/// Bytes of a control frame: two frame headers, a name, a configuration with a storage class of at most 64 bytes;
/// or an access token with the longest names in its scope.
pub(crate) const CONTROL_BYTES_MAX: usize = 1024;
/// Smallest segment: several extents and the reserve fit.
pub const SEGMENT_BYTES_MIN: u64 = 16 << 20;
/// Smallest extent: a batch of 1 MiB metered takes at most about twice that when stored, for tiny headers.
pub const EXTENT_BYTES_MIN: usize = 5 << 19;
