//! Frames and chunks on the worker's socket.

use std::io::{BufWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::Stop;
use crate::plan::files::{
    CHUNK_BYTES, FRAME_BYTES, FileAnswer, FileError, FileReply, FileRequest, length_of, to_frame,
};

/// The connection to the daemon. A failure on it is [`Stop::Gone`], whatever it is.
pub(super) struct Wire {
    socket: UnixStream,
}

impl Wire {
    pub(super) fn new(socket: UnixStream) -> Self {
        Self { socket }
    }

    pub(super) fn request(&self) -> Result<FileRequest, Stop> {
        let mut prefix = [0; 4];
        self.read_exact(&mut prefix)?;
        let length = length_of(prefix, FRAME_BYTES).ok_or(FileError::Malformed)?;
        let mut bytes = vec![0; length];
        self.read_exact(&mut bytes)?;
        Ok(postcard::from_bytes(&bytes).map_err(|_| FileError::Malformed)?)
    }

    pub(super) fn answer(&self, answer: &FileAnswer) -> Result<(), Stop> {
        let frame = to_frame(answer).ok_or(Stop::Gone)?;
        (&self.socket).write_all(&frame).map_err(|_| Stop::Gone)
    }

    /// Where many answers go; they are sent when it is flushed or full.
    pub(super) fn answers(&self) -> Answers<'_> {
        Answers { out: BufWriter::new(&self.socket) }
    }

    /// Lets `fill` write what becomes chunks, and ends them whether it failed or not, so that its result can be
    /// told behind them.
    pub(super) fn download(&self, fill: impl FnOnce(&mut Sink<'_>) -> Result<(), Stop>) -> Result<(), Stop> {
        let mut sink = Sink { socket: &self.socket, chunk: vec![0; 4] };
        let filled = fill(&mut sink).and_then(|()| sink.flush().map_err(Stop::from));
        if matches!(filled, Err(Stop::Gone)) {
            return filled;
        }
        (&self.socket).write_all(&[0; 4]).map_err(|_| Stop::Gone)?;
        filled
    }

    /// What was uploaded, up to its end.
    pub(super) fn upload(&self) -> Upload<'_> {
        Upload { socket: &self.socket, left: 0, ended: false }
    }

    fn read_exact(&self, bytes: &mut [u8]) -> Result<(), Stop> {
        (&self.socket).read_exact(bytes).map_err(|_| Stop::Gone)
    }
}

impl AsFd for Wire {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Many answers, one after another.
pub(super) struct Answers<'a> {
    out: BufWriter<&'a UnixStream>,
}

impl Answers<'_> {
    pub(super) fn put(&mut self, reply: FileReply) -> Result<(), Stop> {
        let frame = to_frame::<FileAnswer>(&Ok(reply)).ok_or(FileError::TooLarge)?;
        self.out.write_all(&frame).map_err(|_| Stop::Gone)
    }

    pub(super) fn flush(&mut self) -> Result<(), Stop> {
        self.out.flush().map_err(|_| Stop::Gone)
    }
}

/// Takes bytes and sends chunks.
pub(super) struct Sink<'a> {
    socket: &'a UnixStream,
    /// Room for the length, and what is to be sent.
    chunk: Vec<u8>,
}

impl Write for Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let taken = bytes.len().min(CHUNK_BYTES + 4 - self.chunk.len());
        self.chunk.extend(bytes.iter().take(taken));
        if self.chunk.len() == CHUNK_BYTES + 4 {
            self.flush()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        // A chunk of no length would be the end.
        if self.chunk.len() > 4 {
            let length = u32::try_from(self.chunk.len() - 4).expect("a chunk has a limit");
            for (place, byte) in self.chunk.iter_mut().zip(length.to_le_bytes()) {
                *place = byte;
            }
            self.socket.write_all(&self.chunk).map_err(|_| Stop::Gone)?;
            self.chunk.truncate(4);
        }
        Ok(())
    }
}

/// The bytes of an upload. Its end is that of the upload; one that breaks off is an error.
pub(super) struct Upload<'a> {
    socket: &'a UnixStream,
    left: usize,
    ended: bool,
}

impl Read for Upload<'_> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        if bytes.is_empty() || self.ended {
            return Ok(0);
        }
        if self.left == 0 {
            let mut prefix = [0; 4];
            self.socket.read_exact(&mut prefix).map_err(|_| Stop::Refused(FileError::Incomplete))?;
            self.left = length_of(prefix, CHUNK_BYTES).ok_or(Stop::Refused(FileError::Malformed))?;
            self.ended = self.left == 0;
            if self.ended {
                return Ok(0);
            }
        }
        let most = bytes.len().min(self.left);
        let room = bytes.get_mut(..most).expect("it is no longer than that");
        match self.socket.read(room) {
            Ok(0) => Err(Stop::Refused(FileError::Incomplete).into()),
            Ok(count) => {
                self.left -= count;
                Ok(count)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => Err(error),
            Err(_) => Err(Stop::Gone.into()),
        }
    }
}
