//! What networked sandboxes reach, and what holds them, by the real daemon and launcher. The internet is a
//! network namespace of the test's own, in which addresses are servers' that would be public elsewhere.

#![cfg(feature = "nftables")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

#[path = "network/cases.rs"]
mod cases;
mod common;
#[path = "network/faults.rs"]
mod faults;
#[path = "network_uplink/ground.rs"]
#[allow(dead_code, reason = "the tests of uplinks use more of it")]
mod ground;
#[path = "network_uplink/name_server.rs"]
#[allow(dead_code, reason = "the tests of uplinks use more of it")]
mod name_server;
#[path = "network/stage.rs"]
mod stage;

use std::fs;
use std::net::SocketAddr;

use common::internet::{self, serve};
use common::sessions::{Session, create, printed};
use common::{Service, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// A server that is listed, and one that is not.
const LISTED: &str = "198.35.26.96";
const OTHER: &str = "198.35.26.97";
const PORT: u16 = 80;

/// Leads the test to both servers, which answer everybody with their address; `false` where that is not allowed here.
fn internet() -> bool {
    internet::lead_to(&[LISTED, OTHER], || {
        [LISTED, OTHER].into_iter().for_each(|address| serve(SocketAddr::new(address.parse().unwrap(), PORT)));
    })
}

fn list() -> Value {
    json!({"allow": [{"cidr": format!("{LISTED}/32"), "ports": [PORT]}], "connections": 100})
}

/// A service whose profiles may reach one server.
fn service() -> Service {
    service_with(json!({}))
}

fn service_with(changes: Value) -> Service {
    let mut config = json!({
        "profiles": {"default": {"network": list()}, "session": {"network": list()}},
        "network": {"name_servers": [OTHER]},
    });
    common::merge(&mut config, changes);
    Service::start_with(config)
}

/// Connects through the proxy, says what it was answered, and then does something else.
fn connects(address: &str, then: &str) -> String {
    format!(
        "exec 3<>/dev/tcp/127.0.0.1/2 || exit 7\n\
         printf 'CONNECT {address}:{PORT} HTTP/1.1\\r\\nHost: {address}:{PORT}\\r\\n\\r\\n' >&3\n\
         read -r -u3 version status rest\n\
         echo $status\n\
         [ $status = 200 ] || exit 8\n\
         while read -r -u3 line && [ \"$line\" != $'\\r' ]; do :; done\n\
         read -r -u3 answer; echo $answer\n{then}\n"
    )
}

/// How many descriptors a process has.
fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

fn stdout(result: &Value) -> &str {
    result["run"]["stdout"].as_str().unwrap()
}

fn end(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
}

#[test]
fn what_is_listed_is_reached_and_nothing_is_left() {
    if !internet() {
        return;
    }
    let service = service();
    let first = service.run_source("bash", &connects(LISTED, ""));
    assert_eq!(stdout(&first), format!("200\n{LISTED}\n"), "{first}");
    assert_eq!(first["run"]["status"], "ok");
    wait_for("the uplink to be gone", || service.uplinks().is_empty());
    let before = (descriptors(service.launcher_pid()), descriptors(service.zygote().unwrap()));
    for _ in 0..20 {
        service.run_source("bash", "true");
    }
    wait_for("all uplinks to be gone", || service.uplinks().is_empty());
    wait_for("all descriptors to be closed", || {
        (descriptors(service.launcher_pid()), descriptors(service.zygote().unwrap())) <= before
    });
}

#[test]
fn what_is_not_listed_is_refused_and_told() {
    if !internet() {
        return;
    }
    let service = service();
    let result = service.run_source("bash", &connects(OTHER, ""));
    assert_eq!(stdout(&result), "403\n", "{result}");
    let reason = result["run"]["reason"].as_str().unwrap();
    assert!(reason.starts_with(&format!("exit status 8; refused: {OTHER}:{PORT} (")), "{reason}");
}

#[test]
fn without_an_uplink_there_is_no_network_and_that_is_told() {
    if !internet() {
        return;
    }
    let service = service();
    // Not the zygote, for which there would be another.
    end(service.keeper().unwrap());
    wait_for("the launcher to notice", || service.keeper().is_none());
    let result = service.run_source("bash", &connects(LISTED, ""));
    assert_eq!(stdout(&result), "", "{result}");
    let reason = result["run"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("exit status 7; no network: "), "{reason}");
    // Whoever does not need it is not in the way of that.
    assert_eq!(stdout(&service.run_source("bash", "echo works")), "works\n");
}

#[test]
fn an_uplink_that_is_killed_takes_all_connections_along() {
    if !internet() {
        return;
    }
    let service = service();
    let socket = service.socket();
    let program = connects(
        LISTED,
        "read -r -u3 more; echo over; while exec 4<>/dev/tcp/127.0.0.1/2; do :; done 2>/dev/null; exit 9",
    );
    let job = std::thread::spawn(move || {
        let body = json!({"runtime": "bash", "files": [{"content": program}]}).to_string();
        let answer =
            common::request(&socket, "POST", "/v1/run", &[("content-type", "application/json")], body.as_bytes());
        answer.unwrap().json()
    });
    wait_for("an uplink with a connection", || {
        service.uplinks().first().is_some_and(|uplink| {
            let sockets = fs::read_to_string(format!("/proc/{uplink}/net/tcp")).unwrap_or_default();
            // Established, to port 80.
            sockets.lines().any(|line| line.contains(":0050 01 "))
        })
    });
    end(service.uplinks()[0]);
    let result = job.join().unwrap();
    // How far it had come by then is a matter of luck.
    assert_eq!(result["run"]["status"], "nonzero_exit", "{result}");
    assert!(result["run"]["reason"].as_str().unwrap().contains("; no network: its uplink has ended"), "{result}");
    // The next has another.
    assert_eq!(stdout(&service.run_source("bash", &connects(LISTED, ""))), format!("200\n{LISTED}\n"));
}

#[test]
fn what_waits_has_its_uplink_already_and_is_looked_at_when_it_is_handed_over() {
    if !internet() {
        return;
    }
    let pool = json!({"pool": {"warm": false, "ceiling": 4, "runtimes": {"bash": {"floor": 1}}}});
    let service = service_with(pool);
    wait_for("an uplink of one that waits", || service.uplinks().len() == 1);
    let result = service.run_source("bash", &connects(LISTED, ""));
    assert_eq!((stdout(&result), &result["path"]), (&*format!("200\n{LISTED}\n"), &json!("parked")), "{result}");
    // One that dies while its sandbox waits costs no job anything.
    wait_for("another that waits", || !service.uplinks().is_empty());
    service.uplinks().into_iter().for_each(end);
    let result = service.run_source("bash", &connects(LISTED, ""));
    assert_eq!(stdout(&result), format!("200\n{LISTED}\n"), "{result}");
}

/// Runs a program of bash in a session, whose own shell lacks what is needed here.
fn run(session: &Session, program: &str) -> String {
    let exec = session.exec(&json!({"argv": ["bash", "-c", program]}));
    String::from_utf8(printed(&exec, "stdout")).unwrap()
}

fn session(service: &Service) -> Session {
    create(service, &json!({"runtime": "bash"}))
}

#[test]
fn a_session_keeps_its_network_over_another_daemon() {
    if !internet() {
        return;
    }
    let mut service = service();
    let session = session(&service);
    assert_eq!(run(&session, &connects(LISTED, "")), format!("200\n{LISTED}\n"));
    let uplinks = service.uplinks();
    assert_eq!(uplinks.len(), 1);
    service.kill_daemon();
    service.restart_daemon();
    assert_eq!(run(&session, &connects(LISTED, "")), format!("200\n{LISTED}\n"));
    assert_eq!(service.uplinks(), uplinks);
    session.delete();
    wait_for("the uplink to be gone", || service.uplinks().is_empty());
}

#[test]
fn a_session_whose_uplink_died_has_another_for_its_next_program() {
    if !internet() {
        return;
    }
    let service = service();
    let session = session(&service);
    session.run("true");
    service.uplinks().into_iter().for_each(end);
    // This one may begin before the launcher has noticed, and then keeps what the next one is not to have.
    session.run("true");
    wait_for("another uplink", || run(&session, &connects(LISTED, "")) == format!("200\n{LISTED}\n"));
    session.delete();
}
