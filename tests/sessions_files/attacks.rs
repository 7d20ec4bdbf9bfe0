//! A program of the session works against the calls about its files, and gains nothing.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Lines, Session, assert_problem, encoded, problem, request, tar_of, text};
use crate::common::{Service, wait_for};

const SECRET: &str = "what lies outside of the workspace";

/// Makes a directory `d` in the workspace and a decoy outside, and exchanges `d` for a link to the decoy as fast
/// as it can. Tells first what it gets by plain paths: the control.
const SWAPPER: &str = r#"
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
for where in ("/tmp/decoy", "/workspace/d"):
    os.makedirs(where + "/sub/deep", exist_ok=True)
    for name in ("secret", "sub/deep/secret"):
        with open(f"{where}/{name}", "w") as file:
            file.write("SECRET" if where == "/tmp/decoy" else "mine")
os.symlink("/tmp/decoy", "/workspace/l")
stop = False
def swap():
    while not stop:
        libc.renameat2(-100, b"/workspace/d", -100, b"/workspace/l", 2)
thread = threading.Thread(target=swap)
thread.start()
read = wrote = made = removed = False
began = time.monotonic()
while not (read and wrote and made and removed) and time.monotonic() < began + 20:
    try:
        read = read or open("/workspace/d/secret").read() == "SECRET"
    except OSError: pass
    try:
        if not wrote:
            open("/workspace/d/control", "w").close()
        wrote = wrote or os.path.exists("/tmp/decoy/control")
    except OSError: pass
    try:
        if not made:
            os.mkdir("/workspace/d/made")
    except OSError: pass
    made = made or os.path.exists("/tmp/decoy/made")
    try:
        if not removed:
            os.unlink("/workspace/d/control")
    except OSError: pass
    removed = removed or wrote and not os.path.exists("/tmp/decoy/control")
print("control", read, wrote, made, removed, flush=True)
for path in ("/tmp/decoy/control",):
    if os.path.exists(path): os.unlink(path)
if os.path.isdir("/tmp/decoy/made"): os.rmdir("/tmp/decoy/made")
print("swapping", flush=True)
while True:
    time.sleep(1000)
"#;

#[test]
fn a_program_that_exchanges_directories_for_links_leads_no_call_outside() {
    const ROUNDS: usize = 15;
    let service = Service::start();
    let session = Session::new(&service);
    let source = SWAPPER.replace("SECRET", SECRET);
    let swapper = session.start(&json!({"argv": ["python3.11", "-I", "-c", source]}));
    session.wait_printed(swapper, "swapping");
    let control = session.exec_view(swapper);
    let listing = "cd /tmp/decoy && find . | sort && cat secret sub/deep/secret";
    let before = session.shell(listing);
    assert!(before.contains(SECRET), "{before}");
    let mut output = Lines::get(&service, &session.at(&format!("/execs/{swapper}/output")));
    let told = output.next().unwrap_or_default();
    assert!(told["data"].as_str().unwrap_or_default().contains("control True True True True"), "{told} {control}");
    let tells = |answer: &[u8]| answer.windows(SECRET.len()).any(|part| part == SECRET.as_bytes());
    let tar = tar_of(&[
        ("secret", tar::EntryType::Regular, "evil"),
        ("sub/unpacked", tar::EntryType::Regular, "evil"),
        ("sub/deep/secret", tar::EntryType::Regular, "evil"),
    ]);
    let (mut done, mut read) = (0, 0);
    for _ in 0..ROUNDS {
        for rest in [
            "/fs/file?path=d/secret",
            "/fs/file?path=l/secret",
            "/fs/file?path=d/sub/deep/secret",
            "/fs/archive?path=d",
            "/fs/archive?path=l",
            "/fs/archive",
            "/fs/list?path=d&depth=9",
            "/fs/stat?path=d/secret",
        ] {
            // A download may break off, as its file was taken away.
            let answer = request(&service.socket(), "GET", &session.at(rest), &[], b"");
            let Some(answer) = answer else { continue };
            assert!(!tells(&answer.body), "{rest}");
            assert_ne!(answer.status, 500, "{rest}: {}", text(&answer));
            read += usize::from(answer.status == 200);
            let entry = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
            assert_ne!(entry["size"], SECRET.len(), "{rest}: {entry}");
        }
        for from in ["d", "l", "."] {
            let found = session.post("/fs/search", &json!({"path": from, "content": "outside of"}));
            assert!(!tells(&found.body), "{}", text(&found));
        }
        for (method, rest, body) in [
            ("PUT", "/fs/file?path=d/secret", b"evil".as_slice()),
            ("PUT", "/fs/file?path=l/secret&executable=true", b"evil"),
            ("PUT", "/fs/file?path=d/secret&append=true", b"evil"),
            ("PUT", "/fs/file?path=d/sub/x/y", b"evil"),
            ("PUT", "/fs/archive?path=d", &tar),
            ("DELETE", "/fs/file?path=d/sub/deep&recursive=true", b""),
            ("DELETE", "/fs/file?path=d/secret", b""),
        ] {
            let answer = session.call(method, rest, body);
            assert_ne!(answer.status, 500, "{rest}: {}", text(&answer));
            done += usize::from(answer.status == 204);
        }
        session.put("mine/f", "mine");
        for (call, body) in [
            ("mkdir", json!({"path": "d/sub/made/deep"})),
            ("move", json!({"from": "mine", "to": "d/moved", "replace": true})),
            ("copy", json!({"from": "mine", "to": "d/copied", "replace": true})),
            ("copy", json!({"from": "d", "to": "taken", "replace": true})),
            ("move", json!({"from": "d/sub", "to": "took", "replace": true})),
        ] {
            let answer = session.post(&format!("/fs/{call}"), &body);
            assert_ne!(answer.status, 500, "{call}: {}", text(&answer));
        }
        for name in ["taken", "took", "mine"] {
            // A copy may be one of the link: what is read through that is the shell's doing, so it is not asked.
            session.call("DELETE", &format!("/fs/file?path={name}&recursive=true"), b"");
        }
        // Put back through the calls themselves: by plain paths the decoy would be written to.
        for path in ["d/secret", "l/secret", "d/sub/deep/secret", "l/sub/deep/secret"] {
            session.write(path, "mine");
        }
    }
    assert!(done > 0 && read > 0, "the attack left nothing to do, so this shows nothing: {done} {read}");
    assert_eq!(session.shell(listing), before, "the decoy was changed");
}

#[test]
fn links_lead_nowhere() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell(
        "mkdir -p /tmp/decoy/d t; echo decoy > /tmp/decoy/f; echo decoy > /tmp/decoy/d/f; echo mine > t/f; \
         ln -s /etc/passwd passwd; ln -s /proc/self/root root; ln -s /tmp/decoy absolute; ln -s ../tmp/decoy up; ln -s loop loop; \
         ln -s . here; ln -s /tmp/decoy/f file; ln -s /proc/self/fd fds; ln -s /proc/self/cwd/t cwd; ln -s t inside; ln -s /nowhere dangling",
    );
    // The control: by plain paths each of them leads somewhere.
    assert_eq!(
        session.shell("cat absolute/f up/f file inside/f here/t/f cwd/f"),
        "decoy\ndecoy\ndecoy\nmine\nmine\nmine\n"
    );
    assert!(session.shell("cat root/etc/passwd passwd").contains("root"));
    let links = ["passwd", "root", "absolute", "up", "loop", "here", "file", "fds", "cwd", "inside", "dangling"];
    for link in links {
        let stat = session.done("GET", &format!("/fs/stat?path={link}"), &Value::Null);
        assert_eq!(stat["kind"], "link", "{stat}");
        for below in ["", "/f", "/d/f", "/etc/passwd", "/t/f"] {
            let path = format!("{link}{below}");
            let calls = [
                session.read(&path),
                session.get(&format!("/fs/list?path={path}")),
                session.call("PUT", &format!("/fs/file?path={path}&append=true"), b"evil"),
                session.call(
                    "PUT",
                    &format!("/fs/archive?path={path}"),
                    &tar_of(&[("f", tar::EntryType::Regular, "evil")]),
                ),
                session.post("/fs/mkdir", &json!({"path": path})),
            ];
            for answer in calls {
                assert_problem(&answer, 409, "wrong-file");
            }
            if !below.is_empty() {
                for answer in [
                    session.get(&format!("/fs/stat?path={path}")),
                    session.write(&path, "evil"),
                    session.call("DELETE", &format!("/fs/file?path={path}&recursive=true"), b""),
                    session.post("/fs/move", &json!({"from": "t", "to": path, "replace": true})),
                    session.post("/fs/copy", &json!({"from": "t", "to": path, "replace": true})),
                    session.post("/fs/copy", &json!({"from": path, "to": "got"})),
                    session.post("/fs/move", &json!({"from": path, "to": "got"})),
                ] {
                    assert_problem(&answer, 409, "wrong-file");
                }
            }
        }
    }
    // A search and an archive of everything see links, and not what they lead to.
    let found = session.post("/fs/search", &json!({"content": "decoy"}));
    assert_eq!(found.json()["matches"], json!([]), "{}", text(&found));
    let archive = session.get("/fs/archive").body;
    let mut archive = tar::Archive::new(&archive[..]);
    let kinds: Vec<_> = archive.entries().unwrap().map(|entry| entry.unwrap().header().entry_type()).collect();
    assert_eq!(kinds.iter().filter(|kind| kind.is_symlink()).count(), links.len());
    // What takes a link's own name takes it away, and leaves what it led to.
    for link in links {
        if link.len() % 2 == 0 {
            assert_eq!(session.write(link, "mine").status, 204, "{link}");
            assert_eq!(session.content(link), b"mine");
        } else {
            let gone = session.call("DELETE", &format!("/fs/file?path={link}&recursive=true"), b"");
            assert_eq!(gone.status, 204, "{link}: {}", text(&gone));
        }
    }
    assert_eq!(session.shell("cat /tmp/decoy/f /tmp/decoy/d/f t/f"), "decoy\ndecoy\nmine\n");
}

#[test]
fn pipes_sockets_and_devices_make_no_call_wait() {
    let service = Service::start();
    let session = Session::new(&service);
    session.shell("mkfifo pipe; mkdir d; mkfifo d/pipe; echo x > d/f");
    session.python("import socket; socket.socket(socket.AF_UNIX).bind('socket')");
    let began = Instant::now();
    for name in ["pipe", "socket"] {
        assert_problem(&session.read(name), 409, "wrong-file");
        assert_problem(&session.call("PUT", &format!("/fs/file?path={name}&append=true"), b"x"), 409, "wrong-file");
        assert_problem(&session.get(&format!("/fs/archive?path={name}")), 409, "wrong-file");
        assert_eq!(session.done("GET", &format!("/fs/stat?path={name}"), &Value::Null)["kind"], "other");
    }
    let archive = session.get("/fs/archive");
    assert_eq!(archive.status, 200);
    assert_eq!(tar::Archive::new(&archive.body[..]).entries().unwrap().count(), 2, "d and d/f");
    assert_eq!(session.post("/fs/copy", &json!({"from": "d", "to": "e"})).status, 204);
    assert_eq!(session.names("e"), ["e/f"]);
    let found = session.post("/fs/search", &json!({"content": "x"})).json();
    assert_eq!(found["matches"].as_array().unwrap().len(), 2, "{found}");
    // One that somebody writes to without end is no file either.
    let endless = session.start(&json!({"shell": "echo began; exec yes > pipe"}));
    session.wait_printed(endless, "began");
    assert_problem(&session.read("pipe"), 409, "wrong-file");
    session.put("pipe", "a file now");
    assert_eq!(session.content("pipe"), b"a file now");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn archives_that_lead_elsewhere_are_refused_by_name() {
    use tar::EntryType as E;
    let service = Service::start();
    let session = Session::new(&service);
    session.shell("mkdir -p /tmp/decoy; echo decoy > /tmp/decoy/secret; ln -s /tmp/decoy planted");
    for (entries, told) in [
        (vec![("/etc/x", E::Regular, "x")], "/etc/x"),
        (vec![("../x", E::Regular, "x")], "../x"),
        (vec![("a/../../x", E::Regular, "x")], "a/../../x"),
        (vec![("../d/", E::Directory, "")], "../d/"),
        (vec![("l", E::Symlink, "/tmp/decoy"), ("l/x", E::Regular, "x")], "l/x"),
        (vec![("l", E::Symlink, "/tmp/decoy"), ("l/d", E::Directory, "")], "l/d"),
        (vec![("planted/x", E::Regular, "x")], "planted/x"),
        (vec![("h", E::Link, "/tmp/decoy/secret")], "h"),
        (vec![("h", E::Link, "../tmp/decoy/secret")], "h"),
        (vec![("h", E::Link, "planted/secret")], "h"),
        (vec![("null", E::Char, "")], "null"),
        (vec![("disk", E::Block, "")], "disk"),
        (vec![("pipe", E::Fifo, "")], "pipe"),
    ] {
        let answer = session.call("PUT", "/fs/archive", &tar_of(&entries));
        assert_problem(&answer, 422, "invalid-field");
        assert!(text(&answer).contains(told), "{told}: {}", text(&answer));
        session.call("DELETE", "/fs/file?path=l", b"");
    }
    assert_eq!(
        session.shell("ls /tmp/decoy; cat /tmp/decoy/secret; stat -c %h /tmp/decoy/secret"),
        "secret\ndecoy\n1\n"
    );
    assert_eq!(session.names(""), ["planted"]);
}

/// Tries everything on the processes that it did not start but that are of its user; prints what came of each.
const WORKER_HUNTER: &str = r#"
import ctypes, json, os, signal, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4
def attempts(pid):
    found = {}
    def tried(name, call):
        try:
            result = call()
            found[name] = result is not None and result != -1 and result is not False
        except OSError:
            found[name] = False
    tried("attach", lambda: libc.ptrace(16, pid, 0, 0))
    tried("seize", lambda: libc.ptrace(0x4206, pid, 0, 0))
    for flags in (os.O_RDONLY, os.O_RDWR):
        tried(f"mem {flags}", lambda: os.open(f"/proc/{pid}/mem", flags) >= 0)
    for name, flags in (("environ", os.O_RDONLY), ("maps", os.O_RDONLY),
                        ("auxv", os.O_RDONLY), ("syscall", os.O_RDONLY), ("stack", os.O_RDONLY)):
        tried(f"{name} {flags}", lambda: bool(os.read(os.open(f"/proc/{pid}/{name}", flags), 1)))
    tried("fd", lambda: bool(os.listdir(f"/proc/{pid}/fd")))
    for number in range(8):
        tried(f"fd {number}", lambda: os.open(f"/proc/{pid}/fd/{number}", os.O_RDONLY) >= 0)
        tried(f"link {number}", lambda: bool(os.readlink(f"/proc/{pid}/fd/{number}")))
    tried("root", lambda: bool(os.listdir(f"/proc/{pid}/root/")))
    tried("cwd", lambda: bool(os.readlink(f"/proc/{pid}/cwd")))
    tried("oom", lambda: os.write(os.open(f"/proc/{pid}/oom_score_adj", os.O_WRONLY), b"1000") > 0)
    def getfd():
        pidfd = os.pidfd_open(pid)
        return libc.syscall(438, pidfd, 0, 0) >= 0
    tried("pidfd_getfd", getfd)
    class Vec(ctypes.Structure):
        _fields_ = [("base", ctypes.c_void_p), ("length", ctypes.c_size_t)]
    buffer = ctypes.create_string_buffer(16)
    local = Vec(ctypes.cast(buffer, ctypes.c_void_p), 16)
    remote = Vec(0x400000, 16)
    def vm(number):
        result = libc.syscall(number, pid, ctypes.byref(local), 1, ctypes.byref(remote), 1, 0)
        # No such address is a look inside as well.
        return result > 0 or ctypes.get_errno() == 14
    tried("process_vm_readv", lambda: vm(310))
    tried("process_vm_writev", lambda: vm(311))
    return found
mine = {os.getpid()}
if len(sys.argv) > 1:
    child = subprocess.Popen([sys.executable, "-I", "-c", "import time; time.sleep(100)"])
    # It is a program of its own once it has begun.
    while b"sleep" not in open(f"/proc/{child.pid}/cmdline", "rb").read(): pass
    found = {child.pid: attempts(child.pid)}
    child.kill()
else:
    # Every number, as the list may hide some.
    found = {pid: attempts(pid) for pid in range(1, 65) if pid not in mine}
print(json.dumps(found))
"#;

#[test]
fn workers_are_out_of_the_reach_of_programs_of_the_same_user() {
    let outside = crate::payloads::Outside::new();
    std::fs::write(outside.path().join("hunt.py"), WORKER_HUNTER).unwrap();
    let control = outside.shell(&format!("{} -I hunt.py control", crate::payloads::PYTHON));
    let control: Value = serde_json::from_slice(&control.stdout).unwrap_or_else(|_| panic!("{control:?}"));
    let control = control.as_object().unwrap().values().next().unwrap();
    for name in
        ["attach", "mem 0", "mem 2", "environ 0", "maps 0", "fd", "fd 0", "link 0", "root", "cwd", "process_vm_readv"]
    {
        assert_eq!(control[name], true, "the control does not reach: {name} {control}");
    }
    let service = Service::start();
    let session = Session::new(&service);
    session.put("d/f", "x");
    let mut watch = Lines::get(&service, &session.at("/fs/watch?path=d"));
    let found: Value = serde_json::from_str(&session.python(WORKER_HUNTER)).unwrap();
    let found = found.as_object().unwrap();
    assert_eq!(found.len(), 63);
    // The worker is one of them.
    let spaces = service.sandbox_processes();
    let inner = |pid: &i32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("NSpid:").map(str::to_owned));
        line.and_then(|line| line.split_whitespace().next_back().unwrap().parse::<i32>().ok())
    };
    assert!(spaces.len() >= 3 && spaces.iter().filter_map(inner).all(|pid| pid < 65), "{spaces:?}");
    for (pid, reached) in found {
        for (name, passes) in reached.as_object().unwrap() {
            assert_eq!(*passes, false, "{name} of process {pid} passes");
        }
    }
    session.put("d/g", "x");
    assert_eq!(watch.next().unwrap()["path"].as_str().map(|path| path.starts_with("d/")), Some(true));
}

/// Sends a signal to every process but itself and those above it.
fn signal_all(session: &Session<'_>, signal: &str) -> String {
    session.python(&format!(
        "import os, signal\n\
         for pid in range(1, 400):\n\
         \x20   if pid != os.getpid():\n\
         \x20       try:\n\
         \x20           os.kill(pid, signal.{signal})\n\
         \x20           print('sent')\n\
         \x20       except OSError: pass\n"
    ))
}

/// Kills every worker of a session from outside, as nobody in it can.
fn kill_workers(service: &Service) -> usize {
    let is_worker = |pid: &i32| {
        let of = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        // It is the launcher's own code with a filter; init is process 1, and who waits has not begun.
        let is_init = of("status").lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"));
        let socket = std::fs::read_link(format!("/proc/{pid}/fd/0")).unwrap_or_default();
        !is_init && socket.to_string_lossy().starts_with("socket:")
    };
    let workers: Vec<i32> = service.sandbox_processes().into_iter().filter(is_worker).collect();
    for pid in &workers {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(*pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }
    workers.len()
}

#[test]
fn a_call_whose_worker_is_killed_fails_cleanly() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("d/f", "x");
    let mut watch = Lines::get(&service, &session.at("/fs/watch?path=d"));
    wait_for("the worker", || kill_workers(&service) > 0);
    let last = watch.next();
    assert!(last.as_ref().is_none_or(|event| event["event"] == "failed"), "{last:?}");
    let mut upload = super::begin_upload(&session, "/fs/file?path=up", 4 << 20);
    upload.write_all(&vec![b'x'; 1 << 20]).unwrap();
    wait_for("the worker", || kill_workers(&service) > 0);
    upload.write_all(&vec![b'x'; 3 << 20]).unwrap_or_default();
    let mut answer = String::new();
    upload.read_to_string(&mut answer).unwrap_or_default();
    assert!(answer.starts_with("HTTP/1.0 500") || answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert_problem(&session.get("/fs/stat?path=up"), 404, "no-such-file");
    assert_eq!(session.content("d/f"), b"x");
    assert_eq!(session.shell("echo goes on"), "goes on\n");
}

#[test]
fn a_worker_that_is_killed_fails_its_call_and_no_other() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("d/f", "x");
    for signal in ["SIGKILL", "SIGTERM", "SIGSEGV", "SIGUSR1", "SIGALRM", "SIGPIPE", "SIGHUP"] {
        let mut watch = Lines::get(&service, &session.at("/fs/watch?path=d"));
        signal_all(&session, signal);
        session.put("d/f", "y");
        // It goes on where the signal did not reach it, and else says that it failed; there is nothing between.
        let first = watch.next();
        let event = first.as_ref().map_or("end", |event| event["event"].as_str().unwrap());
        assert!(["failed", "created", "modified", "moved", "end"].contains(&event), "{signal}: {first:?}");
        // An upload: it is whole, or the call says that it is not.
        let mut upload = super::begin_upload(&session, "/fs/file?path=up", 4 << 20);
        upload.write_all(&vec![b'x'; 2 << 20]).unwrap();
        signal_all(&session, signal);
        // The service may have answered and closed already.
        upload.write_all(&vec![b'x'; 2 << 20]).unwrap_or_default();
        let mut answer = String::new();
        upload.read_to_string(&mut answer).unwrap_or_default();
        let is_there = session.get("/fs/stat?path=up");
        match answer.get(9..12) {
            Some("204") => assert_eq!(is_there.json()["size"], 4 << 20, "{signal}"),
            _ => assert_problem(&is_there, 404, "no-such-file"),
        }
        session.call("DELETE", "/fs/file?path=up", b"");
    }
    assert_eq!(session.content("d/f"), b"y");
    assert_eq!(session.shell("echo goes on"), "goes on\n");
}

#[test]
fn a_worker_that_is_stopped_for_ever_holds_up_its_own_call_only() {
    let service = Service::start();
    let session = Session::new(&service);
    session.put("d/f", "x");
    let mut held = UnixStream::connect(service.socket()).unwrap();
    write!(
        held,
        "GET {} HTTP/1.0\r\nHost: localhost\r\nAccept: application/x-ndjson\r\n\r\n",
        session.at("/fs/watch?path=d")
    )
    .unwrap();
    held.read_exact(&mut [0; 12]).unwrap();
    signal_all(&session, "SIGSTOP");
    assert_eq!(session.content("d/f"), b"x");
    let before = service.running_processes().len();
    drop(held);
    wait_for("the worker to be ended with its client", || service.running_processes().len() < before || before <= 2);
    assert_eq!(session.snapshot(), 1);
    assert_eq!(problem(&session.read(&encoded("d/none"))).0, 404);
}
