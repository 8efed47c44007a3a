//! Damage that must be refused or told: on the disk of a node that is down, tried out, judged, and put right again.
//!
//! One node has no second copy, so nothing here may be survived by luck: recovery refuses, or what it brings back is
//! exactly the truth and reads of what is damaged fail. One thing cannot be seen by anybody: that the very last extents
//! are gone as if they had never been written, when nothing on the disk was written after them (docs/durability.md).

use engine::event::Reply;
use engine::log::{Lsn, SegmentNo};
use engine::shard::LogImage;
use model::placement::Placement;
use model::stored::StoredRecords;
use model::{Failure, ShardId};

use super::World;
use super::crash::{audit_lease, checkpoint_durable, replay_end, target_of};
use crate::coverage::{Fault, Phase, Point};
use crate::disk::{Disk, Hidden, SECTOR_BYTES};
use crate::payload;
use crate::scratch::{Scratch, is_at_end};
use crate::truth::{StreamTruth, Truth};
use crate::violation::{Rule, Violation, broken};

/// What was changed, to be put right.
enum Undo {
    Bytes(SegmentNo, Vec<(usize, Vec<u8>)>),
    Segment(Hidden),
    Checkpoint(Option<Vec<u8>>),
    Nothing,
}

impl World {
    /// Tries out what this run has of damages.
    pub(super) fn damage(&mut self, node: usize, shard: ShardId, phases: &[Phase]) -> Result<(), Violation> {
        if self.faults_stopped {
            return Ok(());
        }
        let damages: Vec<Fault> = self.swarm.faults.keys().copied().filter(|f| is_damage(*f)).collect();
        // Each costs a recovery, so a crash at a common moment gets two of them, and a rare one all.
        let is_common = phases.iter().all(|phase| matches!(phase, Phase::Idle | Phase::OneExtent));
        let chosen = if is_common { [self.rng.below(8), self.rng.below(8)].into() } else { Vec::new() };
        for fault in damages {
            if is_common && !chosen.contains(&(fault as u64 % 8)) {
                continue;
            }
            let done = self.damage_once(node, shard, fault);
            let Some(undo) = done else { continue };
            self.coverage.fault(fault, phases);
            let judged = self.judge_damage(node, shard, fault, &undo);
            put_right(&mut self.nodes[node].seats[usize::from(shard.0)].disk, undo);
            judged.map_err(|v| Violation { what: format!("{} ({})", v.what, fault.name()), ..v })?;
        }
        Ok(())
    }

    /// Damages the disk; `None` when there is nothing of the kind to damage.
    fn damage_once(&mut self, node: usize, shard: ShardId, fault: Fault) -> Option<Undo> {
        let Self { nodes, rng, .. } = self;
        let seat = &mut nodes[node].seats[usize::from(shard.0)];
        let extents: Vec<_> = seat.truth.extents().filter(|e| e.lsn >= replay_end(&seat.disk)).copied().collect();
        let geometry = seat.truth.geometry();
        let offset_of = |lsn: Lsn| usize::try_from(geometry.offset(lsn)).expect("segments fit memory");
        match fault {
            Fault::DamageFlip | Fault::DamageSector | Fault::DamageMisdirected => {
                if extents.is_empty() {
                    return None;
                }
                let extent = extents[rng.skewed(extents.len(), 1)];
                let len = usize::try_from(extent.end.0 - extent.lsn.0).expect("an extent is a few MiB");
                let (segment, start) = (geometry.segment(extent.lsn), offset_of(extent.lsn));
                let bytes = seat.disk.bytes_mut(segment)?;
                let undo = Undo::Bytes(segment, vec![(start, bytes.get(start..start + len)?.to_vec())]);
                match fault {
                    Fault::DamageFlip => bytes[start + rng.at(len)] ^= 1 << rng.below(8),
                    Fault::DamageSector => {
                        let sector = start + rng.at(len / SECTOR_BYTES) * SECTOR_BYTES;
                        bytes[sector..sector + SECTOR_BYTES].fill(0);
                    }
                    _ => {
                        // Another extent's write came here: a whole and valid one, of another place.
                        let other = extents[rng.at(extents.len())];
                        let (from, from_segment) = (offset_of(other.lsn), geometry.segment(other.lsn));
                        let source = seat.disk.bytes(from_segment).get(from..from + 4096)?.to_vec();
                        seat.disk.bytes_mut(segment)?[start..start + 4096].copy_from_slice(&source);
                    }
                }
                Some(undo)
            }
            Fault::DamageLyingFlush => {
                // The last few writes were acknowledged by the device and are not there, some of them, or in part.
                let back = rng.between(1, 6);
                let last: Vec<_> = extents.iter().rev().take(usize::try_from(back).expect("small")).collect();
                let segment = geometry.segment(last.first()?.lsn);
                let bytes = seat.disk.bytes_mut(segment)?;
                let mut before = Vec::new();
                for extent in last.into_iter().filter(|e| geometry.segment(e.lsn) == segment) {
                    if rng.one_in(3) {
                        continue;
                    }
                    let (start, end) = (offset_of(extent.lsn), offset_of(Lsn(extent.end.0 - 1)) + 1);
                    before.push((start, bytes[start..end].to_vec()));
                    let whole = rng.one_in(2);
                    for sector in bytes[start..end].chunks_mut(SECTOR_BYTES) {
                        if whole || rng.one_in(2) {
                            sector.fill(0);
                        }
                    }
                }
                Some(Undo::Bytes(segment, before))
            }
            Fault::DamageSegment => {
                let segments = seat.disk.segments();
                let segment = *segments.get(rng.at(segments.len().max(1)))?;
                seat.disk.hide(segment).map(Undo::Segment)
            }
            Fault::DamageCheckpoint => {
                let before = seat.disk.checkpoint_mut().clone()?;
                let checkpoint = seat.disk.checkpoint_mut().as_mut()?;
                let at = rng.at(checkpoint.len());
                if rng.one_in(3) {
                    checkpoint.truncate(at);
                } else {
                    checkpoint[at] ^= 1 << rng.below(8);
                }
                Some(Undo::Checkpoint(Some(before)))
            }
            Fault::DamageNoCheckpoint => {
                let before = seat.disk.checkpoint_mut().take()?;
                Some(Undo::Checkpoint(Some(before)))
            }
            Fault::OtherShards => Some(Undo::Nothing),
            _ => None,
        }
    }

    fn judge_damage(&mut self, node: usize, shard: ShardId, fault: Fault, undo: &Undo) -> Result<(), Violation> {
        let now_us = self.now_us;
        let now = self.nodes[node].now(now_us);
        let Self { nodes, rng, coverage, .. } = self;
        let seat = &nodes[node].seats[usize::from(shard.0)];
        let mut config = seat.config.clone();
        if fault == Fault::OtherShards {
            let before = config.placement;
            let shards_count = if before.shards_count == 1 { 2 } else { before.shards_count - 1 };
            config.placement = Placement { groups_count: before.groups_count.max(2), shards_count };
            let groups_of = |placement: Placement| placement.groups_of(shard).collect::<Vec<_>>();
            let is_same = groups_of(before) == groups_of(config.placement);
            if is_same || seat.truth.end() == seat.truth.geometry().start(SegmentNo(1)) {
                return Ok(());
            }
            return match Scratch::recover(config, &seat.disk, now) {
                Err(_) => Ok(()),
                Ok(_) => broken(Rule::Foreign, "a log of other shards is taken up"),
            };
        }
        let mut scratch = match Scratch::recover(config, &seat.disk, now) {
            Ok(scratch) => scratch,
            Err(error) if error.to_string().is_empty() => return broken(Rule::DamageTold, "a refusal without a word"),
            Err(_) => {
                coverage.point(Point::DamageRefused);
                return Ok(());
            }
        };
        let (end, truth) = (scratch.recovered.end, &seat.truth);
        if end > truth.end() && !truth.goes_on_at(end) {
            return broken(Rule::DamageTold, format!("recovery goes on to {} beyond {}", end.0, truth.end().0));
        }
        if end < truth.end() {
            if says_more(truth, &seat.disk, end, undo) {
                let what = format!("durable extents from {} to {} are dropped in silence", end.0, truth.end().0);
                return broken(Rule::DamageTold, what);
            }
            coverage.point(Point::DamageTailUnseen);
            return Ok(());
        }
        // Reads are much of the work of a run. What lies behind the checkpoint was proved when it was replayed, so what is
        // read is what lies in the damage, and everything only now and then.
        let everything = rng.one_in(8);
        let told = check_reads(truth, &mut scratch, &seat.disk, |stream| everything || touches(truth, stream, undo))?;
        coverage.point(if told { Point::DamageRead } else { Point::DamageHarmless });
        Ok(())
    }
}

const fn is_damage(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::DamageFlip
            | Fault::DamageSector
            | Fault::DamageMisdirected
            | Fault::DamageLyingFlush
            | Fault::DamageSegment
            | Fault::DamageCheckpoint
            | Fault::DamageNoCheckpoint
            | Fault::OtherShards
    )
}

fn put_right(disk: &mut Disk, undo: Undo) {
    match undo {
        Undo::Bytes(segment, before) => {
            if let Some(bytes) = disk.bytes_mut(segment) {
                for (start, old) in before {
                    bytes[start..start + old.len()].copy_from_slice(&old);
                }
            }
        }
        Undo::Segment(hidden) => disk.give_back(hidden),
        Undo::Checkpoint(before) => *disk.checkpoint_mut() = before,
        Undo::Nothing => {}
    }
}

/// Whether something on the damaged disk says that more than `end` was durable: an intact extent that was written after
/// that, or the checkpoint.
fn says_more(truth: &Truth, disk: &Disk, end: Lsn, undo: &Undo) -> bool {
    let geometry = truth.geometry();
    let is_damaged = |lsn: Lsn, to: Lsn| match undo {
        Undo::Bytes(segment, before) => before.iter().any(|(start, old)| {
            let offset = usize::try_from(geometry.offset(lsn)).expect("segments fit memory");
            let len = usize::try_from(to.0 - lsn.0).expect("an extent is a few MiB");
            geometry.segment(lsn) == *segment && *start < offset + len && offset < start + old.len()
        }),
        Undo::Segment(_) => !disk.has(geometry.segment(lsn)),
        Undo::Checkpoint(_) | Undo::Nothing => false,
    };
    let by_extent = truth.extents().any(|e| e.durable_lsn > end && !is_damaged(e.lsn, e.end));
    by_extent || replay_end(disk).max(checkpoint_durable(disk)) > end
}

/// Whether the stream has records in what was changed.
fn touches(truth: &Truth, stream: &StreamTruth, undo: &Undo) -> bool {
    let geometry = truth.geometry();
    match undo {
        Undo::Bytes(segment, before) => stream.batches.iter().any(|batch| {
            let offset = usize::try_from(geometry.offset(batch.lsn)).expect("segments fit memory");
            let end = offset + batch.frame_bytes as usize;
            geometry.segment(batch.lsn) == *segment
                && before.iter().any(|(start, old)| *start < end && offset < start + old.len())
        }),
        Undo::Segment(_) | Undo::Checkpoint(_) | Undo::Nothing => false,
    }
}

/// Reads all records of these streams: each must be what was appended, or the read must say that it is damaged. Returns
/// whether any did. No lease lies in what a read can lose: all of them are there.
pub(super) fn check_reads(
    truth: &Truth,
    scratch: &mut Scratch,
    disk: &Disk,
    of: impl Fn(&StreamTruth) -> bool,
) -> Result<bool, Violation> {
    let mut told = false;
    let life = truth.life().next(scratch.started_us());
    for (group, id, stream) in truth.streams() {
        audit_lease(group, id, stream, life, &mut |op| scratch.ask(disk, op))?;
    }
    for (group, id, stream) in truth.streams().filter(|(_, _, s)| s.deleted_ms.is_none() && of(s)) {
        let mut next = stream.trim_point;
        while next < stream.tail.seq_num {
            let read = match scratch.read(disk, target_of(group, id, stream), next) {
                Some(Reply::Read(read)) => read,
                Some(Reply::Failed(Failure::Corrupt(_))) => {
                    told = true;
                    break;
                }
                other => {
                    let what = format!("stream `{}` from {next} on is answered with {other:?}", stream.name);
                    return broken(Rule::ReadContents, what);
                }
            };
            let before = next;
            for record in read.batches.iter().flat_map(|b| &b.runs).flat_map(|run| StoredRecords::new(run)) {
                let Ok(record) = record else {
                    return broken(Rule::DamageTold, format!("stream `{}`: damaged records are served", stream.name));
                };
                let batch = stream.batch_of(next);
                let is_same = record.position.seq_num == next
                    && batch.is_some_and(|batch| match record.command() {
                        Some(_) => true,
                        None => payload::whose(&record, stream.cipher).map(|(attempt, _)| attempt) == batch.attempt,
                    });
                if !is_same {
                    let what = format!("stream `{}`: {next} is not what was appended", stream.name);
                    return broken(Rule::DamageTold, what);
                }
                next += 1;
            }
            if next == before && is_at_end(&read) {
                return broken(Rule::ComesBack, format!("stream `{}` ends at {next}", stream.name));
            }
            if next == before {
                return broken(
                    Rule::ReadContents,
                    format!("stream `{}`: a read from {next} brings nothing", stream.name),
                );
            }
        }
    }
    Ok(told)
}
