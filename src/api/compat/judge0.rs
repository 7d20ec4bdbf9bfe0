//! Judge0 CE 1.13: submissions that are taken, queued, run and kept until somebody asks what became of them.
//!
//! [`routes`] has the submissions and [`info`] what is told of the service; [`auth`] says who may ask. [`given`] reads
//! a request and [`params`] checks it, with [`base64`] and [`archive`]; [`languages`] knows what its language is here,
//! and [`job`] makes a job of it as of every other request. [`work`] has it run and judged by [`verdict`], [`store`]
//! keeps the [`record`], [`callback`] tells of its end, and [`render`] writes it down for clients.

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use tokio::sync::Notify;

use crate::api::{State, unread};
use crate::config::Config;

mod archive;
mod auth;
mod base64;
mod callback;
mod given;
mod info;
mod job;
mod languages;
mod params;
mod record;
mod render;
mod reply;
mod routes;
mod store;
mod verdict;
mod work;

pub use store::StoreError;

use callback::{Callbacks, Target};
use store::{Keep, Store};

/// Client of what an earlier daemon has left: whose it was is not kept. No client has this name.
const NOBODY: &str = "";
/// The version that is spoken.
const VERSION: &str = "1.13.1";

/// What keeps and runs submissions; clones share it.
#[derive(Debug, Clone)]
pub struct Judge0 {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    callbacks: Callbacks,
    live: Mutex<Live>,
    /// Told whenever a submission is over.
    over: Notify,
}

/// Submissions that are not over.
#[derive(Debug, Default)]
struct Live {
    /// By client, those too whose end is still to be told.
    of_clients: HashMap<String, u64>,
    /// Those that wait or run.
    unfinished: u64,
}

impl Judge0 {
    /// Opens the submissions of a directory, or some that are gone with the process. `is_own` knows the addresses of
    /// this host, which are not called. Blocks.
    ///
    /// # Errors
    /// The directory or what is in it can't be used.
    pub fn open(directory: Option<&Path>, is_own: fn(IpAddr) -> bool) -> Result<Self, StoreError> {
        let shared = Shared {
            store: Store::open(directory)?,
            callbacks: Callbacks::new(is_own),
            live: Mutex::default(),
            over: Notify::new(),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Ends what an earlier daemon has left unfinished, and tells whoever wanted to be told.
    ///
    /// # Errors
    /// What is kept can't be changed.
    pub async fn recover(&self, state: &State) -> Result<(), StoreError> {
        let left = self.shared.store.interrupt(now_ms()).await?;
        if !left.is_empty() {
            tracing::warn!(submissions = left.len(), "submissions were not over when the service ended");
        }
        let (own, state) = (self.clone(), state.clone());
        tokio::spawn(async move {
            for submission in left {
                own.tell(&submission, NOBODY, &state.config()).await;
            }
        });
        Ok(())
    }

    /// Waits until nothing waits or runs any more, at most this long. Those of which the end is not known by then
    /// have it told by the next daemon.
    pub async fn settle(&self, most: Duration) {
        let idle = async {
            loop {
                let over = self.shared.over.notified();
                if self.live().unfinished == 0 {
                    return;
                }
                over.await;
            }
        };
        tokio::time::timeout(most, idle).await.ok();
    }

    fn live(&self) -> MutexGuard<'_, Live> {
        // Nothing under this lock can panic half-way.
        self.shared.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Places in the queue of a client, all of these or none.
    fn take_places(&self, client: &str, count: usize, most: u64) -> Option<Vec<Place>> {
        let mut live = self.live();
        let taken = live.of_clients.get(client).copied().unwrap_or(0);
        if taken.saturating_add(count as u64) > most {
            return None;
        }
        let place = || Place { judge0: self.clone(), client: client.to_owned(), is_over: false };
        let places: Vec<Place> = (0..count).map(|_| place()).collect();
        if count > 0 {
            *live.of_clients.entry(client.to_owned()).or_default() += count as u64;
        }
        live.unfinished += count as u64;
        Some(places)
    }

    /// Tells the end of a submission of this client's to whoever wants to know.
    async fn tell(&self, submission: &record::Submission, client: &str, config: &Config) {
        let url = submission.details.settings.callback_url.as_deref().filter(|_| config.judge0.enable_callbacks);
        let Some(target) = url.and_then(Target::parse) else { return };
        let callbacks = &self.shared.callbacks;
        let turn = callbacks.turn(client).await;
        // Written only now, so that what waits for its turn is not there twice.
        let body = render::submission(submission, &render::Fields::default(), true, "");
        let body = serde_json::to_vec(&body.unwrap_or_default()).unwrap_or_default();
        callbacks.tell(&turn, &submission.token, &target, body, config).await;
    }
}

/// A place in the queue of a client, until it is dropped.
#[derive(Debug)]
struct Place {
    judge0: Judge0,
    client: String,
    is_over: bool,
}

impl Place {
    /// Its submission waits and runs no more; its end may still have to be told.
    fn over(&mut self) {
        if !std::mem::replace(&mut self.is_over, true) {
            self.judge0.live().unfinished -= 1;
            self.judge0.shared.over.notify_waiters();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.over();
        let mut live = self.judge0.live();
        if let Some(count) = live.of_clients.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                live.of_clients.remove(&self.client);
            }
        }
    }
}

/// Every route, from the root. Paths may end in a slash.
pub fn router(state: State) -> Router {
    api().layer(from_fn_with_state(state.clone(), unread::counted)).with_state(state)
}

/// The same routes below `/judge0`.
pub(in crate::api) fn nested() -> Router<State> {
    Router::new().nest("/judge0", api())
}

fn api() -> Router<State> {
    let routes = [
        ("/submissions", post(routes::create).get(routes::list)),
        ("/submissions/batch", post(routes::create_batch).get(routes::show_batch)),
        ("/submissions/{token}", get(routes::show).delete(routes::remove)),
        ("/languages", get(info::languages)),
        ("/languages/all", get(info::all_languages)),
        ("/languages/{id}", get(info::language)),
        ("/statuses", get(info::statuses)),
        ("/system_info", get(info::system)),
        ("/config_info", get(info::config)),
        ("/about", get(info::about)),
        ("/version", get(info::version)),
        ("/isolate", get(info::isolate)),
        ("/license", get(info::license)),
        ("/statistics", get(info::statistics)),
        ("/workers", get(info::workers)),
        ("/authenticate", post(info::authenticate)),
        ("/authorize", post(info::authorize)),
    ];
    routes
        .into_iter()
        .fold(Router::new(), |router, (path, methods)| {
            router.route(path, methods.clone()).route(&format!("{path}/"), methods)
        })
        .fallback(|| async { reply::not_found() })
        .method_not_allowed_fallback(|| async { reply::not_found() })
}

fn keep(config: &Config) -> Keep {
    let settings = &config.judge0;
    Keep {
        submissions: settings.kept_submissions,
        bytes: settings.kept_bytes,
        time_ms: settings.kept_seconds.saturating_mul(1000),
    }
}

/// Unix time in milliseconds.
fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
