//! Snapshots of a session's files, and sessions that begin with the files of another.

use std::path::PathBuf;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::create::object;
use super::link::{Link, escape, understood};
use super::list::{size, time};
use super::target::pair;
use super::transfer::{Source, both, reading, to_file};
use super::wire::{Session, Snapshot};
use super::{SessionError, print, print_json};
use crate::cli::text::{harmless, table};

/// Arguments of `codesandbox session snapshot`.
#[derive(Debug, clap::Args)]
pub(super) struct TakeArguments {
    /// The session
    id: String,
    /// What to call it
    #[arg(short, long)]
    label: Option<String>,
    /// Print it as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `codesandbox session snapshots`.
#[derive(Debug, clap::Args)]
pub(super) struct ListArguments {
    /// The session
    id: String,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

/// Arguments of `codesandbox session rollback`.
#[derive(Debug, clap::Args)]
pub(super) struct RollbackArguments {
    /// The session
    id: String,
    /// The snapshot, as snapshots tells it
    snapshot: u64,
}

/// Arguments of `codesandbox session fork`.
#[derive(Debug, clap::Args)]
pub(super) struct ForkArguments {
    /// The session
    id: String,
    /// Begin with this snapshot [default: the files as they are now]
    #[arg(short, long)]
    snapshot: Option<u64>,
    /// A word to find the new one by, in place of those of the first
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = pair)]
    labels: Vec<(String, String)>,
    /// Print the new session as JSON in place of its id
    #[arg(long)]
    json: bool,
}

/// Arguments of `codesandbox session export`.
#[derive(Debug, clap::Args)]
pub(super) struct ExportArguments {
    /// The session
    id: String,
    /// The snapshot, as snapshots tells it
    snapshot: u64,
    /// Tar file to write; - is standard output
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
}

/// Arguments of `codesandbox session import`.
#[derive(Debug, clap::Args)]
pub(super) struct ImportArguments {
    /// Tar file to read; - is standard input
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Languages and versions, as of create
    #[arg(required = true, value_name = "RUNTIME")]
    runtimes: Vec<String>,
    /// Named set of limits and rules to live under
    #[arg(short, long)]
    profile: Option<String>,
    /// Print the session as JSON in place of its id
    #[arg(long)]
    json: bool,
}

/// Takes a snapshot.
pub(super) async fn take(link: &Link, arguments: &TakeArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let body = arguments.label.as_ref().map_or_else(|| json!({}), |label| json!({"label": label}));
    let answer = link.call(Method::POST, &format!("{path}/snapshots"), Some(&body)).await?;
    if arguments.json {
        print_json(&answer).await?;
    } else {
        print(format!("{}\n", understood::<Snapshot>(&answer)?.id.0)).await?;
    }
    Ok(0)
}

#[derive(Deserialize)]
struct Snapshots {
    snapshots: Vec<Snapshot>,
}

/// Lists them.
pub(super) async fn list(link: &Link, arguments: &ListArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let answer = link.call(Method::GET, &format!("{path}/snapshots"), None).await?;
    if arguments.json {
        print_json(&answer).await?;
    } else {
        print(render(&understood::<Snapshots>(&answer)?.snapshots)).await?;
    }
    Ok(0)
}

fn render(snapshots: &[Snapshot]) -> String {
    let mut rows = vec![["SNAPSHOT", "CREATED", "SIZE", "FILES", "LABEL"].map(str::to_owned).to_vec()];
    rows.extend(snapshots.iter().map(|snapshot| {
        vec![
            harmless(&snapshot.id.0),
            time(snapshot.created_at.as_deref()),
            size(snapshot.bytes),
            snapshot.files.to_string(),
            harmless(snapshot.label.as_deref().unwrap_or_default()),
        ]
    }));
    table(&rows)
}

/// Puts the files back.
pub(super) async fn rollback(link: &Link, arguments: &RollbackArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let path = format!("{path}/snapshots/{}/rollback", arguments.snapshot);
    link.call(Method::POST, &path, Some(&json!({}))).await?;
    Ok(0)
}

/// Starts a session with the files of another.
pub(super) async fn fork(link: &Link, arguments: &ForkArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let mut body = Map::new();
    body.extend(arguments.snapshot.map(|snapshot| ("snapshot".to_owned(), json!(snapshot))));
    body.extend(object(&arguments.labels).map(|labels| ("labels".to_owned(), labels)));
    let answer = link.call(Method::POST, &format!("{path}/fork"), Some(&Value::Object(body))).await?;
    tell(&answer, arguments.json).await
}

/// Writes a snapshot into a file.
pub(super) async fn export(link: &Link, arguments: &ExportArguments) -> Result<u8, SessionError> {
    let path = link.session(&arguments.id).await?;
    let path = format!("{path}/snapshots/{}/export", arguments.snapshot);
    let body = link.connect().await?.download(&path).await?;
    to_file(body, &arguments.file).await?;
    Ok(0)
}

/// Starts a session with the files of an archive.
pub(super) async fn import(link: &Link, arguments: &ImportArguments) -> Result<u8, SessionError> {
    let mut query: Vec<String> = arguments.runtimes.iter().map(|name| format!("runtime={}", escape(name))).collect();
    query.extend(arguments.profile.iter().map(|name| format!("profile={}", escape(name))));
    let path = format!("/v1/sessions/import?{}", query.join("&"));
    let (body, worker) = reading(Source::open(&arguments.file)?);
    let mut client = link.connect().await?;
    let answer = both(client.upload(Method::POST, &path, "application/x-tar", body), worker).await?;
    tell(&answer, arguments.json).await
}

/// Tells a session that was started.
async fn tell(answer: &[u8], json: bool) -> Result<u8, SessionError> {
    if json {
        print_json(answer).await?;
    } else {
        print(format!("{}\n", understood::<Session>(answer)?.id)).await?;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_are_a_line_each() {
        let answer = r#"{"snapshots": [{"id": 3, "created_at": "2020-01-01T00:00:00Z", "label": "\u001b[2J", "bytes": 2048,
            "files": 7}, {"id": 4, "label": null}]}"#;
        let text = render(&understood::<Snapshots>(answer.as_bytes()).unwrap().snapshots);
        assert_eq!(text.lines().count(), 3);
        assert!(text.contains("2.0 KiB") && !text.contains('\x1b'), "{text}");
    }
}
