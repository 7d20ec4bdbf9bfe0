//! What sessions cost: to make one, to run in it, to keep its files, and to hold a thousand of them.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use codesandbox::cli::bench::bare::{Bare, Start};
use codesandbox::cli::bench::client::{Connector, request};
use codesandbox::cli::bench::statistics::{Sample, Summary};
use serde_json::{Value, json};

use super::common::wait_for;
use super::memory::{as_mib, of};
use super::ours::Ours;
use super::report::{Report, Table, number};

/// Time for the kernel to clean up after a turn.
const SETTLE: Duration = Duration::from_millis(3);
const MIB: usize = 1 << 20;
/// As many bytes as the large output has.
const OUTPUT_BYTES: usize = 100_000_000;

/// One thing that is measured: what is done before each turn and after it does not count.
pub(crate) struct Turn<'a> {
    name: String,
    before: Box<dyn FnMut() + 'a>,
    act: Box<dyn FnMut() + 'a>,
    after: Box<dyn FnMut() + 'a>,
    times: Vec<Duration>,
}

impl<'a> Turn<'a> {
    pub(crate) fn new(name: impl Into<String>, act: impl FnMut() + 'a) -> Self {
        let (before, after) = (Box::new(|| {}), Box::new(|| {}));
        Self { name: name.into(), before, act: Box::new(act), after, times: Vec::new() }
    }

    pub(crate) fn before(mut self, before: impl FnMut() + 'a) -> Self {
        self.before = Box::new(before);
        self
    }

    fn after(mut self, after: impl FnMut() + 'a) -> Self {
        self.after = Box::new(after);
        self
    }

    fn summary(&self) -> Summary {
        Sample::new(self.times.clone()).summary()
    }
}

/// Every round has an order of its own; the first does not count.
pub(crate) fn take_turns(turns: &mut [Turn<'_>], rounds: usize) {
    for round in 0..=rounds {
        let chance = RandomState::new();
        turns.sort_by_cached_key(|turn| chance.hash_one(&turn.name));
        for turn in turns.iter_mut() {
            (turn.before)();
            let began = Instant::now();
            (turn.act)();
            let took = began.elapsed();
            (turn.after)();
            std::thread::sleep(SETTLE);
            if round > 0 {
                turn.times.push(took);
            }
        }
    }
}

/// Tells what turns took, and against which of them.
pub(crate) fn tell(report: &mut Report, section: &str, title: &str, rounds: usize, turns: &[Turn<'_>], against: &str) {
    let other = turns.iter().find(|turn| turn.name == against).map(|turn| turn.summary().p50);
    let column = if against.is_empty() { "×".to_owned() } else { format!("× {against}") };
    let mut table =
        Table::new(format!("{title}, {rounds} rounds, in milliseconds"), &["", "p50", "p95", "p99", &column]);
    let mut rows: Vec<_> = turns.iter().map(|turn| (turn, turn.summary())).collect();
    rows.sort_by(|(_, a), (_, b)| a.p50.total_cmp(&b.p50));
    for (turn, took) in rows {
        let ratio = other.map_or("–".to_owned(), |other| number(took.p50 / other));
        let [p50, p95, p99] = [took.p50, took.p95, took.p99].map(number);
        table.rows.push(vec![turn.name.clone(), p50, p95, p99, ratio]);
        report.value(format!("{section}/{}", turn.name), took.p50);
    }
    report.table(table);
}

/// A client of the API, on one connection that is kept.
pub(crate) struct Api(RefCell<UnixStream>);

impl Api {
    pub(crate) fn new(ours: &Ours) -> Self {
        Self(RefCell::new(Connector::Path(ours.service.socket()).connect().unwrap()))
    }

    /// The body of an answer, which must be a good one.
    pub(crate) fn ask(&self, method: &str, path: &str, body: &[u8]) -> Vec<u8> {
        let mut stream = self.0.borrow_mut();
        stream.write_all(&request(method, path, body, true)).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        // Answers are small or take long; in both a head's few bytes are nothing.
        let mut buffered = std::io::BufReader::with_capacity(64 << 10, &mut *stream);
        while !head.ends_with(b"\r\n\r\n") {
            buffered.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        let head = String::from_utf8(head).unwrap();
        let status: u16 = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut fields = head.lines().filter_map(|line| line.split_once(": "));
        let length = fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
        let mut answer = vec![0; length.map_or(0, |(_, length)| length.parse().unwrap())];
        buffered.read_exact(&mut answer).unwrap();
        assert!(status < 300, "{method} {path}: {status}: {}", String::from_utf8_lossy(&answer));
        answer
    }

    pub(crate) fn json(&self, method: &str, path: &str, body: &Value) -> Value {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        serde_json::from_slice(&self.ask(method, path, body.as_bytes())).unwrap_or_default()
    }

    /// Makes a session, and returns its path.
    fn create(&self) -> String {
        let made = self.json("POST", "/v1/sessions", &new());
        format!("/v1/sessions/{}", made["id"].as_str().unwrap())
    }

    /// Runs a program, which must end well.
    fn run(&self, session: &str, program: &Value) {
        let done = self.json("POST", &format!("{session}/execs"), program);
        assert_eq!(done["result"]["status"], "ok", "{program}: {done:#}");
    }

    fn snapshot(&self, session: &str) -> String {
        let made = self.json("POST", &format!("{session}/snapshots"), &Value::Null);
        format!("{session}/snapshots/{}", made["id"])
    }

    pub(crate) fn delete(&self, path: &str) {
        self.ask("DELETE", path, b"");
    }
}

fn new() -> Value {
    json!({"runtime": "bash", "limits": {
        "disk_bytes": 4_u64 << 30, "disk_files": 200_000, "memory_bytes": 4_u64 << 30, "output_bytes": 1 << 30,
        "file_size_bytes": 2_u64 << 30,
    }})
}

/// A session, and what answers about it: programs in it, files, snapshots.
pub(crate) fn measure(report: &mut Report, quick: bool) {
    let most = if quick { 300 } else { 1000 };
    let ours = Ours::start(
        "codeSandbox",
        json!({
            "pool": {"warm": false, "ceiling": 8},
            // Where no cgroup counts, samplers at the usual pace would be all that is measured.
            "launcher": {"sandboxes": most + 100, "sample_interval_us": 500_000},
            "sessions": {"sessions": most + 50, "sessions_per_client": most + 50},
        }),
    );
    starts(report, &ours, if quick { 30 } else { 150 });
    streams(report, &ours, if quick { 5 } else { 15 });
    layers(report, &ours, if quick { 8 } else { 25 });
    held(report, &ours, most, if quick { 20 } else { 60 });
    ours.service.assert_no_sandbox();
}

/// Making a session against a run in a sandbox that waits; a program in one against the bare program.
fn starts(report: &mut Report, ours: &Ours, rounds: usize) {
    let Some(bare) = Bare::of_true() else { return report.skip("sessions: there is no true") };
    let api = Api::new(ours);
    let session = api.create();
    let made = RefCell::new(String::new());
    let ready = || ours.settle();
    let job = json!({"runtime": "true", "files": [{"content": ""}]}).to_string();
    let program = json!({"argv": ["/usr/bin/true"]});
    let mut turns = [
        Turn::new("bare, by fork", || bare.run(Start::Fork).unwrap()).before(ready),
        Turn::new("run, parked", || drop(api.ask("POST", "/v1/run", job.as_bytes()))).before(ready),
        Turn::new("create", || drop(made.replace(api.create()))).before(ready).after(|| api.delete(&made.borrow())),
        Turn::new("exec", || api.run(&session, &program)).before(ready),
    ];
    take_turns(&mut turns, rounds);
    tell(report, "sessions", "A session, and `true` in it", rounds, &turns, "bare, by fork");
    drop(turns);
    api.delete(&session);
}

/// What goes in and comes out: a key at a terminal, files, output.
fn streams(report: &mut Report, ours: &Ours, rounds: usize) {
    let api = Api::new(ours);
    let session = api.create();
    let shell = json!({"argv": ["cat"], "terminal": {"rows": 24, "columns": 80}, "detach": true});
    let shell = api.json("POST", &format!("{session}/execs"), &shell);
    let socket = RefCell::new(WebSocket::open(ours, &format!("{session}/execs/{}/attach", shell["id"])));
    let [small, large] = [1024, 64 * MIB].map(|size| vec![b'x'; size]);
    let path = |name: &str| format!("{session}/fs/file?path={name}");
    let (small_file, large_file) = (path("small"), path("large"));
    let line = format!("head -c {OUTPUT_BYTES} /dev/zero");
    let program = json!({"shell": line});
    let mut turns = [
        Turn::new("terminal: a key's echo", || socket.borrow_mut().echo()),
        Turn::new("write 1 KiB", || drop(api.ask("PUT", &small_file, &small))),
        Turn::new("read 1 KiB", || assert_eq!(api.ask("GET", &small_file, b"").len(), small.len())),
        Turn::new("write 64 MiB", || drop(api.ask("PUT", &large_file, &large))),
        Turn::new("read 64 MiB", || assert_eq!(api.ask("GET", &large_file, b"").len(), large.len())),
        Turn::new("100 MB of output", || api.run(&session, &program)),
        Turn::new("100 MB of output, bare", || bare_output(&line)),
    ];
    // So that what is read is there.
    drop((api.ask("PUT", &small_file, &small), api.ask("PUT", &large_file, &large)));
    take_turns(&mut turns, rounds);
    tell(report, "sessions", "Into a session and out of it", rounds, &turns, "");
    drop(turns);
    api.delete(&session);
}

/// The same line, by a shell without a sandbox, read to its end.
fn bare_output(line: &str) {
    let mut child = Command::new("sh").args(["-c", line]).stdout(Stdio::piped()).spawn().unwrap();
    let read = std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
    assert!(child.wait().unwrap().success() && read == OUTPUT_BYTES as u64);
}

/// Snapshots, roll backs and forks of a small workspace and a large one.
fn layers(report: &mut Report, ours: &Ours, rounds: usize) {
    let api = Api::new(ours);
    let at_rest =
        [("1 MiB", 1), ("1 GiB in 10 000 files", 10_000)].map(|(name, files)| (name, filled(&api, files), files));
    let made = RefCell::new(String::new());
    let mut turns = Vec::new();
    let bases: Vec<String> = at_rest.iter().map(|(_, session, _)| api.snapshot(session)).collect();
    for ((name, session, _), base) in at_rest.iter().zip(&bases) {
        let (api, made) = (&api, &made);
        // Else there would be nothing to take.
        let change = move || {
            api.ask("PUT", &format!("{session}/fs/file?path=changed"), b"changed");
            ours.settle();
        };
        let forget = move || api.delete(&made.borrow());
        let rollback = format!("{base}/rollback");
        let fork = json!({"snapshot": base.rsplit('/').next().unwrap().parse::<u64>().unwrap()});
        turns.push(
            Turn::new(format!("snapshot of {name}"), move || drop(made.replace(api.snapshot(session))))
                .before(change)
                .after(forget),
        );
        turns.push(
            Turn::new(format!("roll back of {name}"), move || drop(api.ask("POST", &rollback, b""))).before(change),
        );
        turns.push(
            Turn::new(format!("fork of {name}"), move || {
                let fork = api.json("POST", &format!("{session}/fork"), &fork);
                made.replace(format!("/v1/sessions/{}", fork["id"].as_str().unwrap()));
            })
            .before(|| ours.settle())
            .after(forget),
        );
    }
    take_turns(&mut turns, rounds);
    tell(report, "sessions", "Snapshots at rest", rounds, &turns, "");
    drop(turns);
    while_running(report, ours, &api, &at_rest.map(|(name, session, _)| (name, session)), rounds);
}

/// The same while a program runs: what has changed since the last snapshot is copied.
fn while_running(report: &mut Report, ours: &Ours, api: &Api, sessions: &[(&str, String)], rounds: usize) {
    let made = RefCell::new(String::new());
    let mut turns = Vec::new();
    for (name, session) in sessions {
        api.json("POST", &format!("{session}/execs"), &json!({"shell": "sleep 3000", "detach": true}));
        let (made, program) = (&made, json!({"shell": "head -c 1048576 /dev/zero > changed"}));
        let change = move || {
            api.run(session, &program);
            ours.settle();
        };
        turns.push(
            Turn::new(format!("snapshot of {name}, 1 MiB changed"), move || drop(made.replace(api.snapshot(session))))
                .before(change)
                .after(|| api.delete(&made.borrow())),
        );
    }
    take_turns(&mut turns, rounds.min(10));
    tell(report, "sessions", "Snapshots while a program runs", rounds.min(10), &turns, "");
    drop(turns);
    sessions.iter().for_each(|(_, session)| api.delete(session));
    // All of it is new: a program has run from the beginning.
    let session = api.create();
    api.json("POST", &format!("{session}/execs"), &json!({"shell": "sleep 3000", "detach": true}));
    fill(api, &session, 10_000);
    let mut turn =
        [Turn::new("snapshot of 1 GiB in 10 000 files, all changed", || drop(made.replace(api.snapshot(&session))))
            .after(|| api.delete(&made.borrow()))];
    take_turns(&mut turn, 2);
    tell(report, "sessions", "Snapshots of what is all new, while a program runs", 2, &turn, "");
    drop(turn);
    api.delete(&session);
}

/// A session with so many files of 100 KiB, or one of 1 MiB, and nothing that runs.
fn filled(api: &Api, files: usize) -> String {
    let session = api.create();
    fill(api, &session, files);
    session
}

fn fill(api: &Api, session: &str, files: usize) {
    let bytes = if files == 1 { MIB } else { (1 << 30) / files };
    let line = format!("head -c {} /dev/zero | split -b {bytes} -a 5 - file", bytes * files);
    api.run(session, &json!({"shell": line}));
}

/// From one session to many: what the next costs, and what all of them take.
fn held(report: &mut Report, ours: &Ours, most: usize, rounds: usize) {
    let Some(bare) = Bare::of_true() else { return report.skip("sessions that are held: there is no true") };
    let api = Api::new(ours);
    let columns = [
        "sessions",
        "bare p50 ms, by fork",
        "create p50 ms",
        "exec p50 ms",
        "private KiB each",
        "PSS KiB each",
        "descriptors of launcher",
        "of daemon",
        "daemon's processor at rest",
    ];
    let mut table = Table::new(format!("Beside sessions that are held, {rounds} rounds"), &columns);
    let mut sessions = vec![api.create()];
    let made = RefCell::new(String::new());
    let steps = [1, 10, 100, 300, 1000];
    let (mut first, program) = (None, json!({"argv": ["/usr/bin/true"]}));
    for step in steps.into_iter().filter(|step| *step <= most) {
        while sessions.len() < step {
            sessions.push(api.create());
        }
        // One program has run in each.
        wait_for("a program to wait in each", || ours.service.sandbox_processes().len() >= 2 * step);
        ours.settle();
        let memory = memory(ours);
        let fds = [ours.service.launcher_pid(), ours.service.daemon_pid()].map(descriptors);
        let busy = processor(ours.service.daemon_pid());
        let ready = || ours.settle();
        let mut turns = [
            // What the machine itself does meanwhile: growth is told in multiples of it.
            Turn::new("bare, by fork", || bare.run(Start::Fork).unwrap()).before(ready),
            Turn::new("create", || drop(made.replace(api.create()))).before(ready).after(|| api.delete(&made.borrow())),
            Turn::new("exec", || api.run(&sessions[0], &program)).before(ready),
        ];
        take_turns(&mut turns, rounds);
        turns.sort_by(|a, b| a.name.cmp(&b.name));
        let [bare, create, exec] = [0, 1, 2].map(|index: usize| turns[index].summary().p50);
        let (least, counted) = *first.get_or_insert((memory, step));
        let each = |now: u64, then: u64| match step - counted {
            0 => "–".to_owned(),
            more => number(now.saturating_sub(then) as f64 / more as f64),
        };
        let cells = [step.to_string(), number(bare), number(create), number(exec)];
        let others = [each(memory.0, least.0), each(memory.1, least.1), fds[0].to_string(), fds[1].to_string()];
        table.rows.push(cells.into_iter().chain(others).chain([format!("{busy:.2} %")]).collect());
        report.value(format!("sessions/create beside {step}"), create / bare);
        report.value(format!("sessions/exec beside {step}"), exec / bare);
        if step > counted {
            report.value("sessions/private_mib", as_mib(memory.0.saturating_sub(least.0)) / (step - counted) as f64);
        }
    }
    table
        .notes
        .push("of daemon, launcher, inits and programs that wait, beyond what they take with one session".to_owned());
    report.table(table);
    sessions.iter().for_each(|session| api.delete(session));
}

/// Private memory and PSS of the service with all its sandboxes, in KiB.
fn memory(ours: &Ours) -> (u64, u64) {
    let service = [ours.service.daemon_pid(), ours.service.launcher_pid(), ours.service.launcher_stub_pid()];
    let all = service.into_iter().chain(ours.service.sandbox_processes()).map(of);
    all.fold((0, 0), |(private, proportional), one| (private + one.private, proportional + one.proportional))
}

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

/// Share of a processor that a process takes, in a hundred, over some of its rounds.
fn processor(pid: i32) -> f64 {
    let ticks = || -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, fields) = text.rsplit_once(") ").unwrap();
        fields.split(' ').skip(11).take(2).map(|field| field.parse::<f64>().unwrap()).sum()
    };
    let (before, began) = (ticks(), Instant::now());
    std::thread::sleep(Duration::from_secs(5));
    // A hundred in a second; proc(5), sysconf(3).
    (ticks() - before) / began.elapsed().as_secs_f64()
}

/// Just enough of RFC 6455 to type at a terminal.
struct WebSocket(UnixStream);

impl WebSocket {
    fn open(ours: &Ours, path: &str) -> Self {
        let mut stream = Connector::Path(ours.service.socket()).connect().unwrap();
        let handshake = format!(
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
        stream.write_all(handshake.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        Self(stream)
    }

    /// Types a key, and waits until the terminal says it.
    fn echo(&mut self) {
        // Binary, whole, of one byte, with a mask of nothing.
        self.0.write_all(&[0x82, 0x81, 0, 0, 0, 0, b'x']).unwrap();
        loop {
            let mut head = [0; 2];
            self.0.read_exact(&mut head).unwrap();
            assert!(head[1] < 126, "a terminal says little at once");
            let mut payload = vec![0; usize::from(head[1])];
            self.0.read_exact(&mut payload).unwrap();
            if head[0] == 0x82 {
                return;
            }
        }
    }
}
