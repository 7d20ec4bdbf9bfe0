//! What a launcher may do that serves one program on real directories of whoever started it.
//!
//! It comes from the process that starts the launcher, in a memory file, and no client can ask for it. Under it
//! there is one kind of sandbox only, whose user is the caller: neither profiles nor runtimes have a part in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::config::secrets::{Secret, Value};
use crate::plan::real::Real;
use crate::profile::{AllowList, DeniedSyscall, Limits, Name, Network, Profile};

/// Name of the profile under which its sandboxes are.
pub const PROFILE: &str = "real-directories";
/// Name of the filter of system calls.
pub(super) const FILTER: &str = "agent";
/// Largest memory file with a grant, in bytes.
pub(super) const GRANT_BYTES: usize = 4 << 20;

/// How often init looks at what programs use, where no cgroup counts: they may run for hours.
pub(super) const SAMPLE_INTERVAL_US: u64 = 100_000;

/// The grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What programs see and may write.
    pub real: Real,
    /// What they may use.
    pub limits: Limits,
    /// Whether they may reach what an allow-list names. No program runs where they are to and can't be held to
    /// it; without it they have a loopback device and nothing else.
    pub networked: bool,
    /// What they may use towards a host and never see, by the variable that holds a placeholder of it.
    pub secrets: BTreeMap<String, GrantedSecret>,
    /// Whether they may make local sockets, and so connect to those of the host that lie in their directories.
    pub unix_sockets: bool,
}

/// A secret that comes with a grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GrantedSecret {
    /// The secret.
    pub value: Value,
    /// The host that gets it.
    pub domain: Name,
    /// At which ports, by TLS.
    pub ports: BTreeSet<u16>,
}

impl Grant {
    /// Its secrets as a configuration has them.
    pub(super) fn secrets(&self) -> impl Iterator<Item = (String, Secret)> {
        self.secrets.iter().map(|(variable, granted)| {
            let GrantedSecret { value, domain, ports } = granted.clone();
            (variable.clone(), Secret::given(value, domain, ports))
        })
    }

    /// The profile that follows.
    pub(super) fn profile(&self) -> Profile {
        Profile {
            title: "Programs on real directories of their user".to_owned(),
            network: if self.networked { Network::Allow(Box::<AllowList>::default()) } else { Network::Loopback },
            seccomp: FILTER.to_owned(),
            denied_syscall: DeniedSyscall::Error,
            dependencies: false,
            compile: self.limits,
            run: self.limits,
            maximum: self.limits,
        }
    }
}
