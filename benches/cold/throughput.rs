//! Many clients at once, against as many that start the bare program.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::client::{self, Client};
use super::common::{Service, wait_for};
use super::latency::BASH;
use super::statistics::{Sample, ratio};

const CLIENTS: [usize; 4] = [1, 2, 8, 32];
/// The two sides take turns so many times.
const SLICES: u32 = 4;

/// Jobs that were done, and in what time.
#[derive(Default)]
struct Done {
    jobs: Vec<Duration>,
    elapsed: Duration,
}

impl Done {
    fn per_second(&self) -> f64 {
        f64::from(u32::try_from(self.jobs.len()).unwrap()) / self.elapsed.as_secs_f64()
    }
}

pub(crate) fn measure(service: &Service, time: Duration) {
    println!("### Throughput, the same script\n");
    println!(
        "| clients | codeSandbox jobs/s | p50 µs | p99 µs | p99 / p50 | bare jobs/s | p50 µs | p99 µs | jobs/s × bare |"
    );
    println!("|--:|--:|--:|--:|--:|--:|--:|--:|--:|");
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(BASH.file), BASH.source).unwrap();
    let (request, socket) = (BASH.request(), service.socket());
    for clients in CLIENTS {
        let (mut ours, mut bare) = (Done::default(), Done::default());
        for _ in 0..SLICES {
            slice(&mut ours, clients, time / SLICES, || {
                let (mut client, request) = (Client::connect(&socket), &request);
                move || client::check(client.ask(request))
            });
            wait_for("the sandboxes to be gone", || service.sandbox_processes().is_empty());
            slice(&mut bare, clients, time / SLICES, || {
                || {
                    let mut command = Command::new(BASH.argv[0]);
                    command.args(&BASH.argv[1..]).current_dir(directory.path()).env_clear();
                    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
                    assert!(status.unwrap().success());
                }
            });
        }
        let relative = ours.per_second() / bare.per_second();
        let (ours_per_second, bare_per_second) = (ours.per_second(), bare.per_second());
        let (ours, bare) = (Sample::new(ours.jobs), Sample::new(bare.jobs));
        let spread = ratio(ours.percentile(99), ours.median());
        let [ours, bare] = [ours, bare]
            .map(|sample| format!("{} | {}", sample.median().as_micros(), sample.percentile(99).as_micros()));
        println!(
            "| {clients} | {ours_per_second:.0} | {ours} | {spread} | {bare_per_second:.0} | {bare} | {relative:.2} |"
        );
    }
    println!();
}

/// So many clients for so long, each with one job at a time. A job that is under way when the time
/// is up is finished, and counts with all the time that it takes.
fn slice<Job: FnMut()>(done: &mut Done, clients: usize, time: Duration, client: impl Fn() -> Job + Sync) {
    let began = Instant::now();
    let jobs = std::thread::scope(|scope| {
        let work = || {
            let (mut job, mut times) = (client(), Vec::new());
            while began.elapsed() < time {
                let began = Instant::now();
                job();
                times.push(began.elapsed());
            }
            times
        };
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    done.jobs.extend(jobs);
    done.elapsed += began.elapsed();
}
