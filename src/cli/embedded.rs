//! The whole service within this process and a launcher of its own, for hosts without a daemon.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::backend::Backend;
use crate::daemon::DaemonError;
use crate::daemon::embedded::Launcher;
use crate::scheduler::Scheduler;
use crate::{api, daemon};

/// A service in this process.
pub(super) struct Embedded {
    scheduler: Scheduler,
    state: api::State,
    launcher: Launcher,
}

impl Embedded {
    /// Starts it; the stream is a connection to its API. Needs a tokio runtime.
    ///
    /// # Errors
    /// As those of a daemon.
    pub(super) fn start(config: Option<&Path>) -> Result<(Self, UnixStream), DaemonError> {
        log_to_stderr();
        let (config_in_force, catalogue) = daemon::load(config)?;
        let mut launcher = Launcher::start(config)?;
        let scheduler = Scheduler::new(Backend::adopt(launcher.socket()?)?, &config_in_force);
        let state = api::State::new(scheduler.clone(), config_in_force, catalogue);
        let pair = UnixStream::pair();
        let (ours, theirs) = pair.map_err(|error| DaemonError::Start { attempt: "connecting to ourselves", error })?;
        let embedded = Self { scheduler, state, launcher };
        embedded.serve(theirs);
        Ok((embedded, ours))
    }

    /// Serves one more connection.
    pub(super) fn serve(&self, stream: UnixStream) {
        let client = api::Client {
            uid: nix::unistd::getuid().as_raw(),
            gid: nix::unistd::getgid().as_raw(),
            pid: i32::try_from(std::process::id()).ok(),
        };
        tokio::spawn(daemon::serve_stream(self.state.clone(), stream, client));
    }

    /// Cancels what still runs and waits until its sandboxes are gone. The launcher ends when the
    /// tokio runtime does, which holds the connection to it.
    pub(super) async fn stop(self) -> Launcher {
        self.scheduler.stop(Duration::ZERO).await;
        self.launcher
    }
}

/// What a daemon would write to the journal, as far as it is about failures.
fn log_to_stderr() {
    let logging = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_max_level(tracing::Level::ERROR)
        .without_time()
        .with_target(false);
    // The error is that somebody has set up logging already, which is as good.
    drop(logging.try_init());
}
