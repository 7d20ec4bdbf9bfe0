//! Tests that pass and tests that do not.

use std::sync::{Arc, LazyLock};

use serde_json::{Value, json};

use super::*;
use crate::api::fields;

static CONFIG: LazyLock<Config> = LazyLock::new(|| Config::parse("{}").unwrap());
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| CONFIG.catalogue(None, &|_| true).unwrap());

fn check_json(json: &Value) -> Result<(Task, Asked), Problem> {
    let mut request: RunRequest = fields::parse(json.to_string().as_bytes())?;
    let tests = request.tests.take().unwrap();
    let mut files = |field: &str, name: &str| match name {
        "known" => Ok(Arc::new(b"of a file".to_vec())),
        _ => Err(Problem::field(field, "there is none")),
    };
    check(tests, request, &CONFIG, &CATALOGUE, &CONFIG.quota(1000), &mut files)
}

/// A request with these tests.
fn with(tests: Value) -> Value {
    json!({ "runtime": "python@3.12", "files": [{ "content": "print(1)" }], "tests": tests })
}

fn task(tests: Value) -> Task {
    check_json(&with(tests)).unwrap().0
}

#[track_caller]
fn refused(tests: Value, field: &str) {
    let problem = check_json(&with(tests.clone())).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some(field), "{tests}: {}", problem.detail);
}

fn cases(count: usize) -> Value {
    (0..count).map(|index| json!({ "stdin": index.to_string(), "expected": "1" })).collect()
}

fn checker() -> Value {
    json!({ "runtime": "bash", "files": [{ "content": "exit 0" }] })
}

#[test]
fn the_smallest_tests_are_completed() {
    let task = task(json!({ "cases": [{ "expected": "1" }] }));
    assert!(matches!(task.method, Method::Compare(Comparison::Lines)));
    assert_eq!((task.cases.len(), task.cases[0].points, task.groups.len()), (1, 1.0, 0));
    assert_eq!((&**task.cases[0].input, &**task.cases[0].expected), (&b""[..], &b"1"[..]));
}

#[test]
fn as_many_cases_as_configured_are_taken_and_no_more() {
    let most = CONFIG.service.cases;
    assert_eq!(task(json!({ "cases": cases(most) })).cases.len(), most);
    refused(json!({ "cases": cases(most + 1) }), "tests.cases");
    refused(json!({ "cases": cases(10_000) }), "tests.cases");
    refused(json!({ "cases": [] }), "tests.cases");
}

#[test]
fn what_is_no_case_is_refused() {
    for (case, field) in [
        (json!({}), "tests.cases[0].expected"),
        (json!({ "expected": "1", "expected_base64": "MQ==" }), "tests.cases[0].expected_base64"),
        (json!({ "expected": "1", "stdin_base64": "?" }), "tests.cases[0].stdin_base64"),
        (json!({ "expected_file": "x" }), "tests.cases[0].expected_file"),
        (json!({ "expected": "1", "stdin": "", "stdin_file": "known" }), "tests.cases[0].stdin_file"),
        (json!({ "expected": "1", "points": -1 }), "tests.cases[0].points"),
        (json!({ "expected": "1", "points": 1e300 }), "tests.cases[0].points"),
        (json!({ "expected": "1", "name": "x".repeat(200) }), "tests.cases[0].name"),
        (json!({ "expected": "1", "input": "" }), "tests.cases[0].input"),
        (json!({ "expected": "1", "group": "" }), "tests.groups[0].name"),
    ] {
        refused(json!({ "cases": [case] }), field);
    }
}

#[test]
fn a_file_may_stand_for_what_is_in_it() {
    let task = task(json!({ "cases": [{ "stdin_file": "known", "expected_file": "known" }] }));
    assert_eq!((&**task.cases[0].input, &**task.cases[0].expected), (&b"of a file"[..], &b"of a file"[..]));
}

#[test]
fn one_thing_decides() {
    let cases = cases(1);
    for both in [
        json!({ "cases": cases, "compare": {}, "checker": checker() }),
        json!({ "cases": cases, "checker": checker(), "interactor": checker() }),
    ] {
        refused(both, "tests");
    }
    assert!(matches!(task(json!({ "cases": [{}], "checker": checker() })).method, Method::Checker(_)));
    assert!(matches!(task(json!({ "cases": [{}], "interactor": checker() })).method, Method::Interactor(_)));
}

#[test]
fn tolerances_are_of_numbers() {
    let how = |compare: Value| match task(json!({ "cases": cases(1), "compare": compare })).method {
        Method::Compare(how) => how,
        other => panic!("{other:?}"),
    };
    let numbers = |absolute, relative| Comparison::Numbers(Tolerance { absolute, relative });
    assert_eq!(how(json!({ "mode": "exact" })), Comparison::Exact);
    assert_eq!(how(json!({ "mode": "tokens" })), Comparison::Tokens);
    assert_eq!(how(json!({ "mode": "numbers" })), numbers(1e-9, 1e-9));
    assert_eq!(how(json!({ "mode": "numbers", "absolute": 0.5 })), numbers(0.5, 0.0));
    assert_eq!(how(json!({ "mode": "numbers", "relative": 0.5 })), numbers(0.0, 0.5));
    refused(json!({ "cases": cases(1), "compare": { "absolute": 1 } }), "tests.compare.absolute");
    refused(json!({ "cases": cases(1), "compare": { "mode": "numbers", "relative": -1 } }), "tests.compare.relative");
    refused(json!({ "cases": cases(1), "compare": { "mode": "fuzzy" } }), "tests.compare.mode");
}

#[test]
fn a_field_of_the_checker_is_named_as_such() {
    let with = |changes: Value| {
        let mut checker = checker();
        merge(&mut checker, changes);
        json!({ "cases": cases(1), "checker": checker })
    };
    refused(with(json!({ "runtime": "cobol" })), "tests.checker.runtime");
    refused(with(json!({ "limits": { "memory_bytes": 1 } })), "tests.checker.limits.memory_bytes");
    refused(with(json!({ "files": [] })), "tests.checker.files");
    refused(with(json!({ "stdin": "x" })), "tests.checker.stdin");
    for path in ["judge", "judge/input"] {
        refused(
            with(json!({ "files": [{ "content": "" }, { "path": path, "content": "" }] })),
            "tests.checker.files[1].path",
        );
    }
    let Method::Checker(job) = task(with(json!({ "args": ["more"] }))).method else { panic!("no checker") };
    assert_eq!(job.run.argv[job.run.argv.len() - 4..], ["judge/input", "judge/output", "judge/answer", "more"]);
}

fn merge(base: &mut Value, over: Value) {
    for (key, value) in over.as_object().unwrap() {
        base[key] = value.clone();
    }
}

#[test]
fn what_a_run_has_for_itself_contradicts_tests() {
    for (field, value) in [("stdin", json!("x")), ("stdin_base64", json!("")), ("outputs", json!([]))] {
        let mut request = with(json!({ "cases": cases(1) }));
        request[field] = value;
        assert_eq!(check_json(&request).unwrap_err().field.as_deref(), Some(field));
    }
}

#[test]
fn groups_come_of_the_cases_or_are_named() {
    let grouped = |groups: Value| {
        let cases = json!([
            { "expected": "", "group": "a", "points": 2 }, { "expected": "", "group": "a" },
            { "expected": "", "group": "b" }, { "expected": "" },
        ]);
        json!({ "cases": cases, "groups": groups })
    };
    let of_themselves = task(grouped(Value::Null));
    assert_eq!(of_themselves.groups.iter().map(|group| group.points).collect::<Vec<_>>(), [3.0, 1.0]);
    assert_eq!(
        of_themselves.cases.iter().map(|case| case.group).collect::<Vec<_>>(),
        [Some(0), Some(0), Some(1), None]
    );
    let named =
        task(grouped(json!([{ "name": "a", "points": 50 }, { "name": "b", "scoring": "sum", "needs": ["a"] }])));
    assert_eq!((named.groups[0].points, &*named.groups[1].needs), (50.0, &[0][..]));
    for (groups, field) in [
        (json!([{ "name": "a" }]), "tests.cases[2].group"),
        (json!([{ "name": "a", "needs": ["b"] }, { "name": "b" }]), "tests.groups[0].needs[0]"),
        (json!([{ "name": "b" }, { "name": "a", "needs": ["b"] }]), "tests.groups[1].needs[0]"),
        (json!([{ "name": "a" }, { "name": "b" }, { "name": "c" }]), "tests.groups[2].name"),
        (json!([{ "name": "a" }, { "name": "b" }, { "name": "a" }]), "tests.groups[0].name"),
        (json!([{ "name": "a", "points": -1 }, { "name": "b" }]), "tests.groups[0].points"),
        (json!([{}, {}, {}, {}, {}]), "tests.groups[0].name"),
    ] {
        refused(grouped(groups), field);
    }
}

#[test]
fn needs_reach_as_far_as_those_of_the_needed() {
    let case = |group: &str| json!({ "expected": "", "group": group });
    let groups = json!([{ "name": "a" }, { "name": "b", "needs": ["a"] }, { "name": "c", "needs": ["b"] }]);
    let task = task(json!({ "cases": [case("a"), case("b"), case("c")], "groups": groups }));
    assert_eq!(&*task.groups[2].needs, [0, 1]);
}

#[test]
fn a_transcript_needs_somebody_who_talks() {
    refused(json!({ "cases": cases(1), "transcript_bytes": 1 }), "tests.transcript_bytes");
    let talk = |bytes: usize| json!({ "cases": [{}], "interactor": checker(), "transcript_bytes": bytes });
    refused(talk(TRANSCRIPT_BYTES + 1), "tests.transcript_bytes");
    assert_eq!(task(talk(9)).transcript_bytes, 9);
}
