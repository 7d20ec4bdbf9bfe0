//! The tmpfs of one workspace: the one limit of all that its session keeps.
//!
//! It is mounted where nothing but the launcher gets to, and each jail is handed a copy of the mount.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno as Number;
use nix::fcntl::renameat;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, mkdirat};
use nix::sys::statvfs::fstatvfs;
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::entry::{self, Attributes};
use super::{Quota, Usage};
use crate::plan::workspace::{EMPTY, SHM, TMP, layer_name, work_name};
use crate::sys::{Call, Errno, Result, fs as sys_fs, mount as trees};

/// A directory that every host has, and of which the launcher reads nothing.
pub(super) const BASE: &str = "/sys/kernel";
/// What nobody refers to any more, until it is removed.
const TRASH: &str = "trash";
/// Directories that every store has, the root included.
const OWN_DIRECTORIES: u64 = 5;
/// Files that a layer or an upper directory takes besides those in it: itself, and what overlayfs works in.
const FILES_OF_LAYER: u64 = 4;
/// Files that overlayfs makes while it is mounted, and removes again.
const FILES_OF_MOUNT: u64 = 16;
/// Mode of `/workspace`, where nothing else is said.
const ROOT_MODE: Mode = Mode::S_IRWXU;

/// A mounted store.
#[derive(Debug)]
pub(super) struct Store {
    path: PathBuf,
    root: OwnedFd,
    quota: Quota,
    /// Owner of what the program has, as the store has it.
    owner: u32,
    /// Layers and upper directories that are there, and how many links each has that count as files, though
    /// they only stand for files of other layers.
    directories: BTreeMap<u64, u64>,
    /// Whether something waits in the trash, and whether a worker is at it.
    pub(super) has_trash: bool,
    pub(super) is_swept: bool,
    pub(super) failed_sweeps: u32,
}

/// Mounts the place where stores are mounted.
pub(super) fn mount_base() -> Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("workspaces"), BASE, Some("tmpfs"), flags, Some("mode=0700,size=1m,nr_inodes=16k")).call("mount")
}

impl Store {
    pub(super) fn mount(number: u64, quota: Quota, owner: u32) -> Result<Self> {
        let path = Path::new(BASE).join(number.to_string());
        fs::create_dir(&path).call("mkdir")?;
        let options = format!("mode=0700,size={},nr_inodes={}", quota.disk_bytes.max(1), least_files(quota));
        let nothing: Option<&str> = None;
        let mounted = mount(Some("workspace"), &path, Some("tmpfs"), flags(), Some(options.as_str())).call("mount");
        let root = match mounted.and_then(|()| sys_fs::open_directory(&path)) {
            Ok(root) => root,
            Err(error) => {
                umount2(&path, MntFlags::MNT_DETACH).ok();
                fs::remove_dir(&path).ok();
                return Err(error);
            }
        };
        // The host's mounts reach the launcher, and nothing of this may reach anybody.
        let store = Self {
            path,
            root,
            quota,
            owner,
            directories: BTreeMap::new(),
            has_trash: false,
            is_swept: false,
            failed_sweeps: 0,
        };
        let made = mount(nothing, &store.path, nothing, MsFlags::MS_PRIVATE, nothing)
            .call("mount")
            .and_then(|()| store.furnish());
        match made {
            Ok(()) => Ok(store),
            Err(error) => {
                store.unmount().ok();
                Err(error)
            }
        }
    }

    fn furnish(&self) -> Result<()> {
        for (name, mode) in [(TRASH, 0o700), (EMPTY, 0o755), (TMP, 0o1777), (SHM, 0o1777)] {
            let owner = if name == TRASH || name == EMPTY { 0 } else { self.owner };
            self.make(
                name,
                &Attributes { mode: Mode::from_bits_truncate(mode), uid: owner, gid: owner, extended: Vec::new() },
            )?;
        }
        Ok(())
    }

    fn make(&self, name: &str, attributes: &Attributes) -> Result<()> {
        mkdirat(&self.root, name, Mode::S_IRWXU).call("mkdirat")?;
        let directory = self.open(name)?;
        attributes.give(directory.as_fd())
    }

    fn open(&self, name: &str) -> Result<OwnedFd> {
        open_in(&self.root, name)
    }

    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// A copy of the mount, attached to nothing.
    pub(super) fn tree(&self) -> Result<OwnedFd> {
        trees::clone_tree(self.root.as_fd(), c"")
    }

    /// What `/workspace` is like before anybody has changed it.
    pub(super) fn plain(&self) -> Attributes {
        Attributes { mode: ROOT_MODE, uid: self.owner, gid: self.owner, extended: Vec::new() }
    }

    /// What the top of a layer or of an upper directory is like; `None` where it was not made yet.
    pub(super) fn attributes(&self, number: u64) -> Result<Option<Attributes>> {
        if !self.directories.contains_key(&number) {
            return Ok(None);
        }
        Attributes::of(self.open(&layer_name(number))?.as_fd()).map(Some)
    }

    /// Whether nothing was written to an upper directory.
    pub(super) fn is_empty(&self, number: u64) -> Result<bool> {
        if !self.directories.contains_key(&number) {
            return Ok(true);
        }
        Ok(entry::names(self.open(&layer_name(number))?.as_fd(), 1)?.is_empty())
    }

    /// Makes an upper directory, where it was not made yet.
    pub(super) fn make_upper(&mut self, number: u64, like: &Attributes) -> Result<()> {
        if self.directories.contains_key(&number) {
            return Ok(());
        }
        self.announce(number);
        // One that keeps its owner out would keep out whoever saves it as well.
        let like = Attributes { mode: like.mode | Mode::S_IRWXU, ..like.clone() };
        let made = self.make(&layer_name(number), &like).and_then(|()| {
            self.make(
                &work_name(number),
                &Attributes { mode: Mode::S_IRWXU, uid: self.owner, gid: self.owner, extended: Vec::new() },
            )
        });
        if made.is_err() {
            self.discard(number);
        }
        made
    }

    /// Says that a layer is about to be made: there must be room for it, however many files the program has.
    pub(super) fn announce(&mut self, number: u64) {
        self.directories.insert(number, 0);
        self.set_most_files(0);
    }

    /// Makes room for what overlayfs tries out when it is mounted, also where the program has left none; until
    /// [`Store::mounted`].
    pub(super) fn make_room_to_mount(&self) -> Result<()> {
        let found = fstatvfs(&self.root).call("fstatvfs")?;
        let most = found.files() - found.files_free() + FILES_OF_MOUNT;
        if most > found.files() { self.remount(most) } else { Ok(()) }
    }

    /// What [`Store::make_room_to_mount`] has given is taken back.
    pub(super) fn mounted(&self) {
        self.set_most_files(0);
    }

    /// Makes room for as many links as there are files: a merge makes at most so many at one time.
    pub(super) fn make_room_to_merge(&mut self) {
        let used = fstatvfs(&self.root).map_or(0, |found| found.files() - found.files_free());
        self.set_most_files(used);
    }

    /// A merge has made so many links.
    pub(super) fn merged(&mut self, number: u64, links: u64) {
        self.directories.insert(number, links);
        self.set_most_files(0);
    }

    /// Puts what there is of a layer or upper directory in the trash.
    pub(super) fn discard(&mut self, number: u64) {
        self.directories.remove(&number);
        for name in [layer_name(number), work_name(number), building_name(number), pool_name(number)] {
            self.throw_away(&name);
        }
    }

    /// Puts all that is there in the trash.
    pub(super) fn discard_all(&mut self) {
        for number in self.directories.keys().copied().collect::<Vec<_>>() {
            self.discard(number);
        }
        self.throw_away(TMP);
        self.throw_away(SHM);
    }

    fn throw_away(&mut self, name: &str) {
        // It fails where there is none, and then there is nothing to remove.
        if renameat(&self.root, name, &self.root, format!("{TRASH}/{name}").as_str()).is_ok() {
            self.has_trash = true;
            self.failed_sweeps = 0;
        }
    }

    /// A worker has removed what was in the trash.
    pub(super) fn swept(&mut self) {
        self.set_most_files(0);
    }

    fn set_most_files(&self, more: u64) {
        let layers = u64::try_from(self.directories.len()).unwrap_or(u64::MAX);
        let links: u64 = self.directories.values().sum();
        let most = least_files(self.quota)
            .saturating_add(layers.saturating_mul(FILES_OF_LAYER))
            .saturating_add(links)
            .saturating_add(more);
        // It fails where there are more files already: the next change of this number puts that right.
        self.remount(most).ok();
    }

    fn remount(&self, most_files: u64) -> Result<()> {
        let (nothing, options): (Option<&str>, _) = (None, format!("nr_inodes={most_files}"));
        mount(nothing, &self.path, nothing, flags() | MsFlags::MS_REMOUNT, Some(options.as_str())).call("mount")
    }

    pub(super) fn usage(&self) -> Result<Usage> {
        let found = fstatvfs(&self.root).call("fstatvfs")?;
        let layers = u64::try_from(self.directories.len()).unwrap_or(u64::MAX);
        let ours = OWN_DIRECTORIES + layers.saturating_mul(FILES_OF_LAYER / 2) + self.directories.values().sum::<u64>();
        Ok(Usage {
            bytes: (found.blocks() - found.blocks_free()).saturating_mul(found.fragment_size()),
            files: (found.files() - found.files_free()).saturating_sub(ours),
        })
    }

    /// What is in it, for tests.
    #[cfg(test)]
    pub(super) fn names(&self) -> Vec<String> {
        let names = entry::names(self.root.as_fd(), usize::MAX).unwrap();
        names.into_iter().map(|name| name.into_string().unwrap()).collect()
    }

    /// Unmounts it. What is in it is removed as soon as no jail has it any more, by whoever is the last:
    /// so it is to be empty by then.
    pub(super) fn unmount(self) -> Result<()> {
        drop(self.root);
        umount2(&self.path, MntFlags::MNT_DETACH).call("umount2")?;
        fs::remove_dir(&self.path).call("rmdir")
    }
}

fn flags() -> MsFlags {
    MsFlags::MS_NOSUID | MsFlags::MS_NODEV
}

fn least_files(quota: Quota) -> u64 {
    // 0 would mean that there is no limit; tmpfs(5).
    quota.disk_files.saturating_add(OWN_DIRECTORIES).max(1)
}

/// Name of a layer that is being made.
fn building_name(number: u64) -> String {
    format!("b{number}")
}

/// Where a worker keeps files that have several names while it copies.
fn pool_name(number: u64) -> String {
    format!("p{number}")
}

fn open_in(root: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let name = CString::new(name).map_err(|_| Errno { call: "openat", errno: Number::EINVAL })?;
    entry::open_directory(root.as_fd(), &name)
}

/// In a worker: copies an upper directory to a new layer.
pub(super) fn copy_layer(root: &OwnedFd, upper: u64, made: u64) -> Result<u64> {
    let (building, pool) = (building_name(made), pool_name(made));
    for name in [&building, &pool] {
        mkdirat(root, name.as_str(), Mode::S_IRWXU).call("mkdirat")?;
    }
    let from = open_in(root, &layer_name(upper))?;
    let to = open_in(root, &building)?;
    let kept = open_in(root, &pool)?;
    super::copy::copy(from, to, kept.as_fd())?;
    unlinkat(root, pool.as_str(), UnlinkatFlags::RemoveDir).call("unlinkat")?;
    renameat(root, building.as_str(), root, layer_name(made).as_str()).call("renameat")?;
    Ok(0)
}

/// In a worker: merges layers, the lowest first, to a new one.
pub(super) fn merge_layers(root: &OwnedFd, layers: &[u64], made: u64, is_bottom: bool) -> Result<u64> {
    let building = building_name(made);
    mkdirat(root, building.as_str(), Mode::S_IRWXU).call("mkdirat")?;
    let to = open_in(root, &building)?;
    let sources: Vec<OwnedFd> =
        layers.iter().rev().map(|number| open_in(root, &layer_name(*number))).collect::<Result<_>>()?;
    let count = super::merge::merge(&sources, &to, is_bottom)?;
    renameat(root, building.as_str(), root, layer_name(made).as_str()).call("renameat")?;
    Ok(count)
}

/// In a worker: removes what is in the trash.
pub(super) fn sweep(root: &OwnedFd) -> Result<u64> {
    super::sweep::sweep(open_in(root, TRASH)?.as_fd())
}
