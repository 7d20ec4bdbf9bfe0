//! `codesandbox session forward`: a port of a session, here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::Semaphore;

use super::link::Link;
use super::target::{Ports, ports};
use super::{SessionError, print};
use crate::cli::{complain, exit};
use crate::client::ClientError;

/// Examples.
pub(super) const HELP: &str = "\
The first line of output is the address that is listened on. Only programs that listen on 127.0.0.1 in the session,
or on all of its addresses, can be reached; whoever reaches the address here reaches them too.

Examples:
  codesandbox session forward 3f2a 8000
  codesandbox session forward 3f2a 5432:15432
  codesandbox session forward 3f2a 8000 --listen /tmp/web.sock";
/// Most connections at one time; more wait to be taken.
const CONNECTIONS: usize = 256;

/// Arguments of `codesandbox session forward`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    /// Port in the session, and that here where it is another; 0 is any that is free
    #[arg(value_name = "PORT[:LOCAL]", value_parser = ports)]
    ports: Ports,
    /// Address to listen on here
    #[arg(long, value_name = "ADDRESS", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    bind: IpAddr,
    /// Listen on this Unix socket in place of a port
    #[arg(long, value_name = "PATH", conflicts_with = "bind", value_hint = clap::ValueHint::FilePath)]
    listen: Option<PathBuf>,
}

/// Listens until Ctrl-C.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let session = link.session(&arguments.id).await?;
    // Here rather than at the first connection: an id that is none, a session that is gone.
    let _there: serde_json::Value = link.get(&session).await?;
    let carrier = Carrier {
        link: link.clone(),
        path: format!("{session}/ports/{}", arguments.ports.inside),
        places: Arc::new(Semaphore::new(CONNECTIONS)),
    };
    let (mut interrupt, mut terminate) = (listen_for(SignalKind::interrupt())?, listen_for(SignalKind::terminate())?);
    let listener = Listener::open(arguments).await?;
    print(format!("{}\n", listener.name)).await?;
    let status = tokio::select! {
        error = listener.serve(&carrier) => return Err(error),
        _ = interrupt.recv() => exit::INTERRUPTED,
        _ = terminate.recv() => exit::TERMINATED,
    };
    Ok(status)
}

fn listen_for(kind: SignalKind) -> Result<tokio::signal::unix::Signal, SessionError> {
    signal(kind).map_err(|error| SessionError::Said(format!("signals: {error}")))
}

/// What listens here.
struct Listener {
    /// Address for people, and for scripts.
    name: String,
    kind: ListenerKind,
}

enum ListenerKind {
    Tcp(TcpListener),
    /// The path is taken away at the end.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    async fn open(arguments: &Arguments) -> Result<Self, SessionError> {
        if let Some(path) = &arguments.listen {
            let failed = |error| SessionError::File { path: path.clone(), error };
            remove_stale(path).map_err(failed)?;
            let listener = UnixListener::bind(path).map_err(failed)?;
            return Ok(Self { name: path.display().to_string(), kind: ListenerKind::Unix(listener, path.clone()) });
        }
        let address = SocketAddr::new(arguments.bind, arguments.ports.local);
        let failed = |error| SessionError::Said(format!("{address}: {error}"));
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let name = listener.local_addr().map_err(failed)?.to_string();
        Ok(Self { name, kind: ListenerKind::Tcp(listener) })
    }

    /// Takes connections; ends only by an error.
    async fn serve(&self, carrier: &Carrier) -> SessionError {
        loop {
            let Ok(place) = carrier.places.clone().acquire_owned().await else {
                return SessionError::Said("no connection can be taken any more".to_owned());
            };
            let (carrier, taken) = (carrier.clone(), self.take(carrier).await);
            match taken {
                Ok(work) => drop(tokio::spawn(async move {
                    if let Err(error) = work.await {
                        complain(&format!("{}: {error}", carrier.path));
                    }
                    drop(place);
                })),
                Err(error) => return SessionError::Said(format!("{}: {error}", self.name)),
            }
        }
    }

    async fn take(&self, carrier: &Carrier) -> std::io::Result<Carrying> {
        let carrier = carrier.clone();
        Ok(match &self.kind {
            ListenerKind::Tcp(listener) => {
                let (stream, _) = accepted(|| listener.accept()).await?;
                // Bytes of a conversation are not to wait for more of them.
                stream.set_nodelay(true).ok();
                Box::pin(async move { carrier.carry(stream).await })
            }
            ListenerKind::Unix(listener, _) => {
                let (stream, _) = accepted(|| listener.accept()).await?;
                Box::pin(async move { carrier.carry(stream).await })
            }
        })
    }
}

/// Accepts; what only concerns one connection is no reason to end.
async fn accepted<T, F: Future<Output = std::io::Result<T>>>(accept: impl Fn() -> F) -> std::io::Result<T> {
    loop {
        match accept().await {
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionAborted => {}
            other => return other,
        }
    }
}

type Carrying = std::pin::Pin<Box<dyn Future<Output = Result<(), ClientError>> + Send>>;

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerKind::Unix(_, path) = &self.kind {
            std::fs::remove_file(path).ok();
        }
    }
}

/// A socket that nobody listens on any more is in the way; anything else is somebody's.
fn remove_stale(path: &Path) -> std::io::Result<()> {
    let is_socket = path.symlink_metadata().is_ok_and(|known| known.file_type().is_socket());
    let refused = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionRefused;
    if is_socket && std::os::unix::net::UnixStream::connect(path).is_err_and(|error| refused(&error)) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// Carries connections into the session.
#[derive(Clone)]
struct Carrier {
    link: Link,
    /// Of the port, in the API.
    path: String,
    places: Arc<Semaphore>,
}

impl Carrier {
    /// One connection, until both sides have ended. That one of them broke it off is no news.
    async fn carry(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), ClientError> {
        let upgraded = self.link.connect().await?.upgrade(&self.path, "tcp").await?;
        drop(copy_bidirectional(&mut stream, &mut TokioIo::new(upgraded)).await);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_socket_is_removed_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let (file, live, stale) =
            (directory.path().join("file"), directory.path().join("live"), directory.path().join("stale"));
        std::fs::write(&file, "x").unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&live).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
        for path in [&file, &live, &stale] {
            remove_stale(path).unwrap();
        }
        assert!(file.exists() && live.exists() && !stale.exists());
    }
}
