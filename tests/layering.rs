//! Holds the import order of the modules, and what only some of them may name.
//!
//! The texts are read, not compiled: comments and string literals are taken out, and every path
//! that begins with `crate::`, or climbs by `super::`, is followed to the module that it names.

#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it stands")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;

/// Every module of the crate, lowest first: a module names itself and those before it.
const ORDER: [&str; 18] = [
    "sys",
    "plan",
    "profile",
    "runtime",
    "job",
    "config",
    "jail",
    "network",
    "launcher",
    "backend",
    "cache",
    "session",
    "scheduler",
    "judge",
    "api",
    "daemon",
    "client",
    "cli",
];

/// Modules that may name less than the order allows, with the reason.
const NARROWER: [(&str, &[&str], &str); 14] = [
    ("plan", &[], "plain data, shared by daemon, launcher and jail"),
    ("profile", &[], "a noun: numbers, and the check that they are in range"),
    ("runtime", &["plan"], "a noun: data, and the choice among them"),
    ("job", &["plan", "profile"], "a noun: a request after it was checked, and its verdict"),
    ("config", &["plan", "profile", "runtime"], "puts the nouns' defaults and a file together"),
    ("jail", &["sys", "plan"], "what runs next to the program knows nothing of clients and configurations"),
    ("network", &["sys", "profile", "job", "jail"], "what an uplink does for one sandbox, whoever it belongs to"),
    (
        "launcher",
        &["sys", "plan", "profile", "runtime", "job", "config", "jail", "network"],
        "the privileged side knows nothing of the daemon",
    ),
    (
        "cache",
        &["sys", "plan", "profile", "job", "config", "backend"],
        "keeps bytes under keys, has trees be where the backend shows them, and knows neither sandboxes nor who asks",
    ),
    (
        "session",
        &["sys", "plan", "profile", "runtime", "job", "config", "backend", "cache"],
        "decides what becomes of a sandbox that stays, and leaves how to the backend; it moves output with calls of its own",
    ),
    (
        "scheduler",
        &["plan", "profile", "runtime", "job", "config", "backend", "cache"],
        "decides when, and leaves how to the backend: no kernel call, no jail, no launcher",
    ),
    (
        "judge",
        &["plan", "job", "config", "cache", "scheduler"],
        "decides what a run is worth; everything that runs goes through the scheduler, within the client's share",
    ),
    (
        "api",
        &["plan", "profile", "runtime", "job", "config", "session", "scheduler", "judge"],
        "reads client bytes, so it reaches sandboxes through the scheduler and the sessions alone",
    ),
    ("client", &["runtime", "api"], "knows the service by what it says, wherever that is"),
];

/// Modules that read or write JSON, and what for. No other may: what travels between our own
/// processes is postcard, and clients see the API's JSON only.
const JSON: [(&str, &str); 9] = [
    ("api", "what clients see"),
    ("backend", "a network that was asked for goes to the launcher as it is written"),
    ("cli", "is a client"),
    ("client", "writes what the API reads, and reads what it writes"),
    ("config", "the configuration and the manifest are JSON, which Nix renders"),
    ("launcher", "writes /runtime/runtimes.json, and passes its own settings to itself on a command line"),
    ("network", "its tests read policies as they are written"),
    ("profile", "its tests hold the written form of networks to JSON"),
    ("session", "speaks with kernels, whose messages are JSON"),
];

/// Words of mechanisms that scheduler and API must not know, so that another backend can have others.
const MECHANISMS: [&str; 9] =
    ["cgroup", "clone3", "landlock", "netns", "nft", "seccomp", "setns", "unshare", "rlimits"];
/// Where such a word is an answer's to say: `enforced_by`.
const ENFORCED_BY: [&str; 2] = ["EnforcedBy::Cgroup2", "EnforcedBy::Rlimit"];

/// A file of `src/`, without its comments and string literals.
struct Source {
    path: PathBuf,
    /// Its place in the tree of modules; empty for `lib.rs` and the binaries.
    module: Vec<String>,
    code: String,
}

impl Source {
    /// The first module of its path: what the order is about.
    fn layer(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let inside = path.strip_prefix(&root).unwrap().with_extension("");
                let mut module: Vec<String> =
                    inside.iter().map(|part| part.to_str().unwrap().to_owned()).filter(|part| part != "mod").collect();
                if module == ["lib"] || module.first().is_some_and(|first| first == "bin") {
                    module.clear();
                }
                found.push(Source { code: code_of(&fs::read_to_string(&path).unwrap()), module, path });
            }
        }
    }
    assert!(found.len() > 40, "the sources are not where this test looks for them");
    found
}

/// A text without comments, and with string literals emptied.
fn code_of(text: &str) -> String {
    let token = Regex::new(
        r##"(?xs)
          //[^\n]*  |  /\*.*?\*/                  # comments
        | b?r(?P<raw>\#*)".*?"\#*                 # raw strings; one that holds a quote ends early, which hides nothing
        | [bc]?"(?:\\.|[^"\\])*"                  # strings
        | '(?:\\.[^']*|[^'\\])'                   # characters, but no lifetimes
        "##,
    )
    .unwrap();
    token
        .replace_all(text, |found: &regex::Captures<'_>| if found[0].starts_with('/') { " " } else { "\"\"" })
        .into_owned()
}

/// The modules that a text names after `crate::`, groups included: `crate::{api, daemon::x}`.
fn named_modules(code: &str) -> BTreeSet<String> {
    let start = Regex::new(r"\bcrate\s*::\s*(\{|[a-z_][a-z0-9_]*)").unwrap();
    let name = Regex::new(r"^\s*([a-z_][a-z0-9_]*)").unwrap();
    let mut named = BTreeSet::new();
    for found in start.captures_iter(code) {
        let first = found.get(1).unwrap();
        if first.as_str() != "{" {
            named.insert(first.as_str().to_owned());
            continue;
        }
        let (mut depth, mut item) = (1, String::new());
        for character in code[first.end()..].chars() {
            depth += match character {
                '{' => 1,
                '}' => -1,
                _ => 0,
            };
            if depth == 0 || (depth == 1 && character == ',') {
                named.extend(name.captures(&item).map(|found| found[1].to_owned()));
                item.clear();
            } else {
                item.push(character);
            }
            if depth == 0 {
                break;
            }
        }
    }
    named
}

/// What each module names besides itself, and in which files.
fn imports() -> BTreeMap<(String, String), BTreeSet<PathBuf>> {
    let mut imports: BTreeMap<_, BTreeSet<PathBuf>> = BTreeMap::new();
    for source in sources() {
        let Some(layer) = source.layer() else { continue };
        for named in named_modules(&source.code).into_iter().filter(|named| named != layer) {
            imports.entry((layer.to_owned(), named)).or_default().insert(source.path.clone());
        }
    }
    imports
}

fn rank(module: &str) -> usize {
    ORDER.iter().position(|known| *known == module).unwrap_or_else(|| panic!("{module} has no place in the order"))
}

#[test]
fn every_module_has_its_place() {
    let there: BTreeSet<String> = sources().iter().filter_map(|source| source.layer().map(str::to_owned)).collect();
    assert_eq!(there, ORDER.iter().map(|name| (*name).to_owned()).collect());
}

#[test]
fn a_module_names_only_those_below_it() {
    for ((module, named), files) in imports() {
        assert!(rank(&named) < rank(&module), "{module} names {named}, which stands above it: {files:?}");
    }
}

#[test]
fn some_modules_name_still_less() {
    for ((module, named), mut files) in imports() {
        // A test may build what the module itself is handed.
        files.retain(|path| !path.ends_with("tests.rs"));
        if files.is_empty() {
            continue;
        }
        if let Some((_, allowed, why)) = NARROWER.iter().find(|(narrow, ..)| *narrow == module) {
            assert!(allowed.contains(&named.as_str()), "{module} names {named} ({why}): {files:?}");
        }
    }
}

#[test]
fn nothing_climbs_out_of_its_module() {
    // `super::super::x` from deep inside could reach a sibling of the layer, past the tests above.
    let climb = Regex::new(r"\b(?:super\s*::\s*)+").unwrap();
    for source in sources().iter().filter(|source| !source.module.is_empty()) {
        // Tests at the end of a file are one module deeper.
        let (code, tests) = source.code.split_once("mod tests {").unwrap_or((&source.code, ""));
        for (code, depth) in [(code, source.module.len()), (tests, source.module.len() + 1)] {
            for found in climb.find_iter(code) {
                let steps = found.as_str().matches("super").count();
                assert!(steps < depth, "{}: {} leaves its layer", source.path.display(), found.as_str());
            }
        }
    }
}

#[test]
fn binaries_make_one_call() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin");
    for source in sources().iter().filter(|source| source.path.starts_with(&root)) {
        let named = source.code.matches("codesandbox::").count();
        assert!(source.code.lines().count() < 15 && (1..=2).contains(&named), "{}", source.path.display());
    }
}

#[test]
fn unsafe_code_is_in_sys_only() {
    let word = Regex::new(r"\bunsafe(_code)?\b").unwrap();
    for source in sources() {
        let there = word.is_match(&source.code);
        assert!(!there || source.layer() == Some("sys"), "{} has unsafe code", source.path.display());
    }
}

#[test]
fn json_is_for_a_few() {
    let users: BTreeSet<String> = sources()
        .iter()
        .filter(|source| source.code.contains("serde_json"))
        .filter_map(|source| source.layer().map(str::to_owned))
        .collect();
    let allowed: BTreeSet<String> = JSON.iter().map(|(module, _)| (*module).to_owned()).collect();
    assert_eq!(users, allowed, "modules that use serde_json, and those that have a reason to: {JSON:?}");
}

#[test]
fn scheduler_and_api_know_no_mechanism() {
    for source in sources().iter().filter(|source| matches!(source.layer(), Some("scheduler" | "api"))) {
        let mut code = source.code.clone();
        for word in ENFORCED_BY {
            code = code.replace(word, "");
        }
        let code = code.to_lowercase();
        for word in MECHANISMS {
            assert!(!code.contains(word), "{} names {word}", source.path.display());
        }
    }
}

#[test]
fn this_test_sees_what_it_should() {
    let text = "use crate::{api, daemon::{serve, x}, cli as c};\n// crate::jail\nlet s = \"crate::plan\"; crate :: sys::call();";
    let named: Vec<String> = named_modules(&code_of(text)).into_iter().collect();
    assert_eq!(named, ["api", "cli", "daemon", "sys"]);
    assert_eq!(
        code_of("let c = '\"'; f::<'a>(\"unsafe\", r#\"unsafe\"#) // unsafe"),
        "let c = \"\"; f::<'a>(\"\", \"\")  "
    );
}
