//! One sandbox, as the launcher sees it: what it is doing, and what is still asked of it.
//!
//! ```text
//! Making ─▶ Idle ─▶ Unpacking ─▶ Idle
//!             │
//!             ├──▶ Running ─▶ Finishing ─▶ Idle      the main process is dead │ so is all else
//!             ├──▶ Collecting ─▶ Idle
//!             └──▶ Dying: init is killed, and everything with it
//! ```

use std::collections::VecDeque;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::cgroup::Leaf;
use super::ids::Slot;
use crate::jail::filter::{self, Filter};
use crate::jail::init::{Command, Finished};
use crate::jail::program::{self, Start};
use crate::job::{Denial, Ending, Exit, Usage};
use crate::plan::{Cause, Identity, Rlimits, Stage, Watch};
use crate::profile::{DeniedSyscall, Limits, Network, Profile};
use crate::sys::process::{self, Child, ExitStatus};
use crate::sys::{Errno, Result, socket};

/// Most work that waits for a sandbox.
pub(super) const BACKLOG: usize = 8;
/// Longest that init may take for anything that it does not do for the program.
const INIT_DEADLINE: Duration = Duration::from_secs(15);
/// Shortest time between two looks at the processor time.
const LEAST_CPU_CHECK: Duration = Duration::from_millis(10);

/// Work that is asked of a sandbox.
#[derive(Debug)]
pub(super) enum Work {
    Unpack(OwnedFd),
    Execute { limits: Limits, spec: OwnedFd, streams: [OwnedFd; 3] },
    Collect(OwnedFd, OwnedFd),
}

#[derive(Debug)]
pub(super) enum Phase {
    Making,
    Idle,
    Unpacking,
    Running(Box<Run>),
    Finishing(Box<Run>),
    Collecting,
    /// Init is killed; a program that is still to be reaped goes with it.
    Dying(Option<Child>),
}

/// A program that runs, or ran.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) child: Child,
    failure: OwnedFd,
    limits: Limits,
    began: Instant,
    pub(super) killed_for: Option<Cause>,
    exit: Option<(process::Exit, Option<Exit>)>,
    ended: Instant,
}

impl Run {
    /// Kills the main process and waits until it is reaped.
    pub(super) fn end_now(&self) {
        process::signal(self.child.pidfd.as_fd(), Signal::SIGKILL).ok();
        nix::sys::wait::waitpid(self.child.pid, None).ok();
    }
}

#[derive(Debug)]
pub(super) struct Sandbox {
    /// Connection and lease by which it is known.
    pub(super) owner: (u64, u64),
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    pub(super) profile: Arc<Profile>,
    pub(super) filter: Arc<Filter>,
    pub(super) network: Option<OwnedFd>,
    pub(super) leaf: Option<Leaf>,
    pub(super) init: Child,
    pub(super) control: OwnedFd,
    pub(super) phase: Phase,
    pub(super) backlog: VecDeque<Work>,
    /// Told to its owner when it is gone; `None` where the owner asked for its end.
    pub(super) failed: Option<String>,
    /// When to look at it again, whatever happens.
    pub(super) timer: Option<Instant>,
    sample_interval_us: u64,
}

/// What a sandbox is made of, besides its processes.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) owner: (u64, u64),
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    pub(super) profile: Arc<Profile>,
    pub(super) filter: Arc<Filter>,
    pub(super) network: OwnedFd,
    pub(super) leaf: Option<Leaf>,
    pub(super) sample_interval_us: u64,
}

impl Sandbox {
    pub(super) fn new(parts: Parts, init: Child, control: OwnedFd) -> Self {
        let Parts { owner, slot, identity, profile, filter, network, leaf, sample_interval_us } = parts;
        Self {
            owner,
            slot,
            identity,
            profile,
            filter,
            network: Some(network),
            leaf,
            init,
            control,
            phase: Phase::Making,
            backlog: VecDeque::new(),
            failed: None,
            timer: Some(Instant::now() + INIT_DEADLINE),
            sample_interval_us,
        }
    }

    pub(super) fn network_policy(&self) -> Network {
        self.profile.network
    }

    pub(super) fn tell_init(&self, command: &Command, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = postcard::to_allocvec(command)
            .map_err(|_| Errno { call: "sendmsg", errno: nix::errno::Errno::EMSGSIZE })?;
        socket::send(self.control.as_fd(), &bytes, descriptors)
    }

    /// Begins the next piece of work, if it is idle and there is one. Returns a program that was
    /// started, for the caller to watch.
    pub(super) fn go_on(&mut self, home: BorrowedFd<'_>) -> std::result::Result<bool, String> {
        if !matches!(self.phase, Phase::Idle) {
            return Ok(false);
        }
        self.timer = None;
        let Some(work) = self.backlog.pop_front() else {
            return Ok(false);
        };
        self.timer = Some(Instant::now() + INIT_DEADLINE);
        let text = |errno: Errno| errno.to_string();
        match work {
            Work::Unpack(archive) => {
                self.tell_init(&Command::Unpack, &[archive.as_fd()]).map_err(text)?;
                self.phase = Phase::Unpacking;
            }
            Work::Collect(wanted, pipe) => {
                self.tell_init(&Command::Collect, &[wanted.as_fd(), pipe.as_fd()]).map_err(text)?;
                self.phase = Phase::Collecting;
            }
            Work::Execute { limits, spec, streams } => {
                let run = self.execute(home, limits, spec, streams)?;
                self.phase = Phase::Running(Box::new(run));
                self.plan_next_look(Instant::now());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn execute(
        &mut self,
        home: BorrowedFd<'_>,
        limits: Limits,
        spec: OwnedFd,
        streams: [OwnedFd; 3],
    ) -> std::result::Result<Run, String> {
        let text = |errno: Errno| errno.to_string();
        let (theirs, ours) = socket::pair().map_err(text)?;
        let watch = self.leaf.is_none().then_some(Watch {
            memory_bytes: limits.memory_bytes,
            cpu_time_ms: limits.cpu_time_ms,
            processes: limits.processes,
        });
        let begin = Command::Begin {
            watch,
            interval_us: self.sample_interval_us,
            kill_on_denial: self.profile.denied_syscall == DeniedSyscall::Kill,
        };
        self.tell_init(&begin, &[theirs.as_fd()]).map_err(text)?;
        if let Some(leaf) = &mut self.leaf {
            leaf.prepare(&limits).map_err(text)?;
        }
        let stage = Stage {
            rlimits: rlimits(&limits, self.leaf.is_some()),
            loopback: self.network_policy() == Network::Loopback,
        };
        let [input, output, error] = &streams;
        let began = Instant::now();
        let started = program::start(&Start {
            init: self.init.pidfd.as_fd(),
            home,
            cgroup: self.leaf.as_ref().map(Leaf::directory),
            spec: spec.as_fd(),
            streams: [input.as_fd(), output.as_fd(), error.as_fd()],
            listener: ours.as_fd(),
            stage: &stage,
            identity: self.identity,
            filter: self.filter.program(),
        })
        .map_err(|error| error.to_string())?;
        Ok(Run {
            child: started.child,
            failure: started.failure,
            limits,
            began,
            killed_for: None,
            exit: None,
            ended: began,
        })
    }

    /// Ends the program that runs.
    pub(super) fn kill(&mut self, cause: Cause) -> Result<()> {
        let Phase::Running(run) = &mut self.phase else {
            return Ok(());
        };
        if run.killed_for.is_none() {
            run.killed_for = Some(cause);
            // The limit that was watched may be met before the end is noticed, and is not the cause then.
            self.timer = Some(Instant::now() + INIT_DEADLINE);
        }
        match &mut self.leaf {
            Some(leaf) => leaf.kill()?,
            None => {
                // The main process first, which init does not see before it has joined the jail.
                match process::signal(run.child.pidfd.as_fd(), Signal::SIGKILL) {
                    Ok(()) | Err(Errno { errno: nix::errno::Errno::ESRCH, .. }) => {}
                    Err(error) => return Err(error),
                }
                return self.tell_init(&Command::Kill, &[]);
            }
        }
        Ok(())
    }

    /// The main process may have ended: takes its status, and has init end the rest.
    pub(super) fn program_ended(&mut self) -> Result<()> {
        if let Phase::Dying(program) = &mut self.phase {
            // Init is not wholly dead before the last process of its namespace is reaped.
            if let Some(child) = program.take()
                && process::reap(child.pid)?.is_none()
            {
                *program = Some(child);
            }
            return Ok(());
        }
        let Phase::Running(run) = &mut self.phase else {
            return Ok(());
        };
        let Some((_, exit)) = process::reap(run.child.pid)? else {
            return Ok(());
        };
        run.ended = Instant::now();
        let mut bytes = Vec::new();
        let failure = run.failure.try_clone().map(std::fs::File::from);
        // The only writer is dead, so this ends; an error leaves the exit status to tell.
        let failed = failure.and_then(|pipe| pipe.take(64).read_to_end(&mut bytes)).is_ok();
        let not_started = failed.then(|| program::read_failure(&bytes)).flatten();
        run.exit = Some((exit, not_started.map(|(step, errno)| Exit::NotStarted(step, errno))));
        let ended_well = run.killed_for.is_none() && exit.status == ExitStatus::Exited(0);
        let inspect_file_size = (!ended_well).then_some(run.limits.file_size_bytes);
        self.tell_init(&Command::Finish { inspect_file_size }, &[])?;
        if let Phase::Running(run) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = Phase::Finishing(run);
        }
        self.timer = Some(Instant::now() + INIT_DEADLINE);
        Ok(())
    }

    /// Everything that the program had started is dead: all that is known of its end.
    pub(super) fn finished(&mut self, finished: Finished) -> Option<Ending> {
        let Phase::Finishing(run) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return None;
        };
        let (exit, not_started) = run.exit?;
        let wall = run.ended.duration_since(run.began);
        let own_cpu_us = micros(exit.cpu_time);
        let mut ending = Ending {
            exit: not_started.unwrap_or(match exit.status {
                ExitStatus::Exited(code) => Exit::Code(code),
                ExitStatus::Signalled(signal) => Exit::Signal(signal),
            }),
            // Init's report of a limit may be overtaken by the end that it brought about.
            killed_for: run.killed_for.or(finished.exceeded),
            out_of_memory: false,
            processes_refused: finished.processes_met || was_full(&run, &finished),
            file_at_limit: finished.file_at_limit,
            disk_full: finished.disk_full,
            denied: name(finished.denials),
            usage: Usage {
                wall_time_us: micros(wall),
                cpu_time_us: (own_cpu_us + finished.orphans_cpu_us).max(finished.sampled_cpu_us),
                memory_peak_bytes: exit
                    .memory_peak_bytes
                    .max(finished.orphans_peak_bytes)
                    .max(finished.sampled_memory_bytes),
                processes_peak: finished.sampled_processes.max(1),
                read_bytes: None,
                written_bytes: None,
            },
        };
        if let Some(leaf) = &mut self.leaf {
            let used = leaf.usage();
            ending.out_of_memory = used.out_of_memory;
            ending.processes_refused = used.processes_refused;
            ending.usage = Usage {
                wall_time_us: micros(wall),
                cpu_time_us: used.cpu_us,
                memory_peak_bytes: used.memory_peak_bytes,
                processes_peak: used.processes_peak,
                read_bytes: Some(used.read_bytes),
                written_bytes: Some(used.written_bytes),
            };
        }
        Some(ending)
    }

    /// Its timer has run out: ends a program that is over its time, or gives init up.
    pub(super) fn timer_ran_out(&mut self, now: Instant) -> std::result::Result<(), String> {
        let Phase::Running(run) = &self.phase else {
            return Err(format!("init did not answer in {} s", INIT_DEADLINE.as_secs()));
        };
        let cause = if run.killed_for.is_some() {
            return Err("the program could not be killed".to_owned());
        } else if now >= run.began + Duration::from_millis(run.limits.wall_time_ms) {
            Cause::WallTime
        } else if self.cpu_left().is_zero() {
            Cause::CpuTime
        } else {
            self.plan_next_look(now);
            return Ok(());
        };
        self.kill(cause).map_err(|errno| errno.to_string())
    }

    fn cpu_left(&self) -> Duration {
        let (Phase::Running(run), Some(leaf)) = (&self.phase, &self.leaf) else {
            return Duration::MAX;
        };
        Duration::from_millis(run.limits.cpu_time_ms).saturating_sub(Duration::from_micros(leaf.cpu_us()))
    }

    /// The next look is due when the time by the clock is up, or when all processors that it may
    /// use could have used up its processor time.
    fn plan_next_look(&mut self, now: Instant) {
        let Phase::Running(run) = &self.phase else {
            return;
        };
        let deadline = run.began + Duration::from_millis(run.limits.wall_time_ms);
        let share = u32::try_from(run.limits.cpu_millis.div_ceil(1000)).unwrap_or(u32::MAX).max(1);
        let left = self.cpu_left();
        self.timer = Some(if left == Duration::MAX {
            deadline
        } else {
            deadline.min(now + (left / share).max(LEAST_CPU_CHECK))
        });
    }

    /// Kills init and so everything.
    pub(super) fn destroy(&mut self) {
        if matches!(self.phase, Phase::Dying(_)) {
            return;
        }
        // The only error is that it is dead already.
        process::signal(self.init.pidfd.as_fd(), Signal::SIGKILL).ok();
        if let Phase::Running(run) | Phase::Finishing(run) = &self.phase {
            process::signal(run.child.pidfd.as_fd(), Signal::SIGKILL).ok();
        }
        // It dies with the pid namespace, but is our child to reap when it does.
        if let Phase::Running(run) = std::mem::replace(&mut self.phase, Phase::Dying(None)) {
            self.phase = Phase::Dying(Some(run.child));
        }
        self.backlog.clear();
        self.timer = None;
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

fn rlimits(limits: &Limits, in_cgroup: bool) -> Rlimits {
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

fn micros(duration: Duration) -> u64 {
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
