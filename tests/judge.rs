//! Judging through the real service: every verdict, who is to blame, what is left out, and that others get their turn.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::thread;

use common::{Service, merge, wait_for};
use serde_json::{Value, json};

/// A program that does what its input says.
const OBEYS: &str = "IFS= read -r -d '' command; eval \"$command\"";

/// A request that has a shell's script judged.
fn request(script: &str, tests: Value) -> Value {
    json!({"runtime": "bash", "files": [{"content": script}], "tests": tests})
}

/// What came of the tests, of a request that must be accepted.
fn judge(service: &Service, request: &Value) -> Value {
    let answer = service.run(request);
    assert_eq!((&answer["status"], &answer["run"]), (&json!("ok"), &Value::Null), "{answer:#}");
    answer["tests"].clone()
}

fn verdicts(tests: &Value) -> Vec<&str> {
    tests["cases"].as_array().unwrap().iter().map(|case| case["verdict"].as_str().unwrap()).collect()
}

/// Cases in each of which this is the input, and nothing is expected.
fn inputs(inputs: &[&str]) -> Value {
    inputs.iter().map(|input| json!({"stdin": input, "expected": ""})).collect()
}

/// The verdict on a program that obeys one command under these limits.
fn verdict_of(service: &Service, command: &str, limits: Value) -> Value {
    let mut request = request(OBEYS, json!({"cases": [{"stdin": command, "expected": "42\n"}]}));
    request["limits"] = limits;
    judge(service, &request)["cases"][0].clone()
}

#[test]
fn every_end_has_its_verdict() {
    let service = Service::start();
    let limits = json!({"wall_time_ms": 20_000, "cpu_time_ms": 1000, "output_bytes": 10_000});
    for (command, verdict, status) in [
        ("echo 42", "accepted", "ok"),
        ("echo 41", "wrong_answer", "ok"),
        ("echo 42; exit 3", "runtime_error", "nonzero_exit"),
        ("echo 42; kill -SEGV $$", "runtime_error", "signalled"),
        ("echo 42; while :; do :; done", "time_limit_exceeded", "cpu_time_exceeded"),
        ("while :; do echo 42; done", "output_limit_exceeded", "output_exceeded"),
    ] {
        let case = verdict_of(&service, command, limits.clone());
        assert_eq!(
            (&case["verdict"], &case["run"]["status"]),
            (&json!(verdict), &json!(status)),
            "{command}: {case:#}"
        );
        assert_eq!(case["points"], if verdict == "accepted" { 1.0 } else { 0.0 });
        assert!(case["run"]["usage"]["wall_time_ms"].as_f64().unwrap() > 0.0, "{case:#}");
    }
    let waits = verdict_of(&service, "read -t 600 < <(sleep 600)", json!({"wall_time_ms": 1500}));
    assert_eq!(
        (&waits["verdict"], &waits["run"]["status"]),
        (&json!("time_limit_exceeded"), &json!("wall_time_exceeded"))
    );
}

#[test]
fn too_much_memory_has_its_verdict() {
    let service = Service::start();
    let mut request = payloads::job("memory.py", &["heap", "160"]);
    let limits = json!({"memory_bytes": 64 << 20, "wall_time_ms": 4000});
    merge(&mut request, json!({"limits": limits, "tests": {"cases": [{"expected": ""}]}}));
    assert_eq!(verdicts(&judge(&service, &request)), ["memory_limit_exceeded"]);
}

#[test]
fn a_wrong_answer_shows_where_it_differs() {
    let service = Service::start();
    let case = verdict_of(&service, "echo 41; echo warned >&2", json!({}));
    assert_eq!((&case["difference"]["line"], &case["reason"]), (&json!(1), &json!("line 1 differs")));
    assert_eq!(case["difference"]["expected"], json!({"data": "42", "encoding": "utf-8"}));
    assert_eq!(case["difference"]["printed"], json!({"data": "41", "encoding": "utf-8"}));
    assert_eq!(case["run"]["stderr"]["data"], "warned\n");
    let accepted = verdict_of(&service, "echo 42; echo warned >&2", json!({}));
    assert_eq!((accepted.get("difference"), accepted["run"].get("stderr")), (None, None));
}

#[test]
fn each_way_of_comparing_accepts_what_it_should() {
    let service = Service::start();
    let printed = ["1 2\n", "1 2", "1 2  \n\n", "1\n2\n", "1.0 2\n", "1 2 3\n"];
    for (compare, accepted) in [
        (json!({"mode": "exact"}), [true, false, false, false, false, false]),
        (json!({"mode": "lines"}), [true, true, true, false, false, false]),
        (Value::Null, [true, true, true, false, false, false]),
        (json!({"mode": "tokens"}), [true, true, true, true, false, false]),
        (json!({"mode": "numbers", "absolute": 1e-6}), [true, true, true, true, true, false]),
    ] {
        let command = |text: &&str| format!("printf %s $'{}'", text.replace('\n', "\\n"));
        let cases: Value = printed.iter().map(|text| json!({"stdin": command(text), "expected": "1 2\n"})).collect();
        let tests = judge(&service, &request(OBEYS, json!({"cases": cases, "compare": compare})));
        let told: Vec<bool> = verdicts(&tests).iter().map(|verdict| *verdict == "accepted").collect();
        assert_eq!(told, accepted, "{compare}");
        assert_eq!(tests["accepted"], accepted.iter().filter(|is| **is).count());
    }
}

#[test]
fn groups_and_points_are_added_up() {
    let service = Service::start();
    let case = |group: &str, points: f64, passes: bool| json!({"stdin": if passes { "" } else { "echo no" }, "expected": "", "group": group, "points": points});
    let cases = json!([
        case("first", 1.0, true), case("first", 1.0, true),
        case("second", 3.0, true), case("second", 1.0, false),
        case("third", 1.0, true),
        {"stdin": "", "expected": "", "points": 2.5, "name": "alone"},
    ]);
    let groups = json!([
        {"name": "first", "points": 10},
        {"name": "second", "points": 20, "scoring": "sum", "needs": ["first"]},
        {"name": "third", "points": 40, "needs": ["second"]},
    ]);
    let tests = judge(&service, &request(OBEYS, json!({"cases": cases, "groups": groups})));
    assert_eq!(verdicts(&tests), ["accepted", "accepted", "accepted", "wrong_answer", "skipped", "accepted"]);
    let points: Vec<f64> =
        tests["groups"].as_array().unwrap().iter().map(|group| group["points"].as_f64().unwrap()).collect();
    assert_eq!(points, [10.0, 15.0, 0.0]);
    assert_eq!((&tests["points"], &tests["points_possible"]), (&json!(27.5), &json!(72.5)));
    assert_eq!((&tests["verdict"], &tests["cases"][5]["name"]), (&json!("wrong_answer"), &json!("alone")));
}

#[test]
fn what_is_skipped_does_not_depend_on_who_is_quicker() {
    let service = Service::start_with(json!({"service": {"concurrency": 4}}));
    // The later a case fails, the sooner it ends.
    let slow = "for ((i = 0; i < 60000; i++)); do :; done; ";
    let commands = ["", &format!("{slow} echo no"), "", "echo no", "exit 1", "", "echo no", ""];
    let case =
        |(index, command): (usize, &&str)| json!({"stdin": command, "expected": "", "group": (index % 2).to_string()});
    let cases: Value = commands.iter().enumerate().map(case).collect();
    for _ in 0..5 {
        let told = |stop: &str| {
            let tests = judge(&service, &request(OBEYS, json!({"cases": cases, "stop": stop})));
            verdicts(&tests).iter().map(|verdict| (*verdict).to_owned()).collect::<Vec<_>>()
        };
        let (ok, wrong, error, skipped) = ("accepted", "wrong_answer", "runtime_error", "skipped");
        assert_eq!(told("at_first"), [ok, wrong, skipped, skipped, skipped, skipped, skipped, skipped]);
        assert_eq!(told("in_group"), [ok, wrong, ok, skipped, error, skipped, skipped, skipped]);
    }
    let tests = judge(&service, &request(OBEYS, json!({"cases": cases})));
    assert!(!verdicts(&tests).contains(&"skipped"));
}

/// A service whose shell is compiled: the script that a job brings makes `run.sh`, which then runs.
fn compiled_shell() -> Service {
    let bash = json!({
        "compile": {"argv": ["{bash}", "--norc", "{main}"], "env": {}},
        "run": {"argv": ["{bash}", "--norc", "run.sh"], "env": {}},
    });
    Service::start_with(json!({"languages": {"bash": bash}}))
}

#[test]
fn a_program_is_compiled_once_with_and_without_the_cache() {
    let service = compiled_shell();
    // Every compilation makes another program.
    let script = "read -r name < /proc/sys/kernel/random/uuid; echo \"echo $name\" > run.sh; echo compiled";
    let cases = inputs(&[""; 8]);
    for cache in [false, true, true] {
        let mut request = request(script, json!({"cases": cases}));
        request["cache"] = json!(cache);
        let answer = service.run(&request);
        assert_eq!((&answer["compile"]["status"], &answer["compile"]["stdout"]), (&json!("ok"), &json!("compiled\n")));
        let cases = answer["tests"]["cases"].as_array().unwrap();
        let printed = |case: &Value| case["difference"]["printed"]["data"].as_str().unwrap().to_owned();
        let first = printed(&cases[0]);
        assert!(first.len() > 30 && cases.iter().all(|case| printed(case) == first), "{answer:#}");
    }
    let twice = service.run(&request(script, json!({"cases": cases})));
    assert_eq!(twice["compile"]["cached"], true);
}

#[test]
fn a_program_that_does_not_compile_is_told_once_and_nothing_is_run() {
    let service = compiled_shell();
    let answer = service.run(&request("echo why >&2; exit 1", json!({"cases": inputs(&["", ""])})));
    assert_eq!((&answer["status"], &answer["compile"]["stderr"]), (&json!("compile_failed"), &json!("why\n")));
    assert_eq!(
        (&answer["tests"]["verdict"], verdicts(&answer["tests"])),
        (&json!("compile_failed"), vec!["skipped"; 2])
    );
    let links = service.run(&request("ln -s /etc/passwd run.sh", json!({"cases": inputs(&[""])})));
    assert_eq!((&links["status"], &links["compile"]["status"]), (&json!("compile_failed"), &json!("disk_exceeded")));
}

#[test]
fn a_real_compiler_serves_as_well() {
    let service = Service::start();
    let source = "#include <stdio.h>\nint main(void) { int a, b; scanf(\"%d %d\", &a, &b); printf(\"%d\\n\", a + b); }";
    let cases: Value = (0..20).map(|n| json!({"stdin": format!("{n} {n}"), "expected": (2 * n).to_string()})).collect();
    let request = json!({"runtime": "c@12", "files": [{"content": source}], "tests": {"cases": cases}});
    let tests = judge(&service, &request);
    assert_eq!((&tests["verdict"], &tests["accepted"]), (&json!("accepted"), &json!(20)));
}

/// Tests of a program that prints its input, by a checker.
fn checked(checker: &str, inputs: &[&str], limits: Value) -> Value {
    let cases: Value =
        inputs.iter().map(|input| json!({"stdin": input, "expected": "the answer", "points": 4})).collect();
    let checker = json!({"runtime": "bash", "files": [{"content": checker}], "limits": limits});
    request("IFS= read -r -d '' all; printf 'printed %s' \"$all\"", json!({"cases": cases, "checker": checker}))
}

#[test]
fn a_checker_gets_its_files_and_its_statuses_mean_what_testlib_says() {
    let service = Service::start();
    // It says with which status it is to end where all is as it should be.
    let checker = "IFS= read -r -d '' in < $1; IFS= read -r -d '' out < $2; IFS= read -r -d '' answer < $3
        [[ $out == \"printed $in\" && $answer == 'the answer' && $# == 3 ]] || exit 99
        echo 'points 1 because' >&2; exit $in";
    let statuses = ["0", "1", "2", "3", "4", "7", "8", "9", "66", "255"];
    let tests = judge(&service, &checked(checker, &statuses, json!({})));
    assert_eq!(
        verdicts(&tests),
        [
            "accepted",
            "wrong_answer",
            "presentation_error",
            "judge_error",
            "presentation_error",
            "partial",
            "presentation_error",
            "judge_error",
            "partial",
            "judge_error",
        ]
    );
    let points: Vec<f64> =
        tests["cases"].as_array().unwrap().iter().map(|case| case["points"].as_f64().unwrap()).collect();
    assert_eq!(points, [4.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0]);
    assert_eq!(tests["verdict"], "judge_error");
    assert_eq!(tests["cases"][1]["message"]["data"], "points 1 because\n");
    assert_eq!(tests["cases"][1]["helper"]["exit_code"], 1);
}

#[test]
fn a_checker_that_breaks_is_to_blame_and_not_the_program() {
    let service = Service::start();
    let limits = json!({"cpu_time_ms": 1000, "wall_time_ms": 8000, "output_bytes": 10_000});
    for (checker, status) in [
        ("while :; do echo loud >&2; done", "output_exceeded"),
        ("while :; do :; done", "cpu_time_exceeded"),
        ("read -t 600 < <(sleep 600)", "wall_time_exceeded"),
        ("kill -SEGV $$", "signalled"),
    ] {
        let tests = judge(&service, &checked(checker, &["x"], limits.clone()));
        let case = &tests["cases"][0];
        assert_eq!((&case["verdict"], &case["helper"]["status"]), (&json!("judge_error"), &json!(status)), "{case:#}");
        assert_eq!(case["run"]["status"], "ok");
        let message = case["message"]["data"].as_str().unwrap_or_default();
        assert!(message.len() <= 1024 && case["reason"].as_str().unwrap().starts_with("the checker: "), "{case:#}");
    }
    // The control: the same program with one that does its work; and one that fails is not looked at.
    assert_eq!(verdicts(&judge(&service, &checked("exit 0", &["x"], limits))), ["accepted"]);
    let mut fails = checked("exit 0", &["x"], json!({}));
    fails["files"][0]["content"] = json!("exit 5");
    let tests = judge(&service, &fails);
    assert_eq!((verdicts(&tests), tests["cases"][0].get("helper")), (vec!["runtime_error"], None));
}

#[test]
fn a_checker_that_does_not_compile_is_a_judges_error() {
    let service = compiled_shell();
    let mut request = checked("echo broken >&2; exit 1", &["x"], json!({}));
    request["files"][0]["content"] = json!("echo 'echo ran' > run.sh");
    let tests = judge(&service, &request);
    assert_eq!((&tests["verdict"], verdicts(&tests)), (&json!("judge_error"), vec!["skipped"]));
    assert_eq!(tests["checker"]["compile"]["stderr"], "broken\n");
}

/// An interactor that has a number guessed, and says after each guess whether it is too low or too high.
const GUESSING: &str = "read -r secret < $1
    for ((tries = 0; tries < 12; tries++)); do
        read -r guess || { echo 'the program is gone' >&2; exit 1; }
        if ((guess == secret)); then echo right; echo 'guessed' >&2; exit 0; fi
        ((guess < secret)) && echo low || echo high
    done
    echo 'too many guesses' >&2; exit 1";

/// A program that guesses well.
const GUESSES: &str = "low=0 high=1000
    while :; do
        ((middle = (low + high) / 2)); echo $middle; read -r said || exit 4
        case $said in right) exit 0;; low) ((low = middle + 1));; high) ((high = middle - 1));; esac
    done";

/// The only case of an interactive problem.
fn interactive(service: &Service, program: &str, interactor: &str, changes: Value) -> Value {
    let interactor = json!({"runtime": "bash", "files": [{"content": interactor}]});
    let mut request = request(program, json!({"cases": [{"stdin": "617\n"}], "interactor": interactor}));
    merge(&mut request, changes);
    judge(service, &request)["cases"][0].clone()
}

#[test]
fn two_programs_talk_to_each_other() {
    let service = Service::start();
    let shows = json!({"tests": {"transcript_bytes": 1000}});
    let case = interactive(&service, GUESSES, GUESSING, shows);
    assert_eq!(case["verdict"], "accepted", "{case:#}");
    let said = case["transcript"]["said"].as_array().unwrap();
    assert_eq!(said[0], json!({"by": "program", "data": "500\n", "encoding": "utf-8"}));
    assert_eq!(said[1], json!({"by": "interactor", "data": "low\n", "encoding": "utf-8"}));
    assert_eq!((&said.last().unwrap()["data"], &case["message"]["data"]), (&json!("right\n"), &json!("guessed\n")));
    assert_eq!((&case["run"]["status"], &case["helper"]["status"]), (&json!("ok"), &json!("ok")));
    let silent = interactive(&service, GUESSES, GUESSING, json!({}));
    assert_eq!((&silent["verdict"], silent.get("transcript")), (&json!("accepted"), None));
}

#[test]
fn many_pairs_go_through_one_slot() {
    let service = Service::start_with(json!({"service": {"concurrency": 1}}));
    let cases: Value = (1..=6).map(|n| json!({"stdin": (n * 150).to_string() + "\n"})).collect();
    let changes = json!({"tests": {"cases": cases}});
    let interactor = json!({"runtime": "bash", "files": [{"content": GUESSING}]});
    let mut request = request(GUESSES, json!({"interactor": interactor}));
    merge(&mut request, changes);
    assert_eq!(verdicts(&judge(&service, &request)), ["accepted"; 6]);
}

#[test]
fn whoever_breaks_a_talk_is_to_blame() {
    let service = Service::start();
    let limits = json!({"wall_time_ms": 3000, "cpu_time_ms": 1000, "output_bytes": 100_000});
    let forever = "read -t 600 < <(sleep 600)";
    let reads = "while read -r line; do :; done";
    let floods = "while :; do echo flood; done";
    for (what, program, interactor, verdict) in [
        ("it guesses badly", "while :; do echo 1; read -r said || exit 0; done", GUESSING, "wrong_answer"),
        ("it says nothing and ends", "exit 0", GUESSING, "wrong_answer"),
        ("it crashes", "kill -SEGV $$", GUESSING, "runtime_error"),
        ("it fails half-way", "echo 1; read -r; exit 3", GUESSING, "runtime_error"),
        ("it waits for what never comes", reads, GUESSING, "time_limit_exceeded"),
        ("it sleeps", forever, GUESSING, "time_limit_exceeded"),
        ("it is busy", "while :; do :; done", GUESSING, "time_limit_exceeded"),
        ("it floods who reads", floods, "while read -r line; do :; done; exit 1", "output_limit_exceeded"),
        (
            "it goes on after it was rejected",
            "echo 1; read -r; while :; do :; done",
            "read -r; echo no; exit 1",
            "wrong_answer",
        ),
        (
            "it goes on after it was accepted",
            "echo 1; read -r; while :; do :; done",
            "read -r; echo ok; exit 0",
            "time_limit_exceeded",
        ),
        (
            "it writes to one that has ended",
            "trap '' EXIT; echo 1; while echo 2; do :; done; exit 0",
            "read -r; exit 1",
            "wrong_answer",
        ),
        ("the interactor crashes", reads, "kill -SEGV $$", "judge_error"),
        ("the interactor fails", reads, "exit 3", "judge_error"),
        ("the interactor is busy", "echo 1; read -r", "while :; do :; done", "judge_error"),
        ("the interactor does not listen", "echo 1; read -r", forever, "judge_error"),
        ("the interactor floods who reads", reads, floods, "judge_error"),
        ("the interactor does not end", "echo 1", &format!("read -r; {forever}"), "judge_error"),
        ("neither reads", floods, floods, "output_limit_exceeded|time_limit_exceeded|judge_error"),
    ] {
        let changes = json!({"limits": limits, "tests": {"interactor": {"limits": limits}}});
        let case = interactive(&service, program, interactor, changes);
        let told = case["verdict"].as_str().unwrap();
        assert!(verdict.split('|').any(|verdict| verdict == told), "{what}: {case:#}");
    }
}

#[test]
fn one_that_closes_its_output_and_sleeps_does_not_spoil_the_judging() {
    let service = Service::start();
    let changes = json!({"limits": {"wall_time_ms": 1500}});
    let sleeps = "echo x; exec 1>&-; sleep 100";
    for (interactor, verdict) in [
        ("read -r said; while read -r; do :; done; exit 1", "wrong_answer"),
        // It has taken its time, and has read nothing.
        ("for ((i = 0; i < 30000; i++)); do :; done; exit 1", "wrong_answer"),
        ("read -r said; while read -r; do :; done; exit 0", "time_limit_exceeded"),
        ("read -r said; while read -r; do :; done; exit 3", "judge_error"),
    ] {
        let case = interactive(&service, sleeps, interactor, changes.clone());
        assert_eq!(case["verdict"], verdict, "{interactor}: {case:#}");
        assert_eq!(case["run"]["status"], "wall_time_exceeded", "{interactor}: {case:#}");
    }
}

#[test]
fn an_interactor_that_ignores_the_signal_of_a_broken_pipe_is_not_to_blame() {
    let service = Service::start();
    // It waits until nobody can be there any more. CPython ends with 120 where it could not print all.
    let python = |end: &str| {
        json!({"tests": {"interactor": {"runtime": "python@3.11", "files": [{"content": format!(
            "import os, sys\n\
             while sys.stdin.read(): pass\n\
             try:\n    for n in range(100): print('x' * 5000, flush=True)\n\
             except BrokenPipeError: print('nobody', file=sys.stderr, flush=True); {end}\n"
        )}]}}})
    };
    for (program, end, verdict) in [
        ("exit 0", "os._exit(120)", "wrong_answer"),
        ("exit 0", "raise", "wrong_answer"),
        ("exit 4", "os._exit(120)", "runtime_error"),
        ("exit 0", "os._exit(3)", "judge_error"),
    ] {
        let case = interactive(&service, program, "", python(end));
        assert_eq!(case["message"]["data"].as_str().unwrap().lines().next(), Some("nobody"), "{case:#}");
        assert_eq!(case["verdict"], verdict, "{program}, {end}: {case:#}");
    }
}

#[test]
fn one_that_writes_to_one_that_has_ended_gets_the_signal_of_a_broken_pipe() {
    let service = Service::start();
    let case = interactive(&service, "while :; do echo 2 || exit 9; done", "read -r; exit 0", json!({}));
    assert_eq!((&case["verdict"], &case["run"]["signal"]), (&json!("runtime_error"), &json!("SIGPIPE")), "{case:#}");
    let case = interactive(&service, "read -r; exit 0", "while :; do echo 2 || exit 9; done", json!({}));
    assert_eq!((&case["verdict"], &case["helper"]["signal"]), (&json!("wrong_answer"), &json!("SIGPIPE")), "{case:#}");
}

#[test]
fn a_program_and_its_interactor_see_nothing_of_each_other() {
    let service = Service::start();
    // The secret is in a file of the interactor's, and so is a name that only its sandbox has.
    let peeks = "shopt -s dotglob nullglob; for f in judge/* /workspace/judge/* /tmp/secret; do [[ -e $f ]] && echo \"$f\"; done; echo none; exit 0";
    let hides =
        "echo 1 > /tmp/secret; read -r seen; echo \"$seen\" >&2; [[ -e $1 && $seen == none ]] && exit 0 || exit 1";
    let case = interactive(&service, peeks, hides, json!({}));
    assert_eq!(case["verdict"], "accepted", "{case:#}");
}

#[test]
fn too_many_cases_are_refused() {
    let service = Service::start();
    let refused = |count: usize| {
        let answer = service.post(&request("true", json!({"cases": vec![json!({"expected": ""}); count]})));
        (answer.status, answer.json()["field"].clone(), answer.json()["allowed"]["maximum"].clone())
    };
    for count in [1001, 10_000] {
        assert_eq!(refused(count), (422, json!("tests.cases"), json!(1000)));
    }
    let few = Service::start_with(json!({"service": {"cases": 2}}));
    assert_eq!(verdicts(&judge(&few, &request("true", json!({"cases": inputs(&["", ""])})))), ["accepted"; 2]);
    assert_eq!(few.post(&request("true", json!({"cases": inputs(&["", "", ""])}))).status, 422);
}

#[test]
fn a_full_queue_is_waited_for() {
    let changes = json!({"service": {"concurrency": 1, "queue_length": 1, "queue_length_per_client": 1}});
    let service = Service::start_with(changes);
    let tests = judge(&service, &request(OBEYS, json!({"cases": inputs(&[""; 12])})));
    assert_eq!(verdicts(&tests), ["accepted"; 12]);
    // What can't even begin is refused, as any other.
    let tests = judge(&service, &checked("exit 0", &["x"; 6], json!({})));
    assert_eq!(verdicts(&tests), ["accepted"; 6]);
}

#[test]
fn what_is_shown_is_bounded_in_all() {
    let service = Service::start();
    let loud = "printf '%0300d' 1; printf '%0900d' 2 >&2";
    let cases: Value = (0..600).map(|_| json!({"stdin": "", "expected": "3".repeat(300)})).collect();
    let answer = service.post(&request(loud, json!({"cases": cases})));
    assert!(answer.body.len() < 1 << 20, "{}", answer.body.len());
    let tests = &answer.json()["tests"];
    let (first, last) = (&tests["cases"][0], &tests["cases"][599]);
    assert_eq!((first.get("cut"), &last["cut"]), (None, &json!(true)));
    assert_eq!(first["difference"]["printed"]["data"].as_str().unwrap().len(), 256);
    assert_eq!(first["run"]["stderr"]["data"].as_str().unwrap().len(), 256);
    assert_eq!((last["difference"].get("printed"), last["run"].get("stderr")), (None, None));
    assert_eq!(last["verdict"], "wrong_answer");
}

/// An answer in pieces, while it comes.
struct Stream {
    reader: BufReader<UnixStream>,
}

impl Stream {
    fn of(service: &Service, request: &Value) -> Self {
        let mut socket = UnixStream::connect(service.socket()).unwrap();
        let body = request.to_string();
        write!(
            socket,
            "POST /v1/run HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             accept: application/x-ndjson\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        Self { reader: BufReader::new(socket) }
    }

    /// The next event; none at the end.
    fn next(&mut self) -> Option<Value> {
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).unwrap() == 0 {
                return None;
            }
            if line.starts_with('{') {
                return Some(serde_json::from_str(&line).unwrap());
            }
            if line.trim() == "0" {
                return None;
            }
        }
    }

    fn until(&mut self, event: &str) -> Value {
        std::iter::from_fn(|| self.next()).find(|next| next["event"] == event).unwrap()
    }
}

#[test]
fn each_case_is_told_in_its_turn() {
    let service = Service::start_with(json!({"service": {"concurrency": 4}}));
    let slow = "for ((i = 0; i < 30000; i++)); do :; done";
    let cases = inputs(&[slow, "", slow, "", "", "", slow, ""]);
    let mut stream = Stream::of(&service, &request(OBEYS, json!({"cases": cases})));
    let events: Vec<Value> = std::iter::from_fn(|| stream.next()).collect();
    assert_eq!(events[0]["event"], "started");
    let told: Vec<&Value> =
        events.iter().filter(|event| event["event"] == "case").map(|event| &event["case"]).collect();
    assert_eq!(told.iter().map(|case| case["index"].as_u64().unwrap()).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    let finished = events.last().unwrap();
    assert_eq!((&finished["event"], &finished["id"]), (&json!("finished"), &events[0]["id"]));
    assert_eq!(finished["tests"]["cases"].as_array().unwrap().iter().collect::<Vec<_>>(), told);
}

#[test]
fn judging_can_be_cancelled_in_the_middle() {
    let service = Service::start_with(json!({"service": {"concurrency": 2}}));
    let forever = "read -t 600 < <(sleep 600)";
    let tests = json!({"cases": inputs(&["", "", forever, forever, forever, forever])});
    let mut stream = Stream::of(&service, &request(OBEYS, tests.clone()));
    let id = stream.until("started")["id"].as_str().unwrap().to_owned();
    stream.until("case");
    stream.until("case");
    assert_eq!(service.request("DELETE", &format!("/v1/runs/{id}"), &[], "").status, 204);
    let finished = stream.until("finished");
    assert_eq!((&finished["status"], &finished["tests"]["verdict"]), (&json!("cancelled"), &json!("cancelled")));
    assert_eq!(verdicts(&finished["tests"]), ["accepted", "accepted", "skipped", "skipped", "skipped", "skipped"]);
    assert_eq!(service.request("DELETE", &format!("/v1/runs/{id}"), &[], "").status, 404);
    service.assert_no_sandbox();
    // So does hanging up.
    let mut stream = Stream::of(&service, &request(OBEYS, tests));
    stream.until("case");
    drop(stream);
    service.assert_no_sandbox();
    let idle = || {
        let health = service.request("GET", "/health", &[], "").json();
        (health["running"].as_u64(), health["queued"].as_u64()) == (Some(0), Some(0))
    };
    wait_for("nothing to run or wait", idle);
}

#[test]
fn others_get_their_turn_while_many_cases_are_judged() {
    let service = Service::start_with(json!({"service": {"concurrency": 2}}));
    let slow = "for ((i = 0; i < 3000; i++)); do :; done";
    let tests = json!({"cases": inputs(&vec![slow; 300])});
    let mut stream = Stream::of(&service, &request(OBEYS, tests));
    stream.until("case");
    thread::scope(|scope| {
        let other = scope.spawn(|| service.run_source("bash", "echo mine"));
        assert_eq!(other.join().unwrap()["run"]["stdout"], "mine\n");
    });
    // It was not the last to end.
    let left = std::iter::from_fn(|| stream.next()).filter(|event| event["event"] == "case").count();
    assert!(left > 50, "{left}");
}

/// What a program that looks for others found in each case, and in which sandbox. Each ends with a wrong answer, which
/// shows it, but for those that do not end.
fn found_in(service: &Service, commands: &[&str]) -> Vec<(String, Value)> {
    let mut request = payloads::job("renewed.py", &[]);
    let cases: Value = commands.iter().map(|command| json!({"stdin": command, "expected": "?"})).collect();
    merge(&mut request, json!({"limits": {"cpu_time_ms": 1000}, "tests": {"cases": cases}}));
    let tests = judge(service, &request);
    let printed = |case: &Value| case["difference"]["printed"]["data"].as_str().map(str::to_owned);
    let found = |case| {
        let printed: String = printed(case).unwrap_or_else(|| panic!("{case:#}"));
        let (sandbox, found) = printed.split_once(' ').unwrap();
        (sandbox.to_owned(), serde_json::from_str(found).unwrap_or_else(|error| panic!("{error}: {found}")))
    };
    let in_time = |case: &&Value| case["verdict"] != "time_limit_exceeded";
    tests["cases"].as_array().unwrap().iter().filter(in_time).map(found).collect()
}

fn without_mounts(found: &Value) -> Value {
    let mut found = found.clone();
    found["mounts"].take();
    found
}

#[test]
fn no_case_finds_anything_of_another_though_they_share_a_sandbox() {
    let service = Service::start_with(json!({"service": {"concurrency": 1}, "pool": {"warm": false}}));
    let all = found_in(&service, &["", "", "", "again", "", ""]);
    // Control: it was one sandbox, and what a program leaves can be seen.
    assert!(all.iter().all(|(sandbox, _)| *sandbox == all[0].0), "{all:#?}");
    let again = &all[3].1;
    assert_eq!(again["files"], json!([["deep", "left"], ["deep", "left"], ["deep", "left"]]));
    assert_eq!(again["modes"], json!(["0o711", "0o711", "0o711"]));
    assert_eq!((&again["objects"], &again["taken"]), (&json!([0, 0, 0]), &json!(1)));
    assert_eq!((&again["sockets"], &all[0].1["sockets"]), (&json!(1), &json!(0)));
    assert!(again["processes"].as_u64() > all[0].1["processes"].as_u64(), "{again}");
    for (index, (_, found)) in all.iter().enumerate().filter(|(index, _)| *index != 3) {
        assert_eq!(*found, all[0].1, "case {index}");
    }
    // One of few cases has a sandbox of its own, which differs in its ids alone.
    let (place, alone) = found_in(&service, &[""]).remove(0);
    assert_ne!(place, all[0].0);
    assert_eq!(without_mounts(&alone), without_mounts(&all[0].1));
    // What can't be let go at once is no reason to find it.
    for commands in [["hold", "hold", "spin", "hold", "", ""], ["plant", "plant", "plant", "plant", "plant", ""]] {
        for (_, found) in found_in(&service, &commands) {
            assert_eq!(without_mounts(&found), without_mounts(&alone), "{commands:?}");
        }
    }
    service.assert_no_sandbox();
}

/// The id of a file that is uploaded now.
fn upload(service: &Service, bytes: &str) -> String {
    let answer = service.request("POST", "/v1/files", &[], bytes);
    assert!([200, 201].contains(&answer.status), "{:?}", answer.body);
    answer.json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_file_is_uploaded_once_and_named_in_many_cases() {
    let service = Service::start();
    let (input, expected) = (upload(&service, "echo 42"), upload(&service, "42\n"));
    assert_eq!(service.request("POST", "/v1/files", &[], "echo 42").status, 200);
    let case = json!({"stdin_file": input, "expected_file": expected});
    let tests = judge(&service, &request(OBEYS, json!({"cases": vec![case.clone(); 5]})));
    assert_eq!(verdicts(&tests), ["accepted"; 5]);
    let other = json!({"stdin_file": expected, "expected": "42"});
    assert_eq!(verdicts(&judge(&service, &request(OBEYS, json!({"cases": [other]})))), ["runtime_error"]);
    let listed = service.request("GET", "/v1/files", &[], "").json();
    assert_eq!(listed["files"].as_array().unwrap().len(), 2, "{listed}");
    let path = format!("/v1/files/{input}");
    assert_eq!(&service.request("GET", &path, &[], "").body[..], b"echo 42");
    assert_eq!(service.request("HEAD", &path, &[], "").headers["content-length"], "7");
    assert_eq!(service.request("DELETE", &path, &[], "").status, 204);
    for method in ["GET", "DELETE"] {
        assert_eq!(service.request(method, &path, &[], "").status, 404);
    }
    let gone = service.post(&request(OBEYS, json!({"cases": [case]})));
    assert_eq!((gone.status, &gone.json()["field"]), (422, &json!("tests.cases[0].stdin_file")));
}

#[test]
fn an_uploaded_file_is_a_file_or_the_input_of_any_run() {
    let service = Service::start();
    let (library, input) = (upload(&service, "answer=42"), upload(&service, "how much?\n"));
    let files = json!([
        {"content": "read -r line; . ./library; echo $line $answer"}, {"path": "library", "content_file": library},
    ]);
    let mut run = json!({"runtime": "bash", "files": files, "stdin_file": input});
    assert_eq!(service.run(&run)["run"]["stdout"], "how much? 42\n");
    // Of a checker as well.
    let checker = json!({"runtime": "bash", "files": [
        {"content": ". ./library; grep -qx $answer $2 || exit 1"}, {"path": "library", "content_file": library},
    ]});
    let cases = json!([{"stdin": "echo 42"}, {"stdin": "echo 41"}]);
    let tests = judge(&service, &request(OBEYS, json!({"cases": cases, "checker": checker})));
    assert_eq!(verdicts(&tests), ["accepted", "wrong_answer"]);
    run["files"][1]["content_file"] = json!("sha256-00");
    let refused = service.post(&run);
    assert_eq!((refused.status, &refused.json()["field"]), (422, &json!("files[1].content_file")));
}

#[test]
fn a_file_is_good_for_its_client_alone() {
    if !payloads::is_root() {
        return common::skip("one can be another client only as root");
    }
    let service = Service::start();
    let mine = upload(&service, "secret");
    std::fs::set_permissions(service.socket(), std::os::unix::fs::PermissionsExt::from_mode(0o666)).unwrap();
    let as_another = |method: &str, path: &str, body: &str| {
        use std::os::unix::process::CommandExt;
        let mut curl = std::process::Command::new("curl");
        curl.args(["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", method, "--unix-socket"]).arg(service.socket());
        curl.args(["--data-binary", body]).arg(format!("http://localhost{path}")).uid(61_237).gid(61_237);
        String::from_utf8(curl.output().unwrap().stdout).unwrap()
    };
    let path = format!("/v1/files/{mine}");
    assert_eq!(service.request("GET", &path, &[], "").status, 200);
    assert_eq!((as_another("GET", &path, ""), as_another("DELETE", &path, "")), ("404".to_owned(), "404".to_owned()));
    // That it is there is not to be told from what an upload is answered with either.
    assert_eq!(as_another("POST", "/v1/files", "secret"), "201");
    assert_eq!((as_another("GET", &path, ""), as_another("DELETE", &path, "")), ("200".to_owned(), "204".to_owned()));
    assert_eq!(service.request("GET", &path, &[], "").status, 200);
}

#[test]
fn files_have_bounds() {
    let service = Service::start_with(json!({"service": {"uploads_bytes_per_client": 8192, "body_bytes": 10_000}}));
    let sent = |bytes: &str| service.request("POST", "/v1/files", &[], bytes).status;
    assert_eq!((sent("1"), sent("2"), sent("3"), sent("1")), (201, 201, 507, 200));
    assert_eq!(sent(&"x".repeat(10_001)), 413);
    let none = Service::start_with(json!({"service": {"uploads_bytes": 0}}));
    assert_eq!(none.request("POST", "/v1/files", &[], "1").status, 503);
    for path in ["/v1/files/sha256-", "/v1/files/..%2f..%2fetc", "/v1/files/%ff"] {
        assert_eq!(service.request("GET", path, &[], "").status, 404, "{path}");
    }
}

#[test]
fn the_documented_request_is_answered_as_documented() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/JUDGING.md")).unwrap();
    let (_, rest) = page.split_once("-d '").unwrap();
    let request: Value = serde_json::from_str(rest.split_once("'\n```").unwrap().0).unwrap();
    let service = Service::start();
    let tests = judge(&service, &request);
    let (_, rest) = page.split_once("```json\n\"tests\": ").unwrap();
    let documented: Value = serde_json::from_str(rest.split_once("```").unwrap().0).unwrap();
    for key in ["verdict", "points", "points_possible", "accepted", "groups"] {
        assert_eq!(tests[key], documented[key], "{key}");
    }
    for (case, documented) in
        std::iter::zip(tests["cases"].as_array().unwrap(), documented["cases"].as_array().unwrap())
    {
        let keys = |case: &Value| case.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(case), keys(documented));
        for key in ["index", "verdict", "points", "reason", "difference"] {
            assert_eq!(case.get(key), documented.get(key), "{key}");
        }
    }
}
