//! One session, as the launcher sees it: a workspace that stays, a jail that comes and goes, and the
//! programs in it.
//!
//! ```text
//!          no jail ◀──────────────────────────────┐
//!             │ a program is wanted               │ init is dead, and with it everything
//!             ▼                                   │
//!  programs come and go ─▶ destroyed: by its end, a snapshot at rest, a roll back
//!             │ ▲
//!  snapshot   ▼ │ copied
//!          stopped for the moment
//! ```
//!
//! The jail is made for the first program and kept for the next, with one that waits already. At rest,
//! when no process lives, a snapshot lets the jail go, so that the next one has the new layers; while
//! processes live they are stopped and what they have changed is copied.

use std::collections::{BTreeMap, VecDeque};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno as Number;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::cgroup::{Group, Leaf};
use super::ids::Slot;
use super::program::{Program, Purpose, Surroundings};
use super::protocol::ExecPurpose;
use super::run::{Run, micros};
use super::serve::Fittings;
use super::workspace::WorkspaceId;
use crate::jail::filter::Filter;
use crate::jail::init::{Command, Finished};
use crate::job::{DeniedFlow, Ending};
use crate::plan::{Cause, Identity};
use crate::profile::{AllowList, DeniedSyscall, Limits, Network, Profile};
use crate::sys::process::{self, Child};
use crate::sys::{Errno, Result, socket};

/// Most programs of one session, running or not forgotten.
pub(super) const EXECS: usize = 1024;

/// A session.
#[derive(Debug)]
pub(super) struct Session {
    /// Ids of its runtimes.
    pub(super) runtimes: Vec<String>,
    pub(super) profile: Arc<Profile>,
    pub(super) filter: Arc<Filter>,
    pub(super) worker_filter: Arc<Filter>,
    pub(super) limits: Limits,
    pub(super) slot: Slot,
    pub(super) identity: Identity,
    /// That of the jail, while there is one.
    pub(super) network: Option<OwnedFd>,
    /// What it can reach.
    pub(super) reach: Network,
    /// Whether it reaches nothing, whatever its profile says.
    pub(super) offline: bool,
    /// Serial number of the jail's uplink, while there is one.
    pub(super) uplink: Option<u64>,
    /// Whether programs wait until the uplink has said that all is as it should be.
    pub(super) gated: bool,
    /// Why the jail has no network though it is to have one.
    pub(super) network_error: Option<String>,
    /// Whether that is because its uplink is gone, so that another jail may have another.
    pub(super) uplink_lost: bool,
    /// Programs that wait for that.
    pub(super) deferred: VecDeque<Deferred>,
    /// Who wants to be told when what it can reach has changed: connection and ticket.
    pub(super) changing: Vec<(u64, u64)>,
    /// Programs that are over, of which is told when the uplink has said what else was refused.
    pub(super) flushing: VecDeque<u64>,
    pub(super) workspace: WorkspaceId,
    /// Where its programs may write, where it works on real directories, which are nobody's to look through.
    pub(super) writable: Option<Arc<[PathBuf]>>,
    /// What was installed for it, and what a jail of it needs for that.
    pub(super) fittings: Fittings,
    pub(super) group: Option<Group>,
    pub(super) jail: Option<Jail>,
    pub(super) execs: BTreeMap<u64, Exec>,
    /// Leaves of programs that are over, which may still have processes in them.
    pub(super) leaves: Vec<Leaf>,
    pub(super) snapshots: Vec<u64>,
    pub(super) paused: bool,
    pub(super) busy: Option<Busy>,
    pub(super) sample_interval_us: u64,
}

/// The processes that a session's programs live among.
#[derive(Debug)]
pub(super) struct Jail {
    /// Serial number, for events and the timer of its making.
    pub(super) serial: u64,
    pub(super) init: Child,
    pub(super) control: OwnedFd,
    /// When init must have answered.
    pub(super) timer: Option<Instant>,
    /// A program that waits, its serial number and its leaf.
    pub(super) staged: Option<(u64, Program, Option<Leaf>)>,
    /// Why it is being ended.
    pub(super) dying: Option<String>,
}

/// A program.
#[derive(Debug)]
pub(super) struct Exec {
    /// Serial number, for events and its timer; init knows it by the same.
    pub(super) serial: u64,
    pub(super) purpose: ExecPurpose,
    pub(super) state: ExecState,
    pub(super) leaf: Option<Leaf>,
    /// Its standard input, until nobody is to write there any more.
    pub(super) input: Option<OwnedFd>,
    /// The other ends of what it prints to; none where a program is over and nothing more comes.
    pub(super) outputs: Vec<OwnedFd>,
    /// Where what it prints is kept.
    pub(super) logs: Vec<OwnedFd>,
    /// Who wants to be told of its start.
    pub(super) asked: Option<(u64, u64)>,
    /// When to look at it again.
    pub(super) timer: Option<Instant>,
}

/// A program that was asked for, and waits for the network.
#[derive(Debug)]
pub(super) struct Deferred {
    /// Who has asked: connection and ticket.
    pub(super) asked: (u64, u64),
    pub(super) exec: u64,
    pub(super) limits: Limits,
    pub(super) purpose: ExecPurpose,
    pub(super) descriptors: Vec<OwnedFd>,
}

/// What a program is doing.
#[derive(Debug)]
pub(super) enum ExecState {
    Running(Box<Run>),
    /// It is over, and init looks at what it left on disk.
    Inspecting(Box<Run>, Finished),
    /// It is over.
    Ended(Box<Ending>),
    /// Its sandbox broke.
    Lost(String),
}

/// What keeps a session from being asked for the next change.
#[derive(Debug)]
pub(super) struct Busy {
    /// Who has asked: connection and ticket.
    pub(super) asked: (u64, u64),
    pub(super) what: What,
}

/// What is being done.
#[derive(Debug)]
pub(super) enum What {
    /// A snapshot; init counts the processes, again until then where a worker may be about to end.
    Counting(u64, Instant),
    /// A snapshot; processes are being stopped.
    Stopping(u64),
    /// A snapshot; what they have changed is being copied. The serial number is of the worker.
    Copying(u64, u64),
    /// It is being paused, or let go on, by init.
    Pausing(bool),
    /// The jail is being ended, and then this is done.
    Ending(Next),
}

/// What is done when a jail is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Snapshot(u64),
    Rollback(u64),
    Close,
}

impl Jail {
    pub(super) fn tell_init(&self, command: &Command, descriptors: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = postcard::to_allocvec(command).map_err(|_| Errno { call: "sendmsg", errno: Number::EMSGSIZE })?;
        socket::send(self.control.as_fd(), &bytes, descriptors)
    }
}

impl Session {
    /// What its jail is made with. Where the profile has an allow-list there is an uplink in any case, so that
    /// what programs can reach may change while they run.
    pub(super) fn network(&self) -> Network {
        match (&self.profile.network, &self.reach) {
            _ if self.offline => Network::None,
            (Network::Allow(_), _) => Network::Allow(Box::new(self.allowed())),
            (_, reach) => reach.clone(),
        }
    }

    /// What programs can reach besides themselves.
    pub(super) fn allowed(&self) -> AllowList {
        match &self.reach {
            Network::Allow(list) => AllowList::clone(list),
            Network::None | Network::Loopback => AllowList::default(),
        }
    }

    /// The network policy refused something to what runs, or ran just now.
    pub(super) fn refused(&mut self, flows: &[DeniedFlow]) {
        for (number, exec) in &mut self.execs {
            let known = match &mut exec.state {
                ExecState::Running(run) | ExecState::Inspecting(run, _) => &mut run.flows,
                ExecState::Ended(ending) if self.flushing.contains(number) => &mut ending.flows,
                ExecState::Ended(_) | ExecState::Lost(_) => continue,
            };
            DeniedFlow::gather(known, flows.iter().cloned());
        }
    }

    /// The jail, where one lives.
    pub(super) fn living(&mut self) -> Option<&mut Jail> {
        self.jail.as_mut().filter(|jail| jail.dying.is_none())
    }

    /// Makes a program in the jail, to wait for its orders.
    pub(super) fn make_program(
        &mut self,
        serial: u64,
        purpose: Purpose<'_>,
        home: BorrowedFd<'_>,
    ) -> std::result::Result<(Program, Option<Leaf>), String> {
        let text = |errno: Errno| errno.to_string();
        let jail = self.jail.as_ref().ok_or("there is no jail")?;
        let mut leaf = self.group.as_mut().map(Group::leaf).transpose().map_err(text)?;
        if let Some(leaf) = &mut leaf {
            leaf.prepare(&self.limits).map_err(text)?;
        }
        let filter = if purpose == Purpose::Worker { &self.worker_filter } else { &self.filter };
        let (program, for_init) = Program::make(&Surroundings {
            init: jail.init.pidfd.as_fd(),
            home,
            cgroup: leaf.as_ref().map(Leaf::directory),
            purpose,
            loopback: self.network().has_sockets(),
            session: true,
            writable: self.writable.as_deref(),
            identity: self.identity,
            filter: filter.program(),
        })?;
        let kill_on_denial = self.profile.denied_syscall == DeniedSyscall::Kill;
        let descriptors: Vec<BorrowedFd<'_>> = for_init.iter().map(AsFd::as_fd).collect();
        if let Err(errno) = jail.tell_init(&Command::Program { exec: serial, kill_on_denial }, &descriptors) {
            program.end_now();
            return Err(text(errno));
        }
        Ok((program, leaf))
    }

    /// The number of the program with this serial number.
    pub(super) fn exec_of(&self, serial: u64) -> Option<u64> {
        self.execs.iter().find(|(_, exec)| exec.serial == serial).map(|(number, _)| *number)
    }

    /// How many programs run.
    pub(super) fn running(&self) -> usize {
        self.execs.values().filter(|exec| matches!(exec.state, ExecState::Running(_))).count()
    }

    /// Whether something runs, and all of it is code of ours.
    pub(super) fn runs_only_workers(&self) -> bool {
        let mut running = self.execs.values().filter(|exec| matches!(exec.state, ExecState::Running(_))).peekable();
        running.peek().is_some() && running.all(|exec| exec.purpose == ExecPurpose::Worker)
    }

    /// Ends a program and all that it has started.
    pub(super) fn kill(&mut self, number: u64, cause: Cause) -> Result<()> {
        let Some(exec) = self.execs.get_mut(&number) else {
            return Ok(());
        };
        if let ExecState::Running(run) = &mut exec.state {
            run.killed_for.get_or_insert(cause);
            match process::signal(run.program.child.pidfd.as_fd(), Signal::SIGKILL) {
                Ok(()) | Err(Errno { errno: Number::ESRCH, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(leaf) = &mut exec.leaf {
            return leaf.kill();
        }
        let serial = exec.serial;
        self.living().map_or(Ok(()), |jail| jail.tell_init(&Command::Kill { exec: serial }, &[]))
    }

    /// Sends a signal to the process group that a program leads.
    pub(super) fn signal(&self, number: u64, signal: i32) -> std::result::Result<(), String> {
        let Some(ExecState::Running(run)) = self.execs.get(&number).map(|exec| &exec.state) else {
            return Err("it does not run".to_owned());
        };
        run.program.signal(signal)
    }

    /// Processor time that was used so far, in microseconds.
    pub(super) fn cpu_us(&self) -> u64 {
        let of_main = |exec: &Exec| match &exec.state {
            ExecState::Running(run) => micros(process::cpu_time_of(run.program.child.pid)),
            _ => 0,
        };
        self.group.as_ref().map_or_else(|| self.execs.values().map(of_main).sum(), Group::cpu_us)
    }

    /// Removes leaves in which nothing lives any more, and lets go of pipes that nothing more comes out of.
    pub(super) fn sweep(&mut self) {
        for exec in self.execs.values_mut().filter(|exec| !exec.outputs.is_empty()) {
            if matches!(exec.state, ExecState::Ended(_) | ExecState::Lost(_))
                && matches!(exec.purpose, ExecPurpose::Program { .. })
                && exec.outputs.iter().all(is_drained)
            {
                exec.outputs.clear();
            }
        }
        let (empty, kept) = std::mem::take(&mut self.leaves).into_iter().partition(|leaf| !leaf.is_populated());
        self.leaves = kept;
        let empty: Vec<Leaf> = empty;
        empty.into_iter().for_each(Leaf::remove);
    }
}

/// Whether a pipe is empty and nobody has its other end: whatever came out of it is in its log.
fn is_drained(pipe: &OwnedFd) -> bool {
    let mut asked = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    let told = poll(&mut asked, PollTimeout::ZERO).is_ok();
    told && asked.iter().all(|one| one.revents() == Some(PollFlags::POLLHUP))
}

impl Exec {
    /// The program's end is known to both: its ending, or whether init has to look once more.
    pub(super) fn conclude(&mut self, jail: Option<&Jail>) -> std::result::Result<bool, String> {
        let ExecState::Running(run) = &mut self.state else {
            return Ok(false);
        };
        if run.exit.is_none() || run.finished.is_none() {
            return Ok(false);
        }
        let finished = run.finished.take().unwrap_or_default();
        self.timer = None;
        let jail = jail.filter(|_| !run.ended_well(&finished) && self.purpose != ExecPurpose::Worker);
        if let Some(jail) = jail {
            let command = Command::Inspect { exec: self.serial, file_size_bytes: run.limits.file_size_bytes };
            jail.tell_init(&command, &[]).map_err(|errno| errno.to_string())?;
            let state = std::mem::replace(&mut self.state, ExecState::Lost(String::new()));
            let ExecState::Running(run) = state else { unreachable!("it was looked at above") };
            self.state = ExecState::Inspecting(run, finished);
            return Ok(false);
        }
        self.state = ExecState::Ended(Box::new(run.ending(self.leaf.as_mut(), finished, false, false)));
        Ok(true)
    }

    /// Init has looked.
    pub(super) fn inspected(&mut self, file_at_limit: bool, disk_full: bool) -> bool {
        let ExecState::Inspecting(run, finished) = &mut self.state else {
            return false;
        };
        let finished = std::mem::take(finished);
        self.state = ExecState::Ended(Box::new(run.ending(self.leaf.as_mut(), finished, file_at_limit, disk_full)));
        true
    }

    /// When to look at it again.
    pub(super) fn plan_next_look(&mut self, now: Instant) {
        if let ExecState::Running(run) = &mut self.state {
            self.timer = Some(run.next_look(now, self.leaf.as_ref()));
        }
    }
}
