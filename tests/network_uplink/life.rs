//! From its start to its end.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use codesandbox::job::{DenialReason, Protocol};
use codesandbox::network::uplink::{Refused, UplinkError, serve};
use codesandbox::network::{Order, Report};
use codesandbox::sys::socket;
use hickory_proto::rr::RecordType;

use crate::ground::{FIRST, Ground, SECOND, echo, echoes, ip, serve as serve_all};
use crate::name_server::NameServer;
use crate::resolver::ask;
use crate::uplink::{Launcher, Recorded, Told, Uplink, list, sockets, start};

const POLICY: &str = r#"{"allow": [{"domain": "a.example", "ports": [7]}, {"cidr": "151.101.66.0/24", "ports": [7]}]}"#;

#[test]
fn the_rules_are_installed_before_it_serves_and_else_it_does_not() {
    let ground = Ground::new();
    let uplink = Uplink::start(&ground, POLICY);
    assert_eq!(*uplink.doors.told.lock().unwrap(), [Told::Install(list(POLICY), Vec::new())]);
    uplink.stop();
    let broken = Recorded::default();
    *broken.broken.lock().unwrap() = Some("no table".to_owned());
    let (launcher, control) = Launcher::pair();
    let ended = serve(start(POLICY), sockets(&ground.sandbox), control, |_| Ok(Box::new(broken)));
    assert!(matches!(ended, Err(UplinkError::Rules(why)) if why == "no table"));
    drop(launcher);
}

#[test]
fn a_policy_that_can_not_be_installed_changes_nothing() {
    let ground = Ground::new();
    serve_all(ground.internet.listen("0.0.0.0:7"), echo);
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    let uplink = Uplink::start(&ground, POLICY);
    ask(&ground, "a.example", RecordType::A);
    *uplink.doors.broken.lock().unwrap() = Some("busy".to_owned());
    assert_eq!(uplink.launcher.set(list(r#"{"allow": []}"#)), Err("busy".to_owned()));
    uplink.launcher.order(&Order::Assert);
    assert_eq!(uplink.launcher.held(), Err("busy".to_owned()));
    assert!(echoes(&ground.sandbox.connect(&format!("{FIRST}:7")).unwrap(), b"x"));
    *uplink.doors.broken.lock().unwrap() = None;
    uplink.launcher.order(&Order::Assert);
    assert_eq!(uplink.launcher.held(), Ok(()));
    uplink.launcher.set(list(POLICY)).unwrap();
    let told = uplink.doors.told.lock().unwrap().last().cloned();
    let Some(Told::Install(policy, kept)) = told else { panic!("{told:?}") };
    assert_eq!((policy, kept.len(), kept[0].address), (list(POLICY), 1, ip(FIRST)));
    assert!((400..=420).contains(&kept[0].lifetime.as_secs()) && kept[0].ports == [7].into(), "{kept:?}");
    uplink.stop();
}

#[test]
fn an_address_that_can_not_be_let_through_is_not_told() {
    use hickory_proto::op::ResponseCode;
    let ground = Ground::new();
    NameServer::start(&ground).has("a.example", &[FIRST]);
    let uplink = Uplink::start(&ground, POLICY);
    *uplink.doors.broken.lock().unwrap() = Some("full".to_owned());
    let answer = ask(&ground, "a.example", RecordType::A);
    assert_eq!((answer.metadata.response_code, answer.answers.len()), (ResponseCode::ServFail, 0));
    assert_eq!(uplink.launcher.denied_in_words(), ["dns a.example unreachable 1"]);
    *uplink.doors.broken.lock().unwrap() = None;
    assert_eq!(ask(&ground, "a.example", RecordType::A).answers.len(), 1);
    uplink.stop();
}

#[test]
fn it_ends_with_all_connections_when_the_launcher_closes() {
    let ground = Ground::new();
    serve_all(ground.internet.listen("0.0.0.0:7"), echo);
    let uplink = Uplink::start(&ground, POLICY);
    let mut stream = ground.sandbox.connect(&format!("{SECOND}:7")).unwrap();
    assert!(echoes(&stream, b"x"));
    let start = Instant::now();
    uplink.stop();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(matches!(stream.read(&mut [0]), Ok(0) | Err(_)));
    // Nobody listens any more.
    assert!(ground.sandbox.connect(&format!("{SECOND}:7")).is_err());
}

#[test]
fn an_order_that_is_none_ends_it() {
    let ground = Ground::new();
    let (launcher, control) = Launcher::pair();
    let (near, far) = socket::pair().unwrap();
    drop((launcher, control));
    let given = sockets(&ground.sandbox);
    socket::send(near.as_fd(), &[250, 1, 2], &[]).unwrap();
    let ended = serve(start(POLICY), given, far, |_| Ok(Box::new(Recorded::default())));
    assert!(matches!(ended, Err(UplinkError::Io(..))), "{ended:?}");
}

#[test]
fn what_the_rules_refuse_is_reported_with_the_name_where_there_is_one() {
    let ground = Ground::new();
    NameServer::start(&ground).has("a.example", &[FIRST]);
    let uplink = Uplink::start(&ground, POLICY);
    ask(&ground, "a.example", RecordType::A);
    let refused = |address, reason| Refused { protocol: Protocol::Udp, address: ip(address), port: Some(443), reason };
    let many = vec![refused(FIRST, DenialReason::Port), refused("8.8.8.8", DenialReason::NotListed)];
    uplink.doors.refuse(many);
    let Report::Denied(mut flows) = uplink.launcher.report() else { panic!() };
    flows.sort_by_key(|flow| flow.address);
    assert_eq!(flows.iter().map(|flow| flow.name.as_deref()).collect::<Vec<_>>(), [None, Some("a.example")]);
    uplink.stop();
}
