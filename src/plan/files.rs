//! What the daemon asks of the worker that handles a session's files, and what it answers.
//!
//! One request a connection, as a *frame*: its length as four bytes, least significant first, and
//! postcard. An upload follows its request in *chunks*, each with its length before it in the same
//! form; one of no length ends it, so that an upload which broke off is told from one that is complete.
//! The worker answers with frames of a [`FileAnswer`]. [`FileReply::Content`] and [`FileReply::Archive`]
//! are followed by chunks, and those by one more frame, which says whether the chunks are what was
//! asked for.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{FilePath, PathError};

/// Largest frame, in bytes, without its length.
pub const FRAME_BYTES: usize = 64 << 10;
/// Largest chunk, in bytes, without its length.
pub const CHUNK_BYTES: usize = 64 << 10;
/// Deepest tree of directories that is walked, copied or removed.
pub const TREE_DEPTH: usize = 256;
/// Longest path that is walked to, in bytes; PATH_MAX of path_resolution(7).
pub const WALK_BYTES: usize = 4096;
/// Most entries of one directory, and of one tree.
pub const TREE_ENTRIES: u64 = 1 << 20;
/// Most directories that one watch sees.
pub const WATCHED_DIRECTORIES: usize = 8192;
/// Longest text of a line that a search hands out, in bytes.
pub const LINE_BYTES: usize = 4096;
/// Largest extended header of an archive that is read, in bytes.
pub const HEADER_BYTES: u64 = 16 << 10;

/// `/workspace`, or something below it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// `/workspace` itself.
    Root,
    /// What lies below it.
    Below(FilePath),
}

impl Place {
    /// The path below `/workspace`; `.` for itself.
    #[must_use]
    pub fn as_path(&self) -> &Path {
        match self {
            Self::Root => Path::new("."),
            Self::Below(path) => path_of(path),
        }
    }

    /// The path below `/workspace`; nothing for itself.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Root => b"",
            Self::Below(path) => path.as_bytes(),
        }
    }
}

impl TryFrom<Vec<u8>> for Place {
    type Error = PathError;

    /// Nothing and `.` name `/workspace` itself.
    fn try_from(path: Vec<u8>) -> Result<Self, PathError> {
        match path.as_slice() {
            b"" | b"." => Ok(Self::Root),
            _ => FilePath::try_from(path).map(Self::Below),
        }
    }
}

/// A path in the form in which calls take it.
#[must_use]
pub fn path_of(path: &FilePath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

/// One operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileRequest {
    /// Hand out a regular file. Answered by [`FileReply::Content`].
    Read {
        /// Which.
        path: FilePath,
        /// Which part of it.
        span: Span,
    },
    /// Write a regular file; an upload follows. What is there is replaced when all of it has arrived, unless it is
    /// a directory; directories on the way are made. Answered by [`FileReply::Entry`].
    Write {
        /// Which.
        path: FilePath,
        /// Whether it may be executed.
        executable: bool,
        /// Write behind what is there, at once.
        append: bool,
        /// How many bytes will come, where that is known: the space for them is reserved first.
        length: Option<u64>,
    },
    /// Tell what is there; a link is told of itself. Answered by [`FileReply::Entry`].
    Stat {
        /// Where.
        path: Place,
    },
    /// Tell what lies in a directory. Answered by [`FileReply::Entry`] for each, and [`FileReply::End`].
    List {
        /// Which directory.
        path: Place,
        /// How many levels; 1 is what lies in it directly.
        depth: u32,
        /// Most entries.
        most: u64,
    },
    /// Make a directory and those on the way; one that is there already is left as it is. Answered by
    /// [`FileReply::Entry`].
    Mkdir {
        /// Which.
        path: FilePath,
    },
    /// Give something another name. Answered by [`FileReply::Done`].
    Move {
        /// What.
        from: FilePath,
        /// Its new name; directories on the way are not made.
        to: FilePath,
        /// Whether what has that name is replaced, directories with all in them.
        replace: bool,
    },
    /// Copy a file, a link as a link, or a tree of directories without what is neither. Answered by
    /// [`FileReply::Done`].
    Copy {
        /// What.
        from: FilePath,
        /// The name of the copy; directories on the way are not made.
        to: FilePath,
        /// As in [`FileRequest::Move`].
        replace: bool,
    },
    /// Remove something; a link, not what it leads to. Answered by [`FileReply::Done`].
    Remove {
        /// What.
        path: FilePath,
        /// Whether a directory goes with all that lies in it.
        recursive: bool,
    },
    /// Look for files by their name, or for lines by what is in them. Answered by [`FileReply::Hit`] for
    /// each, and [`FileReply::End`].
    Search {
        /// Where.
        path: Place,
        /// Pattern in the syntax of glob(7), with `**` for any number of directories; one without a slash
        /// is held against the last part of a path. None is every regular file.
        name: Option<String>,
        /// What a line has in it; none looks at names alone.
        content: Option<Content>,
        /// How much of it.
        limits: SearchLimits,
    },
    /// Tell what changes in a directory, until the connection ends. Answered by [`FileReply::Done`] once
    /// it is watched, and then by [`FileReply::Event`].
    Watch {
        /// Which directory.
        path: Place,
        /// Whether what lies below its directories is told as well.
        recursive: bool,
    },
    /// Hand out a directory or a file as a tar archive. Answered by [`FileReply::Archive`].
    Archive {
        /// Which.
        path: Place,
        /// Whether permissions that keep their owner out are lifted: only in a copy that nobody else has. The
        /// archive has them as they were.
        lifts: bool,
    },
    /// Unpack a tar archive into a directory; an upload follows. What was unpacked before something failed
    /// stays. Answered by [`FileReply::Done`].
    Extract {
        /// Which directory; it is made where it is not there.
        path: Place,
    },
}

/// A part of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Span {
    /// From a byte on, this many bytes or all that there are.
    From(u64, Option<u64>),
    /// The last bytes.
    Last(u64),
}

/// What a line has in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    /// This text.
    Text(String),
    /// What this regular expression matches; its classes know ASCII only.
    Regex(String),
}

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SearchLimits {
    /// Most hits.
    pub hits: u64,
    /// Most files that are looked into.
    pub files: u64,
    /// Most bytes that are looked at.
    pub bytes: u64,
    /// Most time, in milliseconds.
    pub time_ms: u64,
}

/// What the worker answers with.
pub type FileAnswer = Result<FileReply, FileError>;

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileReply {
    /// It is done.
    Done,
    /// A file; this part of it follows in chunks.
    Content {
        /// What is known of the whole file.
        entry: Entry,
        /// The first byte of the part.
        from: u64,
        /// Bytes in the part.
        length: u64,
    },
    /// An archive follows in chunks.
    Archive,
    /// What is somewhere.
    Entry(Entry),
    /// Something that was looked for.
    Hit(Hit),
    /// Something that has changed.
    Event(FileEvent),
    /// There is no more.
    End {
        /// Whether this is all; else a limit was met.
        complete: bool,
    },
}

/// What kind of thing a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A FIFO, a socket or a device.
    Other,
}

/// What is known of a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Path below `/workspace`, byte for byte; empty for itself.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes in it, for a regular file.
    pub size: u64,
    /// Permissions; the low twelve bits of inode(7).
    pub mode: u32,
    /// When its content last changed, in milliseconds since 1970.
    pub modified_ms: i64,
    /// What a link says.
    pub target: Option<Vec<u8>>,
}

/// Something that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hit {
    /// Path of the file below `/workspace`, byte for byte.
    pub path: Vec<u8>,
    /// The line, where lines were looked for.
    pub line: Option<Line>,
}

/// A line that was looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// Its number, from 1.
    pub number: u64,
    /// Where in it the first match begins, in characters from 1.
    pub column: u64,
    /// The line without its end, of at most [`LINE_BYTES`].
    pub text: Vec<u8>,
}

/// Something that has changed; paths are below `/workspace`, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileEvent {
    /// It is there now.
    Created(Vec<u8>),
    /// Its content or its mode is another.
    Modified(Vec<u8>),
    /// It is gone; of the watched directory itself, the last event.
    Removed(Vec<u8>),
    /// It has another name.
    Moved {
        /// The old one.
        from: Vec<u8>,
        /// The new one.
        to: Vec<u8>,
    },
    /// Events were lost, or directories are not watched for being too many: what is known of the files is void.
    Overflow,
}

/// Why an operation was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum FileError {
    /// Nothing has this name.
    #[error("there is no such file or directory")]
    Missing,
    /// Something has this name.
    #[error("there is something of this name already")]
    Exists,
    /// It, or a part of the path, is no directory.
    #[error("it, or a part of its path, is not a directory")]
    NotDirectory,
    /// It is a directory.
    #[error("it is a directory")]
    IsDirectory,
    /// It is a FIFO, a socket or a device.
    #[error("it is neither a regular file nor a directory")]
    NotRegular,
    /// It, or a part of the path, is a symbolic link.
    #[error("it, or a part of its path, is a symbolic link, and links are not followed")]
    Link,
    /// The directory has something in it.
    #[error("the directory is not empty")]
    NotEmpty,
    /// One path lies within the other.
    #[error("one of the paths lies within the other")]
    Overlap,
    /// The part that was asked for is not in the file.
    #[error("the file has {size} bytes, and the part asked for is not among them")]
    OutOfRange {
        /// Bytes in the file.
        size: u64,
    },
    /// There is no space for it, in bytes or in files.
    #[error("the disk of the session is full")]
    DiskFull,
    /// It is larger than a file may be.
    #[error("it is larger than a file may be")]
    TooLarge,
    /// A tree or an archive has too many entries, or the kernel watches too many directories.
    #[error("there are too many entries")]
    TooMany,
    /// A tree has too many directories in one another.
    #[error("there are too many directories in one another")]
    TooDeep,
    /// Its permissions forbid it.
    #[error("its permissions forbid it")]
    Denied,
    /// It changed while it was handed out.
    #[error("the file changed while it was read")]
    Changed,
    /// The upload broke off, or had another length than was told.
    #[error("the upload is not complete")]
    Incomplete,
    /// A pattern is none.
    #[error("the pattern is not valid: {0}")]
    Pattern(String),
    /// An archive is none, or is damaged.
    #[error("the archive is damaged, or is not a tar archive")]
    Damaged,
    /// An entry of an archive that is not unpacked, or a file that can't be put into one.
    #[error("{}: {why}", String::from_utf8_lossy(entry))]
    Irregular {
        /// Its name, cut to [`super::PATH_BYTES`].
        entry: Vec<u8>,
        /// What is wrong with it.
        why: Irregularity,
    },
    /// The request makes no sense.
    #[error("the request can't be read")]
    Malformed,
    /// Another failure; errno(3).
    #[error("it failed: {}", std::io::Error::from_raw_os_error(*.0))]
    Other(i32),
}

/// What is wrong with an entry of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Irregularity {
    /// Its name leads elsewhere, or is no name.
    #[error("{0}")]
    Name(PathError),
    /// Its name leads through a symbolic link.
    #[error("its name leads through a symbolic link")]
    ThroughLink,
    /// It is a device, a FIFO or something unknown.
    #[error("only regular files, directories and links are unpacked")]
    Kind,
    /// It is a file with holes in a form of its own.
    #[error("sparse files are not unpacked")]
    Sparse,
    /// Two headers give it two sizes.
    #[error("its headers contradict one another")]
    Contradiction,
    /// Its extended header is too large.
    #[error("its extended header is larger than {HEADER_BYTES} bytes")]
    Header,
    /// It is a link to something that is no regular file of the directory.
    #[error("it is a hard link to something that is not a regular file of the directory")]
    Target,
    /// A directory stands where it would, or something else where it would be a directory.
    #[error("what is there already is of another kind")]
    Conflict,
    /// It may not be read.
    #[error("its permissions forbid to read it")]
    Unreadable,
}

/// A value as a frame; `None` where it is too large for one.
#[must_use]
pub fn to_frame<T: Serialize>(value: &T) -> Option<Vec<u8>> {
    let bytes = postcard::to_allocvec(value).ok().filter(|bytes| bytes.len() <= FRAME_BYTES)?;
    let length = u32::try_from(bytes.len()).ok()?;
    Some([length.to_le_bytes().as_slice(), &bytes].concat())
}

/// How many bytes follow, of those that one of the limits above allows; `None` for more.
#[must_use]
pub fn length_of(prefix: [u8; 4], most: usize) -> Option<usize> {
    usize::try_from(u32::from_le_bytes(prefix)).ok().filter(|length| *length <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_itself_has_a_name() {
        for name in [&b""[..], b"."] {
            assert_eq!(Place::try_from(name.to_vec()), Ok(Place::Root));
        }
        assert_eq!(Place::Root.as_path(), Path::new("."));
        for name in [&b"/"[..], b"..", b"a/..", b"./a"] {
            assert!(Place::try_from(name.to_vec()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn a_frame_has_a_limit() {
        assert!(to_frame(&vec![0u8; FRAME_BYTES]).is_none());
        assert_eq!(to_frame(&7u8), Some(vec![1, 0, 0, 0, 7]));
        assert_eq!(length_of([0, 0, 1, 0], FRAME_BYTES), Some(FRAME_BYTES));
        assert_eq!(length_of([1, 0, 1, 0], FRAME_BYTES), None);
    }

    #[test]
    fn an_error_is_a_sentence() {
        let error =
            FileError::Irregular { entry: b"a/../b\xff".to_vec(), why: Irregularity::Name(PathError::Irregular) };
        assert_eq!(error.to_string(), "a/../b\u{fffd}: the path has an empty part, \".\" or \"..\"");
        assert!(FileError::Other(libc::EIO).to_string().starts_with("it failed: "));
    }
}
