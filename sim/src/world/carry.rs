//! A burst of a shard: events in, effects out; and how the disk answers.

use engine::event::{BasinChange, CheckpointPart, Effect, Event, Op, Request, ShardMessage};
use engine::log::{BLOCK_BYTES, Lsn, SegmentNo};
use model::ShardId;

use super::{Repeat, What, World};
use crate::coverage::{Fault, Point};
use crate::disk::{Work, WorkId};
use crate::node::CheckpointPhase;
use crate::violation::{Rule, Violation, broken};

impl World {
    /// Puts an event before a shard.
    pub(super) fn give(&mut self, node: usize, shard: ShardId, event: Event) {
        let delay_us = self.rng.below(60);
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        seat.inbox.push_back(event);
        if !seat.is_called {
            seat.is_called = true;
            self.soon(delay_us, node, What::Burst(shard));
        }
    }

    pub(super) fn arrive(&mut self, node: usize, shard: ShardId, request: Request) {
        self.note(node, shard, "arrive", [request.reply_to.token, 0, 0]);
        self.give(node, shard, Event::Request(request));
    }

    pub(super) fn timer(&mut self, node: usize, shard: ShardId, at_us: u64) -> Result<(), Violation> {
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        if seat.timer_us == Some(at_us) {
            seat.timer_us = None;
            self.give(node, shard, Event::Timer);
        }
        Ok(())
    }

    /// A shard takes all that has come, then hears that this is all.
    pub(super) fn burst(&mut self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let at = usize::from(shard.0);
        self.nodes[node].seats[at].is_called = false;
        self.promise_more(node, shard);
        let events = std::mem::take(&mut self.nodes[node].seats[at].inbox);
        let count = events.len() as u64;
        for event in events {
            self.step(node, shard, event)?;
        }
        self.step(node, shard, Event::BurstEnd)?;
        self.counts.events += count + 1;
        self.note(node, shard, "burst", [count, 0, 0]);
        self.check_budgets(node, shard)?;
        let seat = &self.nodes[node].seats[at];
        let index_bytes = seat.shard.as_ref().map_or(0, |machine| machine.stats().index_bytes);
        let is_full = index_bytes >= seat.config.index_bytes_max as u64;
        let effects: Vec<Effect> = self.nodes[node].seats[at].effects.drain().collect();
        for effect in effects {
            if let Some(left) = &mut self.nodes[node].dies_after {
                if *left == 0 {
                    return self.die(node, Some(Fault::KillMidway));
                }
                *left -= 1;
            }
            self.carry(node, shard, effect)?;
        }
        self.note_index(node, shard, is_full);
        Ok(())
    }

    fn step(&mut self, node: usize, shard: ShardId, event: Event) -> Result<(), Violation> {
        let now_us = self.now_us;
        let now = self.nodes[node].now(now_us);
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        let cancelled = match &event {
            Event::Request(Request { op: Op::CancelFollow(token), .. }) => Some(*token),
            Event::ExtentDurable { .. } => {
                seat.unheard -= 1;
                seat.is_fresh = false;
                None
            }
            Event::SegmentReady { .. } | Event::SegmentFailed { .. } => {
                seat.preparing = None;
                None
            }
            Event::CheckpointWritten => {
                if seat.checkpoint == CheckpointPhase::Commit {
                    self.coverage.point(Point::CheckpointDone);
                    if std::mem::take(&mut seat.checkpoint_failed) {
                        self.coverage.point(Point::CheckpointFailed);
                    }
                }
                seat.checkpoint = CheckpointPhase::None;
                None
            }
            Event::CheckpointFailed { .. } => {
                seat.checkpoint = CheckpointPhase::None;
                seat.checkpoint_failed = true;
                None
            }
            Event::Request(_)
            | Event::BurstEnd
            | Event::LogRead { .. }
            | Event::Timer
            | Event::Shard(_)
            | Event::Drain => None,
        };
        let machine = seat.shard.as_mut().expect("only a node that is up hears");
        machine.step(now, event, &mut seat.effects);
        if let Some(token) = cancelled {
            self.follow_cancelled(node, shard, token)?;
        }
        Ok(())
    }

    fn check_budgets(&mut self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let seat = &self.nodes[node].seats[usize::from(shard.0)];
        let machine = seat.shard.as_ref().expect("it has just stepped");
        let (stats, config) = (machine.stats(), &seat.config);
        let extents = (config.extent_bytes_max * (config.in_flight_max + 1)) as u64;
        let bounds = [
            ("readers", stats.readers_count, config.readers_max as u64),
            ("pending bytes", stats.pending_bytes, extents),
            ("cache bytes", stats.cache_bytes, (config.cache_bytes_max + config.extent_bytes_max) as u64),
            ("segments", stats.segments_count, config.segments_max),
            // An append that was admitted just below the bound may bring an entry per record of an extent.
            ("index bytes", stats.index_bytes, (config.index_bytes_max + INDEX_SLACK_BYTES) as u64),
        ];
        if stats.deferred_count > 0 {
            self.coverage.point(Point::Deferred);
        }
        match bounds.into_iter().find(|(_, is, max)| is > max) {
            Some((what, is, max)) => broken(Rule::Budget, format!("{is} {what}, of at most {max}")),
            None => Ok(()),
        }
    }

    pub(super) fn carry(&mut self, node: usize, shard: ShardId, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Reply { to, reply } => self.reply(node, shard, to, reply),
            Effect::Publish(change) => self.publish(node, shard, change),
            Effect::PublishToken(change) => {
                self.publish_token(node, shard, change, self.now_us.saturating_sub(HEARD_US))
            }
            Effect::WriteExtent { lsn, segment, offset, bytes } => {
                self.check_write(node, shard, (lsn, segment, offset), bytes.len())?;
                self.check_promises(node, shard, &bytes)?;
                self.note(node, shard, "write extent", [lsn.0, bytes.len() as u64, 0]);
                self.trace.absorb(&bytes);
                let now_us = self.now_us;
                let mono_us = self.nodes[node].now(now_us).mono_us;
                self.nodes[node].seats[usize::from(shard.0)].truth.will_write(lsn, mono_us);
                let offset = usize::try_from(offset).expect("segments fit memory");
                self.begin(node, shard, Work::Write { lsn, segment, offset, bytes });
                Ok(())
            }
            Effect::ReadLog { id, segment, offset, len } => {
                self.coverage.point(Point::DeviceRead);
                self.note(node, shard, "read log", [segment.0, offset, u64::from(len)]);
                let (offset, len) = (usize::try_from(offset).expect("segments fit memory"), len as usize);
                self.begin(node, shard, Work::Read { id, segment, offset, len });
                Ok(())
            }
            Effect::PrepareSegment { segment, recycled, header } => {
                self.check_prepare(node, shard, segment, recycled)?;
                self.note(node, shard, "prepare segment", [segment.0, recycled.map_or(0, |s| s.0), 0]);
                if let Some(recycled) = recycled {
                    self.coverage.point(Point::Recycled);
                    self.nodes[node].seats[usize::from(shard.0)].rots.retain(|rot| rot.segment != recycled);
                }
                self.nodes[node].seats[usize::from(shard.0)].preparing = Some(recycled.is_some());
                self.begin(node, shard, Work::Prepare { segment, recycled, header });
                Ok(())
            }
            Effect::Checkpoint(part) => {
                let what = match &part {
                    CheckpointPart::Begin => {
                        self.hurry_before_checkpoint();
                        "checkpoint begin"
                    }
                    CheckpointPart::Bytes(bytes) => {
                        self.trace.absorb(bytes);
                        "checkpoint bytes"
                    }
                    CheckpointPart::Commit => "checkpoint commit",
                };
                self.note(node, shard, what, [0; 3]);
                self.nodes[node].seats[usize::from(shard.0)].note_part(&part);
                self.begin(node, shard, Work::Checkpoint(part));
                Ok(())
            }
            Effect::SetTimer { at_us } => {
                let true_us = self.nodes[node].clock.true_us(self.now_us, at_us);
                self.nodes[node].seats[usize::from(shard.0)].timer_us = Some(at_us);
                self.soon(true_us - self.now_us, node, What::Timer(shard, at_us));
                Ok(())
            }
            Effect::SendShard { to, message } => {
                if let ShardMessage::DropBasin(basin) = message
                    && !self.nodes[node].seats[0].truth.basins.is_going(basin)
                {
                    return broken(Rule::DeleteLawful, format!("basin {} is dropped and not durably deleted", basin.0));
                }
                let delay_us = self.rng.below(200);
                self.soon(delay_us, node, What::Message(to, message));
                Ok(())
            }
        }
    }

    fn publish(&mut self, node: usize, shard: ShardId, change: BasinChange) -> Result<(), Violation> {
        let truth = &self.nodes[node].seats[usize::from(shard.0)].truth.basins;
        match change {
            BasinChange::Put(info) => {
                let is_so = truth.get(&info.name).is_some_and(|basin| basin.had(&info));
                if !is_so && !truth.was_deleting(&info.name, self.now_us.saturating_sub(HEARD_US)) {
                    return broken(Rule::Basins, format!("basin `{}` is shown and is not so in the log", info.name));
                }
                self.nodes[node].basins.insert(info.name.clone(), info);
            }
            BasinChange::Removed(name) => {
                if !truth.was_absent(&name, self.now_us.saturating_sub(HEARD_US)) {
                    return broken(Rule::Basins, format!("basin `{name}` is shown as gone and is there"));
                }
                self.coverage.point(Point::BasinGone);
                self.nodes[node].basins.remove(&name);
            }
        }
        Ok(())
    }

    /// Whether an extent may be written there.
    fn check_write(
        &self,
        node: usize,
        shard: ShardId,
        (lsn, segment, offset): (Lsn, SegmentNo, u64),
        len: usize,
    ) -> Result<(), Violation> {
        let seat = &self.nodes[node].seats[usize::from(shard.0)];
        let geometry = seat.truth.geometry();
        let is_placed = geometry.segment(lsn) == segment
            && geometry.offset(lsn) == offset
            && lsn.0 + len as u64 <= geometry.end(segment).0
            && offset >= BLOCK_BYTES as u64
            && offset.is_multiple_of(BLOCK_BYTES as u64)
            && len.is_multiple_of(BLOCK_BYTES);
        if !is_placed || !seat.disk.has(segment) {
            return broken(Rule::Chain, format!("{len} bytes at {offset} of segment {} for lsn {}", segment.0, lsn.0));
        }
        if lsn < seat.truth.end() {
            return broken(Rule::Chain, format!("a write at {} below the durable end {}", lsn.0, seat.truth.end().0));
        }
        if seat.disk.writes_count() >= seat.config.in_flight_max {
            return broken(Rule::Budget, format!("more than {} extents in flight", seat.config.in_flight_max));
        }
        let overlaps = seat.disk.under_way().any(|work| match work {
            Work::Write { lsn: other, bytes, .. } => {
                other.0 < lsn.0 + len as u64 && lsn.0 < other.0 + bytes.len() as u64
            }
            Work::Read { .. } | Work::Prepare { .. } | Work::Checkpoint(_) => false,
        });
        if overlaps { broken(Rule::Chain, format!("two extents in flight share {}", lsn.0)) } else { Ok(()) }
    }

    /// Whether a segment may be made out of another.
    fn check_prepare(
        &self,
        node: usize,
        shard: ShardId,
        segment: SegmentNo,
        recycled: Option<SegmentNo>,
    ) -> Result<(), Violation> {
        let seat = &self.nodes[node].seats[usize::from(shard.0)];
        if seat.disk.has(segment) {
            return broken(Rule::Recycle, format!("segment {} is made and exists", segment.0));
        }
        let Some(old) = recycled else { return Ok(()) };
        if !seat.disk.has(old) {
            return broken(Rule::Recycle, format!("segment {} is recycled and does not exist", old.0));
        }
        let geometry = seat.truth.geometry();
        for (_, _, stream) in seat.truth.streams() {
            if let Some(batch) = stream.batches.iter().find(|b| geometry.segment(b.lsn) == old) {
                let what =
                    format!("segment {} holds records from {} on of stream `{}`", old.0, batch.first, stream.name);
                return broken(Rule::Recycle, what);
            }
        }
        Ok(())
    }

    /// Gives work to the disk.
    fn begin(&mut self, node: usize, shard: ShardId, work: Work) {
        let slow = self.nodes[node].slow_until_us > self.now_us;
        // Most devices think of something else now and then, some of them for long: what was asked later ends sooner.
        let stall_us = if self.rng.one_in(200) { self.rng.pick(&[8_000, 8_000, 8_000, 400_000]) } else { 0 };
        // An extent that a whole checkpoint overtakes.
        let is_overtaken = matches!(work, Work::Write { .. })
            && self.nodes[node].seats[usize::from(shard.0)].checkpoint != CheckpointPhase::None
            && self.rng.one_in(if self.swarm.has_busy_basins { 3 } else { 10 });
        let stall_us = if is_overtaken { 50_000 } else { stall_us };
        let base_us = match &work {
            Work::Write { .. } => self.rng.between(60, 260),
            Work::Read { .. } => self.rng.between(50, 400),
            Work::Prepare { recycled: Some(_), .. } => self.rng.between(200, 3_000),
            Work::Prepare { recycled: None, .. } => self.rng.between(1_000, 60_000),
            Work::Checkpoint(_) => self.rng.between(50, 4_000),
        };
        let mut after_us = base_us * if slow { 100 } else { 1 } + stall_us;
        let seat = &mut self.nodes[node].seats[usize::from(shard.0)];
        let armed = seat.armed.iter().position(|fault| fits(*fault, &work));
        let id = seat.disk.begin(work);
        if let Some(armed) = armed {
            let fault = seat.armed.swap_remove(armed);
            seat.doomed.insert(id, fault);
            after_us = base_us.min(FAILS_US);
        }
        let is_rare_moment = seat.disk.writes_count() > 1;
        if is_rare_moment {
            self.haunt(node, 6);
        }
        self.soon(after_us, node, What::DiskEnd(shard, id));
    }

    /// The disk has done something, or failed at it.
    pub(super) fn disk_end(&mut self, node: usize, shard: ShardId, id: WorkId) -> Result<(), Violation> {
        let at = usize::from(shard.0);
        if let Some(fault) = self.nodes[node].seats[at].doomed.remove(&id) {
            return self.disk_fails(node, shard, id, fault);
        }
        let Some((work, read)) = self.nodes[node].seats[at].disk.finish(id) else { return Ok(()) };
        match work {
            Work::Write { lsn, segment, offset, bytes } => {
                self.note(node, shard, "extent durable", [lsn.0, 0, 0]);
                let (start, end) = (offset, offset + bytes.len());
                let seat = &mut self.nodes[node].seats[at];
                seat.rots.retain(|rot| rot.segment != segment || rot.offset < start || rot.offset >= end);
                seat.unheard += 1;
                let is_rare_moment = seat.disk.writes_count() > 0;
                self.look(node, shard)?;
                self.give(node, shard, Event::ExtentDurable { lsn });
                if is_rare_moment {
                    self.haunt(node, 6);
                }
                // One extent durable and not heard of, another on its way: the shortest of moments to die in.
                if is_rare_moment && self.swarm.faults.contains_key(&Fault::Kill) && self.rng.one_in(5) {
                    let after_us = self.rng.below(20);
                    self.soon(after_us, node, What::Mishap(Fault::Kill, Repeat::No));
                }
            }
            Work::Read { id, .. } => self.give(node, shard, Event::LogRead { id, result: Ok(read) }),
            Work::Prepare { segment, recycled, .. } => {
                // What the checkpoint in the making would replay no longer may be gone, and that in force needs it.
                let is_between = self.nodes[node].seats[at].checkpoint != CheckpointPhase::None && recycled.is_some();
                self.give(node, shard, Event::SegmentReady { segment });
                if is_between && self.swarm.faults.contains_key(&Fault::Kill) && self.rng.one_in(3) {
                    let after_us = self.rng.below(50);
                    self.soon(after_us, node, What::Mishap(Fault::Kill, Repeat::No));
                }
            }
            Work::Checkpoint(part) => {
                let overtakes = part == CheckpointPart::Commit && self.nodes[node].seats[at].disk.writes_count() > 0;
                self.give(node, shard, Event::CheckpointWritten);
                if overtakes && self.swarm.faults.contains_key(&Fault::Kill) && self.rng.one_in(5) {
                    let after_us = self.rng.below(250);
                    self.soon(after_us, node, What::Mishap(Fault::Kill, Repeat::No));
                }
            }
        }
        Ok(())
    }

    /// Brings the truth up to what is stable.
    pub(super) fn look(&mut self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let Self { nodes, attempts, now_us, .. } = self;
        let node = &mut nodes[node];
        let (wall_ms_max, seat) = (node.wall_ms_max, &mut node.seats[usize::from(shard.0)]);
        seat.truth.look(&seat.disk, *now_us, wall_ms_max, attempts).map(drop)
    }
}

/// Whether a fault can strike this work.
pub(super) const fn fits(fault: Fault, work: &Work) -> bool {
    match work {
        Work::Write { .. } => matches!(fault, Fault::WriteError | Fault::SyncError),
        Work::Read { .. } => matches!(fault, Fault::ReadError | Fault::ReadMisdirected | Fault::ReadFlipped),
        Work::Prepare { .. } => matches!(fault, Fault::NoSpaceSegment),
        Work::Checkpoint(_) => matches!(fault, Fault::NoSpaceCheckpoint),
    }
}

/// Work that fails does so early.
const FAILS_US: u64 = 200;
/// What is durable is heard within this time, or a pause of the process.
const HEARD_US: u64 = 10_000_000;
/// Beyond the bound of the index: what extents in flight may add.
const INDEX_SLACK_BYTES: usize = 128 << 10;
