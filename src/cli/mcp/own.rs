//! Which sessions a client may name: those that it has made itself, unless the server was told otherwise.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::reply::Trouble;
use super::way::Way;
use crate::client::{ClientError, escape};

/// Most sessions of one client. The service has a bound of its own, which all clients of the server share.
const SESSIONS: usize = 64;
/// Longest id that is looked at.
const ID_BYTES: usize = 64;

/// The sessions of one client. They end with it.
#[derive(Debug)]
pub(super) struct Own {
    way: Way,
    /// Whether it may name every session of the server's user; those that it makes then outlive it.
    all: bool,
    sessions: Mutex<BTreeSet<String>>,
    /// Those of all clients, for the end of the server.
    everyone: Arc<Everyone>,
}

/// The sessions of all clients.
#[derive(Debug, Default)]
pub(super) struct Everyone(Mutex<BTreeSet<String>>);

impl Everyone {
    /// Ends them all.
    pub(super) async fn end(&self, way: &Way) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        end(way, all).await;
    }
}

impl Own {
    /// Of a client that has made none yet.
    pub(super) fn new(way: Way, all: bool, everyone: Arc<Everyone>) -> Self {
        Self { way, all, sessions: Mutex::default(), everyone }
    }

    /// Whether one more may be made.
    pub(super) fn room(&self) -> Result<(), Trouble> {
        if self.all || self.known().len() < SESSIONS {
            return Ok(());
        }
        Err(Trouble::said(format!("there are {SESSIONS} sessions of yours already; close one by session_close")))
    }

    /// Remembers one that was made.
    pub(super) fn admit(&self, id: &str) {
        if !self.all {
            self.known().insert(id.to_owned());
            self.everyone.0.lock().unwrap_or_else(PoisonError::into_inner).insert(id.to_owned());
        }
    }

    /// Forgets one that is gone.
    pub(super) fn forget(&self, id: &str) {
        self.known().remove(id);
        self.everyone.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Path of a session in the API.
    pub(super) fn path(&self, id: &str) -> Result<String, Trouble> {
        // Whatever it is, it gets into no path that leads elsewhere.
        let is_id =
            !id.is_empty() && id.len() <= ID_BYTES && id.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
        if is_id && (self.all || self.known().contains(id)) {
            return Ok(format!("/v1/sessions/{}", escape(id)));
        }
        let mine: Vec<String> = self.known().iter().cloned().collect();
        let near = match mine.as_slice() {
            _ if self.all => "session_list tells the ids that there are".to_owned(),
            [] => "you have none; session_create starts one".to_owned(),
            mine => format!("yours are {}", mine.join(", ")),
        };
        Err(Trouble::said(format!("no session of yours has this id: {near}")))
    }

    /// All that it may name and that live, as the API tells them.
    pub(super) async fn list(&self) -> Result<Vec<Value>, ClientError> {
        if self.all {
            let page = self.way.ask(Method::GET, "/v1/sessions", None).await?;
            return Ok(page.get("sessions").and_then(Value::as_array).cloned().unwrap_or_default());
        }
        let ids: Vec<String> = self.known().iter().cloned().collect();
        let mut found = Vec::new();
        for id in ids {
            match self.way.ask(Method::GET, &format!("/v1/sessions/{id}"), None).await {
                Ok(session) => found.push(session),
                Err(ClientError::Refused(refusal)) if refusal.status == 404 => self.forget(&id),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let mine = std::mem::take(&mut *self.known());
        let Ok(runtime) = Handle::try_current() else { return };
        if mine.is_empty() {
            return;
        }
        let (way, everyone) = (self.way.clone(), self.everyone.clone());
        runtime.spawn(async move {
            end(&way, mine.clone()).await;
            everyone.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|id| !mine.contains(id));
        });
    }
}

async fn end(way: &Way, sessions: BTreeSet<String>) {
    let mut ending = JoinSet::new();
    for id in sessions {
        let way = way.clone();
        // One that is gone already is what was wanted; one that can't be ended ends by its idle time-out.
        ending.spawn(async move { drop(way.ask(Method::DELETE, &format!("/v1/sessions/{id}"), None).await) });
    }
    ending.join_all().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Client;

    fn own(all: bool) -> Own {
        Own::new(Way(Client::unix("/nonexistent")), all, Arc::default())
    }

    #[test]
    fn a_client_names_its_own_sessions_and_no_others() {
        let own = own(false);
        assert!(own.path("46fa0330").unwrap_err().to_string().contains("you have none"));
        own.admit("46fa0330");
        assert_eq!(own.path("46fa0330").unwrap(), "/v1/sessions/46fa0330");
        let error = own.path("46fa0331").unwrap_err().to_string();
        assert!(error.contains("yours are 46fa0330"), "{error}");
        own.forget("46fa0330");
        assert!(own.path("46fa0330").is_err() && own.everyone.0.lock().unwrap().is_empty());
    }

    #[test]
    fn one_that_may_name_all_still_gets_nowhere_else() {
        let own = own(true);
        assert!(own.path("46fa0330").is_ok());
        for id in ["", "..", "a/../../runs", "a?x", "a b", "%2e", &"a".repeat(ID_BYTES + 1)] {
            assert!(own.path(id).is_err(), "{id}");
        }
    }

    #[test]
    fn there_are_few_sessions_of_one_client() {
        let own = own(false);
        (0..SESSIONS).for_each(|number| own.admit(&number.to_string()));
        assert!(own.room().unwrap_err().to_string().contains("session_close"));
        own.forget("0");
        own.room().unwrap();
    }
}
