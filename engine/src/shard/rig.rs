//! A driver for tests: disks in memory that a crash may leave with any subset of what was in flight.

use std::collections::BTreeMap;

use bytes::Bytes;
use model::config::BasinConfig;
use model::placement::Placement;
use model::record::{BatchBuilder, Span};
use model::stored::StoredRecords;
use model::{BasinId, BasinName, Batch, FencingToken, Position, ShardId, StreamName};

use crate::event::*;
use crate::log::{Lsn, SegmentNo};
use crate::shard::{LogImage, Recovered, RecoveryError, Shard, ShardConfig};

/// What is on stable storage.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk {
    pub(crate) segments: BTreeMap<SegmentNo, Vec<u8>>,
    pub(crate) checkpoint: Option<Vec<u8>>,
}

impl LogImage for Disk {
    fn segments(&self) -> Vec<SegmentNo> {
        self.segments.keys().copied().collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        &self.segments[&segment]
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }
}

/// A write that was asked for and has not ended.
#[derive(Debug, Clone)]
pub(crate) struct Write {
    pub(crate) lsn: Lsn,
    pub(crate) segment: SegmentNo,
    pub(crate) offset: usize,
    pub(crate) bytes: Bytes,
}

pub(crate) struct Rig {
    pub(crate) shard: Shard,
    pub(crate) disk: Disk,
    pub(crate) now: Now,
    pub(crate) writes: Vec<Write>,
    pub(crate) replies: BTreeMap<u64, Reply>,
    pub(crate) no_space: bool,
    making: Option<Vec<u8>>,
    timer_us: Option<u64>,
    pub(crate) last_token: u64,
}

pub(crate) fn config() -> ShardConfig {
    ShardConfig {
        shard: ShardId(0),
        placement: Placement { groups_count: 2, shards_count: 1 },
        directory_id: 7,
        segment_bytes: 8 << 20,
        segments_max: 6,
        extent_bytes_max: super::EXTENT_BYTES_MIN,
        in_flight_max: 4,
        cache_bytes_max: 1 << 20,
        index_bytes_max: 1 << 20,
        readers_max: 10,
        checkpoint_log_bytes: 1 << 20,
        accept_data_loss: false,
    }
}

pub(crate) fn basin() -> BasinName {
    BasinName::try_from("test-basin").expect("valid")
}

pub(crate) fn target(stream: &str) -> Target {
    let stream = StreamName::try_from(stream).expect("valid");
    let group = config().placement.group(Placement::slot(&basin(), &stream));
    Target { group, basin_id: BasinId(1), basin: basin(), stream, incarnation: None }
}

pub(crate) fn batch(bodies: &[&[u8]]) -> Batch {
    let mut builder = BatchBuilder::new(Bytes::from(bodies.concat()));
    let mut start = 0;
    for body in bodies {
        builder.push(None, Span::default(), Span::new(start, body.len()).expect("small")).expect("valid");
        start += body.len();
    }
    builder.finish().expect("valid")
}

pub(crate) fn command(op: &str, body: &[u8]) -> Batch {
    let mut raw = vec![0x12, 2 + u8::try_from(op.len()).expect("short"), 0x12, u8::try_from(op.len()).expect("short")];
    raw.extend_from_slice(op.as_bytes());
    let headers = Span::new(0, raw.len());
    let body_span = Span::new(raw.len(), body.len());
    raw.extend_from_slice(body);
    let mut builder = BatchBuilder::new(raw.into());
    builder.push(None, headers.expect("small"), body_span.expect("small")).expect("valid");
    builder.finish().expect("valid")
}

pub(crate) fn spec() -> StreamSpec {
    StreamSpec { config: std::sync::Arc::default(), cipher: None }
}

pub(crate) fn append_op(stream: &str, batch: Batch) -> Append {
    Append {
        target: target(stream),
        batch,
        match_seq_num: None,
        fencing_token: None,
        create: Some(spec()),
        session: None,
    }
}

impl Rig {
    pub(crate) fn new() -> Self {
        let mut rig = Self::recover(Disk::default()).expect("an empty log").0;
        let config = BasinConfig::default();
        rig.ask(Op::CreateBasin { basin: basin(), config, request_key: None });
        rig
    }

    pub(crate) fn recover(disk: Disk) -> Result<(Self, Recovered), RecoveryError> {
        Self::recover_with(config(), disk)
    }

    pub(crate) fn recover_with(config: ShardConfig, disk: Disk) -> Result<(Self, Recovered), RecoveryError> {
        let (shard, recovered) = Shard::recover(config, &disk)?;
        let now = Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let mut rig = Self {
            shard,
            disk,
            now,
            writes: vec![],
            replies: BTreeMap::new(),
            no_space: false,
            making: None,
            timer_us: None,
            last_token: 0,
        };
        let mut effects = Effects::default();
        rig.shard.start(rig.now, &mut effects);
        rig.carry(&mut effects);
        rig.settle();
        Ok((rig, recovered))
    }

    pub(crate) fn step(&mut self, event: Event) {
        let mut effects = Effects::default();
        self.shard.step(self.now, event, &mut effects);
        self.carry(&mut effects);
    }

    fn carry(&mut self, effects: &mut Effects) {
        let effects: Vec<Effect> = effects.drain().collect();
        for effect in effects {
            match effect {
                Effect::Reply { to, reply } => assert!(self.replies.insert(to.token, reply).is_none(), "answered once"),
                Effect::Publish(_) | Effect::PublishToken(_) => {}
                Effect::WriteExtent { lsn, segment, offset, bytes } => {
                    assert!(offset.is_multiple_of(4096) && bytes.len().is_multiple_of(4096));
                    self.writes.push(Write { lsn, segment, offset: offset as usize, bytes });
                }
                Effect::ReadLog { id, segment, offset, len } => {
                    let bytes = self.disk.segments[&segment][offset as usize..][..len as usize].to_vec();
                    self.step(Event::LogRead { id, result: Ok(bytes.into()) });
                }
                Effect::PrepareSegment { segment, .. } if self.no_space => {
                    self.step(Event::SegmentFailed { segment, reason: "no space".into() });
                }
                Effect::PrepareSegment { segment, recycled, header } => {
                    let old = recycled.map(|old| self.disk.segments.remove(&old).expect("it exists"));
                    let mut file = old.unwrap_or_else(|| vec![0; config().segment_bytes as usize]);
                    file[..4096].copy_from_slice(&header);
                    self.disk.segments.insert(segment, file);
                    self.step(Event::SegmentReady { segment });
                }
                Effect::Checkpoint(part) => {
                    match part {
                        CheckpointPart::Begin => self.making = Some(vec![]),
                        CheckpointPart::Bytes(bytes) => self.making.as_mut().expect("begun").extend_from_slice(&bytes),
                        CheckpointPart::Commit => self.disk.checkpoint = self.making.take(),
                    }
                    self.step(Event::CheckpointWritten);
                }
                Effect::SetTimer { at_us } => self.timer_us = Some(at_us),
                Effect::SendShard { to, message } => {
                    assert_eq!(to, ShardId(0));
                    self.step(Event::Shard(message));
                }
            }
        }
    }

    /// Ends the write at this position of `writes`.
    pub(crate) fn end_write(&mut self, at: usize) {
        let write = self.writes.remove(at);
        let file = self.disk.segments.get_mut(&write.segment).expect("prepared");
        file[write.offset..write.offset + write.bytes.len()].copy_from_slice(&write.bytes);
        self.step(Event::ExtentDurable { lsn: write.lsn });
    }

    /// Lets everything under way end.
    pub(crate) fn settle(&mut self) {
        self.step(Event::BurstEnd);
        while !self.writes.is_empty() {
            self.end_write(0);
        }
    }

    /// Lets time pass, with the timer.
    pub(crate) fn pass(&mut self, ms: u64) {
        let end_us = self.now.mono_us + ms * 1000;
        while let Some(at) = self.timer_us.filter(|at| *at <= end_us) {
            let at = at.max(self.now.mono_us);
            self.now.wall_ms += (at - self.now.mono_us) / 1000;
            self.now.mono_us = at;
            self.timer_us = None;
            self.step(Event::Timer);
            self.settle();
        }
        self.now.wall_ms += (end_us - self.now.mono_us) / 1000;
        self.now.mono_us = end_us;
    }

    /// Asks without waiting; the token finds the reply.
    pub(crate) fn send(&mut self, op: Op) -> u64 {
        self.last_token += 1;
        let reply_to = ReplyTo { front: 0, token: self.last_token };
        self.step(Event::Request(Request { reply_to, arrived_us: self.now.mono_us, op }));
        self.last_token
    }

    pub(crate) fn ask(&mut self, op: Op) -> Reply {
        let token = self.send(op);
        self.settle();
        self.replies.remove(&token).expect("answered")
    }

    pub(crate) fn append(&mut self, stream: &str, bodies: &[&[u8]]) -> Reply {
        self.ask(Op::Append(append_op(stream, batch(bodies))))
    }

    pub(crate) fn append_if(&mut self, stream: &str, match_seq_num: Option<u64>, token: Option<&str>) -> Reply {
        let fencing_token = token.map(|t| FencingToken::try_from(t).expect("valid"));
        self.ask(Op::Append(Append { match_seq_num, fencing_token, ..append_op(stream, batch(&[b"x"])) }))
    }

    pub(crate) fn tail(&mut self, stream: &str) -> Reply {
        self.ask(Op::CheckTail { target: target(stream), create: None })
    }

    pub(crate) fn read(&mut self, stream: &str, start: ReadStart) -> Reply {
        let limits = ReadLimits { batches: 4, ..ReadLimits::default() };
        self.ask(Op::Read(Read { target: target(stream), create: None, start, clamp: false, may_follow: true, limits }))
    }

    /// All records of a stream from `from` on, by as many reads as it takes.
    pub(crate) fn read_all(&mut self, stream: &str, from: u64) -> Vec<(Position, Vec<u8>)> {
        let mut records = Vec::new();
        let mut next = from;
        loop {
            let reply = match self.read(stream, ReadStart::SeqNum(next)) {
                Reply::Read(reply) => reply,
                other => panic!("{other:?}"),
            };
            records.extend(records_of(&reply));
            if reply.batches.is_empty() || reply.next_seq_num == reply.tail.seq_num {
                return records;
            }
            assert!(reply.next_seq_num > next);
            next = reply.next_seq_num;
        }
    }
}

pub(crate) fn records_of(reply: &ReadReply) -> Vec<(Position, Vec<u8>)> {
    let mut records = Vec::new();
    for batch in &reply.batches {
        let bytes = batch.runs.concat();
        records.extend(StoredRecords::new(&bytes).map(|r| r.expect("readable")).map(|r| (r.position, r.body.to_vec())));
    }
    records
}
