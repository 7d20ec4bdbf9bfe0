//! What got out of other systems, through the whole service: each case names whose it was, and has its positive
//! control, so that it is not refused for another reason.

use hickory_proto::rr::RecordType;
use serde_json::{Value, json};

use crate::common::sessions::{create, printed};
use crate::ground::{FIRST, HOST, PRIVATE, SECOND};
use crate::name_server::{Reply, records};
use crate::stage::{NAME, NO_NAME, Stage, list, session_tries, tries};

fn asked(stage: &Stage, name: &str) -> usize {
    stage.names.asked().iter().filter(|(one, _)| one == name).count()
}

/// superradcompany/microsandbox#675, NVIDIA/OpenShell#1169, anthropic-experimental/sandbox-runtime#88: what may not be
/// connected to was resolved all the same, and the question itself carries data out.
#[test]
fn a_name_that_is_not_listed_is_never_asked_for() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let secret = "ge2tgnbv.example.com";
    stage.names.has(secret, &[FIRST]);
    let target = format!("tcp:{secret}@443");
    let tried = tries(&service, &[NAME, &target, "tcp:LISTED.example.org.@443", "tcp:example.net@443"], json!({}));
    assert!(tried.reached(NAME) && tried.reached("tcp:LISTED.example.org.@443"), "{}", tried.whole);
    tried.refused(&target, secret, "not_listed");
    tried.refused("tcp:example.net@443", "example.net", "not_listed");
    assert!(asked(&stage, "listed.example.org") > 0);
    assert_eq!(asked(&stage, secret) + asked(&stage, "example.net"), 0);
}

/// The same of a sandbox that is to have no network at all; in AgentCore's that had a resolver
/// (superradcompany/microsandbox#675 links to the report).
#[test]
fn without_a_network_there_is_no_resolver() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    for network in [json!("none"), json!("loopback")] {
        let tried = tries(&service, &[NAME, "udp:127.0.0.1@53", "tcp:127.0.0.1@53"], json!({"network": network}));
        assert!(tried.results.values().all(|result| result != "reached"), "{network}: {}", tried.whole);
    }
    assert_eq!(asked(&stage, "listed.example.org"), 0);
    assert!(tries(&service, &[NAME], json!({})).reached(NAME));
    assert!(asked(&stage, "listed.example.org") > 0);
}

/// anthropic-experimental/sandbox-runtime#131: a name is refused, and its address is not. superradcompany/microsandbox#694:
/// the name in TLS was looked at, at whatever address.
#[test]
fn an_address_that_no_listed_name_led_to_is_refused_whatever_is_said_there() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let direct = format!("tcp:{SECOND}@443");
    let tried = tries(&service, &[NAME, &direct], json!({}));
    assert!(tried.reached(NAME) && stage.host_reaches(&format!("{SECOND}:443")));
    tried.refused(&direct, SECOND, "not_listed");
    let hello = format!(
        "import ssl, socket, sys\n\
         try:\n    ssl.create_default_context().wrap_socket(socket.create_connection(('{SECOND}', 443), 5), \
         server_hostname='listed.example.org')\n\
         except ConnectionError as error:\n    print(type(error).__name__)\n"
    );
    let answer = service.run(&json!({"runtime": "python@3.11", "files": [{"content": hello}]}));
    assert!(answer["run"]["stdout"].as_str().unwrap().starts_with("Connection"), "{answer}");
}

/// Judge0 CVE-2024-29021, utksh1/SecuScan#1748, e2b-dev/infra#3625: services of the host, of its network and of its cloud
/// were reached, by address or by another notation of it.
#[test]
fn what_is_private_is_refused_in_every_notation() {
    let Some(stage) = Stage::new() else { return };
    stage.ground.internet.ip("addr add 169.254.169.254/32 dev lo");
    crate::ground::serve(stage.ground.internet.listen("169.254.169.254:443"), |mut stream| {
        std::io::Write::write_all(&mut stream, b"hello").ok();
    });
    stage.ground.host.ip("route add 169.254.169.254 via 198.35.26.1");
    for place in [PRIVATE, "169.254.169.254", HOST, "10.1.2.1", "127.0.0.1"] {
        assert!(stage.host_reaches(&format!("{place}:443")), "{place}");
    }
    // All that is public is allowed.
    let wide = json!({"allow": [{"cidr": "128.0.0.0/1", "ports": [443]}, {"cidr": "8.0.0.0/6", "ports": [443]}]});
    let service = stage.service(&wide, json!({}));
    let socket = service.socket();
    let addresses = [
        PRIVATE,
        "169.254.169.254",
        HOST,
        "10.1.2.1",
        "198.18.0.1",
        "100.64.0.1",
        "0.0.0.1",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
        "fd00:ec2::254",
        "fe80::1",
    ];
    let mapped = format!("tcp:::ffff:{PRIVATE}@443");
    let others = [
        mapped.as_str(),
        "tcp:167838211@443",
        "tcp:0x0a010203@443",
        "tcp:10.66051@443",
        "tcp:0.0.0.0@443",
        "tcp:::@443",
        "tcp:127.0.0.1@443",
        "tcp:localhost@443",
    ];
    let targets: Vec<String> = addresses.iter().map(|address| format!("tcp:{address}@443")).collect();
    let own = format!("unix:{}", socket.display());
    let listed = format!("tcp:{SECOND}@443");
    let all: Vec<&str> =
        targets.iter().map(String::as_str).chain(others).chain([own.as_str(), listed.as_str()]).collect();
    let tried = tries(&service, &all, json!({}));
    assert!(tried.reached(&listed), "{}", tried.whole);
    for target in all.iter().filter(|target| **target != listed) {
        assert!(!tried.reached(target) && tried.results[*target] != "silence", "{target}: {}", tried.whole);
    }
    for address in [PRIVATE, "169.254.169.254", HOST, "198.18.0.1", "100.64.0.1", "64:ff9b::a01:203"] {
        assert!(tried.told(address, "private"), "{address}: {}", tried.whole);
    }
}

/// NVIDIA/OpenShell#59, raine/workmux#156: listed names that lead to private addresses, and an exception for some. And
/// names whose answer changes while they are used (rebinding).
#[test]
fn a_name_that_leads_to_a_private_address_does_not_exist_unless_that_is_excepted() {
    let Some(stage) = Stage::new() else { return };
    stage.names.has("inner.example.net", &[PRIVATE]);
    stage.names.has("both.example.net", &["169.254.169.254", SECOND]);
    stage.names.says(
        "mapped.example.net",
        RecordType::AAAA,
        Reply::Records(records("mapped.example.net", 60, &["::ffff:10.1.2.3"])),
    );
    let public = Reply::Records(records("turns.example.net", 0, &[SECOND]));
    let private = Reply::Records(records("turns.example.net", 0, &[PRIVATE]));
    stage.names.says("turns.example.net", RecordType::A, Reply::InTurn(vec![public, private]));
    let service = stage.service(&list(), json!({}));
    let names = ["inner", "both", "mapped", "turns"].map(|name| format!("tcp:{name}.example.net@443"));
    let names = names.each_ref().map(String::as_str);
    let tried = tries(&service, &names, json!({}));
    tried.refused(names[0], "inner.example.net", "private");
    tried.refused(names[2], "mapped.example.net", "private");
    assert!(tried.reached(names[1]) && tried.reached(names[3]), "{}", tried.whole);
    // Another sandbox asks anew.
    tries(&service, &names[3..], json!({})).refused(names[3], "turns.example.net", "private");
    drop(service);
    let mut excepting = list();
    excepting["allow_private"] = json!(["10.1.2.0/24"]);
    let service = stage.service(&excepting, json!({}));
    assert!(tries(&service, &names[..1], json!({})).reached(names[0]));
    // What the host itself has in that network is not meant.
    stage.names.has("own.example.net", &["10.1.2.1"]);
    tries(&service, &["tcp:own.example.net@443"], json!({})).refused(
        "tcp:own.example.net@443",
        "own.example.net",
        "private",
    );
}

/// anthropic-experimental/sandbox-runtime: an empty list meant no restriction; utksh1/SecuScan#1748: the same.
#[test]
fn an_empty_list_is_nothing_and_an_absent_one_the_profiles() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let listed = format!("tcp:{FIRST}@80");
    assert!(tries(&service, &[&listed], json!({})).reached(&listed));
    let tried = tries(&service, &[&listed, NAME], json!({"network": {"allow": []}}));
    tried.refused(&listed, FIRST, "not_listed");
    tried.refused(NAME, "listed.example.org", "not_listed");
    assert_eq!(asked(&stage, "listed.example.org"), 0);
}

/// anthropics/claude-code#89165, #77045: CONNECT was not held to the list; #87381: nor where a program in the sandbox
/// had passed it on.
#[test]
fn the_proxy_holds_whoever_asks_and_however_to_the_list() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let program = "
import http.client, socket, threading
def through(port, authority, host=None):
    with socket.create_connection(('127.0.0.1', port), 10) as proxy:
        proxy.sendall(f'CONNECT {authority} HTTP/1.1\\r\\nHost: {host or authority}\\r\\n\\r\\n'.encode())
        print(authority, host, proxy.recv(4096).split()[1].decode())
def passed_on(inner):
    with inner, socket.create_connection(('127.0.0.1', 2), 10) as proxy:
        proxy.sendall(inner.recv(4096))
        inner.sendall(proxy.recv(4096))
relay = socket.create_server(('127.0.0.1', 8080))
def serve():
    while True:
        passed_on(relay.accept()[0])
threading.Thread(target=serve, daemon=True).start()
for port in (2, 8080):
    through(port, 'listed.example.org:443')
    through(port, 'unlisted.example.com:443')
    through(port, 'unlisted.example.com:443', 'listed.example.org:443')
    through(port, '151.101.66.132:443')
    through(port, '10.1.2.3:443')
    through(port, 'listed.example.org:8443')
";
    let answer = service.run(&json!({"runtime": "python@3.11", "files": [{"content": program}]}));
    let statuses: Vec<&str> =
        answer["run"]["stdout"].as_str().unwrap().lines().filter_map(|line| line.split(' ').next_back()).collect();
    assert_eq!(statuses, ["200", "403", "400", "403", "403", "403"].repeat(2), "{answer}");
    assert_eq!(asked(&stage, "unlisted.example.com"), 0);
}

/// docker/sbx-releases#311, superserve-ai/sandbox#355 and #387, harbor#2979: what a sandbox may reach was another after it
/// had been stopped, resumed, revived or copied.
#[test]
fn a_narrower_network_stays_through_all_that_a_session_lives_through() {
    let Some(stage) = Stage::new() else { return };
    let mut service = stage.service(&list(), json!({}));
    let session = create(&service, &json!({"runtime": "python@3.11", "persistent": true}));
    let first = format!("tcp:{FIRST}@80");
    let both = [first.as_str(), NAME];
    let tried = session_tries(&session, &both);
    assert!(tried.reached(&first) && tried.reached(NAME), "{}", tried.whole);
    let snapshot = session.post("/snapshots", &json!({}))["id"].clone();
    let narrow = json!({"network": {"allow": [{"cidr": format!("{FIRST}/32"), "ports": [80]}]}});
    let put =
        session.try_ask("PUT", "/network", &[("content-type", "application/json")], narrow.to_string().as_bytes());
    assert_eq!(put.unwrap().status, 200);
    let is_narrow = |session: &crate::common::sessions::Session, after: &str| {
        let tried = session_tries(session, &both);
        assert!(tried.reached(&first), "after {after}: {}", tried.whole);
        assert!(tried.results[NAME].starts_with(NO_NAME), "after {after}: {}", tried.whole);
    };
    is_narrow(&session, "it was narrowed");
    session.post("/pause", &json!({}));
    session.post("/resume", &json!({}));
    is_narrow(&session, "it was paused");
    session.post(&format!("/snapshots/{snapshot}/rollback"), &json!({}));
    is_narrow(&session, "it was rolled back to a time at which it was wider");
    let fork = session.post("/fork", &json!({}));
    let fork = crate::common::sessions::Session::of(&service, fork["id"].as_str().unwrap());
    is_narrow(&fork, "it was copied");
    fork.delete();
    session.post("/stop", &json!({}));
    is_narrow(&session, "it was stopped");
    service.reload_daemon();
    is_narrow(&session, "a reload");
    service.kill_daemon();
    service.restart_daemon();
    is_narrow(&session, "the daemon was another");
    let told: Value = session.ask("GET", "/network", b"").json();
    assert_eq!(told["network"]["allow"].as_array().unwrap().len(), 1, "{told}");
    session.delete();
}

/// TencentCloud/CubeSandbox#1399 tells of E2B: connections that were open went on after a list had been narrowed.
#[test]
fn narrowing_under_load_ends_what_is_not_allowed_any_more_and_nothing_else() {
    let Some(stage) = Stage::new() else { return };
    let service = stage.service(&list(), json!({}));
    let session = create(&service, &json!({"runtime": "python@3.11"}));
    // Each line goes to a server and back; the first that does not ends it.
    let program = "
import socket, sys, time
name, port = sys.argv[1], int(sys.argv[2])
client = socket.create_connection((name, port), 10)
got = b''
while len(got) < 5: got += client.recv(5 - len(got))
print('open', flush=True)
try:
    for number in range(10**9):
        word = b'%08d' % number
        client.sendall(word)
        back = b''
        while len(back) < 8:
            part = client.recv(8 - len(back))
            if not part: raise ConnectionError('closed')
            back += part
        assert back == word
        if number % 200 == 0: print(number, flush=True)
except OSError as error:
    print('ended', flush=True)
";
    let begin = |name: &str, port: &str| {
        let number = session.start(json!({"argv": ["python3.11", "-c", program, name, port]}));
        session.wait_for_output(number, "open");
        number
    };
    let goes_on = [begin(FIRST, "80"), begin(FIRST, "80")];
    let ends = [begin("listed.example.org", "443"), begin("listed.example.org", "443")];
    let narrow = json!({"network": {"allow": [{"cidr": format!("{FIRST}/32"), "ports": [80]}]}});
    for _ in 0..5 {
        let put =
            session.try_ask("PUT", "/network", &[("content-type", "application/json")], narrow.to_string().as_bytes());
        assert_eq!(put.unwrap().status, 200);
    }
    for number in ends {
        let ended = session.finished(number);
        assert!(String::from_utf8(printed(&ended, "stdout")).unwrap().ends_with("ended\n"), "{ended}");
    }
    for number in goes_on {
        let seen = || session.show(number)["stdout"]["next"].as_u64().unwrap();
        let before = seen();
        crate::common::wait_for("bytes that go on", || seen() > before + 20);
    }
    session.delete();
}
