//! The arithmetic of the report: latencies as a histogram, figures as a median with its spread.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Latencies with three significant digits, from a nanosecond to [`LATENCY_MAX`]; longer ones count as that.
#[derive(Debug, Clone)]
pub(crate) struct Latencies(Histogram<u64>);

impl Latencies {
    pub(crate) fn new() -> Self {
        Self(Histogram::new_with_bounds(1, nanos(LATENCY_MAX), 3).expect("the bounds are valid"))
    }

    pub(crate) fn record(&mut self, latency: Duration) {
        self.0.saturating_record(nanos(latency));
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// `None` when nothing was recorded.
    pub(crate) fn summary(&self) -> Option<LatencySummary> {
        if self.0.is_empty() {
            return None;
        }
        let at = |quantile| micros(self.0.value_at_quantile(quantile));
        Some(LatencySummary {
            count: self.0.len(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: micros(self.0.max()),
        })
    }
}

/// The quantiles we show, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct LatencySummary {
    pub(crate) count: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

/// Median of several repetitions, with the extremes beside it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` when there is no value.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[middle] } else { f64::midpoint(sorted[middle - 1], sorted[middle]) };
        assert!(min <= median && median <= max, "the median lies between the extremes");
        Some(Self { median, min, max })
    }

    /// How far the extremes are apart, as a share of the median: 0.1 means 10 %.
    pub(crate) fn relative(&self) -> f64 {
        if self.median == 0.0 { 0.0 } else { (self.max - self.min) / self.median }
    }
}

/// `numerator / denominator`; `None` when that has no meaning.
pub(crate) fn ratio(numerator: f64, denominator: f64) -> Option<f64> {
    let ratio = numerator / denominator;
    ratio.is_finite().then_some(ratio)
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX).max(1)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1e3
}

/// Longest latency told apart; a request is given up long before.
const LATENCY_MAX: Duration = Duration::from_secs(120);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_odd_count_is_the_middle_and_of_an_even_count_the_mean() {
        assert_eq!(Spread::of([3.0, 1.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 9.0]), Some(Spread { median: 3.0, min: 1.0, max: 9.0 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn the_spread_is_relative_to_the_median() {
        let spread = Spread::of([90.0, 100.0, 110.0]).expect("three values");
        assert!((spread.relative() - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_ratio_to_nothing_is_no_ratio() {
        assert_eq!(ratio(6.0, 3.0), Some(2.0));
        assert_eq!(ratio(6.0, 0.0), None);
        assert_eq!(ratio(0.0, 0.0), None);
    }

    #[test]
    fn quantiles_come_out_within_a_thousandth() {
        let mut latencies = Latencies::new();
        assert_eq!(latencies.summary(), None);
        for us in 1..=1000 {
            latencies.record(Duration::from_micros(us));
        }
        let mut twice = latencies.clone();
        twice.merge(&latencies);
        let summary = twice.summary().expect("recorded");
        assert_eq!(summary.count, 2000);
        for (got, want) in [(summary.p50_us, 500.0), (summary.p99_us, 990.0), (summary.p999_us, 999.0)] {
            assert!((got - want).abs() <= want * 2e-3, "{got} is not {want}");
        }
    }
}
