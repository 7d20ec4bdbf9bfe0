//! What was refused, merged and counted until it is reported.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::IpAddr;

use tokio::sync::Notify;

use crate::job::{DenialReason, DeniedFlow, Protocol};

/// Most distinct flows between two reports; the rest are counted by their reason alone.
const MOST: usize = 256;

/// What was refused since the last report.
#[derive(Debug, Default)]
pub(super) struct Denials {
    counts: RefCell<HashMap<(Flow, DenialReason), u64>>,
    some: Notify,
}

/// What somebody wanted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) name: Option<String>,
    pub(super) address: Option<IpAddr>,
    pub(super) port: Option<u16>,
    pub(super) protocol: Protocol,
}

impl Denials {
    /// Counts one.
    pub(super) fn count(&self, flow: Flow, reason: DenialReason) {
        let mut counts = self.counts.borrow_mut();
        let key = (flow, reason);
        let key = if counts.len() < MOST || counts.contains_key(&key) { key } else { (OTHER, reason) };
        *counts.entry(key).or_default() += 1;
        self.some.notify_one();
    }

    /// Waits until there is one.
    pub(super) async fn wait(&self) {
        while self.counts.borrow().is_empty() {
            self.some.notified().await;
        }
    }

    /// Takes at most so many.
    pub(super) fn take(&self, most: usize) -> Vec<DeniedFlow> {
        let mut counts = self.counts.borrow_mut();
        let keys: Vec<_> = counts.keys().take(most).cloned().collect();
        keys.into_iter()
            .map(|key| {
                let count = counts.remove(&key).unwrap_or_default();
                let (Flow { name, address, port, protocol }, reason) = key;
                DeniedFlow { name, address, port, protocol, reason, count }
            })
            .collect()
    }
}

const OTHER: Flow = Flow { name: None, address: None, port: None, protocol: Protocol::Other };

#[cfg(test)]
mod tests {
    use super::*;

    fn query(name: &str) -> Flow {
        Flow { name: Some(name.to_owned()), address: None, port: None, protocol: Protocol::Dns }
    }

    #[test]
    fn equal_ones_are_merged_and_told_once() {
        let denials = Denials::default();
        denials.count(query("a.example"), DenialReason::NotListed);
        denials.count(query("a.example"), DenialReason::NotListed);
        denials.count(query("a.example"), DenialReason::Private);
        let mut told = denials.take(10);
        told.sort_by_key(|flow| flow.count);
        assert_eq!(
            told.iter().map(|flow| (flow.reason, flow.count)).collect::<Vec<_>>(),
            [(DenialReason::Private, 1), (DenialReason::NotListed, 2)]
        );
        assert_eq!(denials.take(10), []);
    }

    #[test]
    fn what_is_too_much_is_counted_without_name() {
        let denials = Denials::default();
        for number in 0..MOST + 20 {
            denials.count(query(&format!("{number}.example")), DenialReason::NotListed);
        }
        denials.count(query("0.example"), DenialReason::NotListed);
        let (some, rest) = (denials.take(100), denials.take(1000));
        assert_eq!((some.len(), rest.len()), (100, MOST - 100 + 1));
        let all: Vec<_> = some.into_iter().chain(rest).collect();
        let other: Vec<_> = all.iter().filter(|flow| flow.protocol == Protocol::Other).collect();
        assert_eq!((other.len(), other[0].count, &other[0].name), (1, 20, &None));
        assert_eq!(all.iter().map(|flow| flow.count).sum::<u64>(), MOST as u64 + 21);
    }
}
