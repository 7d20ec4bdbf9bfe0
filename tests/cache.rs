//! The cache of compile stages through the real service: what is compiled once, what again, and what
//! is never kept.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{Service, skip, wait_for};
use nix::unistd::getuid;
use payloads::{Live, PYTHON};
use serde_json::{Value, json};

/// Users of no client.
const STRANGERS: [u32; 2] = [61_235, 61_236];

/// A service whose shell is compiled: the script that a job brings makes `run.sh`, which then runs.
fn shell_with(changes: Value) -> Service {
    let bash = json!({
        "compile": {"argv": ["{bash}", "--norc", "{main}"], "env": {}},
        "run": {"argv": ["{bash}", "--norc", "run.sh"], "env": {}},
    });
    let mut config = json!({"languages": {"bash": bash}, "service": {"concurrency": 4}});
    common::merge(&mut config, changes);
    Service::start_with(config)
}

fn shell() -> Service {
    shell_with(json!({}))
}

/// A job whose compile stage is this script.
fn compiles(script: &str) -> Value {
    json!({"runtime": "bash", "files": [{"content": format!("echo 'echo ran' > run.sh\n{script}")}]})
}

fn with(mut job: Value, changes: Value) -> Value {
    common::merge(&mut job, changes);
    job
}

/// Whether the compile stage of this job, which goes well, came from the cache.
fn is_cached(service: &Service, job: &Value) -> bool {
    let answer = service.run(job);
    assert_eq!(answer["status"], "ok", "{answer:#}");
    assert_eq!(answer["run"].get("cached"), None, "{answer:#}");
    answer["compile"]["cached"].as_bool().unwrap()
}

/// A number of the cache's, by the end of its name.
fn metric(service: &Service, name: &str) -> u64 {
    let told = service.request("GET", "/metrics", &[], "");
    let told = String::from_utf8(told.body.to_vec()).unwrap();
    let start = format!("codesandbox_compile_cache_{name} ");
    let value = told.lines().find_map(|line| line.strip_prefix(&start));
    value.unwrap_or_else(|| panic!("{start} is not in\n{told}")).parse().unwrap()
}

fn wait_for_metric(service: &Service, name: &str, value: u64) {
    wait_for(&format!("{name} to be {value}"), || metric(service, name) == value);
}

/// Every entry that is on disk.
fn entries(service: &Service) -> Vec<PathBuf> {
    let list = |path: &Path| {
        let entries = fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
    };
    list(&service.cache().join("compile")).iter().flat_map(|inside| list(inside)).collect()
}

/// Runs a program of a compiled language twice.
fn is_compiled_once(runtime: &str, program: &str) {
    let service = Service::start();
    let source = common::file(&format!("programs/{program}"));
    let name = program.rsplit('/').next().unwrap();
    let job = json!({
        "runtime": runtime, "files": [{"path": name, "content": source}], "outputs": ["**"],
        "limits": {"wall_time_ms": 60_000, "cpu_time_ms": 60_000},
        "compile_limits": {"wall_time_ms": 120_000, "cpu_time_ms": 120_000},
    });
    let first = service.run(&job);
    assert_eq!((&first["status"], &first["compile"]["cached"]), (&json!("ok"), &json!(false)), "{first:#}");
    wait_for_metric(&service, "stores_total", 1);
    let second = service.run(&job);
    assert_eq!((&second["status"], &second["compile"]["cached"]), (&json!("ok"), &json!(true)), "{second:#}");
    assert_eq!(second["run"]["stdout"], format!("hello from {runtime}\n"));
    let files = |answer: &Value| {
        let mut files = answer["files"].as_array().unwrap().clone();
        files.sort_by_key(|file| file["path"].as_str().unwrap().to_owned());
        files
    };
    assert!(files(&first).len() > 1, "{first:#}");
    assert!(files(&first) == files(&second), "the files differ");
    for field in ["stdout", "stderr", "usage", "denied", "exit_code", "reason", "signal"] {
        assert_eq!(first["compile"][field], second["compile"][field], "{field}");
    }
    assert_eq!(metric(&service, "hits_total"), 1);
    assert_eq!(metric(&service, "misses_total"), 1);
    assert_eq!(metric(&service, "entries"), 1);
    assert!(metric(&service, "bytes") > 0);
}

#[test]
fn a_program_in_c_is_compiled_once() {
    is_compiled_once("c", "c/hello.c");
}

#[test]
fn a_program_in_cpp_is_compiled_once() {
    is_compiled_once("c++", "cpp/hello.cpp");
}

#[test]
fn a_program_in_java_is_compiled_once() {
    is_compiled_once("java", "java/hello.java");
}

/// Whatever else a compiler leaves behind, such as links or empty directories, would have a job compile
/// each time.
#[test]
fn every_compiled_language_of_this_host_can_be_cached() {
    let service = Service::start();
    let list = service.request("GET", "/v1/runtimes", &[], "").json();
    let here = |language: &str| list["runtimes"].as_array().unwrap().iter().any(|one| one["language"] == language);
    let config = codesandbox::config::Config::parse("{}").unwrap();
    let compiled = config.languages.iter().filter(|language| language.compile.is_some() && here(&language.name));
    let mut stored = 0;
    for language in compiled {
        let test = &language.self_test;
        let limits = json!({"wall_time_ms": 120_000, "cpu_time_ms": 120_000});
        let job = json!({
            "runtime": language.name, "files": [{"content": test.source}], "stdin": test.stdin,
            "limits": limits, "compile_limits": limits,
        });
        assert!(!is_cached(&service, &job), "{}", language.name);
        stored += 1;
        wait_for_metric(&service, "stores_total", stored);
        let answer = service.run(&job);
        assert_eq!((&answer["compile"]["cached"], &answer["run"]["stdout"]), (&json!(true), &json!(test.expect)));
    }
    assert!(stored > 0);
}

/// A service in which a sandbox waits for this runtime all the time; `None` where the host lacks it.
fn waits_for(runtime: &str, changes: Value) -> Option<Service> {
    let config = codesandbox::config::Config::parse("{}").unwrap();
    config.catalogue(None, &|path| path.exists()).unwrap().by_id(runtime)?;
    let mut all = json!({"pool": {"warm": true, "ceiling": 4, "runtimes": {runtime: {"floor": 1}}}});
    common::merge(&mut all, changes);
    Some(Service::start_with(all))
}

/// Compiles a job, and runs it again until it comes by its sandbox on this path: the next one waits only
/// once it is made.
fn comes_by_its_sandbox(service: &Service, job: &Value, path: &str) {
    assert!(!is_cached(service, job));
    wait_for_metric(service, "stores_total", 1);
    wait_for(&format!("a {path} sandbox"), || {
        let answer = service.run(job);
        assert_eq!((&answer["status"], &answer["compile"]["cached"]), (&json!("ok"), &json!(true)), "{answer:#}");
        assert_eq!(answer["run"]["stdout"], "hello\n");
        answer["path"] == path
    });
}

#[test]
fn a_program_that_is_compiled_already_gets_a_sandbox_that_waits() {
    let Some(service) = waits_for("c-12", json!({})) else { return skip("no c-12 on this host") };
    let source = "#include <stdio.h>\nint main(void) { puts(\"hello\"); }\n";
    let job = json!({"runtime": "c@12", "files": [{"content": source}]});
    comes_by_its_sandbox(&service, &job, "parked");
}

#[test]
fn a_program_that_is_compiled_already_gets_an_interpreter_that_has_started() {
    let program = |name| format!("/usr/lib/jvm/java-17-openjdk-{{debian_arch}}/bin/{name}");
    let version = json!({
        "version": "17", "warm": true, "extra_paths": ["/etc/java-17-openjdk"],
        "programs": {"java": program("java"), "javac": program("javac")},
    });
    let changes = json!({"languages": {"java": {"versions": [version]}}});
    let Some(service) = waits_for("java-17", changes) else { return skip("no java-17 on this host") };
    let source = "class Main { public static void main(String[] arguments) { System.out.println(\"hello\"); } }";
    let limits = json!({"wall_time_ms": 60_000, "cpu_time_ms": 60_000});
    let job = json!({
        "runtime": "java@17", "files": [{"content": source}], "limits": limits, "compile_limits": limits,
    });
    // What has to be compiled first begins in a sandbox without one.
    assert_ne!(service.run(&with(job.clone(), json!({"cache": false})))["path"], "warm");
    comes_by_its_sandbox(&service, &job, "warm");
    // An interpreter that has started has its arguments already.
    let answer = service.run(&with(job, json!({"args": ["one"]})));
    assert_eq!((&answer["compile"]["cached"], &answer["run"]["stdout"]), (&json!(true), &json!("hello\n")));
    assert_ne!(answer["path"], "warm");
}

#[test]
fn all_that_compiling_made_is_there_and_nothing_that_it_removed() {
    let service = shell();
    let script = "mkdir -p a/b && printf '\\xff' > a/b/data && rm main.sh && echo said && echo warned >&2\n\
                  printf '#!/bin/bash\\necho tool' > tool && chmod 755 tool\n\
                  printf 'echo; > .hidden; ls -A; a=$(./tool); echo $a; test -x run.sh || echo plain' > run.sh";
    let job = json!({"runtime": "bash", "files": [{"content": script}]});
    let first = service.run(&job);
    wait_for_metric(&service, "stores_total", 1);
    let second = service.run(&job);
    assert_eq!(second["compile"]["cached"], true, "{second:#}");
    assert_eq!(first["run"]["stdout"], "\n.hidden\na\nrun.sh\ntool\ntool\nplain\n", "{first:#}");
    assert_eq!(first["run"]["stdout"], second["run"]["stdout"], "{second:#}");
    assert_eq!(second["compile"]["stdout"], "said\n");
    assert_eq!(second["compile"]["stderr"], "warned\n");
}

#[test]
fn a_stream_tells_the_same_with_and_without_the_cache() {
    let service = shell();
    let job = compiles("echo said; echo warned >&2");
    let events = |cached: bool| {
        let mut live = Live::start(&service, &job);
        let mut told = Vec::new();
        while let Some(event) = live.next() {
            let mut event = event;
            if event["event"] == "finished" {
                assert_eq!(event["compile"]["cached"], cached, "{event:#}");
                event = json!({"event": "finished", "status": event["status"]});
            } else if event["event"] == "stage" && event["stage"] == "compile" {
                assert_eq!(event["cached"], cached, "{event:#}");
                event.as_object_mut().unwrap().remove("cached");
            }
            event.as_object_mut().unwrap().remove("id");
            told.push(event);
        }
        // Two streams of one program have no order among themselves.
        let said = told.iter().position(|event| event["data"] == "said\n").unwrap();
        let warned = told.iter().position(|event| event["data"] == "warned\n").unwrap();
        if warned < said {
            told.swap(said, warned);
        }
        told
    };
    let first = events(false);
    wait_for_metric(&service, "stores_total", 1);
    assert_eq!(events(true), first);
    assert_eq!(first.len(), 7, "{first:#?}");
}

#[test]
fn other_sources_limits_or_profiles_are_other_programs() {
    let service = shell();
    let job = compiles("true");
    assert!(!is_cached(&service, &job));
    wait_for_metric(&service, "stores_total", 1);
    assert!(is_cached(&service, &job));
    for changes in [
        json!({"files": [{"content": "echo 'echo other' > run.sh"}]}),
        json!({"files": [{"path": "other.sh", "content": "echo 'echo ran' > run.sh\ntrue"}]}),
        json!({"compile_limits": {"memory_bytes": 123_456_789}}),
        json!({"limits": {"disk_bytes": 500_000_000}}),
        json!({"profile": "judge"}),
    ] {
        assert!(!is_cached(&service, &with(job.clone(), changes.clone())), "{changes}");
    }
    let run_only = json!({"args": ["x"], "env": {"A": "b"}, "stdin": "y", "limits": {"wall_time_ms": 4321}});
    assert!(is_cached(&service, &with(job, run_only)), "they are of the run stage");
}

#[test]
fn what_did_not_end_well_is_not_kept() {
    let service = shell();
    let fails = |script: &str, changes: Value| {
        let job = with(compiles(script), changes);
        for _ in 0..2 {
            let answer = service.run(&job);
            assert_eq!((&answer["status"], &answer["compile"]["cached"]), (&json!("compile_failed"), &json!(false)));
        }
    };
    fails("exit 3", json!({}));
    fails("kill -9 $$", json!({}));
    fails("sleep 9", json!({"compile_limits": {"wall_time_ms": 200}}));
    fails("while :; do echo loud; done", json!({"compile_limits": {"output_bytes": 1000}}));
    assert_eq!((metric(&service, "stores_total"), metric(&service, "misses_total")), (0, 8));
    assert!(entries(&service).is_empty());
    assert!(!is_cached(&service, &compiles("exit 0")));
    wait_for_metric(&service, "stores_total", 1);
    assert!(is_cached(&service, &compiles("exit 0")));
}

#[test]
fn what_files_alone_do_not_tell_is_not_kept() {
    let service = shell_with(json!({"cache": {"entry_bytes": 1_000_000}}));
    for script in [
        "ln -s run.sh link",
        "mkfifo pipe",
        "mkdir -p empty/within",
        "head -c 2000000 /dev/zero > large",
        "for i in {1..17}; do d=${d:-.}/d/d; done; mkdir -p $d && echo > $d/deep",
        "for i in {1..5000}; do echo > $i; done",
    ] {
        let job = compiles(script);
        assert!(!is_cached(&service, &job) && !is_cached(&service, &job), "{script}");
        assert_eq!(metric(&service, "stores_total"), 0, "{script}");
    }
    // Each of these is like one above, and is kept.
    for (stored, script) in (1..).zip([
        "echo > link",
        "mkdir -p empty/within; echo > empty/within/file",
        "head -c 900000 /dev/zero > large",
        "for i in {1..100}; do echo > $i; done",
    ]) {
        assert!(!is_cached(&service, &compiles(script)), "{script}");
        wait_for_metric(&service, "stores_total", stored);
        assert!(is_cached(&service, &compiles(script)), "{script}");
    }
}

#[test]
fn a_request_without_the_cache_neither_reads_nor_writes_it() {
    let service = shell();
    let job = compiles("true");
    let without = with(job.clone(), json!({"cache": false}));
    assert!(!is_cached(&service, &without) && !is_cached(&service, &without));
    assert_eq!((metric(&service, "misses_total"), metric(&service, "stores_total")), (0, 0));
    assert!(!is_cached(&service, &with(job.clone(), json!({"cache": true}))));
    wait_for_metric(&service, "stores_total", 1);
    assert!(!is_cached(&service, &without));
    assert!(is_cached(&service, &job));
    assert_eq!((metric(&service, "misses_total"), metric(&service, "hits_total")), (1, 1));
}

#[test]
fn what_would_not_fit_on_the_disk_as_plain_files_is_not_kept() {
    let service = shell();
    let of_disk = |bytes: u64| {
        let limits = json!({"disk_bytes": bytes, "memory_bytes": 128_000_000});
        with(compiles("truncate -s 3M hole; ln run.sh second"), json!({"limits": limits, "compile_limits": limits}))
    };
    assert!(!is_cached(&service, &of_disk(2_000_000)) && !is_cached(&service, &of_disk(2_000_000)));
    assert!(!is_cached(&service, &of_disk(8_000_000)));
    wait_for_metric(&service, "stores_total", 1);
    assert!(is_cached(&service, &of_disk(8_000_000)));
}

/// The answer that another user gets.
fn asked_by(uid: u32, service: &Service, job: &Value) -> Value {
    fs::set_permissions(service.socket(), fs::Permissions::from_mode(0o666)).unwrap();
    let asks = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                s.sendall(sys.argv[2].encode())\nprint(b''.join(iter(lambda: s.recv(65536), b'')).decode())";
    let body = job.to_string();
    let request = format!(
        "POST /v1/run HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stranger = Command::new(PYTHON);
    stranger.args(["-I", "-c", asks]).arg(service.socket()).arg(request).uid(uid).current_dir("/");
    let answer = stranger.stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(answer.stdout.clone()).unwrap();
    let (_, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{answer:?}"));
    serde_json::from_str(body).unwrap()
}

#[test]
fn clients_are_not_told_what_others_compile_unless_the_cache_is_shared() {
    if !getuid().is_root() {
        return skip("only root can become another user");
    }
    let service = shell();
    let job = compiles("true");
    let cached = |uid| asked_by(uid, &service, &job)["compile"]["cached"].as_bool().unwrap();
    let [one, other] = STRANGERS;
    for (uid, stored) in [(one, 1), (other, 2)] {
        assert!(!cached(uid), "{uid} is the first of its client");
        wait_for_metric(&service, "stores_total", stored);
        assert!(cached(uid), "{uid} has compiled it before");
    }
    service.configure(json!({"cache": {"shared": true}}));
    service.reload_daemon();
    wait_for("what belongs to everybody", || metric(&service, "stores_total") == 3 || !cached(one));
    wait_for_metric(&service, "stores_total", 3);
    assert!(cached(one) && cached(other));
    assert!(is_cached(&service, &job), "it is everybody's");
}

/// Answers of as many equal jobs at one time.
fn at_once(service: &Service, job: &Value, count: usize) -> Vec<Value> {
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..count).map(|_| scope.spawn(|| service.run(job))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

#[test]
fn equal_jobs_at_one_time_compile_once() {
    for concurrency in [1, 2, 4] {
        let service = shell_with(json!({"service": {"concurrency": concurrency}}));
        let answers = at_once(&service, &compiles("sleep 0.3"), 6);
        assert!(answers.iter().all(|answer| answer["run"]["stdout"] == "ran\n"), "{answers:#?}");
        let cached = answers.iter().filter(|answer| answer["compile"]["cached"] == true).count();
        assert_eq!((cached, metric(&service, "hits_total"), metric(&service, "misses_total")), (5, 5, 1));
    }
}

#[test]
fn equal_jobs_whose_result_can_not_be_kept_do_not_wait_for_each_other_for_long() {
    let service = shell_with(json!({"service": {"concurrency": 6}}));
    let answers = at_once(&service, &compiles("ln -s run.sh link; sleep 0.2"), 6);
    assert!(answers.iter().all(|answer| answer["run"]["stdout"] == "ran\n"), "{answers:#?}");
    assert!(answers.iter().all(|answer| answer["compile"]["cached"] == false), "{answers:#?}");
    assert_eq!(metric(&service, "misses_total"), 6);
}

#[test]
fn equal_jobs_that_fail_are_all_told_so() {
    let service = shell();
    let answers = at_once(&service, &compiles("sleep 0.1; exit 3"), 6);
    assert!(answers.iter().all(|answer| answer["compile"]["exit_code"] == 3), "{answers:#?}");
    assert_eq!(metric(&service, "misses_total"), 6);
}

fn running(service: &Service) -> u64 {
    service.request("GET", "/health", &[], "").json()["running"].as_u64().unwrap()
}

#[test]
fn one_of_those_who_wait_compiles_where_the_first_is_cancelled() {
    let service = shell();
    let job = with(compiles("echo begun; sleep 3"), json!({"compile_limits": {"wall_time_ms": 10_000}}));
    let mut first = Live::start(&service, &job);
    first.wait_for("begun");
    let answers = std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..2).map(|_| scope.spawn(|| service.run(&job))).collect();
        wait_for("two to wait", || running(&service) == 3);
        drop(first);
        waiting.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    let cached = answers.iter().filter(|answer| answer["compile"]["cached"] == true).count();
    assert!(answers.iter().all(|answer| answer["status"] == "ok"), "{answers:#?}");
    assert_eq!((cached, metric(&service, "misses_total")), (1, 2), "{answers:#?}");
}

#[test]
fn one_that_waits_can_be_cancelled() {
    let service = shell();
    let job = with(compiles("echo begun; sleep 3"), json!({"compile_limits": {"wall_time_ms": 4000}}));
    let mut first = Live::start(&service, &job);
    first.wait_for("begun");
    let began = Instant::now();
    let mut waiting = Live::start(&service, &job);
    wait_for("one to wait", || running(&service) == 2);
    let cancelled = service.request("DELETE", &format!("/v1/runs/{}", waiting.id), &[], "");
    assert_eq!(cancelled.status, 204);
    let answer = waiting.last();
    assert_eq!(answer["compile"]["status"], "cancelled", "{answer:#}");
    assert!(began.elapsed() < Duration::from_secs(2), "it was let go at once");
    let answer = first.last();
    assert_eq!(answer["status"], "ok", "the first is not disturbed: {answer:#}");
}

#[test]
fn nobody_waits_longer_than_compiling_may_take() {
    let service = shell_with(json!({"service": {"concurrency": 8}}));
    let limits = json!({"wall_time_ms": 2000, "memory_bytes": 64_000_000, "disk_bytes": 16_000_000});
    let fails = with(compiles("sleep 1.2; exit 3"), json!({"limits": limits, "compile_limits": limits}));
    let began = Instant::now();
    let answers = at_once(&service, &fails, 8);
    assert!(answers.iter().all(|answer| answer["compile"]["exit_code"] == 3), "{answers:#?}");
    assert!(began.elapsed() < Duration::from_secs(8), "one after another they take more than nine seconds");
}

#[test]
fn an_entry_that_is_not_as_it_was_written_is_compiled_anew() {
    let service = shell();
    let job = compiles("true");
    assert!(!is_cached(&service, &job));
    wait_for_metric(&service, "stores_total", 1);
    assert!(is_cached(&service, &job));
    for spoil in [
        (|bytes: &mut Vec<u8>| *bytes.last_mut().unwrap() ^= 1) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(20),
        Vec::clear,
    ] {
        let stored = metric(&service, "stores_total");
        let [path] = &entries(&service)[..] else { panic!("not one entry") };
        let mut bytes = fs::read(path).unwrap();
        spoil(&mut bytes);
        fs::write(path, bytes).unwrap();
        let errors = metric(&service, "errors_total");
        assert!(!is_cached(&service, &job));
        assert_eq!(metric(&service, "errors_total"), errors + 1);
        wait_for_metric(&service, "stores_total", stored + 1);
        assert!(is_cached(&service, &job));
    }
}

#[test]
fn what_is_kept_outlives_the_daemon() {
    let mut service = shell();
    let job = compiles("true");
    assert!(!is_cached(&service, &job));
    wait_for_metric(&service, "stores_total", 1);
    service.terminate_daemon();
    assert!(service.wait_for_daemon().success());
    service.restart_daemon();
    wait_for_metric(&service, "entries", 1);
    assert!(is_cached(&service, &job));
}

#[test]
fn the_cache_is_switched_on_and_off_while_the_service_runs() {
    let service = shell_with(json!({"cache": {"bytes": 0}}));
    let job = compiles("true");
    assert!(!is_cached(&service, &job) && !is_cached(&service, &job));
    assert_eq!(metric(&service, "misses_total"), 0);
    assert!(!service.cache().exists());
    service.configure(json!({"cache": {"bytes": 100_000_000}}));
    service.reload_daemon();
    wait_for("the cache to be used", || is_cached(&service, &job));
    service.configure(json!({"cache": {"bytes": 0}}));
    service.reload_daemon();
    wait_for("the cache to be left alone", || !is_cached(&service, &job));
    wait_for_metric(&service, "entries", 0);
}

#[test]
fn old_entries_go_when_there_is_no_room() {
    let service = shell_with(json!({"cache": {"bytes": 300_000, "entry_bytes": 200_000}}));
    let job = |name: &str| compiles(&format!("head -c 120000 /dev/zero > {name}"));
    for (name, stored) in [("a", 1), ("b", 2)] {
        assert!(!is_cached(&service, &job(name)));
        wait_for_metric(&service, "stores_total", stored);
    }
    assert!(is_cached(&service, &job("a")));
    assert!(!is_cached(&service, &job("c")));
    wait_for_metric(&service, "stores_total", 3);
    assert_eq!(metric(&service, "evictions_total"), 1);
    assert!(is_cached(&service, &job("a")), "it was used last");
    assert!(!is_cached(&service, &job("b")), "it had to go");
    assert!(metric(&service, "bytes") <= 300_000);
}

#[test]
fn without_a_directory_jobs_run_all_the_same() {
    let service = shell_with(json!({"cache": {"directory": "/proc/nowhere"}}));
    let job = compiles("true");
    assert!(!is_cached(&service, &job) && !is_cached(&service, &job));
    assert!(metric(&service, "errors_total") > 0);
    assert_eq!(metric(&service, "stores_total"), 0);
}
