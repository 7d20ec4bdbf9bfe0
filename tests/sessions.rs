//! Sessions from their making to their end, whose they are, how many there may be, and the programs in
//! them: what they print, what is done to them, and what each of them may not do.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use common::sessions::{Events, Session, Told, create, printed, shell, try_create};
use common::{Service, children, file, skip, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getuid};
use payloads::{Outside, PYTHON};
use serde_json::{Value, json};

/// A user of no client.
const STRANGER: u32 = 61_234;

/// Short times, so that what they end is soon ended.
fn hasty() -> Service {
    Service::start_with(json!({"sessions": {"pause_after_ms": 2000}}))
}

fn python(service: &Service) -> Session {
    create(service, &json!({"runtime": "python@3.11"}))
}

/// The type of a problem, without what all of them begin with.
fn problem(answer: &common::Answer) -> (u16, String) {
    let kind = answer.json()["type"].as_str().unwrap().rsplit(':').next().unwrap().to_owned();
    (answer.status, kind)
}

#[test]
fn a_session_is_made_seen_changed_and_removed() {
    let service = Service::start();
    let session = create(&service, &json!({"runtime": "bash", "labels": {"task": "42"}, "env": {"A": "b"}}));
    let seen = session.seen().unwrap();
    assert_eq!((&seen["status"], &seen["persistent"]), (&json!("active"), &json!(false)), "{seen}");
    assert_eq!((&seen["labels"], &seen["env"]["A"]), (&json!({"task": "42"}), &json!("b")), "{seen}");
    assert_eq!(session.run("echo $A"), "b\n");
    let answer = session.try_ask(
        "PATCH",
        "",
        &[("content-type", "application/json")],
        json!({"labels": {"x": "y"}, "idle_timeout_ms": 50_000, "lifetime_ms": 100_000_000}).to_string().as_bytes(),
    );
    let changed = answer.unwrap().json();
    assert_eq!((&changed["labels"], &changed["idle_timeout_ms"]), (&json!({"x": "y"}), &json!(50_000)));
    assert!(changed["expires_at"].as_str() > seen["expires_at"].as_str(), "{changed}");
    session.delete();
    assert_eq!(problem(&session.ask("GET", "", b"")), (404, "unknown-session".to_owned()));
    assert_eq!(problem(&session.ask("DELETE", "", b"")), (404, "unknown-session".to_owned()));
}

#[test]
fn several_runtimes_share_a_session_and_the_first_is_the_default() {
    let service = Service::start();
    let session = create(&service, &json!({"runtimes": ["python@3.11", "bash"]}));
    let seen = session.seen().unwrap();
    assert_eq!(seen["runtimes"][0], "python-3.11");
    assert_eq!(seen["runtimes"].as_array().unwrap().len(), 2);
    assert_eq!(session.run("python3.11 -c 'open(\"x\", \"w\").write(\"by python\")' && cat x"), "by python");
    let twice = try_create(&service, &json!({"runtimes": ["bash", "bash"]}));
    assert_eq!(twice.status, 422);
    session.delete();
}

#[test]
fn lists_are_narrowed_and_come_in_pages() {
    let service = Service::start();
    let made: Vec<Session> = (0..5)
        .map(|n| create(&service, &json!({"runtime": "bash", "labels": {"n": n.to_string(), "all": "yes"}})))
        .collect();
    made[2].post("/pause", &json!({}));
    let list = |query: &str| service.request("GET", &format!("/v1/sessions{query}"), &[], "").json();
    let ids = |list: &Value| -> Vec<String> {
        list["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list("?label=n%3D3")), [made[3].id.clone()]);
    assert_eq!(ids(&list("?label=n%3D3&label=all%3Dno")), Vec::<String>::new());
    assert_eq!(ids(&list("?status=paused")), [made[2].id.clone()]);
    assert_eq!(ids(&list("?status=active&label=all%3Dyes")).len(), 4);
    let (mut all, mut after) = (Vec::new(), String::new());
    loop {
        let page = list(&format!("?limit=2{after}"));
        assert!(ids(&page).len() <= 2);
        all.extend(ids(&page));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(all.len(), 5);
    assert_eq!(all.iter().collect::<BTreeSet<_>>(), made.iter().map(|session| &session.id).collect());
    made.iter().for_each(Session::delete);
}

#[test]
fn an_idle_session_ends_and_one_that_is_used_does_not() {
    let service = Service::start();
    let used = create(&service, &json!({"runtime": "bash", "idle_timeout_ms": 4000}));
    let held = used.send("POST", "/execs", "application/json", &json!({"shell": "sleep 1000"}).to_string());
    wait_for("the program", || used.execs().len() == 1);
    let idle = create(&service, &json!({"runtime": "bash", "idle_timeout_ms": 4000}));
    let kept = create(&service, &json!({"runtime": "bash", "idle_timeout_ms": 4000, "persistent": true}));
    kept.put("file", b"kept");
    idle.wait_until_gone();
    kept.wait_until("stopped");
    assert_eq!(kept.seen().unwrap()["disk"], Value::Null);
    // It is older than both.
    assert_eq!(used.status(), "active");
    drop(held);
    used.wait_until_gone();
    assert_eq!(kept.get("file").unwrap(), b"kept");
    assert_eq!((kept.status(), &kept.seen().unwrap()["restarts"]), ("active".to_owned(), &json!(0)));
    kept.delete();
}

#[test]
fn a_lifetime_ends_a_session_in_use() {
    let service = Service::start();
    let longer = create(&service, &json!({"runtime": "bash", "lifetime_ms": 4000}));
    let extended = json!({"lifetime_ms": 60_000}).to_string();
    longer.try_ask("PATCH", "", &[("content-type", "application/json")], extended.as_bytes()).unwrap();
    let session = create(&service, &json!({"runtime": "bash", "lifetime_ms": 4000}));
    let told = session.stream(&json!({"shell": "echo begun; sleep 1000"})).gather();
    assert_eq!(told.stream("stdout"), b"begun\n");
    assert!(["finished", "failed"].contains(&told.last["event"].as_str().unwrap()), "{:?}", told.last);
    session.wait_until_gone();
    assert_eq!(longer.run("echo lives"), "lives\n");
    longer.delete();
    service.assert_no_sandbox();
}

#[test]
fn a_stop_keeps_a_persistent_session_and_ends_another() {
    let service = Service::start();
    let session = create(&service, &json!({"runtime": "bash", "persistent": true}));
    session.run("mkdir d; echo kept > d/file; ln -s file d/link; chmod 750 d/file");
    let exec = session.start(json!({"shell": "sleep 1000"}));
    assert_eq!(session.post("/stop", &json!({}))["status"], "stopped");
    service.assert_no_sandbox();
    assert_eq!(session.post("/stop", &json!({}))["status"], "stopped");
    assert_eq!(problem(&session.try_post("/pause", &json!({})).unwrap()), (409, "wrong-state".to_owned()));
    assert_eq!(session.run("cat d/link; stat -c %a d/file"), "kept\n750\n");
    assert_eq!(session.ask("GET", &format!("/execs/{exec}"), b"").status, 404);
    session.delete();
    let session = shell(&service);
    assert!(session.try_post("/stop", &json!({})).unwrap().status < 300);
    session.wait_until_gone();
}

#[test]
fn an_idle_session_is_paused_and_woken_by_the_next_call() {
    let service = hasty();
    let session = shell(&service);
    // It tells by a file whether it goes on, since what it prints would be use, as would the processor time of many
    // forks.
    let exec = session.start(json!({"shell": "while sleep 0.5; do echo x >> ticks; done"}));
    session.wait_until("paused");
    assert_eq!(session.show(exec)["state"], "running");
    let ticks = session.get("ticks").unwrap().len();
    assert_eq!(session.status(), "active");
    wait_for("it to go on", || session.get("ticks").unwrap().len() > ticks);
    session.post("/pause", &json!({}));
    assert_eq!(session.status(), "paused");
    assert_eq!(session.post("/resume", &json!({}))["status"], "active");
    session.delete();
}

#[test]
fn what_computes_in_silence_is_not_idle() {
    let service = hasty();
    let busy = shell(&service);
    busy.start(json!({"shell": "while :; do :; done"}));
    for _ in 0..2 {
        // The control: one that came later and does nothing.
        let idle = shell(&service);
        idle.start(json!({"shell": "sleep 1000"}));
        idle.wait_until("paused");
        assert_eq!(busy.status(), "active");
        idle.delete();
    }
    busy.delete();
}

#[test]
fn a_promoted_session_is_persistent_until_it_is_demoted() {
    let service = Service::start();
    let session = shell(&service);
    assert_eq!(session.post("/promote", &json!({}))["persistent"], true);
    session.put("file", b"kept");
    session.post("/stop", &json!({}));
    assert_eq!(session.get("file").unwrap(), b"kept");
    let pinned = session.try_post("/promote", &json!({"cpus": [0]})).unwrap();
    if Path::new("/sys/fs/cgroup/cgroup.controllers").exists() {
        assert_eq!(pinned.json()["cpus"], json!([0]));
    } else {
        assert_eq!(problem(&pinned), (409, "wrong-state".to_owned()));
    }
    let demoted = session.post("/demote", &json!({}));
    assert_eq!((&demoted["persistent"], &demoted["cpus"]), (&json!(false), &Value::Null));
    assert_eq!(session.get("file").unwrap(), b"kept");
    session.post("/stop", &json!({}));
    session.wait_until_gone();
}

#[test]
fn sessions_are_counted_per_client_and_in_all() {
    let mine = json!({
        "users": [getuid().as_raw()], "weight": 1, "concurrency": 0, "queue_length": 9,
        "profiles": ["session"], "sessions": 2,
    });
    let service = Service::start_with(json!({"clients": {"mine": mine}}));
    let made = [shell(&service), shell(&service)];
    let refused = try_create(&service, &json!({"runtime": "bash"}));
    assert_eq!(problem(&refused), (429, "too-many".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("clients.mine.sessions"), "{:?}", refused.body);
    assert_eq!(refused.json()["allowed"]["maximum"], 2);
    let forked = made[0].try_post("/fork", &json!({})).unwrap();
    assert_eq!(problem(&forked), (429, "too-many".to_owned()));
    made[0].delete();
    shell(&service).delete();
    made[1].delete();
}

#[test]
fn programs_of_a_session_are_counted_and_the_oldest_ended_one_goes() {
    let service = Service::start_with(json!({"sessions": {"execs_per_session": 2, "sessions": 1}}));
    let session = shell(&service);
    let refused = try_create(&service, &json!({"runtime": "bash"}));
    assert_eq!(problem(&refused), (429, "too-many".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("sessions.sessions"), "{:?}", refused.body);
    let first = session.exec(&json!({"shell": "true"}))["id"].as_u64().unwrap();
    let running = session.start(json!({"shell": "sleep 1000"}));
    session.start(json!({"shell": "sleep 1000"}));
    assert_eq!(session.ask("GET", &format!("/execs/{first}"), b"").status, 404);
    let refused = session.try_post("/execs", &json!({"shell": "true"})).unwrap();
    assert_eq!(problem(&refused), (429, "too-many".to_owned()));
    assert!(refused.json()["detail"].as_str().unwrap().contains("sessions.execs_per_session"), "{:?}", refused.body);
    assert_eq!(session.ask("DELETE", &format!("/execs/{running}"), b"").status, 204);
    assert_eq!(session.run("echo room"), "room\n");
    session.delete();
}

#[test]
fn a_session_tells_its_network_and_refuses_more_than_its_profile_allows() {
    let service = Service::start();
    let session = create(&service, &json!({"runtime": "bash"}));
    let told = session.ask("GET", "/network", b"").json();
    assert_eq!(told, json!({"network": "loopback", "denied": [], "network_error": null}));
    let put = |body: Value| {
        let header = [("content-type", "application/json")];
        session.try_ask("PUT", "/network", &header, body.to_string().as_bytes()).unwrap()
    };
    for (network, field) in [
        (json!({"allow": [{"domain": "example.org"}]}), "network"),
        (json!({"allow": [{"domain": "example.org"}, {"domain": "*"}]}), "network.allow[1].domain"),
        (json!("everything"), "network"),
    ] {
        let refused = put(json!({"network": network}));
        assert_eq!(problem(&refused), (422, "invalid-field".to_owned()));
        assert_eq!(refused.json()["field"], field);
        let refused = try_create(&service, &json!({"runtime": "bash", "network": network}));
        assert_eq!((refused.status, &refused.json()["field"]), (422, &json!(field)));
    }
    assert_eq!(put(json!({"network": null})).json(), told);
    let closed = create(&service, &json!({"runtime": "bash", "network": "none"}));
    assert_eq!(closed.ask("GET", "/network", b"").json()["network"], "none");
    closed.delete();
    session.delete();
    assert_eq!(problem(&session.ask("GET", "/network", b"")), (404, "unknown-session".to_owned()));
}

/// What a user of another client gets for these requests, each a method, a path and a body.
fn as_stranger(service: &Service, asked: &[(&str, String, &str)]) -> Vec<String> {
    let asks = "import socket, sys\n\
        for request in sys.argv[2:]:\n    \
            s = socket.socket(socket.AF_UNIX)\n    s.connect(sys.argv[1])\n    s.sendall(request.encode())\n    \
            print(b''.join(iter(lambda: s.recv(65536), b'')).decode(), end='\\x00')";
    let mut stranger = Command::new(PYTHON);
    stranger.args(["-I", "-c", asks]).arg(service.socket()).uid(STRANGER).current_dir("/");
    for (method, path, body) in asked {
        let length = body.len();
        stranger.arg(format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ));
    }
    let output = stranger.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let undated = |answer: &str| {
        answer.lines().filter(|line| !line.to_lowercase().starts_with("date:")).collect::<Vec<_>>().join("\n")
    };
    text.split_terminator('\0').map(undated).collect()
}

#[test]
fn sessions_of_others_are_answered_like_those_that_never_were() {
    if !getuid().is_root() {
        return skip("only root can become another user");
    }
    let service = Service::start();
    fs::set_permissions(service.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let session = create(&service, &json!({"runtimes": ["bash", "python@3.11"]}));
    session.put("file", b"x");
    let exec = session.start(json!({"shell": "sleep 1000"}));
    session.post("/snapshots", &json!({}));
    session.post("/contexts", &json!({"language": "python"}));
    let nobody = "46fa0330-3120-446d-a9a6-daeccd3e6f3f";
    let tails = [
        ("GET", String::new(), ""),
        ("PATCH", String::new(), "{}"),
        ("POST", "/stop".to_owned(), ""),
        ("POST", "/pause".to_owned(), ""),
        ("POST", "/resume".to_owned(), ""),
        ("POST", "/promote".to_owned(), "{}"),
        ("POST", "/demote".to_owned(), ""),
        ("POST", "/fork".to_owned(), "{}"),
        ("GET", "/network".to_owned(), ""),
        ("PUT", "/network".to_owned(), r#"{"network":"none"}"#),
        ("POST", "/execs".to_owned(), r#"{"shell":"true"}"#),
        ("GET", "/execs".to_owned(), ""),
        ("GET", format!("/execs/{exec}"), ""),
        ("DELETE", format!("/execs/{exec}"), ""),
        ("GET", format!("/execs/{exec}/output"), ""),
        ("POST", format!("/execs/{exec}/stdin"), "x"),
        ("POST", format!("/execs/{exec}/signal"), r#"{"signal":"SIGKILL"}"#),
        ("POST", format!("/execs/{exec}/resize"), r#"{"rows":1,"columns":1}"#),
        ("GET", "/fs/file?path=file".to_owned(), ""),
        ("PUT", "/fs/file?path=file".to_owned(), "y"),
        ("DELETE", "/fs/file?path=file".to_owned(), ""),
        ("GET", "/fs/stat?path=file".to_owned(), ""),
        ("GET", "/fs/list".to_owned(), ""),
        ("POST", "/fs/mkdir".to_owned(), r#"{"path":"d"}"#),
        ("GET", "/fs/archive".to_owned(), ""),
        ("POST", "/snapshots".to_owned(), "{}"),
        ("GET", "/snapshots".to_owned(), ""),
        ("DELETE", "/snapshots/1".to_owned(), ""),
        ("POST", "/snapshots/1/rollback".to_owned(), ""),
        ("GET", "/snapshots/1/export".to_owned(), ""),
        ("POST", "/contexts".to_owned(), r#"{"language":"python"}"#),
        ("GET", "/contexts".to_owned(), ""),
        ("POST", "/contexts/1/execute".to_owned(), r#"{"code":"1"}"#),
        ("POST", "/contexts/1/interrupt".to_owned(), ""),
        ("GET", "/ports/8000/".to_owned(), ""),
        ("DELETE", String::new(), ""),
    ];
    let of = |id: &str| -> Vec<(&str, String, &str)> {
        tails.iter().map(|(method, tail, body)| (*method, format!("/v1/sessions/{id}{tail}"), *body)).collect()
    };
    let (foreign, unknown) = (as_stranger(&service, &of(&session.id)), as_stranger(&service, &of(nobody)));
    assert_eq!(foreign.len(), tails.len());
    for ((foreign, unknown), (method, tail, _)) in foreign.iter().zip(&unknown).zip(&tails) {
        assert!(foreign.starts_with("HTTP/1.1 404 "), "{method} {tail}: {foreign}");
        assert_eq!(&foreign.replace(&session.id, nobody), unknown, "{method} {tail}");
        assert!(!foreign.contains(&session.id), "{method} {tail}: {foreign}");
    }
    let listed = as_stranger(&service, &[("GET", "/v1/sessions".to_owned(), "")]);
    assert!(listed[0].contains(r#""sessions":[]"#), "{listed:?}");
    // The control: all of it is there for its client, as it was.
    assert_eq!(session.get("file").unwrap(), b"x");
    assert_eq!(session.show(exec)["state"], "running");
    session.delete();
}

#[test]
fn who_waits_is_told_the_end() {
    let service = Service::start();
    let session = shell(&service);
    let exec = session.exec(&json!({
        "argv": ["bash", "-c", "cat; echo $X >&2; pwd; exit 3"], "stdin": "hi\n", "env": {"X": "y"}, "cwd": "."
    }));
    assert_eq!(
        (&exec["result"]["status"], &exec["result"]["exit_code"]),
        (&json!("nonzero_exit"), &json!(3)),
        "{exec}"
    );
    assert_eq!((printed(&exec, "stdout"), printed(&exec, "stderr")), (b"hi\n/workspace\n".to_vec(), b"y\n".to_vec()));
    assert_eq!(exec["stdout"], json!({"first": 0, "next": 14}));
    let nowhere = session.exec(&json!({"argv": ["no-such-program"]}));
    assert_eq!(nowhere["result"]["exit_code"], 127, "{nowhere}");
    for _ in 0..50 {
        // The end of what is short is told right behind its start.
        assert_eq!(session.exec(&json!({"argv": ["true"]}))["result"]["status"], "ok");
    }
    session.delete();
}

#[test]
fn a_stream_begins_with_the_start_and_ends_with_the_end() {
    let service = Service::start();
    let session = shell(&service);
    let mut events = session.stream(&json!({"shell": "echo one; read x; echo $x >&2", "keep_stdin": true}));
    let started = events.next().unwrap();
    assert_eq!(started["event"], "started");
    let exec = started["exec"]["id"].as_u64().unwrap();
    let mut told = Told::default();
    told.note(events.next().unwrap());
    assert_eq!(told.stream("stdout"), b"one\n");
    assert_eq!(session.stdin(exec, b"two\n", false), 204);
    while let Some(event) = events.next() {
        told.note(event);
    }
    assert_eq!(told.stream("stderr"), b"two\n");
    assert_eq!((&told.last["event"], &told.last["result"]["exit_code"]), (&json!("finished"), &json!(0)));
    assert_eq!(session.stdin(exec, b"more", false), 409);
    session.delete();
}

#[test]
fn followers_come_and_go_without_losing_or_doubling_a_byte() {
    let service = Service::start();
    let session = shell(&service);
    let exec = session.start(json!({
        "shell": "while read n; do for i in $(seq $n); do echo line $i of $n; echo error $i >&2; done; done",
        "keep_stdin": true,
    }));
    let whole = std::thread::spawn({
        let session = session.clone();
        move || session.follow(&format!("/execs/{exec}/output?follow=true")).gather()
    });
    let mut told = Told::default();
    let mut rounds = 0;
    while rounds < 20 {
        rounds += 1;
        assert_eq!(session.stdin(exec, format!("{}\n", rounds * 7).as_bytes(), false), 204);
        let (stdout, stderr) = (told.next("stdout"), told.next("stderr"));
        let mut events = session.follow(&format!("/execs/{exec}/output?stdout={stdout}&stderr={stderr}&follow=true"));
        // It leaves somewhere in the middle, and what it has not read it gets next time.
        for _ in 0..=rounds % 3 {
            // The last line of this round may be told already, and nothing more comes then.
            if told.stream("stdout").ends_with(format!("line {0} of {0}\n", rounds * 7).as_bytes()) {
                break;
            }
            told.note(events.next().unwrap());
        }
    }
    assert_eq!(session.stdin(exec, b"", true), 204);
    let (stdout, stderr) = (told.next("stdout"), told.next("stderr"));
    let mut events = session.follow(&format!("/execs/{exec}/output?stdout={stdout}&stderr={stderr}&follow=true"));
    while let Some(event) = events.next() {
        told.note(event);
    }
    assert_eq!(told.last["event"], "finished");
    let lines = |name: &str| -> Vec<u8> {
        let all = (1..=20).flat_map(|round| (1..=round * 7).map(move |line| (line, round * 7)));
        all.map(
            |(line, of)| if name == "stdout" { format!("line {line} of {of}\n") } else { format!("error {line}\n") },
        )
        .collect::<String>()
        .into_bytes()
    };
    let whole = whole.join().unwrap();
    for name in ["stdout", "stderr"] {
        assert!(told.stream(name) == lines(name), "{name} of who came and went");
        assert!(whole.stream(name) == lines(name), "{name} of who stayed");
    }
    session.delete();
}

#[test]
fn programs_at_one_time_share_files_and_may_signal_each_other() {
    let service = Service::start();
    let session = shell(&service);
    let first = session.start(json!({"shell": "echo $$ > pid; echo here > file; exec sleep 1000"}));
    wait_for("the file", || session.get("file").is_some_and(|bytes| bytes == b"here\n"));
    let second = session.start(json!({"shell": "cat file; kill -0 $(cat pid) && echo alive; sleep 1000"}));
    session.wait_for_output(second, "here\nalive\n");
    assert_eq!(session.seen().unwrap()["execs_running"], 2);
    session.run("kill -TERM $(cat pid)");
    assert_eq!(session.finished(first)["result"]["signal"], "SIGTERM");
    assert_eq!(session.show(second)["state"], "running");
    session.delete();
}

#[test]
fn standard_input_stays_open_as_long_as_it_is_wanted() {
    let service = Service::start();
    let session = shell(&service);
    let closed = session.exec(&json!({"shell": "cat; echo over"}));
    assert_eq!(printed(&closed, "stdout"), b"over\n");
    let exec = session.start(json!({"shell": "cat", "stdin": "first ", "keep_stdin": true}));
    session.wait_for_output(exec, "first ");
    assert_eq!(session.stdin(exec, b"second ", false), 204);
    session.wait_for_output(exec, "first second ");
    let large = vec![b'x'; 1 << 20];
    assert_eq!(session.stdin(exec, &large, true), 204);
    let told = session.follow(&format!("/execs/{exec}/output?follow=true")).gather();
    assert_eq!(told.last["result"]["status"], "ok", "{:?}", told.last);
    assert_eq!(told.next("stdout"), 13 + (1 << 20));
    session.delete();
}

#[test]
fn a_signal_goes_to_the_whole_group_of_a_program_and_to_no_other() {
    let service = Service::start();
    let session = shell(&service);
    let other = session.start(json!({"shell": "trap 'echo hit' INT; echo set; while :; do sleep 0.05; done"}));
    session.wait_for_output(other, "set");
    // In the background of a shell that is not interactive its child would not hear of it.
    let script = "trap : INT; bash -c 'trap \"echo child\" INT; echo ready; while :; do sleep 0.05; done'; exit";
    let exec = session.start(json!({"argv": ["bash", "-c", script]}));
    session.wait_for_output(exec, "ready");
    assert_eq!(session.signal(exec, "SIGINT"), 204);
    session.wait_for_output(exec, "child");
    assert_eq!(session.signal(exec, "9"), 204);
    assert_eq!(session.finished(exec)["result"]["signal"], "SIGKILL");
    assert_eq!(session.signal(exec, "KILL"), 409);
    assert_eq!(
        problem(&session.try_post(&format!("/execs/{other}/signal"), &json!({"signal": "SIGNO"})).unwrap()).0,
        422
    );
    let told = session.follow(&format!("/execs/{other}/output")).gather();
    assert_eq!(told.stream("stdout"), b"set\n");
    // The control.
    assert_eq!(session.signal(other, "int"), 204);
    session.wait_for_output(other, "hit");
    session.delete();
}

/// Runs a payload in a session where another program goes on; it must end like this, and nothing else.
fn ends_alone(session: &Value, payload: &str, args: &[&str], limits: Value, wanted: &str) {
    let service = Service::start();
    let session = create(&service, session);
    session.put(payload, file(&format!("payloads/{payload}")).as_bytes());
    let other = session.start(json!({"shell": "echo begun; while read x; do echo $x; done", "keep_stdin": true}));
    session.wait_for_output(other, "begun");
    let mut argv = match payload.rsplit_once('.').unwrap().1 {
        "py" => vec![PYTHON, payload],
        "sh" => vec!["bash", payload],
        other => panic!("no way to run {other}"),
    };
    argv.extend(args);
    let exec = session.exec(&json!({"argv": argv, "limits": limits}));
    assert_eq!(exec["result"]["status"], wanted, "{exec}");
    assert_eq!(session.stdin(other, b"still here\n", true), 204);
    let finished = session.finished(other);
    assert_eq!(finished["result"]["status"], "ok", "{finished}");
    assert_eq!(printed(&finished, "stdout"), b"begun\nstill here\n");
    assert_eq!(session.run("echo usable"), "usable\n");
    session.delete();
}

fn of_python() -> Value {
    json!({"runtime": "python@3.11"})
}

fn limited(limits: Value) -> Value {
    json!({"runtime": "python@3.11", "limits": limits})
}

#[test]
fn the_clock_ends_its_own_program() {
    Outside::new().start("sleeper.py", &[], None).wait_for_line("before");
    ends_alone(&of_python(), "sleeper.py", &[], json!({"wall_time_ms": 500}), "wall_time_exceeded");
}

#[test]
fn the_processor_ends_its_own_program() {
    Outside::new().stdout("busy.py", &["1", "0.4"]);
    ends_alone(&of_python(), "busy.py", &["3", "0"], json!({"cpu_time_ms": 300}), "cpu_time_exceeded");
}

#[test]
fn memory_ends_its_own_program() {
    Outside::new().start("memory.py", &["heap", "160"], None).wait_for_line("has it");
    let session = limited(json!({"memory_bytes": 64 << 20}));
    ends_alone(&session, "memory.py", &["heap", "160"], json!({"wall_time_ms": 8000}), "memory_exceeded");
}

#[test]
fn output_ends_its_own_program() {
    assert_eq!(Outside::new().run("printer.py", &["1", "200000"]).stdout.len(), 200_000);
    ends_alone(&of_python(), "printer.py", &["1", "200000"], json!({"output_bytes": 100_000}), "output_exceeded");
}

#[test]
fn processes_end_their_own_program() {
    assert_eq!(Outside::new().stdout("many.py", &["forks", "40"]), "40\n");
    let session = limited(json!({"processes": 32}));
    ends_alone(&session, "many.py", &["forks", "40"], json!({}), "processes_exceeded");
}

#[test]
fn a_fork_bomb_ends_alone() {
    let mut control = Outside::new().start("fork_bomb.sh", &[], Some(100));
    control.read_error_bytes(2 * 60);
    drop(control);
    let session = limited(json!({"processes": 32}));
    // Bash waits a second where it can't fork, then two: a sampler has to see it when it tries.
    ends_alone(&session, "fork_bomb.sh", &[], json!({"wall_time_ms": 4000}), "processes_exceeded");
}

#[test]
fn a_large_file_ends_its_own_program() {
    Outside::new().stdout("disk.py", &["file", "200000", "."]);
    let limits = json!({"file_size_bytes": 100_000});
    ends_alone(&of_python(), "disk.py", &["file", "200000", "."], limits, "file_size_exceeded");
}

#[test]
fn a_refused_call_is_told_of_its_own_program() {
    assert_eq!(Outside::new().stdout("refused.py", &[]), "before\nreached\n");
    let service = Service::start();
    let session = python(&service);
    let source = "import socket, sys\ntry:\n    socket.socket(socket.AF_PACKET, socket.SOCK_RAW)\nexcept OSError:\n    sys.exit(3)";
    let exec = session.exec(&json!({"argv": [PYTHON, "-c", source]}));
    assert_eq!(exec["result"]["status"], "syscall_denied", "{exec}");
    assert_eq!(exec["result"]["denied"][0]["syscall"], "socket", "{exec}");
    let good = session.exec(&json!({"argv": [PYTHON, "-c", "import socket; socket.socket()"]}));
    assert_eq!((&good["result"]["status"], &good["result"]["denied"]), (&json!("ok"), &json!([])), "{good}");
    session.delete();
}

#[test]
fn a_full_disk_ends_its_own_program() {
    Outside::new().stdout("disk.py", &["bytes", "20000000", "."]);
    let session = limited(json!({"disk_bytes": 8 << 20}));
    ends_alone(&session, "disk.py", &["bytes", "20000000", "/workspace"], json!({}), "disk_exceeded");
}

#[test]
fn what_runs_in_the_background_outlives_its_program_and_not_its_session() {
    let service = Service::start();
    let session = shell(&service);
    let pid = session.run("setsid sleep 1000 >/dev/null 2>&1 </dev/null & echo $!");
    assert_eq!(session.run(&format!("kill -0 {} && echo lives", pid.trim())), "lives\n");
    session.delete();
    service.assert_no_sandbox();
}

#[test]
fn hanging_up_ends_who_is_waited_for_and_nobody_else() {
    let service = Service::start();
    let session = shell(&service);
    let other = session.start(json!({"shell": "sleep 1000"}));
    for accept in ["application/json", "application/x-ndjson"] {
        let body = json!({"shell": "sleep 1000"}).to_string();
        let waiting = session.send("POST", "/execs", accept, &body);
        wait_for("the program", || session.execs().len() == 2);
        drop(waiting);
        wait_for("it to be ended and forgotten", || session.execs().len() == 1);
    }
    // Who only looks ends nothing.
    let mut follower = session.follow(&format!("/execs/{other}/output?follow=true"));
    drop(session.send("GET", &format!("/execs/{other}/output?follow=true"), "application/x-ndjson", ""));
    assert_eq!(session.signal(other, "TERM"), 204);
    assert_eq!(follower.next().unwrap()["result"]["signal"], "SIGTERM");
    session.delete();
}

#[test]
fn a_signal_that_comes_before_a_program_has_begun_is_not_lost() {
    let service = Service::start();
    for _ in 0..20 {
        // One program after another: none of them but the first was made ahead.
        let session = shell(&service);
        let execs = [(); 4].map(|()| {
            let exec = session.start(json!({"shell": "exec sleep 1000"}));
            assert_eq!(session.signal(exec, "TERM"), 204);
            exec
        });
        for exec in execs {
            assert_eq!(session.finished(exec)["result"]["signal"], "SIGTERM");
        }
        session.delete();
    }
}

#[test]
fn a_client_that_never_reads_keeps_nobody_waiting_and_gets_a_gap() {
    let service = Service::start_with(json!({"sessions": {"log_bytes": 65_536}}));
    let session = shell(&service);
    let limits = json!({"output_bytes": 100_000_000});
    let body = json!({"shell": "head -c 30000000 /dev/zero | tr '\\0' x; echo end", "limits": limits}).to_string();
    let unread = session.send("POST", "/execs", "application/x-ndjson", &body);
    wait_for("the program", || session.execs().len() == 1);
    let exec = session.execs()[0]["id"].as_u64().unwrap();
    let finished = session.finished(exec);
    assert_eq!((&finished["result"]["status"], &finished["stdout"]["next"]), (&json!("ok"), &json!(30_000_004)));
    let told = Events::read(unread).gather();
    assert!(told.gaps > 0, "the client got all of it");
    assert_eq!(told.next("stdout"), 30_000_004);
    assert!(told.stream("stdout").ends_with(b"xend\n"));
    assert_eq!(told.last["event"], "finished");
    session.delete();
}

#[test]
fn an_end_is_told_when_it_has_come_and_not_when_the_streams_have_ended() {
    let service = Service::start();
    let session = shell(&service);
    let line = "echo x; exec >&- 2>&-; read x; exit 7";
    let exec = session.start(json!({"shell": line, "keep_stdin": true}));
    let mut events = session.follow(&format!("/execs/{exec}/output?follow=true"));
    assert_eq!(events.next().unwrap()["event"], "output");
    // What is told without waiting ends with no end of the program.
    assert_eq!(session.follow(&format!("/execs/{exec}/output")).gather().last["event"], "end");
    assert_eq!(session.show(exec)["result"], Value::Null);
    assert_eq!(session.stdin(exec, b"go\n", false), 204);
    let finished = events.next().unwrap();
    assert_eq!((&finished["event"], &finished["result"]["exit_code"]), (&json!("finished"), &json!(7)));
    assert!(events.next().is_none());
    // A stream that others keep open is no reason to wait for them.
    let exec = session.exec(&json!({"shell": "sleep 1000 & echo done"}));
    assert_eq!(printed(&exec, "stdout"), b"done\n");
    session.delete();
}

#[test]
fn bytes_that_are_kept_no_more_are_told_as_a_gap() {
    let service = Service::start_with(json!({"sessions": {"log_bytes": 8192}}));
    let session = python(&service);
    session.put("printer.py", file("payloads/printer.py").as_bytes());
    let exec = session.start(json!({"argv": [PYTHON, "printer.py", "1", "100000"]}));
    session.finished(exec);
    let all = Outside::new().run("printer.py", &["1", "100000"]).stdout;
    let told = session.follow(&format!("/execs/{exec}/output?stdout=0&stderr=0")).gather();
    let first = usize::try_from(told.gaps).unwrap();
    assert_eq!(first, 100_000 - 8192);
    assert!(told.stream("stdout") == all[first..], "the bytes behind the gap differ");
    assert_eq!(session.show(exec)["stdout"], json!({"first": first, "next": 100_000}));
    let kept = session.follow(&format!("/execs/{exec}/output")).gather();
    assert_eq!((kept.gaps, kept.stream("stdout").len()), (0, 8192));
    session.delete();
}

/// Process 1 of the only sandbox.
fn init(service: &Service) -> i32 {
    let is_init = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    children(service.launcher_pid()).into_iter().find(is_init).expect("a sandbox lives")
}

#[test]
fn a_session_whose_init_is_killed_loses_its_programs_and_keeps_its_files() {
    let service = Service::start();
    let (session, other) = (shell(&service), shell(&service));
    session.put("file", b"kept");
    let mut events = session.stream(&json!({"shell": "echo begun; sleep 1000"}));
    assert_eq!(events.next().unwrap()["event"], "started");
    assert_eq!(events.next().unwrap()["data"], "begun\n");
    let of_shell = |line: &str| {
        service
            .sandbox_processes()
            .into_iter()
            .any(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|text| text.contains(line)))
    };
    assert!(of_shell("sleep"));
    other.delete();
    kill(Pid::from_raw(init(&service)), Signal::SIGKILL).unwrap();
    let told = events.gather();
    assert_eq!((&told.last["event"], &told.last["result"]["status"]), (&json!("finished"), &json!("cancelled")));
    assert!(told.last["result"]["reason"].as_str().unwrap().contains("lost"), "{:?}", told.last);
    assert_eq!(session.get("file").unwrap(), b"kept");
    assert_eq!(session.run("cat file"), "kept");
    assert_eq!(session.status(), "active");
    session.delete();
}
