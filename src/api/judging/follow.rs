//! Follows what is judged to its end: one answer, or events as they happen.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tracing::{debug, error, info};

use crate::config::clients::Quota;
use crate::job::{Event as JobEvent, Outcome, Overhead, Status};
use crate::judge::{Event, Judging, Method, Part, Report, Verdict};
use crate::scheduler::Fault;

use super::super::memory::Share;
use super::super::negotiate::Form;
use super::super::problem::{JOB_HEADER, Problem, job_header};
use super::super::run::prepared;
use super::super::wire::{RunResponse, StreamEvent};
use super::super::{Client, State, answer, events};
use super::{Asked, answer as written};

/// Something that is being judged. Dropping it cancels all of it, which is how hanging up does so.
#[derive(Debug)]
pub(in crate::api) struct Judged {
    asked: Asked,
    /// What decides; the rest of the task is the judge's.
    method: Method,
    judging: Judging,
    writer: events::Writer,
    state: State,
    received: Instant,
    submitted: Instant,
    is_over: bool,
    /// What came of building the program, and the checker or interactor.
    built: Option<Box<Outcome>>,
    helper: Option<Box<Outcome>>,
    retries: u32,
    overhead: Overhead,
    /// How the first case came by its sandbox.
    path: Option<crate::job::Path>,
    /// The request's share of memory.
    _share: Share,
}

impl Judged {
    /// Begins.
    pub(in crate::api) fn new(
        state: State,
        client: Client,
        quota: &Arc<Quota>,
        (task, asked): (crate::judge::Task, Asked),
        received: Instant,
        share: Share,
    ) -> Result<Self, Problem> {
        let (method, count) = (task.method.clone(), task.cases.len());
        let judging = Judging::start(&state.scheduler, quota, task)?;
        let about = &asked.about;
        info!(
            job_id = %about.id, uid = client.uid(), gid = client.gid(), client_pid = client.pid(), token = client.token(),
            client = &*quota.client, language = about.runtime.language, version = about.runtime.version,
            profile = about.profile, cases = count, "a program is to be judged"
        );
        Ok(Self {
            writer: events::Writer::new(about.clone()),
            asked,
            method,
            judging,
            state,
            received,
            submitted: Instant::now(),
            is_over: false,
            built: None,
            helper: None,
            retries: 0,
            overhead: Overhead::default(),
            path: None,
            _share: share,
        })
    }

    /// The answer, in the form that was asked for.
    pub(in crate::api) async fn answer(mut self, form: Form) -> Response {
        let id = self.asked.about.id.clone();
        // Whatever goes wrong before the first event still gets a status of its own.
        let first = loop {
            match self.next().await {
                Ok(told) if form == Form::Single => {
                    if let Some(StreamEvent::Finished(response)) = told.into_iter().next_back() {
                        return single(&response, &id);
                    }
                }
                Ok(told) if told.is_empty() => {}
                Ok(told) => break told,
                Err(fault) => return Problem::from(&fault).of_job(&id).into_response(),
            }
        };
        let chunks = stream::unfold(Some((self, Some(first))), move |state| async move {
            let (mut judged, mut pending) = state?;
            loop {
                let told = match pending.take() {
                    Some(told) => Ok(told),
                    None => judged.next().await,
                };
                let told = told.unwrap_or_else(|fault| judged.writer.write(Err(fault)));
                let is_last = matches!(told.last(), Some(StreamEvent::Finished(_) | StreamEvent::Failed { .. }));
                let mut chunk = Vec::new();
                told.iter().for_each(|event| events::encode(&mut chunk, event, form));
                if is_last {
                    return Some((chunk, None));
                }
                if !chunk.is_empty() {
                    return Some((chunk, Some((judged, None))));
                }
            }
        });
        let mut response = events::answer_in_pieces(chunks, form);
        response.headers_mut().insert(JOB_HEADER, job_header(&id));
        response
    }

    /// What is told next; the last is the result.
    async fn next(&mut self) -> Result<Vec<StreamEvent>, Fault> {
        let lost = || Err(Fault::Internal("the judge let go of a task".to_owned()));
        match self.judging.next().await.unwrap_or_else(lost) {
            Ok(Event::Building(event)) => {
                if event == JobEvent::Started {
                    self.state.metrics.started(self.submitted.elapsed());
                }
                Ok(self.writer.write(Ok(event)))
            }
            Ok(Event::Built(Part::Program, outcome)) => {
                self.add(&outcome);
                self.built = Some(outcome);
                Ok(Vec::new())
            }
            Ok(Event::Built(Part::Helper, outcome)) => {
                self.helper = Some(outcome);
                Ok(Vec::new())
            }
            Ok(Event::Case(index, result)) => {
                if let Some(outcome) = &result.outcome {
                    self.add(outcome);
                    self.path = self.path.or(Some(outcome.path));
                    self.count(outcome);
                }
                let case = written::case(&self.asked, index, *result);
                Ok(vec![StreamEvent::Case { id: self.asked.about.id.to_string(), case: Box::new(case) }])
            }
            Ok(Event::Finished(report)) => self.finished(*report),
            Err(fault) => {
                self.failed(&fault);
                Err(fault)
            }
        }
    }

    fn add(&mut self, outcome: &Outcome) {
        let Overhead { queue_us, prepare_us, start_us, collect_us } = outcome.overhead;
        self.overhead.queue_us += queue_us;
        self.overhead.prepare_us += prepare_us;
        self.overhead.start_us += start_us;
        self.overhead.collect_us += collect_us;
        self.retries += outcome.retries;
    }

    /// A run of the program counts as a run.
    fn count(&self, outcome: &Outcome) {
        let wall_us = outcome.run.as_ref().map_or(0, |run| run.usage.wall_time_us);
        let total = Duration::from_micros(wall_us + outcome.overhead.total_us());
        self.state.metrics.finished(&self.asked.about.runtime, outcome, total);
    }

    fn finished(&mut self, report: Report) -> Result<Vec<StreamEvent>, Fault> {
        self.is_over = true;
        let total = self.received.elapsed();
        info!(
            job_id = %self.asked.about.id, verdict = ?report.total.verdict, accepted = report.total.accepted,
            total_us = total.as_micros(), "a program is judged"
        );
        // One that was cancelled while it was built has not got so far.
        let built = self.built.take().ok_or(Fault::Cancelled)?;
        let (status, path) = (status(report.total.verdict, &built), self.path.unwrap_or(built.path));
        let installing = prepared(&self.state, &self.asked.about, &built);
        if self.path.is_none() {
            self.state.metrics.finished(&self.asked.about.runtime, &built, total.saturating_sub(installing));
        }
        let tests = written::tests(&self.asked, &self.method, report, self.helper.take().map(|outcome| *outcome));
        let outcome = Outcome { path, retries: self.retries, overhead: self.overhead, ..*built };
        let response = answer::response(&self.asked.about, outcome);
        Ok(vec![StreamEvent::Finished(Box::new(RunResponse { status, tests: Some(tests), ..response }))])
    }

    fn failed(&mut self, fault: &Fault) {
        self.is_over = true;
        let kind = Problem::from(fault).kind;
        self.state.metrics.problem(kind);
        if kind.is_refusal() {
            debug!(job_id = %self.asked.about.id, ?fault, "judging was refused");
        } else {
            error!(job_id = %self.asked.about.id, "judging failed: {fault}");
        }
    }
}

impl Drop for Judged {
    fn drop(&mut self) {
        if !self.is_over {
            self.state.metrics.hung_up();
            info!(job_id = %self.asked.about.id, "the client hung up, judging is cancelled");
        }
    }
}

/// The status of all of it: what is to be said of the cases, they say.
fn status(verdict: Verdict, built: &Outcome) -> Status {
    let has_failed = [&built.prepare, &built.compile].into_iter().flatten().any(|stage| stage.status != Status::Ok);
    match verdict {
        Verdict::Cancelled => Status::Cancelled,
        _ if has_failed => built.status(),
        _ => Status::Ok,
    }
}

fn single(response: &RunResponse, id: &crate::job::JobId) -> Response {
    let body = serde_json::to_vec(response).expect("an answer has only text keys");
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(JOB_HEADER, job_header(id));
    response
}
