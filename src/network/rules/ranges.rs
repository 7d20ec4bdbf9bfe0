//! Networks as ranges that neither overlap nor touch, which is what an interval set of the kernel holds.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;

/// A range of addresses of one family, both ends in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// The first address.
    pub first: IpAddr,
    /// The last address.
    pub last: IpAddr,
}

impl Range {
    /// The address behind it; none behind the last there is.
    #[must_use]
    pub fn behind(&self) -> Option<IpAddr> {
        match self.last {
            IpAddr::V4(last) => last.to_bits().checked_add(1).map(|next| IpAddr::V4(next.into())),
            IpAddr::V6(last) => last.to_bits().checked_add(1).map(|next| IpAddr::V6(next.into())),
        }
    }
}

impl From<IpNet> for Range {
    fn from(net: IpNet) -> Self {
        let last = match net {
            IpNet::V4(net) => IpAddr::V4(net.broadcast()),
            IpNet::V6(net) => IpAddr::V6(net.broadcast()),
        };
        Self { first: net.network(), last }
    }
}

/// Written as nft(8) does: an address, a network, or both ends.
impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            return write!(f, "{}", self.first);
        }
        let most = if self.first.is_ipv4() { 32 } else { 128 };
        let net =
            (0..most).filter_map(|prefix| IpNet::new(self.first, prefix).ok()).find(|net| Self::from(*net) == *self);
        match net {
            Some(net) => write!(f, "{net}"),
            None => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

/// The ranges of networks of one family, in order.
pub(super) fn merged<'a>(nets: impl Iterator<Item = &'a IpNet>) -> Vec<Range> {
    let mut ranges: Vec<Range> = nets.map(|net| Range::from(net.trunc())).collect();
    ranges.sort_by_key(|range| range.first);
    let mut merged: Vec<Range> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(before) if before.behind().is_none_or(|behind| range.first <= behind) => {
                before.last = before.last.max(range.last);
            }
            _ => merged.push(range),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(nets: &[&str]) -> Vec<String> {
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        merged(nets.iter()).iter().map(Range::to_string).collect()
    }

    #[test]
    fn networks_that_touch_are_one_range() {
        assert_eq!(told(&["11.0.0.0/8", "10.0.0.0/8", "10.1.0.0/16"]), ["10.0.0.0/7"]);
        assert_eq!(told(&["10.0.0.0/8", "11.0.0.0/9"]), ["10.0.0.0-11.127.255.255"]);
        assert_eq!(told(&["240.0.0.0/4", "1.1.1.1/32"]), ["1.1.1.1", "240.0.0.0/4"]);
        assert_eq!(told(&["0.0.0.0/0", "1.1.1.1/32"]), ["0.0.0.0/0"]);
        assert_eq!(told(&["::/0"]), ["::/0"]);
    }

    fn address(low: u16) -> IpAddr {
        let [high, low] = low.to_be_bytes();
        IpAddr::from([9, 9, high, low])
    }

    proptest! {
        #[test]
        fn ranges_hold_what_the_networks_hold(
            nets in proptest::collection::vec((any::<u16>(), 16u8..=32), 0..20),
            probe: u16,
        ) {
            let nets: Vec<IpNet> = nets
                .iter()
                .map(|(low, prefix)| IpNet::new(address(*low), *prefix).unwrap())
                .collect();
            let ranges = merged(nets.iter());
            let probe = address(probe);
            prop_assert_eq!(
                nets.iter().any(|net| net.contains(&probe)),
                ranges.iter().any(|range| (range.first..=range.last).contains(&probe))
            );
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].behind().unwrap() < pair[1].first);
            }
        }
    }
}
