//! Mounts by descriptor: open_tree(2), move_mount(2), mount_setattr(2) with an id map.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Result, check};

/// linux/mount.h; `libc` does not have it on every C library.
const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 0x4;

/// A copy of the mount at a path below a directory, attached to nothing: it is gone when its
/// descriptor is closed. An empty path means the directory itself. open_tree(2), OPEN_TREE_CLONE.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the mount namespace, EINVAL for a mount of another one.
pub fn clone_tree(directory: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH.cast_unsigned();
    // SAFETY: the path is NUL-terminated and outlives the call; the rest are integers.
    let status = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), path.as_ptr(), flags) };
    let fd = check("open_tree", status)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("descriptors fit an int")) })
}

/// The same of the mount that a descriptor lies in, from there on, with all mounts below it.
///
/// # Errors
/// As [`clone_tree`].
pub fn clone_whole_tree(directory: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags =
        libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | (libc::AT_EMPTY_PATH | libc::AT_RECURSIVE).cast_unsigned();
    // SAFETY: the empty path is NUL-terminated and outlives the call; the rest are integers.
    let status = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = check("open_tree", status)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("descriptors fit an int")) })
}

/// Sets mount attributes on all mounts of a tree that is attached to nothing; mount_setattr(2) with
/// AT_RECURSIVE.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_attributes(tree: BorrowedFd<'_>, attributes: u64) -> Result<()> {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    change_mounts(tree, &change, libc::AT_RECURSIVE)
}

/// Attaches what [`clone_tree`] made to a path, absolute or below the working directory; move_mount(2).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the caller's mount namespace, ENOENT and ENOTDIR for the path.
pub fn attach(tree: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    // SAFETY: both paths are NUL-terminated and outlive the call; the rest are integers.
    let status = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            path.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check("move_mount", status).map(drop)
}

/// Has the files of a mount that is attached to nothing belong, number for number, to the ids of a
/// user namespace; mount_setattr(2), MOUNT_ATTR_IDMAP.
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the file system, and for a mount that has an id map already.
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>) -> Result<()> {
    let change = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: u64::from(user_namespace.as_raw_fd().cast_unsigned()),
    };
    change_mounts(tree, &change, 0)
}

/// Has a mount that is attached to nothing be read-only, without set-user-id programs and devices; mount_setattr(2).
///
/// # Errors
/// EPERM without CAP_SYS_ADMIN over the mount namespace that it was copied in.
pub fn seal(tree: BorrowedFd<'_>) -> Result<()> {
    set_attributes(tree, libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)
}

fn change_mounts(tree: BorrowedFd<'_>, change: &libc::mount_attr, flags: i32) -> Result<()> {
    // SAFETY: the empty path is NUL-terminated and the structure outlives the call; its size is given.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | flags,
            std::ptr::from_ref(change),
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", status).map(drop)
}
