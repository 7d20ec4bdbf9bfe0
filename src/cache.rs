//! What compile stages and installers made, to be used again by jobs that would make the same.
//!
//! ```text
//!  job ─▶ key ─▶ is it being made? ──yes─▶ wait for it ─▶ hit
//!                 │ no                       │ it came to nothing: again
//!                 ▼
//!                is it on disk? ──yes─▶ hit
//!                 │ no
//!                 ▼
//!                compile ─▶ ended well, and whole? ─▶ keep
//! ```
//!
//! [`key`] says what is the same, [`entry`] what is kept, `store` keeps it on disk and `flight` has equal
//! jobs wait for each other. Nothing here fails a job: what goes wrong is counted, said once, and the
//! job compiles as if there were no cache.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore};
use tokio::task::spawn_blocking;

use crate::config::cache::Cache as Section;

pub mod entry;
pub mod key;

mod flight;
mod index;
mod store;

pub mod trees;
pub mod uploads;

use entry::Entry;
use flight::{Flight, Flights, Landed, Place};
use key::Key;
use store::{Got, Store};

/// Results that wait to be written take no more memory than so many of the largest.
const LARGEST_WAITING: u64 = 2;

/// Handle of the cache; clones share it.
#[derive(Debug, Clone)]
pub struct Cache {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Name of its directory in the one that is configured.
    name: &'static str,
    settings: Mutex<Arc<Settings>>,
    /// The store that is open, and the settings by which it was opened. Opening takes time: only where
    /// blocking is allowed.
    store: Mutex<Option<(Arc<Settings>, Arc<Store>)>>,
    flights: Flights,
    counts: Counts,
    /// One result is written at a time.
    writing: Semaphore,
    waiting_bytes: AtomicU64,
    /// Results that are not yet written.
    unwritten: AtomicU64,
    written: Notify,
}

#[derive(Debug)]
struct Settings {
    /// Where; `None` where nothing is kept.
    directory: Option<PathBuf>,
    bytes: u64,
    entry_bytes: u64,
    shared: bool,
    /// Whether something has been said of a fault; once is enough.
    said: AtomicBool,
}

impl Settings {
    fn of(section: &Section) -> Arc<Self> {
        let Section { bytes, entry_bytes, shared, .. } = *section;
        let directory = section.directory(&|name| std::env::var_os(name));
        Arc::new(Self { directory, bytes, entry_bytes, shared, said: AtomicBool::new(false) })
    }
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
    stores: AtomicU64,
    evictions: AtomicU64,
    errors: AtomicU64,
    bytes: AtomicU64,
    entries: AtomicU64,
}

/// What the cache has done and has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Jobs that were given a result.
    pub hits: u64,
    /// Jobs that had to compile.
    pub misses: u64,
    /// Results that were kept.
    pub stores: u64,
    /// Results that had to go for others.
    pub evictions: u64,
    /// Results that could not be read, were not as they were written, or could not be kept.
    pub errors: u64,
    /// Bytes of all results.
    pub bytes: u64,
    /// Number of all results.
    pub entries: u64,
}

/// What is known under a key.
#[derive(Debug)]
pub enum Answer {
    /// The result.
    Hit(Arc<Entry>),
    /// Nothing: make it. Where there is a claim, others wait for what comes of it.
    Miss(Option<Claim>),
}

/// The right to make a result that is not there. Whoever wants the same waits until it is kept or
/// dropped.
#[derive(Debug)]
pub struct Claim {
    flight: Flight,
    shared: Arc<Shared>,
}

impl Cache {
    /// The cache that the configuration asks for, and the environment of this process. Nothing is
    /// opened before it is used.
    #[must_use]
    pub fn new(section: &Section) -> Self {
        Self::named("compile", section)
    }

    /// The same for other results, in a directory of this name.
    fn named(name: &'static str, section: &Section) -> Self {
        let shared = Shared {
            name,
            settings: Mutex::new(Settings::of(section)),
            store: Mutex::new(None),
            flights: Flights::default(),
            counts: Counts::default(),
            writing: Semaphore::new(1),
            waiting_bytes: AtomicU64::new(0),
            unwritten: AtomicU64::new(0),
            written: Notify::new(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Goes by another configuration from now on.
    pub fn configure(&self, section: &Section) {
        *locked(&self.shared.settings) = Settings::of(section);
        self.start();
    }

    /// Opens it now, in the background, so that the first job need not wait for that. Needs a tokio
    /// runtime.
    pub fn start(&self) {
        let shared = Arc::clone(&self.shared);
        drop(spawn_blocking(move || drop(shared.store())));
    }

    /// Whether anything is kept at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.shared.settings().directory.is_some()
    }

    /// Whether clients get what was compiled for others.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared.settings().shared
    }

    /// Most bytes of one result.
    #[must_use]
    pub fn entry_bytes(&self) -> u64 {
        self.shared.settings().entry_bytes
    }

    /// What it has done and has.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let counts = &self.shared.counts;
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Stats {
            hits: of(&counts.hits),
            misses: of(&counts.misses),
            stores: of(&counts.stores),
            evictions: of(&counts.evictions),
            errors: of(&counts.errors),
            bytes: of(&counts.bytes),
            entries: of(&counts.entries),
        }
    }

    /// What is known under a key; waits while another job makes it. May be dropped at any time.
    pub async fn ask(&self, key: Key) -> Answer {
        let shared = &self.shared;
        loop {
            match shared.flights.take(key) {
                Place::Follow(mut landed) => {
                    let landed = landed.wait_for(Option::is_some).await.ok().and_then(|landed| landed.clone());
                    match landed {
                        Some(Landed::Entry(entry)) => return shared.hit(entry),
                        Some(Landed::NotToKeep) => {
                            self.missed();
                            return Answer::Miss(None);
                        }
                        // It came to nothing.
                        None => {}
                    }
                }
                Place::Lead(flight) => {
                    let reader = Arc::clone(shared);
                    let read = spawn_blocking(move || reader.read(&key)).await;
                    if let Some(entry) = read.ok().flatten().map(Arc::new) {
                        flight.land(Landed::Entry(Arc::clone(&entry)));
                        return shared.hit(entry);
                    }
                    self.missed();
                    return Answer::Miss(Some(Claim { flight, shared: Arc::clone(shared) }));
                }
            }
        }
    }

    /// A job compiles that asked, and did not wait for the answer.
    pub fn missed(&self) {
        count(&self.shared.counts.misses, 1);
    }

    /// A result was given without asking.
    fn used(&self) {
        count(&self.shared.counts.hits, 1);
    }

    /// Waits until everything that was made is kept.
    pub async fn settle(&self) {
        loop {
            let written = self.shared.written.notified();
            if self.shared.unwritten.load(Ordering::Acquire) == 0 {
                return;
            }
            written.await;
        }
    }
}

impl Claim {
    /// The result is there, and is of no use to others: those who wait need not do so one by one.
    pub fn give_up(self) {
        self.flight.land(Landed::NotToKeep);
    }

    /// Gives the result to those who wait for it, and keeps it, in the background.
    pub fn keep(self, entry: Entry) {
        self.keep_shared(Arc::new(entry));
    }

    /// The same with a result that others have as well.
    pub fn keep_shared(self, entry: Arc<Entry>) {
        let Self { flight, shared } = self;
        flight.land(Landed::Entry(Arc::clone(&entry)));
        let bytes = entry.bytes();
        let most = shared.settings().entry_bytes.saturating_mul(LARGEST_WAITING);
        if shared.waiting_bytes.load(Ordering::Relaxed).saturating_add(bytes) > most {
            // The disk is slower than the compilers. That is no fault to speak of.
            return count(&shared.counts.errors, 1);
        }
        shared.waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        shared.unwritten.fetch_add(1, Ordering::Release);
        tokio::spawn(async move {
            // It lands on disk before it is taken off the list of those that are being made.
            let turn = shared.writing.acquire().await;
            let (writer, key) = (Arc::clone(&shared), flight.key);
            spawn_blocking(move || writer.write(&key, &entry)).await.ok();
            drop(turn);
            drop(flight);
            shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
            shared.unwritten.fetch_sub(1, Ordering::Release);
            shared.written.notify_waiters();
        });
    }
}

impl Shared {
    fn settings(&self) -> Arc<Settings> {
        Arc::clone(&locked(&self.settings))
    }

    fn hit(&self, entry: Arc<Entry>) -> Answer {
        count(&self.counts.hits, 1);
        Answer::Hit(entry)
    }

    /// The store, opened where it is not; blocks.
    fn store(&self) -> Option<Arc<Store>> {
        let settings = self.settings();
        let mut open = locked(&self.store);
        if let Some((by, store)) = open.as_ref()
            && Arc::ptr_eq(by, &settings)
        {
            return Some(Arc::clone(store));
        }
        *open = None;
        self.measure(None);
        let directory = settings.directory.as_deref()?;
        match Store::open(directory, self.name, settings.bytes) {
            Ok(store) => {
                let store = Arc::new(store);
                self.measure(Some(&store));
                *open = Some((settings, Arc::clone(&store)));
                Some(store)
            }
            Err(error) => {
                self.trouble(&settings, &error);
                None
            }
        }
    }

    /// Blocks.
    fn read(&self, key: &Key) -> Option<Entry> {
        let store = self.store()?;
        let got = store.get(key);
        self.measure(Some(&store));
        match got {
            Ok(Got::Entry(entry)) => Some(*entry),
            Ok(Got::Nothing) => None,
            Ok(Got::Spoilt) => {
                self.trouble(&self.settings(), &"an entry was not as it was written, and is removed");
                None
            }
            Err(error) => {
                self.trouble(&self.settings(), &error);
                None
            }
        }
    }

    /// Blocks.
    fn write(&self, key: &Key, entry: &Entry) {
        let Some(store) = self.store() else { return };
        match store.put(key, entry) {
            Ok(put) => {
                count(&self.counts.stores, u64::from(put.kept));
                count(&self.counts.evictions, put.evicted);
            }
            Err(error) => {
                self.trouble(&self.settings(), &error);
                if error.errno == nix::errno::Errno::ENOENT {
                    // The directory itself is gone: the next job makes it anew.
                    *locked(&self.store) = None;
                }
            }
        }
        self.measure(Some(&store));
    }

    fn measure(&self, store: Option<&Arc<Store>>) {
        let (bytes, entries) = store.map(|store| store.size()).unwrap_or_default();
        self.counts.bytes.store(bytes, Ordering::Relaxed);
        self.counts.entries.store(entries, Ordering::Relaxed);
    }

    fn trouble(&self, settings: &Settings, error: &dyn std::fmt::Display) {
        count(&self.counts.errors, 1);
        if !settings.said.swap(true, Ordering::Relaxed) {
            let directory = settings.directory.as_deref().unwrap_or(std::path::Path::new(""));
            tracing::warn!(
                "the cache {}/{} does not work as it should; jobs do without it, and this is not said again: {error}",
                directory.display(),
                self.name
            );
        }
    }
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way; a poisoned one is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
