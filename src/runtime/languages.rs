//! The languages that come with the program, and which of their versions are there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use super::{Catalogue, Files, Health, Language, Runtime, Version, VersionEntry};

/// Every file of `profiles/languages/`: name and text.
pub const BUILT_IN: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/languages.rs"));

/// Where to look for runtimes; section `runtimes` of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sources {
    /// Whether to take the versions that the host has below `/usr`.
    pub host: bool,
    /// Root file system trees, each with one version.
    pub trees: Vec<Tree>,
    /// Path of a manifest of store paths, which Nix renders.
    pub manifest: Option<PathBuf>,
    /// By language: the versions that a request gets that names none, each with its weight, so that
    /// a new default can be rolled out by degrees. A language that is not here gets its newest.
    pub defaults: BTreeMap<String, BTreeMap<String, u32>>,
}

/// A root file system tree with one version of one language.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// Name of the language.
    pub language: String,
    /// The version in the tree.
    pub version: Version,
    /// Root directory of the tree, readable by every user.
    pub root: PathBuf,
}

/// The manifest that Nix renders: runtimes by store path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreManifest {
    /// One entry a runtime.
    pub runtimes: Vec<StoreRuntime>,
}

/// A runtime made of store paths.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreRuntime {
    /// Name of the language.
    pub language: String,
    /// The version, exactly.
    pub version: Version,
    /// Absolute paths of its programs, by the keys that the language's command lines use.
    pub programs: BTreeMap<String, PathBuf>,
    /// Directories of the search path, before the usual ones.
    pub path: Vec<PathBuf>,
    /// Every path of the closure.
    pub closure: Vec<PathBuf>,
    /// Size of the closure in bytes.
    pub closure_bytes: Option<u64>,
}

/// A source of runtimes that does not fit the languages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// A tree or a manifest names a language that is not known.
    #[error("{named_by} names the language {language:?}, which no file of profiles/languages has")]
    UnknownLanguage {
        /// What names it.
        named_by: &'static str,
        /// The name.
        language: String,
    },
    /// A tree lacks the programs of its language.
    #[error("the tree {root} of {language} {version} lacks {missing}", root = root.display())]
    IncompleteTree {
        /// Name of the language.
        language: String,
        /// The version that it should hold.
        version: Version,
        /// Its root.
        root: PathBuf,
        /// What is missing.
        missing: String,
    },
    /// A manifest's runtime lacks the program that gives it its name.
    #[error("the manifest's {language} {version} has no program {program:?}")]
    IncompleteStoreRuntime {
        /// Name of the language.
        language: String,
        /// The version.
        version: Version,
        /// Key of the missing program.
        program: String,
    },
    /// A default names a version that is not there.
    #[error("runtimes.defaults.{language}: there is no version {version:?}; there are {present}")]
    UnknownDefault {
        /// Name of the language.
        language: String,
        /// The version.
        version: String,
        /// Versions that are there.
        present: String,
    },
    /// The weights of a language's defaults are all zero.
    #[error("runtimes.defaults.{language}: at least one version must have a weight above zero")]
    NoWeight {
        /// Name of the language.
        language: String,
    },
}

impl SourceError {
    /// The key of the configuration that is at fault.
    pub(crate) fn key(&self) -> String {
        match self {
            Self::UnknownLanguage { named_by, .. } => (*named_by).to_owned(),
            Self::IncompleteTree { .. } => "runtimes.trees".to_owned(),
            Self::IncompleteStoreRuntime { .. } => "runtimes.manifest".to_owned(),
            Self::UnknownDefault { language, version, .. } => format!("runtimes.defaults.{language}.{version}"),
            Self::NoWeight { language } => format!("runtimes.defaults.{language}"),
        }
    }
}

/// Finds the runtimes that the sources offer; `exists` tells whether a path exists on this host.
///
/// # Errors
/// A configured tree or manifest that does not fit. A host that lacks a version is no error.
pub fn find(
    languages: &[Arc<Language>],
    sources: &Sources,
    manifest: Option<StoreManifest>,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Catalogue, SourceError> {
    let mut found = Vec::new();
    for entry in manifest.into_iter().flat_map(|manifest| manifest.runtimes) {
        found.push(of_store(language(languages, &entry.language, "runtimes.manifest")?, entry, exists)?);
    }
    for tree in &sources.trees {
        found.push(of_tree(language(languages, &tree.language, "runtimes.trees")?, tree, exists)?);
    }
    if sources.host {
        for language in languages {
            found.extend(language.versions.iter().filter_map(|entry| of_host(language, entry, exists)));
        }
    }
    found.sort_by(|a, b| (&a.language.name, &a.version).cmp(&(&b.language.name, &b.version)));
    let catalogue = Catalogue::new(found);
    let defaults = defaults(languages, &sources.defaults, &catalogue)?;
    Ok(catalogue.with_defaults(defaults))
}

/// The ids of the runtimes that are defaults, with their weights, by language.
fn defaults(
    languages: &[Arc<Language>],
    given: &BTreeMap<String, BTreeMap<String, u32>>,
    catalogue: &Catalogue,
) -> Result<BTreeMap<String, Vec<(String, u32)>>, SourceError> {
    let mut defaults = BTreeMap::new();
    for (name, weights) in given {
        let name = &language(languages, name, "runtimes.defaults")?.name;
        let of_language = || catalogue.runtimes().iter().filter(|runtime| runtime.language.name == *name);
        let mut weighed = Vec::new();
        for (version, weight) in weights {
            let wanted = Version::try_from(version.clone()).ok();
            let fits =
                |runtime: &&Runtime| runtime.version.as_ref().zip(wanted.as_ref()).is_some_and(|(a, b)| a.refines(b));
            let found = of_language().rfind(fits).ok_or_else(|| SourceError::UnknownDefault {
                language: name.clone(),
                version: version.clone(),
                present: of_language()
                    .filter_map(|one| one.version.as_ref())
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
            weighed.push((found.id.clone(), *weight));
        }
        if weighed.iter().all(|(_, weight)| *weight == 0) {
            return Err(SourceError::NoWeight { language: name.clone() });
        }
        defaults.insert(name.clone(), weighed);
    }
    Ok(defaults)
}

fn language<'a>(
    languages: &'a [Arc<Language>],
    name: &str,
    named_by: &'static str,
) -> Result<&'a Arc<Language>, SourceError> {
    languages
        .iter()
        .find(|language| language.name == name || language.aliases.iter().any(|alias| alias == name))
        .ok_or_else(|| SourceError::UnknownLanguage { named_by, language: name.to_owned() })
}

fn of_store(
    language: &Arc<Language>,
    entry: StoreRuntime,
    exists: &dyn Fn(&Path) -> bool,
) -> Result<Runtime, SourceError> {
    if !entry.programs.contains_key(&language.program) {
        return Err(SourceError::IncompleteStoreRuntime {
            language: entry.language,
            version: entry.version,
            program: language.program.clone(),
        });
    }
    let known = language.versions.iter().find(|known| {
        known.nixpkgs.is_some() && known.version.as_ref().is_some_and(|version| entry.version.refines(version))
    });
    // One runtime that was collected as garbage must not keep the others from being served.
    let gone = entry.closure.iter().find(|path| !exists(path));
    let health = gone.map_or(Health::Unchecked, |path| Health::Broken {
        reason: format!("{} of its closure is gone; build the system anew, or remove the runtime", path.display()),
    });
    Ok(Runtime {
        id: id(language, Some(&entry.version)),
        language: Arc::clone(language),
        version: Some(entry.version),
        programs: entry.programs,
        path: entry.path,
        files: Files::Store { closure: entry.closure },
        closure_bytes: entry.closure_bytes,
        deprecated_since: known.and_then(|known| known.deprecated_since.clone()),
        warm: known.is_none_or(|known| known.warm),
        health,
        baseline: None,
    })
}

fn of_tree(language: &Arc<Language>, tree: &Tree, exists: &dyn Fn(&Path) -> bool) -> Result<Runtime, SourceError> {
    let incomplete = |missing: String| SourceError::IncompleteTree {
        language: tree.language.clone(),
        version: tree.version.clone(),
        root: tree.root.clone(),
        missing,
    };
    let entry = language
        .versions
        .iter()
        .find(|entry| {
            !entry.programs.is_empty() && entry.version.as_ref().is_some_and(|known| tree.version.refines(known))
        })
        .or_else(|| language.versions.iter().find(|entry| entry.version.is_none()))
        .ok_or_else(|| incomplete("an entry in its language's list of versions".to_owned()))?;
    let programs = paths(entry);
    let inside = |path: &Path| tree.root.join(path.strip_prefix("/").unwrap_or(path));
    if let Some(missing) = programs.values().find(|path| !exists(&inside(path))) {
        return Err(incomplete(missing.display().to_string()));
    }
    Ok(Runtime {
        id: id(language, Some(&tree.version)),
        language: Arc::clone(language),
        version: Some(tree.version.clone()),
        programs,
        path: Vec::new(),
        files: Files::Tree {
            root: tree.root.clone(),
            extra: entry.extra_paths.iter().filter(|path| exists(&inside(path))).cloned().collect(),
        },
        closure_bytes: None,
        deprecated_since: entry.deprecated_since.clone(),
        warm: entry.warm,
        health: Health::default(),
        baseline: None,
    })
}

fn of_host(language: &Arc<Language>, entry: &VersionEntry, exists: &dyn Fn(&Path) -> bool) -> Option<Runtime> {
    let programs = paths(entry);
    if programs.is_empty() || !programs.values().all(|path| exists(path)) {
        return None;
    }
    Some(Runtime {
        id: id(language, entry.version.as_ref()),
        language: Arc::clone(language),
        version: entry.version.clone(),
        programs,
        path: Vec::new(),
        files: Files::Host { extra: entry.extra_paths.iter().filter(|path| exists(path)).cloned().collect() },
        closure_bytes: None,
        deprecated_since: entry.deprecated_since.clone(),
        warm: entry.warm,
        health: Health::default(),
        baseline: None,
    })
}

/// The programs of an entry, with Debian's name of this architecture filled in.
fn paths(entry: &VersionEntry) -> BTreeMap<String, PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    };
    let fill = |path: &String| PathBuf::from(path.replace("{debian_arch}", architecture));
    entry.programs.iter().map(|(key, path)| (key.clone(), fill(path))).collect()
}

fn id(language: &Language, version: Option<&Version>) -> String {
    match version {
        Some(version) => format!("{}-{version}", language.name),
        None => language.name.clone(),
    }
}

#[cfg(test)]
mod tests;
