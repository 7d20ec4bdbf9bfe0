//! Unpacking an archive that a sandbox made: hostile input. Nothing is written outside the directory,
//! through a link, or as anything but a plain file, a directory, or a link that stays inside.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno as Number;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType, PaxExtensions};

use crate::sys::fs::open_beneath;
use crate::sys::{Call, Errno};

/// Most entries of an archive.
const ENTRIES: usize = 2_000_000;
/// Most bytes of a header that belongs to the entry behind it: a long name, or a few attributes.
const EXTENSION: u64 = 64 << 10;
/// Most parts of a path.
const DEPTH: usize = 256;
/// Most links: they are made last, so they wait in memory.
const LINKS: usize = 100_000;
/// Most entries that are told of one by one.
const TOLD: usize = 20;

/// Why an entry is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Omitted {
    #[error("its name leads out of the directory")]
    Name,
    #[error("the way to it goes through a link or another file system")]
    Link,
    #[error("it is a link that leads out of the directory")]
    Outside,
    #[error("it is neither a file, nor a directory, nor a symbolic link")]
    Kind,
    #[error("a directory, or something else that can't be replaced, is there already")]
    Exists,
    #[error(transparent)]
    System(#[from] Errno),
}

/// What became of an archive.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Extracted {
    /// Entries that were left out, each with the reason; the first few.
    pub(super) omitted: Vec<String>,
    /// How many more.
    pub(super) more: usize,
}

impl Extracted {
    fn omit(&mut self, path: &[u8], why: Omitted) {
        if self.omitted.len() < TOLD {
            self.omitted
                .push(format!("{} is left out: {why}", crate::cli::text::harmless(&String::from_utf8_lossy(path))));
        } else {
            self.more += 1;
        }
    }
}

/// Unpacks an archive into a directory that exists.
///
/// # Errors
/// The directory can't be opened, the archive is broken or too large, or the disk is full. What was
/// unpacked until then stays.
pub(super) fn extract(archive: impl Read, directory: &Path) -> io::Result<Extracted> {
    let root: OwnedFd = File::open(directory)?.into();
    let mut extracted = Extracted::default();
    let mut links: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    let mut archive = Archive::new(archive);
    let mut pending = Extensions::default();
    // Raw: the crate would read names of any length into memory.
    for (number, entry) in archive.entries()?.raw(true).enumerate() {
        let mut entry = entry?;
        if number >= ENTRIES {
            return Err(broken(format!("more than {ENTRIES} entries")));
        }
        if pending.take(&mut entry)? {
            continue;
        }
        let known = std::mem::take(&mut pending);
        if known.size.is_some_and(|size| size != entry.size()) {
            return Err(broken("an entry of more than 8 GiB".to_owned()));
        }
        let path = known.path.unwrap_or_else(|| entry.path_bytes().into_owned());
        let kind = entry.header().entry_type();
        let done = match kind {
            EntryType::Directory => parts(&path).and_then(|parts| descend(&root, &parts).map(drop)),
            EntryType::Regular | EntryType::Continuous => match create(&root, &path, &entry) {
                Ok(mut file) => {
                    io::copy(&mut entry, &mut file)?;
                    Ok(())
                }
                Err(why) => Err(why),
            },
            EntryType::Symlink if links.len() < LINKS => {
                let target = known.link.or_else(|| entry.link_name_bytes().map(|name| name.into_owned()));
                links.push((path.clone(), target.unwrap_or_default()));
                Ok(())
            }
            _ => Err(Omitted::Kind),
        };
        match done {
            Err(Omitted::System(Errno { errno: errno @ (Number::ENOSPC | Number::EDQUOT | Number::EIO), .. })) => {
                return Err(errno.into());
            }
            Err(why) => extracted.omit(&path, why),
            Ok(()) => {}
        }
    }
    // Last, so that no file of the archive can have one of them on its way.
    for (path, target) in &links {
        if let Err(why) = link(&root, path, target) {
            extracted.omit(path, why);
        }
    }
    // All together again: each may lead to the next.
    for (path, _) in &links {
        if leads_outside(&root, path) {
            remove_link(&root, path).ok();
            extracted.omit(path, Omitted::Outside);
        }
    }
    Ok(extracted)
}

/// What entries say about the one behind them.
#[derive(Debug, Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extensions {
    /// Takes such an entry; false where it is a proper one.
    fn take(&mut self, entry: &mut Entry<'_, impl Read>) -> io::Result<bool> {
        let kind = entry.header().entry_type();
        let is_one = kind.is_gnu_longname() || kind.is_gnu_longlink() || kind.is_pax_local_extensions();
        if kind.is_pax_global_extensions() {
            return Ok(true);
        }
        if !is_one {
            return Ok(false);
        }
        if entry.size() > EXTENSION {
            return Err(broken(format!("a name of more than {EXTENSION} bytes")));
        }
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes)?;
        if kind.is_pax_local_extensions() {
            self.take_attributes(&bytes)?;
        } else {
            let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
            bytes.truncate(end);
            *(if kind.is_gnu_longname() { &mut self.path } else { &mut self.link }) = Some(bytes);
        }
        Ok(true)
    }

    fn take_attributes(&mut self, bytes: &[u8]) -> io::Result<()> {
        for attribute in PaxExtensions::new(bytes) {
            let attribute = attribute?;
            let value = attribute.value_bytes();
            match attribute.key_bytes() {
                b"path" => self.path = Some(value.to_vec()),
                b"linkpath" => self.link = Some(value.to_vec()),
                b"size" => self.size = str::from_utf8(value).ok().and_then(|text| text.parse().ok()),
                _ => {}
            }
        }
        Ok(())
    }
}

fn broken(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the archive has {what}"))
}

/// The parts of a path that stays inside; none are the directory itself.
fn parts(path: &[u8]) -> Result<Vec<&Path>, Omitted> {
    if path.first() == Some(&b'/') || path.contains(&0) {
        return Err(Omitted::Name);
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !matches!(*part, b"" | b".")).collect();
    if parts.len() > DEPTH || parts.contains(&b"..".as_slice()) {
        return Err(Omitted::Name);
    }
    Ok(parts.into_iter().map(as_path).collect())
}

/// Opens a directory below the root, made where it is missing.
fn descend(root: &OwnedFd, parts: &[&Path]) -> Result<OwnedFd, Omitted> {
    let mut directory = root.try_clone().call("fcntl")?;
    for part in parts {
        match mkdirat(&directory, *part, Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Number::EEXIST) => {}
            Err(errno) => {
                return Err(Errno { call: "mkdirat", errno }.into());
            }
        }
        directory = open_beneath(directory.as_fd(), part, OFlag::O_DIRECTORY, Mode::empty()).map_err(explain)?;
    }
    Ok(directory)
}

/// The directory that something is to be in, and its name there.
fn place<'a>(root: &OwnedFd, path: &'a [u8]) -> Result<(OwnedFd, &'a Path), Omitted> {
    let mut parts = parts(path)?;
    let name = parts.pop().ok_or(Omitted::Name)?;
    Ok((descend(root, &parts)?, name))
}

/// A new file in place of whatever file or link is there: what that leads to stays as it is.
fn create(root: &OwnedFd, path: &[u8], entry: &Entry<'_, impl Read>) -> Result<File, Omitted> {
    let (directory, name) = place(root, path)?;
    clear(&directory, name)?;
    let executable = entry.header().mode().is_ok_and(|mode| mode & 0o100 != 0);
    // Never more than this: no set-user-id of a stranger's making.
    let mode = Mode::from_bits_truncate(if executable { 0o755 } else { 0o644 });
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL;
    Ok(open_beneath(directory.as_fd(), name, flags, mode).map_err(explain)?.into())
}

/// Takes away a file or a link, but no directory.
fn clear(directory: &OwnedFd, name: &Path) -> Result<(), Omitted> {
    match unlinkat(directory, name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Number::ENOENT) => Ok(()),
        Err(Number::EISDIR | Number::EPERM) => Err(Omitted::Exists),
        Err(errno) => Err(Errno { call: "unlinkat", errno }.into()),
    }
}

fn link(root: &OwnedFd, path: &[u8], target: &[u8]) -> Result<(), Omitted> {
    let depth = parts(path)?.len().checked_sub(1).ok_or(Omitted::Name)?;
    if !stays(depth, target) {
        return Err(Omitted::Outside);
    }
    let (directory, name) = place(root, path)?;
    clear(&directory, name)?;
    symlinkat(as_path(target), &directory, name).call("symlinkat")?;
    Ok(())
}

/// Whether a link that stands this deep stays inside. Steps upwards may only come first: after a name,
/// which may be another link, nobody knows where they lead.
fn stays(depth: usize, target: &[u8]) -> bool {
    if target.is_empty() || target.contains(&0) {
        return false;
    }
    let mut ups = 0;
    let mut named = false;
    for component in as_path(target).components() {
        match component {
            Component::ParentDir if named => return false,
            Component::ParentDir => ups += 1,
            Component::CurDir => {}
            Component::Normal(_) => named = true,
            Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    ups <= depth
}

/// Whether a link leads outside after all, by way of a link that was there before. One that leads
/// nowhere does no harm, and neither does a circle.
fn leads_outside(root: &OwnedFd, path: &[u8]) -> bool {
    let Ok(parts) = parts(path) else { return false };
    let path: PathBuf = parts.into_iter().collect();
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(ResolveFlag::RESOLVE_BENEATH);
    loop {
        match openat2(root, &path, how) {
            Err(Number::EXDEV) => return true,
            Err(Number::EAGAIN | Number::EINTR) => {}
            _ => return false,
        }
    }
}

fn remove_link(root: &OwnedFd, path: &[u8]) -> Result<(), Omitted> {
    let (directory, name) = place(root, path)?;
    clear(&directory, name)
}

fn explain(error: Errno) -> Omitted {
    match error.errno {
        Number::EEXIST => Omitted::Exists,
        // O_DIRECTORY on a link that may not be followed says ENOTDIR, openat2 itself ELOOP.
        Number::ELOOP | Number::EXDEV | Number::ENOTDIR => Omitted::Link,
        _ => Omitted::System(error),
    }
}

fn as_path(bytes: &[u8]) -> &Path {
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests;
