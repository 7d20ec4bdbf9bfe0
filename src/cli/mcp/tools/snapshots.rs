//! `session_snapshot`, `session_rollback` and `session_fork`: the files of a session as they were.

use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::session::{Session, made};
use super::{Call, Does, tool};
use crate::cli::mcp::reply::{Reply, Trouble};

/// Arguments of `session_snapshot`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Take {
    /// Id of the session
    session: String,
    /// What to call it
    label: Option<String>,
}

/// Arguments of `session_rollback`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Id of the session
    session: String,
    /// Number of the snapshot, as session_snapshot gave it
    snapshot: u64,
}

/// Arguments of `session_fork`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Fork {
    /// Id of the session
    session: String,
    /// Number of the snapshot to begin from; its files as they are now where absent
    snapshot: Option<u64>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Snapshot {
    /// Its number within the session
    snapshot: u64,
    /// Bytes of its files
    bytes: u64,
    /// How many files, directories and links it has
    files: u64,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool::<Take, Snapshot>(
            "session_snapshot",
            "Remember the files of a session",
            Does::Adds,
            "Remember all files of a session as they are now, so that session_rollback can bring them back. Cheap; do it \
             before a change that may go wrong.",
        ),
        tool::<Rollback, Session>(
            "session_rollback",
            "Bring back the files of a snapshot",
            Does::Changes,
            "Put all files of a session back to a snapshot. What was changed since is lost, and its programs are ended.",
        ),
        tool::<Fork, Session>(
            "session_fork",
            "Copy a session",
            Does::Adds,
            "Start another session with the files of this one, and get its id. Programs and variables are not copied. Use \
             it to try several ways from one point.",
        ),
    ]
}

pub(super) async fn take(call: Call<'_>, asked: Take) -> Result<Reply, Trouble> {
    let path = format!("{}/snapshots", call.own.path(&asked.session)?);
    let told = call.shared.way.ask(Method::POST, &path, Some(&json!({ "label": asked.label }))).await?;
    let number = |name: &str| told.get(name).and_then(Value::as_u64).unwrap_or_default();
    let data = Snapshot { snapshot: number("id"), bytes: number("bytes"), files: number("files") };
    let mut reply = Reply::of(&data);
    reply.line(format!("snapshot {}: {} files, {} bytes", data.snapshot, data.files, data.bytes));
    Ok(reply)
}

pub(super) async fn rollback(call: Call<'_>, asked: Rollback) -> Result<Reply, Trouble> {
    let path = format!("{}/snapshots/{}/rollback", call.own.path(&asked.session)?, asked.snapshot);
    let session = Session::of(&call.shared.way.ask(Method::POST, &path, None).await?);
    let mut reply = Reply::of(&session);
    reply.line(format!("the files of session {} are those of snapshot {} again", session.session, asked.snapshot));
    Ok(reply)
}

pub(super) async fn fork(call: Call<'_>, asked: Fork) -> Result<Reply, Trouble> {
    let path = format!("{}/fork", call.own.path(&asked.session)?);
    let session = made(&call, path, json!({ "snapshot": asked.snapshot })).await?;
    let mut reply = Reply::of(&session);
    reply.line(format!("session {} has the files of session {}", session.session, asked.session));
    Ok(reply)
}
