//! Languages and runtimes: what is data in `profiles/languages/`, which versions a host has, and
//! which of them a request means.
//!
//! A *language* is a file of data; a *runtime* is one version of it that was found on this host,
//! in a root file system tree, or in a manifest that Nix rendered.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::plan::tree::Ecosystem;

mod command;
mod kernels;
mod languages;
mod select;
mod warm;

pub use command::{BASE_ENVIRONMENT, CommandLine, Program};
pub use kernels::{KERNEL_DIRECTORY, KERNELS};
pub use languages::{BUILT_IN, SourceError, Sources, StoreManifest, StoreRuntime, Tree, find};
pub use select::{Choice, UnknownRuntime};
pub use warm::{BOOT, BOOT_DIRECTORY, Warm};

/// How one language is compiled, run and checked; one file of `profiles/languages/`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Language {
    /// Name in requests.
    pub name: String,
    /// Name for people.
    pub title: String,
    /// Other names in requests.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// File extensions, without the dot.
    pub extensions: Vec<String>,
    /// Name of the source file where a request gives none.
    pub main: String,
    /// Key of the program that `/runtime/bin/<name><version>` points to.
    pub program: String,
    /// How to compile, for languages that are compiled.
    pub compile: Option<Command>,
    /// How to run.
    pub run: Command,
    /// How to start the interpreter before the program is known, where that is faster.
    pub warm: Option<Warm>,
    /// A program that shows that the runtime works.
    pub self_test: SelfTest,
    /// How to learn the exact version.
    pub probe: Probe,
    /// Standards of the language that a request can select.
    #[serde(default)]
    pub variants: Vec<Variant>,
    /// Further packages of nixpkgs that its programs call by name: a linker, the core utilities.
    #[serde(default)]
    pub nix_packages: Vec<String>,
    /// Known versions, oldest first.
    pub versions: Vec<VersionEntry>,
}

impl Language {
    /// Whose packages its programs can use.
    #[must_use]
    pub fn ecosystem(&self) -> Option<Ecosystem> {
        match self.program.as_str() {
            "python" => Some(Ecosystem::Python),
            // TypeScript runs on it as well.
            "node" => Some(Ecosystem::Npm),
            _ => None,
        }
    }
}

/// A command line with placeholders: `{program}`, `{main}`, `{stem}`, `{sources}`, `{flags}`,
/// `{memory_mib}`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Command {
    /// Arguments, the program first.
    pub argv: Vec<String>,
    /// Variables besides those that every program gets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// A program that shows that a runtime works.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfTest {
    /// Source text.
    pub source: String,
    /// Standard input.
    #[serde(default)]
    pub stdin: String,
    /// Exactly what it prints on standard output.
    pub expect: String,
}

/// How to learn the exact version: a command, and a pattern for what it prints.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Arguments, the program first.
    pub argv: Vec<String>,
    /// Regular expression whose first group is the version.
    pub pattern: String,
}

/// A standard of the language, such as C++20.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Name in requests: `c++@20`, `c++20`.
    pub name: String,
    /// What stands for `{flags}` in command lines.
    pub flags: Vec<String>,
    /// Used where a request names none.
    #[serde(default)]
    pub default: bool,
}

/// One version that hosts may have; one line to add.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionEntry {
    /// The version, as exact as the paths tell; absent where only running it tells.
    pub version: Option<Version>,
    /// Attribute in nixpkgs.
    pub nixpkgs: Option<String>,
    /// Flake input that still has the attribute, where the current nixpkgs has dropped it.
    pub pin: Option<String>,
    /// Paths of programs on a host or in a tree; found when all exist.
    #[serde(default)]
    pub programs: BTreeMap<String, String>,
    /// Paths of programs within the nixpkgs package, where they are not `bin/<key>`; `attribute:path`
    /// names a program of another package.
    #[serde(default)]
    pub nix_programs: BTreeMap<String, String>,
    /// Paths besides `/usr` that the programs need.
    #[serde(default)]
    pub extra_paths: Vec<PathBuf>,
    /// Month in which upstream ended its support.
    pub deprecated_since: Option<String>,
    /// Whether the language's warm start works for this version and is faster.
    #[serde(default = "yes")]
    pub warm: bool,
}

fn yes() -> bool {
    true
}

/// A version: numbers between dots, then whatever else upstream writes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    numbers: Vec<u64>,
    text: String,
}

impl Version {
    /// Its leading numbers, most significant first.
    #[must_use]
    pub fn numbers(&self) -> &[u64] {
        &self.numbers
    }

    /// Whether `self` is `other` or a more exact form of it: 3.12.4 refines 3.12 and 3.
    #[must_use]
    pub fn refines(&self, other: &Self) -> bool {
        self.numbers.starts_with(&other.numbers)
    }

    /// The version as semantic versioning has it, with zeros for what is missing.
    #[must_use]
    pub fn semantic(&self) -> semver::Version {
        let number = |index: usize| self.numbers.get(index).copied().unwrap_or(0);
        semver::Version::new(number(0), number(1), number(2))
    }
}

impl TryFrom<String> for Version {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (head, _) = text.split_at(digits);
        let numbers = head
            .trim_end_matches('.')
            .split('.')
            .map(str::parse)
            .collect::<Result<Vec<u64>, _>>()
            .map_err(|_| format!("{text:?} is no version: it must begin with numbers between dots"))?;
        Ok(Self { numbers, text })
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.text
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Where a runtime's files come from, and so what its sandboxes can see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Files {
    /// The host's `/usr`, and these paths besides.
    Host {
        /// Paths outside `/usr`.
        extra: Vec<PathBuf>,
    },
    /// A root file system tree.
    Tree {
        /// Its root directory.
        root: PathBuf,
        /// Paths inside it, outside its `/usr`.
        extra: Vec<PathBuf>,
    },
    /// Store paths, and nothing but these.
    Store {
        /// Every path of the closure.
        closure: Vec<PathBuf>,
    },
}

/// One version of one language that this host can run.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// Names it between daemon and launcher.
    pub id: String,
    /// Its language.
    pub language: Arc<Language>,
    /// Its version, as exact as is known.
    pub version: Option<Version>,
    /// Absolute paths of its programs inside the sandbox.
    pub programs: BTreeMap<String, PathBuf>,
    /// Directories of the search path, after `/runtime/bin` and before the usual ones.
    pub path: Vec<PathBuf>,
    /// What its sandboxes see.
    pub files: Files,
    /// Size of the closure, where it is known.
    pub closure_bytes: Option<u64>,
    /// Month in which upstream ended its support.
    pub deprecated_since: Option<String>,
    /// Whether its language's warm start works for it and is faster.
    pub warm: bool,
    /// What the last self-test found.
    pub health: Health,
    /// What the last self-test used.
    pub baseline: Option<Baseline>,
}

/// What is known of a runtime's working order.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Health {
    /// No self-test has run yet.
    #[default]
    Unchecked,
    /// The self-test printed what it should.
    Working,
    /// It did not; jobs are refused.
    Broken {
        /// Why.
        reason: String,
    },
}

/// What a self-test found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// Why the runtime is broken; `None` where it works.
    pub broken: Option<String>,
    /// Its exact version, if it told.
    pub version: Option<Version>,
    /// What its self-test used.
    pub baseline: Option<Baseline>,
}

/// What next to nothing costs in a runtime: the run stage of its self-test. Less this, the usage of
/// a run is the program's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Baseline {
    /// Time by the clock, in microseconds.
    pub wall_time_us: u64,
    /// Processor time, in microseconds.
    pub cpu_time_us: u64,
    /// Most memory at one time, in bytes.
    pub memory_peak_bytes: u64,
}

impl Runtime {
    /// Path of the program that is the runtime.
    #[must_use]
    pub fn program(&self) -> &Path {
        self.programs.get(&self.language.program).expect("checked when the runtime was found")
    }

    /// How its interpreter is started before its program is known, where it is.
    #[must_use]
    pub fn warm(&self) -> Option<&Warm> {
        self.language.warm.as_ref().filter(|_| self.warm)
    }

    /// Names of its links in `/runtime/bin`: `python`, `python3`, `python3.12`, `python3.12.4`.
    #[must_use]
    pub fn link_names(&self) -> Vec<String> {
        let mut names = vec![self.language.name.clone()];
        let mut name = self.language.name.clone();
        for (index, number) in self.version.iter().flat_map(|version| version.numbers()).enumerate() {
            let dot = if index == 0 { "" } else { "." };
            name = format!("{name}{dot}{number}");
            names.push(name.clone());
        }
        names
    }
}

/// All runtimes of this host.
#[derive(Debug, Clone, Default)]
pub struct Catalogue {
    runtimes: Vec<Runtime>,
    /// By language: ids of the versions that stand for it where none is named, with their weights.
    defaults: BTreeMap<String, Vec<(String, u32)>>,
}

impl Catalogue {
    /// A catalogue of these runtimes; of two with the same id the first stays.
    #[must_use]
    pub fn new(found: Vec<Runtime>) -> Self {
        let mut runtimes: Vec<Runtime> = Vec::new();
        for runtime in found {
            if !runtimes.iter().any(|known| known.id == runtime.id) {
                runtimes.push(runtime);
            }
        }
        Self { runtimes, defaults: BTreeMap::new() }
    }

    /// The same with these defaults: by language, ids of runtimes and their weights.
    #[must_use]
    pub fn with_defaults(self, defaults: BTreeMap<String, Vec<(String, u32)>>) -> Self {
        Self { defaults, ..self }
    }

    /// Takes over what is known of runtimes that an older catalogue has as well.
    pub fn inherit(&mut self, older: &Self) {
        for runtime in &mut self.runtimes {
            let same = |old: &&Runtime| {
                (&old.id, &old.programs, &old.path, &old.files)
                    == (&runtime.id, &runtime.programs, &runtime.path, &runtime.files)
            };
            // One whose closure is gone is broken, whatever was found while it was there; and one
            // that was broken may have been mended.
            let known = older.runtimes.iter().find(same).filter(|old| old.health == Health::Working);
            if let (Health::Unchecked, Some(old)) = (&runtime.health, known) {
                runtime.health = old.health.clone();
                runtime.version = old.version.clone();
                runtime.baseline = old.baseline;
            }
        }
    }

    /// Every runtime, in the order of languages and versions.
    #[must_use]
    pub fn runtimes(&self) -> &[Runtime] {
        &self.runtimes
    }

    /// The runtime with this id.
    #[must_use]
    pub fn by_id(&self, id: &str) -> Option<&Runtime> {
        self.runtimes.iter().find(|runtime| runtime.id == id)
    }

    /// Records what a self-test found.
    pub fn record(&mut self, id: &str, checked: &Checked) {
        if let Some(runtime) = self.runtimes.iter_mut().find(|runtime| runtime.id == id) {
            runtime.health = match &checked.broken {
                None => Health::Working,
                Some(reason) => Health::Broken { reason: reason.clone() },
            };
            runtime.baseline = checked.baseline;
            if let Some(exact) = &checked.version {
                runtime.version = Some(exact.clone());
            }
        }
    }

    /// The language of a file, by its extension.
    #[must_use]
    pub fn language_of(&self, file: &str) -> Option<&Arc<Language>> {
        let extension = Path::new(file).extension()?.to_str()?;
        self.runtimes
            .iter()
            .map(|runtime| &runtime.language)
            .find(|language| language.extensions.iter().any(|known| known == extension))
    }

    /// What `GET /v1/runtimes` and `/runtime/runtimes.json` say.
    #[must_use]
    pub fn manifest(&self) -> Manifest {
        Manifest { runtimes: self.runtimes.iter().map(Listing::of).collect() }
    }
}

/// The list of runtimes, in the form that is shown inside and outside of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Manifest {
    /// Every runtime.
    pub runtimes: Vec<Listing>,
}

/// One runtime, as shown inside and outside of sandboxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Listing {
    /// Name of the language.
    pub language: String,
    /// Name for people.
    pub title: String,
    /// Other names of the language.
    pub aliases: Vec<String>,
    /// Version, as exact as is known; null where only a self-test would tell.
    pub version: Option<String>,
    /// Names of the standards that can be selected.
    pub variants: Vec<String>,
    /// Path of the program inside the sandbox.
    pub path: String,
    /// Where its files come from: host, tree or store.
    pub source: String,
    /// Size of the closure in bytes, where known.
    pub closure_bytes: Option<u64>,
    /// Month in which upstream ended its support.
    pub deprecated_since: Option<String>,
    /// What the last self-test found.
    #[schema(value_type = Object)]
    pub health: Health,
    /// What the last self-test used, which is what next to nothing costs; null before it has run.
    pub baseline: Option<Baseline>,
}

impl Listing {
    fn of(runtime: &Runtime) -> Self {
        let language = &runtime.language;
        Self {
            language: language.name.clone(),
            title: language.title.clone(),
            aliases: language.aliases.clone(),
            version: runtime.version.as_ref().map(ToString::to_string),
            variants: language.variants.iter().map(|variant| variant.name.clone()).collect(),
            path: runtime.program().to_string_lossy().into_owned(),
            source: match runtime.files {
                Files::Host { .. } => "host",
                Files::Tree { .. } => "tree",
                Files::Store { .. } => "store",
            }
            .to_owned(),
            closure_bytes: runtime.closure_bytes,
            deprecated_since: runtime.deprecated_since.clone(),
            health: runtime.health.clone(),
            baseline: runtime.baseline,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        Version::try_from(text.to_owned()).unwrap()
    }

    #[test]
    fn versions_order_by_number_not_by_letter() {
        assert!(version("3.9") < version("3.12"));
        assert!(version("3.12") < version("3.12.4"));
    }

    #[test]
    fn a_more_exact_version_refines() {
        assert!(version("3.12.4").refines(&version("3.12")));
        assert!(!version("3.1").refines(&version("3.12")));
        assert!(!version("3.12").refines(&version("3.1")));
    }

    #[test]
    fn text_after_the_numbers_is_kept() {
        let version = version("5.36.0-7+deb12u3");
        assert_eq!(version.numbers(), [5, 36, 0]);
        assert_eq!(version.to_string(), "5.36.0-7+deb12u3");
    }

    #[test]
    fn a_version_without_numbers_is_refused() {
        assert!(Version::try_from("latest".to_owned()).is_err());
        assert!(Version::try_from(String::new()).is_err());
    }
}
