//! Programs of a session: starting them, what goes in, and what is known of their end.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{broadcast, watch};

use super::attach::Attachment;
use super::database::DatabaseError;
use super::live::Live;
use super::log::{Log, Pump, Staging};
use super::record::{ExecRecord, SessionId, SessionRecord, shown};
use super::state::Running;
use super::types::{ExecResult, ExecView, From, NewExec, Range, SessionError, Size};
use super::{Sessions, Shared, now_ms};
use crate::backend::{ExecPurpose, SessionRequest};
use crate::job::{DeniedFlow, Ending, Exit, verdict};
use crate::plan::{self, Cause, Spec};
use crate::profile::Limits;
use crate::sys::{pipe, socket, terminal};

/// What a client types at a terminal to say that nothing more comes; termios(3), VEOF.
const END_OF_TRANSMISSION: u8 = 4;

/// Most reports of refused flows that wait for a client who follows a program.
const REFUSALS: usize = 16;

/// A program.
#[derive(Debug)]
pub(super) struct Exec {
    pub(super) id: u64,
    /// Its command line as it is shown.
    argv: Vec<String>,
    detached: bool,
    size: Mutex<Option<Size>>,
    started_at_ms: u64,
    limits: Limits,
    /// Whether it is an interpreter of a context, and so nobody's to see.
    pub(super) hidden: bool,
    input: tokio::sync::Mutex<Option<AsyncFd<OwnedFd>>>,
    /// The other end of its terminal.
    master: Option<OwnedFd>,
    pub(super) stdout: Arc<Log>,
    pub(super) stderr: Option<Arc<Log>>,
    pumps: Vec<Pump>,
    pub(super) over: watch::Sender<Option<Arc<Over>>>,
    /// What the network policy refuses while it runs.
    pub(super) refusals: broadcast::Sender<Vec<DeniedFlow>>,
    attached: AtomicUsize,
    last_active_ms: AtomicU64,
}

/// How a program ended.
#[derive(Debug)]
pub(super) struct Over {
    pub(super) result: ExecResult,
    /// Where its output stood then; whatever comes later is of those that it left behind.
    pub(super) stdout: u64,
    pub(super) stderr: u64,
}

/// What leads to a program that the launcher has started.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) purpose: ExecPurpose,
    pub(super) input: Option<OwnedFd>,
    /// Standard output and error, or the terminal.
    pub(super) outputs: Vec<OwnedFd>,
    /// Logs, and behind that of a terminal the two ends of the pipe on the way to it.
    pub(super) logs: Vec<OwnedFd>,
}

/// What is written down of a program while it runs.
pub(super) struct About {
    pub(super) id: u64,
    pub(super) argv: Vec<String>,
    pub(super) detached: bool,
    pub(super) terminal: Option<Size>,
    pub(super) started_at_ms: u64,
    pub(super) limits: Limits,
    pub(super) hidden: bool,
}

impl About {
    /// What is written down when it starts.
    fn record(&self, session: SessionId) -> ExecRecord {
        ExecRecord {
            session,
            id: self.id,
            argv: self.argv.clone(),
            detached: self.detached,
            terminal: self.terminal.map(|size| (size.rows, size.columns)),
            started_at_ms: self.started_at_ms,
            limits: self.limits,
            finished: None,
        }
    }
}

impl Exec {
    /// Takes up a program, new or found again.
    pub(super) fn take_up(about: About, ends: Ends, log_bytes: u64) -> std::io::Result<Self> {
        let About { id, argv, detached, terminal, started_at_ms, limits, hidden } = about;
        let Ends { purpose, input, outputs, logs } = ends;
        let missing = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (mut outputs, mut logs) = (outputs.into_iter(), logs.into_iter());
        let mut log = || Log::adopt(logs.next().ok_or_else(missing)?, log_bytes).map(Arc::new);
        let (mut master, mut pumps, mut stderr) = (None, Vec::new(), None);
        let stdout = log()?;
        let input = if let ExecPurpose::Terminal(_) = purpose {
            let ours = outputs.next().ok_or_else(missing)?;
            socket::set_nonblocking(ours.as_fd()).map_err(|errno| errno.errno)?;
            let input = ours.try_clone()?;
            master = Some(ours.try_clone()?);
            let staging =
                Staging { reader: logs.next().ok_or_else(missing)?, writer: logs.next().ok_or_else(missing)? };
            pumps.push(Pump::start_terminal(ours, staging, Arc::clone(&stdout), None)?);
            Some(input)
        } else {
            let second = log()?;
            for log in [&stdout, &second] {
                // The launcher keeps none out of which nothing more comes.
                let Some(output) = outputs.next() else {
                    log.finish();
                    continue;
                };
                // What an interpreter of a context says is bounded by what is read of it.
                let limit = (!hidden).then_some(limits.output_bytes);
                pumps.push(Pump::start(output, Arc::clone(log), limit)?);
            }
            stderr = Some(second);
            input
        };
        if let Some(input) = &input {
            socket::set_nonblocking(input.as_fd()).map_err(|errno| errno.errno)?;
        }
        let input = input.map(socket::watched).transpose()?;
        Ok(Self {
            id,
            argv,
            detached,
            size: Mutex::new(terminal),
            started_at_ms,
            limits,
            hidden,
            input: tokio::sync::Mutex::new(input),
            master,
            stdout,
            stderr,
            pumps,
            over: watch::Sender::new(None),
            refusals: broadcast::Sender::new(REFUSALS),
            attached: AtomicUsize::new(0),
            last_active_ms: AtomicU64::new(now_ms()),
        })
    }

    /// The path of the program that it is.
    pub(super) fn program(&self) -> &str {
        self.argv.first().map_or("", String::as_str)
    }

    pub(super) fn runs(&self) -> bool {
        self.over.borrow().is_none()
    }

    pub(super) fn activity(&self) -> Running {
        Running {
            attached: self.attached.load(Ordering::Relaxed) > 0,
            last_active_ms: self.last_active_ms.load(Ordering::Relaxed),
        }
    }

    /// It does something, or something is done to it.
    pub(super) fn touch(&self) {
        self.last_active_ms.fetch_max(now_ms(), Ordering::Relaxed);
    }

    pub(super) fn attach(&self) {
        self.attached.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn detach(&self) {
        self.touch();
        self.attached.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn view(&self) -> ExecView {
        let range = |log: &Arc<Log>| {
            let position = log.position();
            Range { first: position.first, next: position.next }
        };
        ExecView {
            id: self.id,
            argv: self.argv.clone(),
            started_at_ms: self.started_at_ms,
            detached: self.detached,
            terminal: *self.size.lock().unwrap_or_else(PoisonError::into_inner),
            stdout: range(&self.stdout),
            stderr: self.stderr.as_ref().map(range),
            result: self.over.borrow().as_ref().map(|over| over.result.clone()),
        }
    }

    fn record(&self, live: &Live, finished: Option<Vec<u8>>) -> ExecRecord {
        let size = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        ExecRecord {
            session: live.id,
            id: self.id,
            argv: self.argv.clone(),
            detached: self.detached,
            terminal: size.map(|size| (size.rows, size.columns)),
            started_at_ms: self.started_at_ms,
            limits: self.limits,
            finished,
        }
    }

    /// Its end is known: waits until all that it has printed is in its logs, and tells.
    async fn finish(&self, mut ending: Ending) {
        for pump in &self.pumps {
            pump.catch_up().await;
        }
        let (stdout, stderr) = (self.stdout.next(), self.stderr.as_ref().map_or(0, |log| log.next()));
        if !self.hidden && self.stderr.is_some() && stdout.max(stderr) > self.limits.output_bytes {
            // It may have ended by itself before it was seen that it had printed too much.
            ending.killed_for.get_or_insert(Cause::Output);
        }
        let result = result_of(&ending, &self.limits);
        self.touch();
        *self.input.lock().await = None;
        self.over.send_replace(Some(Arc::new(Over { result, stdout, stderr })));
    }

    /// The network policy refused these to its session.
    pub(super) fn refused(&self, flows: &[DeniedFlow]) {
        if self.runs() {
            // The error is that nobody follows it.
            self.refusals.send(flows.to_vec()).ok();
        }
    }

    /// Its sandbox is gone, and what became of it nobody knows.
    pub(super) fn lose(&self) {
        let (stdout, stderr) = (self.stdout.next(), self.stderr.as_ref().map_or(0, |log| log.next()));
        let result = ExecResult {
            status: crate::job::Status::Cancelled,
            exit_code: None,
            signal: None,
            reason: Some("its sandbox was lost".to_owned()),
            denied: Vec::new(),
            flows: Vec::new(),
            network_error: None,
            usage: crate::job::Usage::default(),
        };
        self.over.send_if_modified(|over| {
            let is_news = over.is_none();
            over.get_or_insert(Arc::new(Over { result, stdout, stderr }));
            is_news
        });
    }

    /// Writes to its standard input or terminal, as fast as it reads.
    pub(super) async fn write(&self, bytes: &[u8]) -> Result<(), SessionError> {
        let input = self.input.lock().await;
        let input = input.as_ref().ok_or(SessionError::Finished)?;
        let mut over = self.over.subscribe();
        let mut left = bytes;
        while !left.is_empty() {
            self.touch();
            let written =
                input.async_io(Interest::WRITABLE, |fd| nix::unistd::write(fd, left).map_err(socket::would_block));
            tokio::select! {
                biased;
                written = written => match written {
                    Ok(count) => left = left.get(count..).unwrap_or_default(),
                    Err(_) => return Err(SessionError::Finished),
                },
                // What it would not read, nobody will.
                _ = over.wait_for(Option::is_some) => return Err(SessionError::Finished),
            }
        }
        Ok(())
    }
}

fn result_of(ending: &Ending, limits: &Limits) -> ExecResult {
    let (status, reason) = verdict(ending, limits);
    let (exit_code, signal) = match ending.exit {
        Exit::Code(code) => (Some(code), None),
        Exit::Signal(signal) => (None, Some(signal)),
        Exit::NotStarted(..) => (None, None),
    };
    ExecResult {
        status,
        exit_code,
        signal,
        reason,
        denied: ending.denied.clone(),
        flows: ending.flows.clone(),
        network_error: ending.network_error.clone(),
        usage: ending.usage,
    }
}

impl Sessions {
    /// Runs a program in a session.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn exec(&self, client: &str, id: &str, new: NewExec) -> Result<ExecView, SessionError> {
        let live = self.shared.find(client, id)?;
        let exec = self.shared.exec(&live, new, false).await?;
        Ok(exec.view())
    }

    /// Programs of a session, running and ended, in the order in which they were started.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn execs(&self, client: &str, id: &str) -> Result<Vec<ExecView>, SessionError> {
        let live = self.shared.find(client, id)?;
        let state = live.state();
        Ok(state.execs.values().filter(|exec| !exec.hidden).map(|exec| exec.view()).collect())
    }

    /// A program.
    ///
    /// # Errors
    /// [`SessionError::UnknownExec`].
    pub async fn exec_view(&self, client: &str, id: &str, exec: u64) -> Result<ExecView, SessionError> {
        Ok(self.shared.find_exec(client, id, exec)?.1.view())
    }

    /// Ends a program and forgets it.
    ///
    /// # Errors
    /// [`SessionError::UnknownExec`].
    pub async fn remove_exec(&self, client: &str, id: &str, exec: u64) -> Result<(), SessionError> {
        let (live, exec) = self.shared.find_exec(client, id, exec)?;
        self.shared.remove_exec(&live, &exec).await
    }

    /// Follows what a program prints, to its end.
    ///
    /// # Errors
    /// [`SessionError::UnknownExec`].
    pub async fn follow(&self, client: &str, id: &str, exec: u64, from: From) -> Result<Attachment, SessionError> {
        let (live, exec) = self.shared.find_exec(client, id, exec)?;
        if from.follow && exec.runs() {
            // Whoever waits for it wants it to go on.
            drop(self.shared.ready(&live).await?);
        }
        Ok(Attachment::new(exec, from))
    }

    /// Writes to the standard input or the terminal of a program, and closes it where that is asked for.
    ///
    /// # Errors
    /// [`SessionError::Finished`] where nobody will read it.
    pub async fn write_stdin(
        &self,
        client: &str,
        id: &str,
        exec: u64,
        bytes: Vec<u8>,
        close: bool,
    ) -> Result<(), SessionError> {
        let (live, exec) = self.shared.find_exec(client, id, exec)?;
        drop(self.shared.ready(&live).await?);
        exec.write(&bytes).await?;
        if close { self.shared.close_input(&live, &exec).await } else { Ok(()) }
    }

    /// Sends a signal to the process group that a program leads.
    ///
    /// # Errors
    /// [`SessionError::Finished`].
    pub async fn signal(&self, client: &str, id: &str, exec: u64, signal: i32) -> Result<(), SessionError> {
        let (live, exec) = self.shared.find_exec(client, id, exec)?;
        self.shared.signal(&live, &exec, signal).await
    }

    /// Sets the size of a program's terminal.
    ///
    /// # Errors
    /// [`SessionError::NotTerminal`].
    pub async fn resize(&self, client: &str, id: &str, exec: u64, size: Size) -> Result<(), SessionError> {
        let (_, exec) = self.shared.find_exec(client, id, exec)?;
        let master = exec.master.as_ref().ok_or(SessionError::NotTerminal)?;
        let window = terminal::Window { rows: size.rows, columns: size.columns };
        terminal::set_window(master.as_fd(), window).map_err(|_| SessionError::Finished)?;
        *exec.size.lock().unwrap_or_else(PoisonError::into_inner) = Some(size);
        exec.touch();
        Ok(())
    }

    /// A connection to a port that a program of the session listens at.
    ///
    /// # Errors
    /// [`SessionError::PortClosed`].
    pub async fn connect(&self, client: &str, id: &str, port: u16) -> Result<TcpStream, SessionError> {
        let live = self.shared.find(client, id)?;
        let stream = self.shared.worker(&live, "connect").await?;
        super::ports::connect(stream, port).await.map_err(|_| SessionError::PortClosed(port))
    }
}

impl Shared {
    fn find_exec(&self, client: &str, id: &str, exec: u64) -> Result<(Arc<Live>, Arc<Exec>), SessionError> {
        let live = self.find(client, id)?;
        let exec = live.state().execs.get(&exec).filter(|exec| !exec.hidden).cloned();
        exec.map(|exec| (live, exec)).ok_or(SessionError::UnknownExec)
    }

    /// Starts a program.
    pub(super) async fn exec(
        self: &Arc<Self>,
        live: &Arc<Live>,
        new: NewExec,
        hidden: bool,
    ) -> Result<Arc<Exec>, SessionError> {
        let in_use = self.ready(live).await?;
        let config = self.config();
        let (limits, mut env) = {
            let state = live.state();
            (self.limits_of(&state.record, &new, hidden)?, state.record.env.clone())
        };
        let id = self.make_room(live)?;
        env.extend(new.env);
        let mut spec = Spec::new(&new.argv, &env);
        if !new.directory.is_empty() {
            spec.directory = Some(format!("/workspace/{}", new.directory).into_bytes());
        }
        let log_bytes = if hidden { super::contexts::LOG_BYTES } else { config.sessions.log_bytes };
        let internal = |error: std::io::Error| SessionError::Internal(error.to_string());
        let purpose = match new.terminal {
            Some(size) => ExecPurpose::Terminal(plan::Size { rows: size.rows, columns: size.columns }),
            None => ExecPurpose::Program { input: new.keep_stdin || !new.stdin.is_empty() },
        };
        let logs = logs(purpose).map_err(internal)?;
        let about = About {
            id,
            argv: shown(&new.argv),
            detached: new.detached,
            terminal: new.terminal,
            started_at_ms: now_ms(),
            limits,
            hidden,
        };
        let keeper = self.keeper_now()?;
        // Both at once. Where we die in between, the next daemon ends a program without a record, and
        // removes a record without a program.
        let (database, record) = (self.database.clone(), about.record(live.id));
        let writing = tokio::spawn(async move { database.insert_exec(record).await });
        let borrowed: Vec<_> = logs.iter().map(AsFd::as_fd).collect();
        live.state().starting.insert(id, None);
        let started = keeper.execute(live.id.bytes(), id, &spec, &limits, purpose, &borrowed).await;
        let has_started = started.is_ok();
        let taken = started.map_err(SessionError::from).and_then(|ends| {
            let mut ends = ends.into_iter();
            let input = if purpose == (ExecPurpose::Program { input: true }) { ends.next() } else { None };
            let ends = Ends { purpose, input, outputs: ends.collect(), logs };
            Exec::take_up(about, ends, log_bytes).map(Arc::new).map_err(internal)
        });
        let ending = {
            let mut state = live.state();
            let ending = state.starting.remove(&id).flatten();
            if let Ok(exec) = &taken {
                state.execs.insert(id, Arc::clone(exec));
                state.changed();
            }
            ending
        };
        let written = writing.await.unwrap_or(Err(DatabaseError::Closed));
        let exec = match (taken, written) {
            (Ok(exec), Ok(())) => exec,
            (Ok(exec), Err(error)) => {
                // That waits for its end, which is told with the gate where the launcher goes away.
                drop(in_use);
                self.remove_exec(live, &exec).await?;
                return Err(error.into());
            }
            (Err(error), _) => {
                if has_started {
                    // There was no room here for what leads to it.
                    self.ask(live, SessionRequest::Kill { exec: id, cause: Cause::Cancelled }).await.ok();
                }
                self.database.remove_exec(live.id, id).await?;
                return Err(error);
            }
        };
        self.watch(live, &exec);
        // It may be over already: its end is told to another task than its start.
        if let Some(ending) = ending {
            self.ended(Arc::clone(live), id, ending);
        }
        if exec.stderr.is_some() && !new.stdin.is_empty() {
            let (shared, live, exec) = (Arc::clone(self), Arc::clone(live), Arc::clone(&exec));
            let (stdin, keep) = (new.stdin, new.keep_stdin);
            tokio::spawn(async move {
                // Where it ends before it has read all of it, that is its own affair.
                exec.write(&stdin).await.ok();
                if !keep {
                    shared.close_input(&live, &exec).await.ok();
                }
            });
        } else if !new.stdin.is_empty() {
            let exec = Arc::clone(&exec);
            tokio::spawn(async move { exec.write(&new.stdin).await.ok() });
        }
        Ok(exec)
    }

    /// The limits of a program, by its session and its request.
    fn limits_of(&self, record: &SessionRecord, new: &NewExec, stays: bool) -> Result<Limits, SessionError> {
        let config = self.config();
        let profile = config.profiles.get(&record.profile).ok_or_else(|| {
            SessionError::Refused(format!("its profile {:?} is not configured any more", record.profile))
        })?;
        let mut usual = record.limits;
        if stays || new.terminal.is_some() {
            // Whoever sits at one is not to be thrown out by a limit that is meant for programs.
            usual.wall_time_ms = profile.maximum.wall_time_ms;
            usual.cpu_time_ms = profile.maximum.cpu_time_ms;
        }
        usual.changed(&new.limits, &profile.maximum).map_err(|error| SessionError::Invalid {
            field: format!("limits.{}", error.field),
            reason: error.to_string(),
        })
    }

    /// A number for a program, after the oldest one that has ended was forgotten where there are too many.
    fn make_room(self: &Arc<Self>, live: &Arc<Live>) -> Result<u64, SessionError> {
        let most = self.config().sessions.execs_per_session;
        let mut state = live.state();
        while state.execs.len() >= most {
            let ended = state.execs.values().find(|exec| !exec.runs() && !exec.hidden).cloned();
            let key = "sessions.execs_per_session".to_owned();
            let ended = ended.ok_or(SessionError::TooMany { what: "programs of this session", most, key })?;
            state.execs.remove(&ended.id);
            // The new one need not wait for that.
            let (shared, live) = (Arc::clone(self), Arc::clone(live));
            tokio::spawn(async move {
                if let Err(error) = shared.remove_exec(&live, &ended).await {
                    tracing::warn!(session = %live.id, exec = ended.id, "a program is not forgotten: {error}");
                }
            });
        }
        state.next_exec += 1;
        Ok(state.next_exec - 1)
    }

    /// Looks after a program while it runs: ends it where it prints too much, and takes note of what it does.
    pub(super) fn watch(self: &Arc<Self>, live: &Arc<Live>, exec: &Arc<Exec>) {
        let (shared, live, exec) = (Arc::clone(self), Arc::clone(live), Arc::clone(exec));
        tokio::spawn(async move {
            let mut over = exec.over.subscribe();
            let mut news = exec.stdout.subscribe();
            let mut errors = exec.stderr.as_ref().map(|log| log.subscribe());
            let too_much = async {
                match &exec.pumps[..] {
                    [one] => one.over().await,
                    [one, other] => tokio::select! { () = one.over() => (), () = other.over() => () },
                    _ => std::future::pending().await,
                }
            };
            let mut too_much = std::pin::pin!(too_much);
            loop {
                tokio::select! {
                    () = end(&mut over) => return,
                    () = &mut too_much => {
                        let kill = SessionRequest::Kill { exec: exec.id, cause: Cause::Output };
                        shared.ask_when_there(&live, kill).await.ok();
                        return;
                    }
                    changed = news.changed() => if changed.is_err() { return },
                    () = changed(&mut errors) => {}
                }
                exec.touch();
            }
        });
    }

    /// The launcher says that a program is over.
    pub(super) fn ended(self: &Arc<Self>, live: Arc<Live>, number: u64, ending: Result<Ending, String>) {
        let exec = {
            let mut state = live.state();
            state.changed();
            if let Some(early) = state.starting.get_mut(&number) {
                *early = Some(ending);
                return;
            }
            state.execs.get(&number).cloned()
        };
        let shared = Arc::clone(self);
        let Some(exec) = exec else {
            // Nobody was told of it, and nobody will ask.
            let forget = SessionRequest::Forget { exec: number };
            tokio::spawn(async move { shared.ask_when_there(&live, forget).await.ok() });
            return;
        };
        let ending = match ending {
            Ok(ending) => ending,
            Err(reason) => {
                tracing::error!(session = %live.id, exec = number, "a program is lost: {reason}");
                return exec.lose();
            }
        };
        tokio::spawn(async move {
            let written = postcard::to_allocvec(&ending).unwrap_or_default();
            exec.finish(ending).await;
            let record = exec.record(&live, Some(written));
            // Where it is missing it was removed, or its session was, before this.
            if let Err(error) = shared.database.update_exec(record).await
                && !matches!(error, DatabaseError::Missing(_))
            {
                tracing::warn!(session = %live.id, exec = exec.id, "the end of a program is not written down: {error}");
            }
        });
    }

    pub(super) async fn remove_exec(&self, live: &Live, exec: &Exec) -> Result<(), SessionError> {
        if exec.runs() && live.state().present {
            self.ask(live, SessionRequest::Kill { exec: exec.id, cause: Cause::Cancelled }).await?;
            // The launcher tells of its end, or goes away.
            exec.over.subscribe().wait_for(Option::is_some).await.ok();
        }
        if live.state().present {
            self.ask(live, SessionRequest::Forget { exec: exec.id }).await?;
        }
        live.state().execs.remove(&exec.id);
        Ok(self.database.remove_exec(live.id, exec.id).await?)
    }

    pub(super) async fn signal(
        self: &Arc<Self>,
        live: &Arc<Live>,
        exec: &Exec,
        signal: i32,
    ) -> Result<(), SessionError> {
        drop(self.ready(live).await?);
        if !exec.runs() {
            return Err(SessionError::Finished);
        }
        exec.touch();
        self.ask(live, SessionRequest::Signal { exec: exec.id, signal }).await.map(drop).map_err(|error| match error {
            // It has ended meanwhile.
            SessionError::Internal(_) => SessionError::Finished,
            other => other,
        })
    }

    async fn close_input(&self, live: &Live, exec: &Exec) -> Result<(), SessionError> {
        if exec.master.is_some() {
            return exec.write(&[END_OF_TRANSMISSION]).await;
        }
        *exec.input.lock().await = None;
        self.ask(live, SessionRequest::CloseInput { exec: exec.id }).await.map(drop)
    }
}

/// What keeps the output of a new program.
fn logs(purpose: ExecPurpose) -> std::io::Result<Vec<OwnedFd>> {
    let memory = || pipe::memory_file(c"codesandbox-output").map_err(|errno| std::io::Error::from(errno.errno));
    Ok(match purpose {
        ExecPurpose::Program { .. } => vec![memory()?, memory()?],
        ExecPurpose::Terminal(_) => {
            let (reader, writer) = std::io::pipe()?;
            vec![memory()?, reader.into(), writer.into()]
        }
        ExecPurpose::Worker => Vec::new(),
    })
}

/// Waits until a program has ended.
async fn end(over: &mut watch::Receiver<Option<Arc<Over>>>) {
    // An error would mean that the program is gone, and who waits holds it.
    drop(over.wait_for(Option::is_some).await);
}

/// Waits for news of the second stream; for ever where there is none.
async fn changed(news: &mut Option<watch::Receiver<super::log::Position>>) {
    match news {
        Some(news) => {
            if news.changed().await.is_err() {
                std::future::pending().await
            }
        }
        None => std::future::pending().await,
    }
}
