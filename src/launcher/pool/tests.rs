//! What waits, by a clock and with a memory of the test's own.

use super::*;
use crate::config::RuntimePool;

const GIB: u64 = 1 << 30;
const PLENTY: u64 = 64 * GIB;

fn bounds() -> Bounds {
    Bounds {
        warm: true,
        floor: 0,
        ceiling: 8,
        memory_bytes: GIB,
        reserve_bytes: GIB,
        idle_ms: 60_000,
        runtimes: std::collections::BTreeMap::new(),
    }
}

fn key(runtime: &str) -> Key {
    Key { runtime: runtime.to_owned(), profile: "default".to_owned(), warm: false }
}

/// Asks for one and takes it, ready or not.
fn take(pool: &mut Pool, key: &Key, now: Instant) -> Option<u64> {
    pool.asked(key, now);
    pool.take_ready(key).or_else(|| pool.take_making(key))
}

/// Makes all that is wanting at one moment, and returns how many.
fn fill(pool: &mut Pool, serial: &mut u64, now: Instant, available: u64) -> usize {
    let mut made = 0;
    while let Some(key) = pool.wanting(now, usize::MAX, available) {
        *serial += 1;
        pool.making(&key, *serial);
        pool.ready(&key, *serial, Duration::from_millis(3), 300 << 10);
        made += 1;
        assert!(made < 10_000, "there is no end to it");
    }
    made
}

#[test]
fn a_runtime_nobody_uses_holds_nothing() {
    let pool = Pool::new(bounds());
    assert_eq!(pool.wanting(Instant::now(), 1, PLENTY), None);
    assert!(pool.is_empty());
}

#[test]
fn what_was_used_once_waits_and_then_goes() {
    let (mut pool, mut serial, now) = (Pool::new(bounds()), 0, Instant::now());
    assert_eq!(take(&mut pool, &key("a"), now), None);
    assert_eq!(fill(&mut pool, &mut serial, now, PLENTY), 1);
    assert_eq!(pool.surplus(now + Duration::from_secs(59), PLENTY), Vec::<u64>::new());
    assert_eq!(pool.surplus(now + Duration::from_secs(61), PLENTY), [1]);
    assert!(pool.surplus(now + Duration::from_secs(61), PLENTY).is_empty() && pool.is_empty());
}

#[test]
fn more_wait_where_more_is_asked_and_never_more_than_the_ceiling() {
    let (mut pool, mut serial, mut now) = (Pool::new(bounds()), 0, Instant::now());
    // A hundred a second, each of which takes 3 ms to make.
    for _ in 0..2000 {
        now += Duration::from_millis(10);
        take(&mut pool, &key("a"), now);
        fill(&mut pool, &mut serial, now, PLENTY);
    }
    let busy = pool.kinds[&key("a")].count();
    assert!((2..=3).contains(&busy), "{busy}");
    for _ in 0..20_000 {
        now += Duration::from_micros(500);
        take(&mut pool, &key("a"), now);
        fill(&mut pool, &mut serial, now, PLENTY);
    }
    assert_eq!(pool.kinds[&key("a")].count(), 8);
    // Demand that is gone is forgotten.
    now += Duration::from_secs(50);
    assert_eq!(pool.surplus(now, PLENTY).len(), 7);
}

#[test]
fn the_oldest_is_taken_first_and_never_twice() {
    let (mut pool, now) = (Pool::new(bounds()), Instant::now());
    for serial in 1..=3 {
        pool.making(&key("a"), serial);
    }
    for serial in [2, 1] {
        pool.ready(&key("a"), serial, Duration::ZERO, 0);
    }
    let taken: Vec<Option<u64>> = (0..4).map(|_| take(&mut pool, &key("a"), now)).collect();
    assert_eq!(taken, [Some(2), Some(1), Some(3), None], "the one that is still being made comes last");
}

#[test]
fn one_that_is_of_another_kind_is_not_taken() {
    let (mut pool, now) = (Pool::new(bounds()), Instant::now());
    let warm = Key { warm: true, ..key("a") };
    let strict = Key { profile: "judge".to_owned(), ..key("a") };
    pool.making(&key("a"), 1);
    pool.ready(&key("a"), 1, Duration::ZERO, 0);
    assert_eq!(
        [take(&mut pool, &warm, now), take(&mut pool, &strict, now), take(&mut pool, &key("b"), now)],
        [None; 3]
    );
    assert_eq!(pool.take_ready(&key("a")), Some(1));
}

#[test]
fn a_floor_waits_before_anybody_asks_and_only_under_the_profile_default() {
    let own = [("a".to_owned(), RuntimePool { floor: Some(2), ceiling: None })];
    let mut pool = Pool::new(Bounds { runtimes: own.into(), ..bounds() });
    let (mut serial, now) = (0, Instant::now());
    for key in [key("a"), key("b"), Key { profile: "judge".to_owned(), ..key("a") }] {
        pool.expect(&key);
    }
    assert_eq!(fill(&mut pool, &mut serial, now, PLENTY), 2);
    assert_eq!(pool.surplus(now + Duration::from_secs(3600), PLENTY), Vec::<u64>::new());
    assert_eq!(pool.kinds.len(), 1);
}

#[test]
fn a_floor_is_that_of_one_kind_whatever_else_of_its_runtime_was_asked_for() {
    let (mut pool, mut serial, now) = (Pool::new(Bounds { floor: 4, ..bounds() }), 0, Instant::now());
    let warm = Key { warm: true, ..key("a") };
    pool.expect(&warm);
    assert_eq!(take(&mut pool, &key("a"), now), None);
    fill(&mut pool, &mut serial, now, PLENTY);
    assert_eq!([pool.kinds[&warm].count(), pool.kinds[&key("a")].count()], [4, 1]);
    // Another kind has the floor when interpreters are no more to be started.
    pool.retire(Bounds { floor: 4, warm: false, ..bounds() }, |_| true);
    pool.expect(&key("a"));
    fill(&mut pool, &mut serial, now, PLENTY);
    assert_eq!([pool.kinds[&warm].count(), pool.kinds[&key("a")].count()], [0, 4]);
}

#[test]
fn a_ceiling_of_zero_switches_it_off() {
    let (mut pool, now) = (Pool::new(Bounds { ceiling: 0, ..bounds() }), Instant::now());
    for _ in 0..100 {
        assert_eq!(take(&mut pool, &key("a"), now), None);
    }
    assert_eq!(pool.wanting(now, 1, PLENTY), None);
}

#[test]
fn no_more_are_made_than_memory_is_for() {
    let mut pool = Pool::new(Bounds { memory_bytes: 1 << 20, floor: 8, ..bounds() });
    let (mut serial, now) = (0, Instant::now());
    pool.expect(&key("a"));
    assert_eq!(fill(&mut pool, &mut serial, now, PLENTY), 3, "each is taken to hold 300 KiB");
}

#[test]
fn none_is_made_of_what_must_stay_available() {
    let mut pool = Pool::new(Bounds { floor: 8, ..bounds() });
    let (mut serial, now) = (0, Instant::now());
    pool.expect(&key("a"));
    assert_eq!(fill(&mut pool, &mut serial, now, GIB), 0);
    assert_eq!(fill(&mut pool, &mut serial, now, PLENTY), 8, "the control");
}

#[test]
fn a_pool_shrinks_when_memory_runs_short_the_largest_kind_first() {
    let mut pool = Pool::new(Bounds { floor: 4, ..bounds() });
    let now = Instant::now();
    let warm = Key { warm: true, ..key("a") };
    for (key, serials) in [(key("a"), 1..=4), (warm, 5..=8)] {
        pool.expect(&key);
        for serial in serials {
            pool.making(&key, serial);
            pool.ready(&key, serial, Duration::ZERO, if key.warm { 16 << 20 } else { 300 << 10 });
        }
    }
    assert_eq!(pool.surplus(now, PLENTY), Vec::<u64>::new());
    let short_by = 20 << 20;
    let gone = pool.surplus(now, GIB - short_by);
    assert_eq!(gone, [5, 6], "two of 16 MiB make up for 20 MiB");
    assert_eq!(pool.surplus(now, 0).len(), 6, "nothing waits where nothing is left");
}

#[test]
fn what_keeps_failing_is_left_alone_for_a_while() {
    let (mut pool, now) = (Pool::new(bounds()), Instant::now());
    take(&mut pool, &key("a"), now);
    for serial in 1..=8 {
        assert!(pool.wanting(now, 1, PLENTY).is_some());
        pool.making(&key("a"), serial);
        pool.gone(&key("a"), serial, true, now);
    }
    assert_eq!(pool.wanting(now, 1, PLENTY), None);
    pool.surplus(now, PLENTY);
    assert_eq!(pool.wanting(now + Duration::from_secs(59), 1, PLENTY), None);
    assert_eq!(pool.wanting(now, 1, PLENTY), None, "it is remembered");
}

#[test]
fn what_was_taken_and_dies_later_is_no_failure() {
    let (mut pool, now) = (Pool::new(bounds()), Instant::now());
    for serial in 1..=9 {
        pool.making(&key("a"), serial);
        pool.ready(&key("a"), serial, Duration::ZERO, 0);
        assert_eq!(take(&mut pool, &key("a"), now), Some(serial));
        pool.gone(&key("a"), serial, true, now);
    }
    assert!(pool.wanting(now, 1, PLENTY).is_some());
}

#[test]
fn a_change_retires_all_at_once() {
    let (mut pool, mut serial, now) = (Pool::new(Bounds { floor: 3, ..bounds() }), 0, Instant::now());
    pool.expect(&key("a"));
    fill(&mut pool, &mut serial, now, PLENTY);
    pool.making(&key("a"), 9);
    let mut gone = pool.retire(Bounds { ceiling: 2, floor: 2, ..bounds() }, |_| true);
    gone.sort_unstable();
    assert_eq!(gone, [1, 2, 3, 9]);
    assert_eq!(take(&mut pool, &key("a"), now), None);
    // One that was being made and says afterwards that it is ready is not counted any more.
    pool.ready(&key("a"), 9, Duration::ZERO, 0);
    assert_eq!(take(&mut pool, &key("a"), now), None);
    pool.expect(&key("a"));
    assert_eq!(fill(&mut pool, &mut serial, now, PLENTY), 2, "the new bounds are in force");
}

#[test]
fn nothing_is_made_while_it_is_held() {
    let (mut pool, now) = (Pool::new(Bounds { floor: 1, ..bounds() }), Instant::now());
    pool.expect(&key("a"));
    pool.hold_until(now + Duration::from_millis(500));
    assert_eq!(pool.wanting(now, 1, PLENTY), None);
    assert!(pool.wanting(now + Duration::from_millis(500), 1, PLENTY).is_some());
}

#[test]
fn a_kind_that_is_not_known_any_more_is_forgotten() {
    let (mut pool, now) = (Pool::new(bounds()), Instant::now());
    take(&mut pool, &key("a"), now);
    take(&mut pool, &key("b"), now);
    pool.making(&key("a"), 1);
    assert_eq!(pool.retire(bounds(), |key| key.runtime == "b"), [1]);
    assert_eq!(pool.wanting(now, 1, PLENTY), Some(key("b")));
    assert_eq!(pool.kinds.len(), 1);
}
