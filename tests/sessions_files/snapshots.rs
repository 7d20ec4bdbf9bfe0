//! Snapshots, and what is made of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Session, assert_problem, post, request, text};
use crate::common::{Service, wait_for};

/// Appends numbered lines to several files, as fast as it can, and tells how far it is.
const WRITER: &str = "import os, itertools\n\
    files = [os.open(f'log{n}', os.O_WRONLY | os.O_CREAT | os.O_APPEND) for n in range(3)]\n\
    print('writing', flush=True)\n\
    for number in itertools.count():\n\
    \x20   for file in files:\n\
    \x20       os.write(file, b'line %08d\\n' % number)\n";

/// How many lines of the writer a file has; each must be whole and in its place.
#[track_caller]
fn lines_in(content: &[u8]) -> usize {
    assert_eq!(content.len() % 14, 0, "the last line is cut: {:?}", content.get(content.len() - content.len() % 14..));
    for (number, line) in content.chunks(14).enumerate() {
        assert_eq!(line, format!("line {number:08}\n").as_bytes(), "line {number}");
    }
    content.len() / 14
}

#[test]
fn snapshots_are_made_listed_rolled_back_to_and_removed() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("f", "one");
    session.shell("mkdir -p d/empty; ln -s f l; echo x > d/x; chmod 600 d/x");
    let first = session.post("/snapshots", &json!({"label": "the first"}));
    assert_eq!(first.status, 201, "{}", text(&first));
    let first = first.json();
    assert_eq!((&first["id"], &first["label"]), (&json!(1), &json!("the first")), "{first}");
    assert!(first["bytes"].as_u64().unwrap() > 0 && first["files"].as_u64().unwrap() >= 5, "{first}");
    session.put("f", "two");
    session.shell("rm -r d l; mkdir l; echo new > l/new");
    let second = session.snapshot();
    let listed = session.done("GET", "/snapshots", &Value::Null);
    let ids: Vec<u64> = listed["snapshots"].as_array().unwrap().iter().map(|one| one["id"].as_u64().unwrap()).collect();
    assert_eq!(ids, [1, second]);
    session.done("POST", "/snapshots/1/rollback", &Value::Null);
    assert_eq!(session.names(""), ["d", "d/empty", "d/x", "f", "l"]);
    assert_eq!(session.content("f"), b"one");
    assert_eq!(session.shell("readlink l; stat -c %a d/x"), "f\n600\n");
    session.done("POST", &format!("/snapshots/{second}/rollback"), &Value::Null);
    assert_eq!(session.names(""), ["f", "l", "l/new"]);
    assert_eq!(session.content("f"), b"two");
    session.done("DELETE", "/snapshots/1", &Value::Null);
    for (method, rest) in [
        ("POST", "/snapshots/1/rollback"),
        ("DELETE", "/snapshots/1"),
        ("GET", "/snapshots/1/export"),
        ("POST", "/snapshots/99/rollback"),
        ("DELETE", "/snapshots/x"),
        ("DELETE", "/snapshots/0"),
    ] {
        assert_problem(&session.call(method, rest, b""), 404, "unknown-snapshot");
    }
    assert_problem(&session.post("/fork", &json!({"snapshot": 1})), 404, "unknown-snapshot");
    assert_eq!(session.content("f"), b"two");
}

#[test]
fn a_snapshot_of_a_writing_program_holds_whole_lines_and_the_program_goes_on() {
    let service = Service::start();
    let session = Session::new(&service);
    let writer = session.start(&json!({"argv": ["python3.11", "-I", "-c", WRITER]}));
    session.wait_printed(writer, "writing");
    let mut counts = Vec::new();
    for _ in 0..3 {
        let size = |session: &Session<'_>| {
            session.done("GET", "/fs/stat?path=log2", &Value::Null)["size"].as_u64().unwrap_or_default()
        };
        let before = size(&session);
        wait_for("the writer to write", || size(&session) > before);
        let snapshot = session.snapshot();
        let fork = session.fork(&json!({"snapshot": snapshot}));
        let found: Vec<usize> = (0..3).map(|n| lines_in(&fork.content(&format!("log{n}")))).collect();
        // One write happens after another: so do the files of the moment.
        assert!(found[0] >= found[1] && found[1] >= found[2] && found[0] - found[2] <= 1, "{found:?}");
        assert!(found[2] as u64 >= before / 14, "the snapshot is older than what was there before: {found:?}");
        counts.push(found[0]);
        assert_eq!(session.exec_view(writer)["state"], "running");
    }
    assert!(counts.windows(2).all(|pair| pair[0] < pair[1]), "{counts:?}");
    // Rolling back ends it, and tells so.
    session.done("POST", "/snapshots/1/rollback", &Value::Null);
    let ended = session.exec_view(writer);
    wait_for("the end of the program to be told", || session.exec_view(writer)["state"] == "finished");
    let ended = if ended["state"] == "finished" { ended } else { session.exec_view(writer) };
    assert_ne!(ended["result"]["status"], "ok", "{ended}");
    assert_eq!(lines_in(&session.content("log0")), counts[0]);
    assert_eq!(session.shell("ls | wc -l"), "3\n");
}

#[test]
fn a_rollback_ends_every_program_with_a_told_result() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("f", "one");
    let snapshot = session.snapshot();
    let sleeping = session.start(&json!({"shell": "echo began; exec sleep 1000"}));
    let typing = session.start(&json!({"argv": ["cat"], "terminal": {"rows": 24, "columns": 80}}));
    let stubborn = session.start(&json!({"argv": ["python3.11", "-c",
        "import os, signal\nfor n in range(1, 32):\n    n in (9, 19) or signal.signal(n, signal.SIG_IGN)\n\
         os.fork(); os.setsid() if os.getpid() != os.getsid(0) else None\nprint('began', flush=True)\nwhile True: signal.pause()"]}));
    session.wait_printed(sleeping, "began");
    session.wait_printed(stubborn, "began");
    session.put("f", "two");
    session.done("POST", &format!("/snapshots/{snapshot}/rollback"), &Value::Null);
    for exec in [sleeping, typing, stubborn] {
        wait_for("the end to be told", || session.exec_view(exec)["state"] == "finished");
        let view = session.exec_view(exec);
        assert_eq!(view["result"]["status"], "cancelled", "{view}");
        assert!(view["result"]["reason"].is_string(), "{view}");
    }
    assert_eq!(session.exec_view(sleeping)["result"]["stdout"], "began\n");
    assert_eq!(session.content("f"), b"one");
    // None of them is left, and the session goes on.
    let left: Vec<String> = service
        .sandbox_processes()
        .iter()
        .filter_map(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).ok())
        .filter(|name| ["sleep", "cat", "python3.11"].contains(&name.trim()))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    assert_eq!(session.shell("echo goes on"), "goes on\n");
}

/// A file system of a model: content by path, `None` for a directory.
type Model = BTreeMap<String, Option<Vec<u8>>>;

fn view(session: &Session<'_>) -> Model {
    let listed = session.done("GET", "/fs/list?depth=32", &Value::Null);
    let mut model = Model::new();
    for entry in listed["entries"].as_array().unwrap() {
        let path = entry["path"].as_str().unwrap().to_owned();
        let content = (entry["kind"] == "file").then(|| session.content(&path));
        model.insert(path, content);
    }
    model
}

#[test]
fn files_equal_a_model_after_any_sequence_of_changes_snapshots_and_rollbacks() {
    let service = Service::start();
    for seed in 1..=3_u64 {
        let session = Session::new(&service);
        let mut random = seed;
        let mut next = |below: u64| {
            // SplitMix64: a sequence that anybody can repeat.
            random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut mixed = random;
            mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (mixed ^ (mixed >> 31)) % below
        };
        let mut model = Model::new();
        let mut kept: BTreeMap<u64, Model> = BTreeMap::new();
        let mut sleeper = None;
        for step in 0..40 {
            let directory = format!("d{}", next(3));
            let path = format!("{directory}/f{}", next(3));
            match next(10) {
                0..=2 => {
                    let content = format!("{seed} {step}").into_bytes();
                    session.put(&path, &content);
                    model.insert(directory, None);
                    model.insert(path, Some(content));
                }
                3 => {
                    let answer = session.call("DELETE", &format!("/fs/file?path={path}"), b"");
                    assert_eq!(answer.status == 204, model.remove(&path).is_some(), "{}", text(&answer));
                }
                4 => {
                    let answer = session.call("DELETE", &format!("/fs/file?path={directory}&recursive=true"), b"");
                    assert_eq!(answer.status == 204, model.remove(&directory).is_some(), "{}", text(&answer));
                    model.retain(|name, _| !name.starts_with(&format!("{directory}/")));
                }
                5 => {
                    let other = format!("d{}", next(3));
                    let answer = session.post("/fs/move", &json!({"from": directory, "to": other, "replace": true}));
                    let moves = model.contains_key(&directory) && directory != other;
                    if moves {
                        assert_eq!(answer.status, 204, "{directory} {other} {}", text(&answer));
                        model.retain(|name, _| *name != other && !name.starts_with(&format!("{other}/")));
                        model = std::mem::take(&mut model)
                            .into_iter()
                            .map(|(name, content)| match name.strip_prefix(&directory) {
                                Some(rest) => (format!("{other}{rest}"), content),
                                None => (name, content),
                            })
                            .collect();
                    }
                }
                6 | 7 => drop(kept.insert(session.snapshot(), model.clone())),
                8 => {
                    if let Some(id) = kept.keys().nth(usize::try_from(next(8)).unwrap()).copied() {
                        if next(2) == 0 {
                            session.done("POST", &format!("/snapshots/{id}/rollback"), &Value::Null);
                            (model, sleeper) = (kept[&id].clone(), None);
                        } else {
                            session.done("DELETE", &format!("/snapshots/{id}"), &Value::Null);
                            kept.remove(&id);
                        }
                    }
                }
                // Whether a program lives decides how snapshots are made.
                _ => match sleeper.take() {
                    None => sleeper = Some(session.start(&json!({"argv": ["sleep", "1000"]}))),
                    Some(exec) => drop(session.done("DELETE", &format!("/execs/{exec}"), &Value::Null)),
                },
            }
            if step % 5 == 0 {
                assert_eq!(view(&session), model, "seed {seed}, step {step}");
            }
        }
        assert_eq!(view(&session), model, "seed {seed}");
        for (id, was) in kept {
            let fork = session.fork(&json!({"snapshot": id}));
            assert_eq!(view(&fork), was, "seed {seed}, snapshot {id}");
        }
        let fork = session.fork(&json!({}));
        assert_eq!(view(&fork), model, "seed {seed}, a fork of now");
    }
}

#[test]
fn fifty_snapshots_in_a_chain_stay_fast() {
    let service = Service::start();
    let session = Session::new(&service);
    let mut times = Vec::new();
    for number in 0..50 {
        session.put(&format!("f{number}"), format!("{number}"));
        session.put("same", format!("{number}"));
        let began = Instant::now();
        session.snapshot();
        times.push(began.elapsed());
    }
    let began = Instant::now();
    assert_eq!(session.names("").len(), 51);
    assert_eq!(session.shell("cat same f0 f49"), "49049");
    let reading = began.elapsed();
    eprintln!("snapshots {times:?}; listing and a program: {reading:?}");
    let total = |times: &[Duration]| times.iter().sum::<Duration>();
    assert!(total(&times[40..]) < total(&times[..10]) * 5 + Duration::from_secs(1), "{times:?}");
    assert!(reading < Duration::from_secs(5), "{reading:?}");
    for id in [1, 25, 50] {
        session.done("POST", &format!("/snapshots/{id}/rollback"), &Value::Null);
        assert_eq!(session.names("").len(), id + 1);
        assert_eq!(session.content("same"), format!("{}", id - 1).as_bytes());
    }
    let listed = session.done("GET", "/snapshots", &Value::Null);
    assert_eq!(listed["snapshots"].as_array().unwrap().len(), 50);
}

/// Makes files of every kind, and of modes that programs like.
const FURNISH: &str = "mkdir -p d/empty d/shut; echo run > d/run; chmod 755 d/run; echo key > d/key; chmod 600 d/key; \
    echo ro > d/ro; chmod 444 d/ro; ln -s run d/link; ln -s /nowhere/x d/dangling; chmod 700 d/empty; \
    echo in > d/shut/in; chmod 500 d/shut; touch 'd/with space' d/é; echo long > d/$(printf %0200d 7); \
    echo secret > d/closed; chmod 0 d/closed; mkdir d/locked; echo inside > d/locked/inside; chmod 0 d/locked";

/// What is there: kind, mode, name, target, and what can be read.
fn picture(session: &Session<'_>) -> String {
    session.shell(
        "find . -mindepth 1 -printf '%y %m %P %l\\n' 2>/dev/null | sort; \
         find . -type f -readable 2>/dev/null | sort | while read -r f; do cat \"$f\"; done",
    )
}

#[test]
fn exports_and_imports_keep_modes_links_and_empty_directories() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell(FURNISH);
    let before = picture(&session);
    let snapshot = session.snapshot();
    let export = session.get(&format!("/snapshots/{snapshot}/export"));
    assert_eq!(
        (export.status, &export.headers["content-type"]),
        (200, &"application/x-tar".parse().unwrap()),
        "{}",
        text(&export)
    );
    let path = "/v1/sessions/import?runtime=python%403.11&label=a%3Db";
    let answer = request(&service.socket(), "POST", path, &[], &export.body).unwrap();
    let imported = Session::made(&service, &answer);
    assert_eq!(answer.json()["labels"], json!({"a": "b"}));
    assert_eq!(picture(&imported), before);
    imported.shell("chmod 700 d/locked d/closed");
    assert_eq!(imported.shell("cat d/locked/inside d/closed"), "inside\nsecret\n");
    // The export changed nothing of the session.
    assert_eq!(picture(&session), before);
}

#[test]
fn an_import_that_fails_leaves_no_session() {
    let service = Service::start();
    let evil = super::tar_of(&[("fine", tar::EntryType::Regular, "1"), ("../evil", tar::EntryType::Regular, "1")]);
    let path = "/v1/sessions/import?runtime=python%403.11";
    let answer = request(&service.socket(), "POST", path, &[], &evil).unwrap();
    assert_problem(&answer, 422, "invalid-field");
    assert!(text(&answer).contains("../evil"), "{}", text(&answer));
    wait_for("the session to be gone", || {
        service.request("GET", "/v1/sessions", &[], "").json()["sessions"].as_array().unwrap().is_empty()
    });
}

#[test]
fn snapshots_of_a_persistent_session_survive_a_stop_and_a_start() {
    let service = Service::start();
    let session = Session::with(&service, json!({"persistent": true}));
    session.shell(FURNISH);
    session.put("version", "one");
    let first = session.snapshot();
    let was = picture(&session);
    session.shell("rm d/run; chmod 700 d/locked; echo more > d/locked/more");
    session.put("version", "two");
    let second = session.snapshot();
    session.put("version", "three");
    let now = picture(&session);
    for _ in 0..2 {
        let stopped = session.done("POST", "/stop", &Value::Null);
        assert_eq!((&stopped["status"], &stopped["disk"]), (&json!("stopped"), &Value::Null), "{stopped}");
        wait_for("its processes to be gone", || service.sandbox_processes().is_empty());
        assert_eq!(session.content("version"), b"three");
        assert_eq!(picture(&session), now);
    }
    for (snapshot, version) in [(first, "one"), (second, "two")] {
        session.done("POST", &format!("/snapshots/{snapshot}/rollback"), &Value::Null);
        assert_eq!(session.content("version"), version.as_bytes());
        if snapshot == first {
            assert_eq!(picture(&session), was);
        }
    }
    // One that is removed while the session is stopped does not come back.
    session.done("POST", "/stop", &Value::Null);
    session.done("DELETE", &format!("/snapshots/{first}"), &Value::Null);
    assert_eq!(session.content("version"), b"two");
    assert_problem(&session.call("POST", &format!("/snapshots/{first}/rollback"), b""), 404, "unknown-snapshot");
    let third = session.snapshot();
    assert!(third > second, "a number is not used twice");
}

#[test]
fn a_fork_goes_its_own_way() {
    let service = Service::start();
    let session = Session::with(&service, json!({"labels": {"task": "1"}}));
    session.put("f", "one");
    let running = session.start(&json!({"argv": ["sleep", "1000"]}));
    let fork = session.fork(&json!({"labels": {"task": "2"}}));
    assert_eq!(fork.done("GET", "", &Value::Null)["labels"], json!({"task": "2"}));
    assert!(fork.done("GET", "/execs", &Value::Null)["execs"].as_array().unwrap().is_empty());
    fork.put("f", "of the fork");
    fork.put("g", "new");
    assert_eq!(session.content("f"), b"one");
    assert_problem(&session.read("g"), 404, "no-such-file");
    session.put("f", "of the origin");
    assert_eq!(fork.content("f"), b"of the fork");
    assert_eq!(session.exec_view(running)["state"], "running");
    // A fork of a fork, and each of them outlives those before it.
    let grandchild = fork.fork(&json!({}));
    assert_eq!(session.call("DELETE", "", b"").status, 204);
    assert_eq!(fork.call("DELETE", "", b"").status, 204);
    assert_eq!(grandchild.content("f"), b"of the fork");
    assert_eq!(grandchild.shell("cat g"), "new");
    assert!(grandchild.done("GET", "/snapshots", &Value::Null)["snapshots"].as_array().unwrap().is_empty());
}

#[test]
fn forks_draw_numbers_of_their_own() {
    let service = Service::start();
    let draw = "import os, random, uuid, secrets\n\
        print(os.getrandom(16).hex(), open('/dev/urandom', 'rb').read(16).hex(), random.random(), uuid.uuid4(), secrets.token_hex(8))";
    let node = "console.log(Math.random(), require('crypto').randomBytes(16).toString('hex'), crypto.randomUUID())";
    let session = Session::with(&service, json!({"runtime": null, "runtimes": ["python@3.11", "node"]}));
    session.put("draw.py", draw);
    session.put("draw.cjs", node);
    let snapshot = session.snapshot();
    let forks: Vec<_> = (0..3).map(|_| session.fork(&json!({"snapshot": snapshot}))).collect();
    for program in [["python3.11", "draw.py"], ["node", "draw.cjs"]] {
        let mut words = Vec::new();
        for fork in &forks {
            words.extend(
                fork.printed(&json!({"argv": program})).split_whitespace().map(str::to_owned).collect::<Vec<_>>(),
            );
        }
        let count = words.len();
        assert!(count >= 9, "{words:?}");
        words.sort();
        words.dedup();
        assert_eq!(words.len(), count, "something was drawn twice: {words:?}");
    }
}

#[test]
fn there_are_no_more_snapshots_than_may_be() {
    let service = Service::start_with(json!({"sessions": {"snapshots_per_session": 2}}));
    let session = Session::new(&service);
    session.snapshot();
    session.snapshot();
    let refused = session.post("/snapshots", &json!({}));
    assert_problem(&refused, 429, "too-many");
    assert_eq!(refused.json()["allowed"]["maximum"], 2);
    session.done("DELETE", "/snapshots/1", &Value::Null);
    assert_eq!(session.snapshot(), 3);
    let unknown = post(&service, "/v1/sessions/00000000-0000-4000-8000-000000000000/snapshots", &json!({}));
    assert_problem(&unknown, 404, "unknown-session");
}
