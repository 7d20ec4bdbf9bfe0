//! What happens when a part dies, when there is too much to do, and when clients misbehave.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use common::{Service, children, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use payloads::{Live, Outside, assert_status, assert_unaffected, job, job_with, stdout};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

#[test]
fn a_daemon_that_is_killed_leaves_no_sandbox() {
    let mut service = Service::start();
    let mut live = Live::start(&service, &job("busy.py", &["3", "0"]));
    live.wait_for("before");
    wait_for("its children", || service.sandbox_processes().len() >= 4);
    let inside = service.sandbox_processes();
    service.kill_daemon();
    service.assert_no_sandbox();
    wait_for("its processes to be gone", || {
        inside.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
    service.restart_daemon();
    assert_unaffected(&service);
}

/// With the launcher dead by this, the running job is told so, new ones are refused, and all is
/// well again when it is back.
fn survives_the_launcher(die: impl FnOnce(&mut Service)) {
    let mut service = Service::start();
    let mut live = Live::start(&service, &job("busy.py", &["3", "0"]));
    live.wait_for("before");
    let inside = service.sandbox_processes();
    die(&mut service);
    let last = live.last();
    assert_eq!((&last["event"], &last["problem"]["status"]), (&json!("failed"), &json!(503)), "{last}");
    wait_for("its processes to be gone", || {
        inside.iter().all(|pid| !std::path::Path::new(&format!("/proc/{pid}")).exists())
    });
    let refused = service.post(&job("sleeper.py", &[]));
    assert_eq!(refused.status, 503);
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(service.request("GET", "/health", &[], "").status, 503);
    service.restart_launcher();
    wait_for("the launcher to be back", || service.request("GET", "/health", &[], "").status == 200);
    assert_unaffected(&service);
}

#[test]
fn a_launcher_whose_stub_is_killed_is_missed_and_comes_back() {
    survives_the_launcher(Service::kill_launcher);
}

#[test]
fn a_launcher_that_is_killed_is_missed_and_comes_back() {
    survives_the_launcher(|service| {
        kill(Pid::from_raw(service.launcher_pid()), Signal::SIGKILL).unwrap();
        let stub = service.launcher_stub_pid();
        wait_for("the stub to have nothing left", || children(stub).is_empty());
        service.kill_launcher();
    });
}

#[test]
fn a_waiting_answer_says_that_the_launcher_is_gone() {
    let mut service = Service::start();
    let socket = service.socket();
    let waiting = std::thread::spawn(move || {
        let headers = [("content-type", "application/json")];
        common::request(&socket, "POST", "/v1/run", &headers, job("sleeper.py", &[]).to_string().as_bytes()).unwrap()
    });
    wait_for("the job to run", || service.sandbox_processes().len() >= 2);
    service.kill_launcher();
    assert_eq!(waiting.join().unwrap().status, 503);
}

#[test]
fn a_launcher_that_is_told_to_stop_at_once_stops() {
    // A signal that comes while it starts is not lost.
    for _ in 0..5 {
        drop(Service::start());
    }
}

#[test]
fn an_init_that_is_killed_is_our_fault_and_harms_nobody_else() {
    let service = Service::start();
    let mut live = Live::start(&service, &job("sleeper.py", &[]));
    live.wait_for("before");
    let is_init = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        // Its last id, that of the innermost namespace, is 1.
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    let init = children(service.launcher_pid()).into_iter().find(is_init).unwrap();
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
    let last = live.last();
    assert_eq!((&last["event"], &last["problem"]["status"]), (&json!("failed"), &json!(500)), "{last}");
    assert_unaffected(&service);
}

#[test]
fn a_daemon_that_is_told_to_stop_finishes_what_runs_and_refuses_the_rest() {
    let mut service = Service::start_with(json!({"service": {"concurrency": 1}}));
    let source = "import sys\nprint('before', flush=True)\nsys.stdout.write(sys.stdin.read())\n\
                  __import__('time').sleep(4)\nprint('after')";
    let mut live = Live::start(
        &service,
        &json!({
            "runtime": "python@3.11", "files": [{"content": source}], "stdin": "x", "limits": {"wall_time_ms": 20_000},
        }),
    );
    live.wait_for("before");
    let socket = service.socket();
    let queued = std::thread::spawn(move || {
        let headers = [("content-type", "application/json")];
        common::request(&socket, "POST", "/v1/run", &headers, job("sleeper.py", &[]).to_string().as_bytes())
    });
    let is_queued = || service.request("GET", "/health", &[], "").json()["queued"] == 1;
    wait_for("the second job to wait", is_queued);
    service.terminate_daemon();
    let last = live.last();
    assert_eq!((&last["event"], &last["status"]), (&json!("finished"), &json!("ok")), "{last}");
    assert!(last["run"]["stdout"].as_str().unwrap().ends_with("after\n"), "{last}");
    assert_eq!(queued.join().unwrap().map(|answer| answer.status), Some(503));
    assert!(service.wait_for_daemon().success());
    assert!(service.try_request("GET", "/health", &[], "").is_none());
}

#[test]
fn a_daemon_that_is_told_to_stop_does_not_wait_for_ever() {
    let mut service = Service::start_with(json!({"service": {"stop_deadline_ms": 300}}));
    let mut live = Live::start(&service, &job_with("sleeper.py", &[], json!({"limits": {"wall_time_ms": 60_000}})));
    live.wait_for("before");
    let began = Instant::now();
    service.terminate_daemon();
    assert_eq!(live.last()["status"], "cancelled");
    assert!(service.wait_for_daemon().success());
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

/// Starts clients that wait for their answers until the service has this many jobs in its queue.
fn fill_queue(service: &Service, jobs: usize) -> Vec<UnixStream> {
    let body = job("sleeper.py", &[]).to_string();
    let mut clients = Vec::new();
    for count in 1..=jobs {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        let length = body.len();
        write!(stream, "POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}").unwrap();
        clients.push(stream);
        wait_for("the job to wait", || service.request("GET", "/health", &[], "").json()["queued"] == count);
    }
    clients
}

#[test]
fn full_queue_refuses() {
    for (limits, kind) in [
        (json!({"queue_length": 2}), "queue-full"),
        (json!({"queue_length": 9, "queue_length_per_client": 2}), "client-queue-full"),
    ] {
        let mut config = json!({"concurrency": 1});
        common::merge(&mut config, limits);
        let service = Service::start_with(json!({"service": config}));
        let mut live = Live::start(&service, &job("sleeper.py", &[]));
        live.wait_for("before");
        let clients = fill_queue(&service, 2);
        let refused = service.post(&job("sleeper.py", &[]));
        assert_eq!(refused.status, 429);
        assert_eq!(refused.json()["type"], format!("urn:codesandbox:problem:{kind}"));
        assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
        // Hanging up frees the places.
        drop(clients);
        wait_for("the queue to be empty", || service.request("GET", "/health", &[], "").json()["queued"] == 0);
        drop(live);
        assert_unaffected(&service);
    }
}

#[test]
fn many_clients_at_once_all_get_their_own_answer() {
    let service = Service::start();
    let socket = service.socket();
    std::thread::scope(|scope| {
        for client in 0..32 {
            let socket = &socket;
            scope.spawn(move || {
                let source = format!("echo {client}; read -r line; echo $line");
                let body = json!({"runtime": "bash", "files": [{"content": source}], "stdin": format!("in{client}\n")});
                let headers = [("content-type", "application/json")];
                let answer = common::request(socket, "POST", "/v1/run", &headers, body.to_string().as_bytes()).unwrap();
                assert_eq!(answer.status, 200);
                assert_eq!(stdout(&answer.json()), format!("{client}\nin{client}\n"));
            });
        }
    });
}

#[test]
fn slow_clients_hold_nobody_up() {
    let service = Service::start();
    let slow: Vec<UnixStream> = (0..100)
        .map(|number| {
            let mut stream = UnixStream::connect(service.socket()).unwrap();
            let text: &[u8] = match number % 4 {
                0 => b"",
                1 => b"POST /v1/run HT",
                2 => b"POST /v1/run HTTP/1.1\r\nHost: x\r\nX-Slow: ",
                _ => b"POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
            };
            stream.write_all(text).unwrap();
            stream
        })
        .collect();
    let began = Instant::now();
    assert_unaffected(&service);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    drop(slow);
    assert_unaffected(&service);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let service = Service::start();
    let limits = json!({"limits": {"output_bytes": 16_777_216, "wall_time_ms": 700}});
    let mut live = Live::start(&service, &job_with("printer.py", &["1", "16777216"], limits));
    let first = live.next().unwrap();
    assert_eq!(first["event"], "started");
    assert_unaffected(&service);
    // What it did not read before the end is there still.
    let last = live.last();
    assert_eq!(last["event"], "finished");
}

#[test]
fn what_is_no_http_harms_nobody() {
    let service = Service::start();
    let head = "POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    let texts: Vec<Vec<u8>> = vec![
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc".to_vec(),
        b"\0\0\0\0\r\n\r\n".to_vec(),
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
        b"GET /v1/runs/%00%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        b"DELETE /v1/runs/%ff HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        b"DELETE /v1/runs/..%2f..%2fetc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec(),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20)).into_bytes(),
        format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(20_000)).into_bytes(),
        format!("{head}Content-Length: 5\r\nContent-Length: 50\r\n\r\nhello").into_bytes(),
        format!("{head}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n").into_bytes(),
        format!("{head}Content-Length: -1\r\n\r\n").into_bytes(),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n").into_bytes(),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\nhel").into_bytes(),
        format!("{head}Content-Length: 18446744073709551615\r\n\r\n{{").into_bytes(),
    ];
    for text in texts {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        // It may hang up before it has read all.
        stream.write_all(&text).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let line = String::from_utf8_lossy(&answer);
        let refused = answer.is_empty() || line.starts_with("HTTP/1.1 4") || line.starts_with("HTTP/1.0 4");
        assert!(refused, "{:?} was answered by {:.80}", String::from_utf8_lossy(&text[..text.len().min(80)]), line);
    }
    assert_unaffected(&service);
}

#[test]
fn a_body_that_is_too_large_is_refused() {
    let service = Service::start_with(json!({"service": {"body_bytes": 1000}}));
    let headers = [("content-type", "application/json")];
    let refused = service.request("POST", "/v1/run", &headers, &"x".repeat(1001));
    assert_eq!((refused.status, &refused.json()["allowed"]["maximum"]), (413, &json!(1000)));
    // Where no length is declared, what arrives counts.
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    let chunk = format!("400\r\n{}\r\n", "x".repeat(0x400));
    write!(
        stream,
        "POST /v1/run HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}"
    )
    .unwrap();
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
    assert_unaffected(&service);
}

#[test]
fn malformed_requests_name_what_is_wrong() {
    let service = Service::start();
    let good = json!({"runtime": "python@3.11", "files": [{"content": ""}]});
    let headers = [("content-type", "application/json")];
    let huge = "9".repeat(400);
    let cases: Vec<(Value, &str)> = vec![
        (json!({"runtime": "nothing"}), "runtime"),
        (json!({"runtime": ""}), "runtime"),
        (json!({"runtime": "python@99"}), "runtime"),
        (json!({"runtime": "../../etc"}), "runtime"),
        (json!({"runtime": 3}), "runtime"),
        (json!({"files": []}), "files"),
        (json!({"files": [{}]}), "files[0]"),
        (json!({"files": [{"content": "", "content_base64": ""}]}), "files[0].content_base64"),
        (json!({"files": [{"content_base64": "%%"}]}), "files[0].content_base64"),
        (json!({"files": [{"content": ""}, {"content": ""}]}), "files[1].path"),
        (json!({"files": [{"path": "a", "content": ""}, {"path": "a", "content": ""}]}), "files[1].path"),
        (json!({"files": [{"path": "-rf", "content": 1}]}), "files[0].content"),
        (json!({"files": vec![json!({"path": "x", "content": ""}); 5000]}), "files"),
        (json!({"args": ["a\0b"]}), "args[0]"),
        (json!({"args": vec!["x".repeat(1000); 500]}), "args"),
        (json!({"env": {"": "x"}}), "env."),
        (json!({"env": {"A=B": "x"}}), "env.A=B"),
        (json!({"env": {"A": "\0"}}), "env.A"),
        (json!({"stdin": 5}), "stdin"),
        (json!({"stdin": "a", "stdin_base64": "YQ=="}), "stdin_base64"),
        (json!({"profile": "none such"}), "profile"),
        (json!({"limits": {"wall_time_ms": 0}}), "limits.wall_time_ms"),
        (json!({"limits": {"wall_time_ms": -1}}), "limits.wall_time_ms"),
        (json!({"limits": {"wall_time_ms": 1.5}}), "limits.wall_time_ms"),
        (json!({"limits": {"wall_time_ms": "1"}}), "limits.wall_time_ms"),
        (json!({"limits": {"wall_time_ms": u64::MAX}}), "limits.wall_time_ms"),
        (json!({"limits": {"memory_bytes": 1}}), "limits.memory_bytes"),
        (json!({"limits": {"processes": 100_000}}), "limits.processes"),
        (json!({"limits": {"unheard": 1}}), "limits.unheard"),
        (json!({"compile_limits": {"disk_bytes": 0}}), "compile_limits.disk_bytes"),
        (json!({"outputs": ["/etc/*"]}), "outputs[0]"),
        (json!({"outputs": ["a", "../*"]}), "outputs[1]"),
        (json!({"outputs": ["[a"]}), "outputs[0]"),
        (json!({"outputs": ["{a"]}), "outputs[0]"),
        (json!({"outputs": vec!["a"; 100]}), "outputs"),
        (json!({"outputs": ["a".repeat(1000)]}), "outputs[0]"),
        (json!({"unheard": 1}), "unheard"),
    ];
    for (changes, field) in cases {
        let mut request = good.clone();
        common::merge(&mut request, changes.clone());
        let refused = service.post(&request);
        let problem = refused.json();
        let shown: String = changes.to_string().chars().take(120).collect();
        assert!([404, 422].contains(&refused.status), "{shown}: {problem}");
        let named = problem["field"].as_str().unwrap_or_default();
        assert!(named == field || named.starts_with(&format!("{field}.")), "{shown}: {problem}");
        assert_eq!(refused.headers["content-type"], "application/problem+json");
    }
    let number = format!(
        "{{\"runtime\": \"python@3.11\", \"files\": [{{\"content\": \"\"}}], \"limits\": {{\"processes\": {huge}}}}}"
    );
    let deep = "[".repeat(100_000);
    let nested = format!("{{\"runtime\": \"python@3.11\", \"files\": {}", "[".repeat(100_000));
    for body in
        ["", "{", "nul", "[]", "\"x\"", "{\"runtime\": \"\u{feff}", number.as_str(), deep.as_str(), nested.as_str()]
    {
        let refused = service.request("POST", "/v1/run", &headers, body);
        assert!([400, 422].contains(&refused.status), "{:.60}: {}", body, refused.json());
    }
    for (headers, status) in [
        (&[][..], 415),
        (&[("content-type", "text/plain")][..], 415),
        (&[("content-type", "application/json"), ("accept", "image/png")][..], 406),
    ] {
        assert_eq!(service.request("POST", "/v1/run", headers, &good.to_string()).status, status);
    }
    assert_eq!(service.request("GET", "/v1/run", &[], "").status, 405);
    assert_eq!(service.request("GET", "/nothing", &[], "").status, 404);
    assert_unaffected(&service);
}

#[test]
fn more_input_than_the_disk_holds_is_refused() {
    let service = Service::start();
    let many: Vec<Value> = (0..100).map(|index| json!({"path": format!("d{index}/x"), "content": "x"})).collect();
    let mut files = vec![json!({"content": ""})];
    files.extend(many);
    let request = json!({"runtime": "python@3.11", "files": files, "limits": {"disk_files": 50}});
    let refused = service.post(&request);
    assert_eq!(refused.status, 422, "{}", refused.json());
    assert!(refused.json()["field"].as_str().unwrap().starts_with("files"), "{}", refused.json());
    assert_unaffected(&service);
}

/// Programs that would never end, and what they are told.
const ENDLESS: [(&str, &[&str]); 8] = [
    ("sleeper.py", &[]),
    ("sleeper.py", &["stubborn"]),
    ("busy.py", &["1", "0"]),
    ("busy.py", &["4", "0"]),
    ("busy.py", &["4", "0", "orphans"]),
    ("busy.py", &["100000", "0.01", "relay"]),
    ("fork_bomb.sh", &[]),
    ("printer.py", &["1", "999999999999"]),
];

#[test]
fn every_run_ends_in_time_whatever_its_limits_are() {
    for (payload, args) in [("sleeper.py", &["stubborn"][..]), ("busy.py", &["4", "0"])] {
        Outside::new().start(payload, args, None).wait_for_line("before");
    }
    let limits = (
        (1_u64..900, 1_u64..900, 10_u64..4000, 4_u64 << 20..300 << 20, 1_u64..60, 8_u64..4096),
        (0_u64..1 << 20, 1_u64 << 16..1 << 26, 16_u64..1000, 0_u64..1 << 20, 1_u64 << 16..1 << 28),
    );
    let strategy = (0..ENDLESS.len(), limits, prop::sample::select(vec!["default", "judge"]));
    let mut runner = TestRunner::default();
    let cases = (0..24).map(|_| strategy.new_tree(&mut runner).unwrap().current()).collect::<Vec<_>>();
    let cases = Mutex::new(cases);
    let service = Service::start_with(json!({"service": {"concurrency": 4}}));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while let Some((program, (first, second), profile)) = { cases.lock().unwrap().pop() } {
                    let (payload, args) = ENDLESS[program];
                    let (wall, cpu, millis, memory, processes, open) = first;
                    let (size, disk, entries, output, stack) = second;
                    let mut job = job_with(payload, args, json!({"profile": profile, "limits": {
                        "wall_time_ms": wall, "cpu_time_ms": cpu, "cpu_millis": millis.min(2000), "memory_bytes": memory,
                        "processes": processes, "open_files": open.min(1024), "file_size_bytes": size,
                        "disk_bytes": disk, "disk_files": entries, "output_bytes": output, "stack_bytes": stack,
                    }}));
                    job["outputs"] = json!(["**"]);
                    let answer = service.run(&job);
                    let took = answer["run"]["usage"]["wall_time_ms"].as_f64().unwrap();
                    assert!(took <= wall as f64 + 5000.0, "{job}: {took} ms");
                    assert_ne!(answer["status"], "ok", "{job}: {answer}");
                }
            });
        }
    });
    assert_unaffected(&service);
}

#[test]
fn the_smallest_limits_end_well_or_in_a_verdict() {
    let service = Service::start();
    for limits in [
        json!({"memory_bytes": 4 << 20}),
        json!({"disk_bytes": 65_536}),
        json!({"disk_files": 16}),
        json!({"open_files": 8}),
        json!({"stack_bytes": 65_536}),
        json!({"wall_time_ms": 1}),
        json!({"cpu_time_ms": 1}),
        json!({"processes": 1}),
        json!({"cpu_millis": 10, "wall_time_ms": 2000}),
        json!({"file_size_bytes": 0}),
        json!({"output_bytes": 0}),
    ] {
        let answer = service.run(&json!({
            "runtime": "python@3.11", "files": [{"content": "print(1)"}], "limits": limits,
        }));
        assert!(answer["run"]["status"].is_string(), "{limits}: {answer}");
        assert_ne!(answer["run"]["status"], "syscall_denied", "{limits}: {answer}");
    }
    assert_unaffected(&service);
}

#[test]
fn a_stream_of_a_job_that_fails_to_compile_ends_with_its_outcome() {
    let service = Service::start();
    let mut live = Live::start(&service, &json!({"runtime": "c@12", "files": [{"content": "x"}]}));
    let last = live.last();
    assert_eq!((&last["event"], &last["status"]), (&json!("finished"), &json!("compile_failed")));
    let answer = service.run_source("c@12", "x");
    assert_status(&answer, "compile_failed");
}
