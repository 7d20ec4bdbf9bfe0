//! A connection with both its ends, from relay or proxy: what becomes of it.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::net::TcpStream;

use super::denials::Flow;
use super::reach;
use super::relay::{Cut, pass, revoked};
use super::secrets::{self, hello};
use super::state::{Admission, State};
use crate::job::{DenialReason, Protocol};
use crate::profile::Name;

/// A connection that is allowed.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) inside: TcpStream,
    pub(super) outside: TcpStream,
    /// What the program has said already, for the other side.
    pub(super) first: Vec<u8>,
    pub(super) to: SocketAddr,
    pub(super) by: Admission,
    /// For whom it is, where the program has said so.
    pub(super) asked: Option<Name>,
    pub(super) protocol: Protocol,
}

/// Passes on what both sides say, with a secret where the host gets one.
pub(super) async fn carry(state: &Rc<State>, mut ends: Ends) {
    let names = state.hosts_with_secrets(ends.to, ends.asked.as_ref());
    if let (Some(secrets), false) = (&state.secrets, names.is_empty()) {
        let heard = match hello::hear(&ends.inside, &ends.outside, std::mem::take(&mut ends.first)).await {
            Ok(heard) => heard,
            Err(cut) => return end(state, ends, cut),
        };
        let said = heard.name.as_deref();
        let name = names.into_iter().find(|name| said.is_some_and(|said| said.eq_ignore_ascii_case(name.as_str())));
        if let Some(name) = name {
            let Ends { inside, outside, to, protocol, .. } = ends;
            let named = secrets::Named { inside, outside, hello: heard.bytes, name, to, protocol };
            let by = Admission::Named(named.name.clone());
            return tokio::select! {
                () = secrets::serve(state, secrets, named) => {}
                () = revoked(state, to, &by) => {}
            };
        }
        ends.first = heard.bytes;
    }
    let passed = match send_first(state, &ends).await {
        Ok(()) => pass(state, &ends.inside, &ends.outside, ends.to, &ends.by).await,
        Err(cut) => Err(cut),
    };
    if let Err(cut) = passed {
        end(state, ends, cut);
    }
}

fn end(state: &State, ends: Ends, cut: Cut) {
    let Ends { inside, outside, to, by, protocol, .. } = ends;
    if cut == Cut::Bound {
        let name = by.name().map(ToString::to_string);
        let flow = Flow { name, address: Some(to.ip()), port: Some(to.port()), protocol };
        state.denials.count(flow, DenialReason::Bound);
    }
    reach::reset(inside);
    reach::reset(outside);
}

async fn send_first(state: &State, ends: &Ends) -> Result<(), Cut> {
    let mut bytes = ends.first.as_slice();
    while !bytes.is_empty() {
        ends.outside.writable().await.map_err(|_| Cut::Reset)?;
        let (most, _) = state.bounds.allowance().await.ok_or(Cut::Bound)?;
        match ends.outside.try_write(&bytes[..most.min(bytes.len())]) {
            Ok(written) => {
                state.bounds.spend(written);
                bytes = &bytes[written..];
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return Err(Cut::Reset),
        }
    }
    Ok(())
}
