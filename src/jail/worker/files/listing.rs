//! Tells what is there, and makes directories.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;

use nix::fcntl::readlinkat;
use nix::sys::stat::{FileStat, SFlag, fstat};

use super::Stop;
use super::tree::{Go, Spot, Walk, kind_of, make_directories, open_directory, status};
use super::wire::Wire;
use crate::plan::FilePath;
use crate::plan::files::{Entry, FileReply, Kind, Place, path_of};

/// What is known of a name, from what was found there.
pub(super) fn entry_of(path: Vec<u8>, found: &FileStat, target: Option<Vec<u8>>) -> Entry {
    let kind = match kind_of(found) {
        SFlag::S_IFREG => Kind::File,
        SFlag::S_IFDIR => Kind::Directory,
        SFlag::S_IFLNK => Kind::Link,
        _ => Kind::Other,
    };
    let size = if kind == Kind::File { u64::try_from(found.st_size).unwrap_or_default() } else { 0 };
    let modified_ms = found.st_mtime.saturating_mul(1000).saturating_add(found.st_mtime_nsec / 1_000_000);
    Entry { path, kind, size, mode: found.st_mode & 0o7777, modified_ms, target }
}

/// As [`entry_of`], with what a link says.
pub(super) fn entry_at(directory: BorrowedFd<'_>, name: &OsStr, path: Vec<u8>, found: &FileStat) -> Entry {
    let target = match kind_of(found) {
        // It may have become another thing, which says nothing.
        SFlag::S_IFLNK => readlinkat(directory, name).ok().map(OsStringExt::into_vec),
        _ => None,
    };
    entry_of(path, found, target)
}

pub(super) fn stat(workspace: BorrowedFd<'_>, path: &Place) -> Result<FileReply, Stop> {
    let entry = match path {
        Place::Root => entry_of(Vec::new(), &fstat(workspace)?, None),
        Place::Below(path) => {
            let spot = Spot::find(workspace, path)?;
            let found = status(spot.parent.as_fd(), &spot.name)?;
            entry_at(spot.parent.as_fd(), &spot.name, path.as_bytes().to_vec(), &found)
        }
    };
    Ok(FileReply::Entry(entry))
}

/// Entries in the order of their paths; where there are too many, those that come first in it.
pub(super) fn list(
    workspace: BorrowedFd<'_>,
    path: &Place,
    depth: u32,
    most: u64,
    wire: &Wire,
) -> Result<FileReply, Stop> {
    let directory = open_directory(workspace, path.as_path())?;
    let mut answers = wire.answers();
    let mut left = most;
    let depth = usize::try_from(depth).unwrap_or(usize::MAX).max(1);
    let go = Walk::new(depth, false, &mut |met| {
        if left == 0 {
            return Ok(Go::Stop);
        }
        left -= 1;
        answers.put(FileReply::Entry(entry_at(met.directory, met.name, met.path.to_vec(), &met.found)))?;
        Ok(Go::On)
    })
    .run(directory.as_fd(), &mut path.as_bytes().to_vec());
    // What was found before something failed is told before it.
    answers.flush()?;
    Ok(FileReply::End { complete: go? == Go::On })
}

pub(super) fn mkdir(workspace: BorrowedFd<'_>, path: &FilePath) -> Result<FileReply, Stop> {
    let directory = make_directories(workspace, path_of(path))?;
    Ok(FileReply::Entry(entry_of(path.as_bytes().to_vec(), &fstat(&directory)?, None)))
}
