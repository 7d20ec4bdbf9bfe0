//! What the jail and its users want of the host beyond its kernel: cgroups, ids, sysctls, memory,
//! runtimes, a daemon.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::super::service::{self, Place};
use super::{Check, Remedy, State};
use crate::api::wire::HealthResponse;
use crate::client::Client;
use crate::launcher::{Delegation, Footing, delegation, footing};

/// Looks at everything.
pub(super) fn checks(place: &Place) -> Vec<Check> {
    let mut checks = vec![cgroups(), ids()];
    checks.extend(SYSCTLS.iter().filter_map(Sysctl::check));
    checks.extend([memory(), runtimes(place), systemd(), daemon(place)]);
    checks
}

fn cgroups() -> Check {
    let (state, detail) = match delegation() {
        Delegation::Granted(group) => (State::Found, format!("limits are held in {}", group.display())),
        Delegation::Absent(why) => {
            (State::Degraded, format!("{why}; limits are held by rlimits and a sampler (\"enforced_by\":\"rlimit\")"))
        }
    };
    Check::new(
        "cgroup2",
        "limits of memory, processes and processor time hold for a sandbox as a whole",
        state,
        detail,
        Remedy {
            nixos: "services.codeSandbox.enable = true; (its launcher has Delegate=yes)",
            debian: "systemd-run --user --scope -p Delegate=yes codesandbox …; with cgroup v1, boot with \
                     systemd.unified_cgroup_hierarchy=1",
        },
    )
}

fn ids() -> Check {
    let (state, detail) = match footing() {
        Footing::Root => (State::Found, "as root: every sandbox has user ids of its own"),
        Footing::Capable(_) | Footing::Helped(_) => (State::Found, "every sandbox has user ids of its own"),
        Footing::Single => (
            State::Degraded,
            "no subordinate ids, or no newuidmap: all sandboxes share your user id, so their init is not \
             kept from their program by its id",
        ),
    };
    Check::new(
        "user-ids",
        "two sandboxes never share a user id, nor does a program share that of its init",
        state,
        detail.to_owned(),
        Remedy {
            nixos: "users.users.<name>.autoSubUidGidRange = true;",
            debian: "apt install uidmap; usermod --add-subuids 100000-165535 --add-subgids 100000-165535 <name>",
        },
    )
}

/// A switch of the kernel that can forbid what the jail needs.
struct Sysctl {
    name: &'static str,
    purpose: &'static str,
    /// Whether a value allows it.
    allows: fn(u64) -> bool,
    /// Whether root is exempt.
    spares_root: bool,
    remedy: Remedy,
}

const SYSCTLS: &[Sysctl] = &[
    Sysctl {
        name: "user.max_user_namespaces",
        purpose: "each sandbox is a user namespace",
        allows: |value| value >= 16,
        spares_root: false,
        remedy: Remedy {
            nixos: "boot.kernel.sysctl.\"user.max_user_namespaces\" = 15000;",
            debian: "sysctl -w user.max_user_namespaces=15000",
        },
    },
    Sysctl {
        name: "kernel.unprivileged_userns_clone",
        purpose: "ordinary users may make user namespaces",
        allows: |value| value != 0,
        spares_root: true,
        remedy: Remedy {
            nixos: "security.unprivilegedUsernsClone = true;",
            debian: "sysctl -w kernel.unprivileged_userns_clone=1",
        },
    },
    Sysctl {
        name: "kernel.apparmor_restrict_unprivileged_userns",
        purpose: "user namespaces of ordinary users may mount",
        allows: |value| value == 0,
        spares_root: true,
        remedy: Remedy {
            nixos: "boot.kernel.sysctl.\"kernel.apparmor_restrict_unprivileged_userns\" = 0;",
            debian: "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        },
    },
];

impl Sysctl {
    /// `None` where the kernel has no such switch, which forbids nothing then.
    fn check(&self) -> Option<Check> {
        let path = format!("/proc/sys/{}", self.name.replace('.', "/"));
        let value: u64 = fs::read_to_string(path).ok()?.trim().parse().ok()?;
        let exempt = self.spares_root && nix::unistd::geteuid().is_root();
        let state = match ((self.allows)(value), exempt) {
            (true, _) => State::Found,
            (false, true) => State::Noted,
            (false, false) => State::Missing,
        };
        let detail = if state == State::Noted { format!("{value}; root is exempt") } else { value.to_string() };
        Some(Check::new(self.name, self.purpose, state, detail, self.remedy))
    }
}

/// Memory that a default run may take; less than this and ordinary runs fail.
const MEMORY_WANTED_KIB: u64 = 512 << 10;

fn memory() -> Check {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse::<u64>().ok());
    let (state, detail) = match available {
        Some(kib) if kib < MEMORY_WANTED_KIB => (State::Degraded, format!("{} MiB available", kib >> 10)),
        Some(kib) => (State::Found, format!("{} MiB available", kib >> 10)),
        None => (State::Noted, "/proc/meminfo does not tell".to_owned()),
    };
    Check::new(
        "memory",
        "a run may take 512 MiB by default",
        state,
        detail,
        Remedy {
            nixos: "lower services.codeSandbox.settings.profiles.default.run.memory_bytes, or add memory",
            debian: "run with --limit memory=128M, or add memory",
        },
    )
}

fn runtimes(place: &Place) -> Check {
    let (state, detail) = match crate::daemon::load(place.config.as_deref()) {
        Ok((_, catalogue)) => {
            let count = catalogue.runtimes().len();
            let mut names: Vec<&str> = catalogue.runtimes().iter().map(|one| one.language.name.as_str()).collect();
            names.dedup();
            let state = if count == 0 { State::Missing } else { State::Found };
            (state, format!("{count}: {}", names.join(", ")))
        }
        Err(error) => (State::Missing, error.to_string()),
    };
    Check::new(
        "runtimes",
        "languages that can be run",
        state,
        detail,
        Remedy {
            nixos: "services.codeSandbox.runtimes = [ \"python@3.12\" … ];",
            debian: "apt install python3 nodejs gcc g++ …",
        },
    )
}

fn systemd() -> Check {
    let (state, detail) = if Path::new("/run/systemd/system").is_dir() {
        (State::Found, "it can start the service and delegate cgroups")
    } else {
        (State::Noted, "not running; codesandbox works without it")
    };
    let remedy = Remedy { nixos: "", debian: "" };
    Check::new("systemd", "starts the service and delegates cgroups", state, detail.to_owned(), remedy)
}

/// How long a daemon may take to say that it is well.
const PATIENCE: Duration = Duration::from_secs(3);

fn daemon(place: &Place) -> Check {
    let socket = place.socket_path();
    let answer = service::runtime().map(|runtime| {
        runtime.block_on(async { tokio::time::timeout(PATIENCE, Client::unix(&socket).health()).await })
    });
    let (state, detail) = match answer {
        Ok(Ok(Ok(HealthResponse { reason: Some(reason), .. }))) => {
            (State::Degraded, format!("{}: {reason}", socket.display()))
        }
        Ok(Ok(Ok(_))) => (State::Found, format!("answers on {}", socket.display())),
        Ok(Ok(Err(error))) if error.is_absent() => {
            (State::Noted, format!("none on {}; codesandbox runs without one", socket.display()))
        }
        Ok(Ok(Err(error))) => (State::Degraded, format!("{}: {error}", socket.display())),
        Ok(Err(_)) => (State::Degraded, format!("{}: no answer in {} s", socket.display(), PATIENCE.as_secs())),
        Err(error) => (State::Degraded, error.to_string()),
    };
    Check::new(
        "daemon",
        "the service that keeps sandboxes ready for all users",
        state,
        detail,
        Remedy {
            nixos: "users.users.<name>.extraGroups = [ \"codesandbox-clients\" ]; and journalctl -u codesandboxd",
            debian: "usermod -aG codesandbox-clients <name>; journalctl -u codesandboxd",
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_that_the_kernel_lacks_forbids_nothing() {
        let sysctl = Sysctl { name: "kernel.no_such_switch", ..SYSCTLS[0] };
        assert_eq!(sysctl.check(), None);
    }
}
