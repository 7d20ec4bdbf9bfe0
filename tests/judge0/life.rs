//! What happens between a submission and its end: batches, pages, deletion, restarts, and full queues.

use super::*;

#[test]
fn a_batch_is_taken_as_far_as_it_is_valid() {
    let service = service(&json!({}));
    let batch = json!({"submissions": [bash("echo 1"), {"language_id": 46}, bash("echo 3")]});
    let answer = post(&service, "/submissions/batch", &batch);
    assert_eq!(answer.status, 201);
    let told = answer.json();
    assert_eq!(told[1], json!({"source_code": ["can't be blank"]}));
    let tokens = [&told[0], &told[2]].map(|one| one["token"].as_str().unwrap().to_owned());
    for token in &tokens {
        wait_until_over(&service, token);
    }
    let path = format!("/submissions/batch?tokens={},none,{}&fields=stdout,token", tokens[1], tokens[0]);
    let shown = get(&service, &path).json();
    let one = |token: &str, stdout: &str| json!({"token": token, "stdout": stdout});
    assert_eq!(shown, json!({"submissions": [one(&tokens[1], "3\n"), null, one(&tokens[0], "1\n")]}));
}

#[test]
fn submissions_are_listed_by_pages_and_deleted_when_they_are_over() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authz");
    std::fs::write(&file, "root").unwrap();
    let service = service(&json!({"authz_token_file": file, "enable_submission_delete": true}));
    let ask =
        |method: &str, path: &str| service.request(method, &format!("/judge0{path}"), &[("x-auth-user", "root")], "");
    let tokens: Vec<String> = (0..5)
        .map(|number| run(&service, &bash(&format!("echo {number}")))["token"].as_str().unwrap().to_owned())
        .collect();
    let page = ask("GET", "/submissions?page=2&per_page=2&fields=token").json();
    assert_eq!(page["submissions"], json!([{"token": tokens[2]}, {"token": tokens[1]}]));
    let meta = json!({"current_page": 2, "next_page": 3, "prev_page": 1, "total_pages": 3, "total_count": 5});
    assert_eq!(page["meta"], meta);
    let last = ask("GET", "/submissions?page=3&per_page=2").json();
    assert_eq!((last["submissions"].as_array().unwrap().len(), &last["meta"]["next_page"]), (1, &json!(null)));
    assert_eq!(ask("GET", "/submissions?page=99999999999&per_page=100").json()["submissions"], json!([]));
    for (query, told) in [
        ("page=0", "invalid page: 0"),
        ("page=-1", "invalid page: -1"),
        ("page=x", "invalid page: 0"),
        ("per_page=-1", "invalid per_page: -1"),
        ("per_page=101", "invalid per_page: 101"),
    ] {
        let answer = ask("GET", &format!("/submissions?{query}"));
        assert_eq!((answer.status, answer.json()), (400, json!({"error": told})));
    }
    let gone = ask("DELETE", &format!("/submissions/{}", tokens[0]));
    assert_eq!((gone.status, gone.json()["stdout"].clone()), (200, json!("MAo=\n")));
    assert_eq!(get(&service, &format!("/submissions/{}", tokens[0])).status, 404);
    let running = submit(&service, &bash("sleep 60"));
    common::wait_for("it to run", || show(&service, &running)["status"]["id"] == 2);
    let answer = ask("DELETE", &format!("/submissions/{running}"));
    let told = "submission cannot be deleted because its status is 2 (Processing)";
    assert_eq!((answer.status, answer.json()), (400, json!({"error": told})));
}

#[test]
fn deleting_is_not_allowed_where_nobody_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authz");
    std::fs::write(&file, "root").unwrap();
    let service = service(&json!({"authz_token_file": file}));
    let answer = service.request("DELETE", "/judge0/submissions/x", &[("x-auth-user", "root")], "");
    assert_eq!((answer.status, answer.json()), (400, json!({"error": "delete not allowed"})));
}

#[test]
fn a_restart_loses_nothing_that_was_over_and_ends_what_was_not() {
    let mut service = service(&json!({}));
    let done = run(&service, &with(bash("echo kept"), json!({"stdin": "in"})));
    let token = done["token"].as_str().unwrap();
    let running = submit(&service, &bash("sleep 60"));
    common::wait_for("it to run", || show(&service, &running)["status"]["id"] == 2);
    service.kill_daemon();
    service.restart_daemon();
    assert_eq!(show(&service, token), done);
    let interrupted = show(&service, &running);
    assert_eq!(interrupted["status"], json!({"id": 13, "description": "Internal Error"}));
    assert_eq!(interrupted["message"], "the service ended before this submission was over; submit it again");
    assert!(interrupted["finished_at"].is_string());
    assert_eq!(run(&service, &bash("echo again"))["stdout"], "again\n");
}

#[test]
fn whoever_hangs_up_cancels_nothing() {
    use std::io::Write;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("authz");
    std::fs::write(&file, "root").unwrap();
    let service = service(&json!({"authz_token_file": file}));
    let listed = || {
        let answer = service.request("GET", "/judge0/submissions?fields=*", &[("x-auth-user", "root")], "");
        answer.json()["submissions"][0].clone()
    };
    let mut stream = std::os::unix::net::UnixStream::connect(service.socket()).unwrap();
    let body = bash("sleep 0.5; echo done").to_string();
    let head = "POST /judge0/submissions?wait=true HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n";
    write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    common::wait_for("it to be taken", || listed().is_object());
    drop(stream);
    common::wait_for("its end", || listed()["status"]["id"] == 3);
    assert_eq!(listed()["stdout"], "done\n");
}

#[test]
fn a_full_queue_is_answered_and_has_room_again() {
    let service = service(&json!({"max_queue_size": 2}));
    let first = submit(&service, &bash("sleep 5"));
    submit(&service, &bash("sleep 5"));
    let refused = post(&service, "/submissions", &bash("true"));
    assert_eq!((refused.status, refused.json()), (503, json!({"error": "queue is full"})));
    let batch = json!({"submissions": [bash("true")]});
    assert_eq!(post(&service, "/submissions/batch", &batch).status, 503);
    wait_until_over(&service, &first);
    common::wait_for("a place", || post(&service, "/submissions", &bash("true")).status == 201);
}

#[test]
fn the_newest_are_kept() {
    let service = service(&json!({"kept_submissions": 2}));
    let tokens: Vec<String> =
        (0..3).map(|_| run(&service, &bash("true"))["token"].as_str().unwrap().to_owned()).collect();
    let found = |token: &String| get(&service, &format!("/submissions/{token}")).status == 200;
    assert_eq!(tokens.iter().map(found).collect::<Vec<_>>(), [false, true, true]);
}

#[test]
fn a_socket_of_its_own_has_the_same_at_its_root() {
    use std::process::Command;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let config = json!({
        "service": {"check_at_start": false},
        "pool": {"ceiling": 0},
        "cache": {"directory": path("cache")},
        "sessions": {"directory": path("state")},
        "judge0": {"enable": true},
    });
    std::fs::write(path("config.json"), config.to_string()).unwrap();
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_codesandboxd"))
        .arg("--embedded")
        .arg("--config")
        .arg(path("config.json"))
        .arg("--listen")
        .arg(path("api.sock"))
        .arg("--listen-judge0")
        .arg(path("judge0.sock"))
        .spawn()
        .unwrap();
    let ask = |socket: &str, method: &str, asked: &str, body: &str| {
        common::request(&path(socket), method, asked, &JSON, body.as_bytes())
    };
    common::wait_for("the daemon", || ask("judge0.sock", "GET", "/languages", "").is_some_and(|it| it.status == 200));
    assert_eq!(ask("api.sock", "GET", "/judge0/languages", "").unwrap().status, 200);
    assert_eq!(ask("judge0.sock", "GET", "/v1/runtimes", "").unwrap().status, 404);
    let done = ask("judge0.sock", "POST", "/submissions?wait=true", &bash("echo here").to_string()).unwrap();
    assert_eq!((done.status, done.json()["stdout"].clone()), (201, json!("here\n")));
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap()),
        nix::sys::signal::Signal::SIGTERM,
    )
    .unwrap();
    assert!(daemon.wait().unwrap().success());
    assert!(!path("judge0.sock").exists());
}
