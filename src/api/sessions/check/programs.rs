//! What programs of a session find: their environment, their shell, and where a program is that is given by name.

use std::collections::BTreeMap;
use std::path::Path;

use crate::runtime::{BASE_ENVIRONMENT, Catalogue, Program, Runtime};
use crate::session::types::View;

/// What the shell does that searches for a program: execve(2) itself does not look into `PATH`.
const SEARCH: &str = r#"exec "$0" "$@""#;
/// The shell that every sandbox has.
const SHELL: &str = "/bin/sh";

/// Variables that every program of a session with these runtimes gets. Those of the first runtime come
/// before those of the next; the search path has the directories of all.
pub(super) fn environment(runtimes: &[String], catalogue: &Catalogue, memory_bytes: u64) -> BTreeMap<String, String> {
    let usual = |name: &str| BASE_ENVIRONMENT.iter().find(|(known, _)| *known == name).map_or("", |(_, value)| *value);
    let (links, usual_path) = usual("PATH").split_once(':').unwrap_or((usual("PATH"), ""));
    let mut env: BTreeMap<String, String> = BTreeMap::new();
    let mut path: Vec<String> = vec![links.to_owned()];
    for runtime in runtimes.iter().filter_map(|id| catalogue.by_id(id)) {
        let nothing = Program { main: &runtime.language.main, files: &[], flags: &[] };
        for (name, value) in runtime.run_line(&nothing, memory_bytes).env {
            env.entry(name).or_insert(value);
        }
        for directory in &runtime.path {
            let directory = directory.to_string_lossy().into_owned();
            if !path.contains(&directory) {
                path.push(directory);
            }
        }
    }
    path.push(usual_path.to_owned());
    env.insert("PATH".to_owned(), path.join(":"));
    env
}

/// The shell of a session: that of its runtimes, where they bring one.
pub(super) fn shell(view: &View, catalogue: &Catalogue) -> String {
    let brought = runtimes(view, catalogue).find_map(|runtime| runtime.programs.get("sh"));
    brought.map_or_else(|| SHELL.to_owned(), |path| path.to_string_lossy().into_owned())
}

/// A command line whose program is a path. A name is that of a program of the session's runtimes, or is
/// searched for inside the sandbox.
pub(super) fn command_line(
    mut argv: Vec<String>,
    env: &BTreeMap<String, String>,
    view: &View,
    catalogue: &Catalogue,
) -> Vec<String> {
    let Some(name) = argv.first().filter(|name| !name.contains('/')).cloned() else {
        return argv;
    };
    // Another search path may lead to another program of this name.
    let is_usual_path = || {
        let usual = environment(&view.runtimes, catalogue, view.limits.memory_bytes);
        !env.contains_key("PATH") && view.env.get("PATH") == usual.get("PATH")
    };
    let known = runtimes(view, catalogue).find_map(|runtime| program(runtime, &name)).filter(|_| is_usual_path());
    match known {
        Some(path) => {
            argv[0] = path;
            argv
        }
        None => {
            let search = [shell(view, catalogue), "-c".to_owned(), SEARCH.to_owned()];
            search.into_iter().chain(argv).collect()
        }
    }
}

fn runtimes<'a>(view: &'a View, catalogue: &'a Catalogue) -> impl Iterator<Item = &'a Runtime> {
    view.runtimes.iter().filter_map(|id| catalogue.by_id(id))
}

/// Path of the program that a runtime has under this name: a link of its own, or the name of its file.
fn program(runtime: &Runtime, name: &str) -> Option<String> {
    let is_called_so = |path: &&std::path::PathBuf| path.file_name() == Path::new(name).file_name();
    let path = if runtime.link_names().iter().any(|link| link == name) {
        runtime.program()
    } else {
        runtime.programs.values().find(is_called_so)?
    };
    Some(path.to_string_lossy().into_owned())
}
