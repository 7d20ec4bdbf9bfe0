//! Answers as Judge0 gives them, and what every request begins with.

#![allow(clippy::result_large_err, reason = "a refusal is the answer itself, made and moved once a request")]

use std::collections::HashMap;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Extension, FromRequestParts, Path, Query};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use hyper::http::request::Parts;
use serde_json::{Value, json};

use crate::api::problem::{Kind, Problem};
use crate::api::{Client, State};
use crate::config::Config;
use crate::config::clients::Quota;

use super::{Judge0, auth, params};

/// A request that may be made.
pub(super) struct Asked {
    /// What all requests share.
    pub(super) state: State,
    /// Where submissions are.
    pub(super) judge0: Judge0,
    /// The configuration, taken once.
    pub(super) config: Arc<Config>,
    /// Its headers.
    pub(super) headers: HeaderMap,
    /// Its parameters; of one that stands twice the last.
    pub(super) query: HashMap<String, String>,
    /// Who asks.
    pub(super) client: Client,
    /// The last part of its path, where that is variable.
    pub(super) name: String,
}

impl FromRequestParts<State> for Asked {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Response> {
        let config = state.config();
        let Some(judge0) = state.judge0.clone().filter(|_| config.judge0.enable) else { return Err(not_found()) };
        let query: Result<Query<HashMap<String, String>>, QueryRejection> =
            Query::from_request_parts(parts, state).await;
        let Query(query) = query.map_err(|_| rails(StatusCode::BAD_REQUEST))?;
        auth::authenticate(&config.judge0, &parts.headers, &query).map_err(empty)?;
        let name: Result<Path<String>, PathRejection> = Path::from_request_parts(parts, state).await;
        let client: Result<Extension<Client>, _> = Extension::from_request_parts(parts, state).await;
        // Only a daemon that forgot to say who is there could bring this about.
        let Extension(client) = client.map_err(|_| rails(StatusCode::INTERNAL_SERVER_ERROR))?;
        Ok(Self {
            state: state.clone(),
            judge0,
            config,
            headers: parts.headers.clone(),
            query,
            client,
            name: name.map(|Path(name)| name).unwrap_or_default(),
        })
    }
}

impl Asked {
    /// What the client may have.
    pub(super) fn quota(&self) -> Result<Arc<Quota>, Response> {
        self.client.quota(&self.config).map_err(|refused| problem(&refused))
    }

    /// A parameter.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether texts are base64.
    pub(super) fn in_base64(&self) -> bool {
        match self.parameter("base64_encoded") {
            Some("true") => true,
            Some("false") => false,
            _ => !self.config.judge0.disable_implicit_base64_encoding,
        }
    }

    /// Refuses whoever may not see and delete what is others'.
    pub(super) fn authorized(&self) -> Result<(), Response> {
        auth::authorize(&self.config.judge0, &self.headers, &self.query).map_err(empty)
    }

    /// Refuses what is not done in maintenance.
    pub(super) fn not_in_maintenance(&self) -> Result<(), Response> {
        match self.config.judge0.maintenance_mode {
            true => Err(error(StatusCode::SERVICE_UNAVAILABLE, &self.config.judge0.maintenance_message)),
            false => Ok(()),
        }
    }
}

/// An answer in JSON.
pub(super) fn json(status: StatusCode, value: &Value) -> Response {
    let mut response = Response::new(Body::from(value.to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json; charset=utf-8"));
    response
}

/// An error in Judge0's own form.
pub(super) fn error(status: StatusCode, message: &str) -> Response {
    json(status, &json!({ "error": message }))
}

/// An error in the form of what Judge0 is built on.
pub(super) fn rails(status: StatusCode) -> Response {
    json(status, &json!({ "status": status.as_u16(), "error": status.canonical_reason().unwrap_or_default() }))
}

/// Nothing is there.
pub(super) fn not_found() -> Response {
    rails(StatusCode::NOT_FOUND)
}

/// As much waits as may.
pub(super) fn queue_is_full() -> Response {
    let mut response = error(StatusCode::SERVICE_UNAVAILABLE, "queue is full");
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A status alone.
pub(super) fn empty(status: StatusCode) -> Response {
    status.into_response()
}

/// Fields that are wrong.
pub(super) fn invalid(errors: &params::Errors) -> Response {
    json(StatusCode::UNPROCESSABLE_ENTITY, &errors.json())
}

/// A problem that is about no field of a submission.
pub(super) fn problem(problem: &Problem) -> Response {
    match problem.kind {
        Kind::BodiesFull | Kind::QueueFull | Kind::ClientQueueFull => queue_is_full(),
        Kind::MalformedJson => rails(StatusCode::BAD_REQUEST),
        kind => error(kind.status(), &problem.detail),
    }
}
