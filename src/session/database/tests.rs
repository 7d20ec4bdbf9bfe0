//! Tests of the records: what comes back, what is refused, and what a crash leaves.

use std::collections::BTreeMap;
use std::fs;
use std::future::Future;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::task::{Context, Waker};

use rusqlite_migration::Migrations;
use tempfile::TempDir;

use super::*;
use crate::plan::tree::{Ecosystem, TreeAt};
use crate::profile::{AllowList, Limits, Network};
use crate::session::record::tests::{limits, record};
use crate::session::state::Status;

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

/// A directory that nobody else may enter.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    directory
}

fn exec(session: SessionId, id: u64) -> ExecRecord {
    ExecRecord {
        session,
        id,
        argv: vec!["sh".to_owned(), "-c".to_owned(), "échø".to_owned()],
        detached: true,
        terminal: Some((24, u16::MAX)),
        started_at_ms: 21,
        limits: limits(),
        finished: None,
    }
}

fn snapshot(session: SessionId, id: u64) -> SnapshotRecord {
    let label = Some("before".to_owned());
    SnapshotRecord { session, id, label, created_at_ms: 31, bytes: u64::MAX, files: 32, saved: true }
}

fn context(session: SessionId, id: u64) -> ContextRecord {
    ContextRecord { session, id, language: "python".to_owned(), exec: 41 }
}

/// What is in a directory, by name, without what SQLite makes anew each time.
fn content(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let named = files.map(|file| (file.file_name().into_string().unwrap(), fs::read(file.path()).unwrap()));
    let made_anew = |name: &str, bytes: &[u8]| name.ends_with("-shm") || (name.ends_with("-wal") && bytes.is_empty());
    named.filter(|(name, bytes)| !made_anew(name, bytes)).collect()
}

#[test]
fn records_come_back_as_they_were() {
    let directory = directory();
    block_on(async {
        let session = record();
        let mut plain = record();
        (plain.created_at_ms, plain.cpus, plain.saved, plain.lost) = (0, None, None, false);
        (plain.persistent, plain.status) = (false, Status::Active);
        (plain.env, plain.labels, plain.runtimes) = (BTreeMap::new(), BTreeMap::new(), Vec::new());
        let mut ended = exec(session.id, 2);
        (ended.terminal, ended.finished, ended.detached) = (None, Some(vec![0, 255]), false);
        let mut unnamed = snapshot(session.id, 2);
        (unnamed.label, unnamed.saved) = (None, false);

        let database = Database::open(directory.path()).unwrap();
        database.insert_session(session.clone()).await.unwrap();
        database.insert_session(plain.clone()).await.unwrap();
        database.insert_exec(exec(session.id, 1)).await.unwrap();
        database.insert_exec(ended.clone()).await.unwrap();
        database.insert_snapshot(snapshot(session.id, 1)).await.unwrap();
        database.insert_snapshot(unnamed.clone()).await.unwrap();
        database.insert_context(context(session.id, 1)).await.unwrap();
        database.close().await;

        let database = Database::open(directory.path()).unwrap();
        assert_eq!(database.sessions().await.unwrap(), [plain.clone(), session.clone()]);
        assert_eq!(database.execs(session.id).await.unwrap(), [exec(session.id, 1), ended]);
        assert_eq!(database.snapshots(session.id).await.unwrap(), [snapshot(session.id, 1), unnamed]);
        assert_eq!(database.contexts(session.id).await.unwrap(), [context(session.id, 1)]);
        assert_eq!(database.execs(plain.id).await.unwrap(), []);
    });
}

#[test]
fn a_change_is_of_one_record_only() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let (mut one, other) = (record(), record());
        for session in [&one, &other] {
            let id = session.id;
            let all = vec![
                Write::InsertSession(Box::new(session.clone())),
                Write::InsertExec(Box::new(exec(id, 1))),
                Write::InsertExec(Box::new(exec(id, 2))),
                Write::InsertSnapshot(snapshot(id, 1)),
                Write::InsertContext(context(id, 1)),
            ];
            database.write(all).await.unwrap();
        }
        (one.status, one.last_used_ms) = (Status::Stopped, 99);
        let mut ended = exec(one.id, 2);
        ended.finished = Some(vec![1]);
        let mut kept = snapshot(one.id, 1);
        kept.saved = false;
        let mut restarted = context(one.id, 1);
        restarted.exec = 2;
        database.update_session(one.clone()).await.unwrap();
        database.update_exec(ended.clone()).await.unwrap();
        database.update_snapshot(kept.clone()).await.unwrap();
        database.update_context(restarted.clone()).await.unwrap();
        assert_eq!(database.execs(one.id).await.unwrap(), [exec(one.id, 1), ended.clone()]);
        assert_eq!(database.snapshots(one.id).await.unwrap(), [kept]);
        assert_eq!(database.contexts(one.id).await.unwrap(), [restarted]);
        let mut sessions = database.sessions().await.unwrap();
        sessions.sort_by_key(|session| session.id != one.id);
        assert_eq!(sessions, [one.clone(), other.clone()]);

        database.remove_exec(one.id, 1).await.unwrap();
        database.remove_snapshot(one.id, 1).await.unwrap();
        database.remove_context(one.id, 1).await.unwrap();
        assert_eq!(database.execs(one.id).await.unwrap(), [ended]);
        assert_eq!(database.snapshots(one.id).await.unwrap(), []);
        assert_eq!(database.contexts(one.id).await.unwrap(), []);
        assert_eq!(database.execs(other.id).await.unwrap().len(), 2);
        assert_eq!(database.snapshots(other.id).await.unwrap().len(), 1);
        assert_eq!(database.contexts(other.id).await.unwrap().len(), 1);
    });
}

#[test]
fn a_session_takes_along_what_is_in_it() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let session = record();
        let all = vec![
            Write::InsertSession(Box::new(session.clone())),
            Write::InsertExec(Box::new(exec(session.id, 1))),
            Write::InsertSnapshot(snapshot(session.id, 1)),
            Write::InsertContext(context(session.id, 1)),
        ];
        database.write(all.clone()).await.unwrap();
        for _ in 0..2 {
            database.remove_session(session.id).await.unwrap();
            assert_eq!(database.sessions().await.unwrap(), []);
        }
        assert_eq!(database.execs(session.id).await.unwrap(), []);
        // Were anything left, it would be there already.
        database.write(all).await.unwrap();
    });
}

#[test]
fn what_can_not_be_is_refused_by_name() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let (session, stranger) = (record(), SessionId::random());
        database.insert_session(session.clone()).await.unwrap();
        database.insert_exec(exec(session.id, 1)).await.unwrap();
        for (write, told) in [
            (Write::InsertSession(Box::new(session.clone())), "there is this session already"),
            (Write::InsertExec(Box::new(exec(session.id, 1))), "there is this exec already"),
            (Write::UpdateSession(Box::new(record())), "there is no such session"),
            (Write::UpdateExec(Box::new(exec(session.id, 2))), "there is no such exec"),
            (Write::UpdateSnapshot(snapshot(session.id, 1)), "there is no such snapshot"),
            (Write::UpdateContext(context(session.id, 1)), "there is no such context"),
            (Write::InsertExec(Box::new(exec(stranger, 1))), "there is no such exec, or no session that it is in"),
            (Write::InsertSnapshot(snapshot(stranger, 1)), "there is no such snapshot, or no session"),
            (Write::InsertContext(context(stranger, 1)), "there is no such context, or no session"),
        ] {
            let error = database.write(vec![write]).await.unwrap_err().to_string();
            assert!(error.starts_with(told), "{error}");
        }
        let mut contradiction = record();
        (contradiction.persistent, contradiction.status) = (false, Status::Stopped);
        database.insert_session(contradiction).await.unwrap_err();
    });
}

#[test]
fn of_several_writes_all_are_done_or_none() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let session = record();
        let writes = vec![
            Write::InsertSession(Box::new(session.clone())),
            Write::InsertExec(Box::new(exec(session.id, 1))),
            Write::UpdateExec(Box::new(exec(session.id, 2))),
        ];
        database.write(writes).await.unwrap_err();
        assert_eq!(database.sessions().await.unwrap(), []);
        assert_eq!(database.execs(session.id).await.unwrap(), []);
    });
}

#[test]
fn a_request_that_is_refused_takes_no_other_with_it() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let good: Vec<SessionRecord> = (0..100).map(|_| record()).collect();
        // All of them wait at one time, so they share transactions.
        let each = good.iter().map(|session| {
            let database = &database;
            async move {
                let bad = Box::new(record());
                let exec = Write::InsertExec(Box::new(exec(bad.id, 1)));
                let twice = vec![Write::InsertSession(bad.clone()), exec, Write::InsertSession(bad.clone())];
                let (first, second) = tokio::join!(database.insert_session(session.clone()), database.write(twice));
                first.unwrap();
                assert!(matches!(second.unwrap_err(), DatabaseError::Present("session")));
                assert_eq!(database.execs(bad.id).await.unwrap(), []);
            }
        });
        futures_util::future::join_all(each).await;
        assert_eq!(database.sessions().await.unwrap().len(), good.len());
    });
}

#[test]
fn what_nobody_waits_for_is_written_all_the_same() {
    let directory = directory();
    block_on(async {
        let database = Database::open(directory.path()).unwrap();
        let session = record();
        let mut asked = Box::pin(database.insert_session(session.clone()));
        // Once is enough for it to be asked for.
        assert!(asked.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(asked);
        database.close().await;
        let database = Database::open(directory.path()).unwrap();
        assert_eq!(database.sessions().await.unwrap(), [session]);
    });
}

#[test]
fn after_it_was_closed_everything_says_so() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        let other = database.clone();
        database.close().await;
        assert!(matches!(other.insert_session(record()).await, Err(DatabaseError::Closed)));
        assert!(matches!(other.sessions().await, Err(DatabaseError::Closed)));
        other.close().await;
    });
}

#[test]
fn nobody_else_can_read_it() {
    let outer = directory();
    let directory = outer.path().join("new/codesandbox");
    block_on(async {
        let database = Database::open(&directory).unwrap();
        database.insert_session(record()).await.unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory), 0o700);
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "{}", path.display());
        }
        assert!(directory.join("records.sqlite-wal").exists());
    });
}

#[test]
fn a_directory_that_others_may_enter_is_refused() {
    let directory = directory();
    for mode in [0o701, 0o750, 0o777] {
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
        let error = Database::open(directory.path()).unwrap_err();
        assert!(matches!(error, DatabaseError::NotOurs { .. }), "{error}");
    }
    assert_eq!(content(directory.path()).len(), 0);
}

#[test]
fn it_is_opened_once_at_one_time() {
    let directory = directory();
    block_on(async {
        let database = Database::open(directory.path()).unwrap();
        let error = Database::open(directory.path()).unwrap_err();
        assert!(matches!(&error, DatabaseError::InUse { path } if path == directory.path()), "{error}");
        // The first is none the worse.
        database.insert_session(record()).await.unwrap();
        database.close().await;
        Database::open(directory.path()).unwrap();
    });
}

#[test]
fn a_directory_that_can_not_be_made_is_named() {
    let directory = directory();
    let path = directory.path().join("file");
    fs::write(&path, "").unwrap();
    let error = Database::open(&path.join("below")).unwrap_err().to_string();
    assert!(error.contains("file/below: making the directory: "), "{error}");
}

#[test]
fn steps_of_the_schema_are_well_formed() {
    schema::migrations().validate().unwrap();
}

#[test]
fn both_tables_with_limits_have_all_of_them() {
    let (connection, _) = open::in_memory().unwrap();
    for table in ["sessions", "execs"] {
        let sql = format!("SELECT * FROM {table}");
        let columns: Vec<String> =
            connection.prepare(&sql).unwrap().column_names().into_iter().map(str::to_owned).collect();
        for field in Limits::FIELDS {
            assert!(columns.iter().any(|column| column == field), "{table} has no {field}");
        }
    }
}

/// What each version has of one session, by the words of that version.
const OF_VERSIONS: [&str; schema::VERSION] = [
    "
INSERT INTO sessions VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', '1000', 1, x'010462617368', 'session',
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, x'00', x'010161016200', 1, 2, 3, 4, 5, 6, NULL, 'stopped', 0, 8);
INSERT INTO execs VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, x'01027368', 1, 24, 80, 22,
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, NULL);
INSERT INTO snapshots VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, NULL, 31, 32, 33, 0);
INSERT INTO contexts VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, 'python', 1);
",
    "
INSERT INTO sessions VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', '1000', 1, x'010462617368', 'session',
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, x'00', x'010161016200', 1, 2, 3, 4, 5, 6, NULL, 'stopped', 0, 8, x'01');
INSERT INTO execs VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, x'01027368', 1, 24, 80, 22,
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, NULL);
INSERT INTO snapshots VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, NULL, 31, 32, 33, 0);
INSERT INTO contexts VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, 'python', 1);
",
    "
INSERT INTO sessions VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', '1000', 1, x'010462617368', 'session',
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, x'00', x'010161016200', 1, 2, 3, 4, 5, 6, NULL, 'stopped', 0, 8, x'02000000000000');
INSERT INTO execs VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, x'01027368', 1, 24, 80, 22,
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, NULL);
INSERT INTO snapshots VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, NULL, 31, 32, 33, 0);
INSERT INTO contexts VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, 'python', 1);
",
    "
INSERT INTO sessions VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', '1000', 1, x'010462617368', 'session',
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, x'00', x'010161016200', 1, 2, 3, 4, 5, 6, NULL, 'stopped', 0, 8, x'01',
    x'01010909090909090909090909090909090909090909090909090909090909090909');
INSERT INTO execs VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, x'01027368', 1, 24, 80, 22,
    11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, NULL);
INSERT INTO snapshots VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, NULL, 31, 32, 33, 0);
INSERT INTO contexts VALUES ('0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11', 1, 'python', 1);
",
];

#[test]
fn a_list_of_before_there_were_secrets_has_none() {
    let directory = directory();
    let mut connection = Connection::open(directory.path().join(open::FILE)).unwrap();
    Migrations::from_slice(&schema::STEPS[..2]).to_latest(&mut connection).unwrap();
    connection.execute_batch(&OF_VERSIONS[1].replace("x'01');", "x'02000000000107');")).unwrap();
    drop(connection);
    let sessions = block_on(async { Database::open(directory.path()).unwrap().sessions().await.unwrap() });
    let list = AllowList { bytes_per_second: Some(7), ..AllowList::default() };
    assert_eq!(sessions[0].network, Some(Network::Allow(Box::new(list))));
}

#[test]
fn records_of_every_version_are_read() {
    for (version, records) in OF_VERSIONS.iter().enumerate() {
        let directory = directory();
        let mut connection = Connection::open(directory.path().join(open::FILE)).unwrap();
        Migrations::from_slice(&schema::STEPS[..=version]).to_latest(&mut connection).unwrap();
        connection.execute_batch(records).unwrap();
        drop(connection);
        block_on(async {
            let database = Database::open(directory.path()).unwrap();
            let sessions = database.sessions().await.unwrap();
            let session = sessions.first().unwrap();
            assert_eq!(session.id.to_string(), "0b7a2f6e-6f0e-4b0a-9c54-0a2f5f1f6d11");
            assert_eq!((&*session.runtimes, session.limits.stack_bytes), (&["bash".to_owned()][..], 21));
            assert_eq!(session.labels, BTreeMap::from([("a".to_owned(), "b".to_owned())]));
            assert_eq!((session.status, session.saved), (Status::Stopped, Some(8)));
            let loopback = || Some(Network::Loopback);
            let network = [None, loopback(), Some(Network::Allow(Box::default())), loopback()];
            assert_eq!(session.network, network[version]);
            let trees = if version > 2 { vec![TreeAt { ecosystem: Ecosystem::Npm, key: [9; 32] }] } else { vec![] };
            assert_eq!(session.trees, trees);
            let execs = database.execs(session.id).await.unwrap();
            assert_eq!((&*execs[0].argv, execs[0].terminal), (&["sh".to_owned()][..], Some((24, 80))));
            assert_eq!(database.snapshots(session.id).await.unwrap()[0].files, 33);
            assert_eq!(database.contexts(session.id).await.unwrap()[0].language, "python");
        });
    }
}

/// A directory with the records of some sessions in it, part of which are in the log.
fn filled() -> TempDir {
    let directory = directory();
    block_on(async {
        let database = Database::open(directory.path()).unwrap();
        for _ in 0..50 {
            database.insert_session(record()).await.unwrap();
        }
        database.close().await;
    });
    // Closing has put everything into the one file; this leaves something in a log.
    let path = directory.path().join(open::FILE);
    let connection = Connection::open(&path).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    connection.execute("UPDATE sessions SET owner = 'me'", []).unwrap();
    drop(connection);
    assert!(fs::metadata(directory.path().join("records.sqlite-wal")).unwrap().len() > 0);
    directory
}

/// Opening is refused, and changes nothing.
fn refused(directory: &Path) -> DatabaseError {
    let before = content(directory);
    let error = Database::open(directory).unwrap_err();
    assert!(content(directory) == before, "files are not what they were: {error}");
    error
}

#[test]
fn what_a_newer_program_wrote_is_left_to_it() {
    let directory = filled();
    let connection = Connection::open(directory.path().join(open::FILE)).unwrap();
    connection.pragma_update(None, "user_version", 1_000).unwrap();
    connection.set_db_config(rusqlite::config::DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).unwrap();
    drop(connection);
    let error = refused(directory.path()).to_string();
    let told =
        format!("records.sqlite: this is of version 1000, and this program knows versions up to {}", schema::VERSION);
    assert!(error.contains(&told), "{error}");
}

#[test]
fn a_damaged_file_is_named_and_nothing_is_lost() {
    type Damage = fn(&Path);
    let damages: [(&str, Damage); 5] = [
        ("no database", |path| fs::write(path, "records".repeat(1_000)).unwrap()),
        ("its first page", |path| overwrite(path, 0)),
        ("the root of a table", |path| overwrite(path, 4_096)),
        ("cut short", |path| {
            fs::remove_file(path.with_file_name("records.sqlite-wal")).unwrap();
            let length = fs::metadata(path).unwrap().len();
            fs::OpenOptions::new().write(true).open(path).unwrap().set_len(length / 2).unwrap();
        }),
        ("emptied", |path| fs::write(path, "").unwrap()),
    ];
    for (name, damage) in damages {
        let directory = filled();
        let path = directory.path().join(open::FILE);
        // The log would mend what is damaged here.
        if name == "the root of a table" {
            let connection = Connection::open(&path).unwrap();
            connection.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(())).unwrap();
        }
        damage(&path);
        let error = refused(directory.path());
        assert!(matches!(&error, DatabaseError::Damaged { path: told, .. } if *told == path), "{name}: {error}");
        assert!(error.to_string().contains("put a copy of it back"), "{error}");
    }
}

fn overwrite(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at..at + 512].fill(0xA5);
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_row_that_makes_no_sense_is_damage() {
    let directory = filled();
    let connection = Connection::open(directory.path().join(open::FILE)).unwrap();
    connection.execute("UPDATE sessions SET labels = x'ff'", []).unwrap();
    drop(connection);
    block_on(async {
        let database = Database::open(directory.path()).unwrap();
        let error = database.sessions().await.unwrap_err();
        assert!(matches!(&error, DatabaseError::Damaged { reason, .. } if reason.contains("labels")), "{error}");
    });
}

#[test]
fn a_full_database_refuses_and_keeps_what_it_has() {
    block_on(async {
        let database = Database::open_in_memory().unwrap();
        database
            .read(|connection| connection.pragma_update_and_check(None, "max_page_count", 40, |_| Ok(())))
            .await
            .unwrap();
        let (mut kept, mut refused) = (Vec::new(), 0);
        // Large ones between small ones, so that transactions are shared by some that fit and some that don't.
        let sessions: Vec<SessionRecord> = (0..40)
            .map(|number| {
                let mut session = record();
                session.created_at_ms = number;
                session.profile = "x".repeat(if number % 2 == 0 { 1 } else { 30_000 });
                session
            })
            .collect();
        let each = sessions.iter().map(|session| database.insert_session(session.clone()));
        for (session, answer) in sessions.iter().zip(futures_util::future::join_all(each).await) {
            match answer {
                Ok(()) => kept.push(session.clone()),
                Err(DatabaseError::Full { .. }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(refused > 0 && kept.len() >= 20, "{refused} {}", kept.len());
        assert_eq!(database.sessions().await.unwrap(), kept);
        // There is room again when something goes.
        let large = kept.iter().find(|session| session.profile.len() > 1).unwrap();
        database.remove_session(large.id).await.unwrap();
        database.insert_session(record()).await.unwrap();
    });
}

/// Tells a test that is run as a child which directory to use.
const CHILD: &str = "CODESANDBOX_TEST_RECORDS";

/// This test binary, to run nothing but one of its tests.
fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = format!("session::database::tests::{test}");
    command.args(["--exact", &name, "--nocapture", "--include-ignored"]).env(CHILD, directory);
    command
}

#[test]
#[ignore = "is run by the test that kills it"]
fn child_that_writes_until_it_is_killed() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    block_on(async {
        let database = Database::open(Path::new(&directory)).unwrap();
        loop {
            let session = record();
            let id = session.id;
            let mut writes = vec![Write::InsertSession(Box::new(session))];
            writes.extend((1..=PARTS).map(|number| Write::InsertExec(Box::new(exec(id, number)))));
            database.write(writes).await.unwrap();
            println!("{WRITTEN}{id}");
        }
    });
}

#[test]
#[ignore = "is run by the test that gives it a small disk"]
fn child_that_fills_its_disk() {
    let Some(directory) = std::env::var_os(CHILD) else { return };
    let directory = Path::new(&directory).join("records");
    let filler = directory.with_file_name("filler");
    block_on(async {
        let database = Database::open(&directory).unwrap();
        fs::write(&filler, vec![0; 512 << 10]).unwrap();
        let mut kept = Vec::new();
        let error = loop {
            let mut session = record();
            session.created_at_ms = kept.len() as u64;
            session.labels.insert("large".to_owned(), "x".repeat(10_000));
            match database.insert_session(session.clone()).await {
                Ok(()) => kept.push(session),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, DatabaseError::Full { .. }), "{error}");
        assert!(!kept.is_empty() && database.sessions().await.unwrap() == kept, "{}", kept.len());
        // While there is no room it can be opened all the same, and nothing of it is lost.
        database.close().await;
        let database = Database::open(&directory).unwrap();
        assert!(database.sessions().await.unwrap() == kept, "after it was opened with a full disk");
        fs::remove_file(&filler).unwrap();
        database.insert_session(record()).await.unwrap();
        database.close().await;
    });
}

#[test]
fn a_full_disk_refuses_what_is_new_and_keeps_what_there_is() {
    let directory = directory();
    // A disk of its own, that nobody else sees.
    let mount = r#"mount -t tmpfs -o size=1m,mode=700 tmpfs "$0" && exec "$@""#;
    let unshare = |program: &[&std::ffi::OsStr]| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", mount]).arg(directory.path()).args(program);
        command
    };
    if !unshare(&["true".as_ref()]).output().is_ok_and(|done| done.status.success()) {
        eprintln!("skipped: this user can't mount a tmpfs of its own");
        return;
    }
    let child = child("child_that_fills_its_disk", directory.path());
    let program: Vec<_> = std::iter::once(child.get_program()).chain(child.get_args()).collect();
    let done = unshare(&program).env(CHILD, directory.path()).output().unwrap();
    let said = String::from_utf8(done.stdout).unwrap() + &String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success() && said.contains("1 passed"), "{said}");
}

/// How many programs each session of that child has.
const PARTS: u64 = 20;
/// How its lines begin, as the test harness writes others.
const WRITTEN: &str = "written ";

#[test]
fn what_was_answered_outlives_a_kill_and_nothing_is_there_by_half() {
    let directory = directory();
    let mut answered: Vec<SessionId> = Vec::new();
    for enough in [1, 7, 40] {
        let mut child =
            child("child_that_writes_until_it_is_killed", directory.path()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for (number, line) in lines.map(Result::unwrap).filter(|line| line.contains(WRITTEN)).enumerate() {
            // What it was able to write before it died counts as well.
            answered.push(line.split_once(WRITTEN).unwrap().1.parse().unwrap());
            if number + 1 == enough {
                child.kill().unwrap();
            }
        }
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        block_on(async {
            let database = Database::open(directory.path()).unwrap();
            let found: Vec<SessionId> =
                database.sessions().await.unwrap().into_iter().map(|session| session.id).collect();
            for id in &answered {
                assert!(found.contains(id), "{id} was answered and is gone");
            }
            for id in found {
                assert_eq!(database.execs(id).await.unwrap().len() as u64, PARTS, "{id} is there by half");
            }
            database.close().await;
        });
    }
}
