//! Frames read back however the body was cut, and the samples of the spec are met byte by byte.

use proptest::prelude::*;

use super::*;
use crate::AppendAck;
use crate::compression::Compressor;
use model::Position;

fn regular(payload: &[u8], compression: Compression, reconnect_advised: bool) -> (Vec<u8>, Frame) {
    let mut compressor = Compressor::new(compression);
    let compressed = compressor.compress(&[payload]);
    let compression = if compressed.is_some() { compression } else { Compression::None };
    let sent = compressed.as_deref().unwrap_or(payload);
    let wire = [&frame_header(sent.len(), Flags { compression, reconnect_advised })[..], sent].concat();
    (wire, Frame::Regular { payload: payload.to_vec().into(), reconnect_advised })
}

fn decode_all(decoder: &mut FrameDecoder, wire: &[u8], chunk_bytes: usize) -> Result<Vec<Frame>, ApiError> {
    let mut frames = Vec::new();
    for chunk in wire.chunks(chunk_bytes) {
        decoder.push(chunk.to_vec().into());
        while let Some(frame) = decoder.next_frame()? {
            frames.push(frame);
        }
    }
    decoder.finish()?;
    Ok(frames)
}

fn refusal(wire: &[u8]) -> String {
    let error = decode_all(&mut FrameDecoder::new(), wire, 1000).expect_err("refused");
    assert_eq!(error.code(), Some(Code::BadFrame));
    let ErrorBody::Coded(_, message) = error.body else { panic!("it has a code") };
    message
}

proptest! {
    #[test]
    fn frames_read_back_however_the_body_is_cut(
        frames in prop::collection::vec((any::<u8>(), 0..3000usize, 0..3usize, any::<bool>()), 0..8),
        chunk_bytes in 1..4000usize,
    ) {
        let mut wire = Vec::new();
        let mut expected = Vec::new();
        for (byte, len, compression, reconnect) in frames {
            let compression = [Compression::None, Compression::Zstd, Compression::Gzip][compression];
            let (bytes, frame) = regular(&vec![byte; len], compression, reconnect);
            wire.extend(bytes);
            expected.push(frame);
        }
        prop_assert_eq!(decode_all(&mut FrameDecoder::new(), &wire, chunk_bytes), Ok(expected));
    }

    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300), chunk_bytes in 1..50usize) {
        let _ = decode_all(&mut FrameDecoder::new(), &bytes, chunk_bytes);
        let small: Vec<u8> = [&[0, 0][..], &bytes].concat();
        let _ = decode_all(&mut FrameDecoder::new(), &small, chunk_bytes);
    }
}

#[test]
fn a_frame_in_one_chunk_is_not_copied() {
    let chunk = Bytes::from(
        [regular(b"one", Compression::None, false).0, regular(b"two", Compression::None, false).0].concat(),
    );
    let mut decoder = FrameDecoder::new();
    decoder.push(chunk.clone());
    for at in [4, 11] {
        let Ok(Some(Frame::Regular { payload, .. })) = decoder.next_frame() else { panic!("a frame") };
        assert_eq!(payload.as_ptr(), chunk[at..].as_ptr());
    }
    assert_eq!(decoder.next_frame(), Ok(None));
    assert_eq!(decoder.finish(), Ok(()));
}

#[test]
fn chunks_pushed_too_early_are_not_lost() {
    let (wire, frame) = regular(b"abc", Compression::None, true);
    let mut decoder = FrameDecoder::new();
    for byte in wire {
        decoder.push(vec![byte].into());
    }
    assert_eq!(decoder.next_frame(), Ok(Some(frame)));
}

#[test]
fn the_samples_of_the_spec_are_met() {
    assert_eq!(frame_header(0, Flags::default()), [0, 0, 1, 0]);
    let ack = AppendAck {
        start: Position { seq_num: 1, timestamp: 1 },
        end: Position { seq_num: 2, timestamp: 300 },
        tail: Position { seq_num: 2, timestamp: 1 },
    };
    assert_eq!(frame_header(proto::append_ack(&ack).len() + 1, Flags::default())[2], 0x15);
    let mismatch = terminal(&ErrorBody::SeqNumMismatch(7).into());
    assert_eq!(mismatch[..], [&[0, 0, 0x19, 0x80, 1, 0x9c][..], br#"{"seq_num_mismatch":7}"#].concat());
    let empty = terminal(&append_input(Bytes::new()).expect_err("no record"));
    assert_eq!(empty[3..6], [0x80, 1, 0xa6], "422");
    let heartbeat = model::stored::tail_field(Position { seq_num: 1, timestamp: 1_790_000_000_000 });
    let heartbeat = [&frame_header(heartbeat.len(), Flags::default())[..], &heartbeat].concat();
    assert_eq!(heartbeat[..9], [0, 0, 0x0c, 0, 0x12, 9, 8, 1, 0x10]);
    assert_eq!(heartbeat.len(), 15);
}

#[test]
fn terminal_frames_are_read_back() {
    let wire = terminal(&ErrorBody::SeqNumMismatch(3).into());
    let body = Bytes::from_static(br#"{"seq_num_mismatch":3}"#);
    let frames = decode_all(&mut FrameDecoder::new(), &wire, 5).expect("valid");
    assert_eq!(frames, [Frame::Terminal { status: 412, body }]);
}

#[test]
fn bad_frames_are_told_apart() {
    for (wire, message) in [
        (&[0, 0, 0][..], "empty frame payload"),
        (&[0x20, 0, 1, 0], "frame exceeds 2 MiB"),
        (&[0, 0, 1, 0x60], "unknown compression algorithm"),
        (&[0, 0, 2, 0x80, 1], "terminal frame without status"),
        (&[0, 0, 2, 0x20, 1], "zstd: the payload is damaged or exceeds the limit"),
        (&[0, 0, 2, 0x40, 1], "gzip: the payload is damaged"),
        (&[0, 0, 2, 0], "bytes remaining on stream"),
        (&[0], "bytes remaining on stream"),
    ] {
        assert_eq!(refusal(wire), message);
    }
    let error = append_input(vec![0x0a].into()).expect_err("cut off");
    assert_eq!(error.code(), Some(Code::BadFrame));
}

#[test]
fn a_payload_that_grows_beyond_a_frame_is_refused() {
    for compression in [Compression::Zstd, Compression::Gzip] {
        for (len, fits) in [(FRAME_PAYLOAD_BYTES_MAX, true), (FRAME_PAYLOAD_BYTES_MAX + 1, false)] {
            let (wire, _) = regular(&vec![0; len], compression, false);
            assert_eq!(decode_all(&mut FrameDecoder::new(), &wire, 1 << 20).is_ok(), fits);
        }
    }
}

#[test]
fn reserved_bits_are_ignored() {
    let frames = decode_all(&mut FrameDecoder::new(), &[0, 0, 1, 0x0f], 9).expect("valid");
    assert_eq!(frames, [Frame::Regular { payload: Bytes::new(), reconnect_advised: false }]);
}
