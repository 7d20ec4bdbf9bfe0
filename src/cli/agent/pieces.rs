//! Which files and directories of the host a program is given, and what is refused however it is asked for.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use super::environment::Owner;
use super::guard;
use super::repository::Repository;
use super::rules::Rules;
use crate::plan::real::Piece;

/// Directories that belong to the whole system: nobody works in one, and what lies below is for the caller to say.
const SYSTEM: [&str; 17] = [
    "/",
    "/bin",
    "/boot",
    "/etc",
    "/home",
    "/lib",
    "/lib64",
    "/nix",
    "/nix/store",
    "/opt",
    "/root",
    "/sbin",
    "/tmp",
    "/usr",
    "/var",
    "/var/tmp",
    "/mnt",
];
/// Trees of which no part is a real file.
const UNREAL: [&str; 4] = ["/dev", "/proc", "/run", "/sys"];
/// What is there for every program, read-only.
const SHOWN: [&str; 10] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/libexec", "/opt", "/nix/store"];

/// Why what was chosen can't be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum PieceError {
    /// It is not there, or not to be seen.
    #[error("{}: {error}", path.display())]
    File {
        /// What was named.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// No program is let loose there.
    #[error("{} {why}", path.display())]
    Refused {
        /// Where it leads.
        path: PathBuf,
        /// What it is.
        why: &'static str,
    },
    /// It was named twice.
    #[error("{} is to be read and to be written at one time: name it once", .0.display())]
    Twice(PathBuf),
}

/// What a program is given.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Where it works.
    pub(super) workdir: PathBuf,
    /// Where its home directory stands.
    pub(super) home: PathBuf,
    /// In the order in which they are attached.
    pub(super) pieces: Vec<Piece>,
    /// Repositories, to be looked at when it is over.
    pub(super) watched: Vec<Repository>,
}

impl Chosen {
    /// Whether something is there for the program.
    pub(super) fn shows(&self, path: &Path) -> bool {
        SHOWN.iter().any(|shown| path.starts_with(shown))
            || self.pieces.iter().any(|piece| path.starts_with(&piece.path))
    }

    /// An allow-file that lies where the program writes is one that it could write itself: the one that was opened
    /// is the only one that counts then, and it is shown read-only.
    pub(super) fn hold_rules(&self, rules: Rules) -> Rules {
        let is_reached = self.pieces.iter().any(|piece| piece.writable && rules.place().starts_with(&piece.path));
        if is_reached { rules.held() } else { rules }
    }
}

/// Chooses, and checks.
pub(super) fn choose(
    workdir: &Path,
    write: &[PathBuf],
    read: &[PathBuf],
    rules: Option<&Rules>,
    owner: &Owner,
) -> Result<Chosen, PieceError> {
    let workdir = real(workdir)?;
    if !workdir.is_dir() {
        return Err(PieceError::Refused { path: workdir, why: "is no directory, so nobody can work in it" });
    }
    let mut all: BTreeMap<PathBuf, bool> = BTreeMap::new();
    let mut roots = vec![workdir.clone()];
    for path in write {
        roots.push(real(path)?);
    }
    for root in &roots {
        check(root, owner, true)?;
        all.insert(root.clone(), true);
    }
    for path in read {
        let path = real(path)?;
        check(&path, owner, false)?;
        if all.insert(path.clone(), false) == Some(true) {
            return Err(PieceError::Twice(path));
        }
    }
    let mut watched = Vec::new();
    for root in &roots {
        watched.extend(guard::hold_repository(root, &mut all)?);
    }
    guard::hold_named(&roots, &mut all)?;
    let replaceable = rules.map(Rules::links).unwrap_or_default();
    if let Some(link) = replaceable.into_iter().find(|link| roots.iter().any(|root| link.starts_with(root))) {
        let why = "is a link to the allow-file that the program could replace: keep the file, or the link, elsewhere";
        return Err(PieceError::Refused { path: link, why });
    }
    if let Some(rules) = rules
        && let Some(root) = roots.iter().filter(|root| rules.place().starts_with(root)).max()
    {
        guard::hold(root, rules.place(), &mut all);
    }
    let home = home(owner, &all);
    // Parents come before what lies in them: the order of paths is that of their parts.
    let pieces = all.into_iter().map(|(path, writable)| piece(path, writable)).collect::<Result<_, _>>()?;
    Ok(Chosen { workdir, home, pieces, watched })
}

/// Where a path leads, without any link.
fn real(path: &Path) -> Result<PathBuf, PieceError> {
    path.canonicalize().map_err(|error| PieceError::File { path: path.to_owned(), error })
}

fn piece(path: PathBuf, writable: bool) -> Result<Piece, PieceError> {
    match path.symlink_metadata() {
        Ok(found) => Ok(Piece { identity: (found.dev(), found.ino()), path, writable }),
        Err(error) => Err(PieceError::File { path, error }),
    }
}

fn check(path: &Path, owner: &Owner, writable: bool) -> Result<(), PieceError> {
    let refused = |why| Err(PieceError::Refused { path: path.to_owned(), why });
    if UNREAL.iter().any(|unreal| path.starts_with(unreal)) {
        return refused("is none of the files that a program can be given: it lies in /dev, /proc, /run or /sys");
    }
    if SYSTEM.iter().any(|system| path == Path::new(system)) {
        return refused("is a directory of the whole system: name the directory in it that is meant");
    }
    if owner.home.as_ref().is_some_and(|home| home.starts_with(path)) {
        return refused(
            "is the home directory, or holds it, with all that lies there: name the directory that is meant",
        );
    }
    if !writable {
        return Ok(());
    }
    if SHOWN.iter().chain(&["/boot"]).any(|shown| path.starts_with(shown) && !path.starts_with("/opt")) {
        return refused("belongs to the system, and can be read only");
    }
    if ours(owner).iter().any(|own| own.starts_with(path) || path.starts_with(own)) {
        return refused("has files of codesandbox itself in it, or is one of them");
    }
    Ok(())
}

/// Where configuration, sockets, locks and records of ours are.
fn ours(owner: &Owner) -> Vec<PathBuf> {
    let fixed = ["/etc/codesandbox", "/var/lib/codesandbox", "/var/cache/codesandbox"].map(PathBuf::from);
    let below_home = [".cache/codesandbox", ".local/state/codesandbox", ".config/codesandbox"];
    let own = owner.home.iter().flat_map(|home| below_home.map(|path| home.join(path)));
    let variables = ["CODESANDBOX_SOCKET", "XDG_RUNTIME_DIR"];
    let named = variables.iter().filter_map(std::env::var_os).filter(|value| !value.is_empty()).map(PathBuf::from);
    fixed.into_iter().chain(own).chain(named.filter_map(|path| path.canonicalize().ok())).collect()
}

/// Where the program has its home: where the caller has it, unless that would cover something.
fn home(owner: &Owner, chosen: &BTreeMap<PathBuf, bool>) -> PathBuf {
    let other = || PathBuf::from("/home/agent");
    let Some(home) = &owner.home else {
        return other();
    };
    let is_plain = home.is_absolute() && home.components().all(|part| !matches!(part, Component::ParentDir));
    let covers = |path: &Path| path.starts_with(home);
    let taken = SYSTEM.iter().filter(|path| **path != "/root").chain(&UNREAL).chain(&SHOWN).map(Path::new);
    let lies_within = |tree: &str| home.starts_with(tree);
    let is_free = !taken.into_iter().any(covers)
        && !UNREAL
            .iter()
            .chain(&SHOWN)
            .chain(&["/etc", "/tmp", "/workspace", "/runtime"])
            .any(|tree| lies_within(tree))
        && !chosen.keys().any(|path| home.starts_with(path));
    if is_plain && is_free { home.clone() } else { other() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(home: &Path) -> Owner {
        Owner { name: "somebody".to_owned(), home: Some(home.to_owned()) }
    }

    fn ground() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap();
        for name in ["home/project/src", "home/other", "shared"] {
            std::fs::create_dir_all(path.join(name)).unwrap();
        }
        (directory, path)
    }

    #[test]
    fn nobody_works_in_the_home_directory_or_above_it() {
        let (_kept, ground) = ground();
        let owner = owner(&ground.join("home"));
        for refused in ["home", "."] {
            let error = choose(&ground.join(refused), &[], &[], None, &owner).unwrap_err();
            assert!(error.to_string().contains("home directory"), "{error}");
        }
        assert!(choose(&ground.join("home/project"), &[], &[], None, &owner).is_ok());
        assert!(choose(&ground.join("shared"), &[], &[ground.join("home")], None, &owner).is_err());
    }

    #[test]
    fn directories_of_the_system_are_refused() {
        let owner = Owner { name: "somebody".to_owned(), home: None };
        for path in ["/", "/etc", "/usr", "/usr/share", "/tmp", "/proc/self", "/dev", "/sys", "/run"] {
            assert!(choose(Path::new(path), &[], &[], None, &owner).is_err(), "{path}");
        }
    }

    #[test]
    fn files_of_ours_are_refused() {
        let (_kept, ground) = ground();
        let owner = owner(&ground.join("home"));
        std::fs::create_dir_all(ground.join("home/.cache/codesandbox")).unwrap();
        let write = [ground.join("home/.cache")];
        let error = choose(&ground.join("shared"), &write, &[], None, &owner).unwrap_err();
        assert!(error.to_string().contains("codesandbox itself"), "{error}");
    }

    #[test]
    fn what_lies_in_another_comes_after_it() {
        let (_kept, ground) = ground();
        let (project, src) = (ground.join("home/project"), ground.join("home/project/src"));
        let chosen = choose(&project, &[], std::slice::from_ref(&src), None, &owner(&ground.join("home"))).unwrap();
        let order: Vec<_> = chosen.pieces.iter().map(|piece| (piece.path.clone(), piece.writable)).collect();
        assert_eq!(order, [(project.clone(), true), (src, false)]);
        assert!(chosen.shows(&project.join("x")) && chosen.shows(Path::new("/usr/bin/env")));
        assert!(!chosen.shows(&ground.join("home/other")));
        let both = choose(&project, &[], std::slice::from_ref(&project), None, &owner(&ground.join("home")));
        assert!(matches!(both, Err(PieceError::Twice(_))));
    }

    #[test]
    fn a_link_is_what_it_leads_to() {
        let (_kept, ground) = ground();
        std::os::unix::fs::symlink(ground.join("home"), ground.join("link")).unwrap();
        assert!(choose(&ground.join("link"), &[], &[], None, &owner(&ground.join("home"))).is_err());
    }
}
