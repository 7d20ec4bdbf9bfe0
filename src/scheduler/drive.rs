//! Carries one job through its stages: ask the cache, open, files, compile, run, hand out, close.

use std::io::pipe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, oneshot, watch};

use super::attached::Attached;
use super::built::{Built, Kept, Onward, Series, Wants};
use super::compile::{self, Prior};
use super::output::Input;
use super::prepare::Prepared;
use super::{Fault, Item, Waiting, output, pair};
use crate::backend::{Backend, News, Opening, Order, Sandbox, clock_us};
use crate::cache::Cache;
use crate::cache::key::Key;
use crate::cache::trees::Trees;
use crate::config::Outputs;
use crate::job::{
    EnforcedBy, Event, Exit, Job, Outcome, Overhead, Path, Stage, StageRequest, StageResult, Status, verdict,
};
use crate::plan::tree::TreeAt;
use crate::plan::{Archive, Cause, Spec, Wanted};

/// How much longer than its limit a stage may take before we stop waiting for the backend.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a job and tells its client all that happens; returns when its sandbox is gone, or with it where it is kept for
/// the next run of the same.
pub(super) async fn run(
    backend: &Backend,
    (cache, trees): (&Cache, &Trees),
    client: &str,
    waiting: Waiting,
    outputs: Outputs,
    kept: Option<Kept>,
) -> Option<Kept> {
    if *waiting.cancel.borrow() {
        waiting.events.send(Err(Fault::Cancelled)).await.ok();
        return kept;
    }
    // Of none that is not of the same anything is left before another begins.
    let kept = match (kept, &waiting.wants) {
        (Some(kept), Wants::RunOf(built, Series::Many)) if built.is(&kept.built) => Some(kept),
        (kept, _) => {
            if let Some(kept) = kept {
                kept.close().await;
            }
            None
        }
    };
    if matches!(waiting.wants, Wants::Pair(..)) {
        pair::run(backend, waiting, outputs).await;
        return None;
    }
    let Waiting { job, mut attached, wants, events, mut cancel, submitted_us } = waiting;
    tell(&events, Event::Started).await;
    let (built, series) = match &wants {
        Wants::RunOf(built, series) => (Some(built), *series),
        _ => (None, Series::Single),
    };
    let install = if built.is_none() { job.install.clone() } else { None };
    let (mut job, mut prior) = match built {
        Some(built) => (job, built.prior()),
        None => compile::look_up(cache, client, job, &mut cancel).await,
    };
    let sources = std::mem::take(&mut job.files);
    let files = match built {
        Some(built) => built.with(sources),
        None => Arc::new(prior.files(sources)),
    };
    let mut drive = match built {
        Some(built) => Drive::of_built(backend, outputs, &events, &mut cancel, submitted_us, built),
        None => Drive::new(backend, outputs, &events, &mut cancel, submitted_us),
    };
    drive.kept = kept;
    // An interpreter that has started already is better than a sandbox that has been made.
    drive.renewable = series == Series::Many && !job.warm && job.outputs.is_empty();
    if prior.is_known() && built.is_none() {
        drive.own_files = files.files.len();
    }
    let prepared = match &install {
        Some(install) => drive.prepare(install, trees).await.map(|prepared| drive.prepared = Some(prepared)),
        None => Ok(()),
    };
    let most_bytes = cache.entry_bytes();
    let mut result = match prepared {
        Ok(()) if drive.may_go_on(&job) && matches!(wants, Wants::Build(_)) => {
            drive.build(&job, &mut prior, &files, most_bytes).await
        }
        Ok(()) if drive.may_go_on(&job) => drive.stages(&job, &mut attached, &mut prior, &files).await,
        Ok(()) => {
            let outcome = drive.nothing_yet();
            drive.over(outcome)
        }
        Err(fault) => Err(fault),
    };
    if let Err(Fault::Lost { reason, had_begun: false }) = &result
        && attached.as_ref().is_none_or(|attached| !attached.has_taken)
    {
        tracing::warn!(job_id = %job.id, "a sandbox was lost before its program had begun, the job gets another: {reason}");
        drive.retries += 1;
        drive.close().await;
        // They may have had to go for others.
        if let Some(tree) = drive.prepared.as_ref().and_then(|prepared| prepared.tree) {
            trees.recall(Key::from_bytes(tree.key)).await.ok();
        }
        result = match wants {
            Wants::Build(_) => drive.build(&job, &mut prior, &files, most_bytes).await,
            _ => drive.stages(&job, &mut attached, &mut prior, &files).await,
        };
    }
    if let Err(fault @ (Fault::Internal(_) | Fault::Lost { .. })) = &result {
        tracing::error!(job_id = %job.id, "a job has failed: {fault}");
    }
    if let Ok(outcome) = &result {
        note(&job, outcome);
    }
    let kept = match (&result, built) {
        (Ok(_), Some(built)) if drive.renewable => drive.keep(built.clone(), drive.order(&job, &prior)),
        _ => None,
    };
    if let (Wants::Build(to), Some(made)) = (wants, drive.made.take()) {
        // Who does not wait for it any more has cancelled the job.
        to.send(made).ok();
    }
    // A client that does not listen any more does not want to know.
    events.send(result.map(|outcome| Event::Finished(Box::new(outcome)))).await.ok();
    drive.close().await;
    kept
}

/// A job on its way.
pub(super) struct Drive<'a> {
    pub(super) backend: &'a Backend,
    outputs: Outputs,
    pub(super) events: &'a mpsc::Sender<Item>,
    pub(super) cancel: &'a mut watch::Receiver<bool>,
    pub(super) sandbox: Option<Sandbox>,
    /// One that the run before has left.
    pub(super) kept: Option<Kept>,
    /// Whether its own sandbox is to be left to the next run.
    renewable: bool,
    /// The stage of which the client knows that it has begun.
    pub(super) told: Option<Stage>,
    pub(super) retries: u32,
    pub(super) overhead: Overhead,
    /// Since when time counts that is ours, by the monotonic clock.
    since_us: u64,
    /// What came of the prepare stage, where there was one.
    pub(super) prepared: Option<Prepared>,
    /// How many of the first files of the first program are none of the client's.
    own_files: usize,
    /// What was made for others, where that is what is wanted.
    pub(super) made: Option<Built>,
    /// Where the program's standard output goes, if not to the client.
    pub(super) onward: Option<Onward>,
    /// Told when the program of the run stage has started.
    pub(super) running: Option<oneshot::Sender<()>>,
    /// How long the run stage may take, where that is not for its own limit to say alone.
    pub(super) at_most: Option<Duration>,
    /// When the last program's output was over for another one that reads it, by the monotonic clock.
    pub(super) ended_us: Option<u64>,
    /// When it was seen to be dead, and before when it was not killed for its time by the clock; by the same clock.
    pub(super) died_us: u64,
    pub(super) due_us: u64,
    /// Whether it has left something of its standard input unread.
    pub(super) left_unread: bool,
}

impl<'a> Drive<'a> {
    fn new(
        backend: &'a Backend,
        outputs: Outputs,
        events: &'a mpsc::Sender<Item>,
        cancel: &'a mut watch::Receiver<bool>,
        submitted_us: u64,
    ) -> Self {
        let since_us = clock_us();
        Self {
            backend,
            outputs,
            events,
            cancel,
            sandbox: None,
            kept: None,
            renewable: false,
            told: None,
            retries: 0,
            // While another job compiles what this one needs, this one waits for a turn as in the queue.
            overhead: Overhead { queue_us: since_us.saturating_sub(submitted_us), ..Overhead::default() },
            since_us,
            prepared: None,
            own_files: 0,
            made: None,
            onward: None,
            running: None,
            at_most: None,
            ended_us: None,
            died_us: 0,
            due_us: 0,
            left_unread: false,
        }
    }

    /// The same for a program of which everything is there that it needs.
    pub(super) fn of_built(
        backend: &'a Backend,
        outputs: Outputs,
        events: &'a mpsc::Sender<Item>,
        cancel: &'a mut watch::Receiver<bool>,
        submitted_us: u64,
        built: &Built,
    ) -> Self {
        let (prepared, own_files) = (built.prepared.clone(), built.own_files());
        Self { prepared, own_files, ..Self::new(backend, outputs, events, cancel, submitted_us) }
    }
}

impl Drive<'_> {
    /// The sandbox that the job's own stages need.
    pub(super) fn order(&self, job: &Job, prior: &Prior) -> Order {
        // That of both stages even where one of them is known: sandboxes that wait have no other.
        let (disk_bytes, disk_files) = compile::disk(job);
        Order {
            sandbox: Opening {
                runtime: job.runtime.clone(),
                profile: job.profile.clone(),
                disk_bytes,
                disk_files,
                // No interpreter has started in a sandbox whose first program is a compiler.
                warm: job.warm && (job.compile.is_none() || prior.is_known()),
                fresh: job.fresh || self.retries > 0,
                renewable: self.renewable,
                trees: self.trees(),
                installer: None,
            },
            network: job.network.clone(),
        }
    }

    pub(super) async fn stages(
        &mut self,
        job: &Job,
        attached: &mut Option<Attached>,
        prior: &mut Prior,
        files: &Archive,
    ) -> Result<Outcome, Fault> {
        let order = self.order(job, prior);
        self.sandbox = Some(self.open(&order).await?);
        let mut files = (!files.files.is_empty()).then_some(files);
        let mut outcome = self.nothing_yet();
        if let Some(request) = &job.compile {
            let (result, path) = self.compile(request, prior, &mut files).await?;
            let went_well = result.status == Status::Ok;
            (outcome.compile, outcome.path) = (Some(result), path);
            if !went_well {
                return self.over(outcome);
            }
        }
        let input = match attached {
            Some(attached) => Input::Attached(attached),
            None => Input::Whole(&job.stdin),
        };
        let ran = self.stage(Stage::Run, &job.run, files.take(), input).await;
        let (result, path) = ran.map_err(|fault| self.explain(fault))?;
        outcome.run = Some(result);
        if outcome.compile.as_ref().is_none_or(|compile| compile.cached) {
            outcome.path = path;
        }
        if !job.outputs.is_empty() {
            (outcome.files, outcome.omitted) = self.collect(job.outputs.clone()).await?;
        }
        self.over(outcome)
    }

    /// Why the first program did not run: a file that an earlier one made is none of the client's.
    fn explain(&self, fault: Fault) -> Fault {
        match fault {
            Fault::Input { index, reason } => match index.checked_sub(self.own_files) {
                Some(index) => Fault::Input { index, reason },
                None => Fault::Internal(format!("file {index} of what was compiled could not be written: {reason}")),
            },
            fault => fault,
        }
    }

    fn trees(&self) -> Vec<TreeAt> {
        self.prepared.iter().filter_map(|prepared| prepared.tree).collect()
    }

    /// Whether there is something to run, and what it needs is there.
    fn may_go_on(&self, job: &Job) -> bool {
        !job.only_installs && self.prepared.as_ref().is_none_or(|prepared| prepared.tree.is_some())
    }

    /// What is known before the first stage of the job's own sandbox.
    pub(super) fn nothing_yet(&self) -> Outcome {
        Outcome {
            prepare: self.prepared.as_ref().map(|prepared| prepared.result.clone()),
            trees: self.trees(),
            compile: None,
            run: None,
            files: Vec::new(),
            omitted: Vec::new(),
            // Known for sure as soon as a program has started.
            enforced_by: EnforcedBy::Rlimit,
            path: Path::Cold,
            retries: self.retries,
            overhead: Overhead::default(),
        }
    }

    fn over(&mut self, mut outcome: Outcome) -> Result<Outcome, Fault> {
        outcome.enforced_by = self.backend.enforced_by().ok_or(Fault::Unavailable)?;
        self.overhead.collect_us += self.lap();
        outcome.overhead = self.overhead;
        Ok(outcome)
    }

    /// Time since the last lap.
    pub(super) fn lap(&mut self) -> u64 {
        let now = clock_us();
        now.saturating_sub(std::mem::replace(&mut self.since_us, now))
    }

    async fn collect(
        &mut self,
        patterns: Vec<String>,
    ) -> Result<(Vec<crate::job::OutputFile>, Vec<crate::job::OmittedFile>), Fault> {
        let sandbox = self.sandbox.as_mut().ok_or(Fault::Unavailable)?;
        let (reader, writer) = pipe().map_err(|error| Fault::Internal(error.to_string()))?;
        sandbox.collect(&wanted(patterns, self.outputs), writer.into()).await?;
        let taken = output::take_files(reader, self.outputs.bytes);
        let allowed = Duration::from_millis(self.outputs.time_ms) + PATIENCE;
        tokio::time::timeout(allowed, taken)
            .await
            .map_err(|_| Fault::Internal("files were not handed out in time".to_owned()))?
    }

    /// Compiles, and keeps what comes of it; or tells what is known of it already.
    async fn compile(
        &mut self,
        request: &StageRequest,
        prior: &mut Prior,
        files: &mut Option<&Archive>,
    ) -> Result<(StageResult, Path), Fault> {
        let claim = match prior {
            Prior::Known(entry) => {
                // Nothing was told yet, or all of this: a job that is begun anew need not say it again.
                if self.told.is_none() {
                    compile::tell_known(Stage::Compile, entry, self.events).await;
                    self.told = Some(Stage::Compile);
                }
                // The run stage says how the sandbox was come by.
                return Ok((compile::known(entry, request.limits), Path::Cold));
            }
            Prior::Unknown(claim) => claim,
        };
        // A sandbox that is lost leaves the claim to the next one.
        let (result, path) = self.stage(Stage::Compile, request, files.take(), Input::NONE).await?;
        if let (Some(claim), Some(sandbox)) = (claim.take(), &mut self.sandbox) {
            claim.keep(sandbox, &result, self.cancel).await;
        }
        Ok((result, path))
    }

    /// Runs one stage to its end.
    pub(super) async fn stage(
        &mut self,
        which: Stage,
        request: &StageRequest,
        files: Option<&Archive>,
        input: Input<'_>,
    ) -> Result<(StageResult, Path), Fault> {
        if self.told != Some(which) {
            tell(self.events, Event::Stage(which)).await;
            self.told = Some(which);
        }
        let limits = request.limits;
        let spec = Spec::new(&request.argv, &request.env);
        let sandbox = self.sandbox.as_mut().ok_or(Fault::Unavailable)?;
        let began_us = clock_us();
        let program = sandbox.execute(&spec, &limits, files).await?;
        if self.renewable && which == Stage::Run {
            // As soon as it is over, while we still read what it has printed.
            sandbox.renew().await?;
        }
        if let Some(running) = self.running.take() {
            // Who does not wait for it any more does not want to know.
            running.send(()).ok();
        }
        let (over, onward) = (Notify::new(), self.onward.take());
        let stdout = async {
            match onward {
                Some(onward) => onward.pass(program.stdout, limits.output_bytes, &over).await,
                None => output::capture(program.stdout, limits.output_bytes, &over, self.events, Event::Stdout).await,
            }
        };
        let stderr = output::capture(program.stderr, limits.output_bytes, &over, self.events, Event::Stderr);
        let (bytes, signals) = input.split();
        let gone = Notify::new();
        let ended = async {
            let ended = end(sandbox, &over, self.cancel, signals, self.events).await;
            gone.notify_one();
            ended
        };
        let fed = output::feed(program.stdin, bytes, &gone);
        let all = async { tokio::join!(ended, stdout, stderr, fed) };
        let allowed = self.at_most.unwrap_or(Duration::from_millis(limits.wall_time_ms)) + PATIENCE;
        let (ending, stdout, stderr, left_unread) = tokio::time::timeout(allowed, all)
            .await
            .map_err(|_| Fault::Internal("a stage did not end in time".to_owned()))?;
        let (mut ending, stdout, stderr) = (ending?, stdout?, stderr?);
        self.overhead.prepare_us += began_us.saturating_sub(self.since_us);
        self.overhead.start_us += ending.started_us.saturating_sub(began_us);
        (self.since_us, self.ended_us, self.left_unread) = (ending.ended_us, stdout.ended_us, left_unread);
        self.died_us = ending.ended_us;
        self.due_us = ending.started_us.saturating_add(limits.wall_time_ms.saturating_mul(1000));
        if stdout.cut || stderr.cut {
            // It may have ended by itself before it was seen that it had printed too much.
            ending.killed_for.get_or_insert(Cause::Output);
        }
        if let Exit::NotStarted(step, errno) = ending.exit
            && step != crate::plan::Step::Execute
        {
            let why = nix::errno::Errno::from_raw(errno).desc();
            return Err(Fault::Internal(format!("a program could not be started: {step:?}: {why}")));
        }
        let (status, reason) = verdict(&ending, &limits);
        let (exit_code, signal) = match ending.exit {
            Exit::Code(code) => (Some(code), None),
            Exit::Signal(signal) => (None, Some(signal)),
            Exit::NotStarted(..) => (None, None),
        };
        self.overhead.collect_us += self.lap();
        let result = StageResult {
            status,
            exit_code,
            signal,
            reason,
            stdout: stdout.bytes,
            stderr: stderr.bytes,
            usage: ending.usage,
            denied: ending.denied,
            flows: ending.flows,
            network_error: ending.network_error,
            limits,
            cached: false,
        };
        Ok((result, program.path))
    }

    pub(super) async fn close(&mut self) {
        if let Some(sandbox) = self.sandbox.take() {
            // The error is that the launcher is gone, and then so is the sandbox.
            sandbox.close().await.ok();
        }
    }
}

/// One line in the journal about a job to which something was refused.
fn note(job: &Job, outcome: &Outcome) {
    let stages = || [&outcome.prepare, &outcome.compile, &outcome.run].into_iter().flatten();
    if let Some(error) = stages().find_map(|stage| stage.network_error.as_ref()) {
        tracing::warn!(job_id = %job.id, "a job had no network: {error}");
    }
    let mut refused = stages().flat_map(|stage| &stage.flows);
    if let Some(first) = refused.next() {
        let others = refused.count();
        tracing::info!(job_id = %job.id, others, "the network policy refused {first}");
    }
}

pub(super) async fn tell(events: &mpsc::Sender<Item>, event: Event) {
    // A client that does not listen any more has cancelled the job, which is seen elsewhere.
    events.send(Ok(event)).await.ok();
}

fn wanted(patterns: Vec<String>, outputs: Outputs) -> Wanted {
    let Outputs { files, bytes, depth, entries, time_ms } = outputs;
    Wanted { patterns, files, bytes, depth, entries, time_ms, whole: false, tree: None }
}

/// Waits for the end of a program, and brings it about where it prints too much or is cancelled.
async fn end(
    sandbox: &mut Sandbox,
    over: &Notify,
    cancel: &mut watch::Receiver<bool>,
    mut signals: Option<&mut mpsc::Receiver<i32>>,
    events: &mpsc::Sender<Item>,
) -> Result<crate::job::Ending, Fault> {
    let (mut printed_too_much, mut cancelled) = (false, false);
    loop {
        let turn = tokio::select! {
            news = sandbox.news() => Turn::Heard(news?),
            Some(signal) = next(&mut signals) => Turn::Signal(signal),
            () = over.notified(), if !printed_too_much => {
                printed_too_much = true;
                Turn::Kill(Cause::Output)
            }
            // An error means that nobody can cancel it any more, which is as good as being told to.
            _ = cancel.wait_for(|cancelled| *cancelled), if !cancelled => {
                cancelled = true;
                Turn::Kill(Cause::Cancelled)
            }
        };
        match turn {
            Turn::Kill(cause) => sandbox.kill(cause).await?,
            Turn::Signal(signal) => sandbox.signal(signal).await?,
            Turn::Heard(News::Denied(flows)) => tell(events, Event::Denied(flows)).await,
            Turn::Heard(News::Ended(ending)) => return Ok(*ending),
        }
    }
}

/// What comes next while a program runs.
enum Turn {
    Heard(News),
    Kill(Cause),
    Signal(i32),
}

/// The next signal for a program; never, where nobody sends any.
async fn next(signals: &mut Option<&mut mpsc::Receiver<i32>>) -> Option<i32> {
    match signals {
        Some(signals) => signals.recv().await,
        None => None,
    }
}
