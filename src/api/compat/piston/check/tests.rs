//! Requests that pass and requests that do not, each in the words that clients of Piston know.

use serde_json::{Value, json};

use super::*;
use crate::api::compat::piston::asked::parse;

fn check_with(configuration: Value, changes: Value, told: Told) -> Result<Checked, Problem> {
    let config = Config::parse(&configuration.to_string()).unwrap();
    let catalogue = config.catalogue(None, &|_| true).unwrap();
    let mut request = json!({"language": "python", "version": "3.12", "files": [{"content": "print(1)"}]});
    for (key, value) in changes.as_object().unwrap() {
        request[key] = value.clone();
    }
    check(parse(request.to_string().as_bytes()).unwrap(), told, &config, &catalogue, &config.quota(1000))
}

fn checked(changes: Value) -> Checked {
    check_with(json!({}), changes, Told::AtTheEnd).unwrap()
}

fn refusal_with(configuration: Value, changes: Value) -> String {
    check_with(configuration, changes, Told::AtTheEnd).unwrap_err().detail
}

fn refusal(changes: Value) -> String {
    refusal_with(json!({}), changes)
}

#[test]
fn the_smallest_request_is_completed() {
    let Checked { accepted, language, version } = checked(json!({}));
    let job = accepted.job;
    assert_eq!((language.as_str(), version.as_str()), ("python", "3.12.0"));
    assert_eq!((job.runtime.as_str(), job.profile.as_str()), ("python-3.12", "default"));
    assert_eq!(*job.stdin, b"\n");
    assert_eq!(job.run.env["PISTON_LANGUAGE"], "python");
    assert_eq!(job.run.env["HOME"], "/tmp");
    assert_eq!(job.run.limits.output_bytes, 65_536);
    assert_eq!(job.run.limits.wall_time_ms, 10_000);
    // Interpreters that wait were started under the profile's own.
    assert!(job.warm);
}

#[test]
fn what_is_wrong_is_told_in_the_order_of_piston() {
    let steps = [
        (json!({}), "language is required as a string"),
        (json!({"language": "cobol"}), "version is required as a string"),
        (json!({"version": "1"}), "files is required as an array"),
        (json!({"files": [{}]}), "files[0].content is required as a string"),
        (json!({"files": [{"content": "", "encoding": "hex"}]}), "cobol-1 runtime is unknown"),
        (json!({"language": "python", "version": "3"}), "files must include at least one utf8 encoded file"),
        (
            json!({"files": [{"content": ""}], "compile_memory_limit": "1"}),
            "If specified, compile_memory_limit must be a number",
        ),
        (json!({"compile_memory_limit": 0, "run_memory_limit": []}), "If specified, run_memory_limit must be a number"),
        (
            json!({"run_memory_limit": 1e18, "run_timeout": true}),
            "run_memory_limit cannot exceed the configured limit of 2147483648",
        ),
        (json!({"run_memory_limit": null, "run_timeout": true}), "If specified, run_timeout must be a number"),
        (json!({"run_timeout": 120_001}), "run_timeout cannot exceed the configured limit of 120000"),
        (json!({"run_timeout": 120_000, "compile_cpu_time": {}}), "If specified, compile_cpu_time must be a number"),
        (
            json!({"compile_cpu_time": false, "run_cpu_time": 1e300}),
            "run_cpu_time cannot exceed the configured limit of 120000",
        ),
        (json!({"run_cpu_time": "", "stdin": 3}), "stdin must be a string"),
    ];
    let mut request = json!({"language": 3, "version": "", "files": {}});
    for (changes, message) in steps {
        for (key, value) in changes.as_object().unwrap() {
            request[key] = value.clone();
        }
        assert_eq!(refusal(request.clone()), message, "{request}");
    }
    request["stdin"] = Value::Null;
    assert_eq!(checked(request).accepted.job.run.limits.wall_time_ms, 120_000);
}

#[test]
fn configured_limits_are_what_is_given_and_the_most_that_may_be_asked_for() {
    let piston = json!({"piston": {"run_timeout": 3000, "run_memory_limit": 100_000_000, "max_process_count": 9,
        "limit_overrides": {"python": {"compile_timeout": 500, "max_open_files": 99}}}});
    let job = check_with(piston.clone(), json!({}), Told::AtTheEnd).unwrap().accepted.job;
    let limits = job.run.limits;
    assert_eq!(
        (limits.wall_time_ms, limits.memory_bytes, limits.processes, limits.open_files),
        (3000, 100_000_000, 9, 99)
    );
    let job = check_with(piston.clone(), json!({"run_timeout": 0.5}), Told::AtTheEnd).unwrap().accepted.job;
    assert_eq!(job.run.limits.wall_time_ms, 1);
    for (changes, message) in [
        (json!({"run_timeout": 3001}), "run_timeout cannot exceed the configured limit of 3000"),
        (json!({"run_timeout": 3000.5}), "run_timeout cannot exceed the configured limit of 3000"),
        (json!({"run_timeout": -1}), "run_timeout must be non-negative"),
        (json!({"run_memory_limit": -1}), "run_memory_limit must be non-negative"),
        (json!({"compile_timeout": 501}), "compile_timeout cannot exceed the configured limit of 500"),
        (json!({"run_memory_limit": 1000}), "run_memory_limit must be at least 4194304"),
    ] {
        assert_eq!(refusal_with(piston.clone(), changes), message);
    }
}

#[test]
fn no_limit_of_a_clients_own_is_that_of_the_profile() {
    let job = checked(json!({"run_memory_limit": -1, "compile_memory_limit": -1})).accepted.job;
    assert_eq!(job.run.limits.memory_bytes, 536_870_912);
    assert!(job.warm);
}

#[test]
fn what_is_streamed_may_be_as_much_as_the_profile_allows() {
    let output =
        |configuration, told| check_with(configuration, json!({}), told).unwrap().accepted.job.run.limits.output_bytes;
    assert_eq!(output(json!({}), Told::AtOnce), 1_048_576);
    assert_eq!(output(json!({"piston": {"output_max_size": 2_000_000}}), Told::AtOnce), 2_000_000);
    assert_eq!(output(json!({"piston": {"output_max_size": 0}}), Told::AtTheEnd), 1_048_576);
}

#[test]
fn arguments_and_input_are_passed_on() {
    let job = checked(json!({"args": ["-x", ""], "stdin": "a\n"})).accepted.job;
    assert_eq!(job.run.argv[2..], ["-x", ""]);
    assert_eq!(*job.stdin, b"a\n");
    assert_eq!(refusal(json!({"args": [1]})), "args[0] must be a string");
    assert_eq!(refusal(json!({"args": "x"})), "args must be an array of strings");
    assert_eq!(refusal(json!({"args": vec![""; 20_000]})), "args: 20000 arguments are too many, there may be 16384");
    assert!(refusal(json!({"args": ["\0"]})).contains("NUL"));
}

#[test]
fn only_texts_are_compiled() {
    let files = json!([
        {"content": "Mw==", "name": "data.c", "encoding": "base64"},
        {"content": "x", "name": "a.c"},
        {"content": "y", "name": "b.c"},
    ]);
    let job = checked(json!({"language": "c", "version": "12", "files": files})).accepted.job;
    let argv = job.compile.unwrap().argv;
    assert!(argv.contains(&"a.c".to_owned()) && argv.contains(&"b.c".to_owned()), "{argv:?}");
    assert!(!argv.contains(&"data.c".to_owned()), "{argv:?}");
    assert_eq!(job.files.len(), 3);
}

#[test]
fn a_client_that_may_not_use_the_profile_is_refused() {
    let refused = |profile: &str| {
        let config = Config::parse(&json!({"piston": {"profile": profile}}).to_string()).unwrap();
        let catalogue = config.catalogue(None, &|_| true).unwrap();
        let quota = Quota { profiles: Some(vec!["judge".to_owned()]), ..Quota::of_one("judges", &config) };
        let request = json!({"language": "python", "version": "3", "files": [{"content": ""}]}).to_string();
        let checked = check(parse(request.as_bytes()).unwrap(), Told::AtTheEnd, &config, &catalogue, &quota);
        checked.err().map(|problem| problem.kind)
    };
    assert_eq!(refused("default"), Some(crate::api::problem::Kind::ForbiddenProfile));
    assert_eq!(refused("judge"), None);
}
