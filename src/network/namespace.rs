//! A network namespace made ready for an uplink: its one device, its rules, and the sockets inside.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressScope};
use netlink_packet_route::link::{LinkFlags, LinkMessage};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily as Family, RouteNetlinkMessage};
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use crate::profile::AllowList;
use crate::sys::{self, Call};

use super::diag;
use super::firewall::{Firewall, FirewallError};
use super::log::LogSocket;
use super::netlink::{ERROR, messages};
use super::{PROXY_PORT, RELAY_PORT, RESOLVER_PORT, Sockets};

/// Address of a sandbox: one for documentation, which is nobody's. That it is not of loopback makes
/// getaddrinfo(3) ask for addresses of its family at all (AI_ADDRCONFIG).
pub const OWN_IPV4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// As [`OWN_IPV4`].
pub const OWN_IPV6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2);

/// The loopback device is the first of every namespace.
const LOOPBACK: u32 = 1;
/// The main table of routes.
const MAIN: u8 = 254;
/// Most connections that wait to be accepted.
const WAITING: i32 = 1024;
/// Bytes of queries that wait.
const QUERIES: usize = 208 << 10;

/// Why a namespace could not be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// Its device, addresses or routes.
    #[error("setting up the loopback device: {0}")]
    Interface(sys::Errno),
    /// Its rules.
    #[error(transparent)]
    Rules(#[from] FirewallError),
    /// The socket that rules log to.
    #[error("binding the log of refused packets: {0}")]
    Log(sys::Errno),
    /// The socket that ends connections.
    #[error("making a socket that ends connections: {0}")]
    Diag(sys::Errno),
    /// A socket that programs talk to.
    #[error("listening on {0}: {1}")]
    Listen(SocketAddr, sys::Errno),
}

/// Makes the current network namespace, a new one, that of a sandbox with this policy. Where the kernel has no
/// IPv6, or it is turned off, there is only IPv4.
///
/// That the rules are those of the policy is not looked at here, where everybody waits, but by the uplink before it
/// says that it serves: until then no program may run.
///
/// # Errors
/// The first step that failed. Nothing in the namespace may run then.
pub fn prepare(policy: &AllowList) -> Result<Sockets, PrepareError> {
    // Rules first: there is no moment at which something is up that they do not hold.
    let mut firewall = Firewall::open()?;
    firewall.make(policy)?;
    let log = LogSocket::open().map_err(PrepareError::Log)?;
    let diag = diag::open().map_err(PrepareError::Diag)?;
    let mut loopbacks = vec![IpAddr::from(Ipv4Addr::LOCALHOST)];
    if set_up().map_err(PrepareError::Interface)? {
        loopbacks.push(Ipv6Addr::LOCALHOST.into());
    }
    let all = |kind, port| -> Result<Vec<OwnedFd>, PrepareError> {
        let places = loopbacks.iter().map(|address| SocketAddr::new(*address, port));
        places.map(|place| opened(kind, place).map_err(|error| PrepareError::Listen(place, error))).collect()
    };
    Ok(Sockets {
        resolver_udp: all(SockType::Datagram, RESOLVER_PORT)?,
        resolver_tcp: all(SockType::Stream, RESOLVER_PORT)?,
        relay: all(SockType::Stream, RELAY_PORT)?,
        proxy: all(SockType::Stream, PROXY_PORT)?,
        rules: firewall.into_socket(),
        log,
        diag,
    })
}

fn opened(kind: SockType, place: SocketAddr) -> sys::Result<OwnedFd> {
    let family = if place.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None).call("socket")?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(place)).call("bind")?;
    if kind == SockType::Stream {
        listen(&socket, Backlog::new(WAITING).call("listen")?).call("listen")?;
    } else {
        setsockopt(&socket, sockopt::RcvBuf, &QUERIES).call("setsockopt")?;
    }
    Ok(socket)
}

/// Brings the device up with an address and a default route of each family, and tells whether there is IPv6.
fn set_up() -> sys::Result<bool> {
    let requests = [
        RouteNetlinkMessage::SetLink(up()),
        RouteNetlinkMessage::NewAddress(address(OWN_IPV4.into())),
        RouteNetlinkMessage::NewRoute(default_route(OWN_IPV4.into())),
        RouteNetlinkMessage::NewAddress(address(OWN_IPV6.into())),
        RouteNetlinkMessage::NewRoute(default_route(OWN_IPV6.into())),
    ];
    let answers = asked(requests)?;
    let needed = |number: usize| match answers[number] {
        Errno::UnknownErrno => Ok(()),
        errno => Err(sys::Errno { call: "netlink", errno }),
    };
    for number in 0..3 {
        needed(number)?;
    }
    // Not in the kernel, turned off at its start, or turned off for this namespace.
    if matches!(answers[3], Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT | Errno::EACCES) {
        return Ok(false);
    }
    needed(3)?;
    needed(4)?;
    Ok(true)
}

fn up() -> LinkMessage {
    let mut link = LinkMessage::default();
    link.header.index = LOOPBACK;
    link.header.flags = LinkFlags::Up;
    link.header.change_mask = LinkFlags::Up;
    link
}

fn address(own: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    (message.header.family, message.header.prefix_len) = family_of(own);
    message.header.index = LOOPBACK;
    message.header.scope = AddressScope::Universe;
    // The kernel adds the address's own route of IPv6 some time later. Until then the default one leads to it, were
    // it not for a route to its prefix, over loopback, which refuses: answers would be lost.
    let flags = AddressFlags::Nodad | AddressFlags::Noprefixroute;
    message.attributes =
        vec![AddressAttribute::Local(own), AddressAttribute::Address(own), AddressAttribute::Flags(flags)];
    message
}

/// Everywhere is behind the device, so that connecting begins; rules decide what becomes of it.
fn default_route(own: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    // The kernel takes an ordinary IPv6 route over loopback for one that refuses.
    let (kind, scope) = match own {
        IpAddr::V4(_) => (RouteType::Unicast, RouteScope::Link),
        IpAddr::V6(_) => (RouteType::Local, RouteScope::Universe),
    };
    message.header = RouteHeader {
        address_family: family_of(own).0,
        table: MAIN,
        protocol: RouteProtocol::Boot,
        scope,
        kind,
        ..RouteHeader::default()
    };
    let source = match own {
        IpAddr::V4(own) => RouteAddress::Inet(own),
        IpAddr::V6(own) => RouteAddress::Inet6(own),
    };
    message.attributes = vec![RouteAttribute::Oif(LOOPBACK), RouteAttribute::PrefSource(source)];
    message
}

fn family_of(address: IpAddr) -> (Family, u8) {
    match address {
        IpAddr::V4(_) => (Family::Inet, 32),
        IpAddr::V6(_) => (Family::Inet6, 128),
    }
}

/// Sends requests as one datagram; rtnetlink(7). What became of each, in order: an errno, 0 for none.
fn asked<const COUNT: usize>(requests: [RouteNetlinkMessage; COUNT]) -> sys::Result<[Errno; COUNT]> {
    let mut datagram = Vec::new();
    for (sequence, request) in (0..).zip(requests) {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        message.header.sequence_number = sequence;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        datagram.extend(bytes);
    }
    let socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).call("socket")?;
    socket.send_to(&datagram, &netlink_sys::SocketAddr::new(0, 0), 0).call("sendto")?;
    let mut results = [Errno::EBADMSG; COUNT];
    let mut answers = 0;
    while answers < COUNT {
        let (bytes, _) = socket.recv_from_full().call("recvfrom")?;
        for answer in messages(&bytes).filter(|answer| answer.kind == ERROR) {
            answers += 1;
            if let (Some(errno), Ok(number)) = (answer.errno(), usize::try_from(answer.sequence))
                && let Some(result) = results.get_mut(number)
            {
                *result = Errno::from_raw(errno);
            }
        }
    }
    Ok(results)
}
