//! The written form: what it takes, and what is said of the rest.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn read(value: Value) -> Result<Network, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

fn refused(destination: Value) -> String {
    read(json!({ "allow": [destination] })).unwrap_err()
}

/// The TOML of the same value: the form has strings, integers, lists and tables only.
fn toml_of(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(toml_of).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let fields: Vec<String> = map.iter().map(|(key, value)| format!("{key} = {}", toml_of(value))).collect();
            format!("{{ {} }}", fields.join(", "))
        }
        plain => plain.to_string(),
    }
}

fn from_toml(value: &Value) -> Network {
    #[derive(Deserialize)]
    struct Profile {
        network: Network,
    }
    toml::from_str::<Profile>(&format!("network = {}", toml_of(value))).unwrap().network
}

#[test]
fn closed_networks_are_one_word() {
    assert_eq!(read(json!("none")), Ok(Network::None));
    assert_eq!(read(json!("loopback")), Ok(Network::Loopback));
    let error = read(json!("host")).unwrap_err();
    assert!(error.contains("`none` or `loopback`"), "{error}");
}

#[test]
fn ports_that_are_absent_are_those_of_the_web() {
    let Ok(Network::Allow(list)) = read(json!({ "allow": [{ "domain": "Example.ORG." }] })) else { panic!() };
    assert_eq!(
        list.allow,
        [Destination { host: Host::Domain("example.org".parse().unwrap()), ports: [80, 443].into() }]
    );
}

#[test]
fn every_mistake_has_a_sentence() {
    let mistakes = [
        (json!({ "domain": "*.example.org" }), "\"*.example.org\" has a wildcard: write suffix \".example.org\""),
        (json!({ "suffix": ".*.example.org" }), "\"*.example.org\" has a wildcard: write suffix \".example.org\""),
        (json!({ "domain": "198.35.26.96" }), "\"198.35.26.96\" is an address: write cidr \"198.35.26.96/32\""),
        (json!({ "domain": "[2620:0:861::1]" }), "\"[2620:0:861::1]\" is an address: write cidr \"2620:0:861::1/128\""),
        (json!({ "domain": "198.35.26.0/24" }), "\"198.35.26.0/24\" is a network: write it as cidr"),
        (json!({ "domain": "0x7f.1" }), "\"0x7f.1\" is no domain name"),
        (json!({ "domain": "https://a.org" }), "\"https://a.org\" is no domain name"),
        (json!({ "domain": "" }), "\"\" is no domain name"),
        (json!({ "suffix": "example.org" }), "suffix \"example.org\" begins without a dot: write \".example.org\""),
        (json!({ "domain": "a.org", "ports": [] }), "ports of domain a.org are from 1 to 65535, and at least one"),
        (json!({ "domain": "a.org", "ports": [0] }), "ports of domain a.org are from 1 to 65535, and at least one"),
        (
            json!({ "cidr": "198.35.26.1/24" }),
            "cidr 198.35.26.1/24 has bits set behind its prefix: the network is 198.35.26.0/24",
        ),
        (
            json!({ "cidr": "10.0.0.0/8" }),
            "cidr 10.0.0.0/8 is private or reserved, and allow_private does not cover it",
        ),
        (
            json!({ "cidr": "::ffff:8.8.8.0/120" }),
            "cidr ::ffff:8.8.8.0/120 is IPv4 in disguise: write the IPv4 network",
        ),
        (
            json!({ "domain": "a.org", "cidr": "1.1.1.1/32" }),
            "a destination has exactly one of domain, suffix and cidr",
        ),
        (json!({}), "a destination has exactly one of domain, suffix and cidr"),
    ];
    for (destination, sentence) in mistakes {
        assert_eq!(refused(destination), sentence);
    }
    let unknown = refused(json!({ "domian": "a.org" }));
    assert!(
        unknown.starts_with("unknown field `domian`, expected one of `domain`, `suffix`, `cidr`, `ports`"),
        "{unknown}"
    );
    let unknown = read(json!({ "allow": [], "deny": [] })).unwrap_err();
    assert!(unknown.starts_with("unknown field `deny`"), "{unknown}");
    assert_eq!(
        read(json!({ "allow": [], "bytes": 0 })).unwrap_err(),
        "bytes is 0, which would allow nothing: an empty list says that"
    );
    assert!(read(json!({ "bytes": 1 })).unwrap_err().starts_with("missing field `allow`"));
}

#[test]
fn a_requests_private_network_is_for_its_profile_to_judge() {
    let form: NetworkForm = serde_json::from_value(json!({ "allow": [{ "cidr": "10.1.2.0/24" }] })).unwrap();
    let asked = Network::try_from(form).unwrap();
    let profile = json!({ "allow": [{ "cidr": "10.1.0.0/16" }], "allow_private": ["10.1.0.0/16"] });
    asked.clone().narrowed(&read(profile).unwrap()).unwrap().check().unwrap();
    assert!(asked.narrowed(&read(json!({ "allow": [{ "cidr": "10.0.0.0/7" }] })).unwrap()).unwrap().check().is_err());
}

fn destinations() -> impl Strategy<Value = Destination> {
    let names = "[a-z0-9_]{1,8}(\\.[a-z][a-z0-9-]{0,6}[a-z]){1,3}";
    let nets = (1u32..10 << 24, 9u8..=32)
        .prop_map(|(bits, prefix)| IpNet::new(IpAddr::from((bits | 1 << 24).to_be_bytes()), prefix).unwrap().trunc());
    let nets6 = (any::<u64>(), 16u8..=128).prop_map(|(bits, prefix)| {
        IpNet::new(IpAddr::from((u128::from(bits) | 0x2600 << 112).to_be_bytes()), prefix).unwrap().trunc()
    });
    let hosts = prop_oneof![
        names.prop_map(|name| Host::Domain(name.parse().unwrap())),
        names.prop_map(|name| Host::Suffix(name.parse().unwrap())),
        nets.prop_filter("public", |net| !super::super::NEVER.iter().any(|never| never.contains(net)))
            .prop_map(Host::Cidr),
        nets6.prop_map(Host::Cidr),
    ];
    (hosts, proptest::collection::btree_set(1u16.., 1..4)).prop_map(|(host, ports)| Destination { host, ports })
}

fn bounds() -> impl Strategy<Value = Option<u64>> {
    proptest::option::of(1..=i64::MAX as u64)
}

proptest! {
    #[test]
    fn what_is_written_is_read_again(
        allow in proptest::collection::vec(destinations(), 0..8),
        excepted: bool,
        connections in proptest::option::of(1u32..),
        bytes in bounds(),
        bytes_per_second in bounds(),
        secret in proptest::option::of("[a-z]{1,8}"),
    ) {
        let allow_private = if excepted { vec!["10.1.0.0/16".parse().unwrap()] } else { Vec::new() };
        let secrets = secret.into_iter().map(|name| ("TOKEN".to_owned(), name)).collect();
        let list = AllowList { allow, allow_private, connections, bytes, bytes_per_second, secrets };
        let network = Network::Allow(Box::new(list));
        let written = serde_json::to_value(&network).unwrap();
        prop_assert_eq!(&from_toml(&written), &network);
        prop_assert_eq!(read(written).unwrap(), network);
    }

    #[test]
    fn whatever_is_written_is_read_or_refused(domain in ".*", suffix in "\\.?.*", port: u16) {
        for destination in [json!({ "domain": domain, "ports": [port] }), json!({ "suffix": suffix })] {
            if let Ok(network) = read(json!({ "allow": [destination] })) {
                prop_assert_eq!(network.check(), Ok(()));
            }
        }
    }
}
