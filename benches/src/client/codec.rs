//! Answers, decoded and held to what they promise.

use api::proto;
use api::s2s::{Frame, FrameDecoder};
use bytes::Bytes;

use super::{ClientError, Result};

/// The next message that has arrived whole; `None` when more bytes are needed. A terminal frame is an error.
pub(crate) fn next_message(frames: &mut FrameDecoder) -> Result<Option<Bytes>> {
    match frames.next_frame()? {
        Some(Frame::Regular { payload, .. }) => Ok(Some(payload)),
        Some(Frame::Terminal { status, body }) => Err(ClientError::status(status, &body)),
        None => Ok(None),
    }
}

/// Numbers of an `AppendAck`: the first record's, and the one behind the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

impl Ack {
    /// Reads an ack of `records` records.
    pub(crate) fn of(message: &[u8], records: u64) -> Result<Self> {
        let ack = proto::decode_append_ack(message)?;
        Self::between(ack.start.seq_num, ack.end.seq_num, records)
    }

    /// An ack that says so of `records` records.
    pub(crate) fn between(start: u64, end: u64, records: u64) -> Result<Self> {
        if end.checked_sub(start) == Some(records) {
            Ok(Self { start, end })
        } else {
            Err(ClientError::Wrong("an ack of another number of records"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_frame_is_the_error_it_carries() {
        let mut frames = FrameDecoder::new();
        frames.push(Bytes::from_static(b"\x00\x00\x05\x80\x01\x9c{}"));
        match next_message(&mut frames) {
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
        assert!(Ack::of(b"\x0a\xff", 0).is_err());
    }
}
