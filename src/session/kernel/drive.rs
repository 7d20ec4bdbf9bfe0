//! The task that stands between callers and a kernel: hands it one cell after another, and reads
//! all that it says, also between the cells, so that it never waits for somebody to listen.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncBufRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use uuid::Uuid;

use super::line::{self, LINE_BYTES, Lines, Reply, Said, State};
use super::{Ended, Fault, Message};

/// A cell that waits for its turn.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) code: String,
    pub(super) messages: mpsc::UnboundedSender<InFlight>,
    /// Bytes that may be on their way to whoever reads the messages.
    pub(super) room: Arc<Semaphore>,
}

/// A message that was not read yet, and the room that it takes.
#[derive(Debug)]
pub(super) struct InFlight {
    pub(super) message: Message,
    pub(super) bytes: usize,
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// What the kernel does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Phase {
    Idle,
    /// It was sent a cell, and has not begun with it.
    Sent,
    Busy(Uuid),
    Gone(Fault),
}

/// The driver's part of a kernel.
#[derive(Debug)]
pub(super) struct Driver<R> {
    pub(super) lines: Lines<R>,
    pub(super) requests: mpsc::Sender<Vec<u8>>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) interrupted: Arc<AtomicBool>,
    pub(super) count: u64,
}

impl<R: AsyncBufRead + Unpin> Driver<R> {
    /// Until nobody wants anything from the kernel any more, or it is no use.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Waiting>) {
        let fault = loop {
            let waiting = tokio::select! {
                waiting = queue.recv() => waiting,
                line = self.lines.next() => match line {
                    // A thread that a cell has left behind.
                    Ok(Some(_)) => continue,
                    Ok(None) => break Fault::Died,
                    Err(error) => break Fault::Broken(error.to_string()),
                },
            };
            let Some(waiting) = waiting else { break Fault::Died };
            if let Err(fault) = self.cell(waiting).await {
                break fault;
            }
        };
        // Before the queue is closed: whoever finds it closed looks here for the reason.
        self.phase.send_replace(Phase::Gone(fault));
    }

    async fn cell(&mut self, waiting: Waiting) -> Result<(), Fault> {
        let id = Uuid::new_v4();
        self.count += 1;
        self.interrupted.store(false, Ordering::SeqCst);
        self.phase.send_replace(Phase::Sent);
        let result = self.messages(id, &waiting).await;
        if let Err(fault) = &result {
            // Before `waiting` is dropped, for the same reason.
            self.phase.send_replace(Phase::Gone(fault.clone()));
        }
        result
    }

    async fn messages(&mut self, id: Uuid, waiting: &Waiting) -> Result<(), Fault> {
        let request = line::request(id, &waiting.code, self.count);
        self.requests.send(request).await.map_err(|_| Fault::Died)?;
        let mut replied = None;
        loop {
            let line = match self.lines.next().await {
                Ok(Some(line)) => line,
                Ok(None) => return Err(Fault::Died),
                Err(line::LineError::Io(_) | line::LineError::Unfinished) => return Err(Fault::Died),
                Err(error) => return Err(Fault::Broken(error.to_string())),
            };
            let bytes = line.len();
            let said = line::read(line, id).map_err(|error| Fault::Broken(format!("a malformed message: {error}")))?;
            match said {
                None => {}
                Some(Said::Status { execution_state: State::Busy }) => {
                    self.phase.send_replace(Phase::Busy(id));
                }
                Some(Said::ExecuteReply { status }) => replied = Some(status),
                Some(Said::Status { execution_state: State::Idle }) => {
                    let status = replied.ok_or_else(|| Fault::Broken("a cell ended without a reply".to_owned()))?;
                    // Idle first: who has read the end of a cell can't interrupt it any more.
                    self.phase.send_replace(Phase::Idle);
                    let interrupted = self.interrupted.load(Ordering::SeqCst) && status == Reply::Error;
                    let ended = Ended { ok: status == Reply::Ok, interrupted, execution_count: self.count };
                    waiting.messages.send(InFlight { message: Message::Idle(ended), bytes: 0, room: None }).ok();
                    return Ok(());
                }
                Some(said) => {
                    let Some(output) = said.output(self.count) else { continue };
                    let permits = u32::try_from(bytes.min(LINE_BYTES)).expect("the limit is less than 4 GiB");
                    // Closed when nobody reads: the cell goes on, and what it says is dropped.
                    if let Ok(room) = waiting.room.clone().acquire_many_owned(permits).await {
                        let message = InFlight { message: Message::Output(output), bytes, room: Some(room) };
                        waiting.messages.send(message).ok();
                    }
                }
            }
        }
    }
}

/// Writes requests; apart from the reading, because a kernel may have to be heard before it reads.
pub(super) async fn write<W: AsyncWrite + Unpin>(mut writer: W, mut requests: mpsc::Receiver<Vec<u8>>) {
    while let Some(request) = requests.recv().await {
        if writer.write_all(&request).await.is_err() || writer.flush().await.is_err() {
            // It reads no more, so it is about to end, which the other side tells.
            return;
        }
    }
}
