//! Callbacks against a real server of HTTP: what is told, how often, and where to it never goes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use common::tls::Authority;
use rustls::{ServerConnection, StreamOwned};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers its connections by these words, one after another, the last of them from then on; none
/// means that the connection is kept open without an answer. It tells each request.
fn server(answers: &'static [Option<&'static str>]) -> (SocketAddr, Receiver<String>) {
    server_over(answers, |stream| stream)
}

/// The same over what is made of each connection.
fn server_over<S: Read + Write + Send + 'static>(
    answers: &'static [Option<&'static str>],
    over: impl Fn(TcpStream) -> S + Send + 'static,
) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (told, heard) = channel();
    std::thread::spawn(move || {
        let mut silent = Vec::new();
        for (number, stream) in listener.incoming().enumerate() {
            let stream = stream.unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut stream = over(stream);
            if told.send(request(&mut stream)).is_err() {
                return;
            }
            match answers[number.min(answers.len() - 1)] {
                // It is no error of ours if nobody waits any more.
                Some(answer) => drop(stream.write_all(answer.as_bytes())),
                None => silent.push(stream),
            }
        }
    });
    (address, heard)
}

/// A request with a body of the length that it tells.
fn request(stream: &mut impl Read) -> String {
    let (mut text, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        let whole = String::from_utf8_lossy(&text).into_owned();
        if let Some((head, body)) = whole.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                return whole;
            }
        }
        match stream.read(&mut piece) {
            Ok(length @ 1..) => text.extend_from_slice(&piece[..length]),
            _ => return whole,
        }
    }
}

fn calling(address: SocketAddr) -> Value {
    with(bash("echo told"), json!({"callback_url": format!("http://{address}/done?x=1")}))
}

const FINE: Option<&str> = Some("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");

#[test]
fn the_end_is_told_by_a_put_with_the_usual_fields_in_base64() {
    let service = service(&json!({"enable_callbacks": true, "callbacks_allow_private": true}));
    let (address, heard) = server(&[FINE]);
    let done = run(&service, &calling(address));
    let told = heard.recv_timeout(PATIENCE).unwrap();
    let (head, body) = told.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("PUT /done?x=1 HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(&format!("host: {address}")) && head.contains("content-type: application/json"), "{head}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!((&body["stdout"], &body["token"]), (&json!("dG9sZAo=\n"), &done["token"]));
    assert_eq!(body["status"], json!({"id": 3, "description": "Accepted"}));
    assert_eq!(body.as_object().unwrap().len(), 8);
    assert!(heard.recv_timeout(Duration::from_millis(300)).is_err(), "it was told twice");
}

#[test]
fn who_does_not_answer_is_told_three_times() {
    let judge0 = json!({"enable_callbacks": true, "callbacks_allow_private": true, "callbacks_timeout": 2});
    let service = service(&judge0);
    // One that is silent, one that is no HTTP, then silence again.
    let (address, heard) = server(&[None, Some("nonsense\r\n\r\n"), None]);
    run(&service, &calling(address));
    let all = [(); 3].map(|()| heard.recv_timeout(PATIENCE).unwrap());
    assert!(all.iter().all(|told| told.starts_with("PUT ") && told == &all[0]), "{all:?}");
    assert!(heard.recv_timeout(Duration::from_secs(1)).is_err(), "it was told four times");
}

#[test]
fn any_answer_is_one_and_none_leads_elsewhere() {
    let service = service(&json!({"enable_callbacks": true, "callbacks_allow_private": true}));
    let (elsewhere, never) = server(&[FINE]);
    let moved: &'static str = Box::leak(
        format!("HTTP/1.1 307 Moved\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n").into_boxed_str(),
    );
    let answers: &'static [Option<&'static str>] = Box::leak(Box::new([Some(moved)]));
    let (address, heard) = server(answers);
    run(&service, &calling(address));
    assert!(heard.recv_timeout(PATIENCE).is_ok());
    assert!(heard.recv_timeout(Duration::from_secs(1)).is_err() && never.try_recv().is_err());
}

#[test]
fn who_is_told_over_tls_proves_who_it_is() {
    let (trusted, other) = (Authority::new(), Authority::new());
    let directory = tempfile::tempdir().unwrap();
    let certificates = directory.path().join("ca.pem");
    std::fs::write(&certificates, trusted.pem()).unwrap();
    let service = Service::start_with(json!({
        "judge0": {"enable": true, "enable_callbacks": true, "callbacks_allow_private": true, "callbacks_max_tries": 1},
        "network": {"ca_certificates": certificates},
    }));
    // Of another name, of an authority that nobody trusts, of a time that is over; and a good one.
    for (authority, name, until, is_told) in [
        (&trusted, "example.org", 2100, false),
        (&other, "localhost", 2100, false),
        (&trusted, "localhost", 2001, false),
        (&trusted, "localhost", 2100, true),
    ] {
        let config = authority.server(&[name], until);
        let secured = move |stream| StreamOwned::new(ServerConnection::new(config.clone()).unwrap(), stream);
        let (address, heard) = server_over(&[FINE], secured);
        let url = format!("https://localhost:{}/done", address.port());
        run(&service, &with(bash("echo told"), json!({"callback_url": url})));
        // Whoever is not told hears of the attempt, and of nothing that was to be told.
        let told = heard.recv_timeout(PATIENCE).unwrap();
        assert_eq!(told.starts_with("PUT /done HTTP/1.1\r\n"), is_told, "{name} {until}: {told}");
        assert_eq!(told.is_empty(), !is_told, "{told}");
    }
}

#[test]
fn private_addresses_are_not_called_unless_that_is_allowed() {
    let service = service(&json!({"enable_callbacks": true}));
    let (address, heard) = server(&[FINE]);
    let answer = post(&service, "/submissions", &calling(address));
    let told = json!({"callback_url": ["setting callback to a private address is not allowed"]});
    assert_eq!((answer.status, answer.json()), (422, told));
    // A name, and a number that is an address to the C library alone: both are known when they are looked up.
    for host in ["localhost", "2130706433", "0x7f.1"] {
        let url = format!("http://{host}:{}/", address.port());
        let done = run(&service, &with(bash("echo 1"), json!({"callback_url": url})));
        assert_eq!(done["status"]["id"], 3, "{host}");
    }
    assert!(heard.recv_timeout(Duration::from_secs(1)).is_err(), "a private address was called");
    // Positive control: the same name, where it may be called.
    service.configure(json!({"judge0": {"callbacks_allow_private": true}}));
    service.reload_daemon();
    common::wait_for("the new configuration", || post(&service, "/submissions", &calling(address)).status == 201);
    assert!(heard.recv_timeout(PATIENCE).is_ok());
    let url = format!("http://localhost:{}/by-name", address.port());
    run(&service, &with(bash("echo 1"), json!({"callback_url": url})));
    assert!(heard.recv_timeout(PATIENCE).unwrap().starts_with("PUT /by-name "));
}

#[test]
fn nobody_is_called_where_that_is_not_enabled() {
    let service = service(&json!({}));
    let (address, heard) = server(&[FINE]);
    let answer = post(&service, "/submissions", &calling(address));
    let told = json!({"callback_url": ["setting callback is not allowed"]});
    assert_eq!((answer.status, answer.json()), (422, told));
    assert!(heard.try_recv().is_err());
}
