//! Sessions of the launcher: what is asked of them, and what happens in them.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno as Number;
use nix::sys::epoll::{EpollEvent, EpollFlags};
use nix::sys::signal::Signal;

use super::network::Owner;
use super::sandboxes::reaches_out;
use super::trees::{Fitting, Fittings};
use super::{About, Server};
use crate::jail::init::{self, Command, Report};
use crate::launcher::netns::Entered;
use crate::launcher::program::{Program, Purpose};
use crate::launcher::protocol::{
    ExecPurpose, NO_NETWORK, NO_SLOT, Reach, Reply, SessionEvent, SessionKey, SessionRequest,
};
use crate::launcher::run::Run;
use crate::launcher::sandbox::INIT_DEADLINE;
use crate::launcher::session::{Busy, Deferred, EXECS, Exec, ExecState, Jail, Next, Session, What};
use crate::launcher::workspace::{Done, Quota, SnapshotId, Usage, WorkspaceError, WorkspaceId};
use crate::plan::{Cause, Jail as Plan, Watch};
use crate::profile::{Limits, Network};
use crate::sys::{Call, Errno, process, socket};

/// How long processes have to stop before a snapshot is given up.
const FREEZE_TIME: Duration = Duration::from_millis(100);

/// How long a snapshot waits for workers that may be about to end.
const WORKERS_END: Duration = Duration::from_millis(20);

/// Who has asked: connection and ticket.
type Asked = (u64, u64);

impl Server {
    /// Does what is asked of a session, or begins to.
    pub(super) fn ask_session(
        &mut self,
        asked: Asked,
        key: SessionKey,
        request: SessionRequest,
        descriptors: Vec<OwnedFd>,
    ) {
        let done = match request {
            SessionRequest::Create { runtimes, profile, limits, origin, reach, trees } => {
                let given = (reach, descriptors.into_iter().next());
                let created = self.trees(&trees).and_then(|trees| {
                    let fittings = Fittings { trees, installer: None };
                    self.create_session(key, (runtimes, fittings), (&profile, limits), origin, given)
                });
                created.map(|()| Some(SessionEvent::Done))
            }
            _ if !self.sessions.contains_key(&key) => Ok(Some(SessionEvent::Unknown)),
            SessionRequest::Execute { exec, limits, purpose } => {
                self.execute(asked, key, exec, limits, purpose, descriptors).map(|()| None)
            }
            SessionRequest::Network(reach) => self.change_network(asked, key, (reach, descriptors.into_iter().next())),
            SessionRequest::Snapshot { snapshot } => self.begin_snapshot(asked, key, snapshot),
            SessionRequest::Rollback { snapshot } => self.begin_end(asked, key, Next::Rollback(snapshot)),
            SessionRequest::Close => self.begin_end(asked, key, Next::Close),
            SessionRequest::Pause => self.pause(asked, key, true),
            SessionRequest::Resume => self.pause(asked, key, false),
            simple => self.ask_at_once(key, simple).map(Some),
        };
        match done {
            Ok(Some(event)) => self.answer(asked, key, event, Vec::new()),
            // It is answered when it is done.
            Ok(None) => {}
            Err(reason) => self.answer(asked, key, SessionEvent::Refused(reason), Vec::new()),
        }
    }

    /// What takes no time.
    fn ask_at_once(&mut self, key: SessionKey, request: SessionRequest) -> Result<SessionEvent, String> {
        let text = |errno: Errno| errno.to_string();
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        match request {
            SessionRequest::CloseInput { exec } => {
                if let Some(exec) = session.execs.get_mut(&exec) {
                    exec.input = None;
                }
            }
            SessionRequest::Signal { exec, signal } => session.signal(exec, signal)?,
            SessionRequest::Kill { exec, cause } => {
                session.kill(exec, cause).map_err(text)?;
                self.expect_end(key, exec);
            }
            SessionRequest::Forget { exec } => {
                let is_over = |exec: &mut Exec| matches!(exec.state, ExecState::Ended(_) | ExecState::Lost(_));
                if session.execs.get_mut(&exec).is_some_and(is_over) {
                    session.execs.remove(&exec);
                }
            }
            SessionRequest::DropSnapshot { snapshot } => {
                session.snapshots.retain(|known| *known != snapshot);
                self.workspaces.delete_snapshot(session.workspace, SnapshotId(snapshot)).map_err(unmade)?;
                self.do_chores();
            }
            SessionRequest::Pin { processors } => {
                let group = session.group.as_ref().ok_or("processors can be set apart only where cgroup v2 is")?;
                group.pin(&processors)?;
                self.assert_session(key);
            }
            SessionRequest::Usage => {
                let Usage { bytes, files } = self.workspaces.usage(session.workspace).map_err(unmade)?;
                return Ok(SessionEvent::Usage { bytes, files, cpu_us: session.cpu_us() });
            }
            other => return Err(format!("{other:?} is not done at once")),
        }
        Ok(SessionEvent::Done)
    }

    fn answer(&mut self, asked: Asked, session: SessionKey, event: SessionEvent, descriptors: Vec<OwnedFd>) {
        let (connection, ticket) = asked;
        self.reply(connection, &Reply::Session { session, ticket, event }, descriptors);
    }

    /// Tells the daemon what happened unasked; where there is none, it is kept until one asks.
    pub(super) fn tell(&mut self, session: SessionKey, event: SessionEvent) {
        if let Some(connection) = self.keeper {
            self.answer((connection, 0), session, event, Vec::new());
        }
    }

    /// Tells a daemon that has come everything about all sessions, once nothing is being done to any: what a
    /// daemon before it had asked for is then there or not, and in nobody's way.
    pub(super) fn tell_newcomer(&mut self) {
        if self.newcomer.is_none() || self.sessions.values().any(|session| session.busy.is_some()) {
            return;
        }
        let Some(connection) = self.newcomer.take() else {
            return;
        };
        self.keeper = Some(connection);
        self.to_tell = Some(self.sessions.keys().copied().collect());
        self.go_on_telling();
    }

    /// Tells of the next sessions, as fast as the daemon listens: all at once would be more answers than may
    /// wait for a client, and more copies of descriptors than a process may have.
    pub(super) fn go_on_telling(&mut self) {
        while let Some(connection) = self.keeper
            && self.connections.get(&connection).is_some_and(|client| client.outbox.is_empty())
            && let Some(to_tell) = &mut self.to_tell
        {
            match to_tell.pop_front() {
                Some(key) => self.tell_session(connection, key),
                None => {
                    self.to_tell = None;
                    self.answer((connection, 0), SessionKey::default(), SessionEvent::Told, Vec::new());
                }
            }
        }
    }

    fn tell_session(&mut self, connection: u64, key: SessionKey) {
        // It may have gone meanwhile.
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let found = SessionEvent::Found { paused: session.paused, snapshots: session.snapshots.clone() };
        let mut told = vec![(found, Vec::new())];
        told.extend(session.network_error.clone().map(|error| (SessionEvent::Network(Some(error)), Vec::new())));
        for (number, exec) in session.execs.iter().filter(|(_, exec)| exec.purpose != ExecPurpose::Worker) {
            let found = SessionEvent::FoundExec {
                exec: *number,
                purpose: exec.purpose,
                has_input: exec.input.is_some(),
                logs: u8::try_from(exec.logs.len()).unwrap_or(u8::MAX),
            };
            let ends = exec.input.iter().chain(&exec.outputs).chain(&exec.logs);
            let copies: Vec<OwnedFd> = ends.filter_map(|end| end.try_clone().ok()).collect();
            told.push((found, copies));
            match &exec.state {
                // Of its end is told in a moment.
                ExecState::Ended(_) if session.flushing.contains(number) => {}
                ExecState::Ended(ending) => {
                    told.push((SessionEvent::Ended { exec: *number, ending: ending.clone() }, Vec::new()));
                }
                ExecState::Lost(reason) => {
                    told.push((SessionEvent::Lost { exec: *number, reason: reason.clone() }, Vec::new()));
                }
                ExecState::Running(_) | ExecState::Inspecting(..) => {}
            }
        }
        for (event, descriptors) in told {
            self.answer((connection, 0), key, event, descriptors);
        }
        // Whoever keeps it from now on has it with the network that it is to have.
        self.assert_session(key);
    }

    fn create_session(
        &mut self,
        key: SessionKey,
        (runtimes, fittings): (Vec<String>, Fittings),
        (profile, limits): (&str, Limits),
        origin: Option<(SessionKey, u64)>,
        (reach, given): (Reach, Option<OwnedFd>),
    ) -> Result<(), String> {
        if self.stopping || self.sessions.contains_key(&key) {
            return Err("the launcher is stopping, or the name is in use".to_owned());
        }
        let profile = Arc::clone(self.profiles.get(profile).ok_or("no such profile")?);
        limits.check(&profile.maximum).map_err(|error| error.to_string())?;
        let offline = reach == Reach::Nothing;
        let reach = self.reached(reach, given, &profile.network)?;
        // As what programs can reach may change while they run, they may have sockets if they ever may.
        let loopback = !offline && (reach.has_sockets() || matches!(profile.network, Network::Allow(_)));
        let filter = self.filters.get(&(profile.seccomp.clone(), loopback)).ok_or("no such filter")?;
        let filter = Arc::clone(filter);
        // Under an allow-list every jail has an uplink.
        let networked = !offline && reaches_out(&profile.network);
        self.make_session_template(&runtimes, networked, fittings.fitting())?;
        let slot = self.slots.take().ok_or(NO_SLOT)?;
        let quota = Quota { disk_bytes: limits.disk_bytes, disk_files: limits.disk_files };
        let workspace = match origin {
            None => self.workspaces.create(quota).map_err(unmade),
            Some((origin, snapshot)) => {
                self.sessions.get(&origin).ok_or("no such session".to_owned()).and_then(|found| {
                    self.workspaces.fork(found.workspace, SnapshotId(snapshot), quota).map_err(unmade)
                })
            }
        };
        let workspace = match workspace {
            Ok(workspace) => workspace,
            Err(reason) => {
                self.slots.give_back(slot);
                return Err(reason);
            }
        };
        let group = match self.tree.as_mut().map(|tree| tree.group(&limits)).transpose() {
            Ok(group) => group,
            Err(errno) => {
                self.slots.give_back(slot);
                self.forget_workspace(workspace);
                return Err(errno.to_string());
            }
        };
        let session = Session {
            runtimes,
            profile,
            filter,
            worker_filter: Arc::clone(&self.worker_filter),
            limits,
            slot,
            identity: self.slots.identity(slot),
            network: None,
            reach,
            offline,
            uplink: None,
            gated: false,
            network_error: None,
            uplink_lost: false,
            deferred: std::collections::VecDeque::new(),
            changing: Vec::new(),
            flushing: std::collections::VecDeque::new(),
            workspace,
            writable: self.grant.as_ref().map(|grant| grant.real.writable().into()),
            fittings,
            group,
            jail: None,
            execs: std::collections::BTreeMap::new(),
            leaves: Vec::new(),
            snapshots: Vec::new(),
            paused: false,
            busy: None,
            sample_interval_us: self.config.launcher.sample_interval_us,
        };
        self.sessions.insert(key, session);
        // Its first program is likely to come soon.
        self.to_stage.push_back(key);
        Ok(())
    }

    /// Makes the processes that a session's programs live among, where there are none.
    fn ensure_jail(&mut self, key: SessionKey) -> Result<(), String> {
        let session = self.sessions.get(&key).ok_or("no such session")?;
        match &session.jail {
            Some(jail) if jail.dying.is_some() => return Err("its sandbox is being ended".to_owned()),
            Some(_) => return Ok(()),
            None => {}
        }
        let (runtimes, workspace, slot) = (session.runtimes.clone(), session.workspace, session.slot);
        let (identity, network, fittings) = (session.identity, session.network(), session.fittings.clone());
        let template = self.make_session_template(&runtimes, reaches_out(&network), fittings.fitting())?;
        let mounts = self.workspaces.mounts(workspace).map_err(unmade)?;
        // A template of real directories has all that is to be written to; the workspace is there, and not seen.
        let furnished = self.grant.is_some();
        let overlay = (!furnished).then(|| mounts.overlay.clone());
        let plan = Plan {
            identity,
            disk_bytes: 0,
            disk_files: 0,
            workspace: overlay,
            furnished,
            trees: fittings.places(),
            renewable: false,
        };
        let made = self.make_init(&template, &plan, &network, (!furnished).then_some(&mounts), &fittings);
        let (init, control, entered) = made.inspect_err(|_| self.workspaces.released(workspace))?;
        let Entered { namespace, sockets, granted } = entered;
        self.serial += 1;
        let serial = self.serial;
        let watched = self
            .watch(control.as_fd(), About::SessionControl, serial)
            .and_then(|()| self.watch(init.pidfd.as_fd(), About::SessionInit, serial));
        let due = Instant::now() + INIT_DEADLINE;
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        session.network = Some(namespace);
        session.jail = Some(Jail { serial, init, control, timer: Some(due), staged: None, dying: None });
        self.timers.insert((due, serial));
        self.session_serials.insert(serial, key);
        if let Err(errno) = watched {
            self.end_jail(key, &errno.to_string());
            return Err(errno.to_string());
        }
        let connected =
            self.connect_sandbox(Owner::Session(key), self.slots.uplink(slot), &network, (sockets, granted));
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        let before = session.network_error.take();
        session.uplink_lost = false;
        match connected {
            Ok(uplink) => (session.uplink, session.gated) = (uplink, uplink.is_some()),
            Err(reason) => session.network_error = Some(reason),
        }
        if session.network_error != before {
            let now = session.network_error.clone();
            self.tell(key, SessionEvent::Network(now));
        }
        Ok(())
    }

    /// Makes the next program of a session ahead, when there is nothing else to do.
    pub(super) fn stage_one(&mut self) {
        let Some(key) = self.to_stage.pop_front() else {
            return;
        };
        let may = |session: &Session| {
            !session.paused
                && session.busy.is_none()
                && session.jail.as_ref().is_none_or(|jail| jail.staged.is_none() && jail.dying.is_none())
        };
        if self.stopping || !self.sessions.get(&key).is_some_and(may) {
            return;
        }
        let staged = self.ensure_jail(key).and_then(|()| self.make_program(key, Purpose::Program));
        match staged {
            Ok((serial, program, leaf)) => {
                if let Some(jail) = self.sessions.get_mut(&key).and_then(|session| session.jail.as_mut()) {
                    jail.staged = Some((serial, program, leaf));
                }
            }
            // Whoever asks for a program is told.
            Err(reason) => eprintln!("codesandbox-launcher: no program waits in a session: {reason}"),
        }
    }

    fn make_program(
        &mut self,
        key: SessionKey,
        purpose: Purpose<'_>,
    ) -> Result<(u64, Program, Option<crate::launcher::cgroup::Leaf>), String> {
        self.serial += 1;
        let serial = self.serial;
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        let (program, leaf) = session.make_program(serial, purpose, self.home_pids.as_fd())?;
        // Once: it stays readable from its end until it is closed, and would wake us all that time.
        let once = |about: About| EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLONESHOT, about.token(serial));
        let watched = self.epoll.add(&program.child.pidfd, once(About::Exec)).and_then(|()| {
            program.terminal.as_ref().map_or(Ok(()), |terminal| self.epoll.add(terminal, once(About::Terminal)))
        });
        if let Err(errno) = watched {
            // No event will tell of its end.
            program.end_now();
            return Err(errno.desc().to_owned());
        }
        self.session_serials.insert(serial, key);
        Ok((serial, program, leaf))
    }

    fn execute(
        &mut self,
        asked: Asked,
        key: SessionKey,
        number: u64,
        limits: Limits,
        purpose: ExecPurpose,
        descriptors: Vec<OwnedFd>,
    ) -> Result<(), String> {
        let text = |errno: Errno| errno.to_string();
        let is_full = |session: &Session| session.execs.len() + session.deferred.len() >= EXECS;
        self.refuse_without_walls(key)?;
        if purpose != ExecPurpose::Worker {
            self.renew_network(key);
        }
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        let dies = session.busy.is_none() && session.jail.as_ref().is_some_and(|jail| jail.dying.is_some());
        if dies && !is_full(session) {
            // It gets another at once.
            session.deferred.push_back(Deferred { asked, exec: number, limits, purpose, descriptors });
            return Ok(());
        }
        if !session.paused && session.busy.is_none() && purpose != ExecPurpose::Worker && !is_full(session) {
            self.ensure_jail(key)?;
            let session = self.sessions.get_mut(&key).ok_or("no such session")?;
            if session.gated {
                session.deferred.push_back(Deferred { asked, exec: number, limits, purpose, descriptors });
                return Ok(());
            }
        }
        let mut descriptors = descriptors.into_iter();
        let spec = descriptors.next().ok_or("a request came without its descriptors")?;
        let logs: Vec<OwnedFd> = descriptors.collect();
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        limits.check(&session.profile.maximum).map_err(|error| error.to_string())?;
        if session.paused || session.busy.is_some() {
            return Err("the session is paused or busy".to_owned());
        }
        if session.execs.len() >= EXECS || session.execs.contains_key(&number) {
            return Err("too many programs, or the number is in use".to_owned());
        }
        session.sweep();
        self.ensure_jail(key)?;
        self.refuse_without_walls(key)?;
        let staged = |server: &mut Self| server.sessions.get_mut(&key)?.jail.as_mut()?.staged.take();
        let (serial, mut program, mut leaf) = match purpose {
            ExecPurpose::Program { .. } => match staged(self) {
                Some(staged) => staged,
                None => self.make_program(key, Purpose::Program)?,
            },
            ExecPurpose::Terminal(size) => self.make_program(key, Purpose::Terminal(size))?,
            ExecPurpose::Worker => self.make_program(key, Purpose::Worker)?,
        };
        let streams = program.streams.take();
        let run = Run::new(program, limits);
        // One for each that runs, as nobody counts what they have started, and the one that will wait next.
        let others = self.sessions.get(&key).map_or(0, Session::running) as u64 + 1;
        let held = run.hold(leaf.as_mut(), others).map_err(text);
        let watch = run.watch(leaf.as_ref()).filter(|_| purpose != ExecPurpose::Worker);
        // Under a grant it may be root who runs it.
        let watch = watch.map(|watch| Watch { ends_for_processes: self.grant.is_some(), ..watch });
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        let interval_us = session.sample_interval_us;
        let jail = session.jail.as_ref().ok_or("there is no jail")?;
        let given = held.and_then(|()| {
            jail.tell_init(&Command::Go { exec: serial, watch, interval_us }, &[spec.as_fd()]).map_err(text)
        });
        let mut exec = Exec {
            serial,
            purpose,
            state: ExecState::Running(Box::new(run)),
            leaf,
            input: None,
            outputs: Vec::new(),
            logs,
            asked: Some(asked),
            timer: None,
        };
        exec.plan_next_look(Instant::now());
        self.timers.extend(exec.timer.map(|due| (due, serial)));
        session.execs.insert(number, exec);
        if let Err(reason) = given {
            // Its end is told to nobody: the request is what is answered.
            session.kill(number, Cause::Cancelled).map_err(text)?;
            return Err(reason);
        }
        if let Some(streams) = streams {
            self.started(key, number, streams);
        }
        // Under a grant there is one program and no next.
        if self.grant.is_none() {
            self.to_stage.push_back(key);
        }
        Ok(())
    }

    /// On real directories no program begins without the network that it was to have: whoever has allowed something
    /// hears of it before, and not behind.
    fn refuse_without_walls(&self, key: SessionKey) -> Result<(), String> {
        let error = self.sessions.get(&key).and_then(|session| session.network_error.as_deref());
        match error.filter(|_| self.grant.is_some()) {
            Some(reason) => Err(format!("{NO_NETWORK}{reason}")),
            None => Ok(()),
        }
    }

    /// Hands over what leads to a program, and keeps copies of it for the next daemon.
    fn started(&mut self, key: SessionKey, number: u64, streams: Vec<OwnedFd>) {
        let Some(exec) = self.sessions.get_mut(&key).and_then(|session| session.execs.get_mut(&number)) else {
            return;
        };
        // The end that nobody writes to is closed here.
        let closed = usize::from(exec.purpose == (ExecPurpose::Program { input: false }));
        let streams: Vec<OwnedFd> = streams.into_iter().skip(closed).collect();
        if exec.purpose != ExecPurpose::Worker {
            let mut copies = streams.iter().filter_map(|stream| stream.try_clone().ok());
            if exec.purpose == (ExecPurpose::Program { input: true }) {
                exec.input = copies.next();
            }
            exec.outputs = copies.collect();
        }
        if let Some(asked) = exec.asked.take() {
            self.answer(asked, key, SessionEvent::Started, streams);
        }
    }

    /// The other end of a program's terminal has come.
    pub(super) fn take_terminal(&mut self, serial: u64) {
        let Some(key) = self.session_serials.get(&serial).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(number) = session.exec_of(serial) else {
            return;
        };
        let exec = session.execs.get_mut(&number);
        let Some(ExecState::Running(run)) = exec.map(|exec| &mut exec.state) else {
            return;
        };
        let mut buffer = [0; 16];
        let received = run.program.terminal.take().map(|socket| socket::receive(socket.as_fd(), &mut buffer));
        if let Some(Ok(message)) = received
            && !message.descriptors.is_empty()
        {
            self.started(key, number, message.descriptors);
        }
        // Else it has died before it had one, which its pidfd tells.
    }

    /// The main process of a program may have ended.
    pub(super) fn exec_ended(&mut self, serial: u64) {
        if let Some(child) = self.corpses.remove(&serial) {
            nix::sys::wait::waitpid(child.pid, None).ok();
            self.session_serials.remove(&serial);
            return;
        }
        let Some(key) = self.session_serials.get(&serial).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        if let Some(number) = session.exec_of(serial) {
            let exec = session.execs.get_mut(&number);
            if let Some(ExecState::Running(run)) = exec.map(|exec| &mut exec.state) {
                match run.reap() {
                    Ok(_) => self.expect_end(key, number),
                    Err(errno) => return self.end_jail(key, &errno.to_string()),
                }
            }
            return self.conclude(key, number);
        }
        // The one that waited.
        self.session_serials.remove(&serial);
        if let Some((_, program, leaf)) = session.jail.as_mut().and_then(|jail| jail.staged.take()) {
            nix::sys::wait::waitpid(program.child.pid, None).ok();
            session.leaves.extend(leaf);
        }
    }

    /// From now on it is only init that has still to say something about a program.
    fn expect_end(&mut self, key: SessionKey, number: u64) {
        let due = Instant::now() + INIT_DEADLINE;
        let exec = self.sessions.get_mut(&key).and_then(|session| session.execs.get_mut(&number));
        if let Some(exec) = exec.filter(|exec| matches!(exec.state, ExecState::Running(_) | ExecState::Inspecting(..)))
        {
            if let Some(before) = exec.timer.replace(due) {
                self.timers.remove(&(before, exec.serial));
            }
            self.timers.insert((due, exec.serial));
        }
    }

    /// Tells what became of a program, where all is known.
    fn conclude(&mut self, key: SessionKey, number: u64) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(exec) = session.execs.get_mut(&number) else {
            return;
        };
        let before = exec.timer;
        // What lies in real directories is nothing that a limit of ours is about.
        let is_ours = session.writable.is_none();
        let concluded = exec.conclude(session.jail.as_ref().filter(|jail| is_ours && jail.dying.is_none()));
        let (after, serial) = (exec.timer, exec.serial);
        if before != after {
            self.timers.extend(after.map(|due| (due, serial)));
            if let Some(due) = before {
                self.timers.remove(&(due, serial));
            }
        }
        match concluded {
            Ok(true) => self.ended(key, number),
            Ok(false) => {}
            Err(reason) => self.end_jail(key, &reason),
        }
    }

    /// All about a program's end is known, but for what its uplink may still have to say.
    fn ended(&mut self, key: SessionKey, number: u64) {
        let Some(session) = self.sessions.get(&key) else {
            return;
        };
        let ended = session.execs.get(&number).filter(|exec| matches!(exec.state, ExecState::Ended(_)));
        let uplink = ended.filter(|exec| exec.purpose != ExecPurpose::Worker).and(session.uplink);
        if self.flush_uplink(uplink)
            && let Some(session) = self.sessions.get_mut(&key)
        {
            session.flushing.push_back(number);
            return;
        }
        self.tell_exec_end(key, number);
    }

    /// Tells how a program has ended.
    pub(super) fn tell_exec_end(&mut self, key: SessionKey, number: u64) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(exec) = session.execs.get_mut(&number) else {
            return;
        };
        exec.input = None;
        if let ExecState::Ended(ending) = &mut exec.state {
            ending.network_error.clone_from(&session.network_error);
        }
        session.leaves.extend(exec.leaf.take());
        self.session_serials.remove(&exec.serial);
        if let Some(due) = exec.timer.take() {
            self.timers.remove(&(due, exec.serial));
        }
        let asked = exec.asked.take();
        let event = match &exec.state {
            ExecState::Ended(ending) => SessionEvent::Ended { exec: number, ending: ending.clone() },
            ExecState::Lost(reason) => SessionEvent::Lost { exec: number, reason: reason.clone() },
            ExecState::Running(_) | ExecState::Inspecting(..) => return,
        };
        let is_worker = exec.purpose == ExecPurpose::Worker;
        if is_worker || asked.is_some() {
            // Nobody has heard of it.
            session.execs.remove(&number);
        }
        session.sweep();
        match asked {
            Some(asked) => {
                self.answer(asked, key, SessionEvent::Refused("it died before it began".to_owned()), Vec::new())
            }
            None if is_worker => {}
            None => self.tell(key, event),
        }
    }

    /// A session's init has something to say.
    pub(super) fn session_report(&mut self, serial: u64) {
        let Some(key) = self.session_serials.get(&serial).copied() else {
            return;
        };
        let Some(jail) = self.sessions.get(&key).and_then(|session| session.jail.as_ref()) else {
            return;
        };
        let mut buffer = [0; init::MESSAGE_BYTES];
        let message = match socket::receive(jail.control.as_fd(), &mut buffer) {
            Ok(message) if message.length > 0 => message,
            Err(Errno { errno: Number::EAGAIN | Number::EINTR, .. }) => return,
            Ok(_) | Err(_) => return self.end_jail(key, "init is gone"),
        };
        let Ok(report) = postcard::from_bytes(buffer.get(..message.length).unwrap_or_default()) else {
            return self.end_jail(key, "init does not make sense");
        };
        let exec_of = |server: &Self, serial| server.sessions.get(&key).and_then(|session| session.exec_of(serial));
        match report {
            Report::Ready => {
                if let Some(session) = self.sessions.get(&key) {
                    self.workspaces.mounted(session.workspace);
                }
                let jail = self.sessions.get_mut(&key).and_then(Session::living);
                if let Some(due) = jail.and_then(|jail| jail.timer.take()) {
                    self.timers.remove(&(due, serial));
                }
            }
            Report::Failed(step, errno) => {
                self.end_jail(key, &format!("{step:?}: {}", Number::from_raw(errno).desc()));
            }
            Report::Exceeded(exec, cause) => {
                if let Some(number) = exec_of(self, exec) {
                    let killed = self.sessions.get_mut(&key).map_or(Ok(()), |session| session.kill(number, cause));
                    match killed {
                        Ok(()) => self.expect_end(key, number),
                        Err(errno) => self.end_jail(key, &errno.to_string()),
                    }
                }
            }
            Report::Finished(exec, finished) => {
                if let Some(number) = exec_of(self, exec) {
                    let exec = self.sessions.get_mut(&key).and_then(|session| session.execs.get_mut(&number));
                    if let Some(ExecState::Running(run)) = exec.map(|exec| &mut exec.state) {
                        run.finished = Some(finished);
                    }
                    self.conclude(key, number);
                }
            }
            Report::Inspected { exec, file_at_limit, disk_full } => {
                if let Some(number) = exec_of(self, exec) {
                    let exec = self.sessions.get_mut(&key).and_then(|session| session.execs.get_mut(&number));
                    if exec.is_some_and(|exec| exec.inspected(file_at_limit, disk_full)) {
                        self.ended(key, number);
                    }
                }
            }
            Report::Census(count) => self.counted(key, count),
            Report::Froze => self.froze(key),
            Report::NotUnpacked(_) | Report::Collected | Report::Renewed => {}
        }
    }

    /// A time is up, of a session's jail or of one of its programs.
    pub(super) fn session_timer(&mut self, serial: u64, now: Instant) {
        let text = |errno: Errno| errno.to_string();
        let Some(key) = self.session_serials.get(&serial).copied() else {
            return;
        };
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(number) = session.exec_of(serial) else {
            let late = format!("init did not answer in {} s", INIT_DEADLINE.as_secs());
            return self.end_jail(key, &late);
        };
        let Some(exec) = session.execs.get_mut(&number) else {
            return;
        };
        exec.timer = None;
        let result = match &mut exec.state {
            ExecState::Running(run) if run.killed_for.is_none() && run.exit.is_none() => {
                match run.time_met(exec.leaf.as_ref()) {
                    Some(cause) => session.kill(number, cause).map_err(text).map(|()| true),
                    None => {
                        exec.plan_next_look(now);
                        self.timers.extend(exec.timer.map(|due| (due, serial)));
                        Ok(false)
                    }
                }
            }
            _ => Err("a program could not be ended".to_owned()),
        };
        match result {
            Ok(true) => self.expect_end(key, number),
            Ok(false) => {}
            Err(reason) => self.end_jail(key, &reason),
        }
    }

    fn begin_snapshot(&mut self, asked: Asked, key: SessionKey, snapshot: u64) -> Result<Option<SessionEvent>, String> {
        let session = self.idle_session(key)?;
        if session.snapshots.contains(&snapshot) {
            return Err("the number is in use".to_owned());
        }
        if let Some(jail) = session.living() {
            jail.tell_init(&Command::Census, &[]).map_err(|errno| errno.to_string())?;
            let until = Instant::now() + WORKERS_END;
            session.busy = Some(Busy { asked, what: What::Counting(snapshot, until) });
            return Ok(None);
        }
        session.busy = Some(Busy { asked, what: What::Ending(Next::Snapshot(snapshot)) });
        if session.jail.is_none() {
            self.do_next(key);
        }
        Ok(None)
    }

    /// A session that nothing is being done to.
    fn idle_session(&mut self, key: SessionKey) -> Result<&mut Session, String> {
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        if session.busy.is_some() {
            return Err("the session is busy".to_owned());
        }
        Ok(session)
    }

    /// Init has counted the processes, for a snapshot.
    fn counted(&mut self, key: SessionKey, count: u64) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(Busy { asked, what: What::Counting(snapshot, until) }) = session.busy else {
            return;
        };
        // Whoever writes a file and takes a snapshot has a worker here that is about to end: to wait for that is
        // faster than to copy, and takes no room.
        if session.runs_only_workers()
            && Instant::now() < until
            && session.living().is_some_and(|jail| jail.tell_init(&Command::Census, &[]).is_ok())
        {
            return;
        }
        let waits = u64::from(session.jail.as_ref().is_some_and(|jail| jail.staged.is_some()));
        if count <= waits && session.running() == 0 {
            session.busy = Some(Busy { asked, what: What::Ending(Next::Snapshot(snapshot)) });
            return self.end_jail(key, "a snapshot is taken");
        }
        session.busy = Some(Busy { asked, what: What::Stopping(snapshot) });
        let stopped = match &session.group {
            _ if session.paused => Ok(true),
            Some(group) => group.freeze(true).map(|()| {
                let deadline = Instant::now() + FREEZE_TIME;
                while !group.is_frozen() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_micros(50));
                }
                group.is_frozen()
            }),
            None => match &session.jail {
                // It tells when that is done.
                Some(jail) => match jail.tell_init(&Command::Freeze(true), &[]) {
                    Ok(()) => return,
                    Err(errno) => Err(errno),
                },
                None => Ok(true),
            },
        };
        match stopped {
            Ok(true) => self.copy(key),
            Ok(false) => self.give_up(key, "its processes could not be stopped in time"),
            Err(errno) => self.give_up(key, &errno.to_string()),
        }
    }

    /// Init has stopped everything, or let it go on.
    fn froze(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        match session.busy {
            Some(Busy { what: What::Stopping(_), .. }) => self.copy(key),
            Some(Busy { asked, what: What::Pausing(on) }) => {
                (session.busy, session.paused) = (None, on);
                if !on {
                    self.assert_session(key);
                }
                self.answer(asked, key, SessionEvent::Done, Vec::new());
            }
            _ => {}
        }
    }

    /// Everything stands still: copies what has changed since the last snapshot.
    fn copy(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(Busy { asked, what: What::Stopping(snapshot) }) = session.busy else {
            return;
        };
        let worker = match self.workspaces.snapshot_running(session.workspace, SnapshotId(snapshot)) {
            Ok(worker) => worker,
            Err(error) => return self.give_up(key, &unmade(error)),
        };
        self.serial += 1;
        let serial = self.serial;
        session.busy = Some(Busy { asked, what: What::Copying(snapshot, serial) });
        if let Err(errno) = self.watch(worker.as_fd(), About::Chore, serial) {
            // Its end would never be heard of; waiting for it is what is left.
            eprintln!("codesandbox-launcher: {errno}");
        }
        self.session_serials.insert(serial, key);
        self.chores.insert(serial, worker);
    }

    /// A copy, or something that is done in the background, is over.
    pub(super) fn chore_ended(&mut self, serial: u64) {
        let Some(worker) = self.chores.remove(&serial) else {
            return;
        };
        let done = self.workspaces.finish(worker);
        let key = self.session_serials.remove(&serial);
        let session = key.and_then(|key| self.sessions.get_mut(&key));
        match (done, key, session) {
            (Done::Snapshot { result, .. }, Some(key), Some(session)) => {
                if let Some(Busy { asked, what: What::Copying(snapshot, of) }) = session.busy
                    && of == serial
                {
                    match result {
                        Ok(()) => {
                            session.snapshots.push(snapshot);
                            self.go_on(key);
                            self.answer(asked, key, SessionEvent::Done, Vec::new());
                        }
                        Err(errno) => self.give_up(key, &errno.to_string()),
                    }
                }
            }
            // Its session is gone, and what it has made goes too.
            (Done::Snapshot { .. }, ..) => {}
            (Done::Tree(tree, result), ..) => self.tree_ended(tree, result),
            (Done::Merged(result) | Done::Swept(result), ..) => {
                if let Err(errno) = result {
                    eprintln!("codesandbox-launcher: layers of a workspace stay as they are: {errno}");
                }
            }
        }
        self.do_chores();
    }

    /// A snapshot is given up.
    fn give_up(&mut self, key: SessionKey, reason: &str) {
        let asked = self.sessions.get(&key).and_then(|session| session.busy.as_ref()).map(|busy| busy.asked);
        self.go_on(key);
        if let Some(asked) = asked {
            self.answer(asked, key, SessionEvent::Refused(reason.to_owned()), Vec::new());
        }
    }

    /// Lets processes go on that were stopped for a moment.
    fn go_on(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.busy = None;
        if session.paused {
            return;
        }
        let went_on = match (&session.group, &session.jail) {
            (Some(group), _) => group.freeze(false),
            (None, Some(jail)) => jail.tell_init(&Command::Freeze(false), &[]),
            (None, None) => Ok(()),
        };
        if let Err(errno) = went_on {
            self.end_jail(key, &errno.to_string());
        }
    }

    /// Begins what layers need done in the background.
    pub(super) fn do_chores(&mut self) {
        loop {
            let worker = match self.workspaces.background() {
                Ok(Some(worker)) => worker,
                Ok(None) => return,
                Err(error) => return eprintln!("codesandbox-launcher: layers of a workspace: {error}"),
            };
            self.serial += 1;
            let serial = self.serial;
            if let Err(errno) = self.watch(worker.as_fd(), About::Chore, serial) {
                eprintln!("codesandbox-launcher: {errno}");
            }
            self.chores.insert(serial, worker);
        }
    }

    fn pause(&mut self, asked: Asked, key: SessionKey, on: bool) -> Result<Option<SessionEvent>, String> {
        let session = self.idle_session(key)?;
        if session.paused == on {
            return Ok(Some(SessionEvent::Done));
        }
        if session.group.is_none()
            && let Some(jail) = session.living()
        {
            jail.tell_init(&Command::Freeze(on), &[]).map_err(|errno| errno.to_string())?;
            session.busy = Some(Busy { asked, what: What::Pausing(on) });
            return Ok(None);
        }
        if let Some(group) = &session.group {
            group.freeze(on).map_err(|errno| errno.to_string())?;
        }
        session.paused = on;
        if on {
            self.reclaim(key);
        } else {
            self.assert_session(key);
        }
        Ok(Some(SessionEvent::Done))
    }

    /// Has the kernel take memory back from what stands still; that may take a while, so a child asks.
    fn reclaim(&mut self, key: SessionKey) {
        let Some(group) = self.sessions.get(&key).and_then(|session| session.group.as_ref()) else {
            return;
        };
        match process::clone(nix::sched::CloneFlags::empty(), None) {
            Ok(process::Side::Child) => {
                group.reclaim();
                process::leave(0);
            }
            Ok(process::Side::Parent(child)) => {
                self.serial += 1;
                let serial = self.serial;
                if self.watch(child.pidfd.as_fd(), About::Exec, serial).is_ok() {
                    self.corpses.insert(serial, child);
                }
            }
            // It can be done without.
            Err(errno) => eprintln!("codesandbox-launcher: {errno}"),
        }
    }

    /// Ends all processes of a session, and then does what was asked for.
    fn begin_end(&mut self, asked: Asked, key: SessionKey, next: Next) -> Result<Option<SessionEvent>, String> {
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        match &session.busy {
            // Whoever closes it wants nothing else of it.
            Some(busy) if next == Next::Close && !matches!(busy.what, What::Ending(_)) => {
                let before = busy.asked;
                if let What::Copying(_, worker) = busy.what
                    && let Some(worker) = self.chores.get(&worker)
                {
                    worker.kill();
                }
                session.busy = None;
                self.answer(before, key, SessionEvent::Unknown, Vec::new());
            }
            Some(_) => return Err("the session is busy".to_owned()),
            None => {}
        }
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        if let Next::Rollback(snapshot) = next
            && !session.snapshots.contains(&snapshot)
        {
            return Err("no such snapshot".to_owned());
        }
        session.busy = Some(Busy { asked, what: What::Ending(next) });
        if session.jail.is_some() {
            self.end_jail(key, "it was asked for");
        } else {
            self.do_next(key);
        }
        Ok(None)
    }

    /// Kills everything in a session's sandbox; what follows is done when init is dead.
    pub(super) fn end_jail(&mut self, key: SessionKey, reason: &str) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let is_asked = matches!(session.busy, Some(Busy { what: What::Ending(_), .. }));
        let Some(jail) = session.jail.as_mut().filter(|jail| jail.dying.is_none()) else {
            return;
        };
        jail.dying = Some(reason.to_owned());
        if !is_asked {
            eprintln!("codesandbox-launcher: the sandbox of a session is ended: {reason}");
        }
        // Init's last words would wake us forever: nobody reads them.
        self.epoll.delete(&jail.control).ok();
        if let Some(due) = jail.timer.take() {
            self.timers.remove(&(due, jail.serial));
        }
        // The only error is that it is dead already.
        process::signal(jail.init.pidfd.as_fd(), Signal::SIGKILL).ok();
        if let Some((serial, program, leaf)) = jail.staged.take() {
            process::signal(program.child.pidfd.as_fd(), Signal::SIGKILL).ok();
            session.leaves.extend(leaf);
            self.corpses.insert(serial, program.child);
        }
        for exec in session.execs.values_mut() {
            if let ExecState::Running(run) = &mut exec.state {
                if is_asked {
                    run.killed_for.get_or_insert(Cause::Cancelled);
                }
                // It dies with the namespace anyway; this is sooner.
                process::signal(run.program.child.pidfd.as_fd(), Signal::SIGKILL).ok();
            }
            if let Some(due) = exec.timer.take() {
                self.timers.remove(&(due, exec.serial));
            }
        }
        if let Some(group) = &mut session.group {
            // What is stopped dies all the same, and a group that was killed once takes in others again: its
            // leaves are new.
            group.freeze(false).ok();
        }
        session.paused = false;
    }

    /// A session's init is dead, and with it everything in its sandbox.
    pub(super) fn session_init_ended(&mut self, serial: u64) {
        let Some(key) = self.session_serials.get(&serial).copied() else {
            return;
        };
        self.end_jail(key, "init has died");
        self.session_serials.remove(&serial);
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(jail) = session.jail.take() else {
            return;
        };
        // A zombie is all that is left of it, so this does not wait.
        nix::sys::wait::waitpid(jail.init.pid, None).ok();
        let uplink = session.uplink.take();
        session.gated = false;
        if let Some(network) = session.network.take() {
            self.networks.give_back(&session.network(), network);
        }
        self.workspaces.released(session.workspace);
        let flushing = std::mem::take(&mut session.flushing);
        let changing = std::mem::take(&mut session.changing);
        drop(self.end_uplink(uplink));
        flushing.into_iter().for_each(|number| self.tell_exec_end(key, number));
        // The next sandbox is made with it.
        changing.into_iter().for_each(|asked| self.answer(asked, key, SessionEvent::Done, Vec::new()));
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let is_asked = matches!(session.busy, Some(Busy { what: What::Ending(_), .. }));
        let reason = jail.dying.unwrap_or_default();
        let mut over = Vec::new();
        for (number, exec) in &mut session.execs {
            match &mut exec.state {
                ExecState::Running(run) => {
                    // Init was not wholly dead before each of them was.
                    run.reap().ok();
                    run.finished.get_or_insert_default();
                    let may_be_told = is_asked
                        || run.killed_for.is_some()
                        || run.exit.is_some_and(|(exit, _)| {
                            exit.status != process::ExitStatus::Signalled(Signal::SIGKILL as i32)
                        });
                    if !may_be_told || !matches!(exec.conclude(None), Ok(true)) {
                        exec.state = ExecState::Lost(reason.clone());
                    }
                }
                ExecState::Inspecting(..) => drop(exec.inspected(false, false)),
                ExecState::Ended(_) | ExecState::Lost(_) => continue,
            }
            over.push(*number);
        }
        for number in over {
            self.ended(key, number);
        }
        match self.sessions.get(&key).and_then(|session| session.busy.as_ref()) {
            Some(Busy { what: What::Ending(_), .. }) => self.do_next(key),
            // A copy goes on: the files stand still now more than ever.
            Some(Busy { what: What::Copying(..), .. }) | None => {}
            Some(_) => self.give_up(key, "its sandbox has broken"),
        }
        self.execute_deferred(key);
        self.do_chores();
    }

    /// Begins programs that have waited for the network.
    fn execute_deferred(&mut self, key: SessionKey) {
        let deferred = self.sessions.get_mut(&key).map(|session| std::mem::take(&mut session.deferred));
        for Deferred { asked, exec, limits, purpose, descriptors } in deferred.into_iter().flatten() {
            if let Err(reason) = self.execute(asked, key, exec, limits, purpose, descriptors) {
                self.answer(asked, key, SessionEvent::Refused(reason), Vec::new());
            }
        }
    }

    /// The uplink of a session serves and says that its rules hold, or is gone: nothing waits for it any more.
    pub(super) fn session_settled(&mut self, key: SessionKey, settled: Result<(), &str>) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        session.gated = false;
        let changing = std::mem::take(&mut session.changing);
        // Where it is gone, nothing can be reached, and what is made next has the new policy.
        changing.into_iter().for_each(|asked| self.answer(asked, key, SessionEvent::Done, Vec::new()));
        if let Err(reason) = settled {
            self.tell(key, SessionEvent::Network(Some(reason.to_owned())));
        }
        self.execute_deferred(key);
    }

    /// Ends a jail whose uplink is gone, where nothing runs in it: the program that is asked for has another.
    fn renew_network(&mut self, key: SessionKey) {
        let rests = |session: &mut Session| session.busy.is_none() && !session.paused && session.running() == 0;
        if self.sessions.get_mut(&key).is_some_and(|session| session.uplink_lost && rests(session)) {
            self.end_jail(key, "its uplink is gone");
        }
    }

    /// Changes what the programs of a session can reach, of those that run as well.
    fn change_network(
        &mut self,
        asked: Asked,
        key: SessionKey,
        (reach, given): (Reach, Option<OwnedFd>),
    ) -> Result<Option<SessionEvent>, String> {
        let profile = Arc::clone(&self.sessions.get(&key).ok_or("no such session")?.profile);
        let network = self.reached(reach, given, &profile.network)?;
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        if network == session.reach {
            self.assert_session(key);
            return Ok(Some(SessionEvent::Done));
        }
        if !matches!(session.profile.network, Network::Allow(_)) || session.offline {
            return Err("under a profile without an allow-list this is said when a session is made".to_owned());
        }
        let before = std::mem::replace(&mut session.reach, network);
        let Some(uplink) = session.uplink else {
            return Ok(Some(SessionEvent::Done));
        };
        let policy = session.allowed();
        let told = self.ask_uplink(uplink, Some(policy));
        let session = self.sessions.get_mut(&key).ok_or("no such session")?;
        match told {
            Ok(()) => {
                session.gated = true;
                session.changing.push(asked);
                Ok(None)
            }
            Err(reason) => {
                session.reach = before;
                Err(reason)
            }
        }
    }

    /// Has the uplink of a session look whether its rules are as they should be; new programs wait for that.
    fn assert_session(&mut self, key: SessionKey) {
        let Some(uplink) = self.sessions.get(&key).and_then(|session| session.uplink) else {
            return;
        };
        // The error is that it is gone, which is heard of as well.
        if self.ask_uplink(uplink, None).is_ok()
            && let Some(session) = self.sessions.get_mut(&key)
        {
            session.gated = true;
        }
    }

    /// The same of all sessions.
    pub(super) fn assert_sessions(&mut self) {
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        keys.into_iter().for_each(|key| self.assert_session(key));
    }

    /// Nothing lives in the session: does what that was for.
    fn do_next(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.get_mut(&key) else {
            return;
        };
        let Some(Busy { asked, what: What::Ending(next) }) = session.busy.take() else {
            return;
        };
        let done = match next {
            Next::Snapshot(snapshot) => {
                let taken = self.workspaces.snapshot_at_rest(session.workspace, SnapshotId(snapshot));
                taken.map(|()| session.snapshots.push(snapshot)).map_err(unmade)
            }
            Next::Rollback(snapshot) => {
                self.workspaces.rollback(session.workspace, SnapshotId(snapshot)).map_err(unmade)
            }
            Next::Close => {
                self.remove_session(key);
                Ok(())
            }
        };
        let event = done.map_or_else(SessionEvent::Refused, |()| SessionEvent::Done);
        self.answer(asked, key, event, Vec::new());
        if next != Next::Close {
            self.to_stage.push_back(key);
        }
        self.do_chores();
    }

    fn remove_session(&mut self, key: SessionKey) {
        let Some(session) = self.sessions.remove(&key) else {
            return;
        };
        let waiting = session.deferred.iter().map(|deferred| deferred.asked).chain(session.changing.iter().copied());
        let waiting: Vec<Asked> = waiting.collect();
        waiting.into_iter().for_each(|asked| self.answer(asked, key, SessionEvent::Unknown, Vec::new()));
        drop(self.end_uplink(session.uplink));
        session.leaves.into_iter().for_each(crate::launcher::cgroup::Leaf::remove);
        if let Some(group) = session.group {
            group.remove();
        }
        self.forget_workspace(session.workspace);
        self.slots.give_back(session.slot);
    }

    fn forget_workspace(&mut self, workspace: WorkspaceId) {
        if let Err(error) = self.workspaces.remove(workspace) {
            eprintln!("codesandbox-launcher: a workspace is left: {error}");
        }
    }

    /// Ends all sessions, because the launcher stops.
    pub(super) fn stop_sessions(&mut self) {
        let keys: Vec<SessionKey> = self.sessions.keys().copied().collect();
        for key in keys {
            // Nobody has asked, and nobody is answered.
            if let Err(reason) = self.begin_end((0, 0), key, Next::Close) {
                eprintln!("codesandbox-launcher: a session is not ended: {reason}");
            }
        }
    }

    /// Builds what sandboxes of a session see, where that is not there yet, and names it.
    fn make_session_template(
        &mut self,
        runtimes: &[String],
        networked: bool,
        fitting: Fitting,
    ) -> Result<String, String> {
        let name: String = runtimes.iter().map(|runtime| format!("{runtime}\n")).collect();
        self.make_template(&name, networked, fitting).map(|()| name)
    }
}

/// Why something about a workspace could not be done.
fn unmade(error: WorkspaceError) -> String {
    error.to_string()
}

/// Descriptors to send along.
pub(super) fn borrowed(descriptors: &[OwnedFd]) -> Vec<BorrowedFd<'_>> {
    descriptors.iter().map(AsFd::as_fd).collect()
}

/// The user namespace of a process.
pub(super) fn user_namespace(pid: nix::unistd::Pid) -> Result<OwnedFd, Errno> {
    std::fs::File::open(format!("/proc/{pid}/ns/user")).map(OwnedFd::from).call("open")
}
