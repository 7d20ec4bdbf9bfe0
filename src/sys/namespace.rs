//! Joining and describing namespaces: setns(2), mount_setattr(2), ioctl(2) on network devices.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::sched::CloneFlags;

use super::{Call, Result, check};

/// Moves the calling, single-threaded process into namespaces of another process (by pidfd) or
/// into one namespace (by its own descriptor); setns(2).
///
/// # Errors
/// As setns(2): EPERM without CAP_SYS_ADMIN over the target.
pub fn join(target: BorrowedFd<'_>, which: CloneFlags) -> Result<()> {
    nix::sched::setns(target, which).call("setns")
}

/// Sets mount attributes on a whole tree of mounts; mount_setattr(2) with AT_RECURSIVE.
///
/// # Errors
/// As mount_setattr(2).
pub fn set_mount_attributes(path: &std::ffi::CStr, attributes: u64) -> Result<()> {
    let change = libc::mount_attr { attr_set: attributes, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: the path is NUL-terminated and the structure outlives the call; its size is given.
    let status = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            std::ptr::from_ref(&change),
            std::mem::size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", status).map(drop)
}

/// Brings the loopback device of the caller's network namespace up; netdevice(7), SIOCSIFFLAGS.
///
/// # Errors
/// EPERM without CAP_NET_ADMIN over the namespace.
pub fn bring_loopback_up(socket: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: ifreq is plain bytes and integers, for which all zeros is a valid value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // Signed on x86_64, unsigned on aarch64.
    let letter = |byte: u8| libc::c_char::from_ne_bytes([byte]);
    request.ifr_name[0] = letter(b'l');
    request.ifr_name[1] = letter(b'o');
    request.ifr_ifru.ifru_flags =
        libc::c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).expect("both flags fit 15 bits");
    // SAFETY: SIOCSIFFLAGS reads one ifreq, which lives until the call returns.
    let status = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, std::ptr::from_ref(&request)) };
    check("ioctl", libc::c_long::from(status)).map(drop)
}
