//! The whole service within this process and a launcher of its own, for hosts without a daemon.

use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::backend::Backend;
use crate::client::Client;
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
    /// Starts it. Needs a tokio runtime.
    ///
    /// # Errors
    /// As those of a daemon.
    pub(super) fn start(config: Option<&Path>) -> Result<Self, DaemonError> {
        log_to_stderr();
        let (config_in_force, catalogue) = daemon::load(config)?;
        let mut launcher = Launcher::start(config)?;
        let scheduler = Scheduler::new(Backend::adopt(launcher.socket()?)?, &config_in_force);
        let state = api::State::new(scheduler.clone(), config_in_force, catalogue);
        Ok(Self { scheduler, state, launcher })
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        let state = self.state.clone();
        Client::through(move || {
            let (ours, theirs) = UnixStream::pair()?;
            serve(state.clone(), theirs);
            Ok(ours)
        })
    }

    /// Serves one more connection.
    pub(super) fn serve(&self, stream: UnixStream) {
        serve(self.state.clone(), stream);
    }

    /// Cancels what still runs and waits until its sandboxes are gone. The launcher ends when the
    /// tokio runtime does, which holds the connection to it.
    pub(super) async fn stop(self) -> Launcher {
        self.scheduler.stop(Duration::ZERO).await;
        self.launcher
    }
}

/// Serves a stream to whoever has started this process.
fn serve(state: api::State, stream: UnixStream) {
    let client = api::Client::Process {
        uid: nix::unistd::getuid().as_raw(),
        gid: nix::unistd::getgid().as_raw(),
        pid: i32::try_from(std::process::id()).ok(),
    };
    tokio::spawn(daemon::serve_stream(state, stream, client));
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
