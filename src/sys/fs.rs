//! Files by descriptor: openat2(2), memfd_create(2), fcntl(2) seals.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno as Number;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::{Call, Errno, Result};

/// Opens a path below a directory without ever leaving it and without following any link;
/// openat2(2) with RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_XDEV.
///
/// # Errors
/// EXDEV for a path that leaves the directory, ELOOP for a link, and as openat(2).
pub fn open_beneath(directory: BorrowedFd<'_>, path: &Path, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NOCTTY).mode(mode).resolve(
        ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS
            | ResolveFlag::RESOLVE_NO_XDEV,
    );
    loop {
        // EAGAIN: a rename raced with the walk, and the kernel could not tell that it stayed beneath.
        match openat2(directory, path, how).call("openat2") {
            Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => {}
            other => return other,
        }
    }
}

/// Opens a directory; links on the way to it are followed. open(2) with O_DIRECTORY.
///
/// # Errors
/// As open(2).
pub fn open_directory(path: &Path) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).call("open")
}

/// Opens a file or directory as a place and no more; no part of the absolute path may be a link. openat2(2)
/// with RESOLVE_NO_SYMLINKS, O_PATH.
///
/// # Errors
/// ELOOP for a link, and as openat(2).
pub fn open_without_links(path: &Path) -> Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    openat2(nix::fcntl::AT_FDCWD, path, how).call("openat2")
}

/// The status of a file below a root directory, where links lead to where they would for a process
/// that has this root; openat2(2) with RESOLVE_IN_ROOT, and fstat(2).
///
/// # Errors
/// As openat(2).
pub fn status_inside(root: &OwnedFd, path: &Path) -> Result<FileStat> {
    let resolve = ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    loop {
        // EAGAIN: a rename raced with the walk.
        match openat2(root, path, how).call("openat2") {
            Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => {}
            Err(error) => return Err(error),
            Ok(file) => return fstat(&file).call("fstat"),
        }
    }
}

/// Bytes that a process can read but nobody can change: a sealed memory file; memfd_create(2).
///
/// # Errors
/// ENOMEM, EMFILE.
pub fn sealed_memory(name: &std::ffi::CStr, bytes: &[u8]) -> Result<OwnedFd> {
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).call("memfd_create")?;
    let mut file = File::from(fd);
    file.write_all(bytes).call("write")?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: F_ADD_SEALS takes an integer and touches no memory of ours.
    let status = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    super::check("fcntl", libc::c_long::from(status))?;
    Ok(file.into())
}

/// Reads a file of at most `limit` bytes from its start, wherever its offset stands; pread(2).
///
/// # Errors
/// EFBIG where the file is larger, and as pread(2).
pub fn read_whole(fd: BorrowedFd<'_>, limit: usize) -> Result<Vec<u8>> {
    let size = fstat(fd).call("fstat")?.st_size;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    if size > limit {
        return Err(Errno { call: "pread", errno: Number::EFBIG });
    }
    read_start(fd, size)
}

/// Reads a file of which it is known how long it is, by pread(2) alone.
///
/// # Errors
/// EBADMSG where it is shorter, and as pread(2).
pub fn read_exactly(fd: BorrowedFd<'_>, size: usize) -> Result<Vec<u8>> {
    let bytes = read_start(fd, size)?;
    if bytes.len() == size { Ok(bytes) } else { Err(Errno { call: "pread", errno: Number::EBADMSG }) }
}

/// The first bytes of a file, as many as there are.
fn read_start(fd: BorrowedFd<'_>, size: usize) -> Result<Vec<u8>> {
    let mut bytes = vec![0; size];
    let mut filled = 0;
    while filled < size {
        let offset = libc::off_t::try_from(filled).expect("the size came from an off_t");
        let rest = bytes.get_mut(filled..).expect("filled is below the size");
        match nix::sys::uio::pread(fd, rest, offset) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(Number::EINTR) => {}
            Err(errno) => {
                return Err(Errno { call: "pread", errno });
            }
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

/// Value of an extended attribute of at most 64 bytes; getxattr(2).
#[must_use]
pub fn attribute(path: &Path, name: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let name = std::ffi::CString::new(name).ok()?;
    let mut value = vec![0u8; 64];
    // SAFETY: both strings are NUL-terminated, and the buffer has the length that is given.
    let length = unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
    value.truncate(usize::try_from(length).ok()?);
    Some(value)
}

/// Copies bytes from one file to the same place in another, at most to `end`, and returns where it came to;
/// copy_file_range(2).
///
/// # Errors
/// ENOSPC where the file system is full, EINTR, and as copy_file_range(2).
pub fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: i64, end: i64) -> Result<i64> {
    // Linux copies no more than this at once.
    const PORTION: usize = 0x7fff_f000;
    let (mut read, mut written) = (start, start);
    let length = usize::try_from(end.saturating_sub(start)).unwrap_or_default().min(PORTION);
    // SAFETY: both offsets are live values, which the call reads and advances; the rest are integers.
    let status = unsafe {
        libc::copy_file_range(
            from.as_raw_fd(),
            std::ptr::from_mut(&mut read),
            to.as_raw_fd(),
            std::ptr::from_mut(&mut written),
            length,
            0,
        )
    };
    super::check("copy_file_range", libc::c_long::try_from(status).unwrap_or(-1))?;
    Ok(written)
}
