//! Packages that a program needs, as people write them (`--python 'requests==2.*'`).

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::ValueHint;

use crate::api::dependencies::{Dependencies, NpmDependencies, NpmLock, PythonDependencies, PythonLock};

/// Most bytes of a lock file.
const LOCK_BYTES: u64 = 16 << 20;

/// Packages that a program needs; nothing is said where there are none.
#[derive(Debug, Clone, Default, clap::Args)]
pub(super) struct Packages {
    /// Install a package for Python, such as requests or "requests[socks]==2.*"
    #[arg(long, value_name = "REQUIREMENT")]
    python: Vec<String>,
    /// Install what a lock file for Python has: of "uv pip compile --generate-hashes"
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with = "python")]
    python_lock: Option<PathBuf>,
    /// Install a package for Node.js, such as lodash or @types/node@^20
    #[arg(long, value_name = "PACKAGE")]
    npm: Vec<String>,
    /// Install what package.json and package-lock.json in a directory have
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath, conflicts_with = "npm")]
    npm_lock: Option<PathBuf>,
}

/// A lock file that can't be sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum PackagesError {
    /// It can't be read, or is no text.
    #[error("{}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no lock file that anybody would write.
    #[error("{}: it is larger than {LOCK_BYTES} bytes", .0.display())]
    TooLarge(PathBuf),
}

impl Packages {
    /// The same as a request has it; none where nothing is said.
    pub(super) fn form(&self) -> Result<Option<Dependencies>, PackagesError> {
        let python = match &self.python_lock {
            Some(path) => Some(PythonDependencies::Locked(PythonLock { lock: read(path)? })),
            None => (!self.python.is_empty()).then(|| PythonDependencies::Listed(self.python.clone())),
        };
        let npm = match &self.npm_lock {
            Some(directory) => {
                let package = read(&directory.join("package.json"))?;
                Some(NpmDependencies::Locked(NpmLock { package, lock: read(&directory.join("package-lock.json"))? }))
            }
            None => (!self.npm.is_empty()).then(|| NpmDependencies::Listed(self.npm.clone())),
        };
        let is_empty = python.is_none() && npm.is_none();
        Ok((!is_empty).then_some(Dependencies { python, npm }))
    }
}

fn read(path: &Path) -> Result<String, PackagesError> {
    let failed = |error| PackagesError::Read { path: path.to_owned(), error };
    let mut text = String::new();
    File::open(path).and_then(|file| file.take(LOCK_BYTES + 1).read_to_string(&mut text)).map_err(failed)?;
    if text.len() as u64 > LOCK_BYTES {
        return Err(PackagesError::TooLarge(path.to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        packages: Packages,
    }

    fn form(arguments: &[&str]) -> Result<Option<Dependencies>, PackagesError> {
        Line::try_parse_from([&["run"], arguments].concat()).unwrap().packages.form()
    }

    #[test]
    fn packages_are_listed_or_locked() {
        assert_eq!(form(&[]).unwrap(), None);
        let listed = form(&["--python", "a==1", "--python", "b", "--npm", "@c/d@2"]).unwrap().unwrap();
        assert_eq!(listed.python, Some(PythonDependencies::Listed(vec!["a==1".into(), "b".into()])));
        assert_eq!(listed.npm, Some(NpmDependencies::Listed(vec!["@c/d@2".into()])));
        let directory = tempfile::tempdir().unwrap();
        for name in ["package.json", "package-lock.json"] {
            std::fs::write(directory.path().join(name), name).unwrap();
        }
        let locked = form(&["--npm-lock", directory.path().to_str().unwrap()]).unwrap().unwrap();
        let lock = NpmLock { package: "package.json".into(), lock: "package-lock.json".into() };
        assert_eq!(locked.npm, Some(NpmDependencies::Locked(lock)));
        assert!(form(&["--python-lock", "/nowhere"]).is_err());
        assert!(Line::try_parse_from(["run", "--python", "a", "--python-lock", "b"]).is_err());
    }
}
