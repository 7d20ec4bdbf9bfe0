//! The bookkeeping against a model in which every snapshot is a copy of all files.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;

/// Files of one layer; `None` hides what is below.
type Files = BTreeMap<u8, Option<u8>>;
type View = BTreeMap<u8, u8>;

#[derive(Debug, Clone)]
enum Action {
    Write(usize, u8, u8),
    Remove(usize, u8),
    AtRest(usize, u8),
    BeginCopy(usize, u8),
    EndCopy(bool),
    Rollback(usize, u8),
    Delete(usize, u8),
    Fork(usize, u8),
    Forget(usize),
    BeginMerge(usize),
    EndMerge(bool),
    Hold(usize),
    Release(usize),
}

fn actions() -> impl Strategy<Value = Action> {
    let (workspace, snapshot) = (0..4usize, 0..30u8);
    prop_oneof![
        8 => (workspace.clone(), 0..6u8, any::<u8>()).prop_map(|(w, f, v)| Action::Write(w, f, v)),
        3 => (workspace.clone(), 0..6u8).prop_map(|(w, f)| Action::Remove(w, f)),
        10 => (workspace.clone(), snapshot.clone()).prop_map(|(w, s)| Action::AtRest(w, s)),
        2 => (workspace.clone(), snapshot.clone()).prop_map(|(w, s)| Action::BeginCopy(w, s)),
        2 => any::<bool>().prop_map(Action::EndCopy),
        3 => (workspace.clone(), snapshot.clone()).prop_map(|(w, s)| Action::Rollback(w, s)),
        2 => (workspace.clone(), snapshot.clone()).prop_map(|(w, s)| Action::Delete(w, s)),
        1 => (workspace.clone(), snapshot).prop_map(|(w, s)| Action::Fork(w, s)),
        1 => workspace.clone().prop_map(Action::Forget),
        2 => workspace.clone().prop_map(Action::BeginMerge),
        2 => any::<bool>().prop_map(Action::EndMerge),
        2 => workspace.clone().prop_map(Action::Hold),
        3 => workspace.prop_map(Action::Release),
    ]
}

#[derive(Debug, Default)]
struct Model {
    live: View,
    snapshots: BTreeMap<SnapshotId, View>,
}

#[derive(Debug, Default)]
struct World {
    book: Book,
    disk: HashMap<Layer, Files>,
    models: BTreeMap<WorkspaceId, Model>,
    copies: Vec<(WorkspaceId, SnapshotId, Layer, View)>,
    merges: Vec<Layer>,
    held: HashMap<WorkspaceId, Vec<Layer>>,
}

fn id(number: u8) -> SnapshotId {
    SnapshotId(number.into())
}

impl World {
    fn pick(&self, index: usize) -> Option<WorkspaceId> {
        let all: Vec<_> = self.models.keys().copied().collect();
        all.get(index % all.len().max(1)).copied()
    }

    fn look(&self, layers: &[Layer]) -> View {
        let mut view = View::new();
        for layer in layers {
            for (name, value) in &self.disk[layer] {
                match value {
                    Some(value) => view.insert(*name, *value),
                    None => view.remove(name),
                };
            }
        }
        view
    }

    fn opened(&mut self, workspace: WorkspaceId, live: View) {
        let (_, upper) = self.book.view(workspace).unwrap();
        self.disk.insert(upper, Files::new());
        self.models.insert(workspace, Model { live, snapshots: BTreeMap::new() });
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write(w, name, value) => self.put(w, name, Some(value)),
            Action::Remove(w, name) => self.put(w, name, None),
            Action::AtRest(w, s) => {
                let Some(w) = self.pick(w) else { return };
                let (_, upper) = self.book.view(w).unwrap();
                let is_empty = self.disk[&upper].is_empty();
                if let Ok(next) = self.book.snapshot_at_rest(w, id(s), is_empty) {
                    assert_eq!(next == upper, is_empty);
                    self.disk.entry(next).or_default();
                    let model = self.models.get_mut(&w).unwrap();
                    model.snapshots.insert(id(s), model.live.clone());
                }
            }
            Action::BeginCopy(w, s) => {
                let Some(w) = self.pick(w) else { return };
                let (_, upper) = self.book.view(w).unwrap();
                if let Ok(made) = self.book.begin_copy(w, id(s)) {
                    self.disk.insert(made, self.disk[&upper].clone());
                    self.copies.push((w, id(s), made, self.models[&w].live.clone()));
                }
            }
            Action::EndCopy(is_made) => {
                let Some((w, s, made, view)) = self.copies.pop() else { return };
                self.book.end(made, is_made);
                if is_made && let Some(model) = self.models.get_mut(&w) {
                    model.snapshots.insert(s, view);
                }
            }
            Action::Rollback(w, s) => {
                let Some(w) = self.pick(w) else { return };
                if let Ok(upper) = self.book.rollback(w, id(s)) {
                    self.disk.insert(upper, Files::new());
                    let model = self.models.get_mut(&w).unwrap();
                    model.live = model.snapshots[&id(s)].clone();
                }
            }
            Action::Delete(w, s) => {
                let Some(w) = self.pick(w) else { return };
                let was_there = self.models.get_mut(&w).unwrap().snapshots.remove(&id(s)).is_some();
                assert_eq!(self.book.delete_snapshot(w, id(s)).is_ok(), was_there);
            }
            Action::Fork(w, s) => {
                let Some(w) = self.pick(w).filter(|_| self.models.len() < 6) else { return };
                if let Ok(fork) = self.book.fork(w, id(s)) {
                    let live = self.models[&w].snapshots[&id(s)].clone();
                    self.opened(fork, live);
                }
            }
            Action::Forget(w) => {
                let Some(w) = self.pick(w) else { return };
                self.book.remove(w).unwrap();
                self.models.remove(&w);
                self.held.remove(&w);
                if self.models.is_empty() {
                    self.begin();
                }
            }
            Action::BeginMerge(w) => {
                let Some(w) = self.pick(w) else { return };
                let Some(run) = self.book.wants_merge(w) else { return };
                let mut merged = Files::new();
                for layer in &run.layers {
                    merged.extend(self.disk[layer].clone());
                }
                if run.is_bottom {
                    merged.retain(|_, value| value.is_some());
                }
                let made = self.book.begin_merge(w, run).unwrap();
                self.disk.insert(made, merged);
                self.merges.push(made);
            }
            Action::EndMerge(is_made) => {
                let Some(made) = self.merges.pop() else { return };
                self.book.end(made, is_made);
            }
            Action::Hold(w) => {
                let Some(w) = self.pick(w) else { return };
                if self.book.hold(w).is_ok() {
                    let (layers, upper) = self.book.view(w).unwrap();
                    self.held.insert(w, [layers, &[upper]].concat());
                }
            }
            Action::Release(w) => {
                let Some(w) = self.pick(w) else { return };
                self.book.release(w);
                assert!(!self.book.is_stale(w));
                self.held.remove(&w);
            }
        }
    }

    fn put(&mut self, w: usize, name: u8, value: Option<u8>) {
        let Some(w) = self.pick(w) else { return };
        let (_, upper) = self.book.view(w).unwrap();
        self.disk.get_mut(&upper).unwrap().insert(name, value);
        let live = &mut self.models.get_mut(&w).unwrap().live;
        match value {
            Some(value) => live.insert(name, value),
            None => live.remove(&name),
        };
    }

    fn begin(&mut self) {
        let workspace = self.book.create();
        self.opened(workspace, View::new());
    }

    fn check(&mut self) {
        for layer in self.book.take_trash() {
            assert!(self.disk.remove(&layer).is_some(), "{layer:?} is thrown away twice");
        }
        for (w, model) in &self.models {
            let (layers, upper) = self.book.view(*w).unwrap();
            assert_eq!(self.look(&[layers, &[upper]].concat()), model.live);
            assert!(layers.len() <= MOST_LAYERS);
            for (s, view) in &model.snapshots {
                assert_eq!(self.look(self.book.snapshot(*w, *s).unwrap()), *view);
            }
        }
        for (w, layers) in &self.held {
            assert_eq!(self.look(layers), self.models[w].live, "a jail sees something else");
        }
    }
}

proptest! {
    #[test]
    fn every_view_is_that_of_the_model(all in prop::collection::vec(actions(), 1..250)) {
        let mut world = World::default();
        world.begin();
        for action in all {
            world.act(action);
            world.check();
        }
        // Without any workspace nothing is left.
        for workspace in world.models.keys().copied().collect::<Vec<_>>() {
            world.book.remove(workspace).unwrap();
        }
        for made in world.copies.iter().map(|copy| copy.2).chain(world.merges.clone()) {
            world.book.end(made, true);
        }
        world.models.clear();
        world.held.clear();
        world.check();
        prop_assert!(world.disk.is_empty() && world.book.references.is_empty() && world.book.stores.is_empty());
    }
}

/// A workspace with this many snapshots, each with a layer of its own.
fn deep(book: &mut Book, layers: u8) -> WorkspaceId {
    let workspace = book.create();
    for number in 0..layers {
        book.snapshot_at_rest(workspace, id(number), false).unwrap();
    }
    workspace
}

#[test]
fn a_snapshot_of_nothing_new_has_no_layer_of_its_own() {
    let mut book = Book::default();
    let workspace = deep(&mut book, 1);
    book.snapshot_at_rest(workspace, id(9), true).unwrap();
    assert_eq!(book.snapshot(workspace, id(9)), book.snapshot(workspace, id(0)));
}

#[test]
fn a_jail_forbids_what_would_pull_its_files_away() {
    let mut book = Book::default();
    let workspace = deep(&mut book, 2);
    book.hold(workspace).unwrap();
    assert_eq!(book.snapshot_at_rest(workspace, id(7), false), Err(Refusal::InUse));
    assert_eq!(book.rollback(workspace, id(0)), Err(Refusal::InUse));
    assert_eq!(book.hold(workspace), Err(Refusal::InUse));
    book.release(workspace);
    assert!(book.rollback(workspace, id(0)).is_ok());
}

#[test]
fn old_layers_stay_until_the_jail_is_made_anew() {
    let mut book = Book::default();
    let workspace = deep(&mut book, 13);
    for number in 0..13 {
        book.delete_snapshot(workspace, id(number)).unwrap();
    }
    book.hold(workspace).unwrap();
    let run = book.wants_merge(workspace).unwrap();
    assert!(run.is_bottom && run.layers.len() == 13);
    let made = book.begin_merge(workspace, run).unwrap();
    assert_eq!(book.wants_merge(workspace), None, "two merges at one time");
    book.end(made, true);
    assert!(book.is_stale(workspace) && book.take_trash().is_empty());
    book.release(workspace);
    assert_eq!(book.take_trash().len(), 13);
    assert_eq!(book.view(workspace).unwrap().0, [made]);
}

#[test]
fn a_merge_that_failed_is_not_tried_again_at_once() {
    let mut book = Book::default();
    let workspace = deep(&mut book, 13);
    let run = book.wants_merge(workspace).unwrap();
    let made = book.begin_merge(workspace, run).unwrap();
    book.end(made, false);
    assert_eq!(book.wants_merge(workspace), None);
    assert_eq!(book.take_trash(), [made]);
}

#[test]
fn layers_of_a_dead_workspace_live_for_its_forks() {
    let mut book = Book::default();
    let parent = deep(&mut book, 2);
    let child = book.fork(parent, id(1)).unwrap();
    book.remove(parent).unwrap();
    assert!(!book.is_dead(parent));
    assert_eq!(book.take_trash().len(), 1, "only what it was writing to");
    book.remove(child).unwrap();
    assert!(book.is_dead(parent) && book.is_dead(child));
}

#[test]
fn there_are_limits() {
    let mut book = Book::default();
    let workspace = deep(&mut book, u8::try_from(MOST_LAYERS).unwrap());
    assert_eq!(book.snapshot_at_rest(workspace, id(200), false), Err(Refusal::TooManyLayers));
    let mut last = deep(&mut book, 1);
    let refusal = loop {
        match book.fork(last, id(0)) {
            Ok(fork) => last = fork,
            Err(refusal) => break refusal,
        }
        book.snapshot_at_rest(last, id(0), false).unwrap();
    };
    assert_eq!(refusal, Refusal::TooManyGenerations);
}
