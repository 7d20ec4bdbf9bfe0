//! The router without a network: statuses, headers and forms of answers.

use axum::body::Body;
use axum::extract::Extension;
use axum::response::Response;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use hyper::service::Service;
use hyper::{Method, Request};
use hyper_util::service::TowerToHyperService;
use serde_json::{Value, json};

use super::*;

/// A service whose launcher is not there.
async fn service() -> (tempfile::TempDir, Router) {
    let directory = tempfile::tempdir().unwrap();
    let backend = crate::backend::Backend::connect(directory.path().join("launcher.sock"));
    let config = Config::parse(r#"{"service":{"body_bytes":1000}}"#).unwrap();
    let catalogue = config.catalogue(None, &|_| true).unwrap();
    let scheduler = Scheduler::new(backend, &config);
    let state = State::new(scheduler, config, catalogue);
    (directory, router(state).layer(Extension(Client::Process { uid: 0, gid: 0, pid: None })))
}

async fn ask(request: Request<Body>) -> Response {
    let (_directory, router) = service().await;
    TowerToHyperService::new(router).call(request).await.unwrap()
}

async fn get(path: &str) -> Response {
    ask(Request::get(path).body(Body::empty()).unwrap()).await
}

async fn post(body: impl Into<Body>) -> Response {
    ask(Request::post("/v1/run").header(CONTENT_TYPE, "application/json").body(body.into()).unwrap()).await
}

async fn bytes(response: Response) -> Vec<u8> {
    response.into_body().collect().await.unwrap().to_bytes().to_vec()
}

async fn problem(response: Response, status: u16, name: &str) -> Value {
    assert_eq!(response.status(), status);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
    let json: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(json["type"], format!("urn:codesandbox:problem:{name}"));
    assert_eq!(json["status"], status);
    json
}

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    problem(get("/v2/run").await, 404, "not-found").await;
}

#[tokio::test]
async fn a_wrong_method_is_a_problem_that_names_the_right_ones() {
    let response = get("/v1/run").await;
    assert_eq!(response.headers()[ALLOW], "POST");
    problem(response, 405, "method-not-allowed").await;
}

#[tokio::test]
async fn a_body_that_is_no_json_is_a_problem() {
    let json = problem(post("{").await, 400, "malformed-json").await;
    assert!(json["detail"].as_str().unwrap().contains("line 1 column 1"));
}

#[tokio::test]
async fn a_body_of_another_type_is_a_problem() {
    let response = ask(Request::post("/v1/run").body(Body::from("{}")).unwrap()).await;
    problem(response, 415, "unsupported-media-type").await;
}

#[tokio::test]
async fn a_body_above_the_limit_is_a_problem_that_names_it() {
    let json = problem(post("x".repeat(1001)).await, 413, "body-too-large").await;
    assert_eq!(json["allowed"], json!({ "maximum": 1000 }));
}

#[tokio::test]
async fn an_unacceptable_form_is_a_problem() {
    let request = Request::post("/v1/run").header(ACCEPT, "text/html").body(Body::from("{}")).unwrap();
    problem(ask(request).await, 406, "not-acceptable").await;
}

#[tokio::test]
async fn a_field_at_fault_is_named() {
    let json = problem(post(r#"{"runtime":"python@3.12","files":[]}"#).await, 422, "invalid-field").await;
    assert_eq!(json["field"], "files");
}

#[tokio::test]
async fn an_unknown_runtime_lists_near_ones() {
    let json = problem(post(r#"{"runtime":"pyhton","files":[]}"#).await, 404, "unknown-runtime").await;
    assert!(json["near"][0].as_str().unwrap().starts_with("python@"));
}

#[tokio::test]
async fn cancelling_what_does_not_run_is_a_problem() {
    for id in ["x", "%ff"] {
        let request = Request::builder().method(Method::DELETE).uri(format!("/v1/runs/{id}"));
        problem(ask(request.body(Body::empty()).unwrap()).await, 404, "unknown-run").await;
    }
}

#[tokio::test]
async fn without_a_launcher_a_run_is_refused_for_now() {
    let response = post(r#"{"runtime":"python@3.12","files":[{"content":""}]}"#).await;
    assert!(response.headers().contains_key(RETRY_AFTER));
    problem(response, 503, "unavailable").await;
    let response = get("/health").await;
    assert_eq!(response.status(), 503);
    let json: Value = serde_json::from_slice(&bytes(response).await).unwrap();
    assert_eq!(json["status"], "unavailable");
}

#[tokio::test]
async fn runtimes_are_the_same_at_both_paths() {
    let one = bytes(get("/v1/runtimes").await).await;
    assert_eq!(one, bytes(get("/api/runtimes").await).await);
    let json: Value = serde_json::from_slice(&one).unwrap();
    assert!(json["runtimes"].as_array().unwrap().iter().any(|runtime| runtime["language"] == "python"));
}

#[tokio::test]
async fn profiles_tell_their_maxima() {
    let json: Value = serde_json::from_slice(&bytes(get("/v1/profiles").await).await).unwrap();
    let names: Vec<&str> = json["profiles"].as_array().unwrap().iter().map(|p| p["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["agent", "build", "default", "judge", "session"]);
    assert!(json["profiles"][0]["maximum"]["wall_time_ms"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn metrics_are_told() {
    let text = String::from_utf8(bytes(get("/metrics").await).await).unwrap();
    assert!(text.contains("codesandbox_queue_jobs 0") && text.ends_with("# EOF\n"), "{text}");
}

#[test]
fn the_documentation_names_every_route_problem_and_limit() {
    let text = [include_str!("../../docs/API.md"), include_str!("../../docs/SESSIONS.md")].concat();
    let kinds = Kind::ALL.iter().map(|kind| format!("`{}`", kind.name()));
    let limits = crate::profile::Limits::FIELDS.iter().map(|limit| format!("`{limit}`"));
    let document: Value = serde_json::from_str(&openapi::text()).unwrap();
    let routes = document["paths"].as_object().unwrap().keys().cloned();
    for word in kinds.chain(limits).chain(routes) {
        assert!(text.contains(&word), "neither docs/API.md nor docs/SESSIONS.md has {word}");
    }
}
