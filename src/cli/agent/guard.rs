//! What a program may not change although it lies where it writes: what others run or trust later.
//!
//! A file is shown read-only by a mount of its own, which can be neither removed nor renamed from inside; so are
//! the directories on the way to it, which stay writable. What a mount can't hold is looked at when all is over.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::git;
use super::pieces::PieceError;
use super::repository::{Repository, bare};
use crate::cli::complain;

/// Largest file of a repository that is read here, in bytes.
const FILE_BYTES: u64 = 1 << 20;
/// Links on the way to a file at most, as the kernel has it; path_resolution(7).
const LINKS: usize = 40;
/// What of a repository says what git runs.
const READ_ONLY: [&str; 6] = ["hooks", "config", "config.worktree", "commondir", "modules", "worktrees"];
/// Without these it is none, and git looks for another one. They are written to, and only fast.
const FAST: [&str; 2] = ["objects", "refs"];

/// Has a file or directory below a writable root read-only, and the way to it fast.
pub(super) fn hold(root: &Path, path: &Path, all: &mut BTreeMap<PathBuf, bool>) {
    hold_as(root, path, false, all);
}

fn hold_as(root: &Path, path: &Path, writable: bool, all: &mut BTreeMap<PathBuf, bool>) {
    let way = path.ancestors().skip(1).take_while(|above| above.starts_with(root) && *above != root);
    for above in way {
        all.entry(above.to_owned()).or_insert(true);
    }
    all.entry(path.to_owned()).or_insert(writable);
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
    let repository = Repository::of(root);
    if repository.is_doubtful() {
        complain(&bare(root));
    }
    if repository.is_bare() && root.file_name() != Some(".git".as_ref()) {
        hold_directory(root, root, all)?;
    }
    let found = match git.symlink_metadata() {
        Ok(found) => found,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Some(repository)),
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
        return Ok(Some(repository));
    }
    hold_directory(root, &git, all)?;
    Ok(Some(repository))
}

/// Holds a directory that is a repository.
fn hold_directory(root: &Path, git: &Path, all: &mut BTreeMap<PathBuf, bool>) -> Result<(), PieceError> {
    // Both are there in every repository; where one is not, it must not be made by the program.
    make(&git.join("hooks"), |path| fs::create_dir(path))?;
    make(&git.join("config"), |path| fs::File::create_new(path).map(drop))?;
    let config = read(&git.join("config"));
    if config.to_ascii_lowercase().contains("worktreeconfig") {
        make(&git.join("config.worktree"), |path| fs::File::create_new(path).map(drop))?;
    }
    let names = READ_ONLY.map(|name| (name, false)).into_iter().chain(FAST.map(|name| (name, true)));
    for (name, writable) in names {
        let path = git.join(name);
        match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => return Err(link(path)),
            Ok(_) => hold_as(root, &path, writable, all),
            // Whatever could be wrong with it, the program sees the same.
            Err(_) => {}
        }
    }
    Ok(())
}

/// Holds what configuration names, wherever that is: its own files, and other directories of hooks. The first root
/// is where the program works, the others were chosen.
pub(super) fn hold_named(roots: &[PathBuf], all: &mut BTreeMap<PathBuf, bool>) -> Result<(), PieceError> {
    let mut is_open = false;
    for root in roots.iter().filter(|root| root.is_dir()) {
        let said = git::ask(root);
        // Where there is none, a program can make a .git as well, which that setting does not keep it from.
        is_open |= said.as_ref().is_some_and(|said| said.is_repository && !said.is_explicit);
        let said = said.unwrap_or_default();
        let mut hooks = said.hooks;
        if !said.is_local {
            // There is no git here, or none that reads what another one will.
            hooks.extend(hooks_path(&read(&root.join(".git/config"))).map(|path| root.join(path)));
        }
        // What lies in a directory that is held needs no hold of its own.
        for directory in hooks {
            hold_hooks(&directory, roots, all)?;
        }
        for file in said.files {
            hold_file(&file, roots, all)?;
        }
    }
    if is_open {
        complain(
            &"git takes any directory with HEAD, objects and refs for a repository, and the program can make one; this \
              keeps it from that: git config --global safe.bareRepository explicit",
        );
    }
    Ok(())
}

fn hold_file(file: &Path, roots: &[PathBuf], all: &mut BTreeMap<PathBuf, bool>) -> Result<(), PieceError> {
    let (place, around) = match settle(file, all)? {
        (place, Some(around)) if !is_let(&place, roots, all) => (place, around),
        // The program can't get there, or was let.
        _ => return Ok(()),
    };
    if place.symlink_metadata().is_err() {
        return Err(PieceError::Refused {
            path: place,
            why: "is not there, and git takes configuration from it as soon as the program has made it: make it, \
                  empty, or take the include that names it out of git's configuration",
        });
    }
    hold(&around, &place, all);
    Ok(())
}

fn hold_hooks(directory: &Path, roots: &[PathBuf], all: &mut BTreeMap<PathBuf, bool>) -> Result<(), PieceError> {
    let (place, around) = match settle(directory, all)? {
        (place, Some(around)) if !is_let(&place, roots, all) => (place, around),
        _ => return Ok(()),
    };
    if all.contains_key(&place) {
        return Err(PieceError::Refused {
            path: place,
            why: "is where git runs hooks from (core.hooksPath), and the program is to write there: have git look \
                  elsewhere, or choose it by --write",
        });
    }
    make(&place, |path| fs::create_dir_all(path))?;
    hold(&around, &place, all);
    Ok(())
}

/// Whether it is held already, or was chosen to be written although it says what git runs.
fn is_let(place: &Path, roots: &[PathBuf], all: &BTreeMap<PathBuf, bool>) -> bool {
    let is_git = |root: &&PathBuf| root.file_name() == Some(".git".as_ref());
    all.get(place) == Some(&false)
        || roots.iter().skip(1).any(|root| root == place)
        || roots.iter().filter(is_git).any(|root| place.starts_with(root))
}

/// Where a path leads, and what of all it lies in if that is writable. A link that the program could replace is refused.
fn settle(path: &Path, all: &BTreeMap<PathBuf, bool>) -> Result<(PathBuf, Option<PathBuf>), PieceError> {
    let parts = |path: &Path| -> Vec<PathBuf> { path.components().rev().map(|part| part.as_os_str().into()).collect() };
    let around = |path: &Path| path.ancestors().find_map(|above| all.get_key_value(above));
    let mut left = parts(path);
    let (mut place, mut links) = (PathBuf::from("/"), 0);
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            place.pop();
            continue;
        }
        let next = if part == Path::new(".") { place.clone() } else { place.join(part) };
        let Ok(target) = next.read_link() else {
            place = next;
            continue;
        };
        if around(&next).is_some_and(|(_, writable)| *writable) {
            return Err(PieceError::Refused {
                path: next,
                why: "is a link on the way to hooks or configuration of git's, which can't be kept from being \
                      replaced: have git's configuration name where it leads to",
            });
        }
        links += 1;
        if links > LINKS {
            let error = std::io::Error::from_raw_os_error(nix::libc::ELOOP);
            return Err(PieceError::File { path: path.to_owned(), error });
        }
        left.extend(parts(&target));
    }
    let around = around(&place).filter(|(_, writable)| **writable).map(|(above, _)| above.clone());
    Ok((place, around))
}

/// Tells what may be run by whoever uses git there next, and could not be held.
pub(super) fn look_back(repositories: &[Repository]) {
    for repository in repositories {
        repository.changes().iter().for_each(|line| complain(line));
        if !repository.lies_within(repositories) {
            repository.changes_below(repositories).iter().for_each(|line| complain(line));
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
        // A section and what is in it may stand on one line.
        let line = line.trim_start();
        let line = line.strip_prefix('[').and_then(|rest| rest.split_once(']')).map_or(line, |(_, rest)| rest);
        let (name, value) = line.split_once('=')?;
        name.trim().eq_ignore_ascii_case("hookspath").then(|| value.trim().trim_matches('"'))
    });
    values.next_back().filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// A small file; nothing where it is none.
pub(super) fn read(path: &Path) -> String {
    let is_small = path.metadata().is_ok_and(|found| found.is_file() && found.len() <= FILE_BYTES);
    if is_small { fs::read_to_string(path).unwrap_or_default() } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(root: &Path) -> BTreeMap<PathBuf, bool> {
        let mut all = BTreeMap::from([(root.to_owned(), true)]);
        hold_repository(root, &mut all).unwrap();
        hold_named(&[root.to_owned()], &mut all).unwrap();
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
    fn what_makes_a_repository_stays_where_it_is() {
        let (_kept, root) = ground();
        for name in [".git/objects", ".git/refs", "bare/objects", "bare/refs"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        let all = held(&root);
        for name in [".git/objects", ".git/refs"] {
            assert_eq!(all.get(&root.join(name)), Some(&true), "{name}: {all:?}");
        }
        // One that is a repository itself is held like the one in .git.
        fs::write(root.join("bare/HEAD"), "ref: refs/heads/main\n").unwrap();
        let all = held(&root.join("bare"));
        for (name, writable) in [("objects", true), ("refs", true), ("config", false), ("hooks", false)] {
            assert_eq!(all.get(&root.join("bare").join(name)), Some(&writable), "{name}: {all:?}");
        }
    }

    #[test]
    fn a_directory_of_hooks_is_found_without_git() {
        for text in ["[core] hooksPath = x", "[core]\n\tHooksPath=\"x\"", "[a]\nb=c\n[core]hookspath=x\n"] {
            assert_eq!(hooks_path(text), Some(PathBuf::from("x")), "{text}");
        }
        assert_eq!(hooks_path("[core]\n\tbare = false\n"), None);
    }

    #[test]
    fn a_link_is_refused_where_the_program_could_replace_it_and_followed_elsewhere() {
        let (_kept, root) = ground();
        let work = root.join("work");
        fs::create_dir_all(work.join("tools/hooks")).unwrap();
        std::os::unix::fs::symlink("tools", work.join("link")).unwrap();
        std::os::unix::fs::symlink("work/tools/hooks", root.join("outside")).unwrap();
        let all = BTreeMap::from([(work.clone(), true)]);
        assert!(settle(&work.join("link/hooks"), &all).is_err());
        let expected = (work.join("tools/hooks"), Some(work.clone()));
        for path in [work.join("tools/hooks"), root.join("outside"), work.join("tools/../missing/../tools/hooks")] {
            assert_eq!(settle(&path, &all).unwrap(), expected, "{}", path.display());
        }
        assert_eq!(settle(&work.join("a/b"), &all).unwrap(), (work.join("a/b"), Some(work)));
        assert_eq!(settle(&root.join("a"), &all).unwrap().1, None);
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
