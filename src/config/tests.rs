//! Tests of the whole configuration.

use super::*;

#[test]
fn an_empty_object_gives_the_defaults() {
    let config = Config::parse("{}").unwrap();
    assert_eq!(config.profiles.len(), profile::BUILT_IN.len());
    assert_eq!(config.languages.len(), runtime::BUILT_IN.len());
}

#[test]
fn one_limit_can_be_changed_alone() {
    let config = Config::parse(r#"{"profiles":{"default":{"run":{"wall_time_ms":1234}}}}"#).unwrap();
    assert_eq!(config.profiles["default"].run.wall_time_ms, 1234);
    assert_eq!(config.profiles["default"].run.processes, 64);
}

#[test]
fn unknown_keys_are_errors_that_say_where() {
    for json in [r#"{"x":1}"#, r#"{"service":{"x":1}}"#, r#"{"profiles":{"default":{"run":{"x":1}}}}"#] {
        let error = Config::parse(json).unwrap_err().to_string();
        assert!(error.contains("unknown field `x`"), "{error}");
    }
}

#[test]
fn every_error_names_the_key_and_its_line() {
    for (json, line, says) in [
        ("{\n \"service\": {\n  \"queue\": 1\n }\n}", 3, "service.queue: unknown field `queue`"),
        ("{\n \"x\": 1\n}", 2, "x: unknown field `x`"),
        ("{\n \"service\": {\n  \"queue_length\": \"many\"\n }\n}", 3, "service.queue_length: invalid type"),
        ("{\n \"service\": {\"outputs\": {\n  \"files\": -1\n }}\n}", 3, "service.outputs.files: invalid value"),
        ("{\"runtimes\": {\"trees\": [\n {\"language\": 3}]}}", 2, "runtimes.trees[0].language: invalid type"),
        ("{\"profiles\": {\"default\": {\"run\": {\n\"processes\": 0}}}}", 2, "profiles.default.run: processes is 0"),
        ("{\"profiles\": {\"default\":\n {\"seccomp\": \"off\"}}}", 2, "profiles.default.seccomp: there is no"),
        ("{\n\"profiles\": {\"mine\":\n {\"title\": \"x\"}}}", 2, "profiles.mine: missing field"),
        ("{\"cache\": {\n \"entry_bytes\": 0}}", 2, "cache.entry_bytes: 0 is not from 1 to"),
        ("{\"cache\": {\n \"directory\": \"here\"}}", 2, "cache.directory: \"here\" is not an absolute path"),
        ("{\"cache\": {\n \"size\": 1}}", 2, "cache.size: unknown field `size`"),
        ("{\"sessions\": {\n \"log_bytes\": 0}}", 2, "sessions.log_bytes: 0 is not from 4096 to"),
        ("{\"sessions\": {\n \"number\": 1}}", 2, "sessions.number: unknown field `number`"),
        ("{\n \"service\": {},\n \"service\": {}\n}", 3, "service: this key stands twice"),
        ("{\n \"service\": {},\n}", 3, "this is not JSON"),
    ] {
        let error = Config::parse(json).unwrap_err();
        assert!(error.to_string().starts_with(says), "{error}");
        assert_eq!(error.line_in(json), Some(line), "{error}");
    }
}

#[test]
fn a_new_profile_must_be_complete() {
    let error = Config::parse(r#"{"profiles":{"mine":{"title":"x"}}}"#).unwrap_err().to_string();
    assert!(error.contains("profiles.mine") && error.contains("missing field"), "{error}");
}

#[test]
fn a_limit_above_its_maximum_is_an_error() {
    let error = Config::parse(r#"{"profiles":{"default":{"run":{"processes":100000}}}}"#).unwrap_err();
    assert!(error.to_string().contains("processes"), "{error}");
}

#[test]
fn an_unknown_filter_is_an_error() {
    let error = Config::parse(r#"{"profiles":{"default":{"seccomp":"nothing"}}}"#).unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
}
