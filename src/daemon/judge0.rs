//! Whether this daemon speaks Judge0, and where submissions are kept.

use tracing::{info, warn};

use crate::api::compat::judge0::{Judge0, StoreError};
use crate::config::Config;
use crate::network::uplink::reach;

/// What keeps submissions, where the configuration wants any.
pub(super) fn open(config: &Config) -> Result<Option<Judge0>, StoreError> {
    if !config.judge0.enable {
        return Ok(None);
    }
    let directory = config.judge0.directory(&config.sessions, &|name| std::env::var_os(name));
    if directory.is_none() {
        info!("submissions are gone with this process: there is no directory for them");
    }
    match Judge0::open(directory.as_deref(), reach::is_own) {
        // Two that one user has started by hand are no mistake, but only one of them can have these.
        Err(error @ StoreError::InUse(_)) => {
            warn!("submissions are gone with this process: {error}");
            Judge0::open(None, reach::is_own).map(Some)
        }
        opened => opened.map(Some),
    }
}
