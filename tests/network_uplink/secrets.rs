//! Secrets that a host gets and a program never sees.

mod attacks;
mod held;
mod passing;
mod web;

use std::net::SocketAddr;

use hickory_proto::rr::RecordType;

use crate::ground::{FIRST, Ground};
use crate::name_server::NameServer;
use crate::resolver::ask;
use crate::uplink::{Uplink, start};
use web::{Client, Web};

use crate::tls::Authority;

/// What the program has, and what the host gets.
const PLACEHOLDER: &str = "csb-secret-0123456789abcdef0123456789abcdef";
const VALUE: &str = "correct-horse-battery-staple";

const POLICY: &str = r#"{"allow": [{"domain": "a.example", "ports": [80, 443]}, {"domain": "b.example", "ports": [443]}],
    "secrets": {"TOKEN": "one"}}"#;

/// Two hosts at one address, of which the first gets a secret, and an uplink that has it.
struct Scene {
    ground: Ground,
    web: Web,
    uplink: Uplink,
    /// Whom the sandbox trusts besides the web's own.
    sandbox_authority: String,
    _name_server: NameServer,
}

impl Scene {
    fn new() -> Self {
        Self::with(POLICY)
    }

    fn with(policy: &str) -> Self {
        let ground = Ground::new();
        let name_server = NameServer::start(&ground);
        for name in ["a.example", "b.example"] {
            name_server.has(name, &[FIRST]);
        }
        let web = Web::start(&ground, &format!("{FIRST}:443"), &["a.example", "b.example"]);
        let (granted, sandbox_authority) = web::granted(&web.authority);
        let uplink =
            Uplink::begin(&ground, codesandbox::network::uplink::Start { secrets: Some(granted), ..start(policy) });
        for name in ["a.example", "b.example"] {
            ask(&ground, name, RecordType::A);
        }
        Self { ground, web, uplink, sandbox_authority, _name_server: name_server }
    }

    /// As a program of the sandbox, that trusts the sandbox's authority alone.
    fn connect(&self, name: &str) -> Client {
        let stream = self.ground.sandbox.connect(&format!("{FIRST}:443")).unwrap();
        Client::new(stream, name, &self.sandbox_authority)
    }

    /// As one that trusts the host's alone.
    fn connect_trusting_the_web(&self, name: &str) -> Client {
        let stream = self.ground.sandbox.connect(&format!("{FIRST}:443")).unwrap();
        Client::new(stream, name, &self.web.authority.pem())
    }

    /// What the host was asked for last.
    fn heard(&self) -> String {
        self.web.heard.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn address() -> SocketAddr {
        format!("{FIRST}:443").parse().unwrap()
    }
}

#[test]
fn the_host_gets_the_secret_and_the_program_has_a_placeholder() {
    let scene = Scene::new();
    let mut client = scene.connect("a.example");
    // In the headers that are named, in whatever case, and in nothing else; several on one connection.
    for _ in 0..2 {
        let body = format!("body {PLACEHOLDER}");
        let answer = client.ask(&format!(
            "POST /{PLACEHOLDER}?q={PLACEHOLDER} HTTP/1.1\r\nHost: A.example\r\nAUTHORIZATION: Bearer {PLACEHOLDER}\r\n\
             X-Api-Key: {PLACEHOLDER}\r\nCookie: {PLACEHOLDER}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("fine"), "{answer}");
        let heard = scene.heard();
        assert!(heard.starts_with(&format!("POST /{PLACEHOLDER}?q={PLACEHOLDER} HTTP/1.1\r\n")), "{heard}");
        assert!(heard.contains(&format!("\r\nauthorization: Bearer {VALUE}\r\n")), "{heard}");
        assert!(heard.contains(&format!("\r\nx-api-key: {VALUE}\r\n")), "{heard}");
        assert!(heard.contains(&format!("\r\ncookie: {PLACEHOLDER}\r\n")), "{heard}");
        assert!(heard.ends_with(&body), "{heard}");
        assert_eq!(heard.matches(VALUE).count(), 2);
    }
    assert_eq!(scene.uplink.launcher.denied_in_words(), Vec::<String>::new());
    scene.uplink.stop();
}

#[test]
fn basic_credentials_have_it_within() {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    let scene = Scene::new();
    let written = STANDARD.encode(format!("user:{PLACEHOLDER}"));
    scene
        .connect("a.example")
        .ask(&format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: Basic {written}\r\n\r\n"));
    let expected = format!("Basic {}", STANDARD.encode(format!("user:{VALUE}")));
    assert!(scene.heard().contains(&expected), "{}", scene.heard());
    scene.uplink.stop();
}

#[test]
fn another_host_at_the_same_address_gets_the_placeholder_alone() {
    let scene = Scene::new();
    let ask = |client: &mut Client, host: &str| {
        let answer = client.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nAuthorization: {PLACEHOLDER}\r\n\r\n"));
        assert!(answer.ends_with("fine"), "{answer}");
        scene.heard()
    };
    // Its own certificate, and so its own connection.
    let heard = ask(&mut scene.connect_trusting_the_web("b.example"), "b.example");
    assert!(heard.contains(PLACEHOLDER) && !heard.contains(VALUE), "{heard}");
    // Nor does it by calling itself the first within.
    let heard = ask(&mut scene.connect_trusting_the_web("b.example"), "a.example");
    assert!(heard.contains(PLACEHOLDER) && !heard.contains(VALUE), "{heard}");
    // Nor where nobody is named.
    let heard = ask(&mut scene.connect_trusting_the_web(FIRST), "a.example");
    assert!(heard.contains(PLACEHOLDER) && !heard.contains(VALUE), "{heard}");
    let heard = ask(&mut scene.connect("a.example"), "a.example");
    assert!(heard.contains(VALUE), "{heard}");
    scene.uplink.stop();
}

#[test]
fn the_authority_of_a_sandbox_is_none_for_another_and_none_of_the_host() {
    let scene = Scene::new();
    let ask = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert!(scene.connect("a.example").ask(ask).ends_with("fine"));
    let (_, other) = web::granted(&Authority::new());
    for pem in [other, scene.web.authority.pem()] {
        let stream = scene.ground.sandbox.connect(&format!("{FIRST}:443")).unwrap();
        let error = Client::new(stream, "a.example", &pem).try_ask(ask).unwrap_err().to_string();
        assert!(error.contains("UnknownIssuer") || error.contains("BadSignature"), "{error}");
    }
    scene.uplink.stop();
}

#[test]
fn a_tunnel_of_the_proxy_is_held_to_the_name_that_it_was_asked_for() {
    let scene = Scene::new();
    let tunnel = |host: &str| {
        use std::io::{Read, Write};
        let mut stream = scene.ground.sandbox.connect("127.0.0.1:2").unwrap();
        write!(stream, "CONNECT {host}:443 HTTP/1.1\r\nHost: {host}:443\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        stream
    };
    let ask = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    Client::new(tunnel("a.example"), "a.example", &scene.sandbox_authority).ask(&ask);
    assert!(scene.heard().contains(VALUE), "{}", scene.heard());
    // To the second, saying that one means the first.
    Client::new(tunnel("b.example"), "a.example", &scene.web.authority.pem()).ask(&ask);
    assert!(scene.heard().contains(PLACEHOLDER) && !scene.heard().contains(VALUE), "{}", scene.heard());
    scene.uplink.stop();
}

#[test]
fn another_policy_takes_a_secret_back_and_ends_connections_to_its_host() {
    let scene = Scene::new();
    let mut client = scene.connect("a.example");
    let ask = format!("GET / HTTP/1.1\r\nHost: a.example\r\nAuthorization: {PLACEHOLDER}\r\n\r\n");
    client.ask(&ask);
    assert!(scene.heard().contains(VALUE));
    let policy = |text: &str| crate::uplink::list(text);
    scene.uplink.launcher.set(policy(&POLICY.replace(r#"{"TOKEN": "one"}"#, "{}"))).unwrap();
    client.ask(&ask);
    assert!(scene.heard().contains(PLACEHOLDER) && !scene.heard().contains(VALUE), "{}", scene.heard());
    // Who connects from now on speaks with the host itself.
    scene.connect_trusting_the_web("a.example").ask(&ask);
    assert!(!scene.heard().contains(VALUE));
    scene.uplink.launcher.set(policy(POLICY)).unwrap();
    client.ask(&ask);
    assert!(scene.heard().contains(VALUE));
    scene.uplink.launcher.set(policy(r#"{"allow": [{"domain": "b.example", "ports": [443]}]}"#)).unwrap();
    assert!(client.try_ask(&ask).is_err());
    scene.uplink.stop();
}
