//! What makes uplinks: processes that have stayed in the host's network, and the uplinks that they forked.
//!
//! The launcher stands in an empty network namespace and can't go back to the host's, which is not its
//! own. So a *zygote*, forked before it went there, stays behind. It waits for the sockets of a sandbox's
//! namespace, forks, and the child serves them. Both have a descriptor or two and nothing of the
//! launcher's, and die with it. Where the zygote dies another is made by the *keeper*, its parent, which does
//! nothing else; uplinks with a user of their own go on meanwhile.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use caps::{CapSet, Capability, CapsHashSet};
use nix::errno::Errno as Number;
use nix::sys::prctl;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::network::order::ORDER_BYTES;
use crate::network::secrets::Granted;
use crate::network::uplink::confine::Confinement;
use crate::network::uplink::{self, Start};
use crate::network::{Sockets, doors};
use crate::profile::AllowList;
use crate::sys::process::{self, Child, Side};
use crate::sys::{Call, Errno, Result, fs, seccomp, socket};

mod keeper;

/// Largest message between launcher and zygote, in bytes.
const MESSAGE_BYTES: usize = 256;
/// Largest policy with name servers, secrets and certificates, in bytes.
const BEGINNING_BYTES: usize = ORDER_BYTES + (6 << 20);

/// The process that forks uplinks, whichever it is at the moment, and its keeper, seen from the launcher.
#[derive(Debug)]
pub(super) struct Zygote {
    socket: OwnedFd,
    keeper: Child,
}

/// What is wanted of the zygote. Comes with a memory file that holds a [`Beginning`], the control
/// socket, where `in_group` says so a cgroup's directory, and the sockets.
#[derive(Debug, Serialize, Deserialize)]
struct Wanted {
    /// Names the uplink in the answer.
    serial: u64,
    /// Who it is to be, in the launcher's user namespace; absent where there is only one id.
    user: Option<u32>,
    in_group: bool,
    /// How many sockets of the first four kinds there are.
    counts: [u8; 4],
}

/// What an uplink has to begin with, besides sockets.
#[derive(Debug, Deserialize)]
struct Beginning {
    policy: AllowList,
    name_servers: Vec<SocketAddr>,
    secrets: Option<Granted>,
}

/// The same, as the launcher has it.
#[derive(Debug, Serialize)]
struct Given<'a> {
    policy: &'a AllowList,
    name_servers: &'a [SocketAddr],
    secrets: &'a Option<Granted>,
}

/// What became of it. Comes with the pidfd of the uplink where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Forked {
    /// Which uplink.
    pub(super) serial: u64,
    /// Its process id, or the errno of what failed.
    pub(super) pid: std::result::Result<i32, i32>,
}

/// The process of an uplink.
#[derive(Debug)]
pub(super) struct Process {
    pidfd: OwnedFd,
}

/// For whom an uplink is made.
#[derive(Debug)]
pub(super) struct Client<'a> {
    pub(super) serial: u64,
    /// See [`Wanted::user`].
    pub(super) user: Option<u32>,
    pub(super) group: Option<BorrowedFd<'a>>,
    pub(super) policy: &'a AllowList,
    pub(super) name_servers: &'a [SocketAddr],
    pub(super) secrets: Option<Granted>,
}

impl Zygote {
    /// Forks the keeper. The caller is single-threaded, and stands in the network that uplinks are to have.
    pub(super) fn start() -> Result<Self> {
        let (ours, theirs) = socket::pair()?;
        let launcher = Pid::this();
        match process::clone(nix::sched::CloneFlags::empty(), None)? {
            Side::Parent(keeper) => {
                socket::set_nonblocking(ours.as_fd())?;
                Ok(Self { socket: ours, keeper })
            }
            Side::Child => {
                let status = settle(theirs.as_fd(), launcher).and_then(|()| {
                    keeper::keep(|keeper| {
                        become_zygote(keeper)?;
                        serve(theirs.as_fd())
                    })
                });
                process::leave(i32::from(status.is_err()));
            }
        }
    }

    /// Where its answers come, and the keeper's end is seen.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Has an uplink forked, and returns its control socket. Whether that went well is told later.
    pub(super) fn fork(&self, client: &Client<'_>, sockets: &Sockets) -> Result<OwnedFd> {
        let Client { serial, user, group, policy, name_servers, secrets } = client;
        let (serial, user, group) = (*serial, *user, *group);
        let beginning = fs::sealed_memory(c"policy", &encoded_once(&Given { policy, name_servers, secrets })?)?;
        let (ours, theirs) = socket::pair()?;
        socket::set_nonblocking(ours.as_fd())?;
        let Sockets { resolver_udp, resolver_tcp, relay, proxy, rules, log, diag } = sockets;
        let many = [resolver_udp, resolver_tcp, relay, proxy];
        let counts = many.map(|kind| u8::try_from(kind.len()).unwrap_or(u8::MAX));
        let wanted = Wanted { serial, user, in_group: group.is_some(), counts };
        let descriptors: Vec<BorrowedFd<'_>> = [beginning.as_fd(), theirs.as_fd()]
            .into_iter()
            .chain(group)
            .chain(many.into_iter().flatten().map(AsFd::as_fd))
            .chain([rules, log, diag].map(AsFd::as_fd))
            .collect();
        socket::send(self.socket.as_fd(), &encoded(&wanted)?, &descriptors)?;
        Ok(ours)
    }

    /// The next answer; `None` where there is none yet.
    ///
    /// An error means that it is gone.
    pub(super) fn hear(&self) -> Result<Option<(Forked, Option<Process>)>> {
        let mut buffer = [0; MESSAGE_BYTES];
        let message = match socket::receive(self.socket.as_fd(), &mut buffer) {
            Ok(message) if message.length > 0 => message,
            Ok(_) => return Err(Errno { call: "recvmsg", errno: Number::ECONNRESET }),
            Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let forked: Forked = decoded(buffer.get(..message.length).unwrap_or_default())?;
        let pidfd = message.descriptors.into_iter().next();
        let process = forked.pid.ok().and(pidfd).map(|pidfd| Process { pidfd });
        Ok(Some((forked, process)))
    }

    /// Kills keeper, zygote and uplinks, and reaps them.
    pub(super) fn end(self) {
        process::signal(self.keeper.pidfd.as_fd(), Signal::SIGKILL).ok();
        keeper::end_group(self.keeper.pid);
    }
}

impl Process {
    /// Ends it at once: whoever has its connections open learns so.
    pub(super) fn kill(&self) {
        // The only error is that it is dead already.
        process::signal(self.pidfd.as_fd(), Signal::SIGKILL).ok();
    }
}

/// In the keeper: nothing of the launcher's stays, but what uplinks need to become somebody else.
fn settle(control: BorrowedFd<'_>, launcher: Pid) -> Result<()> {
    process::close_all_but(&[control])?;
    prctl::set_name(c"uplinks").call("prctl")?;
    // It ends with the launcher, which is what is asked to stop.
    let stops: SigSet = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP].into_iter().collect();
    sigprocmask(SigmaskHow::SIG_BLOCK, Some(&stops), None).call("sigprocmask")?;
    setrlimit(Resource::RLIMIT_CORE, 0, 0).call("setrlimit")?;
    // What uplinks need to become somebody else, who keeps the one for the rules of namespaces.
    hold(&[
        Capability::CAP_SETUID,
        Capability::CAP_SETGID,
        Capability::CAP_SETPCAP,
        Capability::CAP_SYS_CHROOT,
        Capability::CAP_NET_ADMIN,
    ])?;
    seccomp::no_new_privileges()?;
    prctl::set_dumpable(false).call("prctl")?;
    die_with(launcher)
}

/// In the zygote, a child of the keeper that is as settled as that.
fn become_zygote(keeper: Pid) -> Result<()> {
    prctl::set_name(c"zygote").call("prctl")?;
    // The kernel reaps its children then; wait(2).
    process::ignore(Signal::SIGCHLD)?;
    die_with(keeper)
}

/// Dies when its parent does, which is this one still.
fn die_with(parent: Pid) -> Result<()> {
    prctl::set_pdeathsig(Signal::SIGKILL).call("prctl")?;
    if nix::unistd::getppid() == parent { Ok(()) } else { Err(Errno { call: "getppid", errno: Number::ESRCH }) }
}

/// Gives all capabilities up but these, which it has.
fn hold(kept: &[Capability]) -> Result<()> {
    let kept: CapsHashSet = kept.iter().copied().collect();
    let nothing = CapsHashSet::new();
    // What is in force first: it can't exceed what is permitted.
    let sets = [
        (CapSet::Ambient, &nothing),
        (CapSet::Inheritable, &nothing),
        (CapSet::Effective, &kept),
        (CapSet::Permitted, &kept),
    ];
    for (set, value) in sets {
        caps::set(None, set, value).map_err(|_| Errno { call: "capset", errno: Number::last() })?;
    }
    Ok(())
}

/// The zygote's loop, until the launcher is gone.
fn serve(control: BorrowedFd<'_>) -> Result<()> {
    loop {
        let mut buffer = [0; MESSAGE_BYTES];
        let message = match socket::receive(control, &mut buffer) {
            Ok(message) if message.length > 0 => message,
            Err(Errno { errno: Number::EINTR, .. }) => continue,
            Ok(_) => return Ok(()),
            Err(error) => return Err(error),
        };
        let wanted: Wanted = decoded(buffer.get(..message.length).unwrap_or_default())?;
        let forked = fork(&wanted, message.descriptors);
        let pid = forked.as_ref().map(|child| child.pid.as_raw()).map_err(|error| error.errno as i32);
        let answer = encoded(&Forked { serial: wanted.serial, pid })?;
        let pidfd: Vec<BorrowedFd<'_>> = forked.iter().map(|child| child.pidfd.as_fd()).collect();
        socket::send(control, &answer, &pidfd)?;
    }
}

fn fork(wanted: &Wanted, descriptors: Vec<OwnedFd>) -> Result<Child> {
    let missing = || Errno { call: "recvmsg", errno: Number::EBADMSG };
    let mut descriptors = descriptors.into_iter();
    let mut next = || descriptors.next().ok_or_else(missing);
    let beginning = next()?;
    let control = next()?;
    let group = if wanted.in_group { Some(next()?) } else { None };
    let [resolver_udp, resolver_tcp, relay, proxy] =
        wanted.counts.map(|count| (0..count).map(|_| next()).collect::<Result<Vec<OwnedFd>>>());
    let sockets = Sockets {
        resolver_udp: resolver_udp?,
        resolver_tcp: resolver_tcp?,
        relay: relay?,
        proxy: proxy?,
        rules: next()?,
        log: next()?,
        diag: next()?,
    };
    let zygote = Pid::this();
    match process::clone(nix::sched::CloneFlags::empty(), group.as_ref().map(AsFd::as_fd))? {
        Side::Parent(child) => Ok(child),
        Side::Child => {
            let began = begin(wanted, zygote, &beginning, &sockets, &[Some(&control), group.as_ref()]);
            drop((beginning, group));
            let text = match began {
                Ok(start) => match uplink::serve(start, sockets, control, doors::open) {
                    Ok(()) => process::leave(0),
                    Err(error) => error.to_string(),
                },
                Err(error) => error.to_string(),
            };
            eprintln!("codesandbox-launcher: an uplink has ended: {text}");
            process::leave(1);
        }
    }
}

/// In an uplink: lets go of all that is not its own. It holds itself before it serves.
fn begin(
    wanted: &Wanted,
    zygote: Pid,
    beginning: &OwnedFd,
    sockets: &Sockets,
    owned: &[Option<&OwnedFd>],
) -> Result<Start> {
    let Sockets { resolver_udp, resolver_tcp, relay, proxy, rules, log, diag } = sockets;
    let many = [resolver_udp, resolver_tcp, relay, proxy].into_iter().flatten();
    let many = many.chain([rules, log, diag, beginning]).chain(owned.iter().copied().flatten());
    let kept: Vec<BorrowedFd<'_>> = many.map(AsFd::as_fd).collect();
    // What is closed is the zygote's own socket, whose owner is in a frame that is never returned to.
    process::close_all_but(&kept)?;
    prctl::set_name(c"uplink").call("prctl")?;
    let beginning = Zeroizing::new(fs::read_whole(beginning.as_fd(), BEGINNING_BYTES)?);
    let Beginning { policy, name_servers, secrets } = decoded(&beginning)?;
    die_with(zygote)?;
    let confine = Some(Confinement { identity: wanted.user.map(|id| (id, id)), keeps_rules: true });
    Ok(Start { policy, name_servers, secrets, confine })
}

fn encoded(value: &impl Serialize) -> Result<Vec<u8>> {
    postcard::to_allocvec(value).map_err(|_| Errno { call: "sendmsg", errno: Number::EMSGSIZE })
}

/// The same of what may have secrets in it, of which no copy is left behind.
fn encoded_once(value: &impl Serialize) -> Result<Zeroizing<Vec<u8>>> {
    let too_large = |_| Errno { call: "sendmsg", errno: Number::EMSGSIZE };
    let size = postcard::experimental::serialized_size(value).map_err(too_large)?;
    let mut bytes = Zeroizing::new(vec![0; size]);
    postcard::to_slice(value, &mut bytes).map_err(too_large)?;
    Ok(bytes)
}

fn decoded<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes).map_err(|_| Errno { call: "recvmsg", errno: Number::EBADMSG })
}
