//! A client that costs next to nothing: one write for a request, blocking reads until the answer is whole.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::UnboundedSender;

use super::load::Attempt;

/// Longest wait for the next byte of an answer.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most bytes of an answer's head.
const HEAD_BYTES: usize = 16 << 10;
/// Room for what is read next.
const CHUNK_BYTES: usize = 64 << 10;

/// How to reach the API.
#[derive(Debug, Clone)]
pub enum Connector {
    /// A daemon's socket.
    Path(PathBuf),
    /// The service in this process, which is handed one end of each connection.
    Pair(UnboundedSender<UnixStream>),
}

impl Connector {
    /// A new connection.
    ///
    /// # Errors
    /// Nobody listens.
    pub fn connect(&self) -> io::Result<UnixStream> {
        let stream = match self {
            Self::Path(path) => UnixStream::connect(path)?,
            Self::Pair(service) => {
                let (ours, theirs) = UnixStream::pair()?;
                service.send(theirs).map_err(|_| io::ErrorKind::ConnectionRefused)?;
                ours
            }
        };
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(stream)
    }
}

/// Sends requests, each on a connection of its own or all on one.
#[derive(Debug)]
pub struct Client {
    connector: Connector,
    keep_alive: bool,
    kept: Option<UnixStream>,
    buffer: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, Copy)]
pub struct Answer<'a> {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Client {
    /// One that has not connected yet.
    #[must_use]
    pub fn new(connector: Connector, keep_alive: bool) -> Self {
        Self { connector, keep_alive, kept: None, buffer: Vec::new() }
    }

    /// Connects where that is needed, sends a request and reads its whole answer.
    ///
    /// # Errors
    /// The connection broke, or what came is no answer.
    pub fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        let mut stream = match self.kept.take() {
            Some(stream) => stream,
            None => self.connector.connect()?,
        };
        stream.write_all(request)?;
        let head = read_answer(&mut stream, &mut self.buffer)?;
        if self.keep_alive {
            self.kept = Some(stream);
        }
        Ok(Answer { status: head.status, body: self.buffer.get(head.length..).unwrap_or_default() })
    }

    /// One run, measured to the last byte of its answer; what the answer says is read after that.
    pub fn attempt(&mut self, request: &[u8]) -> Attempt {
        let answer = self.exchange(request);
        let ended = Instant::now();
        let outcome = match answer {
            Ok(answer) => Reply::read(answer).map(Some),
            Err(error) => Err(format!("connection: {}", error.kind())),
        };
        Attempt { ended, outcome }
    }
}

struct Head {
    status: u16,
    /// Bytes before the body.
    length: usize,
}

/// Reads until the answer is whole; the buffer then has nothing else.
fn read_answer(stream: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<Head> {
    buffer.clear();
    let mut whole = None;
    loop {
        if whole.is_none() {
            whole = head_of(buffer)?;
        }
        if let Some((head, length)) = &whole
            && buffer.len() >= *length
        {
            let head = Head { ..*head };
            buffer.truncate(*length);
            return Ok(head);
        }
        let filled = buffer.len();
        buffer.resize(filled + CHUNK_BYTES, 0);
        let count = stream.read(buffer.get_mut(filled..).unwrap_or_default());
        buffer.truncate(filled + *count.as_ref().unwrap_or(&0));
        if count? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The head, and the length of the whole answer; `None` while the head is not whole.
fn head_of(bytes: &[u8]) -> io::Result<Option<(Head, usize)>> {
    let strange = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let searched = bytes.get(..bytes.len().min(HEAD_BYTES)).unwrap_or_default();
    let Some(end) = searched.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() < HEAD_BYTES { Ok(None) } else { Err(strange("an endless head")) };
    };
    let head = String::from_utf8_lossy(searched.get(..end).unwrap_or_default());
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(strange("no status"))?;
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let body = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = body.and_then(|(_, length)| length.trim().parse().ok()).ok_or(strange("no length"))?;
    Ok(Some((Head { status, length: end + 4 }, end + 4 + body)))
}

/// A request of this method, with a JSON body where there is one.
#[must_use]
pub fn request(method: &str, path: &str, body: &[u8], keep_alive: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: codesandbox\r\nconnection: {connection}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    request.extend_from_slice(body);
    request
}

/// What a bench reads of an answer to `POST /v1/run`. What an older service does not say is absent.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Reply {
    /// What became of the program.
    pub status: String,
    /// How its sandbox came to be: `warm`, `parked` or `cold`.
    #[serde(default)]
    pub path: Option<String>,
    /// The service's own share.
    #[serde(default)]
    pub overhead_ms: Option<Overhead>,
    /// The compile stage.
    #[serde(default)]
    pub compile: Option<Compile>,
    /// What ran it.
    pub runtime: RuntimePath,
}

/// What a bench reads of a compile stage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Compile {
    /// Whether the program was there already.
    #[serde(default)]
    pub cached: Option<bool>,
}

/// What a bench reads of a runtime.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RuntimePath {
    /// Path of the program inside the sandbox.
    pub path: PathBuf,
}

/// The service's own share of a run, in milliseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// In the queue.
    #[serde(default)]
    pub queue: f64,
    /// Making the sandbox, or waking it.
    #[serde(default)]
    pub prepare: f64,
    /// Until the program runs.
    #[serde(default)]
    pub start: f64,
    /// From the program's end to the answer.
    #[serde(default)]
    pub collect: f64,
    /// All of it.
    #[serde(default)]
    pub total: f64,
}

impl Reply {
    /// Reads an answer.
    ///
    /// # Errors
    /// The kind of failure, where the program did not run well.
    pub fn read(answer: Answer<'_>) -> Result<Self, String> {
        if answer.status != 200 {
            return Err(format!("HTTP {}", answer.status));
        }
        match serde_json::from_slice::<Self>(answer.body) {
            Ok(reply) if reply.status == "ok" => Ok(reply),
            Ok(reply) => Err(reply.status),
            Err(_) => Err("an answer that can't be understood".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests;
