//! The streams of a program: what it prints is read as far as its limit, what it is to read is
//! written, and what it leaves behind is taken out of the backend's pipe.

use std::io::PipeReader;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::{Notify, mpsc};

use super::attached::Attached;
use super::{Fault, Item};
use crate::backend;
use crate::job::{Event, OmittedFile, OutputFile};
use crate::plan::{Found, Omission};

/// How much is read at once: what a pipe holds.
pub(super) const CHUNK_BYTES: usize = 64 << 10;

/// What a program printed.
#[derive(Debug)]
pub(super) struct Captured {
    /// As far as the limit.
    pub(super) bytes: Vec<u8>,
    /// Whether there was more.
    pub(super) cut: bool,
    /// Of what goes to another program: from when on it has got nothing more, by the monotonic clock; absent where it
    /// was that one that would have no more.
    pub(super) ended_us: Option<u64>,
}

/// Reads a stream to its end and keeps what is within the limit; what comes after it is read and
/// dropped, so that the program can be ended in peace.
pub(super) async fn capture(
    reader: PipeReader,
    limit: u64,
    over: &Notify,
    events: &mpsc::Sender<Item>,
    event: fn(Vec<u8>) -> Event,
) -> Result<Captured, Fault> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut reader = receiver(reader)?;
    let mut kept = Captured { bytes: Vec::new(), cut: false, ended_us: None };
    let mut chunk = vec![0; CHUNK_BYTES];
    loop {
        let count = reader.read(&mut chunk).await.map_err(|error| Fault::Internal(error.to_string()))?;
        if count == 0 {
            return Ok(kept);
        }
        let fits = count.min(limit - kept.bytes.len());
        let new = chunk.get(..fits).unwrap_or_default();
        if !new.is_empty() {
            kept.bytes.extend_from_slice(new);
            // A client that does not listen any more has cancelled the job; reading goes on.
            events.send(Ok(event(new.to_vec()))).await.ok();
        }
        if fits < count {
            kept.cut = true;
            over.notify_one();
        }
    }
}

/// Where a program's standard input comes from.
#[derive(Debug)]
pub(super) enum Input<'a> {
    /// All of it is there.
    Whole(&'a [u8]),
    /// It comes while the program runs, and signals with it.
    Attached(&'a mut Attached),
}

/// Bytes of standard input, there or to come.
#[derive(Debug)]
pub(super) enum Bytes<'a> {
    Whole(&'a [u8]),
    Attached(Pieces<'a>),
}

impl<'a> Input<'a> {
    pub(super) const NONE: Input<'static> = Input::Whole(&[]);

    /// What goes to standard input, and what goes to the process.
    pub(super) fn split(self) -> (Bytes<'a>, Option<&'a mut mpsc::Receiver<i32>>) {
        match self {
            Self::Whole(bytes) => (Bytes::Whole(bytes), None),
            Self::Attached(Attached { input, signals, has_taken, is_a_programs }) => {
                (Bytes::Attached(Pieces { input, has_taken, is_a_programs: *is_a_programs }), Some(signals))
            }
        }
    }
}

/// Input that comes while the program runs.
#[derive(Debug)]
pub(super) struct Pieces<'a> {
    input: &'a mut mpsc::Receiver<Vec<u8>>,
    /// Whether some have come.
    has_taken: &'a mut bool,
    is_a_programs: bool,
}

/// Writes all of standard input, or as much of it as the program takes before it is gone; says whether the program
/// has left something of it unread.
pub(super) async fn feed(writer: std::io::PipeWriter, bytes: Bytes<'_>, gone: &Notify) -> bool {
    let Ok(mut writer) = pipe::Sender::from_owned_fd(OwnedFd::from(writer)) else {
        return true;
    };
    // A program that ends, or closes its input, before it has read all is no error.
    let mut took_all = match bytes {
        Bytes::Whole(bytes) => writer.write_all(bytes).await.is_ok(),
        Bytes::Attached(pieces) => {
            let took_all = pass(&mut writer, pieces.input, pieces.has_taken, gone).await;
            if pieces.is_a_programs {
                // Who still sends learns that nobody reads any more.
                pieces.input.close();
            }
            took_all && pieces.input.is_empty()
        }
    };
    took_all &= backend::unread(writer.as_fd()).is_ok_and(|bytes| bytes == 0);
    !took_all
}

/// Writes pieces for as long as some come and somebody takes them; false where one was not taken.
async fn pass(
    writer: &mut pipe::Sender,
    pieces: &mut mpsc::Receiver<Vec<u8>>,
    has_taken: &mut bool,
    gone: &Notify,
) -> bool {
    let gone = gone.notified();
    tokio::pin!(gone);
    loop {
        let piece = tokio::select! {
            () = &mut gone => return true,
            piece = pieces.recv() => piece,
        };
        let Some(piece) = piece else { return true };
        *has_taken = true;
        if writer.write_all(&piece).await.is_err() {
            return false;
        }
    }
}

pub(super) fn receiver(reader: PipeReader) -> Result<pipe::Receiver, Fault> {
    pipe::Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(|error| Fault::Internal(error.to_string()))
}

/// Takes the files out of the pipe that [`crate::backend::Sandbox::collect`] fills.
pub(super) async fn take_files(
    reader: PipeReader,
    most_bytes: u64,
) -> Result<(Vec<OutputFile>, Vec<OmittedFile>), Fault> {
    let malformed = || Fault::Internal("files were handed out in a form that makes no sense".to_owned());
    let failed = |error: std::io::Error| Fault::Internal(error.to_string());
    let mut reader = receiver(reader)?;
    let (mut files, mut omitted, mut left) = (Vec::new(), Vec::new(), most_bytes);
    loop {
        let length = usize::try_from(reader.read_u32_le().await.map_err(failed)?).map_err(|_| malformed())?;
        if length > CHUNK_BYTES {
            return Err(malformed());
        }
        let mut header = vec![0; length];
        reader.read_exact(&mut header).await.map_err(failed)?;
        match postcard::from_bytes(&header).map_err(|_| malformed())? {
            Found::End => return Ok((files, omitted)),
            Found::Directory { .. } | Found::Link { .. } => return Err(malformed()),
            Found::Omitted { path, reason } => omitted.push(OmittedFile { path, reason: describe(reason).to_owned() }),
            Found::File { path, size, executable } => {
                left = left.checked_sub(size).ok_or_else(malformed)?;
                let mut content = vec![0; usize::try_from(size).map_err(|_| malformed())?];
                reader.read_exact(&mut content).await.map_err(failed)?;
                files.push(OutputFile { path, content, executable });
            }
        }
    }
}

fn describe(reason: Omission) -> &'static str {
    match reason {
        Omission::NotRegular => "not a regular file",
        Omission::TooLarge => "larger than what is left of the limit",
        Omission::TooMany => "more files than the limit",
        Omission::TooDeep => "in a directory that lies too deep",
        Omission::TooLate => "more directory entries than could be looked at in time",
        Omission::Unreadable => "could not be read",
        Omission::EmptyDirectory => "a directory that has nothing in it",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn take(bytes: &[u8]) -> Result<(Vec<OutputFile>, Vec<OmittedFile>), Fault> {
        let (reader, mut writer) = std::io::pipe().unwrap();
        writer.write_all(bytes).unwrap();
        drop(writer);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
        runtime.block_on(take_files(reader, 1024))
    }

    fn framed(found: &Found, content: &[u8]) -> Vec<u8> {
        let header = postcard::to_allocvec(found).unwrap();
        let length = u32::try_from(header.len()).unwrap().to_le_bytes();
        [&length, &header[..], content].concat()
    }

    #[test]
    fn files_come_out_byte_for_byte() {
        for executable in [false, true] {
            let file = Found::File { path: b"\xff\n".to_vec(), size: 3, executable };
            let bytes = [framed(&file, b"\0\x01\xfe"), framed(&Found::End, b"")].concat();
            let (files, omitted) = take(&bytes).unwrap();
            assert_eq!(files, [OutputFile { path: b"\xff\n".to_vec(), content: b"\0\x01\xfe".to_vec(), executable }]);
            assert!(omitted.is_empty());
        }
    }

    #[test]
    fn more_bytes_than_were_allowed_are_a_fault() {
        let file = Found::File { path: b"x".to_vec(), size: u64::MAX, executable: false };
        assert!(matches!(take(&framed(&file, b"")), Err(Fault::Internal(_))));
    }

    proptest! {
        #[test]
        fn a_pipe_full_of_anything_ends_in_a_result(bytes in prop::collection::vec(any::<u8>(), 0..4096)) {
            // It has no end mark, so it can't be taken for a whole.
            let taken = take(&bytes);
            prop_assert!(taken.is_err() || bytes.windows(5).any(|window| window == [1, 0, 0, 0, 2]));
        }
    }
}
