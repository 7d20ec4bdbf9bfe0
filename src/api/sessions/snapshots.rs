//! Snapshots of a session's files, and what is made of them: rollbacks, forks, exports; and sessions from archives.

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use hyper::body::Body as _;
use tracing::{info, warn};

use super::asked::{Asked, Problems, json, nothing, problem};
use super::files;
use super::life::changed;
use super::query::Query;
use super::wire::{ForkRequest, SessionRequest, SessionResponse, SnapshotRequest, SnapshotResponse, SnapshotsResponse};
use super::{answer, check};
use crate::api::problem::Problem;
use crate::plan::files::Place;
use crate::session::types::SessionError;

/// Makes a snapshot of a session's files, while its programs run.
#[utoipa::path(post, path = "/v1/sessions/{id}/snapshots", params(("id" = String, Path, description = "The session's id")),
    request_body = SnapshotRequest,
    responses((status = 201, description = "The snapshot", body = SnapshotResponse), Problems))]
pub async fn create(asked: Asked, body: Body) -> Result<Response, Problem> {
    let label = check::snapshot(asked.json_or_nothing(body).await?)?;
    let made = asked.whole(|asked| async move { asked.sessions.snapshot(asked.client(), asked.id(), label).await });
    let view = made.await?;
    asked.state.metrics.snapshot_made();
    info!(session_id = asked.id(), snapshot = view.id, bytes = view.bytes, "a snapshot is made");
    Ok(json(StatusCode::CREATED, &answer::snapshot(view)))
}

/// Lists the snapshots of a session.
#[utoipa::path(get, path = "/v1/sessions/{id}/snapshots", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The snapshots, oldest first", body = SnapshotsResponse), Problems))]
pub async fn list(asked: Asked) -> Result<Response, Problem> {
    let views = asked.sessions.snapshots(asked.client(), asked.id()).await.map_err(problem)?;
    let snapshots = views.into_iter().map(answer::snapshot).collect();
    Ok(json(StatusCode::OK, &SnapshotsResponse { snapshots }))
}

/// Removes a snapshot.
#[utoipa::path(delete, path = "/v1/sessions/{id}/snapshots/{snapshot}",
    params(("id" = String, Path, description = "The session's id"), ("snapshot" = u64, Path, description = "The snapshot's id")),
    responses((status = 204, description = "It is gone"), Problems))]
pub async fn remove(asked: Asked) -> Result<Response, Problem> {
    let snapshot = number(&asked)?;
    let removed =
        |asked: Asked| async move { asked.sessions.delete_snapshot(asked.client(), asked.id(), snapshot).await };
    asked.whole(removed).await?;
    Ok(nothing())
}

/// Gives a session the files of a snapshot again. Its programs are ended.
#[utoipa::path(post, path = "/v1/sessions/{id}/snapshots/{snapshot}/rollback",
    params(("id" = String, Path, description = "The session's id"), ("snapshot" = u64, Path, description = "The snapshot's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn rollback(asked: Asked) -> Result<Response, Problem> {
    let snapshot = number(&asked)?;
    changed(&asked, |asked| async move { asked.sessions.rollback(asked.client(), asked.id(), snapshot).await }).await
}

/// Hands out the files of a snapshot, as a tar archive.
#[utoipa::path(get, path = "/v1/sessions/{id}/snapshots/{snapshot}/export",
    params(("id" = String, Path, description = "The session's id"), ("snapshot" = u64, Path, description = "The snapshot's id")),
    responses((status = 200, description = "The archive", body = String, content_type = "application/x-tar"), Problems))]
pub async fn export(asked: Asked) -> Result<Response, Problem> {
    let snapshot = number(&asked)?;
    let opened = asked.sessions.open_snapshot(asked.client(), asked.id(), snapshot).await;
    files::archived(&asked, opened.map_err(problem)?, Place::Root, true).await
}

/// Makes another session with the files of this one.
#[utoipa::path(post, path = "/v1/sessions/{id}/fork", params(("id" = String, Path, description = "The session's id")),
    request_body = ForkRequest,
    responses((status = 201, description = "The other session", body = SessionResponse), Problems))]
pub async fn fork(asked: Asked, body: Body) -> Result<Response, Problem> {
    let (snapshot, change) = check::fork(asked.json_or_nothing(body).await?, &asked.config.sessions)?;
    let forked = |asked: Asked| async move { asked.sessions.fork(&asked.quota, asked.id(), snapshot, change).await };
    let view = asked.whole(forked).await?;
    info!(session_id = %view.id, origin = asked.id(), client = asked.client(), "a session is forked");
    Ok(json(StatusCode::CREATED, &answer::session(view)))
}

/// Makes a session with the files of a tar archive.
#[utoipa::path(post, path = "/v1/sessions/import",
    params(
        ("runtime" = Vec<String>, Query, description = "Language and version; may stand there several times"),
        ("profile" = Option<String>, Query, description = "Name of the profile; `session` where absent"),
        ("label" = Option<Vec<String>>, Query, description = "`key=value`; may stand there several times"),
        ("persistent" = Option<bool>, Query, description = "Whether its files outlive its sandbox; false where absent"),
        ("idle_timeout_ms" = Option<u64>, Query, description = "Time without use after which it is stopped or gone"),
        ("lifetime_ms" = Option<u64>, Query, description = "Time after which it is gone"),
    ),
    request_body(content = String, content_type = "application/x-tar"),
    responses((status = 201, description = "The session", body = SessionResponse), Problems))]
pub async fn import(asked: Asked, body: Body) -> Result<Response, Problem> {
    let query = asked.query(&["runtime", "profile", "label", "persistent", "idle_timeout_ms", "lifetime_ms"])?;
    let request = requested(&query)?;
    // It brings its files, and asks for no packages.
    let (new, _) =
        check::session(request, &asked.config, &asked.state.runtimes(), &asked.quota, &asked.config.sessions)?;
    let most = files::fitting(body.size_hint().lower(), files::most_bytes(&asked, new.limits.disk_bytes))?;
    let created = |asked: Asked| async move {
        let view = asked.sessions.create(&asked.quota, new).await?;
        Ok(Made { asked, id: view.id.to_string(), is_whole: false })
    };
    let made = asked.whole(created).await?;
    let worker = made.asked.sessions.files(made.asked.client(), &made.id).await.map_err(problem)?;
    files::unpacked(&made.asked, worker, Place::Root, body, most).await?;
    let view = made.asked.sessions.get(made.asked.client(), &made.id).await.map_err(problem)?;
    info!(session_id = made.id, client = made.asked.client(), "a session is imported");
    made.keep();
    Ok(json(StatusCode::CREATED, &answer::session(view)))
}

fn requested(query: &Query) -> Result<SessionRequest, Problem> {
    let mut labels = std::collections::BTreeMap::new();
    for label in query.all("label") {
        let (key, value) =
            label.split_once('=').ok_or_else(|| Problem::field("label", "this is no label").allowing("key=value"))?;
        if labels.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Problem::field("label", "a key stands there twice"));
        }
    }
    let mut runtimes: Vec<String> = query.all("runtime").map(str::to_owned).collect();
    let (runtime, runtimes) = match runtimes.len() {
        0 | 1 => (runtimes.pop(), None),
        _ => (None, Some(runtimes)),
    };
    Ok(SessionRequest {
        runtime,
        runtimes,
        profile: query.text("profile")?.map(str::to_owned),
        labels: Some(labels),
        idle_timeout_ms: query.number("idle_timeout_ms")?,
        lifetime_ms: query.number("lifetime_ms")?,
        persistent: Some(query.flag("persistent")?),
        ..SessionRequest::default()
    })
}

fn number(asked: &Asked) -> Result<u64, Problem> {
    asked.number("snapshot", SessionError::UnknownSnapshot)
}

/// A session that is being filled. Dropped before it is whole, it is removed: nobody knows its id yet.
#[derive(Debug)]
struct Made {
    asked: Asked,
    id: String,
    is_whole: bool,
}

impl Made {
    fn keep(mut self) {
        self.is_whole = true;
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        let Some(runtime) = tokio::runtime::Handle::try_current().ok().filter(|_| !self.is_whole) else {
            return;
        };
        let (asked, id) = (self.asked.clone(), std::mem::take(&mut self.id));
        runtime.spawn(async move {
            if let Err(error) = asked.sessions.delete(asked.client(), &id).await {
                warn!(session_id = id, "a session whose import failed could not be removed: {error}");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["runtime", "profile", "label", "persistent", "idle_timeout_ms", "lifetime_ms"];

    #[test]
    fn the_query_of_an_import_is_a_request() {
        let text = "runtime=python&runtime=node&profile=agent&label=a%3Db&persistent=true&lifetime_ms=5000";
        let request = requested(&Query::parse(text, NAMES).unwrap()).unwrap();
        assert_eq!(request.runtimes, Some(vec!["python".to_owned(), "node".to_owned()]));
        assert_eq!((request.runtime, request.profile.as_deref()), (None, Some("agent")));
        assert_eq!((request.persistent, request.lifetime_ms), (Some(true), Some(5000)));
        assert_eq!(request.labels.unwrap()["a"], "b");
        let request = requested(&Query::parse("runtime=python", NAMES).unwrap()).unwrap();
        assert_eq!((request.runtime.as_deref(), request.runtimes), (Some("python"), None));
    }

    #[test]
    fn labels_of_an_import_are_pairs_with_keys_of_their_own() {
        for text in ["label=a", "label=a%3Db&label=a%3Dc"] {
            assert_eq!(requested(&Query::parse(text, NAMES).unwrap()).unwrap_err().field.as_deref(), Some("label"));
        }
    }
}
