//! WebSockets, from the server's side: the handshake of RFC 6455, section 4.2, and the limits of what is spoken.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{
    CONNECTION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper::{Method, StatusCode, Version};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::problem::{Kind, Problem};

/// Largest message from a client, in bytes, also in several frames.
pub(super) const MESSAGE_BYTES: usize = 1 << 20;
/// Bytes that may wait for a client that does not read; a message more breaks the connection off.
const WRITE_BYTES: usize = 4 << 20;
/// Bytes that are read, and written, at one time.
const BUFFER_BYTES: usize = 16 << 10;

/// What a client speaks WebSocket over.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// A handshake that is done on our side: the connection comes when its answer has been sent.
#[derive(Debug)]
pub(super) struct Accepted {
    coming: OnUpgrade,
}

impl Accepted {
    /// The connection, as soon as it is there.
    pub(super) async fn socket(self) -> Result<Socket, hyper::Error> {
        let stream = TokioIo::new(self.coming.await?);
        Ok(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config())).await)
    }
}

fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES)
        .max_message_size(Some(MESSAGE_BYTES))
        .max_frame_size(Some(MESSAGE_BYTES))
}

/// Checks a handshake; the answer to send, and what comes of it.
pub(super) fn accept(request: &mut Request) -> Result<(Response, Accepted), Problem> {
    let required = |detail: &str| Problem::new(Kind::UpgradeRequired, detail);
    if request.method() != Method::GET || request.version() != Version::HTTP_11 {
        return Err(required("the handshake is a GET of HTTP/1.1"));
    }
    let headers = request.headers();
    if !has_token(headers, &CONNECTION, "upgrade") || !has_token(headers, &UPGRADE, "websocket") {
        return Err(required("the handshake has \"Connection: Upgrade\" and \"Upgrade: websocket\""));
    }
    if single(headers, &SEC_WEBSOCKET_VERSION) != Some("13") {
        return Err(required("the header Sec-WebSocket-Version must be 13"));
    }
    let key = single(headers, &SEC_WEBSOCKET_KEY)
        .filter(|key| STANDARD.decode(key).is_ok_and(|bytes| bytes.len() == 16))
        .ok_or_else(|| Problem::field("Sec-WebSocket-Key", "the key must be 16 bytes in base64"))?;
    is_of_this_origin(headers)?;
    let accept = HeaderValue::from_str(&derive_accept_key(key.as_bytes())).expect("base64 is visible ASCII");
    let coming = request
        .extensions_mut()
        .remove::<OnUpgrade>()
        .ok_or_else(|| required("this connection cannot be made a WebSocket"))?;
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok((response, Accepted { coming }))
}

/// Refuses what a page of another origin asks for. Browsers let every page open WebSockets anywhere, and
/// leave it to the server to look whose page it is.
fn is_of_this_origin(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(origin) = headers.get(ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    match (origin, single(headers, &HOST)) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host) => Ok(()),
        _ => Err(Problem::new(Kind::ForeignOrigin, "the header Origin names another host than the header Host")),
    }
}

/// Whether one of a header's values, each a list, has this token.
pub(super) fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(token))
}

/// The value of a header that stands there once.
fn single<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?.to_str().ok()?;
    values.next().is_none().then_some(value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The handshake of RFC 6455, section 1.2, with some of its headers replaced.
    fn handshake(changes: &[(&'static str, Option<&str>)]) -> Request {
        let mut request = Request::get("/chat").body(Body::empty()).unwrap();
        let usual = [
            ("host", Some("server.example.com")),
            ("upgrade", Some("websocket")),
            ("connection", Some("keep-alive, Upgrade")),
            ("sec-websocket-key", Some("dGhlIHNhbXBsZSBub25jZQ==")),
            ("sec-websocket-version", Some("13")),
        ];
        for (name, value) in usual.iter().chain(changes) {
            request.headers_mut().remove(*name);
            if let Some(value) = value {
                request.headers_mut().insert(*name, value.parse().unwrap());
            }
        }
        let on = hyper::upgrade::on(&mut request);
        request.extensions_mut().insert(on);
        request
    }

    fn refusal(changes: &[(&'static str, Option<&str>)]) -> Kind {
        accept(&mut handshake(changes)).unwrap_err().kind
    }

    #[test]
    fn the_key_of_the_standard_gets_the_answer_of_the_standard() {
        let (response, _) = accept(&mut handshake(&[])).unwrap();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn a_handshake_that_is_none_is_refused() {
        for (changes, kind) in [
            (("upgrade", None), Kind::UpgradeRequired),
            (("upgrade", Some("h2c")), Kind::UpgradeRequired),
            (("connection", Some("close")), Kind::UpgradeRequired),
            (("sec-websocket-version", Some("8")), Kind::UpgradeRequired),
            (("sec-websocket-version", None), Kind::UpgradeRequired),
            (("sec-websocket-key", None), Kind::InvalidField),
            (("sec-websocket-key", Some("c2hvcnQ=")), Kind::InvalidField),
            (("sec-websocket-key", Some("?")), Kind::InvalidField),
        ] {
            assert_eq!(refusal(&[changes]), kind, "{changes:?}");
        }
        let mut request = handshake(&[]);
        *request.method_mut() = Method::POST;
        assert_eq!(accept(&mut request).unwrap_err().kind, Kind::UpgradeRequired);
        let mut request = handshake(&[]);
        request.extensions_mut().remove::<OnUpgrade>();
        assert_eq!(accept(&mut request).unwrap_err().kind, Kind::UpgradeRequired);
    }

    #[test]
    fn two_keys_are_none() {
        let mut request = handshake(&[]);
        request.headers_mut().append(SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        assert_eq!(accept(&mut request).unwrap_err().kind, Kind::InvalidField);
    }

    #[test]
    fn a_page_of_another_origin_is_refused() {
        assert!(accept(&mut handshake(&[("origin", Some("https://Server.example.com"))])).is_ok());
        for origin in ["https://evil.example", "https://server.example.com:81", "null", ""] {
            assert_eq!(refusal(&[("origin", Some(origin))]), Kind::ForeignOrigin, "{origin}");
        }
    }

    #[tokio::test]
    async fn a_socket_takes_messages_up_to_its_limit() {
        use futures_util::{SinkExt, StreamExt};
        use hyper::service::service_fn;
        use tokio_tungstenite::tungstenite::Message;

        let (ours, clients) = tokio::net::UnixStream::pair().unwrap();
        let service = service_fn(|request: hyper::Request<hyper::body::Incoming>| async {
            let (response, accepted) = accept(&mut request.map(Body::new)).unwrap();
            tokio::spawn(async move {
                let mut socket = accepted.socket().await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_binary() {
                        socket.send(Message::text(message.len().to_string())).await.unwrap();
                    }
                }
            });
            Ok::<_, std::convert::Infallible>(response)
        });
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service);
        tokio::spawn(served.with_upgrades());
        let (mut socket, _) = tokio_tungstenite::client_async("ws://x/", clients).await.unwrap();
        socket.send(Message::Ping(vec![1].into())).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::Pong(vec![1].into()));
        socket.send(Message::binary(vec![0; MESSAGE_BYTES])).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), Message::text(MESSAGE_BYTES.to_string()));
        // Half of the second may be refused before the other half is sent.
        drop(socket.send(Message::binary(vec![0; MESSAGE_BYTES + 1])).await);
        assert!(!matches!(socket.next().await, Some(Ok(Message::Text(_)))));
    }

    #[test]
    fn a_refusal_says_what_would_be_taken() {
        use axum::response::IntoResponse;
        let problem = accept(&mut handshake(&[("sec-websocket-version", Some("8"))])).unwrap_err();
        let response = problem.into_response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        assert_eq!(response.headers()[SEC_WEBSOCKET_VERSION], "13");
        assert_eq!(response.headers()[UPGRADE], "websocket");
    }
}
