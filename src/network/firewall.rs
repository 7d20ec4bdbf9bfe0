//! The rules of a namespace, in the kernel: made in one step, read back, compared, and fed with addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::sys::Errno;

#[cfg(not(feature = "nftables"))]
mod absent;
#[cfg(feature = "nftables")]
mod draft;
#[cfg(feature = "nftables")]
mod exchange;
#[cfg(feature = "nftables")]
mod kernel;
#[cfg(feature = "nftables")]
mod said;

#[cfg(not(feature = "nftables"))]
pub use absent::Firewall;
#[cfg(feature = "nftables")]
pub use kernel::Firewall;

/// An address that may be reached because a name led there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Learned {
    /// The address.
    pub address: IpAddr,
    /// At these ports.
    pub ports: BTreeSet<u16>,
    /// For so long.
    pub remaining: Duration,
}

/// Why the rules are not what they are to be.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// A call failed.
    #[error("talking with the kernel about rules: {0}")]
    Call(#[from] Errno),
    /// The kernel refused a change, and made none of it.
    #[error("the kernel refused the rules: {}", .0.desc())]
    Refused(nix::errno::Errno),
    /// What was read back is not what was meant.
    #[error("the rules in the kernel are not those of the policy: {0}")]
    Differ(String),
    /// As many addresses are known as can be.
    #[error("there is no room for another address")]
    Full,
    /// The kernel answered something else than was asked.
    #[error("the kernel's answer about rules was not understood")]
    Answer,
    /// There are no rules in this program.
    #[error("built without the feature nftables")]
    NotBuilt,
}
