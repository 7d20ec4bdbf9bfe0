//! What git outside says of a directory before a program has it: where its configuration and its hooks come from.
//!
//! Nothing that is asked here runs a hook or a monitor of files; git-config(1), git-rev-parse(1).

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// How long git may take for an answer. A configuration that is a pipe would be waited for without end.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest answer that is read, in bytes.
const ANSWER_BYTES: u64 = 4 << 20;
/// Files that are asked of one by one at most.
const FILES: usize = 64;

/// What git has said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Files that configuration comes from, or will come from as soon as they are there.
    pub(super) files: BTreeSet<PathBuf>,
    /// Directories that hooks are run from, besides the usual one.
    pub(super) hooks: BTreeSet<PathBuf>,
    /// Whether it has read the configuration of a repository.
    pub(super) is_local: bool,
    /// Whether there is a repository at all.
    pub(super) is_repository: bool,
    /// Whether directories that look like a bare repository are left alone.
    pub(super) is_explicit: bool,
}

/// Asks; nothing where there is no git, or it says nothing that can be used.
pub(super) fn ask(directory: &Path) -> Option<Said> {
    const LIST: [&str; 6] = ["config", "--includes", "--show-scope", "--show-origin", "--list", "-z"];
    let top = answer(directory, &["rev-parse", "--show-toplevel"].map(OsStr::new));
    let top = top.as_deref().and_then(|text| text.strip_suffix(b"\n")).filter(|text| !text.is_empty());
    // Origins and hooks are told relative to it.
    let base = top.map_or_else(|| directory.to_owned(), |top| directory.join(OsStr::from_bytes(top)));
    let all = answer(&base, &LIST.map(OsStr::new))?;
    let mut said = Said { files: usual(), ..Said::default() };
    let (mut later, mut hooks) = (Vec::new(), None);
    for entry in entries(&all) {
        said.is_local |= matches!(entry.scope, b"local" | b"worktree");
        if entry.key == b"safe.barerepository" && matches!(entry.scope, b"system" | b"global" | b"command") {
            said.is_explicit = entry.value == b"explicit";
        }
        if entry.key == b"core.hookspath" {
            hooks = Some(entry.value);
        }
        entry.note_files(&base, &mut said.files, &mut later);
    }
    let is_repository = top.is_some() || said.is_local;
    said.is_repository = is_repository;
    said.hooks.extend(hooks.and_then(|value| hooks_directory(value, &base, is_repository)));
    // What is not in force now may be as soon as another branch is checked out.
    let mut asked = BTreeSet::new();
    while let Some(file) = later.pop().filter(|_| asked.len() < FILES) {
        if !file.is_file() || !asked.insert(file.clone()) {
            continue;
        }
        let mut question = LIST.map(OsStr::new).to_vec();
        question.extend([OsStr::new("--file"), file.as_os_str()]);
        for entry in answer(&base, &question).iter().flat_map(|all| entries(all)) {
            if entry.key == b"core.hookspath" {
                said.hooks.extend(hooks_directory(entry.value, &base, is_repository));
            }
            entry.note_files(&base, &mut said.files, &mut later);
        }
    }
    Some(said)
}

/// Where git looks for the caller's own configuration, whether it is there, or empty, or not; git-config(1), FILES.
fn usual() -> BTreeSet<PathBuf> {
    let variable = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = variable("HOME");
    let more = variable("XDG_CONFIG_HOME").or_else(|| home.as_ref().map(|home| home.join(".config")));
    let own = home.map(|home| home.join(".gitconfig")).into_iter();
    own.chain(more.map(|more| more.join("git/config"))).chain(variable("GIT_CONFIG_GLOBAL")).collect()
}

/// A setting, and where it comes from.
struct Entry<'a> {
    scope: &'a [u8],
    file: Option<&'a [u8]>,
    key: &'a [u8],
    value: &'a [u8],
}

fn entries(all: &[u8]) -> impl Iterator<Item = Entry<'_>> {
    let mut parts = all.split(|byte| *byte == 0);
    std::iter::from_fn(move || {
        let (scope, origin, setting) = (parts.next()?, parts.next()?, parts.next()?);
        let mut halves = setting.splitn(2, |byte| *byte == b'\n');
        let (key, value) = (halves.next()?, halves.next().unwrap_or_default());
        Some(Entry { scope, file: origin.strip_prefix(b"file:"), key, value })
    })
}

impl Entry<'_> {
    /// Adds the file that it stands in and the one that it includes, and to `later` what git has not looked into,
    /// or not with certainty.
    fn note_files(&self, base: &Path, files: &mut BTreeSet<PathBuf>, later: &mut Vec<PathBuf>) {
        let Some(file) = self.file.map(|path| base.join(OsStr::from_bytes(path))) else {
            return;
        };
        let is_conditional = self.key.starts_with(b"includeif.");
        if self.key == b"include.path" || is_conditional && self.key.ends_with(b".path") {
            let around = file.parent().unwrap_or(base);
            if let Some(included) = expanded(self.value, around) {
                if self.key.starts_with(b"includeif.onbranch:") && !files.contains(&included) {
                    later.push(included.clone());
                }
                files.insert(included);
            }
        }
        files.insert(file);
    }
}

fn hooks_directory(value: &[u8], base: &Path, is_repository: bool) -> Option<PathBuf> {
    let path = expanded(value, base)?;
    // In no repository a relative path is one of nothing.
    let is_relative = !value.starts_with(b"/") && !value.starts_with(b"~/");
    (is_repository || !is_relative).then_some(path)
}

/// A path as configuration has them; git-config(1), pathname. What lies with git itself is none.
fn expanded(value: &[u8], around: &Path) -> Option<PathBuf> {
    let value = value.strip_prefix(b":(optional)").unwrap_or(value);
    if value.is_empty() || value.starts_with(b"%(prefix)/") {
        return None;
    }
    match value.strip_prefix(b"~/") {
        Some(rest) => std::env::var_os("HOME").map(|home| Path::new(&home).join(OsStr::from_bytes(rest))),
        None => Some(around.join(OsStr::from_bytes(value))),
    }
}

/// What git prints; nothing where it fails.
fn answer(directory: &Path, arguments: &[&OsStr]) -> Option<Vec<u8>> {
    let mut command = Command::new("git");
    // It is asked of the directory, whatever the caller's shell is about.
    for variable in ["GIT_DIR", "GIT_WORK_TREE", "GIT_COMMON_DIR", "GIT_INDEX_FILE", "GIT_CONFIG"] {
        command.env_remove(variable);
    }
    command.arg("--no-pager").args(arguments).current_dir(directory);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
    let output = child.stdout.take().expect("standard output was made a pipe");
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let mut text = Vec::new();
        let done = output.take(ANSWER_BYTES).read_to_end(&mut text);
        // Where nobody waits for it any more, it is not wanted.
        tell.send(done.map(|_| text)).ok();
    });
    let text = told.recv_timeout(PATIENCE);
    if text.is_err() {
        child.kill().ok();
    }
    let is_done = child.wait().is_ok_and(|status| status.success());
    text.ok()?.ok().filter(|_| is_done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_and_where_they_come_from_are_told_apart() {
        let text = b"local\0file:.git/config\0core.hookspath\n.husky/_\0local\0file:.git/config\0include.path\n../x\0\
                     command\0command line:\0a.b\0local\0file:.git/../x\0includeif.onbranch:y.path\nz\0";
        let (mut files, mut later) = (BTreeSet::new(), Vec::new());
        let all: Vec<_> = entries(text).collect();
        assert_eq!(all.len(), 4);
        assert_eq!((all[0].key, all[0].value), (&b"core.hookspath"[..], &b".husky/_"[..]));
        all.iter().for_each(|entry| entry.note_files(Path::new("/w"), &mut files, &mut later));
        let expected = ["/w/.git/../x", "/w/.git/../z", "/w/.git/config"].map(PathBuf::from);
        assert_eq!(files.into_iter().collect::<Vec<_>>(), expected);
        assert_eq!(later, [PathBuf::from("/w/.git/../z")]);
    }

    #[test]
    fn a_relative_directory_of_hooks_is_one_of_a_repository() {
        let base = Path::new("/w");
        assert_eq!(hooks_directory(b".husky/_", base, true), Some(PathBuf::from("/w/.husky/_")));
        assert_eq!(hooks_directory(b".husky/_", base, false), None);
        assert_eq!(hooks_directory(b"/h", base, false), Some(PathBuf::from("/h")));
        assert_eq!(hooks_directory(b"", base, true), None);
    }
}
