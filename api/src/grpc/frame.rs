//! Messages in a gRPC body.
//!
//! ```text
//! flag: u8, 0 plain or 1 compressed | length: u32, big endian | message
//! ```
//! A message that lies in one chunk of the body is handed on without a copy.

use bytes::Bytes;

use crate::compression::{Compression, Compressor, Decompressor};
use crate::cut::Cutter;
use crate::status::{ApiError, Code};

/// Largest message from a client, as it is and decompressed, in bytes: a full batch with room for what its metered size
/// does not count. A larger one is refused before it is read.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;
/// Bytes before a message.
pub const HEAD_BYTES: usize = 5;

/// Cuts a body that arrives in chunks into messages. Holds at most one unfinished message and one chunk, provided that the
/// caller takes all messages before it pushes the next chunk.
#[derive(Default)]
pub struct MessageDecoder {
    cutter: Cutter,
    encoding: Compression,
    decompressor: Decompressor,
}

impl MessageDecoder {
    /// At the start of a body whose compressed messages are compressed so.
    #[must_use]
    pub fn new(encoding: Compression) -> Self {
        Self { encoding, ..Self::default() }
    }

    /// Takes the next chunk of the body.
    pub fn push(&mut self, chunk: Bytes) {
        self.cutter.push(chunk);
    }

    /// The next message, decompressed; `None` when more bytes are needed.
    ///
    /// # Errors
    /// 400 `bad_frame`; the body cannot be decoded any further.
    pub fn next_message(&mut self) -> Result<Option<Bytes>, ApiError> {
        let Some(mut frame) = self.cutter.cut(HEAD_BYTES, frame_bytes)? else { return Ok(None) };
        let is_compressed = frame[0] == COMPRESSED;
        let message = frame.split_off(HEAD_BYTES);
        match (is_compressed, self.encoding) {
            (false, _) => Ok(Some(message)),
            (true, Compression::None) => {
                Err(bad_frame("a message is compressed, but `grpc-encoding` does not say how"))
            }
            (true, encoding @ (Compression::Zstd | Compression::Gzip)) => {
                let plain = self.decompressor.decompress(encoding, &message, MESSAGE_BYTES_MAX).map_err(bad_frame)?;
                Ok(Some(plain.into()))
            }
        }
    }

    /// To be asked at the end of the body.
    ///
    /// # Errors
    /// 400 `bad_frame` when it ends inside a message.
    pub fn finish(&self) -> Result<(), ApiError> {
        if self.cutter.is_between_frames() { Ok(()) } else { Err(bad_frame("the body ends inside a message")) }
    }
}

/// The one message of a whole body.
///
/// # Errors
/// 400 `bad_frame` when there is none, or another one.
pub fn only_message(body: Bytes, encoding: Compression) -> Result<Bytes, ApiError> {
    let mut decoder = MessageDecoder::new(encoding);
    decoder.push(body);
    let message = decoder.next_message()?.ok_or_else(|| bad_frame("the body has no whole message"))?;
    match decoder.finish() {
        Ok(()) => Ok(message),
        Err(_) => Err(bad_frame("the body has more than one message")),
    }
}

/// A message on its way out, with room for its head in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing(Vec<u8>);

impl Outgoing {
    /// An empty message, with room for `message_bytes`.
    #[must_use]
    pub fn with_capacity(message_bytes: usize) -> Self {
        let mut bytes = Vec::with_capacity(HEAD_BYTES + message_bytes);
        bytes.resize(HEAD_BYTES, PLAIN);
        Self(bytes)
    }

    /// A message of prost's.
    #[must_use]
    pub fn of(message: &impl prost::Message) -> Self {
        let mut outgoing = Self::with_capacity(message.encoded_len());
        message.encode(outgoing.message()).expect("a vector grows");
        outgoing
    }

    /// What the message is written to.
    pub const fn message(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// The message with its head, compressed where that pays.
    ///
    /// # Panics
    /// When the message has 4 GiB: what we send is bounded by pages and batches.
    #[must_use]
    pub fn framed(mut self, compressor: &mut Compressor) -> Vec<u8> {
        let mut flag = PLAIN;
        if let Some(small) = compressor.compress(&[&self.0[HEAD_BYTES..]]) {
            flag = COMPRESSED;
            self.0.truncate(HEAD_BYTES);
            self.0.extend_from_slice(&small);
        }
        let message_bytes = u32::try_from(self.0.len() - HEAD_BYTES).expect("what we send is smaller than 4 GiB");
        self.0[0] = flag;
        self.0[1..HEAD_BYTES].copy_from_slice(&message_bytes.to_be_bytes());
        self.0
    }
}

/// Bytes of the frame at the start of `bytes`, its head included; `None` when they do not say yet.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>, ApiError> {
    let Some([flag, length @ ..]) = bytes.first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    if *flag > COMPRESSED {
        return Err(bad_frame("the flag before a message must be 0 or 1"));
    }
    let length = u32::from_be_bytes(*length) as usize;
    if length > MESSAGE_BYTES_MAX {
        return Err(bad_frame("message exceeds 2 MiB"));
    }
    Ok(Some(HEAD_BYTES + length))
}

fn bad_frame(why: &str) -> ApiError {
    ApiError::new(Code::BadFrame, why)
}

const PLAIN: u8 = 0;
const COMPRESSED: u8 = 1;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode_all(wire: &[u8], encoding: Compression, chunk_bytes: usize) -> Result<Vec<Bytes>, ApiError> {
        let mut decoder = MessageDecoder::new(encoding);
        let mut messages = Vec::new();
        for chunk in wire.chunks(chunk_bytes) {
            decoder.push(Bytes::copy_from_slice(chunk));
            while let Some(message) = decoder.next_message()? {
                messages.push(message);
            }
        }
        decoder.finish().map(|()| messages)
    }

    proptest! {
        #[test]
        fn messages_come_out_as_they_went_in(
            sent in prop::collection::vec((any::<u8>(), 0..4000usize), 0..6), chunk_bytes in 1..5000usize,
        ) {
            for encoding in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let mut compressor = Compressor::new(encoding);
                let mut wire = Vec::new();
                let messages: Vec<Vec<u8>> = sent.iter().map(|(byte, len)| vec![*byte; *len]).collect();
                for message in &messages {
                    let mut outgoing = Outgoing::with_capacity(message.len());
                    outgoing.message().extend_from_slice(message);
                    wire.extend(outgoing.framed(&mut compressor));
                }
                prop_assert_eq!(&decode_all(&wire, encoding, chunk_bytes).expect("well formed"), &messages);
                if !wire.is_empty() {
                    prop_assert!(decode_all(&wire[..wire.len() - 1], encoding, chunk_bytes).is_err());
                }
            }
        }

        #[test]
        fn garbage_never_panics(wire in prop::collection::vec(any::<u8>(), 0..100), chunk_bytes in 1..100usize) {
            for encoding in [Compression::None, Compression::Gzip, Compression::Zstd] {
                let _ = decode_all(&wire, encoding, chunk_bytes);
                let _ = only_message(Bytes::copy_from_slice(&wire), encoding);
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (wire, text) in [
            (&b""[..], "no whole message"),
            (b"\x00\x00\x00\x00\x02x", "no whole message"),
            (b"\x00\x00\x00\x00\x01xy", "more than one"),
            (b"\x01\x00\x00\x00\x01x", "does not say how"),
            (b"\x02\x00\x00\x00\x01x", "must be 0 or 1"),
            (b"\x00\xff\x00\x00\x00", "exceeds"),
        ] {
            let error = only_message(Bytes::from_static(wire), Compression::None).expect_err("malformed");
            assert!(error.body_json().contains(text), "{} should say {text}", error.body_json());
        }
    }
}
