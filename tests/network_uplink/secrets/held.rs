//! Secrets in an uplink as it is in service: a process that is confined, with bounded memory; and what they cost.

use std::io::{Read, Write};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use codesandbox::network::Report;
use hickory_proto::rr::RecordType;

use super::web::{self, Client, Web, head};
use super::{PLACEHOLDER, POLICY, Scene, VALUE};
use crate::confined::{GRANTED, spawn, status, uplink_of};
use crate::ground::{FIRST, Ground};
use crate::name_server::NameServer;
use crate::resolver::ask;
use crate::uplink::list;

/// Most resident memory of an uplink, in KiB, whatever passes through it; in a debug build it has about 30 MiB.
const MEMORY_KIB: u64 = 96 << 10;

#[test]
fn secrets_are_put_in_under_the_filter_and_in_bounded_memory() {
    let ground = Ground::new();
    let name_server = NameServer::start(&ground);
    name_server.has("a.example", &[FIRST]);
    let web = Web::start(&ground, &format!("{FIRST}:443"), &["a.example"]);
    let (granted, pem) = web::granted(&web.authority);
    let does = format!("{GRANTED}{}", STANDARD.encode(postcard::to_allocvec(&granted).unwrap()));
    let (launcher, mut child) = spawn(&ground, &does);
    assert_eq!(launcher.report(), Report::Ready);
    launcher.set(list(POLICY)).unwrap();
    ask(&ground, "a.example", RecordType::A);
    let connect = || Client::new(ground.sandbox.connect(&format!("{FIRST}:443")).unwrap(), "a.example", &pem);
    let request = format!("GET / HTTP/1.1\r\nHost: a.example\r\nX-Api-Key: {PLACEHOLDER}\r\n\r\n");
    assert!(connect().ask(&request).ends_with("fine"));
    assert!(web.heard.lock().unwrap()[0].contains(VALUE));
    // Several at a time that nobody reads from, each of which the host would send 32 MiB.
    let waiting: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = connect();
            client.0.write_all(b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
            head(&mut client.0).unwrap();
            client
        })
        .collect();
    let mut client = connect();
    client.0.write_all(b"GET /big HTTP/1.1\r\nHost: a.example\r\n\r\n").unwrap();
    head(&mut client.0).unwrap();
    let mut part = vec![0; 1 << 20];
    for _ in 0..32 {
        client.0.read_exact(&mut part).unwrap();
    }
    let uplink = uplink_of(&child);
    assert_eq!(status(&uplink, "Seccomp"), "2");
    let most: u64 = status(&uplink, "VmHWM").split(' ').next().unwrap().parse().unwrap();
    assert!(most < MEMORY_KIB, "{most} KiB");
    drop((waiting, client));
    drop(launcher);
    // Else it says what it has done that is not allowed: 100 and the number of a signal.
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
#[ignore = "measures; meant for an idle machine"]
fn what_a_secret_costs() {
    let scene = Scene::new();
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    for (way, name) in [("relayed", "b.example"), ("with a secret", "a.example")] {
        let connect = || match name {
            "a.example" => scene.connect(name),
            _ => scene.connect_trusting_the_web(name),
        };
        let request = format!("GET / HTTP/1.1\r\nHost: {name}\r\nX-Api-Key: {PLACEHOLDER}\r\n\r\n");
        let times = (0..200).map(|_| {
            let start = Instant::now();
            let mut client = connect();
            client.ask(&request);
            start.elapsed().as_secs_f64() * 1e3
        });
        let first = median(times.collect());
        let mut client = connect();
        let again = (0..500).map(|_| {
            let start = Instant::now();
            client.ask(&request);
            start.elapsed().as_secs_f64() * 1e3
        });
        let again = median(again.collect());
        let rates = (0..7).map(|_| {
            let mut client = connect();
            write!(client.0, "GET /big HTTP/1.1\r\nHost: {name}\r\n\r\n").unwrap();
            head(&mut client.0).unwrap();
            let (start, mut part) = (Instant::now(), vec![0; 1 << 20]);
            (0..32).for_each(|_| client.0.read_exact(&mut part).unwrap());
            32.0 * 8.0 * 1.048_576 / 1e3 / start.elapsed().as_secs_f64()
        });
        let rate = median(rates.collect());
        println!("{way}: connect and ask {first:.2} ms, ask again {again:.2} ms, 32 MiB at {rate:.2} Gbit/s");
    }
    scene.uplink.stop();
}
