//! Adds up what the processes of the sandbox use, where no cgroup does; proc(5).
//!
//! Memory is what stands on the writable file system and in System V segments and memory files,
//! whether or not anybody maps it, and every process's anonymous and shared pages and page tables.
//! That counts pages twice which several processes share or which are both a file's and mapped;
//! where the sum is above the limit, the proportional sets, which are exact but slow to read, decide.
//!
//! Processor time is that of the living and of those they have waited for. What dies unseen (its
//! parent ignores SIGCHLD) is in neither, so the last that was seen of each process is kept too.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use super::Finished;
use super::members::{Members, processes};
use crate::plan::{Cause, Watch};
use crate::sys::process;

/// Processes above the limit that the kernel's own would let through, and those that die just now.
const UNHELD: u64 = 8;

#[derive(Debug)]
pub(super) struct Sampler {
    watch: Watch,
    interval: Duration,
    due: Instant,
    ticks_per_second: u64,
    told: bool,
    /// Start of each living process, by its id, and its own processor time when last seen.
    living: HashMap<i32, (u64, Duration)>,
    /// The same of those that are gone, added up.
    gone: Duration,
}

/// What one look at `/proc` found.
#[derive(Debug, Default)]
struct Sample {
    memory_bytes: u64,
    /// Of the living, and of those that they have waited for.
    cpu: Duration,
    tasks: u64,
}

impl Sampler {
    pub(super) fn new(watch: Watch, interval: Duration) -> Self {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten().unwrap_or(100);
        Self {
            watch,
            interval,
            // Nothing is there to be seen before it has had time to start.
            due: Instant::now() + interval,
            ticks_per_second: ticks.unsigned_abs().max(1),
            told: false,
            living: HashMap::new(),
            gone: Duration::ZERO,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Looks, if it is time to, and tells the first limit that is met.
    pub(super) fn sample_if_due(
        &mut self,
        members: &mut Members,
        finished: &mut Finished,
        orphans_before: Duration,
    ) -> Option<Cause> {
        let began = Instant::now();
        if began < self.due {
            return None;
        }
        let sample = self.look(members);
        // Never more than a tenth of a processor, however many processes there are to look at.
        self.due = Instant::now() + self.interval.max(began.elapsed() * 9);
        // Whose child an orphan was, nobody can tell.
        let orphans = match members {
            Members::Everybody => {
                process::usage_of_children().map_or(Duration::ZERO, |(cpu, _)| cpu.saturating_sub(orphans_before))
            }
            Members::Of { .. } => Duration::ZERO,
        };
        let seen = self.gone + self.living.values().map(|(_, own)| *own).sum::<Duration>();
        let cpu = seen.max(sample.cpu + orphans).saturating_sub(Duration::from_micros(self.watch.cpu_before_us));
        finished.sampled_memory_bytes = finished.sampled_memory_bytes.max(sample.memory_bytes);
        finished.sampled_processes = finished.sampled_processes.max(sample.tasks);
        finished.sampled_cpu_us = finished.sampled_cpu_us.max(u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX));
        // The resource limit lets through one more than is allowed, so that having as many as are
        // allowed is told from wanting more.
        finished.processes_met |= sample.tasks > self.watch.processes;
        let cause = if sample.memory_bytes > self.watch.memory_bytes {
            Cause::Memory
        } else if cpu > Duration::from_millis(self.watch.cpu_time_ms) {
            Cause::CpuTime
        } else if self.watch.ends_for_processes && sample.tasks > self.watch.processes + UNHELD {
            Cause::Processes
        } else {
            return None;
        };
        (!std::mem::replace(&mut self.told, true)).then_some(cause)
    }

    /// Counts processes once more before they are killed: a program that ends because it could have
    /// no more of them may do so before the next sample, and samples of many are far between.
    pub(super) fn count_survivors(&self, members: &mut Members, finished: &mut Finished) {
        // The main process, the only one whose parent is outside, counts whether or not it is there.
        let (mut main, mut others, mut gone, mut main_is_there) = (1, 0, 0, false);
        for pid in members.among(processes()) {
            let text = read(pid, "status");
            let threads = field(&text, "Threads:");
            match text.lines().find_map(|line| line.strip_prefix("PPid:")).map(str::trim) {
                Some("0") => {
                    main_is_there = true;
                    main = main.max(threads);
                }
                Some(_) => others += threads.max(1),
                None => gone += 1,
            }
        }
        // Of those that went while they were counted, one may be the main process, which the launcher reaps.
        others += if main_is_there { gone } else { gone.max(1) - 1 };
        finished.sampled_processes = finished.sampled_processes.max(main + others);
        finished.processes_met |= main + others > self.watch.processes;
    }

    fn look(&mut self, members: &mut Members) -> Sample {
        // What is of no process is the whole sandbox's.
        let kept = if matches!(members, Members::Everybody) { disk_used() + segments() } else { 0 };
        let mut sample = Sample { memory_bytes: kept, ..Sample::default() };
        let mut files = MemoryFiles::default();
        let pids = members.among(processes());
        let mut living = HashMap::with_capacity(pids.len());
        for pid in &pids {
            let (memory, tasks) = status(*pid);
            sample.memory_bytes += memory;
            // One that is dying, or gone since it was listed, counted when it was.
            sample.tasks += tasks.max(1);
            files.add(*pid);
            if let Some((started, own, children)) = self.cpu(*pid) {
                sample.cpu += own + children;
                living.insert(*pid, (started, own));
            }
        }
        for (pid, (started, own)) in std::mem::replace(&mut self.living, living) {
            // The same id with another start is another process.
            if self.living.get(&pid).is_none_or(|(now, _)| *now != started) {
                self.gone += own;
            }
        }
        sample.memory_bytes += files.bytes;
        if sample.memory_bytes > self.watch.memory_bytes {
            sample.memory_bytes = kept + files.bytes + pids.iter().map(|pid| files.proportional(*pid)).sum::<u64>();
        }
        sample
    }

    /// When a process was started, its processor time, and that of the children it has waited for.
    fn cpu(&self, pid: i32) -> Option<(u64, Duration, Duration)> {
        let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses is the program's to choose; the numbers follow the last one.
        let after = text.iter().rposition(|byte| *byte == b')')? + 1;
        let text = std::str::from_utf8(text.get(after..)?).ok()?;
        let fields: Vec<u64> = text.split_ascii_whitespace().map(|field| field.parse().unwrap_or(0)).collect();
        let time = |ticks: &[u64]| Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / self.ticks_per_second);
        // Fields 14 to 17 and 22 of proc_pid_stat(5); the third is the first here.
        Some((*fields.get(19)?, time(fields.get(11..13)?), time(fields.get(13..15)?)))
    }
}

/// Memory files, memfd_create(2), that processes have open: a file that nobody maps is in no
/// process's resident set.
#[derive(Debug, Default)]
struct MemoryFiles {
    seen: HashSet<u64>,
    bytes: u64,
}

impl MemoryFiles {
    fn add(&mut self, pid: i32) {
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            let is_one = fs::read_link(entry.path()).is_ok_and(|link| link.to_string_lossy().starts_with("/memfd:"));
            // They all stand on one file system of the kernel's, so the number alone tells them apart.
            if is_one
                && let Ok(found) = fs::metadata(entry.path())
                && self.seen.insert(found.ino())
            {
                self.bytes += found.blocks() * 512;
            }
        }
    }

    /// A process's share of anonymous pages and of shared pages that are in no file that was
    /// counted, and its page tables.
    fn proportional(&self, pid: i32) -> u64 {
        let anonymous = field(&read(pid, "smaps_rollup"), "Pss_Anon:");
        let tables = field(&read(pid, "status"), "VmPTE:");
        let (mut shared, mut counts) = (0, false);
        for line in read(pid, "smaps").lines() {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            match words[..] {
                ["Pss:", kib, _] if counts => shared += kib.parse::<u64>().unwrap_or(0),
                // Shared without a file is of /dev/zero here; the rest is counted where it stands.
                [range, mode, _, _, inode, ref name @ ..] if !range.ends_with(':') => {
                    let is_seen = inode.parse().is_ok_and(|inode| self.seen.contains(&inode));
                    counts = mode.ends_with('s')
                        && name
                            .first()
                            .is_some_and(|name| *name == "/dev/zero" || name.starts_with("/memfd:") && !is_seen);
                }
                _ => {}
            }
        }
        (anonymous + tables + shared) * 1024
    }
}

/// Anonymous and shared memory and page tables in bytes, and number of threads.
fn status(pid: i32) -> (u64, u64) {
    let text = read(pid, "status");
    let kib = ["RssAnon:", "RssShmem:", "VmPTE:"].iter().map(|name| field(&text, name)).sum::<u64>();
    (kib * 1024, field(&text, "Threads:"))
}

fn read(pid: i32, name: &str) -> String {
    let text = fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    String::from_utf8_lossy(&text).into_owned()
}

/// First number of the line that begins so; 0 where there is none.
fn field(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.trim().split(' ').next()?.parse().ok()).unwrap_or(0)
}

/// Bytes of System V shared memory segments, attached or not; proc_sysvipc(5).
fn segments() -> u64 {
    let text = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    let mut lines = text.lines();
    let column = lines.next().and_then(|names| names.split_ascii_whitespace().position(|name| name == "rss"));
    let Some(column) = column else { return 0 };
    lines.filter_map(|line| line.split_ascii_whitespace().nth(column)?.parse::<u64>().ok()).sum()
}

fn disk_used() -> u64 {
    statvfs("/workspace").map_or(0, |found| (found.blocks() - found.blocks_free()) * found.fragment_size())
}

/// Whether the writable file system has no block or no inode left.
pub(super) fn disk_is_full() -> bool {
    statvfs("/workspace").is_ok_and(|found| found.blocks_free() == 0 || found.files_free() == 0)
}
