//! Programs of a session live behind the walls that those of a run live behind, and sessions know nothing of
//! one another.

use std::collections::BTreeSet;
use std::fs;

use serde_json::{Value, json};

use super::Session;
use crate::common::{Service, file, skip};
use crate::payloads::{Outside, is_root};

fn field(pid: i32, name: &str) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    line.unwrap_or_default().to_owned()
}

fn facts(session: &Session<'_>) -> Value {
    session.put("facts.py", file("payloads/session_facts.py"));
    let printed = session.printed(&json!({"argv": ["python3.11", "-I", "facts.py"]}));
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{error}: {printed}"))
}

#[test]
fn a_program_of_a_session_holds_nothing_and_reaches_nothing() {
    let control: Value = serde_json::from_str(&Outside::new().stdout("session_facts.py", &[])).unwrap();
    if is_root() {
        assert_eq!(control["ids"], json!([0, 0, 0, 0, 0, 0]));
        assert_ne!(control["capabilities"][2], "0000000000000000");
        for name in ["mount", "unshare", "chroot", "etc", "sysctl"] {
            assert_eq!(control[name], Value::Null, "the control fails: {name} {control}");
        }
    }
    assert_eq!(control["netlink"], Value::Null, "{control}");
    let service = Service::start();
    let session = Session::new(&service);
    let found = facts(&session);
    assert_eq!(found["descriptors"], json!([0, 1, 2]));
    assert_eq!(found["ids"], json!([1000, 1000, 1000, 1000, 1000, 1000]));
    assert_eq!(found["groups"], json!([]));
    for set in found["capabilities"].as_array().unwrap() {
        assert_eq!(set, "0000000000000000", "{found}");
    }
    assert_eq!((&found["no_new_privileges"], &found["seccomp"]), (&json!("1"), &json!("2")));
    assert_eq!(found["interfaces"], json!(["lo"]));
    assert_eq!(found["terminals"], json!([]), "nobody has a terminal");
    assert_eq!(found["stray"], json!([]));
    for name in [
        "mount", "unshare", "ptrace", "bpf", "io_uring", "perf", "sysrq", "sysctl", "etc", "runtime", "outside", "raw",
        "packet", "device", "setuid", "chroot",
    ] {
        assert!(found[name].is_string(), "{name} passes: {found}");
    }
    for name in ["kcore", "kmsg"] {
        assert_eq!(found[name], false, "{name} can be read");
    }
    // Its init, what it is itself, and one that waits for the next.
    assert!(found["processes"].as_array().unwrap().len() <= 3, "{found}");
    // The stores of workspaces are not mounted where it could see them.
    let stores: Vec<&str> = found["stores"].as_array().unwrap().iter().map(|at| at.as_str().unwrap()).collect();
    assert!(!stores.iter().any(|at| at.contains("store") || at.contains("layer")), "{stores:?}");
    eprintln!("{found}");
}

#[test]
fn what_a_program_calls_against_landlock_and_the_filter_is_refused() {
    let service = Service::start();
    let session = Session::new(&service);
    // Landlock holds where permissions would not: the program's own files under /proc of another.
    let source = "import os\n\
        def tried(call):\n\
        \x20   try: call(); return 'works'\n\
        \x20   except OSError as error: return error.strerror\n\
        print(tried(lambda: open('/workspace/f', 'w')), tried(lambda: open('/tmp/f', 'w')), tried(lambda: open('/dev/shm/f', 'w')),\n\
        \x20   tried(lambda: open('/dev/null', 'w')), sep=', ')\n\
        print(tried(lambda: open('/f', 'w')), tried(lambda: open('/usr/f', 'w')), tried(lambda: open('/dev/f', 'w')),\n\
        \x20   tried(lambda: open('/proc/1/environ')), tried(lambda: open('/proc/sys/kernel/hostname', 'w')), sep=', ')";
    let printed = session.python(source);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[0], "works, works, works, works");
    assert!(!lines[1].contains("works"), "{printed}");
}

#[test]
fn terminals_of_a_session_are_its_own_and_nobody_types_for_another() {
    let service = Service::start();
    let session = Session::new(&service);
    let other = Session::new(&service);
    session.put("facts.py", file("payloads/session_facts.py"));
    let sitting = session.start(&json!({"argv": ["cat"], "terminal": {"rows": 24, "columns": 80}}));
    let view = session.done(
        "POST",
        "/execs",
        &json!({
        "argv": ["python3.11", "-I", "facts.py"], "terminal": {"rows": 24, "columns": 80}}),
    );
    let printed = view["result"]["stdout"].as_str().unwrap().to_owned();
    let found: Value = serde_json::from_str(printed.trim()).unwrap_or_else(|error| panic!("{error}: {printed}"));
    // By the filter: a kernel that has it switched off says EIO.
    assert_eq!(found["push"], "EPERM", "TIOCSTI: {found}");
    assert_eq!(found["descriptors"], json!([0, 1, 2]));
    assert!(!found["terminals"].as_array().unwrap().is_empty(), "the control: it has one itself");
    // Another session has none, whatever is open here.
    assert_eq!(facts(&other)["terminals"], json!([]));
    // Terminals of one session are of one user: programs without one see them, but not of the host.
    let own = facts(&session)["terminals"].as_array().unwrap().len();
    assert!(own <= 2, "{own}");
    assert_eq!(session.call("DELETE", &format!("/execs/{sitting}"), b"").status, 204);
}

const NOT_PROMISED: [&str; 2] = ["flock", "record lock"];

#[test]
fn sessions_find_nothing_of_one_another() {
    let word = format!("w{}", std::process::id());
    let line = format!(
        "ip link set lo up; exec {} -I {} both {word}",
        crate::payloads::PYTHON,
        crate::payloads::path("neighbour.py").display()
    );
    let control = Outside::new().shell(&line);
    let control: Value = serde_json::from_slice(&control.stdout).unwrap_or_else(|_| panic!("{control:?}"));
    for (kind, found) in control.as_object().unwrap() {
        assert_eq!(*found, true, "the control does not find: {kind}");
    }
    let service = Service::start();
    let (one, other) = (Session::new(&service), Session::new(&service));
    for session in [&one, &other] {
        session.put("neighbour.py", file("payloads/neighbour.py"));
    }
    let held = one.start(&json!({"argv": ["python3.11", "-I", "neighbour.py", "hold", word]}));
    one.wait_printed(held, "held");
    let program = json!({"argv": ["python3.11", "-I", "neighbour.py", "probe", word]});
    // In one session they are neighbours who may meet: that is the other control.
    let within: Value = serde_json::from_str(&one.printed(&program)).unwrap();
    for kind in ["dev/shm", "tmp", "loopback", "shared memory"] {
        assert_eq!(within[kind], true, "within a session, {kind} does not pass: {within}");
    }
    let between: Value = serde_json::from_str(&other.printed(&program)).unwrap();
    for (kind, found) in between.as_object().unwrap() {
        assert!(*found == false || NOT_PROMISED.contains(&kind.as_str()), "{kind} passes");
    }
    // Nor can it do anything to them.
    let before = one.exec_view(held);
    assert_eq!(before["state"], "running");
    other.printed(&json!({"argv": ["python3.11", "-I", "neighbour.py", "kill", word]}));
    assert_eq!(one.exec_view(held)["state"], "running");
    assert_eq!(other.names(""), ["neighbour.py"]);
}

#[test]
fn sessions_differ_in_ids_and_namespaces() {
    let service = Service::start();
    let mut sets: Vec<BTreeSet<String>> = Vec::new();
    let mut uids: Vec<BTreeSet<String>> = Vec::new();
    let mut known = BTreeSet::new();
    let mut sessions = Vec::new();
    for _ in 0..2 {
        let session = Session::new(&service);
        let sleeper = session.start(&json!({"shell": "echo began; exec sleep 1000"}));
        session.wait_printed(sleeper, "began");
        let new: Vec<i32> = service.sandbox_processes().into_iter().filter(|pid| known.insert(*pid)).collect();
        assert!(new.len() >= 2, "init and program: {new:?}");
        let names = ["user", "mnt", "pid", "net", "ipc", "uts"];
        let links = new.iter().flat_map(|pid| names.iter().map(move |name| format!("/proc/{pid}/ns/{name}")));
        sets.push(links.filter_map(|path| fs::read_link(path).ok()?.to_str().map(str::to_owned)).collect());
        uids.push(
            new.iter().flat_map(|pid| field(*pid, "Uid").split('\t').map(str::to_owned).collect::<Vec<_>>()).collect(),
        );
        sessions.push(session);
    }
    assert!(sets[0].len() >= 6 && sets[1].len() >= 6, "{sets:?}");
    assert!(sets[0].is_disjoint(&sets[1]), "{sets:?}");
    if !is_root() {
        return skip("ids of their own need a range of ids");
    }
    assert!(uids[0].is_disjoint(&uids[1]), "{uids:?}");
    assert!(!uids.iter().flatten().any(|uid| uid == "0" || uid == "1000"), "{uids:?}");
}
