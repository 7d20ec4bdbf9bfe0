//! Every language, through the real socket: hello, standard input, an error of the compiler or
//! parser, a crash, a program of several threads, and its self-test.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::path::Path;

use common::{Service, file};
use serde_json::{Value, json};

/// Runs the five programs of a language.
fn speaks(language: &str, directory: &str, extension: &str) {
    let service = Service::start();
    let run = |program: &str, stdin: &str| -> Value {
        let source = file(&format!("programs/{directory}/{program}.{extension}"));
        let name = format!("{program}.{extension}");
        service.run(&json!({
            "runtime": language, "files": [{"path": name, "content": source}], "stdin": stdin,
            "limits": {"wall_time_ms": 60_000, "cpu_time_ms": 60_000},
            "compile_limits": {"wall_time_ms": 120_000, "cpu_time_ms": 120_000},
        }))
    };
    let hello = run("hello", "");
    assert_eq!(hello["run"]["stdout"], format!("hello from {language}\n"), "{hello:#}");
    assert_eq!(hello["status"], "ok", "{hello:#}");
    assert_eq!(hello["run"]["denied"], json!([]), "an ordinary program is refused nothing: {hello:#}");

    let text = "eins\nzwei drei\n";
    let echo = run("echo", text);
    assert_eq!(echo["run"]["stdout"], text, "{echo:#}");

    let threads = run("threads", "");
    assert_eq!(threads["run"]["stdout"], "sum 4950\n", "{threads:#}");
    assert_eq!(threads["status"], "ok", "{threads:#}");

    let crash = run("crash", "");
    let status = crash["status"].as_str().unwrap();
    assert!(["nonzero_exit", "signalled"].contains(&status), "{crash:#}");
    assert_eq!(crash["run"]["denied"], json!([]), "{crash:#}");

    if Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/programs/{directory}/compile_error.{extension}"))
        .exists()
    {
        let error = run("compile_error", "");
        assert_eq!(error["status"], "compile_failed", "{error:#}");
        assert_eq!(error["run"], Value::Null, "{error:#}");
        let told = format!("{}{}", error["compile"]["stderr"], error["compile"]["stdout"]);
        assert!(told.len() > 10, "the compiler says what is wrong: {error:#}");
    } else {
        let error = run("syntax_error", "");
        assert_eq!(error["status"], "nonzero_exit", "{error:#}");
    }
}

macro_rules! languages {
    ($($test:ident: $language:literal, $directory:literal, $extension:literal;)+) => {
        $(#[test] fn $test() { speaks($language, $directory, $extension); })+

        #[test]
        fn every_language_is_here() {
            let tested = [$($directory),+];
            let mut known: Vec<&str> = codesandbox::runtime::BUILT_IN.iter().map(|(name, _)| *name).collect();
            known.sort_unstable();
            assert_eq!(known, tested);
        }
    };
}

languages! {
    bash: "bash", "bash", "sh";
    c: "c", "c", "c";
    cpp: "c++", "cpp", "cpp";
    csharp: "csharp", "csharp", "cs";
    go: "go", "go", "go";
    haskell: "haskell", "haskell", "hs";
    java: "java", "java", "java";
    javascript: "javascript", "javascript", "js";
    lisp: "lisp", "lisp", "lisp";
    lua: "lua", "lua", "lua";
    ocaml: "ocaml", "ocaml", "ml";
    perl: "perl", "perl", "pl";
    php: "php", "php", "php";
    python: "python", "python", "py";
    r: "r", "r", "r";
    ruby: "ruby", "ruby", "rb";
    rust: "rust", "rust", "rs";
    scala: "scala", "scala", "scala";
    typescript: "typescript", "typescript", "ts";
}

#[test]
fn processes_share_memory_in_python() {
    let service = Service::start();
    let result = service.run_source("python@3.11", &file("programs/python/pool.py"));
    assert_eq!(result["run"]["stdout"], "pool ok\n", "{result:#}");
}

#[test]
fn a_standard_of_cpp_is_selected_by_its_name() {
    let service = Service::start();
    let source = "#include <iostream>\nint main() { std::cout << __cplusplus << '\\n'; }";
    for (selector, value) in
        [("c++@17", "201703\n"), ("c++@20", "202002\n"), ("c++20@11", "202002\n"), ("c++17", "201703\n")]
    {
        let result = service.run_source(selector, source);
        assert_eq!(result["run"]["stdout"], value, "{selector}: {result:#}");
    }
    let newest = service.run_source("c++@23", source);
    let value: u64 = newest["run"]["stdout"].as_str().unwrap().trim().parse().unwrap();
    assert!(value > 202_002, "{newest:#}");
}
