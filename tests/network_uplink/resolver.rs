//! What the resolver says, and what it asks.

use std::io::{Read, Write};
use std::net::UdpSocket;
use std::time::{Duration, Instant};

use hickory_proto::op::{Edns, Message, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RecordType};

use crate::ground::{FIRST, FIRST6, Ground, PATIENCE, PRIVATE, SECOND, ip, until};
use crate::name_server::{NameServer, Reply, records};
use crate::uplink::{Uplink, list};

const POLICY: &str = r#"{"allow": [{"domain": "a.example"}, {"suffix": ".b.example", "ports": [443]}]}"#;

/// A query as programs send them.
pub(crate) fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::query();
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(format!("{name}.")).unwrap(), kind));
    message
}

/// Sends a packet to the resolver; what comes back, if something does.
fn send(ground: &Ground, packet: &[u8], patience: Duration) -> Option<Vec<u8>> {
    let socket = ground.sandbox.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.set_read_timeout(Some(patience)).unwrap();
    socket.send_to(packet, "127.0.0.1:53").unwrap();
    let mut buffer = [0; 65535];
    socket.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
}

pub(crate) fn ask(ground: &Ground, name: &str, kind: RecordType) -> Message {
    let answer = send(ground, &query(name, kind).to_vec().unwrap(), PATIENCE).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn ask_over_tcp(ground: &Ground, message: &Message) -> Message {
    let mut stream = ground.sandbox.connect("[::1]:53").unwrap();
    let packet = message.to_vec().unwrap();
    stream.write_all(&[&u16::try_from(packet.len()).unwrap().to_be_bytes()[..], &packet].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    Message::from_vec(&answer).unwrap()
}

fn addresses(message: &Message) -> Vec<String> {
    message.answers.iter().map(|record| record.data.ip_addr().unwrap().to_string()).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn a_listed_name_resolves_and_is_let_through_first() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST, SECOND]);
    server.has("a.example", &[FIRST6]);
    server.has("deep.below.b.example", &[SECOND]);
    let uplink = Uplink::start(&ground, POLICY);
    // The case of the question comes back.
    let answer = ask(&ground, "A.exAMPle", RecordType::A);
    assert_eq!((code(&answer), addresses(&answer)), (ResponseCode::NoError, vec![FIRST.into(), SECOND.into()]));
    assert_eq!(answer.answers[0].name.to_ascii(), "A.exAMPle.");
    assert_eq!(answer.queries[0].name().to_ascii(), "A.exAMPle.");
    assert_eq!(addresses(&ask(&ground, "a.example", RecordType::AAAA)), [FIRST6]);
    assert_eq!(addresses(&ask(&ground, "deep.below.b.example", RecordType::A)), [SECOND]);
    let learned = uplink.doors.learned();
    let lifetime = Duration::from_secs(300 + 120);
    let web = [80, 443].into();
    assert_eq!(
        learned,
        [
            (ip(FIRST), web, lifetime),
            (ip(SECOND), [80, 443].into(), lifetime),
            (ip(FIRST6), [80, 443].into(), lifetime),
            (ip(SECOND), [443].into(), lifetime),
        ]
    );
    // From the cache: nobody is asked, nothing is learned anew.
    let before = server.asked().len();
    assert_eq!(addresses(&ask(&ground, "a.example", RecordType::A)).len(), 2);
    assert_eq!((server.asked().len(), uplink.doors.learned().len()), (before, 4));
    assert_eq!(uplink.launcher.denied(), []);
    uplink.stop();
}

#[test]
fn an_unlisted_name_is_refused_and_nobody_is_asked() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    let uplink = Uplink::start(&ground, POLICY);
    for name in
        ["b.example", "xa.example", "a.example.other", "other.example", "xb.example", "localhost", "com", "*.b-x"]
    {
        assert_eq!(code(&ask(&ground, name, RecordType::A)), ResponseCode::Refused, "{name}");
        assert_eq!(code(&ask_over_tcp(&ground, &query(name, RecordType::TXT))), ResponseCode::Refused, "{name}");
    }
    assert_eq!(code(&ask(&ground, "132.2.101.151.in-addr.arpa", RecordType::PTR)), ResponseCode::Refused);
    assert_eq!(server.asked(), []);
    let denied = uplink.launcher.denied_in_words();
    assert!(denied.contains(&"dns other.example not_listed 2".to_owned()), "{denied:?}");
    assert_eq!(denied.len(), 9);
    assert_eq!(addresses(&ask(&ground, "a.example", RecordType::A)), [FIRST]);
    assert_eq!(server.asked(), [("a.example".to_owned(), RecordType::A)]);
    uplink.stop();
}

#[test]
fn private_addresses_are_left_out_each_time_anew() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    let rebound = [records("a.example", 0, &[FIRST]), records("a.example", 0, &[PRIVATE])].map(Reply::Records);
    server.says("a.example", RecordType::A, Reply::InTurn(rebound.into()));
    server.has("mixed.b.example", &["127.0.0.1", FIRST, "169.254.169.254"]);
    server.has("host.b.example", &[crate::ground::HOST]);
    let mapped =
        Reply::Records(records("mapped.b.example", 60, &["::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00:ec2::254"]));
    server.says("mapped.b.example", RecordType::AAAA, mapped);
    let alias = [("alias.b.example", "inner.corp"), ("inner.corp", PRIVATE)];
    let alias = alias.map(|(owner, value)| (owner.to_owned(), 60, value.to_owned()));
    server.says("alias.b.example", RecordType::A, Reply::Records(alias.into()));
    let uplink = Uplink::start(&ground, POLICY);
    assert_eq!(addresses(&ask(&ground, "mixed.b.example", RecordType::A)), [FIRST]);
    for (name, kind) in [("host", RecordType::A), ("mapped", RecordType::AAAA), ("alias", RecordType::A)] {
        assert_eq!(code(&ask(&ground, &format!("{name}.b.example"), kind)), ResponseCode::Refused, "{name}");
    }
    assert_eq!(uplink.doors.learned().len(), 1);
    let denied = uplink.launcher.denied_in_words();
    assert_eq!(denied.len(), 7, "{denied:?}");
    assert!(denied.contains(&"dns alias.b.example 10.1.2.3 private 1".to_owned()), "{denied:?}");
    assert!(denied.contains(&"dns host.b.example 198.35.26.2 private 1".to_owned()), "{denied:?}");
    // What a profile names in so many words.
    uplink
        .launcher
        .set(list(r#"{"allow": [{"domain": "alias.b.example"}], "allow_private": ["10.1.0.0/16"]}"#))
        .unwrap();
    assert_eq!(addresses(&ask(&ground, "alias.b.example", RecordType::A)), [PRIVATE]);
    uplink.stop();
}

#[test]
fn aliases_are_followed_and_not_shown_and_not_for_ever() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    server.says("a.example", RecordType::A, Reply::Records(records("a.example", 300, &["edge.cdn.example"])));
    server.says("edge.cdn.example", RecordType::A, Reply::Records(records("edge.cdn.example", 5, &[FIRST])));
    for number in 0..40 {
        let name = format!("loop{number}.b.example");
        let next = format!("loop{}.b.example", number + 1);
        server.says(&name, RecordType::A, Reply::Records(records(&name, 300, &[&next])));
    }
    server.says(
        "round.b.example",
        RecordType::A,
        Reply::Records(records("round.b.example", 300, &["round.b.example"])),
    );
    let uplink = Uplink::start(&ground, POLICY);
    let answer = ask(&ground, "a.example", RecordType::A);
    assert_eq!((addresses(&answer), answer.answers[0].name.to_ascii()), (vec![FIRST.into()], "a.example.".into()));
    // The shortest of the chain, and no shorter than can be used.
    assert_eq!(answer.answers[0].ttl, 30);
    assert_ne!(code(&ask(&ground, "loop0.b.example", RecordType::A)), ResponseCode::NXDomain);
    assert_ne!(code(&ask(&ground, "round.b.example", RecordType::A)), ResponseCode::Refused);
    assert!(server.asked().len() < 40, "{}", server.asked().len());
    assert_eq!(uplink.doors.learned().len(), 1);
    uplink.stop();
}

#[test]
fn lifetimes_have_a_floor_and_a_ceiling() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    for (name, seconds, expected) in [("none", 0, 30), ("some", 77, 77), ("much", 1_000_000, 3600)] {
        let name = format!("{name}.b.example");
        server.says(&name, RecordType::A, Reply::Records(records(&name, seconds, &[FIRST])));
        let uplink = Uplink::start(&ground, POLICY);
        assert_eq!(ask(&ground, &name, RecordType::A).answers[0].ttl, expected);
        assert_eq!(uplink.doors.learned()[0].2, Duration::from_secs(u64::from(expected) + 120));
        uplink.stop();
    }
}

#[test]
fn long_answers_are_cut_in_packets_and_whole_over_tcp() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    let many: Vec<String> = (0..100).map(|number| format!("151.101.4.{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    server.says("a.example", RecordType::A, Reply::TooMuch(records("a.example", 300, &many)));
    let uplink = Uplink::start(&ground, POLICY);
    let cut = ask(&ground, "a.example", RecordType::A);
    assert!(cut.metadata.truncation && cut.answers.len() < 40, "{}", cut.answers.len());
    // No more than 64, each of them let through.
    let whole = ask_over_tcp(&ground, &query("a.example", RecordType::A));
    assert_eq!((whole.metadata.truncation, whole.answers.len(), uplink.doors.learned().len()), (false, 64, 64));
    let mut roomy = query("a.example", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    roomy.set_edns(edns);
    let answer = send(&ground, &roomy.to_vec().unwrap(), PATIENCE).unwrap();
    assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 64);
    uplink.stop();
}

#[test]
fn other_types_of_a_listed_name_are_empty_and_other_classes_refused() {
    let ground = Ground::without_ipv6();
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    server.has("a.example", &[FIRST6]);
    let uplink = Uplink::start(&ground, POLICY);
    for kind in [RecordType::HTTPS, RecordType::SVCB, RecordType::TXT, RecordType::MX, RecordType::SOA] {
        let answer = ask(&ground, "a.example", kind);
        assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0), "{kind}");
    }
    // There is no way to IPv6 from here.
    let answer = ask(&ground, "a.example", RecordType::AAAA);
    assert_eq!((code(&answer), answer.answers.len()), (ResponseCode::NoError, 0));
    for kind in [RecordType::ANY, RecordType::AXFR, RecordType::IXFR] {
        assert_eq!(code(&ask(&ground, "a.example", kind)), ResponseCode::Refused, "{kind}");
    }
    let mut chaos = query("a.example", RecordType::A);
    chaos.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(code(&ask_over_tcp(&ground, &chaos)), ResponseCode::Refused);
    assert_eq!(server.asked(), []);
    assert_eq!(code(&ask(&ground, "none.b.example", RecordType::A)), ResponseCode::NXDomain);
    assert_eq!(addresses(&ask(&ground, "a.example", RecordType::A)), [FIRST]);
    uplink.stop();
}

#[test]
fn packets_that_are_no_queries_do_no_harm() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    let uplink = Uplink::start(&ground, POLICY);
    let good = query("a.example", RecordType::A).to_vec().unwrap();
    let with = |at: usize, byte: u8| {
        let mut packet = good.clone();
        packet[at] = byte;
        packet
    };
    let is_code = |packet: &[u8], code: u8| {
        let answer = send(&ground, packet, PATIENCE).unwrap();
        assert_eq!((answer[..2] == packet[..2], answer[3] & 0xf), (true, code), "{packet:?}");
    };
    is_code(&with(2, 5 << 3), 4); // an update
    is_code(&with(2, 4 << 3), 4); // a notification
    is_code(&with(5, 0), 1); // no question
    is_code(&with(4, 255), 1); // 65281 questions
    is_code(&with(7, 1), 1); // an answer
    is_code(&with(12, 200), 1); // a label of no kind
    is_code(&good[..good.len() - 3], 1); // an end too soon
    let nothing = Duration::from_millis(200);
    for silent in [&good[..11], &[], &with(2, 0x80), &vec![0; 1025]] {
        assert_eq!(send(&ground, silent, nothing), None, "{silent:?}");
    }
    let mut stream = ground.sandbox.connect("127.0.0.1:53").unwrap();
    stream.write_all(&[255, 255]).unwrap();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    assert_eq!(server.asked(), []);
    assert_eq!(addresses(&ask(&ground, "a.example", RecordType::A)), [FIRST]);
    uplink.stop();
}

#[test]
fn name_servers_that_fail_or_lie_are_a_failure_in_time() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    let lies = |name: &str| records(&format!("{name}.b.example"), 300, &[SECOND]);
    for (name, reply) in [
        ("silent", Reply::Silence),
        ("id", Reply::WrongId(lies("id"))),
        ("question", Reply::WrongQuestion(lies("question"))),
        ("servfail", Reply::Fails(ResponseCode::ServFail)),
        ("refused", Reply::Fails(ResponseCode::Refused)),
    ] {
        server.says(&format!("{name}.b.example"), RecordType::A, reply);
    }
    // Records of somebody else are not taken for those of the name.
    server.says("owner.b.example", RecordType::A, Reply::Records(records("a.example", 300, &[SECOND])));
    let uplink = Uplink::start(&ground, POLICY);
    std::thread::scope(|scope| {
        for name in ["silent", "id", "question", "servfail", "refused"] {
            let ground = &ground;
            scope.spawn(move || {
                let start = Instant::now();
                assert_eq!(
                    code(&ask(ground, &format!("{name}.b.example"), RecordType::A)),
                    ResponseCode::ServFail,
                    "{name}"
                );
                assert!(start.elapsed() < Duration::from_secs(5), "{name} {:?}", start.elapsed());
            });
        }
    });
    assert_eq!(addresses(&ask(&ground, "owner.b.example", RecordType::A)), [""; 0]);
    assert_eq!(uplink.doors.learned(), []);
    let denied = uplink.launcher.denied_in_words();
    assert_eq!(denied.iter().filter(|flow| flow.ends_with("unreachable 1")).count(), 5, "{denied:?}");
    uplink.stop();
}

#[test]
fn no_more_lookups_wait_than_are_allowed() {
    let ground = Ground::new();
    let server = NameServer::start(&ground);
    for number in 0..100 {
        server.says(&format!("n{number}.b.example"), RecordType::A, Reply::Silence);
    }
    let uplink = Uplink::start(&ground, POLICY);
    let socket = ground.sandbox.run(|| UdpSocket::bind("127.0.0.1:0").unwrap());
    for number in 0..100 {
        let packet = query(&format!("n{number}.b.example"), RecordType::A).to_vec().unwrap();
        socket.send_to(&packet, "127.0.0.1:53").unwrap();
    }
    let mut denied = Vec::new();
    until("36 refusals", || {
        denied.extend(uplink.launcher.denied_in_words());
        denied.iter().filter(|flow| flow.ends_with("bound 1")).count() == 36
    });
    uplink.stop();
}
