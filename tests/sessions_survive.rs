//! What sessions survive: a daemon that is killed at any moment or restarted, a launcher that is killed, both,
//! clients that hang up, and a disk that refuses a record.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use common::sessions::{Events, Session, Told, create, printed, shell};
use common::{Service, children, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// How often a daemon is killed in each operation.
const KILLS: u32 = 20;
/// Longest time from a request to the kill, in microseconds; most requests take less.
const LONGEST_DELAY_US: u64 = 12_000;

/// Numbers that only look as if they were random: xorshift64.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

fn sessions(service: &Service) -> BTreeSet<String> {
    let list = service.request("GET", "/v1/sessions?limit=1000", &[], "").json();
    list["sessions"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

/// How many sandboxes the launcher has.
fn sandboxes(service: &Service) -> usize {
    let is_init = |pid: &i32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("NSpid:") && line.ends_with("\t1"))
    };
    children(service.launcher_pid()).iter().filter(|pid| is_init(pid)).count()
}

/// How many file systems the launcher has mounted.
fn mounts(service: &Service) -> usize {
    fs::read_to_string(format!("/proc/{}/mountinfo", service.launcher_pid())).unwrap().lines().count()
}

/// Does something in another thread, and kills the daemon meanwhile.
fn kill_meanwhile(service: &mut Service, random: &mut Random, request: impl FnOnce() + Send + 'static) {
    let delay = Duration::from_micros(random.below(LONGEST_DELAY_US));
    let asking = thread::spawn(request);
    // No condition to wait for: the kill is to come at any moment.
    thread::sleep(delay);
    service.kill_daemon();
    asking.join().unwrap();
    service.restart_daemon();
}

/// Nothing is in the launcher that the daemon does not know of, and everything that it knows of works.
fn assert_nothing_is_leaked(service: &Service) {
    let known = sessions(service);
    for id in &known {
        assert_eq!(Session::of(service, id).run("echo works"), "works\n");
    }
    wait_for("sandboxes that nobody knows of to be gone", || sandboxes(service) == known.len());
}

/// Kills the daemon in an operation again and again. What comes back from `make` is the session that it is
/// about, `check` looks whether it was done or not.
fn survives_kills(
    seed: u64,
    persistent: bool,
    operation: impl Fn(&Session, u32) + Clone + Send + 'static,
    check: impl Fn(&Service, &Session, u32),
) {
    let mut service = Service::start();
    let mut random = Random(seed);
    // The recovery is over when this one answers.
    let anchor = shell(&service);
    anchor.run("true");
    let before = mounts(&service);
    for round in 0..KILLS {
        let session = create(&service, &json!({"runtime": "bash", "persistent": persistent}));
        session.put("file", b"old");
        session.post("/snapshots", &json!({"label": "old"}));
        session.put("file", b"new");
        let (asked, operation) = (session.clone(), operation.clone());
        kill_meanwhile(&mut service, &mut random, move || operation(&asked, round));
        anchor.run("true");
        check(&service, &session, round);
        assert_nothing_is_leaked(&service);
        for id in sessions(&service) {
            if id != anchor.id {
                Session::of(&service, &id).delete();
            }
        }
        let saved = fs::read_dir(service.state().join("workspaces")).map_or(0, Iterator::count);
        assert_eq!(saved, 0, "files of sessions are left on disk");
    }
    wait_for("file systems that nobody needs to be gone", || mounts(&service) <= before);
    anchor.delete();
    service.assert_no_sandbox();
}

/// The file as it was made, and nothing beside it.
#[track_caller]
fn assert_file(session: &Session, contents: &[&str]) {
    let files = session.files();
    assert_eq!(files.keys().collect::<Vec<_>>(), ["file"]);
    assert!(
        contents.iter().any(|one| files["file"] == one.as_bytes()),
        "{:?}",
        String::from_utf8_lossy(&files["file"])
    );
}

#[test]
fn a_kill_while_a_session_is_made_leaves_it_whole_or_not_at_all() {
    survives_kills(
        1,
        false,
        |session, round| {
            let body = json!({"runtime": "bash", "persistent": round % 2 == 0}).to_string();
            let headers = [("content-type", "application/json")];
            common::request(&session.socket, "POST", "/v1/sessions", &headers, body.as_bytes());
        },
        |_, session, _| assert_file(session, &["new"]),
    );
}

#[test]
fn a_kill_while_a_program_is_started_leaves_it_running_or_never_started() {
    survives_kills(
        2,
        false,
        |session, _| drop(session.try_post("/execs", &json!({"shell": "echo a line; echo -n more >> file"}))),
        |_, session, _| {
            for exec in session.execs() {
                let finished = session.finished(exec["id"].as_u64().unwrap());
                assert_eq!(finished["result"]["status"], "ok", "{finished}");
                assert_eq!(printed(&finished, "stdout"), b"a line\n");
                assert_file(session, &["newmore"]);
            }
            assert_file(session, &["new", "newmore"]);
        },
    );
}

#[test]
fn a_kill_while_a_snapshot_is_taken_leaves_it_whole_or_not_at_all() {
    survives_kills(
        3,
        false,
        |session, _| drop(session.try_post("/snapshots", &json!({"label": "new"}))),
        |_, session, _| {
            let snapshots = session.ask("GET", "/snapshots", b"").json()["snapshots"].as_array().unwrap().clone();
            assert!((1..=2).contains(&snapshots.len()), "{snapshots:?}");
            assert_file(session, &["new"]);
            session.put("file", b"newest");
            for snapshot in snapshots {
                session.post(&format!("/snapshots/{}/rollback", snapshot["id"]), &json!({}));
                assert_file(session, &[snapshot["label"].as_str().unwrap()]);
            }
            session.post("/snapshots", &json!({}));
        },
    );
}

#[test]
fn a_kill_while_a_session_is_rolled_back_leaves_all_files_old_or_new() {
    survives_kills(
        4,
        false,
        |session, _| drop(session.try_post("/snapshots/1/rollback", &json!({}))),
        |_, session, _| {
            assert_file(session, &["new", "old"]);
            session.post("/snapshots/1/rollback", &json!({}));
            assert_file(session, &["old"]);
        },
    );
}

#[test]
fn a_kill_while_a_session_is_forked_leaves_a_whole_fork_or_none() {
    survives_kills(
        5,
        false,
        |session, round| drop(session.try_post("/fork", &json!({"persistent": round % 2 == 0}))),
        |service, session, _| {
            let all = sessions(service);
            assert!((2..=3).contains(&all.len()), "{all:?}");
            assert_eq!(session.ask("GET", "/snapshots", b"").json()["snapshots"].as_array().unwrap().len(), 1);
            // The anchor has no file.
            for id in all {
                let other = Session::of(service, &id);
                if !other.files().is_empty() {
                    assert_file(&other, &["new"]);
                }
            }
            session.post("/fork", &json!({}));
        },
    );
}

#[test]
fn a_kill_while_a_session_is_paused_leaves_it_usable() {
    survives_kills(
        6,
        false,
        |session, _| drop(session.try_post("/pause", &json!({}))),
        |_, session, _| {
            assert!(["active", "paused"].contains(&session.status().as_str()));
            assert_file(session, &["new"]);
            assert_eq!(session.status(), "active");
        },
    );
}

#[test]
fn a_kill_while_a_session_is_stopped_keeps_its_files() {
    survives_kills(
        7,
        true,
        |session, _| drop(session.try_post("/stop", &json!({}))),
        |_, session, _| {
            assert!(["active", "stopped"].contains(&session.status().as_str()));
            assert_file(session, &["new"]);
            session.post("/snapshots/1/rollback", &json!({}));
            assert_file(session, &["old"]);
        },
    );
}

#[test]
fn a_kill_while_a_session_is_removed_leaves_all_of_it_or_nothing() {
    survives_kills(
        8,
        true,
        |session, _| drop(session.try_ask("DELETE", "", &[], b"")),
        |_, session, _| {
            if session.seen().is_some() {
                assert_file(session, &["new"]);
            }
        },
    );
}

#[test]
fn a_kill_while_a_file_is_written_leaves_the_old_or_the_new_one() {
    survives_kills(
        9,
        false,
        |session, _| {
            session.try_ask("PUT", "/fs/file?path=file", &[], "newer ".repeat(50_000).as_bytes());
        },
        |_, session, _| {
            wait_for("no unfinished file", || session.files().len() == 1);
            assert_file(session, &["new", &"newer ".repeat(50_000)]);
        },
    );
}

/// Numbers, one a line, as a program prints them; all that was printed must be the first of them.
struct Ticker {
    exec: u64,
    told: Told,
}

impl Ticker {
    fn start(session: &Session) -> Self {
        let line = "i=0; while :; do echo $((i=i+1)); sleep 0.002; done";
        Self { exec: session.start(json!({"shell": line})), told: Told::default() }
    }

    fn path(&self, follow: bool) -> String {
        format!("/execs/{}/output?stdout={}&stderr=0&follow={follow}", self.exec, self.told.next("stdout"))
    }

    /// Reads what it has printed since.
    fn read(&mut self, session: &Session) {
        let mut events = session.follow(&self.path(false));
        while let Some(event) = events.next() {
            self.told.note(event);
        }
    }

    /// Its end, and that no byte of it was lost or came twice.
    fn end(mut self, session: &Session) {
        session.signal(self.exec, "KILL");
        let mut events = session.follow(&self.path(true));
        while let Some(event) = events.next() {
            self.told.note(event);
        }
        assert_eq!((&self.told.last["event"], self.told.gaps), (&json!("finished"), 0));
        let text = String::from_utf8(self.told.stream("stdout")).unwrap();
        let lines: Vec<usize> = text.lines().map(|line| line.parse().unwrap()).collect();
        assert!(lines.iter().copied().eq(1..=lines.len()), "numbers are missing");
    }
}

/// An agent's session, and what must be in it.
struct Agent {
    random: Random,
    session: Session,
    files: BTreeMap<String, Vec<u8>>,
    snapshots: BTreeMap<u64, BTreeMap<String, Vec<u8>>>,
    ticker: Option<Ticker>,
    /// What the interpreter of the context counts.
    counted: u64,
}

impl Agent {
    fn name(&mut self) -> String {
        format!("d{}/f{}", self.random.below(3), self.random.below(5))
    }

    fn text(&mut self) -> String {
        let (word, times) = (self.random.below(1 << 32), self.random.below(200) + 1);
        format!("{word} ").repeat(usize::try_from(times).unwrap())
    }

    /// One call that succeeds; a second one may come on top.
    fn call(&mut self) {
        match self.random.below(10) {
            0 | 1 => {
                let (name, text) = (self.name(), self.text());
                self.session.put(&name, text.as_bytes());
                self.files.insert(name, text.into_bytes());
            }
            2 => {
                let (name, text) = (self.name(), self.text());
                let line = format!("mkdir -p $(dirname {name}); printf '{text}' >> {name}; wc -c < {name}");
                let told = self.session.run(&line);
                let file = self.files.entry(name).or_default();
                file.extend(text.bytes());
                assert_eq!(told.trim(), file.len().to_string());
            }
            3 => {
                let name = self.name();
                let answer = self.session.ask("DELETE", &format!("/fs/file?path={name}"), b"");
                assert_eq!(answer.status == 204, self.files.remove(&name).is_some());
            }
            4 => {
                let name = self.name();
                assert_eq!(self.session.get(&name), self.files.get(&name).cloned());
            }
            5 if self.snapshots.len() < 10 => {
                let id = self.session.post("/snapshots", &json!({}))["id"].as_u64().unwrap();
                self.snapshots.insert(id, self.files.clone());
            }
            6 => self.roll_back(),
            7 => {
                let fork = self.session.post("/fork", &json!({}));
                let fork = Session { id: fork["id"].as_str().unwrap().to_owned(), ..self.session.clone() };
                assert_eq!(fork.files(), self.files);
                fork.delete();
            }
            8 => {
                let code = "n = globals().get('n', 0) + 1\nn";
                let answer = self.session.post("/contexts/1/execute", &json!({"code": code}));
                self.counted += 1;
                assert_eq!(answer["outputs"][0]["data"]["text/plain"], self.counted.to_string(), "{answer}");
            }
            _ => {
                let exec = self.session.start(json!({"shell": "sleep 1000"}));
                assert_eq!(self.session.signal(exec, "TERM"), 204);
                assert_eq!(self.session.finished(exec)["result"]["signal"], "SIGTERM");
            }
        }
        if let Some(ticker) = &mut self.ticker {
            ticker.read(&self.session);
        }
    }

    fn roll_back(&mut self) {
        let ids: Vec<u64> = self.snapshots.keys().copied().collect();
        let Some(id) = ids.get(usize::try_from(self.random.below(1 + ids.len() as u64)).unwrap()) else {
            return;
        };
        self.session.post(&format!("/snapshots/{id}/rollback"), &json!({}));
        self.files = self.snapshots[id].clone();
        self.all_has_ended();
    }

    /// A roll back has ended all programs.
    fn all_has_ended(&mut self) {
        if let Some(ticker) = self.ticker.take() {
            ticker.end(&self.session);
        }
        self.ticker = Some(Ticker::start(&self.session));
        self.counted = 0;
    }

    /// One call that the daemon's death may cut off: what came of it is looked up.
    fn broken_call(&mut self, service: &mut Service) {
        let session = self.session.clone();
        let mut random = Random(self.random.below(u64::MAX - 1) + 1);
        match self.random.below(3) {
            0 => {
                let (name, text) = (self.name(), self.text());
                let (path, body) = (format!("/fs/file?path={name}"), text.clone());
                kill_meanwhile(service, &mut random, move || drop(session.try_ask("PUT", &path, &[], body.as_bytes())));
                let now = self.session.get(&name);
                if now.as_deref() == Some(text.as_bytes()) {
                    self.files.insert(name, text.into_bytes());
                } else {
                    assert_eq!(now, self.files.get(&name).cloned());
                }
            }
            1 => {
                kill_meanwhile(service, &mut random, move || drop(session.try_post("/snapshots", &json!({}))));
                self.session.run("true");
                let list = self.session.ask("GET", "/snapshots", b"").json();
                for snapshot in list["snapshots"].as_array().unwrap() {
                    self.snapshots.entry(snapshot["id"].as_u64().unwrap()).or_insert_with(|| self.files.clone());
                }
                assert_eq!(list["snapshots"].as_array().unwrap().len(), self.snapshots.len());
            }
            _ => kill_meanwhile(service, &mut random, move || drop(session.seen())),
        }
    }
}

#[test]
fn a_session_of_two_hundred_calls_is_as_it_should_be_whenever_the_daemon_is_killed() {
    let seed = std::env::var("CODESANDBOX_TEST_SEED").map_or(20_261_121, |seed| seed.parse().unwrap());
    eprintln!("CODESANDBOX_TEST_SEED={seed}");
    let mut service = Service::start_with(json!({"sessions": {"log_bytes": 4 << 20, "execs_per_session": 200}}));
    let session = create(&service, &json!({"runtimes": ["bash", "python@3.11"]}));
    session.post("/contexts", &json!({"language": "python"}));
    let ticker = Some(Ticker::start(&session));
    let (files, snapshots) = (BTreeMap::new(), BTreeMap::new());
    let mut agent = Agent { random: Random(seed), session, files, snapshots, ticker, counted: 0 };
    for _ in 0..200 {
        match agent.random.below(20) {
            0 => {
                service.kill_daemon();
                service.restart_daemon();
            }
            1 => agent.broken_call(&mut service),
            _ => {}
        }
        agent.call();
        if agent.random.below(10) == 0 {
            assert_eq!(agent.session.files(), agent.files);
        }
    }
    assert_eq!(agent.session.files(), agent.files);
    for (id, files) in std::mem::take(&mut agent.snapshots) {
        agent.session.post(&format!("/snapshots/{id}/rollback"), &json!({}));
        assert_eq!(agent.session.files(), files);
        agent.all_has_ended();
    }
    agent.ticker.take().unwrap().end(&agent.session);
    assert_eq!(sessions(&service), BTreeSet::from([agent.session.id.clone()]));
    agent.session.delete();
    service.assert_no_sandbox();
}

#[test]
fn a_restart_keeps_programs_and_what_they_print() {
    let mut service = Service::start();
    let session = shell(&service);
    let mut ticker = Ticker::start(&session);
    let waiting = session.send("POST", "/execs", "application/json", &json!({"shell": "read x"}).to_string());
    drop(waiting);
    let line = json!({"shell": "echo begun; while [ ! -e go ]; do sleep 0.01; done; echo over"});
    let mut waiting = session.send("POST", "/execs", "application/json", &line.to_string());
    wait_for("the programs", || session.execs().len() == 2);
    let mut followed = session.stream(&line);
    assert_eq!(followed.next().unwrap()["event"], "started");
    ticker.read(&session);
    service.terminate_daemon();
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut waiting, &mut answer).unwrap();
    assert!(answer.contains(" 202 "), "{answer}");
    assert!(service.wait_for_daemon().success());
    assert_eq!(followed.gather().last["event"], "end");
    service.restart_daemon();
    session.put("go", b"");
    let ids: Vec<u64> = session.execs().iter().map(|exec| exec["id"].as_u64().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for id in ids.into_iter().filter(|id| *id != ticker.exec) {
        let finished = session.finished(id);
        assert_eq!(
            (&finished["result"]["status"], printed(&finished, "stdout")),
            (&json!("ok"), b"begun\nover\n".to_vec())
        );
    }
    ticker.read(&session);
    ticker.end(&session);
    session.delete();
}

#[test]
fn a_follower_goes_on_behind_its_last_byte_after_a_kill() {
    let mut service = Service::start();
    let session = shell(&service);
    let mut ticker = Ticker::start(&session);
    for _ in 0..5 {
        let mut events: Events = session.follow(&ticker.path(true));
        for _ in 0..10 {
            ticker.told.note(events.next().unwrap());
        }
        service.kill_daemon();
        // What was on its way is told too.
        while let Some(event) = events.next() {
            ticker.told.note(event);
        }
        service.restart_daemon();
    }
    ticker.end(&session);
    session.delete();
}

/// Waits until a persistent session is saved with this in it.
fn wait_until_saved(service: &Service, session: &Session, text: &str) {
    let directory = service.state().join("workspaces").join(&session.id);
    wait_for("its files to be saved", || {
        let entries = fs::read_dir(&directory).into_iter().flatten().flatten();
        let saved = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("workspace-"));
        let paths: Vec<_> = saved.map(|entry| entry.path()).collect();
        // The one before is removed when the new one counts.
        paths.len() == 1
            && fs::read(&paths[0]).is_ok_and(|tar| tar.windows(text.len()).any(|part| part == text.as_bytes()))
    });
}

/// Two sessions with files and programs, of which one is persistent, and saved but for what came last.
fn two_sessions(service: &Service) -> [Session; 2] {
    let kept = create(service, &json!({"runtime": "bash", "persistent": true}));
    let gone = shell(service);
    kept.put("file", b"old");
    kept.post("/snapshots", &json!({}));
    wait_until_saved(service, &kept, "old");
    kept.put("file", b"what is saved");
    for session in [&kept, &gone] {
        session.start(json!({"shell": "sleep 1000"}));
    }
    wait_until_saved(service, &kept, "what is saved");
    [kept, gone]
}

fn assert_came_back([kept, gone]: &[Session; 2], restarts: u32) {
    gone.wait_until_gone();
    kept.wait_until("stopped");
    assert_eq!(kept.execs(), Vec::<Value>::new());
    assert_eq!(kept.files(), BTreeMap::from([("file".to_owned(), b"what is saved".to_vec())]));
    let seen = kept.seen().unwrap();
    assert_eq!((&seen["status"], &seen["restarts"]), (&json!("active"), &json!(restarts)), "{seen}");
    assert_eq!(kept.run("echo works"), "works\n");
    kept.post("/snapshots/1/rollback", &json!({}));
    assert_eq!(kept.get("file").unwrap(), b"old");
    kept.delete();
}

fn saves_soon() -> Service {
    Service::start_with(json!({"sessions": {"save_after_ms": 100}}))
}

/// Whether all threads of a process are stopped.
fn stands_still(pid: Pid) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    threads
        .filter_map(|thread| fs::read_to_string(thread.path().join("status")).ok())
        .all(|status| status.contains("State:\tT"))
}

#[test]
fn a_killed_launcher_takes_sessions_along_but_for_persistent_ones() {
    let mut service = saves_soon();
    let sessions = two_sessions(&service);
    service.kill_launcher();
    service.restart_launcher();
    assert_came_back(&sessions, 1);
}

#[test]
fn a_file_that_comes_slowly_is_saved_whole() {
    let service = saves_soon();
    let session = create(&service, &json!({"runtime": "bash", "persistent": true}));
    let content = b"0123456789".repeat(1000);
    let (id, length) = (&session.id, content.len());
    let mut stream = UnixStream::connect(service.socket()).unwrap();
    let head = format!("PUT /v1/sessions/{id}/fs/file?path=slow HTTP/1.1\r\nHost: localhost\r\n");
    stream.write_all(format!("{head}Content-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    stream.write_all(&content[..length / 2]).unwrap();
    // Meanwhile it is saved, as it is.
    let directory = service.state().join("workspaces").join(id);
    let is_whole = |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "tar");
    wait_for("its files to be saved", || fs::read_dir(&directory).into_iter().flatten().flatten().any(is_whole));
    stream.write_all(&content[length / 2..]).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    session.post("/stop", &json!({}));
    assert_eq!(session.get("slow").unwrap(), content);
    session.delete();
}

#[test]
fn a_session_that_is_being_saved_when_the_launcher_is_killed_comes_back() {
    let mut service = saves_soon();
    let session = create(&service, &json!({"runtime": "bash", "persistent": true}));
    session.put("file", b"what is saved");
    wait_until_saved(&service, &session, "what is saved");
    session.put("large", &vec![b'x'; 200 << 20]);
    let directory = service.state().join("workspaces").join(&session.id);
    // Its name until it is whole.
    let is_unfinished = |entry: fs::DirEntry| entry.path().extension().is_some_and(|end| end == "part");
    let are_on_their_way = || fs::read_dir(&directory).unwrap().flatten().any(is_unfinished);
    wait_for("its files to be on their way", are_on_their_way);
    // It stands still until the launcher is dead: else it may be done before, or have cleared away what is
    // unfinished before it is looked for.
    let daemon = Pid::from_raw(service.daemon_pid());
    kill(daemon, Signal::SIGSTOP).unwrap();
    wait_for("the daemon to stand still", || stands_still(daemon));
    let is_disturbed = are_on_their_way();
    service.kill_launcher();
    kill(daemon, Signal::SIGCONT).unwrap();
    assert!(is_disturbed, "it was saved too fast to be disturbed");
    service.restart_launcher();
    session.wait_until("stopped");
    assert_eq!(session.files(), BTreeMap::from([("file".to_owned(), b"what is saved".to_vec())]));
    session.delete();
}

#[test]
fn a_host_that_breaks_down_takes_sessions_along_but_for_persistent_ones() {
    let mut service = saves_soon();
    let sessions = two_sessions(&service);
    service.kill_launcher();
    service.kill_daemon();
    service.restart_launcher();
    service.restart_daemon();
    assert_came_back(&sessions, 1);
}

#[test]
fn a_host_that_is_restarted_in_order_loses_no_file_of_persistent_sessions() {
    // Nothing is saved but by the stop.
    let mut service = Service::start_with(json!({"sessions": {"save_after_ms": 10_000_000}}));
    let kept = create(&service, &json!({"runtime": "bash", "persistent": true}));
    let gone = shell(&service);
    kept.put("file", b"old");
    kept.post("/snapshots", &json!({}));
    kept.put("file", b"what is saved");
    service.terminate_daemon();
    assert!(service.wait_for_daemon().success());
    service.kill_launcher();
    service.restart_launcher();
    service.restart_daemon();
    assert_came_back(&[kept, gone], 1);
}

#[test]
fn a_session_that_is_demoted_and_promoted_is_saved_anew() {
    let mut service = saves_soon();
    let session = create(&service, &json!({"runtime": "bash", "persistent": true}));
    session.put("file", b"old");
    session.post("/snapshots", &json!({}));
    session.put("file", b"what is saved");
    wait_until_saved(&service, &session, "what is saved");
    session.post("/demote", &json!({}));
    service.kill_daemon();
    service.restart_daemon();
    session.post("/promote", &json!({}));
    session.post("/stop", &json!({}));
    assert_eq!(session.get("file").unwrap(), b"what is saved");
    session.post("/snapshots/1/rollback", &json!({}));
    assert_eq!(session.get("file").unwrap(), b"old");
    session.delete();
}

#[test]
fn a_start_whose_client_hangs_up_goes_on() {
    let service = Service::start();
    let session = create(&service, &json!({"runtime": "bash", "persistent": true}));
    session.put("file", b"what is saved");
    session.put("large", &vec![b'x'; 200 << 20]);
    session.post("/stop", &json!({}));
    wait_for("its sandbox to be gone", || sandboxes(&service) == 0);
    let asking = session.send("GET", "/fs/file?path=file", "*/*", "");
    wait_for("another sandbox", || sandboxes(&service) == 1);
    // Its files are on their way.
    drop(asking);
    session.wait_until("active");
    assert_eq!(session.get("file").unwrap(), b"what is saved");
    session.delete();
    service.assert_no_sandbox();
}

#[test]
fn an_export_whose_client_hangs_up_leaves_nothing_behind() {
    let service = Service::start();
    let session = shell(&service);
    session.put("file", b"old");
    session.post("/snapshots", &json!({}));
    session.run("true");
    let (before, mut random) = (mounts(&service), Random(10));
    for _ in 0..KILLS {
        let asking = session.send("GET", "/snapshots/1/export", "*/*", "");
        // No condition to wait for: they are to hang up at any moment.
        thread::sleep(Duration::from_micros(random.below(LONGEST_DELAY_US)));
        drop(asking);
    }
    assert_eq!(session.ask("GET", "/snapshots/1/export", b"").status, 200);
    wait_for("what was made for exports to be gone", || sandboxes(&service) == 1 && mounts(&service) <= before);
    session.delete();
}

/// The records, beside the daemon.
fn records(service: &Service) -> rusqlite::Connection {
    let records = rusqlite::Connection::open(service.state().join("records.sqlite")).unwrap();
    records.busy_timeout(Duration::from_secs(5)).unwrap();
    records
}

/// What is written down says that nobody has used any session for half a century.
fn forget_use(service: &Service) {
    records(service).execute("UPDATE sessions SET last_used_ms = 1", []).unwrap();
}

#[test]
fn time_outs_begin_anew_with_a_daemon_and_lifetimes_do_not() {
    let mut service = Service::start();
    let session = shell(&service);
    session.put("file", b"kept");
    let before = session.seen().unwrap();
    service.kill_daemon();
    forget_use(&service);
    service.restart_daemon();
    // What was used by nobody is looked at now and then, and this is no use.
    let is_used = |seen: Value| seen["last_used_at"].as_str() >= before["last_used_at"].as_str();
    wait_for("the session to be taken up", || session.seen().is_some_and(is_used));
    assert_eq!(session.seen().unwrap()["expires_at"], before["expires_at"]);
    assert_eq!(session.get("file").unwrap(), b"kept");
    session.delete();
}

#[test]
fn nothing_times_out_until_the_launcher_has_told_of_it() {
    // Nothing is saved but by a stop.
    let mut service = Service::start_with(json!({"sessions": {"save_after_ms": 10_000_000}}));
    let kept = create(&service, &json!({"runtime": "bash", "persistent": true}));
    let other = shell(&service);
    for session in [&kept, &other] {
        session.put("file", b"not saved");
    }
    service.kill_daemon();
    forget_use(&service);
    let launcher = Pid::from_raw(service.launcher_pid());
    kill(launcher, Signal::SIGSTOP).unwrap();
    let waking = thread::spawn(move || {
        // No condition to wait for: nothing is to happen in this time.
        thread::sleep(Duration::from_secs(2));
        kill(launcher, Signal::SIGCONT).unwrap();
    });
    service.restart_daemon();
    waking.join().unwrap();
    for session in [&kept, &other] {
        assert_eq!(session.get("file").unwrap(), b"not saved");
        session.delete();
    }
}

#[test]
fn what_could_not_be_removed_at_once_is_removed_later() {
    let service = Service::start();
    let records = records(&service);
    let count = || records.query_row("SELECT count(*) FROM sessions", [], |row| row.get::<_, i64>(0)).unwrap();
    // The first keeps all of it as it is, the second nothing but the record.
    for what in ["UPDATE", "DELETE"] {
        let session = shell(&service);
        session.run("true");
        let refuse = format!("CREATE TRIGGER refuse BEFORE {what} ON sessions BEGIN SELECT RAISE(ABORT, 'no'); END");
        records.execute_batch(&refuse).unwrap();
        assert_eq!(session.ask("DELETE", "", b"").status, 500, "{what}");
        assert_eq!((session.ask("DELETE", "", b"").status, count()), (404, 1), "{what}");
        records.execute_batch("DROP TRIGGER refuse").unwrap();
        wait_for("the session to be gone", || count() == 0 && sandboxes(&service) == 0);
    }
}
