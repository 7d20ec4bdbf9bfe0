//! Stateful kernels: a program in the session that runs one cell of code after another in one state,
//! as notebooks have it. What is said about a cell follows the conventions of Jupyter's messages.
//!
//! A kernel is an exec like any other: its standard input takes requests, its standard output gives
//! messages; see `profiles/kernels/README.md`. To interrupt it is to send it SIGINT, which the owner
//! of the exec does; to restart it is to end the exec and start another.

mod drive;
mod line;
mod outcome;

use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{Semaphore, mpsc, watch};

use drive::{Driver, InFlight, Phase, Waiting};
use line::{LINE_BYTES, Lines};

pub use outcome::{KernelOutcome, Status};

/// How many cells may wait for their turn.
const QUEUE: usize = 16;
/// How much is read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A language that there is a kernel of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// Python, 3.8 and later.
    Python,
    /// Node.js, 16 and later.
    Node,
}

impl Language {
    /// The kernel of a language of `profiles/languages/`, where there is one.
    #[must_use]
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "python" => Some(Self::Python),
            "javascript" => Some(Self::Node),
            _ => None,
        }
    }

    /// The command line of its kernel: `program` is the interpreter, and `directory` where the kernels
    /// are, [`crate::runtime::KERNEL_DIRECTORY`] in a sandbox.
    #[must_use]
    pub fn command(self, program: &Path, directory: &Path) -> Vec<OsString> {
        match self {
            Self::Python => vec![program.into(), directory.join("python.py").into()],
            Self::Node => {
                // `import()` in a text on the command line looks for modules in the current directory,
                // and that of a file would do so beside the file.
                let file = serde_json::Value::from(directory.join("node.cjs").to_string_lossy());
                vec![program.into(), "-e".into(), format!("require({file})((code) => eval(code))").into()]
            }
        }
    }
}

/// Which of its two streams something was printed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StreamName {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The forms of a value by MIME type, or what is said about them: base64 where a form is binary.
pub type Forms = serde_json::Map<String, serde_json::Value>;

/// What a cell put out, in the form of notebooks (nbformat 4).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "output_type", rename_all = "snake_case")]
pub enum Output {
    /// It printed something, or a program did that it started.
    Stream {
        /// Where to.
        name: StreamName,
        /// What.
        text: String,
    },
    /// It showed a value.
    DisplayData {
        /// The value's forms.
        data: Forms,
        /// What is said about them.
        metadata: Forms,
    },
    /// The value of its last expression.
    ExecuteResult {
        /// The value's forms.
        data: Forms,
        /// What is said about them.
        metadata: Forms,
        /// Number of the cell, from 1.
        execution_count: u64,
    },
    /// It failed.
    Error {
        /// Name of the error's class.
        ename: String,
        /// What the error says.
        evalue: String,
        /// Lines for people.
        traceback: Vec<String>,
    },
}

/// How a cell ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// Whether without an error.
    pub ok: bool,
    /// Whether the error is that of an interrupt.
    pub interrupted: bool,
    /// Number of the cell, from 1.
    pub execution_count: u64,
}

/// What happens while a cell runs.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// It put something out.
    Output(Output),
    /// It has ended, and nothing more comes of it.
    Idle(Ended),
}

/// Why a kernel could not do what was asked. After each but the first it must be restarted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Too many cells wait already.
    #[error("{QUEUE} cells wait for the kernel already")]
    QueueFull,
    /// It has ended.
    #[error("the kernel has died")]
    Died,
    /// It said something that makes no sense.
    #[error("the kernel is broken: {0}")]
    Broken(String),
}

/// A kernel that runs. When this is dropped and the cells asked for are done, its standard input is
/// closed, at which it ends.
#[derive(Debug)]
pub struct Kernel {
    queue: mpsc::Sender<Waiting>,
    requests: mpsc::Sender<Vec<u8>>,
    phase: watch::Receiver<Phase>,
    interrupted: Arc<AtomicBool>,
}

impl Kernel {
    /// Speaks with a kernel over the streams of its exec. Needs a tokio runtime.
    pub fn start<W, R>(stdin: W, stdout: R) -> Self
    where
        W: AsyncWrite + Unpin + Send + 'static,
        R: AsyncRead + Unpin + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (requests, lines) = mpsc::channel(QUEUE);
        let (phase_sender, phase) = watch::channel(Phase::Idle);
        let interrupted = Arc::new(AtomicBool::new(false));
        let driver = Driver {
            lines: Lines::new(BufReader::with_capacity(CHUNK_BYTES, stdout)),
            requests: requests.clone(),
            phase: phase_sender,
            interrupted: interrupted.clone(),
            count: 0,
        };
        tokio::spawn(async move {
            tokio::select! {
                () = driver.run(waiting) => {}
                // Ends only with the kernel, which the driver hears of.
                () = async { drive::write(stdin, lines).await; std::future::pending().await } => {}
            }
        });
        Self { queue, requests, phase, interrupted }
    }

    /// Has a cell run after those that were asked for before.
    ///
    /// # Errors
    /// Every [`Fault`].
    pub fn execute(&self, code: impl Into<String>) -> Result<Cell, Fault> {
        let (messages, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(LINE_BYTES));
        let waiting = Waiting { code: code.into(), messages, room: room.clone() };
        self.queue.try_send(waiting).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => Fault::QueueFull,
            mpsc::error::TrySendError::Closed(_) => self.fault().unwrap_or(Fault::Died),
        })?;
        Ok(Cell { messages: receiver, room, phase: self.phase.clone() })
    }

    /// Makes ready for an interrupt of the cell that runs, and says whether there is one: then the
    /// caller sends SIGINT to the exec. A cell that the kernel has not begun with is waited for: a
    /// signal would find an interpreter that is still starting, and kill it.
    pub async fn interrupt(&self) -> bool {
        let mut phase = self.phase.clone();
        let Ok(phase) = phase.wait_for(|phase| *phase != Phase::Sent).await else { return false };
        let Phase::Busy(id) = *phase else { return false };
        self.interrupted.store(true, Ordering::SeqCst);
        // Where the queue is full the signal alone must do.
        self.requests.try_send(line::interrupt(id)).ok();
        true
    }

    /// Why it must be restarted, if it must.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        fault(&self.phase)
    }

    /// Whether a cell runs.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        matches!(*self.phase.borrow(), Phase::Sent | Phase::Busy(_))
    }
}

fn fault(phase: &watch::Receiver<Phase>) -> Option<Fault> {
    match &*phase.borrow() {
        Phase::Gone(fault) => Some(fault.clone()),
        Phase::Idle | Phase::Sent | Phase::Busy(_) => None,
    }
}

/// A cell that waits or runs. When this is dropped the cell runs on, and what it says is dropped.
#[derive(Debug)]
pub struct Cell {
    messages: mpsc::UnboundedReceiver<InFlight>,
    room: Arc<Semaphore>,
    phase: watch::Receiver<Phase>,
}

impl Cell {
    /// What happens next; [`Message::Idle`] is the last.
    ///
    /// # Errors
    /// [`Fault::Died`], [`Fault::Broken`]: the cell will not end any more.
    pub async fn next(&mut self) -> Result<Message, Fault> {
        self.next_sized().await.map(|(message, _)| message)
    }

    /// The same, with the number of bytes that it took to say it.
    async fn next_sized(&mut self) -> Result<(Message, usize), Fault> {
        let next = self.messages.recv().await;
        let InFlight { message, bytes, room } = next.ok_or_else(|| fault(&self.phase).unwrap_or(Fault::Died))?;
        drop(room);
        Ok((message, bytes))
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        // The driver may wait for room, which nobody would make any more.
        self.room.close();
    }
}
