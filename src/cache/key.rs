//! The key of a result: a hash over all that decides what a compile stage makes.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::job::Toolchain;
use crate::plan::ArchivedFile;
use crate::profile::{Limits, Policy};
use crate::sys::{self, fs};

/// Changes with every change of what is hashed, or how.
const ENCODING: u64 = 2;
/// Files that package managers replace with every change: a header or a library that is upgraded
/// in place is seen by these, where a compiler's own files stay as they are.
const PACKAGE_DATABASES: [&str; 4] =
    ["var/lib/dpkg/status", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite", "lib/apk/db/installed"];

/// Names a result by all that it depends on.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key([u8; Self::BYTES]);

impl Key {
    /// Length of a key.
    pub const BYTES: usize = 32;

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::BYTES] {
        &self.0
    }

    /// Its first byte, by which entries are divided among directories.
    #[must_use]
    pub fn first(&self) -> u8 {
        self.0[0]
    }

    /// The key of these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        Self(bytes)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// All that decides what a compile stage makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingredients<'a> {
    /// Whose result it is; `None` where it is everybody's.
    pub client: Option<&'a str>,
    /// Id of the runtime.
    pub runtime: &'a str,
    /// Paths of its closure.
    pub closure: &'a [PathBuf],
    /// Its files that can be replaced, as they are now.
    pub stamps: &'a [Stamp],
    /// Arguments of the compiler, the program first.
    pub argv: &'a [String],
    /// Its environment.
    pub env: &'a BTreeMap<String, String>,
    /// All files of the job.
    pub files: &'a [ArchivedFile],
    /// Name of the profile.
    pub profile: &'a str,
    /// What the profile says besides limits.
    pub policy: &'a Policy,
    /// Limits of the compile stage.
    pub limits: &'a Limits,
    /// Size of the sandbox's disk, in bytes and in files: it may be larger than the stage's own limit.
    pub disk: (u64, u64),
    /// What else bounds an installer's result: files and bytes of it, and the span of time for which it holds,
    /// counted from 0. Nothing of a compile stage.
    pub bounds: &'a [u64],
}

impl Ingredients<'_> {
    /// The key of what is made of these.
    #[must_use]
    pub fn key(&self) -> Key {
        let mut hash = Encoder(Sha256::new());
        hash.number(ENCODING);
        // The filter and the steps of a sandbox come with the program.
        hash.bytes(env!("CARGO_PKG_VERSION").as_bytes());
        hash.number(u64::from(self.client.is_some()));
        hash.bytes(self.client.unwrap_or_default().as_bytes());
        hash.bytes(self.runtime.as_bytes());
        hash.list(self.closure, |hash, path| hash.bytes(path.as_os_str().as_bytes()));
        hash.list(self.stamps, |hash, stamp| {
            hash.bytes(stamp.path.as_os_str().as_bytes());
            for number in [stamp.size, stamp.modified.0, stamp.modified.1, stamp.inode] {
                hash.number(number);
            }
        });
        hash.list(self.argv, |hash, word| hash.bytes(word.as_bytes()));
        hash.list(self.env, |hash, (name, value)| {
            hash.bytes(name.as_bytes());
            hash.bytes(value.as_bytes());
        });
        hash.list(self.files, |hash, file| {
            hash.bytes(file.path.as_bytes());
            hash.number(u64::from(file.executable));
            hash.bytes(&file.content);
        });
        hash.bytes(self.profile.as_bytes());
        hash.value(self.policy);
        hash.list(Limits::FIELDS, |hash, name| hash.bytes(name.as_bytes()));
        hash.value(self.limits);
        hash.number(self.disk.0);
        hash.number(self.disk.1);
        hash.list(self.bounds, |hash, bound| hash.number(*bound));
        Key(hash.0.finalize().into())
    }
}

/// Writes parts one behind the other so that no two different sequences of them are the same bytes:
/// numbers have eight bytes, everything else has its length before it.
struct Encoder(Sha256);

impl Encoder {
    fn number(&mut self, number: u64) {
        self.0.update(number.to_le_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }

    fn list<I: IntoIterator<IntoIter: ExactSizeIterator>>(
        &mut self,
        items: I,
        mut one: impl FnMut(&mut Self, I::Item),
    ) {
        let items = items.into_iter();
        self.number(items.len() as u64);
        for item in items {
            one(self, item);
        }
    }

    fn value(&mut self, value: &impl serde::Serialize) {
        let bytes = postcard::to_allocvec(value).expect("plain data can be written to memory");
        self.bytes(&bytes);
    }
}

/// A file that can be replaced, as it was when it was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Its path below the root.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: u64,
    /// When it was changed last: seconds and nanoseconds.
    pub modified: (u64, u64),
    /// Its inode.
    pub inode: u64,
}

/// Looks at all files of a toolchain that can be replaced.
///
/// # Errors
/// One of them is not there, so that nothing tells this state of it from the next.
pub fn stamps(toolchain: &Toolchain) -> sys::Result<Vec<Stamp>> {
    if toolchain.replaced.is_empty() {
        return Ok(Vec::new());
    }
    let root = fs::open_directory(&toolchain.root)?;
    let stamp = |path: &Path| {
        let found = fs::status_inside(&root, path)?;
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        let modified = (number(found.st_mtime), number(found.st_mtime_nsec));
        Ok(Stamp { path: path.to_owned(), size: number(found.st_size), modified, inode: found.st_ino })
    };
    let own = toolchain.replaced.iter().map(|path| stamp(path));
    // Most hosts lack most of these.
    let packages = PACKAGE_DATABASES.iter().filter_map(|path| stamp(Path::new(path)).ok()).map(Ok);
    own.chain(packages).collect()
}

#[cfg(test)]
mod tests;
