//! Clients of the configuration as they meet their bounds, and the metrics socket that shows it.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use common::{Service, skip, wait_for};
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use payloads::{Live, PYTHON, job, job_with};
use serde_json::{Value, json};

/// A user of no client.
const STRANGER: u32 = 61_234;

/// A service with two slots, whose client `mine` is whoever runs this test.
fn service(concurrency: usize, queue_length: usize) -> Service {
    let mine = json!({
        "users": [getuid().as_raw()],
        "weight": 3,
        "concurrency": concurrency,
        "queue_length": queue_length,
        "profiles": ["default", "agent"],
    });
    Service::start_with(json!({"service": {"concurrency": 2}, "clients": {"mine": mine}}))
}

fn metrics(socket: &Path) -> String {
    let answer = common::request(socket, "GET", "/metrics", &[], b"").unwrap();
    String::from_utf8(answer.body.to_vec()).unwrap()
}

fn wait_for_metric(service: &Service, line: &str) {
    wait_for(line, || metrics(&service.socket()).lines().any(|told| told == line));
}

/// A client that waits for its answer.
fn submit(service: &Service, body: &Value) -> UnixStream {
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    let body = body.to_string();
    let length = body.len();
    let head = format!(
        "POST /v1/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
    stream
}

#[test]
fn a_profile_outside_of_the_list_is_refused() {
    let service = service(0, 9);
    let refused = service.post(&job_with("sleeper.py", &[], json!({"profile": "judge"})));
    assert_eq!((refused.status, refused.json()["allowed"].clone()), (403, json!(["agent", "default"])));
    assert_eq!(refused.headers["content-type"], "application/problem+json");
    assert_eq!(service.run_source("bash", "echo fine")["run"]["stdout"], "fine\n");
}

#[test]
fn a_client_is_held_to_its_bounds_and_its_part_is_told() {
    let service = service(1, 1);
    let mut live = Live::start(&service, &job("sleeper.py", &[]));
    live.wait_for("before");
    // One of the two slots is free, and the client has all that it may.
    let mut waiting = submit(&service, &json!({"runtime": "bash", "files": [{"content": "echo later"}]}));
    wait_for_metric(&service, r#"codesandbox_client_queue_jobs{client="mine"} 1"#);
    let refused = service.post(&job("sleeper.py", &[]));
    let problem = refused.json();
    assert_eq!((refused.status, &problem["type"]), (429, &json!("urn:codesandbox:problem:client-queue-full")));
    assert!(problem["detail"].as_str().unwrap().contains("clients.mine.queue_length"), "{problem}");
    assert!(refused.headers.contains_key("retry-after"));
    let told = metrics(&service.socket());
    for line in [
        r#"codesandbox_client_running_jobs{client="mine"} 1"#,
        r#"codesandbox_client_started_jobs_total{client="mine"} 1"#,
    ] {
        assert!(told.lines().any(|told| told == line), "{line} is not in\n{told}");
    }
    drop(live);
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("later"), "{answer}");
    wait_for_metric(&service, r#"codesandbox_client_running_jobs{client="mine"} 0"#);
    wait_for_metric(&service, r#"codesandbox_client_started_jobs_total{client="mine"} 2"#);
}

#[test]
fn a_user_in_no_client_is_one_and_is_not_held_up() {
    if !getuid().is_root() {
        return skip("only root can become another user");
    }
    let service = service(1, 9);
    std::fs::set_permissions(service.socket(), std::fs::Permissions::from_mode(0o666)).unwrap();
    let mut live = Live::start(&service, &job("sleeper.py", &[]));
    live.wait_for("before");
    let _waiting = submit(&service, &job("sleeper.py", &[]));
    wait_for_metric(&service, r#"codesandbox_client_queue_jobs{client="mine"} 1"#);
    let asks = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                s.sendall(sys.argv[2].encode())\nprint(b''.join(iter(lambda: s.recv(65536), b'')).decode())";
    let body = json!({"runtime": "bash", "files": [{"content": "echo mine"}], "profile": "judge"}).to_string();
    let length = body.len();
    let request = format!(
        "POST /v1/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    let mut stranger = Command::new(PYTHON);
    stranger.args(["-I", "-c", asks]).arg(service.socket()).arg(request).uid(STRANGER).current_dir("/");
    let answer = stranger.output().unwrap();
    assert!(String::from_utf8_lossy(&answer.stdout).contains("mine\\n"), "{answer:?}");
    wait_for_metric(&service, &format!("codesandbox_client_started_jobs_total{{client=\"{STRANGER}\"}} 1"));
}

#[test]
fn a_changed_client_is_held_to_what_it_is_now() {
    let service = service(1, 9);
    let mut live = Live::start(&service, &job("sleeper.py", &[]));
    live.wait_for("before");
    let mut waiting = submit(&service, &json!({"runtime": "bash", "files": [{"content": "echo later"}]}));
    wait_for_metric(&service, r#"codesandbox_client_queue_jobs{client="mine"} 1"#);
    service.configure(json!({"clients": {"mine": {"concurrency": 0, "profiles": ["judge"]}}}));
    service.reload_daemon();
    // The other slot is free for it now, and is not asked for anew.
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("later"), "{answer}");
    let body = json!({"runtime": "bash", "files": [{"content": "true"}]});
    wait_for("the new list of profiles", || service.post(&body).status == 403);
    let mut body = body;
    body["profile"] = json!("judge");
    assert_eq!(service.run(&body)["status"], "ok");
}

/// A daemon with a launcher of its own, for tests of its sockets.
struct Embedded {
    directory: tempfile::TempDir,
    daemon: Child,
}

impl Embedded {
    /// Starts it by a command that ends in the daemon's arguments.
    fn start(directory: tempfile::TempDir, mut command: Command) -> Self {
        let config = directory.path().join("config.json");
        std::fs::write(&config, r#"{"service":{"check_at_start":false}}"#).unwrap();
        command.arg("--embedded").arg("--config").arg(config).stdin(Stdio::null()).env("RUST_LOG", "warn");
        let daemon = command.spawn().unwrap();
        let daemon = Self { directory, daemon };
        wait_for("the daemon", || {
            common::request(&daemon.api(), "GET", "/health", &[], b"").is_some_and(|answer| answer.status == 200)
        });
        daemon
    }

    fn api(&self) -> std::path::PathBuf {
        self.directory.path().join("api.sock")
    }

    fn metrics(&self) -> std::path::PathBuf {
        self.directory.path().join("metrics.sock")
    }

    /// The metrics socket tells what ran on the other one, and runs nothing.
    fn assert_serves_both(&self) {
        let run = json!({"runtime": "bash", "files": [{"content": "true"}]}).to_string();
        let headers = [("content-type", "application/json")];
        let post = |socket: &Path| common::request(socket, "POST", "/v1/run", &headers, run.as_bytes()).unwrap().status;
        assert_eq!(post(&self.api()), 200);
        assert_eq!(post(&self.metrics()), 404);
        let told = metrics(&self.metrics());
        assert!(told.lines().any(|line| line.starts_with("codesandbox_runs_total{language=\"bash\"")), "{told}");
        assert_eq!(common::request(&self.metrics(), "GET", "/health", &[], b"").unwrap().status, 200);
    }

    /// The report of sizes has a column of runs.
    fn assert_sizes_tell_runs(&self) {
        let sizes = Command::new(env!("CARGO_BIN_EXE_codesandbox"))
            .args(["runtimes", "--sizes", "--json", "--socket"])
            .arg(self.api())
            .output()
            .unwrap();
        let report: Value = serde_json::from_slice(&sizes.stdout).unwrap_or_else(|_| panic!("{sizes:?}"));
        let mut runtimes = report["runtimes"].as_array().unwrap().iter();
        assert!(runtimes.any(|size| size["language"] == "bash" && size["runs"] == 1), "{report}");
    }

    /// Tells it to stop, and waits until it has.
    fn stop(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.daemon.id()).unwrap()), Signal::SIGTERM).unwrap();
        assert!(self.daemon.wait().unwrap().success());
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        // The error is that it has ended, as it should.
        self.daemon.kill().ok();
        self.daemon.wait().ok();
    }
}

#[test]
fn a_metrics_socket_by_path_goes_away_with_the_daemon() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_codesandboxd"));
    command.arg("--listen").arg(directory.path().join("api.sock"));
    command.arg("--listen-metrics").arg(directory.path().join("metrics.sock"));
    let mut daemon = Embedded::start(directory, command);
    daemon.assert_serves_both();
    daemon.assert_sizes_tell_runs();
    daemon.stop();
    assert!(!daemon.metrics().exists() && !daemon.api().exists());
}

/// A shell that hands these sockets over as systemd does, and becomes the daemon.
fn hands_over(sockets: &[OwnedFd], names: &str) -> Command {
    // Out of the way of 3 and what follows, and open across exec, unlike what Rust opens.
    let high: Vec<String> =
        sockets.iter().map(|socket| fcntl(socket.as_fd(), FcntlArg::F_DUPFD(40)).unwrap().to_string()).collect();
    assert!(sockets.iter().all(|socket| socket.as_raw_fd() < 40));
    let moves: String =
        high.iter().enumerate().map(|(index, fd)| format!("exec {}<&{fd} {fd}<&-; ", index + 3)).collect();
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{moves} export LISTEN_PID=$$; exec \"$@\"")).arg("bash");
    command.env("LISTEN_FDS", sockets.len().to_string()).env("LISTEN_FDNAMES", names);
    command.arg(env!("CARGO_BIN_EXE_codesandboxd"));
    command
}

#[test]
fn a_metrics_socket_is_told_by_its_name() {
    for (first, second, names) in
        [("metrics.sock", "api.sock", "metrics:codesandboxd.socket"), ("api.sock", "metrics.sock", ":metrics")]
    {
        let directory = tempfile::tempdir().unwrap();
        let sockets = [first, second].map(|name| UnixListener::bind(directory.path().join(name)).unwrap().into());
        let mut daemon = Embedded::start(directory, hands_over(&sockets, names));
        daemon.assert_serves_both();
        daemon.stop();
    }
}

#[test]
fn a_single_socket_without_a_name_is_that_of_the_api() {
    let directory = tempfile::tempdir().unwrap();
    let sockets = [UnixListener::bind(directory.path().join("api.sock")).unwrap().into()];
    let mut command = hands_over(&sockets, "");
    command.env_remove("LISTEN_FDNAMES");
    let mut daemon = Embedded::start(directory, command);
    daemon.stop();
}

#[test]
fn two_sockets_for_one_purpose_are_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let sockets = ["a", "b"].map(|name| UnixListener::bind(directory.path().join(name)).unwrap().into());
    let output = hands_over(&sockets, "a:b").arg("--launcher").arg(directory.path().join("x")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("FileDescriptorName=metrics"), "{output:?}");
}

#[test]
fn a_socket_of_tcp_is_told_by_its_name_and_asks_for_tokens() {
    let directory = tempfile::tempdir().unwrap();
    let api = UnixListener::bind(directory.path().join("api.sock")).unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let config = directory.path().join("with-token.json");
    let hash = format!("sha256:{}", "0".repeat(64));
    let client = json!({"users": [], "tokens": {"laptop": hash}, "weight": 1, "concurrency": 0, "queue_length": 1,
        "profiles": []});
    std::fs::write(&config, json!({"service": {"check_at_start": false}, "clients": {"ci": client}}).to_string())
        .unwrap();
    let mut command = hands_over(&[api.into(), tcp.into()], "codesandboxd.socket:tcp");
    command.arg("--embedded").arg("--config").arg(config).stdin(Stdio::null()).env("RUST_LOG", "warn");
    let mut daemon = Embedded { daemon: command.spawn().unwrap(), directory };
    wait_for("the daemon", || {
        common::request(&daemon.api(), "GET", "/health", &[], b"").is_some_and(|answer| answer.status == 200)
    });
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    daemon.stop();
}
