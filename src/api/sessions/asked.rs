//! What every route about sessions begins with: who asks, about what, and who is to answer.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tracing::error;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response as Described, ResponseBuilder};

use super::query::Query;
use crate::api::connection::Connection;
use crate::api::memory::Share;
use crate::api::problem::{Kind, Problem};
use crate::api::{Client, State, body, fields, negotiate};
use crate::config::Config;
use crate::config::clients::Quota;
use crate::plan::files::FileError;
use crate::session::Sessions;
use crate::session::files::FilesError;
use crate::session::types::SessionError;

/// Who asks, about what, and who is to answer.
#[derive(Debug, Clone)]
pub struct Asked {
    /// What all requests share.
    pub(super) state: State,
    /// Who is to answer.
    pub(super) sessions: Sessions,
    /// What the client may have.
    pub(super) quota: Arc<Quota>,
    /// The configuration that all of the request is judged by.
    pub(super) config: Arc<Config>,
    /// What the request came on.
    pub(super) connection: Connection,
    /// Its headers.
    pub(super) headers: HeaderMap,
    query: Option<String>,
    params: BTreeMap<String, String>,
}

impl FromRequestParts<State> for Asked {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &State) -> Result<Self, Problem> {
        let sessions = state.sessions.clone().ok_or_else(|| {
            Problem::new(Kind::NoSessions, "this service keeps no sessions; POST /v1/run runs single programs")
        })?;
        sessions.settled().await.map_err(problem)?;
        let unknown = |what: &str| Problem::new(Kind::Internal, format!("the {what} is not known"));
        let client = parts.extensions.get::<Client>().ok_or_else(|| unknown("client"))?;
        let connection = parts.extensions.get::<Connection>().ok_or_else(|| unknown("connection"))?.clone();
        let config = state.config();
        let quota = client.quota(&config)?;
        let params = match RawPathParams::from_request_parts(parts, state).await {
            Ok(params) => params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            // A path that is no text names nothing.
            Err(RawPathParamsRejection::InvalidUtf8InPathParam(_)) => return Err(Self::unknown()),
            Err(_) => return Err(unknown("path")),
        };
        Ok(Self {
            state: state.clone(),
            sessions,
            quota,
            config,
            connection,
            headers: parts.headers.clone(),
            query: parts.uri.query().map(str::to_owned),
            params,
        })
    }
}

impl Asked {
    /// Who asks.
    pub(super) fn client(&self) -> &str {
        &self.quota.client
    }

    /// The session that the path names.
    pub(super) fn id(&self) -> &str {
        self.params.get("id").map(String::as_str).unwrap_or_default()
    }

    /// A number that the path has; what is none names nothing.
    pub(super) fn number(&self, name: &str, or_else: SessionError) -> Result<u64, Problem> {
        let number = self.params.get(name).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|text| text.parse().ok()).ok_or_else(|| problem(or_else))
    }

    /// The program that the path names.
    pub(super) fn exec(&self) -> Result<u64, Problem> {
        self.number("exec", SessionError::UnknownExec)
    }

    /// The port that the path names.
    pub(super) fn port(&self) -> Result<u16, Problem> {
        let number = self.params.get("port").filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        number.and_then(|text| text.parse().ok()).filter(|port| *port > 0).ok_or_else(|| {
            Problem::field("port", "this is no port").allowing(serde_json::json!({ "minimum": 1, "maximum": u16::MAX }))
        })
    }

    /// The query, of which nothing but these names is known.
    pub(super) fn query(&self, names: &[&str]) -> Result<Query, Problem> {
        Query::parse(self.query.as_deref().unwrap_or_default(), names)
    }

    fn share(&self) -> Share {
        self.state.memory.share(&self.quota.client)
    }

    /// A body of JSON.
    pub(super) async fn json<T: DeserializeOwned>(&self, body: Body) -> Result<T, Problem> {
        negotiate::must_be_json(&self.headers)?;
        let held = body::read(body, self.config.service.body_bytes, self.share()).await?;
        fields::parse(&held.bytes)
    }

    /// The same, where there need not be one.
    pub(super) async fn json_or_nothing<T: DeserializeOwned + Default>(&self, body: Body) -> Result<T, Problem> {
        let held = body::read(body, self.config.service.body_bytes, self.share()).await?;
        if held.bytes.is_empty() {
            return Ok(T::default());
        }
        negotiate::must_be_json(&self.headers)?;
        fields::parse(&held.bytes)
    }

    /// Does something that must not stop half-way where the client hangs up.
    pub(super) async fn whole<T, F>(&self, work: impl FnOnce(Self) -> F) -> Result<T, Problem>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, SessionError>> + Send + 'static,
    {
        let done = tokio::spawn(work(self.clone())).await;
        done.map_err(|_| Problem::new(Kind::Internal, "the journal has the cause"))?.map_err(problem)
    }

    fn unknown() -> Problem {
        problem(SessionError::Unknown)
    }
}

/// An answer of JSON.
pub(super) fn json(status: StatusCode, answer: &impl Serialize) -> Response {
    let body = serde_json::to_vec(answer).expect("an answer has only text keys");
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// The answer that there is nothing to say.
pub(super) fn nothing() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// What a client may know of an error; causes of our own failures are for the journal.
pub(super) fn problem(error: SessionError) -> Problem {
    let told = error.to_string();
    let of = |kind| Problem::new(kind, told.clone());
    match error {
        SessionError::Unknown => of(Kind::UnknownSession),
        SessionError::UnknownExec => of(Kind::UnknownExec),
        SessionError::UnknownSnapshot => of(Kind::UnknownSnapshot),
        SessionError::UnknownContext => of(Kind::UnknownContext),
        SessionError::TooMany { most, .. } => of(Kind::TooMany).allowing(serde_json::json!({ "maximum": most })),
        SessionError::Refused(_) => of(Kind::WrongState),
        SessionError::Finished => of(Kind::ExecFinished),
        SessionError::NotTerminal => of(Kind::NoTerminal),
        SessionError::Invalid { field, reason } => Problem::field(field, reason),
        SessionError::DiskFull => of(Kind::DiskFull),
        SessionError::Files(error) => files_problem(error),
        SessionError::PortClosed(_) => of(Kind::PortClosed),
        SessionError::Unavailable => Problem::unavailable(),
        SessionError::Stopping => of(Kind::Stopping),
        SessionError::Lost(cause) => {
            error!("a session's sandbox broke: {cause}");
            Problem::new(Kind::SandboxLost, "the session's sandbox broke; the journal has the cause")
        }
        SessionError::Internal(cause) => {
            error!("a request about a session failed: {cause}");
            Problem::new(Kind::Internal, "the journal has the cause")
        }
    }
}

/// The same of an operation on files.
pub(super) fn files_problem(error: FilesError) -> Problem {
    let refused = match error {
        FilesError::Refused(refused) => refused,
        FilesError::Upload(_) => return Problem::new(Kind::BrokenBody, "the body could not be read to its end"),
        FilesError::Broken(_) | FilesError::Unreadable => {
            error!("an operation on a session's files failed: {error}");
            return Problem::new(Kind::Internal, "the journal has the cause");
        }
    };
    let told = refused.to_string();
    match refused {
        FileError::Missing => Problem::new(Kind::NoSuchFile, told),
        FileError::Exists => Problem::new(Kind::FileExists, told),
        FileError::NotDirectory
        | FileError::IsDirectory
        | FileError::NotRegular
        | FileError::Link
        | FileError::NotEmpty
        | FileError::Overlap
        | FileError::Denied
        | FileError::Changed
        | FileError::TooMany
        | FileError::TooDeep
        | FileError::TooLarge => Problem::new(Kind::WrongFile, told),
        FileError::OutOfRange { .. } => Problem::new(Kind::RangeNotSatisfiable, told),
        FileError::DiskFull => Problem::new(Kind::DiskFull, told),
        FileError::Incomplete => Problem::new(Kind::BrokenBody, told),
        FileError::Pattern(_) => Problem::field("name", told),
        FileError::Damaged | FileError::Irregular { .. } => Problem::field("body", told),
        FileError::Malformed | FileError::Other(_) => {
            error!("an operation on a session's files failed: {told}");
            Problem::new(Kind::Internal, "the journal has the cause")
        }
    }
}

/// The problems that any route about sessions may answer with, for the description of the API.
pub(super) struct Problems;

impl utoipa::IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        let described = [
            ("400", "The body is not JSON, or broke off"),
            ("404", "No such session of this client, or nothing of this name in it"),
            ("408", "The body took too long"),
            ("409", "Not with the session, the program or the file as it is"),
            ("413", "The body is too large"),
            ("415", "The body must be JSON"),
            ("422", "A field is not valid"),
            ("429", "There are as many as may be"),
            ("500", "The service failed, or the sandbox broke"),
            ("503", "No sessions here, no launcher, or the service stops"),
            ("507", "The session's disk is full"),
        ];
        let content = || ContentBuilder::new().schema(Some(Ref::from_schema_name("ProblemDetails"))).build();
        let response = |text: &str| {
            ResponseBuilder::new().description(text).content("application/problem+json", content()).build()
        };
        described.into_iter().map(|(status, text)| (status.to_owned(), RefOr::T(response(text)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_have_the_statuses_that_are_documented() {
        let too_many = SessionError::TooMany { what: "sessions", most: 3, key: "sessions.per_client".to_owned() };
        for (error, status, name) in [
            (SessionError::Unknown, 404, "unknown-session"),
            (SessionError::UnknownExec, 404, "unknown-exec"),
            (too_many, 429, "too-many"),
            (SessionError::Refused("it is not persistent".to_owned()), 409, "wrong-state"),
            (SessionError::Finished, 409, "exec-finished"),
            (SessionError::NotTerminal, 409, "no-terminal"),
            (SessionError::DiskFull, 507, "disk-full"),
            (SessionError::Files(FileError::DiskFull.into()), 507, "disk-full"),
            (SessionError::Files(FileError::Missing.into()), 404, "no-such-file"),
            (SessionError::Files(FileError::Exists.into()), 409, "file-exists"),
            (SessionError::Files(FileError::NotEmpty.into()), 409, "wrong-file"),
            (SessionError::Files(FileError::Damaged.into()), 422, "invalid-field"),
            (SessionError::PortClosed(80), 502, "port-closed"),
            (SessionError::Unavailable, 503, "unavailable"),
            (SessionError::Stopping, 503, "stopping"),
            (SessionError::Lost(String::new()), 500, "sandbox-lost"),
        ] {
            let problem = problem(error);
            assert_eq!((problem.kind.status().as_u16(), problem.kind.name()), (status, name));
        }
    }

    #[test]
    fn causes_of_failures_are_not_told() {
        for error in [
            SessionError::Lost("secret".to_owned()),
            SessionError::Internal("secret".to_owned()),
            SessionError::Files(FilesError::Broken(std::io::Error::other("secret"))),
        ] {
            let details = serde_json::to_string(&problem(error).details()).unwrap();
            assert!(!details.contains("secret"), "{details}");
        }
    }
}
