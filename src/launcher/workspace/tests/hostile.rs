//! Programs that look for what is not theirs, and workers that die.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno as Number;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::ground::{Ids, MIB, QUOTA, id, in_launcher};
use crate::launcher::workspace::{Done, Quota, Refusal, WorkspaceError};
use crate::sys::xattr;

#[test]
fn a_program_reaches_no_layer() {
    in_launcher("hostile::a_program_reaches_no_layer", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        ground.run(workspace, || fs::write("below", "layer").unwrap());
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        ground.run(workspace, || {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            let points: Vec<_> = mounts.lines().map(|line| line.split(' ').nth(4).unwrap()).collect();
            let below: Vec<_> =
                points.iter().filter(|point| point.starts_with("/tmp/") || point.contains("kernel")).collect();
            assert!(below.is_empty(), "{mounts}");
            assert_eq!(points.iter().filter(|point| **point == "/tmp").count(), 1, "{mounts}");
            let flags = mounts.lines().find(|line| line.contains(" /workspace ")).unwrap();
            assert!(flags.contains("nosuid") && flags.contains("nodev"), "{flags}");
            // Up from where the store's directories are mounted there is only the jail's root.
            assert!(fs::exists("/tmp/../workspace").unwrap() && !fs::exists("/tmp/../trash").unwrap());
            let file = fs::File::create("attributes").unwrap();
            // Escaped since Linux 6.7, refused before: never what overlayfs itself reads.
            xattr::set(file.as_fd(), c"user.overlay.opaque", b"y").ok();
            fs::create_dir("opaque").unwrap();
            let device = nix::sys::stat::SFlag::S_IFCHR;
            assert!(nix::sys::stat::mknod("whiteout", device, nix::sys::stat::Mode::empty(), 0).is_err());
            for other in ["/sys", "/dev/pts/../../sys/kernel"] {
                assert!(fs::read_dir(other).is_err(), "{other}");
            }
        });
    });
}

#[test]
fn a_directory_can_not_be_made_to_hide_what_is_below() {
    in_launcher("hostile::a_directory_can_not_be_made_to_hide_what_is_below", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        ground.run(workspace, || {
            fs::create_dir("directory").unwrap();
            fs::write("directory/file", "").unwrap();
        });
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        ground.run(workspace, || {
            let directory = fs::File::open("directory").unwrap();
            for (name, value) in [
                (c"user.overlay.opaque", b"y".as_slice()),
                (c"user.overlay.redirect", b"/"),
                (c"user.overlay.metacopy", b""),
            ] {
                xattr::set(directory.as_fd(), name, value).ok();
            }
        });
        for snapshot in 2..16 {
            ground.run(workspace, || fs::write("more", snapshot.to_string()).unwrap());
            ground.workspaces.snapshot_at_rest(workspace, id(snapshot)).unwrap();
        }
        ground.settle();
        ground.run(workspace, || assert!(fs::exists("directory/file").unwrap()));
    });
}

#[test]
fn one_limit_holds_for_all_layers() {
    in_launcher("hostile::one_limit_holds_for_all_layers", Ids::Own, |ground| {
        let quota = Quota { disk_bytes: 8 * MIB, disk_files: 500 };
        let workspace = ground.workspaces.create(quota).unwrap();
        let megabytes = |count: usize| vec![7u8; count << 20];
        ground.run(workspace, || fs::write("first", megabytes(3)).unwrap());
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        ground.run(workspace, || {
            fs::remove_file("first").unwrap();
            fs::write("/tmp/second", megabytes(3)).unwrap();
            let error = fs::write("third", megabytes(3)).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENOSPC));
        });
        let usage = ground.workspaces.usage(workspace).unwrap();
        assert!(usage.bytes > 7 * MIB && usage.bytes <= 8 * MIB, "{usage:?}");
        // A full workspace can go back, and be written to again.
        ground.workspaces.rollback(workspace, id(1)).unwrap();
        ground.settle();
        ground.run(workspace, || {
            fs::remove_file("/tmp/second").unwrap();
            fs::write("third", megabytes(4)).unwrap();
            let made = (0..1000).take_while(|number| fs::write(format!("file-{number}"), "").is_ok()).count();
            assert!((480..=500).contains(&made), "{made} files");
        });
        let files = ground.workspaces.usage(workspace).unwrap().files;
        assert!((480..=510).contains(&files), "{files} files");
        // With hardly a file left, and then none, snapshots, jails and merges go on.
        ground.run(workspace, || (0..20).for_each(|number| fs::remove_file(format!("file-{number}")).unwrap()));
        for snapshot in 2..16 {
            ground.workspaces.snapshot_at_rest(workspace, id(snapshot)).unwrap();
            ground.run(workspace, || fs::write("first", [snapshot]).unwrap());
        }
        ground.run(workspace, || assert!((0..1000).any(|number| fs::write(format!("last-{number}"), "").is_err())));
        assert!(ground.workspaces.wants_merge(workspace));
        ground.settle();
        assert!(!ground.workspaces.wants_merge(workspace));
        ground.run(workspace, || assert!(fs::exists("file-400").unwrap()));
    });
}

#[test]
fn a_running_snapshot_that_does_not_fit_fails_and_leaves_nothing() {
    in_launcher("hostile::a_running_snapshot_that_does_not_fit_fails_and_leaves_nothing", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(Quota { disk_bytes: 4 * MIB, disk_files: 500 }).unwrap();
        let mut live = ground.start(workspace, |input, output| {
            fs::write("large", vec![1; 3 << 20]).unwrap();
            output.write_all(b"!").unwrap();
            input.read_exact(&mut [0]).ok();
        });
        live.from.read_exact(&mut [0]).unwrap();
        let worker = ground.workspaces.snapshot_running(workspace, id(1)).unwrap();
        let Done::Snapshot { result: Err(error), .. } = ground.workspaces.finish(worker) else { panic!("it fits") };
        assert_eq!(error.errno, Number::ENOSPC);
        ground.settle();
        assert!(ground.workspaces.usage(workspace).unwrap().bytes < 4 * MIB - 4096);
        ground.end(live);
        let refused = ground.workspaces.rollback(workspace, id(1));
        assert_eq!(refused, Err(WorkspaceError::Refused(Refusal::NoSuchSnapshot)));
    });
}

#[test]
fn a_tree_of_any_depth_is_removed() {
    in_launcher("hostile::a_tree_of_any_depth_is_removed", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        let live = ground.start(workspace, |_, _| {
            for _ in 0..3000 {
                fs::create_dir("d").unwrap();
                fs::write("f", "").unwrap();
                std::env::set_current_dir("d").unwrap();
            }
            fs::set_permissions("/workspace/d", fs::Permissions::from_mode(0o000)).unwrap();
        });
        ground.end(live);
        assert!(ground.workspaces.usage(workspace).unwrap().files > 6000);
        let worker = ground.workspaces.snapshot_running(workspace, id(2)).unwrap();
        let Done::Snapshot { result: Err(error), .. } = ground.workspaces.finish(worker) else { panic!("too deep") };
        assert_eq!(error.errno, Number::ENAMETOOLONG);
        ground.workspaces.rollback(workspace, id(1)).unwrap();
        ground.settle();
        let usage = ground.workspaces.usage(workspace).unwrap();
        assert!(usage.files < 10, "{usage:?}");
    });
}

#[test]
fn a_killed_worker_leaves_old_or_new() {
    in_launcher("hostile::a_killed_worker_leaves_old_or_new", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        let fill = |layer: u8| {
            move || {
                for directory in 0..20 {
                    fs::create_dir_all(format!("{directory}")).unwrap();
                    for file in 0..30 {
                        fs::write(format!("{directory}/{file}"), format!("{layer}")).unwrap();
                    }
                    fs::write(format!("{directory}/only-{layer}"), "").unwrap();
                }
            }
        };
        for layer in 0..13 {
            ground.run(workspace, fill(layer));
            ground.workspaces.snapshot_at_rest(workspace, id(layer)).unwrap();
            ground.workspaces.delete_snapshot(workspace, id(layer)).unwrap();
        }
        ground.run(workspace, fill(13));
        let view = ground.view(workspace);
        let (mut merged, mut killed) = (false, 0);
        for attempt in 0..40u8 {
            let is_merge = attempt % 2 == 0 && !merged;
            let worker = if is_merge {
                ground.workspaces.book.merge_above(workspace, 1);
                ground.workspaces.merge(workspace).unwrap().unwrap()
            } else {
                ground.workspaces.snapshot_running(workspace, id(100 + attempt)).unwrap()
            };
            let mut entry = [PollFd::new(worker.as_fd(), PollFlags::POLLIN)];
            // As long as that, or until it has ended.
            let longest = std::time::Instant::now() + std::time::Duration::from_micros(u64::from(attempt) * 700);
            while std::time::Instant::now() < longest && poll(&mut entry, PollTimeout::ZERO).unwrap() == 0 {}
            worker.kill();
            let done = ground.workspaces.finish(worker);
            match done {
                Done::Merged(result) => merged = result.is_ok(),
                Done::Snapshot { snapshot, result: Ok(()), .. } => {
                    let fork = ground.workspaces.fork(workspace, snapshot, QUOTA).unwrap();
                    assert_eq!(ground.view(fork), view);
                    ground.workspaces.remove(fork).unwrap();
                    ground.workspaces.delete_snapshot(workspace, snapshot).unwrap();
                }
                Done::Snapshot { .. } => killed += 1,
                Done::Swept(_) | Done::Tree(..) => unreachable!("nobody swept, and there is no tree"),
            }
            assert_eq!(ground.view(workspace), view);
            while let Some(worker) = ground.workspaces.sweep().unwrap() {
                assert!(matches!(ground.workspaces.finish(worker), Done::Swept(Ok(()))));
            }
        }
        assert!(killed > 0, "none was killed in time");
        ground.settle();
        assert_eq!(ground.view(workspace), view);
        let left = ground.workspaces.stores[&workspace].names();
        assert!(!left.iter().any(|name| name.starts_with(['b', 'p'])), "{left:?}");
    });
}
