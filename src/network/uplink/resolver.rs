//! Names to addresses: of listed names only, and only to addresses that may be reached.
//!
//! An address is let through by the rules before the answer that names it goes out. Aliases are followed here and
//! never shown: the name that was asked for decides.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{self, RecordType};
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use crate::job::{DenialReason, Protocol};
use crate::profile::Name;

use super::denials::Flow;
use super::reach;
use super::state::State;

mod answer;
mod listen;

/// Most lookups that wait for a name server at one time.
const LOOKUPS: usize = 64;
/// How long name servers have, all attempts together; the C library of programs asks again after 5 s.
const PATIENCE: Duration = Duration::from_millis(4500);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(2);
/// How long an answer is good at least: an address that expires at once could not be connected to.
const SHORTEST: Duration = Duration::from_secs(30);
/// And at most.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long it is remembered that there is nothing.
const NOTHING: Duration = Duration::from_secs(60);
/// Most answers that are remembered.
const REMEMBERED: u64 = 256;
/// Most addresses of one answer; the rest are left out.
const ADDRESSES: usize = 64;

/// The name servers.
pub(super) struct Upstream {
    resolver: TokioResolver,
    lookups: Semaphore,
}

/// What a listed name has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Found {
    /// These addresses, for so many seconds.
    Addresses(Vec<IpAddr>, u32),
    /// None of this type: NXDOMAIN, or NOERROR where it has others.
    Nothing(ResponseCode),
}

impl Upstream {
    /// Asks these servers, over UDP and, where an answer is cut, TCP; nothing of the host's configuration counts.
    pub(super) fn new(servers: &[SocketAddr]) -> Result<Self, String> {
        let servers = servers.iter().map(|server| {
            let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
            NameServerConfig::new(server.ip(), true, connections.into())
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options();
        let resolver = builder.build().map_err(|error| error.to_string())?;
        Ok(Self { resolver, lookups: Semaphore::new(LOOKUPS) })
    }

    async fn ask(&self, name: &Name, kind: RecordType) -> Result<Found, DenialReason> {
        let _one = self.lookups.try_acquire().map_err(|_| DenialReason::Bound)?;
        // With the dot at its end, so that no search list is ever tried.
        let asked = rr::Name::from_ascii(format!("{name}.")).map_err(|_| DenialReason::NotListed)?;
        let answer = timeout(PATIENCE, self.resolver.lookup(asked, kind)).await;
        let lookup = match answer.map_err(|_| DenialReason::Unreachable)? {
            Ok(lookup) => lookup,
            Err(NetError::Dns(DnsError::NoRecordsFound(none))) => {
                return match none.response_code {
                    code @ (ResponseCode::NXDomain | ResponseCode::NoError) => Ok(Found::Nothing(code)),
                    _ => Err(DenialReason::Unreachable),
                };
            }
            Err(_) => return Err(DenialReason::Unreachable),
        };
        let records = lookup.answers().iter().filter(|record| record.record_type() == kind);
        let lifetime = records.clone().map(|record| record.ttl).min().unwrap_or(0);
        let lifetime = Duration::from_secs(lifetime.into()).clamp(SHORTEST, LONGEST).as_secs();
        let mut addresses = Vec::new();
        for address in records.filter_map(|record| record.data.ip_addr()) {
            if addresses.len() < ADDRESSES && !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        match addresses[..] {
            [] => Ok(Found::Nothing(ResponseCode::NoError)),
            _ => Ok(Found::Addresses(addresses, u32::try_from(lifetime).unwrap_or(u32::MAX))),
        }
    }
}

fn options() -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = ATTEMPT;
    options.attempts = 1;
    options.edns0 = true;
    options.cache_size = REMEMBERED;
    options.use_hosts_file = ResolveHosts::Never;
    options.positive_min_ttl = Some(SHORTEST);
    options.positive_max_ttl = Some(LONGEST);
    options.negative_max_ttl = Some(NOTHING);
    options.preserve_intermediates = false;
    options.max_active_requests = LOOKUPS;
    options
}

/// Serves on these sockets.
pub(super) fn serve(state: &Rc<State>, udp: Vec<OwnedFd>, tcp: Vec<OwnedFd>) -> io::Result<()> {
    for socket in udp {
        let socket = std::net::UdpSocket::from(socket);
        socket.set_nonblocking(true)?;
        let socket = tokio::net::UdpSocket::from_std(socket)?;
        tokio::task::spawn_local(listen::packets(Rc::clone(state), Rc::new(socket)));
    }
    for listener in tcp {
        let listener = super::relay::listener(listener)?;
        tokio::task::spawn_local(listen::connections(Rc::clone(state), listener));
    }
    Ok(())
}

/// What a name that a program asked for has, as far as that may be told; whatever it is told may be connected to.
/// A refusal has been counted.
pub(super) async fn look_up(
    state: &State,
    name: &Name,
    kind: RecordType,
    protocol: Protocol,
) -> Result<Found, DenialReason> {
    let found = judged(state, name, kind, protocol).await;
    if let Err(reason) = found
        // Each address has been counted.
        && reason != DenialReason::Private
    {
        count(state, name.to_string(), None, protocol, reason);
    }
    found
}

async fn judged(state: &State, name: &Name, kind: RecordType, protocol: Protocol) -> Result<Found, DenialReason> {
    let is_listed = !state.policy().ports_of(name).is_empty();
    if !is_listed {
        return Err(DenialReason::NotListed);
    }
    // Programs would try an address that can't be reached first, and some never another.
    if kind == RecordType::AAAA && !reach::has_ipv6() {
        return Ok(Found::Nothing(ResponseCode::NoError));
    }
    let (mut addresses, seconds) = match state.upstream.ask(name, kind).await? {
        Found::Addresses(addresses, seconds) => (addresses, seconds),
        nothing @ Found::Nothing(_) => return Ok(nothing),
    };
    // The policy may have been replaced meanwhile; what is learned must be listed by that which stands.
    let is_listed = !state.policy().ports_of(name).is_empty();
    if !is_listed {
        return Err(DenialReason::NotListed);
    }
    addresses.retain(|address| {
        let may = state.may_have(*address);
        if !may {
            count(state, name.to_string(), Some(*address), protocol, DenialReason::Private);
        }
        may
    });
    if addresses.is_empty() {
        return Err(DenialReason::Private);
    }
    for address in &addresses {
        state.learn(name, *address, Duration::from_secs(seconds.into()))?;
    }
    Ok(Found::Addresses(addresses, seconds))
}

fn count(state: &State, name: String, address: Option<IpAddr>, protocol: Protocol, reason: DenialReason) {
    state.denials.count(Flow { name: Some(name), address, port: None, protocol }, reason);
}
