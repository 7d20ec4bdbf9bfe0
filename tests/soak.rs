//! Many runs and many sessions, one after another and beside one another, with every kind of end: nothing is
//! left behind, and memory stays as it is.
//!
//! `CODESANDBOX_SOAK` says how many; a few hundred runs and a few dozen sessions where it does not.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Answer, Service};
use serde_json::{Value, json};

/// Clients beside one another.
const CLIENTS: usize = 4;

/// A job, and how it is to end.
fn job(number: usize) -> (Value, &'static str) {
    let run = |runtime: &str, source: String| json!({"runtime": runtime, "files": [{"content": source}]});
    let limited = |runtime: &str, source: &str, limits: Value| {
        let mut request = run(runtime, source.to_owned());
        request["limits"] = limits;
        request
    };
    match number % 16 {
        0..=3 => (run("python", format!("print({number})")), "ok"),
        4..=6 => (run("bash", format!("echo {number}")), "ok"),
        7 => (run("perl", format!("print {number}")), "ok"),
        8 => (run("lua", format!("print({number})")), "ok"),
        9 => (run("javascript", format!("console.log({number})")), "ok"),
        10 => (run("c", "#include <stdio.h>\nint main(void) { puts(\"c\"); }\n".to_owned()), "ok"),
        11 => (run("python", "raise SystemExit(3)".to_owned()), "nonzero_exit"),
        12 => (limited("bash", "while :; do :; done", json!({"wall_time_ms": 30})), "wall_time_exceeded"),
        13 => (limited("bash", "sleep 100 & sleep 100 & kill -9 $$", json!({"processes": 8})), "signalled"),
        14 => (limited("bash", "while echo x; do :; done", json!({"output_bytes": 1000})), "output_exceeded"),
        _ => (limited("bash", "echo fine", json!({"disk_files": 20})), "ok"),
    }
}

/// Memory of a process that is of no file, in KiB, and how many descriptors it has open.
fn holds(pid: i32) -> (u64, usize) {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let anonymous = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    let kib = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
    (kib, fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count())
}

/// What daemon and launcher hold while nothing runs and nothing waits.
fn at_rest(service: &Service) -> [(u64, usize); 2] {
    let pool = |ceiling: u64| {
        service.configure(json!({"pool": {"ceiling": ceiling}}));
        service.reload_daemon();
    };
    pool(0);
    common::wait_for("every sandbox to be gone", || service.sandbox_processes().is_empty());
    let held = [holds(service.daemon_pid()), holds(service.launcher_pid())];
    pool(8);
    held
}

#[test]
fn many_runs_leave_nothing_behind() {
    let count: usize = std::env::var("CODESANDBOX_SOAK").map_or(400, |count| count.parse().unwrap());
    let service = Service::start_with(json!({"service": {"concurrency": 4}, "pool": {"ceiling": 8}}));
    let (next, paths) = (AtomicUsize::new(0), Mutex::new(BTreeMap::<String, usize>::new()));
    let run_until = |last: usize| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= last {
                            break;
                        }
                        let (request, status) = job(number);
                        let answer = service.run(&request);
                        assert_eq!(answer["status"], status, "{request}: {answer:#}");
                        let path = answer["path"].as_str().unwrap().to_owned();
                        *paths.lock().unwrap().entry(path).or_default() += 1;
                    }
                });
            }
        });
        next.store(last, Ordering::Relaxed);
    };
    // Buffers and pools have their size by then.
    run_until(count / 4);
    let early = at_rest(&service);
    run_until(count);
    let late = at_rest(&service);
    eprintln!("{count} runs, {:?}; KiB and descriptors of daemon and launcher: {early:?}, then {late:?}", paths.lock());
    for ((memory, descriptors), (memory_then, descriptors_then)) in early.into_iter().zip(late) {
        assert!(memory_then <= memory + memory / 5 + 512, "{memory} KiB have become {memory_then}");
        assert!(descriptors_then <= descriptors + 4, "{descriptors} descriptors have become {descriptors_then}");
    }
    for path in ["warm", "parked", "cold"] {
        assert!(paths.lock().unwrap().contains_key(path), "none was {path}");
    }
}

/// A session that is used in every way, and how it ends.
struct Used<'a> {
    service: &'a Service,
    path: String,
}

impl<'a> Used<'a> {
    fn create(service: &'a Service, runtime: &str) -> Self {
        let limits = json!({"disk_bytes": 16 << 20, "disk_files": 1000, "memory_bytes": 256 << 20});
        let new = json!({"runtime": runtime, "limits": limits}).to_string();
        let made = service.request("POST", "/v1/sessions", &JSON, &new);
        assert_eq!(made.status, 201, "{made:?}");
        Self { service, path: format!("/v1/sessions/{}", made.json()["id"].as_str().unwrap()) }
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers: &[(&str, &str)] = if body.starts_with('{') { &JSON } else { &[] };
        let answer = self.service.request(method, &format!("{}{path}", self.path), headers, body);
        assert!(answer.status < 300, "{method} {path} {body}: {} {:?}", answer.status, answer.body);
        answer
    }

    fn run(&self, program: Value, status: &str) -> Value {
        let answer = self.ask("POST", "/execs", &program.to_string()).json();
        assert_eq!(answer["result"]["status"], status, "{program}: {answer:#}");
        answer["result"].clone()
    }

    /// Programs of every kind of end.
    fn run_all(&self) {
        assert_eq!(self.run(json!({"shell": "cat", "stdin": "hello"}), "ok")["stdout"], "hello");
        assert_eq!(self.run(json!({"shell": "exit 3"}), "nonzero_exit")["exit_code"], 3);
        assert_eq!(self.run(json!({"argv": ["no-such-program"]}), "nonzero_exit")["exit_code"], 127);
        self.run(json!({"shell": "kill -9 $$"}), "signalled");
        let limited = |line: &str, limits: Value| json!({"shell": line, "limits": limits});
        self.run(limited("while :; do :; done", json!({"wall_time_ms": 50})), "wall_time_exceeded");
        self.run(limited("while echo x; do :; done", json!({"output_bytes": 1000})), "output_exceeded");
        // What it leaves behind goes with the session.
        self.run(json!({"shell": "sleep 1000 > /dev/null 2>&1 & sleep 1000 > /dev/null 2>&1 & true"}), "ok");
        let removed = self.ask("POST", "/execs", r#"{"shell": "sleep 1000", "detach": true}"#).json()["id"].clone();
        self.ask("DELETE", &format!("/execs/{removed}"), "");
    }

    fn terminal(&self) {
        let started = json!({"argv": ["sh"], "terminal": {"rows": 24, "columns": 80}, "detach": true}).to_string();
        let id = self.ask("POST", "/execs", &started).json()["id"].clone();
        self.ask("POST", &format!("/execs/{id}/resize"), r#"{"rows": 10, "columns": 100}"#);
        self.ask("POST", &format!("/execs/{id}/stdin"), "stty size; exit 4\n");
        let now = || self.ask("GET", &format!("/execs/{id}"), "").json();
        common::wait_for("the shell to end", || now()["state"] == "finished");
        let result = now()["result"].clone();
        assert_eq!(result["exit_code"], 4, "{result:#}");
        assert!(result["stdout"].as_str().unwrap().contains("10 100"), "{result:#}");
    }

    fn files(&self) {
        self.ask("PUT", "/fs/file?path=a/b", "first");
        assert_eq!(&self.ask("GET", "/fs/file?path=a/b", "").body[..], b"first");
        self.ask("POST", "/fs/copy", r#"{"from": "a/b", "to": "a/c"}"#);
        assert_eq!(self.ask("GET", "/fs/list?path=a", "").json()["entries"].as_array().unwrap().len(), 2);
        self.ask("DELETE", "/fs/file?path=a/c", "");
    }

    /// At rest, and while a program runs; back, and in a session of its own.
    fn snapshots(&self, while_running: bool) {
        if while_running {
            self.ask("POST", "/execs", r#"{"shell": "sleep 1000", "detach": true}"#);
        }
        let snapshot = self.ask("POST", "/snapshots", "").json()["id"].clone();
        self.ask("PUT", "/fs/file?path=a/b", "second");
        let fork = self.ask("POST", "/fork", &json!({"snapshot": snapshot}).to_string()).json();
        let fork = Used { service: self.service, path: format!("/v1/sessions/{}", fork["id"].as_str().unwrap()) };
        assert_eq!(&fork.ask("GET", "/fs/file?path=a/b", "").body[..], b"first");
        self.ask("POST", &format!("/snapshots/{snapshot}/rollback"), "");
        assert_eq!(&self.ask("GET", "/fs/file?path=a/b", "").body[..], b"first");
        self.ask("DELETE", &format!("/snapshots/{snapshot}"), "");
        fork.ask("DELETE", "", "");
    }

    fn pause(&self) {
        let id = self.ask("POST", "/execs", r#"{"shell": "sleep 1000", "detach": true}"#).json()["id"].clone();
        assert_eq!(self.ask("POST", "/pause", "").json()["status"], "paused");
        // Whoever needs it wakes it.
        self.run(json!({"shell": "true"}), "ok");
        self.ask("POST", &format!("/execs/{id}/signal"), r#"{"signal": "SIGTERM"}"#);
    }

    fn context(&self) {
        let id = self.ask("POST", "/contexts", r#"{"language": "python"}"#).json()["id"].clone();
        let told = self.ask("POST", &format!("/contexts/{id}/execute"), r#"{"code": "6 * 7"}"#).json();
        assert_eq!(told["outputs"][0]["data"]["text/plain"], "42", "{told:#}");
    }
}

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

fn use_session(service: &Service, number: usize) {
    let session = Used::create(service, if number.is_multiple_of(3) { "python@3.11" } else { "bash" });
    session.run_all();
    session.files();
    session.snapshots(number.is_multiple_of(2));
    session.terminal();
    session.pause();
    if number.is_multiple_of(3) {
        session.context();
    }
    match number % 5 {
        // With a program that runs, and one that waits for input.
        0 => drop(session.ask("POST", "/execs", r#"{"shell": "cat", "detach": true, "keep_stdin": true}"#)),
        1 => drop(session.ask("POST", "/pause", "")),
        2 => {
            // Saved, and back again.
            session.ask("POST", "/promote", "");
            assert_eq!(session.ask("POST", "/stop", "").json()["status"], "stopped");
            assert_eq!(&session.ask("GET", "/fs/file?path=a/b", "").body[..], b"first");
        }
        3 => {
            session.ask("POST", "/stop", "");
            return;
        }
        _ => {}
    }
    session.ask("DELETE", "", "");
}

/// Mounts of the launcher: all, and those that are workspaces of sessions.
fn mounts_of(service: &Service) -> (usize, usize) {
    let text = fs::read_to_string(format!("/proc/{}/mountinfo", service.launcher_pid())).unwrap();
    (text.lines().count(), text.lines().filter(|line| line.contains(" - tmpfs workspace ")).count())
}

/// What daemon and launcher hold while there is no session, and how many mounts the launcher has.
fn without_sessions(service: &Service) -> ([(u64, usize); 2], usize) {
    common::wait_for("every sandbox to be gone", || service.sandbox_processes().is_empty());
    // They are emptied in the background, and unmounted after that.
    common::wait_for("every workspace to be gone", || mounts_of(service).1 == 0);
    let counts = || (holds(service.daemon_pid()).1, holds(service.launcher_pid()).1);
    let before = std::cell::Cell::new(counts());
    common::wait_for("descriptors to settle", || before.replace(counts()) == before.get());
    ([holds(service.daemon_pid()), holds(service.launcher_pid())], mounts_of(service).0)
}

#[test]
fn many_sessions_leave_nothing_behind() {
    let count: usize = std::env::var("CODESANDBOX_SOAK").map_or(24, |count| count.parse().unwrap());
    let service = Service::start();
    let next = AtomicUsize::new(0);
    let use_until = |last: usize| {
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= last {
                            break;
                        }
                        use_session(&service, number);
                    }
                });
            }
        });
        next.store(last, Ordering::Relaxed);
    };
    let session = Used::create(&service, "bash");
    assert_eq!(mounts_of(&service).1, 1, "a session has one workspace, and it is seen here");
    session.ask("DELETE", "", "");
    // Buffers have their size by then, and the parts of the launcher that are made once are there.
    use_until(count.div_ceil(4).max(12));
    let (early, mounts) = without_sessions(&service);
    use_until(count.max(12));
    let (late, mounts_then) = without_sessions(&service);
    eprintln!(
        "{count} sessions; KiB and descriptors of daemon and launcher: {early:?}, then {late:?}; {mounts} mounts"
    );
    assert_eq!(mounts, mounts_then, "mounts are left");
    for ((memory, descriptors), (memory_then, descriptors_then)) in early.into_iter().zip(late) {
        assert!(memory_then <= memory + memory / 5 + 512, "{memory} KiB have become {memory_then}");
        assert!(descriptors_then <= descriptors + 4, "{descriptors} descriptors have become {descriptors_then}");
    }
    let listed = service.request("GET", "/v1/sessions", &[], "").json();
    assert_eq!(listed["sessions"], json!([]), "{listed:#}");
    let state = service.cache().parent().unwrap().join("state");
    let names = fs::read_dir(&state).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let is_known = |name: &str| name.starts_with("records.sqlite") || ["lock", "workspaces"].contains(&name);
    let strange: Vec<String> = names.filter(|name| !is_known(name)).collect();
    assert!(strange.is_empty(), "files are left: {strange:?}");
    assert_eq!(fs::read_dir(state.join("workspaces")).unwrap().count(), 0, "workspaces are left");
    let records = rusqlite::Connection::open(state.join("records.sqlite")).unwrap();
    for table in ["sessions", "execs", "snapshots", "contexts"] {
        let count = records.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0));
        assert_eq!(count.unwrap(), 0, "records of {table} are left");
    }
}
