//! Rules as nft(8) reads them, for people and for tests: the kernel is given messages.

use std::fmt;

use super::{Chain, Elements, Family, Hook, LEARNED, LOG_GROUP, LOGGED, Part, Ruleset, Set, TABLE};
use crate::network::RELAY_PORT;

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "table inet {TABLE} {{")?;
        for counter in &self.counters {
            writeln!(f, "\tcounter {counter} {{ }}")?;
        }
        for set in &self.sets {
            write!(f, "{set}")?;
        }
        for chain in &self.chains {
            write!(f, "{chain}")?;
        }
        writeln!(f, "}}")
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tset {} {{", self.name)?;
        match &self.elements {
            Elements::Ports(ports) => {
                writeln!(f, "\t\ttype inet_service")?;
                writeln!(f, "\t\tflags constant")?;
                writeln!(f, "\t\telements = {{ {} }}", joined(ports))?;
            }
            Elements::Ranges(family, ranges) => {
                writeln!(f, "\t\ttype {}", address_type(*family))?;
                writeln!(f, "\t\tflags constant, interval")?;
                writeln!(f, "\t\telements = {{ {} }}", joined(ranges))?;
            }
            Elements::Learned(family) => {
                writeln!(f, "\t\ttype {}", address_type(*family))?;
                writeln!(f, "\t\tsize {LEARNED}")?;
                writeln!(f, "\t\tflags timeout")?;
            }
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "\tchain {} {{", self.name)?;
        if let Some(hook) = self.hook {
            let (kind, policy) = match hook {
                Hook::Filter => ("filter", "drop"),
                Hook::Nat => ("nat", "accept"),
            };
            writeln!(f, "\t\ttype {kind} hook output priority {}; policy {policy};", hook.priority())?;
        }
        for rule in &self.rules {
            let parts: Vec<String> = rule.iter().map(Part::to_string).collect();
            writeln!(f, "\t\t{}", parts.join(" "))?;
        }
        writeln!(f, "\t}}")
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, burst) = LOGGED;
        match self {
            Self::Established => f.write_str("ct state established,related"),
            Self::Loopback(family) => write!(f, "{} daddr {}", header(*family), loopback(*family)),
            Self::Elsewhere(family) => write!(f, "{} daddr != {}", header(*family), loopback(*family)),
            Self::In(family, set) => write!(f, "{} daddr @{set}", header(*family)),
            Self::Tcp => f.write_str("meta l4proto tcp"),
            Self::NotTcp => f.write_str("meta l4proto != tcp"),
            Self::Port(port) => write!(f, "tcp dport {port}"),
            Self::Ports(set) => write!(f, "tcp dport @{set}"),
            Self::Count(counter) => write!(f, "counter name {counter}"),
            Self::Log(prefix) => {
                write!(f, "limit rate {rate}/second burst {burst} packets log prefix \"{prefix}\" group {LOG_GROUP}")
            }
            Self::Accept => f.write_str("accept"),
            Self::Goto(chain) => write!(f, "goto {chain}"),
            Self::Reset => f.write_str("reject with tcp reset"),
            Self::Prohibit => f.write_str("reject with icmpx admin-prohibited"),
            Self::Relay(Family::V4) => write!(f, "dnat ip to 127.0.0.1:{RELAY_PORT}"),
            Self::Relay(Family::V6) => write!(f, "dnat ip6 to [::1]:{RELAY_PORT}"),
        }
    }
}

fn header(family: Family) -> &'static str {
    match family {
        Family::V4 => "ip",
        Family::V6 => "ip6",
    }
}

fn address_type(family: Family) -> &'static str {
    match family {
        Family::V4 => "ipv4_addr",
        Family::V6 => "ipv6_addr",
    }
}

fn loopback(family: Family) -> &'static str {
    match family {
        Family::V4 => "127.0.0.0/8",
        Family::V6 => "::1",
    }
}

fn joined<T: fmt::Display>(list: impl IntoIterator<Item = T>) -> String {
    list.into_iter().map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
