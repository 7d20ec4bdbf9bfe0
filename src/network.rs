//! The network of a sandbox that may reach something.
//!
//! Its network namespace has a loopback device and nothing else: no packet ever leaves it. An *uplink*,
//! a process of ours outside, holds sockets that live inside: a resolver on port 53, a relay, a proxy.
//! Rules in the namespace (nftables) send each TCP connection to a learned or listed address to the relay, which
//! looks at the policy once more, connects from outside and passes the bytes on; they refuse all else at once and
//! log it to the uplink. Programs inside hold no capability over the namespace.
//!
//! ```text
//!   program ─connect 198.35.26.96:443─▶ rules ─dnat─▶ 127.0.0.1:1 relay ┐
//!   program ─query─▶ 127.0.0.1:53 resolver ─────────────────────────────┤ sockets held by
//!   program ─CONNECT─▶ 127.0.0.1:2 proxy ───────────────────────────────┤ the uplink, whose own
//!   rules ─log─▶ netlink ───────────────────────────────────────────────┘ connections are the host's
//! ```

pub mod diag;
pub mod doors;
pub mod firewall;
pub mod log;
pub mod namespace;
#[cfg_attr(not(feature = "nftables"), allow(dead_code, reason = "without rules only their log is read"))]
mod netlink;
pub mod order;
pub mod rules;
pub mod secrets;
pub mod uplink;

use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::job::DeniedFlow;
use crate::profile::AllowList;

/// Port of the relay, on 127.0.0.1 and ::1 inside. Programs can't take it: it is below 1024.
pub const RELAY_PORT: u16 = 1;
/// Port of the HTTP proxy (CONNECT, RFC 9110 section 9.3.6), on 127.0.0.1 and ::1 inside.
pub const PROXY_PORT: u16 = 2;
/// Port of the resolver, on 127.0.0.1 and ::1 inside.
pub const RESOLVER_PORT: u16 = 53;

/// What the launcher tells an uplink on a SEQPACKET socket; [`order::send`] does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Order {
    /// The policy from now on, in one atomic replacement. Answered by [`Report::Holds`].
    Policy(AllowList),
    /// Look whether the rules in the namespace are those of the policy. Answered by [`Report::Holds`].
    Assert,
    /// Report all that was refused up to now. Answered by [`Report::Flushed`], after the last [`Report::Denied`].
    Flush,
}

/// What an uplink tells the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// It serves.
    Ready,
    /// The rules were read back and are those of the policy; else, why not.
    Holds(Result<(), String>),
    /// These were refused since the last report; each of them is told once.
    Denied(Vec<DeniedFlow>),
    /// All that was refused before [`Order::Flush`] has been reported.
    Flushed,
}

/// Sockets that were made inside the namespace, by descriptor. IPv6 ones are absent where the kernel has none.
#[derive(Debug)]
pub struct Sockets {
    /// UDP sockets of the resolver.
    pub resolver_udp: Vec<OwnedFd>,
    /// TCP listeners of the resolver.
    pub resolver_tcp: Vec<OwnedFd>,
    /// TCP listeners of the relay.
    pub relay: Vec<OwnedFd>,
    /// TCP listeners of the proxy.
    pub proxy: Vec<OwnedFd>,
    /// Netlink socket (NETLINK_NETFILTER) for the rules.
    pub rules: OwnedFd,
    /// Netlink socket (NETLINK_NETFILTER) bound to the log group of the rules.
    pub log: OwnedFd,
    /// Netlink socket (NETLINK_SOCK_DIAG) that ends connections.
    pub diag: OwnedFd,
}
