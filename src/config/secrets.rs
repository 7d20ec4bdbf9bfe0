//! Section `secrets`: what sandboxes may use towards a host and never see.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

use hyper::header::HeaderName;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::profile::{AllowList, Name, Network, Profile};

/// Most domains of one secret, and most ports and most headers.
const MOST: usize = 16;
/// Port of a secret that names none: HTTPS.
pub const DEFAULT_PORT: u16 = 443;
/// Headers of a secret that names none, in lower case.
const DEFAULT_HEADERS: [&str; 2] = ["authorization", "x-api-key"];
/// What is between two neighbours, says whom a request is for or how long it is, or is a proxy's.
const NEVER_HEADERS: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "sec-websocket-accept",
    "sec-websocket-key",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// One secret.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Secret {
    /// Where it is.
    pub source: Source,
    /// Hosts that get it, by their whole names.
    pub domains: BTreeSet<Name>,
    /// At which ports, by TLS.
    pub ports: BTreeSet<u16>,
    /// In which headers of a request, in lower case.
    pub headers: BTreeSet<String>,
}

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// In a file, which the launcher alone reads.
    File(PathBuf),
    /// Here: whoever started the launcher has given it.
    Given(Value),
}

/// A secret itself, which nothing shows.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Value(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Value(..)")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    file: PathBuf,
    domains: Vec<String>,
    ports: Option<BTreeSet<u16>>,
    headers: Option<Vec<String>>,
}

/// Secrets that can't be as they are asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// A profile has one that is not there.
    #[error("profiles.{profile}.network.secrets.{variable}: there is no secret {name:?} in the section \"secrets\"")]
    Unknown {
        /// Name of the profile.
        profile: String,
        /// The variable.
        variable: String,
        /// What it names.
        name: String,
    },
    /// A profile has one for hosts that it never reaches.
    #[error(
        "profiles.{profile}.network.secrets.{variable}: the profile's list allows none of the domains of {name:?} at \
         any of its ports"
    )]
    NeverReached {
        /// Name of the profile.
        profile: String,
        /// The variable.
        variable: String,
        /// The secret.
        name: String,
    },
}

impl SecretsError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Unknown { profile, variable, .. } | Self::NeverReached { profile, variable, .. } => {
                format!("profiles.{profile}.network.secrets.{variable}")
            }
        }
    }
}

impl Secret {
    /// One that was given, for this host at these ports, in the usual headers.
    #[must_use]
    pub fn given(value: Value, domain: Name, ports: BTreeSet<u16>) -> Self {
        let headers = DEFAULT_HEADERS.map(str::to_owned).into();
        Self { source: Source::Given(value), domains: [domain].into(), ports, headers }
    }

    /// Whether a list reaches one of its domains at one of its ports.
    #[must_use]
    pub fn is_reached(&self, list: &AllowList) -> bool {
        self.domains.iter().any(|domain| !list.ports_of(domain).is_disjoint(&self.ports))
    }
}

/// The variables of a list whose secrets it can use: those of hosts that it reaches.
#[must_use]
pub fn usable(secrets: &BTreeMap<String, Secret>, list: &AllowList) -> BTreeMap<String, String> {
    let is_usable = |name: &String| secrets.get(name).is_some_and(|secret| secret.is_reached(list));
    list.secrets.iter().filter(|(_, name)| is_usable(name)).map(|(key, name)| (key.clone(), name.clone())).collect()
}

/// Checks that what profiles have is there, and of use to them.
pub(super) fn check(
    secrets: &BTreeMap<String, Secret>,
    profiles: &BTreeMap<String, Profile>,
) -> Result<(), SecretsError> {
    for (profile, found) in profiles {
        let Network::Allow(list) = &found.network else { continue };
        for (variable, name) in &list.secrets {
            let (profile, variable, name) = (profile.clone(), variable.clone(), name.clone());
            match secrets.get(&name) {
                None => return Err(SecretsError::Unknown { profile, variable, name }),
                Some(secret) if !secret.is_reached(list) => {
                    return Err(SecretsError::NeverReached { profile, variable, name });
                }
                Some(_) => {}
            }
        }
    }
    Ok(())
}

impl TryFrom<Written> for Secret {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let Written { file, domains, ports, headers } = written;
        let goes_up = file.components().any(|part| part == std::path::Component::ParentDir);
        if !file.is_absolute() || goes_up {
            return Err(format!("file {file:?} is not an absolute path without \"..\""));
        }
        let count = |what: &str, count: usize| match count {
            1..=MOST => Ok(()),
            _ => Err(format!("there are {count} {what}, but there must be from 1 to {MOST}")),
        };
        count("domains", domains.len())?;
        let domains = domains.iter().map(|text| text.parse::<Name>()).collect::<Result<BTreeSet<_>, _>>()?;
        let ports = ports.unwrap_or_else(|| [DEFAULT_PORT].into());
        count("ports", ports.len())?;
        // Where the scheme is http there is no TLS, and nobody is who he says.
        of_tls(&ports)?;
        let headers = headers.unwrap_or_else(|| DEFAULT_HEADERS.map(str::to_owned).into());
        count("headers", headers.len())?;
        let headers: BTreeSet<String> = headers.iter().map(|name| name.to_ascii_lowercase()).collect();
        if let Some(name) = headers.iter().find(|name| !is_header(name)) {
            return Err(format!("{name:?} is no header that a secret can stand in"));
        }
        Ok(Self { source: Source::File(file), domains, ports, headers })
    }
}

/// Checks that TLS may be spoken at these ports.
///
/// # Errors
/// Which is none of them.
pub fn of_tls(ports: &BTreeSet<u16>) -> Result<(), String> {
    match [0, 80].into_iter().find(|port| ports.contains(port)) {
        Some(port) => Err(format!("port {port} is none of TLS")),
        None => Ok(()),
    }
}

/// Whether a secret may stand in a field of this name (a token of RFC 9110, section 5.6.2).
fn is_header(name: &str) -> bool {
    name.len() <= 64
        && HeaderName::from_bytes(name.as_bytes()).is_ok()
        && !name.starts_with("proxy-")
        && !NEVER_HEADERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    const SECRET: &str = r#""secrets":{"one":{"file":"/run/one","domains":["API.example.org."]}}"#;

    fn with(secrets: &str) -> String {
        let network = format!(r#"{{"allow":[{{"suffix":".example.org","ports":[443]}}],"secrets":{secrets}}}"#);
        format!(r#"{{{SECRET},"profiles":{{"default":{{"network":{network}}}}}}}"#)
    }

    #[test]
    fn a_secret_has_its_port_and_headers_where_it_names_none() {
        let config = Config::parse(&with(r#"{"TOKEN":"one"}"#)).unwrap();
        let secret = &config.secrets["one"];
        assert_eq!(secret.domains.iter().map(ToString::to_string).collect::<Vec<_>>(), ["api.example.org"]);
        assert_eq!(secret.ports, [443].into());
        assert_eq!(secret.headers, ["authorization", "x-api-key"].map(str::to_owned).into());
    }

    #[test]
    fn what_no_secret_can_be_is_refused_at_its_key() {
        for (key, value, reason) in [
            ("file", r#""one""#, "absolute"),
            ("file", r#""/run/../one""#, "absolute"),
            ("domains", "[]", "domains"),
            ("domains", r#"["*.example.org"]"#, "example.org"),
            ("domains", r#"["192.0.2.1"]"#, "192.0.2.1"),
            ("ports", "[]", "ports"),
            ("ports", "[80]", "TLS"),
            ("headers", r#"["Host"]"#, "host"),
            ("headers", r#"["Proxy-Authorization"]"#, "proxy-authorization"),
            ("headers", r#"["a b"]"#, "a b"),
            ("value", r#""itself""#, "value"),
        ] {
            let mut secret = serde_json::json!({"file": "/run/one", "domains": ["api.example.org"]});
            secret[key] = serde_json::from_str(value).unwrap();
            let error = Config::parse(&format!(r#"{{"secrets":{{"one":{secret}}}}}"#)).unwrap_err().to_string();
            assert!(error.starts_with("secrets.one") && error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_profile_has_only_secrets_that_are_there_and_of_use() {
        for (secrets, reason) in
            [(r#"{"TOKEN":"two"}"#, "there is no secret"), (r#"{"1TOKEN":"one"}"#, "no name of a variable")]
        {
            let error = Config::parse(&with(secrets)).unwrap_err();
            assert!(error.to_string().contains(reason), "{error}");
            assert_eq!(error.line_in(&with(secrets)), Some(1));
        }
        let elsewhere = with(r#"{"TOKEN":"one"}"#).replace("\"ports\":[443]", "\"ports\":[8443]");
        let error = Config::parse(&elsewhere).unwrap_err().to_string();
        assert!(error.starts_with("profiles.default.network.secrets.TOKEN: the profile's list allows none"), "{error}");
    }
}
