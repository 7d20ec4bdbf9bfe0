//! What a program may reach, as people write it (`--allow example.org`), and what was refused to it.

use std::collections::BTreeMap;
use std::str::FromStr;

use clap::ValueEnum;
use ipnet::IpNet;

use super::text::harmless;
use crate::api::wire::Denied;
use crate::job::DeniedFlow;
use crate::profile::{AllowForm, Closed, DestinationForm, NetworkForm};

/// What a program may reach; nothing is said where neither is given.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Reach {
    /// Let it reach this, of what the profile allows, and nothing else: a host, .DOMAIN for all hosts below it, or
    /// addresses such as 198.51.100.0/24 or [2001:db8::/32] [default ports: 80,443]
    #[arg(long = "allow", value_name = "HOST[:PORT,…]")]
    allow: Vec<Allowed>,
    /// Let it reach nothing, or only itself
    #[arg(long, value_name = "NETWORK", conflicts_with = "allow")]
    network: Option<Named>,
    /// Of the secrets that the profile has, let it have that of this variable, and no other that is not named
    #[arg(long = "secret", value_name = "VARIABLE")]
    secrets: Vec<String>,
    /// Let it have no secret
    #[arg(long, conflicts_with = "secrets")]
    no_secrets: bool,
}

impl Reach {
    /// Variables of the secrets that it is to have; none where nothing is said.
    pub(super) fn secrets(&self) -> Option<Vec<String>> {
        (self.no_secrets || !self.secrets.is_empty()).then(|| self.secrets.clone())
    }

    /// The same as a request has it; none where nothing is said.
    pub(super) fn form(&self) -> Option<NetworkForm> {
        match self.network {
            Some(Named::None) => return Some(NetworkForm::Closed(Closed::None)),
            Some(Named::Loopback) => return Some(NetworkForm::Closed(Closed::Loopback)),
            None if self.allow.is_empty() => return None,
            None => {}
        }
        Some(NetworkForm::Open(AllowForm {
            allow: self.allow.iter().map(|allowed| allowed.0.clone()).collect(),
            allow_private: Vec::new(),
            connections: None,
            bytes: None,
            bytes_per_second: None,
            secrets: BTreeMap::new(),
        }))
    }
}

/// A network that leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Named {
    /// No network at all
    None,
    /// A loopback device of its own
    Loopback,
}

/// One `--allow`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Allowed(DestinationForm);

impl Allowed {
    /// The same as a list has it.
    pub(super) fn form(&self) -> DestinationForm {
        self.0.clone()
    }
}

/// Why one can't be read. Whether a name is one, the service says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum AllowError {
    /// There is nothing to reach.
    #[error("write it as HOST or HOST:PORT, such as example.org or .example.org:443")]
    NoHost,
    /// What is behind the colon is no list of ports.
    #[error("{0:?} are no ports: write numbers from 1 to 65535, such as 443 or 80,443")]
    Ports(String),
    /// Brackets around something else.
    #[error("{0:?} is no address of IPv6, nor a network of it")]
    Brackets(String),
}

impl FromStr for Allowed {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, AllowError> {
        let (host, ports) = split(text)?;
        let ports = ports.map(numbers).transpose()?;
        let host = host.trim();
        let form = DestinationForm { ports, ..DestinationForm::default() };
        Ok(Self(match network(host) {
            _ if host.is_empty() => return Err(AllowError::NoHost),
            Some(net) => DestinationForm { cidr: Some(net), ..form },
            None if host.starts_with('.') => DestinationForm { suffix: Some(host.to_owned()), ..form },
            None => DestinationForm { domain: Some(host.to_owned()), ..form },
        }))
    }
}

/// Host and ports. An address of IPv6 stands in brackets where there are ports, since it has colons itself.
fn split(text: &str) -> Result<(&str, Option<&str>), AllowError> {
    if let Some(rest) = text.strip_prefix('[') {
        let wrong = || AllowError::Brackets(text.to_owned());
        let (host, behind) = rest.split_once(']').ok_or_else(wrong)?;
        if !matches!(network(host), Some(IpNet::V6(_))) {
            return Err(wrong());
        }
        return match behind.strip_prefix(':') {
            Some(ports) => Ok((host, Some(ports))),
            None if behind.is_empty() => Ok((host, None)),
            None => Err(wrong()),
        };
    }
    if network(text).is_some() {
        return Ok((text, None));
    }
    Ok(text.rsplit_once(':').map_or((text, None), |(host, ports)| (host, Some(ports))))
}

/// A network, or a single address as one.
fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from))
}

fn numbers(text: &str) -> Result<Vec<u16>, AllowError> {
    let number = |port: &str| port.trim().parse().ok().filter(|port: &u16| *port > 0);
    text.split(',').map(number).collect::<Option<_>>().ok_or_else(|| AllowError::Ports(text.to_owned()))
}

/// One destination as the command line has it.
pub(super) fn written(form: &DestinationForm) -> String {
    let ports: Vec<String> = form.ports.iter().flatten().map(u16::to_string).collect();
    let colon = if ports.is_empty() { "" } else { ":" };
    let host = match (&form.domain, &form.suffix, form.cidr) {
        (Some(host), ..) | (None, Some(host), _) => harmless(host),
        (None, None, Some(net @ IpNet::V6(_))) => format!("[{net}]"),
        (None, None, Some(net)) => net.to_string(),
        (None, None, None) => "?".to_owned(),
    };
    format!("{host}{colon}{}", ports.join(","))
}

/// What the network refused to a program, in a line each; refused system calls have their place in the verdict.
pub(super) fn refusals(denied: &[Denied], error: Option<&str>) -> Vec<String> {
    let lost = error.map(|error| format!("no network: {}", harmless(error)));
    let flows = denied.iter().filter_map(|denied| match denied {
        Denied::Flow(flow) => Some(line(flow)),
        Denied::Syscall(_) => None,
    });
    lost.into_iter().chain(flows).collect()
}

/// One refused flow.
pub(super) fn line(flow: &DeniedFlow) -> String {
    let times = if flow.count > 1 { format!(", {} times", flow.count) } else { String::new() };
    format!("refused: {}{times}", harmless(&flow.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Denial, DenialReason, Protocol};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        reach: Reach,
    }

    fn form(arguments: &[&str]) -> Result<Option<NetworkForm>, clap::Error> {
        Line::try_parse_from([&["run"], arguments].concat()).map(|line| line.reach.form())
    }

    fn json(arguments: &[&str]) -> serde_json::Value {
        serde_json::to_value(form(arguments).unwrap()).unwrap()
    }

    #[test]
    fn what_is_allowed_is_in_the_request() {
        assert_eq!(form(&[]).unwrap(), None);
        assert_eq!(json(&["--network", "none"]), "none");
        assert_eq!(json(&["--network", "loopback"]), "loopback");
        for (text, expected) in [
            ("example.org", serde_json::json!({ "domain": "example.org" })),
            (".example.net:443", serde_json::json!({ "suffix": ".example.net", "ports": [443] })),
            ("example.org:80,8080", serde_json::json!({ "domain": "example.org", "ports": [80, 8080] })),
            ("203.0.113.0/24:8080", serde_json::json!({ "cidr": "203.0.113.0/24", "ports": [8080] })),
            ("203.0.113.7", serde_json::json!({ "cidr": "203.0.113.7/32" })),
            ("2001:db8::/32", serde_json::json!({ "cidr": "2001:db8::/32" })),
            ("[2001:db8::1]:443", serde_json::json!({ "cidr": "2001:db8::1/128", "ports": [443] })),
            ("[2001:db8::/32]", serde_json::json!({ "cidr": "2001:db8::/32" })),
        ] {
            assert_eq!(json(&["--allow", text]), serde_json::json!({ "allow": [expected] }), "{text}");
        }
        let several = json(&["--allow", "a.org", "--allow", ".b.org"]);
        assert_eq!(several["allow"].as_array().unwrap().len(), 2);
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", ":443", "a.org:", "a.org:0", "a.org:65536", "a.org:http", "a.org:80,", "[a.org]:443", "[::1"] {
            assert!(form(&["--allow", text]).is_err(), "{text}");
        }
        assert!(form(&["--network", "lan"]).is_err());
        assert!(form(&["--network", "none", "--allow", "a.org"]).is_err());
    }

    #[test]
    fn destinations_are_written_as_they_are_read() {
        for text in ["a.org:80,443", ".a.org:443", "203.0.113.0/24:1", "[2001:db8::/32]:443", "a.org"] {
            assert_eq!(written(&text.parse::<Allowed>().unwrap().0), text);
        }
    }

    #[test]
    fn each_refused_flow_has_a_line() {
        let flow = DeniedFlow {
            name: Some("exa\u{1b}mple.com".to_owned()),
            address: None,
            port: Some(443),
            protocol: Protocol::Tcp,
            reason: DenialReason::NotListed,
            count: 3,
        };
        let call = Denial { syscall: "mount".to_owned(), argument: None, count: 1 };
        let denied = [Denied::Syscall(call), Denied::Flow(flow.clone()), Denied::Flow(DeniedFlow { count: 1, ..flow })];
        let lines = refusals(&denied, Some("no uplink"));
        assert_eq!(lines.len(), 3, "{lines:?}");
        assert_eq!(lines[0], "no network: no uplink");
        assert!(
            lines[1].starts_with("refused: exa\\u{1b}mple.com:443 (") && lines[1].ends_with("), 3 times"),
            "{lines:?}"
        );
        assert!(lines[2].ends_with(')'), "{lines:?}");
    }
}
