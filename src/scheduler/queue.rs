//! The queue: bounded, and fair among clients by their weights. Each client's jobs keep their order.
//!
//! Self-clocked fair queueing (Golestani, INFOCOM 1994) with jobs of equal length: time counts
//! turns; a client's next job is due one turn, divided by the client's weight, after the later of
//! *now* and its last job; the earliest due goes next, and *now* is when it was due. So a client
//! that was idle has saved nothing up, and one that comes new is due behind those who wait already.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::clients::Quota;

/// One turn at weight 1. Divided by weights up to 16 it leaves no rest, by others next to none.
const TURN: u64 = 720_720;
/// How many jobs of others may overtake one that does not fit. Then nothing starts until it does,
/// else a job that needs much memory would wait for ever while small ones come and go.
const MOST_PASSED_OVER: u32 = 64;
/// Most clients whose jobs are counted by name; those of later ones are counted together. A user
/// with a range of subordinate ids could be as many clients.
const MOST_COUNTED: usize = 1_000;
/// The name that these are counted under; no client can have it.
const OTHERS: &str = "(others)";

#[derive(Debug)]
pub(super) struct Queue<T> {
    /// Clients of whom something waits or runs.
    clients: BTreeMap<Arc<str>, Client<T>>,
    /// When the job was due that started last.
    now: u64,
    /// How often a client was given a place in the order.
    places: u64,
    length: usize,
    most: usize,
    /// Jobs started by each client.
    started: BTreeMap<Arc<str>, u64>,
}

#[derive(Debug)]
struct Client<T> {
    quota: Arc<Quota>,
    items: VecDeque<T>,
    running: usize,
    /// When its first item is due; of two at one time the one that has waited longer goes first.
    due: (u64, u64),
    /// How many items of others have started although its first one was due before.
    passed_over: u32,
}

/// How much one client has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientLoad {
    /// Name of the client; the user id of a user in none.
    pub client: Arc<str>,
    /// Its jobs that wait.
    pub queued: usize,
    /// Its jobs that run.
    pub running: usize,
    /// Its jobs that have started since the service did.
    pub started: u64,
}

/// Why nothing more fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    All,
    Client,
}

impl<T> Client<T> {
    fn may_start(&self) -> bool {
        !self.items.is_empty() && !self.is_at_its_bound()
    }

    fn is_at_its_bound(&self) -> bool {
        self.quota.concurrency != 0 && self.running >= self.quota.concurrency
    }

    fn is_idle(&self) -> bool {
        self.items.is_empty() && self.running == 0
    }

    /// Its next item becomes due, one turn of its own after `now`.
    fn queue_up(&mut self, now: u64, place: u64) {
        self.due = (now.saturating_add(TURN / u64::from(self.quota.weight.max(1))), place);
        self.passed_over = 0;
    }
}

impl<T> Queue<T> {
    pub(super) fn new(most: usize) -> Self {
        Self { clients: BTreeMap::new(), now: 0, places: 0, length: 0, most, started: BTreeMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// Goes by these bounds from now on; clients of which `quota` knows nothing keep theirs until they
    /// have nothing to do. What waits already is not put out.
    pub(super) fn bound(&mut self, most: usize, quota: impl Fn(&str) -> Option<Arc<Quota>>) {
        self.most = most;
        for (name, client) in &mut self.clients {
            if let Some(quota) = quota(name) {
                client.quota = quota;
            }
        }
    }

    /// Puts an item behind the others of its client, whose quota is this from now on.
    pub(super) fn push(&mut self, quota: &Arc<Quota>, item: T) -> Result<(), Full> {
        if self.length >= self.most {
            return Err(Full::All);
        }
        let waiting = self.clients.get(&quota.client).map_or(0, |client| client.items.len());
        if waiting >= quota.queue_length {
            return Err(Full::Client);
        }
        let client = self.clients.entry(Arc::clone(&quota.client)).or_insert_with(|| Client {
            quota: Arc::clone(quota),
            items: VecDeque::new(),
            running: 0,
            due: (0, 0),
            passed_over: 0,
        });
        client.quota = Arc::clone(quota);
        client.items.push_back(item);
        if client.items.len() == 1 {
            self.places += 1;
            client.queue_up(self.now, self.places);
        }
        self.length += 1;
        Ok(())
    }

    /// The first item, of the client that is due first of those that may run more, with the name of
    /// the client. [`Self::ended`] must be told when it has ended.
    ///
    /// An item that does not fit is overtaken by those that do, but not for ever.
    pub(super) fn pop(&mut self, fits: impl Fn(&T) -> bool) -> Option<(Arc<str>, T)> {
        let mut order: Vec<&mut Client<T>> = self.clients.values_mut().filter(|client| client.may_start()).collect();
        order.sort_unstable_by_key(|client| client.due);
        let first = order
            .iter()
            .position(|client| client.items.front().is_some_and(&fits) || client.passed_over >= MOST_PASSED_OVER)?;
        let (passed_over, rest) = order.split_at_mut(first);
        let client = rest.first_mut()?;
        if !client.items.front().is_some_and(&fits) {
            return None;
        }
        for other in passed_over {
            other.passed_over += 1;
        }
        let item = client.items.pop_front()?;
        client.running += 1;
        self.length -= 1;
        self.now = self.now.max(client.due.0);
        self.places += 1;
        client.queue_up(self.now, self.places);
        let name = Arc::clone(&client.quota.client);
        self.count(&name);
        Some((name, item))
    }

    fn count(&mut self, client: &Arc<str>) {
        if let Some(started) = self.started.get_mut(client) {
            *started += 1;
        } else if self.started.len() < MOST_COUNTED {
            self.started.insert(Arc::clone(client), 1);
        } else {
            *self.started.entry(OTHERS.into()).or_default() += 1;
        }
    }

    /// An item of this client has ended.
    pub(super) fn ended(&mut self, client: &str) {
        let Some(found) = self.clients.get_mut(client) else {
            return;
        };
        found.running = found.running.saturating_sub(1);
        if found.is_idle() {
            self.clients.remove(client);
        }
    }

    pub(super) fn remove(&mut self, is: impl Fn(&T) -> bool) -> Option<T> {
        let (name, client, index) = self
            .clients
            .iter_mut()
            .find_map(|(name, client)| client.items.iter().position(&is).map(|index| (name, client, index)))?;
        let item = client.items.remove(index);
        if index == 0 {
            client.passed_over = 0;
        }
        if client.is_idle() {
            let name = Arc::clone(name);
            self.clients.remove(&name);
        }
        self.length -= 1;
        item
    }

    pub(super) fn drain(&mut self) -> Vec<T> {
        self.length = 0;
        let items = self.clients.values_mut().flat_map(|client| std::mem::take(&mut client.items)).collect();
        self.clients.retain(|_, client| !client.is_idle());
        items
    }

    /// What every client has to do that has anything to do, or had.
    pub(super) fn loads(&self) -> Vec<ClientLoad> {
        let load = |client: &Arc<str>, started| {
            let (queued, running) =
                self.clients.get(client).map_or((0, 0), |client| (client.items.len(), client.running));
            ClientLoad { client: Arc::clone(client), queued, running, started }
        };
        let uncounted = self.clients.keys().filter(|client| !self.started.contains_key(*client));
        self.started
            .iter()
            .map(|(client, started)| load(client, *started))
            .chain(uncounted.map(|client| load(client, 0)))
            .collect()
    }
}

#[cfg(test)]
mod tests;
