//! Files of a session.

use hyper::Method;
use hyper::body::Bytes;

use super::connection::BYTES;
use super::sessions::Session;
use super::{ClientError, escape, full, json};
use crate::api::sessions::files_wire::{DirectoryRequest, EntryResponse, ListResponse, TransferRequest};

impl Session {
    /// A file, whole, from its path below `/workspace`.
    ///
    /// # Errors
    /// There is no such file, or it is larger than fits into memory here: 512 MiB.
    pub async fn read_file(&self, path: &str) -> Result<Bytes, ClientError> {
        self.client.call(Method::GET, &self.file("file", path), Vec::new()).await
    }

    /// Writes a file, whole; one that is there is replaced.
    ///
    /// # Errors
    /// It can't be there, or the disk is full.
    pub async fn write_file(&self, path: &str, bytes: Vec<u8>) -> Result<(), ClientError> {
        let path = self.file("file", path);
        self.client.connect().await?.upload(Method::PUT, &path, BYTES, full(bytes)).await.map(drop)
    }

    /// What is at a path.
    ///
    /// # Errors
    /// Nothing is.
    pub async fn stat(&self, path: &str) -> Result<EntryResponse, ClientError> {
        self.client.get(&self.file("stat", path)).await
    }

    /// What is in a directory, where it is `None` in `/workspace` itself, and below it as deep as is asked for: from 1.
    ///
    /// # Errors
    /// There is no such directory.
    pub async fn list_files(&self, path: Option<&str>, depth: u32) -> Result<ListResponse, ClientError> {
        let path = path.map(|path| format!("&path={}", escape(path))).unwrap_or_default();
        self.client.get(&format!("{}/fs/list?depth={depth}{path}", self.path)).await
    }

    /// Makes a directory, and those above it.
    ///
    /// # Errors
    /// There is something else.
    pub async fn make_directory(&self, request: &DirectoryRequest) -> Result<(), ClientError> {
        self.tell("fs/mkdir", json(request)).await
    }

    /// Gives a file or a directory another path.
    ///
    /// # Errors
    /// It is not there, or something else is.
    pub async fn move_file(&self, request: &TransferRequest) -> Result<(), ClientError> {
        self.tell("fs/move", json(request)).await
    }

    /// Copies a file, or a directory with all that is in it.
    ///
    /// # Errors
    /// It is not there, something else is, or the disk is full.
    pub async fn copy_file(&self, request: &TransferRequest) -> Result<(), ClientError> {
        self.tell("fs/copy", json(request)).await
    }

    /// Removes a file; a directory only where all in it may go as well.
    ///
    /// # Errors
    /// It is not there, or is not empty.
    pub async fn remove_file(&self, path: &str, recursive: bool) -> Result<(), ClientError> {
        self.remove(&format!("/fs/file?path={}&recursive={recursive}", escape(path))).await
    }

    fn file(&self, what: &str, path: &str) -> String {
        format!("{}/fs/{what}?path={}", self.path, escape(path))
    }

    async fn tell(&self, what: &str, body: Vec<u8>) -> Result<(), ClientError> {
        self.client.call(Method::POST, &format!("{}/{what}", self.path), body).await.map(drop)
    }
}
