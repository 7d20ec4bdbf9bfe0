//! What is passed on between a program and a host that gets a secret, and how.

use std::io::{Read, Write};

use super::web::{body, chunk, head};
use super::{PLACEHOLDER, Scene, VALUE};

#[test]
fn what_the_host_sends_back_in_a_header_is_the_placeholder_again() {
    let scene = Scene::new();
    let answer = scene
        .connect("a.example")
        .ask(&format!("GET /echo HTTP/1.1\r\nHost: a.example\r\nAuthorization: Bearer {PLACEHOLDER}\r\n\r\n"));
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains(&format!("x-echo: Bearer {PLACEHOLDER}")), "{answer}");
    assert!(head.contains(&format!("set-cookie: a={PLACEHOLDER}; b={PLACEHOLDER}")), "{answer}");
    assert!(!head.contains(VALUE), "{answer}");
    // Bodies are not looked at: whom a secret is for is trusted with it.
    assert_eq!(body, format!("Bearer {VALUE}"));
    scene.uplink.stop();
}

#[test]
fn what_comes_bit_by_bit_is_passed_on_as_it_comes() {
    let scene = Scene::new();
    let mut client = scene.connect("a.example");
    client.0.write_all(b"GET /events HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    let said = head(&mut client.0).unwrap();
    assert!(said.contains("transfer-encoding: chunked"), "{said}");
    assert_eq!(chunk(&mut client.0).unwrap(), b"one");
    // Not before the program has the first does the host say the second.
    scene.web.go.send(()).unwrap();
    assert_eq!(chunk(&mut client.0).unwrap(), b"two");
    assert_eq!(chunk(&mut client.0).unwrap(), b"");
    scene.uplink.stop();
}

#[test]
fn large_bodies_come_whole_both_ways() {
    let scene = Scene::new();
    let mut client = scene.connect("a.example");
    let sent = 32 << 20;
    write!(client.0, "POST /big HTTP/1.1\r\nHost: a.example\r\nContent-Length: {sent}\r\n\r\n").unwrap();
    for _ in 0..32 {
        client.0.write_all(&[b'y'; 1 << 20]).unwrap();
    }
    client.0.flush().unwrap();
    let said = head(&mut client.0).unwrap();
    let received = body(&said, &mut client.0).unwrap();
    let told = format!("{sent} bytes");
    assert!(received.starts_with(told.as_bytes()), "{}", received.len());
    assert!(received.len() == told.len() + (32 << 20) && received[told.len()..].iter().all(|byte| *byte == b'x'));
    scene.uplink.stop();
}

#[test]
fn a_body_in_chunks_comes_whole() {
    let scene = Scene::new();
    let request =
        "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n4\r\n two\r\n0\r\n\r\n";
    assert!(scene.connect("a.example").ask(request).ends_with("fine"));
    assert!(scene.heard().ends_with("one two"), "{}", scene.heard());
    scene.uplink.stop();
}

#[test]
fn another_protocol_is_passed_on_behind_a_head_that_had_the_secret() {
    let scene = Scene::new();
    let mut client = scene.connect("a.example");
    write!(
        client.0,
        "GET /socket HTTP/1.1\r\nHost: a.example\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\
         Sec-WebSocket-Protocol: {PLACEHOLDER}\r\n\r\nfirst"
    )
    .unwrap();
    let said = head(&mut client.0).unwrap();
    assert!(said.starts_with("HTTP/1.1 101 ") && said.contains("upgrade: echo\r\n"), "{said}");
    assert!(scene.heard().contains(&format!("sec-websocket-protocol: {VALUE}")), "{}", scene.heard());
    let mut back = vec![0; 10];
    client.0.read_exact(&mut back).unwrap();
    assert_eq!(back, b"hellofirst");
    // What is said from now on is nobody's to look at.
    client.0.write_all(PLACEHOLDER.as_bytes()).unwrap();
    let mut back = vec![0; PLACEHOLDER.len()];
    client.0.read_exact(&mut back).unwrap();
    assert_eq!(back, PLACEHOLDER.as_bytes());
    client.0.conn.send_close_notify();
    client.0.flush().unwrap();
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    scene.uplink.stop();
}

#[test]
fn the_end_of_a_connection_is_passed_on_and_so_is_one_that_comes_too_soon() {
    let scene = Scene::new();
    let ask = |path: &str| {
        let mut client = scene.connect("a.example");
        write!(client.0, "GET {path} HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
        let said = head(&mut client.0).unwrap();
        (body(&said, &mut client.0), client)
    };
    let (whole, mut client) = ask("/last");
    assert_eq!(whole.unwrap(), b"fine");
    assert_eq!(client.0.read(&mut [0]).unwrap(), 0);
    let (part, _) = ask("/cut");
    assert!(part.is_err());
    scene.uplink.stop();
}

#[test]
fn bytes_and_connections_count_as_they_do_without() {
    let scene = Scene::with(&super::POLICY.replacen('{', r#"{"bytes": 30000, "connections": 1, "#, 1));
    let mut client = scene.connect("a.example");
    let request = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert!(client.ask(request).ends_with("fine"));
    assert!(scene.ground.sandbox.is_reset(&Scene::address().to_string()));
    let large = format!("POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 100000\r\n\r\n{}", "x".repeat(100_000));
    assert!(client.try_ask(&large).is_err());
    let mut denied = scene.uplink.launcher.denied_in_words();
    denied.sort();
    // The first was refused as a connection, the second within one.
    assert!(denied.len() >= 2 && denied.iter().all(|flow| flow.contains(" 443 bound ")), "{denied:?}");
    scene.uplink.stop();
}
