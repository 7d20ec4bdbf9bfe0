//! What a program printed last, in a memory file that survives the daemon.
//!
//! A [`Pump`] moves bytes from the program's pipe to the end of the file. The place of a byte in the
//! file is its sequence number, and the file's own offset is the number of the next one: splice(2)
//! takes bytes out of the pipe, writes them and advances the offset in one call, which a kill cannot
//! divide. The launcher holds duplicates of pipe and file; whoever gets them from it after the daemon
//! died goes on at exactly the next byte.
//!
//! Only the last bytes are kept. Pages before them are given back to the kernel, while the numbers go
//! on; which bytes are there follows from the offset and needs no record of its own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;

use tokio::sync::watch;

use crate::sys::{self, pipe};

mod pump;
#[cfg(test)]
pub(super) mod tests;

pub use pump::{Pump, Staging};

/// The most that is moved, and that a follower is handed, at once: what a pipe holds.
pub const PIECE_BYTES: usize = 64 << 10;

/// The unit in which memory is given back.
const PAGE_BYTES: u64 = 4 << 10;

/// Memory is given back in strides, since each time costs a call.
const STRIDE_BYTES: u64 = 64 << 10;

/// The end of one stream of output.
#[derive(Debug)]
pub struct Log {
    memory: File,
    /// How many bytes are kept.
    bytes: u64,
    position: watch::Sender<Position>,
}

/// How far a log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The first byte that is kept.
    pub first: u64,
    /// The byte that comes next: how many there were in all.
    pub next: u64,
    /// Set when nothing more comes; an error where that is because the stream could not be moved.
    pub end: Option<sys::Result<()>>,
}

/// Bytes of a log that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Number of the first of them.
    pub sequence: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl Piece {
    /// Number of the byte after the last.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.sequence + self.bytes.len() as u64
    }
}

impl Log {
    /// An empty log that keeps the last `bytes` bytes. It takes at most that much memory and 192 KiB.
    ///
    /// # Errors
    /// As memfd_create(2).
    pub fn new(bytes: u64) -> io::Result<Self> {
        let memory = pipe::memory_file(c"codesandbox-output").map_err(|error| error.errno)?;
        Self::adopt(memory, bytes)
    }

    /// The log that another process has filled so far, and that is filled by nobody now: to be told
    /// from the fact that it has closed its connection, which is after its last call.
    ///
    /// # Errors
    /// As lseek(2), fstat(2) and fallocate(2).
    pub fn adopt(memory: OwnedFd, bytes: u64) -> io::Result<Self> {
        let first_and_next = || {
            let next = pipe::offset(memory.as_fd())?;
            // Where it kept fewer bytes before, the others are holes now, and not what was printed.
            // Its pages lie without a gap before the offset, so that their number tells the first.
            let there = next.next_multiple_of(PAGE_BYTES).saturating_sub(pipe::occupied(memory.as_fd())?);
            let first = next.saturating_sub(bytes).max(there.min(next));
            give_back(memory.as_fd(), first)?;
            Ok((first, next))
        };
        let (first, next) = first_and_next().map_err(|error: sys::Errno| error.errno)?;
        let position = watch::Sender::new(Position { first, next, end: None });
        Ok(Self { memory: memory.into(), bytes, position })
    }

    /// The memory file, whose duplicate the launcher keeps. Nobody but a [`Pump`] may move its offset.
    #[must_use]
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.memory.as_fd()
    }

    /// How far it has come.
    #[must_use]
    pub fn position(&self) -> Position {
        *self.position.borrow()
    }

    /// Number of the first byte that is kept.
    #[must_use]
    pub fn first(&self) -> u64 {
        self.position().first
    }

    /// Number of the byte that comes next, which is how many there were in all.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.position().next
    }

    /// Tells whenever the position changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Position> {
        self.position.subscribe()
    }

    /// At most `most` bytes from number `from` on. Where they are kept no more, the piece begins later;
    /// it is empty where there are none yet, or none any more.
    ///
    /// # Errors
    /// As pread(2); EIO where memory that was swapped out can't be read back.
    pub fn read(&self, from: u64, most: usize) -> io::Result<Piece> {
        let Position { first, next, .. } = self.position();
        let from = from.max(first);
        let length = usize::try_from(next.saturating_sub(from)).unwrap_or(usize::MAX).min(most);
        let mut piece = Piece { sequence: from, bytes: vec![0; length] };
        self.memory.read_exact_at(&mut piece.bytes, from)?;
        // The position moves on before memory is given back: what may have been overtaken while it was
        // read, and read as zeros, lies before the position that is seen now.
        let overtaken = self.first().saturating_sub(from);
        if overtaken > 0 {
            piece.bytes.drain(..usize::try_from(overtaken).unwrap_or(usize::MAX).min(length));
            piece.sequence += overtaken;
        }
        Ok(piece)
    }

    /// Nothing more comes: for a log that is kept after its pipe is gone.
    pub fn finish(&self) {
        self.end(Ok(()));
    }

    /// Nothing more comes, for this reason. The first reason stays.
    fn end(&self, end: sys::Result<()>) {
        self.position.send_if_modified(|position| {
            let is_first = position.end.is_none();
            position.end.get_or_insert(end);
            is_first
        });
    }

    /// Moves what a pipe holds to the end of the log; 0 where no more can come.
    fn take(&self, from: BorrowedFd<'_>) -> sys::Result<usize> {
        let count = pipe::splice(from, self.descriptor(), PIECE_BYTES)?;
        if count > 0 {
            let mut stale = None;
            self.position.send_modify(|position| {
                position.next += count as u64;
                let first = position.next.saturating_sub(self.bytes).max(position.first);
                stale = (first / STRIDE_BYTES > position.first / STRIDE_BYTES).then_some(first);
                position.first = first;
            });
            if let Some(first) = stale {
                give_back(self.descriptor(), first)?;
            }
        }
        Ok(count)
    }
}

/// Gives the memory of all pages before a byte back to the kernel. Where there is none any more, this
/// costs next to nothing, so nobody has to remember how much was given back before.
fn give_back(memory: BorrowedFd<'_>, first: u64) -> sys::Result<()> {
    let stale = first - first % PAGE_BYTES;
    if stale == 0 { Ok(()) } else { pipe::punch_hole(memory, 0, stale) }
}
