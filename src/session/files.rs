//! Files of a session, for the rest of the daemon: asks a worker inside the jail and reads its answers.
//!
//! The worker runs among the session's programs, so what it says is no more than bytes that came from
//! there: every length has a limit, and an answer that does not fit the question is an error.

mod answers;

use std::io;

use futures_util::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, split};

use crate::plan::FilePath;
use crate::plan::files::{
    CHUNK_BYTES, Content, Entry, FileError, FileReply, FileRequest, Hit, Place, SearchLimits, Span, to_frame,
};
use answers::reply;
pub use answers::{Download, Events};

/// An operation that was not done.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// The worker says why.
    #[error(transparent)]
    Refused(#[from] FileError),
    /// The worker is gone without an answer.
    #[error("the worker of the session is gone: {0}")]
    Broken(#[source] io::Error),
    /// The answer makes no sense.
    #[error("the worker's answer can't be read")]
    Unreadable,
    /// The client's upload failed.
    #[error("the upload failed: {0}")]
    Upload(#[source] io::Error),
}

/// A part of a file on its way.
#[derive(Debug)]
pub struct ReadStream<S> {
    /// What is known of the whole file.
    pub entry: Entry,
    /// The first byte of the part.
    pub from: u64,
    /// Bytes in the part.
    pub length: u64,
    /// The bytes of the part.
    pub content: Download<ReadHalf<S>>,
}

/// What a listing or a search has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Findings<T> {
    /// In the order of their paths.
    pub found: Vec<T>,
    /// Whether this is all; else a limit was met.
    pub complete: bool,
}

/// Reads a part of a regular file.
///
/// # Errors
/// [`FileError::OutOfRange`] tells the size of the file.
pub async fn read<S>(stream: S, path: FilePath, span: Span) -> Result<ReadStream<S>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut reader = ask(stream, &FileRequest::Read { path, span }).await?;
    match reply(&mut reader).await? {
        FileReply::Content { entry, from, length } => {
            Ok(ReadStream { entry, from, length, content: Download::new(reader, Some(length)) })
        }
        _ => Err(FilesError::Unreadable),
    }
}

/// Writes a regular file, or behind what is in it; tells what it is then. With a `length`, the body must
/// have it, and a full disk is told at once.
///
/// # Errors
/// As the worker's, and [`FilesError::Upload`] where the body fails; then nothing was written, but for what
/// was appended.
pub async fn write<S, B>(
    stream: S,
    path: FilePath,
    executable: bool,
    append: bool,
    length: Option<u64>,
    body: impl Stream<Item = io::Result<B>> + Unpin,
) -> Result<Entry, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsRef<[u8]>,
{
    entry(upload(stream, &FileRequest::Write { path, executable, append, length }, body).await?)
}

/// Tells what is there.
///
/// # Errors
/// As the worker's.
pub async fn stat<S>(stream: S, path: Place) -> Result<Entry, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    entry(once(stream, &FileRequest::Stat { path }).await?)
}

/// Lists a directory, as many levels down as `depth` says.
///
/// # Errors
/// As the worker's.
pub async fn list<S>(stream: S, path: Place, depth: u32, most: u64) -> Result<Findings<Entry>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let reader = ask(stream, &FileRequest::List { path, depth, most }).await?;
    let entry = |reply| if let FileReply::Entry(entry) = reply { Some(entry) } else { None };
    findings(reader, most, entry).await
}

/// Makes a directory and those above it; tells what it is then.
///
/// # Errors
/// As the worker's.
pub async fn mkdir<S>(stream: S, path: FilePath) -> Result<Entry, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    entry(once(stream, &FileRequest::Mkdir { path }).await?)
}

/// Gives something another name.
///
/// # Errors
/// As the worker's.
pub async fn mv<S>(stream: S, from: FilePath, to: FilePath, replace: bool) -> Result<(), FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    done(once(stream, &FileRequest::Move { from, to, replace }).await?)
}

/// Copies a file, a link or a tree.
///
/// # Errors
/// As the worker's.
pub async fn copy<S>(stream: S, from: FilePath, to: FilePath, replace: bool) -> Result<(), FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    done(once(stream, &FileRequest::Copy { from, to, replace }).await?)
}

/// Removes something; a directory with all that lies in it only where `recursive`.
///
/// # Errors
/// As the worker's.
pub async fn remove<S>(stream: S, path: FilePath, recursive: bool) -> Result<(), FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    done(once(stream, &FileRequest::Remove { path, recursive }).await?)
}

/// Looks for files by a pattern of their names, or for lines by what is in them.
///
/// # Errors
/// As the worker's; [`FileError::Pattern`] for a pattern that is none.
pub async fn search<S>(
    stream: S,
    path: Place,
    name: Option<String>,
    content: Option<Content>,
    limits: SearchLimits,
) -> Result<Findings<Hit>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let reader = ask(stream, &FileRequest::Search { path, name, content, limits }).await?;
    let hit = |reply| if let FileReply::Hit(hit) = reply { Some(hit) } else { None };
    findings(reader, limits.hits, hit).await
}

/// Watches a directory from when this returns until what it returns is dropped.
///
/// # Errors
/// As the worker's; [`FileError::TooMany`] where more directories are there than can be watched.
pub async fn watch<S>(stream: S, path: Place, recursive: bool) -> Result<Events<S>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut stream = stream;
    send(&mut stream, &FileRequest::Watch { path, recursive }).await?;
    match reply(&mut stream).await? {
        FileReply::Done => Ok(Events::new(stream)),
        _ => Err(FilesError::Unreadable),
    }
}

/// Reads a directory or a file as a tar archive. Permissions that keep the owner out are in the way of that,
/// unless they are lifted, which is for a copy that nobody else has.
///
/// # Errors
/// As the worker's; what fails later is told by what this returns.
pub async fn archive<S>(stream: S, path: Place, lifts: bool) -> Result<Download<ReadHalf<S>>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut reader = ask(stream, &FileRequest::Archive { path, lifts }).await?;
    match reply(&mut reader).await? {
        FileReply::Archive => Ok(Download::new(reader, None)),
        _ => Err(FilesError::Unreadable),
    }
}

/// Unpacks a tar archive into a directory, which is made where it is not there. What was unpacked before
/// something failed stays.
///
/// # Errors
/// As the worker's; [`FileError::Irregular`] names the entry that is refused.
pub async fn extract<S, B>(
    stream: S,
    path: Place,
    body: impl Stream<Item = io::Result<B>> + Unpin,
) -> Result<(), FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsRef<[u8]>,
{
    done(upload(stream, &FileRequest::Extract { path }, body).await?)
}

async fn send<W: AsyncWrite + Unpin>(writer: &mut W, request: &FileRequest) -> Result<(), FilesError> {
    let frame = to_frame(request).ok_or(FileError::Malformed)?;
    writer.write_all(&frame).await.map_err(FilesError::Broken)?;
    writer.flush().await.map_err(FilesError::Broken)
}

/// Sends a request, and leaves what is there to read the answer from. The connection lasts as long.
async fn ask<S>(mut stream: S, request: &FileRequest) -> Result<ReadHalf<S>, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    send(&mut stream, request).await?;
    Ok(split(stream).0)
}

async fn once<S>(stream: S, request: &FileRequest) -> Result<FileReply, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    reply(&mut ask(stream, request).await?).await
}

/// Sends a request and an upload, and reads the answer, which may come before the upload is over: then the
/// rest of it is for nothing.
async fn upload<S, B>(
    mut stream: S,
    request: &FileRequest,
    body: impl Stream<Item = io::Result<B>> + Unpin,
) -> Result<FileReply, FilesError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: AsRef<[u8]>,
{
    send(&mut stream, request).await?;
    let (mut reader, writer) = split(stream);
    let answer = reply(&mut reader);
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => return answer,
        sent = send_body(writer, body) => sent?,
    }
    answer.await
}

/// Fails only where the body does: a worker that takes no more has said why, or is gone.
async fn send_body<W, B>(mut writer: W, mut body: impl Stream<Item = io::Result<B>> + Unpin) -> Result<(), FilesError>
where
    W: AsyncWrite + Unpin,
    B: AsRef<[u8]>,
{
    while let Some(part) = body.next().await {
        let part = part.map_err(FilesError::Upload)?;
        for chunk in part.as_ref().chunks(CHUNK_BYTES) {
            let length = u32::try_from(chunk.len()).expect("a chunk has a limit");
            if writer.write_all(&length.to_le_bytes()).await.is_err() || writer.write_all(chunk).await.is_err() {
                return Ok(());
            }
        }
    }
    // Its end: without it, what was sent counts as broken off.
    drop(writer.write_all(&[0; 4]).await);
    drop(writer.flush().await);
    Ok(())
}

fn entry(reply: FileReply) -> Result<Entry, FilesError> {
    match reply {
        FileReply::Entry(entry) => Ok(entry),
        _ => Err(FilesError::Unreadable),
    }
}

fn done(reply: FileReply) -> Result<(), FilesError> {
    match reply {
        FileReply::Done => Ok(()),
        _ => Err(FilesError::Unreadable),
    }
}

/// Gathers what is found, of which there must be no more than was asked for.
async fn findings<R, T>(
    mut reader: R,
    most: u64,
    take: impl Fn(FileReply) -> Option<T>,
) -> Result<Findings<T>, FilesError>
where
    R: AsyncRead + Unpin,
{
    let mut reader = tokio::io::BufReader::new(&mut reader);
    let mut found = Vec::new();
    loop {
        match reply(&mut reader).await? {
            FileReply::End { complete } => return Ok(Findings { found, complete }),
            _ if found.len() as u64 >= most => return Err(FilesError::Unreadable),
            reply => found.push(take(reply).ok_or(FilesError::Unreadable)?),
        }
    }
}
