//! Every exit status, and every way in which two that talk can end.

use super::*;
use crate::job::Usage;
use crate::scheduler::Transcript;

fn end(status: Status, exit_code: Option<i32>, stderr: &str) -> StageResult {
    StageResult {
        status,
        exit_code,
        signal: None,
        reason: Some("why".into()),
        stdout: b"printed".to_vec(),
        stderr: stderr.into(),
        usage: Usage { wall_time_us: 1000, cpu_time_us: 10, ..Usage::default() },
        denied: vec![],
        flows: vec![],
        network_error: None,
        limits: crate::config::Config::parse("{}").unwrap().profiles["default"].run,
        cached: false,
    }
}

fn exits(code: i32) -> StageResult {
    end(if code == 0 { Status::Ok } else { Status::NonzeroExit }, Some(code), "said")
}

fn broke(status: Status) -> StageResult {
    end(status, None, "")
}

fn killed_by(signal: i32) -> StageResult {
    StageResult { signal: Some(signal), ..broke(Status::Signalled) }
}

#[test]
fn every_exit_status_of_a_checker_has_its_meaning() {
    for (code, verdict, fraction) in [
        (0, Verdict::Accepted, 1.0),
        (1, Verdict::WrongAnswer, 0.0),
        (2, Verdict::PresentationError, 0.0),
        (3, Verdict::JudgeError, 0.0),
        (4, Verdict::PresentationError, 0.0),
        (5, Verdict::JudgeError, 0.0),
        (7, Verdict::JudgeError, 0.0),
        (8, Verdict::PresentationError, 0.0),
        (15, Verdict::JudgeError, 0.0),
        (16, Verdict::WrongAnswer, 0.0),
        (41, Verdict::Partial, 0.25),
        (116, Verdict::Accepted, 1.0),
        (117, Verdict::JudgeError, 0.0),
        (255, Verdict::JudgeError, 0.0),
    ] {
        let result = of_checker(exits(code), 1.0);
        assert_eq!((result.verdict, result.fraction), (verdict, fraction), "{code}");
        assert_eq!(result.message.as_deref(), Some(&b"said"[..]));
        assert!(result.helper.unwrap().stdout.is_empty());
    }
}

#[test]
fn points_are_read_from_what_a_checker_says() {
    for (message, points, verdict, fraction) in [
        ("points 2.5 well done", 10.0, Verdict::Partial, 0.25),
        ("4", 4.0, Verdict::Accepted, 1.0),
        ("points 40", 4.0, Verdict::Accepted, 1.0),
        ("0 nothing", 4.0, Verdict::WrongAnswer, 0.0),
        ("0.5", 0.0, Verdict::Partial, 0.5),
        ("-1", 4.0, Verdict::JudgeError, 0.0),
        ("nan", 4.0, Verdict::JudgeError, 0.0),
        ("inf", 4.0, Verdict::JudgeError, 0.0),
        ("points", 4.0, Verdict::JudgeError, 0.0),
    ] {
        let result = of_checker(end(Status::NonzeroExit, Some(7), message), points);
        assert_eq!((result.verdict, result.fraction), (verdict, fraction), "{message}");
    }
}

#[test]
fn a_checker_that_breaks_is_to_blame() {
    for status in [Status::WallTimeExceeded, Status::MemoryExceeded, Status::OutputExceeded, Status::Signalled] {
        let result = of_checker(broke(status), 1.0);
        assert_eq!((result.verdict, result.reason.as_deref()), (Verdict::JudgeError, Some("the checker: why")));
    }
}

#[test]
fn what_a_checker_says_is_bounded() {
    let result = of_checker(end(Status::NonzeroExit, Some(1), &"x".repeat(1 << 20)), 1.0);
    let message = result.message.unwrap();
    assert_eq!((message.len(), message.capacity()), (MESSAGE_BYTES, MESSAGE_BYTES));
    assert_eq!(result.helper.unwrap().stderr.capacity(), 0);
}

/// Who has left something unread.
#[derive(Clone, Copy, PartialEq)]
enum Unread {
    Neither,
    Program,
    Interactor,
    Both,
}

fn talk(interactor: StageResult, first: bool, unread: Unread) -> Talk {
    Talk {
        partner: interactor,
        partner_ended_first: first,
        partner_outlived: !first,
        partner_was_cut_off: false,
        program_left_unread: matches!(unread, Unread::Program | Unread::Both),
        partner_left_unread: matches!(unread, Unread::Interactor | Unread::Both),
        transcript: Transcript::default(),
    }
}

fn verdict(program: &StageResult, interactor: StageResult, first: bool, unread: Unread) -> Verdict {
    of_talk(program, talk(interactor, first, unread), 1.0).verdict
}

const FIRST: bool = true;
const LAST: bool = false;

#[test]
fn where_both_end_well_the_interactor_decides() {
    for order in [FIRST, LAST] {
        for (code, expected) in
            [(0, Verdict::Accepted), (1, Verdict::WrongAnswer), (2, Verdict::PresentationError), (26, Verdict::Partial)]
        {
            assert_eq!(verdict(&exits(0), exits(code), order, Unread::Neither), expected);
        }
        for code in [3, 9, 200] {
            assert_eq!(verdict(&exits(0), exits(code), order, Unread::Neither), Verdict::JudgeError);
        }
    }
}

#[test]
fn what_came_first_decides_where_both_fail() {
    let none = Unread::Neither;
    assert_eq!(verdict(&exits(9), exits(1), FIRST, none), Verdict::WrongAnswer);
    assert_eq!(verdict(&exits(9), exits(1), LAST, none), Verdict::RuntimeError);
    assert_eq!(verdict(&killed_by(libc::SIGPIPE), exits(0), FIRST, none), Verdict::RuntimeError);
    assert_eq!(verdict(&exits(9), killed_by(libc::SIGSEGV), FIRST, none), Verdict::JudgeError);
    assert_eq!(verdict(&exits(9), killed_by(libc::SIGSEGV), LAST, none), Verdict::RuntimeError);
    assert_eq!(verdict(&broke(Status::CpuTimeExceeded), exits(1), LAST, none), Verdict::TimeLimitExceeded);
    assert_eq!(verdict(&broke(Status::MemoryExceeded), exits(1), LAST, none), Verdict::MemoryLimitExceeded);
    assert_eq!(
        verdict(&broke(Status::OutputExceeded), killed_by(libc::SIGPIPE), LAST, none),
        Verdict::OutputLimitExceeded
    );
}

#[test]
fn an_interactor_that_nobody_reads_is_let_down() {
    for order in [FIRST, LAST] {
        assert_eq!(verdict(&exits(0), killed_by(libc::SIGPIPE), order, Unread::Program), Verdict::WrongAnswer);
        assert_eq!(verdict(&exits(3), killed_by(libc::SIGPIPE), order, Unread::Program), Verdict::RuntimeError);
    }
}

#[test]
fn an_interactor_that_ignores_the_signal_is_let_down_as_well() {
    let cut_off = |program: &StageResult, code| {
        let talk = Talk { partner_was_cut_off: true, ..talk(exits(code), LAST, Unread::Program) };
        of_talk(program, talk, 1.0).verdict
    };
    // CPython's status where it could not write all that was printed, and such as mean nothing either.
    for code in [120, 5, 141, 255] {
        assert_eq!(cut_off(&exits(0), code), Verdict::WrongAnswer, "{code}");
        assert_eq!(cut_off(&exits(3), code), Verdict::RuntimeError, "{code}");
        assert_eq!(cut_off(&broke(Status::WallTimeExceeded), code), Verdict::TimeLimitExceeded, "{code}");
        // Nothing that it wrote went amiss.
        assert_eq!(verdict(&exits(0), exits(code), LAST, Unread::Program), Verdict::JudgeError, "{code}");
    }
    // What it says counts, and that it has failed most of all.
    for (code, expected) in [
        (0, Verdict::Accepted),
        (1, Verdict::WrongAnswer),
        (2, Verdict::PresentationError),
        (3, Verdict::JudgeError),
        (7, Verdict::JudgeError),
        (66, Verdict::Partial),
    ] {
        assert_eq!(cut_off(&exits(0), code), expected, "{code}");
    }
}

#[test]
fn one_that_closes_its_output_and_waits_blames_nobody_who_has_ended() {
    let waits = broke(Status::WallTimeExceeded);
    let busy = Usage { wall_time_us: 1000, cpu_time_us: 900, ..Usage::default() };
    for unread in [Unread::Neither, Unread::Program, Unread::Interactor, Unread::Both] {
        let judged = |interactor: StageResult, outlived| {
            let talk = Talk { partner_outlived: outlived, ..talk(interactor, LAST, unread) };
            of_talk(&waits, talk, 1.0).verdict
        };
        for usage in [Usage::default(), busy] {
            let ends = |code| StageResult { usage, ..exits(code) };
            assert_eq!(judged(ends(1), false), Verdict::WrongAnswer);
            assert_eq!(judged(ends(2), false), Verdict::PresentationError);
            assert_eq!(judged(ends(0), false), Verdict::TimeLimitExceeded);
            assert_eq!(judged(ends(3), false), Verdict::JudgeError);
        }
        // The control: one that is there still can be what it waits for.
        assert_eq!(judged(StageResult { usage: busy, ..exits(1) }, true), Verdict::JudgeError);
        let deaf = if unread == Unread::Interactor { Verdict::JudgeError } else { Verdict::TimeLimitExceeded };
        assert_eq!(judged(exits(1), true), deaf);
    }
}

#[test]
fn one_of_two_that_wait_is_to_blame() {
    let (waits, busy) = (broke(Status::WallTimeExceeded), broke(Status::CpuTimeExceeded));
    let spins = StageResult { usage: Usage { wall_time_us: 1000, cpu_time_us: 900, ..Usage::default() }, ..exits(1) };
    // The program's time runs out, and the interactor then ends as it reads the end of its input.
    assert_eq!(verdict(&waits, exits(1), LAST, Unread::Neither), Verdict::TimeLimitExceeded);
    assert_eq!(verdict(&waits, exits(1), LAST, Unread::Program), Verdict::TimeLimitExceeded);
    assert_eq!(verdict(&waits, exits(1), LAST, Unread::Both), Verdict::TimeLimitExceeded);
    assert_eq!(verdict(&waits, exits(1), LAST, Unread::Interactor), Verdict::JudgeError);
    assert_eq!(verdict(&waits, spins.clone(), LAST, Unread::Neither), Verdict::JudgeError);
    // The interactor's runs out first, with the same results.
    for program in [exits(0), exits(1)] {
        assert_eq!(verdict(&program, waits.clone(), FIRST, Unread::Neither), Verdict::TimeLimitExceeded);
        assert_eq!(verdict(&program, waits.clone(), FIRST, Unread::Interactor), Verdict::JudgeError);
    }
    assert_eq!(verdict(&waits, waits.clone(), LAST, Unread::Neither), Verdict::TimeLimitExceeded);
    // Neither reads: the interactor's death is the program's as well.
    let cut_off = killed_by(libc::SIGPIPE);
    assert_eq!(verdict(&cut_off, waits.clone(), LAST, Unread::Both), Verdict::TimeLimitExceeded);
    // One that has ended holds nobody up.
    assert_eq!(verdict(&waits, spins, FIRST, Unread::Neither), Verdict::WrongAnswer);
    assert_eq!(verdict(&waits, exits(0), FIRST, Unread::Neither), Verdict::TimeLimitExceeded);
    assert_eq!(verdict(&exits(0), waits.clone(), LAST, Unread::Neither), Verdict::JudgeError);
    assert_eq!(verdict(&exits(1), waits, LAST, Unread::Neither), Verdict::RuntimeError);
    // One that takes too much processor time is never the one that waits.
    assert_eq!(verdict(&exits(0), busy.clone(), FIRST, Unread::Neither), Verdict::JudgeError);
    assert_eq!(verdict(&busy, exits(1), LAST, Unread::Neither), Verdict::TimeLimitExceeded);
}
