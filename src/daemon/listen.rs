//! The sockets that clients connect to: handed over by systemd, or made here.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::stat::{Mode, umask};

use crate::config::Config;
use crate::config::tcp::TcpError;

/// Variable with the names of the sockets that are handed over; sd_listen_fds_with_names(3).
const NAMES: &str = "LISTEN_FDNAMES";
/// Name of the socket for metrics.
const METRICS: &str = "metrics";
/// Name of the socket for those who come over TCP.
const TCP: &str = "tcp";

/// Seconds of silence after which a host is asked whether it is still there, between such questions, and how many
/// go unanswered until its connections are closed: a run whose client is gone ends then.
const TCP_SILENCE: (u32, u32, u32) = (30, 10, 3);
/// Name of the socket for clients of Judge0.
const JUDGE0: &str = "judge0";

/// Why there is no socket to listen on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// What systemd handed over can't be used.
    #[error("the socket that was handed over: {0}")]
    HandedOver(std::io::Error),
    /// More than one socket for the same purpose was handed over.
    #[error(
        "two sockets for {purpose} were handed over; FileDescriptorName=metrics and FileDescriptorName=tcp tell the others"
    )]
    Ambiguous {
        /// What both are for.
        purpose: &'static str,
    },
    /// Another daemon listens there.
    #[error("{path}: somebody listens there already", path = .0.display())]
    InUse(PathBuf),
    /// There is something else than a socket.
    #[error("{path}: there is something that is no socket, and stays", path = .0.display())]
    NoSocket(PathBuf),
    /// Nobody may listen there.
    #[error(transparent)]
    Refused(#[from] TcpError),
    /// An address can't be listened on.
    #[error("{address}: {error}")]
    Address {
        /// Which.
        address: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
    /// It could not be made.
    #[error("{path}: {error}", path = path.display())]
    Path {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A socket that listens. One that was made here goes away with it.
#[derive(Debug)]
pub(crate) struct Listener {
    /// The socket.
    pub(super) socket: Socket,
    made: Option<PathBuf>,
}

/// A socket of either kind.
#[derive(Debug)]
pub(super) enum Socket {
    /// The kernel names those who connect.
    Unix(tokio::net::UnixListener),
    /// Nobody names them.
    Tcp(tokio::net::TcpListener),
}

#[cfg(feature = "client")]
impl Listener {
    /// The next connection to a socket of [`one`].
    pub(crate) async fn accept(&self) -> std::io::Result<tokio::net::UnixStream> {
        match &self.socket {
            Socket::Unix(socket) => socket.accept().await.map(|(stream, _)| stream),
            Socket::Tcp(_) => Err(ErrorKind::Unsupported.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // The error is that somebody else has removed it.
            drop(std::fs::remove_file(path));
        }
    }
}

/// The sockets that there are.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    /// For clients.
    pub(super) api: Option<Listener>,
    /// For those that may see the metrics and nothing else.
    pub(super) metrics: Option<Listener>,
    /// For clients that show a token.
    pub(super) tcp: Option<Listener>,
    /// For clients of Judge0.
    pub(super) judge0: Option<Listener>,
}

/// Where to listen for what is not handed over.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Places<'a> {
    /// For clients.
    pub(super) api: Option<&'a Path>,
    /// For those that may see the metrics.
    pub(super) metrics: Option<&'a Path>,
    /// For clients of Judge0.
    pub(super) judge0: Option<&'a Path>,
    /// For clients that show a token, before what the configuration says.
    pub(super) tcp: Option<SocketAddr>,
}

/// The sockets that were handed over, else those in these places. Needs a tokio runtime.
pub(super) fn take(places: Places<'_>, config: &Config) -> Result<Listeners, ListenError> {
    // Read first: whoever takes the sockets may clear the environment.
    let names = std::env::var(NAMES).unwrap_or_default();
    let mut taken = handed_over(ListenFd::from_env(), &names, config)?;
    if taken.api.is_none() {
        taken.api = places.api.map(bind).transpose()?;
    }
    if taken.metrics.is_none() {
        taken.metrics = places.metrics.map(bind).transpose()?;
    }
    if taken.tcp.is_none() {
        taken.tcp = places.tcp.or(config.tcp.address).map(|address| bind_tcp(address, config)).transpose()?;
    }
    if taken.judge0.is_none() {
        taken.judge0 = places.judge0.map(bind).transpose()?;
    }
    Ok(taken)
}

/// The socket of a program that has but one, of Unix: what was handed over, else on this path. Needs a tokio runtime.
#[cfg(feature = "client")]
pub(crate) fn one(path: Option<&Path>) -> Result<Option<Listener>, ListenError> {
    let mut sockets = ListenFd::from_env();
    let mut taken = None;
    for index in 0..sockets.len() {
        if let Some(socket) = sockets.take_unix_listener(index).map_err(ListenError::HandedOver)?
            && taken.replace(adopt(socket, None).map_err(ListenError::HandedOver)?).is_some()
        {
            return Err(ListenError::Ambiguous { purpose: "clients" });
        }
    }
    match taken {
        Some(taken) => Ok(Some(taken)),
        None => path.map(bind).transpose(),
    }
}

/// Tells the sockets apart by their names, which stand between colons in their order. One without
/// a name, or with any other than [`METRICS`], [`TCP`] and [`JUDGE0`], is the API's: systemd names a socket after its
/// unit where the unit says nothing. One of TCP is never the API's, whatever its name.
fn handed_over(mut sockets: ListenFd, names: &str, config: &Config) -> Result<Listeners, ListenError> {
    let mut taken = Listeners::default();
    let mut names = names.split(':');
    for index in 0..sockets.len() {
        let (place, purpose) = match names.next() {
            Some(METRICS) => (&mut taken.metrics, "metrics"),
            Some(TCP) => {
                let Some(socket) = sockets.take_tcp_listener(index).map_err(ListenError::HandedOver)? else {
                    continue;
                };
                if taken.tcp.replace(adopt_tcp(socket, config)?).is_some() {
                    return Err(ListenError::Ambiguous { purpose: "TCP" });
                }
                continue;
            }
            Some(JUDGE0) => (&mut taken.judge0, "Judge0"),
            _ => (&mut taken.api, "the API"),
        };
        let Some(socket) = sockets.take_unix_listener(index).map_err(ListenError::HandedOver)? else {
            continue;
        };
        if place.replace(adopt(socket, None).map_err(ListenError::HandedOver)?).is_some() {
            return Err(ListenError::Ambiguous { purpose });
        }
    }
    Ok(taken)
}

fn bind(path: &Path) -> Result<Listener, ListenError> {
    let failed = |error| ListenError::Path { path: path.to_owned(), error };
    remove_stale(path)?;
    // The mode has to be right from the first moment on: between bind and chmod anybody could
    // connect. The group is that of the directory or of the process, as the administrator has it.
    let before = umask(Mode::from_bits_truncate(0o117));
    let bound = UnixListener::bind(path);
    umask(before);
    adopt(bound.map_err(failed)?, Some(path)).map_err(failed)
}

/// Removes a socket that a daemon left behind which is no more; nothing else.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |error| ListenError::Path { path: path.to_owned(), error };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ListenError::InUse(path.to_owned())),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path).map_err(failed),
        Err(error) => Err(failed(error)),
    }
}

fn adopt(socket: UnixListener, made: Option<&Path>) -> std::io::Result<Listener> {
    // What is handed over comes without it, and children must not inherit it.
    fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    socket.set_nonblocking(true)?;
    let socket = Socket::Unix(tokio::net::UnixListener::from_std(socket)?);
    Ok(Listener { socket, made: made.map(Path::to_owned) })
}

fn bind_tcp(address: SocketAddr, config: &Config) -> Result<Listener, ListenError> {
    // Before the port is there for anybody.
    config.tcp.permits(address, &config.clients)?;
    let bound = TcpListener::bind(address).map_err(|error| ListenError::Address { address, error })?;
    adopt_tcp(bound, config)
}

fn adopt_tcp(socket: TcpListener, config: &Config) -> Result<Listener, ListenError> {
    config.tcp.permits(socket.local_addr().map_err(ListenError::HandedOver)?, &config.clients)?;
    let adopted = (|| {
        fcntl(socket.as_fd(), FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
        // What is accepted has these from the socket that listens; tcp(7).
        let (idle, interval, count) = TCP_SILENCE;
        setsockopt(&socket, sockopt::KeepAlive, &true)?;
        setsockopt(&socket, sockopt::TcpKeepIdle, &idle)?;
        setsockopt(&socket, sockopt::TcpKeepInterval, &interval)?;
        setsockopt(&socket, sockopt::TcpKeepCount, &count)?;
        socket.set_nonblocking(true)?;
        tokio::net::TcpListener::from_std(socket)
    })();
    Ok(Listener { socket: Socket::Tcp(adopted.map_err(ListenError::HandedOver)?), made: None })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn a_socket_is_for_owner_and_group_and_goes_away_with_its_listener() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let listener = bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o660);
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        bind(&path).unwrap();
    }

    #[tokio::test]
    async fn a_socket_that_is_served_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("api.sock");
        let _other = UnixListener::bind(&path).unwrap();
        assert!(matches!(bind(&path), Err(ListenError::InUse(_))));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn what_is_no_socket_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "mine").unwrap();
        assert!(matches!(bind(&path), Err(ListenError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
