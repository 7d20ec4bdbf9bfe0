//! Kernel features, each really tried: in a process of its own, which is single-threaded as clone3
//! demands, and may lose its namespaces and its privileges.

use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitCode};

use landlock::{ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError, Scope};
use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, getegid, geteuid, pause};

use crate::sys::process::{Child, Side, clone, leave};
use crate::sys::{Call, Errno, Result, fs, namespace, process, seccomp};

/// First argument of a process that tries one feature.
pub(crate) const COMMAND: &str = "doctor-probe";

/// A feature that can be tried.
type Probe = fn() -> Trial;

/// Details, or what failed; `None` where a child has said so on standard error already.
type Trial = std::result::Result<String, Option<Errno>>;

/// Every feature by name, and what tries it.
const PROBES: &[(&str, Probe)] = &[
    ("clone3", || in_child(CloneFlags::empty(), |_| Ok(()))),
    ("user-namespace", || in_child(CloneFlags::CLONE_NEWUSER, become_root)),
    ("mount-namespace", || in_user_namespace(CloneFlags::CLONE_NEWNS)),
    ("pid-namespace", || in_user_namespace(CloneFlags::CLONE_NEWPID)),
    ("ipc-namespace", || in_user_namespace(CloneFlags::CLONE_NEWIPC)),
    ("uts-namespace", || in_user_namespace(CloneFlags::CLONE_NEWUTS)),
    ("net-namespace", || in_user_namespace(CloneFlags::CLONE_NEWNET)),
    ("cgroup-namespace", || in_user_namespace(CloneFlags::CLONE_NEWCGROUP)),
    ("pidfd", join_by_pidfd),
    ("proc", || in_child(jail_namespaces(), mount_proc)),
    ("tmpfs", || in_child(jail_namespaces(), mount_tmpfs)),
    ("mount_setattr", || in_child(jail_namespaces(), make_read_only)),
    ("openat2", open_beneath),
    ("close_range", || in_child(CloneFlags::empty(), |_| process::close_all_but(&[]))),
    ("memfd", seal_memory),
    ("seccomp", filter),
    ("landlock", landlock_level),
];

/// What a probe found: details, or why the feature is missing.
pub(super) type Finding = std::result::Result<String, String>;

/// Tries a feature in a process of its own.
pub(super) fn try_feature(name: &str) -> Finding {
    let output = std::env::current_exe()
        .and_then(|program| Command::new(program).arg(COMMAND).arg(name).output())
        .map_err(|error| format!("could not be tried: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(if why.is_empty() { format!("the trial ended with {}", output.status) } else { why })
}

/// Of the process that tries a feature: the name of which is its only argument.
pub(crate) fn main(mut arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let name = arguments.next().unwrap_or_default();
    let Some((_, probe)) = PROBES.iter().find(|(known, _)| name == *known) else {
        eprintln!("no feature is called {name:?}");
        return ExitCode::FAILURE;
    };
    match probe() {
        Ok(details) => {
            println!("{details}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            if let Some(error) = error {
                eprintln!("{error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn jail_namespaces() -> CloneFlags {
    CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID
}

fn in_user_namespace(other: CloneFlags) -> Trial {
    in_child(CloneFlags::CLONE_NEWUSER | other, become_root)
}

/// Ids of the process that makes the namespaces: inside, before they are mapped, nobody knows them.
#[derive(Clone, Copy)]
struct Ids {
    user: Uid,
    group: Gid,
}

/// Runs `work` in a child with new namespaces.
fn in_child(namespaces: CloneFlags, work: fn(Ids) -> Result<()>) -> Trial {
    let child = start(namespaces, work)?;
    match waitpid(child.pid, None).call("waitpid")? {
        WaitStatus::Exited(_, 0) => Ok(String::new()),
        _ => Err(None),
    }
}

fn start(namespaces: CloneFlags, work: fn(Ids) -> Result<()>) -> Result<Child> {
    let ids = Ids { user: geteuid(), group: getegid() };
    match clone(namespaces, None)? {
        Side::Parent(child) => Ok(child),
        Side::Child => match work(ids) {
            Ok(()) => leave(0),
            Err(error) => {
                eprintln!("{error}");
                leave(1)
            }
        },
    }
}

/// Makes the process root in its new user namespace, which user_namespaces(7) allows for its own id.
fn become_root(ids: Ids) -> Result<()> {
    std::fs::write("/proc/self/uid_map", format!("0 {} 1", ids.user)).call("write to uid_map")?;
    // An unprivileged process may write its gid_map only once it can't use setgroups to shed a group.
    std::fs::write("/proc/self/setgroups", "deny").call("write to setgroups")?;
    std::fs::write("/proc/self/gid_map", format!("0 {} 1", ids.group)).call("write to gid_map")
}

/// Namespaces of another process, joined all at once by its descriptor.
fn join_by_pidfd() -> Trial {
    let sleeper = start(jail_namespaces(), |ids| {
        become_root(ids)?;
        pause();
        Ok(())
    })?;
    let which = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS;
    let joined = namespace::join(sleeper.pidfd.as_fd(), which);
    process::signal(sleeper.pidfd.as_fd(), Signal::SIGKILL)?;
    waitpid(sleeper.pid, None).call("waitpid")?;
    joined?;
    Ok(String::new())
}

const NO_DATA: Option<&str> = None;

/// From inside the new pid namespace: fails with EPERM where the host's own /proc is partly masked.
fn mount_proc(ids: Ids) -> Result<()> {
    become_root(ids)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NO_DATA).call("mount of proc")
}

fn mount_tmpfs(ids: Ids) -> Result<()> {
    become_root(ids)?;
    mount(Some("tmpfs"), "/tmp", Some("tmpfs"), MsFlags::MS_NOSUID, Some("size=64k")).call("mount of tmpfs")
}

fn make_read_only(ids: Ids) -> Result<()> {
    mount_tmpfs(ids)?;
    namespace::set_mount_attributes(c"/tmp", libc::MOUNT_ATTR_RDONLY)?;
    match std::fs::write("/tmp/x", "") {
        Err(error) if error.raw_os_error() == Some(libc::EROFS) => Ok(()),
        _ => Err(Errno { call: "mount_setattr without effect", errno: Number::EINVAL }),
    }
}

fn open_beneath() -> Trial {
    let directory = File::open("/proc/self").call("open")?;
    fs::open_beneath(directory.as_fd(), Path::new("status"), OFlag::O_RDONLY, Mode::empty())?;
    match fs::open_beneath(directory.as_fd(), Path::new("fd/../../version"), OFlag::O_RDONLY, Mode::empty()) {
        Err(Errno { errno: Number::EXDEV, .. }) => Ok(String::new()),
        _ => Err(Some(Errno { call: "openat2 left its directory", errno: Number::EINVAL })),
    }
}

fn seal_memory() -> Trial {
    let sealed = fs::sealed_memory(c"codesandbox-doctor", b"x")?;
    match nix::unistd::write(&sealed, b"y") {
        Err(Number::EPERM) => Ok(String::new()),
        _ => Err(Some(Errno { call: "memfd_create without seals", errno: Number::EINVAL })),
    }
}

/// A filter that allows everything, with the descriptor on which held calls are told.
fn filter() -> Trial {
    const RETURN: u16 = 0x06;
    let allow_all = [seccomp::Instruction { code: RETURN, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW }];
    seccomp::no_new_privileges()?;
    seccomp::install(&allow_all)?;
    let path = "/proc/sys/kernel/seccomp/actions_avail";
    let actions = std::fs::read_to_string(path).call("read of actions_avail")?;
    if !actions.split_ascii_whitespace().any(|action| action == "user_notif") {
        return Err(Some(Errno { call: "seccomp with user notification", errno: Number::EOPNOTSUPP }));
    }
    Ok("with user notification".to_owned())
}

/// The newest version of the interface that is wholly there.
fn landlock_level() -> Trial {
    let levels = [ABI::V1, ABI::V2, ABI::V3, ABI::V4, ABI::V5, ABI::V6];
    let newest = levels.into_iter().take_while(|level| has_landlock(*level).is_ok()).last();
    let newest = newest.ok_or(Errno { call: "landlock_create_ruleset", errno: Number::EOPNOTSUPP })?;
    Ok(format!("version {}", newest as i32))
}

fn has_landlock(level: ABI) -> std::result::Result<(), RulesetError> {
    let ruleset =
        Ruleset::default().set_compatibility(CompatLevel::HardRequirement).handle_access(AccessFs::from_all(level))?;
    let ruleset = if level >= ABI::V4 { ruleset.handle_access(AccessNet::from_all(level))? } else { ruleset };
    let ruleset = if level >= ABI::V6 { ruleset.scope(Scope::from_all(level))? } else { ruleset };
    ruleset.create().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let mut names: Vec<&str> = PROBES.iter().map(|(name, _)| *name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), PROBES.len());
    }

    #[test]
    fn every_feature_that_is_wanted_can_be_tried() {
        for feature in super::super::kernel::FEATURES {
            assert!(PROBES.iter().any(|(name, _)| *name == feature.name), "{}", feature.name);
        }
        assert_eq!(super::super::kernel::FEATURES.len(), PROBES.len());
    }
}
