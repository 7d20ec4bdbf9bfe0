//! The rules of a networked sandbox, in network namespaces of the tests' own: what they let through and to whom,
//! what they refuse, and that they stay what they are.

#![cfg(feature = "nftables")]
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use codesandbox::job::{DenialReason, Protocol};
use codesandbox::network::firewall::{Firewall, FirewallError, Learned};
use codesandbox::network::log::LogSocket;
use codesandbox::network::namespace::{OWN_IPV4, OWN_IPV6, prepare};
use codesandbox::network::rules::{LEARNED, Ruleset};
use codesandbox::network::{RELAY_PORT, Sockets};
use codesandbox::profile::{AllowList, Network};
use codesandbox::sys;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, getsockopt, sendto, sockopt,
};
use serde_json::{Value, json};

/// Longer than anything here takes, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test in a network namespace of its own, which ends with it.
fn inside(test: impl FnOnce() + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: a network namespace of its own takes root");
        return;
    }
    let thread = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn policy(value: Value) -> AllowList {
    match serde_json::from_value(value).unwrap() {
        Network::Allow(list) => *list,
        other => panic!("{other:?}"),
    }
}

/// Ports 80 and 443 of a public network of each family.
fn public() -> AllowList {
    policy(json!({ "allow": [{ "cidr": "198.35.26.0/24" }, { "cidr": "2620:0:860::/46" }] }))
}

fn names() -> AllowList {
    policy(json!({ "allow": [{ "domain": "example.org" }] }))
}

fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    TcpStream::connect_timeout(&to, PATIENCE)
}

/// Whether a connection is refused. What is refused by silence is found out when the first packet was sent again.
fn is_refused(to: SocketAddr) -> bool {
    let before = sent_again();
    let error = connect(to).err().map(|error| error.kind());
    assert_eq!(sent_again(), before, "{to}: {error:?}");
    error == Some(ErrorKind::ConnectionRefused)
}

/// How many first packets of connections were sent again in this network namespace: `TCPSynRetrans` in
/// `/proc/net/netstat`, which has a line of names before that of the values.
fn sent_again() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/net/netstat").unwrap();
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap().split(' '), lines.next().unwrap().split(' '));
    names.zip(values).find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

/// Connects, and tells where the relay finds that the connection was going.
fn relayed(sockets: &Sockets, to: SocketAddr) -> Option<SocketAddr> {
    let _connection = connect(to).ok()?;
    let listener = &sockets.relay[usize::from(to.is_ipv6())];
    // It may come a moment after its client has it.
    poll(&mut [PollFd::new(listener.as_fd(), PollFlags::POLLIN)], PollTimeout::try_from(PATIENCE).unwrap()).unwrap();
    let accepted = sys::socket::accept(listener.as_fd()).unwrap();
    Some(if to.is_ipv4() {
        let found = getsockopt(&accepted, sockopt::OriginalDst).unwrap();
        let octets = found.sin_addr.s_addr.to_ne_bytes();
        SocketAddr::new(IpAddr::from(octets), u16::from_be(found.sin_port))
    } else {
        let found = getsockopt(&accepted, sockopt::Ip6tOriginalDst).unwrap();
        SocketAddr::new(IpAddr::from(found.sin6_addr.s6_addr), u16::from_be(found.sin6_port))
    })
}

fn nft(arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("nft").args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn counted(counter: &str) -> u64 {
    let text = nft(&["list", "counter", "inet", "codesandbox", counter]).unwrap();
    text.split_once("packets ").unwrap().1.split(' ').next().unwrap().parse().unwrap()
}

/// The next packet of the log to this address.
fn logged(log: &mut LogSocket, address: IpAddr) -> (Protocol, Option<u16>, DenialReason) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        let mut waiting = [PollFd::new(log.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::from(1000u16)).unwrap();
        match log.read() {
            Ok(flows) => {
                if let Some(flow) = flows.into_iter().map(|one| one.flow).find(|flow| flow.address == Some(address)) {
                    return (flow.protocol, flow.port, flow.reason);
                }
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    panic!("nothing was logged about {address}");
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_listed_address_reaches_the_relay_which_finds_where_to() {
    inside(|| {
        let sockets = prepare(&public()).unwrap();
        for to in [at("198.35.26.96", 443), at("198.35.26.1", 80), at("2620:0:861::1", 443)] {
            assert_eq!(relayed(&sockets, to), Some(to));
        }
        assert_eq!(counted("allowed"), 3);
        let connection = connect(at("198.35.26.96", 443)).unwrap();
        assert_eq!(connection.local_addr().unwrap().ip(), IpAddr::from(OWN_IPV4));
        let connection = connect(at("2620:0:861::1", 443)).unwrap();
        assert_eq!(connection.local_addr().unwrap().ip(), IpAddr::from(OWN_IPV6));
    });
}

#[test]
fn what_is_not_listed_is_refused_at_once_and_counted_and_logged() {
    inside(|| {
        let sockets = prepare(&public()).unwrap();
        let mut log = LogSocket::adopt(sockets.log);
        let cases = [
            (at("1.1.1.1", 443), "not_listed", DenialReason::NotListed),
            (at("2606:4700::1111", 443), "not_listed", DenialReason::NotListed),
            (at("198.35.26.96", 22), "wrong_port", DenialReason::Port),
            (at("2620:0:861::1", 22), "wrong_port", DenialReason::Port),
            (at("10.0.0.1", 443), "private", DenialReason::Private),
            (at("fd00::1", 443), "private", DenialReason::Private),
        ];
        for (to, counter, reason) in cases {
            let before = counted(counter);
            assert!(is_refused(to), "{to}");
            assert_eq!(counted(counter), before + 1, "{to}");
            assert_eq!(logged(&mut log, to.ip()), (Protocol::Tcp, Some(to.port()), reason), "{to}");
        }
        assert!(connect(at("198.35.26.96", 443)).is_ok());
        assert_eq!(log.lost(), 0);
    });
}

/// As on a host whose unit drops what seems to come from an address that is never reached, resets too.
#[test]
fn a_refused_connection_ends_where_its_reset_is_swallowed() {
    inside(|| {
        let mut sockets = prepare(&public()).unwrap();
        nft(&["add table inet deaf"]).unwrap();
        nft(&["add chain inet deaf input { type filter hook input priority -300; }"]).unwrap();
        nft(&["add rule inet deaf input tcp flags & rst == rst drop"]).unwrap();
        let places = [at("10.0.0.1", 443), at("fd00::1", 443), at("::ffff:10.0.0.1", 443)];
        let before = sent_again();
        for to in places {
            // The control: nobody ends it.
            let waited = TcpStream::connect_timeout(&to, Duration::from_millis(1500)).unwrap_err();
            assert!(sent_again() > before, "{to}: {waited}");
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (told, hearing) = std::sync::mpsc::channel();
        let network = fs::File::open("/proc/thread-self/ns/net").unwrap();
        let connecting = thread::spawn(move || {
            sys::namespace::join(network.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            let refused = places.map(|to| (to, connect(to).err().map(|error| error.kind())));
            told.send((refused, sent_again())).unwrap();
        });
        let again = sent_again();
        let ended = runtime.block_on(async {
            let nobody = || fs::File::open("/dev/null").unwrap().into();
            let (log, diag) =
                (std::mem::replace(&mut sockets.log, nobody()), std::mem::replace(&mut sockets.diag, nobody()));
            let rules = std::mem::replace(&mut sockets.rules, nobody());
            let mut doors = codesandbox::network::doors::open([rules, log, diag]).unwrap();
            while !connecting.is_finished() {
                let refused = std::future::poll_fn(|context| doors.poll_refused(context));
                tokio::time::timeout(Duration::from_millis(100), refused).await.ok();
            }
            hearing.recv().unwrap()
        });
        let (refused, after) = ended;
        for (to, kind) in refused {
            assert_eq!(kind, Some(ErrorKind::ConnectionAborted), "{to}");
        }
        assert_eq!(after, again, "a first packet was sent again before its connection was ended");
    });
}

/// The control: silence would be noticed.
#[test]
fn what_is_dropped_is_not_refused_at_once() {
    inside(|| {
        let _sockets = prepare(&public()).unwrap();
        nft(&["add table ip silence"]).unwrap();
        nft(&["add chain ip silence output { type filter hook output priority -300; }"]).unwrap();
        nft(&["add rule ip silence output ip daddr 1.1.1.1 drop"]).unwrap();
        let before = sent_again();
        let error = TcpStream::connect_timeout(&at("1.1.1.1", 443), Duration::from_secs(3)).unwrap_err();
        assert!(error.kind() != ErrorKind::ConnectionRefused && sent_again() > before, "{error}");
    });
}

#[test]
fn udp_and_icmp_are_refused_though_the_address_is_listed() {
    inside(|| {
        let sockets = prepare(&public()).unwrap();
        let mut log = LogSocket::adopt(sockets.log);
        for (own, to) in [("0.0.0.0", at("198.35.26.96", 443)), ("::", at("2620:0:861::1", 443))] {
            let socket = UdpSocket::bind((own, 0)).unwrap();
            let error = socket.connect(to).and_then(|()| socket.send(b"quic")).err().map(|error| error.kind());
            assert_eq!(error, Some(ErrorKind::PermissionDenied), "{to}");
            assert_eq!(logged(&mut log, to.ip()), (Protocol::Udp, Some(443), DenialReason::NotListed));
        }
        let echo = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
        let flags = SockFlag::SOCK_CLOEXEC;
        let raw = nix::sys::socket::socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp).unwrap();
        let ping = |to| sendto(raw.as_raw_fd(), &echo, &SockaddrIn::from(to), MsgFlags::empty());
        assert!(ping("198.35.26.96:0".parse::<std::net::SocketAddrV4>().unwrap()).is_err());
        let listed = "198.35.26.96".parse().unwrap();
        assert_eq!(logged(&mut log, listed), (Protocol::Icmp, None, DenialReason::NotListed));
        // To itself, it may say anything.
        ping("127.0.0.1:0".parse().unwrap()).unwrap();
        let here = UdpSocket::bind("127.0.0.1:0").unwrap();
        here.send_to(b"hello", here.local_addr().unwrap()).unwrap();
        assert_eq!(here.recv(&mut [0; 8]).unwrap(), 5);
        let listener = TcpListener::bind("[::1]:0").unwrap();
        connect(listener.local_addr().unwrap()).unwrap();
    });
}

#[test]
fn private_addresses_are_refused_though_a_listed_network_holds_them() {
    let everything = json!([{ "cidr": "0.0.0.0/0" }, { "cidr": "::/0" }]);
    let private = [
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "192.0.2.2",
        "192.0.2.3",
        "255.255.255.254",
        "fd00:ec2::254",
        "fe80::1",
        "2001:db8::2",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
    ];
    let policy_of = |private: Value| policy(json!({ "allow": everything.clone(), "allow_private": private }));
    let (closed, open) = (policy_of(json!([])), policy_of(json!(["10.1.0.0/16", "fd00:ec2::/32"])));
    inside(move || {
        let sockets = prepare(&closed).unwrap();
        for address in private {
            // A link-local address needs a device besides, which a program can't name without one.
            if address != "fe80::1" {
                assert!(is_refused(at(address, 80)), "{address}");
            }
        }
        for to in [at("1.1.1.1", 80), at("2606:4700::1111", 80)] {
            assert_eq!(relayed(&sockets, to), Some(to));
        }
        // An IPv4 address in disguise is one for the rules too.
        assert!(is_refused(at("::ffff:10.1.2.3", 80)));
        let mut firewall = Firewall::adopt(sockets.rules, &closed).unwrap();
        firewall.install(&open, &[]).unwrap();
        for to in [at("10.1.2.3", 80), at("fd00:ec2::254", 80)] {
            assert!(connect(to).is_ok(), "{to}");
        }
        assert!(is_refused(at("10.2.2.3", 80)) && is_refused(at("169.254.169.254", 80)));
    });
}

#[test]
fn nobody_connects_to_the_relay_directly() {
    inside(|| {
        let _sockets = prepare(&public()).unwrap();
        for address in ["127.0.0.1", "127.5.5.5", "::1"] {
            assert!(is_refused(at(address, RELAY_PORT)), "{address}");
        }
        assert_eq!(counted("private"), 3);
        connect(at("127.0.0.1", 2)).unwrap();
        connect(at("::1", 53)).unwrap();
    });
}

#[test]
fn an_empty_list_lets_nothing_through() {
    inside(|| {
        let sockets = prepare(&AllowList::default()).unwrap();
        for to in [at("1.1.1.1", 443), at("2606:4700::1111", 80), at("10.0.0.1", 80)] {
            assert!(is_refused(to), "{to}");
        }
        assert_eq!(counted("allowed"), 0);
        let mut firewall = Firewall::adopt(sockets.rules, &AllowList::default()).unwrap();
        firewall.learn("1.1.1.1".parse().unwrap(), &[80, 443].into(), PATIENCE).unwrap();
        assert!(is_refused(at("1.1.1.1", 443)));
        firewall.holds().unwrap();
    });
}

#[test]
fn a_learned_address_is_reached_until_it_expires() {
    inside(|| {
        let sockets = prepare(&names()).unwrap();
        let log = &mut LogSocket::adopt(sockets.log.try_clone().unwrap());
        let mut firewall = Firewall::adopt(sockets.rules.try_clone().unwrap(), &names()).unwrap();
        let ports = BTreeSet::from([80, 443]);
        for to in [at("198.35.26.96", 443), at("2620:0:861::1", 443)] {
            assert!(is_refused(to));
            firewall.learn(to.ip(), &ports, Duration::from_secs(3)).unwrap();
            assert_eq!(relayed(&sockets, to), Some(to));
            assert!(is_refused(SocketAddr::new(to.ip(), 22)));
            until("it expires", || {
                // Else the queue of the listener fills up, and what is beyond waits.
                while sys::socket::accept(sockets.relay[usize::from(to.is_ipv6())].as_fd()).is_ok() {}
                is_refused(to)
            });
        }
        let kept: IpAddr = "198.35.26.97".parse().unwrap();
        for lifetime in [2, 3600, 600] {
            firewall.learn(kept, &ports, Duration::from_secs(lifetime)).unwrap();
            let learned = firewall.learned().unwrap();
            let one = learned.iter().find(|one| one.address == kept).unwrap();
            assert_eq!(one.ports, ports);
            assert!(one.remaining.as_secs() <= lifetime && one.remaining.as_secs() + 2 >= lifetime, "{one:?}");
        }
        // Only where all ports of a group are asked for.
        firewall.learn("198.35.26.98".parse().unwrap(), &[443].into(), PATIENCE).unwrap();
        assert!(is_refused(at("198.35.26.98", 443)));
        firewall.holds().unwrap();
        assert_eq!(log.lost(), 0);
    });
}

#[test]
fn as_many_addresses_are_learned_as_fit() {
    inside(|| {
        let sockets = prepare(&names()).unwrap();
        let mut firewall = Firewall::adopt(sockets.rules, &names()).unwrap();
        let ports = BTreeSet::from([80, 443]);
        let address = |number: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0900_0000 + number));
        for number in 0..LEARNED {
            firewall.learn(address(number), &ports, PATIENCE * 100).unwrap();
        }
        let further = firewall.learn(address(LEARNED), &ports, PATIENCE);
        assert!(matches!(further, Err(FirewallError::Full)), "{further:?}");
        // Those that are known stay so, and can be made new.
        firewall.learn(address(7), &ports, PATIENCE).unwrap();
        let learned = firewall.learned().unwrap();
        assert_eq!(learned.len(), usize::try_from(LEARNED).unwrap());
        firewall.install(&names(), &learned).unwrap();
        assert_eq!(firewall.learned().unwrap().len(), learned.len());
        assert!(connect(SocketAddr::new(address(4000), 443)).is_ok());
    });
}

#[test]
fn a_replacement_has_no_moment_between() {
    inside(|| {
        let sockets = prepare(&public()).unwrap();
        let other = policy(json!({ "allow": [{ "cidr": "198.35.26.0/24" }, { "domain": "a.org", "ports": [22] }] }));
        let mut firewall = Firewall::adopt(sockets.rules.try_clone().unwrap(), &public()).unwrap();
        let is_over = AtomicBool::new(false);
        let relay = TcpListener::from(sockets.relay[0].try_clone().unwrap());
        thread::scope(|scope| {
            // Threads of this one, and so in its namespace.
            let looping = scope.spawn(|| {
                let (mut rounds, mut reached) = (0, 0);
                while !is_over.load(Ordering::Relaxed) {
                    assert!(is_refused(at("1.1.1.1", 443)) && is_refused(at("10.0.0.1", 443)));
                    // For an instant the kernel has the new rules and not yet all of their ranges: what is listed
                    // can be refused then, and nothing more is ever let through.
                    if !is_refused(at("198.35.26.96", 443)) {
                        reached += 1;
                    }
                    while relay.accept().is_ok() {}
                    rounds += 1;
                }
                (rounds, reached)
            });
            for _ in 0..100 {
                firewall.install(&other, &[]).unwrap();
                firewall.install(&public(), &[]).unwrap();
            }
            is_over.store(true, Ordering::Relaxed);
            let (rounds, reached) = looping.join().unwrap();
            assert!(reached > 10 && reached * 10 > rounds * 9, "{reached} of {rounds}");
        });
        firewall.holds().unwrap();
    });
}

#[test]
fn a_replacement_keeps_what_is_still_allowed() {
    inside(|| {
        let sockets = prepare(&names()).unwrap();
        let mut firewall = Firewall::adopt(sockets.rules, &names()).unwrap();
        let (kept, gone): (IpAddr, IpAddr) = ("198.35.26.96".parse().unwrap(), "198.35.26.97".parse().unwrap());
        for address in [kept, gone] {
            firewall.learn(address, &[80, 443].into(), PATIENCE * 10).unwrap();
        }
        let wider = policy(json!({ "allow": [{ "domain": "example.org", "ports": [80] }, { "suffix": ".org" }] }));
        let all = firewall.learned().unwrap();
        let still: Vec<Learned> = all.into_iter().filter(|one| one.address == kept).collect();
        firewall.install(&wider, &still).unwrap();
        let now = firewall.learned().unwrap();
        assert_eq!(now.len(), 1);
        assert_eq!(now[0].ports, [80, 443].into());
        assert!(now[0].remaining <= still[0].remaining);
        assert!(connect(SocketAddr::new(kept, 443)).is_ok() && is_refused(SocketAddr::new(gone, 443)));
    });
}

#[test]
fn rules_that_were_tampered_with_do_not_hold() {
    let tampered = [
        "insert rule inet codesandbox output accept",
        "add rule inet codesandbox listed accept",
        "flush chain inet codesandbox output",
        "flush chain inet codesandbox not_listed",
        "flush chain inet codesandbox to_relay",
        "delete set inet codesandbox spare",
        "add element inet codesandbox ports_0 { 22 }",
        "add table ip other",
        "add chain inet codesandbox more { type filter hook output priority -300; policy accept; }",
        "add chain inet codesandbox output { policy accept; }",
        "add table inet codesandbox { flags dormant; }",
        "delete table inet codesandbox",
    ];
    inside(move || {
        let mixed = policy(json!({ "allow": [{ "cidr": "198.35.26.0/24" }, { "domain": "example.org" }] }));
        let sockets = prepare(&mixed).unwrap();
        let mut firewall = Firewall::adopt(sockets.rules, &mixed).unwrap();
        firewall.holds().unwrap();
        for command in tampered {
            // What the kernel refuses to root needs no finding.
            if nft(&[command]).is_err() {
                firewall.holds().unwrap();
                continue;
            }
            let error = firewall.holds().unwrap_err();
            assert!(matches!(error, FirewallError::Differ(_) | FirewallError::Refused(_)), "{command}: {error}");
            nft(&["flush", "ruleset"]).unwrap();
            firewall.install(&mixed, &[]).unwrap_or_else(|error| panic!("{command}: {error}"));
        }
        // What is learned is no tampering.
        firewall.learn("9.9.9.9".parse().unwrap(), &[80, 443].into(), PATIENCE).unwrap();
        firewall.holds().unwrap();
        let other = Firewall::open().unwrap().holds();
        assert!(other.is_err());
    });
}

#[test]
fn who_has_no_capability_neither_sees_nor_changes_the_rules() {
    inside(|| {
        let sockets = prepare(&names()).unwrap();
        let drop =
            ["--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "nft"];
        let commands = [
            vec!["list", "ruleset"],
            vec!["flush", "ruleset"],
            vec!["insert", "rule", "inet", "codesandbox", "output", "accept"],
            vec!["add", "element", "inet", "codesandbox", "learned4_0", "{ 1.1.1.1 }"],
        ];
        for command in commands {
            let output = Command::new("setpriv").args(drop).args(&command).output().unwrap();
            let error = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success() && error.contains("not permitted"), "{command:?}: {error}");
        }
        let mut firewall = Firewall::adopt(sockets.rules, &names()).unwrap();
        firewall.holds().unwrap();
        // With it, all of that can be done.
        nft(&["add", "element", "inet", "codesandbox", "learned4_0", "{ 1.1.1.1 }"]).unwrap();
        nft(&["insert", "rule", "inet", "codesandbox", "output", "accept"]).unwrap();
        nft(&["list", "ruleset"]).unwrap();
        nft(&["flush", "ruleset"]).unwrap();
    });
}

/// With UPDATE_RULES=1 in the environment the files are written anew.
#[test]
fn the_messages_say_what_the_text_says() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/network/golden");
    let mut count = 0;
    for file in fs::read_dir(directory).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        count += 1;
        let policy = policy(serde_json::from_slice(&fs::read(&path).unwrap()).unwrap());
        let golden = path.with_extension("nft").to_str().unwrap().to_owned();
        let rules = Ruleset::of(&policy).to_string();
        if std::env::var_os("UPDATE_RULES").is_some() {
            fs::write(&golden, &rules).unwrap();
        }
        assert_eq!(rules, fs::read_to_string(&golden).unwrap(), "{golden}");
        inside(move || {
            nft(&["-c", "-f", &golden]).unwrap();
            nft(&["-f", &golden]).unwrap();
            let from_text = nft(&["list", "table", "inet", "codesandbox"]).unwrap();
            nft(&["flush", "ruleset"]).unwrap();
            Firewall::open().unwrap().install(&policy, &[]).unwrap();
            assert_eq!(nft(&["list", "table", "inet", "codesandbox"]).unwrap(), from_text, "{golden}");
        });
    }
    assert!(count >= 5);
}

#[test]
fn rules_that_the_kernel_refuses_are_none_and_nothing_is_up() {
    inside(|| {
        // Who has been here before has taken a name for something else.
        nft(&["add", "table", "inet", "codesandbox"]).unwrap();
        nft(&["add", "chain", "inet", "codesandbox", "output", "{ type filter hook input priority 0; }"]).unwrap();
        let before = nft(&["list", "ruleset"]).unwrap();
        let error = prepare(&public()).unwrap_err().to_string();
        assert!(error.contains("the kernel refused the rules"), "{error}");
        assert_eq!(nft(&["list", "ruleset"]).unwrap(), before);
        assert_eq!(connect(at("127.0.0.1", 1)).unwrap_err().kind(), ErrorKind::NetworkUnreachable);
        nft(&["delete", "table", "inet", "codesandbox"]).unwrap();
        prepare(&public()).unwrap();
    });
}

#[test]
fn the_largest_list_is_installed() {
    inside(|| {
        let spread = |number: u32| {
            let net = Ipv4Addr::from_bits(0x0100_0000 + number * 0x1_0000 + 1);
            json!({ "cidr": format!("{net}/32"), "ports": [number % 32 + 1] })
        };
        let spread6 = |number: u32| json!({ "cidr": format!("2600:{number:x}::/32"), "ports": [number % 32 + 1] });
        let allow: Vec<Value> = (0..2048).map(spread).chain((0..2048).map(spread6)).collect();
        let large = policy(json!({ "allow": allow }));
        let sockets = prepare(&large).unwrap();
        let mut firewall = Firewall::adopt(sockets.rules.try_clone().unwrap(), &large).unwrap();
        firewall.install(&large, &[]).unwrap();
        let to = at("1.3.0.1", 3);
        assert_eq!(relayed(&sockets, to), None);
        let to = at("1.2.0.1", 3);
        assert_eq!(relayed(&sockets, to), Some(to));
    });
}

#[test]
fn without_ipv6_there_is_ipv4() {
    inside(|| {
        for place in ["all", "default", "lo"] {
            fs::write(format!("/proc/sys/net/ipv6/conf/{place}/disable_ipv6"), "1").unwrap();
        }
        let sockets = prepare(&public()).unwrap();
        let counts = [&sockets.resolver_udp, &sockets.resolver_tcp, &sockets.relay, &sockets.proxy].map(Vec::len);
        assert_eq!(counts, [1; 4]);
        let to = at("198.35.26.96", 443);
        assert_eq!(relayed(&sockets, to), Some(to));
        assert!(connect(at("2620:0:861::1", 443)).is_err());
    });
    inside(|| {
        let sockets = prepare(&public()).unwrap();
        let counts = [&sockets.resolver_udp, &sockets.resolver_tcp, &sockets.relay, &sockets.proxy].map(Vec::len);
        assert_eq!(counts, [2; 4]);
    });
}

#[test]
fn a_namespace_is_ready_in_no_time() {
    inside(|| {
        let mut times = [(); 3].map(|()| Vec::new());
        for _ in 0..20 {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            let begun = Instant::now();
            let sockets = prepare(&public()).unwrap();
            times[0].push(begun.elapsed());
            // What the uplink does about it; and what it would do if it made all of it anew.
            let mut firewall = Firewall::adopt(sockets.rules, &AllowList::default()).unwrap();
            let begun = Instant::now();
            firewall.take_up(&public()).unwrap();
            times[1].push(begun.elapsed());
            let begun = Instant::now();
            firewall.install(&public(), &[]).unwrap();
            times[2].push(begun.elapsed());
        }
        let [prepared, taken_up, installed] = times.map(|mut times| {
            times.sort();
            times[10]
        });
        eprintln!("medians: prepared in {prepared:?}, taken up in {taken_up:?}, installed anew in {installed:?}");
        // Forty times what it takes on a machine at rest.
        assert!(prepared < Duration::from_millis(200), "{prepared:?}");
    });
}

#[test]
fn an_own_address_of_each_family_is_there() {
    inside(|| {
        let _sockets = prepare(&AllowList::default()).unwrap();
        for address in [IpAddr::from(OWN_IPV4), IpAddr::from(OWN_IPV6), Ipv6Addr::LOCALHOST.into()] {
            TcpListener::bind((address, 0)).unwrap();
        }
        // A route that takes everything in makes no other address its own.
        for address in ["198.35.26.96", "2620:0:861::1"] {
            assert!(TcpListener::bind((address.parse::<IpAddr>().unwrap(), 0)).is_err());
        }
    });
}
