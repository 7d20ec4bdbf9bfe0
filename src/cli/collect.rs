//! Writing the files that a program left behind: names come from the program, so nothing is ever
//! written outside the directory, through a link, or over a file that is there.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::plan::{FilePath, PathError};
use crate::sys::fs::open_beneath;
use crate::sys::{Call, Errno};

/// Why a file was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum CollectError {
    /// Its name is none that stays in the directory.
    #[error("refused: {0}")]
    Name(#[from] PathError),
    /// There is one already.
    #[error("a file of that name is there already; --force replaces it")]
    Exists,
    /// The way to it leads through a link, or out of the directory.
    #[error("refused: the path goes through a link or another file system")]
    Link,
    /// The system said no.
    #[error(transparent)]
    System(#[from] Errno),
}

/// The directory that files are written below.
#[derive(Debug)]
pub(super) struct Target {
    directory: OwnedFd,
    replace: bool,
}

impl Target {
    /// Opens the directory, and makes it first where it is missing; `replace` allows to replace
    /// files that are there.
    ///
    /// # Errors
    /// As mkdir(2) and open(2).
    pub(super) fn open(path: &Path, replace: bool) -> std::io::Result<Self> {
        std::fs::create_dir_all(path)?;
        Ok(Self { directory: File::open(path)?.into(), replace })
    }

    /// Writes one file, and the directories above it.
    ///
    /// # Errors
    /// Why it was not written; of a file that could not be written whole nothing is left.
    pub(super) fn write(&self, path: &[u8], content: &[u8]) -> Result<(), CollectError> {
        let path = FilePath::try_from(path.to_vec())?;
        let mut parts: Vec<&[u8]> = path.as_bytes().split(|byte| *byte == b'/').collect();
        let name = as_path(parts.pop().expect("a path that was checked has a part"));
        let mut directory = self.directory.try_clone().call("fcntl")?;
        for part in parts {
            directory = enter(&directory, as_path(part))?;
        }
        if self.replace {
            match unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir) {
                Ok(()) | Err(Number::ENOENT) => {}
                Err(errno) => {
                    return Err(Errno { call: "unlinkat", errno }.into());
                }
            }
        }
        // O_EXCL: a name that is taken, be it by a dangling link, is an error and never followed.
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let file = open_beneath(directory.as_fd(), name, flags, Mode::from_bits_truncate(0o644)).map_err(explain)?;
        if let Err(error) = File::from(file).write_all(content).call("write") {
            // The disk is full, most likely; half a file under the right name would mislead.
            unlinkat(&directory, name, UnlinkatFlags::NoRemoveDir).ok();
            return Err(error.into());
        }
        Ok(())
    }
}

/// A directory below another, made where it is missing.
fn enter(parent: &OwnedFd, name: &Path) -> Result<OwnedFd, CollectError> {
    match mkdirat(parent, name, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Number::EEXIST) => {}
        Err(errno) => {
            return Err(Errno { call: "mkdirat", errno }.into());
        }
    }
    open_beneath(parent.as_fd(), name, OFlag::O_DIRECTORY, Mode::empty()).map_err(explain)
}

fn explain(error: Errno) -> CollectError {
    match error.errno {
        Number::EEXIST => CollectError::Exists,
        Number::ELOOP | Number::EXDEV => CollectError::Link,
        _ => CollectError::System(error),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn target(replace: bool) -> (tempfile::TempDir, Target) {
        let directory = tempfile::tempdir().unwrap();
        let target = Target::open(&directory.path().join("out"), replace).unwrap();
        (directory, target)
    }

    #[test]
    fn files_and_their_directories_are_made() {
        let (directory, target) = target(false);
        target.write(b"a/b/c.txt", b"\0\xff").unwrap();
        assert_eq!(std::fs::read(directory.path().join("out/a/b/c.txt")).unwrap(), b"\0\xff");
    }

    #[test]
    fn nothing_is_written_outside() {
        let (directory, target) = target(true);
        for path in [&b"../x"[..], b"/tmp/x", b"a/../../x", b"a\0b", b"", b".", b".."] {
            assert!(matches!(target.write(path, b"x"), Err(CollectError::Name(_))), "{path:?}");
        }
        assert!(!directory.path().join("x").exists());
    }

    #[test]
    fn nothing_is_written_through_a_link() {
        let (directory, target) = target(false);
        let victim = directory.path().join("victim");
        std::fs::create_dir(&victim).unwrap();
        symlink(&victim, directory.path().join("out/link")).unwrap();
        symlink(victim.join("new"), directory.path().join("out/dangling")).unwrap();
        // O_DIRECTORY on a link that may not be followed says ENOTDIR, openat2 itself ELOOP.
        assert!(target.write(b"link/x", b"x").is_err());
        assert_eq!(target.write(b"dangling", b"x"), Err(CollectError::Exists));
        assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0);
    }

    #[test]
    fn a_file_that_is_there_stays_unless_forced() {
        let (directory, target) = target(false);
        target.write(b"x", b"first").unwrap();
        assert_eq!(target.write(b"x", b"second"), Err(CollectError::Exists));
        let forced = Target::open(&directory.path().join("out"), true).unwrap();
        forced.write(b"x", b"third").unwrap();
        assert_eq!(std::fs::read(directory.path().join("out/x")).unwrap(), b"third");
    }

    #[test]
    fn replacing_a_link_leaves_what_it_points_to() {
        let (directory, target) = target(true);
        let victim = directory.path().join("victim");
        std::fs::write(&victim, "precious").unwrap();
        symlink(&victim, directory.path().join("out/x")).unwrap();
        target.write(b"x", b"new").unwrap();
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        assert_eq!(std::fs::read(directory.path().join("out/x")).unwrap(), b"new");
    }

    #[test]
    fn names_need_not_be_text() {
        let (directory, target) = target(false);
        target.write(b"\xff\n.txt", b"x").unwrap();
        assert_eq!(std::fs::read(directory.path().join("out").join(as_path(b"\xff\n.txt"))).unwrap(), b"x");
    }
}
