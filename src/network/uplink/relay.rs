//! Connections that the rules have sent here: judged once more, made from the host, and passed on.
//!
//! A program's connect(2) has succeeded before it is judged; what is refused here is a reset, as it is where a host
//! closes a connection as soon as it was made.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::job::{DenialReason, Protocol};
use crate::profile::Name;

use super::bounds::Ticket;
use super::carry::{Ends, carry};
use super::denials::Flow;
use super::reach;
use super::state::{Admission, State};

mod pass;

pub(super) use pass::{Cut, pass, revoked};

/// Before trying again where there was no descriptor or no memory for a connection.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves on these sockets.
pub(super) fn serve(state: &Rc<State>, listeners: Vec<OwnedFd>) -> io::Result<()> {
    accept(state, listeners, take)
}

/// Hands every connection to these sockets to somebody who lets nobody wait.
pub(super) fn accept(state: &Rc<State>, listeners: Vec<OwnedFd>, take: fn(&Rc<State>, TcpStream)) -> io::Result<()> {
    for socket in listeners {
        let (state, listener) = (Rc::clone(state), listener(socket)?);
        tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((inside, _)) => take(&state, inside),
                    Err(_) => sleep(PAUSE).await,
                }
            }
        });
    }
    Ok(())
}

/// A listening socket that was made elsewhere.
pub(super) fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::from(socket);
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn take(state: &Rc<State>, inside: TcpStream) {
    let to = destination(&inside);
    let Some(ticket) = state.bounds.admit() else {
        count(state, None, to, DenialReason::Bound);
        return reach::reset(inside);
    };
    let state = Rc::clone(state);
    tokio::task::spawn_local(async move { relay(&state, inside, to, ticket).await });
}

async fn relay(state: &Rc<State>, inside: TcpStream, to: SocketAddr, _ticket: Ticket) {
    let by = match state.judge(to) {
        Ok(by) => by,
        Err((name, reason)) => {
            count(state, name.as_ref(), to, reason);
            return reach::reset(inside);
        }
    };
    let outside = tokio::select! {
        // A connection that was made is reset where the program has reset its own, not just closed.
        biased;
        outside = reach::connect(to) => outside,
        // The program has given up.
        _ = inside.ready(Interest::ERROR) => return reach::reset(inside),
    };
    match outside {
        Ok(outside) => {
            // Options that the kernel does not take leave a connection that works.
            reach::look_after(&inside).unwrap_or_default();
            let protocol = Protocol::Tcp;
            carry(state, Ends { inside, outside, first: Vec::new(), to, by, asked: None, protocol }).await;
        }
        Err(_) => {
            count(state, by.name(), to, DenialReason::Unreachable);
            reach::reset(inside);
        }
    }
}

/// Where a program wanted to go, before the rules sent it here. A connection that they did not send was made to
/// this very socket.
fn destination(inside: &TcpStream) -> SocketAddr {
    let here = inside.local_addr().unwrap_or(SocketAddr::new(IpAddr::from([127, 0, 0, 1]), super::super::RELAY_PORT));
    let original = match here {
        SocketAddr::V4(_) => getsockopt(inside, sockopt::OriginalDst)
            .ok()
            .map(|to| SocketAddr::from((u32::from_be(to.sin_addr.s_addr).to_be_bytes(), u16::from_be(to.sin_port)))),
        SocketAddr::V6(_) => getsockopt(inside, sockopt::Ip6tOriginalDst)
            .ok()
            .map(|to| SocketAddr::from((to.sin6_addr.s6_addr, u16::from_be(to.sin6_port)))),
    };
    original.unwrap_or(here)
}

fn count(state: &State, name: Option<&Name>, to: SocketAddr, reason: DenialReason) {
    let name = name.map(Name::to_string);
    let flow = Flow { name, address: Some(to.ip()), port: Some(to.port()), protocol: Protocol::Tcp };
    state.denials.count(flow, reason);
}

/// Counts that a connection was slowed down by the bound on bytes a second.
pub(super) fn count_held_back(state: &State, by: &Admission, to: SocketAddr) {
    count(state, by.name(), to, DenialReason::Bound);
}
