//! How many sandboxes wait, and for what: pure bookkeeping, which looks at no clock and no kernel.
//!
//! Every request tells what is in demand. For each kind of sandbox as many wait as are likely to be
//! asked for before new ones can be ready: arrivals for each second, times the seconds that making one
//! takes, twice, and one. What nobody has asked for in a while is let go, and nothing waits where memory
//! is short.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::config::Pool as Bounds;

/// What is told apart: a sandbox that waits fits those requests alone that have the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    /// Id of the runtime.
    pub(super) runtime: String,
    /// Name of the profile.
    pub(super) profile: String,
    /// Whether its interpreter has started.
    pub(super) warm: bool,
}

/// How fast the average of arrivals forgets.
const MEMORY: Duration = Duration::from_secs(10);
/// What a parked sandbox takes, until one was measured, in bytes.
const PARKED_BYTES: u64 = 300 << 10;
/// The same of a warm one.
const WARM_BYTES: u64 = 16 << 20;
/// What making one takes, until that was measured.
const PARKED_COST: Duration = Duration::from_millis(3);
const WARM_COST: Duration = Duration::from_millis(50);
/// Sandboxes of one kind that may fail one after another, before no more are made for a while.
const FAILURES: u32 = 8;
/// That while.
const PAUSE: Duration = Duration::from_secs(60);

/// What is known of one kind.
#[derive(Debug)]
struct Kind {
    /// Serial numbers of those that are ready, the oldest first.
    ready: VecDeque<u64>,
    /// Of those that are being made.
    making: Vec<u64>,
    /// Arrivals a second, averaged, as of `asked`.
    rate: f64,
    asked: Option<Instant>,
    /// Averages of what was measured.
    cost: Duration,
    bytes: u64,
    failures: u32,
    paused_until: Option<Instant>,
    /// Whether it is the kind that a floor means: of a runtime that waits warm, the warm one alone.
    has_floor: bool,
}

impl Kind {
    fn new(key: &Key) -> Self {
        Self {
            ready: VecDeque::new(),
            making: Vec::new(),
            rate: 0.0,
            asked: None,
            cost: if key.warm { WARM_COST } else { PARKED_COST },
            bytes: if key.warm { WARM_BYTES } else { PARKED_BYTES },
            failures: 0,
            paused_until: None,
            has_floor: false,
        }
    }

    fn count(&self) -> usize {
        self.ready.len() + self.making.len()
    }

    fn failed(&mut self, now: Instant) {
        self.failures += 1;
        if self.failures >= FAILURES {
            self.failures = 0;
            self.paused_until = Some(now + PAUSE);
        }
    }

    fn rate_at(&self, now: Instant) -> f64 {
        let age = self.asked.map_or(Duration::MAX, |asked| now.saturating_duration_since(asked));
        self.rate * (-age.as_secs_f64() / MEMORY.as_secs_f64()).exp()
    }

    /// How many should be there.
    fn target(&self, key: &Key, bounds: &Bounds, now: Instant) -> usize {
        let floor = if self.has_floor { bounds.floor_of(&key.runtime, &key.profile) } else { 0 };
        let ceiling = bounds.ceiling_of(key.runtime.as_str());
        let is_used = self.asked.is_some_and(|asked| now.saturating_duration_since(asked) < bounds.idle());
        if self.paused_until.is_some_and(|until| now < until) {
            return 0;
        }
        // Seconds of work that come in each second, twice; rounded.
        let work = self.cost.mul_f64((2.0 * self.rate_at(now)).min(1e6)) + Duration::from_millis(500);
        let wanted = usize::try_from(work.as_secs()).unwrap_or(usize::MAX - 1);
        let wanted = if is_used { wanted + 1 } else { 0 };
        wanted.max(floor).min(ceiling)
    }
}

/// Everything that waits or is being made to.
#[derive(Debug)]
pub(super) struct Pool {
    bounds: Bounds,
    kinds: HashMap<Key, Kind>,
    /// No more are made before this.
    held_until: Option<Instant>,
}

impl Pool {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self { bounds, kinds: HashMap::new(), held_until: None }
    }

    pub(super) fn bounds(&self) -> &Bounds {
        &self.bounds
    }

    fn kind(&mut self, key: &Key) -> &mut Kind {
        self.kinds.entry(key.clone()).or_insert_with(|| Kind::new(key))
    }

    /// One is asked for.
    pub(super) fn asked(&mut self, key: &Key, now: Instant) {
        let kind = self.kind(key);
        kind.rate = kind.rate_at(now) + 1.0 / MEMORY.as_secs_f64();
        kind.asked = Some(now);
    }

    /// Takes the oldest that is ready.
    pub(super) fn take_ready(&mut self, key: &Key) -> Option<u64> {
        self.kinds.get_mut(key)?.ready.pop_front()
    }

    /// Takes the oldest that is being made.
    pub(super) fn take_making(&mut self, key: &Key) -> Option<u64> {
        let making = &mut self.kinds.get_mut(key)?.making;
        (!making.is_empty()).then(|| making.remove(0))
    }

    /// One is being made.
    pub(super) fn making(&mut self, key: &Key, serial: u64) {
        self.kind(key).making.push(serial);
    }

    /// One that was being made is ready, after so long and with so much memory.
    pub(super) fn ready(&mut self, key: &Key, serial: u64, took: Duration, bytes: u64) {
        let kind = self.kind(key);
        let was_ours = kind.making.iter().position(|known| *known == serial);
        if let Some(place) = was_ours {
            kind.making.remove(place);
            kind.ready.push_back(serial);
            kind.cost = (kind.cost * 3 + took) / 4;
            kind.bytes = (kind.bytes * 3 + bytes) / 4;
            kind.failures = 0;
        }
    }

    /// One could not be made.
    pub(super) fn failed(&mut self, key: &Key, now: Instant) {
        self.kind(key).failed(now);
    }

    /// One is gone. `failed` where it was neither taken nor let go.
    pub(super) fn gone(&mut self, key: &Key, serial: u64, failed: bool, now: Instant) {
        let Some(kind) = self.kinds.get_mut(key) else {
            return;
        };
        let before = kind.count();
        kind.ready.retain(|known| *known != serial);
        kind.making.retain(|known| *known != serial);
        if failed && kind.count() < before {
            kind.failed(now);
        }
    }

    /// Those that wait and must go at once, because what they were made from has changed. Kinds that are
    /// not `known` any more are forgotten; which are to wait unasked is to be said anew.
    pub(super) fn retire(&mut self, bounds: Bounds, known: impl Fn(&Key) -> bool) -> Vec<u64> {
        self.bounds = bounds;
        let all: Vec<u64> = self
            .kinds
            .values_mut()
            .flat_map(|kind| {
                kind.paused_until = None;
                kind.has_floor = false;
                kind.ready.drain(..).chain(kind.making.drain(..)).collect::<Vec<_>>()
            })
            .collect();
        self.kinds.retain(|key, _| known(key));
        all
    }

    /// Makes none for a while.
    pub(super) fn hold_until(&mut self, until: Instant) {
        self.held_until = Some(until);
    }

    /// Kinds that have a floor are wanted before anybody has asked for them.
    pub(super) fn expect(&mut self, key: &Key) {
        self.kind(key).has_floor = true;
    }

    fn bytes(&self) -> u64 {
        self.kinds.values().map(|kind| kind.bytes * kind.count() as u64).sum()
    }

    /// Most memory that may be held now, with so much of it free on the host.
    fn allowed_bytes(&self, available_bytes: u64) -> u64 {
        let spare = available_bytes.saturating_sub(self.bounds.reserve_bytes);
        self.bounds.memory_bytes.min(self.bytes().saturating_add(spare))
    }

    /// Whether memory is below what must stay free.
    fn is_short(&self, available_bytes: u64) -> bool {
        available_bytes < self.bounds.reserve_bytes || self.bytes() > self.bounds.memory_bytes
    }

    /// What to make next, where anything is wanting: the kind that lacks most of what it should have.
    pub(super) fn wanting(&self, now: Instant, most_making: usize, available_bytes: u64) -> Option<Key> {
        if self.held_until.is_some_and(|until| now < until) {
            return None;
        }
        let making: usize = self.kinds.values().map(|kind| kind.making.len()).sum();
        if making >= most_making {
            return None;
        }
        let (held, allowed) = (self.bytes(), self.allowed_bytes(available_bytes));
        let lacking = self.kinds.iter().filter_map(|(key, kind)| {
            let target = kind.target(key, &self.bounds, now);
            let fits = held + kind.bytes <= allowed;
            (kind.count() < target && fits).then(|| (key, (target - kind.count()) * 100 / target))
        });
        lacking.max_by_key(|(key, share)| (*share, std::cmp::Reverse(*key))).map(|(key, _)| key.clone())
    }

    /// Those that are more than wanted, or more than there is memory for, the largest kind first.
    pub(super) fn surplus(&mut self, now: Instant, available_bytes: u64) -> Vec<u64> {
        let mut surplus = Vec::new();
        for (key, kind) in &mut self.kinds {
            // Half as many again are borne with: demand comes and goes.
            let target = kind.target(key, &self.bounds, now);
            let most = if target == 0 { 0 } else { target + target / 2 };
            while kind.ready.len() > most {
                surplus.extend(kind.ready.pop_front());
            }
        }
        if self.is_short(available_bytes) {
            let mut excess = self
                .bytes()
                .saturating_sub(self.bounds.memory_bytes)
                .max(self.bounds.reserve_bytes.saturating_sub(available_bytes));
            while excess > 0 {
                let largest =
                    self.kinds.values_mut().filter(|kind| !kind.ready.is_empty()).max_by_key(|kind| kind.bytes);
                let Some(kind) = largest else { break };
                surplus.extend(kind.ready.pop_front());
                excess = excess.saturating_sub(kind.bytes.max(1));
            }
        }
        // Nothing is kept of a kind that nobody wants, so that names are not collected for ever.
        let bounds = &self.bounds;
        self.kinds.retain(|key, kind| {
            let is_paused = kind.paused_until.is_some_and(|until| now < until);
            kind.count() > 0 || is_paused || kind.target(key, bounds, now) > 0
        });
        surplus
    }

    /// Whether anything waits or is wanted, so that there is something to look after.
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }
}

#[cfg(test)]
mod tests;
