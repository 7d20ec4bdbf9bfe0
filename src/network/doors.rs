//! The rules of a namespace as an uplink handles them: by its netlink sockets.

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::unix::AsyncFd;

use super::diag::Diag;
use super::firewall::{self, Firewall, FirewallError};
use super::log::{LogSocket, Logged};
use super::uplink::{Doors, Learned, Refused};
use crate::job::DeniedFlow;
use crate::profile::AllowList;
use crate::sys::socket;

/// The rules in the kernel, and their log.
struct Kernel {
    firewall: Firewall,
    log: LogSocket,
    /// The log once more, as the runtime watches it.
    watched: AsyncFd<OwnedFd>,
    /// Ends connections that were refused.
    diag: Diag,
    /// What was read of it and not handed on yet.
    refused: VecDeque<Refused>,
}

/// Takes up the rules of a namespace and the log of what they refuse. Needs a tokio runtime.
///
/// # Errors
/// Why not.
pub fn open([rules, log, diag]: [OwnedFd; 3]) -> Result<Box<dyn Doors>, String> {
    let watched = log.as_fd().try_clone_to_owned().and_then(socket::watched).map_err(|error| error.to_string())?;
    // What is meant is said by the policy that is taken up, and before that nothing is opened.
    let firewall = Firewall::adopt(rules, &AllowList::default()).map_err(text)?;
    Ok(Box::new(Kernel {
        firewall,
        log: LogSocket::adopt(log),
        watched,
        diag: Diag::adopt(diag),
        refused: VecDeque::new(),
    }))
}

fn text(error: FirewallError) -> String {
    error.to_string()
}

impl Doors for Kernel {
    fn take_up(&mut self, policy: &AllowList) -> Result<(), String> {
        self.firewall.take_up(policy).map_err(text)
    }

    fn install(&mut self, policy: &AllowList, kept: &[Learned]) -> Result<(), String> {
        let known = |one: &Learned| {
            let Learned { address, ports, lifetime } = one.clone();
            firewall::Learned { address, ports, remaining: lifetime }
        };
        self.firewall.install(policy, &kept.iter().map(known).collect::<Vec<_>>()).map_err(text)
    }

    fn learn(&mut self, address: IpAddr, ports: &BTreeSet<u16>, lifetime: Duration) -> Result<(), String> {
        self.firewall.learn(address, ports, lifetime).map_err(text)
    }

    fn holds(&mut self) -> Result<(), String> {
        self.firewall.holds().map_err(text)
    }

    fn poll_refused(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Refused>> {
        loop {
            if let Some(refused) = self.refused.pop_front() {
                return Poll::Ready(Ok(refused));
            }
            let mut ready = ready!(self.watched.poll_read_ready(context))?;
            // An error of the outer kind means that there is nothing more for now.
            if let Ok(read) = ready.try_io(|_| self.log.read()) {
                for Logged { flow, connection } in read? {
                    if let Some((from, to)) = connection {
                        self.diag.end(from, to);
                    }
                    self.refused.extend(refused(flow));
                }
            }
        }
    }
}

fn refused(flow: DeniedFlow) -> Option<Refused> {
    let DeniedFlow { address, port, protocol, reason, .. } = flow;
    Some(Refused { protocol, address: address?, port, reason })
}
