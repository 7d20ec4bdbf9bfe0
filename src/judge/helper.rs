//! What the end of a checker or an interactor means: the exit statuses of testlib, and whom to blame where one of two
//! that talk to each other did not end well.

use super::verdict::{CaseResult, Verdict};
use crate::job::{StageResult, Status};
use crate::plan::FilePath;
use crate::scheduler::Talk;

/// Directory of the files that a checker or interactor is given; nothing of its own may stand there.
pub const DIRECTORY: &str = "judge";
/// Those files: input, output and answer, in testlib's order of arguments.
pub const ARGUMENTS: [&str; 3] = ["judge/input", "judge/output", "judge/answer"];
/// Most bytes that are kept of what one says.
pub const MESSAGE_BYTES: usize = 1024;

/// Status of one that could not do its work.
const FAILED: i32 = 3;
/// Status of one that says a number of points.
const POINTS: i32 = 7;
/// Status from which on the rest is a percentage.
const PARTIAL: i32 = 16;

/// The path of a file that a checker or interactor is given.
pub(super) fn path(name: &str) -> FilePath {
    FilePath::try_from(name.as_bytes().to_vec()).expect("the names are paths")
}

/// What a checker or interactor has decided about a case that is worth so many points; none where it has broken.
fn decision(end: &StageResult, points: f64) -> Result<(Verdict, f64), String> {
    let code = match (end.status, end.exit_code) {
        (Status::Ok | Status::NonzeroExit, Some(code)) => code,
        _ => return Err(end.reason.clone().unwrap_or_else(|| "it did not end".to_owned())),
    };
    match code {
        0 => Ok((Verdict::Accepted, 1.0)),
        1 => Ok((Verdict::WrongAnswer, 0.0)),
        // What testlib calls dirt and an unexpected end of file are matters of form.
        2 | 4 | 8 => Ok((Verdict::PresentationError, 0.0)),
        FAILED => Err("it says that it has failed".to_owned()),
        POINTS => match said_points(&end.stderr) {
            Some(said) => Ok(part(if points > 0.0 { said / points } else { said })),
            None => Err("exit status 7 without a number of points".to_owned()),
        },
        PARTIAL..=116 => Ok(part(f64::from(code - PARTIAL) / 100.0)),
        code => Err(format!("exit status {code}, which means nothing")),
    }
}

fn part(fraction: f64) -> (Verdict, f64) {
    match fraction.clamp(0.0, 1.0) {
        1.0 => (Verdict::Accepted, 1.0),
        0.0 => (Verdict::WrongAnswer, 0.0),
        fraction => (Verdict::Partial, fraction),
    }
}

/// The number of points that a message begins with, after the word `points` where testlib puts it.
fn said_points(message: &[u8]) -> Option<f64> {
    let text = String::from_utf8_lossy(beginning(message));
    let mut words = text.split_ascii_whitespace();
    let first = words.next()?;
    let number = if first == "points" { words.next()? } else { first };
    number.parse().ok().filter(|points: &f64| points.is_finite() && *points >= 0.0)
}

/// As much of what one says as is kept.
fn beginning(said: &[u8]) -> &[u8] {
    said.get(..MESSAGE_BYTES).unwrap_or(said)
}

/// What a checker makes of a case that is worth so many points.
#[must_use]
pub fn of_checker(end: StageResult, points: f64) -> CaseResult {
    let result = match decision(&end, points) {
        Ok((verdict, fraction)) => CaseResult { fraction, ..CaseResult::of(verdict, None) },
        Err(reason) => CaseResult::of(Verdict::JudgeError, Some(format!("the checker: {reason}"))),
    };
    with_end(result, end)
}

/// What comes of a talk about a case that is worth so many points; whoever has broken it is to blame.
#[must_use]
pub fn of_talk(program: &StageResult, talk: Talk, points: f64) -> CaseResult {
    let result = match blame(program, &talk, points) {
        Ok((verdict, fraction)) => CaseResult { fraction, ..CaseResult::of(verdict, None) },
        Err((verdict, reason)) => CaseResult::of(verdict, Some(reason)),
    };
    CaseResult { transcript: Some(talk.transcript), ..with_end(result, talk.partner) }
}

fn with_end(result: CaseResult, mut end: StageResult) -> CaseResult {
    // A copy, since a vector that is cut still holds the memory of all that was said, and results are many.
    let message = beginning(&end.stderr).to_vec();
    (end.stdout, end.stderr) = (Vec::new(), Vec::new());
    CaseResult { message: Some(message), helper: Some(Box::new(end)), ..result }
}

fn blame(program: &StageResult, talk: &Talk, points: f64) -> Result<(Verdict, f64), (Verdict, String)> {
    let interactor = &talk.partner;
    let waited = |end: &StageResult| end.status == Status::WallTimeExceeded;
    let interactor_failed = |reason: &str| Err((Verdict::JudgeError, format!("the interactor: {reason}")));
    if [program.status, interactor.status].contains(&Status::Cancelled) {
        return Err((Verdict::Cancelled, "cancelled by the client".to_owned()));
    }
    // One that closes its output and then waits is done with first, and still there long after the interactor has ended.
    let interactor_ended_first = talk.partner_ended_first || (waited(program) && !talk.partner_outlived);
    // One that wrote to nobody any more has not ended before the interactor was through with it.
    let was_left = program.signal == Some(libc::SIGPIPE);
    let program_ended_first = !interactor_ended_first && !waited(program) && !was_left;
    if waited(interactor) && program_ended_first {
        if program.status == Status::Ok {
            return interactor_failed("it did not end after the program had");
        }
    } else if waited(interactor) || (waited(program) && !interactor_ended_first) {
        return match hold_up(talk) {
            Some(reason) => interactor_failed(reason),
            None => Err((Verdict::TimeLimitExceeded, "it and the interactor waited for each other".to_owned())),
        };
    }
    // One that was rejected before it ended is that, whatever it did then.
    let decided = decision(interactor, points);
    if interactor_ended_first
        && let Ok((verdict, fraction)) = decided
        && verdict != Verdict::Accepted
    {
        return Ok((verdict, fraction));
    }
    let is_let_down = is_let_down(talk, &decided);
    if let Some(verdict) = Verdict::of_run(program.status) {
        return match &decided {
            // A program whose partner breaks may well fail over it.
            Err(reason) if interactor_ended_first && !is_let_down => interactor_failed(reason),
            _ => Err((verdict, program.reason.clone().unwrap_or_else(|| "it did not end well".to_owned()))),
        };
    }
    match decided {
        Err(_) if is_let_down => {
            Err((Verdict::WrongAnswer, "it read no more before the interactor had decided".to_owned()))
        }
        Err(reason) => interactor_failed(&reason),
        Ok(decided) => Ok(decided),
    }
}

/// Whether the interactor wrote to a program that did not read any more, which is none of its own failures: the signal
/// of a broken pipe, or, where it ignores that (CPython does), a status of which nobody can say what it means. One that
/// says that it has failed, or forgets a number, has itself to blame.
fn is_let_down(talk: &Talk, decided: &Result<(Verdict, f64), String>) -> bool {
    let end = &talk.partner;
    let means_nothing = decided.is_err() && end.exit_code.is_some_and(|code| ![FAILED, POINTS].contains(&code));
    end.signal == Some(libc::SIGPIPE)
        || (talk.partner_was_cut_off && end.status == Status::NonzeroExit && means_nothing)
}

/// Why it is the interactor that holds things up, where time ran out for one of the two while both were there.
fn hold_up(talk: &Talk) -> Option<&'static str> {
    let usage = talk.partner.usage;
    // One that waits takes no processor time.
    if usage.cpu_time_us > usage.wall_time_us / 2 {
        return Some("it was busy when time ran out");
    }
    let is_deaf = talk.partner_left_unread && !talk.program_left_unread;
    is_deaf.then_some("it did not read what the program, which waited for it, had said")
}

#[cfg(test)]
mod tests;
