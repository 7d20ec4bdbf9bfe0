//! Runs the program in a sandbox of a launcher of our own, and is there for it until it ends.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal as Heard, SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::refused::Refused;
use super::rules::{self, Flags, Rules};
use super::watch::Watch;
use super::{AgentError, ask, streams};
use crate::backend::{
    Backend, BackendError, ExecPurpose, Keeper, NO_NETWORK, SessionEvent, SessionKey, SessionRequest, Tidings,
};
use crate::cli::follow::{Sink, write};
use crate::cli::session::{input, terminal as ours};
use crate::cli::text::harmless;
use crate::cli::{complain, exit, service};
use crate::daemon::DaemonError;
use crate::daemon::embedded::Launcher;
use crate::job::{Ending, Exit, verdict};
use crate::launcher::{GRANTED_PROFILE, Grant};
use crate::plan::{Cause, Size, Spec};
use crate::profile::Network;
use crate::sys::terminal;

/// Number of the only program.
const ONLY: u64 = 1;
/// How long the program has to end once it was asked to.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long everything else has that should take no time.
const FAREWELL: Duration = Duration::from_secs(5);
/// Size of a window that tells none.
const USUAL: Size = Size { rows: 24, columns: 80 };

/// All that is to be done.
#[derive(Debug)]
pub(super) struct Plan {
    /// Arguments and environment.
    pub(super) spec: Spec,
    /// What the command line allows.
    pub(super) flags: Flags,
    /// What may be reached at first.
    pub(super) network: Network,
    /// The allow-file.
    pub(super) rules: Option<Rules>,
    /// Configuration of the launcher.
    pub(super) config: Option<PathBuf>,
}

/// Runs it to its end; the exit status. After that nothing of ours is left.
pub(super) fn run(plan: &Plan, grant: &Grant) -> Result<u8, AgentError> {
    let runtime = service::runtime().map_err(|error| AgentError::Io { attempt: "starting the event loop", error })?;
    let mut launcher = None;
    let done = runtime.block_on(begin(plan, grant, &mut launcher));
    // The connection ends with the runtime, and the launcher with the connection. A read of a terminal may still
    // hang, and nobody waits for it any more.
    runtime.shutdown_background();
    if let Some(launcher) = launcher {
        launcher.wait();
    }
    done
}

async fn begin(plan: &Plan, grant: &Grant, started: &mut Option<Launcher>) -> Result<u8, AgentError> {
    let io = |attempt| move |error| AgentError::Io { attempt, error };
    // Before the program is there, so that no signal can end us and leave it.
    let signals = Signals::listen().map_err(io("listening to signals"))?;
    let watch = plan.rules.as_ref().map(Watch::start).transpose().map_err(io("watching the allow-file"))?;
    let text = |error: DaemonError| AgentError::Launcher(error.to_string());
    let launcher = started.insert(Launcher::start_granting(plan.config.as_deref(), grant).map_err(text)?);
    let socket = launcher.socket().map_err(text)?;
    serve(plan, grant, socket, signals, watch).await
}

async fn serve(
    plan: &Plan,
    grant: &Grant,
    socket: OwnedFd,
    signals: Signals,
    watch: Option<Watch>,
) -> Result<u8, AgentError> {
    let backend = Backend::adopt(socket).map_err(failed)?;
    let (keeper, tidings) = backend.keep().await.map_err(failed)?;
    let session: SessionKey = uuid::Uuid::new_v4().into_bytes();
    // What is made before says what may be reached, so that there is no moment without.
    let network = if grant.networked { &plan.network } else { &Network::Loopback };
    let create = |reach| SessionRequest::Create {
        runtimes: Vec::new(),
        profile: GRANTED_PROFILE.to_owned(),
        limits: grant.limits,
        origin: None,
        reach,
        trees: Vec::new(),
    };
    keeper.ask_with(session, Some(network), create).await.map_err(failed)?;
    let is_typed = ours::is_typed();
    let purpose =
        if is_typed { ExecPurpose::Terminal(window().unwrap_or(USUAL)) } else { ExecPurpose::Program { input: true } };
    let ends = keeper.execute(session, ONLY, &plan.spec, &grant.limits, purpose, &[]).await.map_err(failed)?;
    let (tell_ended, ended) = watch::channel(false);
    let mut present = Present {
        plan,
        grant,
        keeper: keeper.clone(),
        session,
        raw: None,
        program_input: None,
        terminal: None,
        waiting: Vec::new(),
        input: input::pieces(),
        has_input: true,
        refused: Refused::default(),
        in_force: network.clone(),
        is_told_of_replacement: false,
        due: None,
        passing: JoinSet::new(),
    };
    present.connect(ends, is_typed, &ended)?;
    let done = present.attend(tidings, signals, watch.as_ref()).await;
    tell_ended.send(true).ok();
    present.finish(done).await
}

/// Whoever typed the command, as long as the program runs.
struct Present<'a> {
    plan: &'a Plan,
    grant: &'a Grant,
    keeper: Keeper,
    session: SessionKey,
    raw: Option<ours::Raw>,
    /// Where the program reads.
    program_input: Option<AsyncFd<OwnedFd>>,
    /// Our end of the program's terminal, where it has one.
    terminal: Option<OwnedFd>,
    /// What is still to be written there.
    waiting: Vec<u8>,
    input: mpsc::Receiver<Vec<u8>>,
    has_input: bool,
    refused: Refused,
    in_force: Network,
    is_told_of_replacement: bool,
    /// When a program that was asked to end is ended.
    due: Option<Instant>,
    passing: JoinSet<std::io::Result<()>>,
}

/// How it was over.
enum Over {
    /// The program has ended.
    Ended(Box<Ending>),
    /// Nobody reads what it prints.
    Unread,
}

impl Present<'_> {
    /// Takes the other ends of the program's streams.
    fn connect(&mut self, ends: Vec<OwnedFd>, is_typed: bool, ended: &watch::Receiver<bool>) -> Result<(), AgentError> {
        let io = |error| AgentError::Io { attempt: "taking the program's streams", error };
        let mut ends = ends.into_iter();
        let missing = || io(ErrorKind::InvalidData.into());
        let mut next = || ends.next().ok_or_else(missing);
        if is_typed {
            let terminal = next()?;
            let copy = || terminal.try_clone().map_err(io);
            self.program_input = Some(streams::end(copy()?).map_err(io)?);
            self.passing.spawn(streams::pass_on(streams::end(copy()?).map_err(io)?, Sink::Output, ended.clone()));
            self.terminal = Some(terminal);
            self.raw = Some(ours::Raw::enter(std::io::stdin()).map_err(io)?);
            return Ok(());
        }
        self.program_input = Some(streams::end(next()?).map_err(io)?);
        for sink in [Sink::Output, Sink::Error] {
            self.passing.spawn(streams::pass_on(streams::end(next()?).map_err(io)?, sink, ended.clone()));
        }
        Ok(())
    }

    /// Is there until the program ends.
    async fn attend(
        &mut self,
        mut tidings: mpsc::UnboundedReceiver<Tidings>,
        mut signals: Signals,
        watch: Option<&Watch>,
    ) -> Result<Over, AgentError> {
        let gone = || AgentError::Launcher("what holds the program has ended".to_owned());
        loop {
            let due = self.due;
            tokio::select! {
                told = tidings.recv() => {
                    if let Some(over) = self.hear(told.ok_or_else(gone)?)? {
                        return Ok(over);
                    }
                }
                piece = self.input.recv(), if self.has_input && self.waiting.is_empty() => match piece {
                    Some(piece) => self.waiting = piece,
                    None => self.no_more_input().await,
                },
                given = async {
                    match &self.program_input {
                        Some(to) => streams::give(to, &mut self.waiting).await,
                        None => std::future::pending().await,
                    }
                }, if !self.waiting.is_empty() => {
                    // It has closed its input, or is about to end: nobody wants the rest.
                    if given.is_err() {
                        self.waiting.clear();
                        self.program_input = None;
                    }
                }
                number = signals.next() => self.signalled(number).await,
                changed = async {
                    match watch {
                        Some(watch) => watch.changed().await,
                        None => std::future::pending().await,
                    }
                } => match changed {
                    Ok(()) => self.take_rules().await,
                    Err(error) => return Err(AgentError::Io { attempt: "watching the allow-file", error }),
                },
                Some(passed) = self.passing.join_next(), if !self.passing.is_empty() => {
                    if !matches!(passed, Ok(Ok(()))) {
                        return Ok(Over::Unread);
                    }
                }
                () = async {
                    match due {
                        Some(due) => sleep_until(due).await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.due = None;
                    self.ask(SessionRequest::Kill { exec: ONLY, cause: Cause::Cancelled }).await;
                }
            }
        }
    }

    fn hear(&mut self, told: Tidings) -> Result<Option<Over>, AgentError> {
        match told.event {
            SessionEvent::Denied(flows) => self.refused.gather(flows),
            SessionEvent::Network(Some(reason)) => self.say(&format!("the network is gone: {}", harmless(&reason))),
            SessionEvent::Ended { ending, .. } => return Ok(Some(Over::Ended(ending))),
            SessionEvent::Lost { reason, .. } => return Err(AgentError::Launcher(reason)),
            _ => {}
        }
        Ok(None)
    }

    /// Asks for something that is no matter of life and death: where it fails, the program has ended.
    async fn ask(&self, request: SessionRequest) {
        drop(self.keeper.ask(self.session, request, &[]).await);
    }

    async fn no_more_input(&mut self) {
        self.has_input = false;
        if self.raw.is_some() {
            // The terminal is gone, and with it whoever typed.
            return self.signalled(Signal::SIGHUP as i32).await;
        }
        self.program_input = None;
        self.ask(SessionRequest::CloseInput { exec: ONLY }).await;
    }

    async fn signalled(&mut self, number: i32) {
        match Signal::try_from(number) {
            Ok(Signal::SIGWINCH) => {
                if let (Some(terminal), Some(Size { rows, columns })) = (&self.terminal, window()) {
                    // Where it is gone, so is the program.
                    terminal::set_window(terminal.as_fd(), terminal::Window { rows, columns }).ok();
                }
            }
            Ok(Signal::SIGCONT) => {
                if let Some(raw) = &self.raw {
                    raw.again().ok();
                }
            }
            Ok(signal) => {
                if matches!(signal, Signal::SIGTERM | Signal::SIGHUP) && self.due.is_none() {
                    self.due = Some(Instant::now() + PATIENCE);
                }
                self.ask(SessionRequest::Signal { exec: ONLY, signal: number }).await;
            }
            Err(_) => {}
        }
    }

    /// The allow-file may say something else now.
    async fn take_rules(&mut self) {
        let Some(rules) = &self.plan.rules else {
            return;
        };
        let path = rules.path().display().to_string();
        if rules.is_held() && rules.is_replaced() {
            if !self.is_told_of_replacement {
                self.is_told_of_replacement = true;
                self.say(&format!(
                    "{path} is another file now, and lies where the program writes, so nothing of it counts: keep it \
                     elsewhere, or change it in place, as codesandbox agent allow does"
                ));
            }
            return;
        }
        if !self.grant.networked {
            return;
        }
        let network = match rules::combined(&self.plan.flags, Some(rules)) {
            Ok(network) => network,
            Err(error) => return self.say(&format!("{error}; what was in force before still is")),
        };
        if network == self.in_force {
            return;
        }
        match self.keeper.ask_with(self.session, Some(&network), SessionRequest::Network).await {
            Ok(_) => {
                let count = if let Network::Allow(list) = &network { list.allow.len() } else { 0 };
                self.in_force = network;
                // A program that draws on the terminal is spared what it can't know of.
                if self.raw.is_none() {
                    self.say(&format!("{path}: in force, {count} destinations in all"));
                }
            }
            Err(error) => self.say(&format!("{path}: {error}; what was in force before still is")),
        }
    }

    /// A line of ours, wherever the cursor stands.
    fn say(&self, text: &str) {
        if self.raw.is_some() {
            let text = text.replace('\n', "\r\n");
            return complain(&format!("{text}\r"));
        }
        complain(&text);
    }

    /// All is over, or something went wrong: passes on what is left, and tells.
    async fn finish(mut self, done: Result<Over, AgentError>) -> Result<u8, AgentError> {
        let unread = {
            let all = async {
                let mut unread = false;
                while let Some(passed) = self.passing.join_next().await {
                    unread |= !matches!(passed, Ok(Ok(())));
                }
                unread
            };
            all.await
        };
        // Whatever it has left behind ends here.
        drop(timeout(FAREWELL, self.keeper.ask(self.session, SessionRequest::Close, &[])).await);
        // The terminal is as before from here on.
        let was_typed = self.raw.take().is_some();
        let status = match done? {
            Over::Unread => return Ok(exit::BROKEN_PIPE),
            Over::Ended(_) if unread => return Ok(exit::BROKEN_PIPE),
            Over::Ended(ending) => tell(&ending, self.grant),
        };
        let file = self.plan.rules.as_ref().map(|rules| rules.path().display().to_string());
        let summary = self.refused.summary(file.as_deref());
        if !summary.is_empty() {
            let text: String = summary.iter().map(|line| format!("codesandbox: {line}\n")).collect();
            drop(write(Sink::Error, text.into_bytes()).await);
        }
        if was_typed && let Some(rules) = &self.plan.rules {
            ask::offer(&self.refused, rules, &mut self.input).await;
        }
        Ok(status)
    }
}

/// Tells how it ended, where its own exit status does not; the status.
fn tell(ending: &Ending, grant: &Grant) -> u8 {
    let (status, reason) = verdict(ending, &grant.limits);
    let code = match ending.exit {
        Exit::Code(code) => Some(code),
        Exit::Signal(_) | Exit::NotStarted(..) => None,
    };
    let signal = match ending.exit {
        Exit::Signal(number) => Some(
            Signal::try_from(number).map_or_else(|_| format!("signal {number}"), |signal| signal.as_str().to_owned()),
        ),
        Exit::Code(_) | Exit::NotStarted(..) => None,
    };
    let by_itself = matches!(ending.exit, Exit::Code(_)) && ending.killed_for.is_none() && !ending.out_of_memory;
    if by_itself {
        return exit::of(crate::job::Status::NonzeroExit, code, None);
    }
    complain(&format!("{}: {}", exit::name(status), reason.unwrap_or_default()));
    exit::of(status, code, signal.as_deref())
}

fn window() -> Option<Size> {
    ours::window().map(|(rows, columns)| Size { rows, columns })
}

fn failed(error: BackendError) -> AgentError {
    let text = match error {
        BackendError::Failed(reason) => match reason.strip_prefix(NO_NETWORK) {
            Some(reason) => return AgentError::NoNetwork(format!("{NO_NETWORK}{reason}")),
            None => reason,
        },
        BackendError::Gone => "what holds the program could not be started".to_owned(),
        other => other.to_string(),
    };
    AgentError::Launcher(harmless(&text))
}

/// Signals that are the program's, or about its window.
struct Signals(HashMap<i32, Heard>);

impl Signals {
    fn listen() -> std::io::Result<Self> {
        let kinds =
            [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH, Signal::SIGCONT];
        let heard = |kind: &Signal| Ok((*kind as i32, signal(SignalKind::from_raw(*kind as i32))?));
        kinds.iter().map(heard).collect::<std::io::Result<_>>().map(Self)
    }

    /// The next of them. Nothing is lost where this is given up in the middle.
    async fn next(&mut self) -> i32 {
        std::future::poll_fn(|context| {
            let heard =
                self.0.iter_mut().find_map(|(number, heard)| heard.poll_recv(context).is_ready().then_some(*number));
            heard.map_or(std::task::Poll::Pending, std::task::Poll::Ready)
        })
        .await
    }
}
