//! `codesandbox mcp` as clients of models meet it: by the library that they are written with, by the inspector, and by
//! lines that no client would send.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use common::{Service, bridge, sessions, skip, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

const CODESANDBOX: &str = env!("CARGO_BIN_EXE_codesandbox");
/// How clients agree upon the protocol's version: as they did until 2025, and as they do since.
const MODES: [&str; 2] = ["legacy", "auto"];

/// A server on a socket, for as long as a test runs.
struct Http {
    child: Child,
    directory: tempfile::TempDir,
}

impl Http {
    fn start(service: &Service, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("mcp.sock");
        let child = Command::new(CODESANDBOX)
            .args(["mcp", "--socket"])
            .arg(service.socket())
            .arg("--listen")
            .arg(&socket)
            .args(arguments)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        // It has a name before anybody listens on it.
        wait_for("the server", || UnixStream::connect(&socket).is_ok());
        Self { child, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("mcp.sock")
    }

    fn url(&self) -> Value {
        json!({"url": url(bridge::to(&self.socket()))})
    }

    fn post(&self, headers: &[(&str, &str)], body: &str) -> common::Answer {
        let mut all = vec![("accept", "application/json, text/event-stream")];
        if !headers.iter().any(|(name, _)| *name == "content-type") {
            all.push(("content-type", "application/json"));
        }
        all.extend(headers);
        common::request(&self.socket(), "POST", "/mcp", &all, body.as_bytes()).unwrap()
    }

    /// Status of the answer to a request for this host.
    fn under(&self, host: &str, body: &str) -> u16 {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        let length = body.len();
        let head = format!(
            "POST /mcp HTTP/1.1\r\nHost: {host}\r\nAccept: application/json, text/event-stream\r\n\
             Content-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(format!("{head}{body}").as_bytes()).unwrap();
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).unwrap();
        line.split(' ').nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).ok();
        self.child.wait().unwrap();
    }
}

fn url(address: SocketAddr) -> String {
    format!("http://{address}/mcp")
}

fn stdio(service: &Service, arguments: &[&str]) -> Value {
    let socket = service.socket();
    let command = [CODESANDBOX, "mcp", "--socket", socket.to_str().unwrap()];
    let command = [command.as_slice(), arguments].concat();
    json!({ "command": command })
}

fn client(mode: &str, server: &Value, check: &str, arguments: &[&str]) -> Option<Command> {
    let Some(python) = bridge::python() else {
        skip("tests/setup has installed no clients");
        return None;
    };
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mcp/client.py"));
    command.arg(mode).arg(server.to_string()).arg(check).args(arguments);
    Some(command)
}

/// Has the client's library check something against a server; what it printed.
#[track_caller]
fn check(mode: &str, server: &Value, check: &str, arguments: &[&str]) -> Option<String> {
    let output = client(mode, server, check, arguments)?.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{check} ({mode}, {server}): {said}");
    Some(String::from_utf8(output.stdout).unwrap())
}

/// On every transport, and in every mode.
#[track_caller]
fn everywhere(name: &str) {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    for (mode, server) in MODES.into_iter().zip([stdio(&service, &[]), http.url()]) {
        check(mode, &server, name, &["--sessions"]);
    }
}

/// Here every mode on every transport: what is said besides does not depend on both.
#[test]
fn tools_are_listed_with_all_that_a_model_needs() {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    for mode in MODES {
        for server in [stdio(&service, &[]), http.url()] {
            check(mode, &server, "tools", &["--sessions"]);
        }
    }
}

#[test]
fn a_program_is_run_and_its_end_told() {
    everywhere("run");
}

#[test]
fn what_a_model_can_mend_is_a_result_that_says_how() {
    everywhere("mend");
}

#[test]
fn images_are_images() {
    everywhere("pictures");
}

#[test]
fn long_output_is_cut_and_all_of_it_can_be_read() {
    everywhere("long");
}

#[test]
fn a_session_has_files_programs_and_snapshots() {
    everywhere("sessions");
}

#[test]
fn programs_run_in_the_background() {
    everywhere("background");
}

#[test]
fn cells_keep_their_variables_and_show_their_values() {
    everywhere("cells");
}

#[test]
fn code_that_heeds_no_interruption_is_ended_with_its_interpreter() {
    let service = Service::start();
    check("auto", &stdio(&service, &[]), "heedless", &[]);
}

#[test]
fn progress_is_told_while_a_program_runs() {
    everywhere("progress");
}

#[test]
fn what_is_cancelled_leaves_nothing_running() {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    let busy = || {
        let metrics = common::request(&service.socket(), "GET", "/health", &[], b"").unwrap().json();
        metrics["running"].as_u64().unwrap() > 0
    };
    for mode in MODES {
        for server in [stdio(&service, &[]), http.url()] {
            let Some(mut command) = client(mode, &server, "cancel", &["--sessions"]) else { return };
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let mut said = String::new();
            BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
            assert_eq!(said, "cancelled\n", "{mode}, {server}");
            wait_for("the run to be cancelled", || !busy());
            let listed = common::request(&service.socket(), "GET", "/v1/sessions", &[], b"").unwrap().json();
            let ids: Vec<&str> =
                listed["sessions"].as_array().unwrap().iter().filter_map(|one| one["id"].as_str()).collect();
            assert!(!ids.is_empty(), "the client and its session are still there");
            for id in ids {
                // The program that was started in the session is ended as well, while the session lives.
                let session = sessions::Session::of(&service, id);
                let told = |tail: &str| session.try_ask("GET", tail, &[], b"").filter(|answer| answer.status == 200);
                let any = |tail: &str, list: &str, state: &str| {
                    told(tail).is_some_and(|answer| {
                        answer.json()[list].as_array().unwrap().iter().any(|one| one["state"] == state)
                    })
                };
                wait_for("program and code to be ended", || {
                    !any("/execs", "execs", "running") && !any("/contexts", "contexts", "busy")
                });
            }
            drop(child.stdin.take());
            assert!(child.wait().unwrap().success());
        }
    }
}

#[test]
fn a_client_can_not_name_sessions_that_it_has_not_made() {
    let service = Service::start();
    let session = sessions::shell(&service);
    let http = Http::start(&service, &[]);
    let mut ran = false;
    for mode in MODES {
        for server in [stdio(&service, &[]), http.url()] {
            ran |= check(mode, &server, "foreign", &[&session.id]).is_some();
        }
    }
    // Nothing was done to it, and whoever runs the server can say that it shall be possible.
    assert!(session.seen().is_some());
    let open = Http::start(&service, &["--all-sessions"]);
    for server in [stdio(&service, &["--all-sessions"]), open.url()] {
        assert_eq!(ran, check("legacy", &server, "known", &[&session.id]).is_some());
    }
    session.delete();
}

#[test]
fn sessions_end_with_their_client() {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    for server in [stdio(&service, &[]), http.url()] {
        let Some(id) = check("legacy", &server, "create", &[]) else { return };
        sessions::Session::of(&service, id.trim()).wait_until_gone();
    }
    // Where requests belong to no client, to the server's end; and where all may name them, longer.
    let id = check("auto", &http.url(), "create", &[]).unwrap();
    let session = sessions::Session::of(&service, id.trim());
    assert!(session.seen().is_some());
    check("auto", &http.url(), "known", &[&session.id]);
    drop(http);
    session.wait_until_gone();
    let id = check("legacy", &stdio(&service, &["--all-sessions"]), "create", &[]).unwrap();
    let session = sessions::Session::of(&service, id.trim());
    assert!(session.seen().is_some());
    session.delete();
}

#[test]
fn without_a_daemon_it_runs_programs_and_offers_no_sessions() {
    let server = json!({"command": [CODESANDBOX, "mcp", "--embedded"]});
    for name in ["tools", "run"] {
        check("auto", &server, name, &[]);
    }
}

#[test]
fn the_socket_is_for_owner_and_group() {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    assert_eq!(std::fs::metadata(http.socket()).unwrap().permissions().mode() & 0o777, 0o660);
    let socket = http.socket();
    let directory = http.directory.path().to_owned();
    assert!(directory.exists() && UnixStream::connect(&socket).is_ok());
}

/// The first message of a client.
fn initialize(version: &str) -> String {
    let client = json!({"name": "test", "version": "1"});
    let params = json!({"protocolVersion": version, "capabilities": {}, "clientInfo": client});
    json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string()
}

#[test]
fn a_page_of_a_browser_is_refused() {
    let service = Service::start();
    let body = initialize("2025-06-18");
    let closed = Http::start(&service, &[]);
    assert_eq!(closed.post(&[], &body).status, 200);
    // The page of an attacker, and one that made its name lead here.
    assert_eq!(closed.post(&[("origin", "https://evil.example")], &body).status, 403);
    assert_eq!(closed.post(&[("origin", "null")], &body).status, 403);
    assert_eq!(closed.post(&[("origin", "http://localhost")], &body).status, 403);
    assert_eq!(closed.under("localhost", &body), 200);
    assert_eq!(closed.under("evil.example", &body), 403);
    let open =
        Http::start(&service, &["--allow-origin", "https://app.example.org:443", "--allow-host", "mcp.example.org"]);
    assert_eq!(open.post(&[("origin", "https://app.example.org")], &body).status, 200);
    assert_eq!(open.under("mcp.example.org", &body), 200);
    assert_eq!(open.under("evil.example", &body), 403);
    assert_eq!(open.post(&[("origin", "https://evil.example")], &body).status, 403);
}

#[test]
fn what_is_no_message_is_refused_over_http() {
    let service = Service::start();
    let http = Http::start(&service, &[]);
    let body = initialize("2025-06-18");
    assert_eq!(http.post(&[], &body).status, 200);
    assert!((400..500).contains(&http.post(&[], "{").status));
    assert!((400..500).contains(&http.post(&[("content-type", "text/plain")], &body).status));
    assert_eq!(http.post(&[], &format!("{body}{}", " ".repeat(10 << 20))).status, 413);
    assert_eq!(common::request(&http.socket(), "POST", "/v1/run", &[], b"{}").unwrap().status, 404);
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/list"}).to_string();
    assert!((400..500).contains(&http.post(&[], &call).status), "without a session");
    let invented = ("mcp-session-id", "46fa0330-3120-446d-a9a6-daeccd3e6f3f");
    assert_eq!(http.post(&[invented], &call).status, 404);
    // It is none the worse for it.
    assert_eq!(http.post(&[], &body).status, 200);
}

/// A conversation on standard input and output, line by line.
struct Lines {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Lines {
    fn start(service: &Service) -> Self {
        let mut child = Command::new(CODESANDBOX)
            .args(["mcp", "--socket"])
            .arg(service.socket())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        let mut lines = Self { child, input, output };
        lines.say(&initialize("2025-06-18"));
        assert_eq!(lines.answer()["result"]["protocolVersion"], "2025-06-18");
        lines.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#);
        lines
    }

    fn say(&mut self, line: &str) {
        self.bytes(&[line.as_bytes(), b"\n"].concat());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.input.as_mut().unwrap().write_all(bytes).unwrap();
    }

    fn answer(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    /// The answer to a request that must still be possible.
    #[track_caller]
    fn still_answers(&mut self) {
        self.say(r#"{"jsonrpc":"2.0","id":"last","method":"ping"}"#);
        loop {
            let answer = self.answer();
            if answer["id"] == "last" {
                assert!(answer["result"].is_object(), "{answer}");
                return;
            }
            assert!(answer["error"].is_object(), "{answer}");
        }
    }

    fn memory_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }
}

impl Drop for Lines {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn lines_that_no_client_would_send_harm_nobody() {
    let service = Service::start();
    let mut lines = Lines::start(&service);
    for junk in [
        "",
        "{",
        "null",
        "[]",
        "\u{0}",
        "no JSON",
        r#"{"jsonrpc":"1.0"}"#,
        r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#,
    ] {
        lines.say(junk);
    }
    lines.bytes(b"\xff\xfe\n");
    lines.say(&format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    lines.still_answers();
    // A method and a tool that there are not, arguments that are none, an answer to nothing that was asked.
    lines.say(r#"{"jsonrpc":"2.0","id":7,"method":"tools/destroy","params":{}}"#);
    assert_eq!(lines.answer()["error"]["code"], -32601);
    lines.say(
        &json!({"jsonrpc": "2.0", "id": 8, "method": "tools/call", "params": {"name": "x".repeat(100_000)}})
            .to_string(),
    );
    let answer = lines.answer();
    assert!(answer["id"] == 8 && answer["error"]["code"] == -32602, "{answer}");
    assert!(answer.to_string().len() < 1000, "an error is no echo");
    lines.say(r#"{"jsonrpc":"2.0","id":"nobody asked","result":{}}"#);
    lines.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":12345}}"#);
    let long = "i".repeat(100_000);
    lines.say(&json!({"jsonrpc": "2.0", "id": long, "method": "ping"}).to_string());
    assert_eq!(lines.answer()["id"], long.as_str());
    lines.still_answers();
}

#[test]
fn a_line_without_an_end_takes_no_memory() {
    let service = Service::start();
    let mut lines = Lines::start(&service);
    lines.still_answers();
    let code = format!("# {}\nprint('long')", "x".repeat(4 << 20));
    let call = |code: &str| {
        let arguments = json!({"runtime": "python", "code": code});
        json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "run_code", "arguments": arguments}})
            .to_string()
    };
    lines.say(&call(&code));
    assert_eq!(lines.answer()["result"]["structuredContent"]["stdout"], "long\n");
    let before = lines.memory_kib();
    lines.say(&call(&"x".repeat(10 << 20)));
    for _ in 0..20 {
        lines.bytes(&vec![b'x'; 10 << 20]);
    }
    lines.say("");
    lines.still_answers();
    let grown = lines.memory_kib() - before;
    assert!(grown < 32 << 10, "{grown} KiB");
}

#[test]
fn calls_have_a_bound_and_the_server_ends_with_its_client() {
    let service = Service::start_with(json!({"service": {"concurrency": 1}}));
    let mut lines = Lines::start(&service);
    let arguments = json!({"runtime": "python", "code": "while True: pass", "timeout_ms": 60000});
    for id in 0..80 {
        let params = json!({"name": "run_code", "arguments": arguments});
        lines.say(&json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}).to_string());
    }
    // Those that are too many are told so at once; some are refused by the service, whose queue is shorter.
    let answer = lines.answer();
    assert_eq!(answer["result"]["isError"], true, "{answer}");
    for id in 0..80 {
        let params = json!({"requestId": id});
        lines.say(&json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string());
    }
    lines.say(r#"{"jsonrpc":"2.0","id":"end","method":"ping"}"#);
    loop {
        let answer = lines.answer();
        if answer["id"] == "end" {
            break;
        }
        assert_eq!(answer["result"]["isError"], true, "{answer}");
    }
    let health = || common::request(&service.socket(), "GET", "/health", &[], b"").unwrap().json();
    wait_for("all runs to be cancelled", || {
        let health = health();
        health["running"] == 0 && health["queued"] == 0
    });
    // The end of input is the end.
    drop(lines.input.take());
    let mut rest = Vec::new();
    lines.output.read_to_end(&mut rest).unwrap();
    assert!(lines.child.wait().unwrap().success());
}

/// The newest Node that is at hand: the inspector wants a newer one than some systems have.
fn node() -> Option<PathBuf> {
    let trees = ["/var/cache/codesandbox/trees/node24", "/var/cache/codesandbox/trees/node22"];
    trees.iter().map(|tree| Path::new(tree).join("usr/bin/node")).find(|node| node.exists()).or_else(|| {
        let found = Command::new("node").arg("--version").output().ok()?;
        found.status.success().then(|| "node".into())
    })
}

#[test]
fn the_inspector_works_with_it() {
    let (Some(node), Some(modules)) = (node(), bridge::node_modules()) else {
        return skip("there is no Node, or tests/setup has installed no clients");
    };
    let service = Service::start();
    let http = Http::start(&service, &[]);
    let home = tempfile::tempdir().unwrap();
    let mut path = Path::new(CODESANDBOX).parent().unwrap().as_os_str().to_owned();
    path.push(":/usr/local/bin:/usr/bin:/bin");
    let inspect = |server: &[&str], arguments: &[&str]| {
        let output = Command::new(&node)
            .arg(modules.join("@modelcontextprotocol/inspector/clients/launcher/build/index.js"))
            .arg("--cli")
            .args(server)
            .args(arguments)
            .env("HOME", home.path())
            // Where the command is found by its name alone.
            .env("PATH", &path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (serde_json::from_slice::<Value>(&output.stdout).unwrap(), said)
    };
    let url = url(bridge::to(&http.socket()));
    let socket = service.socket();
    let command = [CODESANDBOX, "mcp", "--socket", socket.to_str().unwrap()];
    for server in [command.as_slice(), &[url.as_str(), "--transport", "http"]] {
        let (tools, said) = inspect(server, &["--method", "tools/list", "--strict"]);
        assert_eq!(tools["tools"].as_array().unwrap().len(), 15);
        assert!(!said.contains("Warning"), "{said}");
        let call =
            ["--method", "tools/call", "--tool-name", "run_code", "--tool-arg", "runtime=python", "code=print(6*7)"];
        let (result, _) = inspect(server, &call);
        assert_eq!(result["structuredContent"]["stdout"], "42\n", "{result}");
        let (resources, _) = inspect(server, &["--method", "resources/list"]);
        assert_eq!(resources["resources"][0]["uri"], "codesandbox://runtimes");
        let (read, _) = inspect(server, &["--method", "resources/read", "--uri", "codesandbox://runtimes"]);
        assert!(read["contents"][0]["text"].as_str().unwrap().contains("python"), "{read}");
    }
    // And by the words of the document, as a client has them in its configuration.
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/MCP.md")).unwrap();
    let snippets: Vec<&str> =
        document.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(snippets.len(), 3);
    for snippet in &snippets {
        serde_json::from_str::<Value>(snippet).unwrap();
    }
    let config = home.path().join("mcp.json");
    std::fs::write(&config, snippets[0]).unwrap();
    let named = ["--config", config.to_str().unwrap(), "--server", "codesandbox"];
    let (tools, _) = inspect(&named, &["--method", "tools/list"]);
    assert!(tools["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "run_code"), "{tools}");
}
