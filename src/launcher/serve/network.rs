//! Networks of sandboxes that may reach something: their uplinks, what is asked of those, and what they
//! say.
//!
//! No program is let go before its uplink has said that it serves and that the rules are those of the
//! policy. Where an uplink can't be had, or is gone, there is no network, and whoever has the sandbox is
//! told; where one says that the rules are others than they should be, the sandbox is ended.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno as Number;

use super::{About, Server};
use crate::config::Config;
use crate::job::{DeniedFlow, Ending};
use crate::launcher::protocol::{REACH_BYTES, Reach, Reply, SessionEvent, SessionKey};
use crate::launcher::uplinks::{Client, Process};
use crate::network::secrets::Granted;
use crate::network::{Order, Report, Sockets, order};
use crate::profile::{AllowList, Network};
use crate::sys::{Errno, fs, socket};

/// Longest that an uplink may take to begin, or to answer.
const ANSWER: Duration = Duration::from_secs(5);
/// Longest that the end of a program waits for what its uplink has still to say.
const FLUSH: Duration = Duration::from_millis(50);
/// Largest report of an uplink, in bytes.
const REPORT_BYTES: usize = 256 << 10;
/// Most reports of one uplink that are taken at once.
const REPORTS: usize = 16;
/// The port of name servers.
const NAME_SERVER_PORT: u16 = 53;

/// Whose an uplink is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// The sandbox of a job, by its serial number.
    Sandbox(u64),
    /// A session's.
    Session(SessionKey),
}

/// The way out of one sandbox, seen from the launcher. Nothing of it is left when this is dropped.
#[derive(Debug)]
pub(super) struct Uplink {
    owner: Owner,
    control: OwnedFd,
    /// As soon as the zygote has told.
    process: Option<Process>,
    is_ready: bool,
    /// How often it has still to say that the rules hold.
    asked: u32,
    /// When it must have said so.
    answer_due: Option<Instant>,
    /// How often it has still to say that it has told all.
    flushes: u32,
    /// How long that is waited for.
    flush_due: Option<Instant>,
    /// Of the two, what the server's timers know.
    timer: Option<Instant>,
}

impl Drop for Uplink {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.kill();
        }
        // Else it sees that nobody holds the other end of its control socket.
    }
}

impl Server {
    /// Who makes uplinks is heard from now on.
    pub(super) fn watch_zygote(&mut self) {
        let watched = self.zygote.as_ref().map(|zygote| self.watch(zygote.socket(), About::Zygote, 0));
        if let Some(Err(errno)) = watched {
            eprintln!("codesandbox-launcher: {errno}");
            self.zygote_gone();
        }
    }

    /// What a sandbox is to reach, checked against its profile. Under a grant its owner is who says what may be
    /// reached.
    pub(super) fn reached(&self, reach: Reach, given: Option<OwnedFd>, profile: &Network) -> Result<Network, String> {
        match reach {
            Reach::AsProfile => Ok(profile.clone()),
            Reach::Nothing => Ok(Network::None),
            Reach::Given => {
                let given = given.ok_or("a request came without its descriptors")?;
                let text = fs::read_whole(given.as_fd(), REACH_BYTES).map_err(|errno| errno.to_string())?;
                let network: Network = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
                match (&network, profile) {
                    // It was read as one that stands for itself.
                    (Network::Allow(_), Network::Allow(_)) if self.grant.is_some() => Ok(network),
                    _ => network.bounded(profile).map_err(|error| error.to_string()),
                }
            }
        }
    }

    /// Gives a sandbox its way out, where it is to have one: the serial number of the uplink, or why there
    /// is none.
    pub(super) fn connect_sandbox(
        &mut self,
        owner: Owner,
        user: Option<u32>,
        network: &Network,
        (sockets, secrets): (Option<Result<Sockets, String>>, Option<Granted>),
    ) -> Result<Option<u64>, String> {
        let (Some(sockets), Network::Allow(policy)) = (sockets, network) else {
            return Ok(None);
        };
        let sockets = sockets?;
        let zygote = self.zygote.as_ref().ok_or("what makes uplinks is gone: start the launcher anew")?;
        self.serial += 1;
        let serial = self.serial;
        let group = self.uplink_group.as_ref().map(AsFd::as_fd);
        let client = Client { serial, user, group, policy, name_servers: &self.name_servers, secrets };
        let text = |errno: Errno| format!("its uplink can't be made: {errno}");
        let control = zygote.fork(&client, &sockets).map_err(text)?;
        self.watch(control.as_fd(), About::Uplink, serial).map_err(text)?;
        let due = Instant::now() + ANSWER;
        self.timers.insert((due, serial));
        let uplink = Uplink {
            owner,
            control,
            process: None,
            is_ready: false,
            asked: 0,
            answer_due: Some(due),
            flushes: 0,
            flush_due: None,
            timer: Some(due),
        };
        self.uplinks.insert(serial, uplink);
        Ok(Some(serial))
    }

    /// Has an uplink replace its policy, or look at its rules; the owner's programs wait until it has answered.
    pub(super) fn ask_uplink(&mut self, serial: u64, policy: Option<AllowList>) -> Result<(), String> {
        let uplink = self.uplinks.get_mut(&serial).ok_or("the uplink is gone")?;
        tell(uplink, &policy.map_or(Order::Assert, Order::Policy))?;
        uplink.asked += 1;
        uplink.answer_due.get_or_insert(Instant::now() + ANSWER);
        self.plan_uplink(serial);
        Ok(())
    }

    /// Has an uplink tell what is left to tell; `false` where there is nobody to wait for.
    pub(super) fn flush_uplink(&mut self, serial: Option<u64>) -> bool {
        let Some((serial, uplink)) = serial.and_then(|serial| Some((serial, self.uplinks.get_mut(&serial)?))) else {
            return false;
        };
        if !uplink.is_ready || tell(uplink, &Order::Flush).is_err() {
            return false;
        }
        uplink.flushes += 1;
        uplink.flush_due.get_or_insert(Instant::now() + FLUSH);
        self.plan_uplink(serial);
        true
    }

    /// Its sandbox is ended, or has another.
    pub(super) fn end_uplink(&mut self, serial: Option<u64>) -> Option<Uplink> {
        let serial = serial?;
        let uplink = self.uplinks.remove(&serial)?;
        if let Some(due) = uplink.timer {
            self.timers.remove(&(due, serial));
        }
        Some(uplink)
    }

    /// An uplink has something to say.
    pub(super) fn uplink_report(&mut self, serial: u64) {
        let mut buffer = vec![0; REPORT_BYTES];
        for _ in 0..REPORTS {
            let Some(uplink) = self.uplinks.get_mut(&serial) else {
                return;
            };
            let message = match socket::receive(uplink.control.as_fd(), &mut buffer) {
                Ok(message) if message.length > 0 => message,
                Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return,
                Ok(_) | Err(_) => return self.uplink_gone(serial, "its uplink has ended"),
            };
            let report = postcard::from_bytes(buffer.get(..message.length).unwrap_or_default());
            let owner = uplink.owner;
            match report {
                Ok(Report::Ready) => {
                    uplink.is_ready = true;
                    self.uplink_answered(serial);
                }
                Ok(Report::Holds(Ok(()))) => {
                    uplink.asked = uplink.asked.saturating_sub(1);
                    self.uplink_answered(serial);
                }
                Ok(Report::Holds(Err(reason))) => {
                    return self
                        .violated(serial, &format!("the rules of its network are not those of its policy: {reason}"));
                }
                Ok(Report::Denied(flows)) => self.refused(owner, flows),
                Ok(Report::Flushed) => {
                    uplink.flushes = uplink.flushes.saturating_sub(1);
                    uplink.flush_due = (uplink.flushes > 0).then(|| Instant::now() + FLUSH);
                    self.plan_uplink(serial);
                    self.flushed(owner);
                }
                Err(_) => return self.uplink_gone(serial, "its uplink does not make sense"),
            }
        }
    }

    /// One answer more is there; where none is wanting, programs are let go.
    fn uplink_answered(&mut self, serial: u64) {
        let Some(uplink) = self.uplinks.get_mut(&serial) else {
            return;
        };
        if !uplink.is_ready || uplink.asked > 0 {
            return;
        }
        uplink.answer_due = None;
        let owner = uplink.owner;
        self.plan_uplink(serial);
        match owner {
            Owner::Sandbox(sandbox) => self.change(sandbox, |sandbox, _, _, _| {
                sandbox.gated = false;
                Ok(())
            }),
            Owner::Session(key) => self.session_settled(key, Ok(())),
        }
    }

    /// An uplink is gone, or as good as.
    fn uplink_gone(&mut self, serial: u64, reason: &str) {
        let Some(uplink) = self.end_uplink(Some(serial)) else {
            return;
        };
        match uplink.owner {
            Owner::Sandbox(sandbox) => {
                let Some(found) = self.sandboxes.get_mut(&sandbox) else {
                    return;
                };
                found.uplink = None;
                // One that waits can be replaced, and so can one that was to be handed over.
                if found.owner.is_none() || (found.gated && uplink.asked > 0) {
                    return self.destroy(sandbox, Some(reason.to_owned()));
                }
                found.gated = false;
                found.network_error = Some(reason.to_owned());
                self.flushed(uplink.owner);
            }
            Owner::Session(key) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.uplink = None;
                    session.network_error = Some(reason.to_owned());
                    session.uplink_lost = true;
                }
                self.session_settled(key, Err(reason));
                while self.sessions.get(&key).is_some_and(|session| !session.flushing.is_empty()) {
                    self.flushed(uplink.owner);
                }
            }
        }
    }

    /// The rules are not what they should be: nothing runs there any more.
    fn violated(&mut self, serial: u64, reason: &str) {
        let Some(uplink) = self.end_uplink(Some(serial)) else {
            return;
        };
        eprintln!("codesandbox-launcher: {reason}");
        match uplink.owner {
            Owner::Sandbox(sandbox) => self.destroy(sandbox, Some(reason.to_owned())),
            Owner::Session(key) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.uplink = None;
                }
                self.end_jail(key, reason);
            }
        }
    }

    /// An uplink has refused something.
    fn refused(&mut self, owner: Owner, flows: Vec<DeniedFlow>) {
        // What it tells is bounded by what a message may hold.
        let mut told = Vec::new();
        DeniedFlow::gather(&mut told, flows);
        match owner {
            Owner::Sandbox(serial) => {
                let Some(sandbox) = self.sandboxes.get_mut(&serial) else {
                    return;
                };
                sandbox.refused(told.clone());
                if let Some((connection, lease)) = sandbox.owner {
                    self.reply(connection, &Reply::Denied { lease, flows: told }, Vec::new());
                }
            }
            Owner::Session(key) => {
                if let Some(session) = self.sessions.get_mut(&key) {
                    session.refused(&told);
                    self.tell(key, SessionEvent::Denied(told));
                }
            }
        }
    }

    /// An uplink has told all that was left when a program ended, or nobody waits for that any more.
    fn flushed(&mut self, owner: Owner) {
        match owner {
            Owner::Sandbox(serial) => {
                let held = self.sandboxes.get_mut(&serial).and_then(|sandbox| sandbox.held.take());
                if let Some(ending) = held {
                    self.tell_end(serial, ending);
                }
                // What was asked of it meanwhile is begun.
                self.change(serial, |_, _, _, _| Ok(()));
            }
            Owner::Session(key) => {
                let number = self.sessions.get_mut(&key).and_then(|session| session.flushing.pop_front());
                if let Some(number) = number {
                    self.tell_exec_end(key, number);
                }
            }
        }
    }

    /// A program of a job is over: tells so, when its uplink has told what else was refused.
    pub(super) fn over(&mut self, serial: u64, ending: Ending) {
        let uplink = self.sandboxes.get(&serial).and_then(|sandbox| sandbox.uplink);
        if self.flush_uplink(uplink)
            && let Some(sandbox) = self.sandboxes.get_mut(&serial)
        {
            sandbox.held = Some(ending);
            return;
        }
        self.tell_end(serial, ending);
    }

    /// Tells how a program of a job has ended.
    pub(super) fn tell_end(&mut self, serial: u64, mut ending: Ending) {
        let Some(sandbox) = self.sandboxes.get(&serial) else {
            return;
        };
        ending.network_error.clone_from(&sandbox.network_error);
        if let Some((connection, lease)) = sandbox.owner {
            self.reply(connection, &Reply::Ended { lease, ending }, Vec::new());
        }
    }

    /// A time is up that an uplink had.
    pub(super) fn uplink_timer(&mut self, serial: u64, now: Instant) {
        let Some(uplink) = self.uplinks.get_mut(&serial) else {
            return;
        };
        uplink.timer = None;
        if uplink.answer_due.is_some_and(|due| due <= now) {
            return self.uplink_gone(serial, "its uplink did not answer in time");
        }
        if uplink.flush_due.is_some_and(|due| due <= now) {
            // Its answers come late, and are none to what is asked next; nobody counts them.
            let owner = uplink.owner;
            let late = std::mem::take(&mut uplink.flushes);
            uplink.flush_due = None;
            for _ in 0..late {
                self.flushed(owner);
            }
        }
        self.plan_uplink(serial);
    }

    fn plan_uplink(&mut self, serial: u64) {
        let Some(uplink) = self.uplinks.get_mut(&serial) else {
            return;
        };
        let due = [uplink.answer_due, uplink.flush_due].into_iter().flatten().min();
        let before = std::mem::replace(&mut uplink.timer, due);
        if before != due {
            self.timers.extend(due.map(|due| (due, serial)));
            if let Some(before) = before {
                self.timers.remove(&(before, serial));
            }
        }
    }

    /// The zygote has forked something, or its keeper is gone.
    pub(super) fn zygote_report(&mut self) {
        while let Some(zygote) = &self.zygote {
            match zygote.hear() {
                Ok(None) => return,
                Err(_) => return self.zygote_gone(),
                Ok(Some((forked, process))) => match (forked.pid, self.uplinks.get_mut(&forked.serial)) {
                    (Ok(_), Some(uplink)) => uplink.process = process,
                    // Its sandbox is gone already.
                    (Ok(_), None) => process.iter().for_each(Process::kill),
                    (Err(errno), _) => {
                        let reason = format!("its uplink can't be made: {}", Number::from_raw(errno).desc());
                        self.uplink_gone(forked.serial, &reason);
                    }
                },
            }
        }
    }

    /// No uplinks are made any more, and those that there were have died with what made them.
    fn zygote_gone(&mut self) {
        let Some(zygote) = self.zygote.take() else {
            return;
        };
        eprintln!(
            "codesandbox-launcher: what makes uplinks is gone; until the launcher is started anew, no sandbox has a network"
        );
        self.epoll.delete(zygote.socket()).ok();
        zygote.end();
        let serials: Vec<u64> = self.uplinks.keys().copied().collect();
        for serial in serials {
            self.uplink_gone(serial, "its uplink has ended");
        }
    }

    /// Ends the zygote, because the launcher stops.
    pub(super) fn stop_uplinks(&mut self) {
        self.uplinks.clear();
        if let Some(zygote) = self.zygote.take() {
            zygote.end();
        }
    }
}

fn tell(uplink: &Uplink, order: &Order) -> Result<(), String> {
    order::send(uplink.control.as_fd(), order).map_err(|errno| errno.to_string())
}

/// The name servers that uplinks ask: those of the configuration, or else the host's.
pub(super) fn name_servers_of(config: &Config) -> Vec<SocketAddr> {
    if let Some(servers) = &config.network.name_servers {
        return servers.iter().map(|address| SocketAddr::new(*address, NAME_SERVER_PORT)).collect();
    }
    // Where there is no such file there is no name server either; each query is answered with that.
    name_servers(&std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default())
}

/// The name servers of a resolv.conf(5).
fn name_servers(text: &str) -> Vec<SocketAddr> {
    /// As many as other programs ask; MAXNS of resolv.conf(5).
    const MOST: usize = 3;
    let words = text.lines().map(|line| line.split_ascii_whitespace());
    let named = words.filter_map(|mut words| (words.next() == Some("nameserver")).then(|| words.next()).flatten());
    let addresses = named.filter_map(|address| address.parse::<IpAddr>().ok());
    addresses.take(MOST).map(|address| SocketAddr::new(address, NAME_SERVER_PORT)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_read_as_the_c_library_reads_them() {
        let text = "# ours\nsearch example.org\nnameserver 192.0.2.1 \nnameserver\t2001:db8::1\noptions edns0\n\
                    nameserver fe80::1%eth0\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let expected: Vec<SocketAddr> =
            ["192.0.2.1:53", "[2001:db8::1]:53", "192.0.2.2:53"].map(|one| one.parse().unwrap()).into();
        assert_eq!(name_servers(text), expected);
        assert!(name_servers("").is_empty());
    }
}
