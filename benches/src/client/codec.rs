//! Answers, looked at no further than the figures need: whether an ack acknowledges the right number of records,
//! whether a batch goes on where the last one ended.

use bytes::{Buf, Bytes, BytesMut};
use model::limits::FRAME_PAYLOAD_BYTES_MAX;
use model::varint::{Fields, Value};

use super::{ClientError, Result};

/// Cuts the body of a session into frames. A frame that lies in one chunk is not copied.
#[derive(Debug, Default)]
pub(crate) struct FrameCutter {
    chunk: Bytes,
    /// Beginning of a frame that spans chunks.
    partial: BytesMut,
}

impl FrameCutter {
    /// Takes the next chunk, after [`Self::next_message`] has returned `None` for the last.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "all frames of a chunk are taken before the next chunk");
        self.chunk = chunk;
    }

    /// The next frame's message; `None` when more bytes are needed. A terminal frame is an error.
    pub(crate) fn next_message(&mut self) -> Result<Option<Bytes>> {
        let Some(mut frame) = self.next_frame()? else { return Ok(None) };
        let flags = frame[LENGTH_BYTES];
        frame.advance(LENGTH_BYTES + 1);
        if flags & TERMINAL_FLAG != 0 {
            let [high, low, body @ ..] = &frame[..] else { return Err(ClientError::Wrong("short terminal frame")) };
            return Err(ClientError::status(u16::from_be_bytes([*high, *low]), body));
        }
        if flags & COMPRESSION_FLAGS != 0 {
            return Err(ClientError::Wrong("a compressed frame that was not asked for"));
        }
        Ok(Some(frame))
    }

    /// Whether the body may end here.
    pub(crate) fn is_at_boundary(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    fn next_frame(&mut self) -> Result<Option<Bytes>> {
        if self.partial.is_empty() {
            if let Some(length) = frame_bytes(&self.chunk)?
                && self.chunk.len() >= length
            {
                return Ok(Some(self.chunk.split_to(length)));
            }
            self.move_to_partial(self.chunk.len());
            return Ok(None);
        }
        self.move_to_partial(LENGTH_BYTES.saturating_sub(self.partial.len()));
        let Some(length) = frame_bytes(&self.partial)? else { return Ok(None) };
        self.partial.reserve(length.saturating_sub(self.partial.len()));
        self.move_to_partial(length - self.partial.len());
        Ok((self.partial.len() == length).then(|| self.partial.split().freeze()))
    }

    /// Moves up to `count` bytes of the chunk.
    fn move_to_partial(&mut self, count: usize) {
        let part = self.chunk.split_to(count.min(self.chunk.len()));
        self.partial.extend_from_slice(&part);
    }
}

/// Length of the frame that begins here, its own length bytes included.
fn frame_bytes(bytes: &[u8]) -> Result<Option<usize>> {
    let [a, b, c, ..] = *bytes else { return Ok(None) };
    let length = u32::from_be_bytes([0, a, b, c]) as usize;
    if length == 0 || length > FRAME_PAYLOAD_BYTES_MAX + 1 {
        return Err(ClientError::Wrong("a frame of impossible length"));
    }
    Ok(Some(LENGTH_BYTES + length))
}

/// Numbers of an `AppendAck`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Ack {
    /// Reads an ack of `records` records.
    pub(crate) fn of(message: &[u8], records: u64) -> Result<Self> {
        let (mut start, mut end) = (None, None);
        for field in Fields::new(message) {
            match field {
                Ok((1, Value::Bytes(position, _))) => start = Some(seq_num(position)?),
                Ok((2, Value::Bytes(position, _))) => end = Some(seq_num(position)?),
                Ok(_) => {}
                Err(_) => return Err(ClientError::Wrong("an ack that is not protobuf")),
            }
        }
        let (Some(start), Some(end)) = (start, end) else { return Err(ClientError::Wrong("an ack without positions")) };
        if end.checked_sub(start) != Some(records) {
            return Err(ClientError::Wrong("an ack of another number of records"));
        }
        Ok(Self { start, end })
    }
}

/// `StreamPosition.seq_num`, which is left out when it is 0.
fn seq_num(position: &[u8]) -> Result<u64> {
    for field in Fields::new(position) {
        match field {
            Ok((1, Value::Varint(seq_num))) => return Ok(seq_num),
            Ok(_) => {}
            Err(_) => return Err(ClientError::Wrong("a position that is not protobuf")),
        }
    }
    Ok(0)
}

/// Calls `each` with the number and body of every record of a `ReadBatch`.
pub(crate) fn for_each_record(message: &[u8], mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
    for field in Fields::new(message) {
        match field {
            Ok((1, Value::Bytes(record, _))) => {
                let (mut seq_num, mut body) = (0, &[][..]);
                for part in Fields::new(record) {
                    match part {
                        Ok((1, Value::Varint(number))) => seq_num = number,
                        Ok((4, Value::Bytes(bytes, _))) => body = bytes,
                        Ok(_) => {}
                        Err(_) => return Err(ClientError::Wrong("a record that is not protobuf")),
                    }
                }
                each(seq_num, body)?;
            }
            Ok(_) => {}
            Err(_) => return Err(ClientError::Wrong("a batch that is not protobuf")),
        }
    }
    Ok(())
}

const LENGTH_BYTES: usize = 3;
const TERMINAL_FLAG: u8 = 0x80;
const COMPRESSION_FLAGS: u8 = 0x60;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::frame;

    #[test]
    fn frames_come_out_whole_however_the_chunks_fall() {
        let messages = [&b""[..], b"a", &[7; 300], b"end"];
        let body: Vec<u8> = messages.iter().flat_map(|m| frame(m)).collect();
        for chunk_bytes in [1, 2, 3, 5, 100, 1000] {
            let mut cutter = FrameCutter::default();
            let mut cut = Vec::new();
            for chunk in body.chunks(chunk_bytes) {
                cutter.push(Bytes::copy_from_slice(chunk));
                while let Some(message) = cutter.next_message().expect("good frames") {
                    cut.push(message);
                }
            }
            assert_eq!(cut, messages, "chunks of {chunk_bytes}");
            assert!(cutter.is_at_boundary());
        }
    }

    #[test]
    fn a_terminal_frame_is_the_error_it_carries() {
        let mut cutter = FrameCutter::default();
        cutter.push(Bytes::from_static(b"\x00\x00\x05\x80\x01\x9c{}"));
        match cutter.next_message() {
            Err(ClientError::Status { status: 412, body }) => assert_eq!(body, "{}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_ack_must_acknowledge_what_was_sent() {
        // start {}, end {seq_num: 2}, tail {seq_num: 2}: a batch of two at the start of a stream.
        let ack = b"\x0a\x00\x12\x02\x08\x02\x1a\x02\x08\x02";
        assert_eq!(Ack::of(ack, 2).expect("good"), Ack { start: 0, end: 2 });
        assert!(Ack::of(ack, 1).is_err());
        assert!(Ack::of(b"", 0).is_err());
    }

    #[test]
    fn records_of_a_batch_are_walked_in_order() {
        // {seq_num: 5, body: "x"} and {seq_num: 6}, then a tail.
        let batch = b"\x0a\x05\x08\x05\x22\x01x\x0a\x02\x08\x06\x12\x02\x08\x07";
        let mut seen = Vec::new();
        for_each_record(batch, |seq_num, body| {
            seen.push((seq_num, body.to_vec()));
            Ok(())
        })
        .expect("good");
        assert_eq!(seen, [(5, b"x".to_vec()), (6, Vec::new())]);
    }
}
