//! Sides that take turns, so that the machine's drift meets them alike.

use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use codesandbox::cli::bench::load::{Arrivals, Batch, Worker, run};
use codesandbox::cli::bench::schedule::Shape;
use codesandbox::cli::bench::statistics::Sample;

/// Time for the kernel to clean up after a side, so that the next one does not pay for it.
const SETTLE: Duration = Duration::from_millis(3);

/// One row: its workers, and what they have measured so far.
pub(crate) struct Side<'a> {
    pub(crate) name: String,
    workers: Vec<Worker<'a>>,
    /// Returns when what it ran is gone and cleared away.
    settle: Box<dyn Fn() + 'a>,
    pub(crate) batch: Batch,
}

impl<'a> Side<'a> {
    pub(crate) fn new(name: impl Into<String>, workers: Vec<Worker<'a>>) -> Self {
        Self { name: name.into(), workers, settle: Box::new(|| {}), batch: Batch::default() }
    }

    pub(crate) fn settled_by(mut self, settle: impl Fn() + 'a) -> Self {
        self.settle = Box::new(settle);
        self
    }

    /// How long one run takes, roughly, or why it does not work.
    pub(crate) fn trial(&mut self) -> Result<Duration, String> {
        let batch = self.turn(1, &one_after_another());
        let done = batch.done.into_iter().next().ok_or("nothing was run")?;
        done.outcome.map(|_| done.latency)
    }

    fn turn(&mut self, requests: usize, arrivals: &Arrivals) -> Batch {
        let batch = run(&mut self.workers, requests, arrivals, &AtomicBool::new(false));
        (self.settle)();
        std::thread::sleep(SETTLE);
        batch
    }

    /// Times of what ran well.
    pub(crate) fn sample(&self) -> Sample {
        Sample::new(self.batch.done.iter().filter(|done| done.outcome.is_ok()).map(|done| done.latency).collect())
    }

    /// Runs that ended well in a second.
    pub(crate) fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.sample().len()).unwrap()) / self.batch.elapsed.as_secs_f64()
    }

    /// How many failed, and how the first did.
    pub(crate) fn failures(&self) -> Option<String> {
        let mut failures = self.batch.done.iter().filter_map(|done| done.outcome.as_ref().err());
        let first = failures.next()?;
        Some(format!(
            "{}: {} of {} runs failed, and do not count; the first: {first}",
            self.name,
            failures.count() + 1,
            self.batch.done.len()
        ))
    }

    /// In what kinds of sandbox its runs were, where the service tells: `warm 97 %, cold 3 %`.
    pub(crate) fn paths(&self) -> String {
        let replies = || self.batch.done.iter().filter_map(|done| done.outcome.as_ref().ok()?.as_ref());
        let all = replies().count().max(1);
        let share = |path: &str| replies().filter(|reply| reply.path.as_deref() == Some(path)).count() * 100 / all;
        let told = ["warm", "parked", "cold"].map(|path| (path, share(path)));
        let told = told.iter().filter(|(_, share)| *share > 0).map(|(path, share)| format!("{path} {share} %"));
        told.collect::<Vec<_>>().join(", ")
    }

    /// Whether the program had been compiled before, in every run.
    pub(crate) fn is_cached(&self) -> bool {
        self.batch
            .done
            .iter()
            .filter_map(|done| done.outcome.as_ref().ok()?.as_ref())
            .all(|reply| reply.compile.as_ref().is_none_or(|compile| compile.cached == Some(true)))
    }
}

pub(crate) fn one_after_another() -> Arrivals {
    closed(Shape::Sequential, Duration::ZERO)
}

pub(crate) fn closed(shape: Shape, spread: Duration) -> Arrivals {
    Arrivals::Closed { shape, think: Duration::ZERO, spread }
}

/// Every round has an order of its own, so that none always follows the same neighbour. One turn
/// of each goes before that and does not count.
pub(crate) fn take_turns(sides: &mut [Side<'_>], rounds: usize, requests: usize, arrivals: &Arrivals) {
    for round in 0..=rounds {
        let chance = RandomState::new();
        sides.sort_by_cached_key(|side| chance.hash_one(&side.name));
        for side in sides.iter_mut() {
            let batch = side.turn(requests, arrivals);
            if round > 0 {
                side.batch.extend(batch);
            }
        }
    }
}
