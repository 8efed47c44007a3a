//! The newest extents, kept as they were written, so that followers read what is still in memory.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::log::Lsn;

/// A suffix of the log, at most `bytes_max` of memory. What is older is read from the device.
#[derive(Debug)]
pub struct TailCache {
    /// In order of place, without gaps but for the ends of segments.
    extents: VecDeque<(Lsn, Bytes)>,
    bytes: usize,
    bytes_max: usize,
    /// Memory that an extent really takes, when it keeps a whole buffer of the pool.
    buffer_bytes: usize,
}

impl TailCache {
    /// An empty cache.
    #[must_use]
    pub const fn new(bytes_max: usize, buffer_bytes: usize) -> Self {
        Self { extents: VecDeque::new(), bytes: 0, bytes_max, buffer_bytes }
    }

    fn cost(&self, extent: &Bytes) -> usize {
        if extent.len() > crate::log::extent::COPY_BYTES_MAX {
            self.buffer_bytes
        } else {
            extent.len() + OVERHEAD_BYTES
        }
    }

    /// Adds the newest extent and lets go of the oldest.
    pub fn push(&mut self, lsn: Lsn, extent: Bytes) {
        assert!(self.extents.back().is_none_or(|(last, _)| *last < lsn), "extents come in order");
        self.bytes += self.cost(&extent);
        self.extents.push_back((lsn, extent));
        while self.bytes > self.bytes_max && self.extents.len() > 1 {
            let (_, oldest) = self.extents.pop_front().expect("more than one");
            self.bytes -= self.cost(&oldest);
        }
    }

    /// The extents from the one that holds `lsn` on, with their places; none when it is older than the cache.
    pub fn from(&self, lsn: Lsn) -> impl Iterator<Item = &(Lsn, Bytes)> {
        let behind = self.extents.partition_point(|(start, _)| *start <= lsn);
        self.extents.range(behind.checked_sub(1).unwrap_or(self.extents.len())..)
    }

    /// Whether `lsn` is in it.
    #[must_use]
    pub fn covers(&self, lsn: Lsn) -> bool {
        self.extents.front().is_some_and(|(oldest, _)| *oldest <= lsn)
    }

    /// Memory it takes.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Memory beside the bytes of an extent.
const OVERHEAD_BYTES: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_keeps_the_newest_within_its_bound() {
        let mut cache = TailCache::new(3 * (100 + OVERHEAD_BYTES), 0);
        for place in 1..=5u64 {
            cache.push(Lsn(place * 1000), Bytes::from(vec![0; 100]));
        }
        assert!(!cache.covers(Lsn(2999)));
        assert!(cache.covers(Lsn(3000)));
        assert_eq!(cache.from(Lsn(4050)).map(|(lsn, _)| lsn.0).collect::<Vec<_>>(), [4000, 5000]);
        assert_eq!(cache.from(Lsn(10)).count(), 0);
        assert!(cache.bytes() <= 3 * (100 + OVERHEAD_BYTES));
    }
}
