//! The prepare stage: packages are there already, or are installed in a sandbox of their own, and are then where the
//! job's own sandbox sees them.

use std::io::pipe;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::AsyncReadExt;

use super::drive::Drive;
use super::output::Input;
use super::{Fault, output};
use crate::backend::{BackendError, Opening, Order};
use crate::cache::Claim;
use crate::cache::entry::Entry;
use crate::cache::key::{self, Ingredients, Key, Stamp};
use crate::cache::trees::{Tree, Trees};
use crate::job::{DenialReason, DeniedFlow, Install, Stage, StageResult, Status};
use crate::plan::tree::{self, LINK_BYTES, NoTree, PART_BYTES, TreeAt};
use crate::plan::{Archive, Omission, PATH_BYTES, PATH_DEPTH, Wanted};
use crate::profile::Network;

/// Most time that handing a tree out may take: init gives up not much later.
const TIME: Duration = Duration::from_secs(12);
/// How much longer we wait for that.
const PATIENCE: Duration = Duration::from_secs(10);

/// What came of a prepare stage.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    pub(super) result: StageResult,
    /// Where what was installed is; absent where that did not go well.
    pub(super) tree: Option<TreeAt>,
}

/// What a tree depends on that may change while it is made.
type Stamps = Vec<Vec<Stamp>>;

fn stamps_of(install: &Install) -> Option<Stamps> {
    install.toolchains.iter().map(|toolchain| key::stamps(toolchain).ok()).collect()
}

fn key_of(install: &Install, stamps: &Stamps) -> Key {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let span = install.span(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
    let closure: Vec<_> = install.toolchains.iter().flat_map(|toolchain| toolchain.closure.iter().cloned()).collect();
    let limits = &install.stage.limits;
    let ingredients = Ingredients {
        // Who asks for the same gets the same, whoever it is.
        client: None,
        runtime: &install.runtime,
        closure: &closure,
        stamps: &stamps.concat(),
        argv: &install.stage.argv,
        env: &install.stage.env,
        files: &install.files,
        profile: &install.profile,
        policy: &install.policy,
        limits,
        disk: (limits.disk_bytes, limits.disk_files),
        bounds: &[install.max_bytes, install.max_files, span],
    };
    ingredients.key()
}

impl Drive<'_> {
    /// Has packages be there, and tells what their installer said.
    pub(super) async fn prepare(&mut self, install: &Arc<Install>, trees: &Trees) -> Result<Prepared, Fault> {
        // Looking at files and hashing takes time that other requests need not wait for.
        let looked = tokio::task::spawn_blocking({
            let install = Arc::clone(install);
            move || stamps_of(&install).map(|stamps| (key_of(&install, &stamps), stamps))
        });
        let gone = || Fault::Internal("what installs packages, or the runtime, can't be looked at".to_owned());
        let (key, stamps) = looked.await.ok().flatten().ok_or_else(gone)?;
        let limits = install.stage.limits;
        let patience = Duration::from_millis(limits.wall_time_ms);
        let known = tokio::select! {
            biased;
            _ = self.cancel.wait_for(|cancelled| *cancelled) => return Err(Fault::Cancelled),
            // Who has waited so long installs for itself.
            known = tokio::time::timeout(patience, trees.ask(key)) => known.unwrap_or(Ok(Tree::Unknown(None))),
        };
        let at = TreeAt { ecosystem: install.ecosystem, key: *key.as_bytes() };
        self.overhead.queue_us += self.lap();
        match known.map_err(no_room)? {
            Tree::Ready(said) => {
                super::compile::tell_known(Stage::Prepare, &said, self.events).await;
                self.told = Some(Stage::Prepare);
                Ok(Prepared { result: super::compile::known(&said, limits), tree: Some(at) })
            }
            Tree::Unknown(claim) => {
                let installed = self.install(install, key, stamps, claim, trees).await;
                self.close().await;
                installed.map(|(result, went_well)| Prepared { result, tree: went_well.then_some(at) })
            }
        }
    }

    async fn install(
        &mut self,
        install: &Arc<Install>,
        key: Key,
        stamps: Stamps,
        claim: Option<Claim>,
        trees: &Trees,
    ) -> Result<(StageResult, bool), Fault> {
        let mut ran = self.run_installer(install).await;
        if let Err(Fault::Lost { reason, had_begun: false }) = &ran {
            tracing::warn!("a sandbox was lost before its installer had begun, there is another: {reason}");
            self.retries += 1;
            self.close().await;
            ran = self.run_installer(install).await;
        }
        let mut result = ran?;
        if result.status != Status::Ok {
            return Ok((result, false));
        }
        if let Some(reason) = missed(install, &result) {
            (result.status, result.exit_code, result.reason) = (Status::NonzeroExit, None, Some(reason));
            return Ok((result, false));
        }
        let tree = match self.collect_tree(install).await? {
            Ok(tree) => tree,
            Err(error) => {
                let is_bound = matches!(&error, NoTree::Omitted { reason: Omission::TooLarge | Omission::TooMany, .. });
                result.status = if is_bound { Status::DiskExceeded } else { Status::NonzeroExit };
                result.exit_code = None;
                result.reason = Some(format!("what was installed can't be used: {error}"));
                return Ok((result, false));
            }
        };
        let entry = Arc::new(Entry {
            stdout: result.stdout.clone(),
            stderr: result.stderr.clone(),
            usage: result.usage,
            denied: result.denied.clone(),
            files: Archive { files: Vec::new() },
            tree,
        });
        // Before anybody sees it: under this key everybody would get what another installer has made.
        let install = Arc::clone(install);
        let unchanged = tokio::task::spawn_blocking(move || stamps_of(&install).is_some_and(|now| now == stamps));
        if !unchanged.await.unwrap_or(false) {
            return Err(Fault::Internal("what installs packages, or the runtime, was replaced meanwhile".to_owned()));
        }
        trees.show(key, &entry).await.map_err(no_room)?;
        if let Some(claim) = claim {
            claim.keep_shared(entry);
        }
        Ok((result, true))
    }

    async fn run_installer(&mut self, install: &Install) -> Result<StageResult, Fault> {
        let limits = install.stage.limits;
        let order = Order {
            sandbox: Opening {
                runtime: install.runtime.clone(),
                profile: install.profile.clone(),
                disk_bytes: limits.disk_bytes,
                disk_files: limits.disk_files,
                warm: false,
                fresh: true,
                renewable: false,
                trees: Vec::new(),
                installer: Some(install.ecosystem),
            },
            network: None,
        };
        self.sandbox = Some(self.backend.open(&order).await?);
        let files = Archive { files: install.files.clone() };
        let ran = self.stage(Stage::Prepare, &install.stage, Some(&files), Input::NONE).await;
        ran.map(|(result, _)| result).map_err(|fault| match fault {
            // It is ours, not the client's.
            Fault::Input { reason, .. } => Fault::Internal(format!("a file of the installer: {reason}")),
            other => other,
        })
    }

    /// What the installer left behind, where it is a tree.
    async fn collect_tree(&mut self, install: &Install) -> Result<Result<Vec<u8>, NoTree>, Fault> {
        let failed = |error: std::io::Error| Fault::Internal(error.to_string());
        let wanted = Wanted {
            patterns: Vec::new(),
            files: install.max_files,
            bytes: install.max_bytes,
            depth: PATH_DEPTH as u64,
            entries: install.max_files.saturating_mul(2),
            time_ms: u64::try_from(TIME.as_millis()).unwrap_or(u64::MAX),
            whole: true,
            tree: Some(install.output.clone()),
        };
        let sandbox = self.sandbox.as_mut().ok_or(Fault::Unavailable)?;
        let (reader, writer) = pipe().map_err(failed)?;
        sandbox.collect(&wanted, writer.into()).await?;
        let each = (PATH_BYTES + LINK_BYTES) as u64 + PART_BYTES;
        let most = install.max_bytes.saturating_add(install.max_files.saturating_mul(each));
        let mut bytes = Vec::new();
        let reader = output::receiver(reader)?;
        let reading = async { reader.take(most).read_to_end(&mut bytes).await };
        let read = tokio::select! {
            biased;
            _ = self.cancel.wait_for(|cancelled| *cancelled) => return Err(Fault::Cancelled),
            read = tokio::time::timeout(TIME + PATIENCE, reading) => read,
        };
        read.map_err(|_| Fault::Internal("a tree was not handed out in time".to_owned()))?.map_err(failed)?;
        self.overhead.collect_us += self.lap();
        let checked = tokio::task::spawn_blocking(move || tree::parts(&bytes).map(drop).map(|()| bytes));
        checked.await.map_err(|error| Fault::Internal(error.to_string()))
    }
}

/// What an installer did not get though it was to have it. One that goes on without, as `npm` does without an optional
/// package, leaves a set that is not what the key stands for.
fn missed(install: &Install, result: &StageResult) -> Option<String> {
    if let Some(error) = &result.network_error {
        return Some(format!("it had no network: {error}"));
    }
    let Network::Allow(list) = &install.policy.network else { return None };
    let is_missed = |flow: &&DeniedFlow| match flow.reason {
        // Programs go on to the address of IPv4, and where that fails too it is told by itself.
        DenialReason::Unreachable => !(flow.name.is_some() && flow.address.is_some_and(|address| address.is_ipv6())),
        DenialReason::Certificate => true,
        // Where there is a bound on bytes a second, it is told of what was only slowed down.
        DenialReason::Bound => list.bytes_per_second.is_none(),
        DenialReason::NotListed | DenialReason::Private | DenialReason::Port | DenialReason::Misdirected => false,
    };
    let flow = result.flows.iter().find(is_missed)?;
    Some(format!("what was installed may lack something: {flow}"))
}

/// Why packages can't be shown to sandboxes: for the client to try again where others are in the way.
fn no_room(error: BackendError) -> Fault {
    match error {
        BackendError::Failed(reason) => Fault::NoRoom(reason),
        other => other.into(),
    }
}
