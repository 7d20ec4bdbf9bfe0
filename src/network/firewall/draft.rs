//! Rules as messages to the kernel.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use nftnl::expr::{
    Bitwise, Cmp, CmpOp, Conntrack, IcmpCode, Immediate, Ipv4HeaderField, Ipv6HeaderField, Meta, NetworkHeaderField,
    Payload, Register, RejectionType, States, TcpHeaderField, TransportHeaderField, Verdict,
};
use nftnl::{ChainType, Hook as Place, Policy, ProtoFamily, Rule as Built, Table};

use super::exchange::NFTABLES;
use crate::network::RELAY_PORT;
use crate::network::netlink::{APPEND, CREATE, Message};
use crate::network::rules::{
    Chain, Elements, Family, Hook, LEARNED, LOG_GROUP, LOGGED, Part, Range, Rule, Ruleset, Set, TABLE,
};
use crate::sys::nftables::{Further, message};

/// Kinds of messages; linux/netfilter/nf_tables.h.
pub(super) mod kind {
    use super::NFTABLES;

    const fn of(number: u16) -> u16 {
        NFTABLES << 8 | number
    }
    pub(in super::super) const NEW_TABLE: u16 = of(0);
    pub(in super::super) const GET_TABLE: u16 = of(1);
    pub(in super::super) const NEW_CHAIN: u16 = of(3);
    pub(in super::super) const GET_CHAIN: u16 = of(4);
    pub(in super::super) const NEW_RULE: u16 = of(6);
    pub(in super::super) const GET_RULE: u16 = of(7);
    pub(in super::super) const DELETE_RULE: u16 = of(8);
    pub(in super::super) const NEW_SET: u16 = of(9);
    pub(in super::super) const GET_SET: u16 = of(10);
    pub(in super::super) const DELETE_SET: u16 = of(11);
    pub(in super::super) const NEW_ELEMENT: u16 = of(12);
    pub(in super::super) const GET_ELEMENT: u16 = of(13);
    pub(in super::super) const DELETE_ELEMENT: u16 = of(14);
    pub(in super::super) const NEW_OBJECT: u16 = of(18);
    pub(in super::super) const GET_OBJECT: u16 = of(19);
}

/// NFPROTO_INET
pub(super) const INET: u8 = 1;
/// Flags of sets.
const CONSTANT: u32 = 0x2;
/// As [`CONSTANT`].
const INTERVAL: u32 = 0x4;
/// As [`CONSTANT`].
pub(super) const TIMEOUT: u32 = 0x10;
/// Most elements in one message, which is shorter than 64 KiB.
const ELEMENTS: usize = 1000;

/// An element: a key, whether it ends the range before it, and how long it stays.
type Element = (Vec<u8>, bool, Option<Duration>);

/// Everything in the table, for an empty one.
pub(super) fn all(rules: &Ruleset) -> Vec<Message> {
    let table = table();
    let mut messages: Vec<Message> = rules.chains.iter().map(|chain| self::chain(&table, chain)).collect();
    messages.extend(rules.counters.iter().map(|name| counter(name)));
    for (number, one) in (1..).zip(&rules.sets) {
        messages.push(set(one, number));
        messages.extend(elements(&one.name, &elements_of(one)));
    }
    for chain in &rules.chains {
        messages.extend(chain.rules.iter().map(|one| rule(&table, chain, one)));
    }
    messages
}

/// Makes the table where there is none.
pub(super) fn new_table() -> Message {
    Message::whole(message(&table()), CREATE)
}

/// Takes all rules away, and these sets.
pub(super) fn emptied<'a>(sets: impl Iterator<Item = &'a str>) -> Vec<Message> {
    let mut messages = vec![Message::netfilter(kind::DELETE_RULE, 0, INET, 0).named(1, TABLE)];
    messages.extend(sets.map(|name| Message::netfilter(kind::DELETE_SET, 0, INET, 0).named(1, TABLE).named(2, name)));
    messages
}

/// Puts an address into a set for a time, or makes its time there new. Before Linux 6.12 the time of an element
/// that is there can't be changed, so it is taken out and put back, in one step.
pub(super) fn learned(set: &str, address: IpAddr, lifetime: Duration) -> Vec<Message> {
    let element: [Element; 1] = [(octets(address), false, Some(lifetime))];
    let bare = |kind, flags| in_set(Message::netfilter(kind, flags, INET, 0), set, &element);
    vec![bare(kind::NEW_ELEMENT, CREATE), bare(kind::DELETE_ELEMENT, 0), bare(kind::NEW_ELEMENT, CREATE)]
}

fn table() -> Table {
    let name = CString::new(TABLE).expect("a name without NUL");
    Table::new(name, ProtoFamily::Inet)
}

fn named(name: &str) -> CString {
    CString::new(name).expect("names of chains, sets and counters are our own")
}

fn built<'a>(table: &'a Table, chain: &Chain) -> nftnl::Chain<'a> {
    nftnl::Chain::new(named(chain.name), table)
}

fn chain(table: &Table, chain: &Chain) -> Message {
    let mut made = built(table, chain);
    if let Some(hook) = chain.hook {
        made.set_hook(Place::Out, hook.priority());
        let (kind, policy) = match hook {
            Hook::Filter => (ChainType::Filter, Policy::Drop),
            Hook::Nat => (ChainType::Nat, Policy::Accept),
        };
        made.set_type(kind);
        made.set_policy(policy);
    }
    Message::whole(message(&made), CREATE)
}

fn counter(name: &str) -> Message {
    // NFT_OBJECT_COUNTER, with nothing in it.
    let message = Message::netfilter(kind::NEW_OBJECT, CREATE, INET, 0).named(1, TABLE).named(2, name);
    message.with(3, &1u32.to_be_bytes()).nest(4, |data| data)
}

fn set(set: &Set, number: u32) -> Message {
    let (flags, (kind, length), size) = match set.elements {
        Elements::Ports(_) => (CONSTANT, (13u32, 2u32), None),
        Elements::Ranges(family, _) => (CONSTANT | INTERVAL, key(family), None),
        Elements::Learned(family) => (TIMEOUT, key(family), Some(LEARNED)),
    };
    let message = Message::netfilter(kind::NEW_SET, CREATE, INET, 0)
        .named(1, TABLE)
        .named(2, &set.name)
        .with(3, &flags.to_be_bytes())
        .with(4, &kind.to_be_bytes())
        .with(5, &length.to_be_bytes())
        .with(10, &number.to_be_bytes());
    match size {
        Some(size) => message.nest(9, |about| about.with(1, &size.to_be_bytes())),
        None => message,
    }
}

/// Type of a key, by nft(8)'s numbers, and its length.
fn key(family: Family) -> (u32, u32) {
    match family {
        Family::V4 => (7, 4),
        Family::V6 => (8, 16),
    }
}

fn elements_of(set: &Set) -> Vec<Element> {
    match &set.elements {
        Elements::Ports(ports) => ports.iter().map(|port| (port.to_be_bytes().to_vec(), false, None)).collect(),
        Elements::Ranges(_, ranges) => ranges.iter().flat_map(ends).collect(),
        Elements::Learned(_) => Vec::new(),
    }
}

/// An interval set holds where each range begins, and where what is behind it does.
fn ends(range: &Range) -> impl Iterator<Item = Element> + use<> {
    let first = (octets(range.first), false, None);
    let behind = range.behind().map(|behind| (octets(behind), true, None));
    std::iter::once(first).chain(behind)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn elements(set: &str, elements: &[Element]) -> Vec<Message> {
    let new = || Message::netfilter(kind::NEW_ELEMENT, CREATE, INET, 0);
    elements.chunks(ELEMENTS).map(|some| in_set(new(), set, some)).collect()
}

fn in_set(message: Message, set: &str, elements: &[Element]) -> Message {
    message.named(1, TABLE).named(2, set).nest(3, |mut list| {
        for (key, is_end, lifetime) in elements {
            list = list.nest(1, |mut element| {
                element = element.nest(1, |value| value.with(1, key));
                if *is_end {
                    element = element.with(3, &1u32.to_be_bytes());
                }
                if let Some(lifetime) = lifetime {
                    let milliseconds = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
                    // None at all would be forever.
                    element = element.with(4, &milliseconds.max(1).to_be_bytes());
                }
                element
            });
        }
        list
    })
}

fn rule(table: &Table, chain: &Chain, rule: &Rule) -> Message {
    let chain = built(table, chain);
    let mut made = Built::new(&chain);
    for part in rule {
        express(&mut made, part);
    }
    Message::whole(message(&made), CREATE | APPEND)
}

/// Adds what nft(8) makes of the part's text.
fn express(rule: &mut Built<'_>, part: &Part) {
    const TCP: u8 = 6;
    match part {
        Part::Established => {
            rule.add_expr(&Conntrack::State);
            let states = (States::ESTABLISHED | States::RELATED).bits();
            rule.add_expr(&Bitwise::new(states, 0u32));
            rule.add_expr(&Cmp::new(CmpOp::Neq, 0u32));
        }
        Part::Loopback(family) => loopback(rule, *family, CmpOp::Eq),
        Part::Elsewhere(family) => loopback(rule, *family, CmpOp::Neq),
        Part::In(family, set) => {
            only(rule, *family);
            rule.add_expr(&destination(*family));
            rule.add_expr(&Further::lookup(&named(set)));
        }
        Part::Tcp => transport(rule, CmpOp::Eq, TCP),
        Part::NotTcp => transport(rule, CmpOp::Neq, TCP),
        Part::Port(port) => {
            transport(rule, CmpOp::Eq, TCP);
            rule.add_expr(&Payload::Transport(TransportHeaderField::Tcp(TcpHeaderField::Dport)));
            rule.add_expr(&Cmp::new(CmpOp::Eq, &port.to_be_bytes()[..]));
        }
        Part::Ports(set) => {
            transport(rule, CmpOp::Eq, TCP);
            rule.add_expr(&Payload::Transport(TransportHeaderField::Tcp(TcpHeaderField::Dport)));
            rule.add_expr(&Further::lookup(&named(set)));
        }
        Part::Count(counter) => rule.add_expr(&Further::counter(&named(counter))),
        Part::Log(prefix) => {
            rule.add_expr(&Further::limit(LOGGED.0, LOGGED.1));
            rule.add_expr(&Further::log(LOG_GROUP, &named(prefix)));
        }
        Part::Accept => rule.add_expr(&Verdict::Accept),
        Part::Goto(chain) => rule.add_expr(&Verdict::Goto { chain: named(chain) }),
        Part::Reset => rule.add_expr(&Verdict::Reject(RejectionType::TcpRst)),
        Part::Prohibit => rule.add_expr(&Verdict::Reject(RejectionType::Icmp(IcmpCode::AdminProhibited))),
        Part::Relay(family) => {
            match family {
                Family::V4 => rule.add_expr(&Immediate::new(Ipv4Addr::LOCALHOST.octets(), Register::Reg1)),
                Family::V6 => rule.add_expr(&Immediate::new(Ipv6Addr::LOCALHOST.octets(), Register::Reg1)),
            }
            rule.add_expr(&Immediate::new(RELAY_PORT.to_be_bytes(), Register::Reg2));
            rule.add_expr(&Further::destination(u32::from(number(*family))));
        }
    }
}

fn only(rule: &mut Built<'_>, family: Family) {
    rule.add_expr(&Meta::NfProto);
    rule.add_expr(&Cmp::new(CmpOp::Eq, &[number(family)][..]));
}

/// NFPROTO_IPV4, NFPROTO_IPV6
fn number(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

fn transport(rule: &mut Built<'_>, op: CmpOp, protocol: u8) {
    rule.add_expr(&Meta::L4Proto);
    rule.add_expr(&Cmp::new(op, &[protocol][..]));
}

fn destination(family: Family) -> Payload {
    Payload::Network(match family {
        Family::V4 => NetworkHeaderField::Ipv4(Ipv4HeaderField::Daddr),
        Family::V6 => NetworkHeaderField::Ipv6(Ipv6HeaderField::Daddr),
    })
}

fn loopback(rule: &mut Built<'_>, family: Family, op: CmpOp) {
    only(rule, family);
    match family {
        Family::V4 => {
            rule.add_expr(&destination(family));
            rule.add_expr(&Bitwise::new(&[255u8, 0, 0, 0][..], &[0u8; 4][..]));
            rule.add_expr(&Cmp::new(op, &[127u8, 0, 0, 0][..]));
        }
        Family::V6 => {
            rule.add_expr(&destination(family));
            rule.add_expr(&Cmp::new(op, Ipv6Addr::LOCALHOST));
        }
    }
}
