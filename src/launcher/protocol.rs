//! What daemon and launcher tell one another: names, numbers and descriptors, one message a
//! datagram on a SOCK_SEQPACKET socket.
//!
//! A sandbox is named by its *lease*, a number that the daemon chooses, unique on its connection.
//! Work for one lease is done in the order in which it was asked for. When the connection ends, so
//! do all its sandboxes.
//!
//! A *session* has a name that no other ever has, and outlives connections: the launcher keeps what
//! is needed to go on with it, and gives that to the next daemon that asks; see [`SessionRequest`].

use serde::{Deserialize, Serialize};

use crate::jail::init::UnpackError;
use crate::job::{DeniedFlow, Ending, EnforcedBy, Path};
use crate::plan::tree::{Ecosystem, TreeAt, TreeKey};
use crate::plan::{Cause, Size};
use crate::profile::Limits;
use crate::runtime::Checked;

/// Version of this protocol; both sides come from one package and must agree.
pub const VERSION: u32 = 8;
/// Largest message, in bytes.
pub const MESSAGE_BYTES: usize = 16 << 10;
/// Largest memory file that says what a sandbox can reach, in bytes.
pub const REACH_BYTES: usize = 2 << 20;
/// Why no sandbox is made where there are as many as may be.
pub const NO_SLOT: &str = "all sandboxes are in use";

/// How the reason begins for which no program runs on real directories, where it has not the network that it is to have.
pub const NO_NETWORK: &str = "no network: ";

/// Why a sandbox is not made whose packages are not there any more.
pub const NO_TREE: &str = "its packages are not in memory";

/// What the daemon asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Take a sandbox that waits, or make one. Answered only where that fails.
    Open {
        /// Name of the new sandbox.
        lease: u64,
        /// What it is to be.
        sandbox: Opening,
        /// What it can reach.
        reach: Reach,
    },
    /// Tell whether a tree is there; make it, where it is not and comes along in a memory file. Answered by
    /// [`Reply::Tree`].
    Tree {
        /// Names the request in its answer, and no sandbox.
        lease: u64,
        /// Which.
        key: TreeKey,
        /// Bytes and files that it takes, where it comes along.
        size: Option<(u64, u64)>,
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
    /// Send a signal to the process group of the program that runs, if one does.
    Signal {
        /// Which sandbox.
        lease: u64,
        /// Its number; signal(7).
        signal: i32,
    },
    /// Hand out files; comes with a memory file that says which, and with a pipe to write them to.
    /// The pipe tells when that is over.
    Collect {
        /// Which sandbox.
        lease: u64,
    },
    /// Make everything anew that programs can have changed, as soon as none runs. Answered by [`Reply::Renewed`], or by
    /// [`Reply::Failed`] where that can't be done.
    Renew {
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
    /// Tell everything about every session, by [`Reply::Session`], and from now on tell this connection
    /// what happens in them. [`SessionEvent::Told`] is the last.
    Sessions,
    /// Something about one session. Answered by [`Reply::Session`] with the same ticket.
    Session {
        /// Which.
        session: SessionKey,
        /// Names the request in its answer; never 0.
        ticket: u64,
        /// What.
        request: SessionRequest,
    },
    /// Show what a self-test found in `/runtime/runtimes.json` of sandboxes made from now on.
    Record {
        /// Id of the runtime.
        runtime: String,
        /// What it found.
        checked: Checked,
    },
}

/// A sandbox that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opening {
    /// Id of its runtime.
    pub runtime: String,
    /// Name of its profile.
    pub profile: String,
    /// Size of its writable file system, in bytes.
    pub disk_bytes: u64,
    /// Number of files in it.
    pub disk_files: u64,
    /// Whether it is for the plain command line of its language, so that an interpreter that has
    /// started already serves as well.
    pub warm: bool,
    /// Whether it must be made for this request alone, which then counts as nobody's demand.
    pub fresh: bool,
    /// Whether it is to be emptied after each program, for another; see [`Request::Renew`]. Then, too, it is made
    /// for this request alone. One that has a network can't be emptied.
    pub renewable: bool,
    /// What was installed for it.
    pub trees: Vec<TreeAt>,
    /// What installs in it, where it is made for that.
    pub installer: Option<Ecosystem>,
}

/// What a sandbox can reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reach {
    /// What its profile says.
    AsProfile,
    /// What a memory file says that comes along: a [`crate::profile::Network`] in JSON, which lies within
    /// that of the profile.
    Given,
    /// Nothing, and no request changes that.
    Nothing,
}

/// Name of a session: a UUID.
pub type SessionKey = [u8; 16];

/// What is asked of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionRequest {
    /// Make one with an empty workspace, or with that of a snapshot.
    Create {
        /// Ids of its runtimes.
        runtimes: Vec<String>,
        /// Name of its profile.
        profile: String,
        /// What all its programs together may use.
        limits: Limits,
        /// Session and snapshot whose files it is to have.
        origin: Option<(SessionKey, u64)>,
        /// What it can reach.
        reach: Reach,
        /// What was installed for it.
        trees: Vec<TreeAt>,
    },
    /// Run a program. Comes with a memory file that holds its arguments, and with the logs of its
    /// standard output and error (one for a terminal, none for a worker), which are kept for the next
    /// daemon. Answered by [`SessionEvent::Started`].
    Execute {
        /// Names the program; never used again in this session.
        exec: u64,
        /// What it may use.
        limits: Limits,
        /// What it is.
        purpose: ExecPurpose,
    },
    /// Close the launcher's own copy of a program's standard input.
    CloseInput {
        /// Which program.
        exec: u64,
    },
    /// Send a signal to the process group that a program leads.
    Signal {
        /// Which program.
        exec: u64,
        /// Its number; signal(7).
        signal: i32,
    },
    /// End a program and all that it has started.
    Kill {
        /// Which program.
        exec: u64,
        /// Why.
        cause: Cause,
    },
    /// Keep nothing more of a program that has ended.
    Forget {
        /// Which program.
        exec: u64,
    },
    /// Take a snapshot of the workspace under this number.
    Snapshot {
        /// Never used again in this session.
        snapshot: u64,
    },
    /// Forget a snapshot.
    DropSnapshot {
        /// Which.
        snapshot: u64,
    },
    /// End all programs and put the workspace back.
    Rollback {
        /// To which snapshot.
        snapshot: u64,
    },
    /// Stop all processes for the time being, and give back what memory can be given back.
    Pause,
    /// Let them go on.
    Resume,
    /// Hold all of it to these processors; to none in particular where there are none.
    Pin {
        /// Their numbers, from 0.
        processors: Vec<u32>,
    },
    /// Change what it can reach, for programs that run as well; connections that are not allowed any more end.
    /// Answered when that is so.
    Network(Reach),
    /// Tell how full the workspace is, and how much was computed. Answered by [`SessionEvent::Usage`].
    Usage,
    /// End it; nothing of it is left.
    Close,
}

/// What a program of a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecPurpose {
    /// A program with pipes for its output.
    Program {
        /// Whether it has one to read from that somebody writes to; else it reads nothing.
        input: bool,
    },
    /// A program on a terminal of this size.
    Terminal(Size),
    /// Code of ours, which serves the other end of one socket and is gone when that is closed.
    Worker,
}

/// What became of a request about a session, or happened in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionEvent {
    /// It is done.
    Done,
    /// There is no session of this name.
    Unknown,
    /// It can't be done, and nothing has changed.
    Refused(String),
    /// The program is given its job. Comes with the other ends of its standard input, output and error, of
    /// its terminal, or of its socket.
    Started,
    /// How full the workspace is.
    Usage {
        /// Bytes in use, over all snapshots.
        bytes: u64,
        /// Files in use.
        files: u64,
        /// Processor time that its programs have used so far, in microseconds; where no cgroup counts, that
        /// of the main processes which run.
        cpu_us: u64,
    },
    /// A session that is there.
    Found {
        /// Whether its processes are stopped.
        paused: bool,
        /// Its snapshots.
        snapshots: Vec<u64>,
    },
    /// A program of it: comes with what [`SessionEvent::Started`] came with, and with its logs.
    FoundExec {
        /// Which.
        exec: u64,
        /// What it is.
        purpose: ExecPurpose,
        /// Whether the first descriptor is that of its standard input.
        has_input: bool,
        /// How many of the last descriptors are logs.
        logs: u8,
    },
    /// A program is over.
    Ended {
        /// Which.
        exec: u64,
        /// All that is known of the end.
        ending: Box<Ending>,
    },
    /// A program is gone because its sandbox has broken.
    Lost {
        /// Which.
        exec: u64,
        /// Why, for the journal.
        reason: String,
    },
    /// The network policy refused these; each is told once.
    Denied(Vec<DeniedFlow>),
    /// Why it has no network though it is to have one; or it has it again.
    Network(Option<String>),
    /// Everything about all sessions is told.
    Told,
}

/// What is known of a tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum TreeState {
    /// It is there.
    Ready,
    /// It is not.
    Absent,
    /// It can't be made.
    Failed(String),
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
    /// The next program finds the sandbox as the first one did.
    Renewed {
        /// Which sandbox.
        lease: u64,
    },
    /// The network policy refused these to what runs; each is told once.
    Denied {
        /// Which sandbox.
        lease: u64,
        /// What.
        flows: Vec<DeniedFlow>,
    },
    /// About a tree.
    Tree {
        /// That of the request.
        lease: u64,
        /// What.
        state: TreeState,
    },
    /// About a session.
    Session {
        /// Which.
        session: SessionKey,
        /// That of the request; 0 for what was not asked for.
        ticket: u64,
        /// What.
        event: SessionEvent,
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
