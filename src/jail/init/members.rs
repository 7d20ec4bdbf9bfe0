//! Which processes belong to which program, where several run in one sandbox and no cgroup tells.
//!
//! Every program has a cgroup namespace of its own, which all that it starts inherit and none of them
//! can leave: the filter lets nobody make or join a namespace. So the number of that namespace tells to
//! whom a process belongs, orphans included; cgroup_namespaces(7), proc_pid_ns(5).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long processes have to stop, which they do as soon as they are next to run.
const STOP_TIME: Duration = Duration::from_millis(500);
/// Rounds of killing: each finds those that were forked during the one before.
const ROUNDS: usize = 10_000;

/// Processes of one program.
#[derive(Debug, Default)]
pub(super) enum Members {
    /// All that there are.
    #[default]
    Everybody,
    /// Those in the namespace of this process.
    Of {
        main: i32,
        /// Not known before the program is executed: until then it is not ours to look at.
        namespace: Option<String>,
    },
}

impl Members {
    /// Those of a program, by its pidfd.
    pub(super) fn of(main: Option<&OwnedFd>) -> Self {
        let text = main.map(|main| fs::read_to_string(format!("/proc/self/fdinfo/{}", main.as_raw_fd())));
        let pid = text.and_then(Result::ok).and_then(|text| {
            text.lines().find_map(|line| line.strip_prefix("Pid:")).and_then(|pid| pid.trim().parse().ok())
        });
        Self::Of { main: pid.unwrap_or(0), namespace: None }
    }

    /// Those of these processes that are members.
    pub(super) fn among(&mut self, pids: Vec<i32>) -> Vec<i32> {
        let Self::Of { main, namespace } = self else {
            return pids;
        };
        if namespace.is_none() {
            *namespace = namespace_of(*main).filter(|found| Some(found) != namespace_of(1).as_ref());
        }
        match namespace {
            Some(namespace) => pids.into_iter().filter(|pid| namespace_of(*pid).as_ref() == Some(namespace)).collect(),
            None => pids.into_iter().filter(|pid| pid == main).collect(),
        }
    }

    /// Kills all of them, and those that they start meanwhile.
    pub(super) fn kill(&mut self) {
        for _ in 0..ROUNDS {
            let living = self.among(living());
            if living.is_empty() {
                return;
            }
            for pid in living {
                // The error is that it has gone by itself.
                kill(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
        }
    }
}

fn namespace_of(pid: i32) -> Option<String> {
    let link = fs::read_link(format!("/proc/{pid}/ns/cgroup")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

/// Every process but init.
pub(super) fn processes() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != 1).collect()
}

/// The same without those that are dead and wait to be reaped.
fn living() -> Vec<i32> {
    let lives = |pid: &i32| state(&format!("/proc/{pid}/stat")).is_some_and(|state| !matches!(state, b'Z' | b'X'));
    processes().into_iter().filter(lives).collect()
}

/// How many there are.
pub(super) fn census() -> u64 {
    living().len() as u64
}

/// The letter after the name in parentheses, which is the program's to choose; proc_pid_stat(5).
fn state(path: &str) -> Option<u8> {
    let text = fs::read(path).ok()?;
    let after = text.iter().rposition(|byte| *byte == b')')?;
    text.get(after + 2).copied()
}

/// Stops every process, or lets all go on: what a host without cgroups has for a freezer. A program that
/// looks can see it, and one that was stopped before goes on too.
pub(super) fn freeze(on: bool) {
    let deadline = Instant::now() + STOP_TIME;
    loop {
        // The error is that there is none.
        kill(Pid::from_raw(-1), if on { Signal::SIGSTOP } else { Signal::SIGCONT }).ok();
        if !on || processes().into_iter().all(is_stopped) || Instant::now() >= deadline {
            return;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn is_stopped(pid: i32) -> bool {
    let stopped = |path: String| state(&path).is_none_or(|state| matches!(state, b'T' | b't' | b'Z' | b'X'));
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().all(|thread| stopped(format!("{}/stat", thread.path().display())))
}
