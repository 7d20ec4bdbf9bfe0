//! HTTP/1.1 between a program and a host that gets a secret, each at its own TLS.
//!
//! Heads are read and written anew, by hyper, and how a body is framed is said anew: there is one way alone to read
//! what the host is sent. Bodies are passed on as they come.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::SendRequest;
use hyper::ext::ReasonPhrase;
use hyper::header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::time::timeout;

use super::Secrets;
use super::swap::{conceal, reveal};
use crate::job::DenialReason;
use crate::network::secrets::Secret;
use crate::network::uplink::denials::Flow;
use crate::network::uplink::proxy::target::{Target, TargetHost};
use crate::network::uplink::proxy::{FIELDS, HEAD, PATIENCE, forward};
use crate::network::uplink::state::State;
use crate::profile::Name;

/// Longest that the end of a connection is said for.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who gets the secrets.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) name: Name,
    pub(super) port: u16,
    /// How the connection to it is told of.
    pub(super) flow: Flow,
}

/// What an answer carries: a sentence of ours, or what the host said.
type Body = Either<Full<Bytes>, Incoming>;

/// How far the request that is being answered has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// The host has still to begin its answer.
    Asked,
    /// It has begun it, or there is none to answer.
    Answered,
    /// It speaks something else from now on.
    Upgraded,
}

/// Passes requests and answers on until one side is done.
pub(super) async fn exchange<I, O>(state: &Rc<State>, secrets: &Secrets, host: &Host, inside: I, outside: O)
where
    I: AsyncRead + AsyncWrite + Unpin + 'static,
    O: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let handshake = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .handshake(TokioIo::new(outside));
    let Ok((sender, mut asking)) = handshake.await else { return };
    let (sender, progress) = (RefCell::new(sender), Cell::new(Progress::Answered));
    let service = service_fn(|request| {
        // One after another: the next is read when this one is answered.
        Box::pin(async {
            progress.set(Progress::Asked);
            let answered = answer(state, secrets, host, &sender, request).await;
            let is_upgraded = answered.as_ref().is_ok_and(|answer| answer.status() == StatusCode::SWITCHING_PROTOCOLS);
            progress.set(if is_upgraded { Progress::Upgraded } else { Progress::Answered });
            answered
        })
    });
    let mut answering = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .half_close(true)
        .serve_connection(TokioIo::new(inside), service);
    let (mut is_over, mut is_last) = (false, false);
    let ended = poll_fn(|context| {
        if !is_over {
            // What goes wrong shows in the answer, or in its body.
            is_over = asking.poll_without_shutdown(context).is_ready();
        }
        let polled = answering.poll_without_shutdown(context);
        if polled.is_pending() && is_over && !is_last && progress.get() == Progress::Answered {
            // The host is gone; whoever has more to ask makes another connection.
            is_last = true;
            Pin::new(&mut answering).graceful_shutdown();
            return answering.poll_without_shutdown(context);
        }
        polled
    })
    .await;
    if ended.is_err() {
        // Closed without a farewell, so that a body that is not whole is not taken for one.
        return;
    }
    if progress.get() == Progress::Upgraded && !is_over {
        // What the host has said behind its head is kept for us; that it has ended shows below.
        poll_fn(|context| asking.poll_without_shutdown(context)).await.unwrap_or_default();
    }
    let (inside, outside) = (answering.into_parts(), asking.into_parts());
    let (mut program, mut far) = (inside.io.into_inner(), outside.io.into_inner());
    if progress.get() == Progress::Upgraded {
        let first = async {
            far.write_all(&inside.read_buf).await?;
            program.write_all(&outside.read_buf).await?;
            copy_bidirectional(&mut program, &mut far).await
        };
        first.await.map(drop).unwrap_or_default();
    }
    // Whoever is gone already need not be told.
    let mut farewell = pin!(async { tokio::join!(program.shutdown(), far.shutdown()) });
    timeout(FAREWELL, &mut farewell).await.map(drop).unwrap_or_default();
}

async fn answer(
    state: &Rc<State>,
    secrets: &Secrets,
    host: &Host,
    sender: &RefCell<SendRequest<Incoming>>,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, hyper::Error> {
    let target = Target { host: TargetHost::Named(host.name.clone()), port: host.port };
    if let Err(sentence) = target.is_that_of(&request) {
        state.denials.count(host.flow.clone(), DenialReason::Misdirected);
        return Ok(refuse(StatusCode::MISDIRECTED_REQUEST, sentence));
    }
    let all: Vec<&Secret> = secrets.of(&host.name, host.port).collect();
    draw_up(&mut request);
    if reveal(request.headers_mut(), all.iter().copied().filter(|one| state.is_in_force(one))).is_err() {
        return Ok(refuse(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "with the secrets in it, the request's head is too large",
        ));
    }
    // A host that is gone, or does not speak HTTP, looks to the program as it would without us.
    poll_fn(|context| sender.borrow_mut().poll_ready(context)).await?;
    let sent = sender.borrow_mut().send_request(request);
    let mut response = sent.await?;
    let protocol = response.headers().get(UPGRADE).cloned();
    let is_upgraded = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    forward::strip(response.headers_mut());
    // Not the standard's words, but the host's own.
    response.extensions_mut().remove::<ReasonPhrase>();
    conceal(response.headers_mut(), all.into_iter());
    if let (true, Some(protocol)) = (is_upgraded, protocol) {
        response.headers_mut().insert(UPGRADE, protocol);
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(response.map(Either::Right))
}

/// As it is sent on: what is between two neighbours alone is taken out, but for the wish for another protocol.
fn draw_up(request: &mut Request<Incoming>) {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    let protocol = request.headers().get(UPGRADE).cloned().filter(|_| request.version() == Version::HTTP_11);
    *request.version_mut() = Version::HTTP_11;
    let host = request.headers().get(HOST).cloned();
    forward::strip(request.headers_mut());
    if let Some(host) = host {
        // A Connection field may have named it.
        request.headers_mut().insert(HOST, host);
    }
    if let Some(protocol) = protocol {
        request.headers_mut().insert(UPGRADE, protocol);
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn refuse(status: StatusCode, sentence: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(format!("{sentence}\n"))));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    response
}
