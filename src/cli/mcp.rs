//! `codesandbox mcp`: the service as tools of a model, by the Model Context Protocol.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use rmcp::ServiceExt;
use rmcp::transport::async_rw::AsyncRwTransport;
use tokio::signal::unix::{SignalKind, signal};

use super::{fail, service};
use crate::daemon::{DaemonError, listen};
use server::{Server, Shared};
use way::Way;

mod excerpt;
mod http;
mod kept;
mod own;
mod pictures;
mod progress;
mod reply;
mod resources;
mod server;
pub(super) mod tools;
mod way;

/// Longest message of a client, in bytes.
const LINE_BYTES: usize = 8 << 20;

/// Examples for the help text and the manual page.
pub(super) const HELP: &str = "\
Without --listen it speaks with the program that has started it, on standard input and output.
Sessions that a client makes are known to that client alone, and end with it.

Examples:
  claude mcp add codesandbox -- codesandbox mcp
  codesandbox mcp --profile agent
  codesandbox mcp --listen /run/user/1000/codesandbox-mcp.sock";

/// Arguments of `codesandbox mcp`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Speak HTTP on this socket, with any number of clients; one that systemd hands over comes first
    #[arg(long, value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    listen: Option<PathBuf>,
    #[command(flatten)]
    doors: http::Doors,
    /// Profile of runs and sessions [default: the service's own, default and session]
    #[arg(short, long, value_name = "NAME")]
    profile: Option<String>,
    /// Let clients use all sessions of this user, not only those that they have made; sessions then outlive their client
    #[arg(long)]
    all_sessions: bool,
    #[command(flatten)]
    place: service::Place,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error(transparent)]
    Service(#[from] service::ServiceError),
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    #[error("starting the event loop: {0}")]
    Start(std::io::Error),
    #[error("the conversation could not begin: {0}")]
    Begin(String),
}

impl From<DaemonError> for ServeError {
    fn from(error: DaemonError) -> Self {
        Self::Service(error.into())
    }
}

/// Serves until there are no clients any more, or a signal says to stop.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let runtime = match service::runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&ServeError::Start(error)),
    };
    let served = runtime.block_on(serve(arguments));
    // A read of standard input may still hang, and nobody waits for it any more.
    runtime.shutdown_background();
    match served {
        Ok(launcher) => {
            if let Some(launcher) = launcher {
                launcher.wait();
            }
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    }
}

async fn serve(arguments: &Arguments) -> Result<Option<crate::daemon::embedded::Launcher>, ServeError> {
    let socket = listen::one(arguments.listen.as_deref())?;
    let (client, embedded) = service::open(&arguments.place).await?;
    let shared = Arc::new(Shared::new(Way(client), arguments.profile.clone(), arguments.all_sessions));
    let stop = stopped().map_err(ServeError::Start)?;
    let done = match socket {
        Some(socket) => {
            http::serve(socket, shared.clone(), &arguments.doors, stop).await;
            Ok(())
        }
        None => converse(&shared, stop).await,
    };
    let launcher = match embedded {
        Some(embedded) => Some(embedded.stop().await),
        None => None,
    };
    done.map(|()| launcher)
}

/// Speaks with one client, on standard input and output, until it is gone.
async fn converse(shared: &Arc<Shared>, stop: impl Future<Output = ()>) -> Result<(), ServeError> {
    let transport =
        AsyncRwTransport::new_server(tokio::io::stdin(), tokio::io::stdout()).with_max_line_length(LINE_BYTES);
    tokio::pin!(stop);
    let server = Server::new(shared.clone());
    let begun = tokio::select! {
        () = &mut stop => return Ok(()),
        begun = server.serve(transport) => begun,
    };
    let running = match begun {
        Ok(running) => running,
        // Nobody has said anything, which is no fault of anybody's.
        Err(rmcp::service::ServerInitializeError::ConnectionClosed(_)) => return Ok(()),
        // The error quotes what came, which may be long.
        Err(error) => return Err(ServeError::Begin(error.to_string().chars().take(300).collect())),
    };
    let cancel = running.cancellation_token();
    let waiting = running.waiting();
    tokio::pin!(waiting);
    tokio::select! {
        // An error here would be a panic of a task, which has been told already.
        ended = &mut waiting => drop(ended),
        () = &mut stop => {
            cancel.cancel();
            drop(waiting.await);
        }
    }
    shared.end().await;
    Ok(())
}

/// Ready when the user or the system wants an end.
fn stopped() -> std::io::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
