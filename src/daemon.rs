//! The daemon: puts the parts together and keeps them running.
//!
//! It takes the sockets that systemd hands over, or listens on its own ([`listen`]), serves the API on
//! one, the metrics on another, and on a third the API for those who show tokens ([`serve`]), and tells the service manager how it fares
//! ([`notify`]) and the journal what happens ([`journal`]). It holds no privilege; the launcher has
//! what is needed.
//!
//! ```text
//!  load ─▶ listen ─▶ ready ─▶ serve, and test the runtimes meanwhile
//!                               │ SIGTERM, SIGINT, or the end of an embedded launcher
//!                               ▼
//!                             accept nobody, refuse what waits, let finish what runs,
//!                             write the answers ─▶ end
//! ```

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use futures_util::future::OptionFuture;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::api::compat::judge0::StoreError;
use crate::api::{self, checks};
use crate::backend::{Backend, BackendError};
use crate::config::{Config, EXIT_CONFIG, Located};
use crate::launcher;
use crate::runtime::{Catalogue, Health};
use crate::scheduler::{Fault, Scheduler};
use crate::session::database::DatabaseError;

pub(crate) mod embedded;
mod journal;
mod judge0;
pub(crate) mod listen;
mod load;
mod notify;
mod serve;
mod sessions;

pub use load::load;
pub use serve::serve_stream;

/// Where the launcher listens where nothing else is said.
pub const LAUNCHER_SOCKET: &str = "/run/codesandbox/launcher.sock";

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
    /// Answer GET /metrics and /health, and nothing else, on this path; where systemd hands over a socket
    /// of the name "metrics", it is taken instead.
    #[arg(long, value_name = "PATH")]
    listen_metrics: Option<PathBuf>,
    /// Serve clients over TCP at this address, who show tokens of the configuration; where systemd hands over a socket
    /// of the name "tcp", it is taken instead. Nothing is encrypted.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen_tcp: Option<SocketAddr>,
    /// Speak Judge0 at the root of this path, where the configuration enables it; where systemd hands over a
    /// socket of the name "judge0", it is taken instead.
    #[arg(long, value_name = "PATH")]
    listen_judge0: Option<PathBuf>,
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
    #[error(transparent)]
    Config(#[from] Located),
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
    /// What is known of sessions can't be read.
    #[error("sessions: {0}")]
    Sessions(#[from] DatabaseError),
    /// Submissions of Judge0 can't be kept.
    #[error("submissions: {0}")]
    Judge0(#[from] StoreError),
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
    let result = if options.check_config { load::check(options.config.as_deref()) } else { run(&options) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("codesandboxd: {error}");
            let of_config = matches!(error, DaemonError::Config(_) | DaemonError::File { .. });
            ExitCode::from(if of_config { EXIT_CONFIG } else { 1 })
        }
    }
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
    let places = listen::Places {
        api: options.listen.as_deref(),
        metrics: options.listen_metrics.as_deref(),
        judge0: options.listen_judge0.as_deref(),
        tcp: options.listen_tcp,
    };
    let sockets = listen::take(places, &config)?;
    let listener = sockets.api.ok_or(DaemonError::NoSocket)?;
    let mut reload = on(SignalKind::hangup())?;
    let mut terminate = on(SignalKind::terminate())?;
    let mut interrupt = on(SignalKind::interrupt())?;
    let backend = match &mut launcher {
        Some(launcher) => Backend::adopt(launcher.socket()?)?,
        None => Backend::connect(options.launcher.clone()),
    };
    let scheduler = Scheduler::new(backend.clone(), &config);
    scheduler.open_cache();
    let sessions = sessions::open(backend, &config).await?;
    let submissions = judge0::open(&config)?;
    let mut state = api::State::new(scheduler.clone(), config, catalogue);
    if let Some(sessions) = &sessions {
        state = state.with_sessions(sessions.clone());
    }
    if let Some(submissions) = &submissions {
        state = state.with_judge0(submissions.clone());
        submissions.recover(&state).await?;
    }
    if options.embedded {
        embedded::greeting(&scheduler).await;
    }
    info!(runtimes = state.runtimes().runtimes().len(), "the daemon is ready");
    notify::ready();
    let keeper = tokio::spawn(notify::keep(scheduler.clone()));
    let mut tests = start_tests(&state);

    let (stop, stopping) = watch::channel(false);
    let metrics = api::metrics_router(state.clone());
    let metrics = sockets.metrics.map(|listener| serve::serve(listener, metrics, stopping.clone()));
    let remote = api::remote_router(state.clone());
    let remote = sockets.tcp.map(|listener| serve::serve(listener, remote, stopping.clone()));
    let judge0 = api::compat::judge0::router(state.clone());
    let judge0 = sockets.judge0.map(|listener| serve::serve(listener, judge0, stopping.clone()));
    let serving = serve::serve(listener, api::router(state.clone()), stopping);
    let others =
        async { tokio::join!(OptionFuture::from(metrics), OptionFuture::from(remote), OptionFuture::from(judge0)) };
    let mut serving = tokio::spawn(async { tokio::join!(serving, others) });
    let ended = loop {
        tokio::select! {
            _ = terminate.recv() => break Ok(()),
            _ = interrupt.recv() => break Ok(()),
            status = embedded::ended(launcher.as_deref_mut()) => break Err(DaemonError::LauncherEnded(status)),
            _ = reload.recv() => {
                notify::reloading();
                if load::anew(options.config.as_deref(), &state).await {
                    if let Some(tests) = tests.take() {
                        tests.abort();
                    }
                    tests = start_tests(&state);
                }
                notify::ready();
            }
        }
    };
    keeper.abort();
    let deadline = Duration::from_millis(state.config().service.stop_deadline_ms);
    notify::stopping(deadline + 2 * ANSWER_TIME);
    info!(load = ?scheduler.load(), "the daemon stops");
    if let Some(tests) = tests {
        tests.abort();
    }
    stop.send_replace(true);
    let finish = async {
        let saved = OptionFuture::from(sessions.as_ref().map(|sessions| sessions.shut_down(deadline)));
        let ended = tokio::time::timeout(deadline + ANSWER_TIME, scheduler.stop(deadline));
        if tokio::join!(ended, saved).0.is_err() {
            error!("runs did not end when they were cancelled");
        }
        OptionFuture::from(submissions.as_ref().map(|submissions| submissions.settle(ANSWER_TIME))).await;
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

fn start_tests(state: &api::State) -> Option<tokio::task::JoinHandle<()>> {
    state.config().service.check_at_start.then(|| tokio::spawn(test_runtimes(state.clone())))
}

/// Tests every runtime of which nothing is known, one after another, so that those who ask meanwhile
/// find free slots.
async fn test_runtimes(state: api::State) {
    let mut runtimes = state.runtimes().runtimes().to_vec();
    runtimes.retain(|runtime| runtime.health == Health::Unchecked);
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
