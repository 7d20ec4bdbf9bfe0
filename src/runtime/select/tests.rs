//! Tests of selectors.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::runtime::{Checked, Files, Language};

fn catalogue() -> Catalogue {
    let mut runtimes = Vec::new();
    for (file, versions) in
        [("python", &["3.9", "3.11", "3.12.4"][..]), ("javascript", &["18", "20", "22"]), ("cpp", &["11", "12"])]
    {
        let text = crate::runtime::BUILT_IN.iter().find(|(name, _)| *name == file).unwrap().1;
        let language: Arc<Language> = Arc::new(toml::from_str(text).unwrap());
        for version in versions {
            runtimes.push(Runtime {
                id: format!("{}-{version}", language.name),
                language: Arc::clone(&language),
                version: Some((*version).to_owned().try_into().unwrap()),
                programs: BTreeMap::from([(language.program.clone(), "/usr/bin/x".into())]),
                path: vec![],
                files: Files::Host { extra: vec![] },
                closure_bytes: None,
                deprecated_since: None,
                warm: true,
                health: Health::Unchecked,
                baseline: None,
            });
        }
    }
    Catalogue::new(runtimes)
}

fn id(selector: &str) -> Option<String> {
    catalogue().resolve(selector).ok().map(|choice| choice.runtime.id.clone())
}

fn with_weights(weights: [u32; 2]) -> Catalogue {
    let ids = ["python-3.11", "python-3.12.4"].map(str::to_owned);
    catalogue().with_defaults(BTreeMap::from([("python".to_owned(), ids.into_iter().zip(weights).collect())]))
}

#[test]
fn a_new_default_gets_its_share_and_no_more() {
    let catalogue = with_weights([90, 10]);
    let new = (0..1000).filter(|lot| catalogue.draw("py", *lot).unwrap().runtime.id == "python-3.12.4").count();
    assert_eq!(new, 100);
    // Whoever names a version gets it.
    assert!((0..1000).all(|lot| catalogue.draw("python@3", lot).unwrap().runtime.id == "python-3.12.4"));
    assert!((0..1000).all(|lot| catalogue.draw("node", lot).unwrap().runtime.id == "javascript-22"));
}

#[test]
fn a_broken_default_leaves_its_share_to_the_others() {
    let mut catalogue = with_weights([90, 10]);
    let broken = Checked { broken: Some("no".into()), version: None, baseline: None };
    catalogue.record("python-3.11", &broken);
    assert!((0..1000).all(|lot| catalogue.draw("python", lot).unwrap().runtime.id == "python-3.12.4"));
    catalogue.record("python-3.12.4", &broken);
    assert_eq!(catalogue.draw("python", 7).unwrap().runtime.id, "python-3.9");
}

#[test]
fn a_weight_of_zero_is_never_drawn() {
    let catalogue = with_weights([1, 0]);
    assert!((0..1000).all(|lot| catalogue.draw("python", lot).unwrap().runtime.id == "python-3.11"));
}

#[test]
fn selectors_resolve() {
    for (selector, expected) in [
        ("python", "python-3.12.4"),
        ("Python", "python-3.12.4"),
        ("py", "python-3.12.4"),
        ("python@3", "python-3.12.4"),
        ("python@3.12", "python-3.12.4"),
        ("python@3.12.4", "python-3.12.4"),
        ("python@3.11", "python-3.11"),
        ("python3.11", "python-3.11"),
        ("python@>=3.9, <3.12", "python-3.11"),
        ("python@~3.9", "python-3.9"),
        ("python@*", "python-3.12.4"),
        ("node@18.x", "javascript-18"),
        ("node@18 || 20", "javascript-20"),
        ("node@>=18 <22", "javascript-20"),
        ("javascript@latest", "javascript-22"),
        ("c++", "c++-12"),
        ("c++@20", "c++-12"),
        ("c++20", "c++-12"),
        ("c++20@11", "c++-11"),
        ("g++@11", "c++-11"),
    ] {
        assert_eq!(id(selector).as_deref(), Some(expected), "{selector}");
    }
}

#[test]
fn a_standard_is_selected_by_name() {
    let catalogue = catalogue();
    let variant = |selector: &str| catalogue.resolve(selector).unwrap().variant.unwrap().name.clone();
    assert_eq!(variant("c++@17"), "17");
    assert_eq!(variant("c++23"), "23");
    assert_eq!(variant("c++20@11"), "20");
}

#[test]
fn a_prefix_of_digits_is_no_match() {
    assert_eq!(id("python@3.1"), None);
    assert_eq!(id("python@2"), None);
    assert_eq!(id("python@3.11.2"), None, "only 3.11 is known");
    assert_eq!(id("python3.1"), None);
}

#[test]
fn an_unknown_selector_lists_near_matches() {
    let catalogue = catalogue();
    assert_eq!(catalogue.resolve("pyhton").unwrap_err().near[0], "python@3.12.4");
    assert_eq!(catalogue.resolve("python@4").unwrap_err().near[0], "python@3.12.4");
    assert!(catalogue.resolve("\u{0}").unwrap_err().near.is_empty());
    assert!(catalogue.resolve(&"x".repeat(100_000)).unwrap_err().selector.len() <= SELECTOR_BYTES);
}

#[test]
fn a_broken_version_is_the_last_choice() {
    let mut catalogue = catalogue();
    let checked = Checked { broken: Some("x".into()), version: None, baseline: None };
    catalogue.record("python-3.12.4", &checked);
    assert_eq!(catalogue.resolve("python").unwrap().runtime.id, "python-3.11");
    assert_eq!(catalogue.resolve("python@3.12").unwrap().runtime.id, "python-3.12.4");
}
