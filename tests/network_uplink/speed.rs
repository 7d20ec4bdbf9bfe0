//! What the way through the relay costs. Prints figures; run by name.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::ground::{Ground, Namespace, SECOND, echo, serve, until};
use crate::uplink::Uplink;

const POLICY: &str = r#"{"allow": [{"cidr": "151.101.66.0/24", "ports": [7, 5201]}]}"#;
const RUNS: usize = 7;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn gigabits(from: &Namespace, reverse: bool) -> f64 {
    let output = from.run(|| {
        let mut iperf = Command::new("iperf3");
        iperf.args(["-c", SECOND, "-t", "2", "-J"]).args(reverse.then_some("-R")).output().unwrap()
    });
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    report["end"]["sum_received"]["bits_per_second"].as_f64().unwrap() / 1e9
}

#[test]
#[ignore = "measures; meant for an idle machine"]
fn throughput_and_time_to_connect() {
    let ground = Ground::new();
    serve(ground.internet.listen("0.0.0.0:7"), echo);
    let mut server = ground.internet.run(|| Command::new("iperf3").arg("-s").stdout(Stdio::null()).spawn().unwrap());
    until("iperf3", || ground.host.connect(&format!("{SECOND}:5201")).is_ok());
    let uplink = Uplink::start(&ground, POLICY);
    for reverse in [false, true] {
        let (mut direct, mut relayed) = (Vec::new(), Vec::new());
        for _ in 0..RUNS {
            direct.push(gigabits(&ground.host, reverse));
            relayed.push(gigabits(&ground.sandbox, reverse));
        }
        let (direct, relayed) = (median(direct), median(relayed));
        println!("reverse {reverse}: direct {direct:.2} Gbit/s, relayed {relayed:.2} Gbit/s");
    }
    let round = |from: &Namespace| {
        let mut all = Vec::new();
        from.run(|| {
            for _ in 0..500 {
                let start = Instant::now();
                let mut stream = std::net::TcpStream::connect((SECOND, 7)).unwrap();
                stream.write_all(b"x").unwrap();
                stream.read_exact(&mut [0]).unwrap();
                all.push(start.elapsed().as_secs_f64() * 1e6);
            }
        });
        median(all)
    };
    println!(
        "connect and one byte back: direct {:.0} µs, relayed {:.0} µs",
        round(&ground.host),
        round(&ground.sandbox)
    );
    uplink.stop();
    server.kill().unwrap();
    server.wait().unwrap();
}
