//! Requests that are not as they should be, each answered in Judge0's words.

use serde_json::json;

use super::*;
use crate::config::Config;

fn with(config: &str, given: &Value, in_base64: bool) -> Result<Checked, Value> {
    let config = Config::parse(config).unwrap();
    let catalogue = config.catalogue(None, &|_| true).unwrap();
    let held = Held { limits: &config.judge0, catalogue: &catalogue, has_network: false, input_files: 1000 };
    let given = Given::parse(given.to_string().as_bytes()).unwrap();
    check(&given, in_base64, held).map_err(|errors| errors.json())
}

fn errors(given: &Value) -> Value {
    with("{}", given, false).unwrap_err()
}

fn python(more: Value) -> Value {
    let mut given = json!({"source_code": "print(1)", "language_id": 71});
    if let (Value::Object(given), Value::Object(more)) = (&mut given, more) {
        given.extend(more);
    }
    given
}

#[test]
fn what_is_missing_can_not_be_blank() {
    let both = json!({"language_id": ["can't be blank", "language with id  doesn't exist"], "source_code": ["can't be blank"]});
    assert_eq!(errors(&json!({})), both);
    assert_eq!(errors(&json!({"source_code": [1], "language_id": {}})), both);
    assert_eq!(errors(&json!({"source_code": " \n", "language_id": 71})), json!({"source_code": ["can't be blank"]}));
    assert_eq!(errors(&json!({"language_id": 89})), json!({"additional_files": ["can't be blank"]}));
    let project = errors(&json!({"language_id": 89, "source_code": "x"}));
    assert_eq!(project["source_code"], json!(["must be blank"]));
}

#[test]
fn ids_out_of_range_do_not_exist() {
    for (id, told) in [
        (json!(0), "0"),
        (json!(-1), "-1"),
        (json!(9999), "9999"),
        (json!(99_999_999_999_u64), "99999999999"),
        (json!("x"), "x"),
        (json!(71.5), "71.5"),
        (json!(71.0), "71.0"),
        (json!(u64::MAX), "18446744073709551615"),
        (json!(1e300), "1e+300"),
    ] {
        let expected = json!({"language_id": [format!("language with id {told} doesn't exist")]});
        assert_eq!(errors(&json!({"source_code": "x", "language_id": id})), expected);
    }
    let archived = json!({"language_id": ["language with id 34 is archived and cannot be used anymore"]});
    assert_eq!(errors(&json!({"source_code": "x", "language_id": 34})), archived);
    assert!(with("{}", &json!({"source_code": "x", "language_id": "71"}), false).is_ok());
}

#[test]
fn numbers_are_held_to_their_ranges() {
    for (field, value, message) in [
        ("cpu_time_limit", json!(15.5), "must be less than or equal to 15.0"),
        ("cpu_time_limit", json!(-1), "must be greater than or equal to 0"),
        ("cpu_time_limit", json!("fast"), "is not a number"),
        ("cpu_time_limit", json!("NaN"), "is not a number"),
        ("cpu_time_limit", json!(true), "is not a number"),
        ("cpu_extra_time", json!(6), "must be less than or equal to 5.0"),
        ("wall_time_limit", json!(0.5), "must be greater than or equal to 1"),
        ("wall_time_limit", json!(21), "must be less than or equal to 20.0"),
        ("memory_limit", json!(2047), "must be greater than or equal to 2048"),
        ("memory_limit", json!(512_001), "must be less than or equal to 512000"),
        ("stack_limit", json!(128_001), "must be less than or equal to 128000"),
        ("max_processes_and_or_threads", json!(0), "must be greater than 0"),
        ("max_processes_and_or_threads", json!(121), "must be less than or equal to 120"),
        ("max_file_size", json!(4097), "must be less than or equal to 4096"),
        ("max_file_size", json!(1e300), "must be less than or equal to 4096"),
        ("number_of_runs", json!(0), "must be greater than 0"),
        ("number_of_runs", json!(21), "must be less than or equal to 20"),
    ] {
        assert_eq!(errors(&python(json!({field: value}))), json!({field: [message]}), "{field} {value}");
    }
    let most = json!({"cpu_time_limit": "15", "cpu_extra_time": 5, "wall_time_limit": 20, "memory_limit": 512_000,
        "stack_limit": "", "max_processes_and_or_threads": null, "number_of_runs": 20});
    let settings = with("{}", &python(most), false).unwrap().settings;
    assert_eq!((settings.cpu_time_limit, settings.memory_limit, settings.stack_limit), (15.0, 512_000, 64_000));
}

#[test]
fn what_the_configuration_forbids_is_refused_in_its_words() {
    for (config, given, field, message) in [
        ("{}", json!({"callback_url": "http://example.org"}), "callback_url", "setting callback is not allowed"),
        ("{}", json!({"enable_network": true}), "enable_network", "enabling network is not allowed"),
        (
            "{}",
            json!({"compiler_options": "-O3"}),
            "compiler_options",
            "setting compiler options is only allowed for compiled languages",
        ),
        (
            r#"{"judge0":{"enable_compiler_options":false}}"#,
            json!({"language_id": 50, "compiler_options": "-O3"}),
            "compiler_options",
            "setting compiler options is not allowed",
        ),
        (
            r#"{"judge0":{"allowed_languages_for_compile_options":["C++","Go","Rust"]}}"#,
            json!({"language_id": 50, "compiler_options": "-O3"}),
            "compiler_options",
            "setting compiler options is only allowed for C++, Go and Rust",
        ),
        (
            r#"{"judge0":{"enable_command_line_arguments":false}}"#,
            json!({"command_line_arguments": "a"}),
            "command_line_arguments",
            "setting command line arguments is not allowed",
        ),
        (
            "{}",
            json!({"compiler_options": "a".repeat(513)}),
            "compiler_options",
            "is too long (maximum is 512 characters)",
        ),
        ("{}", json!({"command_line_arguments": "'a"}), "command_line_arguments", "is invalid"),
        (
            r#"{"judge0":{"enable_callbacks":true}}"#,
            json!({"callback_url": "http://169.254.169.254/latest"}),
            "callback_url",
            "setting callback to a private address is not allowed",
        ),
        (
            r#"{"judge0":{"enable_callbacks":true}}"#,
            json!({"callback_url": "file:///etc"}),
            "callback_url",
            "is invalid",
        ),
    ] {
        assert_eq!(with(config, &python(given), false).unwrap_err(), json!({field: [message]}));
    }
    let called = python(json!({"callback_url": "http://192.0.2.1/"}));
    assert!(with(r#"{"judge0":{"enable_callbacks":true,"callbacks_allow_private":true}}"#, &called, false).is_ok());
}

#[test]
fn words_are_parted_as_a_shell_does_that_can_do_nothing_else() {
    let given = python(json!({"command_line_arguments": "a 'b c' \"d\" $(rm -rf /); `id` > x | y & z\n&& q"}));
    let arguments = with("{}", &given, false).unwrap().arguments;
    assert_eq!(arguments, ["a", "b c", "d", "(rm", "-rf", "/)", "id", "x", "y", "z", "q"]);
    let given = python(json!({"language_id": 50, "compiler_options": " -O3 -DX=1 "}));
    assert_eq!(with("{}", &given, false).unwrap().options, ["-O3", "-DX=1"]);
}

#[test]
fn texts_are_base64_where_that_is_said() {
    let given = json!({"source_code": "cHJpbnQo\nMSk=\n", "language_id": 71, "stdin": "", "expected_output": "MQo="});
    let texts = with("{}", &given, true).unwrap().texts;
    assert_eq!(texts.source_code.as_deref(), Some(&b"print(1)"[..]));
    assert_eq!((texts.stdin.as_deref(), texts.expected_output.as_deref()), (Some(&b""[..]), Some(&b"1\n"[..])));
    let wrong = python(json!({"stdin": "***", "additional_files": "UEsD"}));
    let told = with("{}", &wrong, true).unwrap_err();
    assert_eq!(told["source_code"], json!(["is not valid base64"]));
    assert_eq!(told["stdin"], json!(["is not valid base64"]));
    assert_eq!(told["additional_files"], json!(["is not a valid zip archive"]));
}
