//! Ends connections of programs that the rules have refused, through sock_diag(7).
//!
//! The rules answer the first packet of such a connection with a reset. Where the host drops packets that seem to come
//! from an address that is never reached, as `IPAddressDeny=` of systemd.resource-control(5) does, the program does
//! not hear of it. Then its socket is ended here; where it has heard, there is no such socket any more.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use super::netlink::Message;
use crate::sys::{self, Call};

/// Ends the socket of a connection; `SOCK_DESTROY` of linux/sock_diag.h.
const DESTROY: u16 = 21;
/// TCP in a request; IANA's protocol numbers.
const TCP: u8 = 6;
/// States in which a socket is looked for: all. One connection has one socket.
const ALL_STATES: u32 = u32::MAX;
/// Stands for a socket that is named by its addresses alone; `INET_DIAG_NOCOOKIE` of linux/inet_diag.h.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// Ends connections of one network namespace.
#[derive(Debug)]
pub(super) struct Diag {
    socket: OwnedFd,
}

/// Opens a socket for [`Diag`], which then acts in the current network namespace from wherever it is used.
///
/// # Errors
/// The kernel has none.
pub fn open() -> sys::Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkSockDiag).call("socket")
}

impl Diag {
    /// Acts through a socket of [`open`]. Takes CAP_NET_ADMIN over its namespace.
    pub(super) fn adopt(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// Ends the program's socket of this connection, whose next call fails with ECONNABORTED.
    ///
    /// What goes wrong leaves the program to its own time-out, as without this: the connection is refused all the same.
    pub(super) fn end(&self, from: SocketAddr, to: SocketAddr) {
        // Answers tell of sockets that are not there any more, and would fill the buffer.
        while recv(self.socket.as_raw_fd(), &mut [0; 512], MsgFlags::empty()).is_ok() {}
        send(self.socket.as_raw_fd(), &request(from, to).numbered(1), MsgFlags::empty()).ok();
    }
}

/// `struct inet_diag_req_v2` of linux/inet_diag.h.
fn request(from: SocketAddr, to: SocketAddr) -> Message {
    let family = if to.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let address = |place: SocketAddr| {
        let mut bytes = [0; 16];
        match place.ip() {
            IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes = address.octets(),
        }
        bytes
    };
    let family = u8::try_from(family).unwrap_or_default();
    let bytes = [
        &[family, TCP, 0, 0][..],
        &ALL_STATES.to_ne_bytes(),
        &from.port().to_be_bytes(),
        &to.port().to_be_bytes(),
        &address(from),
        &address(to),
        // Whichever device.
        &[0; 4],
        &NO_COOKIE,
    ]
    .concat();
    Message::plain(DESTROY, &bytes)
}
