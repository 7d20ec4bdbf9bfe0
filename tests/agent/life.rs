//! How a program is started, what it is given by name, and how it ends.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::Stdio;
use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::common::{children, skip, wait_for};
use crate::ground::{Ground, err, out};

#[test]
fn variables_come_by_name_and_no_other_way() {
    for ground in Ground::each() {
        let mut command = ground.agent(&["--env", "CHOSEN", "--env", "SET=to this", "--env", "HOME=/tmp"], "env");
        command.env("CHOSEN", "secret").env("OTHER", "hidden").env("LC_ALL", "C").env("LD_PRELOAD", "");
        let output = command.output().unwrap();
        let all = out(&output);
        for expected in ["CHOSEN=secret", "SET=to this", "LC_ALL=C", "HOME=/tmp"] {
            assert!(all.lines().any(|line| line == expected), "{expected}: {all}");
        }
        for absent in ["OTHER", "LD_PRELOAD", "CODESANDBOX", "XDG_", "SSH_"] {
            assert!(!all.lines().any(|line| line.starts_with(absent)), "{absent}: {all}");
        }
        let output = ground.run(&["--env", "NOBODY_HAS_SET_THIS"], "true");
        assert_eq!(output.status.code(), Some(125), "{output:?}");
        assert!(err(&output).contains("has no such variable"), "{output:?}");
    }
}

#[test]
fn a_secret_is_on_no_command_line_and_in_no_environment_of_ours() {
    let ground = Ground::new();
    let mut command = ground.agent(&["--env", "CHOSEN"], "echo ready; read line");
    let mut child =
        command.env("CHOSEN", "kept-to-itself").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let ours: Vec<i32> = children(i32::try_from(child.id()).unwrap());
    assert!(!ours.is_empty());
    for pid in ours.iter().flat_map(|stub| children(*stub).into_iter().chain([*stub])) {
        let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let has = |bytes: &[u8]| bytes.windows(14).any(|part| part == b"kept-to-itself");
        assert!(!has(&read("cmdline")), "{pid}");
        // The stub is this program once more, and has what it was started with; its child has nothing.
        assert!(ours.contains(&pid) || !has(&read("environ")), "{pid}");
    }
    drop(child.stdin.take());
    child.wait().unwrap();
}

#[test]
fn the_exit_status_is_the_programs() {
    for ground in Ground::each() {
        for (line, expected) in
            [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
        {
            let output = ground.run(&[], line);
            assert_eq!(output.status.code(), Some(expected), "{line}: {output:?}");
        }
        let missing = ground.command(&["agent", "--", "there-is-no-such-program"]).output().unwrap();
        assert_eq!(missing.status.code(), Some(126), "{missing:?}");
        ground.write("home/secret/tool", "#!/bin/sh\necho ran\n");
        let tool = ground.path("home/secret/tool");
        fs::set_permissions(&tool, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let tool = tool.display().to_string();
        let hidden = ground.command(&["agent", "--", &tool]).output().unwrap();
        assert_eq!(hidden.status.code(), Some(126), "{hidden:?}");
        assert!(err(&hidden).contains("--read"), "{hidden:?}");
        let shown = ground.command(&["agent", "--read", "../secret", "--", &tool]).output().unwrap();
        assert_eq!(out(&shown), "ran\n", "{shown:?}");
    }
}

#[test]
fn streams_pass_whole_and_apart() {
    let ground = Ground::new();
    let mut child = ground
        .agent(&[], "cat; echo error >&2")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let sent = bytes.clone();
    let sending = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = child.wait_with_output().unwrap();
    sending.join().unwrap();
    assert!(output.stdout == bytes, "{} bytes of {}", output.stdout.len(), bytes.len());
    assert_eq!(err(&output), "error\n");
}

#[test]
fn a_program_that_leaves_others_behind_ends_and_they_with_it() {
    let ground = Ground::new();
    let began = Instant::now();
    assert_eq!(ground.told(&[], "sleep 1000 & echo done"), "done\n");
    assert!(began.elapsed().as_secs() < 60);
    // One that goes on to print keeps nobody waiting either.
    let output = ground.run(&[], "yes & echo done; exit 3");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn where_nobody_reads_the_program_is_ended() {
    let ground = Ground::new();
    let mut child = ground.agent(&[], "yes").stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line, "y\n");
    assert_eq!(child.wait().unwrap().code(), Some(141));
}

#[test]
fn signals_are_the_programs() {
    let ground = Ground::new();
    for (signal, name) in [(Signal::SIGINT, "INT"), (Signal::SIGTERM, "TERM"), (Signal::SIGHUP, "HUP")] {
        let line = format!("trap 'echo heard; exit 9' {name}; echo ready; while :; do sleep 0.01; done");
        let mut child = ground.agent(&[], &line).stdout(Stdio::piped()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        output.read_line(&mut text).unwrap();
        assert_eq!(text, "ready\n");
        kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), signal).unwrap();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(text, "ready\nheard\n", "{signal}");
        assert_eq!(child.wait().unwrap().code(), Some(9), "{signal}");
    }
}

#[test]
fn limits_end_the_program_and_say_so() {
    let ground = Ground::new();
    let output = ground.run(&["--time", "500ms"], "sleep 100");
    assert_eq!(output.status.code(), Some(124), "{output:?}");
    assert!(err(&output).contains("wall_time_exceeded"), "{output:?}");
    let greedy = "x=$(head -c 400000000 /dev/zero | tr '\\0' x); sleep 100";
    let output = ground.run(&["--memory", "100M"], greedy);
    assert_eq!(output.status.code(), Some(122), "{output:?}");
    let output = ground.run(&["--processes", "20"], "for i in $(seq 100); do sleep 100 & done; wait");
    assert!(!output.status.success(), "{output:?}");
}

/// Ids of a process and all below it.
fn family(pid: i32) -> Vec<i32> {
    let below = children(pid);
    let all: Vec<i32> = below.iter().flat_map(|child| family(*child)).collect();
    below.into_iter().chain(all).collect()
}

fn is_alive(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn nothing_is_left_when_the_command_is_killed() {
    for ground in Ground::each() {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut child =
            ground.agent(&[], "sleep 1000 & echo ready; sleep 1000").stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let all = family(i32::try_from(child.id()).unwrap());
        // The stub, the launcher, init, two that sleep and their shell, at least.
        assert!(all.len() >= 6, "{all:?}");
        child.kill().unwrap();
        child.wait().unwrap();
        wait_for("every process to be gone", || !all.iter().any(|pid| is_alive(*pid)));
        let directory = ground.path("");
        let now = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!now.contains(&*directory.to_string_lossy()), "{now}");
        assert_eq!(now.lines().count(), mounts.lines().count());
        assert!(fs::read_dir(ground.path("home/project")).unwrap().next().is_none());
    }
}

#[test]
fn without_user_namespaces_nothing_runs_and_the_remedy_is_told() {
    let ground = Ground::new();
    let program = env!("CARGO_BIN_EXE_codesandbox");
    let line = format!("echo 0 > /proc/sys/user/max_user_namespaces && exec {program} agent -- touch ran");
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", &line])
        .current_dir(ground.path("home/project"))
        .env("HOME", ground.path("home"))
        .stdin(Stdio::null())
        .output();
    match output {
        Ok(output) if !err(&output).contains("unshare:") => {
            assert_eq!(output.status.code(), Some(125), "{output:?}");
            assert!(err(&output).contains("codesandbox doctor"), "{output:?}");
            assert!(!ground.path("home/project/ran").exists());
        }
        other => skip(&format!("no user namespace can be made here: {other:?}")),
    }
}

#[test]
fn twenty_starts_leave_nothing_and_take_no_longer_at_the_end() {
    let ground = Ground::new();
    let time = |mut command: std::process::Command| {
        let began = Instant::now();
        assert!(command.output().unwrap().status.success());
        began.elapsed()
    };
    let mut times: Vec<_> = (0..20).map(|_| time(ground.agent(&[], "true"))).collect();
    let bare: Vec<_> = (0..20)
        .map(|_| {
            let mut command = std::process::Command::new("bash");
            command.args(["-c", "true"]);
            time(command)
        })
        .collect();
    let (first, last) = (times[..10].iter().min().copied(), times[10..].iter().min().copied());
    assert!(last < first.map(|first| first * 3), "{times:?}");
    times.sort();
    let median_of_bare = bare[bare.len() / 2];
    eprintln!("start of an agent: median {:?}; bare: {median_of_bare:?}", times[times.len() / 2]);
}
