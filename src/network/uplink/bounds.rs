//! How many connections there may be, how many bytes they carry in all, and how fast.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::profile::AllowList;

/// Most connections at one time where the policy names no number.
const CONNECTIONS: u32 = 256;
/// Most connections at one time whatever the policy says: each takes up to six descriptors.
pub(super) const MOST_CONNECTIONS: u32 = 1024;
/// Most bytes that are moved at one time.
pub(super) const CHUNK: usize = 256 << 10;
/// Fewest bytes that are worth moving while others must wait: one byte each time would be all system calls.
const LEAST: u64 = 16 << 10;
/// What timers can tell apart.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);
/// How much of a second's bytes may come in one burst, as a divisor.
const BURSTS_PER_SECOND: u64 = 8;

/// What has been used of what is allowed.
#[derive(Debug)]
pub(super) struct Bounds {
    connections: Cell<u32>,
    most_connections: Cell<u32>,
    bytes: Cell<u64>,
    most_bytes: Cell<u64>,
    rate: Cell<Option<u64>>,
    /// Bytes that may be moved at once; grows with time, up to a burst.
    level: Cell<u64>,
    filled: Cell<Instant>,
}

/// What may be moved now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leave {
    /// At most so many bytes, and at least one.
    Bytes(usize),
    /// None before that long has passed.
    After(Duration),
    /// None any more.
    Never,
}

/// One of the connections, for as long as it is held.
#[derive(Debug)]
pub(super) struct Ticket(Rc<Bounds>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.connections.update(|connections| connections - 1);
    }
}

impl Bounds {
    pub(super) fn new(policy: &AllowList) -> Self {
        let bounds = Self {
            connections: Cell::new(0),
            most_connections: Cell::new(0),
            bytes: Cell::new(0),
            most_bytes: Cell::new(0),
            rate: Cell::new(None),
            level: Cell::new(0),
            filled: Cell::new(Instant::now()),
        };
        bounds.replace(policy);
        bounds.level.set(bounds.burst());
        bounds
    }

    /// Other bounds from now on. What was used counts on.
    pub(super) fn replace(&self, policy: &AllowList) {
        self.most_connections.set(policy.connections.unwrap_or(CONNECTIONS).min(MOST_CONNECTIONS));
        self.most_bytes.set(policy.bytes.unwrap_or(u64::MAX));
        self.rate.set(policy.bytes_per_second.map(|rate| rate.max(1)));
    }

    /// One more connection, if there may be one.
    pub(super) fn admit(self: &Rc<Self>) -> Option<Ticket> {
        if self.connections.get() >= self.most_connections.get() {
            return None;
        }
        self.connections.update(|connections| connections + 1);
        Some(Ticket(Rc::clone(self)))
    }

    /// What may be moved now.
    pub(super) fn leave(&self) -> Leave {
        self.leave_at(Instant::now())
    }

    fn leave_at(&self, now: Instant) -> Leave {
        let rest = self.most_bytes.get().saturating_sub(self.bytes.get());
        if rest == 0 {
            return Leave::Never;
        }
        let Some(rate) = self.rate.get() else { return Leave::Bytes(bounded(rest)) };
        self.fill(rate, now);
        let (level, least) = (self.level.get(), LEAST.min(self.burst()).min(rest));
        if level >= least {
            return Leave::Bytes(bounded(level.min(rest)));
        }
        let nanoseconds = u128::from(least - level) * 1_000_000_000 / u128::from(rate);
        Leave::After(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)).max(SHORTEST_PAUSE))
    }

    /// Waits until bytes may be moved; `None` where none may any more. Whether it was held back, too.
    pub(super) async fn allowance(&self) -> Option<(usize, bool)> {
        let mut waited = false;
        loop {
            match self.leave() {
                Leave::Bytes(most) => return Some((most, waited)),
                Leave::Never => return None,
                Leave::After(time) => sleep(time).await,
            }
            waited = true;
        }
    }

    /// Counts what was moved.
    pub(super) fn spend(&self, moved: usize) {
        self.bytes.update(|bytes| bytes.saturating_add(moved as u64));
        self.level.update(|level| level.saturating_sub(moved as u64));
    }

    fn fill(&self, rate: u64, now: Instant) {
        let passed = now.duration_since(self.filled.get()).as_nanos();
        let gained = u64::try_from(passed * u128::from(rate) / 1_000_000_000).unwrap_or(u64::MAX);
        // Where nothing was gained yet, the time that has passed still counts.
        if gained > 0 {
            self.level.set(self.level.get().saturating_add(gained).min(self.burst()));
            self.filled.set(now);
        }
    }

    fn burst(&self) -> u64 {
        self.rate.get().map_or(0, |rate| (rate / BURSTS_PER_SECOND).max(1))
    }
}

fn bounded(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(CHUNK).min(CHUNK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_while_they_are_held() {
        let bounds = Rc::new(Bounds::new(&AllowList { connections: Some(2), ..AllowList::default() }));
        let (first, second) = (bounds.admit().unwrap(), bounds.admit().unwrap());
        assert!(bounds.admit().is_none());
        drop(first);
        assert!(bounds.admit().is_some());
        drop(second);
        let many = Rc::new(Bounds::new(&AllowList { connections: Some(u32::MAX), ..AllowList::default() }));
        let held: Vec<_> = std::iter::from_fn(|| many.admit()).collect();
        assert_eq!(held.len(), MOST_CONNECTIONS as usize);
    }

    #[test]
    fn no_more_bytes_in_all_than_allowed_also_after_a_replacement() {
        let policy = AllowList { bytes: Some(100), ..AllowList::default() };
        let bounds = Bounds::new(&policy);
        assert_eq!(bounds.leave(), Leave::Bytes(100));
        bounds.spend(60);
        assert_eq!(bounds.leave(), Leave::Bytes(40));
        bounds.spend(40);
        assert_eq!(bounds.leave(), Leave::Never);
        bounds.replace(&policy);
        assert_eq!(bounds.leave(), Leave::Never);
        bounds.replace(&AllowList { bytes: Some(101), ..AllowList::default() });
        assert_eq!(bounds.leave(), Leave::Bytes(1));
    }

    #[test]
    fn bytes_a_second_are_kept_to_whatever_the_chunks() {
        for rate in [1, 1000, 1_000_000, 10_000_000_000] {
            let bounds = Bounds::new(&AllowList { bytes_per_second: Some(rate), ..AllowList::default() });
            let start = bounds.filled.get();
            let (mut now, mut moved) = (start, 0u64);
            while now - start < Duration::from_secs(10) {
                match bounds.leave_at(now) {
                    Leave::Bytes(most) => {
                        bounds.spend(most);
                        moved += most as u64;
                    }
                    Leave::After(time) => now += time,
                    Leave::Never => unreachable!(),
                }
            }
            assert!(moved <= rate * 10 + rate / 4 + 2, "{moved} at {rate}");
            assert!(moved >= rate * 8, "{moved} at {rate}");
        }
    }
}
