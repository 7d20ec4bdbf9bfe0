//! The server of one client: which requests there are, and who answers them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use hyper::Method;
use hyper::http::request::Parts;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, Extensions, Implementation, ListResourceTemplatesResult,
    ListResourcesResult, ListToolsResult, PaginatedRequestParams, ReadResourceRequestParams, ReadResourceResponse,
    ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use tokio::sync::Semaphore;

use super::kept::Kept;
use super::own::{Everyone, Own};
use super::progress::Progress;
use super::reply::Trouble;
use super::way::Way;
use super::{resources, tools};
use crate::client::ClientError;

/// Most calls that are carried out at one time, of all clients.
const CALLS: usize = 64;
/// Most users whose sessions are remembered between requests that belong to nothing else.
const USERS: usize = 256;
/// Header by which requests of one client belong together, in the protocol's versions that have it.
const SESSION: &str = "mcp-session-id";

/// What a model is told of the whole before it sees the tools.
const INSTRUCTIONS: &str = "Runs code in sandboxes, in many versions of many languages. For one program that needs \
    nothing of an earlier one, call run_code: it is the fastest, and nothing of it stays. To build something in several \
    steps, call session_create once, and then session_exec, session_code, file_write and file_read with its id; close it \
    by session_close. Programs have limits of time, memory and output, and usually no network: results say which limit \
    was met and what was refused. Install packages by the argument dependencies, not by running pip or npm. Long output \
    is cut in the middle; what was left out can be read as the resource that the result names.";

/// What all clients share.
#[derive(Debug)]
pub(super) struct Shared {
    /// To the service.
    pub(super) way: Way,
    /// Output of the latest runs.
    pub(super) kept: Kept,
    /// Profile of runs and sessions where the server was given one.
    pub(super) profile: Option<String>,
    /// Whether a client may name sessions that it has not made.
    all: bool,
    everyone: Arc<Everyone>,
    calls: Semaphore,
    users: Mutex<BTreeMap<u32, Arc<Own>>>,
}

impl Shared {
    /// Of a server without clients.
    pub(super) fn new(way: Way, profile: Option<String>, all: bool) -> Self {
        Self {
            way,
            kept: Kept::default(),
            profile,
            all,
            everyone: Arc::default(),
            calls: Semaphore::new(CALLS),
            users: Mutex::default(),
        }
    }

    /// Ends the sessions of all clients.
    pub(super) async fn end(&self) {
        self.everyone.end(&self.way).await;
    }

    fn own(&self) -> Arc<Own> {
        Arc::new(Own::new(self.way.clone(), self.all, self.everyone.clone()))
    }

    /// Of a user, whose requests come one by one.
    fn of_user(&self, user: u32) -> Arc<Own> {
        let mut users = self.users.lock().unwrap_or_else(PoisonError::into_inner);
        if users.len() >= USERS && !users.contains_key(&user) {
            // Whoever comes so late has sessions for as long as one request takes.
            return self.own();
        }
        users.entry(user).or_insert_with(|| self.own()).clone()
    }
}

/// The user behind a connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct User(pub(super) u32);

/// What answers one client.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) shared: Arc<Shared>,
    own: Arc<Own>,
}

impl Server {
    /// For one more client.
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let own = shared.own();
        Self { shared, own }
    }

    /// The sessions of whoever asks. Newer versions of the protocol have no sessions of their own over HTTP, each
    /// request there is for itself: those of one Unix user then belong together.
    fn own(&self, extensions: &Extensions) -> Arc<Own> {
        match extensions.get::<Parts>() {
            Some(parts) if !parts.headers.contains_key(SESSION) => match parts.extensions.get::<User>() {
                Some(User(user)) => self.shared.of_user(*user),
                None => self.own.clone(),
            },
            _ => self.own.clone(),
        }
    }

    /// Whether the service keeps sessions; where it can't be asked, the tools themselves tell.
    async fn has_sessions(&self) -> bool {
        match self.shared.way.ask(Method::GET, "/v1/sessions?limit=1", None).await {
            Err(ClientError::Refused(refusal)) => {
                !String::from_utf8_lossy(&refusal.body).contains("urn:codesandbox:problem:no-sessions")
            }
            _ => true,
        }
    }
}

impl ServerHandler for Server {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder().enable_tools().enable_resources().build();
        ServerConfig::new(capabilities)
            .with_server_info(
                Implementation::new("codesandbox", env!("CARGO_PKG_VERSION"))
                    .with_title("codeSandbox")
                    .with_description(env!("CARGO_PKG_DESCRIPTION")),
            )
            .with_instructions(INSTRUCTIONS)
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        tools::all().iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let mut listed = tools::all().to_vec();
        if !self.has_sessions().await {
            // Descriptions of what can't work would only take room from what can.
            listed.retain(|tool| tools::WITHOUT_SESSIONS.contains(&tool.name.as_ref()));
        }
        Ok(ListToolsResult::with_all_items(listed))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if self.get_tool(&request.name).is_none() {
            return Err(ErrorData::invalid_params(format!("there is no tool {:?}", brief(&request.name)), None));
        }
        let Ok(_place) = self.shared.calls.try_acquire() else {
            let trouble =
                Trouble::said(format!("{CALLS} calls are being carried out; call again when some have ended"));
            return Ok(trouble.result().into());
        };
        let (mut progress, own) = (Progress::of(&context), self.own(&context.extensions));
        let arguments = request.arguments.unwrap_or_default();
        let done = tokio::select! {
            biased;
            // What is being done is dropped with its connections, and so cancelled.
            () = context.ct.cancelled() => Err(Trouble::said("it was cancelled")),
            done = tools::call(&request.name, arguments, &self.shared, &own, &mut progress) => done,
        };
        let result: CallToolResult = done.unwrap_or_else(|trouble| trouble.result());
        Ok(result.into())
    }

    async fn list_resources(
        &self,
        _page: Option<PaginatedRequestParams>,
        context: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let own = self.own(&context.extensions);
        Ok(ListResourcesResult::with_all_items(resources::list(&own).await?))
    }

    async fn list_resource_templates(
        &self,
        _page: Option<PaginatedRequestParams>,
        _context: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(resources::templates()))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let own = self.own(&context.extensions);
        tokio::select! {
            biased;
            () = context.ct.cancelled() => Err(ErrorData::internal_error("it was cancelled", None)),
            read = resources::read(&request.uri, &self.shared, &own) => Ok(read?.into()),
        }
    }
}

/// A word of a client in an error that is told to it: no longer than words are.
fn brief(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(100) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()).into(),
        None => text.into(),
    }
}
