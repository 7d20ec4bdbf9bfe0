//! One run at a time, all sides in turn.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::client::{self, Client};
use super::common::{Service, wait_for};
use super::peers::{Peer, peers};
use super::statistics::{Sample, ratio};

/// Runs of each side before anything counts: caches, and whatever is made once.
const WARM_UP: usize = 3;
/// Time for the kernel to clean up after a side, so that the next one does not pay for it.
const SETTLE: Duration = Duration::from_millis(3);

/// A program that every side runs.
pub(crate) struct Workload {
    title: &'static str,
    runtime: &'static str,
    pub(crate) file: &'static str,
    pub(crate) source: &'static str,
    /// The same words as the runtime's, see `profiles/languages/`.
    pub(crate) argv: &'static [&'static str],
}

impl Workload {
    pub(crate) fn request(&self) -> Vec<u8> {
        client::request(self.runtime, self.source)
    }
}

/// As little as a program can do.
pub(crate) const BASH: Workload = Workload {
    title: "`bash main.sh`, a script that is `:`",
    runtime: "bash",
    file: "main.sh",
    source: ":\n",
    argv: &["/usr/bin/bash", "--noprofile", "--norc", "main.sh"],
};

const PYTHON: Workload = Workload {
    title: "`python3.11 main.py`, a script that is `pass`",
    runtime: "python@3.11",
    file: "main.py",
    source: "pass\n",
    argv: &["/usr/bin/python3.11", "main.py"],
};

/// One row: a name, and a run that returns how long it took, or why it failed.
struct Side<'a> {
    name: &'static str,
    run: Box<dyn FnMut() -> Result<Duration, String> + 'a>,
    times: Vec<Duration>,
    failures: Vec<String>,
}

impl<'a> Side<'a> {
    fn new(name: &'static str, run: impl FnMut() -> Result<Duration, String> + 'a) -> Self {
        Self { name, run: Box::new(run), times: Vec::new(), failures: Vec::new() }
    }
}

pub(crate) fn measure(service: &Service, rounds: usize) {
    for workload in [BASH, PYTHON] {
        println!("### {}\n", workload.title);
        if !std::path::Path::new(workload.argv[0]).exists() {
            println!("SKIPPED: {} is not installed\n", workload.argv[0]);
            continue;
        }
        let directory = tempfile::tempdir().unwrap();
        let (peers, skipped) = peers(&workload, directory.path());
        let mut sides = sides(service, &workload, &peers);
        take_turns(service, &mut sides, rounds);
        for (failures, why) in sides.iter().filter_map(|side| Some((side.failures.len(), side.failures.first()?))) {
            println!("FAILED: {failures} of {rounds} runs, which do not count; the first: {why}\n");
        }
        print(sides.into_iter().map(|side| (side.name, Sample::new(side.times))).collect(), rounds);
        skipped.iter().for_each(|reason| println!("SKIPPED: {reason}\n"));
    }
}

fn sides<'a>(service: &'a Service, workload: &Workload, peers: &'a [Peer]) -> Vec<Side<'a>> {
    let (request, same) = (workload.request(), workload.request());
    let mut kept = Client::connect(&service.socket());
    let socket = service.socket();
    let mut sides: Vec<_> = peers.iter().map(|peer| Side::new(peer.name, || peer.run())).collect();
    sides.push(Side::new("codeSandbox, connection kept", move || {
        let began = Instant::now();
        let answer = kept.ask(&request);
        let took = began.elapsed();
        client::check(answer);
        Ok(took)
    }));
    sides.push(Side::new("codeSandbox, new connection", move || {
        let began = Instant::now();
        let mut client = Client::connect(&socket);
        let answer = client.ask(&same);
        let took = began.elapsed();
        client::check(answer);
        Ok(took)
    }));
    sides
}

/// Every round has an order of its own, so that none always follows the same neighbour.
fn take_turns(service: &Service, sides: &mut [Side<'_>], rounds: usize) {
    for round in 0..WARM_UP + rounds {
        let chance = RandomState::new();
        sides.sort_by_cached_key(|side| chance.hash_one(side.name));
        for side in sides.iter_mut() {
            let took = (side.run)();
            if round >= WARM_UP {
                match took {
                    Ok(took) => side.times.push(took),
                    Err(why) => side.failures.push(why),
                }
            }
            wait_for("the sandbox to be gone", || service.sandbox_processes().is_empty());
            std::thread::sleep(SETTLE);
        }
    }
}

fn print(mut sides: Vec<(&'static str, Sample)>, rounds: usize) {
    let median = |name: &str, sides: &[(&str, Sample)]| {
        sides.iter().find(|(side, _)| *side == name).map(|(_, sample)| sample.median())
    };
    let bare = median("bare", &sides);
    let bubblewrap = median("bubblewrap", &sides);
    let against = |one: Duration, other: Option<Duration>| other.map_or("–".to_owned(), |other| ratio(one, other));
    sides.sort_by_key(|(_, sample)| sample.median());
    println!("| {rounds} rounds | median µs | p10 | p90 | × bare | × bubblewrap |");
    println!("|---|--:|--:|--:|--:|--:|");
    for (name, sample) in sides {
        let [p10, p90] = [10, 90].map(|percent| sample.percentile(percent).as_micros());
        let median = sample.median();
        let (to_bare, to_bubblewrap) = (against(median, bare), against(median, bubblewrap));
        println!("| {name} | {} | {p10} | {p90} | {to_bare} | {to_bubblewrap} |", median.as_micros());
    }
    println!();
}
