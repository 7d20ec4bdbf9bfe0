//! What stands before the API on TCP: nobody gets past it without a token.
//!
//! The kernel names nobody there, so every request shows who it is, before its body is read and whatever its
//! path: without a token there is no telling what there is. The token goes no further than this, so that no
//! program in a sandbox, to which a request may be handed on, ever sees it.

use axum::Router;
use axum::extract::{MatchedPath, Request, State as Shared};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::header::{AUTHORIZATION, CONNECTION, HeaderMap, HeaderValue, ORIGIN};

use super::problem::{Kind, Problem};
use super::{Client, State};

/// Routes that tell of other clients, or put loads on the service that count as nobody's.
const LOCAL_ONLY: [&str; 4] = ["/metrics", "/v1/runtimes/check", "/judge0/statistics", "/judge0/workers"];

/// The same routes, for those who show a token.
pub(super) fn guarded(router: Router, state: State) -> Router {
    router.layer(from_fn_with_state(state, admit))
}

async fn admit(Shared(state): Shared<State>, mut request: Request, next: Next) -> Response {
    match identify(&state, &request) {
        Ok(client) => {
            let headers = request.headers_mut();
            headers.remove(AUTHORIZATION);
            // It is of a page that was let in; whoever compares it with the header Host would find another.
            headers.remove(ORIGIN);
            request.extensions_mut().insert(client);
            next.run(request).await
        }
        Err(problem) => {
            state.metrics.problem(problem.kind);
            let mut response = problem.into_response();
            // Whoever tries tokens has to connect for each.
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

fn identify(state: &State, request: &Request) -> Result<Client, Problem> {
    let config = state.config();
    let token = token(request.headers())?;
    let (client, name) = config
        .clients
        .holder(token)
        .ok_or_else(|| Problem::new(Kind::Unauthorized, "nobody has this token; it may have been taken back"))?;
    is_of_known_origin(request.headers(), &config.tcp.origins)?;
    let is_local = |path: &MatchedPath| LOCAL_ONLY.contains(&path.as_str().trim_end_matches('/'));
    if request.extensions().get::<MatchedPath>().is_some_and(is_local) {
        return Err(Problem::new(Kind::LocalOnly, "this is answered on the Unix socket only"));
    }
    Ok(Client::Token { client: client.into(), name: name.into() })
}

/// The token that a request shows; RFC 6750, section 2.1. Never one of the address, which is written down in many places.
fn token(headers: &HeaderMap) -> Result<&[u8], Problem> {
    let lacking = || Problem::new(Kind::Unauthorized, "show a token in the header Authorization: Bearer …");
    let mut shown = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (shown.next(), shown.next()) else {
        return Err(lacking());
    };
    let value = value.as_bytes();
    let end = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, token) = value.split_at(end);
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(lacking());
    }
    Ok(token)
}

/// Refuses what pages ask for that nobody named. Browsers send no token by themselves, but a page may have got one.
fn is_of_known_origin(headers: &HeaderMap, known: &[String]) -> Result<(), Problem> {
    let is_known = |origin: &HeaderValue| known.iter().any(|one| one.as_bytes() == origin.as_bytes());
    if headers.get_all(ORIGIN).iter().all(is_known) {
        return Ok(());
    }
    Err(Problem::new(
        Kind::ForeignOrigin,
        "pages of this origin may not ask; tcp.origins of the configuration names those that may",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(values: &[&'static str]) -> Option<Vec<u8>> {
        let mut headers = HeaderMap::new();
        values.iter().for_each(|value| {
            headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        });
        token(&headers).ok().map(<[u8]>::to_vec)
    }

    #[test]
    fn a_token_is_shown_once_and_as_a_bearers() {
        assert_eq!(shown(&["Bearer abc"]).as_deref(), Some(&b"abc"[..]));
        assert_eq!(shown(&["bearer  abc "]).as_deref(), Some(&b"abc"[..]));
        for values in [&[][..], &[""], &["abc"], &["Basic abc"], &["Bearer"], &["Bearer "], &["Bearer a", "Bearer a"]] {
            assert_eq!(shown(values), None, "{values:?}");
        }
    }

    #[test]
    fn pages_ask_where_they_were_named() {
        let known = ["https://judge.example.org".to_owned()];
        let asks = |origins: &[&'static str]| {
            let mut headers = HeaderMap::new();
            origins.iter().for_each(|origin| {
                headers.append(ORIGIN, HeaderValue::from_static(origin));
            });
            is_of_known_origin(&headers, &known).is_ok()
        };
        assert!(asks(&[]) && asks(&["https://judge.example.org"]));
        for origins in [
            &["https://evil.example.org"][..],
            &["null"],
            &["https://judge.example.org.evil.example.org"],
            &["https://judge.example.org", "https://evil.example.org"],
        ] {
            assert!(!asks(origins), "{origins:?}");
        }
    }
}
