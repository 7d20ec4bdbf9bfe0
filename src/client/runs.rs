//! Single runs, and what there is to run.

use hyper::Method;

use super::{Client, ClientError, Events, escape, json, understood};
use crate::api::checks::CheckRequest;
use crate::api::wire::{HealthResponse, ProfilesResponse, RunRequest, RunResponse, StreamEvent};
use crate::runtime::Manifest;

const RUN: &str = "/v1/run";

impl Client {
    /// Runs a program; what became of it, whatever that is.
    ///
    /// # Errors
    /// There is no service, or it refused the request or failed.
    pub async fn run(&self, request: &RunRequest) -> Result<RunResponse, ClientError> {
        self.send(Method::POST, RUN, request).await
    }

    /// Runs a program, and tells what happens while it does.
    ///
    /// ```no_run
    /// # use codesandbox::api::wire::{RunRequest, StreamEvent};
    /// # async fn example(client: codesandbox::client::Client, request: RunRequest) -> Result<(), codesandbox::client::ClientError> {
    /// let mut events = client.run_streamed(&request).await?;
    /// while let Some(event) = events.next().await? {
    ///     if let StreamEvent::Stdout(output) = event {
    ///         print!("{}", output.data);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As those of [`Client::run`]; what goes wrong later comes as an event.
    pub async fn run_streamed(&self, request: &RunRequest) -> Result<Events<StreamEvent>, ClientError> {
        self.events(Method::POST, RUN, json(request)).await
    }

    /// Cancels a run, whose id an event or the header of its answer told.
    ///
    /// # Errors
    /// No such run waits or runs any more.
    pub async fn cancel(&self, id: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("/v1/runs/{}", escape(id)), Vec::new()).await.map(drop)
    }

    /// The languages and versions that can be run, with what their last self-tests found.
    ///
    /// # Errors
    /// There is no service.
    pub async fn runtimes(&self) -> Result<Manifest, ClientError> {
        self.get("/v1/runtimes").await
    }

    /// Runs self-tests now; the runtimes that were tested.
    ///
    /// # Errors
    /// There is no service or no such runtime, or nothing can run.
    pub async fn check(&self, request: &CheckRequest) -> Result<Manifest, ClientError> {
        self.send(Method::POST, "/v1/runtimes/check", request).await
    }

    /// The profiles, with their limits.
    ///
    /// # Errors
    /// There is no service.
    pub async fn profiles(&self) -> Result<ProfilesResponse, ClientError> {
        self.get("/v1/profiles").await
    }

    /// Whether jobs can run: also a service in which none can gives this answer.
    ///
    /// # Errors
    /// There is no service.
    pub async fn health(&self) -> Result<HealthResponse, ClientError> {
        match self.get("/health").await {
            Err(ClientError::Refused(refusal)) if refusal.status == 503 => {
                understood(&refusal.body).map_err(|_| ClientError::Refused(refusal))
            }
            answer => answer,
        }
    }

    /// What is counted, as text for Prometheus.
    ///
    /// # Errors
    /// There is no service, or it is asked over TCP.
    pub async fn metrics(&self) -> Result<String, ClientError> {
        let text = self.call(Method::GET, "/metrics", Vec::new()).await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }
}
