//! Rules: what those of some policies are, and that their text says the same.

use std::path::PathBuf;

use super::*;
use crate::profile::Network;

fn rules_of<'a>(ruleset: &'a Ruleset, chain: &str) -> &'a [Rule] {
    &ruleset.chains.iter().find(|one| one.name == chain).unwrap().rules
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/network/golden")).join(file)
}

fn policy(name: &str) -> AllowList {
    let text = std::fs::read_to_string(golden(&format!("{name}.json"))).unwrap();
    match serde_json::from_str(&text).unwrap() {
        Network::Allow(list) => *list,
        other => panic!("{other:?}"),
    }
}

/// Policies, each with a file that says what its rules are.
fn policies() -> Vec<(&'static str, AllowList)> {
    ["empty", "one_domain", "groups", "cidr", "allow_private"].map(|name| (name, policy(name))).to_vec()
}

#[test]
fn rules_are_those_of_the_files() {
    for (name, policy) in policies() {
        let (path, rules) = (golden(&format!("{name}.nft")), Ruleset::of(&policy).to_string());
        let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(kept, rules, "{name}: run UPDATE_RULES=1 cargo test --features nftables --test network_rules");
    }
}

/// libnftnl writes a counter's name without its end, which is there all the same where a message is filled up.
#[test]
fn names_of_counters_are_filled_up() {
    for name in Ruleset::of(&AllowList::default()).counters {
        assert_ne!(name.len() % 4, 0, "{name}");
    }
}

#[test]
fn the_order_of_destinations_makes_no_difference() {
    let mut policy = policy("groups");
    let rules = Ruleset::of(&policy);
    policy.allow.reverse();
    assert_eq!(Ruleset::of(&policy), rules);
}

#[test]
fn every_chain_that_decides_ends_with_a_decision() {
    for (name, policy) in policies() {
        let rules = Ruleset::of(&policy);
        assert_eq!(rules_of(&rules, "output").last(), Some(&vec![Part::Goto("listed")]), "{name}");
        assert_eq!(rules_of(&rules, "listed").last(), Some(&vec![Part::Goto(UNLISTED)]), "{name}");
        for chain in [PRIVATE, PORT, UNLISTED] {
            assert_eq!(rules_of(&rules, chain).last(), Some(&vec![Part::Prohibit]), "{name}");
        }
    }
}

#[test]
fn what_is_private_is_refused_before_anything_listed_is_accepted() {
    for (name, policy) in policies() {
        let rules = Ruleset::of(&policy);
        let output = rules_of(&rules, "output");
        let at = |rule: &Rule| output.iter().position(|one| one == rule).unwrap();
        for family in Family::BOTH {
            let never = at(&vec![Part::In(family, format!("never{family}")), Part::Goto(PRIVATE)]);
            assert!(never < at(&vec![Part::Goto("listed")]), "{name}");
            assert!(
                at(&vec![Part::Loopback(family), Part::Port(RELAY_PORT), Part::Goto(PRIVATE)])
                    < at(&vec![Part::Loopback(family), Part::Accept]),
                "{name}"
            );
        }
    }
}

#[test]
fn an_empty_policy_accepts_nothing_but_loopback() {
    let rules = Ruleset::of(&AllowList::default());
    assert_eq!(rules_of(&rules, "listed"), [vec![Part::NotTcp, Part::Goto(UNLISTED)], vec![Part::Goto(UNLISTED)]]);
    assert!(rules.groups.is_empty());
}

#[test]
fn every_set_that_is_named_is_there() {
    for (name, policy) in policies() {
        let rules = Ruleset::of(&policy);
        for part in rules.chains.iter().flat_map(|chain| &chain.rules).flatten() {
            if let Part::In(_, set) | Part::Ports(set) = part {
                assert!(rules.sets.iter().any(|one| one.name == *set), "{name}: {set}");
            }
        }
    }
}
