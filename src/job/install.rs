//! What is to be installed for a job or a session, checked and complete.

use crate::plan::tree::Ecosystem;
use crate::plan::{ArchivedFile, FilePath};
use crate::profile::Policy;

use super::{StageRequest, Toolchain};

/// What one installer is to do, in a sandbox of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Install {
    /// What it installs for.
    pub ecosystem: Ecosystem,
    /// Id of the runtime that the packages are for, and that the installer uses.
    pub runtime: String,
    /// Name of the profile under which it runs.
    pub profile: String,
    /// What a program under that profile meets.
    pub policy: Policy,
    /// What tells one state of the runtime and of the installer from another.
    pub toolchains: Vec<Toolchain>,
    /// How it is run.
    pub stage: StageRequest,
    /// What it reads.
    pub files: Vec<ArchivedFile>,
    /// The directory below `/workspace` that it fills.
    pub output: FilePath,
    /// Most bytes in there.
    pub max_bytes: u64,
    /// Most files, directories and links in there.
    pub max_files: u64,
    /// How long its result holds, in milliseconds; absent where nothing is left open.
    pub lifetime_ms: Option<u64>,
}

impl Install {
    /// In which of its spans of time it is at this time since 1970, where its result does not hold for ever.
    ///
    /// Spans follow one another without a gap, so a result holds for a lifetime at most, and for less where it was
    /// made late in one. Nobody has to know when it was made.
    #[must_use]
    pub fn span(&self, now_ms: u64) -> u64 {
        // 0 is no span.
        self.lifetime_ms.map_or(0, |lifetime| now_ms / lifetime.max(1) + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{BUILT_IN, Profile};

    #[test]
    fn a_result_holds_for_a_lifetime_at_most() {
        let profile: Profile = toml::from_str(BUILT_IN[2].1).unwrap();
        let install = Install {
            ecosystem: Ecosystem::Python,
            runtime: "python-3.12".into(),
            profile: "default".into(),
            policy: profile.policy(),
            toolchains: vec![],
            stage: StageRequest { argv: vec![], env: [].into(), limits: profile.run },
            files: vec![],
            output: FilePath::try_from(b"out".to_vec()).unwrap(),
            max_bytes: 1,
            max_files: 1,
            lifetime_ms: Some(1000),
        };
        assert_eq!(install.span(5000), install.span(5999));
        assert_ne!(install.span(5999), install.span(6000));
        let fixed = Install { lifetime_ms: None, ..install };
        assert_eq!(fixed.span(0), fixed.span(u64::MAX));
    }
}
