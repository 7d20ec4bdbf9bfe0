//! The JSON that clients send and get, as types; `openapi.json` is generated from them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::{Denial, DeniedFlow, EnforcedBy, Path, Stage, Status};
use crate::profile::{LimitChanges, Limits, NetworkForm};

use super::dependencies::Dependencies;
use super::fields;
use super::judging::wire::{CaseResponse, TestsRequest, TestsResponse};
use super::problem::ProblemDetails;

/// Body of `POST /v1/run`. A field that is null counts as absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"runtime": "bash", "files": [{"content": "read name; echo hello $name"}], "stdin": "world"}))]
pub struct RunRequest {
    /// Language and version: `python`, `python@3`, `python@3.12`, `node@>=18 <22`, `c++@20`.
    pub runtime: String,
    /// Source and data files; the first is the one that is run. At least one.
    #[serde(deserialize_with = "fields::objects")]
    pub files: Vec<FileRequest>,
    /// Standard input of the run stage, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The same as base64, in place of `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// The same as a file that was uploaded, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<String>,
    /// Arguments of the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Variables of the program's environment, in the run stage.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub env: Option<BTreeMap<String, String>>,
    /// Name of the profile; `default` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Limits of the run stage that differ from the profile's.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub limits: Option<LimitChanges>,
    /// Limits of the compile stage that differ from the profile's; without effect for languages
    /// that are not compiled.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub compile_limits: Option<LimitChanges>,
    /// What the program and its compiler can reach: no more than the profile allows; what that allows where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<NetworkForm>,
    /// Of the profile's secrets those that it is to have, by their variables; all whose hosts it reaches where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Packages to install before anything runs, in a sandbox of their own.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::object")]
    pub dependencies: Option<Dependencies>,
    /// Patterns of files to hand out: `*` stays within a directory, `**` does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outputs: Option<Vec<String>>,
    /// Whether the compile stage may be taken from the cache, and kept in it; true where absent. Without
    /// effect for languages that are not compiled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<bool>,
    /// Inputs on which the program is run and judged, in place of `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestsRequest>,
}

/// A file to write into `/workspace`. Exactly one of `content`, `content_base64` and `content_file` is given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FileRequest {
    /// Path below `/workspace`; may be absent in the first file, which then has the language's
    /// usual name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The file, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The file, as base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// The file, as one that was uploaded, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_file: Option<String>,
    /// Whether it may be executed; false where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<bool>,
}

/// Answer of `POST /v1/run`: what became of the program, whatever it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunResponse {
    /// Names the job here, in events and in the journal.
    pub id: String,
    /// Status of the run stage, or `prepare_failed` or `compile_failed` where there was nothing to run.
    pub status: Status,
    /// What ran it.
    pub runtime: RuntimeUsed,
    /// Whether its sandbox waited for it, with the interpreter started (`warm`) or without
    /// (`parked`), or was made for it (`cold`): for the first stage that ran.
    pub path: Path,
    /// How often it was begun anew, because a sandbox was lost before the program had begun.
    pub retries: u32,
    /// The sandbox's own share of the time, in milliseconds.
    pub overhead_ms: OverheadResponse,
    /// Name of the profile that it ran under.
    pub profile: String,
    /// Variables that held placeholders of secrets; absent where its profile has no secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// The prepare stage, where packages were asked for: what their installer printed, and what was refused to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<StageResponse>,
    /// The compile stage; null for languages that are not compiled.
    pub compile: Option<StageResponse>,
    /// The run stage; null where a stage before it failed.
    pub run: Option<StageResponse>,
    /// Limits of the run stage.
    pub limits: LimitsInForce,
    /// Files that the patterns in `outputs` matched.
    pub files: Vec<FileResponse>,
    /// Files that matched and are left out.
    pub omitted: Vec<OmittedResponse>,
    /// What came of the tests, where there were any; `run` is null then, and `status` is `ok` where they could run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tests: Option<TestsResponse>,
}

/// Time that was the sandbox's, not the program's, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct OverheadResponse {
    /// In the queue, and until it was known whether the compile stage must run: an equal job may be at it.
    pub queue: f64,
    /// Until everything was at hand that the program needs, of both stages.
    pub prepare: f64,
    /// From there to the program's first instruction, of both stages.
    pub start: f64,
    /// From the program's end to the answer, of both stages.
    pub collect: f64,
    /// All of these.
    pub total: f64,
}

/// The runtime that a selector chose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeUsed {
    /// Name of the language.
    pub language: String,
    /// Version, as exact as is known; null where only a self-test would tell.
    pub version: Option<String>,
    /// Standard of the language, for languages that have several.
    pub variant: Option<String>,
    /// Path of the program inside the sandbox.
    pub path: String,
}

/// What became of one stage.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StageResponse {
    /// Why it ended.
    pub status: Status,
    /// Status that it exited with; null where a signal ended it.
    pub exit_code: Option<i32>,
    /// Name of the signal that ended it, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// The status in words, with the limit; null where it is `ok`.
    pub reason: Option<String>,
    /// What it printed, as far as its limit.
    pub stdout: String,
    /// How `stdout` is written here.
    pub stdout_encoding: Encoding,
    /// What it printed on standard error, as far as its limit.
    pub stderr: String,
    /// How `stderr` is written here.
    pub stderr_encoding: Encoding,
    /// What it used.
    pub usage: UsageResponse,
    /// System calls, and of the network connections, queries and packets, that were refused, whether or not it
    /// ended because of them.
    pub denied: Vec<Denied>,
    /// Why it had no network though it was to have one; null where it had what it was to have.
    pub network_error: Option<String>,
    /// Of a prepare or compile stage, where it is always there: whether it did not run, because what it makes was
    /// known from an earlier one. All else is then told of that one, its usage too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached: Option<bool>,
}

/// Something that was refused: a system call, or something on the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(untagged, expecting = "a refused system call, or something that was refused on the network")]
pub enum Denied {
    /// A system call.
    Syscall(Denial),
    /// A connection, a query or a packet.
    Flow(DeniedFlow),
}

/// How bytes are written in a JSON string.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Encoding {
    /// As they are: they are UTF-8.
    #[serde(rename = "utf-8")]
    Utf8,
    /// In base64, because they are not UTF-8.
    #[serde(rename = "base64")]
    Base64,
}

/// What a stage used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UsageResponse {
    /// Time by the clock, in milliseconds.
    pub wall_time_ms: f64,
    /// Processor time of all processes, in milliseconds.
    pub cpu_time_ms: f64,
    /// Most memory at one time, in bytes.
    pub memory_peak_bytes: u64,
    /// Most processes and threads at one time.
    pub processes_peak: u64,
    /// Bytes read from disks; null where nothing counts them.
    pub read_bytes: Option<u64>,
    /// Bytes written to disks; null where nothing counts them.
    pub written_bytes: Option<u64>,
}

/// The limits of a stage, and what holds them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LimitsInForce {
    /// Every limit.
    #[serde(flatten)]
    pub limits: Limits,
    /// Which mechanism holds them on this host.
    pub enforced_by: EnforcedBy,
}

/// A file that the program left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileResponse {
    /// Path below `/workspace`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// The file, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<String>,
    /// The file as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_base64: Option<String>,
    /// Its size in bytes.
    pub size: u64,
}

/// A file that matched a pattern and is left out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OmittedResponse {
    /// Path below `/workspace`, where it is UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The path as base64, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_base64: Option<String>,
    /// Why.
    pub reason: String,
}

/// One event of a streamed run: a line of NDJSON, or the data of a server-sent event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum StreamEvent {
    /// The job has left the queue.
    Started {
        /// Names the job.
        id: String,
    },
    /// A stage begins.
    Stage {
        /// Names the job.
        id: String,
        /// Which stage.
        stage: Stage,
        /// Of a prepare or compile stage, where it is always there: whether it does not run, because what it makes
        /// is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cached: Option<bool>,
    },
    /// The program wrote to standard output.
    Stdout(Output),
    /// The program wrote to standard error.
    Stderr(Output),
    /// The network policy refused these. Each of them is told once here, and all of them at the end.
    Denied {
        /// Names the job.
        id: String,
        /// Stage to which they were refused.
        stage: Stage,
        /// What was refused since the last such event; never empty.
        denied: Vec<Denied>,
    },
    /// A case is judged. They come in the order of the request.
    Case {
        /// Names the job.
        id: String,
        /// What came of it; it stands in the result once more.
        case: Box<CaseResponse>,
    },
    /// The program has ended; the same object that a single answer would have been.
    Finished(Box<RunResponse>),
    /// The service failed after the answer had begun; nothing follows.
    Failed {
        /// Names the job.
        id: String,
        /// What went wrong.
        problem: Box<ProblemDetails>,
    },
}

/// A piece of output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Output {
    /// Names the job.
    pub id: String,
    /// Stage that printed it.
    pub stage: Stage,
    /// The piece. Characters are never split between pieces.
    pub data: String,
    /// How it is written here.
    pub encoding: Encoding,
}

/// Answer of `GET /v1/profiles`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfilesResponse {
    /// Every profile.
    pub profiles: Vec<ProfileResponse>,
}

/// What a job runs under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProfileResponse {
    /// Its name in requests.
    pub name: String,
    /// What it is for.
    pub title: String,
    /// What a program can reach.
    pub network: NetworkForm,
    /// Limits of the compile stage where a request changes none.
    pub compile: Limits,
    /// Limits of the run stage where a request changes none.
    pub run: Limits,
    /// The most that a request may ask for.
    pub maximum: Limits,
}

/// Answer of `GET /health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HealthResponse {
    /// `ok` or `unavailable`.
    pub status: String,
    /// Why it is not ok.
    pub reason: Option<String>,
    /// What holds the limits; null until the launcher has told.
    pub enforced_by: Option<EnforcedBy>,
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Most jobs that run at one time.
    pub slots: usize,
}
