//! `tests` in a run: makes a task for the judge out of a request, or says what about it is not allowed.

use std::collections::{BTreeMap, HashMap};

use crate::config::Config;
use crate::config::clients::Quota;
use crate::judge::compare::{Comparison, Tolerance};
use crate::judge::helper::{ARGUMENTS, DIRECTORY};
use crate::judge::{Case, Group, Method, Scoring, Task};
use crate::runtime::Catalogue;

use super::answer::About;
use super::problem::Problem;
use super::request::{self, Accepted, Uploaded, content};
use super::wire::{RunRequest, RuntimeUsed};

mod answer;
mod follow;
pub mod wire;

pub(super) use follow::Judged;
use wire::{CaseRequest, CompareMode, CompareRequest, GroupRequest, HelperRequest, TestsRequest};

/// Longest name of a case or a group, in bytes.
const NAME_BYTES: usize = 128;
/// Most points of a case or a group: sums of as many as there can be are still exact.
const MOST_POINTS: f64 = 1e9;
/// How far a number may be off where a request says nothing.
const TOLERANCE: f64 = 1e-9;
/// Most bytes of a talk that are shown.
const TRANSCRIPT_BYTES: usize = 64 << 10;

/// What the answer says of a task.
#[derive(Debug)]
pub(super) struct Asked {
    about: About,
    /// What runs the checker or interactor.
    helper: Option<RuntimeUsed>,
    cases: Vec<Known>,
    /// Names of the groups.
    groups: Vec<String>,
    /// What each of them is worth.
    possible: Vec<f64>,
}

/// What the answer says of a case that the request has said.
#[derive(Debug)]
struct Known {
    name: Option<String>,
    group: Option<usize>,
    points: f64,
}

/// Checks what is to be judged, and completes it from the configuration.
///
/// # Errors
/// The first thing that is not allowed, with the field and what would be allowed.
pub(super) fn check(
    tests: TestsRequest,
    mut request: RunRequest,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
    uploaded: Uploaded<'_>,
) -> Result<(Task, Asked), Problem> {
    for (field, is_there) in [
        ("stdin", request.stdin.is_some()),
        ("stdin_base64", request.stdin_base64.is_some()),
        ("stdin_file", request.stdin_file.is_some()),
        ("outputs", request.outputs.is_some()),
    ] {
        if is_there {
            return Err(Problem::field(field, "each of the tests has its own, or none: tests is there too"));
        }
    }
    let TestsRequest { cases, compare, checker, interactor, groups, stop, transcript_bytes } = tests;
    enough(&cases, config.service.cases)?;
    let profile = request.profile.clone();
    request.tests = None;
    let accepted = request::check(request, config, catalogue, quota, uploaded)?;
    let (method, helper) = match (compare, checker, interactor) {
        (compare, None, None) => (Method::Compare(comparison(compare)?), None),
        (None, Some(checker), None) => {
            let Accepted { job, runtime, .. } =
                helper("checker", checker, profile, (config, catalogue, quota), uploaded)?;
            (Method::Checker(Box::new(job)), Some(runtime))
        }
        (None, None, Some(interactor)) => {
            let Accepted { job, runtime, .. } =
                helper("interactor", interactor, profile, (config, catalogue, quota), uploaded)?;
            (Method::Interactor(Box::new(job)), Some(runtime))
        }
        _ => {
            return Err(
                Problem::field("tests", "only one can decide").allowing("one of compare, checker and interactor")
            );
        }
    };
    let transcript_bytes = transcript(transcript_bytes, &method)?;
    let groups = named_groups(groups, &cases)?;
    let places: HashMap<&str, usize> = groups.iter().enumerate().map(|(place, group)| (&*group.name, place)).collect();
    let must_expect = matches!(method, Method::Compare(_));
    let mut names = Vec::with_capacity(cases.len());
    let mut checked = Vec::with_capacity(cases.len());
    for (index, mut case) in cases.into_iter().enumerate() {
        let name = case.name.take();
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES) {
            return Err(Problem::field(format!("tests.cases[{index}].name"), "the name is too long")
                .allowing(serde_json::json!({ "maximum": NAME_BYTES })));
        }
        let case = checked_case(index, case, must_expect, &places, uploaded)?;
        names.push(Known { name, group: case.group, points: case.points });
        checked.push(case);
    }
    let named = groups.iter().map(|group| group.name.clone()).collect();
    let groups = checked_groups(groups, &checked)?;
    let (program, about) = accepted.into_parts();
    let id = about.id.clone();
    let stop = stop.unwrap_or_default();
    let possible = groups.iter().map(|group| group.points).collect();
    let task = Task { id, program, method, cases: checked, groups, stop, transcript_bytes };
    Ok((task, Asked { about, helper, cases: names, groups: named, possible }))
}

fn enough(cases: &[CaseRequest], most: usize) -> Result<(), Problem> {
    let wrong = match cases.len() {
        0 => "there is no case".to_owned(),
        count if count > most => format!("{count} cases are too many"),
        _ => return Ok(()),
    };
    Err(Problem::field("tests.cases", wrong).allowing(serde_json::json!({ "minimum": 1, "maximum": most })))
}

fn comparison(request: Option<CompareRequest>) -> Result<Comparison, Problem> {
    let CompareRequest { mode, absolute, relative } = request.unwrap_or_default();
    let mode = mode.unwrap_or_default();
    for (field, given) in [("absolute", absolute), ("relative", relative)] {
        let field = format!("tests.compare.{field}");
        match given {
            Some(_) if mode != CompareMode::Numbers => {
                return Err(Problem::field(field, "there are no numbers to be near to").allowing("mode \"numbers\""));
            }
            Some(given) if !(given.is_finite() && given >= 0.0) => {
                return Err(Problem::field(field, "this is no distance").allowing("a number that is not negative"));
            }
            _ => {}
        }
    }
    Ok(match mode {
        CompareMode::Exact => Comparison::Exact,
        CompareMode::Lines => Comparison::Lines,
        CompareMode::Tokens => Comparison::Tokens,
        CompareMode::Numbers => {
            // Who names one of them means that one.
            let or_none = |given: Option<f64>, other: Option<f64>| match (given, other) {
                (Some(given), _) => given,
                (None, Some(_)) => 0.0,
                (None, None) => TOLERANCE,
            };
            let (absolute, relative) = (or_none(absolute, relative), or_none(relative, absolute));
            Comparison::Numbers(Tolerance { absolute, relative })
        }
    })
}

/// The job of a checker or interactor, which is checked as any other.
fn helper(
    which: &str,
    request: HelperRequest,
    profile: Option<String>,
    (config, catalogue, quota): (&Config, &Catalogue, &Quota),
    uploaded: Uploaded<'_>,
) -> Result<Accepted, Problem> {
    let at = |problem: Problem| {
        let field = problem.field.as_ref().map(|field| format!("tests.{which}.{field}"));
        Problem { field: field.or_else(|| Some(format!("tests.{which}"))), ..problem }
    };
    let is_ours =
        |path: &str| path == DIRECTORY || path.strip_prefix(DIRECTORY).is_some_and(|rest| rest.starts_with('/'));
    let taken = request.files.iter().position(|file| file.path.as_deref().is_some_and(is_ours));
    if let Some(index) = taken {
        let detail = format!("{DIRECTORY}/ is where it finds input, output and answer");
        return Err(at(Problem::field(format!("files[{index}].path"), detail)));
    }
    let HelperRequest { runtime, files, args, env, profile: own, limits, compile_limits } = request;
    let given = ARGUMENTS.iter().map(|name| (*name).to_owned());
    let request = RunRequest {
        runtime,
        files,
        args: Some(given.chain(args.unwrap_or_default()).collect()),
        env,
        profile: own.or(profile),
        limits,
        compile_limits,
        ..RunRequest::default()
    };
    request::check(request, config, catalogue, quota, uploaded).map_err(at)
}

fn transcript(bytes: Option<usize>, method: &Method) -> Result<usize, Problem> {
    let field = "tests.transcript_bytes";
    match bytes {
        Some(1..) if !matches!(method, Method::Interactor(_)) => {
            Err(Problem::field(field, "nobody talks").allowing("an interactor, or 0"))
        }
        Some(bytes) if bytes > TRANSCRIPT_BYTES => Err(Problem::field(field, "this is too much to show")
            .allowing(serde_json::json!({ "maximum": TRANSCRIPT_BYTES }))),
        bytes => Ok(bytes.unwrap_or(0)),
    }
}

/// The groups that a request names, or those that its cases name where it names none.
fn named_groups(groups: Option<Vec<GroupRequest>>, cases: &[CaseRequest]) -> Result<Vec<GroupRequest>, Problem> {
    let Some(groups) = groups else {
        let mut seen = std::collections::HashSet::new();
        let named = cases.iter().filter_map(|case| case.group.as_ref()).filter(|name| seen.insert(name.as_str()));
        return Ok(named.map(|name| GroupRequest { name: name.clone(), ..GroupRequest::default() }).collect());
    };
    if groups.len() > cases.len() {
        return Err(Problem::field("tests.groups", "there are more groups than cases")
            .allowing(serde_json::json!({ "maximum": cases.len() })));
    }
    Ok(groups)
}

fn checked_case(
    index: usize,
    case: CaseRequest,
    must_expect: bool,
    groups: &HashMap<&str, usize>,
    uploaded: Uploaded<'_>,
) -> Result<Case, Problem> {
    let field = |name: &str| format!("tests.cases[{index}].{name}");
    let CaseRequest {
        name: _,
        stdin,
        stdin_base64,
        stdin_file,
        expected,
        expected_base64,
        expected_file,
        points,
        group,
    } = case;
    let input = content(&field("stdin"), (stdin, stdin_base64, stdin_file), uploaded)?.unwrap_or_default();
    let expected = content(&field("expected"), (expected, expected_base64, expected_file), uploaded)?;
    if must_expect && expected.is_none() {
        return Err(Problem::field(field("expected"), "there is nothing to compare with")
            .allowing("one of expected, expected_base64 and expected_file, or a checker or an interactor"));
    }
    let group = match group {
        None => None,
        Some(name) => Some(*groups.get(&*name).ok_or_else(|| {
            let known: Vec<&str> = groups.keys().copied().take(32).collect();
            Problem::field(field("group"), "there is no group of this name").allowing(known)
        })?),
    };
    let points = points_of(&field("points"), points)?.unwrap_or(1.0);
    Ok(Case { input, expected: expected.unwrap_or_default(), points, group })
}

fn points_of(field: &str, points: Option<f64>) -> Result<Option<f64>, Problem> {
    match points {
        Some(points) if !(0.0..=MOST_POINTS).contains(&points) => Err(Problem::field(field, "these are no points")
            .allowing(serde_json::json!({ "minimum": 0, "maximum": MOST_POINTS }))),
        points => Ok(points),
    }
}

fn checked_groups(groups: Vec<GroupRequest>, cases: &[Case]) -> Result<Vec<Group>, Problem> {
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    let mut checked: Vec<Group> = Vec::with_capacity(groups.len());
    let of = |place: usize| cases.iter().enumerate().filter(move |(_, case)| case.group == Some(place));
    for (place, GroupRequest { name, scoring, points, needs }) in groups.into_iter().enumerate() {
        let field = |name: &str| format!("tests.groups[{place}].{name}");
        if name.is_empty() || name.len() > NAME_BYTES {
            return Err(Problem::field(field("name"), "the name is empty or too long")
                .allowing(serde_json::json!({ "maximum": NAME_BYTES })));
        }
        let Some((first, _)) = of(place).next() else {
            return Err(Problem::field(field("name"), "no case is in this group"));
        };
        let mut needed = std::collections::BTreeSet::new();
        for (nth, other) in needs.unwrap_or_default().into_iter().enumerate() {
            let field = field(&format!("needs[{nth}]"));
            let Some(&other) = places.get(&other) else {
                return Err(Problem::field(field, "no group of this name stands before this one"));
            };
            if of(other).next_back().is_some_and(|(last, _)| last > first) {
                let detail = "a case of the group that is needed comes after one of those that need it";
                return Err(Problem::field(field, detail));
            }
            needed.insert(other);
            needed.extend(checked.get(other).map_or(&[][..], |group| &group.needs));
        }
        if places.insert(name, place).is_some() {
            return Err(Problem::field(field("name"), "another group has the same name"));
        }
        let points = points_of(&field("points"), points)?;
        let of_cases = || of(place).map(|(_, case)| case.points).sum();
        checked.push(Group {
            scoring: scoring.unwrap_or(Scoring::All),
            points: points.unwrap_or_else(of_cases),
            needs: needed.into_iter().collect(),
        });
    }
    Ok(checked)
}

#[cfg(test)]
mod tests;
