//! Equal jobs at one time: the first leads, the others follow and get what it brings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::entry::Entry;
use super::key::Key;

type Following = watch::Receiver<Option<Landed>>;

/// What became of the making of a result.
#[derive(Debug, Clone)]
pub(super) enum Landed {
    /// It is made.
    Entry(Arc<Entry>),
    /// It was made, and can't be given away: each makes its own.
    NotToKeep,
}

/// Results that are being made.
#[derive(Debug, Clone, Default)]
pub(super) struct Flights(Arc<Mutex<HashMap<Key, Following>>>);

/// A place on the way to a result.
#[derive(Debug)]
pub(super) enum Place {
    /// Nobody else makes it.
    Lead(Flight),
    /// It is being made. The sender goes away without a result where that comes to nothing.
    Follow(Following),
}

/// The right to make a result. Others wait until it has landed or is dropped; dropped, one of them
/// gets the right.
#[derive(Debug)]
pub(super) struct Flight {
    pub(super) key: Key,
    landed: watch::Sender<Option<Landed>>,
    flights: Flights,
}

impl Flights {
    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Following>> {
        // Nothing under this lock can panic half-way; a poisoned one is as good as any.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, key: Key) -> Place {
        let mut all = self.all();
        if let Some(landed) = all.get(&key) {
            return Place::Follow(landed.clone());
        }
        let (sender, receiver) = watch::channel(None);
        all.insert(key, receiver);
        Place::Lead(Flight { key, landed: sender, flights: self.clone() })
    }
}

impl Flight {
    /// Gives the result to all who follow, now and until this is dropped.
    pub(super) fn land(&self, landed: Landed) {
        self.landed.send_replace(Some(landed));
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        // Before the sender goes: whoever hears of that finds the right free.
        self.flights.all().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::{entry, key};
    use super::*;

    fn follow(flights: &Flights, key: Key) -> Following {
        match flights.take(key) {
            Place::Follow(landed) => landed,
            Place::Lead(_) => panic!("nobody leads"),
        }
    }

    fn lead(flights: &Flights, key: Key) -> Flight {
        match flights.take(key) {
            Place::Lead(flight) => flight,
            Place::Follow(_) => panic!("somebody leads already"),
        }
    }

    #[tokio::test]
    async fn those_who_follow_get_what_the_first_made() {
        let flights = Flights::default();
        let flight = lead(&flights, key(1));
        let mut follower = follow(&flights, key(1));
        assert!(matches!(flights.take(key(2)), Place::Lead(_)));
        flight.land(Landed::Entry(Arc::new(entry(5))));
        drop(flight);
        let landed = follower.wait_for(Option::is_some).await.unwrap().clone();
        assert!(matches!(landed, Some(Landed::Entry(landed)) if *landed == entry(5)));
        lead(&flights, key(1));
    }

    #[tokio::test]
    async fn one_of_those_who_follow_leads_where_the_first_gave_up() {
        let flights = Flights::default();
        let flight = lead(&flights, key(1));
        let mut followers = [follow(&flights, key(1)), follow(&flights, key(1))];
        drop(flight);
        for follower in &mut followers {
            assert!(follower.wait_for(Option::is_some).await.is_err());
        }
        let _second = lead(&flights, key(1));
        follow(&flights, key(1));
    }
}
