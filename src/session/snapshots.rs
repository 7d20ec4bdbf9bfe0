//! Snapshots of a session's files, and forks.

use std::sync::Arc;

use tokio::net::UnixStream;

use super::live::Live;
use super::record::{SessionId, SnapshotRecord};
use super::types::{Fork, NewSession, SessionError, SnapshotView, View};
use super::worker::worker_limits;
use super::{Sessions, Shared, now_ms, to_its_end};
use crate::backend::{Reach, SessionEvent, SessionRequest};
use crate::config::clients::Quota;

impl Sessions {
    /// Keeps the files as they are now. Programs stand still for that moment.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn snapshot(&self, client: &str, id: &str, label: Option<String>) -> Result<SnapshotView, SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.snapshot(&live, label).await
    }

    /// The snapshots of a session, the oldest first.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn snapshots(&self, client: &str, id: &str) -> Result<Vec<SnapshotView>, SessionError> {
        let live = self.shared.find(client, id)?;
        let state = live.state();
        Ok(state.snapshots.values().map(view).collect())
    }

    /// Forgets a snapshot.
    ///
    /// # Errors
    /// [`SessionError::UnknownSnapshot`].
    pub async fn delete_snapshot(&self, client: &str, id: &str, snapshot: u64) -> Result<(), SessionError> {
        let live = self.shared.find(client, id)?;
        self.shared.delete_snapshot(&live, snapshot).await
    }

    /// Ends all programs of a session and puts its files back.
    ///
    /// # Errors
    /// [`SessionError::UnknownSnapshot`].
    pub async fn rollback(&self, client: &str, id: &str, snapshot: u64) -> Result<View, SessionError> {
        let live = self.shared.find(client, id)?;
        drop(self.shared.ready(&live).await?);
        {
            let _changing = live.gate.write().await;
            if !live.state().snapshots.contains_key(&snapshot) {
                return Err(SessionError::UnknownSnapshot);
            }
            self.shared.ask(&live, SessionRequest::Rollback { snapshot }).await?;
            let mut state = live.state();
            state.record.status = super::state::Status::Active;
            state.changed();
        }
        Ok(self.shared.seen(&live).await)
    }

    /// Makes a session with the files of another, as they are now or were at a snapshot; no program goes
    /// along.
    ///
    /// # Errors
    /// [`SessionError::UnknownSnapshot`].
    pub async fn fork(
        &self,
        quota: &Quota,
        id: &str,
        snapshot: Option<u64>,
        change: Fork,
    ) -> Result<View, SessionError> {
        let live = self.shared.find(&quota.client, id)?;
        drop(self.shared.ready(&live).await?);
        let Held { snapshot, is_ours } = self.shared.hold(&live, snapshot).await?;
        let new = {
            let record = live.state().record.clone();
            NewSession {
                runtimes: record.runtimes,
                profile: record.profile,
                limits: record.limits,
                env: record.env,
                labels: change.labels.unwrap_or(record.labels),
                idle_timeout_ms: change.idle_timeout_ms.unwrap_or(record.idle_timeout_ms),
                lifetime_ms: change.lifetime_ms.unwrap_or(record.lifetime_ms),
                persistent: change.persistent.unwrap_or(record.persistent),
                network: record.network,
                trees: record.trees,
            }
        };
        let made = self.shared.create(quota, new, Some((live.id, snapshot))).await;
        if is_ours {
            self.shared.ask(&live, SessionRequest::DropSnapshot { snapshot }).await?;
        }
        let made = made?;
        made.state().changed();
        Ok(self.shared.seen(&made).await)
    }

    /// A stream to a files worker that sees a snapshot and nothing else.
    ///
    /// # Errors
    /// [`SessionError::UnknownSnapshot`].
    pub async fn open_snapshot(&self, client: &str, id: &str, snapshot: u64) -> Result<UnixStream, SessionError> {
        let live = self.shared.find(client, id)?;
        if !live.state().snapshots.contains_key(&snapshot) {
            return Err(SessionError::UnknownSnapshot);
        }
        let shared = Arc::clone(&self.shared);
        // Where nobody takes the stream, its end ends what was made for it.
        to_its_end(async move {
            drop(shared.ready(&live).await?);
            shared.open_snapshot(&live, snapshot).await
        })
        .await
    }
}

/// A snapshot to look at, and whether it was made for that.
pub(super) struct Held {
    pub(super) snapshot: u64,
    pub(super) is_ours: bool,
}

fn view(record: &SnapshotRecord) -> SnapshotView {
    SnapshotView {
        id: record.id,
        label: record.label.clone(),
        created_at_ms: record.created_at_ms,
        bytes: record.bytes,
        files: record.files,
    }
}

impl Shared {
    async fn snapshot(self: &Arc<Self>, live: &Arc<Live>, label: Option<String>) -> Result<SnapshotView, SessionError> {
        drop(self.ready(live).await?);
        let _changing = live.gate.write().await;
        let most = self.config().sessions.snapshots_per_session;
        let id = {
            let mut state = live.state();
            if state.snapshots.len() >= most {
                let key = "sessions.snapshots_per_session".to_owned();
                return Err(SessionError::TooMany { what: "snapshots of this session", most, key });
            }
            state.next_snapshot += 1;
            state.next_snapshot - 1
        };
        self.ask(live, SessionRequest::Snapshot { snapshot: id }).await.map_err(full)?;
        let (bytes, files) = match self.ask(live, SessionRequest::Usage).await? {
            SessionEvent::Usage { bytes, files, .. } => (bytes, files),
            _ => (0, 0),
        };
        let record =
            SnapshotRecord { session: live.id, id, label, created_at_ms: now_ms(), bytes, files, saved: false };
        self.database.insert_snapshot(record.clone()).await?;
        let seen = view(&record);
        let mut state = live.state();
        state.snapshots.insert(id, record);
        state.changed();
        Ok(seen)
    }

    async fn delete_snapshot(&self, live: &Arc<Live>, snapshot: u64) -> Result<(), SessionError> {
        let _changing = live.gate.write().await;
        if !live.state().snapshots.contains_key(&snapshot) {
            return Err(SessionError::UnknownSnapshot);
        }
        // Written down first: what the launcher has beyond that is dropped by the next daemon.
        self.database.remove_snapshot(live.id, snapshot).await?;
        live.state().snapshots.remove(&snapshot);
        if live.state().present {
            self.ask(live, SessionRequest::DropSnapshot { snapshot }).await?;
        }
        self.forget_saved_snapshot(live.id, snapshot).await;
        Ok(())
    }

    /// A snapshot to look at: this one, or one of now that must be dropped again.
    pub(super) async fn hold(&self, live: &Arc<Live>, snapshot: Option<u64>) -> Result<Held, SessionError> {
        if let Some(snapshot) = snapshot {
            let is_there = live.state().snapshots.contains_key(&snapshot);
            return if is_there { Ok(Held { snapshot, is_ours: false }) } else { Err(SessionError::UnknownSnapshot) };
        }
        let _changing = live.gate.write().await;
        self.hold_now(live).await
    }

    /// The same for who has the gate already.
    pub(super) async fn hold_now(&self, live: &Live) -> Result<Held, SessionError> {
        let snapshot = {
            let mut state = live.state();
            state.next_snapshot += 1;
            state.next_snapshot - 1
        };
        self.ask(live, SessionRequest::Snapshot { snapshot }).await.map_err(full)?;
        Ok(Held { snapshot, is_ours: true })
    }

    /// A stream to a files worker in a session that is made for it, and is gone with it. Not to be left half done.
    pub(super) async fn open_snapshot(
        self: &Arc<Self>,
        live: &Live,
        snapshot: u64,
    ) -> Result<UnixStream, SessionError> {
        let record = live.state().record.clone();
        let keeper = self.keeper_now()?;
        let session = SessionId::random().bytes();
        let request = SessionRequest::Create {
            runtimes: record.runtimes.clone(),
            profile: record.profile.clone(),
            limits: record.limits,
            origin: Some((live.id.bytes(), snapshot)),
            // It is files that are looked at, and nothing else runs.
            reach: Reach::Nothing,
            trees: Vec::new(),
        };
        keeper.ask(session, request, &[]).await.map_err(|error| self.crowded(error))?;
        let opened = self.open_worker(session, 1, "files", worker_limits(&self.config(), &record)).await;
        let (mut inner, (ours, mut theirs)) = match (opened, UnixStream::pair()) {
            (Ok(inner), Ok(pair)) => (inner, pair),
            (opened, pair) => {
                keeper.ask(session, SessionRequest::Close, &[]).await?;
                let pair = pair.map_err(|error| SessionError::Internal(error.to_string()));
                return Err(opened.err().or(pair.err()).unwrap_or(SessionError::Unavailable));
            }
        };
        tokio::spawn(async move {
            // However it ends, the session that was made for it ends too.
            tokio::io::copy_bidirectional(&mut inner, &mut theirs).await.ok();
            keeper.ask(session, SessionRequest::Close, &[]).await.ok();
        });
        Ok(ours)
    }
}

/// A copy that found no room is the client's to make room for.
fn full(error: SessionError) -> SessionError {
    match error {
        SessionError::Internal(reason) if reason.contains("No space left") => SessionError::DiskFull,
        other => other,
    }
}
