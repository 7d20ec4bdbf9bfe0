//! A launcher that belongs to this process alone.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;

use crate::launcher;
use crate::scheduler::Scheduler;
use crate::sys::process::pidfd_open;

use super::DaemonError;

/// How often the launcher is looked after while it lives.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How often it is asked whether the launcher has spoken, and for how long.
const GREETING_INTERVAL: Duration = Duration::from_millis(5);
const GREETING_TIME: Duration = Duration::from_secs(5);
/// How long it may take to end before its end is brought about.
const PATIENCE_MS: u16 = 5_000;

/// A launcher that was started here.
#[derive(Debug)]
pub(crate) struct Launcher {
    socket: Option<OwnedFd>,
    child: Child,
}

impl Launcher {
    /// Starts it. Must come before any thread is started.
    pub(crate) fn start(config: Option<&Path>) -> Result<Self, DaemonError> {
        let spawned = launcher::spawn(config)
            .map_err(|error| DaemonError::Start { attempt: "starting the embedded launcher", error })?;
        Ok(Self { socket: Some(spawned.socket), child: spawned.child })
    }

    /// Starts one that gives this process real directories of its user. Must come before any thread is started.
    #[cfg(feature = "client")]
    pub(crate) fn start_granting(config: Option<&Path>, grant: &launcher::Grant) -> Result<Self, DaemonError> {
        let spawned = launcher::spawn_granting(config, grant)
            .map_err(|error| DaemonError::Start { attempt: "starting the embedded launcher", error })?;
        Ok(Self { socket: Some(spawned.socket), child: spawned.child })
    }

    /// The connection to it, once.
    pub(crate) fn socket(&mut self) -> Result<OwnedFd, DaemonError> {
        self.socket.take().ok_or(DaemonError::NoSocket)
    }

    /// Waits until it has ended, which it does when the connection closes; ends it by force where
    /// that takes too long. Its sandboxes die with it.
    pub(crate) fn wait(mut self) {
        drop(self.socket.take());
        let pid = i32::try_from(self.child.id()).expect("process ids fit 22 bits");
        let ended = pidfd_open(Pid::from_raw(pid)).is_ok_and(|process| {
            let mut entry = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
            matches!(poll(&mut entry, PollTimeout::from(PATIENCE_MS)), Ok(count) if count > 0)
        });
        if !ended {
            // An error means that it has ended by now.
            drop(self.child.kill());
        }
        // Its status tells nothing more: what went wrong it has said on standard error.
        drop(self.child.wait());
    }
}

/// Waits until the launcher has spoken, so that the first client finds it there; it takes some
/// milliseconds. One that never does is found out by [`ended`], and answered with 503 until then.
pub(super) async fn greeting(scheduler: &Scheduler) {
    let begun = Instant::now();
    while !scheduler.is_available() && begun.elapsed() < GREETING_TIME {
        tokio::time::sleep(GREETING_INTERVAL).await;
    }
}

/// Waits for the end of the launcher; for ever where there is none.
pub(super) async fn ended(launcher: Option<&mut Launcher>) -> ExitStatus {
    let Some(launcher) = launcher else {
        return std::future::pending().await;
    };
    loop {
        if let Ok(Some(status)) = launcher.child.try_wait() {
            return status;
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}
