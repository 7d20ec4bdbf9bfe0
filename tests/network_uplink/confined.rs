//! An uplink as it is in service: a process of one thread, with nothing but its sockets.
//!
//! The process is a child of this test binary, executed anew, in which nothing else happens: a process with other
//! threads could not be duplicated and go on.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::process::{Child, Command, Stdio};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use codesandbox::network::uplink::confine::Confinement;
use codesandbox::network::uplink::{Doors, Learned, Refused, Start, serve};
use codesandbox::network::{Order, Report, Sockets};
use codesandbox::profile::AllowList;
use codesandbox::sys::process::{self, Namespaces, Side};
use codesandbox::sys::{namespace, socket};
use hickory_proto::rr::RecordType;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sched::CloneFlags;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::wait::{WaitStatus, waitpid};

use crate::ground::{FIRST, FIRST6, Ground, SECOND, echo, echoes, is_reset, serve as serve_all, until};
use crate::name_server::{NameServer, Reply, records};
use crate::resolver::ask;
use crate::uplink::{Launcher, list, sockets, start};

const POLICY: &str =
    r#"{"allow": [{"suffix": ".example", "ports": [7, 80]}, {"cidr": "151.101.66.0/24", "ports": [7, 9]}]}"#;
/// Names the descriptors that are handed to the process.
const HANDED: &str = "UPLINK_TEST_DESCRIPTORS";
/// Names what it does when it is asked whether its rules hold; or, that it measures how soon it serves.
const DOES: &str = "UPLINK_TEST_DOES";
/// What it does where it is granted secrets, with base64 of what it is granted.
pub(crate) const GRANTED: &str = "granted:";
/// Nobody's.
const IDENTITY: (u32, u32) = (1_234_567, 1_234_568);

/// Rules that do what no uplink does.
struct Doing(String);

impl Doors for Doing {
    fn take_up(&mut self, _: &AllowList) -> Result<(), String> {
        Ok(())
    }

    fn install(&mut self, _: &AllowList, _: &[Learned]) -> Result<(), String> {
        Ok(())
    }

    fn learn(&mut self, _: IpAddr, _: &std::collections::BTreeSet<u16>, _: Duration) -> Result<(), String> {
        Ok(())
    }

    fn holds(&mut self) -> Result<(), String> {
        use nix::sys::socket::{AddressFamily, SockFlag, SockType};
        let done = match self.0.as_str() {
            "open" => std::fs::File::open("/0").map(drop),
            "exec" => Command::new("/bin/true").status().map(drop),
            "thread" => std::thread::Builder::new().spawn(|| ()).map(drop),
            "fork" => process::clone(Namespaces::empty(), None).map(drop).map_err(|error| error.errno.into()),
            "signal" => nix::sys::signal::kill(nix::unistd::getppid(), None).map_err(Into::into),
            "unix" => socket::pair().map(drop).map_err(|error| error.errno.into()),
            "raw" => nix::sys::socket::socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), None)
                .map(drop)
                .map_err(Into::into),
            _ => Ok(()),
        };
        done.map_err(|error| error.to_string())
    }

    fn poll_refused(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<Refused>> {
        Poll::Pending
    }
}

/// Not a test: what the process does, where it is told its descriptors.
#[test]
fn an_uplink_for_another_test() {
    let Ok(handed) = std::env::var(HANDED) else { return };
    let numbers: Vec<RawFd> = handed.split(',').map(|number| number.parse().unwrap()).collect();
    let descriptors: Vec<OwnedFd> = numbers.into_iter().map(|number| process::inherited(number).unwrap()).collect();
    let [host, control, rest @ ..] = &descriptors[..] else { panic!() };
    namespace::join(host.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
    let does = std::env::var(DOES).unwrap();
    if does == "measure" {
        let mut took: Vec<Duration> = (0..30).map(|_| time_to_serve(rest)).collect();
        took.sort();
        println!("fork to ready: median {:?}, most {:?}", took[took.len() / 2], took[took.len() - 1]);
        process::leave(0);
    }
    let child = match process::clone(Namespaces::empty(), None).unwrap() {
        Side::Child => run(rest, control, does),
        Side::Parent(child) => child,
    };
    drop(descriptors);
    process::leave(match waitpid(child.pid, None).unwrap() {
        WaitStatus::Exited(_, code) => code,
        WaitStatus::Signaled(_, signal, _) => 100 + signal as i32,
        other => panic!("{other:?}"),
    });
}

fn run(descriptors: &[OwnedFd], control: &OwnedFd, does: String) -> ! {
    let copy = |one: &OwnedFd| one.try_clone().unwrap();
    let two = |at: usize| descriptors[at..at + 2].iter().map(copy).collect::<Vec<_>>();
    let [rules, log, diag] = [0, 1, 2].map(|at| copy(&descriptors[at]));
    let sockets =
        Sockets { resolver_udp: two(3), resolver_tcp: two(5), relay: two(7), proxy: two(9), rules, log, diag };
    let confine = Some(Confinement { identity: Some(IDENTITY), keeps_rules: true });
    let control = control.try_clone().unwrap();
    let secrets = does.strip_prefix(GRANTED).map(|text| postcard::from_bytes(&STANDARD.decode(text).unwrap()).unwrap());
    let ended = serve(Start { confine, secrets, ..start(POLICY) }, sockets, control, |_| Ok(Box::new(Doing(does))));
    if let Err(error) = &ended {
        eprintln!("{error}");
    }
    process::leave(i32::from(ended.is_err()));
}

fn time_to_serve(descriptors: &[OwnedFd]) -> Duration {
    let (launcher, control) = Launcher::pair();
    let begin = Instant::now();
    let child = match process::clone(Namespaces::empty(), None).unwrap() {
        Side::Child => {
            drop(launcher);
            run(descriptors, &control, String::new());
        }
        Side::Parent(child) => child,
    };
    assert_eq!(launcher.report(), Report::Ready);
    let took = begin.elapsed();
    drop((launcher, control));
    waitpid(child.pid, None).unwrap();
    took
}

/// An uplink that has been granted what `does` says, where that begins with [`GRANTED`].
pub(crate) fn spawn(ground: &Ground, does: &str) -> (Launcher, Child) {
    let (launcher, control) = Launcher::pair();
    let Sockets { resolver_udp, resolver_tcp, relay, proxy, rules, log, diag } = sockets(&ground.sandbox);
    let all = [vec![ground.host.duplicate(), control, rules, log, diag], resolver_udp, resolver_tcp, relay, proxy];
    let all: Vec<OwnedFd> = all.into_iter().flatten().collect();
    for descriptor in &all {
        fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).unwrap();
    }
    let numbers: Vec<String> = all.iter().map(|descriptor| descriptor.as_raw_fd().to_string()).collect();
    let arguments = ["--exact", "confined::an_uplink_for_another_test", "--nocapture", "--test-threads=1"];
    let output = if does == "measure" { Stdio::inherit() } else { Stdio::null() };
    let mut command = Command::new(std::env::current_exe().unwrap());
    // In service it comes of a process that never had another thread. Here it is made in a thread, whose memory glibc
    // would shrink by another way, for which it reads a file.
    command.env("MALLOC_ARENA_MAX", "1");
    command.args(arguments).env(HANDED, numbers.join(",")).env(DOES, does).stdout(output);
    (launcher, command.spawn().unwrap())
}

/// The uplink itself.
pub(crate) fn uplink_of(parent: &Child) -> String {
    let threads = std::fs::read_dir(format!("/proc/{}/task", parent.id())).unwrap();
    let children = threads.map(|thread| std::fs::read_to_string(thread.unwrap().path().join("children")).unwrap());
    children.collect::<String>().trim().to_owned()
}

pub(crate) fn status(process: &str, field: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn everything_is_served_under_the_filter() {
    let ground = Ground::new();
    serve_all(ground.internet.listen("0.0.0.0:7"), echo);
    let server = NameServer::start(&ground);
    server.has("a.example", &[FIRST]);
    server.has("a.example", &[FIRST6]);
    server.says("long.example", RecordType::A, Reply::TooMuch(records("long.example", 60, &[FIRST])));
    server.says("silent.example", RecordType::A, Reply::Silence);
    let (launcher, mut child) = spawn(&ground, "");
    assert_eq!(launcher.report(), Report::Ready);
    // Names: over UDP, over TCP to the name server, none, and one that takes its time.
    for (name, count) in
        [("a.example", 1), ("long.example", 1), ("none.example", 0), ("silent.example", 0), ("b.test", 0)]
    {
        assert_eq!(ask(&ground, name, RecordType::A).answers.len(), count, "{name}");
    }
    assert_eq!(ask(&ground, "a.example", RecordType::AAAA).answers.len(), 1);
    // Connections: much, refused, reset, nobody there.
    let mut stream = ground.sandbox.connect(&format!("{FIRST}:7")).unwrap();
    let mut other = stream.try_clone().unwrap();
    let much = vec![5; 4 << 20];
    std::thread::scope(|scope| {
        scope.spawn(|| other.write_all(&much).unwrap());
        let mut back = vec![0; much.len()];
        stream.read_exact(&mut back).unwrap();
        assert!(back == much);
    });
    assert!(ground.sandbox.is_reset("8.8.8.8:7"));
    assert!(ground.sandbox.is_reset(&format!("{SECOND}:9")));
    // The proxy.
    let mut tunnel = ground.sandbox.connect("127.0.0.1:2").unwrap();
    tunnel.write_all(b"CONNECT a.example:7 HTTP/1.1\r\n\r\n").unwrap();
    let mut head = [0; 12];
    tunnel.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 200");
    let mut plain = ground.sandbox.connect("127.0.0.1:2").unwrap();
    plain.write_all(b"GET http://a.example/ HTTP/1.1\r\n\r\n").unwrap();
    plain.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 502");
    // The launcher.
    let denied = launcher.denied_in_words();
    assert_eq!(
        denied,
        [
            "dns b.test not_listed 1".to_owned(),
            "dns silent.example unreachable 1".to_owned(),
            format!("proxy a.example {FIRST} 80 unreachable 1"),
            format!("proxy a.example {FIRST6} 80 unreachable 1"),
            format!("tcp {SECOND} 9 unreachable 1"),
            "tcp 8.8.8.8 7 not_listed 1".to_owned(),
        ]
    );
    launcher.order(&Order::Assert);
    assert_eq!(launcher.held(), Ok(()));
    launcher.set(list(r#"{"allow": []}"#)).unwrap();
    assert!(is_reset(&stream));
    drop(launcher);
    assert!(child.wait().unwrap().success());
}

#[test]
fn it_has_nothing_but_its_sockets() {
    let ground = Ground::new();
    let (launcher, mut child) = spawn(&ground, "");
    assert_eq!(launcher.report(), Report::Ready);
    let (uid, gid) = IDENTITY;
    let uplink = uplink_of(&child);
    assert_eq!(status(&uplink, "Uid"), format!("{uid} {uid} {uid} {uid}"));
    assert_eq!(status(&uplink, "Gid"), format!("{gid} {gid} {gid} {gid}"));
    assert_eq!((status(&uplink, "Groups"), status(&uplink, "Threads")), (String::new(), "1".to_owned()));
    assert_eq!((status(&uplink, "NoNewPrivs"), status(&uplink, "Seccomp")), ("1".to_owned(), "2".to_owned()));
    for (set, expected) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000001000"),
        ("CapEff", "0000000000001000"),
        ("CapBnd", "0000000000001000"),
        ("CapAmb", "0000000000000000"),
    ] {
        assert_eq!(status(&uplink, set), expected, "{set}");
    }
    let of = |what: &str| std::fs::read_link(format!("/proc/{uplink}/{what}")).unwrap();
    assert_eq!(of("root").file_name().unwrap(), "fdinfo");
    assert_eq!(of("cwd").file_name().unwrap(), "fdinfo");
    let limits = std::fs::read_to_string(format!("/proc/{uplink}/limits")).unwrap();
    let limits: Vec<&str> =
        limits.lines().filter(|line| line.contains("core file") || line.contains("open files")).collect();
    assert!(limits[0].contains(" 0 ") && limits[1].contains(" 7168 "), "{limits:?}");
    // Not dumpable: what it is in /proc belongs to root.
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(format!("/proc/{uplink}/fd")).unwrap().uid(), 0);
    drop(launcher);
    assert!(child.wait().unwrap().success());
}

#[test]
fn whatever_else_it_does_kills_it() {
    let ground = Ground::new();
    for what in ["open", "exec", "thread", "fork", "signal", "unix", "raw"] {
        let (launcher, mut child) = spawn(&ground, what);
        assert_eq!(launcher.report(), Report::Ready, "{what}");
        launcher.order(&Order::Assert);
        assert_eq!(child.wait().unwrap().code(), Some(100 + nix::libc::SIGSYS), "{what}");
    }
    let (launcher, mut child) = spawn(&ground, "nothing");
    assert_eq!(launcher.report(), Report::Ready);
    launcher.order(&Order::Assert);
    assert_eq!(launcher.held(), Ok(()));
    drop(launcher);
    assert!(child.wait().unwrap().success());
}

#[test]
#[ignore = "measures; meant for an idle machine"]
fn time_from_fork_to_ready() {
    let ground = Ground::new();
    let (_launcher, mut child) = spawn(&ground, "measure");
    assert!(child.wait().unwrap().success());
}

#[test]
fn no_descriptor_is_left_after_many_connections() {
    let ground = Ground::new();
    serve_all(ground.internet.listen("0.0.0.0:7"), echo);
    let (launcher, mut child) = spawn(&ground, "");
    assert_eq!(launcher.report(), Report::Ready);
    let uplink = uplink_of(&child);
    let count = || std::fs::read_dir(format!("/proc/{uplink}/fd")).unwrap().count();
    let before = count();
    for round in 0..600 {
        let to = format!("{SECOND}:7");
        match round % 5 {
            0 => assert!(echoes(&ground.sandbox.connect(&to).unwrap(), b"peace")),
            1 => {
                let stream = ground.sandbox.connect(&to).unwrap();
                assert!(echoes(&stream, b"reset"));
                let at_once = nix::libc::linger { l_onoff: 1, l_linger: 0 };
                setsockopt(&stream, sockopt::Linger, &at_once).unwrap();
            }
            2 => drop(ground.sandbox.connect(&to)),
            3 => assert!(ground.sandbox.is_reset("8.8.8.8:1")),
            _ => {
                let mut stream = ground.sandbox.connect("127.0.0.1:2").unwrap();
                write!(stream, "CONNECT {to} HTTP/1.1\r\n\r\n").unwrap();
                stream.read_exact(&mut [0; 12]).unwrap();
            }
        }
    }
    until("as many descriptors as before", || count() == before);
    drop(launcher);
    assert!(child.wait().unwrap().success());
}
