//! The compile stage and the cache: what is known of it before a sandbox is opened, and what is kept
//! of it when it has ended well.

use std::io::pipe;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::drive::tell;
use super::{Fault, Item, output};
use crate::backend::Sandbox;
use crate::cache::entry::Entry;
use crate::cache::key::{self, Ingredients, Stamp};
use crate::cache::{Answer, Cache};
use crate::job::{Basis, Event, Job, OutputFile, Stage, StageResult, Status, Toolchain};
use crate::plan::{Archive, ArchivedFile, FilePath, Wanted};
use crate::profile::{Limits, Network};

/// Most files of a result that is kept.
pub(super) const FILES: u64 = 4_096;
/// Most directories above one of them: no deeper path could be written again.
const DEPTH: u64 = crate::plan::PATH_DEPTH as u64;
/// Most directory entries that are looked at.
const ENTRIES: u64 = 20_000;
/// Most time that reading them may take: the job waits for it.
const TIME: Duration = Duration::from_secs(2);
/// How much longer we wait for that before we do without.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much of what a compiler printed is told at once.
const CHUNK_BYTES: usize = 64 << 10;
/// What a file takes of a disk at least.
const BLOCK_BYTES: u64 = 4_096;
/// Files and directories that every sandbox has from the start, at most.
const OWN_FILES: u64 = 16;

/// What is known of a job's compile stage.
#[derive(Debug)]
pub(super) enum Prior {
    /// What it makes.
    Known(Arc<Entry>),
    /// Nothing. Where there is a claim, others wait for what comes of it.
    Unknown(Option<Claim>),
}

/// The right to keep what a compile stage makes.
#[derive(Debug)]
pub(super) struct Claim {
    claim: crate::cache::Claim,
    toolchain: Toolchain,
    /// What of the toolchain can be replaced, as it was when the key was made.
    stamps: Vec<Stamp>,
    entry_bytes: u64,
    disk: (u64, u64),
}

/// Size of a job's disk, in bytes and in files: both stages share one.
pub(super) fn disk(job: &Job) -> (u64, u64) {
    let limits = || [Some(&job.run), job.compile.as_ref()].into_iter().flatten().map(|stage| stage.limits);
    let most = |of: fn(Limits) -> u64| limits().map(of).max().unwrap_or(0);
    (most(|limits| limits.disk_bytes), most(|limits| limits.disk_files))
}

/// What is known of the job's compile stage; waits while another job finds it out, for as long as
/// compiling may take.
pub(super) async fn look_up(
    cache: &Cache,
    client: &str,
    mut job: Job,
    cancel: &mut watch::Receiver<bool>,
) -> (Job, Prior) {
    let (Some(basis), Some(limits)) = (job.basis.take(), job.compile.as_ref().map(|stage| stage.limits)) else {
        return (job, Prior::Unknown(None));
    };
    if !cache.is_on() {
        return (job, Prior::Unknown(None));
    }
    let mut basis = basis;
    if let Some(network) = &job.network {
        basis.policy.network = network.clone();
    }
    // What it fetched is not in the key, and may be another the next time.
    if matches!(basis.policy.network, Network::Allow(_)) {
        return (job, Prior::Unknown(None));
    }
    let client = (!cache.is_shared()).then(|| client.to_owned());
    // Looking at files and hashing them takes time that other requests need not wait for.
    let job = Arc::new(job);
    let found = tokio::task::spawn_blocking({
        let job = Arc::clone(&job);
        move || {
            let stamps = key::stamps(&basis.toolchain).ok()?;
            Some((key_of(client.as_deref(), &job, &basis, &stamps)?, basis.toolchain, stamps))
        }
    });
    let found = found.await.ok().flatten();
    // The other owner is gone: it was the closure above.
    let job = Arc::unwrap_or_clone(job);
    let Some((key, toolchain, stamps)) = found else {
        // No key tells one state of the runtime from another.
        return (job, Prior::Unknown(None));
    };
    let answer = tokio::select! {
        biased;
        // The stage is begun and ended at once, so that the answer has its usual form.
        _ = cancel.wait_for(|cancelled| *cancelled) => None,
        answer = tokio::time::timeout(Duration::from_millis(limits.wall_time_ms), cache.ask(key)) => {
            answer.inspect_err(|_| cache.missed()).ok()
        }
    };
    let prior = match answer {
        Some(Answer::Hit(entry)) => Prior::Known(entry),
        Some(Answer::Miss(Some(claim))) => {
            let (entry_bytes, disk) = (cache.entry_bytes(), disk(&job));
            Prior::Unknown(Some(Claim { claim, toolchain, stamps, entry_bytes, disk }))
        }
        Some(Answer::Miss(None)) | None => Prior::Unknown(None),
    };
    (job, prior)
}

fn key_of(client: Option<&str>, job: &Job, basis: &Basis, stamps: &[Stamp]) -> Option<key::Key> {
    let compile = job.compile.as_ref()?;
    let ingredients = Ingredients {
        client,
        runtime: &job.runtime,
        closure: &basis.toolchain.closure,
        stamps,
        argv: &compile.argv,
        env: &compile.env,
        files: &job.files,
        profile: &job.profile,
        policy: &basis.policy,
        limits: &compile.limits,
        disk: disk(job),
        bounds: &[],
    };
    Some(ingredients.key())
}

impl Prior {
    /// Whether the stage need not run.
    pub(super) fn is_known(&self) -> bool {
        matches!(self, Self::Known(_))
    }

    /// What the sandbox has to begin with.
    pub(super) fn files(&self, sources: Vec<ArchivedFile>) -> Archive {
        match self {
            Self::Known(entry) => entry.files.clone(),
            Self::Unknown(_) => Archive { files: sources },
        }
    }
}

/// Tells the client what it would hear if a stage ran.
pub(super) async fn tell_known(stage: Stage, entry: &Entry, events: &mpsc::Sender<Item>) {
    tell(events, Event::Cached(stage)).await;
    for (printed, event) in [(&entry.stdout, Event::Stdout as fn(Vec<u8>) -> Event), (&entry.stderr, Event::Stderr)] {
        for chunk in printed.chunks(CHUNK_BYTES) {
            tell(events, event(chunk.to_vec())).await;
        }
    }
}

/// What comes of a stage that is known.
pub(super) fn known(entry: &Entry, limits: Limits) -> StageResult {
    StageResult {
        status: Status::Ok,
        exit_code: Some(0),
        signal: None,
        reason: None,
        stdout: entry.stdout.clone(),
        stderr: entry.stderr.clone(),
        usage: entry.usage,
        denied: entry.denied.clone(),
        flows: Vec::new(),
        network_error: None,
        limits,
        cached: true,
    }
}

impl Claim {
    /// Keeps the result of a compile stage if it ended well, and if files alone are all that it made.
    pub(super) async fn keep(self, sandbox: &mut Sandbox, result: &StageResult, cancel: &mut watch::Receiver<bool>) {
        if result.status != Status::Ok || *cancel.borrow() {
            return;
        }
        let collected = tokio::select! {
            biased;
            _ = cancel.wait_for(|cancelled| *cancelled) => return,
            collected = collect(sandbox, result, self.entry_bytes, self.disk) => collected,
        };
        match collected {
            Ok(Some(entry)) => self.keep_entry(Arc::new(entry)).await,
            Ok(None) => self.give_up(),
            Err(fault) => tracing::debug!("a result is not kept: {fault}"),
        }
    }

    /// Keeps what was collected, which others may have as well.
    pub(super) async fn keep_entry(self, entry: Arc<Entry>) {
        // A compiler that was replaced meanwhile is not the one that the key stands for.
        let (toolchain, stamps) = (self.toolchain, self.stamps);
        let unchanged = tokio::task::spawn_blocking(move || key::stamps(&toolchain).is_ok_and(|now| now == stamps));
        if unchanged.await.unwrap_or(false) {
            self.claim.keep_shared(entry);
        }
    }

    /// What was made can't be kept: those who wait need not do so one by one.
    pub(super) fn give_up(self) {
        self.claim.give_up();
    }
}

/// What a compile stage made that ended well; `None` where files of so many bytes are not all that there is.
pub(super) async fn collect(
    sandbox: &mut Sandbox,
    result: &StageResult,
    most_bytes: u64,
    disk: (u64, u64),
) -> Result<Option<Entry>, Fault> {
    let collected = tokio::time::timeout(TIME + PATIENCE, collect_files(sandbox, most_bytes)).await;
    let files = collected.map_err(|_| Fault::Internal("files were not handed out in time".to_owned()))??;
    let entry = files.and_then(|files| archive(files, disk)).map(|files| Entry {
        stdout: result.stdout.clone(),
        stderr: result.stderr.clone(),
        usage: result.usage,
        denied: result.denied.clone(),
        files,
        tree: Vec::new(),
    });
    Ok(entry.filter(|entry| entry.bytes() <= most_bytes))
}

/// Every file below `/workspace`; `None` where files are not all that there is.
async fn collect_files(sandbox: &mut Sandbox, most_bytes: u64) -> Result<Option<Vec<OutputFile>>, Fault> {
    let wanted = Wanted {
        patterns: vec!["**".to_owned()],
        files: FILES,
        bytes: most_bytes,
        depth: DEPTH,
        entries: ENTRIES,
        time_ms: u64::try_from(TIME.as_millis()).unwrap_or(u64::MAX),
        whole: true,
        tree: None,
    };
    let (reader, writer) = pipe().map_err(|error| Fault::Internal(error.to_string()))?;
    sandbox.collect(&wanted, writer.into()).await?;
    let (files, omitted) = output::take_files(reader, most_bytes).await?;
    Ok(omitted.is_empty().then_some(files))
}

/// The files as a sandbox can be given them; `None` where one of this disk could not hold them, as
/// where many names were links to one file, or most of a file was a hole.
fn archive(files: Vec<OutputFile>, (disk_bytes, disk_files): (u64, u64)) -> Option<Archive> {
    let archived = |OutputFile { path, content, executable }| {
        Some(ArchivedFile { path: FilePath::try_from(path).ok()?, content: Arc::new(content), executable })
    };
    let files = files.into_iter().map(archived).collect::<Option<Vec<_>>>()?;
    let bytes: u64 = files.iter().map(|file| (file.content.len() as u64).next_multiple_of(BLOCK_BYTES)).sum();
    let mut names = std::collections::HashSet::new();
    for file in &files {
        let path = file.path.as_bytes();
        names.insert(path);
        names.extend(path.iter().enumerate().filter(|(_, byte)| **byte == b'/').filter_map(|(end, _)| path.get(..end)));
    }
    (bytes <= disk_bytes && names.len() as u64 + OWN_FILES <= disk_files).then_some(Archive { files })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, size: usize) -> OutputFile {
        OutputFile { path: path.into(), content: vec![1; size], executable: true }
    }

    #[test]
    fn files_that_would_not_fit_again_are_not_kept() {
        let files = || vec![file("a", 4096), file("b/c/d", 1)];
        let kept = archive(files(), (8192, 4 + OWN_FILES)).unwrap();
        assert_eq!((kept.files.len(), kept.files[0].executable), (2, true));
        assert_eq!(archive(files(), (8191, 4 + OWN_FILES)), None);
        assert_eq!(archive(files(), (8192, 3 + OWN_FILES)), None);
    }

    #[test]
    fn a_path_that_could_not_be_written_again_is_not_kept() {
        assert_eq!(archive(vec![file(&"d/".repeat(40), 1)], (u64::MAX, u64::MAX)), None);
    }
}
