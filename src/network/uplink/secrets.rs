//! Secrets that programs use and never see.
//!
//! Where a program speaks TLS with a host that gets one, by that very name, the uplink ends the TLS of the
//! program, speaks its own with the host, and passes on HTTP/1.1 between the two with the secret in the place of
//! the placeholder. In every other case bytes are passed on as they are, and a placeholder stays what it is.

use std::cell::{OnceCell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::denials::Flow;
use super::metered::Metered;
use super::reach;
use super::state::State;
use crate::job::{DenialReason, Protocol};
use crate::network::secrets::{Granted, Secret};
use crate::profile::Name;

mod exchange;
pub(super) mod hello;
mod swap;

/// Longest that a handshake may take, on either side.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// The one protocol that is spoken on both sides; RFC 7301.
const HTTP_1_1: &[u8] = b"http/1.1";

/// What an uplink was granted, and what it has made of that.
pub(super) struct Secrets {
    granted: Granted,
    /// How hosts are spoken with.
    client: OnceCell<Arc<ClientConfig>>,
    /// As whom programs are spoken with.
    servers: RefCell<BTreeMap<Name, Arc<ServerConfig>>>,
}

impl Secrets {
    pub(super) fn new(granted: Granted) -> Self {
        Self { granted, client: OnceCell::new(), servers: RefCell::default() }
    }

    /// All of this host, whether or not they are in force.
    fn of(&self, name: &Name, port: u16) -> impl Iterator<Item = &Secret> {
        self.granted.secrets.iter().filter(move |one| one.domains.contains(name) && one.ports.contains(&port))
    }

    fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        if let Some(known) = self.client.get() {
            return Ok(Arc::clone(known));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(CertificateDer::pem_slice_iter(&self.granted.trusted).filter_map(Result::ok));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::clone(self.client.get_or_init(|| Arc::new(config))))
    }

    fn server(&self, name: &Name) -> io::Result<Arc<ServerConfig>> {
        if let Some(known) = self.servers.borrow().get(name) {
            return Ok(Arc::clone(known));
        }
        let leaf = self.granted.authority.sign(name).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(leaf.key.to_vec()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(vec![leaf.certificate], key))
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![HTTP_1_1.to_vec()];
        // Nothing is remembered of a connection that is over.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        let config = Arc::new(config);
        self.servers.borrow_mut().insert(name.clone(), Arc::clone(&config));
        Ok(config)
    }
}

impl State {
    /// The hosts that get a secret, of those that a connection to this address may be meant for: the one that was
    /// asked for by name, or all that have the address.
    pub(super) fn hosts_with_secrets(&self, to: SocketAddr, asked: Option<&Name>) -> BTreeSet<Name> {
        let Some(secrets) = &self.secrets else { return BTreeSet::new() };
        let gets = |name: &Name| {
            secrets.of(name, to.port()).any(|one| self.is_in_force(one))
                && self.policy().ports_of(name).contains(&to.port())
        };
        match asked {
            Some(name) => Some(name).into_iter().filter(|name| gets(name)).cloned().collect(),
            None => self.names_of(to.ip()).into_iter().filter(gets).collect(),
        }
    }

    /// Whether the policy, as it stands, has this secret.
    fn is_in_force(&self, secret: &Secret) -> bool {
        self.policy().secrets.contains_key(&secret.variable)
    }
}

/// A connection to a host that gets a secret, whose first bytes have named it.
#[derive(Debug)]
pub(super) struct Named {
    pub(super) inside: TcpStream,
    pub(super) outside: TcpStream,
    /// What the program has said so far.
    pub(super) hello: Vec<u8>,
    pub(super) name: Name,
    pub(super) to: SocketAddr,
    pub(super) protocol: Protocol,
}

/// Speaks with both sides until one is done.
pub(super) async fn serve(state: &Rc<State>, secrets: &Secrets, named: Named) {
    let Named { inside, outside, hello, name, to, protocol } = named;
    let flow = Flow { name: Some(name.to_string()), address: Some(to.ip()), port: Some(to.port()), protocol };
    let outside = Metered::new(outside, flow.clone(), Rc::clone(state));
    // The host first: a program that was let in has nobody to tell it why this fails.
    let outside = match connect(secrets, &name, outside).await {
        Ok(outside) => outside,
        Err(reason) => {
            state.denials.count(flow, reason);
            return reach::reset(inside);
        }
    };
    let Ok(config) = secrets.server(&name) else {
        return reach::reset(inside);
    };
    let (reader, writer) = tokio::io::split(inside);
    let inside = tokio::io::join(tokio::io::AsyncReadExt::chain(io::Cursor::new(hello), reader), writer);
    // A program that does not trust the authority, or speaks no HTTP/1.1, says so itself.
    if let Ok(Ok(inside)) = timeout(HANDSHAKE, TlsAcceptor::from(config).accept(inside)).await {
        exchange::exchange(state, secrets, &exchange::Host { name, port: to.port(), flow }, inside, outside).await;
    }
}

async fn connect(
    secrets: &Secrets,
    name: &Name,
    outside: Metered,
) -> Result<tokio_rustls::client::TlsStream<Metered>, DenialReason> {
    let unreachable = |_| DenialReason::Unreachable;
    let config = secrets.client().map_err(unreachable)?;
    let server = ServerName::try_from(name.to_string()).map_err(|_| DenialReason::Certificate)?;
    let connecting = TlsConnector::from(config).connect(server, outside);
    let connected = timeout(HANDSHAKE, connecting).await.map_err(|_| DenialReason::Unreachable)?;
    connected.map_err(|error| {
        let said = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match said {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::NoCertificatesPresented) => {
                DenialReason::Certificate
            }
            _ => DenialReason::Unreachable,
        }
    })
}
