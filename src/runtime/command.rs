//! Command lines: the placeholders of a language's data filled in for one runtime and one program.

use std::collections::BTreeMap;

use super::{BOOT_DIRECTORY, Command, Language, Runtime};

/// Variables that every program gets, before those of its language and of the request.
///
/// `/runtime/bin` comes first in the search path, so that a script's `python3.12` is the runtime's.
pub const BASE_ENVIRONMENT: &[(&str, &str)] =
    &[("PATH", "/runtime/bin:/usr/local/bin:/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8"), ("TMPDIR", "/tmp")];

/// What command lines are filled in with.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// The file that is run, below `/workspace`: the first of a request.
    pub main: &'a str,
    /// Every file of the request, the main file among them.
    pub files: &'a [&'a str],
    /// Flags of the chosen standard.
    pub flags: &'a [String],
}

/// A command line, ready for execve(2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandLine {
    /// Arguments; the program first, as an absolute path or one that begins with `./`.
    pub argv: Vec<String>,
    /// All variables.
    pub env: BTreeMap<String, String>,
}

impl Runtime {
    /// How to compile a program, for languages that are compiled; `memory_bytes` is the limit of
    /// the compile stage.
    #[must_use]
    pub fn compile_line(&self, program: &Program<'_>, memory_bytes: u64) -> Option<CommandLine> {
        self.language.compile.as_ref().map(|command| self.fill(command, program, memory_bytes))
    }

    /// How to run a program; `memory_bytes` is the limit of the run stage.
    #[must_use]
    pub fn run_line(&self, program: &Program<'_>, memory_bytes: u64) -> CommandLine {
        self.fill(&self.language.run, program, memory_bytes)
    }

    /// How to start the interpreter before its program is known, where that is done.
    #[must_use]
    pub fn boot_line(&self, memory_bytes: u64) -> Option<CommandLine> {
        let warm = self.warm()?;
        let env = self.language.run.env.iter().chain(&warm.env);
        let env = env.map(|(name, value)| (name.clone(), value.clone())).collect();
        let nothing = Program { main: &self.language.main, files: &[], flags: &[] };
        let mut line = self.fill(&Command { argv: warm.argv.clone(), env }, &nothing, memory_bytes);
        let boot = format!("{BOOT_DIRECTORY}/{}", warm.boot);
        for word in line.argv.iter_mut().chain(line.env.values_mut()) {
            *word = word.replace("{boot}", &boot);
        }
        Some(line)
    }

    /// How to learn the exact version.
    #[must_use]
    pub fn probe_line(&self) -> CommandLine {
        let command = Command { argv: self.language.probe.argv.clone(), env: BTreeMap::new() };
        let nothing = Program { main: &self.language.main, files: &[], flags: &[] };
        self.fill(&command, &nothing, 0)
    }

    fn fill(&self, command: &Command, program: &Program<'_>, memory_bytes: u64) -> CommandLine {
        let main = operand(program.main);
        let mut argv = Vec::with_capacity(command.argv.len());
        for word in &command.argv {
            match word.as_str() {
                "{sources}" => argv.extend(sources(&self.language, program)),
                "{flags}" => argv.extend(program.flags.iter().cloned()),
                word => argv.push(self.fill_word(word, &main, memory_bytes)),
            }
        }
        let base = BASE_ENVIRONMENT.iter().map(|(name, value)| match *name {
            "PATH" => ("PATH".to_owned(), self.search_path(value)),
            name => (name.to_owned(), (*value).to_owned()),
        });
        let env = base.chain(command.env.clone()).collect();
        CommandLine { argv, env }
    }

    /// The runtime's own directories behind the first, which holds its links.
    fn search_path(&self, usual: &str) -> String {
        let (first, rest) = usual.split_once(':').unwrap_or((usual, ""));
        let own = self.path.iter().map(|path| path.to_string_lossy());
        [first.into()].into_iter().chain(own).chain([rest.into()]).collect::<Vec<std::borrow::Cow<'_, str>>>().join(":")
    }

    /// Fills the placeholders of one word in one pass, so that braces in a file's name stay what
    /// they are.
    fn fill_word(&self, word: &str, main: &str, memory_bytes: u64) -> String {
        let mut filled = String::with_capacity(word.len());
        let mut rest = word;
        while let Some((before, (name, after))) =
            rest.split_once('{').and_then(|(before, opened)| Some((before, opened.split_once('}')?)))
        {
            filled.push_str(before);
            match name {
                "main" => filled.push_str(main),
                "stem" => filled.push_str(stem(main)),
                "memory_mib" => filled.push_str(&heap_mib(memory_bytes).to_string()),
                key => match self.programs.get(key) {
                    Some(path) => filled.push_str(&path.to_string_lossy()),
                    None => filled.extend(["{", key, "}"]),
                },
            }
            rest = after;
        }
        filled.push_str(rest);
        filled
    }
}

/// The sources of a program: its main file first, then every other file with one of the
/// language's extensions.
fn sources(language: &Language, program: &Program<'_>) -> Vec<String> {
    let is_source = |file: &str| {
        let name = file.rsplit('/').next().unwrap_or(file);
        let extension = name.rsplit_once('.').map(|(_, extension)| extension);
        extension.is_some_and(|extension| language.extensions.iter().any(|known| known == extension))
    };
    let others = program.files.iter().filter(|file| **file != program.main && is_source(file));
    std::iter::once(&program.main).chain(others).map(|file| operand(file)).collect()
}

/// A file's name as an argument. Compilers take a leading `-` for an option and `@` for a file of
/// more options, so such a name is given as a path.
fn operand(file: &str) -> String {
    if file.starts_with(['-', '@']) { format!("./{file}") } else { file.to_owned() }
}

/// A file's path without its extension.
fn stem(file: &str) -> &str {
    let name = file.rfind('/').map_or(0, |slash| slash + 1);
    match file[name..].rfind('.') {
        None | Some(0) => file,
        Some(dot) => &file[..name + dot],
    }
}

/// The heap that a language's own limit is set to, in MiB: three quarters of the memory limit. The
/// rest is for stacks, generated code and the interpreter itself; a heap as large as the limit
/// would have the program killed where its runtime could have collected garbage.
fn heap_mib(memory_bytes: u64) -> u64 {
    (memory_bytes / 4 * 3 / (1 << 20)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{BUILT_IN, Catalogue, Sources, find};
    use std::sync::Arc;

    fn catalogue() -> Catalogue {
        let languages: Vec<Arc<Language>> =
            BUILT_IN.iter().map(|(_, text)| Arc::new(toml::from_str(text).unwrap())).collect();
        find(
            &languages,
            &Sources { host: true, trees: vec![], manifest: None, defaults: BTreeMap::new() },
            None,
            &|_| true,
        )
        .unwrap()
    }

    fn argv(line: &CommandLine) -> Vec<&str> {
        line.argv.iter().map(String::as_str).collect()
    }

    #[test]
    fn an_interpreter_gets_the_main_file() {
        let catalogue = catalogue();
        let program = Program { main: "main.py", files: &["main.py", "data.py"], flags: &[] };
        let line = catalogue.by_id("python-3.12").unwrap().run_line(&program, 1 << 30);
        assert_eq!(argv(&line), ["/usr/bin/python3.12", "main.py"]);
        assert_eq!(line.env["HOME"], "/tmp");
        assert_eq!(line.env["PYTHONDONTWRITEBYTECODE"], "1");
    }

    #[test]
    fn sources_and_flags_become_words_of_their_own() {
        let catalogue = catalogue();
        let flags = ["-std=c++2a".to_owned(), "-Wall".to_owned()];
        let files = ["lib/a.h", "main.cpp", "lib/b.cc", "notes.txt", ".cpp", "x.cpp/readme"];
        let program = Program { main: "main.cpp", files: &files, flags: &flags };
        let line = catalogue.by_id("c++-12").unwrap().compile_line(&program, 1 << 30).unwrap();
        let expected = [
            "/usr/bin/g++-12",
            "-std=c++2a",
            "-Wall",
            "-O2",
            "-o",
            "program",
            "main.cpp",
            "lib/b.cc",
            ".cpp",
            "-pthread",
        ];
        assert_eq!(argv(&line), expected);
    }

    #[test]
    fn a_main_file_is_a_source_whatever_its_extension() {
        let catalogue = catalogue();
        let program = Program { main: "task", files: &["task"], flags: &[] };
        let line = catalogue.by_id("c-12").unwrap().compile_line(&program, 1 << 30).unwrap();
        assert!(line.argv.contains(&"task".to_owned()));
    }

    #[test]
    fn names_that_look_like_options_are_given_as_paths() {
        let catalogue = catalogue();
        let program = Program { main: "-c", files: &["-c"], flags: &[] };
        assert_eq!(catalogue.by_id("python-3.12").unwrap().run_line(&program, 0).argv[1], "./-c");
        let program = Program { main: "@x.c", files: &["@x.c", "-y.c"], flags: &[] };
        let line = catalogue.by_id("c-12").unwrap().compile_line(&program, 0).unwrap();
        assert!(line.argv.contains(&"./@x.c".to_owned()) && line.argv.contains(&"./-y.c".to_owned()));
    }

    #[test]
    fn braces_in_a_name_are_not_filled_in() {
        let catalogue = catalogue();
        let program = Program { main: "{memory_mib}{", files: &["{memory_mib}{"], flags: &[] };
        assert_eq!(catalogue.by_id("python-3.12").unwrap().run_line(&program, 0).argv[1], "{memory_mib}{");
    }

    #[test]
    fn a_heap_leaves_room_below_the_limit() {
        let catalogue = catalogue();
        let program = Program { main: "src/Main.java", files: &["src/Main.java"], flags: &[] };
        let line = catalogue.by_id("java-17").unwrap().run_line(&program, 512 << 20);
        assert!(line.argv.contains(&"-Xmx384m".to_owned()));
        assert_eq!(line.argv.last().unwrap(), "src/Main");
    }

    #[test]
    fn stems_end_at_the_last_dot_of_the_name() {
        for (file, expected) in
            [("a.b.js", "a.b"), ("d.d/x", "d.d/x"), (".x", ".x"), ("x/.y", "x/.y"), ("a/b.c", "a/b")]
        {
            assert_eq!(stem(file), expected);
        }
    }

    #[test]
    fn every_program_can_be_executed_without_a_search_path() {
        let catalogue = catalogue();
        assert!(!catalogue.runtimes().is_empty());
        for runtime in catalogue.runtimes() {
            let main = runtime.language.main.as_str();
            let program = Program { main, files: &[main], flags: &[] };
            let compile = runtime.compile_line(&program, 1 << 30);
            for line in compile.into_iter().chain([runtime.run_line(&program, 1 << 30), runtime.probe_line()]) {
                assert!(line.argv[0].starts_with('/') || line.argv[0].starts_with("./"), "{:?}", line.argv);
            }
        }
    }
}
