//! The daemon over real sockets, without a launcher.

use std::path::Path;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::*;

fn state(directory: &Path) -> api::State {
    let backend = Backend::connect(directory.join("launcher.sock"));
    let (config, catalogue) = load(None).unwrap();
    api::State::new(Scheduler::new(backend, &config), config, catalogue)
}

/// Sends bytes and reads until the other end closes.
async fn exchange(mut stream: UnixStream, request: &[u8]) -> String {
    stream.write_all(request).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn take(places: listen::Places<'_>) -> listen::Listeners {
    listen::take(places, &Config::parse("{}").unwrap()).unwrap()
}

#[tokio::test]
async fn one_stream_is_served() {
    let directory = tempfile::tempdir().unwrap();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let client = api::Client::Process { uid: 0, gid: 0, pid: None };
    let served = tokio::spawn(serve_stream(state(directory.path()), theirs, client));
    let request = b"GET /v1/profiles HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(exchange(ours, request).await.starts_with("HTTP/1.1 200 OK\r\n"));
    served.await.unwrap();
}

#[tokio::test]
async fn what_is_no_http_is_refused_and_the_next_client_served() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = take(listen::Places { api: Some(&path), ..Default::default() }).api.unwrap();
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(serve::serve(listener, api::router(state(directory.path())), stopping));
    for (request, status) in [
        (b"\0\xff\r\n\r\n".to_vec(), "400"),
        (b"GET / HTTP/1.1\r\n".iter().copied().chain(b"a: b\r\n".repeat(20_000)).collect(), "431"),
        (b"GET /health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_vec(), "503"),
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // What is refused half-way may be refused before all of it is written.
        drop(stream.write_all(&request).await);
        let mut answer = Vec::new();
        drop(stream.read_to_end(&mut answer).await);
        assert!(String::from_utf8_lossy(&answer).starts_with(&format!("HTTP/1.1 {status}")), "{status}");
    }
    stop.send_replace(true);
    serving.await.unwrap();
}

#[tokio::test]
async fn stopping_closes_what_is_idle_and_removes_the_socket() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("api.sock");
    let listener = take(listen::Places { api: Some(&path), ..Default::default() }).api.unwrap();
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(serve::serve(listener, api::router(state(directory.path())), stopping));
    let mut idle = UnixStream::connect(&path).await.unwrap();
    idle.write_all(b"GET /v1/profiles HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 8];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1");
    stop.send_replace(true);
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    serving.await.unwrap();
    assert!(!path.exists());
}

#[tokio::test]
async fn the_metrics_socket_leads_to_no_run() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metrics.sock");
    let listener = take(listen::Places { metrics: Some(&path), ..Default::default() }).metrics.unwrap();
    let (stop, stopping) = watch::channel(false);
    let router = api::metrics_router(state(directory.path()));
    let serving = tokio::spawn(serve::serve(listener, router, stopping));
    for (request, status) in [
        ("GET /metrics", "200"),
        ("GET /health", "503"),
        ("POST /v1/run", "404"),
        ("POST /metrics", "404"),
        ("DELETE /v1/runs/x", "404"),
        ("GET /v1/runtimes", "404"),
        ("GET /openapi.json", "404"),
        ("GET /", "404"),
    ] {
        let stream = UnixStream::connect(&path).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = exchange(stream, request.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{request}: {answer}");
    }
    stop.send_replace(true);
    serving.await.unwrap();
    assert!(!path.exists());
}

#[test]
fn users_are_those_of_this_host_where_the_daemon_runs_and_any_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let client =
        |users: &str| format!(r#"{{"users":{users},"weight":1,"concurrency":0,"queue_length":1,"profiles":[]}}"#);
    std::fs::write(&path, format!("{{\"clients\":{{\n\"a\":{}}}}}", client(r#"["root"]"#))).unwrap();
    let (config, _) = load(Some(&path)).unwrap();
    assert_eq!(&*config.quota(0).client, "a");
    std::fs::write(&path, format!("{{\"clients\":{{\n\"a\":{}}}}}", client(r#"["no such user"]"#))).unwrap();
    load::check(Some(&path)).unwrap();
    let error = load(Some(&path)).unwrap_err().to_string();
    assert!(error.contains("config.json:2: clients.a.users[0]: this host has no user \"no such user\""), "{error}");
}

#[test]
fn a_configuration_that_can_not_be_used_is_told_with_its_path() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    std::fs::write(&path, r#"{"service":{"x":1}}"#).unwrap();
    let error = load(Some(&path)).unwrap_err();
    assert!(matches!(error, DaemonError::Config(_)));
    assert!(error.to_string().contains("config.json:1: service.x: unknown field"), "{error}");
    assert!(matches!(load(Some(Path::new("/nonexistent"))), Err(DaemonError::File { .. })));
    std::fs::write(&path, "{\"runtimes\": {\n\"manifest\": \"/nonexistent\"}}").unwrap();
    let error = load(Some(&path)).unwrap_err();
    assert!(error.to_string().contains("config.json:2: runtimes.manifest: /nonexistent: No such"), "{error}");
}

#[test]
fn a_configuration_for_another_host_can_be_checked_here() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    let tree = r#"{"language":"python","version":"3.13","root":"/nonexistent"}"#;
    std::fs::write(&path, format!(r#"{{"runtimes":{{"trees":[{tree}],"manifest":"/nonexistent"}}}}"#)).unwrap();
    load::check(Some(&path)).unwrap();
    assert!(load(Some(&path)).is_err());
}

#[test]
fn arguments_are_consistent() {
    use clap::CommandFactory;
    Options::command().debug_assert();
}
