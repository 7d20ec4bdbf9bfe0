//! Workspaces of sessions: files that outlive the jails which have them mounted.
//!
//! A workspace is a stack of layers and an upper directory ([`stack`]), in a tmpfs of its own ([`store`]).
//! At rest a snapshot is a line in a book: the upper directory becomes a layer, and nothing is
//! copied, whatever its size. While programs live, a child ([`worker`]) copies the upper directory.
//! Children also merge layers where there are many, and remove what nobody refers to any more.
//! The launcher itself never walks through what a program wrote.

mod copy;
mod entry;
mod merge;
mod stack;
mod store;
mod sweep;
mod trees;
mod worker;

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::plan::PROGRAM_ID;
use crate::plan::tree::TreeKey;
use crate::plan::workspace::{LayerAt, Overlay};
use crate::sys::{Errno, mount};

use entry::Attributes;
use stack::{Book, Layer};
use store::Store;
use trees::{NotBegun, Trees};
use worker::Work;

pub(super) use stack::{SnapshotId, WorkspaceId};
pub(super) use trees::{Known, Size as TreeSize, Tree};
pub(super) use worker::Worker;

/// How often a sweep of one store may fail before it is left alone until there is something new to remove.
const MOST_FAILED_SWEEPS: u32 = 3;

/// What a workspace may hold, all its snapshots included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Quota {
    /// Most bytes.
    pub(super) disk_bytes: u64,
    /// Most files and directories.
    pub(super) disk_files: u64,
}

/// What a workspace holds, all its snapshots included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Bytes, in whole pages.
    pub(super) bytes: u64,
    /// Files and directories, to within a few.
    pub(super) files: u64,
}

/// Why something can't be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    /// It is gone, or never was.
    #[error("no such workspace")]
    NoSuchWorkspace,
    /// It is gone, or never was.
    #[error("no such snapshot")]
    NoSuchSnapshot,
    /// The name is taken.
    #[error("there is a snapshot of this name")]
    SnapshotExists,
    /// A limit.
    #[error("a workspace has at most {} snapshots", stack::MOST_SNAPSHOTS)]
    TooManySnapshots,
    /// A limit; merging makes them fewer.
    #[error("a workspace has at most {} layers", stack::MOST_LAYERS)]
    TooManyLayers,
    /// A limit.
    #[error("a fork refers to at most {} workspaces", stack::MOST_STORES)]
    TooManyGenerations,
    /// A jail has it mounted.
    #[error("a jail has the workspace mounted")]
    InUse,
}

/// What can fail with a workspace. It is then as it was before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum WorkspaceError {
    /// It can't be done.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A kernel call failed.
    #[error(transparent)]
    Kernel(#[from] Errno),
}

type Result<T> = std::result::Result<T, WorkspaceError>;

/// What a jail needs to mount a workspace.
#[derive(Debug)]
pub(super) struct Mounts {
    /// Copies of the stores' mounts, attached to nothing, in the order that `overlay` counts them.
    pub(super) stores: Vec<OwnedFd>,
    /// What they are to be made to.
    pub(super) overlay: Overlay,
}

impl Mounts {
    /// Has the files belong to the jail's ids: what is 0 and 1000 in the store is root and the program in this user
    /// namespace. Not where all share one id: there the store has no other.
    pub(super) fn map_ids(&self, user_namespace: BorrowedFd<'_>) -> std::result::Result<(), Errno> {
        self.stores.iter().try_for_each(|store| mount::map_ids(store.as_fd(), user_namespace))
    }
}

/// What a worker has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// A snapshot of a living workspace: there it is, or why not.
    Snapshot {
        /// Of which.
        workspace: WorkspaceId,
        /// Its name.
        snapshot: SnapshotId,
        /// ENOSPC where the workspace is full; EINTR where the worker was killed.
        result: std::result::Result<(), Errno>,
    },
    /// Layers were merged, or that failed and will be tried again with more.
    Merged(std::result::Result<(), Errno>),
    /// Trash was removed.
    Swept(std::result::Result<(), Errno>),
    /// A tree is there, or why not.
    Tree(TreeKey, std::result::Result<(), Errno>),
}

/// All workspaces of this launcher.
#[derive(Debug)]
pub(super) struct Workspaces {
    book: Book,
    stores: BTreeMap<WorkspaceId, Store>,
    /// Id of the program in the stores.
    owner: u32,
    has_base: bool,
    /// Packages that sandboxes see.
    pub(super) trees: Trees,
}

impl Workspaces {
    /// None yet. `own_ids` says whether each sandbox has ids of its own; else all files belong to the launcher's
    /// only id.
    pub(super) fn new(own_ids: bool) -> Self {
        let owner = if own_ids { PROGRAM_ID } else { 0 };
        Self { book: Book::default(), stores: BTreeMap::new(), owner, has_base: false, trees: Trees::default() }
    }

    /// Makes a workspace with nothing in it.
    pub(super) fn create(&mut self, quota: Quota) -> Result<WorkspaceId> {
        let workspace = self.book.create();
        self.open(workspace, quota)
    }

    /// Makes a workspace that looks like a snapshot of another, and takes no room for it.
    pub(super) fn fork(&mut self, origin: WorkspaceId, snapshot: SnapshotId, quota: Quota) -> Result<WorkspaceId> {
        let workspace = self.book.fork(origin, snapshot)?;
        self.open(workspace, quota)
    }

    fn open(&mut self, workspace: WorkspaceId, quota: Quota) -> Result<WorkspaceId> {
        let made = self.base().and_then(|()| Store::mount(workspace.0, quota, self.owner));
        match made {
            Ok(store) => {
                self.stores.insert(workspace, store);
                Ok(workspace)
            }
            Err(error) => {
                self.book.remove(workspace)?;
                self.discard();
                Err(error.into())
            }
        }
    }

    fn base(&mut self) -> std::result::Result<(), Errno> {
        if !self.has_base {
            store::mount_base()?;
            self.has_base = true;
        }
        Ok(())
    }

    /// Begins to make a tree that is not there, of what a memory file holds.
    pub(super) fn begin_tree(
        &mut self,
        key: TreeKey,
        size: TreeSize,
        memory: BorrowedFd<'_>,
        most_bytes: u64,
    ) -> std::result::Result<Worker, NotBegun> {
        self.base()?;
        self.trees.begin(key, size, memory, most_bytes)
    }

    /// Forgets a workspace and its snapshots. No process of its jail lives.
    pub(super) fn remove(&mut self, workspace: WorkspaceId) -> Result<()> {
        self.book.remove(workspace)?;
        self.discard();
        Ok(())
    }

    /// What a new jail is to mount. Until [`Workspaces::released`] the workspace is not at rest. When init has
    /// mounted it, and before any program starts, [`Workspaces::mounted`] is to be told.
    pub(super) fn mounts(&mut self, workspace: WorkspaceId) -> Result<Mounts> {
        let (layers, upper) = self.book.view(workspace)?;
        let (layers, like) = (layers.to_vec(), self.below(workspace, layers)?);
        let mut order = vec![workspace];
        order.extend(stack::stores_of(&layers).into_iter().filter(|store| *store != workspace));
        let place = |layer: &Layer| order.iter().position(|store| *store == layer.store).unwrap_or_default();
        let overlay = Overlay {
            layers: layers
                .iter()
                .rev()
                .map(|layer| LayerAt { store: u32::try_from(place(layer)).unwrap_or_default(), number: layer.number })
                .collect(),
            upper: upper.number,
        };
        let store = self.store_mut(workspace)?;
        store.make_upper(upper.number, &like)?;
        store.make_room_to_mount()?;
        let mut stores = Vec::new();
        for store in order {
            stores.push(self.store(store)?.tree()?);
        }
        self.book.hold(workspace)?;
        Ok(Mounts { stores, overlay })
    }

    /// Init has mounted the workspace: takes the room back that it was given for that, where the program had left none.
    pub(super) fn mounted(&self, workspace: WorkspaceId) {
        if let Some(store) = self.stores.get(&workspace) {
            store.mounted();
        }
    }

    /// The jail is gone with all its processes, and so are its mounts.
    pub(super) fn released(&mut self, workspace: WorkspaceId) {
        self.book.release(workspace);
        self.discard();
    }

    /// Takes a snapshot of a workspace that no jail has mounted, at once, whatever its size.
    pub(super) fn snapshot_at_rest(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<()> {
        let (layers, upper) = self.book.view(workspace)?;
        let store = self.store(workspace)?;
        let is_same = match store.attributes(upper.number)? {
            None => true,
            Some(attributes) => store.is_empty(upper.number)? && attributes == self.below(workspace, layers)?,
        };
        self.book.snapshot_at_rest(workspace, snapshot, is_same)?;
        Ok(())
    }

    /// Takes a snapshot of a workspace while its processes are frozen, by the caller and until the worker has
    /// ended. The workspace itself goes on as it is.
    pub(super) fn snapshot_running(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<Worker> {
        let (layers, upper) = self.book.view(workspace)?;
        let like = self.below(workspace, layers)?;
        let made = self.book.begin_copy(workspace, snapshot)?;
        let work = Work::Copy { workspace, snapshot, made };
        let started = self.store_mut(workspace).and_then(|store| {
            store.make_upper(upper.number, &like)?;
            store.announce(made.number);
            Ok(Worker::start(store.root(), work, |root| store::copy_layer(root, upper.number, made.number))?)
        });
        if started.is_err() {
            self.book.end(made, false);
            self.discard();
        }
        started
    }

    /// Goes back to a snapshot. What was written since is lost.
    pub(super) fn rollback(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<()> {
        self.book.rollback(workspace, snapshot)?;
        self.discard();
        Ok(())
    }

    /// Forgets a snapshot.
    pub(super) fn delete_snapshot(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<()> {
        self.book.delete_snapshot(workspace, snapshot)?;
        self.discard();
        Ok(())
    }

    /// How much is in use of its own quota: what a fork has from its ancestors counts there.
    pub(super) fn usage(&self, workspace: WorkspaceId) -> Result<Usage> {
        Ok(self.store(workspace)?.usage()?)
    }

    /// Begins the next work that nobody waits for: to remove trash, or to merge layers. To be asked after every
    /// change and every end of a worker, until there is none.
    pub(super) fn background(&mut self) -> Result<Option<Worker>> {
        self.unmount_dead();
        if let Some(worker) = self.sweep()? {
            return Ok(Some(worker));
        }
        let wanting = self.book.workspaces().find(|workspace| self.wants_merge(*workspace));
        wanting.map_or(Ok(None), |workspace| self.merge(workspace))
    }

    /// Whether a workspace has so many layers that they are to be merged, and nobody is at it.
    pub(super) fn wants_merge(&self, workspace: WorkspaceId) -> bool {
        self.book.wants_merge(workspace).is_some()
    }

    fn merge(&mut self, workspace: WorkspaceId) -> Result<Option<Worker>> {
        let Some(run) = self.book.wants_merge(workspace) else { return Ok(None) };
        let numbers: Vec<u64> = run.layers.iter().map(|layer| layer.number).collect();
        let is_bottom = run.is_bottom;
        let Some(made) = self.book.begin_merge(workspace, run) else { return Ok(None) };
        let started = self.store_mut(made.store).and_then(|store| {
            store.announce(made.number);
            store.make_room_to_merge();
            let task = |root: &OwnedFd| store::merge_layers(root, &numbers, made.number, is_bottom);
            Ok(Worker::start(store.root(), Work::Merge { made }, task)?)
        });
        if started.is_err() {
            self.book.end(made, false);
            self.discard();
        }
        started.map(Some)
    }

    fn sweep(&mut self) -> Result<Option<Worker>> {
        let wanting = self
            .stores
            .iter_mut()
            .find(|(_, store)| store.has_trash && !store.is_swept && store.failed_sweeps < MOST_FAILED_SWEEPS);
        let Some((id, store)) = wanting else { return Ok(None) };
        let worker = Worker::start(store.root(), Work::Sweep { store: *id }, store::sweep)?;
        // What comes to the trash from now on may be missed.
        store.has_trash = false;
        store.is_swept = true;
        Ok(Some(worker))
    }

    /// A worker has ended: its descriptor is readable. Until then this waits.
    pub(super) fn finish(&mut self, worker: Worker) -> Done {
        let work = worker.work;
        let result = worker.end();
        let done = result.map(drop);
        let done = match work {
            Work::Copy { workspace, snapshot, made } => {
                self.book.end(made, done.is_ok());
                Done::Snapshot { workspace, snapshot, result: done }
            }
            Work::Merge { made } => {
                if let Some(store) = self.stores.get_mut(&made.store) {
                    store.merged(made.number, result.unwrap_or_default());
                }
                self.book.end(made, done.is_ok());
                Done::Merged(done)
            }
            Work::Sweep { store } => {
                if let Some(store) = self.stores.get_mut(&store) {
                    store.is_swept = false;
                    store.swept();
                    if done.is_err() {
                        store.has_trash = true;
                        store.failed_sweeps += 1;
                    }
                }
                Done::Swept(done)
            }
            Work::Tree(key) => {
                self.trees.end(&key, done.is_ok());
                Done::Tree(key, done)
            }
        };
        self.discard();
        done
    }

    /// Puts what nobody refers to any more in the trash of its store.
    fn discard(&mut self) {
        for layer in self.book.take_trash() {
            if let Some(store) = self.stores.get_mut(&layer.store) {
                store.discard(layer.number);
            }
        }
        for (id, store) in &mut self.stores {
            if self.book.is_dead(*id) {
                store.discard_all();
            }
        }
    }

    /// Unmounts stores of which nothing is needed. They are empty by then: to free a gibibyte takes a
    /// worker a tenth of a second, and would take the launcher as long.
    fn unmount_dead(&mut self) {
        let is_dead = |(id, store): (&WorkspaceId, &Store)| {
            let is_empty = !store.has_trash || store.failed_sweeps >= MOST_FAILED_SWEEPS;
            (self.book.is_dead(*id) && is_empty && !store.is_swept).then_some(*id)
        };
        let dead: Vec<WorkspaceId> = self.stores.iter().filter_map(is_dead).collect();
        for id in dead {
            if let Some(store) = self.stores.remove(&id)
                && let Err(error) = store.unmount()
            {
                eprintln!("codesandbox-launcher: a workspace can't be unmounted: {error}");
            }
        }
    }

    /// What the top of the stack is like, as a new upper directory on it is to be.
    fn below(&self, workspace: WorkspaceId, layers: &[Layer]) -> Result<Attributes> {
        let Some(top) = layers.last() else { return Ok(self.store(workspace)?.plain()) };
        let found = self.store(top.store)?.attributes(top.number)?;
        found.map_or_else(|| Ok(self.store(workspace)?.plain()), Ok)
    }

    fn store(&self, id: WorkspaceId) -> Result<&Store> {
        self.stores.get(&id).ok_or(Refusal::NoSuchWorkspace.into())
    }

    fn store_mut(&mut self, id: WorkspaceId) -> Result<&mut Store> {
        self.stores.get_mut(&id).ok_or(Refusal::NoSuchWorkspace.into())
    }
}

#[cfg(test)]
mod tests;
