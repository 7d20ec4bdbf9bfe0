//! What the proxy reaches, and how it says that it does not.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;

use hickory_proto::rr::RecordType;

use crate::ground::{FIRST, Ground, HOST, PATIENCE, PRIVATE, SECOND, echo, echoes, serve};
use crate::name_server::NameServer;
use crate::uplink::{Uplink, list};

const POLICY: &str = r#"{"allow": [
    {"domain": "a.example", "ports": [7, 80, 81]},
    {"domain": "inner.example"},
    {"domain": "gone.example"},
    {"cidr": "151.101.66.0/24", "ports": [7]}
]}"#;

fn ground() -> (Ground, NameServer) {
    let ground = Ground::new();
    serve(ground.internet.listen("0.0.0.0:7"), echo);
    serve(ground.internet.listen("0.0.0.0:80"), tell_back);
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    server.has("inner.example", &[PRIVATE]);
    (ground, server)
}

/// An HTTP server that answers with the request that it read.
fn tell_back(mut stream: TcpStream) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).unwrap_or(0) == 0 {
            return;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    let told = format!("{head}{}", String::from_utf8(body).unwrap());
    let answer =
        format!("HTTP/1.1 200 OK\r\nConnection: x-hop\r\nX-Hop: 1\r\nContent-Length: {}\r\n\r\n{told}", told.len());
    stream.write_all(answer.as_bytes()).unwrap();
}

/// Sends a request to the proxy; the head and the body of what it answers.
fn send(ground: &Ground, request: &str) -> (String, String, TcpStream) {
    let mut stream = ground.sandbox.connect("127.0.0.1:2").unwrap();
    // What is too long is refused before it is read to its end.
    stream.write_all(request.as_bytes()).unwrap_or_default();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
    let length = head.to_lowercase().lines().find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    reader.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap(), stream)
}

fn status(ground: &Ground, request: &str) -> (u16, String) {
    let (head, body, _) = send(ground, request);
    (head.split(' ').nth(1).map_or(0, |code| code.parse().unwrap()), body)
}

#[test]
fn connect_makes_a_tunnel_to_what_is_listed() {
    let (ground, server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    for target in ["a.example:7", "A.Example:7", &format!("{SECOND}:7")] {
        let (head, _, stream) = send(&ground, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(echoes(&stream, b"hello"), "{target}");
    }
    // What comes along with the request is the tunnel's.
    let mut stream = ground.sandbox.connect("[::1]:2").unwrap();
    stream.write_all(b"CONNECT a.example:7 HTTP/1.1\r\n\r\nearly").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    assert!(all.starts_with("HTTP/1.1 200") && all.ends_with("\r\n\r\nearlyend"), "{all}");
    assert!(server.asked().contains(&("a.example".to_owned(), RecordType::AAAA)));
    assert_eq!(uplink.launcher.denied(), []);
    uplink.stop();
}

#[test]
fn what_is_refused_is_said_in_a_sentence_and_counted() {
    let (ground, server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    let connect = |target: &str| status(&ground, &format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n"));
    let (code, sentence) = connect("other.example:443");
    assert_eq!(code, 403);
    assert_eq!(sentence, "other.example:443 is refused: no entry of the sandbox's network policy names it\n");
    assert_eq!(server.asked(), []);
    for (target, word) in [
        ("a.example:443", "but not this port"),
        ("inner.example:443", "private"),
        (&format!("{HOST}:80"), "private"),
        (&format!("{PRIVATE}:80"), "private"),
        ("127.0.0.1:53", "private"),
        ("[::1]:53", "private"),
        ("[::ffff:127.0.0.1]:53", "private"),
        ("8.8.8.8:53", "no entry"),
        (&format!("{SECOND}:8"), "but not this port"),
    ] {
        let (code, sentence) = connect(target);
        assert!(code == 403 && sentence.contains(word), "{target} {code} {sentence}");
    }
    assert_eq!(status(&ground, "GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n").0, 403);
    // Not there, and nobody there.
    assert_eq!(connect("gone.example:443").0, 502);
    assert_eq!(connect("a.example:81").0, 502);
    let denied = uplink.launcher.denied_in_words();
    for expected in [
        "proxy other.example 443 not_listed 1",
        "proxy a.example 443 port 1",
        "proxy inner.example 10.1.2.3 private 1",
        "proxy 198.35.26.2 80 private 1",
        "proxy 8.8.8.8 53 not_listed 1",
        "proxy a.example 151.101.2.132 81 unreachable 1",
    ] {
        assert!(denied.contains(&expected.to_owned()), "{expected}: {denied:?}");
    }
    uplink.stop();
}

#[test]
fn plain_requests_are_sent_on_without_what_is_between_neighbours() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    let request = "POST http://a.example/path?q=1 HTTP/1.1\r\nHost: a.example\r\nX-Own: yes\r\nX-Secret: no\r\n\
        Connection: keep-alive, x-secret\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\n\
        Content-Length: 5\r\n\r\nhello";
    let (head, told, mut stream) = send(&ground, request);
    assert!(head.starts_with("HTTP/1.1 200") && !head.to_lowercase().contains("x-hop"), "{head}");
    assert!(told.starts_with("POST /path?q=1 HTTP/1.1\r\n") && told.ends_with("\r\n\r\nhello"), "{told}");
    assert!(told.contains("host: a.example\r\n") && told.contains("x-own: yes\r\n"), "{told}");
    assert!(!told.contains("secret") && !told.to_lowercase().contains("proxy"), "{told}");
    // The next one over the same connection is judged by itself.
    stream.write_all(b"GET http://other.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 403");
    uplink.stop();
}

#[test]
fn a_policy_that_is_taken_back_ends_a_plain_request() {
    const PART: &[u8] = b"5\r\nhello\r\n";
    let (ground, _server) = ground();
    // Hands out each connection whose request has come, for the test to answer it.
    let (given, streams) = mpsc::channel();
    serve(ground.internet.listen(&format!("{FIRST}:81")), move |stream| {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap_or(0) > 0 {}
        given.send(stream).unwrap();
    });
    let uplink = Uplink::start(&ground, POLICY);
    let ask = || {
        let mut inside = ground.sandbox.connect("127.0.0.1:2").unwrap();
        inside.write_all(b"GET http://a.example:81/ HTTP/1.1\r\nHost: a.example:81\r\n\r\n").unwrap();
        (inside, streams.recv_timeout(PATIENCE).unwrap())
    };
    let begin = || {
        let (mut inside, mut outside) = ask();
        outside.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        outside.write_all(PART).unwrap();
        let mut reader = BufReader::new(inside.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") && reader.read_line(&mut head).unwrap() > 0 {}
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        let mut part = [0; PART.len()];
        reader.read_exact(&mut part).unwrap();
        assert_eq!(part, PART);
        assert!(reader.buffer().is_empty());
        inside.flush().unwrap();
        (inside, outside)
    };
    let (mut inside, mut outside) = begin();
    let (mut waiting, mut silent) = ask();
    // Another that allows it still: it goes on.
    uplink.launcher.set(list(r#"{"allow": [{"domain": "a.example", "ports": [81]}]}"#)).unwrap();
    outside.write_all(PART).unwrap();
    let mut part = [0; PART.len()];
    inside.read_exact(&mut part).unwrap();
    assert_eq!(part, PART);
    uplink.launcher.set(list(r#"{"allow": [{"domain": "a.example", "ports": [80]}]}"#)).unwrap();
    // On both sides, without the chunk that would have a program take the part for the whole.
    for stream in [&mut outside, &mut inside, &mut silent] {
        let read = stream.read(&mut [0; 16]);
        let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(read.as_ref().map_or_else(is_reset, |read| *read == 0), "{read:?}");
    }
    // Where no answer had begun there is one that says so.
    let mut start = [0; 12];
    waiting.read_exact(&mut start).unwrap();
    assert_eq!(&start, b"HTTP/1.1 502");
    uplink.stop();
}

#[test]
fn requests_that_could_be_read_in_two_ways_reach_nobody() {
    let (ground, server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    for (request, code) in [
        ("GET http://a.example/ HTTP/1.1\r\nHost: other.example\r\n\r\n", 400),
        ("GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nHost: other.example\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("GET https://a.example/ HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        ("CONNECT a.example HTTP/1.1\r\nHost: a.example\r\n\r\n", 400),
        (
            "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
            400,
        ),
        ("POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked, x\r\n\r\n0\r\n\r\n", 400),
        ("GET http://a.example/ HTTP/1.1\r\nHost : a.example\r\n\r\n", 400),
        (&format!("GET http://a.example/ HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(70_000)), 431),
        (&format!("GET http://a.example/ HTTP/1.1\r\n{}\r\n", "X: y\r\n".repeat(200)), 431),
    ] {
        assert_eq!(status(&ground, request).0, code, "{}", &request[..request.len().min(200)]);
    }
    assert_eq!(server.asked(), []);
    // Where length and chunks contradict one another one of them goes.
    let both = "POST http://a.example/ HTTP/1.1\r\nHost: a.example\r\nContent-Length: 60\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let (_, told, _) = send(&ground, both);
    assert!(!told.contains("content-length: 60"), "{told}");
    uplink.stop();
}

#[test]
fn bytes_through_the_proxy_count_too() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, &POLICY.replacen('{', r#"{"bytes": 1000, "#, 1));
    let (_, _, stream) = send(&ground, "CONNECT a.example:7 HTTP/1.1\r\n\r\n");
    assert!(echoes(&stream, &[1; 300]));
    let get = format!("GET http://a.example/ HTTP/1.1\r\nX: {}\r\n\r\n", "y".repeat(300));
    // The answer does not come whole.
    assert_eq!(status(&ground, &get).0, 502);
    assert!(!echoes(&stream, &[1; 300]));
    let denied = uplink.launcher.denied_in_words();
    assert!(denied.iter().any(|flow| flow.contains("bound")), "{denied:?}");
    uplink.stop();
}
