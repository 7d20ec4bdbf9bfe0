//! Has a submission run, as often as it wants, writes down what becomes of it, and tells whoever wanted to know.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tracing::error;

use crate::api::memory::Share;
use crate::api::problem::Problem;
use crate::api::run::Followed;
use crate::api::{Client, State};
use crate::config::clients::Quota;
use crate::job::{Event, JobId, Outcome};
use crate::scheduler::{Fault, Refused};

use super::job::Prepared;
use super::record::{Status, Submission, Summary, Texts};
use super::{Judge0, Place, keep, now_ms, verdict};

/// Longest time between two tries to get into a full queue.
const MOST_PATIENCE: Duration = Duration::from_secs(2);

/// A submission that was taken.
pub(super) struct Work {
    pub(super) judge0: Judge0,
    pub(super) state: State,
    pub(super) client: Client,
    pub(super) quota: Arc<Quota>,
    pub(super) submission: Submission,
    pub(super) prepared: Prepared,
    pub(super) place: Place,
    /// Memory that it takes until it is over.
    pub(super) shares: Vec<Arc<Share>>,
}

/// What is left of it when it is over.
struct Told {
    judge0: Judge0,
    state: State,
    quota: Arc<Quota>,
    /// Without what was sent.
    submission: Submission,
    place: Place,
}

/// What one run came to.
enum Run {
    /// It was judged, with what the compiler said and what it printed.
    Judged(Box<Outcome>),
    /// We failed.
    Failed(String),
    /// The service stops, and the next one says so.
    Stopped,
}

impl Work {
    /// Carries it to its end. `over` is dropped as soon as what became of it is written down.
    pub(super) async fn carry_out(mut self, over: tokio::sync::oneshot::Sender<()>) {
        let finished = self.all_runs().await;
        if finished {
            let now = now_ms();
            (self.submission.finished_at, self.submission.details.updated_at) = (Some(now), Some(now));
            self.write().await;
        }
        let mut told = self.let_go();
        drop(over);
        told.place.over();
        if finished {
            told.judge0.tell(&told.submission, &told.quota.client, &told.state.config()).await;
        }
    }

    /// Lets go of what is large, and then gives its share of memory back: whoever is told may take long to answer.
    fn let_go(self) -> Told {
        let Self { judge0, state, quota, mut submission, prepared, place, shares, client: _ } = self;
        drop(prepared);
        submission.texts.forget_sent();
        drop(shares);
        Told { judge0, state, quota, submission, place }
    }

    /// Whether it is over.
    async fn all_runs(&mut self) -> bool {
        let (mut time, mut memory) = (Vec::new(), Vec::new());
        for _ in 0..self.submission.details.settings.number_of_runs {
            match self.run().await {
                Run::Judged(outcome) => self.judge(*outcome),
                Run::Failed(message) => {
                    self.submission.status = Status::Internal;
                    self.submission.details.result = Summary { message: Some(message), ..Summary::default() };
                    return true;
                }
                Run::Stopped => return false,
            }
            let result = &self.submission.details.result;
            time.extend(result.time);
            memory.extend(result.memory);
            if self.submission.status != Status::Accepted {
                break;
            }
        }
        let result = &mut self.submission.details.result;
        if let (Some(count @ 1..), true) = (u32::try_from(time.len()).ok(), result.time.is_some()) {
            result.time = Some(time.iter().sum::<f64>() / f64::from(count));
            result.memory = Some(memory.iter().sum::<u64>() / u64::from(count));
        }
        true
    }

    async fn run(&mut self) -> Run {
        let mut followed = match self.submit().await {
            Ok(followed) => followed,
            Err(run) => return run,
        };
        loop {
            match followed.next().await {
                Ok(Event::Started) => self.begin().await,
                Ok(Event::Finished(outcome)) => return Run::Judged(outcome),
                Ok(_) => {}
                Err(Fault::Stopping) => return Run::Stopped,
                Err(fault) => return Run::Failed(Problem::from(&fault).detail),
            }
        }
    }

    /// Gets the job into the queue, when there is a place for it.
    async fn submit(&self) -> Result<Followed, Run> {
        let received = Instant::now();
        loop {
            let mut job = self.prepared.job.clone();
            job.id = JobId::random();
            let mut about = self.prepared.about.clone();
            about.id = job.id.clone();
            let ticket = match self.state.scheduler.submit(job, &self.quota) {
                Ok(ticket) => ticket,
                Err(Refused::QueueFull { retry_after, .. } | Refused::ClientQueueFull { retry_after, .. }) => {
                    tokio::time::sleep(retry_after.min(MOST_PATIENCE)).await;
                    continue;
                }
                Err(Refused::Stopping) => return Err(Run::Stopped),
                Err(refused @ Refused::Unavailable) => return Err(Run::Failed(Problem::from(refused).detail)),
            };
            // What it holds in memory it holds for all of its runs.
            let share = self.state.memory.share(&self.quota.client);
            let (state, client) = (self.state.clone(), self.client.clone());
            return Ok(Followed::new(state, client, &self.quota, about, ticket, received, share));
        }
    }

    /// The first of its runs has begun.
    async fn begin(&mut self) {
        if self.submission.status == Status::Queue {
            let now = now_ms();
            self.submission.status = Status::Processing;
            (self.submission.details.started_at, self.submission.details.updated_at) = (Some(now), Some(now));
            self.write().await;
        }
    }

    fn judge(&mut self, outcome: Outcome) {
        let Submission { status, details, texts, .. } = &mut self.submission;
        texts.compile_output = outcome.compile.as_ref().and_then(verdict::compile_output);
        match outcome.run {
            Some(stage) => {
                let expected = texts.expected_output.as_deref();
                let verdict = verdict::of_run(&stage, self.prepared.cpu_time_us, expected);
                (*status, details.result) = (verdict.status, verdict.summary);
                (texts.stdout, texts.stderr) = (verdict::some(stage.stdout), verdict::some(stage.stderr));
            }
            None => {
                let cancelled = outcome.compile.is_some_and(|stage| stage.status == crate::job::Status::Cancelled);
                *status = if cancelled { Status::Internal } else { Status::Compilation };
                details.result = Summary::default();
                (texts.stdout, texts.stderr) = (None, None);
            }
        }
    }

    async fn write(&self) {
        let Submission { token, language_id, status, created_at, finished_at, details, texts } = &self.submission;
        let changed = Texts {
            stdout: texts.stdout.clone(),
            stderr: texts.stderr.clone(),
            compile_output: texts.compile_output.clone(),
            ..Texts::default()
        };
        let submission = Submission {
            token: token.clone(),
            language_id: *language_id,
            status: *status,
            created_at: *created_at,
            finished_at: *finished_at,
            details: details.clone(),
            texts: changed,
        };
        let keep = keep(&self.state.config());
        if let Err(error) = self.judge0.shared.store.update(submission, texts.bytes(), keep).await {
            error!(token, "what became of a submission is lost: {error}");
        }
    }
}
