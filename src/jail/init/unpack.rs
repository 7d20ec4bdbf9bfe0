//! Writes the client's files into `/workspace` before a program runs.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, fchown, fchownat};
use serde::{Deserialize, Serialize};

use crate::plan::{Archive, ArchivedFile, PROGRAM_ID};
use crate::sys::{Call, Errno, fs};

/// Largest archive that is read, in bytes.
const ARCHIVE_BYTES: usize = 256 << 20;

/// Files that could not be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnpackError {
    /// The archive can't be read.
    Malformed,
    /// This file could not be written.
    File {
        /// Its place in the archive, from 0.
        index: u32,
        /// Why; errno(3).
        errno: i32,
    },
}

pub(super) fn unpack(archive: BorrowedFd<'_>) -> Result<(), UnpackError> {
    let bytes = fs::read_whole(archive, ARCHIVE_BYTES).map_err(|_| UnpackError::Malformed)?;
    let archive: Archive = postcard::from_bytes(&bytes).map_err(|_| UnpackError::Malformed)?;
    for (index, file) in (0u32..).zip(&archive.files) {
        write(file).map_err(|error| UnpackError::File { index, errno: error.errno as i32 })?;
    }
    Ok(())
}

fn write(file: &ArchivedFile) -> Result<(), Errno> {
    let workspace = File::open("/workspace").call("open")?;
    let path = Path::new(OsStr::from_bytes(file.path.as_bytes()));
    if let Some(parent) = path.parent() {
        make_directories(workspace.as_fd(), parent)?;
    }
    let mode = Mode::from_bits_truncate(if file.executable { 0o755 } else { 0o644 });
    // An earlier program may have left anything here: the file is replaced, never followed or filled.
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let opened = match fs::open_beneath(workspace.as_fd(), path, flags, mode) {
        Err(Errno { errno: Number::EEXIST, .. }) => {
            remove(workspace.as_fd(), path)?;
            fs::open_beneath(workspace.as_fd(), path, flags, mode)?
        }
        other => other?,
    };
    let mut opened = File::from(opened);
    opened.write_all(&file.content).call("write")?;
    // In this order: once it is the program's, init may not change its mode.
    nix::sys::stat::fchmod(&opened, mode).call("fchmod")?;
    fchown(&opened, Some(Uid::from_raw(PROGRAM_ID)), Some(Gid::from_raw(PROGRAM_ID))).call("fchown")
}

/// Makes the directories of a path one by one, each opened without following links.
fn make_directories(workspace: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let mut at = std::path::PathBuf::new();
    let owner = (Some(Uid::from_raw(PROGRAM_ID)), Some(Gid::from_raw(PROGRAM_ID)));
    for name in path.components() {
        let parent = open_directory(workspace, &at)?;
        match mkdirat(&parent, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) => {
                let flags = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                fchownat(&parent, name.as_os_str(), owner.0, owner.1, flags).call("fchownat")?;
            }
            Err(Number::EEXIST) => {}
            Err(errno) => {
                return Err(Errno { call: "mkdirat", errno });
            }
        }
        at.push(name);
    }
    open_directory(workspace, &at).map(drop)
}

fn remove(workspace: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let parent = open_directory(workspace, path.parent().unwrap_or(Path::new("")))?;
    let name = path.file_name().unwrap_or_default();
    nix::unistd::unlinkat(&parent, name, nix::unistd::UnlinkatFlags::NoRemoveDir).call("unlinkat")
}

fn open_directory(workspace: BorrowedFd<'_>, path: &Path) -> Result<std::os::fd::OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    fs::open_beneath(workspace, path, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty())
}
