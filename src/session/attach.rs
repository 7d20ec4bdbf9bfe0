//! Following a program: what it printed, as far as that is kept, what it prints, and its end.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::execs::{Exec, Over};
use super::follow::{self, Followed, Follower};
use super::types::{From, Happening, Stream};
use crate::job::DeniedFlow;

/// A client that follows a program; dropping it leaves the program as it is.
#[derive(Debug)]
pub struct Attachment {
    exec: Arc<Exec>,
    follower: Follower,
    over: watch::Receiver<Option<Arc<Over>>>,
    refusals: broadcast::Receiver<Vec<DeniedFlow>>,
    /// Sequence numbers of what comes next, of standard output and error.
    at: [u64; 2],
    /// Whether to wait for what is not there yet.
    waits: bool,
    is_done: bool,
}

impl Attachment {
    pub(super) fn new(exec: Arc<Exec>, from: From) -> Self {
        exec.attach();
        let stdout = from.stdout.unwrap_or_else(|| exec.stdout.first());
        let stderr = exec.stderr.as_ref().map(|log| (Arc::clone(log), from.stderr.unwrap_or_else(|| log.first())));
        let at = [stdout, stderr.as_ref().map_or(0, |(_, from)| *from)];
        let follower = Follower::new((Arc::clone(&exec.stdout), stdout), stderr);
        let (over, refusals) = (exec.over.subscribe(), exec.refusals.subscribe());
        Self { over, refusals, follower, at, exec, waits: from.follow, is_done: false }
    }

    /// What happens next; nothing after the last.
    pub async fn next(&mut self) -> Option<Happening> {
        if self.is_done {
            return None;
        }
        loop {
            // Asked before the logs are looked at: what was printed before the end is there by then.
            let over = self.over.borrow_and_update().clone();
            if self.waits
                && let Ok(flows) = self.refusals.try_recv()
            {
                return Some(Happening::Denied(flows));
            }
            if let Some(over) = &over
                && self.at[0] >= over.stdout
                && self.at[1] >= over.stderr
            {
                self.is_done = true;
                return Some(Happening::Finished(Box::new(over.result.clone())));
            }
            match self.follower.ready() {
                Some(Followed::End) => {
                    // It has closed its streams and goes on.
                    if self.waits && over.is_none() {
                        tokio::select! {
                            _ = self.over.changed() => continue,
                            refused = self.refusals.recv() => match refused {
                                Ok(flows) => return Some(Happening::Denied(flows)),
                                Err(RecvError::Lagged(_) | RecvError::Closed) => continue,
                            },
                        }
                    }
                    // All is told, even where numbers were asked for that never came.
                    self.is_done = true;
                    let result = over.map(|over| Happening::Finished(Box::new(over.result.clone())));
                    return Some(result.unwrap_or(Happening::End));
                }
                Some(followed) => return Some(self.tell(followed)),
                None if !self.waits => {
                    self.is_done = true;
                    return Some(Happening::End);
                }
                None => {}
            }
            let followed = tokio::select! {
                // An error would mean that the program is gone, and it is held here.
                _ = self.over.changed() => continue,
                refused = self.refusals.recv() => match refused {
                    Ok(flows) => return Some(Happening::Denied(flows)),
                    // Who reads so slowly hears of all of it at the end.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => continue,
                },
                followed = self.follower.next() => followed,
            };
            if followed != Followed::End {
                return Some(self.tell(followed));
            }
        }
    }

    fn tell(&mut self, followed: Followed) -> Happening {
        let place = |stream| match stream {
            follow::Stream::Stdout => (Stream::Stdout, 0),
            follow::Stream::Stderr => (Stream::Stderr, 1),
        };
        match followed {
            Followed::Output { stream, sequence, bytes } => {
                let (stream, place) = place(stream);
                self.at[place] = sequence + bytes.len() as u64;
                Happening::Output { stream, sequence, bytes: bytes.into() }
            }
            Followed::Gap { stream, from, to } => {
                let (stream, place) = place(stream);
                self.at[place] = to;
                Happening::Gap { stream, from, to }
            }
            Followed::End => Happening::End,
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.exec.detach();
    }
}
