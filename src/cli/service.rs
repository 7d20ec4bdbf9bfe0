//! Where the API is: behind a daemon's socket where there is one, else in this very process.

use std::path::{Path, PathBuf};

use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use super::client::{Client, ClientError};
use super::embedded::Embedded;
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

/// Finds the service, or starts one, and does some work with it. After that nothing of ours is
/// left: what still runs is cancelled, and a launcher of ours has ended.
///
/// # Errors
/// There is no service. One that the user named is not replaced by anything else: it has limits,
/// runtimes and logs that the user counts on.
pub(super) fn with<T>(place: &Place, work: impl AsyncFnOnce(&mut Client) -> T) -> Result<T, ClientError> {
    let runtime = runtime().map_err(|error| DaemonError::Start { attempt: "starting the event loop", error })?;
    let worked = runtime.block_on(async {
        let (mut client, embedded) = open(place).await?;
        let result = work(&mut client).await;
        // Hanging up is what cancels.
        drop(client);
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

async fn open(place: &Place) -> Result<(Client, Option<Embedded>), ClientError> {
    if !place.embedded && place.config.is_none() {
        match (connect(&place.socket_path()).await, place.asked_for()) {
            (Ok(client), _) => return Ok((client, None)),
            (Err(error), Some(_)) => return Err(error),
            (Err(_), None) => {}
        }
    }
    let (embedded, stream) = Embedded::start(place.config.as_deref())?;
    Ok((Client::over(stream).await?, Some(embedded)))
}

/// A connection to a daemon.
pub(super) async fn connect(path: &Path) -> Result<Client, ClientError> {
    let stream =
        UnixStream::connect(path).await.map_err(|error| ClientError::Connect { path: path.to_owned(), error })?;
    Client::over(stream).await
}

/// For the client's side, and for the service where that is in this process: one thread for both.
pub(super) fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_that_was_named_comes_first() {
        let place = Place { socket: Some("/x.sock".into()), ..Place::default() };
        assert_eq!(place.socket_path(), Path::new("/x.sock"));
    }
}
