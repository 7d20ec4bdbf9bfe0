//! A program of a sandbox from the launcher's side: made ahead, with its streams, to wait for its orders.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::pipe2;

use crate::jail::program::{self, Start};
use crate::plan::{Identity, Mark};
use crate::sys::process::{self, Child};
use crate::sys::seccomp::Instruction;
use crate::sys::{Call, Errno, socket};

/// Most bytes of marks that are read.
const MARKS_BYTES: u64 = 256;

/// A program that waits or runs.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) child: Child,
    /// The other ends of its standard input, output and error, until its job is given to it.
    pub(super) streams: Option<[OwnedFd; 3]>,
    pub(super) marks: Marks,
    /// Where an interpreter that is to wait says that it is ready.
    pub(super) ready: Option<OwnedFd>,
    warm: bool,
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
    /// Where an interpreter starts that is to wait for its program.
    pub(super) warm: Option<&'a Path>,
    pub(super) loopback: bool,
    pub(super) identity: Identity,
    pub(super) filter: &'a [Instruction],
}

impl Program {
    /// Makes a program, and returns what init is to have of it.
    pub(super) fn make(around: &Surroundings<'_>) -> Result<(Self, Vec<OwnedFd>), String> {
        let text = |errno: Errno| errno.to_string();
        let pipe = || pipe2(OFlag::O_CLOEXEC).call("pipe2").map_err(text);
        let (input, input_writer) = pipe()?;
        let (output_reader, output) = pipe()?;
        let (error_reader, error) = pipe()?;
        // The pipes are ours, and the program is another user: it may open /dev/stdin and the like.
        for stream in [&input, &output, &error] {
            fchmod(stream, Mode::from_bits_truncate(0o666)).call("fchmod").map_err(text)?;
        }
        let (orders, orders_writer) = pipe()?;
        let (marks, marks_writer) = pipe()?;
        socket::set_nonblocking(marks.as_fd()).map_err(text)?;
        let (handover, listener) = socket::pair().map_err(text)?;
        let warm = around.warm.map(|_| Ok::<_, String>((pipe()?, pipe()?))).transpose()?;
        let child = program::start(&Start {
            init: around.init,
            home: around.home,
            cgroup: around.cgroup,
            streams: [input.as_fd(), output.as_fd(), error.as_fd()],
            orders: orders.as_fd(),
            marks: marks_writer.as_fd(),
            listener: listener.as_fd(),
            warm: warm.as_ref().map(|((job, _), (_, ready))| [job.as_fd(), ready.as_fd()]),
            directory: around.warm.unwrap_or(Path::new("/workspace")),
            loopback: around.loopback,
            identity: around.identity,
            filter: around.filter,
        })
        .map_err(|error| error.to_string())?;
        let (job, ready) = warm.map(|((_, job), (ready, _))| (job, ready)).unzip();
        let pidfd = child.pidfd.try_clone().call("dup");
        let program = Self {
            child,
            streams: Some([input_writer, output_reader, error_reader]),
            marks: Marks(marks),
            ready,
            warm: around.warm.is_some(),
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

    /// Kills it and waits until it is reaped.
    pub(super) fn end_now(&self) {
        process::signal(self.child.pidfd.as_fd(), nix::sys::signal::Signal::SIGKILL).ok();
        nix::sys::wait::waitpid(self.child.pid, None).ok();
    }
}
