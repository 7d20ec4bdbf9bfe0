//! Files that come in a ZIP archive: what may come out of one, and the bounds on it.
//!
//! Everything is checked before it is used: how many entries there are before they are read, how many bytes come
//! out while they do. The names of files are checked with those of all other requests.

use std::collections::HashSet;
use std::io::{Cursor, Read};

use zip::ZipArchive;

/// Begins every entry of the list of files, APPNOTE.TXT section 4.3.12.
const LIST_ENTRY: &[u8] = b"PK\x01\x02";
/// How much more may come out than there is, where that is more than [`FREE_BYTES`]. Test data that repeats itself
/// has some hundreds; what is made to burst has a thousand and more.
const RATIO: u64 = 500;
/// What may come out at whatever ratio.
const FREE_BYTES: u64 = 1 << 20;
/// Kinds of files in the upper half of an entry's attributes, where a Unix system has written it: inode(7).
const KIND_MASK: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// What may come out of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Files and directories.
    pub(super) entries: usize,
    /// Bytes of all files.
    pub(super) bytes: u64,
}

/// A file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Extracted {
    /// Path below the workspace; not checked yet.
    pub(super) path: String,
    /// Its bytes.
    pub(super) content: Vec<u8>,
    /// Whether it may be executed.
    pub(super) executable: bool,
}

/// Why an archive is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum ArchiveError {
    /// It is none, or damaged.
    #[error("is not a valid zip archive")]
    Invalid,
    /// It has too many entries.
    #[error("has too many entries (maximum is {0})")]
    Entries(usize),
    /// Too much comes out of it.
    #[error("is too large when it is extracted (maximum is {0} bytes)")]
    Bytes(u64),
    /// Far more comes out of it than there is, or the same bytes several times.
    #[error("is compressed more than any honest archive")]
    Bomb,
    /// One name stands twice.
    #[error("has an entry twice")]
    Twice,
    /// It is encrypted.
    #[error("has an encrypted entry")]
    Encrypted,
    /// It is neither a file nor a directory.
    #[error("has an entry that is neither a file nor a directory")]
    Special,
    /// A name is no text.
    #[error("has an entry whose name is not UTF-8")]
    Name,
}

/// Every file of an archive.
pub(super) fn extract(archive: &[u8], bounds: Bounds) -> Result<Vec<Extracted>, ArchiveError> {
    // Each entry is some hundreds of bytes as soon as it is read, so they are counted before.
    let listed = archive.windows(LIST_ENTRY.len()).filter(|window| *window == LIST_ENTRY).count();
    if listed > bounds.entries {
        return Err(ArchiveError::Entries(bounds.entries));
    }
    let mut zip = ZipArchive::new(Cursor::new(archive)).map_err(|_| ArchiveError::Invalid)?;
    if zip.has_duplicate_names() {
        return Err(ArchiveError::Twice);
    }
    if zip.has_overlapping_files().map_err(|_| ArchiveError::Invalid)? {
        return Err(ArchiveError::Bomb);
    }
    let most = bounds.bytes.min((archive.len() as u64).saturating_mul(RATIO).max(FREE_BYTES));
    let (mut files, mut left, mut seen) = (Vec::new(), most, HashSet::new());
    for index in 0..zip.len() {
        let Some(file) = one(&mut zip, index, &mut left).map_err(|error| match error {
            ArchiveError::Bytes(_) if most < bounds.bytes => ArchiveError::Bomb,
            ArchiveError::Bytes(_) => ArchiveError::Bytes(bounds.bytes),
            other => other,
        })?
        else {
            continue;
        };
        // Names that differ may be one when "./" is left out.
        if !seen.insert(file.path.clone()) {
            return Err(ArchiveError::Twice);
        }
        files.push(file);
    }
    Ok(files)
}

/// One file, which takes its bytes from those that are left; none where it is a directory.
fn one(zip: &mut ZipArchive<Cursor<&[u8]>>, index: usize, left: &mut u64) -> Result<Option<Extracted>, ArchiveError> {
    let entry = zip.by_index_raw(index).map_err(|_| ArchiveError::Invalid)?;
    let mode = entry.unix_mode().unwrap_or(0);
    let kind = mode & KIND_MASK;
    if entry.encrypted() {
        return Err(ArchiveError::Encrypted);
    }
    if entry.is_symlink() || ![0, REGULAR, DIRECTORY].contains(&kind) {
        return Err(ArchiveError::Special);
    }
    let path = str::from_utf8(entry.name_raw()).map_err(|_| ArchiveError::Name)?.to_owned();
    if kind == DIRECTORY || path.ends_with('/') {
        // Those of files are made for them, and empty ones are of no use to a program that can make its own.
        return Ok(None);
    }
    drop(entry);
    // What an entry says of its size is not believed.
    let reader = zip.by_index(index).map_err(|_| ArchiveError::Invalid)?;
    let mut content = Vec::new();
    reader.take(*left + 1).read_to_end(&mut content).map_err(|_| ArchiveError::Invalid)?;
    *left = left.checked_sub(content.len() as u64).ok_or(ArchiveError::Bytes(0))?;
    let path = path.trim_start_matches("./").to_owned();
    Ok(Some(Extracted { path, content, executable: mode & 0o100 != 0 }))
}

#[cfg(test)]
mod tests;
