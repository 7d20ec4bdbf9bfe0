//! What is kept, what is forgotten, and what a daemon finds that another has left.

use super::super::record::{Settings, Summary};
use super::*;

const ALL: u64 = 1 << 30;
const KEEP: Keep = Keep { submissions: 100, bytes: ALL, time_ms: ALL };

fn submission(token: &str, status: Status, bytes: usize) -> Submission {
    Submission {
        token: token.to_owned(),
        language_id: 71,
        status,
        created_at: 1000,
        finished_at: None,
        details: Details {
            settings: Settings { callback_url: Some("http://example.org/".to_owned()), ..Settings::default() },
            result: Summary { time: Some(0.25), ..Summary::default() },
            ..Details::default()
        },
        texts: Texts { source_code: Some(vec![0xff; bytes]), ..Texts::default() },
    }
}

async fn finish(store: &Store, token: &str, at: u64, keep: Keep) {
    let mut done = submission(token, Status::Accepted, 100);
    done.finished_at = Some(at);
    done.texts.stdout = Some(b"out".to_vec());
    let bytes = done.texts.bytes();
    store.update(done, bytes, keep).await.unwrap();
}

async fn tokens(store: &Store) -> Vec<String> {
    let (found, _) = store.page(0, 100, Fields::default(), ALL).await.unwrap().unwrap();
    found.into_iter().map(|submission| submission.token).collect()
}

#[tokio::test]
async fn what_is_over_outlives_the_daemon_and_what_is_not_is_over_then() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("judge0");
    let store = Store::open(Some(&place)).unwrap();
    let three = [("a", Status::Queue), ("b", Status::Processing), ("c", Status::Queue)];
    store.insert(three.map(|(token, status)| submission(token, status, 100)).to_vec()).await.unwrap();
    finish(&store, "c", 2000, KEEP).await;
    assert!(matches!(Store::open(Some(&place)), Err(StoreError::InUse(_))));
    drop(store);
    // The thread that has it ends when it has nothing more to do.
    let store = loop {
        match Store::open(Some(&place)) {
            Err(StoreError::InUse(_)) => std::thread::yield_now(),
            opened => break opened.unwrap(),
        }
    };
    let left = store.interrupt(3000).await.unwrap();
    assert_eq!(left.iter().map(|one| &*one.token).collect::<Vec<_>>(), ["a", "b"]);
    assert!(left.iter().all(|one| one.details.settings.callback_url.is_some()));
    let all = Fields::parse("*").unwrap();
    let tokens = ["c", "a", "x"].map(str::to_owned).to_vec();
    let found = store.find(tokens, all, ALL).await.unwrap().unwrap();
    let [Some(c), Some(a), None] = &found[..] else { panic!("{found:?}") };
    assert_eq!((c.status, c.finished_at, c.details.result.time), (Status::Accepted, Some(2000), Some(0.25)));
    assert_eq!(
        (c.texts.stdout.as_deref(), c.texts.source_code.as_deref()),
        (Some(&b"out"[..]), Some(&[0xff; 100][..]))
    );
    assert_eq!((a.status, a.details.result.message.as_deref()), (Status::Internal, Some(INTERRUPTED)));
    assert!(store.interrupt(4000).await.unwrap().is_empty());
}

#[tokio::test]
async fn the_oldest_of_what_is_too_much_is_forgotten_and_nothing_that_runs() {
    let store = Store::open(None).unwrap();
    let all: Vec<Submission> =
        ["a", "b", "c", "d"].into_iter().map(|token| submission(token, Status::Queue, 100)).collect();
    store.insert(all).await.unwrap();
    finish(&store, "a", 1, KEEP).await;
    finish(&store, "b", 2, KEEP).await;
    finish(&store, "c", 3, Keep { submissions: 2, ..KEEP }).await;
    assert_eq!(tokens(&store).await, ["d", "c", "b"]);
    // What has just ended stays even where it is too much by itself.
    finish(&store, "c", 4, Keep { bytes: 50, ..KEEP }).await;
    assert_eq!(tokens(&store).await, ["d", "c"]);
    finish(&store, "d", 10_000, Keep { time_ms: 100, ..KEEP }).await;
    assert_eq!(tokens(&store).await, ["d"]);
}

#[tokio::test]
async fn only_what_is_wanted_is_read_and_no_more_than_may_be() {
    let store = Store::open(None).unwrap();
    store.insert(vec![submission("a", Status::Queue, 1000), submission("b", Status::Queue, 1000)]).await.unwrap();
    let find = |fields: &str, most| store.find(vec!["a".into(), "b".into()], Fields::parse(fields).unwrap(), most);
    assert!(find("source_code", 2000).await.unwrap().is_some());
    assert!(find("source_code", 1999).await.unwrap().is_none());
    assert!(find("token,status", 0).await.unwrap().is_some());
    assert!(store.page(0, 2, Fields::parse("*").unwrap(), 1999).await.unwrap().is_none());
    let (page, total) = store.page(1, 1, Fields::default(), 0).await.unwrap().unwrap();
    assert_eq!((page[0].token.as_str(), page.len(), total), ("a", 1, 2));
    assert!(store.page(u64::MAX, 1, Fields::default(), 0).await.unwrap().unwrap().0.is_empty());
}

#[tokio::test]
async fn what_is_not_over_is_not_removed() {
    let store = Store::open(None).unwrap();
    store.insert(vec![submission("a", Status::Processing, 1)]).await.unwrap();
    assert!(!store.remove("a".to_owned()).await.unwrap());
    finish(&store, "a", 5, KEEP).await;
    assert!(store.remove("a".to_owned()).await.unwrap() && !store.remove("a".to_owned()).await.unwrap());
}

#[tokio::test]
async fn a_directory_that_others_may_enter_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert!(matches!(Store::open(Some(directory.path())), Err(StoreError::NotOurs(_))));
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    assert!(Store::open(Some(directory.path())).is_ok());
}
