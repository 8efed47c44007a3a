//! Randomness out of the seed: the one source of chance in a run.

/// A stream of random numbers; the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng(fastrand::Rng);

impl Rng {
    /// The stream of this seed.
    #[must_use]
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A number below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.u64(..bound)
    }

    /// A position in something of this length, which is not 0.
    pub(crate) fn at(&mut self, len: usize) -> usize {
        self.0.usize(..len)
    }

    /// A number from `low` to `high`, both included.
    pub(crate) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.u64(low..=high)
    }

    /// True in `percent` of a hundred cases.
    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    /// True once in `cases` on average.
    pub(crate) fn one_in(&mut self, cases: u64) -> bool {
        self.below(cases) == 0
    }

    /// One of them.
    pub(crate) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.at(of.len())]
    }

    /// A time until something that happens every `mean_us` on average, at least 1, at most eight times that.
    pub(crate) fn after(&mut self, mean_us: u64) -> u64 {
        // Integer steps only, so that every machine counts the same: a geometric series of halves.
        let halves = u64::from(self.0.u64(..).leading_zeros().min(7));
        let within = self.below(mean_us.max(1)) + 1;
        mean_us * halves / 2 + within / 2 + 1
    }

    /// A position in something of length `len`, the first far more likely than the last when `skew` is large.
    pub(crate) fn skewed(&mut self, len: usize, skew: u32) -> usize {
        (0..=skew).map(|_| self.at(len)).min().unwrap_or(0)
    }
}
