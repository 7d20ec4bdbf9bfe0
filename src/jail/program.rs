//! Makes a program in a jail: from a child of the launcher to the user's first instruction.
//!
//! The steps stand in the order of [`Step::ALL`], each with its reason there. Between the filter
//! and exec the program waits for its arguments: for a moment, or, in a parked sandbox, for as long as
//! nobody has work for it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use caps::{CapSet, CapsHashSet};
use nix::errno::Errno as Number;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::Resource;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Pid, Uid, chdir, execve, setgroups, setresgid, setresuid, setsid};

use super::{At, StepError, capability_error, restrict, worker};
use crate::plan::{Identity, Mark, Orders, PROGRAM_ID, Rlimits, SPEC_BYTES, Size, Spec, Step};
use crate::sys::process::{self, Child, Side, Stream};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{Call, Errno, namespace, socket, terminal};

/// Where an interpreter that was started before its program is known reads what to run.
pub const JOB_DESCRIPTOR: i32 = 3;
/// Where it says that it is ready.
pub const READY_DESCRIPTOR: i32 = 4;

/// What becomes of a program.
#[derive(Debug, Clone, Copy)]
pub enum Role<'a> {
    /// It is executed.
    Program,
    /// It is executed, as an interpreter that waits for its program at [`JOB_DESCRIPTOR`] and says at
    /// [`READY_DESCRIPTOR`] that it is ready.
    Interpreter([BorrowedFd<'a>; 2]),
    /// It is executed on a terminal of the sandbox, which is made for it; the other end of that goes to
    /// this socket.
    Terminal(Size, BorrowedFd<'a>),
    /// It is code of ours, which serves whoever is at the other end of its standard input, a socket.
    Worker,
}

/// What a program is made with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The sandbox's init.
    pub init: BorrowedFd<'a>,
    /// The launcher's own pid namespace, in which its other children are made.
    pub home: BorrowedFd<'a>,
    /// Leaf cgroup, where there is one.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Standard input, output and error.
    pub streams: [BorrowedFd<'a>; 3],
    /// Where init sends a byte when the jail is complete, and then the [`Spec`].
    pub orders: BorrowedFd<'a>,
    /// Where each [`Mark`] goes.
    pub marks: BorrowedFd<'a>,
    /// Where the descriptor goes on which refused calls are told: init's end reads it.
    pub listener: BorrowedFd<'a>,
    /// What becomes of it.
    pub role: Role<'a>,
    /// Where it is executed.
    pub directory: &'a Path,
    /// Whether internet sockets are allowed, on the loopback device.
    pub loopback: bool,
    /// Whether the sandbox has terminals of its own.
    pub terminals: bool,
    /// Where it may write, where that is not the usual places.
    pub writable: Option<&'a [PathBuf]>,
    /// Who it becomes.
    pub identity: Identity,
    /// The system call filter.
    pub filter: &'a [Instruction],
}

/// Makes a program, which waits for its orders. The caller must be single-threaded.
///
/// # Errors
/// The process could not be made. Failures of later steps come as [`Mark::Failed`].
pub fn start(start: &Start<'_>) -> Result<Child, StepError> {
    // The caller's next children are to be made in the jail's pid namespace; it stays where it is.
    namespace::join(start.init, CloneFlags::CLONE_NEWPID).at(Step::CloneProgram)?;
    let side = process::clone(CloneFlags::empty(), start.cgroup);
    if let Ok(Side::Child) = side {
        let Err(error) = become_program(start);
        mark(start.marks, Mark::Failed(error.step, error.errno.errno as i32));
        process::leave(127);
    }
    namespace::join(start.home, CloneFlags::CLONE_NEWPID).at(Step::CloneProgram)?;
    match side.at(Step::CloneProgram)? {
        Side::Parent(child) => Ok(child),
        Side::Child => unreachable!("the child has left above"),
    }
}

/// Leaves a mark for the launcher.
pub(super) fn mark(pipe: BorrowedFd<'_>, mark: Mark) {
    let bytes = postcard::to_allocvec(&mark).unwrap_or_default();
    // Nobody else is left to tell where this fails; the launcher sees how the process ended.
    nix::unistd::write(pipe, &bytes).ok();
}

/// Goes through all steps; returns only where one has failed.
fn become_program(start: &Start<'_>) -> Result<std::convert::Infallible, StepError> {
    close_descriptors(start).at(Step::CloseDescriptors)?;
    let jail = CloneFlags::CLONE_NEWUSER
        | CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    namespace::join(start.init, jail).at(Step::JoinJail)?;
    // After the leaf was entered, so that the leaf is all that the program sees of the tree.
    unshare(CloneFlags::CLONE_NEWCGROUP).call("unshare").at(Step::JoinJail)?;
    setsid().call("setsid").at(Step::NewSession)?;
    process::new_session_keyring().at(Step::NewKeyring)?;
    for capability in caps::all() {
        match caps::drop(None, CapSet::Bounding, capability) {
            Ok(()) => {}
            // A kernel older than this program does not know all of them.
            Err(_) if Number::last() == Number::EINVAL => {}
            Err(error) => return Err(capability_error(error)).at(Step::DropBounding),
        }
    }
    become_user(start.identity).at(Step::BecomeProgram)?;
    for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        caps::set(None, set, &CapsHashSet::new()).map_err(capability_error).at(Step::DropCapabilities)?;
    }
    prctl::set_pdeathsig(Signal::SIGKILL).call("prctl").at(Step::DieWithLauncher)?;
    seccomp::no_new_privileges().at(Step::NoNewPrivileges)?;
    await_mounts(start.orders).at(Step::AwaitMounts)?;
    if let Role::Terminal(size, handover) = start.role {
        take_terminal(size, handover).at(Step::TakeTerminal)?;
    }
    restrict::restrict(start.loopback, start.terminals, start.writable).at(Step::RestrictFiles)?;
    reset_signals().at(Step::FilterSyscalls)?;
    if matches!(start.role, Role::Worker) {
        return work(start);
    }
    let listener = seccomp::install(start.filter).at(Step::FilterSyscalls)?;
    socket::send(start.listener, b"listener", &[listener.as_fd()]).at(Step::FilterSyscalls)?;
    drop(listener);
    let orders = read_orders(start.orders).at(Step::ReadSpec)?;
    // An earlier program may have closed its own directory, and then this one can't be started.
    let directory =
        orders.directory.as_deref().map_or(start.directory, |directory| Path::new(OsStr::from_bytes(directory)));
    chdir(directory).call("chdir").at(Step::Execute)?;
    // Where this is an interpreter that waits, its program is not executed but read.
    let marks = match start.role {
        Role::Interpreter(descriptors) => hand_down(start.marks, descriptors).at(Step::Execute)?,
        _ => start.marks.try_clone_to_owned().call("dup").at(Step::Execute)?,
    };
    mark(marks.as_fd(), Mark::Executing(process::monotonic_us()));
    let program = orders.argv.first().cloned().unwrap_or_default();
    let Err(errno) = execve(&program, &orders.argv, &orders.env).call("execve");
    mark(marks.as_fd(), Mark::Failed(Step::Execute, errno.errno as i32));
    process::leave(127)
}

/// Becomes code of ours. Its filter lets it make no more than the calls that its work takes, so what it needs
/// besides is got before; its orders are no more to it than the name of the work.
fn work(start: &Start<'_>) -> Result<std::convert::Infallible, StepError> {
    let orders = read_orders(start.orders).at(Step::ReadSpec)?;
    let worker = worker::Worker::prepare().at(Step::Execute)?;
    mark(start.marks, Mark::Executing(process::monotonic_us()));
    seccomp::install_plain(start.filter).at(Step::FilterSyscalls)?;
    process::leave(worker.serve(orders.argv.first().map_or(b"", |name| name.to_bytes())))
}

/// Makes a terminal in the sandbox's own instance of devpts(5), becomes the leader of its session and
/// puts it in the place of the three streams.
fn take_terminal(size: Size, handover: BorrowedFd<'_>) -> Result<(), Errno> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let ours = nix::fcntl::open("/dev/pts/ptmx", flags, Mode::empty()).call("open")?;
    let theirs = terminal::peer(ours.as_fd())?;
    terminal::set_window(ours.as_fd(), terminal::Window { rows: size.rows, columns: size.columns })?;
    terminal::make_controlling(theirs.as_fd())?;
    for stream in [Stream::Input, Stream::Output, Stream::Error] {
        process::become_stream(theirs.as_fd(), stream)?;
    }
    socket::send(handover, b"terminal", &[ours.as_fd()])
}

/// Makes the streams 0, 1 and 2 and closes everything else that a step does not need; the rest
/// closes itself at exec.
fn close_descriptors(start: &Start<'_>) -> Result<(), Errno> {
    for (fd, stream) in start.streams.iter().zip([Stream::Input, Stream::Output, Stream::Error]) {
        process::become_stream(*fd, stream)?;
    }
    let mut kept = vec![start.init, start.orders, start.marks, start.listener];
    match start.role {
        Role::Interpreter(descriptors) => kept.extend(descriptors),
        Role::Terminal(_, handover) => kept.push(handover),
        Role::Program | Role::Worker => {}
    }
    process::close_all_but(&kept)
}

/// Gives an interpreter its two descriptors and moves the marks out of their way.
fn hand_down(marks: BorrowedFd<'_>, warm: [BorrowedFd<'_>; 2]) -> Result<OwnedFd, Errno> {
    let above = |fd: BorrowedFd<'_>| {
        let moved = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(READY_DESCRIPTOR + 1)).call("fcntl")?;
        process::inherited(moved)
    };
    let ([job, ready], marks) = (warm, above(marks)?);
    let (job, ready) = (above(job)?, above(ready)?);
    process::hand_down(job.as_fd(), JOB_DESCRIPTOR)?;
    process::hand_down(ready.as_fd(), READY_DESCRIPTOR)?;
    Ok(marks)
}

/// Waits for the byte that says that init has mounted everything.
fn await_mounts(orders: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut byte = [0];
    match nix::unistd::read(orders, &mut byte).call("read")? {
        1 => Ok(()),
        // Init is gone, and so is all of this.
        _ => process::leave(0),
    }
}

fn read_orders(orders: BorrowedFd<'_>) -> Result<Orders, Errno> {
    let mut bytes = Vec::new();
    let orders = File::from(orders.try_clone_to_owned().call("dup")?);
    orders.take(SPEC_BYTES as u64).read_to_end(&mut bytes).call("read")?;
    if bytes.is_empty() {
        // There never was any work, and init is gone.
        process::leave(0);
    }
    Spec::decode(&bytes).ok_or(Errno { call: "execve", errno: Number::EINVAL })
}

/// Sets the limits of a program from outside. `waiting` leaves the hard ones where they are, as far
/// as they do not shape the process's memory when it is executed, so that its job can have more.
///
/// # Errors
/// As prlimit(2).
pub fn limit(pid: Pid, limits: &Rlimits, waiting: bool) -> Result<(), Errno> {
    let set = |resource, value| process::set_limit_of(pid, resource, value, value);
    set(Resource::RLIMIT_CORE, 0)?;
    set(Resource::RLIMIT_STACK, limits.stack_bytes)?;
    set(Resource::RLIMIT_NOFILE, limits.open_files)?;
    if waiting {
        return Ok(());
    }
    // One second between the soft limit, which can be caught, and the hard one, which can't.
    process::set_limit_of(pid, Resource::RLIMIT_CPU, limits.cpu_seconds, limits.cpu_seconds + 1)?;
    set(Resource::RLIMIT_FSIZE, limits.file_size_bytes)?;
    if let Some(bytes) = limits.data_bytes {
        set(Resource::RLIMIT_DATA, bytes)?;
    }
    if let Some(processes) = limits.processes {
        set(Resource::RLIMIT_NPROC, processes)?;
    }
    set(Resource::RLIMIT_NICE, 0)?;
    set(Resource::RLIMIT_RTPRIO, 0)
}

fn become_user(identity: Identity) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(PROGRAM_ID), Gid::from_raw(PROGRAM_ID));
    if matches!(identity, Identity::Own { .. }) {
        setgroups(&[]).call("setgroups")?;
    }
    setresgid(gid, gid, gid).call("setresgid")?;
    setresuid(uid, uid, uid).call("setresuid")
}

fn reset_signals() -> Result<(), Errno> {
    // Handlers reset themselves at exec; what is ignored or blocked would be inherited.
    process::default_actions()?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).call("sigprocmask")
}
