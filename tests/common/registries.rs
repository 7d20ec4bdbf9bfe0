//! Registries of a test's own: what `uv` and `npm` ask for packages, over plain HTTP, in a network namespace with an
//! address that is public elsewhere. They count what they are asked, and wait with an answer where they are told to.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Condvar, Mutex, mpsc};

use serde_json::{Value, json};

use super::{internet, skip};

/// Where the registries are, and a server that nothing may reach.
pub const REGISTRY: &str = "198.35.26.96";
pub const OTHER: &str = "198.35.26.97";
/// Where the registry has the archives of some packages, once it is told to.
pub const SECOND_PORT: u16 = 82;

/// Both registries.
pub struct Registries {
    directory: tempfile::TempDir,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    asked: Mutex<Vec<String>>,
    /// What is not answered for the time being: paths that have this in them.
    held: Mutex<Option<String>>,
    let_go: Condvar,
    /// Has a second server of the registry begin to listen.
    second: Mutex<Option<mpsc::Sender<mpsc::Sender<()>>>>,
}

impl Registries {
    /// Moves the test into a network namespace of its own, which leads to the registries and to nothing else; `None`
    /// where that, or an installer, is not to be had here.
    pub fn open() -> Option<Self> {
        if tool("uv").is_none() || tool("npm").is_none() {
            skip("uv or npm is missing: tests/setup installs them");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let made = Command::new("/usr/bin/python3")
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/common/registries.py"))
            .arg(directory.path())
            .args([REGISTRY, OTHER])
            .status();
        assert!(made.unwrap().success(), "packages are made");
        let state = Arc::new(State::default());
        let (served, serving) = (Arc::clone(&state), directory.path().to_owned());
        let leads = internet::lead_to(&[REGISTRY, OTHER], move || {
            for address in [REGISTRY, OTHER] {
                let listener = TcpListener::bind((address, 80)).unwrap();
                let (served, serving) = (Arc::clone(&served), serving.clone());
                std::thread::spawn(move || serve(&listener, &served, &serving));
            }
            let (second, begin) = mpsc::channel::<mpsc::Sender<()>>();
            *served.second.lock().unwrap() = Some(second);
            // Nobody listens there before, and whoever connects is refused.
            std::thread::spawn(move || {
                let Ok(listening) = begin.recv() else { return };
                let listener = TcpListener::bind((REGISTRY, SECOND_PORT)).unwrap();
                listening.send(()).unwrap();
                serve(&listener, &served, &serving);
            });
        });
        if !leads {
            return None;
        }
        Some(Self { directory, state })
    }

    /// Configuration by which packages are installed from here.
    pub fn config(&self) -> Value {
        json!({
            "profiles": {"packages": {
                "title": "Installs packages.",
                "network": {"allow": [{"cidr": format!("{REGISTRY}/32"), "ports": [80, SECOND_PORT]}]},
                "seccomp": "default", "denied_syscall": "error",
                "compile": limits(), "run": limits(), "maximum": limits(),
            }},
            "dependencies": {
                "profile": "packages",
                "python": {"tool": tool("uv"), "registry": format!("http://{REGISTRY}/simple")},
                "npm": {"tool": tool("npm"), "registry": format!("http://{REGISTRY}/npm")},
            },
        })
    }

    /// How often something was asked for whose path ends so.
    pub fn asked(&self, end: &str) -> usize {
        self.state.asked.lock().unwrap().iter().filter(|path| path.ends_with(end)).count()
    }

    /// Answers nothing whose path has this in it, until [`Registries::let_go`].
    pub fn hold(&self, part: &str) {
        *self.state.held.lock().unwrap() = Some(part.to_owned());
    }

    pub fn let_go(&self) {
        *self.state.held.lock().unwrap() = None;
        self.state.let_go.notify_all();
    }

    /// Has the registry be reached at its second port, from now on.
    pub fn begin_at_second_port(&self) {
        let (listening, listens) = mpsc::channel();
        self.state.second.lock().unwrap().take().unwrap().send(listening).unwrap();
        listens.recv().unwrap();
    }

    /// The hash of a file.
    pub fn hash(&self, file: &str) -> String {
        std::fs::read_to_string(self.directory.path().join("hashes").join(file)).unwrap()
    }
}

/// Where a program of the host is.
pub fn tool(name: &str) -> Option<PathBuf> {
    ["/usr/local/bin", "/usr/bin"].into_iter().map(|place| Path::new(place).join(name)).find(|path| path.exists())
}

fn limits() -> Value {
    json!({
        "wall_time_ms": 60_000, "cpu_time_ms": 60_000, "cpu_millis": 2_000, "memory_bytes": 1_073_741_824,
        "processes": 256, "open_files": 4_096, "file_size_bytes": 268_435_456, "disk_bytes": 536_870_912,
        "disk_files": 65_536, "output_bytes": 1_048_576, "stack_bytes": 67_108_864,
    })
}

fn serve(listener: &TcpListener, state: &Arc<State>, directory: &Path) {
    for connection in listener.incoming() {
        let (connection, state, directory) = (connection.unwrap(), Arc::clone(state), directory.to_owned());
        std::thread::spawn(move || {
            let mut reader = BufReader::new(connection.try_clone().unwrap());
            let mut writer = connection;
            while let Some((method, path)) = request(&mut reader) {
                state.asked.lock().unwrap().push(format!("{method} {path}"));
                let held = state.held.lock().unwrap();
                let waits = |held: &mut Option<String>| held.as_ref().is_some_and(|part| path.contains(part.as_str()));
                drop(state.let_go.wait_while(held, waits).unwrap());
                let (status, kind, content) = found(&directory, &path);
                let length = content.len();
                let head = format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
                let body = if method == "HEAD" { &[][..] } else { &content };
                if writer.write_all(&[head.as_bytes(), body].concat()).is_err() {
                    return;
                }
            }
        });
    }
}

fn request(reader: &mut impl BufRead) -> Option<(String, String)> {
    let mut first = String::new();
    reader.read_line(&mut first).ok().filter(|length| *length > 0)?;
    let mut line = String::new();
    while reader.read_line(&mut line).ok()? > 2 {
        line.clear();
    }
    let mut words = first.split(' ').map(str::to_owned);
    Some((words.next()?, words.next()?.replace("%2f", "/").replace("%2F", "/")))
}

fn found(directory: &Path, path: &str) -> (&'static str, &'static str, Vec<u8>) {
    let path = directory.join(path.trim_start_matches('/'));
    for (file, kind) in [
        (path.join("index.html"), "text/html"),
        (path.join("index.json"), "application/json"),
        (path, "application/octet-stream"),
    ] {
        if file.is_file() {
            return ("200 OK", kind, std::fs::read(file).unwrap());
        }
    }
    ("404 Not Found", "text/plain", b"there is none".to_vec())
}
