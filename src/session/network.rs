//! What the programs of a session can reach, and what was refused to them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use super::live::{Live, State};
use super::types::{NetworkView, SessionError};
use super::{Sessions, Shared, now_ms};
use crate::backend::{BackendError, SessionRequest};
use crate::job::{DenialReason, DeniedFlow, Protocol};
use crate::profile::Network;

/// Most refused flows of one session that are remembered.
const REMEMBERED: usize = 256;
/// How long the journal hears nothing more of what was refused to a session, once it has heard of it.
const TELL_AGAIN: Duration = Duration::from_secs(60);

/// What the network refused to all sessions since the service was started.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refused {
    /// How often, by what was spoken and by why.
    pub flows: BTreeMap<(Protocol, DenialReason), u64>,
    /// How often a session had no network though it was to have one.
    pub errors: u64,
}

impl Sessions {
    /// The network of a session as it is now.
    ///
    /// # Errors
    /// [`SessionError::Unknown`].
    pub async fn network(&self, client: &str, id: &str) -> Result<NetworkView, SessionError> {
        let live = self.shared.find(client, id)?;
        Ok(self.shared.network(&live))
    }

    /// Changes what the programs of a session can reach, of those that run as well: to this, which lies within
    /// its profile, or to what its profile says. It stays so until it is changed again.
    ///
    /// # Errors
    /// [`SessionError::Unknown`], or its profile has no list, or a shorter one.
    pub async fn set_network(
        &self,
        client: &str,
        id: &str,
        network: Option<Network>,
    ) -> Result<NetworkView, SessionError> {
        let live = self.shared.find(client, id)?;
        let _changing = live.gate.write().await;
        // It may have been removed meanwhile.
        self.shared.find(client, id)?;
        self.shared.apply_network(&live, network.as_ref()).await?;
        // Where the daemon dies here, the next one puts back what is written down.
        self.shared
            .change(&live, |state| {
                state.record.network = network;
                state.record.used(now_ms());
                Ok(())
            })
            .await?;
        Ok(self.shared.network(&live))
    }

    /// What the network refused to all sessions since the service was started.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.shared.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shared {
    /// Has the launcher hold a session to this, where it has the session.
    pub(super) async fn apply_network(&self, live: &Live, network: Option<&Network>) -> Result<(), SessionError> {
        if !live.look(|state| state.present) {
            return Ok(());
        }
        let asked = self.keeper_now()?.ask_with(live.id.bytes(), network, SessionRequest::Network).await;
        asked.map(drop).map_err(|error| match error {
            BackendError::Failed(reason) => SessionError::Refused(reason),
            other => other.into(),
        })
    }

    pub(super) fn network(&self, live: &Live) -> NetworkView {
        let config = self.config();
        live.look(|state| NetworkView {
            network: match &state.record.network {
                Some(network) => network.clone(),
                None => config.profiles.get(&state.record.profile).map_or(Network::None, |one| one.network.clone()),
            },
            denied: state.denied.iter().cloned().collect(),
            error: state.network_error.clone(),
        })
    }

    /// The network refused these to a session.
    pub(super) fn note_denied(&self, live: &Live, flows: Vec<DeniedFlow>) {
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            for flow in &flows {
                let count = refused.flows.entry((flow.protocol, flow.reason)).or_default();
                *count = count.saturating_add(flow.count);
            }
        }
        let (first, others) = (flows.first().map(ToString::to_string), flows.len().saturating_sub(1));
        let is_news = {
            let mut state = live.state();
            let is_news = state.denied_told_at.is_none_or(|before| before.elapsed() >= TELL_AGAIN);
            if is_news {
                state.denied_told_at = Some(Instant::now());
            }
            flows.into_iter().for_each(|flow| state.denied(flow));
            is_news
        };
        if let Some(first) = first.filter(|_| is_news) {
            tracing::info!(session = %live.id, others, "the network policy refused {first}");
        }
    }

    /// A session has no network though it is to have one, and this is why; or it has it again.
    pub(super) fn note_network(&self, live: &Live, error: Option<String>) {
        let is_news = {
            let mut state = live.state();
            let is_news = error.clone().filter(|_| state.network_error != error);
            state.network_error = error;
            is_news
        };
        if let Some(error) = is_news {
            tracing::warn!(session = %live.id, "a session has no network: {error}");
            self.refused.lock().unwrap_or_else(PoisonError::into_inner).errors += 1;
        }
    }
}

impl State {
    /// Remembers a refused flow; what is the same is counted together, and the oldest goes for it.
    fn denied(&mut self, flow: DeniedFlow) {
        remember(&mut self.denied, flow);
    }
}

fn remember(known: &mut VecDeque<DeniedFlow>, mut flow: DeniedFlow) {
    let alike = |one: &DeniedFlow| DeniedFlow { count: flow.count, ..one.clone() } == flow;
    if let Some(before) = known.iter().position(alike).and_then(|index| known.remove(index)) {
        flow.count = flow.count.saturating_add(before.count);
    }
    known.push_front(flow);
    known.truncate(REMEMBERED);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(port: u16) -> DeniedFlow {
        DeniedFlow {
            name: None,
            address: Some([203, 0, 113, 1].into()),
            port: Some(port),
            protocol: Protocol::Tcp,
            reason: DenialReason::NotListed,
            count: 2,
        }
    }

    #[test]
    fn what_is_refused_again_is_counted_and_comes_first() {
        let mut known = VecDeque::new();
        for port in [1, 2, 1] {
            remember(&mut known, flow(port));
        }
        assert_eq!(known, [DeniedFlow { count: 4, ..flow(1) }, flow(2)]);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut known = VecDeque::new();
        for port in 1..=1000 {
            remember(&mut known, flow(port));
        }
        assert_eq!((known.len(), &known[0]), (REMEMBERED, &flow(1000)));
    }
}
