//! Many runs, one after another and beside one another, in several languages and with every kind of end:
//! nothing is left behind, and memory stays as it is.
//!
//! `CODESANDBOX_SOAK` says how many; a few hundred where it does not.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::Service;
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
