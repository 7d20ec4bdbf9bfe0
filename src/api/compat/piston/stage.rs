//! What became of a stage, as Piston tells it: with the words of the sandbox that it uses.

use nix::sys::signal::Signal;
use serde::Serialize;

use crate::job::{Stage as Which, StageResult, Status, signal_name, text};

/// A stage that is over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Stage {
    stdout: String,
    stderr: String,
    /// Both, in the order in which they came.
    output: String,
    #[serde(flatten)]
    ending: Ending,
    /// In milliseconds.
    cpu_time: u64,
    /// In milliseconds.
    wall_time: u64,
    /// In bytes.
    memory: u64,
}

/// Why it is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Ending {
    pub(super) code: Option<i32>,
    pub(super) signal: Option<String>,
    message: Option<String>,
    status: Option<&'static str>,
}

impl Stage {
    pub(super) fn new(result: &StageResult, output: String) -> Self {
        let milliseconds = |microseconds: u64| (microseconds + 500) / 1000;
        Self {
            stdout: String::from_utf8_lossy(&result.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&result.stderr).into_owned(),
            output,
            ending: Ending::of(result),
            cpu_time: milliseconds(result.usage.cpu_time_us),
            wall_time: milliseconds(result.usage.wall_time_us),
            memory: result.usage.memory_peak_bytes,
        }
    }
}

impl Ending {
    /// That of a stage that ended well.
    pub(super) const WELL: Self = Self { code: Some(0), signal: None, message: None, status: None };

    pub(super) fn of(result: &StageResult) -> Self {
        let killed = |status, message: &str| Self {
            code: None,
            signal: Some(signal_name(Signal::SIGKILL as i32)),
            message: Some(message.to_owned()),
            status: Some(status),
        };
        let printed = |bytes: &[u8]| bytes.len() as u64 >= result.limits.output_bytes;
        match result.status {
            Status::Ok => Self::WELL,
            Status::WallTimeExceeded => killed("TO", "Time limit exceeded (wall clock)"),
            Status::CpuTimeExceeded => killed("TO", "Time limit exceeded"),
            Status::OutputExceeded if printed(&result.stdout) => killed("OL", "stdout length exceeded"),
            Status::OutputExceeded => killed("EL", "stderr length exceeded"),
            _ => Self::otherwise(result),
        }
    }

    fn otherwise(result: &StageResult) -> Self {
        let (words, status) = match (result.signal, result.exit_code) {
            (Some(signal), _) => (format!("Caught fatal signal {signal}"), "SG"),
            (None, Some(code)) => (format!("Exited with error status {code}"), "RE"),
            (None, None) => ("The program did not start".to_owned(), "XX"),
        };
        // What Piston has no word for is told besides: a limit, or a call that was refused.
        let reason = result
            .reason
            .as_ref()
            .filter(|_| status == "XX" || !matches!(result.status, Status::NonzeroExit | Status::Signalled));
        let message = reason.map_or(words.clone(), |reason| format!("{words} ({reason})"));
        Self {
            code: result.exit_code,
            signal: result.signal.map(signal_name),
            message: Some(message),
            status: Some(status),
        }
    }
}

/// Text in pieces that may be cut anywhere; what is no text becomes U+FFFD.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    /// The beginning of a character, of at most three bytes.
    held: Vec<u8>,
}

impl Pieces {
    /// The text that is complete with these bytes.
    pub(super) fn push(&mut self, bytes: &[u8]) -> String {
        self.held.extend_from_slice(bytes);
        let rest = self.held.split_off(text::whole(&self.held));
        let whole = std::mem::replace(&mut self.held, rest);
        String::from_utf8_lossy(&whole).into_owned()
    }

    /// What there is when nothing more comes.
    pub(super) fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.held)).into_owned()
    }
}

/// Everything that the stages print, in the order in which it comes.
#[derive(Debug, Default)]
pub(super) struct Interleaved {
    outputs: Vec<(Which, String)>,
    stdout: Pieces,
    stderr: Pieces,
}

impl Interleaved {
    pub(super) fn begin(&mut self, stage: Which) {
        self.settle();
        self.outputs.push((stage, String::new()));
    }

    pub(super) fn stdout(&mut self, bytes: &[u8]) {
        let text = self.stdout.push(bytes);
        self.add(&text);
    }

    pub(super) fn stderr(&mut self, bytes: &[u8]) {
        let text = self.stderr.push(bytes);
        self.add(&text);
    }

    /// What a stage printed, once.
    pub(super) fn take(&mut self, stage: Which) -> String {
        self.settle();
        let of_stage = self.outputs.iter_mut().find(|(which, _)| *which == stage);
        of_stage.map(|(_, output)| std::mem::take(output)).unwrap_or_default()
    }

    fn settle(&mut self) {
        let rest = self.stdout.finish() + &self.stderr.finish();
        self.add(&rest);
    }

    fn add(&mut self, text: &str) {
        if let Some((_, output)) = self.outputs.last_mut() {
            output.push_str(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::answer::tests::{about, outcome};

    fn result(status: Status, exit_code: Option<i32>, signal: Option<i32>) -> StageResult {
        let run = outcome(about().limits).run.unwrap();
        StageResult { status, exit_code, signal, reason: Some("why".to_owned()), ..run }
    }

    fn ending(
        status: Status,
        exit_code: Option<i32>,
        signal: Option<i32>,
    ) -> (Option<i32>, Option<String>, Option<String>, Option<&'static str>) {
        let Ending { code, signal, message, status } = Ending::of(&result(status, exit_code, signal));
        (code, signal, message, status)
    }

    #[test]
    fn every_end_has_the_words_of_piston() {
        let kill = || Some("SIGKILL".to_owned());
        let words = |text: &str| Some(text.to_owned());
        for (given, expected) in [
            ((Status::Ok, Some(0), None), (Some(0), None, None, None)),
            ((Status::NonzeroExit, Some(3), None), (Some(3), None, words("Exited with error status 3"), Some("RE"))),
            (
                (Status::Signalled, None, Some(11)),
                (None, Some("SIGSEGV".to_owned()), words("Caught fatal signal 11"), Some("SG")),
            ),
            ((Status::CpuTimeExceeded, None, Some(9)), (None, kill(), words("Time limit exceeded"), Some("TO"))),
            ((Status::CpuTimeExceeded, None, Some(24)), (None, kill(), words("Time limit exceeded"), Some("TO"))),
            (
                (Status::WallTimeExceeded, None, Some(9)),
                (None, kill(), words("Time limit exceeded (wall clock)"), Some("TO")),
            ),
            ((Status::OutputExceeded, Some(0), None), (None, kill(), words("stderr length exceeded"), Some("EL"))),
            ((Status::MemoryExceeded, None, Some(9)), (None, kill(), words("Caught fatal signal 9 (why)"), Some("SG"))),
            (
                (Status::MemoryExceeded, Some(1), None),
                (Some(1), None, words("Exited with error status 1 (why)"), Some("RE")),
            ),
            ((Status::NonzeroExit, None, None), (None, None, words("The program did not start (why)"), Some("XX"))),
        ] {
            assert_eq!(ending(given.0, given.1, given.2), expected, "{given:?}");
        }
        let mut full = result(Status::OutputExceeded, None, Some(9));
        full.limits.output_bytes = full.stdout.len() as u64;
        assert_eq!(Ending::of(&full).status, Some("OL"));
    }

    #[test]
    fn output_keeps_its_order_and_its_characters() {
        let mut all = Interleaved::default();
        all.begin(Which::Compile);
        all.stderr(b"warning\n");
        all.begin(Which::Run);
        all.stdout(b"a\xe2\x82");
        all.stderr(b"E");
        all.stdout(b"\xac");
        all.stderr(b"\xff");
        all.stdout(b"\xf0");
        assert_eq!(all.take(Which::Run), "aE€\u{fffd}\u{fffd}");
        assert_eq!((all.take(Which::Compile).as_str(), all.take(Which::Run).as_str()), ("warning\n", ""));
    }

    #[test]
    fn a_stage_has_the_fields_of_piston() {
        let json =
            serde_json::to_value(Stage::new(&result(Status::NonzeroExit, Some(1), None), "x".to_owned())).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "stdout": "\u{fffd}x", "stderr": "ä", "output": "x", "code": 1, "signal": null,
                "message": "Exited with error status 1", "status": "RE",
                "cpu_time": 10, "wall_time": 11, "memory": u64::MAX,
            })
        );
    }
}
