//! What clients see: HTTP and JSON over a Unix socket.
//!
//! [`wire`] has the shapes, [`request`] makes a job out of a request or refuses it with a
//! [`problem`], [`run`] submits the job and gives its answer, [`answer`] writes an outcome down and
//! [`events`] does so while it happens. [`inquiry`] has the routes that only look, [`openapi`]
//! describes all of them from their types. [`sessions`] has what outlives a request.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use axum::Router;
use axum::routing::{delete, get, post};
use tokio::sync::Semaphore;

use crate::config::Config;
use crate::runtime::{Catalogue, Checked};
use crate::scheduler::Scheduler;
use crate::session::Sessions;

pub mod answer;
pub mod checks;
pub mod dependencies;
pub mod events;
pub mod inquiry;
pub mod metrics;
pub mod openapi;
pub mod problem;
pub mod request;
pub mod run;
pub mod sessions;
pub mod wire;

mod body;
mod connection;
mod fields;
mod negotiate;
mod network;
mod proxy;
mod websocket;

pub use connection::{Connection, Kept};

use metrics::Metrics;
use problem::{Kind, Problem};

/// How many of the largest requests are held in memory at one time, queued ones included.
const LARGEST_BODIES: usize = 8;

/// What all requests share; cheap to clone.
#[derive(Debug, Clone)]
pub struct State {
    /// Runs jobs.
    pub scheduler: Scheduler,
    /// Keeps sessions, where this service keeps any.
    pub sessions: Option<Sessions>,
    /// The configuration; replaced as a whole.
    config: Arc<RwLock<Arc<Config>>>,
    /// The runtimes of this host, with what is known of their health.
    pub catalogue: Arc<RwLock<Catalogue>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Bytes of requests that may be held at one time.
    bodies: Arc<Semaphore>,
}

impl State {
    /// The state of a service that has served nobody yet.
    #[must_use]
    pub fn new(scheduler: Scheduler, config: Config, catalogue: Catalogue) -> Self {
        let bodies = Semaphore::new(bytes_held(&config));
        Self {
            scheduler,
            sessions: None,
            config: Arc::new(RwLock::new(Arc::new(config))),
            catalogue: Arc::new(RwLock::new(catalogue)),
            metrics: Arc::new(Metrics::new()),
            bodies: Arc::new(bodies),
        }
    }

    /// The same, of a service that keeps sessions.
    #[must_use]
    pub fn with_sessions(self, sessions: Sessions) -> Self {
        Self { sessions: Some(sessions), ..self }
    }

    /// The configuration as it is now. A request takes it once, so that all of it is judged by one.
    #[must_use]
    pub fn config(&self) -> Arc<Config> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes up another configuration. Requests that were accepted go on by the old one.
    pub fn replace(&self, config: Config, catalogue: Catalogue) {
        let (before, after) = (bytes_held(&self.config()), bytes_held(&config));
        self.bodies.add_permits(after.saturating_sub(before));
        // What is held now is given back later, and may be more than is left: then this takes what it can.
        self.bodies.forget_permits(before.saturating_sub(after));
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
    config.service.body_bytes.saturating_mul(LARGEST_BODIES).min(Semaphore::MAX_PERMITS)
}

/// The process at the other end of a connection, as the kernel names it; unix(7), SO_PEERCRED.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client {
    /// Its user.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its process id, where it has one in our namespace.
    pub pid: Option<i32>,
}

/// Every route. Requests carry their [`Client`] and their [`Connection`] as extensions.
pub fn router(state: State) -> Router {
    Router::new()
        .merge(sessions::routes(&state))
        .route("/v1/run", post(run::run))
        .route("/v1/runs/{id}", delete(run::cancel))
        .route("/v1/runtimes", get(inquiry::runtimes))
        .route("/api/runtimes", get(inquiry::runtimes))
        .route("/v1/runtimes/check", post(checks::check))
        .route("/v1/profiles", get(inquiry::profiles))
        .route("/health", get(inquiry::health))
        .route("/metrics", get(inquiry::metrics))
        .route("/openapi.json", get(openapi::document))
        .fallback(|| async { Problem::new(Kind::NotFound, "there is nothing at this path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(
                Kind::MethodNotAllowed,
                "this path does not take this method; the header Allow names those it takes",
            )
        })
        .with_state(state)
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
