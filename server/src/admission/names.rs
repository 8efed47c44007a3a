//! What the names of one kind (tokens, basins or streams) have used of their limits, for all fronts.
//!
//! Bounded: at [`NAMES_MAX`] names per part those whose buckets are full again are forgotten, which changes nothing for them.
//! When none is, further names share one bucket until there is room: they are limited together, never not at all. Names
//! with open sessions are as many as the sessions, which the fronts bound (`sessions-max`).
//!
//! Names are kept as 64-bit hashes with a secret key: that any two of as many names share a bucket is one in 10^9.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::bucket::{Bucket, Rate};
use super::setting::NameLimits;
use super::{Kind, Turn};

/// The names of one kind, in parts with a lock each.
pub(crate) struct Names {
    rates: Rates,
    sessions_max: Option<u64>,
    parts: [Mutex<Part>; PARTS_COUNT],
}

/// The rates that each name of a kind has.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rates {
    appends: Option<Rate>,
    bytes: Option<Rate>,
}

/// Some of the names.
#[derive(Default)]
pub(crate) struct Part {
    used: HashMap<u64, Used>,
    /// For names that found no room.
    shared: Used,
    /// When it is worthwhile to look for full buckets again.
    sweep_at_ns: u64,
    sessions: HashMap<u64, u64>,
}

/// What a name has used.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Used {
    appends: Bucket,
    bytes: Bucket,
    /// When the last of those who wait in line tries again.
    line_ns: u64,
}

impl Names {
    /// Names that have used nothing. `None` when nothing is limited.
    #[must_use]
    pub(crate) fn new(limits: &NameLimits) -> Option<Self> {
        let rates = Rates { appends: limits.appends(), bytes: limits.bytes() };
        let parts = std::array::from_fn(|_| Mutex::default());
        (!limits.is_off()).then(|| Self { rates, sessions_max: limits.sessions(), parts })
    }

    /// The part that a name is in. Held for a decision, never across a wait.
    pub(crate) fn lock(&self, key: u64) -> MutexGuard<'_, Part> {
        self.parts[usize::from(key.to_le_bytes()[0]) % PARTS_COUNT].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What each name may do.
    #[must_use]
    pub(crate) const fn rates(&self) -> Rates {
        self.rates
    }

    /// Counts a session; refused with the most that may be open.
    pub(crate) fn enter(&self, key: u64) -> Result<(), u64> {
        let Some(max) = self.sessions_max else { return Ok(()) };
        let mut part = self.lock(key);
        let open = part.sessions.get(&key).copied().unwrap_or(0);
        if open >= max {
            return Err(max);
        }
        part.sessions.insert(key, open + 1);
        Ok(())
    }

    /// A session that was counted is over.
    pub(crate) fn leave(&self, key: u64) {
        if self.sessions_max.is_none() {
            return;
        }
        let mut part = self.lock(key);
        let open = part.sessions.remove(&key).expect("a session that leaves has entered");
        if open > 1 {
            part.sessions.insert(key, open - 1);
        }
    }
}

impl Rates {
    /// The most of a kind per second; sessions have no rate.
    #[must_use]
    pub(crate) fn most(self, kind: Kind) -> u64 {
        match kind {
            Kind::Appends => self.appends.map_or(0, Rate::per_second),
            Kind::Bytes => self.bytes.map_or(0, Rate::per_second),
            Kind::Sessions => 0,
        }
    }
}

impl Part {
    /// What a name has used: its own, or what is shared by those who find no room.
    pub(crate) fn used(&mut self, key: u64, rates: Rates, now_ns: u64) -> &mut Used {
        if !self.used.contains_key(&key) && self.used.len() >= NAMES_MAX {
            if now_ns >= self.sweep_at_ns {
                self.used.retain(|_, used| !used.is_idle(rates, now_ns));
                self.sweep_at_ns = now_ns + SWEEP_NS;
            }
            if self.used.len() >= NAMES_MAX {
                return &mut self.shared;
            }
        }
        self.used.entry(key).or_default()
    }
}

impl Used {
    /// What a batch has to wait for, and how long; nothing when it is admitted now.
    pub(crate) fn wait(&self, rates: Rates, now_ns: u64) -> Option<(Kind, u64)> {
        let wait = |rate: Option<Rate>, bucket: Bucket| rate.map_or(0, |rate| bucket.wait_ns(rate, now_ns));
        let (appends, bytes) = (wait(rates.appends, self.appends), wait(rates.bytes, self.bytes));
        match (appends, bytes) {
            (0, 0) => None,
            (appends, bytes) if appends >= bytes => Some((Kind::Appends, appends)),
            (_, bytes) => Some((Kind::Bytes, bytes)),
        }
    }

    /// Takes a batch that need not wait.
    pub(crate) fn take(&mut self, rates: Rates, now_ns: u64, bytes: u64) {
        if let Some(rate) = rates.appends {
            self.appends.take(rate, now_ns, 1);
        }
        if let Some(rate) = rates.bytes {
            self.bytes.take(rate, now_ns, bytes);
        }
    }

    /// When a batch that has to wait for `wait_ns` should try again. Whoever is in line gets a time of its own, as far
    /// behind the one before it as a batch takes: so a thousand sessions that wait do not all try at each chance of one.
    /// The line is only an order of trying. Nothing is taken in advance, so it cannot admit too much.
    pub(crate) fn try_again_ns(&mut self, rates: Rates, now_ns: u64, turn: Turn, (wait_ns, bytes): (u64, u64)) -> u64 {
        match turn {
            Turn::Once => wait_ns,
            Turn::InLine => {
                let append = rates.appends.map_or(0, |rate| rate.time_of_ns(1));
                let batch = rates.bytes.map_or(0, |rate| rate.time_of_ns(bytes));
                let at = self.line_ns.max(now_ns.saturating_add(wait_ns)).min(now_ns + LINE_NS_MAX);
                self.line_ns = at.saturating_add(append.max(batch));
                at - now_ns
            }
        }
    }

    fn is_idle(&self, rates: Rates, now_ns: u64) -> bool {
        let is_full = |rate: Option<Rate>, bucket: Bucket| rate.is_none_or(|rate| bucket.is_full(rate, now_ns));
        is_full(rates.appends, self.appends) && is_full(rates.bytes, self.bytes) && self.line_ns <= now_ns
    }
}

/// Parts of a kind: fronts rarely want the same one at once.
const PARTS_COUNT: usize = 16;
/// Names of one part that are kept; see above for what happens then. All in all 65,536 of a kind, in 9 MiB.
const NAMES_MAX: usize = 4096;
/// A part that is full of busy names is not searched more often than this.
const SWEEP_NS: u64 = 10_000_000;
/// Whoever is in line tries at least this often: those before it may have left.
const LINE_NS_MAX: u64 = 10_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(text: &str) -> Rates {
        Names::new(&text.parse().expect("limits")).expect("something is limited").rates()
    }

    fn admit(part: &mut Part, key: u64, rates: Rates, now_ns: u64) -> bool {
        let used = part.used(key, rates, now_ns);
        let admitted = used.wait(rates, now_ns).is_none();
        if admitted {
            used.take(rates, now_ns, 100);
        }
        admitted
    }

    #[test]
    fn busy_names_beyond_the_most_share_one_bucket_and_idle_ones_make_room() {
        let rates = rates("appends-per-second=1");
        let mut part = Part::default();
        for key in 0..NAMES_MAX as u64 {
            assert!(admit(&mut part, key, rates, 0));
        }
        // They are limited together, and the others as before.
        assert!(admit(&mut part, 10_000, rates, 0));
        assert!(!admit(&mut part, 10_001, rates, 0));
        assert!(!admit(&mut part, 7, rates, 0));
        assert_eq!(part.used.len(), NAMES_MAX);
        // A second later all buckets are full, so the names are forgotten.
        assert!(admit(&mut part, 10_001, rates, 1_000_000_000));
        assert!(admit(&mut part, 10_000, rates, 1_000_000_000));
        assert_eq!(part.used.len(), 2);
    }

    #[test]
    fn whoever_waits_in_line_gets_a_time_of_its_own_and_not_later_than_the_most() {
        let rates = rates("appends-per-second=10, bytes-per-second=1000, burst-ms=1");
        let mut used = Used::default();
        used.take(rates, 0, 200);
        let (kind, wait) = used.wait(rates, 0).expect("it is empty");
        assert_eq!((kind, wait), (Kind::Bytes, 200_000_000));
        let mut again = |turn| used.try_again_ns(rates, 0, turn, (wait, 300)) / 1_000_000;
        assert_eq!([again(Turn::Once), again(Turn::Once)], [200, 200]);
        assert_eq!([again(Turn::InLine), again(Turn::InLine), again(Turn::InLine)], [200, 500, 800]);
        for _ in 0..100 {
            again(Turn::InLine);
        }
        assert_eq!(again(Turn::InLine), 10_000);
    }

    #[test]
    fn sessions_are_counted_and_forgotten() {
        let names = Names::new(&"sessions=2".parse().expect("limits")).expect("something is limited");
        assert_eq!([names.enter(1), names.enter(1), names.enter(1), names.enter(17)], [Ok(()), Ok(()), Err(2), Ok(())]);
        names.leave(1);
        assert_eq!(names.enter(1), Ok(()));
        for key in [1, 1, 17] {
            names.leave(key);
        }
        assert!(names.lock(1).sessions.is_empty());
    }
}
