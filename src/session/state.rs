//! What may become of a session, and what time-outs demand of it. Decided here, done elsewhere.
//!
//! ```text
//!   create ──▶ active ──────── pause ──────▶ paused
//!                │ ▲ ◀── resume, wake, promote ┘ │
//!                │ │                             │
//!                │ └── wake, promote ─┐          │      persistent only
//!                │                    │          │
//!                ├── stop, lost ──▶ stopped ◀────┤
//!                │                    │          │
//!                └── delete ────────▶ ending ◀───┘      stop and lost too, where it is not persistent
//!                                     │
//!                                     ▼
//!                                    gone               its record is removed when nothing is left of it
//! ```
//!
//! *Lost* is what a launcher does that died, and a host that was restarted. A change that asks for what is
//! so already changes nothing and is no mistake, so that it can be asked for twice.
//!
//! # What use is
//!
//! A session is idle since the latest of these:
//!
//! * `last_used_ms` of its record: its creation, its start after it was stopped, the moment at which a daemon
//!   takes it up (which calls there were since the record was written nobody knows), and the end of every call
//!   that did something to it or in it: programs, their input, signals and output, files, snapshots,
//!   contexts, ports, resume, promote, and a change of its labels or times. Looking at a session, or at a
//!   list of them, is no use: a monitor would keep all of them alive.
//! * `last_active_ms` of each program that runs: its start, the last byte that it wrote to standard output,
//!   to standard error or to its terminal, the last byte or signal that was sent to it, and the last time
//!   that it was seen to use the processor. So what computes in silence is not taken for idle, and a server
//!   that waits for requests is.
//!
//! While somebody is attached to a program that runs, the session is not idle at all: who waits for its
//! result, follows its output or has its terminal. When they leave, that counts as use at that moment.
//!
//! A paused session's time goes on: neither its idle time nor its lifetime stands still. A stopped one has
//! no time-outs, and its lifetime counts anew from its next start.

use super::record::SessionRecord;

/// What state a session is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Status {
    /// It has a sandbox, or can have one at once.
    Active,
    /// Its programs are frozen.
    Paused,
    /// Nothing of it is in memory; its files are on disk. Only where it is persistent.
    Stopped,
    /// What is left of it is being removed.
    Ending,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Paused, Self::Stopped, Self::Ending];

    /// The word for it, in records and for clients.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
            Self::Ending => "ending",
        }
    }

    /// The status that has this word.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }
}

/// What is to happen to a session, or has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// Its programs are to be frozen.
    Pause,
    /// Its programs are to go on.
    Resume,
    /// A call needs its sandbox.
    Wake,
    /// Its sandbox is to end; its files stay where it is persistent.
    Stop,
    /// It is to go, with its files.
    Delete,
    /// It is to have processors of its own, and to run on them.
    Promote,
    /// It is to have no processors of its own any more.
    Demote,
    /// The launcher that held its sandbox has died.
    LauncherLost,
    /// The host was restarted since.
    HostRestarted,
}

impl Change {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Pause,
        Self::Resume,
        Self::Wake,
        Self::Stop,
        Self::Delete,
        Self::Promote,
        Self::Demote,
        Self::LauncherLost,
        Self::HostRestarted,
    ];
}

/// Why a change can't be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There are no programs that could be paused or resumed.
    #[error("the session is stopped: it has no programs; it is started by whatever uses it next")]
    Stopped,
    /// It can only end.
    #[error("the session is ending")]
    Ending,
}

/// The status of a session after a change.
///
/// # Errors
/// The change can't be.
pub fn after(status: Status, persistent: bool, change: Change) -> Result<Status, Refusal> {
    let without_sandbox = if persistent { Status::Stopped } else { Status::Ending };
    match (status, change) {
        // Whatever ends a session that is ending is no news to it.
        (_, Change::Delete) | (Status::Ending, Change::Stop | Change::LauncherLost | Change::HostRestarted) => {
            Ok(Status::Ending)
        }
        (Status::Ending, _) => Err(Refusal::Ending),
        (_, Change::Stop | Change::LauncherLost | Change::HostRestarted) => Ok(without_sandbox),
        (Status::Stopped, Change::Pause | Change::Resume) => Err(Refusal::Stopped),
        (_, Change::Pause) => Ok(Status::Paused),
        (_, Change::Resume | Change::Wake | Change::Promote) => Ok(Status::Active),
        (status, Change::Demote) => Ok(status),
    }
}

/// A program that runs, as far as time-outs ask; the head of this file says what counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Running {
    /// Whether somebody is attached to it.
    pub attached: bool,
    /// When it was seen to do something, or something was done to it.
    pub last_active_ms: u64,
}

/// What a time-out demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Due {
    /// [`Change::Pause`].
    Pause,
    /// [`Change::Stop`].
    Stop,
    /// [`Change::Delete`].
    Delete,
}

impl Due {
    /// The change that it is.
    #[must_use]
    pub fn change(self) -> Change {
        match self {
            Self::Pause => Change::Pause,
            Self::Stop => Change::Stop,
            Self::Delete => Change::Delete,
        }
    }
}

/// What time-outs demand of a session now; nothing where none is over.
#[must_use]
pub fn due(record: &SessionRecord, running: &[Running], pause_after_ms: u64, now_ms: u64) -> Option<Due> {
    next_due(record, running, pause_after_ms).and_then(|(due, at_ms)| (at_ms <= now_ms).then_some(due))
}

/// What time-outs will demand of a session first, and when, if nobody uses it until then. A
/// `pause_after_ms` of 0 never pauses. `None`: nothing, however long it takes.
#[must_use]
pub fn next_due(record: &SessionRecord, running: &[Running], pause_after_ms: u64) -> Option<(Due, u64)> {
    if matches!(record.status, Status::Stopped | Status::Ending) {
        return None;
    }
    let end = if record.persistent { Due::Stop } else { Due::Delete };
    let lifetime = Some((end, record.expires_at_ms));
    let idle_since = idle_since(record, running);
    let idle = idle_since.map(|since| (end, since.saturating_add(record.idle_timeout_ms)));
    let pauses = record.status == Status::Active && pause_after_ms != 0;
    let pause = idle_since.filter(|_| pauses).map(|since| (Due::Pause, since.saturating_add(pause_after_ms)));
    // Of two that come at one time the first is taken: what ends need not be paused.
    [lifetime, idle, pause].into_iter().flatten().min_by_key(|(_, at_ms)| *at_ms)
}

/// Since when a session is idle; `None` while it is not.
fn idle_since(record: &SessionRecord, running: &[Running]) -> Option<u64> {
    if running.iter().any(|exec| exec.attached) {
        return None;
    }
    running.iter().map(|exec| exec.last_active_ms).chain([record.last_used_ms]).max()
}

#[cfg(test)]
mod tests;
