//! An uplink under test, its launcher, and rules that only write down what they are told.

use std::collections::BTreeSet;
use std::net::{IpAddr, TcpListener, UdpSocket};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use codesandbox::job::{DenialReason, DeniedFlow, Protocol};
use codesandbox::network::uplink::{Doors, Learned, Refused, Start, UplinkError, serve};
use codesandbox::network::{Order, PROXY_PORT, RELAY_PORT, RESOLVER_PORT, Report, Sockets, order};
use codesandbox::profile::{AllowList, Network};
use codesandbox::sys::{namespace, socket};
use nix::sched::CloneFlags;
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

use crate::ground::{Ground, NAME_SERVER, Namespace, PATIENCE};

/// What the rules were told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    Install(AllowList, Vec<Learned>),
    Learn(IpAddr, BTreeSet<u16>, Duration),
    Holds,
}

/// Rules that write down what they are told, and refuse what they are given to refuse.
#[derive(Debug, Clone, Default)]
pub(crate) struct Recorded {
    pub(crate) told: Arc<Mutex<Vec<Told>>>,
    pub(crate) broken: Arc<Mutex<Option<String>>>,
    refuses: Arc<Mutex<(Vec<Refused>, Option<Waker>)>>,
}

impl Recorded {
    fn tell(&self, what: Told) -> Result<(), String> {
        self.told.lock().unwrap().push(what);
        self.broken.lock().unwrap().clone().map_or(Ok(()), Err)
    }

    /// The rules have refused these.
    pub(crate) fn refuse(&self, flows: Vec<Refused>) {
        let (refused, waker) = &mut *self.refuses.lock().unwrap();
        refused.extend(flows);
        waker.take().unwrap().wake();
    }

    pub(crate) fn learned(&self) -> Vec<(IpAddr, BTreeSet<u16>, Duration)> {
        let told = self.told.lock().unwrap();
        told.iter()
            .filter_map(|one| match one {
                Told::Learn(address, ports, lifetime) => Some((*address, ports.clone(), *lifetime)),
                _ => None,
            })
            .collect()
    }
}

impl Doors for Recorded {
    fn take_up(&mut self, policy: &AllowList) -> Result<(), String> {
        self.install(policy, &[])
    }

    fn install(&mut self, policy: &AllowList, kept: &[Learned]) -> Result<(), String> {
        self.tell(Told::Install(policy.clone(), kept.to_vec()))
    }

    fn learn(&mut self, address: IpAddr, ports: &BTreeSet<u16>, lifetime: Duration) -> Result<(), String> {
        self.tell(Told::Learn(address, ports.clone(), lifetime))
    }

    fn holds(&mut self) -> Result<(), String> {
        self.tell(Told::Holds)
    }

    fn poll_refused(&mut self, context: &mut Context<'_>) -> Poll<std::io::Result<Refused>> {
        let (refused, waker) = &mut *self.refuses.lock().unwrap();
        *waker = Some(context.waker().clone());
        refused.pop().map_or(Poll::Pending, |refused| Poll::Ready(Ok(refused)))
    }
}

/// The launcher's end of an uplink.
#[derive(Debug)]
pub(crate) struct Launcher {
    control: OwnedFd,
}

impl Launcher {
    /// Its end and the uplink's.
    pub(crate) fn pair() -> (Self, OwnedFd) {
        let (control, other) = socket::pair().unwrap();
        setsockopt(&control, sockopt::ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs().cast_signed(), 0)).unwrap();
        (Self { control }, other)
    }

    pub(crate) fn order(&self, order: &Order) {
        order::send(self.control.as_fd(), order).unwrap();
    }

    pub(crate) fn report(&self) -> Report {
        let mut buffer = vec![0; 64 << 10];
        let message = loop {
            match socket::receive(self.control.as_fd(), &mut buffer) {
                // The process was stopped and goes on; signal(7).
                Err(error) if error.errno == nix::errno::Errno::EINTR => {}
                received => break received.unwrap(),
            }
        };
        postcard::from_bytes(&buffer[..message.length]).unwrap()
    }

    /// What was refused up to now.
    pub(crate) fn denied(&self) -> Vec<DeniedFlow> {
        self.order(&Order::Flush);
        let mut all: Vec<DeniedFlow> = Vec::new();
        loop {
            match self.report() {
                Report::Denied(flows) => flows.into_iter().for_each(|flow| merge(&mut all, flow)),
                Report::Flushed => return all,
                other => panic!("{other:?}"),
            }
        }
    }

    /// As `(name, address, port, protocol, reason)`, without what is absent.
    pub(crate) fn denied_in_words(&self) -> Vec<String> {
        let mut words: Vec<_> = self.denied().iter().map(in_words).collect();
        words.sort();
        words
    }

    /// Another policy.
    pub(crate) fn set(&self, policy: AllowList) -> Result<(), String> {
        self.order(&Order::Policy(policy));
        self.held()
    }

    pub(crate) fn held(&self) -> Result<(), String> {
        loop {
            match self.report() {
                Report::Denied(_) => {}
                Report::Holds(held) => return held,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What came in two reports is one all the same.
fn merge(all: &mut Vec<DeniedFlow>, flow: DeniedFlow) {
    let same =
        |one: &&mut DeniedFlow| DeniedFlow { count: 0, ..(*one).clone() } == DeniedFlow { count: 0, ..flow.clone() };
    match all.iter_mut().find(same) {
        Some(one) => one.count += flow.count,
        None => all.push(flow),
    }
}

fn in_words(flow: &DeniedFlow) -> String {
    let DeniedFlow { name, address, port, protocol, reason, count } = flow;
    let protocol = match protocol {
        Protocol::Dns => "dns",
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
        Protocol::Icmp => "icmp",
        Protocol::Proxy => "proxy",
        Protocol::Other => "other",
    };
    let reason = match reason {
        DenialReason::NotListed => "not_listed",
        DenialReason::Private => "private",
        DenialReason::Port => "port",
        DenialReason::Bound => "bound",
        DenialReason::Unreachable => "unreachable",
        DenialReason::Certificate => "certificate",
        DenialReason::Misdirected => "misdirected",
    };
    let place = [name.clone(), address.map(|one| one.to_string()), port.map(|port| port.to_string())];
    let place: Vec<String> = place.into_iter().flatten().collect();
    format!("{protocol} {} {reason} {count}", place.join(" "))
}

/// An uplink that runs in a thread.
pub(crate) struct Uplink {
    pub(crate) launcher: Launcher,
    pub(crate) doors: Recorded,
    thread: JoinHandle<Result<(), UplinkError>>,
}

impl Uplink {
    pub(crate) fn start(ground: &Ground, policy: &str) -> Self {
        Self::begin(ground, start(policy))
    }

    pub(crate) fn begin(ground: &Ground, start: Start) -> Self {
        let (launcher, control) = Launcher::pair();
        let (doors, sockets, host) = (Recorded::default(), sockets(&ground.sandbox), ground.host.duplicate());
        let given = doors.clone();
        let thread = thread::spawn(move || {
            namespace::join(host.as_fd(), CloneFlags::CLONE_NEWNET).unwrap();
            serve(start, sockets, control, |_| Ok(Box::new(given)))
        });
        assert_eq!(launcher.report(), Report::Ready);
        Self { launcher, doors, thread }
    }

    /// Closes its control socket, as a launcher that ends it, and waits for its end.
    pub(crate) fn stop(self) {
        drop(self.launcher);
        self.thread.join().unwrap().unwrap();
    }
}

pub(crate) fn start(policy: &str) -> Start {
    Start { policy: list(policy), name_servers: vec![NAME_SERVER.parse().unwrap()], secrets: None, confine: None }
}

/// A policy as it is written in JSON.
pub(crate) fn list(text: &str) -> AllowList {
    match serde_json::from_str(text).unwrap() {
        Network::Allow(list) => *list,
        other => panic!("{other:?}"),
    }
}

/// What the launcher opens in a sandbox.
pub(crate) fn sockets(sandbox: &Namespace) -> Sockets {
    let both = |port: u16| [("127.0.0.1", port), ("::1", port)];
    let listen = |port| both(port).map(|at| OwnedFd::from(TcpListener::bind(at).unwrap())).into();
    let nothing = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    sandbox.run(|| Sockets {
        resolver_udp: both(RESOLVER_PORT).map(|at| OwnedFd::from(UdpSocket::bind(at).unwrap())).into(),
        resolver_tcp: listen(RESOLVER_PORT),
        relay: listen(RELAY_PORT),
        proxy: listen(PROXY_PORT),
        rules: nothing(),
        log: nothing(),
        diag: nothing(),
    })
}
