//! `codesandbox bench`: puts a load on the service, and the same on the bare machine, in turns.
//!
//! The parts are public for `benches/peers`, which measures with the same generator.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::service::{self, Place};
use super::{exit, fail, print};
use crate::config::Config;
use crate::daemon;
use crate::runtime::Catalogue;

pub mod bare;
pub mod client;
pub mod load;
mod measure;
pub mod program;
pub mod report;
pub mod schedule;
pub mod statistics;

use client::Connector;
use measure::Plan;
use program::{Case, Program};
use report::{Machine, Measurement, Report};
use schedule::{Mode, Shape};

/// Where the module and the Debian package put the configuration of a daemon.
const CONFIG: &str = "/etc/codesandbox/config.json";

/// Arguments of `codesandbox bench`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// What to run
    #[arg(long, value_enum, value_delimiter = ',', default_value = "true,python")]
    program: Vec<Program>,
    /// How many clients at one time, 1 to 64; each number is measured by itself
    #[arg(long, value_delimiter = ',', default_value = "1", value_parser = clap::value_parser!(u8).range(1..=64))]
    clients: Vec<u8>,
    /// Who decides when a request is sent
    #[arg(long, value_enum, default_value = "closed")]
    mode: Mode,
    /// Requests a second, for --mode open
    #[arg(long, default_value = "50", value_parser = rate)]
    rate: f64,
    /// How requests come
    #[arg(long, value_enum, default_value = "sequential")]
    shape: Shape,
    /// Requests that count, for each program and number of clients
    #[arg(long, default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    requests: u32,
    /// Requests before those, which do not count
    #[arg(long, default_value = "10", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    warmup: u32,
    /// How long a client waits after each answer
    #[arg(long, value_name = "MS", default_value = "0", value_parser = clap::value_parser!(u32).range(0..=60_000))]
    think: u32,
    /// One connection for all requests of a client, in place of one for each
    #[arg(long)]
    keep_alive: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().map_err(|_| "it is no number".to_owned())?;
    if (0.01..=1e5).contains(&rate) { Ok(rate) } else { Err("it must be from 0.01 to 100000".to_owned()) }
}

impl Arguments {
    fn plans(&self) -> impl Iterator<Item = Plan> {
        self.clients.iter().map(|clients| Plan {
            clients: usize::from(*clients),
            mode: self.mode,
            shape: self.shape,
            rate: self.rate,
            requests: self.requests as usize,
            warmup: self.warmup as usize,
            think: Duration::from_millis(self.think.into()),
            keep_alive: self.keep_alive,
        })
    }
}

/// Runs the bench. The exit status is 1 where a request failed.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let stop = AtomicBool::new(false);
    let worked = service::under_load(&arguments.place, &stop, |connector| bench(arguments, connector, &stop));
    match worked {
        Ok(_) if stop.load(Ordering::Relaxed) => ExitCode::from(exit::INTERRUPTED),
        Ok(Ok(report)) => show(arguments, &report),
        Ok(Err(why)) => fail(&why),
        Err(error) => fail(&error),
    }
}

fn bench(arguments: &Arguments, connector: &Connector, stop: &AtomicBool) -> Result<Report, String> {
    let (config, catalogue) = runtimes(&arguments.place)?;
    let profile = config.profiles.get("default").ok_or("the configuration has no default profile")?;
    let scratch = Scratch::new()?;
    let service = match connector {
        Connector::Path(path) => path.display().to_string(),
        Connector::Pair(_) => "embedded".to_owned(),
    };
    let mut report = Report { machine: Machine::here(), service, measurements: Vec::new() };
    let bar = progress(arguments);
    for program in &arguments.program {
        let case = Case::draw_up(*program, &catalogue, profile, &scratch.0)
            .map_err(|why| format!("{}: {why}", program.name()))?;
        for plan in arguments.plans() {
            bar.set_message(format!("{}, clients: {}", program.name(), plan.clients));
            let before = bar.position();
            let tell = |answered: usize| bar.set_position(before + answered as u64);
            let measured = measure::measure(&plan, &case, connector, stop, &tell);
            report.measurements.push(measured.map_err(|why| format!("{}: {why}", program.name()))?);
            if stop.load(Ordering::Relaxed) {
                break;
            }
        }
    }
    bar.finish_and_clear();
    Ok(report)
}

/// The runtimes by the configuration that the service has, as far as can be known.
fn runtimes(place: &Place) -> Result<(Config, Catalogue), String> {
    let usual = Some(Path::new(CONFIG)).filter(|path| !place.embedded && path.exists());
    daemon::load(place.config.as_deref().or(usual)).map_err(|error| error.to_string())
}

/// Seen on a terminal only. It is drawn between batches, by nobody's thread: what draws takes time
/// from what is measured.
fn progress(arguments: &Arguments) -> ProgressBar {
    let all = arguments.program.len() * arguments.clients.len() * arguments.requests as usize;
    let bar = ProgressBar::with_draw_target(Some(all as u64), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg}  {bar:30}  {pos} of {len}  {eta}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}

fn show(arguments: &Arguments, report: &Report) -> ExitCode {
    let failed = |one: &Measurement| one.contenders.first().is_some_and(|service| !service.errors.is_empty());
    let status = ExitCode::from(u8::from(report.measurements.iter().any(failed)));
    let text = if arguments.json {
        serde_json::to_string_pretty(report).expect("a report has only text keys") + "\n"
    } else {
        report::render(report)
    };
    print(text.as_bytes(), status)
}

/// A directory for the files of the bare side, gone at the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self, String> {
        let template = std::env::temp_dir().join("codesandbox-bench-XXXXXX");
        let made = nix::unistd::mkdtemp(&template);
        made.map(Self).map_err(|error| format!("{}: {error}", template.display()))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What can't be removed is in the directory for such things.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
