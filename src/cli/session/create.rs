//! `codesandbox session create`.

use hyper::Method;
use serde_json::{Map, Value, json};

use super::link::{Link, understood};
use super::target::pair;
use super::time::duration;
use super::wire::Session;
use super::{SessionError, print, print_json};
use crate::cli::arguments::variable;
use crate::cli::dependencies::{Packages, PackagesError};
use crate::cli::limit::{self, Limit};
use crate::cli::network::Reach;

/// Arguments of `codesandbox session create`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// Languages and versions, such as python@3.12 or node; the first is the usual one
    #[arg(required = true, value_name = "RUNTIME")]
    runtimes: Vec<String>,
    /// Named set of limits and rules to live under
    #[arg(short, long)]
    profile: Option<String>,
    /// Change a limit, such as memory=1G or disk=4G; --help lists all
    #[arg(short, long = "limit", value_name = "NAME=VALUE")]
    limits: Vec<Limit>,
    /// A variable for the environment of every program
    #[arg(short, long, value_name = "NAME=VALUE", value_parser = variable)]
    env: Vec<(String, String)>,
    /// A word to find it by
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// End it when nobody has used it for this long, such as 30m
    #[arg(long, value_name = "TIME", value_parser = duration)]
    idle_timeout: Option<u64>,
    /// End it after this long, used or not, such as 24h
    #[arg(long, value_name = "TIME", value_parser = duration)]
    lifetime: Option<u64>,
    /// Keep its files on disk: it then survives a restart of the host, and can be stopped
    #[arg(long)]
    persistent: bool,
    #[command(flatten)]
    reach: Reach,
    #[command(flatten)]
    packages: Packages,
    /// Print the session as JSON in place of its id
    #[arg(long)]
    json: bool,
}

/// Examples and limits.
pub(super) fn help() -> String {
    let examples = "Examples:\n  codesandbox session create python@3.12\n  codesandbox session create node python \
                    --label job=42 --idle-timeout 2h -l memory=2G\n  codesandbox session create python --persistent\n";
    format!("{examples}\n{}", limit::help())
}

/// Starts one.
pub(super) async fn run(link: &Link, arguments: &Arguments) -> Result<u8, SessionError> {
    let body = link.call(Method::POST, "/v1/sessions", Some(&request(arguments)?)).await?;
    if arguments.json {
        print_json(&body).await?;
    } else {
        let session: Session = understood(&body)?;
        print(format!("{}\n", session.id)).await?;
    }
    Ok(0)
}

fn request(arguments: &Arguments) -> Result<Value, PackagesError> {
    let mut request = Map::new();
    request.insert("runtimes".to_owned(), json!(arguments.runtimes));
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            request.insert(name.to_owned(), value);
        }
    };
    put("profile", arguments.profile.as_ref().map(|name| json!(name)));
    put("limits", limits(&arguments.limits));
    put("env", object(&arguments.env));
    put("labels", object(&arguments.labels));
    put("idle_timeout_ms", arguments.idle_timeout.map(|time| json!(time)));
    put("lifetime_ms", arguments.lifetime.map(|time| json!(time)));
    put("network", arguments.reach.form().map(|form| json!(form)));
    put("secrets", arguments.reach.secrets().map(|names| json!(names)));
    put("dependencies", arguments.packages.form()?.map(|form| json!(form)));
    put("persistent", arguments.persistent.then_some(json!(true)));
    Ok(Value::Object(request))
}

/// Changes of limits as a request has them; none where there are none.
pub(super) fn limits(limits: &[Limit]) -> Option<Value> {
    let fields: Map<String, Value> = limits.iter().map(|limit| (limit.field.to_owned(), json!(limit.value))).collect();
    (!fields.is_empty()).then_some(Value::Object(fields))
}

/// Pairs as an object; the last of each key counts.
pub(super) fn object(pairs: &[(String, String)]) -> Option<Value> {
    let members: Map<String, Value> = pairs.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    (!members.is_empty()).then_some(Value::Object(members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn what_is_not_said_is_left_to_the_service() {
        let line = Line::parse_from(["create", "python"]);
        assert_eq!(request(&line.arguments).unwrap(), json!({"runtimes": ["python"]}));
    }

    #[test]
    fn everything_that_is_said_is_in_the_request() {
        let line = Line::parse_from([
            "create",
            "python@3.12",
            "node",
            "-p",
            "agent",
            "-l",
            "memory=1M",
            "-e",
            "A=1",
            "--label",
            "k=v",
            "--idle-timeout",
            "30m",
            "--lifetime",
            "2d",
            "--allow",
            "example.org:443",
            "--persistent",
        ]);
        let expected = json!({"runtimes": ["python@3.12", "node"], "profile": "agent", "limits": {"memory_bytes": 1048576},
            "env": {"A": "1"}, "labels": {"k": "v"}, "idle_timeout_ms": 1_800_000, "lifetime_ms": 172_800_000,
            "network": {"allow": [{"domain": "example.org", "ports": [443]}]}, "persistent": true});
        assert_eq!(request(&line.arguments).unwrap(), expected);
    }
}
