//! Frames of s2s sessions: cut from a body in arbitrary chunks, decompressed, encoded again.

use api::compression::{COMPRESSED_BYTES_MIN, Compression, Compressor};
use api::s2s::{Flags, Frame, FrameDecoder, append_input, frame_header};
use bytes::Bytes;
use model::limits::FRAME_PAYLOAD_BYTES_MAX;

use crate::input::Input;

/// The input says how to cut, then what: bytes as they are, or a payload that we compress, and then perhaps damage.
pub fn s2s_frames(input: &[u8]) {
    let mut input = Input::new(input);
    let mode = input.u8();
    let cuts: Vec<usize> = (0..mode & 7).map(|_| usize::from(input.u8())).collect();
    if mode & 0x80 != 0 {
        compressed(&mut input, &cuts);
    } else {
        check_body(input.rest(), &cuts);
    }
}

/// What a decoder makes of a body: its frames, and whether it ended well.
type Decoded = (Vec<Frame>, bool);

fn check_body(body: &[u8], cuts: &[usize]) -> Decoded {
    let whole = decoded([Bytes::copy_from_slice(body)]);
    assert_eq!(decoded(chunks(body, cuts)), whole, "where a body is cut does not matter");
    let mut encoded = Vec::new();
    let mut regular = Vec::new();
    for frame in &whole.0 {
        let Frame::Regular { payload, reconnect_advised } = frame else { continue };
        assert!(payload.len() <= FRAME_PAYLOAD_BYTES_MAX, "what comes out is bounded");
        let flags = Flags { compression: Compression::None, reconnect_advised: *reconnect_advised };
        encoded.extend_from_slice(&frame_header(payload.len(), flags));
        encoded.extend_from_slice(payload);
        regular.push(frame.clone());
        let _ = append_input(payload.clone());
    }
    assert_eq!(decoded([encoded.into()]), (regular, true), "a frame reads back");
    whole
}

fn decoded(chunks: impl IntoIterator<Item = Bytes>) -> Decoded {
    let mut decoder = FrameDecoder::new();
    let mut frames = Vec::new();
    for chunk in chunks {
        decoder.push(chunk);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(error.status(), 400);
                    return (frames, false);
                }
            }
        }
    }
    (frames, decoder.finish().is_ok())
}

/// Chunks of these sizes, and the rest.
fn chunks(body: &[u8], cuts: &[usize]) -> Vec<Bytes> {
    let mut rest = Input::new(body);
    let mut chunks: Vec<Bytes> = cuts.iter().map(|len| Bytes::copy_from_slice(rest.take(*len))).collect();
    chunks.push(Bytes::copy_from_slice(rest.rest()));
    chunks
}

fn compressed(input: &mut Input<'_>, cuts: &[usize]) {
    let compression = if input.u8() & 1 == 0 { Compression::Zstd } else { Compression::Gzip };
    let damage = (usize::from(input.u16()), input.u8());
    let seed = input.rest();
    if seed.is_empty() {
        return;
    }
    let payload = seed.repeat(COMPRESSED_BYTES_MIN.div_ceil(seed.len()));
    let Some(packed) = Compressor::new(compression).compress(&[&payload]) else { return };
    let mut body = frame_header(packed.len(), Flags { compression, reconnect_advised: false }).to_vec();
    body.extend_from_slice(&packed);
    let frame = Frame::Regular { payload: payload.into(), reconnect_advised: false };
    assert_eq!(check_body(&body, cuts), (vec![frame], true), "what is compressed reads back");
    // Somewhere behind the length, which would only make the body end early.
    let (place, bits) = damage;
    let at = 3 + place % (body.len() - 3);
    body[at] ^= bits;
    check_body(&body, cuts);
}
