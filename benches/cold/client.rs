//! A client that costs next to nothing: one write for a request, reads until the answer is whole.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use serde_json::json;

/// A connection to the daemon.
pub(crate) struct Client {
    stream: UnixStream,
    buffer: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(socket: &Path) -> Self {
        Self { stream: UnixStream::connect(socket).unwrap(), buffer: Vec::with_capacity(4096) }
    }

    pub(crate) fn send(&mut self, request: &[u8]) {
        self.stream.write_all(request).unwrap();
    }

    /// Sends a request and returns its whole answer, head and body.
    pub(crate) fn ask(&mut self, request: &[u8]) -> &[u8] {
        self.send(request);
        self.buffer.clear();
        let mut chunk = [0; 4096];
        while !is_whole(&self.buffer) {
            let count = self.stream.read(&mut chunk).unwrap();
            assert!(count > 0, "the daemon hung up: {}", String::from_utf8_lossy(&self.buffer));
            self.buffer.extend(&chunk[..count]);
        }
        &self.buffer
    }
}

fn is_whole(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let length: usize = length.and_then(|length| length.parse().ok()).expect("an answer has its length");
    answer.len() >= end + 4 + length
}

/// A request to run one source file.
pub(crate) fn request(runtime: &str, source: &str) -> Vec<u8> {
    let body = json!({"runtime": runtime, "files": [{"content": source}]}).to_string();
    let length = body.len();
    let head = "POST /v1/run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length:";
    format!("{head} {length}\r\n\r\n{body}").into_bytes()
}

/// Ends the measurement where a program did not run well: its figure would mean nothing.
pub(crate) fn check(answer: &[u8]) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("\"status\":\"ok\""), "{text}");
}
