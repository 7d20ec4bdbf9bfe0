//! The description of the API holds: a client that makes up requests by it, right ones and wrong ones, gets
//! nothing that is not in it, and brings nothing down.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use common::{Service, bridge, sessions};
use serde_json::json;

/// Of every operation so many requests besides those that are drawn up from its description.
const EXAMPLES: &str = "3";
/// Requests are the same in every run.
const SEED: &str = "7";

/// What holds of every answer.
const CHECKS: [&str; 9] = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "missing_required_header",
    "unsupported_method",
    "allow_header_conformance",
];

/// Operations that are left out: WebSockets, what a program in a session answers, and events that never end.
const LEFT_OUT: &str = "/attach$|/ports/|/watch$";

/// A session with one of everything that paths name.
fn furnished(service: &Service) -> String {
    let session = sessions::create(service, &json!({"runtime": "python"}));
    let reads = json!({"argv": ["python3", "-c", "import sys; sys.stdin.read()"], "keep_stdin": true});
    assert_eq!(session.start(reads), 1);
    assert_eq!(session.post("/snapshots", &json!({}))["id"], 1);
    assert_eq!(session.post("/contexts", &json!({"language": "python"}))["id"], 1);
    session.id
}

/// Which session each operation is about: those that take something away have one of their own.
fn configuration(service: &Service) -> String {
    let [kept, changed, emptied] = [(); 3].map(|()| furnished(service));
    let parameters = |id: &str| {
        format!("{{ \"path.id\" = \"{id}\", \"path.exec\" = 1, \"path.snapshot\" = 1, \"path.context\" = 1 }}")
    };
    let ending = "/(stop|rollback|pause|resume|promote|demote|restart|interrupt)$";
    format!(
        "[[operations]]\n\
         include-path-regex = '^/v1/sessions/[{{]id[}}]'\n\
         exclude-path-regex = '{ending}'\n\
         include-method = ['GET', 'POST', 'PUT', 'PATCH']\n\
         parameters = {}\n\
         [[operations]]\n\
         include-path-regex = '^/v1/sessions/[{{]id[}}].*{ending}'\n\
         include-method = ['POST']\n\
         parameters = {}\n\
         [[operations]]\n\
         include-path-regex = '^/v1/sessions/[{{]id[}}]/'\n\
         include-method = ['DELETE']\n\
         parameters = {}\n",
        parameters(&kept),
        parameters(&changed),
        parameters(&emptied)
    )
}

fn schemathesis(python: &Path, directory: &Path, address: SocketAddr) -> Command {
    let hooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let mut command = Command::new(python.with_file_name("schemathesis"));
    command.arg("--config-file").arg(directory.join("schemathesis.toml"));
    command.args(["run", &format!("http://{address}/openapi.json"), "--phases", "examples,coverage,fuzzing"]);
    command.args(["--checks", &CHECKS.join(","), "--exclude-path-regex", LEFT_OUT]);
    command.args(["--max-examples", EXAMPLES, "--seed", SEED, "--workers", "1", "--continue-on-failure"]);
    command.args(["--request-timeout", "60", "--suppress-health-check", "all", "--no-color"]);
    command.args(["--generation-database", "none"]);
    command.env("SCHEMATHESIS_HOOKS", "hooks").env("PYTHONPATH", hooks).env("PYTHONDONTWRITEBYTECODE", "1");
    // What it writes down of its own goes with the directory.
    command.current_dir(directory).env("HOME", directory).env("XDG_CACHE_HOME", directory);
    command
}

#[test]
fn every_answer_is_as_described() {
    let Some(python) = bridge::python() else {
        eprintln!("SKIPPED: tests/setup has not installed schemathesis");
        return;
    };
    // Requests that are made up ask for whatever is allowed: what they start is to end soon.
    let short = json!({"run": {"wall_time_ms": 500}, "compile": {"wall_time_ms": 500},
        "maximum": {"wall_time_ms": 500}});
    let service = Service::start_with(json!({"profiles": {"default": short}}));
    let address = bridge::to(&service.socket());
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("schemathesis.toml"), configuration(&service)).unwrap();

    let output = schemathesis(&python, directory.path(), address).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    // The control: it has asked for everything, and much of it was done.
    let tested = told.lines().find_map(|line| line.trim().strip_prefix("Tested: ")?.parse::<u32>().ok());
    assert!(tested.unwrap() >= 50, "{told}");
    assert_eq!(service.run_source("bash", "echo still there")["run"]["stdout"], "still there\n");

    let listed = service.request("GET", "/v1/sessions?limit=1000", &[], "").json();
    for session in listed["sessions"].as_array().unwrap() {
        let path = format!("/v1/sessions/{}", session["id"].as_str().unwrap());
        assert_eq!(service.request("DELETE", &path, &[], "").status, 204);
    }
}
