//! What is there to run, as Piston's list of runtimes and as its list of packages. Runtimes are declared in the
//! configuration, so that nothing is installed or removed from here.

use axum::Json;
use axum::body::Body;
use axum::extract::{Extension, State as Shared};
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::asked::{Package, parse};
use super::files::clipped;
use super::{Refusal, execute, versions};
use crate::api::client::known;
use crate::api::compat::loose::Scalar;
use crate::api::{Client, State};
use crate::config::piston::Packages;
use crate::runtime::Health;

/// Why nothing is done.
const DECLARED: &str = "runtimes are declared in the configuration of this service";

/// Every runtime that works, as far as is known.
pub(super) async fn runtimes(Shared(state): Shared<State>) -> Json<Vec<Value>> {
    let catalogue = state.runtimes();
    let listed = versions::working(&catalogue).map(|runtime| {
        let language = &runtime.language;
        json!({ "language": language.name, "version": versions::shown(runtime), "aliases": language.aliases })
    });
    Json(listed.collect())
}

/// Every runtime, and whether it works.
pub(super) async fn list(Shared(state): Shared<State>) -> Json<Vec<Value>> {
    let catalogue = state.runtimes();
    let listed = catalogue.runtimes().iter().map(|runtime| {
        json!({
            "language": runtime.language.name,
            "language_version": versions::shown(runtime),
            "installed": !matches!(runtime.health, Health::Broken { .. }),
        })
    });
    Json(listed.collect())
}

/// Says of a package that is there that it is.
pub(super) async fn install(
    Shared(state): Shared<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    let config = state.config();
    Ok(match asked(&state, client, &headers, body).await? {
        Err(absent) => absent,
        Ok((language, version)) => match config.piston.packages {
            Packages::Confirm => Json(json!({ "language": language, "version": version })).into_response(),
            Packages::Refuse => failed("Already installed"),
        },
    })
}

/// Refuses to remove a package.
pub(super) async fn remove(
    Shared(state): Shared<State>,
    client: Option<Extension<Client>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Refusal> {
    Ok(match asked(&state, client, &headers, body).await? {
        Err(absent) => absent,
        Ok((language, version)) => failed(&format!("{language}-{version} is not removed: {DECLARED}")),
    })
}

/// Language and version of the newest package that is meant, or the answer that there is none.
async fn asked(
    state: &State,
    client: Option<Extension<Client>>,
    headers: &HeaderMap,
    body: Body,
) -> Result<Result<(String, String), Response>, Refusal> {
    let held = execute::read(state, &known(client)?, headers, body).await?;
    let package: Package = parse(&held.bytes)?;
    // As JavaScript writes what is not there.
    let word = |given: &Scalar| match given {
        Scalar::Text(text) => text.clone(),
        _ => "undefined".to_owned(),
    };
    let (language, version) = (word(&package.language), word(&package.version));
    let catalogue = state.runtimes();
    Ok(match versions::newest(&catalogue, &language, &version, false) {
        Some(runtime) => Ok((language, versions::shown(runtime))),
        None => {
            let message = format!("Requested package {}-{} does not exist", clipped(&language), clipped(&version));
            Err((StatusCode::NOT_FOUND, Json(json!({ "message": message, "reason": DECLARED }))).into_response())
        }
    })
}

fn failed(message: &str) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, Json(json!({ "message": message }))).into_response()
}
