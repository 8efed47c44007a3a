//! Which segments exist, which hold something that somebody needs, and where the next one comes from.
//!
//! A segment is free when no index entry points into it and recovery would not replay it; free segments are recycled
//! under a new number. Bounded by `segments_max`: when all of them are needed the log is full, appends are refused, and
//! what makes room (trims, deletes, expiry) still finds the reserve.

use std::collections::{BTreeMap, VecDeque};

use crate::log::{Geometry, Lsn, SegmentNo};
use crate::mutation::Mutation;

/// The segments of one log.
#[derive(Debug)]
pub struct Space {
    geometry: Geometry,
    segments_max: u64,
    /// Index entries that point into each segment that exists and was written.
    live: BTreeMap<SegmentNo, u64>,
    /// The one being written.
    current: Option<SegmentNo>,
    /// Prepared and empty, in order.
    ready: VecDeque<SegmentNo>,
    /// Being prepared. One at a time, so that numbers are used in order.
    preparing: Option<SegmentNo>,
    /// The last attempt to prepare one failed; nothing new can be had before this time.
    retry_at_us: Option<u64>,
    /// How many to keep ready; grows when the writer had to wait.
    ahead: usize,
}

/// A segment to prepare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prepare {
    /// Its number.
    pub segment: SegmentNo,
    /// The free segment it is made of.
    pub recycled: Option<SegmentNo>,
}

impl Space {
    /// The space of a log of which `written` segments exist, the last of them current, and `ready` ones behind them.
    #[must_use]
    pub fn new(
        geometry: Geometry,
        segments_max: u64,
        written: impl IntoIterator<Item = SegmentNo>,
        ready: Vec<SegmentNo>,
    ) -> Self {
        let live: BTreeMap<_, _> = written.into_iter().map(|segment| (segment, 0)).collect();
        let current = live.last_key_value().map(|(segment, _)| *segment);
        Self {
            geometry,
            segments_max,
            live,
            current,
            ready: ready.into(),
            preparing: None,
            retry_at_us: None,
            ahead: AHEAD_MIN,
        }
    }

    /// An index entry points at `lsn` now.
    pub fn retain(&mut self, lsn: Lsn) {
        let live = self.live.get_mut(&self.geometry.segment(lsn)).expect("what is indexed was written");
        *live += 1;
    }

    /// An index entry that pointed at `lsn` is gone.
    pub fn release(&mut self, lsn: Lsn) {
        let live = self.live.get_mut(&self.geometry.segment(lsn)).expect("a segment is not recycled while retained");
        *live = live.checked_sub(1).expect("every release has its retain");
    }

    /// Whether the segment exists and was written.
    #[must_use]
    pub fn has(&self, segment: SegmentNo) -> bool {
        self.live.contains_key(&segment)
    }

    /// Takes the next ready segment into use; `None` when none is ready.
    pub fn advance(&mut self) -> Option<SegmentNo> {
        let Some(next) = self.ready.pop_front() else {
            // The writer waits: keep more ready from now on.
            self.ahead = (self.ahead + 1).min(AHEAD_MAX);
            return None;
        };
        assert!(self.current.is_none_or(|c| c < next), "segments are used in the order of their numbers");
        self.live.insert(next, 0);
        self.current = Some(next);
        Some(next)
    }

    /// The segment being written.
    #[must_use]
    pub const fn current(&self) -> Option<SegmentNo> {
        self.current
    }

    fn exist_count(&self) -> u64 {
        (self.live.len() + self.ready.len()) as u64 + u64::from(self.preparing.is_some())
    }

    fn free(&self, replay_from: SegmentNo) -> impl Iterator<Item = SegmentNo> + '_ {
        let current = self.current;
        let replay_from = if Mutation::RecycledReplayed.is_on() { SegmentNo(u64::MAX) } else { replay_from };
        self.live
            .range(..replay_from)
            .filter(move |(s, live)| (**live == 0 || Mutation::RecycledIndexed.is_on()) && Some(**s) != current)
            .map(|(s, _)| *s)
    }

    /// Segments that exist, and those of them that are free.
    #[must_use]
    pub fn counts(&self, replay_from: SegmentNo) -> (u64, u64) {
        (self.exist_count(), (self.free(replay_from).count() + self.ready.len()) as u64)
    }

    /// Whether some segments would be free if recovery began later: reason enough for a checkpoint when space is tight.
    #[must_use]
    pub fn waits_for_checkpoint(&self, replay_from: SegmentNo) -> bool {
        let current = self.current;
        self.live.range(replay_from..).any(|(s, live)| *live == 0 && Some(*s) != current)
    }

    /// The next segment to prepare, if one is wanted and can be had.
    pub fn prepare(&mut self, now_us: u64, replay_from: SegmentNo) -> Option<Prepare> {
        // The failure is forgotten when its time is over, whether another segment is wanted now or not: until then there is
        // no room but what is ready.
        self.retry_at_us = self.retry_at_us.filter(|at| now_us < *at);
        if self.preparing.is_some() || self.ready.len() >= self.ahead || self.retry_at_us.is_some() {
            return None;
        }
        let recycled = self.free(replay_from).next();
        if recycled.is_none() && self.exist_count() >= self.segments_max && !Mutation::SegmentsUnbounded.is_on() {
            return None;
        }
        if let Some(old) = recycled {
            self.live.remove(&old);
        }
        let last = self.ready.back().copied().or(self.current);
        let segment = SegmentNo(last.map_or(1, |s| s.0 + 1));
        self.preparing = Some(segment);
        Some(Prepare { segment, recycled })
    }

    /// A segment was prepared.
    pub fn prepared(&mut self, segment: SegmentNo) {
        assert_eq!(self.preparing.take(), Some(segment), "one segment is prepared at a time");
        self.ready.push_back(segment);
    }

    /// A segment could not be prepared; a recycled one is lost to us until the next start.
    pub fn prepare_failed(&mut self, segment: SegmentNo, now_us: u64) {
        assert_eq!(self.preparing.take(), Some(segment), "one segment is prepared at a time");
        if Mutation::FailedSegmentUsed.is_on() {
            self.ready.push_back(segment);
        }
        self.retry_at_us = Some(now_us + RETRY_US);
    }

    /// When to try to prepare again, after a failure.
    #[must_use]
    pub const fn retry_at_us(&self) -> Option<u64> {
        self.retry_at_us
    }

    /// Bytes that can still be written behind `end`, those that need a new or recycled segment included.
    #[must_use]
    pub fn room_bytes(&self, end: Lsn, replay_from: SegmentNo) -> u64 {
        let in_current = match self.current {
            Some(current) => self.geometry.end(current).0.saturating_sub(end.0),
            None => 0,
        };
        let coming = u64::from(self.preparing.is_some());
        let creatable = match self.retry_at_us {
            None => self.segments_max.saturating_sub(self.exist_count()) + self.free(replay_from).count() as u64,
            Some(_) => 0,
        };
        in_current + (self.ready.len() as u64 + coming + creatable) * self.geometry.segment_bytes
    }
}

/// How many segments are kept ready at least and at most.
const AHEAD_MIN: usize = 2;
const AHEAD_MAX: usize = 8;
/// Pause after a segment could not be prepared.
const RETRY_US: u64 = 1_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    const GEOMETRY: Geometry = Geometry { segment_bytes: 1 << 20 };

    fn ready_all(space: &mut Space, replay_from: u64) -> Vec<Prepare> {
        let mut all = Vec::new();
        while let Some(prepare) = space.prepare(0, SegmentNo(replay_from)) {
            space.prepared(prepare.segment);
            all.push(prepare);
        }
        all
    }

    #[test]
    fn a_segment_is_recycled_only_when_nobody_needs_it() {
        let mut space = Space::new(GEOMETRY, 3, [], vec![]);
        assert_eq!(ready_all(&mut space, 1).len(), 2);
        for _ in 0..2 {
            space.advance().expect("ready");
        }
        space.retain(GEOMETRY.start(SegmentNo(1)));
        assert_eq!(
            ready_all(&mut space, 3).iter().map(|p| p.recycled).collect::<Vec<_>>(),
            [None],
            "the third and last"
        );
        assert_eq!(space.prepare(0, SegmentNo(3)), None, "segment 1 is retained, 2 is current, 3 is ready");
        space.release(GEOMETRY.start(SegmentNo(1)));
        assert_eq!(space.prepare(0, SegmentNo(1)), None, "recovery would replay segment 1");
        let expected = Prepare { segment: SegmentNo(4), recycled: Some(SegmentNo(1)) };
        assert_eq!(space.prepare(0, SegmentNo(2)), Some(expected));
    }

    #[test]
    fn a_failure_means_no_room_until_the_next_try() {
        let mut space = Space::new(GEOMETRY, 10, [SegmentNo(1)], vec![]);
        let end = GEOMETRY.start(SegmentNo(1));
        assert!(space.room_bytes(end, SegmentNo(1)) > 8 << 20);
        let prepare = space.prepare(0, SegmentNo(1)).expect("wanted");
        space.prepare_failed(prepare.segment, 0);
        assert!(space.room_bytes(end, SegmentNo(1)) < 1 << 20);
        assert_eq!(space.prepare(RETRY_US - 1, SegmentNo(1)), None);
        assert_eq!(
            space.prepare(RETRY_US, SegmentNo(1)).map(|p| p.segment),
            Some(SegmentNo(2)),
            "the same number again"
        );
    }
}
