//! What is asked for, and what is answered.

use serde::Deserialize;
use serde_json::{Value, json};

use super::*;
use crate::api::fields;
use crate::api::problem::Kind;

/// A body that has a network in it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    network: Option<NetworkForm>,
}

fn allowed() -> Network {
    let profile = json!({
        "allow": [
            { "domain": "example.org" },
            { "suffix": ".example.net", "ports": [443, 8443] },
            { "cidr": "198.35.26.0/24", "ports": [443] },
        ],
        "connections": 10,
        "bytes": 1000,
    });
    serde_json::from_value(profile).unwrap()
}

fn ask(network: &Value, allowed: &Network) -> Result<Option<Network>, Problem> {
    let body: Body = fields::parse(json!({ "network": network }).to_string().as_bytes())?;
    narrowed("network", body.network, allowed)
}

#[test]
fn what_the_profile_allows_is_given() {
    for (asked, given) in [
        (json!(null), None),
        (json!("none"), Some(Network::None)),
        (json!("loopback"), Some(Network::Loopback)),
        (serde_json::to_value(NetworkForm::from(&allowed())).unwrap(), None),
    ] {
        assert_eq!(ask(&asked, &allowed()).unwrap(), given, "{asked}");
    }
    for asked in [
        json!({ "allow": [] }),
        json!({ "allow": [{ "domain": "Example.ORG.", "ports": [80] }] }),
        json!({ "allow": [{ "domain": "a.b.example.net", "ports": [8443] }] }),
        json!({ "allow": [{ "suffix": ".b.example.net", "ports": [443] }] }),
        json!({ "allow": [{ "cidr": "198.35.26.128/25", "ports": [443] }], "bytes": 1000, "bytes_per_second": 5 }),
    ] {
        let given = ask(&asked, &allowed()).unwrap();
        let Some(Network::Allow(list)) = given else { panic!("{asked}: {given:?}") };
        // What it does not say about bounds, the profile says.
        assert_eq!((list.connections, list.bytes), (Some(10), Some(1000)), "{asked}");
    }
}

#[test]
fn an_empty_list_is_nothing_under_every_profile() {
    let empty = json!({ "allow": [] });
    assert_eq!(ask(&empty, &Network::None).unwrap(), None);
    assert_eq!(ask(&empty, &Network::Loopback).unwrap(), None);
    assert!(!leads_outside(&ask(&empty, &allowed()).unwrap().unwrap()));
    assert!(leads_outside(&allowed()));
}

#[test]
fn more_than_the_profile_allows_is_refused_by_field() {
    let list = |one: Value| json!({ "allow": [{ "domain": "example.org", "ports": [443] }, one] });
    for (asked, field) in [
        (list(json!({ "domain": "example.com" })), "network.allow[1]"),
        (list(json!({ "domain": "example.net", "ports": [443] })), "network.allow[1]"),
        (list(json!({ "domain": "a.example.net" })), "network.allow[1]"),
        (list(json!({ "domain": "example.org", "ports": [22] })), "network.allow[1]"),
        (list(json!({ "suffix": ".net", "ports": [443] })), "network.allow[1]"),
        (list(json!({ "cidr": "198.35.0.0/16", "ports": [443] })), "network.allow[1]"),
        (json!({ "allow": [], "connections": 11 }), "network.connections"),
        (json!({ "allow": [], "bytes": 1001 }), "network.bytes"),
    ] {
        let problem = ask(&asked, &allowed()).unwrap_err();
        assert_eq!((problem.kind, problem.field.as_deref()), (Kind::InvalidField, Some(field)), "{asked}");
        assert!(problem.allowed.is_some() && problem.detail.contains(' '), "{problem:?}");
    }
    let one = list(json!({ "domain": "example.com" }));
    for (asked, allowed) in [(&one, Network::None), (&one, Network::Loopback), (&json!("loopback"), Network::None)] {
        let problem = ask(asked, &allowed).unwrap_err();
        assert_eq!(problem.field.as_deref(), Some("network"), "{asked} {problem:?}");
    }
}

#[test]
fn what_is_malformed_is_refused_by_field() {
    let list = |one: Value| json!({ "allow": [{ "domain": "example.org" }, one] });
    let bounds = |name: &str, value: Value| json!({ "allow": [], name: value });
    for (asked, field, says) in [
        (json!("lan"), "network", "loopback"),
        (json!(7), "network", "loopback"),
        (json!([]), "network", "loopback"),
        (json!({}), "network.allow", "missing"),
        (json!({ "allow": {} }), "network.allow", "sequence"),
        (json!({ "allow": [], "permit": [] }), "network.permit", "unknown"),
        (list(json!("example.org")), "network.allow[1]", "invalid type"),
        (list(json!({})), "network.allow[1]", "exactly one"),
        (list(json!({ "domain": "a.org", "suffix": ".a.org" })), "network.allow[1]", "exactly one"),
        (list(json!({ "host": "a.org" })), "network.allow[1].host", "unknown"),
        (list(json!({ "domain": 7 })), "network.allow[1].domain", "invalid type"),
        (list(json!({ "domain": "" })), "network.allow[1].domain", "domain name"),
        (list(json!({ "domain": "*.example.org" })), "network.allow[1].domain", "suffix"),
        (list(json!({ "domain": "192.0.2.1" })), "network.allow[1].domain", "cidr"),
        (list(json!({ "domain": "https://example.org" })), "network.allow[1].domain", "domain name"),
        (list(json!({ "suffix": "example.org" })), "network.allow[1].suffix", "dot"),
        (list(json!({ "cidr": "198.35.26.0/33" })), "network.allow[1].cidr", "invalid"),
        (list(json!({ "cidr": "198.35.26.7/24" })), "network.allow[1].cidr", "198.35.26.0/24"),
        (list(json!({ "domain": "a.org", "ports": [] })), "network.allow[1].ports", "at least one"),
        (list(json!({ "domain": "a.org", "ports": [0] })), "network.allow[1].ports", "65535"),
        (list(json!({ "domain": "a.org", "ports": [65536] })), "network.allow[1].ports[0]", "invalid value"),
        (list(json!({ "domain": "a.org", "ports": 443 })), "network.allow[1].ports", "invalid type"),
        (json!({ "allow": [], "allow_private": ["10.0.0.0/8"] }), "network.allow_private", "profiles alone"),
        (bounds("connections", json!(0)), "network.connections", "0"),
        (bounds("bytes", json!(-1)), "network.bytes", "invalid value"),
        (bounds("bytes_per_second", json!(1.5)), "network.bytes_per_second", "invalid type"),
    ] {
        let problem = ask(&asked, &allowed()).unwrap_err();
        assert_eq!(problem.kind, Kind::InvalidField, "{asked}");
        assert_eq!(problem.field.as_deref(), Some(field), "{asked}: {}", problem.detail);
        assert!(problem.detail.contains(says), "{asked}: {}", problem.detail);
    }
}

#[test]
fn too_many_destinations_are_refused_with_the_maximum() {
    let one = json!({ "domain": "example.org" });
    ask(&json!({ "allow": vec![one.clone(); DESTINATIONS] }), &allowed()).unwrap();
    let problem = ask(&json!({ "allow": vec![one; DESTINATIONS + 1] }), &allowed()).unwrap_err();
    assert_eq!(problem.field.as_deref(), Some("network.allow"));
    assert_eq!(problem.details().allowed, Some(json!({ "maximum": DESTINATIONS })));
}
