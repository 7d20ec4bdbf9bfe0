//! `codesandbox run --tests`: a program is judged by pairs of files, and a table tells what came of each.

use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use clap::ValueHint;

use super::exit;
use super::follow::{FollowError, Sink, decode, write};
use super::request::{RequestError, read_bytes};
use super::spinner::Spinner;
use super::text::{harmless, table};
use crate::api::judging::wire::{CaseRequest, CaseResponse, CompareMode, CompareRequest, TestsRequest, TestsResponse};
use crate::api::wire::{RunRequest, RunResponse};
use crate::client::{Client, ClientError};
use crate::judge::{Stop, Verdict};

/// Endings of files that have what is expected of the input of the same name.
const ANSWERS: [&str; 3] = ["out", "ans", "a"];
/// Most of a reason that a line of the table has, in characters.
const REASON_CHARS: usize = 60;

/// Arguments that are about tests.
#[derive(Debug, clap::Args)]
pub(super) struct Tests {
    /// Judge the program by the pairs of files in a directory: 1.in with 1.out or 1.ans, and so on
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with_all = ["stdin", "outputs", "output_dir"])]
    pub(super) tests: Option<PathBuf>,
    /// How output is compared: exact, lines, tokens or numbers [default: lines]
    #[arg(long, value_name = "MODE", requires = "tests", value_parser = mode)]
    compare: Option<CompareMode>,
    /// With numbers: how far one may be off, absolutely or as a part of it [default: 1e-9]
    #[arg(long, value_name = "NUMBER", requires = "compare")]
    tolerance: Option<f64>,
    /// Run no more cases after the first that is not accepted
    #[arg(long, requires = "tests")]
    stop: bool,
}

fn mode(text: &str) -> Result<CompareMode, String> {
    match text {
        "exact" => Ok(CompareMode::Exact),
        "lines" => Ok(CompareMode::Lines),
        "tokens" => Ok(CompareMode::Tokens),
        "numbers" => Ok(CompareMode::Numbers),
        _ => Err("there are exact, lines, tokens and numbers".to_owned()),
    }
}

impl Tests {
    /// What the API is asked for; nothing where no tests were.
    pub(super) fn form(&self) -> Result<Option<TestsRequest>, RequestError> {
        let Some(directory) = &self.tests else { return Ok(None) };
        let cases = cases(directory)?;
        let compare = self.compare.map(|mode| CompareRequest {
            mode: Some(mode),
            absolute: self.tolerance,
            relative: self.tolerance,
        });
        let stop = self.stop.then_some(Stop::AtFirst);
        Ok(Some(TestsRequest { cases, compare, stop, ..TestsRequest::default() }))
    }
}

/// Every pair of a directory, in the order in which people count: 2 before 10.
fn cases(directory: &Path) -> Result<Vec<CaseRequest>, RequestError> {
    let failed = |path: &Path, error| RequestError::Read { path: path.to_owned(), error };
    let listed = std::fs::read_dir(directory).map_err(|error| failed(directory, error))?;
    let mut inputs = Vec::new();
    for entry in listed {
        let path = entry.map_err(|error| failed(directory, error))?.path();
        if path.extension().is_some_and(|extension| extension == "in") {
            inputs.push(path);
        }
    }
    inputs.sort_by_cached_key(|path| counted(path));
    if inputs.is_empty() {
        let error = io::Error::new(io::ErrorKind::NotFound, "no file here has a name that ends with .in");
        return Err(failed(directory, error));
    }
    inputs.iter().map(|path| case(path)).collect()
}

fn case(input: &Path) -> Result<CaseRequest, RequestError> {
    let answer = ANSWERS.iter().map(|ending| input.with_extension(ending)).find(|path| path.exists());
    let answer = answer.ok_or_else(|| RequestError::Read {
        path: input.with_extension("out"),
        error: io::Error::new(io::ErrorKind::NotFound, "the input has no file with what is expected"),
    })?;
    let (stdin, stdin_base64) = either(read_bytes(input)?);
    let (expected, expected_base64) = either(read_bytes(&answer)?);
    let name = input.file_stem().map(|name| name.to_string_lossy().into_owned());
    Ok(CaseRequest { name, stdin, stdin_base64, expected, expected_base64, ..CaseRequest::default() })
}

fn either(bytes: Vec<u8>) -> (Option<String>, Option<String>) {
    match String::from_utf8(bytes) {
        Ok(text) => (Some(text), None),
        Err(error) => (None, Some(STANDARD.encode(error.as_bytes()))),
    }
}

/// A name in pieces: numbers by their value, the rest as it is.
fn counted(path: &Path) -> Vec<(u64, String)> {
    let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let mut pieces: Vec<(u64, String)> = Vec::new();
    let mut rest = name.as_str();
    while !rest.is_empty() {
        let digits = rest.chars().take_while(char::is_ascii_digit).map(char::len_utf8).sum::<usize>();
        let words = rest[digits..].chars().take_while(|c| !c.is_ascii_digit()).map(char::len_utf8).sum::<usize>();
        let (number, after) = rest.split_at(digits);
        let (word, after) = after.split_at(words);
        // What is no number comes before all that are.
        let value = number.parse::<u64>().map_or(0, |number| number.saturating_add(1));
        pieces.push((value, word.to_owned()));
        rest = after;
    }
    pieces
}

/// Has the program judged, and prints a line for each case.
pub(super) async fn show(client: &Client, request: &RunRequest) -> Result<u8, FollowError> {
    let mut spinner = Spinner::new();
    spinner.say("judging");
    let answered = spinner.during(client.run(request)).await;
    spinner.clear();
    let result = answered?;
    let Some(tests) = &result.tests else {
        return Err(ClientError::Strange("the service knows no tests".to_owned()).into());
    };
    for stage in result.prepare.iter().chain(&result.compile).filter(|stage| stage.status != crate::job::Status::Ok) {
        for (text, encoding) in [(&stage.stdout, stage.stdout_encoding), (&stage.stderr, stage.stderr_encoding)] {
            write(Sink::Error, decode(text.clone(), encoding)?).await.map_err(FollowError::Output)?;
        }
    }
    write(Sink::Output, report(tests).into_bytes()).await.map_err(FollowError::Output)?;
    Ok(exit_status(&result).unwrap_or(exit::FAILURE))
}

/// The exit status of a result with tests: 0 where all cases are accepted, 1 where one is not.
pub(super) fn exit_status(result: &RunResponse) -> Option<u8> {
    let tests = result.tests.as_ref()?;
    Some(match tests.verdict {
        Verdict::Accepted => 0,
        Verdict::CompileFailed | Verdict::PrepareFailed | Verdict::Cancelled => exit::of(result.status, None, None),
        Verdict::JudgeError => exit::FAILURE,
        _ => 1,
    })
}

fn report(tests: &TestsResponse) -> String {
    let mut rows = vec![["CASE", "VERDICT", "POINTS", "TIME", "MEMORY", ""].map(str::to_owned).to_vec()];
    rows.extend(tests.cases.iter().map(row));
    let mut text = table(&rows);
    let of = tests.cases.len();
    let verdict = name(tests.verdict);
    text.push_str(&format!(
        "\n{verdict}: {} of {of} cases, {} of {} points\n",
        tests.accepted, tests.points, tests.points_possible
    ));
    text
}

fn row(case: &CaseResponse) -> Vec<String> {
    let label = case.name.clone().unwrap_or_else(|| case.index.to_string());
    let usage = case.run.as_ref().map(|run| run.usage);
    let time = usage.map_or("–".to_owned(), |usage| format!("{:.0} ms", usage.cpu_time_ms));
    let memory =
        usage.map_or("–".to_owned(), |usage| format!("{:.1} MiB", usage.memory_peak_bytes as f64 / 1_048_576.0));
    let reason = harmless(case.reason.as_deref().unwrap_or_default());
    let reason = match reason.char_indices().nth(REASON_CHARS) {
        Some((end, _)) => format!("{}…", &reason[..end]),
        None => reason,
    };
    vec![harmless(&label), name(case.verdict), case.points.to_string(), time, memory, reason]
}

/// A verdict as answers spell it.
fn name(verdict: Verdict) -> String {
    let value = serde_json::to_value(verdict).ok();
    value.and_then(|value| value.as_str().map(str::to_owned)).expect("a verdict is serialised as a string")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_the_order_in_which_people_count() {
        let mut names = ["10", "2", "sample", "a10", "a9", "1", "2b"].map(PathBuf::from);
        names.sort_by_cached_key(|path| counted(path));
        let names: Vec<&str> = names.iter().map(|path| path.to_str().unwrap()).collect();
        assert_eq!(names, ["a9", "a10", "sample", "1", "2", "2b", "10"]);
    }
}
