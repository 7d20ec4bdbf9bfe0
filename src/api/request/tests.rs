//! Requests that pass and requests that do not.

use std::sync::LazyLock;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::api::fields;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::parse("{}").unwrap());
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| catalogue(&CONFIG));

fn catalogue(config: &Config) -> Catalogue {
    let mut catalogue = config.catalogue(None, &|_| true).unwrap();
    let checked = crate::runtime::Checked { broken: Some("it printed 41".into()), version: None, baseline: None };
    catalogue.record("python-3.8", &checked);
    catalogue
}

fn check_json(json: &Value) -> Result<Accepted, Problem> {
    let request = fields::parse(json.to_string().as_bytes())?;
    let mut uploaded = |field: &str, name: &str| match name {
        "known" => Ok(Arc::new(b"of a file".to_vec())),
        "large" => Ok(Arc::new(vec![b' '; CONFIG.service.body_bytes / 2])),
        _ => Err(Problem::field(field, "there is none")),
    };
    check(request, &CONFIG, &CATALOGUE, &CONFIG.quota(1000), &mut uploaded)
}

/// A request that passes, with some of its fields replaced.
fn with(changes: Value) -> Value {
    let mut request = json!({ "runtime": "python@3.12", "files": [{ "content": "print(1)" }] });
    for (key, value) in changes.as_object().unwrap() {
        request[key] = value.clone();
    }
    request
}

fn refusal(changes: Value) -> Problem {
    check_json(&with(changes)).unwrap_err()
}

#[test]
fn the_smallest_request_is_completed() {
    let Accepted { job, runtime, .. } = check_json(&with(json!({}))).unwrap();
    assert_eq!((job.runtime.as_str(), job.profile.as_str()), ("python-3.12", "default"));
    assert_eq!(job.files[0].path.as_bytes(), b"main.py");
    assert_eq!(job.run.argv, ["/usr/bin/python3.12", "main.py"]);
    assert_eq!(job.run.limits, CONFIG.profiles["default"].run);
    assert!(job.compile.is_none() && job.stdin.is_empty() && job.outputs.is_empty());
    assert_eq!((runtime.version.as_deref(), runtime.variant), (Some("3.12"), None));
}

#[test]
fn a_profile_outside_of_the_clients_list_is_refused_with_those_inside() {
    let quota = |profiles: &[&str]| Quota {
        profiles: Some(profiles.iter().map(|name| (*name).to_owned()).collect()),
        ..(*CONFIG.quota(1000)).clone()
    };
    let check = |profile: Value, quota: &Quota| {
        let request = with(json!({ "profile": profile })).to_string();
        check(fields::parse(request.as_bytes()).unwrap(), &CONFIG, &CATALOGUE, quota, &mut none_uploaded)
    };
    assert!(check(json!("judge"), &quota(&["judge"])).is_ok());
    for refused in [json!("default"), Value::Null] {
        let problem = check(refused, &quota(&["judge", "agent"])).unwrap_err();
        assert_eq!((problem.kind, problem.details().status), (Kind::ForbiddenProfile, 403));
        assert_eq!(problem.field.as_deref(), Some("profile"));
        assert_eq!(problem.allowed.as_deref(), Some(&json!(["agent", "judge"])));
    }
    let problem = check(json!("judge"), &quota(&[])).unwrap_err();
    assert_eq!((problem.kind, problem.allowed.as_deref()), (Kind::ForbiddenProfile, Some(&json!([]))));
    let problem = check(json!("x"), &quota(&["judge"])).unwrap_err();
    assert_eq!((problem.kind, problem.allowed.as_deref()), (Kind::InvalidField, Some(&json!(["judge"]))));
}

#[test]
fn a_compiled_language_gets_both_stages() {
    let request = with(json!({
        "runtime": "c++@20",
        "files": [{ "path": "a.cpp", "content": "" }, { "path": "b.cpp", "content": "" }],
        "args": ["x"], "env": { "A": "b", "PATH": "/workspace" },
        "limits": { "wall_time_ms": 7 }, "compile_limits": { "wall_time_ms": 9 },
    }));
    let Accepted { job, runtime, .. } = check_json(&request).unwrap();
    let compile = job.compile.unwrap();
    assert!(compile.argv.ends_with(&["a.cpp".into(), "b.cpp".into(), "-pthread".into()]));
    assert_eq!((compile.limits.wall_time_ms, job.run.limits.wall_time_ms), (9, 7));
    assert_eq!(job.run.argv, ["./program", "x"]);
    assert_eq!((job.run.env["A"].as_str(), job.run.env["PATH"].as_str()), ("b", "/workspace"));
    assert!(!compile.env.contains_key("A"));
    assert_eq!(runtime.variant.as_deref(), Some("20"));
}

#[test]
fn base64_is_decoded() {
    let request = with(json!({ "files": [{ "content_base64": "/wA=" }], "stdin_base64": "AAE=" }));
    let job = check_json(&request).unwrap().job;
    assert_eq!((job.files[0].content.as_slice(), job.stdin.as_slice()), (&[0xff, 0][..], &[0, 1][..]));
}

/// A file that is half as large as a request may be.
fn large(path: &str) -> Value {
    json!({ "path": path, "content_file": "large" })
}

#[test]
fn uploaded_files_are_taken_by_their_names() {
    let files = json!([{ "content": "" }, { "path": "data", "content_file": "known", "executable": true }]);
    let job = check_json(&with(json!({ "files": files, "stdin_file": "known" }))).unwrap().job;
    assert_eq!((job.files[1].content.as_slice(), job.files[1].executable), (&b"of a file"[..], true));
    assert_eq!(job.stdin.as_slice(), b"of a file");
    assert!(check_json(&with(json!({ "files": [large("a"), large("b"), { "path": "c", "content": "" }] }))).is_ok());
}

#[test]
fn every_value_that_is_not_allowed_names_its_field() {
    let file = |path: &str| json!({ "path": path, "content": "" });
    let long = "x".repeat(300);
    for (changes, field) in [
        (json!({ "files": [] }), "files"),
        (json!({ "files": vec![file("a"); 1025] }), "files"),
        (json!({ "files": [file("/etc/passwd")] }), "files[0].path"),
        (json!({ "files": [file("a"), file("../b")] }), "files[1].path"),
        (json!({ "files": [file("a\0b")] }), "files[0].path"),
        (json!({ "files": [file("")] }), "files[0].path"),
        (json!({ "files": [file(&long)] }), "files[0].path"),
        (json!({ "files": [file(&"d/".repeat(40))] }), "files[0].path"),
        (json!({ "files": [file(&format!("{}x", "d/".repeat(40)))] }), "files[0].path"),
        (json!({ "files": [file("a"), { "content": "" }] }), "files[1].path"),
        (json!({ "files": [file("a"), file("b"), file("a")] }), "files[2].path"),
        (json!({ "files": [file("a/b/c"), file("a/b")] }), "files[0].path"),
        (json!({ "files": [{ "content": "" }, file("main.py")] }), "files[1].path"),
        (json!({ "files": [{ "path": "a" }] }), "files[0].content"),
        (json!({ "files": [{ "content": "", "content_base64": "" }] }), "files[0].content_base64"),
        (json!({ "files": [{ "content_base64": "?" }] }), "files[0].content_base64"),
        (json!({ "limits": { "disk_bytes": 65536 }, "files": [{ "content": "x".repeat(65537) }] }), "files"),
        (json!({ "files": [{ "content_file": "unknown" }] }), "files[0].content_file"),
        (json!({ "files": [{ "content": "", "content_file": "known" }] }), "files[0].content_file"),
        (json!({ "files": [large("a"), large("b"), large("c")] }), "files[2].content_file"),
        (json!({ "stdin": "", "stdin_base64": "" }), "stdin_base64"),
        (json!({ "stdin_base64": "", "stdin_file": "known" }), "stdin_file"),
        (json!({ "stdin_file": "unknown" }), "stdin_file"),
        (json!({ "stdin_base64": "a" }), "stdin_base64"),
        (json!({ "args": ["a", "b\0"] }), "args[1]"),
        (json!({ "args": ["x".repeat(131_072)] }), "args"),
        (json!({ "args": vec![""; 20_000] }), "args"),
        (json!({ "env": { "": "x" } }), "env."),
        (json!({ "env": { "A=B": "x" } }), "env.A=B"),
        (json!({ "env": { "A": "\0" } }), "env.A"),
        (json!({ "profile": "none" }), "profile"),
        (json!({ "limits": { "wall_time_ms": 0 } }), "limits.wall_time_ms"),
        (json!({ "limits": { "memory_bytes": u64::MAX } }), "limits.memory_bytes"),
        (json!({ "compile_limits": { "processes": 0 } }), "compile_limits.processes"),
        (json!({ "outputs": vec!["a"; 33] }), "outputs"),
        (json!({ "outputs": [long] }), "outputs[0]"),
        (json!({ "outputs": ["ok", "[a"] }), "outputs[1]"),
        (json!({ "outputs": ["/etc/*"] }), "outputs[0]"),
        (json!({ "outputs": ["a/../b"] }), "outputs[0]"),
        (json!({ "outputs": [""] }), "outputs[0]"),
    ] {
        let problem = refusal(changes);
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::InvalidField, Some(field)), "{}", problem.detail);
    }
}

#[test]
fn an_unknown_runtime_is_answered_with_what_resembles_it() {
    let problem = refusal(json!({ "runtime": "pyhton" }));
    assert_eq!(problem.kind, Kind::UnknownRuntime);
    assert!(problem.near.unwrap()[0].starts_with("python@"));
}

#[test]
fn a_broken_runtime_is_refused_with_the_reason() {
    let problem = refusal(json!({ "runtime": "python@3.8" }));
    assert_eq!(problem.kind, Kind::BrokenRuntime);
    assert!(problem.detail.contains("it printed 41"));
}

#[test]
fn a_range_is_told() {
    let allowed = refusal(json!({ "limits": { "processes": 100_000 } })).allowed.unwrap();
    assert_eq!(*allowed, json!({ "minimum": 1, "maximum": CONFIG.profiles["default"].maximum.processes }));
    let allowed = refusal(json!({ "profile": "x" })).allowed.unwrap();
    assert_eq!(*allowed, json!(["agent", "build", "default", "judge", "session"]));
}

/// Any JSON value, with a liking for the names and values that requests have.
fn anything() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        any::<String>().prop_map(Value::from),
        prop::sample::select(vec![
            "python", "c++@20", "rust", "default", "judge", "a/b", "..", "", "*.png", "[", "aGk="
        ])
        .prop_map(Value::from),
    ];
    let number = prop_oneof![
        any::<u64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0_u64..10_000_000).prop_map(Value::from),
    ];
    let leaf = prop_oneof![Just(Value::Null), any::<bool>().prop_map(Value::from), text, number];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::hash_map(key(), inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    let names = [
        "runtime",
        "files",
        "stdin",
        "stdin_base64",
        "args",
        "env",
        "profile",
        "limits",
        "compile_limits",
        "outputs",
        "path",
        "content",
        "content_base64",
        "executable",
    ];
    let known: Vec<String> = names.iter().chain(Limits::FIELDS).map(|name| (*name).to_owned()).collect();
    prop_oneof![9 => prop::sample::select(known), 1 => any::<String>()]
}

/// Changes of limits, most of them within a plausible range.
fn changes() -> impl Strategy<Value = Value> {
    let name = prop::sample::select(Limits::FIELDS.to_vec()).prop_map(str::to_owned);
    let value = prop_oneof![6 => 0_u64..200_000, 3 => 0_u64..1 << 32, 1 => any::<u64>()];
    prop::collection::hash_map(name, value, 0..4).prop_map(|map| json!(map))
}

fn within(limits: &Limits, maximum: &Limits) -> bool {
    let (limits, maximum) = (json!(limits), json!(maximum));
    Limits::FIELDS.iter().all(|name| limits[name].as_u64().unwrap() <= maximum[name].as_u64().unwrap())
        && ["wall_time_ms", "cpu_time_ms", "memory_bytes", "processes"]
            .iter()
            .all(|name| limits[name].as_u64().unwrap() > 0)
}

proptest! {
    #[test]
    fn no_json_makes_the_check_panic(json in anything()) {
        drop(check_json(&json));
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        drop(fields::parse::<RunRequest>(&bytes));
    }

    #[test]
    fn no_field_makes_the_check_panic(name in key(), value in anything()) {
        drop(check_json(&with(json!({ name: value }))));
    }

    #[test]
    fn what_passes_is_bounded(
        run in changes(),
        compile in changes(),
        profile in prop::sample::select(vec!["agent", "build", "default", "judge", "session"]),
        runtime in prop::sample::select(vec!["python", "c++@20", "java", "node"]),
    ) {
        let request = with(json!({
            "runtime": runtime, "profile": profile, "limits": run, "compile_limits": compile,
        }));
        if let Ok(Accepted { job, .. }) = check_json(&request) {
            let maximum = CONFIG.profiles[profile].maximum;
            for stage in job.compile.iter().chain([&job.run]) {
                prop_assert!(within(&stage.limits, &maximum), "{:?}", stage.limits);
            }
        }
    }
}
