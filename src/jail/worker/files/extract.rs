//! Unpacks a tar archive that may come from anybody: only regular files, directories and links, each made
//! below the directory and through no link, with a limit on everything.
//!
//! Extended headers are read here and not by the crate, which takes them in whole, however large.

mod headers;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, SFlag, fchmod, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};
use tar::{Archive, EntryType};

use super::Stop;
use super::tree::{Spot, kind_of, make_directories, open_directory, status};
use super::wire::Wire;
use crate::plan::files::{CHUNK_BYTES, FileError, FileReply, Irregularity, Place, TREE_ENTRIES, path_of};
use crate::plan::{FilePath, PATH_BYTES, PathError};
use crate::sys::fs::open_beneath;
use headers::Extended;

/// The permissions that directories are made with.
const USUAL_MODE: u32 = 0o755;

pub(super) fn extract(workspace: BorrowedFd<'_>, path: &Place, wire: &Wire) -> Result<FileReply, Stop> {
    let directory = make_directories(workspace, path.as_path())?;
    let mut upload = wire.upload();
    unpack(directory.as_fd(), &mut upload)?;
    // Behind its end an archive is filled up with zeros. The upload has an end of its own.
    std::io::copy(&mut upload, &mut std::io::sink())?;
    Ok(FileReply::Done)
}

/// An entry of an archive, with what its extended headers say.
struct Member<'a, R: Read> {
    entry: tar::Entry<'a, R>,
    name: Vec<u8>,
    link: Vec<u8>,
}

fn unpack(directory: BorrowedFd<'_>, archive: &mut impl Read) -> Result<(), Stop> {
    let mut archive = Archive::new(archive);
    let mut extended = Extended::default();
    // Set last: a directory may be one that nothing can be made in.
    let mut modes = BTreeMap::new();
    let mut count = 0;
    for entry in archive.entries()?.raw(true) {
        let mut entry = entry?;
        count += 1;
        if count > TREE_ENTRIES {
            return Err(FileError::TooMany.into());
        }
        if extended.take_in(&mut entry)? {
            continue;
        }
        let Extended { name, link, size, sparse, .. } = extended.finish();
        let name = name.unwrap_or_else(|| entry.header().path_bytes().into_owned());
        let link = link.or_else(|| entry.header().link_name_bytes().map(std::borrow::Cow::into_owned));
        let why = match entry.header().entry_type() {
            _ if sparse => Some(Irregularity::Sparse),
            EntryType::GNUSparse => Some(Irregularity::Sparse),
            // Readers that disagree on a size see different archives; only we would see this one.
            _ if size.is_some_and(|size| size != entry.size()) => Some(Irregularity::Contradiction),
            _ => None,
        };
        let mut member = Member { entry, name, link: link.unwrap_or_default() };
        let made = match why {
            Some(why) => Err(why.into()),
            None => make(directory, &mut member, &mut modes),
        };
        made.map_err(|refused| match refused {
            Refused::Irregular(why) => {
                let entry = member.name.iter().copied().take(PATH_BYTES).collect();
                Stop::Refused(FileError::Irregular { entry, why })
            }
            Refused::Stop(stop) => stop,
        })?;
    }
    // Those further down come first.
    for (path, mode) in modes.into_iter().rev() {
        match open_directory(directory, path_of(&path)) {
            Ok(directory) => fchmod(&directory, mode)?,
            // A program, or a later entry, has put something else there.
            Err(Stop::Refused(FileError::Missing | FileError::NotDirectory | FileError::Link)) => {}
            Err(stop) => return Err(stop),
        }
    }
    Ok(())
}

/// The permissions of an entry; of an owner that is another only here, nothing is taken over.
fn mode_of(header: &tar::Header, usual: u32) -> Mode {
    Mode::from_bits_truncate(header.mode().unwrap_or(usual) & 0o777)
}

/// Why an entry is not unpacked.
enum Refused {
    Irregular(Irregularity),
    Stop(Stop),
}

impl From<Irregularity> for Refused {
    fn from(why: Irregularity) -> Self {
        Self::Irregular(why)
    }
}

impl From<Stop> for Refused {
    /// What is at fault with a path is at fault with the entry that has it.
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Refused(FileError::Link) => Self::Irregular(Irregularity::ThroughLink),
            Stop::Refused(FileError::NotDirectory | FileError::IsDirectory | FileError::NotEmpty) => {
                Self::Irregular(Irregularity::Conflict)
            }
            stop => Self::Stop(stop),
        }
    }
}

impl From<Number> for Refused {
    fn from(errno: Number) -> Self {
        Stop::from(errno).into()
    }
}

fn make<R: Read>(
    directory: BorrowedFd<'_>,
    member: &mut Member<'_, R>,
    modes: &mut BTreeMap<FilePath, Mode>,
) -> Result<(), Refused> {
    let kind = member.entry.header().entry_type();
    // Old archives have no kind for directories, only a slash at the end of a regular file's name.
    let is_directory = kind.is_dir() || (kind.is_file() && member.name.ends_with(b"/"));
    let Some(path) = name_of(&member.name).map_err(Irregularity::Name)? else {
        return if is_directory { Ok(()) } else { Err(Irregularity::Name(PathError::Empty).into()) };
    };
    if is_directory {
        make_directories(directory, path_of(&path))?;
        let mode = mode_of(member.entry.header(), USUAL_MODE);
        if mode.bits() == USUAL_MODE {
            modes.remove(&path);
        } else {
            modes.insert(path, mode);
        }
        return Ok(());
    }
    let spot = Spot::make(directory, &path)?;
    match kind {
        EntryType::Regular | EntryType::Continuous => make_file(&spot, &mut member.entry),
        EntryType::Symlink => {
            if member.link.is_empty() || member.link.contains(&0) {
                return Err(Irregularity::Name(PathError::Empty).into());
            }
            // It may say anything: nothing here follows it.
            let text = std::ffi::OsStr::from_bytes(&member.link);
            anew(&spot, || symlinkat(text, &spot.parent, spot.name.as_os_str()))
        }
        EntryType::Link => make_hard_link(directory, &spot, &path, &member.link),
        _ => Err(Irregularity::Kind.into()),
    }
}

/// A name as archives have it: `./` before and `/` behind it mean nothing. `None` for the directory itself.
fn name_of(name: &[u8]) -> Result<Option<FilePath>, PathError> {
    let mut name = name;
    while let Some(rest) = name.strip_prefix(b"./") {
        name = rest;
    }
    while let Some(rest) = name.strip_suffix(b"/").filter(|rest| !rest.is_empty()) {
        name = rest;
    }
    if matches!(name, b"" | b".") {
        return Ok(None);
    }
    FilePath::try_from(name.to_vec()).map(Some)
}

/// Makes something under a name. What has it already is replaced, never followed or filled; a later entry of
/// the same name replaces an earlier one.
fn anew<T>(spot: &Spot, make: impl Fn() -> Result<T, Number>) -> Result<T, Refused> {
    match make() {
        Err(Number::EEXIST) => {
            unlinkat(&spot.parent, spot.name.as_os_str(), UnlinkatFlags::NoRemoveDir)?;
            Ok(make()?)
        }
        made => Ok(made?),
    }
}

fn make_file<R: Read>(spot: &Spot, entry: &mut tar::Entry<'_, R>) -> Result<(), Refused> {
    let mode = mode_of(entry.header(), 0o644);
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = anew(spot, || {
        let opened = open_beneath(spot.parent.as_fd(), spot.name.as_ref(), flags, Mode::from_bits_truncate(0o600));
        opened.map_err(|error| error.errno)
    })?;
    let mut file = File::from(file);
    let filled = fill(&mut file, entry);
    if filled.is_err() {
        // Half a file would pass for a whole one.
        unlinkat(&spot.parent, spot.name.as_os_str(), UnlinkatFlags::NoRemoveDir).unwrap_or_default();
    }
    filled?;
    fchmod(&file, mode)?;
    if let Ok(seconds) = i64::try_from(entry.header().mtime().unwrap_or_default()) {
        let time = TimeSpec::new(seconds, 0);
        // A time that the file system can't hold is no reason to refuse the file.
        futimens(&file, &time, &time).unwrap_or_default();
    }
    Ok(())
}

fn fill<R: Read>(file: &mut File, entry: &mut tar::Entry<'_, R>) -> Result<(), Stop> {
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut left = entry.size();
    while left > 0 {
        let count = entry.read(&mut buffer)?;
        if count == 0 {
            return Err(FileError::Damaged.into());
        }
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        left = left.saturating_sub(count as u64);
    }
    Ok(())
}

/// A second name of a regular file that lies in the directory.
fn make_hard_link(directory: BorrowedFd<'_>, spot: &Spot, path: &FilePath, target: &[u8]) -> Result<(), Refused> {
    let target = name_of(target).ok().flatten().ok_or(Irregularity::Target)?;
    if target == *path {
        // It has that name, and to make room for it would be to remove it.
        return Ok(());
    }
    let target = Spot::find(directory, &target).map_err(|stop| match stop {
        Stop::Refused(FileError::Missing) => Refused::Irregular(Irregularity::Target),
        stop => stop.into(),
    })?;
    let found = status(target.parent.as_fd(), &target.name).map_err(|_| Irregularity::Target)?;
    if kind_of(&found) != SFlag::S_IFREG {
        return Err(Irregularity::Target.into());
    }
    // Without AT_SYMLINK_FOLLOW: what has become a link meanwhile gets a second name itself.
    let flags = AtFlags::empty();
    anew(spot, || linkat(&target.parent, target.name.as_os_str(), &spot.parent, spot.name.as_os_str(), flags))
}
