//! What the launcher has against what was written down: at the start, after it went away, and all the time.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::sync::mpsc;

use super::database::{DatabaseError, Write};
use super::execs::{About, Ends, Exec};
use super::live::{Live, State};
use super::record::{ExecRecord, SessionId};
use super::state::{self, Change, Due, Status};
use super::types::{SessionError, Size};
use super::{Shared, now_ms};
use crate::backend::{ExecPurpose, Keeper, SessionEvent, SessionKey, SessionRequest, Tidings};
use crate::job::Ending;
use crate::plan::Cause;
use crate::profile::{Network, Profile};

/// How long to wait before the launcher is looked for again.
const RETRY: Duration = Duration::from_millis(200);
/// How often to look what time-outs demand, and what is to be saved.
const ROUND: Duration = Duration::from_millis(500);

/// How often files are saved while programs run.
const SAVE_EVERY_MS: u64 = 300_000;

/// What the launcher has of one session.
#[derive(Debug, Default)]
struct Found {
    paused: bool,
    snapshots: Vec<u64>,
    execs: Vec<(u64, Ends)>,
    /// Why it has no network though it is to have one.
    network_error: Option<String>,
    endings: HashMap<u64, Result<Ending, String>>,
}

/// Keeps sessions with whatever launcher there is, for as long as the daemon lives.
pub(super) async fn keep(shared: Arc<Shared>) {
    loop {
        if let Ok((keeper, mut tidings)) = shared.backend.keep().await
            && let Some(found) = everything(&mut tidings).await
        {
            shared.recover(&keeper, found).await;
            shared.keeper.send_replace(Some(keeper));
            shared.settled.send_replace(true);
            while let Some(tidings) = tidings.recv().await {
                shared.hear(tidings);
            }
            shared.keeper.send_replace(None);
            // Whether it has died, or only the connection, is seen when it is there again.
            shared.all().iter().for_each(|live| live.state().present = false);
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// All that the launcher says at first; `None` where it is gone before it has said everything.
async fn everything(tidings: &mut mpsc::UnboundedReceiver<Tidings>) -> Option<HashMap<SessionKey, Found>> {
    let mut all: HashMap<SessionKey, Found> = HashMap::new();
    loop {
        let Tidings { session, event, descriptors } = tidings.recv().await?;
        let found = match event {
            SessionEvent::Told => return Some(all),
            _ => all.entry(session).or_default(),
        };
        match event {
            SessionEvent::Found { paused, snapshots } => (found.paused, found.snapshots) = (paused, snapshots),
            SessionEvent::FoundExec { exec, purpose, has_input, logs } => {
                found.execs.push((exec, ends(purpose, has_input, usize::from(logs), descriptors)));
            }
            SessionEvent::Network(error) => found.network_error = error,
            SessionEvent::Ended { exec, ending } => drop(found.endings.insert(exec, Ok(*ending))),
            SessionEvent::Lost { exec, reason } => drop(found.endings.insert(exec, Err(reason))),
            _ => {}
        }
    }
}

fn ends(purpose: ExecPurpose, has_input: bool, logs: usize, mut descriptors: Vec<OwnedFd>) -> Ends {
    let logs = descriptors.split_off(descriptors.len().saturating_sub(logs));
    let mut descriptors = descriptors.into_iter();
    let input = if has_input { descriptors.next() } else { None };
    Ends { purpose, input, outputs: descriptors.collect(), logs }
}

impl Shared {
    /// Reads what was written down. Whether any of it is still there, the launcher will say.
    pub(super) async fn load(&self) -> Result<(), DatabaseError> {
        for record in self.database.sessions().await? {
            let id = record.id;
            let live = Arc::new(Live::new(record));
            for snapshot in self.database.snapshots(id).await? {
                let mut state = live.state();
                state.next_snapshot = state.next_snapshot.max(snapshot.id + 1);
                state.snapshots.insert(snapshot.id, snapshot);
            }
            self.lives().insert(id, live);
        }
        Ok(())
    }

    /// Takes up what is there, lets go of what nobody knows of, and takes note of what is gone.
    async fn recover(self: &Arc<Self>, keeper: &Keeper, mut found: HashMap<SessionKey, Found>) {
        for live in self.all() {
            // Whoever has it can't wait for the launcher, and lets go of it soon.
            let _changing = live.gate.write().await;
            if !self.lives().contains_key(&live.id) {
                // It was being made or deleted when the launcher went away.
                continue;
            }
            let done = match found.remove(&live.id.bytes()) {
                Some(found) => self.take_up(&live, found).await,
                None => self.lose(&live).await,
            };
            if let Err(error) = done {
                tracing::error!(session = %live.id, "a session can't be taken up: {error}");
            }
        }
        for session in found.into_keys() {
            // A daemon died between asking for it and writing it down; nobody was told of it.
            keeper.ask(session, SessionRequest::Close, &[]).await.ok();
        }
    }

    async fn take_up(self: &Arc<Self>, live: &Arc<Live>, mut found: Found) -> Result<(), SessionError> {
        match live.look(|state| state.record.status) {
            // It was to be ended when the daemon died, and is with the next upkeep.
            Status::Ending => {
                live.state().present = true;
                return Ok(());
            }
            Status::Stopped => {
                live.state().present = true;
                self.end_remains(live);
                return Ok(());
            }
            Status::Active | Status::Paused => {}
        }
        self.note_network(live, found.network_error.take());
        let records: HashMap<u64, ExecRecord> =
            self.database.execs(live.id).await?.into_iter().map(|record| (record.id, record)).collect();
        let contexts = self.database.contexts(live.id).await?;
        let log_bytes = self.config().sessions.log_bytes;
        let last = records.keys().copied().chain(found.execs.iter().map(|(number, _)| *number)).max();
        let (mut taken, mut unknown) = (HashMap::new(), Vec::new());
        for (number, ends) in found.execs {
            let hidden = contexts.iter().any(|context| context.exec == number);
            let Some(record) = records.get(&number) else {
                unknown.push(number);
                continue;
            };
            let bytes = if hidden { super::contexts::LOG_BYTES } else { log_bytes };
            match Exec::take_up(about(record, hidden), ends, bytes) {
                Ok(exec) => drop(taken.insert(number, Arc::new(exec))),
                Err(error) => tracing::error!(session = %live.id, exec = number, "its output is lost: {error}"),
            }
        }
        let gone: Vec<u64> = records.keys().copied().filter(|number| !taken.contains_key(number)).collect();
        let strangers: Vec<u64> = {
            let mut state = live.state();
            state.present = true;
            // What was used since the last write nobody knows any more.
            state.record.used(now_ms());
            state.record.status = if found.paused { Status::Paused } else { Status::Active };
            state.next_exec = state.next_exec.max(last.map_or(1, |last| last + 1));
            state.execs.extend(taken.iter().map(|(number, exec)| (*number, Arc::clone(exec))));
            // A snapshot that was not written down was told to nobody.
            state.next_snapshot = state.next_snapshot.max(found.snapshots.iter().max().map_or(1, |last| last + 1));
            state.snapshots.retain(|id, snapshot| snapshot.saved || found.snapshots.contains(id));
            state.changed();
            found.snapshots.iter().copied().filter(|id| !state.snapshots.contains_key(id)).collect()
        };
        self.end_strangers(live, unknown, &found.endings, strangers);
        for number in gone {
            self.database.remove_exec(live.id, number).await?;
        }
        for (number, exec) in taken {
            match found.endings.remove(&number) {
                Some(ending) => self.ended(Arc::clone(live), number, ending),
                None => self.watch(live, &exec),
            }
        }
        self.take_up_contexts(live, &contexts);
        self.take_up_network(live);
        let record = live.state().record.clone();
        Ok(self.database.update_session(record).await?)
    }

    /// Ends the sandbox of a session that was stopped, where a daemon died or the launcher went away between the two.
    fn end_remains(self: &Arc<Self>, live: &Arc<Live>) {
        let (shared, live) = (Arc::clone(self), Arc::clone(live));
        tokio::spawn(async move {
            let ending = async {
                shared.keeper_at_last().await?;
                let _changing = live.gate.write().await;
                // Whoever has started it meanwhile has done this before.
                if live.look(|state| state.record.status) == Status::Stopped {
                    shared.close(&live).await?;
                }
                Ok::<(), SessionError>(())
            };
            if let Err(error) = ending.await {
                tracing::warn!(session = %live.id, "the sandbox of a stopped session is not ended: {error}");
            }
        });
    }

    /// Has the network of a session be what is written down: a daemon may have died between the two.
    fn take_up_network(self: &Arc<Self>, live: &Arc<Live>) {
        let (profile, network) = live.look(|state| (state.record.profile.clone(), state.record.network.clone()));
        let is_open = |profile: &Profile| matches!(profile.network, Network::Allow(_));
        if network.is_none() && !self.config().profiles.get(&profile).is_some_and(is_open) {
            return;
        }
        let (shared, live) = (Arc::clone(self), Arc::clone(live));
        tokio::spawn(async move {
            let applied = match shared.keeper_at_last().await {
                Err(error) => Err(error),
                Ok(_) => {
                    let _changing = live.gate.write().await;
                    let network = live.look(|state| state.record.network.clone());
                    shared.apply_network(&live, network.as_ref()).await
                }
            };
            if let Err(error) = applied {
                tracing::error!(session = %live.id, "the network of a session is not what it should be: {error}");
            }
        });
    }

    /// Ends programs and drops snapshots that a daemon had asked for when it died, and nobody was told of.
    fn end_strangers(
        self: &Arc<Self>,
        live: &Arc<Live>,
        execs: Vec<u64>,
        endings: &HashMap<u64, Result<Ending, String>>,
        snapshots: Vec<u64>,
    ) {
        let ends = execs.into_iter().map(|exec| match endings.get(&exec) {
            Some(_) => SessionRequest::Forget { exec },
            // It is forgotten when its end is told.
            None => SessionRequest::Kill { exec, cause: Cause::Cancelled },
        });
        let drops = snapshots.into_iter().map(|snapshot| SessionRequest::DropSnapshot { snapshot });
        for request in ends.chain(drops) {
            let (shared, live) = (Arc::clone(self), Arc::clone(live));
            tokio::spawn(async move {
                if let Err(error) = shared.ask_when_there(&live, request).await {
                    tracing::warn!(session = %live.id, "what nobody knows of is left in a session: {error}");
                }
            });
        }
    }

    /// The launcher has nothing of it.
    async fn lose(&self, live: &Arc<Live>) -> Result<(), SessionError> {
        let (status, execs) = {
            let mut state = live.state();
            state.present = false;
            state.contexts.clear();
            (state.record.status, std::mem::take(&mut state.execs))
        };
        execs.values().for_each(|exec| exec.lose());
        if status == Status::Stopped {
            return Ok(());
        }
        let is_gone = {
            let mut state = live.state();
            state.record.lost = true;
            state.become_after(Change::LauncherLost)?;
            state.snapshots.retain(|_, snapshot| snapshot.saved);
            state.record.status == Status::Ending
        };
        tracing::warn!(session = %live.id, "the sandbox of a session is gone");
        if is_gone {
            // A persistent one that was being deleted has files on disk.
            self.forget_saved(live.id).await;
            self.database.remove_session(live.id).await?;
            self.lives().remove(&live.id);
            return Ok(());
        }
        self.forget_programs(live).await?;
        let record = live.state().record.clone();
        Ok(self.database.update_session(record).await?)
    }

    /// Forgets programs, contexts and unsaved snapshots of a session whose sandbox is gone. Their numbers are
    /// not given again.
    pub(super) async fn forget_programs(&self, live: &Live) -> Result<(), DatabaseError> {
        let execs = self.database.execs(live.id).await?;
        let contexts = self.database.contexts(live.id).await?;
        let snapshots = self.database.snapshots(live.id).await?;
        {
            let mut state = live.state();
            let last = |ids: Vec<u64>| ids.into_iter().max().map_or(1, |last| last + 1);
            state.next_exec = state.next_exec.max(last(execs.iter().map(|exec| exec.id).collect()));
            state.next_context = state.next_context.max(last(contexts.iter().map(|context| context.id).collect()));
        }
        let unsaved = snapshots.into_iter().filter(|snapshot| !snapshot.saved);
        let writes = execs
            .into_iter()
            .map(|exec| Write::RemoveExec(live.id, exec.id))
            .chain(contexts.into_iter().map(|context| Write::RemoveContext(live.id, context.id)))
            .chain(unsaved.map(|snapshot| Write::RemoveSnapshot(live.id, snapshot.id)));
        self.database.write(writes.collect()).await
    }

    /// Whether programs of a session have used the processor since this was asked last; that counts as use.
    async fn computes(&self, live: &Live) -> bool {
        const LEAST_US: u64 = 10_000;
        if live.look(|state| !state.has_sandbox() || state.running().is_empty()) {
            return false;
        }
        let Ok(SessionEvent::Usage { cpu_us, .. }) = self.ask(live, SessionRequest::Usage).await else {
            return false;
        };
        let mut state = live.state();
        let before = std::mem::replace(&mut state.cpu_us, cpu_us);
        // Less than before is there where one of several has ended since.
        let computes = cpu_us.abs_diff(before) > LEAST_US && now_ms() < state.record.expires_at_ms;
        if computes {
            state.record.used(now_ms());
        }
        computes
    }

    /// Something has happened.
    fn hear(self: &Arc<Self>, tidings: Tidings) {
        let Some(live) = SessionId::from_bytes(tidings.session).and_then(|id| self.by_id(id)) else {
            return;
        };
        match tidings.event {
            SessionEvent::Ended { exec, ending } => self.ended(live, exec, Ok(*ending)),
            SessionEvent::Lost { exec, reason } => self.ended(live, exec, Err(reason)),
            SessionEvent::Denied(flows) => {
                live.look(|state| state.execs.values().for_each(|exec| exec.refused(&flows)));
                self.note_denied(&live, flows);
            }
            SessionEvent::Network(error) => self.note_network(&live, error),
            _ => {}
        }
    }
}

fn about(record: &ExecRecord, hidden: bool) -> About {
    About {
        id: record.id,
        argv: record.argv.clone(),
        detached: record.detached,
        terminal: record.terminal.map(|(rows, columns)| Size { rows, columns }),
        started_at_ms: record.started_at_ms,
        limits: record.limits,
        hidden,
    }
}

/// What is to be done to a session now. Nothing while the launcher is away, or has not told of it yet: when it was
/// used is not known then, and its files could not be saved.
fn due(state: &State, pause_after_ms: u64, now_ms: u64) -> Option<Due> {
    match state.record.status {
        // Something stood in the way of that, which need not be so for ever.
        Status::Ending => Some(Due::Delete),
        _ if !state.present => None,
        _ => state::due(&state.record, &state.running(), pause_after_ms, now_ms),
    }
}

/// Does what time-outs demand, ends what is to be ended, and saves what is to be saved.
pub(super) async fn look_after(shared: Arc<Shared>) {
    loop {
        tokio::time::sleep(ROUND).await;
        if shared.keeper_now().is_err() {
            // All of it is done by the launcher, which has not told yet what there is.
            continue;
        }
        let config = shared.config();
        for live in shared.all() {
            let (due, saves) = {
                let state = live.state();
                let now = now_ms();
                let quiet = |at: u64| now.saturating_sub(at) >= config.sessions.save_after_ms;
                let due = due(&state, config.sessions.pause_after_ms, now);
                let is_awake = state.has_sandbox() && state.record.persistent;
                // A program that goes on and on may change files at any time, and nobody is told.
                let is_long_ago = !state.running().is_empty() && now.saturating_sub(state.saved_at_ms) >= SAVE_EVERY_MS;
                (due, is_awake && (state.changed_at_ms.is_some_and(quiet) || is_long_ago))
            };
            if due.is_none() && !saves {
                continue;
            }
            // Each by itself: one that takes long keeps no other waiting, and is not begun twice.
            let Ok(busy) = Arc::clone(&live).begin_upkeep() else {
                continue;
            };
            let shared = Arc::clone(&shared);
            tokio::spawn(async move {
                let live = busy.live();
                if due.is_some() && shared.computes(live).await {
                    return;
                }
                let done = match due {
                    Some(Due::Pause) => shared.pause(live).await,
                    Some(Due::Stop) => shared.stop(live).await,
                    Some(Due::Delete) => match shared.delete(live).await {
                        // Somebody else has done it.
                        Err(SessionError::Unknown) => Ok(()),
                        deleted => deleted,
                    },
                    None => shared.save_quietly(live).await,
                };
                if let Err(error) = done
                    && !shared.stopping.load(Ordering::Relaxed)
                {
                    tracing::warn!(session = %live.id, ?due, "upkeep of a session has failed: {error}");
                    // Not again at once.
                    tokio::time::sleep(ROUND * 10).await;
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::record::tests::record;

    #[test]
    fn nothing_is_due_before_it_is_taken_up_but_what_was_to_end() {
        // All times of the record are over long since.
        for (status, present, expected) in [
            (Status::Active, false, None),
            (Status::Paused, false, None),
            (Status::Active, true, Some(Due::Stop)),
            (Status::Paused, true, Some(Due::Stop)),
            (Status::Stopped, false, None),
            (Status::Stopped, true, None),
            (Status::Ending, false, Some(Due::Delete)),
            (Status::Ending, true, Some(Due::Delete)),
        ] {
            let live = Live::new(record());
            let mut state = live.state();
            (state.record.status, state.present) = (status, present);
            assert_eq!(due(&state, 0, u64::MAX), expected, "{status:?} {present}");
        }
    }
}
