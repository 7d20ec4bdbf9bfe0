//! Which addresses belong to listed names, for how long.
//!
//! Kept by name, so that another policy can be applied to what was learned under the one before.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::profile::{AllowList, Name};

use super::Learned;

/// Most pairs of address and name; what more is asked for is refused until some have expired.
const MOST: usize = 4096;
/// How much sooner than asked an entry may expire, so that an answer from the cache moves no timer.
const SLACK: Duration = Duration::from_secs(10);

/// The addresses of names.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: HashMap<IpAddr, Vec<Entry>>,
    count: usize,
}

#[derive(Debug)]
struct Entry {
    name: Name,
    until: Instant,
}

/// The table is full.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Table {
    /// The names that have this address now.
    pub(super) fn names(&self, address: IpAddr) -> impl Iterator<Item = &Name> {
        let now = Instant::now();
        let entries = self.entries.get(&address).map_or(&[][..], Vec::as_slice);
        entries.iter().filter(move |entry| entry.until > now).map(|entry| &entry.name)
    }

    /// Whether the name has this address for about that long already.
    pub(super) fn has(&self, name: &Name, address: IpAddr, lifetime: Duration) -> bool {
        let until = Instant::now() + lifetime;
        let entries = self.entries.get(&address).map_or(&[][..], Vec::as_slice);
        entries.iter().any(|entry| entry.name == *name && entry.until + SLACK >= until)
    }

    /// Whether there is room for another, once what has expired is forgotten.
    pub(super) fn make_room(&mut self) -> Result<(), Full> {
        if self.count >= MOST {
            let now = Instant::now();
            self.retain(|entry| entry.until > now);
        }
        if self.count < MOST { Ok(()) } else { Err(Full) }
    }

    /// Adds an address, or lengthens its time.
    pub(super) fn put(&mut self, name: &Name, address: IpAddr, lifetime: Duration) {
        let until = Instant::now() + lifetime;
        let entries = self.entries.entry(address).or_default();
        match entries.iter_mut().find(|entry| entry.name == *name) {
            Some(entry) => entry.until = entry.until.max(until),
            None => {
                entries.push(Entry { name: name.clone(), until });
                self.count += 1;
            }
        }
    }

    /// What of it another policy allows, for its rules.
    pub(super) fn under(&self, policy: &AllowList) -> Vec<Learned> {
        let now = Instant::now();
        let each = self.entries.iter().filter(|(address, _)| !policy.is_refused(**address));
        let each = each.flat_map(|(address, entries)| entries.iter().map(move |entry| (*address, entry)));
        each.filter(|(_, entry)| entry.until > now)
            .map(|(address, entry)| Learned {
                address,
                ports: policy.ports_of(&entry.name),
                lifetime: entry.until - now,
            })
            .filter(|learned| !learned.ports.is_empty())
            .collect()
    }

    /// Forgets what this policy does not name.
    pub(super) fn forget_unlisted(&mut self, policy: &AllowList) {
        self.retain(|entry| !policy.ports_of(&entry.name).is_empty());
    }

    fn retain(&mut self, keep: impl Fn(&Entry) -> bool) {
        self.entries.retain(|_, entries| {
            entries.retain(&keep);
            !entries.is_empty()
        });
        self.count = self.entries.values().map(Vec::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(3600);

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    #[test]
    fn an_address_is_known_by_each_name_that_has_it_and_no_longer_than_told() {
        let mut table = Table::default();
        table.put(&name("a.example"), address(1), LONG);
        table.put(&name("b.example"), address(1), LONG);
        table.put(&name("c.example"), address(1), Duration::ZERO);
        assert_eq!(table.names(address(1)).collect::<Vec<_>>(), [&name("a.example"), &name("b.example")]);
        assert_eq!(table.names(address(2)).count(), 0);
        assert!(table.has(&name("a.example"), address(1), LONG));
        assert!(!table.has(&name("a.example"), address(1), LONG * 2));
    }

    #[test]
    fn a_full_table_takes_more_once_something_has_expired() {
        let mut table = Table::default();
        for number in 1..u32::try_from(MOST).unwrap() {
            table.put(&name("a.example"), address(number), LONG);
        }
        assert_eq!(table.make_room(), Ok(()));
        table.put(&name("a.example"), address(0), LONG);
        assert_eq!(table.make_room(), Err(Full));
        assert_eq!(table.make_room(), Err(Full));
        table.entries.get_mut(&address(0)).unwrap()[0].until = Instant::now();
        assert_eq!(table.make_room(), Ok(()));
        assert_eq!(table.names(address(1)).count(), 1);
    }
}
