//! Long bodies between threads that read and write files and the connection, piece by piece.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Bytes, Frame};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use super::SessionError;
use super::output::show;
use super::wire::Stream;
use crate::client::{Body, ClientError, Download};

/// Longest piece.
const PIECE: usize = 64 << 10;
/// Pieces that wait for whoever is slower.
const WAITING: usize = 16;

/// A body that a thread writes, and the thread. Where the thread fails the body breaks off, so that
/// nobody takes a part for the whole.
pub(super) fn written_by(
    work: impl FnOnce(Writer) -> Result<(), SessionError> + Send + 'static,
) -> (Body, JoinHandle<Result<(), SessionError>>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let worker = tokio::task::spawn_blocking(move || {
        let done = work(Writer { sender: sender.clone() });
        if done.is_err() {
            drop(sender.blocking_send(Err(io::ErrorKind::BrokenPipe.into())));
        }
        done
    });
    let frames = ReceiverStream::new(receiver).map(|piece| piece.map(Frame::data));
    (BodyExt::boxed_unsync(StreamBody::new(frames)), worker)
}

/// A body that is a file, or standard input.
pub(super) fn reading(source: Source) -> (Body, JoinHandle<Result<(), SessionError>>) {
    written_by(move |mut writer| {
        let (path, copied) = match source {
            Source::Stdin => ("standard input".into(), io::copy(&mut io::stdin().lock(), &mut writer)),
            Source::File(path, mut file) => (path, io::copy(&mut file, &mut writer)),
        };
        copied.map(drop).map_err(|error| SessionError::File { path, error })
    })
}

/// What a body is read from.
pub(super) enum Source {
    Stdin,
    File(PathBuf, File),
}

impl Source {
    /// A file, or standard input where it is `-`.
    pub(super) fn open(path: &Path) -> Result<Self, SessionError> {
        if path == Path::new("-") {
            return Ok(Self::Stdin);
        }
        match File::open(path) {
            Ok(file) => Ok(Self::File(path.to_owned(), file)),
            Err(error) => Err(SessionError::File { path: path.to_owned(), error }),
        }
    }
}

/// Waits for an answer and for the thread that made the body; the thread's failure is the better told.
pub(super) async fn both<T>(
    answer: impl Future<Output = Result<T, ClientError>>,
    worker: JoinHandle<Result<(), SessionError>>,
) -> Result<T, SessionError> {
    let answer = answer.await;
    if let Err(ClientError::Refused(refusal)) = answer {
        // The service has looked at enough: the thread stops with the body.
        return Err(ClientError::Refused(refusal).into());
    }
    joined(worker).await?;
    Ok(answer?)
}

/// What a thread gave.
pub(super) async fn joined<T>(worker: JoinHandle<Result<T, SessionError>>) -> Result<T, SessionError> {
    match worker.await {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(error) => Err(SessionError::Said(error.to_string())),
    }
}

/// Where a thread writes a body.
pub(super) struct Writer {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = bytes.get(..bytes.len().min(PIECE)).unwrap_or_default();
        let sent = self.sender.blocking_send(Ok(Bytes::copy_from_slice(piece)));
        sent.map(|()| piece.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives an answer's body to a thread that reads it.
pub(super) async fn read_by<T: Send + 'static>(
    body: Download,
    work: impl FnOnce(Reader) -> Result<T, SessionError> + Send + 'static,
) -> Result<T, SessionError> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let worker = tokio::task::spawn_blocking(move || work(Reader { receiver, rest: Bytes::new() }));
    let fed = feed(body, &sender).await;
    if fed.is_err() {
        drop(sender.send(Err(io::ErrorKind::UnexpectedEof.into())).await);
    }
    drop(sender);
    let done = joined(worker).await;
    fed?;
    done
}

async fn feed(mut body: Download, sender: &mpsc::Sender<io::Result<Bytes>>) -> Result<(), ClientError> {
    while let Some(data) = body.next().await? {
        if sender.send(Ok(data)).await.is_err() {
            // The thread has given up, and says why.
            return Ok(());
        }
    }
    Ok(())
}

/// Where a thread reads an answer's body.
pub(super) struct Reader {
    receiver: mpsc::Receiver<io::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.rest = piece?,
                None => return Ok(0),
            }
        }
        let piece = self.rest.split_to(self.rest.len().min(buffer.len()));
        if let Some(target) = buffer.get_mut(..piece.len()) {
            target.copy_from_slice(&piece);
        }
        Ok(piece.len())
    }
}

/// Writes an answer's body to standard output.
pub(super) async fn to_stdout(mut body: Download) -> Result<(), SessionError> {
    while let Some(data) = body.next().await? {
        show(Stream::Stdout, data.to_vec()).await?;
    }
    Ok(())
}

/// Writes an answer's body to a file, or to standard output where it is `-`. A new file of which only a
/// part came is taken away again.
pub(super) async fn to_file(body: Download, path: &Path) -> Result<(), SessionError> {
    if path == Path::new("-") {
        return to_stdout(body).await;
    }
    let path = path.to_owned();
    let existed = path.exists();
    let target = path.clone();
    let copied = read_by(body, move |mut reader| {
        let failed = |error| SessionError::File { path: path.clone(), error };
        let mut file = File::create(&path).map_err(failed)?;
        io::copy(&mut reader, &mut file).map_err(failed)?;
        Ok(())
    })
    .await;
    if copied.is_err() && !existed {
        drop(std::fs::remove_file(target));
    }
    copied
}
