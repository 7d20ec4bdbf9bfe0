//! Reads the configuration: at start, to check it, and again while the daemon serves.

use std::path::Path;
use std::sync::Arc;

use nix::unistd::User;
use tracing::{error, info, warn};

use crate::api;
use crate::config::{Config, ConfigError};
use crate::runtime::Catalogue;

use super::DaemonError;

/// The configuration in a file, or the defaults, and the runtimes that this host has by it.
///
/// # Errors
/// The file or the manifest that it names can't be read or used.
pub fn load(path: Option<&Path>) -> Result<(Config, Catalogue), DaemonError> {
    let source = Source::read(path)?;
    let mut config = source.parse()?;
    source.explain(config.clients.resolve(&user_id).map_err(ConfigError::from))?;
    let manifest = source.explain(config.manifest())?;
    let catalogue = source.explain(config.catalogue(manifest.as_deref(), &|path| path.exists()))?;
    Ok((config, catalogue))
}

/// The text of a configuration, and where it comes from.
struct Source<'a> {
    path: Option<&'a Path>,
    text: String,
}

impl<'a> Source<'a> {
    fn read(path: Option<&'a Path>) -> Result<Self, DaemonError> {
        Ok(Self { path, text: path.map(read).transpose()?.unwrap_or_else(|| "{}".to_owned()) })
    }

    fn parse(&self) -> Result<Config, DaemonError> {
        self.explain(Config::parse(&self.text))
    }

    /// Adds file and line to what is wrong.
    fn explain<T>(&self, result: Result<T, ConfigError>) -> Result<T, DaemonError> {
        result.map_err(|error| error.located(self.path, &self.text).into())
    }
}

fn read(path: &Path) -> Result<String, DaemonError> {
    std::fs::read_to_string(path).map_err(|error| DaemonError::File { path: path.to_owned(), error })
}

/// The id of a user of this host; getpwnam_r(3).
fn user_id(name: &str) -> std::io::Result<Option<u32>> {
    Ok(User::from_name(name)?.map(|user| user.uid.as_raw()))
}

/// Checks what can be checked on another host than the one that the configuration is for: trees,
/// programs and users count as there, and a manifest is read if it is.
pub(super) fn check(path: Option<&Path>) -> Result<(), DaemonError> {
    let source = Source::read(path)?;
    let config = source.parse()?;
    let is_here = config.runtimes.manifest.as_deref().is_some_and(Path::exists);
    let manifest = if is_here { source.explain(config.manifest())? } else { None };
    source.explain(config.catalogue(manifest.as_deref(), &|_| true))?;
    println!("ok: {} profiles, {} languages", config.profiles.len(), config.languages.len());
    if let (Some(path), None) = (&config.runtimes.manifest, &manifest) {
        println!("not checked, because it is not here: {}", path.display());
    }
    Ok(())
}

/// Takes up a changed configuration; jobs that wait or run go on as they were accepted. Whether there
/// was one: what can't be used is told to the journal, and changes nothing.
pub(super) async fn anew(path: Option<&Path>, state: &api::State) -> bool {
    let (config, mut catalogue) = match load(path) {
        Ok(loaded) => loaded,
        Err(error) => {
            // In the text: whoever reads the journal line by line sees no fields.
            error!("the configuration can't be used, and the old one stays: {error}");
            return false;
        }
    };
    // The launcher first: what is asked of it from now on it must know.
    if let Err(error) = state.scheduler.reload(&config).await {
        warn!("the launcher will read the configuration when it is back: {error}");
    }
    catalogue.inherit(&state.runtimes());
    let runtimes = catalogue.runtimes().len();
    if let Some(sessions) = &state.sessions {
        sessions.reconfigure(Arc::new(config.clone()));
    }
    state.replace(config, catalogue);
    info!(runtimes, "the configuration is read anew");
    true
}
