//! Versions as Piston knows them: of three numbers, and chosen by ranges as npm writes them.

use nodejs_semver::{Range, Version};

use crate::runtime::{Catalogue, Health, Runtime};

/// Longest range that is looked at.
const RANGE_BYTES: usize = 256;

/// The version of a runtime. What is not known of it yet is zero.
pub(super) fn shown(runtime: &Runtime) -> String {
    let version = semantic(runtime);
    format!("{}.{}.{}", version.major(), version.minor(), version.patch())
}

/// Those runtimes that work as far as is known, in the order of the list.
pub(super) fn working(catalogue: &Catalogue) -> impl Iterator<Item = &Runtime> {
    catalogue.runtimes().iter().filter(|runtime| !matches!(runtime.health, Health::Broken { .. }))
}

/// The newest working version in a range, of a language by its name or, where `aliases` is true, by another name.
pub(super) fn newest<'a>(catalogue: &'a Catalogue, name: &str, range: &str, aliases: bool) -> Option<&'a Runtime> {
    let range = parse(range)?;
    let is_named = |runtime: &&Runtime| {
        let language = &runtime.language;
        language.name == name || (aliases && language.aliases.iter().any(|alias| alias == name))
    };
    working(catalogue)
        .filter(is_named)
        .filter(|runtime| range.satisfies(&semantic(runtime)))
        .max_by_key(|runtime| runtime.version.clone())
}

fn semantic(runtime: &Runtime) -> Version {
    let number = |index: usize| runtime.version.as_ref().and_then(|version| version.numbers().get(index)).copied();
    let [major, minor, patch] = [0, 1, 2].map(|index| number(index).unwrap_or(0));
    Version::from((major, minor, patch))
}

/// A range, in which every word must be a part of one: the parser passes over words that are none, where another
/// word is, and npm does not.
fn parse(text: &str) -> Option<Range> {
    let is_part = |word: &str| {
        let bare = word.trim_start_matches(['<', '>', '=', '~', '^', '|', 'v']);
        bare.is_empty() || bare == "-" || bare.starts_with(|c: char| c.is_ascii_digit() || "xX*".contains(c))
    };
    let fits = text.len() <= RANGE_BYTES && text.split_whitespace().all(is_part);
    fits.then(|| Range::parse(text).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Config;
    use crate::runtime::Checked;

    static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(catalogue);

    fn catalogue() -> Catalogue {
        let mut catalogue = Config::parse("{}").unwrap().catalogue(None, &|_| true).unwrap();
        let version = |text: &str| Some(text.to_owned().try_into().unwrap());
        let works = |text: &str| Checked { broken: None, version: version(text), baseline: None };
        catalogue.record("python-3.11", &works("3.11.2"));
        catalogue.record("javascript", &works("22.3.1"));
        let broken = Checked { broken: Some("it is not well".to_owned()), version: None, baseline: None };
        catalogue.record("python-3.14", &broken);
        catalogue
    }

    #[test]
    fn ranges_are_those_of_npm_and_the_newest_that_works_is_chosen() {
        for (language, range, id) in [
            ("python", "*", Some("python-3.13")),
            ("python", "x", Some("python-3.13")),
            ("py", "3", Some("python-3.13")),
            ("python", "3.11", Some("python-3.11")),
            ("python", "3.11.2", Some("python-3.11")),
            ("python", "v3.11.2", Some("python-3.11")),
            ("python", "=3.11.2", Some("python-3.11")),
            ("python", "3.11.x", Some("python-3.11")),
            ("python", "~3.11.1", Some("python-3.11")),
            ("python", ">=3.9 <3.12", Some("python-3.11")),
            ("python", "3.8 - 3.10", Some("python-3.10")),
            ("python", "^3.9", Some("python-3.13")),
            ("python", "^2 || 3.12.x", Some("python-3.12")),
            ("python", "3.12.0", Some("python-3.12")),
            ("python", "3.11.3", None),
            ("python", "3.14", None),
            ("python", "4", None),
            ("Python", "*", None),
            ("python", "latest", None),
            ("python", "foo 3.11", None),
            ("python", "3.11; rm", None),
            ("python", ">>>", None),
            ("python", "99999999999999999999.1", None),
            ("js", "22", Some("javascript")),
            ("node", ">=18", Some("javascript")),
            ("c", "20", None),
            ("c", "12", Some("c-12")),
        ] {
            let found = newest(&CATALOGUE, language, range, true).map(|runtime| runtime.id.as_str());
            assert_eq!(found, id, "{language} {range}");
        }
        assert!(newest(&CATALOGUE, "py", "*", false).is_none());
        let long = format!("3{}", " ".repeat(RANGE_BYTES));
        assert!(newest(&CATALOGUE, "python", &long, true).is_none());
    }

    proptest! {
        #[test]
        fn whatever_a_range_says_there_is_an_answer(text in r"([0-9xX*<>=~^|. v-]{0,40}|\PC{0,60})") {
            let found = newest(&CATALOGUE, "python", &text, true);
            prop_assert!(found.is_none_or(|runtime| runtime.language.name == "python"));
        }
    }

    #[test]
    fn a_version_has_three_numbers_whatever_is_known_of_it() {
        for (id, expected) in
            [("python-3.11", "3.11.2"), ("python-3.9", "3.9.0"), ("c-12", "12.0.0"), ("bash", "0.0.0")]
        {
            assert_eq!(shown(CATALOGUE.by_id(id).unwrap()), expected);
        }
        assert!(newest(&CATALOGUE, "bash", "*", true).is_some());
    }
}
