//! Sessions as tests speak of them: requests about one, its programs, and what they print as it comes.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{Answer, Service, wait_for};

const JSON: (&str, &str) = ("content-type", "application/json");

/// A session; it outlives this.
#[derive(Debug, Clone)]
pub struct Session {
    pub socket: PathBuf,
    pub id: String,
}

/// Asks for a session.
pub fn try_create(service: &Service, body: &Value) -> Answer {
    service.request("POST", "/v1/sessions", &[JSON], &body.to_string())
}

/// Makes a session, which must be possible.
#[track_caller]
pub fn create(service: &Service, body: &Value) -> Session {
    let answer = try_create(service, body);
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    Session::of(service, answer.json()["id"].as_str().unwrap())
}

/// Makes one for the shell.
#[track_caller]
pub fn shell(service: &Service) -> Session {
    create(service, &json!({"runtime": "bash"}))
}

impl Session {
    pub fn of(service: &Service, id: &str) -> Self {
        Self { socket: service.socket(), id: id.to_owned() }
    }

    fn path(&self, tail: &str) -> String {
        format!("/v1/sessions/{}{tail}", self.id)
    }

    /// Asks something of it; nothing where the daemon is gone before it has answered.
    pub fn try_ask(&self, method: &str, tail: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
        super::request(&self.socket, method, &self.path(tail), headers, body)
    }

    #[track_caller]
    pub fn ask(&self, method: &str, tail: &str, body: &[u8]) -> Answer {
        self.try_ask(method, tail, &[], body).expect("the daemon answers")
    }

    pub fn try_post(&self, tail: &str, body: &Value) -> Option<Answer> {
        self.try_ask("POST", tail, &[JSON], body.to_string().as_bytes())
    }

    /// Has something done that must be possible.
    #[track_caller]
    pub fn post(&self, tail: &str, body: &Value) -> Value {
        let answer = self.try_post(tail, body).expect("the daemon answers");
        assert!((200..300).contains(&answer.status), "{tail}: {}", String::from_utf8_lossy(&answer.body));
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    /// What it is, or nothing where it is gone.
    pub fn seen(&self) -> Option<Value> {
        let answer = self.try_ask("GET", "", &[], b"")?;
        (answer.status == 200).then(|| answer.json())
    }

    #[track_caller]
    pub fn status(&self) -> String {
        self.seen().expect("the session lives")["status"].as_str().unwrap().to_owned()
    }

    #[track_caller]
    pub fn wait_until(&self, status: &str) {
        wait_for(status, || self.seen().is_some_and(|session| session["status"] == status));
    }

    #[track_caller]
    pub fn wait_until_gone(&self) {
        wait_for("the session to be gone", || {
            self.try_ask("GET", "", &[], b"").is_some_and(|answer| answer.status == 404)
        });
    }

    /// Runs a program to its end.
    #[track_caller]
    pub fn exec(&self, program: &Value) -> Value {
        let exec = self.post("/execs", program);
        assert_eq!(exec["state"], "finished", "{exec}");
        exec
    }

    /// Runs a line of the shell to its end, which must be a good one, and returns what it printed.
    #[track_caller]
    pub fn run(&self, line: &str) -> String {
        let exec = self.exec(&json!({"shell": line}));
        assert_eq!(exec["result"]["status"], "ok", "{line}: {exec}");
        String::from_utf8(printed(&exec, "stdout")).unwrap()
    }

    /// Starts a program and leaves it alone.
    #[track_caller]
    pub fn start(&self, program: Value) -> u64 {
        let mut program = program;
        program["detach"] = json!(true);
        self.post("/execs", &program)["id"].as_u64().unwrap()
    }

    #[track_caller]
    pub fn show(&self, exec: u64) -> Value {
        let answer = self.ask("GET", &format!("/execs/{exec}"), b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Waits for the end of a program.
    #[track_caller]
    pub fn finished(&self, exec: u64) -> Value {
        wait_for("the end of a program", || self.show(exec)["state"] == "finished");
        self.show(exec)
    }

    /// Waits until a program has printed this.
    #[track_caller]
    pub fn wait_for_output(&self, exec: u64, wanted: &str) {
        wait_for(wanted, || {
            let told = self.follow(&format!("/execs/{exec}/output")).gather();
            String::from_utf8_lossy(&told.stream("stdout")).contains(wanted)
        });
    }

    pub fn execs(&self) -> Vec<Value> {
        self.ask("GET", "/execs", b"").json()["execs"].as_array().unwrap().clone()
    }

    pub fn stdin(&self, exec: u64, bytes: &[u8], close: bool) -> u16 {
        self.ask("POST", &format!("/execs/{exec}/stdin?close={close}"), bytes).status
    }

    pub fn signal(&self, exec: u64, signal: &str) -> u16 {
        self.try_post(&format!("/execs/{exec}/signal"), &json!({"signal": signal})).unwrap().status
    }

    #[track_caller]
    pub fn put(&self, path: &str, bytes: &[u8]) {
        let answer = self.ask("PUT", &format!("/fs/file?path={path}"), bytes);
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// A file, where there is one.
    pub fn get(&self, path: &str) -> Option<Vec<u8>> {
        let answer = self.ask("GET", &format!("/fs/file?path={path}"), b"");
        (answer.status == 200).then(|| answer.body.to_vec())
    }

    /// All files by path.
    #[track_caller]
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let answer = self.ask("GET", "/fs/list?depth=32", b"");
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        let list = answer.json();
        let files = list["entries"].as_array().unwrap().iter().filter(|entry| entry["kind"] == "file");
        files
            .map(|entry| {
                let path = entry["path"].as_str().unwrap().to_owned();
                let bytes = self.get(&path).unwrap_or_else(|| panic!("{path} is listed and not there"));
                (path, bytes)
            })
            .collect()
    }

    #[track_caller]
    pub fn delete(&self) {
        let answer = self.ask("DELETE", "", b"");
        assert_eq!(answer.status, 204, "{}", String::from_utf8_lossy(&answer.body));
    }

    /// Events that a path tells as they happen.
    #[track_caller]
    pub fn follow(&self, tail: &str) -> Events {
        Events::open(self, "GET", tail, "")
    }

    /// Runs a program and is told what happens; dropping that hangs up.
    #[track_caller]
    pub fn stream(&self, program: &Value) -> Events {
        Events::open(self, "POST", "/execs", &program.to_string())
    }

    /// Sends a request, whose answer is left alone; dropping that hangs up.
    pub fn send(&self, method: &str, tail: &str, accept: &str, body: &str) -> UnixStream {
        let mut stream = UnixStream::connect(&self.socket).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        let (path, length) = (self.path(tail), body.len());
        // In HTTP/1.0 the body ends with the connection, so that lines can be read as they are.
        write!(
            stream,
            "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Accept: {accept}\r\nContent-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }
}

/// What a program printed, of its answer.
#[track_caller]
pub fn printed(exec: &Value, stream: &str) -> Vec<u8> {
    let result = &exec["result"];
    let text = result[stream].as_str().unwrap_or_else(|| panic!("no {stream} in {exec}"));
    decoded(text, &result[format!("{stream}_encoding")])
}

fn decoded(text: &str, encoding: &Value) -> Vec<u8> {
    if encoding == "base64" { STANDARD.decode(text).unwrap() } else { text.as_bytes().to_vec() }
}

/// Events as they come; dropping them hangs up.
pub struct Events {
    lines: BufReader<UnixStream>,
}

impl Events {
    #[track_caller]
    fn open(session: &Session, method: &str, tail: &str, body: &str) -> Self {
        Self::read(session.send(method, tail, "application/x-ndjson", body))
    }

    /// Those of a request that was sent.
    #[track_caller]
    pub fn read(stream: UnixStream) -> Self {
        let mut lines = BufReader::new(stream);
        let mut status = String::new();
        lines.read_line(&mut status).unwrap();
        assert!(status.contains(" 200 "), "{status}");
        let mut line = status;
        while !line.trim_end().is_empty() {
            line.clear();
            lines.read_line(&mut line).unwrap();
        }
        Self { lines }
    }

    /// The next event; nothing where the connection is closed.
    pub fn next(&mut self) -> Option<Value> {
        let mut line = String::new();
        match self.lines.read_line(&mut line) {
            // What has no end was cut by the end of the daemon.
            Ok(_) if line.ends_with('\n') => Some(serde_json::from_str(&line).unwrap()),
            Ok(_) => None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => None,
            Err(error) => panic!("no event comes: {error}"),
        }
    }

    /// Everything up to the end.
    pub fn gather(mut self) -> Told {
        let mut told = Told::default();
        while let Some(event) = self.next() {
            told.note(event);
        }
        told
    }
}

/// What was told of a program.
#[derive(Debug, Default)]
pub struct Told {
    streams: BTreeMap<String, (u64, Vec<u8>)>,
    /// Bytes that were lost.
    pub gaps: u64,
    pub last: Value,
}

impl Told {
    /// Takes an event; output must go on where it stood.
    #[track_caller]
    pub fn note(&mut self, event: Value) {
        match event["event"].as_str() {
            Some("output") => {
                let name = event["stream"].as_str().unwrap();
                let bytes = decoded(event["data"].as_str().unwrap(), &event["encoding"]);
                let sequence = event["sequence"].as_u64().unwrap();
                let (next, all) = self.streams.entry(name.to_owned()).or_insert((sequence, Vec::new()));
                assert_eq!(*next, sequence, "bytes of {name} are lost or come twice");
                *next += bytes.len() as u64;
                all.extend(bytes);
            }
            Some("gap") => {
                let (from, to) = (event["from"].as_u64().unwrap(), event["to"].as_u64().unwrap());
                assert!(from < to, "{event}");
                let place =
                    self.streams.entry(event["stream"].as_str().unwrap().to_owned()).or_insert((from, Vec::new()));
                assert_eq!(place.0, from, "{event}");
                place.0 = to;
                self.gaps += to - from;
            }
            _ => {}
        }
        self.last = event;
    }

    pub fn stream(&self, name: &str) -> Vec<u8> {
        self.streams.get(name).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }

    /// Number of the byte that comes next.
    pub fn next(&self, name: &str) -> u64 {
        self.streams.get(name).map_or(0, |(next, _)| *next)
    }
}
