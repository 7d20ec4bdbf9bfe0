//! Problems: every answer that is not a result, as RFC 9457 has it, with the field at fault and
//! what would be allowed there.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_VERSION, UPGRADE, WWW_AUTHENTICATE,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::job::JobId;
use crate::scheduler::{Fault, Refused};

use super::wire::StageResponse;

/// Names the job in a header of every answer about one.
pub const JOB_HEADER: &str = "codesandbox-job";

/// After how long a client may ask again when the launcher is gone or the service stops.
const RETRY_UNAVAILABLE: Duration = Duration::from_secs(5);

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal, $status:ident, $title:literal;)+) => {
        /// What kind of problem it is; decides the status.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)+ }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind,)+];

            /// Last part of the problem's type.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }

            /// Status of the answer.
            #[must_use]
            pub fn status(self) -> StatusCode {
                match self { $(Self::$kind => StatusCode::$status,)+ }
            }

            /// The kind in words.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$kind => $title,)+ }
            }
        }
    };
}

kinds! {
    /// The body is not JSON.
    MalformedJson = "malformed-json", BAD_REQUEST, "The body is not JSON";
    /// The body could not be read to its end.
    BrokenBody = "broken-body", BAD_REQUEST, "The body broke off";
    /// The request shows no token, or one that nobody has.
    Unauthorized = "unauthorized", UNAUTHORIZED, "Not without a token";
    /// What is asked for is not for those who come over TCP.
    LocalOnly = "local-only", FORBIDDEN, "Not over TCP";
    /// The client may not use the profile.
    ForbiddenProfile = "forbidden-profile", FORBIDDEN, "The profile may not be used";
    /// The page that asks is of another origin.
    ForeignOrigin = "foreign-origin", FORBIDDEN, "The page is of another origin";
    /// No such path.
    NotFound = "not-found", NOT_FOUND, "Not found";
    /// No such job lives.
    UnknownRun = "unknown-run", NOT_FOUND, "No such run";
    /// No runtime fits the selector.
    UnknownRuntime = "unknown-runtime", NOT_FOUND, "No such runtime";
    /// No such session of the client lives.
    UnknownSession = "unknown-session", NOT_FOUND, "No such session";
    /// The session has no such program.
    UnknownExec = "unknown-exec", NOT_FOUND, "No such program";
    /// The session has no such snapshot.
    UnknownSnapshot = "unknown-snapshot", NOT_FOUND, "No such snapshot";
    /// The session has no such context.
    UnknownContext = "unknown-context", NOT_FOUND, "No such context";
    /// The session has no such file.
    NoSuchFile = "no-such-file", NOT_FOUND, "No such file";
    /// The path does not take this method.
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "Method not allowed";
    /// The client accepts none of the forms that there are.
    NotAcceptable = "not-acceptable", NOT_ACCEPTABLE, "No acceptable form";
    /// The body took too long.
    SlowBody = "slow-body", REQUEST_TIMEOUT, "The body took too long";
    /// The runtime's self-test fails.
    BrokenRuntime = "broken-runtime", CONFLICT, "The runtime is broken";
    /// The job was cancelled while it waited.
    Cancelled = "cancelled", CONFLICT, "The run was cancelled";
    /// The session is not in a state for this.
    WrongState = "wrong-state", CONFLICT, "Not with the session as it is";
    /// The program has ended.
    ExecFinished = "exec-finished", CONFLICT, "The program has ended";
    /// The program has no terminal.
    NoTerminal = "no-terminal", CONFLICT, "The program has no terminal";
    /// There is a file already.
    FileExists = "file-exists", CONFLICT, "The file exists";
    /// What is at the path is not of the right kind, or may not be touched.
    WrongFile = "wrong-file", CONFLICT, "Not with this file";
    /// The body is too large.
    BodyTooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// The body is not declared to be JSON.
    UnsupportedMediaType = "unsupported-media-type", UNSUPPORTED_MEDIA_TYPE, "The body must be JSON";
    /// The file has no such bytes.
    RangeNotSatisfiable = "range-not-satisfiable", RANGE_NOT_SATISFIABLE, "The file has no such bytes";
    /// A field has a value that is not allowed.
    InvalidField = "invalid-field", UNPROCESSABLE_ENTITY, "A field is not valid";
    /// What a session needs could not be installed.
    PrepareFailed = "prepare-failed", UNPROCESSABLE_ENTITY, "Packages could not be installed";
    /// The path is for WebSockets.
    UpgradeRequired = "upgrade-required", UPGRADE_REQUIRED, "This is for WebSockets";
    /// The queue is full.
    QueueFull = "queue-full", TOO_MANY_REQUESTS, "The queue is full";
    /// The client has enough jobs in the queue.
    ClientQueueFull = "client-queue-full", TOO_MANY_REQUESTS, "Too many jobs of this client wait";
    /// Requests take too much memory.
    BodiesFull = "bodies-full", TOO_MANY_REQUESTS, "Too much data waits";
    /// The client has as many as it may.
    TooMany = "too-many", TOO_MANY_REQUESTS, "As many as may be";
    /// A sandbox was lost while its program ran.
    SandboxLost = "sandbox-lost", INTERNAL_SERVER_ERROR, "The sandbox was lost while the program ran";
    /// We failed.
    Internal = "internal", INTERNAL_SERVER_ERROR, "The service failed";
    /// Nobody listens at the port.
    PortClosed = "port-closed", BAD_GATEWAY, "Nobody listens at the port";
    /// Who listens at the port does not speak HTTP.
    BadGateway = "bad-gateway", BAD_GATEWAY, "No answer in HTTP";
    /// Who listens at the port does not answer.
    GatewayTimeout = "gateway-timeout", GATEWAY_TIMEOUT, "No answer in time";
    /// The session's disk is full.
    DiskFull = "disk-full", INSUFFICIENT_STORAGE, "The disk is full";
    /// The service keeps no sessions.
    NoSessions = "no-sessions", SERVICE_UNAVAILABLE, "There are no sessions here";
    /// The service stops.
    Stopping = "stopping", SERVICE_UNAVAILABLE, "The service stops";
    /// The launcher does not answer.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The launcher does not answer";
}

impl Kind {
    /// Whether it is the client who must change something.
    #[must_use]
    pub fn is_refusal(self) -> bool {
        self.status().is_client_error()
    }
}

/// An answer that is not a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Problem {
    /// Of which kind.
    pub kind: Kind,
    /// What is wrong this time.
    pub detail: String,
    /// The field at fault, such as `files[3].path`.
    pub field: Option<String>,
    /// What would be allowed there.
    pub allowed: Option<Box<Value>>,
    /// Selectors that resemble an unknown one, best first.
    pub near: Option<Box<[String]>>,
    /// The job that it is about.
    pub job: Option<Box<JobId>>,
    /// What an installer said that did not do its work.
    pub prepare: Option<Box<StageResponse>>,
    /// After how long it is worth trying again.
    pub retry_after: Option<Duration>,
}

impl Problem {
    /// A problem without a field.
    #[must_use]
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            field: None,
            allowed: None,
            near: None,
            job: None,
            prepare: None,
            retry_after: matches!(kind, Kind::Stopping | Kind::Unavailable).then_some(RETRY_UNAVAILABLE),
        }
    }

    /// A field with a value that is not allowed.
    #[must_use]
    pub fn field(field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..Self::new(Kind::InvalidField, detail) }
    }

    /// The same, saying what would be allowed.
    #[must_use]
    pub fn allowing(self, allowed: impl Into<Value>) -> Self {
        Self { allowed: Some(Box::new(allowed.into())), ..self }
    }

    /// The same, about a job.
    #[must_use]
    pub fn of_job(self, job: &JobId) -> Self {
        Self { job: Some(Box::new(job.clone())), ..self }
    }

    /// Its JSON form.
    #[must_use]
    pub fn details(&self) -> ProblemDetails {
        ProblemDetails {
            kind: format!("urn:codesandbox:problem:{}", self.kind.name()),
            title: self.kind.title().to_owned(),
            status: self.kind.status().as_u16(),
            detail: self.detail.clone(),
            field: self.field.clone(),
            allowed: self.allowed.as_deref().cloned(),
            near: self.near.as_deref().map(<[String]>::to_vec),
            id: self.job.as_ref().map(|job| job.to_string()),
            prepare: self.prepare.clone(),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let full = |kind, detail: &str, (key, most): (&str, usize), retry_after| {
            let problem = Self::new(kind, format!("{detail}: {most}, by {key} of the configuration"));
            Self { retry_after: Some(retry_after), ..problem }.allowing(serde_json::json!({ "maximum": most }))
        };
        match refused {
            Refused::QueueFull { most, retry_after } => {
                full(Kind::QueueFull, "as many jobs wait as may", ("service.queue_length", most), retry_after)
            }
            Refused::ClientQueueFull { most, key, retry_after } => {
                full(Kind::ClientQueueFull, "as many jobs of this client wait as may", (&key, most), retry_after)
            }
            Refused::Stopping => Self::stopping(),
            Refused::Unavailable => Self::unavailable(),
        }
    }
}

impl From<&Fault> for Problem {
    /// What a client may know of a fault; the cause itself is for the journal.
    fn from(fault: &Fault) -> Self {
        match fault {
            Fault::Unavailable => Self::unavailable(),
            Fault::Stopping => Self::stopping(),
            Fault::Cancelled => Self::new(Kind::Cancelled, "it was cancelled before it began"),
            Fault::NoRoom(reason) => Self::new(Kind::Unavailable, reason.clone()),
            Fault::Input { index, reason } => {
                Self::field(format!("files[{index}].path"), format!("the file could not be written: {reason}"))
            }
            Fault::Lost { had_begun: true, .. } => Self::new(
                Kind::SandboxLost,
                "the program may have had effects, so it was not run again; the journal has the cause",
            ),
            Fault::Lost { had_begun: false, .. } => Self::new(
                Kind::Internal,
                "two sandboxes were lost before the program had begun; the journal has the cause",
            ),
            Fault::Internal(_) => Self::new(Kind::Internal, "the journal has the cause under the id of the job"),
        }
    }
}

impl Problem {
    fn stopping() -> Self {
        Self::new(Kind::Stopping, "the service takes no new jobs and has not run this one")
    }

    pub(super) fn unavailable() -> Self {
        Self::new(Kind::Unavailable, "there is no launcher to run the job, or it went away")
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.details()).expect("a problem has only text keys");
        let mut response = Response::new(axum::body::Body::new(Full::from(body)));
        *response.status_mut() = self.kind.status();
        // For whoever counts answers.
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(after) = self.retry_after {
            // A header of 0 would have the client ask again at once, so parts of a second count as one.
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if self.kind == Kind::Unauthorized {
            // RFC 9110, section 15.5.2, and RFC 6750, section 3.
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"codesandbox\""));
        }
        if self.kind == Kind::UpgradeRequired {
            // RFC 9110, section 15.5.22, and RFC 6455, section 4.4.
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
            headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
        if let Some(job) = self.job {
            headers.insert(JOB_HEADER, job_header(&job));
        }
        response
    }
}

/// A job's id as the value of a header.
#[must_use]
pub fn job_header(job: &JobId) -> HeaderValue {
    HeaderValue::from_str(&job.to_string()).expect("a UUID is visible ASCII")
}

/// A problem as clients see it: `application/problem+json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ProblemDetails {
    /// `urn:codesandbox:problem:` and the name of the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// Status of the answer.
    pub status: u16,
    /// What is wrong this time.
    pub detail: String,
    /// The field at fault, such as `limits.wall_time_ms` or `files[3].path`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// What would be allowed there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Value>,
    /// Selectors that resemble an unknown one, best first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<Vec<String>>,
    /// The job that it is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Of a session whose packages could not be installed: what became of the installer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prepare: Option<Box<StageResponse>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_fault_is_not_told() {
        let problem = Problem::from(&Fault::Internal("mount /secret: EPERM".into()));
        assert!(!serde_json::to_string(&problem.details()).unwrap().contains("secret"));
    }

    #[test]
    fn an_input_that_could_not_be_written_names_its_field() {
        let problem = Problem::from(&Fault::Input { index: 3, reason: "no space left".into() });
        assert_eq!(problem.details().field.as_deref(), Some("files[3].path"));
        assert_eq!(problem.details().status, 422);
    }

    #[test]
    fn every_full_queue_says_when_to_ask_again() {
        let half = Duration::from_millis(500);
        for (refused, seconds) in [
            (Refused::QueueFull { most: 9, retry_after: Duration::ZERO }, "1"),
            (
                Refused::ClientQueueFull {
                    most: 9,
                    key: "clients.a.queue_length".to_owned(),
                    retry_after: Duration::from_secs(2) + half,
                },
                "3",
            ),
            (Refused::Stopping, "5"),
            (Refused::Unavailable, "5"),
        ] {
            let response = Problem::from(refused).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], seconds);
        }
    }

    #[test]
    fn a_full_queue_tells_which_bound_was_met() {
        let key = "clients.a.queue_length".to_owned();
        let refused = Refused::ClientQueueFull { most: 9, key, retry_after: Duration::ZERO };
        let details = Problem::from(refused).details();
        assert!(details.detail.contains("9, by clients.a.queue_length"), "{}", details.detail);
        assert_eq!((details.status, details.allowed), (429, Some(serde_json::json!({ "maximum": 9 }))));
    }

    #[test]
    fn kinds_have_names_of_their_own() {
        let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Kind::ALL.len());
    }
}
