//! What is known of the end of a program, from all who saw some of it.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::{Run, Sandbox};
use crate::jail::filter;
use crate::jail::init::Finished;
use crate::job::{Denial, Ending, Exit, Usage};
use crate::plan::{Cause, Mark};
use crate::sys::process::ExitStatus;

impl Sandbox {
    /// Whether somebody else has killed the program before it was executed. Of an interpreter that has
    /// started already that can't be told.
    pub(super) fn is_lost(&mut self, run: &mut Run, finished: &Finished) -> bool {
        let killed = ExitStatus::Signalled(Signal::SIGKILL as i32);
        if run.program.is_warm()
            || run.killed_for.is_some()
            || finished.exceeded.is_some()
            || run.exit.as_ref().is_none_or(|(exit, _)| exit.status != killed)
        {
            return false;
        }
        run.started_us();
        let executed = run.marks.iter().any(|mark| matches!(mark, Mark::Executing(_)));
        !executed && !self.leaf.as_mut().is_some_and(|leaf| leaf.usage().out_of_memory)
    }

    /// All that is known of the end of a program.
    pub(super) fn ending(&mut self, run: &mut Run, finished: Finished, file_at_limit: bool, disk_full: bool) -> Ending {
        let (exit, ended_us) = run.exit.expect("a run is concluded when its program is reaped");
        self.used = true;
        let started_us = run.started_us().unwrap_or(ended_us).min(ended_us);
        let failed = run.marks.iter().find_map(|mark| match mark {
            Mark::Failed(step, errno) => Some(Exit::NotStarted(*step, *errno)),
            _ => None,
        });
        let wall_time_us = ended_us - started_us;
        let own_cpu_us = micros(exit.cpu_time.saturating_sub(run.cpu_before));
        let processes_refused = finished.processes_met || was_full(run, &finished);
        let mut ending = Ending {
            exit: failed.unwrap_or(match exit.status {
                ExitStatus::Exited(code) => Exit::Code(code),
                ExitStatus::Signalled(signal) => Exit::Signal(signal),
            }),
            // Init's report of a limit may be overtaken by the end that it brought about.
            killed_for: run.killed_for.or(finished.exceeded),
            out_of_memory: false,
            processes_refused,
            file_at_limit,
            disk_full,
            denied: name(finished.denials),
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
        if let Some(leaf) = &mut self.leaf {
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
