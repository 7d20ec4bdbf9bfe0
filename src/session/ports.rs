//! Ports that programs of a session listen at: a worker connects inside the sandbox, and hands the
//! connection over.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::sys::socket::{SockType, getsockopt, sockopt};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::{TcpStream, UnixStream};

use crate::sys::socket;

/// Asks a worker for a connection to a port.
pub(super) async fn connect(mut worker: UnixStream, port: u16) -> io::Result<TcpStream> {
    worker.write_all(&port.to_le_bytes()).await?;
    let mut answer = [0; 8];
    let message = worker
        .async_io(Interest::READABLE, || {
            socket::receive(worker.as_fd(), &mut answer).map_err(|error| socket::would_block(error.errno))
        })
        .await?;
    match (answer.first(), message.descriptors.into_iter().next()) {
        (Some(0), Some(connection)) if message.length == 1 => adopt(connection),
        _ => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Makes sure that it is what it is said to be: it comes out of the sandbox.
fn adopt(connection: OwnedFd) -> io::Result<TcpStream> {
    let is_stream = getsockopt(&connection, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    let connection = std::net::TcpStream::from(connection);
    // Fails for whatever is no internet socket.
    if !is_stream || connection.peer_addr().is_err() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    connection.set_nonblocking(true)?;
    TcpStream::from_std(connection)
}
