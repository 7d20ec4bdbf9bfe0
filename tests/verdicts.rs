//! One program for every verdict, which first does its harm outside of a sandbox; and what the
//! answer says of the program besides.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::time::{Duration, Instant};

use common::Service;
use payloads::{Live, Outside, assert_status, assert_unaffected, bytes, inside, job, job_with, stdout};
use serde_json::{Value, json};

/// What was printed and flushed before the end is there, whatever the end.
#[track_caller]
fn assert_kept(answer: &Value) {
    assert!(stdout(answer).starts_with("before\n"), "{answer}");
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
fn a_program_that_ends_well_is_ok() {
    let service = Service::start();
    let answer = inside(&service, "ends.py", &["exit", "0"], json!({}));
    assert_status(&answer, "ok");
    let run = &answer["run"];
    assert_eq!((&run["exit_code"], &run["signal"], &run["reason"]), (&json!(0), &Value::Null, &Value::Null));
    assert!(["rlimit", "cgroup2"].contains(&answer["limits"]["enforced_by"].as_str().unwrap()));
}

#[test]
fn an_exit_status_is_told() {
    assert_eq!(Outside::new().run("ends.py", &["exit", "7"]).status.code(), Some(7));
    let service = Service::start();
    let answer = inside(&service, "ends.py", &["exit", "7"], json!({}));
    assert_status(&answer, "nonzero_exit");
    assert_eq!(answer["run"]["exit_code"], 7);
    assert_kept(&answer);
}

#[test]
fn an_exit_status_is_told_under_the_tightest_limits() {
    let service = Service::start();
    // None of these limits has anything to do with the end of the program.
    for limits in
        [json!({"processes": 1}), json!({"file_size_bytes": 100}), json!({"disk_bytes": 65536, "disk_files": 16})]
    {
        let answer = inside(&service, "ends.py", &["exit", "3"], limits);
        assert_status(&answer, "nonzero_exit");
    }
}

#[test]
fn a_signal_is_named() {
    let service = Service::start();
    for (number, name) in [("11", "SIGSEGV"), ("6", "SIGABRT"), ("9", "SIGKILL"), ("15", "SIGTERM")] {
        let answer = inside(&service, "ends.py", &["signal", number], json!({}));
        assert_status(&answer, "signalled");
        assert_eq!((&answer["run"]["signal"], &answer["run"]["exit_code"]), (&json!(name), &Value::Null));
        assert_kept(&answer);
    }
}

#[test]
fn a_crash_of_a_compiled_program_is_a_signal() {
    let service = Service::start();
    let source = "int main(void) { volatile int *nowhere = 0; return *nowhere; }";
    let answer = service.run_source("c@12", source);
    assert_status(&answer, "signalled");
    assert_eq!(answer["run"]["signal"], "SIGSEGV");
}

/// Runs something under a wall time of half a second; it must end for that, and soon after.
fn ends_by_the_clock(payload: &str, args: &[&str]) {
    let service = Service::start();
    let began = Instant::now();
    let answer = inside(&service, payload, args, json!({"wall_time_ms": 500}));
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_status(&answer, "wall_time_exceeded");
    assert!(number(&answer["run"]["usage"]["wall_time_ms"]) >= 500.0);
    assert_eq!(answer["run"]["signal"], "SIGKILL");
    assert_kept(&answer);
    assert_unaffected(&service);
}

#[test]
fn a_sleeper_is_ended_by_the_clock() {
    Outside::new().start("sleeper.py", &[], None).wait_for_line("before");
    ends_by_the_clock("sleeper.py", &[]);
}

#[test]
fn a_sleeper_that_ignores_signals_is_ended_by_the_clock() {
    let outside = Outside::new();
    let mut control = outside.start("sleeper.py", &["stubborn"], None);
    control.wait_for_line("before");
    for pid in control.pids() {
        let sleeper =
            std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.starts_with(b"/usr/bin/python3.11"));
        if sleeper {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM).unwrap();
        }
    }
    control.wait_for_line("still here");
    ends_by_the_clock("sleeper.py", &["stubborn"]);
}

#[test]
fn busy_children_are_ended_by_the_clock() {
    Outside::new().start("busy.py", &["3", "0"], None).wait_for_line("before");
    ends_by_the_clock("busy.py", &["3", "0"]);
}

fn cpu_of_children() -> Duration {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).unwrap();
    [usage.user_time(), usage.system_time()]
        .into_iter()
        .map(|time| Duration::from_micros((time.tv_sec() * 1_000_000 + time.tv_usec()).unsigned_abs()))
        .sum()
}

/// Runs something under 300 ms of processor time and much time by the clock.
fn ends_by_the_processor(args: &[&str]) {
    // What nobody waits for is counted nowhere, outside too.
    if !args.iter().any(|how| ["orphans", "ignore", "relay"].contains(how)) {
        let bounded: Vec<&str> = args.iter().map(|arg| if *arg == "0" { "0.4" } else { *arg }).collect();
        let before = cpu_of_children();
        Outside::new().stdout("busy.py", &bounded);
        let spent = cpu_of_children() - before;
        assert!(spent > Duration::from_millis(400), "the control took {spent:?} only");
    }
    let service = Service::start();
    let limits = json!({"cpu_time_ms": 300, "wall_time_ms": 10_000, "cpu_millis": 2000});
    let answer = inside(&service, "busy.py", args, limits);
    assert_status(&answer, "cpu_time_exceeded");
    let usage = &answer["run"]["usage"];
    assert!((250.0..1500.0).contains(&number(&usage["cpu_time_ms"])), "{usage}");
    assert_kept(&answer);
}

#[test]
fn a_busy_process_is_ended_by_the_processor() {
    ends_by_the_processor(&["1", "0"]);
}

#[test]
fn processor_time_spread_over_processes_counts_as_one() {
    ends_by_the_processor(&["4", "0.2"]);
}

#[test]
fn processor_time_of_orphans_counts() {
    ends_by_the_processor(&["3", "0", "orphans"]);
}

#[test]
fn processor_time_of_children_that_nobody_waits_for_counts() {
    ends_by_the_processor(&["3", "0.25", "ignore"]);
}

#[test]
fn processor_time_of_a_relay_of_short_processes_counts() {
    ends_by_the_processor(&["60", "0.05", "relay"]);
}

/// Takes 160 MiB outside, and inside is ended at 64 MiB.
fn ends_by_memory(how: &str) {
    let service = Service::start();
    let mut control = Outside::new().start("memory.py", &[how, "160"], None);
    control.wait_for_line("has it");
    drop(control);
    let limits = json!({
        "memory_bytes": 64 << 20, "wall_time_ms": 4000, "disk_bytes": 1 << 30, "file_size_bytes": 512 << 20,
    });
    let answer = inside(&service, "memory.py", &[how, "160"], limits);
    assert_status(&answer, "memory_exceeded");
    assert_kept(&answer);
    let peak = answer["run"]["usage"]["memory_peak_bytes"].as_u64().unwrap();
    assert!(peak >= 60 << 20, "{peak}");
    assert_unaffected(&service);
}

macro_rules! memory {
    ($($name:ident: $how:literal,)+) => {
        $(#[test]
        fn $name() {
            ends_by_memory($how);
        })+
    };
}

memory! {
    memory_of_one_process_is_limited: "heap",
    memory_of_several_processes_counts_as_one: "forks",
    memory_that_is_mapped_shared_counts: "shared",
    files_in_tmp_count_as_memory: "tmp",
    files_in_dev_shm_count_as_memory: "shm",
    files_without_a_name_count_as_memory: "unlinked",
    memory_files_that_nobody_maps_count: "memfd",
    shared_segments_that_nobody_has_attached_count: "sysv",
    page_tables_count_as_memory: "tables",
}

#[test]
fn memory_below_the_limit_is_given() {
    let service = Service::start();
    for how in ["heap", "shared", "tmp", "shm", "memfd", "sysv"] {
        let limits = json!({"memory_bytes": 256 << 20, "disk_bytes": 1 << 30, "file_size_bytes": 512 << 20});
        let answer = inside(&service, "memory.py", &[how, "160", "end"], limits);
        assert_status(&answer, "ok");
    }
}

#[test]
fn a_file_that_is_mapped_counts_once() {
    let service = Service::start();
    let source = "import mmap, os, time\n\
                  file = os.open('/dev/shm/x', os.O_CREAT | os.O_RDWR)\n\
                  os.ftruncate(file, 60 << 20)\n\
                  block = mmap.mmap(file, 60 << 20)\n\
                  block.write(b'x' * (60 << 20))\n\
                  pids = [os.fork() for _ in range(2)]\n\
                  print(len(block[:]) >> 20, flush=True)\n\
                  time.sleep(0.1)\n";
    let answer = service.run(&json!({
        "runtime": "python@3.11", "files": [{"content": source}], "limits": {"memory_bytes": 350 << 20},
    }));
    assert_status(&answer, "ok");
}

#[test]
fn output_is_cut_at_the_byte() {
    let service = Service::start();
    let outside = Outside::new().run("printer.py", &["1", "200000"]);
    assert_eq!(outside.stdout.len(), 200_000);
    for (descriptor, stream) in [("1", "stdout"), ("2", "stderr")] {
        for (printed, status) in [("100000", "ok"), ("100001", "output_exceeded"), ("20000000", "output_exceeded")] {
            let answer = inside(&service, "printer.py", &[descriptor, printed], json!({"output_bytes": 100_000}));
            let got = bytes(&answer["run"], stream);
            assert_eq!(got.len(), 100_000, "{printed}");
            assert!(got == outside.stdout[..100_000], "the bytes differ");
            assert_status(&answer, status);
        }
    }
}

#[test]
fn one_byte_too_many_is_told() {
    let service = Service::start();
    let job = job_with("printer.py", &["1", "1001"], json!({"limits": {"output_bytes": 1000}}));
    let answer = service.run(&job);
    assert_status(&answer, "output_exceeded");
}

#[test]
fn no_output_at_all_can_be_asked_for() {
    let service = Service::start();
    let answer = inside(&service, "printer.py", &["1", "0"], json!({"output_bytes": 0}));
    assert_status(&answer, "ok");
    let answer = inside(&service, "printer.py", &["1", "70000"], json!({"output_bytes": 0}));
    assert_status(&answer, "output_exceeded");
    assert_eq!(answer["run"]["stdout"], "");
}

#[test]
fn binary_output_survives() {
    let service = Service::start();
    let outside = Outside::new().run("printer.py", &["1", "70000"]);
    let answer = inside(&service, "printer.py", &["1", "70000"], json!({}));
    assert_eq!(answer["run"]["stdout_encoding"], "base64");
    assert_eq!(bytes(&answer["run"], "stdout"), outside.stdout);
}

const FEW: u32 = 32;

fn few() -> Value {
    json!({"processes": FEW, "wall_time_ms": 1500, "cpu_time_ms": 4000})
}

#[test]
fn a_fork_bomb_is_told_from_a_slow_program() {
    let mut control = Outside::new().start("fork_bomb.c", &[], Some(100));
    control.read_bytes(60);
    drop(control);
    let service = Service::start();
    let answer = service.run(&job_with("fork_bomb.c", &[], json!({"limits": few()})));
    assert_status(&answer, "processes_exceeded");
    let got = bytes(&answer["run"], "stdout").len();
    assert!((1..=60).contains(&got), "{got} processes were made");
    assert_unaffected(&service);
}

#[test]
fn a_fork_bomb_of_the_shell_is_told() {
    let mut control = Outside::new().start("fork_bomb.sh", &[], Some(100));
    control.read_error_bytes(2 * 60);
    drop(control);
    let service = Service::start();
    // Bash waits a second where it can't fork, then two: a sampler has to see it when it tries.
    let mut limits = few();
    limits["wall_time_ms"] = json!(4000);
    let answer = service.run(&job_with("fork_bomb.sh", &[], json!({"limits": limits})));
    assert_status(&answer, "processes_exceeded");
    assert_unaffected(&service);
}

#[test]
fn too_many_processes_are_refused() {
    assert_eq!(Outside::new().stdout("many.py", &["forks", "40"]), "40\n");
    let service = Service::start();
    // Without a pause at the end: the children that are left tell.
    let answer = service.run(&job_with("many.py", &["forks", "40"], json!({"limits": few()})));
    assert_status(&answer, "processes_exceeded");
}

#[test]
fn too_many_threads_are_refused() {
    assert_eq!(Outside::new().stdout("many.py", &["threads", "40"]), "40\n");
    let service = Service::start();
    let mut limits = few();
    limits["wall_time_ms"] = json!(4000);
    let answer = service.run(&job_with("many.py", &["threads", "40", "1.0"], json!({"limits": limits})));
    assert_status(&answer, "processes_exceeded");
}

#[test]
fn as_many_threads_as_are_allowed_can_be_had() {
    let service = Service::start();
    for profile in ["default", "judge"] {
        let answer = service.run(&job_with("many.py", &["threads", "60"], json!({"profile": profile})));
        assert_status(&answer, "ok");
    }
}

#[test]
fn a_file_that_is_too_large_is_told() {
    let outside = Outside::new();
    assert_eq!(outside.stdout("file_size.c", &["200000"]), "before\nhas it\n");
    let service = Service::start();
    let limits = json!({"file_size_bytes": 100_000});
    for path in ["large", "/tmp/large", "/dev/shm/large"] {
        let answer = inside(&service, "file_size.c", &["200000", path], limits.clone());
        assert_status(&answer, "file_size_exceeded");
        assert_eq!(answer["run"]["signal"], "SIGXFSZ");
        assert_kept(&answer);
    }
}

#[test]
fn a_file_that_is_too_large_is_told_where_the_signal_is_ignored() {
    let outside = Outside::new();
    outside.stdout("disk.py", &["file", "200000", "."]);
    let service = Service::start();
    // Python ignores SIGXFSZ and sees EFBIG.
    for directory in ["/workspace", "/tmp", "/dev/shm"] {
        let answer = inside(&service, "disk.py", &["file", "200000", directory], json!({"file_size_bytes": 100_000}));
        assert_status(&answer, "file_size_exceeded");
    }
}

#[test]
fn a_full_disk_is_told() {
    let outside = Outside::new();
    outside.stdout("disk.py", &["bytes", "20000000", "."]);
    let service = Service::start();
    for directory in ["/workspace", "/tmp", "/dev/shm"] {
        let answer = inside(&service, "disk.py", &["bytes", "20000000", directory], json!({"disk_bytes": 8 << 20}));
        assert_status(&answer, "disk_exceeded");
        assert_kept(&answer);
    }
}

#[test]
fn too_many_files_are_told() {
    let outside = Outside::new();
    outside.stdout("disk.py", &["inodes", "1000", "."]);
    let service = Service::start();
    for directory in ["/workspace", "/tmp", "/dev/shm"] {
        let answer = inside(&service, "disk.py", &["inodes", "1000", directory], json!({"disk_files": 500}));
        assert_status(&answer, "disk_exceeded");
    }
}

#[test]
fn a_refused_call_is_named_and_survived() {
    assert_eq!(Outside::new().stdout("refused.py", &[]), "before\nreached\n");
    let service = Service::start();
    let answer = service.run(&job("refused.py", &[]));
    assert_status(&answer, "ok");
    assert_eq!(answer["run"]["denied"], json!([{"syscall": "socket", "argument": "AF_INET", "count": 1}]));
    assert_eq!(stdout(&answer), "before\nOperation not permitted\n");
    let answer = service.run(&job("refused.py", &["fatal"]));
    assert_status(&answer, "syscall_denied");
    assert_eq!(answer["run"]["reason"], "refused: socket(AF_INET)");
}

#[test]
fn a_refused_call_ends_a_program_of_the_judge_at_once() {
    assert_eq!(Outside::new().stdout("refused.py", &[]), "before\nreached\n");
    let service = Service::start();
    let answer = service.run(&job_with("refused.py", &[], json!({"profile": "judge"})));
    assert_status(&answer, "syscall_denied");
    assert_eq!(answer["run"]["denied"][0]["syscall"], "socket");
    assert_eq!(stdout(&answer), "before\n");
}

#[test]
fn a_run_is_cancelled_by_its_id() {
    let service = Service::start();
    let mut live = Live::start(&service, &job("sleeper.py", &[]));
    live.wait_for("before");
    assert_eq!(service.request("DELETE", &format!("/v1/runs/{}", live.id), &[], "").status, 204);
    let last = live.last();
    assert_eq!((&last["event"], &last["status"]), (&json!("finished"), &json!("cancelled")), "{last}");
    assert_eq!(last["run"]["stdout"], "before\n");
    let forgotten = || service.request("DELETE", &format!("/v1/runs/{}", live.id), &[], "").status == 404;
    common::wait_for("the run to be forgotten", forgotten);
    assert_unaffected(&service);
}

#[test]
fn hanging_up_ends_the_run() {
    let service = Service::start();
    let mut live = Live::start(&service, &job("busy.py", &["3", "0"]));
    live.wait_for("before");
    assert!(!service.sandbox_processes().is_empty());
    drop(live);
    service.assert_no_sandbox();
    assert_unaffected(&service);
}

#[test]
fn a_program_that_does_not_compile_is_not_run() {
    let service = Service::start();
    let answer = service.run_source("c@12", "int main(void) { return x; }");
    assert_status(&answer, "compile_failed");
    assert_eq!(answer["compile"]["status"], "nonzero_exit");
    assert!(answer["compile"]["stderr"].as_str().unwrap().contains("undeclared"), "{answer}");
    assert_eq!(answer["run"], Value::Null);
}

#[test]
fn processor_time_is_measured() {
    let service = Service::start();
    for args in [["1", "0.3"], ["3", "0.1"]] {
        let answer = inside(&service, "busy.py", &args, json!({"cpu_millis": 2000}));
        let spent = number(&answer["run"]["usage"]["cpu_time_ms"]);
        assert!((290.0..700.0).contains(&spent), "{args:?}: {spent} ms");
    }
}

#[test]
fn memory_is_measured() {
    let service = Service::start();
    let answer = inside(&service, "memory.py", &["heap", "100", "end"], json!({}));
    let peak = answer["run"]["usage"]["memory_peak_bytes"].as_u64().unwrap() >> 20;
    assert!((100..160).contains(&peak), "{peak} MiB");
}

#[test]
fn processes_are_counted() {
    let service = Service::start();
    let answer = inside(&service, "many.py", &["forks", "4", "0.2"], json!({}));
    assert_status(&answer, "ok");
    assert_eq!(answer["run"]["usage"]["processes_peak"], 5);
}
