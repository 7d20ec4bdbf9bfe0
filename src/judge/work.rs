//! Has a task judged: what is needed is built once, then cases run, some at a time, each as a job of the client like
//! any other. A full queue is waited for. What is told comes in the order of the cases, whichever ends first.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot, watch};

use super::helper::{self, ARGUMENTS};
use super::score::{self, Total};
use super::task::{Case, Failed, Method, Task};
use super::verdict::{CaseResult, Verdict};
use crate::config::clients::Quota;
use crate::job::{Event as JobEvent, Job, JobId, Outcome, StageResult, Status};
use crate::plan::ArchivedFile;
use crate::scheduler::{Built, Fault, Gathering, Refused, Scheduler, Series, Talk, Ticket};

/// Cases that wait for a slot while others run, so that none stays free.
const AHEAD: usize = 2;
/// Events that wait for a client that reads slowly; then no further cases are run.
const EVENTS: usize = 16;
/// Most bytes that one case shows of the program's standard error.
const STDERR_BYTES: usize = 256;
/// Most bytes that all cases together show of what programs printed and of what was expected.
const SHOWN_BYTES: usize = 256 << 10;
/// Results from this size on are compared on another thread, where they keep no request waiting.
const LARGE: usize = 64 << 10;

/// Which program was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The one that is judged.
    Program,
    /// What decides.
    Helper,
}

/// What happens, in order; the last is [`Event::Finished`].
#[derive(Debug)]
pub enum Event {
    /// Something happens while the program is built.
    Building(JobEvent),
    /// A program is built, or can't be.
    Built(Part, Box<Outcome>),
    /// A case has its verdict.
    Case(usize, Box<CaseResult>),
    /// All is said.
    Finished(Box<Report>),
}

/// What came of it all.
#[derive(Debug)]
pub struct Report {
    /// All cases together; nothing where none was run because something could not be built.
    pub total: Total,
    /// Each case.
    pub cases: Vec<CaseResult>,
}

type Told = Result<Event, Fault>;

/// A task that is being judged. Dropping it cancels all of it.
#[derive(Debug)]
pub struct Judging {
    events: mpsc::Receiver<Told>,
    work: tokio::task::AbortHandle,
}

impl Judging {
    /// Begins. Needs a tokio runtime.
    ///
    /// # Errors
    /// The first of its jobs is refused; later ones wait where the queue is full.
    pub fn start(scheduler: &Scheduler, quota: &Arc<Quota>, mut task: Task) -> Result<Self, Refused> {
        // The task's name is for all of it.
        let program = Job { id: JobId::random(), ..task.program.clone() };
        let (ticket, built) = scheduler.build(program, quota)?;
        // They are in what is built.
        task.program.files = Vec::new();
        let gathering = scheduler.gather(&task.id);
        let (told, events) = mpsc::channel(EVENTS);
        let work = Work {
            scheduler: scheduler.clone(),
            quota: Arc::clone(quota),
            task,
            failed: watch::Sender::new(Failed::default()),
            told,
        };
        let work = tokio::spawn(work.carry_out(ticket, built, gathering)).abort_handle();
        Ok(Self { events, work })
    }

    /// What happens next; nothing after the last event or a fault.
    pub async fn next(&mut self) -> Option<Told> {
        self.events.recv().await
    }
}

impl Drop for Judging {
    fn drop(&mut self) {
        self.work.abort();
    }
}

struct Work {
    scheduler: Scheduler,
    quota: Arc<Quota>,
    task: Task,
    failed: watch::Sender<Failed>,
    told: mpsc::Sender<Told>,
}

/// What was built for all cases.
struct Ready {
    program: Built,
    helper: Option<Built>,
}

impl Work {
    async fn carry_out(self, ticket: Ticket, built: oneshot::Receiver<Built>, mut gathering: Gathering) {
        let mut results: Vec<Option<CaseResult>> = self.task.cases.iter().map(|_| None).collect();
        let mut began = false;
        let ended = tokio::select! {
            biased;
            () = gathering.cancelled() => None,
            ended = self.judge(ticket, built, &mut began, &mut results) => Some(ended),
        };
        let verdict = match ended {
            Some(Ok(verdict)) => verdict,
            Some(Err(fault)) => return self.tell(Err(fault)).await,
            None if !began => return self.tell(Err(Fault::Cancelled)).await,
            None => Some(Verdict::Cancelled),
        };
        let cases: Vec<CaseResult> = results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| CaseResult::of(Verdict::Skipped, None)))
            .collect();
        let mut total = score::total(&self.task, &cases);
        total.verdict = verdict.unwrap_or(total.verdict);
        self.tell(Ok(Event::Finished(Box::new(Report { total, cases })))).await;
    }

    /// The verdict on all, where it is not for the cases to say.
    async fn judge(
        &self,
        ticket: Ticket,
        built: oneshot::Receiver<Built>,
        began: &mut bool,
        results: &mut [Option<CaseResult>],
    ) -> Result<Option<Verdict>, Fault> {
        let outcome = self.follow_build(ticket, began).await?;
        let failure = failure_of(&outcome);
        self.tell(Ok(Event::Built(Part::Program, Box::new(outcome)))).await;
        if let Some(verdict) = failure {
            return Ok(Some(verdict));
        }
        let program = made(built).await?;
        let helper = match &self.task.method {
            Method::Compare(_) => None,
            Method::Checker(job) | Method::Interactor(job) => {
                let building = self.when_there_is_room(|| self.scheduler.build((**job).clone(), &self.quota));
                let (mut ticket, built) = building.await?;
                let outcome = end_of(&mut ticket).await?;
                let has_failed = failure_of(&outcome).is_some();
                self.tell(Ok(Event::Built(Part::Helper, Box::new(outcome)))).await;
                if has_failed {
                    return Ok(Some(Verdict::JudgeError));
                }
                Some(made(built).await?)
            }
        };
        self.run_cases(&Ready { program, helper }, results).await?;
        Ok(None)
    }

    async fn follow_build(&self, mut ticket: Ticket, began: &mut bool) -> Result<Outcome, Fault> {
        loop {
            match next(&mut ticket).await? {
                JobEvent::Finished(outcome) => return Ok(*outcome),
                event => {
                    *began = true;
                    self.tell(Ok(Event::Building(event))).await;
                }
            }
        }
    }

    async fn run_cases(&self, ready: &Ready, results: &mut [Option<CaseResult>]) -> Result<(), Fault> {
        let mut running = FuturesUnordered::new();
        let mut waiting = 0..self.task.cases.len();
        let mut ended: Vec<Option<CaseResult>> = self.task.cases.iter().map(|_| None).collect();
        // The cases of which has been told, and what they failed.
        let (mut told, mut failed, mut shown) = (0, Failed::default(), 0);
        loop {
            while running.len() < self.at_one_time()
                && let Some(index) = waiting.next()
            {
                running.push(async move { (index, self.case(index, ready).await) });
            }
            let Some((index, result)) = running.next().await else { return Ok(()) };
            let result = result?;
            if result.verdict != Verdict::Accepted && result.verdict != Verdict::Skipped {
                let group = self.task.cases.get(index).and_then(|case| case.group);
                self.failed.send_modify(|failed| failed.note(index, group));
            }
            if let Some(place) = ended.get_mut(index) {
                *place = Some(result);
            }
            while let Some(result) = ended.get_mut(told).and_then(Option::take) {
                let result = self.settle(told, result, &mut failed, &mut shown);
                self.tell(Ok(Event::Case(told, Box::new(result.clone())))).await;
                if let Some(place) = results.get_mut(told) {
                    *place = Some(result);
                }
                told += 1;
            }
        }
    }

    /// How many cases are on their way at one time: as many as can run, and some more that wait in the queue.
    fn at_one_time(&self) -> usize {
        let slots = self.scheduler.load().slots;
        let own = if self.quota.concurrency == 0 { slots } else { slots.min(self.quota.concurrency) };
        own + AHEAD
    }

    /// Whether sandboxes are worth being kept: a checker would be next in turn, which needs another.
    fn series(&self) -> Series {
        let is_alone = matches!(self.task.method, Method::Compare(_));
        if is_alone && self.task.cases.len() > self.at_one_time() { Series::Many } else { Series::Single }
    }

    /// The final result of a case, now that all before it have theirs.
    fn settle(&self, index: usize, result: CaseResult, failed: &mut Failed, shown: &mut usize) -> CaseResult {
        if self.task.is_superfluous(index, failed) {
            return CaseResult::of(Verdict::Skipped, None);
        }
        if result.verdict != Verdict::Accepted {
            failed.note(index, self.task.cases.get(index).and_then(|case| case.group));
        }
        let mut result = result;
        let bytes = result.shown_bytes();
        if *shown + bytes > SHOWN_BYTES {
            result.cut();
        } else {
            *shown += bytes;
        }
        result
    }

    /// Runs a case, unless another makes it superfluous before it ends.
    async fn case(&self, index: usize, ready: &Ready) -> Result<CaseResult, Fault> {
        let mut failed = self.failed.subscribe();
        let skipped = || Ok(CaseResult::of(Verdict::Skipped, None));
        let Some(case) = self.task.cases.get(index) else { return skipped() };
        tokio::select! {
            biased;
            // The sender lives as long as this.
            _ = failed.wait_for(|failed| self.task.is_superfluous(index, failed)) => skipped(),
            result = self.run_case(case, ready) => result,
        }
    }

    async fn run_case(&self, case: &Case, ready: &Ready) -> Result<CaseResult, Fault> {
        match (&self.task.method, &ready.helper) {
            (Method::Interactor(interactor), Some(helper)) => self.talk(case, ready, interactor, helper).await,
            (method, helper) => {
                let job = || Job { stdin: Arc::clone(&case.input), ..self.program() };
                let mut outcome = self.run(job, &ready.program).await?;
                let Some(run) = &mut outcome.run else { return Err(lost()) };
                let printed = std::mem::take(&mut run.stdout);
                let status = run.status;
                let result = match (Verdict::of_run(status), method, helper) {
                    (Some(verdict), ..) => CaseResult::of(verdict, run.reason.clone()),
                    (None, Method::Checker(checker), Some(helper)) => {
                        self.check(case, printed, checker, helper).await?
                    }
                    (None, ..) => compare(method, &case.expected, printed).await?,
                };
                Ok(with_outcome(result, outcome))
            }
        }
    }

    /// Has a checker look at what the program printed, which it gets as a file.
    async fn check(&self, case: &Case, printed: Vec<u8>, checker: &Job, built: &Built) -> Result<CaseResult, Fault> {
        let printed = Arc::new(printed);
        let job = || {
            let contents = [&case.input, &printed, &case.expected];
            let files = ARGUMENTS.iter().zip(contents).map(|(name, content)| given(name, content)).collect();
            Job { id: JobId::random(), files, ..checker.clone() }
        };
        match self.run(job, built).await {
            Ok(outcome) => Ok(helper::of_checker(outcome.run.ok_or_else(lost)?, case.points)),
            Err(Fault::Input { reason, .. }) => Ok(no_room("checker", &reason)),
            Err(fault) => Err(fault),
        }
    }

    /// Has the program and an interactor talk to each other.
    async fn talk(&self, case: &Case, ready: &Ready, interactor: &Job, helper: &Built) -> Result<CaseResult, Fault> {
        let [input, _, answer] = ARGUMENTS;
        let job = || {
            let files = vec![given(input, &case.input), given(answer, &case.expected)];
            Job { id: JobId::random(), files, ..interactor.clone() }
        };
        // A sandbox that is lost before anything has begun is no reason to give up.
        let mut tries = 2;
        let (outcome, talk) = loop {
            tries -= 1;
            match self.pair(&job, &ready.program, helper).await {
                Err(Fault::Lost { had_begun: false, .. }) if tries > 0 => {}
                Err(Fault::Input { reason, .. }) => return Ok(no_room("interactor", &reason)),
                ended => break ended?,
            }
        };
        let run = outcome.run.as_ref().ok_or_else(lost)?;
        let mut result = helper::of_talk(run, talk, case.points);
        result.transcript = result.transcript.filter(|_| self.task.transcript_bytes > 0);
        Ok(with_outcome(result, outcome))
    }

    async fn pair(&self, other: &impl Fn() -> Job, program: &Built, helper: &Built) -> Result<(Outcome, Talk), Fault> {
        let bytes = self.task.transcript_bytes;
        let submitted = self.when_there_is_room(|| {
            self.scheduler.submit_pair((self.program(), program), (other(), helper), bytes, &self.quota)
        });
        let (mut ticket, talk) = submitted.await?;
        let outcome = end_of(&mut ticket).await?;
        Ok((outcome, talk.await.map_err(|_| lost())?))
    }

    /// The program's job, without what was built for it.
    fn program(&self) -> Job {
        Job { id: JobId::random(), install: None, basis: None, ..self.task.program.clone() }
    }

    async fn run(&self, job: impl Fn() -> Job, built: &Built) -> Result<Outcome, Fault> {
        let submitted =
            self.when_there_is_room(|| self.scheduler.submit_built(job(), built, self.series(), &self.quota));
        end_of(&mut submitted.await?).await
    }

    /// Submits something, as soon as the queue has room for it.
    async fn when_there_is_room<T>(&self, submit: impl Fn() -> Result<T, Refused>) -> Result<T, Fault> {
        loop {
            // From before it is tried, so that no end is missed.
            let end = self.scheduler.next_end();
            match submit() {
                Ok(submitted) => return Ok(submitted),
                Err(Refused::QueueFull { .. } | Refused::ClientQueueFull { .. }) => end.await,
                Err(Refused::Stopping) => return Err(Fault::Stopping),
                Err(Refused::Unavailable) => return Err(Fault::Unavailable),
            }
        }
    }

    async fn tell(&self, event: Told) {
        // A client that does not listen any more has dropped all of this, or is about to.
        self.told.send(event).await.ok();
    }
}

/// Why there is nothing to run, where that is so.
fn failure_of(built: &Outcome) -> Option<Verdict> {
    let has_failed = |stage: &Option<StageResult>| stage.as_ref().is_some_and(|stage| stage.status != Status::Ok);
    let was_cancelled =
        [&built.prepare, &built.compile].into_iter().flatten().any(|stage| stage.status == Status::Cancelled);
    match built {
        _ if was_cancelled => Some(Verdict::Cancelled),
        built if has_failed(&built.prepare) => Some(Verdict::PrepareFailed),
        built if has_failed(&built.compile) => Some(Verdict::CompileFailed),
        _ => None,
    }
}

async fn made(built: oneshot::Receiver<Built>) -> Result<Built, Fault> {
    built.await.map_err(|_| lost())
}

async fn next(ticket: &mut Ticket) -> Result<JobEvent, Fault> {
    ticket.next().await.unwrap_or_else(|| Err(lost()))
}

async fn end_of(ticket: &mut Ticket) -> Result<Outcome, Fault> {
    loop {
        if let JobEvent::Finished(outcome) = next(ticket).await? {
            return Ok(*outcome);
        }
    }
}

fn lost() -> Fault {
    Fault::Internal("the scheduler let go of a job".to_owned())
}

fn no_room(whose: &str, reason: &str) -> CaseResult {
    CaseResult::of(Verdict::JudgeError, Some(format!("the {whose} could not be given its files: {reason}")))
}

fn given(name: &str, content: &Arc<Vec<u8>>) -> ArchivedFile {
    ArchivedFile { path: helper::path(name), content: Arc::clone(content), executable: false }
}

async fn compare(method: &Method, expected: &Arc<Vec<u8>>, printed: Vec<u8>) -> Result<CaseResult, Fault> {
    let &Method::Compare(how) = method else { return Err(lost()) };
    let compared = if expected.len() + printed.len() < LARGE {
        how.compare(expected, &printed)
    } else {
        let expected = Arc::clone(expected);
        let compared = tokio::task::spawn_blocking(move || how.compare(&expected, &printed)).await;
        compared.map_err(|error| Fault::Internal(error.to_string()))?
    };
    Ok(match compared {
        Ok(()) => CaseResult::of(Verdict::Accepted, None),
        Err(difference) => CaseResult {
            reason: Some(difference.reason.clone()),
            difference: Some(difference),
            ..CaseResult::of(Verdict::WrongAnswer, None)
        },
    })
}

/// The result with what became of the program, without what takes much room.
fn with_outcome(mut result: CaseResult, mut outcome: Outcome) -> CaseResult {
    if let Some(run) = &mut outcome.run {
        run.stdout = Vec::new();
        run.stderr.truncate(if result.verdict == Verdict::Accepted { 0 } else { STDERR_BYTES });
        run.stderr.shrink_to_fit();
    }
    (outcome.prepare, outcome.compile) = (None, None);
    result.outcome = Some(Box::new(outcome));
    result
}
