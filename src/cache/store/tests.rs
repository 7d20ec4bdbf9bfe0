//! The store on real directories: what is kept, what goes, and what is left of accidents.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use nix::mount::{MsFlags, mount, umount};

use super::super::entry::tests::{entry, key};
use super::*;

/// What one entry of this size counts.
fn cost(size: usize) -> u64 {
    (entry(size).encode(&key(1)).len() as u64).next_multiple_of(4096)
}

fn path_of(directory: &Path, key: &Key) -> PathBuf {
    directory.join("compile").join(subdirectory_of(key)).join(name_of(key))
}

fn has(store: &Store, key: &Key) -> bool {
    matches!(store.get(key).unwrap(), Got::Entry(_))
}

fn open(directory: &Path, entries: u64) -> Store {
    Store::open(directory, "compile", entries * cost(10)).unwrap()
}

/// Every file in the store.
fn files(directory: &Path) -> Vec<PathBuf> {
    let inside = fs::read_dir(directory.join("compile")).unwrap().map(|entry| entry.unwrap().path());
    inside.flat_map(|inside| fs::read_dir(inside).unwrap().map(|entry| entry.unwrap().path())).collect()
}

/// A small file system of its own; `None`, and said so, where it can't be mounted.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(options: &str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let mounted = mount(Some("tmpfs"), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(options));
        if let Err(errno) = mounted {
            eprintln!("SKIPPED: a file system can't be mounted: {errno}");
            return None;
        }
        Some(Self(directory))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        umount(self.0.path()).unwrap();
    }
}

#[test]
fn what_is_kept_is_found_by_its_key_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    assert_eq!(store.get(&key(1)).unwrap(), Got::Nothing);
    store.put(&key(1), &entry(10)).unwrap();
    assert_eq!(store.get(&key(1)).unwrap(), Got::Entry(Box::new(entry(10))));
    assert_eq!(store.get(&key(2)).unwrap(), Got::Nothing);
    assert_eq!(store.size(), (cost(10), 1));
}

#[test]
fn nobody_else_can_enter() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("a/b");
    open(&place, 9).put(&key(1), &entry(10)).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!([mode(&place), mode(&place.join("compile"))], [0o700; 2]);
    assert_eq!(mode(&path_of(&place, &key(1))), 0o600);
    fs::set_permissions(place.join("compile"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(Store::open(&place, "compile", 9).unwrap_err(), StoreError::NotOurs("compile"));
}

#[test]
fn a_link_in_place_of_the_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    symlink(elsewhere.path(), directory.path().join("compile")).unwrap();
    assert!(matches!(Store::open(directory.path(), "compile", 9), Err(StoreError::System(_))));
}

#[test]
fn what_was_used_longest_ago_goes_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 3);
    for first in 1..=3 {
        assert_eq!(store.put(&key(first), &entry(10)).unwrap(), Put { kept: true, evicted: 0 });
    }
    assert!(has(&store, &key(1)));
    assert_eq!(store.put(&key(4), &entry(10)).unwrap(), Put { kept: true, evicted: 1 });
    assert!(!has(&store, &key(2)), "it was used longest ago");
    for first in [1, 3, 4] {
        assert!(has(&store, &key(first)), "{first}");
    }
    assert_eq!(store.size(), (3 * cost(10), 3));
    assert_eq!(files(directory.path()).len(), 3);
}

#[test]
fn the_order_of_use_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 3);
    for first in 1..=3 {
        store.put(&key(first), &entry(10)).unwrap();
    }
    assert!(has(&store, &key(1)));
    drop(store);
    let store = open(directory.path(), 2);
    assert!(!has(&store, &key(2)) && has(&store, &key(1)) && has(&store, &key(3)), "too many for the new bound");
}

#[test]
fn more_than_all_may_take_is_not_kept() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 2);
    store.put(&key(1), &entry(10)).unwrap();
    let large = usize::try_from(2 * cost(10)).unwrap();
    assert_eq!(store.put(&key(2), &entry(large)).unwrap(), Put { kept: false, evicted: 0 });
    assert!(has(&store, &key(1)));
}

#[test]
fn a_second_result_replaces_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 1);
    store.put(&key(1), &entry(10)).unwrap();
    assert_eq!(store.put(&key(1), &entry(11)).unwrap(), Put { kept: true, evicted: 0 });
    assert_eq!(store.get(&key(1)).unwrap(), Got::Entry(Box::new(entry(11))));
}

#[test]
fn a_spoilt_entry_is_removed_and_can_be_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    let path = path_of(directory.path(), &key(1));
    let whole = entry(10).encode(&key(1));
    let flipped = |place: usize| {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        bytes
    };
    for (what, bytes) in [
        ("magic", flipped(0)),
        ("version", flipped(8)),
        ("key", flipped(12)),
        ("length", flipped(44)),
        ("hash", flipped(52)),
        ("first of the body", flipped(84)),
        ("last of the body", flipped(whole.len() - 1)),
        ("short", whole[..whole.len() - 1].to_vec()),
        ("empty", vec![]),
        ("long", [&whole[..], b"x"].concat()),
        ("of another key", entry(10).encode(&key(2))),
    ] {
        store.put(&key(1), &entry(10)).unwrap();
        assert!(has(&store, &key(1)), "{what}");
        fs::write(&path, bytes).unwrap();
        assert_eq!(store.get(&key(1)).unwrap(), Got::Spoilt, "{what}");
        assert!(!path.exists(), "{what}");
        assert_eq!(store.get(&key(1)).unwrap(), Got::Nothing, "{what}");
    }
    assert_eq!(store.size(), (0, 0));
}

#[test]
fn links_and_pipes_in_place_of_an_entry_are_not_followed() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    let path = path_of(directory.path(), &key(1));
    store.put(&key(1), &entry(10)).unwrap();
    let real = directory.path().join("real");
    fs::rename(&path, &real).unwrap();
    symlink(&real, &path).unwrap();
    assert_eq!(store.get(&key(1)).unwrap(), Got::Spoilt);
    assert!(real.exists() && !path.exists());
    nix::unistd::mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    assert_eq!(store.get(&key(1)).unwrap(), Got::Spoilt);
    store.put(&key(1), &entry(10)).unwrap();
    assert!(has(&store, &key(1)));
}

#[test]
fn a_subdirectory_that_is_a_link_is_not_entered() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    symlink(elsewhere.path(), directory.path().join("compile").join(subdirectory_of(&key(1)))).unwrap();
    assert!(store.put(&key(1), &entry(10)).is_err());
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
}

#[test]
fn what_a_crash_left_is_removed_at_the_next_start() {
    let directory = tempfile::tempdir().unwrap();
    open(directory.path(), 9).put(&key(1), &entry(10)).unwrap();
    let inside = path_of(directory.path(), &key(1)).parent().unwrap().to_owned();
    let left = inside.join(format!("{UNFINISHED}left"));
    fs::write(&left, &entry(10).encode(&key(1))[..50]).unwrap();
    let written = inside.join(format!("{UNFINISHED}written"));
    let locked = Flock::lock(File::create(&written).unwrap(), FlockArg::LockExclusiveNonblock).unwrap();
    let foreign = inside.join("README");
    fs::write(&foreign, "").unwrap();
    let store = open(directory.path(), 9);
    assert!(!left.exists(), "nobody writes it any more");
    assert!(written.exists(), "another process writes it");
    assert!(foreign.exists(), "it is not ours");
    assert_eq!(store.size(), (cost(10), 1));
    drop(locked);
    open(directory.path(), 9);
    assert!(!written.exists());
}

#[test]
fn two_processes_keep_one_bound() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = (open(directory.path(), 4), open(directory.path(), 4));
    for first in 1..=4 {
        one.put(&key(first), &entry(10)).unwrap();
    }
    assert!(has(&other, &key(1)), "what one has made, the other finds, and has used");
    for first in 5..=7 {
        other.put(&key(first), &entry(10)).unwrap();
    }
    assert_eq!(files(directory.path()).len(), 4);
    assert!(has(&one, &key(1)), "used last by the other");
    assert!(has(&one, &key(7)) && !has(&one, &key(2)));
    one.put(&key(8), &entry(10)).unwrap();
    assert_eq!(files(directory.path()).len(), 4);
    assert_eq!(one.size(), (4 * cost(10), 4));
}

#[test]
fn two_processes_that_write_at_one_time_leave_whole_entries() {
    let directory = tempfile::tempdir().unwrap();
    let stores = [open(directory.path(), 8), open(directory.path(), 8)];
    std::thread::scope(|scope| {
        for store in &stores {
            scope.spawn(move || {
                for round in 0..40 {
                    let key = key(round % 12);
                    match store.get(&key).unwrap() {
                        Got::Entry(found) => assert_eq!(*found, entry(10)),
                        Got::Nothing => assert!(store.put(&key, &entry(10)).unwrap().kept),
                        Got::Spoilt => panic!("half an entry was seen"),
                    }
                }
            });
        }
    });
    let store = open(directory.path(), 8);
    assert_eq!(files(directory.path()).len() as u64, store.size().1);
    assert!(store.size().0 <= 8 * cost(10));
}

#[test]
fn a_full_disk_is_an_error_and_leaves_nothing_half_written() {
    let Some(small) = Mounted::new("size=128k") else { return };
    let store = Store::open(small.0.path(), "compile", 1 << 30).unwrap();
    store.put(&key(1), &entry(10)).unwrap();
    let error = store.put(&key(2), &entry(200 << 10)).unwrap_err();
    assert_eq!(error.errno, Number::ENOSPC);
    assert_eq!(files(small.0.path()).len(), 1);
    assert!(has(&store, &key(1)));
    assert_eq!(store.get(&key(2)).unwrap(), Got::Nothing);
    store.put(&key(3), &entry(10)).unwrap();
    assert!(has(&store, &key(3)));
}

#[test]
fn a_file_system_that_is_read_only_gives_and_takes_nothing() {
    let Some(mounted) = Mounted::new("size=1m") else { return };
    let store = Store::open(mounted.0.path(), "compile", 1 << 20).unwrap();
    store.put(&key(1), &entry(10)).unwrap();
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(None::<&str>, mounted.0.path(), None::<&str>, flags, None::<&str>).unwrap();
    assert!(has(&store, &key(1)));
    assert_eq!(store.put(&key(2), &entry(10)).unwrap_err().errno, Number::EROFS);
    let again = Store::open(mounted.0.path(), "compile", 1 << 20).unwrap();
    assert!(has(&again, &key(1)));
    assert!(matches!(Store::open(&mounted.0.path().join("more"), "compile", 9), Err(StoreError::Make(_))));
}

#[test]
fn a_directory_that_goes_away_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    store.put(&key(1), &entry(10)).unwrap();
    fs::remove_dir_all(directory.path().join("compile")).unwrap();
    assert_eq!(store.get(&key(1)).unwrap(), Got::Nothing);
    assert_eq!(store.put(&key(1), &entry(10)).unwrap_err().errno, Number::ENOENT);
}

#[test]
fn use_is_noted_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path(), 9);
    store.put(&key(1), &entry(10)).unwrap();
    let path = path_of(directory.path(), &key(1));
    let old = SystemTime::now() - Duration::from_secs(1000);
    File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
    let before = fs::metadata(&path).unwrap().mtime();
    assert!(has(&store, &key(1)));
    assert!(fs::metadata(&path).unwrap().mtime() > before + 900);
}
