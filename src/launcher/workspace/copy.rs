//! Copies an upper directory, in which nobody writes just now, to a layer of its own.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, UtimensatFlags, fstat, mkdirat, mknodat, utimensat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, Whence, fchownat, ftruncate, linkat, lseek, symlinkat, unlinkat};

use super::entry::{self, Attributes, Kind};
use crate::sys::{Call, Errno, Result, fs};

struct Copier<'a> {
    /// Directory where files with several names have one more, by their inode's number, until all is
    /// done; and a whiteout, so that all are one file: overlayfs does the same.
    pool: BorrowedFd<'a>,
    pooled: HashSet<CString>,
    made: u64,
}

/// Copies all of `from` to the empty directory `to` in the same file system. Returns how many entries it made.
pub(super) fn copy(from: OwnedFd, to: OwnedFd, pool: BorrowedFd<'_>) -> Result<u64> {
    let mut copier = Copier { pool, pooled: HashSet::new(), made: 0 };
    copier.directory(&from, &to, 0)?;
    for name in &copier.pooled {
        unlinkat(pool, name.as_c_str(), UnlinkatFlags::NoRemoveDir).call("unlinkat")?;
    }
    Ok(copier.made)
}

impl Copier<'_> {
    fn directory(&mut self, from: &OwnedFd, to: &OwnedFd, depth: usize) -> Result<()> {
        if depth > entry::MOST_DEPTH {
            return Err(entry::too_deep());
        }
        let mut has_whiteouts = entry::may_have_whiteouts(from.as_fd())?;
        for name in entry::names(from.as_fd(), usize::MAX)? {
            let status = entry::status(from.as_fd(), &name)?;
            self.made += 1;
            match Kind::of(&status) {
                Kind::Directory => {
                    let from = entry::open_directory(from.as_fd(), &name)?;
                    mkdirat(to, name.as_c_str(), Mode::S_IRWXU).call("mkdirat")?;
                    let to = entry::open_directory(to.as_fd(), &name)?;
                    self.directory(&from, &to, depth + 1)?;
                }
                Kind::File => self.file(from.as_fd(), to.as_fd(), &name, &status)?,
                Kind::Link => link(from.as_fd(), to.as_fd(), &name, &status)?,
                // What can't be copied is not in the snapshot, and nor is what it hides.
                Kind::Whiteout | Kind::Other => {
                    self.whiteout(to.as_fd(), &name)?;
                    has_whiteouts = true;
                }
            }
        }
        entry::finish_directory(to, from, entry::is_opaque(from.as_fd())?, has_whiteouts)
    }

    fn file(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, status: &FileStat) -> Result<()> {
        if status.st_nlink < 2 {
            return contents(from, name, to, name);
        }
        let pooled = CString::new(format!("{:x}", status.st_ino)).expect("a number has no NUL byte");
        if !self.pooled.contains(&pooled) {
            contents(from, name, self.pool, &pooled)?;
            self.pooled.insert(pooled.clone());
        }
        linkat(self.pool, pooled.as_c_str(), to, name, AtFlags::empty()).call("linkat")
    }

    fn whiteout(&mut self, to: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let pooled = c"whiteout".to_owned();
        if !self.pooled.contains(&pooled) {
            mknodat(self.pool, pooled.as_c_str(), SFlag::S_IFCHR, Mode::empty(), 0).call("mknodat")?;
            self.pooled.insert(pooled.clone());
        }
        linkat(self.pool, pooled.as_c_str(), to, name, AtFlags::empty()).call("linkat")
    }
}

/// Copies one file, holes included.
fn contents(from: BorrowedFd<'_>, name: &CStr, to: BorrowedFd<'_>, new_name: &CStr) -> Result<()> {
    // Non-blocking: were it a FIFO after all, it must not hold us up.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let source = openat(from, name, flags, Mode::empty()).call("openat")?;
    let status = fstat(&source).call("fstat")?;
    if Kind::of(&status) != Kind::File {
        return Err(Errno { call: "openat", errno: Number::EBADF });
    }
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let target = openat(to, new_name, flags, Mode::S_IRUSR | Mode::S_IWUSR).call("openat")?;
    ftruncate(&target, status.st_size).call("ftruncate")?;
    let mut offset = 0;
    loop {
        let start = match lseek(&source, offset, Whence::SeekData) {
            Ok(start) => start,
            // Nothing but a hole is left.
            Err(Number::ENXIO) => break,
            Err(errno) => return Err(Errno { call: "lseek", errno }),
        };
        offset = lseek(&source, start, Whence::SeekHole).call("lseek")?;
        portion(&source, &target, start, offset)?;
    }
    Attributes::of(source.as_fd())?.give(target.as_fd())?;
    entry::give_times(target.as_fd(), &status)
}

fn portion(source: &OwnedFd, target: &OwnedFd, mut start: i64, end: i64) -> Result<()> {
    while start < end {
        match fs::copy_range(source.as_fd(), target.as_fd(), start, end) {
            // It is shorter than it was said to be.
            Ok(reached) if reached == start => break,
            Ok(reached) => start = reached,
            Err(Errno { errno: Number::EINTR, .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn link(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, status: &FileStat) -> Result<()> {
    let text = readlinkat(from, name).call("readlinkat")?;
    symlinkat(text.as_os_str(), to, name).call("symlinkat")?;
    let (uid, gid) = (Uid::from_raw(status.st_uid), Gid::from_raw(status.st_gid));
    fchownat(to, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW).call("fchownat")?;
    let [access, change] = entry::times(status);
    utimensat(to, name, &access, &change, UtimensatFlags::NoFollowSymlink).call("utimensat")
}
