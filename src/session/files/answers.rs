//! Reads what a worker sends: frames and chunks, each with a limit.

use std::io;

use futures_util::Stream;
use tokio::io::{AsyncRead, AsyncReadExt};

use super::FilesError;
use crate::plan::files::{CHUNK_BYTES, FRAME_BYTES, FileAnswer, FileEvent, FileReply, length_of};

/// Reads one answer.
pub(super) async fn reply<R: AsyncRead + Unpin>(reader: &mut R) -> Result<FileReply, FilesError> {
    let length = length(reader, FRAME_BYTES).await?;
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).await.map_err(FilesError::Broken)?;
    match postcard::from_bytes::<FileAnswer>(&bytes) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(FilesError::Unreadable),
    }
}

async fn length<R: AsyncRead + Unpin>(reader: &mut R, most: usize) -> Result<usize, FilesError> {
    let mut prefix = [0; 4];
    reader.read_exact(&mut prefix).await.map_err(FilesError::Broken)?;
    length_of(prefix, most).ok_or(FilesError::Unreadable)
}

/// Bytes that a worker hands out.
#[derive(Debug)]
pub struct Download<R> {
    reader: R,
    /// How many bytes are to come, where that was told.
    left: Option<u64>,
    over: bool,
}

impl<R: AsyncRead + Unpin> Download<R> {
    pub(super) fn new(reader: R, length: Option<u64>) -> Self {
        Self { reader, left: length, over: false }
    }

    /// The next bytes; `None` once all that was asked for is there. Not to be cancelled: what was read of a chunk
    /// would be lost.
    ///
    /// # Errors
    /// The worker's; after one, what came is not all. [`FilesError::Unreadable`] for another number of bytes than
    /// was told.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, FilesError> {
        if self.over {
            return Ok(None);
        }
        let next = self.advance().await;
        self.over = !matches!(next, Ok(Some(_)));
        next
    }

    async fn advance(&mut self) -> Result<Option<Vec<u8>>, FilesError> {
        let length = length(&mut self.reader, CHUNK_BYTES).await?;
        if length == 0 {
            return match reply(&mut self.reader).await? {
                FileReply::Done if self.left.is_none_or(|left| left == 0) => Ok(None),
                _ => Err(FilesError::Unreadable),
            };
        }
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(length as u64).ok_or(FilesError::Unreadable)?;
        }
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes).await.map_err(FilesError::Broken)?;
        Ok(Some(bytes))
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Vec<u8>, FilesError>> {
        futures_util::stream::try_unfold(self, |mut download| async move {
            Ok(download.next().await?.map(|bytes| (bytes, download)))
        })
    }
}

/// What changes in a directory.
#[derive(Debug)]
pub struct Events<S> {
    stream: S,
    /// What has come of the next answer, so that [`Events::next`] may be cancelled.
    come: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Events<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, come: Vec::new() }
    }

    /// The next event; `None` once the directory itself is gone. May be cancelled without a loss.
    ///
    /// # Errors
    /// [`FilesError::Broken`] where the worker has ended, as it does with the jail.
    pub async fn next(&mut self) -> Result<Option<FileEvent>, FilesError> {
        let length = match self.wait(4).await?.first_chunk() {
            Some(prefix) => length_of(*prefix, FRAME_BYTES).ok_or(FilesError::Unreadable)?,
            None => return Err(FilesError::Unreadable),
        };
        let bytes = self.wait(4 + length).await?.get(4..).unwrap_or_default();
        let answer = postcard::from_bytes::<FileAnswer>(bytes).map_err(|_| FilesError::Unreadable);
        self.come.clear();
        match answer?? {
            FileReply::Event(event) => Ok(Some(event)),
            FileReply::Done => Ok(None),
            _ => Err(FilesError::Unreadable),
        }
    }

    /// Waits for so many bytes of the next answer.
    async fn wait(&mut self, length: usize) -> Result<&[u8], FilesError> {
        while self.come.len() < length {
            let missing = u64::try_from(length - self.come.len()).unwrap_or(u64::MAX);
            // One call of read, which takes nothing where it is cancelled.
            let count = (&mut self.stream).take(missing).read_buf(&mut self.come).await.map_err(FilesError::Broken)?;
            if count == 0 {
                return Err(FilesError::Broken(io::ErrorKind::UnexpectedEof.into()));
            }
        }
        Ok(&self.come)
    }
}
