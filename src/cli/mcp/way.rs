//! The way to the service: a connection for each request, which is hung up as soon as nobody waits for its answer.

use hyper::Method;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::client::{Client, ClientError, Download, Events, full, understood};

/// To the service that a client is of.
#[derive(Debug, Clone)]
pub(super) struct Way(pub(super) Client);

impl Way {
    /// The whole answer to a request, as JSON; null where it has no body.
    pub(super) async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, ClientError> {
        let answer = self.0.call(method, path, bytes(body)).await?;
        if answer.is_empty() { Ok(Value::Null) } else { understood(&answer) }
    }

    /// The whole answer to GET.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        understood(&self.0.call(Method::GET, path, Vec::new()).await?)
    }

    /// The answer event by event.
    pub(super) async fn follow<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Events<T>, ClientError> {
        self.0.events(method, path, bytes(body)).await
    }

    /// The answer to GET as bytes, as they come.
    pub(super) async fn download(&self, path: &str) -> Result<Download, ClientError> {
        self.0.connect().await?.download(path).await
    }

    /// Sends bytes, and waits until they are accepted.
    pub(super) async fn upload(&self, method: Method, path: &str, bytes: Vec<u8>) -> Result<(), ClientError> {
        let mut connection = self.0.connect().await?;
        connection.upload(method, path, "application/octet-stream", full(bytes)).await.map(drop)
    }
}

fn bytes(body: Option<&Value>) -> Vec<u8> {
    body.map(|body| body.to_string().into_bytes()).unwrap_or_default()
}

/// What stands from `offset` on in an answer, no more than `most` bytes of it.
pub(super) async fn part(mut body: Download, offset: u64, most: usize) -> Result<Vec<u8>, ClientError> {
    let (mut skip, mut found) = (offset, Vec::new());
    while found.len() < most
        && let Some(data) = body.next().await?
    {
        let skipped = usize::try_from(skip).unwrap_or(usize::MAX).min(data.len());
        skip -= skipped as u64;
        let wanted = data.get(skipped..).unwrap_or_default();
        found.extend_from_slice(wanted.get(..wanted.len().min(most - found.len())).unwrap_or_default());
    }
    Ok(found)
}
