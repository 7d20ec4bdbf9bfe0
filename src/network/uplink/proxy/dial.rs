//! From whom a request is for to a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};

use hickory_proto::rr::RecordType;
use tokio::net::TcpStream;

use super::target::{Target, TargetHost};
use crate::job::{DenialReason, Protocol};
use crate::network::uplink::denials::Flow;
use crate::network::uplink::reach;
use crate::network::uplink::resolver::{Found, look_up};
use crate::network::uplink::state::{Admission, State};
use crate::profile::Name;

/// Most addresses of a name that are tried.
const TRIED: usize = 3;

/// A connection, and why there may be one.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) stream: TcpStream,
    pub(super) to: SocketAddr,
    pub(super) by: Admission,
}

/// Why there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    Refused(DenialReason),
    NoSuchName,
    NoConnection,
    TimedOut,
}

/// Connects, if that is allowed; what is refused has been counted.
pub(super) async fn dial(state: &State, target: &Target) -> Result<Dialled, Failure> {
    let (places, name) = match &target.host {
        TargetHost::Address(address) => (vec![*address], None),
        TargetHost::Named(name) => (addresses(state, name, target).await?, Some(name)),
    };
    let mut failure = Failure::NoSuchName;
    for address in places.into_iter().take(TRIED) {
        let to = SocketAddr::new(address, target.port);
        let by = match (state.judge(to), name) {
            (Ok(_), Some(name)) => Admission::Named(name.clone()),
            (Ok(by), None) => by,
            (Err((_, reason)), _) => {
                count(state, name, Some(address), target, reason);
                return Err(Failure::Refused(reason));
            }
        };
        failure = match reach::connect(to).await {
            Ok(stream) => return Ok(Dialled { stream, to, by }),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Failure::TimedOut,
            Err(_) => Failure::NoConnection,
        };
        count(state, name, Some(address), target, DenialReason::Unreachable);
    }
    Err(failure)
}

async fn addresses(state: &State, name: &Name, target: &Target) -> Result<Vec<IpAddr>, Failure> {
    let ports = state.policy().ports_of(name);
    if !ports.contains(&target.port) {
        let reason = if ports.is_empty() { DenialReason::NotListed } else { DenialReason::Port };
        count(state, Some(name), None, target, reason);
        return Err(Failure::Refused(reason));
    }
    let mut all = Vec::new();
    let mut refused = None;
    for kind in [RecordType::A, RecordType::AAAA] {
        match look_up(state, name, kind, Protocol::Proxy).await {
            Ok(Found::Addresses(addresses, _)) => all.extend(addresses),
            Ok(Found::Nothing(_)) => {}
            Err(reason) => refused = refused.or(Some(reason)),
        }
    }
    match refused {
        Some(reason) if all.is_empty() => Err(Failure::Refused(reason)),
        _ => Ok(all),
    }
}

fn count(state: &State, name: Option<&Name>, address: Option<IpAddr>, target: &Target, reason: DenialReason) {
    let name = name.map(ToString::to_string);
    state.denials.count(Flow { name, address, port: Some(target.port), protocol: Protocol::Proxy }, reason);
}
