//! Which workspace sees which layers: pure bookkeeping, without a file system.
//!
//! A workspace is a stack of layers and, on top, an upper directory that takes what is written. A
//! layer never changes; what stands below it is the same to look at in every stack that has it.
//! So a snapshot is a copy of a list, and a run of layers can be replaced by one that looks the same.
//! What nobody refers to any more is trash.

use std::collections::{BTreeMap, HashMap};

use super::Refusal;

/// A workspace, and the store that was made for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::launcher) struct WorkspaceId(pub(super) u64);

/// Name of a snapshot, given by whoever asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::launcher) struct SnapshotId(pub(in crate::launcher) u64);

/// A directory of a store: a layer, or an upper directory that may become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Layer {
    pub(super) store: WorkspaceId,
    pub(super) number: u64,
}

/// Most snapshots of one workspace.
pub(super) const MOST_SNAPSHOTS: usize = 128;
/// Most layers of one stack.
pub(super) const MOST_LAYERS: usize = 100;
/// Most stores that one stack refers to: its own, and those of its ancestors.
pub(super) const MOST_STORES: usize = 16;
/// A stack with more layers than this is to be merged.
pub(super) const MERGED_ABOVE: usize = 12;

#[derive(Debug)]
struct Record {
    /// The lowest first.
    stack: Vec<Layer>,
    upper: Layer,
    snapshots: BTreeMap<SnapshotId, Vec<Layer>>,
    /// What its jail has mounted: the stack as it was then, and the upper directory last.
    held: Option<Vec<Layer>>,
    /// With how many layers the next merge is due; more after one has failed.
    merged_above: usize,
}

/// Consecutive layers of one store, the lowest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) layers: Vec<Layer>,
    /// Whether nothing is below them.
    pub(super) is_bottom: bool,
}

/// A layer that is being made while everything goes on. What it is made from is kept for so long.
#[derive(Debug)]
enum Job {
    Copy { workspace: WorkspaceId, snapshot: SnapshotId, base: Vec<Layer>, upper: Layer },
    Merge { workspace: WorkspaceId, run: Run },
}

/// What every workspace refers to.
#[derive(Debug, Default)]
pub(super) struct Book {
    last_number: u64,
    workspaces: BTreeMap<WorkspaceId, Record>,
    /// By the layer that each makes.
    jobs: BTreeMap<Layer, Job>,
    /// How many refer to each directory.
    references: HashMap<Layer, usize>,
    /// How many directories of each store are referred to.
    stores: HashMap<WorkspaceId, usize>,
    trash: Vec<Layer>,
}

impl Book {
    /// Opens a workspace with nothing in it and a store of its own.
    pub(super) fn create(&mut self) -> WorkspaceId {
        let workspace = WorkspaceId(self.number());
        self.open(workspace, Vec::new());
        workspace
    }

    /// Opens a workspace that looks like a snapshot of another.
    pub(super) fn fork(&mut self, origin: WorkspaceId, snapshot: SnapshotId) -> Result<WorkspaceId, Refusal> {
        let stack = self.snapshot(origin, snapshot)?.to_vec();
        if stores_of(&stack).len() >= MOST_STORES {
            return Err(Refusal::TooManyGenerations);
        }
        let workspace = WorkspaceId(self.number());
        self.open(workspace, stack);
        Ok(workspace)
    }

    fn open(&mut self, workspace: WorkspaceId, stack: Vec<Layer>) {
        let upper = Layer { store: workspace, number: self.number() };
        self.keep(&stack);
        self.keep(&[upper]);
        let record = Record { stack, upper, snapshots: BTreeMap::new(), held: None, merged_above: MERGED_ABOVE };
        self.workspaces.insert(workspace, record);
    }

    /// Forgets a workspace, its snapshots included. Its store is needed for as long as others refer to it.
    pub(super) fn remove(&mut self, workspace: WorkspaceId) -> Result<(), Refusal> {
        let record = self.workspaces.remove(&workspace).ok_or(Refusal::NoSuchWorkspace)?;
        self.let_go(&record.stack);
        self.let_go(&[record.upper]);
        self.let_go(&record.held.unwrap_or_default());
        for stack in record.snapshots.values() {
            self.let_go(stack);
        }
        Ok(())
    }

    /// Takes a snapshot of a workspace that no jail has mounted. Returns the upper directory that the next
    /// writes go to; `is_empty` says that there is nothing in the present one, which then goes on.
    pub(super) fn snapshot_at_rest(
        &mut self,
        workspace: WorkspaceId,
        snapshot: SnapshotId,
        is_empty: bool,
    ) -> Result<Layer, Refusal> {
        self.may_snapshot(workspace, snapshot)?;
        let next = Layer { store: workspace, number: self.number() };
        let record = self.at_rest(workspace)?;
        if !is_empty {
            // The stack takes the reference over that the workspace had.
            record.stack.push(std::mem::replace(&mut record.upper, next));
        }
        let (upper, stack) = (record.upper, record.stack.clone());
        record.snapshots.insert(snapshot, stack.clone());
        self.keep(&stack);
        if !is_empty {
            self.keep(&[upper]);
        }
        Ok(upper)
    }

    /// Begins a snapshot of a workspace that lives: whoever asks copies the upper directory to the layer that is
    /// returned, and then says how that went.
    pub(super) fn begin_copy(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<Layer, Refusal> {
        self.may_snapshot(workspace, snapshot)?;
        let made = Layer { store: workspace, number: self.number() };
        let record = self.record(workspace)?;
        let (base, upper) = (record.stack.clone(), record.upper);
        self.keep(&base);
        self.keep(&[upper, made]);
        self.jobs.insert(made, Job::Copy { workspace, snapshot, base, upper });
        Ok(made)
    }

    /// Goes back to a snapshot. Returns the upper directory that the next writes go to.
    pub(super) fn rollback(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<Layer, Refusal> {
        let stack = self.snapshot(workspace, snapshot)?.to_vec();
        let upper = Layer { store: workspace, number: self.number() };
        let record = self.at_rest(workspace)?;
        let before = std::mem::replace(&mut record.stack, stack.clone());
        let upper_before = std::mem::replace(&mut record.upper, upper);
        // First what stays: nothing of it must become trash in between.
        self.keep(&stack);
        self.keep(&[upper]);
        self.let_go(&before);
        self.let_go(&[upper_before]);
        Ok(upper)
    }

    pub(super) fn delete_snapshot(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<(), Refusal> {
        let stack = self.record(workspace)?.snapshots.remove(&snapshot).ok_or(Refusal::NoSuchSnapshot)?;
        self.let_go(&stack);
        Ok(())
    }

    /// Has a jail mount the workspace; until [`Book::release`] nothing that it mounts becomes trash.
    pub(super) fn hold(&mut self, workspace: WorkspaceId) -> Result<(), Refusal> {
        let record = self.at_rest(workspace)?;
        let mut held = record.stack.clone();
        held.push(record.upper);
        record.held = Some(held.clone());
        self.keep(&held);
        Ok(())
    }

    /// The jail is gone, and so are its mounts.
    pub(super) fn release(&mut self, workspace: WorkspaceId) {
        if let Some(held) = self.workspaces.get_mut(&workspace).and_then(|record| record.held.take()) {
            self.let_go(&held);
        }
    }

    /// Whether the jail has layers mounted in place of which there is a merged one by now.
    #[cfg(test)]
    pub(super) fn is_stale(&self, workspace: WorkspaceId) -> bool {
        self.workspaces.get(&workspace).is_some_and(|record| {
            let held = record.held.as_deref().and_then(<[Layer]>::split_last);
            held.is_some_and(|(_, layers)| layers != record.stack)
        })
    }

    /// Layers of a workspace, the lowest first, and its upper directory.
    pub(super) fn view(&self, workspace: WorkspaceId) -> Result<(&[Layer], Layer), Refusal> {
        let record = self.workspaces.get(&workspace).ok_or(Refusal::NoSuchWorkspace)?;
        Ok((&record.stack, record.upper))
    }

    /// Layers of a snapshot, the lowest first.
    pub(super) fn snapshot(&self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<&[Layer], Refusal> {
        let record = self.workspaces.get(&workspace).ok_or(Refusal::NoSuchWorkspace)?;
        record.snapshots.get(&snapshot).map(Vec::as_slice).ok_or(Refusal::NoSuchSnapshot)
    }

    pub(super) fn workspaces(&self) -> impl Iterator<Item = WorkspaceId> {
        self.workspaces.keys().copied()
    }

    /// What is to be merged in a workspace with many layers: the longest run within one store, because files
    /// can't be linked from one to another. One merge at a time in each store.
    pub(super) fn wants_merge(&self, workspace: WorkspaceId) -> Option<Run> {
        let record = self.workspaces.get(&workspace)?;
        if record.stack.len() <= record.merged_above {
            return None;
        }
        let (mut best, mut start) = (0..0, 0);
        for run in record.stack.chunk_by(|below, above| below.store == above.store) {
            if run.len() > best.len() {
                best = start..start + run.len();
            }
            start += run.len();
        }
        let run = Run { layers: record.stack.get(best.clone())?.to_vec(), is_bottom: best.start == 0 };
        let store = run.layers.first()?.store;
        let is_busy = self.jobs.iter().any(|(made, job)| made.store == store && matches!(job, Job::Merge { .. }));
        (run.layers.len() > 1 && !is_busy).then_some(run)
    }

    /// Begins to merge: whoever asks fills the layer that is returned, and then says how that went.
    pub(super) fn begin_merge(&mut self, workspace: WorkspaceId, run: Run) -> Option<Layer> {
        let made = Layer { store: run.layers.first()?.store, number: self.number() };
        self.keep(&run.layers);
        self.keep(&[made]);
        self.jobs.insert(made, Job::Merge { workspace, run });
        Some(made)
    }

    /// A layer is made, or could not be.
    pub(super) fn end(&mut self, made: Layer, is_made: bool) {
        match self.jobs.remove(&made) {
            None => return,
            Some(Job::Copy { workspace, snapshot, mut base, upper }) => {
                if is_made && let Some(record) = self.workspaces.get_mut(&workspace) {
                    let mut stack = base.clone();
                    stack.push(made);
                    record.snapshots.insert(snapshot, stack.clone());
                    self.keep(&stack);
                }
                base.push(upper);
                self.let_go(&base);
            }
            Some(Job::Merge { workspace, run }) => {
                if is_made {
                    self.replace(&run.layers, made);
                }
                if let Some(record) = self.workspaces.get_mut(&workspace) {
                    record.merged_above = if is_made { MERGED_ABOVE } else { record.stack.len() + MERGED_ABOVE };
                }
                self.let_go(&run.layers);
            }
        }
        self.let_go(&[made]);
    }

    /// Puts one layer in the place of a run in every stack that has it.
    fn replace(&mut self, run: &[Layer], made: Layer) {
        let mut replaced = 0;
        for record in self.workspaces.values_mut() {
            for stack in std::iter::once(&mut record.stack).chain(record.snapshots.values_mut()) {
                if let Some(at) = stack.windows(run.len()).position(|found| found == run) {
                    stack.splice(at..at + run.len(), [made]);
                    replaced += 1;
                }
            }
        }
        for _ in 0..replaced {
            self.keep(&[made]);
            self.let_go(run);
        }
    }

    /// Directories that nobody refers to any more; each is told once.
    pub(super) fn take_trash(&mut self) -> Vec<Layer> {
        std::mem::take(&mut self.trash)
    }

    /// Whether nothing of a store is needed any more.
    pub(super) fn is_dead(&self, store: WorkspaceId) -> bool {
        !self.workspaces.contains_key(&store) && !self.stores.contains_key(&store)
    }

    /// Has a merge be due as soon as there are more layers than this.
    #[cfg(test)]
    pub(super) fn merge_above(&mut self, workspace: WorkspaceId, layers: usize) {
        self.workspaces.get_mut(&workspace).unwrap().merged_above = layers;
    }

    fn number(&mut self) -> u64 {
        self.last_number += 1;
        self.last_number
    }

    fn record(&mut self, workspace: WorkspaceId) -> Result<&mut Record, Refusal> {
        self.workspaces.get_mut(&workspace).ok_or(Refusal::NoSuchWorkspace)
    }

    fn at_rest(&mut self, workspace: WorkspaceId) -> Result<&mut Record, Refusal> {
        let record = self.record(workspace)?;
        if record.held.is_some() { Err(Refusal::InUse) } else { Ok(record) }
    }

    fn may_snapshot(&mut self, workspace: WorkspaceId, snapshot: SnapshotId) -> Result<(), Refusal> {
        let begun: Vec<SnapshotId> = self
            .jobs
            .values()
            .filter_map(|job| match job {
                Job::Copy { workspace: of, snapshot, .. } if *of == workspace => Some(*snapshot),
                _ => None,
            })
            .collect();
        let record = self.record(workspace)?;
        if record.snapshots.contains_key(&snapshot) || begun.contains(&snapshot) {
            return Err(Refusal::SnapshotExists);
        }
        if record.snapshots.len() + begun.len() >= MOST_SNAPSHOTS {
            return Err(Refusal::TooManySnapshots);
        }
        if record.stack.len() >= MOST_LAYERS {
            return Err(Refusal::TooManyLayers);
        }
        Ok(())
    }

    fn keep(&mut self, layers: &[Layer]) {
        for layer in layers {
            let count = self.references.entry(*layer).or_default();
            *count += 1;
            if *count == 1 {
                *self.stores.entry(layer.store).or_default() += 1;
            }
        }
    }

    fn let_go(&mut self, layers: &[Layer]) {
        for layer in layers {
            let Some(count) = self.references.get_mut(layer) else { continue };
            *count -= 1;
            if *count > 0 {
                continue;
            }
            self.references.remove(layer);
            self.trash.push(*layer);
            if let Some(left) = self.stores.get_mut(&layer.store) {
                *left -= 1;
                if *left == 0 {
                    self.stores.remove(&layer.store);
                }
            }
        }
    }
}

/// The stores that a stack refers to, each once.
pub(super) fn stores_of(stack: &[Layer]) -> Vec<WorkspaceId> {
    let mut stores = Vec::new();
    for layer in stack {
        if !stores.contains(&layer.store) {
            stores.push(layer.store);
        }
    }
    stores
}

#[cfg(test)]
mod tests;
