//! Opening: the directory, the lock, and whether what is there can be used.

use std::fs::{DirBuilder, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::{DatabaseError, schema};

/// Name of the database in its directory.
pub(super) const FILE: &str = "records.sqlite";
/// Name of the file that is locked while it is open.
const LOCK: &str = "lock";
/// How long somebody who looks at the database with another program may hold it up.
const BUSY: Duration = Duration::from_secs(5);
/// The log of changes is cut to this after a checkpoint, in bytes.
const LOG_BYTES: i64 = 16 << 20;

/// Held as long as the database is open.
pub(super) type Lock = Flock<File>;

/// The database of a directory, its path, and the lock.
pub(super) fn on_disk(directory: &Path) -> Result<(Connection, PathBuf, Lock), DatabaseError> {
    make_directory(directory)?;
    let lock = lock(directory)?;
    let path = directory.join(FILE);
    make_file(directory, &path)?;
    // Several threads never use it at one time, so it need not lock itself.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let told = |error| DatabaseError::of(&path, error);
    let mut connection = Connection::open_with_flags(&path, flags).map_err(told)?;
    check(&connection, &path)?;
    prepare(&mut connection, &path)?;
    Ok((connection, path, lock))
}

/// A database that is nowhere on disk, and a name for it in messages.
pub(super) fn in_memory() -> Result<(Connection, PathBuf), DatabaseError> {
    let path = PathBuf::from(":memory:");
    let mut connection = Connection::open_in_memory().map_err(|error| DatabaseError::of(&path, error))?;
    prepare(&mut connection, &path)?;
    Ok((connection, path))
}

fn make_directory(directory: &Path) -> Result<(), DatabaseError> {
    let failed = |doing| move |error| DatabaseError::File { path: directory.to_owned(), doing, error };
    // Nothing of a path that is there already is changed.
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed("making the directory"))?;
    let found = std::fs::metadata(directory).map_err(failed("looking at the directory"))?;
    // Labels, variables and command lines of clients are nobody else's; and whoever could put another
    // database here would own all sessions.
    if found.uid() != geteuid().as_raw() || found.mode() & 0o077 != 0 {
        return Err(DatabaseError::NotOurs { path: directory.to_owned() });
    }
    Ok(())
}

fn lock(directory: &Path) -> Result<Lock, DatabaseError> {
    let path = directory.join(LOCK);
    let failed = |error| DatabaseError::File { path: path.clone(), doing: "locking it", error };
    let opened = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
    Flock::lock(opened.map_err(failed)?, FlockArg::LockExclusiveNonblock).map_err(|(_, errno)| match errno {
        Errno::EWOULDBLOCK => DatabaseError::InUse { path: directory.to_owned() },
        errno => failed(errno.into()),
    })
}

/// Makes an empty database with the mode that SQLite then gives to the files beside it as well.
fn make_file(directory: &Path, path: &Path) -> Result<(), DatabaseError> {
    let failed = |doing| move |error| DatabaseError::File { path: path.to_owned(), doing, error };
    match OpenOptions::new().create_new(true).write(true).mode(0o600).open(path) {
        // Its name must be there after a loss of power, as what is in it will be.
        Ok(_) => File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("making it")),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            let length = |path: &Path| std::fs::metadata(path).map_or(0, |found| found.len());
            let mut log = path.as_os_str().to_owned();
            log.push("-wal");
            // SQLite would take it for new, and remove a log that may have all that is left.
            if length(path) == 0 && length(Path::new(&log)) > 0 {
                let reason = "it is empty, and the log beside it is not".to_owned();
                return Err(DatabaseError::Damaged { path: path.to_owned(), reason });
            }
            Ok(())
        }
        Err(error) => Err(failed("making it")(error)),
    }
}

/// Whether it is whole, and of a version that is known; changes nothing.
fn check(connection: &Connection, path: &Path) -> Result<(), DatabaseError> {
    let told = |error| DatabaseError::of(path, error);
    // Else a database that is refused below would have its log written into it when it is closed.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(told)?;
    connection.busy_timeout(BUSY).map_err(told)?;
    let found: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(told)?;
    if found != "ok" {
        return Err(DatabaseError::Damaged { path: path.to_owned(), reason: found });
    }
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(told)?;
    let known = i64::try_from(schema::VERSION).unwrap_or(i64::MAX);
    if found > known {
        return Err(DatabaseError::Newer { path: path.to_owned(), found, known });
    }
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false).map_err(told)?;
    Ok(())
}

fn prepare(connection: &mut Connection, path: &Path) -> Result<(), DatabaseError> {
    let told = |error| DatabaseError::of(path, error);
    // Where there can be no such log, in memory, SQLite stays with another kind, which is as safe.
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).map_err(told)?;
    connection.pragma_update_and_check(None, "journal_size_limit", LOG_BYTES, |_| Ok(())).map_err(told)?;
    connection.pragma_update(None, "synchronous", "FULL").map_err(told)?;
    // Off for the steps: one that makes a table anew would take along what refers to it.
    connection.pragma_update(None, "foreign_keys", false).map_err(told)?;
    schema::migrations().to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => told(err),
        other => DatabaseError::Damaged { path: path.to_owned(), reason: other.to_string() },
    })?;
    connection.pragma_update(None, "foreign_keys", true).map_err(told)
}
