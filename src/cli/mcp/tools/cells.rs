//! `session_code`: code whose variables stay, as in a notebook.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};

use super::{Call, Does, tool};
use crate::cli::mcp::excerpt::Excerpt;
use crate::cli::mcp::pictures::Pictures;
use crate::cli::mcp::reply::{Reply, Trouble, most};
use crate::cli::mcp::way::Way;
use crate::client::{ClientError, Events};

/// How long a piece of code may take where nothing is said, and at most.
const TIMEOUT_MS: (u64, u64) = (60_000, 3_600_000);
/// How long code has to heed an interruption.
const HEED: Duration = Duration::from_secs(10);

/// Arguments of the tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Execute {
    /// Id of the session
    session: String,
    /// What to execute. The value of the last expression is told without printing it
    code: String,
    /// Language: "python" or "javascript". Where absent, that of the session's first runtime
    language: Option<String>,
    /// Interrupt it after this time: 60000 where absent
    timeout_ms: Option<u64>,
    /// Forget all variables before
    #[serde(default)]
    restart: bool,
    /// Most bytes of text in the result: 16384 where absent, at most 262144
    max_output: Option<u32>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Executed {
    /// ok, error, interrupted, or dead where the interpreter ended and all variables are lost
    status: String,
    /// Number of this piece of code; null where the interpreter is dead
    execution_count: Option<u64>,
    /// What it printed, cut in the middle where it is long
    output: String,
    /// Value of the last expression, as text
    value: Option<String>,
    /// What was raised
    error: Option<String>,
    /// How many images are in the result
    images: usize,
    /// Whether something is left out
    truncated: bool,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![tool::<Execute, Executed>(
        "session_code",
        "Execute code that keeps its variables",
        Does::Runs,
        "Execute Python or JavaScript in a session as a cell of a notebook: variables, imports and functions stay for the \
         next call, the value of the last expression is shown, and plots come back as images. It sees the files of the \
         session.",
    )]
}

pub(super) async fn execute(call: Call<'_>, asked: Execute) -> Result<Reply, Trouble> {
    let session = call.own.path(&asked.session)?;
    let way = &call.shared.way;
    let contexts = format!("{session}/contexts");
    let context = format!("{contexts}/{}", context(way, &session, &contexts, asked.language.as_deref()).await?);
    if asked.restart {
        way.ask(Method::POST, &format!("{context}/restart"), None).await?;
    }
    let timeout = asked.timeout_ms.unwrap_or(TIMEOUT_MS.0).min(TIMEOUT_MS.1);
    let mut patience = Instant::now() + Duration::from_millis(timeout);
    let mut seen = Seen::new(most(asked.max_output));
    // Hanging up leaves code alone here, since its output may be of interest to others: who goes away early says so.
    let mut interrupt = Interrupt { way: Some(way.clone()), path: format!("{context}/interrupt") };
    let body = json!({ "code": asked.code });
    let mut events = way.follow(Method::POST, &format!("{context}/execute"), Some(&body)).await?;
    // What does not heed an interruption is ended with its interpreter.
    let mut measures = ["interrupt", "restart"].into_iter();
    let mut in_time = true;
    loop {
        let Ok(event) = timeout_at(patience, next(&mut events)).await else {
            in_time = false;
            let Some(measure) = measures.next() else {
                return Err(Trouble::said("the code could not be ended; close the session"));
            };
            patience = Instant::now() + HEED;
            match way.ask(Method::POST, &format!("{context}/{measure}"), None).await {
                // It has ended by itself in this very moment, and says so next.
                Ok(_) | Err(ClientError::Refused(_)) => continue,
                Err(error) => return Err(error.into()),
            }
        };
        let event = event?;
        if let Event::Stream { text } = &event {
            call.progress.printed(text.as_bytes()).await;
        }
        if let Event::Finished { status, execution_count } = event {
            interrupt.way = None;
            return Ok(seen.reply(status, execution_count, (!in_time).then_some(timeout)));
        }
        seen.take(event);
    }
}

async fn next(events: &mut Events<Event>) -> Result<Event, ClientError> {
    events.next().await?.ok_or_else(|| ClientError::Strange("it ended before the code did".to_owned()))
}

/// Number of the interpreter of a language: the one that there is, or a new one.
async fn context(way: &Way, session: &str, contexts: &str, language: Option<&str>) -> Result<u64, Trouble> {
    let language = match language {
        Some(language) => language.to_lowercase(),
        None => {
            let told = way.ask(Method::GET, session, None).await?;
            let first = told.pointer("/runtimes/0").and_then(Value::as_str).unwrap_or_default();
            first.split_once('-').map_or(first, |(language, _)| language).to_owned()
        }
    };
    let told = way.ask(Method::GET, contexts, None).await?;
    let known = told.get("contexts").and_then(Value::as_array).into_iter().flatten();
    let text = |context: &Value, name: &str| context.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let found = known.into_iter().find(|context| {
        // The API has names of its own for languages that have several.
        let names: &[&str] =
            if ["javascript", "node", "js"].contains(&language.as_str()) { &["javascript"] } else { &[] };
        let own = text(context, "language");
        text(context, "state") != "dead" && (own == language || names.contains(&own.as_str()))
    });
    if let Some(id) = found.and_then(|context| context.get("id")?.as_u64()) {
        return Ok(id);
    }
    let made = way.ask(Method::POST, contexts, Some(&json!({ "language": language }))).await?;
    made.get("id").and_then(Value::as_u64).ok_or_else(|| Trouble::said("the service made no interpreter"))
}

/// Interrupts code that nobody waits for any more.
struct Interrupt {
    way: Option<Way>,
    path: String,
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        if let (Some(way), Ok(runtime)) = (self.way.take(), Handle::try_current()) {
            let path = std::mem::take(&mut self.path);
            // Where even this fails the session goes the way of all that nobody uses.
            runtime.spawn(async move { drop(way.ask(Method::POST, &path, None).await) });
        }
    }
}

/// One message of the interpreter.
#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Event {
    Stream {
        text: String,
    },
    DisplayData {
        data: Map<String, Value>,
    },
    ExecuteResult {
        data: Map<String, Value>,
    },
    Error {
        ename: String,
        evalue: String,
        traceback: Vec<String>,
    },
    Finished {
        status: String,
        execution_count: Option<u64>,
    },
    #[serde(other)]
    Other,
}

/// What was seen of the code.
struct Seen {
    most: usize,
    output: Excerpt,
    value: Option<Excerpt>,
    error: Option<Excerpt>,
    pictures: Pictures,
    images: usize,
    left_out: usize,
}

impl Seen {
    fn new(most: usize) -> Self {
        let (output, pictures) = (Excerpt::new(most), Pictures::default());
        Self { most, output, value: None, error: None, pictures, images: 0, left_out: 0 }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Stream { text } => self.output.push(text.as_bytes()),
            Event::DisplayData { data } => {
                if !self.show(&data)
                    && let Some(text) = plain(&data)
                {
                    self.output.push(format!("{text}\n").as_bytes());
                }
            }
            Event::ExecuteResult { data } => {
                self.show(&data);
                let value = self.value.get_or_insert_with(|| Excerpt::new(self.most));
                value.push(plain(&data).unwrap_or_default().as_bytes());
            }
            Event::Error { ename, evalue, traceback } => {
                let text = if traceback.is_empty() { format!("{ename}: {evalue}") } else { traceback.join("\n") };
                let error = self.error.get_or_insert_with(|| Excerpt::new(self.most));
                error.push(text.as_bytes());
            }
            Event::Finished { .. } | Event::Other => {}
        }
    }

    /// Shows a value as an image, where it has a form that is one.
    fn show(&mut self, data: &Map<String, Value>) -> bool {
        let form = |media: &str| data.get(media).and_then(Value::as_str);
        let pixels = ["image/png", "image/jpeg", "image/gif", "image/webp"].into_iter().find_map(form);
        let bytes = match (pixels, form("image/svg+xml")) {
            // Notebooks break base64 into lines.
            (Some(base64), _) => STANDARD.decode(base64.split_whitespace().collect::<String>()).unwrap_or_default(),
            (None, Some(drawing)) => drawing.as_bytes().to_vec(),
            (None, None) => return false,
        };
        let name = if pixels.is_some() { "image" } else { "drawing.svg" };
        let shown = self.pictures.add(&format!("codesandbox://images/{}", self.images), name, &bytes);
        if shown {
            self.images += 1;
        } else {
            self.left_out += 1;
        }
        true
    }

    fn reply(self, status: String, execution_count: Option<u64>, interrupted_ms: Option<u64>) -> Reply {
        let (output, value, error) = (self.output.told(), self.value.map(Excerpt::told), self.error.map(Excerpt::told));
        let cut = output.cut || [&value, &error].into_iter().flatten().any(|told| told.cut);
        let mut reply = Reply::of(&Executed {
            status: status.clone(),
            execution_count,
            output: output.text.clone(),
            value: value.as_ref().map(|told| told.text.clone()),
            error: error.as_ref().map(|told| told.text.clone()),
            images: self.images,
            truncated: cut || self.left_out > 0,
        });
        reply.line(format!("status: {status}"));
        if let Some(time) = interrupted_ms {
            reply.line(format!("next: it was interrupted after {time} ms; do less, or raise timeout_ms"));
        }
        if status == "dead" {
            reply.line("next: the interpreter ended and all variables are lost; execute again what defines them");
        }
        reply.output("output", &output, None);
        for (name, told) in [("value", &value), ("error", &error)] {
            if let Some(told) = told {
                reply.output(name, told, None);
            }
        }
        if self.images > 0 {
            reply.line(format!("{} images are below", self.images));
        }
        if self.left_out > 0 {
            let left = self.left_out;
            reply.line(format!(
                "{left} images are left out, as they are too large or too many; save them and use file_read"
            ));
        }
        reply.blocks(self.pictures.blocks());
        reply
    }
}

fn plain(data: &Map<String, Value>) -> Option<&str> {
    data.get("text/plain").and_then(Value::as_str)
}
