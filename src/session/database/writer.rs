//! The thread that alone uses the database.

use std::path::Path;
use std::sync::Arc;

use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};

use super::{DatabaseError, Write, open, rows};

/// Most requests that share a transaction: the first of them waits for the last.
const TOGETHER: usize = 64;

/// Who asked for something to be written.
pub(super) type Done = oneshot::Sender<Result<(), DatabaseError>>;

/// What the thread is asked to do.
pub(super) enum Request {
    /// Write all of these, or none.
    Write { writes: Vec<Write>, done: Done },
    /// Look at what is written.
    Read(Box<dyn FnOnce(&Connection) + Send>),
    /// Do nothing more.
    Close(oneshot::Sender<()>),
}

pub(super) struct Writer {
    connection: Connection,
    path: Arc<Path>,
    /// Dropped after the connection: until then the directory is ours.
    lock: Option<open::Lock>,
    /// Whether what is written is flushed at once, as it was last set.
    flushes: Option<bool>,
}

impl Writer {
    pub(super) fn new(connection: Connection, path: Arc<Path>, lock: Option<open::Lock>) -> Self {
        Self { connection, path, lock, flushes: None }
    }

    /// Does what it is asked, in order, until it is closed or nobody can ask any more.
    pub(super) fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut next = requests.blocking_recv();
        while let Some(request) = next.take() {
            match request {
                Request::Write { writes, done } => {
                    let mut group = vec![(writes, done)];
                    while group.len() < TOGETHER && next.is_none() {
                        match requests.try_recv() {
                            Ok(Request::Write { writes, done }) => group.push((writes, done)),
                            Ok(other) => next = Some(other),
                            Err(_) => break,
                        }
                    }
                    self.write(group);
                }
                Request::Read(look) => look(&self.connection),
                Request::Close(closed) => {
                    let Self { connection, path: _, lock, flushes: _ } = self;
                    // What was written is on disk whatever becomes of this.
                    drop(connection);
                    drop(lock);
                    // Who closed it may have gone.
                    closed.send(()).ok();
                    return;
                }
            }
            next = next.or_else(|| requests.blocking_recv());
        }
    }

    /// Writes each request's writes, and tells each what became of them.
    fn write(&mut self, group: Vec<(Vec<Write>, Done)>) {
        // What outlives a loss of power is flushed before it is answered, with all that was written before
        // it. The rest is gone with the sandboxes that it is about, and need only survive the daemon.
        let outlives = group.iter().flat_map(|(writes, _)| writes).any(outlives_the_host);
        if self.flushes != Some(outlives) {
            let mode = if outlives { "FULL" } else { "NORMAL" };
            match self.connection.pragma_update(None, "synchronous", mode) {
                Ok(()) => self.flushes = Some(outlives),
                Err(error) => tracing::error!("the records may not outlive a loss of power: {error}"),
            }
        }
        let answers = match self.together(group.iter().map(|(writes, _)| writes.as_slice())) {
            Ok(answers) => answers,
            Err(error) if group.len() == 1 => vec![Err(error)],
            // None of them is written; which one is at fault, if any, shows when each is by itself.
            Err(_) => group.iter().map(|(writes, _)| self.alone(writes)).collect(),
        };
        for ((_, done), answer) in group.into_iter().zip(answers) {
            // Who asked may have gone.
            done.send(answer).ok();
        }
    }

    fn alone(&mut self, writes: &[Write]) -> Result<(), DatabaseError> {
        self.together([writes].into_iter()).and_then(|answers| answers.into_iter().collect())
    }

    /// Writes in one transaction, from which what is refused is left out. An error means that nothing is
    /// written.
    fn together<'a>(
        &mut self,
        group: impl Iterator<Item = &'a [Write]>,
    ) -> Result<Vec<Result<(), DatabaseError>>, DatabaseError> {
        let path = Arc::clone(&self.path);
        let told = |error| DatabaseError::of(&path, error);
        // At once for writing, so that nothing has to be done again that was done for nothing.
        let mut transaction =
            self.connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(told)?;
        let mut answers = Vec::new();
        for writes in group {
            let mut savepoint = transaction.savepoint().map_err(told)?;
            let written = writes.iter().try_for_each(|write| rows::write(&savepoint, write, &path));
            match &written {
                Ok(()) => savepoint.commit().map_err(told)?,
                // SQLite itself has taken back the whole transaction, as it does where the disk is full.
                Err(_) if savepoint.is_autocommit() => return written.map(|()| Vec::new()),
                Err(_) => savepoint.rollback().map_err(told)?,
            }
            answers.push(written);
        }
        transaction.commit().map_err(told)?;
        Ok(answers)
    }
}

/// Whether this is about a session whose files are kept on disk.
fn outlives_the_host(write: &Write) -> bool {
    matches!(write, Write::InsertSession(record) | Write::UpdateSession(record) if record.persistent)
}
