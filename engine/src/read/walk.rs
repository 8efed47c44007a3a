//! Walks a piece of the log and picks the frames of one stream out of it.

use bytes::Bytes;
use model::{GroupId, StreamId};

use crate::log::extent::{EXTENT_HEADER_BYTES, ExtentHeader};
use crate::log::frame::{EXTENT_MAGIC_FIRST, FRAME_HEADER_BYTES, FrameHeader, FrameKind, NotAFrame};
use crate::log::{BLOCK_BYTES, Lsn};
use crate::mutation::Mutation;

/// What comes next in a piece of the log.
#[derive(Debug)]
pub enum Step {
    /// A frame of the stream.
    Frame(FrameHeader, Bytes),
    /// The piece ends within the frame at this place, which is so many bytes long as far as can be told.
    CutOff(Lsn, usize),
    /// The piece ends before this place.
    End(Lsn),
    /// The bytes at this place are not what was written.
    Damaged(Lsn),
}

/// A walk over `bytes`, which begin at `base`.
#[derive(Debug)]
pub struct Walk {
    bytes: Bytes,
    base: Lsn,
    at: usize,
    /// Whether payloads are proved: those that come from the device.
    proves: bool,
    group: GroupId,
    stream: StreamId,
}

impl Walk {
    /// Begins at `from`, the place of a frame or an extent within `bytes`.
    #[must_use]
    pub fn new(bytes: Bytes, base: Lsn, from: Lsn, proves: bool, (group, stream): (GroupId, StreamId)) -> Self {
        let at = usize::try_from(from.0 - base.0).unwrap_or(usize::MAX);
        Self { bytes, base, at, proves, group, stream }
    }

    /// Where the walk is.
    #[must_use]
    pub const fn place(&self) -> Lsn {
        self.base.plus(self.at as u64)
    }

    /// The next frame of the stream, or why there is none.
    pub fn step(&mut self) -> Step {
        loop {
            let Some(rest) = self.bytes.get(self.at..).filter(|r| !r.is_empty()) else {
                return Step::End(self.place());
            };
            let frame = match FrameHeader::decode(rest) {
                Ok(frame) => frame,
                Err(NotAFrame::Damaged) if rest.len() < FRAME_HEADER_BYTES => {
                    return Step::CutOff(self.place(), FRAME_HEADER_BYTES);
                }
                Err(NotAFrame::Damaged) => return Step::Damaged(self.place()),
                Err(NotAFrame::End) => match self.next_extent() {
                    true => continue,
                    false => return Step::End(self.place()),
                },
            };
            let here = self.place();
            if rest.len() < frame.frame_bytes() {
                return Step::CutOff(here, frame.frame_bytes());
            }
            let payload = self.at + FRAME_HEADER_BYTES..self.at + frame.frame_bytes();
            self.at = payload.end;
            if frame.kind != FrameKind::Batch || frame.stream != self.stream || frame.group != self.group {
                continue;
            }
            let payload = self.bytes.slice(payload);
            if self.proves && crc32c::crc32c(&payload) != frame.payload_crc && !Mutation::ReadCrcSkipped.is_on() {
                return Step::Damaged(here);
            }
            return Step::Frame(frame, payload);
        }
    }

    /// Steps over padding and an extent's header; false when no extent follows in the piece.
    fn next_extent(&mut self) -> bool {
        if self.bytes[self.at] != EXTENT_MAGIC_FIRST {
            let padding = self.place().0 % BLOCK_BYTES as u64;
            if padding == 0 {
                return false;
            }
            self.at += BLOCK_BYTES - usize::try_from(padding).expect("less than a block");
        }
        let place = self.place();
        let header = self.bytes.get(self.at..).and_then(ExtentHeader::decode);
        if header.is_none_or(|(header, _)| header.lsn != place) {
            return false;
        }
        self.at += EXTENT_HEADER_BYTES;
        true
    }
}
