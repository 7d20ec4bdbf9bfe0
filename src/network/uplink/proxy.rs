//! An HTTP proxy, for programs that look for one in their environment: CONNECT, and requests for `http://` URLs
//! (RFC 9110 section 9.3.6, RFC 9112 section 3.2.2).
//!
//! It reaches what a connection through the relay would reach and no more. Unlike that it can say why it does not.

use std::convert::Infallible;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::{Either, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;

use crate::job::{DenialReason, Protocol};

use super::bounds::Ticket;
use super::carry::{Ends, carry};
use super::denials::Flow;
use super::state::State;
use super::{reach, relay};
use dial::{Dialled, Failure, dial};
use target::{Target, TargetHost};

mod dial;
pub(super) mod forward;
pub(super) mod target;

/// Most bytes of a request's or an answer's head.
pub(super) const HEAD: usize = 32 << 10;
/// Most fields in it.
pub(super) const FIELDS: usize = 100;
/// How long a head may take to come.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// What an answer carries: a sentence of ours, or what somebody else said.
type Body = Either<Full<Bytes>, forward::Answer>;

/// Serves on these sockets.
pub(super) fn serve(state: &Rc<State>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    relay::accept(state, listeners, take)
}

fn take(state: &Rc<State>, inside: TcpStream) {
    let Some(ticket) = state.bounds.admit() else {
        let flow = Flow { name: None, address: None, port: None, protocol: Protocol::Proxy };
        state.denials.count(flow, DenialReason::Bound);
        return reach::reset(inside);
    };
    // Options that the kernel does not take leave a connection that works.
    reach::look_after(&inside).unwrap_or_default();
    // Held until the connection ends, also where it has become a tunnel.
    let (state, ticket) = (Rc::clone(state), Rc::new(ticket));
    tokio::task::spawn_local(async move {
        let service = service_fn(|request| {
            let (state, ticket) = (Rc::clone(&state), Rc::clone(&ticket));
            async move { Ok::<_, Infallible>(answer(state, request, ticket).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .max_buf_size(HEAD)
            .max_headers(FIELDS)
            // That a program has no more to say is for the other side of its tunnel.
            .half_close(true)
            .serve_connection(TokioIo::new(inside), service)
            .with_upgrades();
        // What goes wrong between program and proxy, the program is told by hyper.
        serving.await.unwrap_or_default();
    });
}

async fn answer(state: Rc<State>, request: Request<Incoming>, ticket: Rc<Ticket>) -> Response<Body> {
    let target = match Target::of(&request) {
        Ok(target) => target,
        Err(sentence) => return say(StatusCode::BAD_REQUEST, sentence),
    };
    let dialled = match dial(&state, &target).await {
        Ok(dialled) => dialled,
        Err(failure) => return explain(&target, failure),
    };
    if request.method() == Method::CONNECT {
        tokio::task::spawn_local(tunnel(state, request, target, dialled, ticket));
        return Response::new(Either::Left(Full::default()));
    }
    match forward::forward(&state, request, &target, dialled).await {
        Ok(response) => response.map(Either::Right),
        Err(_) => say(StatusCode::BAD_GATEWAY, &format!("{target} did not answer in HTTP")),
    }
}

/// Passes on what comes after the answer to a CONNECT.
async fn tunnel(state: Rc<State>, request: Request<Incoming>, target: Target, dialled: Dialled, ticket: Rc<Ticket>) {
    let Dialled { stream: outside, to, by } = dialled;
    let Ok(upgraded) = hyper::upgrade::on(request).await else { return };
    let Ok(parts) = upgraded.downcast::<TokioIo<TcpStream>>() else { return };
    let inside = parts.io.into_inner();
    let asked = match target.host {
        TargetHost::Named(name) => Some(name),
        TargetHost::Address(_) => None,
    };
    let first = parts.read_buf.to_vec();
    carry(&state, Ends { inside, outside, first, to, by, asked, protocol: Protocol::Proxy }).await;
    drop(ticket);
}

fn explain(target: &Target, failure: Failure) -> Response<Body> {
    let forbidden = |why: &str| say(StatusCode::FORBIDDEN, &format!("{target} is refused: {why}"));
    match failure {
        Failure::Refused(DenialReason::NotListed) => forbidden("no entry of the sandbox's network policy names it"),
        Failure::Refused(DenialReason::Port) => forbidden("the sandbox's network policy names it, but not this port"),
        Failure::Refused(DenialReason::Private) => forbidden("its address is private, reserved or the host's own"),
        Failure::Refused(DenialReason::Bound) => forbidden("a bound of the sandbox's network is met"),
        Failure::Refused(DenialReason::Certificate) => forbidden("its certificate is not valid"),
        Failure::Refused(DenialReason::Misdirected) => forbidden("the request names another host"),
        Failure::Refused(DenialReason::Unreachable) | Failure::NoSuchName => {
            say(StatusCode::BAD_GATEWAY, &format!("{target} can't be reached: its name does not resolve"))
        }
        Failure::NoConnection => say(StatusCode::BAD_GATEWAY, &format!("{target} can't be reached")),
        Failure::TimedOut => say(StatusCode::GATEWAY_TIMEOUT, &format!("{target} does not answer")),
    }
}

fn say(status: StatusCode, sentence: &str) -> Response<Body> {
    let mut response = Response::new(Either::Left(Full::from(format!("{sentence}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
