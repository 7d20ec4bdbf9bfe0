//! What a network costs: the start of a sandbox that has one, connections through the relay, and bytes.
//!
//! The internet is a network namespace of the bench's own, behind a pair of virtual devices. Bare is the same program
//! on the host, over the same devices.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;

use serde_json::{Value, json};

use super::common::internet;
use super::ours::Ours;
use super::report::{Report, Table, number};
use super::sessions::{Api, Turn, take_turns, tell};

/// A server that would be on the internet elsewhere, where it says a byte, and where it says many.
const SERVER: &str = "198.35.26.96";
const ONE_BYTE: u16 = 80;
const MANY_BYTES: u16 = 81;
const CHUNK: usize = 1 << 20;
/// Connections that are made in one turn.
const CONNECTIONS: usize = 50;
/// Prints the median time of a connection and its first byte in microseconds, and then that of a transfer of so many
/// bytes as MB/s.
const CLIENT: &str = "
import socket, statistics, sys, time
connections, wanted = int(sys.argv[1]), int(sys.argv[2])
def connected(port):
    client = socket.create_connection(('198.35.26.96', port))
    return client
def once():
    began = time.perf_counter()
    with connected(80) as client:
        client.recv(1)
    return time.perf_counter() - began
print(statistics.median(once() for _ in range(connections)) * 1e6)
buffer = bytearray(1 << 20)
with connected(81) as client:
    client.sendall(wanted.to_bytes(8, 'big'))
    began, got = time.perf_counter(), 0
    while got < wanted:
        length = client.recv_into(buffer)
        assert length
        got += length
print(got / (time.perf_counter() - began) / 1e6)
";

/// All of it. What stands in the way, as missing rights, is told in the report.
pub(crate) fn measure(report: &mut Report, quick: bool) {
    if !cfg!(feature = "nftables") {
        return report.skip("network: built without the feature nftables");
    }
    // Of this thread alone the network is another; what it starts has that too.
    std::thread::scope(|scope| {
        scope.spawn(|| {
            if !internet::lead_to(&[SERVER], begin) {
                return report.skip("network: no network namespace can be made");
            }
            starts(report, if quick { 30 } else { 150 });
            connections(report, if quick { 5 } else { 15 }, if quick { 256 << 20 } else { 1 << 30 });
        });
    });
}

/// Has both servers listen.
fn begin() {
    serve(ONE_BYTE, |mut stream| drop(stream.write_all(b"!")));
    serve(MANY_BYTES, |mut stream| {
        let (mut wanted, chunk) = ([0; 8], vec![0; CHUNK]);
        let mut left = stream.read_exact(&mut wanted).map_or(0, |()| u64::from_be_bytes(wanted));
        while left > 0 {
            let some = chunk.len().min(usize::try_from(left).unwrap_or(CHUNK));
            if stream.write_all(&chunk[..some]).is_err() {
                return;
            }
            left -= some as u64;
        }
    });
}

fn serve(port: u16, with: impl Fn(std::net::TcpStream) + Copy + Send + 'static) {
    let listener = TcpListener::bind((SERVER, port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            std::thread::spawn(move || with(stream));
        }
    });
}

/// Another configuration with the network of profiles.
fn with_network(mut config: Value) -> Value {
    let network = json!({"allow": [{"cidr": format!("{SERVER}/32"), "ports": [ONE_BYTE, MANY_BYTES]}]});
    super::common::merge(
        &mut config,
        json!({"profiles": {"default": {"network": network}, "session": {"network": network}}}),
    );
    config
}

/// A run in a sandbox with a network beside one without.
fn starts(report: &mut Report, rounds: usize) {
    let parked = json!({"pool": {"warm": false, "ceiling": 8}});
    let cold = json!({"pool": {"warm": false, "floor": 0, "ceiling": 0}});
    let ways = [
        ("parked", Ours::start("parked", parked.clone())),
        ("parked, network", Ours::start("parked, network", with_network(parked))),
        ("cold", Ours::start("cold", cold.clone())),
        ("cold, network", Ours::start("cold, network", with_network(cold))),
    ];
    let job = json!({"runtime": "true", "files": [{"content": ""}]}).to_string();
    let apis: Vec<Api> = ways.iter().map(|(_, ours)| Api::new(ours)).collect();
    let mut turns: Vec<Turn<'_>> = ways
        .iter()
        .zip(&apis)
        .map(|((name, ours), api)| {
            let run = || {
                let answer = api.ask("POST", "/v1/run", job.as_bytes());
                let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
                assert_eq!(answer["run"]["network_error"], Value::Null, "{answer}");
            };
            Turn::new(*name, run).before(|| ours.settle())
        })
        .collect();
    take_turns(&mut turns, rounds);
    tell(report, "network", "A run of `true`, with and without a network", rounds, &turns, "cold");
    drop(turns);
    for (_, ours) in &ways {
        ours.service.assert_no_sandbox();
    }
}

/// A way to the server, and what was measured along it.
struct Side<'a> {
    name: &'static str,
    act: &'a dyn Fn() -> String,
    connects: Vec<f64>,
    rates: Vec<f64>,
}

/// Connections and bytes of a program in a session beside the same program on the host.
fn connections(report: &mut Report, rounds: usize, bytes: u64) {
    let ours = Ours::start("codeSandbox", with_network(json!({"pool": {"warm": false, "ceiling": 0}})));
    let api = Api::new(&ours);
    let made = api.json("POST", "/v1/sessions", &json!({"runtime": "python"}));
    let session = format!("/v1/sessions/{}", made["id"].as_str().unwrap());
    let (connections, bytes) = (CONNECTIONS.to_string(), bytes.to_string());
    let arguments = ["-c", CLIENT, connections.as_str(), bytes.as_str()];
    let bare = || {
        let output = Command::new("/usr/bin/python3").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let argv: Vec<&str> = ["python3"].into_iter().chain(arguments).collect();
    let through = || {
        let done = api.json("POST", &format!("{session}/execs"), &json!({"argv": argv}));
        assert_eq!(done["result"]["status"], "ok", "{done:#}");
        done["result"]["stdout"].as_str().unwrap().to_owned()
    };
    let side = |name, act| Side { name, act, connects: Vec::new(), rates: Vec::new() };
    let mut sides = [side("host", &bare as &dyn Fn() -> String), side("relay", &through)];
    for round in 0..=rounds {
        // Who is first changes; the first round does not count.
        sides.reverse();
        for side in &mut sides {
            let text = (side.act)();
            let mut numbers = text.lines().map(|line| line.parse::<f64>().unwrap());
            if round > 0 {
                side.connects.push(numbers.next().unwrap());
                side.rates.push(numbers.next().unwrap());
            }
        }
    }
    sides.sort_by_key(|side| side.name);
    let title = format!("A connection with its first byte, and {bytes} bytes through one: medians of {rounds} rounds");
    let mut table = Table::new(title, &["", "connect, µs", "transfer, MB/s"]);
    for Side { name, connects, rates, .. } in &sides {
        let (connect, rate) = (median(connects), median(rates));
        table.rows.push(vec![(*name).to_owned(), number(connect), number(rate)]);
        report.value(format!("network/connect/{name}"), connect / 1000.0);
        report.value(format!("network/transfer/{name}"), rate);
    }
    report.table(table);
    api.delete(&session);
    ours.service.assert_no_sandbox();
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}
