//! Carries one job through its stages: ask the cache, open, files, compile, run, hand out, close.

use std::io::pipe;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::sys::stat::{Mode, fchmod};
use tokio::sync::{Notify, mpsc, watch};

use super::compile::{self, Prior};
use super::{Fault, Item, Waiting, output};
use crate::backend::{Backend, Order, Sandbox};
use crate::cache::Cache;
use crate::config::Outputs;
use crate::job::{Event, Exit, Job, Outcome, Stage, StageRequest, StageResult, Status, verdict};
use crate::plan::{Cause, Spec, Wanted};

/// How much longer than its limit a stage may take before we stop waiting for the backend.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs a job and tells its client all that happens; returns when its sandbox is gone.
pub(super) async fn run(backend: &Backend, cache: &Cache, client: &str, waiting: Waiting, outputs: Outputs) {
    let Waiting { job, events, mut cancel } = waiting;
    if *cancel.borrow() {
        events.send(Err(Fault::Cancelled)).await.ok();
        return;
    }
    let mut sandbox = None;
    let result = async {
        tell(&events, Event::Started).await;
        let (job, prior) = compile::look_up(cache, client, job, &mut cancel).await;
        stages(backend, job, prior, outputs, &events, &mut cancel, &mut sandbox).await
    };
    let result = result.await;
    if let Err(fault @ Fault::Internal(_)) = &result {
        tracing::error!("a job has failed: {fault}");
    }
    // A client that does not listen any more does not want to know.
    events.send(result.map(|outcome| Event::Finished(Box::new(outcome)))).await.ok();
    drop(events);
    if let Some(sandbox) = sandbox {
        // The error is that the launcher is gone, and then so is the sandbox.
        sandbox.close().await.ok();
    }
}

async fn stages(
    backend: &Backend,
    job: Job,
    prior: Prior,
    outputs: Outputs,
    events: &mpsc::Sender<Item>,
    cancel: &mut watch::Receiver<bool>,
    slot: &mut Option<Sandbox>,
) -> Result<Outcome, Fault> {
    let (disk_bytes, disk_files) = compile::disk(&job);
    let order = Order { runtime: job.runtime, profile: job.profile, disk_bytes, disk_files };
    let files = prior.files(job.files);
    let opened = backend.open(&order, &files).await;
    let sandbox = slot.insert(opened.map_err(|error| prior.explain(error))?);
    let enforced_by = backend.enforced_by().ok_or(Fault::Unavailable)?;
    let mut outcome = Outcome { compile: None, run: None, files: Vec::new(), omitted: Vec::new(), enforced_by };
    if let Some(compile) = &job.compile {
        let result = match prior {
            Prior::Known(entry) => compile::tell_known(&entry, compile.limits, events).await,
            Prior::Unknown(claim) => {
                tell(events, Event::Stage(Stage::Compile)).await;
                let result = stage(sandbox, compile, &[], events, cancel).await?;
                if let Some(claim) = claim {
                    claim.keep(sandbox, &result, cancel).await;
                }
                result
            }
        };
        let went_well = result.status == Status::Ok;
        outcome.compile = Some(result);
        if !went_well {
            return Ok(outcome);
        }
    }
    tell(events, Event::Stage(Stage::Run)).await;
    outcome.run = Some(stage(sandbox, &job.run, &job.stdin, events, cancel).await?);
    if !job.outputs.is_empty() {
        let (reader, writer) = pipe().map_err(internal)?;
        sandbox.collect(&wanted(job.outputs, outputs), writer.into()).await?;
        let taken = output::take_files(reader, outputs.bytes);
        let allowed = Duration::from_millis(outputs.time_ms) + PATIENCE;
        (outcome.files, outcome.omitted) = tokio::time::timeout(allowed, taken)
            .await
            .map_err(|_| Fault::Internal("files were not handed out in time".to_owned()))??;
    }
    Ok(outcome)
}

pub(super) async fn tell(events: &mpsc::Sender<Item>, event: Event) {
    // A client that does not listen any more has cancelled the job, which is seen elsewhere.
    events.send(Ok(event)).await.ok();
}

pub(super) fn internal(error: std::io::Error) -> Fault {
    Fault::Internal(error.to_string())
}

fn wanted(patterns: Vec<String>, outputs: Outputs) -> Wanted {
    let Outputs { files, bytes, depth, entries, time_ms } = outputs;
    Wanted { patterns, files, bytes, depth, entries, time_ms, whole: false }
}

/// Runs one stage to its end.
async fn stage(
    sandbox: &mut Sandbox,
    request: &StageRequest,
    stdin: &[u8],
    events: &mpsc::Sender<Item>,
    cancel: &mut watch::Receiver<bool>,
) -> Result<StageResult, Fault> {
    let limits = request.limits;
    let spec = Spec {
        argv: request.argv.iter().map(|word| word.clone().into_bytes()).collect(),
        env: request.env.iter().map(|(name, value)| (name.clone().into_bytes(), value.clone().into_bytes())).collect(),
    };
    let (input, input_writer) = pipe().map_err(internal)?;
    let (output_reader, output) = pipe().map_err(internal)?;
    let (error_reader, error) = pipe().map_err(internal)?;
    // The pipes are ours, and the program is another user: it may open /dev/stdin and the like.
    for stream in [input.as_fd(), output.as_fd(), error.as_fd()] {
        fchmod(stream, Mode::from_bits_truncate(0o666)).map_err(|errno| internal(errno.into()))?;
    }
    sandbox.execute(&spec, &limits, [input.into(), output.into(), error.into()]).await?;
    let over = Notify::new();
    let stdout = output::capture(output_reader, limits.output_bytes, &over, events, Event::Stdout);
    let stderr = output::capture(error_reader, limits.output_bytes, &over, events, Event::Stderr);
    let ended = end(sandbox, &over, cancel);
    let all = async { tokio::join!(ended, stdout, stderr, output::feed(input_writer, stdin)) };
    let allowed = Duration::from_millis(limits.wall_time_ms) + PATIENCE;
    let (ending, stdout, stderr, ()) = tokio::time::timeout(allowed, all)
        .await
        .map_err(|_| Fault::Internal("a stage did not end in time".to_owned()))?;
    let (mut ending, stdout, stderr) = (ending?, stdout?, stderr?);
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
    Ok(StageResult {
        status,
        exit_code,
        signal,
        reason,
        stdout: stdout.bytes,
        stderr: stderr.bytes,
        usage: ending.usage,
        denied: ending.denied,
        limits,
        cached: false,
    })
}

/// Waits for the end of a program, and brings it about where it prints too much or is cancelled.
async fn end(
    sandbox: &mut Sandbox,
    over: &Notify,
    cancel: &mut watch::Receiver<bool>,
) -> Result<crate::job::Ending, Fault> {
    let (mut printed_too_much, mut cancelled) = (false, false);
    loop {
        let cause = tokio::select! {
            ending = sandbox.ended() => return Ok(ending?),
            () = over.notified(), if !printed_too_much => {
                printed_too_much = true;
                Cause::Output
            }
            // An error means that nobody can cancel it any more, which is as good as being told to.
            _ = cancel.wait_for(|cancelled| *cancelled), if !cancelled => {
                cancelled = true;
                Cause::Cancelled
            }
        };
        sandbox.kill(cause).await?;
    }
}
