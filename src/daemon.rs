//! The daemon: puts the parts together and keeps them running.
//!
//! It takes the socket that systemd hands over, or listens on one of its own ([`listen`]), serves
//! the API on it ([`serve`]), and tells the service manager how it fares ([`notify`]) and the
//! journal what happens ([`journal`]). It holds no privilege; the launcher has what is needed.
//!
//! ```text
//!  load ─▶ listen ─▶ ready ─▶ serve, and test the runtimes meanwhile
//!                               │ SIGTERM, SIGINT, or the end of an embedded launcher
//!                               ▼
//!                             accept nobody, refuse what waits, let finish what runs,
//!                             write the answers ─▶ end
//! ```

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::api::{self, checks};
use crate::backend::{Backend, BackendError};
use crate::config::{Config, ConfigError};
use crate::launcher;
use crate::runtime::Catalogue;
use crate::scheduler::{Fault, Scheduler};

pub(crate) mod embedded;
mod journal;
mod listen;
mod notify;
mod serve;

pub use serve::serve_stream;

/// Where the launcher listens where nothing else is said.
pub const LAUNCHER_SOCKET: &str = "/run/codesandbox/launcher.sock";
/// Exit status where the configuration can't be used: EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

/// Time that answers have to be written after the last run has ended.
const ANSWER_TIME: Duration = Duration::from_secs(5);
/// After how long a self-test that found no launcher tries again.
const TEST_RETRY: Duration = Duration::from_secs(2);

/// Arguments of the daemon.
#[derive(Debug, Clone, Parser)]
#[command(name = "codesandboxd", version, about = "Runs code nobody trusts, for clients on a Unix socket")]
pub struct Options {
    /// Configuration file, in JSON; without it, the defaults.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Check the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    /// Listen on this path, where systemd hands over no socket.
    #[arg(long, value_name = "PATH")]
    listen: Option<PathBuf>,
    /// Socket of the launcher.
    #[arg(long, value_name = "PATH", default_value = LAUNCHER_SOCKET)]
    launcher: PathBuf,
    /// Start a launcher of its own, and end with it.
    #[arg(long, conflicts_with = "launcher")]
    embedded: bool,
}

/// Why the daemon could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// A file could not be read.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The configuration can't be used.
    #[error("{path}: {error}", path = path.as_ref().map_or("the defaults".into(), |path| path.display().to_string()))]
    Config {
        /// Its file, if there is one.
        path: Option<PathBuf>,
        /// What is wrong with it.
        error: Box<ConfigError>,
    },
    /// There is nothing to listen on.
    #[error("no socket: give --listen, or start it by codesandboxd.socket")]
    NoSocket,
    /// The socket can't be listened on.
    #[error(transparent)]
    Listen(#[from] listen::ListenError),
    /// The operating system refused something that every daemon needs.
    #[error("{attempt}: {error}")]
    Start {
        /// What was attempted.
        attempt: &'static str,
        /// Why it failed.
        error: std::io::Error,
    },
    /// The embedded launcher can't be talked to.
    #[error("the embedded launcher: {0}")]
    Launcher(#[from] BackendError),
    /// The embedded launcher has ended.
    #[error("the embedded launcher has ended: {0}")]
    LauncherEnded(std::process::ExitStatus),
}

/// Runs the daemon with these arguments, the program's name first.
///
/// No thread may have been started before: an embedded launcher is this program again.
pub fn main(arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.collect();
    if let Some(arguments) = launcher::requested(&arguments) {
        return launcher::main(arguments.into_iter());
    }
    let options = match Options::try_parse_from(arguments) {
        Ok(options) => options,
        Err(error) => {
            // Where not even this can be printed, the exit status still tells.
            drop(error.print());
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    let result = if options.check_config { check_config(options.config.as_deref()) } else { run(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codesandboxd: {error}");
            ExitCode::from(if matches!(error, DaemonError::Config { .. }) { EXIT_CONFIG } else { 1 })
        }
    }
}

/// The configuration in a file, or the defaults, and the runtimes that this host has by it.
///
/// # Errors
/// The file or the manifest that it names can't be read or used.
pub fn load(path: Option<&Path>) -> Result<(Config, Catalogue), DaemonError> {
    let config = parse(path)?;
    let manifest = config.runtimes.manifest.as_deref().map(read).transpose()?;
    let catalogue = config
        .catalogue(manifest.as_deref(), &|path| path.exists())
        .map_err(|error| DaemonError::Config { path: path.map(Path::to_owned), error: Box::new(error) })?;
    Ok((config, catalogue))
}

fn parse(path: Option<&Path>) -> Result<Config, DaemonError> {
    let text = path.map(read).transpose()?;
    Config::parse(text.as_deref().unwrap_or("{}"))
        .map_err(|error| DaemonError::Config { path: path.map(Path::to_owned), error: Box::new(error) })
}

fn read(path: &Path) -> Result<String, DaemonError> {
    std::fs::read_to_string(path).map_err(|error| DaemonError::File { path: path.to_owned(), error })
}

/// Checks what can be checked on another host than the one that the configuration is for: trees and
/// programs count as there, and a manifest is read if it is.
fn check_config(path: Option<&Path>) -> Result<(), DaemonError> {
    let config = parse(path)?;
    let manifest = config.runtimes.manifest.as_deref().filter(|path| path.exists()).map(read).transpose()?;
    config
        .catalogue(manifest.as_deref(), &|_| true)
        .map_err(|error| DaemonError::Config { path: path.map(Path::to_owned), error: Box::new(error) })?;
    println!("ok: {} profiles, {} languages", config.profiles.len(), config.languages.len());
    if let (Some(path), None) = (&config.runtimes.manifest, &manifest) {
        println!("not checked, because it is not here: {}", path.display());
    }
    Ok(())
}

/// Serves until a signal tells to stop.
///
/// # Errors
/// It could not start, or its embedded launcher has ended.
pub fn run(options: &Options) -> Result<(), DaemonError> {
    journal::start();
    serve::raise_descriptor_limit();
    let (config, catalogue) = load(options.config.as_deref())?;
    let mut launcher = options.embedded.then(|| embedded::Launcher::start(options.config.as_deref())).transpose()?;
    // One thread serves thousands of requests a second; more would cost memory and gain nothing
    // while the sandboxes take the processors.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(1))
        .build()
        .map_err(|error| DaemonError::Start { attempt: "starting the event loop", error })?;
    let result = runtime.block_on(live(options, config, catalogue, launcher.as_mut()));
    // The runtime holds the connection to the launcher, which ends with it.
    runtime.shutdown_background();
    if let Some(launcher) = launcher {
        launcher.wait();
    }
    result
}

async fn live(
    options: &Options,
    config: Config,
    catalogue: Catalogue,
    mut launcher: Option<&mut embedded::Launcher>,
) -> Result<(), DaemonError> {
    let listener = listen::take(options.listen.as_deref())?.ok_or(DaemonError::NoSocket)?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let backend = match &mut launcher {
        Some(launcher) => Backend::adopt(launcher.socket()?)?,
        None => Backend::connect(options.launcher.clone()),
    };
    let scheduler = Scheduler::new(backend, &config.service);
    let deadline = Duration::from_millis(config.service.stop_deadline_ms);
    let state = api::State::new(scheduler.clone(), Arc::new(config), catalogue);
    if options.embedded {
        embedded::greeting(&scheduler).await;
    }
    info!(runtimes = state.runtimes().runtimes().len(), "the daemon is ready");
    notify::ready();
    let keeper = tokio::spawn(notify::keep(scheduler.clone()));
    let tests = state.config.service.check_at_start.then(|| tokio::spawn(test_runtimes(state.clone())));

    let (stop, stopping) = watch::channel(false);
    let mut serving = tokio::spawn(serve::serve(listener, state, stopping));
    let ended = tokio::select! {
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        status = embedded::ended(launcher) => Err(DaemonError::LauncherEnded(status)),
    };
    keeper.abort();
    notify::stopping(deadline + 2 * ANSWER_TIME);
    info!(load = ?scheduler.load(), "the daemon stops");
    if let Some(tests) = tests {
        tests.abort();
    }
    stop.send_replace(true);
    let finish = async {
        if tokio::time::timeout(deadline + ANSWER_TIME, scheduler.stop(deadline)).await.is_err() {
            error!("runs did not end when they were cancelled");
        }
        if tokio::time::timeout(ANSWER_TIME, &mut serving).await.is_err() {
            warn!("some clients did not read their answers in time");
        }
    };
    tokio::select! {
        () = finish => {}
        _ = terminate.recv() => warn!("told twice to stop: runs are given up"),
        _ = interrupt.recv() => warn!("told twice to stop: runs are given up"),
    }
    ended
}

fn on(kind: SignalKind) -> Result<Signal, DaemonError> {
    signal(kind).map_err(|error| DaemonError::Start { attempt: "waiting for signals", error })
}

/// Tests every runtime, one after another, so that those who ask meanwhile find free slots.
async fn test_runtimes(state: api::State) {
    let runtimes = state.runtimes().runtimes().to_vec();
    for runtime in &runtimes {
        loop {
            match checks::check_one(&state, runtime).await {
                Ok(()) => break,
                Err(Fault::Stopping) => return,
                // The launcher may start after us, or have gone for a while.
                Err(_) => tokio::time::sleep(TEST_RETRY).await,
            }
        }
    }
    info!(runtimes = runtimes.len(), "all runtimes are tested");
}

#[cfg(test)]
mod tests;
