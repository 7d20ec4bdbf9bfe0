//! What a bench found, as JSON and as text.

use std::collections::BTreeMap;

use serde::Serialize;

use super::client::Overhead;
use super::statistics::Summary;
use crate::cli::text::{harmless, table};

/// The whole report.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What it was taken on.
    pub machine: Machine,
    /// The service: a daemon's socket, or `embedded`.
    pub service: String,
    /// One for each program and number of clients.
    pub measurements: Vec<Measurement>,
}

/// What figures were taken on, as far as it bears on them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Machine {
    /// Name of the processor.
    pub processor: String,
    /// How many.
    pub processors: usize,
    /// Whether they are a virtual machine's.
    pub virtual_machine: bool,
    /// Memory, in MiB.
    pub memory_mib: u64,
    /// The kernel's version.
    pub kernel: String,
    /// Load average at the start.
    pub load: f64,
}

impl Machine {
    /// Reads `/proc`; what can't be read is empty.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let processors = read("/proc/cpuinfo");
        let model = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let memory = memory.split_ascii_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0);
        let release = read("/proc/sys/kernel/osrelease");
        let load = read("/proc/loadavg");
        Self {
            processor: model.trim_start_matches([' ', '\t', ':']).to_owned(),
            processors: std::thread::available_parallelism().map_or(0, usize::from),
            virtual_machine: processors.contains(" hypervisor"),
            memory_mib: memory >> 10,
            // The rest of a release names whose build it is.
            kernel: release.trim().split('-').next().unwrap_or_default().to_owned(),
            load: load.split(' ').next().and_then(|load| load.parse().ok()).unwrap_or_default(),
        }
    }

    /// In one line.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "{} × {}{}, {} GiB, Linux {}; load at the start: {:.2}",
            self.processors,
            self.processor,
            if self.virtual_machine { ", in a virtual machine" } else { "" },
            self.memory_mib.div_ceil(1024),
            self.kernel,
            self.load
        )
    }
}

/// One program with so many clients.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measurement {
    /// Name of the program.
    pub program: &'static str,
    /// The selector that the requests had.
    pub runtime: String,
    /// Clients at one time.
    pub clients: usize,
    /// Who decides when a request is sent.
    pub mode: &'static str,
    /// How requests come.
    pub shape: &'static str,
    /// Requests a second, in an open loop.
    pub rate_per_s: Option<f64>,
    /// Whether a client keeps its connection.
    pub keep_alive: bool,
    /// What a reader must know.
    pub notes: Vec<String>,
    /// What the service's answers say.
    pub service: ServiceSide,
    /// The service first, then what it is compared with.
    pub contenders: Vec<Contender>,
}

/// What the service's answers say of themselves.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ServiceSide {
    /// Runs that ended well.
    pub answered: usize,
    /// Of these, in an interpreter that had started before.
    pub warm: usize,
    /// In a sandbox that had been made before.
    pub parked: usize,
    /// In a sandbox that was made for the run.
    pub cold: usize,
    /// Whose program was compiled before.
    pub cached: usize,
    /// Medians of the service's own share; null where it does not tell.
    pub overhead_ms: Option<Overhead>,
    /// How late requests of an open loop were sent, 99 of a hundred at most; it is part of the times.
    pub late_ms: f64,
}

/// One side.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contender {
    /// Its name.
    pub name: String,
    /// From the first byte sent, or due, to the last received, in milliseconds.
    pub latency_ms: Summary,
    /// Runs that ended well, in a second.
    pub per_second: f64,
    /// Its median as a multiple of that of the program without a sandbox.
    pub ratio: Option<f64>,
    /// What did not end well, by kind.
    pub errors: BTreeMap<String, usize>,
}

/// The report as text.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!("{}\n{}\n", report.machine.line(), harmless(&report.service));
    for measurement in &report.measurements {
        text.push_str(&render_one(measurement));
    }
    text
}

fn render_one(measurement: &Measurement) -> String {
    let rate = measurement.rate_per_s.map(|rate| format!(", {rate} a second")).unwrap_or_default();
    let mut text = format!(
        "\n{} ({}), {}, {} {}{rate}\n",
        measurement.program,
        measurement.runtime,
        if measurement.clients == 1 { "1 client".to_owned() } else { format!("{} clients", measurement.clients) },
        measurement.mode,
        measurement.shape,
    );
    let heading = ["MILLISECONDS", "P50", "P95", "P99", "× BARE", "PER SECOND", "RUNS", "ERRORS"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for contender in &measurement.contenders {
        let latency = contender.latency_ms;
        rows.push(vec![
            contender.name.clone(),
            format!("{:.2}", latency.p50),
            format!("{:.2}", latency.p95),
            format!("{:.2}", latency.p99),
            contender.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}")),
            format!("{:.0}", contender.per_second),
            latency.count.to_string(),
            errors(contender),
        ]);
    }
    text.push_str(&table(&rows));
    text.push_str(&service_lines(&measurement.service));
    for note in &measurement.notes {
        text.push_str(&format!("note: {}\n", harmless(note)));
    }
    text
}

fn errors(contender: &Contender) -> String {
    if contender.errors.is_empty() {
        return "none".to_owned();
    }
    let kinds = contender.errors.iter().map(|(kind, count)| format!("{count} × {}", harmless(kind)));
    kinds.collect::<Vec<_>>().join(", ")
}

fn service_lines(service: &ServiceSide) -> String {
    let mut text = String::new();
    let told = service.warm + service.parked + service.cold;
    if told > 0 {
        let share = |count: usize| count * 100 / told;
        text.push_str(&format!(
            "sandboxes: {} % warm, {} % parked, {} % cold",
            share(service.warm),
            share(service.parked),
            share(service.cold)
        ));
        text.push_str(&if service.cached > 0 {
            format!("; {} compiled before\n", service.cached)
        } else {
            "\n".into()
        });
    }
    if let Some(own) = service.overhead_ms {
        text.push_str(&format!(
            "the service's own share: {:.2} ms (queue {:.2}, prepare {:.2}, start {:.2}, collect {:.2})\n",
            own.total, own.queue, own.prepare, own.start, own.collect
        ));
    }
    if service.late_ms > 0.0 {
        text.push_str(&format!(
            "sent late by at most {:.2} ms, 99 of a hundred; the times include it\n",
            service.late_ms
        ));
    }
    text
}

#[cfg(test)]
mod tests;
