//! The cache as jobs meet it: who compiles, who waits, and what happens where nothing can be kept.

use std::path::Path;

use super::entry::tests::{entry, key};
use super::*;

fn cache(directory: &Path) -> Cache {
    let section =
        Section { directory: Some(directory.to_owned()), bytes: 1 << 20, entry_bytes: 1 << 16, shared: false };
    Cache::new(&section)
}

async fn claim(cache: &Cache, first: u8) -> Claim {
    match cache.ask(key(first)).await {
        Answer::Miss(claim) => claim.expect("nobody gave it up"),
        Answer::Hit(_) => panic!("it is known"),
    }
}

async fn is_hit(cache: &Cache, first: u8) -> bool {
    matches!(cache.ask(key(first)).await, Answer::Hit(found) if *found == entry(10))
}

#[tokio::test]
async fn what_is_kept_is_given_to_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    claim(&cache, 1).await.keep(entry(10));
    assert!(is_hit(&cache, 1).await);
    cache.settle().await;
    assert!(is_hit(&cache, 1).await);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.stores, stats.errors, stats.entries), (2, 1, 1, 0, 1));
    assert!(stats.bytes > 0);
}

#[tokio::test]
async fn what_is_dropped_is_made_by_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let first = claim(&cache, 1).await;
    let waiting = tokio::spawn({
        let cache = cache.clone();
        async move { claim(&cache, 1).await }
    });
    tokio::task::yield_now().await;
    assert!(!waiting.is_finished());
    drop(first);
    let second = waiting.await.unwrap();
    second.keep(entry(10));
    assert!(is_hit(&cache, 1).await);
}

#[tokio::test]
async fn many_at_one_time_compile_once() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let first = claim(&cache, 1).await;
    let waiting: Vec<_> = (0..20)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { is_hit(&cache, 1).await })
        })
        .collect();
    tokio::task::yield_now().await;
    first.keep(entry(10));
    for one in waiting {
        assert!(one.await.unwrap());
    }
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses), (20, 1));
}

#[tokio::test]
async fn what_can_not_be_kept_is_made_by_each_for_itself() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let first = claim(&cache, 1).await;
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { matches!(cache.ask(key(1)).await, Answer::Miss(None)) })
        })
        .collect();
    tokio::task::yield_now().await;
    first.give_up();
    for one in waiting {
        assert!(one.await.unwrap());
    }
    assert_eq!(cache.stats().misses, 4);
    drop(claim(&cache, 1).await);
}

#[tokio::test]
async fn one_that_waits_can_leave_without_a_trace() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(directory.path());
    let first = claim(&cache, 1).await;
    let waited = tokio::time::timeout(std::time::Duration::from_millis(1), cache.ask(key(1))).await;
    assert!(waited.is_err());
    first.keep(entry(10));
    assert!(is_hit(&cache, 1).await);
}

#[tokio::test]
async fn a_directory_that_can_not_be_made_is_counted_and_fails_nobody() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("file"), "").unwrap();
    let cache = cache(&directory.path().join("file/cache"));
    claim(&cache, 1).await.keep(entry(10));
    cache.settle().await;
    drop(claim(&cache, 1).await);
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.stores), (0, 0));
    assert!(stats.errors >= 2, "{stats:?}");
}

#[tokio::test]
async fn a_directory_that_went_away_is_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("cache");
    let cache = cache(&place);
    claim(&cache, 1).await.keep(entry(10));
    cache.settle().await;
    std::fs::remove_dir_all(&place).unwrap();
    claim(&cache, 1).await.keep(entry(10));
    cache.settle().await;
    claim(&cache, 1).await.keep(entry(10));
    cache.settle().await;
    assert!(is_hit(&cache, 1).await);
    assert_eq!(cache.stats().errors, 1);
}

#[tokio::test]
async fn another_configuration_is_gone_by_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let cache = cache(&directory.path().join("a"));
    claim(&cache, 1).await.keep(entry(10));
    cache.settle().await;
    let other =
        Section { directory: Some(directory.path().join("b")), bytes: 1 << 20, entry_bytes: 1 << 16, shared: true };
    cache.configure(&other);
    assert!(cache.is_shared() && cache.is_on());
    claim(&cache, 1).await.keep(entry(10));
    cache.configure(&Section { bytes: 0, ..other });
    assert!(!cache.is_on());
}
