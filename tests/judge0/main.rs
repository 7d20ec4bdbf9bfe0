//! The dialect of Judge0 CE against the real daemon: exact words and codes, every status with a program that brings
//! it about, archives and callbacks that are made to do harm, and the official client.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

#[path = "../common/mod.rs"]
mod common;

mod archives;
mod callbacks;
mod client;
mod life;
mod statuses;
mod words;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use common::{Answer, Service};
use serde_json::{Value, json};

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A service that speaks Judge0, with more of its configuration.
fn service(judge0: &Value) -> Service {
    let mut changes = json!({"judge0": {"enable": true}});
    common::merge(&mut changes, json!({"judge0": judge0}));
    Service::start_with(changes)
}

fn get(service: &Service, path: &str) -> Answer {
    service.request("GET", &format!("/judge0{path}"), &[], "")
}

fn post(service: &Service, path: &str, body: &Value) -> Answer {
    service.request("POST", &format!("/judge0{path}"), &JSON, &body.to_string())
}

/// What becomes of a submission, with all fields.
fn run(service: &Service, submission: &Value) -> Value {
    let answer = post(service, "/submissions?wait=true&fields=*", submission);
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    answer.json()
}

/// The token of a submission that is not waited for.
fn submit(service: &Service, submission: &Value) -> String {
    let answer = post(service, "/submissions", submission);
    assert_eq!(answer.status, 201, "{}", String::from_utf8_lossy(&answer.body));
    let told = answer.json();
    assert_eq!(told.as_object().unwrap().len(), 1, "{told}");
    told["token"].as_str().unwrap().to_owned()
}

fn show(service: &Service, token: &str) -> Value {
    get(service, &format!("/submissions/{token}?fields=*")).json()
}

/// Waits until a submission has a status that is neither "In Queue" nor "Processing".
fn wait_until_over(service: &Service, token: &str) -> Value {
    common::wait_for("the end of a submission", || show(service, token)["status"]["id"].as_u64() > Some(2));
    show(service, token)
}

fn bash(source: &str) -> Value {
    json!({"language_id": 46, "source_code": source})
}

fn python(source: &str) -> Value {
    json!({"language_id": 71, "source_code": source})
}

/// An object with more in it.
fn with(mut object: Value, more: Value) -> Value {
    common::merge(&mut object, more);
    object
}

fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
