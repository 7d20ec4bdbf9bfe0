//! What init does to itself and to its namespaces before it says that the jail is ready.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno as Number;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, chdir, setgroups, setresgid, setresuid};

use crate::jail::capability_error;
use crate::plan::tree::Ecosystem;
use crate::plan::{CERTIFICATES, Identity, Jail, PROGRAM_ID, USUAL_CERTIFICATES};
use crate::sys::{Call, Errno, namespace, seccomp};

/// Files of `/proc` that tell of the host, or whose writing would reach it; covered in every sandbox.
const MASKED_FILES: [&str; 20] = [
    "buddyinfo",
    "cmdline",
    "config.gz",
    "consoles",
    "diskstats",
    "interrupts",
    "iomem",
    "kallsyms",
    "kcore",
    "keys",
    "key-users",
    "locks",
    "modules",
    "partitions",
    "schedstat",
    "softirqs",
    "sysrq-trigger",
    "timer_list",
    "vmstat",
    "zoneinfo",
];
/// The same for directories.
const MASKED_DIRECTORIES: [&str; 7] = ["acpi", "bus", "driver", "fs", "irq", "pressure", "scsi"];
/// A directory of every template with nothing in it.
const EMPTY: &str = "/var/tmp";

pub(super) fn become_root(identity: Identity) -> Result<(), Errno> {
    let (uid, gid) = match identity {
        Identity::Own { .. } => (Uid::from_raw(0), Gid::from_raw(0)),
        Identity::Shared => (Uid::from_raw(PROGRAM_ID), Gid::from_raw(PROGRAM_ID)),
    };
    if matches!(identity, Identity::Own { .. }) {
        setgroups(&[]).call("setgroups")?;
    }
    setresgid(gid, gid, gid).call("setresgid")?;
    setresuid(uid, uid, uid).call("setresuid")?;
    chdir("/").call("chdir")
}

const NOTHING: Option<&str> = None;

pub(super) fn mount_proc() -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // The program sees its own processes only: not even that init is there.
    mount(Some("proc"), "/proc", Some("proc"), flags, Some("hidepid=invisible")).call("mount")
}

pub(super) fn mask_proc() -> Result<(), Errno> {
    let files = MASKED_FILES.iter().map(|name| ("/dev/null", name));
    let directories = MASKED_DIRECTORIES.iter().map(|name| (EMPTY, name));
    for (cover, name) in files.chain(directories) {
        match mount(Some(cover), format!("/proc/{name}").as_str(), NOTHING, MsFlags::MS_BIND, NOTHING) {
            // A kernel that was built without it has nothing to cover.
            Ok(()) | Err(Number::ENOENT) => {}
            Err(errno) => return Err(Errno { call: "mount", errno }),
        }
    }
    // Readable, because programs ask it for limits of the kernel, but never writable.
    mount(Some("/proc/sys"), "/proc/sys", NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING).call("mount")?;
    namespace::set_mount_attributes(c"/proc/sys", libc::MOUNT_ATTR_RDONLY)
}

/// Puts certificates in the place of the usual ones, for this sandbox alone. They take nothing of what the program
/// may write.
pub(super) fn mount_certificates(pem: &[u8]) -> Result<(), Errno> {
    const FILE: &str = "/tmp/certificates";
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=0755,size={},nr_inodes=4", pem.len() + (64 << 10));
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), flags, Some(options.as_str())).call("mount")?;
    std::fs::write(FILE, pem).call("write")?;
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o444);
    std::fs::set_permissions(FILE, readable).call("chmod")?;
    // Before they are copied: a bind is as its source is.
    namespace::set_mount_attributes(c"/tmp", libc::MOUNT_ATTR_RDONLY)?;
    mount(Some(FILE), CERTIFICATES, NOTHING, MsFlags::MS_BIND, NOTHING).call("mount")?;
    match mount(Some(FILE), USUAL_CERTIFICATES, NOTHING, MsFlags::MS_BIND, NOTHING) {
        // Programs of this runtime do not look there.
        Ok(()) | Err(Number::ENOENT | Number::ENOTDIR) => {}
        Err(errno) => return Err(Errno { call: "mount", errno }),
    }
    umount2("/tmp", MntFlags::MNT_DETACH).call("umount2")
}

/// One tmpfs for everything that the program can write, so that there is one limit.
pub(super) fn mount_scratch(jail: &Jail) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=0755,size={},nr_inodes={}", jail.disk_bytes, jail.disk_files);
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), flags, Some(options.as_str())).call("mount")?;
    let owner = std::os::unix::fs::chown::<&str>;
    for (directory, mode) in [("/tmp/workspace", 0o700), ("/tmp/tmp", 0o1777), ("/tmp/shm", 0o1777)] {
        std::fs::create_dir(directory).call("mkdir")?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(directory, mode).call("chmod")?;
        owner(directory, Some(PROGRAM_ID), Some(PROGRAM_ID)).call("chown")?;
    }
    for (from, to) in [("/tmp/workspace", "/workspace"), ("/tmp/shm", "/dev/shm"), ("/tmp/tmp", "/tmp")] {
        mount(Some(from), to, NOTHING, MsFlags::MS_BIND, NOTHING).call("mount")?;
    }
    Ok(())
}

/// What it takes to put a sandbox back to how it began.
#[derive(Debug)]
pub(super) struct Renewal {
    jail: Jail,
    /// Where the number of the last process is kept; pid_namespaces(7). What covers `/proc/sys` makes it read-only for
    /// whoever opens it later.
    last_pid: File,
    /// The sockets of the network namespace, afresh whenever it is read from its beginning.
    sockets: File,
}

impl Renewal {
    /// Before `/proc` is masked. Nothing where the jail needs none, and on a kernel without CONFIG_CHECKPOINT_RESTORE,
    /// on which a program would learn by its number how many there have been.
    pub(super) fn prepare(jail: &Jail) -> Result<Option<Self>, Errno> {
        if !jail.renewable {
            return Ok(None);
        }
        let last_pid = match File::options().write(true).open("/proc/sys/kernel/ns_last_pid") {
            Ok(last_pid) => last_pid,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).call("open"),
        };
        let sockets = File::open("/proc/self/net/unix").call("open")?;
        Ok(Some(Self { jail: jail.clone(), last_pid, sockets }))
    }

    /// Lets go of everything that a program could have left, and makes it anew. Every process but init is dead, so an
    /// error that says that something is in use is one.
    pub(super) fn renew(&mut self) -> Result<(), Errno> {
        self.expect_no_socket()?;
        for place in ["/tmp", "/dev/shm", "/workspace", "/tmp"] {
            umount2(place, MntFlags::UMOUNT_NOFOLLOW).call("umount2")?;
        }
        mount_scratch(&self.jail)?;
        // Shared memory, semaphores and queues outlive processes, but not their namespace.
        unshare(CloneFlags::CLONE_NEWIPC).call("unshare")?;
        // The next program is process 2 again.
        self.last_pid.rewind().and_then(|()| self.last_pid.write_all(b"1")).call("write")
    }

    /// One that was sent and never received outlives its process, name and all, until the kernel finds out (unix(7));
    /// and what it holds open with it.
    fn expect_no_socket(&mut self) -> Result<(), Errno> {
        // The first line names the columns; the next is short enough for the same page.
        const ENOUGH: u64 = 1024;
        let mut listed = Vec::new();
        let read = self.sockets.rewind().and_then(|()| (&self.sockets).take(ENOUGH).read_to_end(&mut listed));
        read.call("read")?;
        match listed.iter().filter(|byte| **byte == b'\n').count() {
            1 => Ok(()),
            _ => Err(Errno { call: "read", errno: Number::EBUSY }),
        }
    }
}

/// Mounts a tree, which comes sealed and attached to nothing, where programs look for it.
pub(super) fn mount_tree(ecosystem: Ecosystem, tree: &OwnedFd) -> Result<(), Errno> {
    let place = CString::new(ecosystem.place()).expect("a fixed path");
    crate::sys::mount::attach(tree.as_fd(), &place)
}

/// Keeps what init needs to kill, read, write and watch inside its own sandbox, for good, and to make its mounts anew
/// where it is renewable.
pub(super) fn confine(renewable: bool) -> Result<(), Errno> {
    let mut kept: CapsHashSet = [
        Capability::CAP_KILL,
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_SYS_PTRACE, // to see processes in a proc that hides them; it attaches to none
    ]
    .into_iter()
    .collect();
    if renewable {
        kept.insert(Capability::CAP_SYS_ADMIN);
    }
    for capability in caps::all() {
        let there = caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false);
        if there && !kept.contains(&capability) {
            caps::drop(None, CapSet::Bounding, capability).map_err(capability_error)?;
        }
    }
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(capability_error)?;
    caps::set(None, CapSet::Effective, &kept).map_err(capability_error)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(capability_error)?;
    seccomp::no_new_privileges()?;
    prctl::set_dumpable(false).call("prctl")?;
    // After the changes of credentials, each of which resets it.
    prctl::set_pdeathsig(Signal::SIGKILL).call("prctl")
}
