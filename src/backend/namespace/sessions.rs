//! Sessions over the launcher's connection: questions with their answers, and what is told unasked.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::{mpsc, oneshot};

use super::{Link, locked, reach, sealed};
use crate::backend::{BackendError, Tidings};
use crate::launcher::protocol::{ExecPurpose, Reach, Request, SessionEvent, SessionKey, SessionRequest};
use crate::plan::Spec;
use crate::profile::{Limits, Network};

/// Where what is said about sessions goes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Tidings>>,
    unasked: Option<mpsc::UnboundedSender<Tidings>>,
    closed: bool,
}

impl Routes {
    /// Hands tidings to whoever waits for them; what has no ticket was not asked for.
    pub(super) fn take(&self, ticket: u64, tidings: Tidings) {
        let mut state = locked(&self.state);
        if ticket == 0 {
            // Where nobody keeps sessions, nobody wants to know.
            state.unasked.as_ref().map(|unasked| unasked.send(tidings).ok());
        } else if let Some(waiting) = state.waiting.remove(&ticket) {
            waiting.send(tidings).ok();
        }
    }

    /// Nobody will say anything any more: everybody who waits hears that.
    pub(super) fn close(&self) {
        *locked(&self.state) = State { closed: true, ..State::default() };
    }
}

/// Asks for sessions, on one connection. When that breaks, every question fails with
/// [`BackendError::Gone`], and the tidings end.
#[derive(Debug, Clone)]
pub struct Keeper {
    link: Arc<Link>,
    next_ticket: Arc<AtomicU64>,
}

impl Keeper {
    pub(super) async fn over(link: Arc<Link>) -> Result<(Self, mpsc::UnboundedReceiver<Tidings>), BackendError> {
        let (sender, receiver) = mpsc::unbounded_channel();
        {
            let mut state = locked(&link.tidings.state);
            if state.closed {
                return Err(BackendError::Gone);
            }
            state.unasked = Some(sender);
        }
        link.send(&Request::Sessions, &[]).await?;
        Ok((Self { link, next_ticket: Arc::new(AtomicU64::new(1)) }, receiver))
    }

    /// Asks for something about a session.
    ///
    /// # Errors
    /// [`BackendError::Gone`] where the connection breaks before there is an answer, and
    /// [`BackendError::Failed`] with the reason where it can't be done.
    pub async fn ask(
        &self,
        session: SessionKey,
        request: SessionRequest,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<Tidings, BackendError> {
        let ticket = self.next_ticket.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = locked(&self.link.tidings.state);
            if state.closed {
                return Err(BackendError::Gone);
            }
            state.waiting.insert(ticket, sender);
        }
        let sent = self.link.send(&Request::Session { session, ticket, request }, descriptors).await;
        if let Err(error) = sent {
            locked(&self.link.tidings.state).waiting.remove(&ticket);
            return Err(error);
        }
        let tidings = receiver.await.map_err(|_| BackendError::Gone)?;
        match tidings.event {
            SessionEvent::Refused(reason) => Err(BackendError::Failed(reason)),
            SessionEvent::Unknown => Err(BackendError::UnknownSession),
            _ => Ok(tidings),
        }
    }

    /// Asks for something that says what a session can reach: what its profile says, or less.
    ///
    /// # Errors
    /// As [`Keeper::ask`].
    pub async fn ask_with(
        &self,
        session: SessionKey,
        network: Option<&Network>,
        request: impl FnOnce(Reach) -> SessionRequest,
    ) -> Result<Tidings, BackendError> {
        let (reach, given) = reach(network)?;
        let given: Vec<BorrowedFd<'_>> = given.iter().map(AsFd::as_fd).collect();
        self.ask(session, request(reach), &given).await
    }

    /// Starts a program; returns the other ends of its streams.
    ///
    /// # Errors
    /// As [`Keeper::ask`].
    pub async fn execute(
        &self,
        session: SessionKey,
        exec: u64,
        spec: &Spec,
        limits: &Limits,
        purpose: ExecPurpose,
        logs: &[BorrowedFd<'_>],
    ) -> Result<Vec<OwnedFd>, BackendError> {
        let memory = sealed(c"arguments", &spec.encode())?;
        let descriptors: Vec<BorrowedFd<'_>> = std::iter::once(memory.as_fd()).chain(logs.iter().copied()).collect();
        let request = SessionRequest::Execute { exec, limits: *limits, purpose };
        Ok(self.ask(session, request, &descriptors).await?.descriptors)
    }
}
