//! Removes what nobody refers to any more, however deep it is.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno as Number;
use nix::fcntl::renameat;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::{self, Kind};
use crate::sys::{Call, Errno, Result};

/// Removes everything in a directory. A directory within is first moved up here: so there is no
/// depth to follow, and one descriptor is enough. Returns how many entries are gone.
pub(super) fn sweep(trash: BorrowedFd<'_>) -> Result<u64> {
    let (mut count, mut moved) = (0, 0u64);
    loop {
        let names = entry::names(trash, usize::MAX)?;
        if names.is_empty() {
            return Ok(count);
        }
        for name in names {
            count += 1;
            if Kind::of(&entry::status(trash, &name)?) != Kind::Directory {
                remove(trash, &name, UnlinkatFlags::NoRemoveDir)?;
                continue;
            }
            let directory = entry::open_directory(trash, &name)?;
            for inner in entry::names(directory.as_fd(), usize::MAX)? {
                if Kind::of(&entry::status(directory.as_fd(), &inner)?) == Kind::Directory {
                    move_up(directory.as_fd(), &inner, trash, &mut moved)?;
                } else {
                    count += 1;
                    remove(directory.as_fd(), &inner, UnlinkatFlags::NoRemoveDir)?;
                }
            }
            remove(trash, &name, UnlinkatFlags::RemoveDir)?;
        }
    }
}

fn remove(directory: BorrowedFd<'_>, name: &CStr, flags: UnlinkatFlags) -> Result<()> {
    unlinkat(directory, name, flags).call("unlinkat")
}

fn move_up(from: BorrowedFd<'_>, name: &CStr, trash: BorrowedFd<'_>, moved: &mut u64) -> Result<()> {
    loop {
        *moved += 1;
        let new_name = CString::new(format!("x{moved:x}")).expect("a number has no NUL byte");
        match renameat(from, name, trash, new_name.as_c_str()) {
            // A sweep that was interrupted has left it.
            Err(Number::EEXIST | Number::ENOTEMPTY) => {}
            Err(errno) => return Err(Errno { call: "renameat", errno }),
            Ok(()) => return Ok(()),
        }
    }
}
