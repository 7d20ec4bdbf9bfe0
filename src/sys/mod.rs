//! Typed wrappers of kernel calls, one call each: the only home of `unsafe`.
//!
//! What the crate `nix` wraps safely is used from there; this module holds what it lacks, and
//! gives every failure the name of the call that failed.

#![allow(unsafe_code, reason = "the one module where kernel calls without a safe wrapper are made")]

pub mod fs;
pub mod mount;
pub mod namespace;
#[cfg(feature = "nftables")]
pub mod nftables;
pub mod pipe;
pub mod process;
pub mod seccomp;
pub mod socket;
pub mod terminal;
pub mod xattr;

use std::fmt;

/// A kernel call that failed: its name and the reason, kept apart so that callers can decide on
/// either.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Errno {
    /// Name of the system call, as in section 2 of the manual.
    pub call: &'static str,
    /// Why it failed; errno(3).
    pub errno: nix::errno::Errno,
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, self.errno.desc())
    }
}

impl std::error::Error for Errno {}

/// Result of a kernel call.
pub type Result<T> = std::result::Result<T, Errno>;

/// Names the call in an error of `nix` or of the standard library.
pub trait Call<T> {
    /// Keeps the errno and adds `call` as the name of what failed.
    ///
    /// # Errors
    /// The same failure, named.
    fn call(self, call: &'static str) -> Result<T>;
}

impl<T> Call<T> for nix::Result<T> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|errno| Errno { call, errno })
    }
}

impl<T> Call<T> for std::io::Result<T> {
    fn call(self, call: &'static str) -> Result<T> {
        self.map_err(|error| Errno {
            call,
            errno: nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
        })
    }
}

/// Turns the return value of `syscall(2)` into a result.
fn check(call: &'static str, status: libc::c_long) -> Result<libc::c_long> {
    if status < 0 {
        return Err(Errno { call, errno: nix::errno::Errno::last() });
    }
    Ok(status)
}
