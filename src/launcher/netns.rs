//! Network namespaces for sandboxes: empty, or with a loopback device of its own.
//!
//! Making and destroying one costs more than all other namespaces together, and an empty one in which
//! every process is dead is as good as new: it belongs to the launcher's user namespace, so nobody
//! in a sandbox ever had a capability over it. Whether it is empty is looked at: a socket that was sent
//! and never received outlives its process, name and all, until the kernel finds out (unix(7)). One
//! with a loopback device is never used again: connections outlive their processes there (TIME_WAIT,
//! tcp(7)), and its counters tell how much was said.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::profile::Network;
use crate::sys::{Call, Result, namespace};

/// Most namespaces that are kept.
const KEPT: usize = 64;

/// Empty namespaces that wait to be used again.
#[derive(Debug)]
pub(super) struct Pool {
    home: OwnedFd,
    empty: Vec<OwnedFd>,
}

impl Pool {
    /// Moves the calling process into a namespace of its own, to which it comes back each time: its
    /// sockets are neither the host's nor listed in a sandbox.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { home: new_namespace()?, empty: Vec::new() })
    }

    /// Moves the calling process into a namespace with this policy, for the child that it is about
    /// to make, and returns its descriptor.
    pub(super) fn enter(&mut self, network: Network) -> Result<OwnedFd> {
        if network == Network::None
            && let Some(namespace) = self.empty.pop()
        {
            namespace::join(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            return Ok(namespace);
        }
        let namespace = new_namespace()?;
        if network == Network::Loopback {
            let socket =
                socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).call("socket")?;
            namespace::bring_loopback_up(socket.as_fd())?;
        }
        Ok(namespace)
    }

    /// Moves the calling process back.
    pub(super) fn leave(&self) -> Result<()> {
        namespace::join(self.home.as_fd(), CloneFlags::CLONE_NEWNET)
    }

    /// Takes a namespace back in which every process is dead.
    pub(super) fn give_back(&mut self, network: Network, namespace: OwnedFd) {
        if network == Network::None && self.empty.len() < KEPT && self.has_no_socket(&namespace) {
            self.empty.push(namespace);
        }
    }

    fn has_no_socket(&self, namespace: &OwnedFd) -> bool {
        let listed = namespace::join(namespace.as_fd(), CloneFlags::CLONE_NEWNET)
            .and_then(|()| std::fs::read("/proc/self/net/unix").call("read"));
        let is_back = self.leave().is_ok();
        // The first line names the columns.
        is_back && listed.is_ok_and(|text| text.iter().filter(|byte| **byte == b'\n').count() <= 1)
    }
}

fn new_namespace() -> Result<OwnedFd> {
    unshare(CloneFlags::CLONE_NEWNET).call("unshare")?;
    File::open("/proc/self/ns/net").call("open").map(OwnedFd::from)
}
