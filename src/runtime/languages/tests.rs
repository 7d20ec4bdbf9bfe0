//! Tests of the languages that come with the program, and of finding versions.

use super::*;

fn languages() -> Vec<Arc<Language>> {
    BUILT_IN
        .iter()
        .map(|(name, text)| Arc::new(toml::from_str(text).unwrap_or_else(|error| panic!("{name}: {error}"))))
        .collect()
}

#[test]
fn every_file_of_profiles_is_built_in() {
    let mut files: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/profiles/languages"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, BUILT_IN.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}

#[test]
fn names_and_aliases_are_unique() {
    let mut names: Vec<String> = Vec::new();
    for language in languages() {
        names.push(language.name.clone());
        names.extend(language.aliases.iter().cloned());
    }
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn versions_stand_oldest_first_and_probes_compile() {
    for language in languages() {
        let known: Vec<_> = language.versions.iter().filter_map(|entry| entry.version.clone()).collect();
        assert!(known.is_sorted(), "{}: {known:?}", language.name);
        regex::Regex::new(&language.probe.pattern).unwrap();
        assert!(language.extensions.iter().any(|ext| language.main.ends_with(&format!(".{ext}"))));
    }
}

#[test]
fn every_placeholder_is_known() {
    let placeholder = regex::Regex::new(r"\{([^}]*)\}").unwrap();
    for language in languages() {
        let commands = language.compile.iter().chain([&language.run]);
        let words: Vec<&String> = commands.flat_map(|command| &command.argv).chain(&language.probe.argv).collect();
        for entry in language.versions.iter().filter(|entry| !entry.programs.is_empty()) {
            for word in &words {
                for name in placeholder.captures_iter(word).map(|found| found[1].to_owned()) {
                    let known = ["main", "stem", "sources", "flags", "memory_mib"].contains(&name.as_str())
                        || entry.programs.contains_key(&name);
                    assert!(known, "{}: {word}", language.name);
                }
            }
            assert!(entry.programs.contains_key(&language.program), "{}", language.name);
        }
    }
}

#[test]
fn a_host_version_is_found_when_all_its_programs_exist() {
    let sources = Sources { host: true, trees: vec![], manifest: None, defaults: BTreeMap::new() };
    let found = find(&languages(), &sources, None, &|path| path == Path::new("/usr/bin/python3.11")).unwrap();
    assert_eq!(found.runtimes().iter().map(|r| r.id.as_str()).collect::<Vec<_>>(), ["python-3.11"]);
}

#[test]
fn an_incomplete_tree_is_an_error_that_names_the_missing_program() {
    let tree =
        Tree { language: "python".into(), version: "3.11".to_owned().try_into().unwrap(), root: "/trees/a".into() };
    let sources = Sources { host: false, trees: vec![tree], manifest: None, defaults: BTreeMap::new() };
    let error = find(&languages(), &sources, None, &|_| false).unwrap_err();
    assert!(error.to_string().contains("python3.11"), "{error}");
}

fn store(version: &str) -> StoreRuntime {
    let store = PathBuf::from("/nix/store").join(format!("x-python-{version}"));
    StoreRuntime {
        language: "python".into(),
        version: version.to_owned().try_into().unwrap(),
        programs: BTreeMap::from([("python".to_owned(), store.join("bin/python"))]),
        path: vec![],
        closure: vec![store],
        closure_bytes: Some(1),
    }
}

fn found_in_store(defaults: &[(&str, u32)]) -> Result<Catalogue, SourceError> {
    let weights = defaults.iter().map(|(version, weight)| ((*version).to_owned(), *weight)).collect();
    let defaults = if defaults.is_empty() { BTreeMap::new() } else { BTreeMap::from([("py".to_owned(), weights)]) };
    let sources = Sources { host: false, trees: vec![], manifest: None, defaults };
    let manifest = StoreManifest { runtimes: vec![store("3.12.4"), store("3.13.1")] };
    find(&languages(), &sources, Some(manifest), &|path| path.ends_with("x-python-3.12.4"))
}

#[test]
fn a_closure_that_is_gone_breaks_its_runtime_and_no_other() {
    let found = found_in_store(&[]).unwrap();
    let health: Vec<&Health> = found.runtimes().iter().map(|runtime| &runtime.health).collect();
    assert_eq!(*health[0], Health::Unchecked);
    assert!(matches!(health[1], Health::Broken { reason } if reason.contains("x-python-3.13.1")), "{health:?}");
    assert_eq!(found.resolve("python").unwrap().runtime.id, "python-3.12.4");
}

#[test]
fn a_default_is_a_version_that_is_there_with_some_weight() {
    assert!(found_in_store(&[("3.12", 1), ("3.13", 0)]).is_ok());
    let unknown = found_in_store(&[("3.11", 1)]).unwrap_err();
    assert_eq!(unknown.key(), "runtimes.defaults.python.3.11");
    assert!(unknown.to_string().contains("3.12.4, 3.13.1"), "{unknown}");
    assert!(matches!(found_in_store(&[("3.12", 0)]), Err(SourceError::NoWeight { .. })));
}

#[test]
fn what_is_known_is_inherited_where_nothing_has_changed() {
    let mut older = found_in_store(&[]).unwrap();
    older.record("python-3.12.4", &super::super::Checked { broken: None, version: None, baseline: None });
    older.record("python-3.13.1", &super::super::Checked { broken: None, version: None, baseline: None });
    let mut newer = found_in_store(&[]).unwrap();
    newer.inherit(&older);
    assert_eq!(newer.runtimes()[0].health, Health::Working);
    assert!(matches!(newer.runtimes()[1].health, Health::Broken { .. }));
}
