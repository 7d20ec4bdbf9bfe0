//! `POST /v1/runtimes/check`: runs self-tests now, and tells what they found.

use axum::Json;
use axum::body::Body;
use axum::extract::Extension;
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use tracing::error;
use utoipa::ToSchema;

use crate::runtime::{Manifest, Runtime};
use crate::scheduler::{Fault, selftest};

use super::client::known;
use super::problem::{Problem, ProblemDetails};
use super::{Client, State, body, fields, negotiate, request};

/// Longest body: a selector and the braces around it.
const BODY_BYTES: usize = 4 << 10;

/// Body of `POST /v1/runtimes/check`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CheckRequest {
    /// The runtime to test, as in a run; every runtime where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
}

/// Tests one runtime or all, and answers with these when all tests have ended. Their health in
/// `GET /v1/runtimes` is then what was found. Closing the connection cancels what still runs.
#[utoipa::path(
    post,
    path = "/v1/runtimes/check",
    request_body = CheckRequest,
    responses(
        (status = 200, description = "The runtimes that were tested", body = Manifest),
        (status = 400, description = "The body is not JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such runtime", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, description = "The body must be JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "A field is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too much data waits", body = ProblemDetails, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "No launcher, or the service stops", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub async fn check(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Manifest>, Problem> {
    negotiate::must_be_json(&headers)?;
    let share = state.memory.share(&known(client)?.quota(&state.config())?.client);
    let held = body::read(body, BODY_BYTES, share).await?;
    let request: CheckRequest = fields::parse(&held.bytes)?;
    drop(held);
    let chosen = choose(&state, request.runtime.as_deref())?;
    // As many at one time as would run anyway: more would only fill the queue that users wait in.
    let slots = state.scheduler.load().slots.max(1);
    stream::iter(chosen.clone())
        .map(|runtime| {
            let state = state.clone();
            async move { check_one(&state, &runtime).await }
        })
        .buffer_unordered(slots)
        .try_collect::<Vec<()>>()
        .await
        .map_err(|fault| Problem::from(&fault))?;
    Ok(Json(manifest_of(&state, &chosen)))
}

/// Runs the self-test of a runtime and records what it found.
///
/// # Errors
/// No test can run at all. A test that failed through our fault is logged, and changes nothing.
pub async fn check_one(state: &State, runtime: &Runtime) -> Result<(), Fault> {
    match selftest::check(&state.scheduler, &state.config(), runtime).await {
        Ok(checked) => {
            state.record(&runtime.id, &checked);
            state.scheduler.record(&runtime.id, &checked).await;
            Ok(())
        }
        Err(fault @ (Fault::Unavailable | Fault::Stopping)) => Err(fault),
        Err(fault) => {
            error!(runtime = runtime.id, "a self-test could not be run: {fault}");
            Ok(())
        }
    }
}

fn choose(state: &State, selector: Option<&str>) -> Result<Vec<Runtime>, Problem> {
    let catalogue = state.runtimes();
    match selector {
        None => Ok(catalogue.runtimes().to_vec()),
        Some(selector) => {
            let choice = catalogue.resolve(selector).map_err(request::unknown_runtime)?;
            Ok(vec![choice.runtime.clone()])
        }
    }
}

fn manifest_of(state: &State, chosen: &[Runtime]) -> Manifest {
    let catalogue = state.runtimes();
    let all = catalogue.runtimes().iter().zip(catalogue.manifest().runtimes);
    let tested = all.filter(|(runtime, _)| chosen.iter().any(|one| one.id == runtime.id));
    Manifest { runtimes: tested.map(|(_, listing)| listing).collect() }
}
