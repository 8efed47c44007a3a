//! Bytes on their way out, in pieces: what is small is copied together, what is large goes as it is.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

/// Parts below this are copied into one buffer: cheaper than a piece of their own.
const SMALL_BYTES_MAX: usize = 4096;
/// A piece is at most this large, so that a slow client shows progress.
const PIECE_BYTES_MAX: usize = 256 << 10;

/// A queue of bytes.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    closed: VecDeque<Bytes>,
    open: BytesMut,
    len: usize,
}

impl Pieces {
    /// Adds a copy of `bytes`.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        self.len += bytes.len();
        if self.open.len() >= PIECE_BYTES_MAX {
            self.close();
        }
    }

    /// Adds `bytes`, without a copy if they are large.
    pub(crate) fn put(&mut self, mut bytes: Bytes) {
        if bytes.len() < SMALL_BYTES_MAX {
            self.copy(&bytes);
            return;
        }
        self.close();
        self.len += bytes.len();
        while bytes.len() > PIECE_BYTES_MAX {
            self.closed.push_back(bytes.split_to(PIECE_BYTES_MAX));
        }
        self.closed.push_back(bytes);
    }

    /// Bytes in the queue.
    #[must_use]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// The next piece.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        if self.closed.is_empty() {
            self.close();
        }
        let piece = self.closed.pop_front()?;
        self.len -= piece.len();
        Some(piece)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.closed.push_back(self.open.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_parts_travel_together_and_large_ones_alone() {
        let mut pieces = Pieces::default();
        pieces.copy(b"head");
        pieces.put(Bytes::from_static(b"small"));
        pieces.put(Bytes::from(vec![1; PIECE_BYTES_MAX + 10]));
        pieces.copy(b"tail");
        assert_eq!(pieces.len(), 9 + PIECE_BYTES_MAX + 10 + 4);
        let lens: Vec<_> = std::iter::from_fn(|| pieces.pop()).map(|p| p.len()).collect();
        assert_eq!(lens, [9, PIECE_BYTES_MAX, 10, 4]);
        assert_eq!(pieces.len(), 0);
    }
}
