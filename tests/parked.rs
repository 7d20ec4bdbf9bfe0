//! Sandboxes that wait for requests: who gets them, what becomes of them when they die, and when none
//! may wait.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::cell::Cell;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

use common::{Service, children, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A service in which so many sandboxes of Bash wait, and nothing else.
fn service_with(floor: u64) -> Service {
    Service::start_with(json!({"pool": {"ceiling": 8, "runtimes": {"bash": {"floor": floor}}}}))
}

/// Waits until so many sandboxes live, complete: an init and a program each.
fn wait_for_sandboxes(service: &Service, count: usize) {
    wait_for("sandboxes to wait", || sandboxes(service).len() == count);
}

/// Init and program of each sandbox.
fn sandboxes(service: &Service) -> Vec<(i32, i32)> {
    let mut all = children(service.launcher_pid());
    all.retain(|pid| common::name(*pid) != "uplinks");
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = fs::read_link(format!("/proc/{}/ns/pid", service.launcher_pid())).ok();
    // Init is the one whose children are in its own namespace, and the first of it.
    let is_init = |pid: &i32| {
        let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        text.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    let inits = all.iter().copied().filter(is_init);
    inits
        .filter_map(|init| {
            let inside = namespace(init).filter(|inside| Some(inside) != own.as_ref())?;
            let program = all.iter().find(|pid| **pid != init && namespace(**pid).as_ref() == Some(&inside))?;
            Some((init, *program))
        })
        .collect()
}

fn hit(pid: i32, signal: Signal) {
    kill(Pid::from_raw(pid), signal).unwrap();
}

fn assert_fine(answer: &Value) {
    assert_eq!(answer["run"]["stdout"], "fine\n", "{answer:#}");
    assert_eq!(answer["status"], "ok", "{answer:#}");
}

fn run_fine(service: &Service) -> Value {
    let answer = service.run_source("bash", "echo fine");
    assert_fine(&answer);
    answer
}

#[test]
fn the_path_of_a_sandbox_is_told() {
    let service = Service::start_with(json!({"pool": {"ceiling": 4, "runtimes": {"python-3.11": {"floor": 1}}}}));
    wait_for_sandboxes(&service, 1);
    let python = json!({"runtime": "python@3.11", "files": [{"content": "print('fine')"}]});
    // It may still be starting: then its job waits for it.
    let answer = service.run(&python);
    assert_fine(&answer);
    assert_eq!(answer["path"], "warm");
    assert_eq!(answer["retries"], 0);
    let overhead = &answer["overhead_ms"];
    let sum: f64 = ["queue", "prepare", "start", "collect"].iter().map(|part| overhead[part].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && (sum - overhead["total"].as_f64().unwrap()).abs() < 0.01, "{overhead}");
    assert_eq!(run_fine(&service)["path"], "cold", "nobody had asked for this runtime");
    wait_for_sandboxes(&service, 2);
    assert_eq!(run_fine(&service)["path"], "parked", "now somebody has");
}

#[test]
fn a_job_that_wants_another_disk_or_profile_gets_a_sandbox_of_its_own() {
    let service = service_with(2);
    wait_for_sandboxes(&service, 2);
    let with = |changes: Value| {
        let mut request = json!({"runtime": "bash", "files": [{"content": "echo fine"}]});
        common::merge(&mut request, changes);
        let answer = service.run(&request);
        assert_fine(&answer);
        answer["path"].clone()
    };
    assert_eq!(with(json!({"limits": {"disk_bytes": 1_000_000}})), "cold");
    assert_eq!(with(json!({"limits": {"disk_files": 100}})), "cold");
    assert_eq!(with(json!({"profile": "judge"})), "cold");
    assert_eq!(with(json!({"limits": {"memory_bytes": 50_000_000, "processes": 3}})), "parked", "the control");
}

#[test]
fn what_dies_while_it_waits_is_replaced_and_never_handed_out() {
    let service = service_with(2);
    for who in [|pair: (i32, i32)| pair.0, |pair: (i32, i32)| pair.1] {
        wait_for_sandboxes(&service, 2);
        let waiting = sandboxes(&service);
        hit(who(waiting[0]), Signal::SIGKILL);
        hit(who(waiting[1]), Signal::SIGKILL);
        let answer = run_fine(&service);
        assert!(answer["retries"].as_u64().unwrap() <= 1, "{answer:#}");
        wait_for("others to wait", || {
            let now = sandboxes(&service);
            now.len() == 2 && now.iter().all(|pair| !waiting.contains(pair))
        });
        assert_eq!(run_fine(&service)["path"], "parked");
    }
}

#[test]
fn a_job_whose_sandbox_dies_before_it_began_gets_another_and_the_answer_says_so() {
    let service = service_with(1);
    wait_for_sandboxes(&service, 1);
    let (init, _) = sandboxes(&service)[0];
    // Init can't give the program its job; nothing of the job has had any effect.
    hit(init, Signal::SIGSTOP);
    let answer = std::thread::scope(|scope| {
        let job = scope.spawn(|| run_fine(&service));
        // Another is made in place of the one that was handed over.
        wait_for_sandboxes(&service, 2);
        hit(init, Signal::SIGKILL);
        job.join().unwrap()
    });
    assert_eq!((answer["retries"].as_u64(), answer["path"].as_str()), (Some(1), Some("cold")), "{answer:#}");
}

#[test]
fn a_job_whose_sandbox_dies_while_it_runs_is_not_run_again() {
    for path in [0, 1] {
        let service = service_with(path);
        wait_for_sandboxes(&service, usize::try_from(path).unwrap());
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        let body = json!({"runtime": "bash", "files": [{"content": "echo begun; sleep 30"}]}).to_string();
        write!(
            stream,
            "POST /v1/run HTTP/1.1\r\nhost: x\r\naccept: application/x-ndjson\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let (begun, mut last) = (Cell::new(0), String::new());
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if line.contains("\"stdout\"") && line.contains("begun") {
                begun.set(begun.get() + 1);
                let running = sandboxes(&service).into_iter().find(|(_, program)| {
                    fs::read_to_string(format!("/proc/{program}/comm")).is_ok_and(|name| name.trim() == "bash")
                });
                hit(running.expect("it runs").0, Signal::SIGKILL);
            }
            if line.contains("\"event\"") {
                last = line;
            }
        }
        let last: Value = serde_json::from_str(&last).unwrap();
        assert_eq!(last["event"], "failed", "{last:#}");
        assert_eq!(last["problem"]["type"], "urn:codesandbox:problem:sandbox-lost", "{last:#}");
        assert_eq!(begun.get(), 1, "it ran once");
        run_fine(&service);
    }
}

#[test]
fn a_changed_profile_retires_what_waits_at_once() {
    let service = service_with(2);
    wait_for_sandboxes(&service, 2);
    let before = sandboxes(&service);
    service.configure(json!({"profiles": {"default": {"denied_syscall": "kill"}}}));
    service.reload_daemon();
    wait_for("others to wait", || {
        let now = sandboxes(&service);
        now.len() == 2 && now.iter().all(|pair| !before.contains(pair))
    });
    let answer = service.run_source("bash", "exec unshare --user true");
    assert_eq!((answer["path"].as_str(), answer["status"].as_str()), (Some("parked"), Some("syscall_denied")));
}

#[test]
fn a_runtime_that_nobody_asks_for_any_more_holds_nothing() {
    let service = Service::start_with(json!({"pool": {"ceiling": 8, "idle_ms": 3000}}));
    assert_eq!(sandboxes(&service).len(), 0, "nobody has asked yet");
    run_fine(&service);
    wait_for_sandboxes(&service, 1);
    wait_for_sandboxes(&service, 0);
    assert_eq!(run_fine(&service)["path"], "cold");
}

#[test]
fn nothing_waits_where_memory_must_stay_available() {
    let service = service_with(2);
    wait_for_sandboxes(&service, 2);
    // More than the host has.
    service.configure(json!({"pool": {"reserve_bytes": 1u64 << 50}}));
    service.reload_daemon();
    wait_for_sandboxes(&service, 0);
    for _ in 0..3 {
        assert_eq!(run_fine(&service)["path"], "cold");
    }
    let eight = json!({"bash": {"floor": 8}});
    service.configure(json!({"pool": {"reserve_bytes": 0, "runtimes": eight}}));
    service.reload_daemon();
    wait_for_sandboxes(&service, 8);
    service.configure(json!({"pool": {"memory_bytes": 16 << 20}}));
    service.reload_daemon();
    wait_for("as many to wait as the budget has room for", || (1..8).contains(&sandboxes(&service).len()));
    for _ in 0..10 {
        run_fine(&service);
        assert!(sandboxes(&service).len() < 8);
    }
}

#[test]
fn what_waits_is_behind_every_wall() {
    let service = service_with(1);
    wait_for_sandboxes(&service, 1);
    let (_, program) = sandboxes(&service)[0];
    let is_walled = || {
        let text = fs::read_to_string(format!("/proc/{program}/status")).unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim().to_owned()).unwrap_or_default()
        };
        let capabilities = ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"];
        capabilities.iter().all(|set| field(set) == "0000000000000000")
            && field("NoNewPrivs:") == "1"
            && field("Seccomp:") == "2"
            && field("Seccomp_filters:") == "1"
    };
    wait_for("the program to be behind every wall", is_walled);
    // The control: the launcher is behind none of them.
    let launcher = fs::read_to_string(format!("/proc/{}/status", service.launcher_pid())).unwrap();
    assert!(launcher.contains("NoNewPrivs:\t0") || launcher.contains("Seccomp:\t0"), "{launcher}");
    // It has nothing open but what it needs to wait.
    let open = fs::read_dir(format!("/proc/{program}/fd")).unwrap().count();
    assert!(open <= 8, "{open}");
}

#[test]
fn many_at_once_all_succeed_and_whoever_comes_last_gets_what_is_made_then() {
    let service = Service::start_with(json!({
        "service": {"concurrency": 8}, "pool": {"ceiling": 8, "runtimes": {"bash": {"floor": 4}}},
    }));
    wait_for_sandboxes(&service, 4);
    let paths: Vec<String> = std::thread::scope(|scope| {
        let jobs: Vec<_> = (0..60)
            .map(|number| {
                let service = &service;
                scope.spawn(move || {
                    let answer = service.run_source("bash", &format!("echo {number}"));
                    assert_eq!(answer["run"]["stdout"], format!("{number}\n"), "{answer:#}");
                    answer["path"].as_str().unwrap().to_owned()
                })
            })
            .collect();
        jobs.into_iter().map(|job| job.join().unwrap()).collect()
    });
    assert!(paths.iter().filter(|path| *path == "parked").count() >= 4, "{paths:?}");
}
