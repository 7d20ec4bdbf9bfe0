//! What a session is told in one word: to stop, pause, go on, get processors, go away; and signals.

use hyper::Method;
use serde_json::json;

use super::SessionError;
use super::link::{Link, escape};
use super::target::pair;
use super::wire::Session;
use crate::cli::{complain, exit};
use crate::client::ClientError;

/// Arguments of the commands that take sessions only.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The sessions
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
}

/// Arguments of `codesandbox session promote`.
#[derive(Debug, clap::Args)]
pub(super) struct PromoteArguments {
    /// The session
    id: String,
    /// Hold it to these processors [default: as it is]
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    cpus: Vec<u32>,
}

/// Arguments of `codesandbox session kill`.
#[derive(Debug, clap::Args)]
pub(super) struct KillArguments {
    /// The session
    id: String,
    /// The program, as ps tells it
    exec: String,
    /// Signal by name, with or without SIG, or by number
    #[arg(short, long, default_value = "SIGTERM", value_parser = signal)]
    signal: String,
}

/// Arguments of `codesandbox session rm`.
#[derive(Debug, clap::Args)]
pub(super) struct RemoveArguments {
    /// The sessions
    #[arg(value_name = "ID", required_unless_present_any = ["all", "labels"], conflicts_with_all = ["all", "labels"])]
    ids: Vec<String>,
    /// All of yours
    #[arg(long, conflicts_with = "labels")]
    all: bool,
    /// All with this label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
}

/// Tells each session one word.
pub(super) async fn change(link: &Link, arguments: &Arguments, word: &str) -> Result<u8, SessionError> {
    let mut told = Told::default();
    for given in &arguments.ids {
        told.note(given, one(link, given, word).await)?;
    }
    Ok(told.status())
}

async fn one(link: &Link, given: &str, word: &str) -> Result<(), SessionError> {
    let path = link.session(given).await?;
    link.call(Method::POST, &format!("{path}/{word}"), Some(&json!({}))).await?;
    Ok(())
}

/// Makes a session persistent, and gives it processors.
pub(super) async fn promote(link: &Link, arguments: &PromoteArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let body = if arguments.cpus.is_empty() { json!({}) } else { json!({"cpus": arguments.cpus}) };
    let session: Session = link.post(&format!("{path}/promote"), &body).await?;
    let cpus: Vec<String> = session.cpus.iter().flatten().map(ToString::to_string).collect();
    if !cpus.is_empty() {
        super::print(format!("{}\n", cpus.join(","))).await?;
    }
    Ok(0)
}

/// Sends a signal.
pub(super) async fn kill(link: &Link, arguments: &KillArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    signal_exec(link, &format!("{path}/execs/{}", escape(&arguments.exec)), &arguments.signal).await?;
    Ok(0)
}

/// Sends a signal to a program, whose path in the API is given.
pub(super) async fn signal_exec(link: &Link, path: &str, signal: &str) -> Result<(), ClientError> {
    link.call(Method::POST, &format!("{path}/signal"), Some(&json!({"signal": signal}))).await.map(drop)
}

/// A signal as the API spells it.
fn signal(text: &str) -> Result<String, String> {
    use nix::sys::signal::Signal;
    let upper = text.to_uppercase();
    let named = if upper.starts_with("SIG") { upper } else { format!("SIG{upper}") };
    let known = match text.parse::<i32>() {
        Ok(number) => Signal::try_from(number).ok(),
        Err(_) => named.parse().ok(),
    };
    known.map(|signal: Signal| signal.as_str().to_owned()).ok_or_else(|| "no such signal".to_owned())
}

/// Ends sessions for good.
pub(super) async fn remove(link: &Link, arguments: &RemoveArguments) -> Result<u8, SessionError> {
    let ids = if arguments.ids.is_empty() {
        let found = link.list(&arguments.labels, None).await?;
        found.iter().filter_map(|session| Some(session.get("id")?.as_str()?.to_owned())).collect()
    } else {
        arguments.ids.clone()
    };
    let mut told = Told::default();
    for given in &ids {
        told.note(given, delete(link, given).await)?;
    }
    Ok(told.status())
}

async fn delete(link: &Link, given: &str) -> Result<(), SessionError> {
    let path = link.session(given).await?;
    link.call(Method::DELETE, &path, None).await?;
    Ok(())
}

/// What became of several: one that fails does not keep the others.
#[derive(Debug, Default)]
struct Told {
    failed: bool,
}

impl Told {
    fn note(&mut self, given: &str, result: Result<(), SessionError>) -> Result<(), SessionError> {
        match result {
            Ok(()) => Ok(()),
            Err(error @ SessionError::Absent(_)) => Err(error),
            Err(error) => {
                complain(&format!("{given}: {error}"));
                self.failed = true;
                Ok(())
            }
        }
    }

    fn status(&self) -> u8 {
        if self.failed { exit::FAILURE } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_go_by_many_names() {
        for text in ["SIGINT", "int", "INT", "2", "sigint"] {
            assert_eq!(signal(text).as_deref(), Ok("SIGINT"), "{text}");
        }
        assert!(signal("SIGNOTHING").is_err() && signal("0").is_err() && signal("").is_err());
    }
}
