//! A token bucket, as arithmetic alone: time is an argument, and nothing is rounded.
//!
//! Promises, for a rate of `r` units per second and a burst of `b`:
//! - In any time `t` it admits at most `b + r * t` units and what the last batch had beyond one unit. For appends, which
//!   are one unit each, that is `b + r * t` and no more.
//! - Whatever the size of a batch, it is admitted once the bucket has one unit; the rest is a debt that later batches wait
//!   for. So a batch larger than the burst passes, and a large one gets through beside small ones: both wait for the same.

/// How much per second, and how much at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// Units per second. Invariant: at least 1.
    per_second: u64,
    /// What a bucket holds that nothing was taken from for long. Invariant: at least 1.
    burst: u64,
}

/// What was taken from a bucket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Bucket {
    /// The bucket is full once `now * per_second` has reached this: in units times nanoseconds per second, so that every
    /// whole unit and nanosecond is a whole number. At 2^40 units per second, a century needs 102 of the 128 bits.
    full_at: u128,
}

impl Rate {
    /// `per_second` units, and of these what comes in `burst_ms` at once, but never less than one.
    #[must_use]
    pub(crate) fn new(per_second: u64, burst_ms: u64) -> Self {
        assert!(per_second > 0, "a limit that is off has no rate");
        let burst = u128::from(per_second) * u128::from(burst_ms) / 1000;
        Self { per_second, burst: u64::try_from(burst).unwrap_or(u64::MAX).max(1) }
    }

    /// Units per second.
    #[must_use]
    pub(crate) const fn per_second(self) -> u64 {
        self.per_second
    }

    /// How long `units` take to flow in, in nanoseconds.
    #[must_use]
    pub(crate) fn time_of_ns(self, units: u64) -> u64 {
        (u128::from(units) * SECOND_NS).div_ceil(self.per_second.into()).try_into().unwrap_or(u64::MAX)
    }

    fn position(self, now_ns: u64) -> u128 {
        u128::from(now_ns) * u128::from(self.per_second)
    }
}

impl Bucket {
    /// How long until a batch is admitted, if nobody else takes anything: 0 when it is now.
    #[must_use]
    pub(crate) fn wait_ns(self, rate: Rate, now_ns: u64) -> u64 {
        let needed = self.full_at + SECOND_NS;
        let there = rate.position(now_ns) + u128::from(rate.burst) * SECOND_NS;
        needed.saturating_sub(there).div_ceil(rate.per_second.into()).try_into().unwrap_or(u64::MAX)
    }

    /// Takes a batch that need not wait.
    pub(crate) fn take(&mut self, rate: Rate, now_ns: u64, units: u64) {
        assert_eq!(self.wait_ns(rate, now_ns), 0, "a batch is taken when it is admitted");
        self.full_at = self.full_at.max(rate.position(now_ns)) + u128::from(units) * SECOND_NS;
    }

    /// Whether it is as if nothing had ever been taken.
    #[must_use]
    pub(crate) fn is_full(self, rate: Rate, now_ns: u64) -> bool {
        self.full_at <= rate.position(now_ns)
    }
}

const SECOND_NS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_at_a_time() {
        for (per_second, burst_ms, burst) in [(1, 1000, 1), (3, 1000, 3), (200, 1000, 200), (10, 50, 1), (7, 2000, 14)]
        {
            let rate = Rate::new(per_second, burst_ms);
            let (mut bucket, now) = (Bucket::default(), 5 * SECOND);
            for _ in 0..burst {
                assert_eq!(bucket.wait_ns(rate, now), 0, "{rate:?}");
                bucket.take(rate, now, 1);
            }
            let wait = bucket.wait_ns(rate, now);
            assert_eq!(wait, SECOND.div_ceil(per_second), "{rate:?}");
            assert_ne!(bucket.wait_ns(rate, now + wait - 1), 0, "{rate:?}");
            assert_eq!(bucket.wait_ns(rate, now + wait), 0, "{rate:?}");
        }
    }

    #[test]
    fn a_batch_beyond_the_burst_passes_and_the_next_waits_for_its_debt() {
        let rate = Rate::new(1000, 100);
        let mut bucket = Bucket::default();
        bucket.take(rate, 0, 5000);
        // 100 were there: 4900 are owed, and one more unit is needed.
        assert_eq!(bucket.wait_ns(rate, 0), 4_901_000_000);
        assert!(!bucket.is_full(rate, 4_999_999_999) && bucket.is_full(rate, 5_000_000_000));
    }

    #[test]
    fn a_clock_that_another_thread_has_read_earlier_gives_nothing_back() {
        let rate = Rate::new(10, 1000);
        let mut bucket = Bucket::default();
        bucket.take(rate, 9 * SECOND, 10);
        assert_ne!(bucket.wait_ns(rate, 8 * SECOND), 0);
        assert_ne!(bucket.wait_ns(rate, 9 * SECOND), 0);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_rate_and_burst_and_one_batch(
            per_second in 1u64..5_000,
            burst_ms in 1u64..5_000,
            tries in prop::collection::vec((0u64..300_000_000, 1u64..3_000), 1..120),
        ) {
            let rate = Rate::new(per_second, burst_ms);
            let (mut bucket, mut now) = (Bucket::default(), 0);
            let mut admitted: Vec<(u64, u64)> = Vec::new();
            for (later, units) in tries {
                now += later;
                if bucket.wait_ns(rate, now) == 0 {
                    bucket.take(rate, now, units);
                    admitted.push((now, units));
                }
            }
            for (first, (from, _)) in admitted.iter().enumerate() {
                let mut sum = 0;
                for (at, units) in &admitted[first..] {
                    // Before the last batch there was at least one unit left.
                    let most = u128::from(rate.burst) * SECOND_NS + u128::from(at - from) * u128::from(per_second);
                    prop_assert!((u128::from(sum) + 1) * SECOND_NS <= most);
                    sum += units;
                }
            }
        }

        #[test]
        fn whoever_waits_as_told_is_admitted(
            per_second in 1u64..(1 << 40),
            burst_ms in 1u64..3_600_000,
            batches in prop::collection::vec(1u64..(1 << 21), 1..60),
        ) {
            let rate = Rate::new(per_second, burst_ms);
            let (mut bucket, mut now) = (Bucket::default(), 0u64);
            for units in batches {
                let wait = bucket.wait_ns(rate, now);
                if wait > 0 {
                    prop_assert_ne!(bucket.wait_ns(rate, now + wait - 1), 0, "not told to wait longer than needed");
                }
                now += wait;
                bucket.take(rate, now, units);
            }
            prop_assert!(bucket.is_full(rate, now + rate.time_of_ns(rate.burst) + rate.time_of_ns(60 << 21)));
        }
    }
}
