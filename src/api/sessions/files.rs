//! Files of a session over HTTP. Uploads and downloads pass through in pieces: a slow side makes the other wait.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use globset::GlobBuilder;
use http_body_util::BodyExt;
use hyper::StatusCode;
use hyper::body::Body as _;
use hyper::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite};

use super::asked::{Asked, Problems, files_problem, json, nothing, problem};
use super::check;
use super::files_wire::{
    ChangeEvent, DirectoryRequest, EntryResponse, ListResponse, MatchResponse, SearchRequest, SearchResponse,
    TransferRequest,
};
use super::query::Query;
use super::range::{self, Part, Wanted};
use super::time::rfc3339;
use crate::api::answer::either;
use crate::api::events::{answer_in_pieces, encode_as};
use crate::api::negotiate;
use crate::api::problem::{Kind, Problem, ProblemDetails};
use crate::api::request::PATTERN_BYTES;
use crate::plan::files::{self as plan, Content, Entry, FileError, FileEvent, Hit, Place, SearchLimits, Span};
use crate::session::FilesWorker;
use crate::session::files::{self, Download, FilesError, Findings};

/// Time that the next piece of an upload has to arrive.
const PIECE_TIME: Duration = Duration::from_secs(30);
/// Deepest that a list goes.
const MOST_DEPTH: u64 = 32;
/// Most entries of a list.
const LISTED: u64 = 10_000;
/// Most that a search finds, and what it finds where the request does not say.
const MOST_FOUND: u64 = 10_000;
const FOUND: u64 = 1000;
/// Longest text to look for, in bytes.
const CONTENT_BYTES: usize = 1024;
/// How far a search goes: files, bytes in them, and milliseconds.
const SEARCHED: SearchLimits = SearchLimits { hits: FOUND, files: 100_000, bytes: 1 << 30, time_ms: 10_000 };

/// Reads a file, or a part of it.
#[utoipa::path(get, path = "/v1/sessions/{id}/fs/file",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = String, Query, description = "The file, below `/workspace`"),
        ("Range" = Option<String>, Header, description = "One range of bytes"),
    ),
    responses(
        (status = 200, description = "The file", body = String, content_type = "application/octet-stream"),
        (status = 206, description = "The part of it", body = String, content_type = "application/octet-stream"),
        (status = 416, description = "It has no such part", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn read(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["path"])?;
    let path = check::path("path", needed(&query, "path")?)?;
    let wanted = range::wanted(&asked.headers);
    let span = match wanted {
        Wanted::Whole => Span::From(0, None),
        Wanted::From(first, last) => Span::From(first, last.map(|last| (last - first).saturating_add(1))),
        Wanted::Last(length) => Span::Last(length),
    };
    let opened = match files::read(worker(&asked).await?, path, span).await {
        Ok(opened) => opened,
        Err(FilesError::Refused(FileError::OutOfRange { size })) => return Ok(no_such_part(size)),
        Err(error) => return Err(files_problem(error)),
    };
    let size = opened.entry.size;
    let Ok(part) = wanted.of(size) else {
        return Ok(no_such_part(size));
    };
    // What the file was when it was opened counts: it may have grown or shrunk since anybody last looked.
    let part = part.map(|_| Part { offset: opened.from, length: opened.length }).filter(|part| part.length > 0);
    let mut response = Response::new(download(&asked, opened.content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(opened.length));
    if let Some(part) = part {
        headers.insert(CONTENT_RANGE, visible(&part.content_range(size)));
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// Writes a file, with the directories above it. It is there whole or not at all, unless it is appended to.
#[utoipa::path(put, path = "/v1/sessions/{id}/fs/file",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = String, Query, description = "The file, below `/workspace`"),
        ("executable" = Option<bool>, Query, description = "Whether it may be executed; false where absent"),
        ("append" = Option<bool>, Query, description = "Whether to write behind what is there; false where absent"),
    ),
    request_body(content = String, content_type = "application/octet-stream"),
    responses((status = 204, description = "It is written"), Problems))]
pub async fn write(asked: Asked, body: Body) -> Result<Response, Problem> {
    let query = asked.query(&["path", "executable", "append"])?;
    let path = check::path("path", needed(&query, "path")?)?;
    let (executable, append) = (query.flag("executable")?, query.flag("append")?);
    let most = room(&asked, body.size_hint().lower())?;
    let length = body.size_hint().exact();
    let (pieces, fault) = pieces(&asked, body, most);
    let written = files::write(worker(&asked).await?, path, executable, append, length, pieces).await;
    written.map_err(|error| fault.take().unwrap_or_else(|| files_problem(error)))?;
    Ok(nothing())
}

/// Removes a file, a link or a directory.
#[utoipa::path(delete, path = "/v1/sessions/{id}/fs/file",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = String, Query, description = "What, below `/workspace`"),
        ("recursive" = Option<bool>, Query, description = "Whether a directory goes with all that is in it; false where absent"),
    ),
    responses((status = 204, description = "It is gone"), Problems))]
pub async fn remove(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["path", "recursive"])?;
    let path = check::path("path", needed(&query, "path")?)?;
    files::remove(worker(&asked).await?, path, query.flag("recursive")?).await.map_err(files_problem)?;
    Ok(nothing())
}

/// Tells what is at a path.
#[utoipa::path(get, path = "/v1/sessions/{id}/fs/stat",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = Option<String>, Query, description = "Below `/workspace`; that itself where absent"),
    ),
    responses((status = 200, description = "What is there; a link is told of itself", body = EntryResponse), Problems))]
pub async fn stat(asked: Asked) -> Result<Response, Problem> {
    let place = place_of(&asked.query(&["path"])?)?;
    let entry = files::stat(worker(&asked).await?, place).await.map_err(files_problem)?;
    Ok(json(StatusCode::OK, &entry_response(entry)))
}

/// Lists a directory.
#[utoipa::path(get, path = "/v1/sessions/{id}/fs/list",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = Option<String>, Query, description = "The directory, below `/workspace`; that itself where absent"),
        ("depth" = Option<u64>, Query, description = "How many levels, from 1 to 32; 1 where absent"),
    ),
    responses((status = 200, description = "What is in it", body = ListResponse), Problems))]
pub async fn list(asked: Asked) -> Result<Response, Problem> {
    let query = asked.query(&["path", "depth"])?;
    let place = place_of(&query)?;
    let depth = within("depth", query.number("depth")?.unwrap_or(1), MOST_DEPTH)?;
    let depth = u32::try_from(depth).unwrap_or(u32::MAX);
    let listed = files::list(worker(&asked).await?, place, depth, LISTED).await;
    let Findings { found, complete } = listed.map_err(files_problem)?;
    let entries = found.into_iter().map(entry_response).collect();
    Ok(json(StatusCode::OK, &ListResponse { entries, truncated: !complete }))
}

/// Makes a directory, and those above it.
#[utoipa::path(post, path = "/v1/sessions/{id}/fs/mkdir", params(("id" = String, Path, description = "The session's id")),
    request_body = DirectoryRequest,
    responses((status = 204, description = "It is there, as it may have been before"), Problems))]
pub async fn mkdir(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: DirectoryRequest = asked.json(body).await?;
    let path = check::path("path", &request.path)?;
    files::mkdir(worker(&asked).await?, path).await.map_err(files_problem)?;
    Ok(nothing())
}

/// Gives a file or directory another path.
#[utoipa::path(post, path = "/v1/sessions/{id}/fs/move", params(("id" = String, Path, description = "The session's id")),
    request_body = TransferRequest,
    responses((status = 204, description = "It has the new path"), Problems))]
pub async fn rename(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: TransferRequest = asked.json(body).await?;
    let (from, to) = (check::path("from", &request.from)?, check::path("to", &request.to)?);
    let replace = request.replace.unwrap_or(false);
    files::mv(worker(&asked).await?, from, to, replace).await.map_err(files_problem)?;
    Ok(nothing())
}

/// Copies a file, or a directory with all that is in it.
#[utoipa::path(post, path = "/v1/sessions/{id}/fs/copy", params(("id" = String, Path, description = "The session's id")),
    request_body = TransferRequest,
    responses((status = 204, description = "The copy is there"), Problems))]
pub async fn copy(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: TransferRequest = asked.json(body).await?;
    let (from, to) = (check::path("from", &request.from)?, check::path("to", &request.to)?);
    let replace = request.replace.unwrap_or(false);
    files::copy(worker(&asked).await?, from, to, replace).await.map_err(files_problem)?;
    Ok(nothing())
}

/// Looks for files by their names, or for lines by what is in them.
#[utoipa::path(post, path = "/v1/sessions/{id}/fs/search", params(("id" = String, Path, description = "The session's id")),
    request_body = SearchRequest,
    responses((status = 200, description = "What was found", body = SearchResponse), Problems))]
pub async fn search(asked: Asked, body: Body) -> Result<Response, Problem> {
    let Search { place, name, content, hits } = search_of(asked.json(body).await?)?;
    let limits = SearchLimits { hits, ..SEARCHED };
    let found = files::search(worker(&asked).await?, place, name, content, limits).await;
    let Findings { found, complete } = found.map_err(files_problem)?;
    let matches = found.into_iter().map(match_response).collect();
    Ok(json(StatusCode::OK, &SearchResponse { matches, truncated: !complete }))
}

/// Tells what happens below a directory, until the client hangs up.
#[utoipa::path(get, path = "/v1/sessions/{id}/fs/watch",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = Option<String>, Query, description = "The directory, below `/workspace`; that itself where absent"),
    ),
    responses(
        (status = 200, description = "Events; the first is of what happens after the answer has begun", content(
            (ChangeEvent = "application/x-ndjson"), (ChangeEvent = "text/event-stream"))),
        (status = 406, description = "No acceptable form", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn watch(asked: Asked) -> Result<Response, Problem> {
    let form = negotiate::stream_form(&asked.headers)?;
    let place = place_of(&asked.query(&["path"])?)?;
    let watch = files::watch(worker(&asked).await?, place, true).await.map_err(files_problem)?;
    let events = stream::unfold(Some(watch), move |watch| async move {
        let mut watch = watch?;
        let (event, is_last) = match watch.next().await {
            Ok(Some(event)) => (change_event(event), false),
            Ok(None) => return None,
            Err(_) => (ChangeEvent { event: "failed".to_owned(), ..ChangeEvent::default() }, true),
        };
        let mut chunk = Vec::new();
        encode_as(&mut chunk, &event.event, &event, form);
        Some((chunk, (!is_last).then_some(watch)))
    });
    Ok(answer_in_pieces(events.take_until(asked.connection.stopping()), form))
}

/// Hands out a directory with all that is in it, as a tar archive.
#[utoipa::path(get, path = "/v1/sessions/{id}/fs/archive",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = Option<String>, Query, description = "The directory, below `/workspace`; that itself where absent"),
    ),
    responses((status = 200, description = "The archive", body = String, content_type = "application/x-tar"), Problems))]
pub async fn archive(asked: Asked) -> Result<Response, Problem> {
    let place = place_of(&asked.query(&["path"])?)?;
    archived(&asked, worker(&asked).await?, place, false).await
}

/// Unpacks a tar archive into a directory, which is made where it is not there.
#[utoipa::path(put, path = "/v1/sessions/{id}/fs/archive",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("path" = Option<String>, Query, description = "The directory, below `/workspace`; that itself where absent"),
    ),
    request_body(content = String, content_type = "application/x-tar"),
    responses((status = 204, description = "All of it is unpacked"), Problems))]
pub async fn extract(asked: Asked, body: Body) -> Result<Response, Problem> {
    let place = place_of(&asked.query(&["path"])?)?;
    let most = room(&asked, body.size_hint().lower())?;
    unpacked(&asked, worker(&asked).await?, place, body, most).await?;
    Ok(nothing())
}

/// An answer with the archive of a place that a worker sees; `lifts` where nobody else sees it.
pub(super) async fn archived(
    asked: &Asked,
    worker: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    place: Place,
    lifts: bool,
) -> Result<Response, Problem> {
    let content = files::archive(worker, place, lifts).await.map_err(files_problem)?;
    let mut response = Response::new(download(asked, content));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-tar"));
    Ok(response)
}

/// Unpacks a body of at most this many bytes into a place.
pub(super) async fn unpacked(
    asked: &Asked,
    worker: FilesWorker,
    place: Place,
    body: Body,
    most: u64,
) -> Result<(), Problem> {
    let (pieces, fault) = pieces(asked, body, most);
    let unpacked = files::extract(worker, place, pieces).await;
    unpacked.map_err(|error| fault.take().unwrap_or_else(|| files_problem(error)))
}

async fn worker(asked: &Asked) -> Result<FilesWorker, Problem> {
    asked.sessions.files(asked.client(), asked.id()).await.map_err(problem)
}

/// Most bytes of an upload: more than the session's disk holds would not fit, however it is used.
fn room(asked: &Asked, announced: u64) -> Result<u64, Problem> {
    let view = asked.sessions.find(asked.client(), asked.id()).map_err(problem)?;
    fitting(announced, most_bytes(asked, view.limits.disk_bytes))
}

/// Most bytes of an upload for a disk of this size.
pub(super) fn most_bytes(asked: &Asked, disk_bytes: u64) -> u64 {
    archive_bytes(disk_bytes).min(asked.config.sessions.upload_bytes)
}

/// An archive has a head and padding of less than a block for each file, and padding at its end: half as much
/// again as the disk holds is more than any that fits, as files take whole pages.
fn archive_bytes(disk_bytes: u64) -> u64 {
    disk_bytes.saturating_add(disk_bytes / 2).saturating_add(64 << 10)
}

/// Refuses early a body that is declared to be too large; what counts is what arrives.
pub(super) fn fitting(announced: u64, most: u64) -> Result<u64, Problem> {
    if announced > most { Err(too_large(most)) } else { Ok(most) }
}

fn too_large(most: u64) -> Problem {
    Problem::new(Kind::BodyTooLarge, "the body is larger than the session's disk")
        .allowing(serde_json::json!({ "maximum": most }))
}

/// A body in pieces, and where to look for what was wrong with it.
fn pieces(
    asked: &Asked,
    body: Body,
    most: u64,
) -> (impl Stream<Item = io::Result<Bytes>> + Unpin + Send + 'static, Arc<Fault>) {
    let fault = Arc::new(Fault::default());
    let (metrics, told) = (asked.state.metrics.clone(), Arc::clone(&fault));
    let pieces = stream::unfold(Pieces { body, left: most, most }, move |mut pieces| {
        let (metrics, told) = (metrics.clone(), Arc::clone(&told));
        async move {
            match pieces.next().await.transpose()? {
                Ok(piece) => {
                    metrics.files_received(piece.len());
                    Some((Ok(piece), pieces))
                }
                Err(problem) => {
                    let error = io::Error::other(problem.detail.clone());
                    told.put(problem);
                    Some((Err(error), pieces))
                }
            }
        }
    });
    (Box::pin(pieces), fault)
}

/// What was wrong with a body, kept aside from the error that it is for whoever reads the body.
#[derive(Debug, Default)]
struct Fault {
    problem: Mutex<Option<Problem>>,
}

impl Fault {
    fn put(&self, problem: Problem) {
        *self.problem.lock().unwrap_or_else(PoisonError::into_inner) = Some(problem);
    }

    fn take(&self) -> Option<Problem> {
        self.problem.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A body as it comes, within limits of time and size.
struct Pieces {
    body: Body,
    left: u64,
    most: u64,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let frame = tokio::time::timeout(PIECE_TIME, self.body.frame()).await;
            let late = |_| {
                let detail = format!("the next piece must arrive within {} s", PIECE_TIME.as_secs());
                Problem::new(Kind::SlowBody, detail)
            };
            let Some(frame) = frame.map_err(late)? else {
                return Ok(None);
            };
            let frame = frame.map_err(|_| Problem::new(Kind::BrokenBody, "the body could not be read to its end"))?;
            if let Ok(data) = frame.into_data() {
                self.left = self.left.checked_sub(data.len() as u64).ok_or_else(|| too_large(self.most))?;
                return Ok(Some(data));
            }
        }
    }
}

/// The body of an answer. Where it breaks off, so does the connection: an end would look like all of it.
fn download<R: AsyncRead + Unpin + Send + 'static>(asked: &Asked, content: Download<R>) -> Body {
    let metrics = asked.state.metrics.clone();
    let stopping = Box::pin(asked.connection.stopping());
    let pieces = stream::unfold(Some((content, stopping)), move |state| {
        let metrics = metrics.clone();
        async move {
            let (mut content, mut stopping) = state?;
            let piece = tokio::select! {
                biased;
                () = &mut stopping => Err("the service stops".into()),
                piece = content.next() => piece.map_err(axum::BoxError::from).transpose()?,
            };
            match piece {
                Ok(piece) => {
                    metrics.files_sent(piece.len());
                    Some((Ok(piece), Some((content, stopping))))
                }
                Err(error) => Some((Err(error), None)),
            }
        }
    });
    Body::from_stream(pieces)
}

fn no_such_part(size: u64) -> Response {
    let problem = Problem::new(Kind::RangeNotSatisfiable, format!("the file has {size} bytes"));
    let mut response = problem.allowing(serde_json::json!({ "size": size })).into_response();
    response.headers_mut().insert(CONTENT_RANGE, visible(&format!("bytes */{size}")));
    response
}

fn visible(value: &str) -> HeaderValue {
    HeaderValue::from_str(value).expect("numbers and punctuation are visible ASCII")
}

fn needed<'a>(query: &'a Query, name: &str) -> Result<&'a str, Problem> {
    query.text(name)?.ok_or_else(|| Problem::field(name, format!("missing field `{name}`")))
}

fn place_of(query: &Query) -> Result<Place, Problem> {
    check::place("path", query.text("path")?.unwrap_or_default())
}

fn within(field: &str, value: u64, most: u64) -> Result<u64, Problem> {
    if (1..=most).contains(&value) {
        return Ok(value);
    }
    Err(Problem::field(field, format!("{field} is {value}, but must be from 1 to {most}"))
        .allowing(serde_json::json!({ "minimum": 1, "maximum": most })))
}

/// What to look for, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Search {
    place: Place,
    name: Option<String>,
    content: Option<Content>,
    hits: u64,
}

fn search_of(request: SearchRequest) -> Result<Search, Problem> {
    if request.name.is_none() && request.content.is_none() {
        return Err(Problem::field("name", "nothing is to be looked for").allowing("at least one of name and content"));
    }
    if let Some(name) = &request.name {
        if !(1..=PATTERN_BYTES).contains(&name.len()) {
            return Err(Problem::field("name", "the pattern is empty or too long")
                .allowing(serde_json::json!({ "maximum": PATTERN_BYTES })));
        }
        if let Err(error) = GlobBuilder::new(name).literal_separator(true).build() {
            return Err(Problem::field("name", format!("this is no pattern: {}", error.kind()))
                .allowing("*, **, ?, [a-z], {one,other}"));
        }
    }
    let content = match request.content {
        Some(content) if !(1..=CONTENT_BYTES).contains(&content.len()) => {
            return Err(Problem::field("content", "the text is empty or too long")
                .allowing(serde_json::json!({ "maximum": CONTENT_BYTES })));
        }
        Some(content) if request.regex.unwrap_or(false) => Some(Content::Regex(content)),
        content => content.map(Content::Text),
    };
    Ok(Search {
        place: check::place("path", request.path.as_deref().unwrap_or_default())?,
        name: request.name,
        content,
        hits: within("limit", request.limit.unwrap_or(FOUND), MOST_FOUND)?,
    })
}

fn entry_response(entry: Entry) -> EntryResponse {
    let (path, path_base64) = either(entry.path);
    let (target, target_base64) = entry.target.map(either).unwrap_or_default();
    let kind = match entry.kind {
        plan::Kind::File => "file",
        plan::Kind::Directory => "directory",
        plan::Kind::Link => "link",
        plan::Kind::Other => "other",
    };
    EntryResponse {
        path,
        path_base64,
        kind: kind.to_owned(),
        size: entry.size,
        mode: entry.mode,
        modified_at: rfc3339(u64::try_from(entry.modified_ms).unwrap_or(0)),
        target,
        target_base64,
    }
}

fn match_response(hit: Hit) -> MatchResponse {
    let (path, path_base64) = either(hit.path);
    let number = hit.line.as_ref().map(|line| line.number);
    let (text, text_base64) = hit.line.map(|line| either(line.text)).unwrap_or_default();
    MatchResponse { path, path_base64, line: number, text, text_base64 }
}

/// What a change is told as.
fn change_event(event: FileEvent) -> ChangeEvent {
    let change = |name: &str, path: Option<Vec<u8>>| {
        let (path, path_base64) = path.map(either).unwrap_or_default();
        ChangeEvent { event: name.to_owned(), path, path_base64, ..ChangeEvent::default() }
    };
    match event {
        FileEvent::Created(path) => change("created", Some(path)),
        FileEvent::Modified(path) => change("modified", Some(path)),
        FileEvent::Removed(path) => change("removed", Some(path)),
        FileEvent::Moved { from, to } => {
            let (from, from_base64) = either(from);
            ChangeEvent { from, from_base64, ..change("moved", Some(to)) }
        }
        FileEvent::Overflow => change("overflow", None),
    }
}

#[cfg(test)]
mod tests;
