//! What daemon and launcher tell one another: names, numbers and descriptors, one message a
//! datagram on a SOCK_SEQPACKET socket.
//!
//! A sandbox is named by its *lease*, a number that the daemon chooses, unique on its connection.
//! Work for one lease is done in the order in which it was asked for. When the connection ends, so
//! do all its sandboxes.

use serde::{Deserialize, Serialize};

use crate::jail::init::UnpackError;
use crate::job::{Ending, EnforcedBy, Path};
use crate::plan::Cause;
use crate::profile::Limits;
use crate::runtime::Checked;

/// Version of this protocol; both sides come from one package and must agree.
pub const VERSION: u32 = 3;
/// Largest message, in bytes.
pub const MESSAGE_BYTES: usize = 16 << 10;

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take a sandbox that waits, or make one. Answered only where that fails.
    Open {
        /// Name of the new sandbox.
        lease: u64,
        /// Id of its runtime.
        runtime: String,
        /// Name of its profile.
        profile: String,
        /// Size of its writable file system, in bytes.
        disk_bytes: u64,
        /// Number of files in it.
        disk_files: u64,
        /// Whether it is for the plain command line of its language, so that an interpreter that has
        /// started already serves as well.
        warm: bool,
        /// Whether it must be made for this request alone, which then counts as nobody's demand.
        fresh: bool,
    },
    /// Run a program; comes with a memory file that holds its arguments, and, where files are to be
    /// written first, with one that holds an archive. Answered by [`Reply::Started`], and then by
    /// [`Reply::Ended`] or [`Reply::NotUnpacked`].
    Execute {
        /// Which sandbox.
        lease: u64,
        /// What it may use.
        limits: Limits,
    },
    /// End the program that runs, if one does.
    Kill {
        /// Which sandbox.
        lease: u64,
        /// Why.
        cause: Cause,
    },
    /// Hand out files; comes with a memory file that says which, and with a pipe to write them to.
    /// The pipe tells when that is over.
    Collect {
        /// Which sandbox.
        lease: u64,
    },
    /// End a sandbox. Answered by [`Reply::Closed`].
    Close {
        /// Which sandbox.
        lease: u64,
    },
    /// Read the configuration anew, if it has changed: first on every connection, and whenever the
    /// daemon has done so. Sandboxes that live go on as they are. One that can't be used is told to
    /// the journal, and the old one stays.
    Reload,
    /// Show what a self-test found in `/runtime/runtimes.json` of sandboxes made from now on.
    Record {
        /// Id of the runtime.
        runtime: String,
        /// What it found.
        checked: Checked,
    },
}

/// What the launcher answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// First on every connection.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// What holds the limits on this host.
        enforced_by: EnforcedBy,
    },
    /// The program is given its job; comes with the other ends of its standard input, output and error.
    Started {
        /// Which sandbox.
        lease: u64,
        /// How it was come by.
        path: Path,
    },
    /// A file could not be written, and the program does not run.
    NotUnpacked {
        /// Which sandbox.
        lease: u64,
        /// What went wrong.
        error: UnpackError,
    },
    /// The program and all that it had started are dead.
    Ended {
        /// Which sandbox.
        lease: u64,
        /// All that is known of the end.
        ending: Ending,
    },
    /// The sandbox is gone, and nothing of it is left.
    Closed {
        /// Which.
        lease: u64,
    },
    /// The sandbox could not be made or has broken, and is gone. What was asked of it is not
    /// answered any more.
    Failed {
        /// Which.
        lease: u64,
        /// Why, for the journal.
        reason: String,
        /// Whether a program may have run in it.
        had_begun: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{Baseline, Version};

    #[test]
    fn what_was_found_survives_the_way() {
        for broken in [None, Some("it printed nothing".to_owned())] {
            let checked = Checked {
                broken,
                version: Version::try_from("3.12.4".to_owned()).ok(),
                baseline: Some(Baseline { wall_time_us: 1, cpu_time_us: 2, memory_peak_bytes: 3 }),
            };
            let request = Request::Record { runtime: "python-3.12".to_owned(), checked };
            let bytes = postcard::to_allocvec(&request).unwrap();
            assert_eq!(postcard::from_bytes::<Request>(&bytes).unwrap(), request);
        }
    }
}
