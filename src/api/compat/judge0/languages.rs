//! Languages by their ids: `profiles/judge0.toml`, and what of it this host has.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::Deserialize;

use crate::runtime::{Catalogue, Health, Program, Runtime};

const DATA: &str = include_str!("../../../../profiles/judge0.toml");

static LIST: LazyLock<List> = LazyLock::new(|| toml::from_str(DATA).expect("a test parses it"));

/// The data file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    languages: Vec<Entry>,
    archived: BTreeMap<String, String>,
}

/// A language that hosts may have.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// Its id.
    pub(super) id: u64,
    /// Its name there.
    name: String,
    /// Its name here.
    title: String,
    /// How it is run.
    #[serde(default)]
    pub(super) kind: Kind,
    /// Selectors of runtimes, the best first.
    runtimes: Vec<String>,
    /// Place of a compiler's options; the end where absent.
    pub(super) options_at: Option<usize>,
}

/// How a language is run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// As its runtime does.
    #[default]
    Program,
    /// It is printed.
    Text,
    /// It is what is run.
    Executable,
    /// By scripts of its own.
    Project,
}

/// A language as it is on this host.
#[derive(Debug, Clone)]
pub(super) struct Language {
    /// Its id.
    pub(super) id: u64,
    /// Its name, with the version that is run.
    pub(super) name: String,
    /// What is run; nothing where it is archived.
    pub(super) found: Option<Found>,
}

/// What runs a language.
#[derive(Debug, Clone)]
pub(super) struct Found {
    /// The entry.
    pub(super) entry: &'static Entry,
    /// The selector that fits.
    pub(super) selector: &'static str,
    /// Name of the source file; none of a project.
    pub(super) source_file: Option<String>,
    /// How it is compiled, as one line.
    pub(super) compile_cmd: Option<String>,
    /// How it is run, as one line.
    pub(super) run_cmd: Option<String>,
}

/// Name of the file that is printed.
pub(super) const TEXT: &str = "text.txt";
/// Name of the file that is run as it is.
pub(super) const EXECUTABLE: &str = "a.out";

/// The language of an id; none where there never was one.
pub(super) fn find(id: u64, catalogue: &Catalogue) -> Option<Language> {
    if let Some(entry) = LIST.languages.iter().find(|entry| entry.id == id) {
        return Some(entry.on(catalogue));
    }
    LIST.archived.get(&id.to_string()).map(|name| archived(id, name))
}

/// Every language, archived ones too, by name.
pub(super) fn all(catalogue: &Catalogue) -> Vec<Language> {
    let gone = LIST.archived.iter().filter_map(|(id, name)| Some(archived(id.parse().ok()?, name)));
    let mut all: Vec<Language> = LIST.languages.iter().map(|entry| entry.on(catalogue)).chain(gone).collect();
    all.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    all
}

fn archived(id: u64, name: &str) -> Language {
    Language { id, name: name.to_owned(), found: None }
}

impl Entry {
    fn on(&'static self, catalogue: &Catalogue) -> Language {
        let fitting = self.runtimes.iter().find_map(|selector| {
            let choice = catalogue.resolve(selector).ok()?;
            let works = !matches!(choice.runtime.health, Health::Broken { .. });
            works.then_some((selector.as_str(), choice))
        });
        let Some((selector, choice)) = fitting else { return archived(self.id, &self.name) };
        let runtime = choice.runtime;
        let flags = choice.variant.map_or(&[][..], |variant| &variant.flags);
        let main = match self.kind {
            Kind::Program => Some(runtime.language.main.as_str()),
            Kind::Text => Some(TEXT),
            Kind::Executable => Some(EXECUTABLE),
            Kind::Project => None,
        };
        let (compile_cmd, run_cmd) = match self.kind {
            Kind::Program => lines(runtime, flags, self.options_at),
            Kind::Text => (None, Some(format!("/bin/cat {TEXT}"))),
            Kind::Executable => (None, Some(format!("./{EXECUTABLE}"))),
            Kind::Project => (None, None),
        };
        let source_file = main.map(str::to_owned);
        let found = Found { entry: self, selector, source_file, compile_cmd, run_cmd };
        Language { id: self.id, name: titled(&self.title, runtime), found: Some(found) }
    }
}

/// How a runtime compiles and runs, with `%s` where a compiler's options stand.
fn lines(runtime: &Runtime, flags: &[String], options_at: Option<usize>) -> (Option<String>, Option<String>) {
    let main = runtime.language.main.as_str();
    let program = Program { main, files: &[main], flags };
    let megabytes = 256 << 20;
    let compile = runtime.compile_line(&program, megabytes).map(|line| {
        let mut argv = line.argv;
        argv.insert(options_at.unwrap_or(argv.len()).min(argv.len()), "%s".to_owned());
        argv.join(" ")
    });
    (compile, Some(runtime.run_line(&program, megabytes).argv.join(" ")))
}

fn titled(title: &str, runtime: &Runtime) -> String {
    match &runtime.version {
        Some(version) => title.replace("{version}", &version.to_string()),
        None => title.replace(" ({version})", "").replace(" {version}", ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn everything() -> Catalogue {
        Config::parse("{}").unwrap().catalogue(None, &|_| true).unwrap()
    }

    #[test]
    fn every_language_of_the_list_is_one_of_ours() {
        let catalogue = everything();
        for entry in &LIST.languages {
            for selector in &entry.runtimes {
                let name = selector.split('@').next().unwrap_or_default();
                assert!(catalogue.resolve(name).is_ok(), "{} names {selector}", entry.id);
            }
            // Some versions no host has, but a tree or a manifest may.
            let language = entry.on(&catalogue);
            assert!(!language.name.contains('{'), "{}", language.name);
            if let Some(found) = language.found {
                let compiles = found.compile_cmd.is_some_and(|line| line.contains("%s"));
                assert!(compiles || entry.options_at.is_none(), "{}", entry.id);
            }
        }
    }

    #[test]
    fn ids_from_43_to_89_are_known_and_each_once() {
        let catalogue = everything();
        for id in 1..=89 {
            assert_eq!(find(id, &catalogue).map(|language| language.id), Some(id));
        }
        assert!(find(0, &catalogue).is_none() && find(u64::MAX, &catalogue).is_none());
        let mut ids: Vec<u64> = all(&catalogue).iter().map(|language| language.id).collect();
        let count = ids.len();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), count);
    }

    #[test]
    fn a_language_without_a_runtime_is_archived_under_its_old_name() {
        let none = Config::parse("{}").unwrap().catalogue(None, &|_| false).unwrap();
        let python = find(71, &none).unwrap();
        assert!(python.found.is_none());
        assert_eq!(python.name, "Python (3.8.1)");
        assert!(find(71, &everything()).unwrap().name.starts_with("Python (3.8"));
        assert_eq!(find(46, &everything()).unwrap().name, "Bash");
    }
}
