//! Programs in a session: started, waited for, listed, fed, signalled, removed.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::header::{HeaderValue, LOCATION};
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tracing::{debug, info};

use super::asked::{Asked, Problems, json, nothing, problem};
use super::output::Followed;
use super::wire::{ExecEvent, ExecRequest, ExecResponse, ExecsResponse, SignalRequest, SizeRequest};
use super::{answer, check};
use crate::api::negotiate::{self, Form};
use crate::api::problem::{Kind, Problem, ProblemDetails};
use crate::session::types::{ExecView, From, Happening, NewExec};
use crate::session::{Attachment, Sessions};

/// Most bytes of standard input that are handed on at one time.
const STDIN_BYTES: usize = 64 << 10;
/// Most time to tell what a program that has ended had printed.
const REPLAY_TIME: Duration = Duration::from_secs(10);

/// Runs a program in a session, and answers when it has ended, streams what happens, or answers at once.
///
/// The header `Accept` chooses as in `POST /v1/run`; with `detach` the answer comes at once. Closing the
/// connection ends a program that is not detached.
#[utoipa::path(post, path = "/v1/sessions/{id}/execs", params(("id" = String, Path, description = "The session's id")),
    request_body = ExecRequest,
    responses(
        (status = 200, description = "The program has ended; or events as they happen", content(
            (ExecResponse = "application/json"), (ExecEvent = "application/x-ndjson"), (ExecEvent = "text/event-stream"))),
        (status = 201, description = "The program runs, detached", body = ExecResponse),
        (status = 202, description = "The service stops, and the program goes on", body = ExecResponse),
        (status = 406, description = "No acceptable form", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn create(asked: Asked, body: Body) -> Result<Response, Problem> {
    let form = negotiate::form(&asked.headers)?;
    let request: ExecRequest = asked.json(body).await?;
    let view = asked.sessions.find(asked.client(), asked.id()).map_err(problem)?;
    let new = check::exec(request, &view, &asked.config, &asked.state.runtimes())?;
    let is_detached = new.detached;
    let (view, hold) = start(&asked, new).await?;
    asked.state.metrics.exec_started();
    info!(session_id = asked.id(), exec = view.id, client = asked.client(), "a program is started in a session");
    if is_detached {
        hold.release();
        return Ok(placed(json(StatusCode::CREATED, &answer::exec(asked.id(), view.clone())), &asked, view.id));
    }
    let from = From { follow: true, ..From::default() };
    let attachment = asked.sessions.follow(asked.client(), asked.id(), view.id, from).await.map_err(problem)?;
    if form == Form::Single {
        return wait(&asked, view, hold, attachment).await;
    }
    let (exec, started) = (view.id, answer::exec(asked.id(), view));
    Ok(Followed::new(&asked, exec, attachment).holding(hold).response(Some(started), form))
}

/// Starts a program. It is on a task of its own, since half a start can be neither followed nor ended: where
/// the client has hung up when it is done, the program is ended then.
async fn start(asked: &Asked, new: NewExec) -> Result<(ExecView, Hold), Problem> {
    let (sender, receiver) = oneshot::channel();
    let asked = asked.clone();
    tokio::spawn(async move {
        let is_detached = new.detached;
        let started = asked.sessions.exec(asked.client(), asked.id(), new).await;
        let started = started.map(|view| {
            let hold = Hold::new(&asked, view.id);
            (view, if is_detached { hold.let_go() } else { hold })
        });
        // What nobody takes is dropped here, and the hold in it ends the program.
        drop(sender.send(started));
    });
    let lost = |_| Problem::new(Kind::Internal, "the journal has the cause");
    receiver.await.map_err(lost)?.map_err(problem)
}

/// Waits for a program's end, gathering what it prints.
async fn wait(asked: &Asked, started: ExecView, hold: Hold, mut attachment: Attachment) -> Result<Response, Problem> {
    let exec = started.id;
    let mut gathered = answer::Gathered::default();
    let stopping = asked.connection.stopping();
    tokio::pin!(stopping);
    let now = || asked.sessions.exec_view(asked.client(), asked.id(), exec);
    let result = loop {
        let happening = tokio::select! {
            biased;
            () = &mut stopping => {
                // Sessions outlive the service, and so do their programs.
                hold.release();
                let view = now().await.unwrap_or(started);
                return Ok(placed(json(StatusCode::ACCEPTED, &answer::exec(asked.id(), view)), asked, exec));
            }
            happening = attachment.next() => happening,
        };
        match happening {
            Some(Happening::Finished(result)) => break *result,
            Some(happening) => gathered.note(&happening),
            None => {
                // It was removed, or its session was.
                let gone = now().await.map_err(problem).err();
                return Err(gone.unwrap_or_else(|| Problem::new(Kind::Internal, "the journal has the cause")));
            }
        }
    };
    hold.release();
    // Whoever removes it now is too late to keep us from telling.
    let view = now().await.unwrap_or_else(|_| ExecView { result: Some(result.clone()), ..started });
    let mut answer = answer::exec(asked.id(), ExecView { result: Some(result), ..view });
    if let Some(result) = &mut answer.result {
        result.printed = Some(gathered.printed(false));
    }
    Ok(json(StatusCode::OK, &answer))
}

/// The same answer, saying where the program is found from now on.
fn placed(mut response: Response, asked: &Asked, exec: u64) -> Response {
    // An id is visible ASCII; a path that named no session has brought about no program.
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/sessions/{}/execs/{exec}", asked.id())) {
        response.headers_mut().insert(LOCATION, place);
    }
    response
}

/// Lists the programs of a session that run, or have ended and are not forgotten yet.
#[utoipa::path(get, path = "/v1/sessions/{id}/execs", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The programs, oldest first, without what they printed", body = ExecsResponse), Problems))]
pub async fn list(asked: Asked) -> Result<Response, Problem> {
    let views = asked.sessions.execs(asked.client(), asked.id()).await.map_err(problem)?;
    let execs = views.into_iter().map(|view| answer::exec(asked.id(), view)).collect();
    Ok(json(StatusCode::OK, &ExecsResponse { execs }))
}

/// Tells of a program; of one that has ended, also what it printed, as far as it is kept.
#[utoipa::path(get, path = "/v1/sessions/{id}/execs/{exec}",
    params(("id" = String, Path, description = "The session's id"), ("exec" = u64, Path, description = "The program's id")),
    responses((status = 200, description = "The program", body = ExecResponse), Problems))]
pub async fn show(asked: Asked) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    let view = asked.sessions.exec_view(asked.client(), asked.id(), exec).await.map_err(problem)?;
    let begins_late = view.stdout.first > 0 || view.stderr.is_some_and(|stderr| stderr.first > 0);
    let mut answer = answer::exec(asked.id(), view);
    if let Some(result) = &mut answer.result {
        let replayed = tokio::time::timeout(REPLAY_TIME, replay(&asked, exec)).await;
        let late = |_| Problem::new(Kind::Internal, "what the program printed could not be read in time");
        result.printed = Some(replayed.map_err(late)??.printed(begins_late));
    }
    Ok(json(StatusCode::OK, &answer))
}

async fn replay(asked: &Asked, exec: u64) -> Result<answer::Gathered, Problem> {
    let mut gathered = answer::Gathered::default();
    let from = From::default();
    let mut attachment = asked.sessions.follow(asked.client(), asked.id(), exec, from).await.map_err(problem)?;
    while let Some(happening) = attachment.next().await {
        gathered.note(&happening);
        if matches!(happening, Happening::Finished(_) | Happening::End) {
            break;
        }
    }
    Ok(gathered)
}

/// Ends a program, and forgets it and what it printed.
#[utoipa::path(delete, path = "/v1/sessions/{id}/execs/{exec}",
    params(("id" = String, Path, description = "The session's id"), ("exec" = u64, Path, description = "The program's id")),
    responses((status = 204, description = "It is gone"), Problems))]
pub async fn remove(asked: Asked) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    asked.whole(move |asked| async move { asked.sessions.remove_exec(asked.client(), asked.id(), exec).await }).await?;
    Ok(nothing())
}

/// Writes to a program's standard input. The body is handed on as it comes, and may stay open.
#[utoipa::path(post, path = "/v1/sessions/{id}/execs/{exec}/stdin",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("exec" = u64, Path, description = "The program's id"),
        ("close" = Option<bool>, Query, description = "Whether nothing comes behind this; false where absent"),
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "All of it is written"), Problems))]
pub async fn stdin(asked: Asked, mut body: Body) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    let close = asked.query(&["close"])?.flag("close")?;
    let write = |bytes: Vec<u8>, close| asked.sessions.write_stdin(asked.client(), asked.id(), exec, bytes, close);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Problem::new(Kind::BrokenBody, "the body could not be read to its end"))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        for piece in data.chunks(STDIN_BYTES) {
            write(piece.to_vec(), false).await.map_err(problem)?;
        }
    }
    // Also where there is nothing to write, so that a program that is not there is told of.
    write(Vec::new(), close).await.map_err(problem)?;
    Ok(nothing())
}

/// Sends a signal to a program and all that it started.
#[utoipa::path(post, path = "/v1/sessions/{id}/execs/{exec}/signal",
    params(("id" = String, Path, description = "The session's id"), ("exec" = u64, Path, description = "The program's id")),
    request_body = SignalRequest,
    responses((status = 204, description = "It is sent"), Problems))]
pub async fn signal(asked: Asked, body: Body) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    let request: SignalRequest = asked.json(body).await?;
    let signal = check::signal(&request.signal)?;
    asked.sessions.signal(asked.client(), asked.id(), exec, signal).await.map_err(problem)?;
    Ok(nothing())
}

/// Gives a program's terminal another size.
#[utoipa::path(post, path = "/v1/sessions/{id}/execs/{exec}/resize",
    params(("id" = String, Path, description = "The session's id"), ("exec" = u64, Path, description = "The program's id")),
    request_body = SizeRequest,
    responses((status = 204, description = "It has that size"), Problems))]
pub async fn resize(asked: Asked, body: Body) -> Result<Response, Problem> {
    let exec = asked.exec()?;
    let size = check::size("", asked.json(body).await?)?;
    asked.sessions.resize(asked.client(), asked.id(), exec, size).await.map_err(problem)?;
    Ok(nothing())
}

/// A hold on a program: dropped, it ends the program, which is how hanging up does so.
#[derive(Debug)]
pub(super) struct Hold {
    sessions: Sessions,
    client: Arc<str>,
    session: String,
    exec: u64,
    holds: bool,
}

impl Hold {
    fn new(asked: &Asked, exec: u64) -> Self {
        let client = Arc::clone(&asked.quota.client);
        Self { sessions: asked.sessions.clone(), client, session: asked.id().to_owned(), exec, holds: true }
    }

    fn let_go(mut self) -> Self {
        self.holds = false;
        self
    }

    /// Lets the program be, whatever becomes of it.
    pub(super) fn release(self) {
        drop(self.let_go());
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        // Without a runtime there is no service any more that could be asked.
        let Some(runtime) = Handle::try_current().ok().filter(|_| self.holds) else {
            return;
        };
        let (sessions, client) = (self.sessions.clone(), Arc::clone(&self.client));
        let (session, exec) = (std::mem::take(&mut self.session), self.exec);
        info!(session_id = session, exec, "the client hung up, the program is ended");
        runtime.spawn(async move {
            if let Err(error) = sessions.remove_exec(&client, &session, exec).await {
                debug!(session_id = session, exec, "a program whose client hung up was gone: {error}");
            }
        });
    }
}
