//! Which runtime a request means: `python`, `python@3`, `python@3.12`, `python3.12`,
//! `node@>=18 <22`, `c++@20`, `c++20@12`.

use std::collections::BTreeSet;

use super::{Catalogue, Health, Language, Runtime, Variant, Version};

/// What a selector chose.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The runtime.
    pub runtime: &'a Runtime,
    /// The standard of the language, for languages that have several.
    pub variant: Option<&'a Variant>,
}

/// A selector that no runtime fits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no runtime is called {selector:?}")]
pub struct UnknownRuntime {
    /// What was asked for.
    pub selector: String,
    /// What is there and resembles it, best first.
    pub near: Vec<String>,
}

/// Longest selector that is looked at.
const SELECTOR_BYTES: usize = 128;
/// Most names offered instead.
const NEAR_MATCHES: usize = 5;

impl Catalogue {
    /// The runtime that a selector means: of those that fit, the newest that is not broken.
    ///
    /// ```
    /// # use codesandbox::config::Config;
    /// let catalogue = Config::parse("{}")?.catalogue(None, &|_| true)?;
    /// assert_eq!(catalogue.resolve("python@3.12").unwrap().runtime.id, "python-3.12");
    /// assert_eq!(catalogue.resolve("c++@20").unwrap().variant.unwrap().name, "20");
    /// assert!(catalogue.resolve("pyhton").unwrap_err().near[0].starts_with("python@"));
    /// # Ok::<(), codesandbox::config::ConfigError>(())
    /// ```
    ///
    /// # Errors
    /// The selector fits none; near matches are told.
    pub fn resolve(&self, selector: &str) -> Result<Choice<'_>, UnknownRuntime> {
        self.draw(selector, 0)
    }

    /// The same, where a request that names no version has it drawn from the configured defaults
    /// by their weights; `lot` is any number, and should be a random one.
    ///
    /// # Errors
    /// As [`Catalogue::resolve`].
    pub fn draw(&self, selector: &str, lot: u64) -> Result<Choice<'_>, UnknownRuntime> {
        self.choose(selector, lot).ok_or_else(|| UnknownRuntime {
            selector: selector.chars().take(SELECTOR_BYTES).collect(),
            near: self.near(selector),
        })
    }

    fn choose(&self, selector: &str, lot: u64) -> Option<Choice<'_>> {
        if selector.len() > SELECTOR_BYTES {
            return None;
        }
        let (name, wanted) = match selector.split_once('@') {
            Some((name, wanted)) => (name.trim(), Some(wanted.trim())),
            None => (selector.trim(), None),
        };
        let name = name.to_lowercase();
        if let Some(wanted) = wanted {
            // `c++@20` names a standard of the language; `g++@12` and `c++@12` a compiler.
            if let Some(choice) = self.by_variant(&name, wanted, None, lot) {
                return Some(choice);
            }
            return self.by_name(&name, Some(wanted), lot).or_else(|| {
                let (stem, digits) = split_digits(&name)?;
                self.by_variant(stem, digits, Some(wanted), lot)
            });
        }
        self.by_name(&name, None, lot).or_else(|| {
            let (stem, digits) = split_digits(&name)?;
            self.by_variant(stem, digits, None, lot).or_else(|| self.by_name(stem, Some(digits), lot))
        })
    }

    fn by_variant(&self, name: &str, variant: &str, version: Option<&str>, lot: u64) -> Option<Choice<'_>> {
        // Names of compilers select compilers, so only the language's first names select standards.
        let choice = self.by_name(name, version, lot)?;
        let language = &choice.runtime.language;
        let variant = language.variants.iter().find(|known| known.name == variant)?;
        (!is_compiler_name(name)).then_some(Choice { variant: Some(variant), ..choice })
    }

    fn by_name(&self, name: &str, wanted: Option<&str>, lot: u64) -> Option<Choice<'_>> {
        let requirement = match wanted {
            Some(text) => Some(Requirement::parse(text)?),
            None => None,
        };
        let fits = |runtime: &&Runtime| match (&requirement, &runtime.version) {
            (None, _) => true,
            (Some(requirement), Some(version)) => requirement.admits(version),
            (Some(_), None) => false,
        };
        let of_language = self.runtimes().iter().filter(|runtime| is_named(&runtime.language, name));
        let drawn = wanted.is_none().then(|| self.default_of(name, lot)).flatten();
        let newest = || {
            let fitting = of_language.filter(fits);
            fitting.max_by_key(|runtime| (!matches!(runtime.health, Health::Broken { .. }), runtime.version.clone()))
        };
        let runtime = drawn.or_else(newest)?;
        let variant = runtime.language.variants.iter().find(|variant| variant.default);
        Some(Choice { runtime, variant })
    }

    /// One of the configured defaults of a language, by weight, broken ones left out.
    fn default_of(&self, name: &str, lot: u64) -> Option<&Runtime> {
        let (_, weights) = self.defaults.iter().find(|(language, _)| {
            self.runtimes()
                .iter()
                .any(|runtime| runtime.language.name == **language && is_named(&runtime.language, name))
        })?;
        let sound: Vec<(&Runtime, u64)> = weights
            .iter()
            .filter_map(|(id, weight)| Some((self.by_id(id)?, u64::from(*weight))))
            .filter(|(runtime, weight)| *weight > 0 && !matches!(runtime.health, Health::Broken { .. }))
            .collect();
        let all: u64 = sound.iter().map(|(_, weight)| weight).sum();
        let mut lot = lot.checked_rem(all)?;
        sound.into_iter().find_map(|(runtime, weight)| match lot.checked_sub(weight) {
            Some(left) => {
                lot = left;
                None
            }
            None => Some(runtime),
        })
    }

    /// Names that resemble a selector, best first.
    fn near(&self, selector: &str) -> Vec<String> {
        let selector: String = selector.chars().take(SELECTOR_BYTES).collect::<String>().to_lowercase();
        let name = selector.split('@').next().unwrap_or_default();
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
        let mut seen = BTreeSet::new();
        let mut scored: Vec<(f64, &Runtime)> = self
            .runtimes()
            .iter()
            .filter(|runtime| seen.insert(&runtime.id))
            .map(|runtime| {
                let language = &runtime.language;
                let names = language.aliases.iter().chain([&language.name]);
                let score = names
                    .map(|known| strsim::jaro_winkler(known, stem).max(strsim::jaro_winkler(known, name)))
                    .fold(0.0, f64::max);
                (score, runtime)
            })
            .filter(|(score, _)| *score > 0.7)
            .collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| b.1.version.cmp(&a.1.version)));
        scored.into_iter().take(NEAR_MATCHES).map(|(_, runtime)| selector_of(runtime)).collect()
    }
}

/// The selector that means exactly this runtime.
fn selector_of(runtime: &Runtime) -> String {
    match &runtime.version {
        Some(version) => format!("{}@{version}", runtime.language.name),
        None => runtime.language.name.clone(),
    }
}

fn is_named(language: &Language, name: &str) -> bool {
    language.name == name || language.aliases.iter().any(|alias| alias == name)
}

/// `g++` and `gcc` are names of the compiler, whose versions may equal the names of standards.
fn is_compiler_name(name: &str) -> bool {
    name.starts_with('g')
}

fn split_digits(name: &str) -> Option<(&str, &str)> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let digits = name.strip_prefix(stem)?;
    (!stem.is_empty() && !digits.is_empty()).then_some((stem, digits))
}

/// What a selector demands of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    /// This version, or a more exact form of it.
    Exactly(Version),
    /// Any of these ranges.
    AnyOf(Vec<semver::VersionReq>),
}

impl Requirement {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" || text == "latest" {
            return Some(Self::AnyOf(vec![semver::VersionReq::STAR]));
        }
        if text.chars().all(|c| c.is_ascii_digit() || c == '.') {
            return Version::try_from(text.to_owned()).ok().map(Self::Exactly);
        }
        let ranges = text.split("||").map(|range| {
            // npm separates the parts of a range by blanks, Rust by commas; 3.x is a wildcard in both.
            let joined = range.split([' ', ',']).filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            semver::VersionReq::parse(&joined).ok()
        });
        ranges.collect::<Option<Vec<_>>>().map(Self::AnyOf)
    }

    fn admits(&self, version: &Version) -> bool {
        match self {
            Self::Exactly(exact) => version.refines(exact),
            Self::AnyOf(ranges) => ranges.iter().any(|range| range.matches(&version.semantic())),
        }
    }
}

#[cfg(test)]
mod tests;
