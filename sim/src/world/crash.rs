//! Dying, and coming back: what the disk keeps, what recovery makes of it, and whether both agree with the truth.

use engine::event::{
    Effect, Effects, LeaseInfo, LeaseRequest, Op, Reply, ReplyTo, Request, StorageOf, StreamInfo, Target,
};
use engine::log::Lsn;
use engine::shard::{LogImage, Recovered, Shard};
use model::{GroupId, NamePrefix, ShardId, StreamId};

use super::{Repeat, What, World};
use crate::coverage::{Fault, Phase, Point};
use crate::disk::{Disk, Tear};
use crate::truth::{Life, StreamTruth};
use crate::violation::{Rule, Violation, broken};

impl World {
    /// The process ends here and now, of this fault or, without one, of an error it was told.
    pub(super) fn die(&mut self, node: usize, of: Option<Fault>) -> Result<(), Violation> {
        self.nodes[node].dies_after = None;
        for at in 0..self.nodes[node].seats.len() {
            let phases = self.nodes[node].seats[at].phases();
            if let Some(fault) = of {
                self.coverage.fault(fault, &phases);
            }
            self.tear(node, at, &phases)?;
        }
        self.nodes[node].is_up = false;
        self.nodes[node].life += 1;
        self.nodes[node].paused_until_us = 0;
        self.nodes[node].basins.clear();
        self.nodes[node].tokens.clear();
        // What was sent is not answered any more; what came of it is seen when the node is back.
        let pending = std::mem::take(&mut self.pending);
        let (found, gone) = self.attempts.forget(pending.keys().copied());
        if found > 0 {
            self.coverage.point(Point::IndefiniteFound);
        }
        if gone > 0 {
            self.coverage.point(Point::IndefiniteGone);
        }
        for (token, pending) in &pending {
            self.record_loss(*token);
            self.unregister(pending);
        }
        self.reset_clients();
        let down_us = if self.rng.one_in(20) {
            self.rng.between(1, 600) * 1_000_000
        } else {
            self.rng.between(10_000, 3_000_000)
        };
        self.schedule(self.now_us + down_us, node, None, What::Restart);
        Ok(())
    }

    /// What was on its way to one disk arrives or does not.
    fn tear(&mut self, node: usize, at: usize, phases: &[Phase]) -> Result<(), Violation> {
        self.check_rest(node, ShardId(u16::try_from(at).expect("few shards")))?;
        let tear = self.rng.pick(&Tear::ALL);
        let Self { nodes, rng, .. } = self;
        let seat = &mut nodes[node].seats[at];
        seat.heal();
        let (kept, lost) = seat.disk.crash(tear, rng);
        seat.die();
        let shard = seat.config.shard;
        if kept > 0 && lost > 0 {
            self.coverage.fault(Fault::Torn, phases);
        }
        self.note(node, shard, "dies", [kept, lost, 0]);
        self.look(node, shard)?;
        self.damage(node, shard, phases)
    }

    /// The process starts again on what the disks hold.
    pub(super) fn restart(&mut self, node: usize) -> Result<(), Violation> {
        self.nodes[node].is_up = true;
        self.counts.lives += 1;
        self.haunt(node, 3);
        for at in 0..self.nodes[node].seats.len() {
            let shard = ShardId(u16::try_from(at).expect("few shards"));
            let had_checkpoint = self.nodes[node].seats[at].disk.checkpoint().is_some();
            let (machine, recovered) = self.recover(node, shard)?;
            self.coverage.point(if had_checkpoint { Point::RecoveredCheckpoint } else { Point::RecoveredPlain });
            if recovered.torn_count > 0 {
                self.coverage.point(Point::TornEnd);
            }
            self.promise_anew(node, shard);
            self.note(node, shard, "recovered", [recovered.end.0, recovered.extents_count, recovered.torn_count]);
            self.nodes[node].seats[at].shard = Some(machine);
            let now_us = self.now_us;
            let now = self.nodes[node].now(now_us);
            let seat = &mut self.nodes[node].seats[at];
            let mut effects = Effects::default();
            seat.shard.as_mut().expect("just recovered").start(now, &mut effects);
            for effect in effects.drain().collect::<Vec<_>>() {
                self.carry(node, shard, effect)?;
            }
            self.audit(node, shard)?;
            self.audit_tokens(node, shard)?;
        }
        Ok(())
    }

    /// Trouble at a moment that is rare and short: the first of a life, or when several extents are under way.
    pub(super) fn haunt(&mut self, node: usize, one_in: u64) {
        let faults: Vec<Fault> = self.swarm.faults.keys().copied().filter(|f| !f.goes_with_a_crash()).collect();
        if faults.is_empty() || !self.rng.one_in(one_in) || self.faults_stopped {
            return;
        }
        let visitor = self.swarm.clients_count;
        self.soon(1, node, What::Act(visitor));
        // Making a segment at such a moment is rarer still, so its failure is tried more often.
        let no_space = faults.contains(&Fault::NoSpaceSegment) && self.rng.one_in(5);
        let fault = if no_space { Fault::NoSpaceSegment } else { self.rng.pick(&faults) };
        let after_us = self.rng.below(250);
        self.soon(after_us, node, What::Mishap(fault, Repeat::No));
    }

    fn recover(&mut self, node: usize, shard: ShardId) -> Result<(Shard, Recovered), Violation> {
        let seat = &self.nodes[node].seats[usize::from(shard.0)];
        let (machine, recovered) = match Shard::recover(seat.config.clone(), &seat.disk) {
            Ok(recovered) => recovered,
            Err(error) => return broken(Rule::ComesBack, error.to_string()),
        };
        let (end, streams) = (seat.truth.end(), seat.truth.streams().count() as u64);
        if !seat.truth.goes_on_at(recovered.end) {
            let what = format!("recovery ends at {} and the chain of synced extents at {}", recovered.end.0, end.0);
            return broken(Rule::ComesBack, what);
        }
        if recovered.streams_count != streams {
            return broken(Rule::ComesBack, format!("{} streams come back of {streams}", recovered.streams_count));
        }
        Ok((machine, recovered))
    }

    /// Asks the shard that has just come back about every stream, before anything else is asked of it.
    fn audit(&mut self, node: usize, shard: ShardId) -> Result<(), Violation> {
        let now_us = self.now_us;
        let now = self.nodes[node].now(now_us);
        let Self { nodes, .. } = self;
        let seat = &mut nodes[node].seats[usize::from(shard.0)];
        let machine = seat.shard.as_mut().expect("just recovered");
        let mut ask = |op: Op| {
            let mut effects = Effects::default();
            let reply_to = ReplyTo { front: 1, token: 0 };
            let request = Request { reply_to, arrived_us: now.mono_us, op };
            machine.step(now, engine::event::Event::Request(request), &mut effects);
            effects.drain().find_map(|effect| match effect {
                Effect::Reply { to, reply } if to == reply_to => Some(reply),
                _ => None,
            })
        };
        let life = seat.truth.life();
        let mut held_count = 0;
        for (group, id, stream) in seat.truth.streams() {
            audit_stream(group, id, stream, &mut ask)?;
            held_count += u32::from(audit_lease(group, id, stream, life, &mut ask)?);
        }
        let basins: std::collections::BTreeSet<_> = seat.truth.streams().map(|(_, _, s)| s.basin).collect();
        for basin_id in basins {
            let (prefix, start_after) = (NamePrefix::empty(), NamePrefix::empty());
            let Some(Reply::Streams(listed, _)) = ask(Op::ListStreams { basin_id, prefix, start_after, limit: 1000 })
            else {
                return broken(Rule::ComesBack, "a listing is not answered");
            };
            let stored = stored_of(ask(Op::MeterStorage(StorageOf::Basin(basin_id))))?;
            let streams = seat.truth.streams().filter(|(_, _, s)| s.basin == basin_id && s.deleted_ms.is_none());
            let least: u64 = streams.map(|(_, _, s)| s.metered_bytes()).sum();
            if stored < least {
                return broken(Rule::ComesBack, format!("{stored} bytes of a basin are counted of {least}"));
            }
            let is_so = |info: &&StreamInfo| {
                let found = seat.truth.groups().find_map(|group| group.named(basin_id, &info.name));
                found.is_some_and(|(_, stream)| stream.cipher == info.cipher)
            };
            if let Some(info) = listed.iter().find(|info| !is_so(info)) {
                return broken(Rule::ComesBack, format!("stream `{}` comes back with {:?}", info.name, info.cipher));
            }
            let there = seat.truth.streams().filter(|(_, _, s)| s.basin == basin_id).count();
            if listed.len() != there {
                return broken(Rule::ComesBack, format!("{} streams are listed of {there}", listed.len()));
            }
        }
        if held_count > 0 {
            self.coverage.point(Point::LeaseBack);
        }
        Ok(())
    }
}

/// Tail, configuration and life of a stream that has come back must be exactly what the disk says.
fn audit_stream(
    group: GroupId,
    id: StreamId,
    stream: &StreamTruth,
    ask: &mut impl FnMut(Op) -> Option<Reply>,
) -> Result<(), Violation> {
    let target = target_of(group, id, stream);
    let reply = ask(Op::CheckTail { target: target.clone(), create: None });
    match (&reply, stream.deleted_ms) {
        (Some(Reply::Tail(tail)), None) if *tail == stream.tail => {}
        (Some(Reply::Failed(_)), Some(_)) => return Ok(()),
        _ => {
            let what = format!("stream `{}` ends at {:?} and comes back as {reply:?}", stream.name, stream.tail);
            return broken(Rule::ComesBack, what);
        }
    }
    match ask(Op::GetStreamConfig { target: target.clone() }) {
        Some(Reply::StreamConfig(config)) if config == *stream.config.now() => {}
        other => return broken(Rule::Configuration, format!("stream `{}` comes back with {other:?}", stream.name)),
    }
    let stored = stored_of(ask(Op::MeterStorage(StorageOf::Stream(target))))?;
    // What is trimmed counts as long as the log keeps it for what lies beside it.
    let lawful = stream.metered_bytes()..=stream.appended_metered_bytes;
    if lawful.contains(&stored) {
        return Ok(());
    }
    broken(Rule::ComesBack, format!("stream `{}`: {stored} bytes are counted of {lawful:?}", stream.name))
}

/// Whoever held its lease holds it again, for all of its time. Returns whether anybody does.
pub(super) fn audit_lease(
    group: GroupId,
    id: StreamId,
    stream: &StreamTruth,
    life: Life,
    ask: &mut impl FnMut(Op) -> Option<Reply>,
) -> Result<bool, Violation> {
    if stream.deleted_ms.is_some() {
        return Ok(false);
    }
    let reply = ask(Op::Lease { target: target_of(group, id, stream), request: LeaseRequest::Inspect });
    let is = stream.lease.now().as_ref().map(|holding| LeaseInfo {
        holder: holding.held.holder.clone(),
        duration: holding.held.duration,
        generation: holding.generation,
        expires_in_ms: (holding.runs_out_us(life).1 - life.started_us) / 1000,
    });
    match reply {
        Some(Reply::Lease(lease)) if lease == is => Ok(is.is_some()),
        other => {
            broken(Rule::ComesBack, format!("the lease of `{}` is {is:?} and comes back as {other:?}", stream.name))
        }
    }
}

fn stored_of(reply: Option<Reply>) -> Result<u64, Violation> {
    match reply {
        Some(Reply::Stored(stored)) => Ok(stored.iter().map(|(_, bytes)| bytes).sum()),
        other => broken(Rule::ComesBack, format!("asked what is stored, a shard says {other:?}")),
    }
}

/// One incarnation, as a request names it.
pub(super) fn target_of(group: GroupId, id: StreamId, stream: &StreamTruth) -> Target {
    Target {
        group,
        basin_id: stream.basin,
        basin: model::BasinName::try_from("some-basin").expect("valid"),
        stream: stream.name.clone(),
        incarnation: Some(id),
    }
}

/// What the checkpoint on this disk says was durable when it ended; the log's start without one.
pub(super) fn checkpoint_durable(disk: &Disk) -> Lsn {
    // magic 8, then pieces: kind 1, bytes 4, crc 4, payload. The last is of kind 5 and begins with it.
    const END: u8 = 5;
    let find = |bytes: &[u8]| {
        let mut rest = bytes.get(8..)?;
        loop {
            let len = u32::from_le_bytes(rest.get(1..5)?.try_into().ok()?) as usize;
            let payload = rest.get(9..9 + len)?;
            if rest[0] == END {
                return Some(Lsn(u64::from_le_bytes(payload.get(..8)?.try_into().ok()?)));
            }
            rest = &rest[9 + len..];
        }
    };
    disk.checkpoint().and_then(find).unwrap_or(Lsn(0))
}

/// The place of a log behind which recovery looks, as the checkpoint on this disk says it; the log's start without one.
pub(super) fn replay_end(disk: &Disk) -> Lsn {
    // magic 8 | kind 1, bytes 4, crc 4 | directory 16, shard 2, segment bytes 8 | replay end
    const REPLAY_AT: usize = 8 + 9 + 26;
    let raw = disk.checkpoint().and_then(|bytes| bytes.get(REPLAY_AT..REPLAY_AT + 8));
    raw.and_then(|raw| raw.try_into().ok()).map_or(Lsn(0), |raw| Lsn(u64::from_le_bytes(raw)))
}
