//! From whoever started the launcher to a process that holds no privilege over the host.
//!
//! The process that was started (the *stub*) makes a child in new user, mount and pid namespaces,
//! writes its id maps, drops everything that it holds, and waits. The child executes the launcher
//! anew, so that its memory belongs to the new user namespace too; it is root there, and nobody
//! outside. It is process 1 of its pid namespace: when it dies, every sandbox dies.

use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use caps::{CapSet, Capability, CapsHashSet};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl, open};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::SignalFd;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};
use serde::{Deserialize, Serialize};

use super::grant::{GRANT_BYTES, Grant};
use super::{Arguments, Delegation, During, LauncherError, cgroup, ids};
use crate::config::{self, Config};
use crate::runtime::Catalogue;
use crate::sys::process::{self, ExitStatus, Side};
use crate::sys::{Call, fs as sys_fs};

/// What the launcher can do about user ids, for whoever runs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Footing {
    /// Root: it maps a range that nobody else uses, and is not even itself inside.
    Root,
    /// A user with CAP_SETUID and CAP_SETGID and a subordinate range; subuid(5).
    Capable(Range),
    /// A user with a subordinate range, for whom newuidmap(1) writes the maps.
    Helped(Range),
    /// A user with nothing but itself: all its sandboxes share one id.
    Single,
}

/// A subordinate range of user ids and one of group ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    uid: u32,
    gid: u32,
    count: u32,
}

/// What this process can do about user ids.
#[must_use]
pub fn footing() -> Footing {
    if nix::unistd::geteuid().is_root() && has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID) {
        return Footing::Root;
    }
    let (Some(uids), Some(gids)) = (subordinate("/etc/subuid"), subordinate("/etc/subgid")) else {
        return Footing::Single;
    };
    let range = Range { uid: uids.0, gid: gids.0, count: uids.1.min(gids.1) };
    if has(Capability::CAP_SETUID) && has(Capability::CAP_SETGID) {
        Footing::Capable(range)
    } else if tool("newuidmap").is_some() && tool("newgidmap").is_some() {
        Footing::Helped(range)
    } else {
        Footing::Single
    }
}

fn has(capability: Capability) -> bool {
    caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false)
}

/// First id and count of this user's range in a file of subuid(5).
fn subordinate(path: &str) -> Option<(u32, u32)> {
    let uid = nix::unistd::geteuid();
    let name = nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name);
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.trim().split(':');
        let (who, first, count) = (fields.next()?, fields.next()?, fields.next()?);
        let ours = Some(who) == name.as_deref() || who == uid.to_string();
        ours.then(|| Some((first.parse().ok()?, count.parse().ok()?))).flatten()
    })
}

fn tool(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/run/wrappers/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// What the launcher tells itself when it executes itself inside its namespaces.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settled {
    /// The socket to serve.
    pub(super) socket: RawFd,
    /// Whether the socket listens; else it is connected.
    pub(super) listening: bool,
    /// Memory file with the [`Texts`].
    pub(super) texts: RawFd,
    /// The delegated subtree, where there is one.
    pub(super) cgroup: Option<PathBuf>,
    /// Whether every sandbox has ids of its own.
    pub(super) own_ids: bool,
    /// Where the configuration was read.
    pub(super) config: Option<PathBuf>,
}

/// Files that were read while that was still allowed.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Texts {
    /// The configuration.
    pub(super) config: String,
    /// The manifest of store paths.
    pub(super) manifest: Option<String>,
    /// What the one who has started it gives it.
    pub(super) grant: Option<Grant>,
}

/// Settles and, in the stub, waits for the launcher to end.
pub(super) fn settle(arguments: &Arguments) -> Result<ExitCode, LauncherError> {
    let executable = open("/proc/self/exe", OFlag::O_PATH, Mode::empty()).call("open").during("find this program")?;
    let (mut texts, config) = read_texts(arguments.config.as_deref())?;
    texts.grant = arguments.grant_fd.map(take_grant).transpose()?;
    let (socket, listening) = find_socket(arguments)?;
    // Every sandbox takes a handful of descriptors; programs get a limit of their own.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).call("getrlimit").during("raise the limit of open files")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).call("setrlimit").during("raise the limit of open files")?;
    // Files that are made from here on are for the sandboxes' users to read.
    umask(Mode::from_bits_truncate(0o022));
    let ground = prepare(&config, texts.grant.is_some())?;
    let texts = postcard::to_allocvec(&texts).map_err(|_| LauncherError::Settled)?;
    let texts = sys_fs::sealed_memory(c"configuration", &texts).during("keep the configuration")?;
    let settled = Settled {
        socket: socket.as_raw_fd(),
        listening,
        texts: texts.as_raw_fd(),
        cgroup: ground.cgroup.clone(),
        own_ids: ground.footing != Footing::Single,
        config: arguments.config.as_deref().and_then(|path| std::path::absolute(path).ok()),
    };
    let (go, gate) = nix::unistd::pipe2(OFlag::O_CLOEXEC).call("pipe2").during("make a pipe")?;
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    // Before the child is there: process 1 of a pid namespace ignores what it has neither blocked
    // nor handles, so a signal that comes while it starts would be lost, and it would run for ever.
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stop_signals()), None).call("sigprocmask").during("block signals")?;
    // The maps are written through /proc, whose files belong to root while this is not set.
    prctl::set_dumpable(true).call("prctl").during("be visible to the id maps")?;
    match process::clone(namespaces, None).during("make the launcher's namespaces")? {
        Side::Child => {
            drop(gate);
            let result = enter(&ground, &settled, go, &[socket.as_fd(), texts.as_fd()], &executable);
            if let Err(error) = result {
                eprintln!("codesandbox-launcher: {error}");
            }
            process::leave(1);
        }
        Side::Parent(child) => {
            drop((go, socket, texts));
            write_maps(child.pid.as_raw(), &ground)?;
            File::from(gate).write_all(b"!").call("write").during("let the launcher go on")?;
            drop_everything(&ground)?;
            wait_for(&child)
        }
    }
}

fn take_grant(number: RawFd) -> Result<Grant, LauncherError> {
    let memory = process::inherited(number).during("take the grant")?;
    let bytes = sys_fs::read_whole(memory.as_fd(), GRANT_BYTES).during("take the grant")?;
    postcard::from_bytes(&bytes).map_err(|_| LauncherError::Settled)
}

fn read_texts(path: Option<&Path>) -> Result<(Texts, Config), LauncherError> {
    let text = path.map_or_else(|| Ok("{}".to_owned()), read)?;
    let config = parse(path, &text)?;
    Ok((Texts::of(path, text, &config)?, config))
}

pub(super) fn read(path: &Path) -> Result<String, LauncherError> {
    fs::read_to_string(path).map_err(|error| LauncherError::File { path: path.to_owned(), error })
}

pub(super) fn parse(path: Option<&Path>, text: &str) -> Result<Config, LauncherError> {
    Ok(Config::parse(text).map_err(|error| error.located(path, text))?)
}

impl Texts {
    /// The text of a configuration, and that of the manifest which it names.
    pub(super) fn of(path: Option<&Path>, text: String, config: &Config) -> Result<Self, LauncherError> {
        let manifest = config.manifest().map_err(|error| error.located(path, &text))?;
        Ok(Self { config: text, manifest, grant: None })
    }

    /// The runtimes that are there by them.
    pub(super) fn runtimes(&self, path: Option<&Path>, config: &Config) -> Result<Catalogue, LauncherError> {
        let found = config.catalogue(self.manifest.as_deref(), &|path| path.exists());
        Ok(found.map_err(|error| error.located(path, &self.config))?)
    }
}

fn find_socket(arguments: &Arguments) -> Result<(OwnedFd, bool), LauncherError> {
    if let Some(number) = arguments.socket_fd {
        return Ok((process::inherited(number).during("take the socket")?, false));
    }
    let handed_over = listenfd::ListenFd::from_env().take_raw_fd(0).ok().flatten();
    if let Some(number) = handed_over {
        return Ok((process::inherited(number).during("take the socket")?, true));
    }
    let Some(path) = &arguments.listen else {
        return Err(LauncherError::NoSocket);
    };
    Ok((crate::sys::socket::listen_seqpacket(path).during("listen")?, true))
}

/// What is decided before the namespaces are made.
struct Ground {
    footing: Footing,
    /// First host id and count, where it is a range.
    block: Option<ids::Block>,
    gids: u32,
    cgroup: Option<PathBuf>,
}

/// Under a grant the sandbox's user is the caller, whoever that is: files are to be the caller's.
fn prepare(config: &Config, granted: bool) -> Result<Ground, LauncherError> {
    let footing = if granted { Footing::Single } else { footing() };
    if granted && has(Capability::CAP_SETGID) {
        // Whoever can't drop them keeps them; the map would forbid it from there on.
        setgroups(&[]).call("setgroups").during("drop the caller's groups")?;
    }
    let needed = ids::needed(config.launcher.sandboxes);
    let config::Launcher { id_base, id_count, .. } = config.launcher;
    let (block, gids) = match footing {
        Footing::Root => (Some(ids::claim(id_base, id_count, needed)?), id_base),
        Footing::Capable(range) | Footing::Helped(range) => {
            (Some(ids::claim(range.uid, range.count, needed)?), range.gid.wrapping_sub(range.uid))
        }
        Footing::Single => (None, 0),
    };
    let gids = match (&footing, &block) {
        (Footing::Root, Some(block)) => block.first,
        (_, Some(block)) => block.first.wrapping_add(gids),
        (_, None) => 0,
    };
    let cgroup = match cgroup::delegation() {
        Delegation::Granted(root) => {
            let owner = block.as_ref().filter(|_| footing == Footing::Root).map(|block| block.first);
            cgroup::adopt(&root, owner).during("take over the delegated cgroup")?;
            Some(root)
        }
        Delegation::Absent(_) => None,
    };
    Ok(Ground { footing, block, gids, cgroup })
}

fn write_maps(pid: i32, ground: &Ground) -> Result<(), LauncherError> {
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let put = |file: &str, text: String| {
        fs::write(format!("/proc/{pid}/{file}"), text).call("write").during("write the launcher's id maps")
    };
    match (&ground.footing, &ground.block) {
        (Footing::Root, Some(block)) => {
            put("uid_map", format!("0 {} {}\n", block.first, block.count))?;
            put("gid_map", format!("0 {} {}\n", ground.gids, block.count))
        }
        (Footing::Capable(_), Some(block)) => {
            put("uid_map", format!("0 {uid} 1\n1 {} {}\n", block.first, block.count))?;
            put("gid_map", format!("0 {gid} 1\n1 {} {}\n", ground.gids, block.count))
        }
        (Footing::Helped(_), Some(block)) => {
            let helped = |name: &'static str, own: u32, first: u32| {
                let path = tool(name).ok_or(LauncherError::IdMapTool(name))?;
                let numbers = [pid.unsigned_abs(), 0, own, 1, 1, first, block.count].map(|number| number.to_string());
                let status = std::process::Command::new(path).args(numbers).status();
                match status {
                    Ok(status) if status.success() => Ok(()),
                    _ => Err(LauncherError::IdMapTool(name)),
                }
            };
            helped("newuidmap", uid.as_raw(), block.first)?;
            helped("newgidmap", gid.as_raw(), ground.gids)
        }
        _ => {
            put("setgroups", "deny".to_owned())?;
            put("uid_map", format!("0 {uid} 1\n"))?;
            put("gid_map", format!("0 {gid} 1\n"))
        }
    }
}

/// In the child: becomes root of the new namespaces and executes the launcher in them.
fn enter(
    ground: &Ground,
    settled: &Settled,
    go: OwnedFd,
    inherited: &[std::os::fd::BorrowedFd<'_>],
    executable: &OwnedFd,
) -> Result<(), LauncherError> {
    let during = "settle in the launcher's namespaces";
    let mut byte = [0];
    // End of file: the stub has failed and says why itself.
    if File::from(go).read(&mut byte).call("read").during(during)? == 0 {
        process::leave(1);
    }
    if ground.footing != Footing::Single {
        setgroups(&[]).call("setgroups").during(during)?;
    }
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).call("setresgid").during(during)?;
    setresuid(uid, uid, uid).call("setresuid").during(during)?;
    prctl::set_pdeathsig(Signal::SIGKILL).call("prctl").during(during)?;
    nix::unistd::setsid().call("setsid").during(during)?;
    let nothing: Option<&str> = None;
    // Not private: what the host mounts later, such as a new /etc, is to be seen here.
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).call("mount").during(during)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, nothing).call("mount").during(
        "mount /proc in the launcher's namespaces (a /proc that is partly covered forbids it: \
         ProtectProc=, ProtectKernelTunables= and ProcSubset= of its unit do that)",
    )?;
    let mut kept: Vec<_> = inherited.to_vec();
    kept.extend(ground.block.as_ref().map(|block| block.lock.as_fd()));
    for fd in &kept {
        fcntl(fd, FcntlArg::F_SETFD(FdFlag::empty())).call("fcntl").during(during)?;
    }
    let text = serde_json::to_string(settled).map_err(|_| LauncherError::Settled)?;
    let strings = |words: Vec<OsString>| -> Vec<CString> {
        words.into_iter().filter_map(|word| CString::new(word.into_vec()).ok()).collect()
    };
    let name = std::env::args_os().next().unwrap_or_default();
    let arguments = strings(vec![name, super::SUBCOMMAND.into(), "--settled".into(), text.into()]);
    // The launcher needs nothing of its environment, and whoever may look at it learns nothing.
    let environment = strings(vec!["PATH=/usr/bin:/bin".into(), "LANG=C.UTF-8".into()]);
    nix::unistd::fexecve(executable, &arguments, &environment).call("execveat").during(during)?;
    Ok(())
}

/// In the stub: nothing is left but waiting, so nothing is left to do it with.
fn drop_everything(ground: &Ground) -> Result<(), LauncherError> {
    let during = "drop the stub's privileges";
    if let (Footing::Root, Some(block)) = (&ground.footing, &ground.block) {
        let (uid, gid) = (Uid::from_raw(block.first), Gid::from_raw(block.first));
        setgroups(&[]).call("setgroups").during(during)?;
        setresgid(gid, gid, gid).call("setresgid").during(during)?;
        setresuid(uid, uid, uid).call("setresuid").during(during)?;
    }
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::new())
            .map_err(|_| crate::sys::Errno { call: "capset", errno: nix::errno::Errno::last() })
            .during(during)?;
    }
    crate::sys::seccomp::no_new_privileges().during(during)
}

/// Signals that ask the stub to stop; it passes them on. Blocked since before the child was made.
fn stop_signals() -> SigSet {
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect()
}

fn wait_for(child: &process::Child) -> Result<ExitCode, LauncherError> {
    let during = "wait for the launcher";
    let signals = SignalFd::new(&stop_signals()).call("signalfd").during(during)?;
    loop {
        let mut entries =
            [PollFd::new(child.pidfd.as_fd(), PollFlags::POLLIN), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut entries, PollTimeout::NONE) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).call("poll").during(during),
        }
        let [ended, told] = entries.map(|entry| entry.any().unwrap_or(false));
        if told && signals.read_signal().call("read").during(during)?.is_some() {
            process::signal(child.pidfd.as_fd(), Signal::SIGTERM).during(during)?;
        }
        if ended && let Some((_, exit)) = process::reap(child.pid).during(during)? {
            return Ok(match exit.status {
                ExitStatus::Exited(code) => u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from),
                ExitStatus::Signalled(_) => ExitCode::FAILURE,
            });
        }
    }
}
