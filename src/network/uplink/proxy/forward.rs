//! A request for an `http://` URL, sent on over a connection of its own.
//!
//! One request a connection: whatever somebody manages to hide in a request reaches the host that was judged.

use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;

use super::dial::Dialled;
use super::target::{Target, TargetHost};
use super::{FIELDS, HEAD};
use crate::job::Protocol;
use crate::network::uplink::denials::Flow;
use crate::network::uplink::metered::Metered;
use crate::network::uplink::state::State;

/// Fields that are between two neighbours only (RFC 9110, 7.6.1), and what tells a proxy from a server.
/// How a body is framed hyper says anew.
const NOT_PASSED_ON: [HeaderName; 7] = [
    CONNECTION,
    TE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    hyper::header::PROXY_AUTHORIZATION,
];

/// Sends the request on; the answer's body comes as it is read.
pub(super) async fn forward(
    state: &Rc<State>,
    mut request: Request<Incoming>,
    target: &Target,
    dialled: Dialled,
) -> Result<Response<Incoming>, hyper::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().unwrap_or_else(|_| Uri::from_static("/"));
    *request.version_mut() = hyper::Version::HTTP_11;
    strip(request.headers_mut());
    request.headers_mut().insert(HOST, host_field(target));
    let Dialled { stream, to, by } = dialled;
    let name = by.name().map(ToString::to_string);
    let flow = Flow { name, address: Some(to.ip()), port: Some(to.port()), protocol: Protocol::Proxy };
    let outside = Metered::new(stream, flow, Rc::clone(state));
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD)
        .max_headers(FIELDS)
        .handshake(TokioIo::new(outside))
        .await?;
    tokio::task::spawn_local(async move {
        // What goes wrong shows in the answer, or in its body.
        connection.await.unwrap_or_default();
    });
    let mut response = sender.send_request(request).await?;
    strip(response.headers_mut());
    Ok(response)
}

/// Takes out what is between two neighbours only.
pub(in crate::network::uplink) fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // The framing is not for anybody to take away.
        .filter(|name| ![hyper::header::TRANSFER_ENCODING, hyper::header::CONTENT_LENGTH].contains(name))
        .collect();
    for name in NOT_PASSED_ON.into_iter().chain(named) {
        headers.remove(name);
    }
}

fn host_field(target: &Target) -> HeaderValue {
    let text = match (&target.host, target.port) {
        (TargetHost::Named(name), 80) => name.to_string(),
        _ => target.to_string(),
    };
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
