//! Many operations in an order that nobody chose, against a model in which a snapshot is a copy.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::ground::{Ground, Ids, QUOTA, View, id, in_launcher};
use crate::launcher::workspace::{Done, WorkspaceId};

/// What a program does; each is tried, and may fail where it makes no sense.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Action {
    Write(String, u64),
    Directory(String),
    Remove(String),
    Move(String, String),
    Link(String, String),
    Mode(String, u32),
}

/// Numbers in an order that is always the same; xorshift.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn path(&mut self) -> String {
        let depth = 1 + self.roll(3);
        let parts: Vec<&str> = (0..depth).map(|_| ["a", "b", "c"][usize::try_from(self.roll(3)).unwrap()]).collect();
        parts.join("/")
    }

    fn action(&mut self) -> Action {
        match self.roll(12) {
            0..=3 => Action::Write(self.path(), self.roll(1000)),
            4..=6 => Action::Directory(self.path()),
            7..=8 => Action::Remove(self.path()),
            9 => Action::Move(self.path(), self.path()),
            10 => Action::Link(self.path(), self.path()),
            _ => Action::Mode(self.path(), [0o700, 0o755, 0o770][usize::try_from(self.roll(3)).unwrap()]),
        }
    }
}

/// Does it below a directory. On the workspace and on a plain file system it must do the same.
fn act(root: &Path, action: &Action) {
    match action {
        Action::Write(path, number) => {
            fs::write(root.join(path), number.to_string()).ok();
        }
        Action::Directory(path) => {
            fs::create_dir(root.join(path)).ok();
        }
        Action::Remove(path) => {
            let path = root.join(path);
            if fs::symlink_metadata(&path).is_ok_and(|status| status.is_dir()) {
                fs::remove_dir_all(path).ok();
            } else {
                fs::remove_file(path).ok();
            }
        }
        Action::Move(from, to) => {
            let (from, to) = (root.join(from), root.join(to));
            if to.starts_with(&from) || fs::symlink_metadata(&to).is_ok() || to.parent().is_none_or(|up| !up.is_dir()) {
                return;
            }
            match fs::rename(&from, &to) {
                // What programs do: `mv`, Python's shutil.
                Err(error) if error.raw_os_error() == Some(libc::EXDEV) => {
                    copy(&from, &to);
                    fs::remove_dir_all(&from).unwrap();
                }
                _ => {}
            }
        }
        Action::Link(from, to) => {
            // No second name of a file: the first write after a snapshot parts them, as overlayfs does.
            std::os::unix::fs::symlink(from, root.join(to)).ok();
        }
        Action::Mode(path, mode) => {
            fs::set_permissions(root.join(path), fs::Permissions::from_mode(*mode)).ok();
        }
    }
}

fn copy(from: &Path, to: &Path) {
    if from.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from).unwrap(), to).unwrap();
    } else if from.is_dir() {
        fs::create_dir(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy(&entry.path(), &to.join(entry.file_name()));
        }
        fs::set_permissions(to, fs::metadata(from).unwrap().permissions()).unwrap();
    } else {
        fs::copy(from, to).unwrap();
    }
}

/// Views that were true of each workspace and of each of its snapshots.
type Model = BTreeMap<WorkspaceId, (View, BTreeMap<u8, View>)>;

#[test]
fn every_view_is_that_of_the_model() {
    in_launcher("model::every_view_is_that_of_the_model", Ids::Own, |ground| {
        random(ground, 0x9e37_79b9_7f4a_7c15, 160)
    });
}

#[test]
fn every_view_is_that_of_the_model_where_all_share_one_id() {
    let name = "model::every_view_is_that_of_the_model_where_all_share_one_id";
    in_launcher(name, Ids::Shared, |ground| random(ground, 0x2545_f491_4f6c_dd1d, 80));
}

fn random(ground: &mut Ground, seed: u64, steps: u32) {
    let (mut dice, mut model, mut merges) = (Dice(seed), Model::new(), 0);
    let first = ground.workspaces.create(QUOTA).unwrap();
    model.insert(first, (ground.view(first), BTreeMap::new()));
    for step in 0..steps {
        let all: Vec<_> = model.keys().copied().collect();
        let workspace = all[usize::try_from(dice.roll(all.len() as u64)).unwrap()];
        let name = u8::try_from(dice.roll(40)).unwrap();
        let snapshot = id(name);
        match dice.roll(10) {
            // While a jail lives, and then goes on.
            0 => {
                let (before, after) = (actions(&mut dice), actions(&mut dice));
                let view = twice(ground, workspace, &before, &after, snapshot);
                if let Some(view) = view {
                    model.get_mut(&workspace).unwrap().1.insert(name, view);
                }
                let live = ground.view(workspace);
                model.get_mut(&workspace).unwrap().0 = live;
            }
            1 if model[&workspace].1.contains_key(&name) => {
                ground.workspaces.rollback(workspace, snapshot).unwrap();
                let (live, snapshots) = model.get_mut(&workspace).unwrap();
                *live = snapshots[&name].clone();
            }
            2 if model[&workspace].1.contains_key(&name) => {
                ground.workspaces.delete_snapshot(workspace, snapshot).unwrap();
                model.get_mut(&workspace).unwrap().1.remove(&name);
            }
            3 if model.len() < 5 && model[&workspace].1.contains_key(&name) => {
                let fork = ground.workspaces.fork(workspace, snapshot, QUOTA).unwrap();
                let view = model[&workspace].1[&name].clone();
                model.insert(fork, (view, BTreeMap::new()));
            }
            4 if model.len() > 3 => {
                ground.workspaces.remove(workspace).unwrap();
                model.remove(&workspace);
            }
            _ => {
                let todo = actions(&mut dice);
                let live = alike(ground, workspace, &todo);
                model.get_mut(&workspace).unwrap().0 = live.clone();
                if ground.workspaces.snapshot_at_rest(workspace, snapshot).is_ok() {
                    model.get_mut(&workspace).unwrap().1.insert(name, live);
                }
            }
        }
        while let Some(worker) = ground.workspaces.background().unwrap() {
            let done = ground.workspaces.finish(worker);
            assert!(matches!(done, Done::Merged(Ok(())) | Done::Swept(Ok(()))), "{done:?}");
            merges += u32::from(matches!(done, Done::Merged(_)));
        }
        for (workspace, (live, snapshots)) in &model {
            assert_eq!(ground.view(*workspace), *live, "step {step}");
            // One of the snapshots, by a fork that is gone at once.
            if let Some((name, view)) = snapshots.iter().nth(usize::try_from(dice.roll(8)).unwrap()) {
                let fork = ground.workspaces.fork(*workspace, id(*name), QUOTA).unwrap();
                assert_eq!(ground.view(fork), *view, "step {step}, snapshot {name}");
                ground.workspaces.remove(fork).unwrap();
            }
        }
    }
    println!("{merges} merges");
    assert!(merges > 0);
}

fn actions(dice: &mut Dice) -> Vec<Action> {
    (0..1 + dice.roll(12)).map(|_| dice.action()).collect()
}

/// Does the same to the workspace and to a copy of it on a plain tmpfs, and compares; returns the view.
fn alike(ground: &mut Ground, workspace: WorkspaceId, todo: &[Action]) -> View {
    ground.run(workspace, || {
        let plain = Path::new("/tmp/plain");
        copy(Path::new("/workspace"), plain);
        for action in todo {
            act(Path::new("/workspace"), action);
            act(plain, action);
        }
        let seen = super::ground::look();
        std::env::set_current_dir(plain).unwrap();
        assert_eq!(seen, super::ground::look(), "{todo:?}");
        fs::remove_dir_all(plain).unwrap();
    });
    ground.view(workspace)
}

/// Takes a snapshot in the middle of a jail's life; returns what was to be seen then.
fn twice(
    ground: &mut Ground,
    workspace: WorkspaceId,
    before: &[Action],
    after: &[Action],
    snapshot: crate::launcher::workspace::SnapshotId,
) -> Option<View> {
    use std::io::{Read, Write};
    let mut live = ground.start(workspace, |input, output| {
        before.iter().for_each(|action| act(Path::new("/workspace"), action));
        let view = postcard::to_allocvec(&super::ground::look()).unwrap();
        output.write_all(&u32::try_from(view.len()).unwrap().to_ne_bytes()).unwrap();
        output.write_all(&view).unwrap();
        input.read_exact(&mut [0]).unwrap();
        after.iter().for_each(|action| act(Path::new("/workspace"), action));
    });
    let mut length = [0; 4];
    live.from.read_exact(&mut length).unwrap();
    let mut view = vec![0; usize::try_from(u32::from_ne_bytes(length)).unwrap()];
    live.from.read_exact(&mut view).unwrap();
    let worker = ground.workspaces.snapshot_running(workspace, snapshot).ok();
    let done = worker.map(|worker| ground.workspaces.finish(worker));
    live.to.write_all(b"!").unwrap();
    ground.end(live);
    done.map(|done| {
        assert_eq!(done, Done::Snapshot { workspace, snapshot, result: Ok(()) });
        postcard::from_bytes(&view).unwrap()
    })
}
