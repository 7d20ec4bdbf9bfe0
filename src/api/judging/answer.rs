//! Writes down what came of cases.

use crate::job::{Outcome, StageResult, signal_name};
use crate::judge::{CaseResult, Method, Report};
use crate::scheduler::Said;

use super::super::answer::{made, text, usage};
use super::Asked;
use super::wire::{
    CaseResponse, CaseRun, DifferenceResponse, Excerpt, GroupResponse, HelperResponse, SaidResponse, Speaker,
    TestsResponse, TranscriptResponse,
};

/// What came of all; `helper` is the end of building the checker or interactor, where it came to that.
pub(super) fn tests(asked: &Asked, method: &Method, report: Report, helper: Option<Outcome>) -> TestsResponse {
    let Report { total, cases } = report;
    let groups = asked.groups.iter().zip(&total.groups).zip(&asked.possible).map(|((name, group), possible)| {
        GroupResponse { name: name.clone(), verdict: group.verdict, points: group.points, points_possible: *possible }
    });
    let helper = asked.helper.as_ref().map(|runtime| HelperResponse {
        runtime: runtime.clone(),
        compile: helper.and_then(|outcome| outcome.compile).map(made),
    });
    let (checker, interactor) = match method {
        Method::Interactor(_) => (None, helper),
        Method::Checker(_) | Method::Compare(_) => (helper, None),
    };
    TestsResponse {
        verdict: total.verdict,
        points: total.points,
        points_possible: total.possible,
        accepted: total.accepted,
        groups: groups.collect(),
        cases: cases.into_iter().enumerate().map(|(index, result)| case(asked, index, result)).collect(),
        checker,
        interactor,
    }
}

/// What came of one case.
pub(super) fn case(asked: &Asked, index: usize, result: CaseResult) -> CaseResponse {
    let known = asked.cases.get(index);
    let group = known.and_then(|known| known.group).and_then(|group| asked.groups.get(group));
    let CaseResult { verdict, fraction, reason, difference, message, outcome, helper, transcript, cut } = result;
    CaseResponse {
        index,
        name: known.and_then(|known| known.name.clone()),
        group: group.cloned(),
        verdict,
        points: known.map_or(0.0, |known| known.points) * fraction,
        reason,
        run: outcome.and_then(|outcome| outcome.run).map(|end| run(end, !cut)),
        difference: difference.map(|difference| DifferenceResponse {
            line: difference.line,
            expected: (!cut).then(|| excerpt(difference.expected)),
            printed: (!cut).then(|| excerpt(difference.printed)),
        }),
        message: message.filter(|message| !message.is_empty()).map(excerpt),
        helper: helper.map(|end| run(*end, false)),
        transcript: transcript.map(|transcript| TranscriptResponse {
            said: transcript.said.into_iter().map(said).collect(),
            cut: transcript.cut,
        }),
        cut,
    }
}

fn run(end: StageResult, shows: bool) -> CaseRun {
    CaseRun {
        status: end.status,
        exit_code: end.exit_code,
        signal: end.signal.map(signal_name),
        usage: usage(end.usage),
        stderr: (shows && !end.stderr.is_empty()).then(|| excerpt(end.stderr)),
    }
}

fn said(said: Said) -> SaidResponse {
    let by = if said.by_partner { Speaker::Interactor } else { Speaker::Program };
    SaidResponse { by, text: excerpt(said.bytes) }
}

fn excerpt(bytes: Vec<u8>) -> Excerpt {
    // Half a character at the end is the cut's doing, and no reason to write all of it in another way.
    let whole = crate::job::text::whole(&bytes);
    let is_text = std::str::from_utf8(bytes.get(..whole).unwrap_or_default()).is_ok();
    let (data, encoding) = text(if is_text { bytes.into_iter().take(whole).collect() } else { bytes });
    Excerpt { data, encoding }
}
