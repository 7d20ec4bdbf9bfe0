//! Warm starts: an interpreter that was started before its program was known, and which jobs it fits.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

/// The boot programs that come with the program: file name and text; see `profiles/warm/README.md`.
pub const BOOT: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/warm.rs"));

/// Directory of the boot programs in a sandbox.
pub const BOOT_DIRECTORY: &str = "/runtime/warm";

/// How an interpreter is started before its program is known.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Warm {
    /// File in `profiles/warm/`; in a sandbox it is below [`BOOT_DIRECTORY`].
    pub boot: String,
    /// Arguments, the program first. `{boot}` stands for the path of the boot program.
    pub argv: Vec<String>,
    /// Variables besides those of `run` while it starts; the boot program takes them away again.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where it is started; `/workspace` where absent. The boot program goes there, then.
    #[serde(default = "workspace")]
    pub directory: PathBuf,
    /// Whether arguments and variables can't be changed any more once it has started: then only a job
    /// that adds none is started warm, and only one whose main file has the language's usual name.
    #[serde(default)]
    pub fixed: bool,
    /// Variables that the interpreter reads when it starts: a job that sets one is not started
    /// warm. `*` at the end stands for anything.
    #[serde(default)]
    pub cold_env: Vec<String>,
}

fn workspace() -> PathBuf {
    "/workspace".into()
}

/// Variables that the dynamic linker and the C library read when any program starts.
const COLD_ENV: [&str; 14] = [
    "LD_*",
    "GLIBC_*",
    "MALLOC_*",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "GETCONF_DIR",
    "LANG",
    "LANGUAGE",
    "LC_*",
    "TZ*",
    "HOME",
    "PATH",
    "TMPDIR",
];

impl Warm {
    /// Whether a job may set this variable and be started warm all the same.
    #[must_use]
    pub fn allows(&self, variable: &str) -> bool {
        let is = |pattern: &str| match pattern.strip_suffix('*') {
            Some(prefix) => variable.starts_with(prefix),
            None => variable == pattern,
        };
        !COLD_ENV.iter().any(|pattern| is(pattern)) && !self.cold_env.iter().any(|pattern| is(pattern))
    }
}
