//! What git takes for a repository, and what a program has made of that where it could write.
//!
//! Git looks for `.git` in a directory, then at the directory itself, then further up; gitglossary(7), bare
//! repository. Whoever makes one that is found first has said what git runs there.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::unistd::{AccessFlags, access};

use super::guard::read;
use crate::cli::text::harmless;

/// What of a repository says what git runs.
const SAYS: [&str; 4] = ["config", "config.worktree", "commondir", "hooks"];
/// What makes a directory a repository.
const MAKES: [&str; 3] = ["HEAD", "objects", "refs"];
/// Files and directories that are looked at in the end, and how long that may take.
const ENTRIES: usize = 500_000;
const PATIENCE: Duration = Duration::from_secs(5);
/// Repositories that are named in one line.
const NAMED: usize = 8;

/// A directory that a program works in, as to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    root: PathBuf,
    /// Whether something was called `.git` before.
    was_there: bool,
    /// What its `HEAD` was, if it was a whole repository and no file that leads to one.
    head: Option<String>,
    /// Whether the directory was a repository itself.
    was_bare: bool,
    began_s: i64,
}

impl Repository {
    /// As it is before a program works there.
    pub(super) fn of(root: &Path) -> Self {
        let git = root.join(".git");
        let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            root: root.to_owned(),
            was_there: is_there(&git),
            head: is_whole(&git).then(|| head(&git)),
            was_bare: is_bare(root),
            began_s: i64::try_from(began.as_secs()).unwrap_or_default(),
        }
    }

    /// Whether git could take the directory itself for a repository although it has one.
    pub(super) fn is_doubtful(&self) -> bool {
        self.was_there && self.was_bare
    }

    /// Whether the directory is a repository itself.
    pub(super) fn is_bare(&self) -> bool {
        self.was_bare
    }

    /// What of the directory itself is not as it was, and what to do about it.
    pub(super) fn changes(&self) -> Vec<String> {
        let Self { root, .. } = self;
        let git = root.join(".git");
        let mut all = Vec::new();
        if !self.was_bare && is_bare(root) {
            all.push(bare(root));
        }
        match &self.head {
            _ if !self.was_there && is_there(&git) => all.push(format!(
                "{} is new: look at its config and hooks before you use git there, which would run them",
                git.display()
            )),
            Some(head) if !is_whole(&git) => all.push(format!(
                "{} is no repository any more: until it is, git uses another in {} or above it, and runs what that \
                 names. It needs directories objects and refs that can be entered, and a HEAD, which was {}",
                git.display(),
                root.display(),
                quoted(head)
            )),
            _ if is_there(&git.join("commondir")) && git.is_dir() => all.push(format!(
                "{} has git take its configuration from elsewhere: look at it before you use git there",
                git.join("commondir").display()
            )),
            _ => {}
        }
        all
    }

    /// Repositories below it that say something else than before about what git runs.
    pub(super) fn changes_below(&self, others: &[Self]) -> Vec<String> {
        let mut found = Walk { began_s: self.began_s, ..Walk::default() };
        let until = Instant::now() + PATIENCE;
        let is_other = |path: &Path| others.iter().any(|other| other.root == path);
        let mut left = vec![self.root.clone()];
        while let Some(directory) = left.pop() {
            if found.entries > ENTRIES || Instant::now() > until {
                found.is_partial = true;
                break;
            }
            if directory != self.root && !is_other(&directory) {
                found.look_at(&directory);
            }
            let Ok(entries) = fs::read_dir(&directory) else {
                // Where we can't look, git can't either.
                continue;
            };
            let directories = entries.flatten().inspect(|_| found.entries += 1);
            let directories = directories.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            left.extend(directories.filter(|entry| entry.file_name() != ".git").map(|entry| entry.path()));
        }
        found.told(&self.root)
    }

    /// Whether it is looked through with another, in which it lies.
    pub(super) fn lies_within(&self, others: &[Self]) -> bool {
        others.iter().any(|other| other.root != self.root && self.root.starts_with(&other.root))
    }
}

/// Tells of a directory that git takes for a repository.
pub(super) fn bare(directory: &Path) -> String {
    format!(
        "git takes {0} itself for a repository: it runs there what {0}/config and {0}/hooks name. Unless you want that, \
         before you use git there or below: rm -rf -- {1}",
        harmless(&directory.display().to_string()),
        quoted(&directory.join("HEAD").display().to_string())
    )
}

/// What is found below a directory.
#[derive(Debug, Default)]
struct Walk {
    began_s: i64,
    entries: usize,
    is_partial: bool,
    bare: Vec<PathBuf>,
    other: Vec<PathBuf>,
}

impl Walk {
    fn look_at(&mut self, directory: &Path) {
        let git = directory.join(".git");
        if let Ok(found) = git.symlink_metadata() {
            // A file, or a link, leads to a repository elsewhere.
            if !found.is_dir() && found.ctime() >= self.began_s || found.is_dir() && self.says_something_new(&git) {
                self.other.push(git);
            }
        }
        if is_bare(directory) {
            let is_made = MAKES.iter().any(|name| self.is_new(&directory.join(name)));
            if is_made || self.says_something_new(directory) {
                self.bare.push(directory.to_owned());
            }
        }
    }

    /// The kernel says when a file was changed or came to its place, and no program can have it say something else.
    fn is_new(&self, path: &Path) -> bool {
        path.symlink_metadata().is_ok_and(|found| found.ctime() >= self.began_s)
    }

    fn says_something_new(&self, git: &Path) -> bool {
        let hooks = fs::read_dir(git.join("hooks"));
        let hooks = hooks.into_iter().flatten().flatten().take(ENTRIES).map(|entry| entry.path());
        SAYS.iter().map(|name| git.join(name)).chain(hooks).any(|path| self.is_new(&path))
    }

    fn told(&self, root: &Path) -> Vec<String> {
        let mut all: Vec<String> = self.bare.iter().take(NAMED).map(|path| bare(path)).collect();
        if self.bare.len() > NAMED {
            all.push(format!("and so with {} more directories below {}", self.bare.len() - NAMED, root.display()));
        }
        if !self.other.is_empty() {
            let named = self.other.iter().take(NAMED).map(|path| harmless(&path.display().to_string()));
            let mut named = named.collect::<Vec<_>>().join(", ");
            if self.other.len() > NAMED {
                named.push_str(&format!(" and {} more", self.other.len() - NAMED));
            }
            all.push(format!(
                "new, or with new configuration or hooks: {named}: look at them before you use git there, which would \
                 run them"
            ));
        }
        if self.is_partial {
            all.push(format!(
                "{} holds too much to be looked through for repositories: there may be new ones below it",
                root.display()
            ));
        }
        all
    }
}

fn is_there(path: &Path) -> bool {
    path.symlink_metadata().is_ok()
}

/// Whether a directory has what git takes for a repository, or nearly so.
fn is_bare(directory: &Path) -> bool {
    let has = |name: &str| is_there(&directory.join(name));
    has("HEAD") && (has("commondir") || has("objects") && has("refs"))
}

/// Whether git can use it as a repository, by the same signs.
fn is_whole(git: &Path) -> bool {
    let can_enter = |name: &str| access(&git.join(name), AccessFlags::X_OK).is_ok();
    let has_head = match git.join("HEAD").read_link() {
        Ok(target) => target.starts_with("refs"),
        Err(_) => {
            let head = head(git);
            let is_name = head.len() >= 40 && head.bytes().all(|byte| byte.is_ascii_hexdigit());
            is_name || head.strip_prefix("ref:").is_some_and(|name| name.trim_start().starts_with("refs/"))
        }
    };
    has_head && (is_there(&git.join("commondir")) || can_enter("objects") && can_enter("refs"))
}

/// First line of its `HEAD`.
fn head(git: &Path) -> String {
    read(&git.join("HEAD")).lines().next().unwrap_or_default().trim_end().to_owned()
}

/// As one word of a shell's.
fn quoted(text: &str) -> String {
    harmless(&format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make_bare(directory: &Path) {
        fs::create_dir_all(directory.join("objects")).unwrap();
        fs::create_dir_all(directory.join("refs")).unwrap();
        fs::write(directory.join("HEAD"), "ref: refs/heads/main\n").unwrap();
    }

    #[test]
    fn a_directory_that_becomes_a_repository_is_told_of_with_what_removes_it() {
        let root = tempfile::tempdir().unwrap();
        make_bare(&root.path().join(".git"));
        let before = Repository::of(root.path());
        assert!(before.changes().is_empty() && !before.is_doubtful());
        make_bare(root.path());
        let told = before.changes();
        assert!(told.len() == 1 && told[0].contains("/HEAD'"), "{told:?}");
        assert!(Repository::of(root.path()).is_doubtful());
    }

    #[test]
    fn a_repository_that_is_none_any_more_is_told_of_with_what_its_head_was() {
        for name in ["HEAD", "objects", "refs"] {
            let root = tempfile::tempdir().unwrap();
            let git = root.path().join(".git");
            make_bare(&git);
            let before = Repository::of(root.path());
            fs::rename(git.join(name), git.join("away")).unwrap();
            let told = before.changes();
            assert!(told.len() == 1 && told[0].contains("'ref: refs/heads/main'"), "{name}: {told:?}");
        }
        let root = tempfile::tempdir().unwrap();
        make_bare(&root.path().join(".git"));
        let before = Repository::of(root.path());
        fs::write(root.path().join(".git/HEAD"), "nonsense\n").unwrap();
        assert_eq!(before.changes().len(), 1);
        // As git has it when no branch is checked out.
        fs::write(root.path().join(".git/HEAD"), format!("{}\n", "a0".repeat(20))).unwrap();
        assert!(before.changes().is_empty());
    }

    #[test]
    fn below_only_what_is_new_is_told_of() {
        let root = tempfile::tempdir().unwrap();
        for name in ["a/b", "c/.git", "d"] {
            make_bare(&root.path().join(name));
        }
        fs::write(root.path().join("d/.git"), "gitdir: ../c/.git\n").unwrap();
        let mut before = Repository::of(root.path());
        let told = before.changes_below(std::slice::from_ref(&before));
        assert_eq!(told.len(), 3, "{told:?}");
        // All of it is older than this.
        before.began_s += 1_000;
        assert!(before.changes_below(&[]).is_empty());
    }

    #[test]
    fn names_are_quoted() {
        assert_eq!(quoted("a b'c"), r"'a b'\''c'");
    }
}
