//! Runs one program with so many clients, in turns with the same without a sandbox.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::bare::{Bare, Start};
use super::client::{Client, Connector, Overhead, request};
use super::load::{Arrivals, Batch, Worker, run};
use super::program::{Case, Program};
use super::report::{Contender, Measurement, ServiceSide};
use super::schedule::{Mode, Shape, due_times};
use super::statistics::{Sample, median_of, milliseconds};

/// Where more than one client is served: turns that each side gets.
const TURNS: usize = 8;
/// Time for the kernel, and for a service that prepares its next sandbox, between two single runs:
/// so that no side pays for its predecessor.
const SETTLE: Duration = Duration::from_millis(3);

/// How to run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// Clients at one time.
    pub clients: usize,
    /// Who decides when a request is sent.
    pub mode: Mode,
    /// How requests come.
    pub shape: Shape,
    /// Requests a second, for an open loop.
    pub rate: f64,
    /// Requests that count.
    pub requests: usize,
    /// Requests before those.
    pub warmup: usize,
    /// How long a client waits after each answer.
    pub think: Duration,
    /// One connection for all requests of a client.
    pub keep_alive: bool,
}

struct Side<'a> {
    name: String,
    workers: Vec<Worker<'a>>,
    batch: Batch,
}

/// Measures; `tell` hears how many requests were answered so far.
///
/// # Errors
/// The service does not run the program at all.
pub(super) fn measure(
    plan: &Plan,
    case: &Case,
    connector: &Connector,
    stop: &AtomicBool,
    tell: &dyn Fn(usize),
) -> Result<Measurement, String> {
    let body = case.body.to_string();
    let request = request("POST", "/v1/run", body.as_bytes(), plan.keep_alive);
    let own_true = Bare::of_true();
    let mut sides = sides(plan, case, connector, &request, own_true.as_ref());
    // Staggered clients begin over the time that one request takes.
    let spread = warm_up(plan, &mut sides, stop)?;
    let alone = plan.clients == 1 && plan.mode == Mode::Closed;
    // A turn has work for every client.
    let turns = if alone { plan.requests } else { (plan.requests / plan.clients).clamp(1, TURNS) };
    let mut answered = 0;
    for turn in 0..turns {
        let share = plan.requests * (turn + 1) / turns - plan.requests * turn / turns;
        // Another order in each turn, so that none always follows the same neighbour.
        for index in 0..sides.len() {
            let count = sides.len();
            let Some(side) = sides.get_mut((index + turn) % count) else { continue };
            let batch = run(&mut side.workers, share, &arrivals(plan, spread, share), stop);
            side.batch.extend(batch);
            if plan.clients == 1 {
                std::thread::sleep(SETTLE);
            }
        }
        answered += share;
        tell(answered);
    }
    Ok(conclude(plan, case, sides))
}

fn arrivals(plan: &Plan, spread: Duration, requests: usize) -> Arrivals {
    match plan.mode {
        Mode::Closed => Arrivals::Closed { shape: plan.shape, think: plan.think, spread },
        Mode::Open => Arrivals::Open { due: due_times(plan.shape, plan.rate, plan.clients, requests) },
    }
}

/// The service, the program itself, and `true` started in two ways.
fn sides<'a>(
    plan: &Plan,
    case: &'a Case,
    connector: &Connector,
    request: &'a [u8],
    own_true: Option<&'a Bare>,
) -> Vec<Side<'a>> {
    let side = |name: String, worker: &dyn Fn() -> Worker<'a>| Side {
        name,
        workers: (0..plan.clients).map(|_| worker()).collect(),
        batch: Batch::default(),
    };
    let mut sides = vec![side("codesandbox".to_owned(), &|| {
        let mut client = Client::new(connector.clone(), plan.keep_alive);
        Box::new(move || client.attempt(request))
    })];
    if let Some(bare) = case.bare.as_ref().filter(|_| case.program != Program::True) {
        sides.push(side(format!("bare {}", case.program.name()), &|| bare.worker(Start::Spawn)));
    }
    for start in [Start::Spawn, Start::Fork] {
        if let Some(bare) = own_true {
            sides.push(side(format!("bare true, {}", start.name()), &|| bare.worker(start)));
        }
    }
    sides
}

/// Runs each side some times before anything counts; how long the service took at the median.
fn warm_up(plan: &Plan, sides: &mut [Side<'_>], stop: &AtomicBool) -> Result<Duration, String> {
    let mut median = Duration::ZERO;
    let once = Arrivals::Closed { shape: Shape::Sequential, think: Duration::ZERO, spread: Duration::ZERO };
    for (index, side) in sides.iter_mut().enumerate() {
        // At least once: what does not run at all is found here.
        let batch = run(&mut side.workers, plan.warmup.max(1), &once, stop);
        if index > 0 {
            continue;
        }
        let mut failures = batch.done.iter().filter_map(|done| done.outcome.as_ref().err());
        if let (Some(why), false) = (failures.next(), batch.done.iter().any(|done| done.outcome.is_ok())) {
            return Err(why.clone());
        }
        median = Sample::new(batch.done.iter().map(|done| done.latency).collect()).median();
    }
    Ok(median)
}

fn conclude(plan: &Plan, case: &Case, sides: Vec<Side<'_>>) -> Measurement {
    let mut service = ServiceSide::default();
    let mut contenders: Vec<Contender> = Vec::new();
    for (index, side) in sides.into_iter().enumerate() {
        if index == 0 {
            service = service_side(&side.batch);
        }
        contenders.push(contender(side.name, side.batch));
    }
    let mut notes = case.notes.clone();
    let compiled = matches!(case.program, Program::C | Program::Java);
    if compiled && service.cached == 0 && service.answered > 0 {
        notes.push("the service compiled it for each run: its answers tell of no cache".to_owned());
    }
    // What a run costs without a sandbox: the program itself, which is listed next.
    let basis = contenders.get(1).map(|bare| bare.latency_ms.p50);
    for contender in &mut contenders {
        contender.ratio = basis.filter(|basis| *basis > 0.0).map(|basis| contender.latency_ms.p50 / basis);
    }
    Measurement {
        program: case.program.name(),
        runtime: case.body["runtime"].as_str().unwrap_or_default().to_owned(),
        clients: plan.clients,
        mode: plan.mode.name(),
        shape: plan.shape.name(),
        rate_per_s: (plan.mode == Mode::Open).then_some(plan.rate),
        keep_alive: plan.keep_alive,
        notes,
        service,
        contenders,
    }
}

/// Only what ran well has a latency; the rest is counted by its kind.
fn contender(name: String, batch: Batch) -> Contender {
    let mut errors: BTreeMap<String, usize> = BTreeMap::new();
    let mut times = Vec::new();
    for done in batch.done {
        match done.outcome {
            Ok(_) => times.push(done.latency),
            Err(kind) => *errors.entry(kind).or_default() += 1,
        }
    }
    let count = f64::from(u32::try_from(times.len()).unwrap_or(u32::MAX));
    let per_second = if batch.elapsed.is_zero() { 0.0 } else { count / batch.elapsed.as_secs_f64() };
    Contender { name, latency_ms: Sample::new(times).summary(), per_second, ratio: None, errors }
}

fn service_side(batch: &Batch) -> ServiceSide {
    let replies: Vec<_> = batch.done.iter().filter_map(|done| done.outcome.as_ref().ok()?.as_ref()).collect();
    let took = |path: &str| replies.iter().filter(|reply| reply.path.as_deref() == Some(path)).count();
    let share = |of: fn(&Overhead) -> f64| {
        median_of(replies.iter().filter_map(|reply| reply.overhead_ms.as_ref()).map(of).collect())
    };
    let overhead_ms = share(|overhead| overhead.total).map(|total| Overhead {
        queue: share(|overhead| overhead.queue).unwrap_or_default(),
        prepare: share(|overhead| overhead.prepare).unwrap_or_default(),
        start: share(|overhead| overhead.start).unwrap_or_default(),
        collect: share(|overhead| overhead.collect).unwrap_or_default(),
        total,
    });
    let cached = replies.iter().filter(|reply| {
        let compile = reply.compile.as_ref();
        compile.and_then(|compile| compile.cached) == Some(true)
    });
    ServiceSide {
        answered: replies.len(),
        warm: took("warm"),
        parked: took("parked"),
        cold: took("cold"),
        cached: cached.count(),
        overhead_ms,
        late_ms: milliseconds(Sample::new(batch.done.iter().map(|done| done.late).collect()).percentile(99)),
    }
}
