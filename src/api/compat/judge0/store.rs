//! Submissions on disk: one SQLite database, and one thread that alone uses it.
//!
//! What is over is written before it is answered, and outlives the daemon; a loss of power may take the last of it. What waited or ran when the daemon ended is not run again: it may
//! have been what ended the daemon. It is over then, with an internal error that says so.

use std::fs::{DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use rusqlite_migration::{M, Migrations};
use tokio::sync::{mpsc, oneshot};

use super::record::{Details, Status, Submission, Texts};
use super::render::Fields;

/// Name of the database in its directory.
const FILE: &str = "submissions.sqlite";
/// Name of the file that is locked while it is open.
const LOCK: &str = "lock";
/// Most requests that wait for the thread; who has one more waits before it is taken.
const WAITING: usize = 64;
/// How long somebody who looks at the database with another program may hold it up.
const BUSY: Duration = Duration::from_secs(5);
/// What is told of a submission that was not over when the daemon ended.
const INTERRUPTED: &str = "the service ended before this submission was over; submit it again";

/// Steps from nothing to the newest form. One that was released is never changed.
const STEPS: &[M<'static>] = &[M::up(
    "CREATE TABLE submissions (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        token TEXT NOT NULL UNIQUE,
        language_id INTEGER NOT NULL,
        status_id INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        finished_at INTEGER,
        bytes INTEGER NOT NULL,
        details TEXT NOT NULL,
        source_code BLOB,
        stdin BLOB,
        expected_output BLOB,
        additional_files BLOB,
        stdout BLOB,
        stderr BLOB,
        compile_output BLOB
    ) STRICT;
    CREATE INDEX submissions_finished_at ON submissions (finished_at, bytes);",
)];

/// How much is kept of what is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Keep {
    /// Submissions.
    pub(super) submissions: u64,
    /// Their bytes.
    pub(super) bytes: u64,
    /// How long, in milliseconds.
    pub(super) time_ms: u64,
}

/// Why submissions can't be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory or a file in it could not be made or opened.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
    /// Others could change what is in the directory.
    #[error("{0}: this directory belongs to another user, or others may enter it; its mode must be 0700")]
    NotOurs(PathBuf),
    /// Another process has it open.
    #[error("{0}: another daemon has its submissions here; give this one a judge0.directory of its own")]
    InUse(PathBuf),
    /// SQLite refused something.
    #[error("{path}: {error}", path = path.display())]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite::Error,
    },
    /// It is of a newer program, or none of ours.
    #[error("{path}: {error}", path = path.display())]
    Form {
        /// The file.
        path: PathBuf,
        /// Why.
        error: rusqlite_migration::Error,
    },
    /// Its thread has ended.
    #[error("submissions are not kept any more")]
    Closed,
}

type Request = Box<dyn FnOnce(&mut Connection) + Send>;

/// Handle of the database; clones share it.
#[derive(Debug, Clone)]
pub(super) struct Store {
    requests: mpsc::Sender<Request>,
    path: PathBuf,
}

/// How many submissions there are, for statistics.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// All.
    pub(super) total: u64,
    /// By language.
    pub(super) languages: Vec<(u64, u64)>,
    /// By status.
    pub(super) statuses: Vec<(i64, u64)>,
    /// By day since 1970.
    pub(super) days: Vec<(u64, u64)>,
    /// Size of the database.
    pub(super) bytes: u64,
}

impl Store {
    /// Opens the submissions of a directory, or some that are gone with the process. Blocks.
    pub(super) fn open(directory: Option<&Path>) -> Result<Self, StoreError> {
        let (mut connection, path, lock) = match directory {
            Some(directory) => on_disk(directory)?,
            None => {
                let path = PathBuf::from(":memory:");
                let told = |error| StoreError::Sqlite { path: path.clone(), error };
                (Connection::open_in_memory().map_err(told)?, path, None)
            }
        };
        prepare(&mut connection, &path)?;
        let (requests, mut receiver) = mpsc::channel::<Request>(WAITING);
        let run = move || {
            while let Some(request) = receiver.blocking_recv() {
                request(&mut connection);
            }
            // The directory is another's only when the database is closed.
            drop(connection);
            drop(lock);
        };
        std::thread::Builder::new()
            .name("submissions".to_owned())
            .spawn(run)
            .map_err(|error| StoreError::File { path: path.clone(), error })?;
        Ok(Self { requests, path })
    }

    /// Ends what an earlier daemon has left, and gives it back.
    pub(super) async fn interrupt(&self, now: u64) -> Result<Vec<Submission>, StoreError> {
        self.change(move |transaction| {
            let all = Fields::default();
            let mut left: Vec<Submission> = {
                let text = format!("SELECT {} FROM submissions WHERE status_id IN (1, 2)", columns(&all));
                let mut statement = transaction.prepare(&text)?;
                statement.query_map([], submission_of)?.collect::<Result<_, _>>()?
            };
            for submission in &mut left {
                submission.status = Status::Internal;
                submission.finished_at = Some(now);
                submission.details.updated_at = Some(now);
                submission.details.result.message = Some(INTERRUPTED.to_owned());
                transaction.execute(
                    "UPDATE submissions SET status_id = ?2, finished_at = ?3, details = ?4 WHERE token = ?1",
                    params![submission.token, submission.status.id(), now.cast_signed(), json(&submission.details)],
                )?;
            }
            Ok(left)
        })
        .await
    }

    /// Adds submissions, all or none.
    pub(super) async fn insert(&self, submissions: Vec<Submission>) -> Result<(), StoreError> {
        self.change(move |transaction| {
            for submission in &submissions {
                let [source, stdin, expected, files, stdout, stderr, compile] = submission.texts.as_array();
                transaction.execute(
                    "INSERT INTO submissions (token, language_id, status_id, created_at, finished_at, bytes, details,
                     source_code, stdin, expected_output, additional_files, stdout, stderr, compile_output)
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
                    params![
                        submission.token,
                        submission.language_id.cast_signed(),
                        submission.status.id(),
                        submission.created_at.cast_signed(),
                        submission.finished_at.map(u64::cast_signed),
                        submission.texts.bytes().cast_signed(),
                        json(&submission.details),
                        source,
                        stdin,
                        expected,
                        files,
                        stdout,
                        stderr,
                        compile
                    ],
                )?;
            }
            Ok(())
        })
        .await
    }

    /// Writes down where a submission stands and what it has printed; what was sent stays, and need not be there.
    /// `bytes` are those of all its texts. Of what is over, no more is kept than may be.
    pub(super) async fn update(&self, submission: Submission, bytes: u64, keep: Keep) -> Result<(), StoreError> {
        self.change(move |transaction| {
            transaction.execute(
                "UPDATE submissions SET status_id = ?2, finished_at = ?3, details = ?4, bytes = ?5,
                 stdout = ?6, stderr = ?7, compile_output = ?8 WHERE token = ?1",
                params![
                    submission.token,
                    submission.status.id(),
                    submission.finished_at.map(u64::cast_signed),
                    json(&submission.details),
                    bytes.cast_signed(),
                    submission.texts.stdout,
                    submission.texts.stderr,
                    submission.texts.compile_output
                ],
            )?;
            match submission.finished_at {
                Some(now) => forget(transaction, now, keep),
                None => Ok(()),
            }
        })
        .await
    }

    /// Those of these tokens that there are. Texts that are not wanted are absent.
    pub(super) async fn find(
        &self,
        tokens: Vec<String>,
        fields: Fields,
        most_bytes: u64,
    ) -> Result<Option<Vec<Option<Submission>>>, StoreError> {
        self.change(move |transaction| {
            let mut statement =
                transaction.prepare(&format!("SELECT {} FROM submissions WHERE token = ?1", columns(&fields)))?;
            let (mut found, mut bytes) = (Vec::with_capacity(tokens.len()), 0);
            for token in &tokens {
                let submission = statement.query_row([token], submission_of).optional()?;
                bytes += submission.as_ref().map_or(0, |submission| submission.texts.bytes());
                if bytes > most_bytes {
                    return Ok(None);
                }
                found.push(submission);
            }
            Ok(Some(found))
        })
        .await
    }

    /// A page of all, the newest first, and how many there are in all.
    pub(super) async fn page(
        &self,
        offset: u64,
        count: u64,
        fields: Fields,
        most_bytes: u64,
    ) -> Result<Option<(Vec<Submission>, u64)>, StoreError> {
        self.change(move |transaction| {
            let total: i64 = transaction.query_row("SELECT count(*) FROM submissions", [], |row| row.get(0))?;
            let mut statement = transaction.prepare(&format!(
                "SELECT {} FROM submissions ORDER BY id DESC LIMIT ?1 OFFSET ?2",
                columns(&fields)
            ))?;
            let offset = i64::try_from(offset).unwrap_or(i64::MAX);
            let mut rows = statement.query(params![count.cast_signed(), offset])?;
            let (mut found, mut bytes) = (Vec::new(), 0);
            while let Some(row) = rows.next()? {
                let submission = submission_of(row)?;
                bytes += submission.texts.bytes();
                if bytes > most_bytes {
                    return Ok(None);
                }
                found.push(submission);
            }
            Ok(Some((found, total.cast_unsigned())))
        })
        .await
    }

    /// Forgets a submission that is over; whether there was one.
    pub(super) async fn remove(&self, token: String) -> Result<bool, StoreError> {
        self.change(move |transaction| {
            let removed =
                transaction.execute("DELETE FROM submissions WHERE token = ?1 AND finished_at IS NOT NULL", [token])?;
            Ok(removed > 0)
        })
        .await
    }

    /// How many there are.
    pub(super) async fn counts(&self) -> Result<Counts, StoreError> {
        self.change(|transaction| {
            let pairs = |text: &str| -> rusqlite::Result<Vec<(i64, i64)>> {
                transaction.prepare(text)?.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect()
            };
            let unsigned = |pairs: Vec<(i64, i64)>| -> Vec<(u64, u64)> {
                pairs.into_iter().map(|(key, count)| (key.cast_unsigned(), count.cast_unsigned())).collect()
            };
            let statuses =
                pairs("SELECT status_id, count(*) AS n FROM submissions GROUP BY status_id ORDER BY n DESC, status_id")?;
            let number = |text: &str| transaction.query_row(text, [], |row| row.get::<_, i64>(0));
            Ok(Counts {
                total: number("SELECT count(*) FROM submissions")?.cast_unsigned(),
                languages: unsigned(pairs(
                    "SELECT language_id, count(*) AS n FROM submissions GROUP BY language_id ORDER BY n DESC, language_id",
                )?),
                statuses: statuses.into_iter().map(|(id, count)| (id, count.cast_unsigned())).collect(),
                days: unsigned(pairs(
                    "SELECT created_at / 86400000 AS day, count(*) FROM submissions GROUP BY day ORDER BY day DESC LIMIT 31",
                )?),
                bytes: number("SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()")?
                    .cast_unsigned(),
            })
        })
        .await
    }

    /// What a piece of work in a transaction of its own gives, after everything that was asked for before.
    async fn change<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Transaction<'_>) -> rusqlite::Result<T> + Send + 'static,
    {
        let (done, answer) = oneshot::channel();
        let request = move |connection: &mut Connection| {
            let result = connection.transaction().and_then(|transaction| {
                let value = work(&transaction)?;
                transaction.commit()?;
                Ok(value)
            });
            // Who asked may have gone.
            done.send(result).ok();
        };
        self.requests.send(Box::new(request)).await.map_err(|_| StoreError::Closed)?;
        let result = answer.await.map_err(|_| StoreError::Closed)?;
        result.map_err(|error| StoreError::Sqlite { path: self.path.clone(), error })
    }
}

/// Forgets what is over and too old, and the oldest of what is too much.
fn forget(transaction: &Transaction<'_>, now: u64, keep: Keep) -> rusqlite::Result<()> {
    let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
    transaction.execute(
        "DELETE FROM submissions WHERE finished_at IS NOT NULL AND finished_at < ?1",
        [signed(now.saturating_sub(keep.time_ms))],
    )?;
    let over = "SELECT count(*), coalesce(sum(bytes), 0) FROM submissions WHERE finished_at IS NOT NULL";
    let (mut count, mut bytes): (i64, i64) = transaction.query_row(over, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut oldest = transaction
        .prepare("SELECT id, bytes FROM submissions WHERE finished_at IS NOT NULL ORDER BY finished_at, id")?;
    let mut rows = oldest.query([])?;
    let mut gone: Vec<i64> = Vec::new();
    // The last one, which has just ended, somebody waits for.
    while (count > signed(keep.submissions) || bytes > signed(keep.bytes)) && count > 1 {
        let Some(row) = rows.next()? else { break };
        gone.push(row.get(0)?);
        (count, bytes) = (count - 1, bytes - row.get::<_, i64>(1)?);
    }
    gone.iter().try_for_each(|id| transaction.execute("DELETE FROM submissions WHERE id = ?1", [id]).map(drop))
}

/// The columns of a submission, in place of texts that are not wanted nothing.
fn columns(fields: &Fields) -> String {
    let mut columns = "token, language_id, status_id, created_at, finished_at, details".to_owned();
    for name in Texts::NAMES {
        columns.push_str(", ");
        columns.push_str(if fields.has(name) { name } else { "NULL" });
    }
    columns
}

fn submission_of(row: &Row<'_>) -> rusqlite::Result<Submission> {
    let damaged = |column: usize, why: &'static str| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, why.into())
    };
    let details: String = row.get(5)?;
    Ok(Submission {
        token: row.get(0)?,
        language_id: row.get::<_, i64>(1)?.cast_unsigned(),
        status: Status::of(row.get(2)?).ok_or_else(|| damaged(2, "no status"))?,
        created_at: row.get::<_, i64>(3)?.cast_unsigned(),
        finished_at: row.get::<_, Option<i64>>(4)?.map(i64::cast_unsigned),
        details: serde_json::from_str::<Details>(&details).map_err(|_| damaged(5, "no details"))?,
        texts: Texts {
            source_code: row.get(6)?,
            stdin: row.get(7)?,
            expected_output: row.get(8)?,
            additional_files: row.get(9)?,
            stdout: row.get(10)?,
            stderr: row.get(11)?,
            compile_output: row.get(12)?,
        },
    })
}

fn json(details: &Details) -> String {
    serde_json::to_string(details).expect("details have only text keys")
}

fn on_disk(directory: &Path) -> Result<(Connection, PathBuf, Option<Flock<std::fs::File>>), StoreError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| StoreError::File { path, error }
    };
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))?;
    let found = std::fs::metadata(directory).map_err(failed(directory))?;
    // Programs of clients are nobody else's, and whoever could put another database here would own them.
    if found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(StoreError::NotOurs(directory.to_owned()));
    }
    let ours = |path: &Path| {
        let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path);
        opened.map_err(failed(path))
    };
    let lock = Flock::lock(ours(&directory.join(LOCK))?, FlockArg::LockExclusiveNonblock)
        .map_err(|_| StoreError::InUse(directory.to_owned()))?;
    let path = directory.join(FILE);
    // With the mode that SQLite then gives to the files beside it as well.
    ours(&path)?;
    let connection = Connection::open(&path).map_err(|error| StoreError::Sqlite { path: path.clone(), error })?;
    Ok((connection, path, Some(lock)))
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let told = |error| StoreError::Sqlite { path: path.to_owned(), error };
    connection.busy_timeout(BUSY).map_err(told)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(told)?;
    connection.pragma_update(None, "synchronous", "NORMAL").map_err(told)?;
    // What is forgotten gives its room to what comes.
    Migrations::from_slice(STEPS)
        .to_latest(connection)
        .map_err(|error| StoreError::Form { path: path.to_owned(), error })
}

#[cfg(test)]
mod tests;
