//! What clients see: HTTP and JSON over a Unix socket.
//!
//! [`wire`] has the shapes, [`request`] makes a job out of a request or refuses it with a
//! [`problem`], [`run`] submits the job and gives its answer, [`answer`] writes an outcome down and
//! [`events`] does so while it happens. [`inquiry`] has the routes that only look, [`openapi`]
//! describes all of them from their types. [`judging`] has a run's tests. [`sessions`] has what outlives a request,
//! [`compat`] what other systems' clients know.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::Router;
use axum::routing::{delete, get, post};

use crate::config::Config;
use crate::judge::Uploads;
use crate::runtime::{Catalogue, Checked};
use crate::scheduler::Scheduler;
use crate::session::Sessions;

pub mod answer;
pub mod checks;
pub mod compat;
pub mod dependencies;
pub mod events;
pub mod inquiry;
pub mod judging;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod run;
pub mod sessions;
pub mod uploads;
pub mod wire;

mod bearer;
mod body;
mod client;
mod connection;
mod fields;
mod memory;
mod negotiate;
mod network;
mod proxy;
mod unread;
mod websocket;

pub use client::Client;
pub use connection::{Connection, Kept};

use memory::Memory;
use metrics::Metrics;
use problem::{Kind, Problem};

/// How many of the largest requests are held in memory at one time, queued ones included.
const LARGEST_BODIES: usize = 8;

/// Bytes of answers that may wait for their readers; a client that has half of them waiting gets no other.
const ANSWERS_BYTES: usize = 256 << 20;

/// What all requests share; cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    /// Runs jobs.
    pub scheduler: Scheduler,
    /// Keeps sessions, where this service keeps any.
    pub sessions: Option<Sessions>,
    /// Files that clients have uploaded.
    uploads: Uploads,
    /// Keeps submissions, where this service speaks Judge0.
    pub judge0: Option<compat::judge0::Judge0>,
    /// The configuration; replaced as a whole.
    config: Arc<RwLock<Arc<Config>>>,
    /// The runtimes of this host, with what is known of their health.
    pub catalogue: Arc<RwLock<Catalogue>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// For requests that wait and run.
    memory: Arc<Memory>,
    /// For answers that nobody has read yet.
    answers: Arc<Memory>,
}

impl State {
    /// The state of a service that has served nobody yet.
    #[must_use]
    pub fn new(scheduler: Scheduler, config: Config, catalogue: Catalogue) -> Self {
        let memory = Memory::new(bytes_held(&config));
        Self {
            scheduler,
            sessions: None,
            uploads: Uploads::new(&config),
            judge0: None,
            config: Arc::new(RwLock::new(Arc::new(config))),
            catalogue: Arc::new(RwLock::new(catalogue)),
            metrics: Arc::new(Metrics::new()),
            memory,
            answers: Memory::new(ANSWERS_BYTES),
        }
    }

    /// The same, of a service that keeps sessions.
    #[must_use]
    pub fn with_sessions(self, sessions: Sessions) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// The same, of a service that speaks Judge0.
    #[must_use]
    pub fn with_judge0(self, judge0: compat::judge0::Judge0) -> Self {
        Self { judge0: Some(judge0), ..self }
    }

    /// The configuration as it is now. A request takes it once, so that all of it is judged by one.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up another configuration. Requests that were accepted go on by the old one.
    pub fn replace(&self, config: Config, catalogue: Catalogue) {
        self.memory.resize(bytes_held(&config));
        self.uploads.configure(&config);
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
        *self.catalogue.write().unwrap_or_else(PoisonError::into_inner) = catalogue;
    }

    /// The runtimes, to look at.
    pub fn runtimes(&self) -> RwLockReadGuard<'_, Catalogue> {
        // Writers only replace whole values, so a writer that panicked has left nothing half done.
        self.catalogue.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a self-test found.
    pub fn record(&self, runtime: &str, checked: &Checked) {
        let mut catalogue = self.catalogue.write().unwrap_or_else(PoisonError::into_inner);
        catalogue.record(runtime, checked);
    }
}

/// Bytes of requests that may be held at one time.
fn bytes_held(config: &Config) -> usize {
    config.service.body_bytes.saturating_mul(LARGEST_BODIES)
}

/// Every route. Requests carry their [`Client`] and their [`Connection`] as extensions.
pub fn router(state: State) -> Router {
    Router::new()
        .merge(sessions::routes(&state))
        .merge(compat::judge0::nested())
        .merge(compat::piston::routes(&state))
        .route("/v1/run", post(run::run))
        .route("/v1/runs/{id}", delete(run::cancel))
        .route("/v1/files", get(uploads::list).post(uploads::upload))
        .route("/v1/files/{id}", get(uploads::read).delete(uploads::remove))
        .route("/v1/runtimes", get(inquiry::runtimes))
        .route("/api/runtimes", get(inquiry::runtimes))
        .route("/v1/runtimes/check", post(checks::check))
        .route("/v1/profiles", get(inquiry::profiles))
        .route("/health", get(inquiry::health))
        .route("/metrics", get(inquiry::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(nothing_here)
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Kind::MethodNotAllowed,
                "this path does not take this method; the header Allow names those it takes",
            )
        })
        .layer(axum::middleware::from_fn_with_state(state.clone(), unread::counted))
        .with_state(state)
}

async fn nothing_here() -> Problem {
    Problem::new(Kind::NotFound, "there is nothing at this path")
}

/// The same for those who come over TCP: every request shows a token, and is given its [`Client`] by that.
pub fn remote_router(state: State) -> Router {
    bearer::guarded(router(state.clone()), state)
}

/// What a collector of metrics may ask, and nothing else: no path leads to a run.
pub fn metrics_router(state: State) -> Router {
    let nothing = || async { Problem::new(Kind::NotFound, "there is nothing but /health and /metrics here") };
    Router::new()
        .route("/health", get(inquiry::health))
        .route("/metrics", get(inquiry::metrics))
        .fallback(nothing)
        .method_not_allowed_fallback(nothing)
        .with_state(state)
}

#[cfg(test)]
mod tests;
