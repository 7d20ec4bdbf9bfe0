//! Hands out the files that a client wants, when every process is dead: only regular files, found
//! without following any link, with a limit on everything.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use nix::dir::{Dir, Type};
use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::plan::{Found, Omission, Wanted};
use crate::sys::{Call, Errno, fs};

const WANTED_BYTES: usize = 1 << 20;
/// Most omitted files that are named.
const OMISSIONS: u64 = 100;

/// A directory walk with limits; visits paths in an order of its own.
struct Walk {
    deadline: Instant,
    entries_left: u64,
    depth: u64,
}

/// What a walk does with what it meets.
enum Met<'a> {
    /// Something that is no directory.
    Entry(&'a Path),
    /// A directory that lies too deep.
    TooDeep(&'a Path),
    /// A directory that could not be read, or not to its end.
    Unreadable(&'a Path),
    /// A directory that has nothing in it; the one that the walk began in is none.
    Empty(&'a Path),
}

impl Walk {
    /// Calls `visit` for what lies below `/workspace` until it returns false or a limit is met;
    /// returns whether it saw everything.
    fn run(&mut self, workspace: BorrowedFd<'_>, visit: &mut dyn FnMut(Met<'_>) -> bool) -> bool {
        let mut pending = vec![(std::path::PathBuf::new(), 0)];
        while let Some((path, depth)) = pending.pop() {
            let at = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
            let opened = fs::open_beneath(workspace, at, flags, Mode::empty());
            let Some(directory) = opened.ok().and_then(|directory| Dir::from_fd(directory).ok()) else {
                if !visit(Met::Unreadable(&path)) {
                    return true;
                }
                continue;
            };
            let mut is_empty = true;
            for entry in directory {
                let Ok(entry) = entry else {
                    is_empty = false;
                    if !visit(Met::Unreadable(&path)) {
                        return true;
                    }
                    break;
                };
                let name = entry.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                is_empty = false;
                if self.entries_left == 0 || Instant::now() >= self.deadline {
                    return false;
                }
                self.entries_left -= 1;
                let path = path.join(OsStr::from_bytes(name));
                let go_on = match entry.file_type() {
                    Some(Type::Directory) if depth < self.depth => {
                        pending.push((path, depth + 1));
                        true
                    }
                    Some(Type::Directory) => visit(Met::TooDeep(&path)),
                    _ => visit(Met::Entry(&path)),
                };
                if !go_on {
                    return true;
                }
            }
            if is_empty && depth > 0 && !visit(Met::Empty(&path)) {
                return true;
            }
        }
        true
    }
}

/// A regular file and what is told of it.
struct Regular {
    file: File,
    size: u64,
    executable: bool,
}

/// A regular file, opened without following links and without waiting for anything.
fn open_regular(workspace: BorrowedFd<'_>, path: &Path) -> Result<Regular, Omission> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    // ELOOP is a link, ENXIO a socket; a FIFO opens at once without a writer and is told below.
    let opened = fs::open_beneath(workspace, path, flags, Mode::empty()).map_err(|error| match error.errno {
        Number::ELOOP | Number::ENXIO => Omission::NotRegular,
        _ => Omission::Unreadable,
    })?;
    let opened = File::from(opened);
    let found = opened.metadata().map_err(|_| Omission::Unreadable)?;
    if !found.is_file() {
        return Err(Omission::NotRegular);
    }
    Ok(Regular { file: opened, size: found.len(), executable: found.permissions().mode() & 0o100 != 0 })
}

/// What a symbolic link says; `None` for whatever is none.
fn link(top: BorrowedFd<'_>, path: &Path) -> Option<Vec<u8>> {
    let above = path.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let above = fs::open_beneath(top, above, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty()).ok()?;
    let said = nix::fcntl::readlinkat(&above, path.file_name()?).ok()?;
    Some(said.into_vec())
}

/// Writes what is wanted to the pipe, each file behind a [`Found`] with its length before it.
pub(super) fn collect(wanted: BorrowedFd<'_>, pipe: OwnedFd) -> Result<(), Errno> {
    let mut pipe = File::from(pipe);
    let malformed = Errno { call: "pread", errno: Number::EBADMSG };
    let wanted: Wanted = postcard::from_bytes(&fs::read_whole(wanted, WANTED_BYTES)?).map_err(|_| malformed)?;
    let patterns = patterns(&wanted.patterns).map_err(|_| malformed)?;
    let workspace = OwnedFd::from(File::open("/workspace").call("open")?);
    let workspace = match &wanted.tree {
        None => workspace,
        Some(top) => {
            let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
            match fs::open_beneath(
                workspace.as_fd(),
                Path::new(OsStr::from_bytes(top.as_bytes())),
                flags,
                Mode::empty(),
            ) {
                Ok(top) => top,
                // Nothing was made, and that is what is handed out.
                Err(Errno { errno: Number::ENOENT, .. }) => {
                    drop(put(&mut pipe, &Found::End));
                    return Ok(());
                }
                Err(_) => {
                    let path = top.as_bytes().to_vec();
                    let told = put(&mut pipe, &Found::Omitted { path, reason: Omission::NotRegular });
                    drop(told.and_then(|()| put(&mut pipe, &Found::End)));
                    return Ok(());
                }
            }
        }
    };
    let (is_tree, whole) = (wanted.tree.is_some(), wanted.whole || wanted.tree.is_some());
    let mut walk = Walk {
        deadline: Instant::now() + Duration::from_millis(wanted.time_ms),
        entries_left: wanted.entries,
        depth: wanted.depth,
    };
    let (mut files, mut bytes_left, mut omissions) = (0, wanted.bytes, 0);
    // A broken pipe means that the client is gone; there is nobody to tell.
    let mut broken = false;
    let complete = walk.run(workspace.as_fd(), &mut |met| {
        let (path, opened) = match met {
            Met::TooDeep(path) => (path, Err(Omission::TooDeep)),
            Met::Unreadable(_) | Met::Empty(_) if !whole => return true,
            Met::Unreadable(path) => (path, Err(Omission::Unreadable)),
            Met::Empty(path) | Met::Entry(path) if is_tree && files >= wanted.files => (path, Err(Omission::TooMany)),
            Met::Empty(path) if is_tree => {
                files += 1;
                broken = put(&mut pipe, &Found::Directory { path: path.as_os_str().as_bytes().to_vec() }).is_err();
                return !broken;
            }
            Met::Empty(path) => (path, Err(Omission::EmptyDirectory)),
            Met::Entry(path) if !is_tree && !patterns.is_match(path) => return true,
            Met::Entry(path) if files >= wanted.files => (path, Err(Omission::TooMany)),
            Met::Entry(path) if is_tree && let Some(target) = link(workspace.as_fd(), path) => {
                files += 1;
                let path = path.as_os_str().as_bytes().to_vec();
                broken = put(&mut pipe, &Found::Link { path, target }).is_err();
                return !broken;
            }
            Met::Entry(path) => (path, open_regular(workspace.as_fd(), path)),
        };
        let opened = opened.and_then(|found| if found.size > bytes_left { Err(Omission::TooLarge) } else { Ok(found) });
        let name = path.as_os_str().as_bytes().to_vec();
        let written = match opened {
            Ok(found) => {
                files += 1;
                bytes_left -= found.size;
                hand_out(&mut pipe, name, found)
            }
            Err(_) if omissions >= OMISSIONS => Ok(()),
            Err(reason) => {
                omissions += 1;
                put(&mut pipe, &Found::Omitted { path: name, reason })
            }
        };
        broken = written.is_err();
        !broken
    });
    if !complete && !broken {
        broken = put(&mut pipe, &Found::Omitted { path: Vec::new(), reason: Omission::TooLate }).is_err();
    }
    if !broken {
        // As above: a client that is gone now has lost nothing.
        drop(put(&mut pipe, &Found::End));
    }
    Ok(())
}

/// Patterns as clients write them: `*` stays within a directory, `**` does not.
fn patterns(texts: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for text in texts {
        set.add(GlobBuilder::new(text).literal_separator(true).build()?);
    }
    set.build()
}

fn put(pipe: &mut File, found: &Found) -> std::io::Result<()> {
    let bytes = postcard::to_allocvec(found).map_err(std::io::Error::other)?;
    let length = u32::try_from(bytes.len()).map_err(std::io::Error::other)?;
    pipe.write_all(&length.to_le_bytes())?;
    pipe.write_all(&bytes)
}

/// Exactly `size` bytes follow the header, whatever the file has become.
fn hand_out(pipe: &mut File, path: Vec<u8>, found: Regular) -> std::io::Result<()> {
    let Regular { file, size, executable } = found;
    put(pipe, &Found::File { path, size, executable })?;
    let sent = std::io::copy(&mut file.take(size), pipe)?;
    std::io::copy(&mut std::io::repeat(0).take(size - sent), pipe)?;
    Ok(())
}

/// Whether a regular file of this size is there, as a write that met the limit leaves it; looks for
/// a tenth of a second at most.
pub(super) fn has_file_of(size: u64) -> bool {
    let deadline = Instant::now() + Duration::from_millis(100);
    ["/workspace", "/tmp", "/dev/shm"].into_iter().filter_map(|directory| File::open(directory).ok()).any(|directory| {
        let mut walk = Walk { deadline, entries_left: 20_000, depth: 64 };
        let mut found = false;
        walk.run(directory.as_fd(), &mut |met| {
            if let Met::Entry(path) = met {
                found = open_regular(directory.as_fd(), path).is_ok_and(|regular| regular.size == size);
            }
            !found
        });
        found
    })
}
