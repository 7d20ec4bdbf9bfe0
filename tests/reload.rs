//! A changed configuration is taken up while the service runs, or not at all.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use common::{Service, trees, wait_for};
use payloads::{Live, assert_unaffected, job};
use serde_json::{Value, json};

fn versions(service: &Service, language: &str) -> Vec<String> {
    let answer = service.request("GET", "/v1/runtimes", &[], "").json();
    let runtimes = answer["runtimes"].as_array().unwrap().clone();
    let of_language = runtimes.into_iter().filter(|runtime| runtime["language"] == language);
    of_language.map(|runtime| runtime["version"].as_str().unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_runtime_is_added_and_another_removed_while_a_job_runs() {
    let pythons: Vec<Value> =
        trees().as_array().unwrap().iter().filter(|tree| tree["language"] == "python").cloned().collect();
    let (removed, added) = (&pythons[0], &pythons[1]);
    let version = |tree: &Value| tree["version"].as_str().unwrap().to_owned();
    let service = Service::start_with(json!({"runtimes": {"trees": [removed]}}));
    let selector = |tree: &Value| format!("python@{}", version(tree));
    let mut live = Live::start(&service, &job("busy.py", &["3", "0"]));
    live.wait_for("before");

    service.configure(json!({"runtimes": {"trees": [added]}}));
    assert_eq!(service.post(&json!({"runtime": selector(added), "files": []})).status, 404);
    service.reload_daemon();
    wait_for("the new runtime", || versions(&service, "python").contains(&version(added)));
    assert!(!versions(&service, "python").contains(&version(removed)));
    let found = service.run_source(&selector(added), "import sys; print('%d.%d' % sys.version_info[:2])");
    assert_eq!(found["run"]["stdout"], format!("{}\n", version(added)), "{found:#}");
    assert_eq!(service.post(&json!({"runtime": selector(removed), "files": [{"content": ""}]})).status, 404);

    // What ran before is not touched: it still has its processes, and ends when it is told to.
    assert!(service.sandbox_processes().len() >= 4);
    drop(live);
    service.assert_no_sandbox();
}

#[test]
fn limits_of_a_profile_change_for_daemon_and_launcher_alike() {
    let service = Service::start();
    let request = json!({
        "runtime": "bash", "files": [{"content": "ulimit -u"}], "limits": {"open_files": 100_000},
    });
    assert_eq!(service.post(&request).status, 422);
    service.configure(json!({"profiles": {"default": {"maximum": {"open_files": 100_000}}}}));
    service.reload_daemon();
    wait_for("the new limit", || service.post(&request).status == 200);
}

#[test]
fn a_configuration_that_can_not_be_used_changes_nothing() {
    let service = Service::start();
    let before = versions(&service, "bash");
    for nonsense in ["{", r#"{"service": {"queue": 1}}"#, r#"{"runtimes": {"manifest": "/nonexistent"}}"#] {
        service.write_configuration(nonsense);
        service.reload_daemon();
        assert_unaffected(&service);
        assert_eq!(versions(&service, "bash"), before);
    }
    // The positive control: it did listen all the time.
    service.write_configuration(r#"{"runtimes": {"host": false}}"#);
    service.reload_daemon();
    wait_for("no runtime", || versions(&service, "bash").is_empty());
}

#[test]
fn a_launcher_with_an_older_configuration_learns_of_the_new_one_from_a_new_daemon() {
    let trees = trees();
    let tree = trees.as_array().unwrap().iter().find(|tree| tree["language"] == "python").unwrap();
    let mut service = Service::start_with(json!({"runtimes": {"trees": []}}));
    service.configure(json!({"runtimes": {"trees": [tree]}}));
    service.kill_daemon();
    service.restart_daemon();
    let version = tree["version"].as_str().unwrap();
    let found = service.run_source(&format!("python@{version}"), "import sys; print('%d.%d' % sys.version_info[:2])");
    assert_eq!(found["run"]["stdout"], format!("{version}\n"), "{found:#}");
}

#[test]
fn who_names_no_version_gets_the_defaults_by_their_weight() {
    let service = Service::start_with(json!({"runtimes": {"defaults": {"python": {"3.11": 1, "3.13": 0}}}}));
    for (selector, version) in [("python", "3.11"), ("py", "3.11"), ("python@3", "3.14")] {
        let answer = service.run_source(selector, "import sys; print('%d.%d' % sys.version_info[:2])");
        assert_eq!(answer["run"]["stdout"], format!("{version}\n"), "{selector}: {answer:#}");
    }
}
