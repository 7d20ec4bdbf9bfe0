//! `codesandbox doctor`: whether this host can run sandboxes, what is lacking, and the remedy.

use std::process::ExitCode;

use serde::Serialize;

use super::service::Place;
use super::text::{harmless, table};

mod host;
mod kernel;
pub(super) mod probe;

/// Arguments of `codesandbox doctor`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Print the whole report as JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// How well one thing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// It is as it should be.
    Found,
    /// It is worth knowing, and no fault.
    Noted,
    /// Sandboxes run without it, held less tightly or less well.
    Degraded,
    /// No sandbox runs without it.
    Missing,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
struct Remedy {
    /// On NixOS: an option, mostly.
    nixos: &'static str,
    /// On Debian and its kin: a command, mostly.
    debian: &'static str,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    name: &'static str,
    state: State,
    /// What was found, or why it was not.
    detail: String,
    /// What it is for.
    purpose: &'static str,
    /// Only where something is to be done.
    remedy: Option<Remedy>,
}

impl Check {
    fn new(name: &'static str, purpose: &'static str, state: State, detail: String, remedy: Remedy) -> Self {
        let remedy = (state > State::Noted).then_some(remedy);
        Self { name, state, detail, purpose, remedy }
    }
}

/// What it comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Usable,
    Degraded,
    Unusable,
}

impl Verdict {
    fn of(checks: &[Check]) -> Self {
        match checks.iter().map(|check| check.state).max() {
            Some(State::Missing) => Self::Unusable,
            Some(State::Degraded) => Self::Degraded,
            _ => Self::Usable,
        }
    }

    /// The exit status: 0, 1 or 2.
    fn exit_status(self) -> u8 {
        self as u8
    }

    fn sentence(self) -> &'static str {
        match self {
            Self::Usable => "usable: sandboxes run here with every lock",
            Self::Degraded => "degraded: sandboxes run here, but not everything is as it should be",
            Self::Unusable => "unusable: no sandbox can run here",
        }
    }
}

/// The whole report.
#[derive(Debug, Serialize)]
struct Report {
    verdict: Verdict,
    checks: Vec<Check>,
}

/// Looks at everything and tells.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // The trials of the kernel come before any thread is started.
    let mut checks = kernel::checks();
    checks.extend(host::checks(&arguments.place));
    let report = Report { verdict: Verdict::of(&checks), checks };
    let text = if arguments.json {
        let json = serde_json::to_string_pretty(&report).expect("a report has only text keys");
        format!("{json}\n")
    } else {
        render(&report)
    };
    super::print(text.as_bytes(), ExitCode::from(report.verdict.exit_status()))
}

fn render(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report
        .checks
        .iter()
        .map(|check| {
            let state = match check.state {
                State::Found => "found",
                State::Noted => "note",
                State::Degraded => "DEGRADED",
                State::Missing => "MISSING",
            };
            let detail = if check.detail.is_empty() { check.purpose.to_owned() } else { harmless(&check.detail) };
            vec![check.name.to_owned(), state.to_owned(), detail]
        })
        .collect();
    let mut text = table(&rows);
    for check in &report.checks {
        if let Some(remedy) = check.remedy {
            text.push_str(&format!(
                "\n{}: {}\n  {}\n  NixOS   {}\n  Debian  {}\n",
                check.name,
                check.purpose,
                harmless(&check.detail),
                remedy.nixos,
                remedy.debian
            ));
        }
    }
    text.push_str(&format!("\n{}\n", report.verdict.sentence()));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const REMEDY: Remedy = Remedy { nixos: "an option", debian: "a command" };

    fn check(state: State) -> Check {
        Check::new("thing", "needed for something", state, "why\x1b[2J".to_owned(), REMEDY)
    }

    #[test]
    fn the_worst_finding_decides() {
        let verdict = |states: &[State]| Verdict::of(&states.iter().map(|state| check(*state)).collect::<Vec<_>>());
        assert_eq!(verdict(&[State::Found, State::Noted]).exit_status(), 0);
        assert_eq!(verdict(&[State::Degraded, State::Found]).exit_status(), 1);
        assert_eq!(verdict(&[State::Degraded, State::Missing]).exit_status(), 2);
    }

    #[test]
    fn only_what_lacks_has_a_remedy() {
        assert!(check(State::Noted).remedy.is_none());
        let report = |state| render(&Report { verdict: Verdict::Usable, checks: vec![check(state)] });
        assert!(!report(State::Found).contains("a command"));
        assert!(report(State::Missing).contains("a command"));
    }

    #[test]
    fn escape_sequences_are_not_printed() {
        let report = Report { verdict: Verdict::Unusable, checks: vec![check(State::Missing)] };
        assert!(!render(&report).contains('\x1b'));
    }
}
