//! Programs that want out: every one first succeeds outside of a sandbox, then fails inside, and the
//! next job is as good as ever.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;
mod payloads;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use base64::Engine;
use common::{Service, skip};
use payloads::{GCC, Outside, assert_status, assert_unaffected, inside, is_root, job, path, printed, stdout};
use serde_json::{Value, json};

/// Errors that tell of a kernel without the feature, and so of nothing to protect from.
const LACKING: [&str; 6] = ["ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT", "ENODEV", "ENOTSUP"];

/// Every call of a family gets past the kernel's checks outside; inside none does, and those that
/// are `named` are in the answer.
fn refuses(family: &str, named: bool) {
    if !cfg!(target_arch = "x86_64") {
        return skip("the payload knows the numbers of x86_64 only");
    }
    let control: Value = serde_json::from_str(&Outside::new().stdout("calls.py", &[family])).unwrap();
    let service = Service::start();
    let answer = service.run(&job("calls.py", &[family]));
    assert_status(&answer, "ok");
    let got = printed(&answer);
    for (call, outside) in control.as_object().unwrap() {
        let inside = &got[call];
        assert_eq!(inside["reached"], false, "{call}: {inside}");
        if outside["reached"] == false {
            let result = outside["result"].as_str().unwrap();
            assert!(
                LACKING.contains(&result) || result == "ENOENT" || !is_root(),
                "the control of {call} fails: {outside}"
            );
            skip(&format!("control of {call}: {result}"));
        }
        if named {
            let is_named = answer["run"]["denied"].as_array().unwrap().iter().any(|denied| {
                let (name, argument) = (denied["syscall"].as_str().unwrap(), denied["argument"].as_str());
                call == name || argument.is_some_and(|argument| *call == format!("{name}({argument})"))
            });
            assert!(is_named, "{call} is not in {}", answer["run"]["denied"]);
            assert_eq!(inside["result"], "EPERM", "{call}");
        }
    }
    if !named {
        assert_eq!(answer["run"]["denied"], json!([]));
    }
    assert_unaffected(&service);
}

#[test]
fn mounts_are_refused_by_name() {
    refuses("mounts", true);
}

#[test]
fn namespaces_are_refused_by_name() {
    refuses("namespaces", true);
}

#[test]
fn debugging_is_refused_by_name() {
    refuses("processes", true);
}

#[test]
fn kernel_administration_is_refused_by_name() {
    refuses("kernel", true);
}

#[test]
fn sockets_and_terminals_are_refused_by_name() {
    refuses("sockets", true);
}

#[test]
fn what_libraries_probe_for_is_refused_quietly() {
    refuses("quiet", false);
}

#[test]
fn privilege_is_not_to_be_had() {
    refuses("privilege", false);
}

#[test]
fn a_flood_of_refused_calls_is_ended_and_counted() {
    let service = Service::start();
    let source = "import ctypes\nlibc = ctypes.CDLL(None)\nprint('before', flush=True)\nwhile True: libc.unshare(0)\n";
    let answer = service.run(&json!({
        "runtime": "python@3.11", "files": [{"content": source}],
    }));
    assert_status(&answer, "syscall_denied");
    assert_eq!(answer["run"]["denied"][0]["syscall"], "unshare");
    assert_eq!(answer["run"]["denied"][0]["count"], 10_000, "{answer}");
    assert_unaffected(&service);
}

#[test]
fn refused_calls_of_many_kinds_stay_few_in_the_answer() {
    let service = Service::start();
    let source = "import ctypes\nlibc = ctypes.CDLL(None)\nfor kind in range(3, 40): libc.socket(kind + 100, 1, 0)\n";
    let answer = service.run_source("python@3.11", source);
    assert_status(&answer, "ok");
    assert!(answer["run"]["denied"].as_array().unwrap().len() <= 16);
}

#[test]
fn the_32_bit_gate_is_death() {
    if !cfg!(target_arch = "x86_64") {
        return skip("x86_64 has this gate");
    }
    if Outside::new().stdout("int80.c", &[]) != "before\nreached\n" {
        return skip("the kernel has no 32-bit calls");
    }
    let service = Service::start();
    let answer = service.run(&job("int80.c", &[]));
    assert_status(&answer, "signalled");
    assert_eq!((stdout(&answer).as_str(), &answer["run"]["signal"]), ("before\n", &json!("SIGSYS")));
}

#[test]
fn numbers_of_the_x32_abi_are_no_way_around_the_filter() {
    if !cfg!(target_arch = "x86_64") {
        return skip("x86_64 has this ABI");
    }
    if Outside::new().stdout("x32.c", &[]) != "reached\n" {
        skip("control: the kernel has no x32 ABI");
    }
    let service = Service::start();
    assert_eq!(stdout(&service.run(&job("x32.c", &[]))), "Function not implemented\n");
}

/// What `/proc/self/status` must say of every process of a sandbox.
#[track_caller]
fn assert_confined(status: &str) {
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap_or_else(|| panic!("no {name} in {status:?}")).split_ascii_whitespace().collect::<Vec<_>>().join(" ")
    };
    for (name, wanted) in [
        ("Seccomp", "2"),
        ("NoNewPrivs", "1"),
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("Uid", "1000 1000 1000 1000"),
        ("Gid", "1000 1000 1000 1000"),
        ("Groups", ""),
        ("TracerPid", "0"),
        ("SigBlk", "0000000000000000"),
    ] {
        assert_eq!(field(name), wanted, "{name}");
    }
    let ignored = u64::from_str_radix(&field("SigIgn"), 16).unwrap();
    // Interpreters ignore SIGQUIT, SIGFPE, SIGPIPE and SIGXFSZ by themselves.
    assert_eq!(ignored & !(1 << 2 | 1 << 7 | 1 << 12 | 1 << 24), 0, "signals are ignored: {ignored:#x}");
}

const STATUS: &str = "print(open('/proc/self/status').read())";

#[test]
fn a_program_is_confined_in_every_respect() {
    let outside = Outside::new().shell(&format!("{} -c \"{STATUS}\"", payloads::PYTHON));
    let control = String::from_utf8(outside.stdout).unwrap();
    assert!(!control.contains("Seccomp:\t2"), "the control is confined itself: {control}");
    let service = Service::start();
    for profile in ["default", "judge", "agent", "build", "session"] {
        let answer =
            service.run(&json!({"runtime": "python@3.11", "files": [{"content": STATUS}], "profile": profile}));
        assert_status(&answer, "ok");
        assert_confined(&stdout(&answer));
    }
}

#[test]
fn a_compiler_is_confined_in_every_respect() {
    let service = service_with_hostile_language();
    let answer = service.run(&json!({"runtime": "hostile", "files": [{"content": STATUS}]}));
    assert_confined(answer["compile"]["stdout"].as_str().unwrap());
}

#[test]
fn children_and_threads_are_confined_in_every_respect() {
    let service = Service::start();
    let source = "import subprocess, threading\n\
                  subprocess.run(['cat', '/proc/self/status'])\n\
                  work = lambda: print(open('/proc/thread-self/status').read())\n\
                  thread = threading.Thread(target=work)\nthread.start()\nthread.join()\n";
    let text = stdout(&service.run_source("python@3.11", source));
    let parts: Vec<&str> = text.split("Name:").skip(1).collect();
    assert_eq!(parts.len(), 2, "{text}");
    parts.into_iter().for_each(assert_confined);
}

#[test]
fn a_library_that_runs_before_the_program_is_confined() {
    let outside = Outside::new();
    let library = outside.path().join("preload.so");
    let built =
        Command::new(GCC).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(path("preload.c")).status().unwrap();
    assert!(built.success());
    let control = Command::new("/bin/true").env("LD_PRELOAD", &library).output().unwrap();
    assert!(String::from_utf8(control.stdout).unwrap().contains("Seccomp:"), "the library does not run");
    let service = Service::start();
    let content = base64::engine::general_purpose::STANDARD.encode(fs::read(&library).unwrap());
    let answer = service.run(&json!({
        "runtime": "python@3.11",
        "files": [{"content": ""}, {"path": "x.so", "content_base64": content}],
        "env": {"LD_PRELOAD": "/workspace/x.so"},
    }));
    assert_status(&answer, "ok");
    assert_confined(&stdout(&answer));
}

/// Code that runs before the program because of a variable or a file of the request is inside too.
fn is_confined(request: Value) {
    let service = Service::start();
    let runtime = request["runtime"].as_str().unwrap();
    let listing = service.request("GET", "/v1/runtimes", &[], "");
    if !String::from_utf8_lossy(&listing.body).contains(&format!("\"{}\"", runtime.split('@').next().unwrap())) {
        return skip(&format!("no {runtime} on this host"));
    }
    let answer = service.run(&request);
    assert_status(&answer, "ok");
    assert_confined(&stdout(&answer));
}

#[test]
fn a_path_file_of_python_is_confined() {
    let plant = "import sys; exec('if not sys.argv[0]: pass'); print(open('/proc/self/status').read())";
    is_confined(json!({
        "runtime": "python@3.11",
        "files": [{"content": ""}, {"path": ".local/lib/python3.11/site-packages/x.pth", "content": plant}],
        "env": {"HOME": "/workspace"},
    }));
}

#[test]
fn a_customization_of_python_is_confined() {
    is_confined(json!({
        "runtime": "python@3.11", "files": [{"content": ""}, {"path": "lib/sitecustomize.py", "content": STATUS}],
        "env": {"PYTHONPATH": "/workspace/lib", "PYTHONSTARTUP": "/workspace/lib/sitecustomize.py"},
    }));
}

#[test]
fn options_of_node_are_confined() {
    is_confined(json!({
        "runtime": "javascript",
        "files": [
            {"content": ""},
            {"path": "x.cjs", "content": "console.log(require('fs').readFileSync('/proc/self/status', 'utf8'))"},
        ],
        "env": {"NODE_OPTIONS": "--require /workspace/x.cjs"},
    }));
}

#[test]
fn the_start_file_of_bash_is_confined() {
    is_confined(json!({
        "runtime": "bash", "files": [{"content": ""}, {"path": "x", "content": "echo \"$(</proc/self/status)\""}],
        "env": {"BASH_ENV": "/workspace/x"},
    }));
}

#[test]
fn options_of_perl_are_confined() {
    is_confined(json!({
        "runtime": "perl",
        "files": [{"content": ""}, {"path": "X.pm", "content": "open F, '/proc/self/status'; print <F>; 1"}],
        "env": {"PERL5OPT": "-I/workspace -MX"},
    }));
}

#[test]
fn options_of_ruby_are_confined() {
    is_confined(json!({
        "runtime": "ruby", "files": [{"content": ""}, {"path": "x.rb", "content": "puts File.read('/proc/self/status')"}],
        "env": {"RUBYOPT": "-r/workspace/x"},
    }));
}

#[test]
fn only_the_three_streams_are_open() {
    let line = format!("exec 7</etc/passwd; {} {}", payloads::PYTHON, path("descriptors.py").display());
    let control = Outside::new().shell(&line);
    assert!(String::from_utf8(control.stdout).unwrap().contains("7"), "the control inherits nothing");
    let service = Service::start();
    assert_eq!(stdout(&service.run(&job("descriptors.py", &[]))), "[0, 1, 2]\n");
    let service = service_with_hostile_language();
    let content = common::file("payloads/descriptors.py");
    let answer = service.run(&json!({"runtime": "hostile", "files": [{"content": content}]}));
    assert_eq!(answer["compile"]["stdout"], "[0, 1, 2]\n");
}

#[test]
fn process_1_cannot_be_looked_into() {
    let paths =
        ["mem", "environ", "root", "exe", "fd", "maps", "cwd", "auxv", "stack", "status", "cmdline", "task", "ns/mnt"];
    let paths: Vec<String> = paths.iter().map(|name| format!("/proc/1/{name}")).collect();
    let paths: Vec<&str> = paths.iter().map(String::as_str).collect();
    let control: Value = serde_json::from_str(&Outside::new().stdout("reads.py", &paths)).unwrap();
    for name in ["mem", "environ", "root", "fd", "maps"] {
        assert_ne!(control[format!("/proc/1/{name}")], Value::Null, "{name}");
    }
    let service = Service::start();
    for (path, text) in printed(&service.run(&job("reads.py", &paths))).as_object().unwrap() {
        assert_eq!(*text, Value::Null, "{path}");
    }
}

#[test]
fn nothing_of_the_host_can_be_read() {
    let planted: Vec<tempfile::NamedTempFile> = ["/tmp", "/var/tmp", "/run", "/root", "/home", "/opt", "/srv"]
        .iter()
        .filter_map(|directory| {
            let file = tempfile::Builder::new().prefix("planted").tempfile_in(directory).ok()?;
            fs::write(&file, "secret").ok()?;
            fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).ok()?;
            Some(file)
        })
        .collect();
    assert!(planted.len() >= 2);
    let mut paths: Vec<&str> = planted.iter().map(|file| file.path().to_str().unwrap()).collect();
    paths.extend([
        "/etc/shadow",
        "/etc/machine-id",
        "/root",
        "/home",
        "/sys",
        "/boot",
        "/run",
        "/mnt",
        "/srv",
        "/var/log",
    ]);
    paths.extend([
        "/var/run/docker.sock",
        "/etc/ssh",
        "/dev/sda",
        "/dev/vda",
        "/dev/mem",
        "/dev/kmsg",
        "/dev/tty",
        "/dev/ptmx",
    ]);
    let control: Value = serde_json::from_str(&Outside::new().stdout("reads.py", &paths)).unwrap();
    for file in &planted {
        assert_eq!(control[file.path().to_str().unwrap()], "secret");
    }
    let service = Service::start();
    for (path, text) in printed(&service.run(&job("reads.py", &paths))).as_object().unwrap() {
        assert!(text.is_null() || text == "", "{path}: {text}");
    }
}

#[test]
fn the_root_holds_what_it_should_and_no_more() {
    let service = Service::start();
    let source = "import os\nprint(*sorted(os.listdir('/')))\nprint(*sorted(os.listdir('/etc')))\n\
                  print(*sorted(os.listdir('/dev')))\nprint(*os.listdir('/var/tmp'), *os.listdir('/tmp'))\n";
    let text = stdout(&service.run_source("python@3.11", source));
    let lines: Vec<&str> = text.split('\n').collect();
    let known =
        ["bin", "dev", "etc", "lib", "lib32", "lib64", "libexec", "libx32", "proc", "runtime", "sbin", "tmp", "usr"];
    for entry in lines[0].split(' ') {
        assert!(known.contains(&entry) || ["var", "workspace"].contains(&entry), "/{entry}");
    }
    let known = ["alternatives", "group", "hostname", "hosts", "ld.so.cache", "ld.so.conf", "ld.so.conf.d"];
    for entry in lines[1].split(' ') {
        let is_known = known.contains(&entry) || ["nsswitch.conf", "passwd", "resolv.conf"].contains(&entry);
        // Directories of a language's own, such as Java's.
        assert!(is_known || entry.starts_with("java") || entry == "python3.11", "/etc/{entry}");
    }
    assert_eq!(lines[2], "fd full null ptmx pts random shm stderr stdin stdout tty urandom zero");
    assert_eq!(lines[3], "");
}

#[test]
fn kernel_files_that_tell_of_the_host_are_covered() {
    let paths = [
        "/proc/kcore",
        "/proc/kallsyms",
        "/proc/keys",
        "/proc/key-users",
        "/proc/timer_list",
        "/proc/iomem",
        "/proc/interrupts",
        "/proc/modules",
        "/proc/config.gz",
        "/proc/locks",
        "/proc/bus",
        "/proc/fs",
        "/proc/irq",
        "/proc/driver",
        "/proc/acpi",
        "/proc/kmsg",
        "/proc/sched_debug",
        "/proc/slabinfo",
        "/proc/vmallocinfo",
    ];
    let control: Value = serde_json::from_str(&Outside::new().stdout("reads.py", &paths)).unwrap();
    assert_ne!(control["/proc/interrupts"], Value::Null);
    let service = Service::start();
    for (path, text) in printed(&service.run(&job("reads.py", &paths))).as_object().unwrap() {
        assert!(text.is_null() || text == "", "{path}: {text}");
    }
}

#[test]
fn only_three_directories_can_be_written() {
    let control = Outside::new();
    fs::write(control.path().join("file"), "").unwrap();
    assert_eq!(control.stdout("writes.py", &["."]), "{\"made\": [\".\"], \"opened\": [\"./file\"]}\n");
    let service = Service::start();
    let answer = inside(&service, "writes.py", &[], json!({"disk_files": 100, "wall_time_ms": 30_000}));
    assert_status(&answer, "ok");
    let found = printed(&answer);
    assert_eq!(found["made"], json!(["/dev/shm", "/tmp", "/workspace"]));
    let devices = ["/dev/full", "/dev/null", "/dev/random", "/dev/urandom", "/dev/zero"];
    for path in found["opened"].as_array().unwrap().iter().map(|path| path.as_str().unwrap()) {
        let own = path.starts_with("/workspace/") || path.starts_with("/dev/std") || path.starts_with("/dev/fd/");
        assert!(own || devices.contains(&path), "{path} could be opened for writing");
    }
}

#[test]
fn set_user_id_programs_gain_nothing() {
    let programs: Vec<&str> = ["/usr/bin/su", "/usr/bin/passwd", "/usr/bin/newgrp", "/usr/bin/chsh"]
        .into_iter()
        .filter(|path| fs::metadata(path).is_ok_and(|found| found.permissions().mode() & 0o4000 != 0))
        .collect();
    if programs.is_empty() {
        return skip("this host has no set-user-id programs");
    }
    if is_root() {
        let output = Command::new("setpriv")
            .args(["--reuid=61234", "--regid=61234", "--clear-groups", payloads::PYTHON])
            .arg("-")
            .args(&programs)
            .stdin(fs::File::open(path("setuid.py")).unwrap())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let control: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert!(control.as_object().unwrap().values().any(|uid| *uid == 0), "the control gains nothing: {control}");
    } else {
        skip("control: only root can become a user that owns nothing");
    }
    let service = Service::start();
    for (program, uid) in printed(&service.run(&job("setuid.py", &programs))).as_object().unwrap() {
        assert_eq!(*uid, 1000, "{program}");
    }
}

/// Runs a payload that leaves something behind: outside it is there afterwards, inside the job ends
/// well and at once, and nothing of it is left.
fn leaves_nothing(how: &str) {
    let payload = path("lingers.py");
    let line = format!(
        "{} {} {how} >/dev/null; while ! [ -s pid ]; do :; done; kill -0 $(cat pid) && echo alive",
        payloads::PYTHON,
        payload.display()
    );
    let control = Outside::new().shell(&line);
    assert_eq!(String::from_utf8(control.stdout).unwrap(), "alive\n");
    let service = Service::start();
    let answer = inside(&service, "lingers.py", &[how], json!({"wall_time_ms": 5000}));
    assert_status(&answer, "ok");
    assert_eq!(stdout(&answer), "before\n");
    assert!(answer["run"]["usage"]["wall_time_ms"].as_f64().unwrap() < 4000.0, "{answer}");
    service.assert_no_sandbox();
    assert_unaffected(&service);
}

#[test]
fn a_child_in_a_session_of_its_own_is_ended() {
    leaves_nothing("session");
}

#[test]
fn a_daemon_is_ended() {
    leaves_nothing("daemon");
}

#[test]
fn a_grandchild_that_keeps_the_output_open_is_ended() {
    leaves_nothing("output");
}

#[test]
fn a_program_that_closes_its_output_is_waited_for() {
    let service = Service::start();
    let answer = service.run(&job("lingers.py", &["closed"]));
    assert_status(&answer, "ok");
    assert!(answer["run"]["usage"]["wall_time_ms"].as_f64().unwrap() >= 200.0, "{answer}");
}

#[test]
fn zombies_are_reaped() {
    assert!(Outside::new().stdout("lingers.py", &["zombies"]).contains("30 zombies"));
    let service = Service::start();
    let answer = service.run(&job("lingers.py", &["zombies"]));
    assert_status(&answer, "ok");
    assert_eq!(stdout(&answer), "before\n30 zombies\n");
    service.assert_no_sandbox();
}

#[test]
fn a_program_that_stops_its_parent_stops_itself() {
    let line = format!(
        "sh -c '{} {} stop' & while ! grep -q 'State:.T' /proc/$!/status; do :; done; echo stopped",
        payloads::PYTHON,
        path("lingers.py").display()
    );
    // `sh -c` with one command would be replaced by it, and stop its own parent, this shell.
    let line = line.replace(" stop'", " stop; true'");
    let control = Outside::new().shell(&line);
    assert_eq!(String::from_utf8(control.stdout).unwrap().lines().last(), Some("stopped"));
    let service = Service::start();
    let answer = inside(&service, "lingers.py", &["stop"], json!({"wall_time_ms": 500}));
    assert_status(&answer, "wall_time_exceeded");
    assert_unaffected(&service);
}

#[test]
fn a_program_can_kill_nobody_but_itself() {
    let service = Service::start();
    let answer = service.run(&job("lingers.py", &["everyone"]));
    assert_status(&answer, "ok");
    assert!(stdout(&answer).ends_with("after\n"), "{answer}");
    assert_unaffected(&service);
}

#[test]
fn orphans_that_fork_for_ever_are_ended() {
    let service = Service::start();
    let answer = inside(&service, "lingers.py", &["trap"], json!({"wall_time_ms": 3000, "processes": 64}));
    assert_status(&answer, "ok");
    assert!(answer["run"]["usage"]["wall_time_ms"].as_f64().unwrap() < 2500.0, "{answer}");
    service.assert_no_sandbox();
    assert_unaffected(&service);
}

/// A language whose compile step is a program of the request: what a build script or a macro can do
/// elsewhere.
fn service_with_hostile_language() -> Service {
    Service::start_with(json!({"languages": {"hostile": {
        "name": "hostile", "title": "Hostile", "aliases": [], "extensions": ["py"], "main": "main.py", "program": "python",
        "compile": {"argv": ["{python}", "{main}"], "env": {}},
        "run": {"argv": ["./program"], "env": {}},
        "self_test": {"source": "", "stdin": "", "expect": ""},
        "probe": {"argv": ["{python}", "--version"], "pattern": "Python ([0-9.]+)"},
        "versions": [{"nixpkgs": "python311", "programs": {"python": payloads::PYTHON}}],
    }}}))
}

#[test]
fn what_a_compile_step_plants_harms_nobody() {
    // The control: a service that opens these names as they are reads what they point to, or hangs.
    let outside = Outside::new();
    let secret = tempfile::Builder::new().prefix("planted").tempfile_in("/var/tmp").unwrap();
    fs::write(&secret, "secret").unwrap();
    let target = secret.path().to_str().unwrap();
    fs::write(outside.path().join("target"), target).unwrap();
    outside.stdout("plants.py", &["link"]);
    assert_eq!(fs::read_to_string(outside.path().join("result")).unwrap(), "secret");
    let service = service_with_hostile_language();
    let kinds =
        ["link", "loop", "parent", "fifo", "socket", "directory", "device", "hardlink", "closed", "script", "object"];
    for kind in kinds {
        let answer = service.run(&json!({
            "runtime": "hostile",
            "files": [
                {"content": common::file("payloads/plants.py")},
                {"path": "kind", "content": kind},
                {"path": "target", "content": target},
            ],
            "outputs": ["*", "**"],
        }));
        assert_eq!(answer["compile"]["status"], "ok", "{kind}: {answer}");
        assert_status(&answer, "nonzero_exit");
        assert_eq!(answer["run"]["exit_code"], Value::Null, "{kind} ran: {answer}");
        for file in answer["files"].as_array().unwrap() {
            let regular = ["device", "hardlink", "closed", "script", "object"].contains(&kind);
            assert!(regular || file["path"] == "target", "{kind}: {file}");
            assert_ne!(file["content"], "secret", "{kind}: {file}");
        }
        assert_unaffected(&service);
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
}

#[test]
fn a_compiler_that_reads_without_end_is_ended() {
    let source = "#include \"/dev/zero\"\n";
    let outside = Outside::new();
    fs::write(outside.path().join("x.c"), source).unwrap();
    let control = outside.shell(&format!("prlimit --as=600000000 timeout 10 {GCC} -c x.c"));
    assert!(!control.status.success());
    let service = Service::start();
    let answer = service.run(&json!({
        "runtime": "c@12", "files": [{"content": source}],
        "compile_limits": {"memory_bytes": 256 << 20, "wall_time_ms": 10_000},
    }));
    assert_status(&answer, "compile_failed");
    assert!(["memory_exceeded", "nonzero_exit"].contains(&answer["compile"]["status"].as_str().unwrap()), "{answer}");
    assert_unaffected(&service);
}

#[test]
fn a_compiler_cannot_read_the_host() {
    let secret = tempfile::Builder::new().prefix("planted").suffix(".h").tempfile_in("/var/tmp").unwrap();
    fs::write(&secret, "#error not_to_be_seen\n").unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let path = secret.path().to_str().unwrap();
    let sources = [
        format!("#include \"{path}\"\n"),
        format!("__asm__(\".incbin \\\"{path}\\\"\");\n#include <stdio.h>\nint main(void) {{ return 0; }}\n"),
        "#include \"/etc/shadow\"\n".to_owned(),
        "#include \"/proc/1/environ\"\n".to_owned(),
    ];
    let outside = Outside::new();
    fs::write(outside.path().join("x.c"), &sources[0]).unwrap();
    let control = outside.shell(&format!("{GCC} -c x.c"));
    assert!(String::from_utf8(control.stderr).unwrap().contains("not_to_be_seen"));
    let service = Service::start();
    for source in sources {
        let answer = service.run_source("c@12", &source);
        assert_status(&answer, "compile_failed");
        let told = answer["compile"]["stderr"].as_str().unwrap();
        let missing = told.contains("No such file") || told.contains("file not found");
        assert!(!told.contains("not_to_be_seen") && missing, "{answer}");
    }
}

#[test]
fn a_compiler_that_computes_without_end_is_ended() {
    let source = "template <int N, int M> struct A { A<N - 1, 2 * M> a; A<N - 1, 2 * M + 1> b; };\n\
                  template <int M> struct A<0, M> { char c; };\nA<24, 1> all;\nint main() {}\n";
    let service = Service::start();
    let answer = service.run(&json!({
        "runtime": "c++@17", "files": [{"content": source}], "compile_limits": {"cpu_time_ms": 700, "wall_time_ms": 5000},
    }));
    assert_status(&answer, "compile_failed");
    assert_eq!(answer["compile"]["status"], "cpu_time_exceeded", "{answer}");
    assert_unaffected(&service);
}

#[test]
fn a_compiler_that_prints_without_end_is_ended() {
    let source = "#define A x; x; x; x; x; x; x; x;\n#define B A A A A A A A A\n#define C B B B B B B B B\n\
                  int main(void) { C C C C C C C C C C C C C C C C }\n";
    let service = Service::start();
    let answer = service.run(&json!({
        "runtime": "c@12", "files": [{"content": format!("#warning {}\n{source}", "a".repeat(9000))}],
        "compile_limits": {"output_bytes": 4096},
    }));
    assert_status(&answer, "compile_failed");
    assert_eq!(answer["compile"]["status"], "output_exceeded", "{answer}");
    assert_eq!(answer["compile"]["stderr"].as_str().unwrap().len(), 4096);
}

#[test]
fn the_streams_can_be_opened_by_name() {
    let service = Service::start();
    let source = "read word < /dev/stdin; echo \"$word\" > /dev/stdout; echo no >> /dev/stderr; cat <(echo both)";
    let answer = service.run(&json!({"runtime": "bash", "files": [{"content": source}], "stdin": "yes\n"}));
    assert_status(&answer, "ok");
    assert_eq!((stdout(&answer).as_str(), answer["run"]["stderr"].as_str()), ("yes\nboth\n", Some("no\n")));
}
