//! Sessions over HTTP: everything below `/v1/sessions`.
//!
//! [`asked`] is what every request begins with. [`check`] makes what the manager takes out of requests, or refuses them; [`answer`] writes down what
//! the manager knows. Between them stand the routes: [`life`] has the sessions themselves, [`execs`] the
//! programs in them with [`output`] and [`attach`], [`files`] the files, [`network`] what they can
//! reach, [`snapshots`], [`contexts`] and [`ports`] the rest.

use axum::Router;
use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use axum::routing::{any, delete, get, post};
use tracing::debug;

use super::State;
use super::problem::Kind;

pub mod answer;
pub mod asked;
pub mod attach;
pub mod check;
pub mod contexts;
pub mod execs;
pub mod files;
pub mod files_wire;
pub mod life;
pub mod network;
pub mod output;
pub mod ports;
pub mod snapshots;
pub mod wire;

mod packages;
mod query;
mod range;
pub(super) mod time;

/// Every route below `/v1/sessions`.
pub(super) fn routes(state: &State) -> Router<State> {
    let session = Router::new()
        .route("/v1/sessions", post(life::create).get(life::list))
        .route("/v1/sessions/import", post(snapshots::import))
        .route("/v1/sessions/{id}", get(life::show).patch(life::update).delete(life::remove))
        .route("/v1/sessions/{id}/stop", post(life::stop))
        .route("/v1/sessions/{id}/pause", post(life::pause))
        .route("/v1/sessions/{id}/resume", post(life::resume))
        .route("/v1/sessions/{id}/promote", post(life::promote))
        .route("/v1/sessions/{id}/demote", post(life::demote))
        .route("/v1/sessions/{id}/network", get(network::show).put(network::replace))
        .route("/v1/sessions/{id}/fork", post(snapshots::fork))
        .route("/v1/sessions/{id}/snapshots", post(snapshots::create).get(snapshots::list))
        .route("/v1/sessions/{id}/snapshots/{snapshot}", delete(snapshots::remove))
        .route("/v1/sessions/{id}/snapshots/{snapshot}/rollback", post(snapshots::rollback))
        .route("/v1/sessions/{id}/snapshots/{snapshot}/export", get(snapshots::export));
    let execs = Router::new()
        .route("/v1/sessions/{id}/execs", post(execs::create).get(execs::list))
        .route("/v1/sessions/{id}/execs/{exec}", get(execs::show).delete(execs::remove))
        .route("/v1/sessions/{id}/execs/{exec}/output", get(output::output))
        .route("/v1/sessions/{id}/execs/{exec}/stdin", post(execs::stdin))
        .route("/v1/sessions/{id}/execs/{exec}/signal", post(execs::signal))
        .route("/v1/sessions/{id}/execs/{exec}/resize", post(execs::resize))
        .route("/v1/sessions/{id}/execs/{exec}/attach", get(attach::attach));
    let files = Router::new()
        .route("/v1/sessions/{id}/fs/file", get(files::read).put(files::write).delete(files::remove))
        .route("/v1/sessions/{id}/fs/stat", get(files::stat))
        .route("/v1/sessions/{id}/fs/list", get(files::list))
        .route("/v1/sessions/{id}/fs/mkdir", post(files::mkdir))
        .route("/v1/sessions/{id}/fs/move", post(files::rename))
        .route("/v1/sessions/{id}/fs/copy", post(files::copy))
        .route("/v1/sessions/{id}/fs/search", post(files::search))
        .route("/v1/sessions/{id}/fs/watch", get(files::watch))
        .route("/v1/sessions/{id}/fs/archive", get(files::archive).put(files::extract));
    let others = Router::new()
        .route("/v1/sessions/{id}/contexts", post(contexts::create).get(contexts::list))
        .route("/v1/sessions/{id}/contexts/{context}", delete(contexts::remove))
        .route("/v1/sessions/{id}/contexts/{context}/execute", post(contexts::execute))
        .route("/v1/sessions/{id}/contexts/{context}/interrupt", post(contexts::interrupt))
        .route("/v1/sessions/{id}/contexts/{context}/restart", post(contexts::restart))
        .route("/v1/sessions/{id}/ports/{port}", any(ports::forward))
        .route("/v1/sessions/{id}/ports/{port}/", any(ports::forward))
        .route("/v1/sessions/{id}/ports/{port}/{*path}", any(ports::forward));
    session.merge(execs).merge(files).merge(others).route_layer(from_fn_with_state(state.clone(), count))
}

/// Counts the problems among the answers.
async fn count(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    if let Some(kind) = response.extensions().get::<Kind>() {
        debug!(problem = kind.name(), "a request about sessions was not done");
        state.metrics.problem(*kind);
    }
    response
}

#[cfg(test)]
mod tests;
