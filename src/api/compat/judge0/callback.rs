//! Tells the end of a submission to an address that it names: a PUT, some tries, and no way into the host's own
//! networks.
//!
//! The address is looked up here, every result is checked, and the connection is made to what was checked: a name
//! that leads elsewhere a moment later leads nowhere. Nothing that is answered is followed or kept. One client has a
//! few of the places at most, and whoever waits for one loses no time of a try.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsConnector;
use tracing::{debug, info};

use crate::config::Config;
use crate::profile::AllowList;

/// Longest address.
const URL_BYTES: usize = 2048;
/// Most that are under way at one time; the next wait.
const AT_ONCE: usize = 16;
/// Of these, those of one client: whom it names may be silent for as long as a try may take.
const OF_ONE: usize = 4;
/// Of these, that look for an address: the C library does that on a thread each, of which there are few.
const LOOK_UPS: usize = 2;
/// Of these, those of one client: an answer that is long in coming keeps no other client waiting.
const LOOK_UPS_OF_ONE: usize = 1;

/// Where a callback goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

/// What makes callbacks, within its bounds.
#[derive(Debug)]
pub(super) struct Callbacks {
    all: Arc<Bounds>,
    /// By client, as long as one of its callbacks is under way or waits.
    of_clients: Mutex<HashMap<String, Weak<Bounds>>>,
    /// Whether an address is one of this host.
    is_own: fn(IpAddr) -> bool,
}

/// How many may be under way.
#[derive(Debug)]
struct Bounds {
    places: Arc<Semaphore>,
    look_ups: Arc<Semaphore>,
}

/// Leave to make a callback of a client.
#[derive(Debug)]
pub(super) struct Turn {
    own: Arc<Bounds>,
    _places: [OwnedSemaphorePermit; 2],
}

/// Leave to look for an address. It holds the client's bounds, so that they are the same for the next callback.
#[derive(Debug)]
struct LookUp {
    _own: Arc<Bounds>,
    _places: [OwnedSemaphorePermit; 2],
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it leads to {0}, which is no public address")]
    Private(IpAddr),
    #[error("it leads to {0}, which is an address of this host")]
    Own(IpAddr),
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{0}")]
    Http(#[from] hyper::Error),
    #[error("it took too long")]
    Late,
}

impl Target {
    /// The target that an address names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let uri: Uri = text.trim().parse().ok().filter(|_| text.len() <= URL_BYTES)?;
        let is_secure = match uri.scheme_str()? {
            "http" => false,
            "https" => true,
            _ => return None,
        };
        // Names and passwords before the host have no place in a log, and hide which host it is.
        if uri.authority()?.as_str().contains('@') {
            return None;
        }
        // One that is no port counts as absent to the library.
        let port = match uri.authority()?.as_str().strip_prefix(uri.host()?)? {
            "" if is_secure => 443,
            "" => 80,
            port => port.strip_prefix(':')?.parse().ok()?,
        };
        let host = uri.host()?.trim_start_matches('[').trim_end_matches(']').to_owned();
        (!host.is_empty() && port != 0).then_some(Self { host, port, is_secure, uri })
    }

    /// Its address, where it is written as one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// Whether an address is one of the internet.
pub(super) fn is_public(address: IpAddr) -> bool {
    !AllowList::default().is_refused(address)
}

impl Bounds {
    fn new(places: usize, look_ups: usize) -> Arc<Self> {
        let [places, look_ups] = [places, look_ups].map(|most| Arc::new(Semaphore::new(most)));
        Arc::new(Self { places, look_ups })
    }
}

impl Callbacks {
    pub(super) fn new(is_own: fn(IpAddr) -> bool) -> Self {
        Self { all: Bounds::new(AT_ONCE, LOOK_UPS), of_clients: Mutex::default(), is_own }
    }

    /// Waits until a client may make one more.
    pub(super) async fn turn(&self, client: &str) -> Turn {
        let own = self.of_client(client);
        // The client's first: who waits for that keeps no place from others.
        let places = [take(&own.places).await, take(&self.all.places).await];
        Turn { own, _places: places }
    }

    /// Tells it, as often as is configured, until somebody answers, whatever that is.
    pub(super) async fn tell(&self, turn: &Turn, token: &str, target: &Target, body: Vec<u8>, config: &Config) {
        let settings = &config.judge0;
        let (body, allowed) = (Bytes::from(body), Duration::from_secs_f64(settings.callbacks_timeout));
        for attempt in 1..=settings.callbacks_max_tries {
            // Before the time of a try begins, which is for those who are called.
            let look_up = self.look_up(turn, target).await;
            let tried = self.attempt(look_up, target, body.clone(), config);
            match tokio::time::timeout(allowed, tried).await.unwrap_or(Err(Failed::Late)) {
                Ok(status) => return debug!(token, attempt, status, "the end of a submission was told"),
                Err(error) => info!(token, attempt, "the end of a submission could not be told: {error}"),
            }
        }
    }

    fn of_client(&self, client: &str) -> Arc<Bounds> {
        // Nothing under this lock can panic half-way.
        let mut of_clients = self.of_clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = of_clients.get(client).and_then(Weak::upgrade) {
            return own;
        }
        of_clients.retain(|_, own| own.strong_count() > 0);
        let own = Bounds::new(OF_ONE, LOOK_UPS_OF_ONE);
        of_clients.insert(client.to_owned(), Arc::downgrade(&own));
        own
    }

    /// Waits until its address may be looked up; absent where there is nothing to look for.
    async fn look_up(&self, turn: &Turn, target: &Target) -> Option<LookUp> {
        if target.address().is_some() {
            return None;
        }
        let places = [take(&turn.own.look_ups).await, take(&self.all.look_ups).await];
        Some(LookUp { _own: Arc::clone(&turn.own), _places: places })
    }

    async fn attempt(
        &self,
        look_up: Option<LookUp>,
        target: &Target,
        body: Bytes,
        config: &Config,
    ) -> Result<u16, Failed> {
        let addresses = addresses(look_up, target).await?;
        if !config.judge0.callbacks_allow_private {
            self.check(&addresses)?;
        }
        let stream = TcpStream::connect(&*addresses).await?;
        if target.is_secure {
            let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
            let trusted = config.network.certificates();
            let stream = TlsConnector::from(client(trusted).await?).connect(name, stream).await?;
            put(target, stream, body).await
        } else {
            put(target, stream, body).await
        }
    }

    /// Whether all of these may be called. One that may not is enough: nobody publishes such a name by mistake.
    fn check(&self, addresses: &[SocketAddr]) -> Result<(), Failed> {
        for address in addresses.iter().map(SocketAddr::ip) {
            if !is_public(address) {
                return Err(Failed::Private(address));
            }
            if (self.is_own)(address) {
                return Err(Failed::Own(address));
            }
        }
        Ok(())
    }
}

async fn take(semaphore: &Arc<Semaphore>) -> OwnedSemaphorePermit {
    Arc::clone(semaphore).acquire_owned().await.expect("no semaphore of callbacks is ever closed")
}

async fn addresses(look_up: Option<LookUp>, target: &Target) -> Result<Vec<SocketAddr>, Failed> {
    if let Some(address) = target.address() {
        return Ok(vec![(address, target.port).into()]);
    }
    let (host, port) = (target.host.clone(), target.port);
    // The place is taken until the library is done, also where nobody waits for it any more.
    let found = tokio::task::spawn_blocking(move || {
        let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
        drop(look_up);
        found
    });
    Ok(found.await.map_err(io::Error::other)??)
}

async fn put<S>(target: &Target, stream: S, body: Bytes) -> Result<u16, Failed>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = target.uri.authority().map_or("", |authority| authority.as_str());
    let request = Request::builder()
        .method(Method::PUT)
        .uri(path)
        .header(HOST, authority)
        .header(CONTENT_TYPE, "application/json")
        .header("user-agent", concat!("codeSandbox/", env!("CARGO_PKG_VERSION")))
        .body(Full::new(body))
        .map_err(io::Error::other)?;
    let mut answered = std::pin::pin!(sender.send_request(request));
    // Nothing but the status is read, and the connection ends with the answer's head.
    tokio::select! {
        biased;
        answer = &mut answered => Ok(answer?.status().as_u16()),
        // It may have ended with the answer.
        ended = connection => match ended {
            Ok(()) => Ok(answered.await?.status().as_u16()),
            Err(error) => Err(error.into()),
        },
    }
}

async fn client(trusted: &Path) -> Result<Arc<ClientConfig>, Failed> {
    let pem = tokio::fs::read(trusted).await?;
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&pem).filter_map(Result::ok));
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn addresses_are_of_http_and_of_a_host() {
        let target = Target::parse("https://example.org/a?b=c").unwrap();
        assert_eq!((&*target.host, target.port, target.is_secure), ("example.org", 443, true));
        let target = Target::parse("http://[2606:4700::1]:8080").unwrap();
        assert_eq!((target.address().map(is_public), target.port), (Some(true), 8080));
        for text in [
            "",
            "/a",
            "example.org",
            "ftp://example.org",
            "file:///etc/passwd",
            "http://",
            "http://a@example.org",
            "http://example.org:0",
            "http://example.org:99999",
            "http://exa mple.org",
            "unix:/run/codesandbox/api.sock",
        ] {
            assert_eq!(Target::parse(text), None, "{text:?}");
        }
        assert_eq!(Target::parse(&format!("http://example.org/{}", "a".repeat(URL_BYTES))), None);
    }

    /// Callbacks that may go to servers of a test, one try of which may take as long.
    fn config(seconds: f64) -> Config {
        let judge0 = serde_json::json!({
            "enable_callbacks": true,
            "callbacks_allow_private": true,
            "callbacks_max_tries": 1,
            "callbacks_timeout": seconds,
        });
        Config::parse(&serde_json::json!({ "judge0": judge0 }).to_string()).unwrap()
    }

    /// Tells the end of a submission of this client's.
    async fn told(callbacks: &Callbacks, client: &str, url: &str, config: &Config) {
        let turn = callbacks.turn(client).await;
        callbacks.tell(&turn, "token", &Target::parse(url).unwrap(), Vec::new(), config).await;
    }

    async fn server() -> (tokio::net::TcpListener, u16) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    /// Answers one request.
    async fn answer(listener: &tokio::net::TcpListener) {
        let (mut stream, _) = listener.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        // To its end, so that what was not read does not become a reset.
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await.ok();
    }

    #[tokio::test]
    async fn a_client_whose_callbacks_hang_keeps_no_other_waiting() {
        let (callbacks, config) = (Arc::new(Callbacks::new(|_| false)), Arc::new(config(60.0)));
        let ((silent, silent_port), (lively, lively_port)) = (server().await, server().await);
        let mut hanging = tokio::task::JoinSet::new();
        for _ in 0..2 * AT_ONCE {
            let (callbacks, config) = (Arc::clone(&callbacks), Arc::clone(&config));
            let url = format!("http://127.0.0.1:{silent_port}/");
            hanging.spawn(async move { told(&callbacks, "one", &url, &config).await });
        }
        let mut open = Vec::new();
        for _ in 0..OF_ONE {
            open.push(silent.accept().await.unwrap());
        }
        let url = format!("http://127.0.0.1:{lively_port}/");
        let both = async { tokio::join!(told(&callbacks, "other", &url, &config), answer(&lively)) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("another client had to wait");
        let more = tokio::time::timeout(Duration::from_millis(100), silent.accept()).await;
        assert!(more.is_err(), "one client has more than its places");
        // The next has its turn as soon as one is over.
        drop(open.pop());
        tokio::time::timeout(Duration::from_secs(20), silent.accept()).await.unwrap().unwrap();
        hanging.shutdown().await;
        drop(callbacks.turn("third").await);
        assert_eq!(
            callbacks.of_clients.lock().unwrap().len(),
            1,
            "what is known of a client goes with its last callback"
        );
    }

    #[tokio::test]
    async fn who_waits_to_look_for_an_address_loses_no_time() {
        let (callbacks, config) = (Arc::new(Callbacks::new(|_| false)), config(2.0));
        let (lively, port) = server().await;
        let (other, target) = (callbacks.turn("one").await, Target::parse("http://localhost/").unwrap());
        // The client's own that is under way; those of others go on beside it.
        let held = callbacks.look_up(&other, &target).await;
        drop(callbacks.look_up(&callbacks.turn("other").await, &target).await);
        let url = format!("http://localhost:{port}/");
        let mut waiting = std::pin::pin!(told(&callbacks, "one", &url, &config));
        assert!(tokio::time::timeout(Duration::from_millis(2500), &mut waiting).await.is_err(), "it did not wait");
        drop(held);
        let both = async { tokio::join!(waiting, answer(&lively)) };
        tokio::time::timeout(Duration::from_secs(20), both).await.expect("its try was over before it began");
    }

    #[test]
    fn addresses_of_this_host_are_refused_as_private_ones_are() {
        let own: IpAddr = "1.2.3.4".parse().unwrap();
        let callbacks = Callbacks::new(|address| address == IpAddr::from([1, 2, 3, 4]));
        let check = |addresses: &[&str]| {
            let addresses: Vec<SocketAddr> =
                addresses.iter().map(|address| (address.parse::<IpAddr>().unwrap(), 80).into()).collect();
            callbacks.check(&addresses)
        };
        assert!(matches!(check(&["1.1.1.1", "1.2.3.4"]), Err(Failed::Own(address)) if address == own));
        assert!(matches!(check(&["1.1.1.1", "10.0.0.1"]), Err(Failed::Private(_))));
        assert!(check(&["1.1.1.1", "2606:4700:4700::1111"]).is_ok());
    }

    #[test]
    fn private_addresses_are_known_in_each_form() {
        for text in [
            "127.0.0.1",
            "10.1.2.3",
            "169.254.169.254",
            "192.168.0.1",
            "100.64.0.1",
            "0.0.0.0",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "[64:ff9b::7f00:1]",
            "[fd00:ec2::254]",
            "[fe80::1]",
        ] {
            let target = Target::parse(&format!("http://{text}/")).unwrap();
            assert_eq!(target.address().map(is_public), Some(false), "{text}");
        }
        assert!(is_public("1.1.1.1".parse().unwrap()) && is_public("2606:4700:4700::1111".parse().unwrap()));
    }
}
