//! The files of a session: the daemon's client and the worker, which runs here on a thread of its own
//! behind the system call filter that it has in a jail.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

mod archives;
mod attacks;
mod limits;
mod operations;
mod watching;

use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use codesandbox::jail::filter::Filter;
use codesandbox::jail::worker::serve_files;
use codesandbox::plan::FilePath;
use codesandbox::plan::files::{FileError, Place, Span};
use codesandbox::session::files::{self, FilesError};
use codesandbox::sys::seccomp;
use tokio::net::UnixStream;

/// A workspace, and what lies next to it.
struct Ground {
    _directory: tempfile::TempDir,
    workspace: PathBuf,
    outside: PathBuf,
}

impl Ground {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let [workspace, outside] = ["workspace", "outside"].map(|name| directory.path().join(name));
        std::fs::create_dir(&workspace).unwrap();
        std::fs::create_dir(&outside).unwrap();
        Self { _directory: directory, workspace, outside }
    }

    /// The daemon's end of a connection to a new worker.
    fn worker(&self) -> UnixStream {
        worker(&self.workspace).0
    }

    fn path(&self, path: &str) -> PathBuf {
        self.workspace.join(path)
    }

    fn put(&self, path: &str, content: impl AsRef<[u8]>) {
        std::fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        std::fs::write(self.path(path), content).unwrap();
    }

    /// Names in a directory, in order.
    fn names(&self, path: &str) -> Vec<String> {
        names(&self.path(path))
    }
}

fn names(path: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(path).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Starts a worker behind its filter; the thread ends with its exit code.
fn worker(workspace: &Path) -> (UnixStream, JoinHandle<u8>) {
    let workspace = File::open(workspace).unwrap();
    let (ours, socket) = std::os::unix::net::UnixStream::pair().unwrap();
    let filter = Filter::of_worker().unwrap();
    let thread = std::thread::spawn(move || {
        seccomp::no_new_privileges().unwrap();
        seccomp::install_plain(filter.program()).unwrap();
        serve_files(workspace.as_fd(), socket)
    });
    ours.set_nonblocking(true).unwrap();
    (UnixStream::from_std(ours).unwrap(), thread)
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn path(path: &str) -> FilePath {
    FilePath::try_from(path.as_bytes().to_vec()).unwrap()
}

fn place(path: &str) -> Place {
    Place::try_from(path.as_bytes().to_vec()).unwrap()
}

/// A body of these parts.
fn body(parts: &[&[u8]]) -> impl futures_util::Stream<Item = io::Result<Vec<u8>>> + Unpin + use<> {
    let parts: Vec<io::Result<Vec<u8>>> = parts.iter().map(|part| Ok(part.to_vec())).collect();
    futures_util::stream::iter(parts)
}

async fn read_all(ground: &Ground, name: &str) -> Result<Vec<u8>, FilesError> {
    let mut read = files::read(ground.worker(), path(name), Span::From(0, None)).await?;
    let mut bytes = Vec::new();
    while let Some(part) = read.content.next().await? {
        bytes.extend(part);
    }
    Ok(bytes)
}

/// The refusal in a result.
fn refusal<T: std::fmt::Debug>(result: Result<T, FilesError>) -> FileError {
    match result {
        Err(FilesError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}
