//! Faults that come by the clock, and work of a disk that fails.

use bytes::Bytes;
use engine::event::Event;
use engine::log::SegmentNo;
use engine::shard::LogImage;
use model::ShardId;

use super::carry::fits;
use super::{Repeat, What, World};
use crate::coverage::Fault;
use crate::disk::{Work, WorkId};
use crate::node::Rot;
use crate::violation::Violation;

impl World {
    /// A fault happens, and the next one of its kind is on its way.
    pub(super) fn mishap(&mut self, node: usize, fault: Fault, repeat: Repeat) -> Result<(), Violation> {
        if self.faults_stopped {
            return Ok(());
        }
        if repeat == Repeat::Yes {
            let mean_us = self.swarm.faults.get(&fault).copied().unwrap_or(u64::MAX);
            let after_us = self.rng.after(mean_us);
            self.schedule(self.now_us + after_us, node, None, What::Mishap(fault, repeat));
        }
        if !self.nodes[node].is_up {
            return Ok(());
        }
        let shards = self.nodes[node].seats.len();
        let at = self.rng.at(shards);
        match fault {
            Fault::Kill => return self.die(node, Some(fault)),
            Fault::KillMidway => self.nodes[node].dies_after = Some(u32::try_from(self.rng.below(12)).expect("small")),
            // What came during a pause keeps its order when the pause ends, so it is not prolonged.
            Fault::Pause if self.nodes[node].paused_until_us > self.now_us => {}
            Fault::Pause => {
                self.cover(node, fault);
                self.nodes[node].paused_until_us = self.now_us + self.rng.between(10_000, 5_000_000);
            }
            Fault::Slow => {
                self.cover(node, fault);
                self.nodes[node].slow_until_us = self.now_us + self.rng.between(100_000, 5_000_000);
            }
            Fault::WallBack | Fault::WallAhead => {
                self.cover(node, fault);
                let ms = self.rng.pick(&[10_i64, 1_000, 30_000, 120_000]);
                let clock = &mut self.nodes[node].clock;
                // Never far before the beginning of the run: a clock that runs backwards for ever keeps nothing in order.
                let back = fault == Fault::WallBack && clock.wall_offset_ms() > -3_600_000;
                clock.jump(if back { -ms } else { ms });
                self.nodes[node].jumped_us = Some(self.now_us);
            }
            Fault::Drift => {
                self.cover(node, fault);
                let ppm = i64::try_from(self.rng.below(1001)).expect("small") - 500;
                let now_us = self.now_us;
                self.nodes[node].clock.set_drift(now_us, ppm);
            }
            Fault::WriteError
            | Fault::SyncError
            | Fault::ReadError
            | Fault::ReadMisdirected
            | Fault::ReadFlipped
            | Fault::NoSpaceSegment
            | Fault::NoSpaceCheckpoint => self.doom(node, at, fault),
            Fault::Rot => self.rot(node, at),
            Fault::Torn
            | Fault::DamageFlip
            | Fault::DamageSector
            | Fault::DamageMisdirected
            | Fault::DamageLyingFlush
            | Fault::DamageSegment
            | Fault::DamageCheckpoint
            | Fault::DamageNoCheckpoint
            | Fault::OtherShards => unreachable!("these go with a crash"),
        }
        self.note(node, ShardId(u16::try_from(at).expect("few shards")), fault.name(), [0; 3]);
        Ok(())
    }

    fn cover(&mut self, node: usize, fault: Fault) {
        let phases: Vec<_> = self.nodes[node].seats.iter().flat_map(crate::node::Seat::phases).collect();
        self.coverage.fault(fault, &phases);
    }

    /// Some work under way fails, or the next that is asked for.
    fn doom(&mut self, node: usize, at: usize, fault: Fault) {
        let seat = &mut self.nodes[node].seats[at];
        let under_way = seat.disk.find_work(|work| fits(fault, work));
        match under_way {
            Some(id) => {
                seat.doomed.insert(id, fault);
                let shard = seat.config.shard;
                let after_us = self.rng.below(150);
                self.soon(after_us, node, What::DiskEnd(shard, id));
            }
            None if seat.armed.contains(&fault) => {}
            None => seat.armed.push(fault),
        }
    }

    /// The disk says that it could not, or gives something else than what was asked for.
    pub(super) fn disk_fails(
        &mut self,
        node: usize,
        shard: ShardId,
        id: WorkId,
        fault: Fault,
    ) -> Result<(), Violation> {
        let at = usize::from(shard.0);
        let phases = self.nodes[node].seats[at].phases();
        self.note(node, shard, "disk fails", [id.0, 0, 0]);
        if matches!(fault, Fault::WriteError | Fault::SyncError) {
            // The process ends at once; the write stays where a crash leaves it.
            self.coverage.fault(fault, &phases);
            return self.die(node, None);
        }
        self.coverage.fault(fault, &phases);
        let seat = &mut self.nodes[node].seats[at];
        let work = match fault {
            Fault::ReadMisdirected | Fault::ReadFlipped => seat.disk.finish(id),
            _ => seat.disk.fail(id).map(|work| (work, Bytes::new())),
        };
        let Some((work, read)) = work else { return Ok(()) };
        let event = match work {
            Work::Read { id, segment, offset, len } => {
                self.nodes[node].seats[at].disturbed_us = Some(self.now_us + SETTLE_US);
                let result = match fault {
                    Fault::ReadFlipped => Ok(self.flipped(&read)),
                    Fault::ReadMisdirected => Ok(self.misdirected(node, at, (segment, offset, len))),
                    _ => Err("read: input/output error (simulated)".to_owned()),
                };
                Event::LogRead { id, result }
            }
            Work::Prepare { segment, .. } => {
                Event::SegmentFailed { segment, reason: "no space left on device (simulated)".into() }
            }
            Work::Checkpoint(_) => Event::CheckpointFailed { reason: "no space left on device (simulated)".into() },
            Work::Write { .. } => unreachable!("a failed write ends the process"),
        };
        self.give(node, shard, event);
        Ok(())
    }

    fn flipped(&mut self, read: &[u8]) -> Bytes {
        let mut bytes = read.to_vec();
        if !bytes.is_empty() {
            let at = self.rng.at(bytes.len());
            bytes[at] ^= 1 << self.rng.below(8);
        }
        bytes.into()
    }

    /// What lies somewhere else on the same disk.
    fn misdirected(&mut self, node: usize, at: usize, (segment, offset, len): (SegmentNo, usize, usize)) -> Bytes {
        let disk = &self.nodes[node].seats[at].disk;
        let segments = disk.segments();
        let other = if segments.is_empty() { segment } else { segments[self.rng.at(segments.len())] };
        let bytes = disk.bytes(other);
        let blocks = (bytes.len().saturating_sub(len)) / 4096;
        let elsewhere = if blocks == 0 { offset } else { self.rng.at(blocks) * 4096 };
        Bytes::copy_from_slice(bytes.get(elsewhere..elsewhere + len).unwrap_or(&[]))
    }

    /// A bit of a segment flips for a while. The atlas: it is put right before anything depends on it for good.
    fn rot(&mut self, node: usize, at: usize) {
        let seat = &mut self.nodes[node].seats[at];
        let segments = seat.disk.segments();
        // Behind the first block: a header is only looked at by recovery, see `damage`.
        let places: Vec<_> =
            seat.truth.streams().flat_map(|(_, _, s)| s.batches.iter().map(|b| (b.lsn, b.frame_bytes))).collect();
        if segments.is_empty() || places.is_empty() {
            return;
        }
        let (lsn, bytes) = places[self.rng.at(places.len())];
        let seat = &mut self.nodes[node].seats[at];
        let geometry = seat.truth.geometry();
        let segment = geometry.segment(lsn);
        let offset = usize::try_from(geometry.offset(lsn)).expect("segments fit memory") + self.rng.at(bytes as usize);
        let Some(byte) = seat.disk.bytes_mut(segment).and_then(|bytes| bytes.get_mut(offset)) else { return };
        let before = *byte;
        *byte ^= 1 << self.rng.below(8);
        let rot = Rot { segment, offset, value: *byte, before };
        seat.rots.push(rot);
        let after_us = self.rng.between(100_000, 20_000_000);
        seat.disturbed_us = Some(self.now_us + after_us + SETTLE_US);
        let phases = seat.phases();
        self.coverage.fault(Fault::Rot, &phases);
        self.soon(after_us, node, What::Heal(ShardId(u16::try_from(at).expect("few shards"))));
    }
}

/// How long after a disturbed read its failure may still be on its way to the client.
const SETTLE_US: u64 = 30_000_000;
