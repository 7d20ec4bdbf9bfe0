//! Moves what a program prints into its log, whether or not anybody reads it.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno as Number;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::Log;
use crate::sys::{self, Call, Errno, pipe, socket};

/// What is taken at most when the program is dead and others hold its pipe: as much as a pipe can
/// hold, or else who goes on printing would never let it end.
const REST_BYTES: usize = 1 << 20;

/// What a terminal hands out at once.
const TERMINAL_BYTES: usize = 4 << 10;

/// A task that fills a log; a log has one at a time. Dropped, it stops, and what it has not moved
/// stays in the pipe for the next.
#[derive(Debug)]
pub struct Pump {
    log: Arc<Log>,
    limit: Option<u64>,
    wishes: mpsc::UnboundedSender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

/// A pipe on the way from a terminal to a log, since splice(2) takes bytes out of a terminal only
/// into a pipe. Like pipe and log it outlives the daemon, with the bytes that are on their way.
#[derive(Debug)]
pub struct Staging {
    /// The end that is read.
    pub reader: OwnedFd,
    /// The end that is written, by the pump alone.
    pub writer: OwnedFd,
}

impl Pump {
    /// Moves what comes out of a pipe. The limit is of bytes since the program began, those included
    /// that a pump before this one has moved; the pump goes on beyond it.
    ///
    /// # Errors
    /// As epoll_ctl(2).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(pipe: OwnedFd, log: Arc<Log>, total_limit: Option<u64>) -> std::io::Result<Self> {
        Ok(Self::spawn(Source { watched: socket::watched(pipe)?, staging: None }, log, total_limit))
    }

    /// Moves what comes out of a terminal; the argument is its master side, which does not block from
    /// now on, for whoever shares it. It is at its end when nobody holds the other side.
    ///
    /// # Errors
    /// As epoll_ctl(2) and fcntl(2).
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start_terminal(
        master: OwnedFd,
        staging: Staging,
        log: Arc<Log>,
        total_limit: Option<u64>,
    ) -> std::io::Result<Self> {
        socket::set_nonblocking(master.as_fd()).map_err(|error| error.errno)?;
        let source = Source { watched: socket::watched(master)?, staging: Some(staging) };
        Ok(Self::spawn(source, log, total_limit))
    }

    fn spawn(source: Source, log: Arc<Log>, limit: Option<u64>) -> Self {
        let (wishes, wished) = mpsc::unbounded_channel();
        let task = tokio::spawn(run(source, Arc::clone(&log), wished));
        Self { log, limit, wishes, task }
    }

    /// How many bytes came in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.log.next()
    }

    /// Waits for the end of the stream.
    ///
    /// # Errors
    /// What kept the stream from being moved to its end.
    pub async fn ended(&self) -> sys::Result<()> {
        let mut news = self.log.subscribe();
        let position = news.wait_for(|position| position.end.is_some()).await;
        position.ok().and_then(|position| position.end).expect("the log, which tells of its end, is held here")
    }

    /// Waits until more came than the limit allows; for ever where there is none, or where less came.
    pub async fn over(&self) {
        let passed =
            |limit| async move { self.log.subscribe().wait_for(|position| position.next > limit).await.is_ok() };
        match self.limit {
            Some(limit) if passed(limit).await => {}
            _ => std::future::pending().await,
        }
    }

    /// Waits until all is in the log that was printed before: when the program is dead, all that it has
    /// printed, though others may hold its pipe and go on.
    pub async fn catch_up(&self) {
        let (done, caught_up) = oneshot::channel();
        // An error is the end of the stream, before which all of it was taken.
        if self.wishes.send(done).is_ok() {
            caught_up.await.ok();
        }
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(source: Source, log: Arc<Log>, mut wished: mpsc::UnboundedReceiver<oneshot::Sender<()>>) {
    let end = fill(&source, &log, &mut wished).await;
    if let Err(error) = end {
        tracing::error!(%error, "output of a program can't be moved any more");
    }
    log.end(end);
}

async fn fill(
    source: &Source,
    log: &Log,
    wished: &mut mpsc::UnboundedReceiver<oneshot::Sender<()>>,
) -> sys::Result<()> {
    // What a pump that was killed has left on the way comes before all else.
    source.unload(log)?;
    loop {
        // A program that prints without end must not keep the thread from everybody else.
        tokio::task::consume_budget().await;
        tokio::select! {
            ready = source.watched.readable() => {
                let mut ready = ready.call("epoll_wait")?;
                match source.step(log)? {
                    Step::Moved(_) => {}
                    Step::Empty => ready.clear_ready(),
                    Step::End => return Ok(()),
                }
            }
            Some(done) = wished.recv() => {
                let is_over = source.take_rest(log)?;
                // Whoever wished it may have gone.
                done.send(()).ok();
                if is_over {
                    return Ok(());
                }
            }
        }
    }
}

/// Where bytes come from.
#[derive(Debug)]
struct Source {
    watched: AsyncFd<OwnedFd>,
    /// For a terminal.
    staging: Option<Staging>,
}

enum Step {
    Moved(usize),
    Empty,
    End,
}

impl Source {
    /// Moves once what is there.
    fn step(&self, log: &Log) -> sys::Result<Step> {
        let Some(staging) = &self.staging else { return outcome(log.take(self.watched.as_fd())) };
        let loaded = pipe::splice(self.watched.as_fd(), staging.writer.as_fd(), TERMINAL_BYTES);
        self.unload(log)?;
        match loaded {
            Err(Errno { errno: Number::EIO, .. }) => Ok(Step::End),
            loaded => outcome(loaded),
        }
    }

    /// Moves what is on its way from a terminal.
    fn unload(&self, log: &Log) -> sys::Result<()> {
        if let Some(staging) = &self.staging {
            while let Step::Moved(_) = outcome(log.take(staging.reader.as_fd()))? {}
        }
        Ok(())
    }

    /// Takes what is there; whether that was the end.
    fn take_rest(&self, log: &Log) -> sys::Result<bool> {
        let mut taken = 0;
        while taken < REST_BYTES {
            match self.step(log)? {
                Step::Moved(count) => taken += count,
                Step::Empty => return Ok(false),
                Step::End => return Ok(true),
            }
        }
        Ok(false)
    }
}

fn outcome(moved: sys::Result<usize>) -> sys::Result<Step> {
    match moved {
        Ok(0) => Ok(Step::End),
        Ok(count) => Ok(Step::Moved(count)),
        Err(Errno { errno: Number::EAGAIN, .. }) => Ok(Step::Empty),
        Err(Errno { errno: Number::EINTR, .. }) => Ok(Step::Moved(0)),
        Err(error) => Err(error),
    }
}
