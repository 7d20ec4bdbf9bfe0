//! Followers that keep up, fall behind, and read text.

use std::io::Write;

use futures_util::FutureExt;
use proptest::prelude::*;

use super::*;
use crate::session::log::tests::{Random, in_runtime, printed, pumped};

fn output(stream: Stream, sequence: u64, bytes: &[u8]) -> Followed {
    Followed::Output { stream, sequence, bytes: bytes.to_vec() }
}

async fn reached(log: &Log, next: u64) {
    log.subscribe().wait_for(|position| position.next >= next).await.unwrap();
}

/// Follows one stream to its end, and says where gaps were; asserts that the rest is what was printed.
async fn follow_to_the_end(mut follower: Follower) -> (u64, Vec<(u64, u64)>) {
    let (mut at, mut gaps) = (None, Vec::new());
    loop {
        match follower.next().await {
            Followed::Output { sequence, bytes, .. } => {
                assert!(at.is_none_or(|at| at == sequence));
                assert!(!bytes.is_empty() && bytes.len() <= PIECE_BYTES);
                assert!(bytes == printed(sequence, bytes.len()), "at {sequence}");
                at = Some(sequence + bytes.len() as u64);
            }
            Followed::Gap { from, to, .. } => {
                assert!(at.is_none_or(|at| at == from) && from < to);
                gaps.push((from, to));
                at = Some(to);
            }
            Followed::End => return (at.unwrap_or_default(), gaps),
        }
    }
}

#[test]
fn two_followers_are_at_different_places() {
    in_runtime(async {
        let (mut writer, log, _pump) = pumped(1 << 20);
        writer.write_all(b"0123456789").unwrap();
        reached(&log, 10).await;
        let mut early = Follower::new((Arc::clone(&log), 0), None);
        let mut late = Follower::new((Arc::clone(&log), 8), None);
        assert_eq!(late.next().await, output(Stream::Stdout, 8, b"89"));
        assert_eq!(late.next().now_or_never(), None);
        writer.write_all(b"ab").unwrap();
        assert_eq!(late.next().await, output(Stream::Stdout, 10, b"ab"));
        assert_eq!(early.next().await, output(Stream::Stdout, 0, b"0123456789ab"));
        drop(writer);
        for follower in [&mut early, &mut late] {
            assert_eq!(follower.next().await, Followed::End);
            assert_eq!(follower.next().await, Followed::End);
        }
    });
}

#[test]
fn a_slow_follower_is_told_exactly_what_is_lost() {
    in_runtime(async {
        let (mut writer, log, _pump) = pumped(10_000);
        writer.write_all(&printed(0, 9_000)).unwrap();
        reached(&log, 9_000).await;
        let mut follower = Follower::new((Arc::clone(&log), 5), None);
        assert_eq!(follower.next().await, output(Stream::Stdout, 5, &printed(5, 8_995)));
        writer.write_all(&printed(9_000, 21_000)).unwrap();
        drop(writer);
        reached(&log, 30_000).await;
        assert_eq!(follower.next().await, Followed::Gap { stream: Stream::Stdout, from: 9_000, to: 20_000 });
        assert_eq!(follower.next().await, output(Stream::Stdout, 20_000, &printed(20_000, 10_000)));
        assert_eq!(follower.next().await, Followed::End);
    });
}

#[test]
fn a_follower_that_is_overtaken_all_the_time_never_sees_old_memory() {
    const TOTAL: usize = 8 << 20;
    in_runtime(async {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let log = Arc::new(Log::new(20_000).unwrap());
        // The pump has a thread of its own, so that it overtakes in the midst of a read.
        let pumping = std::thread::spawn({
            let log = Arc::clone(&log);
            move || {
                in_runtime(async {
                    crate::session::log::Pump::start(reader.into(), log, None).unwrap().ended().await.unwrap();
                });
            }
        });
        let content = printed(0, TOTAL);
        std::thread::spawn(move || content.chunks(5_000).for_each(|chunk| writer.write_all(chunk).unwrap()));
        let (end, gaps) = follow_to_the_end(Follower::new((log, 0), None)).await;
        assert_eq!(end, TOTAL as u64);
        eprintln!("{} gaps", gaps.len());
        pumping.join().unwrap();
    });
}

#[test]
fn a_loud_stream_does_not_drown_the_other() {
    in_runtime(async {
        let ((mut loud, stdout, _one), (mut quiet, stderr, _two)) = (pumped(1 << 20), pumped(1 << 20));
        for _ in 0..4 {
            let goal = stdout.next() + 60_000;
            loud.write_all(&[b'o'; 60_000]).unwrap();
            reached(&stdout, goal).await;
        }
        quiet.write_all(b"e").unwrap();
        reached(&stderr, 1).await;
        let mut follower = Follower::new((stdout, 0), Some((stderr, 0)));
        let mut streams = Vec::new();
        while let Some(Followed::Output { stream, .. }) = follower.ready() {
            streams.push(stream);
        }
        assert_eq!(streams[..3], [Stream::Stdout, Stream::Stderr, Stream::Stdout]);
        drop((loud, quiet));
        assert_eq!(follower.next().await, Followed::End);
    });
}

#[test]
fn the_end_is_that_of_both_streams() {
    in_runtime(async {
        let ((one, stdout, _one), (mut two, stderr, _two)) = (pumped(1 << 20), pumped(1 << 20));
        let mut follower = Follower::new((stdout, 0), Some((stderr, 0)));
        drop(one);
        assert_eq!(follower.next().now_or_never(), None);
        two.write_all(b"x").unwrap();
        assert_eq!(follower.next().await, output(Stream::Stderr, 0, b"x"));
        drop(two);
        assert_eq!(follower.next().await, Followed::End);
        assert_eq!(follower.ready(), Some(Followed::End));
    });
}

#[test]
fn a_number_that_was_not_reached_is_waited_for() {
    in_runtime(async {
        let (mut writer, log, _pump) = pumped(1 << 20);
        let mut follower = Follower::new((Arc::clone(&log), 3), None);
        writer.write_all(b"ab").unwrap();
        reached(&log, 2).await;
        assert_eq!(follower.ready(), None);
        writer.write_all(b"cd").unwrap();
        assert_eq!(follower.next().await, output(Stream::Stdout, 3, b"d"));
    });
}

#[test]
fn half_a_character_waits_for_its_rest_or_the_end() {
    in_runtime(async {
        let (mut writer, log, _pump) = pumped(1 << 20);
        let mut follower = Follower::new((Arc::clone(&log), 0), None).keep_characters();
        writer.write_all(b"a\xe2\x82").unwrap();
        reached(&log, 3).await;
        assert_eq!(follower.next().await, output(Stream::Stdout, 0, b"a"));
        assert_eq!(follower.ready(), None);
        writer.write_all(b"\xac\xf0").unwrap();
        assert_eq!(follower.next().await, output(Stream::Stdout, 1, "€".as_bytes()));
        assert_eq!(follower.next().now_or_never(), None);
        drop(writer);
        assert_eq!(follower.next().await, output(Stream::Stdout, 4, b"\xf0"));
        assert_eq!(follower.next().await, Followed::End);
    });
}

#[test]
fn long_text_stays_text_in_all_its_pieces() {
    in_runtime(async {
        let text = "a€🎉".repeat(50_000);
        let (mut writer, log, _pump) = pumped(1 << 20);
        let bytes = text.clone().into_bytes();
        std::thread::spawn(move || writer.write_all(&bytes).unwrap());
        let mut follower = Follower::new((log, 0), None).keep_characters();
        let mut all = String::new();
        while let Followed::Output { bytes, .. } = follower.next().await {
            all.push_str(std::str::from_utf8(&bytes).unwrap());
        }
        assert!(all == text);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn no_byte_is_lost_or_changed(
        lengths in prop::collection::vec(1_usize..30_000, 0..20),
        keep_characters: bool,
        seed: u64,
    ) {
        in_runtime(async {
            let (mut writer, log, _pump) = pumped(u64::MAX);
            let mut from = Random(seed).below(100);
            let mut follower = Follower::new((Arc::clone(&log), from), None);
            if keep_characters {
                follower = follower.keep_characters();
            }
            let mut total = 0;
            for length in lengths {
                writer.write_all(&printed(total, length)).unwrap();
                total += length as u64;
                reached(&log, total).await;
                while let Some(Followed::Output { sequence, bytes, .. }) = follower.ready() {
                    assert_eq!(sequence, from);
                    assert!(bytes == printed(from, bytes.len()));
                    from += bytes.len() as u64;
                }
                assert!(from + 3 >= total);
            }
            drop(writer);
            let (end, gaps) = follow_to_the_end(follower).await;
            assert!(gaps.is_empty() && end.max(from) >= total);
        });
    }
}
