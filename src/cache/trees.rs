//! What installers made: on disk as results of compilers are, and in the launcher's memory, where sandboxes see it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::entry::Entry;
use super::key::Key;
use super::{Answer, Cache, Claim, Stats};
use crate::backend::{Backend, BackendError};
use crate::config::Config;
use crate::plan::Archive;

/// Name of their directory in that of the cache.
const DIRECTORY: &str = "dependencies";
/// Most trees of which is known what their installers said, without a look at the disk.
const REMEMBERED: usize = 1024;

/// Handle of all trees; clones share it.
#[derive(Debug, Clone)]
pub struct Trees {
    backend: Backend,
    cache: Cache,
    /// What installers said, in entries without their trees.
    said: Arc<Mutex<HashMap<Key, Arc<Entry>>>>,
}

/// What is known of a tree.
#[derive(Debug)]
pub enum Tree {
    /// It is where sandboxes see it. This is what its installer said, without the tree itself.
    Ready(Arc<Entry>),
    /// It is to be made. Where there is a claim, others wait for what comes of it.
    Unknown(Option<Claim>),
}

impl Trees {
    /// Those that the configuration allows, for sandboxes of this backend.
    #[must_use]
    pub fn new(backend: Backend, config: &Config) -> Self {
        let cache = Cache::named(DIRECTORY, &config.dependencies.cache(&config.cache));
        Self { backend, cache, said: Arc::default() }
    }

    /// Goes by another configuration from now on.
    pub fn configure(&self, config: &Config) {
        self.cache.configure(&config.dependencies.cache(&config.cache));
    }

    /// What they have done and are.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.cache.stats()
    }

    /// Waits until everything that was made is kept.
    pub async fn settle(&self) {
        self.cache.settle().await;
    }

    /// What is known of a tree; waits while another job makes it. May be dropped at any time.
    ///
    /// # Errors
    /// As [`Backend::tree`].
    pub async fn ask(&self, key: Key) -> Result<Tree, BackendError> {
        let said = self.said(&key);
        if let Some(said) = said
            && self.backend.tree(*key.as_bytes(), None).await?
        {
            self.cache.used();
            return Ok(Tree::Ready(said));
        }
        match self.cache.ask(key).await {
            Answer::Miss(claim) => Ok(Tree::Unknown(claim)),
            Answer::Hit(entry) => self.show(key, &entry).await.map(Tree::Ready),
        }
    }

    /// Has a tree be where sandboxes see it.
    ///
    /// # Errors
    /// As [`Backend::tree`].
    pub async fn show(&self, key: Key, entry: &Entry) -> Result<Arc<Entry>, BackendError> {
        if !self.backend.tree(*key.as_bytes(), None).await? {
            self.backend.tree(*key.as_bytes(), Some(&entry.tree)).await?;
        }
        let (files, tree) = (Archive { files: Vec::new() }, Vec::new());
        let (stdout, stderr, denied) = (entry.stdout.clone(), entry.stderr.clone(), entry.denied.clone());
        let said = Arc::new(Entry { stdout, stderr, usage: entry.usage, denied, files, tree });
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED {
            // Which of them are asked for again nobody knows; from disk it takes a moment longer.
            all.clear();
        }
        all.insert(key, Arc::clone(&said));
        Ok(said)
    }

    fn said(&self, key: &Key) -> Option<Arc<Entry>> {
        self.said.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }

    /// Has a tree that was made earlier be where sandboxes see it; false where it is not there any more.
    ///
    /// # Errors
    /// As [`Backend::tree`].
    pub async fn recall(&self, key: Key) -> Result<bool, BackendError> {
        if self.backend.tree(*key.as_bytes(), None).await? {
            return Ok(true);
        }
        match self.cache.ask(key).await {
            // The right to make it is given back at once.
            Answer::Miss(_) => Ok(false),
            Answer::Hit(entry) => self.show(key, &entry).await.map(|_| true),
        }
    }
}
