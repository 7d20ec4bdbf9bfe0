//! Whether this daemon keeps sessions, and where.

use std::sync::Arc;

use tracing::{info, warn};

use crate::backend::Backend;
use crate::config::Config;
use crate::session::Sessions;
use crate::session::database::DatabaseError;

/// What keeps sessions, where the configuration wants any and there is a place to write them down.
pub(super) async fn open(backend: Backend, config: &Config) -> Result<Option<Sessions>, DatabaseError> {
    let Some(directory) = config.sessions.directory(&|name| std::env::var_os(name)) else {
        info!("no sessions are kept: there may be none, or there is no directory for them");
        return Ok(None);
    };
    match Sessions::open(backend, Arc::new(config.clone()), directory).await {
        Ok(sessions) => Ok(Some(sessions)),
        Err(error @ DatabaseError::InUse { .. }) => {
            // Two that one user has started by hand are no mistake, but only one of them can have these.
            warn!("no sessions are kept: {error}");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
