//! What a program may not change although it lies where it writes: what others run or trust later.
//!
//! A file is shown read-only by a mount of its own, which can be neither removed nor renamed from inside; so are
//! the directories on the way to it, which stay writable. What a mount can't hold is looked at when all is over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::pieces::PieceError;
use crate::cli::complain;

/// Largest file of a repository that is read here, in bytes.
const FILE_BYTES: u64 = 1 << 20;

/// A directory that a program works in, as to its repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    root: PathBuf,
    /// Whether it was one before.
    was_there: bool,
}

/// Has a file or directory below a writable root read-only, and the way to it fast.
pub(super) fn hold(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, bool>) {
    let way = path.ancestors().skip(1).take_while(|above| above.starts_with(root) && *above != root);
    for above in way {
        all.entry(above.to_owned()).or_insert(true);
    }
    all.entry(path.to_owned()).or_insert(false);
}

/// Holds what of a repository is run by whoever uses it later: its hooks and its configuration.
pub(super) fn hold_repository(
    root: &Path,
    all: &mut BTreeMap<PathBuf, bool>,
) -> Result<Option<Repository>, PieceError> {
    let git = root.join(".git");
    let is_chosen = |path: &Path| path.canonicalize().is_ok_and(|real| all.contains_key(&real));
    if !root.is_dir() || is_chosen(&git) {
        return Ok(None);
    }
    let found = match git.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(Some(Repository { root: root.to_owned(), was_there: false }));
        }
        Err(error) => return Err(PieceError::File { path: git, error }),
    };
    if found.is_symlink() {
        return Err(link(git));
    }
    if found.is_file() {
        hold(root, &git, all);
        let mut directories = directories_of(root, &git);
        // What lies in one that is held has no way to it that may be written to.
        directories.sort();
        for directory in directories {
            let around = all.iter().filter(|(known, _)| directory.starts_with(known)).max();
            match around.map(|(known, writable)| (known.clone(), *writable)) {
                Some((inside, true)) if inside != directory => hold(&inside, &directory, all),
                Some((_, false)) => drop(all.insert(directory, false)),
                // It was chosen, or is not there at all.
                Some(_) | None => {}
            }
        }
        return Ok(Some(Repository { root: root.to_owned(), was_there: true }));
    }
    // Both are there in every repository; where one is not, it must not be made by the program.
    make(&git.join("hooks"), |path| fs::create_dir(path))?;
    make(&git.join("config"), |path| fs::File::create_new(path).map(drop))?;
    let config = read(&git.join("config"));
    if config.to_ascii_lowercase().contains("worktreeconfig") {
        make(&git.join("config.worktree"), |path| fs::File::create_new(path).map(drop))?;
    }
    for name in ["hooks", "config", "config.worktree", "commondir", "modules", "worktrees"] {
        let path = git.join(name);
        match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => return Err(link(path)),
            Ok(_) => hold(root, &path, all),
            // Whatever could be wrong with it, the program sees the same.
            Err(_) => {}
        }
    }
    let hooks = hooks_path(&config).and_then(|path| root.join(path).canonicalize().ok());
    if let Some(hooks) = hooks.filter(|path| path.starts_with(root) && path != root && !path.starts_with(&git)) {
        hold(root, &hooks, all);
    }
    Ok(Some(Repository { root: root.to_owned(), was_there: true }))
}

/// Tells what may be run by whoever uses git there next, and could not be held.
pub(super) fn look_back(repositories: &[Repository]) {
    for Repository { root, was_there } in repositories {
        let git = root.join(".git");
        let made = !was_there && git.symlink_metadata().is_ok();
        if made {
            complain(&format!(
                "{} is new: look at its config and hooks before you use git there, which would run them",
                git.display()
            ));
        } else if git.join("commondir").symlink_metadata().is_ok() && git.is_dir() {
            complain(&format!(
                "{} has git take its configuration from elsewhere: look at it before you use git there",
                git.join("commondir").display()
            ));
        }
    }
}

fn link(path: PathBuf) -> PieceError {
    PieceError::Refused {
        path,
        why: "is a link, which can't be kept from being replaced: choose it by --write, or work where it leads to",
    }
}

fn make(path: &Path, make: impl FnOnce(&Path) -> std::io::Result<()>) -> Result<(), PieceError> {
    if path.symlink_metadata().is_ok() {
        return Ok(());
    }
    make(path).map_err(|error| PieceError::File { path: path.to_owned(), error })
}

/// Of a worktree or a submodule: its own directory, and the one that it shares.
fn directories_of(root: &Path, file: &Path) -> Vec<PathBuf> {
    let text = read(file);
    let Some(target) = text.trim().strip_prefix("gitdir:").and_then(|path| root.join(path.trim()).canonicalize().ok())
    else {
        return Vec::new();
    };
    let common = read(&target.join("commondir"));
    let shared = (!common.is_empty()).then(|| target.join(common.trim()).canonicalize().ok()).flatten();
    [target].into_iter().chain(shared).collect()
}

/// Where hooks are, if the configuration says so; git-config(1), core.hooksPath.
fn hooks_path(config: &str) -> Option<PathBuf> {
    let mut values = config.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("hookspath").then(|| value.trim().trim_matches('"'))
    });
    values.next_back().filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A small file; nothing where it is none.
fn read(path: &Path) -> String {
    let is_small = path.metadata().is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES);
    if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(root: &Path) -> BTreeMap<PathBuf, bool> {
        let mut all = BTreeMap::from([(root.to_owned(), true)]);
        hold_repository(root, &mut all).unwrap();
        all
    }

    fn ground() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        (directory, path)
    }

    #[test]
    fn hooks_and_configuration_are_held_and_the_way_to_them_is_fast() {
        let (_kept, root) = ground();
        fs::create_dir(root.join(".git")).unwrap();
        fs::create_dir_all(root.join(".husky/_")).unwrap();
        fs::write(root.join(".git/config"), "[core]\n\tbare = false\n\thooksPath = .husky/_\n").unwrap();
        let all = held(&root);
        for (path, writable) in [(".git", true), (".git/hooks", false), (".git/config", false), (".husky/_", false)] {
            assert_eq!(all.get(&root.join(path)), Some(&writable), "{path}: {all:?}");
        }
        assert_eq!(all.get(&root.join(".husky")), Some(&true));
        assert!(root.join(".git/hooks").is_dir());
    }

    #[test]
    fn what_was_chosen_is_left_alone() {
        let (_kept, root) = ground();
        fs::create_dir(root.join(".git")).unwrap();
        let mut all = BTreeMap::from([(root.clone(), true), (root.join(".git"), true)]);
        hold_repository(&root, &mut all).unwrap();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn of_a_worktree_the_file_and_what_it_leads_to_are_held() {
        let (_kept, root) = ground();
        let (main, tree) = (root.join("main/.git/worktrees/tree"), root.join("tree"));
        fs::create_dir_all(&main).unwrap();
        fs::create_dir(&tree).unwrap();
        fs::write(main.join("commondir"), "../..\n").unwrap();
        fs::write(tree.join(".git"), "gitdir: ../main/.git/worktrees/tree\n").unwrap();
        let mut all = BTreeMap::from([(tree.clone(), true), (root.join("main"), true)]);
        hold_repository(&tree, &mut all).unwrap();
        assert_eq!(all.get(&tree.join(".git")), Some(&false));
        assert_eq!(all.get(&main), Some(&false));
        assert_eq!(all.get(&root.join("main/.git")), Some(&false));
        // Elsewhere it is not there at all.
        let mut all = BTreeMap::from([(tree.clone(), true)]);
        hold_repository(&tree, &mut all).unwrap();
        assert_eq!(all.len(), 2);
    }

    #[test]
    fn a_link_can_not_be_held() {
        let (_kept, root) = ground();
        fs::create_dir(root.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink("elsewhere", root.join(".git")).unwrap();
        assert!(hold_repository(&root, &mut BTreeMap::from([(root.clone(), true)])).is_err());
    }
}
