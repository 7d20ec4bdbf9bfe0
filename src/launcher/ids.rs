//! Host ids for sandboxes: which range this launcher has, and which ids of it are in use.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::LauncherError;
use crate::plan::{Identity, PROGRAM_ID};

/// A part of the range of ids that no other launcher uses while the lock is held.
#[derive(Debug)]
pub(super) struct Block {
    /// First id, on the host.
    pub(super) first: u32,
    /// How many.
    pub(super) count: u32,
    /// Kept open, and inherited, for as long as the launcher lives.
    pub(super) lock: Flock<File>,
}

/// Ids that one launcher needs for so many sandboxes: three for each, and one for itself; and in any case
/// that by which files of workspaces are known, which is no sandbox's own on any path that it can reach.
pub(super) fn needed(sandboxes: usize) -> u32 {
    let own = u32::try_from(sandboxes).unwrap_or(u32::MAX / 6).saturating_mul(3).saturating_add(1);
    own.max(PROGRAM_ID + 1)
}

/// Takes a free block out of a range; launchers of one user agree by locks in one directory.
pub(super) fn claim(first: u32, count: u32, block: u32) -> Result<Block, LauncherError> {
    let directory = lock_directory();
    let file_error = |path: &Path, error| LauncherError::File { path: path.to_owned(), error };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&directory)
        .map_err(|error| file_error(&directory, error))?;
    let blocks = count / block.max(1);
    for index in 0..blocks {
        let first = first + index * block;
        let path = directory.join(format!("ids-{first}.lock"));
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|error| file_error(&path, error))?;
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            return Ok(Block { first, count: block, lock });
        }
    }
    Err(LauncherError::NoFreeIds(blocks))
}

fn lock_directory() -> PathBuf {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = variable("RUNTIME_DIRECTORY") {
        return directory;
    }
    if nix::unistd::geteuid().is_root() {
        return PathBuf::from("/run/codesandbox-launcher");
    }
    let home = || variable("HOME").map(|home| home.join(".cache"));
    variable("XDG_RUNTIME_DIR").or_else(home).unwrap_or_else(std::env::temp_dir).join("codesandbox")
}

/// The ids of this launcher's user namespace that sandboxes can have. One that was just given
/// back is the last to be given out again.
#[derive(Debug)]
pub(super) struct Slots {
    free: VecDeque<Slot>,
    count: u32,
    own: bool,
}

/// Ids of one sandbox, in use for as long as it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot(u32);

impl Slots {
    /// Slots for so many sandboxes; with `own` false all share one id.
    pub(super) fn new(sandboxes: usize, own: bool) -> Self {
        let count = u32::try_from(sandboxes).unwrap_or(u32::MAX / 6);
        Self { free: (0..count).map(Slot).collect(), count, own }
    }

    pub(super) fn take(&mut self) -> Option<Slot> {
        self.free.pop_front()
    }

    pub(super) fn give_back(&mut self, slot: Slot) {
        self.free.push_back(slot);
    }

    /// Who the processes of a sandbox with this slot are. Id 0 is the launcher's own.
    pub(super) fn identity(&self, slot: Slot) -> Identity {
        if self.own { Identity::Own { init: 1 + 2 * slot.0, program: 2 + 2 * slot.0 } } else { Identity::Shared }
    }

    /// Who the uplink of a sandbox with this slot is; absent where all share one id.
    pub(super) fn uplink(&self, slot: Slot) -> Option<u32> {
        self.own.then_some(1 + 2 * self.count + slot.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_live_sandboxes_are_disjoint() {
        let mut slots = Slots::new(500, true);
        let mut seen = std::collections::BTreeSet::from([0]);
        while let Some(slot) = slots.take() {
            let Identity::Own { init, program } = slots.identity(slot) else { panic!("own ids were asked for") };
            let uplink = slots.uplink(slot).unwrap();
            assert!(seen.insert(init) && seen.insert(program) && seen.insert(uplink));
            assert!(program.max(uplink) < needed(500));
        }
        assert_eq!(seen.len(), 1501);
    }

    #[test]
    fn a_slot_given_back_is_the_last_to_be_reused() {
        let mut slots = Slots::new(3, true);
        let first = slots.take().unwrap();
        slots.give_back(first);
        assert_ne!(slots.take(), Some(first));
        assert_ne!(slots.take(), Some(first));
        assert_eq!(slots.take(), Some(first));
    }
}
