//! Builds what every sandbox of one runtime sees, once, as a mount namespace whose root is that
//! and nothing else. A sandbox's own namespace is a copy of it, made by the kernel in one piece.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::CloneFlags;

use crate::plan::Template;
use crate::sys::process::{self, Side};
use crate::sys::{Call, Errno, Result, namespace};

mod real;

/// Directories that every sandbox has: mount points of init, and places that programs expect.
const DIRECTORIES: [&str; 11] =
    ["dev", "dev/pts", "dev/shm", "etc", "proc", "runtime", "runtime/bin", "tmp", "workspace", "var", "var/tmp"];
/// Devices that every sandbox has.
/// `/dev/tty` is whatever terminal the one who opens it has; tty(4).
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Links of `/dev`, as every Linux system has them.
const DEVICE_LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Where the new root is mounted while it is built: a directory that every host has and that no
/// template takes anything from.
const BUILDING_SITE: &str = "/sys";

/// Builds a template and returns the descriptor of its mount namespace, which keeps it alive.
///
/// The caller must be single-threaded and root in its own user namespace.
///
/// # Errors
/// The kernel call that failed, and on what path.
pub fn build(template: &Template) -> std::result::Result<OwnedFd, TemplateError> {
    let (ours, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).call("pipe2").map_err(TemplateError::from)?;
    let child = match process::clone(CloneFlags::CLONE_NEWNS, None).map_err(TemplateError::from)? {
        Side::Parent(child) => child,
        Side::Child => {
            let text = match assemble(template) {
                Ok(()) => String::new(),
                Err(error) => error.to_string(),
            };
            let mut pipe = File::from(theirs);
            // An empty line means success. Then wait to be killed: the namespace is taken from here.
            let told = pipe.write_all(format!("{text}\n").as_bytes());
            if told.is_ok() && text.is_empty() {
                nix::unistd::pause();
            }
            process::leave(1);
        }
    };
    drop(theirs);
    let answer = read_line(File::from(ours));
    let namespace = File::open(format!("/proc/{}/ns/mnt", child.pid)).call("open");
    process::signal(child.pidfd.as_fd(), nix::sys::signal::Signal::SIGKILL).map_err(TemplateError::from)?;
    nix::sys::wait::waitpid(child.pid, None).call("waitpid").map_err(TemplateError::from)?;
    match answer.as_deref() {
        Some("") => namespace.map(OwnedFd::from).map_err(TemplateError::from),
        Some(text) => Err(TemplateError(text.to_owned())),
        None => Err(TemplateError("the process that builds it died".to_owned())),
    }
}

/// A template that can't be built: which call failed, on which path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

impl From<Errno> for TemplateError {
    fn from(errno: Errno) -> Self {
        Self(errno.to_string())
    }
}

fn read_line(mut pipe: File) -> Option<String> {
    let mut text = String::new();
    let mut byte = [0];
    while text.len() < 4096 {
        match pipe.read(&mut byte) {
            Ok(1) if byte == *b"\n" => return Some(text),
            Ok(1) => text.push(char::from(byte[0])),
            _ => return None,
        }
    }
    None
}

fn assemble(template: &Template) -> std::result::Result<(), TemplateError> {
    let on = |path: &Path, errno: Errno| TemplateError(format!("{errno} ({})", path.display()));
    let root = Path::new(BUILDING_SITE);
    let nothing: Option<&Path> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing).call("mount")?;
    // A page for each small file; nothing is ever written to it again.
    mount(Some("tmpfs"), root, Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=0755,size=16m"))
        .call("mount")
        .map_err(|errno| on(root, errno))?;
    for directory in DIRECTORIES {
        make_directory(&root.join(directory)).map_err(|errno| on(Path::new(directory), errno))?;
    }
    for directory in &template.directories {
        make_directory(&inside(root, directory)).map_err(|errno| on(directory, errno))?;
    }
    for bind in &template.binds {
        bind_path(&bind.source, &inside(root, &bind.target)).map_err(|errno| on(&bind.source, errno))?;
    }
    for (path, text) in &template.links {
        let path = inside(root, path);
        make_parent(&path).and_then(|()| symlink(text, &path).call("symlink")).map_err(|errno| on(&path, errno))?;
    }
    for (path, content) in &template.files {
        let path = inside(root, path);
        make_parent(&path)
            .and_then(|()| fs::write(&path, content).call("write"))
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).call("chmod"))
            .map_err(|errno| on(&path, errno))?;
    }
    for device in DEVICES {
        File::create(root.join("dev").join(device)).call("open").map_err(|errno| on(Path::new(device), errno))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlink(target, root.join("dev").join(name)).call("symlink").map_err(|errno| on(Path::new(name), errno))?;
    }
    if let Some(real) = &template.real {
        real::make_places(root, real)?;
    }
    // Read-only, without set-user-id programs and devices, down to the last mount, before the few
    // devices are added that must work.
    seal(c"/sys", libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
    for device in DEVICES {
        let (source, target) = (Path::new("/dev").join(device), root.join("dev").join(device));
        mount(Some(&source), &target, nothing, MsFlags::MS_BIND, nothing)
            .call("mount")
            .map_err(|errno| on(&source, errno))?;
        let path = format!("{BUILDING_SITE}/dev/{device}\0");
        let path = CStr::from_bytes_with_nul(path.as_bytes()).expect("ends with the only NUL");
        seal(path, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NOEXEC)?;
    }
    if let Some(real) = &template.real {
        real::furnish(root, real)?;
    }
    // The kernel lets a user namespace mount its own proc only where a proc is visible already;
    // init covers this one with its own before anything runs.
    mount(Some("/proc"), &root.join("proc"), nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing)
        .call("mount")
        .map_err(|errno| on(Path::new("/proc"), errno))?;
    nix::unistd::chdir(root).call("chdir")?;
    // pivot_root(2): with the same directory twice, the old root ends up on top of the new one.
    nix::unistd::pivot_root(".", ".").call("pivot_root")?;
    umount2(".", MntFlags::MNT_DETACH).call("umount2")?;
    nix::unistd::chdir("/").call("chdir")?;
    Ok(())
}

fn seal(path: &CStr, attributes: u64) -> Result<()> {
    namespace::set_mount_attributes(path, attributes)
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

/// A directory or a file, as the source is one.
fn make_mount_point(source: &Path, target: &Path) -> Result<()> {
    if fs::metadata(source).call("stat")?.is_dir() {
        return make_directory(target);
    }
    make_parent(target)?;
    File::create(target).call("open").map(drop)
}

fn bind_path(source: &Path, target: &Path) -> Result<()> {
    make_mount_point(source, target)?;
    let nothing: Option<&Path> = None;
    mount(Some(source), target, nothing, MsFlags::MS_BIND | MsFlags::MS_REC, nothing).call("mount")
}

fn make_directory(path: &Path) -> Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path).call("mkdir")
}

fn make_parent(path: &Path) -> Result<()> {
    path.parent().map_or(Ok(()), make_directory)
}
