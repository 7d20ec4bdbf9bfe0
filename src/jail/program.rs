//! Starts a program in a jail: from a child of the launcher to the user's first instruction.
//!
//! The steps stand in the order of [`Step::ALL`], each with its reason there.

use std::ffi::CString;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use caps::{CapSet, CapsHashSet};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::{Gid, Uid, chdir, execve, setgroups, setresgid, setresuid, setsid};

use super::{At, StepError, capability_error, restrict};
use crate::plan::{Identity, PROGRAM_ID, Rlimits, Spec, Stage, Step};
use crate::sys::process::{self, Child, Side, Stream};
use crate::sys::seccomp::{self, Instruction};
use crate::sys::{Call, Errno, fs, namespace, socket};

/// Largest [`Spec`] that is read, in bytes.
const SPEC_BYTES: usize = 4 << 20;

/// What a program is started with.
#[derive(Debug)]
pub struct Start<'a> {
    /// The sandbox's init.
    pub init: BorrowedFd<'a>,
    /// The launcher's own pid namespace, in which its other children are made.
    pub home: BorrowedFd<'a>,
    /// Leaf cgroup, where there is one.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Memory file with the [`Spec`].
    pub spec: BorrowedFd<'a>,
    /// Standard input, output and error.
    pub streams: [BorrowedFd<'a>; 3],
    /// Where the descriptor goes on which refused calls are told: init's end reads it.
    pub listener: BorrowedFd<'a>,
    /// What it may use.
    pub stage: &'a Stage,
    /// Who it becomes.
    pub identity: Identity,
    /// The system call filter.
    pub filter: &'a [Instruction],
}

/// A program that was started, or is about to fail to.
#[derive(Debug)]
pub struct Started {
    /// Its process, a child of the launcher.
    pub child: Child,
    /// Readable when the program runs (at end of file) or a step has failed.
    pub failure: OwnedFd,
}

/// Starts a program. The caller must be single-threaded.
///
/// # Errors
/// The process could not be made. Failures of later steps come through [`Started::failure`].
pub fn start(start: &Start<'_>) -> Result<Started, StepError> {
    let (failure, theirs) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).call("pipe2").at(Step::CloneProgram)?;
    // The caller's next children are to be made in the jail's pid namespace; it stays where it is.
    namespace::join(start.init, CloneFlags::CLONE_NEWPID).at(Step::CloneProgram)?;
    let side = process::clone(CloneFlags::empty(), start.cgroup);
    if let Ok(Side::Child) = side {
        let error = become_program(start, theirs.as_fd());
        report(theirs, error);
        process::leave(127);
    }
    namespace::join(start.home, CloneFlags::CLONE_NEWPID).at(Step::CloneProgram)?;
    match side.at(Step::CloneProgram)? {
        Side::Parent(child) => Ok(Started { child, failure }),
        Side::Child => unreachable!("the child has left above"),
    }
}

fn report(pipe: OwnedFd, error: StepError) {
    let bytes = postcard::to_allocvec(&(error.step, error.errno.errno as i32)).unwrap_or_default();
    // Nobody else is left to tell where this fails; the launcher sees the exit status.
    drop(std::fs::File::from(pipe).write_all(&bytes));
}

/// What came through [`Started::failure`]: nothing where the program runs.
#[must_use]
pub fn read_failure(bytes: &[u8]) -> Option<(Step, i32)> {
    postcard::from_bytes(bytes).ok()
}

/// Goes through all steps; returns only where one has failed.
fn become_program(start: &Start<'_>, failure: BorrowedFd<'_>) -> StepError {
    let executed = || -> Result<std::convert::Infallible, StepError> {
        close_descriptors(start, failure).at(Step::CloseDescriptors)?;
        let jail = CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS;
        namespace::join(start.init, jail).at(Step::JoinJail)?;
        // After the leaf was entered, so that the leaf is all that the program sees of the tree.
        unshare(CloneFlags::CLONE_NEWCGROUP).call("unshare").at(Step::JoinJail)?;
        setsid().call("setsid").at(Step::NewSession)?;
        let (argv, env) = read_spec(start.spec).at(Step::ReadSpec)?;
        process::new_session_keyring().at(Step::NewKeyring)?;
        set_limits(&start.stage.rlimits).at(Step::SetLimits)?;
        for capability in caps::all() {
            // A kernel older than this program does not know all of them.
            if caps::has_cap(None, CapSet::Bounding, capability).unwrap_or(false) {
                caps::drop(None, CapSet::Bounding, capability).map_err(capability_error).at(Step::DropBounding)?;
            }
        }
        become_user(start.identity).at(Step::BecomeProgram)?;
        for set in [CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
            caps::set(None, set, &CapsHashSet::new()).map_err(capability_error).at(Step::DropCapabilities)?;
        }
        prctl::set_pdeathsig(Signal::SIGKILL).call("prctl").at(Step::DieWithLauncher)?;
        seccomp::no_new_privileges().at(Step::NoNewPrivileges)?;
        restrict::restrict(start.stage.loopback).at(Step::RestrictFiles)?;
        reset_signals().at(Step::FilterSyscalls)?;
        let listener = seccomp::install(start.filter).at(Step::FilterSyscalls)?;
        socket::send(start.listener, b"listener", &[listener.as_fd()]).at(Step::FilterSyscalls)?;
        drop(listener);
        let program = argv.first().cloned().unwrap_or_default();
        execve(&program, &argv, &env).call("execve").at(Step::Execute)
    };
    match executed() {
        Err(error) => error,
    }
}

/// Makes the streams 0, 1 and 2 and closes everything else that a step does not need; the rest
/// closes itself at exec.
fn close_descriptors(start: &Start<'_>, failure: BorrowedFd<'_>) -> Result<(), Errno> {
    for (fd, stream) in start.streams.iter().zip([Stream::Input, Stream::Output, Stream::Error]) {
        process::become_stream(*fd, stream)?;
    }
    process::close_all_but(&[start.init, start.spec, start.listener, failure])
}

type Strings = Vec<CString>;

fn read_spec(spec: BorrowedFd<'_>) -> Result<(Strings, Strings), Errno> {
    let invalid = Errno { call: "execve", errno: nix::errno::Errno::EINVAL };
    let bytes = fs::read_whole(spec, SPEC_BYTES)?;
    let spec: Spec = postcard::from_bytes(&bytes).map_err(|_| invalid)?;
    let strings = |words: Vec<Vec<u8>>| -> Result<Strings, Errno> {
        words.into_iter().map(|word| CString::new(word).map_err(|_| invalid)).collect()
    };
    let env = spec.env.into_iter().map(|(name, value)| [name, value].join(&b'='));
    chdir("/workspace").call("chdir")?;
    Ok((strings(spec.argv)?, strings(env.collect())?))
}

fn set_limits(limits: &Rlimits) -> Result<(), Errno> {
    set_limit(Resource::RLIMIT_CORE, 0)?;
    // One second between the soft limit, which can be caught, and the hard one, which can't.
    let (_, most) = getrlimit(Resource::RLIMIT_CPU).call("getrlimit")?;
    setrlimit(Resource::RLIMIT_CPU, limits.cpu_seconds.min(most), (limits.cpu_seconds + 1).min(most))
        .call("setrlimit")?;
    set_limit(Resource::RLIMIT_NOFILE, limits.open_files)?;
    set_limit(Resource::RLIMIT_FSIZE, limits.file_size_bytes)?;
    set_limit(Resource::RLIMIT_STACK, limits.stack_bytes)?;
    if let Some(bytes) = limits.data_bytes {
        set_limit(Resource::RLIMIT_DATA, bytes)?;
    }
    if let Some(processes) = limits.processes {
        set_limit(Resource::RLIMIT_NPROC, processes)?;
    }
    set_limit(Resource::RLIMIT_NICE, 0)?;
    set_limit(Resource::RLIMIT_RTPRIO, 0)
}

/// Sets both limits, but never above the hard one that was inherited, which would need privilege.
fn set_limit(resource: Resource, value: u64) -> Result<(), Errno> {
    let (_, most) = getrlimit(resource).call("getrlimit")?;
    let value = value.min(most);
    setrlimit(resource, value, value).call("setrlimit")
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
