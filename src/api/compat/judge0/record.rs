//! A submission: what was sent, what it may use, and what became of it.

use serde::{Deserialize, Serialize};

/// Where a submission stands; the numbers are Judge0's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Status {
    Queue = 1,
    Processing = 2,
    Accepted = 3,
    WrongAnswer = 4,
    TimeLimit = 5,
    Compilation = 6,
    Segv = 7,
    Xfsz = 8,
    Fpe = 9,
    Abrt = 10,
    Nzec = 11,
    Other = 12,
    Internal = 13,
    ExecFormat = 14,
}

impl Status {
    /// Every status, by number.
    pub(super) const ALL: [Self; 14] = [
        Self::Queue,
        Self::Processing,
        Self::Accepted,
        Self::WrongAnswer,
        Self::TimeLimit,
        Self::Compilation,
        Self::Segv,
        Self::Xfsz,
        Self::Fpe,
        Self::Abrt,
        Self::Nzec,
        Self::Other,
        Self::Internal,
        Self::ExecFormat,
    ];

    /// Its number.
    pub(super) fn id(self) -> u8 {
        self as u8
    }

    /// That of a number.
    pub(super) fn of(id: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|status| i64::from(status.id()) == id)
    }

    /// Its words.
    pub(super) fn description(self) -> &'static str {
        match self {
            Self::Queue => "In Queue",
            Self::Processing => "Processing",
            Self::Accepted => "Accepted",
            Self::WrongAnswer => "Wrong Answer",
            Self::TimeLimit => "Time Limit Exceeded",
            Self::Compilation => "Compilation Error",
            Self::Segv => "Runtime Error (SIGSEGV)",
            Self::Xfsz => "Runtime Error (SIGXFSZ)",
            Self::Fpe => "Runtime Error (SIGFPE)",
            Self::Abrt => "Runtime Error (SIGABRT)",
            Self::Nzec => "Runtime Error (NZEC)",
            Self::Other => "Runtime Error (Other)",
            Self::Internal => "Internal Error",
            Self::ExecFormat => "Exec Format Error",
        }
    }

    /// Whether nothing changes any more.
    pub(super) fn is_final(self) -> bool {
        !matches!(self, Self::Queue | Self::Processing)
    }
}

/// A submission. Times of the calendar are Unix times in milliseconds.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Submission {
    /// Names it; random.
    pub(super) token: String,
    /// Id of its language.
    pub(super) language_id: u64,
    /// Where it stands.
    pub(super) status: Status,
    /// When it came.
    pub(super) created_at: u64,
    /// When it was over.
    pub(super) finished_at: Option<u64>,
    /// What is small.
    pub(super) details: Details,
    /// What may be large.
    pub(super) texts: Texts,
}

/// What of a submission is small. It is stored as JSON, so that what is new in it may be absent in what is old.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Details {
    /// What it may use.
    pub(super) settings: Settings,
    /// When its first run began.
    pub(super) started_at: Option<u64>,
    /// When it was last changed.
    pub(super) updated_at: Option<u64>,
    /// What it came to.
    pub(super) result: Summary,
}

/// What became of a submission, besides its status and what it printed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Summary {
    /// Processor time in seconds, on average of its runs.
    pub(super) time: Option<f64>,
    /// Time by the clock of its last run, in seconds.
    pub(super) wall_time: Option<f64>,
    /// Kilobytes of memory, on average of its runs.
    pub(super) memory: Option<u64>,
    /// Status that it exited with.
    pub(super) exit_code: Option<i32>,
    /// Signal that ended it.
    pub(super) exit_signal: Option<i32>,
    /// Why it ended.
    pub(super) message: Option<String>,
}

/// What a submission may use; the units are Judge0's: seconds and kilobytes.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Settings {
    pub(super) compiler_options: Option<String>,
    pub(super) command_line_arguments: Option<String>,
    pub(super) number_of_runs: u64,
    pub(super) cpu_time_limit: f64,
    pub(super) cpu_extra_time: f64,
    pub(super) wall_time_limit: f64,
    pub(super) memory_limit: u64,
    pub(super) stack_limit: u64,
    pub(super) max_processes_and_or_threads: u64,
    pub(super) enable_per_process_and_thread_time_limit: bool,
    pub(super) enable_per_process_and_thread_memory_limit: bool,
    pub(super) max_file_size: u64,
    pub(super) redirect_stderr_to_stdout: bool,
    pub(super) enable_network: bool,
    pub(super) callback_url: Option<String>,
}

/// What of a submission may be large.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Texts {
    pub(super) source_code: Option<Vec<u8>>,
    pub(super) stdin: Option<Vec<u8>>,
    pub(super) expected_output: Option<Vec<u8>>,
    pub(super) additional_files: Option<Vec<u8>>,
    pub(super) stdout: Option<Vec<u8>>,
    pub(super) stderr: Option<Vec<u8>>,
    pub(super) compile_output: Option<Vec<u8>>,
}

impl Texts {
    /// Their names, in the order of [`Self::as_array`].
    pub(super) const NAMES: [&str; 7] =
        ["source_code", "stdin", "expected_output", "additional_files", "stdout", "stderr", "compile_output"];

    /// All of them.
    pub(super) fn as_array(&self) -> [Option<&[u8]>; 7] {
        [
            self.source_code.as_deref(),
            self.stdin.as_deref(),
            self.expected_output.as_deref(),
            self.additional_files.as_deref(),
            self.stdout.as_deref(),
            self.stderr.as_deref(),
            self.compile_output.as_deref(),
        ]
    }

    /// Forgets what was sent; what was printed stays.
    pub(super) fn forget_sent(&mut self) {
        let Self { stdout, stderr, compile_output, .. } = std::mem::take(self);
        *self = Self { stdout, stderr, compile_output, ..Self::default() };
    }

    /// Their bytes together.
    pub(super) fn bytes(&self) -> u64 {
        self.as_array().into_iter().flatten().map(|text| text.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sent_can_be_forgotten() {
        let text = |text: &str| Some(text.as_bytes().to_vec());
        let mut texts = Texts {
            source_code: text("a"),
            stdin: text("b"),
            expected_output: text("c"),
            additional_files: text("d"),
            stdout: text("e"),
            stderr: text("f"),
            compile_output: text("g"),
        };
        texts.forget_sent();
        let printed = [Some(&b"e"[..]), Some(&b"f"[..]), Some(&b"g"[..])];
        assert_eq!(texts.as_array(), [None, None, None, None, printed[0], printed[1], printed[2]]);
    }
}
