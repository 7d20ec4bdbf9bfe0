//! Why there is no answer, and what an answer means that says no.

use hyper::body::Bytes;
use serde_json::Value;

use super::text::harmless;
use crate::api::problem::ProblemDetails;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("{place}: {error}")]
    Connect {
        /// The socket, or the address.
        place: String,
        /// Why.
        error: std::io::Error,
    },
    /// A token has characters that no token has.
    #[error("this is no token: it has characters that no header can have")]
    Token,
    /// What was to be asked for has no place in a request: a space, or a character that is none of ASCII.
    #[error("{0:?} is no path of the service")]
    Path(String),
    /// The connection broke.
    #[error("the connection to the service broke: {0}")]
    Broken(#[from] hyper::Error),
    /// The same, on a connection that is none of HTTP any more.
    #[error("the connection to the service broke: {0}")]
    Lost(String),
    /// The request was refused, or the service failed.
    #[error("{0}")]
    Refused(Refusal),
    /// The answer is none of this API.
    #[error("the service gave an answer that can't be understood: {0}")]
    Strange(String),
}

impl ClientError {
    /// Whether there is simply no service.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { error, .. } if matches!(error.kind(), NotFound | ConnectionRefused))
    }
}

/// An answer that says no.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// The body, as it came.
    pub body: Bytes,
}

impl Refusal {
    /// What is wrong, with the field at fault and what would be allowed; `None` where it was not this service that answered.
    #[must_use]
    pub fn problem(&self) -> Option<ProblemDetails> {
        serde_json::from_slice(&self.body).ok()
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.problem() {
            Some(problem) => f.write_str(&explain(&problem)),
            None => write!(f, "the service answered with HTTP status {}", self.status),
        }
    }
}

/// A problem in words: what is wrong, and below it what helps to mend it.
pub(crate) fn explain(problem: &ProblemDetails) -> String {
    let mut text = harmless(&problem.detail);
    let mut add = |name: &str, value: String| text.push_str(&format!("\n  {name}: {value}"));
    if let Some(field) = &problem.field {
        add("field", harmless(field));
    }
    if let Some(allowed) = problem.allowed.as_ref().filter(|allowed| !is_empty(allowed)) {
        add("allowed", words(allowed));
    }
    if let Some(near) = problem.near.as_ref().filter(|near| !near.is_empty()) {
        add("near", harmless(&near.join(", ")));
    }
    if let Some(id) = &problem.id {
        add("job", harmless(id));
    }
    text
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

/// What a problem allows, for people.
fn words(value: &Value) -> String {
    match value {
        Value::String(text) => harmless(text),
        Value::Array(values) => values.iter().map(words).collect::<Vec<_>>().join(", "),
        Value::Object(members) => {
            let pairs = members.iter().map(|(key, value)| format!("{} {}", harmless(key), words(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: &'static str) -> String {
        Refusal { status: 404, body: Bytes::from_static(body.as_bytes()) }.to_string()
    }

    #[test]
    fn a_problem_is_told_with_all_that_helps() {
        let text = refusal(
            r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"no runtime is called \"pyton\"",
                "field":"runtime","near":["python@3.12","python@3.11"],"allowed":[]}"#,
        );
        assert_eq!(text, "no runtime is called \"pyton\"\n  field: runtime\n  near: python@3.12, python@3.11");
    }

    #[test]
    fn an_answer_that_is_no_problem_is_told_by_its_status() {
        assert_eq!(refusal("<html>"), "the service answered with HTTP status 404");
        assert_eq!(refusal("{}"), "the service answered with HTTP status 404");
    }

    #[test]
    fn problems_can_not_drive_the_terminal() {
        assert!(!refusal(
            r#"{"type":"x","title":"x","status":400,"detail":"\u001b[2J","field":"\u001b","allowed":["\u001b"],"near":["\u001b"]}"#
        ).contains('\x1b'));
    }
}
