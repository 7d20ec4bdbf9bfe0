//! The launcher's namespaces, and jails in them, for tests that really mount.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::mount::{MsFlags, mount};
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Uid, pipe2, setgroups, setresgid, setresuid};

use crate::jail::init::workspace as jail_workspace;
use crate::jail::template;
use crate::launcher::workspace::{Done, Quota, SnapshotId, WorkspaceId, Workspaces};
use crate::plan::{Bind, PROGRAM_ID, Template};
use crate::sys::namespace;
use crate::sys::process::{self, Child, Side};

const INSIDE: &str = "CODESANDBOX_TEST_INSIDE";
/// As the launcher's default range.
const FIRST_ID: u32 = 1_879_048_192;

pub(super) const MIB: u64 = 1 << 20;
pub(super) const QUOTA: Quota = Quota { disk_bytes: 64 * MIB, disk_files: 20_000 };

/// Whether sandboxes have ids of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ids {
    Own,
    Shared,
}

/// Runs a test as root of a user namespace and process 1 of a pid namespace, single-threaded: in a process
/// of its own, because the other tests of this one run in threads.
pub(super) fn in_launcher(test: &str, ids: Ids, body: impl FnOnce(&mut Ground)) {
    if ids == Ids::Own && !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED {test}: only root can map a range of ids here");
        return;
    }
    if std::env::var_os(INSIDE).is_some() {
        return enter(test, ids, body);
    }
    let name = format!("launcher::workspace::tests::{test}");
    let output = Command::new("/proc/self/exe")
        .args(["--exact", name.as_str(), "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    eprintln!("{text}");
    assert!(output.status.success() && text.contains("1 passed"), "{}", output.status);
}

fn enter(test: &str, ids: Ids, body: impl FnOnce(&mut Ground)) {
    let (go, gate) = pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    prctl::set_dumpable(true).unwrap();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    let namespaces = CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID;
    let child = match process::clone(namespaces, None) {
        Ok(Side::Parent(child)) => child,
        Ok(Side::Child) => {
            drop(gate);
            File::from(go).read_exact(&mut [0]).unwrap();
            prctl::set_pdeathsig(Signal::SIGKILL).unwrap();
            let passed = catch_unwind(AssertUnwindSafe(|| body(&mut Ground::new(ids)))).is_ok();
            process::leave(i32::from(!passed));
        }
        Err(error) => {
            eprintln!("SKIPPED {test}: no user namespaces here: {error}");
            return;
        }
    };
    let put = |file: &str, text: String| fs::write(format!("/proc/{}/{file}", child.pid), text).unwrap();
    match ids {
        Ids::Own => {
            put("uid_map", format!("0 {FIRST_ID} 65536\n"));
            put("gid_map", format!("0 {FIRST_ID} 65536\n"));
        }
        Ids::Shared => {
            put("setgroups", "deny".to_owned());
            put("uid_map", format!("0 {uid} 1\n"));
            put("gid_map", format!("0 {gid} 1\n"));
        }
    }
    File::from(gate).write_all(b"!").unwrap();
    assert_eq!(waitpid(child.pid, None).unwrap(), WaitStatus::Exited(child.pid, 0));
}

pub(super) struct Ground {
    pub(super) workspaces: Workspaces,
    ids: Ids,
    template: OwnedFd,
    home: OwnedFd,
}

/// A jail that lives; its body reads from one pipe and writes to another.
pub(super) struct Live {
    workspace: WorkspaceId,
    child: Child,
    pub(super) to: File,
    pub(super) from: File,
}

impl Ground {
    fn new(ids: Ids) -> Self {
        if ids == Ids::Own {
            setgroups(&[]).unwrap();
        }
        become_user(0);
        // The launcher executes itself at this point.
        prctl::set_dumpable(true).unwrap();
        let nothing: Option<&str> = None;
        mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_SLAVE, nothing).unwrap();
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
        mount(Some("proc"), "/proc", Some("proc"), flags, nothing).unwrap();
        let template = template::build(&plan()).unwrap();
        let home = File::open("/proc/self/ns/mnt").unwrap().into();
        Self { workspaces: Workspaces::new(ids == Ids::Own), ids, template, home }
    }

    /// Starts a jail on a workspace. The body runs as the program, after init's mounts.
    pub(super) fn start(&mut self, workspace: WorkspaceId, body: impl FnOnce(&mut File, &mut File)) -> Live {
        let mounts = self.workspaces.mounts(workspace).unwrap();
        let pipe = || pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        let ((mapped, tell_mapped), (input, to), (from, output)) = (pipe(), pipe(), pipe());
        let (ready, tell_ready) = pipe();
        let namespaces =
            CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC;
        namespace::join(self.template.as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
        let side = process::clone(namespaces, None).unwrap();
        let child = match side {
            Side::Parent(child) => child,
            Side::Child => {
                drop((tell_mapped, to, from, ready));
                let done = catch_unwind(AssertUnwindSafe(|| {
                    File::from(mapped).read_exact(&mut [0]).unwrap();
                    become_user(if self.ids == Ids::Own { 0 } else { PROGRAM_ID });
                    jail_workspace::mount(&mounts.stores, &mounts.overlay).unwrap();
                    jail_workspace::mount_terminals().unwrap();
                    drop(mounts);
                    File::from(tell_ready).write_all(b"!").unwrap();
                    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
                    let nothing: Option<&str> = None;
                    mount(Some("proc"), "/proc", Some("proc"), flags, nothing).unwrap();
                    become_user(PROGRAM_ID);
                    for set in [caps::CapSet::Effective, caps::CapSet::Permitted, caps::CapSet::Inheritable] {
                        caps::set(None, set, &caps::CapsHashSet::new()).unwrap();
                    }
                    std::env::set_current_dir("/workspace").unwrap();
                    body(&mut File::from(input), &mut File::from(output));
                }));
                process::leave(i32::from(done.is_err()));
            }
        };
        namespace::join(self.home.as_fd(), CloneFlags::CLONE_NEWNS).unwrap();
        let map = match self.ids {
            Ids::Own => format!("0 5000 1\n{PROGRAM_ID} 5001 1\n"),
            Ids::Shared => format!("{PROGRAM_ID} 0 1\n"),
        };
        for file in ["uid_map", "gid_map"] {
            fs::write(format!("/proc/{}/{file}", child.pid), &map).unwrap();
        }
        if self.ids == Ids::Own {
            let users = File::open(format!("/proc/{}/ns/user", child.pid)).unwrap();
            mounts.map_ids(users.as_fd()).unwrap();
        }
        drop((mapped, input, output, tell_ready));
        File::from(tell_mapped).write_all(b"!").unwrap();
        // Where it fails to mount, it is the end of it that tells.
        File::from(ready).read_exact(&mut [0]).ok();
        self.workspaces.mounted(workspace);
        Live { workspace, child, to: to.into(), from: from.into() }
    }

    /// Lets a jail come to its end, and returns the rest of what it says.
    pub(super) fn end(&mut self, live: Live) -> Vec<u8> {
        let Live { workspace, child, to, mut from } = live;
        drop(to);
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        assert_eq!(waitpid(child.pid, None).unwrap(), WaitStatus::Exited(child.pid, 0), "what runs in the jail failed");
        self.workspaces.released(workspace);
        bytes
    }

    /// Runs something in a jail of its own.
    pub(super) fn run(&mut self, workspace: WorkspaceId, body: impl FnOnce()) {
        let live = self.start(workspace, |_, _| body());
        self.end(live);
    }

    /// Runs a shell in a jail of its own, and returns what it prints.
    pub(super) fn shell(&mut self, workspace: WorkspaceId, script: &str) -> String {
        let live = self.start(workspace, |_, output| {
            let printed = Command::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin").output().unwrap();
            output.write_all(&printed.stdout).unwrap();
            output.write_all(&printed.stderr).unwrap();
        });
        String::from_utf8(self.end(live)).unwrap()
    }

    /// What a program sees in `/workspace`.
    pub(super) fn view(&mut self, workspace: WorkspaceId) -> View {
        let live =
            self.start(workspace, |_, output| output.write_all(&postcard::to_allocvec(&look()).unwrap()).unwrap());
        postcard::from_bytes(&self.end(live)).unwrap()
    }

    /// Has all background work done.
    pub(super) fn settle(&mut self) {
        while let Some(worker) = self.workspaces.background().unwrap() {
            match self.workspaces.finish(worker) {
                Done::Merged(Ok(())) | Done::Swept(Ok(())) => {}
                done => panic!("{done:?}"),
            }
        }
    }
}

/// What is at each path, in words.
pub(super) type View = BTreeMap<Vec<u8>, String>;

pub(super) fn look() -> View {
    let mut view = View::new();
    let mut pending = vec![PathBuf::from(".")];
    while let Some(path) = pending.pop() {
        let status = fs::symlink_metadata(&path).unwrap();
        assert_eq!((status.uid(), status.gid()), (PROGRAM_ID, PROGRAM_ID), "{}", path.display());
        let mode = status.permissions().mode() & 0o7777;
        let text = if status.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            format!("directory {mode:o}")
        } else if status.is_symlink() {
            format!("link {}", fs::read_link(&path).unwrap().display())
        } else if status.is_file() {
            let bytes = fs::read(&path).unwrap();
            format!("file {mode:o} {} {:?}", bytes.len(), String::from_utf8_lossy(bytes.get(..40).unwrap_or(&bytes)))
        } else {
            format!("other {mode:o}")
        };
        view.insert(path.as_os_str().as_bytes().to_vec(), text);
    }
    view
}

pub(super) fn become_user(id: u32) {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    setresgid(gid, gid, gid).unwrap();
    setresuid(uid, uid, uid).unwrap();
}

pub(super) fn id(number: u8) -> SnapshotId {
    SnapshotId(number.into())
}

/// A system with a shell, and a place for terminals.
fn plan() -> Template {
    let (mut binds, mut links) = (Vec::new(), Vec::new());
    for name in ["bin", "lib", "lib64", "usr"] {
        let path = Path::new("/").join(name);
        match fs::read_link(&path) {
            Ok(text) => links.push((path, text)),
            Err(_) if path.exists() => binds.push(Bind { source: path.clone(), target: path }),
            Err(_) => {}
        }
    }
    Template { binds, links, files: Vec::new(), directories: Vec::new(), real: None }
}
