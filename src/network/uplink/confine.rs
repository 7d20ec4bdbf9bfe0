//! What holds an uplink, which reads bytes from programs nobody trusts and from the whole internet.
//!
//! It keeps the sockets that it has, may make connections, and that is all: no files, no other process, no
//! privilege but, where it handles rules, that over the networks of the launcher's user namespace.

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno as Number;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, chroot, setgroups, setresgid, setresuid};

use super::UplinkError;
use super::bounds::MOST_CONNECTIONS;
use crate::jail::filter::Filter;
use crate::sys::{Call, Errno, seccomp};

/// How an uplink is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confinement {
    /// The user and the group that it becomes; `None` where there are no others to become.
    pub identity: Option<(u32, u32)>,
    /// Whether it keeps CAP_NET_ADMIN, to handle rules.
    pub keeps_rules: bool,
}

/// Descriptors: two sockets and two pipes a connection, and some for queries and for itself.
const DESCRIPTORS: u64 = MOST_CONNECTIONS as u64 * 6 + 1024;
/// Address space.
const MEMORY_BYTES: u64 = 1 << 30;

impl Confinement {
    /// Takes everything away that it does not need. For the one thread of a process that has no other.
    ///
    /// # Errors
    /// What could not be taken away; the process must end then.
    pub(super) fn apply(self) -> Result<(), UplinkError> {
        self.drop_privileges().map_err(UplinkError::Confine)?;
        let filter = Filter::of_uplink()?;
        seccomp::install_plain(filter.program()).map_err(UplinkError::Confine)
    }

    fn drop_privileges(self) -> Result<(), Errno> {
        // While it may: a directory that holds nothing but numbers of its own descriptors, and that the filter
        // keeps from being opened.
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_CHROOT).unwrap_or(false) {
            chroot("/proc/self/fdinfo").call("chroot")?;
            chdir("/").call("chdir")?;
        }
        for (resource, most) in [
            (Resource::RLIMIT_CORE, 0),
            (Resource::RLIMIT_FSIZE, 0),
            (Resource::RLIMIT_NOFILE, DESCRIPTORS),
            (Resource::RLIMIT_AS, MEMORY_BYTES),
        ] {
            let (_, highest) = nix::sys::resource::getrlimit(resource).call("getrlimit")?;
            setrlimit(resource, most.min(highest), most.min(highest)).call("setrlimit")?;
        }
        let kept: CapsHashSet = if self.keeps_rules { [Capability::CAP_NET_ADMIN].into() } else { CapsHashSet::new() };
        for capability in caps::runtime::thread_all_supported() {
            // Where it was not root the set bounds nothing.
            if !kept.contains(&capability) && has(Capability::CAP_SETPCAP) {
                caps::drop(None, CapSet::Bounding, capability).map_err(|_| refused("prctl"))?;
            }
        }
        if let Some((uid, gid)) = self.identity {
            // Else what is kept would go along with root.
            prctl::set_keepcaps(true).call("prctl")?;
            let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
            setgroups(&[]).call("setgroups")?;
            setresgid(gid, gid, gid).call("setresgid")?;
            setresuid(uid, uid, uid).call("setresuid")?;
            prctl::set_keepcaps(false).call("prctl")?;
        }
        caps::clear(None, CapSet::Ambient).map_err(|_| refused("prctl"))?;
        caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(|_| refused("capset"))?;
        for set in [CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &kept).map_err(|_| refused("capset"))?;
        }
        // After the change of user, which takes both back; prctl(2).
        prctl::set_dumpable(false).call("prctl")?;
        prctl::set_pdeathsig(Signal::SIGKILL).call("prctl")?;
        seccomp::no_new_privileges()
    }
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

fn refused(call: &'static str) -> Errno {
    Errno { call, errno: Number::EPERM }
}
