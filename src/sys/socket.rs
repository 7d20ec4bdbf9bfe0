//! Messages with descriptors over Unix sockets: unix(7), sendmsg(2), recvmsg(2), SCM_RIGHTS.

use std::io::{IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, sendmsg, socketpair,
};

use super::{Call, Result};

/// The most descriptors that one message carries.
pub const DESCRIPTORS_PER_MESSAGE: usize = 20;

/// A pair of connected sockets that keep message boundaries; socketpair(2), SOCK_SEQPACKET.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).call("socketpair")
}

/// A pair of connected sockets that carry bytes; socketpair(2), SOCK_STREAM.
///
/// # Errors
/// EMFILE, ENFILE.
pub fn stream_pair() -> Result<(OwnedFd, OwnedFd)> {
    socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC).call("socketpair")
}

/// Sends one message with descriptors; sendmsg(2). Never raises SIGPIPE.
///
/// # Errors
/// EPIPE and ECONNRESET where the other side is gone, EAGAIN where a non-blocking socket is full,
/// EMSGSIZE where the message exceeds the socket's buffer.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<()> {
    let raw: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)
        .call("sendmsg")
        .map(drop)
}

/// A message as [`receive`] found it.
#[derive(Debug)]
pub struct Message {
    /// How many bytes of the buffer it fills; 0 means that the other side has closed.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives one message into `buffer`; recvmsg(2). A message that does not fit, in bytes or in
/// descriptors, is an error, never cut.
///
/// # Errors
/// EAGAIN where a non-blocking socket is empty, EMSGSIZE for a message that does not fit.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<Message> {
    let mut space = nix::cmsg_space!([RawFd; DESCRIPTORS_PER_MESSAGE]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message =
        recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC).call("recvmsg")?;
    let mut descriptors = Vec::new();
    // An error here means a truncated control buffer, which the flags below tell as well.
    for control in message.cmsgs().into_iter().flatten() {
        if let ControlMessageOwned::ScmRights(raw) = control {
            for fd in raw {
                // SAFETY: the kernel has just installed this descriptor in our table for us.
                descriptors.push(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    if message.flags.intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC) {
        return Err(super::Errno { call: "recvmsg", errno: nix::errno::Errno::EMSGSIZE });
    }
    Ok(Message { length: message.bytes, descriptors })
}

/// A socket that listens for connections which keep message boundaries; unix(7), listen(2). A
/// socket file that nobody listens on is replaced.
///
/// # Errors
/// EADDRINUSE where somebody listens on the path, or where it is no socket.
pub fn listen_seqpacket(path: &std::path::Path) -> Result<OwnedFd> {
    use nix::sys::socket::{Backlog, UnixAddr, bind, listen, socket};
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).call("socket")?;
    let address = UnixAddr::new(path).call("bind")?;
    match bind(fd.as_raw_fd(), &address) {
        Err(nix::errno::Errno::EADDRINUSE) if connect_seqpacket(path).is_err() && is_socket(path) => {
            std::fs::remove_file(path).call("unlink")?;
            bind(fd.as_raw_fd(), &address).call("bind")?;
        }
        result => result.call("bind")?,
    }
    listen(&fd, Backlog::new(16).call("listen")?).call("listen")?;
    Ok(fd)
}

fn is_socket(path: &std::path::Path) -> bool {
    use std::os::unix::fs::FileTypeExt;
    std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// Connects to a socket that keeps message boundaries; connect(2).
///
/// # Errors
/// ENOENT and ECONNREFUSED where nobody listens.
pub fn connect_seqpacket(path: &std::path::Path) -> Result<OwnedFd> {
    use nix::sys::socket::{UnixAddr, connect, socket};
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None).call("socket")?;
    connect(fd.as_raw_fd(), &UnixAddr::new(path).call("connect")?).call("connect")?;
    Ok(fd)
}

/// Takes a waiting connection; accept4(2). Calls on it never block.
///
/// # Errors
/// EAGAIN where none waits.
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = nix::sys::socket::accept4(listener.as_raw_fd(), flags).call("accept4")?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes calls on a descriptor fail with EAGAIN instead of waiting; fcntl(2), O_NONBLOCK.
///
/// # Errors
/// None for an open descriptor.
pub fn set_nonblocking(fd: BorrowedFd<'_>) -> Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = fcntl(fd, FcntlArg::F_GETFL).call("fcntl")?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).call("fcntl").map(drop)
}

/// A failure of a call on a watched descriptor, as tokio has to see it: `WouldBlock`, and only that, means that it is
/// to be waited for again.
#[must_use]
pub fn would_block(errno: nix::errno::Errno) -> std::io::Error {
    match errno {
        nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR => std::io::ErrorKind::WouldBlock.into(),
        errno => errno.into(),
    }
}

/// A descriptor whose readiness the tokio runtime watches.
///
/// # Errors
/// As epoll_ctl(2).
pub fn watched(fd: OwnedFd) -> std::io::Result<tokio::io::unix::AsyncFd<OwnedFd>> {
    // SAFETY: the runtime demands that the descriptor stay open and the same for as long as it is
    // registered; an OwnedFd that is moved in does.
    let watched = unsafe { tokio::io::unix::AsyncFd::register(fd) };
    watched.map_err(std::io::Error::from)
}
