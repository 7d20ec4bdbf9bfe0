//! A connection whose bytes count.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::bounds::Leave;
use super::denials::Flow;
use super::state::State;
use crate::job::DenialReason;

/// A connection out of the sandbox that is kept to the bounds on bytes.
pub(super) struct Metered {
    stream: TcpStream,
    state: Rc<State>,
    flow: Flow,
    /// One of each direction, since they wait in turns.
    reading: Option<Pin<Box<Sleep>>>,
    writing: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    pub(super) fn new(stream: TcpStream, flow: Flow, state: Rc<State>) -> Self {
        Self { stream, state, flow, reading: None, writing: None }
    }
}

/// How many bytes may be moved, once some may.
fn poll_leave(
    state: &State,
    flow: &Flow,
    pause: &mut Option<Pin<Box<Sleep>>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    loop {
        if let Some(sleep) = pause {
            ready!(sleep.as_mut().poll(context));
            *pause = None;
        }
        match state.bounds.leave() {
            Leave::Bytes(most) => return Poll::Ready(Ok(most)),
            Leave::After(time) => *pause = Some(Box::pin(sleep(time))),
            Leave::Never => {
                state.denials.count(flow.clone(), DenialReason::Bound);
                return Poll::Ready(Err(io::ErrorKind::QuotaExceeded.into()));
            }
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { stream, state, flow, reading, .. } = self.get_mut();
        let most = ready!(poll_leave(state, flow, reading, context))?;
        let mut part = buffer.take(most);
        ready!(Pin::new(stream).poll_read(context, &mut part))?;
        let read = part.filled().len();
        let bytes = part.filled().to_vec();
        buffer.put_slice(&bytes);
        state.bounds.spend(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, state, flow, writing, .. } = self.get_mut();
        let most = ready!(poll_leave(state, flow, writing, context))?;
        let part = bytes.get(..most).unwrap_or(bytes);
        let written = ready!(Pin::new(stream).poll_write(context, part))?;
        state.bounds.spend(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}
