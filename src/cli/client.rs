//! The HTTP client: one connection to the API, be it a daemon's or the one in this process.

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;

use super::text::harmless;
use crate::api::problem::ProblemDetails;
use crate::daemon::DaemonError;

/// Longest answer, or line of a streamed one. The last line has all output and all files, each
/// limited by the service; this holds a service that has gone mad.
const ANSWER_BYTES: usize = 512 << 20;

/// The body of a request, whole or as it comes.
pub(super) type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// Nobody listens.
    #[error("{}: {error}", path.display())]
    Connect {
        /// The socket.
        path: std::path::PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The service in this process could not be started.
    #[error(transparent)]
    Start(#[from] DaemonError),
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
    pub(super) fn is_absent(&self) -> bool {
        use std::io::ErrorKind::{ConnectionRefused, NotFound};
        matches!(self, Self::Connect { error, .. } if matches!(error.kind(), NotFound | ConnectionRefused))
    }
}

/// An answer that says no.
#[derive(Debug)]
pub(super) struct Refusal {
    /// HTTP status.
    pub(super) status: u16,
    /// The body, as it came.
    pub(super) body: Bytes,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match serde_json::from_slice::<ProblemDetails>(&self.body) {
            Ok(problem) => f.write_str(&explain(&problem)),
            Err(_) => write!(f, "the service answered with HTTP status {}", self.status),
        }
    }
}

/// A problem in words: what is wrong, and below it what helps to mend it.
pub(super) fn explain(problem: &ProblemDetails) -> String {
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

/// A connection.
pub(super) struct Client {
    sender: SendRequest<Body>,
}

impl Client {
    /// Speaks HTTP over a stream.
    pub(super) async fn over(stream: UnixStream) -> Result<Self, ClientError> {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // Ends with the connection; what went wrong on it is told to whoever waits for an answer.
        tokio::spawn(async move { drop(connection.with_upgrades().await) });
        Ok(Self { sender })
    }

    /// The whole answer to GET.
    pub(super) async fn get(&mut self, path: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, path, Vec::new()).await
    }

    /// The whole answer to POST.
    pub(super) async fn post(&mut self, path: &str, json: Vec<u8>) -> Result<Bytes, ClientError> {
        self.call(Method::POST, path, json).await
    }

    /// The whole answer to a request with a JSON body, or without one.
    pub(super) async fn call(&mut self, method: Method, path: &str, json: Vec<u8>) -> Result<Bytes, ClientError> {
        let answer = self.ask(request(method, path, JSON), full(json)).await?;
        whole(answer.into_body()).await
    }

    /// The answer to POST, line by line as it comes.
    pub(super) async fn follow(&mut self, path: &str, json: Vec<u8>) -> Result<Lines, ClientError> {
        self.lines(Method::POST, path, json).await
    }

    /// The answer to a request, line by line as it comes.
    pub(super) async fn lines(&mut self, method: Method, path: &str, json: Vec<u8>) -> Result<Lines, ClientError> {
        let answer = self.ask(request(method, path, "application/x-ndjson"), full(json)).await?;
        Ok(Lines { body: answer.into_body(), pending: Vec::new(), searched: 0 })
    }

    /// The answer to GET as bytes, as they come.
    pub(super) async fn download(&mut self, path: &str) -> Result<Incoming, ClientError> {
        Ok(self.ask(request(Method::GET, path, "*/*"), full(Vec::new())).await?.into_body())
    }

    /// Sends bytes as they come; the whole answer.
    pub(super) async fn upload(
        &mut self,
        method: Method,
        path: &str,
        media: &'static str,
        body: Body,
    ) -> Result<Bytes, ClientError> {
        let mut head = request(method, path, JSON);
        head.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
        whole(self.ask(head, body).await?.into_body()).await
    }

    /// Turns the connection into one of another protocol.
    pub(super) async fn upgrade(mut self, path: &str, protocol: &'static str) -> Result<Upgraded, ClientError> {
        let mut head = request(Method::GET, path, "*/*");
        head.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        head.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(protocol));
        let answer = self.ask(head, full(Vec::new())).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Strange(format!("no change to the protocol {protocol}")));
        }
        Ok(hyper::upgrade::on(answer).await?)
    }

    async fn ask(&mut self, head: Request<()>, body: Body) -> Result<Response<Incoming>, ClientError> {
        let answer = self.sender.send_request(head.map(|()| body)).await?;
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        Err(ClientError::Refused(Refusal { status, body: whole(answer.into_body()).await? }))
    }
}

const JSON: &str = "application/json";

fn request(method: Method, path: &str, accept: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "codesandbox")
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, JSON)
        .body(())
        .expect("headers are constants, and what is variable in a path is escaped")
}

/// A body that is there as a whole.
pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// All bytes of an answer.
async fn whole(mut body: Incoming) -> Result<Bytes, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            extend(&mut bytes, &data)?;
        }
    }
    Ok(bytes.into())
}

fn extend(bytes: &mut Vec<u8>, data: &[u8]) -> Result<(), ClientError> {
    if bytes.len() + data.len() > ANSWER_BYTES {
        return Err(ClientError::Strange(format!("more than {ANSWER_BYTES} bytes")));
    }
    bytes.extend_from_slice(data);
    Ok(())
}

/// A streamed answer.
pub(super) struct Lines {
    body: Incoming,
    pending: Vec<u8>,
    /// Bytes of `pending` that are known to have no line end.
    searched: usize,
}

impl Lines {
    /// The next line; `None` at the end of the answer.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.pending, &mut self.searched) {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(frame) => {
                    if let Ok(data) = frame?.into_data() {
                        extend(&mut self.pending, &data)?;
                    }
                }
            }
        }
    }
}

/// Takes the first whole line off the front; each byte is looked at once, however long the line.
fn take_line(pending: &mut Vec<u8>, searched: &mut usize) -> Option<Vec<u8>> {
    let unseen = pending.get(*searched..).unwrap_or_default();
    let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
        *searched = pending.len();
        return None;
    };
    let rest = pending.split_off(*searched + end + 1);
    let mut line = std::mem::replace(pending, rest);
    line.pop();
    *searched = 0;
    Some(line)
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

    #[test]
    fn lines_are_cut_where_they_end_however_they_arrive() {
        let (mut pending, mut searched, mut lines) = (Vec::new(), 0, Vec::new());
        for piece in [&b"{\"a\""[..], b":1}\n{", b"}", b"\n\nx\n"] {
            pending.extend_from_slice(piece);
            while let Some(line) = take_line(&mut pending, &mut searched) {
                lines.push(String::from_utf8(line).unwrap());
            }
        }
        assert_eq!(lines, ["{\"a\":1}", "{}", "", "x"]);
    }
}
