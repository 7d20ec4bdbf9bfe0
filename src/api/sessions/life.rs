//! The sessions themselves: created, looked at, changed, stopped, removed.

use std::future::Future;

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use tracing::info;

use super::asked::{Asked, Problems, json, nothing, problem};
use super::query::Query;
use super::wire::{PromoteRequest, SessionChanges, SessionRequest, SessionResponse, SessionsResponse};
use super::{answer, check, packages};
use crate::api::problem::Problem;
use crate::session::types::{Filter, SessionError, Status, View};

/// Sessions that a list has where the request does not say how many.
const LISTED: u64 = 100;
/// Most sessions that a list has.
const MOST_LISTED: u64 = 1000;

/// Makes a session.
#[utoipa::path(post, path = "/v1/sessions", request_body = SessionRequest,
    responses((status = 201, description = "The session", body = SessionResponse), Problems))]
pub async fn create(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: SessionRequest = asked.json(body).await?;
    let (mut new, installs) =
        check::session(request, &asked.config, &asked.state.runtimes(), &asked.quota, &asked.config.sessions)?;
    new.trees = packages::install(&asked, &installs).await?;
    let view = asked.whole(|asked| async move { asked.sessions.create(&asked.quota, new).await }).await?;
    info!(session_id = %view.id, client = asked.client(), profile = view.profile, "a session is made");
    Ok(json(StatusCode::CREATED, &answer::session(view)))
}

/// Lists the client's sessions.
#[utoipa::path(get, path = "/v1/sessions",
    params(
        ("label" = Option<Vec<String>>, Query, description = "`key=value`, which each of them has; may stand there several times"),
        ("status" = Option<String>, Query, description = "What each of them is doing"),
        ("limit" = Option<u64>, Query, description = "Most of them, from 1 to 1000; 100 where absent"),
        ("after" = Option<String>, Query, description = "Those that follow the session of this id"),
    ),
    responses((status = 200, description = "The sessions, in the order of their ids", body = SessionsResponse), Problems))]
pub async fn list(asked: Asked) -> Result<Response, Problem> {
    let filter = filter(&asked.query(&["label", "status", "limit", "after"])?)?;
    let (sessions, next) = asked.sessions.list(asked.client(), &filter).await;
    let sessions = sessions.into_iter().map(answer::session).collect();
    Ok(json(StatusCode::OK, &SessionsResponse { sessions, next: next.map(|id| id.to_string()) }))
}

fn filter(query: &Query) -> Result<Filter, Problem> {
    let label = |text: &str| {
        let (key, value) = text.split_once('=')?;
        Some((key.to_owned(), value.to_owned()))
    };
    let labels = query
        .all("label")
        .map(|text| label(text).ok_or_else(|| Problem::field("label", "this is no label").allowing("key=value")));
    let status = query.text("status")?.map(|name| {
        let names = Status::ALL.map(Status::name);
        Status::by_name(name).ok_or_else(|| Problem::field("status", "there is no such status").allowing(&names[..]))
    });
    let after = query.text("after")?.map(|id| id.parse().map_err(|_| Problem::field("after", "this is no id")));
    let limit = query.number("limit")?.unwrap_or(LISTED);
    if !(1..=MOST_LISTED).contains(&limit) {
        return Err(Problem::field("limit", format!("limit is {limit}, but must be from 1 to {MOST_LISTED}"))
            .allowing(serde_json::json!({ "minimum": 1, "maximum": MOST_LISTED })));
    }
    Ok(Filter {
        labels: check::labels(labels.collect::<Result<_, _>>()?)?,
        status: status.transpose()?,
        limit: usize::try_from(limit).unwrap_or(usize::MAX),
        after: after.transpose()?,
    })
}

/// Tells of a session. This is no use of it.
#[utoipa::path(get, path = "/v1/sessions/{id}", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn show(asked: Asked) -> Result<Response, Problem> {
    let view = asked.sessions.get(asked.client(), asked.id()).await.map_err(problem)?;
    Ok(json(StatusCode::OK, &answer::session(view)))
}

/// Changes labels and times of a session; its lifetime counts from now.
#[utoipa::path(patch, path = "/v1/sessions/{id}", params(("id" = String, Path, description = "The session's id")),
    request_body = SessionChanges,
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn update(asked: Asked, body: Body) -> Result<Response, Problem> {
    let change = check::changes(asked.json(body).await?, &asked.config.sessions)?;
    changed(&asked, |asked| async move { asked.sessions.update(asked.client(), asked.id(), change).await }).await
}

/// Ends a session, its programs and its files.
#[utoipa::path(delete, path = "/v1/sessions/{id}", params(("id" = String, Path, description = "The session's id")),
    responses((status = 204, description = "It is gone"), Problems))]
pub async fn remove(asked: Asked) -> Result<Response, Problem> {
    asked.whole(|asked| async move { asked.sessions.delete(asked.client(), asked.id()).await }).await?;
    info!(session_id = asked.id(), client = asked.client(), "a session is removed by request");
    Ok(nothing())
}

/// Ends a session's programs and saves its files; one that is not persistent is gone then.
#[utoipa::path(post, path = "/v1/sessions/{id}/stop", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn stop(asked: Asked) -> Result<Response, Problem> {
    changed(&asked, |asked| async move { asked.sessions.stop(asked.client(), asked.id()).await }).await
}

/// Freezes a session's programs.
#[utoipa::path(post, path = "/v1/sessions/{id}/pause", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn pause(asked: Asked) -> Result<Response, Problem> {
    changed(&asked, |asked| async move { asked.sessions.pause(asked.client(), asked.id()).await }).await
}

/// Has a paused session's programs go on.
#[utoipa::path(post, path = "/v1/sessions/{id}/resume", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn resume(asked: Asked) -> Result<Response, Problem> {
    changed(&asked, |asked| async move { asked.sessions.resume(asked.client(), asked.id()).await }).await
}

/// Makes a session persistent, and holds it to these processors where some are named.
#[utoipa::path(post, path = "/v1/sessions/{id}/promote", params(("id" = String, Path, description = "The session's id")),
    request_body = PromoteRequest,
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn promote(asked: Asked, body: Body) -> Result<Response, Problem> {
    let cpus = check::promotion(asked.json_or_nothing(body).await?)?;
    changed(&asked, |asked| async move { asked.sessions.promote(asked.client(), asked.id(), cpus).await }).await
}

/// Makes a session one that is not persistent, and lets it use all processors.
#[utoipa::path(post, path = "/v1/sessions/{id}/demote", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "The session", body = SessionResponse), Problems))]
pub async fn demote(asked: Asked) -> Result<Response, Problem> {
    changed(&asked, |asked| async move { asked.sessions.demote(asked.client(), asked.id()).await }).await
}

/// Does something to a session, and answers with what it is then.
pub(super) async fn changed<F>(asked: &Asked, work: impl FnOnce(Asked) -> F) -> Result<Response, Problem>
where
    F: Future<Output = Result<View, SessionError>> + Send + 'static,
{
    Ok(json(StatusCode::OK, &answer::session(asked.whole(work).await?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &[&str] = &["label", "status", "limit", "after"];

    fn read(text: &str) -> Result<Filter, Problem> {
        filter(&Query::parse(text, NAMES).unwrap())
    }

    #[test]
    fn a_list_has_a_hundred_of_all() {
        let all = Filter { labels: [].into(), status: None, limit: 100, after: None };
        assert_eq!(read("").unwrap(), all);
    }

    #[test]
    fn a_list_is_narrowed() {
        let id = crate::session::types::SessionId::random();
        let filter = read(&format!("label=a%3Db&label=c%3D&status=paused&limit=1000&after={id}")).unwrap();
        assert_eq!(filter.labels, [("a".to_owned(), "b".to_owned()), ("c".to_owned(), String::new())].into());
        assert_eq!((filter.status, filter.limit, filter.after), (Some(Status::Paused), 1000, Some(id)));
    }

    #[test]
    fn what_narrows_nothing_is_refused() {
        for (text, field) in [
            ("label=a", "label"),
            ("status=dead", "status"),
            ("limit=0", "limit"),
            ("limit=1001", "limit"),
            ("after=x", "after"),
        ] {
            assert_eq!(read(text).unwrap_err().field.as_deref(), Some(field));
        }
    }
}
