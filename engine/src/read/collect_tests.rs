//! Read limits as tables (s2-wire.md 4.5-4.6): three frames of records 0-4, 5-9, 10-14, each of 10 metered bytes, with
//! timestamps 100 + 10 * number.

use bytes::Bytes;
use model::limits::BATCH_RECORDS_MAX;
use model::record::{BatchBuilder, Span};
use model::{GroupId, StreamId, stored};

use super::*;
use crate::log::frame::FrameKind;

fn frame(first: u64, count: u64, body_bytes: usize) -> (FrameHeader, Bytes) {
    let mut builder = BatchBuilder::new(Bytes::from(vec![7; body_bytes]));
    let mut timestamps = [0; BATCH_RECORDS_MAX];
    for i in 0..count {
        builder.push(None, Span::default(), Span::new(0, body_bytes).expect("small")).expect("valid");
        timestamps[i as usize] = 100 + 10 * (first + i);
    }
    let batch = builder.finish().expect("valid");
    let mut out = vec![0; batch.stored_bytes_max()];
    let taken = stored::put_batch(&mut out, &batch, first, &timestamps);
    out.truncate(taken);
    let header = FrameHeader {
        first_seq_num: first,
        stream: StreamId(1),
        first_timestamp: timestamps[0],
        last_timestamp: timestamps[count as usize - 1],
        records_count: count as u32,
        metered_bytes: batch.metered_bytes(),
        ..FrameHeader::new(FrameKind::Batch, GroupId(1))
    };
    (header, Bytes::from(out))
}

fn collect(frames: &[(FrameHeader, Bytes)], mut collector: Collector) -> Collected {
    for (header, payload) in frames {
        if collector.offer(header, payload).expect("readable") == Flow::Full {
            break;
        }
    }
    collector.finish()
}

fn shown(collected: &Collected) -> String {
    let mut numbers = Vec::new();
    for batch in &collected.batches {
        let bytes: Vec<u8> = batch.runs.concat();
        let records: Vec<_> = StoredRecords::new(&bytes).map(|r| r.expect("readable")).collect();
        assert_eq!(records.len() as u64, batch.records_count);
        assert_eq!(records.iter().map(|r| r.metered_bytes).sum::<u64>(), batch.metered_bytes);
        assert_eq!(records.last().map(|r| r.position), Some(batch.last));
        numbers.push(records.iter().map(|r| r.position.seq_num.to_string()).collect::<Vec<_>>().join(" "));
    }
    format!("{} next {}{}", numbers.join(" | "), collected.next_seq_num, if collected.done { " done" } else { "" })
}

#[track_caller]
fn check(next: u64, seek: Option<u64>, tail: u64, limits: (Option<u64>, Option<u64>, Option<u64>), expected: &str) {
    let frames = [frame(0, 5, 2), frame(5, 5, 2), frame(10, 5, 2)];
    let (count, bytes, until) = limits;
    let limits = ReadLimits { count, bytes, until, batches: 1 };
    assert_eq!(shown(&collect(&frames, Collector::new(next, seek, tail, limits))), expected);
}

#[test]
fn limits_cut_where_the_spec_says() {
    check(0, None, 15, (None, None, None), "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 next 15");
    check(3, None, 15, (Some(4), None, None), "3 4 5 6 next 7 done");
    check(3, None, 15, (Some(7), None, None), "3 4 5 6 7 8 9 next 10 done");
    check(0, None, 15, (None, Some(35), None), "0 1 2 next 3 done");
    check(0, None, 15, (None, Some(50), None), "0 1 2 3 4 next 5 done");
    check(0, None, 15, (None, Some(9), None), " next 0 done");
    check(0, None, 15, (Some(0), None, None), " next 0 done");
    check(0, None, 15, (None, None, Some(130)), "0 1 2 next 3 done");
    check(0, None, 15, (None, None, Some(150)), "0 1 2 3 4 next 5 done");
    check(0, None, 15, (None, None, Some(100)), " next 0 done");
    check(0, None, 10, (None, None, None), "0 1 2 3 4 5 6 7 8 9 next 10");
}

#[test]
fn a_timestamp_is_met_by_the_first_record_that_reaches_it() {
    check(0, Some(100), 15, (Some(2), None, None), "0 1 next 2 done");
    check(0, Some(171), 15, (Some(2), None, None), "8 9 next 10 done");
    check(0, Some(150), 15, (Some(1), None, None), "5 next 6 done");
    check(0, Some(150), 15, (None, None, Some(150)), " next 5 done");
}

#[test]
fn a_hole_is_told() {
    let (first, later) = (frame(5, 5, 2), frame(20, 5, 2));
    let mut collector = Collector::new(7, None, 25, ReadLimits { batches: 1, ..ReadLimits::default() });
    assert_eq!(collector.offer(&first.0, &first.1), Ok(Flow::More));
    assert_eq!(collector.offer(&later.0, &later.1), Err(Unreadable));
}

#[test]
fn a_batch_fits_the_wire() {
    let frames: Vec<_> = (0..5u64).map(|i| frame(i * 400, 400, 100)).collect();
    let limits = ReadLimits { batches: 2, ..ReadLimits::default() };
    let collected = collect(&frames, Collector::new(0, None, 2000, limits));
    assert_eq!(collected.batches.iter().map(|b| b.records_count).collect::<Vec<_>>(), [800, 800]);
    assert_eq!(collected.next_seq_num, 1600);
    let large: Vec<_> = (0..4u64).map(|i| frame(i * 2, 2, 300_000)).collect();
    let collected = collect(&large, Collector::new(0, None, 8, limits));
    assert_eq!(collected.batches.iter().map(|b| b.records_count).collect::<Vec<_>>(), [2, 2]);
}
