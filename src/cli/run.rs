//! `codesandbox run`: asks for a run, shows what happens, and ends as the program ended.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use tokio::signal::unix::{SignalKind, signal};

use super::arguments::Arguments;
use super::collect::Target;
use super::follow::{FollowError, Sink, decode, follow, write};
use super::text::harmless;
use super::{complain, exit, fail, judge, network, request, service};
use crate::api::wire::{FileResponse, RunRequest, RunResponse, StageResponse};
use crate::client::{Client, ClientError, understood};
use crate::job::Status;

/// Runs the program.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let request = match request::draw_up(arguments) {
        Ok(request) => request,
        Err(error) => return fail(&error),
    };
    let worked = service::with(&arguments.place, async |client| {
        tokio::select! {
            biased;
            status = interrupted() => status,
            status = attempt(client, arguments, &request) => status,
        }
    });
    match worked {
        Ok(status) => ExitCode::from(status),
        Err(error) => fail(&error),
    }
}

/// Waits for the user to lose interest; hanging up is what cancels the run.
async fn interrupted() -> u8 {
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        // Without handlers these signals end us at once, which hangs up as well.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => exit::INTERRUPTED,
        _ = terminate.recv() => exit::TERMINATED,
    }
}

async fn attempt(client: &Client, arguments: &Arguments, request: &RunRequest) -> u8 {
    let outcome = match (arguments.json, &arguments.tests.tests) {
        (true, _) => show_json(client, arguments, request).await,
        (false, Some(_)) => judge::show(client, request).await,
        (false, None) => show(client, arguments, request).await,
    };
    match outcome {
        Ok(status) => status,
        Err(FollowError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => exit::BROKEN_PIPE,
        Err(error) => {
            complain(&error);
            exit::FAILURE
        }
    }
}

/// The program's output, as it comes.
async fn show(client: &Client, arguments: &Arguments, request: &RunRequest) -> Result<u8, FollowError> {
    let result = follow(client, request).await?;
    let failed = match result.status {
        Status::PrepareFailed => result.prepare.as_ref(),
        Status::CompileFailed => result.compile.as_ref(),
        _ => None,
    };
    if let Some(stage) = failed {
        for (text, encoding) in [(&stage.stdout, stage.stdout_encoding), (&stage.stderr, stage.stderr_encoding)] {
            write(Sink::Error, decode(text.clone(), encoding)?).await.map_err(FollowError::Output)?;
        }
    }
    for stage in result.prepare.iter().chain(&result.compile).chain(&result.run) {
        for line in network::refusals(&stage.denied, stage.network_error.as_deref()) {
            complain(&line);
        }
    }
    if let Some(verdict) = verdict(&result) {
        complain(&verdict);
    }
    let collected = collect(&result, arguments.output_dir.as_deref().unwrap_or(Path::new(".")), arguments.force);
    Ok(exit_status(&result, collected))
}

/// The whole result, as the API gave it.
async fn show_json(client: &Client, arguments: &Arguments, request: &RunRequest) -> Result<u8, FollowError> {
    // As it came: whoever reads it may know more of it than this program does.
    let json = serde_json::to_vec(request).expect("a request has only text keys");
    let (body, status) = match client.call(Method::POST, "/v1/run", json).await {
        Ok(body) => {
            let result: RunResponse = understood(&body)?;
            let directory = arguments.output_dir.as_deref();
            let collected = directory.is_none_or(|directory| collect(&result, directory, arguments.force));
            (body, judge::exit_status(&result).unwrap_or_else(|| exit_status(&result, collected)))
        }
        Err(ClientError::Refused(refusal)) => (refusal.body, exit::FAILURE),
        Err(error) => return Err(error.into()),
    };
    let mut line = body.to_vec();
    if !line.ends_with(b"\n") {
        line.push(b'\n');
    }
    write(Sink::Output, line).await.map_err(FollowError::Output)?;
    Ok(status)
}

fn last_stage(result: &RunResponse) -> Option<&StageResponse> {
    result.run.as_ref().or(result.compile.as_ref()).or(result.prepare.as_ref())
}

/// The exit status for a result. A file that is not where the user wants it is our failure, unless
/// the program's own is the greater news.
fn exit_status(result: &RunResponse, collected: bool) -> u8 {
    let stage = last_stage(result);
    let signal = stage.and_then(|stage| stage.signal.as_deref());
    match exit::of(result.status, stage.and_then(|stage| stage.exit_code), signal) {
        0 if !collected => exit::FAILURE,
        status => status,
    }
}

/// Why the program did not end well, in one line. An exit status of its own needs no words: it
/// is ours too.
fn verdict(result: &RunResponse) -> Option<String> {
    let stage = last_stage(result)?;
    let spoken =
        matches!(result.status, Status::Ok) || (result.status == Status::NonzeroExit && stage.exit_code.is_some());
    (!spoken).then(|| {
        let reason = stage.reason.as_deref().map(|reason| format!(": {}", harmless(reason))).unwrap_or_default();
        format!("{}{reason}", exit::name(result.status))
    })
}

/// Writes the files that were handed out; tells of each that is not where it was wanted.
fn collect(result: &RunResponse, directory: &Path, force: bool) -> bool {
    for omitted in &result.omitted {
        let path = path_bytes(omitted.path.as_ref(), omitted.path_base64.as_ref()).unwrap_or_default();
        complain(&format!("{} is left out: {}", shown(&path), harmless(&omitted.reason)));
    }
    if result.files.is_empty() {
        return true;
    }
    let target = match Target::open(directory, force) {
        Ok(target) => target,
        Err(error) => {
            complain(&format!("{}: {error}", directory.display()));
            return false;
        }
    };
    let mut all = true;
    for file in &result.files {
        let (path, content) = (path_bytes(file.path.as_ref(), file.path_base64.as_ref()), content(file));
        let (Some(path), Some(content)) = (path, content) else {
            complain(&"a file was handed out without a name, or without content");
            all = false;
            continue;
        };
        if let Err(error) = target.write(&path, &content) {
            complain(&format!("{} is not written: {error}", shown(&path)));
            all = false;
        }
    }
    all
}

fn path_bytes(text: Option<&String>, base64: Option<&String>) -> Option<Vec<u8>> {
    match text {
        Some(text) => Some(text.clone().into_bytes()),
        None => STANDARD.decode(base64?).ok(),
    }
}

fn content(file: &FileResponse) -> Option<Vec<u8>> {
    path_bytes(file.content.as_ref(), file.content_base64.as_ref())
}

fn shown(path: &[u8]) -> String {
    harmless(&String::from_utf8_lossy(path))
}
