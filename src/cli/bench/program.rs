//! The programs that are run: what a request for each looks like, and the same without a sandbox.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::bare::Bare;
use crate::api::wire::RunRequest;
use crate::profile::Profile;
use crate::runtime::{Catalogue, Files, Program as Filled, Runtime};

/// A program that both sides run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub enum Program {
    /// /bin/true, which does nothing
    True,
    /// Hello in Python
    Python,
    /// Hello in Node
    Node,
    /// Hello in C, compiled before
    C,
    /// Hello in C, compiled for each run
    CUncached,
    /// Hello in Java, compiled before
    Java,
    /// Hello in Java, compiled for each run
    JavaUncached,
    /// Hello in Bash
    Bash,
    /// Hello in Perl
    Perl,
    /// Hello in Ruby
    Ruby,
    /// Hello in PHP
    Php,
    /// Hello in Lua
    Lua,
}

/// A language that a configuration may add: its only program is `true`. It exists in the benches.
const TRUE_LANGUAGE: &str = "true";
const C: &str = "#include <stdio.h>\n\nint main(void)\n{\n    puts(\"hello\");\n    return 0;\n}\n";
const JAVA: &str = "class Main {\n    public static void main(String[] arguments) {\n        System.out.println(\"hello\");\n    }\n}\n";

impl Program {
    /// Its name on the command line and in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::True => "true",
            Self::Python => "python",
            Self::Node => "node",
            Self::C => "c",
            Self::CUncached => "c-uncached",
            Self::Java => "java",
            Self::JavaUncached => "java-uncached",
            Self::Bash => "bash",
            Self::Perl => "perl",
            Self::Ruby => "ruby",
            Self::Php => "php",
            Self::Lua => "lua",
        }
    }

    /// Name of its language, and its source.
    fn source(self) -> (&'static str, &'static str) {
        match self {
            Self::True => ("bash", "exec true\n"),
            Self::Python => ("python", "print('hello')\n"),
            Self::Node => ("javascript", "console.log('hello');\n"),
            Self::C | Self::CUncached => ("c", C),
            Self::Java | Self::JavaUncached => ("java", JAVA),
            Self::Bash => ("bash", "echo hello\n"),
            Self::Perl => ("perl", "print \"hello\\n\";\n"),
            Self::Ruby => ("ruby", "puts 'hello'\n"),
            Self::Php => ("php", "<?php echo \"hello\\n\";\n"),
            Self::Lua => ("lua", "print('hello')\n"),
        }
    }

    /// Whether what it is compiled to may be kept from one run to the next.
    fn keeps_compiled(self) -> bool {
        !matches!(self, Self::CUncached | Self::JavaUncached)
    }
}

/// A program, ready to be run by either side.
#[derive(Debug, Clone)]
pub struct Case {
    /// Which.
    pub program: Program,
    /// The request's body.
    pub body: Value,
    /// The same without a sandbox; `None` where this host lacks it.
    pub bare: Option<Bare>,
    /// What a reader of the figures must know.
    pub notes: Vec<String>,
}

impl Case {
    /// Prepares a program with the runtimes of a catalogue; files of the bare side go into a
    /// directory of their own below `scratch`.
    ///
    /// # Errors
    /// No runtime of its language is there, or its files can't be written.
    pub fn draw_up(program: Program, catalogue: &Catalogue, profile: &Profile, scratch: &Path) -> Result<Self, String> {
        if program == Program::True {
            return Self::of_true(catalogue);
        }
        let (language, source) = program.source();
        let runtime = newest(catalogue, language).ok_or_else(|| format!("there is no runtime of {language}"))?;
        let mut body = json!({"runtime": selector(runtime), "files": [{"content": source}]});
        if !program.keeps_compiled() && knows("cache") {
            body["cache"] = json!(false);
        }
        let directory = scratch.join(program.name());
        let mut notes = Vec::new();
        let bare = bare(runtime, program, source, profile, &directory).unwrap_or_else(|why| {
            notes.push(format!("nothing to compare with: {why}"));
            None
        });
        Ok(Self { program, body, bare, notes })
    }

    fn of_true(catalogue: &Catalogue) -> Result<Self, String> {
        let own = newest(catalogue, TRUE_LANGUAGE);
        let (body, notes) = match own {
            Some(runtime) => (json!({"runtime": selector(runtime), "files": [{"content": ""}]}), Vec::new()),
            None => {
                let (language, source) = Program::True.source();
                let runtime =
                    newest(catalogue, language).ok_or_else(|| format!("there is no runtime of {language}"))?;
                let note = "in the sandbox it is started by Bash, with exec; the bare one is not";
                (json!({"runtime": selector(runtime), "files": [{"content": source}]}), vec![note.to_owned()])
            }
        };
        let bare = Bare::of_true();
        Ok(Self { program: Program::True, body, bare, notes })
    }
}

/// Whether requests have such a field in this version.
fn knows(field: &str) -> bool {
    serde_json::from_value::<RunRequest>(json!({"runtime": "x", "files": [], field: false})).is_ok()
}

/// The newest version whose files the host itself has, so that both sides run the same program;
/// else the newest.
fn newest<'a>(catalogue: &'a Catalogue, language: &str) -> Option<&'a Runtime> {
    let of_language = || catalogue.runtimes().iter().filter(|runtime| runtime.language.name == language);
    of_language().rfind(|runtime| !matches!(runtime.files, Files::Tree { .. })).or_else(|| of_language().next_back())
}

fn selector(runtime: &Runtime) -> String {
    match &runtime.version {
        Some(version) => format!("{}@{version}", runtime.language.name),
        None => runtime.language.name.clone(),
    }
}

/// The runtime's own command lines on this host; what is kept compiled is compiled here.
fn bare(
    runtime: &Runtime,
    program: Program,
    source: &str,
    profile: &Profile,
    directory: &Path,
) -> Result<Option<Bare>, String> {
    if matches!(runtime.files, Files::Tree { .. }) {
        return Err(format!("{} is in a root tree", selector(runtime)));
    }
    let main = runtime.language.main.as_str();
    let write = || fs::create_dir_all(directory).and_then(|()| fs::write(directory.join(main), source));
    write().map_err(|error| format!("{}: {error}", directory.display()))?;
    let flags = runtime.language.variants.iter().find(|variant| variant.default);
    let flags = flags.map(|variant| variant.flags.clone()).unwrap_or_default();
    let filled = Filled { main, files: &[main], flags: &flags };
    let compile = runtime.compile_line(&filled, profile.compile.memory_bytes);
    let run = runtime.run_line(&filled, profile.run.memory_bytes);
    let mut bare = Bare { commands: Vec::new(), directory: directory.to_owned() };
    if let Some(compile) = compile {
        let compile = Bare { commands: vec![compile], directory: directory.to_owned() };
        if program.keeps_compiled() {
            compile.run(super::bare::Start::Spawn)?;
        } else {
            bare.commands.extend(compile.commands);
        }
    }
    bare.commands.push(run);
    Ok(Some(bare))
}

/// The first file of this name in the search path of this process.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
    std::env::split_paths(&path).map(|directory| directory.join(name)).find(|path| path.is_file())
}

/// A language for a configuration whose only program is one of the host, without any source.
#[must_use]
pub fn language_of_one_program(name: &str, path: &str) -> Value {
    json!({
        "name": name, "title": name, "extensions": [], "main": "nothing", "program": "it",
        "run": {"argv": ["{it}"]}, "self_test": {"source": "", "expect": ""},
        "probe": {"argv": ["{it}"], "pattern": "(x)"}, "versions": [{"programs": {"it": path}}],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_program_can_be_drawn_up_where_its_language_is() {
        let config = Config::parse("{}").unwrap();
        // As if everything were there; what is not shows when the bare side is compiled.
        let catalogue = config.catalogue(None, &|_| true).unwrap();
        let scratch = tempfile::tempdir().unwrap();
        for program in <Program as clap::ValueEnum>::value_variants() {
            assert_eq!(clap::ValueEnum::to_possible_value(program).unwrap().get_name(), program.name());
            let case = Case::draw_up(*program, &catalogue, &config.profiles["default"], scratch.path()).unwrap();
            serde_json::from_value::<RunRequest>(case.body.clone()).unwrap();
        }
    }

    #[test]
    fn a_host_without_runtimes_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let profile = Config::parse("{}").unwrap().profiles["default"].clone();
        for program in [Program::True, Program::Python] {
            assert!(Case::draw_up(program, &Catalogue::default(), &profile, scratch.path()).is_err());
        }
    }

    #[test]
    fn a_language_called_true_is_preferred_to_a_shell() {
        let mut config: Value = json!({"languages": {}});
        config["languages"]["true"] = language_of_one_program("true", "/usr/bin/true");
        let config = Config::parse(&config.to_string()).unwrap();
        let case = Case::of_true(&config.catalogue(None, &|_| true).unwrap()).unwrap();
        assert_eq!((case.body["runtime"].as_str(), case.notes.len()), (Some("true"), 0));
    }
}
