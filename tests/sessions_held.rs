//! Many sessions at one time: what happens at the bounds of their number, and that a daemon that comes again
//! finds all of them.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use common::{Answer, Service, wait_for};
use serde_json::{Value, json};

const SESSIONS: &str = "/v1/sessions";

fn post(service: &Service, path: &str, body: &Value) -> Answer {
    service.request("POST", path, &[("content-type", "application/json")], &body.to_string())
}

/// Makes a session, and returns its path.
fn create(service: &Service) -> String {
    let made = post(service, SESSIONS, &json!({"runtime": "bash"}));
    assert_eq!(made.status, 201, "{made:?}");
    format!("{SESSIONS}/{}", made.json()["id"].as_str().unwrap())
}

fn prints(service: &Service, session: &str, word: &str) {
    let done = post(service, &format!("{session}/execs"), &json!({"shell": format!("echo {word}")})).json();
    assert_eq!(done["result"]["stdout"], format!("{word}\n"), "{done:#}");
}

fn delete(service: &Service, session: &str) {
    assert_eq!(service.request("DELETE", session, &[], "").status, 204);
}

/// With room for two, the third is refused in these words, the two go on, and one that ends makes room.
fn third_is_refused(service: &Service, words: &str) {
    let sessions = [create(service), create(service)];
    sessions.iter().for_each(|session| prints(service, session, "before"));
    let refused = post(service, SESSIONS, &json!({"runtime": "bash"}));
    let told = refused.json();
    assert_eq!((refused.status, &told["type"]), (429, &json!("urn:codesandbox:problem:too-many")), "{told:#}");
    assert!(told["detail"].as_str().unwrap().contains(words), "{told:#}");
    assert_eq!(told["allowed"]["maximum"], 2, "{told:#}");
    sessions.iter().for_each(|session| prints(service, session, "after"));
    delete(service, &sessions[0]);
    let another = create(service);
    prints(service, &another, "another");
    for session in [&sessions[1], &another] {
        delete(service, session);
    }
}

#[test]
fn a_session_beyond_those_of_the_service_is_refused_with_the_key() {
    let service = Service::start_with(json!({"sessions": {"sessions": 2}}));
    third_is_refused(&service, "sessions.sessions");
}

#[test]
fn a_session_beyond_the_launchers_sandboxes_is_refused_with_the_key() {
    let service = Service::start_with(json!({"launcher": {"sandboxes": 2}}));
    third_is_refused(&service, "launcher.sandboxes");
}

#[test]
fn a_daemon_that_comes_again_finds_all_sessions_and_programs() {
    const MANY: usize = 20;
    const PROGRAMS: usize = 8;
    let mut service = Service::start();
    let sessions: Vec<String> = (0..MANY).map(|_| create(&service)).collect();
    for session in &sessions {
        (0..PROGRAMS).for_each(|number| prints(&service, session, &format!("{number}")));
    }
    service.kill_daemon();
    service.restart_daemon();
    let execs = |session: &String| service.request("GET", &format!("{session}/execs"), &[], "").json();
    let all_ended = |session: &String| {
        let execs = execs(session);
        let execs = execs["execs"].as_array().map_or(&[][..], Vec::as_slice);
        execs.len() == PROGRAMS && execs.iter().all(|exec| exec["result"]["status"] == "ok")
    };
    for session in &sessions {
        wait_for("its programs to be known", || all_ended(session));
        let last = service.request("GET", &format!("{session}/execs/{PROGRAMS}"), &[], "").json();
        assert_eq!(last["result"]["stdout"], format!("{}\n", PROGRAMS - 1), "{last:#}");
        prints(&service, session, "again");
        delete(&service, session);
    }
}
