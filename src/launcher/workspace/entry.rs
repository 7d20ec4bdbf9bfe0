//! One entry of a layer, as overlayfs understands it. What is in a layer was written by a program: it is
//! reached by descriptor and single names, and no link is ever followed.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown};

use crate::sys::{Call, Errno, Result, xattr};

/// Deepest directory that is copied or merged; each level holds descriptors.
pub(super) const MOST_DEPTH: usize = 128;

/// What overlayfs keeps for itself under this prefix is written anew, never copied.
const PRIVATE: &[u8] = b"user.overlay.";
/// A program's own attribute of such a name, as overlayfs escapes it.
const ESCAPED: &[u8] = b"user.overlay.overlay.";
const OPAQUE: &CStr = c"user.overlay.opaque";
const ORIGIN: &CStr = c"user.overlay.origin";

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It hides what is below.
    Whiteout,
    Directory,
    File,
    Link,
    /// A FIFO or a socket.
    Other,
}

impl Kind {
    pub(super) fn of(status: &FileStat) -> Self {
        match SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Self::Directory,
            SFlag::S_IFREG => Self::File,
            SFlag::S_IFLNK => Self::Link,
            SFlag::S_IFCHR if status.st_rdev == 0 => Self::Whiteout,
            _ => Self::Other,
        }
    }
}

/// Names in a directory, but `.` and `..`, at most so many.
pub(super) fn names(directory: BorrowedFd<'_>, most: usize) -> Result<Vec<CString>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut listing = Dir::openat(directory, c".", flags, Mode::empty()).call("openat")?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let name = entry.call("getdents64")?.file_name().to_owned();
        if name.as_c_str() == c"." || name.as_c_str() == c".." {
            continue;
        }
        names.push(name);
        if names.len() == most {
            break;
        }
    }
    Ok(names)
}

pub(super) fn status(directory: BorrowedFd<'_>, name: &CStr) -> Result<FileStat> {
    fstatat(directory, name, AtFlags::AT_SYMLINK_NOFOLLOW).call("newfstatat")
}

pub(super) fn open_directory(parent: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty()).call("openat")
}

/// Whether a directory hides what is below it.
pub(super) fn is_opaque(directory: BorrowedFd<'_>) -> Result<bool> {
    Ok(xattr::get(directory, OPAQUE)?.is_some_and(|value| value == b"y"))
}

pub(super) fn make_opaque(directory: BorrowedFd<'_>) -> Result<()> {
    xattr::set(directory, OPAQUE, b"y")
}

/// Whether a directory may have whiteouts that nothing is below any more.
pub(super) fn may_have_whiteouts(directory: BorrowedFd<'_>) -> Result<bool> {
    Ok(xattr::get(directory, ORIGIN)?.is_some())
}

/// Has overlayfs look for whiteouts in a directory even where there is nothing below it, and so never list
/// one as a file: an origin of no length is one that is not known (ovl_path_check_origin_xattr).
pub(super) fn mark_whiteouts(directory: BorrowedFd<'_>) -> Result<()> {
    xattr::set(directory, ORIGIN, b"")
}

/// What an entry has besides its content and its times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) mode: Mode,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) extended: Vec<(CString, Vec<u8>)>,
}

impl Attributes {
    pub(super) fn of(file: BorrowedFd<'_>) -> Result<Self> {
        let status = fstat(file).call("fstat")?;
        let mut extended = Vec::new();
        for name in xattr::list(file)? {
            let bytes = name.to_bytes();
            let is_private = bytes.starts_with(PRIVATE) && !bytes.starts_with(ESCAPED);
            let is_kept = bytes.starts_with(b"user.") || bytes.starts_with(b"system.posix_acl_");
            if is_kept
                && !is_private
                && let Some(value) = xattr::get(file, &name)?
            {
                extended.push((name, value));
            }
        }
        // No program of a session may have another user than its own: set-user-id bits mean nothing there,
        // and are not carried on.
        let mode = Mode::from_bits_truncate(status.st_mode & 0o1777);
        Ok(Self { mode, uid: status.st_uid, gid: status.st_gid, extended })
    }

    pub(super) fn give(&self, file: BorrowedFd<'_>) -> Result<()> {
        fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid))).call("fchown")?;
        for (name, value) in &self.extended {
            xattr::set(file, name, value)?;
        }
        // Last: a new owner takes bits away, an access list changes them.
        fchmod(file, self.mode).call("fchmod")
    }
}

/// Times of last access and change of content.
pub(super) fn times(status: &FileStat) -> [TimeSpec; 2] {
    [TimeSpec::new(status.st_atime, status.st_atime_nsec), TimeSpec::new(status.st_mtime, status.st_mtime_nsec)]
}

/// Gives a directory or file the times of another; after its content, which changes them.
pub(super) fn give_times(file: BorrowedFd<'_>, status: &FileStat) -> Result<()> {
    let [access, change] = times(status);
    futimens(file, &access, &change).call("utimensat")
}

/// Finishes a directory of a layer that is being made: attributes of the one that it stands for, marks, times.
pub(super) fn finish_directory(made: &OwnedFd, like: &OwnedFd, is_opaque: bool, has_whiteouts: bool) -> Result<()> {
    Attributes::of(like.as_fd())?.give(made.as_fd())?;
    if is_opaque {
        make_opaque(made.as_fd())?;
    }
    if has_whiteouts {
        mark_whiteouts(made.as_fd())?;
    }
    give_times(made.as_fd(), &fstat(like).call("fstat")?)
}

/// Removes what is there under a name, where that is no directory with something in it.
pub(super) fn is_missing<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Errno { errno: Number::ENOENT, .. }))
}

pub(super) fn too_deep() -> Errno {
    Errno { call: "openat", errno: Number::ENAMETOOLONG }
}
