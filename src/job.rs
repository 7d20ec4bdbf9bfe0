//! Jobs and what becomes of them: the request after it was checked, and the outcome with its
//! verdicts. No I/O; [`verdict`] alone decides why a stage is said to have ended.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::tree::TreeAt;
use crate::plan::{ArchivedFile, Cause, Step};
use crate::profile::{Limits, Network, Policy};

mod install;
pub mod text;
mod verdict;

pub use install::Install;
pub use verdict::{signal_name, verdict};

/// One run of one program, checked and complete.
#[derive(Debug, Clone)]
pub struct Job {
    /// Names the job in answers, events and the journal.
    pub id: JobId,
    /// Id of the runtime.
    pub runtime: String,
    /// Name of the profile.
    pub profile: String,
    /// What is installed for it first.
    pub install: Option<Arc<Install>>,
    /// Whether that is all that is wanted of it.
    pub only_installs: bool,
    /// How to compile, for languages that are compiled.
    pub compile: Option<StageRequest>,
    /// How to run.
    pub run: StageRequest,
    /// Source and data files, written into `/workspace` before the first stage.
    pub files: Vec<ArchivedFile>,
    /// Bytes on standard input of the run stage.
    pub stdin: Arc<Vec<u8>>,
    /// Patterns of files to hand out; empty for none.
    pub outputs: Vec<String>,
    /// What its compile stage rests on; absent where its result is neither to be kept nor to be taken
    /// from what was kept.
    pub basis: Option<Basis>,
    /// Whether an interpreter that has started already can run it: the command line is the language's
    /// own, and neither limits nor variables are such that it would have started otherwise.
    pub warm: bool,
    /// Whether its sandbox must be made for it alone.
    pub fresh: bool,
    /// What both of its stages can reach, where that is less than its profile allows; else it is as the profile
    /// has it.
    pub network: Option<Network>,
}

/// What decides, besides what the job itself says, what its compile stage makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Basis {
    /// What a program under its profile meets.
    pub policy: Policy,
    /// What compiles it.
    pub toolchain: Toolchain,
}

/// What tells one state of a runtime's files from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolchain {
    /// Paths whose content never changes: those of a closure.
    pub closure: Vec<PathBuf>,
    /// Directory that is the root of the others; `/` where they are the host's.
    pub root: PathBuf,
    /// Files below it that are replaced when the runtime is.
    pub replaced: Vec<PathBuf>,
}

/// Name of a job: a random UUID.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId(String);

impl JobId {
    /// A name that no other job has.
    #[must_use]
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().to_string())
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One stage of a job, with placeholders filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageRequest {
    /// Arguments, the program first.
    pub argv: Vec<String>,
    /// All variables of the environment.
    pub env: BTreeMap<String, String>,
    /// Its limits.
    pub limits: Limits,
}

/// Stages of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Installs packages.
    Prepare,
    /// Makes the program out of the sources.
    Compile,
    /// Runs the program.
    Run,
}

/// Why a stage ended, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// It exited with status 0.
    Ok,
    /// It exited with another status.
    NonzeroExit,
    /// A signal ended it.
    Signalled,
    /// It took more time by the clock than its limit.
    WallTimeExceeded,
    /// It took more processor time than its limit.
    CpuTimeExceeded,
    /// It took more memory than its limit.
    MemoryExceeded,
    /// It wrote more to standard output or standard error than its limit.
    OutputExceeded,
    /// It wanted more processes and threads than its limit.
    ProcessesExceeded,
    /// It wanted a larger file than its limit.
    FileSizeExceeded,
    /// It filled its disk.
    DiskExceeded,
    /// It made a system call that is refused, and ended because of it.
    SyscallDenied,
    /// It was cancelled.
    Cancelled,
    /// Of a whole job: its compile stage did not end well, so there was nothing to run.
    CompileFailed,
    /// Of a whole job: what it needs could not be installed, so nothing of it ran.
    PrepareFailed,
}

/// Which mechanism holds the limits on this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum EnforcedBy {
    /// A cgroup v2 leaf for each sandbox.
    Cgroup2,
    /// Resource limits of the processes, and a sampler that adds up what they use.
    Rlimit,
}

/// How a job came by its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Path {
    /// It waited, and the interpreter in it had started.
    Warm,
    /// It waited, complete.
    Parked,
    /// It was made for this job.
    Cold,
}

impl Path {
    /// Its name in answers, metrics and the journal.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Parked => "parked",
            Self::Cold => "cold",
        }
    }
}

/// What a stage used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Time by the clock, in microseconds.
    pub wall_time_us: u64,
    /// Processor time of all processes, in microseconds.
    pub cpu_time_us: u64,
    /// Most memory at one time, in bytes.
    pub memory_peak_bytes: u64,
    /// Most processes and threads at one time.
    pub processes_peak: u64,
    /// Bytes read from disks; absent where nothing counts them.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; absent where nothing counts them.
    pub written_bytes: Option<u64>,
}

/// A system call that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Denial {
    /// Name of the call, such as `socket`.
    pub syscall: String,
    /// What about it was refused, such as `AF_INET`; null where the call itself is.
    pub argument: Option<String>,
    /// How often.
    pub count: u64,
}

impl fmt::Display for Denial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.argument {
            Some(argument) => write!(f, "{}({argument})", self.syscall),
            None => f.write_str(&self.syscall),
        }
    }
}

/// A connection, a query or a packet that the network policy refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
pub struct DeniedFlow {
    /// The name that was asked for, where there was one.
    pub name: Option<String>,
    /// The address, where it came to that.
    #[schema(value_type = Option<String>)]
    pub address: Option<IpAddr>,
    /// The port, where there is one.
    pub port: Option<u16>,
    /// What it spoke.
    pub protocol: Protocol,
    /// Why it was refused.
    pub reason: DenialReason,
    /// How often.
    pub count: u64,
}

/// What a refused flow spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// A query to the resolver.
    Dns,
    /// TCP.
    Tcp,
    /// UDP, which is never carried; QUIC is one that speaks it.
    Udp,
    /// ICMP of either version.
    Icmp,
    /// A request to the HTTP proxy.
    Proxy,
    /// Any other.
    Other,
}

/// Why a flow was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenialReason {
    /// No entry of the list names it.
    NotListed,
    /// It is, or leads to, an address that is private, reserved or the host's own.
    Private,
    /// An entry names it, but not that port.
    Port,
    /// A bound on connections or bytes was met.
    Bound,
    /// It could not be carried: the name server or the way out does not work.
    Unreachable,
    /// A host for which the sandbox has a secret does not prove by its certificate that it is that host.
    Certificate,
    /// A request to a host for which the sandbox has a secret names another host, or none.
    Misdirected,
}

/// Most room that the refused flows of one stage take in a message, in bytes.
const FLOWS_BYTES: usize = 8 << 10;

impl DeniedFlow {
    /// Adds what was refused now to what was refused before: what is the same is counted together, and what finds
    /// no room is left out.
    pub fn gather(all: &mut Vec<Self>, new: impl IntoIterator<Item = Self>) {
        // What every one takes besides its name, generously.
        let size = |flow: &Self| 40 + flow.name.as_ref().map_or(0, String::len);
        let mut room = FLOWS_BYTES.saturating_sub(all.iter().map(size).sum());
        for flow in new {
            let alike = |known: &&mut Self| Self { count: flow.count, ..(**known).clone() } == flow;
            if let Some(known) = all.iter_mut().find(alike) {
                known.count = known.count.saturating_add(flow.count);
            } else if size(&flow) <= room {
                room -= size(&flow);
                all.push(flow);
            }
        }
    }
}

impl fmt::Display for DeniedFlow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.name, self.address) {
            (Some(name), _) => f.write_str(name)?,
            (None, Some(IpAddr::V6(address))) if self.port.is_some() => write!(f, "[{address}]")?,
            (None, Some(address)) => write!(f, "{address}")?,
            (None, None) => f.write_str("an unknown host")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        write!(f, " ({})", self.reason.text(self.protocol))
    }
}

impl DenialReason {
    /// The reason in a few words.
    #[must_use]
    pub fn text(self, protocol: Protocol) -> &'static str {
        match (self, protocol) {
            (Self::NotListed, Protocol::Udp) => "UDP is not carried",
            (Self::NotListed, Protocol::Icmp) => "ICMP is not carried",
            (Self::NotListed, _) => "not listed",
            (Self::Private, _) => "a private or reserved address",
            (Self::Port, _) => "not at this port",
            (Self::Bound, _) => "a bound was met",
            (Self::Unreachable, _) => "unreachable",
            (Self::Certificate, _) => "its certificate is not valid",
            (Self::Misdirected, _) => "a request that names another host",
        }
    }
}

/// All that is known of the end of a stage; [`verdict`] makes a status of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// How the main process ended.
    pub exit: Exit,
    /// Why we ended it, if we did.
    pub killed_for: Option<Cause>,
    /// Whether the kernel's out-of-memory killer struck in the sandbox.
    pub out_of_memory: bool,
    /// Whether the limit of processes was met.
    pub processes_refused: bool,
    /// Whether a file stood at the limit of file size at the end.
    pub file_at_limit: bool,
    /// Whether the disk was full at the end.
    pub disk_full: bool,
    /// System calls that were refused.
    pub denied: Vec<Denial>,
    /// What the network policy refused while it ran.
    pub flows: Vec<DeniedFlow>,
    /// Why it had no network though it was to have one; absent where it had what it was to have.
    pub network_error: Option<String>,
    /// What it used.
    pub usage: Usage,
    /// When its first instruction was due, by the monotonic clock in microseconds.
    pub started_us: u64,
    /// When the main process was seen to be dead, by the same clock.
    pub ended_us: u64,
}

/// How the main process of a stage ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Exit {
    /// It exited with this status.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It never started: this step of its start failed with this errno.
    NotStarted(Step, i32),
}

/// What became of one stage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StageResult {
    /// Why it ended.
    pub status: Status,
    /// Status that it exited with.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// The status in words, with the limit.
    pub reason: Option<String>,
    /// What it printed, as far as its limit.
    pub stdout: Vec<u8>,
    /// What it printed on standard error, as far as its limit.
    pub stderr: Vec<u8>,
    /// What it used.
    pub usage: Usage,
    /// System calls that were refused.
    pub denied: Vec<Denial>,
    /// Connections, queries and packets that its network policy refused.
    pub flows: Vec<DeniedFlow>,
    /// Why it had no network though it was to have one; absent where it had what it was to have.
    pub network_error: Option<String>,
    /// The limits that it ran under.
    pub limits: Limits,
    /// Whether it did not run for this job: what it made for an earlier one was there.
    pub cached: bool,
}

/// What became of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The prepare stage, where something was to be installed.
    pub prepare: Option<StageResult>,
    /// What was installed.
    pub trees: Vec<TreeAt>,
    /// The compile stage, for languages that are compiled.
    pub compile: Option<StageResult>,
    /// The run stage; absent where a stage before it failed.
    pub run: Option<StageResult>,
    /// Files that the patterns matched.
    pub files: Vec<OutputFile>,
    /// Files that matched and are left out, and why.
    pub omitted: Vec<OmittedFile>,
    /// What held the limits.
    pub enforced_by: EnforcedBy,
    /// How it came by its sandbox.
    pub path: Path,
    /// How often it was begun anew because a sandbox was lost before its program had begun.
    pub retries: u32,
    /// The sandbox's own share of its time.
    pub overhead: Overhead,
}

/// Time of a job that is the sandbox's, not the program's, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Overhead {
    /// In the queue, and until it was known whether a stage must run: an equal job may be at it.
    pub queue_us: u64,
    /// From there to the moment at which everything is at hand that the program needs, of all stages.
    pub prepare_us: u64,
    /// From there to the program's first instruction.
    pub start_us: u64,
    /// From its end to the answer.
    pub collect_us: u64,
}

impl Overhead {
    /// All of it.
    #[must_use]
    pub fn total_us(&self) -> u64 {
        self.queue_us + self.prepare_us + self.start_us + self.collect_us
    }
}

impl Outcome {
    /// Status of the whole job.
    #[must_use]
    pub fn status(&self) -> Status {
        match (&self.run, &self.compile) {
            (Some(run), _) => run.status,
            (None, Some(_)) => Status::CompileFailed,
            (None, None) if self.trees.is_empty() => Status::PrepareFailed,
            // Nothing else was wanted of it.
            (None, None) => Status::Ok,
        }
    }
}

/// A file that the program left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputFile {
    /// Path below `/workspace`, byte for byte.
    pub path: Vec<u8>,
    /// Its bytes.
    pub content: Vec<u8>,
    /// Whether it may be executed.
    pub executable: bool,
}

/// A file that matched a pattern and is not handed out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OmittedFile {
    /// Path below `/workspace`, byte for byte.
    pub path: Vec<u8>,
    /// Why.
    pub reason: String,
}

/// What happens to a job, in order; the last is [`Event::Finished`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It has left the queue.
    Started,
    /// A stage begins.
    Stage(Stage),
    /// A stage begins, and does not run: what it made for an earlier job is there.
    Cached(Stage),
    /// The program wrote to standard output.
    Stdout(Vec<u8>),
    /// The program wrote to standard error.
    Stderr(Vec<u8>),
    /// The network policy refused these; each of them is told once.
    Denied(Vec<DeniedFlow>),
    /// It is over.
    Finished(Box<Outcome>),
}
