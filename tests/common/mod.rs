//! A daemon and a launcher of a test's own, a client for them, and the check that they leave
//! nothing behind.

#![allow(dead_code, unreachable_pub, reason = "every test binary uses its own part of this")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

pub mod bridge;
pub mod internet;
pub mod registries;
pub mod sessions;
pub mod tls;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// Longest that anything here is waited for.
const PATIENCE: Duration = Duration::from_secs(20);

/// A daemon and a launcher, each in a process of its own, as in service.
pub struct Service {
    directory: tempfile::TempDir,
    config: PathBuf,
    daemon: Child,
    launcher: Child,
    /// A command that executes the launcher, in whatever straits; none where it is executed directly.
    wrapper: Vec<String>,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: hyper::HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }
}

impl Service {
    /// Starts both with the runtimes of the host and those trees that tests/setup has made.
    pub fn start() -> Self {
        Self::start_with(json!({}))
    }

    /// The same with more configuration on top.
    pub fn start_with(changes: Value) -> Self {
        Self::start_under(&[], changes)
    }

    /// The same with a launcher that this command executes, which is given the launcher's as arguments.
    pub fn start_under(wrapper: &[&str], changes: Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        // The launcher reads its configuration again as the user that it has become.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let mut config = json!({
            "service": {"check_at_start": false},
            "runtimes": {"trees": trees()},
            "pool": pool(),
            // Nothing of one test, or of whoever runs it, is there for another.
            "cache": {"directory": directory.path().join("cache")},
            "sessions": {"directory": directory.path().join("state")},
        });
        merge(&mut config, changes);
        let path = directory.path().join("config.json");
        fs::write(&path, config.to_string()).unwrap();
        let wrapper: Vec<String> = wrapper.iter().map(|word| (*word).to_owned()).collect();
        let launcher = Self::spawn_launcher(directory.path(), &path, &wrapper);
        wait_for("the launcher's socket", || directory.path().join("launcher.sock").exists());
        let daemon = Self::spawn_daemon(directory.path(), &path);
        let service = Self { directory, config: path, daemon, launcher, wrapper };
        wait_for("the daemon", || {
            service.try_request("GET", "/health", &[], "").is_some_and(|answer| answer.status == 200)
        });
        service.wait_for_floors();
        service
    }

    fn spawn_launcher(directory: &Path, config: &Path, wrapper: &[String]) -> Child {
        let launcher = env!("CARGO_BIN_EXE_codesandbox-launcher");
        let mut command = Command::new(wrapper.first().map_or(launcher, String::as_str));
        if let Some((_, arguments)) = wrapper.split_first() {
            command.args(arguments).arg(launcher);
        }
        command
            .arg("--config")
            .arg(config)
            .arg("--listen")
            .arg(directory.join("launcher.sock"))
            .stdin(Stdio::null())
            .spawn()
            .unwrap()
    }

    fn spawn_daemon(directory: &Path, config: &Path) -> Child {
        Command::new(env!("CARGO_BIN_EXE_codesandboxd"))
            .arg("--config")
            .arg(config)
            .arg("--listen")
            .arg(directory.join("api.sock"))
            .arg("--launcher")
            .arg(directory.join("launcher.sock"))
            .stdin(Stdio::null())
            .env("RUST_LOG", "warn")
            .spawn()
            .unwrap()
    }

    /// Puts changes into the configuration file; nobody is told.
    pub fn configure(&self, changes: Value) {
        let mut config: Value = serde_json::from_str(&fs::read_to_string(&self.config).unwrap()).unwrap();
        merge(&mut config, changes);
        fs::write(&self.config, config.to_string()).unwrap();
    }

    /// The configuration's text as it is.
    pub fn write_configuration(&self, text: &str) {
        fs::write(&self.config, text).unwrap();
    }

    pub fn reload_daemon(&self) {
        kill(Pid::from_raw(self.daemon_pid()), Signal::SIGHUP).unwrap();
    }

    /// Where the daemon keeps what compilers made.
    pub fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    /// Where the daemon keeps what is to outlive it.
    pub fn state(&self) -> PathBuf {
        self.directory.path().join("state")
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    pub fn daemon_pid(&self) -> i32 {
        i32::try_from(self.daemon.id()).unwrap()
    }

    /// The launcher proper, which is the child of the process that was started.
    pub fn launcher_pid(&self) -> i32 {
        // It listens a moment before it has one.
        let child = || children(self.launcher_stub_pid()).first().copied();
        wait_for("the launcher", || child().is_some());
        child().expect("the launcher runs")
    }

    pub fn launcher_stub_pid(&self) -> i32 {
        i32::try_from(self.launcher.id()).unwrap()
    }

    /// Inits of live sandboxes, and programs in them.
    pub fn sandbox_processes(&self) -> Vec<i32> {
        let mut all = Vec::new();
        let mut pending = match children(self.launcher_stub_pid()).first() {
            Some(launcher) => children(*launcher),
            None => return all,
        };
        pending.retain(|pid| name(*pid) != "uplinks");
        while let Some(pid) = pending.pop() {
            all.push(pid);
            pending.extend(children(pid));
        }
        all
    }

    /// What keeps a zygote, while it lives.
    pub fn keeper(&self) -> Option<i32> {
        children(self.launcher_pid()).into_iter().find(|pid| name(*pid) == "uplinks")
    }

    /// What makes uplinks, while it lives.
    pub fn zygote(&self) -> Option<i32> {
        children(self.keeper()?).into_iter().find(|pid| name(*pid) == "zygote")
    }

    /// The processes by which networked sandboxes reach the network.
    pub fn uplinks(&self) -> Vec<i32> {
        let mut all = self.zygote().map(children).unwrap_or_default();
        // Those of a zygote that has died, until they are dead as well.
        all.extend(self.keeper().map(children).unwrap_or_default());
        all.retain(|pid| name(*pid) == "uplink");
        all
    }

    /// The same without those that wait for a job.
    pub fn running_processes(&self) -> Vec<i32> {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
        let link = |pid: i32, name: &str| fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default();
        let all = self.sandbox_processes();
        let launcher = link(self.launcher_pid(), "exe");
        let mut inits: Vec<i32> = children(self.launcher_pid());
        inits.retain(|pid| name(*pid) != "uplinks");
        let is_init = |pid: i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
        };
        // A program that waits is the launcher's own code, or has the pipe open where its job comes.
        let waits = |pid: i32| link(pid, "exe") == launcher || link(pid, "fd/3").to_string_lossy().starts_with("pipe:");
        let waiting: Vec<_> =
            inits.iter().filter(|pid| !is_init(**pid) && waits(**pid)).map(|pid| namespace(*pid)).collect();
        all.into_iter().filter(|pid| !waiting.contains(&namespace(*pid))).collect()
    }

    /// One request and its whole answer.
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.try_request(method, path, headers, body).expect("the daemon answers")
    }

    pub fn try_request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Option<Answer> {
        request(&self.socket(), method, path, headers, body.as_bytes())
    }

    pub fn post(&self, body: &Value) -> Answer {
        self.request("POST", "/v1/run", &[("content-type", "application/json")], &body.to_string())
    }

    /// Runs a job that must be accepted, and returns the result.
    pub fn run(&self, body: &Value) -> Value {
        let answer = self.post(body);
        assert_eq!(answer.status, 200, "{}", String::from_utf8_lossy(&answer.body));
        answer.json()
    }

    /// Runs one source file.
    pub fn run_source(&self, runtime: &str, source: &str) -> Value {
        self.run(&json!({"runtime": runtime, "files": [{"content": source}]}))
    }

    /// Waits until as many sandboxes wait as are to do so without being asked for.
    pub fn wait_for_floors(&self) {
        let config: Value = serde_json::from_str(&fs::read_to_string(&self.config).unwrap()).unwrap();
        let floors = config["pool"]["runtimes"].as_object();
        // There is no room for them where a test has few sandboxes.
        if !config["launcher"]["sandboxes"].is_null() {
            return;
        }
        let floor: u64 = floors.into_iter().flatten().filter_map(|(_, own)| own["floor"].as_u64()).sum();
        // Init and the program that waits.
        let processes = usize::try_from(2 * floor).unwrap();
        wait_for("sandboxes to wait", || self.sandbox_processes().len() >= processes);
    }

    /// Waits until no sandbox is left; none waits any more from here on.
    pub fn assert_no_sandbox(&self) {
        let config: Value =
            serde_json::from_str(&fs::read_to_string(&self.config).unwrap_or_default()).unwrap_or_default();
        if config["pool"]["ceiling"] != 0 && config.is_object() {
            self.configure(json!({"pool": {"floor": 0, "ceiling": 0, "runtimes": null}}));
            self.configure(json!({"pool": {"runtimes": {}}}));
            self.reload_daemon();
        }
        wait_for("every sandbox to be gone", || self.sandbox_processes().is_empty() && self.uplinks().is_empty());
    }

    pub fn kill_daemon(&mut self) {
        self.daemon.kill().unwrap();
        self.daemon.wait().unwrap();
    }

    pub fn restart_daemon(&mut self) {
        self.daemon = Self::spawn_daemon(self.directory.path(), &self.config);
        wait_for("the daemon", || {
            self.try_request("GET", "/health", &[], "").is_some_and(|answer| answer.status == 200)
        });
    }

    pub fn kill_launcher(&mut self) {
        self.launcher.kill().unwrap();
        self.launcher.wait().unwrap();
    }

    pub fn restart_launcher(&mut self) {
        self.launcher = Self::spawn_launcher(self.directory.path(), &self.config, &self.wrapper);
    }

    /// Asks the daemon to stop, without waiting.
    pub fn terminate_daemon(&self) {
        kill(Pid::from_raw(self.daemon_pid()), Signal::SIGTERM).unwrap();
    }

    pub fn wait_for_daemon(&mut self) -> std::process::ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.daemon.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE * 2, "the daemon does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Service {
    /// Every test ends with the check that nothing is left: no sandbox while the launcher lives, no
    /// process after it.
    fn drop(&mut self) {
        let launcher_lives = matches!(self.launcher.try_wait(), Ok(None));
        if launcher_lives && !std::thread::panicking() {
            self.assert_no_sandbox();
        }
        let mut pids = self.sandbox_processes();
        pids.extend(children(self.launcher_stub_pid()));
        for child in [&mut self.daemon, &mut self.launcher] {
            if matches!(child.try_wait(), Ok(None)) {
                let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
                kill(pid, Signal::SIGTERM).ok();
                child.wait().ok();
            }
        }
        if !std::thread::panicking() {
            wait_for("every process to be gone", || {
                pids.iter().all(|pid| !Path::new(&format!("/proc/{pid}")).exists())
            });
            let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
            assert!(!mounts.contains("/runtime/runtimes.json"), "a mount is left:\n{mounts}");
            let left: Vec<_> = fs::read_dir(self.directory.path())
                .unwrap()
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .filter(|name| !["config.json", "api.sock", "launcher.sock", "cache", "state"].contains(&name.as_str()))
                .collect();
            assert!(left.is_empty(), "files are left: {left:?}");
        }
    }
}

/// One request to a daemon; `None` where nobody answers.
pub fn request(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Option<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::UnixStream::connect(socket).await.ok()?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        let mut request = hyper::Request::builder().method(method).uri(path).header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body))).unwrap();
        let answer = sender.send_request(request).await.ok()?;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.ok()?.to_bytes();
        Some(Answer { status: head.status.as_u16(), headers: head.headers, body })
    })
}

/// Whether sandboxes wait in the services of this run of the tests.
pub fn something_waits() -> bool {
    pool()["ceiling"] != 0
}

/// What waits in a test's service: nothing, so that tests know which processes there are; but the tests
/// that hold on every path are run on each, which `CODESANDBOX_TEST_PATH` names.
fn pool() -> Value {
    let floors = json!({"bash": {"floor": 2}, "python-3.11": {"floor": 2}, "c-12": {"floor": 1}});
    match std::env::var("CODESANDBOX_TEST_PATH").as_deref() {
        Ok("warm") => json!({"warm": true, "ceiling": 4, "runtimes": floors}),
        Ok("parked") => json!({"warm": false, "ceiling": 4, "runtimes": floors}),
        Ok("cold") | Err(_) => json!({"ceiling": 0}),
        Ok(other) => panic!("CODESANDBOX_TEST_PATH is {other:?}, not warm, parked or cold"),
    }
}

/// The root trees that tests/setup has made, as the configuration names them.
pub fn trees() -> Value {
    let directory = std::env::var("CODESANDBOX_TREES").unwrap_or_else(|_| "/var/cache/codesandbox/trees".to_owned());
    let text = fs::read_to_string(Path::new(&directory).join("trees.json"));
    text.map_or_else(|_| json!([]), |text| serde_json::from_str(&text).unwrap())
}

pub fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

/// Waits for a condition.
pub fn wait_for(what: &str, condition: impl Fn() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// What a process calls itself.
pub fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

/// Children of a process, those of all its threads.
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let lists = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A file of tests/programs or tests/payloads.
pub fn file(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Says that a test was not run, and why; the test then returns. `./test` shows what was skipped,
/// which the test runner keeps to itself.
pub fn skip(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("SKIPPED: {name}: {why}\n");
    eprint!("{line}");
    if let Some(list) = std::env::var_os("CODESANDBOX_SKIPPED") {
        let mut list = fs::File::options().append(true).create(true).open(list).unwrap();
        std::io::Write::write_all(&mut list, line.as_bytes()).unwrap();
    }
}
