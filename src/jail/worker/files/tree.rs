//! Names below descriptors: opening, making, walking and removing them.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Stop;
use crate::plan::FilePath;
use crate::plan::files::{FileError, TREE_DEPTH, TREE_ENTRIES, WALK_BYTES, path_of};
use crate::sys::fs::open_beneath;

/// A name in a directory that is open.
pub(super) struct Spot {
    pub(super) parent: OwnedFd,
    pub(super) name: OsString,
}

impl Spot {
    /// The name that a path ends with, where the directory above it is there.
    pub(super) fn find(workspace: BorrowedFd<'_>, path: &FilePath) -> Result<Self, Stop> {
        let (above, name) = split(path_of(path));
        Ok(Self { parent: open_directory(workspace, above)?, name: name.to_owned() })
    }

    /// As [`Spot::find`], with the directories above it made.
    pub(super) fn make(workspace: BorrowedFd<'_>, path: &FilePath) -> Result<Self, Stop> {
        let (above, name) = split(path_of(path));
        Ok(Self { parent: make_directories(workspace, above)?, name: name.to_owned() })
    }
}

/// The directory that a path lies in, and its last part.
pub(super) fn split(path: &Path) -> (&Path, &OsStr) {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty());
    (above.unwrap_or(Path::new(".")), path.file_name().unwrap_or(path.as_os_str()))
}

/// A directory below another, by its path.
pub(super) fn open_directory(at: BorrowedFd<'_>, path: impl AsRef<Path>) -> Result<OwnedFd, Stop> {
    let path = path.as_ref();
    let opened = open_beneath(at, path, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty());
    if opened.as_ref().is_err_and(|error| error.errno == Number::ENOTDIR) && is_link(at, path) {
        return Err(FileError::Link.into());
    }
    Ok(opened?)
}

/// Whether a path ends in a link, which the kernel tells of a directory as no directory.
fn is_link(at: BorrowedFd<'_>, path: &Path) -> bool {
    let (above, name) = split(path);
    let above = open_beneath(at, above, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty());
    above.is_ok_and(|above| status(above.as_fd(), name).is_ok_and(|found| kind_of(&found) == SFlag::S_IFLNK))
}

/// A regular file below a directory, opened for reading without waiting for anything.
pub(super) fn open_regular(at: BorrowedFd<'_>, path: impl AsRef<Path>) -> Result<(File, FileStat), Stop> {
    // A FIFO opens at once without a writer, and is told below.
    let file = open_beneath(at, path.as_ref(), OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty())?;
    let found = fstat(&file)?;
    match kind_of(&found) {
        SFlag::S_IFREG => Ok((file.into(), found)),
        SFlag::S_IFDIR => Err(FileError::IsDirectory.into()),
        _ => Err(FileError::NotRegular.into()),
    }
}

/// What a name stands for; a link for itself.
pub(super) fn status(at: BorrowedFd<'_>, name: &OsStr) -> Result<FileStat, Number> {
    fstatat(at, name, AtFlags::AT_SYMLINK_NOFOLLOW)
}

/// The kind of what was found.
pub(super) fn kind_of(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT
}

/// A name that nothing else has.
pub(super) fn temporary_name() -> OsString {
    format!(".codesandbox-{}", uuid::Uuid::new_v4().simple()).into()
}

/// Makes the directories of a path one by one, each opened below the one before it and through no link.
pub(super) fn make_directories(workspace: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Stop> {
    let mut at = open_directory(workspace, ".")?;
    for name in path.components().filter(|part| matches!(part, std::path::Component::Normal(_))) {
        match mkdirat(&at, name.as_os_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Number::EEXIST) => {}
            Err(errno) => return Err(errno.into()),
        }
        at = open_directory(at.as_fd(), name)?;
    }
    Ok(at)
}

/// The names in a directory, in order.
pub(super) fn names(directory: BorrowedFd<'_>) -> Result<Vec<OsString>, Stop> {
    // Anew, since what was read from one descriptor is not read again.
    let mut names = Vec::new();
    for entry in Dir::from_fd(open_directory(directory, ".")?)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            if names.len() as u64 >= TREE_ENTRIES {
                return Err(FileError::TooMany.into());
            }
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Something that a walk met.
pub(super) struct Met<'a> {
    /// The directory that it lies in.
    pub(super) directory: BorrowedFd<'a>,
    /// Its name there.
    pub(super) name: &'a OsStr,
    /// Its path, from where the walk's paths begin.
    pub(super) path: &'a [u8],
    /// What it is.
    pub(super) found: FileStat,
}

/// How a walk goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Go {
    /// With what lies in it, where it is a directory.
    On,
    /// Not at all.
    Stop,
}

/// A walk through a tree, in the order of names.
pub(super) struct Walk<'a> {
    /// Called for everything but the directory that it begins in.
    pub(super) visit: &'a mut dyn FnMut(&Met<'_>) -> Result<Go, Stop>,
    /// How many levels it goes down.
    pub(super) depth: usize,
    /// Whether it must see everything: a directory that can't be opened or lies too deep is an error.
    pub(super) whole: bool,
    /// How many entries it has seen.
    pub(super) entries: u64,
}

impl<'a> Walk<'a> {
    pub(super) fn new(depth: usize, whole: bool, visit: &'a mut dyn FnMut(&Met<'_>) -> Result<Go, Stop>) -> Self {
        Self { visit, depth: depth.min(TREE_DEPTH), whole, entries: 0 }
    }

    /// Walks through a directory whose path is `path`; tells whether it should go on.
    pub(super) fn run(&mut self, directory: BorrowedFd<'_>, path: &mut Vec<u8>) -> Result<Go, Stop> {
        self.level(directory, path, 1)
    }

    fn level(&mut self, directory: BorrowedFd<'_>, path: &mut Vec<u8>, level: usize) -> Result<Go, Stop> {
        let names = match names(directory) {
            Ok(names) => names,
            Err(_) if !self.whole && level > 1 => return Ok(Go::On),
            Err(stop) => return Err(stop),
        };
        for name in names {
            let found = match status(directory, &name) {
                Ok(found) => found,
                // A program has removed it meanwhile.
                Err(Number::ENOENT) => continue,
                Err(errno) => return Err(errno.into()),
            };
            self.entries += 1;
            if self.entries > TREE_ENTRIES {
                return Err(FileError::TooMany.into());
            }
            let above = path.len();
            if above > 0 {
                path.push(b'/');
            }
            path.extend(name.as_bytes());
            let go = self.entry(&Met { directory, name: &name, path, found }, level)?;
            let go = match go {
                Some(inside) => self.level(inside.as_fd(), path, level + 1)?,
                None => Go::On,
            };
            path.truncate(above);
            if go == Go::Stop || self.depth == 0 {
                return Ok(Go::Stop);
            }
        }
        Ok(Go::On)
    }

    /// Shows one entry, and opens it where the walk goes into it.
    fn entry(&mut self, met: &Met<'_>, level: usize) -> Result<Option<OwnedFd>, Stop> {
        if (self.visit)(met)? == Go::Stop {
            self.depth = 0;
            return Ok(None);
        }
        if kind_of(&met.found) != SFlag::S_IFDIR {
            return Ok(None);
        }
        if level >= self.depth || met.path.len() > WALK_BYTES {
            return if self.whole { Err(FileError::TooDeep.into()) } else { Ok(None) };
        }
        match open_directory(met.directory, met.name) {
            Ok(inside) => Ok(Some(inside)),
            // It has become another thing, or nothing.
            Err(Stop::Refused(FileError::Missing | FileError::NotDirectory | FileError::Link)) => Ok(None),
            Err(_) if !self.whole => Ok(None),
            Err(stop) => Err(stop),
        }
    }
}

/// Removes a name with all that lies below it.
pub(super) fn remove_tree(parent: BorrowedFd<'_>, name: &OsStr) -> Result<(), Stop> {
    remove_level(parent, name, 0)
}

/// How often a directory is emptied that a program fills meanwhile.
const ATTEMPTS: usize = 4;

fn remove_level(parent: BorrowedFd<'_>, name: &OsStr, level: usize) -> Result<(), Stop> {
    for _ in 0..ATTEMPTS {
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Err(Number::EISDIR) => {}
            removed => return Ok(removed?),
        }
        let inside = match open_directory(parent, name) {
            // Exchanged meanwhile: it is looked at anew.
            Err(Stop::Refused(FileError::NotDirectory | FileError::Link)) => continue,
            opened => opened?,
        };
        if level >= TREE_DEPTH {
            return Err(FileError::TooDeep.into());
        }
        for name in names(inside.as_fd())? {
            match remove_level(inside.as_fd(), &name, level + 1) {
                Ok(()) | Err(Stop::Refused(FileError::Missing)) => {}
                Err(stop) => return Err(stop),
            }
        }
        match unlinkat(parent, name, UnlinkatFlags::RemoveDir) {
            Err(Number::ENOTEMPTY | Number::ENOTDIR) => {}
            removed => return Ok(removed?),
        }
    }
    Err(FileError::NotEmpty.into())
}
