//! Secrets of sandboxes, by the real daemon and launcher, with the programs that people use. The internet is a
//! network namespace of the test's own: a name server, and hosts that speak TLS and write down what they hear.

#![cfg(feature = "nftables")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use common::sessions::{create, printed};
use common::tls::Authority;
use common::{Service, internet, skip, wait_for};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{RData, Record, RecordType};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// The address of all hosts, and that of the name server.
const HOST: &str = "198.35.26.96";
const NAME_SERVER: &str = "198.35.26.97";
/// Who gets the secret, who does not, and who can't prove who it is.
const NAMES: [&str; 3] = ["api.example.org", "www.example.org", "lying.example.org"];
/// What nothing but the uplink and that one host may have; made of two so that this program's own code is no hit.
const VALUE: [&str; 2] = ["correct-horse-", "battery-staple"];

fn value() -> String {
    VALUE.concat()
}

/// What hosts were asked.
type Heard = Arc<Mutex<Vec<String>>>;

/// A service with a secret, and what there is to reach.
struct Scene {
    service: Service,
    heard: Heard,
    directory: tempfile::TempDir,
}

impl Scene {
    /// `None` where no network namespace can be made.
    fn new(changes: Value) -> Option<Self> {
        let heard = Heard::default();
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let certificates = directory.path().join("ca.pem");
        if !internet(&heard, &certificates) {
            return None;
        }
        let secret = directory.path().join("secret");
        let network = json!({
            "allow": [{"suffix": ".example.org", "ports": [443]}],
            "secrets": {"API_TOKEN": "forge", "LYING_TOKEN": "lying"},
        });
        let mut config = json!({
            "secrets": {
                "forge": {"file": secret, "domains": [NAMES[0]]},
                "lying": {"file": secret, "domains": [NAMES[2]]},
            },
            "profiles": {"default": {"network": network}, "session": {"network": network}},
            "network": {"name_servers": [NAME_SERVER], "ca_certificates": certificates},
        });
        common::merge(&mut config, changes);
        let scene = Self { service: Service::start_with(config), heard, directory };
        scene.write_secret(&value(), 0o400);
        Some(scene)
    }

    /// Makes the file anew, for who the launcher has become alone.
    fn write_secret(&self, text: &str, mode: u32) {
        let path = self.secret();
        fs::remove_file(&path).ok();
        fs::write(&path, text).unwrap();
        let status = fs::read_to_string(format!("/proc/{}/status", self.service.launcher_pid())).unwrap();
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok());
        std::os::unix::fs::chown(&path, user, None).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn secret(&self) -> PathBuf {
        self.directory.path().join("secret")
    }

    fn heard(&self) -> String {
        self.heard.lock().unwrap().last().cloned().unwrap_or_default()
    }

    fn run(&self, program: &str) -> Value {
        self.service.run_source("bash", program)
    }
}

/// Leads the test to the hosts; `false` where that is not allowed here.
fn internet(heard: &Heard, certificates: &Path) -> bool {
    let authority = Authority::new();
    fs::write(certificates, authority.pem()).unwrap();
    let configs = [&NAMES[..2], &["somebody.example.org"]].map(|names| authority.server(names, 2100));
    let heard = Arc::clone(heard);
    let lying = "198.35.26.98";
    internet::lead_to(&[HOST, NAME_SERVER, lying], move || {
        let packets = UdpSocket::bind((NAME_SERVER, 53)).unwrap();
        std::thread::spawn(move || answer_names(&packets, lying));
        for (address, config) in [HOST, lying].into_iter().zip(configs) {
            let (listener, heard) = (TcpListener::bind((address, 443)).unwrap(), Arc::clone(&heard));
            std::thread::spawn(move || {
                for stream in listener.incoming() {
                    let (config, heard) = (Arc::clone(&config), Arc::clone(&heard));
                    std::thread::spawn(move || converse(stream.unwrap(), config, &heard));
                }
            });
        }
    })
}

fn answer_names(packets: &UdpSocket, lying: &str) {
    let mut buffer = [0; 4096];
    while let Ok((length, from)) = packets.recv_from(&mut buffer) {
        let Ok(asked) = Message::from_vec(&buffer[..length]) else { continue };
        let Some(query) = asked.queries.first().cloned() else { continue };
        let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
        answer.metadata.response_code = ResponseCode::NoError;
        let name = query.name().to_string();
        if query.query_type() == RecordType::A {
            let address = if name.starts_with("lying") { lying } else { HOST };
            answer.add_answer(Record::from_rdata(query.name().clone(), 60, RData::A(A(address.parse().unwrap()))));
        }
        answer.add_query(query);
        packets.send_to(&answer.to_vec().unwrap(), from).ok();
    }
}

/// Writes every request down and answers with a word; at `/wait` it never does.
fn converse(stream: TcpStream, config: Arc<ServerConfig>, heard: &Heard) {
    let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), stream);
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            if stream.read_exact(&mut byte).is_err() {
                return;
            }
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        heard.lock().unwrap().push(head.clone());
        if head.contains(" /wait ") {
            continue;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfine\n").is_err() {
            return;
        }
    }
}

fn stdout(result: &Value) -> &str {
    result["run"]["stdout"].as_str().unwrap()
}

/// Whether a process has these bytes in memory that it can write to. One that is gone has nothing.
fn memory_has(pid: i32, bytes: &[u8]) -> bool {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps"));
    let (maps, memory) = match maps.and_then(|maps| Ok((maps, File::open(format!("/proc/{pid}/mem"))?))) {
        Ok(found) => found,
        Err(error) => {
            let errno = error.raw_os_error().map(Errno::from_raw);
            assert!(matches!(errno, Some(Errno::ENOENT | Errno::ESRCH)), "process {pid}: {error}");
            return false;
        }
    };
    let writable = maps.lines().filter(|line| line.contains(" rw"));
    writable.filter_map(|line| line.split(' ').next()?.split_once('-')).any(|(from, to)| {
        let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
        // In parts, each with the end of the one before; what was never written can't be read.
        let mut at = from;
        let mut part = vec![0; 1 << 20];
        while at < to {
            let length = part.len().min(usize::try_from(to - at).unwrap());
            let Ok(read) = memory.read_at(&mut part[..length], at) else { break };
            if part[..read].windows(bytes.len()).any(|window| window == bytes) {
                return true;
            }
            if read <= bytes.len() {
                break;
            }
            at += (read - bytes.len()) as u64;
            if at + bytes.len() as u64 >= to {
                break;
            }
        }
        false
    })
}

/// Whether a file below a directory has these bytes.
fn files_have(directory: &Path, bytes: &[u8]) -> bool {
    fs::read_dir(directory).unwrap().map(Result::unwrap).any(|entry| match entry.file_type().unwrap() {
        kind if kind.is_dir() => files_have(&entry.path(), bytes),
        kind if kind.is_file() => fs::read(entry.path()).unwrap().windows(bytes.len()).any(|window| window == bytes),
        _ => false,
    })
}

const CURL: &str = "curl -sS --max-time 20 -H \"Authorization: Bearer $API_TOKEN\"";

#[test]
fn a_program_has_a_placeholder_and_the_host_gets_the_secret() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let result = scene.run(&format!("echo $API_TOKEN; {CURL} https://{}/one", NAMES[0]));
    let printed = stdout(&result);
    assert!(printed.starts_with("csb-secret-") && printed.ends_with("\nfine\n"), "{result}");
    assert!(scene.heard().contains(&format!("uthorization: Bearer {}\r\n", value())), "{}", scene.heard());
    // Another host, at the same address, gets what the program has.
    let result = scene.run(&format!("echo $API_TOKEN; {CURL} https://{}/two", NAMES[1]));
    let placeholder = stdout(&result).lines().next().unwrap().to_owned();
    assert!(stdout(&result).ends_with("\nfine\n"), "{result}");
    assert!(scene.heard().contains(&placeholder) && !scene.heard().contains(&value()), "{}", scene.heard());
    // Each sandbox has its own.
    assert!(!printed.contains(&placeholder));
    assert!(!result.to_string().contains(&value()));
    let _all_of_it = scene.directory;
}

#[test]
fn an_agent_uses_a_variable_of_its_shell_and_does_not_see_it() {
    let (heard, directory) = (Heard::default(), tempfile::tempdir().unwrap());
    let certificates = directory.path().join("ca.pem");
    if !internet(&heard, &certificates) {
        return;
    }
    let config = directory.path().join("config.json");
    let network = json!({"name_servers": [NAME_SERVER], "ca_certificates": certificates});
    fs::write(&config, json!({"network": network}).to_string()).unwrap();
    let work = directory.path().join("work");
    fs::create_dir(&work).unwrap();
    let ask = format!("echo $API_TOKEN; {CURL} https://{}/; env; cat /proc/*/environ 2>/dev/null", NAMES[0]);
    let agent = |options: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codesandbox"));
        command.arg("agent").arg("--config").arg(&config).arg("--workdir").arg(&work).args(options);
        command.args(["--", "bash", "-c", &ask]).env("API_TOKEN", value()).stdin(Stdio::null());
        let output = command.output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (printed, said) = agent(&["--secret", &format!("API_TOKEN@{}", NAMES[0])]);
    assert!(printed.starts_with("csb-secret-") && printed.contains("\nfine\n"), "{printed} {said}");
    assert!(!printed.contains(&value()), "{printed}");
    assert!(heard.lock().unwrap().last().unwrap().contains(&format!("uthorization: Bearer {}\r\n", value())));
    // The control: a variable that it is given is seen, here and there.
    let (printed, said) = agent(&["--env", "API_TOKEN", "--allow", NAMES[0]]);
    assert!(printed.starts_with(&value()), "{printed} {said}");
    let (printed, said) = agent(&["--secret", &format!("API_TOKEN@{}", NAMES[0]), "--env", "API_TOKEN"]);
    assert!(printed.is_empty() && said.contains("it can't have both"), "{printed} {said}");
}

#[test]
fn common_programs_trust_their_uplink_without_being_told() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let python = "import os, urllib.request as r\n\
        q = r.Request('https://api.example.org/python', headers={'Authorization': 'Bearer ' + os.environ['API_TOKEN']})\n\
        print(r.urlopen(q).read().decode(), end='')";
    let node = "require('https').get('https://api.example.org/node', {headers: {'X-Api-Key': process.env.API_TOKEN}}, \
        a => a.pipe(process.stdout))";
    for (runtime, source) in [("python", python), ("node", node)] {
        let body = json!({"runtime": runtime, "files": [{"content": source}]});
        let answer = scene.service.post(&body);
        if answer.status != 200 {
            skip(&format!("there is no {runtime} here"));
            continue;
        }
        assert_eq!(stdout(&answer.json()), "fine\n", "{}", answer.json());
        assert!(
            scene.heard().contains(&format!("/{runtime} ")) && scene.heard().contains(&value()),
            "{}",
            scene.heard()
        );
    }
    let git = "git ls-remote https://x:$API_TOKEN@api.example.org/git 2>&1 | grep -c certificate";
    assert_eq!(stdout(&scene.run(git)), "0\n");
}

#[test]
fn nothing_of_a_secret_is_in_a_sandbox_nor_in_the_daemon() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let session = create(&scene.service, &json!({"runtime": "bash"}));
    let exec = session.exec(&json!({"argv": ["bash", "-c", format!("{CURL} https://{}/", NAMES[0])]}));
    assert_eq!(printed(&exec, "stdout"), b"fine\n");
    session.run("true");
    let value = value();
    let bytes = value.as_bytes();
    // The positive control: who puts it in has it.
    let uplinks = scene.service.uplinks();
    assert!(uplinks.iter().any(|pid| memory_has(*pid, bytes)), "{uplinks:?}");
    for pid in scene.service.sandbox_processes() {
        assert!(!memory_has(pid, bytes), "process {pid} of the sandbox has it");
    }
    assert!(!memory_has(scene.service.daemon_pid(), bytes), "the daemon has it");
    assert!(!memory_has(scene.service.launcher_pid(), bytes), "the launcher has kept it");
    assert!(!memory_has(scene.service.zygote().unwrap(), bytes), "what makes uplinks has it");
    assert!(!files_have(&scene.service.state(), bytes));
    // Nor does the program find it, of whom a file has it that it can read.
    let found = format!(
        "env; cat /proc/*/environ /proc/*/cmdline /runtime/* /etc/ssl/certs/ca-certificates.crt 2>/dev/null | tr '\\0' '\\n'; \
         grep -rs {} /workspace /tmp /etc /dev/shm",
        VALUE[0]
    );
    let exec = session.exec(&json!({"argv": ["bash", "-c", found]}));
    let said = String::from_utf8_lossy(&printed(&exec, "stdout")).into_owned();
    assert!(said.contains("API_TOKEN=csb-secret-") && !said.contains(&value), "{said}");
    session.delete();
}

#[test]
fn each_sandbox_has_an_authority_of_its_own() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let certificates = |_| {
        let result = scene.run("cmp $SSL_CERT_FILE $CURL_CA_BUNDLE; cat $SSL_CERT_FILE; : > $SSL_CERT_FILE");
        assert_ne!(result["run"]["exit_code"], 0, "it is not for programs to change");
        stdout(&result).split_inclusive("-----END CERTIFICATE-----").map(str::to_owned).collect::<Vec<_>>()
    };
    let [first, second] = [0, 1].map(certificates);
    // The host's one, and the sandbox's own.
    assert_eq!((first.len(), second.len()), (3, 3), "{first:?}");
    assert_eq!(first[0], second[0]);
    assert_ne!(first[1], second[1]);
    // What one trusts, the other does not.
    fs::write(scene.directory.path().join("ca.pem"), first[1].trim_start()).unwrap();
    let result = scene.run(&format!("curl -sS --max-time 20 https://{}/; echo $?", NAMES[1]));
    assert_eq!(stdout(&result), "60\n", "{result}");
}

#[test]
fn a_secret_is_read_anew_for_each_sandbox_and_a_file_that_others_read_is_refused() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let program = format!("{CURL} https://{}/", NAMES[0]);
    assert_eq!(stdout(&scene.run(&program)), "fine\n");
    assert!(scene.heard().contains(&value()));
    scene.write_secret("quite another one\n", 0o400);
    assert_eq!(stdout(&scene.run(&program)), "fine\n");
    assert!(scene.heard().contains("Bearer quite another one\r\n"), "{}", scene.heard());
    scene.write_secret("quite another one\n", 0o444);
    let result = scene.run(&format!("echo ${{API_TOKEN:-none}}; {program} 2>/dev/null; echo $?"));
    assert!(stdout(&result).starts_with("none\n") && !stdout(&result).ends_with("\n0\n"), "{result}");
    let error = result["run"]["network_error"].as_str().unwrap();
    assert!(error.contains("secret \"forge\"") && error.contains("others"), "{error}");
    assert!(!result.to_string().contains("quite another"), "{result}");
}

#[test]
fn a_request_can_do_without_secrets_and_has_none_that_its_profile_has_not() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let run = |secrets: Value, network: Value| {
        let program = format!("echo ${{API_TOKEN:-none}} ${{SSL_CERT_FILE:-none}}; {CURL} https://{}/", NAMES[0]);
        let mut body = json!({"runtime": "bash", "files": [{"content": program}], "secrets": secrets});
        if !network.is_null() {
            body["network"] = network;
        }
        scene.service.post(&body)
    };
    let answer = run(json!([]), Value::Null).json();
    assert_eq!((stdout(&answer), &answer["secrets"]), ("none none\nfine\n", &json!([])), "{answer}");
    assert!(!scene.heard().contains(&value()));
    let answer = run(json!(["API_TOKEN"]), Value::Null).json();
    assert!(stdout(&answer).ends_with("fine\n") && scene.heard().contains(&value()), "{answer}");
    assert_eq!(answer["secrets"], json!(["API_TOKEN"]));
    let elsewhere = json!({"allow": [{"domain": NAMES[1], "ports": [443]}]});
    let refused = [
        (json!(["OTHER"]), Value::Null, "secrets[0]"),
        (json!(["API_TOKEN"]), elsewhere.clone(), "secrets[0]"),
        (json!(["API_TOKEN"]), json!("none"), "secrets[0]"),
        (Value::Null, json!({"allow": [], "secrets": {"API_TOKEN": "forge"}}), "network.secrets"),
    ];
    for (secrets, network, field) in refused {
        let answer = run(secrets, network);
        assert_eq!((answer.status, &answer.json()["field"]), (422, &json!(field)), "{}", answer.json());
    }
    // Whose host is not reached is not there.
    let answer = run(Value::Null, elsewhere).json();
    assert!(stdout(&answer).starts_with("none none\n"), "{answer}");
}

#[test]
fn a_host_that_can_not_prove_who_it_is_is_refused_and_told() {
    let Some(scene) = Scene::new(json!({})) else { return };
    let result = scene.run(&format!("curl -sS --max-time 20 -H \"X-Api-Key: $LYING_TOKEN\" https://{}/", NAMES[2]));
    assert_eq!((stdout(&result), scene.heard().as_str()), ("", ""), "{result}");
    let denied = &result["run"]["denied"];
    let told =
        denied.as_array().unwrap().iter().any(|flow| flow["reason"] == "certificate" && flow["name"] == NAMES[2]);
    assert!(told, "{denied}");
}

#[test]
fn a_session_keeps_its_secrets_over_another_daemon_and_an_uplink_that_dies_takes_them_along() {
    let Some(mut scene) = Scene::new(json!({})) else { return };
    let session = create(&scene.service, &json!({"runtime": "bash"}));
    let ask = |path: &str| json!({"argv": ["bash", "-c", format!("{CURL} https://{}{path}; echo $?", NAMES[0])]});
    assert_eq!(printed(&session.exec(&ask("/")), "stdout"), b"fine\n0\n");
    scene.service.kill_daemon();
    scene.service.restart_daemon();
    assert_eq!(printed(&session.exec(&ask("/")), "stdout"), b"fine\n0\n");
    assert!(scene.heard().contains(&value()));
    let uplink = scene.service.uplinks()[0];
    let (service, heard) = (&scene.service, &scene.heard);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| session.exec(&ask("/wait")));
        wait_for("a request that waits", || heard.lock().unwrap().last().is_some_and(|head| head.contains(" /wait ")));
        kill(Pid::from_raw(uplink), Signal::SIGKILL).unwrap();
        let said = printed(&waiting.join().unwrap(), "stdout");
        assert!(!said.ends_with(b"\n0\n") && !said.is_empty(), "{}", String::from_utf8_lossy(&said));
        for pid in service.sandbox_processes().into_iter().chain([service.daemon_pid(), service.launcher_pid()]) {
            assert!(!memory_has(pid, value().as_bytes()), "{pid}");
        }
    });
    wait_for("another uplink", || printed(&session.exec(&ask("/")), "stdout") == b"fine\n0\n");
    session.delete();
}
