//! `session_create`, `session_list` and `session_close`: sandboxes that stay.

use std::collections::BTreeMap;

use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Call, Dependencies, Does, common, limits, tool};
use crate::cli::mcp::reply::{Reply, Trouble};
use crate::client::ClientError;

/// Arguments of `session_create`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// Languages and versions that it shall have, such as ["python@3.12", "bash"]; the first is the usual one.
    /// With "bash" there is a shell for session_exec, which other languages may come without
    runtimes: Vec<String>,
    /// Packages that its programs shall find
    dependencies: Option<Dependencies>,
    /// Variables for the environment of every program
    env: Option<BTreeMap<String, String>>,
    /// Memory of all its programs together, in MiB
    memory_mb: Option<u64>,
    /// It ends when nothing was done with it for so long
    idle_timeout_ms: Option<u64>,
    /// Hosts that its programs may reach, such as "example.org:443", of those that the policy here allows; [] for none
    allow_hosts: Option<Vec<String>>,
}

/// Arguments of `session_list`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {}

/// Arguments of `session_close`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Close {
    /// Id of the session
    session: String,
}

/// A session as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Session {
    /// Its id, by which other tools know it
    pub(super) session: String,
    /// active, paused, stopped or ending
    status: String,
    /// What it can run
    runtimes: Vec<String>,
    /// When it ends at the latest
    expires_at: Option<String>,
    /// After how long without use it ends
    idle_timeout_ms: Option<u64>,
    /// Programs that run in it
    programs_running: u64,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Sessions {
    /// The sessions
    sessions: Vec<Session>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Closed {
    /// Id of the session that is gone
    closed: String,
}

impl Session {
    /// As the API tells it.
    pub(super) fn of(told: &Value) -> Self {
        let text = |name: &str| told.get(name).and_then(Value::as_str).map(str::to_owned);
        let number = |name: &str| told.get(name).and_then(Value::as_u64);
        let runtimes = told.get("runtimes").and_then(Value::as_array).into_iter().flatten();
        Self {
            session: text("id").unwrap_or_default(),
            status: text("status").unwrap_or_default(),
            runtimes: runtimes.filter_map(|runtime| runtime.as_str().map(str::to_owned)).collect(),
            expires_at: text("expires_at"),
            idle_timeout_ms: number("idle_timeout_ms"),
            programs_running: number("execs_running").unwrap_or_default(),
        }
    }

    fn line(&self) -> String {
        let idle = self.idle_timeout_ms.map(|time| format!(", ends after {} s without use", time / 1000));
        format!(
            "session {}: {}, {}, {} programs run{}",
            self.session,
            self.status,
            self.runtimes.join(" "),
            self.programs_running,
            idle.unwrap_or_default()
        )
    }
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool::<Create, Session>(
            "session_create",
            "Start a session",
            Does::Adds,
            "Start a sandbox that stays, and get its id. It has a directory /workspace with files that all its programs \
             share, and is there until session_close, until it was not used for a while, or until this connection ends. \
             Use it where one step builds on another; for a single program run_code is faster.",
        ),
        tool::<List, Sessions>(
            "session_list",
            "List sessions",
            Does::Reads,
            "List your sessions with what runs in them. Sessions of other clients are not there.",
        ),
        tool::<Close, Closed>(
            "session_close",
            "End a session",
            Does::Changes,
            "End a session for good: its programs are ended and its files are gone. Read what you need before.",
        ),
    ]
}

pub(super) async fn create(call: Call<'_>, asked: Create) -> Result<Reply, Trouble> {
    let mut request = Map::new();
    request.insert("runtimes".to_owned(), json!(asked.runtimes));
    request.insert("env".to_owned(), json!(asked.env));
    request.insert("idle_timeout_ms".to_owned(), json!(asked.idle_timeout_ms));
    request.insert("labels".to_owned(), json!({"via": "mcp"}));
    limits(&mut request, None, asked.memory_mb);
    common(&mut request, call.shared, asked.dependencies.as_ref(), asked.allow_hosts.as_deref())?;
    call.progress.say("the session is made").await;
    let session = made(&call, "/v1/sessions".to_owned(), Value::Object(request)).await?;
    let mut reply = Reply::of(&session);
    reply.line(session.line());
    reply.line(
        "next: session_exec, session_code, file_write with this id; session_close when it is not needed any more",
    );
    Ok(reply)
}

/// Has a session made. Whoever loses interest meanwhile does not lose the session: it is among theirs.
pub(super) async fn made(call: &Call<'_>, path: String, body: Value) -> Result<Session, Trouble> {
    call.own.room()?;
    let (way, own) = (call.shared.way.clone(), call.own.clone());
    let making = tokio::spawn(async move {
        let told = way.ask(Method::POST, &path, Some(&body)).await?;
        let session = Session::of(&told);
        own.admit(&session.session);
        Ok::<_, ClientError>(session)
    });
    match making.await {
        Ok(made) => Ok(made?),
        Err(error) => Err(Trouble::said(format!("the session was not made: {error}"))),
    }
}

pub(super) async fn list(call: Call<'_>, _asked: List) -> Result<Reply, Trouble> {
    let sessions: Vec<Session> = call.own.list().await?.iter().map(Session::of).collect();
    let data = Sessions { sessions };
    let mut reply = Reply::of(&data);
    if data.sessions.is_empty() {
        reply.line("There are none; session_create starts one.");
    }
    data.sessions.iter().for_each(|session| reply.line(session.line()));
    Ok(reply)
}

pub(super) async fn close(call: Call<'_>, asked: Close) -> Result<Reply, Trouble> {
    let path = call.own.path(&asked.session)?;
    match call.shared.way.ask(Method::DELETE, &path, None).await {
        Ok(_) => {}
        // It was gone already, by its idle time-out for example, which is as good.
        Err(ClientError::Refused(refusal)) if refusal.status == 404 => {}
        Err(error) => return Err(error.into()),
    }
    call.own.forget(&asked.session);
    let mut reply = Reply::of(&Closed { closed: asked.session.clone() });
    reply.line(format!("session {} is gone", asked.session));
    Ok(reply)
}
