//! Streamable HTTP on a Unix socket: many clients at one time, each with sessions of its own.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::{LocalSessionManager, SessionConfig};
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::UnixStream;
use tokio::task::JoinSet;

use super::LINE_BYTES;
use super::server::{Server, Shared, User};
use crate::daemon::listen::Listener;

/// Most connections at one time, and of them those of one user.
const CONNECTIONS: (usize, usize) = (256, 128);
/// Most clients at one time, where the protocol's version has them.
const CLIENTS: usize = 128;
/// How long a client has for the head of a request.
const HEAD: Duration = Duration::from_secs(30);
/// After how long without a request a client is gone, and its sessions with it.
const GONE: Duration = Duration::from_secs(60 * 60);
/// How long an answer is held for a client whose connection broke; it asks again after three seconds, as it is told.
const RESUMED: Duration = Duration::from_secs(10);
/// How long those that are being answered may take when the server stops.
const LAST: Duration = Duration::from_secs(5);

/// From which pages of a browser, and under which names of this server, requests may come.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Doors {
    /// Let a page of this origin use the server, such as https://app.example.org:443; by default no page of a browser may
    #[arg(long, value_name = "ORIGIN", requires = "listen")]
    allow_origin: Vec<String>,
    /// Answer under this name of a host as well, besides localhost: that of a reverse proxy
    #[arg(long, value_name = "HOST", requires = "listen")]
    allow_host: Vec<String>,
}

type Service = StreamableHttpService<Server, LocalSessionManager>;

fn service(shared: &Arc<Shared>, doors: &Doors) -> Service {
    let hosts = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into_iter().chain(doors.allow_host.clone());
    let config = StreamableHttpServerConfig::default()
        .with_allowed_hosts(hosts)
        .with_allowed_origins(doors.allow_origin.clone())
        // Also where none is allowed: a page that reaches the socket through some bridge is refused.
        .enforce_origin_validation()
        .with_max_request_body_bytes(LINE_BYTES);
    let mut manager = LocalSessionManager::default();
    let mut session = SessionConfig::default();
    session.keep_alive = Some(GONE);
    session.completed_cache_ttl = RESUMED;
    manager.session_config = session;
    let (shared, manager) = (shared.clone(), Arc::new(manager));
    let known = Arc::downgrade(&manager);
    let factory = move || {
        // Whoever holds the lock is adding or removing one at this moment; the bound may be passed by that one.
        let clients = known.upgrade().and_then(|manager| Some(manager.sessions.try_read().ok()?.len()));
        if clients.is_some_and(|clients| clients >= CLIENTS) {
            return Err(std::io::Error::other("there are too many clients"));
        }
        Ok(Server::new(shared.clone()))
    };
    StreamableHttpService::new(factory, manager, config)
}

/// Serves until `stop` is ready.
pub(super) async fn serve(listener: Listener, shared: Arc<Shared>, doors: &Doors, stop: impl Future<Output = ()>) {
    let service = service(&shared, doors);
    let (users, mut connections) = (Arc::new(Users::default()), JoinSet::new());
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS.0 => match accepted {
                Ok(stream) => {
                    if let Some(place) = Place::of(&stream, &users) {
                        connections.spawn(converse(stream, service.clone(), place));
                    }
                }
                // Too many descriptors, most likely; some are closed meanwhile.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
    drop(listener);
    service.config.cancellation_token.cancel();
    drop(tokio::time::timeout(LAST, async { while connections.join_next().await.is_some() {} }).await);
    drop(tokio::time::timeout(LAST, shared.end()).await);
}

/// How many connections each user has.
#[derive(Debug, Default)]
struct Users(Mutex<BTreeMap<u32, usize>>);

/// One connection of a user.
struct Place {
    user: u32,
    users: Arc<Users>,
}

impl Place {
    fn of(stream: &UnixStream, users: &Arc<Users>) -> Option<Self> {
        let user = stream.peer_cred().ok()?.uid();
        let mut counts = users.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(user).or_default();
        (*count < CONNECTIONS.1).then(|| {
            *count += 1;
            Self { user, users: users.clone() }
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.users.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.user) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.user);
            }
        }
    }
}

async fn converse(stream: UnixStream, service: Service, place: Place) {
    let user = User(place.user);
    let stopped = service.config.cancellation_token.clone().cancelled_owned();
    let answer = service_fn(move |request| answer(service.clone(), user, request));
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    // What breaks a connection is the client's own affair.
    tokio::select! {
        ended = &mut connection => drop(ended),
        () = stopped => {
            connection.as_mut().graceful_shutdown();
            drop(connection.await);
        }
    }
    drop(place);
}

async fn answer(
    service: Service,
    user: User,
    mut request: Request<Incoming>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    if !matches!(request.uri().path(), "/" | "/mcp") {
        let mut missing = Response::new(Full::from("There is nothing but /mcp.\n").boxed());
        *missing.status_mut() = StatusCode::NOT_FOUND;
        missing.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        return Ok(missing);
    }
    request.extensions_mut().insert(user);
    Ok(service.handle(request).await)
}
