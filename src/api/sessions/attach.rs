//! A program of a session over a WebSocket: what it prints one way, what it reads the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::{debug, info};

use super::answer;
use super::asked::{Asked, Problems, problem};
use super::check;
use super::wire::{AttachCommand, AttachEvent, SizeRequest};
use crate::api::answer::denied;
use crate::api::fields;
use crate::api::problem::{Problem, ProblemDetails};
use crate::api::websocket::{self, Accepted, Socket};
use crate::session::Attachment;
use crate::session::types::{ExecView, From, Happening, Size, Stream};

/// How often a client is asked whether it is still there; one that is silent for two of these is not.
const PING_INTERVAL: Duration = Duration::from_secs(30);
/// Time for the last messages and the client's farewell.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Refusals of what a client asked for that wait to be told.
const REFUSALS: usize = 8;
/// Messages for a program that does not read; while more come, nothing else of the client's is heard.
const INPUTS: usize = 4;

/// Attaches to a program, by WebSocket. Closing it leaves the program alone.
#[utoipa::path(get, path = "/v1/sessions/{id}/execs/{exec}/attach",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("exec" = u64, Path, description = "The program's id"),
        ("from" = Option<u64>, Query, description = "Sequence number in standard output to begin at; the first byte that is kept where absent"),
        ("stderr" = Option<u64>, Query, description = "The same in standard error"),
    ),
    responses(
        (status = 101, description = "A WebSocket; text messages of the server are AttachEvent, of the client AttachCommand"),
        (status = 403, description = "The page is of another origin", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 426, description = "This is no handshake of a WebSocket", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn attach(asked: Asked, mut request: Request) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    let query = asked.query(&["from", "stderr"])?;
    let from = From { stdout: query.number("from")?, stderr: query.number("stderr")?, follow: true };
    let (response, accepted) = websocket::accept(&mut request)?;
    let view = asked.sessions.exec_view(asked.client(), asked.id(), exec).await.map_err(problem)?;
    let sequence = position(&view, from)?;
    let attachment = asked.sessions.follow(asked.client(), asked.id(), exec, from).await.map_err(problem)?;
    info!(session_id = asked.id(), exec, client = asked.client(), "a client attaches to a program");
    tokio::spawn(serve(asked, exec, accepted, attachment, sequence));
    Ok(response)
}

/// Where the first binary message begins.
fn position(view: &ExecView, from: From) -> Result<u64, Problem> {
    let beyond = |field: &str, next: u64| {
        Problem::field(field, "the program has not printed that far").allowing(serde_json::json!({ "maximum": next }))
    };
    if from.stdout.is_some_and(|from| from > view.stdout.next) {
        return Err(beyond("from", view.stdout.next));
    }
    let next = view.stderr.map_or(0, |stderr| stderr.next);
    if from.stderr.is_some_and(|from| from > next) {
        return Err(beyond("stderr", next));
    }
    Ok(from.stdout.unwrap_or(view.stdout.first))
}

async fn serve(asked: Asked, exec: u64, accepted: Accepted, attachment: Attachment, sequence: u64) {
    let socket = match accepted.socket().await {
        Ok(socket) => socket,
        Err(error) => return debug!(%error, "a WebSocket did not come about"),
    };
    let (mut sink, mut source) = socket.split();
    let (refusals, refused) = mpsc::channel(REFUSALS);
    let heard = AtomicBool::new(true);
    let stopping = asked.connection.stopping();
    // A client that does not read must not keep the service from its end.
    let overdue = async {
        stopping.await;
        tokio::time::sleep(CLOSE_TIME).await;
    };
    let ended = tokio::select! {
        ended = speak(&asked, &mut sink, attachment, refused, sequence, &heard) => ended,
        ended = listen(&asked, exec, &mut source, refusals, &heard) => ended,
        () = overdue => return,
    };
    if let Err(error) = ended {
        debug!(session_id = asked.id(), exec, %error, "a WebSocket broke off");
    }
    // What a client has sent and nobody has read would take our last messages with it.
    let farewell = async {
        drop(sink.close().await);
        while let Some(Ok(_)) = source.next().await {}
    };
    drop(tokio::time::timeout(CLOSE_TIME, farewell).await);
}

/// Tells what happens, up to the program's end or that of the service.
async fn speak(
    asked: &Asked,
    sink: &mut SplitSink<Socket, Message>,
    mut attachment: Attachment,
    mut refused: mpsc::Receiver<Problem>,
    sequence: u64,
    heard: &AtomicBool,
) -> Result<(), Error> {
    sink.send(text(&AttachEvent::Position { sequence })).await?;
    let stopping = asked.connection.stopping();
    tokio::pin!(stopping);
    let mut ping = tokio::time::interval(PING_INTERVAL);
    ping.reset();
    let mut misses = 0;
    loop {
        tokio::select! {
            happening = attachment.next() => {
                let is_last = !matches!(happening, Some(Happening::Output { .. } | Happening::Gap { .. } | Happening::Denied(_)));
                let code = if happening.is_some() { CloseCode::Normal } else { CloseCode::Error };
                if let Some(message) = happening.and_then(message) {
                    sink.send(message).await?;
                }
                if is_last {
                    return sink.send(close(code)).await;
                }
            }
            Some(problem) = refused.recv() => {
                let problem = Box::new(problem.details());
                sink.send(text(&AttachEvent::Problem { problem })).await?;
            }
            _ = ping.tick() => {
                misses = if heard.swap(false, Ordering::Relaxed) { 0 } else { misses + 1 };
                if misses == 2 {
                    return sink.send(close(CloseCode::Away)).await;
                }
                sink.send(Message::Ping(Vec::new().into())).await?;
            }
            () = &mut stopping => return sink.send(close(CloseCode::Restart)).await,
        }
    }
}

/// Does what the client asks for, until it says farewell.
async fn listen(
    asked: &Asked,
    exec: u64,
    source: &mut SplitStream<Socket>,
    refusals: mpsc::Sender<Problem>,
    heard: &AtomicBool,
) -> Result<(), Error> {
    // Beside all else: a program that does not read must not keep a signal, or the client's farewell, from us.
    let (inputs, waiting) = mpsc::channel(INPUTS);
    let mut writing = std::pin::pin!(write(asked, exec, waiting, refusals.clone()));
    let (ended, is_written) = tokio::select! {
        ended = hear(asked, exec, source, inputs, refusals, heard) => (ended, false),
        // Only where nobody takes refusals any more.
        () = &mut writing => (Ok(()), true),
    };
    if !is_written {
        drop(tokio::time::timeout(CLOSE_TIME, writing).await);
    }
    ended
}

async fn hear(
    asked: &Asked,
    exec: u64,
    source: &mut SplitStream<Socket>,
    inputs: mpsc::Sender<Option<Bytes>>,
    refusals: mpsc::Sender<Problem>,
    heard: &AtomicBool,
) -> Result<(), Error> {
    let (sessions, client, id) = (&asked.sessions, asked.client(), asked.id());
    while let Some(message) = source.next().await {
        heard.store(true, Ordering::Relaxed);
        let done = match message? {
            Message::Binary(bytes) => {
                drop(inputs.send(Some(bytes)).await);
                Ok(())
            }
            Message::Text(text) => match command(text.as_bytes()) {
                Ok(Command::Resize(size)) => sessions.resize(client, id, exec, size).await.map_err(problem),
                Ok(Command::Signal(signal)) => sessions.signal(client, id, exec, signal).await.map_err(problem),
                Ok(Command::Eof) => {
                    drop(inputs.send(None).await);
                    Ok(())
                }
                Err(problem) => Err(problem),
            },
            Message::Close(_) => return Ok(()),
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(()),
        };
        if let Err(problem) = done
            && refusals.send(problem).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}

/// Writes to a program's standard input, as it reads; closes it where nothing more comes.
async fn write(asked: &Asked, exec: u64, mut inputs: mpsc::Receiver<Option<Bytes>>, refusals: mpsc::Sender<Problem>) {
    while let Some(input) = inputs.recv().await {
        let (bytes, close) = (input.as_deref().unwrap_or_default().to_vec(), input.is_none());
        let written = asked.sessions.write_stdin(asked.client(), asked.id(), exec, bytes, close).await;
        if let Err(error) = written
            && refusals.send(problem(error)).await.is_err()
        {
            return;
        }
    }
}

/// What a client can ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Resize(Size),
    Signal(i32),
    Eof,
}

fn command(text: &[u8]) -> Result<Command, Problem> {
    match fields::parse(text)? {
        AttachCommand::Resize { rows, columns } => check::size("", SizeRequest { rows, columns }).map(Command::Resize),
        AttachCommand::Signal { signal } => check::signal(&signal).map(Command::Signal),
        AttachCommand::Eof {} => Ok(Command::Eof),
    }
}

/// The message that tells what happened, where there is something to tell.
fn message(happening: Happening) -> Option<Message> {
    match happening {
        Happening::Output { stream: Stream::Stdout, bytes, .. } => Some(Message::Binary(bytes)),
        Happening::Output { stream: Stream::Stderr, sequence, bytes } => {
            Some(text(&AttachEvent::Stderr { sequence, data: STANDARD.encode(bytes) }))
        }
        Happening::Gap { stream, from, to } => {
            Some(text(&AttachEvent::Gap { stream: stream.name().to_owned(), from, to }))
        }
        Happening::Finished(result) => Some(text(&AttachEvent::Finished { result: Box::new(answer::result(*result)) })),
        Happening::Denied(flows) => {
            (!flows.is_empty()).then(|| text(&AttachEvent::Denied { denied: denied(vec![], flows) }))
        }
        Happening::End => None,
    }
}

fn text(event: &AttachEvent) -> Message {
    Message::Text(serde_json::to_string(event).expect("an event has only text keys").into())
}

fn close(code: CloseCode) -> Message {
    let reason = match code {
        CloseCode::Normal => "the program has ended",
        CloseCode::Restart => "the service stops",
        CloseCode::Away => "the client is silent",
        _ => "the program can no longer be followed",
    };
    Message::Close(Some(CloseFrame { code, reason: reason.into() }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::types::Range;

    fn json(happening: Happening) -> serde_json::Value {
        let Some(Message::Text(text)) = message(happening) else { panic!("no text") };
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn messages_are_as_documented() {
        let printed = |stream| Happening::Output { stream, sequence: 3, bytes: Bytes::from_static(b"\xffx") };
        assert_eq!(message(printed(Stream::Stdout)), Some(Message::Binary(Bytes::from_static(b"\xffx"))));
        let stderr = serde_json::json!({ "type": "stderr", "sequence": 3, "data": "/3g=" });
        assert_eq!(json(printed(Stream::Stderr)), stderr);
        let gap = serde_json::json!({ "type": "gap", "stream": "stdout", "from": 1, "to": 2 });
        assert_eq!(json(Happening::Gap { stream: Stream::Stdout, from: 1, to: 2 }), gap);
        assert_eq!(message(Happening::End), None);
    }

    #[test]
    fn commands_are_as_documented() {
        for (text, expected) in [
            (r#"{"type":"resize","rows":24,"columns":80}"#, Command::Resize(Size { rows: 24, columns: 80 })),
            (r#"{"type":"signal","signal":"SIGINT"}"#, Command::Signal(2)),
            (r#"{"type":"signal","signal":9}"#, Command::Signal(9)),
            (r#"{"type":"eof"}"#, Command::Eof),
        ] {
            assert_eq!(command(text.as_bytes()).unwrap(), expected);
        }
        for text in [
            "",
            "[]",
            r#"{"type":"resize","rows":0,"columns":80}"#,
            r#"{"type":"resize","rows":24}"#,
            r#"{"type":"signal","signal":"SIGNONE"}"#,
            r#"{"type":"quit"}"#,
            r#"{"rows":1}"#,
        ] {
            assert!(command(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_client_begins_where_it_asks_to_and_not_beyond_the_end() {
        let view = ExecView {
            id: 1,
            argv: vec!["a".to_owned()],
            started_at_ms: 0,
            detached: true,
            terminal: None,
            stdout: Range { first: 10, next: 20 },
            stderr: None,
            result: None,
        };
        let at = |stdout, stderr| position(&view, From { stdout, stderr, follow: true });
        assert_eq!(at(None, None).unwrap(), 10);
        assert_eq!((at(Some(20), None).unwrap(), at(Some(5), Some(0)).unwrap()), (20, 5));
        assert_eq!(at(Some(21), None).unwrap_err().field.as_deref(), Some("from"));
        assert_eq!(at(None, Some(1)).unwrap_err().field.as_deref(), Some("stderr"));
    }
}
