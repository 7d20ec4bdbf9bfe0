//! A host with an internet behind it, a service on that host, and programs that try to reach things.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::fd::AsFd;

use codesandbox::sys::namespace;
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};

use crate::common::sessions::{Session, create};
use crate::common::{self, Service, skip};
use crate::ground::{FIRST, FIRST6, Ground, HOST, PRIVATE, SECOND, echo, serve};
use crate::name_server::NameServer;

/// Tries targets, and prints how that went; the same program as in the scenarios for virtual machines.
pub(crate) const EGRESS: &str = include_str!("../../vm-tests/lib/codesandbox_vm/payloads/egress.py");
/// A listed name, which leads to the first host.
pub(crate) const NAME: &str = "tcp:listed.example.org@443";
/// What programs are told of a name that they may not have, or that there is not.
pub(crate) const NO_NAME: &str = "no such name";

/// The host and its surroundings.
pub(crate) struct Stage {
    pub(crate) ground: Ground,
    pub(crate) names: NameServer,
}

/// How it went, by target, and the whole stage or result.
pub(crate) struct Tried {
    pub(crate) results: BTreeMap<String, String>,
    pub(crate) whole: Value,
}

impl Stage {
    /// Moves the test to the host; nothing where that is not possible here.
    pub(crate) fn new() -> Option<Self> {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            skip("no network namespace can be made here");
            return None;
        }
        let ground = Ground::new();
        let hello = |mut stream: std::net::TcpStream| {
            stream.write_all(b"hello").ok();
            echo(stream);
        };
        for host in [FIRST, SECOND, PRIVATE] {
            for port in [80, 443, 8443] {
                serve(ground.internet.listen(&format!("{host}:{port}")), hello);
            }
        }
        serve(ground.internet.listen(&format!("[{FIRST6}]:443")), hello);
        for place in [format!("{HOST}:443"), "10.1.2.1:443".to_owned(), "127.0.0.1:443".to_owned()] {
            serve(ground.host.listen(&place), hello);
        }
        let names = NameServer::start(&ground);
        names.has("listed.example.org", &[FIRST]);
        names.has("listed.example.org", &[FIRST6]);
        names.has("unlisted.example.com", &[FIRST]);
        namespace::join(ground.host.duplicate().as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
        Some(Self { ground, names })
    }

    /// A service with this network in all profiles that are used here.
    pub(crate) fn service(&self, network: &Value, changes: Value) -> Service {
        let mut config = json!({
            "profiles": {"default": {"network": network}, "session": {"network": network}},
            "network": {"name_servers": ["9.9.9.9"]},
        });
        common::merge(&mut config, changes);
        Service::start_with(config)
    }

    /// Whether the host itself reaches it: the positive control.
    pub(crate) fn host_reaches(&self, place: &str) -> bool {
        use std::io::Read;
        let mut word = [0; 5];
        self.ground
            .host
            .connect(place)
            .is_ok_and(|mut stream| stream.read_exact(&mut word).is_ok() && &word == b"hello")
    }
}

/// What profiles allow where a test says nothing else.
pub(crate) fn list() -> Value {
    json!({"allow": [
        {"domain": "listed.example.org", "ports": [443]},
        {"suffix": ".example.net", "ports": [443]},
        {"cidr": format!("{FIRST}/32"), "ports": [80]},
    ], "connections": 100})
}

/// A job that tries these.
pub(crate) fn job(targets: &[&str], changes: Value) -> Value {
    let mut body = json!({"runtime": "python@3.11", "files": [{"content": EGRESS}], "args": targets});
    common::merge(&mut body, changes);
    body
}

/// Runs it.
#[track_caller]
pub(crate) fn tries(service: &Service, targets: &[&str], changes: Value) -> Tried {
    let answer = service.run(&job(targets, changes));
    Tried::of(answer["run"].clone())
}

/// The same in a session.
#[track_caller]
pub(crate) fn session_tries(session: &Session, targets: &[&str]) -> Tried {
    let argv: Vec<&str> = ["python3.11", "-c", EGRESS].into_iter().chain(targets.iter().copied()).collect();
    Tried::of(session.exec(&json!({"argv": argv}))["result"].clone())
}

pub(crate) fn session(service: &Service) -> Session {
    create(service, &json!({"runtime": "python@3.11"}))
}

impl Tried {
    #[track_caller]
    fn of(whole: Value) -> Self {
        assert_eq!(whole["status"], "ok", "{whole}");
        Self { results: serde_json::from_str(whole["stdout"].as_str().unwrap()).unwrap(), whole }
    }

    #[track_caller]
    pub(crate) fn reached(&self, target: &str) -> bool {
        self.results.get(target).unwrap_or_else(|| panic!("{target} was not tried")) == "reached"
    }

    /// That this one was refused, at once, as `protocol reason` of what is told says; of names and addresses.
    #[track_caller]
    pub(crate) fn refused(&self, target: &str, what: &str, why: &str) {
        let result = &self.results[target];
        let at_once = result != "silence" && result != "reached";
        assert!(at_once && self.told(what, why), "{target} is {result}, and not {what} {why}: {}", self.whole);
    }

    /// Whether a refusal is told, of a name or an address.
    pub(crate) fn told(&self, what: &str, why: &str) -> bool {
        let is_it = |one: &Value| (one["name"] == what || one["address"] == what) && one["reason"] == why;
        self.whole["denied"].as_array().is_some_and(|all| all.iter().any(is_it))
    }
}
