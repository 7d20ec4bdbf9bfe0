//! What is known of a store's directory: which entries it has, how large they are, and which of them was
//! used longest ago.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use nix::dir::Dir;
use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag};
use nix::sys::stat::{FileStat, Mode, SFlag, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::key::Key;
use super::store::UNFINISHED;
use crate::sys::{Errno, Result, fs};

/// What a file system gives a file at least; the smallest entries count as much.
const BLOCK_BYTES: u64 = 4096;
/// A directory that was changed so lately may be changed again without another time of change.
const RECENT: Duration = Duration::from_secs(1);

/// Name of the directory that an entry is in.
pub(super) fn subdirectory_of(key: &Key) -> String {
    format!("{:02x}", key.first())
}

/// Name of an entry's file.
pub(super) fn name_of(key: &Key) -> String {
    format!("{key:?}")
}

fn key_of(name: &[u8]) -> Option<Key> {
    HEXLOWER.decode(name).ok()?.try_into().map(Key::from_bytes).ok()
}

#[derive(Debug, Clone, Copy)]
struct Known {
    bytes: u64,
    used: SystemTime,
}

#[derive(Debug, Default)]
struct Subdirectory {
    entries: HashMap<Key, Known>,
    /// Its time of change when it was listed; `None` where it must be listed anew.
    listed: Option<SystemTime>,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    /// By the first byte of the key.
    subdirectories: HashMap<u8, Subdirectory>,
    by_use: BTreeSet<(SystemTime, Key)>,
    bytes: u64,
}

impl Index {
    /// Bytes and number of all entries.
    pub(super) fn size(&self) -> (u64, u64) {
        (self.bytes, self.by_use.len() as u64)
    }

    /// What a file of this length counts.
    pub(super) fn cost(&self, length: u64) -> u64 {
        length.next_multiple_of(BLOCK_BYTES)
    }

    /// The entry that was used longest ago, and when.
    pub(super) fn oldest(&self) -> Option<(Key, SystemTime)> {
        self.by_use.first().map(|(used, key)| (*key, *used))
    }

    /// An entry of this length is there, and was used at this time.
    pub(super) fn note(&mut self, key: Key, length: u64, used: SystemTime) {
        self.forget(&key);
        let bytes = self.cost(length);
        self.subdirectories.entry(key.first()).or_default().entries.insert(key, Known { bytes, used });
        self.by_use.insert((used, key));
        self.bytes += bytes;
    }

    /// There is no such entry.
    pub(super) fn forget(&mut self, key: &Key) {
        let known = self.subdirectories.get_mut(&key.first()).and_then(|inside| inside.entries.remove(key));
        if let Some(known) = known {
            self.by_use.remove(&(known.used, *key));
            self.bytes -= known.bytes;
        }
    }

    /// Length of an entry's file and when it was used, by the disk.
    pub(super) fn used_on_disk(&self, directory: &OwnedFd, key: &Key) -> Option<(u64, SystemTime)> {
        let path = Path::new(&subdirectory_of(key)).join(name_of(key));
        let found = fstatat(directory, &path, AtFlags::AT_SYMLINK_NOFOLLOW).ok()?;
        Some((length_of(&found), changed(&found)))
    }

    /// Lists every subdirectory that has changed; `clean` removes what a crash has left there.
    pub(super) fn refresh(&mut self, directory: &OwnedFd, clean: bool) -> Result<()> {
        for first in 0..=u8::MAX {
            let name = format!("{first:02x}");
            let changed = match fstatat(directory, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(found) if kind(&found) == SFlag::S_IFDIR => changed(&found),
                Ok(_) | Err(Number::ENOENT) => {
                    self.forget_all(first);
                    continue;
                }
                Err(errno) => return Err(Errno { call: "fstatat", errno }),
            };
            if self.subdirectories.get(&first).is_none_or(|inside| inside.listed != Some(changed)) {
                let is_recent = SystemTime::now().duration_since(changed).is_ok_and(|age| age < RECENT);
                self.list(directory, first, clean)?;
                self.subdirectories.entry(first).or_default().listed = Some(changed).filter(|_| !is_recent);
            }
        }
        Ok(())
    }

    fn forget_all(&mut self, first: u8) {
        let keys: Vec<Key> =
            self.subdirectories.get(&first).map(|inside| inside.entries.keys().copied().collect()).unwrap_or_default();
        for key in keys {
            self.forget(&key);
        }
        self.subdirectories.remove(&first);
    }

    fn list(&mut self, directory: &OwnedFd, first: u8, clean: bool) -> Result<()> {
        self.forget_all(first);
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
        let inside = fs::open_beneath(directory.as_fd(), Path::new(&format!("{first:02x}")), flags, Mode::empty())?;
        let listing = inside.try_clone().map_err(|_| Errno { call: "fcntl", errno: Number::EMFILE })?;
        for entry in Dir::from_fd(listing).map_err(|errno| Errno { call: "fdopendir", errno })? {
            let entry = entry.map_err(|errno| Errno { call: "readdir", errno })?;
            let name = entry.file_name();
            if clean && name.to_bytes().starts_with(UNFINISHED.as_bytes()) {
                remove_unless_locked(&inside, name);
            }
            let Some(key) = key_of(name.to_bytes()).filter(|key| key.first() == first) else { continue };
            if let Ok(found) = fstatat(&inside, name, AtFlags::AT_SYMLINK_NOFOLLOW)
                && kind(&found) == SFlag::S_IFREG
            {
                self.note(key, length_of(&found), changed(&found));
            }
        }
        Ok(())
    }
}

/// Removes what was being written when its process died: whoever still writes holds a lock.
fn remove_unless_locked(inside: &OwnedFd, name: &std::ffi::CStr) {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK;
    let opened = fs::open_beneath(inside.as_fd(), path, flags, Mode::empty());
    let is_locked =
        opened.is_ok_and(|file| Flock::lock(std::fs::File::from(file), FlockArg::LockExclusiveNonblock).is_err());
    if !is_locked {
        // Where it can't be removed, it is in nobody's way either.
        unlinkat(inside, name, UnlinkatFlags::NoRemoveDir).ok();
    }
}

fn kind(found: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits())
}

fn length_of(found: &FileStat) -> u64 {
    u64::try_from(found.st_size).unwrap_or_default()
}

fn changed(found: &FileStat) -> SystemTime {
    let seconds = Duration::from_secs(u64::try_from(found.st_mtime).unwrap_or_default());
    let rest = Duration::from_nanos(u64::try_from(found.st_mtime_nsec).unwrap_or_default());
    SystemTime::UNIX_EPOCH + seconds + rest
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::key;
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_name_and_its_key_stand_for_each_other() {
        assert_eq!(key_of(name_of(&key(0xa7)).as_bytes()), Some(key(0xa7)));
        for name in ["", "a7", &"A7".repeat(32), &"+7".repeat(32), &"a7".repeat(33)] {
            assert_eq!(key_of(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn what_was_used_longest_ago_is_the_oldest() {
        let mut index = Index::default();
        index.note(key(1), 10, at(5));
        index.note(key(2), 10, at(3));
        assert_eq!(index.oldest(), Some((key(2), at(3))));
        index.note(key(2), 10, at(7));
        assert_eq!(index.oldest(), Some((key(1), at(5))));
    }

    #[test]
    fn bytes_are_those_of_whole_blocks() {
        let mut index = Index::default();
        index.note(key(1), 1, at(1));
        index.note(key(2), 4097, at(1));
        assert_eq!(index.size(), (3 * 4096, 2));
        index.note(key(2), 4096, at(2));
        assert_eq!(index.size(), (2 * 4096, 2));
        index.forget(&key(1));
        index.forget(&key(1));
        assert_eq!(index.size(), (4096, 1));
    }
}
