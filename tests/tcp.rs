//! Clients that come over TCP: who shows no token gets nothing, and who shows one gets what its client may have.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use codesandbox::api::checks::CheckRequest;
use codesandbox::api::sessions::wire::{ExecRequest, SessionRequest};
use codesandbox::api::wire::{FileRequest, RunRequest, StreamEvent};
use codesandbox::client::{Client, ClientError};
use common::{Service, wait_for};
use hyper::Method;
use serde_json::{Value, json};

/// A service that two clients may come to over TCP: `one` by two tokens, `other` by one.
struct Remote {
    service: Service,
    address: SocketAddr,
    tokens: BTreeMap<&'static str, String>,
}

/// A token, and what the configuration knows of it: as the command prints them.
fn new_token(name: &str) -> (String, String) {
    let made = Command::new(env!("CARGO_BIN_EXE_codesandbox")).args(["token", "new", name]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let (token, told) = (String::from_utf8(made.stdout).unwrap(), String::from_utf8(made.stderr).unwrap());
    let line = told.lines().last().unwrap();
    let pair: BTreeMap<String, String> = serde_json::from_str(&format!("{{{line}}}")).unwrap();
    assert!(!told.contains(token.trim()), "{told}");
    (token.trim().to_owned(), pair[name].clone())
}

/// An address of the loopback that nobody listens on: one of this process, so that no other test takes the port.
fn free_address() -> SocketAddr {
    let [high, low] = [std::process::id() >> 8, std::process::id()].map(|part| part & 0xff);
    TcpListener::bind(format!("127.77.{high}.{low}:0")).unwrap().local_addr().unwrap()
}

fn client_of(tokens: &Value, profiles: &Value, sessions: u32) -> Value {
    json!({"users": [], "tokens": tokens, "weight": 1, "concurrency": 1, "queue_length": 2, "profiles": profiles,
        "sessions": sessions})
}

impl Remote {
    fn start() -> Self {
        let address = free_address();
        let names = ["laptop", "phone", "stranger"];
        let made = names.map(|name| (name, new_token(name)));
        let hashes: BTreeMap<&str, &str> = made.iter().map(|(name, (_, hash))| (*name, hash.as_str())).collect();
        let one = json!({"laptop": hashes["laptop"], "phone": hashes["phone"]});
        let service = Service::start_with(json!({
            "tcp": {"address": address, "origins": ["https://judge.example.org"]},
            "clients": {
                "one": client_of(&one, &json!(["default", "session"]), 1),
                "other": client_of(&json!({"stranger": hashes["stranger"]}), &json!(["session"]), 5),
            },
        }));
        let tokens = made.into_iter().map(|(name, (token, _))| (name, token)).collect();
        Self { service, address, tokens }
    }

    fn client(&self, token: &str) -> Client {
        Client::tcp(&self.address.to_string(), &self.tokens[token]).unwrap()
    }

    /// The whole answer to these lines of a head, and whatever else comes until the connection is closed.
    fn raw(&self, head: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.write_all(format!("{}\r\n\r\n", head.replace('\n', "\r\n")).as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// The same of a request that shows a token, as the last of its connection.
    fn raw_with(&self, token: &str, head: &str) -> String {
        self.raw(&format!("{head}\nHost: x\nConnection: close\nAuthorization: Bearer {}", self.tokens[token]))
    }
}

fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn bash(source: &str) -> RunRequest {
    let file = FileRequest { content: Some(source.to_owned()), ..FileRequest::default() };
    RunRequest { runtime: "bash".to_owned(), files: vec![file], ..RunRequest::default() }
}

fn session_request(runtime: &str) -> SessionRequest {
    SessionRequest { runtime: Some(runtime.to_owned()), ..SessionRequest::default() }
}

#[track_caller]
fn refused<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> (u16, String) {
    match answer {
        Err(ClientError::Refused(refusal)) => {
            let kind = refusal.problem().unwrap().kind;
            (refusal.status, kind.trim_start_matches("urn:codesandbox:problem:").to_owned())
        }
        other => panic!("it was not refused: {other:?}"),
    }
}

#[test]
fn without_a_token_there_is_no_telling_what_there_is() {
    let remote = Remote::start();
    let foreign = new_token("foreign").0;
    let right = &remote.tokens["laptop"];
    let almost = &right[..right.len() - 1];
    for path in ["/health", "/v1/run", "/metrics", "/openapi.json", "/v1/sessions", "/nothing", "/v1/run/%ff"] {
        for method in ["GET", "POST", "OPTIONS"] {
            for shown in [
                "X: y".to_owned(),
                format!("Authorization: Bearer {foreign}"),
                format!("Authorization: Bearer {almost}"),
                format!("Authorization: Bearer {right}x"),
                format!("Authorization: Basic {right}"),
                format!("X-Auth-Token: {right}"),
                format!("Authorization: Bearer {right}\nAuthorization: Bearer {right}"),
            ] {
                // The end of the answer is that of the connection: whoever tries tokens has to connect for each.
                let answer = remote.raw(&format!("{method} {path}?token={right} HTTP/1.1\nHost: x\n{shown}"));
                assert!(answer.starts_with("HTTP/1.1 401 "), "{method} {path} {shown}: {answer}");
                let lower = answer.to_ascii_lowercase();
                assert!(lower.contains("\r\nwww-authenticate: bearer"), "{answer}");
                assert!(lower.contains("content-type: application/problem+json"), "{answer}");
            }
        }
    }
    // The control: with a token there is.
    let answer = remote.raw_with("laptop", "GET /health HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let answer = remote.raw_with("laptop", "GET /nothing HTTP/1.1");
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
}

#[test]
fn a_token_runs_what_its_client_may() {
    let remote = Remote::start();
    let (laptop, stranger) = (remote.client("laptop"), remote.client("stranger"));
    wait(async {
        let answer = laptop.run(&bash("echo hi")).await.unwrap();
        assert_eq!(answer.run.unwrap().stdout, "hi\n");
        let mut events = laptop.run_streamed(&bash("echo one; echo two")).await.unwrap();
        let (mut printed, mut finished) = (String::new(), false);
        while let Some(event) = events.next().await.unwrap() {
            match event {
                StreamEvent::Stdout(output) => printed.push_str(&output.data),
                StreamEvent::Finished(_) => finished = true,
                _ => {}
            }
        }
        assert_eq!((printed.as_str(), finished), ("one\ntwo\n", true));
        // Not even root's profiles are those of a token.
        assert_eq!(refused(stranger.run(&bash("echo hi")).await), (403, "forbidden-profile".to_owned()));
    });
}

#[test]
fn sessions_belong_to_the_client_of_a_token() {
    let remote = Remote::start();
    let [laptop, phone, stranger] = ["laptop", "phone", "stranger"].map(|token| remote.client(token));
    let local = Client::unix(remote.service.socket());
    wait(async {
        let made = laptop.create_session(&session_request("bash")).await.unwrap();
        laptop.session(&made.id).write_file("secret", b"mine".to_vec()).await.unwrap();
        assert_eq!(refused(laptop.create_session(&session_request("bash")).await), (429, "too-many".to_owned()));
        for other in [&stranger, &local] {
            assert!(other.sessions(&[], None).await.unwrap().sessions.is_empty());
            let theirs = other.session(&made.id);
            assert_eq!(refused(theirs.show().await).0, 404);
            assert_eq!(refused(theirs.read_file("secret").await).0, 404);
            assert_eq!(refused(theirs.delete().await).0, 404);
        }
        // The other token of the same client has the same sessions.
        let same = phone.session(&made.id);
        assert_eq!(same.read_file("secret").await.unwrap(), "mine");
        // What a user of this host has is no token's.
        let ours = local.create_session(&session_request("bash")).await.unwrap();
        assert_eq!(refused(laptop.session(&ours.id).show().await).0, 404);
        local.session(&ours.id).delete().await.unwrap();
        same.delete().await.unwrap();
    });
}

#[test]
fn what_is_for_this_host_is_not_answered_over_tcp() {
    let remote = Remote::start();
    let (laptop, local) = (remote.client("laptop"), Client::unix(remote.service.socket()));
    wait(async {
        let one = CheckRequest { runtime: Some("bash".to_owned()) };
        let not_here = (403, "local-only".to_owned());
        assert_eq!(refused(laptop.metrics().await), not_here);
        assert_eq!(refused(laptop.check(&one).await), not_here);
        for path in ["/judge0/statistics", "/judge0/statistics/", "/judge0/workers"] {
            assert_eq!(refused(laptop.call(Method::GET, path, Vec::new()).await), not_here, "{path}");
        }
        assert!(local.metrics().await.unwrap().contains("codesandbox_"));
        assert_eq!(local.check(&one).await.unwrap().runtimes.len(), 1);
    });
    // Other spellings lead nowhere.
    for path in ["/metrics/", "//metrics", "/%6detrics", "/./metrics", "/v1/../metrics"] {
        let answer = remote.raw_with("laptop", &format!("GET {path} HTTP/1.1"));
        assert!(answer.starts_with("HTTP/1.1 404 ") || answer.starts_with("HTTP/1.1 400 "), "{path}: {answer}");
    }
}

#[test]
fn pages_may_ask_only_from_where_the_configuration_says() {
    let remote = Remote::start();
    for (origin, status) in [
        ("https://judge.example.org", "200"),
        ("https://evil.example.org", "403"),
        ("null", "403"),
        ("http://judge.example.org", "403"),
    ] {
        let answer = remote.raw_with("laptop", &format!("GET /health HTTP/1.1\nOrigin: {origin}"));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{origin}: {answer}");
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{answer}");
    }
}

#[test]
fn a_token_that_was_taken_back_opens_nothing() {
    let remote = Remote::start();
    let (laptop, phone) = (remote.client("laptop"), remote.client("phone"));
    wait(laptop.health()).unwrap();
    remote.service.configure(json!({"clients": {"one": {"tokens": {"laptop": format!("sha256:{}", "0".repeat(64))}}}}));
    remote.service.reload_daemon();
    wait_for("the token to be gone", || wait(laptop.health()).is_err());
    assert_eq!(refused(wait(laptop.run(&bash("echo hi")))), (401, "unauthorized".to_owned()));
    wait(phone.run(&bash("echo hi"))).unwrap();
}

#[test]
fn whoever_hangs_up_over_tcp_ends_the_run() {
    let remote = Remote::start();
    let laptop = remote.client("laptop");
    wait(async {
        let mut events = laptop.run_streamed(&bash("echo there; sleep 600")).await.unwrap();
        while let Some(event) = events.next().await.unwrap() {
            if matches!(event, StreamEvent::Stdout(_)) {
                break;
            }
        }
        assert!(!remote.service.running_processes().is_empty());
        drop(events);
    });
    wait_for("the run to end", || remote.service.running_processes().is_empty());
}

#[test]
fn no_program_ever_sees_a_token() {
    const ECHO: &str = "
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_GET(self):
        body = str(self.headers).encode()
        self.send_response(200)
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)
HTTPServer(('127.0.0.1', 8000), Echo).serve_forever()
";
    let remote = Remote::start();
    let laptop = remote.client("laptop");
    let id = wait(async {
        let made = laptop.create_session(&session_request("python")).await.unwrap();
        let session = laptop.session(&made.id);
        session.write_file("echo.py", ECHO.as_bytes().to_vec()).await.unwrap();
        let argv = Some(["python3", "echo.py"].map(str::to_owned).to_vec());
        session.exec(&ExecRequest { argv, detach: Some(true), ..ExecRequest::default() }).await.unwrap();
        made.id
    });
    let ask = || remote.raw_with("laptop", &format!("GET /v1/sessions/{id}/ports/8000/ HTTP/1.1\nX-Mine: here"));
    wait_for("the program to listen", || ask().starts_with("HTTP/1.1 200 "));
    let answer = ask();
    // The control: other headers get there.
    assert!(answer.to_ascii_lowercase().contains("x-mine: here"), "{answer}");
    assert!(!answer.to_ascii_lowercase().contains("authorization"), "{answer}");
    assert!(!answer.contains(&remote.tokens["laptop"]), "{answer}");
    wait(laptop.session(&id).delete()).unwrap();
}

#[test]
fn nobody_listens_where_tokens_could_be_read_or_nobody_has_one() {
    let directory = tempfile::tempdir().unwrap();
    let told = |config: Value, listen: &str| {
        let path = directory.path().join("config.json");
        std::fs::write(&path, config.to_string()).unwrap();
        let mut daemon = Command::new(env!("CARGO_BIN_EXE_codesandboxd"));
        daemon.arg("--config").arg(&path).arg("--listen").arg(directory.path().join("api.sock"));
        let output = daemon.arg("--listen-tcp").arg(listen).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let clients = json!({"one": client_of(&json!({"laptop": new_token("laptop").1}), &json!([]), 0)});
    assert!(told(json!({"clients": clients}), "0.0.0.0:0").contains("tcp.allow_plain"));
    assert!(told(json!({}), "127.0.0.1:0").contains("no client has a token"));
}
