//! One connection to the API, over whatever carries bytes.

use std::sync::Arc;

use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::AbortHandle;

use super::error::{ClientError, Refusal};

/// Longest answer, or line of a streamed one. The last line has all output and all files, each
/// limited by the service; this holds a service that has gone mad.
const ANSWER_BYTES: usize = 512 << 20;
/// Type of a body that is whatever it is.
pub(super) const BYTES: &str = "application/octet-stream";

/// The body of a request, whole or as it comes.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// A connection. Requests on it come one after another. It hangs up with the last of itself and of the answers that
/// come in pieces, which cancels what was not detached.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Body>,
    hang_up: Arc<HangUp>,
    host: header::HeaderValue,
    token: Option<header::HeaderValue>,
}

impl Connection {
    /// Speaks HTTP over a stream. Needs a tokio runtime, in which it is driven.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn over<I>(stream: I) -> Result<Self, ClientError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // What went wrong on it is told to whoever waits for an answer.
        let driver = tokio::spawn(async move { drop(connection.with_upgrades().await) });
        let hang_up = Arc::new(HangUp(driver.abort_handle()));
        Ok(Self { sender, hang_up, host: header::HeaderValue::from_static("codesandbox"), token: None })
    }

    /// The same, naming the host and showing a token in each request.
    pub(super) fn showing(self, host: header::HeaderValue, token: header::HeaderValue) -> Self {
        Self { host, token: Some(token), ..self }
    }

    /// The whole answer to a request with a JSON body, or without one.
    ///
    /// # Errors
    /// The connection broke, or the answer says no.
    pub async fn call(&mut self, method: Method, path: &str, json: Vec<u8>) -> Result<Bytes, ClientError> {
        let answer = self.ask(request(method, path, JSON)?, full(json)).await?;
        whole(answer.into_body()).await
    }

    /// The answer to a request, line by line as it comes.
    ///
    /// # Errors
    /// The connection broke, or the answer says no.
    pub async fn lines(&mut self, method: Method, path: &str, json: Vec<u8>) -> Result<Lines, ClientError> {
        let answer = self.ask(request(method, path, "application/x-ndjson")?, full(json)).await?;
        Ok(Lines { body: self.download_of(answer), pending: Vec::new(), searched: 0 })
    }

    /// The answer to GET as bytes, as they come.
    ///
    /// # Errors
    /// The connection broke, or the answer says no.
    pub async fn download(&mut self, path: &str) -> Result<Download, ClientError> {
        let answer = self.ask(request(Method::GET, path, "*/*")?, full(Vec::new())).await?;
        Ok(self.download_of(answer))
    }

    /// Sends bytes as they come; the whole answer.
    ///
    /// # Errors
    /// The connection broke, or the answer says no.
    pub async fn upload(
        &mut self,
        method: Method,
        path: &str,
        media: &'static str,
        body: Body,
    ) -> Result<Bytes, ClientError> {
        let mut head = request(method, path, JSON)?;
        head.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(media));
        whole(self.ask(head, body).await?.into_body()).await
    }

    /// Turns the connection into one of another protocol.
    ///
    /// # Errors
    /// The connection broke, or the answer says no.
    pub async fn upgrade(mut self, path: &str, protocol: &'static str) -> Result<Upgraded, ClientError> {
        let mut head = request(Method::GET, path, "*/*")?;
        head.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
        head.headers_mut().insert(header::UPGRADE, header::HeaderValue::from_static(protocol));
        let answer = self.ask(head, full(Vec::new())).await?;
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(ClientError::Strange(format!("no change to the protocol {protocol}")));
        }
        Ok(hyper::upgrade::on(answer).await?)
    }

    fn download_of(&self, answer: Response<Incoming>) -> Download {
        Download { body: answer.into_body(), _hang_up: self.hang_up.clone() }
    }

    async fn ask(&mut self, mut head: Request<()>, body: Body) -> Result<Response<Incoming>, ClientError> {
        head.headers_mut().insert(header::HOST, self.host.clone());
        head.headers_mut().extend(self.token.iter().map(|token| (header::AUTHORIZATION, token.clone())));
        let answer = self.sender.send_request(head.map(|()| body)).await?;
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let status = answer.status().as_u16();
        Err(ClientError::Refused(Refusal { status, body: whole(answer.into_body()).await? }))
    }
}

/// Ends the connection with the last who wants something of it. What drives it would notice no earlier than at the next
/// byte that nobody takes, and a quiet program would run to its limits.
#[derive(Debug)]
struct HangUp(AbortHandle);

impl Drop for HangUp {
    fn drop(&mut self) {
        self.0.abort();
    }
}

const JSON: &str = "application/json";

fn request(method: Method, path: &str, accept: &'static str) -> Result<Request<()>, ClientError> {
    let head = Request::builder()
        .method(method)
        .uri(path)
        .header(header::ACCEPT, accept)
        .header(header::CONTENT_TYPE, JSON)
        .body(());
    // The headers are constants.
    head.map_err(|_| ClientError::Path(path.to_owned()))
}

/// A body that is there as a whole.
#[must_use]
pub fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed_unsync()
}

/// All bytes of an answer.
async fn whole(mut body: Incoming) -> Result<Bytes, ClientError> {
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(data) = frame?.into_data() {
            extend(&mut bytes, &data)?;
        }
    }
    Ok(bytes.into())
}

fn extend(bytes: &mut Vec<u8>, data: &[u8]) -> Result<(), ClientError> {
    if bytes.len() + data.len() > ANSWER_BYTES {
        return Err(ClientError::Strange(format!("more than {ANSWER_BYTES} bytes")));
    }
    bytes.extend_from_slice(data);
    Ok(())
}

/// An answer as it comes. Dropped, it hangs up.
#[derive(Debug)]
pub struct Download {
    body: Incoming,
    _hang_up: Arc<HangUp>,
}

impl Download {
    /// The next bytes; `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ClientError> {
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame?.into_data() {
                return Ok(Some(data));
            }
        }
        Ok(None)
    }
}

/// An answer of many lines. Dropped, it hangs up.
#[derive(Debug)]
pub struct Lines {
    body: Download,
    pending: Vec<u8>,
    /// Bytes of `pending` that are known to have no line end.
    searched: usize,
}

impl Lines {
    /// The next line; `None` at the end of the answer.
    ///
    /// # Errors
    /// The connection broke, or the line has no end.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        loop {
            if let Some(line) = take_line(&mut self.pending, &mut self.searched) {
                return Ok(Some(line));
            }
            match self.body.next().await? {
                None => return Ok(None),
                Some(data) => extend(&mut self.pending, &data)?,
            }
        }
    }
}

/// Takes the first whole line off the front; each byte is looked at once, however long the line.
fn take_line(pending: &mut Vec<u8>, searched: &mut usize) -> Option<Vec<u8>> {
    let unseen = pending.get(*searched..).unwrap_or_default();
    let Some(end) = unseen.iter().position(|byte| *byte == b'\n') else {
        *searched = pending.len();
        return None;
    };
    let rest = pending.split_off(*searched + end + 1);
    let mut line = std::mem::replace(pending, rest);
    line.pop();
    *searched = 0;
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_cut_where_they_end_however_they_arrive() {
        let (mut pending, mut searched, mut lines) = (Vec::new(), 0, Vec::new());
        for piece in [&b"{\"a\""[..], b":1}\n{", b"}", b"\n\nx\n"] {
            pending.extend_from_slice(piece);
            while let Some(line) = take_line(&mut pending, &mut searched) {
                lines.push(String::from_utf8(line).unwrap());
            }
        }
        assert_eq!(lines, ["{\"a\":1}", "{}", "", "x"]);
    }
}
