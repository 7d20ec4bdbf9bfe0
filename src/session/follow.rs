//! A client's place in the output of a program: it reads at its own pace, and what the logs have
//! lost by then it is told by number.

use std::sync::Arc;

use futures_util::future::select_all;
use tokio::sync::watch;

use crate::job::text;

use super::log::{Log, PIECE_BYTES, Piece, Position};

#[cfg(test)]
mod tests;

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output; of a terminal, all.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a follower finds next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Bytes that were printed, at most [`PIECE_BYTES`].
    Output {
        /// Where.
        stream: Stream,
        /// Number of the first of them.
        sequence: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// Bytes that were printed and are kept no more.
    Gap {
        /// Where.
        stream: Stream,
        /// Number of the first that is lost.
        from: u64,
        /// Number of the byte after the last that is lost.
        to: u64,
    },
    /// All streams have ended, and there is nothing more of any.
    End,
}

/// Reads one or two logs, in turn where both have something.
#[derive(Debug)]
pub struct Follower {
    places: Vec<Place>,
    keep_characters: bool,
}

impl Follower {
    /// Begins at these numbers. A number that has not been reached yet is waited for.
    #[must_use]
    pub fn new(stdout: (Arc<Log>, u64), stderr: Option<(Arc<Log>, u64)>) -> Self {
        let mut places = vec![Place::new(Stream::Stdout, stdout)];
        places.extend(stderr.map(|stderr| Place::new(Stream::Stderr, stderr)));
        Self { places, keep_characters: false }
    }

    /// Cuts no character of UTF-8 in two: the beginning of one at the end of what is there waits for
    /// the rest of it, or for the end of the stream. No byte is changed or left out.
    #[must_use]
    pub fn keep_characters(self) -> Self {
        Self { keep_characters: true, ..self }
    }

    /// Waits for what comes next. A future that is dropped has taken nothing.
    pub async fn next(&mut self) -> Followed {
        // A reader that keeps up with everything must not keep the thread from everybody else.
        tokio::task::consume_budget().await;
        loop {
            if let Some(followed) = self.ready() {
                return followed;
            }
            let waiting =
                self.places.iter_mut().filter(|place| !place.is_over).map(|place| Box::pin(place.news.changed()));
            // An error would mean that a log is gone, and each place holds its own.
            drop(select_all(waiting).await);
        }
    }

    /// What is there already; nothing where it would have to be waited for.
    pub fn ready(&mut self) -> Option<Followed> {
        for index in 0..self.places.len() {
            let found = self.places.get_mut(index).and_then(|place| place.take(self.keep_characters));
            if found.is_some() {
                // The others come first next time.
                self.places.rotate_left(index + 1);
                return found;
            }
        }
        self.places.iter().all(|place| place.is_over).then_some(Followed::End)
    }
}

/// A place in one log.
#[derive(Debug)]
struct Place {
    stream: Stream,
    log: Arc<Log>,
    news: watch::Receiver<Position>,
    /// Number of the byte that comes next.
    at: u64,
    /// What was read after a gap that had to be told first: to read it again would often find that a
    /// fast program has overtaken it, and so tell of gaps only.
    read: Option<Vec<u8>>,
    is_over: bool,
}

impl Place {
    fn new(stream: Stream, (log, at): (Arc<Log>, u64)) -> Self {
        Self { stream, news: log.subscribe(), log, at, read: None, is_over: false }
    }

    /// What is there from this place on.
    fn take(&mut self, keep_characters: bool) -> Option<Followed> {
        if let Some(bytes) = self.read.take() {
            return Some(self.output(bytes));
        }
        let position = *self.news.borrow_and_update();
        if position.next <= self.at {
            self.is_over = position.end.is_some();
            return None;
        }
        let piece = self.log.read(self.at, PIECE_BYTES).unwrap_or_else(|error| {
            tracing::error!(%error, "output of a program can't be read back");
            Piece { sequence: position.next.min(self.at + PIECE_BYTES as u64), bytes: Vec::new() }
        });
        let is_last = position.end.is_some() && piece.end() >= position.next;
        let (sequence, mut bytes) = (piece.sequence, piece.bytes);
        if keep_characters && !is_last {
            bytes.truncate(text::whole(&bytes));
        }
        let from = std::mem::replace(&mut self.at, sequence);
        if sequence > from {
            self.read = (!bytes.is_empty()).then_some(bytes);
            return Some(Followed::Gap { stream: self.stream, from, to: sequence });
        }
        (!bytes.is_empty()).then(|| self.output(bytes))
    }

    fn output(&mut self, bytes: Vec<u8>) -> Followed {
        let sequence = self.at;
        self.at += bytes.len() as u64;
        Followed::Output { stream: self.stream, sequence, bytes }
    }
}
