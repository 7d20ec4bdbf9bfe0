//! Files of persistent sessions on disk: each workspace and each snapshot is one archive, written whole
//! under another name and then renamed, so that there is the old one or the new one, never half of one.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::files;
use super::live::{Live, State};
use super::record::SessionId;
use super::snapshots::Held;
use super::state::{Change, Status};
use super::types::SessionError;
use super::worker::worker_limits;
use super::{Shared, now_ms};
use crate::backend::SessionRequest;
use crate::plan::files::Place;

/// Where they are, below the directory of the state.
const DIRECTORY: &str = "workspaces";
/// The number of an empty snapshot that a session begins with when it is started again.
const EMPTY: u64 = 0;
/// What is read of an archive at once.
const PIECE_BYTES: usize = 256 << 10;

fn internal(error: &io::Error) -> SessionError {
    SessionError::Internal(error.to_string())
}

impl Shared {
    fn saved_directory(&self, id: SessionId) -> PathBuf {
        self.directory.join(DIRECTORY).join(id.to_string())
    }

    /// Saves the files of all persistent sessions that have changed.
    pub(super) async fn save_all(self: &Arc<Self>) {
        for live in self.all() {
            let saves = {
                let state = live.state();
                state.has_sandbox() && state.record.persistent && state.changed_at_ms.is_some()
            };
            if saves && let Err(error) = self.save_quietly(&live).await {
                tracing::error!(session = %live.id, "the files of a session are not saved: {error}");
            }
        }
    }

    /// Saves the files of a session that goes on meanwhile.
    pub(super) async fn save_quietly(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), SessionError> {
        let _changing = live.gate.write().await;
        if !live.look(State::has_sandbox) {
            return Ok(());
        }
        self.save(live).await
    }

    /// The same for who has the gate already: its files as they are now, and its snapshots. Where its sandbox is
    /// not there, or not taken up yet, nobody may take them for saved.
    pub(super) async fn save(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), SessionError> {
        let began = now_ms();
        if !live.look(State::has_sandbox) {
            return Err(SessionError::Unavailable);
        }
        let directory = self.saved_directory(live.id);
        tokio::fs::create_dir_all(&directory).await.map_err(|error| internal(&error))?;
        let unsaved: Vec<u64> =
            live.state().snapshots.values().filter(|found| !found.saved).map(|found| found.id).collect();
        for snapshot in unsaved {
            self.save_one(live, snapshot, &directory.join(format!("snapshot-{snapshot}.tar"))).await?;
            let record = {
                let mut state = live.state();
                state.snapshots.get_mut(&snapshot).map(|found| {
                    found.saved = true;
                    found.clone()
                })
            };
            if let Some(record) = record {
                self.database.update_snapshot(record).await?;
            }
        }
        let is_saved = |state: &State| {
            let may_change = state.files_workers > 0 || !state.running().is_empty();
            state.changed_at_ms.is_none() && !may_change && state.record.saved.is_some()
        };
        if live.look(is_saved) {
            return Ok(());
        }
        let before = live.state().record.saved;
        let generation = before.map_or(1, |saved| saved + 1);
        let Held { snapshot, .. } = self.hold_now(live).await?;
        let saved = self.save_one(live, snapshot, &workspace(&directory, generation)).await;
        self.ask(live, SessionRequest::DropSnapshot { snapshot }).await?;
        saved?;
        let record = {
            let mut state = live.state();
            state.record.saved = Some(generation);
            state.saved_at_ms = began;
            // What has changed since is to be saved again.
            state.changed_at_ms = state.changed_at_ms.filter(|at| *at >= began);
            state.record.clone()
        };
        // From here on the new one counts.
        self.database.update_session(record).await?;
        if let Some(before) = before {
            remove(&workspace(&directory, before)).await;
        }
        Ok(())
    }

    /// Writes one archive.
    async fn save_one(self: &Arc<Self>, live: &Live, snapshot: u64, path: &Path) -> Result<(), SessionError> {
        let most = self.config().sessions.saved_bytes;
        let stream = self.open_snapshot(live, snapshot).await?;
        let mut archive = files::archive(stream, Place::Root, true).await?;
        let unfinished = path.with_extension("part");
        let written = async {
            let mut file = tokio::fs::File::create(&unfinished).await?;
            let mut total = 0;
            while let Some(piece) = archive.next().await.map_err(io::Error::other)? {
                total += piece.len() as u64;
                if total > most {
                    return Err(io::Error::other(format!("it takes more than {most} bytes (sessions.saved_bytes)")));
                }
                file.write_all(&piece).await?;
            }
            file.flush().await?;
            file.sync_all().await?;
            tokio::fs::rename(&unfinished, path).await?;
            // The name as well as what it names; fsync(2).
            let directory = path.parent().unwrap_or(Path::new("/"));
            tokio::fs::File::open(directory).await?.sync_all().await
        };
        let written = written.await;
        if written.is_err() {
            remove(&unfinished).await;
        }
        written.map_err(|error| internal(&error))
    }

    /// Makes a new sandbox for a persistent session, with its files as they were saved last. Not to be left half
    /// done: the launcher has the sandbox long before it is of any use.
    pub(super) async fn start_again(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), SessionError> {
        let keeper = self.keeper().await?;
        let _changing = live.gate.write().await;
        if live.state().record.status != Status::Stopped {
            return Ok(());
        }
        let record = live.state().record.clone();
        // What may be left of the one before; there can be no other of its name beside it.
        self.close(live).await?;
        self.show_trees(&record.trees).await?;
        let request = |reach| SessionRequest::Create {
            runtimes: record.runtimes.clone(),
            profile: record.profile.clone(),
            limits: record.limits,
            origin: None,
            reach,
            trees: record.trees.clone(),
        };
        keeper.ask_with(live.id.bytes(), record.network.as_ref(), request).await?;
        live.state().present = true;
        if let Err(error) = self.restore(live).await {
            // Where that fails too, the next start does it, or whoever deletes the session.
            self.close(live).await?;
            return Err(error);
        }
        let mut cpus = record.cpus;
        if let Some(wanted) = &cpus
            && let Err(error) = self.pin(live, wanted).await
        {
            // The host may have fewer than before; its files are worth more.
            tracing::warn!(session = %live.id, "a session has no processors of its own any more: {error}");
            cpus = None;
        }
        self.change(live, |state| {
            state.record.cpus = cpus;
            state.record.started(now_ms());
            state.become_after(Change::Wake)
        })
        .await
    }

    /// Puts back the snapshots, one after another, and then the files.
    async fn restore(self: &Arc<Self>, live: &Arc<Live>) -> Result<(), SessionError> {
        let directory = self.saved_directory(live.id);
        let (snapshots, saved) = {
            let state = live.state();
            let saved: Vec<u64> = state.snapshots.values().filter(|found| found.saved).map(|found| found.id).collect();
            (saved, state.record.saved)
        };
        if !snapshots.is_empty() {
            self.ask(live, SessionRequest::Snapshot { snapshot: EMPTY }).await?;
        }
        for snapshot in &snapshots {
            self.fill(live, &directory.join(format!("snapshot-{snapshot}.tar"))).await?;
            self.ask(live, SessionRequest::Snapshot { snapshot: *snapshot }).await?;
            self.ask(live, SessionRequest::Rollback { snapshot: EMPTY }).await?;
        }
        if let Some(generation) = saved {
            self.fill(live, &workspace(&directory, generation)).await?;
        }
        if !snapshots.is_empty() {
            self.ask(live, SessionRequest::DropSnapshot { snapshot: EMPTY }).await?;
        }
        live.state().changed_at_ms = None;
        Ok(())
    }

    /// Unpacks an archive into the workspace.
    async fn fill(self: &Arc<Self>, live: &Live, path: &Path) -> Result<(), SessionError> {
        let (number, limits) = {
            let mut state = live.state();
            (state.worker(), worker_limits(&self.config(), &state.record))
        };
        let archive = tokio::fs::File::open(path).await.map_err(|error| internal(&error))?;
        let worker = self.open_worker(live.id.bytes(), number, "files", limits).await?;
        let pieces = stream::try_unfold(archive, async |mut archive| {
            let mut piece = vec![0; PIECE_BYTES];
            let count = archive.read(&mut piece).await?;
            piece.truncate(count);
            Ok((count > 0).then_some((piece, archive)))
        });
        files::extract(worker, Place::Root, Box::pin(pieces)).await?;
        Ok(())
    }

    /// Removes all that was saved of a session.
    pub(super) async fn forget_saved(&self, id: SessionId) {
        if let Err(error) = tokio::fs::remove_dir_all(self.saved_directory(id)).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(session = %id, "saved files of a session are left: {error}");
        }
    }

    pub(super) async fn forget_saved_snapshot(&self, id: SessionId, snapshot: u64) {
        remove(&self.saved_directory(id).join(format!("snapshot-{snapshot}.tar"))).await;
    }
}

fn workspace(directory: &Path, generation: u64) -> PathBuf {
    directory.join(format!("workspace-{generation}.tar"))
}

async fn remove(path: &Path) {
    if let Err(error) = tokio::fs::remove_file(path).await
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("{}: {error}", path.display());
    }
}
