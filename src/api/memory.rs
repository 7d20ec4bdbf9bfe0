//! Memory for requests that wait and run, or for answers that nobody has read yet: so many bytes for all, and half of
//! them for one client, so that none keeps it from the others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::problem::{Kind, Problem};

/// How many bytes there are, and who has how many of them.
#[derive(Debug)]
pub(super) struct Memory {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    most: usize,
    taken: usize,
    clients: HashMap<Box<str>, usize>,
}

/// What a client has of it, until this is dropped.
#[derive(Debug)]
pub(super) struct Share {
    memory: Arc<Memory>,
    client: Box<str>,
    bytes: usize,
}

/// There is no more, for this client or for anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Full {
    /// The client has its half.
    #[error("this client's requests that wait and run, and its answers, take as much memory as they may")]
    Client,
    /// All is taken.
    #[error("the requests that wait and run take as much memory as they may")]
    All,
}

impl From<Full> for Problem {
    fn from(full: Full) -> Self {
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(Kind::BodiesFull, full.to_string()) }
    }
}

impl Memory {
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State { most, taken: 0, clients: HashMap::new() }) })
    }

    /// From now on there are so many bytes. Who has more than that keeps it.
    pub(super) fn resize(&self, most: usize) {
        self.state().most = most;
    }

    /// Nothing yet, for a client.
    pub(super) fn share(self: &Arc<Self>, client: &str) -> Share {
        Share { memory: Arc::clone(self), client: client.into(), bytes: 0 }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock can panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn of(&self, client: &str) -> usize {
        self.clients.get(client).copied().unwrap_or(0)
    }

    fn add(&mut self, client: &str, more: usize) {
        self.taken = self.taken.saturating_add(more);
        let own = self.of(client).saturating_add(more);
        self.clients.insert(client.into(), own);
    }
}

impl Share {
    /// Takes so many bytes more.
    ///
    /// # Errors
    /// There are not as many.
    pub(super) fn take(&mut self, more: usize) -> Result<(), Full> {
        let mut state = self.memory.state();
        if state.taken.saturating_add(more) > state.most {
            return Err(Full::All);
        }
        if state.of(&self.client).saturating_add(more) > state.most / 2 {
            return Err(Full::Client);
        }
        state.add(&self.client, more);
        self.bytes += more;
        Ok(())
    }

    /// Takes so many bytes more, however many, where the client has less than its half. What others have keeps
    /// nobody from that.
    ///
    /// # Errors
    /// The client has its half.
    pub(super) fn take_whole(&mut self, more: usize) -> Result<(), Full> {
        let mut state = self.memory.state();
        if state.of(&self.client) >= state.most / 2 {
            return Err(Full::Client);
        }
        state.add(&self.client, more);
        self.bytes += more;
        Ok(())
    }

    /// How many bytes these are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        state.taken = state.taken.saturating_sub(self.bytes);
        let left = state.clients.get(&self.client).map_or(0, |own| own.saturating_sub(self.bytes));
        if left == 0 {
            state.clients.remove(&self.client);
        } else if let Some(own) = state.clients.get_mut(&self.client) {
            *own = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_has_half_and_two_have_all() {
        let memory = Memory::new(100);
        let (mut one, mut other, mut third) = (memory.share("one"), memory.share("other"), memory.share("third"));
        one.take(30).unwrap();
        let mut more = memory.share("one");
        more.take(20).unwrap();
        assert_eq!((one.take(1), more.take(1)), (Err(Full::Client), Err(Full::Client)));
        other.take(50).unwrap();
        assert_eq!(third.take(1), Err(Full::All));
        third.take_whole(1000).unwrap();
        assert_eq!(third.take_whole(1), Err(Full::Client));
        drop(third);
        let mut third = memory.share("third");
        drop(more);
        third.take(20).unwrap();
        one.take(0).unwrap();
        assert_eq!((one.bytes(), third.bytes()), (30, 20));
    }

    #[test]
    fn what_is_dropped_is_given_back_and_nobody_is_remembered() {
        let memory = Memory::new(100);
        let mut share = memory.share("one");
        share.take(50).unwrap();
        memory.resize(10);
        assert_eq!(share.take(0), Err(Full::All));
        drop(share);
        let held = || {
            let state = memory.state();
            (state.taken, state.clients.len())
        };
        assert_eq!(held(), (0, 0));
        memory.share("one").take(5).unwrap();
        assert_eq!(held(), (0, 0));
    }
}
