//! The launcher's loop: connections, sandboxes, timers, all in one thread.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno as Number;
use nix::sched::CloneFlags;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::Tree;
use super::ids::Slots;
use super::netns;
use super::privilege::{Settled, Texts};
use super::protocol::{MESSAGE_BYTES, Reply, Request, VERSION};
use super::sandbox::{BACKLOG, Parts, Phase, Sandbox, Work};
use super::{During, LauncherError, view};
use crate::config::Config;
use crate::jail::filter::Filter;
use crate::jail::init::{self, Command, Report};
use crate::jail::template;
use crate::job::EnforcedBy;
use crate::plan::{Identity, Jail, PROGRAM_ID};
use crate::profile::{FILTERS, Network, Profile};
use crate::runtime::Catalogue;
use crate::sys::{Call, Errno, namespace, process, socket};

/// Largest file of texts that the launcher hands to itself.
const TEXTS_BYTES: usize = 64 << 20;
/// Most answers that wait for a client that does not read them.
const OUTBOX: usize = 4096;
/// Most events that are taken at once.
const EVENTS: usize = 64;

/// Runs the launcher inside its namespaces until it is told to stop.
pub(super) fn run(settled: &str) -> Result<(), LauncherError> {
    let settled: Settled = serde_json::from_str(settled).map_err(|_| LauncherError::Settled)?;
    let texts = process::inherited(settled.texts).during("read the configuration")?;
    let texts = crate::sys::fs::read_whole(texts.as_fd(), TEXTS_BYTES).during("read the configuration")?;
    let texts: Texts = postcard::from_bytes(&texts).map_err(|_| LauncherError::Settled)?;
    let socket = process::inherited(settled.socket).during("take the socket")?;
    let mut server = Server::new(&settled, &texts)?;
    if settled.listening {
        server.listen(socket)?;
    } else {
        server.only_client = true;
        server.connect(socket).during("serve the client")?;
    }
    server.serve()
}

/// What an event is about; the low bits of its token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Listener,
    Signal,
    Connection,
    Control,
    Init,
    Program,
}

impl About {
    const ALL: [Self; 6] = [Self::Listener, Self::Signal, Self::Connection, Self::Control, Self::Init, Self::Program];

    /// A token names what it is about and a serial number, which is never used again, so that an
    /// event for what has gone meanwhile finds nothing.
    fn token(self, serial: u64) -> u64 {
        serial << 3 | self as u64
    }

    fn of(token: u64) -> Option<(Self, u64)> {
        let about = Self::ALL.into_iter().find(|about| *about as u64 == token & 7)?;
        Some((about, token >> 3))
    }
}

struct Connection {
    socket: OwnedFd,
    outbox: VecDeque<Vec<u8>>,
}

struct Server {
    config: Config,
    profiles: HashMap<String, Arc<Profile>>,
    catalogue: Catalogue,
    filters: HashMap<(String, bool), Arc<Filter>>,
    /// Mount namespaces of runtimes; emptied when the list of runtimes in them changes.
    templates: HashMap<String, OwnedFd>,
    networks: netns::Pool,
    slots: Slots,
    tree: Option<Tree>,
    home_mounts: OwnedFd,
    home_pids: OwnedFd,
    epoll: Epoll,
    signals: SignalFd,
    listener: Option<OwnedFd>,
    only_client: bool,
    connections: HashMap<u64, Connection>,
    sandboxes: HashMap<u64, Sandbox>,
    leases: HashMap<(u64, u64), u64>,
    timers: BTreeSet<(Instant, u64)>,
    serial: u64,
    stopping: bool,
}

impl Server {
    fn new(settled: &Settled, texts: &Texts) -> Result<Self, LauncherError> {
        let config = Config::parse(&texts.config)?;
        let catalogue = config.catalogue(texts.manifest.as_deref(), &|path| path.exists())?;
        let mut filters = HashMap::new();
        for (name, text) in FILTERS {
            for loopback in [false, true] {
                filters.insert(((*name).to_owned(), loopback), Arc::new(Filter::build(text, loopback)?));
            }
        }
        let mut blocked = SigSet::empty();
        blocked.add(Signal::SIGTERM);
        blocked.add(Signal::SIGINT);
        sigprocmask(SigmaskHow::SIG_BLOCK, Some(&blocked), None).call("sigprocmask").during("block signals")?;
        process::ignore(Signal::SIGPIPE).during("ignore SIGPIPE")?;
        let signals = SignalFd::with_flags(&blocked, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .call("signalfd")
            .during("take signals")?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).call("epoll_create1").during("wait for events")?;
        epoll
            .add(&signals, EpollEvent::new(EpollFlags::EPOLLIN, About::Signal.token(0)))
            .call("epoll_ctl")
            .during("wait for signals")?;
        let open = |path: &str| File::open(path).map(OwnedFd::from).call("open").during("find its own namespaces");
        Ok(Self {
            profiles: config.profiles.iter().map(|(name, profile)| (name.clone(), Arc::new(profile.clone()))).collect(),
            slots: Slots::new(config.launcher.sandboxes, settled.own_ids),
            tree: settled.cgroup.clone().map(Tree::new),
            config,
            catalogue,
            filters,
            templates: HashMap::new(),
            networks: netns::Pool::default(),
            home_mounts: open("/proc/self/ns/mnt")?,
            home_pids: open("/proc/self/ns/pid")?,
            epoll,
            signals,
            listener: None,
            only_client: false,
            connections: HashMap::new(),
            sandboxes: HashMap::new(),
            leases: HashMap::new(),
            timers: BTreeSet::new(),
            serial: 0,
            stopping: false,
        })
    }

    fn listen(&mut self, socket: OwnedFd) -> Result<(), LauncherError> {
        socket::set_nonblocking(socket.as_fd()).during("listen")?;
        self.watch(socket.as_fd(), About::Listener, 0).during("listen")?;
        self.listener = Some(socket);
        Ok(())
    }

    fn watch(&self, fd: BorrowedFd<'_>, about: About, serial: u64) -> Result<(), Errno> {
        self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, about.token(serial))).call("epoll_ctl")
    }

    fn enforced_by(&self) -> EnforcedBy {
        if self.tree.is_some() { EnforcedBy::Cgroup2 } else { EnforcedBy::Rlimit }
    }

    fn serve(&mut self) -> Result<(), LauncherError> {
        let mut events = [EpollEvent::empty(); EVENTS];
        while !(self.stopping && self.sandboxes.is_empty()) {
            let timeout = match self.timers.first() {
                Some((due, _)) => {
                    // Rounded up: the kernel counts in milliseconds, and must not spin on the rest of one.
                    let left = due.saturating_duration_since(Instant::now()).as_micros().div_ceil(1000);
                    EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
                }
                None => EpollTimeout::NONE,
            };
            let count = match self.epoll.wait(&mut events, timeout) {
                Ok(count) => count,
                Err(Number::EINTR) => 0,
                Err(errno) => return Err(errno).call("epoll_wait").during("wait for events"),
            };
            for event in events.iter().take(count) {
                if let Some((about, serial)) = About::of(event.data()) {
                    self.handle(about, serial, event.events());
                }
            }
            self.handle_timers();
        }
        if let Some(tree) = &mut self.tree {
            tree.clear();
        }
        Ok(())
    }

    fn handle(&mut self, about: About, serial: u64, events: EpollFlags) {
        match about {
            About::Listener => self.accept(),
            About::Signal => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.stop();
            }
            About::Connection => {
                if events.contains(EpollFlags::EPOLLOUT) {
                    self.flush(serial);
                }
                self.hear(serial);
            }
            About::Control => self.report(serial),
            About::Init => self.init_ended(serial),
            About::Program => self.change(serial, |sandbox| sandbox.program_ended().map_err(|errno| errno.to_string())),
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.listener = None;
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            self.disconnect(connection);
        }
    }

    fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        match socket::accept(listener.as_fd()) {
            Ok(socket) => {
                if let Err(error) = self.connect(socket) {
                    eprintln!("codesandbox-launcher: a connection could not be served: {error}");
                }
            }
            Err(Errno { errno: Number::EAGAIN | Number::ECONNABORTED | Number::EINTR, .. }) => {}
            Err(error) => eprintln!("codesandbox-launcher: {error}"),
        }
    }

    fn connect(&mut self, socket: OwnedFd) -> Result<(), Errno> {
        socket::set_nonblocking(socket.as_fd())?;
        self.serial += 1;
        let serial = self.serial;
        self.watch(socket.as_fd(), About::Connection, serial)?;
        self.connections.insert(serial, Connection { socket, outbox: VecDeque::new() });
        self.reply(serial, &Reply::Welcome { version: VERSION, enforced_by: self.enforced_by() });
        Ok(())
    }

    /// A client is gone: so is everything that it had.
    fn disconnect(&mut self, connection: u64) {
        if self.connections.remove(&connection).is_none() {
            return;
        }
        let theirs: Vec<u64> =
            self.leases.iter().filter(|((owner, _), _)| *owner == connection).map(|(_, serial)| *serial).collect();
        for serial in theirs {
            self.destroy(serial, None);
        }
        self.stopping |= self.only_client;
    }

    fn reply(&mut self, connection: u64, reply: &Reply) {
        let Some(client) = self.connections.get_mut(&connection) else {
            return;
        };
        let Ok(bytes) = postcard::to_allocvec(reply) else {
            return;
        };
        client.outbox.push_back(bytes);
        self.flush(connection);
    }

    /// Sends what waits, as far as the client takes it.
    fn flush(&mut self, connection: u64) {
        let Some(client) = self.connections.get_mut(&connection) else {
            return;
        };
        while let Some(bytes) = client.outbox.front() {
            match socket::send(client.socket.as_fd(), bytes, &[]) {
                Ok(()) => drop(client.outbox.pop_front()),
                Err(Errno { errno: Number::EAGAIN, .. }) if client.outbox.len() < OUTBOX => break,
                Err(_) => return self.disconnect(connection),
            }
        }
        let wanted =
            if client.outbox.is_empty() { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(wanted, About::Connection.token(connection));
        if self.epoll.modify(&client.socket, &mut event).is_err() {
            self.disconnect(connection);
        }
    }

    /// Takes all requests that a client has sent.
    fn hear(&mut self, connection: u64) {
        let mut buffer = [0; MESSAGE_BYTES];
        while let Some(client) = self.connections.get(&connection) {
            let message = match socket::receive(client.socket.as_fd(), &mut buffer) {
                Ok(message) if message.length > 0 => message,
                Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return,
                Ok(_) | Err(_) => return self.disconnect(connection),
            };
            match postcard::from_bytes(buffer.get(..message.length).unwrap_or_default()) {
                Ok(request) => self.obey(connection, request, message.descriptors),
                Err(_) => return self.disconnect(connection),
            }
        }
    }

    fn obey(&mut self, connection: u64, request: Request, descriptors: Vec<OwnedFd>) {
        let mut descriptors = descriptors.into_iter();
        match request {
            Request::Open { lease, runtime, profile, disk_bytes, disk_files } => {
                if let Err(reason) = self.open((connection, lease), &runtime, &profile, disk_bytes, disk_files) {
                    self.reply(connection, &Reply::Failed { lease, reason });
                }
            }
            Request::Unpack { lease } => {
                let work = descriptors.next().map(Work::Unpack);
                self.assign(connection, lease, work);
            }
            Request::Execute { lease, limits } => {
                let spec = descriptors.next();
                let streams: Option<[OwnedFd; 3]> = descriptors.collect::<Vec<_>>().try_into().ok();
                let work = spec.zip(streams).map(|(spec, streams)| Work::Execute { limits, spec, streams });
                self.assign(connection, lease, work);
            }
            Request::Collect { lease } => {
                let work = descriptors.next().zip(descriptors.next()).map(|(wanted, pipe)| Work::Collect(wanted, pipe));
                self.assign(connection, lease, work);
            }
            Request::Kill { lease, cause } => {
                if let Some(serial) = self.leases.get(&(connection, lease)).copied() {
                    self.change(serial, |sandbox| sandbox.kill(cause).map_err(|errno| errno.to_string()));
                }
            }
            Request::Close { lease } => match self.leases.get(&(connection, lease)).copied() {
                Some(serial) => self.destroy(serial, None),
                None => self.reply(connection, &Reply::Closed { lease }),
            },
            Request::Record { runtime, checked } => {
                self.catalogue.record(&runtime, &checked);
                self.templates.clear();
            }
        }
    }

    /// Checks again what the daemon has checked, and gives the work to the sandbox.
    fn assign(&mut self, connection: u64, lease: u64, work: Option<Work>) {
        let Some(serial) = self.leases.get(&(connection, lease)).copied() else {
            return;
        };
        self.change(serial, |sandbox| {
            let work = work.ok_or("a request came without its descriptors")?;
            if let Work::Execute { limits, .. } = &work {
                limits.check(&sandbox.profile.maximum).map_err(|error| error.to_string())?;
            }
            if sandbox.backlog.len() >= BACKLOG {
                return Err("too much was asked at once".to_owned());
            }
            sandbox.backlog.push_back(work);
            Ok(())
        });
    }

    fn open(
        &mut self,
        owner: (u64, u64),
        runtime: &str,
        profile: &str,
        disk_bytes: u64,
        disk_files: u64,
    ) -> Result<(), String> {
        if self.stopping || self.leases.contains_key(&owner) {
            return Err("the launcher is stopping, or the lease is in use".to_owned());
        }
        let profile = Arc::clone(self.profiles.get(profile).ok_or("no such profile")?);
        let maximum = &profile.maximum;
        if disk_bytes > maximum.disk_bytes || disk_files > maximum.disk_files {
            return Err("a larger disk than the profile allows".to_owned());
        }
        self.make_template(runtime)?;
        let loopback = profile.network == Network::Loopback;
        let filter = self.filters.get(&(profile.seccomp.clone(), loopback)).ok_or("no such filter")?;
        let filter = Arc::clone(filter);
        let slot = self.slots.take().ok_or("all sandboxes are in use")?;
        let jail = Jail { identity: self.slots.identity(slot), disk_bytes, disk_files };
        let made = self.make(runtime, &jail, profile.network);
        let leaf = self.tree.as_mut().map(Tree::take).transpose().map_err(|errno| errno.to_string());
        let (made, leaf) = match (made, leaf) {
            (Ok(made), Ok(leaf)) => (made, leaf),
            (made, leaf) => {
                self.slots.give_back(slot);
                return Err(made.err().or(leaf.err()).unwrap_or_default());
            }
        };
        let (init, control, network) = made;
        let parts = Parts {
            owner,
            slot,
            identity: jail.identity,
            profile,
            filter,
            network,
            leaf,
            sample_interval_us: self.config.launcher.sample_interval_us,
        };
        self.serial += 1;
        let serial = self.serial;
        let sandbox = Sandbox::new(parts, init, control);
        self.timers.extend(sandbox.timer.map(|due| (due, serial)));
        self.leases.insert(owner, serial);
        let watched = self
            .watch(sandbox.control.as_fd(), About::Control, serial)
            .and_then(|()| self.watch(sandbox.init.pidfd.as_fd(), About::Init, serial));
        self.sandboxes.insert(serial, sandbox);
        if let Err(error) = watched {
            self.destroy(serial, Some(error.to_string()));
        }
        Ok(())
    }

    fn make_template(&mut self, runtime: &str) -> Result<(), String> {
        if self.templates.contains_key(runtime) {
            return Ok(());
        }
        let found = self.catalogue.by_id(runtime).ok_or("no such runtime")?;
        let plan = view::draw_up(found, &self.catalogue.manifest());
        let template = template::build(&plan).map_err(|error| error.to_string())?;
        self.templates.insert(runtime.to_owned(), template);
        Ok(())
    }

    /// Makes init, in the template's mounts and in a network namespace, and lets it go on.
    fn make(
        &mut self,
        runtime: &str,
        jail: &Jail,
        network: Network,
    ) -> Result<(process::Child, OwnedFd, OwnedFd), String> {
        let text = |errno: Errno| errno.to_string();
        let template = self.templates.get(runtime).ok_or("no such template")?;
        let (ours, theirs) = socket::pair().map_err(text)?;
        let network = self.networks.enter(network).map_err(text)?;
        namespace::join(template.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        let started = init::start(jail, theirs.as_fd());
        namespace::join(self.home_mounts.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        let child = started.map_err(|error| error.to_string())?;
        let mapped = write_maps(&child, jail.identity).map_err(text).and_then(|()| {
            let bytes = postcard::to_allocvec(&Command::Mapped).map_err(|error| error.to_string())?;
            socket::send(ours.as_fd(), &bytes, &[]).map_err(text)
        });
        if let Err(error) = mapped {
            drop(ours);
            // It waits for its maps, hears that nobody is there, and leaves.
            nix::sys::wait::waitpid(child.pid, None).call("waitpid").map_err(text)?;
            return Err(error);
        }
        socket::set_nonblocking(ours.as_fd()).map_err(text)?;
        Ok((child, ours, network))
    }

    /// Does something to a sandbox, and then what follows from it; an error ends the sandbox.
    fn change(&mut self, serial: u64, action: impl FnOnce(&mut Sandbox) -> Result<(), String>) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        let timer = sandbox.timer;
        let result = action(sandbox).and_then(|()| sandbox.go_on(self.home_pids.as_fd()));
        let after = sandbox.timer;
        if timer != after {
            self.timers.extend(after.map(|due| (due, serial)));
            if let Some(due) = timer {
                self.timers.remove(&(due, serial));
            }
        }
        let result = result.and_then(|started| match (&sandbox.phase, started) {
            (Phase::Running(run), true) => self
                .epoll
                .add(&run.child.pidfd, EpollEvent::new(EpollFlags::EPOLLIN, About::Program.token(serial)))
                .call("epoll_ctl")
                .map_err(|errno| errno.to_string()),
            _ => Ok(()),
        });
        if let Err(reason) = result {
            self.destroy(serial, Some(reason));
        }
    }

    /// Init has something to say.
    fn report(&mut self, serial: u64) {
        let mut buffer = [0; init::MESSAGE_BYTES];
        let Some(sandbox) = self.sandboxes.get(&serial) else {
            return;
        };
        let message = match socket::receive(sandbox.control.as_fd(), &mut buffer) {
            Ok(message) if message.length > 0 => message,
            Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return,
            // It is dead, or as good as; its pidfd tells as well.
            Ok(_) | Err(_) => return self.destroy(serial, Some("init is gone".to_owned())),
        };
        let report = postcard::from_bytes(buffer.get(..message.length).unwrap_or_default());
        let (connection, lease) = sandbox.owner;
        let mut reply = None;
        let mut tree = self.tree.take();
        self.change(serial, |sandbox| {
            match report.map_err(|_| "init does not make sense".to_owned())? {
                Report::Ready => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Opened { lease });
                }
                Report::Failed(step, errno) => {
                    return Err(format!("{step:?}: {}", Number::from_raw(errno).desc()));
                }
                Report::Unpacked(result) => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Unpacked { lease, result });
                }
                Report::Exceeded(cause) => sandbox.kill(cause).map_err(|errno| errno.to_string())?,
                Report::Finished(finished) => {
                    reply = sandbox.finished(finished).map(|end| Reply::Ended { lease, end });
                    let spent = sandbox.leaf.take_if(|leaf| !leaf.can_be_used_again());
                    if let (Some(leaf), Some(tree)) = (spent, &mut tree) {
                        tree.give_back(leaf);
                        sandbox.leaf = Some(tree.take().map_err(|errno| errno.to_string())?);
                    }
                }
                Report::Collected => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Collected { lease });
                }
            }
            Ok(())
        });
        self.tree = tree;
        if let Some(reply) = reply {
            self.reply(connection, &reply);
        }
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        while let Some((due, serial)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, serial));
            self.change(serial, |sandbox| sandbox.timer_ran_out(now));
        }
    }

    /// Ends a sandbox; with a reason it has failed, without one its owner wanted so or is gone.
    fn destroy(&mut self, serial: u64, failed: Option<String>) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        if let Some(due) = sandbox.timer {
            self.timers.remove(&(due, serial));
        }
        if !matches!(sandbox.phase, Phase::Dying) {
            sandbox.failed = failed;
            // Init's last words would wake us forever: nobody reads them.
            self.epoll.delete(&sandbox.control).ok();
        }
        sandbox.destroy();
    }

    /// Init is dead, and with it everything in the sandbox: gives back what it had.
    fn init_ended(&mut self, serial: u64) {
        self.destroy(serial, Some("init has died".to_owned()));
        let Some(mut sandbox) = self.sandboxes.remove(&serial) else {
            return;
        };
        // A zombie is all that is left of it, so this does not wait.
        nix::sys::wait::waitpid(sandbox.init.pid, None).ok();
        if let Some(network) = sandbox.network.take() {
            self.networks.give_back(sandbox.profile.network, network);
        }
        if let (Some(leaf), Some(tree)) = (sandbox.leaf.take(), &mut self.tree) {
            tree.give_back(leaf);
        }
        self.slots.give_back(sandbox.slot);
        self.leases.remove(&sandbox.owner);
        let (connection, lease) = sandbox.owner;
        let reply = match sandbox.failed.take() {
            Some(reason) => Reply::Failed { lease, reason },
            None => Reply::Closed { lease },
        };
        self.reply(connection, &reply);
    }
}

/// Maps init and program to ids that no other live sandbox has.
fn write_maps(child: &process::Child, identity: Identity) -> Result<(), Errno> {
    let map = match identity {
        Identity::Own { init, program } => format!("0 {init} 1\n{PROGRAM_ID} {program} 1\n"),
        Identity::Shared => format!("{PROGRAM_ID} 0 1\n"),
    };
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", child.pid), &map).call("write")?;
    }
    Ok(())
}
