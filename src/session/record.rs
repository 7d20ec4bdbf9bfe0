//! What is known of a session, and of what is in it. No I/O.
//!
//! Times are milliseconds since 1970 by the host's clock: they must mean the same after a restart. A
//! clock that was set back makes time-outs late, never early.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

use crate::plan::tree::TreeAt;
use crate::profile::{Limits, Network};

use super::state::Status;

/// Most bytes of a command line that a record shows; programs get the whole of theirs.
pub const SHOWN_ARGV_BYTES: usize = 4 << 10;
/// What stands in a shown command line for what was left out of it.
const LEFT_OUT: &str = "…";

/// Name of a session: a random UUID, so that nobody comes by another's by counting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Uuid);

impl SessionId {
    /// A name that no other session has.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }

    /// Its bytes, by which the launcher knows it.
    #[must_use]
    pub fn bytes(&self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The name that has these bytes; `None` where no session could have it.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Option<Self> {
        let uuid = Uuid::from_bytes(bytes);
        let ours = uuid.get_version_num() == 4 && uuid.get_variant() == uuid::Variant::RFC4122;
        ours.then_some(Self(uuid))
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

/// A text that is no session's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the name of a session is a random UUID in small letters, such as 0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11")]
pub struct NoSessionId;

impl FromStr for SessionId {
    type Err = NoSessionId;

    /// Takes the one spelling that [`fmt::Display`] writes: a session has one name, in paths and in logs.
    fn from_str(text: &str) -> Result<Self, NoSessionId> {
        let id = Uuid::try_parse(text).ok().and_then(|uuid| Self::from_bytes(uuid.into_bytes()));
        id.filter(|id| id.to_string() == text).ok_or(NoSessionId)
    }
}

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionRecord {
    /// Its name.
    pub id: SessionId,
    /// Name of the client that it belongs to, as in [`Quota::client`](crate::config::clients::Quota::client).
    pub owner: String,
    /// Whether its files outlive its sandbox. It stays what it was made.
    pub persistent: bool,
    /// Ids of its runtimes, at least one; the first is the one that is meant where none is named.
    pub runtimes: Vec<String>,
    /// Name of its profile.
    pub profile: String,
    /// Its limits. Its workspace's are among them: `disk_bytes` and `disk_files`.
    pub limits: Limits,
    /// Variables that every program of it gets.
    pub env: BTreeMap<String, String>,
    /// What its client calls it.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created_at_ms: u64,
    /// When it was used last, as far as that is written down; [`super::state`] says what use is.
    pub last_used_ms: u64,
    /// How long it may be idle.
    pub idle_timeout_ms: u64,
    /// How long it may live after its start, or after the client asked for more.
    pub lifetime_ms: u64,
    /// When it has lived so long.
    pub expires_at_ms: u64,
    /// How often it was started again after its sandbox was lost.
    pub restarts: u32,
    /// Processors that are its alone, where it has any.
    pub cpus: Option<Vec<u32>>,
    /// What its programs can reach, where that is less than its profile allows.
    pub network: Option<Network>,
    /// What was installed for it.
    pub trees: Vec<TreeAt>,
    /// What state it is in.
    pub status: Status,
    /// Whether its sandbox was lost since it was started last: its next start counts in `restarts`.
    pub lost: bool,
    /// Number of the newest workspace of it that is whole on disk; absent where none was saved.
    pub saved: Option<u64>,
}

impl SessionRecord {
    /// It is used now. Time does not run backwards by that.
    pub fn used(&mut self, now_ms: u64) {
        self.last_used_ms = self.last_used_ms.max(now_ms);
    }

    /// Its lifetime counts from now: a stopped one is started, or its client asked for more.
    pub fn extended(&mut self, now_ms: u64) {
        self.used(now_ms);
        self.expires_at_ms = now_ms.saturating_add(self.lifetime_ms);
    }

    /// It is started again after it was stopped, with a lifetime that counts from now; the start counts in
    /// `restarts` where its sandbox was lost.
    pub fn started(&mut self, now_ms: u64) {
        self.extended(now_ms);
        self.restarts = self.restarts.saturating_add(u32::from(std::mem::take(&mut self.lost)));
    }
}

/// A program of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecRecord {
    /// Its session.
    pub session: SessionId,
    /// Its number in the session.
    pub id: u64,
    /// Its command line as it is shown; see [`shown`].
    pub argv: Vec<String>,
    /// Whether it goes on when nobody reads what it writes.
    pub detached: bool,
    /// Rows and columns of its terminal, where it has one.
    pub terminal: Option<(u16, u16)>,
    /// When it was started.
    pub started_at_ms: u64,
    /// Its limits.
    pub limits: Limits,
    /// Its result in bytes that the keeper of records does not read; absent while it runs.
    pub finished: Option<Vec<u8>>,
}

/// A snapshot of a session's workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SnapshotRecord {
    /// Its session.
    pub session: SessionId,
    /// Its number in the session.
    pub id: u64,
    /// What its client calls it.
    pub label: Option<String>,
    /// When it was made.
    pub created_at_ms: u64,
    /// Bytes of its files.
    pub bytes: u64,
    /// Number of its files.
    pub files: u64,
    /// Whether it is on disk too, and so outlives the sandbox.
    pub saved: bool,
}

/// A context of a session: an interpreter that keeps its variables between pieces of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextRecord {
    /// Its session.
    pub session: SessionId,
    /// Its number in the session.
    pub id: u64,
    /// Its language.
    pub language: String,
    /// Number of the program that it is.
    pub exec: u64,
}

/// A command line as a record shows it: whole where it has at most [`SHOWN_ARGV_BYTES`], else cut, which
/// `…` at its end says.
#[must_use]
pub fn shown(argv: &[String]) -> Vec<String> {
    let mut left = SHOWN_ARGV_BYTES;
    let mut shown = Vec::new();
    for argument in argv {
        // Each takes one byte more, or nothing would bound their number.
        if argument.len() < left {
            left -= argument.len() + 1;
            shown.push(argument.clone());
            continue;
        }
        let end = (0..=left.min(argument.len())).rev().find(|end| argument.is_char_boundary(*end)).unwrap_or(0);
        shown.push(format!("{}{LEFT_OUT}", &argument[..end]));
        break;
    }
    shown
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::plan::tree::Ecosystem;

    /// A session of which everything is something else than nothing.
    pub(in crate::session) fn record() -> SessionRecord {
        let map = |key: &str, value: &str| BTreeMap::from([(key.to_owned(), value.to_owned())]);
        SessionRecord {
            id: SessionId::random(),
            owner: "1000".to_owned(),
            persistent: true,
            runtimes: vec!["python-3.12".to_owned(), "bash".to_owned()],
            profile: "session".to_owned(),
            limits: limits(),
            env: map("LANG", "C"),
            labels: map("für", "mich"),
            created_at_ms: 1,
            last_used_ms: 2,
            idle_timeout_ms: 3,
            lifetime_ms: 4,
            expires_at_ms: 5,
            restarts: 6,
            cpus: Some(vec![0, 7]),
            network: Some(Network::Loopback),
            trees: vec![TreeAt { ecosystem: Ecosystem::Npm, key: [9; 32] }],
            status: Status::Paused,
            lost: true,
            saved: Some(8),
        }
    }

    /// Limits of which no two are equal, up to the largest number that there is.
    pub(in crate::session) fn limits() -> Limits {
        Limits {
            wall_time_ms: 11,
            cpu_time_ms: 12,
            cpu_millis: 13,
            memory_bytes: 14,
            processes: 15,
            open_files: 16,
            file_size_bytes: 17,
            disk_bytes: 18,
            disk_files: 19,
            output_bytes: u64::MAX,
            stack_bytes: 20,
        }
    }

    #[test]
    fn a_start_after_a_loss_is_counted_once() {
        let mut record = record();
        record.started(100);
        assert_eq!((record.restarts, record.lost, record.last_used_ms, record.expires_at_ms), (7, false, 100, 104));
        record.started(50);
        assert_eq!((record.restarts, record.last_used_ms, record.expires_at_ms), (7, 100, 54));
    }

    #[test]
    fn a_session_has_one_name() {
        let id = SessionId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(SessionId::from_bytes(id.bytes()), Some(id));
        let text = "0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11";
        assert_eq!(text.parse::<SessionId>().unwrap().to_string(), text);
        for other in [
            &text.to_uppercase(),
            &text.replace('-', ""),
            &format!("{{{text}}}"),
            &format!("{text} "),
            &text.replace("-4", "-1"),
            &text.replace("-9", "-1"),
            "00000000-0000-0000-0000-000000000000",
            "../../etc",
            "",
        ] {
            assert_eq!(other.parse::<SessionId>(), Err(NoSessionId), "{other}");
        }
        assert_eq!(SessionId::from_bytes([0; 16]), None);
    }

    #[test]
    fn a_long_command_line_is_cut_where_a_character_ends() {
        let short = ["python3".to_owned(), String::new(), "-c".to_owned()];
        assert_eq!(shown(&short), short);
        for long in [
            vec!["ä".repeat(SHOWN_ARGV_BYTES)],
            vec!["a".to_owned() + &"ä".repeat(SHOWN_ARGV_BYTES), "next".to_owned()],
            vec![String::new(); 3 * SHOWN_ARGV_BYTES],
            vec!["x".repeat(SHOWN_ARGV_BYTES)],
        ] {
            let shown = shown(&long);
            assert!(shown.last().unwrap().ends_with(LEFT_OUT));
            assert!(shown.iter().map(|one| one.len() + 1).sum::<usize>() <= SHOWN_ARGV_BYTES + 1 + LEFT_OUT.len());
        }
    }
}
