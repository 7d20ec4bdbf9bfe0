//! Entries on disk: one file each, in a directory of our own that nobody else can enter.
//!
//! ```text
//!  compile/          mode 0700, made by us; `dependencies/` is another
//!    a7/             first byte of the key
//!      a72f…         an entry; its time of change is when it was used last
//!      .new-…        one that is being written, locked by who writes it
//! ```
//!
//! Several processes may use one directory. None trusts that what it knows of it still holds: an entry
//! is looked for by its name, and before one is written the directories that changed are listed anew.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use nix::errno::Errno as Number;
use nix::fcntl::{Flock, FlockArg, OFlag, renameat};
use nix::sys::stat::{Mode, fstat, mkdirat};
use nix::unistd::{UnlinkatFlags, geteuid, unlinkat};

use super::entry::Entry;
use super::index::{Index, name_of, subdirectory_of};
use super::key::Key;
use crate::sys::{Call, Errno, Result, fs};

/// How names of files begin that are being written.
pub(super) const UNFINISHED: &str = ".new-";
/// Largest file that is read: no configuration allows an entry of this size.
const FILE_BYTES: usize = 2 << 30;

/// Why nothing can be kept in a directory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum StoreError {
    /// The directory could not be made.
    #[error("making the directory: {0}")]
    Make(String),
    /// Others could change what is in it.
    #[error("its directory {0:?} belongs to another user, or others may enter it")]
    NotOurs(&'static str),
    /// The system refused something.
    #[error(transparent)]
    System(#[from] Errno),
}

/// What was found under a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Got {
    Entry(Box<Entry>),
    Nothing,
    /// Something that is no entry of this key; it is removed.
    Spoilt,
}

/// What became of an entry that was to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Put {
    /// Whether it is kept: it may be larger than all entries together may be.
    pub(super) kept: bool,
    /// How many others had to go for it.
    pub(super) evicted: u64,
}

#[derive(Debug)]
pub(super) struct Store {
    directory: OwnedFd,
    /// Most bytes of all entries together.
    bytes: u64,
    index: Mutex<Index>,
}

impl Store {
    /// Opens the directory of this name in another, makes both where they are missing, removes what a crash has left in it, and as many
    /// entries as are too many.
    pub(super) fn open(path: &Path, name: &'static str, bytes: u64) -> std::result::Result<Self, StoreError> {
        let directory = open_private(path, name)?;
        let store = Self { directory, bytes, index: Mutex::default() };
        store.index().refresh(&store.directory, true)?;
        store.make_room(&mut store.index(), 0)?;
        Ok(store)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        // What a panic under this lock leaves wrong is put right by the next look at the disk.
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes and number of entries, as far as is known.
    pub(super) fn size(&self) -> (u64, u64) {
        self.index().size()
    }

    /// The entry of a key, which counts as used.
    pub(super) fn get(&self, key: &Key) -> Result<Got> {
        let path = Path::new(&subdirectory_of(key)).join(name_of(key));
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
        let opened = match fs::open_beneath(self.directory.as_fd(), &path, flags, Mode::empty()) {
            Ok(opened) => opened,
            Err(Errno { errno: Number::ENOENT, .. }) => {
                self.index().forget(key);
                return Ok(Got::Nothing);
            }
            // Whatever this is, it is not ours: a link, a socket.
            Err(Errno { errno: Number::ELOOP | Number::ENXIO | Number::EXDEV, .. }) => return self.spoilt(key),
            Err(error) => return Err(error),
        };
        let file = File::from(opened);
        let bytes = match fs::read_whole(file.as_fd(), FILE_BYTES) {
            Ok(bytes) => bytes,
            Err(Errno { errno: Number::EFBIG | Number::EISDIR | Number::ESPIPE, .. }) => return self.spoilt(key),
            Err(error) => return Err(error),
        };
        let Some(entry) = Entry::decode(&bytes, key) else {
            return self.spoilt(key);
        };
        let now = SystemTime::now();
        // On a file system that can't be written to, nothing is ever evicted either.
        file.set_modified(now).ok();
        self.index().note(*key, bytes.len() as u64, now);
        Ok(Got::Entry(Box::new(entry)))
    }

    fn spoilt(&self, key: &Key) -> Result<Got> {
        self.remove(&mut self.index(), key)?;
        Ok(Got::Spoilt)
    }

    /// Keeps an entry, in place of any that is there.
    pub(super) fn put(&self, key: &Key, entry: &Entry) -> Result<Put> {
        let bytes = entry.encode(key);
        let mut index = self.index();
        index.refresh(&self.directory, false)?;
        if index.cost(bytes.len() as u64) > self.bytes {
            return Ok(Put { kept: false, evicted: 0 });
        }
        index.forget(key);
        let evicted = self.make_room(&mut index, bytes.len() as u64)?;
        // The disk may take its time; whoever looks for an entry does not wait for that.
        drop(index);
        let now = self.write(key, &bytes)?;
        self.index().note(*key, bytes.len() as u64, now);
        Ok(Put { kept: true, evicted })
    }

    /// Under another name first, and onto the disk before it gets its own: a crash leaves the whole
    /// entry or none.
    fn write(&self, key: &Key, bytes: &[u8]) -> Result<SystemTime> {
        let name = subdirectory_of(key);
        match mkdirat(&self.directory, name.as_str(), private()) {
            Ok(()) | Err(Number::EEXIST) => {}
            Err(errno) => return Err(Errno { call: "mkdirat", errno }),
        }
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        let inside = fs::open_beneath(self.directory.as_fd(), Path::new(&name), flags, Mode::empty())?;
        let unfinished = format!("{UNFINISHED}{}", uuid::Uuid::new_v4());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(fs::open_beneath(inside.as_fd(), Path::new(&unfinished), flags, mode)?);
        let written = write_all(file, bytes).and_then(|(_lock, now)| {
            renameat(&inside, unfinished.as_str(), &inside, name_of(key).as_str()).call("renameat").map(|()| now)
        });
        if written.is_err() {
            // Where not even this works, the next start does it.
            unlinkat(&inside, unfinished.as_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
        written
    }

    /// Removes what was used longest ago until so many bytes more fit; returns how many entries went.
    fn make_room(&self, index: &mut Index, bytes: u64) -> Result<u64> {
        let mut evicted = 0;
        while index.size().0 + index.cost(bytes) > self.bytes {
            let Some((key, used)) = index.oldest() else { break };
            // Another process may have used it since.
            match index.used_on_disk(&self.directory, &key) {
                Some((length, newer)) if newer > used => index.note(key, length, newer),
                _ => {
                    self.remove(index, &key)?;
                    evicted += 1;
                }
            }
        }
        Ok(evicted)
    }

    fn remove(&self, index: &mut Index, key: &Key) -> Result<()> {
        let path = Path::new(&subdirectory_of(key)).join(name_of(key));
        match unlinkat(&self.directory, &path, UnlinkatFlags::NoRemoveDir) {
            // Another process may have been quicker.
            Ok(()) | Err(Number::ENOENT) => {
                index.forget(key);
                Ok(())
            }
            Err(errno) => Err(Errno { call: "unlinkat", errno }),
        }
    }
}

/// A directory of this name in another that is our own and that nobody else can enter; both are made where they are
/// missing.
pub(super) fn open_private(path: &Path, name: &'static str) -> std::result::Result<OwnedFd, StoreError> {
    // Nothing of a path that is there already is changed.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| StoreError::Make(error.to_string()))?;
    let outer = fs::open_directory(path)?;
    match mkdirat(&outer, name, private()) {
        Ok(()) | Err(Number::EEXIST) => {}
        Err(errno) => return Err(Errno { call: "mkdirat", errno }.into()),
    }
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
    // A mount of its own is as good; a link is not.
    let directory =
        nix::fcntl::openat(&outer, name, flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC, Mode::empty()).call("openat")?;
    let found = fstat(&directory).call("fstat")?;
    if found.st_uid != geteuid().as_raw() || found.st_mode & 0o077 != 0 {
        return Err(StoreError::NotOurs(name));
    }
    Ok(directory)
}

/// Writes a file onto the disk, and holds it locked: an unlocked one is what a crash has left.
pub(super) fn write_all(file: File, bytes: &[u8]) -> Result<(Flock<File>, SystemTime)> {
    let mut file =
        Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| Errno { call: "flock", errno })?;
    file.write_all(bytes).call("write")?;
    let now = SystemTime::now();
    file.set_modified(now).call("futimens")?;
    file.sync_all().call("fsync")?;
    Ok((file, now))
}

pub(super) fn private() -> Mode {
    Mode::S_IRWXU
}

#[cfg(test)]
mod tests;
