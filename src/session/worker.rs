//! Workers: code of ours that runs in the sandbox of a session, behind the same walls as its programs.

use std::io;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::UnixStream;

use super::live::Live;
use super::record::SessionRecord;
use super::types::SessionError;
use super::{Sessions, Shared};
use crate::backend::ExecPurpose;
use crate::config::Config;
use crate::plan::Spec;
use crate::profile::Limits;
use crate::sys::socket;

/// A stream to a worker that does one thing with the files of a session; [`super::files`] has what is spoken on it.
/// Until it is dropped they may change at any time.
#[derive(Debug)]
pub struct FilesWorker {
    stream: UnixStream,
    live: Arc<Live>,
}

impl FilesWorker {
    fn new(stream: UnixStream, live: &Arc<Live>) -> Self {
        live.state().files_workers += 1;
        Self { stream, live: Arc::clone(live) }
    }
}

impl Drop for FilesWorker {
    fn drop(&mut self) {
        let mut state = self.live.state();
        state.files_workers -= 1;
        // What was saved meanwhile may be half of what it did.
        state.changed();
    }
}

impl AsyncRead for FilesWorker {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for FilesWorker {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl Sessions {
    /// A stream to a worker that does one thing with the files of a session.
    ///
    /// # Errors
    /// [`SessionError`].
    pub async fn files(&self, client: &str, id: &str) -> Result<FilesWorker, SessionError> {
        let live = self.shared.find(client, id)?;
        let stream = self.shared.worker(&live, "files").await?;
        Ok(FilesWorker::new(stream, &live))
    }
}

impl Shared {
    /// A stream to code of ours that runs in the session's sandbox.
    pub(super) async fn worker(self: &Arc<Self>, live: &Arc<Live>, name: &str) -> Result<UnixStream, SessionError> {
        let _in_use = self.ready(live).await?;
        let (number, limits) = {
            let mut state = live.state();
            // Any of them may change files.
            state.changed();
            (state.worker(), worker_limits(&self.config(), &state.record))
        };
        self.open_worker(live.id.bytes(), number, name, limits).await
    }

    /// The same in any session of the launcher's.
    pub(super) async fn open_worker(
        &self,
        session: crate::backend::SessionKey,
        number: u64,
        name: &str,
        limits: Limits,
    ) -> Result<UnixStream, SessionError> {
        let spec = Spec::new(&[name.to_owned()], &std::collections::BTreeMap::new());
        let keeper = self.keeper_now()?;
        let ends = keeper.execute(session, number, &spec, &limits, ExecPurpose::Worker, &[]).await?;
        let end = ends.into_iter().next().ok_or_else(|| SessionError::Internal("a worker has no socket".to_owned()))?;
        socket::set_nonblocking(end.as_fd()).map_err(|errno| SessionError::Internal(errno.to_string()))?;
        UnixStream::from_std(end.into()).map_err(|error| SessionError::Internal(error.to_string()))
    }
}

/// Limits of a worker: those of its session, but that it may take as long as anything may. One whose client
/// is gone ends at once.
pub(super) fn worker_limits(config: &Config, record: &SessionRecord) -> Limits {
    let wall_time_ms = config.profiles.get(&record.profile).map_or(0, |profile| profile.maximum.wall_time_ms);
    Limits { wall_time_ms: wall_time_ms.max(record.limits.wall_time_ms), ..record.limits }
}
