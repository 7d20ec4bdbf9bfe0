//! Section `sessions`: where sandboxes that outlive a request are kept in mind, how many there may be,
//! and how long they stay.

use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

/// Most sessions at one time: each has a tmpfs and a group of processes in the kernel.
const MOST_SESSIONS: usize = 100_000;
/// Most of anything that one session has many of.
const MOST_PER_SESSION: usize = 10_000;
/// Fewest bytes of output that are kept: old ones are given back in whole pages.
const LEAST_LOG_BYTES: u64 = 4 << 10;
/// Most bytes of output that are kept of one stream: they stay in memory.
const MOST_LOG_BYTES: u64 = 1 << 30;
/// Longest time: ten years of 365 days, so that no sum of times runs over.
const MOST_TIME_MS: u64 = 315_360_000_000;
/// Fewest bytes of a saved workspace: the least that a limit of `disk_bytes` may be.
const LEAST_SAVED_BYTES: u64 = 64 << 10;
/// Most bytes of anything on disk, the largest number that SQLite and `off_t` have.
const MOST_BYTES: u64 = i64::MAX.unsigned_abs();
/// Name of the directory below a user's own for such things.
const NAME: &str = "codesandbox";

/// Section `sessions`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sessions {
    /// Where records and saved workspaces are; absent: see [`Sessions::directory`].
    pub directory: Option<PathBuf>,
    /// Most at one time, of all clients; 0 means that there are none.
    pub sessions: usize,
    /// Most of one client that has no number of its own.
    pub sessions_per_client: usize,
    /// Programs of one session that are kept, running and finished.
    pub execs_per_session: usize,
    /// Most snapshots of one session.
    pub snapshots_per_session: usize,
    /// Most contexts of one session.
    pub contexts_per_session: usize,
    /// Bytes of output that are kept of each stream of a program.
    pub log_bytes: u64,
    /// How long a session is idle until it is paused, in milliseconds; 0 means that it never is.
    pub pause_after_ms: u64,
    /// How long it is idle until it is stopped or deleted, in milliseconds, where a request says nothing.
    pub idle_timeout_ms: u64,
    /// How long it may live until it is stopped or deleted, in milliseconds, where a request says nothing.
    pub lifetime_ms: u64,
    /// Most that a request may ask for as `idle_timeout_ms`.
    pub maximum_idle_timeout_ms: u64,
    /// Most that a request may ask for as `lifetime_ms`.
    pub maximum_lifetime_ms: u64,
    /// How long nothing changes in a persistent workspace until it is saved, in milliseconds.
    pub save_after_ms: u64,
    /// Most bytes that one saved workspace takes on disk.
    pub saved_bytes: u64,
    /// Largest file or archive that is put into a session, in bytes.
    pub upload_bytes: u64,
}

/// A section `sessions` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionsError {
    /// The directory would depend on where the daemon was started.
    #[error("sessions.directory: {0:?} is not an absolute path without \"..\"")]
    Directory(PathBuf),
    /// A number is out of its range.
    #[error("{key}: {value} is not from {least} to {most}{why}")]
    OutOfRange {
        /// The key at fault.
        key: &'static str,
        /// The number.
        value: u64,
        /// The least that makes sense.
        least: u64,
        /// The most that is allowed.
        most: u64,
        /// Where the most comes from.
        why: &'static str,
    },
}

impl SessionsError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> &'static str {
        match self {
            Self::Directory(_) => "sessions.directory",
            Self::OutOfRange { key, .. } => key,
        }
    }
}

impl Sessions {
    /// Where records and saved workspaces are, with the environment of the process: what is configured;
    /// else what systemd gives, `$STATE_DIRECTORY`; else `codesandbox` in `$XDG_STATE_HOME` or in
    /// `~/.local/state`. `None` where there are no sessions, or no such place.
    #[must_use]
    pub fn directory(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        if self.sessions == 0 {
            return None;
        }
        self.place(variable)
    }

    /// The same, whether or not there are sessions.
    pub(super) fn place(&self, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        // Relative ones count as absent: the XDG base directory specification says so of its own.
        let absolute = |name| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let of_systemd = || {
            let list = variable("STATE_DIRECTORY")?.into_string().ok()?;
            list.split(':').map(PathBuf::from).find(|path| path.is_absolute())
        };
        self.directory
            .clone()
            .or_else(of_systemd)
            .or_else(|| absolute("XDG_STATE_HOME").map(|home| home.join(NAME)))
            .or_else(|| absolute("HOME").map(|home| home.join(".local/state").join(NAME)))
    }

    pub(super) fn check(&self) -> Result<(), SessionsError> {
        let goes_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
        if let Some(directory) = self.directory.as_deref().filter(|path| !path.is_absolute() || goes_up(path)) {
            return Err(SessionsError::Directory(directory.to_owned()));
        }
        self.check_counts()?;
        self.check_times()?;
        within("sessions.log_bytes", self.log_bytes, LEAST_LOG_BYTES, MOST_LOG_BYTES, "")?;
        within("sessions.saved_bytes", self.saved_bytes, LEAST_SAVED_BYTES, MOST_BYTES, "")?;
        within("sessions.upload_bytes", self.upload_bytes, 1, MOST_BYTES, "")
    }

    fn check_counts(&self) -> Result<(), SessionsError> {
        for (key, count, least, most) in [
            ("sessions.sessions", self.sessions, 0, MOST_SESSIONS),
            ("sessions.sessions_per_client", self.sessions_per_client, 0, MOST_SESSIONS),
            // Without a program a session could only hold files.
            ("sessions.execs_per_session", self.execs_per_session, 1, MOST_PER_SESSION),
            ("sessions.snapshots_per_session", self.snapshots_per_session, 0, MOST_PER_SESSION),
            ("sessions.contexts_per_session", self.contexts_per_session, 0, MOST_PER_SESSION),
        ] {
            within(key, count as u64, least, most as u64, "")?;
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), SessionsError> {
        let Self { maximum_idle_timeout_ms, maximum_lifetime_ms, .. } = *self;
        within("sessions.maximum_idle_timeout_ms", maximum_idle_timeout_ms, 1, MOST_TIME_MS, "")?;
        within("sessions.maximum_lifetime_ms", maximum_lifetime_ms, 1, MOST_TIME_MS, "")?;
        let why = ", which is sessions.maximum_idle_timeout_ms";
        within("sessions.idle_timeout_ms", self.idle_timeout_ms, 1, maximum_idle_timeout_ms, why)?;
        let why = ", which is sessions.maximum_lifetime_ms";
        within("sessions.lifetime_ms", self.lifetime_ms, 1, maximum_lifetime_ms, why)?;
        // With 0 a program that writes all the time would have its workspace saved all the time.
        within("sessions.save_after_ms", self.save_after_ms, 1, MOST_TIME_MS, "")?;
        within("sessions.pause_after_ms", self.pause_after_ms, 0, MOST_TIME_MS, "")
    }
}

fn within(key: &'static str, value: u64, least: u64, most: u64, why: &'static str) -> Result<(), SessionsError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(SessionsError::OutOfRange { key, value, least, most, why })
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;

    fn directory(json: &str, environment: &[(&str, &str)]) -> Option<PathBuf> {
        let find = |name: &str| environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into());
        Config::parse(json).unwrap().sessions.directory(&find)
    }

    #[test]
    fn the_directory_is_the_first_that_is_known() {
        let all = [("STATE_DIRECTORY", "/var/lib/a:/b"), ("XDG_STATE_HOME", "/xdg"), ("HOME", "/home/me")];
        assert_eq!(directory(r#"{"sessions":{"directory":"/mine"}}"#, &all), Some("/mine".into()));
        assert_eq!(directory("{}", &all), Some("/var/lib/a".into()));
        assert_eq!(directory("{}", &all[1..]), Some("/xdg/codesandbox".into()));
        assert_eq!(directory("{}", &all[2..]), Some("/home/me/.local/state/codesandbox".into()));
        assert_eq!(directory("{}", &[("XDG_STATE_HOME", "relative"), ("HOME", "")]), None);
    }

    #[test]
    fn no_sessions_have_no_directory() {
        assert_eq!(directory(r#"{"sessions":{"sessions":0,"directory":"/mine"}}"#, &[]), None);
    }

    #[test]
    fn a_directory_that_is_not_fixed_is_refused() {
        for path in ["here", "", "/a/../b"] {
            let error = Config::parse(&format!(r#"{{"sessions":{{"directory":{path:?}}}}}"#)).unwrap_err();
            assert!(error.to_string().starts_with("sessions.directory: "), "{error}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused_with_the_range() {
        for (key, value, told) in [
            ("sessions", 100_001, "is not from 0 to 100000"),
            ("sessions_per_client", 100_001, "is not from 0 to 100000"),
            ("execs_per_session", 0, "is not from 1 to 10000"),
            ("snapshots_per_session", 10_001, "is not from 0 to 10000"),
            ("contexts_per_session", 10_001, "is not from 0 to 10000"),
            ("log_bytes", 4_095, "is not from 4096 to 1073741824"),
            ("pause_after_ms", MOST_TIME_MS + 1, "is not from 0 to 315360000000"),
            ("idle_timeout_ms", 0, "is not from 1 to 604800000"),
            ("lifetime_ms", 0, "is not from 1 to 2592000000"),
            ("maximum_idle_timeout_ms", 0, "is not from 1 to 315360000000"),
            ("maximum_lifetime_ms", MOST_TIME_MS + 1, "is not from 1 to 315360000000"),
            ("save_after_ms", 0, "is not from 1 to 315360000000"),
            ("saved_bytes", 65_535, "is not from 65536 to"),
            ("upload_bytes", 0, "is not from 1 to"),
            ("upload_bytes", u64::MAX, "is not from 1 to 9223372036854775807"),
        ] {
            let json = format!(r#"{{"sessions":{{"{key}":{value}}}}}"#);
            let error = Config::parse(&json).unwrap_err();
            assert!(error.to_string().starts_with(&format!("sessions.{key}: {value} {told}")), "{error}");
            assert_eq!(error.line_in(&json), Some(1));
        }
    }

    #[test]
    fn a_default_above_its_maximum_is_refused_with_the_key_of_the_maximum() {
        for (json, told) in [
            (
                r#"{"sessions":{"maximum_idle_timeout_ms":1000}}"#,
                "sessions.idle_timeout_ms: 1800000 is not from 1 to 1000, which is sessions.maximum_idle_timeout_ms",
            ),
            (
                r#"{"sessions":{"lifetime_ms":2000,"maximum_lifetime_ms":1999}}"#,
                "sessions.lifetime_ms: 2000 is not from 1 to 1999, which is sessions.maximum_lifetime_ms",
            ),
        ] {
            assert_eq!(Config::parse(json).unwrap_err().to_string(), told);
        }
    }
}
