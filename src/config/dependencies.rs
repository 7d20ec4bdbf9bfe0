//! Section `dependencies`: packages that jobs and sessions ask for, and what installs them.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::cache::Cache;
use crate::plan::tree::Ecosystem;
use crate::profile::Profile;

/// Where `uv` is seen by sandboxes in which it installs.
pub const UV: &str = "/runtime/installer/uv";
/// Where the packages of Node.js that `npm` is one of are seen by sandboxes in which it installs.
pub const MODULES: &str = "/runtime/installer/modules";
/// Most bytes of one set of packages that may be allowed: they are in memory as a whole, for a moment more than once.
const MOST_BYTES: u64 = 512 << 20;
/// Most files of one set that may be allowed.
const MOST_FILES: u64 = 1 << 20;
/// Most paths that an installer may need.
const PATHS: usize = 4096;

/// Section `dependencies`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dependencies {
    /// Profile under which they are installed; absent: nothing is.
    pub profile: Option<String>,
    /// How long an answer holds for requirements that leave something open, in milliseconds.
    pub lifetime_ms: u64,
    /// Bytes of all sets that are kept on disk.
    pub bytes: u64,
    /// Bytes of those that the launcher keeps in memory, where sandboxes see them.
    pub memory_bytes: u64,
    /// Most bytes of one set.
    pub max_bytes: u64,
    /// Most files of one set.
    pub max_files: u64,
    /// Most time that installing one may take, in milliseconds.
    pub max_time_ms: u64,
    /// What installs packages for Python.
    pub python: Tool,
    /// What installs packages for Node.js.
    pub npm: Tool,
}

/// An installer.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tool {
    /// Path of `uv`, or of what Node.js is to run as `npm`; absent: there is none.
    #[serde(rename = "tool")]
    pub path: Option<PathBuf>,
    /// Paths besides that must be seen to run it.
    pub paths: Vec<PathBuf>,
    /// File that lists more such paths, one a line, as Nix writes the closure of a store path.
    pub closure: Option<PathBuf>,
    /// Address of the registry that it asks.
    pub registry: Option<String>,
}

/// A section `dependencies` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DependenciesError {
    /// There is no such profile.
    #[error("dependencies.profile: there is no profile {0:?}")]
    Profile(String),
    /// A number makes no sense.
    #[error("dependencies.{key}: {value} is not from {least} to {most}")]
    Range {
        /// The key.
        key: &'static str,
        /// The number.
        value: u64,
        /// What would be allowed, at least.
        least: u64,
        /// And at most.
        most: u64,
    },
    /// A path depends on where somebody was started.
    #[error("dependencies.{}.{key}: {path:?} is not an absolute path without \"..\"", ecosystem.name())]
    Path {
        /// Of which installer.
        ecosystem: Ecosystem,
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// Too many.
    #[error("dependencies.{}.paths: there may be at most {PATHS}", .0.name())]
    Paths(Ecosystem),
    /// It is no address of a registry.
    #[error("dependencies.{}.registry: {text:?} is not http:// or https://, a host and a path, in plain characters", ecosystem.name())]
    Registry {
        /// Of which installer.
        ecosystem: Ecosystem,
        /// What is there.
        text: String,
    },
    /// There is a tool, and nothing that it could ask.
    #[error("dependencies.{}.registry: it is missing; there is a tool, and it has to ask somebody", .0.name())]
    NoRegistry(Ecosystem),
}

impl DependenciesError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Profile(_) => "dependencies.profile".to_owned(),
            Self::Range { key, .. } => format!("dependencies.{key}"),
            Self::Path { ecosystem, key, .. } => format!("dependencies.{}.{key}", ecosystem.name()),
            Self::Paths(ecosystem) => format!("dependencies.{}.paths", ecosystem.name()),
            Self::Registry { ecosystem, .. } => format!("dependencies.{}.registry", ecosystem.name()),
            // The key is not there; what is around it is.
            Self::NoRegistry(ecosystem) => format!("dependencies.{}.tool", ecosystem.name()),
        }
    }
}

impl Dependencies {
    /// What installs packages of this kind.
    #[must_use]
    pub fn of(&self, ecosystem: Ecosystem) -> &Tool {
        match ecosystem {
            Ecosystem::Python => &self.python,
            Ecosystem::Npm => &self.npm,
        }
    }

    /// Where sets are kept and how many: beside the results of compilers, in a store of their own.
    #[must_use]
    pub fn cache(&self, compilers: &Cache) -> Cache {
        // What is kept of a set besides its files is bounded by what the installer may print.
        let entry_bytes = self.max_bytes.saturating_mul(2);
        Cache { directory: compilers.directory.clone(), bytes: self.bytes, entry_bytes, shared: true }
    }

    pub(super) fn check(&self, profiles: &BTreeMap<String, Profile>) -> Result<(), DependenciesError> {
        if let Some(name) = self.profile.as_ref().filter(|name| !profiles.contains_key(*name)) {
            return Err(DependenciesError::Profile(name.clone()));
        }
        for (key, value, most) in [
            ("lifetime_ms", self.lifetime_ms, u64::MAX),
            ("max_time_ms", self.max_time_ms, u64::MAX),
            ("max_files", self.max_files, MOST_FILES),
            ("max_bytes", self.max_bytes, MOST_BYTES.min(self.memory_bytes)),
        ] {
            if !(1..=most).contains(&value) {
                return Err(DependenciesError::Range { key, value, least: 1, most });
            }
        }
        Ecosystem::ALL.into_iter().try_for_each(|ecosystem| self.of(ecosystem).check(ecosystem))
    }
}

impl Tool {
    fn check(&self, ecosystem: Ecosystem) -> Result<(), DependenciesError> {
        let goes_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
        let bad = |path: &&PathBuf| !path.is_absolute() || goes_up(path);
        let paths = self
            .path
            .iter()
            .map(|path| ("tool", path))
            .chain(self.closure.iter().map(|path| ("closure", path)))
            .chain(self.paths.iter().map(|path| ("paths", path)));
        if let Some((key, path)) = paths.into_iter().find(|(_, path)| bad(path)) {
            return Err(DependenciesError::Path { ecosystem, key, path: path.clone() });
        }
        if self.paths.len() > PATHS {
            return Err(DependenciesError::Paths(ecosystem));
        }
        match &self.registry {
            None if self.path.is_some() => Err(DependenciesError::NoRegistry(ecosystem)),
            Some(text) if !is_address(text) => Err(DependenciesError::Registry { ecosystem, text: text.clone() }),
            _ => Ok(()),
        }
    }

    /// The directory of packages of Node.js that `npm` is in, and where in it `npm` begins. What is configured is
    /// `npm` itself or a link to it, and `npm` may need packages beside it.
    #[must_use]
    pub fn modules(&self) -> Option<(PathBuf, PathBuf)> {
        // npm/bin/npm-cli.js, below that directory.
        const DEPTH: usize = 3;
        let begins = std::fs::canonicalize(self.path.as_deref()?).ok()?;
        let modules = begins.ancestors().nth(DEPTH).filter(|above| above.parent().is_some())?;
        Some((modules.to_owned(), begins.strip_prefix(modules).ok()?.to_owned()))
    }

    /// The registry's address without a slash at its end.
    #[must_use]
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref().map(|text| text.trim_end_matches('/'))
    }
}

/// An address without credentials, queries, or anything that somebody could take for something else.
fn is_address(text: &str) -> bool {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or_default();
    let host = rest.split('/').next().unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._~/:[]".contains(c);
    !host.is_empty() && !host.starts_with(':') && text.len() <= 1024 && rest.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn without_a_profile_nothing_is_installed() {
        assert_eq!(Config::parse("{}").unwrap().dependencies.profile, None);
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_its_key() {
        for (json, key) in [
            (r#"{"dependencies":{"profile":"nobody"}}"#, "dependencies.profile: "),
            (r#"{"dependencies":{"max_bytes":0}}"#, "dependencies.max_bytes: "),
            (r#"{"dependencies":{"max_bytes":1000000,"memory_bytes":10}}"#, "dependencies.max_bytes: "),
            (r#"{"dependencies":{"lifetime_ms":0}}"#, "dependencies.lifetime_ms: "),
            (r#"{"dependencies":{"python":{"tool":"uv","registry":"http://a"}}}"#, "dependencies.python.tool: "),
            (r#"{"dependencies":{"npm":{"paths":["/a/../b"]}}}"#, "dependencies.npm.paths: "),
            (r#"{"dependencies":{"npm":{"tool":"/bin/npm"}}}"#, "dependencies.npm.registry: "),
            (r#"{"dependencies":{"npm":{"registry":"ftp://a"}}}"#, "dependencies.npm.registry: "),
            (r#"{"dependencies":{"npm":{"registry":"http://"}}}"#, "dependencies.npm.registry: "),
            (r#"{"dependencies":{"npm":{"registry":"http://me:secret@a"}}}"#, "dependencies.npm.registry: "),
            (r#"{"dependencies":{"npm":{"registry":"http://a b"}}}"#, "dependencies.npm.registry: "),
            (r#"{"dependencies":{"ruby":{}}}"#, "dependencies.ruby"),
        ] {
            let error = Config::parse(json).unwrap_err();
            assert!(error.to_string().starts_with(key), "{json}: {error}");
            assert_eq!(error.line_in(json), Some(1), "{error}");
        }
        let json = r#"{"dependencies":{"profile":"default","npm":{"tool":"/bin/npm","registry":"https://a.example.org:8/npm/"}}}"#;
        let config = Config::parse(json).unwrap();
        assert_eq!(config.dependencies.npm.registry(), Some("https://a.example.org:8/npm"));
    }
}
