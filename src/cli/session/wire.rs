//! What the command line reads of the API's answers about sessions; fields that it does not show are left out.

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::problem::ProblemDetails;
use crate::api::wire::{Denied, Encoding};
use crate::cli::text::harmless;
use crate::cli::{exit, network};
use crate::job::Status;

/// Answer of `GET /v1/sessions`.
#[derive(Debug, Deserialize)]
pub(super) struct SessionList {
    pub(super) sessions: Vec<Value>,
    #[serde(default)]
    pub(super) next: Option<String>,
}

/// A session.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Session {
    pub(super) id: String,
    pub(super) status: String,
    #[serde(default)]
    pub(super) persistent: bool,
    #[serde(default)]
    pub(super) runtimes: Vec<String>,
    #[serde(default)]
    pub(super) profile: String,
    #[serde(default)]
    pub(super) limits: Map<String, Value>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default)]
    pub(super) created_at: Option<String>,
    #[serde(default)]
    pub(super) last_used_at: Option<String>,
    #[serde(default)]
    pub(super) expires_at: Option<String>,
    #[serde(default)]
    pub(super) idle_timeout_ms: Option<u64>,
    #[serde(default)]
    pub(super) lifetime_ms: Option<u64>,
    #[serde(default)]
    pub(super) restarts: u64,
    #[serde(default)]
    pub(super) execs_running: u64,
    #[serde(default)]
    pub(super) disk: Option<Disk>,
    #[serde(default)]
    pub(super) cpus: Option<Vec<u32>>,
}

/// What a session's files take.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Disk {
    pub(super) used_bytes: u64,
    pub(super) limit_bytes: u64,
    pub(super) used_files: u64,
    pub(super) limit_files: u64,
}

/// A program in a session.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Exec {
    pub(super) id: Key,
    #[serde(default)]
    pub(super) argv: Vec<String>,
    pub(super) state: String,
    #[serde(default)]
    pub(super) started_at: Option<String>,
    #[serde(default)]
    pub(super) terminal: Option<Size>,
    #[serde(default)]
    pub(super) result: Option<Ending>,
}

/// Rows and columns of a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Size {
    pub(super) rows: u16,
    pub(super) columns: u16,
}

/// A snapshot.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Snapshot {
    pub(super) id: Key,
    #[serde(default)]
    pub(super) created_at: Option<String>,
    #[serde(default)]
    pub(super) label: Option<String>,
    #[serde(default)]
    pub(super) bytes: u64,
    #[serde(default)]
    pub(super) files: u64,
}

/// Such a name; some are numbers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "Value")]
pub(super) struct Key(pub(super) String);

impl From<Value> for Key {
    fn from(value: Value) -> Self {
        match value {
            Value::String(text) => Self(text),
            other => Self(other.to_string()),
        }
    }
}

/// How a program ended.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Ending {
    pub(super) status: Status,
    #[serde(default)]
    pub(super) exit_code: Option<i32>,
    #[serde(default)]
    signal: Option<Value>,
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    denied: Vec<Denied>,
    #[serde(default)]
    network_error: Option<String>,
}

impl Ending {
    /// What the network refused to it, in a line each.
    pub(super) fn refusals(&self) -> Vec<String> {
        network::refusals(&self.denied, self.network_error.as_deref())
    }

    /// The exit status that tells it, as that of `run` does.
    pub(super) fn exit_status(&self) -> u8 {
        exit::of(self.status, self.exit_code, self.signal().as_deref())
    }

    /// Name of the signal that ended it.
    pub(super) fn signal(&self) -> Option<String> {
        match self.signal.as_ref()? {
            Value::String(name) => Some(name.clone()),
            Value::Number(number) => {
                let number = number.as_i64().and_then(|number| i32::try_from(number).ok())?;
                let known = Signal::try_from(number).map(|signal| signal.as_str().to_owned());
                Some(known.unwrap_or_else(|_| format!("signal {number}")))
            }
            _ => None,
        }
    }

    /// Why it did not end well, in one line; an exit status of its own needs no words.
    pub(super) fn verdict(&self) -> Option<String> {
        let by_itself = self.status == Status::NonzeroExit && self.exit_code.is_some();
        if self.status == Status::Ok || by_itself {
            return None;
        }
        let reason = self.reason.clone().or_else(|| self.signal()).map(|reason| format!(": {}", harmless(&reason)));
        Some(format!("{}{}", exit::name(self.status), reason.unwrap_or_default()))
    }

    /// The ending in a cell of a table.
    pub(super) fn brief(&self) -> String {
        match (self.exit_code, self.verdict()) {
            (_, Some(verdict)) => verdict,
            (Some(code), None) => format!("exit {code}"),
            (None, None) => exit::name(self.status),
        }
    }
}

/// One event of a program's output.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum OutputEvent {
    /// A piece.
    Output { stream: Stream, sequence: u64, data: String, encoding: Encoding },
    /// Bytes that were thrown away before anybody read them.
    Gap { stream: Stream, from: u64, to: u64 },
    /// The program has ended.
    Finished { result: Ending },
    /// There is no more for now, or the service stops.
    End,
    /// The service failed.
    Failed { problem: Box<ProblemDetails> },
    /// Something that a newer service tells.
    #[serde(other)]
    Other,
}

/// A stream of a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

/// What the service says in words on a WebSocket.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Said {
    /// Sequence number of the next byte.
    Position { sequence: u64 },
    /// Bytes that were thrown away.
    Gap {
        #[serde(default)]
        stream: Option<Stream>,
        to: u64,
    },
    /// Something that we asked for was not done.
    Problem { problem: Box<ProblemDetails> },
    /// Standard error of a program without a terminal, in base64.
    Stderr { sequence: u64, data: String },
    /// The program has ended.
    Finished { result: Ending },
    /// Something that a newer service tells.
    #[serde(other)]
    Other,
}

/// What is said to the service in words on a WebSocket.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Say {
    /// The window has another size.
    Resize {
        #[serde(flatten)]
        size: Size,
    },
    /// A signal for the program.
    Signal { signal: &'static str },
    /// No more input.
    Eof,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ending(json: &str) -> Ending {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn an_ending_is_told_as_run_tells_it() {
        let by_name = ending(r#"{"status":"signalled","exit_code":null,"signal":"SIGSEGV"}"#);
        assert_eq!((by_name.exit_status(), by_name.brief()), (139, "signalled: SIGSEGV".to_owned()));
        let by_number = ending(r#"{"status":"signalled","signal":2}"#);
        assert_eq!((by_number.exit_status(), by_number.brief()), (130, "signalled: SIGINT".to_owned()));
        let own = ending(r#"{"status":"nonzero_exit","exit_code":3}"#);
        assert_eq!((own.exit_status(), own.verdict(), own.brief()), (3, None, "exit 3".to_owned()));
    }

    #[test]
    fn names_may_be_numbers() {
        let keys: Vec<Key> = serde_json::from_str(r#"[7, "x"]"#).unwrap();
        assert_eq!(keys, [Key("7".to_owned()), Key("x".to_owned())]);
    }

    #[test]
    fn an_event_of_tomorrow_is_no_error() {
        let event: OutputEvent = serde_json::from_str(r#"{"event":"started","id":4}"#).unwrap();
        assert!(matches!(event, OutputEvent::Other));
        assert!(matches!(serde_json::from_str(r#"{"type":"bell"}"#).unwrap(), Said::Other));
    }

    #[test]
    fn what_is_said_has_one_level() {
        let said = serde_json::to_string(&Say::Resize { size: Size { rows: 2, columns: 3 } }).unwrap();
        assert_eq!(said, r#"{"type":"resize","rows":2,"columns":3}"#);
        assert_eq!(serde_json::to_string(&Say::Eof).unwrap(), r#"{"type":"eof"}"#);
    }
}
