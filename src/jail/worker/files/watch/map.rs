//! Which directory each watch of the kernel's stands for.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno as Number;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};
use nix::sys::stat::SFlag;

use super::join;
use crate::jail::worker::files::Stop;
use crate::jail::worker::files::tree::{Go, Walk, kind_of, open_directory};
use crate::plan::files::{FileError, Place, TREE_DEPTH, WATCHED_DIRECTORIES};

/// Most paths that are kept because they were told before their event came.
const TOLD: usize = 1 << 16;

pub(super) struct Map<'a> {
    inotify: Inotify,
    /// The directory that all began with is not held open: its end would not be told.
    workspace: BorrowedFd<'a>,
    root_watch: WatchDescriptor,
    /// Path of the root below the workspace.
    prefix: Vec<u8>,
    recursive: bool,
    /// Paths below the workspace, by the number of their watch.
    paths: BTreeMap<i32, (WatchDescriptor, Vec<u8>)>,
    /// What was found in new directories, and may be told by an event as well.
    told: BTreeSet<Vec<u8>>,
}

impl<'a> Map<'a> {
    pub(super) fn new(workspace: BorrowedFd<'a>, path: &Place, recursive: bool) -> Result<Self, Stop> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let root_watch = add(&inotify, open_directory(workspace, path.as_path())?.as_fd())?;
        let prefix = path.as_bytes().to_vec();
        let paths = BTreeMap::from([(root_watch.as_raw(), (root_watch, prefix.clone()))]);
        Ok(Self { inotify, workspace, root_watch, prefix, recursive, paths, told: BTreeSet::new() })
    }

    /// Whether this is the watch of the directory that all began with.
    pub(super) fn is_root(&self, watch: WatchDescriptor) -> bool {
        watch == self.root_watch
    }

    /// The path of the directory that all began with.
    pub(super) fn root(&self) -> Vec<u8> {
        self.prefix.clone()
    }

    /// What has happened; nothing where that is nothing yet.
    pub(super) fn events(&self) -> Result<Vec<InotifyEvent>, Stop> {
        match self.inotify.read_events() {
            Err(Number::EAGAIN | Number::EINTR) => Ok(Vec::new()),
            events => Ok(events?),
        }
    }

    /// Watches all directories that are there.
    pub(super) fn scan(&mut self) -> Result<(), Stop> {
        let prefix = self.prefix.clone();
        let root = open_directory(self.workspace, or_itself(&prefix))?;
        self.walk(root.as_fd(), &prefix, &mut |_| Ok(()))
    }

    /// As [`Map::scan`] for events that were lost: what can't be watched goes without.
    pub(super) fn rescan(&mut self) -> Result<(), Stop> {
        self.told.clear();
        match self.scan() {
            Err(Stop::Gone) => Err(Stop::Gone),
            _ => Ok(()),
        }
    }

    /// Watches a new directory and those in it; `found` is called for all that lies in them. Tells whether
    /// all of them are watched.
    pub(super) fn enter(
        &mut self,
        path: &[u8],
        found: &mut dyn FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<bool, Stop> {
        if !self.recursive {
            return Ok(true);
        }
        // It may be gone again, or be a link now; then there is nothing in it.
        let Ok(directory) = open_directory(self.workspace, or_itself(path)) else { return Ok(true) };
        let watched = self.add(directory.as_fd(), path.to_vec()).and_then(|()| {
            let mut told = BTreeSet::new();
            let walked = self.walk(directory.as_fd(), path, &mut |path| {
                if told.len() < TOLD {
                    told.insert(path.to_vec());
                }
                found(path)
            });
            self.told.append(&mut told);
            if self.told.len() > TOLD {
                self.told.clear();
            }
            walked
        });
        match watched {
            Ok(()) => Ok(true),
            Err(Stop::Gone) => Err(Stop::Gone),
            Err(Stop::Refused(_)) => Ok(false),
        }
    }

    /// Whether an event about something new tells anything that was not told yet.
    pub(super) fn is_news(&mut self, path: &[u8]) -> bool {
        !self.told.remove(path)
    }

    /// No event is on its way any more.
    pub(super) fn settled(&mut self) {
        self.told.clear();
    }

    /// The path of a name in a watched directory.
    pub(super) fn path(&self, watch: WatchDescriptor, name: &OsStr) -> Option<Vec<u8>> {
        self.paths.get(&watch.as_raw()).map(|(_, directory)| join(directory, name))
    }

    /// A directory has another name; what is watched in it has so as well.
    pub(super) fn moved(&mut self, from: &[u8], to: &[u8]) {
        for (_, path) in self.paths.values_mut() {
            if let Some(rest) = within(path, from) {
                *path = [to, rest].concat();
            }
        }
    }

    /// A directory has left: what is done in it is told no more.
    pub(super) fn left(&mut self, path: &[u8]) {
        let inotify = &self.inotify;
        self.paths.retain(|_, (watch, known)| {
            let stays = within(known, path).is_none();
            if !stays {
                // Where it is gone already, so is the watch.
                inotify.rm_watch(*watch).unwrap_or_default();
            }
            stays
        });
    }

    /// The kernel watches a directory no more.
    pub(super) fn forget(&mut self, watch: WatchDescriptor) {
        self.paths.remove(&watch.as_raw());
    }

    fn walk(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        found: &mut dyn FnMut(&[u8]) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        if !self.recursive {
            return Ok(());
        }
        let mut path = path.to_vec();
        Walk::new(TREE_DEPTH, false, &mut |met| {
            found(met.path)?;
            if kind_of(&met.found) == SFlag::S_IFDIR {
                // Gone or exchanged meanwhile: its own event tells.
                if let Ok(directory) = open_directory(met.directory, met.name) {
                    self.add(directory.as_fd(), met.path.to_vec())?;
                }
            }
            Ok(Go::On)
        })
        .run(directory, &mut path)
        .map(drop)
    }

    fn add(&mut self, directory: BorrowedFd<'_>, path: Vec<u8>) -> Result<(), Stop> {
        if self.paths.len() >= WATCHED_DIRECTORIES {
            return Err(FileError::TooMany.into());
        }
        let watch = add(&self.inotify, directory)?;
        self.paths.insert(watch.as_raw(), (watch, path));
        Ok(())
    }
}

impl AsFd for Map<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// A path of the workspace in the form in which calls take it.
fn or_itself(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(if path.is_empty() { b"." } else { path }))
}

/// What of a path lies behind another, with the slash before it.
fn within<'a>(path: &'a [u8], outer: &[u8]) -> Option<&'a [u8]> {
    path.strip_prefix(outer).filter(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Watches a directory by its descriptor: inotify_add_watch(2) takes paths only, and this one leads to what is
/// open, whatever has its name now.
fn add(inotify: &Inotify, directory: BorrowedFd<'_>) -> Result<WatchDescriptor, Stop> {
    let flags = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_FROM
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_MODIFY
        | AddWatchFlags::IN_ATTRIB
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF
        | AddWatchFlags::IN_ONLYDIR
        // A name that is gone is told no more, though a program has the file open still.
        | AddWatchFlags::from_bits_retain(libc::IN_EXCL_UNLINK);
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    match inotify.add_watch(path.as_str(), flags) {
        // No space for a watch, not on the disk.
        Err(Number::ENOSPC | Number::ENOMEM) => Err(FileError::TooMany.into()),
        added => Ok(added?),
    }
}
