//! Hands a directory or a file out as a tar archive: regular files, directories, and links as links.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use nix::fcntl::readlinkat;
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag, fchmodat};
use tar::{Builder, EntryType, Header};

use super::Stop;
use super::tree::{Go, Met, Spot, Walk, kind_of, open_directory, open_regular, status};
use super::wire::{Sink, Wire};
use crate::plan::PATH_BYTES;
use crate::plan::files::{FileError, FileReply, Irregularity, Place, TREE_DEPTH};

/// Names in the archive begin where `path` ends; that of a single file is its last part. `lifts` says whether
/// permissions that keep the owner out are lifted.
pub(super) fn archive(workspace: BorrowedFd<'_>, path: &Place, lifts: bool, wire: &Wire) -> Result<FileReply, Stop> {
    let single = match path {
        Place::Root => None,
        Place::Below(path) => {
            let spot = Spot::find(workspace, path)?;
            let found = status(spot.parent.as_fd(), &spot.name)?;
            match kind_of(&found) {
                SFlag::S_IFDIR => None,
                SFlag::S_IFREG | SFlag::S_IFLNK => Some((spot, found)),
                _ => return Err(FileError::NotRegular.into()),
            }
        }
    };
    let directory = match single {
        None => Some(open_directory(workspace, path.as_path())?),
        Some(_) => None,
    };
    wire.answer(&Ok(FileReply::Archive))?;
    wire.download(|sink| {
        let mut builder = Builder::new(sink);
        if let Some((spot, found)) = &single {
            let directory = spot.parent.as_fd();
            let met = Met { directory, name: &spot.name, path: spot.name.as_bytes(), found: *found };
            append(&mut builder, &met, lifts)?;
        }
        if let Some(directory) = &directory {
            Walk::new(TREE_DEPTH, true, &mut |met| append(&mut builder, met, lifts).map(|()| Go::On))
                .run(directory.as_fd(), &mut Vec::new())?;
        }
        Ok(builder.finish()?)
    })?;
    Ok(FileReply::Done)
}

/// Has the owner in, where permissions keep it out.
fn lift(met: &Met<'_>, least: Mode) -> Result<(), Stop> {
    let mode = Mode::from_bits_truncate(met.found.st_mode & 0o7777);
    if !mode.contains(least) {
        // By its name, which is what it was: nobody else has this copy.
        fchmodat(met.directory, met.name, mode | least, FchmodatFlags::FollowSymlink)?;
    }
    Ok(())
}

fn append(builder: &mut Builder<&mut Sink<'_>>, met: &Met<'_>, lifts: bool) -> Result<(), Stop> {
    let path = std::path::Path::new(std::ffi::OsStr::from_bytes(met.path));
    match kind_of(&met.found) {
        SFlag::S_IFDIR => {
            if lifts {
                lift(met, Mode::S_IRUSR | Mode::S_IXUSR)?;
            }
            let mut header = header(EntryType::Directory, &met.found, 0);
            Ok(builder.append_data(&mut header, path, std::io::empty())?)
        }
        SFlag::S_IFLNK => {
            let Ok(target) = readlinkat(met.directory, met.name) else { return Ok(()) };
            let mut header = header(EntryType::Symlink, &met.found, 0);
            // As it stands where it fits: the longer way takes its parts apart and loses empty ones.
            match header.set_link_name_literal(target.as_bytes()) {
                Ok(()) => Ok(builder.append_data(&mut header, path, std::io::empty())?),
                Err(_) => {
                    Ok(builder.append_link(&mut header, path, std::ffi::OsString::from_vec(target.into_vec()))?)
                }
            }
        }
        SFlag::S_IFREG => {
            if lifts {
                lift(met, Mode::S_IRUSR)?;
            }
            let (file, found) = match open_regular(met.directory, met.name) {
                Ok(opened) => opened,
                // A program has removed or replaced it meanwhile.
                Err(Stop::Refused(
                    FileError::Missing | FileError::Link | FileError::NotRegular | FileError::IsDirectory,
                )) => return Ok(()),
                Err(Stop::Refused(FileError::Denied)) => {
                    let entry = met.path.iter().copied().take(PATH_BYTES).collect();
                    return Err(FileError::Irregular { entry, why: Irregularity::Unreadable }.into());
                }
                Err(stop) => return Err(stop),
            };
            let size = u64::try_from(found.st_size).unwrap_or_default();
            let mut header = header(EntryType::Regular, &found, size);
            if lifts {
                header.set_mode(met.found.st_mode & 0o777);
            }
            Ok(builder.append_data(&mut header, path, Exactly { file, left: size })?)
        }
        _ => Ok(()),
    }
}

/// Owner and group are the program's everywhere, so nothing of them is told.
fn header(kind: EntryType, found: &FileStat, size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(found.st_mode & 0o777);
    header.set_mtime(u64::try_from(found.st_mtime).unwrap_or_default());
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(size);
    header
}

/// The bytes that the header has told; a file that has fewer now is an error.
struct Exactly {
    file: File,
    left: u64,
}

impl Read for Exactly {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
        if most == 0 {
            return Ok(0);
        }
        match self.file.read(bytes.get_mut(..most).ok_or(ErrorKind::InvalidInput)?)? {
            0 => Err(Stop::Refused(FileError::Changed).into()),
            count => {
                self.left -= count as u64;
                Ok(count)
            }
        }
    }
}
