//! What messages say, one sentence for each thing in them: those that were sent and those that are read back are
//! told by the same words, and so can be compared.

use std::collections::{BTreeMap, BTreeSet};

use super::draft::{TIMEOUT, kind};
use crate::network::netlink::{Received, attributes, text};
use crate::sys::nftables::expressions;

/// Sentences about everything in the tables of a namespace, but for what was learned.
#[derive(Debug, Default, Clone)]
pub(super) struct Said {
    sentences: BTreeSet<String>,
    /// Keys of each set's elements, and whether they end a range: thousands, for which sentences are too long.
    elements: BTreeMap<String, BTreeSet<(Vec<u8>, bool)>>,
    /// How many rules of each chain were heard of.
    rules: BTreeMap<String, usize>,
    /// Sets that were heard of, and their flags.
    sets: BTreeMap<String, u32>,
}

/// An element of a set: its key, and how long it stays.
pub(super) struct Element {
    pub(super) key: Vec<u8>,
    pub(super) remaining_ms: Option<u64>,
    is_end: bool,
}

impl Said {
    /// Adds what a message says.
    pub(super) fn hear(&mut self, message: Received<'_>) {
        let parts: BTreeMap<u16, &[u8]> = message.attributes().collect();
        let name = |kind| parts.get(&kind).map_or_else(String::new, |value| text(value));
        let number = |kind| parts.get(&kind).map_or(0, |value| word(value));
        // Of the same names in other families and tables too: whatever is not ours shows.
        let table = format!("{}/{}", message.family(), name(1));
        match message.kind {
            kind::NEW_TABLE => self.say(format!("table {table}, flags {}", number(2))),
            kind::NEW_CHAIN => {
                let hook = parts.get(&4).map_or_else(String::new, |hook| {
                    let hook: BTreeMap<u16, u32> = attributes(hook).map(|(kind, value)| (kind, word(value))).collect();
                    format!(", {} at {hook:?}, policy {}", name(7), number(5))
                });
                self.say(format!("chain {table}/{}{hook}", name(3)));
            }
            kind::NEW_OBJECT => self.say(format!("object {table}/{} of type {}", name(2), number(3))),
            kind::NEW_SET => {
                let size = parts.get(&9).and_then(|about| attributes(about).find(|(kind, _)| *kind == 1));
                let size = size.map_or(0, |(_, size)| word(size));
                self.sets.insert(name(2), number(3));
                let (flags, key, length) = (number(3), number(4), number(5));
                self.say(format!("set {table}/{}, flags {flags}, key {key} of {length}, size {size}", name(2)));
            }
            kind::NEW_ELEMENT => {
                let set = name(2);
                if self.sets.get(&set).is_some_and(|flags| flags & TIMEOUT != 0) {
                    return;
                }
                let known = self.elements.entry(format!("{table}/{set}")).or_default();
                known.extend(elements(message).into_iter().map(|element| (element.key, element.is_end)));
            }
            kind::NEW_RULE => {
                let chain = format!("{table}/{}", name(2));
                let count = self.rules.entry(chain.clone()).or_default();
                *count += 1;
                let sentence = format!("rule {count} of {chain}: {:?}", expressions(message.whole));
                self.say(sentence);
            }
            other => self.say(format!("message {other:#x} of {table}")),
        }
    }

    /// Names of the sets that were heard of whose elements are fixed.
    pub(super) fn fixed_sets(&self) -> Vec<String> {
        self.sets.iter().filter(|(_, flags)| *flags & TIMEOUT == 0).map(|(name, _)| name.clone()).collect()
    }

    /// The first thing that was meant and is not said, and the first that is said and was not meant.
    pub(super) fn difference(&self, meant: &Self) -> Option<String> {
        let missing = meant.sentences.difference(&self.sentences).next().map(|one| format!("there is no {one}"));
        let foreign = self.sentences.difference(&meant.sentences).next().map(|one| format!("there is {one}"));
        let lacking = meant.first_without(self).map(|one| format!("there is no {one}"));
        let further = self.first_without(meant).map(|one| format!("there is {one}"));
        let all: Vec<String> = [missing, foreign, lacking, further].into_iter().flatten().collect();
        (!all.is_empty()).then(|| all.join("; "))
    }

    /// The first element that the other does not have.
    fn first_without(&self, other: &Self) -> Option<String> {
        let none = BTreeSet::new();
        self.elements.iter().find_map(|(set, all)| {
            let (key, is_end) = all.difference(other.elements.get(set).unwrap_or(&none)).next()?;
            let end = if *is_end { " as an end" } else { "" };
            Some(format!("element {set} {key:02x?}{end}"))
        })
    }

    fn say(&mut self, sentence: String) {
        self.sentences.insert(sentence);
    }
}

/// The elements in a message.
pub(super) fn elements(message: Received<'_>) -> Vec<Element> {
    let lists = message.attributes().filter(|(kind, _)| *kind == 3);
    lists
        .flat_map(|(_, list)| attributes(list))
        .map(|(_, element)| {
            let parts: BTreeMap<u16, &[u8]> = attributes(element).collect();
            let value = parts.get(&1).and_then(|key| attributes(key).find(|(kind, _)| *kind == 1));
            let time = |kind| parts.get(&kind).and_then(|time| Some(u64::from_be_bytes((*time).try_into().ok()?)));
            Element {
                key: value.map(|(_, value)| value.to_vec()).unwrap_or_default(),
                // What is left of it, or all of it.
                remaining_ms: time(5).or_else(|| time(4)),
                is_end: parts.get(&3).is_some_and(|flags| word(flags) & 1 != 0),
            }
        })
        .collect()
}

fn word(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_be_bytes)
}
