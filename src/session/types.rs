//! What is said of sessions: plain data between those who ask for them and the manager.

use std::collections::BTreeMap;

use hyper::body::Bytes;

use super::files::FilesError;
use crate::job::{self, Denial, DeniedFlow, Usage};
use crate::plan::tree::TreeAt;
use crate::profile::{LimitChanges, Limits, Network};

pub use super::record::SessionId;
pub use super::state::Status;

/// What a client asks for, checked against the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewSession {
    /// Ids of its runtimes; the first is the default. Never empty, none twice.
    pub runtimes: Vec<String>,
    /// Name of its profile.
    pub profile: String,
    /// Limits of the session as a whole, and of each program where that changes none.
    pub limits: Limits,
    /// The complete environment of its programs.
    pub env: BTreeMap<String, String>,
    /// What the client calls it by.
    pub labels: BTreeMap<String, String>,
    /// Time without use after which it is stopped, or gone where it is not persistent; in milliseconds.
    pub idle_timeout_ms: u64,
    /// Time from its creation, or from when this was last changed, after which it is gone; in milliseconds.
    pub lifetime_ms: u64,
    /// Whether its files outlive its sandbox.
    pub persistent: bool,
    /// What its programs can reach, where that is less than its profile allows; else it is as the profile has it.
    pub network: Option<Network>,
    /// What was installed for it.
    pub trees: Vec<TreeAt>,
}

/// The network of a session as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkView {
    /// What its programs can reach.
    pub network: Network,
    /// What was refused lately.
    pub denied: Vec<DeniedFlow>,
    /// Why it has no network though it is to have one; absent where it has what it is to have.
    pub error: Option<String>,
}

/// A session as it is now. Times are Unix times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Names it.
    pub id: SessionId,
    /// What it is doing.
    pub status: Status,
    /// Whether its files outlive its sandbox.
    pub persistent: bool,
    /// Ids of its runtimes; the first is the default.
    pub runtimes: Vec<String>,
    /// Name of its profile.
    pub profile: String,
    /// Limits of the session as a whole.
    pub limits: Limits,
    /// The complete environment of its programs.
    pub env: BTreeMap<String, String>,
    /// What the client calls it by.
    pub labels: BTreeMap<String, String>,
    /// When it was created.
    pub created_at_ms: u64,
    /// When it was last used.
    pub last_used_ms: u64,
    /// When its lifetime is over.
    pub expires_at_ms: u64,
    /// Time without use after which it is stopped or gone, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Its lifetime, in milliseconds.
    pub lifetime_ms: u64,
    /// How often it came back with its files after its sandbox had been lost.
    pub restarts: u32,
    /// Programs that run in it.
    pub execs_running: usize,
    /// What its files take; absent while nothing of it is in memory.
    pub disk: Option<Disk>,
    /// Processors that are its own, where it was promoted.
    pub cpus: Option<Vec<u32>>,
}

/// What the files of a session take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Disk {
    /// Bytes that are taken.
    pub used_bytes: u64,
    /// Most bytes.
    pub limit_bytes: u64,
    /// Files, directories and links that there are.
    pub used_files: u64,
    /// Most of them.
    pub limit_files: u64,
}

/// Which sessions of a client to list, in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filter {
    /// Labels that each of them has, with these values.
    pub labels: BTreeMap<String, String>,
    /// What each of them is doing.
    pub status: Option<Status>,
    /// Most of them.
    pub limit: usize,
    /// Those behind this one, which need not live any more.
    pub after: Option<SessionId>,
}

/// What to change about a session; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Update {
    /// All labels anew.
    pub labels: Option<BTreeMap<String, String>>,
    /// Time without use after which it is stopped or gone, in milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// Its lifetime from now on, in milliseconds.
    pub lifetime_ms: Option<u64>,
}

/// In what a fork differs from its origin; what is absent is as there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fork {
    /// All labels.
    pub labels: Option<BTreeMap<String, String>>,
    /// Time without use after which it is stopped or gone, in milliseconds.
    pub idle_timeout_ms: Option<u64>,
    /// Its lifetime, in milliseconds.
    pub lifetime_ms: Option<u64>,
    /// Whether its files outlive its sandbox.
    pub persistent: Option<bool>,
}

/// How many sessions there are, of all clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Those that are active.
    pub active: usize,
    /// Those that are paused.
    pub paused: usize,
    /// Those that are stopped.
    pub stopped: usize,
    /// Those that are being taken down.
    pub ending: usize,
}

impl Counts {
    /// Those of one status.
    #[must_use]
    pub fn of(&self, status: Status) -> usize {
        match status {
            Status::Active => self.active,
            Status::Paused => self.paused,
            Status::Stopped => self.stopped,
            Status::Ending => self.ending,
        }
    }
}

/// A program to run in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewExec {
    /// Arguments, the program first: a path, since nothing searches for it. Never empty.
    pub argv: Vec<String>,
    /// Variables on top of the session's.
    pub env: BTreeMap<String, String>,
    /// Where it runs, below `/workspace`; empty for that itself.
    pub directory: String,
    /// What is first on its standard input.
    pub stdin: Vec<u8>,
    /// Whether its standard input stays open behind that.
    pub keep_stdin: bool,
    /// Limits that differ from the session's.
    pub limits: LimitChanges,
    /// Size of its terminal, where it has one.
    pub terminal: Option<Size>,
    /// Whether it goes on when whoever started it hangs up.
    pub detached: bool,
}

/// Size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Its lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// A program of a session as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecView {
    /// Names it within its session.
    pub id: u64,
    /// Its arguments.
    pub argv: Vec<String>,
    /// When it was started, as Unix time in milliseconds.
    pub started_at_ms: u64,
    /// Whether it goes on when whoever started it hangs up.
    pub detached: bool,
    /// Size of its terminal, where it has one.
    pub terminal: Option<Size>,
    /// What is kept of its standard output, or of its terminal.
    pub stdout: Range,
    /// What is kept of its standard error; absent where it has a terminal.
    pub stderr: Option<Range>,
    /// What became of it; absent while it runs.
    pub result: Option<ExecResult>,
}

/// What is kept of a stream, by sequence numbers: each byte's number is how many came before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// The first byte that is kept.
    pub first: u64,
    /// The byte that comes next.
    pub next: u64,
}

/// What became of a program of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecResult {
    /// Why it ended.
    pub status: job::Status,
    /// Status that it exited with.
    pub exit_code: Option<i32>,
    /// Signal that ended it.
    pub signal: Option<i32>,
    /// The status in words, with the limit; absent where it is `ok`.
    pub reason: Option<String>,
    /// System calls that were refused.
    pub denied: Vec<Denial>,
    /// Connections, queries and packets that the network policy refused to the session while it ran.
    pub flows: Vec<DeniedFlow>,
    /// Why it had no network though it was to have one; absent where it had what it was to have.
    pub network_error: Option<String>,
    /// What it used.
    pub usage: Usage,
}

/// Which of a program's streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output, or the terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// From where to follow a program's output; where a number is absent, from the first byte that is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct From {
    /// Sequence number in standard output.
    pub stdout: Option<u64>,
    /// Sequence number in standard error.
    pub stderr: Option<u64>,
    /// Whether to wait for what is not printed yet.
    pub follow: bool,
}

/// What happens to a program that is followed, in order within each stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// It printed something.
    Output {
        /// Where.
        stream: Stream,
        /// Sequence number of the first byte.
        sequence: u64,
        /// What; never empty.
        bytes: Bytes,
    },
    /// Bytes are not kept any more.
    Gap {
        /// Of which stream.
        stream: Stream,
        /// The first that is lost.
        from: u64,
        /// The first that is kept again.
        to: u64,
    },
    /// The network policy refused these to the session; each of them is told once.
    Denied(Vec<DeniedFlow>),
    /// It has ended, and all that it printed has been told; nothing follows.
    Finished(Box<ExecResult>),
    /// All that there is has been told, and nobody wants to wait for more; nothing follows.
    End,
}

/// A snapshot of a session's files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotView {
    /// Names it within its session.
    pub id: u64,
    /// What the client calls it.
    pub label: Option<String>,
    /// When it was made, as Unix time in milliseconds.
    pub created_at_ms: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files, directories and links.
    pub files: u64,
}

/// What a context is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContextState {
    /// Its interpreter is being started.
    Starting,
    /// It waits for code.
    Idle,
    /// It executes code.
    Busy,
    /// Its interpreter has ended; the next code starts another.
    Dead,
}

impl ContextState {
    /// Its name in answers.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Idle => "idle",
            Self::Busy => "busy",
            Self::Dead => "dead",
        }
    }
}

/// An interpreter that keeps its variables from one piece of code to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextView {
    /// Names it within its session.
    pub id: u64,
    /// Its language.
    pub language: String,
    /// What it is doing.
    pub state: ContextState,
    /// Pieces of code that it was given since it was last started.
    pub executions: u64,
    /// When it was made, as Unix time in milliseconds.
    pub created_at_ms: u64,
}

/// Why something was not done.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// No such session lives, or it is somebody else's: nobody is told which.
    #[error("there is no such session")]
    Unknown,
    /// The session has no such program.
    #[error("there is no such program in the session")]
    UnknownExec,
    /// The session has no such snapshot.
    #[error("there is no such snapshot of the session")]
    UnknownSnapshot,
    /// The session has no such context.
    #[error("there is no such context in the session")]
    UnknownContext,
    /// There are as many as may be.
    #[error("there are as many {what} as may be: {most}, by {key}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        most: usize,
        /// Key of the configuration that says so.
        key: String,
    },
    /// It cannot be done with the session as it is.
    #[error("{0}")]
    Refused(String),
    /// The program has ended.
    #[error("the program has ended")]
    Finished,
    /// The program has no terminal.
    #[error("the program has no terminal")]
    NotTerminal,
    /// What was asked for is not allowed.
    #[error("{field}: {reason}")]
    Invalid {
        /// Which field of the request.
        field: String,
        /// Why.
        reason: String,
    },
    /// The session's disk is full.
    #[error("the session's disk is full")]
    DiskFull,
    /// A file operation did not succeed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// Nobody listens at this port.
    #[error("nobody listens at port {0}")]
    PortClosed(u16),
    /// There is no launcher.
    #[error("there is no launcher")]
    Unavailable,
    /// The service stops.
    #[error("the service stops")]
    Stopping,
    /// The sandbox broke.
    #[error("the sandbox broke: {0}")]
    Lost(String),
    /// The service failed.
    #[error("{0}")]
    Internal(String),
}
