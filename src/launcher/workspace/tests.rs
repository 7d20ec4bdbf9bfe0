//! Workspaces that are really mounted: what programs see of them, and what it costs.

mod cost;
mod ground;
mod hostile;
mod model;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

use ground::{Ids, QUOTA, id, in_launcher};

use super::*;

#[test]
fn a_snapshot_at_rest_comes_back() {
    in_launcher("a_snapshot_at_rest_comes_back", Ids::Own, at_rest);
}

#[test]
fn a_snapshot_comes_back_where_all_share_one_id() {
    in_launcher("a_snapshot_comes_back_where_all_share_one_id", Ids::Shared, at_rest);
}

fn at_rest(ground: &mut ground::Ground) {
    let workspace = ground.workspaces.create(QUOTA).unwrap();
    ground.run(workspace, || {
        fs::write("kept", "first").unwrap();
        fs::create_dir("directory").unwrap();
        fs::write("directory/file", "x").unwrap();
        fs::set_permissions(".", fs::Permissions::from_mode(0o750)).unwrap();
    });
    let before = ground.view(workspace);
    ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
    assert_eq!(ground.view(workspace), before);
    ground.workspaces.snapshot_at_rest(workspace, id(2)).unwrap();
    ground.run(workspace, || {
        fs::write("kept", "second").unwrap();
        fs::remove_dir_all("directory").unwrap();
        fs::create_dir("directory").unwrap();
        fs::write("new", "").unwrap();
        fs::set_permissions(".", fs::Permissions::from_mode(0o700)).unwrap();
    });
    let after = ground.view(workspace);
    assert!(after != before && after.len() == 4);
    let fork = ground.workspaces.fork(workspace, id(1), QUOTA).unwrap();
    assert_eq!(ground.view(fork), before);
    ground.run(fork, || fs::write("kept", "fork").unwrap());
    assert_eq!(ground.view(workspace), after);
    ground.workspaces.rollback(workspace, id(2)).unwrap();
    assert_eq!(ground.view(workspace), before);
    // The fork goes on without what it was made from.
    ground.workspaces.remove(workspace).unwrap();
    ground.settle();
    assert_eq!(ground.view(fork).len(), before.len());
    ground.workspaces.remove(fork).unwrap();
    ground.settle();
    assert!(ground.workspaces.stores.is_empty());
    assert_eq!(fs::read_dir("/sys/kernel").unwrap().count(), 0);
}

#[test]
fn tmp_and_terminals_are_the_sessions_own() {
    in_launcher("tmp_and_terminals_are_the_sessions_own", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        ground.run(workspace, || {
            fs::write("/tmp/stays", "x").unwrap();
            fs::write("/dev/shm/stays", "x").unwrap();
            let terminal = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR).unwrap();
            nix::pty::grantpt(&terminal).unwrap();
            nix::pty::unlockpt(&terminal).unwrap();
            let name = nix::pty::ptsname_r(&terminal).unwrap();
            assert_eq!(name, "/dev/pts/0");
            assert!(fs::File::options().write(true).open(name).is_ok());
        });
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        ground.workspaces.rollback(workspace, id(1)).unwrap();
        ground.run(workspace, || {
            assert!(fs::exists("/tmp/stays").unwrap() && fs::exists("/dev/shm/stays").unwrap());
            assert_eq!(fs::metadata("/tmp").unwrap().mode() & 0o7777, 0o1777);
            assert_eq!(fs::read_dir("/tmp").unwrap().count(), 1, "what was mounted there to build is gone");
        });
    });
}

#[test]
fn a_snapshot_of_a_living_session_has_all_kinds_of_files() {
    in_launcher("a_snapshot_of_a_living_session_has_all_kinds_of_files", Ids::Own, |ground| {
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        ground.run(workspace, || {
            fs::create_dir("gone").unwrap();
            fs::write("gone/x", "").unwrap();
            fs::create_dir("renewed").unwrap();
            fs::write("renewed/old", "").unwrap();
            fs::write("hidden", "").unwrap();
            fs::write("under-fifo", "").unwrap();
        });
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        let mut live = ground.start(workspace, |input, output| {
            fs::remove_dir_all("gone").unwrap();
            fs::remove_dir_all("renewed").unwrap();
            fs::create_dir("renewed").unwrap();
            fs::write("renewed/new", "").unwrap();
            fs::remove_file("hidden").unwrap();
            fs::remove_file("under-fifo").unwrap();
            nix::unistd::mkfifo("under-fifo", nix::sys::stat::Mode::S_IRWXU).unwrap();
            symlink("/etc/passwd", "link").unwrap();
            fs::write("closed", "secret").unwrap();
            fs::hard_link("closed", "second-name").unwrap();
            fs::create_dir_all("deep/er").unwrap();
            fs::hard_link("closed", "deep/er/third-name").unwrap();
            fs::set_permissions("closed", fs::Permissions::from_mode(0o000)).unwrap();
            fs::write("program", "#!/bin/sh").unwrap();
            fs::set_permissions("program", fs::Permissions::from_mode(0o6755)).unwrap();
            let sparse = fs::File::create("sparse").unwrap();
            sparse.set_len(1 << 30).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&sparse, b"end", (1 << 30) - 3).unwrap();
            let old = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            fs::File::open("program").unwrap().set_modified(old).unwrap();
            crate::sys::xattr::set(std::os::fd::AsFd::as_fd(&sparse), c"user.mine", b"value").unwrap();
            output.write_all(b"!").unwrap();
            input.read_exact(&mut [0]).ok();
        });
        live.from.read_exact(&mut [0]).unwrap();
        let used = ground.workspaces.usage(workspace).unwrap();
        let worker = ground.workspaces.snapshot_running(workspace, id(2)).unwrap();
        let done = ground.workspaces.finish(worker);
        assert_eq!(done, Done::Snapshot { workspace, snapshot: id(2), result: Ok(()) });
        let more = ground.workspaces.usage(workspace).unwrap().bytes - used.bytes;
        assert!(more < 64 << 10, "{more} bytes: holes were filled");
        ground.end(live);
        ground.workspaces.rollback(workspace, id(2)).unwrap();
        ground.settle();
        ground.run(workspace, || {
            let names: Vec<_> = fs::read_dir(".").unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names.len(), 7, "{names:?}");
            for gone in ["gone", "renewed/old", "hidden", "under-fifo"] {
                assert!(fs::symlink_metadata(gone).is_err(), "{gone}");
            }
            assert_eq!(fs::read_link("link").unwrap().to_str(), Some("/etc/passwd"));
            let [first, third] = ["closed", "deep/er/third-name"].map(|name| fs::metadata(name).unwrap());
            assert_eq!((first.ino(), first.nlink(), first.mode() & 0o7777), (third.ino(), 3, 0));
            let program = fs::metadata("program").unwrap();
            assert_eq!((program.mode() & 0o7777, program.mtime()), (0o755, 1_000_000));
            let sparse = fs::File::open("sparse").unwrap();
            assert_eq!(sparse.metadata().unwrap().len(), 1 << 30);
            let mut end = [0; 3];
            std::os::unix::fs::FileExt::read_exact_at(&sparse, &mut end, (1 << 30) - 3).unwrap();
            let mine = crate::sys::xattr::get(std::os::fd::AsFd::as_fd(&sparse), c"user.mine").unwrap();
            assert_eq!((&end, mine.as_deref()), (b"end", Some(b"value".as_slice())));
        });
    });
}

#[test]
fn directories_can_be_moved_and_made_anew() {
    in_launcher("directories_can_be_moved_and_made_anew", Ids::Own, |ground| {
        if !std::path::Path::new("/bin/sh").exists() {
            return eprintln!("SKIPPED: no /bin/sh on this host");
        }
        let workspace = ground.workspaces.create(QUOTA).unwrap();
        assert_eq!(ground.shell(workspace, "mkdir -p dir/sub; echo a > dir/sub/a; echo b > dir/b"), "");
        ground.workspaces.snapshot_at_rest(workspace, id(1)).unwrap();
        let script = "mv dir dir2 && find . -type f | sort | xargs grep -H . && mkdir dir && ls dir && echo c > dir/c";
        assert_eq!(ground.shell(workspace, script), "./dir2/b:b\n./dir2/sub/a:a\n");
        ground.workspaces.snapshot_at_rest(workspace, id(2)).unwrap();
        let script = "rm -r dir; mkdir dir; mv dir2 dir/; find dir | sort; ln dir/dir2/b hard; stat -c %h hard";
        assert_eq!(ground.shell(workspace, script), "dir\ndir/dir2\ndir/dir2/b\ndir/dir2/sub\ndir/dir2/sub/a\n2\n");
        ground.workspaces.rollback(workspace, id(1)).unwrap();
        ground.settle();
        assert_eq!(ground.shell(workspace, "find . -type f | sort"), "./dir/b\n./dir/sub/a\n");
    });
}
