//! The load generator: workers that attempt something again and again, and the time that each took.
//!
//! A worker is a blocking thread: it sleeps while it waits, so that on a small machine the service
//! has the processors to itself. One worker alone needs no thread.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::client::Reply;
use super::schedule::Shape;

/// Stack of a worker; it parses small answers.
const STACK_BYTES: usize = 256 << 10;

/// What became of one attempt.
#[derive(Debug)]
pub struct Attempt {
    /// When the last byte was there, or the process reaped.
    pub ended: Instant,
    /// What the service answered, where it was the service; or the kind of failure.
    pub outcome: Result<Option<Reply>, String>,
}

/// Attempts something once.
pub type Worker<'a> = Box<dyn FnMut() -> Attempt + Send + 'a>;

/// When workers attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrivals {
    /// Each worker when its last attempt is over.
    Closed {
        /// How they begin.
        shape: Shape,
        /// How long a worker waits after each attempt.
        think: Duration,
        /// Over how long beginnings are spread, where the shape is staggered.
        spread: Duration,
    },
    /// Whoever is free when an attempt is due; where nobody is, it counts from then all the same.
    Open {
        /// When each is due, in order, from the beginning.
        due: Vec<Duration>,
    },
}

/// One attempt as it was measured.
#[derive(Debug)]
pub struct Done {
    /// From the beginning, or from when it was due, to the last byte.
    pub latency: Duration,
    /// How long after it was due it began; zero where nothing was due.
    pub late: Duration,
    /// What came of it.
    pub outcome: Result<Option<Reply>, String>,
}

/// Attempts that were made, and in what time.
#[derive(Debug, Default)]
pub struct Batch {
    /// Every attempt.
    pub done: Vec<Done>,
    /// From the first one's beginning to the last one's end.
    pub elapsed: Duration,
}

impl Batch {
    /// Adds another that came later.
    pub fn extend(&mut self, other: Self) {
        self.done.extend(other.done);
        self.elapsed += other.elapsed;
    }
}

/// What the workers of one batch share.
struct Shared<'a> {
    arrivals: &'a Arrivals,
    requests: usize,
    workers: usize,
    next: AtomicUsize,
    began: Instant,
    gate: Barrier,
    stop: &'a AtomicBool,
}

/// Makes so many attempts; none is begun any more once `stop` is set.
///
/// # Panics
/// Where a worker does, or no thread can be started.
pub fn run(workers: &mut [Worker<'_>], requests: usize, arrivals: &Arrivals, stop: &AtomicBool) -> Batch {
    let shared = Shared {
        arrivals,
        requests,
        workers: workers.len(),
        next: AtomicUsize::new(0),
        began: Instant::now(),
        gate: Barrier::new(workers.len()),
        stop,
    };
    if let [worker] = workers {
        let done = work(&shared, 0, worker);
        return Batch { done, elapsed: shared.began.elapsed() };
    }
    let done = std::thread::scope(|scope| {
        let shared = &shared;
        let threads: Vec<_> = workers
            .iter_mut()
            .enumerate()
            .map(|(index, worker)| {
                let thread = std::thread::Builder::new().stack_size(STACK_BYTES);
                thread.spawn_scoped(scope, move || work(shared, index, worker)).expect("a host has threads to spare")
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("workers do not panic")).collect()
    });
    Batch { done, elapsed: shared.began.elapsed() }
}

fn work(shared: &Shared<'_>, index: usize, worker: &mut Worker<'_>) -> Vec<Done> {
    match shared.arrivals {
        Arrivals::Closed { shape: Shape::Burst, think, .. } => bursts(shared, index, *think, worker),
        Arrivals::Closed { shape, think, spread } => {
            if *shape == Shape::Staggered {
                std::thread::sleep(spread.mul_f64(fraction(index, shared.workers)));
            }
            closed(shared, *think, worker)
        }
        Arrivals::Open { due } => open(shared, due, worker),
    }
}

/// The number of the next attempt, while there are any.
fn claim(shared: &Shared<'_>) -> Option<usize> {
    if shared.stop.load(Ordering::Relaxed) {
        return None;
    }
    Some(shared.next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < shared.requests)
}

fn closed(shared: &Shared<'_>, think: Duration, worker: &mut Worker<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    while claim(shared).is_some() {
        done.push(timed(worker));
        if !think.is_zero() {
            std::thread::sleep(think);
        }
    }
    done
}

fn bursts(shared: &Shared<'_>, index: usize, think: Duration, worker: &mut Worker<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    // All go through the gate equally often, even those that have nothing to do in the last round.
    for round in 0..shared.requests.div_ceil(shared.workers) {
        shared.gate.wait();
        if round * shared.workers + index < shared.requests && !shared.stop.load(Ordering::Relaxed) {
            done.push(timed(worker));
        }
        if !think.is_zero() {
            std::thread::sleep(think);
        }
    }
    done
}

fn open(shared: &Shared<'_>, due: &[Duration], worker: &mut Worker<'_>) -> Vec<Done> {
    let mut done = Vec::new();
    while let Some(due) = claim(shared).and_then(|index| due.get(index)) {
        let due = shared.began + *due;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let late = due.elapsed();
        let attempt = worker();
        done.push(Done { latency: attempt.ended.saturating_duration_since(due), late, outcome: attempt.outcome });
    }
    done
}

fn timed(worker: &mut Worker<'_>) -> Done {
    let began = Instant::now();
    let attempt = worker();
    Done { latency: attempt.ended - began, late: Duration::ZERO, outcome: attempt.outcome }
}

fn fraction(part: usize, whole: usize) -> f64 {
    let number = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}

#[cfg(test)]
mod tests {
    use super::super::schedule::due_times;
    use super::*;

    fn worker<'a>(attempts: &'a AtomicUsize, takes: Duration) -> Worker<'a> {
        Box::new(move || {
            attempts.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(takes);
            Attempt { ended: Instant::now(), outcome: Ok(None) }
        })
    }

    fn attempts(workers: usize, requests: usize, arrivals: &Arrivals, takes: Duration) -> Batch {
        let count = AtomicUsize::new(0);
        let mut workers: Vec<_> = (0..workers).map(|_| worker(&count, takes)).collect();
        let batch = run(&mut workers, requests, arrivals, &AtomicBool::new(false));
        assert_eq!(count.load(Ordering::Relaxed), batch.done.len());
        batch
    }

    fn closed(shape: Shape) -> Arrivals {
        Arrivals::Closed { shape, think: Duration::ZERO, spread: Duration::from_millis(2) }
    }

    #[test]
    fn as_many_attempts_are_made_as_were_asked_for() {
        for shape in [Shape::Sequential, Shape::Staggered, Shape::Burst] {
            for (workers, requests) in [(1, 5), (3, 10), (4, 3)] {
                let batch = attempts(workers, requests, &closed(shape), Duration::ZERO);
                assert_eq!(batch.done.len(), requests, "{shape:?} {workers}");
            }
        }
        let due = due_times(Shape::Staggered, 10_000.0, 2, 9);
        assert_eq!(attempts(2, 9, &Arrivals::Open { due }, Duration::ZERO).done.len(), 9);
    }

    #[test]
    fn a_request_that_has_to_wait_for_a_client_counts_from_when_it_was_due() {
        // One client, ten requests due at once, each takes 5 ms: the last waits for nine others.
        let batch = attempts(1, 10, &Arrivals::Open { due: vec![Duration::ZERO; 10] }, Duration::from_millis(5));
        let last = batch.done.last().unwrap();
        assert!(last.latency >= Duration::from_millis(50) && last.late >= Duration::from_millis(45), "{last:?}");
        let same = attempts(1, 10, &closed(Shape::Sequential), Duration::from_millis(5));
        assert!(same.done.iter().any(|done| done.latency < Duration::from_millis(40)), "{same:?}");
    }

    #[test]
    fn whoever_is_told_to_stop_begins_nothing_more() {
        let count = AtomicUsize::new(0);
        for shape in [Shape::Sequential, Shape::Burst] {
            let mut workers = [worker(&count, Duration::ZERO), worker(&count, Duration::ZERO)];
            assert!(run(&mut workers, 100, &closed(shape), &AtomicBool::new(true)).done.is_empty());
        }
    }
}
