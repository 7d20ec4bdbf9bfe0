//! Making, waiting for and signalling processes by descriptor: clone3(2), pidfd_open(2),
//! pidfd_send_signal(2), waitid(2), close_range(2), keyctl(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno as Number;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{Errno, Result, check};

/// A process made by [`clone`], seen from its parent.
#[derive(Debug)]
pub struct Child {
    /// Process id in the parent's pid namespace.
    pub pid: Pid,
    /// Descriptor that names this very process, even after its id is reused; pidfd_open(2).
    pub pidfd: OwnedFd,
}

/// Which side of [`clone`] returned.
#[derive(Debug)]
pub enum Side {
    /// In the parent.
    Parent(Child),
    /// In the new process, which must end by [`leave`] or exec.
    Child,
}

/// Flags of clone3(2) that [`clone`] takes; namespaces only, memory is never shared.
pub type Namespaces = nix::sched::CloneFlags;

/// linux/sched.h; the constant of `libc` has too narrow a type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Duplicates the calling process into new namespaces, and straight into a cgroup where one is
/// given; clone3(2) with CLONE_PIDFD and CLONE_INTO_CGROUP.
///
/// The caller must be single-threaded: the child may then run ordinary code, allocation included.
///
/// # Errors
/// As clone3(2): notably EAGAIN (limit of processes), EPERM and ENOSPC (user namespaces).
pub fn clone(namespaces: Namespaces, cgroup: Option<BorrowedFd<'_>>) -> Result<Side> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is plain integers, for which all zeros is a valid value.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = u64::from(namespaces.bits().cast_unsigned()) | libc::CLONE_PIDFD as u64;
    arguments.pidfd = std::ptr::from_mut(&mut pidfd) as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    // SAFETY: the arguments outlive the call and their size is given. Without CLONE_VM the child
    // has its own copy of all memory, so it may go on as ordinary code on the same stack.
    let status = unsafe {
        libc::syscall(libc::SYS_clone3, std::ptr::from_mut(&mut arguments), std::mem::size_of::<libc::clone_args>())
    };
    let pid = check("clone3", status)?;
    if pid == 0 {
        return Ok(Side::Child);
    }
    // SAFETY: with CLONE_PIDFD a successful call has stored a new descriptor that nobody owns yet.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    let pid = Pid::from_raw(i32::try_from(pid).expect("process ids fit 22 bits"));
    Ok(Side::Parent(Child { pid, pidfd }))
}

/// Ends a process made by [`clone`] at once, without running the parent's exit handlers; _exit(2).
pub fn leave(status: i32) -> ! {
    // SAFETY: _exit takes an integer, touches no memory and does not return.
    unsafe { libc::_exit(status) }
}

/// A descriptor for the process with this id; pidfd_open(2).
///
/// # Errors
/// ESRCH where there is none.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: pidfd_open takes two integers.
    let status = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = check("pidfd_open", status)?;
    // SAFETY: the call succeeded, so this is a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("descriptors fit an int")) })
}

/// Sends a signal to the process behind a descriptor; pidfd_send_signal(2).
///
/// # Errors
/// ESRCH where it is dead and reaped already.
pub fn signal(process: BorrowedFd<'_>, signal: Signal) -> Result<()> {
    let none: *const libc::siginfo_t = std::ptr::null();
    // SAFETY: a null siginfo is allowed and means that of kill(2); the rest are integers.
    let status =
        unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal as libc::c_int, none, 0) };
    check("pidfd_send_signal", status).map(drop)
}

/// How a process ended, and what it and the children that it waited for used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Exit status or signal.
    pub status: ExitStatus,
    /// User and system time.
    pub cpu_time: Duration,
    /// Largest resident set of any single process; getrusage(2).
    pub memory_peak_bytes: u64,
}

/// Exit status of a process, as wait(2) tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It called exit with this status.
    Exited(i32),
    /// A signal with this number ended it.
    Signalled(i32),
}

/// Takes the exit status of one dead child without waiting; wait4(2) with WNOHANG.
///
/// `None` where the child lives.
///
/// # Errors
/// ECHILD where it is no child of the caller.
pub fn reap(pid: Pid) -> Result<Option<(Pid, Exit)>> {
    let mut status: libc::c_int = 0;
    // SAFETY: rusage is plain integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are to live values of the right type, which wait4 fills in.
    let reaped = unsafe {
        libc::wait4(pid.as_raw(), std::ptr::from_mut(&mut status), libc::WNOHANG, std::ptr::from_mut(&mut usage))
    };
    let reaped = check("wait4", libc::c_long::from(reaped))?;
    if reaped == 0 {
        return Ok(None);
    }
    let status = if libc::WIFEXITED(status) {
        ExitStatus::Exited(libc::WEXITSTATUS(status))
    } else {
        ExitStatus::Signalled(libc::WTERMSIG(status))
    };
    let exit = Exit {
        status,
        cpu_time: duration(usage.ru_utime) + duration(usage.ru_stime),
        memory_peak_bytes: usage.ru_maxrss.unsigned_abs() * 1024,
    };
    let pid = Pid::from_raw(i32::try_from(reaped).expect("process ids fit 22 bits"));
    Ok(Some((pid, exit)))
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs())
}

/// Closes every descriptor of the process but 0, 1, 2 and those in `keep`; close_range(2).
///
/// For a child of [`clone`] that will never return to its parent's code: objects of the parent
/// that own the closed descriptors must not be used or dropped in it.
///
/// # Errors
/// ENOSYS before Linux 5.9.
pub fn close_all_but(keep: &[BorrowedFd<'_>]) -> Result<()> {
    let mut kept: Vec<u32> = keep.iter().map(|fd| fd.as_raw_fd().cast_unsigned()).collect();
    kept.extend([0, 1, 2]);
    kept.sort_unstable();
    kept.dedup();
    let mut first = 0;
    for fd in kept {
        if fd > first {
            close_range(first, fd - 1)?;
        }
        first = fd + 1;
    }
    close_range(first, u32::MAX)
}

fn close_range(first: u32, last: u32) -> Result<()> {
    // SAFETY: close_range takes plain integers. The callers are processes that use none of the
    // descriptors in the range again, and never drop their owners.
    let status = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    check("close_range", status).map(drop)
}

/// Gives the process a new, empty session keyring, so that it shares no key with its parent;
/// keyctl(2), KEYCTL_JOIN_SESSION_KEYRING. A kernel without keyrings has nothing to share.
///
/// # Errors
/// EDQUOT where the user's quota of keys is used up.
pub fn new_session_keyring() -> Result<()> {
    const JOIN_SESSION_KEYRING: libc::c_long = 1;
    let none: *const libc::c_char = std::ptr::null();
    // SAFETY: a null name asks for an anonymous keyring; no memory is passed.
    let status = unsafe { libc::syscall(libc::SYS_keyctl, JOIN_SESSION_KEYRING, none) };
    match check("keyctl", status) {
        Ok(_) | Err(Errno { errno: Number::ENOSYS, .. }) => Ok(()),
        Err(error) => Err(error),
    }
}

/// User and system time of all children that the caller has waited for, and the largest resident
/// set among them; getrusage(2) with RUSAGE_CHILDREN.
///
/// # Errors
/// None that a correct call can meet.
pub fn usage_of_children() -> Result<(Duration, u64)> {
    // SAFETY: rusage is plain integers, for which all zeros is a valid value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live value of the right type, which getrusage fills in.
    let status = unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, std::ptr::from_mut(&mut usage)) };
    check("getrusage", libc::c_long::from(status))?;
    Ok((duration(usage.ru_utime) + duration(usage.ru_stime), usage.ru_maxrss.unsigned_abs() * 1024))
}

/// Makes a descriptor of the caller's the standard stream with this number; dup2(2).
///
/// # Errors
/// As dup2(2).
pub fn become_stream(fd: BorrowedFd<'_>, stream: Stream) -> Result<()> {
    // SAFETY: dup2 takes integers. The replaced descriptor is 0, 1 or 2, which no OwnedFd holds.
    let status = unsafe { libc::dup2(fd.as_raw_fd(), stream as libc::c_int) };
    check("dup2", libc::c_long::from(status)).map(drop)
}

/// A standard stream, by its descriptor's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input.
    Input = 0,
    /// Standard output.
    Output = 1,
    /// Standard error.
    Error = 2,
}

/// Gives a descriptor of the caller's a number that the program it is about to execute knows; it
/// stays open then. dup2(2).
///
/// # Errors
/// EINVAL for a standard stream, and as dup2(2).
pub fn hand_down(fd: BorrowedFd<'_>, number: RawFd) -> Result<()> {
    if number <= libc::STDERR_FILENO || number == fd.as_raw_fd() {
        return Err(Errno { call: "dup2", errno: Number::EINVAL });
    }
    // SAFETY: dup2 takes integers. The caller has closed all but its own few descriptors and is about
    // to execute another program, so none that it still uses is replaced.
    let status = unsafe { libc::dup2(fd.as_raw_fd(), number) };
    check("dup2", libc::c_long::from(status)).map(drop)
}

/// A resource limit of another process, soft and hard, never above the hard one that it has; prlimit(2).
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE over its user namespace, ESRCH where it is gone.
pub fn set_limit_of(pid: Pid, resource: nix::sys::resource::Resource, soft: u64, hard: u64) -> Result<()> {
    let none: *const libc::rlimit = std::ptr::null();
    let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a null new limit is allowed and changes nothing; the old one is written to a live value.
    let status = unsafe { libc::prlimit(pid.as_raw(), resource as _, none, std::ptr::from_mut(&mut now)) };
    check("prlimit", libc::c_long::from(status))?;
    let new = libc::rlimit { rlim_cur: soft.min(now.rlim_max), rlim_max: hard.min(now.rlim_max) };
    // SAFETY: the new limit is a live value, and a null old one is allowed.
    let status = unsafe { libc::prlimit(pid.as_raw(), resource as _, std::ptr::from_ref(&new), std::ptr::null_mut()) };
    check("prlimit", libc::c_long::from(status)).map(drop)
}

/// Processor time that another process has used; clock_getcpuclockid(3).
#[must_use]
pub fn cpu_time_of(pid: Pid) -> Duration {
    let clock = nix::time::ClockId::pid_cpu_clock_id(pid);
    clock.and_then(nix::time::ClockId::now).map_or(Duration::ZERO, Duration::from)
}

/// Time of the monotonic clock, which every process of a host shares, in microseconds; clock_gettime(2).
#[must_use]
pub fn monotonic_us() -> u64 {
    let now = nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from);
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

/// Whether the process behind a descriptor has ended; a pidfd is readable then.
///
/// # Errors
/// As poll(2).
pub fn has_ended(process: BorrowedFd<'_>) -> Result<bool> {
    use super::Call;
    let mut entry = [nix::poll::PollFd::new(process.as_fd(), nix::poll::PollFlags::POLLIN)];
    Ok(nix::poll::poll(&mut entry, 0u8).call("poll")? > 0)
}

/// Takes ownership of a descriptor that was inherited under a known number.
///
/// # Errors
/// EBADF where there is none of that number.
pub fn inherited(number: RawFd) -> Result<OwnedFd> {
    // SAFETY: F_GETFD takes no pointer and only asks whether the descriptor exists.
    let status = unsafe { libc::fcntl(number, libc::F_GETFD) };
    check("fcntl", libc::c_long::from(status))?;
    // SAFETY: the descriptor exists, and the contract of whoever passed its number is that nobody
    // else in this process owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Gives every signal its default action back, also those two that the C library keeps to itself
/// and would not let sigaction(3) touch; rt_sigaction(2).
///
/// # Errors
/// None that a correct call can meet.
pub fn default_actions() -> Result<()> {
    const SIGNALS: libc::c_long = 64;
    const MASK_BYTES: libc::c_long = 8;
    // The kernel's own form of a struct sigaction: no handler, no flags, nothing blocked.
    let action = [0u64; 4];
    let nothing: *mut libc::c_void = std::ptr::null_mut();
    for signal in
        (1..=SIGNALS).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].map(libc::c_long::from).contains(signal))
    {
        // SAFETY: the action is as large as the kernel reads, and asks for no result. The default
        // action is no function of ours, so nothing of it can be called wrongly.
        let status = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, action.as_ptr(), nothing, MASK_BYTES) };
        check("rt_sigaction", status)?;
    }
    Ok(())
}

/// Ignores a signal; sigaction(2).
///
/// # Errors
/// EINVAL for SIGKILL and SIGSTOP.
pub fn ignore(signal: Signal) -> Result<()> {
    use super::Call;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, sigaction};
    let action = SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty());
    // SAFETY: ignoring is no function of ours, so nothing of it can be called wrongly.
    unsafe { sigaction(signal, &action) }.call("sigaction").map(drop)
}
