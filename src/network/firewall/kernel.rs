//! The rules of one network namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::errno::Errno;

use super::draft::{self, INET, kind};
use super::exchange::Exchange;
use super::said::{Said, elements};
use super::{FirewallError, Learned};
use crate::network::netlink::{Message, messages, text};
use crate::network::rules::{Family, Ruleset, TABLE, learned_of};
use crate::profile::AllowList;

/// The shortest time that an address is learned for.
const LEAST: Duration = Duration::from_secs(1);
/// Most addresses that a replacement keeps in the same step; further ones follow at once.
const KEPT: usize = 512;

/// The rules of one network namespace, which no program in it may change or see.
#[derive(Debug)]
pub struct Firewall {
    exchange: Exchange,
    meant: Option<Meant>,
}

/// What the rules are to be.
#[derive(Debug)]
struct Meant {
    rules: Ruleset,
    said: Said,
}

impl Firewall {
    /// Opens a socket for the rules of the current network namespace, in which there are none yet.
    ///
    /// # Errors
    /// EMFILE, ENFILE; EPROTONOSUPPORT where the kernel has no netfilter.
    pub fn open() -> Result<Self, FirewallError> {
        Ok(Self { exchange: Exchange::open()?, meant: None })
    }

    /// Goes on with a socket of [`Firewall::into_socket`], from whatever namespace, whose rules are those of
    /// `policy`.
    ///
    /// # Errors
    /// None here; without the feature `nftables`, always.
    pub fn adopt(socket: OwnedFd, policy: &AllowList) -> Result<Self, FirewallError> {
        Ok(Self { exchange: Exchange::adopt(socket), meant: Some(Meant::of(policy)) })
    }

    /// The socket. The rules stay.
    #[must_use]
    pub fn into_socket(self) -> OwnedFd {
        self.exchange.into_socket()
    }

    /// Makes the rules of a policy where there are none, in one step, and does not look at them: whoever goes on with
    /// the socket does.
    ///
    /// # Errors
    /// Where the kernel refuses them, there are none.
    pub fn make(&mut self, policy: &AllowList) -> Result<(), FirewallError> {
        let rules = Ruleset::of(policy);
        self.exchange.change(std::iter::once(draft::new_table()).chain(draft::all(&rules)).collect())
    }

    /// Goes on with rules that somebody else has made, if they are those of `policy`.
    ///
    /// # Errors
    /// As [`Firewall::holds`].
    pub fn take_up(&mut self, policy: &AllowList) -> Result<(), FirewallError> {
        self.meant = Some(Meant::of(policy));
        self.holds()
    }

    /// Makes the rules of a policy, in place of those that are there, in one step; and reads them back. Addresses
    /// that were learned are forgotten, but for those in `learned`.
    ///
    /// # Errors
    /// Where the kernel refuses them, all is as before; where what is read back differs, nothing may be open.
    pub fn install(&mut self, policy: &AllowList, learned: &[Learned]) -> Result<(), FirewallError> {
        let meant = Meant::of(policy);
        let mut changes = vec![draft::new_table()];
        changes.extend(draft::emptied(self.sets()?.iter().map(String::as_str)));
        changes.extend(draft::all(&meant.rules));
        let mut kept: Vec<&Learned> = learned.iter().collect();
        kept.sort_by_key(|one| std::cmp::Reverse(one.remaining));
        let (first, further) = kept.split_at(kept.len().min(KEPT));
        changes.extend(first.iter().flat_map(|one| meant.learning(one)));
        self.exchange.change(changes)?;
        let meant = self.meant.insert(meant);
        for some in further.chunks(KEPT) {
            self.exchange.change(some.iter().flat_map(|one| meant.learning(one)).collect())?;
        }
        self.holds()
    }

    /// Lets an address be reached at these ports for a time, where destinations have no others. It is at least a
    /// second. An address that is known already has its time made new.
    ///
    /// # Errors
    /// [`FirewallError::Full`] where there are as many as can be.
    pub fn learn(&mut self, address: IpAddr, ports: &BTreeSet<u16>, lifetime: Duration) -> Result<(), FirewallError> {
        let Some(meant) = &self.meant else { return Err(nothing_meant()) };
        let one = Learned { address, ports: ports.clone(), remaining: lifetime };
        let changes = meant.learning(&one);
        if changes.is_empty() {
            return Ok(());
        }
        let result = match self.exchange.change(changes.clone()) {
            // It expired between the messages of one change.
            Err(FirewallError::Refused(Errno::ENOENT)) => self.exchange.change(changes),
            result => result,
        };
        match result {
            Err(FirewallError::Refused(Errno::ENFILE)) => Err(FirewallError::Full),
            result => result,
        }
    }

    /// The addresses that are known, with the ports at which they are reached.
    ///
    /// # Errors
    /// As reading from the kernel fails.
    pub fn learned(&mut self) -> Result<Vec<Learned>, FirewallError> {
        let Some(meant) = &self.meant else { return Err(nothing_meant()) };
        let mut found: BTreeMap<IpAddr, (BTreeSet<u16>, Duration)> = BTreeMap::new();
        for (number, group) in meant.rules.groups.iter().enumerate().filter(|(_, group)| group.learns) {
            for family in Family::BOTH {
                let set = learned_of(number, family);
                for message in self.exchange.list(&in_set(&set))? {
                    for element in messages(&message).flat_map(elements) {
                        let Some(address) = address(&element.key) else { continue };
                        let remaining = Duration::from_millis(element.remaining_ms.unwrap_or_default());
                        let known = found.entry(address).or_insert_with(|| (BTreeSet::new(), remaining));
                        known.0.extend(&group.ports);
                        known.1 = known.1.min(remaining);
                    }
                }
            }
        }
        Ok(found.into_iter().map(|(address, (ports, remaining))| Learned { address, ports, remaining }).collect())
    }

    /// Reads all tables of the namespace back and compares them with what was meant, but for what was learned.
    ///
    /// # Errors
    /// [`FirewallError::Differ`] with the first difference.
    pub fn holds(&mut self) -> Result<(), FirewallError> {
        let mut said = Said::default();
        for kind in [kind::GET_TABLE, kind::GET_CHAIN, kind::GET_OBJECT, kind::GET_SET, kind::GET_RULE] {
            // Of every family.
            for message in self.exchange.list(&Message::netfilter(kind, 0, 0, 0))? {
                messages(&message).for_each(|message| said.hear(message));
            }
        }
        for set in said.fixed_sets() {
            for message in self.exchange.list(&in_set(&set))? {
                messages(&message).for_each(|message| said.hear(message));
            }
        }
        let Some(meant) = &self.meant else { return Err(nothing_meant()) };
        match said.difference(&meant.said) {
            Some(difference) => Err(FirewallError::Differ(difference)),
            None => Ok(()),
        }
    }

    /// Names of the sets that are in the table.
    fn sets(&mut self) -> Result<Vec<String>, FirewallError> {
        let mut names = Vec::new();
        for message in self.exchange.list(&Message::netfilter(kind::GET_SET, 0, INET, 0))? {
            for message in messages(&message) {
                let name = |wanted| message.attributes().find(|(kind, _)| *kind == wanted).map(|(_, name)| text(name));
                if name(1).is_some_and(|table| table == TABLE) {
                    names.extend(name(2));
                }
            }
        }
        Ok(names)
    }
}

impl Meant {
    fn of(policy: &AllowList) -> Self {
        let rules = Ruleset::of(policy);
        let mut said = Said::default();
        for message in std::iter::once(draft::new_table()).chain(draft::all(&rules)) {
            messages(&message.numbered(0)).for_each(|message| said.hear(message));
        }
        Self { rules, said }
    }

    /// Changes by which an address is learned.
    fn learning(&self, one: &Learned) -> Vec<Message> {
        let groups = self.rules.groups.iter().enumerate();
        let chosen = groups.filter(|(_, group)| group.learns && group.ports.is_subset(&one.ports));
        let family = Family::of(one.address);
        chosen
            .flat_map(|(number, _)| draft::learned(&learned_of(number, family), one.address, one.remaining.max(LEAST)))
            .collect()
    }
}

fn in_set(name: &str) -> Message {
    Message::netfilter(kind::GET_ELEMENT, 0, INET, 0).named(1, TABLE).named(2, name)
}

fn address(key: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(key).ok().map(IpAddr::from);
    <[u8; 16]>::try_from(key).ok().map(IpAddr::from).or_else(v4)
}

fn nothing_meant() -> FirewallError {
    FirewallError::Differ("no policy was installed".to_owned())
}
