//! Sessions: made, found, changed, ended, and the programs in them.

use hyper::Method;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::BYTES;
use super::{Client, ClientError, Events, escape, full, json, understood};
use crate::api::sessions::wire::{
    ExecEvent, ExecRequest, ExecResponse, ExecsResponse, ForkRequest, PromoteRequest, SessionChanges, SessionRequest,
    SessionResponse, SessionsResponse, SignalRequest, SnapshotRequest, SnapshotResponse, SnapshotsResponse,
};

const SESSIONS: &str = "/v1/sessions";

impl Client {
    /// Makes a session.
    ///
    /// # Errors
    /// There is no service, it keeps no sessions, or refuses this one.
    pub async fn create_session(&self, request: &SessionRequest) -> Result<SessionResponse, ClientError> {
        self.send(Method::POST, SESSIONS, request).await
    }

    /// The sessions that have all of these labels, a page of them: those behind the session `after`, where it is
    /// given, which is `next` of the page before.
    ///
    /// # Errors
    /// There is no service, or it keeps no sessions.
    pub async fn sessions(
        &self,
        labels: &[(String, String)],
        after: Option<&str>,
    ) -> Result<SessionsResponse, ClientError> {
        let labels = labels.iter().map(|(key, value)| format!("label={}", escape(&format!("{key}={value}"))));
        let query: Vec<String> = labels.chain(after.map(|after| format!("after={}", escape(after)))).collect();
        self.get(&format!("{SESSIONS}?{}", query.join("&"))).await
    }

    /// A session, by its whole id. Whether there is one is found out by its calls.
    #[must_use]
    pub fn session(&self, id: &str) -> Session {
        Session { client: self.clone(), path: format!("{SESSIONS}/{}", escape(id)) }
    }
}

/// A session of a service.
///
/// ```no_run
/// use codesandbox::api::sessions::wire::{ExecRequest, SessionRequest};
///
/// # async fn example(client: codesandbox::client::Client) -> Result<(), codesandbox::client::ClientError> {
/// let request = SessionRequest { runtime: Some("python".to_owned()), ..SessionRequest::default() };
/// let session = client.session(&client.create_session(&request).await?.id);
/// session.write_file("main.py", b"print(6 * 7)".to_vec()).await?;
/// let argv = ["python3", "main.py"].map(str::to_owned).to_vec();
/// let done = session.exec(&ExecRequest { argv: Some(argv), ..ExecRequest::default() }).await?;
/// println!("{:?}", done.result);
/// session.delete().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    pub(super) client: Client,
    pub(super) path: String,
}

impl Session {
    /// What it is doing.
    ///
    /// # Errors
    /// There is no such session of this client, as in all the calls below.
    pub async fn show(&self) -> Result<SessionResponse, ClientError> {
        self.client.get(&self.path).await
    }

    /// Changes its labels and times.
    ///
    /// # Errors
    /// The changes are refused.
    pub async fn change(&self, changes: &SessionChanges) -> Result<SessionResponse, ClientError> {
        self.client.send(Method::PATCH, &self.path, changes).await
    }

    /// Ends its programs; its files stay where it is persistent.
    ///
    /// # Errors
    /// It can't be stopped as it is.
    pub async fn stop(&self) -> Result<SessionResponse, ClientError> {
        self.word("stop").await
    }

    /// Freezes its programs.
    ///
    /// # Errors
    /// It can't be paused as it is.
    pub async fn pause(&self) -> Result<SessionResponse, ClientError> {
        self.word("pause").await
    }

    /// Lets its programs go on.
    ///
    /// # Errors
    /// It can't be resumed as it is.
    pub async fn resume(&self) -> Result<SessionResponse, ClientError> {
        self.word("resume").await
    }

    /// Makes it persistent, and holds it to some processors.
    ///
    /// # Errors
    /// It can't be promoted as it is.
    pub async fn promote(&self, request: &PromoteRequest) -> Result<SessionResponse, ClientError> {
        self.post("promote", request).await
    }

    /// Takes that back.
    ///
    /// # Errors
    /// It can't be demoted as it is.
    pub async fn demote(&self) -> Result<SessionResponse, ClientError> {
        self.word("demote").await
    }

    /// Ends it for good, with its files.
    ///
    /// # Errors
    /// It is gone already.
    pub async fn delete(&self) -> Result<(), ClientError> {
        self.remove("").await
    }

    /// Makes another session with its files, or with those of a snapshot.
    ///
    /// # Errors
    /// It is refused, or there is no such snapshot.
    pub async fn fork(&self, request: &ForkRequest) -> Result<SessionResponse, ClientError> {
        self.post("fork", request).await
    }

    /// Keeps its files as they are now.
    ///
    /// # Errors
    /// There are as many snapshots as may be, or the disk is full.
    pub async fn snapshot(&self, request: &SnapshotRequest) -> Result<SnapshotResponse, ClientError> {
        self.post("snapshots", request).await
    }

    /// Its snapshots, oldest first.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn snapshots(&self) -> Result<SnapshotsResponse, ClientError> {
        self.client.get(&format!("{}/snapshots", self.path)).await
    }

    /// Puts its files back to a snapshot; ends its programs.
    ///
    /// # Errors
    /// There is no such snapshot.
    pub async fn rollback(&self, snapshot: u64) -> Result<SessionResponse, ClientError> {
        self.word(&format!("snapshots/{snapshot}/rollback")).await
    }

    /// Removes a snapshot.
    ///
    /// # Errors
    /// There is no such snapshot.
    pub async fn delete_snapshot(&self, snapshot: u64) -> Result<(), ClientError> {
        self.remove(&format!("/snapshots/{snapshot}")).await
    }

    /// Runs a program in it and waits for its end; with `detach`, until it runs.
    ///
    /// # Errors
    /// It is refused.
    pub async fn exec(&self, request: &ExecRequest) -> Result<ExecResponse, ClientError> {
        self.post("execs", request).await
    }

    /// Runs a program in it, and tells what happens while it does. Hanging up ends the program. One that is to be
    /// detached has no events here: [`Session::exec`] starts it, and [`Session::output`] follows it.
    ///
    /// # Errors
    /// It is refused.
    pub async fn exec_streamed(&self, request: &ExecRequest) -> Result<Events<ExecEvent>, ClientError> {
        self.lines(Method::POST, "execs", json(request)).await
    }

    /// Its programs, oldest first.
    ///
    /// # Errors
    /// There is no such session.
    pub async fn execs(&self) -> Result<ExecsResponse, ClientError> {
        self.client.get(&format!("{}/execs", self.path)).await
    }

    /// A program, with what it printed where it has ended.
    ///
    /// # Errors
    /// There is no such program.
    pub async fn show_exec(&self, exec: u64) -> Result<ExecResponse, ClientError> {
        self.client.get(&format!("{}/execs/{exec}", self.path)).await
    }

    /// What a program has printed; with `follow`, until it ends.
    ///
    /// # Errors
    /// There is no such program.
    pub async fn output(&self, exec: u64, follow: bool) -> Result<Events<ExecEvent>, ClientError> {
        self.lines(Method::GET, &format!("execs/{exec}/output?follow={follow}"), Vec::new()).await
    }

    /// Writes to a program's standard input, and closes it where nothing comes behind this.
    ///
    /// # Errors
    /// It reads no more.
    pub async fn write_stdin(&self, exec: u64, bytes: Vec<u8>, close: bool) -> Result<(), ClientError> {
        let path = format!("{}/execs/{exec}/stdin?close={close}", self.path);
        self.client.connect().await?.upload(Method::POST, &path, BYTES, full(bytes)).await.map(drop)
    }

    /// Sends a signal to a program and all that it started.
    ///
    /// # Errors
    /// It has ended.
    pub async fn signal(&self, exec: u64, request: &SignalRequest) -> Result<(), ClientError> {
        let path = format!("{}/execs/{exec}/signal", self.path);
        self.client.call(Method::POST, &path, json(request)).await.map(drop)
    }

    /// Ends a program, and forgets it and what it printed.
    ///
    /// # Errors
    /// There is no such program.
    pub async fn delete_exec(&self, exec: u64) -> Result<(), ClientError> {
        self.remove(&format!("/execs/{exec}")).await
    }

    async fn word<T: DeserializeOwned>(&self, what: &str) -> Result<T, ClientError> {
        understood(&self.client.call(Method::POST, &format!("{}/{what}", self.path), Vec::new()).await?)
    }

    async fn post<T: DeserializeOwned>(&self, what: &str, body: &impl Serialize) -> Result<T, ClientError> {
        self.client.send(Method::POST, &format!("{}/{what}", self.path), body).await
    }

    pub(super) async fn remove(&self, what: &str) -> Result<(), ClientError> {
        self.client.call(Method::DELETE, &format!("{}{what}", self.path), Vec::new()).await.map(drop)
    }

    async fn lines(&self, method: Method, what: &str, body: Vec<u8>) -> Result<Events<ExecEvent>, ClientError> {
        let path = format!("{}/{what}", self.path);
        self.client.events(method, &path, body).await
    }
}
