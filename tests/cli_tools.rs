//! The commands beside `run` as their users meet them: runtimes, doctor, bench, completions, man.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// The program, with no daemon in reach and nothing on its input.
fn codesandbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codesandbox"));
    command.args(arguments).env_remove("CODESANDBOX_SOCKET").stdin(Stdio::null());
    command
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

#[test]
fn wrong_usage_is_never_taken_for_the_program() {
    for arguments in [
        &["run"][..],
        &["run", "a.py", "--no-such-option"],
        &["run", "a.py", "--limit", "ram=1G"],
        &["run", "no-such-file.py"],
        &["run", "--embedded", "--socket", "x", "a.py"],
        &["no-such-command"],
    ] {
        let output = codesandbox(arguments).output().unwrap();
        assert_eq!((status(&output), output.stdout.len()), (125, 0), "{arguments:?}");
        assert!(!output.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn runtimes_are_listed_and_tested() {
    let output = codesandbox(&["runtimes", "--embedded", "--json"]).output().unwrap();
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(list["runtimes"].as_array().unwrap().iter().any(|runtime| runtime["language"] == "bash"), "{list}");
    let output = codesandbox(&["runtimes", "--embedded", "--check", "bash"]).output().unwrap();
    let table = text(&output.stdout);
    assert!(table.lines().count() == 2 && table.contains("works"), "{output:?}");
    assert_eq!(status(&output), 0);
    let output = codesandbox(&["runtimes", "--embedded", "--check", "klingon"]).output().unwrap();
    assert_eq!(status(&output), 125, "{output:?}");
}

#[test]
fn sizes_of_store_paths_are_told_with_what_each_version_adds() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    for (name, bytes) in [("bash-1", 100), ("bash-2", 30), ("libc", 1000)] {
        std::fs::create_dir(path(name)).unwrap();
        std::fs::write(directory.path().join(name).join("bash"), vec![b'x'; bytes]).unwrap();
    }
    let entry = |version: &str, name: &str| {
        let program = format!("{}/bash", path(name));
        json!({"language": "bash", "version": version, "programs": {"bash": program}, "path": [],
               "closure": [path(name), path("libc")], "closure_bytes": 0})
    };
    let manifest = json!({"runtimes": [entry("5.1", "bash-1"), entry("5.2", "bash-2")]});
    std::fs::write(path("runtimes.json"), manifest.to_string()).unwrap();
    let config = json!({"runtimes": {"manifest": path("runtimes.json")}});
    std::fs::write(path("config.json"), config.to_string()).unwrap();

    let output = codesandbox(&["runtimes", "--sizes", "--json", "--config", &path("config.json")]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!((&report["total_bytes"], &report["shared_bytes"]), (&json!(1130), &json!(1000)));
    let of = |source: &str| {
        let all = report["runtimes"].as_array().unwrap().iter();
        let chosen = all.filter(|size| size["language"] == "bash" && size["source"] == source);
        chosen.map(|size| (size["closure_bytes"].clone(), size["added_bytes"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(of("store"), [(json!(1100), json!(100)), (json!(1030), json!(30))]);
    assert!(of("host").iter().all(|sizes| *sizes == (Value::Null, Value::Null)), "{report}");

    let output = codesandbox(&["runtimes", "--sizes", "--config", &path("config.json")]).output().unwrap();
    let table = text(&output.stdout);
    assert!(table.contains("bash@5.1") && table.contains("all together"), "{output:?}");
    assert!(!table.contains("RUNS"), "nothing has run: {table}");
    let output = codesandbox(&["runtimes", "--sizes", "--check"]).output().unwrap();
    assert_eq!(status(&output), 125);
}

#[test]
fn all_runtimes_can_be_tested_at_once() {
    let output = codesandbox(&["runtimes", "--embedded", "--json"]).output().unwrap();
    let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
    let output = codesandbox(&["runtimes", "--embedded", "--json", "--check"]).output().unwrap();
    let tested: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let (listed, tested) = (listed["runtimes"].as_array().unwrap(), tested["runtimes"].as_array().unwrap());
    assert_eq!(listed.len(), tested.len());
    for runtime in tested {
        assert_ne!(runtime["health"]["state"], "unchecked", "a test ends in one of two ways: {runtime}");
    }
    let broken = tested.iter().any(|runtime| runtime["health"]["state"] == "broken");
    assert_eq!(status(&output), i32::from(broken));
}

#[test]
fn doctor_says_the_same_in_words_in_json_and_by_its_status() {
    let output = codesandbox(&["doctor", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = match report["verdict"].as_str().unwrap() {
        "usable" => 0,
        "degraded" => 1,
        _ => 2,
    };
    assert_eq!(status(&output), expected, "{report}");
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        let lacks = matches!(check["state"].as_str().unwrap(), "missing" | "degraded");
        assert_eq!(check["remedy"].is_object(), lacks, "{check}");
    }
    let words = codesandbox(&["doctor"]).output().unwrap();
    assert_eq!(status(&words), expected);
    for check in checks {
        assert!(text(&words.stdout).contains(check["name"].as_str().unwrap()), "{check}");
    }
}

#[test]
fn a_bench_compares_the_service_with_the_bare_machine() {
    let common = ["bench", "--embedded", "--requests", "6", "--warmup", "1", "--json"];
    for (more, clients, mode, shape) in [
        (&["--program", "bash"][..], 1, "closed", "sequential"),
        (&["--program", "true", "--clients", "2", "--keep-alive", "--shape", "burst"], 2, "closed", "burst"),
        (&["--program", "bash", "--clients", "2", "--mode", "open", "--rate", "40"], 2, "open", "sequential"),
    ] {
        let output = codesandbox(&common).args(more).output().unwrap();
        assert_eq!(status(&output), 0, "{output:?}");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(report["service"], "embedded");
        let measured = &report["measurements"][0];
        assert_eq!(
            (&measured["clients"], &measured["mode"], &measured["shape"]),
            (&json!(clients), &json!(mode), &json!(shape))
        );
        let contenders = measured["contenders"].as_array().unwrap();
        assert!(contenders.len() >= 3 && contenders[0]["name"] == "codesandbox", "{measured}");
        for contender in contenders {
            assert_eq!(
                (&contender["latency_ms"]["count"], &contender["errors"]),
                (&json!(6), &json!({})),
                "{contender}"
            );
        }
    }
}

#[test]
fn a_bench_tells_in_a_table_and_refuses_what_makes_no_sense() {
    let arguments = ["bench", "--embedded", "--program", "bash", "--requests", "2", "--warmup", "0"];
    let output = codesandbox(&arguments).output().unwrap();
    let table = text(&output.stdout);
    for part in ["P50", "P99", "× BARE", "PER SECOND", "bare bash", "bare true, fork"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    assert!(output.stderr.is_empty(), "no progress where nobody looks: {output:?}");
    for wrong in [["--clients", "65"], ["--clients", "0"], ["--rate", "0"], ["--requests", "0"], ["--program", "cobol"]]
    {
        let output = codesandbox(&["bench", "--embedded"]).args(wrong).output().unwrap();
        assert_eq!((status(&output), output.stdout.len()), (125, 0), "{wrong:?}");
    }
    let output = codesandbox(&["bench", "--socket", "/nowhere.sock"]).output().unwrap();
    assert!(status(&output) == 125 && text(&output.stderr).contains("/nowhere.sock"), "{output:?}");
}

#[test]
fn a_program_is_judged_by_pairs_of_files() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("twice.sh", "read -r n; echo $((2 * n))");
    std::fs::create_dir(directory.path().join("tests")).unwrap();
    for (name, text) in [("1.in", "1"), ("1.out", "2\n"), ("2.in", "2"), ("2.ans", "4"), ("10.in", "3"), ("10.a", "6")]
    {
        write(&format!("tests/{name}"), text);
    }
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (program, tests) = (path("twice.sh"), path("tests"));
    let arguments = ["run", "--embedded", &program, "--tests", &tests];
    let output = codesandbox(&arguments).output().unwrap();
    let told = text(&output.stdout);
    assert_eq!(status(&output), 0, "{told} {}", text(&output.stderr));
    let names: Vec<&str> = told.lines().skip(1).take(3).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(names, ["1", "2", "10"], "{told}");
    assert!(told.ends_with("accepted: 3 of 3 cases, 3 of 3 points\n"), "{told}");
    write("tests/2.ans", "5");
    let output = codesandbox(&[&arguments[..], &["--stop", "--compare", "tokens"]].concat()).output().unwrap();
    let told = text(&output.stdout);
    assert!(status(&output) == 1 && told.contains("wrong_answer") && told.contains("skipped"), "{told}");
    let output = codesandbox(&[&arguments[..], &["--json"]].concat()).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((status(&output), &answer["tests"]["accepted"]), (1, &json!(2)));
    write("tests/3.in", "");
    let output = codesandbox(&arguments).output().unwrap();
    assert!(status(&output) == 125 && text(&output.stderr).contains("3.out"), "{output:?}");
    let output = codesandbox(&[&arguments[..], &["--stdin", "x"]].concat()).output().unwrap();
    assert_eq!(status(&output), 125);
}

#[test]
fn completions_and_manual_pages_are_generated() {
    for shell in ["bash", "zsh", "fish"] {
        let output = codesandbox(&["completions", shell]).output().unwrap();
        assert!(text(&output.stdout).contains("compile-limit"), "{shell}");
    }
    let directory = tempfile::tempdir().unwrap();
    let man = directory.path().join("man1");
    assert!(codesandbox(&["man", man.to_str().unwrap()]).status().unwrap().success());
    for page in
        ["codesandbox.1", "codesandbox-run.1", "codesandbox-doctor.1", "codesandbox-runtimes.1", "codesandbox-bench.1"]
    {
        let page = std::fs::read_to_string(man.join(page)).unwrap();
        assert!(page.len() > 200, "{page}");
    }
    let run = std::fs::read_to_string(man.join("codesandbox-run.1")).unwrap();
    assert!(run.contains("memory_exceeded"), "the exit statuses are in the manual page");
}
