//! Installing a seccomp filter and answering its notifications: seccomp(2), seccomp_unotify(2).

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::{Call, Errno, Result, check};

/// One instruction of a classic BPF program; `struct sock_filter`.
pub type Instruction = libc::sock_filter;

/// Installs a filter that holds no call back; seccomp(2). Irrevocable.
///
/// # Errors
/// EACCES without no_new_privs, EINVAL for an invalid program.
pub fn install_plain(program: &[Instruction]) -> Result<()> {
    set_filter(program, 0).map(drop)
}

/// Installs a filter on the calling thread and returns the descriptor on which its notifications
/// arrive; seccomp(2) with SECCOMP_FILTER_FLAG_NEW_LISTENER. Irrevocable.
///
/// # Errors
/// EACCES without no_new_privs, EINVAL for an invalid program.
pub fn install(program: &[Instruction]) -> Result<OwnedFd> {
    let fd = set_filter(program, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER)?;
    // SAFETY: with NEW_LISTENER a successful call returns a new descriptor that nobody owns yet.
    Ok(unsafe { OwnedFd::from_raw_fd(RawFd::try_from(fd).expect("descriptors fit an int")) })
}

fn set_filter(program: &[Instruction], flags: libc::c_ulong) -> Result<libc::c_long> {
    let length =
        u16::try_from(program.len()).map_err(|_| Errno { call: "seccomp", errno: nix::errno::Errno::EINVAL })?;
    let program = libc::sock_fprog { len: length, filter: program.as_ptr().cast_mut() };
    // SAFETY: the program outlives the call, which copies it and writes nothing back.
    let status =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, std::ptr::from_ref(&program)) };
    check("seccomp", status)
}

/// A system call that the filter has held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Notification {
    /// Names this notification in the answer.
    pub id: u64,
    /// Number of the system call on this architecture.
    pub number: i32,
    /// Its first two arguments, as the registers held them.
    pub arguments: [u64; 2],
}

/// Takes the next held system call; ioctl SECCOMP_IOCTL_NOTIF_RECV. Blocks unless poll(2) has
/// told that one is there.
///
/// # Errors
/// ENOENT where the caller was killed meanwhile.
pub fn next_notification(listener: BorrowedFd<'_>) -> Result<Notification> {
    // SAFETY: seccomp_notif is plain integers; the kernel demands that it be zeroed.
    let mut received: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the request writes one seccomp_notif, to a live value of that type.
    let status =
        unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, std::ptr::from_mut(&mut received)) };
    check("ioctl", libc::c_long::from(status))?;
    Ok(Notification {
        id: received.id,
        number: received.data.nr,
        arguments: [received.data.args[0], received.data.args[1]],
    })
}

/// Makes the held system call fail with `errno`; ioctl SECCOMP_IOCTL_NOTIF_SEND.
///
/// # Errors
/// ENOENT where the caller was killed meanwhile.
pub fn refuse(listener: BorrowedFd<'_>, id: u64, errno: nix::errno::Errno) -> Result<()> {
    let answer = libc::seccomp_notif_resp { id, val: 0, error: -(errno as i32), flags: 0 };
    // SAFETY: the request reads one seccomp_notif_resp, which lives until the call returns.
    let status = unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, std::ptr::from_ref(&answer)) };
    check("ioctl", libc::c_long::from(status)).map(drop)
}

// _IOWR('!', 0, struct seccomp_notif) and _IOWR('!', 1, struct seccomp_notif_resp): linux/seccomp.h
/// Request of ioctl(2) that takes a held call.
pub const SECCOMP_IOCTL_NOTIF_RECV: libc::c_ulong =
    nix::request_code_readwrite!(b'!', 0, std::mem::size_of::<libc::seccomp_notif>());
/// Request of ioctl(2) that answers a held call.
pub const SECCOMP_IOCTL_NOTIF_SEND: libc::c_ulong =
    nix::request_code_readwrite!(b'!', 1, std::mem::size_of::<libc::seccomp_notif_resp>());

/// Demands that no program executed from now on gains privileges; prctl(2), PR_SET_NO_NEW_PRIVS.
///
/// # Errors
/// None on Linux 3.5 and later.
pub fn no_new_privileges() -> Result<()> {
    nix::sys::prctl::set_no_new_privs().call("prctl")
}
