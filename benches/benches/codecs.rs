//! Criterion benches of what every append and read passes through: the codecs and the CRC.
//!
//! `cargo bench -p millrace-benches --bench codecs`

use std::hint::black_box;

use api::AppendConditions;
use api::proto::{self, AppendRecord};
use api::s2s::{self, Flags, FrameDecoder};
use bytes::Bytes;
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (records, record_bytes) in SHAPES {
        append_input(&mut criterion, records, record_bytes);
    }
    crc(&mut criterion);
    criterion.final_summary();
}

/// Encoding, decoding and cutting one batch.
fn append_input(criterion: &mut Criterion, records: usize, record_bytes: usize) {
    let body = vec![0x5a; record_bytes];
    let batch = vec![AppendRecord { body: &body, ..AppendRecord::default() }; records];
    let conditions = AppendConditions::default();
    let input = Bytes::from(proto::encode_append_input(&batch, &conditions));
    let frame: Bytes = [&s2s::frame_header(input.len(), Flags::default())[..], &input].concat().into();
    let shape = format!("{records}x{record_bytes}");

    let mut group = criterion.benchmark_group("append_input");
    group.throughput(Throughput::Bytes((records * record_bytes) as u64));
    group.bench_function(BenchmarkId::new("encode", &shape), |b| {
        b.iter(|| proto::encode_append_input(black_box(&batch), &conditions));
    });
    group.bench_function(BenchmarkId::new("decode", &shape), |b| {
        b.iter(|| proto::append_input(black_box(&input).clone()).expect("our own encoding"));
    });
    group.bench_function(BenchmarkId::new("cut frame, 16 KiB chunks", &shape), |b| {
        let chunks =
            || (0..frame.len()).step_by(CHUNK_BYTES).map(|at| frame.slice(at..frame.len().min(at + CHUNK_BYTES)));
        b.iter_batched(
            FrameDecoder::new,
            |mut frames| {
                for chunk in chunks() {
                    frames.push(chunk);
                    if let Some(cut) = frames.next_frame().expect("our own frame") {
                        return cut;
                    }
                }
                unreachable!("the frame is whole after its last chunk")
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

fn crc(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("crc32c");
    for size in [100, 1 << 10, 64 << 10, 1 << 20] {
        let bytes = vec![0x5a; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::from_parameter(size), &bytes, |b, bytes| {
            b.iter(|| crc32c::crc32c(black_box(bytes)))
        });
    }
    group.finish();
}

/// Records and bytes of each: a lone small append, one of many small records, a full batch.
const SHAPES: [(usize, usize); 3] = [(1, 100), (1000, 100), (1000, 1000)];
/// As HTTP/2 delivers a body.
const CHUNK_BYTES: usize = 16 << 10;
