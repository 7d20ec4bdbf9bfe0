//! How a program ended, in words for a model and as data.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::wire::{Denied, StageResponse, UsageResponse};
use crate::cli::{exit, network};
use crate::job::Status;

/// Most refusals that are told one by one.
const REFUSALS: usize = 20;

/// How a program ended.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Ending {
    status: Status,
    exit_code: Option<i32>,
    signal: Option<String>,
    reason: Option<String>,
    usage: UsageResponse,
    #[serde(default)]
    denied: Vec<Denied>,
    #[serde(default)]
    network_error: Option<String>,
}

impl From<&StageResponse> for Ending {
    fn from(stage: &StageResponse) -> Self {
        Self {
            status: stage.status,
            exit_code: stage.exit_code,
            signal: stage.signal.clone(),
            reason: stage.reason.clone(),
            usage: stage.usage,
            denied: stage.denied.clone(),
            network_error: stage.network_error.clone(),
        }
    }
}

/// The same as data.
#[derive(Debug, Clone, Serialize, JsonSchema)]
pub(super) struct Outcome {
    /// ok, nonzero_exit, signalled, wall_time_exceeded, memory_exceeded, compile_failed, …
    pub(super) status: String,
    /// Status that the program exited with; null where a signal ended it
    pub(super) exit_code: Option<i32>,
    /// Signal that ended it
    pub(super) signal: Option<String>,
    /// Why it did not end well
    pub(super) reason: Option<String>,
    /// Time that it ran, by the clock
    pub(super) wall_time_ms: f64,
    /// Most memory that it had
    pub(super) memory_peak_bytes: u64,
    /// What the sandbox refused to it: system calls, and connections
    pub(super) refused: Vec<String>,
}

impl Ending {
    /// As data, with the status of the whole.
    pub(super) fn outcome(&self, status: Status) -> Outcome {
        Outcome {
            status: exit::name(status),
            exit_code: self.exit_code,
            signal: self.signal.clone(),
            reason: self.reason.clone(),
            wall_time_ms: self.usage.wall_time_ms,
            memory_peak_bytes: self.usage.memory_peak_bytes,
            refused: self.refused(),
        }
    }

    /// The status of the program itself.
    pub(super) fn status(&self) -> Status {
        self.status
    }

    /// The first line of a result.
    pub(super) fn headline(&self, status: Status) -> String {
        let mut line = format!("status: {}", exit::name(status));
        let details = [
            self.exit_code.map(|code| format!("exit code {code}")),
            self.signal.clone(),
            self.reason.clone(),
            Some(format!("{:.0} ms", self.usage.wall_time_ms)),
            Some(format!("{:.1} MiB", mebibytes(self.usage.memory_peak_bytes))),
        ];
        let details: Vec<String> = details.into_iter().flatten().collect();
        line.push_str(&format!(" ({})", details.join(", ")));
        line
    }

    /// What was refused, and what to do next.
    pub(super) fn notes(&self, status: Status) -> Vec<String> {
        let mut notes: Vec<String> = self.refused().into_iter().map(|refused| format!("refused: {refused}")).collect();
        if self.reaches_out() {
            notes.push(
                "note: the sandbox refused network access by its policy, so trying again changes nothing. Work without \
                 the network; packages are installed by the argument dependencies"
                    .to_owned(),
            );
        }
        notes.extend(advice(status).map(|advice| format!("next: {advice}")));
        notes
    }

    fn refused(&self) -> Vec<String> {
        let calls = self.denied.iter().filter_map(|denied| match denied {
            Denied::Syscall(call) => {
                let argument = call.argument.as_ref().map(|argument| format!(" {argument}")).unwrap_or_default();
                Some(format!("system call {}{argument}, {} times", call.syscall, call.count))
            }
            Denied::Flow(_) => None,
        });
        let flows = network::refusals(&self.denied, self.network_error.as_deref()).into_iter();
        let flows = flows.map(|line| line.strip_prefix("refused: ").map_or(line.clone(), str::to_owned));
        let mut all: Vec<String> = calls.chain(flows).collect();
        if all.len() > REFUSALS {
            let more = all.len() - REFUSALS;
            all.truncate(REFUSALS);
            all.push(format!("and {more} more"));
        }
        all
    }

    fn reaches_out(&self) -> bool {
        self.denied.iter().any(|denied| match denied {
            Denied::Flow(_) => true,
            Denied::Syscall(call) => call.syscall == "socket",
        })
    }
}

fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// What helps against it.
fn advice(status: Status) -> Option<&'static str> {
    Some(match status {
        Status::WallTimeExceeded => "it ran out of time: do less, or raise timeout_ms",
        Status::CpuTimeExceeded => "it took too much processor time: do less, or do it in several calls",
        Status::MemoryExceeded => "it took too much memory: hold less at one time, or raise memory_mb",
        Status::OutputExceeded => "it printed too much: print less, or write it into a file",
        Status::ProcessesExceeded => "it started too many processes or threads: use a small pool",
        Status::FileSizeExceeded | Status::DiskExceeded => {
            "it wrote too much: write less, or remove what is not needed"
        }
        Status::SyscallDenied => "what it asked of the kernel is not available in the sandbox: do it another way",
        Status::CompileFailed => "mend the source by the compiler's messages and call again",
        Status::PrepareFailed => "look at the installer's messages: names and versions of dependencies may be wrong",
        Status::Signalled => "it crashed: look for invalid memory access, an abort, or endless recursion",
        Status::Ok | Status::NonzeroExit | Status::Cancelled => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(json: serde_json::Value) -> Ending {
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn the_status_comes_first_and_then_why() {
        let ending = ending(serde_json::json!({
            "status": "memory_exceeded", "exit_code": null, "signal": "SIGKILL", "reason": "more than 5 bytes",
            "usage": {"wall_time_ms": 12.4, "cpu_time_ms": 1.0, "memory_peak_bytes": 2_097_152, "processes_peak": 1,
                      "read_bytes": null, "written_bytes": null},
        }));
        let status = ending.status();
        assert_eq!(ending.headline(status), "status: memory_exceeded (SIGKILL, more than 5 bytes, 12 ms, 2.0 MiB)");
        assert!(ending.notes(status).last().unwrap().contains("memory_mb"));
    }

    #[test]
    fn refusals_are_told_once_and_no_more_than_some() {
        let calls: Vec<_> =
            (0..30).map(|n| serde_json::json!({"syscall": format!("call{n}"), "argument": null, "count": 1})).collect();
        let mut calls = calls;
        calls.push(serde_json::json!({"syscall": "socket", "argument": "AF_INET", "count": 3}));
        let ending = ending(serde_json::json!({
            "status": "ok", "exit_code": 0, "signal": null, "reason": null, "denied": calls,
            "usage": {"wall_time_ms": 1.0, "cpu_time_ms": 1.0, "memory_peak_bytes": 1, "processes_peak": 1,
                      "read_bytes": null, "written_bytes": null},
        }));
        let notes = ending.notes(Status::Ok);
        assert_eq!(notes.len(), REFUSALS + 2, "{notes:?}");
        assert!(notes[REFUSALS].contains("11 more") && notes[REFUSALS + 1].contains("dependencies"), "{notes:?}");
    }
}
