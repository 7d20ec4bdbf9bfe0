//! The network of a session: what its programs can reach and what was refused, and another in its place.

use axum::body::Body;
use axum::response::Response;
use hyper::StatusCode;
use tracing::info;

use super::answer;
use super::asked::{Asked, Problems, json, problem};
use super::wire::{NetworkRequest, NetworkResponse};
use crate::api::network;
use crate::api::problem::Problem;
use crate::profile::Network;

/// Tells what the programs of a session can reach, and what was refused to them lately. This is no use of it.
#[utoipa::path(get, path = "/v1/sessions/{id}/network", params(("id" = String, Path, description = "The session's id")),
    responses((status = 200, description = "Its network", body = NetworkResponse), Problems))]
pub async fn show(asked: Asked) -> Result<Response, Problem> {
    let view = asked.sessions.network(asked.client(), asked.id()).await.map_err(problem)?;
    Ok(json(StatusCode::OK, &answer::network(view)))
}

/// Puts another network in its place, for programs that run as well: no more than the profile allows. Connections
/// that are not allowed any more are ended before the answer comes.
#[utoipa::path(put, path = "/v1/sessions/{id}/network", params(("id" = String, Path, description = "The session's id")),
    request_body = NetworkRequest,
    responses((status = 200, description = "Its network from now on", body = NetworkResponse), Problems))]
pub async fn replace(asked: Asked, body: Body) -> Result<Response, Problem> {
    let request: NetworkRequest = asked.json(body).await?;
    let view = asked.sessions.get(asked.client(), asked.id()).await.map_err(problem)?;
    // A profile that is gone allows nothing.
    let allowed = asked.config.profiles.get(&view.profile).map_or(Network::None, |profile| profile.network.clone());
    let narrowed = network::with_secrets(request.network, request.secrets, &allowed, &asked.config)?;
    let replaced = |asked: Asked| async move { asked.sessions.set_network(asked.client(), asked.id(), narrowed).await };
    let view = asked.whole(replaced).await?;
    info!(session_id = asked.id(), client = asked.client(), "the network of a session is another");
    Ok(json(StatusCode::OK, &answer::network(view)))
}
