//! Servers in a session: requests for one of its ports are handed on to who listens there.

use axum::extract::Request;
use axum::response::Response;
use hyper::Uri;
use hyper::header::HeaderValue;

use super::asked::{Asked, Problems, problem};
use crate::api::problem::{Problem, ProblemDetails};
use crate::api::proxy::{self, Target};

/// The protocol that is none: bytes as they are.
const RAW: &str = "tcp";
/// Parts of the path before what the server sees: `/v1/sessions/{id}/ports/{port}`.
const PARTS_BEFORE: usize = 6;

/// Hands a request on to a server in the session, HTTP or WebSocket, with any method.
///
/// A GET of the port itself, without a slash behind it, with `Upgrade: tcp` hands the connection over: the answer
/// is 101, and bytes go both ways as they are.
#[utoipa::path(method(get, head, post, put, patch, delete, options), path = "/v1/sessions/{id}/ports/{port}/{path}",
    params(
        ("id" = String, Path, description = "The session's id"),
        ("port" = u16, Path, description = "The port of 127.0.0.1 in the session"),
        ("path" = String, Path, description = "The path that the server sees, with all of the query; may have slashes and be empty"),
    ),
    responses(
        (status = 101, description = "The connection is the server's: for `Upgrade: tcp`, or a WebSocket"),
        (status = 200, description = "Whatever the server answers, with its status"),
        (status = 502, description = "Nobody listens there, or the answer is not HTTP", body = ProblemDetails, content_type = "application/problem+json"),
        (status = 504, description = "The server does not answer", body = ProblemDetails, content_type = "application/problem+json"),
        Problems))]
pub async fn forward(asked: Asked, request: Request) -> Result<Response, Problem> {
    let port = asked.port()?;
    let target = target(request.uri(), port)?;
    let is_raw = !has_path(request.uri()) && proxy::wants(&request, RAW);
    let stream = asked.sessions.connect(asked.client(), asked.id(), port).await.map_err(problem)?;
    if is_raw {
        return proxy::hand_over(request, stream, RAW, asked.connection);
    }
    proxy::forward(request, stream, target, asked.connection).await
}

/// Whether anything stands behind the port, be it a slash.
fn has_path(uri: &Uri) -> bool {
    uri.path().splitn(PARTS_BEFORE + 1, '/').nth(PARTS_BEFORE).is_some()
}

/// What the server sees of a path: the rest behind the port, byte for byte, and the query.
fn target(uri: &Uri, port: u16) -> Result<Target, Problem> {
    let rest = uri.path().splitn(PARTS_BEFORE + 1, '/').nth(PARTS_BEFORE).unwrap_or_default();
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let uri = format!("/{rest}{query}").parse().map_err(|_| Problem::field("path", "this is no path"))?;
    let host = HeaderValue::from_str(&format!("localhost:{port}")).expect("a number is visible ASCII");
    Ok(Target { uri, host, head_time: proxy::HEAD_TIME })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_itself_has_no_path() {
        for (path, has) in [("80", false), ("80?a=b", false), ("80/", true), ("80/a", true)] {
            assert_eq!(has_path(&format!("/v1/sessions/x/ports/{path}").parse().unwrap()), has, "{path}");
        }
    }

    #[test]
    fn a_server_sees_the_path_behind_its_port() {
        for (path, seen) in [
            ("/v1/sessions/x/ports/80", "/"),
            ("/v1/sessions/x/ports/80/", "/"),
            ("/v1/sessions/x/ports/80?a=b", "/?a=b"),
            ("/v1/sessions/x/ports/80/a/b%2Fc//d/?q=/x&y", "/a/b%2Fc//d/?q=/x&y"),
            ("/v1/sessions/x/ports/80//evil.example/", "//evil.example/"),
        ] {
            let target = target(&path.parse().unwrap(), 80).unwrap();
            assert_eq!(target.uri.path_and_query().unwrap().as_str(), seen, "{path}");
            assert_eq!(target.host, "localhost:80");
        }
    }
}
