//! Workers: code of ours that runs inside a session's jail as the program's user, behind the same
//! walls, and serves the daemon one operation over a socket.
//!
//! A worker can do nothing that a program of the session could not. It works by descriptors all the
//! same, so that what programs do meanwhile makes an operation fail, not go elsewhere.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;

use nix::sys::signal::Signal;

use crate::sys::{Call, Result, process};

mod connect;
mod files;

pub use connect::serve_connect;
pub use files::serve_files;

/// A worker that has what it needs.
#[derive(Debug)]
pub(super) struct Worker {
    socket: UnixStream,
    workspace: File,
}

impl Worker {
    /// Takes the socket that is its standard input, and opens the workspace.
    pub(super) fn prepare() -> Result<Self> {
        // A file that would be too large is told to the client.
        process::ignore(Signal::SIGXFSZ)?;
        process::ignore(Signal::SIGPIPE)?;
        let socket = process::inherited(0).map(UnixStream::from)?;
        // As a place only: that it keeps its owner out is for the operation to tell.
        let mut place = OpenOptions::new();
        place.read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY);
        Ok(Self { socket, workspace: place.open("/workspace").call("open")? })
    }

    /// Does what a worker of this name does; the status that it ends with.
    pub(super) fn serve(self, name: &[u8]) -> i32 {
        let status = match name {
            b"files" => serve_files(self.workspace.as_fd(), self.socket),
            b"connect" => serve_connect(self.socket),
            _ => 1,
        };
        i32::from(status)
    }
}
