//! Two programs, each in a sandbox of its own, of which each reads what the other prints: one job with one slot, since
//! two that waited for each other in the queue might do so for ever.
//!
//! ```text
//!  program ──stdout──▶ ┌─────────────────┐ ──stdin──▶ partner
//!          ◀──stdin─── │ us, piece-wise  │ ◀──stdout──
//!                      └─────────────────┘
//! ```
//!
//! Nothing else leads from one to the other. What is on its way is bounded; who prints more than the other reads waits,
//! as with a pipe. When one of them ends, the other reads the end of its input, and gets SIGPIPE when it writes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::attached::{self, Attached};
use super::built::{Built, Onward, Wants};
use super::drive::{Drive, tell};
use super::{Fault, Waiting};
use crate::backend::Backend;
use crate::config::Outputs;
use crate::job::{Event, Job, Outcome, StageResult};

/// The other of two programs.
#[derive(Debug)]
pub(super) struct Partner {
    pub(super) job: Job,
    pub(super) built: Built,
    /// Bytes of what both say that are kept.
    pub(super) transcript_bytes: usize,
    pub(super) talk: oneshot::Sender<Talk>,
}

/// What is known of two programs' talk, besides what became of the first.
#[derive(Debug)]
pub struct Talk {
    /// What became of the other.
    pub partner: StageResult,
    /// Whether the other's output was over before the first's.
    pub partner_ended_first: bool,
    /// Whether the other was still there when the first died, or was to be killed for its time by the clock. A program
    /// that has closed its output need not have ended.
    pub partner_outlived: bool,
    /// Whether the other said more than the first would have, and was told so by a broken pipe.
    pub partner_was_cut_off: bool,
    /// Whether the first has left something unread of what the other said.
    pub program_left_unread: bool,
    /// Whether the other has left something unread of what the first said.
    pub partner_left_unread: bool,
    /// The beginning of what both said.
    pub transcript: Transcript,
}

/// The beginning of what two programs said to each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transcript {
    /// What was said, in the order in which it came here.
    pub said: Vec<Said>,
    /// Whether more was said.
    pub cut: bool,
}

impl Transcript {
    /// Gives back memory that was taken in case more would be said.
    fn shrink(&mut self) {
        self.said.iter_mut().for_each(|said| said.bytes.shrink_to_fit());
        self.said.shrink_to_fit();
    }
}

/// What one of them said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Whether it was the other one, not the first.
    pub by_partner: bool,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// Writes down what one of them says.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    by_partner: bool,
    most_bytes: usize,
    transcript: Arc<Mutex<(Transcript, usize)>>,
}

impl Writer {
    pub(super) fn note(&self, piece: &[u8]) {
        // Nothing under this lock can panic half-way.
        let mut guard = self.transcript.lock().unwrap_or_else(PoisonError::into_inner);
        let (transcript, bytes) = &mut *guard;
        let fits = piece.len().min(self.most_bytes - *bytes);
        transcript.cut |= fits < piece.len();
        *bytes += fits;
        let piece = piece.get(..fits).unwrap_or_default();
        match transcript.said.last_mut() {
            _ if piece.is_empty() => {}
            Some(said) if said.by_partner == self.by_partner => said.bytes.extend_from_slice(piece),
            _ => transcript.said.push(Said { by_partner: self.by_partner, bytes: piece.to_vec() }),
        }
    }
}

/// Runs both and returns when the sandboxes of both are gone.
pub(super) async fn run(backend: &Backend, waiting: Waiting, outputs: Outputs) {
    let Waiting { job, wants, events, mut cancel, submitted_us, .. } = waiting;
    let Wants::Pair(built, partner) = wants else { return };
    let Partner { job: other_job, built: other_built, transcript_bytes, talk } = *partner;
    tell(&events, Event::Started).await;
    let transcript = Arc::default();
    let writer = |by_partner| Writer { by_partner, most_bytes: transcript_bytes, transcript: Arc::clone(&transcript) };
    let ((to_other, for_other), (to_program, for_program)) = (attached::pair(), attached::pair());
    // Nobody listens to what happens to the other while it runs.
    let (unheard, _) = mpsc::channel(1);
    let mut cancel_other = cancel.clone();
    let (running, is_running) = oneshot::channel();
    let walls = [&job, &other_job].map(|job| job.run.limits.wall_time_ms);
    let longest = Duration::from_millis(walls.into_iter().sum());

    let mut program = Drive::of_built(backend, outputs, &events, &mut cancel, submitted_us, &built);
    program.onward = Some(Onward { to: to_other.input, transcript: writer(false) });
    program.at_most = Some(longest);
    let mut other = Drive::of_built(backend, outputs, &unheard, &mut cancel_other, submitted_us, &other_built);
    other.onward = Some(Onward { to: to_program.input, transcript: writer(true) });
    other.at_most = Some(longest);
    other.running = Some(running);
    let ours = async {
        // The other begins first, so that its start is not counted as the program's time. It may not come to that.
        match is_running.await {
            Ok(()) => Some(half(&mut program, job, &built, for_program).await),
            Err(_) => None,
        }
    };
    let (ours, theirs) = tokio::join!(ours, half(&mut other, other_job, &other_built, for_other));
    let told = match (ours, theirs) {
        (Some(Err(fault)), _) | (_, Err(fault)) => Err(fault),
        (None, Ok(_)) => Err(Fault::Internal("a program has ended that had not begun".to_owned())),
        (Some(Ok(outcome)), Ok(theirs)) => match theirs.run {
            Some(partner) => {
                let mut transcript = std::mem::take(&mut transcript.lock().unwrap_or_else(PoisonError::into_inner).0);
                transcript.shrink();
                let told = Talk {
                    partner,
                    partner_ended_first: is_earlier(other.ended_us, program.ended_us),
                    partner_outlived: other.died_us > program.died_us.min(program.due_us),
                    partner_was_cut_off: other.ended_us.is_none(),
                    program_left_unread: program.left_unread,
                    partner_left_unread: other.left_unread,
                    transcript,
                };
                // Who does not listen any more does not want to know.
                talk.send(told).ok();
                Ok(outcome)
            }
            None => Err(Fault::Internal("the other of two programs did not run".to_owned())),
        },
    };
    if let Err(fault @ (Fault::Internal(_) | Fault::Lost { .. })) = &told {
        tracing::error!("a pair of programs has failed: {fault}");
    }
    events.send(told.map(|outcome| Event::Finished(Box::new(outcome)))).await.ok();
    tokio::join!(program.close(), other.close());
}

/// Whether the first of two outputs was over first. Neither program hears of the other's end but by us, so this tells
/// cause from effect, which the times of their deaths do not: those are seen a little later, by each one's init. An
/// output without a time was cut off because the other read no more.
fn is_earlier(one: Option<u64>, other: Option<u64>) -> bool {
    match (one, other) {
        (Some(one), Some(other)) => one < other,
        (Some(_), None) => true,
        (None, _) => false,
    }
}

/// Runs one of the two. When it is over, whatever led to it and from it is closed, so that the other does not wait.
async fn half(drive: &mut Drive<'_>, mut job: Job, built: &Built, attached: Attached) -> Result<Outcome, Fault> {
    let files = built.with(std::mem::take(&mut job.files));
    let attached = Attached { is_a_programs: true, ..attached };
    let outcome = drive.stages(&job, &mut Some(attached), &mut built.prior(), &files).await;
    (drive.onward, drive.running) = (None, None);
    outcome
}

/// A client's way to cancel something that consists of many jobs, under a name of its own.
#[derive(Debug)]
pub struct Gathering {
    pub(super) id: String,
    pub(super) scheduler: super::Scheduler,
    pub(super) cancelled: watch::Receiver<bool>,
}

impl Gathering {
    /// Waits until it is cancelled.
    pub async fn cancelled(&mut self) {
        // An error means that nobody can cancel it any more.
        if self.cancelled.wait_for(|cancelled| *cancelled).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Gathering {
    fn drop(&mut self) {
        self.scheduler.forget(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transcript_joins_what_one_says_and_is_bounded() {
        let transcript = Arc::default();
        let writer = |by_partner| Writer { by_partner, most_bytes: 10, transcript: Arc::clone(&transcript) };
        let (program, partner) = (writer(false), writer(true));
        program.note(b"ab");
        program.note(b"c");
        partner.note(b"12345");
        program.note(b"defgh");
        partner.note(b"6");
        let (transcript, bytes) = transcript.lock().unwrap().clone();
        let said: Vec<(bool, &[u8])> = transcript.said.iter().map(|said| (said.by_partner, &*said.bytes)).collect();
        assert_eq!(said, [(false, &b"abc"[..]), (true, b"12345"), (false, b"de")]);
        assert_eq!((bytes, transcript.cut), (10, true));
    }
}
