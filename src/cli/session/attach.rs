//! `codesandbox session attach`: this terminal becomes that of a program in a session.
//!
//! Bytes go both ways as they are. When the connection breaks, the next one begins at the byte where
//! the last one ended, so that the screen is what it would have been.

use std::collections::VecDeque;
use std::time::Duration;

use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use super::exec::tell;
use super::keys::{Keys, Watch};
use super::link::{Link, Patience, escape, is_passing, understood};
use super::output::{from_base64, show};
use super::terminal::{self, Raw};
use super::wire::{Ending, Exec, Said, Say, Size, Stream};
use super::{SessionError, input, list};
use crate::cli::text::harmless;
use crate::cli::{complain, exit};
use crate::client::{ClientError, Refusal, explain};

/// Keys that leave a program running where nobody chose others.
pub(super) const KEYS: &str = "ctrl-p,ctrl-q";
/// Examples.
pub(super) const HELP: &str = "\
Ctrl-C, Ctrl-D and Ctrl-Z go to the program. The detach keys leave it running; attach again to go on.
Where standard input is no terminal it is passed on to its end, and Ctrl-C sends SIGINT; a second one leaves.

Examples:
  codesandbox session attach 3f2a
  codesandbox session attach 3f2a 4 --detach-keys ctrl-]
  echo 'print(6 * 7)' | codesandbox session attach 3f2a 4";
/// Longest message of the service.
const MESSAGE: usize = 16 << 20;
/// Messages to the service that wait to be sent; then no more input is read.
const WAITING: usize = 64;

/// Longest wait for what was typed last to be sent.
const FAREWELL: Duration = Duration::from_secs(1);

/// Arguments of `codesandbox session attach`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    /// The program, as ps tells it [default: the latest with a terminal]
    exec: Option<String>,
    /// Keys that leave the program running; none where empty
    #[arg(long, value_name = "KEYS", default_value = KEYS)]
    detach_keys: Keys,
}

/// The program that a terminal is connected to.
pub(super) struct Attached<'a> {
    /// Its path in the API.
    pub(super) path: String,
    /// The session, as the user calls it.
    pub(super) id: &'a str,
    /// The program, as the service calls it.
    pub(super) exec: &'a str,
    /// Whether it has a terminal, whose size is ours.
    pub(super) terminal: bool,
    /// Keys that leave it running.
    pub(super) keys: &'a Keys,
}

/// Attaches.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let session = link.session(&arguments.id).await?;
    let exec = match &arguments.exec {
        Some(exec) => exec.clone(),
        None => latest(link, &session).await?,
    };
    let path = format!("{session}/execs/{}", escape(&exec));
    // An answer that says no is told in full here; that to a WebSocket may be cut off.
    let known: Exec = link.get(&path).await?;
    let terminal = known.terminal.is_some();
    converse(link, &Attached { path, id: &arguments.id, exec: &exec, terminal, keys: &arguments.detach_keys }).await
}

/// The program that was started last of those with a terminal that still run.
async fn latest(link: &Link, session: &str) -> Result<String, SessionError> {
    let execs = list::execs(link, session).await?;
    let fitting = execs.into_iter().filter(|exec| exec.terminal.is_some() && exec.result.is_none());
    // Times are of one length and in UTC, so their order is that of their text; names that are numbers grow.
    let last = fitting.max_by_key(|exec| (exec.started_at.clone(), exec.id.0.parse::<u64>().unwrap_or_default()));
    let none = "no program with a terminal runs there; codesandbox session exec -t starts one";
    last.map(|exec| exec.id.0).ok_or_else(|| SessionError::Said(none.to_owned()))
}

/// How it ended.
enum End {
    /// The program did.
    Finished(Ending),
    /// The user left, and the program goes on; the exit status is given.
    Left(u8),
}

/// How one connection ended.
enum Broken {
    /// It did not: all has.
    Ended(End),
    /// It broke, and another one may go on.
    Passing(ClientError),
}

/// Connects our streams to the program until it ends or the user leaves.
pub(super) async fn converse(link: &Link, attached: &Attached<'_>) -> Result<u8, SessionError> {
    let raw =
        if terminal::is_typed() { Some(Raw::enter(std::io::stdin()).map_err(SessionError::Output)?) } else { None };
    let ours = Ours::new(raw, attached);
    let ended = ours.map_err(SessionError::Output)?.stay(link, &attached.path).await;
    // The terminal is as before from here on: whatever is told is told on one of the user's own.
    match ended? {
        End::Finished(ending) => Ok(tell(Some(ending))),
        End::Left(status) => {
            let (id, exec) = (harmless(attached.id), harmless(attached.exec));
            let back = format!("left, and it goes on; codesandbox session attach {id} {exec} comes back");
            complain(&back);
            Ok(status)
        }
    }
}

/// Our side: the terminal, what is typed into it, and the signals we get.
struct Ours {
    raw: Option<Raw>,
    /// Whether the program has a window that is to be as large as ours.
    sized: bool,
    watch: Watch,
    /// The keys were typed; what was typed before them is on its way.
    leaving: bool,
    input: Option<mpsc::Receiver<Vec<u8>>>,
    /// Where the next connection begins.
    sequence: Option<u64>,
    /// The same on standard error.
    stderr: Option<u64>,
    interrupted: bool,
    interrupt: Signal,
    /// Of every other kind that would end us, with the exit status of each.
    ends: [(Signal, u8); 3],
    resized: Signal,
    continued: Signal,
}

impl Ours {
    fn new(raw: Option<Raw>, attached: &Attached<'_>) -> std::io::Result<Self> {
        let none: Keys = "".parse().expect("no keys are keys");
        Ok(Self {
            // Where nobody types, bytes are data.
            watch: Watch::new(if raw.is_some() { attached.keys.clone() } else { none }),
            raw,
            sized: attached.terminal,
            leaving: false,
            input: Some(input::pieces()),
            sequence: None,
            stderr: None,
            interrupted: false,
            interrupt: signal(SignalKind::interrupt())?,
            ends: [
                (signal(SignalKind::terminate())?, exit::TERMINATED),
                (signal(SignalKind::hangup())?, exit::HUNG_UP),
                (signal(SignalKind::quit())?, exit::SIGNAL_BASE + 3),
            ],
            resized: signal(SignalKind::window_change())?,
            continued: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
        })
    }

    /// Connects, and again where a connection breaks, while there is hope.
    async fn stay(mut self, link: &Link, path: &str) -> Result<End, SessionError> {
        let mut outbox = VecDeque::new();
        let mut patience = Patience::new();
        loop {
            let before = (self.sequence, self.stderr);
            let opened = {
                let opening = open(link, path, before);
                tokio::select! {
                    opened = opening => Ok(opened),
                    end = self.leaves(&mut outbox) => Err(end),
                }
            };
            let error = match opened {
                Err(end) => return Ok(end),
                Ok(Ok(socket)) => match self.talk(socket, &mut outbox).await? {
                    Broken::Ended(end) => return Ok(end),
                    Broken::Passing(error) => error,
                },
                Ok(Err(error)) if is_passing(&error) => error,
                Ok(Err(error)) => return Err(error.into()),
            };
            if (self.sequence, self.stderr) != before {
                patience = Patience::new();
            }
            tokio::select! {
                waited = patience.wait() => if !waited { return Err(error.into()) },
                end = self.leaves(&mut outbox) => return Ok(end),
            }
        }
    }

    /// Waits for the user to leave, while there is no connection.
    async fn leaves(&mut self, outbox: &mut VecDeque<Message>) -> End {
        loop {
            match self.next(outbox.len() < WAITING).await {
                Heard::Left(status) => return End::Left(status),
                Heard::Say(message) => outbox.push_back(message),
            }
        }
    }

    fn size(&self) -> Option<Size> {
        terminal::size().filter(|_| self.sized)
    }

    /// What the user does next. Nothing is lost where this is given up in the middle.
    async fn next(&mut self, room: bool) -> Heard {
        loop {
            if self.leaving {
                return Heard::Left(0);
            }
            let [(terminate, _), (hang_up, _), (quit, _)] = &mut self.ends;
            let piece = async {
                match &mut self.input {
                    Some(input) if room => input.recv().await,
                    _ => std::future::pending().await,
                }
            };
            let left = tokio::select! {
                piece = piece => match piece {
                    None => {
                        self.input = None;
                        if self.raw.is_some() {
                            // The terminal is gone, and with it whoever typed.
                            return Heard::Left(exit::HUNG_UP);
                        }
                        return Heard::Say(words(&Say::Eof));
                    }
                    Some(piece) => {
                        let (passed, left) = self.watch.pass(piece);
                        self.leaving = left;
                        if passed.is_empty() {
                            continue;
                        }
                        return Heard::Say(Message::binary(passed));
                    }
                },
                _ = self.interrupt.recv() => {
                    if self.interrupted || self.raw.is_some() {
                        return Heard::Left(exit::INTERRUPTED);
                    }
                    self.interrupted = true;
                    return Heard::Say(words(&Say::Signal { signal: "SIGINT" }));
                }
                _ = self.resized.recv() => None,
                _ = self.continued.recv() => {
                    if let Some(raw) = &self.raw {
                        // Where the terminal is gone, reading it tells.
                        drop(raw.again());
                    }
                    None
                }
                _ = terminate.recv() => Some(exit::TERMINATED),
                _ = hang_up.recv() => Some(exit::HUNG_UP),
                _ = quit.recv() => Some(exit::SIGNAL_BASE + 3),
            };
            if let Some(status) = left {
                return Heard::Left(status);
            }
            if let Some(size) = self.size() {
                return Heard::Say(words(&Say::Resize { size }));
            }
        }
    }

    /// Both directions, on one connection.
    async fn talk(&mut self, socket: Socket, outbox: &mut VecDeque<Message>) -> Result<Broken, SessionError> {
        let (sink, mut source) = socket.split();
        let (sender, receiver) = mpsc::channel(WAITING);
        // By itself: what we send may have to wait for what we read.
        let sending = tokio::spawn(send(sink, receiver));
        if let Some(size) = self.size() {
            // Before anything that was typed while there was no connection.
            outbox.push_front(words(&Say::Resize { size }));
        }
        let ended = loop {
            tokio::select! {
                message = hear(&mut source) => match self.understand(message).await {
                    Ok(None) => {}
                    Ok(Some(broken)) => break Ok(broken),
                    Err(error) => break Err(error),
                },
                heard = self.next(outbox.len() < WAITING) => match heard {
                    Heard::Left(status) => break Ok(Broken::Ended(End::Left(status))),
                    Heard::Say(message) => outbox.push_back(message),
                },
                permit = sender.reserve(), if !outbox.is_empty() => match (permit, outbox.pop_front()) {
                    (Ok(permit), Some(message)) => permit.send(message),
                    // It can't send any more; reading will tell why.
                    _ => outbox.clear(),
                },
            }
        };
        if matches!(ended, Ok(Broken::Ended(End::Left(_)))) {
            // What was typed last is still on its way.
            for message in outbox.drain(..) {
                drop(sender.try_send(message));
            }
            drop(sender);
            drop(tokio::time::timeout(FAREWELL, sending).await);
        } else {
            sending.abort();
        }
        ended
    }

    /// What a message of the service means; something where the connection is over with it.
    async fn understand(&mut self, message: Result<Message, ClientError>) -> Result<Option<Broken>, SessionError> {
        match message {
            Err(error) => return Ok(Some(Broken::Passing(error))),
            Ok(Message::Binary(bytes)) => {
                let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                show(Stream::Stdout, bytes.to_vec()).await?;
                self.sequence = self.sequence.map(|sequence| sequence.saturating_add(count));
            }
            Ok(Message::Text(text)) => match understood(text.as_bytes())? {
                Said::Position { sequence } => self.sequence = Some(sequence),
                Said::Gap { stream: None | Some(Stream::Stdout), to } => self.sequence = Some(to),
                Said::Gap { stream: Some(Stream::Stderr), to } => self.stderr = Some(to),
                // The cursor stands anywhere while the terminal is raw.
                Said::Problem { problem } => {
                    let start = if self.raw.is_some() { "\r\n" } else { "" };
                    let text = explain(&problem).replace('\n', "\r\n");
                    show(Stream::Stderr, format!("{start}codesandbox: {text}\r\n").into_bytes()).await?;
                }
                Said::Stderr { sequence, data } => {
                    let bytes = from_base64(data)?;
                    let count = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                    show(Stream::Stderr, bytes).await?;
                    self.stderr = Some(sequence.saturating_add(count));
                }
                Said::Finished { result } => return Ok(Some(Broken::Ended(End::Finished(result)))),
                Said::Other => {}
            },
            Ok(_) => {}
        }
        Ok(None)
    }
}

/// What the user does.
enum Heard {
    /// Says something to the program.
    Say(Message),
    /// Goes away, with this exit status.
    Left(u8),
}

type Socket = WebSocketStream<UnixStream>;

/// Connects to a program, from these bytes of standard output and error on.
async fn open(link: &Link, path: &str, from: (Option<u64>, Option<u64>)) -> Result<Socket, ClientError> {
    let parts = [("from", from.0), ("stderr", from.1)];
    let parts: Vec<String> =
        parts.iter().filter_map(|(name, from)| from.map(|from| format!("{name}={from}"))).collect();
    let from = if parts.is_empty() { String::new() } else { format!("?{}", parts.join("&")) };
    let limits = WebSocketConfig::default().max_message_size(Some(MESSAGE)).max_frame_size(Some(MESSAGE));
    let stream = link.stream().await?;
    match client_async_with_config(format!("ws://codesandbox{path}/attach{from}"), stream, Some(limits)).await {
        Ok((socket, _)) => Ok(socket),
        Err(SocketError::Http(answer)) => {
            let status = answer.status().as_u16();
            let body = answer.into_body().unwrap_or_default().into();
            Err(ClientError::Refused(Refusal { status, body }))
        }
        Err(error) => Err(broken(&error)),
    }
}

/// The next message; an error where the connection is over.
async fn hear(source: &mut SplitStream<Socket>) -> Result<Message, ClientError> {
    match source.next().await {
        Some(Ok(Message::Close(_))) | None => Err(broken(&SocketError::ConnectionClosed)),
        Some(Ok(message)) => Ok(message),
        Some(Err(error)) => Err(broken(&error)),
    }
}

/// Sends what it is given, until it can't.
async fn send(mut sink: SplitSink<Socket, Message>, mut messages: mpsc::Receiver<Message>) {
    while let Some(message) = messages.recv().await {
        if sink.send(message).await.is_err() {
            return;
        }
    }
    // Whoever reads this is gone already where it fails.
    drop(sink.close().await);
}

/// A connection that broke, or that nobody took: the daemon may be back soon. What breaks the
/// protocol is no matter of time.
fn broken(error: &SocketError) -> ClientError {
    match error {
        SocketError::Protocol(ProtocolError::ResetWithoutClosingHandshake | ProtocolError::HandshakeIncomplete) => {
            ClientError::Lost(error.to_string())
        }
        SocketError::Protocol(_) | SocketError::Capacity(_) => ClientError::Strange(error.to_string()),
        other => ClientError::Lost(other.to_string()),
    }
}

fn words(say: &Say) -> Message {
    Message::text(serde_json::to_string(say).expect("it has only text keys"))
}
