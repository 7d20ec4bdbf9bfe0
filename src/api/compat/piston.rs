//! Piston, version 2, as its clients speak it, below `/api/v2` and `/api/v2/piston`; docs/PISTON.md.
//!
//! [`asked`] reads what clients write, [`check`] makes a job of it with [`files`] and [`versions`], [`execute`] runs
//! that and answers with the [`stage`]s, [`connect`] does so over a WebSocket. [`packages`] has what is installed.

use axum::extract::{Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use serde_json::json;
use tracing::debug;

use crate::api::problem::{Kind, Problem};
use crate::api::{State, nothing_here};

mod asked;
mod check;
mod connect;
mod execute;
mod files;
mod packages;
mod stage;
mod versions;

/// Every path of Piston's, with and without a slash at its end.
pub(in crate::api) fn routes(state: &State) -> Router<State> {
    let mut paths = Router::new();
    for base in ["", "/piston"] {
        for end in ["", "/"] {
            let path = |name: &str| format!("{base}/{name}{end}");
            paths = paths
                .route(&path("runtimes"), get(packages::runtimes))
                .route(&path("packages"), get(packages::list).post(packages::install).delete(packages::remove))
                .route(&path("execute"), post(execute::execute))
                .route(&path("connect"), get(connect::connect));
        }
    }
    // What is not there at all, and what does not take a method, is the same to those who know Piston.
    let nothing = || async { (StatusCode::NOT_FOUND, Json(json!({ "message": "Not Found" }))) };
    let paths = paths.fallback(nothing).method_not_allowed_fallback(nothing);
    Router::new().nest("/api/v2", paths.layer(from_fn_with_state(state.clone(), enter)))
}

/// What comes before every path: whether it is there, and whether what is sent is JSON.
async fn enter(Shared(state): Shared<State>, request: Request, next: Next) -> Response {
    let config = state.config();
    if !config.piston.enable {
        return nothing_here().await.into_response();
    }
    let changes_nothing = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let response = if changes_nothing || config.piston.any_content_type || declared(request.headers()).is_some() {
        next.run(request).await
    } else {
        let detail = "requests must be of type application/json";
        Refusal(Problem::new(Kind::UnsupportedMediaType, detail)).into_response()
    };
    if let Some(kind) = response.extensions().get::<Kind>() {
        debug!(problem = kind.name(), "a request of Piston's was refused");
        state.metrics.problem(*kind);
    }
    response
}

/// What follows the type in the declaration of a body that begins as one of JSON does. A body is read as JSON
/// where nothing, or parameters, follow; Piston takes any other for one without fields.
fn declared(headers: &HeaderMap) -> Option<&str> {
    headers.get(CONTENT_TYPE)?.to_str().ok()?.strip_prefix("application/json")
}

/// A refusal in Piston's words: an object with a message.
#[derive(Debug)]
struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

/// What a client is told of a problem.
fn message(problem: &Problem) -> String {
    match &problem.field {
        Some(field) => format!("{field}: {}", problem.detail),
        None => problem.detail.clone(),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self(problem) = self;
        let message = message(&problem);
        let status = match problem.kind {
            // Piston knows one status for whatever is wrong with a request.
            Kind::InvalidField | Kind::UnknownRuntime => StatusCode::BAD_REQUEST,
            kind => kind.status(),
        };
        let body = match problem.kind {
            // Those who look for what Piston itself says of such a body find it.
            Kind::MalformedJson => json!({ "message": message, "stack": format!("SyntaxError: {message}") }),
            _ => json!({ "message": message }),
        };
        // The headers stay, such as when to ask again.
        let mut response = problem.into_response();
        *response.status_mut() = status;
        *response.body_mut() = axum::body::Body::from(body.to_string());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}
