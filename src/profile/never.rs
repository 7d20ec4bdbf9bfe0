//! Addresses that are not public: private, reserved, or IPv4 in disguise. No sandbox reaches them, but for what
//! its profile excepts.
//!
//! RFC 6890 and its kin. The host's table, `nix/module/network.nix`, has the same list, and a test compares.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Networks that are not public, in the order of their addresses.
pub const NEVER: [IpNet; 29] = [
    v4([0, 0, 0, 0], 8),       // this network
    v4([10, 0, 0, 0], 8),      // private
    v4([100, 64, 0, 0], 10),   // carrier-grade NAT, and overlay networks that live there
    v4([127, 0, 0, 0], 8),     // loopback
    v4([169, 254, 0, 0], 16),  // link-local, and with it the metadata services of clouds
    v4([172, 16, 0, 0], 12),   // private
    v4([192, 0, 0, 0], 24),    // protocol assignments
    v4([192, 0, 2, 0], 24),    // documentation; the sandbox's own address is one of these
    v4([192, 88, 99, 0], 24),  // 6to4 relays, which would lead round this list
    v4([192, 168, 0, 0], 16),  // private
    v4([198, 18, 0, 0], 15),   // benchmarks
    v4([198, 51, 100, 0], 24), // documentation
    v4([203, 0, 113, 0], 24),  // documentation
    v4([224, 0, 0, 0], 4),     // multicast
    v4([240, 0, 0, 0], 4),     // reserved, and broadcast
    v6([0, 0, 0, 0, 0, 0], 127),
    MAPPED,
    NAT64,                               // IPv4 in disguise
    LOCAL_NAT64,                         // NAT64 of the network's own
    v6([0x100, 0, 0, 0, 0, 0], 64),      // discard
    v6([0x2001, 0, 0, 0, 0, 0], 23),     // protocol assignments, Teredo
    v6([0x2001, 0xdb8, 0, 0, 0, 0], 32), // documentation; the sandbox's own address is one of these
    SIX_TO_FOUR,                         // IPv4 in disguise
    v6([0x3fff, 0, 0, 0, 0, 0], 20),     // documentation
    v6([0x5f00, 0, 0, 0, 0, 0], 16),     // segment routing
    v6([0xfc00, 0, 0, 0, 0, 0], 7),      // private; fd00:ec2::254 is a metadata service
    v6([0xfe80, 0, 0, 0, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0, 0, 0, 0], 10),     // site-local, of old
    v6([0xff00, 0, 0, 0, 0, 0], 8),      // multicast
];

/// IPv4 addresses as a dual-stack socket shows them (RFC 4291 section 2.5.5.2).
pub(super) const MAPPED: IpNet = v6([0, 0, 0, 0, 0, 0xffff], 96);
const COMPATIBLE: IpNet = v6([0, 0, 0, 0, 0, 0], 96);
const NAT64: IpNet = v6([0x64, 0xff9b, 0, 0, 0, 0], 96);
const LOCAL_NAT64: IpNet = v6([0x64, 0xff9b, 1, 0, 0, 0], 48);
const SIX_TO_FOUR: IpNet = v6([0x2002, 0, 0, 0, 0, 0], 16);

/// IPv4 addresses that an IPv6 address leads to, whoever translates it (RFC 3056, 4291, 6052, 8215).
pub(super) fn disguised(address: IpAddr) -> Vec<IpAddr> {
    let IpAddr::V6(v6) = address else { return Vec::new() };
    let octets = v6.octets();
    let at = |places: [usize; 4]| IpAddr::V4(places.map(|place| octets[place]).into());
    let mut found = Vec::new();
    if [MAPPED, COMPATIBLE, NAT64, LOCAL_NAT64].iter().any(|net| net.contains(&address)) {
        found.push(at([12, 13, 14, 15]));
    }
    if LOCAL_NAT64.contains(&address) {
        // A prefix of 48 bits leaves the eighth octet out.
        found.push(at([6, 7, 9, 10]));
    }
    if SIX_TO_FOUR.contains(&address) {
        found.push(at([2, 3, 4, 5]));
    }
    found
}

const fn v4([a, b, c, d]: [u8; 4], prefix: u8) -> IpNet {
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

/// The last two groups are zero.
const fn v6([a, b, c, d, e, f]: [u16; 6], prefix: u8) -> IpNet {
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, 0, 0), prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_the_one_of_the_hosts_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/nix/module/network.nix");
        let text = std::fs::read_to_string(path).unwrap();
        let list = text.split_once("never = [").unwrap().1.split_once("];").unwrap().0;
        let theirs: Vec<IpNet> =
            list.lines().filter_map(|line| line.split('"').nth(1)).map(|net| net.parse().unwrap()).collect();
        assert_eq!(theirs, NEVER);
    }

    #[test]
    fn no_network_has_bits_of_a_host() {
        for net in NEVER {
            assert_eq!(net, net.trunc());
        }
    }

    #[test]
    fn ipv4_is_found_in_each_disguise() {
        let metadata: IpAddr = "169.254.169.254".parse().unwrap();
        for text in [
            "::ffff:169.254.169.254",
            "::a9fe:a9fe",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1:a9fe:a9:fe00::",
            "2002:a9fe:a9fe::1",
        ] {
            assert!(disguised(text.parse().unwrap()).contains(&metadata), "{text}");
        }
        assert!(disguised("2606:4700::1".parse().unwrap()).is_empty());
    }
}
