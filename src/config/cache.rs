//! Section `cache`: where results of compile stages are kept, and how many.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Largest result that may be kept, in bytes: what a sandbox is given at its start must hold it.
const MOST_ENTRY_BYTES: u64 = 192 << 20;
/// Name of the directory below a user's own for such things.
const NAME: &str = "codesandbox";

/// Section `cache`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Where they are kept; absent: see [`Cache::directory`].
    pub directory: Option<PathBuf>,
    /// Bytes of all of them together; 0 keeps none.
    pub bytes: u64,
    /// Most bytes of one.
    pub entry_bytes: u64,
    /// Whether clients get what was compiled for others.
    pub shared: bool,
}

/// A section `cache` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CacheError {
    /// The directory would depend on where the daemon was started.
    #[error("cache.directory: {0:?} is not an absolute path without \"..\"")]
    Directory(PathBuf),
    /// No result could be kept, or more than a sandbox can be given.
    #[error("cache.entry_bytes: {value} is not from 1 to {most}{why}")]
    EntryBytes {
        /// The number.
        value: u64,
        /// What would be allowed.
        most: u64,
        /// Where the most comes from.
        why: &'static str,
    },
}

impl CacheError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Directory(_) => "cache.directory",
            Self::EntryBytes { .. } => "cache.entry_bytes",
        }
    }
}

impl Cache {
    /// Where results are kept, with the environment of the process: what is configured; else what
    /// systemd gives, `$CACHE_DIRECTORY`; else `codesandbox` in `$XDG_CACHE_HOME` or in `~/.cache`.
    /// `None` where they are not kept.
    #[must_use]
    pub fn directory(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        if self.bytes == 0 { None } else { self.base(variable) }
    }

    /// The same, whether or not results of compilers are kept there: other things are as well.
    #[must_use]
    pub fn base(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        // Relative ones count as absent: the XDG base directory specification says so of its own.
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_systemd = || {
            let list = variable("CACHE_DIRECTORY")?.into_string().ok()?;
            list.split(':').map(PathBuf::from).find(|path| path.is_absolute())
        };
        self.directory
            .clone()
            .or_else(of_systemd)
            .or_else(|| absolute("XDG_CACHE_HOME").map(|home| home.join(NAME)))
            .or_else(|| absolute("HOME").map(|home| home.join(".cache").join(NAME)))
    }

    pub(super) fn check(&self) -> Result<(), CacheError> {
        let goes_up = |path: &Path| path.components().any(|part| part == std::path::Component::ParentDir);
        if let Some(directory) = self.directory.as_deref().filter(|path| !path.is_absolute() || goes_up(path)) {
            return Err(CacheError::Directory(directory.to_owned()));
        }
        // Where nothing is kept, nothing else matters.
        let (most, why) = match self.bytes {
            0 => return Ok(()),
            bytes if bytes < MOST_ENTRY_BYTES => (bytes, ", which is cache.bytes"),
            _ => (MOST_ENTRY_BYTES, ""),
        };
        if !(1..=most).contains(&self.entry_bytes) {
            return Err(CacheError::EntryBytes { value: self.entry_bytes, most, why });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn cache(json: &str) -> Cache {
        Config::parse(json).unwrap().cache
    }

    fn directory(json: &str, environment: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        cache(json).directory(&find)
    }

    #[test]
    fn the_directory_is_the_first_that_is_known() {
        let all = [("CACHE_DIRECTORY", "/var/cache/a:/b"), ("XDG_CACHE_HOME", "/xdg"), ("HOME", "/home/me")];
        assert_eq!(directory(r#"{"cache":{"directory":"/mine"}}"#, &all), Some("/mine".into()));
        assert_eq!(directory("{}", &all), Some("/var/cache/a".into()));
        assert_eq!(directory("{}", &all[1..]), Some("/xdg/codesandbox".into()));
        assert_eq!(directory("{}", &all[2..]), Some("/home/me/.cache/codesandbox".into()));
        assert_eq!(directory("{}", &[("XDG_CACHE_HOME", "relative"), ("HOME", "")]), None);
    }

    #[test]
    fn no_bytes_are_no_cache() {
        assert_eq!(directory(r#"{"cache":{"bytes":0,"directory":"/mine"}}"#, &[]), None);
    }

    #[test]
    fn a_directory_that_is_not_fixed_is_refused() {
        for path in ["here", "", "/a/../b"] {
            let error = Config::parse(&format!(r#"{{"cache":{{"directory":{path:?}}}}}"#)).unwrap_err();
            assert!(error.to_string().starts_with("cache.directory: "), "{error}");
        }
    }

    #[test]
    fn an_entry_that_can_never_be_kept_is_refused() {
        for json in [
            r#"{"cache":{"entry_bytes":0}}"#,
            r#"{"cache":{"entry_bytes":2000000,"bytes":1000000}}"#,
            r#"{"cache":{"entry_bytes":1000000000}}"#,
        ] {
            let error = Config::parse(json).unwrap_err();
            assert!(error.to_string().starts_with("cache.entry_bytes: "), "{error}");
            assert_eq!(error.line_in(json), Some(1));
        }
        assert_eq!(cache(r#"{"cache":{"entry_bytes":1000000,"bytes":1000000}}"#).entry_bytes, 1_000_000);
        assert_eq!(cache(r#"{"cache":{"bytes":0}}"#).bytes, 0);
    }
}
