//! Files that requests may name in place of bringing them again.

use hyper::Method;
use hyper::body::Bytes;

use super::connection::BYTES;
use super::{Client, ClientError, escape, full, understood};
use crate::api::uploads::{FileUploaded, FilesKept};

const FILES: &str = "/v1/files";

impl Client {
    /// Keeps a file; its id is good in `content_file`, `stdin_file` and `expected_file` of requests.
    ///
    /// # Errors
    /// It is too large, the client has as many as it may, or none are kept here.
    pub async fn upload(&self, bytes: Vec<u8>) -> Result<FileUploaded, ClientError> {
        understood(&self.connect().await?.upload(Method::POST, FILES, BYTES, full(bytes)).await?)
    }

    /// The client's files.
    ///
    /// # Errors
    /// None are kept here.
    pub async fn uploads(&self) -> Result<FilesKept, ClientError> {
        self.get(FILES).await
    }

    /// The bytes of one.
    ///
    /// # Errors
    /// There is no such file of this client.
    pub async fn uploaded(&self, id: &str) -> Result<Bytes, ClientError> {
        self.call(Method::GET, &format!("{FILES}/{}", escape(id)), Vec::new()).await
    }

    /// Removes one.
    ///
    /// # Errors
    /// There is no such file of this client.
    pub async fn remove_upload(&self, id: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, &format!("{FILES}/{}", escape(id)), Vec::new()).await.map(drop)
    }
}
