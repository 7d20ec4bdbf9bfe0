//! When requests are sent: by clients that wait for their answers, or by a clock that does not.

use std::time::Duration;

/// Who decides when a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A client sends the next request when the last is answered
    Closed,
    /// Requests are sent by a clock, answered or not; times count from when each was due
    Open,
}

/// How requests come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// One after another: each client as soon as it is answered; with --mode open, evenly spaced
    Sequential,
    /// As sequential, but clients begin one behind the other; with --mode open, at random times
    Staggered,
    /// All clients at once, and again when all are answered; with --mode open, as often as the rate says
    Burst,
}

impl Mode {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

impl Shape {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Sequential => "sequential",
            Self::Staggered => "staggered",
            Self::Burst => "burst",
        }
    }
}

/// When each request of an open loop is due, from the beginning; so many a second on average.
#[must_use]
pub fn due_times(shape: Shape, rate: f64, clients: usize, requests: usize) -> Vec<Duration> {
    let gap = 1.0 / rate;
    let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
    let mut at = 0.0;
    let mut times = Vec::with_capacity(requests);
    for index in 0..requests {
        times.push(Duration::from_secs_f64(at));
        at += match shape {
            Shape::Sequential => gap,
            // Gaps between events that know nothing of each other.
            Shape::Staggered => -gap * chance.next().ln(),
            Shape::Burst if (index + 1) % clients == 0 => gap * f64::from(u32::try_from(clients).unwrap_or(u32::MAX)),
            Shape::Burst => 0.0,
        };
    }
    times
}

/// The same numbers in every run, so that each side meets the same requests (xorshift).
struct Chance(u64);

impl Chance {
    /// Above 0, at most 1.
    fn next(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let bits = u32::try_from(self.0 >> 32).unwrap_or(u32::MAX);
        (f64::from(bits) + 1.0) / (f64::from(u32::MAX) + 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(times: &[Duration]) -> Vec<u128> {
        times.iter().map(Duration::as_millis).collect()
    }

    #[test]
    fn one_after_another_is_evenly_spaced() {
        assert_eq!(milliseconds(&due_times(Shape::Sequential, 100.0, 4, 4)), [0, 10, 20, 30]);
    }

    #[test]
    fn a_burst_is_as_large_as_there_are_clients_and_keeps_the_rate() {
        assert_eq!(milliseconds(&due_times(Shape::Burst, 100.0, 3, 7)), [0, 0, 0, 30, 30, 30, 60]);
    }

    #[test]
    fn random_times_keep_order_and_rate_and_are_the_same_again() {
        let times = due_times(Shape::Staggered, 1000.0, 1, 20_000);
        assert!(times.is_sorted());
        let last = times.last().unwrap().as_secs_f64();
        assert!((19.0..21.0).contains(&last), "20 000 requests at 1000 a second took {last} s");
        let gaps: Vec<_> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let long = gaps.iter().filter(|gap| **gap > Duration::from_millis(1)).count();
        assert!((7000..7700).contains(&long), "of exponential gaps 37 % exceed the mean, here {long} of 19 999");
        assert_eq!(times, due_times(Shape::Staggered, 1000.0, 1, 20_000));
    }
}
