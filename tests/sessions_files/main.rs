//! Files of sessions, their snapshots, and the walls around both, over HTTP.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../payloads/mod.rs"]
mod payloads;

mod attacks;
mod calls;
mod disk;
mod snapshots;
mod uploads;
mod walls;

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use common::{Answer, Service, merge, request};

/// A session, which is deleted with this.
struct Session<'a> {
    service: &'a Service,
    id: String,
}

impl<'a> Session<'a> {
    fn new(service: &'a Service) -> Self {
        Self::with(service, json!({}))
    }

    /// One of Python, with more in its request.
    fn with(service: &'a Service, changes: Value) -> Self {
        let mut asked = json!({"runtime": "python@3.11"});
        merge(&mut asked, changes);
        let answer = post(service, "/v1/sessions", &asked);
        Self::made(service, &answer)
    }

    fn made(service: &'a Service, answer: &Answer) -> Self {
        assert_eq!(answer.status, 201, "{}", text(answer));
        Self { service, id: answer.json()["id"].as_str().unwrap().to_owned() }
    }

    fn at(&self, rest: &str) -> String {
        format!("/v1/sessions/{}{rest}", self.id)
    }

    fn call(&self, method: &str, rest: &str, body: &[u8]) -> Answer {
        // A refusal that comes before all of a body was sent may be lost with the connection.
        let ask = |_| request(&self.service.socket(), method, &self.at(rest), &[], body);
        (0..20).find_map(ask).expect("the daemon answers")
    }

    fn get(&self, rest: &str) -> Answer {
        self.call("GET", rest, b"")
    }

    fn post(&self, rest: &str, body: &Value) -> Answer {
        post(self.service, &self.at(rest), body)
    }

    /// What must be done, and is answered with JSON or nothing.
    #[track_caller]
    fn done(&self, method: &str, rest: &str, body: &Value) -> Value {
        let headers = [("content-type", "application/json")];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let answer = self.service.request(method, &self.at(rest), &headers, &body);
        assert!((200..300).contains(&answer.status), "{method} {rest}: {} {}", answer.status, text(&answer));
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn read(&self, path: &str) -> Answer {
        self.get(&format!("/fs/file?path={}", encoded(path)))
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> Answer {
        self.call("PUT", &format!("/fs/file?path={}", encoded(path)), bytes.as_ref())
    }

    #[track_caller]
    fn put(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let answer = self.write(path, bytes);
        assert_eq!(answer.status, 204, "{path}: {}", text(&answer));
    }

    #[track_caller]
    fn content(&self, path: &str) -> Vec<u8> {
        let answer = self.read(path);
        assert_eq!(answer.status, 200, "{path}: {}", text(&answer));
        answer.body.to_vec()
    }

    /// Paths and kinds of all that there is, in the order of the paths.
    #[track_caller]
    fn names(&self, path: &str) -> Vec<String> {
        let listed = self.done("GET", &format!("/fs/list?path={}&depth=32", encoded(path)), &Value::Null);
        assert_eq!(listed["truncated"], false);
        let entries = listed["entries"].as_array().unwrap();
        entries.iter().map(|entry| entry["path"].as_str().unwrap().to_owned()).collect()
    }

    /// A program that has ended, however that was.
    #[track_caller]
    fn exec(&self, program: &Value) -> Value {
        self.done("POST", "/execs", program)["result"].take()
    }

    /// What a program has printed that ended well.
    #[track_caller]
    fn printed(&self, program: &Value) -> String {
        let result = self.exec(program);
        assert_eq!((&result["status"], &result["exit_code"]), (&json!("ok"), &json!(0)), "{result}");
        result["stdout"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    fn shell(&self, line: &str) -> String {
        self.printed(&json!({"shell": line}))
    }

    #[track_caller]
    fn python(&self, source: &str) -> String {
        self.printed(&json!({"argv": ["python3.11", "-I", "-c", source]}))
    }

    /// Starts a program that goes on; its number.
    #[track_caller]
    fn start(&self, program: &Value) -> u64 {
        let mut program = program.clone();
        program["detach"] = json!(true);
        self.done("POST", "/execs", &program)["id"].as_u64().unwrap()
    }

    fn exec_view(&self, exec: u64) -> Value {
        self.done("GET", &format!("/execs/{exec}"), &Value::Null)
    }

    /// Waits until a program that goes on has printed something.
    fn wait_printed(&self, exec: u64, wanted: &str) {
        let mut lines = Lines::get(self.service, &self.at(&format!("/execs/{exec}/output?follow=true")));
        let mut printed = String::new();
        while !printed.contains(wanted) {
            let event = lines.next().unwrap_or_else(|| panic!("it ended; printed: {printed}"));
            assert_ne!(event["event"], "finished", "{event}; printed: {printed}");
            printed.push_str(event["data"].as_str().unwrap_or_default());
        }
    }

    #[track_caller]
    fn snapshot(&self) -> u64 {
        self.done("POST", "/snapshots", &Value::Null)["id"].as_u64().unwrap()
    }

    #[track_caller]
    fn fork(&self, change: &Value) -> Session<'a> {
        let answer = self.post("/fork", change);
        Session::made(self.service, &answer)
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let answer = self.call("DELETE", "", b"");
            assert!([204, 404].contains(&answer.status), "{}", text(&answer));
        }
    }
}

/// An answer of JSON events, while it comes. Dropping it hangs up.
struct Lines {
    lines: BufReader<UnixStream>,
}

impl Lines {
    /// HTTP/1.0 has the body end with the connection, so that the lines can be read as they are.
    fn get(service: &Service, path: &str) -> Self {
        let mut stream = UnixStream::connect(service.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n").unwrap();
        let mut lines = BufReader::new(stream);
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert!(line.contains(" 200 "), "{line}");
        while line.trim_end() != "" {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Self { lines }
    }

    fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        (!line.is_empty()).then(|| serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }
}

/// The head of an upload of so many bytes, on a connection of its own.
fn begin_upload(session: &Session<'_>, rest: &str, length: u64) -> UnixStream {
    let mut stream = UnixStream::connect(session.service.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let path = session.at(rest);
    write!(stream, "PUT {path} HTTP/1.0\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").unwrap();
    stream
}

/// The status that a connection is answered with.
fn status_of(mut stream: UnixStream) -> u16 {
    let mut head = String::new();
    stream.read_to_string(&mut head).unwrap();
    head.get(9..12).unwrap_or_else(|| panic!("no answer: {head:?}")).parse().unwrap()
}

fn post(service: &Service, path: &str, body: &Value) -> Answer {
    service.request("POST", path, &[("content-type", "application/json")], &body.to_string())
}

fn text(answer: &Answer) -> String {
    String::from_utf8_lossy(&answer.body).chars().take(2000).collect()
}

/// Status and kind of problem of an answer.
fn problem(answer: &Answer) -> (u16, String) {
    let kind = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    let kind = kind["type"].as_str().unwrap_or_default().trim_start_matches("urn:codesandbox:problem:");
    (answer.status, kind.to_owned())
}

#[track_caller]
fn assert_problem(answer: &Answer, status: u16, kind: &str) {
    assert_eq!(problem(answer), (status, kind.to_owned()), "{}", text(answer));
}

/// A value in a query.
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// A tar archive of these entries, with names as they are.
fn tar_of(entries: &[(&str, tar::EntryType, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        let is_file = *kind == tar::EntryType::Regular;
        header.set_size(if is_file { content.len() as u64 } else { 0 });
        // The builder's own way refuses what these tests are about.
        let place = &mut header.as_old_mut().name;
        place[..name.len()].copy_from_slice(name.as_bytes());
        if !is_file {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_cksum();
        builder.append(&header, if is_file { content.as_bytes() } else { b"" }).unwrap();
    }
    builder.into_inner().unwrap()
}
