//! Moves, copies and removes.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno as Number;
use nix::fcntl::{OFlag, RenameFlags, readlinkat, renameat, renameat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};

use super::Stop;
use super::tree::{Spot, kind_of, names, open_directory, open_regular, remove_tree, status, temporary_name};
use crate::plan::FilePath;
use crate::plan::files::{CHUNK_BYTES, FileError, FileReply, TREE_DEPTH};
use crate::sys::fs::open_beneath;

pub(super) fn rename(
    workspace: BorrowedFd<'_>,
    from: &FilePath,
    to: &FilePath,
    replace: bool,
) -> Result<FileReply, Stop> {
    refuse_overlap(from, to)?;
    let (from, to) = (Spot::find(workspace, from)?, Spot::find(workspace, to)?);
    match install(&from, &to, replace) {
        // A directory that lies in a snapshot's layer can't be renamed, only copied; overlayfs of the kernel's
        // documentation, "Directories".
        Err(Stop::Refused(FileError::Other(errno))) if errno == Number::EXDEV as i32 => {
            // What has no copy would be lost.
            duplicate(&from, &to, replace, Others::Refuse)?;
            remove_tree(from.parent.as_fd(), &from.name)?;
        }
        installed => installed?,
    }
    Ok(FileReply::Done)
}

pub(super) fn copy(
    workspace: BorrowedFd<'_>,
    from: &FilePath,
    to: &FilePath,
    replace: bool,
) -> Result<FileReply, Stop> {
    refuse_overlap(from, to)?;
    let (from, to) = (Spot::find(workspace, from)?, Spot::find(workspace, to)?);
    duplicate(&from, &to, replace, Others::LeaveOut)?;
    Ok(FileReply::Done)
}

pub(super) fn remove(workspace: BorrowedFd<'_>, path: &FilePath, recursive: bool) -> Result<FileReply, Stop> {
    let spot = Spot::find(workspace, path)?;
    if recursive {
        remove_tree(spot.parent.as_fd(), &spot.name)?;
    } else {
        match unlinkat(&spot.parent, spot.name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
            Err(Number::EISDIR) => unlinkat(&spot.parent, spot.name.as_os_str(), UnlinkatFlags::RemoveDir)?,
            removed => removed?,
        }
    }
    Ok(FileReply::Done)
}

/// A tree can't be put into itself, and one that is replaced must not hold what replaces it. No link is followed,
/// so the paths tell.
fn refuse_overlap(from: &FilePath, to: &FilePath) -> Result<(), Stop> {
    let within = |inner: &FilePath, outer: &FilePath| {
        let rest = inner.as_bytes().strip_prefix(outer.as_bytes());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    };
    if within(from, to) || within(to, from) {
        return Err(FileError::Overlap.into());
    }
    Ok(())
}

/// Gives something its new name. A directory that is replaced, or that replaces something, is not replaced in one
/// step: what was there is removed first.
fn install(from: &Spot, to: &Spot, replace: bool) -> Result<(), Stop> {
    if !replace {
        let flags = RenameFlags::RENAME_NOREPLACE;
        return Ok(renameat2(&from.parent, from.name.as_os_str(), &to.parent, to.name.as_os_str(), flags)?);
    }
    match renameat(&from.parent, from.name.as_os_str(), &to.parent, to.name.as_os_str()) {
        Err(Number::EISDIR | Number::ENOTDIR | Number::ENOTEMPTY | Number::EEXIST) => {
            remove_tree(to.parent.as_fd(), &to.name)?;
            Ok(renameat(&from.parent, from.name.as_os_str(), &to.parent, to.name.as_os_str())?)
        }
        renamed => Ok(renamed?),
    }
}

/// What becomes of FIFOs, sockets and devices in a tree that is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    LeaveOut,
    Refuse,
}

/// Copies to a temporary name that becomes the copy's once all is there; a copy that fails leaves nothing.
fn duplicate(from: &Spot, to: &Spot, replace: bool, others: Others) -> Result<(), Stop> {
    let found = status(from.parent.as_fd(), &from.name)?;
    if !replace && status(to.parent.as_fd(), &to.name).is_ok() {
        return Err(FileError::Exists.into());
    }
    if !matches!(kind_of(&found), SFlag::S_IFREG | SFlag::S_IFDIR | SFlag::S_IFLNK) {
        return Err(FileError::NotRegular.into());
    }
    let temporary = Spot { parent: to.parent.try_clone()?, name: temporary_name() };
    let copied = duplicate_entry(from.parent.as_fd(), &from.name, &temporary, &found, others, 0)
        .and_then(|()| install(&temporary, to, replace));
    if copied.is_err() {
        // What is left of it tells nobody anything; the failure itself is what is told.
        drop(remove_tree(temporary.parent.as_fd(), &temporary.name));
    }
    copied
}

fn duplicate_entry(
    directory: BorrowedFd<'_>,
    name: &OsStr,
    to: &Spot,
    found: &FileStat,
    others: Others,
    level: usize,
) -> Result<(), Stop> {
    match kind_of(found) {
        SFlag::S_IFREG => duplicate_file(directory, name, to),
        SFlag::S_IFLNK => {
            let target = readlinkat(directory, name).map_err(|errno| match errno {
                // It is no link any more; readlink(2).
                Number::EINVAL => Stop::Refused(FileError::Changed),
                errno => errno.into(),
            })?;
            Ok(symlinkat(target.as_os_str(), &to.parent, to.name.as_os_str())?)
        }
        SFlag::S_IFDIR if level >= TREE_DEPTH => Err(FileError::TooDeep.into()),
        SFlag::S_IFDIR => {
            let inside = open_directory(directory, name)?;
            mkdirat(&to.parent, to.name.as_os_str(), Mode::from_bits_truncate(0o700))?;
            let copy = open_directory(to.parent.as_fd(), &to.name)?;
            for name in names(inside.as_fd())? {
                let found = match status(inside.as_fd(), &name) {
                    Err(Number::ENOENT) => continue,
                    found => found?,
                };
                let to = Spot { parent: copy.try_clone()?, name };
                duplicate_entry(inside.as_fd(), &to.name, &to, &found, others, level + 1)?;
            }
            // Last: the mode may forbid to write into it.
            Ok(fchmod(&copy, Mode::from_bits_truncate(found.st_mode & 0o777))?)
        }
        _ if others == Others::LeaveOut => Ok(()),
        _ => Err(FileError::NotRegular.into()),
    }
}

fn duplicate_file(directory: BorrowedFd<'_>, name: &OsStr, to: &Spot) -> Result<(), Stop> {
    let (mut file, found) = open_regular(directory, name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let copy = open_beneath(to.parent.as_fd(), to.name.as_ref(), flags, Mode::from_bits_truncate(0o600))?;
    let mut copy = File::from(copy);
    let mut buffer = vec![0; CHUNK_BYTES];
    // A program that goes on writing to it must not keep the copy going.
    let mut left = u64::try_from(found.st_size).unwrap_or_default();
    while left > 0 {
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let count = file.read(buffer.get_mut(..most).expect("it is no longer than that"))?;
        if count == 0 {
            break;
        }
        copy.write_all(buffer.get(..count).unwrap_or_default())?;
        left -= count as u64;
    }
    Ok(fchmod(&copy, Mode::from_bits_truncate(found.st_mode & 0o777))?)
}
