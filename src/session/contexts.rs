//! Contexts: interpreters of a session that keep their variables from one piece of code to the next.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::sync::mpsc;

use super::execs::Exec;
use super::follow::{Followed, Follower};
use super::kernel::{Cell, Fault, Kernel, Language, Message};
use super::live::Live;
use super::record::ContextRecord;
use super::types::{ContextState, ContextView, NewExec, SessionError};
use super::{Sessions, Shared, now_ms};
use crate::profile::LimitChanges;
use crate::runtime::KERNEL_DIRECTORY;

/// What is kept of what an interpreter says, until the daemon has read it: its largest message, twice.
pub(super) const LOG_BYTES: u64 = 32 << 20;
/// What is on the way between an interpreter and whoever speaks with it.
const PIPE_BYTES: usize = 64 << 10;
/// Messages that wait for a client that reads slowly.
const MESSAGES: usize = 64;
/// signal(7).
const SIGINT: i32 = 2;

/// An interpreter.
#[derive(Debug)]
pub(super) struct Context {
    id: u64,
    language: String,
    created_at_ms: u64,
    executions: AtomicU64,
    /// The program that it is now.
    now: Mutex<Option<Arc<Running>>>,
    /// Held while it is being started, so that it is started once.
    starting: tokio::sync::Mutex<()>,
    program: String,
}

#[derive(Debug)]
struct Running {
    exec: Arc<Exec>,
    kernel: Kernel,
    /// It may be at a piece of code that a daemon before has given it, of which nothing is known.
    inherited: AtomicBool,
}

impl Context {
    fn new(id: u64, language: &str, program: &str) -> Self {
        Self {
            id,
            language: language.to_owned(),
            created_at_ms: now_ms(),
            executions: AtomicU64::new(0),
            now: Mutex::new(None),
            starting: tokio::sync::Mutex::new(()),
            program: program.to_owned(),
        }
    }

    fn running(&self) -> Option<Arc<Running>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn become_running(&self, running: Option<Arc<Running>>) {
        self.executions.store(0, Ordering::Relaxed);
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    fn view(&self) -> ContextView {
        let state = match self.running() {
            None if self.starting.try_lock().is_err() => ContextState::Starting,
            None => ContextState::Dead,
            Some(running) if running.kernel.fault().is_some() || !running.exec.runs() => ContextState::Dead,
            Some(running) if running.kernel.is_busy() => ContextState::Busy,
            Some(_) => ContextState::Idle,
        };
        ContextView {
            id: self.id,
            language: self.language.clone(),
            state,
            executions: self.executions.load(Ordering::Relaxed),
            created_at_ms: self.created_at_ms,
        }
    }
}

impl Sessions {
    /// The contexts of a session, the oldest first.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn contexts(&self, client: &str, id: &str) -> Result<Vec<ContextView>, SessionError> {
        let live = self.shared.find(client, id)?;
        let contexts: Vec<Arc<Context>> = live.state().contexts.values().cloned().collect();
        Ok(contexts.iter().map(|context| context.view()).collect())
    }

    /// Starts an interpreter: that of this language, by the program at this path in the sandbox.
    ///
    /// # Errors
    /// [`SessionError::Invalid`] where there is no kernel of the language.
    pub async fn create_context(
        &self,
        client: &str,
        id: &str,
        language: &str,
        program: &str,
    ) -> Result<ContextView, SessionError> {
        let live = self.shared.find(client, id)?;
        if Language::of(language).is_none() {
            let reason = format!("there are no contexts of {language:?}; there are of \"python\" and \"javascript\"");
            return Err(SessionError::Invalid { field: "language".to_owned(), reason });
        }
        let most = self.shared.config().sessions.contexts_per_session;
        let context = {
            let mut state = live.state();
            if state.contexts.len() >= most {
                let key = "sessions.contexts_per_session".to_owned();
                return Err(SessionError::TooMany { what: "contexts of this session", most, key });
            }
            state.next_context += 1;
            let context = Arc::new(Context::new(state.next_context - 1, language, program));
            state.contexts.insert(context.id, Arc::clone(&context));
            context
        };
        match self.shared.running(&live, &context).await {
            Ok(_) => Ok(context.view()),
            Err(error) => {
                live.state().contexts.remove(&context.id);
                Err(error)
            }
        }
    }

    /// Ends an interpreter.
    ///
    /// # Errors
    /// [`SessionError::UnknownContext`].
    pub async fn delete_context(&self, client: &str, id: &str, context: u64) -> Result<(), SessionError> {
        let (live, context) = self.shared.find_context(client, id, context)?;
        self.shared.end(&live, &context).await?;
        live.state().contexts.remove(&context.id);
        Ok(self.shared.database.remove_context(live.id, context.id).await?)
    }

    /// Ends an interpreter and starts another in its place.
    ///
    /// # Errors
    /// [`SessionError::UnknownContext`].
    pub async fn restart_context(&self, client: &str, id: &str, context: u64) -> Result<ContextView, SessionError> {
        let (live, context) = self.shared.find_context(client, id, context)?;
        self.shared.end(&live, &context).await?;
        self.shared.running(&live, &context).await?;
        Ok(context.view())
    }

    /// Interrupts the code that runs, as Ctrl-C would.
    ///
    /// # Errors
    /// [`SessionError::UnknownContext`].
    pub async fn interrupt_context(&self, client: &str, id: &str, context: u64) -> Result<(), SessionError> {
        let (live, context) = self.shared.find_context(client, id, context)?;
        drop(self.shared.ready(&live).await?);
        let Some(running) = context.running() else { return Ok(()) };
        let inherited = running.inherited.load(Ordering::Relaxed);
        let interrupt = running.kernel.interrupt();
        // What is known to run may wait for what is not.
        let runs = if inherited { interrupt.now_or_never() == Some(true) } else { interrupt.await };
        if runs || inherited {
            self.shared.signal(&live, &running.exec, SIGINT).await?;
        }
        Ok(())
    }

    /// Has code run after that which was given before; returns what it says as it says it. The last message is
    /// [`Message::Idle`]; where there is none, the interpreter has died.
    ///
    /// # Errors
    /// [`SessionError::UnknownContext`], or too much waits already.
    pub async fn execute(
        &self,
        client: &str,
        id: &str,
        context: u64,
        code: String,
    ) -> Result<mpsc::Receiver<Message>, SessionError> {
        let (live, context) = self.shared.find_context(client, id, context)?;
        let running = self.shared.running(&live, &context).await?;
        let cell = running.kernel.execute(code).map_err(|fault| match fault {
            Fault::QueueFull => SessionError::Refused(fault.to_string()),
            Fault::Died | Fault::Broken(_) => SessionError::Lost(fault.to_string()),
        })?;
        context.executions.fetch_add(1, Ordering::Relaxed);
        live.state().changed();
        let (messages, receiver) = mpsc::channel(MESSAGES);
        tokio::spawn(pass_on(cell, messages, running, live));
        Ok(receiver)
    }
}

/// Hands on what a piece of code says. Whoever waits for it keeps the session from being idle; where nobody
/// does any more, the code goes on all the same.
async fn pass_on(mut cell: Cell, messages: mpsc::Sender<Message>, running: Arc<Running>, live: Arc<Live>) {
    running.exec.attach();
    while let Ok(message) = cell.next().await {
        let is_last = matches!(message, Message::Idle(_));
        running.exec.touch();
        running.inherited.store(false, Ordering::Relaxed);
        if messages.send(message).await.is_err() || is_last {
            break;
        }
    }
    running.exec.detach();
    live.state().changed();
}

impl Shared {
    fn find_context(&self, client: &str, id: &str, context: u64) -> Result<(Arc<Live>, Arc<Context>), SessionError> {
        let live = self.find(client, id)?;
        let context = live.state().contexts.get(&context).cloned();
        context.map(|context| (live, context)).ok_or(SessionError::UnknownContext)
    }

    /// The interpreter of a context, which is started where there is none.
    async fn running(self: &Arc<Self>, live: &Arc<Live>, context: &Context) -> Result<Arc<Running>, SessionError> {
        drop(self.ready(live).await?);
        let _starting = context.starting.lock().await;
        if let Some(running) = context.running()
            && running.kernel.fault().is_none()
            && running.exec.runs()
        {
            return Ok(running);
        }
        self.end(live, context).await?;
        let language = Language::of(&context.language).ok_or(SessionError::UnknownContext)?;
        let line = language.command(Path::new(&context.program), Path::new(KERNEL_DIRECTORY));
        let new = NewExec {
            argv: line.into_iter().map(|word| word.to_string_lossy().into_owned()).collect(),
            env: std::collections::BTreeMap::new(),
            directory: String::new(),
            stdin: Vec::new(),
            keep_stdin: true,
            limits: LimitChanges::default(),
            terminal: None,
            detached: true,
        };
        let exec = self.exec(live, new, true).await?;
        let record =
            ContextRecord { session: live.id, id: context.id, language: context.language.clone(), exec: exec.id };
        let written = self.database.insert_context(record.clone()).await;
        if written.is_err() {
            self.database.update_context(record).await?;
        }
        let running = Arc::new(speak_with(exec, 0));
        context.become_running(Some(Arc::clone(&running)));
        Ok(running)
    }

    async fn end(&self, live: &Live, context: &Context) -> Result<(), SessionError> {
        if let Some(running) = context.running() {
            context.become_running(None);
            self.remove_exec(live, &running.exec).await?;
        }
        Ok(())
    }

    /// Takes up interpreters that a daemon before has started. What they were saying is lost; their variables
    /// are not.
    pub(super) fn take_up_contexts(self: &Arc<Self>, live: &Arc<Live>, records: &[ContextRecord]) {
        for record in records {
            let mut state = live.state();
            state.next_context = state.next_context.max(record.id + 1);
            let Some(exec) = state.execs.get(&record.exec).cloned() else {
                continue;
            };
            let context = Context::new(record.id, &record.language, exec.program());
            let from = exec.stdout.next();
            context.become_running(Some(Arc::new(speak_with(exec, from))));
            state.contexts.insert(record.id, Arc::new(context));
        }
    }
}

/// Speaks with an interpreter, from the first message that begins at this place of what it says or behind it.
fn speak_with(exec: Arc<Exec>, from: u64) -> Running {
    let (input, to_write) = duplex(PIPE_BYTES);
    let (said, output) = duplex(PIPE_BYTES);
    tokio::spawn(write(Arc::clone(&exec), to_write));
    tokio::spawn(read(Arc::clone(&exec), from, said));
    Running { kernel: Kernel::start(input, output), exec, inherited: AtomicBool::new(from > 0) }
}

async fn write(exec: Arc<Exec>, mut requests: DuplexStream) {
    let mut bytes = vec![0; PIPE_BYTES];
    while let Ok(count @ 1..) = requests.read(&mut bytes).await {
        if exec.write(bytes.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

async fn read(exec: Arc<Exec>, from: u64, mut said: DuplexStream) {
    // The end of the line before tells that a message begins there, and not in the middle of another.
    let mut is_inside = from > 0;
    let mut follower = Follower::new((Arc::clone(&exec.stdout), from.saturating_sub(1)), None);
    let mut over = exec.over.subscribe();
    loop {
        let followed = match follower.ready() {
            Some(followed) => followed,
            // What it said last is there by the time that its end is told.
            None if !exec.runs() => return,
            None => tokio::select! {
                followed = follower.next() => followed,
                _ = over.changed() => continue,
            },
        };
        match followed {
            Followed::Output { bytes, .. } => {
                let mut bytes = &bytes[..];
                if is_inside {
                    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { continue };
                    is_inside = false;
                    bytes = bytes.get(end + 1..).unwrap_or_default();
                }
                if said.write_all(bytes).await.is_err() {
                    return;
                }
            }
            // Messages are missing, and nobody can tell where the next one begins.
            Followed::Gap { .. } | Followed::End => return,
        }
    }
}
