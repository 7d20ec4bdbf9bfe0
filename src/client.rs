//! A client of the API with types, which the command line is made of as well.
//!
//! Feature `client`, which is on by default. Every call opens a connection of its own, so calls may be made at one
//! time; a call that is dropped hangs up, which cancels what it asked for. What is sent and what comes back are
//! the types of [`crate::api::wire`] and [`crate::api::sessions::wire`], which the service itself reads and writes.
//! Everything runs within a tokio runtime.
//!
//! ```no_run
//! use codesandbox::api::wire::{FileRequest, RunRequest};
//! use codesandbox::client::Client;
//!
//! # async fn example() -> Result<(), codesandbox::client::ClientError> {
//! let client = Client::unix("/run/codesandbox/api.sock");
//! let source = FileRequest { content: Some("print(6 * 7)".to_owned()), ..FileRequest::default() };
//! let request = RunRequest { runtime: "python".to_owned(), files: vec![source], ..RunRequest::default() };
//! let answer = client.run(&request).await?;
//! assert_eq!(answer.run.map(|run| run.stdout).as_deref(), Some("42\n"));
//! # Ok(())
//! # }
//! ```
//!
//! A dependent that wants the client alone still builds the whole crate: the types that both sides share rest on those
//! of the service. Without the feature neither this nor the command line is there.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};

mod connection;
mod error;
mod events;
mod files;
mod runs;
mod sessions;
pub(crate) mod text;
mod uploads;

pub use connection::{Body, Connection, Download, Lines, full};
pub(crate) use error::explain;
pub use error::{ClientError, Refusal};
pub use events::Events;
pub use sessions::Session;

/// A service, wherever it is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    way: Way,
}

/// How to get there.
#[derive(Clone)]
enum Way {
    Unix(PathBuf),
    Tcp { address: Arc<str>, host: HeaderValue, token: HeaderValue },
    Made(Arc<dyn Fn() -> io::Result<UnixStream> + Send + Sync>),
}

impl fmt::Debug for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp { address, .. } => f.write_str(address),
            Self::Made(_) => f.write_str("made for each connection"),
        }
    }
}

impl Client {
    /// The service on a Unix socket. Nothing is connected yet.
    #[must_use]
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self { way: Way::Unix(path.into()) }
    }

    /// The service at an address, such as `127.0.0.1:8731`, for whoever has this token. What is sent there is not
    /// encrypted, the token included: beyond this host a tunnel or a proxy has to do that.
    ///
    /// ```
    /// # use codesandbox::client::Client;
    /// let client = Client::tcp("127.0.0.1:8731", "csb_3q2-7w")?;
    /// assert!(!format!("{client:?}").contains("3q2"));
    /// # Ok::<(), codesandbox::client::ClientError>(())
    /// ```
    ///
    /// # Errors
    /// The token has characters that no header can have, or the address has.
    pub fn tcp(address: &str, token: &str) -> Result<Self, ClientError> {
        let host = HeaderValue::from_str(address).map_err(|_| ClientError::Path(address.to_owned()))?;
        let mut token = HeaderValue::from_str(&format!("Bearer {token}")).map_err(|_| ClientError::Token)?;
        token.set_sensitive(true);
        Ok(Self { way: Way::Tcp { address: address.into(), host, token } })
    }

    /// The service at the other end of streams that `open` makes, one for each call.
    #[must_use]
    pub fn through(open: impl Fn() -> io::Result<UnixStream> + Send + Sync + 'static) -> Self {
        Self { way: Way::Made(Arc::new(open)) }
    }

    /// The Unix socket, where that is the way.
    #[must_use]
    pub fn socket(&self) -> Option<&Path> {
        match &self.way {
            Way::Unix(path) => Some(path),
            Way::Tcp { .. } | Way::Made(_) => None,
        }
    }

    /// A connection, for what no call here does.
    ///
    /// # Errors
    /// Nobody listens.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        match &self.way {
            Way::Unix(path) => {
                let stream = UnixStream::connect(path).await;
                Connection::over(stream.map_err(|error| absent(&path.display(), error))?).await
            }
            Way::Tcp { address, host, token } => {
                let stream = TcpStream::connect(&**address).await;
                let stream = stream.and_then(|stream| stream.set_nodelay(true).map(|()| stream));
                let connection = Connection::over(stream.map_err(|error| absent(address, error))?).await?;
                Ok(connection.showing(host.clone(), token.clone()))
            }
            Way::Made(open) => Connection::over(open().map_err(|error| absent(&"the service", error))?).await,
        }
    }

    /// The whole answer to a request with a JSON body, or without one, as it came.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the answer says no.
    pub async fn call(&self, method: Method, path: &str, json: Vec<u8>) -> Result<Bytes, ClientError> {
        self.connect().await?.call(method, path, json).await
    }

    /// The answer to such a request as the events that it consists of, while they happen.
    ///
    /// # Errors
    /// Nobody listens, the connection broke, or the answer says no.
    pub async fn events<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        json: Vec<u8>,
    ) -> Result<Events<T>, ClientError> {
        Ok(Events::new(self.connect().await?.lines(method, path, json).await?))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        understood(&self.call(Method::GET, path, Vec::new()).await?)
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        understood(&self.call(method, path, json(body)).await?)
    }
}

fn absent(place: &dyn fmt::Display, error: io::Error) -> ClientError {
    ClientError::Connect { place: place.to_string(), error }
}

/// A body of a type of ours.
fn json(body: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(body).expect("a request has only text keys")
}

/// An answer as a type.
///
/// # Errors
/// It is another one.
pub fn understood<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| ClientError::Strange(error.to_string()))
}

/// Text as a part of a path or of a query.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_byte_by_byte() {
        assert_eq!(escape("a b&c=d/ä%"), "a%20b%26c%3Dd%2F%C3%A4%25");
        assert_eq!(escape("x-1_2.3~"), "x-1_2.3~");
    }

    #[test]
    fn what_is_no_token_is_told_without_it() {
        let error = Client::tcp("127.0.0.1:1", "csb_secret\nx").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_absent() {
        let error = Client::unix("/nonexistent/api.sock").health().await.unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("/nonexistent/api.sock"), "{error}");
    }
}
