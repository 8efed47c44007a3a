//! The log as a disk may return it: arbitrary bytes, damaged extents, checkpoints, operations.
//!
//! A fuzzer does not guess checksums, so the target makes them: what it writes is as intact as what the engine writes, but
//! its fields are the fuzzer's.

use bytes::Bytes;
use engine::log::extent::{BadExtent, EXTENT_HEADER_BYTES, ExtentHeader, prove_frames};
use engine::log::frame::{FLAG_COMMANDS, FrameHeader, FrameKind};
use engine::log::recovery::{LogImage, ScanEnd, scan};
use engine::log::segment::SegmentHeader;
use engine::log::writer::LogEnd;
use engine::log::{BLOCK_BYTES, Geometry, Lsn, SegmentNo};
use engine::shard::fuzzing;
use engine::shard::{EXTENT_BYTES_MIN, ShardConfig, inspect};
use engine::stream::op::ControlOp;
use model::placement::Placement;
use model::{GroupId, ShardId, StreamId};

use crate::input::Input;

/// The first byte says which parser, the rest is for it.
pub fn log_extents(input: &[u8]) {
    let mut input = Input::new(input);
    match input.u8() % 5 {
        0 => arbitrary_segment(&mut input),
        1 => written_log(&mut input),
        2 => checkpoint(&mut input),
        3 => operation(input.rest()),
        _ => batch(&mut input),
    }
}

const DIRECTORY_ID: u128 = 7;
const SHARD: ShardId = ShardId(0);
const GEOMETRY: Geometry = Geometry { segment_bytes: 16 * BLOCK_BYTES as u64 };
/// As many segments as a written log may have.
const SEGMENTS_MAX: u64 = 3;
const BEGIN: LogEnd = LogEnd { end: GEOMETRY.start(SegmentNo(1)), prev_lsn: Lsn(0), prev_header_crc: 0, epoch: 0 };

struct Disk {
    segments: Vec<(SegmentNo, Vec<u8>)>,
    checkpoint: Option<Vec<u8>>,
}

impl LogImage for Disk {
    fn segments(&self) -> Vec<SegmentNo> {
        self.segments.iter().map(|(segment, _)| *segment).collect()
    }

    fn bytes(&self, segment: SegmentNo) -> &[u8] {
        self.segments.iter().find(|(number, _)| *number == segment).map_or(&[], |(_, bytes)| bytes)
    }

    fn checkpoint(&self) -> Option<&[u8]> {
        self.checkpoint.as_deref()
    }
}

impl Disk {
    /// Segments that hold nothing yet.
    fn of(numbers: impl IntoIterator<Item = u64>) -> Self {
        let segments = numbers.into_iter().map(|number| (SegmentNo(number), blank_segment(SegmentNo(number))));
        Self { segments: segments.collect(), checkpoint: None }
    }

    /// Writes as much as the segment has room for.
    fn write(&mut self, lsn: Lsn, bytes: &[u8]) {
        let segment = GEOMETRY.segment(lsn);
        let Some((_, file)) = self.segments.iter_mut().find(|(number, _)| *number == segment) else { return };
        let offset = usize::try_from(GEOMETRY.offset(lsn)).expect("a segment is small");
        let len = bytes.len().min(file.len() - offset);
        file[offset..offset + len].copy_from_slice(&bytes[..len]);
    }
}

fn blank_segment(segment: SegmentNo) -> Vec<u8> {
    let header =
        SegmentHeader { directory_id: DIRECTORY_ID, shard: SHARD, segment, segment_bytes: GEOMETRY.segment_bytes };
    let mut bytes = header.encode().to_vec();
    assert_eq!(SegmentHeader::decode(&bytes), Some(header));
    bytes.resize(usize::try_from(GEOMETRY.segment_bytes).expect("a segment is small"), 0);
    bytes
}

/// Scans and returns the frames that were handed out, by extent.
fn scanned(disk: &Disk) -> (Vec<Vec<Frame>>, Option<ScanEnd>) {
    let mut extents = Vec::new();
    let end = scan(disk, GEOMETRY, BEGIN, Lsn(0), |extent| {
        extents.push(extent.frames.iter().map(|(header, payload, _)| (*header, payload.to_vec())).collect());
    });
    let end = end.map_err(|damage| assert!(!damage.to_string().is_empty())).ok();
    if let Some(end) = &end {
        assert_eq!(end.extents_count, extents.len() as u64);
    }
    (extents, end)
}

/// A segment file of any name, with any bytes in it.
fn arbitrary_segment(input: &mut Input<'_>) {
    let mut disk = Disk::of([1]);
    let other = input.u64();
    if other != 1 {
        disk.segments.push((SegmentNo(other), blank_segment(SegmentNo(other))));
    }
    let bytes = input.rest();
    for (segment, file) in &mut disk.segments {
        // The other one has its bytes from the start on, so that its header is arbitrary too.
        let start = if segment.0 == 1 { BLOCK_BYTES } else { 0 };
        let len = bytes.len().min(file.len() - start);
        file[start..start + len].copy_from_slice(&bytes[..len]);
        let _ = (SegmentHeader::decode(file), FrameHeader::decode(bytes));
    }
    scanned(&disk);
    let report = inspect(&config(), &disk);
    assert_eq!(report.segments.len(), disk.segments.len());
}

fn config() -> ShardConfig {
    ShardConfig {
        shard: SHARD,
        placement: Placement { groups_count: 1, shards_count: 1 },
        directory_id: DIRECTORY_ID,
        segment_bytes: GEOMETRY.segment_bytes,
        segments_max: 8,
        extent_bytes_max: EXTENT_BYTES_MIN,
        in_flight_max: 1,
        cache_bytes_max: 1 << 20,
        index_bytes_max: 1 << 20,
        readers_max: 1,
        checkpoint_log_bytes: 1 << 20,
        accept_data_loss: true,
    }
}

type Frame = (FrameHeader, Vec<u8>);

/// A log as the input describes it must read back; with bytes changed, nothing but a beginning of it may.
fn written_log(input: &mut Input<'_>) {
    let mut disk = Disk::of(1..=SEGMENTS_MAX);
    let mut at = BEGIN;
    let mut written = Vec::new();
    let damages_count = usize::from(input.u8() & 3);
    let damages: Vec<_> = (0..damages_count).map(|_| (input.u32(), input.u8())).collect();
    while !input.is_empty() {
        let kind = input.u8();
        let frames: Vec<Frame> = (0..kind & 3).map(|_| frame(input)).collect();
        let is_stray = kind & 4 != 0;
        let mut header = ExtentHeader {
            epoch: if kind & 8 == 0 { at.epoch } else { input.u32().max(at.epoch) },
            lsn: at.end,
            prev_lsn: at.prev_lsn,
            durable_lsn: if kind & 16 == 0 { at.end } else { Lsn(input.u64()) },
            frames_bytes: 0,
            frames_count: u32::from(kind & 3),
            frames_crc: 0,
            prev_header_crc: if is_stray { !at.prev_header_crc } else { at.prev_header_crc },
            written_ms: u64::from(kind),
        };
        let mut body = Vec::new();
        for (frame, payload) in &frames {
            header.frames_crc = crc32c::crc32c_append(header.frames_crc, &frame.encode());
            body.extend_from_slice(&frame.encode());
            body.extend_from_slice(payload);
        }
        header.frames_bytes = u32::try_from(body.len()).expect("an extent is small");
        if header.end() > GEOMETRY.end(GEOMETRY.segment(at.end)) || GEOMETRY.offset(at.end) == 0 {
            // No room left here, as for the log's writer. The extent goes to the next segment.
            let next = SegmentNo(GEOMETRY.segment(Lsn(at.end.0 - 1)).0 + 1);
            if next.0 > SEGMENTS_MAX {
                break;
            }
            at.end = GEOMETRY.start(next);
            header.lsn = at.end;
            if header.end() > GEOMETRY.end(next) {
                break;
            }
        }
        let (encoded, crc) = header.encode();
        assert_eq!(ExtentHeader::decode(&encoded), Some((header, crc)));
        let mut extent = encoded.to_vec();
        extent.extend_from_slice(&body);
        check_proof(&header, &extent, &frames);
        extent.resize(header.extent_bytes(), 0);
        disk.write(at.end, &extent);
        if !is_stray {
            at = LogEnd { end: header.end(), prev_lsn: header.lsn, prev_header_crc: crc, epoch: header.epoch };
            written.push(frames);
        }
    }
    let (read, end) = scanned(&disk);
    assert!(read == written, "an intact log reads back");
    if let Some(end) = end {
        assert_eq!(end.log.prev_lsn, at.prev_lsn, "the log goes on behind its last extent");
    }
    for (place, bits) in damages {
        let place = u64::from(place) % (SEGMENTS_MAX * GEOMETRY.segment_bytes);
        let (_, file) = &mut disk.segments[usize::try_from(place / GEOMETRY.segment_bytes).expect("few")];
        file[usize::try_from(place % GEOMETRY.segment_bytes).expect("small")] ^= bits;
    }
    let (read, _) = scanned(&disk);
    assert!(written.starts_with(&read), "a damaged log reads back in part, and as it was");
}

fn check_proof(header: &ExtentHeader, extent: &[u8], frames: &[Frame]) {
    let proved = prove_frames(header, extent).expect("intact");
    assert!(proved.iter().map(|(frame, payload, _)| (frame, *payload)).eq(frames.iter().map(|(f, p)| (f, &p[..]))));
    assert_eq!(prove_frames(header, &extent[..extent.len() - 1]).err(), Some(BadExtent::CutOff));
    if let Some((_, payload, offset)) = proved.first().filter(|(_, payload, _)| !payload.is_empty()) {
        let mut damaged = extent.to_vec();
        damaged[offset + engine::log::frame::FRAME_HEADER_BYTES + payload.len() / 2] ^= 1;
        assert_eq!(prove_frames(header, &damaged).err(), Some(BadExtent::Frames));
    }
    assert_eq!(proved.first().map_or(EXTENT_HEADER_BYTES, |(_, _, offset)| *offset), EXTENT_HEADER_BYTES);
}

fn frame(input: &mut Input<'_>) -> Frame {
    let kinds = [FrameKind::Batch, FrameKind::Control, FrameKind::Entry, FrameKind::HardState];
    let kind = kinds[usize::from(input.u8()) % kinds.len()];
    let mut header = FrameHeader::new(kind, GroupId(u32::from(input.u8())));
    header.payload_kind = input.u8();
    header.flags = input.u16();
    header.stream = StreamId(input.u64());
    header.first_seq_num = input.u64();
    header.first_timestamp = input.u64();
    header.last_timestamp = input.u64();
    header.records_count = input.u32();
    header.metered_bytes = input.u32();
    header.arrived_s = input.u32();
    let len = usize::from(input.u16());
    let payload = input.take(len).to_vec();
    header.payload_bytes = u32::try_from(payload.len()).expect("at most 64 KiB");
    header.payload_crc = crc32c::crc32c(&payload);
    assert_eq!(FrameHeader::decode(&header.encode()), Ok(header));
    (header, payload)
}

/// Pieces of the input's kinds and bytes. Rows that are read mean the same when they are written and read again.
fn checkpoint(input: &mut Input<'_>) {
    let mut pieces = Vec::new();
    while !input.is_empty() {
        let kind = input.u8() & 7;
        let len = usize::from(input.u16() & 0x3ff);
        let mut payload = input.take(len).to_vec();
        if kind == 1 {
            // The rest of what the head says is the fuzzer's.
            let mut head = DIRECTORY_ID.to_le_bytes().to_vec();
            head.extend_from_slice(&SHARD.0.to_le_bytes());
            head.extend_from_slice(&GEOMETRY.segment_bytes.to_le_bytes());
            payload.splice(..0, head);
        }
        pieces.push((kind, payload));
    }
    let Ok(rows) = loaded(&pieces) else { return };
    let mut run = Vec::new();
    run.extend_from_slice(&0u32.to_le_bytes());
    run.extend_from_slice(&0u64.to_le_bytes());
    run.extend_from_slice(&u32::try_from(rows.len()).expect("a few").to_le_bytes());
    rows.iter().for_each(|row| run.extend_from_slice(row));
    assert_eq!(loaded(&[(7, run), (5, vec![0; 8])]), Ok(rows), "rows read back");
}

fn loaded(pieces: &[(u8, Vec<u8>)]) -> Result<Vec<Vec<u8>>, String> {
    let mut file = b"MRCKPT01".to_vec();
    for (kind, payload) in pieces {
        file.push(*kind);
        file.extend_from_slice(&u32::try_from(payload.len()).expect("small").to_le_bytes());
        file.extend_from_slice(&crc32c::crc32c(payload).to_le_bytes());
        file.extend_from_slice(payload);
    }
    fuzzing::checkpoint_rows(&file, (DIRECTORY_ID, SHARD, GEOMETRY.segment_bytes))
}

fn operation(bytes: &[u8]) {
    if let Ok(op) = ControlOp::decode(bytes) {
        let _ = op.stream();
        assert_eq!(ControlOp::decode(&op.encode()), Ok(op));
    }
}

/// What replay makes of the frame of a batch.
fn batch(input: &mut Input<'_>) {
    let (mut header, _) = frame(input);
    let payload = Bytes::copy_from_slice(input.rest());
    header.payload_bytes = u32::try_from(payload.len()).expect("small");
    let Some(op) = fuzzing::batch_op(&header, &payload, EXTENT_HEADER_BYTES) else { return };
    assert_eq!(op.end.seq_num - op.first.seq_num, u64::from(header.records_count));
    assert!(op.commands.is_empty() || header.flags & FLAG_COMMANDS != 0);
}
