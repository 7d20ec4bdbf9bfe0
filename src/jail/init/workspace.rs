//! What a session's jail has of its own: a workspace of layers that outlives it, and terminals.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::mount::{MntFlags, MsFlags, mount as mount_at, umount2};
use nix::unistd::chdir;

use crate::plan::workspace::{Overlay, SHM, TMP};
use crate::sys::{Call, Errno, mount as trees};

/// Most terminals of one session; devpts takes kernel memory for each.
const TERMINALS: u32 = 256;

/// Mounts `/workspace` from the layers in these stores, and `/tmp` and `/dev/shm` from the first
/// one. The stores are mounts that are attached to nothing and have this jail's id map.
///
/// They are attached only while the overlay is made, which keeps copies of its own: no path
/// leads to a layer then, neither for a program nor for init.
pub(crate) fn mount(stores: &[OwnedFd], overlay: &Overlay) -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    // Mount points, and nothing else.
    let options = Some("mode=0700,size=64k,nr_inodes=64");
    mount_at(Some("tmpfs"), "/tmp", Some("tmpfs"), flags | MsFlags::MS_NOEXEC, options).call("mount")?;
    // Short names, all relative: the options of one mount have a page.
    chdir("/tmp").call("chdir")?;
    for (place, store) in stores.iter().enumerate() {
        fs::create_dir(place.to_string()).call("mkdir")?;
        trees::attach(store.as_fd(), &name(&place.to_string()))?;
    }
    mount_at(Some("workspace"), "/workspace", Some("overlay"), flags, Some(overlay.options().as_str()))
        .call("mount")?;
    let here = crate::sys::fs::open_directory(std::path::Path::new("."))?;
    let tmp = trees::clone_tree(here.as_fd(), &name(&format!("0/{TMP}")))?;
    let shm = trees::clone_tree(here.as_fd(), &name(&format!("0/{SHM}")))?;
    drop(here);
    chdir("/").call("chdir")?;
    umount2("/tmp", MntFlags::MNT_DETACH).call("umount2")?;
    trees::attach(tmp.as_fd(), c"/tmp")?;
    trees::attach(shm.as_fd(), c"/dev/shm")
}

/// Mounts terminals of the jail's own at `/dev/pts`; pts(4), Documentation/filesystems/devpts.rst.
pub(crate) fn mount_terminals() -> Result<(), Errno> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    let options = format!("newinstance,ptmxmode=0666,mode=0620,max={TERMINALS}");
    mount_at(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some(options.as_str())).call("mount")
}

fn name(text: &str) -> CString {
    CString::new(text).expect("made of numbers and fixed names")
}
