//! The status of a run: from what became of its program, and from what was expected of it.

use super::record::{Status, Summary};
use crate::job;
use crate::job::StageResult;

/// What comes of one run.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Verdict {
    /// Its status.
    pub(super) status: Status,
    /// What is told besides.
    pub(super) summary: Summary,
}

/// The verdict on a run stage; `cpu_time_us` is the limit without the time beyond it.
pub(super) fn of_run(stage: &StageResult, cpu_time_us: u64, expected: Option<&[u8]>) -> Verdict {
    use job::Status as Why;
    let late = stage.usage.cpu_time_us > cpu_time_us;
    // What the kernel would have sent to a program that prints to a file.
    let too_much = stage.status == Why::OutputExceeded;
    let signal = if too_much { Some(libc::SIGXFSZ) } else { stage.signal };
    let (status, message) = match (stage.status, signal, stage.exit_code) {
        (Why::Cancelled, ..) => (Status::Internal, Some("the run was cancelled".to_owned())),
        (Why::WallTimeExceeded, ..) => (Status::TimeLimit, Some("Time limit exceeded (wall clock)".to_owned())),
        (Why::CpuTimeExceeded, ..) => (Status::TimeLimit, Some("Time limit exceeded".to_owned())),
        _ if late => (Status::TimeLimit, Some("Time limit exceeded".to_owned())),
        (_, Some(signal), _) => (of_signal(signal), Some(format!("Caught fatal signal {signal}"))),
        (_, None, Some(0)) if expected.is_none_or(|expected| is_same(expected, &stage.stdout)) => {
            (Status::Accepted, None)
        }
        (_, None, Some(0)) => (Status::WrongAnswer, None),
        (_, None, Some(code)) => (Status::Nzec, Some(format!("Exited with error status {code}"))),
        (_, None, None) => (Status::ExecFormat, stage.reason.clone()),
    };
    let summary = Summary {
        time: Some(seconds(stage.usage.cpu_time_us)),
        wall_time: Some(seconds(stage.usage.wall_time_us)),
        memory: Some(stage.usage.memory_peak_bytes / 1024),
        exit_code: Some(stage.exit_code.unwrap_or(0)),
        exit_signal: signal,
        message,
    };
    Verdict { status, summary }
}

/// What a compiler said; none where it said nothing. One that ran out of time says nothing that can be believed.
pub(super) fn compile_output(stage: &StageResult) -> Option<Vec<u8>> {
    use job::Status as Why;
    if matches!(stage.status, Why::WallTimeExceeded | Why::CpuTimeExceeded) {
        return Some(b"Compilation time limit exceeded.".to_vec());
    }
    some([&stage.stdout[..], &stage.stderr].concat())
}

/// Nothing counts as none.
pub(super) fn some(bytes: Vec<u8>) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then_some(bytes)
}

fn of_signal(signal: i32) -> Status {
    match signal {
        libc::SIGSEGV => Status::Segv,
        libc::SIGXFSZ => Status::Xfsz,
        libc::SIGFPE => Status::Fpe,
        libc::SIGABRT => Status::Abrt,
        _ => Status::Other,
    }
}

/// Whether two texts are the same but for white space at the ends of their lines, and at their own.
fn is_same(expected: &[u8], printed: &[u8]) -> bool {
    let lines = |text| trimmed(text).split(|byte| *byte == b'\n').map(trimmed);
    lines(expected).eq(lines(printed))
}

/// Without white space at the end, of which NUL is part there.
fn trimmed(text: &[u8]) -> &[u8] {
    let is_space = |byte: &u8| matches!(byte, b'\t'..=b'\r' | b' ' | b'\0');
    let length = text.iter().rposition(|byte| !is_space(byte)).map_or(0, |last| last + 1);
    &text[..length]
}

fn seconds(us: u64) -> f64 {
    // As exact as what Judge0 asks.
    std::time::Duration::from_millis((us + 500) / 1000).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn white_space_at_ends_does_not_count() {
        for (expected, printed) in [
            ("a\nb", "a\nb"),
            ("a\nb\n\n\n", "a  \nb"),
            ("a", "a\r\n"),
            ("", ""),
            ("", " \n\n"),
            ("a\t\n\nb", "a\n \nb\0\n"),
        ] {
            assert!(is_same(expected.as_bytes(), printed.as_bytes()), "{expected:?} {printed:?}");
        }
        for (expected, printed) in [("a", "b"), ("a", ""), ("a\nb", "a b"), (" a", "a"), ("a\n\nb", "a\nb"), ("", "a")]
        {
            assert!(!is_same(expected.as_bytes(), printed.as_bytes()), "{expected:?} {printed:?}");
        }
        assert!(is_same(b"\xff\n", b"\xff"));
    }

    #[test]
    fn every_signal_with_a_status_has_it() {
        let found = [11, 25, 8, 6, 9, 15].map(|signal| of_signal(signal).id());
        assert_eq!(found, [7, 8, 9, 10, 12, 12]);
    }
}
