//! Packages of jobs and sessions: installed by `uv` and `npm` from registries of the test's own, by the real daemon and
//! launcher, and found by programs that reach nothing.

#![cfg(feature = "nftables")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::process::Command;
use std::time::{Duration, Instant};

use common::registries::{OTHER, REGISTRY, Registries, SECOND_PORT};
use common::sessions::{Events, Session, create, printed, try_create};
use common::{Service, merge, wait_for};
use serde_json::{Value, json};

const PYTHON: &str = "python@3.11";

fn service(registries: &Registries) -> Service {
    service_with(registries, json!({}))
}

fn service_with(registries: &Registries, changes: Value) -> Service {
    let mut config = registries.config();
    // Trees of Node.js have no shell, without which npm runs no script.
    merge(&mut config, json!({"runtimes": {"trees": []}}));
    merge(&mut config, changes);
    Service::start_with(config)
}

fn job(runtime: &str, dependencies: &Value, source: &str) -> Value {
    json!({"runtime": runtime, "dependencies": dependencies, "files": [{"content": source}]})
}

fn python(list: &[&str], source: &str) -> Value {
    job(PYTHON, &json!({ "python": list }), source)
}

fn npm(list: &[&str], source: &str) -> Value {
    job("javascript", &json!({ "npm": list }), source)
}

#[track_caller]
fn stdout(result: &Value) -> &str {
    assert_eq!(result["status"], "ok", "{result:#}");
    result["run"]["stdout"].as_str().unwrap()
}

/// What a stage printed, in both ways.
fn said(stage: &Value) -> String {
    format!("{}{}", stage["stdout"].as_str().unwrap(), stage["stderr"].as_str().unwrap())
}

#[test]
fn python_packages_are_installed_once_and_found_by_programs_without_a_network() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let source = "import greeting, os, socket, subprocess, sys\n\
                  print(greeting.VERSION, greeting.__file__)\n\
                  print(subprocess.run(['greet'], capture_output=True, text=True).stdout.strip())\n\
                  for path in ('/dependencies/python/x', '/dependencies/python/greeting.py'):\n\
                  \x20   try: open(path, 'w'); print('written')\n\
                  \x20   except OSError as error: print(type(error).__name__)\n\
                  try: socket.socket(); print('socket')\n\
                  except OSError as error: print(type(error).__name__)\n";
    let first = service.run(&python(&["greeting==1.*"], source));
    let expected = "1.5 /dependencies/python/greeting.py\nhello 1.5\nOSError\nOSError\nPermissionError\n";
    assert_eq!(stdout(&first), expected, "{first:#}");
    assert_eq!((&first["prepare"]["status"], &first["prepare"]["cached"]), (&json!("ok"), &json!(false)));
    assert!(said(&first["prepare"]).contains("greeting==1.5"), "{first:#}");
    let asked = registries.asked(".whl");
    // The same in other words; whoever asks.
    let second = service.run(&python(&[" Greeting == 1.* "], source));
    assert_eq!(stdout(&second), expected);
    assert_eq!(second["prepare"]["cached"], true);
    assert_eq!(said(&second["prepare"]), said(&first["prepare"]));
    assert_eq!(registries.asked(".whl"), asked);
    // Another version is another set.
    let third = service.run(&python(&["greeting"], source));
    assert!(stdout(&third).starts_with("2.0 "));
    assert!(counted(&service, r#"codesandbox_install_seconds_count{ecosystem="python",status="ok"}"#, 2));
    assert!(counted(&service, "codesandbox_package_cache_hits_total", 1));
    assert!(counted(&service, "codesandbox_package_cache_misses_total", 2));
    // The time of installers is none of the sandboxes' own.
    let overhead = metric(&service, "codesandbox_overhead_seconds_sum{").unwrap();
    let installing = metric(&service, "codesandbox_install_seconds_sum{").unwrap();
    let own_ms: f64 =
        [first, second, third].iter().map(|answer| answer["overhead_ms"]["total"].as_f64().unwrap()).sum();
    assert!(overhead < own_ms / 1000.0 + installing / 2.0, "{overhead} s, {own_ms} ms, {installing} s");
}

/// What the metrics say of the first line that begins so.
fn metric(service: &Service, name: &str) -> Option<f64> {
    let told = service.request("GET", "/metrics", &[], "");
    let text = String::from_utf8(told.body.to_vec()).unwrap();
    let line = text.lines().find(|line| line.starts_with(name))?.to_owned();
    line.rsplit_once(' ')?.1.parse().ok()
}

fn counted(service: &Service, name: &str, count: u32) -> bool {
    metric(service, name) == Some(f64::from(count))
}

#[test]
fn a_warm_install_takes_a_tenth_of_a_cold_one_at_most() {
    let Some(registries) = Registries::open() else { return };
    for (name, with, without) in [
        ("uv", python(&["greeting", "big"], "pass"), python(&[], "pass")),
        ("npm", npm(&["greeter", "@scope/leaf"], ""), npm(&[], "")),
    ] {
        // The least of each, measured in turns: whatever else the machine does meets all three.
        let [mut cold, mut warm, mut bare] = [Duration::MAX; 3];
        for _ in 0..3 {
            // Nothing is kept of the one before.
            let service = service(&registries);
            let time = |job: &Value| {
                let began = Instant::now();
                stdout(&service.run(job));
                began.elapsed()
            };
            cold = cold.min(time(&with));
            for _ in 0..5 {
                bare = bare.min(time(&without));
                warm = warm.min(time(&with));
            }
        }
        eprintln!("FIGURES: {name}: cold {cold:?}, warm {warm:?}, without packages {bare:?}");
        assert!(warm.saturating_sub(bare) <= cold.saturating_sub(bare) / 10, "{name}: {warm:?} of {cold:?}");
    }
}

#[test]
fn what_is_kept_outlives_daemon_and_launcher() {
    let Some(registries) = Registries::open() else { return };
    let mut service = service(&registries);
    let job = python(&["greeting"], "import greeting; print(greeting.VERSION)");
    assert_eq!(stdout(&service.run(&job)), "2.0\n");
    let asked = registries.asked(".whl");
    wait_for("it to be on disk", || files(&service) == 1);
    service.kill_daemon();
    service.restart_daemon();
    assert_eq!(stdout(&service.run(&job)), "2.0\n");
    let is_well = |service: &Service| service.request("GET", "/health", &[], "").status == 200;
    service.kill_launcher();
    wait_for("the launcher to be missed", || !is_well(&service));
    service.restart_launcher();
    wait_for("the launcher", || is_well(&service));
    let result = service.run(&job);
    assert_eq!((stdout(&result), &result["prepare"]["cached"]), ("2.0\n", &json!(true)));
    assert_eq!(registries.asked(".whl"), asked);
}

/// How many sets are on disk.
fn files(service: &Service) -> usize {
    let Ok(directories) = std::fs::read_dir(service.cache().join("dependencies")) else { return 0 };
    directories.map(|directory| std::fs::read_dir(directory.unwrap().path()).unwrap().count()).sum()
}

#[test]
fn npm_packages_are_found_by_require_and_import() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let source = "const { execSync } = require('child_process');\n\
                  const fs = require('fs');\n\
                  console.log(require('greeter').version, require('@scope/leaf').leaf);\n\
                  console.log(execSync('greeter').toString().trim());\n\
                  try { fs.writeFileSync('/node_modules/x', ''); console.log('written'); } catch (error) { console.log(error.code); }\n\
                  import('greeter').then((module) => console.log(module.default.version));\n";
    let first = service.run(&npm(&["greeter@4", "@scope/leaf"], source));
    assert_eq!(stdout(&first), "4.2.0 4.2.0\ncli 4.2.0\nEROFS\n4.2.0\n", "{first:#}");
    let second = service.run(&npm(&["@scope/leaf", "greeter@4"], source));
    assert_eq!((stdout(&second), &second["prepare"]["cached"]), (stdout(&first), &json!(true)));
    let module = json!({
        "runtime": "javascript", "dependencies": {"npm": ["greeter@4"]},
        "files": [{"path": "main.mjs", "content": "import greeter from 'greeter'; console.log(greeter.version);"}],
    });
    assert_eq!(stdout(&service.run(&module)), "4.2.0\n");
    let typescript = "const greeter = require('greeter'); console.log(greeter.version as string);";
    let result = service.run(&job("typescript", &json!({"npm": ["greeter@5"]}), typescript));
    assert_eq!(stdout(&result), "5.0.0\n");
}

#[test]
fn build_scripts_run_in_the_sandbox_and_reach_the_registry_alone() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let source = "import built, json; print(json.dumps(built.FOUND))";
    let result = service.run(&python(&["built"], source));
    let mut found: Value = serde_json::from_str(stdout(&result)).unwrap();
    let mut expected = json!({"host": false, "shadow": false, "own": true, "listed": true, "unlisted": false});
    assert_eq!(found.as_object_mut().unwrap().remove("writes"), Some(json!(false)));
    assert_eq!(found, expected);
    let denied = |result: &Value| {
        let all = result["prepare"]["denied"].as_array().unwrap().clone();
        all.into_iter().any(|flow| flow["address"] == OTHER && flow["port"] == 80)
    };
    assert!(denied(&result), "{result:#}");
    let result = service.run(&npm(&["built"], "console.log(JSON.stringify(require('built')))"));
    found = serde_json::from_str(stdout(&result)).unwrap();
    expected["own"] = json!(true);
    assert_eq!(found, expected);
    assert!(denied(&result), "{result:#}");
    // The run itself was refused nothing: it tried nothing.
    assert_eq!(result["run"]["denied"], json!([]));
}

#[test]
fn what_leads_out_of_a_tree_is_no_tree() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let result = service.run(&python(&["hostile"], "print(1)"));
    assert_eq!((&result["status"], &result["run"]), (&json!("prepare_failed"), &Value::Null), "{result:#}");
    let reason = result["prepare"]["reason"].as_str().unwrap();
    assert!(reason.contains("out: a link that leads out"), "{reason}");
    assert_eq!(files(&service), 0);
}

#[test]
fn equal_installs_at_one_time_are_one() {
    let Some(registries) = Registries::open() else { return };
    let service = service_with(&registries, json!({"service": {"concurrency": 8}}));
    registries.hold(".whl");
    let socket = service.socket();
    let jobs: Vec<_> = (0..6)
        .map(|number| {
            let socket = socket.clone();
            std::thread::spawn(move || {
                let body = python(&["greeting==1.0"], &format!("import greeting; print(greeting.VERSION, {number})"));
                let headers = [("content-type", "application/json")];
                common::request(&socket, "POST", "/v1/run", &headers, body.to_string().as_bytes()).unwrap().json()
            })
        })
        .collect();
    wait_for("the registry to be asked", || registries.asked("greeting-1.0-py3-none-any.whl") > 0);
    wait_for("all to run", || service.request("GET", "/health", &[], "").json()["running"] == 6);
    registries.let_go();
    let results: Vec<Value> = jobs.into_iter().map(|job| job.join().unwrap()).collect();
    for (number, result) in results.iter().enumerate() {
        assert_eq!(stdout(result), format!("1.0 {number}\n"));
    }
    let cached = results.iter().filter(|result| result["prepare"]["cached"] == true).count();
    assert_eq!((cached, registries.asked("GET /simple/greeting/")), (5, 1));
}

#[test]
fn another_version_of_the_runtime_installs_anew() {
    let Some(registries) = Registries::open() else { return };
    let service = service_with(&registries, json!({"runtimes": {"trees": common::trees()}}));
    let listed = service.request("GET", "/v1/runtimes", &[], "").json();
    // The newest: uv does not take all the old ones.
    let other = listed["runtimes"].as_array().unwrap().iter().rfind(|runtime| {
        runtime["language"] == "python" && !runtime["version"].as_str().unwrap_or_default().starts_with("3.11")
    });
    let Some(other) = other else { return common::skip("there is one Python here: tests/setup makes trees of others") };
    let source = "import greeting, sys; print(greeting.VERSION, sys.version_info[1])";
    let selector = format!("python@{}", other["version"].as_str().unwrap());
    assert_eq!(stdout(&service.run(&python(&["greeting"], source))), "2.0 11\n");
    let result = service.run(&job(&selector, &json!({"python": ["greeting"]}), source));
    assert_eq!(result["prepare"]["cached"], false);
    assert_ne!(stdout(&result), "2.0 11\n");
}

#[test]
fn lock_files_are_held_to_their_hashes() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let hash = registries.hash("greeting-1.0-py3-none-any.whl");
    let lock = |hash: &str| json!({"python": {"lock": format!("greeting==1.0 \\\n    --hash=sha256:{hash}\n")}});
    let source = "import greeting; print(greeting.VERSION)";
    assert_eq!(stdout(&service.run(&job(PYTHON, &lock(&hash), source))), "1.0\n");
    let result = service.run(&job(PYTHON, &lock(&"0".repeat(64)), source));
    assert_eq!((&result["status"], &result["run"]), (&json!("prepare_failed"), &Value::Null), "{result:#}");
    assert!(said(&result["prepare"]).to_lowercase().contains("hash mismatch"), "{result:#}");

    let package = json!({"name": "x", "dependencies": {"greeter": "^4"}});
    let lock = |integrity: &str| {
        let entry = json!({
            "version": "4.0.0", "integrity": integrity, "bin": {"greeter": "cli.js"},
            "resolved": format!("http://{REGISTRY}/npm/greeter/-/greeter-4.0.0.tgz"),
        });
        let root = json!({"name": "x", "dependencies": {"greeter": "^4"}});
        let lock = json!({"name": "x", "lockfileVersion": 3, "requires": true, "packages": {"": root, "node_modules/greeter": entry}});
        json!({"npm": {"package": package.to_string(), "lock": lock.to_string()}})
    };
    let source = "console.log(require('greeter').version)";
    let integrity = registries.hash("greeter-4.0.0.tgz");
    assert_eq!(stdout(&service.run(&job("javascript", &lock(&integrity), source))), "4.0.0\n");
    let other = registries.hash("greeter-5.0.0.tgz");
    let result = service.run(&job("javascript", &lock(&other), source));
    assert_eq!(result["status"], "prepare_failed", "{result:#}");
    assert!(said(&result["prepare"]).contains("EINTEGRITY"), "{result:#}");
}

#[test]
fn failures_are_answers_in_time() {
    let Some(registries) = Registries::open() else { return };
    // Nobody listens there, and it is not even allowed.
    let away = json!({"dependencies": {"python": {"registry": format!("http://{REGISTRY}:81/simple")}, "max_bytes": 1_000_000}});
    let service = service_with(&registries, away);
    let began = Instant::now();
    let result = service.run(&python(&["greeting"], "print(1)"));
    assert_eq!((&result["status"], &result["run"]), (&json!("prepare_failed"), &Value::Null), "{result:#}");
    assert!(began.elapsed().as_secs() < 45 && !said(&result["prepare"]).is_empty(), "{result:#}");
    let result = service.run(&npm(&["nothing-of-this-name"], "1"));
    assert!(said(&result["prepare"]).contains("404"), "{result:#}");
    drop(service);
    let service = self::service_with(&registries, json!({"dependencies": {"max_bytes": 1_000_000}}));
    let result = service.run(&python(&["big"], "print(1)"));
    assert_eq!(result["prepare"]["status"], "disk_exceeded", "{result:#}");
    assert_eq!(files(&service), 0);
    assert_eq!(stdout(&service.run(&python(&["greeting"], "import greeting; print(1)"))), "1\n");
}

#[test]
fn a_set_that_lacks_what_could_not_be_had_is_nobodys() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    let hash = |file: &str| registries.hash(file);
    let package = json!({"name": "x", "dependencies": {"partial": "1"}});
    let lock = json!({"name": "x", "lockfileVersion": 3, "requires": true, "packages": {
        "": package,
        "node_modules/partial": {"version": "1.0.0", "integrity": hash("partial-1.0.0.tgz"),
            "optionalDependencies": {"extra": "1"}},
        "node_modules/extra": {"version": "1.0.0", "integrity": hash("extra-1.0.0.tgz"), "optional": true},
    }});
    let locked = json!({"npm": {"package": package.to_string(), "lock": lock.to_string()}});
    let source = "console.log(require('partial').extra)";
    let both = [npm(&["partial"], source), job("javascript", &locked, source)];
    // npm itself goes on without an optional package, and exits with 0.
    let result = service.run(&both[0]);
    assert_eq!((&result["status"], &result["run"]), (&json!("prepare_failed"), &Value::Null), "{result:#}");
    assert_eq!((&result["prepare"]["status"], &result["prepare"]["exit_code"]), (&json!("nonzero_exit"), &Value::Null));
    let reason = result["prepare"]["reason"].as_str().unwrap();
    assert!(reason.contains(&format!("{REGISTRY}:{SECOND_PORT}")), "{reason}");
    assert_eq!(files(&service), 0);
    registries.begin_at_second_port();
    for job in both {
        for cached in [false, true] {
            let result = service.run(&job);
            assert_eq!((stdout(&result), &result["prepare"]["cached"]), ("there\n", &json!(cached)), "{result:#}");
        }
    }
}

#[test]
fn what_an_installer_made_that_was_replaced_meanwhile_is_nobodys() {
    let Some(registries) = Registries::open() else { return };
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let [uv, kept, next] = ["uv", "kept", "next"].map(|name| directory.path().join(name));
    for copy in [&uv, &next] {
        std::fs::copy(common::registries::tool("uv").unwrap(), copy).unwrap();
    }
    std::fs::hard_link(&uv, &kept).unwrap();
    let service = service_with(&registries, json!({"dependencies": {"python": {"tool": &uv}}}));
    registries.hold(".whl");
    let body = python(&["greeting==1.0"], "import greeting; print(greeting.VERSION)");
    let answer = std::thread::scope(|scope| {
        let asking = scope.spawn(|| service.post(&body));
        wait_for("the registry to be asked", || registries.asked(".whl") > 0);
        std::fs::rename(&next, &uv).unwrap();
        registries.let_go();
        asking.join().unwrap()
    });
    assert_eq!((answer.status, files(&service)), (500, 0), "{:#}", answer.json());
    // The one that the key stands for is back, and nothing is under that key.
    std::fs::rename(&kept, &uv).unwrap();
    let result = service.run(&body);
    assert_eq!((stdout(&result), &result["prepare"]["cached"]), ("1.0\n", &json!(false)));
}

#[test]
fn a_cancelled_install_leaves_nothing() {
    let Some(registries) = Registries::open() else { return };
    let service = service(&registries);
    registries.hold(".whl");
    let body = python(&["greeting"], "import greeting; print(greeting.VERSION)");
    let stream = common::sessions::Session::of(&service, "none").socket;
    let mut events = Events::read(run_stream(&stream, &body));
    let id = loop {
        let event = events.next().unwrap();
        if event["event"] == "stage" {
            assert_eq!((&event["stage"], &event["cached"]), (&json!("prepare"), &json!(false)));
            break event["id"].as_str().unwrap().to_owned();
        }
    };
    wait_for("the registry to be asked", || registries.asked(".whl") > 0);
    assert_eq!(service.request("DELETE", &format!("/v1/runs/{id}"), &[], "").status, 204);
    let last = std::iter::from_fn(|| events.next()).last().unwrap();
    assert_eq!((&last["event"], &last["status"]), (&json!("finished"), &json!("prepare_failed")), "{last:#}");
    assert_eq!(last["prepare"]["status"], "cancelled");
    service.assert_no_sandbox();
    assert_eq!(files(&service), 0);
    registries.let_go();
    assert_eq!(stdout(&service.run(&body)), "2.0\n");
}

/// Begins a run whose events come line by line.
fn run_stream(socket: &std::path::Path, body: &Value) -> std::os::unix::net::UnixStream {
    use std::io::Write;
    let body = body.to_string();
    let mut stream = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST /v1/run HTTP/1.0\r\nHost: localhost\r\nAccept: application/x-ndjson\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    stream
}

#[test]
fn what_is_not_allowed_is_refused_with_its_field() {
    let Some(registries) = Registries::open() else { return };
    let closed = json!({"profiles": {"judge": {"dependencies": false}}});
    let service = service_with(&registries, closed);
    for (body, field) in [
        (python(&["--index-url=http://198.35.26.97"], ""), "dependencies.python[0]"),
        (python(&["greeting", "a @ file:///etc/passwd"], ""), "dependencies.python[1]"),
        (npm(&["a@file:/etc"], ""), "dependencies.npm[0]"),
        (job(PYTHON, &json!({"python": {"lock": "-r /etc/passwd"}}), ""), "dependencies.python.lock"),
        (job("javascript", &json!({"npm": {"package": "{}", "lock": "{}"}}), ""), "dependencies.npm.lock"),
        (job(PYTHON, &json!({"npm": ["greeter"]}), ""), "dependencies.npm"),
        (job("bash", &json!({"python": ["greeting"]}), ""), "dependencies.python"),
        (
            json!({"profile": "judge", "runtime": PYTHON, "dependencies": {"python": ["a"]}, "files": [{"content": ""}]}),
            "dependencies.python",
        ),
        (job(PYTHON, &json!({"ruby": ["a"]}), ""), "dependencies.ruby"),
    ] {
        let answer = service.post(&body);
        assert_eq!((answer.status, &answer.json()["field"]), (422, &json!(field)), "{body}");
    }
    assert_eq!(registries.asked(""), 0);
    // What asks for nothing is nobody's to refuse.
    assert_eq!(stdout(&service.run(&job("bash", &json!({}), "echo 1"))), "1\n");
    assert_eq!(service.run(&python(&[], "print(1)")).get("prepare"), None);
}

#[test]
fn without_configuration_there_are_no_packages() {
    let service = Service::start();
    let answer = service.post(&python(&["greeting"], ""));
    assert_eq!((answer.status, &answer.json()["field"]), (422, &json!("dependencies.python")));
}

fn imported(session: &Session) -> String {
    let line = "import greeting; print(greeting.VERSION)";
    let exec = session.exec(&json!({"argv": ["python", "-c", line]}));
    String::from_utf8([printed(&exec, "stdout"), printed(&exec, "stderr")].concat()).unwrap()
}

#[test]
fn sessions_have_packages_for_as_long_as_they_live() {
    let Some(registries) = Registries::open() else { return };
    let mut service = service(&registries);
    let body = json!({
        "runtimes": [PYTHON, "javascript"], "persistent": true,
        "dependencies": {"python": ["greeting==1.*"], "npm": ["greeter@4"]},
    });
    let session = create(&service, &body);
    assert_eq!(imported(&session), "1.5\n");
    let exec = session.exec(&json!({"argv": ["node", "-p", "require('greeter').version"]}));
    assert_eq!(printed(&exec, "stdout"), b"4.2.0\n");
    let exec = session.exec(&json!({"argv": ["greet"]}));
    assert_eq!(printed(&exec, "stdout"), b"hello 1.5\n");
    assert!(session.run("touch /dependencies/python/x 2>&1; touch /node_modules/x 2>&1; true").contains("Read-only"));
    let asked = (registries.asked(".whl"), registries.asked(".tgz"));

    let fork = Session::of(&service, session.post("/fork", &json!({}))["id"].as_str().unwrap());
    assert_eq!(imported(&fork), "1.5\n");
    fork.delete();
    service.kill_daemon();
    service.restart_daemon();
    assert_eq!(imported(&session), "1.5\n");
    session.post("/stop", &json!({}));
    assert_eq!(imported(&session), "1.5\n");
    service.kill_launcher();
    service.restart_launcher();
    session.wait_until("stopped");
    assert_eq!(imported(&session), "1.5\n");
    assert_eq!((registries.asked(".whl"), registries.asked(".tgz")), asked);
    session.delete();

    let answer =
        try_create(&service, &json!({"runtime": PYTHON, "dependencies": {"python": ["nothing-of-this-name"]}}));
    let problem = answer.json();
    assert_eq!((answer.status, &problem["field"]), (422, &json!("dependencies.python")), "{problem:#}");
    assert_eq!(problem["type"], "urn:codesandbox:problem:prepare-failed");
    assert!(said(&problem["prepare"]).contains("nothing-of-this-name"), "{problem:#}");
}

#[test]
fn answers_age_where_something_is_open() {
    let Some(registries) = Registries::open() else { return };
    let service = service_with(&registries, json!({"dependencies": {"lifetime_ms": 1}}));
    let body = python(&["greeting"], "import greeting; print(greeting.VERSION)");
    service.run(&body);
    assert_eq!(service.run(&body)["prepare"]["cached"], false);
    let hash = registries.hash("greeting-1.0-py3-none-any.whl");
    let lock = json!({"python": {"lock": format!("greeting==1.0 --hash=sha256:{hash}")}});
    let body = job(PYTHON, &lock, "import greeting; print(greeting.VERSION)");
    service.run(&body);
    assert_eq!(service.run(&body)["prepare"]["cached"], true);
}

#[test]
fn memory_that_is_full_lets_go_of_what_is_in_no_sandbox() {
    let Some(registries) = Registries::open() else { return };
    let service =
        service_with(&registries, json!({"dependencies": {"memory_bytes": 5_000_000, "max_bytes": 4_000_000}}));
    assert_eq!(stdout(&service.run(&python(&["big"], "import big; print(1)"))), "1\n");
    assert_eq!(stdout(&service.run(&python(&["big", "greeting"], "import big, greeting; print(2)"))), "2\n");
    let session = create(&service, &json!({"runtime": PYTHON, "dependencies": {"python": ["big"]}}));
    // It is in use now, and stays so.
    let answer = service.post(&python(&["big", "greeting"], ""));
    assert_eq!((answer.status, &answer.json()["type"]), (503, &json!("urn:codesandbox:problem:unavailable")));
    let exec = session.exec(&json!({"argv": ["python", "-c", "import big; print(3)"]}));
    assert_eq!(printed(&exec, "stdout"), b"3\n");
    session.delete();
    assert_eq!(stdout(&service.run(&python(&["big", "greeting"], "print(4)"))), "4\n");
}

#[test]
fn the_command_line_installs_without_a_daemon() {
    let Some(registries) = Registries::open() else { return };
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut config = registries.config();
    merge(&mut config, json!({"cache": {"directory": directory.path().join("cache")}}));
    let (config_path, source) = (directory.path().join("config.json"), directory.path().join("main.py"));
    std::fs::write(&config_path, config.to_string()).unwrap();
    std::fs::write(&source, "import greeting; print(greeting.VERSION)").unwrap();
    let run = |packages: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_codesandbox"))
            .args(["run", "--runtime", PYTHON, "--config"])
            .arg(&config_path)
            .args(packages)
            .arg(&source)
            .env_remove("CODESANDBOX_SOCKET")
            .output()
            .unwrap()
    };
    let output = run(&["--python", "greeting==1.0"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"1.0\n"[..]), "{output:?}");
    let asked = registries.asked(".whl");
    let output = run(&["--python", "greeting==1.0"]);
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), &b"1.0\n"[..]), "{output:?}");
    assert_eq!(registries.asked(".whl"), asked);
    let output = run(&["--python", "nothing-of-this-name"]);
    assert_eq!(output.status.code(), Some(115), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("nothing-of-this-name"), "{output:?}");
}
