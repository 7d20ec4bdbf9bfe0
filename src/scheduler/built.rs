//! What is made once and used by many jobs: packages that were installed, and what a compile stage made.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::compile::{self, Prior};
use super::drive::Drive;
use super::output::Input;
use super::pair::Partner;
use super::prepare::Prepared;
use super::{Fault, output};
use crate::backend::{Order, Sandbox, clock_us};
use crate::cache::entry::Entry;
use crate::job::{Job, Outcome, Stage, Status};
use crate::plan::{Archive, ArchivedFile};

/// All that a job needs before its program can run. It lasts as long as somebody has it; clones share it.
#[derive(Debug, Clone)]
pub struct Built {
    pub(super) prepared: Option<Prepared>,
    /// What is told of the compile stage, without its files; absent for languages that are not compiled.
    entry: Option<Arc<Entry>>,
    /// What a sandbox has to begin with.
    files: Arc<Archive>,
}

/// Whether more runs of the same are to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Series {
    /// This is the only one, or one of few: a sandbox that waits serves it soonest.
    Single,
    /// There are many: those that follow one another have one sandbox, which is emptied in between.
    Many,
}

/// A sandbox that is being emptied after a program, for the next run of the same.
#[derive(Debug)]
pub(super) struct Kept {
    sandbox: Sandbox,
    order: Order,
    pub(super) built: Built,
}

impl Kept {
    pub(super) async fn close(self) {
        // The error is that the launcher is gone, and then so is the sandbox.
        self.sandbox.close().await.ok();
    }
}

/// What is wanted of a job.
#[derive(Debug)]
pub(super) enum Wants {
    /// All of it.
    Run,
    /// What its program needs, and no more.
    Build(oneshot::Sender<Built>),
    /// Its program's run alone, as one of many or not.
    RunOf(Built, Series),
    /// The same, with another program at the other end of its standard input and output.
    Pair(Built, Box<Partner>),
}

impl Built {
    /// Whether it is one and the same, and not only equal.
    pub(super) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.files, &other.files)
    }

    /// What is known of the compile stage.
    pub(super) fn prior(&self) -> Prior {
        self.entry.as_ref().map_or(Prior::Unknown(None), |entry| Prior::Known(Arc::clone(entry)))
    }

    /// What a sandbox has to begin with, with more files.
    pub(super) fn with(&self, more: Vec<ArchivedFile>) -> Arc<Archive> {
        if more.is_empty() {
            return Arc::clone(&self.files);
        }
        let files = self.files.files.iter().cloned().chain(more).collect();
        Arc::new(Archive { files })
    }

    /// How many of the first files are none of the client's.
    pub(super) fn own_files(&self) -> usize {
        self.entry.as_ref().map_or(0, |_| self.files.files.len())
    }
}

impl Drive<'_> {
    /// The sandbox of this order: the one that was kept, where it is of the same, or another.
    pub(super) async fn open(&mut self, order: &Order) -> Result<Sandbox, Fault> {
        if let Some(mut kept) = self.kept.take() {
            // Where it could not be emptied, it is gone, and nobody has lost anything.
            if kept.order == *order && kept.sandbox.renewed().await.is_ok() {
                return Ok(kept.sandbox);
            }
            kept.close().await;
        }
        Ok(self.backend.open(order).await?)
    }

    /// Leaves the sandbox to the next run of the same.
    pub(super) fn keep(&mut self, built: Built, order: Order) -> Option<Kept> {
        Some(Kept { sandbox: self.sandbox.take()?, order, built })
    }
    /// Makes what the job's program needs; [`Drive::made`] has it where that went well.
    pub(super) async fn build(
        &mut self,
        job: &Job,
        prior: &mut Prior,
        files: &Arc<Archive>,
        most_bytes: u64,
    ) -> Result<Outcome, Fault> {
        let mut outcome = self.nothing_yet();
        let mut built = Built { prepared: self.prepared.clone(), entry: None, files: Arc::clone(files) };
        let Some(request) = &job.compile else {
            self.made = Some(built);
            return Ok(self.built(outcome));
        };
        let (result, entry) = if let Prior::Known(entry) = prior {
            compile::tell_known(Stage::Compile, entry, self.events).await;
            self.told = Some(Stage::Compile);
            (compile::known(entry, request.limits), Some(Arc::clone(entry)))
        } else {
            self.sandbox = Some(self.backend.open(&self.order(job, prior)).await?);
            let given = (!files.files.is_empty()).then_some(&**files);
            let (mut result, path) = self.stage(Stage::Compile, request, given, Input::NONE).await?;
            outcome.path = path;
            let entry = self.gather(job, prior, &mut result, most_bytes).await?;
            (result, entry)
        };
        if let Some(entry) = entry {
            built.files = Arc::new(entry.files.clone());
            // What it said has been told.
            let (stdout, stderr, files) = (Vec::new(), Vec::new(), Archive { files: Vec::new() });
            let (usage, denied) = (entry.usage, entry.denied.clone());
            built.entry = Some(Arc::new(Entry { stdout, stderr, usage, denied, files, tree: Vec::new() }));
            self.made = Some(built);
        }
        outcome.compile = Some(result);
        Ok(self.built(outcome))
    }

    /// What a compile stage made that ended well; says in its result where that can't be handed on.
    async fn gather(
        &mut self,
        job: &Job,
        prior: &mut Prior,
        result: &mut crate::job::StageResult,
        most_bytes: u64,
    ) -> Result<Option<Arc<Entry>>, Fault> {
        if result.status != Status::Ok {
            return Ok(None);
        }
        let sandbox = self.sandbox.as_mut().ok_or(Fault::Unavailable)?;
        let collected = tokio::select! {
            biased;
            _ = self.cancel.wait_for(|cancelled| *cancelled) => return Err(Fault::Cancelled),
            collected = compile::collect(sandbox, result, most_bytes, compile::disk(job)) => collected?,
        };
        let claim = match prior {
            Prior::Unknown(claim) => claim.take(),
            Prior::Known(_) => None,
        };
        let Some(entry) = collected.map(Arc::new) else {
            result.status = Status::DiskExceeded;
            result.exit_code = None;
            let why = format!("more than {most_bytes} bytes or {} files, or something that is no file", compile::FILES);
            result.reason = Some(format!("what was compiled can't be handed on: {why}"));
            if let Some(claim) = claim {
                claim.give_up();
            }
            return Ok(None);
        };
        if let Some(claim) = claim {
            claim.keep_entry(Arc::clone(&entry)).await;
        }
        Ok(Some(entry))
    }

    /// The end of a job that ran nothing.
    fn built(&mut self, mut outcome: Outcome) -> Outcome {
        // Where nothing had to be made, nothing may have been asked of the backend yet.
        outcome.enforced_by = self.backend.enforced_by().unwrap_or(outcome.enforced_by);
        self.overhead.collect_us += self.lap();
        outcome.overhead = self.overhead;
        outcome
    }
}

/// Where the standard output of a program goes that another reads.
#[derive(Debug)]
pub(super) struct Onward {
    pub(super) to: tokio::sync::mpsc::Sender<Vec<u8>>,
    pub(super) transcript: super::pair::Writer,
}

impl Onward {
    /// Passes everything on as far as the limit. Where nobody reads it any more, the pipe is closed: then the
    /// program learns of it as from a pipe to the other, by SIGPIPE.
    pub(super) async fn pass(
        self,
        reader: std::io::PipeReader,
        limit: u64,
        over: &tokio::sync::Notify,
    ) -> Result<output::Captured, Fault> {
        use tokio::io::AsyncReadExt;
        let Self { to, transcript } = self;
        let (mut reader, mut to) = (output::receiver(reader)?, Some(to));
        let (mut left, mut chunk, mut ended_us) = (limit, vec![0; output::CHUNK_BYTES], None);
        let captured = |cut, ended_us| output::Captured { bytes: Vec::new(), cut, ended_us };
        loop {
            let count = reader.read(&mut chunk).await.map_err(|error| Fault::Internal(error.to_string()))?;
            if count == 0 {
                let cut = ended_us.is_some();
                return Ok(captured(cut, ended_us.or_else(|| Some(clock_us()))));
            }
            let fits = usize::try_from(left).map_or(count, |left| left.min(count));
            left -= fits as u64;
            let piece = chunk.get(..fits).unwrap_or_default();
            if let Some(sender) = to.as_ref().filter(|_| !piece.is_empty()) {
                transcript.note(piece);
                if sender.send(piece.to_vec()).await.is_err() {
                    return Ok(captured(false, None));
                }
            }
            if fits < count {
                // The other is to have nothing that comes after.
                to = None;
                ended_us = ended_us.or_else(|| Some(clock_us()));
                over.notify_one();
            }
        }
    }
}
