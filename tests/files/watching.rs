//! Changes are told as they happen.

use codesandbox::plan::files::{FileError, FileEvent};
use codesandbox::session::files::{self, Events};
use tokio::net::UnixStream;

use super::{Ground, path, place, refusal, run};

fn bytes(path: &str) -> Vec<u8> {
    path.as_bytes().to_vec()
}

/// The next events, until one of them is about `path`.
async fn until(events: &mut Events<UnixStream>, last: &FileEvent) -> Vec<FileEvent> {
    let mut seen = Vec::new();
    while seen.last() != Some(last) {
        seen.push(events.next().await.unwrap().unwrap());
    }
    seen
}

#[test]
fn changes_are_told_in_new_directories_too() {
    let ground = Ground::new();
    ground.put("d/f", "");
    run(async {
        let mut events = files::watch(ground.worker(), place(""), true).await.unwrap();
        ground.put("d/f", "more");
        until(&mut events, &FileEvent::Modified(bytes("d/f"))).await;
        ground.put("new/deep/file", "");
        let seen = until(&mut events, &FileEvent::Created(bytes("new/deep/file"))).await;
        assert!(
            seen.contains(&FileEvent::Created(bytes("new"))) && seen.contains(&FileEvent::Created(bytes("new/deep")))
        );
        std::fs::rename(ground.path("new"), ground.path("d/old")).unwrap();
        until(&mut events, &FileEvent::Moved { from: bytes("new"), to: bytes("d/old") }).await;
        // What is watched has moved along.
        ground.put("d/old/deep/second", "");
        let seen = until(&mut events, &FileEvent::Created(bytes("d/old/deep/second"))).await;
        assert_eq!(seen.iter().filter(|event| matches!(event, FileEvent::Created(_))).count(), 1);
        std::fs::rename(ground.path("d/old"), ground.outside.join("left")).unwrap();
        until(&mut events, &FileEvent::Removed(bytes("d/old"))).await;
        std::fs::write(ground.outside.join("left/deep/third"), "").unwrap();
        std::fs::rename(ground.outside.join("left/deep"), ground.path("back")).unwrap();
        let seen = until(&mut events, &FileEvent::Created(bytes("back/third"))).await;
        assert_eq!(seen[0], FileEvent::Created(bytes("back")), "nothing of what happened outside: {seen:?}");
        files::remove(ground.worker(), path("back"), true).await.unwrap();
        until(&mut events, &FileEvent::Removed(bytes("back"))).await;
    });
}

#[test]
fn a_watch_ends_with_its_directory_and_with_its_connection() {
    let ground = Ground::new();
    std::fs::create_dir(ground.path("d")).unwrap();
    run(async {
        let mut events = files::watch(ground.worker(), place("d"), false).await.unwrap();
        std::fs::remove_dir(ground.path("d")).unwrap();
        assert_eq!(until(&mut events, &FileEvent::Removed(bytes("d"))).await.len(), 1);
        assert!(events.next().await.unwrap().is_none());
        let (stream, worker) = super::worker(&ground.workspace);
        drop(files::watch(stream, place(""), true).await.unwrap());
        assert_eq!(worker.join().unwrap(), 2);
        assert_eq!(refusal(files::watch(ground.worker(), place("none"), true).await), FileError::Missing);
    });
}

#[test]
fn events_that_were_lost_are_told_as_lost() {
    let ground = Ground::new();
    run(async {
        let mut events = files::watch(ground.worker(), place(""), true).await.unwrap();
        let most: usize =
            std::fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
        // Nobody reads them, so they fill the socket and then the kernel's queue.
        for number in 0..most {
            let name = ground.path(&format!("{number}-{}", "x".repeat(200)));
            std::fs::write(&name, "").unwrap();
            std::fs::remove_file(name).unwrap();
        }
        while events.next().await.unwrap().unwrap() != FileEvent::Overflow {}
        // The directory is watched still.
        ground.put("last", "");
        until(&mut events, &FileEvent::Created(bytes("last"))).await;
    });
}
