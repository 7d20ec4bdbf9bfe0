//! The program's streams: three pipes, or one terminal.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::cli::follow::{Sink, write};
use crate::sys::socket;

/// Longest piece that is passed on.
const PIECE: usize = 64 << 10;
/// Most that is passed on of what was printed when the program has ended: more than a pipe holds.
const REST: usize = 2 << 20;

/// One end that leads to the program. Needs a tokio runtime.
pub(super) fn end(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    socket::set_nonblocking(fd.as_fd()).map_err(|error| io::Error::from(error.errno))?;
    socket::watched(fd)
}

/// Passes on what the program prints until nobody has the other end any more, or, once the program has `ended`,
/// until there is nothing left: what it has left behind may hold its output for ever.
pub(super) async fn pass_on(from: AsyncFd<OwnedFd>, sink: Sink, mut ended: watch::Receiver<bool>) -> io::Result<()> {
    let mut rest = REST;
    loop {
        let mut piece = vec![0; PIECE];
        let over = *ended.borrow_and_update();
        let count = if over {
            match read(from.get_ref(), &mut piece) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // Somebody still prints who was left behind.
                Ok(count) if count > rest => return Ok(()),
                count => count?,
            }
        } else {
            tokio::select! {
                count = from.async_io(Interest::READABLE, |fd| read(fd, &mut piece)) => count?,
                _ = ended.changed() => continue,
            }
        };
        if count == 0 {
            return Ok(());
        }
        if over {
            rest -= count;
        }
        piece.truncate(count);
        write(sink, piece).await?;
    }
}

/// Writes a part of what waits to the program; the part is taken off.
pub(super) async fn give(to: &AsyncFd<OwnedFd>, waiting: &mut Vec<u8>) -> io::Result<()> {
    let count = to.async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, waiting)?)).await?;
    waiting.drain(..count);
    Ok(())
}

/// A terminal that nobody has open any more gives an error in place of an end.
fn read(fd: &OwnedFd, piece: &mut [u8]) -> io::Result<usize> {
    match nix::unistd::read(fd, piece) {
        Err(Errno::EIO) => Ok(0),
        count => Ok(count?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_leaves_behind_keeps_nobody_waiting() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (reader, writer) = std::io::pipe().unwrap();
        let (tell, told) = watch::channel(false);
        let passed = runtime.block_on(async {
            let passing = tokio::spawn(pass_on(end(reader.into()).unwrap(), Sink::Output, told));
            tell.send(true).unwrap();
            passing.await.unwrap()
        });
        passed.unwrap();
        drop(writer);
    }
}
