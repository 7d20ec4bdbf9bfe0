//! Carries a plan out: builds a jail, keeps it, and starts programs in it.
//!
//! A jail is made of three things. A *template* ([`template`]) is a mount namespace with all that
//! a runtime's sandboxes see, made once. *Init* ([`init`]) is process 1 of a sandbox: it mounts what
//! is the sandbox's own, writes and hands out files, reaps orphans, answers refused system calls,
//! and never executes anything. A *program* ([`program`]) joins the sandbox from outside, goes
//! through every step of [`crate::plan::Step`], and becomes the user's program.
//!
//! All of this runs in children of the single-threaded launcher. A failed step aborts; there is
//! no going on without.

pub mod filter;
pub mod init;
pub mod program;
pub mod template;
pub mod worker;

mod restrict;

use crate::plan::Step;
use crate::sys::Errno;

/// A step that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{step:?}: {errno}")]
pub struct StepError {
    /// Which.
    pub step: Step,
    /// Why.
    pub errno: Errno,
}

/// Names the step in a kernel call's error.
trait At<T> {
    fn at(self, step: Step) -> Result<T, StepError>;
}

impl<T> At<T> for crate::sys::Result<T> {
    fn at(self, step: Step) -> Result<T, StepError> {
        self.map_err(|errno| StepError { step, errno })
    }
}

/// An error of crate `caps`, which keeps only text, as the kernel call that it came from.
fn capability_error(_: caps::errors::CapsError) -> Errno {
    Errno { call: "capset", errno: nix::errno::Errno::last() }
}
