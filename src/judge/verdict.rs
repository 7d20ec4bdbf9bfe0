//! What can be said of a case, and of all of them.

use super::compare::Difference;
use crate::job::{Outcome, StageResult, Status};
use crate::scheduler::Transcript;

/// Whether the program did what it was to do, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It did.
    Accepted,
    /// A checker or interactor gave it a part of the points.
    Partial,
    /// It printed something else.
    WrongAnswer,
    /// A checker or interactor could not make sense of what it printed.
    PresentationError,
    /// It took more time than its limit, or waited without end.
    TimeLimitExceeded,
    /// It took more memory than its limit.
    MemoryLimitExceeded,
    /// It printed more than its limit.
    OutputLimitExceeded,
    /// It ended by a signal, with a status other than 0, or because of another limit.
    RuntimeError,
    /// The checker or the interactor is to blame, and not the program.
    JudgeError,
    /// It was not run, because of the verdict of another case.
    Skipped,
    /// Of all cases: there was nothing to run.
    CompileFailed,
    /// Of all cases: what the program needs could not be installed.
    PrepareFailed,
    /// Of all cases: they were cancelled.
    Cancelled,
}

impl Verdict {
    /// What a run that ended like this is worth; nothing where that is for what it printed to say.
    #[must_use]
    pub fn of_run(status: Status) -> Option<Self> {
        match status {
            Status::Ok => None,
            Status::WallTimeExceeded | Status::CpuTimeExceeded => Some(Self::TimeLimitExceeded),
            Status::MemoryExceeded => Some(Self::MemoryLimitExceeded),
            Status::OutputExceeded => Some(Self::OutputLimitExceeded),
            Status::NonzeroExit
            | Status::Signalled
            | Status::ProcessesExceeded
            | Status::FileSizeExceeded
            | Status::DiskExceeded
            | Status::SyscallDenied => Some(Self::RuntimeError),
            Status::Cancelled => Some(Self::Cancelled),
            Status::CompileFailed => Some(Self::CompileFailed),
            Status::PrepareFailed => Some(Self::PrepareFailed),
        }
    }
}

/// What became of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseResult {
    /// What it is worth, in a word.
    pub verdict: Verdict,
    /// And as a part of its points, from 0 to 1.
    pub fraction: f64,
    /// The verdict in words, where something is to be said.
    pub reason: Option<String>,
    /// Where what was printed differs from what was expected.
    pub difference: Option<Difference>,
    /// What the checker or interactor said of it.
    pub message: Option<Vec<u8>>,
    /// What became of the program, without its standard output and with the beginning of its standard error; absent
    /// where it was not run.
    pub outcome: Option<Box<Outcome>>,
    /// What became of the checker or interactor, without what it printed.
    pub helper: Option<Box<StageResult>>,
    /// What program and interactor said.
    pub transcript: Option<Transcript>,
    /// Whether something of what it could show was left out, because other cases have shown as much as all may.
    pub cut: bool,
}

impl CaseResult {
    /// That of a case of which nothing but this is to be said.
    #[must_use]
    pub fn of(verdict: Verdict, reason: Option<String>) -> Self {
        Self {
            verdict,
            fraction: if verdict == Verdict::Accepted { 1.0 } else { 0.0 },
            reason,
            difference: None,
            message: None,
            outcome: None,
            helper: None,
            transcript: None,
            cut: false,
        }
    }

    /// Bytes of programs' and of expected output that it shows.
    #[must_use]
    pub fn shown_bytes(&self) -> usize {
        let of_run = self.outcome.as_ref().and_then(|outcome| outcome.run.as_ref()).map_or(0, |run| run.stderr.len());
        let difference = self.difference.as_ref().map_or(0, |shown| shown.expected.len() + shown.printed.len());
        let said = self.transcript.iter().flat_map(|transcript| &transcript.said).map(|said| said.bytes.len());
        of_run + difference + said.sum::<usize>() + self.message.as_ref().map_or(0, Vec::len)
    }

    /// Leaves all of that out.
    pub fn cut(&mut self) {
        self.cut |= self.shown_bytes() > 0;
        if let Some(run) = self.outcome.as_mut().and_then(|outcome| outcome.run.as_mut()) {
            run.stderr.clear();
        }
        if let Some(difference) = &mut self.difference {
            difference.expected.clear();
            difference.printed.clear();
        }
        (self.transcript, self.message) = (None, None);
    }
}
