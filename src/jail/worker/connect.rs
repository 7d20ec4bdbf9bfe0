//! Connects to a port inside the sandbox and hands the connection out.

use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno as Number;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, connect, getsockopt, socket, sockopt,
};

use crate::sys::socket::send;

/// Longest time until a port answers, in milliseconds; only one whose queue is full takes any.
const CONNECT_TIME_MS: u16 = 5000;

/// Reads a port, as two bytes with the least significant first, and connects to it on 127.0.0.1 or else on ::1.
/// Answers with a byte 0 and the connection, on which calls never block, or with a byte 1 and an errno of four
/// bytes in the same order. Returns an exit code: 0 where it connected.
pub fn serve_connect(mut socket: UnixStream) -> u8 {
    let mut port = [0; 2];
    if socket.read_exact(&mut port).is_err() {
        return 2;
    }
    let port = u16::from_le_bytes(port);
    let addresses: [SocketAddr; 2] = [
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, port).into(),
        SocketAddrV6::new(Ipv6Addr::LOCALHOST, port, 0, 0).into(),
    ];
    let connected = addresses.map(connected_to);
    let (sent, code) = match connected {
        [Ok(connection), _] | [Err(_), Ok(connection)] => (send(socket.as_fd(), &[0], &[connection.as_fd()]), 0),
        // That there is no ::1 explains nothing.
        [Err(errno), Err(_)] => {
            let answer = [[1].as_slice(), &(errno as i32).to_le_bytes()].concat();
            (send(socket.as_fd(), &answer, &[]), 1)
        }
    };
    if sent.is_ok() { code } else { 2 }
}

fn connected_to(address: SocketAddr) -> Result<OwnedFd, Number> {
    match address {
        SocketAddr::V4(address) => open(AddressFamily::Inet, &SockaddrIn::from(address)),
        SocketAddr::V6(address) => open(AddressFamily::Inet6, &SockaddrIn6::from(address)),
    }
}

fn open(family: AddressFamily, address: &dyn SockaddrLike) -> Result<OwnedFd, Number> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let connection = socket(family, SockType::Stream, flags, None)?;
    match connect(connection.as_raw_fd(), address) {
        Err(Number::EINPROGRESS) => {
            let mut waited = [PollFd::new(connection.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut waited, PollTimeout::from(CONNECT_TIME_MS))? == 0 {
                return Err(Number::ETIMEDOUT);
            }
            match getsockopt(&connection, sockopt::SocketError)? {
                0 => Ok(connection),
                errno => Err(Number::from_raw(errno)),
            }
        }
        connected => connected.map(|()| connection),
    }
}
