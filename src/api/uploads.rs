//! `/v1/files`: files that requests may name in place of bringing them again.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, Path};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use hyper::StatusCode;
use hyper::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue, LOCATION};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use utoipa::ToSchema;

use crate::judge::{FileId, Upload, UploadError, Uploads};

use super::body;
use super::client::known;
use super::memory::Share;
use super::problem::{Kind, Problem, ProblemDetails};
use super::{Client, State};

/// What is read and sent at one time.
const PIECE_BYTES: usize = 64 << 10;

/// A file that was uploaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileUploaded {
    /// Its name in requests: `sha256-` and the SHA-256 of its bytes.
    pub id: String,
    /// Its size.
    pub bytes: u64,
}

/// A file that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FileKept {
    /// Its name in requests.
    pub id: String,
    /// Its size.
    pub bytes: u64,
    /// When it was used last, in milliseconds since 1970.
    pub used_unix_ms: u64,
}

/// Answer of `GET /v1/files`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FilesKept {
    /// The client's files, by their names.
    pub files: Vec<FileKept>,
}

/// Keeps a file of the client's: the body, whatever is in it. Others can neither use nor find it.
#[utoipa::path(
    post,
    path = "/v1/files",
    request_body(content = Vec<u8>, content_type = "application/octet-stream"),
    responses(
        (status = 201, description = "It is kept", body = FileUploaded),
        (status = 200, description = "It was there already", body = FileUploaded),
        (status = 400, description = "The body broke off", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 408, description = "The body took too long", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 429, description = "Too much data waits, or the client has as many files as it may", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 507, description = "Files take as much as they may", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 503, description = "No files are kept here", body = ProblemDetails, content_type = "application/problem+json"),
    )
)]
pub async fn upload(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
    body: Body,
) -> Result<Response, Problem> {
    let config = state.config();
    let client = known(client)?;
    let share = state.memory.share(&client.quota(&config)?.client);
    let held = body::read(body, config.service.body_bytes, share).await?;
    let bytes = held.bytes.len() as u64;
    state.metrics.received(held.bytes.len());
    let (id, was_there) = with(&state, client, move |uploads, client| uploads.put(client, &held.bytes)).await?;
    let status = if was_there { StatusCode::OK } else { StatusCode::CREATED };
    let mut response = (status, Json(FileUploaded { id: id.to_string(), bytes })).into_response();
    if let Ok(place) = HeaderValue::from_str(&format!("/v1/files/{id}")) {
        response.headers_mut().insert(LOCATION, place);
    }
    Ok(response)
}

/// The client's files.
#[utoipa::path(get, path = "/v1/files", responses(
    (status = 200, description = "All of them", body = FilesKept),
    (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, description = "No files are kept here", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub async fn list(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
) -> Result<Json<FilesKept>, Problem> {
    let files = with(&state, known(client)?, |uploads, client| uploads.list(client)).await?;
    let kept = |Upload { id, bytes, used_unix_ms }| FileKept { id: id.to_string(), bytes, used_unix_ms };
    Ok(Json(FilesKept { files: files.into_iter().map(kept).collect() }))
}

/// The bytes of a file of the client's; it counts as used.
#[utoipa::path(get, path = "/v1/files/{id}", params(("id" = String, Path, description = "The file's name")), responses(
    (status = 200, description = "Its bytes", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 404, description = "No such file of the client's", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, description = "No files are kept here", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub async fn read(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
    id: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, Problem> {
    let id = parsed(id)?;
    let found = with(&state, known(client)?, move |uploads, client| {
        let found = uploads.find(client, &id)?;
        Ok((found.bytes(), found.verified()?))
    });
    let (bytes, file) = found.await?;
    // Piece by piece: of a client that does not read there is one in memory.
    let pieces = stream::try_unfold(tokio::fs::File::from_std(file), async |mut file| {
        let mut piece = vec![0; PIECE_BYTES];
        let count = file.read(&mut piece).await?;
        piece.truncate(count);
        Ok::<_, std::io::Error>((count > 0).then_some((piece, file)))
    });
    let mut response = Response::new(Body::from_stream(pieces));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    response.headers_mut().insert(CONTENT_LENGTH, bytes.into());
    Ok(response)
}

/// Removes a file of the client's. What was begun with it goes on.
#[utoipa::path(delete, path = "/v1/files/{id}", params(("id" = String, Path, description = "The file's name")), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "No such file of the client's", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 500, description = "The service failed", body = ProblemDetails, content_type = "application/problem+json"),
    (status = 503, description = "No files are kept here", body = ProblemDetails, content_type = "application/problem+json"),
))]
pub async fn remove(
    axum::extract::State(state): axum::extract::State<State>,
    client: Option<Extension<Client>>,
    id: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<StatusCode, Problem> {
    let id = parsed(id)?;
    with(&state, known(client)?, move |uploads, client| uploads.remove(client, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parsed(id: Result<Path<String>, axum::extract::rejection::PathRejection>) -> Result<FileId, Problem> {
    // A path that is no text names no file either.
    id.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| problem(&UploadError::Unknown))
}

/// Does something with the client's files where blocking is allowed.
async fn with<T: Send + 'static>(
    state: &State,
    client: Client,
    work: impl FnOnce(&Uploads, &str) -> Result<T, UploadError> + Send + 'static,
) -> Result<T, Problem> {
    let (uploads, quota) = (state.uploads.clone(), client.quota(&state.config())?);
    let done = tokio::task::spawn_blocking(move || work(&uploads, &quota.client)).await;
    let done = done.map_err(|_| Problem::new(Kind::Internal, "the files could not be looked at"))?;
    let done = done.map_err(|error| problem(&error));
    if let Err(problem) = &done {
        state.metrics.problem(problem.kind);
    }
    done
}

fn problem(error: &UploadError) -> Problem {
    let full = |most: u64, key: &str| {
        let detail =
            format!("{error}: {most} bytes, by {key} of the configuration; DELETE /v1/files/{{id}} makes room");
        Problem::new(Kind::DiskFull, detail).allowing(serde_json::json!({ "maximum": most }))
    };
    match error {
        UploadError::Unknown => Problem::new(Kind::NoSuchFile, "the client has no file of this name"),
        UploadError::ClientFull { most } => full(*most, "service.uploads_bytes_per_client"),
        UploadError::Full { most } => full(*most, "service.uploads_bytes"),
        UploadError::TooMany { most } => {
            Problem::new(Kind::TooMany, format!("{error}: {most}")).allowing(serde_json::json!({ "maximum": most }))
        }
        UploadError::Off => Problem::new(Kind::Unavailable, error.to_string()),
        UploadError::Failed(reason) => {
            tracing::error!("a file could not be kept or read: {reason}");
            Problem::new(Kind::Internal, "the journal has the cause")
        }
    }
}

/// The files that a request names, each read once. Blocks.
pub(super) struct Named<'a> {
    state: &'a State,
    client: &'a str,
    share: &'a mut Share,
    read: HashMap<FileId, Arc<Vec<u8>>>,
}

impl<'a> Named<'a> {
    pub(super) fn new(state: &'a State, client: &'a str, share: &'a mut Share) -> Self {
        Self { state, client, share, read: HashMap::new() }
    }

    /// The bytes of the file that is named in a field. They count as if they had come with the request.
    pub(super) fn read(&mut self, field: &str, name: &str) -> Result<Arc<Vec<u8>>, Problem> {
        let at = |error: UploadError| match problem(&error) {
            problem if problem.kind == Kind::NoSuchFile => {
                Problem::field(field, problem.detail).allowing("the id that POST /v1/files has given")
            }
            problem => problem,
        };
        let id: FileId = name.parse().map_err(at)?;
        if let Some(known) = self.read.get(&id) {
            return Ok(Arc::clone(known));
        }
        let found = self.state.uploads.find(self.client, &id).map_err(at)?;
        self.share.take(usize::try_from(found.bytes()).unwrap_or(usize::MAX))?;
        let bytes = Arc::new(found.read().map_err(at)?);
        self.read.insert(id, Arc::clone(&bytes));
        Ok(bytes)
    }
}
