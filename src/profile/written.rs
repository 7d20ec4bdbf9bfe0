//! How networks are written: in TOML by profiles, in JSON by configurations and requests.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::network::{AllowList, DEFAULT_PORTS, Destination, Host, Name, Network};

/// What a sandbox can reach: `"none"`, `"loopback"`, or a list of what it is allowed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum NetworkForm {
    /// Nothing, or itself.
    Closed(Closed),
    /// What the list names.
    Open(AllowForm),
}

// By hand, since what is derived for untagged forms says of every mistake that nothing matched.
impl<'de> Deserialize<'de> for NetworkForm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Form;
        impl<'de> Visitor<'de> for Form {
            type Value = NetworkForm;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("\"none\", \"loopback\", or what is allowed")
            }

            fn visit_str<E: Error>(self, word: &str) -> Result<NetworkForm, E> {
                Closed::deserialize(StrDeserializer::new(word)).map(NetworkForm::Closed)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NetworkForm, A::Error> {
                AllowForm::deserialize(MapAccessDeserializer::new(map)).map(NetworkForm::Open)
            }
        }
        deserializer.deserialize_any(Form)
    }
}

/// A network that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Closed {
    /// No interface is up, and internet sockets are refused by the filter, by name.
    None,
    /// A loopback device of its own, for programs that talk to themselves.
    Loopback,
}

/// What of the network is allowed. An empty list allows nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowForm {
    /// Destinations; what none of them names is refused. At most 4096.
    pub allow: Vec<DestinationForm>,
    /// Private networks that destinations may lie in all the same, such as `10.1.0.0/16`; only in profiles.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub allow_private: Vec<IpNet>,
    /// Most connections that are open at one time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// Most bytes in both directions, in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Most bytes a second, in both directions together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
    /// Secrets of the configuration, by the variable that holds a placeholder of each; only in profiles.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub secrets: BTreeMap<String, String>,
}

/// One thing that is allowed: exactly one of `domain`, `suffix` and `cidr`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DestinationForm {
    /// A host by its whole name, such as `packages.example.org`: no wildcard, no address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// All hosts below a domain, which is written with a dot before it, such as `.example.net`; not the domain itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suffix: Option<String>,
    /// Addresses that are reached without a name, such as `203.0.113.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub cidr: Option<IpNet>,
    /// TCP ports; 80 and 443 where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<u16>>,
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        NetworkForm::from(self).serialize(serializer)
    }
}

/// Reads a network that stands for itself, such as a profile's.
impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let network = Self::try_from(NetworkForm::deserialize(deserializer)?).map_err(D::Error::custom)?;
        network.check().map_err(D::Error::custom)?;
        Ok(network)
    }
}

impl From<&Network> for NetworkForm {
    fn from(network: &Network) -> Self {
        match network {
            Network::None => Self::Closed(Closed::None),
            Network::Loopback => Self::Closed(Closed::Loopback),
            Network::Allow(list) => Self::Open(AllowForm {
                allow: list.allow.iter().map(DestinationForm::from).collect(),
                allow_private: list.allow_private.clone(),
                connections: list.connections,
                bytes: list.bytes,
                bytes_per_second: list.bytes_per_second,
                secrets: list.secrets.clone(),
            }),
        }
    }
}

impl From<&Destination> for DestinationForm {
    fn from(destination: &Destination) -> Self {
        let ports = Some(destination.ports.iter().copied().collect());
        match &destination.host {
            Host::Domain(name) => Self { domain: Some(name.to_string()), ports, ..Self::default() },
            Host::Suffix(name) => Self { suffix: Some(format!(".{name}")), ports, ..Self::default() },
            Host::Cidr(net) => Self { cidr: Some(*net), ports, ..Self::default() },
        }
    }
}

/// Takes a request's network too, which its profile narrows: see [`AllowList::check_shape`].
impl TryFrom<NetworkForm> for Network {
    type Error = String;

    fn try_from(form: NetworkForm) -> Result<Self, String> {
        Ok(match form {
            NetworkForm::Closed(Closed::None) => Self::None,
            NetworkForm::Closed(Closed::Loopback) => Self::Loopback,
            NetworkForm::Open(form) => Self::Allow(Box::new(form.try_into()?)),
        })
    }
}

impl TryFrom<AllowForm> for AllowList {
    type Error = String;

    fn try_from(form: AllowForm) -> Result<Self, String> {
        let AllowForm { allow, allow_private, connections, bytes, bytes_per_second, secrets } = form;
        let allow = allow.into_iter().map(Destination::try_from).collect::<Result<_, _>>()?;
        let list = Self { allow, allow_private, connections, bytes, bytes_per_second, secrets };
        list.check_shape().map_err(|error| error.to_string())?;
        Ok(list)
    }
}

impl TryFrom<DestinationForm> for Destination {
    type Error = String;

    fn try_from(form: DestinationForm) -> Result<Self, String> {
        let DestinationForm { domain, suffix, cidr, ports } = form;
        let host = match (domain, suffix, cidr) {
            (Some(domain), None, None) => Host::Domain(named(&domain)?),
            (None, Some(suffix), None) => match suffix.strip_prefix('.') {
                Some(below) => Host::Suffix(named(below)?),
                None => return Err(format!("suffix {suffix:?} begins without a dot: write \".{suffix}\"")),
            },
            (None, None, Some(cidr)) => Host::Cidr(cidr),
            _ => return Err("a destination has exactly one of domain, suffix and cidr".to_owned()),
        };
        let ports: BTreeSet<u16> = ports.map_or_else(|| DEFAULT_PORTS.into(), |ports| ports.into_iter().collect());
        Ok(Self { host, ports })
    }
}

/// Reads a name, and tells what to write where it is something else.
fn named(text: &str) -> Result<Name, String> {
    if let Some(below) = text.strip_prefix('*') {
        return Err(format!("{text:?} has a wildcard: write suffix \".{}\"", below.trim_start_matches('.')));
    }
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Err(format!("{text:?} is an address: write cidr \"{}\"", IpNet::from(address)));
    }
    if text.parse::<IpNet>().is_ok() {
        return Err(format!("{text:?} is a network: write it as cidr"));
    }
    text.parse()
}

#[cfg(test)]
mod tests;
