//! The launcher's clients: their connections, what they ask for, and the answers.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno as Number;
use nix::sys::epoll::{EpollEvent, EpollFlags};

use super::trees::Fittings;
use super::{About, Connection, Server};
use crate::launcher::protocol::{MESSAGE_BYTES, Reply, Request, VERSION};
use crate::launcher::sandbox::{BACKLOG, Work};
use crate::launcher::workspace::TreeSize;
use crate::sys::{Errno, socket};

/// Most answers that wait for a client that does not read them.
const OUTBOX: usize = 4096;

impl Server {
    pub(super) fn accept(&mut self) {
        let Some(listener) = &self.listener else {
            return;
        };
        match socket::accept(listener.as_fd()) {
            Ok(socket) => {
                if let Err(error) = self.connect(socket) {
                    eprintln!("codesandbox-launcher: a connection could not be served: {error}");
                }
            }
            Err(Errno { errno: Number::EAGAIN | Number::ECONNABORTED | Number::EINTR, .. }) => {}
            Err(error) => eprintln!("codesandbox-launcher: {error}"),
        }
    }

    pub(super) fn connect(&mut self, socket: OwnedFd) -> Result<(), Errno> {
        socket::set_nonblocking(socket.as_fd())?;
        self.serial += 1;
        let serial = self.serial;
        self.watch(socket.as_fd(), About::Connection, serial)?;
        self.connections.insert(serial, Connection { socket, outbox: VecDeque::new() });
        self.reply(serial, &Reply::Welcome { version: VERSION, enforced_by: self.enforced_by() }, Vec::new());
        Ok(())
    }

    /// A client is gone: so is everything that it had.
    pub(super) fn disconnect(&mut self, connection: u64) {
        if self.connections.remove(&connection).is_none() {
            return;
        }
        let theirs: Vec<u64> =
            self.leases.iter().filter(|((owner, _), _)| *owner == connection).map(|(_, serial)| *serial).collect();
        for serial in theirs {
            self.destroy(serial, None);
        }
        for session in self.sessions.values_mut() {
            // What nobody has heard of is not begun any more.
            session.deferred.retain(|deferred| deferred.asked.0 != connection);
        }
        if self.keeper == Some(connection) {
            (self.keeper, self.to_tell) = (None, None);
        }
        self.keeper.take_if(|keeper| *keeper == connection);
        self.newcomer.take_if(|newcomer| *newcomer == connection);
        if self.only_client && !self.stopping {
            self.stop();
        }
    }

    /// Sends an answer, with descriptors that go with it.
    pub(super) fn reply(&mut self, connection: u64, reply: &Reply, descriptors: Vec<OwnedFd>) {
        let Some(client) = self.connections.get_mut(&connection) else {
            return;
        };
        let Ok(bytes) = postcard::to_allocvec(reply) else {
            return;
        };
        client.outbox.push_back((bytes, descriptors));
        self.flush(connection);
    }

    /// Sends what waits, as far as the client takes it.
    pub(super) fn flush(&mut self, connection: u64) {
        let Some(client) = self.connections.get_mut(&connection) else {
            return;
        };
        while let Some((bytes, descriptors)) = client.outbox.front() {
            let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().map(AsFd::as_fd).collect();
            match socket::send(client.socket.as_fd(), bytes, &descriptors) {
                Ok(()) => drop(client.outbox.pop_front()),
                Err(Errno { errno: Number::EAGAIN, .. }) if client.outbox.len() < OUTBOX => break,
                Err(_) => return self.disconnect(connection),
            }
        }
        let wanted =
            if client.outbox.is_empty() { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT };
        let mut event = EpollEvent::new(wanted, About::Connection.token(connection));
        if self.epoll.modify(&client.socket, &mut event).is_err() {
            self.disconnect(connection);
        }
    }

    /// Takes all requests that a client has sent.
    pub(super) fn hear(&mut self, connection: u64) {
        let mut buffer = [0; MESSAGE_BYTES];
        while let Some(client) = self.connections.get(&connection) {
            let message = match socket::receive(client.socket.as_fd(), &mut buffer) {
                Ok(message) if message.length > 0 => message,
                Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return,
                Ok(_) | Err(_) => return self.disconnect(connection),
            };
            match postcard::from_bytes(buffer.get(..message.length).unwrap_or_default()) {
                Ok(request) => self.obey(connection, request, message.descriptors),
                Err(_) => return self.disconnect(connection),
            }
        }
    }

    fn obey(&mut self, connection: u64, request: Request, descriptors: Vec<OwnedFd>) {
        if let Request::Session { session, ticket, request } = request {
            return self.ask_session((connection, ticket), session, request, descriptors);
        }
        let mut descriptors = descriptors.into_iter();
        match request {
            Request::Open { lease, sandbox, reach } => {
                let reach = (reach, descriptors.next());
                let opened = self.trees(&sandbox.trees).and_then(|trees| {
                    let fittings = Fittings { trees, installer: sandbox.installer };
                    self.open((connection, lease), sandbox, reach, &fittings)
                });
                if let Err(reason) = opened {
                    self.reply(connection, &Reply::Failed { lease, reason, had_begun: false }, Vec::new());
                }
            }
            Request::Execute { lease, limits } => {
                let work = descriptors.next().map(|spec| Work::Execute { limits, spec, archive: descriptors.next() });
                self.assign(connection, lease, work);
            }
            Request::Collect { lease } => {
                let work = descriptors.next().zip(descriptors.next()).map(|(wanted, pipe)| Work::Collect(wanted, pipe));
                self.assign(connection, lease, work);
            }
            Request::Renew { lease } => self.assign(connection, lease, Some(Work::Renew)),
            Request::Kill { lease, cause } => {
                if let Some(serial) = self.leases.get(&(connection, lease)).copied() {
                    self.change(serial, |sandbox, _, _, _| sandbox.kill(cause).map_err(|errno| errno.to_string()));
                }
            }
            Request::Signal { lease, signal } => {
                let serial = self.leases.get(&(connection, lease));
                if let Some(sandbox) = serial.and_then(|serial| self.sandboxes.get(serial)) {
                    sandbox.signal(signal);
                }
            }
            Request::Close { lease } => match self.leases.get(&(connection, lease)).copied() {
                Some(serial) => self.destroy(serial, None),
                None => self.reply(connection, &Reply::Closed { lease }, Vec::new()),
            },
            Request::Tree { lease, key, size } => {
                let size = size.map(|(bytes, files)| TreeSize { bytes, files });
                self.ask_tree((connection, lease), key, size.zip(descriptors.next()));
            }
            Request::Sessions => self.newcomer = Some(connection),
            Request::Session { .. } => {}
            Request::Reload => self.reload(),
            Request::Record { runtime, checked } => {
                self.catalogue.record(&runtime, &checked);
                self.templates.clear();
                self.retire_after_record();
            }
        }
    }

    /// Checks again what the daemon has checked, and gives the work to the sandbox.
    fn assign(&mut self, connection: u64, lease: u64, work: Option<Work>) {
        let Some(serial) = self.leases.get(&(connection, lease)).copied() else {
            return;
        };
        self.change(serial, |sandbox, _, _, _| {
            let work = work.ok_or("a request came without its descriptors")?;
            if let Work::Execute { limits, .. } = &work {
                limits.check(&sandbox.profile.maximum).map_err(|error| error.to_string())?;
            }
            if sandbox.backlog.len() >= BACKLOG {
                return Err("too much was asked at once".to_owned());
            }
            sandbox.backlog.push_back(work);
            Ok(())
        });
    }
}
