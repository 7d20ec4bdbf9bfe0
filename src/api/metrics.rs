//! What is counted, in the form that Prometheus reads.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use serde::Serialize;

use crate::job::{DenialReason, DeniedFlow, Outcome, Protocol, StageResult};
use crate::plan::tree::Ecosystem;
use crate::scheduler::{CacheStats, ClientLoad, Load};
use crate::session::Refused;
use crate::session::types::{self, Counts};

use super::problem::Kind;
use super::wire::RuntimeUsed;

/// Bounds of histograms, in seconds: from what a parked sandbox takes to the longest run.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.5, 1.0, 5.0, 20.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RunLabels {
    language: String,
    version: String,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverheadLabels {
    language: String,
    version: String,
    path: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LanguageLabels {
    language: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InstallLabels {
    ecosystem: &'static str,
    status: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ClientLabels {
    client: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabels {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DenialLabels {
    protocol: String,
    reason: String,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    runs: Family<RunLabels, Counter>,
    refusals: Family<ReasonLabels, Counter>,
    faults: Family<ReasonLabels, Counter>,
    hung_up: Counter,
    wall: Family<LanguageLabels, Histogram, fn() -> Histogram>,
    overhead: Family<OverheadLabels, Histogram, fn() -> Histogram>,
    installs: Family<InstallLabels, Histogram, fn() -> Histogram>,
    waiting: Histogram,
    received_bytes: Counter,
    output_bytes: Counter,
    queued: Gauge,
    running: Gauge,
    slots: Gauge,
    available: Gauge,
    client_queued: Family<ClientLabels, Gauge>,
    client_running: Family<ClientLabels, Gauge>,
    client_started: Family<ClientLabels, Counter>,
    compile_cache: Cache,
    package_cache: Cache,
    sessions: Sessions,
    network: Networks,
}

/// Sessions.
#[derive(Default)]
struct Sessions {
    by_status: Family<StatusLabels, Gauge>,
    execs: Counter,
    snapshots: Counter,
    files_received_bytes: Counter,
    files_sent_bytes: Counter,
}

impl Sessions {
    fn register(&self, to: &mut Registry) {
        to.register("sessions", "Sessions, by status", self.by_status.clone());
        to.register("session_execs", "Programs that were started in sessions", self.execs.clone());
        to.register("session_snapshots", "Snapshots that were made of sessions", self.snapshots.clone());
        let help = "Bytes of files and archives that were sent into sessions";
        to.register_with_unit("session_files_received", help, Unit::Bytes, self.files_received_bytes.clone());
        let help = "Bytes of files and archives that were fetched from sessions";
        to.register_with_unit("session_files_sent", help, Unit::Bytes, self.files_sent_bytes.clone());
    }

    fn set(&self, counts: &Counts) {
        for status in types::Status::ALL {
            let count = i64::try_from(counts.of(status)).unwrap_or(i64::MAX);
            self.by_status.get_or_create(&StatusLabels { status: status.name() }).set(count);
        }
    }
}

/// What networks refuse, and fail to give. Of runs it is counted here, of sessions by whoever keeps them.
#[derive(Default)]
struct Networks {
    denied: Family<DenialLabels, Counter>,
    errors: Counter,
    runs: Mutex<Refused>,
    sessions: Mutex<Refused>,
}

impl Networks {
    fn register(&self, to: &mut Registry) {
        let help = "Connections, queries and packets of programs that the network policy refused";
        to.register("network_denied", help, self.denied.clone());
        let help = "Stages and sessions that had no network though they were to have one";
        to.register("network_errors", help, self.errors.clone());
    }

    fn note(&self, flows: &[DeniedFlow], error: Option<&str>) {
        let mut runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        for flow in flows {
            let count = runs.flows.entry((flow.protocol, flow.reason)).or_default();
            *count = count.saturating_add(flow.count);
        }
        runs.errors += u64::from(error.is_some());
    }

    /// Brings what is told up to date.
    fn sum(&self) {
        let runs = self.runs.lock().unwrap_or_else(PoisonError::into_inner);
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: BTreeMap<(Protocol, DenialReason), u64> = runs.flows.clone();
        for (flow, count) in &sessions.flows {
            let sum = all.entry(*flow).or_default();
            *sum = sum.saturating_add(*count);
        }
        for ((protocol, reason), count) in all {
            let labels = DenialLabels { protocol: word(protocol), reason: word(reason) };
            self.denied.get_or_create(&labels).inner().store(count, Ordering::Relaxed);
        }
        self.errors.inner().store(runs.errors + sessions.errors, Ordering::Relaxed);
    }
}

/// What keeps results of compile stages, or of installers.
#[derive(Default)]
struct Cache {
    hits: Counter,
    misses: Counter,
    stores: Counter,
    evictions: Counter,
    errors: Counter,
    bytes: Gauge,
    entries: Gauge,
}

impl Cache {
    fn register(&self, prefix: &str, to: &mut Registry) {
        let to = to.sub_registry_with_prefix(prefix);
        to.register("hits", "Stages whose result was there", self.hits.clone());
        to.register("misses", "Stages that had to run, as their result was not there", self.misses.clone());
        to.register("stores", "Results that were kept", self.stores.clone());
        to.register("evictions", "Results that had to go for others", self.evictions.clone());
        let help = "Results that could not be read, were not as they were written, or could not be kept";
        to.register("errors", help, self.errors.clone());
        to.register("bytes", "Bytes of all results, in whole blocks", self.bytes.clone());
        to.register("entries", "Results that are kept", self.entries.clone());
    }

    fn set(&self, stats: &CacheStats) {
        let counters = [
            (&self.hits, stats.hits),
            (&self.misses, stats.misses),
            (&self.stores, stats.stores),
            (&self.evictions, stats.evictions),
            (&self.errors, stats.errors),
        ];
        for (counter, value) in counters {
            counter.inner().store(value, Ordering::Relaxed);
        }
        for (gauge, value) in [(&self.bytes, stats.bytes), (&self.entries, stats.entries)] {
            gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        }
    }
}

impl Metrics {
    /// Nothing counted yet.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("codesandbox"),
            runs: Family::default(),
            refusals: Family::default(),
            faults: Family::default(),
            hung_up: Counter::default(),
            wall: Family::new_with_constructor(histogram),
            overhead: Family::new_with_constructor(histogram),
            installs: Family::new_with_constructor(histogram),
            waiting: histogram(),
            received_bytes: Counter::default(),
            output_bytes: Counter::default(),
            queued: Gauge::default(),
            running: Gauge::default(),
            slots: Gauge::default(),
            available: Gauge::default(),
            client_queued: Family::default(),
            client_running: Family::default(),
            client_started: Family::default(),
            compile_cache: Cache::default(),
            package_cache: Cache::default(),
            sessions: Sessions::default(),
            network: Networks::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register("runs", "Runs that came to an end, by runtime and status", self.runs.clone());
        to.register("refusals", "Requests whose client must change something", self.refusals.clone());
        to.register("faults", "Requests that the service failed", self.faults.clone());
        to.register("hung_up", "Runs whose client closed the connection", self.hung_up.clone());
        let seconds = || Unit::Seconds;
        to.register_with_unit("wall", "Time of both stages by the clock", seconds(), self.wall.clone());
        let help = "Time from a request's arrival to its outcome, less the time of all stages by the clock, by runtime and \
                    by how the sandbox was come by: warm, parked or cold";
        to.register_with_unit("overhead", help, seconds(), self.overhead.clone());
        let help = "Time of installers by the clock, by what they install and how it ended";
        to.register_with_unit("install", help, seconds(), self.installs.clone());
        to.register_with_unit("queue_wait", "Time in the queue", seconds(), self.waiting.clone());
        let bytes = || Unit::Bytes;
        to.register_with_unit("received", "Bytes of requests", bytes(), self.received_bytes.clone());
        to.register_with_unit(
            "output",
            "Bytes that programs printed or left in files",
            bytes(),
            self.output_bytes.clone(),
        );
        to.register("queue_jobs", "Jobs that wait", self.queued.clone());
        to.register("running_jobs", "Jobs that run", self.running.clone());
        to.register("slots", "Most jobs that run at one time", self.slots.clone());
        to.register("launcher_available", "Whether the launcher answers", self.available.clone());
        let help = "Jobs that wait, by client: its name, or the id of a user in none";
        to.register("client_queue_jobs", help, self.client_queued.clone());
        to.register("client_running_jobs", "Jobs that run, by client", self.client_running.clone());
        to.register("client_started_jobs", "Jobs that have left the queue, by client", self.client_started.clone());
        self.compile_cache.register("compile_cache", to);
        self.package_cache.register("package_cache", to);
        self.sessions.register(to);
        self.network.register(to);
    }

    /// A request was refused or failed.
    pub fn problem(&self, kind: Kind) {
        let family = if kind.is_refusal() { &self.refusals } else { &self.faults };
        family.get_or_create(&ReasonLabels { reason: kind.name() }).inc();
    }

    /// A request has come whole.
    pub fn received(&self, bytes: usize) {
        self.received_bytes.inc_by(bytes as u64);
    }

    /// A job has left the queue.
    pub fn started(&self, waited: Duration) {
        self.waiting.observe(waited.as_secs_f64());
    }

    /// A prepare stage is over. Returns the time that its installer took: none where nothing had to be installed.
    pub fn prepared(&self, ecosystem: Ecosystem, stage: &StageResult) -> Duration {
        if stage.cached {
            return Duration::ZERO;
        }
        self.network.note(&stage.flows, stage.network_error.as_deref());
        let wall = Duration::from_micros(stage.usage.wall_time_us);
        let labels = InstallLabels { ecosystem: ecosystem.name(), status: word(stage.status) };
        self.installs.get_or_create(&labels).observe(wall.as_secs_f64());
        wall
    }

    /// A job is over; `total` is the time since its request came, without that of its installer.
    pub fn finished(&self, runtime: &RuntimeUsed, outcome: &Outcome, total: Duration) {
        let labels = RunLabels {
            language: runtime.language.clone(),
            version: runtime.version.clone().unwrap_or_default(),
            status: word(outcome.status()),
        };
        self.runs.get_or_create(&labels).inc();
        // A stage that is cached took no time of this job.
        let stages = || outcome.compile.iter().filter(|stage| !stage.cached).chain(&outcome.run);
        for stage in stages() {
            self.network.note(&stage.flows, stage.network_error.as_deref());
        }
        let wall = Duration::from_micros(stages().map(|stage| stage.usage.wall_time_us).sum());
        let language = LanguageLabels { language: runtime.language.clone() };
        self.wall.get_or_create(&language).observe(wall.as_secs_f64());
        let labels = OverheadLabels {
            language: runtime.language.clone(),
            version: runtime.version.clone().unwrap_or_default(),
            path: outcome.path.name(),
        };
        self.overhead.get_or_create(&labels).observe(total.saturating_sub(wall).as_secs_f64());
        let printed: usize = stages().map(|stage| stage.stdout.len() + stage.stderr.len()).sum();
        let files: usize = outcome.files.iter().map(|file| file.content.len()).sum();
        self.output_bytes.inc_by((printed + files) as u64);
    }

    /// A client closed the connection before its job was over.
    pub fn hung_up(&self) {
        self.hung_up.inc();
    }

    /// A program was started in a session.
    pub fn exec_started(&self) {
        self.sessions.execs.inc();
    }

    /// A snapshot was made of a session.
    pub fn snapshot_made(&self) {
        self.sessions.snapshots.inc();
    }

    /// Bytes of files were sent into a session.
    pub fn files_received(&self, bytes: usize) {
        self.sessions.files_received_bytes.inc_by(bytes as u64);
    }

    /// Bytes of files were fetched from a session.
    pub fn files_sent(&self, bytes: usize) {
        self.sessions.files_sent_bytes.inc_by(bytes as u64);
    }

    /// Takes note of how many sessions there are, for the next text.
    pub fn count_sessions(&self, counts: &Counts) {
        self.sessions.set(counts);
    }

    /// Takes note of what was refused to sessions, for the next text.
    pub fn count_refused(&self, refused: Refused) {
        *self.network.sessions.lock().unwrap_or_else(PoisonError::into_inner) = refused;
    }

    /// Everything, in the text form of OpenMetrics; loads and availability are those of this moment.
    ///
    /// # Errors
    /// The text could not be written, which a `String` never brings about.
    pub fn text(
        &self,
        load: &Load,
        clients: &[ClientLoad],
        [compile_cache, package_cache]: [&CacheStats; 2],
        available: bool,
    ) -> Result<String, fmt::Error> {
        self.compile_cache.set(compile_cache);
        self.package_cache.set(package_cache);
        self.network.sum();
        let count = |jobs: usize| i64::try_from(jobs).unwrap_or(i64::MAX);
        self.queued.set(count(load.queued));
        self.running.set(count(load.running));
        self.slots.set(count(load.slots));
        self.available.set(i64::from(available));
        // Told anew each time, so that nothing stays of a client that is gone.
        self.client_queued.clear();
        self.client_running.clear();
        self.client_started.clear();
        for ClientLoad { client, queued, running, started } in clients {
            let labels = ClientLabels { client: client.to_string() };
            self.client_queued.get_or_create(&labels).set(count(*queued));
            self.client_running.get_or_create(&labels).set(count(*running));
            self.client_started.get_or_create(&labels).inc_by(*started);
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

fn histogram() -> Histogram {
    Histogram::new(SECONDS)
}

/// A word as answers spell it.
fn word(word: impl Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(serde_json::Value::String(word)) => word,
        other => unreachable!("words are written as strings, not as {other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_told() {
        let metrics = Metrics::new();
        let about = crate::api::answer::tests::about();
        let outcome = crate::api::answer::tests::outcome(about.limits);
        metrics.finished(&about.runtime, &outcome, Duration::from_millis(12));
        metrics.problem(Kind::QueueFull);
        metrics.problem(Kind::Internal);
        metrics.received(7);
        metrics.exec_started();
        metrics.snapshot_made();
        metrics.files_received(3);
        metrics.files_sent(4);
        let flow = (Protocol::Dns, DenialReason::NotListed);
        metrics.count_refused(Refused { flows: BTreeMap::from([(flow, 4)]), errors: 1 });
        metrics.count_sessions(&Counts { active: 2, stopped: 1, ..Counts::default() });
        let clients = [ClientLoad { client: "judges".into(), queued: 3, running: 2, started: 9 }];
        let load = Load { queued: 3, running: 2, slots: 4 };
        let cache = CacheStats { hits: 5, errors: 1, entries: 7, bytes: 8192, ..CacheStats::default() };
        let packages = CacheStats { hits: 6, ..CacheStats::default() };
        metrics.text(&load, &clients, [&CacheStats::default(); 2], true).unwrap();
        let text = metrics.text(&load, &clients, [&cache, &packages], true).unwrap();
        for line in [
            r#"codesandbox_runs_total{language="python",version="3.12.4",status="signalled"} 1"#,
            r#"codesandbox_refusals_total{reason="queue-full"} 1"#,
            r#"codesandbox_faults_total{reason="internal"} 1"#,
            "codesandbox_received_bytes_total 7",
            "codesandbox_output_bytes_total 6",
            "codesandbox_queue_jobs 3",
            "codesandbox_running_jobs 2",
            "codesandbox_launcher_available 1",
            r#"codesandbox_client_queue_jobs{client="judges"} 3"#,
            r#"codesandbox_client_running_jobs{client="judges"} 2"#,
            r#"codesandbox_client_started_jobs_total{client="judges"} 9"#,
            r#"codesandbox_sessions{status="active"} 2"#,
            r#"codesandbox_sessions{status="paused"} 0"#,
            r#"codesandbox_sessions{status="stopped"} 1"#,
            r#"codesandbox_network_denied_total{protocol="dns",reason="not_listed"} 7"#,
            "codesandbox_network_errors_total 2",
            "codesandbox_session_execs_total 1",
            "codesandbox_session_snapshots_total 1",
            "codesandbox_session_files_received_bytes_total 3",
            "codesandbox_session_files_sent_bytes_total 4",
            "codesandbox_compile_cache_hits_total 5",
            "codesandbox_package_cache_hits_total 6",
            "codesandbox_compile_cache_misses_total 0",
            "codesandbox_compile_cache_stores_total 0",
            "codesandbox_compile_cache_evictions_total 0",
            "codesandbox_compile_cache_errors_total 1",
            "codesandbox_compile_cache_bytes 8192",
            "codesandbox_compile_cache_entries 7",
            r#"codesandbox_overhead_seconds_bucket{le="0.001",language="python",version="3.12.4",path="warm"} 1"#,
        ] {
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_compile_stage_that_is_cached_took_no_time_of_its_job() {
        for (cached, line) in [
            (false, r#"codesandbox_wall_seconds_sum{language="python"} 5.0112"#),
            (true, r#"codesandbox_wall_seconds_sum{language="python"} 0.0112"#),
        ] {
            let metrics = Metrics::new();
            let about = crate::api::answer::tests::about();
            let mut outcome = crate::api::answer::tests::outcome(about.limits);
            let mut compile = outcome.run.clone().unwrap();
            compile.usage.wall_time_us = 5_000_000;
            outcome.compile = Some(crate::job::StageResult { cached, ..compile });
            metrics.finished(&about.runtime, &outcome, Duration::from_secs(6));
            let load = Load { queued: 0, running: 0, slots: 1 };
            let text = metrics.text(&load, &[], [&CacheStats::default(); 2], true).unwrap();
            assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
        }
    }
}
