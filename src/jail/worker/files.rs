//! One operation on the files of a session, for the daemon.
//!
//! Every path is opened by openat2 below a descriptor of `/workspace` and through no link; what has
//! no openat2 is called on the parent's descriptor and a single name. A link is listed, moved and removed
//! as a link. Programs of the session run meanwhile and may exchange whatever they own: the worst that
//! comes of it is another file of theirs.

mod archive;
mod content;
mod copy;
mod extract;
mod listing;
mod search;
mod tree;
mod watch;
mod wire;

use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;

use nix::errno::Errno as Number;
use nix::sys::stat::Mode;

use crate::plan::files::{FileAnswer, FileError, FileReply, FileRequest};
use crate::sys::Errno;
use wire::Wire;

/// Serves one request that comes over `socket`, on the files below `workspace`; see [`crate::plan::files`].
/// Returns an exit code: 0 where it was done, 1 where it was refused, 2 where nobody could be told.
pub fn serve_files(workspace: BorrowedFd<'_>, socket: UnixStream) -> u8 {
    // Modes are said where files are made, and mean what they say.
    nix::sys::stat::umask(Mode::from_bits_truncate(0o022));
    let wire = Wire::new(socket);
    let done = match wire.request() {
        Ok(request) => serve(workspace, request, &wire),
        Err(stop) => Err(stop),
    };
    let answer: FileAnswer = match done {
        Ok(reply) => Ok(reply),
        Err(Stop::Refused(error)) => Err(error),
        Err(Stop::Gone) => return 2,
    };
    match wire.answer(&answer) {
        Ok(()) if answer.is_ok() => 0,
        Ok(()) => 1,
        Err(_) => 2,
    }
}

fn serve(workspace: BorrowedFd<'_>, request: FileRequest, wire: &Wire) -> Result<FileReply, Stop> {
    match request {
        FileRequest::Read { path, span } => content::read(workspace, &path, span, wire),
        FileRequest::Write { path, executable, append: true, length } => {
            content::append(workspace, &path, executable, length, wire)
        }
        FileRequest::Write { path, executable, append: false, length } => {
            content::write(workspace, &path, executable, length, wire)
        }
        FileRequest::Stat { path } => listing::stat(workspace, &path),
        FileRequest::List { path, depth, most } => listing::list(workspace, &path, depth, most, wire),
        FileRequest::Mkdir { path } => listing::mkdir(workspace, &path),
        FileRequest::Move { from, to, replace } => copy::rename(workspace, &from, &to, replace),
        FileRequest::Copy { from, to, replace } => copy::copy(workspace, &from, &to, replace),
        FileRequest::Remove { path, recursive } => copy::remove(workspace, &path, recursive),
        FileRequest::Search { path, name, content, limits } => {
            search::search(workspace, &path, name.as_deref(), content.as_ref(), limits, wire)
        }
        FileRequest::Watch { path, recursive } => watch::watch(workspace, &path, recursive, wire),
        FileRequest::Archive { path, lifts } => archive::archive(workspace, &path, lifts, wire),
        FileRequest::Extract { path } => extract::extract(workspace, &path, wire),
    }
}

/// Why an operation ends early.
#[derive(Debug, thiserror::Error)]
enum Stop {
    /// It can't be done, and the daemon is told why.
    #[error("{0}")]
    Refused(#[from] FileError),
    /// There is nobody to tell.
    #[error("the connection is gone")]
    Gone,
}

impl From<Number> for Stop {
    fn from(errno: Number) -> Self {
        Self::Refused(match errno {
            Number::ENOENT => FileError::Missing,
            Number::EEXIST => FileError::Exists,
            Number::ENOTDIR => FileError::NotDirectory,
            Number::EISDIR => FileError::IsDirectory,
            Number::ENXIO => FileError::NotRegular,
            Number::ELOOP => FileError::Link,
            Number::ENOTEMPTY => FileError::NotEmpty,
            Number::ENOSPC | Number::EDQUOT => FileError::DiskFull,
            Number::EFBIG => FileError::TooLarge,
            Number::EMFILE | Number::ENFILE | Number::EMLINK => FileError::TooMany,
            Number::ENAMETOOLONG => FileError::TooDeep,
            Number::EACCES | Number::EPERM | Number::EROFS => FileError::Denied,
            errno => FileError::Other(errno as i32),
        })
    }
}

impl From<Errno> for Stop {
    fn from(error: Errno) -> Self {
        error.errno.into()
    }
}

impl From<std::io::Error> for Stop {
    /// A stop that went through a reader or a writer of the standard library comes out as it was.
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Number::from_raw(errno).into(),
            None => error.downcast().unwrap_or(Self::Refused(FileError::Damaged)),
        }
    }
}

impl From<Stop> for std::io::Error {
    fn from(stop: Stop) -> Self {
        Self::other(stop)
    }
}
