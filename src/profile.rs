//! Profiles: limits, network policy and strictness that a job runs under.
//!
//! The values live in `profiles/sandboxes/*.toml`, one home for Nix and for Rust; this module
//! gives them a type. A request may change a limit up to the profile's maximum.

use serde::{Deserialize, Serialize};

mod network;
mod never;
mod written;

pub use network::{
    AllowList, DEFAULT_PORTS, DESTINATIONS, Destination, EXCEPTED, GROUPS, Host, Name, Network, NotCovered, PORTS,
    SECRETS, Unfit,
};
pub use never::NEVER;
pub use written::{AllowForm, Closed, DestinationForm, NetworkForm};

/// The profiles that come with the program: file name and text.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sandboxes.rs"));

/// The system call filters that come with the program: file name and text.
pub const FILTERS: &[(&str, &str)] = &[("default", include_str!("../profiles/seccomp/default.toml"))];

/// What a job runs under.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// What the profile is for, in one sentence.
    pub title: String,
    /// What the program can reach.
    pub network: Network,
    /// Name of the system call filter in `profiles/seccomp/`.
    pub seccomp: String,
    /// What a refused system call does to the program.
    pub denied_syscall: DeniedSyscall,
    /// Whether those who use it may have packages installed.
    #[serde(default = "yes")]
    pub dependencies: bool,
    /// Limits of the compile stage.
    pub compile: Limits,
    /// Limits of the run stage.
    pub run: Limits,
    /// The most that a request may ask for, in either stage.
    pub maximum: Limits,
}

fn yes() -> bool {
    true
}

/// What a program meets under a profile, besides its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// What it can reach.
    pub network: Network,
    /// Name of the system call filter.
    pub seccomp: String,
    /// What a refused system call does to it.
    pub denied_syscall: DeniedSyscall,
}

/// What a refused system call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeniedSyscall {
    /// It fails with EPERM, and the result names it.
    Error,
    /// The program is ended at once, and the verdict names it.
    Kill,
}

macro_rules! limits {
    ($($(#[$doc:meta])* $field:ident: $least:expr,)+) => {
        /// Limits of one stage. Every one is always in force.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct Limits { $($(#[$doc])* pub $field: u64,)+ }

        /// Limits that a request changes; what is absent stays as the profile has it.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(deny_unknown_fields)]
        pub struct LimitChanges {
            $($(#[$doc])* #[serde(default, skip_serializing_if = "Option::is_none")] pub $field: Option<u64>,)+
        }

        impl Limits {
            /// Names of all limits, as requests, profiles and Nix options spell them.
            pub const FIELDS: &[&str] = &[$(stringify!($field),)+];

            /// The limits with a request's changes, each held to what `maximum` allows.
            ///
            /// # Errors
            /// The first limit that is out of range, with its range.
            pub fn changed(mut self, changes: &LimitChanges, maximum: &Self) -> Result<Self, OutOfRange> {
                $(if let Some(asked) = changes.$field {
                    let most = maximum.$field;
                    if !($least..=most).contains(&asked) {
                        return Err(OutOfRange { field: stringify!($field), asked, least: $least, most });
                    }
                    self.$field = asked;
                })+
                Ok(self)
            }

            /// Checks a profile's own numbers.
            ///
            /// # Errors
            /// The first limit that is out of range, with its range.
            pub fn check(&self, maximum: &Self) -> Result<(), OutOfRange> {
                $(if !($least..=maximum.$field).contains(&self.$field) {
                    return Err(OutOfRange {
                        field: stringify!($field), asked: self.$field, least: $least, most: maximum.$field,
                    });
                })+
                Ok(())
            }
        }

        impl LimitChanges {
            /// Sets a limit by its name.
            ///
            /// # Errors
            /// `None` where no limit has that name.
            pub fn set(&mut self, name: &str, value: u64) -> Option<()> {
                match name {
                    $(stringify!($field) => self.$field = Some(value),)+
                    _ => return None,
                }
                Some(())
            }
        }
    };
}

limits! {
    /// Time by the clock on the wall, in milliseconds.
    wall_time_ms: 1,
    /// Processor time of all processes together, in milliseconds.
    cpu_time_ms: 1,
    /// Share of processors, in thousandths: 1000 is one whole processor.
    cpu_millis: 10,
    /// Memory of all processes together with the files below `/workspace` and `/tmp`, in bytes.
    memory_bytes: 4 << 20,
    /// Processes and threads alive at one time.
    processes: 1,
    /// Descriptors that one process may have open.
    open_files: 8,
    /// Size of one file, in bytes.
    file_size_bytes: 0,
    /// Size of all files below `/workspace`, `/tmp` and `/dev/shm`, in bytes.
    disk_bytes: 64 << 10,
    /// Number of files, directories and links below `/workspace`, `/tmp` and `/dev/shm`.
    disk_files: 16,
    /// Bytes of standard output, and as many again of standard error.
    output_bytes: 0,
    /// Size of the main thread's stack, in bytes.
    stack_bytes: 64 << 10,
}

/// A limit outside of its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {asked}, but must be from {least} to {most}")]
pub struct OutOfRange {
    /// Name of the limit.
    pub field: &'static str,
    /// The value that was asked for.
    pub asked: u64,
    /// The least that makes sense.
    pub least: u64,
    /// The most that the profile allows.
    pub most: u64,
}

impl Profile {
    /// What a program meets under it, besides its limits.
    #[must_use]
    pub fn policy(&self) -> Policy {
        Policy { network: self.network.clone(), seccomp: self.seccomp.clone(), denied_syscall: self.denied_syscall }
    }

    /// Checks that a profile's numbers are in range of its own maxima.
    ///
    /// # Errors
    /// The first limit that is not, and the section that it stands in.
    pub fn check(&self) -> Result<(), (&'static str, OutOfRange)> {
        let sections = [("maximum", &self.maximum), ("compile", &self.compile), ("run", &self.run)];
        sections
            .into_iter()
            .try_for_each(|(section, limits)| limits.check(&self.maximum).map_err(|error| (section, error)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_profiles_are_valid() {
        for (name, text) in BUILT_IN {
            let profile: Profile = toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"));
            profile.check().unwrap_or_else(|(section, error)| panic!("{name}.{section}: {error}"));
        }
    }

    #[test]
    fn every_file_of_profiles_is_built_in() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/sandboxes");
        let mut files: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(files, BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }

    #[test]
    fn a_change_above_the_maximum_is_refused_with_the_range() {
        let profile: Profile = toml::from_str(BUILT_IN[2].1).unwrap();
        let changes = LimitChanges { processes: Some(u64::MAX), ..LimitChanges::default() };
        let error = profile.run.changed(&changes, &profile.maximum).unwrap_err();
        assert_eq!((error.field, error.most), ("processes", profile.maximum.processes));
    }

    #[test]
    fn a_change_of_zero_is_refused() {
        let profile: Profile = toml::from_str(BUILT_IN[2].1).unwrap();
        let changes = LimitChanges { wall_time_ms: Some(0), ..LimitChanges::default() };
        assert!(profile.run.changed(&changes, &profile.maximum).is_err());
    }
}
