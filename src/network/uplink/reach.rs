//! The way out: whether there is one, which addresses are the host itself, and connections to others.

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

/// Addresses that nobody has: they are for documentation (RFC 5737, RFC 3849).
const NOBODYS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];

/// Whether an address is the host's own, be it one of an interface or one that a route leads to the host. No packet
/// is sent.
#[must_use]
pub fn is_own(address: IpAddr) -> bool {
    if sender_to(address).is_ok_and(|sender| sender == address) {
        return true;
    }
    // The sender to a second address of a network is the first, and that to one of 127.0.0.0/8 is 127.0.0.1. A socket
    // can be bound to them, and to no other host's; to every address where net.ipv4.ip_nonlocal_bind is set (ip(7)),
    // which tells nothing then.
    match UdpSocket::bind((address, 0)) {
        Ok(_) => !NOBODYS
            .into_iter()
            .any(|other| other.is_ipv4() == address.is_ipv4() && UdpSocket::bind((other, 0)).is_ok()),
        Err(error) => {
            // What can't be told is taken for the host's.
            let is_told =
                error.kind() == io::ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(libc::EAFNOSUPPORT);
            !is_told
        }
    }
}

/// Whether there is a route to the IPv6 internet.
pub(super) fn has_ipv6() -> bool {
    // The first global unicast address, RFC 4291.
    sender_to(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 1).into()).is_ok()
}

/// The address of ours from which another is reached. Connecting a datagram socket only looks for a route; connect(2).
fn sender_to(address: IpAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0))?;
    // The port is of no meaning, but may not be 0.
    socket.connect((address, 9))?;
    Ok(socket.local_addr()?.ip())
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
        // The second is none from which the host would speak to it.
        for own in [[127, 0, 0, 1], [127, 5, 6, 7]] {
            assert!(is_own(own.into()), "{own:?}");
        }
        assert!(NOBODYS.into_iter().all(|other| !is_own(other)));
        assert!(sender_to(Ipv4Addr::BROADCAST.into()).is_err());
    }
}
