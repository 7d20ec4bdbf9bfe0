//! Where the API is: behind a daemon's socket where there is one, else in this very process.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};

use super::bench::client::Connector;
use super::embedded::Embedded;
use crate::client::{Client, ClientError};
use crate::daemon::DaemonError;

/// The socket of a daemon that was set up as documented.
const SOCKET: &str = "/run/codesandbox/api.sock";
/// Variable that names another.
const SOCKET_VARIABLE: &str = "CODESANDBOX_SOCKET";

/// Which service to use.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Place {
    /// Use the daemon on this socket [default: $CODESANDBOX_SOCKET, or /run/codesandbox/api.sock where that answers]
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath, conflicts_with_all = ["embedded", "config"])]
    pub(super) socket: Option<PathBuf>,
    /// Use no daemon: build the sandbox from this very process
    #[arg(long)]
    pub(super) embedded: bool,
    /// Configuration in JSON; implies --embedded, as a daemon has its own
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    pub(super) config: Option<PathBuf>,
}

impl Place {
    /// The daemon's socket, whether or not it is there.
    pub(super) fn socket_path(&self) -> PathBuf {
        self.asked_for().unwrap_or_else(|| SOCKET.into())
    }

    /// The socket that the user named.
    fn asked_for(&self) -> Option<PathBuf> {
        let variable = || std::env::var_os(SOCKET_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        self.socket.clone().or_else(variable)
    }
}

/// Why there is no service to ask.
#[derive(Debug, thiserror::Error)]
pub(super) enum ServiceError {
    /// That which was named does not answer.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// One in this process could not be started.
    #[error(transparent)]
    Start(#[from] DaemonError),
}

/// Finds the service, or starts one, and does some work with it. After that nothing of ours is
/// left: what still runs is cancelled, and a launcher of ours has ended.
///
/// # Errors
/// There is no service. One that the user named is not replaced by anything else: it has limits,
/// runtimes and logs that the user counts on.
pub(super) fn with<T>(place: &Place, work: impl AsyncFnOnce(&Client) -> T) -> Result<T, ServiceError> {
    let runtime = runtime().map_err(|error| DaemonError::Start { attempt: "starting the event loop", error })?;
    let worked = runtime.block_on(async {
        let (client, embedded) = open(place).await?;
        // Its connections are gone with it: hanging up is what cancels.
        let result = work(&client).await;
        let launcher = match embedded {
            Some(embedded) => Some(embedded.stop().await),
            None => None,
        };
        Ok((result, launcher))
    });
    // A write to somebody who does not read may still hang, and nobody waits for it any more.
    runtime.shutdown_background();
    worked.map(|(result, launcher)| {
        if let Some(launcher) = launcher {
            launcher.wait();
        }
        result
    })
}

/// Finds the service, or starts one in this process. Needs a tokio runtime.
///
/// # Errors
/// As those of [`with`].
pub(super) async fn open(place: &Place) -> Result<(Client, Option<Embedded>), ServiceError> {
    if !place.embedded && place.config.is_none() {
        let client = Client::unix(place.socket_path());
        match (client.connect().await, place.asked_for()) {
            (Ok(_), _) => return Ok((client, None)),
            (Err(error), Some(_)) => return Err(error.into()),
            (Err(_), None) => {}
        }
    }
    let embedded = Embedded::start(place.config.as_deref())?;
    Ok((embedded.client(), Some(embedded)))
}

/// Finds the service, or starts one, for a load from another thread: this one serves. The first
/// Ctrl-C sets `stop`.
///
/// # Errors
/// As those of [`with`].
pub(super) fn under_load<T: Send>(
    place: &Place,
    stop: &AtomicBool,
    work: impl FnOnce(&Connector) -> T + Send,
) -> Result<T, ServiceError> {
    let starting = |error| ServiceError::from(DaemonError::Start { attempt: "starting the event loop", error });
    let runtime = runtime().map_err(starting)?;
    let (connections, mut wanted) = mpsc::unbounded_channel();
    let (embedded, connector) = runtime.block_on(async {
        let (_, embedded) = open(place).await?;
        let connector = match embedded {
            Some(_) => Connector::Pair(connections),
            None => Connector::Path(place.socket_path()),
        };
        Ok::<_, ServiceError>((embedded, connector))
    })?;
    let (working, mut worked) = oneshot::channel::<()>();
    // No thread before this: the launcher was started above, and is a process of its own by now.
    let result = std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            let result = work(&connector);
            drop(working);
            result
        });
        runtime.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).map_err(starting)?;
            loop {
                tokio::select! {
                    _ = &mut worked => return Ok::<_, ServiceError>(()),
                    _ = interrupt.recv() => stop.store(true, Ordering::Relaxed),
                    Some(stream) = wanted.recv() => serve(embedded.as_ref(), stream).map_err(starting)?,
                }
            }
        })?;
        Ok(worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    let launcher = embedded.map(|embedded| runtime.block_on(embedded.stop()));
    runtime.shutdown_background();
    if let Some(launcher) = launcher {
        launcher.wait();
    }
    result
}

fn serve(embedded: Option<&Embedded>, stream: std::os::unix::net::UnixStream) -> std::io::Result<()> {
    stream.set_nonblocking(true)?;
    if let Some(embedded) = embedded {
        embedded.serve(UnixStream::from_std(stream)?);
    }
    Ok(())
}

/// For the client's side, and for the service where that is in this process: one thread for both.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_socket_that_was_named_comes_first() {
        let place = Place { socket: Some("/x.sock".into()), ..Place::default() };
        assert_eq!(place.socket_path(), Path::new("/x.sock"));
    }
}
