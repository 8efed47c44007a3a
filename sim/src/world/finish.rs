//! The end: faults stop, everything must work again, and all that was acknowledged is read from the disk alone.

use engine::event::Event;
use engine::shard::LogImage;
use model::ShardId;

use super::World;
use super::damage::check_reads;
use super::judge::Asked;
use crate::coverage::Point;
use crate::scratch::Scratch;
use crate::violation::{Rule, Violation, broken};

impl World {
    pub(super) fn finish(&mut self) -> Result<(), Violation> {
        self.faults_stopped = true;
        let now_us = self.now_us;
        for node in &mut self.nodes {
            // The wall clock is set right: what is deleted goes at its time by that clock.
            let behind_ms = node.wall_ms_max.saturating_sub(node.clock.now(now_us).wall_ms);
            node.jumped_us = Some(now_us);
            node.clock.jump(i64::try_from(behind_ms).expect("jumps are small"));
            // A pause ends by itself: what came during it must keep its order.
            node.slow_until_us = 0;
            node.dies_after = None;
            for seat in &mut node.seats {
                seat.heal();
                seat.armed.clear();
                seat.doomed.clear();
            }
        }
        while self.nodes.iter().any(|node| !node.is_up) {
            self.run_until(self.now_us + 1_000_000)?;
        }
        // What slow disks still have to do, and then some time to work.
        self.run_until(self.now_us + 10_000_000)?;
        let acks = self.counts.acks;
        self.run_until(self.now_us + 60_000_000)?;
        if self.counts.acks == acks && self.swarm.think_us < 1_000_000 {
            let what = self.nodes.iter().flat_map(|n| &n.seats).map(state_of).collect::<Vec<_>>().join("; ");
            return broken(Rule::Heals, format!("no append is acknowledged in a minute without faults: {what}"));
        }
        self.clients_stopped = true;
        // Longer than a shard may be late for its deadlines: what was written last and does not live long is due, too.
        self.run_until(self.now_us + 100_000_000)?;
        if let Some((token, pending)) = self.pending.iter().find(|(_, p)| !matches!(p.asked, Asked::Follow { .. })) {
            let what = format!("request {token} ({:?}) of {} us was never answered", pending.asked, pending.sent_us);
            return broken(Rule::Answered, what);
        }
        for (token, pending) in &self.pending {
            let (Asked::Follow { from, .. }, Some(named)) = (&pending.asked, &pending.named) else { continue };
            let truth = &self.nodes[0].seats[usize::from(pending.shard.0)].truth;
            let stream = truth.group(named.group).and_then(|g| g.named(named.basin, &named.stream));
            if stream.is_some_and(|(id, s)| pending.is_about(id) && s.tail.seq_num > *from) {
                return broken(Rule::Heals, format!("follower {token} of `{}` from {from} sleeps", named.stream));
            }
        }
        for node in 0..self.nodes.len() {
            self.check_overdue(node)?;
            self.stop(node)?;
        }
        self.check_history()
    }

    /// Drains a node, stops it, and reads everything from its disks.
    fn stop(&mut self, node: usize) -> Result<(), Violation> {
        for at in 0..self.nodes[node].seats.len() {
            self.give(node, ShardId(u16::try_from(at).expect("few shards")), Event::Drain);
        }
        self.run_until(self.now_us + 1_000)?;
        // Expiry goes on while it drains; rest is a moment at which nothing is under way.
        let last_us = self.now_us + 30_000_000;
        let is_idle = |seat: &crate::node::Seat| seat.shard.as_ref().is_some_and(engine::shard::Shard::is_idle);
        while self.now_us < last_us && !self.nodes[node].seats.iter().all(is_idle) {
            self.run_until(self.now_us + 500)?;
        }
        let now_us = self.now_us;
        let now = self.nodes[node].now(now_us);
        for seat in &mut self.nodes[node].seats {
            if seat.shard.as_ref().is_none_or(|shard| !shard.is_idle()) {
                return broken(Rule::Heals, "a node that drains does not come to rest");
            }
            seat.shard = None;
            let scratch = Scratch::recover(seat.config.clone(), &seat.disk, now);
            let mut scratch = match scratch {
                Ok(scratch) => scratch,
                Err(error) => return broken(Rule::ComesBack, error.to_string()),
            };
            if !seat.truth.goes_on_at(scratch.recovered.end)
                || scratch.streams_count() != seat.truth.streams().count() as u64
            {
                return broken(Rule::ComesBack, "what is on the disk at the end is not all of it");
            }
            if check_reads(&seat.truth, &mut scratch, &seat.disk, |_| true)? {
                return broken(Rule::ReadContents, "at the end something is damaged");
            }
            self.trace.absorb(seat.disk.checkpoint().unwrap_or(&[]));
        }
        for group in self.nodes[node].seats.iter().flat_map(|seat| seat.truth.groups()) {
            let sights = group.sights;
            let seen = [
                (sights.expired, Point::Expired),
                (sights.emptied, Point::EmptyDeleted),
                (sights.recreated, Point::Recreated),
                (sights.leases.given, Point::LeaseGiven),
                (sights.leases.changed, Point::LeaseChanged),
                (sights.leases.released, Point::LeaseReleased),
                (sights.leases.overtaken, Point::LeaseOvertaken),
                (sights.leases.fenced, Point::LeaseFenced),
                (sights.leases.renewed_anew, Point::LeaseAnew),
                (sights.leases.overtaken_anew, Point::LeaseAnewOvertaken),
            ];
            seen.into_iter().filter(|(is_seen, _)| *is_seen).for_each(|(_, point)| self.coverage.point(point));
        }
        if self.nodes[node].seats[0].truth.basins.tokens.has_replaced {
            self.coverage.point(Point::TokenExpired);
        }
        self.coverage.point(Point::Drained);
        Ok(())
    }
}

/// What may be in the way of a shard.
fn state_of(seat: &crate::node::Seat) -> String {
    let stats = seat.shard.as_ref().map(engine::shard::Shard::stats).unwrap_or_default();
    let batches: usize = seat.truth.streams().map(|(_, _, s)| s.batches.len()).sum();
    format!(
        "shard {}: {} streams, {batches} batches, {} of {} segments, {} free, {} B indexed of {}, {} B pending, checkpoint {:?}",
        seat.config.shard.0,
        stats.streams_count,
        stats.segments_count,
        seat.config.segments_max,
        stats.segments_free_count,
        stats.index_bytes,
        seat.config.index_bytes_max,
        stats.pending_bytes,
        seat.checkpoint
    )
}
