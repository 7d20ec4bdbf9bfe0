//! Sandboxes of the launcher: making them, doing things to them, ending them.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno as Number;
use nix::sched::CloneFlags;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::network::Owner;
use super::sessions::{borrowed, user_namespace};
use super::trees::{Fitting, Fittings};
use super::{About, Server};
use crate::jail::init::{self, Command, Report};
use crate::jail::template;
use crate::launcher::cgroup::Tree;
use crate::launcher::netns::Entered;
use crate::launcher::pool::Key;
use crate::launcher::protocol::{NO_SLOT, Reply};
use crate::launcher::sandbox::{News, Parts, Phase, Sandbox};
use crate::launcher::secrets;
use crate::launcher::view;
use crate::launcher::workspace::Mounts;
use crate::plan::tree::places;
use crate::plan::{Identity, Jail, PROGRAM_ID, Spec};
use crate::profile::Network;
use crate::sys::{Call, Errno, namespace, process, socket};

impl Server {
    /// Makes a sandbox, and the program that is to run first in it.
    pub(super) fn make(
        &mut self,
        key: &Key,
        owner: Option<(u64, u64)>,
        (disk_bytes, disk_files): (u64, u64),
        renewable: bool,
        reach: Network,
        fittings: &Fittings,
    ) -> Result<u64, String> {
        let profile = Arc::clone(self.profiles.get(&key.profile).ok_or("no such profile")?);
        self.make_template(&key.runtime, reaches_out(&reach), fittings.fitting())?;
        let loopback = reach.has_sockets();
        let filter = self.filters.get(&(profile.seccomp.clone(), loopback)).ok_or("no such filter")?;
        let filter = Arc::clone(filter);
        let slot = self.slots.take().ok_or(NO_SLOT)?;
        let identity = self.slots.identity(slot);
        // Where init is the same user as the program, it is to have no more than it must.
        let renewable = renewable && matches!(identity, Identity::Own { .. });
        let trees = fittings.places();
        let jail = Jail { identity, disk_bytes, disk_files, workspace: None, furnished: false, trees, renewable };
        let (init, control, entered) = match self.make_init(&key.runtime, &jail, &reach, None, fittings) {
            Ok(made) => made,
            Err(reason) => {
                self.slots.give_back(slot);
                return Err(reason);
            }
        };
        let Entered { namespace, sockets, granted } = entered;
        let parts = Parts {
            owner,
            key: key.clone(),
            slot,
            identity: jail.identity,
            profile,
            filter,
            network: namespace,
            reach: reach.clone(),
            trees: fittings.trees.iter().map(|(_, tree)| Arc::clone(tree)).collect(),
            sample_interval_us: self.config.launcher.sample_interval_us,
        };
        self.serial += 1;
        let serial = self.serial;
        let sandbox = Sandbox::new(parts, init, control);
        self.timers.extend(sandbox.timer.map(|due| (due, serial)));
        let watched = self
            .watch(sandbox.control.as_fd(), About::Control, serial)
            .and_then(|()| self.watch(sandbox.init.pidfd.as_fd(), About::Init, serial));
        self.sandboxes.insert(serial, sandbox);
        if let Some(owner) = owner {
            self.leases.insert(owner, serial);
        }
        if let Err(error) = watched {
            self.destroy(serial, Some(error.to_string()));
            return Ok(serial);
        }
        let connected =
            self.connect_sandbox(Owner::Sandbox(serial), self.slots.uplink(slot), &reach, (sockets, granted));
        if let (None, Err(reason)) = (owner, &connected) {
            self.destroy(serial, Some(reason.clone()));
            return Ok(serial);
        }
        if let Some(sandbox) = self.sandboxes.get_mut(&serial) {
            match connected {
                Ok(uplink) => (sandbox.uplink, sandbox.gated) = (uplink, uplink.is_some()),
                Err(reason) => sandbox.network_error = Some(reason),
            }
        }
        // Init mounts meanwhile.
        let boot = self.boot_spec(key);
        self.change(serial, |sandbox, home, tree, _| {
            let boot = boot?;
            sandbox.stage(home, tree, boot.as_ref().map(|(_, directory)| directory.as_path()))?;
            boot.map_or(Ok(()), |(spec, _)| sandbox.boot(spec.as_fd()))
        });
        Ok(serial)
    }

    /// What starts the interpreter of a warm sandbox, and where.
    fn boot_spec(&self, key: &Key) -> Result<Option<(OwnedFd, PathBuf)>, String> {
        if !key.warm {
            return Ok(None);
        }
        let memory_bytes = self.profiles.get(&key.profile).ok_or("no such profile")?.run.memory_bytes;
        let runtime = self.catalogue.by_id(&key.runtime).ok_or("no such runtime")?;
        let (line, warm) = runtime.boot_line(memory_bytes).zip(runtime.warm()).ok_or("it has no warm start")?;
        let spec = crate::sys::fs::sealed_memory(c"boot", &Spec::new(&line.argv, &line.env).encode())
            .map_err(|errno| errno.to_string())?;
        Ok(Some((spec, warm.directory.clone())))
    }

    /// Builds what sandboxes see, where that is not there yet: those of a runtime, or, where each stands in
    /// a line of its own, those of sessions that have several.
    pub(super) fn make_template(&mut self, runtimes: &str, networked: bool, fitting: Fitting) -> Result<(), String> {
        let key = (runtimes.to_owned(), networked, fitting);
        if self.templates.contains_key(&key) {
            return Ok(());
        }
        let mut plan = match &self.grant {
            Some(grant) => view::draw_up_real(&grant.real),
            None => {
                let found = |id| self.catalogue.by_id(id).ok_or("no such runtime");
                let found = runtimes.lines().map(found).collect::<Result<Vec<_>, _>>()?;
                view::draw_up(&found, &self.catalogue.manifest(), runtimes.ends_with('\n'))
            }
        };
        if networked {
            view::add_network(&mut plan, self.config.network.certificates());
        }
        match fitting {
            Fitting::Plain => {}
            Fitting::Trees => plan.directories.extend(places()),
            Fitting::Installer(ecosystem) => {
                view::add_installer(&mut plan, ecosystem, self.config.dependencies.of(ecosystem));
            }
        }
        let template = template::build(&plan).map_err(|error| error.to_string())?;
        self.templates.insert(key, template);
        Ok(())
    }

    /// Makes init, in the template's mounts and in a network namespace, and lets it go on.
    pub(super) fn make_init(
        &mut self,
        runtime: &str,
        jail: &Jail,
        network: &Network,
        workspace: Option<&Mounts>,
        fittings: &Fittings,
    ) -> Result<(process::Child, OwnedFd, Entered), String> {
        let text = |errno: Errno| errno.to_string();
        let key = (runtime.to_owned(), reaches_out(network), fittings.fitting());
        let trees =
            fittings.trees.iter().map(|(_, tree)| tree.sealed()).collect::<Result<Vec<_>, _>>().map_err(text)?;
        let template = self.templates.get(&key).ok_or("no such template")?;
        let (ours, theirs) = socket::pair().map_err(text)?;
        let mut entered = self.networks.enter(network).map_err(text)?;
        namespace::join(template.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        let [plain, renewable] = &self.init_filters;
        let filter = if jail.renewable { renewable } else { plain };
        let started = init::start(jail, filter, theirs.as_fd());
        namespace::join(self.home_mounts.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        self.networks.leave().map_err(text)?;
        let child = started.map_err(|error| error.to_string())?;
        // After it was made: no process of a sandbox has ever had a secret in its memory.
        let additions = self.hand_out(network, &mut entered);
        let mapped = write_maps(&child, jail.identity).map_err(text).and_then(|()| {
            if let (Some(mounts), Identity::Own { .. }) = (workspace, jail.identity) {
                mounts.map_ids(user_namespace(child.pid).map_err(text)?.as_fd()).map_err(text)?;
            }
            let additions = additions?;
            let mapped = Command::Mapped { additions: additions.is_some() };
            let bytes = postcard::to_allocvec(&mapped).map_err(|error| error.to_string())?;
            let stores = workspace.map_or(&[][..], |mounts| &mounts.stores);
            let additions = additions.iter().map(AsFd::as_fd);
            let descriptors = additions.chain(borrowed(stores)).chain(borrowed(&trees)).collect::<Vec<_>>();
            socket::send(ours.as_fd(), &bytes, &descriptors).map_err(text)
        });
        if let Err(error) = mapped {
            drop(ours);
            // It waits for its maps, hears that nobody is there, and leaves.
            nix::sys::wait::waitpid(child.pid, None).call("waitpid").map_err(text)?;
            return Err(error);
        }
        socket::set_nonblocking(ours.as_fd()).map_err(text)?;
        Ok((child, ours, entered))
    }

    /// What a sandbox has that has secrets, as a memory file for init. What they are goes along with what its uplink
    /// is to serve; where one can't be had, there is no network.
    fn hand_out(&self, network: &Network, entered: &mut Entered) -> Result<Option<OwnedFd>, String> {
        let (Network::Allow(list), Some(Ok(_))) = (network, &entered.sockets) else {
            return Ok(None);
        };
        let handed = match secrets::hand_out(list, &self.config) {
            Ok(Some(handed)) => handed,
            Ok(None) => return Ok(None),
            Err(reason) => {
                entered.sockets = Some(Err(reason));
                return Ok(None);
            }
        };
        entered.granted = Some(handed.granted);
        let bytes = postcard::to_allocvec(&handed.additions).map_err(|error| error.to_string())?;
        crate::sys::fs::sealed_memory(c"additions", &bytes).map(Some).map_err(|errno| errno.to_string())
    }

    /// Does something to a sandbox, and then what follows from it; an error ends the sandbox.
    pub(super) fn change(
        &mut self,
        serial: u64,
        action: impl FnOnce(&mut Sandbox, BorrowedFd<'_>, Option<&mut Tree>, &mut News) -> Result<(), String>,
    ) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        let (timer, owner, mut news) = (sandbox.timer, sandbox.owner, News::default());
        let (home, tree) = (self.home_pids.as_fd(), &mut self.tree);
        let watched = sandbox.program_pid();
        let result = action(sandbox, home, tree.as_mut(), &mut news)
            .and_then(|()| sandbox.go_on(home, tree.as_mut(), &mut news));
        let after = sandbox.timer;
        if timer != after {
            self.timers.extend(after.map(|due| (due, serial)));
            if let Some(due) = timer {
                self.timers.remove(&(due, serial));
            }
        }
        let path = sandbox.path;
        // Whatever has failed: a program that nobody watches would never be reaped.
        let is_watched = match sandbox.program.as_ref().or(sandbox.running()) {
            Some(program) if Some(program.child.pid) != watched => {
                // Once: it stays readable from its end until it is closed, and would wake us all that time.
                let once =
                    |about: About| EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, about.token(serial));
                self.epoll
                    .add(&program.child.pidfd, once(About::Program))
                    .and_then(|()| {
                        program.ready.as_ref().map_or(Ok(()), |ready| self.epoll.add(ready, once(About::Warm)))
                    })
                    .call("epoll_ctl")
                    .map_err(|errno| {
                        // No event will tell of its end.
                        program.end_now();
                        errno.to_string()
                    })
            }
            _ => Ok(()),
        };
        let result = result.and(is_watched);
        if let (Some((connection, lease)), Some(streams)) = (owner, news.started) {
            self.reply(connection, &Reply::Started { lease, path }, streams);
        }
        if let Some(ending) = news.ended {
            self.over(serial, ending);
        }
        if let Err(reason) = result {
            self.destroy(serial, Some(reason));
        }
    }

    /// Init has something to say.
    pub(super) fn report(&mut self, serial: u64) {
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
        let owner = sandbox.owner;
        let (mut not_unpacked, mut is_ready, mut is_renewed) = (None, false, false);
        self.change(serial, |sandbox, home, tree, news| {
            match report.map_err(|_| "init does not make sense".to_owned())? {
                Report::Ready => {
                    if matches!(sandbox.phase, Phase::Making) {
                        sandbox.phase = Phase::Idle;
                    }
                    // A warm one has still to say so itself.
                    is_ready = !sandbox.is_warm();
                }
                Report::Failed(step, errno) => {
                    return Err(format!("{step:?}: {}", Number::from_raw(errno).desc()));
                }
                Report::NotUnpacked(error) => not_unpacked = Some(error),
                Report::Exceeded(_, cause) => sandbox.kill(cause).map_err(|errno| errno.to_string())?,
                Report::Finished(_, finished) => sandbox.finished(finished, news)?,
                Report::Inspected { file_at_limit, disk_full, .. } => sandbox.inspected(file_at_limit, disk_full, news),
                Report::Collected => sandbox.phase = Phase::Idle,
                Report::Renewed => {
                    sandbox.renewed(home, tree)?;
                    is_renewed = true;
                }
                Report::Froze | Report::Census(_) => {}
            }
            Ok(())
        });
        if is_ready {
            self.park(serial);
        }
        if let (Some((connection, lease)), true) = (owner, is_renewed) {
            self.reply(connection, &Reply::Renewed { lease }, Vec::new());
        }
        if let (Some((connection, lease)), Some(error)) = (owner, not_unpacked) {
            self.reply(connection, &Reply::NotUnpacked { lease, error }, Vec::new());
        }
    }

    /// Ends a sandbox; with a reason it has failed, without one its owner wanted so or is gone.
    pub(super) fn destroy(&mut self, serial: u64, failed: Option<String>) {
        let held = self.sandboxes.get_mut(&serial).and_then(|sandbox| sandbox.held.take());
        if let Some(ending) = held {
            self.tell_end(serial, ending);
        }
        let uplink = self.sandboxes.get_mut(&serial).and_then(|sandbox| sandbox.uplink.take());
        drop(self.end_uplink(uplink));
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        if let Some(due) = sandbox.timer {
            self.timers.remove(&(due, serial));
        }
        if !matches!(sandbox.phase, Phase::Dying(..)) {
            self.pool.gone(&sandbox.key, serial, failed.is_some(), Instant::now());
            if let (None, Some(reason)) = (sandbox.owner, &failed) {
                eprintln!("codesandbox-launcher: a parked sandbox of {} is gone: {reason}", sandbox.key.runtime);
            }
            sandbox.failed = failed;
            // Init's last words would wake us forever: nobody reads them.
            self.epoll.delete(&sandbox.control).ok();
        }
        sandbox.destroy();
    }

    /// Init is dead, and with it everything in the sandbox: gives back what it had.
    pub(super) fn init_ended(&mut self, serial: u64) {
        self.destroy(serial, Some("init has died".to_owned()));
        let Some(mut sandbox) = self.sandboxes.remove(&serial) else {
            return;
        };
        // A zombie is all that is left of it, so this does not wait.
        nix::sys::wait::waitpid(sandbox.init.pid, None).ok();
        if let Some(network) = sandbox.network.take() {
            self.networks.give_back(&sandbox.reach, network);
        }
        if let (Some(leaf), Some(tree)) = (sandbox.leaf.take(), &mut self.tree) {
            tree.give_back(leaf);
        }
        self.slots.give_back(sandbox.slot);
        let Some((connection, lease)) = sandbox.owner else {
            return;
        };
        self.leases.remove(&(connection, lease));
        let reply = match sandbox.failed.take() {
            Some(reason) => Reply::Failed { lease, reason, had_begun: sandbox.had_begun() },
            None => Reply::Closed { lease },
        };
        self.reply(connection, &reply, Vec::new());
    }
}

/// Whether programs may reach more than themselves.
pub(super) fn reaches_out(network: &Network) -> bool {
    matches!(network, Network::Allow(_))
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
