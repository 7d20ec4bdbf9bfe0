//! Every file of `examples/` runs, as the documents say, and so does every client in docs/CLIENTS.md.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use common::Service;
use regex::Regex;

/// An example: file, arguments behind it, input, its whole output, exit status.
type Example = (&'static str, &'static [&'static str], &'static str, &'static str, i32);

const EXAMPLES: [Example; 7] = [
    ("Pool.java", &[], "", "499999500000\n", 0),
    ("chart.rb", &["--output", "*.svg"], "", "chart.svg has 8 bars\n", 0),
    ("events.js", &[], "", "3\n2\n1\ndone\n", 0),
    ("hello.py", &[], "", "Hello from Python 3.", 0),
    ("primes.rs", &["--", "100", "1000"], "", "25 primes below 100\n168 primes below 1000\n", 0),
    ("refused.py", &[], "", "", 117),
    ("words.cpp", &[], "a b a c b a", "3 a\n2 b\n1 c\n", 0),
];

fn directory() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/examples"))
}

fn run(name: &str, arguments: &[&str], input: &str, into: &Path) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_codesandbox"))
        .args(["run", "--embedded"])
        .arg(directory().join(name))
        .args(arguments)
        .current_dir(into)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn every_example_is_listed() {
    let there: BTreeSet<String> =
        fs::read_dir(directory()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(there, EXAMPLES.iter().map(|(name, ..)| (*name).to_owned()).collect());
}

#[test]
fn every_example_runs() {
    for (name, arguments, input, expected, status) in EXAMPLES {
        let into = tempfile::tempdir().unwrap();
        let output = run(name, arguments, input, into.path());
        let complaint = String::from_utf8_lossy(&output.stderr);
        // A host need not have every language.
        if complaint.contains("tells no language") {
            eprintln!("SKIPPED: {name}: {complaint}");
            continue;
        }
        let printed = String::from_utf8_lossy(&output.stdout);
        assert!(printed.starts_with(expected), "{name}: {output:?}");
        assert_eq!(output.status.code(), Some(status), "{name}: {output:?}");
        if name == "chart.rb" {
            assert!(fs::read_to_string(into.path().join("chart.svg")).unwrap().starts_with("<svg"));
        }
        if name == "refused.py" {
            assert!(complaint.contains("syscall_denied: refused: socket(AF_INET)"), "{complaint}");
        }
    }
}

/// Blocks of a document with what they print behind them: language, text, output.
fn blocks(text: &str) -> Vec<(String, String, String)> {
    let block = Regex::new(r"(?s)```(sh|python|javascript)\n(.*?)```\n+```text\n(.*?)```").unwrap();
    block.captures_iter(text).map(|found| (found[1].to_owned(), found[2].to_owned(), found[3].to_owned())).collect()
}

#[test]
fn every_client_of_the_documents_runs() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/CLIENTS.md")).unwrap();
    let service = Service::start();
    let blocks = blocks(&document);
    assert_eq!(
        blocks.iter().map(|(language, ..)| language.as_str()).collect::<Vec<_>>(),
        ["sh", "python", "javascript"]
    );
    for (language, text, printed) in blocks {
        let text = text.replace("/run/codesandbox/api.sock", service.socket().to_str().unwrap());
        let (program, needed, option) = match language.as_str() {
            "sh" => ("sh", "curl", "-c"),
            "python" => ("python3", "python3", "-c"),
            _ => ("node", "node", "-e"),
        };
        if Command::new(needed).arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("SKIPPED: this host has no {needed}");
            continue;
        }
        let output = Command::new(program).arg(option).arg(text).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), printed, "{language}: {output:?}");
    }
}
