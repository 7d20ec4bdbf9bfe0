//! Versions side by side: each is selected exactly, and none sees another.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use common::{Service, trees};
use serde_json::json;

/// Runs one source in several versions and returns what each printed.
fn printed(service: &Service, language: &str, versions: &[&str], source: &str) -> Vec<String> {
    versions
        .iter()
        .map(|version| {
            let result = service.run_source(&format!("{language}@{version}"), source);
            assert_eq!(result["status"], "ok", "{language}@{version}: {result:#}");
            result["run"]["stdout"].as_str().unwrap().trim().to_owned()
        })
        .collect()
}

/// Tests of trees need what tests/setup makes; without it they fail rather than say nothing.
fn service() -> Service {
    assert!(trees().as_array().is_some_and(|trees| trees.len() >= 9), "run tests/setup first");
    Service::start()
}

#[test]
fn pythons_are_selected_exactly() {
    let versions = ["3.9", "3.11", "3.13", "3.14"];
    let source = "import sys; print('%d.%d' % sys.version_info[:2])";
    assert_eq!(printed(&service(), "python", &versions, source), versions);
}

#[test]
fn nodes_are_selected_exactly() {
    let versions = ["18", "20", "22", "24"];
    let source = "console.log(process.versions.node.split('.')[0])";
    assert_eq!(printed(&service(), "node", &versions, source), versions);
}

#[test]
fn compilers_are_selected_exactly() {
    let versions = ["11", "12", "14"];
    let source = "#include <stdio.h>\nint main(void) { printf(\"%d\\n\", __GNUC__); }";
    assert_eq!(printed(&service(), "gcc", &versions, source), versions);
}

#[test]
fn no_version_sees_another() {
    let service = service();
    let source = "
import os
found = set()
for directory in ('/usr/bin', '/usr/local/bin', '/usr/lib', '/runtime/bin'):
    if os.path.isdir(directory):
        found |= {name for name in os.listdir(directory) if name.startswith('python3.')}
print(*sorted(found))
";
    for version in ["3.9", "3.13", "3.14"] {
        let result = service.run_source(&format!("python@{version}"), source);
        assert_eq!(result["run"]["stdout"], format!("python{version}\n"), "{result:#}");
    }
    // The positive control: on the host's own tree the same source finds the host's version.
    let host = service.run_source("python@3.11", source);
    assert!(host["run"]["stdout"].as_str().unwrap().contains("python3.11"), "{host:#}");
}

#[test]
fn the_runtime_is_linked_and_listed_inside() {
    let service = service();
    let source = "
import json, os
print(os.readlink('/runtime/bin/python3.13'))
manifest = json.load(open('/runtime/runtimes.json'))
print(json.dumps(manifest, sort_keys=True))
";
    let result = service.run_source("python@3.13", source);
    let printed = result["run"]["stdout"].as_str().unwrap();
    let (link, manifest) = printed.split_once('\n').unwrap();
    assert_eq!(link, "/usr/bin/python3.13", "{result:#}");
    let inside: serde_json::Value = serde_json::from_str(manifest).unwrap();
    let outside = service.request("GET", "/v1/runtimes", &[], "").json();
    assert_eq!(inside, outside, "the same list inside and outside");
    assert_eq!(outside, service.request("GET", "/api/runtimes", &[], "").json());
}

#[test]
fn an_unknown_runtime_is_a_problem_with_near_matches() {
    let service = service();
    for selector in ["pyhton", "python@2", "python@3.13.99", "nodejs@17"] {
        let answer = service.post(&json!({"runtime": selector, "files": [{"content": ""}]}));
        assert_eq!(answer.status, 404, "{selector}");
        let problem = answer.json();
        let near = problem["near"].as_array().unwrap_or_else(|| panic!("{problem:#}"));
        assert!(!near.is_empty(), "{problem:#}");
        assert_eq!(problem["field"], "runtime", "{problem:#}");
    }
}

#[test]
fn self_tests_run_at_start_and_tell_exact_versions() {
    let service = Service::start_with(json!({"service": {"check_at_start": true}}));
    common::wait_for("the self-test of python 3.13", || {
        let listing = service.request("GET", "/v1/runtimes", &[], "").json();
        listing["runtimes"].as_array().unwrap().iter().any(|runtime| {
            runtime["language"] == "bash" && runtime["health"]["state"] == "working" && runtime["version"].is_string()
        })
    });
}

#[test]
fn a_broken_runtime_is_listed_with_the_reason_and_refuses_jobs() {
    // Its self-test expects what the runtime can't print.
    let service = Service::start_with(json!({
        "service": {"check_at_start": true},
        "runtimes": {"trees": []},
        "languages": {"bash": {"self_test": {"source": "echo no", "stdin": "", "expect": "yes\n"}}},
    }));
    let listing = || {
        let list = service.request("GET", "/v1/runtimes", &[], "").json();
        list["runtimes"].as_array().unwrap().iter().find(|runtime| runtime["language"] == "bash").unwrap().clone()
    };
    common::wait_for("the self-test of bash", || listing()["health"]["state"] == "broken");
    assert!(listing()["health"]["reason"].as_str().unwrap().contains("no"), "{:#}", listing());
    let answer = service.post(&json!({"runtime": "bash", "files": [{"content": "echo x"}]}));
    assert!((400..500).contains(&answer.status), "{}", answer.status);
    assert!(answer.json().to_string().contains("self-test"), "{:#}", answer.json());
}
