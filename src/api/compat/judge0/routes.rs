//! Submissions over HTTP: created one by one or together, shown, listed, deleted.

#![allow(clippy::result_large_err, reason = "a refusal is the answer itself, made and moved once a request")]

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tracing::error;

use crate::api::body::{self, Held};
use crate::api::memory::{Full, Share};
use crate::api::negotiate;
use crate::api::problem::Problem;
use crate::config::Config;
use crate::config::clients::Quota;
use crate::profile::Network;
use crate::runtime::Catalogue;

use super::given::{Batch, Given};
use super::job::{self, Prepared};
use super::params::{self, Errors};
use super::record::{Details, Status, Submission};
use super::render::{self, Fields};
use super::reply::{self, Asked};
use super::work::Work;
use super::{Place, StoreError, languages, now_ms};

/// Bodies above this size are read on another thread, where they keep no other request waiting.
const LARGE_BODY: usize = 64 << 10;
/// Longest that a request waits for the end of a submission; then it is told how far it is.
const MOST_WAIT: Duration = Duration::from_secs(600);
/// Most submissions on one page.
const PAGE: u64 = 100;
const USUAL_PAGE: u64 = 20;
const NOT_TEXT: &str =
    "some attributes for this submission cannot be converted to UTF-8, use base64_encoded=true query parameter";
const NOT_TEXTS: &str =
    "some attributes for one or more submissions cannot be converted to UTF-8, use base64_encoded=true query parameter";
const TOO_LARGE: &str = "the answer is too large, ask for fewer submissions or fewer fields";

/// `POST /submissions`
pub(super) async fn create(asked: Asked, body: Body) -> Response {
    answer(create_one(asked, body).await)
}

async fn create_one(asked: Asked, body: Body) -> Result<Response, Response> {
    asked.not_in_maintenance()?;
    let waits = asked.parameter("wait") == Some("true");
    if waits && !asked.config.judge0.enable_wait_result {
        return Err(reply::error(StatusCode::BAD_REQUEST, "wait not allowed"));
    }
    let mut places = places(&asked, 1)?;
    let fields = fields(&asked)?;
    let (given, share) = read(&asked, body, Given::parse).await?;
    let prepared = prepare(&asked, vec![given], share).await?;
    let (Some(prepared), Some(place)) = (prepared.into_iter().next(), places.pop()) else {
        return Err(reply::rails(StatusCode::INTERNAL_SERVER_ERROR));
    };
    let ready = prepared.map_err(|refusal| refusal.response())?;
    let begun = begin(&asked, vec![(ready, place)]).await?;
    let (token, over) = begun.into_iter().next().ok_or_else(|| reply::rails(StatusCode::INTERNAL_SERVER_ERROR))?;
    if !waits {
        return Ok(reply::json(StatusCode::CREATED, &json!({ "token": token })));
    }
    // Who hangs up meanwhile stops waiting, and nothing else. The error says that it is over.
    tokio::time::timeout(MOST_WAIT, over).await.ok();
    let found = find(&asked, vec![token.clone()], &fields).await?;
    let submission = found.into_iter().next().flatten().ok_or_else(reply::not_found)?;
    render(&asked, &submission, &fields, asked.in_base64()).map_or_else(
        |_| Err(reply::json(StatusCode::CREATED, &json!({ "error": NOT_TEXT, "token": token }))),
        |value| Ok(reply::json(StatusCode::CREATED, &value)),
    )
}

/// `POST /submissions/batch`
pub(super) async fn create_batch(asked: Asked, body: Body) -> Response {
    answer(create_several(asked, body).await)
}

async fn create_several(asked: Asked, body: Body) -> Result<Response, Response> {
    asked.not_in_maintenance()?;
    let settings = &asked.config.judge0;
    if !settings.enable_batched_submissions {
        return Err(reply::error(StatusCode::BAD_REQUEST, "batched submissions are not allowed"));
    }
    let most = usize::try_from(settings.max_submission_batch_size).unwrap_or(usize::MAX);
    let (batch, share) = read(&asked, body, move |text| Batch::parse(text, most)).await?;
    let mut places = places(&asked, batch.count.max(1))?;
    batch_size(&asked, batch.count)?;
    let prepared = prepare(&asked, batch.kept, share).await?;
    let (mut answers, mut ready) = (Vec::with_capacity(prepared.len()), Vec::new());
    for one in prepared {
        match (one, places.pop()) {
            (Ok(one), Some(place)) => {
                answers.push(json!({ "token": one.submission.token }));
                ready.push((one, place));
            }
            (Err(refusal), _) => answers.push(refusal.value()),
            (Ok(_), None) => answers.push(json!({ "error": "queue is full" })),
        }
    }
    let status = if ready.is_empty() { StatusCode::UNPROCESSABLE_ENTITY } else { StatusCode::CREATED };
    begin(&asked, ready).await?;
    Ok(reply::json(status, &answers.into()))
}

/// `GET /submissions/{token}`
pub(super) async fn show(asked: Asked) -> Response {
    answer(show_one(&asked).await)
}

async fn show_one(asked: &Asked) -> Result<Response, Response> {
    let fields = fields(asked)?;
    let found = find(asked, vec![asked.name.clone()], &fields).await?;
    let submission = found.into_iter().next().flatten().ok_or_else(reply::not_found)?;
    let value = render(asked, &submission, &fields, asked.in_base64())
        .map_err(|_| reply::error(StatusCode::BAD_REQUEST, NOT_TEXT))?;
    Ok(reply::json(StatusCode::OK, &value))
}

/// `GET /submissions/batch`
pub(super) async fn show_batch(asked: Asked) -> Response {
    answer(show_several(&asked).await)
}

async fn show_several(asked: &Asked) -> Result<Response, Response> {
    if !asked.config.judge0.enable_batched_submissions {
        return Err(reply::error(StatusCode::BAD_REQUEST, "batched submissions are not allowed"));
    }
    let fields = fields(asked)?;
    let header = asked.headers.get("tokens").and_then(|tokens| tokens.to_str().ok());
    let tokens = header.or_else(|| asked.parameter("tokens")).unwrap_or_default().trim();
    let mut tokens: Vec<String> = tokens.split(',').map(str::to_owned).collect();
    // As Ruby parts texts: what is empty at the end is left out.
    while tokens.last().is_some_and(String::is_empty) {
        tokens.pop();
    }
    batch_size(asked, tokens.len())?;
    let found = find(asked, tokens, &fields).await?;
    let shown = found.iter().map(|one| match one {
        Some(submission) => render(asked, submission, &fields, asked.in_base64()),
        None => Ok(Value::Null),
    });
    let shown: Result<Vec<Value>, _> = shown.collect();
    let shown = shown.map_err(|_| reply::error(StatusCode::BAD_REQUEST, NOT_TEXTS))?;
    Ok(reply::json(StatusCode::OK, &json!({ "submissions": shown })))
}

/// `GET /submissions`
pub(super) async fn list(asked: Asked) -> Response {
    answer(list_page(&asked).await)
}

async fn list_page(asked: &Asked) -> Result<Response, Response> {
    asked.authorized()?;
    let fields = fields(asked)?;
    let page = number(asked.parameter("page"), 1);
    let per_page = number(asked.parameter("per_page"), i64::try_from(USUAL_PAGE).unwrap_or(i64::MAX));
    let wrong = |what: &str, number: i64| reply::error(StatusCode::BAD_REQUEST, &format!("invalid {what}: {number}"));
    let page = u64::try_from(page).ok().filter(|page| *page > 0).ok_or_else(|| wrong("page", page))?;
    let per_page = u64::try_from(per_page)
        .ok()
        .filter(|count| (1..=PAGE).contains(count))
        .ok_or_else(|| wrong("per_page", per_page))?;
    let offset = (page - 1).saturating_mul(per_page);
    let store = &asked.judge0.shared.store;
    let found =
        store.page(offset, per_page, fields.clone(), most_bytes(asked)).await.map_err(|error| broken(&error))?;
    let (submissions, total) = found.ok_or_else(|| reply::error(StatusCode::BAD_REQUEST, TOO_LARGE))?;
    let shown: Result<Vec<Value>, _> =
        submissions.iter().map(|one| render(asked, one, &fields, asked.in_base64())).collect();
    let shown = shown.map_err(|_| reply::error(StatusCode::BAD_REQUEST, NOT_TEXTS))?;
    let pages = total.div_ceil(per_page).max(1);
    let meta = json!({
        "current_page": page,
        "next_page": (page < pages).then_some(page.saturating_add(1)),
        "prev_page": (page > 1).then_some(page - 1),
        "total_pages": pages,
        "total_count": total,
    });
    Ok(reply::json(StatusCode::OK, &json!({ "submissions": shown, "meta": meta })))
}

/// `DELETE /submissions/{token}`
pub(super) async fn remove(asked: Asked) -> Response {
    answer(remove_one(&asked).await)
}

async fn remove_one(asked: &Asked) -> Result<Response, Response> {
    asked.authorized()?;
    asked.not_in_maintenance()?;
    let fields = fields(asked)?;
    if !asked.config.judge0.enable_submission_delete {
        return Err(reply::error(StatusCode::BAD_REQUEST, "delete not allowed"));
    }
    let found = find(asked, vec![asked.name.clone()], &fields).await?;
    let submission = found.into_iter().next().flatten().ok_or_else(reply::not_found)?;
    if !submission.status.is_final() {
        let (id, name) = (submission.status.id(), submission.status.description());
        let message = format!("submission cannot be deleted because its status is {id} ({name})");
        return Err(reply::error(StatusCode::BAD_REQUEST, &message));
    }
    let removed = asked.judge0.shared.store.remove(asked.name.clone()).await.map_err(|error| broken(&error))?;
    if !removed {
        return Err(reply::not_found());
    }
    // In base64 whatever was asked for, since nobody can ask again.
    let value = render(asked, &submission, &fields, true).map_err(|_| reply::rails(StatusCode::BAD_REQUEST))?;
    Ok(reply::json(StatusCode::OK, &value))
}

/// A submission that can begin.
struct Ready {
    submission: Submission,
    prepared: Prepared,
    shares: Vec<Arc<Share>>,
}

/// Why one can't.
enum Refusal {
    Fields(Errors),
    Other(Problem),
}

impl Refusal {
    fn response(&self) -> Response {
        match self {
            Self::Fields(errors) => reply::invalid(errors),
            Self::Other(problem) => reply::problem(problem),
        }
    }

    fn value(&self) -> Value {
        match self {
            Self::Fields(errors) => errors.json(),
            Self::Other(problem) => json!({ "error": problem.detail }),
        }
    }
}

/// Reads and checks what was sent, on another thread where that is much.
async fn prepare(asked: &Asked, given: Vec<Given>, share: Share) -> Result<Vec<Result<Ready, Refusal>>, Response> {
    let (config, state, in_base64) = (Arc::clone(&asked.config), asked.state.clone(), asked.in_base64());
    let quota = asked.quota()?;
    // An archive is far more work than its size tells.
    let is_large = share.bytes() > LARGE_BODY || given.iter().any(|one| one.get("additional_files").is_some());
    let share = Arc::new(share);
    let work = move || {
        let one = |given: &Given| {
            // Whoever notes what a self-test found waits for one submission at most.
            let mut ready = prepare_one(given, in_base64, &config, &state.runtimes(), &quota)?;
            // Archives grow; what they grow to is held until the end, once here and once by the run.
            let files: usize = ready.prepared.job.files.iter().map(|file| file.content.len()).sum();
            let full = |full: Full| Refusal::Other(Problem { detail: "queue is full".to_owned(), ..full.into() });
            let mut grown = state.memory.share(&quota.client);
            grown.take(files.saturating_mul(2)).map_err(full)?;
            ready.shares = vec![Arc::clone(&share), Arc::new(grown)];
            Ok(ready)
        };
        given.iter().map(one).collect()
    };
    if !is_large {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| reply::rails(StatusCode::INTERNAL_SERVER_ERROR))
}

fn prepare_one(
    given: &Given,
    in_base64: bool,
    config: &Config,
    catalogue: &Catalogue,
    quota: &Quota,
) -> Result<Ready, Refusal> {
    let profile = config.profiles.get(&config.judge0.profile);
    let has_network = profile.is_some_and(|profile| matches!(profile.network, Network::Allow(_)));
    let held = params::Held {
        limits: &config.judge0,
        catalogue,
        has_network,
        input_files: config.service.input_files.saturating_sub(1),
    };
    let checked = params::check(given, in_base64, held).map_err(Refusal::Fields)?;
    let kind = checked.found.entry.kind;
    let prepared = job::prepare(&checked, config, catalogue, quota)
        .map_err(|problem| job::told(&problem, kind).map_or(Refusal::Other(problem), Refusal::Fields))?;
    let now = now_ms();
    let submission = Submission {
        token: uuid::Uuid::new_v4().to_string(),
        language_id: checked.language_id,
        status: Status::Queue,
        created_at: now,
        finished_at: None,
        details: Details { settings: checked.settings, updated_at: Some(now), ..Details::default() },
        texts: checked.texts,
    };
    Ok(Ready { submission, prepared, shares: Vec::new() })
}

/// Writes new submissions down and has them run, whoever waits for them. With each token comes what ends when it is
/// over.
async fn begin(asked: &Asked, ready: Vec<(Ready, Place)>) -> Result<Vec<(String, oneshot::Receiver<()>)>, Response> {
    if !asked.state.scheduler.is_available() {
        return Err(reply::problem(&Problem::unavailable()));
    }
    let (judge0, state, client) = (asked.judge0.clone(), asked.state.clone(), asked.client.clone());
    let quota = asked.quota()?;
    // By itself: of whoever hangs up meanwhile nothing stays that is written down and never runs.
    let begun = tokio::spawn(async move {
        judge0.shared.store.insert(ready.iter().map(|(one, _)| one.submission.clone()).collect()).await?;
        let begun = ready.into_iter().map(|(Ready { submission, prepared, shares }, place)| {
            let (over, ended) = oneshot::channel();
            let (token, judge0, state, quota) =
                (submission.token.clone(), judge0.clone(), state.clone(), Arc::clone(&quota));
            let client = client.clone();
            let work = Work { judge0, state, client, quota, submission, prepared, place, shares };
            tokio::spawn(work.carry_out(over));
            (token, ended)
        });
        Ok::<_, StoreError>(begun.collect())
    });
    let begun = begun.await.map_err(|_| reply::rails(StatusCode::INTERNAL_SERVER_ERROR))?;
    begun.map_err(|error| broken(&error))
}

/// What a body says, as far as `parse` keeps it; nothing where it is not declared to be JSON, as there.
async fn read<T: Default + Send + 'static>(
    asked: &Asked,
    body: Body,
    parse: impl FnOnce(&[u8]) -> serde_json::Result<T> + Send + 'static,
) -> Result<(T, Share), Response> {
    let most = asked.config.service.body_bytes;
    let share = asked.state.memory.share(&asked.quota()?.client);
    let held = body::read(body, most, share).await.map_err(|problem| reply::problem(&problem))?;
    asked.state.metrics.received(held.bytes.len());
    if negotiate::must_be_json(&asked.headers).is_err() || held.bytes.trim_ascii().is_empty() {
        return Ok((T::default(), held.share));
    }
    let is_large = held.bytes.len() > LARGE_BODY;
    // The share goes along: whoever hangs up meanwhile leaves the bytes where they are.
    let parse = move || {
        let Held { bytes, share } = held;
        parse(&bytes).map(|given| (given, share))
    };
    let parsed = if is_large {
        let failed = |_| reply::rails(StatusCode::INTERNAL_SERVER_ERROR);
        tokio::task::spawn_blocking(parse).await.map_err(failed)?
    } else {
        parse()
    };
    parsed.map_err(|_| reply::rails(StatusCode::BAD_REQUEST))
}

fn places(asked: &Asked, count: usize) -> Result<Vec<Place>, Response> {
    let quota = asked.quota()?;
    let places = asked.judge0.take_places(&quota.client, count, asked.config.judge0.max_queue_size);
    places.ok_or_else(reply::queue_is_full)
}

fn batch_size(asked: &Asked, count: usize) -> Result<(), Response> {
    let most = asked.config.judge0.max_submission_batch_size;
    if count as u64 > most {
        let message = format!("number of submissions in a batch should be less than or equal to {most}");
        return Err(reply::error(StatusCode::BAD_REQUEST, &message));
    }
    if count == 0 {
        let message = "there should be at least one submission in a batch";
        return Err(reply::error(StatusCode::BAD_REQUEST, message));
    }
    Ok(())
}

fn fields(asked: &Asked) -> Result<Fields, Response> {
    Fields::parse(asked.parameter("fields").unwrap_or_default()).map_err(|invalid| {
        let names: String = invalid.join(", ").chars().take(300).collect();
        reply::error(StatusCode::BAD_REQUEST, &format!("invalid fields: [{names}]"))
    })
}

async fn find(asked: &Asked, tokens: Vec<String>, fields: &Fields) -> Result<Vec<Option<Submission>>, Response> {
    let found = asked.judge0.shared.store.find(tokens, fields.clone(), most_bytes(asked)).await;
    let found = found.map_err(|error| broken(&error))?;
    found.ok_or_else(|| reply::error(StatusCode::BAD_REQUEST, TOO_LARGE))
}

/// Most bytes of texts in one answer: those of the largest submission, and what it may print.
fn most_bytes(asked: &Asked) -> u64 {
    let printed = asked.config.judge0.max_max_file_size.saturating_mul(1024).saturating_mul(4);
    (asked.config.service.body_bytes as u64).saturating_add(printed)
}

fn render(asked: &Asked, submission: &Submission, fields: &Fields, in_base64: bool) -> Result<Value, render::NotText> {
    let known = fields.has("language").then(|| languages::find(submission.language_id, &asked.state.runtimes()));
    let name = known.flatten().map(|language| language.name).unwrap_or_default();
    render::submission(submission, fields, in_base64, &name)
}

/// A number as Ruby reads it: what is none is 0.
fn number(text: Option<&str>, usual: i64) -> i64 {
    let Some(text) = text else { return usual };
    let text = text.trim_start();
    let end = text
        .char_indices()
        .find(|(place, c)| !(c.is_ascii_digit() || *place == 0 && ['-', '+'].contains(c)))
        .map_or(text.len(), |(place, _)| place);
    text[..end].parse().unwrap_or(0)
}

fn broken(error: &StoreError) -> Response {
    error!("submissions can't be read or written: {error}");
    reply::rails(StatusCode::INTERNAL_SERVER_ERROR)
}

fn answer(result: Result<Response, Response>) -> Response {
    result.unwrap_or_else(|refused| refused)
}
