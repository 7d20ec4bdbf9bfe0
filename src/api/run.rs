//! `POST /v1/run` and `DELETE /v1/runs/{id}`: submits a job, follows it to its end, cancels it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Extension, Path};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use tracing::{debug, error, info};

use crate::config::Config;
use crate::config::clients::Quota;
use crate::job::{Event, Outcome};
use crate::judge::Task;
use crate::scheduler::{Fault, Ticket};

use super::answer::{self, About};
use super::body::{self, Held};
use super::client::known;
use super::judging::{self, Asked, Judged};
use super::memory::Share;
use super::negotiate::{self, Form};
use super::problem::{JOB_HEADER, Kind, Problem, ProblemDetails, job_header};
use super::request::{self, Accepted};
use super::uploads::Named;
use super::wire::{RunRequest, RunResponse};
use super::{Client, State, events, fields};

/// Bodies above this size are read on another thread, where they keep no other request waiting.
const LARGE_BODY: usize = 64 << 10;

/// Runs a program and answers when it has ended, or streams what happens.
///
/// The header `Accept` chooses: `application/json` for one answer, `application/x-ndjson` or
/// `text/event-stream` for events as they happen. Closing the connection cancels the run.
#[utoipa::path(
    post,
    path = "/v1/run",
    request_body = RunRequest,
    responses(
        (status = 200, description = "What became of the program, whatever it is", content(
            (RunResponse = "application/json"),
            (super::wire::StreamEvent = "application/x-ndjson"),
            (super::wire::StreamEvent = "text/event-stream"),
        ), headers(("Codesandbox-Job" = String, description = "The job's id"))),
        (status = 400, description = "The body is not JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 403, description = "The profile may not be used", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 404, description = "No such runtime", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 406, description = "No acceptable form", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 409, description = "The runtime is broken, or the run was cancelled before it began", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 415, description = "The body must be JSON", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 422, description = "A field is not valid", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "A queue is full", body = ProblemDetails, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "No launcher, or the service stops", body = ProblemDetails, content_type = "application/problem+json",
            headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub async fn run(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let received = Instant::now();
    let metrics = state.metrics.clone();
    let submitted = async {
        let form = negotiate::form(&headers)?;
        negotiate::must_be_json(&headers)?;
        let client = known(client)?;
        let config = state.config();
        let share = state.memory.share(&client.quota(&config)?.client);
        let held = body::read(body, config.service.body_bytes, share).await?;
        Ok::<_, Problem>((submit(state, client, held, received).await?, form))
    };
    let (submitted, form) = match submitted.await {
        Ok(submitted) => submitted,
        Err(problem) => {
            debug!(problem = problem.kind.name(), field = problem.field, "a request was refused");
            metrics.problem(problem.kind);
            return problem.into_response();
        }
    };
    let mut followed = match submitted {
        Submitted::Run(followed) => *followed,
        Submitted::Judged(judged) => return judged.answer(form).await,
    };
    if form == Form::Single {
        return single(followed).await;
    }
    // Whatever goes wrong before the first event still gets a status of its own.
    match followed.next().await {
        Ok(first) => events::response(followed, first, form),
        Err(fault) => Problem::from(&fault).of_job(&followed.about.id).into_response(),
    }
}

/// Cancels a run that waits or runs. Its id is random: who knows it may cancel it.
#[utoipa::path(
    delete,
    path = "/v1/runs/{id}",
    params(("id" = String, Path, description = "The job's id")),
    responses(
        (status = 204, description = "It is being cancelled"),
        (status = 404, description = "No such run", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub async fn cancel(
    axum::extract::State(state): axum::extract::State<State>,
    id: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    // A path that is no text names no run either.
    if let Ok(Path(id)) = id
        && state.scheduler.cancel(&id)
    {
        info!(job_id = id, "a run is cancelled by request");
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(Kind::UnknownRun, "no run of this id waits or runs"))
}

async fn submit(state: State, client: Client, held: Held, received: Instant) -> Result<Submitted, Problem> {
    let Held { bytes, mut share } = held;
    state.metrics.received(bytes.len());
    let config = state.config();
    let quota = client.quota(&config)?;
    // Files that a request names are read as it is checked.
    let may_block = bytes.len() > LARGE_BODY || names_files(&bytes);
    let (checked, share) = if may_block {
        let (state, quota) = (state.clone(), Arc::clone(&quota));
        let checking = move || check(&bytes, &state, &config, &quota, &mut share).map(|checked| (checked, share));
        tokio::task::spawn_blocking(checking)
            .await
            .map_err(|_| Problem::new(Kind::Internal, "the request could not be read"))??
    } else {
        (check(&bytes, &state, &config, &quota, &mut share)?, share)
    };
    match checked {
        Checked::Run(accepted) => {
            follow(state, client, &quota, *accepted, received, share).map(|followed| Submitted::Run(Box::new(followed)))
        }
        Checked::Judged(asked) => Judged::new(state, client, &quota, *asked, received, share)
            .map(|judged| Submitted::Judged(Box::new(judged))),
    }
}

/// A request that was checked.
enum Checked {
    Run(Box<Accepted>),
    Judged(Box<(Task, Asked)>),
}

/// What came of a request that was submitted.
enum Submitted {
    Run(Box<Followed>),
    Judged(Box<Judged>),
}

/// Submits a job that was checked.
pub(super) fn follow(
    state: State,
    client: Client,
    quota: &Arc<Quota>,
    accepted: Accepted,
    received: Instant,
    share: Share,
) -> Result<Followed, Problem> {
    let (job, about) = accepted.into_parts();
    let ticket = state.scheduler.submit(job, quota)?;
    Ok(Followed::new(state, client, quota, about, ticket, received, share))
}

/// Counts the prepare stage of a job, where it had one. Returns the time that its installer took.
pub(super) fn prepared(state: &State, about: &About, outcome: &Outcome) -> Duration {
    let stage = about.installs.zip(outcome.prepare.as_ref());
    stage.map_or(Duration::ZERO, |(ecosystem, stage)| state.metrics.prepared(ecosystem, stage))
}

/// Whether a body may name a file that was uploaded.
fn names_files(bytes: &[u8]) -> bool {
    const NAME: &[u8] = b"_file";
    bytes.windows(NAME.len()).any(|window| window == NAME)
}

fn check(bytes: &[u8], state: &State, config: &Config, quota: &Quota, share: &mut Share) -> Result<Checked, Problem> {
    let mut request: RunRequest = fields::parse(bytes)?;
    let mut named = Named::new(state, &quota.client, share);
    let mut uploaded = |field: &str, name: &str| named.read(field, name);
    Ok(match request.tests.take() {
        Some(tests) => {
            let asked = judging::check(tests, request, config, &state.runtimes(), quota, &mut uploaded)?;
            Checked::Judged(Box::new(asked))
        }
        None => {
            let accepted = request::check(request, config, &state.runtimes(), quota, &mut uploaded)?;
            Checked::Run(Box::new(accepted))
        }
    })
}

async fn single(mut followed: Followed) -> Response {
    let outcome = loop {
        match followed.next().await {
            Ok(Event::Finished(outcome)) => break outcome,
            Ok(_) => {}
            Err(fault) => {
                return Problem::from(&fault).of_job(&followed.about.id).into_response();
            }
        }
    };
    let body = serde_json::to_vec(&answer::response(&followed.about, *outcome)).expect("an answer has only text keys");
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(JOB_HEADER, job_header(&followed.about.id));
    response
}

/// A job on its way. Dropping it cancels the job, which is how hanging up does so.
#[derive(Debug)]
pub(super) struct Followed {
    /// What its answer says of it.
    pub(super) about: About,
    ticket: Ticket,
    state: State,
    received: Instant,
    submitted: Instant,
    is_over: bool,
    /// Memory that the request takes.
    _share: Share,
}

impl Followed {
    /// A job that was submitted, and is told to the journal.
    pub(super) fn new(
        state: State,
        client: Client,
        quota: &Quota,
        about: About,
        ticket: Ticket,
        received: Instant,
        share: Share,
    ) -> Self {
        info!(
            job_id = %about.id, uid = client.uid(), gid = client.gid(), client_pid = client.pid(),
            client = &*quota.client, token = client.token(), language = about.runtime.language, version = about.runtime.version,
            profile = about.profile, "a run is queued"
        );
        Self { about, ticket, state, received, submitted: Instant::now(), is_over: false, _share: share }
    }

    /// What happens next; after [`Event::Finished`] or a fault, nothing does.
    pub(super) async fn next(&mut self) -> Result<Event, Fault> {
        let lost = || Err(Fault::Internal("the scheduler let go of the job".to_owned()));
        let happened = self.ticket.next().await.unwrap_or_else(lost);
        match &happened {
            Ok(Event::Started) => self.state.metrics.started(self.submitted.elapsed()),
            Ok(Event::Finished(outcome)) => self.finished(outcome),
            Err(fault) => self.failed(fault),
            Ok(Event::Stage(_) | Event::Cached(_) | Event::Stdout(_) | Event::Stderr(_) | Event::Denied(_)) => {}
        }
        happened
    }

    fn finished(&mut self, outcome: &Outcome) {
        self.is_over = true;
        let total = self.received.elapsed();
        let installing = prepared(&self.state, &self.about, outcome);
        self.state.metrics.finished(&self.about.runtime, outcome, total.saturating_sub(installing));
        let usage = outcome
            .run
            .as_ref()
            .or(outcome.compile.as_ref())
            .or(outcome.prepare.as_ref())
            .map(|stage| stage.usage)
            .unwrap_or_default();
        info!(
            job_id = %self.about.id, status = ?outcome.status(), total_us = total.as_micros(),
            wall_time_us = usage.wall_time_us, cpu_time_us = usage.cpu_time_us,
            memory_peak_bytes = usage.memory_peak_bytes, "a run is over"
        );
    }

    fn failed(&mut self, fault: &Fault) {
        self.is_over = true;
        let kind = Problem::from(fault).kind;
        self.state.metrics.problem(kind);
        if kind.is_refusal() {
            debug!(job_id = %self.about.id, ?fault, "a run was refused");
        } else {
            error!(job_id = %self.about.id, "a run failed: {fault}");
        }
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.is_over {
            self.state.metrics.hung_up();
            info!(job_id = %self.about.id, "the client hung up, the run is cancelled");
        }
    }
}
