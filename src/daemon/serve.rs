//! Serves the API, or the metrics alone: accepts connections within limits, and finishes their answers at the end.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::api::{self, Client, Connection};

use super::listen::{Listener, Socket};

/// Most connections at one time; the next wait in the socket's backlog.
const CONNECTIONS: usize = 512;
/// Of these, from one user or one other host; the next are closed at once, so that others still get in.
const CONNECTIONS_PER_CLIENT: usize = 256;
/// Time that a client has to send the head of a request, also of the next on the same connection.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// Largest head of a request, in bytes.
const HEAD_BYTES: usize = 64 << 10;
/// How long to wait after accept(2) has failed, as where descriptors run out.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Serves one connection until it closes; `client` is who is at its other end.
pub async fn serve_stream<I>(state: api::State, stream: I, client: Client)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Dropping the sender would mean to stop.
    let (_running, stopping) = watch::channel(false);
    serve_connection(api::router(state), stream, Some(client), stopping).await;
}

/// Accepts and serves until told to stop; then finishes the answers that are under way.
pub(super) async fn serve(listener: Listener, router: Router, mut stopping: watch::Receiver<bool>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let shares = Shares::default();
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopping.wait_for(|stopping| *stopping) => break,
            _ = connections.join_next(), if !connections.is_empty() => continue,
            accepted = accept(&listener, &places) => accepted,
        };
        let Some((Accepted { stream, peer, client }, place)) = accepted else {
            continue;
        };
        let Some(share) = shares.take(peer) else {
            warn!(%peer, "one peer has as many connections as one may");
            continue;
        };
        debug!(%peer, "a client has connected");
        let (router, stopping) = (router.clone(), stopping.clone());
        connections.spawn(async move {
            match stream {
                Stream::Unix(stream) => serve_connection(router, stream, client, stopping).await,
                Stream::Tcp(stream) => serve_connection(router, stream, client, stopping).await,
            }
            drop((share, place));
        });
    }
    // Closed before the rest is waited for: whoever connects now is refused, not kept waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

/// A connection, and what is known of its other end before it has said anything.
#[derive(Debug)]
struct Accepted {
    stream: Stream,
    peer: Peer,
    client: Option<Client>,
}

#[derive(Debug)]
enum Stream {
    Unix(UnixStream),
    Tcp(TcpStream),
}

/// What is one peer: a host of IPv6 has all addresses of a /64.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address @ IpAddr::V4(_) => address,
    }
}

/// The next connection, when there is a place for it.
async fn accept(listener: &Listener, places: &Arc<Semaphore>) -> Option<(Accepted, tokio::sync::OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.ok()?;
    let accepted = match &listener.socket {
        Socket::Unix(socket) => socket.accept().await.and_then(|(stream, _)| {
            let peer = stream.peer_cred()?;
            let client = Client::Process { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
            Ok(Accepted { stream: Stream::Unix(stream), peer: Peer::User(peer.uid()), client: Some(client) })
        }),
        Socket::Tcp(socket) => socket.accept().await.and_then(|(stream, address)| {
            // Events are small, and nobody waits for more of them.
            stream.set_nodelay(true)?;
            Ok(Accepted { stream: Stream::Tcp(stream), peer: Peer::Host(network_of(address.ip())), client: None })
        }),
    };
    match accepted {
        Ok(accepted) => Some((accepted, place)),
        Err(error) => {
            warn!("a connection could not be accepted: {error}");
            tokio::time::sleep(ACCEPT_RETRY).await;
            None
        }
    }
}

/// `client` is who is at the other end, where that is known without being told.
async fn serve_connection<I>(router: Router, stream: I, client: Option<Client>, mut stopping: watch::Receiver<bool>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (kept, released) = Connection::new(stopping.clone());
    let service = service_fn(move |mut request: Request<Incoming>| {
        if let Some(client) = &client {
            request.extensions_mut().insert(client.clone());
        }
        request.extensions_mut().insert(kept.clone());
        TowerToHyperService::new(router.clone()).call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = Box::pin(connection);
    let told_to_stop = async { drop(stopping.wait_for(|stopping| *stopping).await) };
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = told_to_stop => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            connection.as_mut().await
        }
    };
    if let Err(error) = result {
        debug!(%error, "a connection broke off");
    }
    // The service is in it, and with it our own hold.
    drop(connection);
    // Where it was taken over, it still takes its place among the connections, and is waited for at the end.
    released.until_released().await;
}

/// Who shares the connections of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Peer {
    User(u32),
    Host(IpAddr),
}

impl std::fmt::Display for Peer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::User(uid) => write!(f, "user {uid}"),
            Self::Host(address) => write!(f, "{address}"),
        }
    }
}

/// Connections by peer.
#[derive(Debug, Clone, Default)]
struct Shares {
    counts: Arc<Mutex<HashMap<Peer, usize>>>,
}

/// One connection of a peer, until it is dropped.
#[derive(Debug)]
struct Share {
    shares: Shares,
    peer: Peer,
}

impl Shares {
    fn take(&self, peer: Peer) -> Option<Share> {
        let mut counts = self.counts();
        let count = counts.entry(peer).or_default();
        if *count >= CONNECTIONS_PER_CLIENT {
            return None;
        }
        *count += 1;
        Some(Share { shares: self.clone(), peer })
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<Peer, usize>> {
        // Nothing under this lock can panic half-way.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut counts = self.shares.counts();
        if let Some(count) = counts.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.peer);
            }
        }
    }
}

/// Raises the number of open files to what is allowed: every connection is one, and every run
/// several; the usual 1024 is for programs that use select(2).
pub(super) fn raise_descriptor_limit() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, most)| setrlimit(Resource::RLIMIT_NOFILE, most, most));
    if let Err(error) = raised {
        warn!("the limit of open files could not be raised: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_with_all_connections_leaves_room_for_others() {
        let shares = Shares::default();
        let mut taken: Vec<Share> = (0..CONNECTIONS_PER_CLIENT).map(|_| shares.take(Peer::User(1)).unwrap()).collect();
        assert!(shares.take(Peer::User(1)).is_none());
        assert!(shares.take(Peer::User(2)).is_some());
        taken.pop();
        assert!(shares.take(Peer::User(1)).is_some());
        drop(taken);
        assert!(shares.counts().is_empty());
    }

    #[test]
    fn a_host_has_one_share_whatever_addresses_it_takes() {
        let network = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(network("2001:db8::1"), network("2001:db8::ffff:2"));
        assert_ne!(network("2001:db8::1"), network("2001:db8:0:1::1"));
        assert_eq!(network("::ffff:192.0.2.1"), network("192.0.2.1"));
        assert_ne!(network("192.0.2.1"), network("192.0.2.2"));
    }
}
