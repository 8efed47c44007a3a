//! A machine for tests of the drivers: it keeps every part of them busy, but knows no log format.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use model::{BasinId, Failure, Position, ShardId, Unavailable};

use super::carry::Machine;
use crate::event::{
    BasinChange, BasinInfo, CheckpointPart, Effect, Effects, Event, LogReadId, Now, Op, Provision, Reply, ReplyTo,
    ShardMessage,
};
use crate::log::buffer::AlignedBuf;
use crate::log::{Lsn, SegmentNo};
use crate::shard::{LogImage, Recovered, RecoveryError, ShardConfig, ShardStats};

/// Writes `limit` bytes for each [`Op::ListStreams`], as one extent per burst, and answers when they are durable; answers
/// [`Op::CheckTail`] at once; reads what it wrote for [`Op::GetStreamConfig`]; tells all shards for [`Op::DeleteBasin`].
#[derive(Debug)]
pub(super) struct Clerk {
    config: ShardConfig,
    segment_ready: bool,
    checkpoint_parts: Vec<CheckpointPart>,
    next_offset: u64,
    pending: Vec<(ReplyTo, usize)>,
    in_flight: BTreeMap<Lsn, Vec<ReplyTo>>,
    reads: BTreeMap<LogReadId, (ReplyTo, u64)>,
    follows: Vec<ReplyTo>,
    basin_drops: Vec<(ReplyTo, u16)>,
    timer: Option<(ReplyTo, u64)>,
    appends_total: u64,
}

impl Clerk {
    pub(super) fn recover(config: ShardConfig, image: &dyn LogImage) -> Result<(Self, Recovered), RecoveryError> {
        if image.checkpoint() == Some(b"damaged") {
            return Err(RecoveryError(format!("shard {}: the checkpoint is damaged", config.shard.0)));
        }
        let clerk = Self {
            config,
            segment_ready: image.segments() == [SegmentNo(1)],
            checkpoint_parts: vec![
                CheckpointPart::Commit,
                CheckpointPart::Bytes("checkpoint".into()),
                CheckpointPart::Begin,
            ],
            next_offset: 4096,
            pending: Vec::new(),
            in_flight: BTreeMap::new(),
            reads: BTreeMap::new(),
            follows: Vec::new(),
            basin_drops: Vec::new(),
            timer: None,
            appends_total: 0,
        };
        Ok((clerk, Recovered { streams_count: image.segments().len() as u64, ..Recovered::default() }))
    }

    fn request(&mut self, now: Now, to: ReplyTo, op: Op, effects: &mut Effects) {
        match op {
            Op::CheckTail { .. } => effects.reply(to, Reply::Tail(Position { seq_num: 1, timestamp: now.wall_ms })),
            Op::ListStreams { limit, .. } => self.pending.push((to, limit)),
            Op::GetStreamConfig { .. } => {
                let id = LogReadId(to.token);
                let block = 1 + to.token % 8;
                self.reads.insert(id, (to, block));
                effects.push(Effect::ReadLog { id, segment: SegmentNo(1), offset: block * 4096, len: 4096 });
            }
            Op::CreateBasin { basin, config, .. } => {
                let info = BasinInfo { id: BasinId(1), name: basin, config, created_at_ms: 1, deleted_at_ms: None };
                effects.push(Effect::Publish(BasinChange::Put(Arc::new(info.clone()))));
                effects.reply(to, Reply::Basin(info, Provision::Created));
            }
            Op::DeleteBasin { .. } => {
                self.basin_drops.push((to, self.config.placement.shards_count));
                for shard in 0..self.config.placement.shards_count {
                    let message = ShardMessage::DropBasin(BasinId(to.token));
                    effects.push(Effect::SendShard { to: ShardId(shard), message });
                }
            }
            Op::DeleteStream { .. } => {
                self.timer = Some((to, now.mono_us + 3000));
                effects.push(Effect::SetTimer { at_us: now.mono_us + 3000 });
            }
            Op::Follow(_) => self.follows.push(to),
            Op::CancelFollow(token) => self.follows.retain(|follow| follow.token != token),
            Op::EndSession(_) => {}
            Op::Append(_)
            | Op::OpenSession { .. }
            | Op::Read(_)
            | Op::CreateStream { .. }
            | Op::EnsureStream { .. }
            | Op::ReconfigureStream { .. }
            | Op::Lease { .. }
            | Op::EnsureBasin { .. }
            | Op::ReconfigureBasin { .. }
            | Op::IssueToken(_)
            | Op::MeterStorage(_)
            | Op::RevokeToken(_) => panic!("not asked in these tests"),
        }
    }

    fn write(&mut self, effects: &mut Effects) {
        if !self.segment_ready || self.pending.is_empty() || self.in_flight.len() == self.config.in_flight_max {
            return;
        }
        let bytes: usize = self.pending.iter().map(|(_, bytes)| *bytes).sum();
        let bytes = bytes.next_multiple_of(4096).min(1 << 20);
        if self.next_offset + bytes as u64 > self.config.segment_bytes {
            self.next_offset = 4096;
        }
        let lsn = Lsn(self.next_offset);
        if self.in_flight.contains_key(&lsn) {
            return;
        }
        let mut extent = AlignedBuf::zeroed(bytes);
        for (block, memory) in (self.next_offset / 4096..).zip(extent.as_mut_slice().chunks_mut(4096)) {
            memory.fill(u8::try_from(block % 251).unwrap());
        }
        let bytes = Bytes::from_owner(extent);
        effects.push(Effect::WriteExtent { lsn, segment: SegmentNo(1), offset: lsn.0, bytes: bytes.clone() });
        self.next_offset += bytes.len() as u64;
        self.in_flight.insert(lsn, self.pending.drain(..).map(|(to, _)| to).collect());
    }
}

impl Machine for Clerk {
    fn start(&mut self, _now: Now, effects: &mut Effects) {
        if !self.segment_ready {
            let header = Bytes::from(vec![0; 4096]);
            effects.push(Effect::PrepareSegment { segment: SegmentNo(1), recycled: None, header });
        }
        effects.push(Effect::Checkpoint(self.checkpoint_parts.pop().unwrap()));
    }

    fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::Request(request) => self.request(now, request.reply_to, request.op, effects),
            Event::BurstEnd => self.write(effects),
            Event::ExtentDurable { lsn } => {
                for to in self.in_flight.remove(&lsn).expect("it was written") {
                    self.appends_total += 1;
                    effects.reply(to, Reply::Done);
                }
            }
            Event::LogRead { id, result } => {
                let (to, block) = self.reads.remove(&id).expect("it was asked for");
                let block = u8::try_from(block).unwrap();
                assert_eq!(result.unwrap(), vec![block; 4096]);
                effects.reply(to, Reply::Done);
            }
            Event::SegmentReady { segment } => self.segment_ready = segment == SegmentNo(1),
            Event::CheckpointWritten => {
                if let Some(part) = self.checkpoint_parts.pop() {
                    effects.push(Effect::Checkpoint(part));
                }
            }
            Event::Timer => {
                let (to, at_us) = self.timer.take().expect("it was set");
                assert!(now.mono_us >= at_us, "a timer is not early");
                effects.reply(to, Reply::Done);
            }
            Event::Shard(ShardMessage::DropBasin(basin)) => {
                let message = ShardMessage::BasinDropped(basin, self.config.shard);
                effects.push(Effect::SendShard { to: ShardId(0), message });
            }
            Event::Shard(ShardMessage::BasinDropped(basin, _)) => {
                let drop = self.basin_drops.iter().position(|(to, _)| to.token == basin.0).expect("it was begun");
                self.basin_drops[drop].1 -= 1;
                if self.basin_drops[drop].1 == 0 {
                    effects.reply(self.basin_drops.remove(drop).0, Reply::Done);
                }
            }
            Event::Drain => {
                for to in self.follows.drain(..) {
                    effects.reply(to, Reply::Failed(Failure::from(Unavailable::Draining)));
                }
            }
            Event::SegmentFailed { reason, .. } | Event::CheckpointFailed { reason } => panic!("{reason}"),
        }
    }

    fn is_idle(&self) -> bool {
        self.pending.is_empty() && self.in_flight.is_empty() && self.follows.is_empty()
    }

    fn stats(&self) -> ShardStats {
        ShardStats { appends_total: self.appends_total, ..ShardStats::default() }
    }
}
