//! What each extent says of those before it, held against what the shard had heard: recovery tells damage from a torn end
//! by nothing else. And an epoch for each life.

use engine::log::Lsn;
use engine::log::extent::ExtentHeader;
use model::ShardId;

use super::World;
use crate::violation::{Rule, Violation, broken};

/// What the next extent of a shard has to say.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Promises {
    /// The shard has heard that all before this is durable.
    heard_end: Lsn,
    /// The epochs of its earlier lives are below.
    epoch_min: u32,
    /// Since when its index is full, on the node's clock.
    index_full_us: Option<u64>,
    /// Since when it says that its log is full although there is room, in simulated time.
    pub(super) roomy_us: Option<u64>,
}

impl World {
    /// A shard begins another life on what its disk holds.
    pub(super) fn promise_anew(&mut self, node: usize, shard: ShardId) {
        let now_us = self.now_us;
        let started_us = self.nodes[node].now(now_us).mono_us;
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        seat.truth.begin_life(started_us);
        seat.promises =
            Promises { heard_end: Lsn(0), epoch_min: seat.truth.epoch() + 1, index_full_us: None, roomy_us: None };
    }

    /// A shard that has heard of all that is durable can say so from now on.
    pub(super) fn promise_more(&mut self, node: usize, shard: ShardId) {
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        if seat.unheard == 0 {
            seat.promises.heard_end = seat.truth.end();
        }
    }

    pub(super) fn check_promises(&self, node: usize, shard: ShardId, extent: &[u8]) -> Result<(), Violation> {
        let Promises { heard_end, epoch_min, .. } = self.nodes[node].seats[usize::from(shard.0)].promises;
        let Some((header, _)) = ExtentHeader::decode(extent) else {
            return broken(Rule::Chain, "an extent without an intact header is written");
        };
        // Of a new log nothing is durable, wherever it begins.
        if header.durable_lsn < heard_end && header.prev_lsn != Lsn(0) {
            let what =
                format!("the extent at {} says {} is durable, {} is", header.lsn.0, header.durable_lsn.0, heard_end.0);
            return broken(Rule::DamageTold, what);
        }
        if header.epoch < epoch_min {
            let what = format!("the extent at {} is of epoch {}, as of an earlier life", header.lsn.0, header.epoch);
            return broken(Rule::Chain, what);
        }
        Ok(())
    }

    /// Notes whether the index is full at the end of a burst.
    pub(super) fn note_index(&mut self, node: usize, shard: ShardId, is_full: bool) {
        let now_us = self.now_us;
        let mono_us = self.nodes[node].now(now_us).mono_us;
        let since_us = &mut self.nodes[node].seats[usize::from(shard.0)].promises.index_full_us;
        *since_us = is_full.then(|| since_us.unwrap_or(mono_us));
    }

    /// A full index takes no more records.
    pub(super) fn check_index_had_room(&self, node: usize, shard: ShardId, admitted_us: u64) -> Result<(), Violation> {
        match self.nodes[node].seats[usize::from(shard.0)].promises.index_full_us {
            Some(since_us) if admitted_us > since_us => broken(
                Rule::Budget,
                format!("an append of {admitted_us} us is taken, the index is full since {since_us} us"),
            ),
            Some(_) | None => Ok(()),
        }
    }

    /// A shard that has had nothing to do for a while has said in its log that its last append is durable. Asked of each
    /// shard at the moment it dies.
    pub(super) fn check_rest(&self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let node = &self.nodes[node];
        let seat = &node.seats[usize::from(shard.0)];
        let Some(last) = seat.truth.extents().last() else { return Ok(()) };
        let geometry = seat.truth.geometry();
        // At the end of a segment it may have to wait for the next one.
        let has_room = last.end.0 + ROOM_BYTES < geometry.end(geometry.segment(last.lsn)).0;
        let since_us = last.found_us.max(node.paused_until_us);
        let is_at_rest = seat.shard.as_ref().is_some_and(engine::shard::Shard::is_idle)
            && seat.disk.writes_count() == 0
            && seat.unheard == 0
            && !seat.is_fresh
            && since_us + REST_US < self.now_us;
        if is_at_rest && has_room && last.frames_count > 0 {
            let what = format!("nothing behind the extent at {} says that it is durable", last.lsn.0);
            return broken(Rule::DamageTold, what);
        }
        Ok(())
    }
}

/// Longer than a shard waits before it writes an idle extent, by far.
const REST_US: u64 = 1_000_000;
/// More than an idle extent takes.
const ROOM_BYTES: u64 = 64 << 10;
