//! Requests about sessions that pass, and requests that do not.

use std::sync::LazyLock;

use serde_json::{Value, json};

use super::*;
use crate::api::fields;
use crate::session::types::{SessionId, Status};

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::parse("{}").unwrap());
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| CONFIG.catalogue(None, &|_| true).unwrap());

fn check_json(json: &Value) -> Result<NewSession, Problem> {
    let request = fields::parse(json.to_string().as_bytes())?;
    session(request, &CONFIG, &CATALOGUE, &CONFIG.quota(1000), &CONFIG.sessions).map(|(new, _)| new)
}

/// A request that passes, with some of its fields replaced.
fn with(changes: Value) -> Value {
    let mut request = json!({ "runtime": "python@3.12", "profile": "agent" });
    for (key, value) in changes.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

fn view() -> View {
    let new = check_json(&with(json!({}))).unwrap();
    View {
        id: SessionId::random(),
        status: Status::Active,
        persistent: new.persistent,
        runtimes: new.runtimes,
        profile: new.profile,
        limits: new.limits,
        env: new.env,
        labels: new.labels,
        created_at_ms: 0,
        last_used_ms: 0,
        expires_at_ms: 0,
        idle_timeout_ms: new.idle_timeout_ms,
        lifetime_ms: new.lifetime_ms,
        restarts: 0,
        execs_running: 0,
        disk: None,
        cpus: None,
    }
}

fn exec_in(view: &View, json: Value) -> Result<NewExec, Problem> {
    exec(fields::parse(json.to_string().as_bytes())?, view, &CONFIG, &CATALOGUE)
}

fn exec_json(json: Value) -> Result<NewExec, Problem> {
    exec_in(&view(), json)
}

#[test]
fn the_smallest_request_is_completed() {
    let new = check_json(&with(json!({}))).unwrap();
    assert_eq!((new.runtimes, new.profile.as_str()), (vec!["python-3.12".to_owned()], "agent"));
    assert_eq!(new.limits, CONFIG.profiles["agent"].run);
    let times = (CONFIG.sessions.idle_timeout_ms, CONFIG.sessions.lifetime_ms, false);
    assert_eq!((new.idle_timeout_ms, new.lifetime_ms, new.persistent), times);
    assert_eq!((new.env["HOME"].as_str(), new.env["PYTHONDONTWRITEBYTECODE"].as_str()), ("/tmp", "1"));
    assert!(new.env["PATH"].starts_with("/runtime/bin:") && new.labels.is_empty());
}

#[test]
fn a_session_has_what_each_of_its_runtimes_needs() {
    let request = json!({ "runtimes": ["node", "python@3.12"], "profile": "agent", "env": { "HOME": "/workspace" } });
    let new = check_json(&request).unwrap();
    assert_eq!(new.runtimes, [CATALOGUE.resolve("node").unwrap().runtime.id.as_str(), "python-3.12"]);
    assert_eq!((new.env["HOME"].as_str(), new.env["PYTHONDONTWRITEBYTECODE"].as_str()), ("/workspace", "1"));
}

#[test]
fn every_value_that_is_not_allowed_names_its_field() {
    let labels =
        |count: usize| (0..count).map(|index| (format!("l{index}"), json!(""))).collect::<serde_json::Map<_, _>>();
    for (changes, field) in [
        (json!({ "runtime": null }), "runtime"),
        (json!({ "runtimes": ["node"] }), "runtimes"),
        (json!({ "runtime": null, "runtimes": [] }), "runtimes"),
        (json!({ "runtime": null, "runtimes": vec!["node"; 9] }), "runtimes"),
        (json!({ "runtime": null, "runtimes": ["node", "node"] }), "runtimes[1]"),
        (json!({ "profile": "none" }), "profile"),
        (json!({ "limits": { "wall_time_ms": 0 } }), "limits.wall_time_ms"),
        (json!({ "limits": { "memory_bytes": u64::MAX } }), "limits.memory_bytes"),
        (json!({ "env": { "A=B": "" } }), "env.A=B"),
        (json!({ "env": { "A": "x".repeat(200_000) } }), "env"),
        (json!({ "labels": labels(33) }), "labels"),
        (json!({ "labels": { "": "x" } }), "labels."),
        (json!({ "labels": { "a b": "x" } }), "labels.a b"),
        (json!({ "labels": { "a": "x\n" } }), "labels.a"),
        (json!({ "labels": { "a": "x".repeat(257) } }), "labels.a"),
        (json!({ "idle_timeout_ms": 999 }), "idle_timeout_ms"),
        (json!({ "idle_timeout_ms": CONFIG.sessions.maximum_idle_timeout_ms + 1 }), "idle_timeout_ms"),
        (json!({ "lifetime_ms": 0 }), "lifetime_ms"),
        (json!({ "lifetime_ms": u64::MAX }), "lifetime_ms"),
        (json!({ "persistent": "yes" }), "persistent"),
        (json!({ "name": "x" }), "name"),
    ] {
        let problem = check_json(&with(changes)).unwrap_err();
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::InvalidField, Some(field)), "{}", problem.detail);
    }
    let problem = check_json(&json!({ "runtimes": ["node", "pyhton"] })).unwrap_err();
    assert_eq!((problem.kind, problem.field.as_deref()), (Kind::UnknownRuntime, Some("runtimes[1]")));
}

#[test]
fn as_many_labels_as_may_be_pass() {
    let labels: serde_json::Map<String, Value> =
        (0..LABELS).map(|index| (format!("a.b/c-d_{index}"), json!("ä ".repeat(80)))).collect();
    assert_eq!(check_json(&with(json!({ "labels": labels }))).unwrap().labels.len(), LABELS);
}

#[test]
fn changes_leave_what_they_do_not_name() {
    let read = |json: Value| changes(fields::parse(json.to_string().as_bytes()).unwrap(), &CONFIG.sessions);
    assert_eq!(read(json!({})).unwrap(), Update::default());
    let update = read(json!({ "labels": {}, "lifetime_ms": 5000 })).unwrap();
    assert_eq!((update.labels, update.idle_timeout_ms, update.lifetime_ms), (Some([].into()), None, Some(5000)));
    assert_eq!(read(json!({ "lifetime_ms": 1 })).unwrap_err().field.as_deref(), Some("lifetime_ms"));
    let (snapshot, forked) =
        fork(fields::parse(br#"{"snapshot":7,"persistent":true}"#).unwrap(), &CONFIG.sessions).unwrap();
    assert_eq!((snapshot, forked), (Some(7), Fork { persistent: Some(true), ..Fork::default() }));
}

#[test]
fn processors_are_named_once_each() {
    let read = |cpus: Option<Vec<u32>>| promotion(PromoteRequest { cpus });
    assert_eq!(read(None).unwrap(), None);
    assert_eq!(read(Some(vec![1, 0])).unwrap(), Some(vec![1, 0]));
    for (cpus, field) in [(vec![], "cpus"), (vec![0, 0], "cpus[1]"), (vec![8192], "cpus[0]")] {
        assert_eq!(read(Some(cpus)).unwrap_err().field.as_deref(), Some(field));
    }
}

#[test]
fn a_name_is_that_of_a_program_of_the_runtimes() {
    for name in ["python", "python3", "python3.12"] {
        let new = exec_json(json!({ "argv": [name, "-V"] })).unwrap();
        assert_eq!(new.argv, ["/usr/bin/python3.12", "-V"]);
    }
    for path in ["/bin/ls", "./run", "bin/x"] {
        assert_eq!(exec_json(json!({ "argv": [path] })).unwrap().argv, [path]);
    }
}

#[test]
fn another_name_is_searched_for_inside() {
    let searched = ["/bin/sh", "-c", "exec \"$0\" \"$@\"", "ls", "-l"];
    assert_eq!(exec_json(json!({ "argv": ["ls", "-l"] })).unwrap().argv, searched);
}

#[test]
fn another_search_path_may_have_another_program_of_the_name() {
    let new = exec_json(json!({ "argv": ["python"], "env": { "PATH": "/workspace/venv/bin" } })).unwrap();
    assert_eq!(new.argv, ["/bin/sh", "-c", "exec \"$0\" \"$@\"", "python"]);
    let mut view = view();
    view.env.insert("PATH".to_owned(), "/workspace/venv/bin".to_owned());
    assert_eq!(exec_in(&view, json!({ "argv": ["python"] })).unwrap().argv[0], "/bin/sh");
}

#[test]
fn a_line_is_for_the_shell() {
    let new = exec_json(json!({ "shell": "echo $HOME | cat" })).unwrap();
    assert_eq!(new.argv, ["/bin/sh", "-c", "echo $HOME | cat"]);
}

#[test]
fn a_program_is_completed() {
    let new = exec_json(json!({ "argv": ["/bin/cat"] })).unwrap();
    assert_eq!((new.directory.as_str(), new.keep_stdin, new.detached, new.terminal), ("", false, false, None));
    assert!(new.env.is_empty() && new.stdin.is_empty());
    let request = json!({
        "argv": ["/bin/cat"], "cwd": "a/b", "stdin_base64": "/wA=", "detach": true, "keep_stdin": true,
        "env": { "A": "b" }, "limits": { "wall_time_ms": 5 },
    });
    let new = exec_json(request).unwrap();
    assert_eq!((new.directory.as_str(), new.stdin.as_slice()), ("a/b", &[0xff, 0][..]));
    assert_eq!((new.keep_stdin, new.detached, new.limits.wall_time_ms), (true, true, Some(5)));
    assert_eq!(exec_json(json!({ "argv": ["/bin/cat"], "cwd": "." })).unwrap().directory, "");
}

#[test]
fn a_terminal_stays_open_and_has_a_name() {
    let terminal = json!({ "rows": 24, "columns": 80 });
    let new = exec_json(json!({ "argv": ["/bin/sh"], "terminal": terminal })).unwrap();
    assert_eq!((new.terminal, new.keep_stdin), (Some(Size { rows: 24, columns: 80 }), true));
    assert_eq!(new.env["TERM"], "xterm-256color");
    let new = exec_json(json!({ "argv": ["/bin/sh"], "terminal": terminal, "env": { "TERM": "dumb" } })).unwrap();
    assert_eq!(new.env["TERM"], "dumb");
}

#[test]
fn every_field_of_a_program_that_is_not_allowed_is_named() {
    for (request, field) in [
        (json!({}), "argv"),
        (json!({ "argv": [] }), "argv"),
        (json!({ "argv": [""] }), "argv"),
        (json!({ "argv": ["a"], "shell": "b" }), "shell"),
        (json!({ "shell": "a\0" }), "shell"),
        (json!({ "argv": ["a", "b\0"] }), "argv[1]"),
        (json!({ "argv": ["x".repeat(200_000)] }), "argv"),
        (json!({ "shell": "a", "env": { "": "" } }), "env."),
        (json!({ "shell": "a", "cwd": "../x" }), "cwd"),
        (json!({ "shell": "a", "cwd": "/workspace" }), "cwd"),
        (json!({ "shell": "a", "stdin": "", "stdin_base64": "" }), "stdin_base64"),
        (json!({ "shell": "a", "terminal": { "rows": 0, "columns": 80 } }), "terminal.rows"),
        (json!({ "shell": "a", "terminal": { "rows": 24, "columns": 1001 } }), "terminal.columns"),
        (json!({ "shell": "a", "terminal": { "rows": 24 } }), "terminal.columns"),
        (json!({ "shell": "a", "limits": { "wall_time_ms": 0 } }), "limits.wall_time_ms"),
        (json!({ "shell": "a", "limits": { "wall_time_ms": u64::MAX } }), "limits.wall_time_ms"),
    ] {
        let problem = exec_json(request).unwrap_err();
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::InvalidField, Some(field)), "{}", problem.detail);
    }
}

#[test]
fn a_program_has_no_more_memory_than_its_session_but_may_have_more_time() {
    let view = view();
    let more = |name: &str, value: u64| exec_in(&view, json!({ "shell": "a", "limits": { name: value } }));
    assert!(more("memory_bytes", view.limits.memory_bytes).is_ok());
    let problem = more("memory_bytes", view.limits.memory_bytes + 1).unwrap_err();
    assert_eq!(problem.allowed.unwrap()["maximum"], view.limits.memory_bytes);
    assert!(more("wall_time_ms", CONFIG.profiles["agent"].maximum.wall_time_ms).is_ok());
}

#[test]
fn a_signal_is_known_by_name_and_number() {
    for (text, number) in
        [("\"SIGINT\"", 2), ("\"INT\"", 2), ("\"int\"", 2), ("\"2\"", 2), ("2", 2), ("\"sigkill\"", 9), ("64", 64)]
    {
        assert_eq!(signal(&serde_json::from_str(text).unwrap()).unwrap(), number, "{text}");
    }
    for text in ["\"\"", "\"SIG\"", "\"SIGNONE\"", "0", "-1", "65", "\"65\"", "99999999999"] {
        assert_eq!(
            signal(&serde_json::from_str(text).unwrap()).unwrap_err().field.as_deref(),
            Some("signal"),
            "{text}"
        );
    }
}

#[test]
fn a_path_stays_below_the_workspace() {
    assert_eq!(place("path", "").unwrap(), Place::Root);
    assert_eq!(place("path", ".").unwrap(), Place::Root);
    assert_eq!(path("path", "a/b").unwrap().as_bytes(), b"a/b");
    for wrong in ["..", "a/../b", "/etc", "a//b", "a\0"] {
        assert_eq!(path("from", wrong).unwrap_err().field.as_deref(), Some("from"), "{wrong}");
        assert!(place("path", wrong).is_err(), "{wrong}");
    }
    assert!(path("path", "").is_err());
}

#[test]
fn a_context_is_of_one_of_the_sessions_languages() {
    let read = |language: &str| context(&ContextRequest { language: language.to_owned() }, &view(), &CATALOGUE);
    assert_eq!(read("Python").unwrap().0, "python");
    let problem = read("node").unwrap_err();
    assert_eq!((problem.field.as_deref(), problem.allowed.as_deref()), (Some("language"), Some(&json!(["python"]))));
}

#[test]
fn a_snapshot_may_have_a_name() {
    let read = |label: Option<&str>| snapshot(SnapshotRequest { label: label.map(str::to_owned) });
    assert_eq!(read(None).unwrap(), None);
    assert_eq!(read(Some("before")).unwrap().as_deref(), Some("before"));
    for label in ["", "a\nb", &"x".repeat(257)] {
        assert_eq!(read(Some(label)).unwrap_err().field.as_deref(), Some("label"));
    }
}
