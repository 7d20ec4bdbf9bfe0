//! `GET /connect`: a run over a WebSocket, with standard input and signals while it goes on.

use std::time::{Duration, Instant};

use axum::extract::{Extension, Request, State as Shared};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tracing::debug;

use super::check::{Checked, Told};
use super::stage::{Ending, Pieces};
use super::{Refusal, execute, message};
use crate::api::client::known;
use crate::api::problem::{Kind, Problem};
use crate::api::run::Followed;
use crate::api::websocket::{self, Accepted, Socket};
use crate::api::{Client, Connection, State};
use crate::job::{Event, Outcome, Stage};
use crate::scheduler::Attachment;

mod words;

use words::{
    ALREADY_INITIALIZED, Close, Heard, INIT_TIMEOUT, JOB_COMPLETED, NOT_INITIALIZED, NOTIFIED_ERROR, Word,
    is_about_a_run, next, said,
};

/// Time that a client has to say what is to run.
const INIT_TIME: Duration = Duration::from_secs(1);
/// Time that a client has to take a message when nothing more fits between us; one that does not is gone.
const SEND_TIME: Duration = Duration::from_secs(30);
/// Time for the last messages and the client's farewell.
const CLOSE_TIME: Duration = Duration::from_secs(5);
/// Messages for a program that does not read; while more come, nothing else of the client's is heard.
const INPUTS: usize = 4;
/// Bytes of standard input that are handed on at one time.
const PIECE_BYTES: usize = 64 << 10;

/// Runs a program over a WebSocket. Closing it cancels the program.
pub(super) async fn connect(
    Shared(state): Shared<State>,
    client: Option<Extension<Client>>,
    connection: Option<Extension<Connection>>,
    mut request: Request,
) -> Result<Response, Refusal> {
    let client = known(client)?;
    let Extension(connection) =
        connection.ok_or_else(|| Problem::new(Kind::Internal, "the connection is not known"))?;
    let (response, accepted) = websocket::accept(&mut request)?;
    tokio::spawn(serve(state, client, connection, accepted));
    Ok(response.into_response())
}

async fn serve(state: State, client: Client, connection: Connection, accepted: Accepted) {
    let socket = match accepted.socket().await {
        Ok(socket) => socket,
        Err(error) => return debug!(%error, "a WebSocket did not come about"),
    };
    let (mut sink, mut source) = socket.split();
    // A client that does not read must not keep the service from its end; its job has the time that all have.
    let stopping = connection.stopping();
    let deadline = Duration::from_millis(state.config().service.stop_deadline_ms) + CLOSE_TIME;
    let overdue = async {
        stopping.await;
        tokio::time::sleep(deadline).await;
    };
    let ended = tokio::select! {
        ended = converse(&state, client, &mut sink, &mut source) => ended,
        () = overdue => return,
    };
    if let Err(error) = ended {
        debug!(%error, "a WebSocket broke off");
    }
    // What a client has sent and nobody has read would take our last messages with it.
    let farewell = async {
        drop(sink.close().await);
        while let Some(Ok(_)) = source.next().await {}
    };
    drop(timeout(CLOSE_TIME, farewell).await);
}

/// Everything that is said, up to the last message.
async fn converse(
    state: &State,
    client: Client,
    sink: &mut SplitSink<Socket, Message>,
    source: &mut SplitStream<Socket>,
) -> Result<(), Error> {
    let init = match timeout(INIT_TIME, initial(source)).await {
        Ok(Heard::Init(text)) => text,
        Ok(other) => return answer(sink, other).await,
        Err(_) => return close(sink, INIT_TIMEOUT).await,
    };
    let (told, followed, attachment) = match begin(state, client, init).await {
        Ok(begun) => begun,
        Err(problem) => {
            state.metrics.problem(problem.kind);
            return answer(sink, Heard::Wrong(message(&problem))).await;
        }
    };
    send(sink, told).await?;
    let id = followed.about.id.to_string();
    let stage = std::sync::Mutex::new(None);
    let ended = tokio::select! {
        ended = speak(sink, followed, &stage) => return ended,
        ended = listen(source, attachment, &stage, || state.scheduler.cancel(&id)) => ended,
    };
    answer(sink, ended).await
}

/// The answer to what ends a conversation.
async fn answer(sink: &mut SplitSink<Socket, Message>, heard: Heard) -> Result<(), Error> {
    match heard {
        Heard::Wrong(message) => {
            send(sink, json!({ "type": "error", "message": message })).await?;
            close(sink, NOTIFIED_ERROR).await
        }
        Heard::Refused(reason) => close(sink, reason).await,
        Heard::Init(_) | Heard::Farewell => Ok(()),
    }
}

/// What a client says before anything runs.
async fn initial(source: &mut SplitStream<Socket>) -> Heard {
    loop {
        let text = match next(source).await {
            Ok(text) => text,
            Err(heard) => return heard,
        };
        match said(&text) {
            Ok(Word::Init) => return Heard::Init(text),
            Ok(Word::Other) => {}
            Ok(Word::Data(_) | Word::Signal(_)) => return Heard::Refused(NOT_INITIALIZED),
            Err(_) if is_about_a_run(&text) => return Heard::Refused(NOT_INITIALIZED),
            Err(heard) => return heard,
        }
    }
}

/// Checks what is to run, and submits it; with what the client is told of it first.
async fn begin(state: &State, client: Client, text: Vec<u8>) -> Result<(Value, Followed, Attachment), Problem> {
    let received = Instant::now();
    state.metrics.received(text.len());
    let config = state.config();
    let quota = client.quota(&config)?;
    let mut share = state.memory.share(&quota.client);
    share.take(text.len())?;
    let checked = execute::check(state, config, &quota, text, Told::AtOnce).await?;
    let Checked { accepted, language, version } = checked;
    let (job, about) = accepted.into_parts();
    let (ticket, attachment) = state.scheduler.submit_attached(job, &quota)?;
    let followed = Followed::new(state.clone(), client, &quota, about, ticket, received, share);
    Ok((json!({ "type": "runtime", "language": language, "version": version }), followed, attachment))
}

/// The stage that a client was told of last.
type Current = std::sync::Mutex<Option<Stage>>;

fn current(stage: &Current) -> std::sync::MutexGuard<'_, Option<Stage>> {
    // It holds one word, which is never half written.
    stage.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Tells what happens, to the end.
async fn speak(sink: &mut SplitSink<Socket, Message>, mut followed: Followed, stage: &Current) -> Result<(), Error> {
    let (mut stdout, mut stderr) = (Pieces::default(), Pieces::default());
    loop {
        match followed.next().await {
            Ok(Event::Stage(next) | Event::Cached(next)) => {
                rest(sink, &mut stdout, &mut stderr).await?;
                // One stage follows another only where that ended well.
                let before = current(stage).replace(next);
                if let Some(before) = before {
                    send(sink, exit(before, &Ending::WELL)).await?;
                }
                send(sink, json!({ "type": "stage", "stage": next })).await?;
            }
            Ok(Event::Stdout(bytes)) => print(sink, "stdout", stdout.push(&bytes)).await?,
            Ok(Event::Stderr(bytes)) => print(sink, "stderr", stderr.push(&bytes)).await?,
            Ok(Event::Finished(outcome)) => {
                rest(sink, &mut stdout, &mut stderr).await?;
                let before = current(stage).take();
                if let Some((stage, ending)) = before.and_then(|stage| Some((stage, last(&outcome, stage)?))) {
                    send(sink, exit(stage, &ending)).await?;
                }
                return close(sink, JOB_COMPLETED).await;
            }
            Ok(Event::Started | Event::Denied(_)) => {}
            Err(fault) => return answer(sink, Heard::Wrong(message(&Problem::from(&fault)))).await,
        }
    }
}

/// How the last stage ended.
fn last(outcome: &Outcome, stage: Stage) -> Option<Ending> {
    let result = match stage {
        Stage::Run => &outcome.run,
        Stage::Compile => &outcome.compile,
        Stage::Prepare => &outcome.prepare,
    };
    result.as_ref().map(Ending::of)
}

fn exit(stage: Stage, ending: &Ending) -> Value {
    json!({ "type": "exit", "stage": stage, "code": ending.code, "signal": ending.signal })
}

async fn print(sink: &mut SplitSink<Socket, Message>, stream: &str, data: String) -> Result<(), Error> {
    if data.is_empty() {
        return Ok(());
    }
    send(sink, json!({ "type": "data", "stream": stream, "data": data })).await
}

/// What is left of a stage that is over.
async fn rest(sink: &mut SplitSink<Socket, Message>, stdout: &mut Pieces, stderr: &mut Pieces) -> Result<(), Error> {
    print(sink, "stdout", stdout.finish()).await?;
    print(sink, "stderr", stderr.finish()).await
}

async fn send(sink: &mut SplitSink<Socket, Message>, message: Value) -> Result<(), Error> {
    pass(sink, Message::text(message.to_string())).await
}

async fn close(sink: &mut SplitSink<Socket, Message>, (code, reason): Close) -> Result<(), Error> {
    pass(sink, Message::Close(Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() }))).await
}

async fn pass(sink: &mut SplitSink<Socket, Message>, message: Message) -> Result<(), Error> {
    timeout(SEND_TIME, sink.send(message)).await.unwrap_or(Err(Error::ConnectionClosed))
}

/// Does what a client asks for while its program runs, up to what ends that.
async fn listen(
    source: &mut SplitStream<Socket>,
    attachment: Attachment,
    stage: &Current,
    cancel: impl Fn() -> bool,
) -> Heard {
    let Attachment { input, signals } = attachment;
    // Beside all else: a program that does not read must not keep a signal, or the client's farewell, from us.
    let (texts, waiting) = mpsc::channel(INPUTS);
    let hear = async {
        loop {
            let text = match next(source).await {
                Ok(text) => text,
                Err(heard) => return heard,
            };
            match said(&text) {
                Ok(Word::Init) => return Heard::Refused(ALREADY_INITIALIZED),
                Ok(Word::Other) => {}
                // Those who take them are there for as long as this is.
                Ok(Word::Data(data)) => drop(texts.send(data).await),
                Ok(Word::Signal(signal)) => {
                    let runs = *current(stage) == Some(Stage::Run);
                    if runs || !ends(signal) {
                        // Of more than wait already the program could not tell them apart.
                        signals.try_send(signal as i32).ok();
                    } else {
                        // There is no program yet that it could end, but a job.
                        cancel();
                    }
                }
                Err(heard) => return heard,
            }
        }
    };
    tokio::select! {
        heard = hear => heard,
        never = feed(input, waiting) => match never {},
    }
}

/// Hands standard input on as the program reads it. It never ends, as nobody can say in this dialect that it does.
async fn feed(input: mpsc::Sender<Vec<u8>>, mut waiting: mpsc::Receiver<String>) -> std::convert::Infallible {
    while let Some(text) = waiting.recv().await {
        for piece in text.as_bytes().chunks(PIECE_BYTES) {
            // A program that has ended reads no more, which is told elsewhere.
            drop(input.send(piece.to_vec()).await);
        }
    }
    std::future::pending().await
}

/// Whether a signal ends what does not look after it.
fn ends(signal: Signal) -> bool {
    matches!(signal, Signal::SIGHUP | Signal::SIGINT | Signal::SIGQUIT | Signal::SIGKILL | Signal::SIGTERM)
}
