//! Cuts a body that arrives in chunks into frames that begin with their length.

use bytes::{Bytes, BytesMut};

use crate::status::ApiError;

/// Holds at most one unfinished frame and one chunk, provided that the caller takes all frames before it pushes the next
/// chunk. A frame that lies in one chunk is handed on without a copy.
#[derive(Default)]
pub(crate) struct Cutter {
    /// What is left of the last chunk.
    chunk: Bytes,
    /// The beginning of a frame that spans chunks. Invariant: shorter than its frame; when it is not empty between
    /// calls, `chunk` was used up.
    partial: BytesMut,
}

impl Cutter {
    /// Takes the next chunk of the body.
    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.chunk = [&self.chunk[..], &chunk].concat().into();
        }
    }

    /// Whether the body may end here.
    pub(crate) fn is_between_frames(&self) -> bool {
        self.chunk.is_empty() && self.partial.is_empty()
    }

    /// The bytes of the next whole frame. `frame_bytes` tells from its first `head_bytes` how long a frame is.
    pub(crate) fn cut(
        &mut self,
        head_bytes: usize,
        frame_bytes: impl Fn(&[u8]) -> Result<Option<usize>, ApiError>,
    ) -> Result<Option<Bytes>, ApiError> {
        if self.partial.is_empty() {
            if let Some(frame_bytes) = frame_bytes(&self.chunk)?
                && frame_bytes <= self.chunk.len()
            {
                return Ok(Some(self.chunk.split_to(frame_bytes)));
            }
            self.gather(usize::MAX);
            return Ok(None);
        }
        self.gather(head_bytes);
        let Some(frame_bytes) = frame_bytes(&self.partial)? else { return Ok(None) };
        // Room grows with what arrives, not with what is announced: a few bytes must not cost 2 MiB.
        self.gather(frame_bytes);
        if self.partial.len() < frame_bytes {
            return Ok(None);
        }
        Ok(Some(std::mem::take(&mut self.partial).freeze()))
    }

    /// Moves bytes of the chunk to `partial` until that has `bytes`, or the chunk is used up.
    fn gather(&mut self, bytes: usize) {
        let missing = bytes.saturating_sub(self.partial.len()).min(self.chunk.len());
        self.partial.extend_from_slice(&self.chunk.split_to(missing));
    }
}
