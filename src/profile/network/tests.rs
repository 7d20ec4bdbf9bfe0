//! Networks: what is refused, what lies within what.

use proptest::prelude::*;

use super::*;

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn to(host: Host, ports: &[u16]) -> Destination {
    Destination { host, ports: ports.iter().copied().collect() }
}

fn domain(text: &str) -> Host {
    Host::Domain(name(text))
}

fn suffix(text: &str) -> Host {
    Host::Suffix(name(text))
}

fn cidr(text: &str) -> Host {
    Host::Cidr(net(text))
}

fn list(allow: Vec<Destination>) -> AllowList {
    AllowList { allow, ..AllowList::default() }
}

fn one(host: Host) -> AllowList {
    list(vec![to(host, &DEFAULT_PORTS)])
}

#[test]
fn a_suffix_is_all_below_it_and_not_itself() {
    let listed = one(suffix("example.org"));
    assert_eq!(listed.ports_of(&name("www.example.org")), DEFAULT_PORTS.into());
    assert_eq!(listed.ports_of(&name("a.b.example.org")), DEFAULT_PORTS.into());
    for other in ["example.org", "badexample.org", "example.org.evil.net", "org"] {
        assert!(listed.ports_of(&name(other)).is_empty(), "{other}");
    }
}

#[test]
fn ports_of_a_name_are_those_of_all_entries_that_match() {
    let listed = list(vec![
        to(domain("git.example.org"), &[22]),
        to(suffix("example.org"), &[443]),
        to(domain("example.org"), &[80]),
    ]);
    assert_eq!(listed.ports_of(&name("GIT.example.org.")), [22, 443].into());
}

#[test]
fn an_address_is_allowed_by_network_and_port() {
    let listed = list(vec![to(cidr("198.35.26.0/24"), &[443]), to(cidr("2620:0:860::/46"), &[22])]);
    let allows = |address: &str, port| listed.allows(address.parse().unwrap(), port);
    assert!(allows("198.35.26.96", 443) && allows("2620:0:861::1", 22));
    assert!(!allows("198.35.26.96", 22) && !allows("198.35.27.1", 443) && !allows("2620:0:861::1", 443));
}

#[test]
fn what_is_private_is_refused_though_it_is_listed() {
    let mut listed = list(vec![to(cidr("0.0.0.0/0"), &[80]), to(cidr("::/0"), &[80])]);
    let refused = [
        "127.0.0.1",
        "169.254.169.254",
        "10.1.2.3",
        "0.0.0.0",
        "192.0.2.2",
        "255.255.255.255",
        "::1",
        "::",
        "::ffff:1.1.1.1",
        "::7f00:1",
        "64:ff9b::a01:203",
        "2002:a01:203::1",
        "fd00:ec2::254",
        "fe80::1",
        "2001:db8::2",
    ];
    for text in refused {
        let address = text.parse().unwrap();
        assert!(listed.is_refused(address) && !listed.allows(address, 80), "{text}");
    }
    for text in ["1.1.1.1", "2606:4700::1111", "172.32.0.1", "100.128.0.1"] {
        assert!(listed.allows(text.parse().unwrap(), 80), "{text}");
    }
    listed.allow_private = vec![net("10.1.0.0/16"), net("64:ff9b::/96")];
    let is_refused = |text: &str| listed.is_refused(text.parse().unwrap());
    assert!(!is_refused("10.1.2.3") && is_refused("10.2.2.3") && is_refused("169.254.169.254"));
    // An exception for the disguise is none for what is in it.
    assert!(!is_refused("64:ff9b::a01:203") && is_refused("64:ff9b::a02:203") && is_refused("64:ff9b::a9fe:a9fe"));
}

#[test]
fn a_private_network_needs_an_exception_that_covers_it() {
    let mut listed = one(cidr("10.1.2.0/24"));
    assert_eq!(listed.check(), Err(Unfit::Private(net("10.1.2.0/24"))));
    listed.check_shape().unwrap();
    listed.allow_private = vec![net("10.1.2.0/25")];
    assert!(listed.check().is_err());
    listed.allow_private = vec![net("10.1.2.0/25"), net("10.1.2.128/25")];
    listed.check().unwrap();
    // What is public in part is reached in that part.
    one(cidr("0.0.0.0/0")).check().unwrap();
    // Two private networks side by side are private all the same.
    assert!(one(cidr("fe80::/9")).check().is_err());
}

#[test]
fn what_can_not_be_is_told_by_name() {
    let unfit = |list: AllowList| list.check().unwrap_err();
    let excepting = |text| AllowList { allow_private: vec![net(text)], ..AllowList::default() };
    assert_eq!(unfit(one(cidr("198.35.26.1/24"))), Unfit::HostBits(net("198.35.26.1/24")));
    assert_eq!(unfit(one(cidr("::ffff:1.1.1.0/120"))), Unfit::Mapped(net("::ffff:1.1.1.0/120")));
    assert_eq!(unfit(excepting("0.0.0.0/0")), Unfit::Public(net("0.0.0.0/0")));
    assert_eq!(unfit(excepting("198.35.26.0/24")), Unfit::Public(net("198.35.26.0/24")));
    assert_eq!(unfit(list(vec![to(domain("a.org"), &[])])), Unfit::NoPort(domain("a.org")));
    assert_eq!(unfit(list(vec![to(domain("a.org"), &[0, 1])])), Unfit::NoPort(domain("a.org")));
    let zero = AllowList { bytes: Some(0), ..AllowList::default() };
    assert_eq!(unfit(zero), Unfit::Zero("bytes"));
    let host_bits = Unfit::HostBits(net("198.35.26.1/24")).to_string();
    assert!(host_bits.ends_with("the network is 198.35.26.0/24"), "{host_bits}");
}

#[test]
fn every_number_has_its_limit() {
    let ports: Vec<u16> = (1..=65).collect();
    list(vec![to(domain("a.org"), &ports[..64])]).check().unwrap();
    assert_eq!(list(vec![to(domain("a.org"), &ports)]).check(), Err(Unfit::Ports(domain("a.org"), 65)));
    let groups: Vec<Destination> = (1..=33).map(|port| to(domain("a.org"), &[port])).collect();
    list(groups[..32].to_vec()).check().unwrap();
    assert_eq!(list(groups).check(), Err(Unfit::Groups(33)));
    let many = vec![to(domain("a.org"), &[1]); 4097];
    list(many[..4096].to_vec()).check().unwrap();
    assert_eq!(list(many).check(), Err(Unfit::Destinations(4097)));
    let excepted = AllowList { allow_private: vec![net("10.0.0.0/8"); 257], ..AllowList::default() };
    assert_eq!(excepted.check(), Err(Unfit::Excepted(257)));
}

#[test]
fn a_destination_is_covered_in_host_and_ports() {
    let covered = |narrow: Destination, wide: Destination| list(vec![narrow]).within(&list(vec![wide])).is_ok();
    let both = &DEFAULT_PORTS[..];
    assert!(covered(to(domain("a.org"), &[443]), to(domain("a.org"), both)));
    assert!(!covered(to(domain("a.org"), both), to(domain("a.org"), &[443])));
    assert!(covered(to(domain("b.a.org"), both), to(suffix("a.org"), both)));
    assert!(!covered(to(domain("a.org"), both), to(suffix("a.org"), both)));
    assert!(covered(to(suffix("a.org"), both), to(suffix("a.org"), both)));
    assert!(covered(to(suffix("b.a.org"), both), to(suffix("a.org"), both)));
    assert!(!covered(to(suffix("a.org"), both), to(suffix("b.a.org"), both)));
    assert!(!covered(to(suffix("a.org"), both), to(domain("a.org"), both)));
    assert!(covered(to(cidr("1.1.1.0/24"), both), to(cidr("1.1.0.0/16"), both)));
    assert!(!covered(to(cidr("1.1.0.0/16"), both), to(cidr("1.1.1.0/24"), both)));
    assert!(!covered(to(cidr("::/0"), both), to(cidr("0.0.0.0/0"), both)));
    assert!(!covered(to(domain("a.org"), both), to(cidr("0.0.0.0/0"), both)));
}

#[test]
fn a_bound_that_is_not_named_is_the_wider_one() {
    let wider = AllowList { connections: Some(8), bytes: Some(1000), ..AllowList::default() };
    let asked = AllowList { bytes: Some(10), bytes_per_second: Some(5), ..AllowList::default() };
    let given = asked.narrowed(&wider).unwrap();
    assert_eq!((given.connections, given.bytes, given.bytes_per_second), (Some(8), Some(10), Some(5)));
    let larger = AllowList { bytes: Some(1001), ..AllowList::default() };
    assert_eq!(larger.narrowed(&wider), Err(NotCovered::Bound { field: "bytes", asked: 1001, most: 1000 }));
}

#[test]
fn private_networks_are_taken_over_and_never_named() {
    let wider = AllowList { allow_private: vec![net("10.1.0.0/16")], ..one(cidr("10.1.0.0/16")) };
    let given = one(cidr("10.1.2.0/24")).narrowed(&wider).unwrap();
    assert_eq!(given.allow_private, wider.allow_private);
    given.check().unwrap();
    given.within(&wider).unwrap();
    let naming = AllowList { allow_private: vec![net("10.1.0.0/16")], ..AllowList::default() };
    assert_eq!(naming.clone().narrowed(&wider), Err(NotCovered::Private(net("10.1.0.0/16"))));
    assert!(naming.within(&AllowList::default()).is_err());
}

#[test]
fn none_is_within_loopback_and_loopback_within_a_list() {
    let order = [Network::None, Network::Loopback, Network::Allow(Box::default())];
    for (narrow, one) in order.iter().enumerate() {
        for (wide, other) in order.iter().enumerate() {
            assert_eq!(one.within(other).is_ok(), narrow <= wide, "{one:?} in {other:?}");
            assert_eq!(one.clone().narrowed(other).is_ok(), narrow <= wide, "{one:?} in {other:?}");
        }
    }
}

fn hosts() -> impl Strategy<Value = Host> {
    let names = "[ab](\\.[ab]){0,2}";
    let nets = (any::<u32>(), 0u8..=32)
        .prop_map(|(address, prefix)| IpNet::new(IpAddr::from(address.to_be_bytes()), prefix).unwrap().trunc());
    prop_oneof![names.prop_map(|text| domain(&text)), names.prop_map(|text| suffix(&text)), nets.prop_map(Host::Cidr),]
}

fn lists() -> impl Strategy<Value = AllowList> {
    let ports = proptest::collection::btree_set(1u16..4, 1..3);
    let destinations = (hosts(), ports).prop_map(|(host, ports)| Destination { host, ports });
    proptest::collection::vec(destinations, 0..5).prop_map(list)
}

proptest! {
    #[test]
    fn what_is_within_reaches_no_more(
        narrow in lists(),
        wide in lists(),
        text in "[ab](\\.[ab]){0,3}",
        address: u32,
        port in 1u16..4,
    ) {
        if narrow.within(&wide).is_ok() {
            prop_assert!(narrow.ports_of(&name(&text)).is_subset(&wide.ports_of(&name(&text))));
            let address = IpAddr::from(address.to_be_bytes());
            prop_assert!(!narrow.allows(address, port) || wide.allows(address, port));
        }
    }

    #[test]
    fn every_list_is_within_itself(list in lists()) {
        prop_assert_eq!(list.within(&list), Ok(()));
        prop_assert_eq!(list.clone().narrowed(&list), Ok(list));
    }

    #[test]
    fn nothing_refused_is_ever_allowed(list in lists(), address: u128, port in 1u16..4) {
        let v6 = IpAddr::from(address.to_be_bytes());
        let v4 = IpAddr::V4(std::net::Ipv4Addr::from_bits((address >> 96) as u32));
        for address in [v4, v6] {
            prop_assert!(!(list.is_refused(address) && list.allows(address, port)));
        }
    }
}
