//! Decides when which job runs, and carries it through its stages.
//!
//! ```text
//!  submit ─▶ Refused     the queue is full, the client's share of it is, or we are stopping
//!    │
//!    ▼
//!  queued ──cancel──▶ ended: Fault::Cancelled
//!    │  a slot and memory are free, the client is below its bound, and it is its turn
//!    ▼
//!  running: have packages installed ─▶ ask the cache ─▶ open ─▶ files ─▶ compile, unless it is cached ─▶ run ─▶ hand out files
//!    │                  cancel kills the stage; the verdict says so
//!    ▼
//!  ended: Event::Finished, or a Fault
//!    │  the sandbox is gone, or is emptied for the next run of the same, where that comes next in this slot
//!    ▼
//!  slot and memory are free again
//! ```

mod attached;
mod built;
mod compile;
mod drive;
mod output;
mod pair;
mod prepare;
mod queue;

pub mod selftest;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::futures::Notified;
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::backend::{Backend, BackendError, clock_us};
use crate::cache::Cache;
use crate::cache::trees::Trees;
use crate::config::clients::Quota;
use crate::config::{Config, Outputs, Service};
use crate::job::{EnforcedBy, Event, Job, JobId};
use crate::runtime::Checked;
use attached::Attached;
use built::Wants;
use pair::Partner;
use queue::{Full, Queue};

pub use crate::cache::Stats as CacheStats;
pub use attached::Attachment;
pub use built::{Built, Series};
pub use pair::{Gathering, Said, Talk, Transcript};
pub use queue::ClientLoad;

/// Events of a job that wait for a client that reads slowly; then the program waits too.
const EVENTS: usize = 64;
/// What a client that was refused is told to wait, at least.
const LEAST_RETRY: Duration = Duration::from_secs(1);
/// Time that results of compile stages have to be written before the service ends.
const LAST_WRITES: Duration = Duration::from_secs(2);

/// Handle of the scheduler; clones share it.
#[derive(Debug, Clone)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    cache: Cache,
    trees: Trees,
    state: Mutex<State>,
    /// Told whenever a job ends.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    bounds: Bounds,
    queue: Queue<Waiting>,
    running: usize,
    memory_bytes: u64,
    stopping: bool,
    cancels: HashMap<String, watch::Sender<bool>>,
}

/// How much may run at one time, and how much of it may come out.
#[derive(Debug, Clone, Copy)]
struct Bounds {
    slots: usize,
    memory_budget_bytes: u64,
    queue_length: usize,
    outputs: Outputs,
}

impl Bounds {
    fn of(service: &Service) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            slots: if service.concurrency == 0 { processors } else { service.concurrency },
            memory_budget_bytes: match service.memory_budget_bytes {
                0 => three_quarters_of_memory(),
                bytes => bytes,
            },
            queue_length: service.queue_length,
            outputs: service.outputs,
        }
    }
}

/// A job in the queue.
#[derive(Debug)]
struct Waiting {
    job: Job,
    /// Who stays with its program; absent where all of its input is there already.
    attached: Option<Attached>,
    wants: Wants,
    events: mpsc::Sender<Item>,
    cancel: watch::Receiver<bool>,
    /// When it was submitted, by the monotonic clock.
    submitted_us: u64,
}

type Item = Result<Event, Fault>;

/// How much there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Load {
    /// Jobs that wait.
    pub queued: usize,
    /// Jobs that run.
    pub running: usize,
    /// Jobs that can run at one time.
    pub slots: usize,
}

/// Why a job was refused at once.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// As many jobs wait as may.
    #[error("the queue is full")]
    QueueFull {
        /// How many may.
        most: usize,
        /// When to try again.
        retry_after: Duration,
    },
    /// As many jobs of this client wait as may.
    #[error("the client's share of the queue is full")]
    ClientQueueFull {
        /// How many may.
        most: usize,
        /// Key of the configuration that says so.
        key: String,
        /// When to try again.
        retry_after: Duration,
    },
    /// The service is stopping.
    #[error("the service is stopping")]
    Stopping,
    /// There is nothing that could make a sandbox.
    #[error("the launcher is not there")]
    Unavailable,
}

/// Why a job came to nothing, through no doing of its program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// What makes sandboxes has gone away.
    #[error("the launcher has gone away")]
    Unavailable,
    /// The service is stopping, and the job had not begun.
    #[error("the service is stopping")]
    Stopping,
    /// The job was cancelled before it began.
    #[error("cancelled before it began")]
    Cancelled,
    /// There is no room for what is to be installed; the text is for the client.
    #[error("{0}")]
    NoRoom(String),
    /// An input file could not be written.
    #[error("file {index}: {reason}")]
    Input {
        /// Its place among the files, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The sandbox was lost; the text is for the journal, not for clients.
    #[error("{reason}")]
    Lost {
        /// Why.
        reason: String,
        /// Whether the program may have begun.
        had_begun: bool,
    },
    /// We failed; the text is for the journal, not for clients.
    #[error("{0}")]
    Internal(String),
}

impl From<BackendError> for Fault {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Gone => Self::Unavailable,
            BackendError::Input { index, reason } => Self::Input { index, reason },
            BackendError::Lost { reason, had_begun } => Self::Lost { reason, had_begun },
            BackendError::Failed(reason) => Self::Internal(reason),
            // Jobs know of none.
            BackendError::UnknownSession => Self::Internal(error.to_string()),
        }
    }
}

/// A job that was submitted. Dropping it cancels the job.
#[derive(Debug)]
pub struct Ticket {
    /// Its id.
    pub id: JobId,
    events: mpsc::Receiver<Item>,
    cancel: watch::Sender<bool>,
}

impl Ticket {
    /// What happens next; the last is [`Event::Finished`] or a fault.
    pub async fn next(&mut self) -> Option<Result<Event, Fault>> {
        self.events.recv().await
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.cancel.send_replace(true);
    }
}

impl Scheduler {
    /// A scheduler for this backend. Needs a tokio runtime.
    #[must_use]
    pub fn new(backend: Backend, config: &Config) -> Self {
        let service = &config.service;
        let state = State {
            bounds: Bounds::of(service),
            queue: Queue::new(service.queue_length),
            running: 0,
            memory_bytes: 0,
            stopping: false,
            cancels: HashMap::new(),
        };
        let (cache, state) = (Cache::new(&config.cache), Mutex::new(state));
        let trees = Trees::new(backend.clone(), config);
        Self { shared: Arc::new(Shared { backend, cache, trees, state, ended: Notify::new() }) }
    }

    /// Takes a job of a client, which may have what its quota says.
    ///
    /// # Errors
    /// It is refused at once.
    pub fn submit(&self, job: Job, quota: &Arc<Quota>) -> Result<Ticket, Refused> {
        self.take(job, None, Wants::Run, quota)
    }

    /// The same, of a job whose run stage reads what the client sends while it runs, and takes its signals; what
    /// the job itself has for standard input is not used.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub fn submit_attached(&self, job: Job, quota: &Arc<Quota>) -> Result<(Ticket, Attachment), Refused> {
        let (attachment, attached) = attached::pair();
        Ok((self.take(job, Some(attached), Wants::Run, quota)?, attachment))
    }

    /// Takes a job of which only that is wanted what its program needs; nothing of its run stage happens. What was
    /// made comes where that went well, and lasts as long as somebody has it.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub fn build(&self, job: Job, quota: &Arc<Quota>) -> Result<(Ticket, oneshot::Receiver<Built>), Refused> {
        let (sender, built) = oneshot::channel();
        Ok((self.take(job, None, Wants::Build(sender), quota)?, built))
    }

    /// Takes a job whose program's needs were made before; its files come on top of those.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub fn submit_built(&self, job: Job, built: &Built, series: Series, quota: &Arc<Quota>) -> Result<Ticket, Refused> {
        self.take(job, None, Wants::RunOf(built.clone(), series), quota)
    }

    /// The same with two programs at one time, of which each reads what the other prints. They take one slot, and
    /// the memory of both. The ticket tells of the first.
    ///
    /// # Errors
    /// As of [`Self::submit`].
    pub fn submit_pair(
        &self,
        (job, built): (Job, &Built),
        (other, other_built): (Job, &Built),
        transcript_bytes: usize,
        quota: &Arc<Quota>,
    ) -> Result<(Ticket, oneshot::Receiver<Talk>), Refused> {
        let (talk, receiver) = oneshot::channel();
        let partner = Partner { job: other, built: other_built.clone(), transcript_bytes, talk };
        let wants = Wants::Pair(built.clone(), Box::new(partner));
        Ok((self.take(job, None, wants, quota)?, receiver))
    }

    /// Makes something that consists of several jobs known by a name, by which it can be cancelled until what comes
    /// is dropped. Its jobs have names of their own.
    #[must_use]
    pub fn gather(&self, id: &JobId) -> Gathering {
        let (cancel, cancelled) = watch::channel(false);
        self.shared.state().cancels.insert(id.to_string(), cancel);
        Gathering { id: id.to_string(), scheduler: self.clone(), cancelled }
    }

    fn forget(&self, id: &str) {
        self.shared.state().cancels.remove(id);
    }

    /// Comes to pass when the next job ends: then there may be room in the queue. Counts from this call on.
    pub fn next_end(&self) -> Notified<'_> {
        self.shared.ended.notified()
    }

    fn take(&self, job: Job, attached: Option<Attached>, wants: Wants, quota: &Arc<Quota>) -> Result<Ticket, Refused> {
        if !self.shared.backend.is_available() {
            return Err(Refused::Unavailable);
        }
        let id = job.id.clone();
        let (events, receiver) = mpsc::channel(EVENTS);
        let (cancel, cancelled) = watch::channel(false);
        let mut state = self.shared.state();
        if state.stopping {
            return Err(Refused::Stopping);
        }
        let retry_after = self.shared.retry_after(&state);
        let waiting = Waiting { job, attached, wants, events, cancel: cancelled, submitted_us: clock_us() };
        state.queue.push(quota, waiting).map_err(|full| match full {
            Full::All => Refused::QueueFull { most: state.bounds.queue_length, retry_after },
            Full::Client => {
                Refused::ClientQueueFull { most: quota.queue_length, key: quota.queue_length_key.clone(), retry_after }
            }
        })?;
        state.cancels.insert(id.to_string(), cancel.clone());
        self.shared.start_what_fits(&mut state);
        if state.queue.len() > 0 {
            // One that still waits must hear of its end even if it never begins.
            let (shared, id, mut cancelled) = (Arc::clone(&self.shared), id.to_string(), cancel.subscribe());
            tokio::spawn(async move {
                // An error means that it has ended and nobody can cancel it any more.
                cancelled.wait_for(|cancelled| *cancelled).await.map(|_| shared.drop_queued(&id)).ok();
            });
        }
        Ok(Ticket { id, events: receiver, cancel })
    }

    /// Cancels a job that waits or runs; false where there is none with this id.
    #[must_use]
    pub fn cancel(&self, id: &str) -> bool {
        match self.shared.state().cancels.get(id) {
            Some(cancel) => {
                cancel.send_replace(true);
                true
            }
            None => false,
        }
    }

    /// How much there is to do.
    #[must_use]
    pub fn load(&self) -> Load {
        let state = self.shared.state();
        Load { queued: state.queue.len(), running: state.running, slots: state.bounds.slots }
    }

    /// How much each client has to do, and has had.
    #[must_use]
    pub fn client_loads(&self) -> Vec<ClientLoad> {
        self.shared.state().queue.loads()
    }

    /// Opens the cache of compile stages now, so that the first job need not wait for that.
    pub fn open_cache(&self) {
        self.shared.cache.start();
    }

    /// What installers made.
    #[must_use]
    pub fn trees(&self) -> &Trees {
        &self.shared.trees
    }

    /// What the cache of compile stages has done and has.
    #[must_use]
    pub fn cache_stats(&self) -> CacheStats {
        self.shared.cache.stats()
    }

    /// Whether there is something that makes sandboxes.
    #[must_use]
    pub fn is_available(&self) -> bool {
        self.shared.backend.is_available()
    }

    /// What holds the limits; `None` before that is known.
    #[must_use]
    pub fn enforced_by(&self) -> Option<EnforcedBy> {
        self.shared.backend.enforced_by()
    }

    /// Has the configuration read anew by what makes sandboxes, and goes by these limits from now on.
    ///
    /// # Errors
    /// It has gone away; it reads the configuration when it is back.
    pub async fn reload(&self, config: &Config) -> Result<(), Fault> {
        {
            let mut state = self.shared.state();
            state.bounds = Bounds::of(&config.service);
            state.queue.bound(config.service.queue_length, |client| config.quota_of(client));
            self.shared.start_what_fits(&mut state);
        }
        self.shared.cache.configure(&config.cache);
        self.shared.trees.configure(config);
        Ok(self.shared.backend.reload().await?)
    }

    /// Shows what a self-test found in the list of runtimes that sandboxes see.
    pub async fn record(&self, runtime: &str, checked: &Checked) {
        let recorded = self.shared.backend.record(runtime, checked).await;
        if let Err(error) = recorded {
            tracing::warn!(runtime, "the launcher was not told of a self-test: {error}");
        }
    }

    /// Refuses new jobs and those that wait, lets those that run finish until the deadline, then
    /// cancels them, and returns when none is left.
    pub async fn stop(&self, deadline: Duration) {
        let queued = {
            let mut state = self.shared.state();
            state.stopping = true;
            state.queue.drain()
        };
        for waiting in queued {
            self.shared.state().cancels.remove(&waiting.job.id.to_string());
            waiting.events.send(Err(Fault::Stopping)).await.ok();
        }
        if tokio::time::timeout(deadline, self.wait_until_idle()).await.is_err() {
            for cancel in self.shared.state().cancels.values() {
                cancel.send_replace(true);
            }
            self.wait_until_idle().await;
        }
        // What was made last may be lost, but need not be.
        let written = async { tokio::join!(self.shared.cache.settle(), self.shared.trees.settle()) };
        tokio::time::timeout(LAST_WRITES, written).await.ok();
    }

    async fn wait_until_idle(&self) {
        loop {
            let ended = self.shared.ended.notified();
            if self.shared.state().running == 0 {
                return;
            }
            ended.await;
        }
    }
}

/// A job whose turn it is.
#[derive(Debug)]
struct Turn {
    client: Arc<str>,
    waiting: Waiting,
    memory_bytes: u64,
    outputs: Outputs,
}

impl State {
    /// The job that begins next, if there are a slot and memory for it; both are taken.
    fn next_turn(&mut self) -> Option<Turn> {
        if self.running >= self.bounds.slots {
            return None;
        }
        let left = self.bounds.memory_budget_bytes.saturating_sub(self.memory_bytes);
        // A job that is larger than the budget runs alone.
        let alone = self.running == 0;
        let (client, waiting) = self.queue.pop(|waiting| alone || waiting.memory_bytes() <= left)?;
        let memory_bytes = waiting.memory_bytes();
        self.running += 1;
        self.memory_bytes += memory_bytes;
        Some(Turn { client, waiting, memory_bytes, outputs: self.bounds.outputs })
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way; a poisoned one is as good as any.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins jobs for as long as there are slots and memory.
    fn start_what_fits(self: &Arc<Self>, state: &mut State) {
        while let Some(turn) = state.next_turn() {
            tokio::spawn(Arc::clone(self).serve(turn));
        }
    }

    /// Carries out a job, and those that get its slot after it.
    async fn serve(self: Arc<Self>, turn: Turn) {
        let (mut turn, mut kept) = (Some(turn), None);
        while let Some(Turn { client, waiting, memory_bytes, outputs }) = turn.take() {
            let id = waiting.job.id.to_string();
            kept = drive::run(&self.backend, (&self.cache, &self.trees), &client, waiting, outputs, kept).await;
            let mut state = self.state();
            state.running -= 1;
            state.memory_bytes -= memory_bytes;
            state.queue.ended(&client);
            state.cancels.remove(&id);
            turn = state.next_turn();
            if turn.is_none() && kept.is_some() {
                // The slot is free when nothing of that sandbox is left.
                state.running += 1;
            }
            self.go_on(state);
        }
        if let Some(kept) = kept {
            kept.close().await;
            let mut state = self.state();
            state.running -= 1;
            self.go_on(state);
        }
    }

    /// Something has ended.
    fn go_on(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        self.start_what_fits(&mut state);
        drop(state);
        self.ended.notify_waiters();
    }

    /// Takes a cancelled job out of the queue, if it still waits there.
    fn drop_queued(&self, id: &str) {
        let mut state = self.state();
        if let Some(waiting) = state.queue.remove(|waiting| waiting.job.id.to_string() == id) {
            state.cancels.remove(id);
            // The queue holds events for nobody else; the channel is empty, so this does not wait.
            waiting.events.try_send(Err(Fault::Cancelled)).ok();
        }
    }

    /// When a place may be free: a second for each round of the slots.
    fn retry_after(&self, state: &State) -> Duration {
        let rounds = state.queue.len() / state.bounds.slots.max(1);
        LEAST_RETRY * u32::try_from(rounds.clamp(1, 60)).unwrap_or(60)
    }
}

impl Waiting {
    /// Memory limits of all that runs of it at one time.
    fn memory_bytes(&self) -> u64 {
        match &self.wants {
            Wants::Run | Wants::Build(_) => memory_of(&self.job),
            Wants::RunOf(..) => self.job.run.limits.memory_bytes,
            Wants::Pair(_, partner) => {
                self.job.run.limits.memory_bytes.saturating_add(partner.job.run.limits.memory_bytes)
            }
        }
    }
}

fn memory_of(job: &Job) -> u64 {
    let compile = job.compile.as_ref().map_or(0, |stage| stage.limits.memory_bytes);
    let install = job.install.as_ref().map_or(0, |install| install.stage.limits.memory_bytes);
    compile.max(install).max(job.run.limits.memory_bytes)
}

fn three_quarters_of_memory() -> u64 {
    nix::sys::sysinfo::sysinfo().map_or(u64::MAX, |info| info.ram_total() / 4 * 3)
}
