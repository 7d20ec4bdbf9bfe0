//! A log, its pump and the kills that they must survive.

use std::io::{PipeWriter, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use nix::errno::Errno as Number;
use proptest::prelude::*;

use super::*;
use crate::sys::socket;

/// Numbers that look random; splitmix64.
pub(in crate::session) struct Random(pub(in crate::session) u64);

impl Random {
    pub(in crate::session) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(1);
        mixed(self.0) % bound
    }
}

fn mixed(number: u64) -> u64 {
    let number = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// What the tests' programs print: each place has its own bytes.
pub(in crate::session) fn printed(from: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 16);
    (from / 8..).take(length / 8 + 2).for_each(|word| bytes.extend_from_slice(&mixed(word).to_le_bytes()));
    bytes.drain(..usize::try_from(from % 8).unwrap());
    bytes.truncate(length);
    bytes
}

/// Prints until it is told to stop, or has printed enough, in pieces of all sizes.
fn print(mut to: impl Write, stop: &AtomicBool, enough: u64, seed: u64) -> u64 {
    let (mut random, mut total) = (Random(seed), 0);
    while !stop.load(Ordering::Relaxed) && total < enough {
        let length = (1 + random.below(9000)).min(enough - total);
        to.write_all(&printed(total, usize::try_from(length).unwrap())).unwrap();
        total += length;
    }
    total
}

pub(in crate::session) fn in_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let minute = Duration::from_secs(60);
    runtime.block_on(async { tokio::time::timeout(minute, future).await.expect("it hangs") })
}

pub(in crate::session) fn pumped(bytes: u64) -> (PipeWriter, Arc<Log>, Pump) {
    let (reader, writer) = std::io::pipe().unwrap();
    let log = Arc::new(Log::new(bytes).unwrap());
    let pump = Pump::start(reader.into(), Arc::clone(&log), None).unwrap();
    (writer, log, pump)
}

/// All that is kept.
fn kept(log: &Log) -> Piece {
    log.read(0, usize::MAX).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_last_bytes_are_kept_exactly(total in 0_u64..400_000, bytes in 0_u64..200_000, seed: u64) {
        in_runtime(async {
            let (writer, log, pump) = pumped(bytes);
            std::thread::spawn(move || print(writer, &AtomicBool::new(false), total, seed));
            pump.ended().await.unwrap();
            let length = total.min(bytes);
            assert_eq!((log.first(), log.next(), pump.total()), (total - length, total, total));
            let expected = printed(total - length, usize::try_from(length).unwrap());
            assert!(kept(&log) == Piece { sequence: total - length, bytes: expected });
        });
    }
}

#[test]
fn memory_is_bounded_while_numbers_go_on() {
    const BYTES: u64 = 1 << 20;
    const TOTAL: u64 = 100 << 20;
    in_runtime(async {
        let (mut writer, log, pump) = pumped(BYTES);
        let block = vec![7; 1 << 20];
        std::thread::spawn(move || (0..TOTAL >> 20).for_each(|_| writer.write_all(&block).unwrap()));
        let mut news = log.subscribe();
        let mut most = 0;
        while news.wait_for(|position| position.end.is_some()).now_or_never().is_none() {
            news.changed().await.unwrap();
            most = most.max(pipe::occupied(log.descriptor()).unwrap());
        }
        pump.ended().await.unwrap();
        assert_eq!(log.next(), TOTAL);
        assert!((BYTES..=BYTES + (192 << 10)).contains(&most), "{most}");
    });
}

#[test]
fn a_log_is_adopted_where_it_stands_and_may_keep_less_or_more() {
    in_runtime(async {
        let (mut writer, log, pump) = pumped(100_000);
        writer.write_all(&printed(0, 60_000)).unwrap();
        log.subscribe().wait_for(|position| position.next == 60_000).await.unwrap();
        writer.write_all(&printed(60_000, 60_000)).unwrap();
        drop(writer);
        pump.ended().await.unwrap();
        let again = |bytes| Log::adopt(log.descriptor().try_clone_to_owned().unwrap(), bytes).unwrap();
        let same = again(100_000);
        assert_eq!(same.position(), Position { first: 20_000, next: 120_000, end: None });
        assert!(kept(&same).bytes == printed(20_000, 100_000));
        let less = again(10_000);
        assert!(kept(&less) == Piece { sequence: 110_000, bytes: printed(110_000, 10_000) });
        // What was given back is not taken for zeros that the program printed.
        let more = again(u64::MAX);
        assert_eq!(more.first(), 110_000 / PAGE_BYTES * PAGE_BYTES);
        assert!(kept(&more).bytes == printed(more.first(), usize::try_from(120_000 - more.first()).unwrap()));
    });
}

#[test]
fn more_than_the_limit_is_told_and_does_not_stop_the_stream() {
    in_runtime(async {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let log = Arc::new(Log::new(1 << 20).unwrap());
        let pump = Pump::start(reader.into(), Arc::clone(&log), Some(10)).unwrap();
        writer.write_all(&[0; 10]).unwrap();
        log.subscribe().wait_for(|position| position.next == 10).await.unwrap();
        assert!(pump.over().now_or_never().is_none());
        writer.write_all(&[0]).unwrap();
        pump.over().await;
        writer.write_all(&[0; 5]).unwrap();
        drop(writer);
        pump.ended().await.unwrap();
        assert_eq!(pump.total(), 16);
    });
}

#[test]
fn the_rest_is_taken_though_the_pipe_is_still_held() {
    in_runtime(async {
        let (mut writer, log, pump) = pumped(1 << 20);
        writer.write_all(&printed(0, 50_000)).unwrap();
        pump.catch_up().await;
        assert!(kept(&log).bytes == printed(0, 50_000));
        drop(writer);
    });
}

#[test]
fn who_prints_without_end_does_not_put_off_the_end() {
    in_runtime(async {
        let (mut writer, log, pump) = pumped(1 << 20);
        let printing = std::thread::spawn(move || while writer.write_all(&[0; 4096]).is_ok() {});
        log.subscribe().wait_for(|position| position.next > 1 << 20).await.unwrap();
        pump.catch_up().await;
        drop(pump);
        // The pump has closed the pipe, at which the thread ends.
        tokio::task::spawn_blocking(|| printing.join().unwrap()).await.unwrap();
    });
}

#[test]
fn a_pump_that_is_dropped_leaves_the_rest_to_the_next() {
    in_runtime(async {
        let (reader, mut writer) = std::io::pipe().unwrap();
        let duplicate = reader.try_clone().unwrap();
        let log = Arc::new(Log::new(1 << 20).unwrap());
        drop(Pump::start(duplicate.into(), Arc::clone(&log), None).unwrap());
        writer.write_all(b"later").unwrap();
        drop(writer);
        Pump::start(reader.into(), Arc::clone(&log), None).unwrap().ended().await.unwrap();
        assert_eq!(kept(&log).bytes, b"later");
    });
}

#[test]
fn what_can_not_be_moved_ends_the_stream_with_the_reason() {
    in_runtime(async {
        let (reader, mut writer) = std::io::pipe().unwrap();
        // Splice writes to no file that is open for reading only.
        let memory = std::fs::File::open("/proc/self/exe").unwrap();
        let log = Arc::new(Log::new(1).unwrap());
        let log = Arc::new(Log { memory, bytes: 1, position: watch::Sender::new(log.position()) });
        writer.write_all(b"x").unwrap();
        let pump = Pump::start(reader.into(), log, None).unwrap();
        assert_eq!(pump.ended().await.unwrap_err().errno, Number::EBADF);
    });
}

fn terminal() -> (OwnedFd, std::fs::File, Staging) {
    let pair = nix::pty::openpty(None, None).unwrap();
    let mut mode = nix::sys::termios::tcgetattr(&pair.slave).unwrap();
    nix::sys::termios::cfmakeraw(&mut mode);
    nix::sys::termios::tcsetattr(&pair.slave, nix::sys::termios::SetArg::TCSANOW, &mode).unwrap();
    let (reader, writer) = std::io::pipe().unwrap();
    (pair.master, pair.slave.into(), Staging { reader: reader.into(), writer: writer.into() })
}

#[test]
fn a_terminal_is_pumped_to_its_end() {
    const TOTAL: usize = 1 << 20;
    in_runtime(async {
        let (master, slave, staging) = terminal();
        let log = Arc::new(Log::new(2 << 20).unwrap());
        let pump = Pump::start_terminal(master, staging, Arc::clone(&log), None).unwrap();
        std::thread::spawn(move || print(slave, &AtomicBool::new(false), TOTAL as u64, 1));
        pump.ended().await.unwrap();
        assert!(kept(&log).bytes == printed(0, TOTAL));
    });
}

#[test]
fn what_is_on_its_way_from_a_terminal_comes_first() {
    in_runtime(async {
        let (master, mut slave, staging) = terminal();
        nix::unistd::write(&staging.writer, b"before, ").unwrap();
        slave.write_all(b"after").unwrap();
        let log = Arc::new(Log::new(1 << 20).unwrap());
        let pump = Pump::start_terminal(master, staging, Arc::clone(&log), None).unwrap();
        // Though the other side is still held.
        pump.catch_up().await;
        assert_eq!(kept(&log).bytes, b"before, after");
    });
}

/// A process that pumps into this log until it is killed. It gets duplicates, as from the launcher.
fn pumping_process(memory: BorrowedFd<'_>, sources: &[BorrowedFd<'_>]) -> Child {
    let (ours, theirs) = socket::pair().unwrap();
    socket::send(ours.as_fd(), b"x", &[&[memory], sources].concat()).unwrap();
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "session::log::tests::pumps_until_it_is_killed", "--ignored", "--nocapture"])
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

#[test]
#[ignore = "the process that others kill, and no test by itself"]
fn pumps_until_it_is_killed() {
    let Ok(message) = socket::receive(std::io::stdin().as_fd(), &mut [0; 8]) else {
        eprintln!("skipped: standard input is no socket with descriptors");
        return;
    };
    in_runtime(async {
        let mut descriptors = message.descriptors.into_iter();
        let log = Arc::new(Log::adopt(descriptors.next().unwrap(), u64::MAX).unwrap());
        let source = descriptors.next().unwrap();
        let pump = match (descriptors.next(), descriptors.next()) {
            (Some(reader), Some(writer)) => Pump::start_terminal(source, Staging { reader, writer }, log, None),
            _ => Pump::start(source, log, None),
        };
        pump.unwrap().ended().await.unwrap();
    });
}

/// Kills process after process that pumps what a thread prints, and then pumps the rest.
fn kill_again_and_again(
    kills: u64,
    most_between: u64,
    to: impl Write + Send + 'static,
    sources: &[BorrowedFd<'_>],
    pump: impl AsyncFnOnce(Arc<Log>) -> sys::Result<()>,
) {
    let memory = pipe::memory_file(c"killed").unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let printing = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || print(to, &stop, u64::MAX, 2)
    });
    let mut random = Random(3);
    for _ in 0..kills {
        let goal = pipe::offset(memory.as_fd()).unwrap() + random.below(most_between);
        let mut process = pumping_process(memory.as_fd(), sources);
        while pipe::offset(memory.as_fd()).unwrap() < goal {
            assert!(process.try_wait().unwrap().is_none(), "it has ended by itself");
            std::thread::yield_now();
        }
        process.kill().unwrap();
        process.wait().unwrap();
        let size = nix::sys::stat::fstat(&memory).unwrap().st_size.cast_unsigned();
        assert_eq!(pipe::offset(memory.as_fd()).unwrap(), size);
    }
    stop.store(true, Ordering::Relaxed);
    let log = Arc::new(Log::adopt(memory, u64::MAX).unwrap());
    in_runtime(pump(Arc::clone(&log))).unwrap();
    let total = printing.join().unwrap();
    eprintln!("{kills} kills within {total} bytes");
    assert_eq!(log.position(), Position { first: 0, next: total, end: Some(Ok(())) });
    for from in (0..total).step_by(1 << 20) {
        let piece = log.read(from, 1 << 20).unwrap();
        assert!(piece.bytes == printed(from, piece.bytes.len()), "within 1 MiB after {from}");
    }
}

#[test]
fn no_kill_loses_or_doubles_a_byte_of_a_pipe() {
    let (reader, writer) = std::io::pipe().unwrap();
    let duplicate = reader.try_clone().unwrap();
    kill_again_and_again(300, 100_000, writer, &[reader.as_fd()], async |log| {
        Pump::start(duplicate.into(), log, None).unwrap().ended().await
    });
}

#[test]
fn no_kill_loses_or_doubles_a_byte_of_a_terminal() {
    let (master, slave, staging) = terminal();
    let (reader, writer) = (staging.reader.try_clone().unwrap(), staging.writer.try_clone().unwrap());
    let duplicate = master.try_clone().unwrap();
    kill_again_and_again(200, 40_000, slave, &[master.as_fd(), reader.as_fd(), writer.as_fd()], async |log| {
        Pump::start_terminal(duplicate, staging, log, None).unwrap().ended().await
    });
}
