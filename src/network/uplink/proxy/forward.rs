//! A request for an `http://` URL, sent on over a connection of its own.
//!
//! One request a connection: whatever somebody manages to hide in a request reaches the host that was judged.

use std::cell::Cell;
use std::error::Error;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::header::{CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRAILER, UPGRADE};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;

use super::dial::Dialled;
use super::target::{Target, TargetHost};
use super::{FIELDS, HEAD};
use crate::job::Protocol;
use crate::network::uplink::denials::Flow;
use crate::network::uplink::metered::Metered;
use crate::network::uplink::relay::revoked;
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

/// The body of an answer, which fails where the policy that allowed it was taken back.
#[derive(Debug)]
pub(super) struct Answer {
    body: Incoming,
    is_cut: Rc<Cell<bool>>,
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Box<dyn Error + Send + Sync>>>> {
        let Self { body, is_cut } = self.get_mut();
        let frame = ready!(Pin::new(body).poll_frame(context));
        // To hyper a connection that is let go of is one that has ended, and a program would take the part for the whole.
        if frame.is_none() && is_cut.get() {
            return Poll::Ready(Some(Err("the policy is another".into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Sends the request on; the answer's body comes as it is read, for as long as the policy allows it.
pub(super) async fn forward(
    state: &Rc<State>,
    mut request: Request<Incoming>,
    target: &Target,
    dialled: Dialled,
) -> Result<Response<Answer>, hyper::Error> {
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
    let is_cut = Rc::new(Cell::new(false));
    let (watched, cuts) = (Rc::clone(state), Rc::clone(&is_cut));
    tokio::task::spawn_local(async move {
        tokio::select! {
            // First: the policy may have been replaced since it was judged, and then nothing is sent.
            biased;
            () = revoked(&watched, to, &by) => cuts.set(true),
            // What goes wrong shows in the answer, or in its body.
            _ = connection => {}
        }
    });
    let mut response = sender.send_request(request).await?;
    strip(response.headers_mut());
    Ok(response.map(|body| Answer { body, is_cut }))
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
