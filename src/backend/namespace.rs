//! The native backend: a client of the launcher's protocol.
//!
//! One connection carries all sandboxes. A task reads answers and hands them to the lease that they
//! name; when the connection breaks, every lease learns that its sandbox is gone, and the next
//! [`Namespace::open`] connects anew.

use std::collections::{HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno as Number;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use super::{BackendError, News, Order, Started, Tidings};
use crate::jail::init::UnpackError;
use crate::job::EnforcedBy;
use crate::launcher::protocol::{MESSAGE_BYTES, Reach, Reply, Request, TreeState, VERSION};
use crate::plan::tree::{self, Part, TreeKey};
use crate::plan::{Archive, Cause, Spec, Wanted};
use crate::profile::{Limits, Network};
use crate::runtime::Checked;
use crate::sys::{fs, socket};

mod sessions;

pub use sessions::Keeper;

/// A launcher, connected or not.
#[derive(Debug, Clone)]
pub struct Namespace {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Where to connect; `None` for a launcher that serves this process alone.
    path: Option<PathBuf>,
    link: Mutex<Option<Arc<Link>>>,
    next_lease: AtomicU64,
    /// What self-tests found, by runtime: a launcher that was started anew is told again.
    records: Mutex<HashMap<String, Request>>,
}

impl Shared {
    fn new(path: Option<PathBuf>, link: Option<Arc<Link>>) -> Arc<Self> {
        Arc::new(Self {
            path,
            link: Mutex::new(link),
            next_lease: AtomicU64::new(1),
            records: Mutex::new(HashMap::new()),
        })
    }
}

/// A reply and the descriptors that came with it.
type Answer = (Reply, Vec<OwnedFd>);

/// One connection.
#[derive(Debug)]
struct Link {
    socket: AsyncFd<OwnedFd>,
    /// Where the answers for each lease go; `None` once the connection is broken.
    routes: Mutex<Option<HashMap<u64, mpsc::UnboundedSender<Answer>>>>,
    enforced_by: Mutex<Option<EnforcedBy>>,
    tidings: sessions::Routes,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way; a poisoned one is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Namespace {
    pub(super) fn connect(path: PathBuf) -> Self {
        Self { shared: Shared::new(Some(path), None) }
    }

    pub(super) fn adopt(socket: OwnedFd) -> Result<Self, BackendError> {
        let link = Link::over(socket)?;
        Ok(Self { shared: Shared::new(None, Some(link)) })
    }

    pub(super) fn is_available(&self) -> bool {
        self.link().is_ok()
    }

    pub(super) fn enforced_by(&self) -> Option<EnforcedBy> {
        self.link().ok().and_then(|link| *locked(&link.enforced_by))
    }

    /// The connection, made anew where it is broken.
    fn link(&self) -> Result<Arc<Link>, BackendError> {
        let mut link = locked(&self.shared.link);
        if let Some(link) = link.as_ref().filter(|link| locked(&link.routes).is_some()) {
            return Ok(Arc::clone(link));
        }
        let path = self.shared.path.as_deref().ok_or(BackendError::Gone)?;
        let socket = socket::connect_seqpacket(path).map_err(|_| BackendError::Gone)?;
        // It may have been started with an older configuration than ours. Before anything else is asked.
        let reload = postcard::to_allocvec(&Request::Reload).map_err(|_| BackendError::Gone)?;
        socket::send(socket.as_fd(), &reload, &[]).map_err(|_| BackendError::Gone)?;
        let made = Link::over(socket)?;
        *link = Some(Arc::clone(&made));
        let (told, records) = (Arc::clone(&made), locked(&self.shared.records).values().cloned().collect::<Vec<_>>());
        if !records.is_empty() {
            tokio::spawn(async move {
                for record in records {
                    // The error means that it is gone again; the next one is told.
                    told.send(&record, &[]).await.ok();
                }
            });
        }
        Ok(made)
    }

    pub(super) async fn open(&self, order: &Order) -> Result<Lease, BackendError> {
        let link = self.link()?;
        let lease = self.shared.next_lease.fetch_add(1, Ordering::Relaxed);
        let replies = link.answers_to(lease)?;
        let lease = Lease { id: lease, link, replies, open: true };
        let (reach, given) = reach(order.network.as_ref())?;
        // Nothing is waited for: the launcher does what it is asked for in order.
        let request = Request::Open { lease: lease.id, sandbox: order.sandbox.clone(), reach };
        lease.send(&request, &given.iter().map(AsFd::as_fd).collect::<Vec<_>>()).await?;
        Ok(lease)
    }

    pub(super) async fn tree(&self, key: TreeKey, given: Option<&[u8]>) -> Result<bool, BackendError> {
        let link = self.link()?;
        let lease = self.shared.next_lease.fetch_add(1, Ordering::Relaxed);
        let mut replies = link.answers_to(lease)?;
        let size = given.map(tree_size).transpose()?;
        let memory = given.map(|bytes| sealed(c"tree", bytes)).transpose()?;
        let descriptors: Vec<BorrowedFd<'_>> = memory.iter().map(AsFd::as_fd).collect();
        link.send(&Request::Tree { lease, key, size }, &descriptors).await?;
        match replies.recv().await.ok_or(BackendError::Gone)?.0 {
            Reply::Tree { state: TreeState::Ready, .. } => Ok(true),
            Reply::Tree { state: TreeState::Absent, .. } => Ok(false),
            Reply::Tree { state: TreeState::Failed(reason), .. } => Err(BackendError::Failed(reason)),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn keep(&self) -> Result<(Keeper, mpsc::UnboundedReceiver<Tidings>), BackendError> {
        Keeper::over(self.link()?).await
    }

    pub(super) async fn reload(&self) -> Result<(), BackendError> {
        self.link()?.send(&Request::Reload, &[]).await
    }

    pub(super) async fn record(&self, runtime: &str, checked: &Checked) -> Result<(), BackendError> {
        let request = Request::Record { runtime: runtime.to_owned(), checked: checked.clone() };
        locked(&self.shared.records).insert(runtime.to_owned(), request.clone());
        self.link()?.send(&request, &[]).await
    }
}

impl Link {
    fn over(socket: OwnedFd) -> Result<Arc<Self>, BackendError> {
        socket::set_nonblocking(socket.as_fd()).map_err(|_| BackendError::Gone)?;
        let link = Arc::new(Self {
            socket: socket::watched(socket).map_err(|_| BackendError::Gone)?,
            routes: Mutex::new(Some(HashMap::new())),
            enforced_by: Mutex::new(None),
            tidings: sessions::Routes::default(),
        });
        tokio::spawn(Arc::clone(&link).read());
        Ok(link)
    }

    /// Where answers come that name this lease.
    fn answers_to(&self, lease: u64) -> Result<mpsc::UnboundedReceiver<Answer>, BackendError> {
        let (sender, replies) = mpsc::unbounded_channel();
        match locked(&self.routes).as_mut() {
            Some(routes) => drop(routes.insert(lease, sender)),
            None => return Err(BackendError::Gone),
        }
        Ok(replies)
    }

    async fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), BackendError> {
        let bytes = encoded(request)?;
        let sent = self.socket.async_io(Interest::WRITABLE, |socket| {
            socket::send(socket.as_fd(), &bytes, descriptors).map_err(|error| socket::would_block(error.errno))
        });
        sent.await.map_err(|_| BackendError::Gone)
    }

    /// Hands answers to their leases until the launcher is gone.
    async fn read(self: Arc<Self>) {
        let mut buffer = vec![0; MESSAGE_BYTES];
        loop {
            let received = self.socket.async_io(Interest::READABLE, |socket| {
                socket::receive(socket.as_fd(), &mut buffer).map_err(|error| socket::would_block(error.errno))
            });
            let (length, descriptors) = match received.await {
                Ok(message) if message.length > 0 => (message.length, message.descriptors),
                _ => break,
            };
            match postcard::from_bytes(buffer.get(..length).unwrap_or_default()) {
                Ok(Reply::Welcome { version: VERSION, enforced_by }) => *locked(&self.enforced_by) = Some(enforced_by),
                Ok(Reply::Welcome { version, .. }) => {
                    tracing::error!("the launcher speaks version {version} of the protocol, this daemon {VERSION}");
                    break;
                }
                Ok(Reply::Session { session, ticket, event }) => {
                    self.tidings.take(ticket, Tidings { session, event, descriptors });
                }
                Ok(reply) => self.route(reply, descriptors),
                Err(_) => break,
            }
        }
        // Every lease that waits hears that nobody will answer.
        locked(&self.routes).take();
        self.tidings.close();
    }

    fn route(&self, reply: Reply, descriptors: Vec<OwnedFd>) {
        let mut routes = locked(&self.routes);
        let Some(routes) = routes.as_mut() else {
            return;
        };
        let (lease, last) = match &reply {
            Reply::Welcome { .. } | Reply::Session { .. } => return,
            Reply::Closed { lease } | Reply::Failed { lease, .. } | Reply::Tree { lease, .. } => (*lease, true),
            Reply::Started { lease, .. }
            | Reply::NotUnpacked { lease, .. }
            | Reply::Denied { lease, .. }
            | Reply::Renewed { lease }
            | Reply::Ended { lease, .. } => (*lease, false),
        };
        let Some(route) = routes.get(&lease) else {
            return;
        };
        // A lease that was dropped does not want to know.
        route.send((reply, descriptors)).ok();
        if last {
            routes.remove(&lease);
        }
    }
}

fn unexpected(reply: Reply) -> BackendError {
    match reply {
        Reply::Failed { reason, had_begun, .. } => BackendError::Lost { reason, had_begun },
        other => BackendError::Failed(format!("the launcher answered out of order: {other:?}")),
    }
}

/// A sandbox of this launcher. Dropping it without [`Lease::close`] ends it too.
#[derive(Debug)]
pub struct Lease {
    id: u64,
    link: Arc<Link>,
    replies: mpsc::UnboundedReceiver<Answer>,
    open: bool,
}

impl Lease {
    async fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Result<(), BackendError> {
        self.link.send(request, descriptors).await
    }

    async fn next(&mut self) -> Result<Answer, BackendError> {
        let reply = self.replies.recv().await.ok_or(BackendError::Gone)?;
        if matches!(reply.0, Reply::Closed { .. } | Reply::Failed { .. }) {
            self.open = false;
        }
        Ok(reply)
    }

    pub(super) async fn execute(
        &mut self,
        spec: &Spec,
        limits: &Limits,
        files: Option<&Archive>,
    ) -> Result<Started, BackendError> {
        let memory = sealed(c"arguments", &spec.encode())?;
        let archive = files.map(|files| sealed(c"files", &encoded(files)?)).transpose()?;
        let descriptors: Vec<BorrowedFd<'_>> =
            [Some(&memory), archive.as_ref()].into_iter().flatten().map(AsFd::as_fd).collect();
        self.send(&Request::Execute { lease: self.id, limits: *limits }, &descriptors).await?;
        let answer = loop {
            match self.next().await? {
                // What was refused to whatever ran before is nobody's any more.
                (Reply::Denied { .. }, _) => {}
                answer => break answer,
            }
        };
        match answer {
            (Reply::Started { path, .. }, descriptors) => {
                let [stdin, stdout, stderr]: [OwnedFd; 3] = descriptors
                    .try_into()
                    .map_err(|_| BackendError::Failed("a program was started without its streams".to_owned()))?;
                Ok(Started { path, stdin: stdin.into(), stdout: stdout.into(), stderr: stderr.into() })
            }
            (other, _) => Err(unexpected(other)),
        }
    }

    pub(super) async fn news(&mut self) -> Result<News, BackendError> {
        match self.next().await?.0 {
            Reply::Denied { flows, .. } => Ok(News::Denied(flows)),
            Reply::Ended { ending, .. } => Ok(News::Ended(Box::new(ending))),
            Reply::NotUnpacked { error: UnpackError::File { index, errno }, .. } => Err(BackendError::Input {
                index: usize::try_from(index).unwrap_or(usize::MAX),
                reason: Number::from_raw(errno).desc().to_owned(),
            }),
            Reply::NotUnpacked { error: UnpackError::Malformed, .. } => {
                Err(BackendError::Failed("init could not read the archive of files".to_owned()))
            }
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn kill(&self, cause: Cause) -> Result<(), BackendError> {
        self.send(&Request::Kill { lease: self.id, cause }, &[]).await
    }

    pub(super) async fn signal(&self, signal: i32) -> Result<(), BackendError> {
        self.send(&Request::Signal { lease: self.id, signal }, &[]).await
    }

    pub(super) async fn collect(&mut self, wanted: &Wanted, pipe: OwnedFd) -> Result<(), BackendError> {
        let memory = sealed(c"wanted", &encoded(wanted)?)?;
        self.send(&Request::Collect { lease: self.id }, &[memory.as_fd(), pipe.as_fd()]).await
    }

    pub(super) async fn renew(&self) -> Result<(), BackendError> {
        self.send(&Request::Renew { lease: self.id }, &[]).await
    }

    pub(super) async fn renewed(&mut self) -> Result<(), BackendError> {
        match self.next().await?.0 {
            Reply::Renewed { .. } => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    pub(super) async fn close(mut self) -> Result<(), BackendError> {
        self.send(&Request::Close { lease: self.id }, &[]).await?;
        while self.open {
            self.next().await?;
        }
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.open || locked(&self.link.routes).is_none() {
            return;
        }
        let (link, lease) = (Arc::clone(&self.link), self.id);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move { link.send(&Request::Close { lease }, &[]).await.ok() });
        }
    }
}

/// How the launcher is told what a sandbox can reach, and the memory file that goes with it.
fn reach(network: Option<&Network>) -> Result<(Reach, Option<OwnedFd>), BackendError> {
    let Some(network) = network else {
        return Ok((Reach::AsProfile, None));
    };
    let text = serde_json::to_vec(network).map_err(|error| BackendError::Failed(error.to_string()))?;
    Ok((Reach::Given, Some(sealed(c"network", &text)?)))
}

/// Bytes and files that a tree takes, in whole pages: directories and links take one each.
fn tree_size(bytes: &[u8]) -> Result<(u64, u64), BackendError> {
    const PAGE_BYTES: u64 = 4096;
    let parts = tree::parts(bytes).map_err(|error| BackendError::Failed(error.to_string()))?;
    let (mut pages, mut names) = (1, HashSet::new());
    for part in &parts {
        let (path, length) = match part {
            Part::Directory(path) => (path, 0),
            Part::File { path, content, .. } => (path, content.len() as u64),
            Part::Link { path, target } => (path, target.len() as u64),
        };
        let path = path.as_bytes();
        pages += length.div_ceil(PAGE_BYTES).max(1);
        names.insert(path);
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        names.extend(ends.filter_map(|end| path.get(..end)));
    }
    let files = names.len() as u64;
    Ok(((pages + files) * PAGE_BYTES, files))
}

fn encoded(value: &impl serde::Serialize) -> Result<Vec<u8>, BackendError> {
    postcard::to_allocvec(value).map_err(|error| BackendError::Failed(error.to_string()))
}

fn sealed(name: &std::ffi::CStr, bytes: &[u8]) -> Result<OwnedFd, BackendError> {
    fs::sealed_memory(name, bytes).map_err(|errno| BackendError::Failed(errno.to_string()))
}
