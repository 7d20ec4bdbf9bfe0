//! The JSON of sessions, as types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::api::dependencies::Dependencies;
use crate::api::fields;
use crate::api::problem::ProblemDetails;
use crate::api::wire::{Denied, Encoding, UsageResponse};
use crate::job::{DeniedFlow, Status};
use crate::profile::{LimitChanges, Limits, NetworkForm};

/// Body of `POST /v1/sessions`. A field that is null counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"runtime": "bash", "labels": {"job": "42"}}))]
pub struct SessionRequest {
    /// Language and version, as in `POST /v1/run`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    /// Several of them, in place of `runtime`; the first is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtimes: Option<Vec<String>>,
    /// Name of the profile; `session` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Limits that differ from those of the profile's run stage.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub limits: Option<LimitChanges>,
    /// Variables of every program's environment.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub env: Option<BTreeMap<String, String>>,
    /// What the client calls it by.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Time without use after which it is stopped, or gone where it is not persistent; in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Time after which it is gone, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// Whether its files outlive its sandbox; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
    /// What its programs can reach: no more than the profile allows; what that allows where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkForm>,
    /// Of the profile's secrets those that it is to have, by their variables; all whose hosts it reaches where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Packages that its programs find, installed in a sandbox of their own before the session is made.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub dependencies: Option<Dependencies>,
}

/// Body of `PATCH /v1/sessions/{id}`; what is absent stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionChanges {
    /// All labels anew.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Time without use after which it is stopped or gone, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Its lifetime from now on, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
}

/// Body of `POST /v1/sessions/{id}/fork`; what is absent is as in the origin.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ForkRequest {
    /// The snapshot to begin from; a new one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<u64>,
    /// All labels.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Time without use after which it is stopped or gone, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_ms: Option<u64>,
    /// Its lifetime, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lifetime_ms: Option<u64>,
    /// Whether its files outlive its sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistent: Option<bool>,
}

/// Body of `POST /v1/sessions/{id}/promote`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PromoteRequest {
    /// Processors that shall be its own; the service chooses where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Vec<u32>>,
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionResponse {
    /// Names it.
    pub id: String,
    /// `active`, `paused`, `stopped` or `ending`.
    pub status: String,
    /// Whether its files outlive its sandbox.
    pub persistent: bool,
    /// Ids of its runtimes; the first is the default.
    pub runtimes: Vec<String>,
    /// Name of its profile.
    pub profile: String,
    /// Limits of the session as a whole, and of each program where that changes none.
    pub limits: Limits,
    /// The complete environment of its programs.
    pub env: BTreeMap<String, String>,
    /// What the client calls it by.
    pub labels: BTreeMap<String, String>,
    /// When it was created; RFC 3339, UTC.
    pub created_at: String,
    /// When it was last used; RFC 3339, UTC.
    pub last_used_at: String,
    /// When its lifetime is over; RFC 3339, UTC.
    pub expires_at: String,
    /// Time without use after which it is stopped or gone, in milliseconds.
    pub idle_timeout_ms: u64,
    /// Its lifetime, in milliseconds.
    pub lifetime_ms: u64,
    /// How often it came back with its files after its sandbox had been lost.
    pub restarts: u32,
    /// Programs that run in it.
    pub execs_running: usize,
    /// What its files take; null while nothing of it is in memory.
    pub disk: Option<DiskResponse>,
    /// Processors that are its own; null where it was not promoted.
    pub cpus: Option<Vec<u32>>,
}

/// Body of `PUT /v1/sessions/{id}/network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// What the programs of the session can reach from now on: no more than its profile allows; what that allows
    /// where it is null or absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkForm>,
    /// Of the profile's secrets those that it is to have, by their variables; all whose hosts it reaches where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
}

/// Answer of `GET` and `PUT /v1/sessions/{id}/network`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NetworkResponse {
    /// What the programs of the session can reach.
    pub network: NetworkForm,
    /// What the network refused lately, the newest first.
    pub denied: Vec<DeniedFlow>,
    /// Why there is no network though there is to be one; null where there is what is to be.
    pub network_error: Option<String>,
}

/// What the files of a session take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskResponse {
    /// Bytes that are taken.
    pub used_bytes: u64,
    /// Most bytes.
    pub limit_bytes: u64,
    /// Files, directories and links that there are.
    pub used_files: u64,
    /// Most of them.
    pub limit_files: u64,
}

/// Answer of `GET /v1/sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionsResponse {
    /// The sessions, in the order of their ids.
    pub sessions: Vec<SessionResponse>,
    /// What to give as `after` for those that follow; null where none does.
    pub next: Option<String>,
}

/// Body of `POST /v1/sessions/{id}/execs`. Exactly one of `argv` and `shell` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"shell": "echo hello | tee greeting"}))]
pub struct ExecRequest {
    /// Arguments, the program first: a path, or a name that is searched for in `PATH`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argv: Option<Vec<String>>,
    /// A line for the shell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Variables on top of the session's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub env: Option<BTreeMap<String, String>>,
    /// Directory below `/workspace` that it runs in; `/workspace` itself where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<String>,
    /// Standard input, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The same as base64, in place of `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// Limits that differ from the session's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub limits: Option<LimitChanges>,
    /// Size of the terminal that it gets; pipes where absent.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub terminal: Option<SizeRequest>,
    /// Whether to answer at once, and have it go on by itself; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detach: Option<bool>,
    /// Whether its standard input stays open behind `stdin`; false where absent. A terminal's is always open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_stdin: Option<bool>,
}

/// Size of a terminal, in characters; from 1 to 1000 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SizeRequest {
    /// Its lines.
    pub rows: u16,
    /// Characters of a line.
    pub columns: u16,
}

/// Body of `POST …/signal`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignalRequest {
    /// Which one.
    pub signal: SignalName,
}

/// A signal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a signal must be a name or a number")]
pub enum SignalName {
    /// By number.
    Number(i64),
    /// By name, with or without `SIG`.
    Name(String),
}

/// A program of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecResponse {
    /// Names it within its session.
    pub id: u64,
    /// Its session.
    pub session: String,
    /// Its arguments.
    pub argv: Vec<String>,
    /// `running` or `finished`.
    pub state: String,
    /// When it was started; RFC 3339, UTC.
    pub started_at: String,
    /// Whether it goes on when whoever started it hangs up.
    pub detached: bool,
    /// Size of its terminal; null where it has none.
    pub terminal: Option<SizeRequest>,
    /// What is kept of its standard output, or of its terminal.
    pub stdout: KeptResponse,
    /// What is kept of its standard error; null where it has a terminal.
    pub stderr: Option<KeptResponse>,
    /// What became of it; null while it runs.
    pub result: Option<ExecResult>,
}

/// What is kept of a stream, by sequence numbers: each byte's number is how many came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KeptResponse {
    /// The first byte that is kept.
    pub first: u64,
    /// The byte that comes next.
    pub next: u64,
}

/// What became of a program of a session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecResult {
    /// Why it ended.
    pub status: Status,
    /// Status that it exited with; null where a signal ended it.
    pub exit_code: Option<i32>,
    /// Name of the signal that ended it, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// Name of the limit that it met; null where it met none.
    pub limit: Option<String>,
    /// The status in words, with the limit; null where it is `ok`.
    pub reason: Option<String>,
    /// System calls that were refused to it, whether or not it ended because of them, and what the network refused
    /// to its session while it ran: programs of one session share a network.
    pub denied: Vec<Denied>,
    /// Why it had no network though it was to have one; null where it had what it was to have.
    pub network_error: Option<String>,
    /// What it used.
    pub usage: UsageResponse,
    /// What it printed; absent in lists and in events.
    #[serde(flatten)]
    pub printed: Option<Printed>,
}

/// What a program printed, as far as it is kept and told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Printed {
    /// Standard output, or what the terminal showed.
    pub stdout: String,
    /// How `stdout` is written here.
    pub stdout_encoding: Encoding,
    /// Standard error.
    pub stderr: String,
    /// How `stderr` is written here.
    pub stderr_encoding: Encoding,
    /// Whether bytes are missing: lost, or more than is told in one answer.
    pub truncated: bool,
}

/// Answer of `GET /v1/sessions/{id}/execs`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecsResponse {
    /// The programs, oldest first.
    pub execs: Vec<ExecResponse>,
}

/// One event of a program: a line of NDJSON, or the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ExecEvent {
    /// It runs; the first event of `POST /v1/sessions/{id}/execs`, and of no other stream.
    Started {
        /// The program.
        exec: Box<ExecResponse>,
    },
    /// It printed something.
    Output {
        /// `stdout` or `stderr`.
        stream: String,
        /// Sequence number of the first byte of `data`.
        sequence: u64,
        /// What. Characters are never split between pieces.
        data: String,
        /// How it is written here.
        encoding: Encoding,
    },
    /// Bytes are not kept any more.
    Gap {
        /// `stdout` or `stderr`.
        stream: String,
        /// Sequence number of the first that is lost.
        from: u64,
        /// Sequence number of the first that is kept again.
        to: u64,
    },
    /// The network policy refused these to the session. Each of them is told once here, and all of them at the end.
    Denied {
        /// What was refused since the last such event; never empty.
        denied: Vec<Denied>,
    },
    /// It has ended, and all that it printed has been told; the last event.
    Finished {
        /// What became of it.
        result: Box<ExecResult>,
    },
    /// All that there is has been told, or the service stops and the program goes on; the last event.
    End,
    /// The service failed after the answer had begun; the last event.
    Failed {
        /// What went wrong.
        problem: Box<ProblemDetails>,
    },
}

/// What the server says in text over the WebSocket of a program.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum AttachEvent {
    /// Where the first binary message begins; the first message.
    Position {
        /// Sequence number of its first byte.
        sequence: u64,
    },
    /// Bytes are not kept any more; of standard output, unless `stream` says otherwise.
    Gap {
        /// `stdout` or `stderr`.
        stream: String,
        /// Sequence number of the first that is lost.
        from: u64,
        /// Sequence number of the first that is kept again.
        to: u64,
    },
    /// It printed something on standard error.
    Stderr {
        /// Sequence number of the first byte.
        sequence: u64,
        /// What, in base64.
        data: String,
    },
    /// The network policy refused these to the session.
    Denied {
        /// What was refused since the last such message; never empty.
        denied: Vec<Denied>,
    },
    /// It has ended; the last message.
    Finished {
        /// What became of it.
        result: Box<ExecResult>,
    },
    /// What the client asked for in its last messages was not done.
    Problem {
        /// Why not.
        problem: Box<ProblemDetails>,
    },
}

/// What a client says in text over the WebSocket of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum AttachCommand {
    /// The terminal has another size.
    Resize {
        /// Its lines.
        rows: u16,
        /// Characters of a line.
        columns: u16,
    },
    /// Send a signal.
    Signal {
        /// Which one.
        signal: SignalName,
    },
    /// Nothing more comes on standard input.
    Eof {},
}

/// Body of `POST /v1/sessions/{id}/snapshots`; may be absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SnapshotRequest {
    /// What to call it; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
}

/// A snapshot of a session's files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotResponse {
    /// Names it within its session.
    pub id: u64,
    /// When it was made; RFC 3339, UTC.
    pub created_at: String,
    /// What the client calls it; null where it has no name.
    pub label: Option<String>,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its files, directories and links.
    pub files: u64,
}

/// Answer of `GET /v1/sessions/{id}/snapshots`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SnapshotsResponse {
    /// The snapshots, oldest first.
    pub snapshots: Vec<SnapshotResponse>,
}

/// Body of `POST /v1/sessions/{id}/contexts`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"language": "python"}))]
pub struct ContextRequest {
    /// Name of the language, which must be that of one of the session's runtimes.
    pub language: String,
}

/// An interpreter that keeps its variables from one piece of code to the next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextResponse {
    /// Names it within its session.
    pub id: u64,
    /// Its language.
    pub language: String,
    /// `starting`, `idle`, `busy` or `dead`.
    pub state: String,
    /// Pieces of code that it was given since it was last started.
    pub executions: u64,
    /// When it was made; RFC 3339, UTC.
    pub created_at: String,
}

/// Answer of `GET /v1/sessions/{id}/contexts`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ContextsResponse {
    /// The contexts, oldest first.
    pub contexts: Vec<ContextResponse>,
}

/// Body of `POST …/execute`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExecuteRequest {
    /// What to execute.
    pub code: String,
}

/// The forms of a value by media type, or what is said about them; what is no text is in base64.
pub type Forms = serde_json::Map<String, serde_json::Value>;

/// One message of a context, after those of Jupyter: a line of NDJSON, or the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum ContextEvent {
    /// The code printed something, or a program did that it started.
    Stream {
        /// `stdout` or `stderr`.
        name: String,
        /// What.
        text: String,
    },
    /// The code shows something.
    DisplayData {
        /// The same thing in several forms, by media type; what is no text is in base64.
        #[schema(value_type = Object)]
        data: Forms,
        /// What is said about them, by media type.
        #[schema(value_type = Object)]
        metadata: Forms,
    },
    /// The value of the code's last expression.
    ExecuteResult {
        /// The same value in several forms, by media type; what is no text is in base64.
        #[schema(value_type = Object)]
        data: Forms,
        /// What is said about them, by media type.
        #[schema(value_type = Object)]
        metadata: Forms,
        /// Number of the piece of code in its context, from 1.
        execution_count: u64,
    },
    /// The code raised an error.
    Error {
        /// Kind of the error.
        ename: String,
        /// What it says.
        evalue: String,
        /// Where it happened, a line each.
        traceback: Vec<String>,
    },
    /// The code has ended; the last event.
    Finished {
        /// `ok`, `error`, `interrupted`, or `dead` where its interpreter ended before it.
        status: String,
        /// Number of the piece of code in its context, from 1; null where it is dead.
        execution_count: Option<u64>,
    },
}

/// Answer of `POST …/execute` in one piece.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ExecuteResponse {
    /// `ok`, `error`, `interrupted`, or `dead` where its interpreter ended before it.
    pub status: String,
    /// Number of the piece of code in its context, from 1; null where it is dead.
    pub execution_count: Option<u64>,
    /// What the code said, in order, without the last event of a stream.
    pub outputs: Vec<ContextEvent>,
    /// Whether outputs are missing, because they are more than is told in one answer.
    pub truncated: bool,
}
