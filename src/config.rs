//! The configuration: one JSON file over defaults that are data. Unknown and missing keys are
//! errors; what a file does not say has its default in `profiles/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

use crate::profile::{self, OutOfRange, Profile};
use crate::runtime::{self, Catalogue, Language, SourceError, Sources, StoreManifest};
use cache::{Cache, CacheError};
use clients::{Clients, ClientsError};
use dependencies::{Dependencies, DependenciesError};
use judge0::{Judge0, Judge0Error};
use network::{Network, NetworkError};
use piston::{Piston, PistonError};
use secrets::{Secret, SecretsError};
use sessions::{Sessions, SessionsError};
use tcp::{Tcp, TcpError};

pub mod cache;
pub mod clients;
pub mod dependencies;
pub mod judge0;
pub mod network;
pub mod piston;
mod place;
mod pool;
pub mod secrets;
pub mod sessions;
pub mod tcp;
pub mod tokens;

pub use pool::{Pool, RuntimePool};

/// Exit status of a program whose configuration can't be used: EX_CONFIG of sysexits.h.
pub const EXIT_CONFIG: u8 = 78;

const SERVICE: &str = include_str!("../profiles/service.toml");

/// The whole configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where runtimes are found.
    pub runtimes: Sources,
    /// The daemon.
    pub service: Service,
    /// What compilers made, to be used again.
    pub cache: Cache,
    /// What sandboxes need that may reach something.
    pub network: Network,
    /// Secrets by name, of which profiles say who has them.
    pub secrets: BTreeMap<String, Secret>,
    /// Packages that jobs and sessions ask for.
    pub dependencies: Dependencies,
    /// The launcher.
    pub launcher: Launcher,
    /// Sandboxes that wait.
    pub pool: Pool,
    /// Sandboxes that outlive a request.
    pub sessions: Sessions,
    /// The dialect of Judge0.
    pub judge0: Judge0,
    /// Those who speak to this service as to Piston.
    pub piston: Piston,
    /// Clients by name.
    pub clients: Clients,
    /// Whether clients may come over TCP.
    pub tcp: Tcp,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Languages, by name.
    pub languages: Vec<Arc<Language>>,
}

/// Section `service`: the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// Sandboxes that run at one time; 0 means one for each processor.
    pub concurrency: usize,
    /// Memory limits of all running sandboxes together, in bytes; 0 means three quarters of the
    /// host's memory.
    pub memory_budget_bytes: u64,
    /// Jobs that wait.
    pub queue_length: usize,
    /// Of these, from one user.
    pub queue_length_per_client: usize,
    /// Largest request, in bytes.
    pub body_bytes: usize,
    /// Most files in a request.
    pub input_files: usize,
    /// Most cases in a request that a program is judged by.
    pub cases: usize,
    /// Files that clients have uploaded, all together, in bytes; 0 means that there are none.
    pub uploads_bytes: u64,
    /// Of these, those of one client.
    pub uploads_bytes_per_client: u64,
    /// How long one is kept that nobody uses, in milliseconds.
    pub uploads_keep_ms: u64,
    /// Arguments and environment of a stage together, in bytes.
    pub arguments_bytes: usize,
    /// Time that running jobs have after SIGTERM, in milliseconds.
    pub stop_deadline_ms: u64,
    /// Whether all runtimes are tested when the daemon starts.
    pub check_at_start: bool,
    /// Limits on files handed out.
    pub outputs: Outputs,
}

/// Section `service.outputs`: limits on files handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outputs {
    /// Most files.
    pub files: u64,
    /// Most bytes in all files together.
    pub bytes: u64,
    /// Most directories above a file.
    pub depth: u64,
    /// Most directory entries that are looked at.
    pub entries: u64,
    /// Most time for all of it, in milliseconds.
    pub time_ms: u64,
}

/// Section `launcher`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Launcher {
    /// First of the host ids that sandboxes use, where no subordinate range is given to the user.
    pub id_base: u32,
    /// How many ids; each sandbox takes three.
    pub id_count: u32,
    /// Most sandboxes that live at one time.
    pub sandboxes: usize,
    /// Where no cgroup counts: how often init adds up what the program uses, in microseconds.
    pub sample_interval_us: u64,
}

/// A configuration that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// It is not JSON.
    #[error("this is not JSON: {0}")]
    Syntax(serde_json::Error),
    /// A key stands twice.
    #[error("{key}: this key stands twice in one object; keep one")]
    Repeated {
        /// The key.
        key: String,
        /// The line of its second place.
        line: usize,
    },
    /// A key is unknown, is missing, or has a value of the wrong kind.
    #[error("{key}: {error}")]
    Shape {
        /// Which, or what is around it.
        key: String,
        /// What is wrong.
        error: serde_json::Error,
    },
    /// A profile contradicts itself.
    #[error("profiles.{profile}.{section}: {error}")]
    Profile {
        /// Name of the profile.
        profile: String,
        /// Which of its sections.
        section: &'static str,
        /// The limit at fault.
        error: OutOfRange,
    },
    /// A profile names a filter that does not exist.
    #[error("profiles.{profile}.seccomp: there is no system call filter {filter:?}; there are {}", filters())]
    UnknownFilter {
        /// Name of the profile.
        profile: String,
        /// Name of the filter.
        filter: String,
    },
    /// The cache can't be as it is asked for.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The network can't be as it is asked for.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// Secrets can't be as they are asked for.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// Packages can't be installed as they are to be.
    #[error(transparent)]
    Dependencies(#[from] DependenciesError),
    /// Sessions can't be as they are asked for.
    #[error(transparent)]
    Sessions(#[from] SessionsError),
    /// The dialect of Judge0 can't be as it is asked for.
    #[error(transparent)]
    Judge0(#[from] Judge0Error),
    /// Piston's limits can't be as they are asked for.
    #[error(transparent)]
    Piston(#[from] PistonError),
    /// A client can't be used.
    #[error(transparent)]
    Client(#[from] ClientsError),
    /// Nobody may listen like that.
    #[error(transparent)]
    Tcp(#[from] TcpError),
    /// Numbers of the pool contradict one another.
    #[error("{key}: {reason}")]
    Pool {
        /// The key at fault.
        key: String,
        /// What is wrong.
        reason: String,
    },
    /// There must be a profile for requests that name none.
    #[error("profiles: there must be one called \"default\"")]
    NoDefaultProfile,
    /// The manifest of store paths is not as it should be.
    #[error("runtimes.manifest: its file can't be used: {0}")]
    Manifest(serde_json::Error),
    /// The manifest of store paths can't be read.
    #[error("runtimes.manifest: {path}: {error}", path = path.display())]
    ManifestFile {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A tree, the manifest or a default does not fit the languages.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {error}")]
pub struct Located {
    /// File and line, as far as there are any: `config.json:12`.
    pub place: String,
    /// What is wrong there.
    pub error: Box<ConfigError>,
}

fn filters() -> String {
    profile::FILTERS.iter().map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

impl ConfigError {
    /// The same with the file and the line that it is about, as far as there are any.
    #[must_use]
    pub fn located(self, path: Option<&Path>, text: &str) -> Located {
        let file = path.map_or("the defaults".into(), |path| path.display().to_string());
        let place = self.line_in(text).map_or(file.clone(), |line| format!("{file}:{line}"));
        Located { place, error: Box::new(self) }
    }

    /// The line, from 1, of a configuration's text that this error is about, where there is one.
    #[must_use]
    pub fn line_in(&self, text: &str) -> Option<usize> {
        let key = match self {
            Self::Syntax(error) => return Some(error.line()),
            Self::Repeated { line, .. } => return Some(*line),
            Self::Manifest(_) | Self::ManifestFile { .. } => "runtimes.manifest".to_owned(),
            Self::Shape { key, .. } | Self::Pool { key, .. } => key.clone(),
            Self::Profile { profile, section, error } => format!("profiles.{profile}.{section}.{}", error.field),
            Self::UnknownFilter { profile, .. } => format!("profiles.{profile}.seccomp"),
            Self::Cache(error) => error.key().to_owned(),
            Self::Network(error) => error.key().to_owned(),
            Self::Secrets(error) => error.key(),
            Self::Dependencies(error) => error.key(),
            Self::Sessions(error) => error.key().to_owned(),
            Self::Judge0(error) => error.key(),
            Self::Piston(error) => error.key(),
            Self::Client(error) => error.key.clone(),
            Self::Tcp(error) => error.key(),
            Self::NoDefaultProfile => "profiles".to_owned(),
            Self::Source(error) => error.key(),
        };
        place::line_of(text, &key)
    }
}

impl Config {
    /// The configuration that a JSON text gives; an empty object gives all defaults.
    ///
    /// ```
    /// # use codesandbox::config::Config;
    /// let config = Config::parse(r#"{"profiles": {"default": {"run": {"wall_time_ms": 2000}}}}"#)?;
    /// assert_eq!(config.profiles["default"].run.wall_time_ms, 2000);
    /// # Ok::<(), codesandbox::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// The first thing that is wrong, with the place.
    pub fn parse(json: &str) -> Result<Self, ConfigError> {
        let given: Value = serde_json::from_str(json).map_err(ConfigError::Syntax)?;
        if let Some((key, line)) = place::repeated(json) {
            return Err(ConfigError::Repeated { key, line });
        }
        let mut whole = defaults();
        merge(&mut whole, given);
        let raw: Raw = section("", whole)?;
        let profiles = raw
            .profiles
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), section(&format!("profiles.{name}"), value)?)))
            .collect::<Result<BTreeMap<String, Profile>, ConfigError>>()?;
        let clients = raw
            .clients
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), section(&format!("clients.{name}"), value)?)))
            .collect::<Result<BTreeMap<String, clients::Client>, ConfigError>>()?;
        let secrets = raw
            .secrets
            .into_iter()
            .map(|(name, value)| Ok((name.clone(), section(&format!("secrets.{name}"), value)?)))
            .collect::<Result<BTreeMap<String, Secret>, ConfigError>>()?;
        let languages = raw
            .languages
            .into_iter()
            .map(|(name, value)| Ok(Arc::new(section(&format!("languages.{name}"), value)?)))
            .collect::<Result<Vec<Arc<Language>>, ConfigError>>()?;
        let sessions: Sessions = section("sessions", raw.sessions)?;
        let config = Self {
            runtimes: section("runtimes", raw.runtimes)?,
            service: section("service", raw.service)?,
            cache: section("cache", raw.cache)?,
            network: section("network", raw.network)?,
            secrets,
            dependencies: section("dependencies", raw.dependencies)?,
            launcher: section("launcher", raw.launcher)?,
            pool: section("pool", raw.pool)?,
            piston: section("piston", raw.piston)?,
            clients: Clients::new(clients, sessions.sessions_per_client),
            tcp: section("tcp", raw.tcp)?,
            sessions,
            judge0: section("judge0", raw.judge0)?,
            profiles,
            languages,
        };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<(), ConfigError> {
        for (name, profile) in &self.profiles {
            profile.check().map_err(|(section, error)| ConfigError::Profile {
                profile: name.clone(),
                section,
                error,
            })?;
            if !profile::FILTERS.iter().any(|(filter, _)| *filter == profile.seccomp) {
                return Err(ConfigError::UnknownFilter { profile: name.clone(), filter: profile.seccomp.clone() });
            }
        }
        if !self.profiles.contains_key("default") {
            return Err(ConfigError::NoDefaultProfile);
        }
        self.cache.check()?;
        self.network.check()?;
        secrets::check(&self.secrets, &self.profiles)?;
        self.dependencies.check(&self.profiles)?;
        self.sessions.check()?;
        self.judge0.check(&self.profiles)?;
        self.piston.check(&self.profiles, &self.languages)?;
        self.clients.check(&self.profiles)?;
        self.tcp.check(&self.clients)?;
        self.pool.check().map_err(|(key, reason)| ConfigError::Pool { key, reason })
    }

    /// The text of the manifest, where one is configured.
    ///
    /// # Errors
    /// It can't be read.
    pub fn manifest(&self) -> Result<Option<String>, ConfigError> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).map_err(|error| ConfigError::ManifestFile { path: path.clone(), error })
        };
        self.runtimes.manifest.as_ref().map(read).transpose()
    }

    /// The runtimes that this host has; `exists` tells whether a path exists, `manifest` is the
    /// text of the manifest where one is configured.
    ///
    /// # Errors
    /// A configured tree or manifest that does not fit.
    pub fn catalogue(&self, manifest: Option<&str>, exists: &dyn Fn(&Path) -> bool) -> Result<Catalogue, ConfigError> {
        let manifest: Option<StoreManifest> =
            manifest.map(serde_json::from_str).transpose().map_err(ConfigError::Manifest)?;
        Ok(runtime::find(&self.languages, &self.runtimes, manifest, exists)?)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    runtimes: Value,
    service: Value,
    cache: Value,
    network: Value,
    secrets: BTreeMap<String, Value>,
    dependencies: Value,
    launcher: Value,
    pool: Value,
    sessions: Value,
    judge0: Value,
    piston: Value,
    clients: BTreeMap<String, Value>,
    tcp: Value,
    profiles: BTreeMap<String, Value>,
    languages: BTreeMap<String, Value>,
}

fn section<T: serde::de::DeserializeOwned>(name: &str, value: Value) -> Result<T, ConfigError> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let inner = error.path().to_string();
        let error = error.into_inner();
        // An unknown field is named by the message alone.
        let text = error.to_string();
        let unknown =
            text.strip_prefix("unknown field `").and_then(|rest| rest.split_once('`')).map(|(field, _)| field);
        let parts = [name, inner.trim_start_matches('.'), unknown.unwrap_or_default()];
        let known = parts.into_iter().filter(|part| !part.is_empty() && *part != "?");
        let key = known.fold(String::new(), |key, part| match key.as_str() {
            "" => part.to_owned(),
            _ if key == part || key.ends_with(&format!(".{part}")) => key,
            _ if part.starts_with('[') => key + part,
            _ => format!("{key}.{part}"),
        });
        ConfigError::Shape { key: if key.is_empty() { "configuration".to_owned() } else { key }, error }
    })
}

fn defaults() -> Value {
    let built_in = |text: &str| toml::from_str::<Value>(text).expect("a test parses every built-in file");
    let mut whole = built_in(SERVICE);
    let files = |files: &[(&str, &str)]| {
        Value::Object(files.iter().map(|(name, text)| ((*name).to_owned(), built_in(text))).collect())
    };
    let map = whole.as_object_mut().expect("a TOML file is a table");
    map.insert("profiles".to_owned(), files(profile::BUILT_IN));
    map.insert("languages".to_owned(), files(runtime::BUILT_IN));
    whole
}

/// Puts `over` on top of `base`: objects key by key, everything else as a whole.
fn merge(base: &mut Value, over: Value) {
    match (base, over) {
        (Value::Object(base), Value::Object(over)) => {
            for (key, value) in over {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (base, over) => *base = over,
    }
}

#[cfg(test)]
mod tests;
