//! Makes one layer that looks like several, by the rules of overlayfs: an upper entry hides a lower one
//! of its name, a whiteout hides and is not there itself, directories are merged unless one is opaque.
//! Documentation/filesystems/overlayfs.rst. Files are linked, not copied.

use std::collections::HashSet;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::AtFlags;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::linkat;

use super::entry::{self, Kind};
use crate::sys::{Call, Result};

/// Merges these directories, the topmost first, to the empty directory `made` in the same file system.
/// `is_bottom` says that nothing is below them, so that nothing is left to hide. Returns how many entries it made.
pub(super) fn merge(sources: &[OwnedFd], made: &OwnedFd, is_bottom: bool) -> Result<u64> {
    directory(sources, made, is_bottom, 0)
}

fn directory(sources: &[OwnedFd], made: &OwnedFd, is_bottom: bool, depth: usize) -> Result<u64> {
    if depth > entry::MOST_DEPTH {
        return Err(entry::too_deep());
    }
    let Some(topmost) = sources.first() else { return Ok(0) };
    let (mut count, mut seen, mut has_whiteouts) = (0, HashSet::new(), false);
    for (at, source) in sources.iter().enumerate() {
        for name in entry::names(source.as_fd(), usize::MAX)? {
            if !seen.insert(name.clone()) {
                continue;
            }
            match Kind::of(&entry::status(source.as_fd(), &name)?) {
                Kind::Whiteout if is_bottom => continue,
                Kind::Directory => {
                    count += subdirectory(sources.get(at..).unwrap_or_default(), &name, made, is_bottom, depth)?
                }
                kind => {
                    has_whiteouts |= kind == Kind::Whiteout;
                    linkat(source, name.as_c_str(), made, name.as_c_str(), AtFlags::empty()).call("linkat")?;
                }
            }
            count += 1;
        }
    }
    entry::finish_directory(made, topmost, false, has_whiteouts)?;
    Ok(count)
}

/// Merges the directories of one name, of which the first source has the topmost.
fn subdirectory(sources: &[OwnedFd], name: &CString, made: &OwnedFd, is_bottom: bool, depth: usize) -> Result<u64> {
    let (parts, is_opaque) = parts_of(sources, name)?;
    mkdirat(made, name.as_c_str(), Mode::S_IRWXU).call("mkdirat")?;
    let made = entry::open_directory(made.as_fd(), name)?;
    // Below an opaque directory nothing is left to hide, and a whiteout there would be listed as a file.
    let nothing_below = is_bottom || is_opaque;
    let count = directory(&parts, &made, nothing_below, depth + 1)?;
    if is_opaque && !is_bottom {
        // After its times were set, which an attribute does not change.
        entry::make_opaque(made.as_fd())?;
    }
    Ok(count)
}

/// The directories of one name down to the first thing that hides the rest, and whether something does.
fn parts_of(sources: &[OwnedFd], name: &CStr) -> Result<(Vec<OwnedFd>, bool)> {
    let mut parts = Vec::new();
    for source in sources {
        let status = entry::status(source.as_fd(), name);
        if entry::is_missing(&status) {
            continue;
        }
        if Kind::of(&status?) != Kind::Directory {
            return Ok((parts, true));
        }
        let part = entry::open_directory(source.as_fd(), name)?;
        let is_opaque = entry::is_opaque(part.as_fd())?;
        parts.push(part);
        if is_opaque {
            return Ok((parts, true));
        }
    }
    Ok((parts, false))
}
