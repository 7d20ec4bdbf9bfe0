//! Tells what changes in a directory, until the daemon hangs up; inotify(7).

mod map;

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno as Number;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InotifyEvent};

use super::Stop;
use super::wire::{Answers, Wire};
use crate::plan::files::{FileEvent, FileReply, Place};
use map::Map;

/// How long the other half of a renaming may take, in milliseconds; the kernel makes both in one call.
const OTHER_HALF_MS: u16 = 20;

pub(super) fn watch(workspace: BorrowedFd<'_>, path: &Place, recursive: bool, wire: &Wire) -> Result<FileReply, Stop> {
    let mut watch = Watch { map: Map::new(workspace, path, recursive)?, leaving: None };
    watch.map.scan()?;
    wire.answer(&Ok(FileReply::Done))?;
    loop {
        let mut waited = [
            PollFd::new(watch.map.as_fd(), PollFlags::POLLIN),
            // The daemon has nothing more to say: whatever comes is the end.
            PollFd::new(wire.as_fd(), PollFlags::POLLIN),
        ];
        let time = if watch.leaving.is_some() { PollTimeout::from(OTHER_HALF_MS) } else { PollTimeout::NONE };
        match poll(&mut waited, time) {
            Err(Number::EINTR) => continue,
            polled => polled?,
        };
        if waited[1].any() == Some(true) {
            return Err(Stop::Gone);
        }
        let mut answers = wire.answers();
        let events = watch.map.events()?;
        if events.is_empty() {
            watch.left(&mut answers)?;
            watch.map.settled();
        }
        let mut last = None;
        for event in events {
            if watch.take_in(&event, &mut answers, &mut last)? {
                answers.flush()?;
                return Ok(FileReply::Done);
            }
        }
        answers.flush()?;
    }
}

/// A name that was taken away, and may turn up under another.
struct Leaving {
    cookie: u32,
    path: Vec<u8>,
    is_directory: bool,
}

struct Watch<'a> {
    map: Map<'a>,
    leaving: Option<Leaving>,
}

impl Watch<'_> {
    /// Tells what an event means; returns whether it was the last.
    fn take_in(
        &mut self,
        event: &InotifyEvent,
        answers: &mut Answers<'_>,
        last: &mut Option<FileEvent>,
    ) -> Result<bool, Stop> {
        let mask = event.mask;
        let other_half = mask.contains(AddWatchFlags::IN_MOVED_TO)
            && self.leaving.as_ref().is_some_and(|leaving| leaving.cookie == event.cookie);
        if !other_half {
            self.left(answers)?;
        }
        if mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
            // Directories may have come that nobody was told of.
            self.map.rescan()?;
            tell(answers, last, FileEvent::Overflow)?;
            return Ok(false);
        }
        let ends = mask.intersects(AddWatchFlags::IN_IGNORED | AddWatchFlags::IN_MOVE_SELF);
        if ends && self.map.is_root(event.wd) {
            tell(answers, last, FileEvent::Removed(self.map.root()))?;
            return Ok(true);
        }
        if mask.contains(AddWatchFlags::IN_IGNORED) {
            self.map.forget(event.wd);
            return Ok(false);
        }
        let Some(path) = event.name.as_ref().and_then(|name: &OsString| self.map.path(event.wd, name)) else {
            return Ok(false);
        };
        let is_directory = mask.contains(AddWatchFlags::IN_ISDIR);
        if mask.contains(AddWatchFlags::IN_MOVED_FROM) {
            self.leaving = Some(Leaving { cookie: event.cookie, path, is_directory });
        } else if mask.contains(AddWatchFlags::IN_MOVED_TO) {
            match self.leaving.take() {
                Some(Leaving { path: from, .. }) => {
                    self.map.moved(&from, &path);
                    tell(answers, last, FileEvent::Moved { from, to: path })?;
                }
                None => self.created(path, is_directory, answers, last)?,
            }
        } else if mask.contains(AddWatchFlags::IN_CREATE) {
            self.created(path, is_directory, answers, last)?;
        } else if mask.contains(AddWatchFlags::IN_DELETE) {
            tell(answers, last, FileEvent::Removed(path))?;
        } else if mask.intersects(AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_ATTRIB) {
            tell(answers, last, FileEvent::Modified(path))?;
        }
        Ok(false)
    }

    /// What was taken away and did not turn up again is gone.
    fn left(&mut self, answers: &mut Answers<'_>) -> Result<(), Stop> {
        if let Some(Leaving { path, is_directory, .. }) = self.leaving.take() {
            if is_directory {
                self.map.left(&path);
            }
            answers.put(FileReply::Event(FileEvent::Removed(path)))?;
        }
        Ok(())
    }

    /// What came into a new directory before it was watched is told as well, and once.
    fn created(
        &mut self,
        path: Vec<u8>,
        is_directory: bool,
        answers: &mut Answers<'_>,
        last: &mut Option<FileEvent>,
    ) -> Result<(), Stop> {
        if !self.map.is_news(&path) {
            return Ok(());
        }
        tell(answers, last, FileEvent::Created(path.clone()))?;
        if is_directory {
            let complete =
                self.map.enter(&path, &mut |path| answers.put(FileReply::Event(FileEvent::Created(path.to_vec()))))?;
            if !complete {
                tell(answers, last, FileEvent::Overflow)?;
            }
        }
        Ok(())
    }
}

/// Tells an event; what repeats the one before it says nothing.
fn tell(answers: &mut Answers<'_>, last: &mut Option<FileEvent>, event: FileEvent) -> Result<(), Stop> {
    if last.as_ref() == Some(&event) {
        return Ok(());
    }
    *last = Some(event.clone());
    answers.put(FileReply::Event(event))
}

/// A name in a directory whose path is known.
fn join(directory: &[u8], name: &OsStr) -> Vec<u8> {
    let slash: &[u8] = if directory.is_empty() { b"" } else { b"/" };
    [directory, slash, name.as_bytes()].concat()
}
