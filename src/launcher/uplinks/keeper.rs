//! The keeper of the zygote: where that dies, by whatever hand, it makes another.
//!
//! It waits and forks and does nothing else: it reads no byte of anybody's, and so has little to die of. The
//! socket to the launcher is the next zygote's as it was the last one's.

use std::time::{Duration, Instant};

use nix::errno::Errno as Number;
use nix::sched::CloneFlags;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Pid, setpgid};

use crate::sys::process::{self, Side};
use crate::sys::{Call, Errno, Result};

/// Shortest time between two zygotes, so that one that can't live is not all that a processor does.
const BETWEEN: Duration = Duration::from_secs(1);

/// Has a zygote at all times, a child that does `work`, until one ends in peace.
pub(super) fn keep(work: impl Fn(Pid) -> Result<()>) -> Result<()> {
    let none = Pid::from_raw(0);
    // The group by which the launcher finds all of them.
    setpgid(none, none).call("setpgid")?;
    // Uplinks of a zygote that died are its own, and reaped when they end.
    prctl::set_child_subreaper(true).call("prctl")?;
    let keeper = Pid::this();
    loop {
        let began = Instant::now();
        match process::clone(CloneFlags::empty(), None) {
            Ok(Side::Child) => process::leave(i32::from(work(keeper).is_err())),
            Ok(Side::Parent(zygote)) => {
                if let WaitStatus::Exited(_, 0) = end_of(zygote.pid)? {
                    return Ok(());
                }
                eprintln!("codesandbox-launcher: what makes uplinks has died; there is another soon");
            }
            // Of memory or processes there may be more soon.
            Err(_) => {}
        }
        std::thread::sleep(BETWEEN.saturating_sub(began.elapsed()));
    }
}

/// Waits for the end of one child, and reaps whatever else ends.
fn end_of(zygote: Pid) -> Result<WaitStatus> {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == Some(zygote) => return Ok(status),
            Ok(_) | Err(Number::EINTR) => {}
            Err(errno) => return Err(Errno { call: "waitpid", errno }),
        }
    }
}

/// In the launcher: kills and reaps a keeper and all that came of it. They become the launcher's own children,
/// one generation after the other.
pub(super) fn end_group(keeper: Pid) {
    let group = Pid::from_raw(-keeper.as_raw());
    // Those that are no children of the launcher yet as well; that there is nobody left is no error.
    kill(group, Signal::SIGKILL).ok();
    loop {
        match waitpid(group, None) {
            Ok(_) | Err(Number::EINTR) => {}
            Err(_) => return,
        }
    }
}
