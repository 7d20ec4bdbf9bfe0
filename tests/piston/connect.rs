//! Runs over a WebSocket: every message and every code, standard input and signals that arrive, and clients
//! that go away or do not read.

use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::common::{Service, wait_for};

/// Longest that anything here is waited for: this host has many things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// Somebody who speaks Piston over a WebSocket.
pub(crate) struct Client {
    runtime: tokio::runtime::Runtime,
    socket: WebSocketStream<UnixStream>,
    /// Messages without their data.
    pub(crate) told: Vec<Value>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The code and reason that it was closed with; 0 where the connection broke.
    pub(crate) closed: Option<(u16, String)>,
}

/// What begins a run of a script.
pub(crate) fn init(language: &str, source: &str) -> Value {
    json!({"type": "init", "language": language, "version": "*", "files": [{"content": source}]})
}

impl Client {
    pub(crate) fn open(service: &Service) -> Self {
        Self::open_at(service, "/api/v2/connect")
    }

    fn open_at(service: &Service, path: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (socket, _) = runtime
            .block_on(async {
                let stream = UnixStream::connect(service.socket()).await.map_err(Error::Io)?;
                tokio_tungstenite::client_async(format!("ws://localhost{path}"), stream).await
            })
            .unwrap();
        Self { runtime, socket, told: Vec::new(), stdout: String::new(), stderr: String::new(), closed: None }
    }

    pub(crate) fn says(&mut self, words: &Value) {
        self.sends(Message::text(words.to_string()));
    }

    fn sends(&mut self, message: Message) {
        self.runtime.block_on(self.socket.send(message)).unwrap();
    }

    fn types(&mut self, data: &str) {
        self.says(&json!({"type": "data", "stream": "stdin", "data": data}));
    }

    fn signals(&mut self, signal: &str) {
        self.says(&json!({"type": "signal", "signal": signal}));
    }

    /// Takes messages until this holds.
    pub(crate) fn wait_for(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !condition(self) {
            assert!(self.closed.is_none(), "closed with {:?} before {what}: {:?}", self.closed, self.told);
            let left = PATIENCE.saturating_sub(began.elapsed());
            let message = self.runtime.block_on(async { tokio::time::timeout(left, self.socket.next()).await });
            match message.unwrap_or_else(|_| panic!("waited in vain for {what}: {:?}", self.told)) {
                Some(Ok(Message::Text(text))) => self.take(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(Some(frame)))) => {
                    self.closed = Some((frame.code.into(), frame.reason.to_string()));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => self.closed = Some((0, String::new())),
            }
        }
    }

    fn take(&mut self, message: Value) {
        match (message["type"].as_str(), message["stream"].as_str(), message["data"].as_str()) {
            (Some("data"), Some("stdout"), Some(data)) => self.stdout.push_str(data),
            (Some("data"), Some("stderr"), Some(data)) => self.stderr.push_str(data),
            _ => self.told.push(message),
        }
    }

    pub(crate) fn wait_for_close(&mut self, code: u16) -> String {
        self.wait_for("the end", |client| client.closed.is_some());
        let (closed, reason) = self.closed.clone().unwrap();
        assert_eq!(closed, code, "{reason}: {:?}", self.told);
        reason
    }
}

fn exit(stage: &str, code: Option<i32>, signal: Option<&str>) -> Value {
    json!({"type": "exit", "stage": stage, "code": code, "signal": signal})
}

#[test]
fn a_run_is_told_step_by_step() {
    let service = Service::start();
    for (path, cached) in [("/api/v2/connect", false), ("/api/v2/piston/connect/", true)] {
        let mut client = Client::open_at(&service, path);
        let source = "#include <stdio.h>\nint main(void) { puts(\"ä\"); fputs(\"e\", stderr); return 3; }";
        client.says(&init("c", source));
        assert_eq!(client.wait_for_close(4999), "Job Completed");
        assert_eq!(
            (client.told[0]["type"].as_str(), client.told[0]["language"].as_str()),
            (Some("runtime"), Some("c"))
        );
        assert_eq!(client.told[0]["version"].as_str().unwrap().split('.').count(), 3);
        let stage = |stage: &str| json!({"type": "stage", "stage": stage});
        let expected = [stage("compile"), exit("compile", Some(0), None), stage("run"), exit("run", Some(3), None)];
        assert_eq!(client.told[1..], expected, "cached: {cached}");
        assert_eq!((client.stdout.as_str(), client.stderr.as_str()), ("ä\n", "e"));
    }
    let mut client = Client::open(&service);
    client.says(&init("c", "int main(void) { return x; }"));
    client.wait_for_close(4999);
    assert_eq!(client.told.last().unwrap(), &exit("compile", Some(1), None));
    assert!(client.stderr.contains("main.c"), "{}", client.stderr);
}

#[test]
fn standard_input_arrives_while_the_program_runs() {
    let service = Service::start();
    let mut client = Client::open(&service);
    client.says(&init(
        "bash",
        "echo ready; while read -r line; do echo \"got $line\"; [ \"$line\" = end ] && exit 4; done",
    ));
    client.wait_for("the program", |client| client.stdout.contains("ready"));
    for line in ["one", "zwei ü"] {
        client.types(&format!("{line}\n"));
        client.wait_for("the answer", |client| client.stdout.ends_with(&format!("got {line}\n")));
    }
    // Piston reads messages of either kind.
    let end = json!({"type": "data", "stream": "stdin", "data": "end\n"}).to_string();
    client.sends(Message::binary(end.into_bytes()));
    client.wait_for_close(4999);
    assert_eq!(client.told.last().unwrap(), &exit("run", Some(4), None));
    // What is typed before the program is there waits for it.
    let mut client = Client::open(&service);
    client.says(&init("bash", "read -r line; echo \"$line\""));
    client.types("early\n");
    client.wait_for_close(4999);
    assert_eq!(client.stdout, "early\n");
}

#[test]
fn signals_are_delivered() {
    let service = Service::start();
    let mut client = Client::open(&service);
    let source = "import signal, time, sys\n\
        def heard(number, frame):\n    print('heard', number, flush=True)\n    if number == 15: sys.exit(5)\n\
        signal.signal(signal.SIGTERM, heard)\nsignal.signal(signal.SIGUSR1, heard)\nprint('ready', flush=True)\n\
        while True: time.sleep(0.01)";
    client.says(&init("python", source));
    client.wait_for("the program", |client| client.stdout.contains("ready"));
    client.signals("SIGUSR1");
    client.wait_for("the signal", |client| client.stdout.contains("heard 10"));
    client.signals("SIGTERM");
    client.wait_for_close(4999);
    assert!(client.stdout.contains("heard 15"), "{}", client.stdout);
    assert_eq!(client.told.last().unwrap(), &exit("run", Some(5), None));

    for (signal, name) in [("SIGKILL", "SIGKILL"), ("SIGTERM", "SIGTERM")] {
        let mut client = Client::open(&service);
        client.says(&init("python", "print('ready', flush=True)\nimport time\nwhile True: time.sleep(9)"));
        client.wait_for("the program", |client| client.stdout.contains("ready"));
        client.signals(signal);
        client.wait_for_close(4999);
        assert_eq!(client.told.last().unwrap(), &exit("run", None, Some(name)));
    }
}

#[test]
fn a_signal_that_ends_programs_ends_a_job_that_has_none_yet() {
    let service = Service::start_with(json!({"service": {"concurrency": 1}}));
    let mut running = Client::open(&service);
    running.says(&init("bash", "echo begun; sleep 100"));
    running.wait_for("the program", |client| client.stdout.contains("begun"));
    let mut waiting = Client::open(&service);
    waiting.says(&init("bash", "true"));
    waiting.wait_for("its turn", |client| !client.told.is_empty());
    wait_for("the queue", || service.request("GET", "/health", &[], "").json()["queued"] == 1);
    waiting.signals("SIGTERM");
    waiting.wait_for_close(4002);
    assert_eq!(waiting.told.last().unwrap()["type"], "error");
    running.signals("SIGKILL");
    running.wait_for_close(4999);
}

#[test]
fn limits_end_a_program_and_its_connection() {
    let service = Service::start();
    let mut client = Client::open(&service);
    let mut slow = init("bash", "echo begun; sleep 100");
    slow["run_timeout"] = json!(2000);
    client.says(&slow);
    client.wait_for_close(4999);
    assert_eq!(client.told.last().unwrap(), &exit("run", None, Some("SIGKILL")));
    assert_eq!(client.stdout, "begun\n");
    // As much as the profile allows is passed on, and no more.
    let mut client = Client::open(&service);
    client.says(&init("bash", "head -c 1000000 /dev/zero | tr '\\0' x"));
    client.wait_for_close(4999);
    assert_eq!((client.stdout.len(), client.told.last().unwrap()), (1_000_000, &exit("run", Some(0), None)));
    let mut client = Client::open(&service);
    client.says(&init("bash", "yes"));
    client.wait_for_close(4999);
    assert_eq!((client.stdout.len(), client.told.last().unwrap()), (1 << 20, &exit("run", None, Some("SIGKILL"))));
}

#[test]
fn every_wrong_message_has_its_code() {
    let service = Service::start();
    let data = |stream: &str| json!({"type": "data", "stream": stream, "data": "x"});
    let good = init("bash", "echo begun; sleep 100");
    for (first, second, code, reason) in [
        (Some(&good), good.clone(), 4000, "Already Initialized"),
        (None, json!({"type": "init"}), 4002, "Notified Error"),
        (None, init("nothing", "x"), 4002, "Notified Error"),
        (Some(&good), json!({"type": "data", "stream": "stdin", "data": 3}), 4002, "Notified Error"),
        (None, data("stdin"), 4003, "Not yet initialized"),
        (None, data("stdout"), 4003, "Not yet initialized"),
        (None, json!({"type": "signal", "signal": "SIGTERM"}), 4003, "Not yet initialized"),
        (None, json!({"type": "signal", "signal": "SIGNONE"}), 4003, "Not yet initialized"),
        (Some(&good), data("stdout"), 4004, "Can only write to stdin"),
        (Some(&good), json!({"type": "signal", "signal": "SIGNONE"}), 4005, "Invalid signal"),
        (Some(&good), json!({"type": "signal", "signal": 15}), 4005, "Invalid signal"),
    ] {
        let mut client = Client::open(&service);
        if let Some(first) = first {
            client.says(first);
            client.wait_for("the program", |client| client.stdout.contains("begun"));
        }
        client.says(&second);
        assert_eq!(client.wait_for_close(code), reason, "{second}");
        if code == 4002 {
            assert_eq!(client.told.last().unwrap()["type"], "error", "{second}");
        }
    }
    let mut client = Client::open(&service);
    client.says(&init("nothing", "x"));
    client.wait_for_close(4002);
    assert_eq!(client.told, [json!({"type": "error", "message": "nothing-* runtime is unknown"})]);
    for text in ["nul", "{", "3"] {
        let mut client = Client::open(&service);
        client.sends(Message::text(text));
        client.wait_for_close(4002);
    }
    // Whatever Piston passes over is passed over, and so is nothing at all until the time is up.
    let mut client = Client::open(&service);
    client.says(&json!({"type": "else"}));
    client.says(&json!([]));
    assert_eq!(client.wait_for_close(4001), "Initialization Timeout");
    wait_for("every program to be gone", || service.running_processes().is_empty());
}

#[test]
fn a_client_that_goes_away_takes_its_program_along() {
    let service = Service::start();
    for farewell in [true, false] {
        let mut client = Client::open(&service);
        client.says(&init("bash", "echo begun; sleep 100"));
        client.wait_for("the program", |client| client.stdout.contains("begun"));
        if farewell {
            client.sends(Message::Close(None));
        }
        drop(client);
        wait_for("the program's end", || service.request("GET", "/health", &[], "").json()["running"] == 0);
    }
}

#[test]
fn a_client_that_reads_late_gets_everything() {
    let service = Service::start();
    let mut client = Client::open(&service);
    client.says(&init("bash", "head -c 900000 /dev/zero | tr '\\0' y; echo done >&2"));
    // More than all that lies between us holds, so that the program has to wait.
    wait_for("the program to be at it", || service.request("GET", "/health", &[], "").json()["running"] == 1);
    client.wait_for_close(4999);
    assert_eq!((client.stdout.len(), client.stderr.as_str()), (900_000, "done\n"));
}

#[test]
fn what_is_too_large_is_not_read() {
    let service = Service::start();
    let mut client = Client::open(&service);
    // Half of it may be refused before the other half is sent.
    let large = Message::text(init("bash", &"#".repeat(1 << 20)).to_string());
    drop(client.runtime.block_on(client.socket.send(large)));
    client.wait_for("the end", |client| client.closed.is_some());
    assert!([0, 1009].contains(&client.closed.clone().unwrap().0), "{:?}", client.closed);
    let mut client = Client::open(&service);
    client.says(&init("bash", &format!("echo ok;{}", "#".repeat(900_000))));
    client.wait_for_close(4999);
    assert_eq!(client.stdout, "ok\n");
}

#[test]
fn input_that_nobody_reads_is_bounded_and_the_end_is_told() {
    let service = Service::start();
    let mut client = Client::open(&service);
    let mut request = init("bash", "echo begun; sleep 100");
    request["run_timeout"] = json!(1500);
    client.says(&request);
    client.wait_for("the program", |client| client.stdout.contains("begun"));
    let piece = "z".repeat(60_000);
    // What fits in nowhere is not sent, and the program ends all the same.
    let (runtime, socket) = (&client.runtime, &mut client.socket);
    runtime.block_on(async {
        let all = async {
            for _ in 0..2000 {
                let words = json!({"type": "data", "stream": "stdin", "data": piece}).to_string();
                if socket.send(Message::text(words)).await.is_err() {
                    return;
                }
            }
        };
        drop(tokio::time::timeout(Duration::from_millis(500), all).await);
    });
    client.wait_for_close(4999);
    assert_eq!(client.told.last().unwrap(), &exit("run", None, Some("SIGKILL")));
}

#[test]
fn a_service_that_stops_ends_its_programs_and_connections() {
    let mut service = Service::start_with(json!({"service": {"stop_deadline_ms": 300}}));
    let mut running = Client::open(&service);
    running.says(&init("bash", "echo begun; sleep 100"));
    running.wait_for("the program", |client| client.stdout.contains("begun"));
    // This one never says what is to run, and does not read.
    let silent = Client::open(&service);
    service.terminate_daemon();
    running.wait_for_close(4999);
    assert_eq!(running.told.last().unwrap(), &exit("run", None, Some("SIGKILL")));
    assert!(service.wait_for_daemon().success());
    drop(silent);
    service.restart_daemon();
}
