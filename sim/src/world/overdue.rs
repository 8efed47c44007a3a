//! What is due must come: expiry, deletion of the empty, purges, the end of a dropped basin's streams, and the word to
//! readers of a stream that goes.

use std::collections::BTreeSet;

use engine::log::{Lsn, SegmentNo};
use model::ShardId;

use super::World;
use super::judge::Asked;
use crate::truth::{StreamTruth, seconds};
use crate::violation::{Rule, Violation, broken};

impl World {
    /// Nothing is left that was due long ago. Asked at the end, after a time without faults.
    pub(super) fn check_overdue(&mut self, node: usize) -> Result<(), Violation> {
        let now_us = self.now_us;
        let now_s = u64::from(seconds(self.nodes[node].now(now_us).wall_ms));
        let node = &self.nodes[node];
        let basins = &node.seats[0].truth.basins;
        for (_, id, stream) in node.seats.iter().flat_map(|seat| seat.truth.streams()) {
            if !basins.iter().any(|basin| basin.info.id == stream.basin) {
                return broken(Rule::Heals, format!("stream {} `{}` has outlived its basin", id.0, stream.name));
            }
            if basins.is_going(stream.basin) {
                continue;
            }
            if let Some((what, since_s)) = due(stream).filter(|(_, at_s)| at_s.saturating_add(GRACE_S) < now_s) {
                let what = format!("stream `{}` was due to {what} at {since_s} s and is not at {now_s} s", stream.name);
                return broken(Rule::Heals, what);
            }
        }
        Ok(())
    }

    /// A shard says that its log is full: not for long, once faults have stopped, if so much of it holds nothing.
    pub(super) fn check_full(&mut self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let now_us = self.now_us;
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        let geometry = seat.truth.geometry();
        let last = geometry.segment(Lsn(seat.truth.end().0 - 1));
        let mut used: BTreeSet<SegmentNo> =
            seat.truth.streams().flat_map(|(_, _, s)| &s.batches).map(|b| geometry.segment(b.lsn)).collect();
        used.insert(last);
        let free_count = seat.config.segments_max.saturating_sub(used.len() as u64);
        let index_bytes = seat.shard.as_ref().map_or(0, |machine| machine.stats().index_bytes);
        let has_room = free_count * seat.config.segment_bytes >= RESERVE_BYTES + 2 * seat.config.segment_bytes
            && index_bytes < seat.config.index_bytes_max as u64;
        let since_us = if has_room { seat.promises.roomy_us.unwrap_or(now_us) } else { now_us };
        let room_us = if self.faults_stopped { ROOM_US } else { 3 * ROOM_US };
        seat.promises.roomy_us = Some(since_us);
        if since_us + room_us < now_us {
            let what = format!("shard {}: the log is full, and {free_count} segments of it hold nothing", shard.0);
            return broken(Rule::Heals, what);
        }
        Ok(())
    }

    /// A reader that waits at the end of a stream hears when the stream goes.
    pub(super) fn check_closed(&self, node: usize, shard: ShardId, token: u64) -> Result<(), Violation> {
        let seat = &self.nodes[node].seats[usize::from(shard.0)];
        let Some(pending) = self.pending.get(&token) else { return Ok(()) };
        let (Asked::Follow { from, .. }, Some(named)) = (&pending.asked, &pending.named) else { return Ok(()) };
        let Some(group) = seat.truth.group(named.group) else { return Ok(()) };
        let Some((id, stream)) = pending.incarnation().and_then(|id| Some((id, group.stream_or_gone(id)?))) else {
            return Ok(());
        };
        let is_gone = group.stream(id).is_none_or(|stream| stream.deleted_ms.is_some());
        // With something to fetch, its answer may still be under way.
        if is_gone && seat.unheard == 0 && stream.tail.seq_num <= *from {
            return broken(Rule::Heals, format!("follower {token} waits on `{}`, which is gone", named.stream));
        }
        Ok(())
    }
}

/// What is to be done about a stream without being asked, and from when on, on the wall clock, in seconds.
fn due(stream: &StreamTruth) -> Option<(&'static str, u64)> {
    let config = stream.config.now();
    let written_s = u64::from(stream.written_s);
    if let Some(deleted_ms) = stream.deleted_ms {
        return Some(("be purged", u64::from(seconds(deleted_ms))));
    }
    if stream.trim_point < stream.tail.seq_num {
        // Records expire with the youngest that lies close to them.
        return config.retention_age_secs.map(|age| ("expire", written_s.saturating_add(age)));
    }
    // It may have been emptied by expiry a moment ago.
    let (min_age, max_age) = (config.delete_on_empty_min_age_secs, config.retention_age_secs.unwrap_or(0));
    (min_age > 0).then_some(("be deleted", written_s.saturating_add(min_age.max(max_age))))
}

/// A shard looks at its deadlines at least once a minute, and the clocks have been right for longer than that.
const GRACE_S: u64 = 75;
/// Room without which a shard refuses appends: what it keeps for trims and for extents under way.
const RESERVE_BYTES: u64 = 7 << 20;
/// Room that is there for so long is to be used.
const ROOM_US: u64 = 15_000_000;
