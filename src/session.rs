//! Sessions: sandboxes that outlive a request.
//!
//! [`state`] draws what may become of a session. The launcher holds what is in memory of it: its
//! processes, its files, and copies of whatever leads to its programs. What is known of it stands in
//! [`database`], what its programs print in a [`log`]. A daemon that is started anew finds all of it
//! again: [`keeping`] compares what the launcher has with what was written down.
//!
//! Whatever needs the sandbox of a session to stay holds its gate to read; whatever changes it (pause,
//! snapshot, roll back, stop) holds it to write. [`execs`] runs programs, [`attach`] follows them,
//! [`snapshots`] and [`saving`] keep files, [`contexts`] are interpreters that stay, [`worker`] is code of ours in a sandbox.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::backend::{Backend, BackendError, Keeper, NO_SLOT, NO_TREE, SessionEvent, SessionRequest};
use crate::cache::key::Key;
use crate::cache::trees::Trees;
use crate::config::Config;
use crate::config::clients::Quota;
use crate::plan::tree::TreeAt;

mod attach;
pub mod database;
pub mod files;
pub mod follow;
pub mod kernel;
pub mod log;
pub mod record;
pub mod state;
pub mod types;

mod contexts;
mod execs;
mod keeping;
mod live;
mod network;
mod ports;
mod saving;
mod snapshots;
mod worker;

pub use attach::Attachment;

use database::{Database, DatabaseError, Write};
use live::{Live, State};
pub use network::Refused;
use record::{SessionId, SessionRecord};
use state::{Change, Status};
use types::{Counts, Disk, Filter, NewSession, SessionError, Update, View};
pub use worker::FilesWorker;

/// How long a request waits for the launcher to be there.
const PATIENCE: Duration = Duration::from_secs(3);

/// Handle of all sessions; clones share it.
#[derive(Debug, Clone)]
pub struct Sessions {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    backend: Backend,
    database: Database,
    trees: Trees,
    /// Where saved workspaces are.
    directory: PathBuf,
    config: RwLock<Arc<Config>>,
    live: Mutex<BTreeMap<SessionId, Arc<Live>>>,
    /// Who is asked; absent while there is no launcher.
    keeper: watch::Sender<Option<Keeper>>,
    /// Whether what the daemon before has left was taken up.
    settled: watch::Sender<bool>,
    stopping: AtomicBool,
    /// What the network refused to all sessions.
    refused: Mutex<Refused>,
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Does something of several steps on a task of its own, so that it is not left half done where nobody waits for
/// it any more.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, SessionError>> + Send + 'static,
) -> Result<T, SessionError> {
    tokio::spawn(work).await.unwrap_or_else(|error| Err(SessionError::Internal(error.to_string())))
}

impl From<BackendError> for SessionError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Gone => Self::Unavailable,
            BackendError::UnknownSession => Self::Unknown,
            BackendError::Lost { reason, .. } | BackendError::Input { reason, .. } => Self::Lost(reason),
            BackendError::Failed(reason) => Self::Internal(reason),
        }
    }
}

impl From<DatabaseError> for SessionError {
    fn from(error: DatabaseError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl Sessions {
    /// Takes up what is written down in a directory, and keeps sessions with this backend. Needs a tokio
    /// runtime.
    ///
    /// # Errors
    /// The records can't be read.
    pub async fn open(backend: Backend, config: Arc<Config>, directory: PathBuf) -> Result<Self, DatabaseError> {
        let database = Database::open(&directory)?;
        let trees = Trees::new(backend.clone(), &config);
        let shared = Arc::new(Shared {
            backend,
            database,
            trees,
            directory,
            config: RwLock::new(config),
            live: Mutex::new(BTreeMap::new()),
            keeper: watch::Sender::new(None),
            settled: watch::Sender::new(false),
            stopping: AtomicBool::new(false),
            refused: Mutex::default(),
        });
        shared.load().await?;
        tokio::spawn(keeping::keep(Arc::clone(&shared)));
        tokio::spawn(keeping::look_after(Arc::clone(&shared)));
        Ok(Self { shared })
    }

    /// Goes by another configuration from now on; sessions that live keep their limits.
    pub fn reconfigure(&self, config: Arc<Config>) {
        self.shared.trees.configure(&config);
        *self.shared.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Waits until what the daemon before has left is taken up: until then nobody knows what there is.
    ///
    /// # Errors
    /// [`SessionError::Unavailable`] while there is no launcher to tell.
    pub async fn settled(&self) -> Result<(), SessionError> {
        let mut news = self.shared.settled.subscribe();
        let settled = tokio::time::timeout(PATIENCE, news.wait_for(|settled| *settled)).await;
        settled.ok().and_then(Result::ok).map(drop).ok_or(SessionError::Unavailable)
    }

    /// Saves what is to outlive the launcher, as far as the time suffices. Sessions go on living.
    pub async fn shut_down(&self, deadline: Duration) {
        self.shared.stopping.store(true, Ordering::Relaxed);
        if tokio::time::timeout(deadline, self.shared.save_all()).await.is_err() {
            tracing::warn!("not all workspaces could be saved in time; they are in the launcher's memory still");
        }
        self.shared.database.clone().close().await;
    }

    /// How many sessions there are.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for live in self.shared.all() {
            match live.state().record.status {
                Status::Active => counts.active += 1,
                Status::Paused => counts.paused += 1,
                Status::Stopped => counts.stopped += 1,
                Status::Ending => counts.ending += 1,
            }
        }
        counts
    }

    /// Makes a session.
    ///
    /// # Errors
    /// There are as many as may be, or it can't be made.
    pub async fn create(&self, quota: &Quota, new: NewSession) -> Result<View, SessionError> {
        let live = self.shared.create(quota, new, None).await?;
        Ok(live.view(None))
    }

    /// Sessions of a client, in the order of their ids, and the last of them where there are more.
    pub async fn list(&self, client: &str, filter: &Filter) -> (Vec<View>, Option<SessionId>) {
        let mut found = Vec::new();
        for live in self.shared.all() {
            let state = live.state();
            let record = &state.record;
            let fits = record.owner == client
                && record.status != Status::Ending
                && filter.after.is_none_or(|after| record.id > after)
                && filter.status.is_none_or(|status| record.status == status)
                && filter.labels.iter().all(|(name, value)| record.labels.get(name) == Some(value));
            if fits {
                if found.len() == filter.limit {
                    let last = found.last().map(|view: &View| view.id);
                    return (found, last);
                }
                found.push(state.view(None));
            }
        }
        (found, None)
    }

    /// A session, with what its files take.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn get(&self, client: &str, id: &str) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        Ok(self.shared.seen(&live).await)
    }

    /// A session, without what its files take, which only the launcher knows.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub fn find(&self, client: &str, id: &str) -> Result<View, SessionError> {
        Ok(self.shared.find(client, id)?.view(None))
    }

    /// Changes what is said of a session, or how long it lives.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn update(&self, client: &str, id: &str, change: Update) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared
            .change(&live, |state| {
                let record = &mut state.record;
                record.labels = change.labels.unwrap_or_else(|| std::mem::take(&mut record.labels));
                record.idle_timeout_ms = change.idle_timeout_ms.unwrap_or(record.idle_timeout_ms);
                if let Some(lifetime_ms) = change.lifetime_ms {
                    record.lifetime_ms = lifetime_ms;
                    record.extended(now_ms());
                }
                record.used(now_ms());
                Ok(())
            })
            .await?;
        Ok(self.shared.seen(&live).await)
    }

    /// Ends a session, with everything that it has.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn delete(&self, client: &str, id: &str) -> Result<(), SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.delete(&live).await
    }

    /// Ends the sandbox of a session and keeps its files; one that is not persistent is gone.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or its files can't be saved.
    pub async fn stop(&self, client: &str, id: &str) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.stop(&live).await?;
        Ok(live.view(None))
    }

    /// Stops all programs of a session for the time being.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or it is stopped.
    pub async fn pause(&self, client: &str, id: &str) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.pause(&live).await?;
        Ok(self.shared.seen(&live).await)
    }

    /// Lets them go on.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or it is stopped.
    pub async fn resume(&self, client: &str, id: &str) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.resume(&live, Change::Resume).await?;
        Ok(self.shared.seen(&live).await)
    }

    /// Makes a session persistent, and gives it processors of its own where that is asked for.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or this host can't set processors apart.
    pub async fn promote(&self, client: &str, id: &str, cpus: Option<Vec<u32>>) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        let _in_use = self.shared.ready(&live).await?;
        if let Some(cpus) = &cpus {
            self.shared.pin(&live, cpus).await?;
        }
        self.shared
            .change(&live, |state| {
                state.record.persistent = true;
                state.record.cpus = cpus.or(state.record.cpus.take());
                state.changed();
                Ok(())
            })
            .await?;
        Ok(self.shared.seen(&live).await)
    }

    /// Makes a session one that is gone with its sandbox, and gives back its processors.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn demote(&self, client: &str, id: &str) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        let _in_use = self.shared.ready(&live).await?;
        if live.state().record.cpus.is_some() {
            self.shared.pin(&live, &[]).await?;
        }
        let writes = {
            let mut state = live.state();
            (state.record.persistent, state.record.cpus, state.record.saved) = (false, None, None);
            state.snapshots.values_mut().for_each(|snapshot| snapshot.saved = false);
            let snapshots = state.snapshots.values().cloned().map(Write::UpdateSnapshot);
            snapshots.chain([Write::UpdateSession(Box::new(state.record.clone()))]).collect()
        };
        // All of it at once and before the files go: no record may name a file that is not there.
        self.shared.database.write(writes).await?;
        self.shared.forget_saved(live.id).await;
        Ok(self.shared.seen(&live).await)
    }
}

impl Shared {
    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn lives(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<Live>>> {
        // Nothing under this lock can panic half-way.
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<Live>> {
        self.lives().values().cloned().collect()
    }

    fn by_id(&self, id: SessionId) -> Option<Arc<Live>> {
        self.lives().get(&id).cloned()
    }

    /// A session of this client: whether others have one of this name is nobody's to know.
    fn find(&self, client: &str, id: &str) -> Result<Arc<Live>, SessionError> {
        let id: SessionId = id.parse().map_err(|_| SessionError::Unknown)?;
        let live = self.by_id(id).ok_or(SessionError::Unknown)?;
        let is_theirs = {
            let state = live.state();
            state.record.owner == client && state.record.status != Status::Ending
        };
        if is_theirs { Ok(live) } else { Err(SessionError::Unknown) }
    }

    /// Who is asked for sessions, as soon as there is somebody. Nobody may wait for that who holds a gate: there
    /// is somebody when all sessions were taken up, which is done behind their gates.
    async fn keeper(&self) -> Result<Keeper, SessionError> {
        tokio::time::timeout(PATIENCE, self.keeper_at_last()).await.unwrap_or(Err(SessionError::Unavailable))
    }

    /// The same however long it takes, for what nobody waits for.
    async fn keeper_at_last(&self) -> Result<Keeper, SessionError> {
        let mut news = self.keeper.subscribe();
        let found = news.wait_for(Option::is_some).await;
        found.ok().and_then(|keeper| keeper.clone()).ok_or(SessionError::Unavailable)
    }

    /// The same for who may hold a gate: nobody, where the launcher is gone.
    fn keeper_now(&self) -> Result<Keeper, SessionError> {
        self.keeper.borrow().clone().ok_or(SessionError::Unavailable)
    }

    /// Asks the launcher that is there for something about a session.
    async fn ask(&self, live: &Live, request: SessionRequest) -> Result<SessionEvent, SessionError> {
        Ok(self.keeper_now()?.ask(live.id.bytes(), request, &[]).await?.event)
    }

    /// The same for what must not be forgotten while the launcher is away; only for who holds no gate and whom
    /// nobody waits for.
    async fn ask_when_there(&self, live: &Live, request: SessionRequest) -> Result<SessionEvent, SessionError> {
        Ok(self.keeper_at_last().await?.ask(live.id.bytes(), request, &[]).await?.event)
    }

    /// Changes what is known of a session, and writes it down.
    async fn change<T>(
        &self,
        live: &Live,
        change: impl FnOnce(&mut State) -> Result<T, SessionError>,
    ) -> Result<T, SessionError> {
        let (changed, record) = {
            let mut state = live.state();
            let changed = change(&mut state)?;
            (changed, state.record.clone())
        };
        self.database.update_session(record).await?;
        Ok(changed)
    }

    /// A session as it is now, with what its files take.
    async fn seen(&self, live: &Live) -> View {
        let present = live.state().present;
        let usage = if present { self.ask(live, SessionRequest::Usage).await.ok() } else { None };
        live.view(match usage {
            Some(SessionEvent::Usage { bytes, files, .. }) => {
                let limits = live.state().record.limits;
                Some(Disk {
                    used_bytes: bytes,
                    limit_bytes: limits.disk_bytes,
                    used_files: files,
                    limit_files: limits.disk_files,
                })
            }
            _ => None,
        })
    }

    /// Makes a session, empty or with the files of a snapshot of another.
    async fn create(
        &self,
        quota: &Quota,
        new: NewSession,
        origin: Option<(SessionId, u64)>,
    ) -> Result<Arc<Live>, SessionError> {
        if self.stopping.load(Ordering::Relaxed) {
            return Err(SessionError::Stopping);
        }
        let keeper = self.keeper().await?;
        let now = now_ms();
        let record = SessionRecord {
            id: SessionId::random(),
            owner: quota.client.to_string(),
            persistent: new.persistent,
            runtimes: new.runtimes,
            profile: new.profile,
            limits: new.limits,
            env: new.env,
            labels: new.labels,
            created_at_ms: now,
            last_used_ms: now,
            idle_timeout_ms: new.idle_timeout_ms,
            lifetime_ms: new.lifetime_ms,
            expires_at_ms: now.saturating_add(new.lifetime_ms),
            restarts: 0,
            cpus: None,
            network: new.network,
            trees: new.trees,
            status: Status::Active,
            lost: false,
            saved: None,
        };
        // They may have had to go for those of others since they were installed.
        self.show_trees(&record.trees).await?;
        let live = self.admit(quota, &record)?;
        // Nobody finds it before it is there.
        let _making = live.gate.write().await;
        let request = |reach| SessionRequest::Create {
            runtimes: record.runtimes.clone(),
            profile: record.profile.clone(),
            limits: record.limits,
            origin: origin.map(|(id, snapshot)| (id.bytes(), snapshot)),
            reach,
            trees: record.trees.clone(),
        };
        // Written down last: what the launcher has and nobody knows of is ended by the next daemon. What is
        // written down and not there would come back as a persistent session without its files.
        let made = match keeper.ask_with(live.id.bytes(), record.network.as_ref(), request).await {
            Ok(_) => self.database.insert_session(record).await.map_err(SessionError::from),
            Err(error) => Err(self.crowded(error)),
        };
        if let Err(error) = made {
            keeper.ask(live.id.bytes(), SessionRequest::Close, &[]).await.ok();
            self.lives().remove(&live.id);
            return Err(error);
        }
        live.state().present = true;
        Ok(Arc::clone(&live))
    }

    /// Why the launcher makes no sandbox; where it has as many as it may have, that is said.
    fn crowded(&self, error: BackendError) -> SessionError {
        match error {
            BackendError::Failed(reason) if reason == NO_SLOT => {
                let (most, key) = (self.config().launcher.sandboxes, "launcher.sandboxes".to_owned());
                SessionError::TooMany { what: "sandboxes", most, key }
            }
            // They had to go for others just now: asked once more, they are there.
            BackendError::Failed(reason) if reason == NO_TREE => SessionError::Unavailable,
            error => error.into(),
        }
    }

    /// Gives a session its place, where there is one.
    fn admit(&self, quota: &Quota, record: &SessionRecord) -> Result<Arc<Live>, SessionError> {
        let config = self.config();
        let mut lives = self.lives();
        if lives.len() >= config.sessions.sessions {
            let (most, key) = (config.sessions.sessions, "sessions.sessions".to_owned());
            return Err(SessionError::TooMany { what: "sessions", most, key });
        }
        let theirs = lives.values().filter(|live| live.state().record.owner == *quota.client).count();
        if theirs >= quota.sessions {
            let (most, key) = (quota.sessions, quota.sessions_key.clone());
            return Err(SessionError::TooMany { what: "sessions of this client", most, key });
        }
        let live = Arc::new(Live::new(record.clone()));
        lives.insert(live.id, Arc::clone(&live));
        Ok(live)
    }

    /// Has packages of a session be where its sandbox sees them.
    async fn show_trees(&self, trees: &[TreeAt]) -> Result<(), SessionError> {
        for tree in trees {
            if !self.trees.recall(Key::from_bytes(tree.key)).await? {
                let reason = "its packages are not kept any more: they had to go for others";
                return Err(SessionError::Refused(reason.to_owned()));
            }
        }
        Ok(())
    }

    async fn pin(&self, live: &Live, cpus: &[u32]) -> Result<(), SessionError> {
        let asked = self.ask(live, SessionRequest::Pin { processors: cpus.to_vec() }).await;
        asked.map(drop).map_err(|error| match error {
            SessionError::Internal(reason) => SessionError::Refused(reason),
            other => other,
        })
    }

    /// Ends a session and forgets it.
    async fn delete(&self, live: &Live) -> Result<(), SessionError> {
        let _changing = live.gate.write().await;
        if !self.lives().contains_key(&live.id) {
            return Err(SessionError::Unknown);
        }
        self.change(live, |state| state.become_after(Change::Delete)).await?;
        self.close(live).await?;
        live.state().execs.clear();
        self.forget_saved(live.id).await;
        self.database.remove_session(live.id).await?;
        self.lives().remove(&live.id);
        Ok(())
    }

    /// Ends the sandbox of a session, where it has one.
    async fn close(&self, live: &Live) -> Result<(), SessionError> {
        if live.state().present {
            match self.ask(live, SessionRequest::Close).await {
                Ok(_) | Err(SessionError::Unknown) => live.state().present = false,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Ends the sandbox of a session; the files of a persistent one are saved before.
    async fn stop(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), SessionError> {
        if !live.state().record.persistent {
            return self.delete(live).await;
        }
        let _changing = live.gate.write().await;
        match live.look(|state| state.record.status) {
            Status::Stopped => return Ok(()),
            // It was deleted while this waited.
            Status::Ending => return Err(SessionError::Unknown),
            Status::Active | Status::Paused => {}
        }
        self.save(live).await?;
        self.close(live).await?;
        let execs = self
            .change(live, |state| {
                state.contexts.clear();
                state.become_after(Change::Stop)?;
                Ok(std::mem::take(&mut state.execs))
            })
            .await?;
        for exec in execs.into_values() {
            // Who waits for it hears that it is over.
            exec.lose();
        }
        self.forget_programs(live).await?;
        Ok(())
    }

    async fn pause(&self, live: &Live) -> Result<(), SessionError> {
        let _changing = live.gate.write().await;
        if live.state().record.status == Status::Paused {
            return Ok(());
        }
        // Whether it may is asked before it is done.
        live.look(|state| state::after(state.record.status, state.record.persistent, Change::Pause))?;
        self.ask(live, SessionRequest::Pause).await?;
        self.change(live, |state| state.become_after(Change::Pause)).await
    }

    async fn resume(&self, live: &Live, change: Change) -> Result<(), SessionError> {
        let _changing = live.gate.write().await;
        let (status, persistent) = live.look(|state| (state.record.status, state.record.persistent));
        state::after(status, persistent, change)?;
        if status == Status::Paused {
            self.ask(live, SessionRequest::Resume).await?;
        }
        self.change(live, |state| {
            state.record.used(now_ms());
            state.become_after(change)
        })
        .await
    }

    /// A session whose sandbox is there and goes on, for as long as what is returned is held. Whoever waits for
    /// this may give up at any moment, as a client does that hangs up; a start goes on to its end all the same.
    async fn ready<'a>(
        self: &Arc<Self>,
        live: &'a Arc<Live>,
    ) -> Result<tokio::sync::RwLockReadGuard<'a, ()>, SessionError> {
        loop {
            let guard = live.gate.read().await;
            let (status, present) = {
                let mut state = live.state();
                state.record.used(now_ms());
                (state.record.status, state.present)
            };
            match status {
                Status::Ending => return Err(SessionError::Unknown),
                Status::Active if present => return Ok(guard),
                Status::Paused if present => {
                    drop(guard);
                    let (shared, live) = (Arc::clone(self), Arc::clone(live));
                    to_its_end(async move { shared.resume(&live, Change::Wake).await }).await?;
                }
                Status::Active | Status::Paused => {
                    drop(guard);
                    // The launcher is gone, or comes back; what it has is told as soon as it is there.
                    self.keeper().await?;
                    if live.look(|state| !state.present && state.record.status != Status::Stopped) {
                        return Err(SessionError::Unavailable);
                    }
                }
                Status::Stopped => {
                    drop(guard);
                    let (shared, live) = (Arc::clone(self), Arc::clone(live));
                    to_its_end(async move { shared.start_again(&live).await }).await?;
                }
            }
        }
    }
}
