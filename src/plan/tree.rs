//! A tree of files as data: what an installer left behind, on its way from the sandbox that made it to those
//! that see it read-only.
//!
//! It is what init writes where [`super::Wanted::tree`] names a directory: each part behind a [`Found`] with its
//! length before it, and [`Found::End`] behind the last. Nobody takes it for a tree before [`parts`] has read it
//! to that end: every path stays below the top, every link leads to somewhere below it, and there is nothing but
//! files, directories and links.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{FilePath, Found, Omission};

/// Longest text of a link, in bytes.
pub const LINK_BYTES: usize = 1024;
/// What a part takes in this form at most, besides its content and its path.
pub const PART_BYTES: u64 = 64;

/// What packages are for, and what installs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ecosystem {
    /// Python, by `uv`.
    Python,
    /// Node.js, by `npm`.
    Npm,
}

impl Ecosystem {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Python, Self::Npm];

    /// Its name in requests and in the configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::Npm => "npm",
        }
    }

    /// Where programs see what was installed.
    #[must_use]
    pub fn place(self) -> &'static str {
        match self {
            Self::Python => "/dependencies/python",
            // Node.js looks into this directory of every directory above the program's, the root included.
            Self::Npm => "/node_modules",
        }
    }

    /// Where what can be executed of it lies.
    #[must_use]
    pub fn programs(self) -> &'static str {
        match self {
            Self::Python => "/dependencies/python/bin",
            Self::Npm => "/node_modules/.bin",
        }
    }
}

/// Names a tree by all that it was made of.
pub type TreeKey = [u8; 32];

/// A tree, and where a sandbox sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TreeAt {
    /// What it is for.
    pub ecosystem: Ecosystem,
    /// Which.
    pub key: TreeKey,
}

/// A part of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part<'a> {
    /// A directory that has nothing in it.
    Directory(FilePath),
    /// A file.
    File {
        /// Where.
        path: FilePath,
        /// Its bytes.
        content: &'a [u8],
        /// Whether it may be executed.
        executable: bool,
    },
    /// A symbolic link.
    Link {
        /// Where.
        path: FilePath,
        /// What it says.
        target: Vec<u8>,
    },
}

impl Part<'_> {
    fn path(&self) -> &FilePath {
        match self {
            Self::Directory(path) | Self::File { path, .. } | Self::Link { path, .. } => path,
        }
    }
}

/// Why something is no tree.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTree {
    /// Whoever wrote it is not ours, or did not come to the end.
    #[error("it is not complete")]
    Malformed,
    /// A name that could not be made again.
    #[error("{0}: a path that is too long, too deep or not plain")]
    Path(String),
    /// It leads out.
    #[error("{0}: a link that leads out of what was installed")]
    Link(String),
    /// Two parts have the same name.
    #[error("{0}: there twice")]
    Twice(String),
    /// Something in it was left out.
    #[error("{path}: {}", describe(*reason))]
    Omitted {
        /// Which.
        path: String,
        /// Why.
        reason: Omission,
    },
}

fn describe(reason: Omission) -> &'static str {
    match reason {
        Omission::NotRegular => "neither a file nor a directory nor a link",
        Omission::TooLarge => "more bytes than may be installed",
        Omission::TooMany => "more files than may be installed",
        Omission::TooDeep => "it lies too deep",
        Omission::TooLate => "there is more than could be read in time",
        Omission::Unreadable => "it can't be read",
        Omission::EmptyDirectory => "it has nothing in it",
    }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().filter(|c| !c.is_control()).take(256).collect()
}

/// All parts of a tree.
///
/// # Errors
/// The first thing about it that is not as it should be.
pub fn parts(mut bytes: &[u8]) -> Result<Vec<Part<'_>>, NoTree> {
    let (mut parts, mut names) = (Vec::new(), HashSet::new());
    loop {
        let (length, rest) = bytes.split_first_chunk::<4>().ok_or(NoTree::Malformed)?;
        let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| NoTree::Malformed)?;
        let (header, rest) = rest.split_at_checked(length).ok_or(NoTree::Malformed)?;
        bytes = rest;
        let part = match postcard::from_bytes(header).map_err(|_| NoTree::Malformed)? {
            Found::End if bytes.is_empty() => return Ok(parts),
            Found::End => return Err(NoTree::Malformed),
            Found::Omitted { path, reason } => return Err(NoTree::Omitted { path: shown(&path), reason }),
            Found::Directory { path } => Part::Directory(plain(path)?),
            Found::Link { path, target } => {
                let path = plain(path)?;
                if !stays_inside(&path, &target) {
                    return Err(NoTree::Link(shown(path.as_bytes())));
                }
                Part::Link { path, target }
            }
            Found::File { path, size, executable } => {
                let size = usize::try_from(size).map_err(|_| NoTree::Malformed)?;
                let (content, rest) = bytes.split_at_checked(size).ok_or(NoTree::Malformed)?;
                bytes = rest;
                Part::File { path: plain(path)?, content, executable }
            }
        };
        if !names.insert(part.path().clone()) {
            return Err(NoTree::Twice(shown(part.path().as_bytes())));
        }
        parts.push(part);
    }
}

fn plain(path: Vec<u8>) -> Result<FilePath, NoTree> {
    let text = shown(&path);
    FilePath::try_from(path).map_err(|_| NoTree::Path(text))
}

/// Whether a link leads to somewhere below the top, by its text: what other links make of that is for whoever
/// follows it, in whose sandbox there is nothing that it does not see anyway.
fn stays_inside(path: &FilePath, target: &[u8]) -> bool {
    if target.is_empty() || target.len() > LINK_BYTES || target.starts_with(b"/") || target.contains(&0) {
        return false;
    }
    let mut depth = path.as_bytes().iter().filter(|byte| **byte == b'/').count();
    for part in target.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return false,
            },
            _ => depth += 1,
        }
    }
    true
}

/// Directories that a jail has for trees, and mounts them on.
#[must_use]
pub fn places() -> Vec<PathBuf> {
    Ecosystem::ALL.into_iter().map(|ecosystem| ecosystem.place().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(found: &[(Found, &[u8])]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (found, content) in found {
            let header = postcard::to_allocvec(found).unwrap();
            bytes.extend(u32::try_from(header.len()).unwrap().to_le_bytes());
            bytes.extend(header);
            bytes.extend(*content);
        }
        bytes
    }

    fn file(path: &str, size: u64) -> Found {
        Found::File { path: path.into(), size, executable: true }
    }

    fn link(path: &str, target: &str) -> Found {
        Found::Link { path: path.into(), target: target.into() }
    }

    #[test]
    fn parts_come_out_as_they_were_found() {
        let bytes = written(&[
            (file("a/b", 2), b"\0\xff"),
            (Found::Directory { path: b"d".to_vec() }, b""),
            (link("a/c", "../d"), b""),
            (Found::End, b""),
        ]);
        let path = |text: &str| FilePath::try_from(text.as_bytes().to_vec()).unwrap();
        assert_eq!(
            parts(&bytes).unwrap(),
            [
                Part::File { path: path("a/b"), content: b"\0\xff", executable: true },
                Part::Directory(path("d")),
                Part::Link { path: path("a/c"), target: b"../d".to_vec() },
            ]
        );
    }

    #[test]
    fn links_that_lead_out_are_refused() {
        for (path, target) in [
            ("a", "/etc/passwd"),
            ("a", ".."),
            ("a/b", "../../c"),
            ("a/b", "./../x/../../y"),
            ("a", ""),
            ("a", "b\0"),
            ("a", &"x".repeat(LINK_BYTES + 1)),
        ] {
            let bytes = written(&[(link(path, target), b""), (Found::End, b"")]);
            assert_eq!(parts(&bytes), Err(NoTree::Link(path.to_owned())), "{target}");
        }
        for (path, target) in [("a", "b"), ("a/b", "../c"), (".bin/x", "../x/cli.js"), ("a", ".")] {
            assert_eq!(parts(&written(&[(link(path, target), b""), (Found::End, b"")])).unwrap().len(), 1, "{target}");
        }
    }

    #[test]
    fn what_is_no_whole_tree_is_refused() {
        for path in ["../a", "/a", "a//b", "", "a/./b", &"d/".repeat(40)] {
            let bytes = written(&[(file(path, 0), b""), (Found::End, b"")]);
            assert!(matches!(parts(&bytes), Err(NoTree::Path(_))), "{path}");
        }
        let whole = written(&[(file("a", 3), b"abc"), (Found::End, b"")]);
        for length in 0..whole.len() {
            assert_eq!(parts(&whole[..length]), Err(NoTree::Malformed), "{length}");
        }
        assert_eq!(parts(&[whole.as_slice(), b"x"].concat()), Err(NoTree::Malformed));
        let twice = written(&[(file("a", 0), b""), (link("a", "b"), b""), (Found::End, b"")]);
        assert_eq!(parts(&twice), Err(NoTree::Twice("a".to_owned())));
        let omitted = Found::Omitted { path: b"a".to_vec(), reason: Omission::TooLarge };
        assert!(matches!(parts(&written(&[(omitted, b""), (Found::End, b"")])), Err(NoTree::Omitted { .. })));
    }

    proptest::proptest! {
        #[test]
        fn bytes_of_any_kind_end_in_an_answer(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..512)) {
            drop(parts(&bytes));
        }
    }
}
