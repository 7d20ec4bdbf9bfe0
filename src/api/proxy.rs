//! Hands a request on to a server that somebody else runs, and its answer back: a gateway as RFC 9110,
//! section 7.6, has it. Nothing that the server says is believed to be well-formed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::Response;
use futures_util::stream::{self, Stream};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, EXPECT, HOST, HeaderMap, HeaderName, HeaderValue, UPGRADE};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, StatusCode, Uri, Version};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::time::Instant;
use tracing::debug;

use super::connection::Connection;
use super::problem::{Kind, Problem};
use super::websocket::has_token;

/// Time that a server has to begin its answer, since it was last sent something.
pub(super) const HEAD_TIME: Duration = Duration::from_secs(60);
/// Largest head of an answer, in bytes.
const HEAD_BYTES: usize = 64 << 10;

/// Headers that are for one connection only, besides those that `Connection` names; RFC 9110, section
/// 7.6.1. Whoever hands a message on writes its own.
const HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    hyper::header::PROXY_AUTHENTICATE,
    hyper::header::PROXY_AUTHORIZATION,
    hyper::header::TE,
    hyper::header::TRANSFER_ENCODING,
    UPGRADE,
];

/// Where a request goes.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Path and query, as the server sees them.
    pub(super) uri: Uri,
    /// The host that it believes to be.
    pub(super) host: HeaderValue,
    /// Time that it has to begin its answer.
    pub(super) head_time: Duration,
}

/// Sends a request over `stream`, and answers what comes back.
pub(super) async fn forward<S>(
    mut request: Request,
    stream: S,
    target: Target,
    connection: Connection,
) -> Result<Response, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, driver) = http1::Builder::new()
        .max_buf_size(HEAD_BYTES)
        .handshake::<_, Body>(TokioIo::new(stream))
        .await
        .map_err(|error| broken(&error))?;
    // It ends with the request, with its answer's body, or where the connection is taken over.
    tokio::spawn(async move {
        if let Err(error) = driver.with_upgrades().await {
            debug!(%error, "a server in a session broke off");
        }
    });
    let upgrade = upgrade_of(request.headers());
    let coming = upgrade.is_some().then(|| request.extensions_mut().remove::<OnUpgrade>()).flatten();
    let last_sent = LastSent::now();
    let request = outgoing(request, &target, upgrade, &last_sent);

    let answer = last_sent.then_within(target.head_time, sender.send_request(request)).await;
    let mut answer = match answer {
        Some(answer) => answer.map_err(|error| broken(&error))?,
        None => {
            let detail = format!("the server did not begin its answer within {} ms", target.head_time.as_millis());
            return Err(Problem::new(Kind::GatewayTimeout, detail));
        }
    };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(incoming(answer, &connection));
    }
    let Some(coming) = coming else {
        return Err(Problem::new(Kind::BadGateway, "the server changed the protocol, which nobody had asked for"));
    };
    let switched = answer.headers().get(UPGRADE).cloned();
    let there = hyper::upgrade::on(&mut answer);
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *response.headers_mut() = end_to_end(answer.headers());
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().extend(switched.map(|protocol| (UPGRADE, protocol)));
    tokio::spawn(tunnel(coming, async { there.await.map(TokioIo::new) }, connection));
    Ok(response)
}

/// Whether a client wants to change to this protocol.
pub(super) fn wants(request: &Request, protocol: &str) -> bool {
    let headers = request.headers();
    request.method() == Method::GET
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, protocol)
}

/// Hands over the connection itself: what a client says from now on goes over `stream` as it is.
pub(super) fn hand_over<S>(
    mut request: Request,
    stream: S,
    protocol: &'static str,
    connection: Connection,
) -> Result<Response, Problem>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let coming = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| Problem::new(Kind::UpgradeRequired, "this connection cannot be handed over"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response.headers_mut().insert(UPGRADE, HeaderValue::from_static(protocol));
    tokio::spawn(tunnel(coming, async { Ok(stream) }, connection));
    Ok(response)
}

/// The protocol that a client wants to change to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    headers.get(UPGRADE).filter(|_| has_token(headers, &CONNECTION, "upgrade")).cloned()
}

/// A request as the server gets it.
fn outgoing(request: Request, target: &Target, upgrade: Option<HeaderValue>, last_sent: &LastSent) -> Request {
    let (parts, body) = request.into_parts();
    let mut headers = end_to_end(&parts.headers);
    // Whether the body is wanted was settled between the client and us.
    headers.remove(EXPECT);
    headers.insert(HOST, target.host.clone());
    if let Some(protocol) = upgrade {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(UPGRADE, protocol);
    }
    let last_sent = last_sent.clone();
    let body = body.map_frame(move |frame| {
        last_sent.touch();
        frame
    });
    let mut request = Request::new(Body::new(body));
    *request.method_mut() = parts.method;
    *request.uri_mut() = target.uri.clone();
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = headers;
    request
}

/// An answer as the client gets it. It breaks off where the service stops: an end would look like a whole answer.
fn incoming(answer: hyper::Response<Incoming>, connection: &Connection) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(if hyper::body::Body::is_end_stream(&body) {
        Body::empty()
    } else {
        Body::new(StreamBody::new(frames(body, connection)))
    });
    *response.status_mut() = parts.status;
    *response.headers_mut() = end_to_end(&parts.headers);
    response
}

fn frames(
    body: Incoming,
    connection: &Connection,
) -> impl Stream<Item = Result<Frame<Bytes>, axum::BoxError>> + Send + 'static {
    let stopping = Box::pin(connection.stopping());
    stream::unfold(Some((body, stopping)), |state| async {
        let (mut body, mut stopping) = state?;
        tokio::select! {
            biased;
            () = &mut stopping => Some((Err("the service stops".into()), None)),
            frame = body.frame() => match frame? {
                Ok(frame) => Some((Ok(frame), Some((body, stopping)))),
                Err(error) => Some((Err(error.into()), None)),
            },
        }
    })
}

/// All headers but those that are for one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    let mut kept = headers.clone();
    for name in HOP_BY_HOP.iter().chain(&named) {
        kept.remove(name);
    }
    kept
}

fn broken(error: &hyper::Error) -> Problem {
    if error.is_user() {
        return Problem::new(Kind::BrokenBody, "the body could not be read to its end");
    }
    let detail = if error.is_parse() {
        "what the server sent is not HTTP/1.1, or its head is too large"
    } else {
        "the server closed the connection before it had answered"
    };
    Problem::new(Kind::BadGateway, detail)
}

/// Carries bytes both ways until both sides have ended, or the service stops.
async fn tunnel<S>(here: OnUpgrade, there: impl Future<Output = hyper::Result<S>>, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let carried = async {
        let (here, mut there) = tokio::try_join!(here, there)?;
        Ok::<_, hyper::Error>(copy_bidirectional(&mut TokioIo::new(here), &mut there).await)
    };
    tokio::select! {
        carried = carried => debug!(?carried, "a tunnel has ended"),
        () = connection.stopping() => {}
    }
}

/// When a server was last sent something. A large request takes its time, which is not the server's.
#[derive(Debug, Clone)]
struct LastSent {
    at: Arc<Mutex<Instant>>,
}

impl LastSent {
    fn now() -> Self {
        Self { at: Arc::new(Mutex::new(Instant::now())) }
    }

    fn touch(&self) {
        // An instant is replaced as a whole.
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn deadline(&self, time: Duration) -> Instant {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) + time
    }

    /// What comes of a future, unless it takes longer than this since something was last sent.
    async fn then_within<F: Future>(&self, time: Duration, future: F) -> Option<F::Output> {
        tokio::pin!(future);
        loop {
            let deadline = self.deadline(time);
            tokio::select! {
                biased;
                output = &mut future => return Some(output),
                () = tokio::time::sleep_until(deadline) => {
                    if self.deadline(time) <= deadline {
                        return None;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
