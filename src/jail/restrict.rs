//! Landlock as a second lock on files, TCP, abstract sockets and signals; landlock(7).

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr,
    RulesetCreatedAttr, RulesetStatus, Scope,
};
use nix::errno::Errno as Number;

use crate::sys::Errno;

/// The newest version of the interface that is asked for; older kernels enforce what they know.
const NEWEST: ABI = ABI::V6;

/// What the program may write to where nothing else is said; all that it sees it may read and execute.
const WRITABLE: [&str; 3] = ["/workspace", "/tmp", "/dev/shm"];
/// Devices that it may read and write.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];

/// Terminals of a session's sandbox, and what leads to them.
const TERMINALS: [&str; 2] = ["/dev/pts", "/dev/tty"];

/// Holds the calling process and its descendants to `writable` paths, the usual ones where there are none; forbids TCP unless `loopback`,
/// and keeps signals and abstract sockets within the sandbox. In that of a session the namespaces alone do so:
/// Landlock would keep its programs from one another.
///
/// # Errors
/// ENOSYS or EOPNOTSUPP where the kernel has no Landlock.
pub(super) fn restrict(loopback: bool, session: bool, writable: Option<&[PathBuf]>) -> Result<(), Errno> {
    let status = enforce(loopback, session, writable)
        .map_err(|_| Errno { call: "landlock_restrict_self", errno: Number::last() })?;
    if status == RulesetStatus::NotEnforced {
        return Err(Errno { call: "landlock_create_ruleset", errno: Number::EOPNOTSUPP });
    }
    Ok(())
}

fn enforce(
    loopback: bool,
    session: bool,
    writable: Option<&[PathBuf]>,
) -> Result<RulesetStatus, Box<dyn std::error::Error>> {
    let everything = AccessFs::from_all(NEWEST);
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(ABI::V1))?
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(everything)?;
    if !session {
        ruleset = ruleset.scope(Scope::from_all(NEWEST))?;
    }
    if !loopback {
        ruleset = ruleset.handle_access(AccessNet::from_all(NEWEST))?;
    }
    let mut ruleset = ruleset.create()?.add_rule(PathBeneath::new(PathFd::new("/")?, AccessFs::from_read(NEWEST)))?;
    let usual = WRITABLE.map(PathBuf::from);
    for path in writable.unwrap_or(&usual) {
        // A rule for a file may not name what is done to directories.
        let access = if path.is_dir() { everything } else { AccessFs::from_file(NEWEST) };
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    let terminals = TERMINALS.iter().filter(|_| session);
    for path in DEVICES.iter().chain(terminals) {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
        ruleset = ruleset.add_rule(PathBeneath::new(PathFd::new(path)?, access))?;
    }
    Ok(ruleset.restrict_self()?.ruleset)
}
