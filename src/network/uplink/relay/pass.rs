//! Bytes from one connection to another and back, without a copy: splice(2).

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe2;
use std::os::fd::AsRawFd;
use tokio::io::Interest;
use tokio::net::TcpStream;

use super::count_held_back;
use crate::network::uplink::bounds::CHUNK;
use crate::network::uplink::state::{Admission, State};
use crate::sys::pipe::splice;

/// Why a connection did not end in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::network::uplink) enum Cut {
    /// One side reset it, or is gone.
    Reset,
    /// No more bytes are allowed.
    Bound,
    /// The policy is another, and does not allow it.
    Policy,
}

/// Passes everything on until both sides have said that they are done, or one is gone.
pub(in crate::network::uplink) async fn pass(
    state: &State,
    inside: &TcpStream,
    outside: &TcpStream,
    to: SocketAddr,
    by: &Admission,
) -> Result<(), Cut> {
    let was_held_back = Cell::new(false);
    let hold_back = || {
        if !was_held_back.replace(true) {
            count_held_back(state, by, to);
        }
    };
    let both = async {
        tokio::try_join!(carry(state, inside, outside, &hold_back), carry(state, outside, inside, &hold_back))
    };
    tokio::select! {
        passed = both => passed.map(|_| ()),
        // Else a reset would go unseen by a direction that is done, or that waits for the other side.
        _ = inside.ready(Interest::ERROR) => Err(Cut::Reset),
        _ = outside.ready(Interest::ERROR) => Err(Cut::Reset),
        () = revoked(state, to, by) => Err(Cut::Policy),
    }
}

/// Waits until the policy is another that does not allow the connection.
pub(in crate::network::uplink) async fn revoked(state: &State, to: SocketAddr, by: &Admission) {
    let mut replaced = state.replaced();
    while state.still_admits(to, by) {
        if replaced.changed().await.is_err() {
            return;
        }
    }
}

/// One direction: what `from` sends goes to `to`, and its end as well.
async fn carry(state: &State, from: &TcpStream, to: &TcpStream, held_back: &impl Fn()) -> Result<(), Cut> {
    let (reader, writer) = pipe().map_err(|_| Cut::Reset)?;
    loop {
        from.readable().await.map_err(|_| Cut::Reset)?;
        let (most, waited) = state.bounds.allowance().await.ok_or(Cut::Bound)?;
        if waited {
            held_back();
        }
        let taken =
            from.try_io(Interest::READABLE, || Ok(splice(from.as_fd(), writer.as_fd(), most).map_err(|e| e.errno)?));
        let mut left = match taken {
            Ok(0) => {
                // Where the other side is gone already, nobody waits for the end.
                return shutdown(to.as_raw_fd(), Shutdown::Write).map_err(|_| Cut::Reset);
            }
            Ok(taken) => taken,
            Err(error) if is_for_now(&error) => continue,
            Err(_) => return Err(Cut::Reset),
        };
        state.bounds.spend(left);
        while left > 0 {
            to.writable().await.map_err(|_| Cut::Reset)?;
            match to.try_io(Interest::WRITABLE, || Ok(splice(reader.as_fd(), to.as_fd(), left).map_err(|e| e.errno)?)) {
                Ok(0) => return Err(Cut::Reset),
                Ok(given) => left -= given,
                Err(error) if is_for_now(&error) => {}
                Err(_) => return Err(Cut::Reset),
            }
        }
    }
}

/// Nothing there, no room, or a process that was stopped meanwhile.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// A pipe that holds a chunk where the kernel allows so much, else less; pipe(7).
fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (reader, writer) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let size = i32::try_from(CHUNK).unwrap_or(i32::MAX);
    fcntl(&writer, FcntlArg::F_SETPIPE_SZ(size)).map(drop).unwrap_or_default();
    Ok((reader, writer))
}
