//! Uploads that are large, too large, or break off.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Session, assert_problem, begin_upload, status_of, tar_of};
use crate::common::{Service, wait_for};

const MIB: u64 = 1 << 20;

/// Most memory that the daemon has had, in bytes.
fn peak(service: &Service) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", service.daemon_pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().unwrap() << 10
}

fn names_with_hidden(session: &Session<'_>) -> String {
    session.shell("find . -mindepth 1 | sort")
}

#[test]
fn large_files_and_archives_stream_through_a_daemon_that_stays_small() {
    const SIZE: u64 = 96 * MIB;
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"disk_bytes": 512 * MIB, "file_size_bytes": 256 * MIB}}));
    session.put("small", "warm");
    assert_eq!(session.content("small"), b"warm");
    let before = peak(&service);
    let mut upload = begin_upload(&session, "/fs/file?path=large", SIZE);
    let block: Vec<u8> = (0..MIB).map(|at| u8::try_from(at % 251).unwrap()).collect();
    for _ in 0..SIZE / MIB {
        upload.write_all(&block).unwrap();
    }
    assert_eq!(status_of(upload), 204);
    assert_eq!(session.shell("stat -c %s large"), format!("{SIZE}\n"));
    for (path, least) in [("/fs/file?path=large", SIZE), ("/fs/archive", SIZE)] {
        let mut download = UnixStream::connect(service.socket()).unwrap();
        download.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        write!(download, "GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n", session.at(path)).unwrap();
        let read = std::io::copy(&mut download, &mut std::io::sink()).unwrap();
        assert!(read > least, "{path}: {read}");
    }
    let grown = peak(&service).saturating_sub(before);
    eprintln!("the daemon grew by {} KiB over {} MiB up and twice down", grown >> 10, SIZE / MIB);
    assert!(grown < 24 * MIB, "the daemon grew by {grown} bytes");
}

#[test]
fn an_upload_that_is_larger_than_the_disk_is_refused_and_leaves_nothing() {
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"disk_bytes": 16 * MIB}}));
    session.put("kept", "kept");
    // Told by its head alone: not one byte of the body is waited for.
    for path in ["/fs/file?path=kept", "/fs/archive?path=d"] {
        let told = begin_upload(&session, path, 25 * MIB);
        assert_eq!(status_of(told), 413, "{path}");
    }
    // It is told before it has come where it would fit but for what is there.
    let full = session.write("kept", vec![1; 17 << 20]);
    assert_problem(&full, 507, "disk-full");
    let archive = tar_of(&[
        ("a", tar::EntryType::Regular, &"x".repeat(9 << 20)),
        ("b", tar::EntryType::Regular, &"y".repeat(9 << 20)),
    ]);
    assert_problem(&session.call("PUT", "/fs/archive?path=d", &archive), 507, "disk-full");
    assert_eq!(session.content("kept"), b"kept");
    assert_eq!(names_with_hidden(&session), "./d\n./d/a\n./kept\n");
    session.done("DELETE", "/fs/file?path=d&recursive=true", &Value::Null);
    session.put("a", vec![1; 12 << 20]);
    // What fits the disk, but no file of the session.
    let session = Session::with(&service, json!({"limits": {"file_size_bytes": MIB}}));
    assert_problem(&session.write("f", vec![1; 2 << 20]), 409, "wrong-file");
    assert_eq!(names_with_hidden(&session), "");
}

#[test]
fn an_upload_that_breaks_off_leaves_what_was_there_and_nothing_else() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("f", "before");
    for path in ["/fs/file?path=f", "/fs/file?path=new/deep/g"] {
        let mut upload = begin_upload(&session, path, 8 * MIB);
        upload.write_all(&vec![b'x'; 4 << 20]).unwrap();
        // The half that came is on the disk.
        wait_for("the upload to arrive", || {
            session.done("GET", "", &Value::Null)["disk"]["used_bytes"].as_u64().unwrap() >= 3 * MIB
        });
        drop(upload);
        wait_for("nothing of it to be left", || names_with_hidden(&session) == "./f\n");
        assert_eq!(session.content("f"), b"before");
    }
    // One that has no length breaks off in the middle of a chunk.
    let mut upload = UnixStream::connect(service.socket()).unwrap();
    write!(
        upload,
        "PUT {} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n100000\r\n{}",
        session.at("/fs/file?path=f"),
        "x".repeat(1 << 19)
    )
    .unwrap();
    upload.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap_or_default();
    wait_for("nothing of it to be left", || names_with_hidden(&session) == "./f\n");
    assert_eq!(session.content("f"), b"before");
}

#[test]
fn a_reader_that_goes_away_ends_the_worker() {
    let service = Service::start();
    let session = Session::with(&service, json!({"limits": {"file_size_bytes": 128 * MIB}}));
    session.shell("head -c 100M /dev/zero > f");
    // Init, and a program that waits.
    wait_for("nothing else to run", || service.sandbox_processes().len() == 2);
    let mut download = UnixStream::connect(service.socket()).unwrap();
    write!(download, "GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n", session.at("/fs/file?path=f")).unwrap();
    download.read_exact(&mut [0; 1000]).unwrap();
    wait_for("a worker", || service.sandbox_processes().len() == 3);
    drop(download);
    wait_for("the worker to be gone", || service.sandbox_processes().len() == 2);
}
