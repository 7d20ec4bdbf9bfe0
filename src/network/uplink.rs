//! What an uplink does, from the moment at which it has its sockets: it serves one sandbox until the launcher
//! closes the socket between them.
//!
//! It is one thread. Nothing that it holds is kept apart from its fate: when it ends, every connection ends.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::job::{DenialReason, Protocol};
use crate::profile::AllowList;
use crate::sys::Errno;

use super::Sockets;
use super::secrets::Granted;
use confine::Confinement;
use control::Control;
use state::State;

mod bounds;
mod carry;
pub mod confine;
mod control;
mod denials;
mod learned;
mod metered;
mod proxy;
pub mod reach;
mod relay;
mod resolver;
mod secrets;
mod state;

/// What an uplink is told before it serves.
#[derive(Debug)]
pub struct Start {
    /// The policy until an [`super::Order`] brings another.
    pub policy: AllowList,
    /// Whom the resolver asks: these and nobody else.
    pub name_servers: Vec<SocketAddr>,
    /// Secrets that it puts into requests.
    pub secrets: Option<Granted>,
    /// How it is held; `None` only where somebody else has seen to that.
    pub confine: Option<Confinement>,
}

/// The rules of the namespace, as far as an uplink handles them.
pub trait Doors {
    /// Goes on with the rules that whoever made the namespace has made, once it is clear that they are those of
    /// `policy`.
    ///
    /// # Errors
    /// In what they differ.
    fn take_up(&mut self, policy: &AllowList) -> Result<(), String>;

    /// Replaces all rules and sets at once by those of `policy`, with `kept` as the learned addresses.
    ///
    /// # Errors
    /// Why not; the old ones stand then.
    fn install(&mut self, policy: &AllowList, kept: &[Learned]) -> Result<(), String>;

    /// Lets connections to `address` pass at `ports` for as long as `lifetime`; those that are open then go on.
    ///
    /// # Errors
    /// Why not.
    fn learn(&mut self, address: IpAddr, ports: &BTreeSet<u16>, lifetime: Duration) -> Result<(), String>;

    /// Whether the rules that stand are those that were installed last.
    ///
    /// # Errors
    /// In what they differ.
    fn holds(&mut self) -> Result<(), String>;

    /// The next of what the rules have refused.
    fn poll_refused(&mut self, context: &mut Context<'_>) -> Poll<io::Result<Refused>>;
}

/// An address that a listed name had, and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub address: IpAddr,
    /// At which ports.
    pub ports: BTreeSet<u16>,
    /// For how much longer.
    pub lifetime: Duration,
}

/// What the rules have refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// What it spoke.
    pub protocol: Protocol,
    /// Whereto.
    pub address: IpAddr,
    /// At which port, where the protocol has ports.
    pub port: Option<u16>,
    /// Why.
    pub reason: DenialReason,
}

/// Why an uplink could not serve, or could not go on.
#[derive(Debug, thiserror::Error)]
pub enum UplinkError {
    /// The runtime or one of the sockets.
    #[error("cannot {1}: {0}")]
    Io(#[source] io::Error, &'static str),
    /// The rules.
    #[error("cannot set the rules of the network: {0}")]
    Rules(String),
    /// The resolver.
    #[error("cannot make a resolver: {0}")]
    Resolver(String),
    /// It is not held as it should be.
    #[error("cannot confine the uplink: {0}")]
    Confine(#[source] Errno),
    /// The filter of system calls.
    #[error("cannot confine the uplink: {0}")]
    Filter(#[from] crate::jail::filter::FilterError),
}

/// Serves until `control` is closed by the other side; then all connections end at once. The caller is a process
/// of one thread in the host's network namespace. `open` makes the doors of the three netlink sockets: rules, log, and what ends connections.
///
/// # Errors
/// What could not be set up. Nothing was served then.
pub fn serve(
    start: Start,
    sockets: Sockets,
    control: OwnedFd,
    open: impl FnOnce([OwnedFd; 3]) -> Result<Box<dyn Doors>, String>,
) -> Result<(), UplinkError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .map_err(|error| UplinkError::Io(error, "start a runtime"))?;
    let tasks = tokio::task::LocalSet::new();
    let Start { policy, name_servers, secrets, confine } = start;
    let Sockets { resolver_udp, resolver_tcp, relay, proxy, rules, log, diag } = sockets;
    tasks.block_on(&runtime, async move {
        let control = Rc::new(Control::new(control).map_err(|error| UplinkError::Io(error, "watch the launcher"))?);
        let mut doors = open([rules, log, diag]).map_err(UplinkError::Rules)?;
        doors.take_up(&policy).map_err(UplinkError::Rules)?;
        let upstream = resolver::Upstream::new(&name_servers).map_err(UplinkError::Resolver)?;
        let state = State::new(policy, doors, upstream, secrets);
        let listening = |error| UplinkError::Io(error, "watch the sockets of the sandbox");
        resolver::serve(&state, resolver_udp, resolver_tcp).map_err(listening)?;
        relay::serve(&state, relay).map_err(listening)?;
        proxy::serve(&state, proxy).map_err(listening)?;
        // Last, and before the first byte of the sandbox is read: no task has run yet.
        if let Some(confinement) = confine {
            confinement.apply()?;
        }
        control::serve(&state, &control).await.map_err(|error| UplinkError::Io(error, "hear the launcher"))
    })
}
