//! What a cold run costs: codeSandbox through its socket, the bare program, and other sandboxes.
//!
//! `cargo bench --bench cold` prints the tables of `docs/PERFORMANCE.md`, which says how they are
//! to be read; with `-- --quick` the same with fewer rounds. All sides take turns in one run, so
//! that whatever else the machine does meets them alike, and only ratios are to be trusted.

#![allow(clippy::unwrap_used, reason = "a measurement that meets the unexpected ends where it stands")]

use std::process::ExitCode;
use std::time::Duration;

mod client;
mod latency;
mod memory;
mod peers;
mod statistics;
mod throughput;

#[path = "../../tests/common/mod.rs"]
mod common;

/// How much is measured.
struct Effort {
    rounds: usize,
    /// How long each number of clients is served, on each side.
    throughput: Duration,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    // `cargo bench` says so; what only lists or runs tests finds none here.
    if !given("--bench") || given("--list") {
        return ExitCode::SUCCESS;
    }
    if cfg!(debug_assertions) {
        eprintln!("cold: built without optimisation, so nothing that it measured would mean anything");
        return ExitCode::FAILURE;
    }
    let effort = if given("--quick") {
        Effort { rounds: 15, throughput: Duration::from_millis(800) }
    } else {
        Effort { rounds: 150, throughput: Duration::from_secs(6) }
    };
    let service = common::Service::start();
    let fresh = memory::of_service(&service);
    println!("{}\n", machine());
    latency::measure(&service, effort.rounds);
    throughput::measure(&service, effort.throughput);
    memory::print(&service, &fresh);
    println!("Load at the end: {}", load());
    ExitCode::SUCCESS
}

/// What the figures were taken on, as far as it bears on them.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    // The rest of a release names whose build it is.
    let kernel = kernel.trim().split('-').next().unwrap_or_default();
    let memory = read("/proc/meminfo");
    let memory = memory.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) >> 20;
    let hypervisor = if read("/proc/cpuinfo").contains(" hypervisor") { ", in a virtual machine" } else { "" };
    format!("{processors} processors{hypervisor}, {memory} GiB, Linux {kernel}; load at the start: {}", load())
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}
