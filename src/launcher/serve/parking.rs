//! Sandboxes that wait: handing them over, making new ones when there is nothing else to do, letting
//! go of those that are too many.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use super::Server;
use super::trees::{Fitting, Fittings};
use crate::job::Path;
use crate::launcher::pool::Key;
use crate::launcher::protocol::{Opening, Reach};
use crate::launcher::sandbox::Phase;
use crate::profile::{Limits, Network};
use crate::sys::process;

/// How often to look whether all is as it should be while anything waits.
const ROUND: Duration = Duration::from_secs(1);
/// How long none are made after the list of runtimes that sandboxes see has changed: self-tests change
/// it once for each runtime.
const AFTER_RECORD: Duration = Duration::from_millis(500);
/// How long running programs may keep all processors before one is made all the same.
const PATIENCE: Duration = Duration::from_millis(100);

impl Server {
    /// Hands over a sandbox that waits, or makes one.
    pub(super) fn open(
        &mut self,
        owner: (u64, u64),
        wanted: Opening,
        (reach, given): (Reach, Option<OwnedFd>),
        fittings: &Fittings,
    ) -> Result<(), String> {
        if self.stopping || self.leases.contains_key(&owner) {
            return Err("the launcher is stopping, or the lease is in use".to_owned());
        }
        let Opening { disk_bytes, disk_files, .. } = wanted;
        let key = Key { runtime: wanted.runtime, profile: wanted.profile, warm: wanted.warm };
        let profile = self.profiles.get(&key.profile).ok_or("no such profile")?;
        let maximum = &profile.maximum;
        if disk_bytes > maximum.disk_bytes || disk_files > maximum.disk_files {
            return Err("a larger disk than the profile allows".to_owned());
        }
        let network = self.reached(reach, given, &profile.network)?;
        // Another list can be put into force in one that waits; another kind of network can't.
        let is_usual = network == profile.network
            || matches!((&network, &profile.network), (Network::Allow(_), Network::Allow(_)));
        // One that waits has secrets of another time, and variables and an authority that this job may not be to have.
        let has_secrets = network.has_secrets() || profile.network.has_secrets();
        let has_usual_disk = self.usual_disk(&key) == Some((disk_bytes, disk_files));
        let warm = key.warm
            && self.config.pool.warm
            && self.catalogue.by_id(&key.runtime).is_some_and(|found| found.warm().is_some());
        let key = Key { warm, ..key };
        // None waits that sees more than its runtime.
        let is_plain = fittings.fitting() == Fitting::Plain;
        let renewable = wanted.renewable && !network.has_sockets();
        if !wanted.fresh
            && !renewable
            && is_plain
            && has_usual_disk
            && is_usual
            && !has_secrets
            && let Some(serial) = self.take_parked(&key)
        {
            self.leases.insert(owner, serial);
            if let Some(sandbox) = self.sandboxes.get_mut(&serial) {
                sandbox.owner = Some(owner);
                sandbox.path = if sandbox.key.warm { Path::Warm } else { Path::Parked };
            }
            self.hand_over_network(serial, network);
            return Ok(());
        }
        // What is made for a job alone need not wait for an interpreter to start twice.
        let key = Key { warm: false, ..key };
        self.make(&key, Some(owner), (disk_bytes, disk_files), renewable, network, fittings).map(drop)
    }

    /// The network of a sandbox that has waited is looked at before it is anybody's, and made narrower where
    /// less is to be reached.
    fn hand_over_network(&mut self, serial: u64, network: Network) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        let Some(uplink) = sandbox.uplink else {
            return;
        };
        let policy = match &network {
            Network::Allow(list) if network != sandbox.reach => Some((**list).clone()),
            _ => None,
        };
        (sandbox.gated, sandbox.reach) = (true, network);
        if let Err(reason) = self.ask_uplink(uplink, policy) {
            self.destroy(serial, Some(format!("its uplink can't be asked: {reason}")));
        }
    }

    /// One that waits and lives; where no interpreter does, a sandbox without one is better than none.
    fn take_parked(&mut self, key: &Key) -> Option<u64> {
        let now = Instant::now();
        let cold = Key { warm: false, ..key.clone() };
        self.pool.asked(key, now);
        // One that is ready before one that is not, which still is further than one that is yet to be made.
        while let Some(serial) =
            self.pool.take_ready(key).or_else(|| self.pool.take_ready(&cold)).or_else(|| self.pool.take_making(key))
        {
            let Some(sandbox) = self.sandboxes.get(&serial) else { continue };
            let is_alive = !matches!(sandbox.phase, Phase::Dying(..))
                && sandbox.owner.is_none()
                && matches!(process::has_ended(sandbox.init.pidfd.as_fd()), Ok(false))
                && sandbox
                    .program
                    .as_ref()
                    .is_some_and(|program| matches!(process::has_ended(program.child.pidfd.as_fd()), Ok(false)));
            if is_alive {
                return Some(serial);
            }
            self.destroy(serial, Some("it died while it waited".to_owned()));
        }
        None
    }

    /// Size of the disk that jobs of a runtime have that ask for nothing else; no other waits.
    fn usual_disk(&self, key: &Key) -> Option<(u64, u64)> {
        let profile = self.profiles.get(&key.profile)?;
        let is_compiled = self.catalogue.by_id(&key.runtime)?.language.compile.is_some();
        let larger = |of: fn(&Limits) -> u64| {
            if is_compiled { of(&profile.run).max(of(&profile.compile)) } else { of(&profile.run) }
        };
        Some((larger(|limits| limits.disk_bytes), larger(|limits| limits.disk_files)))
    }

    /// A sandbox is complete; where it is nobody's, it waits from now on.
    pub(super) fn park(&mut self, serial: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        if sandbox.owner.is_some() {
            // Somebody could not wait; what was asked meanwhile is begun.
            return self.change(serial, |_, _, _, _| Ok(()));
        }
        if let Some(due) = sandbox.timer.take() {
            self.timers.remove(&(due, serial));
        }
        let held = [Some(sandbox.init.pid), sandbox.program_pid()].into_iter().flatten().map(private_bytes).sum();
        self.pool.ready(&sandbox.key, serial, sandbox.made.elapsed(), held);
    }

    /// The interpreter of a warm sandbox says that it has started.
    pub(super) fn hear_interpreter(&mut self, serial: u64) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        let mut byte = [0];
        let said = sandbox.program.as_mut().and_then(|program| program.ready.take());
        match said.map(|pipe| nix::unistd::read(&pipe, &mut byte)) {
            Some(Ok(1)) => self.park(serial),
            // Its end is seen as well; here it is only known that it will never be ready.
            Some(_) => {
                self.destroy(serial, Some("its interpreter did not start".to_owned()));
            }
            None => {}
        }
    }

    /// When to look after those that wait, if any do.
    pub(super) fn next_round(&self) -> Option<Instant> {
        (!self.pool.is_empty()).then_some(self.next_round)
    }

    /// Whether there is one to be made as soon as nothing else is to be done.
    pub(super) fn has_one_to_make(&mut self) -> bool {
        if self.stopping {
            return false;
        }
        let now = Instant::now();
        let is_wanting = self.pool.wanting(now, self.most_making(), self.available_bytes).is_some();
        if !is_wanting {
            self.wanting_since = None;
            return false;
        }
        let since = *self.wanting_since.get_or_insert(now);
        let running = self.sandboxes.values().filter(|sandbox| sandbox.running().is_some()).count();
        running < self.processors || now.saturating_duration_since(since) > PATIENCE
    }

    fn most_making(&self) -> usize {
        (self.processors / 2).max(1)
    }

    /// Makes one that is wanting.
    pub(super) fn make_one(&mut self) {
        let now = Instant::now();
        let Some(key) = self.pool.wanting(now, self.most_making(), self.available_bytes) else {
            return;
        };
        self.wanting_since = None;
        let Some((disk_bytes, disk_files)) = self.usual_disk(&key) else {
            // It is not known any more, and forgotten with the next change.
            return self.pool.hold_until(now + ROUND);
        };
        // As many places as jobs can run at one time are for jobs, and half of all in any case.
        let most = self.config.launcher.sandboxes;
        let jobs = match self.config.service.concurrency {
            0 => self.processors,
            slots => slots,
        };
        let parked = self.sandboxes.values().filter(|sandbox| sandbox.owner.is_none()).count();
        let made = if parked < (most / 2).min(most.saturating_sub(jobs)) && self.sandboxes.len() < most {
            let network = self.profiles.get(&key.profile).map(|profile| profile.network.clone());
            let network = network.unwrap_or_default();
            self.make(&key, None, (disk_bytes, disk_files), false, network, &Fittings::default())
        } else {
            self.pool.hold_until(now + ROUND);
            return;
        };
        let lives =
            |serial: &u64| self.sandboxes.get(serial).is_some_and(|sandbox| !matches!(sandbox.phase, Phase::Dying(..)));
        match made {
            Ok(serial) if lives(&serial) => return self.pool.making(&key, serial),
            // Why is told already.
            Ok(_) => {}
            Err(reason) => eprintln!("codesandbox-launcher: none can wait for {}: {reason}", key.runtime),
        }
        self.pool.failed(&key, now);
    }

    /// Lets go of those that are too many, or that there is no memory for.
    pub(super) fn look_after_parked(&mut self) {
        let now = Instant::now();
        if now < self.next_round {
            return;
        }
        self.next_round = now + ROUND;
        self.available_bytes = available_bytes();
        for serial in self.pool.surplus(now, self.available_bytes) {
            self.destroy(serial, None);
        }
    }

    /// Lets go of all, because what they were made from has changed.
    pub(super) fn retire_parked(&mut self) {
        let bounds = self.config.pool.clone().resolved();
        let known =
            |key: &Key| self.profiles.contains_key(&key.profile) && self.catalogue.by_id(&key.runtime).is_some();
        for serial in self.pool.retire(bounds, known) {
            self.destroy(serial, None);
        }
        self.expect_floors();
    }

    /// The same, when only the list of runtimes has changed, which it soon does again.
    pub(super) fn retire_after_record(&mut self) {
        self.retire_parked();
        self.pool.hold_until(Instant::now() + AFTER_RECORD);
    }

    /// Those that are to wait whether or not anybody asks.
    pub(super) fn expect_floors(&mut self) {
        for runtime in self.catalogue.runtimes() {
            let warm = self.config.pool.warm && runtime.warm().is_some();
            let has_secrets = self.profiles.get("default").is_some_and(|profile| profile.network.has_secrets());
            if has_secrets || self.pool.bounds().floor_of(&runtime.id, "default") == 0 {
                continue;
            }
            let key = Key { runtime: runtime.id.clone(), profile: "default".to_owned(), warm: false };
            if warm {
                self.pool.expect(&Key { warm, ..key.clone() });
            }
            // What is compiled needs one without an interpreter as well.
            if !warm || runtime.language.compile.is_some() {
                self.pool.expect(&key);
            }
        }
    }
}

/// Memory that is a process's alone, as nearly as a cheap look tells: resident, and of no file;
/// proc_pid_statm(5).
fn private_bytes(pid: nix::unistd::Pid) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut pages = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().unwrap_or(0));
    let (resident, shared) = (pages.next().unwrap_or(0), pages.next().unwrap_or(0));
    let page = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().unwrap_or(4096);
    resident.saturating_sub(shared) * page.unsigned_abs()
}

/// Memory of the host that programs can have without others being put out; proc_meminfo(5).
pub(super) fn available_bytes() -> u64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: Option<u64> = line.and_then(|line| line.trim().split(' ').next()?.parse().ok());
    kib.map_or(u64::MAX, |kib| kib * 1024)
}
