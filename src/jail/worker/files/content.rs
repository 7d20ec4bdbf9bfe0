//! Reads and writes one file.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::errno::Errno as Number;
use nix::fcntl::{FallocateFlags, OFlag, fallocate, renameat};
use nix::sys::stat::{Mode, SFlag, fchmod, fstat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::Stop;
use super::listing::entry_of;
use super::tree::{Spot, kind_of, make_directories, open_directory, open_regular, split, status, temporary_name};
use super::wire::Wire;
use crate::plan::FilePath;
use crate::plan::files::{CHUNK_BYTES, FileError, FileReply, Span, path_of};
use crate::sys::fs::open_beneath;

pub(super) fn read(workspace: BorrowedFd<'_>, path: &FilePath, span: Span, wire: &Wire) -> Result<FileReply, Stop> {
    let (file, found) = open_regular(workspace, path_of(path))?;
    let entry = entry_of(path.as_bytes().to_vec(), &found, None);
    let size = entry.size;
    let (from, length) = match span {
        Span::From(from, _) if from > size => return Err(FileError::OutOfRange { size }.into()),
        Span::From(from, length) => (from, length.unwrap_or(u64::MAX).min(size - from)),
        Span::Last(length) => (size.saturating_sub(length), length.min(size)),
    };
    wire.answer(&Ok(FileReply::Content { entry, from, length }))?;
    wire.download(|sink| {
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut at = from;
        while at < from + length {
            let most = usize::try_from(from + length - at).unwrap_or(usize::MAX).min(buffer.len());
            let room = buffer.get_mut(..most).expect("it is no longer than that");
            let offset = i64::try_from(at).map_err(|_| FileError::TooLarge)?;
            match nix::sys::uio::pread(&file, room, offset) {
                // A hole that nothing fills would have the daemon wait, and zeros would be a lie.
                Ok(0) => return Err(FileError::Changed.into()),
                Ok(count) => {
                    sink.write_all(room.get(..count).unwrap_or_default())?;
                    at += count as u64;
                }
                Err(Number::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    })?;
    Ok(FileReply::Done)
}

/// Writes to a temporary name, which becomes the file's once all of it is there: a reader never sees half a
/// file, and an upload that breaks off leaves nothing.
pub(super) fn write(
    workspace: BorrowedFd<'_>,
    path: &FilePath,
    executable: bool,
    length: Option<u64>,
    wire: &Wire,
) -> Result<FileReply, Stop> {
    let (above, name) = split(path_of(path));
    // Directories on the way are made at the end, for the same reason.
    let mut there = PathBuf::from(above);
    let directory = loop {
        match open_directory(workspace, &there) {
            Err(Stop::Refused(FileError::Missing)) if there.as_os_str() != "." => {
                there = split(&there).0.to_owned();
            }
            opened => break opened?,
        }
    };
    if there == above && status(directory.as_fd(), name).is_ok_and(|found| kind_of(&found) == SFlag::S_IFDIR) {
        return Err(FileError::IsDirectory.into());
    }
    let temporary = temporary_name();
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    let file = open_beneath(directory.as_fd(), temporary.as_ref(), flags, Mode::from_bits_truncate(0o600))?;
    let written = (|| {
        let mut file = File::from(file);
        receive(&mut file, length, wire)?;
        fchmod(&file, mode(executable))?;
        let parent = make_directories(workspace, above)?;
        renameat(&directory, temporary.as_os_str(), &parent, name)?;
        Ok(FileReply::Entry(entry_of(path.as_bytes().to_vec(), &fstat(&file)?, None)))
    })();
    if written.is_err() {
        // Where this fails as well, a program has taken it away.
        unlinkat(&directory, temporary.as_os_str(), UnlinkatFlags::NoRemoveDir).unwrap_or_default();
    }
    written
}

/// Writes behind what is there.
pub(super) fn append(
    workspace: BorrowedFd<'_>,
    path: &FilePath,
    executable: bool,
    length: Option<u64>,
    wire: &Wire,
) -> Result<FileReply, Stop> {
    let spot = Spot::make(workspace, path)?;
    // Without O_NONBLOCK a FIFO would have the worker wait for a reader; with it that is ENXIO.
    let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_NONBLOCK;
    let file = open_beneath(spot.parent.as_fd(), spot.name.as_ref(), flags, mode(executable))?;
    if kind_of(&fstat(&file)?) != SFlag::S_IFREG {
        return Err(FileError::NotRegular.into());
    }
    if executable {
        fchmod(&file, mode(true))?;
    }
    let mut file = File::from(file);
    let mut buffer = vec![0; CHUNK_BYTES];
    let (mut upload, mut received) = (wire.upload(), 0);
    loop {
        let count = upload.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        file.write_all(buffer.get(..count).unwrap_or_default())?;
        received += count as u64;
    }
    if length.is_some_and(|length| length != received) {
        return Err(FileError::Incomplete.into());
    }
    Ok(FileReply::Entry(entry_of(path.as_bytes().to_vec(), &fstat(&file)?, None)))
}

fn mode(executable: bool) -> Mode {
    Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 })
}

/// Writes an upload into a file that is empty.
fn receive(file: &mut File, length: Option<u64>, wire: &Wire) -> Result<(), Stop> {
    if let Some(length) = length.filter(|length| *length > 0) {
        let length = i64::try_from(length).map_err(|_| FileError::TooLarge)?;
        // A disk that is too full is told before the upload, where the file system can.
        match fallocate(&*file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
            Ok(()) | Err(Number::EOPNOTSUPP | Number::ENOSYS | Number::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    let mut upload = wire.upload();
    let mut buffer = vec![0; CHUNK_BYTES];
    let mut received = 0;
    loop {
        let count = upload.read(&mut buffer)?;
        if count == 0 {
            break;
        }
        received += count as u64;
        if length.is_some_and(|length| received > length) {
            return Err(FileError::Incomplete.into());
        }
        file.write_all(buffer.get(..count).unwrap_or_default())?;
    }
    if length.is_some_and(|length| received != length) {
        return Err(FileError::Incomplete.into());
    }
    Ok(())
}
