//! What goes through the relay, and what does not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use nix::sys::socket::{setsockopt, sockopt};

use crate::ground::{FIRST, FIRST6, Ground, HOST, PRIVATE, SECOND, echo, echoes, is_reset, serve, until};
use crate::name_server::NameServer;
use crate::resolver::ask;
use crate::uplink::{Uplink, list};

const POLICY: &str = r#"{"allow": [
    {"domain": "a.example", "ports": [7, 9]},
    {"cidr": "151.101.66.0/24", "ports": [7]},
    {"cidr": "198.35.26.0/24", "ports": [7]},
    {"cidr": "0.0.0.0/0", "ports": [9]}
]}"#;

/// A ground with an echo on port 7 of every host, and a name server that knows one of them.
fn ground() -> (Ground, NameServer) {
    let ground = Ground::new();
    serve(ground.internet.listen("0.0.0.0:7"), echo);
    serve(ground.internet.listen("[::]:7777"), echo);
    serve(ground.host.listen("0.0.0.0:7"), echo);
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    server.has("a.example", &[FIRST6]);
    (ground, server)
}

fn at(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

fn reset(stream: TcpStream) {
    setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
}

#[test]
fn an_address_is_reached_once_its_name_was_asked_for_and_only_at_its_ports() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, &POLICY.replace(r#""ports": [7, 9]"#, r#""ports": [7, 7777]"#));
    assert!(ground.sandbox.is_reset(&at(FIRST, 7)));
    assert_eq!(uplink.launcher.denied_in_words(), [format!("tcp {FIRST} 7 port 1")]);
    ask(&ground, "a.example", RecordType::A);
    assert!(echoes(&ground.sandbox.connect(&at(FIRST, 7)).unwrap(), b"hello"));
    // Over IPv6 it is another address.
    assert!(ground.sandbox.is_reset(&at(FIRST6, 7777)));
    ask(&ground, "a.example", RecordType::AAAA);
    assert!(echoes(&ground.sandbox.connect(&at(FIRST6, 7777)).unwrap(), b"hello"));
    assert!(ground.sandbox.is_reset(&at(FIRST, 8)));
    assert!(ground.sandbox.is_reset(&at("8.8.8.8", 7)));
    // By its network, without a name.
    assert!(echoes(&ground.sandbox.connect(&at(SECOND, 7)).unwrap(), b"hello"));
    let expected = [
        format!("tcp {FIRST6} 7777 not_listed 1"),
        "tcp 8.8.8.8 7 port 1".to_owned(),
        format!("tcp a.example {FIRST} 8 port 1"),
    ];
    assert_eq!(uplink.launcher.denied_in_words(), expected);
    uplink.stop();
}

#[test]
fn what_is_never_reached_is_not_by_a_listed_network_either() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    // The relay itself, and the resolver and the proxy by way of it, are loopback.
    for host in [PRIVATE, HOST, "169.254.169.254", "192.0.2.2"] {
        assert!(ground.sandbox.is_reset(&at(host, 7)), "{host}");
    }
    for host in ["127.0.0.1", "::1"] {
        assert!(ground.sandbox.is_reset(&at(host, 1)), "{host}");
    }
    let denied = uplink.launcher.denied_in_words();
    assert!(denied.len() == 6 && denied.iter().all(|flow| flow.ends_with("private 1")), "{denied:?}");
    assert!(echoes(&ground.sandbox.connect(&at(SECOND, 7)).unwrap(), b"hello"));
    let open = r#"{"allow": [{"cidr": "10.1.2.0/24", "ports": [7]}], "allow_private": ["10.1.2.0/24"]}"#;
    uplink.launcher.set(list(open)).unwrap();
    assert!(echoes(&ground.sandbox.connect(&at(PRIVATE, 7)).unwrap(), b"hello"));
    // The host's own it is all the same.
    assert!(ground.sandbox.is_reset("10.1.2.1:7"));
    uplink.stop();
}

#[test]
fn every_address_of_the_host_is_its_own() {
    let (ground, server) = ground();
    // The kernel takes the first of a prefix as the sender's, whichever of them is asked for.
    for address in ["198.35.26.3/24", "198.35.26.4/32"] {
        ground.host.ip(&format!("addr add {address} dev wire0"));
    }
    ground.host.ip("-6 addr add 2620:0:860::3/64 dev wire0 nodad");
    ground.host.ip("route add local 198.35.26.64/28 dev lo");
    ground.internet.ip("addr add 198.35.26.5/32 dev lo");
    let own = [HOST, "198.35.26.3", "198.35.26.4", "198.35.26.65", "2620:0:860::2", "2620:0:860::3"];
    server.has("own.example", &own[..4]);
    server.has("own.example", &own[4..]);
    let own_and_others = r#"{"allow": [
        {"domain": "own.example", "ports": [7]}, {"cidr": "198.35.26.0/24", "ports": [7]},
        {"cidr": "2620:0:860::/48", "ports": [7, 7777]}
    ]}"#;
    serve(ground.host.listen("[::]:7777"), echo);
    let uplink = Uplink::start(&ground, own_and_others);
    assert!(ask(&ground, "own.example", RecordType::A).answers.is_empty());
    assert!(ask(&ground, "own.example", RecordType::AAAA).answers.is_empty());
    for host in own {
        assert!(ground.sandbox.is_reset(&at(host, if host.contains(':') { 7777 } else { 7 })), "{host}");
    }
    let denied = uplink.launcher.denied_in_words();
    assert!(denied.len() == 2 * own.len() && denied.iter().all(|flow| flow.contains(" private ")), "{denied:?}");
    // The neighbours are not.
    for host in ["198.35.26.1", "198.35.26.5"] {
        assert!(echoes(&ground.sandbox.connect(&at(host, 7)).unwrap(), b"hello"), "{host}");
    }
    assert!(echoes(&ground.sandbox.connect(&at("2620:0:860::1", 7777)).unwrap(), b"hello"));
    uplink.stop();
}

#[test]
fn bytes_come_whole_and_the_end_of_one_direction_is_passed_on() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    let mut stream = ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    let sent: Vec<u8> = (0..8 << 20).map(|number: u32| number.wrapping_mul(2_654_435_761).to_le_bytes()[3]).collect();
    let mut back = Vec::new();
    std::thread::scope(|scope| {
        let (mut half, sent) = (stream.try_clone().unwrap(), &sent);
        scope.spawn(move || {
            half.write_all(sent).unwrap();
            half.shutdown(Shutdown::Write).unwrap();
        });
        stream.read_to_end(&mut back).unwrap();
    });
    assert_eq!((back.len(), back[..sent.len()] == sent[..]), (sent.len() + 3, true));
    assert_eq!(&back[sent.len()..], b"end");
    // And where the far side is done first.
    let (given, said) = mpsc::channel();
    serve(ground.internet.listen(&at(SECOND, 9)), move |mut stream| {
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        given.send(text).unwrap();
    });
    let mut stream = ground.sandbox.connect(&at(SECOND, 9)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert_eq!(text, "bye");
    stream.write_all(b"until later").unwrap();
    drop(stream);
    assert_eq!(said.recv_timeout(crate::ground::PATIENCE).unwrap(), "until later");
    uplink.stop();
}

#[test]
fn resets_are_passed_on_in_both_directions_also_when_one_is_done() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    let (given, streams) = mpsc::channel();
    serve(ground.internet.listen(&at(SECOND, 9)), move |stream| given.send(stream).unwrap());
    for is_half_closed in [false, true] {
        let connect = || {
            let inside = ground.sandbox.connect(&at(SECOND, 9)).unwrap();
            let mut outside = streams.recv_timeout(crate::ground::PATIENCE).unwrap();
            outside.set_read_timeout(Some(crate::ground::PATIENCE)).unwrap();
            if is_half_closed {
                inside.shutdown(Shutdown::Write).unwrap();
                assert_eq!(outside.read(&mut [0]).unwrap(), 0);
            }
            (inside, outside)
        };
        let (inside, outside) = connect();
        reset(outside);
        assert!(is_reset(&inside), "{is_half_closed}");
        let (inside, outside) = connect();
        reset(inside);
        if is_half_closed {
            // That it is done was read already: the reset shows where something is sent.
            until("a reset", || (&outside).write_all(b"x").is_err());
        } else {
            assert!(is_reset(&outside));
        }
    }
    uplink.stop();
}

#[test]
fn what_refuses_or_does_not_answer_is_a_reset_and_counted() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    assert!(ground.sandbox.is_reset(&at(SECOND, 9)));
    assert_eq!(uplink.launcher.denied_in_words(), [format!("tcp {SECOND} 9 unreachable 1")]);
    // A host that swallows everything.
    ground.internet.ip("route add blackhole 8.8.4.0/24");
    let start = Instant::now();
    assert!(ground.sandbox.is_reset(&at("8.8.4.4", 9)));
    assert!(start.elapsed() < Duration::from_secs(13));
    assert_eq!(uplink.launcher.denied_in_words(), ["tcp 8.8.4.4 9 unreachable 1"]);
    uplink.stop();
}

#[test]
fn connections_are_bounded_in_number() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, &POLICY.replacen('{', r#"{"connections": 2, "#, 1));
    let connect = || ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    let (first, second) = (connect(), connect());
    assert!(echoes(&first, b"1") && echoes(&second, b"2"));
    assert!(ground.sandbox.is_reset(&at(SECOND, 7)));
    assert_eq!(uplink.launcher.denied_in_words(), [format!("tcp {SECOND} 7 bound 1")]);
    drop(first);
    until("a place", || ground.sandbox.connect(&at(SECOND, 7)).is_ok_and(|stream| echoes(&stream, b"3")));
    uplink.stop();
}

#[test]
fn bytes_are_bounded_in_all() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, &POLICY.replacen('{', r#"{"bytes": 1000, "#, 1));
    let stream = ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    assert!(echoes(&stream, &[7; 400]));
    let other = ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    assert!(echoes(&other, &[7; 100]));
    assert!(!echoes(&stream, b"x"));
    assert!(ground.sandbox.connect(&at(SECOND, 7)).map_or(true, |stream| !echoes(&stream, b"x")));
    let denied = uplink.launcher.denied_in_words();
    assert_eq!(denied.len(), 1);
    assert!(denied[0].starts_with(&format!("tcp {SECOND} 7 bound")), "{denied:?}");
    uplink.stop();
}

#[test]
fn bytes_are_bounded_in_a_second_and_that_is_told_once() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, &POLICY.replacen('{', r#"{"bytes_per_second": 1000000, "#, 1));
    let stream = ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    let start = Instant::now();
    // Each byte goes there and back.
    for _ in 0..10 {
        assert!(echoes(&stream, &[7; 100_000]));
    }
    let took = start.elapsed().as_secs_f64();
    assert!((1.5..5.0).contains(&took), "{took}");
    assert_eq!(uplink.launcher.denied_in_words(), [format!("tcp {SECOND} 7 bound 1")]);
    uplink.stop();
}

#[test]
fn another_policy_cuts_what_it_does_not_allow_and_keeps_the_rest() {
    let (ground, _server) = ground();
    let uplink = Uplink::start(&ground, POLICY);
    ask(&ground, "a.example", RecordType::A);
    let named = ground.sandbox.connect(&at(FIRST, 7)).unwrap();
    let listed = ground.sandbox.connect(&at(SECOND, 7)).unwrap();
    assert!(echoes(&named, b"1") && echoes(&listed, b"2"));
    uplink.launcher.set(list(r#"{"allow": [{"domain": "a.example", "ports": [7]}]}"#)).unwrap();
    assert!(is_reset(&listed));
    assert!(echoes(&named, b"3"));
    // What was learned goes on, for as long as it had.
    assert!(echoes(&ground.sandbox.connect(&at(FIRST, 7)).unwrap(), b"4"));
    uplink.launcher.set(list(r#"{"allow": []}"#)).unwrap();
    assert!(is_reset(&named));
    assert!(ground.sandbox.is_reset(&at(FIRST, 7)));
    // Back again: what was forgotten stays so.
    uplink.launcher.set(list(POLICY)).unwrap();
    assert!(ground.sandbox.is_reset(&at(FIRST, 7)));
    assert!(echoes(&ground.sandbox.connect(&at(SECOND, 7)).unwrap(), b"5"));
    uplink.stop();
}
