//! `codesandbox session network`: what the programs of a session can reach, and what was refused to them.

use hyper::Method;
use serde_json::json;

use super::link::{Link, understood};
use super::{SessionError, print, print_json};
use crate::api::sessions::wire::NetworkResponse;
use crate::cli::network::{self, Reach};
use crate::cli::text::harmless;
use crate::profile::{Closed, NetworkForm};

/// Arguments of `codesandbox session network`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The session
    id: String,
    #[command(flatten)]
    reach: Reach,
    /// Let it reach all that its profile allows
    #[arg(long, conflicts_with_all = ["allow", "network", "secrets", "no_secrets"])]
    reset: bool,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Examples.
pub(super) const HELP: &str = "\
Without --allow, --network, --secret, --no-secrets and --reset it tells what is; with one of them, what it tells is so
from then on, for programs that run as well.

Examples:
  codesandbox session network $id
  codesandbox session network $id --allow example.org --allow .example.net:443
  codesandbox session network $id --network none";

/// Tells it, or replaces it first.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let path = format!("{}/network", link.session(&arguments.id).await?);
    let body = match (arguments.reach.form(), arguments.reach.secrets()) {
        (None, None) if !arguments.reset => link.call(Method::GET, &path, None).await?,
        (form, secrets) => link.call(Method::PUT, &path, Some(&json!({ "network": form, "secrets": secrets }))).await?,
    };
    if arguments.json {
        print_json(&body).await?;
    } else {
        print(describe(&understood(&body)?)).await?;
    }
    Ok(0)
}

fn describe(answer: &NetworkResponse) -> String {
    let mut lines = match &answer.network {
        NetworkForm::Closed(Closed::None) => vec!["none".to_owned()],
        NetworkForm::Closed(Closed::Loopback) => vec!["loopback".to_owned()],
        NetworkForm::Open(list) if list.allow.is_empty() => vec!["allow nothing".to_owned()],
        NetworkForm::Open(list) => list.allow.iter().map(|one| format!("allow {}", network::written(one))).collect(),
    };
    if let NetworkForm::Open(list) = &answer.network {
        lines.extend(list.allow_private.iter().map(|net| format!("private {net}")));
        let bounds = [
            ("connections", list.connections.map(u64::from)),
            ("bytes", list.bytes),
            ("bytes a second", list.bytes_per_second),
        ];
        lines.extend(bounds.iter().filter_map(|(name, most)| most.map(|most| format!("at most {most} {name}"))));
        lines.extend(list.secrets.iter().map(|(variable, name)| format!("secret {variable} ({})", harmless(name))));
    }
    lines.extend(answer.network_error.iter().map(|error| format!("no network: {}", harmless(error))));
    lines.extend(answer.denied.iter().map(network::line));
    lines.iter().map(|line| format!("{line}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_an_answer_has_a_line() {
        let answer = json!({
            "network": {
                "allow": [{ "domain": "a.org", "ports": [80, 443] }, { "cidr": "10.1.0.0/16", "ports": [22] }],
                "allow_private": ["10.0.0.0/8"], "connections": 7, "bytes_per_second": 9,
            },
            "denied": [{
                "name": null, "address": "198.35.26.96", "port": 25, "protocol": "tcp", "reason": "port", "count": 2,
            }],
            "network_error": "no uplink",
        });
        let told = describe(&serde_json::from_value(answer).unwrap());
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "allow a.org:80,443",
                "allow 10.1.0.0/16:22",
                "private 10.0.0.0/8",
                "at most 7 connections",
                "at most 9 bytes a second",
                "no network: no uplink",
                "refused: 198.35.26.96:25 (not at this port), 2 times",
            ]
        );
    }
}
