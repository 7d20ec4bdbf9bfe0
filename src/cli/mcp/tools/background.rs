//! `session_output` and `session_input`: programs that run in the background of a session.

use std::time::Duration;

use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::ending::Ending;
use super::program::{Event, Program, Seen};
use super::run::decoded;
use super::{Call, Does, tool};
use crate::cli::mcp::excerpt::Excerpt;
use crate::cli::mcp::reply::{Reply, Trouble, most};
use crate::client::{ClientError, explain};

/// Longest that output is waited for.
const WAIT_MS: u64 = 60_000;

/// Arguments of `session_output`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Output {
    /// Id of the session
    session: String,
    /// Number of the program, as session_exec gave it
    exec: u64,
    /// Where to go on in standard output: `next_stdout` of the call before
    #[serde(default)]
    from_stdout: u64,
    /// Where to go on in standard error: `next_stderr` of the call before
    #[serde(default)]
    from_stderr: u64,
    /// How long to wait for it to end; not at all where absent, at most 60000
    #[serde(default)]
    wait_ms: u64,
    /// Most bytes of standard output, and as much again of standard error: 16384 where absent, at most 262144
    max_output: Option<u32>,
}

/// Arguments of `session_input`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Input {
    /// Id of the session
    session: String,
    /// Number of the program, as session_exec gave it
    exec: u64,
    /// Text for its standard input; end a line with \n
    text: Option<String>,
    /// Close its standard input behind the text
    #[serde(default)]
    close: bool,
    /// Signal to send to it, such as SIGINT, SIGTERM or SIGKILL
    signal: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Sent {
    /// What was done
    done: Vec<String>,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![
        tool::<Output, Program>(
            "session_output",
            "Read output of a background program",
            Does::Reads,
            "Tell whether a background program of a session still runs, and what it printed since the call before.",
        ),
        tool::<Input, Sent>(
            "session_input",
            "Send input or a signal",
            Does::Runs,
            "Send text, the end of input, or a signal to a background program of a session. End a server by the signal \
             SIGTERM.",
        ),
    ]
}

pub(super) async fn output(mut call: Call<'_>, asked: Output) -> Result<Reply, Trouble> {
    let path = format!("{}/execs/{}", call.own.path(&asked.session)?, asked.exec);
    let most = most(asked.max_output);
    let mut seen = Seen::new(asked.exec, asked.from_stdout, asked.from_stderr);
    seen.running = true;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let patience = Instant::now() + Duration::from_millis(asked.wait_ms.min(WAIT_MS));
    let follow = asked.wait_ms > 0;
    let query = format!("stdout={}&stderr={}&follow={follow}", asked.from_stdout, asked.from_stderr);
    let mut events = call.shared.way.follow(Method::GET, &format!("{path}/output?{query}"), None).await?;
    loop {
        let next = events.next();
        // Without waiting the answer ends by itself; all that there is already is worth any patience.
        let event = if follow { timeout_at(patience, next).await.unwrap_or(Ok(None)) } else { next.await };
        match event? {
            Some(Event::Output { stream, sequence, data, encoding }) => {
                let bytes = decoded(&data, encoding);
                call.progress.printed(&bytes).await;
                let into = if stream == "stderr" { &mut stderr } else { &mut stdout };
                let taken = bytes.get(..bytes.len().min(most - into.len())).unwrap_or_default();
                into.extend_from_slice(taken);
                *seen.next(&stream) = sequence + taken.len() as u64;
                if taken.len() < bytes.len() {
                    seen.more = true;
                    break;
                }
            }
            Some(Event::Gap { stream, from, to }) => {
                seen.lost += to.saturating_sub(from);
                *seen.next(&stream) = to;
            }
            Some(Event::Finished { result }) => {
                seen.ending = Some(*result);
                break;
            }
            Some(Event::Failed { problem }) => return Err(Trouble::said(explain(&problem))),
            Some(Event::Started { .. } | Event::Other) => {}
            Some(Event::End) | None => break,
        }
    }
    drop(events);
    if seen.ending.is_none() {
        seen.ending = ended(&mut call, &path).await?;
    }
    seen.running = seen.ending.is_none();
    let told = |bytes: &[u8]| Some(Excerpt::of(bytes, most));
    (seen.stdout, seen.stderr) = (told(&stdout), told(&stderr));
    Ok(seen.reply(&asked.session))
}

/// How a program ended, if it has.
async fn ended(call: &mut Call<'_>, path: &str) -> Result<Option<Ending>, Trouble> {
    let told = call.shared.way.ask(Method::GET, path, None).await?;
    let result = told.get("result").filter(|result| !result.is_null()).cloned();
    let ending = result.map(serde_json::from_value).transpose();
    ending.map_err(|error| ClientError::Strange(error.to_string()).into())
}

pub(super) async fn input(call: Call<'_>, asked: Input) -> Result<Reply, Trouble> {
    let path = format!("{}/execs/{}", call.own.path(&asked.session)?, asked.exec);
    if asked.text.is_none() && asked.signal.is_none() && !asked.close {
        return Err(Trouble::said("give `text`, `close` or `signal`"));
    }
    let mut done = Vec::new();
    if asked.text.is_some() || asked.close {
        let text = asked.text.unwrap_or_default();
        done.push(format!("{} bytes of input are sent", text.len()));
        let to = format!("{path}/stdin?close={}", asked.close);
        call.shared.way.upload(Method::POST, &to, text.into_bytes()).await?;
        if asked.close {
            done.push("its input is closed".to_owned());
        }
    }
    if let Some(signal) = asked.signal {
        let body = json!({ "signal": signal });
        call.shared.way.ask(Method::POST, &format!("{path}/signal"), Some(&body)).await?;
        done.push(format!("{signal} is sent"));
    }
    let mut reply = Reply::of(&Sent { done: done.clone() });
    done.into_iter().for_each(|line| reply.line(line));
    Ok(reply)
}
