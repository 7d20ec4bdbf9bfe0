//! The way to the API of sessions: a connection for each request, ids by their beginning, and patience
//! with a daemon that is started anew.

use std::path::PathBuf;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::{Instant, sleep};

use super::SessionError;
use super::wire::SessionList;
use crate::client::{Client, ClientError, Connection};
pub(super) use crate::client::{escape, understood};

/// Fewest characters that an id may be shortened to.
const PREFIX: usize = 4;
/// Length of a whole id: one that long is not looked up.
const WHOLE: usize = 32;
/// Most pages of a list; a page is as long as the service makes it.
const PAGES: usize = 10_000;
/// How long a service that went away is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// First and longest pause between two attempts.
const PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Where the daemon listens.
#[derive(Debug, Clone)]
pub(super) struct Link {
    socket: PathBuf,
    client: Client,
}

impl Link {
    /// To the daemon on this socket.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { client: Client::unix(socket.clone()), socket }
    }

    /// A stream to the daemon.
    pub(super) async fn stream(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Connect { place: self.socket.display().to_string(), error })
    }

    /// A connection to the API.
    pub(super) async fn connect(&self) -> Result<Connection, ClientError> {
        self.client.connect().await
    }

    /// The whole answer to a request, as it came.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Bytes, ClientError> {
        let json = body.map(|body| body.to_string().into_bytes()).unwrap_or_default();
        self.client.call(method, path, json).await
    }

    /// The answer to GET.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        understood(&self.call(Method::GET, path, None).await?)
    }

    /// The answer to POST.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T, ClientError> {
        understood(&self.call(Method::POST, path, Some(body)).await?)
    }

    /// All sessions that fit, however many pages they are on: as the API gave them.
    pub(super) async fn list(
        &self,
        labels: &[(String, String)],
        status: Option<&str>,
    ) -> Result<Vec<Value>, ClientError> {
        let mut filter: Vec<String> =
            labels.iter().map(|(key, value)| format!("label={}", escape(&format!("{key}={value}")))).collect();
        filter.extend(status.map(|status| format!("status={}", escape(status))));
        let (mut found, mut after) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut query = filter.clone();
            query.extend(after.iter().map(|after| format!("after={}", escape(after))));
            let mark = if query.is_empty() { "" } else { "?" };
            let page: SessionList = self.get(&format!("/v1/sessions{mark}{}", query.join("&"))).await?;
            found.extend(page.sessions);
            // A page that leads to itself would be read for ever.
            if page.next.is_none() || page.next == after {
                return Ok(found);
            }
            after = page.next;
        }
        Err(ClientError::Strange(format!("a list of more than {PAGES} pages")))
    }

    /// The path of a session in the API, whose id may be shortened.
    pub(super) async fn session(&self, given: &str) -> Result<String, SessionError> {
        Ok(format!("/v1/sessions/{}", self.id(given).await?))
    }

    /// A whole id.
    pub(super) async fn id(&self, given: &str) -> Result<String, SessionError> {
        if given.len() < PREFIX || !given.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)) {
            return Err(SessionError::Id(given.to_owned()));
        }
        if given.len() >= WHOLE {
            return Ok(given.to_owned());
        }
        let sessions = self.list(&[], None).await?;
        let ids = sessions.iter().filter_map(|session| session.get("id")?.as_str());
        choose(given, ids.collect())
    }
}

/// The one id that begins like this.
fn choose(given: &str, ids: Vec<&str>) -> Result<String, SessionError> {
    let fitting: Vec<&str> = ids.into_iter().filter(|id| id.starts_with(given)).collect();
    match fitting.as_slice() {
        [one] => Ok((*one).to_owned()),
        [] => Err(SessionError::Unknown(given.to_owned())),
        several if several.contains(&given) => Ok(given.to_owned()),
        several => Err(SessionError::Ambiguous { given: given.to_owned(), ids: several.join(", ") }),
    }
}

/// How long it is still worth trying to reach a service that went away.
#[derive(Debug)]
pub(super) struct Patience {
    over: Instant,
    pause: Duration,
}

impl Patience {
    /// All of it.
    pub(super) fn new() -> Self {
        Self { over: Instant::now() + PATIENCE, pause: PAUSE.0 }
    }

    /// Waits a little before the next attempt; false where there shall be none.
    pub(super) async fn wait(&mut self) -> bool {
        if Instant::now() >= self.over {
            return false;
        }
        sleep(self.pause).await;
        self.pause = (self.pause * 2).min(PAUSE.1);
        true
    }
}

/// Whether the daemon may be there again soon: it is being started anew, or broke off in the middle.
pub(super) fn is_passing(error: &ClientError) -> bool {
    match error {
        ClientError::Broken(_) | ClientError::Lost(_) => true,
        ClientError::Refused(refusal) => refusal.status == 503,
        other => other.is_absent(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_may_be_shortened_while_one_fits() {
        let ids = || vec!["abcd1111", "abcd2222", "abcd", "ffff0000"];
        assert_eq!(choose("ffff", ids()).unwrap(), "ffff0000");
        assert_eq!(choose("abcd", ids()).unwrap(), "abcd");
        let error = choose("abc", ids()).unwrap_err().to_string();
        assert!(error.contains("abcd1111, abcd2222"), "{error}");
        assert!(matches!(choose("0000", ids()), Err(SessionError::Unknown(_))));
    }

    #[test]
    fn what_is_no_id_never_gets_into_a_path() {
        let runtime = crate::cli::service::runtime().unwrap();
        let link = Link::new("/nonexistent".into());
        for given in ["abc", "", "../../x", "abcd/x", "abcd?x", "abcd efgh"] {
            assert!(matches!(runtime.block_on(link.id(given)), Err(SessionError::Id(_))), "{given}");
        }
    }
}
