//! A program that exchanges directories for links while the daemon works on them gains nothing.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use codesandbox::plan::files::{Content, SearchLimits};
use codesandbox::session::files;
use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};

use super::{Ground, body, path, place, read_all, run};

const SECRET: &[u8] = b"secret of the host";
const ROUNDS: usize = 150;

/// Exchanges two names as fast as it can.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Swapper {
    fn start(first: PathBuf, second: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // Either may be gone for a moment.
                renameat2(AT_FDCWD, &first, AT_FDCWD, &second, RenameFlags::RENAME_EXCHANGE).unwrap_or_default();
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Swapper {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A directory `d` in the workspace, and a link `l` that leads to one like it outside.
fn ground() -> Ground {
    let ground = Ground::new();
    for directory in [&ground.outside, &ground.path("d")] {
        std::fs::create_dir_all(directory.join("sub/deep")).unwrap();
    }
    ground.put("d/secret", "mine");
    ground.put("d/sub/deep/secret", "mine");
    for name in ["secret", "sub/deep/secret"] {
        std::fs::write(ground.outside.join(name), SECRET).unwrap();
    }
    symlink("../outside", ground.path("l")).unwrap();
    ground
}

/// Every path below a directory, with the content of files.
fn picture(directory: &Path) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path.clone());
            }
            found.push((path.clone(), std::fs::read(&path).ok()));
        }
    }
    found.sort();
    found
}

/// Whether what came out has anything of the host's in it.
fn tells(bytes: &[u8]) -> bool {
    bytes.windows(SECRET.len()).any(|part| part == SECRET)
}

#[test]
fn a_naive_worker_is_caught() {
    let ground = ground();
    let _swapper = Swapper::start(ground.path("d"), ground.path("l"));
    // The positive control: by path, sooner or later, each of these ends outside.
    let read = (0..100_000).any(|_| std::fs::read(ground.path("d/secret")).is_ok_and(|bytes| tells(&bytes)));
    let wrote = (0..100_000)
        .any(|_| std::fs::write(ground.path("d/written"), "x").is_ok() && ground.outside.join("written").exists());
    let made = (0..100_000)
        .any(|_| std::fs::create_dir(ground.path("d/made")).is_ok() && ground.outside.join("made").exists());
    let removed = (0..100_000)
        .any(|_| std::fs::remove_file(ground.path("d/secret")).is_ok() && !ground.outside.join("secret").exists());
    assert!(read && wrote && made && removed, "{read} {wrote} {made} {removed}");
}

#[test]
fn nothing_outside_is_read() {
    let ground = ground();
    let _swapper = Swapper::start(ground.path("d"), ground.path("l"));
    run(async {
        let mut mine = 0;
        for _ in 0..ROUNDS {
            for name in ["d/secret", "d/sub/deep/secret", "l/secret"] {
                if let Ok(bytes) = read_all(&ground, name).await {
                    assert!(!tells(&bytes));
                    mine += 1;
                }
            }
            for from in ["d", "l"] {
                let content = Some(Content::Text("secret of".to_owned()));
                let limits = SearchLimits { hits: 10, files: 100, bytes: 1 << 20, time_ms: 10_000 };
                if let Ok(found) = files::search(ground.worker(), place(from), None, content, limits).await {
                    assert!(found.found.is_empty(), "{found:?}");
                }
                if let Ok(mut archive) = files::archive(ground.worker(), place(from), false).await {
                    while let Ok(Some(part)) = archive.next().await {
                        assert!(!tells(&part));
                    }
                }
            }
            if let Ok(listed) = files::list(ground.worker(), place(""), 9, 100).await {
                let size = |entry: &codesandbox::plan::files::Entry| entry.path.ends_with(b"secret") && entry.size != 4;
                assert!(!listed.found.iter().any(size), "{listed:?}");
            }
            if files::copy(ground.worker(), path("d"), path("copy"), true).await.is_ok() {
                assert!(!picture(&ground.workspace).iter().any(|(at, _)| {
                    at.starts_with(ground.path("copy"))
                        && std::fs::symlink_metadata(ground.path("copy")).unwrap().is_dir()
                        && std::fs::read(at).is_ok_and(|bytes| tells(&bytes))
                }));
            }
        }
        assert!(mine > 0, "the attack left nothing to read, so this shows nothing");
    });
}

#[test]
fn nothing_outside_is_written_made_or_removed() {
    let ground = ground();
    let before = picture(&ground.outside);
    let mut tar = tar::Builder::new(Vec::new());
    for name in ["secret", "sub/unpacked", "sub/deep/secret"] {
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        tar.append_data(&mut header, name, b"evil".as_slice()).unwrap();
    }
    let tar = tar.into_inner().unwrap();
    let swapper = Swapper::start(ground.path("d"), ground.path("l"));
    run(async {
        let mut done = 0;
        for _ in 0..ROUNDS {
            for append in [false, true] {
                let evil = body(&[b"evil"]);
                done += usize::from(
                    files::write(ground.worker(), path("d/secret"), true, append, None, evil).await.is_ok(),
                );
            }
            let evil = body(&[b"evil"]);
            drop(files::write(ground.worker(), path("d/sub/x/y"), false, false, None, evil).await);
            drop(files::mkdir(ground.worker(), path("d/sub/made/deep")).await);
            drop(files::extract(ground.worker(), place("d"), body(&[&tar])).await);
            ground.put("mine/f", "mine");
            drop(files::mv(ground.worker(), path("mine"), path("d/moved"), true).await);
            drop(files::mv(ground.worker(), path("d/sub"), path("taken"), true).await);
            drop(files::copy(ground.worker(), path("mine"), path("d/copied"), true).await);
            drop(files::remove(ground.worker(), path("d/moved"), true).await);
            drop(files::remove(ground.worker(), path("d/sub/deep"), true).await);
            drop(files::remove(ground.worker(), path("d/secret"), false).await);
        }
        assert!(done > 0, "the attack left nothing to write, so this shows nothing");
    });
    drop(swapper);
    assert_eq!(picture(&ground.outside), before);
}

#[test]
fn a_tree_is_removed_while_its_directories_become_links() {
    let ground = ground();
    let before = picture(&ground.outside);
    symlink("../../outside", ground.path("d/link")).unwrap();
    let swapper = Swapper::start(ground.path("d/sub"), ground.path("d/link"));
    run(async {
        for _ in 0..ROUNDS {
            drop(files::remove(ground.worker(), path("d"), true).await);
            // Made elsewhere and moved in: by its path it would be made outside, by this test.
            std::fs::create_dir_all(ground.path("new/deep")).unwrap();
            drop(std::fs::create_dir(ground.path("d")));
            drop(std::fs::rename(ground.path("new"), ground.path("d/sub")));
            drop(symlink("../../outside", ground.path("d/link")));
        }
    });
    drop(swapper);
    assert_eq!(picture(&ground.outside), before);
}
