//! What fails on the way out, through the whole service: it is told, there is no network, and never more of it.

use std::fs;
use std::process::Command;

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::common::sessions::{Session, create};
use crate::common::{Service, name, wait_for};
use crate::end;
use crate::ground::{FIRST, SECOND};
use crate::name_server::{Reply, records};
use crate::stage::{NAME, Stage, list, session, session_tries, tries};

const JSON: (&str, &str) = ("content-type", "application/json");

#[test]
fn a_name_server_that_is_down_slow_or_lies_is_told_and_addresses_go_on() {
    let Some(stage) = Stage::new() else { return };
    let answer = |name: &str| records(name, 60, &[SECOND]);
    stage.names.says("slow.example.net", RecordType::A, Reply::Silence);
    stage.names.says("other.example.net", RecordType::A, Reply::WrongQuestion(answer("other.example.net")));
    stage.names.says("late.example.net", RecordType::A, Reply::WrongId(answer("late.example.net")));
    let first = format!("tcp:{FIRST}@80");
    let service = stage.service(&list(), json!({}));
    let names = ["slow", "other", "late"].map(|name| format!("{name}.example.net"));
    for name in &names {
        let target = format!("tcp:{name}@443");
        let tried = tries(&service, &[&target, &first, NAME], json!({}));
        tried.refused(&target, name, "unreachable");
        assert!(tried.reached(&first) && tried.reached(NAME), "{}", tried.whole);
    }
    drop(service);
    // Nobody is there at all.
    let service = stage.service(&list(), json!({"network": {"name_servers": [FIRST]}}));
    let tried = tries(&service, &[NAME, &first], json!({}));
    tried.refused(NAME, "listed.example.org", "unreachable");
    assert!(tried.reached(&first), "{}", tried.whole);
}

#[test]
fn a_zygote_that_dies_is_replaced_and_nobody_loses_a_network() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let session = session(&service);
    // Says what it is told to a server that says it back.
    let echoes = format!(
        "import socket, sys; client = socket.create_connection(('{FIRST}', 80)); print(client.recv(5), flush=True)\n\
         for line in sys.stdin.buffer:\n    client.sendall(line); print(client.recv(100), flush=True)\n"
    );
    let held = session.start(json!({"argv": ["python3.11", "-c", echoes], "keep_stdin": true}));
    session.wait_for_output(held, "hello");
    let (zygote, uplinks) = (service.zygote().unwrap(), service.uplinks());
    assert_eq!(uplinks.len(), 1);
    end(zygote);
    wait_for("another zygote", || service.zygote().is_some_and(|other| other != zygote));
    session.stdin(held, b"still here\n", true);
    session.wait_for_output(held, "still here");
    session.finished(held);
    assert_eq!(service.uplinks(), uplinks);
    assert!(tries(&service, &[NAME], json!({})).reached(NAME));
    assert!(session_tries(&session, &[NAME]).reached(NAME));
    session.delete();
    wait_for("every uplink to be gone", || service.uplinks().is_empty());
    // What does nothing but wait costs little.
    let smaps = fs::read_to_string(format!("/proc/{}/smaps_rollup", service.keeper().unwrap())).unwrap();
    let private = smaps.lines().filter(|line| line.starts_with("Private_"));
    let private: u64 = private.map(|line| line.split_ascii_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum();
    eprintln!("the keeper has {private} KiB of its own");
    assert!(private < 2048, "{private} KiB");
}

/// A list of the largest size: longer than a message between launcher and uplink may be.
fn largest() -> Value {
    let name = |number: usize| format!("{number:060}.{}.example.net", "a".repeat(60));
    let mut allow: Vec<Value> = (0..4094).map(|number| json!({"domain": name(number), "ports": [443]})).collect();
    allow.push(json!({"domain": "listed.example.net", "ports": [443]}));
    allow.push(json!({"cidr": format!("{FIRST}/32"), "ports": [80]}));
    json!({"allow": allow})
}

#[test]
fn the_largest_list_goes_through_a_request_a_hand_over_and_a_replacement() {
    let Some(stage) = Stage::new() else { return };
    stage.names.has("listed.example.net", &[SECOND]);
    let list = list();
    assert!(largest().to_string().len() > 512 << 10);
    let pool = json!({"pool": {"warm": false, "ceiling": 4, "runtimes": {"python-3.11": {"floor": 1}}}});
    let service = stage.service(&list, pool);
    wait_for("one that waits", || service.uplinks().len() == 1);
    let (inner, first) = ("tcp:listed.example.net@443", format!("tcp:{FIRST}@80"));
    let tried = tries(&service, &[inner, &first, NAME], json!({"network": largest()}));
    assert!(tried.reached(inner) && tried.reached(&first), "{}", tried.whole);
    tried.refused(NAME, "listed.example.org", "not_listed");
    let session = create(&service, &json!({"runtime": "python@3.11"}));
    assert!(session_tries(&session, &[NAME]).reached(NAME));
    let before = service.uplinks();
    let body = json!({"network": largest()}).to_string();
    let put = session.try_ask("PUT", "/network", &[JSON], body.as_bytes()).unwrap();
    assert_eq!(put.status, 200, "{}", String::from_utf8_lossy(&put.body));
    let tried = session_tries(&session, &[inner, &first, NAME]);
    assert!(tried.reached(inner) && tried.reached(&first), "{}", tried.whole);
    tried.refused(NAME, "listed.example.org", "not_listed");
    // It was told to the uplink that there was.
    assert!(before.iter().any(|uplink| service.uplinks().contains(uplink)));
    session.delete();
}

#[test]
fn one_that_waited_is_made_narrower_before_it_is_anybodys() {
    let Some(stage) = Stage::new() else { return };
    let pool = json!({"pool": {"warm": false, "ceiling": 4, "runtimes": {"python-3.11": {"floor": 1}}}});
    let service = stage.service(&list(), pool);
    let first = format!("tcp:{FIRST}@80");
    wait_for("one that waits", || service.uplinks().len() == 1);
    let narrow = json!({"network": {"allow": [{"cidr": format!("{FIRST}/32"), "ports": [80]}]}});
    let answer = service.run(&crate::stage::job(&[&first, NAME], narrow));
    assert_eq!(answer["path"], "parked", "{answer}");
    assert!(answer["run"]["stdout"].as_str().unwrap().contains(&format!("\"{first}\": \"reached\"")), "{answer}");
    assert!(answer["run"]["stdout"].as_str().unwrap().contains(&format!("\"{NAME}\": \"no such name")), "{answer}");
}

/// Executes a program on a kernel that says it has no netfilter.
const NO_RULES: &str = "
import ctypes, errno, os, struct, sys
socket = {'x86_64': 41, 'aarch64': 198}[os.uname().machine]
def step(code, k, yes=0, no=0): return struct.pack('HBBI', code, yes, no, k)
load, equal, answer = 0x20, 0x15, 0x06
# socket(AF_NETLINK, …, NETLINK_NETFILTER): EPROTONOSUPPORT. The number, and the first and third argument.
program = b''.join([
    step(load, 0), step(equal, socket, 0, 5), step(load, 16), step(equal, 16, 0, 3), step(load, 32),
    step(equal, 12, 0, 1), step(answer, 0x00050000 | errno.EPROTONOSUPPORT), step(answer, 0x7fff0000),
])
class Filter(ctypes.Structure): _fields_ = [('length', ctypes.c_ushort), ('program', ctypes.c_char_p)]
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(22, 2, ctypes.byref(Filter(len(program) // 8, program)), 0, 0): sys.exit(os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
";

#[test]
fn on_a_kernel_that_takes_no_rules_there_is_no_network_and_that_is_told() {
    let Some(stage) = Stage::new() else { return };
    let first = format!("tcp:{FIRST}@80");
    let second = format!("tcp:{SECOND}@443");
    let targets = [first.as_str(), NAME, second.as_str()];
    // Control: nothing else is in the way.
    assert!(tries(&stage.service(&list(), json!({})), &targets, json!({})).reached(&first));
    let network = list();
    let config = json!({
        "profiles": {"default": {"network": network}, "session": {"network": network}},
        "network": {"name_servers": ["9.9.9.9"]},
    });
    let service = Service::start_under(&["python3", "-c", NO_RULES], config);
    let tried = tries(&service, &targets, json!({}));
    assert!(tried.results.values().all(|result| result != "reached"), "{}", tried.whole);
    let error = tried.whole["network_error"].as_str().unwrap();
    assert!(error.contains("Protocol not supported"), "{error}");
    let session = session(&service);
    let tried = session_tries(&session, &targets);
    assert!(tried.results.values().all(|result| result != "reached"), "{}", tried.whole);
    let told = session.ask("GET", "/network", b"").json();
    assert!(told["network_error"].as_str().unwrap().contains("Protocol not supported"), "{told}");
    session.delete();
}

/// Opens everything in the network of a sandbox, as only somebody outside can.
fn tamper(process: i32) {
    let net = format!("--net=/proc/{process}/ns/net");
    let rule = ["nft", "insert", "rule", "inet", "codesandbox", "output", "accept"];
    assert!(Command::new("nsenter").arg(net).args(rule).status().unwrap().success());
}

type Act<'a> = Box<dyn Fn(&mut Service, &Session) + 'a>;

#[test]
fn rules_that_are_not_those_of_the_policy_are_the_end_of_a_sandbox() {
    let Some(stage) = Stage::new() else { return };
    let mut service = stage.service(&list(), json!({}));
    let put = |session: &Session, body: Value| {
        session.try_ask("PUT", "/network", &[JSON], body.to_string().as_bytes());
    };
    let acts: [(&str, Act<'_>); 4] = [
        ("the same network", Box::new(|_: &mut Service, session: &Session| put(session, json!({"network": null})))),
        (
            "pause and resume",
            Box::new(|_: &mut Service, session: &Session| {
                session.post("/pause", &json!({}));
                session.try_post("/resume", &json!({}));
            }),
        ),
        ("a reload", Box::new(|service: &mut Service, _: &Session| service.reload_daemon())),
        (
            "another daemon",
            Box::new(|service: &mut Service, _: &Session| {
                service.kill_daemon();
                service.restart_daemon();
            }),
        ),
    ];
    for (what, act) in acts {
        let session = session(&service);
        let sleeps = session.start(json!({"argv": ["sleep", "1000"]}));
        // By its name: the launcher may be making something else at the moment.
        let sleeper = || service.sandbox_processes().into_iter().find(|pid| name(*pid) == "sleep");
        wait_for("a program", || sleeper().is_some());
        let inside = sleeper().unwrap();
        let namespace = fs::read_link(format!("/proc/{inside}/ns/net")).unwrap();
        // Control: nothing of this is the end of one that is as it should be.
        act(&mut service, &session);
        assert_eq!(session.show(sleeps)["state"], "running", "{what}");
        assert_eq!(fs::read_link(format!("/proc/{inside}/ns/net")).unwrap(), namespace, "{what}");
        tamper(inside);
        act(&mut service, &session);
        wait_for(&format!("the sandbox to be ended by {what}"), || {
            fs::read_link(format!("/proc/{inside}/ns/net")).is_err() && session.show(sleeps)["state"] != "running"
        });
        // What comes after is as it should be.
        let second = format!("tcp:{SECOND}@443");
        let tried = session_tries(&session, &[NAME, &second]);
        assert!(tried.reached(NAME), "after {what}: {}", tried.whole);
        tried.refused(&second, SECOND, "not_listed");
        session.delete();
    }
}

#[test]
fn one_that_waited_with_other_rules_is_nobodys() {
    let Some(stage) = Stage::new() else { return };
    let pool = json!({"pool": {"warm": false, "ceiling": 4, "runtimes": {"python-3.11": {"floor": 1}}}});
    let service = stage.service(&list(), pool);
    let second = format!("tcp:{SECOND}@443");
    for narrow in [Value::Null, json!({"allow": [{"domain": "listed.example.org", "ports": [443]}]})] {
        wait_for("one that waits", || service.uplinks().len() == 1 && service.sandbox_processes().len() == 2);
        tamper(service.sandbox_processes()[0]);
        let tried = tries(&service, &[NAME, &second], json!({"network": narrow}));
        assert!(tried.reached(NAME), "{}", tried.whole);
        tried.refused(&second, SECOND, "not_listed");
    }
}

#[test]
fn what_makes_the_way_out_does_not_answer_is_a_time_out_and_not_a_hang() {
    let Some(stage) = Stage::new() else { return };
    // It takes what comes, and says nothing.
    stage.ground.internet.run(|| {
        let chain = "{ type filter hook input priority 0; }";
        for line in [
            &["add", "table", "ip", "silence"][..],
            &["add", "chain", "ip", "silence", "input", chain],
            &["add", "rule", "ip", "silence", "input", "ip", "daddr", SECOND, "drop"],
        ] {
            assert!(Command::new("nft").args(line).status().unwrap().success());
        }
    });
    let network = json!({"allow": [{"cidr": format!("{SECOND}/32"), "ports": [443]}, {"cidr": format!("{FIRST}/32"), "ports": [80, 443]}]});
    let service = stage.service(&network, json!({}));
    let program = "
import socket
for place in ('151.101.2.132:443', '151.101.66.132:443', '151.101.2.132:8080'):
    with socket.create_connection(('127.0.0.1', 2), 20) as proxy:
        proxy.sendall(f'CONNECT {place} HTTP/1.1\\r\\nHost: {place}\\r\\n\\r\\n'.encode())
        print(proxy.recv(4096).split()[1].decode())
";
    let limits = json!({"wall_time_ms": 40_000});
    let body = json!({"runtime": "python@3.11", "files": [{"content": program}], "limits": limits});
    let answer = service.run(&body);
    assert_eq!(answer["run"]["stdout"], "200\n504\n403\n", "{answer}");
    let denied = answer["run"]["denied"].to_string();
    assert!(denied.contains("unreachable") && denied.contains(SECOND), "{denied}");
}

#[test]
fn programs_have_the_certificates_that_the_configuration_names() {
    let Some(stage) = Stage::new() else { return };
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let file = directory.path().join("authorities.pem");
    fs::write(&file, "certificates of our own\n").unwrap();
    let service = stage.service(&list(), json!({"network": {"ca_certificates": file}}));
    let with = service.run_source("bash", "cat /etc/ssl/certs/ca-certificates.crt");
    assert_eq!(with["run"]["stdout"], "certificates of our own\n", "{with}");
}
