//! What the jail wants of the kernel: each feature with its purpose and its remedies.

use super::probe::try_feature;
use super::{Check, Remedy, State};

/// A feature of the kernel that a jail is made of.
pub(super) struct Feature {
    /// Name of the trial.
    pub(super) name: &'static str,
    /// What it is for.
    purpose: &'static str,
    remedy: Remedy,
}

const NEWER_KERNEL: Remedy = Remedy {
    nixos: "boot.kernelPackages = pkgs.linuxPackages_latest;",
    debian: "install a newer kernel: apt install -t bookworm-backports linux-image-amd64",
};
const NAMESPACES: Remedy = Remedy {
    nixos: "boot.kernel.sysctl.\"user.max_user_namespaces\" = 15000; and with a hardened kernel \
            security.unprivilegedUsernsClone = true;",
    debian: "sysctl -w user.max_user_namespaces=15000 kernel.unprivileged_userns_clone=1; in a container, \
             let its seccomp profile allow clone3, unshare and setns",
};
const MOUNTS: Remedy = Remedy {
    nixos: "boot.kernel.sysctl.\"kernel.apparmor_restrict_unprivileged_userns\" = 0;",
    debian: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or run as root; in a container, let it mount",
};
const WHOLE_PROC: Remedy = Remedy {
    nixos: "leave ProtectProc=, ProtectKernelTunables= and ProcSubset= out of the unit that starts codesandbox",
    debian: "as on NixOS; in a container, unmask /proc: --security-opt systempaths=unconfined",
};
const LANDLOCK: Remedy = Remedy {
    nixos: "security.lsm = [ \"landlock\" ]; with Linux 5.13 or newer",
    debian: "add landlock to the lsm= parameter of the kernel (GRUB_CMDLINE_LINUX in /etc/default/grub), \
             with Linux 5.13 or newer",
};

macro_rules! features {
    ($($name:literal: $purpose:literal, $remedy:expr;)+) => {
        /// Every feature that the jail wants, in the order in which it is used.
        pub(super) const FEATURES: &[Feature] = &[$(Feature { name: $name, purpose: $purpose, remedy: $remedy }),+];
    };
}

features! {
    "clone3": "starts programs straight in their cgroup and their namespaces (Linux 5.7)", NEWER_KERNEL;
    "user-namespace": "a sandbox's root is nobody outside of it", NAMESPACES;
    "mount-namespace": "a sandbox sees no files but its own", NAMESPACES;
    "pid-namespace": "a sandbox sees no processes but its own, and all die with its init", NAMESPACES;
    "ipc-namespace": "no shared memory and no message queues with others", NAMESPACES;
    "uts-namespace": "a host name of its own", NAMESPACES;
    "net-namespace": "no network interface, and no abstract socket of the host", NAMESPACES;
    "cgroup-namespace": "the host's cgroups can't be seen", NAMESPACES;
    "pidfd": "names a process beyond doubt, and enters all its namespaces at once (Linux 5.8)", NEWER_KERNEL;
    "proc": "a /proc that shows the sandbox's processes only", WHOLE_PROC;
    "tmpfs": "the sandbox's root and its writable directories, of limited size", MOUNTS;
    "mount_setattr": "makes a whole tree of mounts read-only (Linux 5.12)", NEWER_KERNEL;
    "openat2": "opens the program's files without leaving the workspace (Linux 5.6)", NEWER_KERNEL;
    "close_range": "nothing of ours stays open in a sandbox (Linux 5.9)", NEWER_KERNEL;
    "memfd": "carries requests in memory that nobody can change any more", NEWER_KERNEL;
    "seccomp": "refuses system calls, and tells which (Linux 5.0)", NEWER_KERNEL;
    "landlock": "a second lock on files, abstract sockets and signals", LANDLOCK;
}

/// Version of Landlock that knows abstract sockets and signals.
const LANDLOCK_WANTED: &str = "version 6";

/// Tries every feature.
pub(super) fn checks() -> Vec<Check> {
    FEATURES.iter().map(check).collect()
}

fn check(feature: &Feature) -> Check {
    let (state, detail) = match try_feature(feature.name) {
        Ok(level) if feature.name == "landlock" && level != LANDLOCK_WANTED => {
            (State::Degraded, format!("{level}; {LANDLOCK_WANTED} (Linux 6.12) holds signals and abstract sockets too"))
        }
        Ok(details) => (State::Found, details),
        Err(why) => (State::Missing, why),
    };
    let remedy = if feature.name == "landlock" && state == State::Degraded { NEWER_KERNEL } else { feature.remedy };
    Check::new(feature.name, feature.purpose, state, detail, remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_says_what_it_is_for_and_how_to_get_it() {
        for feature in FEATURES {
            for text in [feature.purpose, feature.remedy.nixos, feature.remedy.debian] {
                assert!(!text.is_empty(), "{}", feature.name);
            }
        }
    }
}
