//! Names of calls and of what in their arguments was refused, and values of the names that filters
//! use.

use std::str::FromStr;

use syscalls::Sysno;

use super::FilterError;
use crate::sys::seccomp::{SECCOMP_IOCTL_NOTIF_RECV, SECCOMP_IOCTL_NOTIF_SEND};

/// The call with this name; `None` where this architecture lacks it.
pub(super) fn call_named<Call: FromStr>(name: &str) -> Option<Call> {
    // The kernel's table of aarch64 says newfstatat, as that of x86_64 does; the crate says fstatat.
    match name.parse() {
        Ok(call) => Some(call),
        Err(_) if name == "newfstatat" => "fstatat".parse().ok(),
        Err(_) => None,
    }
}

/// The name of a held call, and of what in its argument was refused.
#[must_use]
pub fn describe(number: i32, arguments: [u64; 2]) -> (String, Option<String>) {
    let name = usize::try_from(number)
        .ok()
        .and_then(Sysno::new)
        .map_or_else(|| format!("syscall_{number}"), |call| call.name().to_owned());
    let [first, second] = arguments.map(low_bits);
    let argument = match name.as_str() {
        "socket" | "socketpair" => Some(name_of("AF_", first)),
        "fcntl" => Some(name_of("F_", second)),
        "ioctl" => Some(name_of("TIOC", second)),
        "prctl" => Some(name_of("PR_", first)),
        "clone" => {
            let flags: Vec<&str> = CONSTANTS
                .iter()
                .filter(|(name, bit)| name.starts_with("CLONE_") && first & bit != 0)
                .map(|(name, _)| *name)
                .collect();
            Some(flags.join("|"))
        }
        "personality" => Some(format!("{first:#x}")),
        _ => None,
    };
    (name, argument)
}

/// Which arguments of a call tell one refusal from another; the rest are counted together.
#[must_use]
pub fn relevant_arguments(number: i32, arguments: [u64; 2]) -> [u64; 2] {
    match describe(number, arguments).1 {
        Some(_) => arguments.map(|value| u64::from(low_bits(value))),
        None => [0, 0],
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the kernel looks at the low half only, and so do we")]
pub(super) fn low_bits(value: u64) -> u32 {
    value as u32
}

fn name_of(prefix: &str, value: u32) -> String {
    CONSTANTS
        .iter()
        .find(|(name, known)| name.starts_with(prefix) && *known == value)
        .map_or_else(|| format!("{value:#x}"), |(name, _)| (*name).to_owned())
}

pub(super) fn value_of(name: &str) -> Result<u32, FilterError> {
    CONSTANTS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, value)| *value)
        .ok_or_else(|| FilterError::UnknownName(name.to_owned()))
}

/// Several of them together, with a bar between: `SOCK_STREAM|SOCK_CLOEXEC`.
pub(super) fn values_of(names: &str) -> Result<u32, FilterError> {
    names.split('|').try_fold(0, |all, name| Ok(all | value_of(name)?))
}

macro_rules! constants {
    ($($name:ident)+) => { &[$((stringify!($name), libc::$name.cast_unsigned()),)+] };
}

/// Values of the names that filters use: `(name, value)`.
static CONSTANTS: std::sync::LazyLock<Vec<(&'static str, u32)>> = std::sync::LazyLock::new(|| {
    let named: &[(&str, u32)] = constants! {
        ENOSYS EPERM EINVAL EAFNOSUPPORT EACCES
        CLONE_NEWNS CLONE_NEWCGROUP CLONE_NEWUTS CLONE_NEWIPC CLONE_NEWUSER CLONE_NEWPID CLONE_NEWNET CLONE_PARENT
        AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET AF_ALG AF_VSOCK AF_BLUETOOTH AF_KEY AF_XDP AF_CAN AF_TIPC
        PR_SET_PDEATHSIG PR_GET_PDEATHSIG PR_GET_DUMPABLE PR_SET_DUMPABLE PR_SET_NAME PR_GET_NAME PR_GET_SECCOMP
        PR_SET_SECCOMP PR_CAPBSET_READ PR_CAPBSET_DROP PR_GET_TIMERSLACK PR_SET_TIMERSLACK PR_SET_CHILD_SUBREAPER
        PR_GET_CHILD_SUBREAPER PR_GET_NO_NEW_PRIVS PR_SET_NO_NEW_PRIVS PR_GET_TID_ADDRESS PR_SET_THP_DISABLE
        PR_GET_THP_DISABLE PR_SET_VMA PR_GET_KEEPCAPS PR_SET_KEEPCAPS
        PR_GET_SECUREBITS PR_SET_SECUREBITS PR_SET_MM PR_SET_PTRACER PR_MCE_KILL PR_CAP_AMBIENT
        PR_SET_FP_MODE F_NOTIFY F_SETPIPE_SZ F_GETFD F_GETFL F_SETFL
        SOCK_STREAM SOCK_SEQPACKET SOCK_CLOEXEC SOCK_NONBLOCK
    };
    let mut all = named.to_vec();
    all.extend([
        ("SECCOMP_IOCTL_NOTIF_RECV", low_bits(SECCOMP_IOCTL_NOTIF_RECV)),
        ("SECCOMP_IOCTL_NOTIF_SEND", low_bits(SECCOMP_IOCTL_NOTIF_SEND)),
        ("S_ISUID", libc::S_ISUID),
        ("S_ISGID", libc::S_ISGID),
        ("PR_GET_AUXV", 0x4155_5856),    // linux/prctl.h; libc has no name for it
        ("PR_GET_SPECULATION_CTRL", 52), // libc has these two on x86_64 alone
        ("PR_SET_SPECULATION_CTRL", 53),
        ("PR_SVE_SET_VL", 50),
        ("PR_SVE_GET_VL", 51),
        ("PER_LINUX", 0),
        ("PER_LINUX_QUERY", 0xffff_ffff), // personality(2): asks and changes nothing
    ]);
    for (name, value) in [
        ("TIOCSTI", libc::TIOCSTI),
        ("TIOCLINUX", libc::TIOCLINUX),
        ("TIOCSETD", 0x5423), // asm-generic/ioctls.h; libc has no name for it
        ("TIOCCONS", libc::TIOCCONS),
    ] {
        all.push((name, u32::try_from(value).expect("requests fit 32 bits")));
    }
    all
});
