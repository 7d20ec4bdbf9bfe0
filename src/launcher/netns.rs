//! Network namespaces for sandboxes: empty, with a loopback device of its own, or with rules and the
//! sockets of an uplink.
//!
//! Making and destroying one costs more than all other namespaces together, and an empty one in which
//! every process is dead is as good as new: it belongs to the launcher's user namespace, so nobody
//! in a sandbox ever had a capability over it. Whether it is empty is looked at: a socket that was sent
//! and never received outlives its process, name and all, until the kernel finds out (unix(7)). One
//! with a loopback device is never used again: connections outlive their processes there (TIME_WAIT,
//! tcp(7)), and its counters tell how much was said; so do the addresses that an uplink has learned.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::network::secrets::Granted;
use crate::network::{self, Sockets};
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

/// A namespace that the calling process stands in.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) namespace: OwnedFd,
    /// What an uplink is to serve, or why there is none; absent where none is wanted.
    pub(super) sockets: Option<std::result::Result<Sockets, String>>,
    /// What its uplink puts into requests.
    pub(super) granted: Option<Granted>,
}

impl Pool {
    /// Moves the calling process into a namespace of its own, to which it comes back each time: its
    /// sockets are neither the host's nor listed in a sandbox.
    pub(super) fn new() -> Result<Self> {
        Ok(Self { home: new_namespace()?, empty: Vec::new() })
    }

    /// Moves the calling process into a namespace with this policy, for the child that it is about
    /// to make. One that can't be had as it is to be has no network at all.
    pub(super) fn enter(&mut self, network: &Network) -> Result<Entered> {
        if *network == Network::None
            && let Some(namespace) = self.empty.pop()
        {
            namespace::join(namespace.as_fd(), CloneFlags::CLONE_NEWNET)?;
            return Ok(Entered { namespace, sockets: None, granted: None });
        }
        let namespace = new_namespace()?;
        let sockets = match network {
            Network::None => None,
            Network::Loopback => {
                let socket =
                    socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).call("socket")?;
                namespace::bring_loopback_up(socket.as_fd())?;
                None
            }
            Network::Allow(policy) => match network::namespace::prepare(policy) {
                Ok(sockets) => Some(Ok(sockets)),
                // What was done to it so far may be anything but all of it.
                Err(error) => {
                    let sockets = Some(Err(error.to_string()));
                    return Ok(Entered { namespace: new_namespace()?, sockets, granted: None });
                }
            },
        };
        Ok(Entered { namespace, sockets, granted: None })
    }

    /// Moves the calling process back.
    pub(super) fn leave(&self) -> Result<()> {
        namespace::join(self.home.as_fd(), CloneFlags::CLONE_NEWNET)
    }

    /// Takes a namespace back in which every process is dead.
    pub(super) fn give_back(&mut self, network: &Network, namespace: OwnedFd) {
        if *network == Network::None && self.empty.len() < KEPT && self.has_no_socket(&namespace) {
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
