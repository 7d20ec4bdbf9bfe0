//! Routes that only look: runtimes, profiles, health, metrics.

use axum::Json;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

use crate::runtime::Manifest;

use super::State;
use super::problem::{Kind, Problem, ProblemDetails};
use super::wire::{HealthResponse, ProfileResponse, ProfilesResponse};

/// Every runtime of this host, with what its last self-test found.
#[utoipa::path(
    get,
    path = "/v1/runtimes",
    responses((status = 200, description = "Also at /api/runtimes", body = Manifest))
)]
pub async fn runtimes(axum::extract::State(state): axum::extract::State<State>) -> Json<Manifest> {
    Json(state.runtimes().manifest())
}

/// Every profile, with its limits and the most that a request may ask for.
#[utoipa::path(get, path = "/v1/profiles", responses((status = 200, description = "All profiles", body = ProfilesResponse)))]
pub async fn profiles(axum::extract::State(state): axum::extract::State<State>) -> Json<ProfilesResponse> {
    let config = state.config();
    let profiles = config.profiles.iter().map(|(name, profile)| ProfileResponse {
        name: name.clone(),
        title: profile.title.clone(),
        network: (&profile.network).into(),
        compile: profile.compile,
        run: profile.run,
        maximum: profile.maximum,
    });
    Json(ProfilesResponse { profiles: profiles.collect() })
}

/// Whether jobs can run.
#[utoipa::path(
    get,
    path = "/health",
    responses(
        (status = 200, description = "Jobs can run", body = HealthResponse),
        (status = 503, description = "The launcher does not answer", body = HealthResponse),
    )
)]
pub async fn health(axum::extract::State(state): axum::extract::State<State>) -> (StatusCode, Json<HealthResponse>) {
    let available = state.scheduler.is_available();
    let load = state.scheduler.load();
    let (code, status, reason) = if available {
        (StatusCode::OK, "ok", None)
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable", Some("the launcher does not answer".to_owned()))
    };
    let response = HealthResponse {
        status: status.to_owned(),
        reason,
        enforced_by: state.scheduler.enforced_by(),
        queued: load.queued,
        running: load.running,
        slots: load.slots,
    };
    (code, Json(response))
}

/// What is counted, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    responses(
        (status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"),
        (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub async fn metrics(axum::extract::State(state): axum::extract::State<State>) -> Response {
    let scheduler = &state.scheduler;
    if let Some(sessions) = &state.sessions {
        state.metrics.count_sessions(&sessions.counts());
        state.metrics.count_refused(sessions.refused());
    }
    match state.metrics.text(
        &scheduler.load(),
        &scheduler.client_loads(),
        [&scheduler.cache_stats(), &scheduler.trees().stats()],
        scheduler.is_available(),
    ) {
        Ok(text) => {
            ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text).into_response()
        }
        Err(_) => Problem::new(Kind::Internal, "the metrics could not be written").into_response(),
    }
}
