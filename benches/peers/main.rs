//! What a run costs: codeSandbox through its socket, the bare program, and other sandboxes.
//!
//! `cargo bench --bench peers` prints what `docs/PERFORMANCE.md` has, which says how it is to be
//! read; `-- --help` lists the options. All sides take turns in one run, so that whatever else the
//! machine does meets them alike, and only ratios are to be trusted.

#![allow(clippy::unwrap_used, reason = "a measurement that meets the unexpected ends where it stands")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

mod budgets;
mod closures;
mod judge;
mod latency;
mod live;
mod memory;
mod network;
mod oci;
mod ours;
mod peers;
mod plot;
mod report;
mod sessions;
mod sizes;
mod throughput;
mod turns;

#[path = "../../tests/common/mod.rs"]
mod common;

use ours::Ours;
use report::Report;

/// A part of the bench.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Section {
    /// One run at a time: all programs, all peers
    Latency,
    /// One after another, staggered, all at once
    Shapes,
    /// From 1 to 64 clients
    Throughput,
    /// A hundred requests at once
    Burst,
    /// Of the service, and of parked, warm and running sandboxes
    Memory,
    /// With 1 to 1000 live sandboxes
    Live,
    /// With 40 to 400 closure paths
    Closures,
    /// With 1 KiB to 10 MiB of input and output
    Sizes,
    /// Networks: the start of a sandbox that has one, connections through the relay, and bytes
    Network,
    /// Judging a thousand cases of a program that takes a millisecond
    Judge,
    /// Sessions: making one, programs, files and snapshots in it, and holding a thousand
    Sessions,
}

/// Measures codeSandbox against bare processes and other sandboxes
#[derive(Debug, Parser)]
struct Options {
    /// The same with few rounds: some minutes
    #[arg(long)]
    quick: bool,
    /// Only these
    #[arg(long, value_enum, value_delimiter = ',')]
    sections: Vec<Section>,
    /// Write everything as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the latencies as a plot
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print tables in Markdown
    #[arg(long)]
    markdown: bool,
    /// Run even where this was built without optimisation: to see that it runs, not for its figures
    #[arg(long)]
    unoptimised: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // `cargo bench` says so; what only lists or runs tests finds none here.
    if !std::env::args().any(|argument| argument == "--bench") || std::env::args().any(|one| one == "--list") {
        return ExitCode::SUCCESS;
    }
    let options = Options::parse();
    if cfg!(debug_assertions) && !options.unoptimised {
        eprintln!("peers: built without optimisation, so nothing that it measured would mean anything");
        return ExitCode::FAILURE;
    }
    let mut report = Report::new(command(), peers::versions());
    if cfg!(debug_assertions) {
        report.skip("every figure: built without optimisation");
    }
    let ours = Ours::start_all();
    let all = Section::value_variants();
    for section in all.iter().filter(|section| options.sections.is_empty() || options.sections.contains(section)) {
        eprintln!("peers: {section:?} …");
        match section {
            Section::Latency => latency::measure(&mut report, &ours, options.quick),
            Section::Shapes => throughput::shapes(&mut report, &ours, options.quick),
            Section::Throughput => throughput::clients(&mut report, &ours, options.quick),
            Section::Burst => throughput::burst(&mut report, &ours, options.quick),
            Section::Memory => memory::measure(&mut report, &ours),
            Section::Live => live::measure(&mut report, options.quick),
            Section::Closures => closures::measure(&mut report, options.quick),
            Section::Sizes => sizes::measure(&mut report, &ours, options.quick),
            Section::Network => network::measure(&mut report, options.quick),
            Section::Judge => judge::measure(&mut report, options.quick),
            Section::Sessions => sessions::measure(&mut report, options.quick),
        }
    }
    budgets::check(&mut report);
    report.end();
    print!("{}", if options.markdown { report.markdown() } else { report.text() });
    if let Some(path) = &options.json {
        std::fs::write(path, serde_json::to_string_pretty(&report).unwrap() + "\n").unwrap();
    }
    if let Some(path) = &options.svg {
        std::fs::write(path, plot::svg(&report.latencies)).unwrap();
    }
    ExitCode::SUCCESS
}

/// The command that was given, as it can be given again.
fn command() -> String {
    let words = std::env::args().skip(1).filter(|word| word != "--bench");
    let words = words.collect::<Vec<_>>().join(" ");
    format!("cargo bench --bench peers{}{words}", if words.is_empty() { "" } else { " -- " })
}
