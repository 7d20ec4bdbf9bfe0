//! Records of sessions on disk: one SQLite database, and one thread that alone uses it.
//!
//! ```text
//!  directory/            mode 0700: nobody else may enter
//!    records.sqlite      mode 0600, as are its -wal and -shm
//!    lock                held while the database is open: one daemon to a directory
//! ```
//!
//! What is answered is on disk: a write is told of when its transaction is, `synchronous=FULL`
//! (<https://www.sqlite.org/pragma.html#pragma_synchronous>). Several writes that wait share one
//! transaction, as a disk can flush only so often; one that is refused takes none of the others with it.
//! Nothing is ever mended by removing it: a database that is damaged, or that a newer program wrote, is
//! left as it is, and the error says what to do.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{mpsc, oneshot};

use super::record::{ContextRecord, ExecRecord, SessionId, SessionRecord, SnapshotRecord};

mod open;
mod rows;
mod schema;
mod writer;

use writer::Request;

/// Most requests that wait for the thread; who has one more waits before it is taken.
const WAITING: usize = 256;

/// Handle of the database; clones share it. When the last is dropped, what was asked for is still done.
#[derive(Debug, Clone)]
pub struct Database {
    requests: mpsc::Sender<Request>,
    path: Arc<Path>,
}

/// One change of one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// A session is new.
    InsertSession(Box<SessionRecord>),
    /// A session is otherwise than it was.
    UpdateSession(Box<SessionRecord>),
    /// A session is gone, with everything that was in it.
    RemoveSession(SessionId),
    /// A program was started.
    InsertExec(Box<ExecRecord>),
    /// A program is otherwise than it was.
    UpdateExec(Box<ExecRecord>),
    /// A program is forgotten.
    RemoveExec(SessionId, u64),
    /// A snapshot is new.
    InsertSnapshot(SnapshotRecord),
    /// A snapshot is otherwise than it was.
    UpdateSnapshot(SnapshotRecord),
    /// A snapshot is gone.
    RemoveSnapshot(SessionId, u64),
    /// A context is new.
    InsertContext(ContextRecord),
    /// A context is otherwise than it was.
    UpdateContext(ContextRecord),
    /// A context is gone.
    RemoveContext(SessionId, u64),
}

/// Why records could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The directory or a file in it could not be made or opened.
    #[error("{path}: {doing}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What was attempted.
        doing: &'static str,
        /// Why not.
        error: std::io::Error,
    },
    /// Others could change what is in the directory.
    #[error(
        "{path}: this directory belongs to another user, or others may enter it; give it to the daemon's user and \
         have its mode be 0700",
        path = path.display()
    )]
    NotOurs {
        /// The directory.
        path: PathBuf,
    },
    /// Another process has it open.
    #[error(
        "{path}: another daemon has its sessions here; end that one, or give this one a sessions.directory of its own",
        path = path.display()
    )]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A newer program has written it.
    #[error(
        "{path}: this is of version {found}, and this program knows versions up to {known}; run the newer program \
         again, or give this one a sessions.directory of its own",
        path = path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// The newest that is known.
        known: i64,
    },
    /// It is not as SQLite or we have written it.
    #[error(
        "{path}: this file is damaged: {reason}; put a copy of it back, or move it away with those beside it whose \
         names begin with its name, which forgets all sessions; nothing was changed or removed",
        path = path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no room for it; nothing was written.
    #[error("{path}: the disk is full", path = path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// What was to be changed is not there, or what it belongs to is not.
    #[error("there is no such {0}, or no session that it is in")]
    Missing(&'static str),
    /// What was to be new is there.
    #[error("there is this {0} already")]
    Present(&'static str),
    /// SQLite refused something else.
    #[error("{path}: {error}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// It was closed.
    #[error("the records of sessions are closed")]
    Closed,
}

impl DatabaseError {
    /// What SQLite's refusal means for this file.
    fn of(path: &Path, error: rusqlite::Error) -> Self {
        let path = path.to_owned();
        match &error {
            rusqlite::Error::SqliteFailure(failure, _) => match failure.code {
                ErrorCode::DiskFull => Self::Full { path },
                ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase => {
                    Self::Damaged { path, reason: error.to_string() }
                }
                _ => Self::Sqlite { path, error },
            },
            // A value that we would not have written.
            rusqlite::Error::FromSqlConversionFailure(..)
            | rusqlite::Error::IntegralValueOutOfRange(..)
            | rusqlite::Error::InvalidColumnType(..) => Self::Damaged { path, reason: error.to_string() },
            _ => Self::Sqlite { path, error },
        }
    }
}

impl Database {
    /// Opens the records in a directory, makes both where they are missing, and brings records of an
    /// older program to the form of this one. Blocks.
    ///
    /// # Errors
    /// Others may enter the directory, or another process has it open; the records are damaged or of a
    /// newer program; the system refuses something.
    pub fn open(directory: &Path) -> Result<Self, DatabaseError> {
        let (connection, path, lock) = open::on_disk(directory)?;
        Self::start(connection, path, Some(lock))
    }

    /// Records that are gone with the process.
    ///
    /// # Errors
    /// SQLite or the system refuses something.
    pub fn open_in_memory() -> Result<Self, DatabaseError> {
        let (connection, path) = open::in_memory()?;
        Self::start(connection, path, None)
    }

    fn start(connection: Connection, path: PathBuf, lock: Option<open::Lock>) -> Result<Self, DatabaseError> {
        let path: Arc<Path> = path.into();
        let (requests, receiver) = mpsc::channel(WAITING);
        let writer = writer::Writer::new(connection, Arc::clone(&path), lock);
        let spawned = std::thread::Builder::new().name("records".to_owned()).spawn(move || writer.run(receiver));
        spawned.map_err(|error| DatabaseError::File {
            path: path.to_path_buf(),
            doing: "starting its thread",
            error,
        })?;
        Ok(Self { requests, path })
    }

    /// Waits until everything that was asked for is on disk, and gives the directory free. Other handles
    /// are of no use after that.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.requests.send(Request::Close(done)).await.is_ok() {
            closed.await.ok();
        }
    }

    /// Writes all of these, in their order, or none; answers when they are on disk. A caller that
    /// gives up waiting does not take back what it asked for, once there was room for it to wait.
    ///
    /// # Errors
    /// The first that can't be: what is to be new is there, what is to be changed is not, the disk is full.
    /// Removing what is not there is no error.
    pub async fn write(&self, writes: Vec<Write>) -> Result<(), DatabaseError> {
        let (done, written) = oneshot::channel();
        let sent = self.requests.send(Request::Write { writes, done }).await;
        sent.map_err(|_| DatabaseError::Closed)?;
        written.await.unwrap_or(Err(DatabaseError::Closed))
    }

    /// Adds a session.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn insert_session(&self, record: SessionRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::InsertSession(Box::new(record))]).await
    }

    /// Changes a session.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn update_session(&self, record: SessionRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::UpdateSession(Box::new(record))]).await
    }

    /// Removes a session, with its programs, snapshots and contexts.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn remove_session(&self, id: SessionId) -> Result<(), DatabaseError> {
        self.write(vec![Write::RemoveSession(id)]).await
    }

    /// Adds a program.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn insert_exec(&self, record: ExecRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::InsertExec(Box::new(record))]).await
    }

    /// Changes a program: it has ended.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn update_exec(&self, record: ExecRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::UpdateExec(Box::new(record))]).await
    }

    /// Forgets a program.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn remove_exec(&self, session: SessionId, id: u64) -> Result<(), DatabaseError> {
        self.write(vec![Write::RemoveExec(session, id)]).await
    }

    /// Adds a snapshot.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn insert_snapshot(&self, record: SnapshotRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::InsertSnapshot(record)]).await
    }

    /// Changes a snapshot.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn update_snapshot(&self, record: SnapshotRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::UpdateSnapshot(record)]).await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn remove_snapshot(&self, session: SessionId, id: u64) -> Result<(), DatabaseError> {
        self.write(vec![Write::RemoveSnapshot(session, id)]).await
    }

    /// Adds a context.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn insert_context(&self, record: ContextRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::InsertContext(record)]).await
    }

    /// Changes a context: it is another program now.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn update_context(&self, record: ContextRecord) -> Result<(), DatabaseError> {
        self.write(vec![Write::UpdateContext(record)]).await
    }

    /// Removes a context.
    ///
    /// # Errors
    /// As [`Database::write`].
    pub async fn remove_context(&self, session: SessionId, id: u64) -> Result<(), DatabaseError> {
        self.write(vec![Write::RemoveContext(session, id)]).await
    }

    /// All sessions, the oldest first.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn sessions(&self) -> Result<Vec<SessionRecord>, DatabaseError> {
        self.read(rows::sessions).await
    }

    /// Programs of a session, by number.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn execs(&self, session: SessionId) -> Result<Vec<ExecRecord>, DatabaseError> {
        self.read(move |connection| rows::execs(connection, session)).await
    }

    /// Snapshots of a session, by number.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn snapshots(&self, session: SessionId) -> Result<Vec<SnapshotRecord>, DatabaseError> {
        self.read(move |connection| rows::snapshots(connection, session)).await
    }

    /// Contexts of a session, by number.
    ///
    /// # Errors
    /// They can't be read.
    pub async fn contexts(&self, session: SessionId) -> Result<Vec<ContextRecord>, DatabaseError> {
        self.read(move |connection| rows::contexts(connection, session)).await
    }

    /// What a look at the database gives, after everything that was asked for before.
    async fn read<T, F>(&self, look: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    {
        let (done, seen) = oneshot::channel();
        let look = move |connection: &Connection| {
            // Who asked may have gone.
            done.send(look(connection)).ok();
        };
        self.requests.send(Request::Read(Box::new(look))).await.map_err(|_| DatabaseError::Closed)?;
        let seen = seen.await.map_err(|_| DatabaseError::Closed)?;
        seen.map_err(|error| DatabaseError::of(&self.path, error))
    }
}

#[cfg(test)]
mod tests;
