//! The launcher's side: its orders, and reports to it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno as Number;
use tokio::io::unix::AsyncFd;
use tokio::sync::Mutex;

use crate::network::order::{self, MESSAGE_BYTES};
use crate::network::{Order, Report};
use crate::sys::{self, socket};

use super::state::State;

/// Most flows in one report, so that it fits a buffer of 64 KiB.
const FLOWS: usize = 64;
/// Time between two reports that nobody asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// The socket between launcher and uplink.
#[derive(Debug)]
pub(super) struct Control {
    socket: AsyncFd<OwnedFd>,
    /// Held from the moment at which something is taken for a report until it is sent.
    turn: Mutex<()>,
}

impl Control {
    pub(super) fn new(socket: OwnedFd) -> io::Result<Self> {
        socket::set_nonblocking(socket.as_fd()).map_err(io_error)?;
        Ok(Self { socket: socket::watched(socket)?, turn: Mutex::new(()) })
    }

    /// The next order; `None` where the launcher has closed.
    async fn order(&self) -> io::Result<Option<Order>> {
        let mut buffer = [0; MESSAGE_BYTES];
        loop {
            let mut ready = self.socket.readable().await?;
            let received = ready.try_io(|socket| socket::receive(socket.as_fd(), &mut buffer).map_err(io_error));
            match received {
                Err(_) => {}
                Ok(Ok(message)) if message.length == 0 => return Ok(None),
                Ok(Ok(message)) => {
                    let order = order::of_message(&buffer[..message.length], &message.descriptors);
                    return order.map(Some).ok_or_else(|| io::ErrorKind::InvalidData.into());
                }
                Ok(Err(error)) if error.raw_os_error() == Some(Number::ECONNRESET as i32) => return Ok(None),
                Ok(Err(error)) => return Err(error),
            }
        }
    }

    async fn report(&self, report: &Report) -> io::Result<()> {
        let _turn = self.turn.lock().await;
        self.send(report).await
    }

    async fn report_denied(&self, state: &State) -> io::Result<bool> {
        let _turn = self.turn.lock().await;
        let flows = state.denials.take(FLOWS);
        if flows.is_empty() {
            return Ok(false);
        }
        self.send(&Report::Denied(flows)).await.map(|()| true)
    }

    async fn send(&self, report: &Report) -> io::Result<()> {
        let bytes = postcard::to_allocvec(report).map_err(|_| io::ErrorKind::InvalidData)?;
        loop {
            let mut ready = self.socket.writable().await?;
            let sent = ready.try_io(|socket| socket::send(socket.as_fd(), &bytes, &[]).map_err(io_error));
            if let Ok(sent) = sent {
                return sent;
            }
        }
    }
}

/// Says that it serves, then follows orders until the launcher closes.
pub(super) async fn serve(state: &State, control: &Control) -> io::Result<()> {
    let orders = async {
        control.report(&Report::Ready).await?;
        while let Some(order) = control.order().await? {
            follow(state, control, order).await?;
        }
        Ok(())
    };
    tokio::select! {
        ended = orders => match ended {
            // It closed while we were telling it something.
            Err(error) if is_gone(&error) => Ok(()),
            ended => ended,
        },
        ended = report_denials(state, control) => ended,
        () = state.count_refused() => Ok(()),
    }
}

async fn follow(state: &State, control: &Control, order: Order) -> io::Result<()> {
    match order {
        Order::Policy(policy) => control.report(&Report::Holds(state.replace(policy))).await,
        Order::Assert => control.report(&Report::Holds(state.holds())).await,
        Order::Flush => {
            while control.report_denied(state).await? {}
            control.report(&Report::Flushed).await
        }
    }
}

async fn report_denials(state: &State, control: &Control) -> io::Result<()> {
    loop {
        state.denials.wait().await;
        match control.report_denied(state).await {
            Err(error) if is_gone(&error) => return Ok(()),
            reported => reported?,
        };
        tokio::time::sleep(PAUSE).await;
    }
}

fn is_gone(error: &io::Error) -> bool {
    [Number::EPIPE, Number::ECONNRESET].iter().any(|number| error.raw_os_error() == Some(*number as i32))
}

fn io_error(error: sys::Errno) -> io::Error {
    error.errno.into()
}
