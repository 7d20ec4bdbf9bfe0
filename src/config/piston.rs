//! Section `piston`: what those may have who speak to this service as to Piston. Limits have the names that
//! Piston gives them, so that what an operator has for it can be taken over.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;

use crate::profile::{LimitChanges, Limits, OutOfRange, Profile};
use crate::runtime::Language;

macro_rules! limits {
    ($($(#[$doc:meta])* $key:ident: $limit:ident;)+) => {
        /// Section `piston`. A limit of 0 or less is the profile's own, and a request may ask for the profile's maximum.
        #[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Piston {
            /// Whether Piston's paths are there.
            pub enable: bool,
            /// Profile under which its jobs run.
            pub profile: String,
            /// Whether a body is taken for JSON whatever it is declared to be, as of clients that declare nothing.
            pub any_content_type: bool,
            /// What those are told who install what is there already.
            pub packages: Packages,
            $($(#[$doc])* pub $key: i64,)+
            /// Limits of single languages, by name.
            pub limit_overrides: BTreeMap<String, Overrides>,
        }

        /// Limits of one language; what is absent is as for all.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Overrides { $($(#[$doc])* pub $key: Option<i64>,)+ }

        /// Limits that are configured for a language; absent: what the profile has.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct Configured { $($(#[$doc])* pub $key: Option<u64>,)+ }

        impl Piston {
            /// What is configured for a language.
            #[must_use]
            pub fn limits(&self, language: &str) -> Configured {
                let own = self.limit_overrides.get(language).copied().unwrap_or_default();
                Configured { $($key: positive(own.$key.unwrap_or(self.$key)),)+ }
            }
        }

        impl Configured {
            /// The first limit that the profile does not allow, and its key.
            fn check(&self, maximum: &Limits) -> Result<(), (&'static str, OutOfRange)> {
                $({
                    let changes = LimitChanges { $limit: self.$key, ..LimitChanges::default() };
                    maximum.changed(&changes, maximum).map_err(|error| (stringify!($key), error))?;
                })+
                Ok(())
            }
        }
    };
}

limits! {
    /// Time of the compile stage by the clock, in milliseconds.
    compile_timeout: wall_time_ms;
    /// Time of the run stage by the clock, in milliseconds.
    run_timeout: wall_time_ms;
    /// Processor time of the compile stage, in milliseconds.
    compile_cpu_time: cpu_time_ms;
    /// Processor time of the run stage, in milliseconds.
    run_cpu_time: cpu_time_ms;
    /// Memory of the compile stage, in bytes.
    compile_memory_limit: memory_bytes;
    /// Memory of the run stage, in bytes.
    run_memory_limit: memory_bytes;
    /// Bytes of standard output, and as many again of standard error.
    output_max_size: output_bytes;
    /// Processes and threads alive at one time.
    max_process_count: processes;
    /// Descriptors that one process may have open.
    max_open_files: open_files;
    /// Size of one file, in bytes.
    max_file_size: file_size_bytes;
}

fn positive(limit: i64) -> Option<u64> {
    u64::try_from(limit).ok().filter(|limit| *limit > 0)
}

/// What those are told who install a runtime that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packages {
    /// That it is, as an error: Piston's own answer.
    Refuse,
    /// Its language and version, as if it had been installed now.
    Confirm,
}

/// A section `piston` that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PistonError {
    /// There is no such profile.
    #[error("piston.profile: there is no profile {0:?}")]
    Profile(String),
    /// There is no such language.
    #[error("piston.limit_overrides.{0}: there is no language of this name")]
    Language(String),
    /// The profile does not allow it.
    #[error("{key}: {} is not from {} to {}, which is what profiles.{profile}.maximum allows", error.asked, error.least, error.most)]
    Limit {
        /// The key.
        key: String,
        /// The profile.
        profile: String,
        /// The limit, and what would be allowed.
        error: OutOfRange,
    },
}

impl PistonError {
    /// The key at fault.
    #[must_use]
    pub fn key(&self) -> String {
        match self {
            Self::Profile(_) => "piston.profile".to_owned(),
            Self::Language(name) => format!("piston.limit_overrides.{name}"),
            Self::Limit { key, .. } => key.clone(),
        }
    }
}

impl Piston {
    pub(super) fn check(
        &self,
        profiles: &BTreeMap<String, Profile>,
        languages: &[Arc<Language>],
    ) -> Result<(), PistonError> {
        let profile = profiles.get(&self.profile).ok_or_else(|| PistonError::Profile(self.profile.clone()))?;
        let check = |limits: Configured, place: &str| {
            limits.check(&profile.maximum).map_err(|(key, error)| PistonError::Limit {
                key: format!("{place}.{key}"),
                profile: self.profile.clone(),
                error,
            })
        };
        // No language has an empty name, so these are the limits of all.
        check(self.limits(""), "piston")?;
        for name in self.limit_overrides.keys() {
            if !languages.iter().any(|language| language.name == *name) {
                return Err(PistonError::Language(name.clone()));
            }
            check(self.limits(name), &format!("piston.limit_overrides.{name}"))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;

    #[test]
    fn a_language_has_its_own_limits_and_else_those_of_all() {
        let json = r#"{"piston":{"run_timeout":3000,"run_memory_limit":-1,
            "limit_overrides":{"c++":{"max_process_count":128,"run_timeout":0}}}}"#;
        let piston = Config::parse(json).unwrap().piston;
        let (all, own) = (piston.limits("python"), piston.limits("c++"));
        assert_eq!((all.run_timeout, all.max_process_count, all.run_memory_limit), (Some(3000), None, None));
        assert_eq!((own.run_timeout, own.max_process_count), (None, Some(128)));
        assert_eq!(own.output_max_size, all.output_max_size);
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_its_key() {
        for (json, key) in [
            (r#"{"piston":{"profile":"nobody"}}"#, "piston.profile: "),
            (r#"{"piston":{"run_timeout":120001}}"#, "piston.run_timeout: "),
            (r#"{"piston":{"run_memory_limit":1024}}"#, "piston.run_memory_limit: "),
            (r#"{"piston":{"profile":"judge","max_open_files":1025}}"#, "piston.max_open_files: "),
            (r#"{"piston":{"limit_overrides":{"cobol":{}}}}"#, "piston.limit_overrides.cobol: "),
            (
                r#"{"piston":{"limit_overrides":{"c":{"run_timeout":999999}}}}"#,
                "piston.limit_overrides.c.run_timeout: ",
            ),
            (r#"{"piston":{"limit_overrides":{"c":{"timeout":1}}}}"#, "piston.limit_overrides.c.timeout: "),
            (r#"{"piston":{"packages":"install"}}"#, "piston.packages: "),
            (r#"{"piston":{"run_timeout":1.5}}"#, "piston.run_timeout: "),
        ] {
            let error = Config::parse(json).unwrap_err();
            assert!(error.to_string().starts_with(key), "{json}: {error}");
            assert_eq!(error.line_in(json), Some(1), "{error}");
        }
        let most = r#"{"piston":{"run_timeout":120000,"limit_overrides":{"c":{"run_timeout":1}}}}"#;
        assert_eq!(Config::parse(most).unwrap().piston.run_timeout, 120_000);
    }
}
