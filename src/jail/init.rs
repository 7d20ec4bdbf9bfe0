//! Process 1 of a sandbox.
//!
//! Init mounts what is the sandbox's own, gives up what it does not need, and then serves the
//! launcher: writes files before programs run and hands files out when they are dead, reaps
//! orphans, refuses held system calls and takes their names down, kills all when told to, and, on
//! hosts without cgroups, adds up what the program uses. It executes nothing and trusts nothing
//! that it finds in the jail. It is root inside and not dumpable, so the program cannot touch it;
//! when it dies, the kernel kills everything in the sandbox.

mod build;
mod collect;
mod members;
mod sample;
mod unpack;
pub(crate) mod workspace;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno as Number;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::CloneFlags;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use serde::{Deserialize, Serialize};

use super::filter::{self, Filter};
use super::{At, StepError, program};
use crate::plan::{ADDITIONS_BYTES, Additions, Cause, Jail, Mark, SPEC_BYTES, Step, Watch};
use crate::sys::process::{self, Child, Side};
use crate::sys::{Call, Errno, fs, seccomp, socket};
use build::Renewal;
use members::Members;

pub use unpack::UnpackError;

/// What the launcher tells init.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The id maps are written. A memory file with [`Additions`] comes along, where there is one, then the stores of a
    /// workspace, where the sandbox has one, and then its trees.
    Mapped {
        /// Whether there are additions.
        additions: bool,
    },
    /// A program was made, and waits for its orders. With it come its pidfd, the pipe for its orders,
    /// the pipe for marks, the socket from which its listener comes, and, for an interpreter that is to
    /// wait for its program, the pipe for its job.
    Program {
        /// Names the program from here on.
        exec: u64,
        /// Whether the first held call ends the program.
        kill_on_denial: bool,
    },
    /// Start the interpreter that is to wait; its spec, written by the launcher, comes along.
    Boot {
        /// Which program.
        exec: u64,
    },
    /// Begin a job: write the files of the second memory file, where one comes along, and give the
    /// program the spec in the first.
    Go {
        /// Which program.
        exec: u64,
        /// What to watch, where no cgroup does.
        watch: Option<Watch>,
        /// How often to look, in microseconds.
        interval_us: u64,
    },
    /// Kill a program and all that it has started.
    Kill {
        /// Which program.
        exec: u64,
    },
    /// Stop every process but init, or let all go on; answered when that is so.
    Freeze(bool),
    /// Count the processes. Answered by [`Report::Census`].
    Census,
    /// Look for files at this size and for a full disk.
    Inspect {
        /// On whose behalf.
        exec: u64,
        /// Largest size of a file, in bytes.
        file_size_bytes: u64,
    },
    /// Make everything anew that programs can have changed, where the sandbox is renewable and all of them are dead.
    /// Answered by [`Report::Renewed`]; init ends where that can't be done.
    Renew,
    /// Write what is wanted (first descriptor, a memory file) to the second descriptor, a pipe.
    Collect,
}

/// What init tells the launcher.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Report {
    /// The jail is complete.
    Ready,
    /// It could not be made: this step failed with this errno.
    Failed(Step, i32),
    /// The files of a job could not be written; the program goes on waiting.
    NotUnpacked(UnpackError),
    /// This program has met a limit that init watches.
    Exceeded(u64, Cause),
    /// This program is dead, and, in the sandbox of a job, so is everything that it had started.
    Finished(u64, Finished),
    /// All is as [`Command::Freeze`] said.
    Froze,
    /// How many processes there are besides init.
    Census(u64),
    /// What [`Command::Inspect`] found.
    Inspected {
        /// On whose behalf.
        exec: u64,
        /// Whether a file has the largest size that is allowed.
        file_at_limit: bool,
        /// Whether the writable file system is full.
        disk_full: bool,
    },
    /// The next program finds the sandbox as the first one did.
    Renewed,
    /// Everything that was wanted is in the pipe.
    Collected,
}

/// What init knows of a stage that is over.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    /// Why init ended it, where init did.
    pub exceeded: Option<Cause>,
    /// Held calls: number, first two arguments, and how often.
    pub denials: Vec<(i32, [u64; 2], u64)>,
    /// Processor time of orphans, in microseconds.
    pub orphans_cpu_us: u64,
    /// Largest resident set of an orphan, in bytes.
    pub orphans_peak_bytes: u64,
    /// Most memory that a sample found, in bytes.
    pub sampled_memory_bytes: u64,
    /// Processor time that samples found, in microseconds.
    pub sampled_cpu_us: u64,
    /// Most processes and threads that a sample found.
    pub sampled_processes: u64,
    /// Whether a sample found more processes than are allowed.
    pub processes_met: bool,
}

/// Refused calls after which a program is ended: to refuse takes time of init, which is not the
/// program's, and no program learns anything from asking so often.
const REFUSALS: u64 = 10_000;
/// Most different refused calls that are kept apart.
const DENIALS: usize = 16;

/// Largest message between launcher and init, in bytes.
pub const MESSAGE_BYTES: usize = 4096;

/// Makes init. The caller is single-threaded, stands in the mount namespace of the template and in
/// the network namespace that the sandbox is to have, writes the maps, and sends
/// [`Command::Mapped`].
///
/// # Errors
/// The process could not be made. Later failures come as [`Report::Failed`].
pub fn start(jail: &Jail, own_filter: &Filter, control: BorrowedFd<'_>) -> Result<Child, StepError> {
    let namespaces = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    match process::clone(namespaces, None).at(Step::CloneInit)? {
        Side::Parent(child) => Ok(child),
        Side::Child => {
            let served = process::close_all_but(&[control])
                .at(Step::CloneInit)
                .and_then(|()| prepare(jail, own_filter, control));
            let (additions, renewal) = match served {
                Ok(prepared) => prepared,
                Err(error) => {
                    // Where this fails too, the launcher sees that init is dead.
                    tell(control, &Report::Failed(error.step, error.errno.errno as i32)).ok();
                    process::leave(1);
                }
            };
            let session = jail.workspace.is_some() || jail.furnished;
            let status = serve(control, session, additions, renewal).map_or(1, |()| 0);
            process::leave(status);
        }
    }
}

fn tell(control: BorrowedFd<'_>, report: &Report) -> Result<(), Errno> {
    let bytes = postcard::to_allocvec(report).map_err(|_| Errno { call: "sendmsg", errno: Number::EMSGSIZE })?;
    socket::send(control, &bytes, &[])
}

/// Takes one command, or `None` where the launcher is gone.
fn hear(control: BorrowedFd<'_>) -> Result<Option<(Command, Vec<OwnedFd>)>, Errno> {
    let mut buffer = [0; MESSAGE_BYTES];
    let message = socket::receive(control, &mut buffer)?;
    if message.length == 0 {
        return Ok(None);
    }
    let command = postcard::from_bytes(buffer.get(..message.length).unwrap_or_default())
        .map_err(|_| Errno { call: "recvmsg", errno: Number::EBADMSG })?;
    Ok(Some((command, message.descriptors)))
}

fn prepare(
    jail: &Jail,
    own_filter: &Filter,
    control: BorrowedFd<'_>,
) -> Result<(Option<Additions>, Option<Renewal>), StepError> {
    let (additions, mut stores) = match hear(control).at(Step::MapIds)? {
        Some((Command::Mapped { additions }, mut all)) if all.len() >= usize::from(additions) + jail.trees.len() => {
            let first = additions.then(|| all.remove(0));
            (first.map(|file| read_additions(file.as_fd())).transpose().at(Step::MapIds)?, all)
        }
        _ => process::leave(0), // the launcher could not write the maps, or is gone
    };
    build::become_root(jail.identity).at(Step::BecomeInit)?;
    sethostname("sandbox").call("sethostname").at(Step::SetHostName)?;
    build::mount_proc().at(Step::MountProc)?;
    let renewal = Renewal::prepare(jail).at(Step::MountProc)?;
    build::mask_proc().at(Step::MaskProc)?;
    if let Some(additions) = &additions {
        build::mount_certificates(&additions.certificates).at(Step::MountScratch)?;
    }
    let trees = stores.split_off(stores.len() - jail.trees.len());
    for (ecosystem, tree) in jail.trees.iter().zip(trees) {
        build::mount_tree(*ecosystem, &tree).at(Step::MountScratch)?;
    }
    match &jail.workspace {
        None if jail.furnished => workspace::mount_terminals().at(Step::MountScratch)?,
        None => build::mount_scratch(jail).at(Step::MountScratch)?,
        Some(overlay) => {
            workspace::mount(&stores, overlay).and_then(|()| workspace::mount_terminals()).at(Step::MountScratch)?
        }
    }
    drop(stores);
    build::confine(renewal.is_some()).at(Step::ConfineInit)?;
    seccomp::install_plain(own_filter.program()).at(Step::ConfineInit)?;
    tell(control, &Report::Ready).at(Step::ConfineInit)?;
    Ok((additions, renewal))
}

fn read_additions(file: BorrowedFd<'_>) -> Result<Additions, Errno> {
    let bytes = fs::read_whole(file, ADDITIONS_BYTES)?;
    postcard::from_bytes(&bytes).map_err(|_| Errno { call: "recvmsg", errno: Number::EBADMSG })
}

/// A program that waits, runs, or has left processes behind.
#[derive(Debug, Default)]
struct Stage {
    exec: u64,
    /// Readable when it has ended.
    main: Option<OwnedFd>,
    /// Where its orders go.
    orders: Option<OwnedFd>,
    /// Where the job of an interpreter that waits goes.
    job: Option<OwnedFd>,
    marks: Option<OwnedFd>,
    /// Where the listener comes from.
    handover: Option<OwnedFd>,
    /// Where held calls are told.
    listener: Option<OwnedFd>,
    kill_on_denial: bool,
    refused: u64,
    members: Members,
    sampler: Option<sample::Sampler>,
    finished: Finished,
    children_before: (Duration, u64),
}

/// Everything that init keeps while it serves.
#[derive(Debug)]
struct Serving<'a> {
    control: BorrowedFd<'a>,
    /// In the sandbox of a session programs come and go; in that of a job all dies with the one.
    session: bool,
    /// What programs get besides what the launcher says of each.
    additions: Option<Additions>,
    renewal: Option<Renewal>,
    stages: Vec<Stage>,
}

/// Serves the launcher until it closes the socket.
fn serve(
    control: BorrowedFd<'_>,
    session: bool,
    additions: Option<Additions>,
    renewal: Option<Renewal>,
) -> Result<(), Errno> {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&children), None).call("sigprocmask")?;
    let orphans = SignalFd::with_flags(&children, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).call("signalfd")?;
    let mut serving = Serving { control, session, additions, renewal, stages: Vec::new() };
    loop {
        let ready = wait(control, &orphans, &serving.stages)?;
        if ready.orphans {
            while let Ok(Some(_)) = orphans.read_signal() {}
            reap();
        }
        for (stage, ready) in serving.stages.iter_mut().zip(&ready.stages) {
            if ready.handover {
                take_listener(stage);
            }
            if ready.listener {
                refuse(control, session, stage)?;
            }
            if let Some(sampler) = &mut stage.sampler
                && let Some(cause) =
                    sampler.sample_if_due(&mut stage.members, &mut stage.finished, stage.children_before.0)
            {
                stage.finished.exceeded.get_or_insert(cause);
                kill_stage(session, stage);
                tell(control, &Report::Exceeded(stage.exec, cause))?;
            }
        }
        // What the launcher says first: a job that it has begun may be over already.
        if ready.control {
            match hear(control)? {
                Some((command, descriptors)) => serving.obey(command, descriptors)?,
                None => return Ok(()),
            }
            continue;
        }
        for index in (0..ready.stages.len()).rev().filter(|index| ready.stages[*index].main) {
            if session {
                leave_behind(control, &mut serving.stages[index])?;
            } else {
                finish(control, serving.stages.swap_remove(index))?;
            }
        }
        // One that is over is kept for as long as what it has left behind may be refused something.
        serving.stages.retain(|stage| stage.main.is_some() || stage.listener.is_some());
    }
}

#[derive(Debug, Default)]
struct Ready {
    control: bool,
    orphans: bool,
    /// Of each stage, in order.
    stages: Vec<StageReady>,
}

#[derive(Debug, Clone, Copy, Default)]
struct StageReady {
    handover: bool,
    listener: bool,
    main: bool,
}

fn wait(control: BorrowedFd<'_>, orphans: &SignalFd, stages: &[Stage]) -> Result<Ready, Errno> {
    let due = stages.iter().filter_map(|stage| stage.sampler.as_ref()).map(sample::Sampler::due).min();
    let timeout = match due {
        Some(due) => {
            // Rounded up: poll(2) counts in milliseconds, and must not spin on the rest of one.
            let left = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
            PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)
        }
        None => PollTimeout::NONE,
    };
    let mut entries = vec![PollFd::new(control, PollFlags::POLLIN), PollFd::new(orphans.as_fd(), PollFlags::POLLIN)];
    for stage in stages {
        let optional = [&stage.handover, &stage.listener, &stage.main];
        entries.extend(optional.into_iter().flatten().map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN)));
    }
    match poll(&mut entries, timeout) {
        Ok(_) | Err(Number::EINTR) => {}
        Err(errno) => {
            return Err(Errno { call: "poll", errno });
        }
    }
    let mut flags = entries.iter().map(|entry| entry.any().unwrap_or(false));
    let mut next = || flags.next().unwrap_or(false);
    let (control, orphans) = (next(), next());
    let stages = stages
        .iter()
        .map(|stage| StageReady {
            handover: stage.handover.is_some() && next(),
            listener: stage.listener.is_some() && next(),
            main: stage.main.is_some() && next(),
        })
        .collect();
    Ok(Ready { control, orphans, stages })
}

impl Serving<'_> {
    fn stage(&mut self, exec: u64) -> Option<&mut Stage> {
        self.stages.iter_mut().find(|stage| stage.exec == exec)
    }

    fn obey(&mut self, command: Command, descriptors: Vec<OwnedFd>) -> Result<(), Errno> {
        let (control, session) = (self.control, self.session);
        let mut descriptors = descriptors.into_iter();
        match command {
            Command::Mapped { .. } => Ok(()),
            Command::Program { exec, kill_on_denial } => {
                let [main, orders, marks, handover, job] = std::array::from_fn(|_| descriptors.next());
                let stage = Stage {
                    exec,
                    members: if session { Members::of(main.as_ref()) } else { Members::Everybody },
                    main,
                    orders,
                    job,
                    marks,
                    handover,
                    kill_on_denial,
                    children_before: process::usage_of_children()?,
                    ..Stage::default()
                };
                // All is mounted: it may go on.
                give(&stage.orders, b"!");
                self.stages.push(stage);
                Ok(())
            }
            Command::Boot { exec } => {
                let spec = descriptors.next().map(|spec| fs::read_whole(spec.as_fd(), SPEC_BYTES)).transpose()?;
                if let Some(stage) = self.stage(exec) {
                    give(&stage.orders.take(), &spec.unwrap_or_default());
                }
                Ok(())
            }
            Command::Go { exec, watch, interval_us } => {
                let (spec, archive) = (descriptors.next(), descriptors.next());
                if let Some(archive) = archive
                    && let Err(error) = unpack::unpack(archive.as_fd())
                {
                    return tell(control, &Report::NotUnpacked(error));
                }
                let mut spec =
                    spec.map(|spec| fs::read_whole(spec.as_fd(), SPEC_BYTES)).transpose()?.unwrap_or_default();
                if let Some(additions) = &self.additions {
                    additions.add_to(&mut spec);
                }
                let Some(stage) = self.stage(exec) else {
                    // It has died meanwhile, which was told.
                    return Ok(());
                };
                stage.sampler = watch.map(|watch| sample::Sampler::new(watch, Duration::from_micros(interval_us)));
                if let Some(marks) = &stage.marks {
                    // Before it is given: without this mark nothing of it has had any effect.
                    program::mark(marks.as_fd(), Mark::Given(process::monotonic_us()));
                }
                give(&stage.job.take().or(stage.orders.take()), &spec);
                Ok(())
            }
            Command::Kill { exec } => {
                if let Some(stage) = self.stage(exec) {
                    count_survivors(stage);
                    kill_stage(session, stage);
                }
                Ok(())
            }
            Command::Freeze(on) => {
                members::freeze(on);
                tell(control, &Report::Froze)
            }
            Command::Census => tell(control, &Report::Census(members::census())),
            Command::Inspect { exec, file_size_bytes } => {
                let disk_full = sample::disk_is_full();
                let file_at_limit = collect::has_file_of(file_size_bytes);
                tell(control, &Report::Inspected { exec, disk_full, file_at_limit })
            }
            Command::Renew => {
                let (Some(renewal), []) = (&mut self.renewal, &*self.stages) else {
                    return Err(Errno { call: "umount2", errno: Number::EBUSY });
                };
                renewal.renew()?;
                tell(control, &Report::Renewed)
            }
            Command::Collect => {
                if let (Some(wanted), Some(pipe)) = (descriptors.next(), descriptors.next()) {
                    collect::collect(wanted.as_fd(), pipe)?;
                }
                tell(control, &Report::Collected)
            }
        }
    }
}

/// Writes all of it, as far as somebody reads: a program that dies meanwhile is seen to be dead.
fn give(pipe: &Option<OwnedFd>, mut bytes: &[u8]) {
    while let Some(pipe) = pipe
        && !bytes.is_empty()
    {
        match nix::unistd::write(pipe, bytes) {
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Number::EINTR) => {}
            Err(_) => return,
        }
    }
}

/// The program of a job has ended: ends what it leaves behind, and says what is known.
fn finish(control: BorrowedFd<'_>, mut over: Stage) -> Result<(), Errno> {
    count_survivors(&mut over);
    wait_until_alone();
    let (cpu, peak) = process::usage_of_children()?;
    let spent = cpu.saturating_sub(over.children_before.0);
    over.finished.orphans_cpu_us = u64::try_from(spent.as_micros()).unwrap_or(u64::MAX);
    over.finished.orphans_peak_bytes = if peak > over.children_before.1 { peak } else { 0 };
    tell(control, &Report::Finished(over.exec, over.finished))
}

/// A program of a session has ended: says what is known. What it leaves behind goes on, and is still
/// refused what it may not do, but is held by the session's limits alone.
fn leave_behind(control: BorrowedFd<'_>, over: &mut Stage) -> Result<(), Errno> {
    count_survivors(over);
    (over.main, over.sampler, over.handover) = (None, None, None);
    tell(control, &Report::Finished(over.exec, std::mem::take(&mut over.finished)))
}

/// Ends a program and all that it has started. Where a cgroup does that, the launcher does.
fn kill_stage(session: bool, stage: &mut Stage) {
    if session { stage.members.kill() } else { kill_all() }
}

fn count_survivors(stage: &mut Stage) {
    if let Some(sampler) = &stage.sampler {
        sampler.count_survivors(&mut stage.members, &mut stage.finished);
    }
}

fn take_listener(stage: &mut Stage) {
    if let Some(handover) = stage.handover.take() {
        let mut buffer = [0; 16];
        // An error or an end of file: the program died before its filter stood, and nothing was held.
        stage.listener = socket::receive(handover.as_fd(), &mut buffer)
            .ok()
            .and_then(|message| message.descriptors.into_iter().next());
    }
}

/// Refuses one held call and takes it down.
fn refuse(control: BorrowedFd<'_>, session: bool, stage: &mut Stage) -> Result<(), Errno> {
    let Some(listener) = &stage.listener else {
        return Ok(());
    };
    let notification = match seccomp::next_notification(listener.as_fd()) {
        Ok(notification) => notification,
        // The caller died while it was held.
        Err(Errno { errno: Number::ENOENT | Number::EINTR | Number::EAGAIN, .. }) if listener_lives(listener) => {
            return Ok(());
        }
        // Every process under the filter is dead.
        Err(_) => {
            stage.listener = None;
            return Ok(());
        }
    };
    let number = notification.number;
    let arguments = filter::relevant_arguments(number, notification.arguments);
    stage.refused += 1;
    let denials = &mut stage.finished.denials;
    if let Some(known) = denials.iter_mut().find(|known| known.0 == number && known.1 == arguments) {
        known.2 += 1;
    } else if denials.len() < DENIALS {
        denials.push((number, arguments, 1));
    }
    if stage.kill_on_denial || stage.refused >= REFUSALS {
        stage.finished.exceeded.get_or_insert(Cause::Denied);
        kill_stage(session, stage);
        return tell(control, &Report::Exceeded(stage.exec, Cause::Denied));
    }
    match seccomp::refuse(listener.as_fd(), notification.id, Number::EPERM) {
        // ENOENT: the caller died while it was held.
        Ok(()) | Err(Errno { errno: Number::ENOENT, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

fn listener_lives(listener: &OwnedFd) -> bool {
    let mut entry = [PollFd::new(listener.as_fd(), PollFlags::empty())];
    poll(&mut entry, PollTimeout::ZERO).is_ok()
        && !entry.iter().any(|entry| entry.revents().is_some_and(|found| found.contains(PollFlags::POLLHUP)))
}

/// Kills every process of the sandbox but init; kill(2) with -1 reaches all at one moment, so that
/// no fork can slip through.
fn kill_all() {
    // The error is that there is none.
    kill(Pid::from_raw(-1), Signal::SIGKILL).ok();
}

/// Reaps orphans; true where init has no child left. Then nobody is left: the main process is the
/// launcher's child and dead, and whatever loses its parent becomes init's child.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) | Err(Number::EINTR) => {}
            Err(Number::ECHILD) => return true,
            _ => return false,
        }
    }
}

/// Kills and reaps until nothing but init is left.
fn wait_until_alone() {
    while !reap() {
        kill_all();
        // What is dying in the kernel: no event tells when a process that is not our child is gone.
        std::thread::sleep(Duration::from_micros(100));
    }
}
