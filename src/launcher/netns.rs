//! Network namespaces for sandboxes: empty, or with a loopback device of its own.
//!
//! Making and destroying one costs more than all other namespaces together, and an empty one in which
//! every process is dead is as good as new: it belongs to the launcher's user namespace, so nobody
//! in a sandbox ever had a capability over it, and abstract sockets die with their processes. One
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
#[derive(Debug, Default)]
pub(super) struct Pool {
    empty: Vec<OwnedFd>,
}

impl Pool {
    /// Moves the calling process into a namespace with this policy, for the child that it is about
    /// to make, and returns its descriptor. The launcher itself uses no network.
    pub(super) fn enter(&mut self, network: Network) -> Result<OwnedFd> {
        if network == Network::None
            && let Some(namespace) = self.empty.pop()
        {
            namespace::join(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            return Ok(namespace);
        }
        unshare(CloneFlags::CLONE_NEWNET).call("unshare")?;
        if network == Network::Loopback {
            let socket =
                socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).call("socket")?;
            namespace::bring_loopback_up(socket.as_fd())?;
        }
        File::open("/proc/self/ns/net").call("open").map(OwnedFd::from)
    }

    /// Takes a namespace back in which every process is dead.
    pub(super) fn give_back(&mut self, network: Network, namespace: OwnedFd) {
        if network == Network::None && self.empty.len() < KEPT {
            self.empty.push(namespace);
        }
    }
}
