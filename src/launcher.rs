//! The launcher: the only process with privilege, and it reads no client bytes.
//!
//! It starts with what it needs to map a range of user ids, moves into a user and pid namespace of
//! its own ([`privilege`]), and holds no privilege over the host from then on. The daemon tells it
//! names and numbers ([`protocol`]), which it checks against its own configuration; what the client
//! sent passes through as descriptors that it does not read. One thread, one loop ([`serve`]): so
//! ordinary code may run after a fork, and a jail dies with the launcher.

mod cgroup;
mod grant;
mod ids;
mod netns;
mod pool;
mod privilege;
mod program;
mod run;
mod sandbox;
mod secrets;
mod serve;
mod session;
mod uplinks;
mod view;
mod workspace;

pub mod protocol;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Parser;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::config::EXIT_CONFIG;
use crate::sys::{Call, socket};

pub use cgroup::{Delegation, delegation};
pub use grant::{Grant, GrantedSecret, PROFILE as GRANTED_PROFILE};
pub use privilege::{Footing, footing};

/// First argument that makes any of the programs be the launcher.
pub const SUBCOMMAND: &str = "launcher";

/// Arguments of the launcher.
#[derive(Debug, Parser)]
#[command(name = "codesandbox-launcher", version, about = "Builds sandboxes for codesandboxd, by name and number")]
struct Arguments {
    /// Configuration file, in JSON; without it, the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Listen on this path, where systemd hands over no socket.
    #[arg(long)]
    listen: Option<PathBuf>,
    /// Serve one client on this inherited, connected SOCK_SEQPACKET socket, and end with it.
    #[arg(long, hide = true)]
    socket_fd: Option<RawFd>,
    /// Let the client have one sandbox on real directories, as a memory file says that is inherited here.
    #[arg(long, hide = true, requires = "socket_fd")]
    grant_fd: Option<RawFd>,
    /// Set by the launcher itself, when it executes itself inside its namespaces.
    #[arg(long, hide = true)]
    settled: Option<String>,
}

/// Runs the launcher with these arguments, the program's name first.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Where not even this can be printed, the exit code still tells.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = match &arguments.settled {
        Some(settled) => serve::run(settled).map(|()| ExitCode::SUCCESS),
        None => privilege::settle(&arguments),
    };
    result.unwrap_or_else(|error| {
        eprintln!("codesandbox-launcher: {error}");
        // No restart would help where it is the configuration: the unit knows the status.
        if matches!(error, LauncherError::Config(_)) { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
    })
}

/// What can end the launcher.
#[derive(Debug, thiserror::Error)]
pub enum LauncherError {
    /// A file could not be read.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration can't be used.
    #[error(transparent)]
    Config(#[from] crate::config::Located),
    /// A filter can't be built.
    #[error(transparent)]
    Filter(#[from] crate::jail::filter::FilterError),
    /// A kernel call failed.
    #[error("{attempt}: {errno}")]
    Kernel {
        /// What was attempted.
        attempt: &'static str,
        /// What failed.
        errno: crate::sys::Errno,
    },
    /// There is no socket to serve.
    #[error("no socket: give --listen, or start it by codesandbox-launcher.socket")]
    NoSocket,
    /// A tool that writes id maps failed.
    #[error("{0} failed: check /etc/subuid and /etc/subgid")]
    IdMapTool(&'static str),
    /// What the launcher told itself can't be read.
    #[error("--settled is for the launcher's own use")]
    Settled,
    /// All ranges of ids are in use by other launchers.
    #[error("all {0} ranges of ids are in use by other launchers")]
    NoFreeIds(u32),
}

/// Names the attempt in a kernel call's error.
trait During<T> {
    fn during(self, attempt: &'static str) -> Result<T, LauncherError>;
}

impl<T> During<T> for crate::sys::Result<T> {
    fn during(self, attempt: &'static str) -> Result<T, LauncherError> {
        self.map_err(|errno| LauncherError::Kernel { attempt, errno })
    }
}

/// A launcher that serves this process alone.
#[derive(Debug)]
pub struct Spawned {
    /// Connected to it. It ends when this is closed.
    pub socket: OwnedFd,
    /// Its process.
    pub child: Child,
}

/// Starts a launcher that serves this process alone, by executing this program again.
///
/// # Errors
/// As fork(2), execve(2) and socketpair(2).
pub fn spawn(config: Option<&Path>) -> std::io::Result<Spawned> {
    spawn_with(config, |_| Ok(()))
}

/// The same of a launcher that gives this process real directories to work on, as the user that it is.
///
/// # Errors
/// As [`spawn`], and memfd_create(2).
pub fn spawn_granting(config: Option<&Path>, grant: &Grant) -> std::io::Result<Spawned> {
    let error = |errno: crate::sys::Errno| std::io::Error::from(errno.errno);
    let bytes = postcard::to_allocvec(grant).map_err(std::io::Error::other)?;
    let memory = crate::sys::fs::sealed_memory(c"grant", &bytes).map_err(error)?;
    fcntl(&memory, FcntlArg::F_SETFD(FdFlag::empty())).call("fcntl").map_err(error)?;
    spawn_with(config, |command| {
        command.arg("--grant-fd").arg(memory.as_raw_fd().to_string());
        // Ctrl-C is for the program, and not for what holds it.
        command.process_group(0);
        Ok(())
    })
}

fn spawn_with(
    config: Option<&Path>,
    change: impl FnOnce(&mut Command) -> std::io::Result<()>,
) -> std::io::Result<Spawned> {
    let error = |errno: crate::sys::Errno| std::io::Error::from(errno.errno);
    let (ours, theirs) = socket::pair().map_err(error)?;
    let mut command = Command::new("/proc/self/exe");
    command.arg(SUBCOMMAND).arg("--socket-fd").arg(theirs.as_raw_fd().to_string()).stdin(Stdio::null());
    if let Some(config) = config {
        command.arg("--config").arg(config);
    }
    fcntl(&theirs, FcntlArg::F_SETFD(FdFlag::empty())).call("fcntl").map_err(error)?;
    change(&mut command)?;
    let child = command.spawn()?;
    Ok(Spawned { socket: ours, child })
}

/// Whether these arguments ask a program to be the launcher; then what to pass to [`main`].
#[must_use]
pub fn requested(arguments: &[OsString]) -> Option<Vec<OsString>> {
    let mut arguments = arguments.to_vec();
    (arguments.get(1).map(OsString::as_os_str) == Some(OsStr::new(SUBCOMMAND))).then(|| {
        arguments.remove(1);
        arguments
    })
}
