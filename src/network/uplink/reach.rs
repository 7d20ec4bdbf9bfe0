//! The way out: whether there is one to an address, and connections along it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// When silence is probed, and how many unanswered probes mean that the other side is gone; tcp(7). There is no
/// bound on how long data may wait (TCP_USER_TIMEOUT): it would end the connections of a session that is parked.
const PROBE_AFTER_S: u32 = 60;
const PROBE_EVERY_S: u32 = 15;
const PROBES: u32 = 4;

/// Whether and how an address is reached from the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It is the host itself.
    Own,
    /// There is a route.
    Out,
    /// There is none.
    None,
}

/// How an address is reached. No packet is sent.
pub(super) fn way_to(address: IpAddr) -> Way {
    match is_own(address) {
        Ok(false) => route_to(address),
        // What can't be told is taken for the host's.
        Ok(true) => Way::Own,
        Err(error) if error.raw_os_error() == Some(libc::EAFNOSUPPORT) => Way::None,
        Err(_) => Way::Own,
    }
}

/// Whether it is an address of the host's, any of all that a device has: a socket can be bound to these alone; bind(2),
/// EADDRNOTAVAIL. Where the host lets others be bound (ip_nonlocal_bind) all are taken for its own.
fn is_own(address: IpAddr) -> io::Result<bool> {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Ok(false),
        Err(error) => Err(error),
    }
}

/// Connecting a datagram socket only looks for a route, and for the address of ours that would be the sender's;
/// connect(2). That is the address itself where a route of the host's leads to it that is no address of a device.
fn route_to(address: IpAddr) -> Way {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let probe = || {
        let socket = UdpSocket::bind((any, 0))?;
        // The port is of no meaning, but may not be 0.
        socket.connect((address, 9))?;
        socket.local_addr()
    };
    match probe() {
        Ok(local) if local.ip() == address => Way::Own,
        Ok(_) => Way::Out,
        Err(_) => Way::None,
    }
}

/// Whether there is a route to the IPv6 internet.
pub(super) fn has_ipv6() -> bool {
    // The first global unicast address, RFC 4291.
    way_to(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into()) != Way::None
}

/// Connects from the host.
pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(CONNECT, TcpStream::connect(to)).await.map_err(|_| io::ErrorKind::TimedOut)??;
    look_after(&stream)?;
    Ok(stream)
}

/// Sends small pieces at once, and notices when the other side is gone.
pub(super) fn look_after(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    setsockopt(stream, sockopt::KeepAlive, &true)?;
    setsockopt(stream, sockopt::TcpKeepIdle, &PROBE_AFTER_S)?;
    setsockopt(stream, sockopt::TcpKeepInterval, &PROBE_EVERY_S)?;
    setsockopt(stream, sockopt::TcpKeepCount, &PROBES)?;
    Ok(())
}

/// Ends a connection by a reset rather than in peace; tcp(7), SO_LINGER with no time.
pub(super) fn reset(stream: TcpStream) {
    let at_once = libc::linger { l_onoff: 1, l_linger: 0 };
    // Where that fails the connection is gone already.
    setsockopt(&stream, sockopt::Linger, &at_once).unwrap_or_default();
    drop(stream);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_addresses_are_known() {
        assert_eq!(way_to(Ipv4Addr::LOCALHOST.into()), Way::Own);
        // None of a device's, but the host would take it: 127.0.0.0/8 is a route of its own.
        assert_eq!(way_to(Ipv4Addr::new(127, 1, 2, 3).into()), Way::Own);
        assert_eq!(way_to(Ipv4Addr::BROADCAST.into()), Way::Own);
        assert_ne!(way_to(Ipv4Addr::new(198, 51, 100, 1).into()), Way::Own);
    }
}
