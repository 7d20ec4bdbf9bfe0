//! Records as rows, and rows as records.

use std::path::Path;

use rusqlite::types::{Type, Value};
use rusqlite::{Connection, ErrorCode, Row, params_from_iter};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{DatabaseError, Write};
use crate::profile::{AllowList, Limits, Network};
use crate::session::record::{ContextRecord, ExecRecord, SessionId, SessionRecord, SnapshotRecord};
use crate::session::state::Status;

/// A row of a table. The first of its columns are its key.
struct Stored {
    table: &'static str,
    /// What one is called in messages.
    what: &'static str,
    keys: usize,
    columns: Vec<(&'static str, Value)>,
}

/// Does one write.
pub(super) fn write(connection: &Connection, write: &Write, path: &Path) -> Result<(), DatabaseError> {
    let outcome = match write {
        Write::InsertSession(record) => insert(connection, &session_row(record)),
        Write::UpdateSession(record) => update(connection, &session_row(record)),
        Write::InsertExec(record) => insert(connection, &exec_row(record)),
        Write::UpdateExec(record) => update(connection, &exec_row(record)),
        Write::InsertSnapshot(record) => insert(connection, &snapshot_row(record)),
        Write::UpdateSnapshot(record) => update(connection, &snapshot_row(record)),
        Write::InsertContext(record) => insert(connection, &context_row(record)),
        Write::UpdateContext(record) => update(connection, &context_row(record)),
        Write::RemoveSession(id) => remove(connection, "DELETE FROM sessions WHERE id = ?1", (id.to_string(),)),
        Write::RemoveExec(session, id) => {
            let key = (session.to_string(), id.cast_signed());
            remove(connection, "DELETE FROM execs WHERE session = ?1 AND id = ?2", key)
        }
        Write::RemoveSnapshot(session, id) => {
            let key = (session.to_string(), id.cast_signed());
            remove(connection, "DELETE FROM snapshots WHERE session = ?1 AND id = ?2", key)
        }
        Write::RemoveContext(session, id) => {
            let key = (session.to_string(), id.cast_signed());
            remove(connection, "DELETE FROM contexts WHERE session = ?1 AND id = ?2", key)
        }
    };
    outcome.map_err(|refused| match refused {
        Refused::Missing(what) => DatabaseError::Missing(what),
        Refused::Present(what) => DatabaseError::Present(what),
        Refused::Sqlite(error) => DatabaseError::of(path, error),
    })
}

/// All sessions, the oldest first.
pub(super) fn sessions(connection: &Connection) -> rusqlite::Result<Vec<SessionRecord>> {
    let mut statement = connection.prepare("SELECT * FROM sessions ORDER BY created_at_ms, id")?;
    statement.query_map([], session_of)?.collect()
}

/// Programs of a session, by number.
pub(super) fn execs(connection: &Connection, session: SessionId) -> rusqlite::Result<Vec<ExecRecord>> {
    let mut statement = connection.prepare("SELECT * FROM execs WHERE session = ?1 ORDER BY id")?;
    statement.query_map([session.to_string()], exec_of)?.collect()
}

/// Snapshots of a session, by number.
pub(super) fn snapshots(connection: &Connection, session: SessionId) -> rusqlite::Result<Vec<SnapshotRecord>> {
    let mut statement = connection.prepare("SELECT * FROM snapshots WHERE session = ?1 ORDER BY id")?;
    statement.query_map([session.to_string()], snapshot_of)?.collect()
}

/// Contexts of a session, by number.
pub(super) fn contexts(connection: &Connection, session: SessionId) -> rusqlite::Result<Vec<ContextRecord>> {
    let mut statement = connection.prepare("SELECT * FROM contexts WHERE session = ?1 ORDER BY id")?;
    statement.query_map([session.to_string()], context_of)?.collect()
}

/// Why a row can't be written.
enum Refused {
    Missing(&'static str),
    Present(&'static str),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Refused {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn insert(connection: &Connection, row: &Stored) -> Result<(), Refused> {
    let names: Vec<&str> = row.columns.iter().map(|(name, _)| *name).collect();
    let places = vec!["?"; names.len()].join(", ");
    let sql = format!("INSERT INTO {} ({}) VALUES ({places})", row.table, names.join(", "));
    let values = row.columns.iter().map(|(_, value)| value);
    let inserted = connection.prepare(&sql)?.execute(params_from_iter(values));
    inserted.map(drop).map_err(|error| match extended_code(&error) {
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => Refused::Present(row.what),
        Some(rusqlite::ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => Refused::Missing(row.what),
        _ => Refused::Sqlite(error),
    })
}

fn update(connection: &Connection, row: &Stored) -> Result<(), Refused> {
    let (keys, others) = row.columns.split_at(row.keys);
    let equal = |columns: &[(&str, Value)], between| {
        let each: Vec<String> = columns.iter().map(|(name, _)| format!("{name} = ?")).collect();
        each.join(between)
    };
    let sql = format!("UPDATE {} SET {} WHERE {}", row.table, equal(others, ", "), equal(keys, " AND "));
    let values = others.iter().chain(keys).map(|(_, value)| value);
    match connection.prepare(&sql)?.execute(params_from_iter(values))? {
        0 => Err(Refused::Missing(row.what)),
        _ => Ok(()),
    }
}

fn remove(connection: &Connection, sql: &str, key: impl rusqlite::Params) -> Result<(), Refused> {
    connection.prepare(sql)?.execute(key)?;
    Ok(())
}

fn extended_code(error: &rusqlite::Error) -> Option<i32> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) if failure.code == ErrorCode::ConstraintViolation => {
            Some(failure.extended_code)
        }
        _ => None,
    }
}

fn session_row(record: &SessionRecord) -> Stored {
    let mut columns = vec![
        ("id", text(&record.id)),
        ("owner", text(&record.owner)),
        ("persistent", record.persistent.into()),
        ("runtimes", packed(&record.runtimes)),
        ("profile", text(&record.profile)),
        ("env", packed(&record.env)),
        ("labels", packed(&record.labels)),
        ("created_at_ms", number(record.created_at_ms)),
        ("last_used_ms", number(record.last_used_ms)),
        ("idle_timeout_ms", number(record.idle_timeout_ms)),
        ("lifetime_ms", number(record.lifetime_ms)),
        ("expires_at_ms", number(record.expires_at_ms)),
        ("restarts", record.restarts.into()),
        ("cpus", record.cpus.as_ref().map_or(Value::Null, packed)),
        ("network", record.network.as_ref().map_or(Value::Null, |network| packed(&Reach::from(network)))),
        ("trees", if record.trees.is_empty() { Value::Null } else { packed(&record.trees) }),
        ("status", text(&record.status.name())),
        ("lost", record.lost.into()),
        ("saved", record.saved.map_or(Value::Null, number)),
    ];
    columns.extend(limit_columns(&record.limits));
    Stored { table: "sessions", what: "session", keys: 1, columns }
}

fn session_of(row: &Row<'_>) -> rusqlite::Result<SessionRecord> {
    Ok(SessionRecord {
        id: read_id(row, "id")?,
        owner: row.get("owner")?,
        persistent: row.get("persistent")?,
        runtimes: unpacked(row, "runtimes")?,
        profile: row.get("profile")?,
        limits: read_limits(row)?,
        env: unpacked(row, "env")?,
        labels: unpacked(row, "labels")?,
        created_at_ms: read_number(row, "created_at_ms")?,
        last_used_ms: read_number(row, "last_used_ms")?,
        idle_timeout_ms: read_number(row, "idle_timeout_ms")?,
        lifetime_ms: read_number(row, "lifetime_ms")?,
        expires_at_ms: read_number(row, "expires_at_ms")?,
        restarts: row.get("restarts")?,
        cpus: match row.get::<_, Option<Vec<u8>>>("cpus")? {
            Some(_) => Some(unpacked(row, "cpus")?),
            None => None,
        },
        network: match row.get::<_, Option<Vec<u8>>>("network")? {
            Some(_) => Some(unpacked::<Reach>(row, "network")?.into()),
            None => None,
        },
        trees: match row.get::<_, Option<Vec<u8>>>("trees")? {
            Some(_) => unpacked(row, "trees")?,
            None => Vec::new(),
        },
        status: parsed(row, "status", Status::by_name)?,
        lost: row.get("lost")?,
        saved: row.get::<_, Option<i64>>("saved")?.map(i64::cast_unsigned),
    })
}

/// A network as it is stored: what people write has several forms, and postcard can't tell which one follows.
#[derive(Serialize, Deserialize)]
enum Reach {
    None,
    Loopback,
    Allow(Box<AllowList>),
}

impl From<&Network> for Reach {
    fn from(network: &Network) -> Self {
        match network {
            Network::None => Self::None,
            Network::Loopback => Self::Loopback,
            Network::Allow(list) => Self::Allow(list.clone()),
        }
    }
}

impl From<Reach> for Network {
    fn from(reach: Reach) -> Self {
        match reach {
            Reach::None => Self::None,
            Reach::Loopback => Self::Loopback,
            Reach::Allow(list) => Self::Allow(list),
        }
    }
}

fn exec_row(record: &ExecRecord) -> Stored {
    let of_terminal = |side: fn((u16, u16)) -> u16| record.terminal.map_or(Value::Null, |size| side(size).into());
    let mut columns = vec![
        ("session", text(&record.session)),
        ("id", number(record.id)),
        ("argv", packed(&record.argv)),
        ("detached", record.detached.into()),
        ("rows", of_terminal(|(rows, _)| rows)),
        ("columns", of_terminal(|(_, columns)| columns)),
        ("started_at_ms", number(record.started_at_ms)),
        ("finished", record.finished.clone().map_or(Value::Null, Value::Blob)),
    ];
    columns.extend(limit_columns(&record.limits));
    Stored { table: "execs", what: "exec", keys: 2, columns }
}

fn exec_of(row: &Row<'_>) -> rusqlite::Result<ExecRecord> {
    let rows: Option<u16> = row.get("rows")?;
    Ok(ExecRecord {
        session: read_id(row, "session")?,
        id: read_number(row, "id")?,
        argv: unpacked(row, "argv")?,
        detached: row.get("detached")?,
        terminal: rows.zip(row.get("columns")?),
        started_at_ms: read_number(row, "started_at_ms")?,
        limits: read_limits(row)?,
        finished: row.get("finished")?,
    })
}

fn snapshot_row(record: &SnapshotRecord) -> Stored {
    let columns = vec![
        ("session", text(&record.session)),
        ("id", number(record.id)),
        ("label", record.label.clone().map_or(Value::Null, Value::Text)),
        ("created_at_ms", number(record.created_at_ms)),
        ("bytes", number(record.bytes)),
        ("files", number(record.files)),
        ("saved", record.saved.into()),
    ];
    Stored { table: "snapshots", what: "snapshot", keys: 2, columns }
}

fn snapshot_of(row: &Row<'_>) -> rusqlite::Result<SnapshotRecord> {
    Ok(SnapshotRecord {
        session: read_id(row, "session")?,
        id: read_number(row, "id")?,
        label: row.get("label")?,
        created_at_ms: read_number(row, "created_at_ms")?,
        bytes: read_number(row, "bytes")?,
        files: read_number(row, "files")?,
        saved: row.get("saved")?,
    })
}

fn context_row(record: &ContextRecord) -> Stored {
    let columns = vec![
        ("session", text(&record.session)),
        ("id", number(record.id)),
        ("language", text(&record.language)),
        ("exec", number(record.exec)),
    ];
    Stored { table: "contexts", what: "context", keys: 2, columns }
}

fn context_of(row: &Row<'_>) -> rusqlite::Result<ContextRecord> {
    Ok(ContextRecord {
        session: read_id(row, "session")?,
        id: read_number(row, "id")?,
        language: row.get("language")?,
        exec: read_number(row, "exec")?,
    })
}

/// A further limit has no place here, and does not compile, until the schema has a step for it.
macro_rules! limits {
    ($($field:ident),+ $(,)?) => {
        fn limit_columns(limits: &Limits) -> impl Iterator<Item = (&'static str, Value)> + use<> {
            let Limits { $($field),+ } = *limits;
            [$((stringify!($field), number($field))),+].into_iter()
        }

        fn read_limits(row: &Row<'_>) -> rusqlite::Result<Limits> {
            Ok(Limits { $($field: read_number(row, stringify!($field))?),+ })
        }
    };
}

limits! {
    wall_time_ms, cpu_time_ms, cpu_millis, memory_bytes, processes, open_files, file_size_bytes, disk_bytes,
    disk_files, output_bytes, stack_bytes,
}

fn text(value: &impl ToString) -> Value {
    Value::Text(value.to_string())
}

fn number(value: u64) -> Value {
    Value::Integer(value.cast_signed())
}

fn packed(value: &impl Serialize) -> Value {
    Value::Blob(postcard::to_allocvec(value).expect("lists and maps know their length"))
}

fn read_number(row: &Row<'_>, column: &str) -> rusqlite::Result<u64> {
    row.get(column).map(i64::cast_unsigned)
}

fn read_id(row: &Row<'_>, column: &str) -> rusqlite::Result<SessionId> {
    parsed(row, column, |text| text.parse().ok())
}

fn parsed<T>(row: &Row<'_>, column: &str, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    parse(&text).ok_or_else(|| spoilt(row, column, Type::Text, format!("{text:?} is no {column}")))
}

fn unpacked<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let bytes: Vec<u8> = row.get(column)?;
    postcard::from_bytes(&bytes).map_err(|error| spoilt(row, column, Type::Blob, format!("{column}: {error}")))
}

fn spoilt(row: &Row<'_>, column: &str, kind: Type, reason: String) -> rusqlite::Error {
    let index = row.as_ref().column_index(column).unwrap_or_default();
    rusqlite::Error::FromSqlConversionFailure(index, kind, reason.into())
}
