//! Directories of the host itself that one sandbox is given, to work on as they are.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What a sandbox sees of whoever started it, besides the system's own directories.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Real {
    /// Name of its user, as programs look it up.
    pub user: String,
    /// Where its user has an empty directory, which is gone with the sandbox.
    pub home: PathBuf,
    /// Size of that one, `/tmp` and `/dev/shm` together, in bytes.
    pub scratch_bytes: u64,
    /// Number of files in them.
    pub scratch_files: u64,
    /// In this order: a later one covers what it lies in.
    pub pieces: Vec<Piece>,
}

/// A file or directory that stands inside where it stands outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where: absolute, and without links.
    pub path: PathBuf,
    /// Device and inode that were found there: another thing in the same place is not what was chosen.
    pub identity: (u64, u64),
    /// Whether programs may change it.
    pub writable: bool,
}

impl Real {
    /// Where programs may write.
    #[must_use]
    pub fn writable(&self) -> Vec<PathBuf> {
        let own = [self.home.clone(), "/tmp".into(), "/dev/shm".into()];
        let pieces = self.pieces.iter().filter(|piece| piece.writable).map(|piece| piece.path.clone());
        own.into_iter().chain(pieces).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_only_shown_is_not_writable() {
        let piece = |path: &str, writable| Piece { path: path.into(), identity: (1, 2), writable };
        let pieces = vec![piece("/srv/a", true), piece("/srv/a/.git/hooks", false)];
        let real = Real { user: "u".to_owned(), home: "/home/u".into(), scratch_bytes: 1, scratch_files: 1, pieces };
        let expected: Vec<PathBuf> = ["/home/u", "/tmp", "/dev/shm", "/srv/a"].map(PathBuf::from).into();
        assert_eq!(real.writable(), expected);
    }
}
