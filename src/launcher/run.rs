//! A program that runs or ran, from the launcher's side: its limits, its time, and how it ended.

use std::time::{Duration, Instant};

use nix::errno::Errno as Number;
use nix::sys::signal::Signal;

use super::cgroup::Leaf;
use super::program::Program;
use crate::jail::filter;
use crate::jail::init::Finished;
use crate::jail::program;
use crate::job::{Denial, DeniedFlow, Ending, Exit, Usage};
use crate::plan::{Cause, Mark, Rlimits, Watch};
use crate::profile::Limits;
use crate::sys::process::{self, ExitStatus};
use crate::sys::{Errno, Result};

/// Shortest time between two looks at the processor time.
const LEAST_CPU_CHECK: Duration = Duration::from_millis(10);

/// A program that runs, or ran.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) program: Program,
    pub(super) limits: Limits,
    /// When its job was begun.
    began: Instant,
    began_us: u64,
    /// Processor time that it had used before.
    cpu_before: Duration,
    pub(super) killed_for: Option<Cause>,
    pub(super) exit: Option<(process::Exit, u64)>,
    pub(super) finished: Option<Finished>,
    /// What the network policy refused so far.
    pub(super) flows: Vec<DeniedFlow>,
    /// What was left word of so far.
    marks: Vec<Mark>,
}

impl Run {
    /// A program whose job begins now.
    pub(super) fn new(program: Program, limits: Limits) -> Self {
        Self {
            cpu_before: process::cpu_time_of(program.child.pid),
            program,
            limits,
            began: Instant::now(),
            began_us: process::monotonic_us(),
            killed_for: None,
            exit: None,
            finished: None,
            flows: Vec::new(),
            marks: Vec::new(),
        }
    }

    /// What init watches, where no cgroup does.
    pub(super) fn watch(&self, leaf: Option<&Leaf>) -> Option<Watch> {
        leaf.is_none().then_some(Watch {
            memory_bytes: self.limits.memory_bytes,
            cpu_time_ms: self.limits.cpu_time_ms,
            processes: self.limits.processes,
            cpu_before_us: micros(self.cpu_before),
            ends_for_processes: false,
        })
    }

    /// Puts its limits in force. So many `others` are of the same user, and where no cgroup counts, the kernel counts
    /// them with its own.
    pub(super) fn hold(&self, leaf: Option<&mut Leaf>, others: u64) -> Result<()> {
        let in_cgroup = leaf.is_some();
        if let Some(leaf) = leaf {
            leaf.prepare(&self.limits)?;
        }
        // The kernel counts from the process's start, the job's time begins now.
        let cpu_time_us = self.limits.cpu_time_ms.saturating_mul(1000).saturating_add(micros(self.cpu_before));
        let usual = rlimits(&self.limits, in_cgroup);
        let rlimits = Rlimits {
            cpu_seconds: cpu_time_us.div_ceil(1_000_000),
            processes: usual.processes.map(|processes| processes.saturating_add(others)),
            ..usual
        };
        match program::limit(self.program.child.pid, &rlimits, false) {
            // It is dead already, of which its pidfd tells.
            Ok(()) | Err(Errno { errno: Number::ESRCH, .. }) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Takes the status of its main process, where that has ended just now.
    pub(super) fn reap(&mut self) -> Result<bool> {
        if self.exit.is_some() {
            return Ok(false);
        }
        let Some((_, exit)) = process::reap(self.program.child.pid)? else {
            return Ok(false);
        };
        self.exit = Some((exit, process::monotonic_us()));
        Ok(true)
    }

    /// When its own time began, by the monotonic clock, as far as that is known.
    fn started_us(&mut self) -> Option<u64> {
        self.marks.extend(self.program.marks.read());
        // A warm interpreter was executed before its job came; what counts is when it was given.
        self.marks.iter().rev().find_map(|mark| match mark {
            Mark::Executing(at) | Mark::Given(at) => Some((*at).max(self.began_us)),
            Mark::Failed(..) => None,
        })
    }

    /// Whether word was left that its job was given to it, as far as it was read.
    pub(super) fn was_given(&self) -> bool {
        self.marks.iter().any(|mark| matches!(mark, Mark::Given(_)))
    }

    /// How much is left of its time by the clock. What it waited for us is not its own.
    fn wall_left(&mut self) -> Duration {
        let limit = Duration::from_millis(self.limits.wall_time_ms);
        let left = (self.began + limit).saturating_duration_since(Instant::now());
        if !left.is_zero() {
            return left;
        }
        let started_us = self.started_us().unwrap_or(self.began_us);
        limit.saturating_sub(Duration::from_micros(process::monotonic_us().saturating_sub(started_us)))
    }

    fn cpu_left(&self, leaf: Option<&Leaf>) -> Duration {
        let limit = Duration::from_millis(self.limits.cpu_time_ms);
        leaf.map_or(Duration::MAX, |leaf| limit.saturating_sub(Duration::from_micros(leaf.cpu_us())))
    }

    /// Which of its times is up, if one is.
    pub(super) fn time_met(&mut self, leaf: Option<&Leaf>) -> Option<Cause> {
        if self.wall_left().is_zero() {
            return Some(Cause::WallTime);
        }
        self.cpu_left(leaf).is_zero().then_some(Cause::CpuTime)
    }

    /// The next look is due when the time by the clock is up, or when all processors that it may
    /// use could have used up its processor time.
    pub(super) fn next_look(&mut self, now: Instant, leaf: Option<&Leaf>) -> Instant {
        let left = self.cpu_left(leaf);
        let deadline = now + self.wall_left();
        let share = u32::try_from(self.limits.cpu_millis.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        if left == Duration::MAX { deadline } else { deadline.min(now + (left / share).max(LEAST_CPU_CHECK)) }
    }

    /// Whether there is nothing to be explained about its end.
    pub(super) fn ended_well(&self, finished: &Finished) -> bool {
        self.killed_for.is_none()
            && finished.exceeded.is_none()
            && self.exit.as_ref().is_some_and(|(exit, _)| exit.status == ExitStatus::Exited(0))
    }

    /// Whether somebody else has killed the program before it was executed. Of an interpreter that has
    /// started already that can't be told.
    pub(super) fn is_lost(&mut self, leaf: Option<&mut Leaf>, finished: &Finished) -> bool {
        let killed = ExitStatus::Signalled(Signal::SIGKILL as i32);
        if self.program.is_warm()
            || self.killed_for.is_some()
            || finished.exceeded.is_some()
            || self.exit.as_ref().is_none_or(|(exit, _)| exit.status != killed)
        {
            return false;
        }
        self.started_us();
        let executed = self.marks.iter().any(|mark| matches!(mark, Mark::Executing(_)));
        !executed && !leaf.is_some_and(|leaf| leaf.usage().out_of_memory)
    }

    /// All that is known of the end of a program.
    pub(super) fn ending(
        &mut self,
        leaf: Option<&mut Leaf>,
        finished: Finished,
        file_at_limit: bool,
        disk_full: bool,
    ) -> Ending {
        let (exit, ended_us) = self.exit.expect("a run is concluded when its program is reaped");
        let started_us = self.started_us().unwrap_or(ended_us).min(ended_us);
        let failed = self.marks.iter().find_map(|mark| match mark {
            Mark::Failed(step, errno) => Some(Exit::NotStarted(*step, *errno)),
            _ => None,
        });
        let wall_time_us = ended_us - started_us;
        let own_cpu_us = micros(exit.cpu_time.saturating_sub(self.cpu_before));
        let processes_refused = finished.processes_met || was_full(self, &finished);
        let mut ending = Ending {
            exit: failed.unwrap_or(match exit.status {
                ExitStatus::Exited(code) => Exit::Code(code),
                ExitStatus::Signalled(signal) => Exit::Signal(signal),
            }),
            // Init's report of a limit may be overtaken by the end that it brought about.
            killed_for: self.killed_for.or(finished.exceeded),
            out_of_memory: false,
            processes_refused,
            file_at_limit,
            disk_full,
            denied: name(finished.denials),
            flows: std::mem::take(&mut self.flows),
            network_error: None,
            usage: Usage {
                wall_time_us,
                cpu_time_us: (own_cpu_us + finished.orphans_cpu_us).max(finished.sampled_cpu_us),
                memory_peak_bytes: exit
                    .memory_peak_bytes
                    .max(finished.orphans_peak_bytes)
                    .max(finished.sampled_memory_bytes),
                processes_peak: finished.sampled_processes.max(1),
                read_bytes: None,
                written_bytes: None,
            },
            started_us,
            ended_us,
        };
        if let Some(leaf) = leaf {
            let used = leaf.usage();
            ending.out_of_memory = used.out_of_memory;
            ending.processes_refused = used.processes_refused;
            ending.usage = Usage {
                wall_time_us,
                cpu_time_us: used.cpu_us,
                memory_peak_bytes: used.memory_peak_bytes,
                processes_peak: used.processes_peak,
                read_bytes: Some(used.read_bytes),
                written_bytes: Some(used.written_bytes),
            };
        }
        ending
    }
}

/// Without a cgroup nobody counts refused forks, and the kernel gives a process's place back later
/// than the process is seen to be gone. A program of many processes that filled all its places and
/// went on until its time was up is taken for one that wanted more.
fn was_full(run: &Run, finished: &Finished) -> bool {
    const MANY: u64 = 8;
    let out_of_time = matches!(run.killed_for, Some(Cause::WallTime | Cause::CpuTime));
    // One place may still be held by a process that is gone.
    out_of_time && run.limits.processes >= MANY && finished.sampled_processes + 1 >= run.limits.processes
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Held calls by name; what a name does not tell apart is counted together.
fn name(denials: Vec<(i32, [u64; 2], u64)>) -> Vec<Denial> {
    let mut denied: Vec<Denial> = Vec::new();
    for (number, arguments, count) in denials {
        let (syscall, argument) = filter::describe(number, arguments);
        match denied.iter_mut().find(|known| known.syscall == syscall && known.argument == argument) {
            Some(known) => known.count += count,
            None => denied.push(Denial { syscall, argument, count }),
        }
    }
    denied
}

/// The limits that the kernel holds for each process alone.
pub(super) fn rlimits(limits: &Limits, in_cgroup: bool) -> Rlimits {
    Rlimits {
        cpu_seconds: limits.cpu_time_ms.div_ceil(1000),
        // The sampler holds the limit; this only stops what no sampler could. Interpreters reserve
        // gigabytes of writable memory that they never touch, V8 half of one for each thread.
        data_bytes: (!in_cgroup).then(|| limits.memory_bytes.saturating_add(16 << 30)),
        // One more than is allowed: the sampler sees it, and tells it from having just as many.
        processes: (!in_cgroup).then(|| limits.processes.saturating_add(1)),
        open_files: limits.open_files,
        file_size_bytes: limits.file_size_bytes,
        stack_bytes: limits.stack_bytes,
    }
}
