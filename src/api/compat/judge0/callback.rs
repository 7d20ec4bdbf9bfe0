//! Tells the end of a submission to an address that it names: a PUT, some tries, and no way into the host's own
//! networks.
//!
//! The address is looked up here, every result is checked, and the connection is made to what was checked: a name
//! that leads elsewhere a moment later leads nowhere. Nothing that is answered is followed or kept.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::sync::Arc;
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
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;
use tracing::{debug, info};

use crate::config::Config;
use crate::profile::AllowList;

/// Longest address.
const URL_BYTES: usize = 2048;
/// Most that are under way at one time; the next wait.
const AT_ONCE: usize = 16;
/// Of these, that look for an address: the C library does that on a thread each, of which there are few.
const LOOK_UPS: usize = 2;

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
    places: Semaphore,
    look_ups: Arc<Semaphore>,
}

/// Why a try came to nothing.
#[derive(Debug, thiserror::Error)]
enum Failed {
    #[error("it leads to {0}, which is no public address")]
    Private(IpAddr),
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

impl Callbacks {
    pub(super) fn new() -> Self {
        Self { places: Semaphore::new(AT_ONCE), look_ups: Arc::new(Semaphore::new(LOOK_UPS)) }
    }

    /// Tells it, as often as is configured, until somebody answers, whatever that is.
    pub(super) async fn tell(&self, token: &str, url: &str, body: Vec<u8>, config: &Config) {
        let settings = &config.judge0;
        let (Some(target), true) = (Target::parse(url), settings.enable_callbacks) else { return };
        // The error is that the semaphore is closed, which it never is.
        let Ok(_place) = self.places.acquire().await else { return };
        let (body, allowed) = (Bytes::from(body), Duration::from_secs_f64(settings.callbacks_timeout));
        for attempt in 1..=settings.callbacks_max_tries {
            let tried =
                self.attempt(&target, body.clone(), settings.callbacks_allow_private, config.network.certificates());
            match tokio::time::timeout(allowed, tried).await.unwrap_or(Err(Failed::Late)) {
                Ok(status) => return debug!(token, attempt, status, "the end of a submission was told"),
                Err(error) => info!(token, attempt, "the end of a submission could not be told: {error}"),
            }
        }
    }

    async fn attempt(&self, target: &Target, body: Bytes, allow_private: bool, trusted: &Path) -> Result<u16, Failed> {
        let addresses = self.look_up(target).await?;
        // One that is not public among them is enough: nobody publishes such a name by mistake.
        if let Some(address) =
            addresses.iter().map(SocketAddr::ip).find(|address| !allow_private && !is_public(*address))
        {
            return Err(Failed::Private(address));
        }
        let stream = TcpStream::connect(&*addresses).await?;
        if target.is_secure {
            let name = ServerName::try_from(target.host.clone()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(client(trusted).await?).connect(name, stream).await?;
            put(target, stream, body).await
        } else {
            put(target, stream, body).await
        }
    }

    async fn look_up(&self, target: &Target) -> Result<Vec<SocketAddr>, Failed> {
        if let Some(address) = target.address() {
            return Ok(vec![(address, target.port).into()]);
        }
        let place = Arc::clone(&self.look_ups).acquire_owned().await.map_err(io::Error::other)?;
        let (host, port) = (target.host.clone(), target.port);
        // The place is taken until the library is done, also where nobody waits for it any more.
        let found = tokio::task::spawn_blocking(move || {
            let found = (host.as_str(), port).to_socket_addrs().map(Iterator::collect);
            drop(place);
            found
        });
        Ok(found.await.map_err(io::Error::other)??)
    }
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
