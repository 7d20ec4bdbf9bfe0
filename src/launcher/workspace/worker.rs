//! A child of the launcher that copies, merges or removes files of one store while the launcher goes on.
//!
//! It has the store as its root and keeps what it takes to read and write files of other owners there. What it
//! makes has a name that nobody uses until, at the very end, one rename gives it its own: whenever it
//! dies, what was there before is still there.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{chdir, chroot, fchdir, pipe2};

use super::stack::{Layer, SnapshotId, WorkspaceId};
use crate::plan::tree::TreeKey;
use crate::sys::process::{self, Child, Side};
use crate::sys::{Call, Errno, Result, fs, seccomp};

/// Work that goes on in a child. Its descriptor is readable when it is over; then it is to be given to
/// [`super::Workspaces::finish`].
#[derive(Debug)]
pub(in crate::launcher) struct Worker {
    child: Child,
    report: OwnedFd,
    pub(super) work: Work,
}

/// What a worker does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Copy { workspace: WorkspaceId, snapshot: SnapshotId, made: Layer },
    Merge { made: Layer },
    Sweep { store: WorkspaceId },
    Tree(TreeKey),
}

impl AsFd for Worker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.child.pidfd.as_fd()
    }
}

impl Worker {
    /// Starts a child with this store as its root. The caller must be single-threaded.
    pub(super) fn start(store: BorrowedFd<'_>, work: Work, task: impl FnOnce(&OwnedFd) -> Result<u64>) -> Result<Self> {
        Self::start_with(store, None, work, task)
    }

    /// The same, where the task reads from a descriptor.
    pub(super) fn start_with(
        store: BorrowedFd<'_>,
        source: Option<BorrowedFd<'_>>,
        work: Work,
        task: impl FnOnce(&OwnedFd) -> Result<u64>,
    ) -> Result<Self> {
        let (report, told) = pipe2(OFlag::O_CLOEXEC).call("pipe2")?;
        match process::clone(CloneFlags::empty(), None)? {
            Side::Parent(child) => Ok(Self { child, report, work }),
            Side::Child => {
                // A panic must not unwind into what would go on as a second launcher.
                let done = catch_unwind(AssertUnwindSafe(|| {
                    let kept: Vec<BorrowedFd<'_>> = [store, told.as_fd()].into_iter().chain(source).collect();
                    process::close_all_but(&kept)?;
                    let root = confine(store)?;
                    let count = task(&root)?;
                    // A report of eight bytes fits every pipe.
                    File::from(told).write_all(&count.to_ne_bytes()).call("write")
                }));
                process::leave(match done {
                    Ok(Ok(())) => 0,
                    Ok(Err(error)) => error.errno as i32,
                    Err(_) => libc::EIO,
                })
            }
        }
    }

    /// Gives it up: it is as if it had never begun. It is still to be given to [`super::Workspaces::finish`].
    pub(in crate::launcher) fn kill(&self) {
        // The only error is that it is dead already.
        process::signal(self.child.pidfd.as_fd(), Signal::SIGKILL).ok();
    }

    /// Waits for its end, and returns how many entries it made or removed.
    pub(super) fn end(self) -> Result<u64> {
        let status = loop {
            match waitpid(self.child.pid, None) {
                Err(Number::EINTR) => {}
                other => break other.call("waitpid")?,
            }
        };
        match status {
            WaitStatus::Exited(_, 0) => {
                let mut count = [0; 8];
                File::from(self.report).read_exact(&mut count).call("read")?;
                Ok(u64::from_ne_bytes(count))
            }
            WaitStatus::Exited(_, errno) => Err(Errno { call: "worker", errno: Number::from_raw(errno) }),
            _ => Err(Errno { call: "worker", errno: Number::EINTR }),
        }
    }
}

/// Leaves everything behind but the store, and returns its root.
fn confine(store: BorrowedFd<'_>) -> Result<OwnedFd> {
    fchdir(store).call("fchdir")?;
    chroot(c".").call("chroot")?;
    chdir(c"/").call("chdir")?;
    // Modes are set as they are to be.
    umask(Mode::empty());
    // Files belong to the program, and may be closed to everybody.
    let kept: CapsHashSet =
        [Capability::CAP_CHOWN, Capability::CAP_DAC_OVERRIDE, Capability::CAP_FOWNER, Capability::CAP_MKNOD]
            .into_iter()
            .collect();
    let error = |_| Errno { call: "capset", errno: Number::last() };
    for capability in caps::all() {
        let there = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if there && !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(error)?;
        }
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(error)?;
    caps::set(None, CapSet::Effective, &kept).map_err(error)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(error)?;
    seccomp::no_new_privileges()?;
    prctl::set_dumpable(false).call("prctl")?;
    // After the changes of credentials, each of which resets it.
    prctl::set_pdeathsig(Signal::SIGKILL).call("prctl")?;
    fs::open_directory(Path::new("/"))
}
