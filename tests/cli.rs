//! `codesandbox run` as its users meet it: the real program, building its sandboxes itself.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// The program, with no daemon in reach and nothing on its input.
fn codesandbox(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_codesandbox"));
    command.args(arguments).env_remove("CODESANDBOX_SOCKET").stdin(Stdio::null());
    // Not that of whoever runs the tests.
    command.env_remove("CACHE_DIRECTORY").env("XDG_CACHE_HOME", concat!(env!("CARGO_TARGET_TMPDIR"), "/cache"));
    command
}

/// A directory with one source file in it.
fn source(name: &str, text: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(name), text).unwrap();
    directory
}

/// Runs a source file, embedded, from its own directory.
fn run(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = codesandbox(&["run", "--embedded"]);
    command.args(arguments).current_dir(directory).output().unwrap()
}

/// Runs a shell script that is given as text.
fn script(text: &str, arguments: &[&str]) -> Output {
    let directory = source("main.sh", text);
    run(directory.path(), &[&["main.sh"], arguments].concat())
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn status(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

fn lacks(program: &str) -> bool {
    let missing = !Path::new(program).exists();
    if missing {
        eprintln!("skipped: this host has no {program}");
    }
    missing
}

#[test]
fn a_python_program_says_hello() {
    if lacks("/usr/bin/python3") {
        return;
    }
    let directory = source("hello.py", "print('hello')\n");
    let output = run(directory.path(), &["hello.py"]);
    assert_eq!((text(&output.stdout).as_str(), status(&output)), ("hello\n", 0), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
}

#[test]
fn the_exit_status_is_that_of_the_program() {
    let output = script("echo out; echo err >&2; exit 7", &[]);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), ("out\n", "err\n"));
    assert_eq!(status(&output), 7);
}

#[test]
fn a_signal_is_128_and_its_number() {
    let output = script("kill -SEGV $$", &[]);
    assert_eq!(status(&output), 139, "{output:?}");
    assert_eq!(text(&output.stderr), "codesandbox: signalled: SIGSEGV\n");
}

#[test]
fn a_limit_has_a_status_and_says_its_name() {
    let output = script("echo before; while :; do :; done", &["--limit", "wall=300ms"]);
    assert_eq!(status(&output), 124, "{output:?}");
    assert_eq!(text(&output.stdout), "before\n");
    assert_eq!(text(&output.stderr), "codesandbox: wall_time_exceeded: more than 300 ms by the clock\n");
    let output = script("x=y; while :; do x=$x$x; done", &["--limit", "memory=32M"]);
    assert_eq!(status(&output), 122, "{output:?}");
}

#[test]
fn a_program_that_does_not_compile_is_told_by_its_compiler() {
    if lacks("/usr/bin/gcc") {
        return;
    }
    let directory = source("main.c", "int main(void) { return nothing; }\n");
    let output = run(directory.path(), &["main.c"]);
    assert_eq!(status(&output), 116, "{output:?}");
    assert!(text(&output.stderr).contains("nothing") && text(&output.stderr).contains("compile_failed"), "{output:?}");
    let directory = source("main.c", "int main(void) { int unused = 1/0; return 3; }\n");
    let output = run(directory.path(), &["main.c"]);
    assert_eq!((status(&output), output.stderr.len()), (3, 0), "warnings of a compiler that succeeds are no output");
}

#[test]
fn a_program_is_compiled_once_unless_it_is_told_not_to_be_cached() {
    if lacks("/usr/bin/gcc-12") {
        return;
    }
    let directory = source("main.c", "int main(void) { return 0; }\n");
    let run = |more: &[&str]| {
        let arguments = [&["run", "--embedded", "main.c", "--json"], more].concat();
        let mut command = codesandbox(&arguments);
        let output = command.current_dir(directory.path()).env("XDG_CACHE_HOME", directory.path()).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        answer["compile"]["cached"].as_bool().unwrap()
    };
    assert!(!run(&["--no-cache"]) && !directory.path().join("codesandbox").exists());
    assert!(!run(&[]));
    assert!(run(&[]));
    assert!(!run(&["--no-cache"]));
}

#[test]
fn what_is_piped_in_is_the_input_and_a_file_wins() {
    let directory = source("main.sh", "cat");
    std::fs::write(directory.path().join("input"), b"from\0a file\xff").unwrap();
    let mut child = codesandbox(&["run", "--embedded", "main.sh"])
        .current_dir(directory.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"piped").unwrap();
    assert_eq!(text(&child.wait_with_output().unwrap().stdout), "piped");
    let output = run(directory.path(), &["main.sh", "--stdin", "input"]);
    assert_eq!(output.stdout, b"from\0a file\xff");
}

#[test]
fn arguments_variables_and_files_arrive() {
    let directory = source("main.sh", "echo \"$@\" $GREETING; cat lib/data; test -x tool && echo may run");
    std::fs::create_dir(directory.path().join("lib")).unwrap();
    std::fs::write(directory.path().join("lib/data"), "data\n").unwrap();
    let output = run(
        directory.path(),
        &["main.sh", "-a", "one", "-e", "GREETING=hi", "-f", "lib/data", "-f", "/bin/true=tool", "--", "--two"],
    );
    assert_eq!(text(&output.stdout), "one --two hi\ndata\nmay run\n", "{output:?}");
}

#[test]
fn json_is_the_whole_result() {
    let output = script("echo out; exit 4", &["--json"]);
    let result: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&result["status"], &result["run"]["stdout"]), (&"nonzero_exit".into(), &"out\n".into()));
    assert_eq!(status(&output), 4);
    let output = script("", &["--json", "--runtime", "no-such-language"]);
    let problem: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&problem["status"], status(&output)), (&404.into(), 125));
}

fn start(directory: &Path) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child =
        codesandbox(&["run", "--embedded", "main.sh"]).current_dir(directory).stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (child, output)
}

#[test]
fn output_comes_while_the_program_runs_and_an_interrupt_ends_it() {
    let directory = source("main.sh", "echo first; sleep 1000");
    let (mut child, mut output) = start(directory.path());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    assert_eq!(line, "first\n");
    let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let ended = child.wait().unwrap();
    assert_eq!((ended.code(), ended.signal()), (Some(130), None));
}

#[test]
fn a_reader_that_leaves_ends_the_run() {
    let directory = source("main.sh", "echo first; while :; do echo more; done");
    let (mut child, mut output) = start(directory.path());
    output.read_line(&mut String::new()).unwrap();
    drop(output);
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn files_come_out_whatever_their_names_and_nowhere_else() {
    let program = "mkdir -p deep/er; printf 'a\\0b' > deep/er/x.bin; echo n > $'new\\nline'; echo d > dash; \
                   ln -s /etc/passwd link; mkdir away; echo evil > away/evil; echo kept > there";
    let directory = source("main.sh", program);
    let out = directory.path().join("out");
    let victim = directory.path().join("victim");
    std::fs::create_dir_all(&out).unwrap();
    std::fs::create_dir(&victim).unwrap();
    symlink(&victim, out.join("away")).unwrap();
    std::fs::write(out.join("there"), "mine").unwrap();
    let arguments = ["main.sh", "-o", "**", "--output-dir", "out"];
    let output = run(directory.path(), &arguments);
    assert_eq!(status(&output), 125, "two files are not where they should be: {output:?}");
    assert_eq!(std::fs::read(out.join("deep/er/x.bin")).unwrap(), b"a\0b");
    assert_eq!(std::fs::read(out.join("new\nline")).unwrap(), b"n\n");
    assert!(!out.join("link").exists());
    assert_eq!(std::fs::read_dir(&victim).unwrap().count(), 0, "nothing is written through a link");
    assert_eq!(std::fs::read_to_string(out.join("there")).unwrap(), "mine");
    assert!(text(&output.stderr).contains("--force"), "{output:?}");
    std::fs::remove_file(out.join("away")).unwrap();
    let output = run(directory.path(), &[&arguments[..], &["--force"]].concat());
    assert_eq!(status(&output), 0, "{output:?}");
    assert_eq!(std::fs::read_to_string(out.join("there")).unwrap(), "kept\n");
}

#[test]
fn an_unknown_runtime_is_answered_with_near_ones() {
    let output = script("", &["--runtime", "bahs"]);
    assert_eq!(status(&output), 125);
    assert!(text(&output.stderr).contains("near: bash"), "{output:?}");
}

#[test]
fn a_daemon_that_was_named_is_not_replaced() {
    let directory = source("main.sh", "echo hi");
    let output = codesandbox(&["run", "main.sh", "--socket", "none.sock"]).current_dir(&directory).output().unwrap();
    assert_eq!((status(&output), output.stdout.len()), (125, 0), "{output:?}");
    assert!(text(&output.stderr).contains("none.sock"));
}

#[test]
fn a_daemon_is_used_where_there_is_one() {
    let directory = source("main.sh", "echo hi; exit 5");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_codesandboxd"))
        .args(["--embedded", "--listen", "api.sock"])
        .current_dir(&directory)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let ask = || codesandbox(&["run", "main.sh", "--socket", "api.sock"]).current_dir(&directory).output().unwrap();
    let give_up = std::time::Instant::now() + std::time::Duration::from_secs(30);
    let mut output = ask();
    while status(&output) == 125 && std::time::Instant::now() < give_up {
        output = ask();
    }
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(daemon.id().cast_signed()), nix::sys::signal::Signal::SIGTERM)
        .unwrap();
    daemon.wait().unwrap();
    assert_eq!((status(&output), text(&output.stdout).as_str()), (5, "hi\n"), "{output:?}");
}
