//! What the rules of a namespace are, for a policy: data, printed as nft(8) reads it.
//!
//! A packet of a program meets two chains. `output` decides, before its destination is changed: what is refused
//! goes to a chain that counts it, logs it and answers at once. `to_relay` sends every TCP connection that is left
//! to the relay. Nothing but loopback stands behind them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

use crate::profile::{AllowList, Host, NEVER};

use super::RELAY_PORT;

mod ranges;
mod text;

pub use ranges::Range;

/// Name of the table, of family inet.
pub const TABLE: &str = "codesandbox";
/// Group of the log, in its own namespace.
pub const LOG_GROUP: u16 = 1;
/// Most addresses that are learned in one set.
pub const LEARNED: u32 = 4096;
/// Messages a second that are logged for each reason, and in one burst.
pub const LOGGED: (u64, u32) = (100, 200);

/// Why a packet is refused: names of the chains that do, of their counters, and what their log says.
pub const PRIVATE: &str = "private";
/// As [`PRIVATE`].
pub const PORT: &str = "wrong_port";
/// As [`PRIVATE`].
pub const UNLISTED: &str = "not_listed";
/// The counter of connections that were let through.
pub const ACCEPTED: &str = "allowed";

/// All of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruleset {
    /// Named counters.
    pub counters: Vec<&'static str>,
    /// Named sets.
    pub sets: Vec<Set>,
    /// Chains.
    pub chains: Vec<Chain>,
    /// Destinations with equal ports, in the order of their numbers.
    pub groups: Vec<Group>,
}

/// Destinations with equal ports, which share sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// At which ports they are reached.
    pub ports: BTreeSet<u16>,
    /// Whether addresses are learned for it: it has destinations with names.
    pub learns: bool,
    nets: Vec<IpNet>,
}

/// A named set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub elements: Elements,
}

/// What is in a set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elements {
    /// Ports, which never change.
    Ports(BTreeSet<u16>),
    /// Ranges of addresses, which never change.
    Ranges(Family, Vec<Range>),
    /// Addresses that come and expire.
    Learned(Family),
}

/// Version of the Internet Protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// Version 4.
    V4,
    /// Version 6.
    V6,
}

/// A chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: &'static str,
    /// Where the kernel enters it; absent where only rules do.
    pub hook: Option<Hook>,
    /// Its rules, in order.
    pub rules: Vec<Rule>,
}

/// A place on the way out at which the kernel asks a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Decides, after connections are tracked (-200) and before addresses are changed (-100); drops what no
    /// rule decided.
    Filter,
    /// Changes addresses.
    Nat,
}

impl Hook {
    /// Its place among all hooks.
    #[must_use]
    pub fn priority(self) -> i32 {
        match self {
            Self::Filter => -150,
            Self::Nat => -100,
        }
    }
}

/// Conditions, and what is done where all are met.
pub type Rule = Vec<Part>;

/// A condition or an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// It belongs to a connection that was let through.
    Established,
    /// It goes to loopback.
    Loopback(Family),
    /// It goes elsewhere than to loopback.
    Elsewhere(Family),
    /// It goes to an address in this set.
    In(Family, String),
    /// It is TCP.
    Tcp,
    /// It is not TCP.
    NotTcp,
    /// It is TCP to this port.
    Port(u16),
    /// It is TCP to a port in this set.
    Ports(String),
    /// Counts it.
    Count(&'static str),
    /// Logs it with this prefix, as far as the limit goes: what is beyond it meets no further part of the rule.
    Log(&'static str),
    /// Lets it through.
    Accept,
    /// Goes on in another chain, and does not come back.
    Goto(&'static str),
    /// Refuses it with a reset.
    Reset,
    /// Refuses it with a message of ICMP.
    Prohibit,
    /// Sends it to the relay.
    Relay(Family),
}

impl Ruleset {
    /// The rules of a policy.
    #[must_use]
    pub fn of(policy: &AllowList) -> Self {
        let groups = groups(policy);
        let mut sets = vec![];
        for family in Family::BOTH {
            sets.extend(family.fixed(format!("never{family}"), &NEVER));
            sets.extend(family.fixed(format!("excepted{family}"), &policy.allow_private));
        }
        for (number, group) in groups.iter().enumerate() {
            sets.push(Set { name: ports_of(number), elements: Elements::Ports(group.ports.clone()) });
            for family in Family::BOTH {
                if group.learns {
                    sets.push(Set { name: learned_of(number, family), elements: Elements::Learned(family) });
                }
                sets.extend(family.fixed(cidr_of(number, family), &group.nets));
            }
        }
        let mut chains = vec![output(&sets), listed(&groups, &sets)];
        chains.extend([PRIVATE, PORT, UNLISTED].map(refusal));
        chains.push(to_relay());
        Self { counters: vec![ACCEPTED, PRIVATE, PORT, UNLISTED], sets, chains, groups }
    }
}

impl Family {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// A set of the networks of this family; none where there is no such network.
    fn fixed(self, name: String, nets: &[IpNet]) -> Option<Set> {
        let ranges = ranges::merged(nets.iter().filter(|net| Self::of(net.addr()) == self));
        (!ranges.is_empty()).then_some(Set { name, elements: Elements::Ranges(self, ranges) })
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::V4 { "4" } else { "6" })
    }
}

/// Name of the set of ports of a group.
fn ports_of(group: usize) -> String {
    format!("ports_{group}")
}

/// Name of the set of addresses that are learned for a group.
#[must_use]
pub fn learned_of(group: usize, family: Family) -> String {
    format!("learned{family}_{group}")
}

fn cidr_of(group: usize, family: Family) -> String {
    format!("cidr{family}_{group}")
}

/// Ordered by their ports, so that the order of destinations makes no difference.
fn groups(policy: &AllowList) -> Vec<Group> {
    let mut found: BTreeMap<&BTreeSet<u16>, Group> = BTreeMap::new();
    for destination in &policy.allow {
        let ports = &destination.ports;
        let group =
            found.entry(ports).or_insert_with(|| Group { ports: ports.clone(), learns: false, nets: Vec::new() });
        match destination.host {
            Host::Domain(_) | Host::Suffix(_) => group.learns = true,
            Host::Cidr(net) => group.nets.push(net),
        }
    }
    found.into_values().collect()
}

fn output(sets: &[Set]) -> Chain {
    let mut rules = vec![vec![Part::Established, Part::Accept]];
    // Only rules send there: who connects directly has no destination that the relay could look at.
    rules.extend(Family::BOTH.map(|family| vec![Part::Loopback(family), Part::Port(RELAY_PORT), Part::Goto(PRIVATE)]));
    rules.extend(Family::BOTH.map(|family| vec![Part::Loopback(family), Part::Accept]));
    // Exceptions before what they except.
    for (prefix, chain) in [("excepted", "listed"), ("never", PRIVATE)] {
        for family in Family::BOTH {
            let name = format!("{prefix}{family}");
            if sets.iter().any(|set| set.name == name) {
                rules.push(vec![Part::In(family, name), Part::Goto(chain)]);
            }
        }
    }
    rules.push(vec![Part::Goto("listed")]);
    Chain { name: "output", hook: Some(Hook::Filter), rules }
}

fn listed(groups: &[Group], sets: &[Set]) -> Chain {
    let mut rules = vec![vec![Part::NotTcp, Part::Goto(UNLISTED)]];
    let mut wrong_port = Vec::new();
    for number in 0..groups.len() {
        for family in Family::BOTH {
            for name in [learned_of(number, family), cidr_of(number, family)] {
                if sets.iter().any(|set| set.name == name) {
                    let at = Part::In(family, name);
                    let through = [Part::Ports(ports_of(number)), Part::Count(ACCEPTED), Part::Accept];
                    rules.push([vec![at.clone()], through.to_vec()].concat());
                    wrong_port.push(vec![at, Part::Goto(PORT)]);
                }
            }
        }
    }
    // Behind all that accept: an address can be in several groups.
    rules.extend(wrong_port);
    rules.push(vec![Part::Goto(UNLISTED)]);
    Chain { name: "listed", hook: None, rules }
}

/// At once and not by silence, so that a program is told and need not wait.
fn refusal(reason: &'static str) -> Chain {
    let rules =
        vec![vec![Part::Count(reason)], vec![Part::Log(reason)], vec![Part::Tcp, Part::Reset], vec![Part::Prohibit]];
    Chain { name: reason, hook: None, rules }
}

fn to_relay() -> Chain {
    let rules = Family::BOTH.map(|family| vec![Part::Elsewhere(family), Part::Tcp, Part::Relay(family)]).to_vec();
    Chain { name: "to_relay", hook: Some(Hook::Nat), rules }
}

#[cfg(test)]
mod tests;
