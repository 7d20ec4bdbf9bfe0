//! `run_code`: one program, from its source to its end, of which nothing stays.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use rmcp::model::Tool;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::ending::{Ending, Outcome};
use super::{Call, Dependencies, Does, common, limits, tool};
use crate::api::wire::{Encoding, FileResponse, Output, RunResponse, StageResponse, StreamEvent};
use crate::cli::mcp::excerpt::Excerpt;
use crate::cli::mcp::kept::Parts;
use crate::cli::mcp::pictures::Pictures;
use crate::cli::mcp::reply::{Reply, Trouble, most};
use crate::cli::mcp::resources::uri;
use crate::client::{ClientError, explain};
use crate::job::{Stage, Status};

/// What is handed out where nothing is asked for: pictures, which are worth a look.
const PICTURES: &str = "**/*.{png,jpg,jpeg,gif,webp,svg}";
/// Most files that are told one by one.
const FILES: usize = 50;

/// Arguments of the tool.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunCode {
    /// Language, and version if it matters: "python", "python@3.12", "node@20", "c++@20", "rust". list_runtimes has all
    #[serde(alias = "language")]
    runtime: String,
    /// Source of the program. It may be left out where `files` has it: the first of them is then run
    code: Option<String>,
    /// Further files, written next to the program before it starts
    #[serde(default)]
    files: Vec<SourceFile>,
    /// Standard input
    stdin: Option<String>,
    /// Arguments of the program
    args: Option<Vec<String>>,
    /// Variables of its environment
    env: Option<std::collections::BTreeMap<String, String>>,
    /// Time that it may run, by the clock. Where absent, some seconds
    timeout_ms: Option<u64>,
    /// Memory that it may have, in MiB
    memory_mb: Option<u64>,
    /// Patterns of files to hand out when it has ended, such as "*.csv" or "out/**". Where absent, images
    outputs: Option<Vec<String>>,
    /// Packages to install before
    dependencies: Option<Dependencies>,
    /// Hosts that it may reach, such as "example.org:443", of those that the policy here allows; [] for none
    allow_hosts: Option<Vec<String>>,
    /// Most bytes of standard output, and as much again of standard error, in the result: 16384 where absent, at most
    /// 262144
    max_output: Option<u32>,
}

/// A file
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct SourceFile {
    /// Relative path
    path: String,
    /// Content, as text
    content: Option<String>,
    /// Content in base64, in place of `content`
    content_base64: Option<String>,
}

/// What became of it.
#[derive(Debug, Serialize, JsonSchema)]
struct RunResult {
    #[serde(flatten)]
    outcome: Outcome,
    /// Language and version that ran it
    runtime: String,
    /// Standard output, cut in the middle where it is long
    stdout: String,
    /// Standard error, cut in the middle where it is long
    stderr: String,
    /// What compiler or installer printed, where they failed
    build_output: Option<String>,
    /// Whether something of these is left out
    truncated: bool,
    /// Files that were handed out
    files: Vec<OutputFile>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct OutputFile {
    /// Its path
    path: String,
    /// Its size in bytes
    size: u64,
    /// Resource that has its content; null where it is not kept
    uri: Option<String>,
}

pub(super) fn tools() -> Vec<Tool> {
    vec![tool::<RunCode, RunResult>(
        "run_code",
        "Run a program",
        Does::Runs,
        "Run a program once in a fresh sandbox and get its output. Compiles first where the language needs it. Nothing \
         stays from one call to the next: no files, no variables; for work in several steps use session_create. The \
         program sees only its own files in the current directory. It should print what you want to know; images that it \
         saves (such as plot.png) come back as images, other files if `outputs` names them. A status other than ok is a \
         result like any other: it says which limit was met or how the program failed.",
    )]
}

pub(super) async fn run(call: Call<'_>, asked: RunCode) -> Result<Reply, Trouble> {
    let body = request(&call, &asked)?;
    let mut events = call.shared.way.follow(Method::POST, "/v1/run", Some(&body)).await?;
    while let Some(event) = events.next().await? {
        match event {
            StreamEvent::Started { .. } => call.progress.say("it starts").await,
            StreamEvent::Stage { stage: Stage::Prepare, .. } => call.progress.say("packages are installed").await,
            StreamEvent::Stage { stage: Stage::Compile, .. } => call.progress.say("it is compiled").await,
            StreamEvent::Stage { stage: Stage::Run, .. } => call.progress.say("it runs").await,
            StreamEvent::Stdout(piece) | StreamEvent::Stderr(piece) => {
                let Output { data, encoding, .. } = piece;
                call.progress.printed(&decoded(&data, encoding)).await;
            }
            // It asks for no tests.
            StreamEvent::Denied { .. } | StreamEvent::Case { .. } => {}
            StreamEvent::Finished(result) => return told(&call, &asked, &result),
            StreamEvent::Failed { problem, .. } => return Err(Trouble::said(explain(&problem))),
        }
    }
    Err(ClientError::Strange("it ended before the program did".to_owned()).into())
}

fn request(call: &Call<'_>, asked: &RunCode) -> Result<Value, Trouble> {
    let mut files: Vec<Value> = asked.code.iter().map(|code| json!({ "content": code })).collect();
    files.extend(
        asked
            .files
            .iter()
            .map(|file| json!({"path": file.path, "content": file.content, "content_base64": file.content_base64})),
    );
    if files.is_empty() {
        return Err(Trouble::said("there is nothing to run: give `code`"));
    }
    let mut request = Map::new();
    request.insert("runtime".to_owned(), json!(asked.runtime));
    request.insert("files".to_owned(), Value::Array(files));
    request.insert("stdin".to_owned(), json!(asked.stdin));
    request.insert("args".to_owned(), json!(asked.args));
    request.insert("env".to_owned(), json!(asked.env));
    request.insert("outputs".to_owned(), asked.outputs.as_ref().map_or(json!([PICTURES]), |given| json!(given)));
    limits(&mut request, asked.timeout_ms, asked.memory_mb);
    common(&mut request, call.shared, asked.dependencies.as_ref(), asked.allow_hosts.as_deref())?;
    Ok(Value::Object(request))
}

fn told(call: &Call<'_>, asked: &RunCode, result: &RunResponse) -> Result<Reply, Trouble> {
    let most = most(asked.max_output);
    let files = files(asked, result);
    let printed = |stage: Option<&StageResponse>| {
        stage.map_or_else(Default::default, |stage| {
            (decoded(&stage.stdout, stage.stdout_encoding), decoded(&stage.stderr, stage.stderr_encoding))
        })
    };
    let (stdout, stderr) = printed(result.run.as_ref());
    let failed = match result.status {
        Status::PrepareFailed => result.prepare.as_ref(),
        Status::CompileFailed => result.compile.as_ref(),
        _ => None,
    };
    let built = printed(failed);
    let build = [built.0, built.1].concat();
    let (out, err, built) = (Excerpt::of(&stdout, most), Excerpt::of(&stderr, most), Excerpt::of(&build, most));
    let truncated = out.cut || err.cut || built.cut;
    let parts = files.iter().map(|(path, bytes)| (format!("files/{path}"), bytes.as_slice().into()));
    let mut parts: Parts = parts.collect();
    if truncated {
        let streams = [("stdout", stdout), ("stderr", stderr), ("build", build)];
        parts.extend(streams.map(|(name, bytes)| (name.to_owned(), bytes.into())));
    }
    let kept = !parts.is_empty() && call.shared.kept.keep(&result.id, parts);
    let at = |part: &str| kept.then(|| uri::run(&result.id, part));

    let Some(stage) = result.run.as_ref().or(failed) else {
        return Err(Trouble::said("it was cancelled before it ran"));
    };
    let ending = Ending::from(stage);
    let version = result.runtime.version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
    let data = RunResult {
        outcome: ending.outcome(result.status),
        runtime: format!("{}{version}", result.runtime.language),
        stdout: out.text.clone(),
        stderr: err.text.clone(),
        build_output: failed.map(|_| built.text.clone()),
        truncated,
        files: files
            .iter()
            .take(FILES)
            .map(|(path, bytes)| OutputFile {
                path: path.clone(),
                size: bytes.len() as u64,
                uri: at(&format!("files/{path}")),
            })
            .collect(),
    };
    let mut reply = Reply::of(&data);
    reply.line(format!("{}, {}", ending.headline(result.status), data.runtime));
    ending.notes(result.status).into_iter().for_each(|note| reply.line(note));
    reply.output("compiler or installer", &built, at("build").as_deref());
    reply.output("stdout", &out, at("stdout").as_deref());
    reply.output("stderr", &err, at("stderr").as_deref());
    if [&out, &err, &built].iter().all(|told| told.total == 0) && files.is_empty() {
        reply.line("It printed nothing.");
    }
    tell_files(&mut reply, &files, &at, most, asked.outputs.is_some());
    for omitted in result.omitted.iter().take(FILES) {
        let path = omitted.path.as_deref().unwrap_or("(a name that is no UTF-8)");
        reply.line(format!("file {path} is left out: {}", omitted.reason));
    }
    Ok(reply)
}

/// Files that are news: not those that the program was given, unless they were asked for.
fn files(asked: &RunCode, result: &RunResponse) -> Vec<(String, Vec<u8>)> {
    let given = |path: &str| asked.outputs.is_none() && asked.files.iter().any(|file| file.path == path);
    let named = |file: &FileResponse| match &file.path {
        Some(path) => path.clone(),
        None => format!("base64:{}", file.path_base64.clone().unwrap_or_default()),
    };
    result.files.iter().map(|file| (named(file), content(file))).filter(|(path, _)| !given(path)).collect()
}

fn content(file: &FileResponse) -> Vec<u8> {
    match &file.content {
        Some(text) => text.clone().into_bytes(),
        None => STANDARD.decode(file.content_base64.as_deref().unwrap_or_default()).unwrap_or_default(),
    }
}

fn tell_files(
    reply: &mut Reply,
    files: &[(String, Vec<u8>)],
    at: &dyn Fn(&str) -> Option<String>,
    most: usize,
    asked_for: bool,
) {
    let (mut pictures, mut room) = (Pictures::default(), most);
    for (path, bytes) in files.iter().take(FILES) {
        let (size, uri) = (bytes.len(), at(&format!("files/{path}")));
        let place = uri.as_deref().map(|uri| format!("; resource {uri}")).unwrap_or_default();
        if pictures.add(uri.as_deref().unwrap_or_default(), path, bytes) {
            reply.line(format!("file {path} ({size} bytes) is below{place}"));
        } else if asked_for && std::str::from_utf8(bytes).is_ok() && room > 0 {
            let told = Excerpt::of(bytes, room);
            room = room.saturating_sub(told.text.len());
            reply.output(&format!("file {path}"), &told, uri.as_deref());
        } else {
            reply.line(format!("file {path} ({size} bytes) is not shown{place}"));
        }
    }
    if files.len() > FILES {
        reply.line(format!("and {} files more", files.len() - FILES));
    }
    reply.blocks(pictures.blocks());
}

/// The bytes that a JSON string stands for.
pub(super) fn decoded(text: &str, encoding: Encoding) -> Vec<u8> {
    match encoding {
        Encoding::Utf8 => text.as_bytes().to_vec(),
        // What is none would be the service's fault, and nothing is all that can be told then.
        Encoding::Base64 => STANDARD.decode(text).unwrap_or_default(),
    }
}
