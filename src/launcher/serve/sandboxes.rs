//! Sandboxes of the launcher: making them, doing things to them, ending them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno as Number;
use nix::sched::CloneFlags;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::{About, Server};
use crate::jail::init::{self, Command, Report};
use crate::jail::template;
use crate::launcher::cgroup::Tree;
use crate::launcher::protocol::Reply;
use crate::launcher::sandbox::{Parts, Phase, Sandbox};
use crate::launcher::view;
use crate::plan::{Identity, Jail, PROGRAM_ID};
use crate::profile::Network;
use crate::sys::{Call, Errno, namespace, process, socket};

impl Server {
    pub(super) fn open(
        &mut self,
        owner: (u64, u64),
        runtime: &str,
        profile: &str,
        disk_bytes: u64,
        disk_files: u64,
    ) -> Result<(), String> {
        if self.stopping || self.leases.contains_key(&owner) {
            return Err("the launcher is stopping, or the lease is in use".to_owned());
        }
        let profile = Arc::clone(self.profiles.get(profile).ok_or("no such profile")?);
        let maximum = &profile.maximum;
        if disk_bytes > maximum.disk_bytes || disk_files > maximum.disk_files {
            return Err("a larger disk than the profile allows".to_owned());
        }
        self.make_template(runtime)?;
        let loopback = profile.network == Network::Loopback;
        let filter = self.filters.get(&(profile.seccomp.clone(), loopback)).ok_or("no such filter")?;
        let filter = Arc::clone(filter);
        let slot = self.slots.take().ok_or("all sandboxes are in use")?;
        let jail = Jail { identity: self.slots.identity(slot), disk_bytes, disk_files };
        let made = self.make(runtime, &jail, profile.network);
        let leaf = self.tree.as_mut().map(Tree::take).transpose().map_err(|errno| errno.to_string());
        let (made, leaf) = match (made, leaf) {
            (Ok(made), Ok(leaf)) => (made, leaf),
            (made, leaf) => {
                self.slots.give_back(slot);
                return Err(made.err().or(leaf.err()).unwrap_or_default());
            }
        };
        let (init, control, network) = made;
        let parts = Parts {
            owner,
            slot,
            identity: jail.identity,
            profile,
            filter,
            network,
            leaf,
            sample_interval_us: self.config.launcher.sample_interval_us,
        };
        self.serial += 1;
        let serial = self.serial;
        let sandbox = Sandbox::new(parts, init, control);
        self.timers.extend(sandbox.timer.map(|due| (due, serial)));
        self.leases.insert(owner, serial);
        let watched = self
            .watch(sandbox.control.as_fd(), About::Control, serial)
            .and_then(|()| self.watch(sandbox.init.pidfd.as_fd(), About::Init, serial));
        self.sandboxes.insert(serial, sandbox);
        if let Err(error) = watched {
            self.destroy(serial, Some(error.to_string()));
        }
        Ok(())
    }

    fn make_template(&mut self, runtime: &str) -> Result<(), String> {
        if self.templates.contains_key(runtime) {
            return Ok(());
        }
        let found = self.catalogue.by_id(runtime).ok_or("no such runtime")?;
        let plan = view::draw_up(found, &self.catalogue.manifest());
        let template = template::build(&plan).map_err(|error| error.to_string())?;
        self.templates.insert(runtime.to_owned(), template);
        Ok(())
    }

    /// Makes init, in the template's mounts and in a network namespace, and lets it go on.
    fn make(
        &mut self,
        runtime: &str,
        jail: &Jail,
        network: Network,
    ) -> Result<(process::Child, OwnedFd, OwnedFd), String> {
        let text = |errno: Errno| errno.to_string();
        let template = self.templates.get(runtime).ok_or("no such template")?;
        let (ours, theirs) = socket::pair().map_err(text)?;
        let network = self.networks.enter(network).map_err(text)?;
        namespace::join(template.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        let started = init::start(jail, &self.init_filter, theirs.as_fd());
        namespace::join(self.home_mounts.as_fd(), CloneFlags::CLONE_NEWNS).map_err(text)?;
        self.networks.leave().map_err(text)?;
        let child = started.map_err(|error| error.to_string())?;
        let mapped = write_maps(&child, jail.identity).map_err(text).and_then(|()| {
            let bytes = postcard::to_allocvec(&Command::Mapped).map_err(|error| error.to_string())?;
            socket::send(ours.as_fd(), &bytes, &[]).map_err(text)
        });
        if let Err(error) = mapped {
            drop(ours);
            // It waits for its maps, hears that nobody is there, and leaves.
            nix::sys::wait::waitpid(child.pid, None).call("waitpid").map_err(text)?;
            return Err(error);
        }
        socket::set_nonblocking(ours.as_fd()).map_err(text)?;
        Ok((child, ours, network))
    }

    /// Does something to a sandbox, and then what follows from it; an error ends the sandbox.
    pub(super) fn change(&mut self, serial: u64, action: impl FnOnce(&mut Sandbox) -> Result<(), String>) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        let timer = sandbox.timer;
        let result = action(sandbox).and_then(|()| sandbox.go_on(self.home_pids.as_fd()));
        let after = sandbox.timer;
        if timer != after {
            self.timers.extend(after.map(|due| (due, serial)));
            if let Some(due) = timer {
                self.timers.remove(&(due, serial));
            }
        }
        let result = result.and_then(|started| match (&sandbox.phase, started) {
            (Phase::Running(run), true) => self
                .epoll
                // Once: it stays readable from its end until it is closed, and would wake us all that time.
                .add(
                    &run.child.pidfd,
                    EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, About::Program.token(serial)),
                )
                .call("epoll_ctl")
                .map_err(|errno| {
                    // No event will tell of its end.
                    run.end_now();
                    errno.to_string()
                }),
            _ => Ok(()),
        });
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
        let (connection, lease) = sandbox.owner;
        let mut reply = None;
        let mut tree = self.tree.take();
        self.change(serial, |sandbox| {
            match report.map_err(|_| "init does not make sense".to_owned())? {
                Report::Ready => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Opened { lease });
                }
                Report::Failed(step, errno) => {
                    return Err(format!("{step:?}: {}", Number::from_raw(errno).desc()));
                }
                Report::Unpacked(result) => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Unpacked { lease, result });
                }
                Report::Exceeded(cause) => sandbox.kill(cause).map_err(|errno| errno.to_string())?,
                Report::Finished(finished) => {
                    reply = sandbox.finished(finished).map(|ending| Reply::Ended { lease, ending });
                    let spent = sandbox.leaf.take_if(|leaf| !leaf.can_be_used_again());
                    if let (Some(leaf), Some(tree)) = (spent, &mut tree) {
                        tree.give_back(leaf);
                        sandbox.leaf = Some(tree.take().map_err(|errno| errno.to_string())?);
                    }
                }
                Report::Collected => {
                    sandbox.phase = Phase::Idle;
                    reply = Some(Reply::Collected { lease });
                }
            }
            Ok(())
        });
        self.tree = tree;
        if let Some(reply) = reply {
            self.reply(connection, &reply);
        }
    }

    /// Ends a sandbox; with a reason it has failed, without one its owner wanted so or is gone.
    pub(super) fn destroy(&mut self, serial: u64, failed: Option<String>) {
        let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
            return;
        };
        if let Some(due) = sandbox.timer {
            self.timers.remove(&(due, serial));
        }
        if !matches!(sandbox.phase, Phase::Dying(_)) {
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
            self.networks.give_back(sandbox.profile.network, network);
        }
        if let (Some(leaf), Some(tree)) = (sandbox.leaf.take(), &mut self.tree) {
            tree.give_back(leaf);
        }
        self.slots.give_back(sandbox.slot);
        self.leases.remove(&sandbox.owner);
        let (connection, lease) = sandbox.owner;
        let reply = match sandbox.failed.take() {
            Some(reason) => Reply::Failed { lease, reason },
            None => Reply::Closed { lease },
        };
        self.reply(connection, &reply);
    }
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
