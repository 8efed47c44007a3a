//! Criterion benches of the shard's core, over a device that is done at once: what an append costs beside IO.
//!
//! `cargo bench -p millrace-engine --bench core`

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput};
use engine::event::{
    Append, CheckpointPart, Effect, Effects, Event, Now, Op, Reply, ReplyTo, Request, StreamSpec, Target,
};
use engine::log::{Geometry, SegmentNo};
use engine::shard::{EXTENT_BYTES_MIN, LogImage, Shard, ShardConfig};
use engine::stream::index::StreamIndex;
use engine::stream::op::BatchOp;
use model::placement::Placement;
use model::record::{BatchBuilder, Span};
use model::{BasinId, BasinName, Batch, Position, ShardId, StreamId, StreamName};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (streams, records, record_bytes) in SHAPES {
        appends(&mut criterion, streams, records, record_bytes);
    }
    index(&mut criterion);
    criterion.final_summary();
}

/// (streams, records of a batch, bytes of a record)
const SHAPES: [(usize, usize, usize); 4] = [(1, 1, 100), (10_000, 1, 100), (1, 1000, 1000), (64, 16, 65_000)];
/// Appends that come together.
const BURST: usize = 64;

/// A log without segments.
struct Blank;

impl LogImage for Blank {
    fn segments(&self) -> Vec<SegmentNo> {
        Vec::new()
    }

    fn bytes(&self, _segment: SegmentNo) -> &[u8] {
        &[]
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        None
    }
}

/// A shard whose device is done as soon as it is asked.
struct Desk {
    shard: Shard,
    effects: Effects,
    now: Now,
    acknowledged: usize,
}

impl Desk {
    fn new() -> Self {
        let config = ShardConfig {
            shard: ShardId(0),
            placement: Placement { groups_count: 8, shards_count: 1 },
            directory_id: 7,
            segment_bytes: 128 << 20,
            segments_max: 1 << 30,
            extent_bytes_max: EXTENT_BYTES_MIN,
            in_flight_max: 4,
            cache_bytes_max: 64 << 20,
            index_bytes_max: 1 << 30,
            readers_max: 1,
            checkpoint_log_bytes: 256 << 20,
            accept_data_loss: false,
        };
        let (shard, _) = Shard::recover(config, &Blank).expect("nothing is there to be damaged");
        let now = Now { mono_us: 1_000_000, wall_ms: 1_700_000_000_000 };
        let mut desk = Self { shard, effects: Effects::default(), now, acknowledged: 0 };
        desk.shard.start(now, &mut desk.effects);
        desk.carry();
        desk
    }

    fn step(&mut self, event: Event) {
        self.shard.step(self.now, event, &mut self.effects);
    }

    /// Does what the shard asks for, until it asks for nothing.
    fn carry(&mut self) {
        while !self.effects.is_empty() {
            let asked: Vec<Effect> = self.effects.drain().collect();
            for effect in asked {
                match effect {
                    Effect::Reply { reply, .. } => {
                        assert!(matches!(reply, Reply::Appended(_)), "{reply:?}");
                        self.acknowledged += 1;
                    }
                    Effect::WriteExtent { lsn, .. } => self.step(Event::ExtentDurable { lsn }),
                    Effect::PrepareSegment { segment, .. } => self.step(Event::SegmentReady { segment }),
                    Effect::Checkpoint(CheckpointPart::Begin | CheckpointPart::Bytes(_) | CheckpointPart::Commit) => {
                        self.step(Event::CheckpointWritten);
                    }
                    Effect::Publish(_) | Effect::PublishToken(_) | Effect::SetTimer { .. } => {}
                    Effect::ReadLog { .. } | Effect::SendShard { .. } => unreachable!("only appends are asked for"),
                }
            }
        }
    }

    fn burst(&mut self, targets: &[Target], batch: &Batch) {
        let before = self.acknowledged;
        self.now.mono_us += 100;
        for (token, target) in (0..).zip(targets) {
            let append = Append {
                target: target.clone(),
                batch: batch.clone(),
                match_seq_num: None,
                fencing_token: None,
                create: Some(StreamSpec { config: Arc::default(), cipher: None }),
                session: None,
            };
            let reply_to = ReplyTo { front: 0, token };
            self.step(Event::Request(Request { reply_to, arrived_us: self.now.mono_us, op: Op::Append(append) }));
            self.carry();
        }
        self.step(Event::BurstEnd);
        self.carry();
        assert_eq!(self.acknowledged - before, targets.len(), "all are durable");
    }
}

fn appends(criterion: &mut Criterion, streams: usize, records: usize, record_bytes: usize) {
    let body = Bytes::from(vec![0x5a; record_bytes * records]);
    let mut builder = BatchBuilder::new(body);
    for record in 0..records {
        let span = Span::new(record * record_bytes, record_bytes).expect("small");
        builder.push(None, Span::default(), span).expect("within the limits");
    }
    let batch = builder.finish().expect("within the limits");
    let basin = BasinName::try_from("basin-of-benches").expect("valid");
    let placement = Placement { groups_count: 8, shards_count: 1 };
    let targets: Vec<Target> = (0..streams.max(BURST))
        .map(|n| {
            let stream = StreamName::try_from(format!("stream-{}", n % streams).as_str()).expect("valid");
            let group = placement.group(Placement::slot(&basin, &stream));
            Target { group, basin_id: BasinId(1), basin: basin.clone(), stream, incarnation: None }
        })
        .collect();
    let mut desk = Desk::new();
    for burst in targets.chunks(BURST) {
        desk.burst(burst, &batch);
    }
    let mut bursts = targets.chunks_exact(BURST).cycle();
    let mut group = criterion.benchmark_group("step");
    group.throughput(Throughput::Elements(BURST as u64));
    let shape = format!("{streams} streams, {records}x{record_bytes}");
    group.bench_function(BenchmarkId::new("64 appends, staged to acknowledged", shape), |b| {
        b.iter(|| desk.burst(bursts.next().expect("endless"), &batch));
    });
    group.finish();
}

fn index(criterion: &mut Criterion) {
    const WINDOW_BYTES: u32 = 256 << 10;
    let geometry = Geometry { segment_bytes: 128 << 20 };
    let op = |seq_num: u64| BatchOp {
        stream: StreamId(1),
        first: Position { seq_num, timestamp: seq_num },
        end: Position { seq_num: seq_num + 1, timestamp: seq_num },
        metered_bytes: 1000,
        arrived_s: 0,
        offset: 64,
        frame_bytes: 1100,
        commands: Vec::new(),
    };
    let lsn = |seq_num: u64| geometry.start(SegmentNo(1)).plus(seq_num * 4096);
    let mut index = StreamIndex::default();
    let mut next = 0;
    let mut group = criterion.benchmark_group("index");
    group.bench_function("push", |b| {
        b.iter(|| {
            index.push(&op(next), black_box(lsn(next)), WINDOW_BYTES, geometry);
            next += 1;
        });
    });
    let mut full = StreamIndex::default();
    for seq_num in 0..1_000_000 {
        full.push(&op(seq_num), lsn(seq_num), WINDOW_BYTES, geometry);
    }
    let mut seq_num = 0_u64;
    group.bench_function(BenchmarkId::new("find by number", full.entries().len()), |b| {
        b.iter(|| {
            seq_num = (seq_num + 7919) % 1_000_000;
            full.entry_of(black_box(seq_num))
        });
    });
    group.bench_function(BenchmarkId::new("find by timestamp", full.entries().len()), |b| {
        b.iter(|| {
            seq_num = (seq_num + 7919) % 1_000_000;
            full.entry_of_timestamp(black_box(seq_num))
        });
    });
    group.finish();
}
