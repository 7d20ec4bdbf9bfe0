//! Questions to the kernel's tables and changes of them, over one socket, without ever waiting: it answers before
//! the call that asks returns.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, setsockopt, socket, sockopt,
};

use super::FirewallError;
use crate::network::netlink::{ACK, DONE, DUMP, DUMP_INTERRUPTED, ERROR, Message, messages};
use crate::sys::{self, Call};

/// The subsystem; linux/netfilter/nfnetlink.h.
pub(super) const NFTABLES: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Bytes of one change. The kernel cuts it to what the host allows.
const CHANGE: usize = 4 << 20;
/// How often a question is asked again whose answer was interrupted by a change.
const TRIES: usize = 8;

/// A socket to the tables of the network namespace that it was opened in.
#[derive(Debug)]
pub(super) struct Exchange {
    socket: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Exchange {
    pub(super) fn open() -> sys::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).call("socket")?;
        setsockopt(&socket, sockopt::SndBuf, &CHANGE).call("setsockopt")?;
        Ok(Self::adopt(socket))
    }

    pub(super) fn adopt(socket: OwnedFd) -> Self {
        Self { socket, sequence: 0, buffer: vec![0; 64 << 10] }
    }

    pub(super) fn into_socket(self) -> OwnedFd {
        self.socket
    }

    /// Makes all changes or none, in one step.
    pub(super) fn change(&mut self, changes: Vec<Message>) -> Result<(), FirewallError> {
        self.forget_answers();
        let mark = |kind| Message::netfilter(kind, 0, 0, NFTABLES).numbered(0);
        let mut bytes = mark(BATCH_BEGIN);
        let count = changes.len();
        for (number, change) in changes.into_iter().enumerate() {
            self.sequence = self.sequence.wrapping_add(1);
            // Errors are told for all, success for the last alone: thousands of answers would not fit the socket.
            let change = if number + 1 == count { change.also(ACK) } else { change };
            bytes.extend(change.numbered(self.sequence));
        }
        bytes.extend(mark(BATCH_END));
        self.send(&bytes)?;
        let mut is_done = false;
        while let Some(length) = self.receive()? {
            for answer in messages(&self.buffer[..length]).filter(|answer| answer.kind == ERROR) {
                match answer.errno() {
                    Some(0) => is_done |= answer.sequence == self.sequence,
                    Some(errno) => return Err(FirewallError::Refused(Errno::from_raw(errno))),
                    None => return Err(FirewallError::Answer),
                }
            }
        }
        if is_done { Ok(()) } else { Err(FirewallError::Answer) }
    }

    /// The messages of which the answer to a question for a list consists.
    pub(super) fn list(&mut self, question: &Message) -> Result<Vec<Vec<u8>>, FirewallError> {
        for _ in 0..TRIES {
            if let Some(answer) = self.try_list(question)? {
                return Ok(answer);
            }
        }
        Err(FirewallError::Answer)
    }

    fn try_list(&mut self, question: &Message) -> Result<Option<Vec<Vec<u8>>>, FirewallError> {
        self.forget_answers();
        self.sequence = self.sequence.wrapping_add(1);
        self.send(&question.clone().also(DUMP).numbered(self.sequence))?;
        let (mut found, mut is_whole) = (Vec::new(), true);
        while let Some(length) = self.receive()? {
            for answer in messages(&self.buffer[..length]).filter(|answer| answer.sequence == self.sequence) {
                is_whole &= answer.flags & DUMP_INTERRUPTED == 0;
                match answer.kind {
                    DONE => return Ok(is_whole.then_some(found)),
                    ERROR => {
                        let errno = answer.errno().map_or(Errno::EBADMSG, Errno::from_raw);
                        return Err(FirewallError::Refused(errno));
                    }
                    _ => found.push(answer.whole.to_vec()),
                }
            }
        }
        Err(FirewallError::Answer)
    }

    fn send(&self, bytes: &[u8]) -> sys::Result<()> {
        send(self.socket.as_raw_fd(), bytes, MsgFlags::MSG_DONTWAIT).call("sendto").map(drop)
    }

    /// The length of the next datagram; none where the kernel has said all.
    fn receive(&mut self) -> sys::Result<Option<usize>> {
        loop {
            match recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR) => {}
                result => return result.call("recvfrom").map(Some),
            }
        }
    }

    /// What an exchange that failed left behind.
    fn forget_answers(&mut self) {
        while !matches!(self.receive(), Ok(None) | Err(sys::Errno { errno: Errno::EBADF | Errno::ENOTSOCK, .. })) {}
    }
}
