//! Section `judge0`: the dialect of Judge0 CE, with limits as its `config_info` names and counts them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use super::sessions::Sessions;
use crate::profile::{Limits, Profile};

/// Name of the directory below the one of sessions.
const NAME: &str = "judge0";
/// Most runs of one submission that may be allowed.
const MOST_RUNS: u64 = 1_000;
/// Most submissions in one request, or of one client that are not over.
const MOST_SUBMISSIONS: u64 = 100_000;
/// Longest time that one try of a callback may take, in seconds.
const MOST_CALLBACK_SECONDS: f64 = 60.0;
/// Most tries of a callback.
const MOST_TRIES: u64 = 10;
/// Most kilobytes that may come out of an archive: they are in memory as a whole.
const MOST_EXTRACTED: u64 = 1 << 20;

/// Section `judge0`. Times are seconds and sizes are kilobytes, as there.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Judge0 {
    /// Whether it is spoken.
    pub enable: bool,
    /// Profile that submissions run under.
    pub profile: String,
    /// Where submissions are kept; absent: see [`Judge0::directory`].
    pub directory: Option<PathBuf>,
    /// Submissions that are over and kept.
    pub kept_submissions: u64,
    /// Bytes of what is kept of them.
    pub kept_bytes: u64,
    /// How long one is kept after its end, in seconds.
    pub kept_seconds: u64,
    /// File of tokens, one of which every request must have; absent: none needs any.
    pub authn_token_file: Option<PathBuf>,
    /// Header or parameter that has it.
    pub authn_header: String,
    /// File of tokens for those who may list and delete submissions; absent: nobody may.
    pub authz_token_file: Option<PathBuf>,
    /// Header or parameter that has it.
    pub authz_header: String,
    /// Whether nothing new is taken.
    pub maintenance_mode: bool,
    /// What is answered then.
    pub maintenance_message: String,
    /// Whether a request may wait for the end.
    pub enable_wait_result: bool,
    /// Whether compilers may be given options.
    pub enable_compiler_options: bool,
    /// Languages for which they may, by the first words of their names; empty: all.
    pub allowed_languages_for_compile_options: Vec<String>,
    /// Whether programs may be given arguments.
    pub enable_command_line_arguments: bool,
    /// Whether submissions may be deleted.
    pub enable_submission_delete: bool,
    /// Whether the end of a submission is told to an address that it names.
    pub enable_callbacks: bool,
    /// Whether that may be a private address.
    pub callbacks_allow_private: bool,
    /// How often that is tried.
    pub callbacks_max_tries: u64,
    /// How long each try may take.
    pub callbacks_timeout: f64,
    /// Whether files may come in an archive.
    pub enable_additional_files: bool,
    /// Most that may come out of it.
    pub max_extract_size: u64,
    /// Whether several submissions may come in one request.
    pub enable_batched_submissions: bool,
    /// Most of those.
    pub max_submission_batch_size: u64,
    /// Most submissions of one client that are not over.
    pub max_queue_size: u64,
    /// Processor time where a submission says nothing.
    pub cpu_time_limit: f64,
    /// Most that it may say.
    pub max_cpu_time_limit: f64,
    /// Time beyond it until the program is ended, where a submission says nothing.
    pub cpu_extra_time: f64,
    /// Most that it may say.
    pub max_cpu_extra_time: f64,
    /// Time by the clock where a submission says nothing.
    pub wall_time_limit: f64,
    /// Most that it may say.
    pub max_wall_time_limit: f64,
    /// Memory where a submission says nothing.
    pub memory_limit: u64,
    /// Most that it may say.
    pub max_memory_limit: u64,
    /// Stack where a submission says nothing.
    pub stack_limit: u64,
    /// Most that it may say.
    pub max_stack_limit: u64,
    /// Processes and threads where a submission says nothing.
    pub max_processes_and_or_threads: u64,
    /// Most that it may say.
    pub max_max_processes_and_or_threads: u64,
    /// Size of a file, and of what is printed, where a submission says nothing.
    pub max_file_size: u64,
    /// Most that it may say.
    pub max_max_file_size: u64,
    /// Runs where a submission says nothing.
    pub number_of_runs: u64,
    /// Most that it may say.
    pub max_number_of_runs: u64,
    /// Whether standard error goes to standard output where a submission says nothing.
    pub redirect_stderr_to_stdout: bool,
    /// Whether a submission may have what network the profile has.
    pub allow_enable_network: bool,
    /// Whether it has that where it says nothing.
    pub enable_network: bool,
    /// Whether texts are base64 only where a request says so, and not also where it says nothing.
    pub disable_implicit_base64_encoding: bool,
}

/// A section `judge0` that can't be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Judge0Error {
    /// There is no such profile.
    #[error("judge0.profile: there is no profile {0:?}")]
    Profile(String),
    /// A path depends on where somebody was started.
    #[error("judge0.{key}: {path:?} is not an absolute path without \"..\"")]
    Path {
        /// The key.
        key: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// It is no name of a header.
    #[error("judge0.{key}: {name:?} is no name of a header")]
    Header {
        /// The key.
        key: &'static str,
        /// What is there.
        name: String,
    },
    /// A number is out of its range.
    #[error("judge0.{key}: {value} is not from {least} to {most}{why}")]
    Range {
        /// The key.
        key: &'static str,
        /// The number.
        value: f64,
        /// The least that makes sense.
        least: f64,
        /// The most that is allowed.
        most: f64,
        /// Where that comes from.
        why: String,
    },
}

impl Judge0Error {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Profile(_) => "judge0.profile".to_owned(),
            Self::Path { key, .. } | Self::Header { key, .. } | Self::Range { key, .. } => format!("judge0.{key}"),
        }
    }
}

impl Judge0 {
    /// Where submissions are kept, with the environment of the process: what is configured, else `judge0` below
    /// the directory that sessions would have. `None` where there is no such place.
    #[must_use]
    pub fn directory(&self, sessions: &Sessions, variable: &dyn Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
        self.directory.clone().or_else(|| sessions.place(variable).map(|place| place.join(NAME)))
    }

    pub(super) fn check(&self, profiles: &BTreeMap<String, Profile>) -> Result<(), Judge0Error> {
        // What nobody asked for need not fit a profile that was made smaller.
        if !self.enable {
            return Ok(());
        }
        let Some(profile) = profiles.get(&self.profile) else {
            return Err(Judge0Error::Profile(self.profile.clone()));
        };
        for (key, path) in [
            ("directory", &self.directory),
            ("authn_token_file", &self.authn_token_file),
            ("authz_token_file", &self.authz_token_file),
        ] {
            let goes_up = |path: &Path| path.components().any(|part| part == Component::ParentDir);
            if let Some(path) = path.as_ref().filter(|path| !path.is_absolute() || goes_up(path)) {
                return Err(Judge0Error::Path { key, path: path.clone() });
            }
        }
        for (key, name) in [("authn_header", &self.authn_header), ("authz_header", &self.authz_header)] {
            if hyper::header::HeaderName::from_bytes(name.as_bytes()).is_err() {
                return Err(Judge0Error::Header { key, name: name.clone() });
            }
        }
        self.check_times(&profile.maximum)?;
        self.check_counts(&profile.maximum)
    }

    fn check_times(&self, profile: &Limits) -> Result<(), Judge0Error> {
        let seconds = |ms: u64| std::time::Duration::from_millis(ms).as_secs_f64();
        let cpu = seconds(profile.cpu_time_ms);
        within("max_cpu_time_limit", self.max_cpu_time_limit, 0.001, cpu, &self.of_profile())?;
        let rest = cpu - self.max_cpu_time_limit;
        within("max_cpu_extra_time", self.max_cpu_extra_time, 0.0, rest, ", what max_cpu_time_limit leaves")?;
        within(
            "max_wall_time_limit",
            self.max_wall_time_limit,
            1.0,
            seconds(profile.wall_time_ms),
            &self.of_profile(),
        )?;
        let at_most = |key: &str| format!(", the number of {key}");
        for (key, value, least, most, of) in [
            ("cpu_time_limit", self.cpu_time_limit, 0.0, self.max_cpu_time_limit, "max_cpu_time_limit"),
            ("cpu_extra_time", self.cpu_extra_time, 0.0, self.max_cpu_extra_time, "max_cpu_extra_time"),
            ("wall_time_limit", self.wall_time_limit, 1.0, self.max_wall_time_limit, "max_wall_time_limit"),
        ] {
            within(key, value, least, most, &at_most(of))?;
        }
        within("callbacks_timeout", self.callbacks_timeout, 0.001, MOST_CALLBACK_SECONDS, "")
    }

    fn check_counts(&self, profile: &Limits) -> Result<(), Judge0Error> {
        let most_kept = i64::MAX.unsigned_abs();
        let kilobytes = |bytes: u64| bytes / 1024;
        for (key, value, least, most, why) in [
            ("max_memory_limit", self.max_memory_limit, 2048, kilobytes(profile.memory_bytes), &*self.of_profile()),
            ("memory_limit", self.memory_limit, 2048, self.max_memory_limit, ", that of max_memory_limit"),
            ("max_stack_limit", self.max_stack_limit, 64, kilobytes(profile.stack_bytes), &*self.of_profile()),
            ("stack_limit", self.stack_limit, 0, self.max_stack_limit, ", that of max_stack_limit"),
            (
                "max_max_processes_and_or_threads",
                self.max_max_processes_and_or_threads,
                1,
                profile.processes,
                &*self.of_profile(),
            ),
            (
                "max_processes_and_or_threads",
                self.max_processes_and_or_threads,
                1,
                self.max_max_processes_and_or_threads,
                ", that of max_max_processes_and_or_threads",
            ),
            (
                "max_max_file_size",
                self.max_max_file_size,
                1,
                kilobytes(profile.file_size_bytes.min(profile.output_bytes)),
                &*self.of_profile(),
            ),
            ("max_file_size", self.max_file_size, 0, self.max_max_file_size, ", that of max_max_file_size"),
            ("max_number_of_runs", self.max_number_of_runs, 1, MOST_RUNS, ""),
            ("number_of_runs", self.number_of_runs, 1, self.max_number_of_runs, ", that of max_number_of_runs"),
            ("max_extract_size", self.max_extract_size, 0, MOST_EXTRACTED, ""),
            ("max_submission_batch_size", self.max_submission_batch_size, 1, MOST_SUBMISSIONS, ""),
            ("max_queue_size", self.max_queue_size, 1, MOST_SUBMISSIONS, ""),
            ("callbacks_max_tries", self.callbacks_max_tries, 1, MOST_TRIES, ""),
            ("kept_submissions", self.kept_submissions, 1, most_kept, ""),
            ("kept_bytes", self.kept_bytes, 1, most_kept, ""),
            ("kept_seconds", self.kept_seconds, 1, most_kept / 1000, ""),
        ] {
            if !(least..=most).contains(&value) {
                let [value, least, most] = [value, least, most].map(float);
                return Err(Judge0Error::Range { key, value, least, most, why: why.to_owned() });
            }
        }
        Ok(())
    }

    fn of_profile(&self) -> String {
        format!(", what the profile {} allows", self.profile)
    }
}

#[allow(clippy::cast_precision_loss, reason = "for a message")]
fn float(number: u64) -> f64 {
    number as f64
}

fn within(key: &'static str, value: f64, least: f64, most: f64, why: &str) -> Result<(), Judge0Error> {
    // What is no number is in no range.
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(Judge0Error::Range { key, value, least, most, why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn limits_are_never_wider_than_those_of_the_profile() {
        for (text, key) in [
            (r#"{"judge0":{"max_cpu_time_limit":121}}"#, "judge0.max_cpu_time_limit"),
            (r#"{"judge0":{"max_cpu_extra_time":110}}"#, "judge0.max_cpu_extra_time"),
            (r#"{"judge0":{"max_wall_time_limit":121.5}}"#, "judge0.max_wall_time_limit"),
            (r#"{"judge0":{"max_memory_limit":2097153}}"#, "judge0.max_memory_limit"),
            (r#"{"judge0":{"max_stack_limit":1048576}}"#, "judge0.max_stack_limit"),
            (r#"{"judge0":{"max_max_processes_and_or_threads":513}}"#, "judge0.max_max_processes_and_or_threads"),
            (r#"{"judge0":{"max_max_file_size":16385}}"#, "judge0.max_max_file_size"),
            (r#"{"judge0":{"memory_limit":512001}}"#, "judge0.memory_limit"),
            (r#"{"judge0":{"cpu_time_limit":15.5}}"#, "judge0.cpu_time_limit"),
            (r#"{"judge0":{"number_of_runs":0}}"#, "judge0.number_of_runs"),
            (r#"{"judge0":{"profile":"none"}}"#, "judge0.profile"),
            (r#"{"judge0":{"authn_token_file":"tokens"}}"#, "judge0.authn_token_file"),
            (r#"{"judge0":{"authz_header":"a b"}}"#, "judge0.authz_header"),
        ] {
            let text = text.replace("{\"judge0\":{", "{\"judge0\":{\"enable\":true,");
            let error = Config::parse(&text).unwrap_err();
            assert!(error.to_string().starts_with(&format!("{key}:")), "{text}: {error}");
            assert_eq!(error.line_in(&text), Some(1), "{text}");
        }
        let most = r#"{"judge0":{"enable":true,"max_cpu_time_limit":115,"max_memory_limit":2097152}}"#;
        Config::parse(most).unwrap();
    }

    #[test]
    fn submissions_are_kept_beside_sessions_even_where_there_are_none() {
        let config = Config::parse(r#"{"sessions":{"sessions":0}}"#).unwrap();
        let state = |name: &str| (name == "STATE_DIRECTORY").then(|| "/var/lib/x".into());
        assert_eq!(config.sessions.directory(&state), None);
        assert_eq!(config.judge0.directory(&config.sessions, &state), Some("/var/lib/x/judge0".into()));
        assert_eq!(config.judge0.directory(&config.sessions, &|_| None), None);
    }
}
