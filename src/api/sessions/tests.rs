//! The routes of a service that keeps no sessions.

use axum::body::Body;
use axum::extract::Extension;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::header::{ALLOW, RETRY_AFTER};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use tokio::sync::watch;

use crate::api::{Client, Connection, State, openapi, router};
use crate::config::Config;
use crate::scheduler::Scheduler;

async fn ask(method: &str, path: &str) -> axum::response::Response {
    let directory = tempfile::tempdir().unwrap();
    let backend = crate::backend::Backend::connect(directory.path().join("launcher.sock"));
    let config = Config::parse("{}").unwrap();
    let catalogue = config.catalogue(None, &|_| true).unwrap();
    let state = State::new(Scheduler::new(backend, &config), config, catalogue);
    let (_stop, stopping) = watch::channel(false);
    let (connection, _kept) = Connection::new(stopping);
    let router =
        router(state).layer(Extension(Client::Process { uid: 0, gid: 0, pid: None })).layer(Extension(connection));
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    TowerToHyperService::new(router).call(request).await.unwrap()
}

#[tokio::test]
async fn without_sessions_every_route_of_them_says_so() {
    let document: serde_json::Value = serde_json::from_str(&openapi::text()).unwrap();
    let paths = document["paths"].as_object().unwrap().iter().filter(|(path, _)| path.starts_with("/v1/sessions"));
    let mut asked = 0;
    for (path, operations) in paths {
        for method in operations.as_object().unwrap().keys().filter(|key| *key != "parameters") {
            let path = path.replace("{id}", "x").replace(['{', '}'], "");
            let response = ask(&method.to_uppercase(), &path).await;
            assert_eq!(response.status(), 503, "{method} {path}");
            assert!(!response.headers().contains_key(RETRY_AFTER), "{method} {path}");
            if method != "head" {
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(String::from_utf8_lossy(&body).contains("problem:no-sessions"), "{method} {path}");
            }
            asked += 1;
        }
    }
    assert!(asked > 40, "{asked}");
}

#[tokio::test]
async fn a_wrong_method_is_answered_with_the_right_ones() {
    let response = ask("PUT", "/v1/sessions").await;
    assert_eq!(response.status(), 405);
    let allowed = response.headers()[ALLOW].to_str().unwrap();
    assert!(allowed.contains("GET") && allowed.contains("POST"), "{allowed}");
}
