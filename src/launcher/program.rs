//! A program of a sandbox from the launcher's side: made ahead, with its streams, to wait for its orders.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno as Number;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{Pid, pipe2};

use crate::jail::program::{self, Role, Start};
use crate::plan::{Identity, Mark, Size};
use crate::sys::process::{self, Child};
use crate::sys::seccomp::Instruction;
use crate::sys::{Call, Errno, socket};

/// Most bytes of marks that are read.
const MARKS_BYTES: u64 = 256;

/// A program that waits or runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) child: Child,
    /// The other ends of its standard input, output and error, until its job is given to it; of a worker
    /// the other end of its socket. A program on a terminal has none at first.
    pub(super) streams: Option<Vec<OwnedFd>>,
    pub(super) marks: Marks,
    /// Where an interpreter that is to wait says that it is ready.
    pub(super) ready: Option<OwnedFd>,
    /// Where the other end of its terminal comes from.
    pub(super) terminal: Option<OwnedFd>,
    warm: bool,
}

/// What a program is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose<'a> {
    /// To be executed.
    Program,
    /// To be an interpreter that starts here and waits for its program.
    Interpreter(&'a Path),
    /// To be executed on a terminal of this size.
    Terminal(Size),
    /// To be code of ours.
    Worker,
}

/// The pipe in which init and the program leave word; it holds all of it until the end.
#[derive(Debug)]
pub(super) struct Marks(OwnedFd);

impl Marks {
    /// What is there, which is taken out.
    pub(super) fn read(&self) -> Vec<Mark> {
        let mut bytes = Vec::new();
        if let Ok(pipe) = self.0.try_clone() {
            // It never blocks; where its writers live it ends with EAGAIN, after what is there.
            File::from(pipe).take(MARKS_BYTES).read_to_end(&mut bytes).ok();
        }
        Mark::read_all(&bytes)
    }
}

/// Where and as what a program is made.
#[derive(Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) init: BorrowedFd<'a>,
    pub(super) home: BorrowedFd<'a>,
    pub(super) cgroup: Option<BorrowedFd<'a>>,
    pub(super) purpose: Purpose<'a>,
    pub(super) loopback: bool,
    /// Whether the sandbox is a session's.
    pub(super) session: bool,
    /// Where it may write, where that is not the usual places.
    pub(super) writable: Option<&'a [PathBuf]>,
    pub(super) identity: Identity,
    pub(super) filter: &'a [Instruction],
}

impl Program {
    /// Makes a program, and returns what init is to have of it.
    pub(super) fn make(around: &Surroundings<'_>) -> Result<(Self, Vec<OwnedFd>), String> {
        let text = |errno: Errno| errno.to_string();
        let pipe = || pipe2(OFlag::O_CLOEXEC).call("pipe2").map_err(text);
        let (theirs, ours) = streams(around.purpose).map_err(text)?;
        let (orders, orders_writer) = pipe()?;
        let (marks, marks_writer) = pipe()?;
        socket::set_nonblocking(marks.as_fd()).map_err(text)?;
        let (handover, listener) = socket::pair().map_err(text)?;
        let warm = matches!(around.purpose, Purpose::Interpreter(_))
            .then(|| Ok::<_, String>((pipe()?, pipe()?)))
            .transpose()?;
        let terminal = matches!(around.purpose, Purpose::Terminal(_)).then(socket::pair).transpose().map_err(text)?;
        let [input, output, error] = &theirs;
        let child = program::start(&Start {
            init: around.init,
            home: around.home,
            cgroup: around.cgroup,
            streams: [input.as_fd(), output.as_fd(), error.as_fd()],
            orders: orders.as_fd(),
            marks: marks_writer.as_fd(),
            listener: listener.as_fd(),
            role: match (around.purpose, &warm, &terminal) {
                (_, Some(((job, _), (_, ready))), _) => Role::Interpreter([job.as_fd(), ready.as_fd()]),
                (Purpose::Terminal(size), _, Some((theirs, _))) => Role::Terminal(size, theirs.as_fd()),
                (Purpose::Worker, ..) => Role::Worker,
                _ => Role::Program,
            },
            directory: match around.purpose {
                Purpose::Interpreter(directory) => directory,
                _ => Path::new("/workspace"),
            },
            loopback: around.loopback,
            terminals: around.session,
            writable: around.writable,
            identity: around.identity,
            filter: around.filter,
        })
        .map_err(|error| error.to_string())?;
        let (job, ready) = warm.map(|((_, job), (ready, _))| (job, ready)).unzip();
        let pidfd = child.pidfd.try_clone().call("dup");
        let program = Self {
            child,
            streams: terminal.is_none().then_some(ours),
            marks: Marks(marks),
            ready,
            terminal: terminal.map(|(_, ours)| ours),
            warm: matches!(around.purpose, Purpose::Interpreter(_)),
        };
        let pidfd = pidfd.map_err(|errno| {
            program.end_now();
            text(errno)
        })?;
        let for_init = [Some(pidfd), Some(orders_writer), Some(marks_writer), Some(handover), job];
        Ok((program, for_init.into_iter().flatten().collect()))
    }

    pub(super) fn is_warm(&self) -> bool {
        self.warm
    }

    /// Sends a signal to the process group that it leads.
    pub(super) fn signal(&self, number: i32) -> Result<(), String> {
        let signal = Signal::try_from(number).map_err(|_| format!("there is no signal {number}"))?;
        // It is our child and not reaped yet, so nobody else can have its number.
        match kill(Pid::from_raw(-self.child.pid.as_raw()), signal) {
            Ok(()) => Ok(()),
            // It has not made its process group yet, and so nothing that would be in it: it alone is meant.
            Err(Number::ESRCH) => process::signal(self.child.pidfd.as_fd(), signal).map_err(|errno| errno.to_string()),
            Err(errno) => Err(errno.desc().to_owned()),
        }
    }

    /// Kills it and waits until it is reaped.
    pub(super) fn end_now(&self) {
        process::signal(self.child.pidfd.as_fd(), Signal::SIGKILL).ok();
        nix::sys::wait::waitpid(self.child.pid, None).ok();
    }
}

/// Descriptors 0, 1 and 2 of a program, and the other ends of them.
fn streams(purpose: Purpose<'_>) -> crate::sys::Result<([OwnedFd; 3], Vec<OwnedFd>)> {
    match purpose {
        Purpose::Worker => {
            let (theirs, ours) = socket::stream_pair()?;
            let copy = || theirs.try_clone().call("dup");
            Ok(([copy()?, copy()?, theirs], vec![ours]))
        }
        Purpose::Terminal(_) => {
            let nothing = || File::options().read(true).write(true).open("/dev/null").map(OwnedFd::from).call("open");
            Ok(([nothing()?, nothing()?, nothing()?], Vec::new()))
        }
        Purpose::Program | Purpose::Interpreter(_) => {
            let pipe = || pipe2(OFlag::O_CLOEXEC).call("pipe2");
            let ((input, input_writer), (output_reader, output), (error_reader, error)) = (pipe()?, pipe()?, pipe()?);
            // The pipes are ours, and the program is another user: it may open /dev/stdin and the like.
            for stream in [&input, &output, &error] {
                fchmod(stream, Mode::from_bits_truncate(0o666)).call("fchmod")?;
            }
            Ok(([input, output, error], vec![input_writer, output_reader, error_reader]))
        }
    }
}
