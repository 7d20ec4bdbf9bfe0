//! Puts real directories of the host into a template, and what its only sandbox has for itself besides.
//!
//! They are attached after all else is made read-only. Each is opened without following any link and compared
//! with what was chosen, so that nobody can have another one shown by a rename in between.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno as Number;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::fstat;

use super::{TemplateError, inside, make_directory, make_mount_point};
use crate::plan::real::{Piece, Real};
use crate::sys::{Call, Errno, Result, fs as files, mount as trees};

/// Makes the places in the root at which everything will stand. What lies in a directory of the host's is there.
pub(super) fn make_places(root: &Path, real: &Real) -> std::result::Result<(), TemplateError> {
    make_directory(&inside(root, &real.home)).map_err(|errno| on(&real.home, errno))?;
    real.pieces.iter().try_for_each(|piece| place(root, piece).map_err(|errno| on(&piece.path, errno)))
}

/// Mounts it all.
pub(super) fn furnish(root: &Path, real: &Real) -> std::result::Result<(), TemplateError> {
    mount_scratch(root, real).map_err(|errno| on(&real.home, errno))?;
    real.pieces.iter().try_for_each(|piece| attach(root, piece).map_err(|errno| on(&piece.path, errno)))
}

fn on(path: &Path, errno: Errno) -> TemplateError {
    if errno.errno == Number::ESTALE {
        return TemplateError(format!("{} is not any more what it was when it was chosen", path.display()));
    }
    TemplateError(format!("{errno} ({})", path.display()))
}

/// One file system for the home directory, `/tmp` and `/dev/shm`, so that there is one limit.
fn mount_scratch(root: &Path, real: &Real) -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    let options = format!("mode=0755,size={},nr_inodes={}", real.scratch_bytes, real.scratch_files);
    let site = root.join("tmp");
    mount(Some("tmpfs"), &site, Some("tmpfs"), flags, Some(options.as_str())).call("mount")?;
    let here = files::open_directory(&site)?;
    let make = |name: &str, mode| {
        let path = site.join(name);
        fs::create_dir(&path).call("mkdir")?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).call("chmod")?;
        trees::clone_tree(here.as_fd(), &c_path(Path::new(name))?)
    };
    let (home, tmp, shm) = (make("home", 0o700)?, make("tmp", 0o1777)?, make("shm", 0o1777)?);
    drop(here);
    umount2(&site, MntFlags::MNT_DETACH).call("umount2")?;
    trees::attach(tmp.as_fd(), &c_path(&site)?)?;
    trees::attach(shm.as_fd(), &c_path(&root.join("dev/shm"))?)?;
    // It may lie in what was mounted just now.
    let target = inside(root, &real.home);
    fs::DirBuilder::new().recursive(true).mode(0o755).create(&target).call("mkdir")?;
    trees::attach(home.as_fd(), &c_path(&target)?)
}

fn attach(root: &Path, piece: &Piece) -> Result<()> {
    let source = open(piece)?;
    let tree = trees::clone_whole_tree(source.as_fd())?;
    let sealed = if piece.writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
    trees::set_attributes(tree.as_fd(), sealed | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
    // Where it lies in what was attached before it, it is there.
    place(root, piece)?;
    trees::attach(tree.as_fd(), &c_path(&inside(root, &piece.path))?)
}

fn open(piece: &Piece) -> Result<OwnedFd> {
    let found = files::open_without_links(&piece.path)?;
    let status = fstat(&found).call("fstat")?;
    let same = (status.st_dev, status.st_ino) == piece.identity;
    if same { Ok(found) } else { Err(Errno { call: "fstat", errno: Number::ESTALE }) }
}

fn place(root: &Path, piece: &Piece) -> Result<()> {
    let target = inside(root, &piece.path);
    // Never looked at through a link, which would lead out of the root that is built here.
    if fs::symlink_metadata(&target).is_ok() {
        return Ok(());
    }
    make_mount_point(&piece.path, &target)
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno { call: "move_mount", errno: Number::EINVAL })
}
