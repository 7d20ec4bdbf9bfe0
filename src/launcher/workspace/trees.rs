//! Trees of installed packages: each in a tmpfs of its own, made once, which sandboxes see read-only.
//!
//! What is in one was made by somebody's build scripts, and nobody of ours ever opens anything by a path in it: a
//! child writes the files down, with the tree as its root, and each jail is handed a sealed copy of the mount.
//! The daemon has them on disk as well. Here are those that were asked for lately, as many as find room.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::symlinkat;

use super::store::BASE;
use super::worker::{Work, Worker};
use crate::plan::FilePath;
use crate::plan::tree::{self, Part, TreeKey};
use crate::sys::{Call, Errno, Result, fs as sys_fs, mount as trees};

/// Largest memory file that is unpacked, in bytes.
const TREE_BYTES: usize = 2 << 30;
/// What a file takes at least.
const PAGE_BYTES: u64 = 4096;

/// What a tree takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::launcher) struct Size {
    /// Bytes, in whole pages.
    pub(in crate::launcher) bytes: u64,
    /// Files, directories and links.
    pub(in crate::launcher) files: u64,
}

/// A tree; it is unmounted when nobody needs it any more.
#[derive(Debug)]
pub(in crate::launcher) struct Tree {
    path: PathBuf,
    root: OwnedFd,
}

impl Tree {
    fn mount(number: u64, size: Size) -> Result<Self> {
        let path = Path::new(BASE).join(format!("t{number}"));
        fs::create_dir(&path).call("mkdir")?;
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        // 0 would mean that there is no limit; tmpfs(5). The top is a file as well.
        let options = format!("mode=0755,size={},nr_inodes={}", size.bytes.max(1), size.files.saturating_add(1));
        let nothing: Option<&str> = None;
        let mounted = mount(Some("tree"), &path, Some("tmpfs"), flags, Some(options.as_str()))
            .and_then(|()| mount(nothing, &path, nothing, MsFlags::MS_PRIVATE, nothing))
            .call("mount");
        match mounted.and_then(|()| sys_fs::open_directory(&path)) {
            Ok(root) => Ok(Self { path, root }),
            Err(error) => {
                umount2(&path, MntFlags::MNT_DETACH).ok();
                fs::remove_dir(&path).ok();
                Err(error)
            }
        }
    }

    /// A copy of the mount, attached to nothing, through which nobody can write.
    pub(in crate::launcher) fn sealed(&self) -> Result<OwnedFd> {
        let copy = trees::clone_tree(self.root.as_fd(), c"")?;
        trees::seal(copy.as_fd())?;
        Ok(copy)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let unmounted = umount2(&self.path, MntFlags::MNT_DETACH).call("umount2");
        if let Err(error) = unmounted.and_then(|()| fs::remove_dir(&self.path).call("rmdir")) {
            eprintln!("codesandbox-launcher: a tree of packages can't be unmounted: {error}");
        }
    }
}

#[derive(Debug)]
struct Kept {
    tree: Arc<Tree>,
    bytes: u64,
    /// When it was asked for last, by a count.
    used: u64,
    is_whole: bool,
}

/// What is known of a tree.
#[derive(Debug, Clone)]
pub(in crate::launcher) enum Known {
    /// It is there.
    Whole(Arc<Tree>),
    /// A child is at it.
    Making,
    /// It is not there.
    Absent,
}

/// Why a tree is not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::launcher) enum NotBegun {
    /// All that could go is in use.
    #[error("there is no room for these packages: those of other sandboxes take what dependencies.memory_bytes allows")]
    NoRoom,
    /// Each file takes a page at least.
    #[error("more files than its bytes can be")]
    Size,
    /// A kernel call failed.
    #[error(transparent)]
    Kernel(#[from] Errno),
}

/// All trees of this launcher.
#[derive(Debug, Default)]
pub(in crate::launcher) struct Trees {
    all: BTreeMap<TreeKey, Kept>,
    next: u64,
    uses: u64,
}

impl Trees {
    /// What is known of a tree, which counts as used.
    pub(in crate::launcher) fn find(&mut self, key: &TreeKey) -> Known {
        self.uses += 1;
        match self.all.get_mut(key) {
            None => Known::Absent,
            Some(kept) => {
                kept.used = self.uses;
                if kept.is_whole { Known::Whole(Arc::clone(&kept.tree)) } else { Known::Making }
            }
        }
    }

    /// Begins to make a tree that is not there, of what a memory file holds; all of them together take at most so
    /// many bytes.
    pub(super) fn begin(
        &mut self,
        key: TreeKey,
        size: Size,
        memory: BorrowedFd<'_>,
        most_bytes: u64,
    ) -> std::result::Result<Worker, NotBegun> {
        if size.files > size.bytes / PAGE_BYTES {
            return Err(NotBegun::Size);
        }
        self.make_room(size.bytes, most_bytes)?;
        self.next += 1;
        self.uses += 1;
        let tree = Arc::new(Tree::mount(self.next, size)?);
        let worker = Worker::start_with(tree.root.as_fd(), Some(memory), Work::Tree(key), |root| unpack(root, memory))?;
        self.all.insert(key, Kept { tree, bytes: size.bytes, used: self.uses, is_whole: false });
        Ok(worker)
    }

    /// The child is done with it, or has failed, and then there is nothing of it.
    pub(super) fn end(&mut self, key: &TreeKey, went_well: bool) {
        if !went_well {
            self.all.remove(key);
        } else if let Some(kept) = self.all.get_mut(key) {
            kept.is_whole = true;
        }
    }

    /// Lets go of what was asked for longest ago, and is in no sandbox, until so many bytes more find room.
    fn make_room(&mut self, bytes: u64, most_bytes: u64) -> std::result::Result<(), NotBegun> {
        loop {
            let held: u64 = self.all.values().map(|kept| kept.bytes).sum();
            if held.saturating_add(bytes) <= most_bytes {
                return Ok(());
            }
            let idle = self.all.iter().filter(|(_, kept)| kept.is_whole && Arc::strong_count(&kept.tree) == 1);
            let oldest = idle.min_by_key(|(_, kept)| kept.used).map(|(key, _)| *key).ok_or(NotBegun::NoRoom)?;
            self.all.remove(&oldest);
        }
    }
}

/// In a worker: writes a tree down.
fn unpack(root: &OwnedFd, memory: BorrowedFd<'_>) -> Result<u64> {
    let bytes = sys_fs::read_whole(memory, TREE_BYTES)?;
    let parts = tree::parts(&bytes).map_err(|_| Errno { call: "read", errno: Number::EBADMSG })?;
    let mut made = HashSet::new();
    for part in &parts {
        match part {
            Part::Directory(path) => make_directory(root, path_of(path), &mut made)?,
            Part::File { path, content, executable } => {
                make_parent(root, path_of(path), &mut made)?;
                let mode = Mode::from_bits_truncate(if *executable { 0o755 } else { 0o644 });
                let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
                let mut file = fs::File::from(sys_fs::open_beneath(root.as_fd(), path_of(path), flags, mode)?);
                file.write_all(content).call("write")?;
                fchmod(&file, mode).call("fchmod")?;
            }
            Part::Link { path, target } => {
                let path = path_of(path);
                make_parent(root, path, &mut made)?;
                let above = open(root, path.parent().unwrap_or(Path::new("")))?;
                symlinkat(OsStr::from_bytes(target), &above, path.file_name().unwrap_or_default()).call("symlinkat")?;
            }
        }
    }
    Ok(u64::try_from(parts.len()).unwrap_or(u64::MAX))
}

fn path_of(path: &FilePath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

fn make_parent<'a>(root: &OwnedFd, path: &'a Path, made: &mut HashSet<&'a Path>) -> Result<()> {
    path.parent().map_or(Ok(()), |above| make_directory(root, above, made))
}

/// Makes a directory and those above it. A link that has a name of one of them is not followed.
fn make_directory<'a>(root: &OwnedFd, path: &'a Path, made: &mut HashSet<&'a Path>) -> Result<()> {
    if path.as_os_str().is_empty() || !made.insert(path) {
        return Ok(());
    }
    make_parent(root, path, made)?;
    let above = open(root, path.parent().unwrap_or(Path::new("")))?;
    match mkdirat(&above, path.file_name().unwrap_or_default(), Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Number::EEXIST) => Ok(()),
        Err(errno) => Err(Errno { call: "mkdirat", errno }),
    }
}

fn open(root: &OwnedFd, path: &Path) -> Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    sys_fs::open_beneath(root.as_fd(), path, OFlag::O_DIRECTORY | OFlag::O_RDONLY, Mode::empty())
}
