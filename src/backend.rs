//! Backends: what makes and runs sandboxes for the scheduler. Each has the same shape: open a
//! sandbox, run programs on files, hand files out, close.

pub mod namespace;

use std::io::{PipeReader, PipeWriter};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use tokio::sync::mpsc;

use crate::job::{DeniedFlow, Ending, EnforcedBy, Path};
use crate::plan::tree::TreeKey;
use crate::plan::{Archive, Cause, Spec, Wanted};
use crate::profile::{Limits, Network};
use crate::runtime::Checked;

pub use crate::launcher::protocol::{
    ExecPurpose, NO_NETWORK, NO_SLOT, NO_TREE, Opening, Reach, SessionEvent, SessionKey, SessionRequest,
};
pub use namespace::Keeper;

/// How many bytes a program has not read of its standard input.
pub use crate::sys::pipe::unread;
/// The clock of the times in an [`Ending`], in microseconds.
pub use crate::sys::process::monotonic_us as clock_us;

/// A way of making sandboxes.
#[derive(Debug, Clone)]
pub enum Backend {
    /// Namespaces, cgroups, seccomp and Landlock, by the launcher of this host.
    Namespace(namespace::Namespace),
}

/// A sandbox that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What it is to be.
    pub sandbox: Opening,
    /// What it can reach, where that is less than its profile allows.
    pub network: Option<Network>,
}

/// A program that was given its job.
#[derive(Debug)]
pub struct Started {
    /// How its sandbox was come by.
    pub path: Path,
    /// Where its standard input comes from.
    pub stdin: PipeWriter,
    /// Where its standard output goes.
    pub stdout: PipeReader,
    /// Where its standard error goes.
    pub stderr: PipeReader,
}

/// What is heard of a program while it runs.
#[derive(Debug)]
pub enum News {
    /// The network policy refused these; each is told once.
    Denied(Vec<DeniedFlow>),
    /// It and all that it had started are dead.
    Ended(Box<Ending>),
}

/// What is said about a session.
#[derive(Debug)]
pub struct Tidings {
    /// Which.
    pub session: SessionKey,
    /// What.
    pub event: SessionEvent,
    /// What came along.
    pub descriptors: Vec<OwnedFd>,
}

/// Why a backend could not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BackendError {
    /// It is not there, or has gone away.
    #[error("the launcher is not there")]
    Gone,
    /// An input file could not be written.
    #[error("file {index}: {reason}")]
    Input {
        /// Its place among the files, from 0.
        index: usize,
        /// Why.
        reason: String,
    },
    /// The sandbox could not be made or has broken.
    #[error("{reason}")]
    Lost {
        /// Why.
        reason: String,
        /// Whether a program may have run in it.
        had_begun: bool,
    },
    /// There is no session of this name.
    #[error("there is no such session")]
    UnknownSession,
    /// It failed.
    #[error("{0}")]
    Failed(String),
}

impl Backend {
    /// The launcher that listens on this path, now or later; connects again when it was gone.
    #[must_use]
    pub fn connect(path: PathBuf) -> Self {
        Self::Namespace(namespace::Namespace::connect(path))
    }

    /// A launcher that serves this process alone, on a connected socket. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`BackendError::Gone`] where the socket can't be used.
    pub fn adopt(socket: OwnedFd) -> Result<Self, BackendError> {
        namespace::Namespace::adopt(socket).map(Self::Namespace)
    }

    /// Whether it answers.
    #[must_use]
    pub fn is_available(&self) -> bool {
        match self {
            Self::Namespace(backend) => backend.is_available(),
        }
    }

    /// What holds the limits; `None` before it has told.
    #[must_use]
    pub fn enforced_by(&self) -> Option<EnforcedBy> {
        match self {
            Self::Namespace(backend) => backend.enforced_by(),
        }
    }

    /// Takes a sandbox that waits, or makes one; returns before it is ready.
    ///
    /// # Errors
    /// [`BackendError::Gone`]; what else goes wrong is told by the first program.
    pub async fn open(&self, order: &Order) -> Result<Sandbox, BackendError> {
        match self {
            Self::Namespace(backend) => backend.open(order).await.map(Sandbox::Namespace),
        }
    }

    /// What keeps sessions: asks for them, and hears first of every one that is there, and then of all
    /// that happens in them.
    ///
    /// # Errors
    /// [`BackendError::Gone`].
    pub async fn keep(&self) -> Result<(Keeper, mpsc::UnboundedReceiver<Tidings>), BackendError> {
        match self {
            Self::Namespace(backend) => backend.keep().await,
        }
    }

    /// Has the configuration read anew. Whatever is asked for after this returns finds the new one.
    ///
    /// # Errors
    /// [`BackendError::Gone`]; it reads it when it is back.
    pub async fn reload(&self) -> Result<(), BackendError> {
        match self {
            Self::Namespace(backend) => backend.reload().await,
        }
    }

    /// Whether a tree is in memory, where sandboxes can see it; where it is not and comes along, it is afterwards.
    ///
    /// # Errors
    /// [`BackendError::Gone`]; [`BackendError::Failed`] where there is no room for it.
    pub async fn tree(&self, key: TreeKey, given: Option<&[u8]>) -> Result<bool, BackendError> {
        match self {
            Self::Namespace(backend) => backend.tree(key, given).await,
        }
    }

    /// Shows what a self-test found in the list of runtimes that sandboxes see.
    ///
    /// # Errors
    /// [`BackendError::Gone`]; it is told when it is back.
    pub async fn record(&self, runtime: &str, checked: &Checked) -> Result<(), BackendError> {
        match self {
            Self::Namespace(backend) => backend.record(runtime, checked).await,
        }
    }
}

/// A sandbox, ready for work.
#[derive(Debug)]
pub enum Sandbox {
    /// Of [`Backend::Namespace`].
    Namespace(namespace::Lease),
}

impl Sandbox {
    /// Starts a program, with these files below `/workspace` where there are any. [`Sandbox::news`]
    /// tells how it ended.
    ///
    /// # Errors
    /// As [`BackendError`].
    pub async fn execute(
        &mut self,
        spec: &Spec,
        limits: &Limits,
        files: Option<&Archive>,
    ) -> Result<Started, BackendError> {
        match self {
            Self::Namespace(lease) => lease.execute(spec, limits, files).await,
        }
    }

    /// Waits for what happens next to the program, at last its end. May be dropped and called again.
    ///
    /// # Errors
    /// As [`BackendError`]; [`BackendError::Input`] names the file that could not be written.
    pub async fn news(&mut self) -> Result<News, BackendError> {
        match self {
            Self::Namespace(lease) => lease.news().await,
        }
    }

    /// Ends the program that runs; [`Sandbox::news`] still tells how.
    ///
    /// # Errors
    /// [`BackendError::Gone`].
    pub async fn kill(&self, cause: Cause) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.kill(cause).await,
        }
    }

    /// Sends a signal to the process group of the program that runs; signal(7).
    ///
    /// # Errors
    /// [`BackendError::Gone`].
    pub async fn signal(&self, signal: i32) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.signal(signal).await,
        }
    }

    /// Has the wanted files written to a pipe, in the form of [`crate::plan::Found`]; returns at
    /// once.
    ///
    /// # Errors
    /// [`BackendError::Gone`].
    pub async fn collect(&mut self, wanted: &Wanted, pipe: OwnedFd) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.collect(wanted, pipe).await,
        }
    }

    /// Has everything made anew that programs can have changed, as soon as the one that runs is over; returns at once.
    /// By nothing that the next program sees or can do does it learn of the one before.
    ///
    /// # Errors
    /// [`BackendError::Gone`].
    pub async fn renew(&self) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.renew().await,
        }
    }

    /// Waits until that is done.
    ///
    /// # Errors
    /// It can't be done, and the sandbox is gone.
    pub async fn renewed(&mut self) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.renewed().await,
        }
    }

    /// Ends it and waits until nothing of it is left.
    ///
    /// # Errors
    /// [`BackendError::Gone`], after which nothing of it is left either.
    pub async fn close(self) -> Result<(), BackendError> {
        match self {
            Self::Namespace(lease) => lease.close().await,
        }
    }
}
