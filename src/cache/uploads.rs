//! Files that clients have uploaded, to be named in later requests by what is in them.
//!
//! ```text
//!  uploads/          mode 0700, made by us
//!    5d41…/          a client: SHA-256 of its name
//!      2cf2…         a file: SHA-256 of its bytes; its time of change is when it was used last
//! ```
//!
//! A name is good for the client alone that has uploaded the bytes: who could use others' would learn which files
//! they have. Nothing is known but what is on disk, so processes may share the directory. Everything here blocks.

use std::fmt;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use data_encoding::HEXLOWER;
use nix::dir::Dir;
use nix::errno::Errno as Number;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, SFlag, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use sha2::{Digest, Sha256};

use super::store::{StoreError, UNFINISHED, open_private, private, write_all};
use crate::config::Config;
use crate::sys::{Call, Errno, Result, fs};

/// Most files of one client.
const FILES: usize = 4_096;
/// What a file takes of a disk at least.
const BLOCK_BYTES: u64 = 4_096;
/// Largest file that is read: no request may be larger.
const FILE_BYTES: usize = 1 << 30;
/// What is read at one time to be looked at.
const PIECE_BYTES: usize = 64 << 10;
/// How a file's name begins in requests and answers.
const PREFIX: &str = "sha256-";
/// How old a half-written file is that a crash has left.
const ABANDONED: Duration = Duration::from_secs(3600);

/// Handle of the store; clones share it.
#[derive(Debug, Clone)]
pub struct Uploads {
    shared: Arc<Mutex<Settings>>,
    /// One file is written at a time, so that bounds hold.
    writing: Arc<Mutex<()>>,
}

#[derive(Debug, Clone)]
struct Settings {
    directory: Option<PathBuf>,
    bytes: u64,
    bytes_per_client: u64,
    keep: Duration,
}

/// What names a file: SHA-256 of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileId([u8; 32]);

/// A file that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upload {
    /// Its name.
    pub id: FileId,
    /// Its size.
    pub bytes: u64,
    /// When it was used last, in milliseconds since 1970.
    pub used_unix_ms: u64,
}

/// A file of a client's, opened.
#[derive(Debug)]
pub struct Found {
    directory: OwnedFd,
    path: PathBuf,
    file: File,
    id: FileId,
    bytes: u64,
}

/// Why a file can't be kept or found.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// There is none of this name.
    #[error("there is no such file")]
    Unknown,
    /// The client has as much as it may.
    #[error("the client's files take as much as they may")]
    ClientFull {
        /// How many bytes that is.
        most: u64,
    },
    /// All clients together have as much as they may.
    #[error("all files take as much as they may")]
    Full {
        /// How many bytes that is.
        most: u64,
    },
    /// The client has as many as it may.
    #[error("the client has as many files as it may")]
    TooMany {
        /// How many.
        most: usize,
    },
    /// They are not kept here.
    #[error("no files are kept here")]
    Off,
    /// The system failed us; the text is for the journal.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for UploadError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<Errno> for UploadError {
    fn from(error: Errno) -> Self {
        Self::Failed(error.to_string())
    }
}

impl FileId {
    /// The name of these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    fn hex(&self) -> String {
        HEXLOWER.encode(&self.0)
    }
}

impl fmt::Display for FileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.hex())
    }
}

impl FromStr for FileId {
    type Err = UploadError;

    fn from_str(text: &str) -> std::result::Result<Self, UploadError> {
        let digits = text.strip_prefix(PREFIX).ok_or(UploadError::Unknown)?;
        let bytes = HEXLOWER.decode(digits.as_bytes()).map_err(|_| UploadError::Unknown)?;
        bytes.try_into().map(Self).map_err(|_| UploadError::Unknown)
    }
}

impl Uploads {
    /// The store that the configuration asks for, and the environment of this process. Nothing is opened before it
    /// is used.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        Self { shared: Arc::new(Mutex::new(Settings::of(config))), writing: Arc::default() }
    }

    /// Goes by another configuration from now on.
    pub fn configure(&self, config: &Config) {
        *locked(&self.shared) = Settings::of(config);
    }

    fn open(&self) -> std::result::Result<(Settings, OwnedFd), UploadError> {
        let settings = locked(&self.shared).clone();
        let directory = settings.directory.as_deref().ok_or(UploadError::Off)?;
        let opened = open_private(directory, "uploads")?;
        Ok((settings, opened))
    }

    /// Keeps a client's file; says whether it was there already.
    ///
    /// # Errors
    /// It would be too much.
    pub fn put(&self, client: &str, bytes: &[u8]) -> std::result::Result<(FileId, bool), UploadError> {
        let (settings, directory) = self.open()?;
        let _turn = locked(&self.writing);
        let id = FileId::of(bytes);
        if self.find(client, &id).and_then(Found::verified).is_ok() {
            return Ok((id, true));
        }
        let others = clean(&directory, settings.keep)?;
        let name = name_of(client);
        let own = others.iter().find(|(other, _)| *other == name).map_or(&[][..], |(_, files)| files);
        let sum = |files: &[Upload]| files.iter().map(|file| cost(file.bytes)).sum::<u64>();
        let more = cost(bytes.len() as u64);
        if own.len() >= FILES {
            return Err(UploadError::TooMany { most: FILES });
        }
        if sum(own) + more > settings.bytes_per_client {
            return Err(UploadError::ClientFull { most: settings.bytes_per_client });
        }
        if others.iter().map(|(_, files)| sum(files)).sum::<u64>() + more > settings.bytes {
            return Err(UploadError::Full { most: settings.bytes });
        }
        match mkdirat(&directory, name.as_str(), private()) {
            Ok(()) | Err(Number::EEXIST) => {}
            Err(errno) => return Err(Errno { call: "mkdirat", errno }.into()),
        }
        let inside = enter(&directory, &name)?;
        let unfinished = format!("{UNFINISHED}{}", uuid::Uuid::new_v4());
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        let file = File::from(fs::open_beneath(inside.as_fd(), Path::new(&unfinished), flags, mode)?);
        let written = write_all(file, bytes)
            .and_then(|_lock| renameat(&inside, unfinished.as_str(), &inside, id.hex().as_str()).call("renameat"));
        if written.is_err() {
            // Where not even this works, a later upload does it.
            unlinkat(&inside, unfinished.as_str(), UnlinkatFlags::NoRemoveDir).ok();
        }
        written?;
        Ok((id, false))
    }

    /// A client's file, of which nothing has been read.
    ///
    /// # Errors
    /// [`UploadError::Unknown`].
    pub fn find(&self, client: &str, id: &FileId) -> std::result::Result<Found, UploadError> {
        let (_, directory) = self.open()?;
        let path = Path::new(&name_of(client)).join(id.hex());
        let opened = fs::open_beneath(directory.as_fd(), &path, OFlag::O_RDONLY | OFlag::O_NONBLOCK, Mode::empty());
        let file = File::from(opened.map_err(unknown)?);
        let bytes = file.metadata().map_err(|error| UploadError::Failed(error.to_string()))?.len();
        Ok(Found { directory, path, file, id: *id, bytes })
    }

    /// Removes a client's file.
    ///
    /// # Errors
    /// [`UploadError::Unknown`].
    pub fn remove(&self, client: &str, id: &FileId) -> std::result::Result<(), UploadError> {
        let (_, directory) = self.open()?;
        remove(&directory, &Path::new(&name_of(client)).join(id.hex())).map_err(unknown)
    }

    /// A client's files, by their names.
    ///
    /// # Errors
    /// The system's.
    pub fn list(&self, client: &str) -> std::result::Result<Vec<Upload>, UploadError> {
        let (settings, directory) = self.open()?;
        // Else a directory could go in which another is about to write its first file.
        let _turn = locked(&self.writing);
        let all = clean(&directory, settings.keep)?;
        let name = name_of(client);
        let mut own = all.into_iter().find(|(other, _)| *other == name).map(|(_, files)| files).unwrap_or_default();
        own.sort_unstable_by_key(|file| file.id);
        Ok(own)
    }
}

impl Found {
    /// Its size.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All of it; it counts as used.
    ///
    /// # Errors
    /// [`UploadError::Unknown`] where it is not what was kept.
    pub fn read(self) -> std::result::Result<Vec<u8>, UploadError> {
        let most = usize::try_from(self.bytes).unwrap_or(FILE_BYTES).min(FILE_BYTES);
        let bytes = fs::read_whole(self.file.as_fd(), most)?;
        self.is(FileId::of(&bytes))?;
        Ok(bytes)
    }

    /// It, from its first byte, when all of it was looked at; it counts as used.
    ///
    /// # Errors
    /// As [`Found::read`].
    pub fn verified(mut self) -> std::result::Result<File, UploadError> {
        let failed = |error: std::io::Error| UploadError::Failed(error.to_string());
        let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
        loop {
            match self.file.read(&mut piece).map_err(failed)? {
                0 => break,
                count => hash.update(piece.get(..count).unwrap_or_default()),
            }
        }
        self.is(FileId(hash.finalize().into()))?;
        self.file.rewind().map_err(failed)?;
        Ok(self.file)
    }

    fn is(&self, id: FileId) -> std::result::Result<(), UploadError> {
        if id != self.id {
            // A disk has forgotten something; what is named is not there any more.
            remove(&self.directory, &self.path)?;
            return Err(UploadError::Unknown);
        }
        // On a file system that can't be written to, nothing goes for its age either.
        self.file.set_modified(SystemTime::now()).ok();
        Ok(())
    }
}

impl Settings {
    fn of(config: &Config) -> Self {
        let service = &config.service;
        let base = || config.cache.base(&|name| std::env::var_os(name));
        Self {
            directory: (service.uploads_bytes > 0).then(base).flatten(),
            bytes: service.uploads_bytes,
            bytes_per_client: service.uploads_bytes_per_client,
            keep: Duration::from_millis(service.uploads_keep_ms),
        }
    }
}

/// What a file of this size counts.
fn cost(bytes: u64) -> u64 {
    bytes.next_multiple_of(BLOCK_BYTES).max(BLOCK_BYTES)
}

/// The name of a client's directory: whatever it is called, this is a name.
fn name_of(client: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(client.as_bytes()))
}

fn unknown(error: Errno) -> UploadError {
    match error.errno {
        // Whatever else is there is none of ours.
        Number::ENOENT | Number::ELOOP | Number::ENXIO => UploadError::Unknown,
        _ => error.into(),
    }
}

fn enter(directory: &OwnedFd, name: &str) -> Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY;
    fs::open_beneath(directory.as_fd(), Path::new(name), flags, Mode::empty())
}

fn remove(directory: &OwnedFd, path: &Path) -> Result<()> {
    unlinkat(directory, path, UnlinkatFlags::NoRemoveDir).call("unlinkat")
}

/// Removes what nobody has used for so long, and returns all others, by their clients' directories.
fn clean(directory: &OwnedFd, keep: Duration) -> Result<Vec<(String, Vec<Upload>)>> {
    let now = SystemTime::now();
    let mut all = Vec::new();
    for client in names(directory)? {
        let Ok(inside) = enter(directory, &client) else { continue };
        let mut files = Vec::new();
        for name in names(&inside)? {
            let Ok(found) = fstatat(&inside, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) else { continue };
            let used_unix_ms = u64::try_from(found.st_mtime).unwrap_or(0).saturating_mul(1000);
            let age = now.duration_since(UNIX_EPOCH + Duration::from_millis(used_unix_ms)).unwrap_or_default();
            let id = format!("{PREFIX}{name}").parse::<FileId>();
            let is_file = SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) == SFlag::S_IFREG;
            match id {
                Ok(id) if is_file && age <= keep => {
                    files.push(Upload { id, bytes: found.st_size.cast_unsigned(), used_unix_ms });
                }
                Ok(_) => remove(&inside, Path::new(&name))?,
                Err(_) if name.starts_with(UNFINISHED) && age > ABANDONED => remove(&inside, Path::new(&name))?,
                Err(_) => {}
            }
        }
        if files.is_empty() {
            // It is not empty where a file is being written; then it stays.
            unlinkat(directory, client.as_str(), UnlinkatFlags::RemoveDir).ok();
        }
        all.push((client, files));
    }
    Ok(all)
}

/// The names in a directory.
fn names(directory: &OwnedFd) -> Result<Vec<String>> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let listed = Dir::openat(directory, ".", flags, Mode::empty()).call("openat")?;
    let mut names = Vec::new();
    for entry in listed {
        let entry = entry.call("getdents64")?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under these locks can panic half-way; a poisoned one is as good as any.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store(changes: &str) -> (tempfile::TempDir, Uploads) {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("cache");
        let config = format!(r#"{{"cache": {{"directory": {directory:?}, "bytes": 0}}, "service": {{{changes}}}}}"#);
        let uploads = Uploads::new(&Config::parse(&config).unwrap());
        (place, uploads)
    }

    fn get(uploads: &Uploads, client: &str, id: &FileId) -> std::result::Result<Vec<u8>, UploadError> {
        let streamed =
            uploads.find(client, id).and_then(Found::verified).map(|file| std::io::read_to_string(file).unwrap());
        // What is not what was kept is gone when that was seen.
        let whole = uploads.find(client, id).and_then(Found::read);
        assert_eq!(streamed.ok().map(String::into_bytes), whole.as_ref().ok().cloned());
        whole
    }

    #[test]
    fn a_file_is_found_by_its_bytes_and_by_its_client_alone() {
        let (_place, uploads) = store("");
        let (id, was_there) = uploads.put("alice", b"input").unwrap();
        assert_eq!((id, was_there), (FileId::of(b"input"), false));
        assert_eq!(uploads.put("alice", b"input").unwrap(), (id, true));
        assert_eq!(get(&uploads, "alice", &id).unwrap(), b"input");
        assert!(matches!(get(&uploads, "bob", &id), Err(UploadError::Unknown)));
        assert!(matches!(uploads.remove("bob", &id), Err(UploadError::Unknown)));
        assert_eq!((uploads.list("alice").unwrap().len(), uploads.list("bob").unwrap().len()), (1, 0));
        uploads.remove("alice", &id).unwrap();
        assert!(matches!(get(&uploads, "alice", &id), Err(UploadError::Unknown)));
    }

    #[test]
    fn names_are_written_in_one_way() {
        let id = FileId::of(b"");
        assert_eq!(id.to_string().parse::<FileId>().unwrap(), id);
        let text = id.to_string();
        for wrong in
            ["", "sha256-", &text[7..], &text.to_uppercase(), &text[..70], "sha256-../../x", &format!("{text}0")]
        {
            assert!(wrong.parse::<FileId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn bounds_hold_for_each_client_and_for_all() {
        let (_place, uploads) = store(r#""uploads_bytes": 12288, "uploads_bytes_per_client": 8192"#);
        uploads.put("alice", b"1").unwrap();
        uploads.put("alice", b"2").unwrap();
        assert!(matches!(uploads.put("alice", b"3"), Err(UploadError::ClientFull { most: 8192 })));
        assert!(uploads.put("alice", b"1").unwrap().1, "what is there takes no more");
        uploads.put("bob", b"1").unwrap();
        assert!(matches!(uploads.put("bob", b"2"), Err(UploadError::Full { most: 12288 })));
        uploads.remove("alice", &FileId::of(b"1")).unwrap();
        uploads.put("bob", b"2").unwrap();
    }

    #[test]
    fn what_nobody_uses_goes() {
        let (place, uploads) = store(r#""uploads_keep_ms": 60000"#);
        let (old, _) = uploads.put("alice", b"old").unwrap();
        let (new, _) = uploads.put("alice", b"new").unwrap();
        let path = place.path().join("cache/uploads").join(name_of("alice")).join(old.hex());
        let hour_ago = SystemTime::now() - Duration::from_secs(3600);
        File::options().write(true).open(path).unwrap().set_modified(hour_ago).unwrap();
        assert_eq!(uploads.list("alice").unwrap().iter().map(|file| file.id).collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn bytes_that_have_changed_are_not_handed_out() {
        let (place, uploads) = store("");
        let (id, _) = uploads.put("alice", b"input").unwrap();
        let path = place.path().join("cache/uploads").join(name_of("alice")).join(id.hex());
        std::fs::write(&path, b"other").unwrap();
        assert!(matches!(get(&uploads, "alice", &id), Err(UploadError::Unknown)));
        assert!(!path.exists());
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(matches!(get(&uploads, "alice", &id), Err(UploadError::Unknown)));
    }

    #[test]
    fn no_bytes_are_no_files() {
        let (_place, uploads) = store(r#""uploads_bytes": 0"#);
        assert!(matches!(uploads.put("alice", b"1"), Err(UploadError::Off)));
    }
}
