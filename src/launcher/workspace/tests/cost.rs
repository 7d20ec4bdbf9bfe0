//! What workspaces cost, and that it does not grow with their size.

use std::fs;
use std::io::{Read, Write};
use std::time::{Duration, Instant};

use super::ground::{Ground, Ids, id, in_launcher};
use crate::launcher::workspace::{Done, Quota, WorkspaceId};

const LARGE: Quota = Quota { disk_bytes: 3 << 30, disk_files: 200_000 };

fn timed<T>(what: &str, action: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    let result = action();
    let took = began.elapsed();
    println!("{what}: {took:?}");
    (result, took)
}

/// A workspace with so many files of so many bytes each.
fn filled(ground: &mut Ground, files: usize, bytes: usize) -> WorkspaceId {
    let workspace = ground.workspaces.create(LARGE).unwrap();
    ground.run(workspace, || {
        let content = vec![1; bytes];
        for file in 0..files {
            if file % 100 == 0 {
                fs::create_dir(format!("{}", file / 100)).unwrap();
            }
            fs::write(format!("{}/{file}", file / 100), &content).unwrap();
        }
    });
    workspace
}

#[test]
fn a_snapshot_at_rest_costs_the_same_for_a_gibibyte() {
    in_launcher("cost::a_snapshot_at_rest_costs_the_same_for_a_gibibyte", Ids::Own, |ground| {
        let small = filled(ground, 10, 100 << 10);
        let large = filled(ground, 10_000, 105 << 10);
        assert!(ground.workspaces.usage(large).unwrap().bytes > 1 << 30);
        for (what, workspace) in [("1 MiB", small), ("1 GiB", large)] {
            let (_, took) = timed(&format!("snapshot at rest of {what}, with the next jail's mounts"), || {
                ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
                ground.workspaces.mounts(workspace).unwrap()
            });
            assert!(took < Duration::from_millis(50), "{took:?}");
            ground.workspaces.released(workspace);
            let (_, took) =
                timed(&format!("rollback of {what}"), || ground.workspaces.rollback(workspace, id(1)).unwrap());
            assert!(took < Duration::from_millis(50), "{took:?}");
            let fork = timed(&format!("fork of {what}"), || ground.workspaces.fork(workspace, id(1), LARGE).unwrap());
            assert!(fork.1 < Duration::from_millis(50), "{fork:?}");
            ground.workspaces.remove(fork.0).unwrap();
        }
        timed("remove 1 GiB, in the launcher", || ground.workspaces.remove(large).unwrap());
        timed("remove 1 GiB, in workers and in all", || ground.settle());
        // What it would cost the launcher to do it itself.
        let whole = filled(ground, 10_000, 105 << 10);
        let store = ground.workspaces.stores.remove(&whole).unwrap();
        timed("unmount 1 GiB in the launcher's thread", || store.unmount().unwrap());
    });
}

#[test]
fn a_living_session_is_copied_in_a_child() {
    in_launcher("cost::a_living_session_is_copied_in_a_child", Ids::Own, |ground| {
        for (what, files, bytes) in
            [("1 MiB", 10, 100 << 10), ("1 GiB", 10_000, 105 << 10), ("10 000 of 1 KiB", 10_000, 1 << 10)]
        {
            let workspace = filled(ground, files, bytes);
            let (worker, began) = timed(&format!("{what}: the launcher's part"), || {
                ground.workspaces.snapshot_running(workspace, id(1)).unwrap()
            });
            assert!(began < Duration::from_millis(50), "{began:?}");
            let (done, _) = timed(&format!("{what}: frozen"), || ground.workspaces.finish(worker));
            assert!(matches!(done, Done::Snapshot { result: Ok(()), .. }), "{done:?}");
            ground.workspaces.remove(workspace).unwrap();
            ground.settle();
        }
    });
}

/// Time for looking up so many names of the tree that [`filled`] makes, each for the first time.
fn lookups(ground: &mut Ground, workspace: WorkspaceId) -> Duration {
    let mut live = ground.start(workspace, |_, output| {
        let began = Instant::now();
        for file in 0..1000 {
            assert!(fs::exists(format!("{}/{file}", file / 100)).unwrap());
            assert!(!fs::exists(format!("{}/none-{file}", file / 100)).unwrap());
        }
        output.write_all(&u64::try_from(began.elapsed().as_nanos()).unwrap().to_ne_bytes()).unwrap();
    });
    let mut took = [0; 8];
    live.from.read_exact(&mut took).unwrap();
    ground.end(live);
    Duration::from_nanos(u64::from_ne_bytes(took))
}

#[test]
fn fifty_snapshots_stay_fast() {
    in_launcher("cost::fifty_snapshots_stay_fast", Ids::Own, |ground| {
        let (flat, deep) = (filled(ground, 1000, 100), filled(ground, 1000, 100));
        ground.workspaces.snapshot_at_rest(flat, id(0)).unwrap();
        let mut longest = Duration::ZERO;
        for snapshot in 0..50 {
            ground.run(deep, || {
                // In every directory, so that each has a part in every layer.
                for directory in 0..10 {
                    fs::write(format!("{directory}/new-{snapshot}"), "x").unwrap();
                }
                fs::write(format!("0/{snapshot}"), "changed").unwrap();
            });
            let began = Instant::now();
            ground.workspaces.snapshot_at_rest(deep, id(snapshot)).unwrap();
            longest = longest.max(began.elapsed());
            while let Some(worker) = ground.workspaces.background().unwrap() {
                let began = Instant::now();
                let done = ground.workspaces.finish(worker);
                println!("snapshot {snapshot}: {done:?} in {:?}", began.elapsed());
            }
        }
        assert!(longest < Duration::from_millis(50), "{longest:?}");
        let unmerged = lookups(ground, deep);
        ground.workspaces.book.merge_above(deep, 1);
        ground.settle();
        // The best of several: other work of the host must not count.
        let [flat, deep] = [flat, deep].map(|workspace| (0..7).map(|_| lookups(ground, workspace)).min().unwrap());
        println!(
            "2000 lookups: flat {flat:?}, after 50 snapshots {unmerged:?}, merged {deep:?}; longest snapshot {longest:?}"
        );
        assert!(deep < flat * 3 / 2, "{deep:?} against {flat:?}");
    });
}
