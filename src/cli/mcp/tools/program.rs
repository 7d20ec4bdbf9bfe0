//! `session_exec`: a program of a session, from its start to its end, or left in the background.

use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ending::{Ending, Outcome};
use super::run::decoded;
use super::{Call, Does, limits, tool};
use crate::api::problem::ProblemDetails;
use crate::api::wire::Encoding;
use crate::cli::mcp::excerpt::{Excerpt, Told};
use crate::cli::mcp::reply::{Reply, Trouble, most};
use crate::cli::mcp::resources::uri;
use crate::client::{ClientError, explain};

/// Arguments of `session_exec`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exec {
    /// Id of the session
    session: String,
    /// A line for the shell (sh), such as "python main.py | head"
    command: Option<String>,
    /// In place of `command`: a program and its arguments, which no shell looks at
    argv: Option<Vec<String>>,
    /// Directory below /workspace to run it in
    cwd: Option<String>,
    /// Variables for its environment
    env: Option<std::collections::BTreeMap<String, String>>,
    /// Standard input
    stdin: Option<String>,
    /// Time that it may run, by the clock
    timeout_ms: Option<u64>,
    /// Do not wait for it: for servers, and for what takes long. Its output is told by session_output
    #[serde(default)]
    background: bool,
    /// With `background`: keep its standard input open, for session_input
    #[serde(default)]
    interactive: bool,
    /// Most bytes of standard output, and as much again of standard error: 16384 where absent, at most 262144
    max_output: Option<u32>,
}

/// A program of a session as data.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Program {
    /// Its number within the session
    exec: u64,
    /// Whether it still runs
    running: bool,
    /// How it ended; null while it runs
    outcome: Option<Outcome>,
    /// Standard output, cut in the middle where it is long
    stdout: String,
    /// Standard error, cut in the middle where it is long
    stderr: String,
    /// Whether something of these is left out
    truncated: bool,
    /// What to give to session_output to go on in standard output
    next_stdout: u64,
    /// What to give to session_output to go on in standard error
    next_stderr: u64,
    /// Resource that has all of its output that is kept
    log: String,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![tool::<Exec, Program>(
        "session_exec",
        "Run a command in a session",
        Does::Runs,
        "Run a command in a session and wait for its end, or start it in the background. Files that it writes below \
             /workspace stay for the next call; variables of the shell and its current directory do not. Programs that \
             ask questions get no answer: give `stdin`, or options that make them ask nothing.",
    )]
}

/// One event of a program, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Event {
    Started {
        exec: Started,
    },
    Output {
        stream: String,
        sequence: u64,
        data: String,
        encoding: Encoding,
    },
    Gap {
        stream: String,
        from: u64,
        to: u64,
    },
    Finished {
        result: Box<Ending>,
    },
    End,
    Failed {
        problem: Box<ProblemDetails>,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
pub(super) struct Started {
    id: u64,
}

pub(super) async fn exec(call: Call<'_>, asked: Exec) -> Result<Reply, Trouble> {
    let path = format!("{}/execs", call.own.path(&asked.session)?);
    if asked.command.is_some() == asked.argv.is_some() {
        return Err(Trouble::said("give one of `command` and `argv`"));
    }
    let mut body = Map::new();
    let given = [
        ("shell", json!(asked.command)),
        ("argv", json!(asked.argv)),
        ("cwd", json!(asked.cwd)),
        ("env", json!(asked.env)),
        ("stdin", json!(asked.stdin)),
        ("detach", json!(asked.background)),
        ("keep_stdin", json!(asked.background && asked.interactive)),
    ];
    body.extend(given.map(|(name, value)| (name.to_owned(), value)));
    limits(&mut body, asked.timeout_ms, None);
    let body = Value::Object(body);
    if asked.background {
        let told = call.shared.way.ask(Method::POST, &path, Some(&body)).await?;
        let exec = told.get("id").and_then(Value::as_u64).unwrap_or_default();
        let mut seen = Seen::new(exec, 0, 0);
        seen.running = true;
        let mut reply = seen.reply(&asked.session);
        reply.line(format!("next: session_output with exec {exec} tells what it prints"));
        return Ok(reply);
    }
    let most = most(asked.max_output);
    let (mut stdout, mut stderr) = (Excerpt::new(most), Excerpt::new(most));
    let mut seen = Seen::new(0, 0, 0);
    let mut events = call.shared.way.follow(Method::POST, &path, Some(&body)).await?;
    while let Some(event) = events.next().await? {
        match event {
            Event::Started { exec } => seen.exec = exec.id,
            Event::Output { stream, sequence, data, encoding } => {
                let bytes = decoded(&data, encoding);
                call.progress.printed(&bytes).await;
                *seen.next(&stream) = sequence + bytes.len() as u64;
                if stream == "stderr" { &mut stderr } else { &mut stdout }.push(&bytes);
            }
            Event::Gap { stream, from, to } => {
                if stream == "stderr" { &mut stderr } else { &mut stdout }.lose(to.saturating_sub(from));
            }
            Event::Finished { result } => {
                seen.ending = Some(*result);
                break;
            }
            Event::End => {
                seen.running = true;
                break;
            }
            Event::Failed { problem } => return Err(Trouble::said(explain(&problem))),
            Event::Other => {}
        }
    }
    if seen.ending.is_none() && !seen.running {
        return Err(ClientError::Strange("it ended before the program did".to_owned()).into());
    }
    (seen.stdout, seen.stderr) = (Some(stdout.told()), Some(stderr.told()));
    Ok(seen.reply(&asked.session))
}

/// What was seen of a program.
pub(super) struct Seen {
    exec: u64,
    pub(super) running: bool,
    pub(super) ending: Option<Ending>,
    pub(super) stdout: Option<Told>,
    pub(super) stderr: Option<Told>,
    next_stdout: u64,
    next_stderr: u64,
    pub(super) lost: u64,
    pub(super) more: bool,
}

impl Seen {
    pub(super) fn new(exec: u64, next_stdout: u64, next_stderr: u64) -> Self {
        let (ending, stdout, stderr) = (None, None, None);
        Self { exec, running: false, ending, stdout, stderr, next_stdout, next_stderr, lost: 0, more: false }
    }

    /// Where to go on in a stream.
    pub(super) fn next(&mut self, stream: &str) -> &mut u64 {
        if stream == "stderr" { &mut self.next_stderr } else { &mut self.next_stdout }
    }

    pub(super) fn reply(self, session: &str) -> Reply {
        let log = uri::log(session, self.exec);
        let nothing = || Told { text: String::new(), total: 0, cut: false };
        let (stdout, stderr) = (self.stdout.unwrap_or_else(nothing), self.stderr.unwrap_or_else(nothing));
        let mut reply = Reply::of(&Program {
            exec: self.exec,
            running: self.running,
            outcome: self.ending.as_ref().map(|ending| ending.outcome(ending.status())),
            stdout: stdout.text.clone(),
            stderr: stderr.text.clone(),
            truncated: stdout.cut || stderr.cut || self.lost > 0 || self.more,
            next_stdout: self.next_stdout,
            next_stderr: self.next_stderr,
            log: log.clone(),
        });
        match &self.ending {
            None => reply.line(format!("status: running (exec {})", self.exec)),
            Some(ending) => {
                reply.line(format!("{}, exec {}", ending.headline(ending.status()), self.exec));
                ending.notes(ending.status()).into_iter().for_each(|note| reply.line(note));
            }
        }
        if self.lost > 0 {
            reply.line(format!("{} bytes are not kept any more", self.lost));
        }
        reply.output("stdout", &stdout, Some(&log));
        reply.output("stderr", &stderr, Some(&log));
        if self.ending.is_some() && !self.more && stdout.total + stderr.total == 0 {
            reply.line("It printed nothing.");
        }
        if self.more {
            let (out, err) = (self.next_stdout, self.next_stderr);
            reply.line(format!("next: there is more; go on with from_stdout {out} and from_stderr {err}"));
        }
        reply
    }
}
