//! Every status with a program that brings it about, and what a submission may ask for.

use super::*;

#[track_caller]
fn assert_status(done: &Value, id: u64, description: &str) {
    assert_eq!(done["status"], json!({"id": id, "description": description}), "{done}");
    assert_eq!(done["status_id"], id);
}

#[test]
fn every_end_has_its_status() {
    let service = service(&json!({}));
    for (submission, id, description, message) in [
        (bash("echo hello"), 3, "Accepted", json!(null)),
        (with(bash("echo hello"), json!({"expected_output": "hello  \n\n"})), 3, "Accepted", json!(null)),
        (with(bash("echo hello"), json!({"expected_output": "other"})), 4, "Wrong Answer", json!(null)),
        (
            with(bash("while :; do :; done"), json!({"cpu_time_limit": 0.2, "cpu_extra_time": 0})),
            5,
            "Time Limit Exceeded",
            json!("Time limit exceeded"),
        ),
        (
            with(bash("sleep 60"), json!({"wall_time_limit": 1})),
            5,
            "Time Limit Exceeded",
            json!("Time limit exceeded (wall clock)"),
        ),
        (bash("kill -SEGV $$"), 7, "Runtime Error (SIGSEGV)", json!("Caught fatal signal 11")),
        (bash("kill -FPE $$"), 9, "Runtime Error (SIGFPE)", json!("Caught fatal signal 8")),
        (bash("kill -ABRT $$"), 10, "Runtime Error (SIGABRT)", json!("Caught fatal signal 6")),
        (bash("exit 3"), 11, "Runtime Error (NZEC)", json!("Exited with error status 3")),
        (bash("kill -TERM $$"), 12, "Runtime Error (Other)", json!("Caught fatal signal 15")),
        (
            with(bash("while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done"), json!({"max_file_size": 64})),
            8,
            "Runtime Error (SIGXFSZ)",
            json!("Caught fatal signal 25"),
        ),
    ] {
        let done = run(&service, &submission);
        assert_status(&done, id, description);
        assert_eq!(done["message"], message, "{done}");
    }
    let done = run(&service, &bash("echo out; echo err >&2; exit 3"));
    assert_eq!((&done["stdout"], &done["stderr"]), (&json!("out\n"), &json!("err\n")));
    assert_eq!((&done["exit_code"], &done["exit_signal"]), (&json!(3), &json!(null)));
    for field in ["time", "wall_time", "cpu_time_limit"] {
        let text = done[field].as_str().unwrap();
        assert!(text.contains('.') && text.parse::<f64>().is_ok(), "{field} is {text}");
    }
    assert!(done["memory"].as_u64() > Some(0) && done["finished_at"].as_str().unwrap().ends_with('Z'), "{done}");
}

#[test]
fn a_compiler_has_its_say() {
    let service = service(&json!({}));
    let c = |source: &str| json!({"language_id": 50, "source_code": source});
    let done = run(&service, &c("int main(void) { return x; }"));
    assert_status(&done, 6, "Compilation Error");
    assert!(done["compile_output"].as_str().unwrap().contains("error"), "{done}");
    for field in ["stdout", "stderr", "time", "wall_time", "memory", "exit_code", "message"] {
        assert_eq!(done[field], json!(null), "{field}");
    }
    let options = json!({"compiler_options": "-DGREETING=5 -Wall", "command_line_arguments": "a 'b c' | d"});
    let source = "#include <stdio.h>\nint main(int n, char **v) { int unused; printf(\"%d %d %s\\n\", GREETING, n, v[2]); return 0; }";
    let done = run(&service, &with(c(source), options));
    assert_status(&done, 3, "Accepted");
    assert_eq!(done["stdout"], "5 4 b c\n");
    assert!(done["compile_output"].as_str().unwrap().contains("unused"), "{done}");
}

#[test]
fn a_compiler_that_takes_too_long_says_so() {
    let profile = json!({"profiles": {"default": {"compile": {"wall_time_ms": 5}}}, "judge0": {"enable": true}});
    let service = Service::start_with(profile);
    let done = run(&service, &json!({"language_id": 54, "source_code": "#include <bits/stdc++.h>\nint main() {}"}));
    assert_status(&done, 6, "Compilation Error");
    assert_eq!(done["compile_output"], "Compilation time limit exceeded.");
}

#[test]
fn what_cannot_be_executed_has_its_status() {
    let service = service(&json!({}));
    let executable = |bytes: &[u8]| json!({"language_id": 44, "source_code": encoded(bytes)});
    let wait = "/submissions?wait=true&base64_encoded=true";
    let done = post(&service, wait, &executable(b"\x7fELFnothing\xff")).json();
    assert_eq!(done["status"], json!({"id": 14, "description": "Exec Format Error"}), "{done}");
    let script = with(executable(b"#!/bin/sh\necho \"$1\"\n"), json!({"command_line_arguments": "fine"}));
    let done = post(&service, wait, &script).json();
    assert_eq!((&done["status"]["id"], &done["stdout"]), (&json!(3), &json!("ZmluZQo=\n")), "{done}");
    let done = run(&service, &json!({"language_id": 43, "source_code": "plain $HOME"}));
    assert_eq!((&done["status"]["id"], &done["stdout"]), (&json!(3), &json!("plain $HOME")));
}

#[test]
fn standard_error_goes_where_it_is_wanted() {
    let service = service(&json!({}));
    let source = "echo 1; echo 2 >&2; echo 3; echo 4 >&2";
    let done = run(&service, &bash(source));
    assert_eq!((&done["stdout"], &done["stderr"]), (&json!("1\n3\n"), &json!("2\n4\n")));
    let done = run(&service, &with(bash(source), json!({"redirect_stderr_to_stdout": true})));
    assert_eq!((&done["stdout"], &done["stderr"]), (&json!("1\n2\n3\n4\n"), &json!(null)));
}

#[test]
fn it_runs_as_often_as_it_is_to_and_stops_where_it_fails() {
    let service = service(&json!({}));
    let done = run(&service, &with(bash("read -r word; echo $word"), json!({"stdin": "hi", "number_of_runs": 3})));
    assert_eq!(
        (&done["status"]["id"], &done["stdout"], &done["number_of_runs"]),
        (&json!(3), &json!("hi\n"), &json!(3))
    );
    let runs = |service: &Service| {
        let metrics = service.request("GET", "/metrics", &[], "");
        let text = String::from_utf8(metrics.body.to_vec()).unwrap();
        let line =
            text.lines().find(|line| line.starts_with("codesandbox_client_started_jobs_total{")).unwrap().to_owned();
        line.rsplit_once(' ').unwrap().1.parse::<u64>().unwrap()
    };
    assert_eq!(runs(&service), 3);
    let done = run(&service, &with(bash("exit 1"), json!({"number_of_runs": 3})));
    assert_eq!((&done["status"]["id"], runs(&service)), (&json!(11), 4));
}

#[test]
fn bytes_that_are_no_text_need_base64() {
    let service = service(&json!({}));
    let source = bash("printf '\\377'");
    let answer = post(&service, "/submissions?wait=true", &source);
    let told = answer.json();
    let message =
        "some attributes for this submission cannot be converted to UTF-8, use base64_encoded=true query parameter";
    assert_eq!((answer.status, &told["error"]), (201, &json!(message)));
    let token = told["token"].as_str().unwrap();
    let answer = get(&service, &format!("/submissions/{token}"));
    assert_eq!((answer.status, answer.json()), (400, json!({"error": message})));
    assert_eq!(get(&service, &format!("/submissions/{token}?base64_encoded=true")).json()["stdout"], "/w==\n");
    // What does not show it has nothing against it.
    assert_eq!(get(&service, &format!("/submissions/{token}?fields=status_id")).json(), json!({"status_id": 3}));
    let answer = get(&service, &format!("/submissions/batch?tokens={token}"));
    assert!(answer.json()["error"].as_str().unwrap().starts_with("some attributes for one or more"));
}

#[test]
fn base64_comes_and_goes_in_lines_of_60() {
    let service = service(&json!({"disable_implicit_base64_encoding": false}));
    let source = "print('x' * 100)  # a comment that makes this longer than one line of base64 is";
    let mime = |text: &str| {
        let dense = encoded(text.as_bytes());
        dense.as_bytes().chunks(60).map(|line| format!("{}\n", str::from_utf8(line).unwrap())).collect::<String>()
    };
    assert!(mime(source).lines().count() > 1);
    let expected = format!("{}\n", "x".repeat(100));
    let submission = json!({"language_id": 71, "source_code": mime(source), "expected_output": mime(&expected)});
    // Nothing is said of base64, and this service takes that for a yes.
    let done = post(&service, "/submissions?wait=true&fields=stdout,source_code,status_id", &submission).json();
    assert_eq!(done, json!({"stdout": mime(&expected), "source_code": mime(source), "status_id": 3}));
    let plain = post(&service, "/submissions?wait=true&base64_encoded=false", &bash("echo 1")).json();
    assert_eq!(plain["stdout"], "1\n");
}
