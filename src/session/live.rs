//! A session in the daemon's memory.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::RwLock;

use super::contexts::Context;
use super::execs::Exec;
use super::now_ms;
use super::record::{SessionId, SessionRecord, SnapshotRecord};
use super::state::{self, Change, Running, Status};
use super::types::{Disk, SessionError, View};
use crate::job::{DeniedFlow, Ending};

/// Workers have numbers of their own, so that those of programs follow one another.
const FIRST_WORKER: u64 = 1 << 48;

/// A session.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) id: SessionId,
    /// Held to read by whatever needs the sandbox to stay, to write by whatever changes it.
    pub(super) gate: RwLock<()>,
    state: Mutex<State>,
    in_upkeep: AtomicBool,
}

/// What is known of a session.
#[derive(Debug)]
pub(super) struct State {
    pub(super) record: SessionRecord,
    /// Whether the launcher has it.
    pub(super) present: bool,
    pub(super) execs: BTreeMap<u64, Arc<Exec>>,
    pub(super) next_exec: u64,
    /// Programs that are being started, and how those ended that were over before they were taken up.
    pub(super) starting: BTreeMap<u64, Option<Result<Ending, String>>>,
    next_worker: u64,
    pub(super) snapshots: BTreeMap<u64, SnapshotRecord>,
    pub(super) next_snapshot: u64,
    pub(super) contexts: BTreeMap<u64, Arc<Context>>,
    pub(super) next_context: u64,
    /// When something last happened that may have changed its files, where that was not saved since.
    pub(super) changed_at_ms: Option<u64>,
    /// Workers that may be changing them.
    pub(super) files_workers: usize,
    /// When its files were last saved by this daemon, or when it was taken up.
    pub(super) saved_at_ms: u64,
    /// Processor time of its programs when that was last looked at, in microseconds.
    pub(super) cpu_us: u64,
    /// What the network refused lately, the newest first.
    pub(super) denied: VecDeque<DeniedFlow>,
    /// Why it has no network though it is to have one.
    pub(super) network_error: Option<String>,
    /// When the journal was told last that something was refused.
    pub(super) denied_told_at: Option<Instant>,
}

impl Live {
    pub(super) fn new(record: SessionRecord) -> Self {
        Self {
            id: record.id,
            gate: RwLock::new(()),
            state: Mutex::new(State {
                record,
                present: false,
                execs: BTreeMap::new(),
                next_exec: 1,
                starting: BTreeMap::new(),
                // A worker of a daemon that was killed may not have ended yet.
                next_worker: FIRST_WORKER + (now_ms() << 10),
                snapshots: BTreeMap::new(),
                next_snapshot: 1,
                contexts: BTreeMap::new(),
                next_context: 1,
                changed_at_ms: None,
                files_workers: 0,
                saved_at_ms: now_ms(),
                cpu_us: 0,
                denied: VecDeque::new(),
                network_error: None,
                denied_told_at: None,
            }),
            in_upkeep: AtomicBool::new(false),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way; a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a look at its state tells. One look at a time: the second would wait for the first for ever.
    pub(super) fn look<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state())
    }

    pub(super) fn view(&self, disk: Option<Disk>) -> View {
        self.state().view(disk)
    }
}

impl State {
    pub(super) fn view(&self, disk: Option<Disk>) -> View {
        let record = self.record.clone();
        View {
            id: record.id,
            status: record.status,
            persistent: record.persistent,
            runtimes: record.runtimes,
            profile: record.profile,
            limits: record.limits,
            env: record.env,
            labels: record.labels,
            created_at_ms: record.created_at_ms,
            last_used_ms: record.last_used_ms,
            expires_at_ms: record.expires_at_ms,
            idle_timeout_ms: record.idle_timeout_ms,
            lifetime_ms: record.lifetime_ms,
            restarts: record.restarts,
            execs_running: self.execs.values().filter(|exec| exec.runs()).count(),
            disk,
            cpus: record.cpus,
        }
    }

    /// Takes the status that follows from a change.
    pub(super) fn become_after(&mut self, change: Change) -> Result<(), SessionError> {
        self.record.status = state::after(self.record.status, self.record.persistent, change)?;
        Ok(())
    }

    /// Whether it has a sandbox with its files, which may be saved. What is left in the launcher of one that is
    /// stopped or ending may be half of them.
    pub(super) fn has_sandbox(&self) -> bool {
        self.present && matches!(self.record.status, Status::Active | Status::Paused)
    }

    /// Its files may be others than before.
    pub(super) fn changed(&mut self) {
        self.changed_at_ms = Some(now_ms());
    }

    /// Numbers of its programs, for what time-outs demand.
    pub(super) fn running(&self) -> Vec<Running> {
        self.execs.values().filter(|exec| exec.runs()).map(|exec| exec.activity()).collect()
    }

    /// A number for a worker.
    pub(super) fn worker(&mut self) -> u64 {
        self.next_worker += 1;
        self.next_worker
    }
}

impl From<state::Refusal> for SessionError {
    fn from(refusal: state::Refusal) -> Self {
        match refusal {
            state::Refusal::Ending => Self::Unknown,
            state::Refusal::Stopped => Self::Refused(refusal.to_string()),
        }
    }
}

/// Upkeep of a session that is under way, until this is dropped.
#[derive(Debug)]
pub(super) struct Upkeep(Arc<Live>);

impl Upkeep {
    pub(super) fn live(&self) -> &Arc<Live> {
        &self.0
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.in_upkeep.store(false, Ordering::Release);
    }
}

impl Live {
    /// Begins upkeep, where none is under way.
    pub(super) fn begin_upkeep(self: Arc<Self>) -> Result<Upkeep, ()> {
        if self.in_upkeep.swap(true, Ordering::Acquire) { Err(()) } else { Ok(Upkeep(self)) }
    }
}
