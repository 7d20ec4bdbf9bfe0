//! What a sandbox can reach, as data.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::never::{MAPPED, NEVER, disguised};

/// Ports of a destination that names none: HTTP and HTTPS.
pub const DEFAULT_PORTS: [u16; 2] = [80, 443];
/// Most destinations of a list.
pub const DESTINATIONS: usize = 4096;
/// Most ports of a destination.
pub const PORTS: usize = 64;
/// Most different choices of ports in a list: each takes sets and rules of its own.
pub const GROUPS: usize = 32;
/// Most private networks that a list excepts.
pub const EXCEPTED: usize = 256;

/// Most secrets of a list.
pub const SECRETS: usize = 16;
/// Longest name of a variable that stands for a secret, in bytes.
const VARIABLE_BYTES: usize = 128;

/// What a sandbox can reach. Written as `"none"`, `"loopback"`, or as an [`AllowList`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// Nothing: no interface is up, and internet sockets are refused by the filter, by name.
    #[default]
    None,
    /// A loopback device of its own, for programs that talk to themselves.
    Loopback,
    /// A loopback device, and over TCP what the list names.
    Allow(Box<AllowList>),
}

impl Network {
    /// Whether a program may have internet sockets at all: it has a loopback device at least.
    #[must_use]
    pub fn has_sockets(&self) -> bool {
        *self != Self::None
    }

    /// Whether a program has secrets that it does not see.
    #[must_use]
    pub fn has_secrets(&self) -> bool {
        matches!(self, Self::Allow(list) if !list.secrets.is_empty())
    }

    /// The variables that stand for secrets.
    #[must_use]
    pub fn variables(&self) -> Vec<String> {
        match self {
            Self::Allow(list) => list.secrets.keys().cloned().collect(),
            Self::None | Self::Loopback => Vec::new(),
        }
    }

    /// Checks a network that stands for itself, such as a profile's.
    ///
    /// # Errors
    /// As [`AllowList::check`].
    pub fn check(&self) -> Result<(), Unfit> {
        match self {
            Self::None | Self::Loopback => Ok(()),
            Self::Allow(list) => list.check(),
        }
    }

    /// Checks that it reaches nothing that `wider` does not.
    ///
    /// # Errors
    /// The first thing that is not covered.
    pub fn within(&self, wider: &Self) -> Result<(), NotCovered> {
        match (self, wider) {
            (Self::None, _) | (Self::Loopback, Self::Loopback | Self::Allow(_)) => Ok(()),
            (Self::Allow(list), Self::Allow(wider)) => list.within(wider),
            (Self::Loopback, Self::None) => Err(NotCovered::Loopback),
            (Self::Allow(_), Self::None | Self::Loopback) => Err(NotCovered::Closed),
        }
    }

    /// What a request gets that asks for this under `wider`; see [`AllowList::narrowed`].
    ///
    /// # Errors
    /// The first thing that is not covered.
    pub fn narrowed(self, wider: &Self) -> Result<Self, NotCovered> {
        match (self, wider) {
            (Self::Allow(list), Self::Allow(wider)) => Ok(Self::Allow(Box::new(list.narrowed(wider)?))),
            (other, wider) => other.within(wider).map(|()| other),
        }
    }

    /// See [`AllowList::bounded`].
    ///
    /// # Errors
    /// What it names and the other does not.
    pub fn bounded(self, wider: &Self) -> Result<Self, NotCovered> {
        match (self, wider) {
            (Self::Allow(list), Self::Allow(wider)) => Ok(Self::Allow(Box::new(list.bounded(wider)?))),
            (other, wider) => other.within(wider).map(|()| other),
        }
    }
}

/// What of the network is allowed. An empty list allows nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AllowList {
    /// Destinations. What none of them names is refused.
    pub allow: Vec<Destination>,
    /// Private networks that destinations may lie in all the same, such as `10.1.0.0/16`; only in profiles.
    pub allow_private: Vec<IpNet>,
    /// Most connections that are open at one time.
    pub connections: Option<u32>,
    /// Most bytes in both directions, in all.
    pub bytes: Option<u64>,
    /// Most bytes a second, in both directions together.
    pub bytes_per_second: Option<u64>,
    /// Secrets by the variable that holds a placeholder of each: names of the configuration's section `secrets`.
    pub secrets: BTreeMap<String, String>,
}

impl AllowList {
    /// Checks a list that stands for itself, such as a profile's.
    ///
    /// # Errors
    /// The first thing about it that can't be.
    pub fn check(&self) -> Result<(), Unfit> {
        self.check_shape()?;
        let private = IpNet::aggregate(&NEVER.to_vec());
        let excepted = IpNet::aggregate(&self.allow_private);
        for destination in &self.allow {
            if let Host::Cidr(net) = destination.host
                && private.iter().any(|private| private.contains(&net))
                && !excepted.iter().any(|excepted| excepted.contains(&net))
            {
                return Err(Unfit::Private(net));
            }
        }
        Ok(())
    }

    /// Checks all that can be told of a request's list without the profile that it narrows: whether a private
    /// network is excepted, the profile alone says.
    ///
    /// # Errors
    /// The first thing about it that can't be.
    pub fn check_shape(&self) -> Result<(), Unfit> {
        if self.allow.len() > DESTINATIONS {
            return Err(Unfit::Destinations(self.allow.len()));
        }
        for destination in &self.allow {
            destination.check()?;
        }
        let groups = self.allow.iter().map(|destination| &destination.ports).collect::<BTreeSet<_>>().len();
        if groups > GROUPS {
            return Err(Unfit::Groups(groups));
        }
        if self.allow_private.len() > EXCEPTED {
            return Err(Unfit::Excepted(self.allow_private.len()));
        }
        for net in &self.allow_private {
            check_net(*net)?;
            // Also refuses 0.0.0.0/0, with which nothing would be private any more.
            if !NEVER.iter().any(|private| private.contains(net)) {
                return Err(Unfit::Public(*net));
            }
        }
        if self.secrets.len() > SECRETS {
            return Err(Unfit::Secrets(self.secrets.len()));
        }
        if let Some(variable) = self.secrets.keys().find(|variable| !is_variable(variable)) {
            return Err(Unfit::Variable(variable.clone()));
        }
        let zero = |(_, bound): &(_, Option<u64>)| *bound == Some(0);
        match self.bounds().into_iter().find(zero) {
            Some((field, _)) => Err(Unfit::Zero(field)),
            None => Ok(()),
        }
    }

    /// Checks that it reaches nothing that `wider` does not. A bound that is absent here is not larger than
    /// one of the wider list: it stands for that.
    ///
    /// # Errors
    /// The first thing that is not covered.
    pub fn within(&self, wider: &Self) -> Result<(), NotCovered> {
        let is_covered = |one: &Destination| wider.allow.iter().any(|wider| wider.covers(one));
        if let Some(destination) = self.allow.iter().find(|one| !is_covered(one)) {
            return Err(NotCovered::Destination(Box::new(destination.clone())));
        }
        let is_excepted = |net: &IpNet| wider.allow_private.iter().any(|wider| wider.contains(net));
        if let Some(net) = self.allow_private.iter().find(|net| !is_excepted(net)) {
            return Err(NotCovered::Private(*net));
        }
        if let Some((variable, _)) = self.secrets.iter().find(|(name, secret)| wider.secrets.get(*name) != Some(secret))
        {
            return Err(NotCovered::Secret(variable.clone()));
        }
        for ((field, asked), (_, most)) in self.bounds().into_iter().zip(wider.bounds()) {
            if let (Some(asked), Some(most)) = (asked, most)
                && asked > most
            {
                return Err(NotCovered::Bound { field, asked, most });
            }
        }
        Ok(())
    }

    /// What a request gets that asks for this under `wider`: bounds that it does not name, and the private
    /// networks and secrets, which it may not name, are those of the wider list.
    ///
    /// # Errors
    /// The first thing that is not covered.
    pub fn narrowed(mut self, wider: &Self) -> Result<Self, NotCovered> {
        if let Some(net) = self.allow_private.first() {
            return Err(NotCovered::Private(*net));
        }
        if let Some(variable) = self.secrets.keys().next() {
            return Err(NotCovered::Secret(variable.clone()));
        }
        self.allow_private.clone_from(&wider.allow_private);
        self.secrets.clone_from(&wider.secrets);
        self.bounded(wider)
    }

    /// The list with the other's bounds where it has none, if it is within the other.
    ///
    /// # Errors
    /// The first thing that is not.
    pub fn bounded(mut self, wider: &Self) -> Result<Self, NotCovered> {
        self.within(wider)?;
        self.connections = self.connections.or(wider.connections);
        self.bytes = self.bytes.or(wider.bytes);
        self.bytes_per_second = self.bytes_per_second.or(wider.bytes_per_second);
        Ok(self)
    }

    /// Ports at which a host of this name may be reached; none where nothing lists it.
    #[must_use]
    pub fn ports_of(&self, name: &Name) -> BTreeSet<u16> {
        let is_listed = |destination: &&Destination| match &destination.host {
            Host::Domain(domain) => domain == name,
            Host::Suffix(suffix) => name.is_below(suffix),
            Host::Cidr(_) => false,
        };
        self.allow.iter().filter(is_listed).flat_map(|destination| destination.ports.iter().copied()).collect()
    }

    /// Whether an address may be reached at this port without a name.
    #[must_use]
    pub fn allows(&self, address: IpAddr, port: u16) -> bool {
        let is_listed = |one: &Destination| matches!(one.host, Host::Cidr(net) if net.contains(&address));
        !self.is_refused(address) && self.allow.iter().any(|one| is_listed(one) && one.ports.contains(&port))
    }

    /// Whether nobody may reach this address, whatever name or network leads there: it is not public, or an
    /// IPv4 address in disguise that is not, and not excepted.
    #[must_use]
    pub fn is_refused(&self, address: IpAddr) -> bool {
        let is_in = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        (is_in(&NEVER) && !is_in(&self.allow_private))
            || disguised(address).into_iter().any(|within| self.is_refused(within))
    }

    fn bounds(&self) -> [(&'static str, Option<u64>); 3] {
        [
            ("connections", self.connections.map(u64::from)),
            ("bytes", self.bytes),
            ("bytes_per_second", self.bytes_per_second),
        ]
    }
}

/// One thing that is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// Who may be reached.
    pub host: Host,
    /// At which TCP ports; never empty.
    pub ports: BTreeSet<u16>,
}

impl Destination {
    fn check(&self) -> Result<(), Unfit> {
        if self.ports.is_empty() || self.ports.contains(&0) {
            return Err(Unfit::NoPort(self.host.clone()));
        }
        if self.ports.len() > PORTS {
            return Err(Unfit::Ports(self.host.clone(), self.ports.len()));
        }
        match self.host {
            Host::Cidr(net) => check_net(net),
            Host::Domain(_) | Host::Suffix(_) => Ok(()),
        }
    }

    /// Whether whatever `other` reaches, this reaches too.
    fn covers(&self, other: &Self) -> bool {
        let host = match (&self.host, &other.host) {
            (Host::Domain(wider), Host::Domain(name)) => name == wider,
            (Host::Suffix(wider), Host::Domain(name)) => name.is_below(wider),
            (Host::Suffix(wider), Host::Suffix(name)) => name == wider || name.is_below(wider),
            (Host::Cidr(wider), Host::Cidr(net)) => wider.contains(net),
            _ => false,
        };
        host && other.ports.is_subset(&self.ports)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        write!(f, "{} at port {}", self.host, ports.join(", "))
    }
}

fn is_variable(name: &str) -> bool {
    name.len() <= VARIABLE_BYTES
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit())
}

fn check_net(net: IpNet) -> Result<(), Unfit> {
    if net != net.trunc() {
        return Err(Unfit::HostBits(net));
    }
    if MAPPED.contains(&net) {
        return Err(Unfit::Mapped(net));
    }
    Ok(())
}

/// Who may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Host {
    /// The host of this very name.
    Domain(Name),
    /// All hosts below this name, at whatever depth, and not itself.
    Suffix(Name),
    /// All addresses of this network, without a name.
    Cidr(IpNet),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(name) => write!(f, "domain {name}"),
            Self::Suffix(name) => write!(f, "suffix .{name}"),
            Self::Cidr(net) => write!(f, "cidr {net}"),
        }
    }
}

/// Why a network policy can't be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has too many destinations.
    #[error("there are {0} destinations, but at most {DESTINATIONS} are possible")]
    Destinations(usize),
    /// It has too many choices of ports.
    #[error("there are {0} different choices of ports, but at most {GROUPS} are possible")]
    Groups(usize),
    /// A destination has no port, or port 0.
    #[error("ports of {0} are from 1 to 65535, and at least one")]
    NoPort(Host),
    /// A destination has too many ports.
    #[error("ports of {0} are {1}, but at most {PORTS} are possible")]
    Ports(Host, usize),
    /// A network is written with an address in it.
    #[error("cidr {0} has bits set behind its prefix: the network is {net}", net = .0.trunc())]
    HostBits(IpNet),
    /// A network is IPv4 in disguise.
    #[error("cidr {0} is IPv4 in disguise: write the IPv4 network")]
    Mapped(IpNet),
    /// A network is private.
    #[error("cidr {0} is private or reserved, and allow_private does not cover it")]
    Private(IpNet),
    /// A network is excepted that need not be.
    #[error("allow_private {0} is not within a private network")]
    Public(IpNet),
    /// It excepts too many private networks.
    #[error("allow_private has {0} networks, but at most {EXCEPTED} are possible")]
    Excepted(usize),
    /// It has too many secrets.
    #[error("there are {0} secrets, but at most {SECRETS} are possible")]
    Secrets(usize),
    /// No environment can have a variable of this name.
    #[error("{0:?} is no name of a variable: letters, digits and underscores, and no digit at its beginning")]
    Variable(String),
    /// A bound is zero.
    #[error("{0} is 0, which would allow nothing: an empty list says that")]
    Zero(&'static str),
}

/// What of a network goes beyond the one it is held to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotCovered {
    /// A loopback device, where there is none.
    #[error("the profile has no network, not even loopback")]
    Loopback,
    /// Destinations, where nothing outside may be reached.
    #[error("the profile allows no destination")]
    Closed,
    /// A destination.
    #[error("{0} is not within what the profile allows")]
    Destination(Box<Destination>),
    /// A private network.
    #[error("allow_private {0} is for the profile alone to say")]
    Private(IpNet),
    /// A secret.
    #[error("the profile has no such secret for {0}")]
    Secret(String),
    /// A bound.
    #[error("{field} is {asked}, but the profile allows at most {most}")]
    Bound {
        /// Its name.
        field: &'static str,
        /// What was asked for.
        asked: u64,
        /// What the wider list has.
        most: u64,
    },
}

/// A domain name: lower-case ASCII labels (RFC 1035, RFC 5890), without the dot at the end.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name(String);

impl Name {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a name below `suffix`, at whatever depth.
    #[must_use]
    pub fn is_below(&self, suffix: &Self) -> bool {
        self.0.strip_suffix(&suffix.0).is_some_and(|before| before.len() > 1 && before.ends_with('.'))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = String;

    /// Takes a name in any case, with or without the dot at the end.
    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        // A name whose last label is a number would be taken for an address (WHATWG URL, "ends in a number").
        let is_address = name.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
        if name.len() > 253 || is_address || !name.split('.').all(is_label) {
            return Err(format!("{text:?} is no domain name"));
        }
        Ok(Self(name))
    }
}

#[cfg(test)]
mod tests;
