//! `POST /execute`: runs a program and answers when it has ended.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Response};
use hyper::header::HeaderMap;
use serde::Serialize;

use super::asked::{Asked, parse};
use super::check::{self, Checked, Told};
use super::stage::{Interleaved, Stage};
use super::{Refusal, declared};
use crate::api::body::{self, Held};
use crate::api::client::known;
use crate::api::problem::{JOB_HEADER, Kind, Problem, job_header};
use crate::api::run::{self, Followed};
use crate::api::{Client, State};
use crate::config::Config;
use crate::config::clients::Quota;
use crate::job::{Event, Outcome, Stage as Which};

/// Texts above this size are read on another thread, where they keep no other request waiting.
const LARGE: usize = 64 << 10;

/// What became of a program.
#[derive(Debug, Serialize)]
struct Executed {
    #[serde(skip_serializing_if = "Option::is_none")]
    compile: Option<Stage>,
    /// The compile stage, where that failed: clients look here.
    run: Option<Stage>,
    language: String,
    version: String,
}

/// Runs a program. Closing the connection cancels it.
pub(super) async fn execute(
    Shared(state): Shared<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let received = Instant::now();
    let client = known(client)?;
    let Held { bytes, share } = read(&state, &client, &headers, body).await?;
    let config = state.config();
    let quota = client.quota(&config)?;
    let checked = check(&state, config, &quota, bytes, Told::AtTheEnd).await?;
    let Checked { accepted, language, version } = checked;
    let followed = run::follow(state, client, &quota, accepted, received, share)?;
    let id = job_header(&followed.about.id);
    let mut response = match ended(followed).await {
        Ok((outcome, printed)) => Json(written(outcome, printed, language, version)).into_response(),
        Err(problem) => {
            let mut response = Refusal(problem).into_response();
            // Whoever follows a job has counted its fault.
            response.extensions_mut().remove::<Kind>();
            response
        }
    };
    response.headers_mut().insert(JOB_HEADER, id);
    Ok(response)
}

/// Reads a body; one of a type that is only like that of JSON is one without fields to Piston.
pub(super) async fn read(state: &State, client: &Client, headers: &HeaderMap, body: Body) -> Result<Held, Problem> {
    let config = state.config();
    let share = state.memory.share(&client.quota(&config)?.client);
    let mut held = body::read(body, config.service.body_bytes, share).await?;
    state.metrics.received(held.bytes.len());
    let is_json =
        declared(headers).is_some_and(|rest| rest.trim_start().is_empty() || rest.trim_start().starts_with(';'));
    if !is_json && !config.piston.any_content_type {
        held.bytes.clear();
    }
    Ok(held)
}

/// Reads and checks what a client asks for.
pub(super) async fn check(
    state: &State,
    config: Arc<Config>,
    quota: &Arc<Quota>,
    text: Vec<u8>,
    told: Told,
) -> Result<Checked, Problem> {
    let is_large = text.len() > LARGE;
    let (state, quota) = (state.clone(), Arc::clone(quota));
    let check = move || check::check(parse::<Asked>(&text)?, told, &config, &state.runtimes(), &quota);
    if is_large {
        let failed = |_| Problem::new(Kind::Internal, "the request could not be read");
        tokio::task::spawn_blocking(check).await.map_err(failed)?
    } else {
        check()
    }
}

/// Follows a job to its end, with what it printed.
async fn ended(mut followed: Followed) -> Result<(Outcome, Interleaved), Problem> {
    let mut printed = Interleaved::default();
    loop {
        match followed.next().await {
            Ok(Event::Stage(stage) | Event::Cached(stage)) => printed.begin(stage),
            Ok(Event::Stdout(bytes)) => printed.stdout(&bytes),
            Ok(Event::Stderr(bytes)) => printed.stderr(&bytes),
            Ok(Event::Finished(outcome)) => return Ok((*outcome, printed)),
            Ok(Event::Started | Event::Denied(_)) => {}
            Err(fault) => return Err(Problem::from(&fault)),
        }
    }
}

fn written(outcome: Outcome, mut printed: Interleaved, language: String, version: String) -> Executed {
    let mut stage = |which, result: Option<_>| result.map(|result| Stage::new(&result, printed.take(which)));
    let compile = stage(Which::Compile, outcome.compile);
    let run = stage(Which::Run, outcome.run).or_else(|| compile.clone());
    Executed { compile, run, language, version }
}
