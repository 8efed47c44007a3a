//! The clock of a node: one origin for all its threads, so that a front's arrival time and a shard's deadline compare.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::event::Now;

/// Reads the time. Copies of one clock agree.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that begins now, at zero microseconds.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Microseconds since the start.
    #[must_use]
    pub fn mono_us(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).expect("half a million years of uptime")
    }

    /// Both times.
    #[must_use]
    pub fn now(&self) -> Now {
        // A clock set before 1970 reads as 1970: timestamps are then wrong, but nothing else is.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let wall_ms = u64::try_from(wall.as_millis()).expect("half a billion years from 1970");
        Now { mono_us: self.mono_us(), wall_ms }
    }
}
