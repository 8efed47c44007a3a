//! Group commit: which frames share one write and one sync, and what is durable. Decides only; a driver writes.
//!
//! Frames gather in the open extent while earlier ones are on their way to the device. There is no linger: the open
//! extent is sealed as soon as the policy of [`LogWriter::may_seal`] lets it go.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use crate::log::buffer::BufferPool;
use crate::log::extent::{ExtentHeader, OpenExtent};
use crate::log::space::Space;
use crate::log::{Geometry, Lsn};
use crate::mutation::Mutation;

/// Where a log goes on: behind what extent, and in which epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The first free place; of a new log, the place where segment 1 will begin.
    pub end: Lsn,
    /// The last extent; 0 when there is none.
    pub prev_lsn: Lsn,
    /// CRC of its header; 0 when there is none.
    pub prev_header_crc: u32,
    /// The epoch to write in.
    pub epoch: u32,
}

/// An extent on its way to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct InFlight {
    before: LogEnd,
    lsn: Lsn,
    end: Lsn,
    durable: bool,
}

/// An extent to write.
#[derive(Debug)]
pub struct Sealed {
    /// Where.
    pub lsn: Lsn,
    /// What.
    pub bytes: Bytes,
}

/// The writing end of the log.
#[derive(Debug)]
pub struct LogWriter {
    geometry: Geometry,
    pool: Arc<BufferPool>,
    open: OpenExtent,
    at: LogEnd,
    /// In the order of their places.
    in_flight: VecDeque<InFlight>,
    in_flight_max: usize,
    /// An extent of this size is worth a write of its own beside others.
    parallel_bytes_min: usize,
    /// Invariant: everything before it is durable, and `durable_end <= at.end`.
    durable_end: Lsn,
    /// The last extent only says that the one before it is durable.
    end_is_idle: bool,
}

impl LogWriter {
    /// A writer that goes on at `at`. Extents hold up to `extent_bytes_max`.
    #[must_use]
    pub fn new(geometry: Geometry, at: LogEnd, extent_bytes_max: usize, in_flight_max: usize) -> Self {
        // Readers hold on to large extents through the tail cache, so the pool only serves the turnover.
        let pool = BufferPool::new(extent_bytes_max, in_flight_max + 2);
        let open = OpenExtent::new(&pool);
        Self {
            geometry,
            pool,
            open,
            at,
            in_flight: VecDeque::new(),
            in_flight_max,
            parallel_bytes_min: PARALLEL_BYTES_MIN.min(extent_bytes_max),
            durable_end: at.end,
            end_is_idle: false,
        }
    }

    /// The extent that gathers frames.
    pub const fn open(&mut self) -> &mut OpenExtent {
        &mut self.open
    }

    /// Whether a frame with this payload fits beside what the seal itself adds.
    #[must_use]
    pub const fn has_room_for(&self, payload_bytes_max: usize) -> bool {
        self.open.has_room_for(payload_bytes_max + SEAL_BYTES_MAX)
    }

    /// Whether nothing gathers and nothing is on its way.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.open.is_empty() && self.in_flight.is_empty()
    }

    /// Whether the last extent has no frames: it only says that the one before it is durable.
    #[must_use]
    pub const fn end_is_idle(&self) -> bool {
        self.end_is_idle
    }

    /// Whether something gathers.
    #[must_use]
    pub const fn has_frames(&self) -> bool {
        !self.open.is_empty()
    }

    /// Whether the device has room for another extent: always for a first one; beside others only for one that is worth
    /// it, since each write brings a sync and small ones are better shared.
    #[must_use]
    pub fn may_seal(&self) -> bool {
        let in_flight = self.in_flight.len();
        in_flight == 0 || (in_flight < self.in_flight_max && self.open.len() >= self.parallel_bytes_min)
    }

    /// Whether the device has room for one more extent, however small.
    #[must_use]
    pub fn has_slot(&self) -> bool {
        self.in_flight.len() < self.in_flight_max || Mutation::InFlightUnbounded.is_on()
    }

    /// Finds the place of the open extent, if `extra_bytes` more come into it; moves to the next segment when this one
    /// has too little left. `None` when no segment is ready.
    pub fn place(&mut self, space: &mut Space, extra_bytes: usize) -> Option<Lsn> {
        let bytes = (self.open.extent_bytes() + crate::log::round_up(extra_bytes)) as u64;
        let fits = space.current().is_some_and(|segment| self.at.end.0 + bytes <= self.geometry.end(segment).0);
        if !fits {
            self.at.end = self.geometry.start(space.advance()?);
        }
        Some(self.at.end)
    }

    /// Seals the open extent at the place that [`LogWriter::place`] found and puts it on its way.
    ///
    /// # Panics
    /// When there is no slot, or the extent does not fit where it was placed.
    pub fn seal(&mut self, written_ms: u64) -> Sealed {
        assert!(self.has_slot(), "the caller looks at `may_seal` first");
        let header = ExtentHeader {
            epoch: self.at.epoch,
            lsn: self.at.end,
            prev_lsn: self.at.prev_lsn,
            durable_lsn: if Mutation::DurableLsnAhead.is_on() { self.at.end } else { self.durable_lsn() },
            frames_bytes: 0,
            frames_count: 0,
            frames_crc: 0,
            prev_header_crc: self.at.prev_header_crc,
            written_ms,
        };
        self.end_is_idle = self.open.is_empty();
        let open = std::mem::replace(&mut self.open, OpenExtent::new(&self.pool));
        let (bytes, crc) = open.seal(header);
        let end = header.lsn.plus(bytes.len() as u64);
        assert!(end <= self.geometry.end(self.geometry.segment(header.lsn)), "an extent lies within its segment");
        self.in_flight.push_back(InFlight { before: self.at, lsn: header.lsn, end, durable: false });
        self.at = LogEnd { end, prev_lsn: header.lsn, prev_header_crc: crc, epoch: self.at.epoch };
        Sealed { lsn: header.lsn, bytes }
    }

    /// Notes that an extent is durable, in whatever order.
    pub fn durable(&mut self, lsn: Lsn) {
        let extent = self.in_flight.iter_mut().find(|e| e.lsn == lsn).expect("only what was written becomes durable");
        assert!(!extent.durable, "an extent becomes durable once");
        extent.durable = true;
    }

    /// The next extent of the contiguous durable prefix, once.
    pub fn pop_durable(&mut self) -> Option<Lsn> {
        if Mutation::AckNonContiguous.is_on() {
            let at = self.in_flight.iter().position(|e| e.durable)?;
            let extent = self.in_flight.remove(at)?;
            self.durable_end = self.durable_end.max(extent.end);
            return Some(extent.lsn);
        }
        if !self.in_flight.front()?.durable {
            return None;
        }
        let extent = self.in_flight.pop_front()?;
        self.durable_end = if Mutation::DurableLsnBehind.is_on() { self.durable_end } else { extent.end };
        Some(extent.lsn)
    }

    /// Where the contiguous durable prefix ends, as the next extent will say.
    #[must_use]
    pub const fn durable_lsn(&self) -> Lsn {
        self.durable_end
    }

    /// Where recovery has to begin so that it sees all that is not applied yet.
    #[must_use]
    pub fn replay_from(&self) -> LogEnd {
        self.in_flight.front().filter(|_| !Mutation::ReplayTooLate.is_on()).map_or(self.at, |e| e.before)
    }

    /// Bytes that gather or are on their way.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let in_flight: u64 = self.in_flight.iter().map(|e| e.end.0 - e.lsn.0).sum();
        in_flight + self.open.len() as u64
    }

    /// Where the next extent goes, unless it needs another segment.
    #[must_use]
    pub const fn end(&self) -> Lsn {
        self.at.end
    }
}

/// Room that entries and hard states of all groups of a shard need when an extent is sealed.
pub const SEAL_BYTES_MAX: usize = 8 << 10;
/// See [`LogWriter::may_seal`].
const PARALLEL_BYTES_MIN: usize = 256 << 10;
