//! What the rules log: each packet that they refuse, through netlink, to one socket.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

use crate::job::{DenialReason, DeniedFlow, Protocol};
use crate::sys::{self, Call};

use super::netlink::{ACK, ERROR, Message, messages, text};
use super::rules::{LOG_GROUP, PORT, PRIVATE};

/// Bytes of a packet that are logged: its addresses and ports, behind some headers between them.
const COPIED: u32 = 128;
/// Bytes of messages that wait in the socket.
const WAITING: usize = 208 << 10;
/// Most headers that are skipped in search of a port.
const HEADERS: usize = 8;

/// The subsystem of netfilter, and its messages; linux/netfilter/nfnetlink_log.h.
const CONFIGURE: u16 = 4 << 8 | 1;
const PACKET: u16 = 4 << 8;

/// A packet that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// What it tried, and why it may not.
    pub flow: DeniedFlow,
    /// Where the connection comes from, and where it is to go, whose first packet of TCP it is.
    pub connection: Option<(SocketAddr, SocketAddr)>,
}

/// Reads what the rules of a namespace log.
#[derive(Debug)]
pub struct LogSocket {
    socket: OwnedFd,
    lost: u64,
    buffer: Vec<u8>,
}

impl LogSocket {
    /// Opens a socket that the rules of the current network namespace log to. Calls on it never block.
    ///
    /// # Errors
    /// EPERM without CAP_NET_ADMIN over the namespace, EBUSY where another socket has the group.
    pub fn open() -> sys::Result<OwnedFd> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).call("socket")?;
        setsockopt(&socket, sockopt::RcvBuf, &WAITING).call("setsockopt")?;
        let configure = || Message::netfilter(CONFIGURE, ACK, 0, LOG_GROUP);
        let range = COPIED.to_be_bytes();
        let requests = [
            // Binds the group to this socket.
            configure().with(1, &[1]),
            // Copies that much of each packet, and sends each one at once.
            configure().with(2, &[range[0], range[1], range[2], range[3], 2, 0]).with(5, &1u32.to_be_bytes()),
        ];
        for request in requests {
            send(socket.as_raw_fd(), &request.numbered(1), MsgFlags::empty()).call("sendto")?;
            let mut buffer = [0; 1024];
            let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()).call("recvfrom")?;
            let answer = messages(&buffer[..length]).find(|message| message.kind == ERROR);
            match answer.and_then(|message| message.errno()) {
                Some(0) => {}
                other => {
                    let errno = other.map_or(Errno::EBADMSG, Errno::from_raw);
                    return Err(sys::Errno { call: "sendto", errno });
                }
            }
        }
        Ok(socket)
    }

    /// Reads from a socket of [`LogSocket::open`], in whatever namespace.
    #[must_use]
    pub fn adopt(socket: OwnedFd) -> Self {
        Self { socket, lost: 0, buffer: vec![0; 16 << 10] }
    }

    /// The next packets that were refused, each counted once.
    ///
    /// # Errors
    /// `WouldBlock` where there is none.
    pub fn read(&mut self) -> io::Result<Vec<Logged>> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty()) {
                Ok(length) => return Ok(parse(&self.buffer[..length])),
                Err(Errno::ENOBUFS) => self.lost = self.lost.saturating_add(1),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// How often messages were lost because nobody had read those before: each time it was one or more.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

impl AsFd for LogSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for LogSocket {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

/// The packets in a datagram, as far as they can be understood.
fn parse(datagram: &[u8]) -> Vec<Logged> {
    let packets = messages(datagram).filter(|message| message.kind == PACKET);
    packets
        .filter_map(|message| {
            let value = |wanted| message.attributes().find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
            let Packet { protocol, source, destination, ports, opens } = packet(value(9)?)?;
            let reason = match text(value(10).unwrap_or_default()).as_str() {
                PRIVATE => DenialReason::Private,
                PORT => DenialReason::Port,
                _ => DenialReason::NotListed,
            };
            let connection = ports
                .filter(|_| opens)
                .map(|(from, to)| (SocketAddr::new(source, from), SocketAddr::new(destination, to)));
            let port = ports.map(|(_, to)| to);
            let flow = DeniedFlow { name: None, address: Some(destination), port, protocol, reason, count: 1 };
            Some(Logged { flow, connection })
        })
        .collect()
}

/// What a packet says of itself.
struct Packet {
    protocol: Protocol,
    source: IpAddr,
    destination: IpAddr,
    /// From which port to which, where the protocol has ports.
    ports: Option<(u16, u16)>,
    /// Whether it is the first of a connection by TCP.
    opens: bool,
}

/// RFC 791, 8200, 9293, 768.
fn packet(packet: &[u8]) -> Option<Packet> {
    let (kind, source, destination, rest) = match packet.first()? >> 4 {
        4 => {
            let length = usize::from(packet[0] & 0xf) * 4;
            let address = |at: usize| Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
            let (source, destination) = (address(12)?, address(16)?);
            let is_first = packet[6] & 0x1f == 0 && packet[7] == 0;
            (packet[9], source, destination, packet.get(length..).filter(|_| is_first))
        }
        6 => {
            let address = |at: usize| Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?));
            let (source, destination) = (address(8)?, address(24)?);
            let (kind, rest) = behind_headers(packet[6], &packet[40..]);
            (kind, source, destination, rest)
        }
        _ => return None,
    };
    let port =
        |at: usize| rest.and_then(|rest| rest.get(at..at + 2)).map(|port| u16::from_be_bytes([port[0], port[1]]));
    let ports = || port(0).zip(port(2));
    let (protocol, ports) = match kind {
        6 => (Protocol::Tcp, ports()),
        17 => (Protocol::Udp, ports()),
        1 | 58 => (Protocol::Icmp, None),
        _ => (Protocol::Other, None),
    };
    // SYN, and neither ACK nor RST.
    let opens = protocol == Protocol::Tcp && rest.and_then(|rest| rest.get(13)).is_some_and(|flags| flags & 0x16 == 2);
    Some(Packet { protocol, source, destination, ports, opens })
}

/// What an IPv6 packet carries, and its bytes where they are here and of the first fragment.
fn behind_headers(mut kind: u8, mut rest: &[u8]) -> (u8, Option<&[u8]>) {
    for _ in 0..HEADERS {
        let length = match (kind, rest) {
            // Hop by hop, routing, for the destination.
            (0 | 43 | 60, [_, length, ..]) => (usize::from(*length) + 1) * 8,
            // A fragment: not the first one has an offset.
            (44, [_, _, high, low, ..]) if *high == 0 && low & 0xf8 == 0 => 8,
            (44, [next, ..]) => return (*next, None),
            (0 | 43 | 60, _) => return (kind, None),
            _ => return (kind, Some(rest)),
        };
        kind = rest[0];
        rest = rest.get(length..).unwrap_or_default();
    }
    (kind, None)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn logged(prefix: &str, packet: &[u8]) -> Vec<Logged> {
        parse(&Message::netfilter(PACKET, 0, 2, LOG_GROUP).named(10, prefix).with(9, packet).numbered(0))
    }

    fn v4(protocol: u8, destination: [u8; 4], rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 2];
        packet.extend(destination);
        packet.extend(rest);
        packet
    }

    fn v6(kind: u8, rest: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0, 0, 0, kind, 64];
        packet.extend([0; 16]);
        packet.extend("2606:4700::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend(rest);
        packet
    }

    fn ports(destination: u16) -> [u8; 4] {
        let [high, low] = destination.to_be_bytes();
        [0x80, 0, high, low]
    }

    #[test]
    fn a_packet_says_where_to_and_why_not() {
        let flow = |protocol, address: &str, port, reason| DeniedFlow {
            name: None,
            address: Some(address.parse().unwrap()),
            port,
            protocol,
            reason,
            count: 1,
        };
        let cases = [
            (
                "not_listed",
                v4(6, [1, 1, 1, 1], &ports(443)),
                (Protocol::Tcp, "1.1.1.1", Some(443), DenialReason::NotListed),
            ),
            (
                "private",
                v4(17, [10, 0, 0, 1], &ports(53)),
                (Protocol::Udp, "10.0.0.1", Some(53), DenialReason::Private),
            ),
            ("wrong_port", v6(6, &ports(22)), (Protocol::Tcp, "2606:4700::1", Some(22), DenialReason::Port)),
            (
                "not_listed",
                v4(1, [1, 1, 1, 1], &[8, 0, 0, 0]),
                (Protocol::Icmp, "1.1.1.1", None, DenialReason::NotListed),
            ),
            ("not_listed", v6(132, &[0; 8]), (Protocol::Other, "2606:4700::1", None, DenialReason::NotListed)),
        ];
        for (prefix, packet, (protocol, address, port, reason)) in cases {
            let logged = logged(prefix, &packet);
            assert_eq!(
                logged.iter().map(|one| &one.flow).collect::<Vec<_>>(),
                [&flow(protocol, address, port, reason)]
            );
        }
    }

    #[test]
    fn a_port_is_found_behind_other_headers_and_never_in_a_later_fragment() {
        let port = |packet: &[u8]| logged("wrong_port", packet)[0].flow.port;
        let options = [60, 0, 0, 0, 0, 0, 0, 0, 17, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(port(&v6(0, &[&options[..], &ports(443)].concat())), Some(443));
        assert_eq!(port(&v6(44, &[&[17, 0, 0, 1, 0, 0, 0, 0][..], &ports(443)].concat())), Some(443));
        assert_eq!(port(&v6(44, &[&[17, 0, 0, 8, 0, 0, 0, 0][..], &ports(443)].concat())), None);
        let mut fragment = v4(17, [1, 1, 1, 1], &ports(443));
        assert_eq!(port(&fragment), Some(443));
        fragment[7] = 1;
        assert_eq!(port(&fragment), None);
    }

    #[test]
    fn the_first_packet_of_a_connection_says_which_it_is() {
        let segment = |flags: u8| [&[0x80, 1, 1, 0xbb][..], &[0; 9], &[flags], &[0; 6]].concat();
        let connection = |packet: &[u8]| logged("private", packet)[0].connection;
        let place = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(
            connection(&v4(6, [10, 0, 0, 1], &segment(2))),
            Some((place("192.0.2.2:32769"), place("10.0.0.1:443")))
        );
        assert_eq!(connection(&v6(6, &segment(2))), Some((place("[::]:32769"), place("[2606:4700::1]:443"))));
        // An answer to one, one that is ended, one that is under way, and no segment at all.
        for packet in [segment(0x12), segment(4), segment(0x10), ports(443).to_vec()] {
            assert_eq!(connection(&v4(6, [10, 0, 0, 1], &packet)), None);
        }
        assert_eq!(connection(&v4(17, [10, 0, 0, 1], &segment(2))), None);
    }

    proptest! {
        #[test]
        fn any_datagram_is_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            prop_assert!(parse(&bytes).len() <= bytes.len());
        }

        #[test]
        fn any_packet_is_read(first in 0x40u8..0x70, rest in proptest::collection::vec(any::<u8>(), 0..120)) {
            let packet = [vec![first], rest].concat();
            prop_assert!(logged("private", &packet).len() <= 1);
        }
    }
}
