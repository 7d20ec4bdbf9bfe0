//! The gateway between a client and real servers, good and bad.

use std::net::SocketAddr;

use axum::body::Body;
use axum::response::IntoResponse;
use futures_util::{SinkExt, StreamExt};
use hyper::body::Incoming;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{oneshot, watch};
use tokio_tungstenite::tungstenite::Message;

use super::*;

/// Longer than anything here takes, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server that answers its one client with what `serve` does.
async fn server<F, T>(serve: impl FnOnce(TcpStream) -> F + Send + 'static) -> (SocketAddr, oneshot::Receiver<T>)
where
    F: Future<Output = T> + Send + 'static,
    T: Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (sender, receiver) = oneshot::channel();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        drop(sender.send(serve(stream).await));
    });
    (address, receiver)
}

/// A server that reads the head of a request and writes these bytes; tells the head.
async fn saying(answer: &'static [u8]) -> (SocketAddr, oneshot::Receiver<String>) {
    server(move |mut stream| async move {
        let head = head(&mut stream).await;
        stream.write_all(answer).await.unwrap();
        head
    })
    .await
}

async fn head(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap()
}

/// A service with a gateway to this server, which has so long to begin its answer; what the client has of it, and
/// what stops it.
fn gateway(server: SocketAddr, head_time: Duration) -> (UnixStream, watch::Sender<bool>) {
    let (ours, clients) = UnixStream::pair().unwrap();
    let (stop, stopping) = watch::channel(false);
    tokio::spawn(async move {
        let (connection, kept) = Connection::new(stopping);
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let connection = connection.clone();
            async move {
                let target =
                    Target { uri: request.uri().clone(), host: HeaderValue::from_static("localhost:80"), head_time };
                let stream = TcpStream::connect(server).await.unwrap();
                let answer = forward(request.map(Body::new), stream, target, connection).await;
                Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(IntoResponse::into_response))
            }
        });
        let served = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(ours), service);
        drop(served.with_upgrades().await);
        kept.until_released().await;
    });
    (clients, stop)
}

/// Sends these bytes through a gateway, and reads to the end.
async fn ask(server: SocketAddr, request: &str) -> String {
    ask_within(server, request, PATIENCE).await
}

async fn ask_within(server: SocketAddr, request: &str, head_time: Duration) -> String {
    let (mut client, _stop) = gateway(server, head_time);
    client.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // A connection that breaks off gives an error behind what came.
    drop(client.read_to_end(&mut answer).await);
    String::from_utf8(answer).unwrap()
}

const GET: &str = "GET /a/b?c=d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn an_answer_comes_back_as_it_is() {
    let (address, seen) =
        saying(b"HTTP/1.1 418 Teapot\r\ncontent-length: 2\r\nx-a: 1\r\nset-cookie: b\r\nset-cookie: c\r\n\r\nhi").await;
    let answer = ask(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 418 "), "{answer}");
    for line in ["x-a: 1", "set-cookie: b", "set-cookie: c", "content-length: 2"] {
        assert!(answer.contains(&format!("\r\n{line}\r\n")), "{answer}");
    }
    assert!(answer.ends_with("\r\n\r\nhi"), "{answer}");
    let seen = seen.await.unwrap();
    assert!(seen.starts_with("GET /a/b?c=d HTTP/1.1\r\n") && seen.contains("host: localhost:80\r\n"), "{seen}");
}

#[tokio::test]
async fn headers_of_one_connection_go_no_further() {
    let (address, seen) = saying(
        b"HTTP/1.1 200 OK\r\nconnection: x-private\r\nx-private: 1\r\nkeep-alive: timeout=5\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\nx-kept: 1\r\n\r\n",
    )
    .await;
    let request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close, X-Secret\r\nx-secret: 1\r\nte: trailers\r\nkeep-alive: 1\r\nproxy-authorization: Basic eA==\r\nupgrade: h2c\r\nexpect: 100-continue\r\nx-kept: 1\r\n\r\n";
    let answer = ask(address, request).await.to_lowercase();
    let seen = seen.await.unwrap().to_lowercase();
    for text in [&answer, &seen] {
        assert!(text.contains("x-kept: 1"), "{text}");
        for gone in ["x-private", "x-secret", "keep-alive", "proxy-auth", "te: ", "upgrade", "expect"] {
            assert!(!text.lines().any(|line| line.starts_with(gone)), "{gone} in {text}");
        }
    }
}

#[tokio::test]
async fn pieces_come_as_they_are_sent() {
    let (more, wait) = oneshot::channel::<()>();
    let (address, _) = server(move |mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        wait.await.unwrap();
        stream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    })
    .await;
    let (mut client, _stop) = gateway(address, PATIENCE);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("one") {
        answer.push(char::from(client.read_u8().await.unwrap()));
    }
    assert!(!answer.contains("two"));
    more.send(()).unwrap();
    client.read_to_string(&mut answer).await.unwrap();
    assert!(answer.contains("two") && answer.ends_with("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn a_body_reaches_the_server() {
    let (address, seen) = server(|mut stream| async move {
        let head = head(&mut stream).await;
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.unwrap();
        stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        (head, body)
    })
    .await;
    let request = "PUT / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello";
    assert!(ask(address, request).await.starts_with("HTTP/1.1 204 "));
    let (head, body) = seen.await.unwrap();
    assert!(head.contains("content-length: 5") && body == *b"hello", "{head}");
}

#[tokio::test]
async fn a_server_that_closes_at_once_is_told_of() {
    let (address, _) = saying(b"").await;
    let answer = ask(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("problem:bad-gateway"), "{answer}");
}

#[tokio::test]
async fn a_server_that_closes_early_gives_no_whole_answer() {
    let (address, _) = saying(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
    let answer = ask(address, GET).await;
    assert!(answer.contains("content-length: 10") && answer.ends_with("half"), "{answer}");
    let (address, _) = saying(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n").await;
    let answer = ask(address, GET).await;
    assert!(answer.contains("half") && !answer.contains("0\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn garbage_is_no_answer() {
    for garbage in [&b"SSH-2.0-OpenSSH_9.6\r\n"[..], b"\0\0\0\0\0\0\0\0\r\n\r\n", b"HTTP/1.1 two hundred\r\n\r\n"] {
        let (address, _) = saying(garbage).await;
        let answer = ask(address, GET).await;
        assert!(answer.starts_with("HTTP/1.1 502 ") && answer.contains("problem:bad-gateway"), "{answer}");
    }
}

#[tokio::test]
async fn a_giant_head_is_no_answer() {
    let (address, _) = server(|mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\nx: ").await.unwrap();
        // Whoever reads on for ever would take all of it.
        while stream.write_all(&[b'a'; 4096]).await.is_ok() {}
    })
    .await;
    let answer = ask(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 ") && answer.len() < 10_000, "{}", answer.len());
}

#[tokio::test]
async fn a_server_that_never_answers_is_not_waited_for() {
    let (address, _) = server(|mut stream| async move {
        head(&mut stream).await;
        drop(stream.read_u8().await);
    })
    .await;
    let answer = ask_within(address, GET, Duration::from_millis(300)).await;
    assert!(answer.starts_with("HTTP/1.1 504 ") && answer.contains("problem:gateway-timeout"), "{answer}");
}

#[tokio::test]
async fn a_change_of_protocol_that_nobody_asked_for_is_none() {
    let (address, _) = saying(b"HTTP/1.1 101 Switching\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n").await;
    let answer = ask(address, GET).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

/// A server that sends back what it gets by WebSocket.
async fn echo() -> SocketAddr {
    let (address, _) = server(|stream| async move {
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() || message.is_binary() {
                socket.send(message).await.unwrap();
            }
        }
    })
    .await;
    address
}

#[tokio::test]
async fn a_websocket_goes_through() {
    let (client, _stop) = gateway(echo().await, PATIENCE);
    let (mut socket, response) = tokio_tungstenite::client_async("ws://x/chat", client).await.unwrap();
    assert_eq!(response.status(), 101);
    for message in [Message::text("hi"), Message::binary(vec![0xff; 100_000])] {
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
}

#[tokio::test]
async fn a_tunnel_ends_with_the_service() {
    let (client, stop) = gateway(echo().await, PATIENCE);
    let (mut socket, _) = tokio_tungstenite::client_async("ws://x/chat", client).await.unwrap();
    socket.send(Message::text("hi")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap(), Message::text("hi"));
    stop.send_replace(true);
    assert!(!matches!(socket.next().await, Some(Ok(_))));
}

#[tokio::test]
async fn an_answer_breaks_off_with_the_service() {
    let (address, _) = server(|mut stream| async move {
        head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n").await.unwrap();
        drop(stream.read_u8().await);
    })
    .await;
    let (mut client, stop) = gateway(address, PATIENCE);
    client.write_all(GET.as_bytes()).await.unwrap();
    let mut answer = String::new();
    while !answer.contains("one") {
        answer.push(char::from(client.read_u8().await.unwrap()));
    }
    stop.send_replace(true);
    let mut rest = Vec::new();
    drop(client.read_to_end(&mut rest).await);
    assert!(!String::from_utf8_lossy(&rest).contains("0\r\n\r\n"));
}
