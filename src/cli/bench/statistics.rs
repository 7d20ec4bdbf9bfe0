//! Percentiles of measured times, exact: every time is kept.

use std::time::Duration;

use serde::Serialize;

/// Measured times, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample(Vec<Duration>);

impl Sample {
    /// Puts the times in order.
    #[must_use]
    pub fn new(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        Self(times)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was measured.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The least time that so many of a hundred did not exceed (nearest rank); zero where nothing
    /// was measured.
    #[must_use]
    pub fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).or(self.0.last()).copied().unwrap_or_default()
    }

    /// Half of them took no longer.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.percentile(50)
    }

    /// What is reported of them.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        let mean = self.0.iter().sum::<Duration>().checked_div(count).unwrap_or_default();
        Summary {
            count,
            min: milliseconds(self.percentile(0)),
            p50: milliseconds(self.percentile(50)),
            p95: milliseconds(self.percentile(95)),
            p99: milliseconds(self.percentile(99)),
            max: milliseconds(self.percentile(100)),
            mean: milliseconds(mean),
        }
    }
}

/// A sample in a few numbers, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many were measured.
    pub count: u32,
    /// The shortest.
    pub min: f64,
    /// The median.
    pub p50: f64,
    /// 95 of a hundred took no longer.
    pub p95: f64,
    /// 99 of a hundred took no longer.
    pub p99: f64,
    /// The longest.
    pub max: f64,
    /// The mean.
    pub mean: f64,
}

/// The median of plain numbers; `None` where there are none.
#[must_use]
pub fn median_of(mut numbers: Vec<f64>) -> Option<f64> {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied()
}

/// A time in milliseconds, exact to the microsecond.
#[must_use]
pub fn milliseconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(times: impl IntoIterator<Item = u64>) -> Sample {
        Sample::new(times.into_iter().map(Duration::from_millis).collect())
    }

    #[test]
    fn percentiles_are_times_that_were_measured() {
        let hundred = sample((1..=100).rev());
        for percent in [1, 50, 95, 99, 100] {
            assert_eq!(hundred.percentile(percent), Duration::from_millis(percent as u64));
        }
        assert_eq!(hundred.percentile(0), Duration::from_millis(1));
        assert_eq!(sample([1, 2, 9]).median(), Duration::from_millis(2));
        assert_eq!(sample([7]).percentile(99), Duration::from_millis(7));
        assert_eq!(sample([1, 2]).percentile(99), Duration::from_millis(2));
    }

    #[test]
    fn nothing_measured_is_no_division_by_zero() {
        assert_eq!(sample([]).summary(), Summary::default());
        assert_eq!(median_of(Vec::new()), None);
    }

    #[test]
    fn a_summary_is_in_milliseconds() {
        let summary = sample([1, 2, 3, 10]).summary();
        assert_eq!((summary.count, summary.min, summary.p50, summary.max, summary.mean), (4, 1.0, 2.0, 10.0, 4.0));
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), 1.235);
    }

    #[test]
    fn the_median_of_numbers_is_one_of_them() {
        assert_eq!(median_of(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median_of(vec![2.0, 1.0]), Some(1.0));
    }
}
