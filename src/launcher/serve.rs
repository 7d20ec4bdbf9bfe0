//! The launcher's loop: connections, sandboxes, timers, all in one thread.

mod clients;
mod network;
mod parking;
mod sandboxes;
mod sessions;
mod trees;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno as Number;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::cgroup::Tree;
use super::grant::{self, Grant};
use super::ids::Slots;
use super::netns;
use super::pool::Pool;
use super::privilege::{self, Settled, Texts};
use super::protocol::SessionKey;
use super::sandbox::Sandbox;
use super::session::Session;
use super::uplinks::Zygote;
use super::workspace::{Worker, Workspaces};
use super::{During, LauncherError};
use crate::config::Config;
use crate::jail::filter::Filter;
use crate::job::EnforcedBy;
use crate::plan::tree::TreeKey;
use crate::profile::{FILTERS, Profile};
use crate::runtime::Catalogue;
use crate::sys::process::Child;
use crate::sys::{Call, Errno, process, socket};

pub(super) use trees::Fittings;

/// Largest file of texts that the launcher hands to itself.
const TEXTS_BYTES: usize = 64 << 20;
/// Most events that are taken at once.
const EVENTS: usize = 64;

/// Runs the launcher inside its namespaces until it is told to stop.
pub(super) fn run(settled: &str) -> Result<(), LauncherError> {
    let settled: Settled = serde_json::from_str(settled).map_err(|_| LauncherError::Settled)?;
    let texts = process::inherited(settled.texts).during("read the configuration")?;
    let texts = crate::sys::fs::read_whole(texts.as_fd(), TEXTS_BYTES).during("read the configuration")?;
    let texts: Texts = postcard::from_bytes(&texts).map_err(|_| LauncherError::Settled)?;
    let socket = process::inherited(settled.socket).during("take the socket")?;
    // First of all, while there is nothing to take along, and before this process leaves the host's network.
    let zygote = Zygote::start().inspect_err(|errno| {
        eprintln!("codesandbox-launcher: no sandbox has a network, because what makes uplinks can't be made: {errno}");
    });
    let mut server = Server::new(&settled, texts)?;
    server.zygote = zygote.ok();
    server.watch_zygote();
    if settled.listening {
        server.listen(socket)?;
    } else {
        server.only_client = true;
        server.connect(socket).during("serve the client")?;
        // A daemon that connects has the configuration read anew first, and then these are made.
        server.expect_floors();
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
    Warm,
    SessionControl,
    SessionInit,
    Exec,
    Terminal,
    Chore,
    Zygote,
    Uplink,
}

impl About {
    const ALL: [Self; 14] = [
        Self::Listener,
        Self::Signal,
        Self::Connection,
        Self::Control,
        Self::Init,
        Self::Program,
        Self::Warm,
        Self::SessionControl,
        Self::SessionInit,
        Self::Exec,
        Self::Terminal,
        Self::Chore,
        Self::Zygote,
        Self::Uplink,
    ];

    /// A token names what it is about and a serial number, which is never used again, so that an
    /// event for what has gone meanwhile finds nothing.
    fn token(self, serial: u64) -> u64 {
        serial << 4 | self as u64
    }

    fn of(token: u64) -> Option<(Self, u64)> {
        let about = Self::ALL.into_iter().find(|about| *about as u64 == token & 15)?;
        Some((about, token >> 4))
    }
}

struct Connection {
    socket: OwnedFd,
    outbox: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
}

struct Server {
    config: Config,
    /// What the configuration was made from, and where that was read.
    texts: Texts,
    config_path: Option<PathBuf>,
    profiles: HashMap<String, Arc<Profile>>,
    catalogue: Catalogue,
    filters: HashMap<(String, bool), Arc<Filter>>,
    /// Those of plain sandboxes and of renewable ones.
    init_filters: [Filter; 2],
    /// Mount namespaces of runtimes, without and with what programs need that may reach something, and by what
    /// else is to be seen.
    templates: HashMap<(String, bool, trees::Fitting), OwnedFd>,
    networks: netns::Pool,
    /// What makes uplinks, while it lives.
    zygote: Option<Zygote>,
    /// What whoever started it gives it.
    grant: Option<Grant>,
    uplinks: HashMap<u64, network::Uplink>,
    /// The cgroup of uplinks, where there is one.
    uplink_group: Option<OwnedFd>,
    name_servers: Vec<SocketAddr>,
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
    sessions: HashMap<SessionKey, Session>,
    /// To which session a jail, a program or a worker belongs, by its serial number.
    session_serials: HashMap<u64, SessionKey>,
    /// Sessions in which a program is to wait.
    to_stage: VecDeque<SessionKey>,
    /// Children that are dead or as good as dead, and are to be reaped.
    corpses: HashMap<u64, Child>,
    /// What is done to layers of workspaces.
    chores: HashMap<u64, Worker>,
    /// Who wants to know of trees that are being made: connection and lease.
    tree_waiters: HashMap<TreeKey, Vec<(u64, u64)>>,
    /// The connection that is told what happens in sessions.
    keeper: Option<u64>,
    /// Sessions that it has not been told of yet; absent when it was told of all.
    to_tell: Option<VecDeque<SessionKey>>,
    /// The connection that will be told, and first of all hear what there is.
    newcomer: Option<u64>,
    workspaces: Workspaces,
    worker_filter: Arc<Filter>,
    timers: BTreeSet<(Instant, u64)>,
    pool: Pool,
    /// When to look after those that wait.
    next_round: Instant,
    /// Since when one is wanting that was not made for want of a processor.
    wanting_since: Option<Instant>,
    /// Memory of the host that was available when that was last looked at.
    available_bytes: u64,
    processors: usize,
    serial: u64,
    stopping: bool,
}

fn shared_profiles(config: &Config) -> HashMap<String, Arc<Profile>> {
    config.profiles.iter().map(|(name, profile)| (name.clone(), Arc::new(profile.clone()))).collect()
}

impl Server {
    fn new(settled: &Settled, mut texts: Texts) -> Result<Self, LauncherError> {
        let mut config = privilege::parse(settled.config.as_deref(), &texts.config)?;
        let mut filters = HashMap::new();
        let catalogue = match &texts.grant {
            None => texts.runtimes(settled.config.as_deref(), &config)?,
            Some(grant) => {
                config.profiles = [(grant::PROFILE.to_owned(), grant.profile())].into();
                // One sandbox, of which nothing is made ahead.
                (config.pool.floor, config.pool.ceiling, config.launcher.sandboxes) = (0, 0, 1);
                config.pool.runtimes.clear();
                config.secrets.extend(grant.secrets());
                config.launcher.sample_interval_us = grant::SAMPLE_INTERVAL_US;
                let filter = Arc::new(Filter::of_agent(grant.unix_sockets)?);
                filters.insert((grant::FILTER.to_owned(), true), filter);
                Catalogue::default()
            }
        };
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
        let pool = Pool::new(config.pool.clone().resolved());
        let tree = settled.cgroup.clone().map(Tree::new);
        let uplink_group = tree.as_ref().map(Tree::uplinks).transpose().during("make the cgroup of uplinks")?;
        let open = |path: &str| File::open(path).map(OwnedFd::from).call("open").during("find its own namespaces");
        Ok(Self {
            profiles: shared_profiles(&config),
            slots: Slots::new(config.launcher.sandboxes, settled.own_ids),
            tree,
            name_servers: network::name_servers_of(&config),
            config,
            grant: texts.grant.take(),
            texts,
            config_path: settled.config.clone(),
            catalogue,
            filters,
            init_filters: [Filter::of_init(false)?, Filter::of_init(true)?],
            templates: HashMap::new(),
            networks: netns::Pool::new().during("make a network namespace of its own")?,
            zygote: None,
            uplinks: HashMap::new(),
            uplink_group,
            home_mounts: open("/proc/self/ns/mnt")?,
            home_pids: open("/proc/self/ns/pid")?,
            epoll,
            signals,
            listener: None,
            only_client: false,
            connections: HashMap::new(),
            sandboxes: HashMap::new(),
            leases: HashMap::new(),
            sessions: HashMap::new(),
            session_serials: HashMap::new(),
            to_stage: VecDeque::new(),
            corpses: HashMap::new(),
            chores: HashMap::new(),
            tree_waiters: HashMap::new(),
            keeper: None,
            to_tell: None,
            newcomer: None,
            workspaces: Workspaces::new(settled.own_ids),
            worker_filter: Arc::new(Filter::of_worker()?),
            timers: BTreeSet::new(),
            pool,
            next_round: Instant::now(),
            wanting_since: None,
            available_bytes: parking::available_bytes(),
            processors: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
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
        while !(self.stopping && self.sandboxes.is_empty() && self.sessions.is_empty()) {
            let one_to_make = self.has_one_to_make();
            let due = [self.timers.first().map(|(due, _)| *due), self.next_round()].into_iter().flatten().min();
            let timeout = match due {
                // Only where nothing else is to be done.
                _ if one_to_make || !self.to_stage.is_empty() => EpollTimeout::ZERO,
                Some(due) => {
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
            self.tell_newcomer();
            self.look_after_parked();
            if count == 0 && !self.to_stage.is_empty() {
                self.stage_one();
            } else if count == 0 && one_to_make {
                self.make_one();
            }
        }
        self.stop_uplinks();
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
                    self.go_on_telling();
                }
                self.hear(serial);
            }
            About::Control => self.report(serial),
            About::Init => self.init_ended(serial),
            About::Program => self.change(serial, |sandbox, _, _, news| sandbox.program_ended(news)),
            About::Warm => self.hear_interpreter(serial),
            About::SessionControl => self.session_report(serial),
            About::SessionInit => self.session_init_ended(serial),
            About::Exec => self.exec_ended(serial),
            About::Terminal => self.take_terminal(serial),
            About::Chore => self.chore_ended(serial),
            About::Zygote => self.zygote_report(),
            About::Uplink => self.uplink_report(serial),
        }
    }

    fn stop(&mut self) {
        self.stopping = true;
        self.listener = None;
        let connections: Vec<u64> = self.connections.keys().copied().collect();
        for connection in connections {
            self.disconnect(connection);
        }
        let parked: Vec<u64> =
            self.sandboxes.iter().filter(|(_, sandbox)| sandbox.owner.is_none()).map(|(serial, _)| *serial).collect();
        for serial in parked {
            self.destroy(serial, None);
        }
        self.stop_sessions();
    }

    /// Reads the configuration anew, and makes new templates even where it has not changed: files of
    /// runtimes may have, and a template shows what is gone. Sandboxes that live keep what they have.
    fn reload(&mut self) {
        let Some(path) = self.config_path.as_deref() else {
            return;
        };
        let changed = self.read_changed(path);
        // Made again when they are asked for.
        self.templates.clear();
        match changed {
            Ok(None) => {}
            Ok(Some((texts, config, mut catalogue))) => {
                if config.launcher != self.config.launcher {
                    eprintln!("codesandbox-launcher: section \"launcher\" takes effect when it is started anew");
                }
                catalogue.inherit(&self.catalogue);
                self.profiles = shared_profiles(&config);
                (self.texts, self.config, self.catalogue) = (texts, config, catalogue);
                eprintln!("codesandbox-launcher: the configuration is read anew");
            }
            Err(error) => eprintln!("codesandbox-launcher: the old configuration stays, because {error}"),
        }
        // Even where it has not changed: what it names by default is the host's.
        self.name_servers = network::name_servers_of(&self.config);
        self.assert_sessions();
        self.retire_parked();
    }

    /// The configuration where it has changed. Every connection asks, so what has not is not parsed.
    fn read_changed(&self, path: &Path) -> Result<Option<(Texts, Config, Catalogue)>, LauncherError> {
        let text = privilege::read(path)?;
        let same = text == self.texts.config;
        let config = if same { self.config.clone() } else { privilege::parse(Some(path), &text)? };
        let texts = Texts::of(Some(path), text, &config)?;
        if texts == self.texts {
            return Ok(None);
        }
        let catalogue = texts.runtimes(Some(path), &config)?;
        Ok(Some((texts, config, catalogue)))
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        while let Some((due, serial)) = self.timers.first().copied().filter(|(due, _)| *due <= now) {
            self.timers.remove(&(due, serial));
            if self.session_serials.contains_key(&serial) {
                self.session_timer(serial, now);
            } else if self.uplinks.contains_key(&serial) {
                self.uplink_timer(serial, now);
            } else {
                self.change(serial, |sandbox, _, _, _| sandbox.timer_ran_out(now));
            }
        }
    }
}
