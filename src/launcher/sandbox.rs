//! One sandbox, as the launcher sees it: what it is doing, and what is still asked of it.
//!
//! ```text
//! Making ─▶ Idle ─▶ Running ─▶ Inspecting ─▶ Idle
//!             │        └────────────────────▶ Idle    the program is dead, and so is all else
//!             ├──▶ Collecting ─▶ Idle
//!             ├──▶ Renewing ─▶ Idle       nothing is left of the program before
//!             └──▶ Dying: init is killed, and everything with it
//! ```
//!
//! A job need not wait for the end of `Making`: init does what it is told when it is ready. A
//! sandbox without an owner is parked, and its program waits for its orders.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::cgroup::{Leaf, Tree};
use super::ids::Slot;
use super::pool::Key;
use super::program::{Marks, Program, Purpose, Surroundings};
use super::run::{Run, rlimits};
use super::workspace::Tree as Packages;
use crate::jail::filter::Filter;
use crate::jail::init::{Command, Finished};
use crate::jail::program;
use crate::job::{DeniedFlow, Ending, Path};
use crate::plan::{Cause, Identity, Mark};
use crate::profile::{DeniedSyscall, Limits, Network, Profile};
use crate::sys::process::{self, Child};
use crate::sys::{Errno, Result, socket};

/// The number of a job's program: it is the only one in its sandbox at its time.
const ONLY: u64 = 0;
/// Most work that waits for a sandbox.
pub(super) const BACKLOG: usize = 8;
/// Longest that init may take for anything that it does not do for the program.
pub(super) const INIT_DEADLINE: Duration = Duration::from_secs(15);

/// Work that is asked of a sandbox.
#[derive(Debug)]
pub(super) enum Work {
    /// Run a program, with these files first where there are any.
    Execute { limits: Limits, spec: OwnedFd, archive: Option<OwnedFd> },
    /// Hand files out.
    Collect(OwnedFd, OwnedFd),
    /// Make everything anew that a program can have changed.
    Renew,
}

#[derive(Debug)]
pub(super) enum Phase {
    Making,
    Idle,
    Running(Box<Run>),
    /// It is over, and init looks at what it left on disk.
    Inspecting(Box<Run>, Finished),
    Collecting,
    Renewing,
    /// Init is killed; a program that is still to be reaped goes with it, and what it left word of.
    Dying(Option<Child>, Option<Marks>),
}

/// What came of something that was done to a sandbox, for the server to tell and to watch.
#[derive(Debug, Default)]
pub(super) struct News {
    /// A program was given its job; the other ends of its streams.
    pub(super) started: Option<Vec<OwnedFd>>,
    /// A program is over.
    pub(super) ended: Option<Ending>,
}

#[derive(Debug)]
pub(super) struct Sandbox {
    /// Connection and lease by which it is known; a parked one is nobody's.
    pub(super) owner: Option<(u64, u64)>,
    /// How its owner came by it.
    pub(super) path: Path,
    /// What it was made for.
    pub(super) key: Key,
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    pub(super) profile: Arc<Profile>,
    pub(super) filter: Arc<Filter>,
    pub(super) network: Option<OwnedFd>,
    /// What it can reach.
    pub(super) reach: Network,
    /// Serial number of its uplink, while it has one.
    pub(super) uplink: Option<u64>,
    /// Whether its next program waits until its uplink has said that all is as it should be.
    pub(super) gated: bool,
    /// Why it has no network though it is to have one.
    pub(super) network_error: Option<String>,
    /// The end of a program, which is told when its uplink has said what else was refused.
    pub(super) held: Option<Ending>,
    pub(super) leaf: Option<Leaf>,
    pub(super) init: Child,
    pub(super) control: OwnedFd,
    /// The program that waits for its orders.
    pub(super) program: Option<Program>,
    pub(super) phase: Phase,
    pub(super) backlog: VecDeque<Work>,
    /// Told to its owner when it is gone; `None` where the owner asked for its end.
    pub(super) failed: Option<String>,
    /// Whether a program has run in it since it was new.
    used: bool,
    /// When to look at it again, whatever happens.
    pub(super) timer: Option<Instant>,
    /// When it was asked to be made.
    pub(super) made: Instant,
    /// What it sees of packages: they are not let go while it lives.
    _trees: Vec<Arc<Packages>>,
    sample_interval_us: u64,
}

/// What a sandbox is made of, besides its processes.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) owner: Option<(u64, u64)>,
    pub(super) key: Key,
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    pub(super) profile: Arc<Profile>,
    pub(super) filter: Arc<Filter>,
    pub(super) network: OwnedFd,
    pub(super) reach: Network,
    pub(super) trees: Vec<Arc<Packages>>,
    pub(super) sample_interval_us: u64,
}

impl Sandbox {
    pub(super) fn new(parts: Parts, init: Child, control: OwnedFd) -> Self {
        let Parts { owner, key, slot, identity, profile, filter, network, reach, trees, sample_interval_us } = parts;
        let made = Instant::now();
        Self {
            owner,
            path: Path::Cold,
            key,
            slot,
            identity,
            profile,
            filter,
            network: Some(network),
            reach,
            uplink: None,
            gated: false,
            network_error: None,
            held: None,
            leaf: None,
            init,
            control,
            program: None,
            phase: Phase::Making,
            backlog: VecDeque::new(),
            failed: None,
            used: false,
            timer: Some(made + INIT_DEADLINE),
            made,
            _trees: trees,
            sample_interval_us,
        }
    }

    pub(super) fn tell_init(&self, command: &Command, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = postcard::to_allocvec(command)
            .map_err(|_| Errno { call: "sendmsg", errno: nix::errno::Errno::EMSGSIZE })?;
        socket::send(self.control.as_fd(), &bytes, descriptors)
    }

    /// Whether its program is an interpreter that has started and waits.
    pub(super) fn is_warm(&self) -> bool {
        self.program.as_ref().is_some_and(Program::is_warm)
    }

    /// The program that runs.
    pub(super) fn running(&self) -> Option<&Program> {
        match &self.phase {
            Phase::Running(run) => Some(&run.program),
            _ => None,
        }
    }

    /// Process id of the program that waits or runs.
    pub(super) fn program_pid(&self) -> Option<Pid> {
        self.program.as_ref().or(self.running()).map(|program| program.child.pid)
    }

    /// Makes the program that is to run next, which waits for its orders. Limits that the program may
    /// be held to while it waits are those of the profile.
    pub(super) fn stage(
        &mut self,
        home: BorrowedFd<'_>,
        tree: Option<&mut Tree>,
        warm: Option<&std::path::Path>,
    ) -> std::result::Result<(), String> {
        let text = |errno: Errno| errno.to_string();
        if let Some(tree) = tree
            && (self.leaf.is_none() || self.used)
        {
            // Peaks and page cache of the program before are not the next one's. What it left on disk is
            // bounded by the disk, and counts for the launcher's group from now on.
            if let Some(leaf) = self.leaf.take() {
                leaf.remove();
            }
            let mut leaf = tree.take().map_err(text)?;
            leaf.prepare(&self.profile.run).map_err(text)?;
            self.leaf = Some(leaf);
        }
        let made = Program::make(&Surroundings {
            init: self.init.pidfd.as_fd(),
            home,
            cgroup: self.leaf.as_ref().map(Leaf::directory),
            purpose: warm.map_or(Purpose::Program, Purpose::Interpreter),
            session: false,
            writable: None,
            loopback: self.reach.has_sockets(),
            identity: self.identity,
            filter: self.filter.program(),
        })?;
        let kill_on_denial = self.profile.denied_syscall == DeniedSyscall::Kill;
        let (program, for_init) = made;
        let descriptors: Vec<BorrowedFd<'_>> = for_init.iter().map(AsFd::as_fd).collect();
        let told = self.tell_init(&Command::Program { exec: ONLY, kill_on_denial }, &descriptors);
        self.program = Some(program);
        told.map_err(text)
    }

    /// Has the interpreter that was staged start, to wait for its program.
    pub(super) fn boot(&mut self, spec: BorrowedFd<'_>) -> std::result::Result<(), String> {
        let Some(program) = &self.program else {
            return Err("there is no program to start".to_owned());
        };
        program::limit(program.child.pid, &rlimits(&self.profile.run, self.leaf.is_some()), true)
            .and_then(|()| self.tell_init(&Command::Boot { exec: ONLY }, &[spec]))
            .map_err(|errno| errno.to_string())
    }

    /// Begins the next piece of work, if it can and there is one.
    pub(super) fn go_on(
        &mut self,
        home: BorrowedFd<'_>,
        tree: Option<&mut Tree>,
        news: &mut News,
    ) -> std::result::Result<(), String> {
        // An interpreter that still starts must not find what the job brings along.
        let is_starting = self.program.as_ref().is_some_and(|program| program.ready.is_some());
        if !matches!(self.phase, Phase::Idle | Phase::Making) || self.owner.is_none() || is_starting {
            return Ok(());
        }
        if matches!(self.phase, Phase::Idle) {
            self.timer = None;
        }
        if self.gated || self.held.is_some() {
            return Ok(());
        }
        match self.backlog.pop_front() {
            None => {}
            Some(Work::Collect(wanted, pipe)) => {
                self.tell_init(&Command::Collect, &[wanted.as_fd(), pipe.as_fd()])
                    .map_err(|errno| errno.to_string())?;
                self.phase = Phase::Collecting;
                self.timer = Some(Instant::now() + INIT_DEADLINE);
            }
            Some(Work::Renew) => {
                self.tell_init(&Command::Renew, &[]).map_err(|errno| errno.to_string())?;
                self.phase = Phase::Renewing;
                self.timer = Some(Instant::now() + INIT_DEADLINE);
            }
            Some(Work::Execute { limits, spec, archive }) => {
                if self.program.is_none() {
                    self.stage(home, tree, None)?;
                }
                news.started = Some(self.execute(limits, &spec, archive.as_ref())?);
                self.plan_next_look(Instant::now());
            }
        }
        Ok(())
    }

    fn execute(
        &mut self,
        limits: Limits,
        spec: &OwnedFd,
        archive: Option<&OwnedFd>,
    ) -> std::result::Result<Vec<OwnedFd>, String> {
        let text = |errno: Errno| errno.to_string();
        let mut program = self.program.take().ok_or("there is no program to run")?;
        let streams = program.streams.take().ok_or("its streams are gone")?;
        let run = Run::new(program, limits);
        let watch = run.watch(self.leaf.as_ref());
        // From here on the run knows the program, so that whatever fails ends it as well.
        let held = run.hold(self.leaf.as_mut(), 0);
        self.phase = Phase::Running(Box::new(run));
        held.map_err(text)?;
        let command = Command::Go { exec: ONLY, watch, interval_us: self.sample_interval_us };
        let descriptors: Vec<BorrowedFd<'_>> = [Some(spec), archive].into_iter().flatten().map(AsFd::as_fd).collect();
        self.tell_init(&command, &descriptors).map_err(text)?;
        Ok(streams)
    }

    /// The network policy refused something to what runs, or ran just now.
    pub(super) fn refused(&mut self, flows: Vec<DeniedFlow>) {
        match (&mut self.phase, &mut self.held) {
            (_, Some(ending)) => DeniedFlow::gather(&mut ending.flows, flows),
            (Phase::Running(run) | Phase::Inspecting(run, _), None) => DeniedFlow::gather(&mut run.flows, flows),
            _ => {}
        }
    }

    /// Sends a signal to the process group of the program that runs; one that has ended gets none.
    pub(super) fn signal(&self, number: i32) {
        if let Phase::Running(run) = &self.phase {
            run.program.signal(number).ok();
        }
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
                match process::signal(run.program.child.pidfd.as_fd(), Signal::SIGKILL) {
                    Ok(()) | Err(Errno { errno: nix::errno::Errno::ESRCH, .. }) => {}
                    Err(error) => return Err(error),
                }
                return self.tell_init(&Command::Kill { exec: ONLY }, &[]);
            }
        }
        Ok(())
    }

    /// The main process may have ended: takes its status. Init sees the same, and ends the rest.
    pub(super) fn program_ended(&mut self, news: &mut News) -> std::result::Result<(), String> {
        let text = |errno: Errno| errno.to_string();
        match &mut self.phase {
            Phase::Dying(program, _) => {
                // Init is not wholly dead before the last process of its namespace is reaped.
                if let Some(child) = program.take()
                    && process::reap(child.pid).map_err(text)?.is_none()
                {
                    *program = Some(child);
                }
                Ok(())
            }
            Phase::Running(run) => {
                if run.reap().map_err(text)? {
                    self.timer = Some(Instant::now() + INIT_DEADLINE);
                    self.conclude(news)?;
                }
                Ok(())
            }
            // It died while it waited for a job. Of its end nobody hears twice, and init can't end before it
            // is reaped.
            _ => {
                if let Some(program) = self.program.take()
                    && process::reap(program.child.pid).map_err(text)?.is_none()
                {
                    self.program = Some(program);
                }
                Err("the program that waited has died".to_owned())
            }
        }
    }

    /// Everything that the program had started is dead.
    pub(super) fn finished(&mut self, finished: Finished, news: &mut News) -> std::result::Result<(), String> {
        let Phase::Running(run) = &mut self.phase else {
            return Err("the program that waited has died".to_owned());
        };
        run.finished = Some(finished);
        self.conclude(news)
    }

    /// Both know that it is over: tells what became of it, or has init look once more.
    fn conclude(&mut self, news: &mut News) -> std::result::Result<(), String> {
        let (mut run, finished) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running(mut run) if run.exit.is_some() && run.finished.is_some() => {
                let finished = run.finished.take().unwrap_or_default();
                (run, finished)
            }
            other => {
                self.phase = other;
                return Ok(());
            }
        };
        if run.is_lost(self.leaf.as_mut(), &finished) {
            return Err("the program was killed before it began".to_owned());
        }
        self.used = true;
        if run.ended_well(&finished) {
            news.ended = Some(run.ending(self.leaf.as_mut(), finished, false, false));
            self.timer = None;
            return Ok(());
        }
        self.timer = Some(Instant::now() + INIT_DEADLINE);
        let file_size_bytes = run.limits.file_size_bytes;
        self.phase = Phase::Inspecting(run, finished);
        self.tell_init(&Command::Inspect { exec: ONLY, file_size_bytes }, &[]).map_err(|errno| errno.to_string())
    }

    /// Init has looked at what a program that ended badly left on disk.
    pub(super) fn inspected(&mut self, file_at_limit: bool, disk_full: bool, news: &mut News) {
        match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Inspecting(mut run, finished) => {
                news.ended = Some(run.ending(self.leaf.as_mut(), finished, file_at_limit, disk_full));
                self.timer = None;
            }
            other => self.phase = other,
        }
    }

    /// Nothing is left of what has run: makes the next program, which waits for its orders.
    pub(super) fn renewed(
        &mut self,
        home: BorrowedFd<'_>,
        mut tree: Option<&mut Tree>,
    ) -> std::result::Result<(), String> {
        if !matches!(self.phase, Phase::Renewing) {
            return Err("init has renewed what nobody asked it to".to_owned());
        }
        (self.phase, self.timer, self.used) = (Phase::Idle, None, false);
        if let (Some(leaf), Some(tree)) = (self.leaf.take(), tree.as_deref_mut()) {
            tree.give_back(leaf);
        }
        self.stage(home, tree, None)
    }

    /// Its timer has run out: ends a program that is over its time, or gives init up.
    pub(super) fn timer_ran_out(&mut self, now: Instant) -> std::result::Result<(), String> {
        let Phase::Running(run) = &mut self.phase else {
            return Err(format!("init did not answer in {} s", INIT_DEADLINE.as_secs()));
        };
        if run.killed_for.is_some() || run.exit.is_some() {
            return Err("the program could not be killed".to_owned());
        }
        let Some(cause) = run.time_met(self.leaf.as_ref()) else {
            self.plan_next_look(now);
            return Ok(());
        };
        self.kill(cause).map_err(|errno| errno.to_string())
    }

    fn plan_next_look(&mut self, now: Instant) {
        if let Phase::Running(run) = &mut self.phase {
            self.timer = Some(run.next_look(now, self.leaf.as_ref()));
        }
    }

    /// Whether anything that its owner asked for may have had an effect. Not known for sure before
    /// everything in it is dead.
    pub(super) fn had_begun(&self) -> bool {
        let given = |marks: &Marks| marks.read().iter().any(|mark| matches!(mark, Mark::Given(_)));
        self.used || matches!(&self.phase, Phase::Dying(_, Some(marks)) if given(marks))
    }

    /// Kills init and so everything.
    pub(super) fn destroy(&mut self) {
        if matches!(self.phase, Phase::Dying(..)) {
            return;
        }
        // The only error is that it is dead already.
        process::signal(self.init.pidfd.as_fd(), Signal::SIGKILL).ok();
        let (program, is_reaped) = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Running(run) => {
                self.used |= run.was_given();
                (Some(run.program), run.exit.is_some())
            }
            _ => (self.program.take(), false),
        };
        let (child, marks) = program.map(|program| (program.child, program.marks)).unzip();
        let child = child.filter(|_| !is_reaped);
        if let Some(child) = &child {
            process::signal(child.pidfd.as_fd(), Signal::SIGKILL).ok();
        }
        // It dies with the pid namespace, but is our child to reap when it does.
        self.phase = Phase::Dying(child, marks);
        self.backlog.clear();
        self.timer = None;
    }
}
