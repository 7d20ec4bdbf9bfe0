//! Exit statuses of `codesandbox run`: one table, from which the help text, the manual page and
//! `docs/CLI.md` are made.

use std::str::FromStr;

use nix::sys::signal::Signal;

use crate::job::Status;

/// We failed, or the request was refused: nothing is said about the program.
pub const FAILURE: u8 = 125;
/// The program could not be started at all.
pub const NOT_STARTED: u8 = 126;
/// Added to the number of the signal that ended the program.
pub const SIGNAL_BASE: u8 = 128;
/// The terminal is gone: SIGHUP, on top of [`SIGNAL_BASE`].
pub const HUNG_UP: u8 = 129;
/// Ctrl-C: SIGINT, on top of [`SIGNAL_BASE`].
pub const INTERRUPTED: u8 = 130;
/// Whoever read our output is gone: SIGPIPE, on top of [`SIGNAL_BASE`].
pub const BROKEN_PIPE: u8 = 141;
/// SIGTERM, on top of [`SIGNAL_BASE`].
pub const TERMINATED: u8 = 143;

/// Exit statuses that a verdict has for itself, and what each means. 124 is what timeout(1) says,
/// 125 and 126 what container engines say; the rest goes down from there, away from the small
/// numbers that programs use.
const VERDICTS: &[(Status, u8, &str)] = &[
    (Status::PrepareFailed, 115, "packages could not be installed; the installer's output is on standard error"),
    (Status::CompileFailed, 116, "compiling failed; the compiler's output is on standard error"),
    (Status::SyscallDenied, 117, "it made a system call that is refused, and ended because of it"),
    (Status::DiskExceeded, 118, "it filled its disk"),
    (Status::FileSizeExceeded, 119, "it wanted a larger file than its limit"),
    (Status::ProcessesExceeded, 120, "it wanted more processes and threads than its limit"),
    (Status::OutputExceeded, 121, "it wrote more than its limit"),
    (Status::MemoryExceeded, 122, "it took more memory than its limit"),
    (Status::CpuTimeExceeded, 123, "it took more processor time than its limit"),
    (Status::WallTimeExceeded, 124, "it took more time by the clock than its limit"),
];

/// The exit status that tells how a stage ended; `signal` is a name, as answers spell it.
#[must_use]
pub fn of(status: Status, exit_code: Option<i32>, signal: Option<&str>) -> u8 {
    if let Some((_, code, _)) = VERDICTS.iter().find(|(verdict, _, _)| *verdict == status) {
        return *code;
    }
    match status {
        Status::Ok => 0,
        Status::Cancelled => INTERRUPTED,
        Status::Signalled => {
            signal.and_then(signal_number).and_then(|signal| SIGNAL_BASE.checked_add(signal)).unwrap_or(FAILURE)
        }
        _ => exit_code.map_or(NOT_STARTED, low_byte),
    }
}

/// Number of `SIGSEGV`, or of `signal 34`, as the real-time ones are called.
fn signal_number(name: &str) -> Option<u8> {
    match name.strip_prefix("signal ") {
        Some(number) => number.parse().ok(),
        None => u8::try_from(Signal::from_str(name).ok()? as i32).ok(),
    }
}

/// What the kernel would keep of an exit status.
fn low_byte(code: i32) -> u8 {
    code.to_le_bytes()[0]
}

/// Every exit status and what it means, in ascending order.
#[must_use]
pub fn rows() -> Vec<(String, String)> {
    let mut rows = vec![
        ("0".to_owned(), "the program exited with 0".to_owned()),
        ("1 … 255".to_owned(), "the program's own exit status, where it ended by itself".to_owned()),
    ];
    for (status, code, meaning) in VERDICTS {
        rows.push((code.to_string(), format!("{}: {meaning}", name(*status))));
    }
    rows.extend([
        (FAILURE.to_string(), "codesandbox itself failed, or the request was refused".to_owned()),
        (NOT_STARTED.to_string(), "the program could not be started".to_owned()),
        ("128 + n".to_owned(), format!("{}: signal n ended the program", name(Status::Signalled))),
        (INTERRUPTED.to_string(), format!("{}: Ctrl-C, or a request to cancel", name(Status::Cancelled))),
    ]);
    rows
}

/// A status as answers spell it.
#[must_use]
pub fn name(status: Status) -> String {
    serde_json::to_value(status)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .expect("a status is serialised as a string")
}

/// The table for the help text and the manual page.
#[must_use]
pub fn help() -> String {
    let mut text = String::from("Exit status:\n");
    for (code, meaning) in rows() {
        text.push_str(&format!("  {code:<8} {meaning}\n"));
    }
    text
}

/// The table for `docs/CLI.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from("| status | meaning |\n|---|---|\n");
    for (code, meaning) in rows() {
        text.push_str(&format!("| {code} | {meaning} |\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_verdicts_share_a_status() {
        let mut codes: Vec<u8> = VERDICTS.iter().map(|(_, code, _)| *code).collect();
        codes.extend([FAILURE, NOT_STARTED, SIGNAL_BASE]);
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count);
    }

    #[test]
    fn a_program_that_ends_by_itself_keeps_its_status() {
        assert_eq!(of(Status::Ok, Some(0), None), 0);
        assert_eq!(of(Status::NonzeroExit, Some(7), None), 7);
        assert_eq!(of(Status::NonzeroExit, Some(255), None), 255);
        assert_eq!(of(Status::NonzeroExit, None, None), NOT_STARTED);
    }

    #[test]
    fn a_signal_is_told_as_shells_tell_it() {
        assert_eq!(of(Status::Signalled, None, Some("SIGSEGV")), 139);
        assert_eq!(of(Status::Signalled, None, Some("signal 34")), 162);
        assert_eq!(of(Status::Cancelled, None, Some("SIGKILL")), INTERRUPTED);
        assert_eq!(of(Status::Signalled, None, Some("signal 4000")), FAILURE);
    }

    #[test]
    fn a_limit_has_its_own_status_however_the_program_ended() {
        assert_eq!(of(Status::WallTimeExceeded, None, Some("SIGKILL")), 124);
        assert_eq!(of(Status::MemoryExceeded, Some(1), None), 122);
        assert_eq!(of(Status::CompileFailed, None, None), 116);
    }

    #[test]
    fn the_document_has_this_table() {
        let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CLI.md")).unwrap();
        assert!(document.contains(&markdown()), "docs/CLI.md must contain:\n{}", markdown());
    }
}
