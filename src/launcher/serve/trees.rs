//! Trees of installed packages: whether they are there, and having them made.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use super::{About, Server};
use crate::launcher::protocol::{NO_TREE, Reply, TreeState};
use crate::launcher::workspace::{Known, Tree, TreeSize};
use crate::plan::tree::{Ecosystem, TreeAt, TreeKey};
use crate::sys::Errno;

/// What makes a sandbox more than its runtime's.
#[derive(Debug, Clone, Default)]
pub(in crate::launcher) struct Fittings {
    /// What was installed for it.
    pub(in crate::launcher) trees: Vec<(Ecosystem, Arc<Tree>)>,
    /// What installs in it, where it is for that.
    pub(in crate::launcher) installer: Option<Ecosystem>,
}

impl Fittings {
    /// Where its trees are mounted, in the order in which they come along.
    pub(super) fn places(&self) -> Vec<Ecosystem> {
        self.trees.iter().map(|(ecosystem, _)| *ecosystem).collect()
    }

    /// How the template differs for it.
    pub(super) fn fitting(&self) -> Fitting {
        match self.installer {
            Some(ecosystem) => Fitting::Installer(ecosystem),
            None if self.trees.is_empty() => Fitting::Plain,
            None => Fitting::Trees,
        }
    }
}

/// How what sandboxes of a runtime see differs by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Fitting {
    /// Not at all.
    Plain,
    /// There are places for trees.
    Trees,
    /// An installer can be seen.
    Installer(Ecosystem),
}

impl Server {
    /// Tells whether a tree is there, and makes it where it is not and comes along.
    pub(super) fn ask_tree(&mut self, asked: (u64, u64), key: TreeKey, given: Option<(TreeSize, OwnedFd)>) {
        let state = match (self.workspaces.trees.find(&key), given) {
            (Known::Whole(_), _) => TreeState::Ready,
            (Known::Making, _) => return self.tree_waiters.entry(key).or_default().push(asked),
            (Known::Absent, None) => TreeState::Absent,
            (Known::Absent, Some((size, memory))) => match self.begin_tree(key, size, &memory) {
                Ok(()) => return self.tree_waiters.entry(key).or_default().push(asked),
                Err(reason) => TreeState::Failed(reason),
            },
        };
        self.answer_tree(asked, state);
    }

    fn begin_tree(&mut self, key: TreeKey, size: TreeSize, memory: &OwnedFd) -> Result<(), String> {
        let most = self.config.dependencies.memory_bytes;
        let worker = self.workspaces.begin_tree(key, size, memory.as_fd(), most).map_err(|error| error.to_string())?;
        self.serial += 1;
        let serial = self.serial;
        if let Err(errno) = self.watch(worker.as_fd(), About::Chore, serial) {
            // Its end would never be heard of; waiting for it is what is left.
            worker.kill();
            self.workspaces.finish(worker);
            return Err(errno.to_string());
        }
        self.chores.insert(serial, worker);
        Ok(())
    }

    /// A child is done with a tree, or has failed.
    pub(super) fn tree_ended(&mut self, key: TreeKey, result: Result<(), Errno>) {
        let state = match result {
            Ok(()) => TreeState::Ready,
            Err(errno) => TreeState::Failed(format!("its packages can't be written down: {errno}")),
        };
        for asked in self.tree_waiters.remove(&key).unwrap_or_default() {
            self.answer_tree(asked, state.clone());
        }
    }

    fn answer_tree(&mut self, (connection, lease): (u64, u64), state: TreeState) {
        self.reply(connection, &Reply::Tree { lease, state }, Vec::new());
    }

    /// The trees that a sandbox is to have.
    pub(super) fn trees(&mut self, wanted: &[TreeAt]) -> Result<Vec<(Ecosystem, Arc<Tree>)>, String> {
        let of_one = |ecosystem| wanted.iter().filter(|tree| tree.ecosystem == ecosystem).count();
        if Ecosystem::ALL.into_iter().any(|ecosystem| of_one(ecosystem) > 1) {
            return Err("two trees for one place".to_owned());
        }
        let mut trees = Vec::new();
        for TreeAt { ecosystem, key } in wanted {
            match self.workspaces.trees.find(key) {
                Known::Whole(tree) => trees.push((*ecosystem, tree)),
                Known::Making | Known::Absent => return Err(NO_TREE.to_owned()),
            }
        }
        Ok(trees)
    }
}
