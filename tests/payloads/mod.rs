//! Hostile programs, and two ways to run them: outside of a sandbox, where they must succeed (the
//! positive control, without which a test of the sandbox shows nothing), and inside.
//!
//! Outside means in namespaces that are thrown away, with a temporary directory as the working
//! directory and with bounded arguments; what they start dies with their process 1.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]
#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use base64::Engine;
use serde_json::{Value, json};

use crate::common::{Service, file, merge};

/// The Python that payloads run on, inside and outside.
pub const PYTHON: &str = "/usr/bin/python3.11";
/// The compiler of payloads, inside and outside.
pub const GCC: &str = "/usr/bin/gcc-12";
/// A user id that owns nothing, for bombs outside.
const NOBODY: &str = "61234";

/// A job that runs a payload.
pub fn job(payload: &str, args: &[&str]) -> Value {
    job_with(payload, args, json!({}))
}

/// The same with more fields.
pub fn job_with(payload: &str, args: &[&str], more: Value) -> Value {
    let runtime = match Path::new(payload).extension().and_then(|extension| extension.to_str()) {
        Some("py") => "python@3.11",
        Some("c") => "c@12",
        Some("sh") => "bash",
        other => panic!("no runtime for {other:?}"),
    };
    let content = file(&format!("payloads/{payload}"));
    let mut job = json!({"runtime": runtime, "files": [{"content": content}], "args": args});
    merge(&mut job, more);
    job
}

/// Runs a payload in a sandbox under these limits.
pub fn inside(service: &Service, payload: &str, args: &[&str], limits: Value) -> Value {
    service.run(&job_with(payload, args, json!({"limits": limits})))
}

/// A throw-away place outside of any sandbox.
pub struct Outside {
    pub directory: tempfile::TempDir,
}

impl Outside {
    pub fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The words that run a payload here.
    fn words(&self, payload: &str, args: &[&str]) -> Vec<String> {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(payload);
        let source = source.to_str().unwrap().to_owned();
        let mut words = match Path::new(payload).extension().and_then(|extension| extension.to_str()) {
            Some("py") => vec![PYTHON.to_owned(), "-I".to_owned(), source],
            Some("sh") => vec!["/usr/bin/bash".to_owned(), source],
            Some("c") => {
                let program = self.path().join("program").to_str().unwrap().to_owned();
                let built = Command::new(GCC).args(["-O2", "-pthread", "-o", &program, &source]).status().unwrap();
                assert!(built.success());
                vec![program]
            }
            other => panic!("no way to run {other:?}"),
        };
        words.extend(args.iter().map(|arg| (*arg).to_owned()));
        words
    }

    /// A command in namespaces of its own, dead after 30 s at the latest.
    fn command(&self) -> Command {
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", "30", "unshare"]);
        if !is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command
            .args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--ipc", "--uts", "--net", "--"])
            .current_dir(self.path())
            .env("TMPDIR", self.path())
            .stdin(Stdio::null());
        command
    }

    /// Runs a payload to its end.
    pub fn run(&self, payload: &str, args: &[&str]) -> Output {
        self.command().args(self.words(payload, args)).output().unwrap()
    }

    /// Runs a payload to its end and returns what it printed; it must end well.
    pub fn stdout(&self, payload: &str, args: &[&str]) -> String {
        let output = self.run(payload, args);
        assert!(output.status.success(), "the control fails: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a shell's command line to its end.
    pub fn shell(&self, line: &str) -> Output {
        self.command().args(["sh", "-c", line]).output().unwrap()
    }

    /// Starts a payload that does not end by itself; its output is there to be read, and dropping
    /// it ends everything. It is held to `processes` processes, as a user that has nothing.
    pub fn start(self, payload: &str, args: &[&str], processes: Option<u32>) -> Started {
        let words = self.words(payload, args);
        let mut command = self.command();
        if let Some(processes) = processes.filter(|_| is_root()) {
            command.args(["prlimit", &format!("--nproc={processes}"), "setpriv", "--clear-groups"]);
            command.args([format!("--reuid={NOBODY}"), format!("--regid={NOBODY}")]);
            fs::set_permissions(self.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
        let child = command.args(words).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Started { child, _outside: self }
    }
}

/// A payload that runs outside until this is dropped.
pub struct Started {
    child: Child,
    _outside: Outside,
}

impl Started {
    /// Waits for so many bytes of standard output.
    pub fn read_bytes(&mut self, count: usize) -> Vec<u8> {
        let mut bytes = vec![0; count];
        self.child.stdout.as_mut().unwrap().read_exact(&mut bytes).expect("the control prints as much");
        bytes
    }

    pub fn read_error_bytes(&mut self, count: usize) {
        self.child.stderr.as_mut().unwrap().read_exact(&mut vec![0; count]).expect("the control prints as much");
    }

    /// Waits for a line of standard output.
    pub fn wait_for_line(&mut self, wanted: &str) {
        let mut line = Vec::new();
        loop {
            let byte = self.read_bytes(1)[0];
            if byte == b'\n' {
                if line == wanted.as_bytes() {
                    return;
                }
                line.clear();
            } else {
                line.push(byte);
            }
        }
    }

    /// Process ids of the payload and all below it, as the host sees them.
    pub fn pids(&self) -> Vec<i32> {
        let mut pending = vec![i32::try_from(self.child.id()).unwrap()];
        let mut all = Vec::new();
        while let Some(pid) = pending.pop() {
            let children = crate::common::children(pid);
            all.extend(&children);
            pending.extend(children);
        }
        all
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // `timeout` can't pass SIGKILL on; its child's death ends the whole pid namespace.
        for pid in self.pids() {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A job whose events are read while it runs. Dropping it hangs up.
pub struct Live {
    pub id: String,
    pub status: u16,
    lines: BufReader<UnixStream>,
}

impl Live {
    /// Submits a job and waits for the head of its answer. HTTP/1.0 has the body end with the
    /// connection, so that the lines can be read as they are.
    pub fn start(service: &Service, job: &Value) -> Self {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let body = job.to_string();
        write!(
            stream,
            "POST /v1/run HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: application/x-ndjson\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut lines = BufReader::new(stream);
        let (mut id, mut status) = (String::new(), 0);
        loop {
            let mut line = String::new();
            lines.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.0 ").or_else(|| line.strip_prefix("HTTP/1.1 ")) {
                status = rest.get(..3).unwrap().parse().unwrap();
            } else if let Some((name, value)) = line.split_once(": ")
                && name.eq_ignore_ascii_case("codesandbox-job")
            {
                id = value.to_owned();
            }
        }
        Self { id, status, lines }
    }

    /// The next event, or `None` at the end.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// Reads until standard output so far has this in it, and returns that output.
    pub fn wait_for(&mut self, wanted: &str) -> String {
        let mut printed = String::new();
        while !printed.contains(wanted) {
            let event = self.next().unwrap_or_else(|| panic!("it ended; printed: {printed}"));
            if event["event"] == "stdout" {
                printed.push_str(event["data"].as_str().unwrap());
            }
            assert!(!matches!(event["event"].as_str(), Some("finished" | "failed")), "{event}");
        }
        printed
    }

    /// Reads to the end; returns the last event.
    pub fn last(&mut self) -> Value {
        let mut last = Value::Null;
        while let Some(event) = self.next() {
            last = event;
        }
        last
    }
}

/// Bytes of a stream of a stage.
pub fn bytes(stage: &Value, stream: &str) -> Vec<u8> {
    let text = stage[stream].as_str().unwrap_or_else(|| panic!("no {stream} in {stage}"));
    match stage[format!("{stream}_encoding")].as_str() {
        Some("base64") => base64::engine::general_purpose::STANDARD.decode(text).unwrap(),
        _ => text.as_bytes().to_vec(),
    }
}

/// What the run stage printed.
pub fn stdout(answer: &Value) -> String {
    String::from_utf8(bytes(&answer["run"], "stdout")).unwrap()
}

/// What the run stage printed, which must be JSON.
pub fn printed(answer: &Value) -> Value {
    let text = stdout(answer);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

/// The status of a job, and the whole of it where that is another.
#[track_caller]
pub fn assert_status(answer: &Value, wanted: &str) {
    assert_eq!(answer["status"], wanted, "{answer}");
}

/// Whether a job still runs well here, after whatever came before.
#[track_caller]
pub fn assert_unaffected(service: &Service) {
    let answer = service.run_source("python@3.11", "print(sum(range(10)))");
    assert_eq!((&answer["status"], &answer["run"]["stdout"]), (&json!("ok"), &json!("45\n")), "{answer}");
}

/// Path of a payload.
pub fn path(payload: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/payloads").join(payload)
}
