//! The JSON of `tests`, as types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::job::Status;
use crate::judge::{Scoring, Stop, Verdict};
use crate::profile::LimitChanges;

use super::super::fields;
use super::super::wire::{Encoding, FileRequest, RuntimeUsed, StageResponse, UsageResponse};

/// What a program is to be judged by.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestsRequest {
    /// Runs of the program. At least one; most are `service.cases` of the configuration.
    pub cases: Vec<CaseRequest>,
    /// How what was printed is compared with what was expected, where that decides; `lines` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compare: Option<CompareRequest>,
    /// A program that looks at what was printed, in place of `compare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<HelperRequest>,
    /// A program that reads what this one prints, and prints what this one reads, in place of `compare`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactor: Option<HelperRequest>,
    /// Cases that are worth something together; where absent, those that the cases name, scored by `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<GroupRequest>>,
    /// When no more cases are run because of one that was not accepted; `never` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop: Option<Stop>,
    /// Most bytes that are shown of what program and interactor say to each other in a case; 0 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript_bytes: Option<usize>,
}

/// One run of the program.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CaseRequest {
    /// Comes back in the answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its standard input, as text; nothing where absent. An interactor is given it as a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// The same as base64, in place of `stdin`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_base64: Option<String>,
    /// The same as a file that was uploaded, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin_file: Option<String>,
    /// What it is to print, as text. Checkers and interactors are given it as a file, and it may be absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// The same as base64, in place of `expected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_base64: Option<String>,
    /// The same as a file that was uploaded, by its id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_file: Option<String>,
    /// What it is worth; 1 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<f64>,
    /// Name of its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
}

/// How two texts are compared.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CompareRequest {
    /// `lines` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<CompareMode>,
    /// With `numbers`: how far one may be off. 1e-9 where both are absent, 0 where the other is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// With `numbers`: the same as a part of the expected number; the larger of the two counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
}

/// What is the same in a comparison.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CompareMode {
    /// The same bytes.
    Exact,
    /// The same lines, without white space at their ends and without empty lines at the end.
    #[default]
    Lines,
    /// The same words, whatever white space is between them.
    Tokens,
    /// The same words, of which numbers may be a little off.
    Numbers,
}

/// A checker or an interactor. It is compiled once, and runs in a sandbox of its own for each case.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HelperRequest {
    /// Language and version, as of the program.
    pub runtime: String,
    /// Source and data files; the first is the one that is run.
    pub files: Vec<FileRequest>,
    /// Arguments after those that it is always given: paths of input, output and answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub args: Option<Vec<String>>,
    /// Variables of its environment.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "fields::unique_keys")]
    pub env: Option<BTreeMap<String, String>>,
    /// Name of its profile; that of the program where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Limits of each of its runs that differ from its profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitChanges>,
    /// Limits of its compile stage that differ from its profile's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compile_limits: Option<LimitChanges>,
}

/// Cases that are worth something together.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupRequest {
    /// By which cases name it.
    pub name: String,
    /// How its points come about; `all` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scoring: Option<Scoring>,
    /// What it is worth; where absent, as much as its cases together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<f64>,
    /// Groups that stand before it and whose cases must all be accepted, else its own are skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub needs: Option<Vec<String>>,
}

/// What came of all cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TestsResponse {
    /// `accepted` where every case is; else the verdict of the first that is not, and of `judge_error` in any place.
    pub verdict: Verdict,
    /// Points of all groups, and of cases in none.
    pub points: f64,
    /// Most that there could be.
    pub points_possible: f64,
    /// How many cases were accepted.
    pub accepted: usize,
    /// Every case, in the order of the request.
    pub cases: Vec<CaseResponse>,
    /// Every group.
    pub groups: Vec<GroupResponse>,
    /// The checker, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checker: Option<HelperResponse>,
    /// The interactor, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interactor: Option<HelperResponse>,
}

/// What came of a case. What is absent was not known or not there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaseResponse {
    /// Its place, from 0.
    pub index: usize,
    /// Its name, where the request gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// What it is worth, in a word.
    pub verdict: Verdict,
    /// Its points.
    pub points: f64,
    /// The verdict in words, where something is to be said.
    pub reason: Option<String>,
    /// What became of the program; null where it did not run.
    pub run: Option<CaseRun>,
    /// Where what it printed differs first from what was expected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<DifferenceResponse>,
    /// The first KiB of what the checker or interactor printed on standard error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<Excerpt>,
    /// What became of the checker or interactor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub helper: Option<CaseRun>,
    /// What program and interactor said, where that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<TranscriptResponse>,
    /// Whether excerpts are left out, because earlier cases have shown as much as all of them may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
}

/// The end of a program in a case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CaseRun {
    /// Why it ended.
    pub status: Status,
    /// Status that it exited with; null where a signal ended it.
    pub exit_code: Option<i32>,
    /// Name of the signal that ended it, such as `SIGSEGV`.
    pub signal: Option<String>,
    /// What it used.
    pub usage: UsageResponse,
    /// The beginning of what it printed on standard error, where the case is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stderr: Option<Excerpt>,
}

/// A piece of what was printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Excerpt {
    /// Its bytes.
    pub data: String,
    /// How they are written here.
    pub encoding: Encoding,
}

/// Where two texts differ first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DifferenceResponse {
    /// Line of what was printed, from 1.
    pub line: u64,
    /// What was expected there; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Excerpt>,
    /// What was printed there; at most 256 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printed: Option<Excerpt>,
}

/// What program and interactor said to each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TranscriptResponse {
    /// What was said, in the order in which it came to us.
    pub said: Vec<SaidResponse>,
    /// Whether more was said than is shown.
    pub cut: bool,
}

/// What one of the two said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SaidResponse {
    /// Which of them.
    pub by: Speaker,
    /// What.
    #[serde(flatten)]
    pub text: Excerpt,
}

/// One of two that talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The one that is judged.
    Program,
    /// The one that judges.
    Interactor,
}

/// What came of a group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct GroupResponse {
    /// Its name.
    pub name: String,
    /// As of all cases, of its own.
    pub verdict: Verdict,
    /// Its points.
    pub points: f64,
    /// Most that there could be.
    pub points_possible: f64,
}

/// A checker or an interactor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct HelperResponse {
    /// What runs it.
    pub runtime: RuntimeUsed,
    /// Its compile stage; null for languages that are not compiled, and where it did not come to that.
    pub compile: Option<StageResponse>,
}
