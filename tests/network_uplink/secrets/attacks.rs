//! What would bring a secret to somebody else, and does not.

use std::io::{Read, Write};
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use rustls::ServerConfig;

use super::web::{self, Client, Web};
use super::{PLACEHOLDER, POLICY, Scene, VALUE};
use crate::ground::{FIRST, Ground, serve};
use crate::name_server::NameServer;
use crate::resolver::ask;
use crate::tls::Authority;
use crate::uplink::{Uplink, start};

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let scene = Scene::new();
    let secret = format!("Authorization: {PLACEHOLDER}\r\n\r\n");
    for (status, request) in [
        ("421", "GET / HTTP/1.1\r\nHost: b.example\r\nSECRET\r\n"),
        ("421", "GET / HTTP/1.1\r\nHost: a.example:8443\r\nSECRET\r\n"),
        ("421", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: b.example\r\nSECRET\r\n"),
        ("421", "GET / HTTP/1.1\r\nHost: a.example\r\nHost: a.example\r\nSECRET\r\n"),
        ("421", "GET / HTTP/1.1\r\nSECRET\r\n"),
        ("421", "GET / HTTP/1.0\r\nSECRET\r\n"),
        ("421", "GET https://b.example/ HTTP/1.1\r\nHost: a.example\r\nSECRET\r\n"),
        ("421", "GET https://a.example/ HTTP/1.1\r\nHost: b.example\r\nSECRET\r\n"),
        ("421", "GET http://a.example/ HTTP/1.1\r\nHost: a.example\r\nSECRET\r\n"),
        ("421", "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nSECRET\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost: a.example\r\nX: one\r\n two\r\nSECRET\r\n"),
        ("400", "GET / HTTP/1.1\r\nHost : a.example\r\nSECRET\r\n"),
        ("400", "GET / HTTP/1.1\r\n Host: a.example\r\nSECRET\r\n"),
        ("400", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 1\r\nContent-Length: 2\r\nSECRET\r\nxx"),
        ("400", "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: +1\r\nSECRET\r\nx"),
        ("400", "POST / HTTP/1.1\r\nHost: a.example\r\nTransfer-Encoding: gzip\r\nSECRET\r\n"),
        ("400", "POST / HTTP/1.0\r\nHost: a.example\r\nTransfer-Encoding: chunked\r\nSECRET\r\n0\r\n\r\n"),
    ] {
        let answer = scene.connect("a.example").try_ask(&request.replace("SECRET\r\n", &secret));
        let answer = answer.unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert_eq!(answer.split(' ').nth(1), Some(status), "{request:?}: {answer}");
    }
    // Another protocol than the one that both sides agreed on is not answered.
    assert!(scene.connect("a.example").try_ask("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").is_err());
    assert_eq!(*scene.web.heard.lock().unwrap(), Vec::<String>::new());
    let denied = scene.uplink.launcher.denied_in_words();
    assert!(denied.iter().any(|one| one.contains("a.example") && one.contains("misdirected")), "{denied:?}");
    let control = format!("GET / HTTP/1.1\r\nHost: a.example\r\n{secret}");
    assert!(scene.connect("a.example").ask(&control).ends_with("fine"));
    scene.uplink.stop();
}

#[test]
fn what_the_host_is_sent_has_one_framing_whatever_the_program_said() {
    let scene = Scene::new();
    // The length says that there is nothing, the chunks that there is something.
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";
    for framing in
        ["Content-Length: 0\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 0"]
    {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: a.example\r\n{framing}\r\n\r\n{:x}\r\n{smuggled}\r\n0\r\n\r\n",
            smuggled.len()
        );
        scene.connect("a.example").try_ask(&request).ok();
    }
    let heard = scene.web.heard.lock().unwrap().clone();
    for request in heard {
        let head = request.split("\r\n\r\n").next().unwrap().to_owned();
        assert!(head.starts_with("POST / ") && !head.contains("content-length"), "{request}");
    }
    scene.uplink.stop();
}

#[test]
fn without_tls_a_placeholder_stays_what_it_is() {
    let scene = Scene::new();
    let (given, heard) = std::sync::mpsc::channel();
    let plain = move |mut stream: std::net::TcpStream| {
        given.send(web::head(&mut stream).unwrap()).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine").unwrap();
    };
    serve(scene.ground.internet.listen(&format!("{FIRST}:80")), plain);
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    let mut stream = scene.ground.sandbox.connect(&format!("{FIRST}:80")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    assert!(heard.recv_timeout(crate::ground::PATIENCE).unwrap().contains(PLACEHOLDER));
    // Through the proxy the same.
    let mut stream = scene.ground.sandbox.connect("127.0.0.1:2").unwrap();
    stream.write_all(request.replace("GET /", "GET http://a.example/").as_bytes()).unwrap();
    assert!(heard.recv_timeout(crate::ground::PATIENCE).unwrap().contains(PLACEHOLDER));
    scene.uplink.stop();
}

#[test]
fn what_is_no_tls_is_passed_on_as_it_is_at_the_port_of_a_secret_too() {
    let ground = Ground::new();
    let name_server = NameServer::start(&ground);
    name_server.has("a.example", &[FIRST]);
    let (given, heard) = std::sync::mpsc::channel();
    serve(ground.internet.listen(&format!("{FIRST}:443")), move |mut stream| {
        stream.write_all(b"first").unwrap();
        let mut said = vec![0; PLACEHOLDER.len()];
        stream.read_exact(&mut said).unwrap();
        given.send(said).unwrap();
    });
    let (granted, _) = web::granted(&Authority::new());
    let uplink =
        Uplink::begin(&ground, codesandbox::network::uplink::Start { secrets: Some(granted), ..start(POLICY) });
    ask(&ground, "a.example", RecordType::A);
    // A host that speaks first is heard before the program has said anything.
    let mut stream = ground.sandbox.connect(&format!("{FIRST}:443")).unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).unwrap();
    stream.write_all(PLACEHOLDER.as_bytes()).unwrap();
    assert_eq!(heard.recv_timeout(crate::ground::PATIENCE).unwrap(), PLACEHOLDER.as_bytes());
    uplink.stop();
}

/// What comes of asking a host that shows this.
fn shown(config: impl FnOnce(&Authority) -> Arc<ServerConfig>) -> (std::io::Result<String>, Vec<String>, Vec<String>) {
    let ground = Ground::new();
    let name_server = NameServer::start(&ground);
    name_server.has("a.example", &[FIRST]);
    let authority = Authority::new();
    let config = config(&authority);
    let web = Web::with(&ground, &format!("{FIRST}:443"), authority, config);
    let (granted, pem) = web::granted(&web.authority);
    let uplink =
        Uplink::begin(&ground, codesandbox::network::uplink::Start { secrets: Some(granted), ..start(POLICY) });
    ask(&ground, "a.example", RecordType::A);
    let stream = ground.sandbox.connect(&format!("{FIRST}:443")).unwrap();
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    let answer = Client::new(stream, "a.example", &pem).try_ask(&request);
    let denied = uplink.launcher.denied_in_words();
    uplink.stop();
    let heard = web.heard.lock().unwrap().clone();
    (answer, heard, denied)
}

#[test]
fn a_host_that_does_not_prove_who_it_is_gets_nothing_and_that_is_told() {
    let (answer, heard, denied) = shown(|web| web.server(&["a.example"], 2100));
    assert!(answer.unwrap().ends_with("fine") && heard[0].contains(VALUE) && denied.is_empty(), "{denied:?}");
    let others: [fn(&Authority) -> Arc<ServerConfig>; 3] = [
        |web| web.server(&["a.example"], 2001),
        |web| web.server(&["b.example", "x.a.example"], 2100),
        |_| Authority::new().server(&["a.example"], 2100),
    ];
    for config in others {
        let (answer, heard, denied) = shown(config);
        assert!(answer.is_err() && heard.is_empty());
        assert_eq!(denied, [format!("tcp a.example {FIRST} 443 certificate 1")]);
    }
}
